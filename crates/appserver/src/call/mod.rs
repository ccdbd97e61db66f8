//! One call, sans-IO: events of legs, replies of the relay and time go in; [`Action`]s and one deadline come out.
//!
//! `mod.rs` is the face and the story of a call from INVITE to call record; `route` decides which way it goes, `setup` follows the
//! ringing, `trunks` tries carriers, `limits` says what it counts for, `exchange` carries offers and answers of an established call, `relays` takes its media to another relay, `record`
//! writes the story down, `capsule` is the call as bytes, from which another application server carries it on.
//! Elsewhere: the actor around it (`actor`), SIP (crate `proxy`), ports and packets (crate `relay`).

mod capsule;
mod exchange;
mod limits;
mod record;
mod relays;
mod route;
mod setup;
#[cfg(test)]
mod tests;
mod trunks;

pub use capsule::{CAPSULE_MAX, Capsule, CapsuleError};

use crate::rates::Rates;
use bytes::Bytes;
use cluster::counters::{ANSWER_LIMIT, Claim, Verdict};
use cluster::ids::{CallId, LegId, NodeId};
use cluster::leg::{Binding, Incoming, LegCommand, LegEvent, Origin, Originate};
use cluster::media::{MediaCommand, MediaEvent, MediaLeg, MediaReply, Signalling};
use exchange::Exchange;
use model::entities::{CarrierServer, UserRejectCallMethod};
use model::{Aor, Cdr, Client, HungUpBy, Id, OpenCall};
use record::Story;
use relays::Move;
use routing::StatusCodes;
use setup::Plan;
use sip::draft::HeaderText;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use trunks::Trunks;

/// The time as a call needs it: to measure and to write down.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines.
    pub mono: Instant,
    /// For records: microseconds since 1970, UTC.
    pub unix_us: i64,
}

/// What a call asks of its surroundings while it decides.
pub trait World {
    /// The configuration, by which calls are routed and priced.
    fn rates(&self) -> Arc<Rates>;
    /// How long a user's telephones ring before the call ends unanswered.
    fn ring_time(&self) -> Duration;
    /// Where an endpoint is registered.
    fn bindings(&self, aor: Aor) -> Vec<Binding>;
    /// Whether a carrier's server answers, as far as is known.
    fn answers(&self, _server: Id<CarrierServer>) -> bool {
        true
    }
    /// Which failures of a carrier make the next one be tried.
    fn carrier_failures(&self) -> StatusCodes {
        StatusCodes::default()
    }
    /// An evenly distributed number, to share calls among routes and servers.
    fn random(&self) -> u64;
    /// The relay that shall have the media of this client's call, near the caller; `None`: there is none.
    fn choose_relay(&self, client: Id<Client>, call: CallId, caller: LegId) -> Option<NodeId>;
}

/// What the shell must do.
#[derive(Debug)]
pub enum Action {
    /// Tell a leg.
    Leg(LegId, LegCommand),
    /// Ask whether the call may count for these; the answer comes by [`Call::reserved`] under the number.
    Reserve(u32, Vec<Claim>),
    /// The call counts for these no more. What is left is given back when it is over.
    Release(Vec<Claim>),
    /// Make a leg and report its name by [`Call::originated`].
    Originate(usize, Box<Originate>),
    /// Ask the relay of this node; the reply comes by [`Call::media_reply`] under the ticket.
    Media(NodeId, u32, MediaCommand, Signalling),
    /// The call rings (its legs have their names), or is answered: note it, so that even the loss of this node leaves a call record. A later note
    /// replaces the earlier one.
    Note(Box<OpenCall>),
    /// Write the call record; [`Call::recorded`] says when it is durable.
    Record(Box<Cdr>),
}

/// No user makes more calls than this at once that nobody has answered yet; the next one gets 503. Every call that rings
/// holds media ports for each device that it rings, and nobody shall take them all.
pub const UNANSWERED_MAX: u32 = 10;

/// No call rings more bindings than this at once.
pub const FORKS_MAX: usize = 10;

/// Servers that one call tries, of all carriers together: nobody would wait for more.
pub const TRIES_MAX: usize = 16;

/// Legs of one call, those among them that are over: its caller's, and whoever was rung or tried.
const LEGS_MAX: usize = 1 + if FORKS_MAX > TRIES_MAX { FORKS_MAX } else { TRIES_MAX };

/// Which leg, in the order of their making; the caller is the first.
type Slot = usize;
const CALLER: Slot = 0;

/// One leg as the call sees it.
#[derive(Debug)]
struct Leg {
    id: Option<LegId>,
    media: MediaLeg,
    /// Where its signalling comes from, as far as known.
    address: Option<IpAddr>,
    /// It is a carrier's or DDI provider's: who sends its media may be anywhere.
    is_trunk: bool,
    state: LegState,
    /// An answer to our offer came with a provisional response.
    early_answer: bool,
    /// What each fork behind this leg last said before anybody answered.
    early: Vec<(u32, Bytes)>,
    /// What the peer last said that both agreed upon.
    agreed: Option<Bytes>,
    order: Option<Box<Originate>>,
}

impl Leg {
    fn caller(incoming: &Incoming) -> Self {
        Self {
            id: Some(incoming.leg),
            media: MediaLeg(0),
            address: Some(incoming.source.ip()),
            is_trunk: matches!(incoming.origin, Origin::Ddi { .. }),
            state: LegState::Calling,
            early_answer: false,
            early: Vec::new(),
            agreed: incoming.offer.as_ref().map(own),
            order: None,
        }
    }
}

/// A copy that does not keep the message it came with.
fn own(sdp: &Bytes) -> Bytes {
    Bytes::copy_from_slice(sdp)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LegState {
    /// Waits for the relay before its INVITE can go.
    Prepared,
    /// INVITE sent or received, no final answer.
    Calling,
    /// Answered: there is a conversation or soon will be.
    Up,
    /// Ended, refused or given up by us.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Whoever counts was asked whether there is a place for the call.
    Asking { until: Instant },
    /// Somebody rings.
    Ringing { until: Instant },
    /// `Slot` answered; the caller was told, or will be when the relay replied.
    Talking(Slot),
    /// Waits for the relay's figures.
    Closing,
    /// Waits for the record to be durable; tries again at the deadline when it could not be written.
    Recording { retry: Option<Instant> },
    /// Nothing left to do.
    Over,
}

/// What a reply of the relay is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ticket {
    /// The caller's offer, for this callee's INVITE.
    FirstOffer(Slot),
    /// An answer in this callee's provisional response of that status.
    EarlyAnswer(Slot, u16),
    /// An answer in this callee's 2xx.
    FinalAnswer(Slot),
    /// The offer in this callee's 2xx, for the caller (delayed offer).
    LateOffer,
    /// The caller's answer to it.
    LateAnswer,
    /// A later offer, for this leg.
    Reoffer(Slot),
    /// The answer to a later offer, for this leg.
    Reanswer(Slot),
    /// Figures of a released leg.
    Figures,
    /// Figures of all that are left; the record waits for them.
    LastFigures,
    /// Figures of the relay that had the media before; the record waits for them, too.
    EarlierFigures,
    /// What both sides have agreed upon, at another relay: first the offer, then the answer.
    MovedOffer,
    /// See there.
    MovedAnswer,
    /// Nothing depends on it.
    Nothing,
    /// Whose the call is: the answer says whether the session is there.
    Claim(NodeId),
}

/// A request to a relay that has no answer yet.
#[derive(Clone, Copy, Debug)]
struct Asked {
    number: u32,
    relay: NodeId,
    purpose: Ticket,
}

/// An answer that does not come by then is none: it should have been told long before.
const ASKING_MAX: Duration = ANSWER_LIMIT.saturating_mul(3);

/// A call. After every `handle`-like method drain [`Call::poll_action`], then read [`Call::poll_timeout`].
#[derive(Debug)]
pub struct Call {
    id: CallId,
    client: Id<Client>,
    phase: Phase,
    legs: Vec<Leg>,
    story: Story,
    /// What it counts for.
    held: Vec<Claim>,
    /// What it will do when it has a place.
    plan: Option<Box<Plan>>,
    /// What the caller has offered, until somebody answers.
    offer: Option<Bytes>,
    /// The carriers that are tried, until one answers.
    trunks: Option<Box<Trunks>>,
    /// It leaves no trace (manual 9.7.2, "Special numbers"): no note, no record.
    is_untraced: bool,
    /// The first offer came from the caller; otherwise the callee makes it.
    caller_offers: bool,
    /// The highest provisional status that the caller was told.
    told: u16,
    /// The callee, and which of its forks, whose early media the caller hears.
    early_from: Option<(Slot, u32)>,
    /// The winner's answer, when the caller heard early media of another device and may hold its answer for the final one:
    /// offered to him once the call stands.
    repair: Option<Bytes>,
    /// The final refusals of callees so far, with the lines that say more.
    refusals: Vec<(u16, HeaderText)>,
    /// The lines of the refusal that the caller gets.
    telling: HeaderText,
    rejection: UserRejectCallMethod,
    exchange: Option<Exchange>,
    /// The last change that went through: who had offered it, and what he had said before it.
    changed: Option<(Slot, Bytes)>,
    /// The relay that has this call's media, once one was chosen.
    relay: Option<NodeId>,
    /// It has a session for this call.
    has_media: bool,
    /// The media goes to another relay.
    moving: Option<Box<Move>>,
    tickets: Vec<Asked>,
    next_ticket: u32,
    /// The last note of this call is not on the disk: when to make another.
    note_again: Option<Instant>,
    /// Grows with whatever changes the capsule.
    version: u32,
    actions: VecDeque<Action>,
}

impl Call {
    /// A call for an authenticated INVITE, nothing decided yet.
    pub fn new(incoming: &Incoming, now: Now) -> Self {
        Self {
            id: incoming.call,
            client: incoming.client,
            phase: Phase::Ringing { until: now.mono },
            legs: vec![Leg::caller(incoming)],
            story: Story::new(incoming, now),
            held: Vec::new(),
            plan: None,
            offer: None,
            trunks: None,
            is_untraced: false,
            caller_offers: incoming.offer.is_some(),
            told: 100,
            early_from: None,
            repair: None,
            refusals: Vec::new(),
            telling: HeaderText::new(),
            rejection: UserRejectCallMethod::default(),
            exchange: None,
            changed: None,
            relay: None,
            has_media: false,
            moving: None,
            tickets: Vec::new(),
            next_ticket: 0,
            note_again: None,
            version: 0,
            actions: VecDeque::new(),
        }
    }

    /// Names the leg that an [`Action::Originate`] made.
    pub fn originated(&mut self, slot: Slot, id: LegId, sip_call_id: String) {
        if let Some(leg) = self.legs.get_mut(slot) {
            leg.id = Some(id);
            self.version += 1;
            self.story.leg_named(slot, sip_call_id);
        }
        let is_named = |leg: &Leg| leg.id.is_some() || leg.state == LegState::Gone;
        if matches!(self.phase, Phase::Ringing { .. }) && self.legs.iter().all(is_named) {
            self.note(); // with the names of all legs, so that a record made from it has them, too
        }
    }

    /// Something happened on a leg.
    pub fn leg_event(&mut self, id: LegId, event: LegEvent, now: Now) {
        let Some(slot) = self.legs.iter().position(|leg| leg.id == Some(id)) else { return };
        if self.legs[slot].state == LegState::Gone || self.is_ending() {
            self.late_event(slot, &event);
            return;
        }
        match event {
            LegEvent::Progress { status, sdp, fork } => self.callee_progress(slot, fork, status, sdp),
            LegEvent::Answered { sdp, fork } => self.callee_answered(slot, fork, sdp, now),
            LegEvent::Rejected { status, headers, .. } => self.callee_refused(slot, status, headers, now),
            LegEvent::Tagged { tag } => {
                self.story.tagged(&tag);
                self.version += 1;
            }
            LegEvent::Confirmed { sdp } => self.caller_confirmed(slot, sdp),
            LegEvent::Offer { sdp, .. } => self.peer_offers(slot, sdp),
            LegEvent::Answer { sdp } => self.peer_answers(slot, sdp),
            LegEvent::OfferWithdrawn => self.peer_withdraws_offer(slot),
            LegEvent::OfferRejected { status } => self.peer_refuses_offer(slot, status, now),
            LegEvent::Cancelled { .. } => self.caller_gave_up(slot, now),
            LegEvent::Ended { by_peer, cause, .. } => self.leg_ended(slot, by_peer, cause, now),
            other => self.pass_message(slot, other),
        }
        self.move_on();
    }

    /// The relay replied to the command with this ticket.
    pub fn media_reply(&mut self, ticket: u32, reply: MediaReply, now: Now) {
        let Some(at) = self.tickets.iter().position(|asked| asked.number == ticket) else { return };
        let purpose = self.tickets.swap_remove(at).purpose;
        if let MediaReply::Report(figures) = reply {
            if purpose != Ticket::Nothing {
                self.version += 1;
                self.story.figures(figures, purpose == Ticket::EarlierFigures);
            }
            return self.record_when_told(now);
        }
        if self.is_ending() {
            return self.record_when_told(now); // the relay lost the session: the record goes without its figures
        }
        match purpose {
            Ticket::FirstOffer(slot) => self.offer_for_callee(slot, reply, now),
            Ticket::EarlyAnswer(slot, status) => self.early_answer_ready(slot, status, reply),
            Ticket::FinalAnswer(slot) => self.final_answer_ready(slot, reply, now),
            Ticket::LateOffer => self.late_offer_ready(reply, now),
            Ticket::LateAnswer => self.late_answer_ready(reply, now),
            Ticket::Reoffer(to) => self.reoffer_ready(to, reply),
            Ticket::Reanswer(to) => self.reanswer_ready(to, reply, now),
            Ticket::MovedOffer => self.moved_offer_ready(reply, now),
            Ticket::MovedAnswer => self.moved_answer_ready(reply, now),
            Ticket::Claim(relay) => self.claim_answered(relay, reply),
            Ticket::LastFigures | Ticket::EarlierFigures | Ticket::Figures | Ticket::Nothing => {}
        }
        self.move_on();
    }

    /// The relay tells of its own accord.
    pub fn media_event(&mut self, event: MediaEvent, now: Now) {
        if event == MediaEvent::Unclaimed {
            return self.claim_sessions();
        }
        // Who has not moved yet is not heard at the other relay.
        if matches!(self.phase, Phase::Talking(_)) && self.moving.is_none() {
            self.finish(HungUpBy::Platform, 408, "No media", now);
        }
    }

    /// A leg's actor is gone without a word; its peer was told by its last will.
    pub fn leg_lost(&mut self, id: LegId, now: Now) {
        let Some(slot) = self.legs.iter().position(|leg| leg.id == Some(id)) else { return };
        if self.legs[slot].state == LegState::Gone || self.is_ending() {
            return;
        }
        let ringing_beside = matches!(self.phase, Phase::Ringing { .. }) && slot != CALLER;
        self.legs[slot].state = LegState::Gone;
        self.version += 1;
        if ringing_beside {
            self.callee_lost(slot, 500, now);
        } else {
            self.finish(HungUpBy::Platform, 500, "Leg failed", now);
        }
    }

    /// What there is to tell of the call while it goes on; none: it is ending.
    pub fn open(&self) -> Option<OpenCall> {
        (!self.is_ending()).then(|| self.story.open_call(self.id, self.relay))
    }

    /// Ends the call from our side (an operator, a shut-down).
    pub fn hang_up(&mut self, status: u16, why: &str, now: Now) {
        if !self.is_ending() {
            self.finish(HungUpBy::Platform, status, why, now);
        }
    }

    /// The record is durable, or could not be written: then it is tried again.
    pub fn recorded(&mut self, durable: bool, now: Now) {
        if let Phase::Recording { .. } = self.phase {
            self.version += 1;
            self.phase = if durable {
                Phase::Over
            } else {
                Phase::Recording { retry: Some(now.mono + record::RETRY) }
            };
        }
        if durable {
            if self.has_media {
                self.ask_relay(Ticket::Nothing, MediaCommand::Close);
            }
            self.held.clear();
        }
    }

    /// A note of this call could not be written: it is made again, unless the record comes first.
    pub fn unnoted(&mut self, now: Now) {
        self.note_again = Some(now.mono + record::RETRY);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.note_again.is_some_and(|at| at <= now.mono) {
            self.note_again = None;
            if matches!(self.phase, Phase::Ringing { .. } | Phase::Talking(_)) {
                self.note();
            }
        }
        self.move_again(now);
        match self.phase {
            Phase::Ringing { until } if until <= now.mono => self.nobody_answered(now),
            Phase::Asking { until } if until <= now.mono => self.refuse(Verdict::Unknown, now),
            Phase::Recording { retry: Some(at) } if at <= now.mono => {
                self.phase = Phase::Recording { retry: None };
                self.actions.push_back(Action::Record(Box::new(self.story.cdr(self.id, self.relay))));
            }
            Phase::Ringing { .. }
            | Phase::Asking { .. }
            | Phase::Talking(_)
            | Phase::Closing
            | Phase::Recording { .. }
            | Phase::Over => {}
        }
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Call::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Ringing { until } | Phase::Asking { until } => Some(until),
            Phase::Recording { retry } => retry,
            Phase::Talking(_) | Phase::Closing | Phase::Over => None,
        };
        let again = self.moving.as_ref().and_then(|moving| moving.deadline());
        [phase, self.note_again, again].into_iter().flatten().min()
    }

    /// The record is durable and nothing is left to do.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// The record is on its way, or written.
    pub fn is_recorded(&self) -> bool {
        matches!(self.phase, Phase::Recording { .. } | Phase::Over)
    }

    /// It was a conversation that a telephone has hung up.
    pub fn was_hung_up(&self) -> bool {
        self.story.was_hung_up()
    }

    /// The last will of a call whose actor died: every leg is ended and the record made, whatever state the call is in.
    /// Does not touch what a half-done step may have left inconsistent.
    pub fn bury(&mut self, now: Now) -> Vec<Action> {
        if self.is_recorded() {
            return Vec::new();
        }
        let mut will = Vec::new();
        for slot in 0..self.legs.len() {
            if let (Some(id), Some(command)) = (self.legs[slot].id, self.ending(slot, 500, "Call failed")) {
                will.push(Action::Leg(id, command));
            }
        }
        let left = self.moving.as_ref().and_then(|moving| moving.left());
        for relay in [self.relay.filter(|_| self.has_media), left].into_iter().flatten() {
            will.push(Action::Media(relay, u32::MAX, MediaCommand::Close, Signalling::default()));
        }
        self.story.end(HungUpBy::Platform, 500, "Call failed", now);
        if !self.is_untraced {
            will.push(Action::Record(Box::new(self.story.cdr(self.id, self.relay))));
        }
        self.phase = Phase::Over;
        will
    }

    /// Its name.
    pub fn id(&self) -> CallId {
        self.id
    }

    /// Whether it rings or talks.
    pub fn is_open(&self) -> bool {
        !self.is_ending()
    }

    /// Whether nobody has answered yet.
    pub fn is_ringing(&self) -> bool {
        matches!(self.phase, Phase::Ringing { .. } | Phase::Asking { .. })
    }

    /// Whether it was answered and goes on.
    pub fn is_talking(&self) -> bool {
        matches!(self.phase, Phase::Talking(_))
    }

    /// The caller's leg.
    pub fn caller_leg(&self) -> Option<LegId> {
        self.legs.get(CALLER)?.id
    }

    /// The proxy of a contact that was to ring is out of reach: there is no leg.
    pub fn unreachable(&mut self, slot: Slot, now: Now) {
        if slot < self.legs.len() && self.legs[slot].state != LegState::Gone {
            self.legs[slot].state = LegState::Gone;
            self.version += 1;
            if self.is_ringing() {
                self.callee_lost(slot, 503, now);
            }
        }
    }

    fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Recording { .. } | Phase::Over)
    }

    fn tell(&mut self, slot: Slot, command: LegCommand) {
        if let Some(id) = self.legs[slot].id {
            self.actions.push_back(Action::Leg(id, command));
        }
    }

    fn ask_relay(&mut self, purpose: Ticket, command: MediaCommand) {
        if let Some(relay) = self.relay {
            self.has_media = true;
            self.ask(relay, purpose, command);
        }
    }

    fn ask(&mut self, relay: NodeId, purpose: Ticket, command: MediaCommand) {
        let number = self.next_ticket;
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.tickets.push(Asked { number, relay, purpose });
        let signalling = self.signalling(&command);
        self.actions.push_back(Action::Media(relay, number, command, signalling));
    }

    fn signalling(&self, command: &MediaCommand) -> Signalling {
        let address = |media: MediaLeg| self.legs.get(usize::from(media.0)).and_then(|leg| leg.address);
        match command {
            MediaCommand::Offer { from, to, .. } | MediaCommand::Answer { from, to, .. } => {
                let is_trunk = self.legs.get(usize::from(from.0)).is_some_and(|leg| leg.is_trunk);
                Signalling { from: address(*from), to: address(*to), anywhere: is_trunk }
            }
            MediaCommand::Withdraw { .. }
            | MediaCommand::Release { .. }
            | MediaCommand::Stop
            | MediaCommand::Close => Signalling::default(),
        }
    }

    /// What ends a leg in its present state, if anything does.
    fn ending(&self, slot: Slot, status: u16, why: &str) -> Option<LegCommand> {
        match self.legs[slot].state {
            LegState::Calling if slot == CALLER => {
                Some(LegCommand::Reject { status, reason: None, headers: self.telling.clone() })
            }
            LegState::Calling => {
                Some(LegCommand::Cancel { reason: Some(format!("SIP;cause={status};text=\"{why}\"")) })
            }
            LegState::Up => {
                Some(LegCommand::Bye { reason: Some(format!("SIP;cause={status};text=\"{why}\"")) })
            }
            LegState::Prepared | LegState::Gone => None,
        }
    }

    fn end_leg(&mut self, slot: Slot, status: u16, why: &str) {
        if let Some(command) = self.ending(slot, status, why) {
            self.tell(slot, command);
        }
        // An INVITE that still waits in the queue has no name to cancel it by: it never goes.
        self.actions.retain(|action| !matches!(action, Action::Originate(to, _) if *to == slot));
        self.legs[slot].state = LegState::Gone;
        self.version += 1;
    }

    /// Ends whatever still lives, asks the relay for the figures and then writes the record. The ports stay this call's
    /// until the record is durable.
    fn finish(&mut self, by: HungUpBy, status: u16, why: &str, now: Now) {
        for slot in 0..self.legs.len() {
            self.end_leg(slot, status, why);
        }
        self.story.end(by, status, why, now);
        self.exchange = None;
        self.plan = None;
        self.offer = None;
        self.trunks = None;
        self.phase = Phase::Closing;
        self.version += 1;
        self.close_left_relay();
        if self.has_media {
            self.ask_relay(Ticket::LastFigures, MediaCommand::Stop);
        } else {
            self.end_attempt();
        }
        self.record_when_told(now);
    }

    /// Writes the record of an ended call, once no relay owes its figures any more.
    fn record_when_told(&mut self, now: Now) {
        let owes = |asked: &Asked| matches!(asked.purpose, Ticket::LastFigures | Ticket::EarlierFigures);
        if self.phase == Phase::Closing && !self.tickets.iter().any(owes) {
            self.write_record(now);
        }
    }

    fn write_record(&mut self, now: Now) {
        self.phase = Phase::Recording { retry: None };
        self.version += 1;
        if self.is_untraced {
            return self.recorded(true, now);
        }
        self.actions.push_back(Action::Record(Box::new(self.story.cdr(self.id, self.relay))));
    }

    /// Notes what the peer of a leg said last that both agreed upon.
    fn agree_on(&mut self, slot: Slot, sdp: Bytes) {
        self.version += 1;
        self.legs[slot].agreed = Some(sdp);
    }

    /// A peer ended an established leg, or a leg failed.
    fn leg_ended(&mut self, slot: Slot, by_peer: bool, cause: sip::session::EndCause, now: Now) {
        let calling = self.legs[slot].state == LegState::Calling;
        self.legs[slot].state = LegState::Gone;
        self.version += 1;
        if slot != CALLER && calling && matches!(self.phase, Phase::Ringing { .. }) {
            let (status, _) = record::end_cause(by_peer, cause);
            self.callee_lost(slot, if status < 300 { 480 } else { status }, now);
            return;
        }
        if slot == CALLER && cause == sip::session::EndCause::NoPrack {
            self.story.not_answered();
        }
        let by = match (by_peer, slot) {
            (true, CALLER) => HungUpBy::Caller,
            (true, _) => HungUpBy::Callee,
            (false, _) => HungUpBy::Platform,
        };
        let (status, why) = record::end_cause(by_peer, cause);
        self.finish(by, status, why, now);
    }

    /// An event of a leg that the call has done with: an answer that crossed our CANCEL is hung up.
    fn late_event(&mut self, slot: Slot, event: &LegEvent) {
        if let LegEvent::Answered { .. } = event {
            self.tell(slot, LegCommand::Bye { reason: None });
        }
    }
}
