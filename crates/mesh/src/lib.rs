//! Between the nodes of a cluster: what carries their words.
//!
//! Native messages of crate `cluster` go in and come out.
