//! TCP beside UDP, large requests, and what a lossy network does to a call: repeats, lost ACKs, lost answers.

use model::HungUpBy;
use sip::msg::HeaderId;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;
use system_tests::PATIENCE;
use system_tests::call::{establish, establish_with, sdp, sdp_with};
use system_tests::endpoint::{Dialog, Endpoint, body, header, name_of};
use system_tests::lossy::LossyWire;
use system_tests::node::{NODE, Node, Setup, carillon};
use system_tests::place::Place;
use system_tests::process::Process;
use system_tests::sipp::Sipp;

#[test]
fn a_tcp_caller_reaches_a_udp_callee() {
    let mut node = Node::start();
    Endpoint::udp(&node, 3, "bob").register();
    let callee = Sipp::callee("answer").start(&node);
    Sipp::caller("call").tcp().start(&node).finish();
    callee.finish();
    node.stop().answered(HungUpBy::Caller);
}

#[test]
fn a_udp_caller_reaches_a_tcp_callee() {
    let mut node = Node::start();
    let mut bob = Endpoint::tcp(&node, 3, "bob");
    let (record, listens) = (bob.record(), node.place().sip(3));
    let contact = format!("Contact: <sip:bob@{listens};transport=tcp>\r\nExpires: 300\r\n");
    let registered = bob.ask("REGISTER", "sip:users.democlient.com", &record, &record, &contact);
    assert_eq!(registered.status(), 200);
    drop(bob); // the contact itself can be connected to
    let callee = Sipp::callee("answer").tcp().start(&node);
    Sipp::caller("call").start(&node).finish();
    callee.finish();
    node.stop().answered(HungUpBy::Caller);
}

#[test]
fn both_sides_over_tcp() {
    let mut node = Node::start();
    let mut bob = Endpoint::tcp(&node, 3, "bob");
    bob.register();
    let mut alice = Endpoint::tcp(&node, 2, "alice");
    let mut call = establish(&mut alice, &mut bob);
    alice.in_dialog(&mut call.caller, "BYE", "", "");
    bob.hung_up();
    alice.expect("200 BYE");
    node.stop().answered(HungUpBy::Caller);
}

/// Two softphones of the program, and a node that listens by TCP alone.
#[test]
fn softphones_call_each_other_by_tcp() {
    let only_tcp = |place: &Place| vec![format!("\"tcp:{}\"", place.sip(NODE))];
    let mut node = Setup::default().listen(only_tcp).start();
    let server = node.sip().to_string();
    let phone = |user: &str, more: &[&str]| {
        let mut command = Command::new(carillon());
        command.args(["phone", "--tcp", "--server", &server, "--user", user, "--password", user]);
        Process::start(format!("{user}'s phone"), command.args(more))
    };
    let mut bob = phone("bob", &["--answer", "--tone", "620", "--seconds", "1"]);
    assert!(bob.line_with("registered as bob", PATIENCE).is_some(), "{}", bob.tail(20));
    let mut alice = phone("alice", &["--call", "102", "--tone", "440"]);
    for (name, phone) in [("alice", &mut alice), ("bob", &mut bob)] {
        let ended = phone.ended(PATIENCE);
        assert!(ended.is_some_and(|status| status.success()), "{name}: {ended:?}; {}", phone.tail(20));
        assert!(phone.line_with("ended (200)", Duration::ZERO).is_some(), "{name}: {}", phone.tail(20));
    }
    let records = node.stop();
    let cdr = records.answered(HungUpBy::Callee);
    assert!(cdr.legs.iter().all(|leg| leg.media.is_some_and(|m| m.packets_received > 0)), "{cdr:#?}");
}

/// Lines that make a description too long for a request by UDP (RFC 3261 section 18.1.1).
fn padding() -> String {
    (0..13).map(|n| format!("a=x-padding-{n}:{}\r\n", "0123456789".repeat(9))).collect()
}

#[test]
fn a_large_invite_goes_by_tcp_to_a_phone_that_registered_by_udp() {
    let mut node = Node::start();
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    let listener = TcpListener::bind(bob.local()).expect("the place is ours alone");
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let mut small = establish(&mut alice, &mut bob);
    alice.in_dialog(&mut small.caller, "BYE", "", "");
    bob.hung_up();
    alice.expect("200 BYE");

    let offer = sdp_with(alice.ip(), 30_000, 1, &padding());
    let sent = alice.invite("102", "", &offer);
    let mut stream = bob.taking(&listener);
    let invite = stream.expect("INVITE");
    assert!(invite.raw().len() > 1300 && body(&invite).contains("x-padding-12"), "{invite:?}");
    let via = header(&invite, HeaderId::Via);
    assert!(via.starts_with(&format!("SIP/2.0/TCP {};", node.sip())), "{via}");
    stream.respond(&invite, 200, "b", "", &sdp(bob.ip(), 30_002));
    let ok = alice.expect("200 INVITE");
    let mut dialog = Dialog::of_caller(&sent, &ok);
    alice.ack(&dialog, sent.cseq, "");
    stream.expect("ACK");
    alice.in_dialog(&mut dialog, "BYE", "", "");
    stream.hung_up();
    alice.expect("200 BYE");
    assert!(bob.next(Duration::from_millis(1)).is_none(), "nothing of it came by UDP");
    let records = node.stop();
    assert!(records.0.iter().all(|cdr| cdr.cause.status == 200) && records.0.len() == 2, "{records:#?}");
}

#[test]
fn a_large_invite_goes_by_udp_where_tcp_is_refused() {
    let mut node = Node::start();
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    // The second call knows that there is no TCP, and does not ask again.
    for _ in 0..2 {
        let offer = sdp_with(alice.ip(), 30_000, 1, &padding());
        let answer = sdp(bob.ip(), 30_002);
        let mut call = establish_with(&mut alice, &mut bob, "102", &offer, &answer);
        assert!(call.offer.len() > 1300, "{}", call.offer);
        alice.in_dialog(&mut call.caller, "BYE", "", "");
        bob.hung_up();
        alice.expect("200 BYE");
    }
    assert_eq!(node.stop().0.len(), 2);
}

#[test]
fn a_connection_that_breaks_before_an_answer_is_no_reason_to_give_up() {
    let mut node = Node::start();
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    let listener = TcpListener::bind(bob.local()).expect("the place is ours alone");
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let offer = sdp_with(alice.ip(), 30_000, 1, &padding());
    let sent = alice.invite("102", "", &offer);
    let mut stream = bob.taking(&listener);
    stream.expect("INVITE");
    drop(stream);
    let invite = bob.expect("INVITE");
    let via = header(&invite, HeaderId::Via);
    assert!(via.starts_with("SIP/2.0/UDP "), "{via}");
    bob.respond(&invite, 200, "b", "", &sdp(bob.ip(), 30_002));
    let ok = alice.expect("200 INVITE");
    let mut dialog = Dialog::of_caller(&sent, &ok);
    alice.ack(&dialog, sent.cseq, "");
    bob.expect("ACK");
    alice.in_dialog(&mut dialog, "BYE", "", "");
    bob.hung_up();
    alice.expect("200 BYE");
    node.stop().answered(HungUpBy::Caller);
}

/// The same two ways with SIPp, which has either TCP or UDP on that port.
#[test]
fn sipp_gets_a_large_invite_by_the_transport_that_it_has() {
    for tcp in [true, false] {
        let mut node = Node::start();
        Endpoint::udp(&node, 3, "bob").register();
        let callee = if tcp { Sipp::callee("answer").tcp() } else { Sipp::callee("answer") };
        let via = if tcp { "SIP/2.0/TCP" } else { "SIP/2.0/UDP" };
        let callee = callee.value("expect", via).start(&node);
        Sipp::caller("call").value("body", "large-sdp").start(&node).finish();
        callee.finish();
        node.stop().answered(HungUpBy::Caller);
    }
}

/// Every fifth datagram from and to the callee is lost; every call must get through, and leave one record. The caller's side
/// has no loss: SIPp does not repeat an ACK once it has sent its BYE. That is tested below.
#[test]
fn calls_get_through_a_lossy_network() {
    const CALLS: u32 = 30;
    const WIRE: u8 = 6;
    // The five INVITEs of the first eight seconds may all be lost; here that is no reason to give a device up.
    let mut node = Setup::default().sip("unreachable_seconds = 0").start();
    Endpoint::udp(&node, WIRE, "bob").register();
    let _wire = LossyWire::lay(&node, WIRE, node.place().sip(3), 20, 1);
    // It takes a repeated BYE whose 200 was lost for a new call, and must not leave when it has counted enough of them.
    let callee =
        Sipp::callee("answer").value("address", node.place().sip(WIRE)).calls(100 * CALLS, 10).start(&node);
    let caller = Sipp::caller("call").calls(CALLS, 10).start(&node);
    caller.finish();
    drop(callee); // its last 200 may be lost, and is not repeated to a peer that had another one
    let records = node.stop();
    assert_eq!(records.0.len(), CALLS as usize, "{records:#?}");
    for cdr in &records.0 {
        system_tests::records::check(cdr);
        assert_eq!((cdr.cause.status, cdr.hung_up_by), (200, HungUpBy::Caller), "{cdr:#?}");
    }
}

#[test]
fn an_answer_is_repeated_until_its_ack_and_an_ack_for_every_repeat() {
    let mut node = Node::start();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    let sent = alice.invite("102", "", &sdp(alice.ip(), 30_000));
    let invite = bob.expect("INVITE");
    let answer = sdp(bob.ip(), 30_002);
    bob.respond(&invite, 200, "b", "", &answer);
    let ok = alice.expect("200 INVITE");
    bob.expect("ACK");
    // RFC 3261 section 13.3.1.4: alice's ACK is late, so her 200 is repeated.
    alice.expect_repeat("200 INVITE");
    alice.expect_repeat("200 INVITE");
    let mut dialog = Dialog::of_caller(&sent, &ok);
    alice.ack(&dialog, sent.cseq, "");
    // Section 13.2.2.4: bob did not get the ACK and repeats his 200; each repeat is acknowledged.
    for _ in 0..3 {
        bob.respond(&invite, 200, "b", "", &answer);
        match bob.next(PATIENCE) {
            Some(ack) if name_of(&ack) == "ACK" => {}
            other => bob.fail(&format!("expected an ACK for the repeated 200, got {other:?}")),
        }
    }
    alice.in_dialog(&mut dialog, "BYE", "", "");
    bob.hung_up();
    alice.expect("200 BYE");
    node.stop().answered(HungUpBy::Caller);
}

#[test]
fn a_repeated_request_gets_the_same_answer_and_nothing_else_happens() {
    let mut node = Node::start();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    let mut call = establish(&mut alice, &mut bob);
    let via = alice.in_dialog(&mut call.caller, "BYE", "", "");
    let bye = bob.expect("BYE");
    bob.respond(&bye, 200, "", "", "");
    alice.expect("200 BYE");
    let Dialog { call_id, local, remote, target, cseq } = &call.caller;
    for _ in 0..3 {
        alice.send(format!(
            "BYE {target} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {local}\r\nTo: {remote}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} BYE\r\nContent-Length: 0\r\n\r\n"
        ));
        alice.expect_repeat("200 BYE");
    }
    node.stop().answered(HungUpBy::Caller);
}
