//! The peer's INVITE, first or again: from its arrival to the ACK of our 2xx (RFC 3261 sections 13.3 and 14.2).
//!
//! In: INVITE, ACK, CANCEL; what the user says to a call. Out: provisional responses, 2xx until it is acknowledged,
//! refusals. Elsewhere: PRACK and UPDATE meanwhile (`requests`), the user's answer to a re-INVITE (`answers`).

use super::face::{CommandError, EndCause, Event, OfferVia, PeerAddress, Rel100, Replaces, SessionConfig};
use super::offers::{Exchange, OurVehicle, TheirVehicle, is_still_an_answer, print_of};
use super::reliable::{Provisional, Reliable, ReliableDue};
use super::timer::TimerAsk;
use super::{Action, Life, Session, Usage, text};
use crate::dialog::Dialog;
use crate::draft::{HeaderText, ResponseDraft};
use crate::flow::{Flow, Transport};
use crate::msg::{HeaderId, Message};
use crate::transaction::{Destination, ServerId};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A provisional response goes out at least this often (RFC 3261 section 13.3.1.1), lest proxies cancel the call.
const REMIND: Duration = Duration::from_secs(60);

/// An INVITE of the peer that is not done.
#[derive(Debug)]
pub(super) struct Serving {
    txn: ServerId,
    pub(super) cseq: u32,
    /// Whether it began the call; else it is a re-INVITE.
    pub(super) initial: bool,
    pub(super) replaces: Option<Replaces>,
    pub(super) reliable: Reliable,
    /// The peer can acknowledge provisional responses.
    takes_reliable: bool,
    /// The peer insists on them.
    wants_reliable: bool,
    timer: TimerAsk,
    /// The Contact, to be followed when we accept.
    target: Option<Box<str>>,
    /// When the invitation expires.
    expires: Option<Instant>,
    remind: Option<Instant>,
    last_status: u16,
    /// The last description that the user gave for a provisional response.
    preview: Option<Bytes>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// No final response.
    Open,
    /// The user has accepted, the 2xx waits for a PRACK (RFC 3262 section 3).
    Held { sdp: Option<Bytes>, headers: HeaderText },
    /// The 2xx is repeated until the ACK comes.
    Accepted { draft: ResponseDraft, resend: Instant, every: Duration, give_up: Instant },
    /// Refused; the PRACK of a provisional response may still come.
    Refused { until: Instant },
}

impl Serving {
    fn new(txn: ServerId, invite: &Message, initial: bool, first_rseq: u32) -> Serving {
        Serving {
            txn,
            cseq: invite.cseq().map_or(0, |cseq| cseq.number),
            initial,
            replaces: None,
            reliable: Reliable::new(first_rseq),
            takes_reliable: invite.has_option(HeaderId::Supported, "100rel"),
            wants_reliable: invite.has_option(HeaderId::Require, "100rel"),
            timer: TimerAsk::of(invite),
            target: Dialog::target_of(invite),
            expires: None,
            remind: None,
            last_status: 183,
            preview: None,
            stage: Stage::Open,
        }
    }

    pub(super) fn is_accepted(&self) -> bool {
        matches!(self.stage, Stage::Accepted { .. })
    }

    fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// The transaction, if it still needs a final response.
    pub(super) fn open_txn(&self) -> Option<ServerId> {
        matches!(self.stage, Stage::Open | Stage::Held { .. }).then_some(self.txn)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Open | Stage::Held { .. } => {
                [self.expires, self.remind, self.reliable.deadline()].into_iter().flatten().min()
            }
            Stage::Accepted { resend, give_up, .. } => Some(*resend.min(give_up)),
            Stage::Refused { until } => Some(*until),
        }
    }
}

impl Session {
    /// An INVITE without To tag has come. `local_tag` is drawn by the shell, unguessable; the user then says
    /// [`super::Command::Progress`], [`super::Command::Accept`] or [`super::Command::Reject`], in its own time.
    ///
    /// # Errors
    /// The refusal that the INVITE deserves: unknown extensions required (420), a body that is no SDP (415), a session
    /// interval too small (422), a header that makes a dialog impossible (400).
    pub fn incoming(
        cfg: Arc<SessionConfig>,
        txn: ServerId,
        invite: &Message,
        flow: Flow,
        local_tag: String,
        now: Instant,
    ) -> Result<Session, ResponseDraft> {
        let refuse = |refusal: Refusal| refusal.draft(&cfg, &local_tag);
        check_invite(invite, &cfg).map_err(refuse)?;
        let bad = |reason: String| refuse(Refusal { reason: Some(reason), ..Refusal::new(400) });
        let replaces = replaces_of(invite).map_err(bad)?;
        let dialog = Dialog::from_invite_uas(invite, &local_tag, flow.transport == Transport::Tls, 0)
            .map_err(|error| bad(error.to_string()))?;
        let exchange = match invite.sdp() {
            Some(sdp) => Exchange::Theirs { print: print_of(&sdp), by: TheirVehicle::Invite, limit: None },
            None => Exchange::Asked { limit: None },
        };
        let mut usage = Usage::new(0, dialog, exchange);
        usage.learn(invite);
        let destination = Destination { flow, stream_first: cfg.peer_address == PeerAddress::NextHop };
        let mut session = Session::new(cfg, usage, false, destination, None);
        session.aim(Some(flow));
        let first_rseq = session.first_rseq();
        let mut serving = Serving::new(txn, invite, true, first_rseq);
        serving.replaces = replaces;
        serving.expires = invite.expires().map(|secs| now + Duration::from_secs(u64::from(secs.min(86400))));
        serving.remind = Some(now + REMIND);
        session.serving = Some(Box::new(serving));
        Ok(session)
    }

    /// [`super::Command::Progress`].
    pub(super) fn progress(
        &mut self,
        status: u16,
        sdp: Option<Bytes>,
        headers: &HeaderText,
        now: Instant,
    ) -> Result<(), CommandError> {
        let Some(serving) = self.serving.as_mut().filter(|s| s.initial && s.is_open()) else {
            return Err(CommandError::WrongState);
        };
        if !(101..=199).contains(&status) {
            return Err(CommandError::BadStatus(status));
        }
        let asked = matches!(self.usage.exchange, Exchange::Asked { .. });
        let answerable =
            asked || matches!(self.usage.exchange, Exchange::Theirs { by: TheirVehicle::Invite, .. });
        let sdp = sdp.filter(|_| answerable);
        let can = self.cfg.rel100 != Rel100::Off && serving.takes_reliable;
        let reliably = serving.wants_reliable || (can && sdp.is_some());
        if asked && reliably && sdp.is_none() {
            return Err(CommandError::SdpRequired); // RFC 3262 section 5: the first one must carry the offer
        }
        let lines = text::foreign(headers, false);
        serving.last_status = status;
        serving.remind = Some(now + REMIND);
        if reliably {
            if !serving.reliable.push(Provisional { status, sdp: sdp.clone(), lines }) {
                return Err(CommandError::Busy);
            }
            serving.preview = sdp.or(serving.preview.take());
            self.pump(now);
            return Ok(());
        }
        // An offer must not go unreliably; a preview of the answer may.
        let sdp = sdp.filter(|_| !asked);
        serving.preview = sdp.clone().or(serving.preview.take());
        let txn = serving.txn;
        let lines = self.dialog_lines(lines);
        self.respond(txn, status, lines, sdp);
        Ok(())
    }

    /// Sends the next reliable provisional response, if its turn has come.
    pub(super) fn pump(&mut self, now: Instant) {
        let Some(serving) = self.serving.as_mut().filter(|s| s.is_open()) else { return };
        let txn = serving.txn;
        let Some((rseq, next)) = serving.reliable.next() else { return };
        let sdp = next.sdp.and_then(|sdp| self.place(sdp, OurVehicle::Reliable));
        let mut lines = self.dialog_lines(next.lines);
        lines.push("Require", "100rel");
        lines.push_fmt("RSeq", format_args!("{rseq}"));
        let draft = self.response_draft(next.status, lines, sdp);
        self.actions.push_back(Action::Respond { txn, draft: draft.clone() });
        let t1 = self.cfg.t1;
        if let Some(serving) = &mut self.serving {
            serving.reliable.sent(draft, t1, now);
        }
    }

    /// What a description means in a reliable response to the peer's INVITE: the answer, the offer, or nothing any more.
    fn place(&mut self, sdp: Bytes, by: OurVehicle) -> Option<Bytes> {
        match self.usage.exchange {
            Exchange::Theirs { print, by: TheirVehicle::Invite, .. } => {
                self.usage.settle(sdp.clone(), print, true);
                Some(sdp)
            }
            Exchange::Asked { .. } => {
                self.usage.exchange = Exchange::Ours { sdp: sdp.clone(), by };
                Some(sdp)
            }
            Exchange::Idle | Exchange::Ours { .. } | Exchange::Theirs { .. } | Exchange::Asking => None,
        }
    }

    /// [`super::Command::Accept`].
    pub(super) fn accept(
        &mut self,
        sdp: Option<Bytes>,
        headers: HeaderText,
        now: Instant,
    ) -> Result<(), CommandError> {
        let Some(serving) = self.serving.as_mut().filter(|s| s.initial && s.is_open()) else {
            return Err(CommandError::WrongState);
        };
        let needed = match self.usage.exchange {
            Exchange::Asked { .. } | Exchange::Theirs { by: TheirVehicle::Invite, .. } => true,
            Exchange::Idle | Exchange::Ours { .. } | Exchange::Theirs { .. } | Exchange::Asking => false,
        };
        let sdp = sdp.or_else(|| serving.preview.clone());
        if needed && sdp.is_none() {
            return Err(CommandError::SdpRequired);
        }
        serving.stage = Stage::Held { sdp, headers };
        self.release_accept(now);
        Ok(())
    }

    /// Sends a held 2xx once no session description of ours or of a PRACK is open any more (RFC 3262 sections 3 and 5).
    pub(super) fn release_accept(&mut self, now: Instant) {
        let Some(serving) = &mut self.serving else { return };
        let prack_open = matches!(self.usage.exchange, Exchange::Theirs { by: TheirVehicle::Prack(_), .. });
        if prack_open || serving.reliable.holds_final() {
            return;
        }
        if let Stage::Held { sdp, headers } = &mut serving.stage {
            let (sdp, headers) = (sdp.take(), std::mem::take(headers));
            self.send_2xx(sdp, &headers, now);
        }
    }

    /// The 2xx to the peer's INVITE, repeated from here on.
    pub(super) fn send_2xx(&mut self, sdp: Option<Bytes>, headers: &HeaderText, now: Instant) {
        let sdp = sdp.and_then(|sdp| self.place(sdp, OurVehicle::Response));
        let Some(serving) = &mut self.serving else { return };
        let (txn, target, timer) = (serving.txn, serving.target.take(), serving.timer);
        serving.reliable.finish();
        serving.replaces = None;
        serving.preview = None;
        let mut lines = self.dialog_lines(text::foreign(headers, false));
        lines.push("Supported", text::supported(&self.cfg));
        self.timer.grant(&timer, &self.cfg.session_timer, now, &mut lines);
        if let Some(target) = target {
            self.usage.dialog.remote_target = target;
            self.aim(None);
        }
        self.life = Life::Confirmed;
        let draft = self.response_draft(200, lines, sdp);
        self.actions.push_back(Action::Respond { txn, draft: draft.clone() });
        let t1 = self.cfg.t1;
        if let Some(serving) = &mut self.serving {
            serving.stage = Stage::Accepted { draft, resend: now + t1, every: t1, give_up: now + t1 * 64 };
        }
    }

    /// [`super::Command::Reject`].
    pub(super) fn reject(
        &mut self,
        status: u16,
        reason: Option<String>,
        headers: &HeaderText,
        now: Instant,
    ) -> Result<(), CommandError> {
        if self.serving.as_ref().is_none_or(|s| !s.initial || s.open_txn().is_none()) {
            return Err(CommandError::WrongState);
        }
        if !(300..=699).contains(&status) {
            return Err(CommandError::BadStatus(status));
        }
        let lines = text::foreign(headers, (300..400).contains(&status) || status == 485);
        self.refuse_with(status, reason, lines, now);
        self.finish(Event::Ended { by_peer: false, cause: EndCause::Refused, reason: None }, now);
        Ok(())
    }

    /// Refuses a call that the user hangs up before it is answered.
    pub(super) fn refuse(
        &mut self,
        status: u16,
        phrase: Option<String>,
        reason: Option<String>,
        cause: EndCause,
        now: Instant,
    ) {
        let mut lines = HeaderText::new();
        if let Some(reason) = reason {
            lines.push("Reason", reason);
        }
        self.refuse_with(status, phrase, lines, now);
        self.finish(Event::Ended { by_peer: false, cause, reason: None }, now);
    }

    /// The final refusal of the peer's INVITE; a PRACK on its way is still awaited (RFC 3262 section 3).
    fn refuse_with(&mut self, status: u16, phrase: Option<String>, lines: HeaderText, now: Instant) {
        let patience = self.patience();
        let lines = text::say_when(status, lines, &self.cfg);
        let Some(serving) = &mut self.serving else { return };
        let txn = serving.txn;
        serving.reliable.finish();
        if serving.reliable.is_outstanding() {
            serving.stage = Stage::Refused { until: now + patience };
        } else {
            self.serving = None;
        }
        let mut draft = self.response_draft(status, lines, None);
        draft.reason = phrase;
        self.actions.push_back(Action::Respond { txn, draft });
    }

    /// The session is over: what is left of the peer's INVITE is answered with 487 (RFC 3261 section 15.1.2).
    pub(super) fn close_serving(&mut self, now: Instant) {
        let Some(serving) = &self.serving else { return };
        if serving.open_txn().is_some() {
            self.refuse_with(487, None, HeaderText::new(), now);
        } else if serving.is_accepted() {
            self.serving = None;
        }
    }

    /// A CANCEL (RFC 3261 section 9.2); without effect after our final response.
    pub(super) fn on_cancel(&mut self, txn: ServerId, reason: Option<String>, now: Instant) {
        let Some(serving) = self.serving.as_ref().filter(|s| s.open_txn() == Some(txn)) else { return };
        let initial = serving.initial;
        self.refuse_with(487, None, HeaderText::new(), now);
        if initial {
            self.finish(Event::Cancelled { reason }, now);
        } else {
            self.usage.exchange = Exchange::Idle;
            self.tell(Event::OfferWithdrawn);
        }
    }

    /// The transaction layer has refused the INVITE in our place.
    pub(super) fn on_unanswered(&mut self, txn: ServerId, now: Instant) {
        let Some(serving) = self.serving.take_if(|s| s.open_txn() == Some(txn)) else { return };
        if serving.initial {
            let cause = EndCause::TransactionFailed;
            self.finish(Event::Ended { by_peer: false, cause, reason: None }, now);
        } else {
            self.usage.exchange = Exchange::Idle;
            self.tell(Event::OfferWithdrawn);
        }
    }

    /// An ACK: of the 2xx that we repeat, else it is old.
    pub(super) fn on_ack(&mut self, ack: &Message, now: Instant) {
        let number = ack.cseq().map_or(0, |cseq| cseq.number);
        let ours = self.serving.as_ref().is_some_and(|s| s.is_accepted() && s.cseq == number);
        if ours && self.usage.dialog.owns(ack) {
            self.acknowledged(ack.sdp(), now);
        }
    }

    /// Our 2xx has arrived; `sdp` is what the ACK brought.
    fn acknowledged(&mut self, sdp: Option<Bytes>, now: Instant) {
        let Some(serving) = self.serving.take() else { return };
        if let Some(reason) = self.bye.take() {
            self.send_bye(reason);
            return;
        }
        let offered = matches!(self.usage.exchange, Exchange::Ours { by: OurVehicle::Response, .. });
        match (offered, sdp) {
            (false, _) if serving.initial => self.tell(Event::Confirmed { sdp: None }),
            (false, _) => {}
            (true, Some(sdp)) => {
                self.usage.take_answer(&sdp);
                let event = match serving.initial {
                    true => Event::Confirmed { sdp: Some(sdp) },
                    false => Event::Answer { sdp },
                };
                self.tell(event);
            }
            // RFC 3261 section 13.2.2.4: the ACK must carry the answer.
            (true, None) if serving.initial => self.hang_up(None, EndCause::NoAnswer, now),
            (true, None) => {
                self.usage.exchange = Exchange::Idle;
                self.tell(Event::OfferRejected { status: 488 });
            }
        }
    }

    /// A re-INVITE (RFC 3261 section 14.2; who yields to whom: RFC 6337 section 4.3).
    pub(super) fn on_reinvite(&mut self, txn: ServerId, msg: &Message, now: Instant) {
        if let Some(serving) = &self.serving {
            let offered = matches!(self.usage.exchange, Exchange::Ours { .. });
            if !serving.is_accepted() || offered {
                return self.respond_later(txn);
            }
            // The peer has our 2xx, or it would not begin anew: the ACK was lost or is late.
            self.acknowledged(None, now);
        }
        match self.usage.exchange {
            _ if self.calling.is_some() => return self.respond(txn, 491, HeaderText::new(), None),
            Exchange::Ours { .. } | Exchange::Asking => {
                return self.respond(txn, 491, HeaderText::new(), None);
            }
            // Our ACK is still owed: it is our INVITE that is not done.
            Exchange::Theirs { by: TheirVehicle::Response, .. } => {
                return self.respond(txn, 491, HeaderText::new(), None);
            }
            Exchange::Theirs { .. } | Exchange::Asked { .. } => return self.respond_later(txn),
            Exchange::Idle => {}
        }
        if let Err(refusal) = check_invite(msg, &self.cfg) {
            return self.respond(txn, refusal.status, refusal.lines, None);
        }
        self.usage.learn(msg);
        let serving = Serving::new(txn, msg, false, 1);
        self.serving = Some(Box::new(serving));
        let limit = Some(now + self.cfg.answer_limit);
        let Some(sdp) = msg.sdp() else {
            self.usage.exchange = Exchange::Asked { limit };
            self.tell(Event::Offer { sdp: None, via: OfferVia::Invite });
            return;
        };
        let print = print_of(&sdp);
        self.open_offer(print, TheirVehicle::Invite, limit);
        match self.unchanged_answer(print, &sdp) {
            Some(answer) => self.send_2xx(Some(answer), &HeaderText::new(), now),
            None => self.tell(Event::Offer { sdp: Some(sdp), via: OfferVia::Invite }),
        }
    }

    /// The answer to an offer that changes nothing, as refreshes bring it (RFC 4028 section 7.4): what we said last.
    pub(super) fn unchanged_answer(&self, print: u64, offer: &[u8]) -> Option<Bytes> {
        let usage = &self.usage;
        let ours = usage.local_sdp.as_ref().filter(|_| usage.remote_print == print)?;
        (usage.answered || is_still_an_answer(ours, offer)).then(|| ours.clone())
    }

    /// Refuses the peer's re-INVITE.
    pub(super) fn refuse_reinvite(&mut self, status: u16, now: Instant) {
        self.usage.exchange = Exchange::Idle;
        self.refuse_with(status, None, HeaderText::new(), now);
    }

    pub(super) fn serving_timeout(&mut self, now: Instant) {
        let Some(serving) = &mut self.serving else { return };
        let txn = serving.txn;
        match &mut serving.stage {
            Stage::Open | Stage::Held { .. } => {
                if serving.expires.is_some_and(|at| at <= now) {
                    self.refuse_with(487, None, HeaderText::new(), now);
                    return self.finish(Event::Cancelled { reason: None }, now);
                }
                match serving.reliable.poll(now) {
                    Some(ReliableDue::Resend(draft)) => {
                        self.actions.push_back(Action::Respond { txn, draft })
                    }
                    Some(ReliableDue::GiveUp) => return self.refuse(504, None, None, EndCause::NoPrack, now),
                    None => {}
                }
                self.remind(now);
            }
            Stage::Accepted { give_up, .. } if *give_up <= now => {
                self.serving = None;
                match self.bye.take() {
                    Some(reason) => self.send_bye(reason),
                    None => self.hang_up(None, EndCause::NoAck, now),
                }
            }
            Stage::Accepted { draft, resend, every, .. } if *resend <= now => {
                *every = (*every * 2).min(self.cfg.t2);
                *resend = now + *every;
                self.actions.push_back(Action::Respond { txn, draft: draft.clone() });
            }
            Stage::Accepted { .. } => {}
            Stage::Refused { until } => {
                if *until <= now {
                    self.serving = None;
                }
            }
        }
    }

    /// Says again how the call stands (RFC 3261 section 13.3.1.1).
    fn remind(&mut self, now: Instant) {
        let Some(serving) = self.serving.as_mut().filter(|s| s.remind.is_some_and(|at| at <= now)) else {
            return;
        };
        serving.remind = Some(now + REMIND);
        let status = serving.last_status;
        if serving.is_open() {
            // A peer that wants an offer first, or a full line, need not be reminded.
            let _ = self.progress(status, None, &HeaderText::new(), now);
        }
    }

    /// Contact and Allow, as all responses that make or refresh a dialog carry them, before the given lines.
    pub(super) fn dialog_lines(&self, more: HeaderText) -> HeaderText {
        let mut lines = HeaderText::new();
        lines.push("Contact", &self.cfg.contact);
        lines.push("Allow", self.cfg.allow);
        lines.extend_raw(more.as_bytes());
        lines
    }
}

/// A response that refuses a request before anything came of it.
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) reason: Option<String>,
    pub(super) lines: HeaderText,
}

impl Refusal {
    pub(super) fn new(status: u16) -> Refusal {
        Refusal { status, reason: None, lines: HeaderText::new() }
    }

    fn with(status: u16, name: &str, value: impl AsRef<[u8]>) -> Refusal {
        let mut refusal = Refusal::new(status);
        refusal.lines.push(name, value);
        refusal
    }

    fn draft(mut self, cfg: &SessionConfig, local_tag: &str) -> ResponseDraft {
        if !cfg.user_agent.is_empty() {
            self.lines.push("Server", &cfg.user_agent);
        }
        let to_tag = Some(local_tag.to_owned());
        ResponseDraft {
            status: self.status,
            reason: self.reason,
            to_tag,
            headers: self.lines,
            body: Bytes::new(),
        }
    }
}

/// What every session refresh request must pass (RFC 3261 section 8.2, RFC 4028 section 9).
pub(super) fn check_invite(msg: &Message, cfg: &SessionConfig) -> Result<(), Refusal> {
    if let Some(unknown) = text::unsupported(msg, cfg) {
        return Err(Refusal::with(420, "Unsupported", unknown));
    }
    if let Some(min_se) = TimerAsk::of(msg).too_small(&cfg.session_timer) {
        return Err(Refusal::with(422, "Min-SE", min_se.to_string()));
    }
    check_body(msg)
}

/// A body that we cannot read and must not ignore gets 415 (RFC 3261 section 8.2.3).
fn check_body(msg: &Message) -> Result<(), Refusal> {
    if msg.body().is_empty() {
        return Ok(());
    }
    let encoding = msg.header(HeaderId::ContentEncoding).unwrap_or_default();
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity") {
        return Err(Refusal::with(415, "Accept-Encoding", "identity"));
    }
    let disposition = msg.header(HeaderId::ContentDisposition).unwrap_or_default().to_ascii_lowercase();
    let optional = disposition.windows(8).any(|w| w == b"optional") || disposition.starts_with(b"render");
    if msg.sdp().is_some() || optional {
        return Ok(());
    }
    Err(Refusal::with(415, "Accept", "application/sdp"))
}

/// The Replaces header of an INVITE (RFC 3891 section 3): at most one, and well-formed.
fn replaces_of(invite: &Message) -> Result<Option<Replaces>, String> {
    if invite.lines(HeaderId::Replaces).count() > 1 {
        return Err("More than one Replaces".to_owned());
    }
    let Some(replaces) = invite.replaces() else { return Ok(None) };
    let replaces = replaces.map_err(|error| error.to_string())?;
    Ok(Some(Replaces {
        call_id: replaces.call_id.to_owned(),
        to_tag: replaces.to_tag.to_owned(),
        from_tag: replaces.from_tag.to_owned(),
        early_only: replaces.early_only,
    }))
}
