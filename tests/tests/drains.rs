//! Nodes that an operator has let go of what they have: no call fails, no packet is lost, and new calls go elsewhere.
//!
//! Elsewhere: restarts of all nodes (`rolling`), how a drain is asked for by other ways (crate `carillon`, `drain`).

use system_tests::call::{establish, sdp};
use system_tests::cluster::{Cluster, TWO_OF_EACH};
use system_tests::conversation::Conversation;
use system_tests::endpoint::target;
use system_tests::load::Load;

/// What a proxy says when it is asked how it is.
fn options(cluster: &Cluster, proxy: &str) -> u16 {
    let mut phone = cluster.phone(proxy, 15, "dave");
    let record = phone.record();
    phone.ask("OPTIONS", "sip:users.democlient.com", &record, &record, "").status()
}

#[test]
fn a_server_a_relay_and_a_proxy_are_drained_under_load_and_nobody_notices() {
    let cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    let owner = cluster.who_says(&["a1", "a2"], "call began");
    let mut load = Load::start(&cluster);
    load.goes_on();

    // An application server gives its calls away, and gets no new ones.
    cluster.ctl("p1", &["drain", owner]);
    cluster.until_figure(owner, "carillon_calls", |calls| calls == 0.0);
    let begun = cluster.figure(owner, "carillon_calls_begun_total");
    load.goes_on();
    conversation.talk(10..20);
    assert_eq!(cluster.figure(owner, "carillon_calls_begun_total").to_bits(), begun.to_bits());
    cluster.ctl("p2", &["drain", owner, "--undo"]);
    cluster.until_ctl(owner, &["nodes"], |table| table.matches("ready").count() == 6);
    load.goes_on();
    cluster.until_figure(owner, "carillon_calls_begun_total", |calls| calls > begun);

    // A relay has everybody move to the other one.
    let relay = if conversation.to()[0].ip() == cluster.ip("r1") { "r1" } else { "r2" };
    std::thread::scope(|scope| {
        let drain = scope.spawn(|| cluster.ctl("a1", &["drain", relay]));
        conversation.move_to_another_relay();
        drain.join().expect("it drains");
    });
    assert!(conversation.to().iter().all(|to| to.ip() != cluster.ip(relay)));
    load.goes_on();
    assert_eq!(cluster.figure(relay, "carillon_relay_sessions").to_bits(), 0.0_f64.to_bits());
    cluster.ctl(relay, &["drain", "--undo"]);
    load.goes_on();
    cluster.until_figure(relay, "carillon_relay_sessions", |sessions| sessions > 0.0);

    // A proxy takes no new calls and says so; the legs that it has go on at the other one.
    assert_eq!((options(&cluster, "p1"), options(&cluster, "p2")), (200, 200));
    conversation.alice.turn_to(cluster.sip("p2"));
    std::thread::scope(|scope| {
        let drain = scope.spawn(|| cluster.ctl("a1", &["drain", "p1"]));
        conversation.alice_is_told_of(cluster.sip("p2"));
        conversation.talk(20..30);
        drain.join().expect("it drains");
    });
    assert_eq!(cluster.figure("p1", "carillon_legs").to_bits(), 0.0_f64.to_bits());
    assert_eq!((options(&cluster, "p1"), options(&cluster, "p2")), (503, 200));
    load.goes_on();
    conversation.talk(30..40);
    conversation.hang_up();
    cluster.ctl("a1", &["drain", "p1", "--undo"]);
    cluster.until_figure("p1", "carillon_draining", |draining| draining == 0.0);
    assert_eq!(options(&cluster, "p1"), 200);
    load.goes_on();
    load.finish(cluster, 1);
}

#[test]
fn a_leg_by_a_stream_stays_with_a_proxy_that_drains_and_its_call_goes_on() {
    let cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    let (mut alice, mut bob) = (cluster.phone_by_tcp("p1", 8, "alice"), cluster.phone("p1", 9, "bob"));
    cluster.known(2, || {
        bob.register();
        alice.register();
    });
    let mut call = establish(&mut alice, &mut bob);
    cluster.who_says_so_often(&["a1", "a2"], "dialog is kept", 2);
    bob.turn_to(cluster.sip("p2"));
    std::thread::scope(|scope| {
        let drain = scope.spawn(|| cluster.try_ctl("a1", &["drain", "p1", "--timeout", "6s"]));
        // His leg goes, hers cannot.
        let told = bob.expect_of(&["INVITE", "UPDATE"]);
        bob.respond(&told, 200, "", "", &sdp(bob.ip(), 30_002));
        if told.method() == sip::msg::Method::Invite {
            bob.expect("ACK");
        }
        call.callee.target = target(&told);
        let left = drain.join().expect("it says what is left");
        assert_eq!(left.status.code(), Some(3), "{left:?}");
    });
    assert_eq!(cluster.figure("p1", "carillon_legs").to_bits(), 1.0_f64.to_bits());
    bob.in_dialog(&mut call.callee, "BYE", "", "");
    alice.hung_up();
    bob.expect("200 BYE");
    cluster.ctl("a1", &["drain", "p1"]);
    let records = cluster.finish();
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(records[0].hung_up_by, model::HungUpBy::Callee);
}

#[test]
fn a_proxy_that_is_told_to_stop_ends_in_time_and_its_calls_go_on_by_another() {
    let mut cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    cluster.stop("p1");
    cluster.change("p1", "drain_seconds = 15", "drain_seconds = 2");
    cluster.restart("p1");
    cluster.wait_until_all_links_are_up();
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    // Her leg goes before it does, and she has heard of it before its limit.
    let p2 = cluster.sip("p2");
    conversation.alice.turn_to(p2);
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| cluster.stop("p1"));
        conversation.alice_is_told_of(p2);
        stop.join().expect("it ends");
    });
    conversation.talk(10..20);
    conversation.bob.in_dialog(&mut conversation.call.callee, "BYE", "", "");
    conversation.alice.hung_up();
    conversation.bob.expect("200 BYE");
    let records = cluster.finish();
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(records[0].hung_up_by, model::HungUpBy::Callee);
}
