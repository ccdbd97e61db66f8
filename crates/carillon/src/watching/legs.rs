//! Legs of this node's proxy as they are watched: how long callers wait until it rings and until somebody answers, and a span of
//! each leg of a traced call.
//!
//! In: legs that begin and end (`tap`), what calls and legs tell each other, which passes through [`ProxyCalls`] and [`ProxyLegs`].
//! Out: histograms, spans. Elsewhere: the spans of the call itself (`calls`).

use bytes::Bytes;
use cluster::between::{LegNames, Title};
use cluster::ids::{CallId, LegId, NodeId};
use cluster::leg::{Calls, Incoming, LegCommand, LegEvent, LegHost, Legs, Originate};
use parking_lot::Mutex;
use proxy::Direction;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;
use telemetry::{Histogram, Span, SpanId, TraceId, Tracer, unix_ns};

/// Bounds of a call's set-up, in seconds: milliseconds here, then telephones, then people.
const SET_UP: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 180.0];
/// Legs are spread over so many tables, each with a lock of its own.
const SHARDS: usize = 32;

/// Steps of a leg, by number: the names of their spans are made of it.
const AUTHENTICATION: u64 = 1;
const RINGING: u64 = 2;

/// A call's name as a number.
pub(super) fn number(call: CallId) -> u64 {
    u64::from(call.node().0) << 48 | call.counter()
}

/// A leg that is watched.
struct Seen {
    way: Direction,
    /// When it began, while a caller waits; for histograms.
    waiting: Option<Instant>,
    /// He has heard it ring.
    rang: bool,
    trail: Option<Box<Trail>>,
}

/// What the span of a traced leg will say.
struct Trail {
    sip_call_id: String,
    start_ns: u64,
    ringing_ns: Option<u64>,
    answered_ns: Option<u64>,
    status: u16,
    end: &'static str,
}

/// All legs that are watched.
pub(crate) struct LegWatch {
    shards: [Mutex<HashMap<LegId, Seen>>; SHARDS],
    /// From the INVITE to what lets the caller hear that it rings.
    pub(super) to_ringing: Histogram,
    /// From the INVITE to the answer.
    pub(super) to_answer: Histogram,
    tracer: Option<Arc<Tracer>>,
    node: Arc<AtomicU16>,
}

impl LegWatch {
    pub(super) fn new(tracer: Option<Arc<Tracer>>, node: Arc<AtomicU16>) -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            to_ringing: Histogram::new(SET_UP),
            to_answer: Histogram::new(SET_UP),
            tracer,
            node,
        })
    }

    fn shard(&self, leg: LegId) -> &Mutex<HashMap<LegId, Seen>> {
        &self.shards[leg.as_u64() as usize % SHARDS]
    }

    fn tracer(&self, call: CallId) -> Option<&Tracer> {
        self.tracer.as_deref().filter(|tracer| tracer.samples(number(call)))
    }

    /// A leg begins. Each one that is kept goes when it ends, so there are no more than there are legs.
    pub(super) fn began(&self, call: CallId, leg: LegId, way: Direction, sip_call_id: &str, since: Instant) {
        let now_ns = unix_ns();
        let trail = self.tracer(call).map(|tracer| {
            let before = u64::try_from(since.elapsed().as_nanos()).unwrap_or(0);
            let start_ns = now_ns.saturating_sub(before);
            if way == Direction::In {
                tracer.end(self.step(call, leg, AUTHENTICATION, "authentication", start_ns, now_ns));
            }
            let sip_call_id = sip_call_id.to_owned();
            Box::new(Trail { sip_call_id, start_ns, ringing_ns: None, answered_ns: None, status: 0, end: "" })
        });
        let waiting = (way == Direction::In).then_some(since);
        if waiting.is_some() || trail.is_some() {
            self.shard(leg).lock().insert(leg, Seen { way, waiting, rang: false, trail });
        }
    }

    /// A leg is gone.
    pub(super) fn ended(&self, call: CallId, leg: LegId) {
        let Some(Seen { way, trail: Some(trail), .. }) = self.shard(leg).lock().remove(&leg) else { return };
        let Some(tracer) = self.tracer(call) else { return };
        let now_ns = unix_ns();
        let Trail { sip_call_id, start_ns, ringing_ns, answered_ns, status, end } = *trail;
        if let Some(ringing_ns) = ringing_ns {
            let until = answered_ns.unwrap_or(now_ns);
            tracer.end(self.step(call, leg, RINGING, "ringing", ringing_ns, until));
        }
        let name = match way {
            Direction::In => "leg in",
            Direction::Out => "leg out",
        };
        let mut attributes = vec![
            ("carillon.call", call.to_string().into()),
            ("carillon.leg", leg.to_string().into()),
            ("carillon.node", u32::from(self.node.load(Ordering::Relaxed)).into()),
            ("sip.call_id", sip_call_id.into()),
            ("sip.direction", if way == Direction::In { "in" } else { "out" }.into()),
        ];
        if status != 0 {
            attributes.push(("sip.status", status.into()));
        }
        if !end.is_empty() {
            attributes.push(("carillon.end", end.into()));
        }
        tracer.end(Span {
            trace: TraceId::of_call(number(call)),
            id: SpanId::of_leg(leg.as_u64()),
            parent: Some(SpanId::of_call(number(call))),
            name,
            start_ns,
            end_ns: now_ns,
            attributes,
            failed: status >= 500 || end == "lost",
        });
    }

    fn step(
        &self,
        call: CallId,
        leg: LegId,
        step: u64,
        name: &'static str,
        start_ns: u64,
        end_ns: u64,
    ) -> Span {
        let of = SpanId::of_leg(leg.as_u64());
        Span {
            trace: TraceId::of_call(number(call)),
            id: of.step(step),
            parent: Some(of),
            name,
            start_ns,
            end_ns,
            attributes: vec![("carillon.node", u32::from(self.node.load(Ordering::Relaxed)).into())],
            failed: false,
        }
    }

    /// A call tells a leg what to do.
    fn commanded(&self, leg: LegId, command: &LegCommand) {
        let (status, end) = match command {
            LegCommand::Progress { status, .. } => (*status, ""),
            LegCommand::Accept { .. } => (200, ""),
            LegCommand::Reject { status, .. } => (*status, "refused"),
            LegCommand::Bye { .. } => (0, "hung up by us"),
            LegCommand::Cancel { .. } => (0, "cancelled by us"),
            _ => return,
        };
        let mut shard = self.shard(leg).lock();
        let Some(seen) = shard.get_mut(&leg) else { return };
        if seen.way == Direction::In {
            self.reached(seen, status);
        }
        if let Some(trail) = seen.trail.as_mut().filter(|_| !end.is_empty()) {
            trail.end = end;
        }
    }

    /// A leg tells its call what happened.
    fn happened(&self, leg: LegId, event: &LegEvent) {
        let (status, end) = match event {
            LegEvent::Progress { status, .. } => (*status, ""),
            LegEvent::Answered { .. } => (200, ""),
            LegEvent::Rejected { status, .. } => (*status, "refused"),
            LegEvent::Cancelled { .. } => (487, "cancelled"),
            LegEvent::Ended { by_peer: true, .. } => (0, "hung up"),
            LegEvent::Ended { by_peer: false, .. } => (0, "hung up by us"),
            _ => return,
        };
        let mut shard = self.shard(leg).lock();
        let Some(seen) = shard.get_mut(&leg) else { return };
        if seen.way == Direction::Out || status == 487 {
            self.reached(seen, status);
        }
        if let Some(trail) = seen.trail.as_mut().filter(|trail| !end.is_empty() && trail.end.is_empty()) {
            trail.end = end;
        }
    }

    /// The INVITE of a leg has got this answer; 0: none.
    fn reached(&self, seen: &mut Seen, status: u16) {
        let rings = (180..190).contains(&status);
        if let Some(since) = seen.waiting {
            if rings && !seen.rang {
                self.to_ringing.observe(since.elapsed());
                seen.rang = true;
            }
            if status == 200 {
                self.to_answer.observe(since.elapsed());
            }
            if status >= 200 {
                seen.waiting = None;
            }
        }
        if let Some(trail) = seen.trail.as_mut().filter(|trail| status != 0 && trail.status < 200) {
            trail.status = status;
            if rings && trail.ringing_ns.is_none() {
                trail.ringing_ns = Some(unix_ns());
            }
            if status >= 200 {
                trail.answered_ns = Some(unix_ns());
            }
        }
    }

    fn lost(&self, leg: LegId) {
        if let Some(trail) = self.shard(leg).lock().get_mut(&leg).and_then(|seen| seen.trail.as_mut()) {
            trail.end = "lost";
        }
    }

    /// Legs that are kept now.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

/// Who decides about calls, seen from the proxy.
pub(super) struct ProxyCalls {
    pub(super) inner: Arc<dyn Calls>,
    pub(super) legs: Arc<LegWatch>,
}

impl Calls for ProxyCalls {
    fn incoming(&self, incoming: Incoming) -> bool {
        let leg = incoming.leg;
        let taken = self.inner.incoming(incoming);
        if !taken {
            let headers = sip::draft::HeaderText::new();
            self.legs.commanded(leg, &LegCommand::Reject { status: 503, reason: None, headers });
        }
        taken
    }

    fn event(&self, call: CallId, leg: LegId, event: LegEvent) {
        self.legs.happened(leg, &event);
        self.inner.event(call, leg, event);
    }

    fn leg_lost(&self, call: CallId, leg: LegId) {
        self.legs.lost(leg);
        self.inner.leg_lost(call, leg);
    }

    fn leg_state(&self, call: CallId, leg: LegId, state: Bytes) {
        self.inner.leg_state(call, leg, state);
    }

    fn leg_leaves(&self, call: CallId, leg: LegId) {
        self.inner.leg_leaves(call, leg);
    }

    fn stray(&self, call: CallId, leg: LegId) -> bool {
        self.inner.stray(call, leg)
    }

    fn revived(&self, call: CallId, leg: LegId, lives: bool) {
        self.inner.revived(call, leg, lives);
    }
}

/// The proxy's legs, seen from who orders them in the same process: what only a cluster needs is as for any proxy.
pub(super) struct ProxyLegs {
    pub(super) inner: Arc<dyn Legs>,
    pub(super) legs: Arc<LegWatch>,
}

impl Legs for ProxyLegs {
    fn originate(&self, title: Title, order: Originate) -> Option<(LegId, String)> {
        self.inner.originate(title, order)
    }

    fn command(&self, title: Title, home: NodeId, leg: LegId, command: LegCommand) {
        self.legs.commanded(leg, &command);
        self.inner.command(title, home, leg, command);
    }
}

/// The proxy's legs, seen from the switchboard of its node.
pub(super) struct ProxyHost {
    pub(super) inner: Arc<dyn LegHost>,
    pub(super) legs: Arc<LegWatch>,
}

impl LegHost for ProxyHost {
    fn originate_as(&self, call: CallId, leg: LegId, sip_call_id: String, order: Originate) {
        self.inner.originate_as(call, leg, sip_call_id, order);
    }

    fn command(&self, leg: LegId, command: LegCommand) {
        self.legs.commanded(leg, &command);
        self.inner.command(leg, command);
    }

    fn revive(&self, call: CallId, leg: LegId, state: Bytes) {
        self.inner.revive(call, leg, state);
    }

    fn part(&self, leg: LegId) {
        self.inner.part(leg);
    }

    fn no_stray(&self, leg: LegId) {
        self.inner.no_stray(leg);
    }

    fn names(&self, count: u32) -> Vec<LegNames> {
        self.inner.names(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sip::draft::HeaderText;
    use std::time::Duration;

    fn progress(status: u16) -> LegCommand {
        LegCommand::Progress { status, sdp: None, headers: HeaderText::new() }
    }

    fn total(histogram: &Histogram) -> (u64, f64) {
        let buckets = histogram.buckets();
        (buckets.counts.iter().sum(), buckets.sum)
    }

    #[test]
    fn callers_wait_until_it_rings_and_until_somebody_answers_and_no_leg_stays() {
        let watch = LegWatch::new(None, Arc::default());
        let (call, leg, other) =
            (CallId::new(NodeId(1), 1), LegId::new(NodeId(1), 0, 1), LegId::new(NodeId(1), 0, 2));
        let long_ago = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        watch.began(call, leg, Direction::In, "a", long_ago);
        watch.began(call, other, Direction::Out, "b", long_ago);
        assert_eq!(watch.count(), 1, "without traces only callers are watched");
        watch.commanded(leg, &progress(183));
        watch.commanded(leg, &progress(180));
        watch.happened(other, &LegEvent::Progress { status: 180, sdp: None, fork: 0 });
        assert_eq!(total(&watch.to_ringing).0, 1, "the first word counts");
        assert!(total(&watch.to_ringing).1 >= 100.0);
        watch.commanded(leg, &LegCommand::Accept { sdp: None, headers: HeaderText::new() });
        watch.commanded(leg, &progress(180));
        watch.commanded(leg, &LegCommand::Accept { sdp: None, headers: HeaderText::new() });
        assert_eq!((total(&watch.to_ringing).0, total(&watch.to_answer).0), (1, 1));
        watch.ended(call, other);
        watch.ended(call, leg);
        assert_eq!(watch.count(), 0);
    }

    #[test]
    fn a_caller_who_is_refused_has_no_time_of_set_up() {
        let watch = LegWatch::new(None, Arc::default());
        let (call, leg) = (CallId::new(NodeId(1), 1), LegId::new(NodeId(1), 0, 1));
        watch.began(call, leg, Direction::In, "a", Instant::now());
        watch.commanded(leg, &LegCommand::Reject { status: 486, reason: None, headers: HeaderText::new() });
        watch.commanded(leg, &LegCommand::Accept { sdp: None, headers: HeaderText::new() });
        assert_eq!((total(&watch.to_ringing).0, total(&watch.to_answer).0), (0, 0));
    }
}
