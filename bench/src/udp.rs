//! Loopback sockets in batches, and the samples that latencies are made of.

use netio::{RecvBatch, SendBatch};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// Asked of the kernel; it grants what `net.core.rmem_max` permits.
const SOCKET_BUFFER: usize = 8 << 20;
/// Datagrams in one system call.
const BATCH: usize = 64;
/// A SIP message in this benchmark never comes near it.
const DATAGRAM_MAX: usize = 4096;

/// A non-blocking UDP socket on loopback with large buffers and a port of the kernel's choice.
pub(crate) fn bind() -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A port that nobody listens on at the moment.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(bind()?.local_addr()?.port())
}

/// A socket that talks to servers.
pub(crate) struct Wire {
    inbox: RecvBatch,
    outbox: Outbox,
}

/// The sending half of a [`Wire`]: datagrams wait here until the next flush.
pub(crate) struct Outbox {
    socket: UdpSocket,
    batch: SendBatch,
    arena: Vec<u8>,
    /// Where each datagram ends, and where it goes.
    waiting: Vec<(usize, SocketAddr)>,
}

impl Wire {
    /// Binds a free port on loopback.
    pub(crate) fn bind() -> io::Result<Wire> {
        let (socket, batch) = (bind()?, SendBatch::new(BATCH));
        let outbox = Outbox { socket, batch, arena: Vec::new(), waiting: Vec::new() };
        Ok(Wire { inbox: RecvBatch::new(BATCH, DATAGRAM_MAX), outbox })
    }

    /// The port of this end.
    pub(crate) fn port(&self) -> io::Result<u16> {
        Ok(self.outbox.socket.local_addr()?.port())
    }

    /// Where to queue datagrams.
    pub(crate) fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Hands up to `most` waiting datagrams with their sources to `each`; how many there were.
    pub(crate) fn receive(
        &mut self,
        most: usize,
        mut each: impl FnMut(&[u8], SocketAddr, &mut Outbox),
    ) -> io::Result<usize> {
        let mut count = 0;
        while count < most {
            let got = self.inbox.recv(&self.outbox.socket)?;
            for datagram in self.inbox.iter() {
                each(datagram.bytes, datagram.from, &mut self.outbox);
            }
            count += got;
            if got < self.inbox.slots() {
                break;
            }
        }
        Ok(count)
    }
}

impl Outbox {
    /// Queues one datagram, written by `write`.
    pub(crate) fn queue(&mut self, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.arena);
        self.waiting.push((self.arena.len(), to));
    }

    /// Sends what is queued; waits while the socket's buffer is full.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while let Some(waiting) = self.waiting.get(sent..).filter(|waiting| !waiting.is_empty()) {
            let mut from = sent.checked_sub(1).map_or(0, |last| self.waiting[last].0);
            let datagrams = waiting.iter().map(|&(end, to)| {
                let datagram = &self.arena[from..end];
                from = end;
                (datagram, to)
            });
            sent += self.batch.send(&self.socket, datagrams)?;
        }
        self.arena.clear();
        self.waiting.clear();
        Ok(())
    }
}

/// Latencies in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    /// Adds one.
    pub(crate) fn push(&mut self, nanoseconds: u64) {
        self.0.push(nanoseconds);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value below which `share` of the samples lie, in milliseconds; 0 without samples.
    pub(crate) fn quantile_ms(&mut self, share: f64) -> f64 {
        if self.0.is_empty() {
            return 0.0;
        }
        let rank = (((self.0.len() - 1) as f64) * share).round() as usize;
        let (_, value, _) = self.0.select_nth_unstable(rank);
        *value as f64 / 1e6
    }
}
