//! Two endpoints over a network that loses, repeats and reorders, driven by a seed.
//!
//! In: seeds. Out: a panic that names the seed when a user saw what it must not see, or when something was left over. The
//! simulator sleeps exactly to the next deadline. Elsewhere: single rules (the ladders beside each machine).

use super::testing::{draft, parse};
use super::*;
use crate::msg::Method;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};

/// What a seed is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plot {
    Register { status: u16 },
    Refused { status: u16 },
    Answered,
    Cancelled { after: Duration },
}

/// What the caller's user has seen of one request.
#[derive(Default, Debug)]
struct Caller {
    plot: Option<Plot>,
    finals: Vec<u16>,
    failed: bool,
}

/// What the answering user does with one request.
#[derive(Debug)]
struct Callee {
    seq: u32,
    steps: Vec<(Instant, u16)>,
    answered: Option<u16>,
    accepted: Option<Repeat>,
    cancelled: bool,
    no_ack: bool,
}

/// The repeating of a 2xx (RFC 6026 section 8.1).
#[derive(Debug)]
struct Repeat {
    next: Instant,
    pause: Duration,
    until: Instant,
}

struct World {
    seed: u64,
    rng: StdRng,
    now: Instant,
    reliable: bool,
    loss: u32,
    /// Whoever is in flight: when it arrives, at whom (0 the caller, 1 the callee).
    wire: BTreeMap<(Instant, u64), (usize, Bytes)>,
    sent: u64,
    ends: [Transactions; 2],
    callers: BTreeMap<u32, Caller>,
    callees: BTreeMap<ServerId, Callee>,
    started: BTreeSet<u32>,
    acked: BTreeSet<u32>,
    cancels: Vec<(Instant, u32)>,
}

const REQUESTS: u32 = 12;

impl World {
    fn new(seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let reliable = seed.is_multiple_of(5);
        let sent_by = "192.0.2.1:5060".to_owned();
        let transport = if reliable { Transport::Tcp } else { Transport::Udp };
        let cfg = |shard| Config {
            via_hosts: vec![ListenerVia { transport, sent_by: sent_by.clone() }],
            trying_immediately: seed.is_multiple_of(2),
            max_transactions: 64,
            shard,
            ..Config::default()
        };
        World {
            seed,
            #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
            now: Instant::now(),
            reliable,
            loss: if reliable { 0 } else { rng.random_range(0..60) },
            wire: BTreeMap::new(),
            sent: 0,
            ends: [Transactions::new(cfg(0), [seed as u8; 32]), Transactions::new(cfg(1), [!seed as u8; 32])],
            callers: BTreeMap::new(),
            callees: BTreeMap::new(),
            started: BTreeSet::new(),
            acked: BTreeSet::new(),
            cancels: Vec::new(),
            rng,
        }
    }

    fn destination(&self) -> Destination {
        let (transport, conn) =
            if self.reliable { (Transport::Tcp, ConnId(3)) } else { (Transport::Udp, ConnId(0)) };
        let flow = Flow { transport, listener: 0, remote: "192.0.2.1:5060".parse().unwrap(), conn };
        Destination { flow, stream_first: false }
    }

    fn ms(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }

    fn run(&mut self) {
        let mut starts: Vec<(Instant, u32)> =
            (0..REQUESTS).map(|seq| (self.now + self.ms(0..20_000), seq)).collect();
        starts.sort();
        let mut starts = VecDeque::from(starts);
        loop {
            let next = [
                starts.front().map(|(at, _)| *at),
                self.wire.keys().next().map(|(at, _)| *at),
                self.ends[0].poll_timeout(),
                self.ends[1].poll_timeout(),
                self.cancels.iter().map(|(at, _)| *at).min(),
                self.callees.values().filter_map(Callee::next).min(),
            ];
            let Some(next) = next.into_iter().flatten().min() else { return };
            self.now = self.now.max(next);
            if let Some((_, seq)) = starts.pop_front_if(|(at, _)| *at <= self.now) {
                self.start(seq);
            }
            while let Some(first) = self.wire.first_entry().filter(|first| first.key().0 <= self.now) {
                let (end, bytes) = first.remove();
                let flow = self.destination().flow;
                self.ends[end].handle_message(parse(bytes), flow, self.now);
                self.drain();
            }
            self.ends[0].handle_timeout(self.now);
            self.ends[1].handle_timeout(self.now);
            self.drain();
            self.users();
            self.drain();
        }
    }

    fn start(&mut self, seq: u32) {
        let plot = match self.rng.random_range(0..5) {
            0 => Plot::Register { status: [200, 401, 500][self.rng.random_range(0..3)] },
            1 => Plot::Refused { status: [302, 486, 603][self.rng.random_range(0..3)] },
            2 | 3 => Plot::Answered,
            _ => Plot::Cancelled { after: self.ms(0..4000) },
        };
        let method = if let Plot::Register { .. } = plot { "REGISTER" } else { "INVITE" };
        let mut request = draft(method, 0);
        request.headers.set("Call-ID", format!("call-{seq}"));
        let key = ClientKey { owner: 0, seq };
        self.ends[0].request(key, request, self.destination(), self.now).unwrap();
        self.callers.insert(seq, Caller { plot: Some(plot), ..Caller::default() });
        if let Plot::Cancelled { after } = plot {
            self.cancels.push((self.now + after, seq));
        }
        self.drain();
    }

    /// What the users do by themselves.
    fn users(&mut self) {
        let now = self.now;
        let due: Vec<u32> = self.cancels.extract_if(.., |(at, _)| *at <= now).map(|(_, seq)| seq).collect();
        for seq in due {
            self.ends[0].cancel(ClientKey { owner: 0, seq }, None, now);
        }
        for (id, callee) in &mut self.callees {
            while let Some((_, status)) = callee.steps.pop_if(|(at, _)| *at <= now) {
                self.ends[1].respond(*id, &ResponseDraft::new(status), now);
                if status >= 200 {
                    callee.answered = Some(status);
                    callee.steps.clear();
                    let pause = Duration::from_millis(500);
                    callee.accepted = (status < 300
                        && self.callers[&callee.seq].plot == Some(Plot::Answered))
                    .then(|| Repeat { next: now + pause, pause, until: now + pause * 64 });
                }
            }
            if let Some(repeat) = callee.accepted.take_if(|repeat| repeat.next <= now)
                && now < repeat.until
            {
                self.ends[1].respond(*id, &ResponseDraft::new(200), now);
                let pause = (repeat.pause * 2).min(Duration::from_secs(4));
                callee.accepted = Some(Repeat { next: now + pause, pause, ..repeat });
            }
        }
    }

    fn drain(&mut self) {
        for end in 0..2 {
            while let Some(event) = self.ends[end].poll_event() {
                if end == 0 { self.caller_sees(event) } else { self.callee_sees(event) }
            }
            while let Some(transmit) = self.ends[end].poll_transmit() {
                self.carry(1 - end, transmit.bytes);
            }
        }
    }

    fn carry(&mut self, to: usize, bytes: Bytes) {
        let copies = match self.rng.random_range(0..100) {
            _ if self.reliable => 1,
            lot if lot < self.loss => 0,
            lot if lot > 90 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let delay = if self.reliable { Duration::from_millis(30) } else { self.ms(1..1500) };
            self.sent += 1;
            self.wire.insert((self.now + delay, self.sent), (to, bytes.clone()));
        }
    }

    fn caller_sees(&mut self, event: Event) {
        let seed = self.seed;
        match event {
            Event::Response { key, msg, .. } => {
                let caller = self.callers.get_mut(&key.seq).unwrap();
                assert!(!caller.failed, "seed {seed}: {key:?} got an answer after it had failed");
                if msg.status() < 200 {
                    assert!(caller.finals.is_empty(), "seed {seed}: provisional after final for {key:?}");
                    return;
                }
                let repeated_2xx = caller.plot != Some(Plot::Register { status: 200 })
                    && msg.status() < 300
                    && caller.finals.iter().all(|status| *status < 300);
                assert!(caller.finals.is_empty() || repeated_2xx, "seed {seed}: {key:?} {caller:?}");
                caller.finals.push(msg.status());
                if msg.status() < 300 && msg.method() == Method::Invite {
                    let mut ack = draft("ACK", 0);
                    ack.headers.set("Call-ID", format!("call-{}", key.seq));
                    ack.headers.set("To", msg.header(crate::msg::HeaderId::To).unwrap());
                    self.ends[0].send_ack(ack, self.destination());
                }
            }
            Event::Timeout { key } => {
                let caller = self.callers.get_mut(&key.seq).unwrap();
                assert!(caller.finals.is_empty() && !caller.failed, "seed {seed}: {key:?} {caller:?}");
                caller.failed = true;
                let cancelled = matches!(caller.plot, Some(Plot::Cancelled { .. }));
                assert!(!self.reliable || cancelled, "seed {seed}: time-out without loss");
            }
            Event::Request { .. }
            | Event::Ack { .. }
            | Event::Cancelled { .. }
            | Event::TransportError { .. }
            | Event::NoAck { .. }
            | Event::Unanswered { .. } => panic!("seed {seed}: the caller saw {event:?}"),
        }
    }

    fn callee_sees(&mut self, event: Event) {
        let seed = self.seed;
        let seq_of = |msg: &Message| -> u32 {
            std::str::from_utf8(msg.call_id()).unwrap().strip_prefix("call-").unwrap().parse().unwrap()
        };
        match event {
            Event::Request { id, msg, .. } => {
                let seq = seq_of(&msg);
                assert!(self.started.insert(seq), "seed {seed}: request {seq} came twice");
                let steps = match self.callers[&seq].plot.unwrap() {
                    Plot::Register { status } => vec![(self.now + self.ms(0..5000), status)],
                    Plot::Refused { status } => {
                        vec![(self.now + self.ms(2000..9000), status), (self.now + self.ms(0..2000), 180)]
                    }
                    Plot::Answered => {
                        vec![(self.now + self.ms(2000..9000), 200), (self.now + self.ms(0..2000), 180)]
                    }
                    Plot::Cancelled { .. } => vec![(self.now + self.ms(0..5000), 180)],
                };
                let callee =
                    Callee { seq, steps, answered: None, accepted: None, cancelled: false, no_ack: false };
                let old = self.callees.insert(id, callee);
                assert!(old.is_none(), "seed {seed}: {id:?} was used twice");
            }
            Event::Ack { msg, .. } => {
                let seq = seq_of(&msg);
                let callee = self.callees.values_mut().find(|callee| callee.seq == seq).unwrap();
                // An ACK of a failure finds nothing any more when timer H was faster: a stray.
                assert!(callee.answered == Some(200) || callee.no_ack, "seed {seed}: {callee:?}");
                callee.accepted = None;
                self.acked.insert(seq);
            }
            Event::Cancelled { id, .. } => {
                let callee = self.callees.get_mut(&id).unwrap();
                assert!(!callee.cancelled && callee.answered.is_none(), "seed {seed}: {callee:?}");
                callee.cancelled = true;
                callee.steps = vec![(self.now, 487)];
            }
            Event::NoAck { id } => {
                let callee = self.callees.get_mut(&id).unwrap();
                assert!(!callee.no_ack, "seed {seed}: {callee:?}");
                assert!(callee.answered.is_some_and(|status| status >= 300), "seed {seed}: {callee:?}");
                assert!(!self.reliable, "seed {seed}: an ACK got lost without loss");
                callee.no_ack = true;
            }
            // Whom the caller gave up without a CANCEL that arrived.
            Event::Unanswered { id } => {
                let callee = self.callees.get_mut(&id).unwrap();
                let plot = self.callers[&callee.seq].plot;
                assert!(matches!(plot, Some(Plot::Cancelled { .. })), "seed {seed}: {callee:?}");
                assert!(callee.answered.is_none() && !callee.cancelled, "seed {seed}: {callee:?}");
                callee.answered = Some(500);
            }
            Event::Response { .. } | Event::Timeout { .. } | Event::TransportError { .. } => {
                panic!("seed {seed}: the callee saw {event:?}")
            }
        }
    }

    /// Nothing is left, and both users agree.
    fn check(&self) {
        let seed = self.seed;
        for end in &self.ends {
            assert_eq!((end.open(), end.poll_timeout()), (0, None), "seed {seed}");
        }
        assert_eq!(self.callers.len(), REQUESTS as usize);
        for (seq, caller) in &self.callers {
            assert!(
                caller.failed == caller.finals.is_empty(),
                "seed {seed}: request {seq} has no end: {caller:?}"
            );
            let callee = self.callees.values().find(|callee| callee.seq == *seq);
            for status in &caller.finals {
                let answered = callee.and_then(|callee| callee.answered);
                assert_eq!(Some(*status), answered, "seed {seed}: request {seq}");
            }
            if self.reliable && caller.plot == Some(Plot::Answered) {
                assert!(self.acked.contains(seq), "seed {seed}: request {seq} was never acknowledged");
            }
        }
    }
}

impl Callee {
    fn next(&self) -> Option<Instant> {
        let step = self.steps.last().map(|(at, _)| *at);
        let repeat = self.accepted.as_ref().map(|repeat| repeat.next);
        step.into_iter().chain(repeat).min()
    }
}

#[test]
fn over_any_network_every_request_ends_once_and_nothing_is_left() {
    let mut finals = 0;
    let mut failed = 0;
    for seed in 0..600 {
        let mut world = World::new(seed);
        world.run();
        world.check();
        finals += world.callers.values().filter(|caller| !caller.finals.is_empty()).count();
        failed += world.callers.values().filter(|caller| caller.failed).count();
    }
    // The seeds are fixed: were nothing lost, or nothing delivered, this would prove little.
    assert!(finals > 5000 && failed > 30, "{finals} final responses, {failed} failures");
}
