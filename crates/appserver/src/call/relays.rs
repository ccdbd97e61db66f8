//! Media that goes to another relay while its call lasts: the first one was lost, or is about to leave.
//!
//! In: word of a lost relay, the wish to leave one, what relays and peers say to it. Out: the session made anew from what both sides
//! have agreed upon, and an offer to each of them. Elsewhere: which relay (the shell), exchanges that peers begin (`exchange`).
//!
//! What cannot move: a call that is not answered yet, whose relay is lost, ends with 503, for an INVITE that is out cannot be
//! offered anything else. One that is only asked to move does so once it is answered.

use super::capsule::NOBODY;
use super::exchange::Exchange;
use super::{Asked, CALLER, Call, LegState, Now, Phase, Slot, Ticket, own};
use bytes::Bytes;
use cluster::ids::{LegId, NodeId};
use cluster::leg::LegCommand;
use cluster::media::{MediaCommand, MediaError, MediaLeg, MediaReply, tickets_of};
use model::HungUpBy;
use std::time::{Duration, Instant};

/// How often a peer that refuses is asked again; its session has tried before that as the RFCs say.
const TRIES_MAX: u8 = 3;
/// Pause before the second try; each later one takes twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// A move under way.
#[derive(Debug)]
pub(super) struct Move {
    /// The relay that has the media of whoever has not moved yet; `None`: it is lost, or there was none.
    pub(super) from: Option<NodeId>,
    pub(super) to: NodeId,
    /// The session at `to` was begun: commands go there.
    begun: bool,
    /// A peer has heard of it: there is no way back.
    is_known: bool,
    /// Of the caller and of the callee.
    sides: [Side; 2],
}

/// A peer that shall move.
#[derive(Debug, Default)]
struct Side {
    /// What the relay has for it; none before the relay has said so, and after the peer has moved.
    told: Option<Bytes>,
    /// An offer to it is open.
    asked: bool,
    /// That one is of no use any more: another follows.
    stale: bool,
    moved: bool,
    tries: u8,
    /// When it is asked again.
    again: Option<Instant>,
}

impl Move {
    pub(super) fn new(from: Option<NodeId>, to: NodeId) -> Box<Self> {
        Box::new(Self { from, to, begun: false, is_known: false, sides: Default::default() })
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sides.iter().filter_map(|side| side.again).min()
    }

    /// The relay that has media of this call beside the call's own.
    pub(super) fn left(&self) -> Option<NodeId> {
        self.from.filter(|_| self.begun)
    }

    /// Everything anew, at another relay. Offers that are open stay so until they are answered.
    fn again(&mut self, to: NodeId) {
        self.to = to;
        self.begun = false;
        for side in &mut self.sides {
            *side = Side { asked: side.asked, stale: side.asked, ..Side::default() };
        }
    }
}

impl Call {
    /// The relay that has the media, or will have it once both peers have moved.
    pub fn relay(&self) -> Option<NodeId> {
        self.relay
    }

    /// Whether this relay was asked for something that it has not answered.
    pub fn awaits_relay(&self, relay: NodeId) -> bool {
        self.tickets.iter().any(|asked| asked.relay == relay)
    }

    /// Whether this relay has media of the call, or soon will.
    pub fn uses_relay(&self, relay: NodeId) -> bool {
        let moving = self.moving.as_ref().map(|moving| (moving.from, moving.to));
        self.relay == Some(relay) || moving.is_some_and(|(from, to)| from == Some(relay) || to == relay)
    }

    /// The relays that have media of the call, or soon will.
    pub fn relays(&self) -> Vec<NodeId> {
        let (from, to) = self.moving.as_ref().map_or((None, None), |moving| (moving.from, Some(moving.to)));
        let mut all: Vec<NodeId> = [self.relay, from, to].into_iter().flatten().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The call is had under a title of this epoch from now on, and its relays are told.
    pub fn reign(&mut self, epoch: u32) {
        self.next_ticket = self.next_ticket.max(tickets_of(epoch));
        self.claim_sessions();
    }

    /// Says at the call's relays whose it is. Whoever had it before is not obeyed there any more.
    pub(super) fn claim_sessions(&mut self) {
        self.relays().into_iter().for_each(|relay| self.claim_sessions_at(relay));
    }

    /// The same, at this one.
    pub fn claim_sessions_at(&mut self, relay: NodeId) {
        if self.has_media || self.moving.is_some() {
            self.ask(relay, Ticket::Claim(relay), MediaCommand::Release { leg: NOBODY });
        }
    }

    /// What a relay says to that. One that was started anew while the call went from server to server has lost the session, and nobody
    /// could hear of it: it is made again.
    pub(super) fn claim_answered(&mut self, relay: NodeId, reply: MediaReply) {
        if matches!(reply, MediaReply::Refused(MediaError::OutOfStep(_))) && self.relay == Some(relay) {
            self.media_anew();
        }
    }

    /// Whether the media is on its way to another relay.
    pub fn is_moving(&self) -> bool {
        self.moving.is_some()
    }

    /// A relay is lost, with its sessions and their figures. An answered call goes on at `new`: what both sides have agreed upon
    /// is made anew there, and both are offered it; until they have taken it they do not hear each other. A change that was under
    /// way is refused with 491, so that its peer tries again. A call that is not answered ends with 503, and so does every call
    /// without a new relay.
    pub fn relay_lost(&mut self, relay: NodeId, new: Option<NodeId>, now: Now) {
        let (lost, kept) =
            std::mem::take(&mut self.tickets).into_iter().partition(|asked| asked.relay == relay);
        self.tickets = kept;
        let lost: Vec<Asked> = lost;
        if let Some(moving) = self.moving.as_mut().filter(|moving| moving.from == Some(relay)) {
            moving.from = None; // who has not moved yet will
            self.version += 1;
        }
        if self.relay != Some(relay) {
            // A move there has not begun.
            if self.moving.take_if(|moving| moving.to == relay).is_some() {
                self.version += 1;
            }
            return self.record_when_told(now);
        }
        let had_media = std::mem::replace(&mut self.has_media, false);
        self.relay = new;
        self.version += 1;
        if self.is_ending() {
            return self.record_when_told(now);
        }
        if !had_media && new.is_some() {
            return; // nobody has heard of the old one
        }
        let Some(new) = new.filter(|_| self.is_established()) else {
            self.moving = None;
            return self.finish(HungUpBy::Platform, 503, "Media relay lost", now);
        };
        match &mut self.moving {
            Some(moving) => moving.again(new),
            None => self.moving = Some(Move::new(None, new)),
        }
        self.break_off(&lost);
        self.move_on();
    }

    /// The media shall go to another relay, because its own is about to leave. Nobody hears of it before the call is answered and
    /// no change is under way; the old relay is let go when both peers have taken the new one. If that has no port free, the call
    /// stays where it is ([`Call::is_moving`], [`Call::relay`]). Without effect on a call that is ending or moves already.
    pub fn move_media(&mut self, new: NodeId, _now: Now) {
        if !self.is_ending() && self.moving.is_none() && self.relay.is_some_and(|relay| relay != new) {
            self.moving = Some(Move::new(self.relay, new));
            self.version += 1;
            self.move_on();
        }
    }

    /// Both peers may have been told of another relay than this call's: they are told of it anew, once nothing else is under way.
    pub fn media_anew(&mut self) {
        let Some(relay) = self.relay.filter(|_| self.has_media && !self.is_ending()) else { return };
        match &mut self.moving {
            Some(moving) => moving.again(moving.to),
            None => self.moving = Some(Move::new(None, relay)),
        }
        self.version += 1;
        self.move_on();
    }

    /// Both peers are being moved: nothing else is offered to them.
    pub(super) fn has_begun_to_move(&self) -> bool {
        self.moving.as_ref().is_some_and(|moving| moving.begun)
    }

    /// Answered on both sides, and each knows what the other said.
    pub(super) fn is_established(&self) -> bool {
        let Phase::Talking(callee) = self.phase else { return false };
        let is_first = |asked: &Asked| {
            matches!(asked.purpose, Ticket::FinalAnswer(_) | Ticket::LateOffer | Ticket::LateAnswer)
        };
        !self.tickets.iter().any(is_first)
            && [CALLER, callee]
                .iter()
                .all(|slot| self.legs[*slot].state == LegState::Up && self.legs[*slot].agreed.is_some())
    }

    /// The relay is lost in the middle of a change; what it was asked for will not come.
    fn break_off(&mut self, lost: &[Asked]) {
        let Some(exchange) = &mut self.exchange else { return };
        let Exchange { from, to, delayed, .. } = *exchange;
        let waits_for = |purpose: fn(Ticket) -> bool| lost.iter().any(|asked| purpose(asked.purpose));
        let offering = waits_for(|ticket| matches!(ticket, Ticket::Reoffer(_)));
        let answering = waits_for(|ticket| matches!(ticket, Ticket::Reanswer(_)));
        // Our own offer has gone to it where it had asked for one: it is not refused any more, but answered.
        let was_offered = delayed && !offering && exchange.said[0].is_some();
        let waits = !exchange.withdrawn && !exchange.restores && !was_offered;
        let out = !exchange.withdrawn && !offering && !answering && !was_offered;
        exchange.withdrawn = true;
        let answer = exchange.said[1].clone();
        if waits {
            self.tell(from, LegCommand::RejectOffer { status: 491 });
        }
        if out {
            let reason = Some("SIP;cause=503;text=\"Media relay lost\"".to_owned());
            self.tell(to, LegCommand::Cancel { reason }); // its outcome ends the exchange
        }
        match (delayed, answering) {
            (false, _) if offering || answering => self.exchange = None,
            (true, true) => {
                answer.into_iter().for_each(|answer| self.agree_on(from, answer));
                self.answer_withdrawn();
            }
            (true, false) if offering => self.answer_withdrawn(),
            (_, _) => {}
        }
    }

    /// A peer that made an offer because it was asked for one must have an answer, whatever became of the question.
    pub(super) fn answer_withdrawn(&mut self) {
        let Some(exchange) = self.exchange.as_ref() else { return };
        let (offerer, answerer) = (exchange.to, exchange.from);
        let Some(sdp) = exchange.said[0].clone() else { return };
        let (from, to) = (self.legs[offerer].media, self.legs[answerer].media);
        self.ask_relay(Ticket::Reoffer(answerer), MediaCommand::Offer { from, to, sdp });
    }

    /// Begins a move whose time has come.
    pub(super) fn move_on(&mut self) {
        let may_begin = self.moving.as_ref().is_some_and(|moving| !moving.begun)
            && self.exchange.is_none()
            && self.is_established();
        let Phase::Talking(callee) = self.phase else { return };
        let Some(moving) = self.moving.as_mut().filter(|_| may_begin) else { return };
        moving.begun = true;
        self.relay = Some(moving.to);
        self.repair = None; // what the caller is offered now is the callee's last word
        self.forget_change();
        self.version += 1;
        if let Some(sdp) = self.legs[CALLER].agreed.clone() {
            let command = MediaCommand::Offer { from: MediaLeg(0), to: self.legs[callee].media, sdp };
            self.ask_relay(Ticket::MovedOffer, command);
        }
    }

    pub(super) fn moved_offer_ready(&mut self, reply: MediaReply, now: Now) {
        let (Some(moving), Phase::Talking(callee)) = (&mut self.moving, self.phase) else { return };
        match (reply, self.legs[callee].agreed.clone()) {
            (MediaReply::Sdp(told), Some(sdp)) => {
                moving.sides[1].told = Some(told);
                let command = MediaCommand::Answer { from: self.legs[callee].media, to: MediaLeg(0), sdp };
                self.ask_relay(Ticket::MovedAnswer, command);
            }
            (reply, _) => self.cannot_move(reply, now),
        }
    }

    pub(super) fn moved_answer_ready(&mut self, reply: MediaReply, now: Now) {
        let Some(moving) = &mut self.moving else { return };
        match reply {
            MediaReply::Sdp(told) => {
                moving.sides[0].told = Some(told);
                (0..2).for_each(|side| self.ask_to_move(side));
            }
            reply => self.cannot_move(reply, now),
        }
    }

    /// The new relay cannot have the call. Where the old one is there, nothing has happened yet.
    fn cannot_move(&mut self, reply: MediaReply, now: Now) {
        let error = match reply {
            MediaReply::Refused(error) => error,
            MediaReply::Sdp(_) | MediaReply::Done | MediaReply::Report(_) => MediaError::OutOfStep("no SDP"),
        };
        match self.moving.take() {
            Some(moving) if moving.from.is_some() && !moving.is_known => {
                self.ask_relay(Ticket::Nothing, MediaCommand::Close);
                self.relay = moving.from;
                self.version += 1;
            }
            moving => {
                self.moving = moving;
                self.media_refused(&error, now);
            }
        }
    }

    fn slot_of(&self, side: usize) -> Slot {
        match (self.phase, side) {
            (Phase::Talking(callee), 1) => callee,
            (_, _) => CALLER,
        }
    }

    fn side_of(&self, slot: Slot) -> Option<usize> {
        match self.phase {
            Phase::Talking(callee) if callee == slot => Some(1),
            Phase::Talking(_) if slot == CALLER => Some(0),
            _ => None,
        }
    }

    fn ask_to_move(&mut self, side: usize) {
        let slot = self.slot_of(side);
        let Some(moving) = &mut self.moving else { return };
        moving.is_known = true;
        let side = &mut moving.sides[side];
        // An offer that is still open comes to its end first.
        let Some(sdp) = side.told.clone().filter(|_| !side.asked) else { return };
        side.asked = true;
        side.stale = false;
        side.again = None;
        // Who refuses an UPDATE may take a re-INVITE.
        let prefer_update = side.tries == 0;
        self.tell(slot, LegCommand::Reoffer { sdp: Some(sdp), prefer_update });
    }

    /// A peer answers; whether that was to our offer to move.
    pub(super) fn moved(&mut self, slot: Slot, sdp: &Bytes) -> bool {
        let (Some(at), Phase::Talking(callee)) = (self.side_of(slot), self.phase) else { return false };
        let Some(moving) = &mut self.moving else { return false };
        let side = &mut moving.sides[at];
        if !side.asked {
            return false;
        }
        side.asked = false;
        let is_news = self.legs[slot].agreed.as_ref() != Some(sdp);
        if side.stale {
            side.stale = false;
            if is_news {
                self.agree_on(slot, own(sdp));
            }
            self.ask_to_move(at); // if the relay has said what
            return true;
        }
        side.moved = true;
        side.told = None;
        let both = moving.sides.iter().all(|side| side.moved);
        if is_news {
            self.agree_on(slot, own(sdp));
            self.tell_relay(slot, callee, sdp.clone());
        }
        if both {
            self.close_left_relay();
            self.moving = None;
            self.version += 1;
        }
        true
    }

    /// A peer that moves says something else than before: the relay must know.
    fn tell_relay(&mut self, slot: Slot, callee: Slot, sdp: Bytes) {
        let (caller, callee_media) = (MediaLeg(0), self.legs[callee].media);
        if slot != CALLER {
            let command = MediaCommand::Answer { from: callee_media, to: caller, sdp };
            return self.ask_relay(Ticket::Nothing, command);
        }
        // It was the relay's rewriting of the callee's answer that the caller was offered.
        if let Some(offer) = self.legs[callee].agreed.clone() {
            let command = MediaCommand::Offer { from: callee_media, to: caller, sdp: offer };
            self.ask_relay(Ticket::Nothing, command);
            let command = MediaCommand::Answer { from: caller, to: callee_media, sdp };
            self.ask_relay(Ticket::Nothing, command);
        }
    }

    /// A peer refuses; whether that was our offer to move.
    pub(super) fn refused_to_move(&mut self, slot: Slot, status: u16, now: Now) -> bool {
        let Some(at) = self.side_of(slot) else { return false };
        let Some(side) = self.moving.as_mut().map(|moving| &mut moving.sides[at]) else { return false };
        if !side.asked {
            return false;
        }
        side.asked = false;
        if side.stale {
            side.stale = false;
            self.ask_to_move(at);
            return true;
        }
        side.tries += 1;
        if side.tries < TRIES_MAX {
            side.again = Some(now.mono + PAUSE * (1 << (side.tries - 1)));
        } else {
            self.finish(HungUpBy::Platform, status, "Media could not be moved", now);
        }
        true
    }

    /// A leg goes on at another proxy, which knows of nothing that was under way at the one before: a change of the session comes to
    /// its end, so that its peer tries again, and who was to move is asked once more.
    pub fn leg_revived(&mut self, leg: LegId) {
        let Some(slot) = self.legs.iter().position(|own| own.id == Some(leg)) else { return };
        match self.exchange.as_ref().map(|exchange| (exchange.from, exchange.to)) {
            Some((from, _)) if from == slot => self.peer_withdraws_offer(slot),
            Some((_, to)) if to == slot => self.give_up_exchange(491),
            _ => {}
        }
        let Some(at) = self.side_of(slot) else { return };
        if let Some(side) = self.moving.as_mut().map(|moving| &mut moving.sides[at]).filter(|side| side.asked)
        {
            side.asked = false;
            side.stale = false;
            self.ask_to_move(at);
        }
        self.move_on();
    }

    /// Asks those again whose pause is over.
    pub(super) fn move_again(&mut self, now: Now) {
        for side in 0..2 {
            let is_due = |side: &Side| side.again.is_some_and(|at| at <= now.mono);
            if self.moving.as_ref().is_some_and(|moving| is_due(&moving.sides[side])) {
                self.ask_to_move(side);
            }
        }
    }

    /// The relay that had the media before is not needed any more: its ports are free, its figures count.
    pub(super) fn close_left_relay(&mut self) {
        if let Some(moving) = self.moving.take()
            && let Some(left) = moving.left()
        {
            self.ask(left, Ticket::EarlierFigures, MediaCommand::Close);
        }
    }
}
