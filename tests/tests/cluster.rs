//! Many nodes as one exchange, in real processes: what a call needs of each, and what becomes of it when one is killed.
//!
//! Elsewhere: the same under thousands of faults in simulated time (crate `simulation`), how long it takes (`bench`).

use system_tests::cluster::{Cluster, TWO_OF_EACH};
use system_tests::conversation::{Conversation, Pair, one_record};
use system_tests::rtp::{Side, converse, greet};

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
        (cluster.etcd[0].url(), "http://127.0.0.1:1".to_owned(), "cluster.etcd"),
        // It would be a second cluster on the same database.
        ("[cluster]\n".to_owned(), "[cluster]\nprefix = \"/other\"\n".to_owned(), "cluster.prefix"),
    ] {
        let said = cluster.refused("n1", &from, &to);
        assert!(said.contains(setting), "{setting} in {said}");
    }
    let _ = cluster.process("n1").is_alive();
}

#[test]
fn a_server_that_is_full_passes_a_call_on_to_the_next_one() {
    let mut cluster = Cluster::start(TWO_OF_EACH);
    let mut pair = Pair::register(&cluster);
    pair.call_and_hang_up();
    // All calls of their client go there.
    let full = cluster.who_says(&["a1", "a2"], "call began");
    let other = if full == "a1" { "a2" } else { "a1" };
    cluster.stop(full);
    cluster.change(full, "[operate]", "[limits]\nmax_calls = 1\n[operate]");
    cluster.restart(full);
    cluster.wait_until_all_are_in_reach();
    let mut conversation = Conversation::begin(&cluster);
    assert_eq!(cluster.figure(full, "carillon_calls").to_bits(), 1.0_f64.to_bits());
    let begun = cluster.figure(other, "carillon_calls_begun_total");
    pair.call_and_hang_up();
    cluster.until_figure(other, "carillon_calls_begun_total", |calls| calls > begun);
    conversation.talk(0..10);
    conversation.hang_up();
    assert_eq!(cluster.finish().len(), 3);
}
