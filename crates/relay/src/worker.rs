//! A worker: one thread that moves the packets of its sessions.
//!
//! In: [`Order`]s by a queue, datagrams by epoll. Out: datagrams, figures, [`MediaEvent::Silent`]. A packet costs one look
//! into a table, no lock and no allocation; orders are looked for once per turn of the loop. Elsewhere: what a packet may
//! do ([`crate::stream`]), what orders mean ([`crate::session`]).

use crate::figures::add;
use crate::own::Own;
use crate::ports::Pair;
use crate::stream::{Channel, Kind, Setup, Stream, Verdict};
use cluster::media::{MediaEvent, MediaSink};
use netio::{Epoll, EventFd, Events, RecvBatch, SendBatch, Ticker};
use parking_lot::Mutex;
use std::io;
use std::net::UdpSocket;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Datagrams that one call takes from a socket that has many.
const BATCH_MAX: usize = 16;

/// Room for one datagram; longer ones are dropped.
const DATAGRAM_MAX: usize = 4096;

/// Sockets that one wait reports.
const EVENTS_MAX: usize = 256;

/// Longest time between two looks at silence and at orders that were not urgent.
const TURN_MAX: Duration = Duration::from_secs(1);

/// Shortest time between two looks at silence.
const TURN_MIN: Duration = Duration::from_millis(10);

/// After orders the worker looks for more by itself for so long, and need not be woken: hundreds of calls a second
/// then cost a few wake-ups. Media of a call that was answered meanwhile waits in its socket until then.
const LINGER: Duration = Duration::from_millis(5);

/// Sockets that are served by one look at the clock: a tenth of a millisecond of work.
const CLOCK_EVERY: usize = 16;

/// The epoll key of the worker's own eventfd.
const WAKE: u64 = u64::MAX;

/// The epoll key of the worker's ticker.
const TICK: u64 = u64::MAX - 1;

/// What a worker is told.
pub(crate) enum Order {
    /// A stream begins, or an exchange changed it. A pair that the worker does not know joins its set.
    Set(Arc<Pair>, Box<Setup>),
    /// What comes in goes nowhere for now.
    Unlink { slot: u32, generation: u32 },
    /// The holder is gone: nothing is forwarded, the sockets stay.
    Idle { slot: u32, generation: u32 },
    /// Another worker gets the pair.
    Forget { slot: u32 },
    /// Lets somebody know that everything before it was done.
    Tell(std::sync::mpsc::Sender<()>),
}

/// The side of a worker that other threads see.
pub(crate) struct WorkerLink {
    queue: Mutex<Vec<Order>>,
    /// Something is in the queue.
    queued: AtomicBool,
    /// The worker looks for orders soon: the eventfd was written and not yet read, or it lingers.
    awake: AtomicBool,
    stopping: AtomicBool,
    event: EventFd,
    /// Datagrams sent on; written by the worker alone.
    pub(crate) forwarded: AtomicU64,
    /// Sessions that live here.
    pub(crate) sessions: AtomicUsize,
}

/// Settings of a worker.
pub(crate) struct WorkerOptions {
    pub(crate) name: String,
    pub(crate) core: Option<usize>,
    pub(crate) silence: Duration,
    pub(crate) packets_per_second: u32,
    pub(crate) own: Arc<Own>,
}

/// Starts a worker's thread.
pub(crate) fn start(
    options: WorkerOptions,
    sink: Arc<dyn MediaSink>,
) -> io::Result<(Arc<WorkerLink>, JoinHandle<()>)> {
    let mut worker = Worker::new(&options, sink)?;
    let link = Arc::clone(&worker.link);
    let thread = std::thread::Builder::new().name(options.name).spawn(move || {
        if let Some(core) = options.core
            && let Err(error) = netio::thread::pin(core)
        {
            tracing::warn!(core, %error, "media worker not tied to its core");
        }
        let mut events = Events::new(EVENTS_MAX);
        while catch_unwind(AssertUnwindSafe(|| worker.run(&mut events))).is_err() {
            worker.bury();
        }
    })?;
    Ok((link, thread))
}

impl WorkerLink {
    /// Queues orders. Urgent ones wake the worker, once for many; others wait until it wakes for another reason, a second
    /// at most.
    pub(crate) fn push(&self, orders: impl IntoIterator<Item = Order>, urgent: bool) {
        self.queue.lock().extend(orders);
        self.queued.store(true, Ordering::SeqCst);
        if urgent {
            self.wake();
        }
    }

    /// Ends the thread soon.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if !self.awake.swap(true, Ordering::SeqCst) {
            self.event.notify();
        }
    }
}

struct Worker {
    link: Arc<WorkerLink>,
    epoll: Epoll,
    sink: Arc<dyn MediaSink>,
    /// By slot number.
    slots: Vec<Option<Box<Slot>>>,
    receive: RecvBatch,
    send: SendBatch,
    orders: Vec<Order>,
    /// Ends a wait in which nothing comes.
    ticker: Ticker,
    begun: Instant,
    silence_us: u64,
    rate_bound: u32,
    own: Arc<Own>,
    /// The slot at hand, to be idled should the code fail over it.
    serving: Option<u32>,
}

/// A port pair and its stream, if it has one.
#[repr(C)]
struct Slot {
    pair: Arc<Pair>,
    /// Datagrams to ask the kernel for: one as long as one is what there is.
    bounds: [u8; 2],
    /// Its sockets are in the epoll set.
    watched: bool,
    stream: Option<Stream>,
}

impl Worker {
    fn new(options: &WorkerOptions, sink: Arc<dyn MediaSink>) -> io::Result<Self> {
        let link = Arc::new(WorkerLink {
            queue: Mutex::new(Vec::new()),
            queued: AtomicBool::new(false),
            awake: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            event: EventFd::new()?,
            forwarded: AtomicU64::new(0),
            sessions: AtomicUsize::new(0),
        });
        let epoll = Epoll::new()?;
        epoll.add(&link.event, WAKE)?;
        let silence_us = micros(options.silence);
        let turn = if silence_us == 0 { TURN_MAX } else { (options.silence / 8).clamp(TURN_MIN, TURN_MAX) };
        let ticker = Ticker::every(turn)?;
        epoll.add(&ticker, TICK)?;
        Ok(Self {
            link,
            epoll,
            sink,
            slots: Vec::new(),
            receive: RecvBatch::new(BATCH_MAX, DATAGRAM_MAX),
            send: SendBatch::new(BATCH_MAX),
            orders: Vec::new(),
            begun: Instant::now(),
            ticker,
            silence_us,
            rate_bound: options.packets_per_second,
            own: Arc::clone(&options.own),
            serving: None,
        })
    }

    fn run(&mut self, events: &mut Events) {
        // A wake that was sent before a panic may have been read already: look, then rest.
        let mut linger = true;
        loop {
            if let Err(error) = self.epoll.wait(events, linger.then_some(LINGER)) {
                tracing::error!(%error, "media worker cannot wait");
                return;
            }
            if linger && events.key(0).is_none() {
                linger = false;
                // From here on it must be woken; what came before is found below.
                self.link.awake.store(false, Ordering::SeqCst);
            }
            let mut is_turn = false;
            let mut now_us = 0;
            for index in 0.. {
                if index % CLOCK_EVERY == 0 {
                    now_us = self.now_us();
                }
                match events.key(index) {
                    None => break,
                    Some(TICK) => is_turn = self.ticker.drain() > 0,
                    Some(WAKE) => {
                        self.link.event.drain();
                        linger = true;
                    }
                    Some(key) => {
                        // What is to be served may be for a holder whose order waits.
                        self.obey_if_told();
                        self.serve(key, now_us);
                    }
                }
            }
            if self.link.stopping.load(Ordering::SeqCst) {
                return;
            }
            self.obey_if_told();
            if is_turn {
                self.look_for_silence(self.now_us());
            }
        }
    }

    /// After a panic: the stream that it happened in is given up, the others go on.
    fn bury(&mut self) {
        let slot = self.serving.take().and_then(|slot| self.slot(slot));
        let stream = slot.and_then(|slot| slot.stream.take());
        let call = stream.map(|stream| tracing::field::display(stream.call));
        tracing::error!(call, "media worker failed over a stream, which is given up");
    }

    fn slot(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    fn now_us(&self) -> u64 {
        micros(self.begun.elapsed())
    }

    /// Takes what a socket has and sends it on.
    fn serve(&mut self, key: u64, now_us: u64) {
        let (number, channel) = ((key >> 1) as u32, if key & 1 == 0 { Channel::Rtp } else { Channel::Rtcp });
        self.serving = Some(number);
        let Some(Some(slot)) = self.slots.get_mut(number as usize) else { return };
        if slot.stream.is_none() {
            // Not to be read: it may be for the next holder, whose order comes with its answer.
            slot.watched = false;
            return self.unwatch(number);
        }
        let bound = &mut slot.bounds[channel as usize];
        let socket = slot.pair.socket(channel);
        let count = match self.receive.recv_at_most(socket, usize::from(*bound)) {
            Ok(count) => count,
            Err(error) => return tracing::debug!(number, %error, "media socket"),
        };
        *bound = if count < usize::from(*bound) { 1 } else { (*bound * 4).min(BATCH_MAX as u8) };
        if count == 0 {
            return;
        }
        self.forward(number as usize, channel, now_us);
        self.serving = None;
    }

    /// Judges the datagrams of the batch and sends the good ones by the peer's sockets.
    fn forward(&mut self, number: usize, channel: Channel, now_us: u64) {
        let peer = self.slots[number].as_ref().and_then(|slot| slot.stream.as_ref()?.peer);
        let (slot, mut peer) = match peer.map(|peer| self.slots.get_disjoint_mut([number, peer as usize])) {
            Some(Ok([slot, peer])) => (slot, peer.as_deref_mut()),
            Some(Err(_)) | None => (&mut self.slots[number], None),
        };
        let Some(Slot { pair, stream: Some(stream), .. }) = slot.as_deref_mut() else { return };
        let mut to = peer.as_mut().and_then(|peer| Some((&peer.pair, peer.stream.as_mut()?)));
        to = to.filter(|(_, to)| to.call == stream.call); // a new holder has another call

        let mut passed = [0u32; 2]; // bit sets over the batch: RTP, RTCP
        let (mut packets, mut bytes, mut dropped) = (0, 0, 0);
        for (index, datagram) in (0..).map_while(|index| Some((index, self.receive.get(index)?))) {
            let verdict = if datagram.truncated {
                Verdict::Drop
            } else {
                stream.judge(channel, datagram.bytes, datagram.from, now_us)
            };
            let pass = match verdict {
                Verdict::Rtp => 0,
                Verdict::Rtcp => {
                    if stream.kind == Kind::Rtp {
                        let to = to.as_mut().map(|(_, to)| &mut to.quality);
                        stream.quality.rtcp(datagram.bytes, to, &pair.figures, now_us);
                    }
                    1
                }
                Verdict::Drop => {
                    dropped += 1;
                    continue;
                }
            };
            if pass == 0 {
                packets += 1;
                bytes += datagram.bytes.len() as u64;
            }
            passed[pass] |= 1 << index;
        }
        pair.figures.received(packets, bytes);
        if dropped > 0 {
            pair.figures.dropped(dropped);
        }
        stream.publish(&pair.figures);

        let Some((to_pair, to)) = to else { return };
        for (set, channel) in passed.into_iter().zip([Channel::Rtp, Channel::Rtcp]) {
            let Some((by, address)) = to.destination(channel).filter(|_| set != 0) else { continue };
            let socket = to_pair.socket(by);
            let is_rtp = channel == Channel::Rtp;
            if is_rtp {
                // Before they leave: who has heard the last one may hang up and be reported at once.
                to_pair.figures.sent(packets, bytes);
            }
            let (mut left, mut failed) = (set, 0);
            while left != 0 {
                let messages = Bits(left).filter_map(|index| Some((self.receive.get(index)?.bytes, address)));
                let taken = match self.send.send(socket, messages) {
                    Ok(0) => break, // the socket's buffer is full: media that waits is worth nothing
                    Ok(taken) => taken,
                    Err(_) => {
                        failed |= left & left.wrapping_neg();
                        left &= left - 1; // no route, a filter: this one is gone
                        continue;
                    }
                };
                for _ in 0..taken {
                    left &= left - 1;
                }
                add(&self.link.forwarded, taken as u64);
            }
            failed |= left;
            if is_rtp && failed != 0 {
                let length =
                    |index| self.receive.get(index).map_or(0, |datagram| datagram.bytes.len() as u64);
                to_pair.figures.unsent(failed.count_ones().into(), Bits(failed).map(length).sum());
            }
        }
    }

    fn obey_if_told(&mut self) {
        if self.link.queued.load(Ordering::SeqCst) && self.link.queued.swap(false, Ordering::SeqCst) {
            self.obey();
        }
    }

    fn obey(&mut self) {
        let mut orders = std::mem::take(&mut self.orders);
        std::mem::swap(&mut orders, &mut self.link.queue.lock());
        for order in orders.drain(..) {
            match order {
                Order::Set(pair, setup) => self.set(pair, setup),
                Order::Unlink { slot, generation } => {
                    if let Some(stream) = self.stream(slot, generation) {
                        stream.peer = None;
                        stream.setup.expects = false;
                    }
                }
                Order::Idle { slot, generation } => {
                    if self.stream(slot, generation).is_some()
                        && let Some(slot) = self.slot(slot)
                    {
                        slot.stream = None;
                    }
                }
                Order::Forget { slot } => self.forget(slot),
                Order::Tell(teller) => drop(teller.send(())),
            }
        }
        self.orders = orders; // its memory serves the next time
    }

    fn stream(&mut self, slot: u32, generation: u32) -> Option<&mut Stream> {
        self.slot(slot)?.stream.as_mut().filter(|stream| stream.setup.generation == generation)
    }

    fn set(&mut self, pair: Arc<Pair>, setup: Box<Setup>) {
        let now_us = self.now_us();
        let number = pair.slot as usize;
        if number >= self.slots.len() {
            self.slots.resize_with(number + 1, || None);
        }
        let slot = self.slots[number]
            .get_or_insert_with(|| Box::new(Slot { pair, stream: None, watched: false, bounds: [1; 2] }));
        if !slot.watched {
            slot.watched = true;
            let (pair, key) = (&slot.pair, u64::from(slot.pair.slot) << 1);
            let joined = self.epoll.add(&pair.rtp, key).and_then(|()| self.epoll.add(&pair.rtcp, key | 1));
            if let Err(error) = joined {
                tracing::error!(port = pair.port, %error, "media port cannot be watched; see fs.epoll.max_user_watches");
            }
        }
        match &mut slot.stream {
            Some(stream) if stream.setup.generation == setup.generation => stream.renew(setup, now_us),
            stream => {
                slot.pair.figures.reset(setup.generation);
                *stream = Some(Stream::new(setup, self.rate_bound, Arc::clone(&self.own), now_us));
            }
        }
    }

    fn forget(&mut self, number: u32) {
        if self.slot(number).is_some_and(|slot| std::mem::take(&mut slot.watched)) {
            self.unwatch(number);
        }
        if let Some(slot) = self.slots.get_mut(number as usize) {
            *slot = None;
        }
    }

    fn unwatch(&self, number: u32) {
        let Some(Some(slot)) = self.slots.get(number as usize) else { return };
        for socket in [&slot.pair.rtp, &slot.pair.rtcp] {
            if let Err(error) = self.epoll.remove(socket) {
                tracing::debug!(number, %error, "media socket was not watched");
            }
        }
    }

    /// Compares packet counters with those of the last look; nothing here costs anything per packet.
    fn look_for_silence(&mut self, now_us: u64) {
        if self.silence_us == 0 {
            return;
        }
        for number in 0..self.slots.len() {
            let Some(stream) = self.slots[number].as_mut().and_then(|slot| slot.stream.as_mut()) else {
                continue;
            };
            if stream.was_heard() {
                let (call, watch) = (stream.call, stream.setup.watch);
                if let Some(watcher) = self.slot(watch).and_then(|slot| slot.stream.as_mut())
                    && watcher.call == call
                {
                    watcher.watch.heard = true;
                }
            }
        }
        for slot in self.slots.iter_mut().flatten() {
            let Some(stream) = &mut slot.stream else { continue };
            if stream.setup.watch != slot.pair.slot {
                continue;
            }
            let watch = &mut stream.watch;
            if std::mem::take(&mut watch.heard) || !stream.setup.expects {
                watch.quiet_since_us = now_us;
                watch.reported = false;
            } else if !watch.reported && now_us.saturating_sub(watch.quiet_since_us) >= self.silence_us {
                watch.reported = true;
                self.sink.event(stream.call, MediaEvent::Silent { leg: stream.setup.leg });
            }
        }
    }
}

impl Pair {
    fn socket(&self, channel: Channel) -> &UdpSocket {
        match channel {
            Channel::Rtp => &self.rtp,
            Channel::Rtcp => &self.rtcp,
        }
    }
}

/// The positions of the set bits, ascending.
struct Bits(u32);

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let at = self.0.trailing_zeros();
        (self.0 != 0).then(|| {
            self.0 &= self.0 - 1;
            at as usize
        })
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RelayConfig;
    use crate::ports::{Family, Lease, Ports};
    use crate::stream::{Clocks, Sources};
    use cluster::ids::{CallId, NodeId};
    use cluster::media::{MediaLeg, MediaReply};

    const SILENCE_US: u64 = 60_000_000;

    #[derive(Default)]
    struct Heard(Mutex<Vec<MediaEvent>>);

    impl MediaSink for Heard {
        fn reply(&self, _: CallId, _: u32, _: MediaReply) {}

        fn event(&self, _: CallId, event: MediaEvent) {
            self.0.lock().push(event);
        }
    }

    fn worker() -> (Worker, Arc<Heard>) {
        let heard = Arc::new(Heard::default());
        let options = WorkerOptions {
            name: "test".into(),
            core: None,
            silence: Duration::from_micros(SILENCE_US),
            packets_per_second: 2000,
            own: Arc::new(Own::new(&RelayConfig::default())),
        };
        (Worker::new(&options, Arc::clone(&heard) as Arc<dyn MediaSink>).unwrap(), heard)
    }

    fn leases<const N: usize>() -> [Lease; N] {
        let ports = crate::tests::quiet_range(2 * N as u16);
        let ports = Ports::new(&RelayConfig { ports, ..RelayConfig::default() }, 1, 1024).unwrap();
        std::array::from_fn(|_| ports.take(Family::V4, 0, Instant::now()).unwrap().0)
    }

    /// A stream of leg 3 whose silence is judged at the slot `watch`.
    fn setup(lease: &Lease, watch: &Lease, expects: bool) -> Setup {
        Setup {
            generation: lease.generation,
            call: CallId::new(NodeId(1), 1),
            leg: MediaLeg(3),
            exchange: 1,
            peer: lease.pair.slot,
            watch: watch.pair.slot,
            expects,
            kind: Kind::Rtp,
            mux: false,
            sources: Sources::First,
            rtp: None,
            rtcp: None,
            clocks: Clocks::default(),
        }
    }

    fn talk(worker: &mut Worker, lease: &Lease) {
        let stream = worker.stream(lease.pair.slot, lease.generation).unwrap();
        let packet = [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(stream.judge(Channel::Rtp, &packet, "192.0.2.1:4000".parse().unwrap(), 0), Verdict::Rtp);
    }

    #[test]
    fn a_leg_without_a_packet_on_any_line_is_reported_once() {
        let (mut worker, heard) = worker();
        let [audio, video] = leases();
        worker.set(Arc::clone(&audio.pair), Box::new(setup(&audio, &audio, true)));
        worker.set(Arc::clone(&video.pair), Box::new(setup(&video, &audio, true)));
        let start_us = worker.now_us();
        worker.look_for_silence(start_us);
        talk(&mut worker, &video);
        worker.look_for_silence(start_us + SILENCE_US);
        assert!(heard.0.lock().is_empty(), "one line is enough");
        worker.look_for_silence(start_us + 2 * SILENCE_US - 1);
        assert!(heard.0.lock().is_empty());
        worker.look_for_silence(start_us + 2 * SILENCE_US);
        worker.look_for_silence(start_us + 3 * SILENCE_US);
        assert_eq!(*heard.0.lock(), [MediaEvent::Silent { leg: MediaLeg(3) }], "once");
        talk(&mut worker, &audio);
        worker.look_for_silence(start_us + 4 * SILENCE_US);
        worker.look_for_silence(start_us + 5 * SILENCE_US);
        assert_eq!(heard.0.lock().len(), 2, "again after it had spoken");
    }

    #[test]
    fn a_leg_that_need_not_send_and_one_that_left_are_not_silent() {
        let (mut worker, heard) = worker();
        let [lease] = leases();
        worker.set(Arc::clone(&lease.pair), Box::new(setup(&lease, &lease, false)));
        worker.look_for_silence(2 * SILENCE_US);
        assert!(heard.0.lock().is_empty(), "on hold");
        worker.set(Arc::clone(&lease.pair), Box::new(Setup { exchange: 2, ..setup(&lease, &lease, true) }));
        let resumed_us = worker.now_us();
        worker.look_for_silence(resumed_us + SILENCE_US - 1_000_000);
        assert!(heard.0.lock().is_empty(), "counted from the answer");
        let (slot, generation) = (lease.pair.slot, lease.generation);
        worker.link.push([Order::Unlink { slot, generation }], false);
        worker.obey();
        worker.look_for_silence(resumed_us + 10 * SILENCE_US);
        worker.link.push([Order::Idle { slot, generation }], false);
        worker.obey();
        worker.look_for_silence(resumed_us + 20 * SILENCE_US);
        assert!(heard.0.lock().is_empty());
    }

    #[test]
    fn a_new_holder_starts_with_empty_sockets_and_orders_to_the_old_one_do_not_touch_it() {
        let (mut worker, _) = worker();
        let [lease] = leases();
        let (slot, generation) = (lease.pair.slot, lease.generation);
        worker.set(Arc::clone(&lease.pair), Box::new(setup(&lease, &lease, true)));
        worker.link.push([Order::Idle { slot, generation }], false);
        worker.obey();
        let late = UdpSocket::bind("127.0.0.1:0").unwrap();
        late.send_to(&[0x80; 12], lease.pair.rtp.local_addr().unwrap()).unwrap();
        lease.pair.rtp.set_nonblocking(false).unwrap();
        lease.pair.rtp.peek_from(&mut [0; 1]).unwrap(); // it is there
        lease.pair.rtp.set_nonblocking(true).unwrap();
        worker.serve(u64::from(slot) << 1, 0); // nobody's: it stays where it is
        let next = crate::ports::lease(Arc::clone(&lease.pair));
        assert_ne!(next.generation, generation);
        worker.set(Arc::clone(&next.pair), Box::new(setup(&next, &next, true)));
        worker.serve(u64::from(slot) << 1, 0);
        assert_eq!(next.pair.figures.seen(next.generation), crate::figures::Seen::default());
        worker.link.push([Order::Idle { slot, generation }, Order::Unlink { slot, generation }], false);
        worker.obey();
        assert!(worker.stream(slot, next.generation).unwrap().peer.is_some());
    }

    #[test]
    fn a_forgotten_pair_can_join_another_worker() {
        let ((mut one, _), (mut two, _)) = (worker(), worker());
        let [lease] = leases();
        one.set(Arc::clone(&lease.pair), Box::new(setup(&lease, &lease, true)));
        one.link.push([Order::Forget { slot: lease.pair.slot }], false);
        one.obey();
        two.set(Arc::clone(&lease.pair), Box::new(setup(&lease, &lease, true)));
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", lease.pair.rtp.local_addr().unwrap()).unwrap();
        let mut events = Events::new(4);
        assert_eq!(two.epoll.wait(&mut events, None).unwrap(), 1);
        assert_eq!(one.epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
    }

    #[test]
    fn a_failed_stream_is_given_up() {
        let (mut worker, _) = worker();
        let [lease] = leases();
        worker.set(Arc::clone(&lease.pair), Box::new(setup(&lease, &lease, true)));
        worker.serving = Some(lease.pair.slot);
        worker.bury();
        assert!(worker.stream(lease.pair.slot, lease.generation).is_none());
        worker.bury();
    }

    #[test]
    fn many_urgent_orders_are_one_wake_up() {
        let (worker, _) = worker();
        for _ in 0..3 {
            worker.link.push([Order::Forget { slot: 0 }], true);
        }
        assert!(worker.link.event.drain());
        worker.link.push([Order::Forget { slot: 0 }], true);
        assert!(!worker.link.event.drain(), "a wake-up is under way as long as the worker has not seen it");
    }
}
