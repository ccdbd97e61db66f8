//! One INVITE usage, caller or callee (RFC 3261 sections 13 to 15): a leg of a call.
//!
//! In: commands of the user, events of the transaction layer, time. Out: [`Action`]s for the transaction layer, [`Event`]s
//! for the user, one deadline. After every `handle_*` and `command` the owner drains both queues, then reads the deadline.
//! Elsewhere: repeats of requests and failures (`transaction`), sockets and what a call is (the crates above).
//!
//! Rooms: `face` (the words spoken), `uas` and `uac` (the peer's INVITE, ours), `answers` (to the peer's offers), `modify` (our
//! re-INVITE and UPDATE, glare), `requests` (everything else inside the dialog), `offers`, `reliable` and `timer` (RFC 3264, 3262, 4028), `text` (headers),
//! `capsule` (a session at rest as bytes, from which another node carries it on).

mod answers;
mod capsule;
mod face;
mod modify;
mod offers;
mod reliable;
mod requests;
mod text;
mod timer;
mod uac;
mod uas;

#[cfg(test)]
mod tests;

pub use capsule::{CAPSULE_MAX, Capsule, CapsuleError};
pub use face::{
    ALLOW, Action, Command, CommandError, EndCause, Event, Failure, OfferVia, Outgoing, PeerAddress, Prefer,
    Rel100, Replaces, SessionConfig, TimerPolicy,
};

use crate::dialog::Dialog;
use crate::digest;
use crate::draft::{HeaderText, RequestDraft, ResponseDraft};
use crate::flow::{ConnId, Flow, Transport};
use crate::msg::{HeaderId, Message, Method};
use crate::transaction::{Destination, ServerId};
use crate::uri::Uri;
use bytes::Bytes;
use modify::Wanted;
use offers::{Exchange, TheirVehicle, print_of};
use requests::{Asked, Client, Job, Postponed};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use timer::{SessionTimer, TimerDue};
use uac::{Acked, Calling};
use uas::Serving;

/// One leg: an INVITE, the dialog it makes, and all that happens in it until both sides are quiet again.
#[derive(Debug)]
pub struct Session {
    cfg: Arc<SessionConfig>,
    /// The dialog; while several forks of our INVITE ring, the one that spoke last.
    usage: Usage,
    life: Life,
    /// Whether we made the Call-ID: decides the timers after 491 (RFC 3261 section 14.1).
    caller: bool,
    /// Whether the user knows of the end.
    told: bool,
    destination: Destination,
    /// Where our first INVITE may go instead, the last one first.
    elsewhere: Vec<Destination>,
    next_seq: u32,
    /// Offers of the peer so far.
    offers: u32,
    /// State of a splitmix64 generator, seeded by the shell through our tag.
    random: u64,
    /// Our non-INVITE requests without final response.
    clients: Vec<Client>,
    /// Those of them that no connection takes at the moment.
    postponed: Vec<Postponed>,
    /// The peer's requests that wait for the user.
    asked: Vec<Asked>,
    /// The peer's INVITE, until it is acknowledged.
    serving: Option<Box<Serving>>,
    /// Our INVITE, until its final response.
    calling: Option<Box<Calling>>,
    /// The ACKs of our INVITEs, for as long as their 2xx may be repeated.
    acks: Vec<Acked>,
    /// The next change of the session, which has to wait.
    wanted: Option<Box<Wanted>>,
    timer: SessionTimer,
    /// A BYE that must wait for the ACK (RFC 3261 section 15): its Reason.
    bye: Option<Option<String>>,
    /// Other forks of a finished call may still answer until then.
    linger: Option<Instant>,
    digest: Option<Box<digest::Client>>,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Not answered.
    Early,
    /// Answered: a 2xx was sent or received.
    Confirmed,
    /// Ended; what is left is tidying up.
    Over,
}

/// One dialog and its offers.
#[derive(Debug)]
struct Usage {
    /// Number of the fork, as the user knows it.
    fork: u32,
    dialog: Dialog,
    exchange: Exchange,
    /// Our side of the last finished exchange.
    local_sdp: Option<Bytes>,
    /// Whether `local_sdp` was the answer of that exchange.
    answered: bool,
    /// The peer's side of the last finished exchange; 0 before the first.
    remote_print: u64,
    /// How often the three were set anew: a capsule of before is old then.
    settled: u32,
    /// The highest version of our descriptions that we gave ourselves.
    version: u64,
    /// The peer takes UPDATE (RFC 3311 section 4).
    takes_update: bool,
    /// Which of the peer's offers it made last: users answer in order.
    offer_number: u32,
    /// Of our INVITE's responses; gone after the final one.
    early: Option<Box<uac::Early>>,
    /// Of the peer's UPDATE whose offer is open.
    update: Option<Box<requests::UpdateFacts>>,
}

impl Usage {
    fn new(fork: u32, dialog: Dialog, exchange: Exchange) -> Usage {
        Usage {
            fork,
            dialog,
            exchange,
            local_sdp: None,
            answered: false,
            remote_print: 0,
            settled: 0,
            version: 0,
            offer_number: 0,
            takes_update: false,
            early: None,
            update: None,
        }
    }

    /// Whether an offer was ever answered.
    fn is_settled(&self) -> bool {
        self.remote_print != 0
    }

    /// The open exchange is done.
    fn settle(&mut self, local: Bytes, remote: u64, answered: bool) {
        self.exchange = Exchange::Idle;
        self.local_sdp = Some(local);
        self.remote_print = remote;
        self.answered = answered;
        self.settled = self.settled.wrapping_add(1);
        if let Some(early) = &mut self.early {
            early.supersede();
        }
    }

    /// Takes the answer to our open offer, if there is one.
    fn take_answer(&mut self, answer: &[u8]) -> bool {
        match std::mem::replace(&mut self.exchange, Exchange::Idle) {
            Exchange::Ours { sdp, .. } => {
                self.settle(sdp, print_of(answer), false);
                true
            }
            other
            @ (Exchange::Idle | Exchange::Theirs { .. } | Exchange::Asked { .. } | Exchange::Asking) => {
                self.exchange = other;
                false
            }
        }
    }

    /// A description of ours as the peer shall see it, whoever wrote it.
    fn continue_with(&mut self, sdp: Bytes) -> Bytes {
        let Some(before) = &self.local_sdp else { return sdp };
        let (sdp, version) = offers::continued(before, self.version, sdp);
        self.version = self.version.max(version.unwrap_or(0));
        sdp
    }

    fn learn(&mut self, msg: &Message) {
        if msg.header(HeaderId::Allow).is_some() {
            self.takes_update = msg.allows(&Method::Update);
        }
    }
}

impl Session {
    fn new(
        cfg: Arc<SessionConfig>,
        usage: Usage,
        caller: bool,
        destination: Destination,
        digest: Option<digest::Client>,
    ) -> Session {
        let random = seed_of(&usage.dialog);
        Session {
            cfg,
            usage,
            life: Life::Early,
            caller,
            told: false,
            destination,
            elsewhere: Vec::new(),
            next_seq: 0,
            offers: 0,
            random,
            clients: Vec::new(),
            postponed: Vec::new(),
            asked: Vec::new(),
            serving: None,
            calling: None,
            acks: Vec::new(),
            wanted: None,
            timer: SessionTimer::default(),
            bye: None,
            linger: None,
            digest: digest.map(Box::new),
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Carries out what the user wants.
    ///
    /// # Errors
    /// When it does not fit the state; messages that cross make this normal, and nothing is lost by ignoring it.
    pub fn command(&mut self, command: Command, now: Instant) -> Result<(), CommandError> {
        if self.life == Life::Over {
            return Err(CommandError::WrongState);
        }
        let result = match command {
            Command::Progress { status, sdp, headers } => self.progress(status, sdp, &headers, now),
            Command::Accept { sdp, headers } => self.accept(sdp, headers, now),
            Command::Reject { status, reason, headers } => self.reject(status, reason, &headers, now),
            Command::Cancel { reason } => self.cancel(reason),
            Command::Reoffer { sdp, prefer_update } => self.reoffer(sdp, prefer_update),
            Command::Answer { sdp } => self.answer(sdp, now),
            Command::RejectOffer { status } => self.reject_offer(status, now),
            Command::Info { .. }
            | Command::Message { .. }
            | Command::Refer { .. }
            | Command::Notify { .. } => self.ask_peer(command),
            Command::RespondInfo { status } => self.respond_asked(&Method::Info, status),
            Command::RespondMessage { status } => self.respond_asked(&Method::Message, status),
            Command::RespondRefer { status } => self.respond_asked(&Method::Refer, status),
            Command::Bye { reason } => {
                self.hang_up(reason, EndCause::Bye, now);
                Ok(())
            }
        };
        self.go_on(now);
        result
    }

    /// A request of the peer, its transaction open. Which session it belongs to is found by Call-ID and our tag.
    pub fn handle_request(&mut self, txn: ServerId, msg: &Message, flow: Flow, now: Instant) {
        self.serve(txn, msg, flow, now);
        self.go_on(now);
    }

    /// The ACK of a 2xx.
    pub fn handle_ack(&mut self, msg: &Message, _flow: Flow, now: Instant) {
        self.on_ack(msg, now);
        self.go_on(now);
    }

    /// A CANCEL matched the peer's INVITE; the transaction layer has answered it.
    pub fn handle_cancel(&mut self, txn: ServerId, reason: Option<String>, now: Instant) {
        self.on_cancel(txn, reason, now);
        self.go_on(now);
    }

    /// The transaction layer has answered the peer's request itself, for we never did.
    pub fn handle_unanswered(&mut self, txn: ServerId, now: Instant) {
        self.on_unanswered(txn, now);
        self.go_on(now);
    }

    /// A response to the request of ours that was sent as `seq`.
    pub fn handle_response(&mut self, seq: u32, msg: &Message, flow: Flow, now: Instant) {
        if flow.transport.is_reliable() && msg.status() > 100 {
            self.destination.flow = flow; // later requests use the connection that this one has opened
        }
        let may_be_late = msg.status() == 500 && self.usage.dialog.remote_tag.is_some();
        if self.calling.as_ref().is_some_and(|c| c.seq == seq) {
            self.on_invite_response(msg, now);
        } else if self.acks.iter().any(|a| a.seq == seq) {
            self.on_late_response(seq, msg);
        } else {
            self.on_reply(seq, msg, now);
        }
        if may_be_late {
            self.usage.dialog.leap();
        }
        self.go_on(now);
    }

    /// The request of ours that was sent as `seq` will have no (further) response.
    pub fn handle_failure(&mut self, seq: u32, failure: Failure, now: Instant) {
        if self.calling.as_ref().is_some_and(|c| c.seq == seq) {
            self.on_invite_failure(failure, now);
        } else {
            self.on_no_reply(seq, failure, now);
        }
        self.go_on(now);
    }

    /// Does what has become due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.serving_timeout(now);
        self.calling_timeout(now);
        self.asked_timeout(now);
        self.postponed_timeout(now);
        while self.offer_limit().is_some_and(|limit| limit <= now) {
            self.offer_timeout(now);
        }
        match self.timer.poll(now) {
            Some(TimerDue::Refresh) => self.refresh(),
            Some(TimerDue::Expired) => {
                let reason = "SIP;cause=408;text=\"Session timer expired\"";
                self.hang_up(Some(reason.to_owned()), EndCause::SessionExpired, now);
            }
            None => {}
        }
        self.acks.retain(|ack| ack.until > now);
        if self.acks.is_empty() {
            self.acks = Vec::new();
        }
        if self.linger.is_some_and(|until| until <= now) {
            self.linger = None;
        }
        self.go_on(now);
    }

    /// The next thing for the transaction layer to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if self.actions.is_empty() {
            self.actions = VecDeque::new(); // an idle session holds no queue
        }
        action
    }

    /// The next thing for the user to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        event
    }

    /// When [`Session::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.serving.as_ref().and_then(|s| s.deadline()),
            self.calling.as_ref().and_then(|c| c.give_up),
            self.asked.iter().map(|a| a.limit).min(),
            self.postponed.iter().map(|postponed| postponed.due).min(),
            self.offer_limit(),
            self.timer.deadline(),
            self.acks.iter().map(|a| a.until).min(),
            self.wanted.as_ref().and_then(|w| w.not_before),
            self.linger,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether nothing must be repeated or awaited any more: the owner may drop the session. A 2xx of a fork that nobody
    /// has heard of so far may still come; [`stray_answer`] deals with it without a session.
    pub fn is_over(&self) -> bool {
        self.told
            && self.clients.is_empty()
            && self.postponed.is_empty()
            && self.serving.is_none()
            && self.calling.is_none()
            && self.linger.is_none()
    }

    /// What ends this leg from outside, whatever its state, if its owner dies: a CANCEL, a BYE or a 500.
    pub fn last_will(&self) -> Vec<Action> {
        let mut will = Vec::new();
        for asked in &self.asked {
            will.push(self.response(asked.txn, 500));
        }
        if let Exchange::Theirs { by: TheirVehicle::Prack(txn) | TheirVehicle::Update(txn), .. } =
            self.usage.exchange
        {
            will.push(self.response(txn, 500));
        }
        if let Some(txn) = self.serving.as_ref().and_then(|s| s.open_txn()) {
            will.push(self.response(txn, 500));
        }
        if let Some(calling) = self.calling.as_ref().filter(|c| !c.cancelled) {
            will.push(Action::Cancel { seq: calling.seq, reason: None });
        }
        if self.life == Life::Confirmed || self.bye.is_some() {
            if let Some(draft) =
                self.acks.iter().filter(|a| a.ack.is_none()).map(|a| self.ack_draft(a, None)).next()
            {
                will.push(Action::Ack { draft, to: self.destination });
            }
            let mut dialog = self.usage.dialog.clone();
            let mut draft = dialog.request(Method::Bye);
            self.dress(&mut draft);
            will.push(Action::Request { seq: self.next_seq, draft, to: self.destination });
        }
        will
    }

    /// What refuses all that the peer of a conversation asks for at this moment, if another node carries the session on: 491 to a change of
    /// the session, so that the peer tries again (RFC 3261 section 14.1), 500 to anything else.
    pub fn refusals(&self) -> Vec<Action> {
        if self.life != Life::Confirmed {
            return Vec::new();
        }
        let mut all: Vec<Action> = self.asked.iter().map(|asked| self.response(asked.txn, 500)).collect();
        let by = match self.usage.exchange {
            Exchange::Theirs { by: TheirVehicle::Prack(txn) | TheirVehicle::Update(txn), .. } => Some(txn),
            _ => None,
        };
        let serving = self.serving.as_ref().filter(|serving| !serving.initial).and_then(|s| s.open_txn());
        all.extend(by.into_iter().chain(serving).map(|txn| self.response(txn, 491)));
        all
    }

    /// The dialog: what a shell needs to route to this session, or to rebuild it.
    pub fn dialog(&self) -> &Dialog {
        &self.usage.dialog
    }

    /// The URI that requests inside the dialog should reach first (RFC 3261 section 12.2.1.1).
    pub fn next_hop(&self) -> &str {
        self.usage.dialog.next_hop()
    }

    /// The address that [`Session::next_hop`] names, if it is one of the transport that the session is on.
    pub fn next_address(&self) -> Option<SocketAddr> {
        address_of(self.next_hop(), self.destination.flow.transport)
    }

    /// Where the next request inside the dialog goes.
    pub fn destination(&self) -> Destination {
        self.destination
    }

    /// Sends further requests elsewhere: the shell has resolved [`Session::next_hop`], or has lost a connection.
    pub fn set_destination(&mut self, destination: Destination) {
        self.destination = destination;
    }

    /// Tells the peer where we are: a session refresh whose Contact is ours of now (RFC 3261 section 12.2). It goes at some moment `within` this
    /// time, so that a thousand sessions that move do not speak at once, and when nothing else is open. A peer that does not answer keeps
    /// its call: perhaps it cannot be reached from here, but its media go on.
    pub fn announce(&mut self, within: Duration, now: Instant) {
        if self.life == Life::Confirmed {
            self.want_announcement(within, now);
            self.go_on(now);
        }
    }

    /// Answers challenges to requests inside the dialog from now on (incoming calls and revived ones; outgoing ones bring theirs along).
    pub fn set_credentials(&mut self, credentials: digest::Client) {
        self.digest = Some(Box::new(credentials));
    }

    /// The dialog that an incoming call wants to take the place of (RFC 3891), until the call is answered.
    pub fn replaces(&self) -> Option<&Replaces> {
        self.serving.as_ref().and_then(|s| s.replaces.as_ref())
    }

    /// What waits for quiet may go now.
    fn go_on(&mut self, now: Instant) {
        self.release_accept(now);
        self.try_wanted(now);
    }

    /// Ends the call by our side, in the way its state demands.
    fn hang_up(&mut self, reason: Option<String>, cause: EndCause, now: Instant) {
        match self.life {
            Life::Over => {}
            Life::Early if self.caller => {
                let _ = self.cancel(reason); // already cancelled is as good
            }
            Life::Early => self.refuse(480, None, reason, cause, now),
            Life::Confirmed => {
                self.acknowledge(None);
                if self.serving.as_ref().is_some_and(|s| s.initial && s.is_accepted()) {
                    self.bye = Some(reason); // RFC 3261 section 15: not before the ACK
                } else {
                    self.send_bye(reason);
                }
                self.finish(Event::Ended { by_peer: false, cause, reason: None }, now);
            }
        }
    }

    fn send_bye(&mut self, reason: Option<String>) {
        let mut lines = HeaderText::new();
        if let Some(reason) = reason {
            lines.push("Reason", reason);
        }
        self.submit(Job::Bye, Method::Bye, lines, "", Bytes::new());
    }

    /// Tells the user, who hears nothing more after the end.
    fn tell(&mut self, event: Event) {
        if !self.told {
            self.events.push_back(event);
        }
    }

    /// The end, told once. What the peer still waits for is answered, what we wait for is given up.
    fn finish(&mut self, event: Event, now: Instant) {
        let by_peer = matches!(event, Event::Ended { by_peer: true, .. });
        self.tell(event);
        self.told = true;
        self.life = Life::Over;
        self.wanted = None;
        self.timer.stop();
        for asked in std::mem::take(&mut self.asked) {
            self.respond(asked.txn, 487, HeaderText::new(), None);
        }
        self.close_offer(487);
        if self.bye.is_none() {
            self.close_serving(now);
        }
        let soon = now + self.cfg.t1 * 8;
        if let Some(calling) = self.calling.as_mut().filter(|c| !c.cancelled) {
            if by_peer && calling.is_reinvite() {
                calling.give_up = Some(soon); // the peer owes it a 487 (RFC 3261 section 15.1.2)
                return;
            }
            calling.cancelled = true;
            self.actions.push_back(Action::Cancel { seq: calling.seq, reason: None });
        }
    }

    /// Answers the peer's UPDATE or PRACK that carried an open offer.
    fn close_offer(&mut self, status: u16) {
        let open = std::mem::replace(&mut self.usage.exchange, Exchange::Idle);
        if let Exchange::Theirs { by: TheirVehicle::Prack(txn) | TheirVehicle::Update(txn), .. } = open {
            self.respond(txn, status, text::say_when(status, HeaderText::new(), &self.cfg), None);
        }
    }

    fn respond(&mut self, txn: ServerId, status: u16, lines: HeaderText, sdp: Option<Bytes>) {
        let draft = self.response_draft(status, lines, sdp);
        self.actions.push_back(Action::Respond { txn, draft });
    }

    fn response(&self, txn: ServerId, status: u16) -> Action {
        Action::Respond { txn, draft: self.response_draft(status, HeaderText::new(), None) }
    }

    fn response_draft(&self, status: u16, mut lines: HeaderText, sdp: Option<Bytes>) -> ResponseDraft {
        if !self.cfg.user_agent.is_empty() {
            lines.push("Server", &self.cfg.user_agent);
        }
        if sdp.is_some() {
            lines.push("Content-Type", "application/sdp");
        }
        ResponseDraft {
            status,
            reason: None,
            to_tag: Some(self.usage.dialog.local_tag.to_string()),
            headers: lines,
            body: sdp.unwrap_or_default(),
        }
    }

    /// Lines that all requests carry, ACK excepted.
    fn dress(&self, draft: &mut RequestDraft) {
        draft.headers.push("Supported", text::supported(&self.cfg));
        if !self.cfg.user_agent.is_empty() {
            draft.headers.push("User-Agent", &self.cfg.user_agent);
        }
    }

    fn take_seq(&mut self) -> u32 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// A number below `bound` (splitmix64).
    fn draw(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// The RSeq of a first reliable response: 1 to 2^31 - 1, at random (RFC 3262 section 3).
    fn first_rseq(&mut self) -> u32 {
        u32::try_from(1 + self.draw(0x3fff_ffff)).unwrap_or(1)
    }

    /// 64 times T1: how long a peer is given for an acknowledgement.
    fn patience(&self) -> Duration {
        self.cfg.t1 * 64
    }

    /// Follows the peer to where it speaks from, or to where it wants to be spoken to.
    fn aim(&mut self, flow: Option<Flow>) {
        match self.cfg.peer_address {
            PeerAddress::Flow => {
                if let Some(flow) = flow {
                    self.destination.flow = flow;
                }
            }
            PeerAddress::NextHop => {
                if let Some(remote) = self.next_address()
                    && remote != self.destination.flow.remote
                {
                    self.destination.flow.remote = remote;
                    self.destination.flow.conn = ConnId(0);
                }
            }
        }
    }
}

/// The ACK and the BYE for a 2xx that no session knows: a fork that answered after all was over (RFC 3261 section 13.2.2.4).
/// `None` if it is no 2xx to an INVITE, or too broken to answer.
pub fn stray_answer(response: &Message) -> Option<(RequestDraft, RequestDraft)> {
    let cseq = response.cseq().ok()?;
    if !(200..300).contains(&response.status()) || cseq.method != b"INVITE" {
        return None;
    }
    let mut dialog = Dialog::from_stray_response(response)?;
    dialog.local_cseq = cseq.number;
    let ack = dialog.ack(cseq.number);
    Some((ack, dialog.request(Method::Bye)))
}

/// The tag of the shell is drawn at random: it seeds what little chance a session needs.
fn seed_of(dialog: &Dialog) -> u64 {
    print_of_bytes(dialog.local_tag.as_bytes()) ^ print_of_bytes(&dialog.call_id)
}

fn print_of_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// The address in a URI, if it is one of the transport that we are on.
fn address_of(uri: &str, transport: Transport) -> Option<SocketAddr> {
    let uri = Uri::parse(uri.as_bytes()).ok()?;
    if uri.transport_param().is_some_and(|other| other != transport) {
        return None;
    }
    let default = if transport == Transport::Tls { 5061 } else { 5060 };
    Some(SocketAddr::new(uri.host.ip()?, uri.port.unwrap_or(default)))
}

#[cfg(test)]
impl Session {
    fn assert_bounds(&self) {
        let lists = [self.clients.len(), self.asked.len(), self.acks.len(), self.parked().len()];
        assert!(lists.iter().all(|len| *len <= 32), "{lists:?}");
    }

    fn local_sdp(&self) -> Option<Bytes> {
        self.usage.local_sdp.clone()
    }

    /// Bytes that the session holds, its own and those on the heap (allocator overhead aside).
    fn memory(&self) -> usize {
        let dialog = &self.usage.dialog;
        let texts = dialog.call_id.len()
            + dialog.local_tag.len()
            + dialog.remote_tag.as_ref().map_or(0, |tag| tag.len())
            + dialog.local_uri.len()
            + dialog.remote_uri.len()
            + dialog.remote_target.len()
            + dialog.route_set.iter().map(|route| route.len() + 16).sum::<usize>();
        assert!(
            self.serving.is_none() && self.calling.is_none() && self.usage.early.is_none(),
            "not at rest"
        );
        let queues =
            self.actions.capacity() + self.events.capacity() + self.acks.capacity() + self.asked.capacity();
        assert_eq!(queues + self.clients.capacity(), 0, "queues hold memory");
        size_of::<Session>() + texts + self.usage.local_sdp.as_ref().map_or(0, Bytes::len)
    }
}
