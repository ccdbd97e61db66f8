//! A phone that behaves by itself on the simulated network, whatever the weather: it registers, calls, answers, holds,
//! hangs up, on the same `sip` cores as everything else.
//!
//! In: a [`Behaviour`], times drawn by the test. Out: datagrams, and what became of each call. Elsewhere: peers that follow
//! a script (`scripted`).

use crate::node::{NODE, World, seed_bytes};
use bytes::Bytes;
use proxy::net::sim::SimPort;
use sip::digest::{Client, Login};
use sip::draft::{HeaderText, RequestDraft, ResponseDraft};
use sip::flow::{ConnId, Flow, Transport};
use sip::msg::{HeaderId, Message, Method};
use sip::session::{Action, Command, Event as SessionEvent, Failure, Outgoing, Session, SessionConfig};
use sip::transaction::{self, ClientKey, Destination, ListenerVia, ServerId, Transactions};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

const DOMAIN: &str = "users.democlient.com";
const REGISTRATION: u64 = 0;

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
        let settings = transaction::Config {
            via_hosts: vec![ListenerVia { transport: Transport::Udp, sent_by: address.to_string() }],
            trying_immediately: false,
            ..transaction::Config::default()
        };
        let login = Login::new(name, name);
        let open = Arc::default();
        let ua = Ua {
            name: name.to_owned(),
            port: world.net.bind(address),
            transactions: Transactions::new(settings, seed_bytes(seed)),
            config: Arc::new(SessionConfig::new(format!("<sip:{name}@{address}>"))),
            behaviour,
            digest: Client::new(login, seed_bytes(seed ^ 1)),
            registering: None,
            cseq: 0,
            lines: BTreeMap::new(),
            next_line: 1,
            seed,
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
        self.open.load(std::sync::atomic::Ordering::Relaxed)
    }
}

struct Ua {
    name: String,
    port: SimPort,
    transactions: Transactions,
    config: Arc<SessionConfig>,
    behaviour: Behaviour,
    digest: Client,
    registering: Option<oneshot::Sender<u16>>,
    cseq: u32,
    lines: BTreeMap<u64, Line>,
    next_line: u64,
    seed: u64,
    open: Arc<std::sync::atomic::AtomicUsize>,
}

struct Line {
    session: Session,
    tag: String,
    outcome: Option<oneshot::Sender<Outcome>>,
    answered: bool,
    over: bool,
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
            self.open
                .store(self.transactions.open() + self.lines.len(), std::sync::atomic::Ordering::Relaxed);
            let wake = self.deadline().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                biased;
                order = inbox.recv() => match order {
                    Some(Order::Register(reply)) => {
                        self.registering = Some(reply);
                        self.send_register();
                    }
                    Some(Order::Call(number, reply)) => self.dial(&number, reply),
                    None => return,
                },
                (bytes, from) = self.port.recv() => self.receive(bytes, from),
                () = sleep_until(wake) => self.wake(),
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let plans = self.lines.values().flat_map(|line| line.plans.iter().map(|(at, _)| *at));
        let timers = self.lines.values().filter_map(|line| line.session.poll_timeout());
        plans.chain(timers.chain(self.transactions.poll_timeout()).map(Instant::from_std)).min()
    }

    fn wake(&mut self) {
        let now = Instant::now();
        self.transactions.handle_timeout(now.into_std());
        for line in self.lines.values_mut() {
            line.session.handle_timeout(now.into_std());
            let due: Vec<Plan> =
                line.plans.iter().filter(|(at, _)| *at <= now).map(|(_, plan)| *plan).collect();
            line.plans.retain(|(at, _)| *at > now);
            due.into_iter().for_each(|plan| line.carry_out(plan, now));
        }
    }

    fn receive(&mut self, bytes: Bytes, from: SocketAddr) {
        let message = Message::parse(bytes).expect("the node writes SIP");
        message.validate().expect("the node writes valid SIP");
        self.transactions.handle_message(message, flow(from), Instant::now().into_std());
    }

    fn settle(&mut self) {
        let mut busy = true;
        while busy {
            busy = false;
            while let Some(event) = self.transactions.poll_event() {
                busy = true;
                self.transaction_event(event);
            }
            let now = Instant::now();
            for (id, line) in &mut self.lines {
                while let Some(event) = line.session.poll_event() {
                    busy = true;
                    line.session_event(event, &self.behaviour, now);
                }
                while let Some(action) = line.session.poll_action() {
                    busy = true;
                    act(&mut self.transactions, *id, action, now.into_std());
                }
            }
            self.lines.retain(|_, line| !(line.over && line.session.is_over()));
        }
        while let Some(transmit) = self.transactions.poll_transmit() {
            self.port.send_to(transmit.bytes, transmit.flow.remote);
        }
    }

    fn transaction_event(&mut self, event: transaction::Event) {
        let now = Instant::now().into_std();
        match event {
            transaction::Event::Request { id, msg, flow } => self.request(id, &msg, flow),
            transaction::Event::Ack { msg, flow } => {
                if let Some(line) = self.line_of(&msg) {
                    line.session.handle_ack(&msg, flow, now);
                }
            }
            transaction::Event::Cancelled { id, reason, .. } => {
                for line in self.lines.values_mut() {
                    line.session.handle_cancel(id, reason.clone(), now);
                }
            }
            transaction::Event::Response { key, msg, .. } if key.owner == REGISTRATION => {
                self.registered(&msg)
            }
            transaction::Event::Response { key, msg, flow } => {
                if let Some(line) = self.lines.get_mut(&key.owner) {
                    line.session.handle_response(key.seq, &msg, flow, now);
                }
            }
            transaction::Event::Timeout { key } => self.failed(key, Failure::Timeout),
            transaction::Event::TransportError { key } => self.failed(key, Failure::Transport),
            transaction::Event::NoAck { .. } | transaction::Event::Unanswered { .. } => {}
        }
    }

    fn failed(&mut self, key: ClientKey, failure: Failure) {
        if key.owner == REGISTRATION {
            self.register_done(failure.status());
        } else if let Some(line) = self.lines.get_mut(&key.owner) {
            line.session.handle_failure(key.seq, failure, Instant::now().into_std());
        }
    }

    fn line_of(&mut self, message: &Message) -> Option<&mut Line> {
        let tag = message.to_tag()?;
        self.lines.values_mut().find(|line| line.tag.as_bytes() == tag)
    }

    fn request(&mut self, id: ServerId, message: &Message, flow: Flow) {
        let now = Instant::now();
        if message.to_tag().is_some() {
            match self.line_of(message) {
                Some(line) => line.session.handle_request(id, message, flow, now.into_std()),
                None => self.transactions.respond(id, &ResponseDraft::new(481), now.into_std()),
            }
            return;
        }
        let tag = self.fresh_name();
        let config = Arc::clone(&self.config);
        let mut session = match Session::incoming(config, id, message, flow, tag.clone(), now.into_std()) {
            Ok(session) => session,
            Err(refusal) => return self.transactions.respond(id, &refusal, now.into_std()),
        };
        let headers = HeaderText::default();
        let mut plans = Vec::new();
        match self.behaviour.refuse {
            Some(status) => {
                let _ = session.command(Command::Reject { status, reason: None, headers }, now.into_std());
            }
            None => {
                let ring = Command::Progress { status: 180, sdp: None, headers };
                let _ = session.command(ring, now.into_std());
                plans.extend(self.behaviour.answer_after.map(|after| (now + after, Plan::Answer)));
            }
        }
        self.add(Line { session, tag, outcome: None, answered: false, over: false, plans });
    }

    fn add(&mut self, line: Line) {
        self.lines.insert(self.next_line, line);
        self.next_line += 1;
    }

    fn fresh_name(&mut self) -> String {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{}-{:x}", self.name, self.seed >> 16)
    }

    fn dial(&mut self, number: &str, outcome: oneshot::Sender<Outcome>) {
        let now = Instant::now();
        let (tag, call_id) = (self.fresh_name(), self.fresh_name());
        let outgoing = Outgoing {
            target: format!("sip:{number}@{DOMAIN}"),
            from: format!("<sip:{}@{DOMAIN}>", self.name),
            to: format!("<sip:{number}@{DOMAIN}>"),
            call_id,
            local_tag: tag.clone(),
            route: Vec::new(),
            headers: HeaderText::default(),
            offer: Some(sdp(1, "sendrecv")),
            credentials: Some(Client::new(Login::new(&self.name, &self.name), seed_bytes(self.seed))),
            destination: destination(),
        };
        let session = Session::outgoing(Arc::clone(&self.config), outgoing, now.into_std());
        let plans =
            self.behaviour.give_up_after.map(|after| (now + after, Plan::GiveUp)).into_iter().collect();
        self.add(Line { session, tag, outcome: Some(outcome), answered: false, over: false, plans });
    }

    fn send_register(&mut self) {
        self.cseq += 1;
        let uri = format!("sip:{DOMAIN}");
        let mut headers = HeaderText::default();
        headers.push("Max-Forwards", "70");
        headers.push_fmt("From", format_args!("<sip:{}@{DOMAIN}>;tag=r", self.name));
        headers.push_fmt("To", format_args!("<sip:{}@{DOMAIN}>", self.name));
        headers.push_fmt("Call-ID", format_args!("r-{}-{}", self.name, self.port.local_addr()));
        headers.push_fmt("CSeq", format_args!("{} REGISTER", self.cseq));
        headers.push("Contact", &self.config.contact);
        headers.push("Expires", "3600");
        for (name, value) in self.digest.headers("REGISTER", &uri, b"") {
            headers.push(name, value);
        }
        let key = ClientKey { owner: REGISTRATION, seq: self.cseq };
        let draft = RequestDraft { method: Method::Register, uri, headers, body: Bytes::new() };
        let sent = self.transactions.request(key, draft, destination(), Instant::now().into_std());
        sent.expect("the table has room");
    }

    fn registered(&mut self, response: &Message) {
        match response.status() {
            100..=199 => {}
            401 => {
                let challenges: Vec<&[u8]> = response.lines(HeaderId::WwwAuthenticate).collect();
                match self.digest.challenged(false, challenges) {
                    Ok(()) => self.send_register(),
                    Err(_) => self.register_done(401),
                }
            }
            status => self.register_done(status),
        }
    }

    fn register_done(&mut self, status: u16) {
        if status == 200 {
            self.digest.accepted();
        }
        if let Some(reply) = self.registering.take() {
            let _ = reply.send(status);
        }
    }
}

fn act(transactions: &mut Transactions, owner: u64, action: Action, now: std::time::Instant) {
    match action {
        Action::Request { seq, draft, to } => {
            transactions.request(ClientKey { owner, seq }, draft, to, now).expect("the table has room");
        }
        Action::Respond { txn, draft } => transactions.respond(txn, &draft, now),
        Action::Cancel { seq, reason } => transactions.cancel(ClientKey { owner, seq }, reason, now),
        Action::Ack { draft, to } => transactions.send_ack(draft, to),
    }
}

fn flow(remote: SocketAddr) -> Flow {
    Flow { transport: Transport::Udp, listener: 0, remote, conn: ConnId(0) }
}

fn destination() -> Destination {
    Destination { flow: flow(NODE.parse().expect("an address")), stream_first: false }
}

fn sdp(version: u32, direction: &str) -> Bytes {
    let text = format!(
        "v=0\r\no=- 1 {version} IN IP4 127.0.0.9\r\ns=-\r\nc=IN IP4 127.0.0.9\r\nt=0 0\r\n\
         m=audio 4000 RTP/AVP 8\r\na={direction}\r\n"
    );
    Bytes::from(text)
}

impl Line {
    fn carry_out(&mut self, plan: Plan, now: Instant) {
        let command = match plan {
            Plan::Answer if !self.answered => {
                Command::Accept { sdp: Some(sdp(1, "sendrecv")), headers: HeaderText::default() }
            }
            Plan::GiveUp if !self.answered => Command::Cancel { reason: None },
            Plan::Hold => Command::Reoffer { sdp: Some(sdp(2, "sendonly")), prefer_update: false },
            Plan::HangUp => Command::Bye { reason: None },
            Plan::Answer | Plan::GiveUp => return,
        };
        let _ = self.session.command(command, now.into_std()); // it may cross an event; that is what is tested
    }

    fn session_event(&mut self, event: SessionEvent, behaviour: &Behaviour, now: Instant) {
        match event {
            SessionEvent::Answered { .. } | SessionEvent::Confirmed { .. } => {
                self.answered = true;
                self.plans.extend(behaviour.hold_after.map(|after| (now + after, Plan::Hold)));
                self.plans.extend(behaviour.hang_up_after.map(|after| (now + after, Plan::HangUp)));
            }
            SessionEvent::Offer { .. } => {
                let _ = self.session.command(Command::Answer { sdp: sdp(3, "sendrecv") }, now.into_std());
            }
            SessionEvent::Rejected { status, .. } => self.end(status),
            SessionEvent::Cancelled { .. } => self.end(487),
            SessionEvent::Ended { .. } => self.end(if self.answered { 200 } else { 487 }),
            SessionEvent::Progress { .. }
            | SessionEvent::Answer { .. }
            | SessionEvent::OfferRejected { .. }
            | SessionEvent::OfferWithdrawn
            | SessionEvent::Info { .. }
            | SessionEvent::Message { .. }
            | SessionEvent::Refer { .. }
            | SessionEvent::Notify { .. }
            | SessionEvent::Replied { .. } => {}
        }
    }

    fn end(&mut self, status: u16) {
        self.over = true;
        self.plans.clear();
        if let Some(outcome) = self.outcome.take() {
            let _ = outcome.send(Outcome { answered: self.answered, status });
        }
    }
}
