//! SIP without I/O: bytes, commands and time go in; transmits, events and one deadline come out.
//!
//! Rooms, from the wire upward: [`msg`] (a message parsed in place), [`uri`] and [`header`] (typed views made on
//! demand), [`draft`] (messages being written), [`flow`] (where a message came from or goes), [`framing`] (messages
//! out of a byte stream), [`stun`] (keep-alive answers), [`transaction`] (RFC 3261 section 17), [`dialog`] and
//! [`session`] (one INVITE usage, both roles), [`locate`] (where a server is), [`registration`] (one of ours elsewhere),
//! [`digest`], [`sdp`] and [`offer`] (RFC 3264), `text` (numbers written).
//! Elsewhere: sockets and policy (crate `proxy`), what a call means (crate `appserver`).

pub mod dialog;
pub mod digest;
pub mod draft;
pub mod flow;
pub mod framing;
pub mod header;
pub mod locate;
pub mod msg;
pub mod offer;
pub mod registration;
pub mod sdp;
pub mod session;
pub mod stun;
mod text;
pub mod transaction;
pub mod uri;
