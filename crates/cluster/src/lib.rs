//! The messages between proxy, application server and relay, the faces that carry them, and what makes many nodes one.
//!
//! With every role in one process a call of these faces is a mailbox away; nothing here knows about sockets or actors.
//! Rooms: [`ids`] (names of calls and legs), [`leg`] (proxy and application server), [`media`] (application server and relay); for many nodes:
//! [`between`] (what they tell each other), [`link`] (and how nothing of it is lost), [`switchboard`] (where it goes), [`custody`] (what is kept
//! of calls), [`directory`] (who has registered where), [`placement`] and [`rendezvous`] (who serves what), [`node`] (who is there), [`member`]
//! (a node's membership and what it owns), [`etcd`] (what it says to etcd).

pub mod between;
pub mod counters;
pub mod custody;
pub mod directory;
pub mod etcd;
pub mod ids;
pub mod leg;
pub mod link;
pub mod media;
pub mod member;
pub mod node;
pub mod placement;
pub mod question;
pub mod rendezvous;
pub mod switchboard;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod unclaimed;
