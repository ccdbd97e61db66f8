//! Every other request inside the dialog, both ways: BYE, PRACK, UPDATE, INFO, MESSAGE, REFER, NOTIFY, OPTIONS.
//!
//! In: the peer's requests, responses to ours, commands. Out: answers, events, requests and their repetition with
//! credentials. Elsewhere: INVITE (`uas`, `uac`), what follows from a failed UPDATE (`modify`).

use super::face::{Command, CommandError, EndCause, Event, Failure, OfferVia};
use super::modify::{Modify, gone};
use super::offers::{Exchange, OurVehicle, TheirVehicle, print_of};
use super::timer::TimerAsk;
use super::uac::Prack;
use super::uas::check_invite;
use super::{Action, Life, Session, text};
use crate::dialog::Dialog;
use crate::draft::{HeaderText, RequestDraft};
use crate::flow::Flow;
use crate::msg::{HeaderId, Message, Method};
use crate::transaction::ServerId;
use bytes::Bytes;
use std::time::Instant;

/// Requests of ours that may be open at a time; BYE is always possible.
const CLIENTS_MAX: usize = 16;
/// Requests of the peer that may wait for the user at a time.
const ASKED_MAX: usize = 16;
/// How often one request is sent anew with credentials.
const RETRIES_MAX: u8 = 4;

/// A request of ours without final response.
#[derive(Debug)]
pub(super) struct Client {
    seq: u32,
    fork: u32,
    pub(super) job: Job,
    again: Option<Box<Again>>,
}

/// What a request of ours is for.
#[derive(Debug)]
pub(super) enum Job {
    Prack(Prack),
    Update(Modify),
    Bye,
    /// The BYE of a fork that we never wanted.
    Stray,
    /// Something of the user's.
    User(Method),
}

/// What it takes to send a request again: with credentials, or by another connection. Kept only where there are some.
#[derive(Debug)]
struct Again {
    method: Method,
    lines: HeaderText,
    content_type: String,
    body: Bytes,
    retries: u8,
    /// How often it was sent once more because its connection had broken, and until when that makes sense.
    resent: u8,
    give_up: Option<Instant>,
}

/// A BYE whose peer cannot be reached at the moment.
#[derive(Debug)]
pub(super) struct Postponed {
    client: Client,
    pub(super) due: Instant,
}

/// A request of the peer that waits for the user.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) txn: ServerId,
    method: Method,
    pub(super) limit: Instant,
}

/// What the 2xx to the peer's UPDATE needs besides the answer.
#[derive(Debug)]
pub(super) struct UpdateFacts {
    timer: TimerAsk,
    target: Option<Box<str>>,
}

impl Client {
    pub(super) fn new(seq: u32, fork: u32, job: Job) -> Client {
        Client { seq, fork, job, again: None }
    }
}

/// What the peer asks.
impl Session {
    /// A request that came with our tag.
    pub(super) fn serve(&mut self, txn: ServerId, msg: &Message, flow: Flow, now: Instant) {
        let method = msg.method();
        if matches!(method, Method::Ack | Method::Cancel) {
            return; // these have doors of their own
        }
        if !self.select_fork_where(|usage| usage.dialog.owns(msg)) {
            return self.respond(txn, 481, HeaderText::new(), None);
        }
        if self.life == Life::Over {
            return self.serve_late(txn, &method, msg);
        }
        let number = msg.cseq().map_or(0, |cseq| cseq.number);
        if !self.usage.dialog.accepts_cseq(number) {
            return self.respond(txn, 500, HeaderText::new(), None);
        }
        self.aim(Some(flow));
        if !self.allows(&method) {
            let status = if matches!(method, Method::Other(_)) { 501 } else { 405 };
            let mut lines = HeaderText::new();
            lines.push("Allow", self.cfg.allow);
            return self.respond(txn, status, lines, None);
        }
        if let Some(unknown) = text::unsupported(msg, &self.cfg) {
            let mut lines = HeaderText::new();
            lines.push("Unsupported", unknown);
            return self.respond(txn, 420, lines, None);
        }
        if let Method::Invite | Method::Update = method {
            self.answer_announces();
        }
        match method {
            Method::Invite => self.on_reinvite(txn, msg, now),
            Method::Update => self.on_update(txn, msg, now),
            Method::Prack => self.on_prack(txn, msg, now),
            Method::Bye => self.on_bye(txn, msg, now),
            Method::Options => {
                let mut lines = self.dialog_lines(HeaderText::new());
                lines.push("Supported", text::supported(&self.cfg));
                lines.push("Accept", "application/sdp");
                self.respond(txn, 200, lines, None);
            }
            Method::Notify => {
                let mut lines = HeaderText::new();
                lines.push("Contact", &self.cfg.contact);
                self.respond(txn, 200, lines, None);
                self.tell(Event::Notify {
                    event: text::value(msg, HeaderId::Event).unwrap_or_default(),
                    subscription_state: text::value(msg, HeaderId::SubscriptionState).unwrap_or_default(),
                    content_type: text::content_type(msg),
                    body: msg.body(),
                });
            }
            Method::Info | Method::Message | Method::Refer => self.ask_user(txn, method, msg, now),
            Method::Ack
            | Method::Cancel
            | Method::Register
            | Method::Subscribe
            | Method::Publish
            | Method::Other(_) => self.respond(txn, 501, HeaderText::new(), None),
        }
    }

    fn allows(&self, method: &Method) -> bool {
        let served =
            !matches!(method, Method::Register | Method::Subscribe | Method::Publish | Method::Other(_));
        let vital = matches!(method, Method::Invite | Method::Bye);
        served && (vital || self.cfg.allow.split(',').any(|name| name.trim() == method.as_str()))
    }

    /// The session is over on our side, but the peer need not know yet.
    fn serve_late(&mut self, txn: ServerId, method: &Method, msg: &Message) {
        // BYEs may cross, and a PRACK may come late.
        let fine = *method == Method::Bye || (*method == Method::Prack && self.acknowledges(msg));
        self.respond(txn, if fine { 200 } else { 481 }, HeaderText::new(), None);
        let refused = |serving: &super::Serving| !serving.is_accepted() && !serving.reliable.is_outstanding();
        if self.serving.as_ref().is_some_and(|s| refused(s)) {
            self.serving = None;
        }
        if *method == Method::Bye
            && let Some(reason) = self.bye.take()
        {
            // Ours waits for an ACK that a peer which hangs up will not send.
            self.serving = None;
            drop(reason);
        }
    }

    fn on_bye(&mut self, txn: ServerId, msg: &Message, now: Instant) {
        self.respond(txn, 200, HeaderText::new(), None);
        if self.life == Life::Early && self.caller {
            self.close_offer(487);
            if self.drop_fork() {
                return; // others ring on
            }
        }
        let reason = text::value(msg, HeaderId::Reason);
        self.acknowledge(None);
        self.finish(Event::Ended { by_peer: true, cause: EndCause::Bye, reason }, now);
    }

    /// RFC 3262 section 3, and the offers of section 5.
    fn on_prack(&mut self, txn: ServerId, msg: &Message, now: Instant) {
        if msg.rack().is_err() {
            return self.respond(txn, 400, HeaderText::new(), None);
        }
        if !self.acknowledges(msg) {
            return self.respond(txn, 481, HeaderText::new(), None);
        }
        match (&self.usage.exchange, msg.sdp()) {
            (Exchange::Ours { by: OurVehicle::Reliable, .. }, Some(sdp)) => {
                self.usage.take_answer(&sdp);
                self.respond(txn, 200, HeaderText::new(), None);
                self.tell(Event::Answer { sdp });
            }
            (Exchange::Ours { by: OurVehicle::Reliable, .. }, None) => {
                // It owes an answer. The offer goes out once more, in the 2xx.
                self.usage.exchange = Exchange::Asked { limit: None };
                self.respond(txn, 200, HeaderText::new(), None);
                self.tell(Event::OfferRejected { status: 488 });
            }
            (_, None) => self.respond(txn, 200, HeaderText::new(), None),
            (Exchange::Idle, Some(sdp)) => {
                self.take_offer(TheirVehicle::Prack(txn), OfferVia::Prack, sdp, now);
            }
            (Exchange::Ours { .. } | Exchange::Asking, Some(_)) => {
                self.respond(txn, 491, HeaderText::new(), None)
            }
            (Exchange::Theirs { .. } | Exchange::Asked { .. }, Some(_)) => self.respond_later(txn),
        }
        self.pump(now);
    }

    /// Whether a PRACK is for the reliable response that is on its way.
    fn acknowledges(&mut self, msg: &Message) -> bool {
        let (Some(serving), Ok(rack)) = (&mut self.serving, msg.rack()) else { return false };
        rack.method == b"INVITE" && rack.cseq == serving.cseq && serving.reliable.acknowledge(rack.rseq)
    }

    /// RFC 3311 section 5.2; who yields to whom: RFC 6337 section 4.3.
    fn on_update(&mut self, txn: ServerId, msg: &Message, now: Instant) {
        if let Err(refusal) = check_invite(msg, &self.cfg) {
            return self.respond(txn, refusal.status, refusal.lines, None);
        }
        let facts = UpdateFacts { timer: TimerAsk::of(msg), target: Dialog::target_of(msg) };
        let Some(sdp) = msg.sdp() else {
            self.usage.learn(msg);
            return self.grant_update(txn, facts, None, now);
        };
        let unacknowledged = self.serving.as_ref().is_some_and(|s| s.reliable.holds_final());
        match self.usage.exchange {
            Exchange::Ours { .. } | Exchange::Asking => self.respond(txn, 491, HeaderText::new(), None),
            Exchange::Theirs { by: TheirVehicle::Response, .. } => {
                self.respond(txn, 491, HeaderText::new(), None)
            }
            Exchange::Theirs { .. } | Exchange::Asked { .. } => self.respond_later(txn),
            Exchange::Idle if unacknowledged => self.respond_later(txn),
            Exchange::Idle => {
                self.usage.learn(msg);
                self.usage.update = Some(Box::new(facts));
                self.take_offer(TheirVehicle::Update(txn), OfferVia::Update, sdp, now);
            }
        }
    }

    /// An offer in a PRACK or UPDATE: one that changes nothing is answered at once, the user is asked about the others.
    fn take_offer(&mut self, by: TheirVehicle, via: OfferVia, sdp: Bytes, now: Instant) {
        let print = print_of(&sdp);
        let limit = Some(now + self.cfg.answer_limit * 2 / 3);
        self.open_offer(print, by, limit);
        match self.unchanged_answer(print, &sdp) {
            Some(answer) => {
                let _ = self.answer(answer, now); // the offer is open, so this answers it
            }
            None => self.tell(Event::Offer { sdp: Some(sdp), via }),
        }
    }

    /// The 2xx to an UPDATE whose offer the user has answered.
    pub(super) fn accept_update(&mut self, txn: ServerId, sdp: Option<Bytes>, now: Instant) {
        if let Some(facts) = self.usage.update.take() {
            self.grant_update(txn, *facts, sdp, now);
        }
    }

    fn grant_update(&mut self, txn: ServerId, facts: UpdateFacts, sdp: Option<Bytes>, now: Instant) {
        if let Some(target) = facts.target {
            self.usage.dialog.remote_target = target;
            self.aim(None);
        }
        let mut lines = self.dialog_lines(HeaderText::new());
        lines.push("Supported", text::supported(&self.cfg));
        if self.life == Life::Confirmed {
            self.timer.grant(&facts.timer, &self.cfg.session_timer, now, &mut lines);
        }
        self.respond(txn, 200, lines, sdp);
    }

    fn ask_user(&mut self, txn: ServerId, method: Method, msg: &Message, now: Instant) {
        let content_type = text::content_type(msg);
        let body = msg.body();
        let event = if method == Method::Info {
            Event::Info { content_type, body }
        } else if method == Method::Message {
            Event::Message { content_type, body }
        } else if msg.refer_to().is_ok() && msg.lines(HeaderId::ReferTo).count() == 1 {
            Event::Refer {
                refer_to: text::value(msg, HeaderId::ReferTo).unwrap_or_default(),
                referred_by: text::value(msg, HeaderId::ReferredBy),
            }
        } else {
            return self.respond(txn, 400, HeaderText::new(), None); // RFC 3515 section 2.4.2
        };
        if self.asked.len() >= ASKED_MAX {
            return self.respond_later(txn);
        }
        self.asked.push(Asked { txn, method, limit: now + self.cfg.answer_limit * 2 / 3 });
        self.tell(event);
    }

    /// The user's answer to its oldest request of this method.
    pub(super) fn respond_asked(&mut self, method: &Method, status: u16) -> Result<(), CommandError> {
        if !(200..=699).contains(&status) {
            return Err(CommandError::BadStatus(status));
        }
        let at = self.asked.iter().position(|a| a.method == *method).ok_or(CommandError::WrongState)?;
        let asked = self.asked.remove(at);
        let mut lines = HeaderText::new();
        if *method == Method::Refer {
            lines.push("Contact", &self.cfg.contact);
        }
        self.respond(asked.txn, status, lines, None);
        Ok(())
    }

    /// Requests that the user has left without an answer.
    pub(super) fn asked_timeout(&mut self, now: Instant) {
        while let Some(at) = self.asked.iter().position(|a| a.limit <= now) {
            let asked = self.asked.remove(at);
            self.respond(asked.txn, 500, HeaderText::new(), None);
        }
    }

    /// 500 with a Retry-After of 0 to 10 seconds (RFC 3261 section 14.2, RFC 3311 section 5.2).
    pub(super) fn respond_later(&mut self, txn: ServerId) {
        let secs = self.draw(11);
        let mut lines = HeaderText::new();
        lines.push_fmt("Retry-After", format_args!("{secs}"));
        self.respond(txn, 500, lines, None);
    }
}

/// What we ask.
impl Session {
    /// Commands that are requests of their own.
    pub(super) fn ask_peer(&mut self, command: Command) -> Result<(), CommandError> {
        let has_dialog = self.usage.dialog.remote_tag.is_some() || self.life == Life::Confirmed;
        if !has_dialog {
            return Err(CommandError::WrongState);
        }
        if self.is_crowded() {
            return Err(CommandError::Busy);
        }
        let mut own = HeaderText::new();
        let (method, more, content_type, body) = match command {
            Command::Info { content_type, body, headers } => (Method::Info, headers, content_type, body),
            Command::Message { content_type, body, headers } => {
                (Method::Message, headers, content_type, body)
            }
            Command::Refer { refer_to, referred_by, headers } => {
                own.push("Contact", &self.cfg.contact);
                own.push("Refer-To", refer_to);
                if let Some(by) = referred_by {
                    own.push("Referred-By", by);
                }
                (Method::Refer, headers, String::new(), Bytes::new())
            }
            Command::Notify { event, subscription_state, content_type, body } => {
                own.push("Contact", &self.cfg.contact);
                own.push("Event", event);
                own.push("Subscription-State", subscription_state);
                (Method::Notify, HeaderText::new(), content_type, body)
            }
            Command::Progress { .. }
            | Command::Accept { .. }
            | Command::Reject { .. }
            | Command::Cancel { .. }
            | Command::Reoffer { .. }
            | Command::Answer { .. }
            | Command::RejectOffer { .. }
            | Command::RespondInfo { .. }
            | Command::RespondMessage { .. }
            | Command::RespondRefer { .. }
            | Command::Bye { .. } => return Err(CommandError::WrongState),
        };
        own.extend_raw(text::foreign(&more, false).as_bytes());
        self.submit(Job::User(method.clone()), method, own, &content_type, body);
        Ok(())
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.clients.len() >= CLIENTS_MAX
    }

    /// Sends a request inside the dialog.
    pub(super) fn submit(
        &mut self,
        job: Job,
        method: Method,
        lines: HeaderText,
        content_type: &str,
        body: Bytes,
    ) {
        let mut client = Client::new(0, self.usage.fork, job);
        let may_break = self.destination.flow.transport.is_reliable();
        if (self.digest.is_some() || may_break) && !matches!(client.job, Job::Update(_)) {
            let content_type = content_type.to_owned();
            let (method, lines, body) = (method.clone(), lines.clone(), body.clone());
            let again = Again { method, lines, content_type, body, retries: 0, resent: 0, give_up: None };
            client.again = Some(Box::new(again));
        }
        self.launch(client, method, &lines, content_type, body);
    }

    fn launch(
        &mut self,
        mut client: Client,
        method: Method,
        lines: &HeaderText,
        content_type: &str,
        body: Bytes,
    ) {
        let mut draft = self.usage.dialog.request(method);
        draft.headers.extend_raw(lines.as_bytes());
        self.dress(&mut draft);
        text::attach(&mut draft, content_type, body);
        self.authorize(&mut draft);
        let seq = self.take_seq();
        client.seq = seq;
        self.clients.push(client);
        self.actions.push_back(Action::Request { seq, draft, to: self.destination });
    }

    /// Adds the credentials that we know to be wanted, and returns their lines.
    pub(super) fn authorize(&mut self, draft: &mut RequestDraft) -> HeaderText {
        let mut lines = HeaderText::new();
        if let Some(digest) = &mut self.digest {
            for (name, value) in digest.headers(draft.method.as_str(), &draft.uri, &draft.body) {
                lines.push(name, value);
            }
        }
        draft.headers.extend_raw(lines.as_bytes());
        lines
    }

    /// Whether a refusal can be answered by sending the request again: with credentials, or with a longer interval.
    pub(super) fn can_retry(&mut self, msg: &Message) -> bool {
        let (proxy, id) = match msg.status() {
            401 => (false, HeaderId::WwwAuthenticate),
            407 => (true, HeaderId::ProxyAuthenticate),
            422 => return self.timer.learn_min_se(msg, &self.cfg.session_timer),
            _ => return false,
        };
        // A challenge is a list of its own kind (RFC 3261 section 20.44): one a line.
        self.digest.as_mut().is_some_and(|digest| digest.challenged(proxy, msg.lines(id)).is_ok())
    }

    /// A response to one of our requests other than INVITE.
    pub(super) fn on_reply(&mut self, seq: u32, msg: &Message, now: Instant) {
        let status = msg.status();
        if status < 200 {
            return;
        }
        let Some(at) = self.clients.iter().position(|client| client.seq == seq) else { return };
        let mut client = self.clients.swap_remove(at);
        self.select_fork_where(|usage| usage.fork == client.fork);
        let again = self.can_retry(msg);
        if !again
            && !matches!(status, 401 | 407)
            && let Some(digest) = &mut self.digest
        {
            digest.accepted();
        }
        if again
            && let Some(once_more) = client.again.as_mut().filter(|once_more| once_more.retries < RETRIES_MAX)
        {
            once_more.retries += 1;
            return self.launch_again(client);
        }
        // Nobody must stay in a call because another node has used up our numbers.
        if status == 500 && matches!(client.job, Job::Bye) {
            self.usage.dialog.leap();
            self.submit(Job::Stray, Method::Bye, HeaderText::new(), "", Bytes::new());
        }
        self.conclude(client, status, Some(msg), again, now);
    }

    fn launch_again(&mut self, client: Client) {
        let Some(again) = &client.again else { return };
        let (method, body) = (again.method.clone(), again.body.clone());
        let (lines, content_type) = (again.lines.clone(), again.content_type.clone());
        self.launch(client, method, &lines, &content_type, body);
    }

    /// One of our requests other than INVITE gets no response.
    pub(super) fn on_no_reply(&mut self, seq: u32, failure: Failure, now: Instant) {
        let Some(at) = self.clients.iter().position(|client| client.seq == seq) else { return };
        let mut client = self.clients.swap_remove(at);
        self.select_fork_where(|usage| usage.fork == client.fork);
        // The connection broke under it. The shell may know another way to the peer; if it does not, this fails at once.
        // A BYE is not given up so soon: a telephone that has lost its connection comes back by another one.
        let patience = self.patience();
        if failure == Failure::Transport
            && let Some(again) = &mut client.again
        {
            let give_up = *again.give_up.get_or_insert(now + patience);
            let pause = (self.cfg.t1 * (1 << again.resent.min(6)) / 2).min(self.cfg.t2);
            again.resent = again.resent.saturating_add(1);
            match client.job {
                _ if again.resent == 1 => return self.launch_again(client),
                Job::Bye | Job::Stray if now + pause < give_up => {
                    return self.postponed.push(Postponed { client, due: now + pause });
                }
                Job::Bye | Job::Stray | Job::Prack(_) | Job::Update(_) | Job::User(_) => {}
            }
        }
        self.conclude(client, failure.status(), None, false, now);
    }

    /// Sends again what is due.
    pub(super) fn postponed_timeout(&mut self, now: Instant) {
        while let Some(at) = self.postponed.iter().position(|postponed| postponed.due <= now) {
            let Postponed { client, .. } = self.postponed.swap_remove(at);
            self.select_fork_where(|usage| usage.fork == client.fork);
            self.launch_again(client);
        }
        if self.postponed.is_empty() {
            self.postponed = Vec::new();
        }
    }

    fn conclude(&mut self, client: Client, status: u16, msg: Option<&Message>, again: bool, now: Instant) {
        if self.clients.is_empty() {
            self.clients = Vec::new(); // an idle session holds no list
        }
        match client.job {
            Job::Bye | Job::Stray => {}
            Job::Prack(prack) => self.on_pracked(prack, status),
            Job::Update(modify) => self.on_updated(modify, status, msg, again, now),
            Job::User(method) => {
                // RFC 6665 section 4.2.2: a refused NOTIFY ends a subscription, not the call.
                let fatal =
                    self.life == Life::Confirmed && matches!(status, 408 | 481) && method != Method::Notify;
                self.tell(Event::Replied { method, status });
                if fatal {
                    self.hang_up(None, gone(status), now);
                }
            }
        }
    }
}
