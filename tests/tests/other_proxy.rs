//! A proxy that is lost, and telephones that have a second address: what they say there, and how they are reached.
//!
//! Elsewhere: a proxy whose address comes back with another process (`cluster`).

use model::HungUpBy;
use std::time::Duration;
use system_tests::call::{establish_with, media_address, sdp, sdp_with};
use system_tests::cluster::{Cluster, TWO_OF_EACH};
use system_tests::conversation::{Conversation, one_record};
use system_tests::endpoint::{Endpoint, body};

#[test]
fn what_a_telephone_says_in_its_call_is_understood_at_another_proxy() {
    let mut cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    cluster.kill("p1");
    let Conversation { alice, bob, call, .. } = &mut conversation;
    alice.turn_to(cluster.sip("p2"));
    // She puts him on hold at once and takes him back, before anybody else has missed her proxy.
    for (version, direction) in [(2, "sendonly"), (3, "sendrecv")] {
        let offer = sdp_with(alice.ip(), 30_000, version, &format!("a={direction}\r\n"));
        alice.in_dialog(&mut call.caller, "INVITE", "", &offer);
        let heard = bob.expect("INVITE");
        assert!(body(&heard).contains(direction), "{}", body(&heard));
        bob.respond(&heard, 200, "", "", &sdp_with(bob.ip(), 30_002, version, ""));
        bob.expect("ACK");
        let answer = alice.expect("200 INVITE");
        alice.ack(&call.caller, call.caller.cseq, "");
        (call.offer, call.answer) = (body(&heard), body(&answer));
    }
    conversation.talk(10..20);
    conversation.hang_up();
    one_record(cluster);
}

#[test]
fn the_platform_reaches_both_sides_of_a_call_whose_proxy_is_lost() {
    let mut cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    let relay = if conversation.to()[0].ip() == cluster.ip("r1") { "r1" } else { "r2" };
    cluster.kill("p1");
    conversation.alice.turn_to(cluster.sip("p2"));
    cluster.who_says(&["a1", "a2"], "leg goes on at another proxy");
    // She hears where her call is now: a telephone without a second address needs no more.
    conversation.alice_is_told_of(cluster.sip("p2"));
    conversation.talk(10..20);
    // It offers both another relay, and hangs up on both.
    cluster.kill(relay);
    let to_alice = Conversation::moves(&mut conversation.alice, 30_000);
    let to_bob = Conversation::moves(&mut conversation.bob, 30_002);
    assert!([to_alice, to_bob].iter().all(|to| to.ip() != cluster.ip(relay)));
    let calls = cluster.ctl("a1", &["calls"]);
    let id = calls.lines().next().and_then(|line| line.split_whitespace().next());
    cluster.ctl("a1", &["hang-up", id.unwrap_or_else(|| panic!("no call in {calls}"))]);
    conversation.alice.hung_up();
    conversation.bob.hung_up();
    let records = cluster.finish();
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(records[0].hung_up_by, HungUpBy::Platform, "{records:#?}");
}

#[test]
fn telephones_of_a_lost_proxy_are_called_by_udp_at_once_and_by_tcp_when_they_are_back() {
    let mut cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    let (mut alice, mut bob) = (cluster.phone("p1", 8, "alice"), cluster.phone("p2", 9, "bob"));
    let mut carol = cluster.phone_by_tcp("p1", 10, "carol");
    cluster.known(3, || [&mut alice, &mut bob, &mut carol].into_iter().for_each(Endpoint::register));
    cluster.kill("p1");
    alice.turn_to(cluster.sip("p2"));
    cluster.who_says(&["a1"], "another node is out of reach peer=1");
    cluster.who_says(&["a2"], "another node is out of reach peer=1");
    let mut talk = |callee: &mut Endpoint, number: &str| {
        let (offer, answer) = (sdp(bob.ip(), 30_000), sdp(callee.ip(), 30_002));
        let mut call = establish_with(&mut bob, callee, number, &offer, &answer);
        assert_ne!(media_address(&call.offer).ip(), bob.ip());
        bob.in_dialog(&mut call.caller, "BYE", "", "");
        callee.hung_up();
        bob.expect("200 BYE");
    };
    talk(&mut alice, "101");
    // Her connection went with the proxy.
    assert!(carol.next(Duration::from_secs(20)).is_none());
    let mut carol = cluster.phone_by_tcp("p2", 10, "carol");
    carol.register();
    talk(&mut carol, "103");
    assert_eq!(cluster.finish().len(), 2);
}

#[test]
fn whoever_borrows_the_name_of_a_call_does_not_get_what_its_telephone_is_told() {
    let cluster = Cluster::start(TWO_OF_EACH);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    let mut mallory = cluster.phone("p2", 16, "mallory");
    let mut dialog = conversation.call.caller.clone();
    dialog.call_id = "another".to_owned();
    mallory.in_dialog(&mut dialog, "BYE", "", "");
    mallory.expect("481 BYE");
    // Her leg is at the other proxy now, and Alice hears of it.
    let alice = &mut conversation.alice;
    alice.turn_to(cluster.sip("p2"));
    let request = alice.expect_of(&["INVITE", "UPDATE"]);
    alice.respond(&request, 200, "", "", &sdp(alice.ip(), 30_000));
    if request.method() == sip::msg::Method::Invite {
        alice.expect("ACK");
    }
    conversation.talk(10..20);
    conversation.hang_up();
    one_record(cluster);
}

#[test]
fn whoever_changes_or_borrows_the_name_of_a_call_hears_that_there_is_none() {
    let mut cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    cluster.kill("p1");
    let mut mallory = cluster.phone("p2", 16, "mallory");
    let right = conversation.call.caller.clone();
    let (name, tag) = right.remote.split_once(";tag=").expect("the platform's side has a tag");
    for at in [0, tag.len() / 2, tag.len() - 1] {
        let mut octets = tag.as_bytes().to_vec();
        octets[at] = if octets[at] == b'a' { b'b' } else { b'a' };
        let forged = String::from_utf8(octets).expect("letters and digits");
        let mut dialog = right.clone();
        dialog.remote = format!("{name};tag={forged}");
        mallory.in_dialog(&mut dialog, "BYE", "", "");
        mallory.expect("481 BYE");
    }
    // The right name of the other side's dialog.
    let mut dialog = right.clone();
    dialog.call_id = "another".to_owned();
    mallory.in_dialog(&mut dialog, "BYE", "", "");
    mallory.expect("481 BYE");
    let mut dialog = right;
    dialog.local =
        dialog.local.split_once(";tag=").map_or_else(String::new, |(name, _)| format!("{name};tag=x"));
    mallory.in_dialog(&mut dialog, "BYE", "", "");
    mallory.expect("481 BYE");
    // Nothing has become of the call.
    conversation.talk(10..20);
    conversation.alice.turn_to(cluster.sip("p2"));
    conversation.hang_up();
    one_record(cluster);
}
