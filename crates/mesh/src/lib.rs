//! What carries a cluster: the shells around the cores of crate `cluster`.
//!
//! Rooms: [`etcd`] (who is there, who owns what), [`wire`] (what nodes tell each other, on the wire). Elsewhere: what is decided (`cluster`).

pub mod etcd;
pub mod wire;
