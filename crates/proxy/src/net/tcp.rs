//! Stream connections: accepted or opened, framed, bounded, found again by name or by peer.
//!
//! In: anything that reads and writes bytes (TCP here; TLS and WebSockets bring a stream of the same shape), messages to
//! send. Out: whole messages for a worker, word of connections that are gone. Elsewhere: framing (`sip::framing`).

use super::tls::Tls;
use crate::budget::network;
use crate::config::{Limits, Place};
use crate::stats::{Cause, Counters};
use crate::worker::{Cmd, Link};
use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use sip::flow::{ConnId, Flow, Transport};
use sip::framing::{Frame, FrameError, Framer};
use socket2::{SockRef, TcpKeepalive};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

/// Messages of all connections of a kind that may wait for one worker; then readers wait, and with them the peers.
const INPUT_MAX: usize = 1024;
const READ_CHUNK: usize = 16 * 1024;
/// Messages of one connection that are being worked on. Each may bring forth several: an answer, and what else its calls have to say.
const IN_LINE_MAX: usize = 64;
/// Messages that are written by one call: who answers many at once fills the queue faster than a call for each empties it.
const WRITE_BATCH: usize = 64;
/// Octets of a connection's memory for that, kept between two calls.
const WRITE_KEPT: usize = 16 * 1024;
const BACKLOG: u32 = 1024;
/// Pause after a failed accept, for instance when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that a peer goes on sending are thrown away up to this many after a stream has failed, so that the system does not
/// reset the connection before the peer has read why.
const FAREWELL_MAX: usize = 1024 * 1024;

/// A whole message that came by a stream.
pub(crate) struct StreamMessage {
    pub(crate) bytes: Bytes,
    pub(crate) flow: Flow,
    /// To be let go of when the message is dealt with, wherever that is.
    pub(crate) place: PlaceInLine,
    /// It is not whole, nothing can come after it: `bytes` has what could be read. Whoever takes it calls
    /// [`Connections::finish`].
    pub(crate) broken: Option<FrameError>,
}

/// All connections of a proxy.
pub(crate) struct Connections {
    table: DashMap<ConnId, Conn>,
    by_peer: DashMap<Peer, ConnId>,
    /// By address, of IPv6 by /64.
    per_source: DashMap<IpAddr, usize>,
    open: AtomicUsize,
    next: AtomicU64,
    limits: Limits,
    places: Arc<[Place]>,
    /// One per worker; a connection belongs to one worker for life.
    inputs: Vec<Inputs>,
    links: Vec<Link>,
    counters: Arc<Counters>,
    /// Without a kernel there is nobody to call.
    may_dial: bool,
    tls: Arc<Tls>,
}

/// By whom a connection is found. One of a trunk address serves no other: who is at its other end knows us by that.
type Peer = (Option<u16>, Transport, SocketAddr);

struct Conn {
    queue: mpsc::Sender<Bytes>,
    cut: Arc<Notify>,
    proved: Arc<AtomicBool>,
    /// We opened it.
    is_ours: bool,
}

/// What of a connection waits for workers. It is bounded, so that no peer is answered faster than it can be written to; and before
/// a stranger's messages are done nothing of its connection goes another way, so that what it says keeps its order when
/// it has shown a password.
#[derive(Default)]
struct Line {
    waiting: AtomicUsize,
    moved: Notify,
}

/// One message's place in its connection's [`Line`].
pub(crate) struct PlaceInLine {
    line: Arc<Line>,
    /// It waits among strangers.
    pub(crate) is_apart: bool,
}

impl PlaceInLine {
    fn new(line: &Arc<Line>, is_apart: bool) -> Self {
        line.waiting.fetch_add(1, Ordering::AcqRel);
        Self { line: Arc::clone(line), is_apart }
    }
}

impl Drop for PlaceInLine {
    fn drop(&mut self) {
        self.line.waiting.fetch_sub(1, Ordering::AcqRel);
        self.line.moved.notify_one();
    }
}

impl Line {
    /// Returns when fewer than so many wait, and half of the writer's queue is free: whoever does not read what it is told is
    /// not read from, either. Only the connection's reader asks.
    async fn has_room(&self, bound: usize, queue: &mpsc::WeakSender<Bytes>) {
        // Not by reserving: what is reserved, or waited for, the workers cannot use.
        let is_full = || queue.upgrade().is_some_and(|queue| queue.capacity() < queue.max_capacity() / 2);
        while self.waiting.load(Ordering::Acquire) >= bound || is_full() {
            self.moved.notified().await;
        }
    }
}

/// Where messages wait for a worker: those of peers who have shown a password apart from strangers', so that no number of
/// connections keeps a call waiting.
pub(crate) struct Inputs {
    pub(crate) known: mpsc::Sender<StreamMessage>,
    pub(crate) strangers: mpsc::Sender<StreamMessage>,
}

/// The other ends of [`Inputs`].
pub(crate) struct Streams {
    pub(crate) known: mpsc::Receiver<StreamMessage>,
    pub(crate) strangers: mpsc::Receiver<StreamMessage>,
}

impl Inputs {
    pub(crate) fn new() -> (Inputs, Streams) {
        let ((known, known_end), (strangers, strangers_end)) =
            (mpsc::channel(INPUT_MAX), mpsc::channel(INPUT_MAX));
        (Inputs { known, strangers }, Streams { known: known_end, strangers: strangers_end })
    }
}

/// A connection that we opened, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Opens the port of a stream listener.
pub(crate) fn listen(bind: SocketAddr) -> io::Result<TcpListener> {
    let socket = if bind.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if bind.is_ipv6() {
        SockRef::from(&socket).set_only_v6(true)?;
    }
    // Connections of the last run that linger must not keep a restart from its port.
    socket.set_reuseaddr(true)?;
    socket.bind(bind)?;
    socket.listen(BACKLOG)
}

impl Connections {
    pub(crate) fn new(
        limits: &Limits,
        places: Arc<[Place]>,
        inputs: Vec<Inputs>,
        links: Vec<Link>,
        counters: Arc<Counters>,
        may_dial: bool,
        tls: Arc<Tls>,
    ) -> Arc<Self> {
        Arc::new(Self {
            table: DashMap::new(),
            by_peer: DashMap::new(),
            per_source: DashMap::new(),
            open: AtomicUsize::new(0),
            next: AtomicU64::new(1),
            limits: limits.clone(),
            places,
            inputs,
            links,
            counters,
            may_dial,
            tls,
        })
    }

    /// Open connections.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether a connection is still there.
    pub(crate) fn is_open(&self, conn: ConnId) -> bool {
        self.table.contains_key(&conn)
    }

    /// Whoever is at the other end has shown a password.
    pub(crate) fn prove(&self, conn: ConnId) {
        if let Some(conn) = self.table.get(&conn) {
            conn.proved.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the peer of a connection has shown a password.
    pub(crate) fn is_proved(&self, conn: ConnId) -> bool {
        self.table.get(&conn).is_some_and(|conn| conn.proved.load(Ordering::Relaxed))
    }

    /// Takes connections until the task is aborted.
    pub(crate) async fn accept(self: Arc<Self>, listener: u16, socket: TcpListener) {
        loop {
            match socket.accept().await {
                Ok((stream, remote)) => {
                    tune(&stream);
                    match self.places.get(usize::from(listener)) {
                        Some(place) if place.transport == Transport::Tls => {
                            let (tls, is_trunk) = (Arc::clone(&self.tls), place.trunk.is_some());
                            let shaken = async move { tls.accept(is_trunk, stream).await };
                            self.adopt_after(listener, Transport::Tls, remote, shaken);
                        }
                        _ => drop(self.adopt(listener, Transport::Tcp, remote, stream)),
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a SIP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves a stream that a peer opened. `false`: refused by a limit.
    pub(crate) fn adopt<S>(
        self: &Arc<Self>,
        listener: u16,
        transport: Transport,
        remote: SocketAddr,
        stream: S,
    ) -> bool
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        self.adopt_after(listener, transport, remote, std::future::ready(Some(stream)))
    }

    /// The same of a stream that comes after a handshake, which takes the connection's place among all.
    fn adopt_after<S>(
        self: &Arc<Self>,
        listener: u16,
        transport: Transport,
        remote: SocketAddr,
        handshake: impl Future<Output = Option<S>> + Send + 'static,
    ) -> bool
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let Some((guard, queue, cut)) = self.enter(listener, transport, remote, false) else {
            self.counters.count(Cause::Connection);
            return false;
        };
        tokio::spawn(async move {
            let limit = guard.conns.limits.tcp_first_message;
            let served = async {
                match timeout(limit, handshake).await {
                    Ok(Some(stream)) => serve(stream, &guard, queue).await,
                    Ok(None) | Err(_) => guard.conns.counters.count(Cause::Connection),
                }
            };
            tokio::select! {
                () = cut.notified() => guard.conns.counters.count(Cause::Connection),
                () = served => {}
            }
        });
        true
    }

    #[cfg(test)]
    pub(crate) fn look_again(&self) {
        self.tls.look_again();
    }

    /// Names the hosts that there must be at addresses that are called by TLS.
    pub(crate) fn expect(&self, hosts: &BTreeSet<(SocketAddr, String)>) {
        let new = self.tls.expect(hosts);
        if new.is_empty() {
            return;
        }
        // These were not asked whether they are right for all of them.
        for peer in
            self.by_peer.iter().filter(|peer| peer.key().1 == Transport::Tls && new.contains(&peer.key().2))
        {
            if let Some(conn) = self.table.get(peer.value()).filter(|conn| conn.is_ours) {
                conn.cut.notify_one();
            }
        }
    }

    fn peer(&self, listener: u16, transport: Transport, remote: SocketAddr) -> Peer {
        let place = self.places.get(usize::from(listener));
        (place.and_then(|place| place.trunk).map(|_| listener), transport, remote)
    }

    /// Sends a message by the flow's connection, else by another one to the same peer; a request without a connection
    /// (`conn` 0) opens one. `false`: it cannot be sent.
    pub(crate) fn send(self: &Arc<Self>, flow: Flow, bytes: Bytes) -> bool {
        if let Some(conn) = self.table.get(&flow.conn).or_else(|| {
            let id = *self.by_peer.get(&self.peer(flow.listener, flow.transport, flow.remote))?;
            let conn = self.table.get(&id)?;
            // Whoever connects to us from there has not proved who he is (RFC 5923 section 8).
            let is_sure = flow.transport != Transport::Tls || conn.is_ours || !self.tls.expects(flow.remote);
            is_sure.then_some(conn)
        }) {
            if conn.queue.try_send(bytes).is_err() {
                conn.cut.notify_one();
                return false;
            }
            return true;
        }
        let is_callable = match flow.transport {
            Transport::Tcp => true,
            Transport::Tls => self.tls.expects(flow.remote),
            Transport::Udp | Transport::Ws | Transport::Wss => false,
        };
        flow.conn == ConnId(0) && is_callable && self.may_dial && self.dial(flow, bytes)
    }

    /// Ends a connection whose peer does not speak SIP.
    pub(crate) fn cut(&self, conn: ConnId) {
        if let Some(conn) = self.table.get(&conn) {
            conn.cut.notify_one();
        }
    }

    /// Ends a connection when all that was sent by it is written.
    pub(crate) fn finish(&self, conn: ConnId) {
        // The writer's queue ends with its sender.
        self.table.remove(&conn);
    }

    fn dial(self: &Arc<Self>, wanted: Flow, first: Bytes) -> bool {
        let Some((guard, queue, cut)) = self.enter(wanted.listener, wanted.transport, wanted.remote, true)
        else {
            self.counters.count(Cause::Connection);
            return false;
        };
        if let Some(conn) = self.table.get(&guard.flow.conn) {
            // The queue is new and holds at least one.
            let _ = conn.queue.try_send(first);
        }
        let local = self.places.get(usize::from(wanted.listener)).map(|place| place.local.ip());
        tokio::spawn(async move {
            let limit = guard.conns.limits.tcp_connect;
            let connected = async {
                let stream = connect(local, wanted.remote).await?;
                match wanted.transport {
                    Transport::Tls => guard
                        .conns
                        .tls
                        .connect(wanted.remote, stream)
                        .await
                        .map(|stream| Box::new(stream) as _),
                    _ => Ok(Box::new(stream) as Box<dyn Stream>),
                }
            };
            match timeout(limit, connected).await {
                Ok(Ok(stream)) => tokio::select! {
                    () = cut.notified() => guard.conns.counters.count(Cause::Connection),
                    () = serve(stream, &guard, queue) => {}
                },
                Ok(Err(_)) | Err(_) => guard.conns.tell_gone(wanted),
            }
        });
        true
    }

    /// Books a connection, within the limits.
    fn enter(
        self: &Arc<Self>,
        listener: u16,
        transport: Transport,
        remote: SocketAddr,
        is_ours: bool,
    ) -> Option<(Booked, mpsc::Receiver<Bytes>, Arc<Notify>)> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.limits.tcp_connections {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        {
            let mut source = self.per_source.entry(network(remote.ip())).or_insert(0);
            if *source >= self.limits.tcp_per_source {
                self.open.fetch_sub(1, Ordering::Relaxed);
                return None;
            }
            *source += 1;
        }
        let conn = ConnId(self.next.fetch_add(1, Ordering::Relaxed));
        let flow = Flow { transport, listener, remote, conn };
        let (queue, waiting) = mpsc::channel(self.limits.tcp_write_queue.max(1));
        let (cut, proved) = (Arc::new(Notify::new()), Arc::default());
        let weak = queue.downgrade();
        self.table.insert(conn, Conn { queue, cut: Arc::clone(&cut), proved: Arc::clone(&proved), is_ours });
        self.by_peer.insert(self.peer(listener, transport, remote), conn);
        let booked = Booked {
            conns: Arc::clone(self),
            flow,
            proved,
            line: Arc::default(),
            went_known: AtomicBool::new(false),
            queue: weak,
        };
        Some((booked, waiting, cut))
    }

    fn tell_gone(&self, flow: Flow) {
        for link in &self.links {
            link.send(Cmd::FlowGone(flow));
        }
    }
}

/// A booked connection; the booking ends with it, however its task ends.
struct Booked {
    conns: Arc<Connections>,
    flow: Flow,
    proved: Arc<AtomicBool>,
    line: Arc<Line>,
    /// What was passed last went by the way of known peers.
    went_known: AtomicBool,
    /// Its writer's, which ends when the table lets go of it.
    queue: mpsc::WeakSender<Bytes>,
}

impl Booked {
    /// Gives a message to the worker of this connection, as soon as it has room. `false`: it is gone.
    async fn pass(&self, bytes: Bytes, broken: Option<FrameError>) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "a remainder of a small number")]
        let worker = (self.flow.conn.0 % self.conns.inputs.len() as u64) as usize;
        let Inputs { known, strangers } = &self.conns.inputs[worker];
        let is_known = self.proved.load(Ordering::Relaxed);
        let changes = is_known && !self.went_known.swap(is_known, Ordering::Relaxed);
        self.line.has_room(if changes { 1 } else { IN_LINE_MAX }, &self.queue).await;
        let place = PlaceInLine::new(&self.line, !is_known);
        let input = if is_known { known } else { strangers };
        input.send(StreamMessage { bytes, flow: self.flow, place, broken }).await.is_ok()
    }
}

impl Drop for Booked {
    fn drop(&mut self) {
        let Flow { transport, listener, remote, conn } = self.flow;
        self.conns.table.remove(&conn);
        let peer = self.conns.peer(listener, transport, remote);
        self.conns.by_peer.remove_if(&peer, |_, current| *current == conn);
        if let Entry::Occupied(mut source) = self.conns.per_source.entry(network(remote.ip())) {
            *source.get_mut() -= 1;
            if *source.get() == 0 {
                source.remove();
            }
        }
        self.conns.open.fetch_sub(1, Ordering::Relaxed);
        self.conns.tell_gone(self.flow);
    }
}

/// Reads and writes until either side is done.
async fn serve<S: AsyncRead + AsyncWrite>(stream: S, booked: &Booked, queue: mpsc::Receiver<Bytes>) {
    let (mut reader, writer) = tokio::io::split(stream);
    let limit = booked.conns.limits.tcp_write;
    let mut writing = pin!(write(writer, queue, &booked.line, limit));
    let end = tokio::select! {
        biased; // what ends the writer in order comes after the reader's last word
        end = read(&mut reader, booked) => end,
        () = &mut writing => End::Closed,
    };
    if end == End::Broken {
        // The worker's answer and the end of the stream are written while the rest is thrown away.
        let _ = timeout(limit, async { tokio::join!(writing, discard(reader)) }).await;
    }
}

/// How reading ended.
#[derive(PartialEq, Eq)]
enum End {
    /// The connection is over.
    Closed,
    /// What came cannot be understood; a worker has it and has the last word.
    Broken,
}

async fn read(mut reader: impl AsyncRead + Unpin, booked: &Booked) -> End {
    let Booked { conns, flow, .. } = booked;
    let mut framer = Framer::new();
    let mut chunk = vec![0; READ_CHUNK];
    let mut deadline = Instant::now() + conns.limits.tcp_first_message;
    // A keep-alive costs nothing and says nothing: it lets a connection live on only after a message.
    let mut has_spoken = false;
    // Half a message may not stay half for as long as silence may last.
    let mut whole_by: Option<Instant> = None;
    loop {
        match framer.next() {
            Ok(Some(Frame::Message(bytes))) => {
                deadline = Instant::now() + conns.limits.tcp_idle;
                has_spoken = true;
                whole_by = None;
                if !booked.pass(bytes, None).await {
                    return End::Closed;
                }
            }
            Ok(Some(Frame::Ping)) => {
                if has_spoken {
                    deadline = Instant::now() + conns.limits.tcp_idle;
                }
                // RFC 5626 section 4.4.1. Whoever pings but does not read is cut like any slow reader.
                if !conns.send(*flow, Bytes::from_static(b"\r\n")) {
                    return End::Closed;
                }
            }
            Ok(Some(Frame::Pong)) if has_spoken => deadline = Instant::now() + conns.limits.tcp_idle,
            Ok(Some(Frame::Pong)) => {}
            Ok(None) => {
                if framer.pending() > 0 {
                    whole_by.get_or_insert_with(|| Instant::now() + conns.limits.tcp_first_message);
                }
                let patience = whole_by.map_or(deadline, |by| by.min(deadline));
                match timeout_at(patience, reader.read(&mut chunk)).await {
                    Ok(Ok(0) | Err(_)) => return End::Closed,
                    Ok(Ok(count)) => framer.push(&chunk[..count]),
                    Err(_) => {
                        conns.counters.count(Cause::Connection);
                        return End::Closed;
                    }
                }
            }
            Err(FrameError::NotSip) => {
                conns.counters.count(Cause::Junk);
                return End::Closed;
            }
            Err(error) => {
                let is_passed = booked.pass(framer.take_head(), Some(error)).await;
                return if is_passed { End::Broken } else { End::Closed };
            }
        }
    }
}

async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Bytes>,
    line: &Line,
    limit: Duration,
) {
    let (mut batch, mut text) = (Vec::new(), Vec::new());
    while queue.recv_many(&mut batch, WRITE_BATCH).await > 0 {
        let bytes = match &batch[..] {
            [one] => one,
            several => {
                several.iter().for_each(|bytes| text.extend_from_slice(bytes));
                text.as_slice()
            }
        };
        let written = timeout(limit, async {
            writer.write_all(bytes).await?;
            writer.flush().await
        });
        if !matches!(written.await, Ok(Ok(()))) {
            return;
        }
        line.moved.notify_one();
        batch.clear();
        text.clear();
        text.shrink_to(WRITE_KEPT);
    }
    let _ = timeout(limit, writer.shutdown()).await;
}

async fn discard(reader: impl AsyncRead + Unpin) {
    let _ = tokio::io::copy(&mut reader.take(FAREWELL_MAX as u64), &mut tokio::io::sink()).await;
}

async fn connect(local: Option<IpAddr>, remote: SocketAddr) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(ip) = local.filter(|ip| !ip.is_unspecified() && ip.is_ipv4() == remote.is_ipv4()) {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    let stream = socket.connect(remote).await?;
    tune(&stream);
    Ok(stream)
}

/// Small messages leave at once; a peer that vanished without a word is noticed.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let alive =
        TcpKeepalive::new().with_time(Duration::from_secs(120)).with_interval(Duration::from_secs(30));
    let _ = SockRef::from(stream).set_tcp_keepalive(&alive);
}
