//! Offers and answers after the first: hold, resume, codec change, delayed re-offers, and messages passed through.
//!
//! In: what one leg's peer offers or answers. Out: the relay's rewriting of it to the other leg. One exchange at a time;
//! a second offer meanwhile is told to wait (491, RFC 3261 section 14.2). Elsewhere: glare on one leg (`sip::session`).

use super::{CALLER, Call, LegState, Now, Phase, Slot, Ticket, own};
use bytes::Bytes;
use cluster::leg::{LegCommand, LegEvent};
use cluster::media::{MediaCommand, MediaError, MediaReply};
use sip::draft::HeaderText;
use sip::msg::Method;

/// An exchange under way.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// Whose peer began it.
    pub(super) from: Slot,
    /// Whose peer must respond.
    pub(super) to: Slot,
    /// It began without an offer: `to`'s peer offers, `from`'s answers.
    pub(super) delayed: bool,
    /// `from`'s peer takes it back: whatever `to`'s peer says, all shall be as before.
    pub(super) withdrawn: bool,
    /// It brings back what had held before: ours, and no peer waits for its outcome.
    pub(super) restores: bool,
    /// What was offered, and what was answered.
    pub(super) said: [Option<Bytes>; 2],
}

impl Exchange {
    fn new(from: Slot, to: Slot, offer: Option<&Bytes>) -> Self {
        Self {
            from,
            to,
            delayed: offer.is_none(),
            withdrawn: false,
            restores: false,
            said: [offer.map(own), None],
        }
    }
}

impl Call {
    pub(super) fn peer_offers(&mut self, from: Slot, sdp: Option<Bytes>) {
        // The offer that an offerless re-INVITE of ours asked for.
        if let (Some(exchange), Some(offer)) = (&mut self.exchange, &sdp)
            && exchange.delayed
            && exchange.to == from
        {
            exchange.said[0] = Some(own(offer));
            let asked_by = exchange.from;
            let (from, to) = (self.legs[from].media, self.legs[asked_by].media);
            let command = MediaCommand::Offer { from, to, sdp: offer.clone() };
            return self.ask_relay(Ticket::Reoffer(asked_by), command);
        }
        let to = match self.other(from) {
            Some(to) if self.exchange.is_none() && !self.has_begun_to_move() => to,
            _ => return self.tell(from, LegCommand::RejectOffer { status: 491 }),
        };
        self.exchange = Some(Exchange::new(from, to, sdp.as_ref()));
        self.forget_change();
        match sdp {
            Some(sdp) => self.ask_for_reoffer(from, to, sdp),
            None => self.reoffer(to, None),
        }
    }

    /// Offers to `to` what `from` has agreed to already; what `from` is told of the outcome, its session ignores.
    pub(super) fn offer_again(&mut self, from: Slot, to: Slot, sdp: Bytes) {
        if self.exchange.is_none() {
            self.exchange = Some(Exchange { restores: true, ..Exchange::new(from, to, Some(&sdp)) });
            self.forget_change();
            self.ask_for_reoffer(from, to, sdp);
        }
    }

    /// The last change has gone through for good.
    pub(super) fn forget_change(&mut self) {
        if self.changed.take().is_some() {
            self.version += 1;
        }
    }

    fn ask_for_reoffer(&mut self, from: Slot, to: Slot, sdp: Bytes) {
        let command = MediaCommand::Offer { from: self.legs[from].media, to: self.legs[to].media, sdp };
        self.ask_relay(Ticket::Reoffer(to), command);
    }

    fn reoffer(&mut self, to: Slot, sdp: Option<Bytes>) {
        let prefer_update = self.legs[to].state == LegState::Calling; // before the answer nothing else may be sent
        self.tell(to, LegCommand::Reoffer { sdp, prefer_update });
    }

    /// The relay rewrote an offer for `to`.
    pub(super) fn reoffer_ready(&mut self, to: Slot, reply: MediaReply) {
        let Some(exchange) = &self.exchange else { return };
        let (from, withdrawn) = (exchange.from, exchange.withdrawn);
        match reply {
            // Nobody waits for this offer any more, but the peer that made it in a response must have an answer.
            MediaReply::Sdp(_) if withdrawn && exchange.delayed && self.legs[from].agreed.is_some() => {
                let offerer = exchange.to;
                if let Some(sdp) = self.legs[from].agreed.clone() {
                    let (from, to) = (self.legs[from].media, self.legs[offerer].media);
                    self.ask_relay(Ticket::Reanswer(offerer), MediaCommand::Answer { from, to, sdp });
                }
            }
            MediaReply::Sdp(_) if withdrawn => self.exchange = None, // `to`'s peer has not heard of it
            MediaReply::Sdp(sdp) if exchange.delayed => self.tell(to, LegCommand::Answer { sdp }),
            MediaReply::Sdp(sdp) => self.reoffer(to, Some(sdp)),
            MediaReply::Refused(error) => {
                let offerer = if exchange.delayed { exchange.to } else { exchange.from };
                self.exchange = None;
                let status = match error {
                    MediaError::BadSdp(_) => 488,
                    MediaError::NoPorts | MediaError::Unreachable => 503,
                    MediaError::OutOfStep(_) | MediaError::Superseded => 500,
                };
                self.tell(offerer, LegCommand::RejectOffer { status });
            }
            MediaReply::Done | MediaReply::Report(_) => {}
        }
    }

    pub(super) fn peer_answers(&mut self, slot: Slot, sdp: Bytes) {
        if self.moved(slot, &sdp) {
            return;
        }
        let (answerer, offerer, ticket) = match &mut self.exchange {
            Some(exchange) => {
                let (from, to) = (exchange.from, exchange.to);
                let (answerer, offerer) = if exchange.delayed { (from, to) } else { (to, from) };
                if slot != answerer {
                    return;
                }
                if exchange.withdrawn && exchange.delayed {
                    self.agree_on(from, own(&sdp));
                    return self.answer_withdrawn();
                }
                if exchange.withdrawn {
                    self.exchange = None;
                    return self.restore(from, to, None);
                }
                exchange.said[1] = Some(own(&sdp));
                (answerer, offerer, Ticket::Reanswer(offerer))
            }
            // A refresh of the session brought a changed answer: the relay must know the peer's new address.
            None => match self.other(slot) {
                Some(other) => (slot, other, Ticket::Nothing),
                None => return,
            },
        };
        if ticket == Ticket::Nothing {
            self.agree_on(answerer, own(&sdp));
        }
        let (from, to) = (self.legs[answerer].media, self.legs[offerer].media);
        self.ask_relay(ticket, MediaCommand::Answer { from, to, sdp });
    }

    pub(super) fn reanswer_ready(&mut self, to: Slot, reply: MediaReply, now: Now) {
        let Some(exchange) = self.exchange.take() else { return };
        match reply {
            MediaReply::Sdp(sdp) => {
                self.tell(to, LegCommand::Answer { sdp });
                self.agree(exchange);
            }
            // The change has failed, the session has not (RFC 3261 section 14.1).
            MediaReply::Refused(MediaError::BadSdp(_)) if !exchange.delayed && !exchange.restores => {
                let Exchange { from, to: answerer, withdrawn, .. } = exchange;
                let (offered, by) = (self.legs[answerer].media, self.legs[from].media);
                self.ask_relay(Ticket::Nothing, MediaCommand::Withdraw { from: by, to: offered });
                if !withdrawn {
                    self.tell(from, LegCommand::RejectOffer { status: 488 });
                }
                self.restore(from, answerer, None);
            }
            MediaReply::Refused(error) => self.media_refused(&error, now),
            MediaReply::Done | MediaReply::Report(_) => {}
        }
    }

    /// Remembers what the two peers have agreed upon, and what had held before.
    fn agree(&mut self, exchange: Exchange) {
        let [offer, answer] = exchange.said;
        let (from, to, withdrawn) = (exchange.from, exchange.to, exchange.withdrawn);
        let (offerer, answerer) = if exchange.delayed { (to, from) } else { (from, to) };
        let before = self.legs[from].agreed.clone();
        for (slot, said) in [(offerer, offer), (answerer, answer)] {
            if let Some(said) = said {
                self.agree_on(slot, said);
            }
        }
        if withdrawn && !exchange.delayed {
            self.restore(from, to, before);
        } else {
            self.changed = before.map(|before| (from, before));
        }
    }

    /// The offer of `slot`'s peer is void: cancelled, or not answered in time (RFC 3261 section 14.1: the session goes on as
    /// if it had never been made).
    pub(super) fn peer_withdraws_offer(&mut self, slot: Slot) {
        let Some(exchange) = self.exchange.as_mut() else {
            // Our answer crossed it: what has changed is changed back.
            if let (Some((from, before)), Some(to)) = (self.changed.take(), self.other(slot))
                && from == slot
            {
                self.restore(from, to, Some(before));
            }
            self.version += 1;
            return;
        };
        if exchange.from != slot || exchange.withdrawn {
            return;
        }
        exchange.withdrawn = true;
        let (to, delayed, answered) = (exchange.to, exchange.delayed, exchange.said[1].is_some());
        if !delayed && !answered {
            let (from, to) = (self.legs[slot].media, self.legs[to].media);
            self.ask_relay(Ticket::Nothing, MediaCommand::Withdraw { from, to });
        }
        if self.legs[to].state == LegState::Up {
            let reason = Some("SIP;cause=487;text=\"Offer withdrawn\"".to_owned());
            self.tell(to, LegCommand::Cancel { reason });
        }
    }

    /// Offers `to`'s peer once more what held before `from`'s peer took back an offer that was accepted already.
    fn restore(&mut self, from: Slot, to: Slot, before: Option<Bytes>) {
        if let Some(before) = before {
            self.agree_on(from, before);
        }
        if self.moving.is_some() {
            return; // both will be offered what is agreed upon
        }
        if let Some(sdp) = self.legs[from].agreed.clone() {
            self.offer_again(from, to, sdp);
        }
    }

    pub(super) fn peer_refuses_offer(&mut self, slot: Slot, status: u16, now: Now) {
        if self.refused_to_move(slot, status, now) {
            return;
        }
        match &self.exchange {
            Some(exchange) if exchange.to == slot => self.give_up_exchange(status),
            Some(_) => self.exchange = None,
            None => {}
        }
    }

    /// The change that is under way does not come about: both go on as they were.
    pub(super) fn give_up_exchange(&mut self, status: u16) {
        let Some(exchange) = self.exchange.take() else { return };
        let (from, to) = (self.legs[exchange.from].media, self.legs[exchange.to].media);
        if exchange.withdrawn {
            return; // the relay knows, and nobody waits
        }
        if !exchange.delayed {
            self.ask_relay(Ticket::Nothing, MediaCommand::Withdraw { from, to });
        }
        self.tell(exchange.from, LegCommand::RejectOffer { status });
    }

    /// The leg that hears what `slot` says: the other one of the conversation, or the only one that rings.
    fn other(&self, slot: Slot) -> Option<Slot> {
        match (self.phase, slot) {
            (Phase::Talking(callee), CALLER) => Some(callee),
            (Phase::Talking(callee), from) if from == callee => Some(CALLER),
            (Phase::Ringing { .. }, CALLER) => {
                let mut early = (1..self.legs.len()).filter(|slot| self.legs[*slot].early_answer);
                early.next().filter(|_| early.next().is_none())
            }
            (Phase::Ringing { .. }, from) if self.early_from.is_some_and(|(heard, _)| heard == from) => {
                Some(CALLER)
            }
            _ => None,
        }
    }

    /// Requests within the dialog that are not about the session description: INFO (DTMF of some phones, RFC 6086) and
    /// MESSAGE go through end to end, and so do their answers.
    pub(super) fn pass_message(&mut self, slot: Slot, event: LegEvent) {
        let other = self.other(slot);
        let headers = HeaderText::default();
        match (event, other) {
            (LegEvent::Info { content_type, body }, Some(other)) => {
                self.tell(other, LegCommand::Info { content_type, body, headers });
            }
            (LegEvent::Info { .. }, None) => self.tell(slot, LegCommand::RespondInfo { status: 480 }),
            (LegEvent::Message { content_type, body }, Some(other)) => {
                self.tell(other, LegCommand::Message { content_type, body, headers });
            }
            (LegEvent::Message { .. }, None) => self.tell(slot, LegCommand::RespondMessage { status: 480 }),
            (LegEvent::Replied { method: Method::Info, status }, Some(other)) => {
                self.tell(other, LegCommand::RespondInfo { status });
            }
            (LegEvent::Replied { method: Method::Message, status }, Some(other)) => {
                self.tell(other, LegCommand::RespondMessage { status });
            }
            // The other events have their own ways; a void offer's outcome is told to a session that no longer waits.
            (_, _) => {}
        }
    }
}
