//! The way of a request from the wire to whoever serves it: grammar, dialog, policy, identity, admission.
//!
//! In: parsed requests. Out: stateless refusals, or a transaction and then a leg, the registrar, nothing. Elsewhere: each
//! decision (`policy`, `auth`, `registrar`).

use super::legs::Admission;
use super::{Admitted, Cmd, FirstLine, Link, Worker};
use crate::Direction;
use crate::auth::{self, Authenticator, Denied, Identity, Passed, Purpose};
use crate::identity::{number_of, presented};
use crate::leg::{Arrived, Leg, LegMsg};
use crate::leg_state::Peer;
use crate::legs::{LegTag, passed_headers, session_config};
use crate::policy::{self, Facts, Verdict};
use crate::registrar::{Outcome, Registrant, Undo, Void, Wish};
use crate::stats::{Cause, add};
use bytes::Bytes;
use cluster::ids::LegId;
use cluster::leg::{Incoming, Origin, Presented};
use model::entities::DdiProvider;
use model::{Aor, Brand, Client, Id};
use parking_lot::Mutex;
use rand::Rng;
use routing::Router;
use sip::draft::ResponseDraft;
use sip::flow::{Flow, Transmit, Transport};
use sip::framing::FrameError;
use sip::msg::{HeaderId, Message, Method};
use sip::transaction::{ServerId, Stranger};
use sip::uri::Scheme;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tracing::{debug, info, trace};

/// What was dialled is cut to this many characters; no number is as long.
const DIALED_MAX: usize = 128;

impl Worker {
    /// A request from the wire, before its grammar is checked.
    pub(super) fn request(&mut self, msg: Message, flow: Flow, lag: Duration, now: Instant) {
        let tag = msg.to_tag().and_then(LegTag::parse).filter(|tag| self.shared.is_ours(*tag));
        if tag.is_none() && self.is_from_nobody(flow) {
            return;
        }
        let owner = self.owner(tag, &msg);
        if owner != usize::from(self.index) {
            self.hand_over(owner, msg, flow, lag, now);
            return;
        }
        // Calls that cannot be served, and the ACKs of their refusals, cost no more than they must.
        let is_new_call = msg.method_is(&Method::Invite) && msg.to_tag().is_none();
        let is_end_of_one = tag.is_none() && msg.method_is(&Method::Ack);
        if (is_new_call || is_end_of_one)
            && self.is_overloaded(flow, lag, now)
            && !self.transactions.knows(&msg)
        {
            if is_new_call {
                self.refuse_busy(&msg, flow, Cause::Overload, now);
            }
            return;
        }
        if let Err(defect) = msg.validate() {
            let draft = ResponseDraft::from(&defect);
            if defect.silent {
                self.count_refused(&msg, flow, &draft, Cause::Malformed);
            } else {
                self.refuse(&msg, flow, &draft, Cause::Malformed, now);
            }
            return;
        }
        if msg.method_is(&Method::Cancel) {
            self.cancel(msg, flow, now);
            return;
        }
        match (self.transactions.identify(&msg, flow), tag) {
            (None, _) => self.transactions.handle_message(msg, flow, now), // an ACK, or a repeat
            (Some(new), Some(tag)) => self.in_dialog(tag, new, msg, flow, now),
            (Some(new), None) => self.out_of_dialog(new, msg, flow, now),
        }
    }

    /// Whether it came to a trunk's socket from an address that is no DDI provider's. Who looks for open trunks learns nothing, not even
    /// that somebody is here.
    fn is_from_nobody(&self, flow: Flow) -> bool {
        let shared = &self.shared;
        let is_nobody = !shared.serves_users(flow.listener)
            && shared.ddi_providers(&shared.router.load(), flow.remote.ip()).is_empty();
        if is_nobody {
            shared.counters.count(Cause::UnknownSource);
            debug!(from = %flow.remote, "a request to a trunk's socket from nobody's address; it gets no answer");
        }
        is_nobody
    }

    /// The worker that a request belongs to. All transactions of a dialog live with its leg's worker. Before there is a
    /// dialog, what belongs to one INVITE is told by its Call-ID: a CANCEL, a repeat or a fork of it may come by another flow
    /// (RFC 3261 section 9.2 matches by branch, and a NAT may have changed the port), and the kernel spreads flows.
    fn owner(&self, tag: Option<LegTag>, msg: &Message) -> usize {
        if let Some(tag) = tag {
            return self.shared.worker_of(tag.leg);
        }
        let workers = self.shared.links.len();
        if workers == 1 || ![Method::Invite, Method::Cancel, Method::Ack].iter().any(|m| msg.method_is(m)) {
            return usize::from(self.index);
        }
        self.shared.worker_of_call(msg.call_id())
    }

    /// The last thing on a stream, of which only `head` could be read. The sender of a request is told why nothing more is
    /// read (RFC 3261 sections 18.3 and 18.4).
    pub(super) fn broken(&mut self, head: Bytes, flow: Flow, error: FrameError, now: Instant) {
        add(&self.shared.counters.received);
        trace!(direction = "in", remote = %flow.remote, line = %FirstLine(&head), "SIP, cut off");
        if let Some(tap) = &self.shared.tap {
            tap.seen(Direction::In, flow, &head);
        }
        self.shared.counters.count(Cause::Malformed);
        if self.is_from_nobody(flow) {
            return;
        }
        let Ok(msg) = Message::parse(head) else { return };
        if !msg.is_request() || msg.method_is(&Method::Ack) {
            return;
        }
        let fault = match (error, msg.lines(HeaderId::ContentLength).count()) {
            (FrameError::TooLong | FrameError::NotSip, _) => {
                return self.reply(&msg, flow, &ResponseDraft::new(513), now);
            }
            (FrameError::BodyTooLong, _) => "more than is taken",
            (FrameError::ContentLength, 0) => "missing",
            (FrameError::ContentLength, 1) => "not a number",
            (FrameError::ContentLength, _) => "not a number, or two of them",
        };
        let reason = Some(format!("Bad Content-Length: {fault}"));
        self.reply(&msg, flow, &ResponseDraft { reason, ..ResponseDraft::new(400) }, now);
    }

    fn in_dialog(&mut self, tag: LegTag, new: Stranger, msg: Message, flow: Flow, now: Instant) {
        let second = self.shared.clock.unix_secs().unsigned_abs();
        let limit = match msg.method_is(&Method::Bye) {
            true => u32::MAX, // ending a call is never too much
            false => self.shared.config.limits.leg_requests_per_second,
        };
        match self.admit(tag, second, limit) {
            // Whoever has the leg in a moment takes it when it is repeated.
            Admission::Yes if self.may_wait(tag.leg, now) && !flow.transport.is_reliable() => {
                debug!(leg = %tag.leg, "a request waits for the next proxy");
            }
            Admission::Yes => {
                self.admitted = Some(Admitted::Leg(tag));
                self.transactions.begin(new, msg, flow, now);
            }
            Admission::TooMany => self.refuse_busy(&msg, flow, Cause::Flood, now),
            Admission::Unknown if self.ask_for(tag.leg, &msg) => self.hold(tag.leg, msg, flow),
            Admission::Unknown => self.refuse(&msg, flow, &ResponseDraft::new(481), Cause::NoDialog, now),
        }
    }

    /// The answer to a CANCEL is stateless, though it is the transaction layer's.
    fn cancel(&mut self, msg: Message, flow: Flow, now: Instant) {
        let received = msg.raw().len();
        self.transactions.handle_message(msg, flow, now);
        while let Some(answer) = self.transactions.poll_transmit() {
            self.transmit_affordable(flow, received, answer, now);
        }
    }

    fn out_of_dialog(&mut self, new: Stranger, msg: Message, flow: Flow, now: Instant) {
        let shared = Arc::clone(&self.shared);
        // Calls and registrations are on their way to a proof, and are not asked for the last one.
        let wants_proof = msg.method_is(&Method::Invite) || msg.method_is(&Method::Register);
        let is_stranger =
            flow.transport == Transport::Udp && !wants_proof && !self.budget.is_proved(flow.remote, now);
        let facts = Facts {
            places: &shared.places,
            source: flow.remote,
            is_stranger,
            draining: shared.draining.load(Ordering::Relaxed),
            user_agent: &shared.config.user_agent,
            retry_after_secs: shared.config.overload.retry_after_secs,
        };
        let router = shared.router.load();
        let source = flow.remote.ip();
        let providers = match shared.serves_trunks(flow.listener) {
            true => shared.ddi_providers(&router, source),
            false => Vec::new(),
        };
        let is_provider = !providers.is_empty();
        match policy::judge(&msg, &facts) {
            Verdict::Answer(draft, cause) => {
                if let Some(cause) = cause {
                    self.count_refused(&msg, flow, &draft, cause);
                }
                self.reply(&msg, flow, &draft, now);
            }
            Verdict::Register | Verdict::Unserved if is_provider => {
                self.refuse(&msg, flow, &policy::not_allowed(), Cause::Unsupported, now);
            }
            Verdict::Register => {
                if let Some(identity) = self.authenticate(&msg, flow, Purpose::Register, now) {
                    self.admitted = Some(Admitted::Register(identity));
                    self.transactions.begin(new, msg, flow, now);
                }
            }
            Verdict::Invite => {
                let Some(caller) = self.caller(&msg, flow, &router, &providers, now) else { return };
                let is_full = self.shared.legs.load(Ordering::Relaxed) >= self.shared.config.limits.legs;
                if is_full || self.shared.calls.get().is_none() {
                    self.refuse_busy(&msg, flow, Cause::Capacity, now);
                    return;
                }
                self.admitted = Some(Admitted::Invite(Box::new(caller)));
                self.transactions.begin(new, msg, flow, now);
            }
            Verdict::Unserved => {
                if self.authenticate(&msg, flow, Purpose::Call, now).is_some() {
                    self.refuse(&msg, flow, &policy::not_allowed(), Cause::Unsupported, now);
                }
            }
        }
    }

    /// Who calls: a DDI provider or a wholesale client by its address, an endpoint by its address or its password. Nobody: the request
    /// has been answered.
    fn caller(
        &mut self,
        msg: &Message,
        flow: Flow,
        router: &Router,
        providers: &[Id<DdiProvider>],
        now: Instant,
    ) -> Option<Caller> {
        let source = flow.remote.ip();
        let presented = presented(msg);
        if !providers.is_empty() {
            self.budget.prove(flow.remote, now);
            let called = self.called_ddi(msg, router, providers);
            match router.incoming_from(providers, source, &called, presented.number.as_deref(), &mut ()) {
                Ok(found) => return Some(Caller { presented, who: Who::Ddi(found) }),
                Err(refusal) => {
                    info!(from = %flow.remote, %refusal, "a call of a DDI provider is refused");
                    let draft = ResponseDraft::new(refusal.status().unwrap_or(403));
                    self.refuse(msg, flow, &draft, Cause::NoDdi, now);
                    return None;
                }
            }
        }
        if !self.shared.serves_users(flow.listener) {
            return None; // nobody else is served here, and who came so far is known
        }
        if let Some(client) = router.wholesale_client(source) {
            self.budget.prove(flow.remote, now);
            return Some(Caller {
                presented,
                who: Who::Wholesale { brand: client.brand, client: client.id },
            });
        }
        let name = msg.from().ok().and_then(|from| number_of(&from.uri)).unwrap_or_default();
        let direct = router.direct_endpoint(source, &name);
        if let Some(endpoint) = direct.and_then(|aor| router.snapshot().endpoint_at(aor)) {
            self.budget.prove(flow.remote, now);
            return Some(Caller { presented, who: Who::Endpoint(Identity::of(&endpoint)) });
        }
        let identity = self.authenticate(msg, flow, Purpose::Call, now)?;
        Some(Caller { presented, who: Who::Endpoint(identity) })
    }

    /// The number that a DDI provider calls: the user part of the Request-URI, unless that is the Contact that we have registered there;
    /// then it is in To (manual 9.2.2, "DDI Provider Registrations").
    fn called_ddi(&self, msg: &Message, router: &Router, providers: &[Id<DdiProvider>]) -> String {
        let called = dialed(msg);
        let registration = self.shared.registration_by_contact(&called);
        let row = registration.and_then(|id| router.snapshot().rows().get(id));
        let is_theirs = row.is_some_and(|row| providers.contains(&row.ddi_provider));
        let to = || number_of(&msg.to().ok()?.uri);
        if is_theirs { to().unwrap_or(called) } else { called }
    }

    /// The sender's identity; without one the request has been answered.
    fn authenticate(
        &mut self,
        msg: &Message,
        flow: Flow,
        purpose: Purpose,
        now: Instant,
    ) -> Option<Identity> {
        let Passed { identity, is_there } = self.identity(msg, flow, purpose, now)?;
        if flow.transport.is_reliable() {
            self.shared.connections.prove(flow.conn);
        } else if is_there {
            self.budget.prove(flow.remote, now);
        }
        Some(identity)
    }

    fn identity(&mut self, msg: &Message, flow: Flow, purpose: Purpose, now: Instant) -> Option<Passed> {
        let router = self.shared.router.load_full();
        let snapshot = router.snapshot();
        if purpose == Purpose::Call && !self.shared.config.auth.invite {
            let identity = Authenticator::believe(msg, snapshot, &self.shared.places);
            if identity.is_none() {
                self.refuse(msg, flow, &ResponseDraft::new(403), Cause::Forbidden, now);
            }
            // Where From is believed, on loopback, nobody from outside can be the sender.
            return identity.map(|identity| Passed { identity, is_there: true });
        }
        let now_unix = self.shared.clock.unix_secs().unsigned_abs();
        let origin = auth::Origin { flow, now_unix };
        match self.auth.check(msg, purpose, snapshot, &self.shared.places, origin) {
            Ok(passed) => Some(passed),
            Err(Denied::Challenge(draft)) => {
                self.refuse(msg, flow, &draft, Cause::Challenged, now);
                None
            }
            Err(Denied::Wrong(draft)) => {
                self.shared.counters.count(Cause::Challenged);
                self.refuse(msg, flow, &draft, Cause::WrongPassword, now);
                None
            }
            Err(Denied::Refused(draft)) => {
                self.refuse(msg, flow, &draft, Cause::Forbidden, now);
                None
            }
        }
    }

    pub(super) fn refuse(
        &mut self,
        msg: &Message,
        flow: Flow,
        draft: &ResponseDraft,
        cause: Cause,
        now: Instant,
    ) {
        self.count_refused(msg, flow, draft, cause);
        self.reply(msg, flow, draft, now);
    }

    fn count_refused(&self, msg: &Message, flow: Flow, draft: &ResponseDraft, cause: Cause) {
        self.shared.counters.count(cause);
        let method = msg.method_bytes().escape_ascii();
        debug!(%method, from = %flow.remote, status = draft.status, ?cause, "request refused");
    }

    fn refuse_busy(&mut self, msg: &Message, flow: Flow, cause: Cause, now: Instant) {
        let draft = policy::busy(self.shared.config.overload.retry_after_secs);
        self.refuse(msg, flow, &draft, cause, now);
    }

    /// Answers without state.
    fn reply(&mut self, msg: &Message, flow: Flow, draft: &ResponseDraft, now: Instant) {
        if let Some(answer) = self.transactions.stateless_answer(msg, flow, draft) {
            self.transmit_affordable(flow, msg.raw().len(), answer, now);
        }
    }

    /// Sends an answer to `received` octets that came by `flow`, unless their sender may be forged and has had enough.
    fn transmit_affordable(&mut self, flow: Flow, received: usize, answer: Transmit, now: Instant) {
        let is_forgeable = flow.transport == Transport::Udp;
        if is_forgeable && !self.budget.allows(flow.remote, received, answer.bytes.len(), now) {
            self.shared.counters.count(Cause::Amplification);
            return;
        }
        // Without a transaction nothing is tried a second time.
        if !self.send(answer.flow, answer.bytes) {
            self.shared.counters.count(Cause::Unsent);
        }
    }

    /// Strangers who wait do not count for those who are served before them.
    fn is_overloaded(&self, flow: Flow, lag: Duration, now: Instant) -> bool {
        let overload = &self.shared.config.overload;
        let queued = if self.is_known(flow, now) { self.queued_by_known() } else { self.queued() };
        lag > overload.lag || queued >= overload.queue
    }

    /// A request has a transaction now: on to whoever serves it.
    pub(super) fn new_request(&mut self, txn: ServerId, msg: Message, flow: Flow, now: Instant) {
        match self.admitted.take() {
            Some(Admitted::Leg(tag)) => {
                if msg.method_is(&Method::Invite) {
                    self.invites.insert(txn, tag.leg);
                }
                if !self.tell(tag.leg, LegMsg::Request { txn, msg, flow }, now) {
                    self.invites.remove(&txn);
                    self.transactions.respond(txn, &ResponseDraft::new(481), now);
                }
            }
            Some(Admitted::Register(identity)) => self.register(txn, &msg, flow, identity, now),
            Some(Admitted::Invite(caller)) => self.begin_leg(txn, msg, flow, *caller, now),
            None => self.transactions.respond(txn, &ResponseDraft::new(500), now),
        }
    }

    // --- calls ---

    fn begin_leg(&mut self, txn: ServerId, msg: Message, flow: Flow, caller: Caller, now: Instant) {
        let leg = self.shared.new_leg(self.index);
        let tag = self.shared.new_tag(leg, || self.rng.next_u64());
        let incoming = incoming(&self.shared, leg, &msg, flow, caller);
        let Some(config) = session_config(&self.shared, leg, incoming.call, flow.listener) else {
            self.transactions.respond(txn, &ResponseDraft::new(500), now);
            return;
        };
        let device = incoming.origin.aor().and_then(|aor| self.shared.device(aor, flow, None));
        let peer = incoming.origin.aor().map_or(Peer::Outside, Peer::Endpoint);
        let state = Leg::new(incoming.call, tag, (peer, device), config, Some(txn));
        self.invites.insert(txn, leg);
        let arrived = Arrived { txn, msg, flow, incoming };
        self.begin(tag, state, LegMsg::Invite(Box::new(arrived)), now);
    }

    // --- registrations ---

    fn register(&mut self, txn: ServerId, msg: &Message, flow: Flow, identity: Identity, now: Instant) {
        let shared = Arc::clone(&self.shared);
        let who = Registrant { aor: identity.aor, multi_contact: identity.multi_contact, flow };
        let wish = Wish::read(msg, flow, shared.registrar.config(), &shared.config.limits);
        let before_us = i64::try_from(shared.clock.unix_us()).unwrap_or(i64::MAX);
        let outcome = wish.and_then(|wish| {
            let others = shared.elsewhere.get().map(|others| others.contacts(who.aor)).unwrap_or_default();
            shared.registrar.register(who, &wish, &others, shared.clock.unix_secs(), |outcome| {
                let changes = std::mem::take(&mut outcome.changes);
                if changes.is_empty() {
                    return;
                }
                let waiting = Arc::new(Waiting {
                    link: shared.links[usize::from(self.index)].clone(),
                    left: AtomicUsize::new(changes.len()),
                    failed: AtomicBool::new(false),
                    reply: Mutex::new(outcome.answer.take().map(|answer| Kept {
                        txn,
                        answer: Box::new(answer),
                        undo: outcome.undo.take().map(Box::new),
                        void: Box::new((who.aor, std::mem::take(&mut outcome.void), before_us)),
                    })),
                });
                for change in changes {
                    let waiting = Arc::clone(&waiting);
                    shared.log.append(change, Box::new(move |durable| waiting.done(durable)));
                }
            })
        });
        match outcome {
            Ok(Outcome { answer: Some(answer), void, .. }) => {
                self.shared.forget_elsewhere(who.aor, &void, before_us);
                self.transactions.respond(txn, &answer, now);
            }
            Ok(_) => {} // leaves when the changes are durable
            Err(draft) => {
                self.count_refused(msg, flow, &draft, Cause::Registration);
                self.transactions.respond(txn, &draft, now);
            }
        }
    }

    /// The log has spoken: RFC 3261 section 10.3 wants a REGISTER to be carried out whole or not at all.
    pub(super) fn stored(&mut self, kept: Kept, durable: bool, now: Instant) {
        let Kept { txn, answer, undo, void } = kept;
        if durable {
            let (aor, void, before_us) = *void;
            self.shared.forget_elsewhere(aor, &void, before_us);
            add(&self.shared.counters.registered);
            self.transactions.respond(txn, &answer, now);
            return;
        }
        if let Some(undo) = undo {
            self.shared.registrar.undo(*undo);
        }
        self.shared.counters.count(Cause::Registration);
        let draft = policy::busy(self.shared.config.overload.retry_after_secs);
        self.transactions.respond(txn, &draft, now);
    }
}

/// The answer to a REGISTER whose changes are on their way to the disk.
struct Waiting {
    link: Link,
    left: AtomicUsize,
    failed: AtomicBool,
    reply: Mutex<Option<Kept>>,
}

/// What waits for the disk.
pub(crate) struct Kept {
    txn: ServerId,
    answer: Box<ResponseDraft>,
    undo: Option<Box<Undo>>,
    /// Of which endpoint what is void elsewhere, if it was registered before which time.
    void: Box<(Aor, Void, i64)>,
}

impl Waiting {
    fn done(&self, durable: bool) {
        if !durable {
            self.failed.store(true, Ordering::Release);
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(kept) = self.reply.lock().take()
        {
            self.link.send(Cmd::Stored { kept, durable: !self.failed.load(Ordering::Acquire) });
        }
    }
}

/// Who calls, and what he says of himself.
pub(super) struct Caller {
    presented: Presented,
    who: Who,
}

/// Who calls.
enum Who {
    Endpoint(Identity),
    Wholesale { brand: Id<Brand>, client: Id<Client> },
    Ddi(routing::Incoming),
}

fn incoming(shared: &crate::Shared, leg: LegId, msg: &Message, flow: Flow, caller: Caller) -> Incoming {
    let (brand, client, origin) = match caller.who {
        Who::Endpoint(Identity { brand, client, aor, user, .. }) => {
            (brand, client, Origin::Endpoint { aor, user })
        }
        Who::Wholesale { brand, client } => (brand, client, Origin::Wholesale),
        Who::Ddi(routing::Incoming { ddi, client, brand, provider, called, caller, .. }) => match provider {
            Some(provider) => (brand, client, Origin::Ddi { ddi, provider, called, caller }),
            None => (brand, client, Origin::Wholesale), // what came from an address has a provider
        },
    };
    Incoming {
        call: shared.new_call(),
        leg,
        brand,
        client,
        origin,
        caller: caller.presented,
        dialed: dialed(msg),
        offer: msg.sdp(),
        headers: passed_headers(msg),
        sip_call_id: String::from_utf8_lossy(msg.call_id()).into_owned(),
        source: flow.remote,
        // Section 8.1.1.6: who sends none means 70.
        max_forwards: msg.max_forwards().ok().flatten().unwrap_or(70).saturating_sub(1),
    }
}

/// The user part of the Request-URI, decoded; of a tel URI the number.
fn dialed(msg: &Message) -> String {
    let Ok(uri) = msg.uri() else { return String::new() };
    let text = match uri.scheme {
        Scheme::Tel => uri.digits().unwrap_or_default(),
        Scheme::Sip | Scheme::Sips | Scheme::Other(_) => {
            uri.user_decoded().map(|user| String::from_utf8_lossy(&user).into_owned()).unwrap_or_default()
        }
    };
    // A telephone-subscriber brings its parameters along (section 19.1.6); the number ends before them.
    let number = text.split(';').next().unwrap_or_default();
    number.chars().filter(|c| !c.is_control()).take(DIALED_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dialled_is_the_number_alone() {
        for (uri, number) in [
            ("sip:102@users.example.com", "102"),
            ("sip:%31%30%32@users.example.com", "102"),
            ("sip:102;phone-context=users.example.com@users.example.com;user=phone", "102"),
            ("tel:102;phone-context=users.example.com", "102"),
            ("sip:users.example.com", ""),
        ] {
            let text = format!("INVITE {uri} SIP/2.0\r\n\r\n");
            assert_eq!(dialed(&Message::parse(Bytes::from(text)).unwrap()), number, "{uri}");
        }
    }
}
