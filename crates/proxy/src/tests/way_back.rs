//! Answers whose TCP connection is gone find another way, once (RFC 3261 section 18.2.2): real sockets on loopback.

use super::streams::{address, message, options, start_with};
use super::world::{DOMAIN, FakeCalls, FakeLog, Heard};
use crate::{Cause, Listener, Proxy, ProxyConfig};
use cluster::leg::{LegCommand, LegHost};
use parking_lot::Mutex;
use sip::digest::{Challenge, Login, answer};
use sip::draft::{HeaderText, ack_for_failure};
use sip::flow::Transport;
use sip::framing::Framer;
use sip::msg::{HeaderId, Message};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// One worker, so that every connection meets the same nonces.
async fn proxy(log: Arc<FakeLog>) -> Arc<Proxy> {
    let listeners = vec![Listener::new(Transport::Tcp, "127.0.0.1:0".parse().unwrap())];
    start_with(ProxyConfig { listeners, workers: 1, ..ProxyConfig::default() }, log).await.unwrap()
}

/// A request of alice that names `sent_by` in its Via.
fn request(method: &str, number: u32, sent_by: SocketAddr, lines: &str) -> String {
    let (uri, to) = match method {
        "REGISTER" => (format!("sip:{DOMAIN}"), format!("sip:alice@{DOMAIN}")),
        _ => (format!("sip:102@{DOMAIN}"), format!("sip:102@{DOMAIN}")),
    };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/TCP {sent_by};branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@{DOMAIN}>;tag=1\r\nTo: <{to}>\r\nCall-ID: {sent_by}\r\nCSeq: {number} {method}\r\n\
         Contact: <sip:alice@{sent_by};transport=tcp>\r\n{lines}Content-Length: 0\r\n\r\n"
    )
}

/// Sends a request by a connection of its own, which is closed again; the header that answers its challenge.
async fn credentials(proxy: &Proxy, method: &str, sent_by: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address(proxy, 0)).await.unwrap();
    let text = request(method, 1, sent_by, "");
    stream.write_all(text.as_bytes()).await.unwrap();
    let challenge = message(&mut stream, &mut Framer::new()).await;
    let (from, to, uri) = match challenge.status() {
        401 => (HeaderId::WwwAuthenticate, "Authorization", format!("sip:{DOMAIN}")),
        _ => (HeaderId::ProxyAuthenticate, "Proxy-Authorization", format!("sip:102@{DOMAIN}")),
    };
    let challenge = Challenge::parse(challenge.header(from).unwrap()).unwrap();
    format!("{to}: {}\r\n", answer(&challenge, &Login::new("alice", "alice"), method, &uri, b"", 1, "c"))
}

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

async fn until(mut done: impl FnMut() -> bool) {
    let all = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, all).await.expect("it happens");
}

/// The first message on a connection that the proxy opens, with that connection.
async fn called_back(device: &TcpListener) -> (Message, TcpStream) {
    let (mut stream, _) = timeout(PATIENCE, device.accept()).await.expect("somebody calls").unwrap();
    let message = message(&mut stream, &mut Framer::new()).await;
    message.validate().unwrap();
    (message, stream)
}

#[tokio::test]
async fn the_answer_to_a_register_comes_by_a_new_connection() {
    let log = Arc::new(FakeLog::default());
    let proxy = proxy(Arc::clone(&log)).await;
    let device = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sent_by = device.local_addr().unwrap();
    let header = credentials(&proxy, "REGISTER", sent_by).await;
    until(|| proxy.stats().connections == 0).await;

    // The connection goes while the disk is at work.
    *log.held.lock() = Some(Vec::new());
    let mut stream = TcpStream::connect(address(&proxy, 0)).await.unwrap();
    stream.write_all(request("REGISTER", 2, sent_by, &header).as_bytes()).await.unwrap();
    until(|| log.held.lock().as_ref().is_some_and(|held| !held.is_empty())).await;
    drop(stream);
    until(|| proxy.stats().connections == 0).await;
    let held = log.held.lock().take().unwrap();
    held.into_iter().for_each(|done| done(true));
    let (answer, stream) = called_back(&device).await;
    assert_eq!((answer.status(), answer.cseq().unwrap().number), (200, 2));
    drop(stream);
    until(|| proxy.stats().connections == 0).await;

    // It is gone before the worker has seen the request: the transaction is told of no loss.
    let header = credentials(&proxy, "REGISTER", sent_by).await;
    until(|| proxy.stats().connections == 0).await;
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let remote = SocketAddr::from(([127, 0, 0, 1], 9));
    assert!(proxy.adopt_stream(0, Transport::Tcp, remote, near));
    far.write_all(request("REGISTER", 3, sent_by, &header).as_bytes()).await.unwrap();
    drop(far);
    let (answer, stream) = called_back(&device).await;
    assert_eq!((answer.status(), answer.cseq().unwrap().number), (200, 3));
    drop(stream);

    // Nobody listens where the Via says: one try, and it is over.
    until(|| proxy.stats().connections == 0).await;
    let header = credentials(&proxy, "REGISTER", sent_by).await;
    until(|| proxy.stats().connections == 0).await;
    drop(device);
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    assert!(proxy.adopt_stream(0, Transport::Tcp, remote, near));
    far.write_all(request("REGISTER", 4, sent_by, &header).as_bytes()).await.unwrap();
    drop(far);
    until(|| {
        let stats = proxy.stats();
        stats.registered == 3 && stats.connections == 0 && stats.transactions == [0]
    })
    .await;
    proxy.stop().await;
}

#[tokio::test]
async fn the_refusal_of_a_call_comes_by_a_new_connection_and_is_acknowledged_there() {
    let proxy = proxy(Arc::default()).await;
    let (sender, mut heard) = mpsc::unbounded_channel();
    proxy.set_calls(Arc::new(FakeCalls { heard: sender, open: Mutex::new(true), states: Mutex::default() }));
    let device = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sent_by = device.local_addr().unwrap();
    let header = credentials(&proxy, "INVITE", sent_by).await;
    until(|| proxy.stats().connections == 0).await;

    let mut stream = TcpStream::connect(address(&proxy, 0)).await.unwrap();
    let invite = request("INVITE", 2, sent_by, &header);
    stream.write_all(invite.as_bytes()).await.unwrap();
    let Some(Heard::Incoming(incoming)) = heard.recv().await else { panic!("no call") };
    drop(stream);
    until(|| proxy.stats().connections == 0).await;
    let reject = LegCommand::Reject { status: 486, reason: None, headers: HeaderText::new() };
    proxy.command(incoming.leg, reject);
    let (answer, mut stream) = called_back(&device).await;
    assert_eq!((answer.status(), answer.cseq().unwrap().number), (486, 2));
    let invite = Message::parse(invite.into()).unwrap();
    stream.write_all(&ack_for_failure(&invite, &answer)).await.unwrap();
    until(|| proxy.stats().transactions == [0]).await;
    assert_eq!(proxy.stats().legs, 0);
    proxy.stop().await;
}

#[tokio::test]
async fn a_stateless_answer_is_not_worth_a_connection() {
    let proxy = proxy(Arc::default()).await;
    let device = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sent_by = device.local_addr().unwrap();
    let texts = [
        options(1).replace("198.51.100.7:5060", &sent_by.to_string()),
        request("REGISTER", 1, sent_by, ""),
        request("INVITE", 1, sent_by, ""),
        request("CANCEL", 1, sent_by, ""),
        request("BYE", 1, sent_by, "").replace(&format!("To: <sip:102@{DOMAIN}>"), "To: <sip:102@x>;tag=1"),
    ];
    for (number, text) in (1..).zip(texts) {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        assert!(proxy.adopt_stream(0, Transport::Tcp, ([127, 0, 0, 1], 9).into(), near));
        far.write_all(text.as_bytes()).await.unwrap();
        drop(far);
        let gone = || proxy.stats().connections == 0 && proxy.stats().received == number;
        until(|| gone() || proxy.stats().connections > 1).await;
        // What is dialled counts as sent.
        until(|| proxy.stats().connections > 0 || proxy.stats().refused(Cause::Unsent) == number).await;
        assert_eq!(proxy.stats().refused(Cause::Unsent), number, "{text}");
    }
    proxy.stop().await;
}
