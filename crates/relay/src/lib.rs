//! The RTP relay: it stands between the peers of a call, so that neither needs to reach the other.
//!
//! In: offers and answers ([`cluster::media::Media`]), datagrams. Out: rewritten descriptions, datagrams, figures for the
//! call record, word of silent peers. Rooms, from the face inward: [`Relay`] (commands by call), `session` (legs and
//! exchanges), `describe` (text), `ports` (bound pairs), `own`
//! (which addresses are ours), `worker` (threads that move packets), `stream` (what a packet may
//! do), `quality`, `figures` and `report` (what is counted). Packets never pass a lock, a mailbox or an allocator.
//! Elsewhere: SDP lines (crate `sip`), RTP arithmetic (crate `rtp`), system calls (crate `netio`).

mod config;
mod describe;
mod figures;
mod own;
mod ports;
mod quality;
mod relay;
mod report;
mod session;
mod stream;
mod worker;

#[cfg(test)]
mod tests;

pub use config::{MediaAddress, RelayConfig, RelayError};
pub use relay::{Relay, RelayStats};
