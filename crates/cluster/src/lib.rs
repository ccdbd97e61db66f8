//! The messages between proxy, application server and relay, and the faces that carry them.
//!
//! With every role in one process a call of these traits is a mailbox away; nothing here knows about sockets or actors.
//! Rooms: [`ids`] (names of calls and legs), [`leg`] (proxy and application server), [`media`] (application server and relay),
//! [`node`] (who is there), [`rendezvous`] (who is the best for something), [`member`] (a node's membership and what it owns),
//! [`etcd`] (what it says to etcd).

pub mod etcd;
pub mod ids;
pub mod leg;
pub mod media;
pub mod member;
pub mod node;
pub mod rendezvous;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
