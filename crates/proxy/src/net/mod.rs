//! Ways in and out: datagram ports of a worker (`Port`: the kernel's or a simulated network's) and stream connections.
//!
//! In: bytes for addresses. Out: bytes from addresses. Elsewhere: what they mean (`worker`).

pub mod sim;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod udp;

use bytes::Bytes;
use sim::SimPort;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;
use udp::UdpPort;

/// Where datagrams travel.
#[derive(Clone, Debug, Default)]
pub enum Network {
    /// Through the kernel.
    #[default]
    Os,
    /// Through memory, under tokio's clock: for tests that repeat exactly. It has no stream transports.
    Sim(sim::SimNet),
}

/// One received datagram.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) bytes: Bytes,
    pub(crate) from: SocketAddr,
    /// When the kernel received it, since the Unix epoch.
    pub(crate) received: Option<Duration>,
}

/// A worker's socket for one UDP listener.
pub(crate) enum Port {
    Udp(UdpPort),
    Sim(SimPort),
}

impl Port {
    /// Adds what has arrived to `inbox`, a bounded batch at a time.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<()> {
        match self {
            Port::Udp(port) => port.poll_recv(cx, inbox),
            Port::Sim(port) => port.poll_datagrams(cx, inbox),
        }
    }

    /// Takes a datagram for the next flush.
    pub(crate) fn send(&mut self, bytes: Bytes, to: SocketAddr) {
        match self {
            Port::Udp(port) => port.send(bytes, to),
            Port::Sim(port) => port.send_to(bytes, to),
        }
    }

    /// Writes what was taken. Destinations that the system refuses are added to `failed`.
    pub(crate) fn flush(&mut self, failed: &mut Vec<SocketAddr>) {
        match self {
            Port::Udp(port) => port.flush(failed),
            Port::Sim(_) => {}
        }
    }
}
