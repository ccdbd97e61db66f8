//! The task of a phone: one UDP socket, the transactions on it, the registration and the calls.
//!
//! In: orders of the [`crate::Phone`] handle, datagrams, time. Out: datagrams, events of calls. Elsewhere: SIP's rules
//! (crate `sip`), audio (`media`).

use crate::audio::Source;
use crate::media::{Media, MediaEvent};
use crate::trace::{Direction as Way, Trace};
use crate::{CallEvent, PhoneCall, PhoneConfig, PhoneError};
use bytes::Bytes;
use sip::digest::{Client, Login};
use sip::draft::{HeaderText, RequestDraft, ResponseDraft, reason_phrase};
use sip::flow::{ConnId, Flow, Transport};
use sip::msg::{HeaderId, Message, Method};
use sip::offer::{Author, Capabilities, Stream};
use sip::sdp::{Direction, Part, Sdp};
use sip::session::{Action, Command, Event as SessionEvent, Failure, Outgoing, Session, SessionConfig};
use sip::transaction::{self, ClientKey, Destination, ListenerVia, ServerId, Transactions};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

/// What the handles want.
pub(crate) enum Order {
    Register { expires: u32, reply: oneshot::Sender<Result<(), PhoneError>> },
    Call { number: String, play: Source, reply: oneshot::Sender<Result<PhoneCall, PhoneError>> },
    Answer { call: u64, play: Source },
    Reject { call: u64, status: u16 },
    HangUp { call: u64 },
    Hold { call: u64, hold: bool },
    Digit { call: u64, digit: char },
    Media { call: u64, event: MediaEvent },
}

/// Calls at the same time; another one is refused with 486.
const CALLS_MAX: usize = 64;
/// The owner of the registration's transactions; calls count from 1.
const REGISTRATION: u64 = 0;

struct Ua {
    config: PhoneConfig,
    socket: UdpSocket,
    address: SocketAddr,
    transactions: Transactions,
    session_config: Arc<SessionConfig>,
    orders: mpsc::UnboundedSender<Order>,
    incoming: mpsc::UnboundedSender<PhoneCall>,
    trace: Arc<Trace>,
    registration: Registration,
    lines: BTreeMap<u64, Line>,
    next_line: u64,
}

struct Registration {
    call_id: String,
    tag: String,
    cseq: u32,
    expires: u32,
    digest: Client,
    reply: Option<oneshot::Sender<Result<(), PhoneError>>>,
    refresh: Option<Instant>,
}

/// One call.
struct Line {
    session: Session,
    tag: String,
    events: mpsc::UnboundedSender<CallEvent>,
    media: Media,
    author: Author,
    local: Option<Sdp>,
    /// Sent in a re-offer, not yet answered.
    proposed: Option<Sdp>,
    remote: Option<Sdp>,
    offer: Option<Bytes>,
    answered: bool,
    direction: Direction,
    held: bool,
    over: bool,
}

/// Binds the socket and starts the task; it ends when the last handle is dropped.
pub(crate) async fn start(
    config: PhoneConfig,
    inbox: mpsc::UnboundedReceiver<Order>,
    orders: mpsc::UnboundedSender<Order>,
    incoming: mpsc::UnboundedSender<PhoneCall>,
    trace: Arc<Trace>,
) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind((config.bind, 0)).await?;
    let address = socket.local_addr()?;
    let settings = transaction::Config {
        via_hosts: vec![ListenerVia { transport: Transport::Udp, sent_by: address.to_string() }],
        trying_immediately: false,
        max_transactions: 1024,
        ..transaction::Config::default()
    };
    let mut session_config = SessionConfig::new(format!("<sip:{}@{address}>", config.username));
    session_config.user_agent = concat!("Carillon-Phone/", env!("CARGO_PKG_VERSION")).to_owned();
    let registration = Registration {
        call_id: random_text(),
        tag: random_text(),
        cseq: 0,
        expires: 0,
        digest: Client::new(Login::new(&config.username, &config.password), rand::random()),
        reply: None,
        refresh: None,
    };
    let ua = Ua {
        config,
        socket,
        address,
        transactions: Transactions::new(settings, rand::random()),
        session_config: Arc::new(session_config),
        orders: orders.clone(),
        incoming,
        trace,
        registration,
        lines: BTreeMap::new(),
        next_line: 1,
    };
    tokio::spawn(ua.run(inbox));
    Ok(address)
}

fn random_text() -> String {
    format!("{:016x}", rand::random::<u64>())
}

impl Ua {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        let mut buffer = vec![0; sip::flow::MESSAGE_MAX];
        loop {
            self.settle().await;
            if self.incoming.is_closed() && self.lines.is_empty() && self.transactions.open() == 0 {
                return;
            }
            let wake = self.deadline().unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                received = self.socket.recv_from(&mut buffer) => {
                    if let Ok((length, from)) = received {
                        self.receive(Bytes::copy_from_slice(&buffer[..length]), from);
                    }
                }
                () = sleep_until(wake) => self.wake(),
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let sessions = self.lines.values().filter_map(|line| line.session.poll_timeout());
        let all = sessions.chain(self.transactions.poll_timeout()).map(Instant::from_std);
        all.chain(self.registration.refresh).min()
    }

    fn wake(&mut self) {
        let now = Instant::now();
        self.transactions.handle_timeout(now.into_std());
        for line in self.lines.values_mut() {
            if line.session.poll_timeout().is_some_and(|at| at <= now.into_std()) {
                line.session.handle_timeout(now.into_std());
            }
        }
        if self.registration.refresh.is_some_and(|at| at <= now) {
            self.send_register();
        }
    }

    fn receive(&mut self, datagram: Bytes, from: SocketAddr) {
        let Ok(message) = Message::parse(datagram) else { return };
        if message.validate().is_err() {
            return;
        }
        self.trace.note(Way::Received, &message);
        self.transactions.handle_message(message, self.flow(from), Instant::now().into_std());
    }

    fn flow(&self, remote: SocketAddr) -> Flow {
        Flow { transport: Transport::Udp, listener: 0, remote, conn: ConnId(0) }
    }

    fn server(&self) -> Destination {
        Destination { flow: self.flow(self.config.server), stream_first: false }
    }

    /// Hands events up and actions down until nothing is left, then sends.
    async fn settle(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(event) = self.transactions.poll_event() {
                quiet = false;
                self.transaction_event(event);
            }
            let ids: Vec<u64> = self.lines.keys().copied().collect();
            for id in ids {
                quiet &= !self.settle_line(id);
            }
            if quiet {
                break;
            }
        }
        while let Some(transmit) = self.transactions.poll_transmit() {
            if let Ok(message) = Message::parse(transmit.bytes.clone()) {
                self.trace.note(Way::Sent, &message);
            }
            if let Err(error) = self.socket.send_to(&transmit.bytes, transmit.flow.remote).await {
                debug!(%error, "not sent"); // the transaction repeats it
            }
        }
    }

    fn settle_line(&mut self, id: u64) -> bool {
        let Some(line) = self.lines.get_mut(&id) else { return false };
        let now = Instant::now().into_std();
        let mut busy = false;
        while let Some(event) = line.session.poll_event() {
            busy = true;
            line.session_event(event);
        }
        while let Some(action) = line.session.poll_action() {
            busy = true;
            match action {
                Action::Request { seq, draft, to } => {
                    let key = ClientKey { owner: id, seq };
                    if self.transactions.request(key, draft, to, now).is_err() {
                        line.session.handle_failure(seq, Failure::Transport, now);
                    }
                }
                Action::Respond { txn, draft } => self.transactions.respond(txn, &draft, now),
                Action::Cancel { seq, reason } => {
                    self.transactions.cancel(ClientKey { owner: id, seq }, reason, now);
                }
                Action::Ack { draft, to } => self.transactions.send_ack(draft, to),
            }
        }
        if line.session.is_over() && line.over {
            self.lines.remove(&id);
        }
        busy
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
            transaction::Event::Cancelled { id, reason, msg: _ } => {
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
            self.register_refused(failure.status(), reason_phrase(failure.status()).to_owned());
        } else if let Some(line) = self.lines.get_mut(&key.owner) {
            line.session.handle_failure(key.seq, failure, Instant::now().into_std());
        }
    }

    fn line_of(&mut self, message: &Message) -> Option<&mut Line> {
        let tag = message.to_tag()?;
        self.lines.values_mut().find(|line| line.tag.as_bytes() == tag)
    }

    fn request(&mut self, id: ServerId, message: &Message, flow: Flow) {
        let now = Instant::now().into_std();
        if message.to_tag().is_some() {
            match self.line_of(message) {
                Some(line) => line.session.handle_request(id, message, flow, now),
                None => self.transactions.respond(id, &ResponseDraft::new(481), now),
            }
            return;
        }
        let status = if message.method_is(&Method::Invite) {
            if self.lines.len() < CALLS_MAX {
                return self.ring(id, message, flow);
            }
            486
        } else if message.method_is(&Method::Options) {
            200
        } else {
            405
        };
        let mut draft = ResponseDraft::new(status);
        draft.headers.push("Allow", sip::session::ALLOW);
        draft.to_tag = Some(random_text());
        self.transactions.respond(id, &draft, now);
    }

    fn ring(&mut self, id: ServerId, invite: &Message, flow: Flow) {
        let (tag, now) = (random_text(), Instant::now().into_std());
        let config = Arc::clone(&self.session_config);
        let number = self.next_line;
        self.next_line += 1;
        let opened = Media::open(self.config.bind, number, self.orders.clone());
        let session = Session::incoming(config, id, invite, flow, tag.clone(), now);
        let (mut session, media) = match (session, opened) {
            (Ok(session), Ok(media)) => (session, media),
            (Err(refusal), _) => return self.transactions.respond(id, &refusal, now),
            (Ok(_), Err(_)) => return self.transactions.respond(id, &ResponseDraft::new(503), now),
        };
        let headers = HeaderText::default();
        if let Err(error) = session.command(Command::Progress { status: 180, sdp: None, headers }, now) {
            debug!(%error, "no 180");
        }
        let caller = invite
            .from()
            .ok()
            .and_then(|from| Some(String::from_utf8_lossy(&from.uri.user_decoded()?).into_owned()))
            .unwrap_or_default();
        let call = self.add_line(number, session, tag, media, invite.sdp(), caller);
        let _ = self.incoming.send(call); // nobody listens: dropping the call refuses it
    }

    fn add_line(
        &mut self,
        id: u64,
        session: Session,
        tag: String,
        media: Media,
        offer: Option<Bytes>,
        caller: String,
    ) -> PhoneCall {
        let (events, receiver) = mpsc::unbounded_channel();
        let heard = media.heard();
        let author = Author::new("-", rand::random::<u64>() >> 2, self.config.bind);
        let line = Line {
            session,
            tag,
            events,
            media,
            author,
            local: None,
            proposed: None,
            remote: None,
            offer,
            answered: false,
            direction: Direction::SendRecv,
            held: false,
            over: false,
        };
        self.lines.insert(id, line);
        PhoneCall { id, orders: self.orders.clone(), events: receiver, heard, caller }
    }

    fn obey(&mut self, order: Order) {
        let now = Instant::now().into_std();
        match order {
            Order::Register { expires, reply } => {
                self.registration.expires = expires;
                self.registration.reply = Some(reply);
                self.send_register();
            }
            Order::Call { number, play, reply } => {
                let _ = reply.send(self.dial(&number, play));
            }
            Order::Answer { call, play } => self.with(call, |line| line.answer(play, now)),
            Order::Reject { call, status } => self.with(call, |line| {
                line.command(Command::Reject { status, reason: None, headers: HeaderText::default() }, now);
            }),
            Order::HangUp { call } => {
                self.with(call, |line| line.command(Command::Bye { reason: None }, now))
            }
            Order::Hold { call, hold } => self.with(call, |line| line.hold(hold, now)),
            Order::Digit { call, digit } => self.with(call, |line| line.media.digit(digit)),
            Order::Media { call, event } => self.with(call, |line| line.media_event(event)),
        }
    }

    fn with(&mut self, call: u64, act: impl FnOnce(&mut Line)) {
        if let Some(line) = self.lines.get_mut(&call) {
            act(line);
        }
    }

    fn dial(&mut self, number: &str, play: Source) -> Result<PhoneCall, PhoneError> {
        let id = self.next_line;
        self.next_line += 1;
        let mut media = Media::open(self.config.bind, id, self.orders.clone())?;
        media.play(play);
        let mut author = Author::new("-", rand::random::<u64>() >> 2, self.config.bind);
        let stream = Stream { address: media.address(), direction: Direction::SendRecv };
        let mut local = Capabilities::default().offer(stream);
        let offer = author.sign(&mut local);
        let (username, domain) = (&self.config.username, &self.config.domain);
        let tag = random_text();
        let outgoing = Outgoing {
            target: format!("sip:{number}@{domain}"),
            from: format!("<sip:{username}@{domain}>"),
            to: format!("<sip:{number}@{domain}>"),
            call_id: random_text(),
            local_tag: tag.clone(),
            route: Vec::new(),
            headers: HeaderText::default(),
            offer: Some(offer),
            credentials: Some(Client::new(Login::new(username, &self.config.password), rand::random())),
            destination: self.server(),
        };
        let session =
            Session::outgoing(Arc::clone(&self.session_config), outgoing, Instant::now().into_std());
        let call = self.add_line(id, session, tag, media, None, String::new());
        self.with(id, |line| {
            line.author = author;
            line.local = Some(local);
        });
        Ok(call)
    }

    fn send_register(&mut self) {
        let registration = &mut self.registration;
        registration.refresh = None;
        registration.cseq += 1;
        let (username, domain) = (&self.config.username, &self.config.domain);
        let uri = format!("sip:{domain}");
        let mut headers = HeaderText::default();
        headers.push("Max-Forwards", "70");
        headers.push_fmt("From", format_args!("<sip:{username}@{domain}>;tag={}", registration.tag));
        headers.push_fmt("To", format_args!("<sip:{username}@{domain}>"));
        headers.push("Call-ID", &registration.call_id);
        headers.push_fmt("CSeq", format_args!("{} REGISTER", registration.cseq));
        headers.push("Contact", &self.session_config.contact);
        headers.push_fmt("Expires", format_args!("{}", registration.expires));
        headers.push("User-Agent", &self.session_config.user_agent);
        for (name, value) in registration.digest.headers("REGISTER", &uri, b"") {
            headers.push(name, value);
        }
        let key = ClientKey { owner: REGISTRATION, seq: registration.cseq };
        let draft = RequestDraft { method: Method::Register, uri, headers, body: Bytes::new() };
        let to = self.server();
        if self.transactions.request(key, draft, to, Instant::now().into_std()).is_err() {
            self.register_refused(503, reason_phrase(503).to_owned());
        }
    }

    fn registered(&mut self, response: &Message) {
        let status = response.status();
        let registration = &mut self.registration;
        match status {
            100..=199 => {}
            200..=299 => {
                registration.digest.accepted();
                let granted = response
                    .values(HeaderId::Contact)
                    .filter_map(|value| sip::header::NameAddr::parse(value, "Contact").ok())
                    .find(|contact| contact.uri.port == Some(self.address.port()))
                    .and_then(|contact| contact.expires())
                    .unwrap_or(registration.expires);
                if registration.expires > 0 {
                    let pause = Duration::from_secs(u64::from(granted)) * 9 / 10;
                    registration.refresh = Some(Instant::now() + pause.max(Duration::from_secs(1)));
                }
                if let Some(reply) = registration.reply.take() {
                    let _ = reply.send(Ok(()));
                }
            }
            401 | 407 => {
                let header =
                    if status == 407 { HeaderId::ProxyAuthenticate } else { HeaderId::WwwAuthenticate };
                let challenges: Vec<&[u8]> = response.lines(header).collect();
                match registration.digest.challenged(status == 407, challenges) {
                    Ok(()) => self.send_register(),
                    Err(_) => self.register_refused(status, reason_of(response)),
                }
            }
            _ => self.register_refused(status, reason_of(response)),
        }
    }

    fn register_refused(&mut self, status: u16, reason: String) {
        if let Some(reply) = self.registration.reply.take() {
            let _ = reply.send(Err(PhoneError::Refused { what: "REGISTER", status, reason }));
        } else if self.registration.expires > 0 {
            // A refresh that fails is tried again; RFC 5626 section 4.5 asks for patience.
            self.registration.refresh = Some(Instant::now() + Duration::from_secs(30));
        }
    }
}

fn reason_of(response: &Message) -> String {
    String::from_utf8_lossy(response.reason()).into_owned()
}

impl Line {
    fn command(&mut self, command: Command, now: std::time::Instant) {
        if let Err(error) = self.session.command(command, now) {
            debug!(%error, "command crossed an event");
        }
    }

    fn tell(&self, event: CallEvent) {
        let _ = self.events.send(event); // nobody listens: the handle is gone and the call is being hung up
    }

    fn stream(&self) -> Stream {
        Stream { address: self.media.address(), direction: self.direction }
    }

    fn answer(&mut self, play: Source, now: std::time::Instant) {
        self.media.play(play);
        let described = match self.offer.take() {
            Some(offer) => self.answer_to(&offer),
            None => self.own_offer(),
        };
        let headers = HeaderText::default();
        match described {
            Some(sdp) => self.command(Command::Accept { sdp: Some(sdp), headers }, now),
            None => self.command(Command::Reject { status: 488, reason: None, headers }, now),
        }
    }

    /// Our answer to an offer; `None` when there is nothing in common.
    fn answer_to(&mut self, offer: &Bytes) -> Option<Bytes> {
        let remote = Sdp::parse(offer.clone()).ok()?;
        let mut local = Capabilities::default().answer(&remote, self.stream()).ok()?;
        let bytes = self.author.sign(&mut local);
        self.local = Some(local);
        self.remote = Some(remote);
        self.agree();
        Some(bytes)
    }

    fn own_offer(&mut self) -> Option<Bytes> {
        let mut local = Capabilities::default().offer(self.stream());
        let bytes = self.author.sign(&mut local);
        self.local = Some(local);
        Some(bytes)
    }

    fn take_answer(&mut self, sdp: &Bytes) {
        if let Some(proposed) = self.proposed.take() {
            self.local = Some(proposed);
        }
        if let Ok(remote) = Sdp::parse(sdp.clone()) {
            self.remote = Some(remote);
            self.agree();
        }
    }

    fn agree(&mut self) {
        let (Some(local), Some(remote)) = (&self.local, &self.remote) else { return };
        let Some(agreed) = Capabilities::default().agreed(local, remote) else { return };
        let held = remote.media(agreed.media).is_some_and(|media| !media.direction().receives());
        self.media.agree(agreed);
        if held != self.held {
            self.held = held;
            self.tell(CallEvent::Held(held));
        }
    }

    fn hold(&mut self, hold: bool, now: std::time::Instant) {
        self.direction = if hold { Direction::SendOnly } else { Direction::SendRecv };
        let Some(mut sdp) = self.local.clone() else { return };
        for index in 0..sdp.media_count() {
            sdp.set_direction(Part::Media(index), self.direction);
        }
        let bytes = self.author.sign(&mut sdp);
        self.proposed = Some(sdp);
        self.command(Command::Reoffer { sdp: Some(bytes), prefer_update: false }, now);
    }

    fn session_event(&mut self, event: SessionEvent) {
        let now = Instant::now().into_std();
        match event {
            SessionEvent::Progress { status, sdp, .. } => {
                if let Some(sdp) = sdp {
                    self.take_answer(&sdp);
                }
                self.tell(CallEvent::Ringing { status });
            }
            SessionEvent::Answered { sdp, .. } => {
                if let Some(sdp) = sdp {
                    self.take_answer(&sdp);
                }
                self.answered = true;
                self.tell(CallEvent::Answered);
            }
            SessionEvent::Confirmed { sdp } => {
                if let Some(sdp) = sdp {
                    self.take_answer(&sdp);
                }
                self.answered = true;
                self.tell(CallEvent::Answered);
            }
            SessionEvent::Offer { sdp, .. } => {
                let described = match sdp {
                    Some(offer) => self.answer_to(&offer),
                    None => self.own_offer(),
                };
                match described {
                    Some(sdp) => self.command(Command::Answer { sdp }, now),
                    None => self.command(Command::RejectOffer { status: 488 }, now),
                }
            }
            SessionEvent::Answer { sdp } => self.take_answer(&sdp),
            SessionEvent::OfferRejected { .. } => self.proposed = None,
            SessionEvent::Info { .. } => self.command(Command::RespondInfo { status: 200 }, now),
            SessionEvent::Message { .. } => self.command(Command::RespondMessage { status: 405 }, now),
            SessionEvent::Refer { .. } => self.command(Command::RespondRefer { status: 603 }, now),
            SessionEvent::Rejected { status, .. } => self.end(status, true),
            SessionEvent::Cancelled { .. } => self.end(487, true),
            SessionEvent::Ended { by_peer, .. } => self.end(if self.answered { 200 } else { 487 }, by_peer),
            SessionEvent::OfferWithdrawn | SessionEvent::Notify { .. } | SessionEvent::Replied { .. } => {}
        }
    }

    fn end(&mut self, status: u16, by_peer: bool) {
        self.over = true;
        self.media.stop();
        self.tell(CallEvent::Ended { status, by_peer });
    }

    fn media_event(&mut self, event: MediaEvent) {
        let MediaEvent::Digit(digit) = event;
        self.tell(CallEvent::Digit(digit));
    }
}
