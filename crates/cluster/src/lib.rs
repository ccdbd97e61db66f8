//! The messages between proxy, application server and relay, and the faces that carry them.
//!
//! With every role in one process a call of these traits is a mailbox away; nothing here knows about sockets or actors.
//! Rooms: [`ids`] (names of calls and legs), [`leg`] (proxy and application server), [`media`] (application server and relay), [`between`]
//! (what nodes of a cluster tell each other), [`link`] (how that survives broken connections).

pub mod between;
pub mod ids;
pub mod leg;
pub mod link;
pub mod media;
