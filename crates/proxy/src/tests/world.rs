//! The world of the tests: a proxy, its log, its application server, and telephones.

use crate::net::sim::{SimNet, SimPort, Weather};
use crate::{BindingChange, BindingLog, Deps, Durable, Listener, Network, Proxy, ProxyConfig};
use arc_swap::ArcSwap;
use bytes::Bytes;
use cluster::between::Title;
use cluster::ids::{CallId, LegId};
use cluster::leg::{Calls, Incoming, LegEvent, Legs, Originate};
use model::{BindingRecord, Configuration, Snapshot};
use parking_lot::Mutex;
use routing::Router;
use sip::digest::{Challenge, Login, answer};
use sip::flow::Transport;
use sip::msg::{HeaderId, Message};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

pub(super) const DOMAIN: &str = "users.democlient.com";
/// Unix time at the start of a world, in seconds.
pub(super) const UNIX: u64 = 1_800_000_000;
/// The proxy's address on the simulated network.
pub(super) const PROXY: &str = "192.0.2.1:5060";

/// A log whose disk is quick, slow or broken.
#[derive(Default)]
pub(super) struct FakeLog {
    pub(super) changes: Mutex<Vec<BindingChange>>,
    pub(super) broken: Mutex<bool>,
    /// Acknowledgements are kept here while it is `Some`.
    pub(super) held: Mutex<Option<Vec<Durable>>>,
}

impl BindingLog for FakeLog {
    fn append(&self, change: BindingChange, done: Durable) {
        self.changes.lock().push(change);
        match &mut *self.held.lock() {
            Some(held) => held.push(done),
            None => done(!*self.broken.lock()),
        }
    }
}

impl FakeLog {
    /// What is bound after all changes.
    pub(super) fn bindings(&self) -> Vec<BindingRecord> {
        let mut bound = BTreeMap::new();
        for change in self.changes.lock().iter() {
            match change.clone() {
                BindingChange::Bind(record) => {
                    drop(bound.insert((record.aor, record.contact.clone()), record))
                }
                BindingChange::Unbind { aor, contact } => drop(bound.remove(&(aor, contact))),
            }
        }
        bound.into_values().collect()
    }
}

/// What an application server hears.
#[derive(Debug)]
pub(super) enum Heard {
    Incoming(Box<Incoming>),
    Event(LegId, LegEvent),
    Lost(LegId),
    /// It would go to another proxy.
    Leaves(LegId),
}

/// An application server that hands everything to the test.
pub(super) struct FakeCalls {
    pub(super) heard: mpsc::UnboundedSender<Heard>,
    pub(super) open: Mutex<bool>,
    /// What it was told of dialogs.
    pub(super) states: Mutex<Vec<(CallId, LegId, Bytes)>>,
}

impl Calls for FakeCalls {
    fn incoming(&self, incoming: Incoming) -> bool {
        let _ = self.heard.send(Heard::Incoming(Box::new(incoming)));
        *self.open.lock()
    }

    fn event(&self, _: CallId, leg: LegId, event: LegEvent) {
        let _ = self.heard.send(Heard::Event(leg, event));
    }

    fn leg_lost(&self, _: CallId, leg: LegId) {
        let _ = self.heard.send(Heard::Lost(leg));
    }

    fn leg_state(&self, call: CallId, leg: LegId, state: Bytes) {
        self.states.lock().push((call, leg, state));
    }

    fn stray(&self, _: CallId, _: LegId) -> bool {
        true // the test gives the answer
    }

    fn leg_leaves(&self, _: CallId, leg: LegId) {
        let _ = self.heard.send(Heard::Leaves(leg));
    }
}

/// Makes a leg, as a call of epoch 0.
pub(super) fn originate(proxy: &Proxy, order: Originate) -> (LegId, String) {
    let title = Title { call: order.call, epoch: 0 };
    Legs::originate(proxy, title, order).expect("a proxy reaches itself")
}

pub(super) struct World {
    pub(super) net: SimNet,
    pub(super) proxy: Arc<Proxy>,
    pub(super) log: Arc<FakeLog>,
    pub(super) calls: Arc<FakeCalls>,
    pub(super) heard: mpsc::UnboundedReceiver<Heard>,
    /// Telephones that have called, each from a port of its own.
    pub(super) callers: u16,
}

impl World {
    pub(super) async fn new() -> World {
        World::with(|_| {}).await
    }

    /// A world whose configuration is changed first.
    pub(super) async fn with(change: impl FnOnce(&mut ProxyConfig)) -> World {
        World::restarted(change, &FakeLog::default()).await
    }

    /// A world whose log holds what another one left.
    pub(super) async fn restarted(change: impl FnOnce(&mut ProxyConfig), before: &FakeLog) -> World {
        World::made(change, before, Configuration::demo()).await
    }

    pub(super) async fn made(
        change: impl FnOnce(&mut ProxyConfig),
        before: &FakeLog,
        configuration: Configuration,
    ) -> World {
        let net = SimNet::new(7, Weather::default());
        let mut config = ProxyConfig {
            listeners: vec![Listener::new(Transport::Udp, PROXY.parse().unwrap())],
            workers: 1,
            nat_ping: Duration::ZERO,
            ..ProxyConfig::default()
        };
        change(&mut config);
        let log =
            Arc::new(FakeLog { changes: Mutex::new(before.changes.lock().clone()), ..FakeLog::default() });
        let deps = Deps {
            router: Arc::new(ArcSwap::from_pointee(Router::new(Snapshot::build(&configuration).unwrap()))),
            log: Arc::clone(&log) as Arc<dyn BindingLog>,
            bindings: log.bindings(),
            network: Network::Sim(net.clone()),
            unix_time: Some(Duration::from_secs(UNIX)),
            // Another run draws other keys.
            seed: Some([7 + before.changes.lock().len().min(100) as u8; 32]),
            tap: None,
        };
        let proxy = Proxy::start(config, deps).await.unwrap();
        let (sender, heard) = mpsc::unbounded_channel();
        let calls = Arc::new(FakeCalls { heard: sender, open: Mutex::new(true), states: Mutex::default() });
        proxy.set_calls(Arc::clone(&calls) as Arc<dyn Calls>);
        World { net, proxy, log, calls, heard, callers: 0 }
    }

    pub(super) fn phone(&self, name: &str, addr: &str) -> Phone {
        Phone::new(self.net.bind(addr.parse().unwrap()), name)
    }

    pub(super) async fn hear(&mut self) -> Heard {
        tokio::time::timeout(Duration::from_secs(3600), self.heard.recv())
            .await
            .expect("heard nothing")
            .unwrap()
    }

    /// The next thing heard, which must be an INVITE.
    pub(super) async fn hear_incoming(&mut self) -> Incoming {
        match self.hear().await {
            Heard::Incoming(incoming) => *incoming,
            other => panic!("expected an INVITE, heard {other:?}"),
        }
    }

    pub(super) async fn hear_event(&mut self) -> (LegId, LegEvent) {
        match self.hear().await {
            Heard::Event(leg, event) => (leg, event),
            other => panic!("expected an event, heard {other:?}"),
        }
    }

    /// Open transactions, once all tasks have had their turn.
    pub(super) async fn open_transactions(&self) -> usize {
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.proxy.stats().transactions.iter().sum()
    }
}

/// A telephone that says exactly what the test wants.
pub(super) struct Phone {
    pub(super) port: SimPort,
    pub(super) name: String,
    pub(super) password: String,
    pub(super) domain: String,
    pub(super) call_id: String,
    pub(super) cseq: u32,
    /// The proxy's socket that it talks to.
    pub(super) server: SocketAddr,
    branch: u32,
    nonce_count: u32,
}

impl Phone {
    pub(super) fn new(port: SimPort, name: &str) -> Phone {
        Phone {
            call_id: format!("call-{}", port.local_addr()),
            server: PROXY.parse().unwrap(),
            port,
            name: name.to_owned(),
            password: name.to_owned(),
            domain: DOMAIN.to_owned(),
            cseq: 0,
            branch: 0,
            nonce_count: 0,
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.port.local_addr()
    }

    pub(super) fn send(&self, text: impl Into<Bytes>) {
        self.port.send_to(text.into(), self.server);
    }

    /// The next message, parsed and valid.
    pub(super) async fn recv(&mut self) -> Message {
        let (bytes, from) =
            tokio::time::timeout(Duration::from_secs(3600), self.port.recv()).await.expect("silence");
        assert_eq!(from, self.server);
        let msg = Message::parse(bytes.clone()).unwrap();
        msg.validate().unwrap_or_else(|defect| panic!("{defect:?} in {}", String::from_utf8_lossy(&bytes)));
        msg
    }

    /// Nothing comes within a time in which something would.
    pub(super) async fn hears_nothing(&mut self) -> bool {
        tokio::time::timeout(Duration::from_secs(1), self.port.recv()).await.is_err()
    }

    /// A request outside of any dialog. `uri` and To differ for calls; `lines` are more headers, `body` is SDP.
    pub(super) fn request(&mut self, method: &str, uri: &str, to: &str, lines: &str, body: &str) -> String {
        self.cseq += 1;
        self.branch += 1;
        let Phone { name, domain, call_id, cseq, branch, .. } = self;
        let addr = self.port.local_addr();
        let typed = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {addr};rport;branch=z9hG4bK{branch}-{call_id}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{name}@{domain}>;tag=from\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\n{lines}{typed}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// A REGISTER without credentials.
    pub(super) fn register_text(&mut self, lines: &str) -> String {
        let (uri, to) = (format!("sip:{}", self.domain), format!("<sip:{}@{}>", self.name, self.domain));
        self.request("REGISTER", &uri, &to, lines, "")
    }

    pub(super) fn contact(&self) -> String {
        format!("Contact: <sip:{}@{}>\r\n", self.name, self.addr())
    }

    /// The header that answers a challenge.
    pub(super) fn credentials(&mut self, challenge: &Message, method: &str, uri: &str) -> String {
        let (from, name) = match challenge.status() {
            401 => (HeaderId::WwwAuthenticate, "Authorization"),
            407 => (HeaderId::ProxyAuthenticate, "Proxy-Authorization"),
            other => panic!("{other} is no challenge"),
        };
        let challenge = Challenge::parse(challenge.lines(from).next().unwrap()).unwrap();
        self.nonce_count += 1;
        let login = Login::new(&self.name, &self.password);
        format!("{name}: {}\r\n", answer(&challenge, &login, method, uri, b"", 1, "cnonce"))
    }

    /// REGISTER, the challenge, REGISTER with credentials: the final answer.
    pub(super) async fn register(&mut self, lines: &str) -> Message {
        let first = self.register_text(lines);
        self.send(first);
        let challenge = self.recv().await;
        assert_eq!(challenge.status(), 401);
        let uri = format!("sip:{}", self.domain);
        let credentials = self.credentials(&challenge, "REGISTER", &uri);
        let second = self.register_text(&format!("{lines}{credentials}"));
        self.send(second);
        self.recv().await
    }

    /// INVITE, the challenge and its ACK, INVITE with credentials. The INVITE that counts is returned.
    pub(super) async fn invite(&mut self, number: &str, lines: &str, body: &str) -> Message {
        let uri = format!("sip:{number}@{}", self.domain);
        let to = format!("<{uri}>");
        let contact = self.contact();
        let first = self.request("INVITE", &uri, &to, &format!("{contact}{lines}"), body);
        self.send(first.clone());
        let challenge = self.recv().await;
        assert_eq!(challenge.status(), 407);
        self.send(sip::draft::ack_for_failure(&parse(&first), &challenge));
        let credentials = self.credentials(&challenge, "INVITE", &uri);
        let second = self.request("INVITE", &uri, &to, &format!("{contact}{lines}{credentials}"), body);
        self.send(second.clone());
        parse(&second)
    }

    /// A request inside the dialog that `response` to our INVITE made.
    pub(super) fn in_dialog(&mut self, method: &str, response: &Message, lines: &str, body: &str) -> String {
        let target = response.contact().unwrap().unwrap();
        let uri = String::from_utf8_lossy(target.uri_raw).into_owned();
        let to = String::from_utf8_lossy(response.header(HeaderId::To).unwrap()).into_owned();
        if method == "ACK" {
            self.cseq -= 1;
        }
        self.request(method, &uri, &to, lines, body)
    }

    /// A response to a request of the proxy, with our tag and Contact.
    pub(super) fn answer(&self, request: &Message, status: u16, body: &str) -> Bytes {
        let mut draft = sip::draft::ResponseDraft::new(status);
        draft.to_tag = Some("callee".to_owned());
        draft.headers.push_fmt("Contact", format_args!("<sip:{}@{}>", self.name, self.addr()));
        if !body.is_empty() {
            draft.headers.push("Content-Type", "application/sdp");
        }
        draft.body = Bytes::copy_from_slice(body.as_bytes());
        sip::draft::serialize_response(request, PROXY.parse().unwrap(), &draft)
    }
}

pub(super) fn parse(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

/// An SDP body that needs no more than being one.
pub(super) const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

/// The first line and the headers that may differ between two answers without telling anything, taken away.
pub(super) fn shape(msg: &Message) -> String {
    let text = String::from_utf8_lossy(msg.raw()).into_owned();
    let lines = text.lines().map(|line| {
        let line = match line.split_once("nonce=\"") {
            Some((before, after)) => {
                let rest = after.split_once('"').map_or("", |(_, rest)| rest);
                format!("{before}nonce={rest}")
            }
            None => line.to_owned(),
        };
        match line.split_once(';').filter(|_| line.starts_with("To:") || line.starts_with("Via:")) {
            Some((before, _)) => before.to_owned(),
            None => line,
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}
