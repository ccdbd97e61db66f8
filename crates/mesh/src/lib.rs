//! Between the nodes of a cluster: what carries their words.
//!
//! Native messages of crate `cluster` go in and come out. Rooms: [`peer`] (links to other nodes), [`wire`] (the form of what they carry).

pub mod peer;
pub mod wire;
