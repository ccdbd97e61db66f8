//! A UDP socket of one worker, read and written in batches.
//!
//! In: datagrams to send, gathered until `flush`. Out: received datagrams with the kernel's time. Elsewhere: the system
//! calls (crate `netio`), which worker gets what (the kernel, by SO_REUSEPORT).

use super::Datagram;
use bytes::Bytes;
use netio::{RecvBatch, SendBatch, enable_timestamps};
use sip::flow::MESSAGE_MAX;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Datagrams per system call.
const BATCH: usize = 32;
/// Datagrams that may wait while the socket's buffer is full; the oldest go first, the sender's transaction repeats them.
const BACKLOG_MAX: usize = 4096;
/// Wanted size of the kernel's queues: a second of a busy worker. The kernel cuts it to net.core.rmem_max and wmem_max.
const KERNEL_QUEUE: usize = 8 * 1024 * 1024;

pub(crate) struct UdpPort {
    socket: UdpSocket,
    recv: RecvBatch,
    send: SendBatch,
    out: VecDeque<(Bytes, SocketAddr)>,
    /// The kernel took no more; go on when it says so.
    blocked: bool,
}

/// Opens one socket per worker on the same address. Port 0 becomes one free port for all.
pub(crate) fn open(bind: SocketAddr, workers: usize) -> io::Result<(Vec<UdpPort>, SocketAddr)> {
    // The first socket is bound alone: with SO_REUSEPORT another process of the same user would go unnoticed.
    let probe = socket(bind, false)?;
    let local = probe.local_addr()?;
    if workers == 1 {
        return Ok((vec![UdpPort::new(probe)?], local));
    }
    drop(probe);
    let ports = (0..workers).map(|_| UdpPort::new(socket(local, true)?)).collect::<io::Result<_>>()?;
    Ok((ports, local))
}

fn socket(bind: SocketAddr, shared: bool) -> io::Result<std::net::UdpSocket> {
    let socket =
        Socket::new(Domain::for_address(bind), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if bind.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;
    // Best effort: the limits belong to the administrator.
    let _ = socket.set_recv_buffer_size(KERNEL_QUEUE);
    let _ = socket.set_send_buffer_size(KERNEL_QUEUE);
    socket.bind(&bind.into())?;
    let socket = std::net::UdpSocket::from(socket);
    enable_timestamps(&socket)?;
    Ok(socket)
}

impl UdpPort {
    fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            recv: RecvBatch::with_timestamps(BATCH, MESSAGE_MAX),
            send: SendBatch::new(BATCH),
            out: VecDeque::new(),
            blocked: false,
        })
    }

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<()> {
        if self.blocked && self.socket.poll_send_ready(cx).is_ready() {
            self.flush(&mut Vec::new());
            if self.blocked {
                // Asks for the next chance; the flush took this one's back.
                let _ = self.socket.poll_send_ready(cx);
            }
        }
        loop {
            if ready!(self.socket.poll_recv_ready(cx)).is_err() {
                return Poll::Pending; // the runtime is shutting down
            }
            let (socket, recv) = (&self.socket, &mut self.recv);
            let mut count = 0;
            // A batch that was not filled says that the socket is empty now, which spares the call that finds nothing.
            let _ = socket.try_io(Interest::READABLE, || {
                count = recv.recv(socket)?;
                if count < recv.slots() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            if count == 0 {
                continue;
            }
            inbox.extend(self.recv.iter().filter(|datagram| !datagram.truncated).map(|datagram| Datagram {
                bytes: Bytes::copy_from_slice(datagram.bytes),
                from: datagram.from,
                received: datagram.timestamp,
            }));
            return Poll::Ready(());
        }
    }

    pub(super) fn send(&mut self, bytes: Bytes, to: SocketAddr) {
        if self.out.len() >= BACKLOG_MAX {
            self.out.pop_front();
        }
        self.out.push_back((bytes, to));
    }

    pub(super) fn flush(&mut self, failed: &mut Vec<SocketAddr>) {
        self.blocked = false;
        while !self.out.is_empty() {
            let (socket, send) = (&self.socket, &mut self.send);
            let batch = self.out.iter().map(|(bytes, to)| (&bytes[..], *to));
            let sent = socket.try_io(Interest::WRITABLE, || match send.send(socket, batch)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                count => Ok(count),
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return;
                }
                Ok(count) => drop(self.out.drain(..count)),
                // The first one cannot be sent; the others may.
                Err(_) => failed.extend(self.out.pop_front().map(|(_, to)| to)),
            }
        }
    }
}
