//! Nodes on machines of their own, and cables that are pulled: who is cut off, who carries on, and what becomes of it when the cable is back.
//!
//! Elsewhere: processes that are killed (`cluster`), etcd and the database away (`backends`), thousands of faults in simulated time (crate
//! `simulation`).

use system_tests::cluster::{Cluster, TWO_OF_EACH};
use system_tests::conversation::{Conversation, Pair, one_record};

/// The application server that has the only call, and the other one.
fn owner_and_other(cluster: &Cluster) -> (&'static str, &'static str) {
    let owner = cluster.who_says(&["a1", "a2"], "call began");
    (owner, if owner == "a1" { "a2" } else { "a1" })
}

#[test]
fn an_application_server_that_was_cut_off_lets_go_of_calls_that_others_carry_on() {
    let cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    let (owner, other) = owner_and_other(&cluster);
    cluster.unplug(owner);
    cluster.who_says(&[other], "call is carried on here");
    conversation.talk(10..20);
    cluster.who_says(&[owner], "owns nothing");
    cluster.plug(owner);
    cluster.wait_until_all_links_are_up();
    // It drops what it had, without a word to anybody.
    cluster.until_figure(owner, "carillon_calls", |calls| calls == 0.0);
    conversation.nobody_was_told_anything();
    conversation.talk(20..30);
    conversation.hang_up();
    one_record(cluster);
}

#[test]
fn an_application_server_that_was_cut_off_writes_no_second_record_of_a_call_that_has_ended() {
    let cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    let (owner, other) = owner_and_other(&cluster);
    cluster.unplug(owner);
    cluster.who_says(&[other], "call is carried on here");
    conversation.hang_up();
    cluster.who_says(&[other], "call ended");
    assert_eq!(cluster.count_of(owner, "call ended"), 0, "it still has the call");
    cluster.plug(owner);
    cluster.wait_until_all_links_are_up();
    cluster.until_figure(owner, "carillon_calls", |calls| calls == 0.0);
    conversation.nobody_was_told_anything();
    assert_eq!(cluster.count_of(owner, "call ended"), 0, "it lets go of it and ends nothing");
    one_record(cluster);
}

#[test]
fn a_proxy_without_etcd_keeps_its_calls_and_takes_new_ones() {
    let cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    let mut pair = Pair::register(&cluster);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    cluster.cut_from_etcd("p1");
    cluster.who_says(&["p1"], "owns nothing");
    // Others see it leave.
    cluster.until_ctl("p2", &["nodes"], |table| !table.lines().any(|line| line.starts_with("1 ")));
    conversation.talk(10..20);
    pair.call_and_hang_up();
    pair.call_back_and_hang_up();
    cluster.mend_to_etcd("p1");
    cluster.who_says(&["p1"], "the node's lease is certain");
    cluster.wait_until_all_links_are_up();
    pair.call_and_hang_up();
    conversation.talk(20..30);
    conversation.hang_up();
    assert_eq!(cluster.finish().len(), 4);
}

#[test]
fn a_node_that_cannot_reach_etcd_gives_up_what_it_alone_had_before_another_has_it() {
    let cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    // Both application servers have some.
    let has = |node: &str| {
        let mark = format!("node {node}");
        move |table: &str| table.lines().any(|line| line.contains(&mark))
    };
    // What was on its way from one to the other before does not count.
    cluster.until_ctl("a2", &["owners"], |table| has("3")(table) && has("4")(table) && !has("nobody")(table));
    cluster.ctl("a2", &["log-level", "info,mesh::etcd=debug"]);
    cluster.cut_from_etcd("a1");
    let cut = jiff::Timestamp::now().to_string();
    cluster.until_ctl("a2", &["owners"], |table| !has("3")(table) && !has("nobody")(table));
    let given_up = cluster.line_of("a1", "owns nothing", 0);
    let mut all_taken = (0..).map(|number| cluster.line_of("a2", "owned", number));
    let taken = all_taken.find(|line| *moment(line) > *cut).expect("it is waited for");
    assert!(moment(&given_up) < moment(&taken), "{given_up}\n{taken}");
    // Calls are another matter.
    conversation.talk(10..20);
    cluster.mend_to_etcd("a1");
    cluster.who_says(&["a1"], "the node's lease is certain");
    cluster.until_ctl("a1", &["owners"], |table| has("3")(table) && has("4")(table));
    conversation.hang_up();
    one_record(cluster);
}

/// When a line was logged: the time stamps of one machine compare as texts.
fn moment(line: &str) -> &str {
    line.split_whitespace().next().expect("a line begins with its time")
}

#[test]
fn a_call_goes_on_when_its_proxy_and_its_server_hear_each_other_one_way_only() {
    let cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    let (mut owner, mut other) = owner_and_other(&cluster);
    for (round, proxy_is_unheard) in [(1, true), (2, false)] {
        let (from, to) = if proxy_is_unheard { ("p1", owner) } else { (owner, "p1") };
        cluster.cut(from, to);
        cluster.who_says(&[other], "call is carried on here");
        conversation.talk(round * 20..round * 20 + 10);
        cluster.until_figure(owner, "carillon_calls", |calls| calls == 0.0);
        cluster.mend(from, to);
        cluster.wait_until_all_links_are_up();
        conversation.talk(round * 20 + 10..round * 20 + 20);
        (owner, other) = (other, owner);
    }
    conversation.hang_up();
    one_record(cluster);
}
