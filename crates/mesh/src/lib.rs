//! What carries a cluster: the shells around the cores of crate `cluster`.
//!
//! Rooms: [`etcd`] (who is there, who owns what), `testing` (servers for tests). Elsewhere: what is decided (`cluster`).

pub mod etcd;
#[cfg(feature = "testing")]
pub mod testing;
