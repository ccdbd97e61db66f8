//! Many nodes as one exchange, in real processes: what a call needs of each, and what becomes of it when one is killed.
//!
//! Elsewhere: the same under thousands of faults in simulated time (crate `world`), how long it takes (`bench`).

use model::HungUpBy;
use std::net::SocketAddr;
use system_tests::call::{Established, establish, media_address, sdp};
use system_tests::cluster::{Cluster, TWO_OF_EACH};
use system_tests::endpoint::{Endpoint, body};
use system_tests::rtp::{RtpPort, Side, converse, greet};

/// Alice at one proxy, Bob at the other, in a conversation.
struct Conversation {
    alice: Endpoint,
    bob: Endpoint,
    call: Established,
    audio: [RtpPort; 2],
}

impl Conversation {
    fn begin(cluster: &Cluster) -> Conversation {
        let (mut alice, mut bob) = (cluster.phone("p1", 8, "alice"), cluster.phone("p2", 9, "bob"));
        bob.register();
        alice.register();
        let audio = [RtpPort::open(alice.ip(), 30_000), RtpPort::open(bob.ip(), 30_002)];
        cluster.wait_until_known(2);
        let call = establish(&mut alice, &mut bob);
        // What a proxy knows of a dialog is elsewhere, too, a moment after the call is answered.
        cluster.who_says_so_often(&["a1", "a2"], "dialog is kept", 2);
        Conversation { alice, bob, call, audio }
    }

    /// Where the platform has the two send.
    fn to(&self) -> [SocketAddr; 2] {
        [media_address(&self.call.answer), media_address(&self.call.offer)]
    }

    /// Both hear each other.
    fn talk(&self, numbers: std::ops::Range<u16>) {
        let [to_alice, to_bob] = self.to();
        let (alice, bob) =
            (Side { port: &self.audio[0], to: to_alice }, Side { port: &self.audio[1], to: to_bob });
        if numbers.start == 0 {
            greet(&alice, &bob);
        }
        converse(&alice, &bob, numbers.start.max(1)..numbers.end);
    }

    fn hang_up(&mut self) {
        self.alice.in_dialog(&mut self.call.caller, "BYE", "", "");
        self.bob.hung_up();
        self.alice.expect("200 BYE");
    }

    /// A leg is offered another relay: takes it. Where it has this side send from now on.
    fn moves(phone: &mut Endpoint, port: u16) -> SocketAddr {
        let request = phone.expect_of(&["INVITE", "UPDATE"]);
        let answer = sdp(phone.ip(), port);
        let is_invite = request.method() == sip::msg::Method::Invite;
        phone.respond(&request, 200, "", "", &answer);
        if is_invite {
            phone.expect("ACK");
        }
        media_address(&body(&request))
    }
}

/// One record, of an answered call that the caller ended.
fn one_record(cluster: Cluster) {
    let records = cluster.finish();
    assert_eq!(records.len(), 1, "one record for one call: {records:#?}");
    let record = &records[0];
    assert_eq!((record.cause.status, record.hung_up_by), (200, HungUpBy::Caller), "{record:#?}");
    assert!(record.answered_us.is_some_and(|answered| answered >= record.started_us), "{record:#?}");
}

#[test]
fn a_call_uses_nodes_of_every_role() {
    let cluster = Cluster::start(TWO_OF_EACH);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..20);
    let relays = [cluster.ip("r1"), cluster.ip("r2")];
    assert!(conversation.to().iter().all(|to| relays.contains(&to.ip())), "media go by a relay");
    conversation.hang_up();
    one_record(cluster);
}

#[test]
fn a_conversation_survives_its_application_server() {
    let mut cluster = Cluster::start(TWO_OF_EACH);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    let owner = cluster.who_says(&["a1", "a2"], "call began");
    let other = if owner == "a1" { "a2" } else { "a1" };
    cluster.kill(owner);
    // Media do not depend on it at all.
    conversation.talk(10..30);
    cluster.who_says(&[other], "call is carried on here");
    conversation.talk(30..40);
    conversation.hang_up();
    one_record(cluster);
}

#[test]
fn a_telephone_that_hangs_up_while_nobody_serves_its_call_is_heard_later() {
    let mut cluster = Cluster::start(TWO_OF_EACH);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    for server in ["a1", "a2"] {
        cluster.kill(server);
    }
    conversation.talk(10..20);
    // Its proxy answers it; the other side hears of it as soon as somebody serves calls again.
    conversation.alice.hang_up(&mut conversation.call.caller);
    cluster.restart("a1");
    conversation.bob.hung_up();
    one_record(cluster);
}

#[test]
fn a_conversation_survives_its_relay() {
    let mut cluster = Cluster::start(TWO_OF_EACH);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    let used = conversation.to()[0].ip();
    let (lost, left) = if used == cluster.ip("r1") { ("r1", "r2") } else { ("r2", "r1") };
    cluster.kill(lost);
    let to_alice = Conversation::moves(&mut conversation.alice, 30_000);
    let to_bob = Conversation::moves(&mut conversation.bob, 30_002);
    assert_eq!([to_alice.ip(), to_bob.ip()], [cluster.ip(left); 2], "the other relay has it now");
    let (alice, bob) = (
        Side { port: &conversation.audio[0], to: to_alice },
        Side { port: &conversation.audio[1], to: to_bob },
    );
    greet(&alice, &bob);
    converse(&alice, &bob, 1..20);
    conversation.hang_up();
    one_record(cluster);
}

#[test]
fn a_conversation_survives_its_proxy() {
    let mut cluster = Cluster::start(TWO_OF_EACH);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    // The caller's; its address comes back with another process, as a floating one would with another machine.
    cluster.kill("p1");
    conversation.talk(10..20);
    cluster.restart("p1");
    cluster.wait_until_all_are_in_reach();
    conversation.talk(20..30);
    conversation.hang_up();
    one_record(cluster);
}

#[test]
fn an_application_server_that_is_told_to_stop_hands_its_calls_over() {
    let mut cluster = Cluster::start(TWO_OF_EACH);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    let owner = cluster.who_says(&["a1", "a2"], "call began");
    cluster.stop(owner);
    conversation.talk(10..20);
    conversation.hang_up();
    one_record(cluster);
}

#[test]
fn a_node_that_cannot_join_says_which_setting_is_wrong() {
    let mut cluster = Cluster::start(&[("n1", "proxy,as,relay")]);
    // The same number from another data directory, and an etcd that is not there.
    for (from, to, setting) in [
        (format!("data = {:?}", cluster.data("n1")), format!("data = {:?}", cluster.data("n2")), "node.id"),
        (cluster.etcd.url(), "http://127.0.0.1:1".to_owned(), "cluster.etcd"),
    ] {
        let said = cluster.refused("n1", &from, &to);
        assert!(said.contains(setting), "{setting} in {said}");
    }
    let _ = cluster.process("n1").is_alive();
}
