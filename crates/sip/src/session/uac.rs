//! Our INVITE, first or again: from its sending to the last repeat of its 2xx (RFC 3261 sections 13.2 and 14.1).
//!
//! In: responses and their absence; the user's CANCEL. Out: INVITE, PRACK, ACK, and the end of forks that lost.
//! Elsewhere: what a failed re-INVITE means (`modify`), other requests of ours (`requests`).

use super::face::{CommandError, EndCause, Event, Failure, OfferVia, Outgoing, Rel100, SessionConfig};
use super::modify::Modify;
use super::offers::{Exchange, OurVehicle, TheirVehicle, print_of};
use super::reliable::Heard;
use super::requests::{Client, Job};
use super::{Action, Life, Session, Usage, print_of_bytes, text};
use crate::dialog::Dialog;
use crate::draft::{HeaderText, RequestDraft, reason_phrase};
use crate::flow::Transport;
use crate::msg::{HeaderId, Message, Method};
use crate::transaction::Destination;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Early dialogs of one INVITE; the provisional responses of more forks are ignored.
const FORKS_MAX: usize = 16;
/// Forks beyond the first that answer and are hung up; the ACK is for all of them.
const STRANGERS_MAX: usize = 16;
/// INVITEs of ours whose ACK is kept at a time.
const ACKS_MAX: usize = 4;
/// How often one INVITE is sent anew for 401, 407 and 422.
const RETRIES_MAX: u8 = 6;
/// How often one PRACK is sent anew.
const PRACKS_MAX: u8 = 3;
/// A re-INVITE without final response is cancelled after this time.
const REINVITE_LIMIT: Duration = Duration::from_secs(60);

/// Our INVITE without final response.
#[derive(Debug)]
pub(super) struct Calling {
    pub(super) seq: u32,
    cseq: u32,
    purpose: Purpose,
    pub(super) cancelled: bool,
    /// When a re-INVITE is cancelled, or a peer that was not heard at all is given up.
    pub(super) give_up: Option<Instant>,
    /// The credentials that it carried: the ACK repeats them (RFC 3261 section 13.2.2.4).
    auth: HeaderText,
    /// The state of the session that a refusal restores.
    before: Before,
}

#[derive(Debug)]
enum Purpose {
    Initial(Box<Initial>),
    Modify(Modify),
}

/// What the first INVITE needs to be sent again, and its forks.
#[derive(Debug)]
struct Initial {
    /// The dialog without a peer.
    half: Dialog,
    headers: HeaderText,
    max_forwards: Option<u8>,
    offer: Option<Bytes>,
    retries: u8,
    forks: u32,
    /// The early dialogs that are not the session's current one.
    parked: Vec<Usage>,
}

/// What a PRACK of ours acknowledges.
#[derive(Debug)]
pub(super) struct Prack {
    rseq: u32,
    cseq: u32,
    answer: Option<Bytes>,
    tries: u8,
}

/// What the responses of one fork to our INVITE have said so far.
#[derive(Debug, Default)]
pub(super) struct Early {
    heard: Heard,
    /// The last description in an unreliable response: a preview of the answer (RFC 6337 section 3.1.1).
    preview: Option<Bytes>,
    /// The answer that came reliably, until an UPDATE changes the session.
    answer: Option<Bytes>,
    /// Of the description that the user knows.
    reported: u64,
}

#[derive(Clone, Debug, Default)]
struct Before {
    local_sdp: Option<Bytes>,
    answered: bool,
    remote_print: u64,
}

/// An answered INVITE of ours: its ACK is sent again for every repeat of the 2xx.
#[derive(Debug)]
pub(super) struct Acked {
    pub(super) seq: u32,
    cseq: u32,
    tag: Option<Box<[u8]>>,
    auth: HeaderText,
    /// `None` while our answer is awaited.
    pub(super) ack: Option<RequestDraft>,
    /// 64 times T1 after the 2xx: no more repeats (RFC 3261 section 13.2.2.4).
    pub(super) until: Instant,
    strangers: Vec<Box<[u8]>>,
}

impl Early {
    /// The session is no more as the answer has it.
    pub(super) fn supersede(&mut self) {
        self.answer = None;
    }
}

impl Calling {
    pub(super) fn is_reinvite(&self) -> bool {
        matches!(self.purpose, Purpose::Modify(_))
    }

    /// Whether it is a change of the session that the user wanted.
    pub(super) fn is_users_change(&self) -> bool {
        matches!(&self.purpose, Purpose::Modify(modify) if modify.is_by_user())
    }
}

impl Session {
    /// Calls somebody.
    pub fn outgoing(cfg: Arc<SessionConfig>, call: Outgoing, now: Instant) -> Session {
        let max_forwards = call
            .headers
            .get("Max-Forwards")
            .and_then(|hops| std::str::from_utf8(hops).ok())
            .and_then(|hops| hops.parse().ok());
        let half =
            Dialog::outgoing(&call.call_id, &call.local_tag, &call.from, &call.to, &call.target, &call.route);
        let usage = Usage::new(0, half.clone(), Exchange::Idle);
        let mut session = Session::new(cfg, usage, true, call.destination, call.credentials);
        session.elsewhere = call.elsewhere;
        session.elsewhere.reverse();
        let initial = Initial {
            half,
            headers: text::foreign(&call.headers, false),
            max_forwards,
            offer: call.offer,
            retries: 0,
            forks: 0,
            parked: Vec::new(),
        };
        session.begin(initial, now);
        session
    }

    /// Sends the first INVITE, or sends it anew.
    fn begin(&mut self, mut initial: Initial, now: Instant) {
        initial.half.local_cseq += 1;
        initial.forks = 0;
        let cseq = initial.half.local_cseq;
        let exchange = match &initial.offer {
            Some(sdp) => Exchange::Ours { sdp: sdp.clone(), by: OurVehicle::Invite },
            None => Exchange::Asking,
        };
        self.usage = Usage::new(0, initial.half.clone(), exchange);
        let mut draft = initial.half.numbered(Method::Invite, cseq, initial.max_forwards);
        draft.headers.extend_raw(initial.headers.as_bytes());
        let offer = initial.offer.clone();
        let auth = self.fill_invite(&mut draft, offer);
        let seq = self.take_seq();
        self.calling = Some(Box::new(Calling {
            seq,
            cseq,
            purpose: Purpose::Initial(Box::new(initial)),
            cancelled: false,
            give_up: self.cfg.first_response.map(|limit| now + limit),
            auth,
            before: Before::default(),
        }));
        self.actions.push_back(Action::Request { seq, draft, to: self.destination });
    }

    /// Sends a re-INVITE with this offer, or without one.
    pub(super) fn reinvite(&mut self, modify: Modify, offer: Option<Bytes>, now: Instant) {
        let before = Before {
            local_sdp: self.usage.local_sdp.clone(),
            answered: self.usage.answered,
            remote_print: self.usage.remote_print,
        };
        self.usage.early = None;
        self.usage.exchange = match &offer {
            Some(sdp) => Exchange::Ours { sdp: sdp.clone(), by: OurVehicle::Invite },
            None => Exchange::Asking,
        };
        let mut draft = self.usage.dialog.request(Method::Invite);
        let cseq = self.usage.dialog.local_cseq;
        let auth = self.fill_invite(&mut draft, offer);
        let seq = self.take_seq();
        self.calling = Some(Box::new(Calling {
            seq,
            cseq,
            purpose: Purpose::Modify(modify),
            cancelled: false,
            give_up: Some(now + REINVITE_LIMIT),
            auth,
            before,
        }));
        self.actions.push_back(Action::Request { seq, draft, to: self.destination });
    }

    /// The lines of an INVITE behind those of the dialog, and its body; returns the credentials that it got.
    fn fill_invite(&mut self, draft: &mut RequestDraft, offer: Option<Bytes>) -> HeaderText {
        draft.headers.push("Contact", &self.cfg.contact);
        draft.headers.push("Allow", self.cfg.allow);
        self.dress(draft);
        if self.cfg.rel100 == Rel100::Required {
            draft.headers.push("Require", "100rel");
        }
        self.timer.ask(&self.cfg.session_timer, &mut draft.headers);
        text::attach(draft, "application/sdp", offer.unwrap_or_default());
        self.authorize(draft)
    }

    /// A response to our INVITE that has no final response yet.
    pub(super) fn on_invite_response(&mut self, msg: &Message, now: Instant) {
        if let Some(calling) = self.calling.as_mut().filter(|calling| !calling.is_reinvite()) {
            calling.give_up = None; // the peer is there
        }
        match msg.status() {
            0..=100 => {}
            101..=199 => self.on_provisional(msg),
            200..=299 => self.on_success(msg, now),
            _ => self.on_refusal(msg, now),
        }
    }

    fn on_provisional(&mut self, msg: &Message) {
        let Some(calling) = &self.calling else { return };
        let initial = matches!(calling.purpose, Purpose::Initial(_));
        let cseq = calling.cseq;
        if calling.cancelled || self.is_crowded() || !self.select_fork(msg, false) {
            return;
        }
        self.usage.learn(msg);
        // RFC 3262 section 4: it takes a dialog, and so a tag, to acknowledge.
        let rseq =
            msg.rseq().filter(|_| msg.has_option(HeaderId::Require, "100rel") && msg.to_tag().is_some());
        let early = self.usage.early.get_or_insert_default();
        if rseq.is_some_and(|rseq| !early.heard.accepts(rseq)) {
            return;
        }
        let mut news = None;
        let mut prack_waits = false;
        let sdp = msg.sdp();
        match (&self.usage.exchange, sdp, rseq) {
            (Exchange::Ours { by: OurVehicle::Invite, .. }, Some(sdp), _) => {
                let print = print_of_bytes(&sdp);
                if early.reported != print {
                    early.reported = print;
                    news = Some(sdp.clone());
                }
                if rseq.is_some() {
                    self.usage.take_answer(&sdp);
                    self.usage.early.get_or_insert_default().answer = Some(sdp);
                } else {
                    early.preview = Some(sdp);
                }
            }
            (Exchange::Asking, Some(sdp), Some(rseq)) => {
                self.open_offer(print_of(&sdp), TheirVehicle::Reliable { rseq, cseq }, None);
                news = Some(sdp);
                prack_waits = true;
            }
            _ => {} // no description, or one that means nothing here (RFC 6337 section 3.1)
        }
        if let Some(rseq) = rseq
            && !prack_waits
        {
            self.send_prack(rseq, cseq, None);
        }
        match news {
            sdp if initial => {
                self.tell(Event::Progress { status: msg.status(), sdp, fork: self.usage.fork });
            }
            Some(sdp) if prack_waits => {
                self.tell(Event::Offer { sdp: Some(sdp), via: OfferVia::Reliable });
            }
            Some(sdp) if rseq.is_some() => self.tell(Event::Answer { sdp }),
            _ => {}
        }
    }

    /// The PRACK of the reliable response `rseq` to our INVITE `cseq` (RFC 3262 section 4).
    pub(super) fn send_prack(&mut self, rseq: u32, cseq: u32, answer: Option<Bytes>) {
        self.submit_prack(Prack { rseq, cseq, answer, tries: 0 });
    }

    fn submit_prack(&mut self, prack: Prack) {
        let mut lines = HeaderText::new();
        lines.push_fmt("RAck", format_args!("{} {} INVITE", prack.rseq, prack.cseq));
        let body = prack.answer.clone().unwrap_or_default();
        self.submit(Job::Prack(prack), Method::Prack, lines, "application/sdp", body);
    }

    /// The final response to a PRACK. A failure leaves the INVITE to its own fate (the peer gives it up, RFC 3262 section 3),
    /// save that a request which overtook the PRACK has made its CSeq number too low: 500, and a new number helps.
    pub(super) fn on_pracked(&mut self, mut prack: Prack, status: u16) {
        let rings =
            self.calling.as_ref().is_some_and(|calling| calling.cseq == prack.cseq && !calling.cancelled);
        if status == 500 && rings && prack.tries < PRACKS_MAX {
            prack.tries += 1;
            self.submit_prack(prack);
        }
    }

    /// Makes the fork that speaks the session's current dialog; a new one is made from the response (RFC 3261 section
    /// 12.1.2). False if there are too many, save for a 2xx.
    fn select_fork(&mut self, msg: &Message, is_final: bool) -> bool {
        let over_tls = self.destination.flow.transport == Transport::Tls;
        let Some(calling) = &mut self.calling else { return false };
        let Purpose::Initial(initial) = &mut calling.purpose else { return true };
        let Some(tag) = msg.to_tag() else { return true };
        if self.usage.dialog.remote_tag.as_deref() == Some(tag) {
            return true;
        }
        if self.usage.dialog.remote_tag.is_none() {
            self.usage.dialog = initial.half.from_response_uac(msg, over_tls);
            initial.forks = 1;
        } else if let Some(known) =
            initial.parked.iter_mut().find(|u| u.dialog.remote_tag.as_deref() == Some(tag))
        {
            std::mem::swap(&mut self.usage, known);
        } else {
            if initial.parked.len() + 1 >= FORKS_MAX && !is_final {
                return false;
            }
            let exchange = match &initial.offer {
                Some(sdp) => Exchange::Ours { sdp: sdp.clone(), by: OurVehicle::Invite },
                None => Exchange::Asking,
            };
            let dialog = initial.half.from_response_uac(msg, over_tls);
            let usage = Usage::new(initial.forks, dialog, exchange);
            initial.forks += 1;
            initial.parked.push(std::mem::replace(&mut self.usage, usage));
        }
        self.aim(None);
        true
    }

    /// Makes the first fork that fits the current dialog, unless the current one does; false if none does.
    pub(super) fn select_fork_where(&mut self, fits: impl Fn(&Usage) -> bool) -> bool {
        if fits(&self.usage) {
            return true;
        }
        let Some(Purpose::Initial(initial)) = self.calling.as_mut().map(|calling| &mut calling.purpose)
        else {
            return false;
        };
        let fitting = initial.parked.iter_mut().filter(|usage| fits(usage));
        let Some(fork) = fitting.min_by_key(|usage| usage.fork) else { return false };
        std::mem::swap(&mut self.usage, fork);
        self.aim(None);
        true
    }

    pub(super) fn parked(&self) -> &[Usage] {
        match self.calling.as_ref().map(|calling| &calling.purpose) {
            Some(Purpose::Initial(initial)) => &initial.parked,
            Some(Purpose::Modify(_)) | None => &[],
        }
    }

    fn parked_mut(&mut self) -> Option<&mut Vec<Usage>> {
        match &mut self.calling.as_mut()?.purpose {
            Purpose::Initial(initial) => Some(&mut initial.parked),
            Purpose::Modify(_) => None,
        }
    }

    /// Takes the current fork out of the running (it sent BYE); false if it was the only one.
    pub(super) fn drop_fork(&mut self) -> bool {
        let Some(other) = self.parked_mut().and_then(Vec::pop) else { return false };
        self.usage = other;
        self.aim(None);
        true
    }

    fn on_success(&mut self, msg: &Message, now: Instant) {
        self.select_fork(msg, true);
        let Some(calling) = self.calling.take() else { return };
        let Calling { seq, cseq, purpose, cancelled, auth, before, .. } = *calling;
        if let Some(digest) = &mut self.digest {
            digest.accepted();
        }
        if matches!(purpose, Purpose::Initial(_)) {
            self.usage.dialog.recompute_route(msg);
        }
        self.usage.dialog.target_refresh(msg);
        self.aim(None);
        self.usage.learn(msg);
        let early = self.usage.early.take().unwrap_or_default();
        let until = now + self.patience();
        let tag = self.usage.dialog.remote_tag.clone();
        if self.acks.len() >= ACKS_MAX {
            self.acks.remove(0);
        }
        self.acks.push(Acked { seq, cseq, tag, auth, ack: None, until, strangers: Vec::new() });
        if self.life == Life::Over {
            self.acknowledge(None);
            if matches!(purpose, Purpose::Initial(_)) {
                self.send_bye(None); // it need not be the fork that had ended the call by BYE
            }
            return;
        }
        match purpose {
            Purpose::Initial(initial) => {
                self.life = Life::Confirmed;
                if initial.forks > 1 {
                    self.linger = Some(until);
                }
                self.drop_parked(initial.parked);
                if cancelled {
                    return self.hang_up(None, EndCause::Cancelled, now);
                }
                self.timer.confirm(msg, &self.cfg.session_timer, now);
                self.on_answered(msg, *early, now);
            }
            Purpose::Modify(modify) => {
                self.timer.confirm(msg, &self.cfg.session_timer, now);
                self.on_modified(&modify, msg, before.remote_print, now);
            }
        }
    }

    /// The first 2xx of a call: what its description means (RFC 3261 section 13.2.1).
    fn on_answered(&mut self, msg: &Message, early: Early, now: Instant) {
        let fork = self.usage.fork;
        let limit = Some(now + self.cfg.answer_limit);
        let sdp = msg.sdp();
        if let Some(tag) = text::tag(msg) {
            self.tell(Event::Tagged { tag });
        }
        match self.usage.exchange {
            Exchange::Ours { by: OurVehicle::Invite, .. } => match sdp.or(early.preview) {
                Some(sdp) => {
                    self.usage.take_answer(&sdp);
                    self.acknowledge(None);
                    self.tell(Event::Answered { sdp: Some(sdp), fork });
                }
                None => self.hang_up(None, EndCause::NoAnswer, now),
            },
            Exchange::Asking => match sdp {
                Some(sdp) => {
                    self.open_offer(print_of(&sdp), TheirVehicle::Response, limit);
                    self.tell(Event::Answered { sdp: Some(sdp), fork });
                }
                None => self.hang_up(None, EndCause::NoAnswer, now),
            },
            Exchange::Theirs { print, by: TheirVehicle::Reliable { .. }, .. } => {
                // The peer did not wait for our answer: it gets it in the ACK.
                self.usage.exchange = Exchange::Theirs { print, by: TheirVehicle::Response, limit };
                self.tell(Event::Answered { sdp: None, fork });
            }
            Exchange::Idle | Exchange::Ours { .. } | Exchange::Theirs { .. } | Exchange::Asked { .. } => {
                self.acknowledge(None);
                self.tell(Event::Answered { sdp: early.answer, fork });
            }
        }
    }

    /// The 2xx to our re-INVITE.
    fn on_modified(&mut self, modify: &Modify, msg: &Message, print_before: u64, now: Instant) {
        match (&self.usage.exchange, msg.sdp()) {
            (Exchange::Ours { by: OurVehicle::Invite, .. }, Some(sdp)) => {
                self.usage.take_answer(&sdp);
                self.acknowledge(None);
                if modify.is_by_user() || self.usage.remote_print != print_before {
                    self.tell(Event::Answer { sdp });
                }
            }
            (Exchange::Asking, Some(sdp)) => {
                let limit = Some(now + self.cfg.answer_limit);
                self.open_offer(print_of(&sdp), TheirVehicle::Response, limit);
                self.tell(Event::Offer { sdp: Some(sdp), via: OfferVia::Response });
            }
            (Exchange::Theirs { print, by: TheirVehicle::Reliable { .. }, .. }, _) => {
                let limit = Some(now + self.cfg.answer_limit);
                self.usage.exchange = Exchange::Theirs { print: *print, by: TheirVehicle::Response, limit };
            }
            (Exchange::Ours { by: OurVehicle::Invite, .. } | Exchange::Asking, None) => {
                // A 2xx without the description it owes: nothing was agreed on.
                self.usage.exchange = Exchange::Idle;
                self.acknowledge(None);
                if modify.is_by_user() {
                    self.tell(Event::OfferRejected { status: 488 });
                }
            }
            _ => self.acknowledge(None),
        }
    }

    /// Sends the ACK that is owed, if one is, with the answer to an offer in the 2xx.
    pub(super) fn acknowledge(&mut self, answer: Option<Bytes>) {
        let mut answer = answer;
        if let Exchange::Theirs { print, by: TheirVehicle::Response, .. } = self.usage.exchange {
            // RFC 3261 section 13.2.2.4: a valid answer even where a BYE follows.
            answer = answer.or_else(|| self.usage.local_sdp.clone());
            match &answer {
                Some(sdp) => self.usage.settle(sdp.clone(), print, true),
                None => self.usage.exchange = Exchange::Idle,
            }
        }
        let Some(at) = self.acks.iter().position(|acked| acked.ack.is_none()) else { return };
        let draft = self.ack_draft(&self.acks[at], answer);
        self.acks[at].ack = Some(draft.clone());
        self.actions.push_back(Action::Ack { draft, to: self.destination });
    }

    pub(super) fn ack_draft(&self, acked: &Acked, answer: Option<Bytes>) -> RequestDraft {
        let mut draft = self.usage.dialog.ack(acked.cseq);
        self.fill_ack(&mut draft, acked);
        text::attach(&mut draft, "application/sdp", answer.unwrap_or_default());
        draft
    }

    fn fill_ack(&self, draft: &mut RequestDraft, acked: &Acked) {
        draft.headers.extend_raw(acked.auth.as_bytes());
        if !self.cfg.user_agent.is_empty() {
            draft.headers.push("User-Agent", &self.cfg.user_agent);
        }
    }

    /// A response to an INVITE that has its 2xx: a repeat, or another fork's (RFC 3261 section 13.2.2.4).
    pub(super) fn on_late_response(&mut self, seq: u32, msg: &Message) {
        if !(200..300).contains(&msg.status()) {
            return;
        }
        let to = self.destination;
        let Some(at) = self.acks.iter().position(|acked| acked.seq == seq) else { return };
        let acked = &self.acks[at];
        if msg.to_tag() == acked.tag.as_deref() {
            if let Some(draft) = acked.ack.clone() {
                self.actions.push_back(Action::Ack { draft, to });
            }
            return;
        }
        let tag: Box<[u8]> = msg.to_tag().unwrap_or_default().into();
        let mut dialog = self.usage.dialog.clone();
        dialog.remote_tag = msg.to_tag().map(Into::into);
        dialog.recompute_route(msg);
        dialog.target_refresh(msg);
        dialog.local_cseq = acked.cseq;
        let to = self.destination_of(&dialog);
        let mut draft = dialog.ack(acked.cseq);
        self.fill_ack(&mut draft, acked);
        self.actions.push_back(Action::Ack { draft, to });
        if acked.strangers.len() >= STRANGERS_MAX || acked.strangers.contains(&tag) {
            return;
        }
        self.linger = Some(acked.until);
        self.acks[at].strangers.push(tag);
        let mut draft = dialog.request(Method::Bye);
        self.dress(&mut draft);
        self.authorize(&mut draft);
        let seq = self.take_seq();
        self.clients.push(Client::new(seq, 0, Job::Stray));
        self.actions.push_back(Action::Request { seq, draft, to });
    }

    fn destination_of(&self, dialog: &Dialog) -> Destination {
        let mut to = self.destination;
        if self.cfg.peer_address == super::PeerAddress::NextHop
            && let Some(remote) = super::address_of(dialog.next_hop(), to.flow.transport)
        {
            to.flow.remote = remote;
        }
        to
    }

    fn on_refusal(&mut self, msg: &Message, now: Instant) {
        let Some(calling) = self.calling.take() else { return };
        let status = msg.status();
        if !matches!(status, 401 | 407)
            && let Some(digest) = &mut self.digest
        {
            digest.accepted();
        }
        let again = !calling.cancelled && self.can_retry(msg);
        match calling.purpose {
            Purpose::Initial(mut initial) => {
                if again && initial.retries < RETRIES_MAX {
                    initial.retries += 1;
                    self.drop_parked(std::mem::take(&mut initial.parked));
                    self.close_offer(481);
                    return self.begin(*initial, now);
                }
                let Some(initial) = self.try_elsewhere(initial, calling.cancelled || status != 503, now)
                else {
                    return;
                };
                self.drop_parked(initial.parked);
                let reason = String::from_utf8_lossy(msg.reason()).into_owned();
                let headers = text::telling_lines(msg);
                self.finish(Event::Rejected { status, reason, headers }, now);
            }
            Purpose::Modify(modify) => {
                self.restore(calling.before);
                self.modify_failed(modify, status, Some(msg), again, now);
            }
        }
    }

    /// No (further) response to our INVITE.
    pub(super) fn on_invite_failure(&mut self, failure: Failure, now: Instant) {
        let Some(calling) = self.calling.take() else { return };
        let status = failure.status();
        match calling.purpose {
            Purpose::Initial(initial) => {
                let Some(initial) = self.try_elsewhere(initial, calling.cancelled, now) else { return };
                self.drop_parked(initial.parked);
                let reason = reason_phrase(status).to_owned();
                self.finish(Event::Rejected { status, reason, headers: HeaderText::new() }, now);
            }
            Purpose::Modify(modify) => {
                self.restore(calling.before);
                // Our own CANCEL of a slow re-INVITE is no sign that the peer is gone.
                let status = if calling.cancelled { 487 } else { status };
                self.modify_failed(modify, status, None, false, now);
            }
        }
    }

    /// Calls the next place where the peer may be, unless that makes no sense or there is none: then the call is given back. A peer that
    /// rings already is there.
    fn try_elsewhere(&mut self, initial: Box<Initial>, is_final: bool, now: Instant) -> Option<Box<Initial>> {
        if is_final || initial.forks > 0 {
            return Some(initial);
        }
        let Some(next) = self.elsewhere.pop() else { return Some(initial) };
        self.destination = next;
        self.begin(*initial, now);
        None
    }

    /// A refused re-INVITE leaves the session as it was (RFC 3261 section 14.1).
    fn restore(&mut self, before: Before) {
        self.usage.early = None;
        self.usage.exchange = Exchange::Idle;
        self.usage.local_sdp = before.local_sdp;
        self.usage.answered = before.answered;
        self.usage.remote_print = before.remote_print;
        self.usage.settled = self.usage.settled.wrapping_add(1);
    }

    /// Forks that are no more: requests of theirs that we owe an answer get it.
    fn drop_parked(&mut self, parked: Vec<Usage>) {
        for usage in parked {
            if let Exchange::Theirs { by: TheirVehicle::Prack(txn) | TheirVehicle::Update(txn), .. } =
                usage.exchange
            {
                self.respond(txn, 481, HeaderText::new(), None);
            }
        }
    }

    /// [`super::Command::Cancel`].
    pub(super) fn cancel(&mut self, reason: Option<String>) -> Result<(), CommandError> {
        let confirmed = self.life == Life::Confirmed;
        if confirmed && self.wanted.take_if(|wanted| wanted.modify.is_by_user()).is_some() {
            self.tell(Event::OfferRejected { status: 487 }); // it had not gone yet
            return Ok(());
        }
        let calling =
            self.calling.as_mut().filter(|c| !c.cancelled && (!c.is_reinvite() || c.is_users_change()));
        let calling = calling.ok_or(CommandError::WrongState)?;
        calling.cancelled = true;
        let seq = calling.seq;
        self.actions.push_back(Action::Cancel { seq, reason });
        Ok(())
    }

    pub(super) fn calling_timeout(&mut self, now: Instant) {
        let Some(calling) = self.calling.as_mut().filter(|c| c.give_up.is_some_and(|at| at <= now)) else {
            return;
        };
        calling.give_up = None;
        if calling.cancelled {
            return;
        }
        if calling.is_reinvite() {
            calling.cancelled = true;
            let seq = calling.seq;
            self.actions.push_back(Action::Cancel { seq, reason: None });
        } else if !self.elsewhere.is_empty() {
            let Some(calling) = self.calling.take() else { return };
            // Should it speak after all, it hears that nobody waits for it any more.
            self.actions.push_back(Action::Cancel { seq: calling.seq, reason: None });
            if let Purpose::Initial(initial) = calling.purpose {
                let _ = self.try_elsewhere(initial, false, now); // there is another place
            }
        } else {
            let (status, headers) = (Failure::Timeout.status(), HeaderText::new());
            let reason = reason_phrase(status).to_owned();
            self.finish(Event::Rejected { status, reason, headers }, now); // and the CANCEL, once it may go
        }
    }
}
