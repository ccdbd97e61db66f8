//! A cluster whose etcd or database is away: calls do not need them, and nothing is lost meanwhile.
//!
//! Elsewhere: single nodes that are cut off from them (`partitions`), the configuration while the database is away (`shared`).

use model::HungUpBy;
use system_tests::cluster::{Cluster, TWO_OF_EACH};
use system_tests::conversation::{Conversation, Pair};

const IN_DOUBT: &str = "the node's lease is in doubt";
const CERTAIN: &str = "the node's lease is certain";

#[test]
fn etcd_loses_the_member_that_leads_and_calls_go_on() {
    let mut cluster = Cluster::start_apart(TWO_OF_EACH, 3);
    let mut pair = Pair::register(&cluster);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    let leads = |cluster: &Cluster| {
        let is_leader = |member: &mesh::testing::EtcdServer| member.is_leader().is_ok_and(|leads| leads);
        cluster.etcd.iter().position(is_leader)
    };
    let leader = leads(&cluster).expect("one leads");
    cluster.etcd[leader].kill();
    conversation.talk(10..20);
    pair.call_and_hang_up();
    // The two that are left agree upon another, and a node that comes is heard of by all others.
    cluster.until("another member leads", || leads(&cluster).map(|_| ()).ok_or_else(String::new));
    let idle = if conversation.to()[0].ip() == cluster.ip("r1") { "r2" } else { "r1" };
    cluster.stop(idle);
    cluster.restart(idle);
    cluster.wait_until_all_links_are_up();
    cluster.until_ctl("p1", &["nodes"], |table| table.matches("ready").count() == 6);
    pair.call_back_and_hang_up();
    conversation.hang_up();
    let records = cluster.finish();
    assert_eq!(records.len(), 3, "{records:#?}");
}

#[test]
fn etcd_is_away_for_longer_than_any_lease_and_calls_come_and_go() {
    let mut cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    let mut pair = Pair::register(&cluster);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    let owner = cluster.who_says(&["a1", "a2"], "call began");
    let names: Vec<&str> = cluster.running().collect();
    cluster.etcd[0].kill();
    names.iter().for_each(|name| drop(cluster.line_of(name, IN_DOUBT, 0)));
    conversation.talk(10..20);
    pair.call_and_hang_up();
    // A server that is lost is missed without etcd, too.
    cluster.kill(owner);
    cluster.who_says(&["a1", "a2"], "call is carried on here");
    conversation.talk(20..30);
    pair.call_back_and_hang_up();
    cluster.etcd[0].restart().expect("etcd starts again");
    names.iter().filter(|name| **name != owner).for_each(|name| drop(cluster.line_of(name, CERTAIN, 0)));
    cluster.restart(owner);
    cluster.wait_until_all_links_are_up();
    cluster.until_ctl("p1", &["nodes"], |table| table.matches("ready").count() == 6);
    pair.call_and_hang_up();
    conversation.hang_up();
    let records = cluster.finish();
    assert_eq!(records.len(), 4, "{records:#?}");
    assert!(records.iter().all(|record| record.hung_up_by == HungUpBy::Caller), "{records:#?}");
}

#[test]
fn the_database_is_away_while_calls_begin_and_end_and_each_has_its_record_afterwards() {
    let cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    let mut pair = Pair::register(&cluster);
    let mut conversation = Conversation::begin(&cluster);
    conversation.talk(0..10);
    cluster.gate().shut();
    for _ in 0..3 {
        pair.call_and_hang_up();
        pair.call_back_and_hang_up();
    }
    conversation.hang_up();
    assert_eq!(cluster.database().query("SELECT count(*) FROM calls WHERE ended_us IS NOT NULL"), "0");
    cluster.gate().reopen();
    cluster.until("the table has all records", || {
        match cluster.database().query("SELECT count(*) FROM calls WHERE ended_us IS NOT NULL").as_str() {
            "7" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    let records = cluster.finish();
    assert_eq!(records.len(), 7, "{records:#?}");
}
