//! What carries a cluster: the shells around the cores of crate `cluster`.
//!
//! Rooms: [`etcd`] (who is there, who owns what), [`peer`] (links to other nodes), [`wire`] (what nodes tell each other, on the wire), `testing`
//! (servers for tests), `causes` (errors in words). Elsewhere: what is decided (`cluster`).

mod causes;
pub mod etcd;
pub mod peer;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wire;
