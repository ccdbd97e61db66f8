//! Calls between SIPp processes through the program: set-up, ringing, refusal, end. Each leaves exactly one record.

use model::{HungUpBy, LegRole};
use std::time::Duration;
use system_tests::call::{establish, sdp};
use system_tests::endpoint::{Dialog, Endpoint};
use system_tests::node::{Node, Setup};
use system_tests::sipp::{Sipp, SippRun};

/// Registers a contact where SIPp will listen: the binding outlives the socket.
fn register(node: &Node, user: &str, host: u8) {
    Endpoint::udp(node, host, user).register();
}

/// A node where bob is registered at host part 3.
fn node_with_bob() -> Node {
    let node = Node::start();
    register(&node, "bob", 3);
    node
}

/// The caller meets a refusal although nobody was asked.
fn refused_at_once(setup: Setup, number: &str, registered: bool, status: u16) {
    let mut node = setup.start();
    if registered {
        register(&node, "bob", 3);
    }
    Sipp::caller("refused").number(number).value("status", status).start(&node).finish();
    let records = node.stop();
    let cdr = records.unanswered(status, HungUpBy::Platform);
    assert_eq!((cdr.dialed.as_str(), cdr.legs.len()), (number, 1), "{cdr:#?}");
}

#[test]
fn a_call_is_answered_and_the_caller_hangs_up() {
    let mut node = node_with_bob();
    let callee = Sipp::callee("answer").start(&node);
    Sipp::caller("call").start(&node).finish();
    callee.finish();
    let records = node.stop();
    let cdr = records.answered(HungUpBy::Caller);
    assert_eq!((cdr.caller.name.as_str(), cdr.callee.name.as_str()), ("Alice Allison", "Bob Bobson"));
    let legs: Vec<_> = cdr.legs.iter().map(|leg| (leg.role, leg.endpoint.as_str())).collect();
    assert_eq!(legs, [(LegRole::Caller, "alice"), (LegRole::Answerer, "bob")]);
}

#[test]
fn a_call_is_answered_and_the_callee_hangs_up() {
    let mut node = node_with_bob();
    let callee = Sipp::callee("answer_and_hang_up").start(&node);
    Sipp::caller("call_ended_by_callee").start(&node).finish();
    callee.finish();
    node.stop().answered(HungUpBy::Callee);
}

#[test]
fn all_contacts_ring_and_one_wins() {
    let mut node = node_with_bob();
    register(&node, "bob", 4);
    register(&node, "bob", 5);
    let losers = [4, 5].map(|host| Sipp::callee("answer_elsewhere").host(host).start(&node));
    let winner = Sipp::callee("answer").start(&node);
    Sipp::caller("call").start(&node).finish();
    winner.finish();
    losers.into_iter().for_each(SippRun::finish);
    let records = node.stop();
    assert_eq!(records.answered(HungUpBy::Caller).legs.len(), 4);
}

#[test]
fn without_multi_contact_only_the_last_contact_rings() {
    let mut node = Setup::default().user("bob", |user| user.multi_contact = false).start();
    register(&node, "bob", 4);
    register(&node, "bob", 3);
    let callee = Sipp::callee("answer").start(&node);
    Sipp::caller("call").start(&node).finish();
    callee.finish();
    assert_eq!(node.stop().answered(HungUpBy::Caller).legs.len(), 2);
}

#[test]
fn the_caller_gives_up_while_it_rings() {
    let mut node = node_with_bob();
    let callee = Sipp::callee("ring_until_cancelled").value("cause", 487).start(&node);
    Sipp::caller("cancel").start(&node).finish();
    callee.finish();
    node.stop().unanswered(487, HungUpBy::Caller);
}

#[test]
fn the_callee_is_busy_or_declines() {
    for status in [486, 603, 480] {
        let mut node = node_with_bob();
        let callee = Sipp::callee("refuse").value("status", status).start(&node);
        Sipp::caller("refused").value("status", status).start(&node).finish();
        callee.finish();
        node.stop().unanswered(status, HungUpBy::Callee);
    }
}

#[test]
fn one_device_that_declines_does_not_stop_the_others() {
    let mut node = Node::start();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let mut devices = [3, 4].map(|host| Endpoint::udp(&node, host, "bob"));
    devices.iter_mut().for_each(Endpoint::register);
    let sent = alice.invite("102", "", &sdp(alice.ip(), 30_000));
    let [mut busy, mut other] = devices;
    let (to_busy, to_other) = (busy.expect("INVITE"), other.expect("INVITE"));
    busy.respond(&to_busy, 486, "b", "", "");
    busy.expect("ACK");
    other.respond(&to_other, 200, "o", "", &sdp(other.ip(), 30_002));
    let ok = alice.expect("200 INVITE");
    other.expect("ACK");
    let mut dialog = Dialog::of_caller(&sent, &ok);
    alice.ack(&dialog, sent.cseq, "");
    alice.in_dialog(&mut dialog, "BYE", "", "");
    other.hung_up();
    alice.expect("200 BYE");
    node.stop().answered(HungUpBy::Caller);
}

#[test]
fn a_device_that_declines_for_all_stops_the_others() {
    let mut node = node_with_bob();
    register(&node, "bob", 4);
    let decline = Sipp::callee("refuse").host(4).value("status", 603).start(&node);
    let other = Sipp::callee("ring_until_cancelled").value("cause", 603).start(&node);
    Sipp::caller("refused").value("status", 603).start(&node).finish();
    other.finish();
    decline.finish();
    node.stop().unanswered(603, HungUpBy::Callee);
}

#[test]
fn nobody_answers() {
    let mut node = Setup::default().sip("ring_seconds = 1").start();
    register(&node, "bob", 3);
    let callee = Sipp::callee("ring_until_cancelled").value("cause", 480).start(&node);
    Sipp::caller("refused").value("status", 480).start(&node).finish();
    callee.finish();
    let records = node.stop();
    let cdr = records.unanswered(480, HungUpBy::Platform);
    assert!(cdr.ended_us - cdr.started_us >= 1_000_000, "{cdr:#?}");
}

#[test]
fn nobody_is_asked_when_the_callee_does_not_want_calls() {
    refused_at_once(Setup::default().user("bob", |user| user.do_not_disturb = true), "102", true, 486);
}

#[test]
fn nobody_is_asked_when_the_callee_is_not_registered() {
    refused_at_once(Setup::default(), "102", false, 480);
}

#[test]
fn nobody_is_asked_when_the_extension_does_not_exist() {
    refused_at_once(Setup::default(), "199", true, 404);
}

#[test]
fn the_caller_himself_can_be_called_meanwhile_up_to_his_limit() {
    let mut node = Setup::default().user("bob", |user| user.call_waiting = 1).start();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    let mut call = establish(&mut alice, &mut bob);
    let sent = alice.invite("102", "", &sdp(alice.ip(), 30_004));
    alice.refused(&sent, 486);
    alice.in_dialog(&mut call.caller, "BYE", "", "");
    bob.hung_up();
    alice.expect("200 BYE");
    let records = node.stop();
    let mut causes: Vec<_> = records.0.iter().map(|cdr| cdr.cause.status).collect();
    causes.sort_unstable();
    assert_eq!(causes, [200, 486], "{records:#?}");
}

#[test]
fn both_sides_hang_up_at_the_same_time() {
    const CALLS: u8 = 20;
    let mut node = Node::start();
    for number in 0..CALLS {
        // New addresses for each call: a BYE that comes late does not disturb the next one.
        let mut alice = Endpoint::udp(&node, 10 + number, "alice");
        let mut bob = Endpoint::udp(&node, 50 + number, "bob");
        bob.register();
        let mut call = establish(&mut alice, &mut bob);
        alice.in_dialog(&mut call.caller, "BYE", "", "");
        bob.in_dialog(&mut call.callee, "BYE", "", "");
        // Each gets its 200, and perhaps the other's BYE before.
        for phone in [&mut alice, &mut bob] {
            loop {
                let message = phone.expect_of(&["BYE", "200 BYE"]);
                if !message.is_request() {
                    break;
                }
                phone.respond(&message, 200, "", "", "");
            }
        }
        while let Some(bye) = bob.fresh(Duration::from_millis(20)) {
            bob.respond(&bye, 200, "", "", "");
        }
        assert_eq!(bob.try_register(0).status(), 200);
    }
    let records = node.stop();
    assert_eq!(records.0.len(), usize::from(CALLS), "{records:#?}");
    assert!(records.0.iter().all(|cdr| cdr.cause.status == 200 && cdr.answered_us.is_some()), "{records:#?}");
}

/// RFC 3261 section 9.1: the 200 was on its way; the CANCEL comes too late, and the caller ends the call by BYE.
#[test]
fn a_cancel_that_crosses_the_answer_comes_too_late() {
    let mut node = Node::start();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    let sent = alice.invite("102", "", &sdp(alice.ip(), 30_000));
    let invite = bob.expect("INVITE");
    bob.respond(&invite, 200, "b", "", &sdp(bob.ip(), 30_002));
    bob.expect("ACK"); // the platform has the answer
    let ok = alice.expect("200 INVITE");
    alice.cancel(&sent);
    let answer = alice.expect_of(&["200 CANCEL", "481 CANCEL"]);
    assert!(!answer.is_request());
    let mut dialog = Dialog::of_caller(&sent, &ok);
    alice.ack(&dialog, sent.cseq, "");
    alice.in_dialog(&mut dialog, "BYE", "", "");
    bob.hung_up();
    alice.expect("200 BYE");
    node.stop().answered(HungUpBy::Caller);
}
