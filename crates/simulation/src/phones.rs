//! Telephones: `phone::agent` at addresses of their own, each with plans for its calls, and with a memory of what became of them.
//!
//! In: datagrams, plans, time. Out: datagrams, what both ends of each call have seen. Elsewhere: where datagrams go (`world`).

use crate::Time;
use bytes::Bytes;
use cluster::ids::{CallId, NodeId};
use phone::agent::{self, Agent, AgentConfig, Event, flow};
use sip::digest::Login;
use sip::flow::{ConnId, Transport};
use sip::msg::{HeaderId, Message};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(crate) const DOMAIN: &str = "users.democlient.com";
/// Registrations are refreshed within a run.
const EXPIRES: u32 = 70;
/// A telephone that could not register tries again.
const AGAIN: Time = 3_000_000;

/// What a telephone will do with a call, counted from when it begins or, the last two, from when it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Behaviour {
    /// Answers an incoming call after that; `None`: lets it ring.
    pub(crate) answer: Option<Time>,
    /// Gives up its own call after that, if nobody has answered.
    pub(crate) give_up: Option<Time>,
    pub(crate) hold: Option<Time>,
    pub(crate) hang_up: Option<Time>,
}

/// One end of a call, as its telephone has seen it.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    pub(crate) phone: usize,
    pub(crate) is_caller: bool,
    pub(crate) began: Time,
    /// Which of all calls it is, as far as the platform has said.
    pub(crate) call: Option<CallId>,
    pub(crate) answered: Option<Time>,
    /// It hung up, or gave up, itself.
    pub(crate) hung_up: Option<Time>,
    pub(crate) ended: Option<Time>,
    pub(crate) by_peer: bool,
    pub(crate) status: u16,
    /// It was refused with 503, and made again by another proxy.
    pub(crate) retried: bool,
    pub(crate) number: String,
    /// The proxy that it asked for the call.
    pub(crate) asked: Option<NodeId>,
    /// Where it sends its voice now, and since when.
    pub(crate) media: Option<(SocketAddr, Time)>,
    /// It has asked for a change (hold, or its end) then, and has no answer.
    pub(crate) changing: Option<Time>,
    /// The Call-ID of its dialog.
    pub(crate) dialog: Vec<u8>,
    agent_call: agent::CallId,
    plans: Vec<(Time, Plan)>,
    pub(crate) behaviour: Behaviour,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Answer,
    GiveUp,
    Hold,
    Resume,
    HangUp,
}

impl Side {
    pub(crate) fn is_talking(&self) -> bool {
        self.answered.is_some() && self.ended.is_none()
    }
}

pub(crate) struct Phone {
    pub(crate) name: &'static str,
    pub(crate) number: &'static str,
    pub(crate) address: SocketAddr,
    /// Where it registers: the proxy's own address.
    pub(crate) server: SocketAddr,
    agent: Agent,
    base: Instant,
    pub(crate) registered: bool,
    register_at: Option<Time>,
    /// For how many seconds it registers.
    expires: u32,
    /// What it does with calls that come.
    pub(crate) incoming: Behaviour,
    pub(crate) sides: Vec<Side>,
    index: usize,
}

impl Phone {
    pub(crate) fn new(
        index: usize,
        (name, number): (&'static str, &'static str),
        address: SocketAddr,
        server: SocketAddr,
        seed: [u8; 32],
        base: Instant,
    ) -> Self {
        let config = AgentConfig {
            login: Login::new(name, name),
            domain: DOMAIN.to_owned(),
            server,
            tcp: false,
            local: address,
            user_agent: String::new(),
        };
        Self {
            name,
            number,
            address,
            server,
            agent: Agent::new(config, seed),
            base,
            registered: false,
            register_at: None,
            expires: EXPIRES,
            incoming: Behaviour::default(),
            sides: Vec::new(),
            index,
        }
    }

    fn at(&self, now: Time) -> Instant {
        self.base + Duration::from_micros(now)
    }

    pub(crate) fn register_at(&mut self, at: Time) {
        self.register_at = Some(at);
    }

    /// Registers once more, for longer than the story lasts.
    pub(crate) fn register_for_good(&mut self, now: Time) {
        self.expires = 3600;
        self.register_at = Some(now);
    }

    /// Calls a number.
    pub(crate) fn dial(&mut self, number: &str, behaviour: Behaviour, now: Time) {
        let agent_call = self.agent.dial(number, self.media(), self.at(now));
        let mut side = self.side(agent_call, true, Vec::new(), behaviour, now);
        number.clone_into(&mut side.number);
        side.plan(behaviour.give_up, Plan::GiveUp, now);
        self.sides.push(side);
    }

    fn side(
        &self,
        agent_call: agent::CallId,
        is_caller: bool,
        dialog: Vec<u8>,
        behaviour: Behaviour,
        now: Time,
    ) -> Side {
        Side {
            phone: self.index,
            is_caller,
            began: now,
            call: None,
            answered: None,
            hung_up: None,
            ended: None,
            by_peer: false,
            status: 0,
            retried: false,
            asked: None,
            number: String::new(),
            media: None,
            changing: None,
            dialog,
            agent_call,
            plans: Vec::new(),
            behaviour,
        }
    }

    fn media(&self) -> SocketAddr {
        SocketAddr::new(self.address.ip(), 4000)
    }

    /// Ends all its calls now.
    pub(crate) fn hang_up_all(&mut self, now: Time) {
        let at = self.at(now);
        for side in self.sides.iter_mut().filter(|side| side.ended.is_none()) {
            side.hung_up.get_or_insert(now);
            side.plans.clear();
            self.agent.hang_up(side.agent_call, at);
        }
        self.incoming.answer = None;
    }

    pub(crate) fn open(&self) -> usize {
        self.agent.open()
    }

    pub(crate) fn heard(&mut self, bytes: Bytes, from: SocketAddr, now: Time) {
        let named = Message::parse(bytes.clone()).ok().map(|message| {
            let dialog = message.call_id().to_vec();
            (dialog, named_call(&message))
        });
        let flow = flow(Transport::Udp, from, ConnId(0));
        if self.agent.handle_message(bytes, flow, self.at(now)).is_err() {
            return;
        }
        let (dialog, call) = named.unwrap_or_default();
        self.events(&dialog, now);
        if let Some(call) = call {
            let own = self.sides.iter_mut().filter(|side| side.dialog == dialog);
            own.for_each(|side| side.call = side.call.or(Some(call)));
        }
    }

    /// When it has something to do.
    pub(crate) fn due(&self) -> Option<Time> {
        let plans = self.sides.iter().filter(|side| side.ended.is_none());
        let plans = plans.flat_map(|side| side.plans.iter().map(|(at, _)| *at));
        let agent =
            self.agent.poll_timeout().map(|at| at.saturating_duration_since(self.base).as_micros() as Time);
        plans.chain(agent).chain(self.register_at).min()
    }

    pub(crate) fn wake(&mut self, now: Time) {
        let at = self.at(now);
        if self.register_at.is_some_and(|at| at <= now) {
            self.register_at = None;
            self.agent.register(self.expires, at);
        }
        if self.agent.poll_timeout().is_some_and(|due| due <= at) {
            self.agent.handle_timeout(at);
            self.events(&[], now);
        }
        for side in &mut self.sides {
            let due: Vec<Plan> =
                side.plans.extract_if(.., |(at, _)| *at <= now).map(|(_, plan)| plan).collect();
            for plan in due.into_iter().filter(|_| side.ended.is_none()) {
                match plan {
                    Plan::Answer if side.answered.is_none() => {
                        let media = SocketAddr::new(self.address.ip(), 4000);
                        self.agent.answer(side.agent_call, media, at);
                    }
                    Plan::GiveUp if side.answered.is_none() => {
                        side.hung_up.get_or_insert(now);
                        self.agent.hang_up(side.agent_call, at);
                    }
                    Plan::Hold => {
                        side.changing = Some(now);
                        self.agent.hold(side.agent_call, true, at);
                        side.plans.push((now + 2_000_000, Plan::Resume));
                    }
                    Plan::Resume => {
                        side.changing = Some(now);
                        self.agent.hold(side.agent_call, false, at);
                    }
                    Plan::HangUp => {
                        side.hung_up.get_or_insert(now);
                        self.agent.hang_up(side.agent_call, at);
                    }
                    Plan::Answer | Plan::GiveUp => {}
                }
            }
        }
        self.events(&[], now);
    }

    /// What it sends, in order.
    pub(crate) fn poll_datagram(&mut self, now: Time) -> Option<(Bytes, SocketAddr)> {
        loop {
            let transmit = self.agent.poll_transmit()?;
            if transmit.flow.transport != Transport::Udp {
                self.agent.handle_transport_error(transmit.flow, self.at(now));
                continue;
            }
            // The dialog of a call of its own is named by its first INVITE.
            if let Some(side) =
                self.sides.iter_mut().rev().find(|side| side.is_caller && side.dialog.is_empty())
                && transmit.bytes.starts_with(b"INVITE ")
                && let Ok(message) = Message::parse(transmit.bytes.clone())
            {
                side.dialog = message.call_id().to_vec();
            }
            return Some((transmit.bytes, transmit.flow.remote));
        }
    }

    fn events(&mut self, dialog: &[u8], now: Time) {
        while let Some(event) = self.agent.poll_event() {
            match event {
                Event::Registered => self.registered = true,
                Event::RegistrationFailed { .. } => {
                    self.registered = false;
                    self.register_at = Some(now + AGAIN);
                }
                Event::Incoming { call, .. } => {
                    let mut side = self.side(call, false, dialog.to_vec(), self.incoming, now);
                    side.plan(self.incoming.answer, Plan::Answer, now);
                    self.sides.push(side);
                    self.agent.ring(call, self.base + Duration::from_micros(now));
                }
                Event::Answered { call } => {
                    if let Some(side) = self.side_of(call) {
                        side.answered = Some(now);
                        let Behaviour { hold, hang_up, .. } = side.behaviour;
                        side.plan(hold, Plan::Hold, now);
                        side.plan(hang_up, Plan::HangUp, now);
                    }
                }
                Event::Agreed { call, agreed } => {
                    if let (Some(side), Some(remote)) = (self.side_of(call), agreed.remote) {
                        side.media = Some((remote, now));
                        side.changing = None;
                    }
                }
                Event::Ended { call, status, by_peer } => {
                    if let Some(side) = self.side_of(call) {
                        side.ended = Some(now);
                        side.status = status;
                        side.by_peer = by_peer;
                    }
                }
                Event::Ringing { .. } | Event::Held { .. } => {}
            }
        }
    }

    fn side_of(&mut self, call: agent::CallId) -> Option<&mut Side> {
        self.sides.iter_mut().find(|side| side.agent_call == call)
    }
}

impl Side {
    fn plan(&mut self, after: Option<Time>, plan: Plan, now: Time) {
        self.plans.extend(after.map(|after| (now + after, plan)));
    }
}

/// The call that the platform's Contact names.
fn named_call(message: &Message) -> Option<CallId> {
    let contact = message.header(HeaderId::Contact)?;
    let contact = std::str::from_utf8(contact).ok()?;
    let user = contact.split_once("sip:")?.1.split_once('@')?.0;
    user.split_once('-')?.1.strip_prefix('c')?.parse().ok()
}

/// All ends, by their calls.
pub(crate) fn by_call(phones: &[Phone]) -> BTreeMap<CallId, Vec<&Side>> {
    let mut all: BTreeMap<CallId, Vec<&Side>> = BTreeMap::new();
    for side in phones.iter().flat_map(|phone| &phone.sides) {
        if let Some(call) = side.call {
            all.entry(call).or_default().push(side);
        }
    }
    all
}
