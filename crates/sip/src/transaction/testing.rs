//! The test bench of the machines: a ladder is text, one line for each thing that goes in or comes out, with its time.
//!
//! In: ladders. Out: a panic that shows the first line that did not happen. A message or event that is not on the ladder
//! fails the test, and every ladder ends with an empty table. Elsewhere: the ladders (beside each machine).
//!
//! Lines are `TIME VERB WHAT`, times are seconds since the start. What goes in: `ask METHOD [bytes=N]`, `cancel [REASON]`,
//! `answer STATUS [tag=T]` by the user; `recv STATUS [METHOD]` or `recv METHOD [option=value ...]` from the wire; `broken
//! [udp|tcp] [conn=N]` for a transport error. What comes out: `send ...`, `tell ...`. `over` tells when the table gets
//! empty, `open N` how many transactions there are.

use super::*;
use crate::draft::{HeaderText, serialize_response};
use crate::msg::{HeaderId, Method};
use std::collections::{BTreeMap, VecDeque};

/// Plays a ladder over a transport with the default settings.
pub(super) fn ladder(transport: Transport, text: &str) {
    Bench::new(transport, Config::default()).play(text);
}

/// One table with a user and a peer that do what the ladder says.
pub(super) struct Bench {
    pub(super) layer: Transactions,
    pub(super) start: Instant,
    pub(super) flow: Flow,
    pub(super) now: Duration,
    /// What came out and was not yet expected.
    seen: VecDeque<(Duration, String)>,
    /// The last request of each method that was sent.
    sent: BTreeMap<String, Message>,
    /// Every transmit, for tests that look closer.
    pub(super) wire: Vec<Transmit>,
    /// The last server transaction.
    pub(super) id: Option<ServerId>,
    asked: u32,
}

impl Bench {
    pub(super) fn new(transport: Transport, cfg: Config) -> Bench {
        let via_hosts = vec![
            ListenerVia { transport: Transport::Udp, sent_by: "192.0.2.1:5060".to_owned() },
            ListenerVia { transport: Transport::Tcp, sent_by: "192.0.2.1:5060".to_owned() },
        ];
        let conn = ConnId(if transport == Transport::Udp { 0 } else { 7 });
        let listener = u16::from(transport != Transport::Udp);
        let remote = "198.51.100.2:40000".parse().unwrap();
        Bench {
            layer: Transactions::new(Config { via_hosts, ..cfg }, [7; 32]),
            #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
            start: Instant::now(),
            flow: Flow { transport, listener, remote, conn },
            now: Duration::ZERO,
            seen: VecDeque::new(),
            sent: BTreeMap::new(),
            wire: Vec::new(),
            id: None,
            asked: 0,
        }
    }

    /// Plays a ladder, then lets time pass until nothing is left.
    pub(super) fn play(&mut self, text: &str) {
        self.play_on(text);
        self.advance(Duration::from_secs(100_000));
        assert!(self.seen.is_empty(), "after the ladder came {:?}", self.seen);
        assert_eq!(self.layer.open(), 0, "transactions left");
        assert_eq!(self.layer.poll_timeout(), None, "a deadline is left");
    }

    /// Plays a ladder and stays where it ends.
    pub(super) fn play_on(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let at = Duration::from_secs_f64(words.next().unwrap().parse().expect("a time"));
            let verb = words.next().expect("a verb");
            let rest: Vec<&str> = words.collect();
            match verb {
                "send" | "tell" => self.expect(at, line, &format!("{verb} {}", rest.join(" "))),
                "over" => {
                    self.advance(at - Duration::from_millis(1));
                    assert_ne!(self.layer.open(), 0, "over too soon: {line}");
                    self.advance(at);
                    assert_eq!(self.layer.open(), 0, "not over: {line}");
                }
                "open" => {
                    self.advance(at);
                    assert_eq!(self.layer.open(), rest[0].parse::<usize>().unwrap(), "{line}");
                }
                _ => {
                    self.advance(at);
                    assert!(self.seen.is_empty(), "before `{line}` came {:?}", self.seen);
                    self.put_in(verb, &rest);
                    self.drain();
                }
            }
        }
    }

    fn expect(&mut self, at: Duration, line: &str, what: &str) {
        self.advance(at);
        let seen = self.seen.pop_front();
        assert_eq!(seen, Some((at, what.to_owned())), "expected `{line}`; then {:?}", self.seen);
    }

    /// Lets time pass, waking exactly at the deadlines.
    pub(super) fn advance(&mut self, to: Duration) {
        assert!(to >= self.now, "the ladder goes back in time to {to:?}");
        while let Some(due) = self.layer.poll_timeout().filter(|due| *due <= self.start + to) {
            self.now = self.now.max(due - self.start);
            self.layer.handle_timeout(due);
            self.drain();
        }
        self.now = to;
    }

    fn put_in(&mut self, verb: &str, rest: &[&str]) {
        let now = self.start + self.now;
        let option = |name: &str| {
            rest.iter().find_map(|word| word.strip_prefix(name).and_then(|word| word.strip_prefix('=')))
        };
        match verb {
            "ask" => {
                let padding = option("bytes").map_or(0, |count| count.parse().unwrap());
                self.asked += 1;
                let key = ClientKey { owner: 1, seq: self.asked };
                let to = Destination { flow: self.flow, stream_first: true };
                self.layer.request(key, draft(rest[0], padding), to, now).unwrap();
            }
            "cancel" => {
                let key = ClientKey { owner: 1, seq: self.asked };
                self.layer.cancel(key, rest.first().map(|reason| (*reason).to_owned()), now);
            }
            "answer" => {
                let to_tag = option("tag").map(str::to_owned);
                let draft = ResponseDraft { to_tag, ..ResponseDraft::new(rest[0].parse().unwrap()) };
                self.layer.respond(self.id.expect("a request came"), &draft, now);
            }
            "recv" if rest[0].starts_with(|c: char| c.is_ascii_digit()) => {
                let method = rest.get(1).filter(|word| !word.contains('='));
                let request = match method {
                    Some(method) => &self.sent[*method],
                    None => self.sent.iter().find(|(method, _)| *method != "ACK").unwrap().1,
                };
                let to_tag = Some(option("tag").unwrap_or("peer").to_owned());
                let draft = ResponseDraft { to_tag, ..ResponseDraft::new(rest[0].parse().unwrap()) };
                let bytes = serialize_response(request, "192.0.2.1:5060".parse().unwrap(), &draft);
                self.layer.handle_message(parse(bytes), self.flow, now);
            }
            "recv" => {
                let flow = match option("port") {
                    Some(port) => Flow {
                        remote: SocketAddr::new(self.flow.remote.ip(), port.parse().unwrap()),
                        ..self.flow
                    },
                    None => self.flow,
                };
                self.layer.handle_message(request(self.flow.transport, rest), flow, now);
            }
            "broken" => {
                let conn = option("conn").map_or(self.flow.conn, |conn| ConnId(conn.parse().unwrap()));
                let transport = match rest.first() {
                    Some(&"tcp") => Transport::Tcp,
                    Some(&"udp") => Transport::Udp,
                    _ => self.flow.transport,
                };
                let listener = u16::from(transport != Transport::Udp);
                self.layer.handle_transport_error(Flow { transport, conn, listener, ..self.flow }, now);
            }
            other => panic!("no such verb: {other}"),
        }
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.layer.poll_transmit() {
            let msg = parse(transmit.bytes.clone());
            let method = String::from_utf8(msg.method_bytes().to_vec()).unwrap();
            let what = if msg.is_request() { method.clone() } else { format!("{} {method}", msg.status()) };
            let other_way = if transmit.flow.transport != self.flow.transport {
                format!(" {}", transmit.flow.transport.param_token())
            } else if transmit.flow.remote != self.flow.remote {
                format!(" port={}", transmit.flow.remote.port())
            } else {
                String::new()
            };
            self.seen.push_back((self.now, format!("send {what}{other_way}")));
            if msg.is_request() {
                self.sent.insert(method, msg);
            }
            self.wire.push(transmit);
        }
        while let Some(event) = self.layer.poll_event() {
            let what = match event {
                Event::Request { id, msg, .. } => {
                    self.id = Some(id);
                    format!("Request {}", String::from_utf8_lossy(msg.method_bytes()))
                }
                Event::Ack { .. } => "Ack".to_owned(),
                Event::Cancelled { id, reason, .. } => {
                    assert_eq!(Some(id), self.id);
                    format!("Cancelled {}", reason.unwrap_or_default()).trim_end().to_owned()
                }
                Event::Response { key, msg, .. } => {
                    assert_eq!(key, ClientKey { owner: 1, seq: self.asked });
                    format!("Response {}", msg.status())
                }
                Event::Timeout { .. } => "Timeout".to_owned(),
                Event::TransportError { .. } => "TransportError".to_owned(),
                Event::NoAck { .. } => "NoAck".to_owned(),
                Event::Unanswered { .. } => "Unanswered".to_owned(),
            };
            self.seen.push_back((self.now, format!("tell {what}")));
        }
    }

    /// The last transmit, parsed.
    pub(super) fn last_sent(&self) -> Message {
        parse(self.wire.last().expect("something was sent").bytes.clone())
    }
}

/// A request of ours with `padding` bytes of body.
pub(super) fn draft(method: &str, padding: usize) -> RequestDraft {
    let mut headers = HeaderText::new();
    headers.push("Max-Forwards", "70");
    headers.push("Route", "<sip:proxy.example.com;lr>");
    headers.push("From", "<sip:bob@example.com>;tag=ours");
    headers.push("To", "<sip:alice@example.com>");
    headers.push("Call-ID", "call-out");
    headers.push("CSeq", format!("7 {method}"));
    headers.push("Contact", "<sip:bob@192.0.2.1>");
    let method = request(Transport::Udp, &[method]).method();
    RequestDraft {
        method,
        uri: "sip:alice@example.com".to_owned(),
        headers,
        body: vec![b'x'; padding].into(),
    }
}

/// A request from the wire: the method, then what differs from the usual.
pub(super) fn request(transport: Transport, words: &[&str]) -> Message {
    let option = |name: &str, usual: &str| {
        let found = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or(usual).to_owned()
    };
    let method = words[0];
    let to_tag = match option("to", "").as_str() {
        "" => String::new(),
        tag => format!(";tag={tag}"),
    };
    let rport = if option("rport", "yes") == "no" { "" } else { ";rport" };
    let branch = match option("branch", "z9hG4bK-1").as_str() {
        "none" => String::new(),
        branch => format!(";branch={branch}"),
    };
    let reason = match option("reason", "").as_str() {
        "" => String::new(),
        reason => format!("Reason: {reason}\r\n"),
    };
    let text = format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{via} {sent_by}{rport}{branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.com>;tag={from}\r\nTo: <sip:bob@example.com>{to_tag}\r\nCall-ID: {call}\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:alice@198.51.100.2>\r\n{reason}Content-Length: 0\r\n\r\n",
        uri = option("uri", "sip:bob@example.com"),
        via = transport.via_token(),
        sent_by = option("sent-by", "198.51.100.2:5070"),
        from = option("from", "theirs"),
        call = option("call", "call-in"),
        cseq = option("cseq", "1"),
    );
    parse(text.into())
}

/// A message that has to be correct.
pub(super) fn parse(bytes: Bytes) -> Message {
    let msg = Message::parse(bytes.clone()).unwrap_or_else(|_| panic!("not SIP: {bytes:?}"));
    if let Err(defect) = msg.validate() {
        panic!("{defect:?} in {bytes:?}");
    }
    msg
}

#[test]
fn the_bench_writes_what_it_is_asked_for() {
    let msg = request(Transport::Tcp, &["BYE", "to=x", "cseq=4", "branch=old"]);
    assert_eq!(msg.method(), Method::Bye);
    assert_eq!(msg.to_tag(), Some(b"x".as_slice()));
    assert_eq!(msg.header(HeaderId::CSeq), Some(b"4 BYE".as_slice()));
    assert_eq!(msg.via().unwrap().branch(), Some("old"));
}
