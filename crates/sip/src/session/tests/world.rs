//! Two sessions, alice and bob, each over a transaction layer of its own, and a wire with virtual time between them.
//!
//! Ladder lines: `alice does bye`, `alice sends BYE`, `bob hears Ended peer Bye`, `wait 32`, `hold`/`go` (messages stay on
//! the wire until then, so that they cross), `lose alice 2` (her next messages vanish), `move alice` (another node carries her
//! session on). Repeats and 100 are not listed.
//! Descriptions are named by a word: the description `o1` says `s=o1`. Elsewhere: the scenarios.

use crate::digest;
use crate::draft::{HeaderText, ResponseDraft, serialize_response};
use crate::flow::{ConnId, Flow, Transport};
use crate::msg::{HeaderId, Message, Method};
use crate::session::{
    Action, Capsule, Command, CommandError, EndCause, Event, Failure, OfferVia, Outgoing, Session,
    SessionConfig, stray_answer,
};
use crate::transaction::{self, ClientKey, Destination, ListenerVia, Transactions};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) const ALICE: usize = 0;
pub(super) const BOB: usize = 1;

/// One end.
pub(super) struct Side {
    layer: Transactions,
    pub(super) session: Option<Session>,
    pub(super) cfg: SessionConfig,
    pub(super) credentials: Option<digest::Client>,
    /// Header lines of the next call.
    pub(super) lines: HeaderText,
    pub(super) heard: VecDeque<String>,
    /// What came in, repeats aside; where there is no session, the test answers.
    pub(super) inbox: Vec<Message>,
    /// Whether the test plays this side by hand.
    pub(super) by_hand: bool,
    /// How often another node took over.
    pub(super) moves: u8,
    lose: u32,
    seen: BTreeSet<Bytes>,
}

/// A message under way.
struct Letter {
    at: Instant,
    number: u64,
    to: usize,
    bytes: Bytes,
}

pub(super) struct World {
    pub(super) sides: [Side; 2],
    pub(super) now: Instant,
    wire: Vec<Letter>,
    sent: VecDeque<String>,
    held: bool,
    letters: u64,
    seed: u64,
    /// Percentage of messages that vanish.
    pub(super) loss: u64,
    /// Delivery takes up to this long, so that messages overtake each other.
    pub(super) jitter: Duration,
    /// Wire messages so far, repeats included.
    pub(super) count: u32,
    pub(super) largest_capsule: usize,
}

pub(super) fn config(contact: &str) -> SessionConfig {
    let mut cfg = SessionConfig::new(format!("<sip:{contact}>"));
    cfg.session_timer.offer = false;
    cfg.user_agent = "Test".to_owned();
    cfg
}

fn address(side: usize) -> SocketAddr {
    let text = if side == ALICE { "192.0.2.1:5060" } else { "192.0.2.2:5060" };
    text.parse().unwrap()
}

fn name(side: usize) -> &'static str {
    if side == ALICE { "alice" } else { "bob" }
}

/// A description called `label`; `hold…` is sendonly, `held…` recvonly.
pub(super) fn sdp(label: &str) -> Bytes {
    let direction = match label {
        l if l.starts_with("hold") => "sendonly",
        l if l.starts_with("held") => "recvonly",
        _ => "sendrecv",
    };
    let number = label.bytes().fold(7u32, |n, b| n.wrapping_mul(31).wrapping_add(u32::from(b)));
    Bytes::from(format!(
        "v=0\r\no=- 7 {number} IN IP4 192.0.2.9\r\ns={label}\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na={direction}\r\n"
    ))
}

pub(super) fn label(sdp: &[u8]) -> String {
    let text = String::from_utf8_lossy(sdp);
    text.lines().find_map(|l| l.strip_prefix("s=")).unwrap_or("?").to_owned()
}

/// The transactions of a side, which is the `node`-th that plays it.
fn layer(side: usize, node: u8) -> Transactions {
    let via = ListenerVia { transport: Transport::Udp, sent_by: address(side).to_string() };
    let config = transaction::Config { via_hosts: vec![via], ..transaction::Config::default() };
    Transactions::new(config, [u8::try_from(side).unwrap() + 2 * node; 32])
}

impl World {
    pub(super) fn new() -> World {
        World::with(config("alice@192.0.2.1"), config("bob@192.0.2.2"))
    }

    pub(super) fn with(alice: SessionConfig, bob: SessionConfig) -> World {
        #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
        let start = Instant::now();
        let side = |at: usize, cfg: SessionConfig| Side {
            layer: layer(at, 0),
            session: None,
            cfg,
            credentials: None,
            lines: HeaderText::new(),
            heard: VecDeque::new(),
            inbox: Vec::new(),
            by_hand: false,
            moves: 0,
            lose: 0,
            seen: BTreeSet::new(),
        };
        World {
            sides: [side(ALICE, alice), side(BOB, bob)],
            now: start,
            wire: Vec::new(),
            sent: VecDeque::new(),
            held: false,
            letters: 0,
            seed: 1,
            loss: 0,
            jitter: Duration::ZERO,
            count: 0,
            largest_capsule: 0,
        }
    }

    pub(super) fn seeded(mut self, seed: u64) -> World {
        self.seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        self
    }

    /// A world whose bob is played by the test.
    pub(super) fn alone(alice: SessionConfig) -> World {
        let mut world = World::with(alice, config("bob@192.0.2.2"));
        world.sides[BOB].by_hand = true;
        world
    }

    pub(super) fn session(&mut self, side: usize) -> &mut Session {
        self.sides[side].session.as_mut().expect("a session")
    }

    /// Another node carries a side on: of the session its capsule's bytes are left, of the transactions nothing. False if
    /// the session is not at rest.
    pub(super) fn move_side(&mut self, side: usize) -> bool {
        let now = self.now;
        let own = &mut self.sides[side];
        let Some(capsule) = own.session.as_ref().and_then(|session| session.capsule(now)) else {
            return false;
        };
        let bytes = capsule.encode();
        self.largest_capsule = self.largest_capsule.max(bytes.len());
        let capsule = Capsule::decode(&bytes).expect("what was encoded");
        assert_eq!(capsule.encode(), bytes);
        own.session = Some(Session::revive(Arc::new(own.cfg.clone()), &capsule, now));
        own.moves += 1;
        own.layer = layer(side, own.moves);
        true
    }

    /// An index below `len`, drawn.
    pub(super) fn pick(&mut self, len: usize) -> usize {
        usize::try_from(self.draw(u64::try_from(len).unwrap())).unwrap()
    }

    pub(super) fn draw(&mut self, bound: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % bound.max(1)
    }

    /// Plays a ladder; at its end nothing may be left unsaid.
    #[track_caller]
    pub(super) fn play(&mut self, ladder: &str) {
        for line in ladder.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["move", who] => assert!(self.move_side(side_of(who)), "{line}: not at rest"),
                ["wait", secs] => self.wait(Duration::from_secs_f64(secs.parse().unwrap())),
                ["hold"] => self.held = true,
                ["go"] => {
                    self.held = false;
                    self.settle();
                }
                ["lose", who, count] => self.sides[side_of(who)].lose = count.parse().unwrap(),
                [who, "does", ref what @ ..] => {
                    self.does(side_of(who), what).unwrap_or_else(|error| panic!("{line}: {error}"));
                }
                [who, "cannot", ref what @ ..] => {
                    let error = self.does(side_of(who), what).expect_err(line);
                    assert_ne!(error, CommandError::BadStatus(0), "{line}");
                }
                [who, "sends", ..] => {
                    let expected = format!("{who} {}", words[2..].join(" "));
                    let sent = self.sent.pop_front();
                    assert_eq!(sent.as_deref(), Some(&*expected), "expected `{line}`, then {:?}", self.sent);
                }
                [who, "hears", ..] => {
                    let side = &mut self.sides[side_of(who)];
                    let heard = side.heard.pop_front();
                    assert_eq!(
                        heard.as_deref(),
                        Some(&*words[2..].join(" ")),
                        "expected `{line}`, then {:?}",
                        side.heard
                    );
                }
                _ => panic!("no such line: {line}"),
            }
        }
        assert!(self.sent.is_empty(), "after the ladder was sent {:?}", self.sent);
        for side in &self.sides {
            assert!(side.heard.is_empty(), "after the ladder was heard {:?}", side.heard);
        }
    }

    /// Somebody does something, and nobody looks at what comes of it.
    #[track_caller]
    pub(super) fn act(&mut self, who: &str, what: &str) {
        let words: Vec<&str> = what.split_whitespace().collect();
        self.does(side_of(who), &words).unwrap_or_else(|error| panic!("{who} {what}: {error}"));
        self.skip();
    }

    /// Somebody tries something that may not fit.
    pub(super) fn tries(&mut self, who: &str, what: &str) -> Result<(), CommandError> {
        let words: Vec<&str> = what.split_whitespace().collect();
        self.does(side_of(who), &words)
    }

    /// Plays a ladder; afterwards both sessions and both layers must come to rest.
    #[track_caller]
    pub(super) fn play_to_the_end(&mut self, ladder: &str) {
        self.play(ladder);
        self.wait(Duration::from_secs(70));
        assert!(self.sent.is_empty(), "after the end was sent {:?}", self.sent);
        for (at, side) in self.sides.iter().enumerate() {
            let session = side.session.as_ref();
            assert!(session.is_none_or(Session::is_over), "{} is not over: {session:#?}", name(at));
            assert!(session.is_none_or(|s| s.last_will().is_empty()), "{} has a will", name(at));
            assert_eq!(side.layer.open(), 0, "{} has transactions left", name(at));
        }
    }

    /// A command in words.
    fn does(&mut self, side: usize, words: &[&str]) -> Result<(), CommandError> {
        let headers = HeaderText::new();
        let sdp_of = |word: Option<&&str>| word.filter(|w| **w != "-").map(|w| sdp(w));
        let number = |at: usize| words[at].parse::<u16>().unwrap();
        let command = match words[0] {
            "call" => {
                self.call(side, sdp_of(words.get(1)));
                self.settle();
                return Ok(());
            }
            "progress" => Command::Progress { status: number(1), sdp: sdp_of(words.get(2)), headers },
            "accept" => Command::Accept { sdp: sdp_of(words.get(1)), headers },
            "reject" => Command::Reject { status: number(1), reason: None, headers },
            "cancel" => Command::Cancel { reason: None },
            "reoffer" => Command::Reoffer { sdp: sdp_of(words.get(1)), prefer_update: false },
            "update" => Command::Reoffer { sdp: sdp_of(words.get(1)), prefer_update: true },
            "answer" => Command::Answer { sdp: sdp(words[1]) },
            "refuse" => Command::RejectOffer { status: number(1) },
            "info" => {
                Command::Info { content_type: "text/plain".into(), body: words[1].to_owned().into(), headers }
            }
            "message" => Command::Message {
                content_type: "text/plain".into(),
                body: words[1].to_owned().into(),
                headers,
            },
            "refer" => Command::Refer { refer_to: words[1].into(), referred_by: None, headers },
            "notify" => Command::Notify {
                event: "refer".into(),
                subscription_state: words[1].into(),
                content_type: "message/sipfrag".into(),
                body: "SIP/2.0 200 OK".into(),
            },
            "respond-info" => Command::RespondInfo { status: number(1) },
            "respond-message" => Command::RespondMessage { status: number(1) },
            "respond-refer" => Command::RespondRefer { status: number(1) },
            "bye" => Command::Bye { reason: None },
            "announce" => {
                let now = self.now;
                self.session(side).announce(Duration::ZERO, now);
                self.drain(side);
                self.settle();
                return Ok(());
            }
            other => panic!("no such command: {other}"),
        };
        self.command(side, command)
    }

    pub(super) fn command(&mut self, side: usize, command: Command) -> Result<(), CommandError> {
        let now = self.now;
        let result = self.session(side).command(command, now);
        self.drain(side);
        self.settle();
        result
    }

    fn call(&mut self, side: usize, offer: Option<Bytes>) {
        let other = 1 - side;
        let flow = Flow { transport: Transport::Udp, listener: 0, remote: address(other), conn: ConnId(0) };
        let own = &mut self.sides[side];
        let call = Outgoing {
            target: format!("sip:{}@example.com", name(other)),
            from: format!("\"A, {0}\" <sip:{0}@example.com>", name(side)),
            to: format!("<sip:{}@example.com>", name(other)),
            call_id: format!("call-{}", self.seed),
            local_tag: format!("tag-{}", name(side)),
            route: Vec::new(),
            headers: own.lines.clone(),
            offer,
            credentials: own.credentials.take(),
            elsewhere: Vec::new(),
            destination: Destination { flow, stream_first: false },
        };
        own.session = Some(Session::outgoing(Arc::new(own.cfg.clone()), call, self.now));
        self.drain(side);
    }

    /// Empties the queues of one side until it is quiet.
    fn drain(&mut self, at: usize) {
        let now = self.now;
        loop {
            let mut quiet = true;
            while let Some(event) = self.sides[at].layer.poll_event() {
                quiet = false;
                self.feed(at, event);
            }
            let side = &mut self.sides[at];
            if let Some(session) = &mut side.session {
                while let Some(action) = session.poll_action() {
                    quiet = false;
                    match action {
                        Action::Request { seq, draft, to } => {
                            side.layer.request(ClientKey { owner: 1, seq }, draft, to, now).expect("room");
                        }
                        Action::Respond { txn, draft } => side.layer.respond(txn, &draft, now),
                        Action::Cancel { seq, reason } => {
                            side.layer.cancel(ClientKey { owner: 1, seq }, reason, now)
                        }
                        Action::Ack { draft, to } => side.layer.send_ack(draft, to),
                    }
                }
                while let Some(event) = session.poll_event() {
                    quiet = false;
                    side.heard.push_back(describe_event(&event));
                }
            }
            while let Some(transmit) = self.sides[at].layer.poll_transmit() {
                quiet = false;
                self.post(at, transmit.bytes);
            }
            if quiet {
                return;
            }
        }
    }

    fn feed(&mut self, at: usize, event: transaction::Event) {
        let now = self.now;
        let side = &mut self.sides[at];
        match event {
            transaction::Event::Request { id, msg, flow } => {
                if side.by_hand {
                    side.inbox.push(msg);
                    return;
                }
                let begins = msg.method_is(&Method::Invite) && msg.to_tag().is_none();
                match &mut side.session {
                    Some(session) if !begins => session.handle_request(id, &msg, flow, now),
                    None if begins => {
                        let tag = format!("tag-{}", name(at));
                        match Session::incoming(Arc::new(side.cfg.clone()), id, &msg, flow, tag, now) {
                            Ok(session) => {
                                side.session = Some(session);
                                side.heard.push_back(match msg.sdp() {
                                    Some(offer) => format!("Incoming {}", label(&offer)),
                                    None => "Incoming -".to_owned(),
                                });
                            }
                            Err(draft) => side.layer.respond(id, &draft, now),
                        }
                    }
                    Some(_) | None => side.layer.respond(id, &ResponseDraft::new(481), now),
                }
            }
            transaction::Event::Ack { msg, flow } => {
                if side.by_hand {
                    side.inbox.push(msg);
                } else if let Some(session) = &mut side.session {
                    session.handle_ack(&msg, flow, now);
                }
            }
            transaction::Event::Cancelled { id, reason, .. } => {
                if let Some(session) = &mut side.session {
                    session.handle_cancel(id, reason, now);
                }
            }
            transaction::Event::Response { key, msg, flow } => {
                if let Some(session) = &mut side.session {
                    session.handle_response(key.seq, &msg, flow, now);
                }
            }
            transaction::Event::Timeout { key } => {
                if let Some(session) = &mut side.session {
                    session.handle_failure(key.seq, Failure::Timeout, now);
                }
            }
            transaction::Event::TransportError { key } => {
                if let Some(session) = &mut side.session {
                    session.handle_failure(key.seq, Failure::Transport, now);
                }
            }
            transaction::Event::Unanswered { id } => {
                if let Some(session) = &mut side.session {
                    session.handle_unanswered(id, now);
                }
            }
            transaction::Event::NoAck { .. } => {}
        }
    }

    /// Puts a message on the wire.
    fn post(&mut self, from: usize, bytes: Bytes) {
        let msg = Message::parse(bytes.clone()).unwrap();
        msg.validate().unwrap_or_else(|defect| {
            panic!("{}: {defect:?}\n{}", name(from), String::from_utf8_lossy(&bytes))
        });
        self.count += 1;
        // An ACK that is sent again differs in its branch.
        let mark = if msg.method_is(&Method::Ack) {
            Bytes::from(format!("ACK {:?} {}", msg.header(HeaderId::CSeq), describe(&msg)))
        } else {
            bytes.clone()
        };
        let new = self.sides[from].seen.insert(mark);
        if new && msg.status() != 100 {
            self.sent.push_back(format!("{} {}", name(from), describe(&msg)));
        }
        if self.sides[from].lose > 0 {
            self.sides[from].lose -= 1;
            return;
        }
        if self.draw(100) < self.loss {
            return;
        }
        let jitter = u64::try_from(self.jitter.as_millis()).unwrap();
        let delay = Duration::from_millis(1 + self.draw(jitter + 1));
        self.letters += 1;
        self.wire.push(Letter { at: self.now + delay, number: self.letters, to: 1 - from, bytes });
    }

    /// Delivers what is on the wire, and what that brings about, without waiting for anything.
    pub(super) fn settle(&mut self) {
        let limit = self.now + Duration::from_millis(100);
        while !self.held && !self.wire.is_empty() && self.step(limit) {}
    }

    /// Lets time pass.
    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// The next thing that happens until `end`; false if there is none.
    fn step(&mut self, end: Instant) -> bool {
        let letter = (0..self.wire.len())
            .filter(|_| !self.held)
            .min_by_key(|&i| (self.wire[i].at, self.wire[i].number))
            .map(|i| (self.wire[i].at, i));
        let mut timer: Option<(Instant, usize)> = None;
        for (at, side) in self.sides.iter().enumerate() {
            let session = side.session.as_ref().and_then(Session::poll_timeout);
            for due in [side.layer.poll_timeout(), session].into_iter().flatten() {
                if timer.is_none_or(|(first, _)| due < first) {
                    timer = Some((due, at));
                }
            }
        }
        match (letter, timer) {
            (Some((at, i)), timer) if at <= end && timer.is_none_or(|(due, _)| at <= due) => {
                self.now = self.now.max(at);
                let letter = self.wire.swap_remove(i);
                self.deliver(letter.to, letter.bytes);
            }
            (_, Some((due, at))) if due <= end => {
                assert!(due > self.now || self.count < 1_000_000, "a deadline that never passes");
                self.now = self.now.max(due);
                let now = self.now;
                let side = &mut self.sides[at];
                if side.layer.poll_timeout().is_some_and(|due| due <= now) {
                    side.layer.handle_timeout(now);
                }
                if let Some(session) = &mut side.session
                    && session.poll_timeout().is_some_and(|due| due <= now)
                {
                    session.handle_timeout(now);
                    assert!(session.poll_timeout().is_none_or(|due| due > now), "still due: {session:#?}");
                }
                self.drain(at);
            }
            _ => return false,
        }
        true
    }

    fn deliver(&mut self, to: usize, bytes: Bytes) {
        let msg = Message::parse(bytes).unwrap();
        let flow = Flow { transport: Transport::Udp, listener: 0, remote: address(1 - to), conn: ConnId(0) };
        let now = self.now;
        if self.sides[to].by_hand {
            let inbox = &mut self.sides[to].inbox;
            if !inbox.iter().any(|old| old.raw() == msg.raw()) {
                inbox.push(msg);
            }
            return;
        }
        self.sides[to].layer.handle_message(msg, flow, now);
        self.drain(to);
    }

    /// What bob, played by hand, has received: the last request of this method.
    pub(super) fn received(&self, method: &Method) -> Message {
        let inbox = &self.sides[BOB].inbox;
        let found = inbox.iter().rev().find(|m| m.is_request() && m.method_is(method));
        found.unwrap_or_else(|| panic!("no {method:?} in {inbox:?}")).clone()
    }

    /// The last response with this status that bob, played by hand, has received.
    pub(super) fn received_status(&self, status: u16) -> Message {
        let inbox = &self.sides[BOB].inbox;
        inbox
            .iter()
            .rev()
            .find(|m| m.status() == status)
            .unwrap_or_else(|| panic!("no {status} in {inbox:?}"))
            .clone()
    }

    /// How many different requests of this method bob, played by hand, has received.
    pub(super) fn count_received(&self, method: &Method) -> usize {
        self.sides[BOB].inbox.iter().filter(|m| m.is_request() && m.method_is(method)).count()
    }

    /// Bob, by hand, answers a request; `lines` are whole header lines, each with its line break.
    pub(super) fn reply(
        &mut self,
        request: &Message,
        status: u16,
        tag: &str,
        lines: &str,
        body: Option<Bytes>,
    ) {
        let mut headers = HeaderText::new();
        headers.extend_raw(lines.as_bytes());
        if body.is_some() {
            headers.push("Content-Type", "application/sdp");
        }
        let to_tag = (!tag.is_empty()).then(|| tag.to_owned());
        let draft = ResponseDraft { status, reason: None, to_tag, headers, body: body.unwrap_or_default() };
        let bytes = serialize_response(request, address(ALICE), &draft);
        self.deliver(ALICE, bytes);
        self.settle();
    }

    /// Bob, by hand, sends a request inside the dialog of alice's session.
    pub(super) fn request(&mut self, method: &str, cseq: u32, lines: &str, body: Option<Bytes>) {
        let dialog = self.sides[ALICE].session.as_ref().expect("a session").dialog().clone();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let remote_tag = text(dialog.remote_tag.as_deref().unwrap_or(b"x"));
        let content = if body.is_some() { "Content-Type: application/sdp\r\n" } else { "" };
        let body = body.unwrap_or_default();
        let message = format!(
            "{method} sip:alice@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK{method}{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: {};tag={remote_tag}\r\nTo: {};tag={}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:bob@192.0.2.2>\r\n{lines}{content}Content-Length: {}\r\n\r\n{}",
            text(&dialog.remote_uri),
            text(&dialog.local_uri),
            dialog.local_tag,
            text(&dialog.call_id),
            body.len(),
            text(&body),
        );
        self.inject(&message);
    }

    /// Bob, by hand, sends this text.
    pub(super) fn inject(&mut self, message: &str) {
        self.inject_to(ALICE, message);
    }

    /// This text arrives.
    pub(super) fn inject_to(&mut self, side: usize, message: &str) {
        let bytes = Bytes::from(message.to_owned());
        Message::parse(bytes.clone())
            .unwrap()
            .validate()
            .unwrap_or_else(|defect| panic!("{defect:?}\n{message}"));
        self.deliver(side, bytes);
        self.settle();
    }

    /// Transactions that are open at one side.
    pub(super) fn open(&self, side: usize) -> usize {
        self.sides[side].layer.open()
    }

    /// Forgets what was sent and heard so far.
    pub(super) fn skip(&mut self) {
        self.sent.clear();
        for side in &mut self.sides {
            side.heard.clear();
        }
    }

    /// What alice's shell would do with a 2xx for a session that is gone.
    pub(super) fn stray(response: &Message) -> (String, String) {
        let (ack, bye) = stray_answer(response).expect("a 2xx to an INVITE");
        let text = |draft: &crate::draft::RequestDraft| {
            format!("{} {}", draft.uri, String::from_utf8_lossy(draft.headers.as_bytes()))
        };
        (text(&ack), text(&bye))
    }
}

fn side_of(word: &str) -> usize {
    match word {
        "alice" => ALICE,
        "bob" => BOB,
        other => panic!("who is {other}?"),
    }
}

/// `INVITE o1`, `183/INVITE a1 rel`.
pub(super) fn describe(msg: &Message) -> String {
    let method = msg.method();
    let mut text = match msg.is_request() {
        true => method.as_str().to_owned(),
        false => format!("{}/{}", msg.status(), method.as_str()),
    };
    if let Some(sdp) = msg.sdp() {
        text.push(' ');
        text.push_str(&label(&sdp));
    }
    if msg.header(HeaderId::RSeq).is_some() {
        text.push_str(" rel");
    }
    text
}

fn describe_event(event: &Event) -> String {
    let sdp = |sdp: &Option<Bytes>| sdp.as_ref().map_or_else(|| "-".to_owned(), |sdp| label(sdp));
    match event {
        Event::Progress { status, sdp: s, fork } => format!("Progress {status} {} fork{fork}", sdp(s)),
        Event::Answered { sdp: s, fork } => format!("Answered {} fork{fork}", sdp(s)),
        Event::Tagged { tag } => format!("Tagged {tag}"),
        Event::Rejected { status, .. } => format!("Rejected {status}"),
        Event::Confirmed { sdp: s } => format!("Confirmed {}", sdp(s)),
        Event::Cancelled { .. } => "Cancelled".to_owned(),
        Event::Offer { sdp: s, via } => {
            let via = match via {
                OfferVia::Invite => "INVITE",
                OfferVia::Response => "2xx",
                OfferVia::Reliable => "1xx",
                OfferVia::Prack => "PRACK",
                OfferVia::Update => "UPDATE",
            };
            format!("Offer {} by {via}", sdp(s))
        }
        Event::OfferWithdrawn => "OfferWithdrawn".to_owned(),
        Event::Answer { sdp } => format!("Answer {}", label(sdp)),
        Event::OfferRejected { status } => format!("OfferRejected {status}"),
        Event::Info { body, .. } => format!("Info {}", String::from_utf8_lossy(body)).trim_end().to_owned(),
        Event::Message { body, .. } => format!("Message {}", String::from_utf8_lossy(body)),
        Event::Refer { refer_to, .. } => format!("Refer {refer_to}"),
        Event::Notify { subscription_state, .. } => format!("Notify {subscription_state}"),
        Event::Replied { method, status } => format!("Replied {} {status}", method.as_str()),
        Event::Ended { by_peer, cause, .. } => {
            format!("Ended {} {}", if *by_peer { "peer" } else { "self" }, cause_name(*cause))
        }
    }
}

fn cause_name(cause: EndCause) -> String {
    format!("{cause:?}")
}
