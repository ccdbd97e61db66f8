//! A SIP endpoint that sends exactly what a test writes and tells exactly what comes: for what SIPp cannot say.
//!
//! In: texts of messages. Out: messages received, strictly in order; whatever a test does not expect fails it. It repeats
//! nothing of its own accord. Elsewhere: whole calls made of it (`call`), audio (`rtp`).

use crate::node::Node;
use crate::{DOMAIN, PATIENCE};
use bytes::Bytes;
use sip::digest::{Client, Login};
use sip::framing::{Frame, Framer};
use sip::msg::{HeaderId, Message};
use socket2::{Domain, SockRef, Socket, Type};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lines of the trace that a failure shows.
const TRACE_SHOWN: usize = 200;

/// A number that this process never used before.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream, Box<Framer>),
}

/// One device of a user.
pub struct Endpoint {
    /// User part and digest user name.
    pub name: String,
    wire: Wire,
    node: SocketAddr,
    local: SocketAddr,
    login: Client,
    /// User name and password.
    account: (String, String),
    /// Messages seen, so that repeats are known as such.
    seen: HashSet<Bytes>,
    /// Received and put back.
    pending: Option<Message>,
    trace: String,
}

/// An INVITE that was sent.
#[derive(Clone, Debug)]
pub struct Invite {
    /// Request-URI.
    pub uri: String,
    /// Via value.
    pub via: String,
    /// Call-ID.
    pub call_id: String,
    /// From value, with tag.
    pub from: String,
    /// To value as sent.
    pub to: String,
    /// CSeq number.
    pub cseq: u32,
}

/// A dialog as one side knows it.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: String,
    /// Own From or To value with tag.
    pub local: String,
    /// The peer's.
    pub remote: String,
    /// The peer's Contact URI.
    pub target: String,
    /// Number of the last request sent.
    pub cseq: u32,
}

impl Endpoint {
    /// A device at host part `host` that speaks UDP; its password is its name.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn udp(node: &Node, host: u8, name: &str) -> Endpoint {
        Self::udp_at(node, node.place().sip(host), name)
    }

    /// The same on any address.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn udp_at(node: &Node, local: SocketAddr, name: &str) -> Endpoint {
        Self::udp_to(node.sip(), local, name)
    }

    /// The same for another listener of the node than its usual one.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn udp_to(node: SocketAddr, local: SocketAddr, name: &str) -> Endpoint {
        // A process that another test starts just now holds copies of our sockets, closed ones too, until it is its own.
        let end = Instant::now() + PATIENCE;
        let socket = loop {
            match UdpSocket::bind(local) {
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                bound => break bound.expect("the place is ours alone"),
            }
        };
        let local = socket.local_addr().expect("it is bound");
        Self::new(Wire::Udp(socket), node, local, name)
    }

    /// A device at host part `host` that speaks over one TCP connection.
    ///
    /// # Panics
    /// When the node does not take the connection.
    pub fn tcp(node: &Node, host: u8, name: &str) -> Endpoint {
        Self::tcp_to(node.sip(), node.place().ip(host), name)
    }

    /// The same for any listener.
    ///
    /// # Panics
    /// When the node does not take the connection.
    pub fn tcp_to(node: SocketAddr, from: IpAddr, name: &str) -> Endpoint {
        let stream = connect(from, node).expect("the node takes connections");
        let local = stream.local_addr().expect("it is connected");
        Self::new(Wire::Tcp(stream, Box::new(Framer::new())), node, local, name)
    }

    /// The same device on the connection that the node opens to its TCP port.
    ///
    /// # Panics
    /// When the node opens none.
    pub fn taking(&self, listener: &TcpListener) -> Endpoint {
        let patient = SockRef::from(listener).set_read_timeout(Some(PATIENCE));
        patient.expect("a time-out above zero"); // Linux keeps to it in accept, too
        let Ok((stream, from)) = listener.accept() else { self.fail("the node opens no connection") };
        assert_eq!(from.ip(), self.node.ip(), "it is opened from the listener's own address");
        Self::new(Wire::Tcp(stream, Box::new(Framer::new())), self.node, self.local, &self.name)
    }

    fn new(wire: Wire, node: SocketAddr, local: SocketAddr, name: &str) -> Endpoint {
        Endpoint {
            name: name.to_owned(),
            wire,
            node,
            local,
            login: Self::login(name, name),
            account: (name.to_owned(), name.to_owned()),
            seen: HashSet::new(),
            pending: None,
            trace: String::new(),
        }
    }

    fn login(name: &str, password: &str) -> Client {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&unique().to_be_bytes());
        Client::new(Login::new(name, password), seed)
    }

    /// Uses another password, or user name, from now on.
    #[must_use]
    pub fn with_login(mut self, name: &str, password: &str) -> Self {
        self.login = Self::login(name, password);
        self.account = (name.to_owned(), password.to_owned());
        self
    }

    /// Speaks UDP to another address of the platform from now on, as a telephone does whose first one does not answer. That one's password
    /// challenges are another's.
    pub fn turn_to(&mut self, node: SocketAddr) {
        self.node = node;
        self.login = Self::login(&self.account.0, &self.account.1);
    }

    /// Its own address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Its own IP address.
    pub fn ip(&self) -> IpAddr {
        self.local.ip()
    }

    fn transport(&self) -> &'static str {
        match self.wire {
            Wire::Udp(_) => "UDP",
            Wire::Tcp(..) => "TCP",
        }
    }

    /// Its Contact URI.
    pub fn contact(&self) -> String {
        match self.wire {
            Wire::Udp(_) => format!("sip:{}@{}", self.name, self.local),
            Wire::Tcp(..) => format!("sip:{}@{};transport=tcp", self.name, self.local),
        }
    }

    /// A fresh Via value.
    pub fn via(&self) -> String {
        format!("SIP/2.0/{} {};branch=z9hG4bK{:x}-{}", self.transport(), self.local, unique(), self.name)
    }

    // --- the wire ---

    /// Sends octets as they are.
    ///
    /// # Panics
    /// When the wire is broken.
    pub fn send(&mut self, octets: impl AsRef<[u8]>) {
        let octets = octets.as_ref();
        self.note(">", octets);
        let sent = match &mut self.wire {
            Wire::Udp(socket) => socket.send_to(octets, self.node).map(|_| ()),
            Wire::Tcp(stream, _) => stream.write_all(octets),
        };
        if let Err(error) = sent {
            self.fail(&format!("cannot send: {error}"));
        }
    }

    /// The next message, repeats included; `None` when none comes in time, or the connection is closed.
    pub fn next(&mut self, patience: Duration) -> Option<Message> {
        if let Some(message) = self.pending.take() {
            return Some(message);
        }
        let deadline = Instant::now() + patience;
        let octets = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            match &mut self.wire {
                Wire::Udp(socket) => {
                    let mut buffer = vec![0; 65_536];
                    socket.set_read_timeout(Some(left)).expect("a time-out above zero");
                    match socket.recv_from(&mut buffer) {
                        Ok((length, from)) if from == self.node => {
                            break Bytes::copy_from_slice(&buffer[..length]);
                        }
                        Ok((_, from)) => {
                            self.fail(&format!("a message from {from} instead of {}", self.node))
                        }
                        Err(error) if is_timeout(&error) => {}
                        // An earlier message met a closed port; what comes next is another matter.
                        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                        Err(error) => self.fail(&format!("cannot receive: {error}")),
                    }
                }
                Wire::Tcp(_, framer) => {
                    match framer.next() {
                        Ok(Some(Frame::Message(message))) => break message,
                        Ok(Some(Frame::Ping | Frame::Pong)) => continue,
                        Ok(None) => {}
                        Err(error) => self.fail(&format!("the node's stream makes no sense: {error}")),
                    }
                    let Wire::Tcp(stream, framer) = &mut self.wire else { return None };
                    let mut buffer = vec![0; 65_536];
                    stream.set_read_timeout(Some(left)).expect("a time-out above zero");
                    match stream.read(&mut buffer) {
                        Ok(0) => return None,
                        Ok(length) => framer.push(&buffer[..length]),
                        Err(error) if is_timeout(&error) => {}
                        Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                        Err(error) => self.fail(&format!("cannot receive: {error}")),
                    }
                }
            }
        };
        self.note("<", &octets);
        match Message::parse(octets) {
            Ok(message) => Some(message),
            Err(error) => self.fail(&format!("the node sends what is no message: {error}")),
        }
    }

    /// The next message that is neither a repeat nor a 100.
    pub fn fresh(&mut self, patience: Duration) -> Option<Message> {
        let deadline = Instant::now() + patience;
        loop {
            let message = self.next(deadline.saturating_duration_since(Instant::now()))?;
            if self.seen.insert(message.raw().clone()) && message.status() != 100 {
                return Some(message);
            }
        }
    }

    /// The next new message, which must be `METHOD` or `STATUS METHOD`.
    ///
    /// # Panics
    /// When it is another one, or none comes.
    pub fn expect(&mut self, what: &str) -> Message {
        self.expect_of(&[what])
    }

    /// The next new message, which must be one of these.
    ///
    /// # Panics
    /// When it is another one, or none comes.
    pub fn expect_of(&mut self, what: &[&str]) -> Message {
        match self.fresh(PATIENCE) {
            Some(message) if what.contains(&name_of(&message).as_str()) => message,
            Some(message) => self.fail(&format!("expected {what:?}, got {}", name_of(&message))),
            None => self.fail(&format!("waited in vain for {what:?}")),
        }
    }

    /// The next message that says `what`, a repeat of an earlier one.
    ///
    /// # Panics
    /// When it is another one, or none comes.
    pub fn expect_repeat(&mut self, what: &str) -> Message {
        loop {
            match self.next(PATIENCE) {
                Some(message) if message.status() == 100 => {}
                Some(message) if name_of(&message) == what && self.seen.contains(message.raw()) => {
                    return message;
                }
                Some(message) => self.fail(&format!("expected {what} again, got {}", name_of(&message))),
                None => self.fail(&format!("waited in vain for {what} again")),
            }
        }
    }

    /// Fails the test with this endpoint's trace.
    ///
    /// # Panics
    /// Always.
    pub fn fail(&self, why: &str) -> ! {
        let lines: Vec<&str> = self.trace.lines().collect();
        let shown = lines[lines.len().saturating_sub(TRACE_SHOWN)..].join("\n");
        panic!("{}: {why}\n{shown}", self.name);
    }

    fn note(&mut self, direction: &str, octets: &[u8]) {
        let text = String::from_utf8_lossy(octets);
        for line in text.trim_end().lines().take(60) {
            let _ = writeln!(
                self.trace,
                "{} {direction} {}",
                self.name,
                line.chars().take(200).collect::<String>()
            );
        }
        let _ = writeln!(self.trace);
    }

    // --- requests outside of dialogs ---

    /// Sends a request and answers its challenge; the final response. `headers`: whole lines.
    ///
    /// # Panics
    /// When none comes.
    pub fn ask(&mut self, method: &str, uri: &str, from: &str, to: &str, headers: &str) -> Message {
        let call_id = format!("{}-{}", self.name, unique());
        self.ask_in(method, uri, from, to, headers, &call_id, 1)
    }

    /// The same under a given Call-ID and from a given CSeq number on.
    ///
    /// # Panics
    /// When no answer comes.
    #[expect(clippy::too_many_arguments, reason = "each is one line of the request")]
    pub fn ask_in(
        &mut self,
        method: &str,
        uri: &str,
        from: &str,
        to: &str,
        headers: &str,
        call_id: &str,
        cseq: u32,
    ) -> Message {
        let tag = unique();
        for cseq in cseq..cseq + 3 {
            let credentials = self.credentials(method, uri);
            let via = self.via();
            self.send(format!(
                "{method} {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {from};tag={tag}\r\nTo: {to}\r\n\
                 Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{headers}{credentials}Content-Length: 0\r\n\r\n"
            ));
            let response = loop {
                match self.fresh(PATIENCE) {
                    Some(message) if message.status() >= 200 => break message,
                    Some(message) if message.status() > 100 => {}
                    Some(message) => self.fail(&format!("expected an answer, got {}", name_of(&message))),
                    None => self.fail(&format!("no answer to {method}")),
                }
            };
            if !self.challenged(&response) {
                return response;
            }
        }
        self.fail("challenged again and again")
    }

    /// Takes a challenge; `false` when the response is none that can be answered.
    pub fn challenged(&mut self, response: &Message) -> bool {
        let (proxy, header) = match response.status() {
            401 => (false, HeaderId::WwwAuthenticate),
            407 => (true, HeaderId::ProxyAuthenticate),
            _ => {
                self.login.accepted();
                return false;
            }
        };
        self.login.challenged(proxy, response.lines(header)).is_ok()
    }

    /// Header lines with the credentials for a request, none before the first challenge.
    pub fn credentials(&mut self, method: &str, uri: &str) -> String {
        let lines = self.login.headers(method, uri, b"");
        lines.into_iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
    }

    /// Its address-of-record.
    pub fn record(&self) -> String {
        format!("<sip:{}@{DOMAIN}>", self.name)
    }

    /// Registers its contact for so many seconds; the final response.
    pub fn try_register(&mut self, expires: u32) -> Message {
        let (record, contact) = (self.record(), self.contact());
        let headers = format!("Contact: <{contact}>\r\nExpires: {expires}\r\n");
        self.ask("REGISTER", &format!("sip:{DOMAIN}"), &record, &record, &headers)
    }

    /// Registers its contact.
    ///
    /// # Panics
    /// When that is refused.
    pub fn register(&mut self) {
        let response = self.try_register(300);
        if response.status() != 200 {
            self.fail("registration refused");
        }
    }

    // --- calls ---

    /// Sends an INVITE to a number of the demo's domain, challenges answered; the response comes later.
    ///
    /// # Panics
    /// When the challenge does not come.
    pub fn invite(&mut self, number: &str, headers: &str, body: &str) -> Invite {
        let from = format!("{};tag={}", self.record(), unique());
        self.invite_as(number, &from, headers, body)
    }

    /// The same with a From value, tag included, of the test's choice.
    ///
    /// # Panics
    /// When the challenge does not come.
    pub fn invite_as(&mut self, number: &str, from: &str, headers: &str, body: &str) -> Invite {
        let mut invite = Invite {
            uri: format!("sip:{number}@{DOMAIN}"),
            via: self.via(),
            call_id: format!("{}-{}", self.name, unique()),
            from: from.to_owned(),
            to: format!("<sip:{number}@{DOMAIN}>"),
            cseq: 1,
        };
        self.send_invite(&invite, headers, body);
        // Credentials of an earlier request may still be good; whatever comes first tells.
        let Some(first) = self.next(PATIENCE) else { self.fail("no answer to INVITE") };
        if first.status() != 407 {
            self.pending = Some(first);
            return invite;
        }
        self.ack_failure(&invite, &first);
        if !self.challenged(&first) {
            self.fail("the challenge cannot be answered");
        }
        invite.cseq = 2;
        invite.via = self.via();
        self.send_invite(&invite, headers, body);
        invite
    }

    fn send_invite(&mut self, invite: &Invite, headers: &str, body: &str) {
        let credentials = self.credentials("INVITE", &invite.uri);
        let Invite { uri, via, call_id, from, to, cseq } = invite;
        let contact = self.contact();
        let body = with_type(body);
        self.send(format!(
            "INVITE {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} INVITE\r\nContact: <{contact}>\r\n{headers}{credentials}{body}"
        ));
    }

    /// ACK of a failure (RFC 3261 section 17.1.1.3).
    pub fn ack_failure(&mut self, invite: &Invite, response: &Message) {
        let Invite { uri, via, call_id, from, cseq, .. } = invite;
        let to = header(response, HeaderId::To);
        self.send(format!(
            "ACK {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} ACK\r\nContent-Length: 0\r\n\r\n"
        ));
    }

    /// Waits for a failure of the INVITE and acknowledges it.
    pub fn refused(&mut self, invite: &Invite, status: u16) -> Message {
        let response = self.expect(&format!("{status} INVITE"));
        self.ack_failure(invite, &response);
        response
    }

    /// CANCEL of an INVITE (RFC 3261 section 9.1).
    pub fn cancel(&mut self, invite: &Invite) {
        let Invite { uri, via, call_id, from, to, cseq } = invite;
        self.send(format!(
            "CANCEL {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} CANCEL\r\nContent-Length: 0\r\n\r\n"
        ));
    }

    /// A response to a request. `tag` goes into To unless there is one.
    pub fn respond(&mut self, request: &Message, status: u16, tag: &str, headers: &str, body: &str) {
        let mut text = format!("SIP/2.0 {status} {}\r\n", sip::draft::reason_phrase(status));
        for via in request.lines(HeaderId::Via) {
            let _ = writeln!(text, "Via: {}\r", String::from_utf8_lossy(via));
        }
        let mut to = header(request, HeaderId::To);
        if request.to_tag().is_none() && !tag.is_empty() {
            let _ = write!(to, ";tag={tag}");
        }
        let _ = write!(
            text,
            "From: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\nContact: <{}>\r\n{headers}{}",
            header(request, HeaderId::From),
            header(request, HeaderId::CallId),
            header(request, HeaderId::CSeq),
            self.contact(),
            with_type(body),
        );
        self.send(text);
    }

    /// Sends a request inside a dialog with the next CSeq; its Via value.
    pub fn in_dialog(&mut self, dialog: &mut Dialog, method: &str, headers: &str, body: &str) -> String {
        dialog.cseq += 1;
        let cseq = dialog.cseq;
        let via = self.via();
        self.send_in_dialog(dialog, method, cseq, &via, headers, body);
        via
    }

    /// ACK of a 2xx to the INVITE with this CSeq number.
    pub fn ack(&mut self, dialog: &Dialog, cseq: u32, body: &str) {
        let via = self.via();
        self.send_in_dialog(dialog, "ACK", cseq, &via, "", body);
    }

    fn send_in_dialog(
        &mut self,
        dialog: &Dialog,
        method: &str,
        cseq: u32,
        via: &str,
        headers: &str,
        body: &str,
    ) {
        let Dialog { call_id, local, remote, target, .. } = dialog;
        let contact = self.contact();
        let body = with_type(body);
        self.send(format!(
            "{method} {target} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {local}\r\nTo: {remote}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: <{contact}>\r\n{headers}{body}"
        ));
    }

    /// BYE, and its 200.
    pub fn hang_up(&mut self, dialog: &mut Dialog) {
        self.in_dialog(dialog, "BYE", "", "");
        self.expect("200 BYE");
    }

    /// Waits for BYE and answers it.
    pub fn hung_up(&mut self) -> Message {
        let bye = self.expect("BYE");
        self.respond(&bye, 200, "", "", "");
        bye
    }
}

impl Dialog {
    /// The caller's, from the 1xx or 2xx to its INVITE.
    ///
    /// # Panics
    /// When the response makes no dialog.
    pub fn of_caller(invite: &Invite, response: &Message) -> Dialog {
        Dialog {
            call_id: invite.call_id.clone(),
            local: invite.from.clone(),
            remote: header(response, HeaderId::To),
            target: target(response),
            cseq: invite.cseq,
        }
    }

    /// The callee's, from the INVITE and the tag of its answers.
    ///
    /// # Panics
    /// When the INVITE makes no dialog.
    pub fn of_callee(invite: &Message, tag: &str) -> Dialog {
        Dialog {
            call_id: header(invite, HeaderId::CallId),
            local: format!("{};tag={tag}", header(invite, HeaderId::To)),
            remote: header(invite, HeaderId::From),
            target: target(invite),
            cseq: 100,
        }
    }
}

/// A TCP connection from a given address.
///
/// # Errors
/// What the system says.
pub fn connect(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    Ok(socket.into())
}

/// `METHOD` of a request, `STATUS METHOD` of a response.
pub fn name_of(message: &Message) -> String {
    let method = String::from_utf8_lossy(message.method_bytes());
    if message.is_request() { method.into_owned() } else { format!("{} {method}", message.status()) }
}

/// The first value line of a header; empty when there is none.
pub fn header(message: &Message, id: HeaderId) -> String {
    message.header(id).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

/// Reason phrase of a response.
pub fn reason(message: &Message) -> String {
    String::from_utf8_lossy(message.reason()).into_owned()
}

/// Body as text.
pub fn body(message: &Message) -> String {
    String::from_utf8_lossy(&message.body()).into_owned()
}

/// The URI of a message's Contact.
///
/// # Panics
/// When there is none.
pub fn target(message: &Message) -> String {
    let contact = message.contact().ok().flatten().expect("the node's message has a Contact");
    String::from_utf8_lossy(contact.uri_raw).into_owned()
}

/// Content-Type, Content-Length and body: SDP, unless the body brings its own type as first line.
fn with_type(body: &str) -> String {
    if body.is_empty() {
        return "Content-Length: 0\r\n\r\n".to_owned();
    }
    let (kind, body) = match body.split_once("\r\n") {
        Some((first, rest)) if first.starts_with("Content-Type:") => (first, rest),
        _ => ("Content-Type: application/sdp", body),
    };
    format!("{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
