//! A user agent without sockets and clock: one account, its registration, its calls, offers and answers.
//!
//! In: messages with their flow, commands, time, a seed. Out: bytes for the wire, [`Event`]s, one deadline. Elsewhere: SIP's
//! rules (crate `sip`), sockets and audio (`ua`, `media`), a network in memory (crate `world`).
//!
//! Rooms: `call` is one call with its session descriptions, `registration` keeps the binding.

mod call;
mod registration;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use call::Call;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use registration::Registration;
use sip::digest::{Client, Login};
use sip::draft::{HeaderText, ResponseDraft};
use sip::flow::{ConnId, Flow, Transmit, Transport};
use sip::msg::{Message, Method};
use sip::offer::Agreed;
use sip::session::{Action, Command, Failure, Outgoing, Session, SessionConfig};
use sip::transaction::{self, ClientKey, Destination, ListenerVia, ServerId, Transactions};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Calls at the same time; another one is refused with 486.
const CALLS_MAX: usize = 64;
/// Transactions at the same time; another request is refused with 503.
const TRANSACTIONS_MAX: usize = 1024;
/// An agent is reached both ways at its address (RFC 3261 section 18).
const LISTENERS: [Transport; 2] = [Transport::Udp, Transport::Tcp];
/// The owner of the registration's transactions; calls count from 1.
const REGISTRATION: u64 = 0;

/// The account, and where it lives.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// User part, digest user name and password.
    pub login: Login,
    /// Domain of the address-of-record.
    pub domain: String,
    /// Where requests go: the proxy.
    pub server: SocketAddr,
    /// They go there by TCP; else by UDP, and only large ones by TCP if that can be (RFC 3261 section 18.1.1).
    pub tcp: bool,
    /// The local address of SIP, told in Via and Contact.
    pub local: SocketAddr,
    /// User-Agent and Server; empty writes neither.
    pub user_agent: String,
}

/// Names one call of an agent; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(u64);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The binding is there, or, as [`Agent::register`] was told, gone. A refresh says it, too.
    Registered,
    /// The server refused, or did not answer (408, 503). A refresh is tried again, a first registration is not.
    RegistrationFailed {
        /// SIP status.
        status: u16,
        /// Its reason phrase.
        reason: String,
    },
    /// Somebody calls: [`Agent::ring`], [`Agent::answer`] or [`Agent::reject`] is due.
    Incoming {
        /// The new call.
        call: CallId,
        /// Number or name of the other side, as its From says.
        caller: String,
    },
    /// The other side rings (or sends early media).
    Ringing {
        /// Which call.
        call: CallId,
        /// 101 to 199.
        status: u16,
    },
    /// Somebody answered: on the callee's side, the answer was acknowledged.
    Answered {
        /// Which call.
        call: CallId,
    },
    /// What both sides agreed for the audio stream; said again whenever it is exchanged again.
    Agreed {
        /// Which call.
        call: CallId,
        /// The stream. Codecs are those of [`sip::offer::Capabilities::default`].
        agreed: Box<Agreed>,
    },
    /// The other side put the call on hold, or resumed it.
    Held {
        /// Which call.
        call: CallId,
        /// It does not want to hear us.
        held: bool,
    },
    /// It is over. The last event of the call.
    Ended {
        /// Which call.
        call: CallId,
        /// 200 after a conversation, else why there was none.
        status: u16,
        /// The other side ended it.
        by_peer: bool,
    },
}

/// What came is no valid SIP message; nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid SIP message")]
pub struct NotSip;

/// One account and all that it does.
///
/// After every `handle_*` and every command, drain [`poll_transmit`](Self::poll_transmit) and
/// [`poll_event`](Self::poll_event), then read [`poll_timeout`](Self::poll_timeout). Commands for a call that is over, or
/// that cross an event which makes them impossible, do nothing: the event tells.
pub struct Agent {
    config: AgentConfig,
    session_config: Arc<SessionConfig>,
    transactions: Transactions,
    registration: Registration,
    calls: BTreeMap<CallId, Call>,
    last_call: u64,
    events: VecDeque<Event>,
    rng: StdRng,
}

impl Agent {
    /// An agent that is not registered. Tags, Call-IDs and branches follow from the seed: a shell draws it from the system.
    pub fn new(config: AgentConfig, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let settings = transaction::Config {
            via_hosts: LISTENERS
                .map(|transport| ListenerVia { transport, sent_by: config.local.to_string() })
                .into(),
            trying_immediately: false,
            max_transactions: TRANSACTIONS_MAX,
            ..transaction::Config::default()
        };
        let way = if config.tcp { ";transport=tcp" } else { "" };
        let contact = format!("<sip:{}@{}{way}>", config.login.username, config.local);
        let mut session_config = SessionConfig::new(contact);
        session_config.user_agent.clone_from(&config.user_agent);
        let digest = Client::new(config.login.clone(), rng.random());
        Self {
            session_config: Arc::new(session_config),
            transactions: Transactions::new(settings, rng.random()),
            registration: Registration::new(fresh(&mut rng), fresh(&mut rng), digest),
            calls: BTreeMap::new(),
            last_call: REGISTRATION,
            events: VecDeque::new(),
            rng,
            config,
        }
    }

    // --- what comes ---

    /// One datagram, or one message of a stream. `flow` is made by [`flow()`].
    ///
    /// # Errors
    /// [`NotSip`].
    pub fn handle_message(&mut self, bytes: Bytes, flow: Flow, now: Instant) -> Result<(), NotSip> {
        let message = Message::parse(bytes).map_err(|_| NotSip)?;
        message.validate().map_err(|_| NotSip)?;
        self.transactions.handle_message(message, flow, now);
        self.settle(now);
        Ok(())
    }

    /// A connection is gone, or could not be opened (`conn` 0).
    pub fn handle_transport_error(&mut self, flow: Flow, now: Instant) {
        self.transactions.handle_transport_error(flow, now);
        if self.config.tcp && flow.transport == Transport::Tcp && flow.remote == self.config.server {
            self.registration.connection_lost(now);
        }
        self.settle(now);
    }

    /// Time has passed. Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.transactions.handle_timeout(now);
        for call in self.calls.values_mut() {
            call.session.handle_timeout(now);
        }
        if self.registration.is_due(now) {
            self.send_register(now);
        }
        self.settle(now);
    }

    // --- what is wished ---

    /// Registers for so many seconds and keeps the binding fresh; 0 removes it. [`Event::Registered`] or
    /// [`Event::RegistrationFailed`] follows.
    pub fn register(&mut self, expires: u32, now: Instant) {
        self.registration.wish(expires);
        self.send_register(now);
        self.settle(now);
    }

    /// Calls a number of the own domain; its audio is received at `media`.
    pub fn dial(&mut self, number: &str, media: SocketAddr, now: Instant) -> CallId {
        let (user, domain) = (&self.config.login.username, &self.config.domain);
        let tag = fresh(&mut self.rng);
        let mut outgoing = Outgoing {
            target: format!("sip:{number}@{domain}"),
            from: format!("<sip:{user}@{domain}>"),
            to: format!("<sip:{number}@{domain}>"),
            call_id: fresh(&mut self.rng),
            local_tag: tag.clone(),
            route: Vec::new(),
            headers: HeaderText::default(),
            offer: None,
            credentials: Some(Client::new(self.config.login.clone(), self.rng.random())),
            destination: self.server(),
            elsewhere: Vec::new(),
        };
        let id = self.next_call();
        let description = call::Description::new(media, self.rng.random());
        let begin = |description: &mut call::Description| {
            outgoing.offer = Some(description.offer());
            Session::outgoing(Arc::clone(&self.session_config), outgoing, now)
        };
        self.calls.insert(id, Call::outgoing(id, tag, description, begin));
        self.settle(now);
        id
    }

    /// Says that it rings here.
    pub fn ring(&mut self, call: CallId, now: Instant) {
        let ring = Command::Progress { status: 180, sdp: None, headers: HeaderText::default() };
        self.with(call, now, |call, _| call.command(ring, now));
    }

    /// Answers a call that rings; its audio is received at `media`. Where nothing is in common with the offer it is refused.
    pub fn answer(&mut self, call: CallId, media: SocketAddr, now: Instant) {
        let description = call::Description::new(media, self.rng.random());
        self.with(call, now, |call, events| call.answer(description, events, now));
    }

    /// Refuses a call that rings.
    pub fn reject(&mut self, call: CallId, status: u16, now: Instant) {
        let reject = Command::Reject { status, reason: None, headers: HeaderText::default() };
        self.with(call, now, |call, _| call.command(reject, now));
    }

    /// Hangs up, whatever the state.
    pub fn hang_up(&mut self, call: CallId, now: Instant) {
        self.with(call, now, |call, _| call.command(Command::Bye { reason: None }, now));
    }

    /// Puts the other side on hold, or resumes.
    pub fn hold(&mut self, call: CallId, hold: bool, now: Instant) {
        self.with(call, now, |call, _| call.hold(hold, now));
    }

    // --- what goes out ---

    /// Bytes for the wire, in order. What cannot be sent by TCP is told to
    /// [`handle_transport_error`](Self::handle_transport_error); what is lost by UDP is sent again anyway.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transactions.poll_transmit()
    }

    /// What happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do; may lie in the past.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let calls = self.calls.values().filter_map(|call| call.session.poll_timeout());
        calls.chain(self.transactions.poll_timeout()).chain(self.registration.due()).min()
    }

    /// Transactions and calls that are not over.
    pub fn open(&self) -> usize {
        self.transactions.open() + self.calls.len()
    }

    // --- inside ---

    /// Hands events up and actions down until nothing is left.
    fn settle(&mut self, now: Instant) {
        let mut quiet = false;
        while !quiet {
            quiet = true;
            while let Some(event) = self.transactions.poll_event() {
                quiet = false;
                self.transaction_event(event, now);
            }
            for (id, call) in &mut self.calls {
                while let Some(event) = call.session.poll_event() {
                    quiet = false;
                    call.session_event(event, &mut self.events, now);
                }
                while let Some(action) = call.session.poll_action() {
                    quiet = false;
                    act(&mut self.transactions, *id, &mut call.session, action, now);
                }
            }
        }
        self.calls.retain(|_, call| !call.is_over());
    }

    fn transaction_event(&mut self, event: transaction::Event, now: Instant) {
        match event {
            transaction::Event::Request { id, msg, flow } => self.request(id, &msg, flow, now),
            transaction::Event::Ack { msg, flow } => {
                if let Some(call) = self.call_of(&msg) {
                    call.session.handle_ack(&msg, flow, now);
                }
            }
            transaction::Event::Cancelled { id, reason, msg: _ } => {
                for call in self.calls.values_mut() {
                    call.session.handle_cancel(id, reason.clone(), now);
                }
            }
            transaction::Event::Response { key, msg, .. } if key.owner == REGISTRATION => {
                if self.registration.response(&msg, self.config.local, &mut self.events, now) {
                    self.send_register(now);
                }
            }
            transaction::Event::Response { key, msg, flow } => {
                if let Some(call) = self.calls.get_mut(&CallId(key.owner)) {
                    call.session.handle_response(key.seq, &msg, flow, now);
                }
            }
            transaction::Event::Timeout { key } => self.failed(key, Failure::Timeout, now),
            transaction::Event::TransportError { key } => self.failed(key, Failure::Transport, now),
            transaction::Event::NoAck { .. } | transaction::Event::Unanswered { .. } => {}
        }
    }

    fn failed(&mut self, key: ClientKey, failure: Failure, now: Instant) {
        if key.owner == REGISTRATION {
            self.registration.failure(failure.status(), &mut self.events, now);
        } else if let Some(call) = self.calls.get_mut(&CallId(key.owner)) {
            call.session.handle_failure(key.seq, failure, now);
        }
    }

    fn call_of(&mut self, message: &Message) -> Option<&mut Call> {
        let tag = message.to_tag()?;
        self.calls.values_mut().find(|call| call.tag.as_bytes() == tag)
    }

    fn request(&mut self, id: ServerId, message: &Message, flow: Flow, now: Instant) {
        if message.to_tag().is_some() {
            match self.call_of(message) {
                Some(call) => call.session.handle_request(id, message, flow, now),
                None => self.transactions.respond(id, &ResponseDraft::new(481), now),
            }
            return;
        }
        let status = if message.method_is(&Method::Invite) {
            if self.calls.len() < CALLS_MAX {
                return self.invited(id, message, flow, now);
            }
            486
        } else if message.method_is(&Method::Options) {
            200
        } else {
            405
        };
        let mut draft = ResponseDraft::new(status);
        draft.headers.push("Allow", sip::session::ALLOW);
        draft.to_tag = Some(fresh(&mut self.rng));
        self.transactions.respond(id, &draft, now);
    }

    fn invited(&mut self, id: ServerId, invite: &Message, flow: Flow, now: Instant) {
        let tag = fresh(&mut self.rng);
        let config = Arc::clone(&self.session_config);
        let session = match Session::incoming(config, id, invite, flow, tag.clone(), now) {
            Ok(session) => session,
            Err(refusal) => return self.transactions.respond(id, &refusal, now),
        };
        let caller = invite
            .from()
            .ok()
            .and_then(|from| Some(String::from_utf8_lossy(&from.uri.user_decoded()?).into_owned()))
            .unwrap_or_default();
        let call = self.next_call();
        self.calls.insert(call, Call::incoming(call, session, tag, invite.sdp()));
        self.events.push_back(Event::Incoming { call, caller });
    }

    fn send_register(&mut self, now: Instant) {
        let (user, domain) = (&self.config.login.username, &self.config.domain);
        let record = format!("<sip:{user}@{domain}>");
        let (seq, draft) = self.registration.request(&record, &format!("sip:{domain}"), &self.session_config);
        let key = ClientKey { owner: REGISTRATION, seq };
        if self.transactions.request(key, draft, self.server(), now).is_err() {
            self.registration.failure(Failure::Transport.status(), &mut self.events, now);
        }
    }

    fn with(&mut self, id: CallId, now: Instant, act: impl FnOnce(&mut Call, &mut VecDeque<Event>)) {
        if let Some(call) = self.calls.get_mut(&id) {
            act(call, &mut self.events);
            self.settle(now);
        }
    }

    fn next_call(&mut self) -> CallId {
        self.last_call += 1;
        CallId(self.last_call)
    }

    fn server(&self) -> Destination {
        let transport = if self.config.tcp { Transport::Tcp } else { Transport::Udp };
        let flow = flow(transport, self.config.server, ConnId(0));
        Destination { flow, stream_first: !self.config.tcp }
    }
}

fn act(transactions: &mut Transactions, id: CallId, session: &mut Session, action: Action, now: Instant) {
    let owner = id.0;
    match action {
        Action::Request { seq, draft, to } => {
            if transactions.request(ClientKey { owner, seq }, draft, to, now).is_err() {
                session.handle_failure(seq, Failure::Transport, now);
            }
        }
        Action::Respond { txn, draft } => transactions.respond(txn, &draft, now),
        Action::Cancel { seq, reason } => transactions.cancel(ClientKey { owner, seq }, reason, now),
        Action::Ack { draft, to } => transactions.send_ack(draft, to),
    }
}

/// The flow from or to a peer by UDP or TCP, as an agent counts its listeners. `conn` names a connection of the shell; 0 is
/// any, to be opened if there is none.
pub fn flow(transport: Transport, remote: SocketAddr, conn: ConnId) -> Flow {
    let listener = u16::from(transport != LISTENERS[0]);
    Flow { transport, listener, remote, conn }
}

/// A tag or Call-ID that nobody can guess.
fn fresh(rng: &mut StdRng) -> String {
    format!("{:016x}", rng.random::<u64>())
}
