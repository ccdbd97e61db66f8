//! A SIP worker: one task that owns a transaction table and a socket per UDP listener, so that nothing of theirs is shared.
//!
//! In: datagrams, messages of streams, commands of legs, time. Out: bytes, events for legs, answers. A turn does a bounded
//! amount of each and then lets other tasks run. Elsewhere: what a new request may do (`worker::requests`).

mod backlog;
mod first_line;
mod legs;
mod moved;
mod requests;
mod strays;

use crate::auth::{Authenticator, Identity};
use crate::budget::Budget;
use crate::leg::{Leg, LegMsg, Wishes};
use crate::legs::LegTag;
use crate::net::tcp::{PlaceInLine, StreamMessage, Streams};
use crate::net::{Datagram, Port};
use crate::ping::{Ping, Watch};
use crate::stats::{Cause, add};
use crate::trunks::Ask;
use crate::{Direction, Shared};
use backlog::{Backlog, Waiting};
use bytes::Bytes;
use cluster::ids::{CallId, LegId};
use first_line::FirstLine;
use moved::Held;
use rand::rngs::StdRng;
use requests::{Caller, Kept};
use sip::flow::{ConnId, Flow, Transport};
use sip::msg::{Message, Method};
use sip::session::{Failure, Outgoing};
use sip::stun;
use sip::transaction::{ClientKey, Destination, Event, ServerId, Transactions};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use strays::{STRAY_OWNER, Strays};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
use tracing::trace;

/// Commands and messages of streams per turn.
const COMMANDS_MAX: usize = 256;
/// Messages per turn of strangers' streams, and of strangers whom another worker heard: as many as of their datagrams while others
/// wait.
const STRANGERS_MAX: usize = 16;
/// Datagrams worked on per turn.
const DATAGRAMS_MAX: usize = 64;
/// Batches taken from a socket per turn: reading runs ahead of the work, so that the queue and its age are ours to see
/// and not the kernel's to cut.
const BATCHES_MAX: usize = 8;
/// Messages of one kind of sender, and their octets, that may wait in a worker's mailbox because another one received them:
/// nobody has looked at them yet.
const FOREIGN_MAX: usize = 8192;
const FOREIGN_OCTETS_MAX: usize = 8 * 1024 * 1024;
/// Owner of the client transactions that ping bindings: no leg has this name, its node would be 65535 and its counter full.
const PING_OWNER: u64 = u64::MAX;
/// Owner of the client transactions of the trunks' task; as for pings.
const TRUNK_OWNER: u64 = u64::MAX - 2;

/// What a worker is told by other tasks.
pub(crate) enum Cmd {
    /// A leg begins by an order.
    Originate(Box<(LegTag, Leg, Outgoing)>),
    /// A message for a leg.
    Leg { leg: LegId, message: LegMsg },
    /// End a leg, whatever its state, and say whether there was one.
    Kill { leg: LegId, done: oneshot::Sender<bool> },
    /// A message that another worker received and this one must handle.
    Foreign(Parcel),
    /// A connection is gone, or could not be opened (`conn` 0).
    FlowGone(Flow),
    /// The changes of a REGISTER are durable, or are not.
    Stored { kept: Kept, durable: bool },
    /// Send this OPTIONS.
    Ping(Box<Ping>),
    /// Send this request of the trunks' task, which hears what became of it.
    Ask(Box<Ask>),
    /// Carry on a leg of another proxy.
    Revive { call: CallId, leg: LegId, state: Bytes },
    /// Forget a leg without a word to its peer.
    Part(LegId),
    /// Nobody has this leg, of those that were asked for.
    NoStray(LegId),
    /// Ask for other proxies that carry legs on.
    MoveLegs,
    /// Let go of this when nothing is awaited from any peer of a call.
    Settle(oneshot::Sender<()>),
    /// Begin nothing new in dialogs, and let go of this when nothing is open in any.
    Rest(oneshot::Sender<()>),
    /// Give a sign of life.
    Knock(oneshot::Sender<()>),
    /// End, and all legs with it.
    Stop,
    /// End, and leave the legs to other proxies: their peers hear nothing.
    Quit,
}

/// A worker's mailbox. Unbounded: what fills it is bounded by the limits of legs, connections and registrations; messages
/// from the wire have a bound of their own.
#[derive(Clone)]
pub(crate) struct Link {
    sender: mpsc::UnboundedSender<Cmd>,
    /// For messages of strangers.
    apart: mpsc::UnboundedSender<Cmd>,
    /// By [`Sender`].
    foreign: Arc<[Foreign; 4]>,
}

/// The other end of a [`Link`].
pub(crate) struct Mailbox {
    commands: mpsc::UnboundedReceiver<Cmd>,
    apart: mpsc::UnboundedReceiver<Cmd>,
}

/// Who sent a message that one worker hands to another. Each kind has a bound of its own, so that none takes the others' room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// Datagrams of a flow that has not proved itself; dropped where there is no room.
    Stranger,
    /// Datagrams of one that has; the same, for it repeats itself.
    Known,
    /// A stream whose peer has not shown a password. Streams do not repeat themselves (RFC 3261 section 17.1.1.2): they wait.
    StrangerStream,
    /// One whose peer has.
    KnownStream,
}

impl Sender {
    fn is_stranger(self) -> bool {
        matches!(self, Sender::Stranger | Sender::StrangerStream)
    }

    fn is_stream(self) -> bool {
        matches!(self, Sender::StrangerStream | Sender::KnownStream)
    }
}

/// What waits in a mailbox of messages from the wire.
#[derive(Default)]
struct Foreign {
    messages: AtomicUsize,
    octets: AtomicUsize,
}

impl Link {
    pub(crate) fn new() -> (Link, Mailbox) {
        let ((sender, commands), (apart, strangers)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        (Link { sender, apart, foreign: Arc::default() }, Mailbox { commands, apart: strangers })
    }

    /// A worker that has ended takes nothing; there is nobody left to tell.
    pub(crate) fn send(&self, cmd: Cmd) {
        let _ = self.sender.send(cmd);
    }

    /// Hands over a message that belongs to this worker. Given back: there are too many of this kind already.
    fn hand_over(&self, parcel: Parcel) -> Option<Parcel> {
        let Foreign { messages, octets } = &self.foreign[parcel.sender as usize];
        let length = parcel.msg.raw().len();
        // Two workers at once may pass by a message or two: the bound is a bound of memory, not a count.
        if messages.load(Ordering::Relaxed) >= FOREIGN_MAX
            || octets.load(Ordering::Relaxed) + length > FOREIGN_OCTETS_MAX
        {
            return Some(parcel);
        }
        messages.fetch_add(1, Ordering::Relaxed);
        octets.fetch_add(length, Ordering::Relaxed);
        let queue = if parcel.sender.is_stranger() { &self.apart } else { &self.sender };
        let _ = queue.send(Cmd::Foreign(parcel));
        None
    }

    /// Takes all room for a kind of sender, or gives it back.
    #[cfg(test)]
    pub(crate) fn occupy(&self, sender: Sender, full: bool) {
        let messages = &self.foreign[sender as usize].messages;
        if full {
            messages.fetch_add(FOREIGN_MAX, Ordering::Relaxed);
        } else {
            messages.fetch_sub(FOREIGN_MAX, Ordering::Relaxed);
        }
    }

    fn taken_over(&self, msg: &Message, sender: Sender) {
        let Foreign { messages, octets } = &self.foreign[sender as usize];
        messages.fetch_sub(1, Ordering::Relaxed);
        octets.fetch_sub(msg.raw().len(), Ordering::Relaxed);
    }
}

/// A message on its way to the worker that it belongs to.
pub(crate) struct Parcel {
    msg: Message,
    flow: Flow,
    sender: Sender,
    lag: Duration,
    /// Of a stream.
    place: Option<PlaceInLine>,
}

/// A request that passed policy, while the transaction layer makes its transaction.
enum Admitted {
    Leg(LegTag),
    Register(Identity),
    Invite(Box<Caller>),
}

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) index: u8,
    pub(crate) transactions: Transactions,
    /// By listener.
    pub(crate) ports: Vec<Option<Port>>,
    pub(crate) mailbox: Mailbox,
    pub(crate) streams: Streams,
    pub(crate) auth: Authenticator,
    pub(crate) rng: StdRng,
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    index: u8,
    transactions: Transactions,
    ports: Vec<Option<Port>>,
    mailbox: Mailbox,
    streams: Streams,
    auth: Authenticator,
    budget: Budget,
    rng: StdRng,
    legs: HashMap<LegId, Leg>,
    /// What legs want, while it is gathered.
    wishes: Wishes,
    /// Requests of legs that could not even be begun; they hear of it after what they do now.
    failures: VecDeque<(LegId, u32, Failure)>,
    /// When which leg is to be woken; entries of legs that are gone are found out when they are due.
    alarms: BinaryHeap<Reverse<(Instant, LegId)>>,
    /// Whose INVITEs wait for their final answer: a CANCEL names only the transaction.
    invites: HashMap<ServerId, LegId>,
    pings: HashMap<u32, Watch>,
    next_ping: u32,
    /// Requests of the trunks' task, by its names for them.
    asks: HashMap<u32, u64>,
    next_ask: u32,
    strays: Strays,
    held_for: Held,
    admitted: Option<Admitted>,
    /// Of the stream's message at hand.
    place: Option<PlaceInLine>,
    // What was taken from the queues for this turn.
    taken: Vec<Cmd>,
    messages: Vec<StreamMessage>,
    /// Of streams, for workers whose mailboxes were full: no more than one turn's messages. Those of strangers wait apart.
    held: VecDeque<(usize, Parcel)>,
    held_apart: VecDeque<(usize, Parcel)>,
    batch: Vec<Datagram>,
    arrived: Vec<Waiting>,
    backlog: Backlog,
    failed: Vec<SocketAddr>,
    /// Who waits for the last answers.
    settling: Vec<oneshot::Sender<()>>,
    /// Who waits until other proxies can carry the legs on; nothing new begins in dialogs then.
    resting: Vec<oneshot::Sender<()>>,
    rests: bool,
    sleep: Pin<Box<Sleep>>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, parts: Parts) -> Self {
        let Parts { index, transactions, ports, mailbox, streams, auth, rng } = parts;
        let proof_lasts = Duration::from_secs(u64::from(shared.config.registrar.max_expires));
        let budget = Budget::new(&shared.config.limits, shared.links.len(), proof_lasts);
        Self {
            shared,
            index,
            transactions,
            ports,
            mailbox,
            streams,
            auth,
            budget,
            rng,
            legs: HashMap::new(),
            wishes: Wishes::default(),
            failures: VecDeque::new(),
            alarms: BinaryHeap::new(),
            invites: HashMap::new(),
            pings: HashMap::new(),
            next_ping: 0,
            asks: HashMap::new(),
            next_ask: 0,
            strays: Strays::default(),
            held_for: Held::default(),
            admitted: None,
            place: None,
            taken: Vec::new(),
            messages: Vec::new(),
            held: VecDeque::new(),
            held_apart: VecDeque::new(),
            batch: Vec::new(),
            arrived: Vec::new(),
            backlog: Backlog::new(),
            failed: Vec::new(),
            settling: Vec::new(),
            resting: Vec::new(),
            rests: false,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Works until it is told to stop.
    pub(crate) async fn run(mut self) {
        loop {
            poll_fn(|cx| self.poll_input(cx)).await;
            if !self.turn() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Takes what there is; pending only when there is nothing to do at all.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = !self.backlog.is_empty();
        // The senders live as long as the proxy, so the channels do not close.
        ready |= self.mailbox.commands.poll_recv_many(cx, &mut self.taken, COMMANDS_MAX).is_ready();
        ready |= self.mailbox.apart.poll_recv_many(cx, &mut self.taken, STRANGERS_MAX).is_ready();
        // While some of a kind waits no more of it is taken.
        let Streams { known, strangers } = &mut self.streams;
        for (held, streams, bound) in
            [(&mut self.held, known, COMMANDS_MAX), (&mut self.held_apart, strangers, STRANGERS_MAX)]
        {
            hand_over_held(held, &self.shared.links);
            ready |= !held.is_empty() || streams.poll_recv_many(cx, &mut self.messages, bound).is_ready();
        }
        for (listener, port) in (0u16..).zip(&mut self.ports) {
            let Some(port) = port else { continue };
            for _ in 0..BATCHES_MAX {
                if self.backlog.is_full() || port.poll_recv(cx, &mut self.batch).is_pending() {
                    break;
                }
                self.arrived.extend(self.batch.drain(..).map(|datagram| (listener, datagram)));
                ready = true;
            }
        }
        self.sort_in();
        ready |= self.poll_deadline(cx).is_ready();
        if ready { Poll::Ready(()) } else { Poll::Pending }
    }

    /// What was read goes to where it waits.
    fn sort_in(&mut self) {
        if self.arrived.is_empty() {
            return;
        }
        let now = self.shared.clock.now();
        for waiting in self.arrived.drain(..) {
            let is_known = self.budget.is_proved(waiting.1.from, now);
            if !self.backlog.push(waiting, is_known) {
                self.shared.counters.count(Cause::Flood);
            }
        }
    }

    /// The timer is only ever moved forward when it has rung: a ring too early costs less than moving it each turn.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let alarm = self.alarms.peek().map(|Reverse((at, _))| *at);
        let Some(due) = [alarm, self.transactions.poll_timeout()].into_iter().flatten().min() else {
            return Poll::Pending;
        };
        let due = tokio::time::Instant::from_std(due);
        if due <= tokio::time::Instant::now() {
            return Poll::Ready(());
        }
        if due < self.sleep.deadline() || self.sleep.is_elapsed() {
            self.sleep.as_mut().reset(due);
        }
        self.sleep.as_mut().poll(cx)
    }

    /// One bounded piece of work. `false`: stop.
    fn turn(&mut self) -> bool {
        let now = self.shared.clock.now();
        let mut taken = std::mem::take(&mut self.taken);
        for cmd in taken.drain(..) {
            if matches!(cmd, Cmd::Quit) {
                self.flush(now);
                return false;
            }
            if matches!(cmd, Cmd::Stop) {
                self.bury_all(now);
                self.flush(now);
                return false;
            }
            self.guarded(now, |worker| worker.command(cmd, now));
        }
        self.taken = taken;
        let mut messages = std::mem::take(&mut self.messages);
        for StreamMessage { bytes, flow, place, broken } in messages.drain(..) {
            self.place = Some(place);
            self.guarded(now, |worker| match broken {
                None => worker.message(bytes, flow, Duration::ZERO, now),
                Some(error) => worker.broken(bytes, flow, error, now),
            });
            self.place = None;
            if broken.is_some() {
                self.shared.connections.finish(flow.conn);
            }
        }
        self.messages = messages;
        let wall = (!self.backlog.is_empty()).then(|| self.shared.clock.wall());
        let mut longest = Duration::ZERO;
        for _ in 0..DATAGRAMS_MAX {
            let Some((listener, datagram)) = self.backlog.pop() else { break };
            let lag = match (wall, datagram.received) {
                (Some(wall), Some(received)) => wall.saturating_sub(received),
                _ => Duration::ZERO,
            };
            longest = longest.max(lag);
            self.guarded(now, |worker| worker.datagram(listener, datagram, lag, now));
        }
        if let Some(tap) = self.shared.tap.as_ref().filter(|_| wall.is_some()) {
            tap.turned(longest);
        }
        self.guarded(now, |worker| worker.timeouts(now));
        self.flush(now);
        let gauge = &self.shared.gauges[usize::from(self.index)];
        gauge.transactions.store(self.transactions.open(), Ordering::Relaxed);
        gauge.queued.store(self.queued(), Ordering::Relaxed);
        if !self.settling.is_empty()
            && self.legs.is_empty()
            && !self.transactions.awaits_peers(&[PING_OWNER, TRUNK_OWNER])
        {
            self.settling.clear();
        }
        if !self.resting.is_empty() && !self.legs.values().any(Leg::is_busy) {
            self.resting.clear();
        }
        true
    }

    fn queued(&self) -> usize {
        let strangers = self.backlog.len() - self.backlog.known();
        self.queued_by_known() + strangers + self.mailbox.apart.len() + self.streams.strangers.len()
    }

    /// Without what strangers have waiting.
    fn queued_by_known(&self) -> usize {
        self.backlog.known() + self.mailbox.commands.len() + self.streams.known.len()
    }

    /// Whether the sender has shown a password on this flow.
    fn is_known(&self, flow: Flow, now: Instant) -> bool {
        match flow.transport.is_reliable() {
            true => self.shared.connections.is_proved(flow.conn),
            false => self.budget.is_proved(flow.remote, now),
        }
    }

    /// Does one thing and what follows from it. A panic is a mistake of ours, but must not be everybody's.
    fn guarded(&mut self, now: Instant, work: impl FnOnce(&mut Worker)) {
        let done = catch_unwind(AssertUnwindSafe(|| {
            work(self);
            self.settle(now);
        }));
        self.admitted = None;
        if done.is_err() {
            self.shared.counters.count(Cause::Panic);
            tracing::error!(
                worker = self.index,
                "a message or command made a SIP worker panic; it was dropped"
            );
        }
    }

    fn timeouts(&mut self, now: Instant) {
        if self.transactions.poll_timeout().is_some_and(|due| due <= now) {
            self.transactions.handle_timeout(now);
        }
        for _ in 0..COMMANDS_MAX {
            match self.alarms.peek() {
                Some(Reverse((at, leg))) if *at <= now => {
                    let leg = *leg;
                    self.alarms.pop();
                    self.tell(leg, LegMsg::Wake, now);
                }
                _ => break,
            }
        }
    }

    // --- from other tasks ---

    fn command(&mut self, cmd: Cmd, now: Instant) {
        match cmd {
            Cmd::Originate(order) => {
                let (tag, leg, outgoing) = *order;
                self.begin(tag, leg, LegMsg::Originate(Box::new(outgoing)), now);
            }
            Cmd::Leg { leg, message } => drop(self.tell(leg, message, now)),
            Cmd::Kill { leg, done } => drop(done.send(self.bury(leg, now))),
            Cmd::Foreign(Parcel { msg, flow, sender, lag, place }) => {
                self.shared.links[usize::from(self.index)].taken_over(&msg, sender);
                match msg.is_request() {
                    true => self.request(msg, flow, lag, now),
                    false => self.response(msg, flow, now),
                }
                drop(place);
            }
            Cmd::FlowGone(flow) => self.transactions.handle_transport_error(flow, now),
            Cmd::Stored { kept, durable } => self.stored(kept, durable, now),
            Cmd::Ping(ping) => self.ping(*ping, now),
            Cmd::Ask(ask) => self.ask(*ask, now),
            Cmd::Revive { call, leg, state } => self.revive(call, leg, state, now),
            Cmd::Part(leg) => self.part(leg, now),
            Cmd::NoStray(leg) => self.no_stray(leg, now),
            Cmd::MoveLegs => self.move_legs(now),
            Cmd::Settle(teller) => self.settling.push(teller),
            Cmd::Rest(teller) => {
                self.rests = true;
                self.resting.push(teller);
            }
            Cmd::Knock(teller) => drop(teller.send(())),
            Cmd::Stop | Cmd::Quit => {}
        }
    }

    fn ping(&mut self, ping: Ping, now: Instant) {
        let Ping { watch, draft, flow } = ping;
        self.next_ping = self.next_ping.wrapping_add(1);
        let key = ClientKey { owner: PING_OWNER, seq: self.next_ping };
        if self.transactions.request(key, draft, Destination { flow, stream_first: false }, now).is_ok() {
            add(&self.shared.counters.pings);
            self.pings.insert(key.seq, watch);
        }
    }

    fn pinged(&mut self, seq: u32, answered: bool) {
        if let Some(watch) = self.pings.remove(&seq) {
            if !answered {
                add(&self.shared.counters.pings_missed);
            }
            self.shared.registrar.pinged(watch, answered);
        }
    }

    fn ask(&mut self, ask: Ask, now: Instant) {
        let Ask { token, draft, flow } = ask;
        self.next_ask = self.next_ask.wrapping_add(1);
        let key = ClientKey { owner: TRUNK_OWNER, seq: self.next_ask };
        // No room: as good as lost on the way, and nobody is told twice.
        match self.transactions.request(key, draft, Destination { flow, stream_first: false }, now) {
            Ok(()) => drop(self.asks.insert(key.seq, token)),
            Err(_) => self.shared.trunks.told(token, None),
        }
    }

    fn told(&mut self, seq: u32, answer: Option<Message>) {
        if let Some(token) = self.asks.remove(&seq) {
            self.shared.trunks.told(token, answer);
        }
    }

    // --- from the wire ---

    fn datagram(&mut self, listener: u16, datagram: Datagram, lag: Duration, now: Instant) {
        let Datagram { bytes, from, .. } = datagram;
        let flow = Flow { transport: Transport::Udp, listener, remote: from, conn: ConnId(0) };
        match bytes.first() {
            _ if from.port() == 0 => self.shared.counters.count(Cause::Junk),
            Some(first) if first.is_ascii_alphanumeric() => self.message(bytes, flow, lag, now),
            Some(_) if stun::is_stun(&bytes) => match stun::binding_response(&bytes, from) {
                Some(answer) if self.budget.allows(from, bytes.len(), answer.len(), now) => {
                    self.send_datagram(flow, Bytes::from(answer));
                }
                Some(_) => self.shared.counters.count(Cause::Amplification),
                None => self.shared.counters.count(Cause::Junk),
            },
            // Keep-alives of CRLF, NUL and the like have done their work on the way here; the rest is not SIP.
            Some(_) if bytes.len() <= 4 => {}
            Some(_) => self.shared.counters.count(Cause::Junk),
            None => {}
        }
    }

    fn message(&mut self, bytes: Bytes, flow: Flow, lag: Duration, now: Instant) {
        add(&self.shared.counters.received);
        trace!(direction = "in", remote = %flow.remote, transport = flow.transport.via_token(), line = %FirstLine(&bytes), "SIP");
        if let Some(tap) = &self.shared.tap {
            tap.seen(Direction::In, flow, &bytes);
        }
        match Message::parse(bytes) {
            Ok(msg) if msg.is_request() => self.request(msg, flow, lag, now),
            Ok(msg) => self.response(msg, flow, now),
            Err(_) => {
                self.shared.counters.count(Cause::Junk);
                self.shared.connections.cut(flow.conn);
            }
        }
    }

    /// Gives a message to the worker that it belongs to.
    fn hand_over(&mut self, worker: usize, msg: Message, flow: Flow, lag: Duration, now: Instant) {
        let place = self.place.take();
        let is_known = match &place {
            Some(place) => !place.is_apart,
            None => self.is_known(flow, now),
        };
        let sender = match (flow.transport.is_reliable(), is_known) {
            (false, false) => Sender::Stranger,
            (false, true) => Sender::Known,
            (true, false) => Sender::StrangerStream,
            (true, true) => Sender::KnownStream,
        };
        let parcel = Parcel { msg, flow, sender, lag, place };
        let held = if sender.is_stranger() { &mut self.held_apart } else { &mut self.held };
        // One of a stream goes behind those that wait: what a connection says keeps its order.
        let refused = match sender.is_stream() && !held.is_empty() {
            true => Some(parcel),
            false => self.shared.links[worker].hand_over(parcel),
        };
        match refused {
            Some(parcel) if sender.is_stream() => held.push_back((worker, parcel)),
            Some(_) => self.shared.counters.count(Cause::Overload),
            None => {}
        }
    }

    fn response(&mut self, msg: Message, flow: Flow, now: Instant) {
        match self.transactions.foreign_shard(&msg) {
            Some(shard) if usize::from(shard) < self.shared.links.len() => {
                self.hand_over(usize::from(shard), msg, flow, Duration::ZERO, now);
            }
            _ if msg.validate().is_err() => self.shared.counters.count(Cause::Malformed),
            _ => self.transactions.handle_message(msg, flow, now),
        }
    }

    // --- out of the transaction layer ---

    /// Hands on events and bytes until there are none.
    fn settle(&mut self, now: Instant) {
        loop {
            if let Some(event) = self.transactions.poll_event() {
                self.event(event, now);
            } else if let Some(transmit) = self.transactions.poll_transmit() {
                self.transmit(transmit.flow, transmit.bytes, now);
            } else if let Some((leg, seq, failure)) = self.failures.pop_front() {
                self.tell(leg, LegMsg::Failure { seq, failure }, now);
            } else {
                return;
            }
        }
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Request { id, msg, flow } => self.new_request(id, msg, flow, now),
            Event::Ack { msg, flow } => {
                if let Some(tag) = msg.to_tag().and_then(LegTag::parse).filter(|tag| self.has_leg(*tag)) {
                    self.tell(tag.leg, LegMsg::Ack { msg, flow }, now);
                }
            }
            Event::Cancelled { id, reason, .. } => {
                let leg = self.invites.get(&id).copied();
                if !leg.is_some_and(|leg| self.tell(leg, LegMsg::Cancelled { txn: id, reason }, now)) {
                    self.cancelled_in_vain(id, now);
                }
            }
            Event::Response { key, .. } if key.owner == PING_OWNER => self.pinged(key.seq, true),
            Event::Response { key, .. } if key.owner == STRAY_OWNER => {}
            Event::Response { key, msg, .. } if key.owner == TRUNK_OWNER => {
                if msg.status() >= 200 {
                    self.told(key.seq, Some(msg));
                }
            }
            Event::Response { key, msg, flow } => {
                let leg = LegId::from_u64(key.owner);
                if self.legs.contains_key(&leg) {
                    self.tell(leg, LegMsg::Response { seq: key.seq, msg, flow }, now);
                } else {
                    self.stray(key, &msg, flow, now);
                }
            }
            Event::Timeout { key } => self.failure(key, Failure::Timeout, now),
            Event::TransportError { key } => self.failure(key, Failure::Transport, now),
            Event::Unanswered { id } => {
                if let Some(leg) = self.invites.remove(&id) {
                    self.tell(leg, LegMsg::Unanswered { txn: id }, now);
                }
            }
            Event::NoAck { .. } => {}
        }
    }

    fn failure(&mut self, key: ClientKey, failure: Failure, now: Instant) {
        if key.owner == PING_OWNER {
            self.pinged(key.seq, false);
        } else if key.owner == TRUNK_OWNER {
            self.told(key.seq, None);
        } else {
            self.tell(LegId::from_u64(key.owner), LegMsg::Failure { seq: key.seq, failure }, now);
        }
    }

    fn transmit(&mut self, flow: Flow, bytes: Bytes, now: Instant) {
        let kept = (flow.transport == Transport::Tcp).then(|| bytes.clone());
        if !self.send(flow, bytes) {
            self.transactions.handle_transport_error(flow, now);
            if !kept.is_some_and(|bytes| self.answer_elsewhere(flow, bytes)) {
                self.shared.counters.count(Cause::Unsent);
            }
        }
    }

    /// RFC 3261 section 18.2.2: an answer whose connection is gone goes, once, by a new one to the sender's address and the
    /// port of its sent-by. Here are the final answers to other requests than INVITE, whose transactions end with them
    /// (timer J is zero); the transactions that live on see to it themselves.
    fn answer_elsewhere(&mut self, flow: Flow, bytes: Bytes) -> bool {
        if flow.conn == ConnId(0) {
            return false;
        }
        let Ok(msg) = Message::parse(bytes.clone()) else { return false };
        let Ok(via) = msg.via() else { return false };
        if msg.status() < 200 || msg.method_is(&Method::Invite) {
            return false;
        }
        let port = via.port.filter(|port| *port != 0).unwrap_or(5060);
        let remote = SocketAddr::new(flow.remote.ip(), port);
        self.send(Flow { remote, conn: ConnId(0), ..flow }, bytes)
    }

    /// `false`: there is no way.
    fn send(&mut self, flow: Flow, bytes: Bytes) -> bool {
        trace!(direction = "out", remote = %flow.remote, transport = flow.transport.via_token(), line = %FirstLine(&bytes), "SIP");
        if let Some(tap) = &self.shared.tap {
            tap.seen(Direction::Out, flow, &bytes);
        }
        if flow.transport == Transport::Udp {
            self.send_datagram(flow, bytes);
            return true;
        }
        self.shared.connections.send(flow, bytes)
    }

    fn send_datagram(&mut self, flow: Flow, bytes: Bytes) {
        match self.ports.get_mut(usize::from(flow.listener)) {
            Some(Some(port)) => port.send(bytes, flow.remote),
            _ => self.shared.counters.count(Cause::Unsent),
        }
    }

    /// Writes the datagrams of this turn.
    fn flush(&mut self, now: Instant) {
        for listener in 0..self.ports.len() {
            if let Some(port) = &mut self.ports[listener] {
                port.flush(&mut self.failed);
            }
            let Ok(index) = u16::try_from(listener) else { return };
            for remote in std::mem::take(&mut self.failed) {
                self.shared.counters.count(Cause::Unsent);
                let flow = Flow { transport: Transport::Udp, listener: index, remote, conn: ConnId(0) };
                self.guarded(now, |worker| worker.transactions.handle_transport_error(flow, now));
            }
        }
    }
}

/// Tries again to hand over what streams brought.
fn hand_over_held(held: &mut VecDeque<(usize, Parcel)>, links: &[Link]) {
    while let Some((worker, parcel)) = held.pop_front() {
        if let Some(parcel) = links[worker].hand_over(parcel) {
            return held.push_front((worker, parcel));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(length: usize, sender: Sender) -> Parcel {
        let text = format!("BYE sip:a SIP/2.0\r\nX: {}\r\n\r\n", "x".repeat(length));
        let msg = Message::parse(Bytes::from(text)).unwrap();
        let remote = ([192, 0, 2, 1], 5060).into();
        let flow = Flow { transport: Transport::Udp, listener: 0, remote, conn: ConnId(0) };
        Parcel { msg, flow, sender, lag: Duration::ZERO, place: None }
    }

    /// How many messages the link takes.
    fn fill(link: &Link, length: usize, sender: Sender) -> usize {
        (0..FOREIGN_MAX * 2).take_while(|_| link.hand_over(parcel(length, sender)).is_none()).count()
    }

    #[test]
    fn a_mailbox_takes_so_many_messages_and_octets_of_each_kind_of_sender() {
        let (link, mut mailbox) = Link::new();
        let mut empty = || {
            while let Ok(cmd) = mailbox.commands.try_recv().or_else(|_| mailbox.apart.try_recv()) {
                if let Cmd::Foreign(Parcel { msg, sender, .. }) = cmd {
                    link.taken_over(&msg, sender);
                }
            }
        };
        for sender in [Sender::Stranger, Sender::Known, Sender::StrangerStream, Sender::KnownStream] {
            assert_eq!(fill(&link, 10, sender), FOREIGN_MAX, "{sender:?} have room of their own");
        }
        empty();
        let long = fill(&link, 60_000, Sender::Stranger);
        assert!((100..=FOREIGN_OCTETS_MAX / 60_000).contains(&long), "{long}");
        assert!(link.hand_over(parcel(60_000, Sender::KnownStream)).is_none());
        empty();
        assert_eq!(fill(&link, 10, Sender::Stranger), FOREIGN_MAX, "what was taken makes room");
    }
}
