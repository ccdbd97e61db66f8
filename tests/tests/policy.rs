//! What the proxy refuses and how it says so: malformed messages, loops, strangers, forged identities.

use model::HungUpBy;
use sip::msg::HeaderId;
use system_tests::call::{establish, sdp};
use system_tests::endpoint::{Dialog, Endpoint, header, reason, unique};
use system_tests::node::Node;
use system_tests::{DOMAIN, PATIENCE};

/// An OPTIONS request from which a test takes, or to which it adds, a line.
fn options(endpoint: &Endpoint) -> String {
    format!(
        "OPTIONS sip:{DOMAIN} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: <sip:alice@{DOMAIN}>;tag=1\r\nTo: <sip:{DOMAIN}>\r\n\
         Call-ID: o{}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
        endpoint.via(),
        unique()
    )
}

#[test]
fn options_tell_what_is_served() {
    let node = Node::start();
    let mut stranger = Endpoint::udp(&node, 4, "alice");
    stranger.send(options(&stranger));
    let answer = stranger.expect("200 OPTIONS");
    assert!(answer.header(HeaderId::Allow).is_none(), "who may be forged gets a short answer: {answer:?}");
    for mut client in [Endpoint::udp(&node, 2, "alice"), Endpoint::tcp(&node, 3, "alice")] {
        client.register();
        client.send(options(&client));
        let answer = client.expect("200 OPTIONS");
        for method in ["INVITE", "ACK", "CANCEL", "BYE", "PRACK", "UPDATE", "INFO", "REGISTER"] {
            assert!(header(&answer, HeaderId::Allow).contains(method), "{answer:?}");
        }
        assert!(header(&answer, HeaderId::Accept).contains("application/sdp"), "{answer:?}");
        assert!(header(&answer, HeaderId::Supported).contains("100rel"), "{answer:?}");
    }
}

/// RFC 3261 section 21.4.1: the reason phrase says what is wrong.
#[test]
fn what_is_malformed_gets_400_with_the_name_of_the_header() {
    let node = Node::start();
    let mut client = Endpoint::udp(&node, 2, "alice");
    for (line, instead, named) in [
        ("CSeq: 1 OPTIONS\r\n", "", "CSeq"),
        ("CSeq: 1 OPTIONS", "CSeq: 1 INVITE", "CSeq"),
        ("CSeq: 1 OPTIONS", "CSeq: one OPTIONS", "CSeq"),
        ("CSeq: 1 OPTIONS", "CSeq: 4294967296 OPTIONS", "CSeq"),
        ("Max-Forwards: 70", "Max-Forwards: many", "Max-Forwards"),
        ("Max-Forwards: 70", "Max-Forwards: 256", "Max-Forwards"),
        ("Content-Length: 0", "Content-Length: 77", "Content-Length"),
        ("Content-Length: 0", "Content-Length: -1", "Content-Length"),
        ("From: <sip:alice@users.democlient.com>;tag=1", "From: \"unclosed <sip:alice@x>;tag=1", "From"),
        ("To: <sip:users.democlient.com>", "To: <sip:", "To"),
        ("To: <sip:users.democlient.com>\r\n", "To: <sip:a@b>\r\nTo: <sip:a@b>\r\n", "To"),
        ("Content-Length: 0", "Contact: <<sip:x>\r\nContent-Length: 0", "Contact"),
        ("Content-Length: 0", "Route: nonsense here\r\nContent-Length: 0", "Route"),
    ] {
        let request = options(&client);
        assert!(request.contains(line), "the test changes a line that is there: {line}");
        client.send(request.replacen(line, instead, 1));
        let Some(answer) = client.fresh(PATIENCE) else { client.fail("no answer") };
        assert_eq!(answer.status(), 400, "{line:?} -> {instead:?}: {answer:?}");
        assert!(reason(&answer).contains(named), "{line:?} -> {instead:?}: {answer:?}");
    }
}

#[test]
fn what_cannot_be_answered_is_not_answered() {
    let node = Node::start();
    let mut client = Endpoint::udp(&node, 2, "alice");
    let request = options(&client);
    let via = request.lines().find(|line| line.starts_with("Via")).unwrap();
    // Nobody can be told anything without a Via, a response that nobody asked for is dropped, an ACK is never answered.
    client.send(request.replacen(&format!("{via}\r\n"), "", 1));
    client.send(format!(
        "SIP/2.0 200 OK\r\n{via}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n"
    ));
    client.send(request.replace("OPTIONS", "ACK"));
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client.send([0; 40]);
    client.send(options(&client));
    client.expect("200 OPTIONS"); // the first thing that comes
}

#[test]
fn a_request_without_hops_left_goes_no_further() {
    let mut node = Node::start();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let invite = options(&alice).replace("OPTIONS", "INVITE").replace("Max-Forwards: 70", "Max-Forwards: 0");
    alice.send(invite);
    alice.expect("483 INVITE");
    assert!(node.stop().0.is_empty());
}

#[test]
fn hops_are_counted_down() {
    let mut node = Node::start();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    let sent = alice.invite("102", "", &sdp(alice.ip(), 30_000));
    let invite = bob.expect("INVITE");
    assert_eq!(header(&invite, HeaderId::MaxForwards), "69");
    bob.respond(&invite, 486, "b", "", "");
    bob.expect("ACK");
    alice.refused(&sent, 486);
    node.stop().unanswered(486, HungUpBy::Callee);
}

#[test]
fn a_loop_is_found() {
    let mut node = Node::start();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let request = options(&alice).replace("OPTIONS", "INVITE");
    let been_here = format!("Max-Forwards: 70\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKbefore", node.sip());
    alice.send(request.replacen("Max-Forwards: 70", &been_here, 1));
    alice.expect("482 INVITE");
    assert!(node.stop().0.is_empty());
}

#[test]
fn what_is_not_understood_is_named() {
    let node = Node::start();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let invite = options(&alice).replace("OPTIONS", "INVITE");
    alice.send(invite.replacen("Max-Forwards", "Require: telepathy\r\nMax-Forwards", 1));
    let answer = alice.expect("420 INVITE");
    assert_eq!(header(&answer, HeaderId::Unsupported), "telepathy");
    alice.register();
    alice.send(options(&alice).replace("OPTIONS", "DANCE"));
    let answer = alice.expect("501 DANCE");
    assert!(header(&answer, HeaderId::Allow).contains("INVITE"), "{answer:?}");
    alice.send(options(&alice).replacen("SIP/2.0", "SIP/3.0", 1));
    alice.expect("505 OPTIONS");
}

#[test]
fn a_request_for_no_dialog_gets_481() {
    let node = Node::start();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    for method in ["BYE", "INVITE", "UPDATE", "INFO"] {
        alice.send(options(&alice).replace("OPTIONS", method).replacen(
            "\r\nCall-ID",
            ";tag=gone\r\nCall-ID",
            1,
        ));
        let answer = alice.expect(&format!("481 {method}"));
        assert!(answer.to_tag().is_some());
    }
}

/// The callee sees the name and number of the calling user, whatever the caller's device writes.
#[test]
fn the_caller_cannot_forge_an_identity() {
    let mut node = Node::start();
    let mut mallory = Endpoint::udp(&node, 2, "alice");
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    let from = format!("\"The Boss\" <sip:boss@{DOMAIN}>;tag={}", unique());
    let headers = format!(
        "P-Asserted-Identity: \"The Boss\" <sip:100@{DOMAIN}>\r\nP-Preferred-Identity: <sip:100@{DOMAIN}>\r\n\
         Remote-Party-ID: \"The Boss\" <sip:100@{DOMAIN}>;party=calling\r\nReply-To: <sip:boss@{DOMAIN}>\r\nX-Project: 7\r\n\
         Subject: lunch\r\n"
    );
    let sent = mallory.invite_as("102", &from, &headers, &sdp(mallory.ip(), 30_000));
    let invite = bob.expect("INVITE");
    let text = String::from_utf8_lossy(invite.raw()).to_ascii_lowercase();
    assert!(!text.contains("boss") && !text.contains("sip:100@") && !text.contains("mallory"), "{text}");
    let shown = format!("\"Alice Allison\" <sip:101@{DOMAIN}>");
    assert!(header(&invite, HeaderId::From).starts_with(&shown), "{text}");
    assert_eq!(invite.header_named("P-Asserted-Identity").unwrap_or_default(), shown.as_bytes(), "{text}");
    assert_eq!(
        invite.header_named("X-Project").unwrap_or_default(),
        b"7",
        "what says nothing of identity passes"
    );
    assert_eq!(header(&invite, HeaderId::Subject), "lunch");
    bob.respond(&invite, 603, "b", "", "");
    bob.expect("ACK");
    mallory.refused(&sent, 603);
    let records = node.stop();
    let cdr = records.unanswered(603, HungUpBy::Callee);
    assert_eq!((cdr.caller.number.as_str(), cdr.caller.name.as_str()), ("101", "Alice Allison"));
}

#[test]
fn a_call_needs_the_password() {
    let mut node = Node::start();
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    let mut mallory = Endpoint::udp(&node, 2, "alice").with_login("alice", "guess");
    let sent = mallory.invite("102", "", &sdp(mallory.ip(), 30_000));
    mallory.refused(&sent, 407);
    assert!(node.stop().0.is_empty(), "no call was made");
}

/// Somebody who knows Call-ID and tags but sits elsewhere cannot end a call: the tags alone are the secret, so what is
/// tested is that neither a guess of one of them does.
#[test]
fn a_stranger_cannot_end_a_call() {
    let mut node = Node::start();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    let mut call = establish(&mut alice, &mut bob);
    let mut stranger = Endpoint::udp(&node, 4, "mallory");
    let remote = format!("{}x", call.caller.remote);
    let local = call.caller.local.replace("tag=", "tag=x");
    for guess in [Dialog { remote, ..call.caller.clone() }, Dialog { local, ..call.caller.clone() }] {
        stranger.in_dialog(&mut guess.clone(), "BYE", "", "");
        stranger.expect("481 BYE");
    }
    alice.in_dialog(&mut call.caller, "BYE", "", "");
    bob.hung_up();
    alice.expect("200 BYE");
    node.stop().answered(HungUpBy::Caller);
}
