//! Contacts and their flows with the real program: what a registration says of them, and keep-alives (RFC 3261 section 10, RFC
//! 3327, RFC 5626).

use sip::msg::{HeaderId, Message};
use std::io::{Read, Write};
use std::net::UdpSocket;
use system_tests::endpoint::{Endpoint, connect, header};
use system_tests::node::{Node, Setup};
use system_tests::{DOMAIN, PATIENCE};

/// Registers these header lines for bob; the answer.
fn register(bob: &mut Endpoint, lines: &str) -> Message {
    let record = bob.record();
    bob.ask("REGISTER", &format!("sip:{DOMAIN}"), &record, &record, lines)
}

/// The users of the contacts that an answer lists.
fn users(answer: &Message) -> Vec<String> {
    answer
        .contacts()
        .map(|contact| {
            let user = contact.ok().and_then(|contact| Some(contact.uri.user_decoded()?.into_owned()));
            String::from_utf8_lossy(&user.expect("a contact with a user")).into_owned()
        })
        .collect()
}

#[test]
fn contacts_come_and_go_each_with_its_time() {
    let node = Node::start();
    let mut bob = Endpoint::udp(&node, 3, "bob");
    let (one, two) = (format!("<sip:one@{}>", bob.local()), format!("<sip:two@{}>", bob.local()));
    let both =
        register(&mut bob, &format!("Contact: {one};q=0.3;expires=120\r\nContact: {two};expires=600\r\n"));
    assert_eq!((both.status(), users(&both)), (200, vec!["one".to_owned(), "two".to_owned()]));
    assert!(header(&both, HeaderId::Contact).contains("q=0.3"));

    let brief = register(&mut bob, &format!("Contact: {one};expires=1\r\n"));
    assert_eq!(brief.status(), 423);
    assert!(brief.min_expires().unwrap() > 1);
    assert_eq!(users(&register(&mut bob, "")).len(), 2, "a refused one changes nothing");

    let left = register(&mut bob, &format!("Contact: {one};expires=0\r\n"));
    assert_eq!(users(&left), ["two"]);
    assert_eq!(register(&mut bob, "Contact: *\r\nExpires: 60\r\n").status(), 400);
    let none = register(&mut bob, "Contact: *\r\nExpires: 0\r\n");
    assert_eq!((none.status(), users(&none).len()), (200, 0));
}

#[test]
fn a_call_takes_the_path_that_the_registration_came_by() {
    let mut node = Node::start();
    let mut bob = Endpoint::udp(&node, 3, "bob");
    let path = format!("<sip:edge@{};lr>", bob.local());
    let contact = "<sip:bob@10.99.0.7:5060>;expires=300";
    let taken = register(&mut bob, &format!("Supported: path\r\nContact: {contact}\r\nPath: {path}\r\n"));
    assert_eq!((taken.status(), header(&taken, HeaderId::Path)), (200, path.clone()));
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let sent = alice.invite("102", "", "");
    let invite = bob.expect("INVITE");
    assert_eq!(invite.request_uri(), b"sip:bob@10.99.0.7:5060");
    assert_eq!(header(&invite, HeaderId::Route), path);
    bob.respond(&invite, 486, "b", "", "");
    bob.expect("ACK");
    alice.refused(&sent, 486);
    node.stop();
}

#[test]
fn keep_alives_are_answered() {
    let node = Setup::default().start();
    let socket = UdpSocket::bind((node.place().ip(3), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // A STUN Binding request (RFC 8489 section 5): type, length, cookie, transaction.
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend(*b"twelve bytes");
    socket.send_to(&request, node.sip()).unwrap();
    let mut answer = [0; 256];
    let (length, from) = socket.recv_from(&mut answer).unwrap();
    assert_eq!((from, &answer[..2], &answer[8..20]), (node.sip(), &[1, 1][..], &b"twelve bytes"[..]));
    let port = u16::from_be_bytes([answer[26], answer[27]]) ^ 0x2112; // XOR-MAPPED-ADDRESS (section 14.2)
    assert_eq!((length, port), (32, socket.local_addr().unwrap().port()));

    // By a stream a double CRLF is a ping, a single one the pong (RFC 5626 section 4.4.1), before a message and after it.
    let mut stream = connect(node.place().ip(3), node.sip()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"\r\n\r\n").unwrap();
    let mut pong = [0; 2];
    stream.read_exact(&mut pong).unwrap();
    assert_eq!(pong, *b"\r\n");
}
