//! Flows: the way a message came in or goes out (RFC 5626 section 3.1), and the limits of a transport.
//!
//! In: nothing. Out: small `Copy` values that shells translate to sockets. Elsewhere: the sockets (crate `proxy`).

use bytes::Bytes;
use std::net::SocketAddr;

/// The transport of a hop as written in Via (RFC 3261 section 18; WS and WSS: RFC 7118).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams: the transaction layer repeats.
    Udp,
    /// A stream.
    Tcp,
    /// A stream under TLS.
    Tls,
    /// A WebSocket.
    Ws,
    /// A WebSocket under TLS.
    Wss,
}

impl Transport {
    /// Whether the transport repeats lost bytes itself, so that timers A, E and G stay off (RFC 3261 section 17).
    pub fn is_reliable(self) -> bool {
        !matches!(self, Transport::Udp)
    }

    /// The token of the Via header's sent-protocol.
    pub fn via_token(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }

    /// The value of a URI's `transport` parameter (`tls` is written `tcp` in a SIPS URI, RFC 3261 section 26.2.2).
    pub fn param_token(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }

    /// Parses a Via or URI token, whatever its case.
    pub fn from_token(token: &str) -> Option<Transport> {
        [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss]
            .into_iter()
            .find(|t| t.via_token().eq_ignore_ascii_case(token))
    }
}

/// Names one connection of a stream transport for the life of the process; 0 means "none" (UDP, or not yet connected).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// One way to one peer: which of our listeners, which remote address, which connection.
/// Answering on the flow that a request came by is what makes NAT and symmetric response (RFC 3581) work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Transport of the hop.
    pub transport: Transport,
    /// Index of our listener in the shell's table; its advertised address goes to Via and Contact.
    pub listener: u16,
    /// The peer.
    pub remote: SocketAddr,
    /// The connection, for stream transports. A flow with `ConnId(0)` on a stream transport asks the shell to reuse or
    /// open a connection to `remote`.
    pub conn: ConnId,
}

/// Bytes for the wire.
#[derive(Clone, Debug)]
pub struct Transmit {
    /// Where to.
    pub flow: Flow,
    /// One whole message.
    pub bytes: Bytes,
}

/// A request of this many bytes or more does not go by UDP when the peer can do a stream transport: path MTU unknown,
/// RFC 3261 section 18.1.1.
pub const UDP_REQUEST_LIMIT: usize = 1300;

/// No message may be longer than this; longer ones end the connection or are dropped.
pub const MESSAGE_MAX: usize = 64 * 1024;
