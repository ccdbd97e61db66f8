//! What happens inside a call, between SIPp processes: hold, codec change, UPDATE, delayed offer, PRACK, early media, INFO,
//! session timers. Each call leaves exactly one record.

use model::HungUpBy;
use system_tests::PATIENCE;
use system_tests::call::sdp;
use system_tests::endpoint::{Endpoint, name_of};
use system_tests::node::Node;
use system_tests::sipp::Sipp;

fn node_with_bob() -> Node {
    let node = Node::start();
    Endpoint::udp(&node, 3, "bob").register();
    node
}

/// Both scenarios succeed, and the record is that of an answered call which the caller hung up.
fn scenarios(caller: &str, callee: &str) {
    let mut node = node_with_bob();
    let called = Sipp::callee(callee).start(&node);
    Sipp::caller(caller).start(&node).finish();
    called.finish();
    node.stop().answered(HungUpBy::Caller);
}

#[test]
fn the_caller_holds_and_resumes() {
    scenarios("hold", "held");
}

#[test]
fn the_callee_holds() {
    scenarios("reinvited_caller", "reinvite_by_callee");
}

#[test]
fn the_codec_changes() {
    scenarios("change_codec", "follow_codec");
}

#[test]
fn update_changes_the_session() {
    scenarios("update", "updated");
}

#[test]
fn the_callee_makes_the_offer() {
    scenarios("delayed_offer", "delayed_answer");
}

#[test]
fn the_caller_gets_reliable_provisional_responses() {
    scenarios("prack", "answer");
}

#[test]
fn the_callee_sends_reliable_provisional_responses() {
    scenarios("early_media", "reliable_ringing");
}

#[test]
fn early_media_reaches_the_caller() {
    scenarios("early_media", "send_early_media");
}

#[test]
fn digits_by_info_go_from_end_to_end() {
    scenarios("info", "take_info");
}

#[test]
fn a_session_interval_below_the_minimum_is_refused() {
    let mut node = node_with_bob();
    Sipp::caller("too_small_interval").start(&node).finish();
    let records = node.stop();
    assert!(records.0.is_empty(), "nothing was called: {records:#?}");
}

/// The smallest interval that RFC 4028 allows takes 45 s to its refresh and a minute to its end; the two run side by side.
#[test]
fn sessions_are_refreshed_or_expire() {
    let mut node = Node::start();
    Endpoint::udp(&node, 3, "bob").register();
    let called = Sipp::callee("answer").calls(2, 10).within(120).start(&node);
    let refreshed = Sipp::caller("refresh").value("refresher", "uas").within(120).start(&node);
    let expired = Sipp::caller("expire").host(4).value("refresher", "uac").within(120).start(&node);
    refreshed.finish();
    expired.finish();
    called.finish();
    let records = node.stop();
    let mut ends: Vec<_> = records.0.iter().map(|cdr| (cdr.cause.status, cdr.hung_up_by)).collect();
    ends.sort_by_key(|end| end.0);
    assert_eq!(ends, [(200, HungUpBy::Caller), (408, HungUpBy::Platform)], "{records:#?}");
}

#[test]
fn an_answer_that_is_never_acknowledged_ends_the_call() {
    let mut node = Node::start();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    alice.invite("102", "", &sdp(alice.ip(), 30_000));
    let invite = bob.expect("INVITE");
    bob.respond(&invite, 200, "b", "", &sdp(bob.ip(), 30_002));
    bob.expect("ACK");
    alice.expect("200 INVITE");
    // 64*T1, 32 s (RFC 3261 section 13.3.1.4); both get a BYE then.
    let bye = loop {
        match bob.fresh(PATIENCE) {
            Some(message) if name_of(&message) == "BYE" => break message,
            Some(message) => bob.fail(&format!("unexpected {}", name_of(&message))),
            None => {
                assert!(node.process().is_alive());
                alice.expect_repeat("200 INVITE");
            }
        }
    };
    bob.respond(&bye, 200, "", "", "");
    loop {
        match alice.next(PATIENCE) {
            Some(message) if name_of(&message) == "BYE" => break alice.respond(&message, 200, "", "", ""),
            Some(message) if name_of(&message) == "200 INVITE" => {}
            other => alice.fail(&format!("expected BYE, got {other:?}")),
        }
    }
    let records = node.stop();
    let cdr = records.only();
    assert_eq!((cdr.cause.status, cdr.hung_up_by), (408, HungUpBy::Platform), "{cdr:#?}");
}
