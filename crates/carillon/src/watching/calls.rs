//! The spans of a traced call that its owner knows of: the call itself, the decision where it goes, what the relay was asked, the
//! conversation.
//!
//! In: what passes between the application server of this node and proxies, relays and its log. Out: spans, whose names other nodes
//! derive, too (crate `telemetry`). Elsewhere: the spans of legs (`legs`).
//!
//! A node that begins a span of a call whose owner is elsewhere needs no word with it: the trace is `TraceId::of_call`, the parent
//! `SpanId::of_call` or, below a leg, `SpanId::of_leg`, and `Tracer::samples` says on every node the same.

use super::figures::{Outcome, Outcomes};
use super::legs::number;
use appserver::CallLog;
use cluster::between::{Title, ToCalls, ToLegs};
use cluster::counters::Verdict;
use cluster::ids::{CallId, LegId, NodeId};
use cluster::leg::{Calls, Incoming, LegCommand, LegEvent, Legs, Originate};
use cluster::media::{Media, MediaCommand, MediaEvent, MediaReply, MediaSink, Signalling};
use cluster::switchboard::CallServer;
use model::{Cdr, Client, HungUpBy, Id, OpenCall};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use telemetry::{Attribute, Span, SpanId, TraceId, Tracer, unix_ns};

/// Calls are spread over so many tables, each with a lock of its own.
const SHARDS: usize = 32;
/// Traced calls of one table, and how long one stays when there are more.
const TRACED_MAX: usize = 8192;
const FORGOTTEN: Duration = Duration::from_secs(86_400);
/// Most spans of a call for what its relay was asked: one that puts the other on hold for ever has no more.
const ASKED_MAX: u32 = 64;
/// Questions to a relay elsewhere that are open.
const OPEN_MAX: usize = 32;

/// Steps of a call, by number: the names of their spans are made of it. From `ASKED` on: questions to the relay, by ticket.
const ROUTING: u64 = 1;
const TALKING: u64 = 2;
const ASKED: u64 = 1000;

/// A traced call that goes on.
struct Trail {
    start_ns: u64,
    /// It was decided where it goes.
    routed: bool,
    asked: u32,
    /// Questions that a relay elsewhere has not answered yet.
    open: Vec<(u32, &'static str, u64)>,
}

/// What the spans of a call that has ended will say.
struct Story {
    call: CallId,
    start_ns: u64,
    answer_ns: Option<u64>,
    end_ns: u64,
    failed: bool,
    attributes: Vec<(&'static str, Attribute)>,
}

/// All traced calls of this node.
pub(crate) struct CallWatch {
    tracer: Arc<Tracer>,
    node: Arc<AtomicU16>,
    shards: [Mutex<HashMap<CallId, Trail>>; SHARDS],
}

impl CallWatch {
    pub(super) fn new(tracer: Arc<Tracer>, node: Arc<AtomicU16>) -> Arc<Self> {
        Arc::new(Self { tracer, node, shards: std::array::from_fn(|_| Mutex::default()) })
    }

    fn shard(&self, call: CallId) -> &Mutex<HashMap<CallId, Trail>> {
        &self.shards[call.counter() as usize % SHARDS]
    }

    /// A call is this node's from now on. Each one that is kept goes with its record, which every call has.
    fn began(&self, call: CallId) {
        if self.tracer.samples(number(call)) {
            let trail = Trail { start_ns: unix_ns(), routed: false, asked: 0, open: Vec::new() };
            let mut shard = self.shard(call).lock();
            if shard.len() >= TRACED_MAX {
                // Those that another node took over, and whose record it writes.
                let lately = trail.start_ns.saturating_sub(FORGOTTEN.as_nanos() as u64);
                shard.retain(|_, old| old.start_ns >= lately);
            }
            if shard.len() < TRACED_MAX {
                shard.insert(call, trail);
            }
        }
    }

    /// The call does its first step: where it goes was decided before.
    fn routed(&self, call: CallId) {
        if !self.tracer.samples(number(call)) {
            return;
        }
        let began = self.shard(call).lock().get_mut(&call).and_then(|trail| {
            let is_first = !std::mem::replace(&mut trail.routed, true);
            is_first.then_some(trail.start_ns)
        });
        if let Some(start_ns) = began {
            self.step(call, ROUTING, "routing", start_ns, unix_ns(), Vec::new(), false);
        }
    }

    /// A relay is asked something; out: what to call it, if there shall be a span of it.
    fn asks(&self, call: CallId, command: &MediaCommand) -> Option<(&'static str, u64)> {
        let name = match command {
            MediaCommand::Offer { .. } => "relay offer",
            MediaCommand::Answer { .. } => "relay answer",
            MediaCommand::Withdraw { .. }
            | MediaCommand::Release { .. }
            | MediaCommand::Stop
            | MediaCommand::Close => return None,
        };
        self.routed(call);
        let mut shard = self.shard(call).lock();
        let trail = shard.get_mut(&call).filter(|trail| trail.asked < ASKED_MAX)?;
        trail.asked += 1;
        Some((name, unix_ns()))
    }

    /// It will answer later.
    fn waits(&self, call: CallId, ticket: u32, (name, start_ns): (&'static str, u64)) {
        if let Some(trail) =
            self.shard(call).lock().get_mut(&call).filter(|trail| trail.open.len() < OPEN_MAX)
        {
            trail.open.push((ticket, name, start_ns));
        }
    }

    /// It answers at last.
    fn replied(&self, call: CallId, ticket: u32, reply: &MediaReply) {
        if !self.tracer.samples(number(call)) {
            return;
        }
        let open = self.shard(call).lock().get_mut(&call).and_then(|trail| {
            let at = trail.open.iter().position(|(each, ..)| *each == ticket)?;
            Some(trail.open.swap_remove(at))
        });
        if let Some((_, name, start_ns)) = open {
            self.answered(call, ticket, (name, start_ns), reply);
        }
    }

    fn answered(&self, call: CallId, ticket: u32, (name, start_ns): (&'static str, u64), reply: &MediaReply) {
        let refused = match reply {
            MediaReply::Refused(error) => vec![("carillon.refused", error.to_string().into())],
            MediaReply::Sdp(_) | MediaReply::Done | MediaReply::Report(_) => Vec::new(),
        };
        let failed = !refused.is_empty();
        self.step(call, ASKED + u64::from(ticket), name, start_ns, unix_ns(), refused, failed);
    }

    /// A call's record is made: what will be told when it is durable, if anything.
    fn story(&self, cdr: &Cdr) -> Option<Story> {
        let call = cdr.call.parse().ok().filter(|call| self.tracer.samples(number(*call)))?;
        let ns = |us: i64| u64::try_from(us).unwrap_or(0).saturating_mul(1000);
        let outcome = Outcome::of(cdr);
        let by = match cdr.hung_up_by {
            HungUpBy::Caller => "caller",
            HungUpBy::Callee => "callee",
            HungUpBy::Platform => "platform",
        };
        Some(Story {
            call,
            start_ns: ns(cdr.started_us),
            answer_ns: cdr.answered_us.map(ns),
            end_ns: ns(cdr.ended_us),
            failed: outcome == Outcome::Failed,
            attributes: vec![
                ("carillon.brand", cdr.brand.get().into()),
                ("carillon.client", cdr.client.get().into()),
                ("carillon.outcome", outcome.name().into()),
                ("carillon.hung_up_by", by.into()),
                ("sip.status", cdr.cause.status.into()),
            ],
        })
    }

    /// The record is durable, which happens once, on the node that the call ended on: the call, told whole.
    fn ended(&self, story: Story) {
        let Story { call, start_ns, answer_ns, end_ns, failed, attributes } = story;
        let trail = self.shard(call).lock().remove(&call);
        if let Some(trail) = trail.filter(|trail| !trail.routed) {
            self.step(call, ROUTING, "routing", trail.start_ns, end_ns, Vec::new(), false);
        }
        if let Some(answer_ns) = answer_ns {
            self.step(call, TALKING, "talking", answer_ns, end_ns, Vec::new(), false);
        }
        self.root(call, start_ns, end_ns, attributes, failed);
    }

    /// The call was not taken: there is no record of it.
    fn refused(&self, call: CallId) {
        if let Some(trail) = self.shard(call).lock().remove(&call) {
            let attributes = vec![("carillon.outcome", "refused".into()), ("sip.status", 503_u16.into())];
            self.root(call, trail.start_ns, unix_ns(), attributes, true);
        }
    }

    fn root(
        &self,
        call: CallId,
        start_ns: u64,
        end_ns: u64,
        more: Vec<(&'static str, Attribute)>,
        failed: bool,
    ) {
        let mut attributes = vec![
            ("carillon.call", call.to_string().into()),
            ("carillon.node", u32::from(self.node.load(Ordering::Relaxed)).into()),
        ];
        attributes.extend(more);
        self.tracer.end(Span {
            trace: TraceId::of_call(number(call)),
            id: SpanId::of_call(number(call)),
            parent: None,
            name: "call",
            start_ns,
            end_ns,
            attributes,
            failed,
        });
    }

    #[expect(clippy::too_many_arguments, reason = "what a span is made of, once")]
    fn step(
        &self,
        call: CallId,
        step: u64,
        name: &'static str,
        start_ns: u64,
        end_ns: u64,
        mut attributes: Vec<(&'static str, Attribute)>,
        failed: bool,
    ) {
        let root = SpanId::of_call(number(call));
        attributes.push(("carillon.node", u32::from(self.node.load(Ordering::Relaxed)).into()));
        self.tracer.end(Span {
            trace: TraceId::of_call(number(call)),
            id: root.step(step),
            parent: Some(root),
            name,
            start_ns,
            end_ns,
            attributes,
            failed,
        });
    }
}

/// The application server, seen from proxies.
pub(super) struct OwnerCalls {
    pub(super) inner: Arc<dyn Calls>,
    pub(super) calls: Arc<CallWatch>,
}

impl Calls for OwnerCalls {
    fn incoming(&self, incoming: Incoming) -> bool {
        let call = incoming.call;
        self.calls.began(call);
        let taken = self.inner.incoming(incoming);
        if !taken {
            self.calls.refused(call);
        }
        taken
    }

    fn event(&self, call: CallId, leg: LegId, event: LegEvent) {
        self.inner.event(call, leg, event);
    }

    fn leg_lost(&self, call: CallId, leg: LegId) {
        self.inner.leg_lost(call, leg);
    }
}

/// Proxies' legs, seen from the application server.
pub(super) struct OwnerLegs {
    pub(super) inner: Arc<dyn Legs>,
    pub(super) calls: Arc<CallWatch>,
}

impl Legs for OwnerLegs {
    fn originate(&self, title: Title, order: Originate) -> Option<(LegId, String)> {
        self.calls.routed(order.call);
        self.inner.originate(title, order)
    }

    fn command(&self, title: Title, home: NodeId, leg: LegId, command: LegCommand) {
        self.inner.command(title, home, leg, command);
    }

    fn is_cluster(&self) -> bool {
        self.inner.is_cluster()
    }

    fn tell(&self, custodian: NodeId, message: ToLegs) {
        self.inner.tell(custodian, message);
    }

    fn guards(&self, client: Id<Client>, call: CallId) -> Vec<NodeId> {
        self.inner.guards(client, call)
    }

    fn proxies_instead(&self, gone: NodeId, leg: LegId) -> Vec<NodeId> {
        self.inner.proxies_instead(gone, leg)
    }

    fn relay(&self, client: Id<Client>, caller: LegId, call: CallId, not: Option<NodeId>) -> Option<NodeId> {
        self.inner.relay(client, caller, call, not)
    }

    fn can_reach(&self, node: NodeId) -> bool {
        self.inner.can_reach(node)
    }

    fn is_gone(&self, proxy: NodeId) -> bool {
        self.inner.is_gone(proxy)
    }

    fn relay_is_lost(&self, relay: NodeId) -> bool {
        self.inner.relay_is_lost(relay)
    }
}

/// The application server of this node, seen from all nodes of a cluster.
pub(super) struct OwnerServer {
    pub(super) inner: Arc<dyn CallServer>,
    pub(super) calls: Arc<CallWatch>,
}

impl MediaSink for OwnerServer {
    fn reply(&self, call: CallId, ticket: u32, reply: MediaReply) {
        self.calls.replied(call, ticket, &reply);
        self.inner.reply(call, ticket, reply);
    }

    fn event(&self, call: CallId, event: MediaEvent) {
        self.inner.event(call, event);
    }
}

impl CallServer for OwnerServer {
    fn told(&self, from: NodeId, message: ToCalls) {
        match &message {
            ToCalls::Incoming { title, .. } => self.calls.began(title.call),
            ToCalls::Offer(stand) => self.calls.began(stand.title.call),
            ToCalls::Superseded { title, .. } => self.calls.refused(title.call),
            _ => {}
        }
        self.inner.told(from, message);
    }

    fn proxy_lost(&self, proxy: NodeId) {
        self.inner.proxy_lost(proxy);
    }

    fn proxy_gone(&self, proxy: NodeId) {
        self.inner.proxy_gone(proxy);
    }

    fn proxy_left(&self, proxy: NodeId) {
        self.inner.proxy_left(proxy);
    }

    fn proxy_back(&self, proxy: NodeId) {
        self.inner.proxy_back(proxy);
    }

    fn relay_lost(&self, relay: NodeId) {
        self.inner.relay_lost(relay);
    }

    fn relay_back(&self, relay: NodeId) {
        self.inner.relay_back(relay);
    }

    fn relay_leaves(&self, relay: NodeId) {
        self.inner.relay_leaves(relay);
    }

    fn reserved(&self, call: CallId, number: u32, verdict: Verdict) {
        self.inner.reserved(call, number, verdict);
    }
}

/// Relays, seen from the application server.
pub(super) struct OwnerMedia {
    pub(super) inner: Arc<dyn Media>,
    pub(super) calls: Arc<CallWatch>,
}

impl Media for OwnerMedia {
    fn submit(
        &self,
        relay: NodeId,
        call: CallId,
        ticket: u32,
        command: MediaCommand,
        signalling: Signalling,
    ) -> Option<MediaReply> {
        let asked = self.calls.asks(call, &command);
        if let Some(asked) = asked {
            // Before it is asked: a relay elsewhere may answer at any time.
            self.calls.waits(call, ticket, asked);
        }
        let reply = self.inner.submit(relay, call, ticket, command, signalling);
        if let Some(reply) = &reply {
            self.calls.replied(call, ticket, reply);
        }
        reply
    }
}

/// The application server, seen from relays.
pub(super) struct OwnerSink {
    pub(super) inner: Arc<dyn MediaSink>,
    pub(super) calls: Arc<CallWatch>,
}

impl MediaSink for OwnerSink {
    fn reply(&self, call: CallId, ticket: u32, reply: MediaReply) {
        self.calls.replied(call, ticket, &reply);
        self.inner.reply(call, ticket, reply);
    }

    fn event(&self, call: CallId, event: MediaEvent) {
        self.inner.event(call, event);
    }
}

/// Where calls are written down.
pub(super) struct WatchedLog {
    pub(super) inner: Arc<dyn CallLog>,
    pub(super) outcomes: Arc<Outcomes>,
    pub(super) calls: Option<Arc<CallWatch>>,
}

impl CallLog for WatchedLog {
    fn began(&self, call: OpenCall, epoch: u32, done: Box<dyn FnOnce(bool) + Send>) {
        self.inner.began(call, epoch, done);
    }

    fn let_go(&self, call: CallId) {
        self.inner.let_go(call);
    }

    fn ended(&self, cdr: Cdr, epoch: u32, done: Box<dyn FnOnce(bool) + Send>) {
        let (outcome, outcomes) = (Outcome::of(&cdr), Arc::clone(&self.outcomes));
        let calls = self.calls.clone();
        let story = calls.as_ref().and_then(|calls| calls.story(&cdr));
        let counted = Box::new(move |durable| {
            outcomes.count(outcome, durable);
            if let (Some(calls), Some(story), true) = (calls, story, durable) {
                calls.ended(story);
            }
            done(durable);
        });
        self.inner.ended(cdr, epoch, counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::ids::NodeId;
    use cluster::media::MediaLeg;
    use model::{Cause, Id, Party};
    use telemetry::Registry;

    /// Traces all calls, and sends the spans nowhere.
    fn watch() -> Arc<CallWatch> {
        let config = telemetry::otlp::Config {
            endpoint: "http://127.0.0.1:4317".to_owned(),
            share_ppm: 1_000_000,
            node: "1".to_owned(),
            version: "0",
            every: Duration::from_secs(3600),
        };
        let (tracer, work) = telemetry::otlp::start(config, Arc::new(Registry::default())).unwrap();
        drop(work); // with it goes whoever takes spans: each is dropped, and counted
        CallWatch::new(tracer, Arc::new(AtomicU16::new(1)))
    }

    struct Log(Mutex<Vec<bool>>);

    impl CallLog for Log {
        fn began(&self, _: OpenCall, _: u32, _: Box<dyn FnOnce(bool) + Send>) {}

        fn ended(&self, _: Cdr, _: u32, done: Box<dyn FnOnce(bool) + Send>) {
            let durable = self.0.lock().remove(0);
            done(durable);
        }
    }

    fn cdr(call: CallId) -> Cdr {
        Cdr {
            call: call.to_string(),
            brand: Id::new(1),
            client: Id::new(1),
            caller: Party::default(),
            callee: Party::default(),
            dialed: String::new(),
            started_us: 1,
            answered_us: Some(2),
            ended_us: 3,
            hung_up_by: HungUpBy::Caller,
            cause: Cause { status: 200, text: String::new() },
            legs: Vec::new(),
            externals: Vec::new(),
            node: 1,
            relay: None,
        }
    }

    #[test]
    fn a_call_is_told_once_when_its_record_is_durable_also_on_a_node_that_it_did_not_begin_on() {
        let watch = watch();
        let log = WatchedLog {
            inner: Arc::new(Log(Mutex::new(vec![false, true, true]))),
            outcomes: Arc::default(),
            calls: Some(Arc::clone(&watch)),
        };
        let [here, elsewhere] = [1, 2].map(|node| CallId::new(NodeId(node), 7));
        watch.began(here);
        log.ended(cdr(here), 0, Box::new(|durable| assert!(!durable)));
        assert_eq!(watch.tracer.dropped(), 0, "it is tried again, and nothing is told yet");
        log.ended(cdr(here), 0, Box::new(|durable| assert!(durable)));
        assert_eq!(watch.tracer.dropped(), 3, "routing, talking, the call");
        log.ended(cdr(elsewhere), 1, Box::new(|durable| assert!(durable)));
        assert_eq!(watch.tracer.dropped(), 5, "of the decision its own node has told");
        assert!(watch.shards.iter().all(|shard| shard.lock().is_empty()));
    }

    #[test]
    fn a_relay_elsewhere_that_answers_later_is_told_and_one_that_is_asked_for_ever_has_a_bound() {
        let watch = watch();
        let call = CallId::new(NodeId(1), 7);
        watch.began(call);
        let offer = MediaCommand::Offer { from: MediaLeg(0), to: MediaLeg(1), sdp: bytes::Bytes::new() };
        assert!(watch.asks(call, &MediaCommand::Stop).is_none());
        let asked = watch.asks(call, &offer).unwrap();
        watch.waits(call, 0, asked);
        assert_eq!(watch.tracer.dropped(), 1, "routing");
        watch.replied(call, 9, &MediaReply::Done);
        watch.replied(call, 0, &MediaReply::Done);
        watch.replied(call, 0, &MediaReply::Done);
        assert_eq!(watch.tracer.dropped(), 2, "the relay's answer, once");
        let more = (0..1000).filter(|_| watch.asks(call, &offer).is_some()).count();
        assert_eq!(more, ASKED_MAX as usize - 1);
    }
}
