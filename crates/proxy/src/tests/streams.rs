//! Streams: framing under any cut, limits, reuse, real TCP on loopback.

use super::world::{DOMAIN, FakeLog, World, originate};
use crate::{BindingLog, Cause, Deps, Listener, Network, Proxy, ProxyConfig, ProxyError};
use arc_swap::ArcSwap;
use bytes::Bytes;
use cluster::ids::{CallId, LegId, NodeId};
use cluster::leg::Callee;
use cluster::leg::{Directory, LegCommand, LegHost, Originate};
use model::{Aor, BindingRecord, Configuration, FlowRecord, Snapshot};
use routing::Router;
use sip::digest::{Challenge, Login, answer};
use sip::draft::{ResponseDraft, serialize_response};
use sip::flow::{ConnId, Flow, Transport};
use sip::framing::{Frame, Framer};
use sip::msg::{HeaderId, Message, Method};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;

pub(super) fn options(number: u32) -> String {
    format!(
        "OPTIONS sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/TCP 198.51.100.7:5060;branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n\
         From: <sip:a@{DOMAIN}>;tag=1\r\nTo: <sip:{DOMAIN}>\r\nCall-ID: {number}\r\nCSeq: {number} OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Reads frames until `count` messages have come; the CSeq numbers and the keep-alives between them.
async fn read(stream: &mut (impl AsyncReadExt + Unpin), count: usize) -> (Vec<u32>, usize) {
    let (mut framer, mut numbers, mut pongs) = (Framer::new(), Vec::new(), 0);
    let mut chunk = [0; 4096];
    while numbers.len() < count {
        match framer.next().unwrap() {
            Some(Frame::Message(bytes)) => {
                let msg = Message::parse(bytes).unwrap();
                assert_eq!(msg.status(), 200);
                numbers.push(msg.cseq().unwrap().number);
            }
            Some(Frame::Pong | Frame::Ping) => pongs += 1,
            None => {
                let length = stream.read(&mut chunk).await.unwrap();
                assert!(length > 0, "closed");
                framer.push(&chunk[..length]);
            }
        }
    }
    (numbers, pongs)
}

async fn is_closed(stream: &mut (impl AsyncReadExt + Unpin)) -> bool {
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return true,
            Ok(_) => {}
        }
    }
}

/// A stream that a peer opened to a proxy without a kernel.
fn open(world: &World, from: &str) -> Option<DuplexStream> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    world.proxy.adopt_stream(1, Transport::Tcp, from.parse().unwrap(), near).then_some(far)
}

async fn world(change: impl FnOnce(&mut ProxyConfig)) -> World {
    World::with(|config| {
        config.listeners.push(Listener::new(Transport::Tcp, "192.0.2.1:5060".parse().unwrap()));
        change(config);
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_be_cut_at_every_byte() {
    let world = world(|_| {}).await;
    let mut stream = open(&world, "198.51.100.7:40000").unwrap();
    let text = options(1) + "\r\n\r\n" + &options(2);
    for byte in text.into_bytes() {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(read(&mut stream, 2).await, (vec![1, 2], 1), "and the ping between them is answered");
}

#[tokio::test(start_paused = true)]
async fn requests_may_be_pipelined() {
    let world = world(|_| {}).await;
    let mut stream = open(&world, "198.51.100.7:40000").unwrap();
    let all: String = (1..=50).map(options).collect();
    stream.write_all(all.as_bytes()).await.unwrap();
    assert_eq!(read(&mut stream, 50).await.0, (1..=50).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_sip_ends_the_connection() {
    let world = world(|_| {}).await;
    for junk in [
        "\x16\x03\x01\x02\x00",
        "OPTIONS sip:x SIP/2.0\r\nNo: Length\r\n\r\n",
        "x y z\r\nContent-Length: 0\r\n\r\n",
    ] {
        let mut stream = open(&world, "198.51.100.7:40000").unwrap();
        stream.write_all(junk.as_bytes()).await.unwrap();
        assert!(is_closed(&mut stream).await, "{junk}");
    }
    let mut stream = open(&world, "198.51.100.7:40000").unwrap();
    let endless = format!("OPTIONS sip:x SIP/2.0\r\nX: {}", "x".repeat(70_000));
    let _ = stream.write_all(endless.as_bytes()).await;
    assert!(is_closed(&mut stream).await);
    drop(stream);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(world.proxy.stats().connections, 0);
}

/// All that comes until the connection ends.
async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    String::from_utf8(all).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_length_is_told_so_before_the_connection_ends() {
    let world = world(|_| {}).await;
    let good = "Content-Length: 0";
    let headers =
        |count| (0..count).map(|number| format!("X-{number}: {}\r\n", "x".repeat(700))).collect::<String>();
    let (long, endless) = (format!("{}{good}", headers(100)), format!("{good}\r\nX: {}", "x".repeat(70_000)));
    for (instead, status, named) in [
        ("X: y", "400", "Content-Length"),
        ("Content-Length: -1", "400", "Content-Length"),
        ("l: five", "400", "Content-Length"),
        ("Content-Length: 0\r\nl: 5", "400", "Content-Length"),
        ("Content-Length: 65537", "400", "Content-Length"),
        ("Content-Length: 99999999999999999999999999", "400", "Content-Length"),
        ("no colon", "400", "Content-Length"),
        (&long, "513", ""),
        (&endless, "513", ""),
    ] {
        let mut stream = open(&world, "198.51.100.7:40000").unwrap();
        // What was asked before is answered before; what comes after is not read as a message, but taken.
        let text = options(1) + &options(2).replace(good, instead) + &options(3) + &"x".repeat(200_000);
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let write = async {
            let _ = writer.write_all(text.as_bytes()).await;
        };
        let (answers, ()) = tokio::join!(rest(&mut reader), write);
        let starts: Vec<&str> = answers.lines().filter(|line| line.starts_with("SIP/2.0 ")).collect();
        assert!(starts.len() == 2 && starts[0].starts_with("SIP/2.0 200 "), "{instead:.40}: {starts:?}");
        assert!(
            starts[1].starts_with(&format!("SIP/2.0 {status} ")) && starts[1].contains(named),
            "{starts:?}"
        );
        let at = answers.rfind("SIP/2.0 ").unwrap();
        let answer = Message::parse(Bytes::from(answers[at..].to_owned())).unwrap();
        answer.validate().unwrap();
        assert_eq!((answer.call_id(), answer.cseq().unwrap().number), (&b"2"[..], 2));
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let stats = world.proxy.stats();
    assert_eq!((stats.connections, stats.refused(Cause::Malformed)), (0, 9));
}

#[tokio::test(start_paused = true)]
async fn what_must_not_or_cannot_be_answered_ends_the_connection_without_a_word() {
    let world = world(|_| {}).await;
    let spoiled = options(1).replace("Content-Length: 0", "Content-Length: -1");
    for text in [
        spoiled.replace("OPTIONS", "ACK"),
        spoiled.replace("Via: ", "X: "),
        spoiled.replace(" SIP/2.0\r\nVia", " HTTP/1.1\r\nVia"),
        spoiled.replace(&format!("OPTIONS sip:{DOMAIN} SIP/2.0"), "SIP/2.0 200 OK"),
        "\u{1}".to_owned() + &spoiled,
        "X".repeat(70_000),
    ] {
        let mut stream = open(&world, "198.51.100.7:40000").unwrap();
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let write = async {
            let _ = writer.write_all(text.as_bytes()).await;
        };
        assert_eq!(tokio::join!(rest(&mut reader), write).0, "", "{text:.60}");
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(world.proxy.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_talking_after_the_last_answer_is_cut() {
    let world = world(|_| {}).await;
    let mut stream = open(&world, "198.51.100.7:40000").unwrap();
    stream.write_all(options(1).replace("Content-Length", "X").as_bytes()).await.unwrap();
    let mut written = 0;
    while stream.write_all(&[b'x'; 1000]).await.is_ok() {
        written += 1000;
        assert!(written < 2_000_000, "for ever");
    }
    let mut silent = open(&world, "198.51.100.7:40000").unwrap();
    silent.write_all(options(1).replace("Content-Length", "X").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.proxy.stats().connections, 0, "nor is a silent one waited for");
}

#[tokio::test(start_paused = true)]
async fn connections_are_limited_and_idle_ones_end() {
    let world = world(|config| {
        config.limits.tcp_connections = 3;
        config.limits.tcp_per_source = 2;
        config.limits.tcp_idle = Duration::from_secs(100);
    })
    .await;
    let mut first = open(&world, "198.51.100.7:40000").unwrap();
    let _second = open(&world, "198.51.100.7:40001").unwrap();
    assert!(open(&world, "198.51.100.7:40002").is_none(), "two from one address");
    let _other = open(&world, "198.51.100.8:40000").unwrap();
    assert!(open(&world, "198.51.100.9:40000").is_none(), "three in all");
    assert_eq!(world.proxy.stats().connections, 3);
    first.write_all(options(1).as_bytes()).await.unwrap();
    read(&mut first, 1).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.proxy.stats().connections, 1, "the two that never said a word are gone");
    first.write_all(b"\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(99)).await;
    assert_eq!(world.proxy.stats().connections, 1, "a keep-alive kept it");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.proxy.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn keep_alives_are_no_first_message() {
    let world = world(|_| {}).await;
    let mut streams = Vec::new();
    for (number, text) in ["\r\n\r\n", "\r\n", "\r\n\r\nOPTIONS"].into_iter().enumerate() {
        let mut stream = open(&world, &format!("198.51.100.7:4000{number}")).unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    for stream in &mut streams[..2] {
        stream.write_all(b"\r\n\r\n").await.unwrap();
    }
    assert_eq!(world.proxy.stats().connections, 3);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(world.proxy.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn all_addresses_of_one_ipv6_network_are_one_source() {
    let world = world(|config| config.limits.tcp_per_source = 2).await;
    let _first = open(&world, "[2001:db8:0:7::1]:40000").unwrap();
    let second = open(&world, "[2001:db8:0:7:ffff::2]:40000").unwrap();
    assert!(open(&world, "[2001:db8:0:7::3]:40000").is_none());
    let _neighbour = open(&world, "[2001:db8:0:8::3]:40000").unwrap();
    drop(second);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(open(&world, "[2001:db8:0:7::4]:40000").is_some(), "the place of the one that left");
}

#[tokio::test(start_paused = true)]
async fn a_message_may_not_dribble_in_for_ever() {
    let world = world(|_| {}).await;
    let mut stream = open(&world, "198.51.100.7:40000").unwrap();
    stream.write_all(options(1).as_bytes()).await.unwrap();
    read(&mut stream, 1).await;
    for byte in options(2).bytes().take(100) {
        if stream.write_all(&[byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(is_closed(&mut stream).await);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_cut() {
    let world = world(|config| config.limits.tcp_write_queue = 4).await;
    let (near, far) = tokio::io::duplex(256);
    assert!(world.proxy.adopt_stream(1, Transport::Tcp, "198.51.100.7:40000".parse().unwrap(), near));
    let (_reader, mut writer) = tokio::io::split(far);
    for number in 1..1000 {
        if writer.write_all(options(number).as_bytes()).await.is_err() {
            break;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.proxy.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_connection_says_keeps_its_order_when_its_peer_shows_a_password() {
    let world = world(|config| config.workers = 2).await;
    let from = "198.51.100.7:40000";
    // Room for ten of its answers.
    let (near, mut alice) = tokio::io::duplex(4096);
    assert!(world.proxy.adopt_stream(1, Transport::Tcp, from.parse().unwrap(), near));
    let contact = "<sip:alice@10.0.0.7;transport=tcp>";
    let (ask, credentials) = register_texts(from.parse().unwrap(), contact);
    alice.write_all(ask.as_bytes()).await.unwrap();
    let mut framer = Framer::new();
    let challenge = message(&mut alice, &mut framer).await;
    // The right answer and much more in one breath.
    let all: String = (1..=3000).map(options).collect();
    let text = credentials(&challenge) + &all;
    let (mut alice, mut writer) = tokio::io::split(alice);
    let writing = tokio::spawn(async move { writer.write_all(text.as_bytes()).await });
    let mut numbers = Vec::new();
    while numbers.len() < 3001 {
        let answer = message(&mut alice, &mut framer).await;
        assert_eq!(answer.status(), 200);
        if answer.method_is(&Method::Options) {
            numbers.push(answer.cseq().unwrap().number);
        } else {
            numbers.push(0); // the registration's answer waits for the disk
        }
    }
    writing.await.unwrap().unwrap();
    numbers.retain(|number| *number > 0);
    assert!(numbers.is_sorted(), "{numbers:?}");
}

#[tokio::test(start_paused = true)]
async fn what_strangers_connections_bring_keeps_no_known_one_waiting() {
    const FLOOD: u64 = 900;
    let world = world(|config| config.workers = 1).await;
    let from = "198.51.100.7:40000";
    let mut alice = open(&world, from).unwrap();
    let mut framer =
        register_by(&mut alice, from.parse().unwrap(), "<sip:alice@10.0.0.7;transport=tcp>").await;
    let (near, mut stranger) = tokio::io::duplex(1024 * 1024);
    assert!(world.proxy.adopt_stream(1, Transport::Tcp, "203.0.113.9:5060".parse().unwrap(), near));
    let before = world.proxy.stats().received;
    let flood: String = (1..=FLOOD).map(|number| options(u32::try_from(number).unwrap())).collect();
    stranger.write_all(flood.as_bytes()).await.unwrap();
    // All of it waits for the worker before alice says a word.
    while world.proxy.stats().received == before {
        tokio::task::yield_now().await;
    }
    alice.write_all(options(1).as_bytes()).await.unwrap();
    assert_eq!(message(&mut alice, &mut framer).await.status(), 200);
    let served = world.proxy.stats().received - before;
    assert!(served < FLOOD / 2, "{served} went before her");
    assert_eq!(read(&mut stranger, FLOOD as usize).await.0.len(), FLOOD as usize, "nothing is dropped");
}

/// A proxy on real sockets of loopback.
async fn real(transports: &[Transport]) -> Arc<Proxy> {
    let listeners = transports
        .iter()
        .map(|transport| Listener::new(*transport, "127.0.0.1:0".parse().unwrap()))
        .collect();
    start(ProxyConfig { listeners, workers: 2, ..ProxyConfig::default() }).await.unwrap()
}

#[tokio::test]
async fn connections_cannot_take_all_open_files() {
    let listeners = vec![Listener::new(Transport::Tcp, "127.0.0.1:0".parse().unwrap())];
    let mut config = ProxyConfig { listeners, ..ProxyConfig::default() };
    config.limits.tcp_connections = usize::MAX;
    let proxy = start(config).await.unwrap();
    let files = netio::thread::raise_open_files().unwrap();
    assert!(proxy.shared.config.limits.tcp_connections as u64 <= files - files / 4 * 3);
    proxy.stop().await;
}

async fn start(config: ProxyConfig) -> Result<Arc<Proxy>, ProxyError> {
    start_with(config, Arc::default()).await
}

/// The same with a log that the test holds.
pub(super) async fn start_with(config: ProxyConfig, log: Arc<FakeLog>) -> Result<Arc<Proxy>, ProxyError> {
    let deps = Deps {
        router: Arc::new(ArcSwap::from_pointee(Router::new(
            Snapshot::build(&Configuration::demo()).unwrap(),
        ))),
        log: log as Arc<dyn BindingLog>,
        bindings: Vec::new(),
        network: Network::Os,
        unix_time: None,
        seed: None,
        tap: None,
    };
    Proxy::start(config, deps).await
}

pub(super) fn address(proxy: &Proxy, index: usize) -> SocketAddr {
    proxy.listeners()[index].1
}

#[tokio::test]
async fn real_sockets_serve_udp_and_tcp() {
    let proxy = real(&[Transport::Udp, Transport::Tcp]).await;
    let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let text = options(1).replace(
        "SIP/2.0/TCP 198.51.100.7:5060",
        &format!("SIP/2.0/UDP {};rport", udp.local_addr().unwrap()),
    );
    udp.send_to(text.as_bytes(), address(&proxy, 0)).await.unwrap();
    let mut chunk = [0; 2000];
    let (length, from) = udp.recv_from(&mut chunk).await.unwrap();
    assert!(chunk[..length].starts_with(b"SIP/2.0 200 ") && from == address(&proxy, 0));

    let mut tcp = TcpStream::connect(address(&proxy, 1)).await.unwrap();
    for piece in (options(1) + &options(2)).as_bytes().chunks(7) {
        tcp.write_all(piece).await.unwrap();
    }
    assert_eq!(read(&mut tcp, 2).await.0, [1, 2]);
    proxy.stop().await;
}

/// By real TCP a connection that is closed with bytes unread is reset, which would take the answer with it.
#[tokio::test]
async fn the_last_answer_reaches_a_real_peer() {
    let proxy = real(&[Transport::Udp, Transport::Tcp]).await;
    for _ in 0..20 {
        let mut tcp = TcpStream::connect(address(&proxy, 1)).await.unwrap();
        let text = options(1).replace("Content-Length: 0", "Content-Length: -1") + &"x".repeat(100_000);
        tcp.write_all(text.as_bytes()).await.unwrap();
        let answer = rest(&mut tcp).await;
        assert!(answer.starts_with("SIP/2.0 400 Bad Content-Length"), "{answer}");
    }
    while proxy.stats().connections > 0 {
        tokio::task::yield_now().await;
    }
    proxy.stop().await;
}

/// A message of a real peer, however many reads it takes.
pub(super) async fn message(stream: &mut (impl AsyncRead + Unpin), framer: &mut Framer) -> Message {
    let mut chunk = [0; 4096];
    loop {
        match framer.next().unwrap() {
            Some(Frame::Message(bytes)) => return Message::parse(bytes).unwrap(),
            Some(Frame::Ping | Frame::Pong) => {}
            None => {
                let length = stream.read(&mut chunk).await.unwrap();
                assert!(length > 0, "closed");
                framer.push(&chunk[..length]);
            }
        }
    }
}

/// Registers alice by TCP with this contact; the connection stays open.
async fn register(proxy: &Proxy, contact: &str) -> (TcpStream, Framer) {
    let mut stream = TcpStream::connect(address(proxy, 1)).await.unwrap();
    let local = stream.local_addr().unwrap();
    let framer = register_by(&mut stream, local, contact).await;
    (stream, framer)
}

/// The same by a stream that exists.
async fn register_by(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    local: SocketAddr,
    contact: &str,
) -> Framer {
    let (ask, credentials) = register_texts(local, contact);
    let mut framer = Framer::new();
    stream.write_all(ask.as_bytes()).await.unwrap();
    let challenge = message(stream, &mut framer).await;
    stream.write_all(credentials(&challenge).as_bytes()).await.unwrap();
    assert_eq!(message(stream, &mut framer).await.status(), 200);
    framer
}

/// A REGISTER of alice, and what answers its challenge.
fn register_texts(local: SocketAddr, contact: &str) -> (String, impl Fn(&Message) -> String) {
    let contact = contact.to_owned();
    let text = move |number: u32, lines: &str| {
        format!(
            "REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/TCP {local};branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@{DOMAIN}>;tag=1\r\nTo: <sip:alice@{DOMAIN}>\r\nCall-ID: {local}\r\nCSeq: {number} REGISTER\r\n\
             Contact: {contact}\r\n{lines}Content-Length: 0\r\n\r\n"
        )
    };
    let credentials = move |challenge: &Message, text: &dyn Fn(u32, &str) -> String| {
        let challenge = Challenge::parse(challenge.header(HeaderId::WwwAuthenticate).unwrap()).unwrap();
        let uri = format!("sip:{DOMAIN}");
        let value = answer(&challenge, &Login::new("alice", "alice"), "REGISTER", &uri, b"", 1, "c");
        text(2, &format!("Authorization: {value}\r\n"))
    };
    (text(1, ""), move |challenge: &Message| credentials(challenge, &text))
}

/// Calls the best binding of alice.
fn call(proxy: &Proxy, target: Option<&str>, flow: Option<Flow>, offer: &str) -> LegId {
    let binding = proxy.bindings(Aor::from_bits(1)).into_iter().next();
    let target = target.map_or_else(|| binding.as_ref().unwrap().contact.clone(), str::to_owned);
    let flow = flow.unwrap_or_else(|| binding.unwrap().flow);
    let to = Callee::Binding { aor: Aor::from_bits(1), target, route: Vec::new(), flow };
    let order = Originate {
        caller_number: "102".to_owned(),
        called_number: "101".to_owned(),
        domain: DOMAIN.to_owned(),
        offer: Some(Bytes::copy_from_slice(offer.as_bytes())),
        ..Originate::new(CallId::new(NodeId(1), 1), NodeId(1), to)
    };
    originate(proxy, order).0
}

#[tokio::test]
async fn a_call_takes_the_connection_of_the_registration() {
    let proxy = real(&[Transport::Udp, Transport::Tcp]).await;
    let (mut stream, mut framer) = register(&proxy, "<sip:alice@10.0.0.7;transport=tcp>").await;
    call(&proxy, None, None, "v=0\r\n");
    let invite = message(&mut stream, &mut framer).await;
    assert_eq!(invite.method_bytes(), b"INVITE");
    let contact = invite.contact().unwrap().unwrap();
    assert_eq!(contact.uri.transport_param(), Some(Transport::Tcp));
    drop(stream);
    // Behind NAT nothing leads there any more.
    while !proxy.bindings(Aor::from_bits(1)).is_empty() {
        tokio::task::yield_now().await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_device_that_can_be_called_back_is() {
    let proxy = real(&[Transport::Udp, Transport::Tcp]).await;
    let device = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let contact = format!("<sip:alice@{};transport=tcp>", device.local_addr().unwrap());
    let (stream, _) = register(&proxy, &contact).await;
    drop(stream);
    while proxy.stats().connections > 0 {
        tokio::task::yield_now().await;
    }
    call(&proxy, None, None, "v=0\r\n");
    let (mut stream, _) = device.accept().await.unwrap();
    let mut framer = Framer::new();
    assert_eq!(message(&mut stream, &mut framer).await.method_bytes(), b"INVITE");
    proxy.stop().await;
}

/// Registers alice by TCP with this contact, calls her, and lets her answer; the call stands.
async fn talk(proxy: &Proxy, contact: &str) -> (TcpStream, LegId) {
    let (mut stream, mut framer) = register(proxy, contact).await;
    let leg = call(proxy, None, None, OFFER);
    let invite = message(&mut stream, &mut framer).await;
    let mut draft = ResponseDraft {
        to_tag: Some("a".to_owned()),
        body: Bytes::from_static(OFFER.as_bytes()),
        ..ResponseDraft::new(200)
    };
    draft.headers.push("Contact", contact);
    draft.headers.push("Content-Type", "application/sdp");
    let answer = serialize_response(&invite, address(proxy, 1), &draft);
    stream.write_all(&answer).await.unwrap();
    assert_eq!(message(&mut stream, &mut framer).await.method_bytes(), b"ACK");
    (stream, leg)
}

const OFFER: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

#[tokio::test]
async fn a_call_follows_its_device_to_the_connection_that_it_came_back_by() {
    for breaks in [true, false] {
        let proxy = real(&[Transport::Udp, Transport::Tcp]).await;
        let contact = "<sip:alice@10.0.0.7;transport=tcp>";
        let (old, leg) = talk(&proxy, contact).await;
        let old = (!breaks).then_some(old);
        while breaks && proxy.stats().connections > 0 {
            tokio::task::yield_now().await;
        }
        let (mut stream, mut framer) = register(&proxy, contact).await;
        proxy.command(leg, LegCommand::Bye { reason: None });
        let bye = message(&mut stream, &mut framer).await;
        assert_eq!((bye.method_bytes(), bye.to_tag()), (&b"BYE"[..], Some(&b"a"[..])));
        drop(old);
        proxy.stop().await;
    }
}

#[tokio::test]
async fn another_telephone_of_the_same_user_does_not_take_a_call_over() {
    let instance = |n: u8| format!("<sip:alice@10.0.0.7;transport=tcp>;+sip.instance=\"<urn:uuid:{n}>\"");
    let line = |n: u8| format!("<sip:alice@10.0.0.7;transport=tcp;line={n}>");
    for (own, others) in [(instance(1), instance(2)), (line(1), line(2))] {
        for breaks in [false, true] {
            let proxy = real(&[Transport::Udp, Transport::Tcp]).await;
            let (mut own_stream, leg) = talk(&proxy, &own).await;
            let (mut other, _) = register(&proxy, &others).await;
            if breaks {
                drop(own_stream);
                while proxy.stats().connections > 1 {
                    tokio::task::yield_now().await;
                }
                proxy.command(leg, LegCommand::Bye { reason: None });
                let (mut again, mut framer) = register(&proxy, &own).await;
                assert_eq!(message(&mut again, &mut framer).await.method_bytes(), b"BYE");
            } else {
                proxy.command(leg, LegCommand::Bye { reason: None });
                let mut framer = Framer::new();
                assert_eq!(message(&mut own_stream, &mut framer).await.method_bytes(), b"BYE");
            }
            let nothing = tokio::time::timeout(Duration::ZERO, other.read_u8()).await;
            assert!(nothing.is_err(), "the other telephone hears nothing");
            proxy.stop().await;
        }
    }
}

#[tokio::test]
async fn a_device_whose_connection_broke_in_a_call_is_called_back_to_end_it() {
    let proxy = real(&[Transport::Udp, Transport::Tcp]).await;
    let device = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let contact = format!("<sip:alice@{};transport=tcp>", device.local_addr().unwrap());
    let (stream, leg) = talk(&proxy, &contact).await;
    drop(stream);
    while proxy.stats().connections > 0 {
        tokio::task::yield_now().await;
    }
    proxy.command(leg, LegCommand::Bye { reason: None });
    let (mut stream, _) = device.accept().await.unwrap();
    let mut framer = Framer::new();
    assert_eq!(message(&mut stream, &mut framer).await.method_bytes(), b"BYE");
    // It breaks again before the answer, and again: the BYE comes until it is answered.
    for _ in 0..2 {
        drop(stream);
        stream = device.accept().await.unwrap().0;
        framer = Framer::new();
        assert_eq!(message(&mut stream, &mut framer).await.method_bytes(), b"BYE");
    }
    drop(stream);
    let (mut stream, _) = device.accept().await.unwrap();
    let bye = message(&mut stream, &mut Framer::new()).await;
    let answer = serialize_response(&bye, address(&proxy, 1), &ResponseDraft::new(200));
    stream.write_all(&answer).await.unwrap();
    while proxy.stats().legs > 0 {
        tokio::task::yield_now().await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_large_request_goes_by_tcp_where_the_peer_can_and_by_udp_where_not() {
    let proxy = real(&[Transport::Udp, Transport::Tcp]).await;
    let large = format!("v=0\r\n{}", "a=x\r\n".repeat(400));
    for can in [true, false] {
        // A TCP and a UDP port of the same number.
        let (tcp, udp) = loop {
            let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(udp) = tokio::net::UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (tcp, udp);
            }
        };
        let device = udp.local_addr().unwrap();
        let tcp = can.then_some(tcp);
        let contact = format!("sip:alice@{device}");
        let now = proxy.shared.clock.unix_secs();
        let record = BindingRecord {
            aor: Aor::from_bits(1),
            contact: contact.clone(),
            instance: None,
            reg_id: None,
            call_id: "1".to_owned(),
            cseq: 1,
            q: 1000,
            expires_at: now + 600,
            path: Vec::new(),
            user_agent: String::new(),
            flow: FlowRecord { transport: "UDP".to_owned(), listener: 0, remote: device },
            nat: false,
        };
        assert!(proxy.shared.registrar.restore(record, &[Transport::Udp, Transport::Tcp], now));
        let flow = Flow { transport: Transport::Udp, listener: 0, remote: device, conn: ConnId(0) };
        call(&proxy, Some(&contact), Some(flow), &large);
        match tcp {
            Some(tcp) => {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let invite = message(&mut stream, &mut Framer::new()).await;
                assert!(
                    invite.raw().len() > 1300 && invite.via().unwrap().transport() == Some(Transport::Tcp)
                );
            }
            None => {
                let mut chunk = vec![0; 65_536];
                let (length, _) = udp.recv_from(&mut chunk).await.unwrap();
                assert!(length > 1300 && chunk.starts_with(b"INVITE "));
            }
        }
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_listener() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let first = real(&[transport]).await;
        let bind = address(&first, 0);
        let config = ProxyConfig {
            listeners: vec![Listener::new(transport, bind)],
            workers: 2,
            ..ProxyConfig::default()
        };
        let error = start(config).await.err().unwrap();
        assert!(matches!(error, ProxyError::PortInUse { .. }));
        let text = error.to_string();
        assert!(text.contains(&bind.to_string()) && text.contains(transport.via_token()), "{text}");
        first.stop().await;
    }
}
