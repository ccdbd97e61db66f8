//! A phone that behaves by itself on the simulated network, whatever the weather: it registers, calls, answers, holds,
//! hangs up.
//!
//! In: a [`Behaviour`], times drawn by the test. Out: datagrams, and what became of each call. Elsewhere: what it says in SIP
//! (`phone::agent`), peers that follow a script (`scripted`).

use crate::node::{NODE, World, seed_bytes};
use phone::agent::{Agent, AgentConfig, CallId, Event, flow};
use proxy::net::sim::SimPort;
use sip::digest::Login;
use sip::flow::{ConnId, Transport};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

const DOMAIN: &str = "users.democlient.com";
/// Where every phone says that it hears audio; nobody sends any.
const MEDIA: &str = "127.0.0.9:4000";
/// Longer than any test: a refresh would be one more story.
const EXPIRES: u32 = 86_400;

/// What a phone does with its calls; times count from the INVITE or, once answered, from the answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Behaviour {
    /// Answers an incoming call then; `None` lets it ring.
    pub answer_after: Option<Duration>,
    /// Refuses an incoming call at once with this status.
    pub refuse: Option<u16>,
    /// Gives up its own call then, if nobody answered.
    pub give_up_after: Option<Duration>,
    /// Puts the other side on hold then.
    pub hold_after: Option<Duration>,
    /// Hangs up then.
    pub hang_up_after: Option<Duration>,
}

/// What became of a call that this phone made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Somebody answered.
    pub answered: bool,
    /// 200 after a conversation, else why there was none.
    pub status: u16,
}

/// A phone. Its task ends with the handle.
pub struct Endpoint {
    orders: mpsc::UnboundedSender<Order>,
    open: Arc<std::sync::atomic::AtomicUsize>,
}

enum Order {
    Register(oneshot::Sender<u16>),
    Call(String, oneshot::Sender<Outcome>),
}

impl Endpoint {
    /// A phone of the demo's user `name` (its password is its name) at an address of the world's network.
    pub fn start(world: &World, name: &str, address: SocketAddr, behaviour: Behaviour, seed: u64) -> Self {
        let (orders, inbox) = mpsc::unbounded_channel();
        let config = AgentConfig {
            login: Login::new(name, name),
            domain: DOMAIN.to_owned(),
            server: NODE.parse().expect("an address"),
            tcp: false,
            local: address,
            user_agent: String::new(),
        };
        let open = Arc::default();
        let ua = Ua {
            port: world.net.bind(address),
            agent: Agent::new(config, seed_bytes(seed)),
            behaviour,
            registering: None,
            calls: BTreeMap::new(),
            open: Arc::clone(&open),
        };
        tokio::spawn(ua.run(inbox));
        Self { orders, open }
    }

    /// Registers; the final status. In bad weather that may be 408.
    pub async fn register(&self) -> u16 {
        let (reply, answer) = oneshot::channel();
        let _ = self.orders.send(Order::Register(reply));
        answer.await.unwrap_or(0)
    }

    /// Calls a number of the own domain; returns when the call is over for this phone.
    pub async fn call(&self, number: &str) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let _ = self.orders.send(Order::Call(number.to_owned(), reply));
        answer.await.unwrap_or(Outcome { answered: false, status: 0 })
    }

    /// Transactions and calls that this phone still has.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

struct Ua {
    port: SimPort,
    agent: Agent,
    behaviour: Behaviour,
    registering: Option<oneshot::Sender<u16>>,
    calls: BTreeMap<CallId, Call>,
    open: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Call {
    outcome: Option<oneshot::Sender<Outcome>>,
    answered: bool,
    /// What this phone will do by itself, by time.
    plans: Vec<(Instant, Plan)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Plan {
    Answer,
    GiveUp,
    Hold,
    HangUp,
}

impl Ua {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        loop {
            self.settle();
            self.open.store(self.agent.open(), Ordering::Relaxed);
            let wake = self.deadline().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                biased;
                order = inbox.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                (bytes, from) = self.port.recv() => {
                    let flow = flow(Transport::Udp, from, ConnId(0));
                    self.agent.handle_message(bytes, flow, now()).expect("the node writes valid SIP");
                }
                () = sleep_until(wake) => self.wake(),
            }
        }
    }

    fn settle(&mut self) {
        loop {
            if let Some(event) = self.agent.poll_event() {
                self.agent_event(event);
            } else if let Some(transmit) = self.agent.poll_transmit() {
                match transmit.flow.transport {
                    Transport::Udp => self.port.send_to(transmit.bytes, transmit.flow.remote),
                    // The simulated network has datagrams only.
                    _ => self.agent.handle_transport_error(transmit.flow, now()),
                }
            } else {
                return;
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let plans = self.calls.values().flat_map(|call| call.plans.iter().map(|(at, _)| *at));
        plans.chain(self.agent.poll_timeout().map(Instant::from_std)).min()
    }

    fn wake(&mut self) {
        self.agent.handle_timeout(now());
        for (id, call) in &mut self.calls {
            let due = call.plans.extract_if(.., |(at, _)| *at <= Instant::now());
            for (_, plan) in due {
                match plan {
                    Plan::Answer if !call.answered => {
                        self.agent.answer(*id, MEDIA.parse().expect("an address"), now());
                    }
                    Plan::GiveUp if !call.answered => self.agent.hang_up(*id, now()),
                    Plan::Hold => self.agent.hold(*id, true, now()),
                    Plan::HangUp => self.agent.hang_up(*id, now()),
                    Plan::Answer | Plan::GiveUp => {}
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Register(reply) => {
                self.registering = Some(reply);
                self.agent.register(EXPIRES, now());
            }
            Order::Call(number, outcome) => {
                let id = self.agent.dial(&number, MEDIA.parse().expect("an address"), now());
                let mut call = Call { outcome: Some(outcome), ..Call::default() };
                call.plan(self.behaviour.give_up_after, Plan::GiveUp);
                self.calls.insert(id, call);
            }
        }
    }

    fn agent_event(&mut self, event: Event) {
        match event {
            Event::Registered => self.registered(200),
            Event::RegistrationFailed { status, .. } => self.registered(status),
            Event::Incoming { call: id, .. } => match self.behaviour.refuse {
                Some(status) => self.agent.reject(id, status, now()),
                None => {
                    self.agent.ring(id, now());
                    let mut call = Call::default();
                    call.plan(self.behaviour.answer_after, Plan::Answer);
                    self.calls.insert(id, call);
                }
            },
            Event::Answered { call } => {
                if let Some(call) = self.calls.get_mut(&call) {
                    call.answered = true;
                    call.plan(self.behaviour.hold_after, Plan::Hold);
                    call.plan(self.behaviour.hang_up_after, Plan::HangUp);
                }
            }
            Event::Ended { call, status, .. } => {
                let Some(call) = self.calls.remove(&call) else { return };
                if let Some(outcome) = call.outcome {
                    let _ = outcome.send(Outcome { answered: call.answered, status });
                }
            }
            Event::Ringing { .. } | Event::Agreed { .. } | Event::Held { .. } => {}
        }
    }

    fn registered(&mut self, status: u16) {
        if let Some(reply) = self.registering.take() {
            let _ = reply.send(status);
        }
    }
}

impl Call {
    fn plan(&mut self, after: Option<Duration>, plan: Plan) {
        self.plans.extend(after.map(|after| (Instant::now() + after, plan)));
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
