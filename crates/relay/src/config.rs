//! What a relay is told when it starts, and why it may refuse to.
//!
//! Elsewhere: reading it from a file (crate `carillon`).

use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// One local address that media goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaAddress {
    /// Where sockets are bound.
    pub bind: IpAddr,
    /// What session descriptions say; differs from `bind` behind a static NAT. Same family as `bind`.
    pub advertised: IpAddr,
}

impl MediaAddress {
    /// An address that is reached as it is.
    pub fn plain(bind: IpAddr) -> Self {
        Self { bind, advertised: bind }
    }
}

/// Settings of a [`crate::Relay`].
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// One address, or one of each family. The first is used for a peer of which nothing is known.
    pub addresses: Vec<MediaAddress>,
    /// UDP ports to use: the even ones for RTP, each with the odd one above it for RTCP (RFC 3550 section 11).
    pub ports: RangeInclusive<u16>,
    /// Worker threads; 0 means one for each core of the process.
    pub workers: usize,
    /// Tie each worker to a core of its own.
    pub pin_workers: bool,
    /// A leg that should send but does not for this time is reported silent; zero means never.
    pub silence: Duration,
    /// Kernel receive buffer of each socket in bytes; 0 leaves the system's default.
    pub receive_buffer: usize,
    /// Kernel send buffer of each socket in bytes; 0 leaves the system's default.
    pub send_buffer: usize,
    /// Packets per second and media line that are taken from a leg; what exceeds them is dropped. 0 means no bound.
    pub packets_per_second: u32,
    /// Differentiated services code point of what we send (RFC 2474), 0 to 63.
    pub dscp: u8,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            addresses: vec![MediaAddress::plain(IpAddr::from([127, 0, 0, 1]))], // never faces a network unless told to
            ports: 13_000..=19_000,
            workers: 0,
            pin_workers: false, // the other threads of the process want the cores, too
            silence: Duration::from_secs(60),
            receive_buffer: 0,
            send_buffer: 0,
            packets_per_second: 2000, // forty times G.711 with 20 ms packets; room for a video stream
            dscp: 46,                 // expedited forwarding, RFC 3246 and RFC 4594 section 4.1
        }
    }
}

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// No address, two of one family, or one whose two sides differ in family.
    #[error("media addresses: {0}")]
    Addresses(&'static str),
    /// The range has no even port with the odd one above it.
    #[error("media ports {from}-{to}: the range must hold an even port and the odd one above it")]
    Ports {
        /// First port of the range.
        from: u16,
        /// Last port of the range.
        to: u16,
    },
    /// Sockets cannot be bound to an address of the configuration.
    #[error("media address {address}: cannot bind a socket; is it an address of this machine?")]
    Bind {
        /// The address.
        address: IpAddr,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// No thread, no epoll set.
    #[error("cannot start a media worker")]
    Worker(#[source] io::Error),
}
