//! A leg: the actor around one INVITE session (`sip::session`). It decides nothing: events go up to the call, commands
//! come down from it, and what the session wants sent is carried out by the leg's worker.
//!
//! In: [`LegMsg`]. Out: actions for the worker, [`cluster::leg::Calls`] events, wishes to be woken. Legs run where their
//! transactions are: their worker delivers their messages one at a time, and contains their failures (`worker::legs`).

use crate::Shared;
use crate::leg_state::{LegState, Peer};
use crate::legs::LegTag;
use crate::registrar::Device;
use bytes::Bytes;
use cluster::ids::{CallId, NodeId};
use cluster::leg::{Incoming, LegCommand, LegEvent};
use model::Id;
use model::entities::CarrierServer;
use sip::draft::{HeaderText, ResponseDraft};
use sip::flow::{ConnId, Flow, Transport};
use sip::msg::{Message, Method};
use sip::session::{Action, CommandError, Failure, Outgoing, Session, SessionConfig};
use sip::transaction::{Destination, ServerId};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A leg asks to be woken this often at least while it waits for something: what a leg that is gone leaves in the
/// worker's heap lasts no longer.
const NAP_MAX: Duration = Duration::from_secs(60);
/// Within this time peers of legs that have moved here hear where to send their requests now.
pub(crate) const ANNOUNCE_WITHIN: Duration = Duration::from_secs(3);
/// A leg that could go elsewhere says so again after this time, then after twice as long, up to eight times.
const LEAVE_AGAIN: Duration = Duration::from_secs(2);
/// What its peer asks for meanwhile is left to the next proxy for so long: less than the time after which a request is repeated (RFC 3261
/// section 17.1.1.1, T1).
const LEAVING: Duration = Duration::from_millis(400);

/// What a leg is told.
pub(crate) enum LegMsg {
    /// Begin as the callee of this INVITE.
    Invite(Box<Arrived>),
    /// Begin as the caller.
    Originate(Box<Outgoing>),
    /// A request inside the dialog.
    Request { txn: ServerId, msg: Message, flow: Flow },
    /// An ACK of a 2xx.
    Ack { msg: Message, flow: Flow },
    /// The INVITE of this transaction was cancelled.
    Cancelled { txn: ServerId, reason: Option<String> },
    /// The INVITE of this transaction was refused in our place, for we never answered it.
    Unanswered { txn: ServerId },
    /// A response to the request `seq`.
    Response { seq: u32, msg: Message, flow: Flow },
    /// The request `seq` came to nothing.
    Failure { seq: u32, failure: Failure },
    /// What the call wants.
    Command(LegCommand),
    /// The time that was asked for has come.
    Wake,
    /// Dies of it.
    #[cfg(test)]
    Panic,
}

/// An INVITE that passed policy.
pub(crate) struct Arrived {
    pub(crate) txn: ServerId,
    pub(crate) msg: Message,
    pub(crate) flow: Flow,
    pub(crate) incoming: Incoming,
}

/// The actor.
pub(crate) struct Leg {
    call: CallId,
    tag: LegTag,
    /// Whom it leads to, and which of his devices, where a stream leads there.
    peer: Peer,
    device: Option<Box<Device>>,
    config: Arc<SessionConfig>,
    stage: Stage,
    /// When the worker will wake us.
    alarm: Option<Instant>,
    rate: Rate,
    /// What the call has of the dialog, for the case that this proxy is lost ([`Session::capsule_print`]).
    told_state: Option<u64>,
    /// When it last asked to go to another proxy.
    asked_to_leave: Option<Instant>,
    /// How often.
    asks: u32,
}

enum Stage {
    /// The first message is still to come. An INVITE of a peer must be answered whatever happens.
    New {
        txn: Option<ServerId>,
    },
    Live(Box<Session>),
    /// The session ended in order.
    Over,
}

/// Requests of the peer within one second.
#[derive(Default)]
struct Rate {
    second: u64,
    count: u32,
}

/// What a leg wants done for it after a message.
#[derive(Default)]
pub(crate) struct Wishes {
    /// In this order.
    pub(crate) actions: Vec<Action>,
    /// To be told [`LegMsg::Wake`] at this time.
    pub(crate) wake: Option<Instant>,
}

impl Leg {
    /// A leg that is about to begin; `txn` is the INVITE that it answers for.
    pub(crate) fn new(
        call: CallId,
        tag: LegTag,
        (peer, device): (Peer, Option<Box<Device>>),
        config: SessionConfig,
        txn: Option<ServerId>,
    ) -> Self {
        Self {
            call,
            tag,
            peer,
            device,
            config: Arc::new(config),
            stage: Stage::New { txn },
            alarm: None,
            rate: Rate::default(),
            told_state: None,
            asked_to_leave: None,
            asks: 0,
        }
    }

    /// A leg that another proxy had, carried on here. With it comes its state for the case that this proxy is lost before it is at rest again: the
    /// next one must not use the numbers once more that this one is about to use.
    pub(crate) fn revived(
        call: CallId,
        tag: LegTag,
        state: LegState,
        (to, credentials): (Destination, Option<sip::digest::Client>),
        config: SessionConfig,
        here: NodeId,
        now: Instant,
    ) -> (Self, Option<Bytes>) {
        let LegState { session, peer, device, proxy } = state;
        let mut leg = Self::new(call, tag, (peer, device), config, None);
        let mut session = Session::revive(Arc::clone(&leg.config), &session, now);
        session.set_destination(to);
        if let Some(credentials) = credentials {
            session.set_credentials(credentials);
        }
        let capsule = session.capsule(now);
        let state = capsule.map(|capsule| LegState::encode(&capsule, peer, leg.device.as_deref(), proxy));
        if proxy != here {
            session.announce(ANNOUNCE_WITHIN, now);
        }
        leg.stage = Stage::Live(Box::new(session));
        (leg, state)
    }

    /// The call that owns it.
    pub(crate) fn call(&self) -> CallId {
        self.call
    }

    /// What the peer calls itself in the dialog, once there is one.
    pub(crate) fn peer_tag(&self) -> Option<&[u8]> {
        match &self.stage {
            Stage::Live(session) => session.dialog().remote_tag.as_deref(),
            Stage::New { .. } | Stage::Over => None,
        }
    }

    /// Whether this is the dialog's tag, all of it.
    pub(crate) fn has(&self, tag: LegTag) -> bool {
        self.tag == tag
    }

    /// Whether the peer may send another request in this second.
    pub(crate) fn admit(&mut self, second: u64, limit: u32) -> bool {
        if self.rate.second != second {
            self.rate = Rate { second, count: 0 };
        }
        self.rate.count = self.rate.count.saturating_add(1);
        self.rate.count <= limit
    }

    /// A stream's connection may end in the middle of a call: where a request to its device goes instead of `to` (RFC 3261
    /// section 12.2.1.1 wants it to reach the remote target, by whatever connection; RFC 5626 section 5.3). `None`: by no other way.
    pub(crate) fn way_instead(&mut self, to: Destination, shared: &Shared) -> Option<Destination> {
        let Stage::Live(session) = &mut self.stage else { return None };
        if !to.flow.transport.is_reliable() {
            return None;
        }
        let is_open = |conn| shared.connections.is_open(conn);
        let way = self
            .device
            .as_ref()
            .zip(self.peer.aor())
            .and_then(|(device, aor)| shared.registrar.way(aor, device, to.flow.conn, is_open));
        let way = way.filter(|way| way.transport == to.flow.transport);
        let flow = match way {
            // Numbers of connections grow: the device has come back by another one.
            Some(way) if way.conn > to.flow.conn => way,
            _ if is_open(to.flow.conn) => return None,
            Some(way) => way,
            // It never registered, but may be where it says it is.
            None => {
                let remote = session.next_address().filter(|next| next.ip() == to.flow.remote.ip())?;
                Flow { remote, conn: ConnId(0), ..to.flow }
            }
        };
        let to = Destination { flow, ..to };
        session.set_destination(to);
        Some(to)
    }

    /// Deals with one message. `false`: nothing is left to do, the leg is over.
    pub(crate) fn take(
        &mut self,
        message: LegMsg,
        shared: &Shared,
        now: Instant,
        wishes: &mut Wishes,
    ) -> bool {
        self.handle(message, shared, now, wishes);
        self.drain(shared, now, wishes)
    }

    /// What ends this leg from outside if it failed: CANCEL, BYE or 500. None if it was over. The call learns of it.
    pub(crate) fn bury(mut self, shared: &Shared) -> Vec<Action> {
        let will = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => return Vec::new(),
            Stage::New { txn } => {
                txn.map(|txn| Action::Respond { txn, draft: ResponseDraft::new(500) }).into_iter().collect()
            }
            // The session may be what panicked.
            Stage::Live(session) => {
                catch_unwind(AssertUnwindSafe(|| session.last_will())).unwrap_or_default()
            }
        };
        if let Some(calls) = shared.calls.get() {
            calls.leg_lost(self.call, self.tag.leg);
        }
        will
    }

    /// The leg goes on elsewhere: what refuses that which is open here.
    pub(crate) fn part(self) -> Vec<Action> {
        match self.stage {
            Stage::Live(session) => session.refusals(),
            Stage::New { .. } | Stage::Over => Vec::new(),
        }
    }

    fn tell(&self, shared: &Shared, event: LegEvent) {
        if let Some(calls) = shared.calls.get() {
            calls.event(self.call, self.tag.leg, event);
        }
    }

    fn begin_incoming(&mut self, arrived: Arrived, shared: &Shared, now: Instant, wishes: &mut Wishes) {
        let Arrived { txn, msg, flow, incoming } = arrived;
        let session = Session::incoming(Arc::clone(&self.config), txn, &msg, flow, self.tag.text(), now);
        match session {
            Ok(session) => {
                self.stage = Stage::Live(Box::new(session));
                if !shared.calls.get().is_some_and(|calls| calls.incoming(incoming)) {
                    let headers = HeaderText::new();
                    self.command(LegCommand::Reject { status: 503, reason: None, headers }, shared, now);
                }
            }
            Err(draft) => {
                wishes.actions.push(Action::Respond { txn, draft });
                self.stage = Stage::Over;
            }
        }
    }

    fn begin_outgoing(&mut self, outgoing: Outgoing, now: Instant) {
        let session = Session::outgoing(Arc::clone(&self.config), outgoing, now);
        self.stage = Stage::Live(Box::new(session));
    }

    fn command(&mut self, command: LegCommand, shared: &Shared, now: Instant) {
        let Stage::Live(session) = &mut self.stage else { return };
        let unanswered = refusal_of(&command);
        if let Err(error) = session.command(command, now) {
            let unanswered = unanswered(error);
            // Crossing messages make this normal; the event that crossed is on its way to the call.
            tracing::debug!(call = %self.call, leg = %self.tag.leg, %error, "a command came too late");
            // What the call waits for must not stay without an answer.
            if let Some(event) = unanswered {
                self.tell(shared, event);
            }
        }
    }

    fn handle(&mut self, message: LegMsg, shared: &Shared, now: Instant, wishes: &mut Wishes) {
        match message {
            LegMsg::Invite(arrived) => self.begin_incoming(*arrived, shared, now, wishes),
            LegMsg::Originate(outgoing) => self.begin_outgoing(*outgoing, now),
            LegMsg::Command(command) => self.command(command, shared, now),
            LegMsg::Request { txn, msg, flow } => match &mut self.stage {
                Stage::Live(session) => session.handle_request(txn, &msg, flow, now),
                Stage::New { .. } | Stage::Over => {
                    wishes.actions.push(Action::Respond { txn, draft: ResponseDraft::new(481) });
                }
            },
            LegMsg::Ack { msg, flow } => self.live(|session| session.handle_ack(&msg, flow, now)),
            LegMsg::Cancelled { txn, reason } => self.live(|session| session.handle_cancel(txn, reason, now)),
            LegMsg::Unanswered { txn } => self.live(|session| session.handle_unanswered(txn, now)),
            LegMsg::Response { seq, msg, flow } => {
                self.live(|session| session.handle_response(seq, &msg, flow, now))
            }
            LegMsg::Failure { seq, failure } => {
                self.live(|session| session.handle_failure(seq, failure, now))
            }
            LegMsg::Wake => {
                // An older, later alarm may ring, too: it must not make another one each time.
                self.alarm = self.alarm.filter(|alarm| *alarm > now);
                self.live(|session| session.handle_timeout(now));
            }
            #[cfg(test)]
            LegMsg::Panic => panic!("asked to"),
        }
    }

    fn live(&mut self, step: impl FnOnce(&mut Session)) {
        if let Stage::Live(session) = &mut self.stage {
            step(session);
        }
    }

    /// Whether another proxy could not carry it on at this moment, for its peer or its call waits for something.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(&self.stage, Stage::Live(session) if session.is_busy())
    }

    /// Whether another proxy can carry it on at this moment, and has not been asked for just now. A stream ends with its proxy, and a peer behind
    /// NAT hears nobody but the address that it speaks to: they stay.
    pub(crate) fn may_leave(&self, now: Instant) -> bool {
        let Stage::Live(session) = &self.stage else { return false };
        let flow = session.destination().flow;
        session.is_at_rest()
            && flow.transport == Transport::Udp
            && session.next_address() == Some(flow.remote)
            && self
                .asked_to_leave
                .is_none_or(|at| now >= at + LEAVE_AGAIN * 2u32.pow(self.asks.clamp(1, 4) - 1))
    }

    /// It says that another proxy may have it.
    pub(crate) fn asks_to_leave(&mut self, now: Instant) {
        self.asked_to_leave = Some(now);
        self.asks = self.asks.saturating_add(1);
    }

    /// Whether it has said a moment ago that another proxy may have it.
    pub(crate) fn is_leaving(&self, now: Instant) -> bool {
        self.asked_to_leave.is_some_and(|at| now < at + LEAVING)
    }

    /// Gathers what the session wants, tells what happened. `false`: nothing is left to do.
    fn drain(&mut self, shared: &Shared, now: Instant, wishes: &mut Wishes) -> bool {
        while let Stage::Live(session) = &mut self.stage {
            if let Some(action) = session.poll_action() {
                wishes.actions.push(action);
            } else if let Some(event) = session.poll_event() {
                if let Peer::Server(server) = self.peer {
                    tell_of_server(shared, server, session.destination().flow.remote, &event);
                }
                self.tell(shared, event);
            } else {
                break;
            }
        }
        let Stage::Live(session) = &self.stage else { return false };
        if session.is_over() {
            self.stage = Stage::Over;
            return false;
        }
        if shared.config.seal.is_some()
            && let Some(print) = session.capsule_print()
            && self.told_state != Some(print)
            && let Some(capsule) = session.capsule(now)
        {
            self.told_state = Some(print);
            if let Some(calls) = shared.calls.get() {
                let state = LegState::encode(&capsule, self.peer, self.device.as_deref(), shared.config.node);
                calls.leg_state(self.call, self.tag.leg, state);
            }
        }
        if let Some(due) = session.poll_timeout() {
            let at = due.min(now + NAP_MAX);
            if self.alarm.is_none_or(|alarm| at < alarm) {
                self.alarm = Some(at);
                wishes.wake = Some(at);
            }
        }
        true
    }
}

/// What a call to a carrier's server says about the server: whether it is there and takes calls.
fn tell_of_server(shared: &Shared, server: Id<CarrierServer>, remote: SocketAddr, event: &LegEvent) {
    match event {
        LegEvent::Rejected { status: 408 | 503, .. } => shared.trunks.call_failed(server, remote),
        LegEvent::Rejected { .. } | LegEvent::Progress { .. } | LegEvent::Answered { .. } => {
            shared.trunks.call_answered(server, remote);
        }
        _ => {}
    }
}

/// What a call is told when one of its commands that has an outcome cannot be carried out.
fn refusal_of(command: &LegCommand) -> fn(CommandError) -> Option<LegEvent> {
    match command {
        LegCommand::Reoffer { .. } => |error| {
            // 491 asks to try again, which is in vain where the device cannot do it at all.
            let status = if error == CommandError::Unsupported { 488 } else { 491 };
            Some(LegEvent::OfferRejected { status })
        },
        LegCommand::Info { .. } => |_| Some(LegEvent::Replied { method: Method::Info, status: 481 }),
        LegCommand::Message { .. } => |_| Some(LegEvent::Replied { method: Method::Message, status: 481 }),
        _ => |_| None,
    }
}
