//! The sockets of a phone: one UDP port, the TCP port of the same number, and the connections that it opened or took.
//!
//! In: messages to send, with their flow. Out: whole messages with the flow that they came by, word of flows that are gone.
//! Elsewhere: what is said (`agent`), framing (`sip::framing`).

use crate::agent::flow;
use bytes::Bytes;
use sip::flow::{ConnId, Flow, MESSAGE_MAX, Transmit, Transport};
use sip::framing::{Frame, Framer};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::debug;

/// Connections at the same time; one more is closed at once.
const CONNECTIONS_MAX: usize = 16;
/// Messages that wait for a connection; one more ends it.
const QUEUE_MAX: usize = 64;
/// Tries to find a port that is free for UDP and TCP.
const PORT_TRIES: usize = 50;
/// How long a peer may take to accept a connection, or to read.
const PATIENCE: Duration = Duration::from_secs(4);
const READ_CHUNK: usize = 16 * 1024;

/// What comes.
pub(crate) enum Arrival {
    Message(Bytes, Flow),
    /// A connection ended or could not be opened.
    Gone(Flow),
}

pub(crate) struct Wire {
    udp: UdpSocket,
    tcp: TcpListener,
    local: SocketAddr,
    connections: BTreeMap<ConnId, Connection>,
    last: u64,
    news: mpsc::Receiver<Arrival>,
    tell: mpsc::Sender<Arrival>,
    buffer: Vec<u8>,
}

/// Its task ends when this is dropped.
struct Connection {
    remote: SocketAddr,
    queue: mpsc::Sender<Bytes>,
}

impl Wire {
    pub(crate) async fn open(bind: IpAddr) -> io::Result<Self> {
        let (udp, tcp) = bind_both(bind).await?;
        let local = udp.local_addr()?;
        let (tell, news) = mpsc::channel(QUEUE_MAX);
        let (connections, buffer) = (BTreeMap::new(), vec![0; MESSAGE_MAX]);
        Ok(Self { udp, tcp, local, connections, last: 0, news, tell, buffer })
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Nothing is lost when this is not waited for to its end.
    pub(crate) async fn next(&mut self) -> Arrival {
        loop {
            tokio::select! {
                received = self.udp.recv_from(&mut self.buffer) => {
                    // An error tells of an earlier datagram that met a closed port; the transaction repeats it.
                    if let Ok((length, from)) = received {
                        let bytes = Bytes::copy_from_slice(&self.buffer[..length]);
                        return Arrival::Message(bytes, flow(Transport::Udp, from, ConnId(0)));
                    }
                }
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, remote)) if self.connections.len() < CONNECTIONS_MAX => {
                        let (flow, queue) = self.enter(remote);
                        tokio::spawn(serve(stream, flow, queue, self.tell.clone()));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        debug!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await; // out of descriptors, for instance
                    }
                },
                Some(arrival) = self.news.recv() => {
                    if let Arrival::Gone(flow) = &arrival {
                        self.connections.remove(&flow.conn);
                    }
                    return arrival;
                }
            }
        }
    }

    /// `Err`: the flow that cannot be sent by.
    pub(crate) async fn send(&mut self, transmit: Transmit) -> Result<(), Flow> {
        let Transmit { flow, bytes } = transmit;
        if flow.transport == Transport::Udp {
            if let Err(error) = self.udp.send_to(&bytes, flow.remote).await {
                debug!(%error, "not sent"); // the transaction repeats it
            }
            return Ok(());
        }
        let named = self.connections.get(&flow.conn);
        let known = named.or_else(|| self.connections.values().find(|known| known.remote == flow.remote));
        match known {
            Some(known) => known.queue.try_send(bytes).map_err(|_| flow),
            None if flow.conn == ConnId(0) && self.connections.len() < CONNECTIONS_MAX => {
                self.dial(flow, bytes);
                Ok(())
            }
            None => Err(flow),
        }
    }

    fn dial(&mut self, wanted: Flow, first: Bytes) {
        let (flow, queue) = self.enter(wanted.remote);
        if let Some(connection) = self.connections.get(&flow.conn) {
            let _ = connection.queue.try_send(first); // it is new and has room
        }
        let (tell, local) = (self.tell.clone(), self.local.ip());
        tokio::spawn(async move {
            match timeout(PATIENCE, connect(local, wanted.remote)).await {
                Ok(Ok(stream)) => serve(stream, flow, queue, tell).await,
                Ok(Err(_)) | Err(_) => {
                    // Both names of it: the booked one, and any connection, which is what was asked for.
                    let _ = tell.send(Arrival::Gone(flow)).await; // nobody listens: the phone is off
                    let _ = tell.send(Arrival::Gone(wanted)).await;
                }
            }
        });
    }

    fn enter(&mut self, remote: SocketAddr) -> (Flow, mpsc::Receiver<Bytes>) {
        self.last += 1;
        let flow = flow(Transport::Tcp, remote, ConnId(self.last));
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        self.connections.insert(flow.conn, Connection { remote, queue });
        (flow, waiting)
    }
}

/// A free port for UDP and TCP: a Contact without transport stands for both (RFC 3263 section 4.1).
async fn bind_both(bind: IpAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_TRIES {
        let udp = UdpSocket::bind((bind, 0)).await?;
        match TcpListener::bind((bind, udp.local_addr()?.port())).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect(local: IpAddr, remote: SocketAddr) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(local, 0))?;
    socket.connect(remote).await
}

/// Reads and writes until either side is done.
async fn serve(stream: TcpStream, flow: Flow, queue: mpsc::Receiver<Bytes>, tell: mpsc::Sender<Arrival>) {
    if let Err(error) = carry(stream, flow, queue, &tell).await {
        debug!(%error, remote = %flow.remote, "connection ended");
    }
    let _ = tell.send(Arrival::Gone(flow)).await; // nobody listens: the phone is off
}

async fn carry(
    mut stream: TcpStream,
    flow: Flow,
    mut queue: mpsc::Receiver<Bytes>,
    tell: &mpsc::Sender<Arrival>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.split();
    let mut framer = Framer::new();
    let mut chunk = vec![0; READ_CHUNK];
    loop {
        tokio::select! {
            bytes = queue.recv() => match bytes {
                Some(bytes) => timeout(PATIENCE, writer.write_all(&bytes)).await??,
                None => return Ok(()),
            },
            count = reader.read(&mut chunk) => match count? {
                0 => return Ok(()),
                count => framer.push(&chunk[..count]),
            },
        }
        while let Some(frame) = framer.next().map_err(io::Error::other)? {
            match frame {
                Frame::Message(bytes) => {
                    if tell.send(Arrival::Message(bytes, flow)).await.is_err() {
                        return Ok(());
                    }
                }
                // RFC 5626 section 4.4.1.
                Frame::Ping => timeout(PATIENCE, writer.write_all(b"\r\n")).await??,
                Frame::Pong => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const OPTIONS: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n";

    fn message(flow: Flow) -> Transmit {
        Transmit { flow, bytes: Bytes::from_static(OPTIONS) }
    }

    async fn heard(wire: &mut Wire) -> Flow {
        match wire.next().await {
            Arrival::Message(bytes, flow) => {
                assert_eq!(&bytes[..], OPTIONS);
                flow
            }
            Arrival::Gone(flow) => panic!("{flow:?} is gone"),
        }
    }

    #[tokio::test]
    async fn messages_go_both_ways_over_one_connection_until_it_is_gone() {
        let mut one = Wire::open(LOOPBACK).await.unwrap();
        let mut other = Wire::open(LOOPBACK).await.unwrap();
        let there = flow(Transport::Tcp, other.local(), ConnId(0));
        one.send(message(there)).await.unwrap();
        let back = heard(&mut other).await;
        assert_eq!(back.transport, Transport::Tcp);
        other.send(message(back)).await.unwrap();
        assert_eq!(heard(&mut one).await.remote, other.local());
        one.send(message(there)).await.unwrap();
        assert_eq!(heard(&mut other).await, back, "the same connection");
        drop(one);
        assert!(matches!(other.next().await, Arrival::Gone(flow) if flow == back));
        assert_eq!(other.send(message(back)).await, Err(back), "a named connection is not opened again");
    }

    #[tokio::test]
    async fn a_closed_port_is_told_and_leaves_no_connection() {
        let mut wire = Wire::open(LOOPBACK).await.unwrap();
        let nobody = UdpSocket::bind((LOOPBACK, 0)).await.unwrap().local_addr().unwrap();
        let there = flow(Transport::Tcp, nobody, ConnId(0));
        wire.send(message(there)).await.unwrap();
        assert!(matches!(wire.next().await, Arrival::Gone(flow) if flow.conn != ConnId(0)));
        assert!(matches!(wire.next().await, Arrival::Gone(flow) if flow == there));
        assert!(wire.connections.is_empty());
    }

    #[tokio::test]
    async fn connections_are_bounded_and_junk_ends_one() {
        let mut wire = Wire::open(LOOPBACK).await.unwrap();
        let mut peers = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut peer = TcpStream::connect(wire.local()).await.unwrap();
            peer.write_all(OPTIONS).await.unwrap();
            heard(&mut wire).await;
            peers.push(peer);
        }
        let mut late = TcpStream::connect(wire.local()).await.unwrap();
        let mut byte = [0];
        tokio::select! {
            closed = late.read(&mut byte) => assert!(matches!(closed, Ok(0) | Err(_)), "one too many"),
            _ = wire.next() => panic!("nothing comes of it"),
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("it stays open"),
        }
        peers[0].write_all(&[0; 100_000]).await.unwrap();
        assert!(matches!(wire.next().await, Arrival::Gone(_)));
        let mut peer = TcpStream::connect(wire.local()).await.unwrap();
        peer.write_all(OPTIONS).await.unwrap();
        heard(&mut wire).await;
    }
}
