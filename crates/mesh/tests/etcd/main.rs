//! Memberships against a real etcd: joining, refusals, failures of nodes, of the network and of etcd itself, TLS and users.
//!
//! Nodes have runtimes of their own, so that one can end without a word. Elsewhere: the same decisions under thousands of seeded
//! faults (`cluster::member`).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
mod tls;

use cluster::ids::NodeId;
use cluster::node::{Fence, Kind, NodeInfo, Role};
use mesh::etcd::{EtcdSettings, JoinError, Membership, Standing};
use mesh::testing::EtcdServer;
use std::collections::BTreeSet;
use std::time::Duration;
use support::{Hose, Node, compact, info, keys, refused, settings};

const KIND: Kind = Kind::HOUSEKEEPING;

#[test]
fn nodes_see_each_other_come_change_and_leave() {
    let etcd = EtcdServer::start().unwrap();
    let a = Node::start(settings(&etcd.url(), None), info(1));
    let b = Node::start(settings(&etcd.url(), Some(7)), info(2));
    assert_eq!((a.id(), b.id()), (NodeId(1), NodeId(7)));
    a.sees(|view| view.named("node-2").is_some_and(|node| node.id == NodeId(7)));
    b.sees(|view| view.ready(Role::As).count() == 2);
    b.set_draining(true);
    b.set_load(9);
    a.sees(|view| view.node(NodeId(7)).is_some_and(|node| node.draining && node.calls == 9));
    assert_eq!(a.view().ready(Role::As).count(), 1);
    b.leave();
    a.sees(|view| view.nodes.len() == 1);
    assert!(!keys(&etcd.url()).iter().any(|key| key.starts_with("/carillon/nodes/7")));
}

#[test]
fn a_number_that_is_in_use_is_refused_and_nothing_of_the_late_one_stays() {
    let etcd = EtcdServer::start().unwrap();
    let _first = Node::start(settings(&etcd.url(), Some(3)), info(1));
    let before = keys(&etcd.url());
    let error = refused(settings(&etcd.url(), Some(3)), info(2)).to_string();
    assert!(error.starts_with("node.id = 3 is in use by \"node-1\" at 10.0.0.1:7400 since 2027-"), "{error}");
    assert_eq!(keys(&etcd.url()), before);
}

#[test]
fn a_node_that_was_killed_has_its_number_back_at_once_and_its_ownership_when_its_lease_has_ended() {
    let etcd = EtcdServer::start().unwrap();
    let killed = Node::start(settings(&etcd.url(), None), info(1));
    killed.wish(KIND, BTreeSet::from([0]));
    let before = killed.gets(KIND, 0);
    killed.kill();
    let back = Node::start(settings(&etcd.url(), None), NodeInfo { instance: 99, ..info(1) });
    assert_eq!(back.id(), NodeId(1));
    back.wish(KIND, BTreeSet::from([0]));
    assert!(back.gets(KIND, 0) > before);
    back.sees(|view| view.owner(KIND, 0).is_some_and(|owner| owner.instance == 99));
}

#[test]
fn of_two_processes_with_one_identity_the_first_is_told_to_end() {
    let etcd = EtcdServer::start().unwrap();
    let first = Node::start(settings(&etcd.url(), None), info(1));
    let mut standing = first.standing();
    let second = Node::start(settings(&etcd.url(), None), NodeInfo { instance: 99, ..info(1) });
    first.wait(async { standing.wait_for(|standing| *standing == Standing::Left).await.map(drop).unwrap() });
    second.sees(|view| view.node(NodeId(1)).is_some_and(|node| node.instance == 99));
}

#[test]
fn what_a_dead_node_owned_goes_to_another_with_a_larger_fence() {
    let etcd = EtcdServer::start().unwrap();
    let a = Node::start(settings(&etcd.url(), None), info(1));
    let b = Node::start(settings(&etcd.url(), None), info(2));
    for node in [&a, &b] {
        node.share(Kind::CLIENTS, 16, Role::As);
    }
    b.sees(|view| view.nodes.len() == 2);
    b.sees(|view| view.owners.len() == 16 && view.owners.values().any(|owner| owner.node == NodeId(1)));
    let was = b.view().owners.values().map(|owner| owner.fence).max().unwrap();
    let of_a = b.view();
    let of_a: Vec<u32> =
        of_a.owners.iter().filter(|(_, owner)| owner.node == NodeId(1)).map(|((_, key), _)| *key).collect();
    a.kill();
    b.sees(|view| view.nodes.len() == 1 && view.owners.len() == 16);
    for key in of_a {
        assert!(b.gets(Kind::CLIENTS, key) > was, "partition {key}");
    }
}

#[test]
fn a_watch_that_was_cut_off_reads_anew_what_was_compacted_meanwhile() {
    let etcd = EtcdServer::start().unwrap();
    let hose = Hose::to(etcd.address());
    let a = Node::start(settings(&hose.url(), None), info(1));
    let b = Node::start(settings(&etcd.url(), None), info(2));
    a.sees(|view| view.nodes.len() == 2);
    hose.cut();
    for calls in 1..=3 {
        b.set_load(calls);
        b.sees(|view| view.nodes[&NodeId(2)].calls == calls);
    }
    compact(&etcd.url(), b.view().revision);
    assert_eq!(a.view().nodes[&NodeId(2)].calls, 0, "cut off, it has its last view");
    hose.mend();
    a.sees(|view| view.nodes[&NodeId(2)].calls == 3);
    b.set_load(4);
    a.sees(|view| view.nodes[&NodeId(2)].calls == 4);
}

#[test]
fn while_etcd_is_away_nothing_is_owned_for_long_and_all_comes_back_with_it() {
    let mut etcd = EtcdServer::start().unwrap();
    let a = Node::start(settings(&etcd.url(), None), info(1));
    let b = Node::start(settings(&etcd.url(), None), info(2));
    for node in [&a, &b] {
        node.wish(KIND, BTreeSet::from([0]));
    }
    a.sees(|view| view.owners.len() == 1 && view.nodes.len() == 2);
    let owner = a.view().owner(KIND, 0).unwrap().node;
    let (owner, other) = if owner == a.id() { (&a, &b) } else { (&b, &a) };
    owner.gets(KIND, 0);
    assert!(owner.certain().is_some());
    etcd.kill();
    owner.stands(|standing| *standing == Standing::LostLease);
    assert_eq!((owner.owned(KIND, 0), other.owned(KIND, 0), owner.certain()), (None, None, None));
    assert_eq!(a.view().nodes.len(), 2, "it routes by its last view");
    etcd.restart().unwrap();
    for node in [&a, &b] {
        node.stands(|standing| matches!(standing, Standing::Joined(_)));
        node.sees(|view| view.nodes.len() == 2 && view.owners.len() == 1);
    }
    let owners = || [&a, &b].iter().filter(|node| node.owned(KIND, 0).is_some()).count();
    a.wait(async {
        while owners() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(owners(), 1);
    assert!(owner.certain().is_some());
}

#[test]
fn an_etcd_that_stands_still_is_as_good_as_none_and_all_comes_back_with_it() {
    let etcd = EtcdServer::start().unwrap();
    let a = Node::start(settings(&etcd.url(), None), info(1));
    let b = Node::start(settings(&etcd.url(), None), info(2));
    a.share(Kind::CLIENTS, 8, Role::As);
    b.share(Kind::CLIENTS, 8, Role::As);
    let owned = || [&a, &b].iter().map(|node| node.ownership().borrow().len()).sum::<usize>();
    let all_owned = || async {
        while owned() != 8 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    a.wait(all_owned());
    etcd.pause().unwrap();
    for node in [&a, &b] {
        node.stands(|standing| *standing == Standing::LostLease);
    }
    assert_eq!(owned(), 0);
    etcd.resume().unwrap();
    for node in [&a, &b] {
        node.stands(|standing| matches!(standing, Standing::Joined(_)));
    }
    a.wait(all_owned());
}

#[test]
fn the_loss_of_one_etcd_of_three_is_got_over() {
    let mut etcd = EtcdServer::start_several(3).unwrap();
    let mut all = settings(&etcd[0].url(), None);
    all.endpoints = etcd.iter().map(EtcdServer::url).collect();
    let a = Node::start(all.clone(), info(1));
    all.endpoints.rotate_left(1);
    let b = Node::start(all, info(2));
    a.sees(|view| view.nodes.len() == 2);
    // The one that a speaks to.
    etcd[0].kill();
    b.set_load(5);
    a.sees(|view| view.nodes[&NodeId(2)].calls == 5);
    a.wish(KIND, BTreeSet::from([0]));
    a.gets(KIND, 0);
    b.sees(|view| view.owner(KIND, 0).is_some_and(|owner| owner.node == a.id()));
}

#[test]
fn one_of_several_etcd_addresses_is_enough() {
    let etcd = EtcdServer::start().unwrap();
    let mut settings = settings(&etcd.url(), None);
    settings.endpoints.insert(0, "http://127.0.0.1:1".to_owned());
    let node = Node::start(settings, info(1));
    node.wish(KIND, BTreeSet::from([0]));
    node.gets(KIND, 0);
}

#[test]
fn another_clusters_prefix_is_refused() {
    let etcd = EtcdServer::start().unwrap();
    let _first = Node::start(settings(&etcd.url(), None), info(1));
    let strange = EtcdSettings { cluster: 78, ..settings(&etcd.url(), None) };
    let error = refused(strange.clone(), info(2)).to_string();
    assert!(error.starts_with("cluster.prefix = \"/carillon\": belongs to the cluster "), "{error}");
    let _beside = Node::start(EtcdSettings { prefix: "/other".to_owned(), ..strange }, info(2));
}

#[test]
fn an_etcd_that_is_not_there_is_an_error_in_bounded_time() {
    let settings = EtcdSettings { patience: Duration::from_secs(2), ..settings("http://127.0.0.1:1", None) };
    let error = refused(settings, info(1)).to_string();
    assert!(
        error.starts_with(
            "cluster.etcd = [\"http://127.0.0.1:1\"]: none of them let the node join within 2 s ("
        ),
        "{error}"
    );
    assert!(error.contains("refused") && !error.contains('{'), "{error}");
}

#[test]
fn settings_of_no_use_are_told_by_their_names() {
    let good = settings("http://127.0.0.1:1", None);
    let told = |settings: EtcdSettings| match refused(settings, info(1)) {
        JoinError::Setting { setting, .. } => setting,
        error => panic!("{error}"),
    };
    let endpoints = |endpoint: &str| EtcdSettings { endpoints: vec![endpoint.to_owned()], ..good.clone() };
    assert_eq!(told(EtcdSettings { endpoints: vec![], ..good.clone() }), "cluster.etcd");
    for bad in ["127.0.0.1:2379", "ftp://a:1", "http://", "http://user@a:1", "http://a:1/v3"] {
        assert_eq!(told(endpoints(bad)), "cluster.etcd", "{bad}");
    }
    assert_eq!(told(endpoints("https://a:1")), "cluster.etcd_ca_file");
    let missing = EtcdSettings { ca_file: Some("/does/not/exist".into()), ..endpoints("https://a:1") };
    assert_eq!(told(missing), "cluster.etcd_ca_file");
    assert_eq!(told(EtcdSettings { ca_file: Some("/x".into()), ..good.clone() }), "cluster.etcd");
    assert_eq!(told(EtcdSettings { prefix: "carillon".to_owned(), ..good.clone() }), "cluster.prefix");
    assert_eq!(told(EtcdSettings { lease_seconds: 4, ..good.clone() }), "cluster.lease_seconds");
    assert_eq!(told(EtcdSettings { node: Some(NodeId(0)), ..good }), "node.id");
}

#[test]
fn a_node_that_stands_alone_owns_everything_and_asks_nobody() {
    let node = Membership::alone(NodeInfo { id: NodeId(1), ..info(1) });
    assert_eq!((node.owned(KIND, 0), node.is_alone()), (Some(Fence(0)), true));
    assert!(node.certain().is_some());
    node.share(Kind::CLIENTS, 4, Role::As);
    node.wish(KIND, BTreeSet::from([0]));
    assert_eq!(node.ownership().borrow().len(), 5);
    node.set_draining(true);
    assert!(node.view().nodes[&NodeId(1)].draining);
}
