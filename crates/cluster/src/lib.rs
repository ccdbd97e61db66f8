//! The messages between proxy, application server and relay, and the faces that carry them.
//!
//! With every role in one process a call of these traits is a mailbox away; nothing here knows about sockets or actors.
//! Rooms: [`ids`] (names of calls and legs), [`leg`] (proxy and application server), [`media`] (application server and relay), [`between`]
//! (what nodes of a cluster tell each other).

pub mod between;
pub mod custody;
pub mod directory;
pub mod ids;
pub mod leg;
pub mod media;
pub mod node;
pub mod placement;
pub mod rendezvous;
pub mod switchboard;
