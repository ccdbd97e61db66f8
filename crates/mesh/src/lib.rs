//! Between the nodes of a cluster: what carries their words.
//!
//! Native messages of crate `cluster` go in and come out. Rooms: [`wire`] (their form on the wire).

pub mod wire;
