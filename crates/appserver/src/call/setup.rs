//! From the INVITE to the answer: who rings, who wins.
//!
//! In: the authenticated INVITE, progress and refusals of callees. Out: legs to every binding, the winner's answer to the
//! caller, or one refusal chosen from all. Manual: "Making internal calls", "Users", "Extensions".

use super::limits::refusal;
use super::route::{self, Contact, Decided, Refused, Ring, Words};
use super::trunks::Trunks;
use super::{
    ASKING_MAX, Action, CALLER, Call, FORKS_MAX, Leg, LegState, Now, Phase, Slot, Ticket, World, own,
};
use bytes::Bytes;
use cluster::counters::{Claim, Verdict};
use cluster::leg::{Callee, Incoming, LegCommand, Originate};
use cluster::media::{MediaCommand, MediaError, MediaLeg, MediaReply};
use model::HungUpBy;
use model::entities::UserRejectCallMethod;
use sip::draft::HeaderText;
use std::net::IpAddr;

/// Descriptions that a call keeps of devices which ring behind one binding.
const EARLY_MAX: usize = 8;

/// Octets of a line that goes with a refusal.
const TOLD_MAX: usize = 128;

/// What a call will do when it has a place.
#[derive(Debug)]
pub(super) struct Plan {
    /// Of the question.
    number: u32,
    claims: Vec<Claim>,
    incoming: Incoming,
    ring: Ring,
    words: Words,
}

impl Call {
    /// Decides what was dialled and asks for a place, or refuses.
    pub fn set_up(&mut self, incoming: Incoming, world: &dyn World, now: Now) {
        let decided = match route::decide(&incoming, world, now) {
            Ok(decided) => *decided,
            Err(refused) => {
                let Refused { status, why, brief, caller, callee, endpoint } = *refused;
                self.story.endpoint(CALLER, endpoint);
                self.story.caller(caller);
                self.story.callee(callee);
                if let Some(brief) = brief {
                    // Call rejected (Q.850); RFC 3326.
                    self.telling.push_fmt("Reason", format_args!("Q.850;cause=21;text=\"{brief}\""));
                }
                tracing::info!(call = %self.id, client = %self.client, dialed = self.story.dialed, status, why, "call refused");
                return self.finish(HungUpBy::Platform, status, &why, now);
            }
        };
        let Decided { caller, callee, endpoint, externals, is_untraced, claims, rejection, ring, words } =
            decided;
        self.story.endpoint(CALLER, endpoint);
        self.story.caller(caller);
        self.story.callee(callee);
        self.story.externals = externals;
        self.is_untraced = is_untraced;
        self.rejection = rejection;
        let number = self.next_ticket;
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.phase = Phase::Asking { until: now.mono + ASKING_MAX };
        self.actions.push_back(Action::Reserve(number, claims.clone()));
        self.plan = Some(Box::new(Plan { number, claims, incoming, ring, words }));
    }

    /// The answer to an [`Action::Reserve`]: there is a place, and telephones ring, or the call is refused.
    pub fn reserved(&mut self, number: u32, verdict: Verdict, world: &dyn World, now: Now) {
        let Some(plan) = self.plan.take_if(|plan| plan.number == number) else { return };
        if verdict != Verdict::Granted {
            return self.refuse(verdict, now);
        }
        let Plan { claims, incoming, ring, words, .. } = *plan;
        self.held = claims;
        self.relay = world.choose_relay(self.client, self.id, incoming.leg);
        if self.relay.is_none() {
            return self.finish(HungUpBy::Platform, 503, "No media relay", now);
        }
        self.offer = incoming.offer;
        match ring {
            Ring::Contacts { contacts, endpoint } => {
                self.phase = Phase::Ringing { until: now.mono + world.ring_time() };
                for Contact { home, to, address } in contacts.into_iter().take(FORKS_MAX) {
                    self.prepare(words.order(self.id, home, to), address, &endpoint);
                }
                for slot in 1..self.legs.len() {
                    self.offer_to(slot);
                }
            }
            Ring::Carriers(tries) => {
                let trunks = Trunks::new(tries, words, incoming.leg.node(), world.carrier_failures());
                self.call_carriers(trunks, world, now);
            }
        }
    }

    pub(super) fn refuse(&mut self, verdict: Verdict, now: Now) {
        if let Some((status, why)) = refusal(verdict) {
            self.finish(HungUpBy::Platform, status, why, now);
        }
    }

    pub(super) fn note(&mut self) {
        if self.is_untraced {
            return;
        }
        self.actions.push_back(Action::Note(Box::new(self.story.open_call(self.id, self.relay))));
    }

    /// A leg that is about to be called.
    pub(super) fn prepare(&mut self, order: Originate, address: Option<IpAddr>, endpoint: &str) {
        let slot = self.legs.len();
        self.legs.push(Leg {
            id: None,
            media: MediaLeg(u8::try_from(slot).unwrap_or(u8::MAX)),
            address,
            is_trunk: matches!(order.to, Callee::Server { .. }),
            state: LegState::Prepared,
            early_answer: false,
            early: Vec::new(),
            agreed: None,
            order: Some(Box::new(order)),
        });
        self.story.add_callee_leg(endpoint);
    }

    /// Offers a leg what the caller has offered.
    pub(super) fn offer_to(&mut self, slot: Slot) {
        match self.offer.clone() {
            Some(sdp) => {
                let command = MediaCommand::Offer { from: MediaLeg(0), to: self.legs[slot].media, sdp };
                self.ask_relay(Ticket::FirstOffer(slot), command);
            }
            None => self.originate(slot, None),
        }
    }

    fn originate(&mut self, slot: Slot, offer: Option<Bytes>) {
        if let Some(mut order) = self.legs[slot].order.take() {
            order.offer = offer;
            self.legs[slot].state = LegState::Calling;
            self.version += 1;
            self.actions.push_back(Action::Originate(slot, order));
        }
    }

    pub(super) fn offer_for_callee(&mut self, slot: Slot, reply: MediaReply, now: Now) {
        match reply {
            MediaReply::Sdp(sdp) => self.originate(slot, Some(sdp)),
            MediaReply::Refused(error) => self.media_refused(&error, now),
            MediaReply::Done | MediaReply::Report(_) => {
                self.media_refused(&MediaError::OutOfStep("no SDP"), now)
            }
        }
    }

    /// The relay cannot do what the call needs: the call ends as the peers' protocol says.
    pub(super) fn media_refused(&mut self, error: &MediaError, now: Now) {
        let (status, why) = match error {
            MediaError::NoPorts => (503, "No media port free"),
            MediaError::Unreachable => (503, "Media relay out of reach"),
            MediaError::BadSdp(_) => (488, "Unusable session description"),
            MediaError::Superseded => (500, "Another application server has the call"),
            MediaError::OutOfStep(_) => (500, "Media session out of step"),
        };
        self.finish(HungUpBy::Platform, status, why, now);
    }

    pub(super) fn callee_progress(&mut self, slot: Slot, fork: u32, status: u16, sdp: Option<Bytes>) {
        if slot == CALLER || !matches!(self.phase, Phase::Ringing { .. }) || status <= 100 {
            return;
        }
        if let Some(sdp) = &sdp {
            let early = &mut self.legs[slot].early;
            early.retain(|(other, _)| *other != fork);
            if early.len() < EARLY_MAX {
                early.push((fork, own(sdp)));
            }
        }
        // One early conversation at a time: the first device that sends audio is heard until somebody answers. Several may
        // ring behind one binding: another proxy forks to them (RFC 3261 section 13.2.2.4).
        let may_be_heard = self.caller_offers && self.early_from.is_none_or(|heard| heard == (slot, fork));
        match sdp {
            Some(sdp) if may_be_heard => {
                self.early_from = Some((slot, fork));
                self.legs[slot].early_answer = true;
                self.agree_on(slot, own(&sdp));
                let command = MediaCommand::Answer { from: self.legs[slot].media, to: MediaLeg(0), sdp };
                self.ask_relay(Ticket::EarlyAnswer(slot, status), command);
            }
            Some(_) | None => {
                let news = status > self.told || status == 180 && self.told != 180;
                if news && self.early_from.is_none_or(|(heard, _)| heard == slot) {
                    self.tell_progress(status, None);
                }
            }
        }
    }

    fn tell_progress(&mut self, status: u16, sdp: Option<Bytes>) {
        self.told = status;
        self.tell(CALLER, LegCommand::Progress { status, sdp, headers: HeaderText::default() });
    }

    pub(super) fn early_answer_ready(&mut self, slot: Slot, status: u16, reply: MediaReply) {
        let usable =
            matches!(self.phase, Phase::Ringing { .. }) && self.legs[slot].state == LegState::Calling;
        match reply {
            MediaReply::Sdp(sdp) if usable => self.tell_progress(status, Some(sdp)),
            // Early media that cannot be used is left out; the answer itself decides.
            MediaReply::Sdp(_) | MediaReply::Refused(_) | MediaReply::Done | MediaReply::Report(_) => {}
        }
    }

    pub(super) fn callee_answered(&mut self, slot: Slot, fork: u32, sdp: Option<Bytes>, now: Now) {
        if slot == CALLER {
            return;
        }
        self.legs[slot].state = LegState::Up;
        self.version += 1;
        // What this device said before it answered, and nobody heard, stands if it says nothing new.
        let unheard = self.early_from != Some((slot, fork));
        let said = std::mem::take(&mut self.legs[slot].early).into_iter().find(|(who, _)| *who == fork);
        let sdp = sdp.or(said.filter(|_| unheard).map(|(_, sdp)| sdp));
        if !matches!(self.phase, Phase::Ringing { .. }) {
            self.end_leg(slot, 200, "Call completed elsewhere"); // somebody else was faster
            return;
        }
        self.phase = Phase::Talking(slot);
        self.carrier_answered(slot);
        self.offer = None;
        if self.early_from.is_some() && unheard {
            self.repair = sdp.clone();
        }
        for other in 1..self.legs.len() {
            if other != slot && self.legs[other].state != LegState::Gone {
                self.end_leg(other, 200, "Call completed elsewhere");
                self.release(other);
            }
        }
        if let Some(sdp) = &sdp {
            self.agree_on(slot, own(sdp));
        }
        let callee = self.legs[slot].media;
        match (self.caller_offers, sdp) {
            (true, Some(sdp)) => {
                self.ask_relay(
                    Ticket::FinalAnswer(slot),
                    MediaCommand::Answer { from: callee, to: MediaLeg(0), sdp },
                );
            }
            (true, None) if !unheard => self.accept_caller(None, now),
            (true, None) => self.finish(HungUpBy::Platform, 488, "Answer without a session description", now),
            (false, Some(sdp)) => {
                self.ask_relay(Ticket::LateOffer, MediaCommand::Offer { from: callee, to: MediaLeg(0), sdp });
            }
            (false, None) => self.finish(HungUpBy::Platform, 488, "Answer without an offer", now),
        }
    }

    pub(super) fn final_answer_ready(&mut self, slot: Slot, reply: MediaReply, now: Now) {
        if self.phase != Phase::Talking(slot) {
            return;
        }
        match reply {
            MediaReply::Sdp(sdp) => self.accept_caller(Some(sdp), now),
            MediaReply::Refused(error) => self.media_refused(&error, now),
            MediaReply::Done | MediaReply::Report(_) => {
                self.media_refused(&MediaError::OutOfStep("no SDP"), now)
            }
        }
    }

    pub(super) fn late_offer_ready(&mut self, reply: MediaReply, now: Now) {
        match reply {
            MediaReply::Sdp(sdp) => self.accept_caller(Some(sdp), now),
            MediaReply::Refused(error) => self.media_refused(&error, now),
            MediaReply::Done | MediaReply::Report(_) => {
                self.media_refused(&MediaError::OutOfStep("no SDP"), now)
            }
        }
    }

    fn accept_caller(&mut self, sdp: Option<Bytes>, now: Now) {
        self.end_attempt();
        self.legs[CALLER].state = LegState::Up;
        self.version += 1;
        self.tell(CALLER, LegCommand::Accept { sdp, headers: HeaderText::default() });
        if let Phase::Talking(callee) = self.phase {
            self.story.answered(callee, now);
        }
        self.note();
    }

    /// The caller's ACK came; with a delayed offer it holds his answer.
    pub(super) fn caller_confirmed(&mut self, slot: Slot, sdp: Option<Bytes>) {
        let Phase::Talking(callee) = self.phase else { return };
        if let (CALLER, false, Some(sdp)) = (slot, self.caller_offers, sdp) {
            self.agree_on(CALLER, own(&sdp));
            let command = MediaCommand::Answer { from: MediaLeg(0), to: self.legs[callee].media, sdp };
            self.ask_relay(Ticket::LateAnswer, command);
        } else if let (CALLER, Some(sdp)) = (slot, self.repair.take()) {
            self.version += 1;
            self.offer_again(callee, CALLER, sdp);
        }
    }

    pub(super) fn late_answer_ready(&mut self, reply: MediaReply, now: Now) {
        let Phase::Talking(callee) = self.phase else { return };
        match reply {
            MediaReply::Sdp(sdp) => self.tell(callee, LegCommand::Answer { sdp }),
            MediaReply::Refused(error) => self.media_refused(&error, now),
            MediaReply::Done | MediaReply::Report(_) => {
                self.media_refused(&MediaError::OutOfStep("no SDP"), now)
            }
        }
    }

    /// A device refused. Whether that ends the ringing everywhere is the user's setting (manual 10.1.1, "Call Rejection
    /// Method").
    pub(super) fn callee_refused(&mut self, slot: Slot, status: u16, lines: HeaderText, now: Now) {
        self.legs[slot].state = LegState::Gone;
        self.version += 1;
        if slot == CALLER || !matches!(self.phase, Phase::Ringing { .. }) {
            return;
        }
        self.release(slot);
        if self.carrier_failed(slot, status) {
            return;
        }
        self.refusals.push((status, told_lines(&lines)));
        let person_refused = matches!(status, 480 | 486 | 600 | 603);
        let all = match self.rejection {
            UserRejectCallMethod::Rfc => status >= 600,
            UserRejectCallMethod::OneDevice => false,
            UserRejectCallMethod::AllDevices => person_refused || status >= 600,
        };
        if all {
            self.telling = self.refusals.pop().map(|(_, lines)| lines).unwrap_or_default();
            self.finish(HungUpBy::Callee, told_to_caller(status), sip::draft::reason_phrase(status), now);
        } else {
            self.refuse_when_none_is_left(now);
        }
    }

    /// A callee's leg failed without an answer; `status` is what that counts as.
    pub(super) fn callee_lost(&mut self, slot: Slot, status: u16, now: Now) {
        self.release(slot);
        if self.carrier_failed(slot, status) {
            return;
        }
        self.refusals.push((status, HeaderText::new()));
        self.refuse_when_none_is_left(now);
    }

    fn refuse_when_none_is_left(&mut self, now: Now) {
        if self.legs[1..].iter().any(|leg| leg.state != LegState::Gone) {
            return;
        }
        let (status, lines) = best_refusal(std::mem::take(&mut self.refusals));
        self.telling = lines;
        let by = if matches!(status, 486 | 600 | 603 | 480) { HungUpBy::Callee } else { HungUpBy::Platform };
        let why = if status == 408 { "Unreachable" } else { sip::draft::reason_phrase(status) };
        self.finish(by, told_to_caller(status), why, now);
    }

    fn release(&mut self, slot: Slot) {
        if self.early_from.is_some_and(|(heard, _)| heard == slot) {
            self.early_from = None;
        }
        if self.caller_offers {
            let leg = self.legs[slot].media;
            self.ask_relay(Ticket::Figures, MediaCommand::Release { leg });
        }
    }

    pub(super) fn nobody_answered(&mut self, now: Now) {
        self.finish(HungUpBy::Platform, 480, "No answer", now);
    }

    pub(super) fn caller_gave_up(&mut self, slot: Slot, now: Now) {
        if slot != CALLER {
            return;
        }
        self.legs[CALLER].state = LegState::Gone; // its session answers 487 itself
        self.story.not_answered();
        self.finish(HungUpBy::Caller, 487, "Cancelled", now);
    }
}

/// One refusal for all forks: a 6xx decides, else what tells the caller most (RFC 3261 section 16.7 step 6).
fn best_refusal(refusals: Vec<(u16, HeaderText)>) -> (u16, HeaderText) {
    let rank = |status: u16| match status {
        600.. => 0,
        486 => 1,
        480 => 2,
        488 | 415 => 3,
        408 => 5,
        400..=499 => 4,
        _ => 6,
    };
    refusals
        .into_iter()
        .min_by_key(|(status, _)| (rank(*status), *status))
        .unwrap_or_else(|| (480, HeaderText::new()))
}

/// What a device's refusal says that its caller may hear: when to come again. Not what names its network (Warning), makes
/// telephones fetch something (Error-Info), or tells them what their call was about (Reason).
fn told_lines(lines: &HeaderText) -> HeaderText {
    let mut told = HeaderText::new();
    if let Some(value) = lines.get("Retry-After").filter(|value| value.len() <= TOLD_MAX) {
        told.push("Retry-After", value);
    }
    told
}

/// What a callee's refusal is for the caller. Redirections and challenges are ours to handle and become "unavailable"; so
/// does a callee's 503, which says nothing about this platform (RFC 3261 section 16.7 step 6), nor a way that is broken. What is
/// wrong with our request is no fault of the caller's (and would have to name what is allowed, sections 21.4.6 to 21.4.15);
/// what is wrong with its body is, for that is the caller's.
fn told_to_caller(status: u16) -> u16 {
    match status {
        300..=399 | 401 | 407 | 408 | 481 | 482 | 483 | 489 | 503 => 480,
        406 | 415 | 580 => 488,
        400 | 402 | 405 | 411..=414 | 416..=432 | 436..=440 | 469 | 470 | 491..=494 | 501 | 505 | 513 => 500,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_is_chosen_for_the_caller() {
        let with_lines = |status: &u16| {
            let mut lines = HeaderText::new();
            lines.push_fmt("Retry-After", format_args!("{status}"));
            (*status, lines)
        };
        for (refusals, chosen) in [
            (&[408, 486][..], 486),
            (&[486, 603], 603),
            (&[480, 486], 486),
            (&[503, 408], 408),
            (&[500], 500),
            (&[], 480),
        ] {
            let (status, lines) = best_refusal(refusals.iter().map(with_lines).collect());
            assert_eq!(status, chosen, "{refusals:?}");
            assert!(refusals.is_empty() || lines == with_lines(&chosen).1, "its own lines");
        }
        for (theirs, told) in [
            (302, 480),
            (407, 480),
            (408, 480),
            (503, 480),
            (486, 486),
            (405, 500),
            (420, 500),
            (415, 488),
            (404, 404),
            (433, 433),
            (603, 603),
        ] {
            assert_eq!(told_to_caller(theirs), told, "{theirs}");
        }
    }
}
