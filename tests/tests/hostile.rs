//! The listening sockets against bytes that nobody should send: the process lives on, stays small, answers no more than it
//! is sent, and serves the next caller.

use model::HungUpBy;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};
use system_tests::call::{establish, media_address, sdp};
use system_tests::endpoint::{Dialog, Endpoint, connect, name_of, unique};
use system_tests::hostile::Mutator;
use system_tests::node::{Node, Setup};
use system_tests::rtp::{RtpPort, Side, converse, greet};
use system_tests::{DOMAIN, PATIENCE};

/// Memory may grow by this much over a storm: buffers, tables that keep their room. Not by what the storm brought.
const GROWTH_MAX_KIB: u64 = 64 * 1024;
/// All answers to a storm of unauthenticated garbage, in relation to the garbage.
const AMPLIFICATION_MAX: f64 = 1.0;
/// The answer to one datagram, in relation to it; a challenge is longer than the shortest request.
const SINGLE_AMPLIFICATION_MAX: f64 = 3.0;

/// Messages to be spoiled, as they would come from `peer`.
fn valid_messages(peer: SocketAddr) -> Vec<Vec<u8>> {
    let sdp = sdp(peer.ip(), 30_000);
    let common = |method: &str, via: &str| {
        format!(
            "Via: SIP/2.0/{via} {peer};branch=z9hG4bK77;rport\r\nMax-Forwards: 70\r\nFrom: \"A\" <sip:alice@{DOMAIN}>;tag=1\r\n\
             To: <sip:102@{DOMAIN}>\r\nCall-ID: x1@{peer}\r\nCSeq: 1 {method}\r\nContact: <sip:alice@{peer}>\r\n"
        )
    };
    let request = |method: &str, more: &str, body: &str| {
        let length = body.len();
        format!(
            "{method} sip:102@{DOMAIN} SIP/2.0\r\n{}{more}Content-Length: {length}\r\n\r\n{body}",
            common(method, "UDP")
        )
    };
    let digest = "Authorization: Digest username=\"alice\", realm=\"users.democlient.com\", nonce=\"AAAAAAAA\", \
                  uri=\"sip:users.democlient.com\", response=\"0123456789abcdef0123456789abcdef\", algorithm=MD5, qop=auth, \
                  nc=00000001, cnonce=\"x\"\r\n";
    let multipart = "--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n";
    [
        request("INVITE", "Content-Type: application/sdp\r\n", &sdp),
        request("INVITE", "Content-Type: multipart/mixed;boundary=b\r\n", multipart),
        request("INVITE", &digest.replace("Authorization", "Proxy-Authorization"), ""),
        request("REGISTER", "Expires: 300\r\nPath: <sip:192.0.2.1;lr>\r\nSupported: path, outbound\r\n", ""),
        request("REGISTER", digest, ""),
        request("OPTIONS", "Accept: */*;q=0.5\r\nRoute: <sip:192.0.2.1;lr>, <sip:[2001:db8::1]>\r\n", ""),
        request("BYE", "Reason: SIP;cause=200;text=\"x\"\r\n", "").replacen(
            "102@users.democlient.com>",
            "102@x>;tag=l1.2",
            1,
        ),
        request("ACK", "", ""),
        request("CANCEL", "", ""),
        request("UPDATE", "Session-Expires: 90;refresher=uac\r\nMin-SE: 90\r\n", ""),
        request("PRACK", "RAck: 1 1 INVITE\r\n", ""),
        request("INFO", "Content-Type: application/dtmf-relay\r\n", "Signal=5\r\nDuration=160\r\n"),
        request("REFER", "Refer-To: <sip:a@b?Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D2>\r\n", ""),
        request("SUBSCRIBE", "Event: presence;id=1\r\n", ""),
        format!("SIP/2.0 200 OK\r\n{}Content-Length: 0\r\n\r\n", common("INVITE", "UDP")),
        format!(
            "SIP/2.0 401 No\r\n{}WWW-Authenticate: Digest realm=\"x\", nonce=\"y\"\r\n\r\n",
            common("REGISTER", "TCP")
        ),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// A stranger: sends what it likes, counts what comes back.
struct Stranger {
    socket: UdpSocket,
    node: SocketAddr,
    /// Octets of all answers but those to its own questions whether the node lives.
    answered: usize,
}

impl Stranger {
    fn new(node: &Node, host: u8) -> Stranger {
        let socket = UdpSocket::bind(node.place().sip(host)).expect("loopback works");
        Stranger { socket, node: node.sip(), answered: 0 }
    }

    fn send(&self, octets: &[u8]) {
        self.socket.send_to(octets, self.node).expect("loopback works");
    }

    /// Asks OPTIONS until the answer comes: all that was sent before has been taken, or thrown away, by then.
    fn is_served(&mut self) {
        let id = format!("alive{}", unique());
        let own = self.socket.local_addr().expect("loopback works");
        let question = format!(
            "OPTIONS sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{id}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@{DOMAIN}>;tag=1\r\nTo: <sip:{DOMAIN}>\r\nCall-ID: {id}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        let deadline = Instant::now() + PATIENCE;
        self.socket.set_read_timeout(Some(Duration::from_millis(200))).expect("loopback works");
        let mut buffer = vec![0; 65_536];
        let mut asked = false;
        while Instant::now() < deadline {
            if !asked {
                self.send(question.as_bytes());
                asked = true;
            }
            match self.socket.recv(&mut buffer) {
                Ok(length) if buffer[..length].windows(id.len()).any(|part| part == id.as_bytes()) => return,
                Ok(length) => self.answered += length,
                Err(_) => asked = false, // its queue was full
            }
        }
        panic!("the node answers no more");
    }

    /// Counts what still comes when nothing is sent.
    fn listen(&mut self, silence: Duration) {
        self.socket.set_read_timeout(Some(silence)).expect("loopback works");
        let mut buffer = vec![0; 65_536];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.answered += length;
        }
    }
}

/// A call between two phones on their usual addresses works, and its record is the only one.
fn a_call_works(node: &mut Node) {
    let mut alice = Endpoint::udp(node, 2, "alice");
    let mut bob = Endpoint::udp(node, 3, "bob");
    bob.register();
    let mut call = establish(&mut alice, &mut bob);
    alice.in_dialog(&mut call.caller, "BYE", "", "");
    bob.hung_up();
    alice.expect("200 BYE");
}

#[test]
fn a_storm_of_datagrams_is_survived() {
    const DATAGRAMS: usize = 120_000;
    const BETWEEN_QUESTIONS: usize = 40; // fewer octets than a socket's queue holds
    let mut node = Node::start();
    let mut stranger = Stranger::new(&node, 4);
    let mut mutator = Mutator::new(1, valid_messages(node.place().sip(4)));
    let (mut sent, mut before) = (0, 0);
    for number in 0..DATAGRAMS {
        let datagram = mutator.datagram();
        sent += datagram.len();
        stranger.send(&datagram);
        if number % BETWEEN_QUESTIONS == 0 {
            stranger.is_served();
        }
        if number == DATAGRAMS / 10 {
            before = node.resident_kib();
        }
    }
    stranger.is_served();
    stranger.listen(Duration::from_secs(1));
    let grown = node.resident_kib().saturating_sub(before);
    assert!(grown <= GROWTH_MAX_KIB, "resident memory grew by {grown} KiB from {before} KiB");
    let factor = stranger.answered as f64 / sent as f64;
    assert!(factor <= AMPLIFICATION_MAX, "{} octets in answer to {sent}: {factor:.2}", stranger.answered);
    a_call_works(&mut node);
    node.stop().answered(HungUpBy::Caller);
}

#[test]
fn no_answer_is_much_larger_than_its_question() {
    const DATAGRAMS: usize = 4000;
    // Two would mix the answers to one question with those to the next.
    let mut node = Setup::default().workers(1).start();
    let mut stranger = Stranger::new(&node, 4);
    let valid = valid_messages(node.place().sip(4));
    let mut mutator = Mutator::new(2, valid.clone());
    let spoiled = std::iter::repeat_with(|| mutator.spoiled()).take(DATAGRAMS);
    for datagram in valid.into_iter().chain(spoiled) {
        stranger.answered = 0;
        stranger.send(&datagram);
        stranger.is_served();
        let bound = (datagram.len() as f64 * SINGLE_AMPLIFICATION_MAX) as usize;
        let shown = String::from_utf8_lossy(&datagram);
        assert!(
            stranger.answered <= bound,
            "{} octets in answer to {}:\n{shown}",
            stranger.answered,
            datagram.len()
        );
    }
    assert!(node.stop().0.is_empty(), "garbage made no call");
}

/// The shortest requests that are answered, as somebody sends them who forges their source: what the victim gets beyond what
/// was spent is the configured budget, whatever is sent.
#[test]
fn forged_requests_bring_no_more_than_the_budget() {
    const BURST: usize = 20_000;
    const PER_SECOND: usize = 1000;
    const DATAGRAMS: usize = 6000;
    let limits = format!("[limits]\nudp_surplus_burst = {BURST}\nudp_surplus_per_second = {PER_SECOND}");
    let mut node = Setup::default().with(&limits).start();
    let mut stranger = Stranger::new(&node, 4);
    let peer = node.place().sip(4);
    let requests = ["INVITE", "REGISTER", "OPTIONS", "MESSAGE", "CANCEL", "BYE", "DANCE"].map(|method| {
        format!(
            "{method} sip:a SIP/2.0\r\nv:SIP/2.0/UDP {peer};branch=z9hG4bK1;rport\r\nf:<sip:a>;tag=1\r\nt:<sip:a>\r\ni:1\r\n\
             CSeq:1 {method}\r\n\r\n"
        )
    });
    let (began, mut sent) = (Instant::now(), 0);
    for number in 0..DATAGRAMS {
        let request = &requests[number % requests.len()];
        sent += request.len();
        stranger.send(request.as_bytes());
        if number % 40 == 0 {
            stranger.is_served(); // by answers that are hardly longer than their questions
        }
    }
    stranger.listen(Duration::from_secs(1));
    let seconds = began.elapsed().as_secs() as usize + 1;
    let allowed = sent + sent / 8 + BURST + PER_SECOND * seconds;
    assert!(stranger.answered <= allowed, "{} octets in answer to {sent} in {seconds} s", stranger.answered);
    assert!(stranger.answered > BURST, "who is not known is answered: {}", stranger.answered);
    a_call_works(&mut node);
    node.stop().answered(HungUpBy::Caller);
}

#[test]
fn a_storm_over_tcp_is_survived() {
    const CONNECTIONS: usize = 1500;
    const MESSAGES: usize = 20;
    let mut node = Node::start();
    let mut mutator = Mutator::new(3, valid_messages(node.place().sip(4)));
    let mut before = 0;
    for number in 0..CONNECTIONS {
        let mut stream = connect(node.place().ip(4), node.sip()).expect("the node takes connections");
        // A stream that makes no sense is closed by the node, in the middle of our writing.
        let written = (0..MESSAGES).try_for_each(|_| stream.write_all(&mutator.datagram()));
        drop((written, stream));
        if number == CONNECTIONS / 10 {
            before = node.resident_kib();
        }
    }
    let mut alice = Endpoint::tcp(&node, 2, "alice");
    alice.register();
    let grown = node.resident_kib().saturating_sub(before);
    assert!(grown <= GROWTH_MAX_KIB, "resident memory grew by {grown} KiB from {before} KiB");
    drop(alice);
    a_call_works(&mut node);
    node.stop().answered(HungUpBy::Caller);
}

/// The other end closed the connection.
fn is_closed(stream: &mut TcpStream, patience: Duration) -> bool {
    stream.set_read_timeout(Some(patience)).expect("loopback works");
    match stream.read(&mut [0; 16]) {
        Ok(length) => length == 0,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
    }
}

#[test]
fn connections_are_limited_and_slow_ones_are_closed() {
    const PER_ADDRESS: usize = 20;
    const ALL: usize = 50;
    let limits = format!("[limits]\ntcp_connections = {ALL}\ntcp_connections_per_ip = {PER_ADDRESS}");
    let mut node = Setup::default().with(&limits).start();
    let open = |host: u8| {
        let mut stream = connect(node.place().ip(host), node.sip()).expect("the system takes connections");
        // One octet now and then is all that a slow one ever says. A refused connection may be gone by now.
        let _ = stream.write_all(b"I");
        stream
    };
    let mut from_one: Vec<TcpStream> = (0..PER_ADDRESS + 10).map(|_| open(5)).collect();
    let refused = from_one.split_off(PER_ADDRESS);
    for mut stream in refused {
        assert!(is_closed(&mut stream, PATIENCE), "a connection above the limit of one address is closed");
    }
    let others: Vec<TcpStream> =
        [6, 7].into_iter().flat_map(|host| (0..PER_ADDRESS).map(move |_| host)).map(open).collect();
    let (kept, refused) = others.into_iter().partition::<Vec<_>, _>({
        let mut count = PER_ADDRESS;
        move |_| {
            count += 1;
            count <= ALL
        }
    });
    for mut stream in refused {
        assert!(is_closed(&mut stream, PATIENCE), "a connection above the limit of all is closed");
    }
    a_call_works(&mut node); // UDP does not care
    // Whoever does not bring one whole message in good time makes room for others.
    for mut stream in from_one.into_iter().chain(kept) {
        assert!(is_closed(&mut stream, 2 * PATIENCE), "a connection that says nothing whole is closed");
    }
    Endpoint::tcp(&node, 5, "alice").register();
    node.stop().answered(HungUpBy::Caller);
}

#[test]
fn a_storm_at_the_media_ports_is_survived() {
    const DATAGRAMS: usize = 50_000;
    let mut node = Node::start();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    let (hers, his) = (RtpPort::open(alice.ip(), 30_000), RtpPort::open(bob.ip(), 30_002));
    let mut call = establish(&mut alice, &mut bob);
    let (to_her, to_him) = (media_address(&call.offer), media_address(&call.answer));
    let (her_side, his_side) = (Side { port: &hers, to: to_him }, Side { port: &his, to: to_her });
    greet(&her_side, &his_side);
    converse(&her_side, &his_side, 1..20);
    let rtcp = |rtp: SocketAddr| SocketAddr::new(rtp.ip(), rtp.port() + 1);
    let ports = [to_her, to_him, rtcp(to_her), rtcp(to_him)];
    let stranger = UdpSocket::bind(node.place().sip(4)).unwrap();
    let report = [&[0x81u8, 200, 0, 12], [1; 48].as_slice()].concat();
    let mut mutator = Mutator::new(4, vec![hers.packet(5), report, sdp(alice.ip(), 1).into_bytes()]);
    let before = node.resident_kib();
    for number in 0..DATAGRAMS {
        stranger.send_to(&mutator.datagram(), ports[number % ports.len()]).unwrap();
        if number % 100 == 0 {
            // The peer itself sends nonsense, too: not heard as RTP, but from the right place.
            hers.send(&mutator.noise(), ports[number / 100 % ports.len()]);
        }
    }
    let grown = node.resident_kib().saturating_sub(before);
    assert!(grown <= GROWTH_MAX_KIB, "resident memory grew by {grown} KiB from {before} KiB");
    alice.in_dialog(&mut call.caller, "BYE", "", "");
    bob.hung_up();
    alice.expect("200 BYE");
    // The ports and the relay's workers serve the next call.
    let (hers, his) = (RtpPort::open(alice.ip(), 30_010), RtpPort::open(bob.ip(), 30_012));
    let (offer, answer) = (sdp(alice.ip(), 30_010), sdp(bob.ip(), 30_012));
    let mut call = system_tests::call::establish_with(&mut alice, &mut bob, "102", &offer, &answer);
    let her_side = Side { port: &hers, to: media_address(&call.answer) };
    let his_side = Side { port: &his, to: media_address(&call.offer) };
    greet(&her_side, &his_side);
    converse(&her_side, &his_side, 1..50);
    alice.in_dialog(&mut call.caller, "BYE", "", "");
    bob.hung_up();
    alice.expect("200 BYE");
    let records = node.stop();
    assert_eq!(records.0.len(), 2, "{records:#?}");
    assert!(
        records.0[1].legs.iter().any(|leg| leg.media.is_some_and(|media| media.dropped > 1000)),
        "{records:#?}"
    );
}

/// Somebody with a password sends offers, or answers, that make no sense: his calls fail or not, the node lives, every call
/// has its record.
#[test]
fn spoiled_session_descriptions_end_at_most_their_own_call() {
    const CALLS: u64 = 150;
    let mut node = Node::start();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    let video = "m=video 30010 RTP/AVPF 120\r\na=rtpmap:120 VP8/90000\r\na=rtcp-mux\r\na=candidate:1 1 UDP 1 192.0.2.1 9 typ host\r\n";
    let good = (sdp(alice.ip(), 30_000), sdp(bob.ip(), 30_002));
    let mut offers = Mutator::new(5, vec![format!("{}{video}", good.0).into_bytes()]);
    let mut answers = Mutator::new(6, vec![good.1.clone().into_bytes()]);
    // An empty body is a delayed offer, which is another story.
    let text = |octets: Vec<u8>| format!("{}\r\n", String::from_utf8_lossy(&octets));
    let mut calls = 0;
    for number in 0..2 * CALLS {
        let spoiled_offer = number % 2 == 0;
        let offer = if spoiled_offer { text(offers.spoiled()) } else { good.0.clone() };
        let answer = if spoiled_offer { good.1.clone() } else { text(answers.spoiled()) };
        let tag = format!("b{number}");
        let sent = alice.invite("102", "", &offer);
        // The call fails at once, or bob rings and answers.
        let Some(first) = next_of_both(&mut alice, &mut bob) else {
            alice.fail("neither refused nor passed on")
        };
        calls += 1;
        if !first.is_request() {
            alice.ack_failure(&sent, &first);
            continue;
        }
        let mut callee = Dialog::of_callee(&first, &tag);
        bob.respond(&first, 200, &tag, "", &answer);
        bob.expect("ACK");
        let Some(outcome) = alice.fresh(PATIENCE) else { alice.fail("no outcome") };
        if outcome.status() == 200 {
            let dialog = Dialog::of_caller(&sent, &outcome);
            alice.ack(&dialog, sent.cseq, "");
            bob.in_dialog(&mut callee, "BYE", "", "");
            alice.hung_up();
            bob.expect("200 BYE");
        } else {
            alice.ack_failure(&sent, &outcome);
            bob.hung_up();
        }
    }
    a_call_works_between(&mut alice, &mut bob);
    let records = node.stop();
    assert_eq!(records.0.len(), calls + 1);
    records.0.iter().for_each(system_tests::records::check);
}

fn a_call_works_between(alice: &mut Endpoint, bob: &mut Endpoint) {
    let mut call = establish(alice, bob);
    alice.in_dialog(&mut call.caller, "BYE", "", "");
    bob.hung_up();
    alice.expect("200 BYE");
}

/// The caller's refusal or the callee's INVITE, whichever comes.
fn next_of_both(alice: &mut Endpoint, bob: &mut Endpoint) -> Option<sip::msg::Message> {
    let deadline = Instant::now() + PATIENCE;
    let glance = Duration::from_millis(5);
    while Instant::now() < deadline {
        if let Some(message) = bob.fresh(glance) {
            assert_eq!(name_of(&message), "INVITE");
            return Some(message);
        }
        if let Some(message) = alice.fresh(glance) {
            assert!(message.status() >= 400, "{message:?}");
            return Some(message);
        }
    }
    None
}
