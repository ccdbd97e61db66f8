//! One situation each: joining and being refused, taking over, doubt, claims, leaving.

use super::*;
use crate::node::Roles;
use crate::testing::{Etcd, Wire};

struct Node {
    member: Member,
    wire: Wire,
    events: Vec<Event>,
}

struct World {
    etcd: Etcd,
    start: Instant,
    now: Instant,
}

const LEASE: u32 = 10;
const KIND: Kind = Kind::HOUSEKEEPING;

fn info(identity: u128, instance: u64) -> NodeInfo {
    NodeInfo {
        id: NodeId(0),
        name: format!("node-{identity}"),
        instance,
        identity,
        roles: Roles::ALL,
        zone: String::new(),
        capacity: 100,
        peer: format!("10.0.0.{identity}:7400"),
        sip: Vec::new(),
        media: Vec::new(),
        release: "1".to_owned(),
        protocol: (1, 1),
        draining: false,
        calls: 0,
        started_ms: 1_800_000_000_000,
    }
}

fn settings(id: Option<u16>) -> MemberSettings {
    MemberSettings {
        prefix: "/carillon".to_owned(),
        lease_seconds: LEASE,
        id: id.map(NodeId),
        cluster: 77,
        fences_from: 0,
    }
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self { etcd: Etcd::default(), start: now, now }
    }

    fn node(&mut self, settings: MemberSettings, info: NodeInfo) -> Node {
        let member = Member::new(settings, info, self.now);
        let mut node = Node { member, wire: Wire::default(), events: Vec::new() };
        self.settle(&mut [&mut node]);
        node
    }

    fn settle(&mut self, nodes: &mut [&mut Node]) {
        for _ in 0..3 {
            for node in &mut *nodes {
                let events = node.wire.carry(&mut node.member, &mut self.etcd, self.now);
                node.events.extend(events);
            }
        }
    }

    /// Time goes on in steps of 100 ms, in which these nodes reach etcd.
    fn run(&mut self, seconds: u64, nodes: &mut [&mut Node]) {
        for _ in 0..seconds * 10 {
            self.now += Duration::from_millis(100);
            self.etcd.advance(self.now - self.start);
            self.settle(nodes);
        }
    }
}

impl Node {
    fn owned(&self, world: &World) -> Option<Fence> {
        self.member.owned(KIND, 0, world.now)
    }

    fn refused(&self) -> String {
        let refused = self.events.iter().find_map(|event| match event {
            Event::Refused(error) => Some(error.to_string()),
            _ => None,
        });
        refused.unwrap_or_else(|| panic!("not refused: {:?}", self.events))
    }

    fn number(&self) -> Option<u16> {
        self.events.iter().rev().find_map(|event| match event {
            Event::Joined(id) => Some(id.0),
            _ => None,
        })
    }
}

#[test]
fn nodes_join_see_each_other_and_are_seen_to_go() {
    let mut world = World::new();
    let mut a = world.node(settings(Some(7)), info(1, 10));
    let mut b = world.node(settings(None), info(2, 20));
    let mut c = world.node(settings(None), info(3, 30));
    world.settle(&mut [&mut a, &mut b, &mut c]);
    assert_eq!((a.number(), b.number(), c.number()), (Some(7), Some(1), Some(2)));
    let ids: Vec<u16> = a.member.view().nodes.keys().map(|id| id.0).collect();
    assert_eq!(ids, [1, 2, 7]);
    b.member.leave(world.now);
    world.settle(&mut [&mut b, &mut a]);
    assert_eq!(b.events.last(), Some(&Event::Left));
    assert!(a.member.view().node(NodeId(1)).is_none(), "one that leaves is gone at once");
    world.run(u64::from(LEASE) + 1, &mut [&mut a]);
    assert_eq!(a.member.view().nodes.len(), 1, "one that says nothing is gone with its lease");
}

#[test]
fn a_number_of_another_node_is_refused_with_its_holder_and_nothing_stays() {
    let mut world = World::new();
    let _holder = world.node(settings(Some(3)), info(1, 10));
    let before = world.etcd.keys().clone();
    let late = world.node(settings(Some(3)), info(2, 20));
    assert_eq!(
        late.refused(),
        "node.id = 3 is in use by \"node-1\" at 10.0.0.1:7400 since 2027-01-15 08:00 UTC; give this node another number or \
         \"auto\", or wait until that one has left"
    );
    assert_eq!(late.events.last(), Some(&Event::Left));
    assert_eq!(world.etcd.keys(), &before);
}

#[test]
fn a_node_that_crashed_takes_its_number_back_at_once_whatever_number_it_was() {
    let mut world = World::new();
    let mut other = world.node(settings(None), info(9, 90));
    let crashed = world.node(settings(None), info(1, 10));
    assert_eq!(crashed.number(), Some(2));
    other.member.leave(world.now);
    world.settle(&mut [&mut other]);
    let back = world.node(settings(None), info(1, 11));
    assert_eq!(back.number(), Some(2), "its own and not the lowest");
}

#[test]
fn of_two_processes_with_one_identity_the_first_ends() {
    let mut world = World::new();
    let mut first = world.node(settings(Some(1)), info(1, 10));
    first.member.wish(KIND, BTreeSet::from([0]), world.now);
    world.settle(&mut [&mut first]);
    assert!(first.owned(&world).is_some());
    let mut second = world.node(settings(Some(1)), info(1, 11));
    second.member.wish(KIND, BTreeSet::from([0]), world.now);
    assert_eq!((second.number(), second.owned(&world)), (Some(1), None), "it owns what its lease does");
    world.settle(&mut [&mut first, &mut second]);
    assert!(first.events.contains(&Event::Superseded));
    assert_eq!((first.events.last(), first.owned(&world)), (Some(&Event::Left), None));
    assert!(second.owned(&world).is_some(), "the first revoked its lease");
}

#[test]
fn another_clusters_prefix_and_another_ages_protocol_are_refused() {
    let mut world = World::new();
    let mut first = world.node(settings(Some(1)), info(1, 10));
    let strange = world.node(MemberSettings { cluster: 78, ..settings(Some(2)) }, info(2, 20));
    assert!(strange.refused().starts_with("cluster.prefix = \"/carillon\": belongs to the cluster 0000"));
    let newer = NodeInfo { protocol: (2, 3), ..info(2, 20) };
    let refused = world.node(settings(Some(2)), newer.clone()).refused();
    assert!(refused.contains("node 1 \"node-1\" speaks versions 1 to 1 of the protocol"), "{refused}");
    first.member.leave(world.now);
    world.settle(&mut [&mut first]);
    let upgraded = world.node(settings(Some(2)), newer);
    assert_eq!(upgraded.number(), Some(2), "a cluster that stood still may be upgraded by any step");
    assert!(world.node(settings(Some(1)), info(1, 11)).refused().contains("speaks versions 2 to 3"));
}

#[test]
fn what_stands_at_the_prefix_and_is_not_ours_is_named() {
    let mut world = World::new();
    let put = Op::Put { key: "/carillon/cluster".to_owned(), value: "{}".to_owned(), lease: None };
    world.etcd.serve(&Request::Txn(Txn { when: vec![], then: vec![put] })).unwrap();
    let refused = world.node(settings(None), info(1, 10)).refused();
    assert!(refused.contains("holds /carillon/cluster, which is no cluster's"), "{refused}");
}

#[test]
fn what_others_could_not_read_is_refused_before_anything_is_written() {
    let mut world = World::new();
    let bad = NodeInfo { peer: String::new(), ..info(1, 10) };
    let refused = world.node(settings(None), bad).refused();
    assert!(refused.starts_with("peer of a node is empty"), "{refused}");
    assert!(world.etcd.keys().keys().all(|key| key == "/carillon/cluster"));
}

#[test]
fn in_doubt_nothing_is_owned_and_a_lease_that_never_ended_gives_it_back() {
    let mut world = World::new();
    let mut node = world.node(settings(Some(1)), info(1, 10));
    node.member.wish(KIND, BTreeSet::from([0]), world.now);
    world.settle(&mut [&mut node]);
    let fence = node.owned(&world).unwrap();
    // Requests of the next eight seconds are not answered; a lease of ten still lives then.
    let from = world.now;
    let mut late = Vec::new();
    while world.now < from + Duration::from_secs(8) {
        assert_eq!(node.owned(&world), Some(fence));
        world.now += Duration::from_millis(100);
        node.member.handle_timeout(world.now);
        while let Some((ticket, request)) = node.member.poll_request() {
            late.push((ticket, request));
        }
    }
    assert_eq!(node.owned(&world), None);
    node.member.handle_timeout(world.now);
    let told: Vec<Event> = std::iter::from_fn(|| node.member.poll_event()).collect();
    assert_eq!(told, [Event::Lost(KIND, 0, fence), Event::LostLease]);
    for (ticket, request) in late {
        node.member.handle_answer(ticket, world.etcd.serve(&request), world.now);
    }
    let told: Vec<Event> = std::iter::from_fn(|| node.member.poll_event()).collect();
    assert_eq!(told, [Event::Joined(NodeId(1)), Event::Gained(KIND, 0, fence)]);
    // The request was sent after a quarter of the lease, and that is where it counts from.
    let until = node.member.sure_until().unwrap() - from;
    assert!(until < Duration::from_millis(10_600), "{until:?}");
}

#[test]
fn a_lease_that_ended_is_replaced_and_what_was_owned_is_somebody_elses() {
    let mut world = World::new();
    let mut a = world.node(settings(Some(1)), info(1, 10));
    let mut b = world.node(settings(Some(2)), info(2, 20));
    a.member.wish(KIND, BTreeSet::from([0]), world.now);
    world.settle(&mut [&mut a]);
    b.member.wish(KIND, BTreeSet::from([0]), world.now);
    let old = a.owned(&world).unwrap();
    world.run(9, &mut [&mut b]);
    assert_eq!((a.owned(&world), b.owned(&world)), (None, None), "one in doubt, the other not yet");
    world.run(2, &mut [&mut b]);
    let new = b.owned(&world).unwrap();
    assert!(new > old);
    world.run(1, &mut [&mut a, &mut b]);
    assert_eq!((a.number(), a.owned(&world)), (Some(1), None));
    assert_eq!(a.member.view().owner(KIND, 0).unwrap().node, NodeId(2));
    assert_eq!(b.member.view().nodes.len(), 2);
}

#[test]
fn what_is_no_longer_wished_is_given_up_before_others_take_it() {
    let mut world = World::new();
    let mut a = world.node(settings(Some(1)), info(1, 10));
    let mut b = world.node(settings(Some(2)), info(2, 20));
    a.member.wish(KIND, BTreeSet::from([0]), world.now);
    world.settle(&mut [&mut a]);
    b.member.wish(KIND, BTreeSet::from([0]), world.now);
    world.settle(&mut [&mut a, &mut b]);
    assert!(a.owned(&world).is_some() && b.owned(&world).is_none());
    a.member.wish(KIND, BTreeSet::new(), world.now);
    assert_eq!(a.owned(&world), None, "before etcd is asked");
    world.settle(&mut [&mut a, &mut b]);
    assert!(b.owned(&world).is_some());
}

#[test]
fn shares_follow_those_that_come_drain_and_go() {
    let mut world = World::new();
    let mut a = world.node(settings(Some(1)), info(1, 10));
    let mut b = world.node(settings(Some(2)), info(2, 20));
    let count = |node: &Node| node.member.owns().len();
    for node in [&mut a, &mut b] {
        node.member.share(Kind::CLIENTS, 64, Role::As, world.now);
    }
    world.run(2, &mut [&mut a, &mut b]);
    assert_eq!(count(&a) + count(&b), 64);
    assert!(count(&a).abs_diff(count(&b)) < 32, "{}", count(&a));
    a.member.set_draining(true, world.now);
    world.run(2, &mut [&mut a, &mut b]);
    assert_eq!((count(&a), count(&b)), (0, 64));
    a.member.set_draining(false, world.now);
    world.run(2, &mut [&mut a, &mut b]);
    assert!(count(&a) > 0 && count(&a) + count(&b) == 64);
    b.member.leave(world.now);
    world.run(2, &mut [&mut a, &mut b]);
    assert_eq!(count(&a), 64);
}

#[test]
fn load_is_told_once_a_second_at_most_and_the_last_is_told() {
    let mut world = World::new();
    let mut node = world.node(settings(Some(1)), info(1, 10));
    let before = world.etcd.revision();
    for calls in 1..=20 {
        node.member.set_load(calls, world.now);
        world.settle(&mut [&mut node]);
    }
    assert_eq!(world.etcd.revision(), before + 1);
    world.run(2, &mut [&mut node]);
    assert_eq!((world.etcd.revision(), node.member.view().nodes[&NodeId(1)].calls), (before + 2, 20));
}

#[test]
fn a_node_whose_record_was_deleted_joins_anew() {
    let mut world = World::new();
    let mut node = world.node(settings(Some(1)), info(1, 10));
    let delete = Op::Delete { key: "/carillon/nodes/1".to_owned() };
    world.etcd.serve(&Request::Txn(Txn { when: vec![], then: vec![delete] })).unwrap();
    node.events.clear();
    world.settle(&mut [&mut node]);
    assert!(node.events.contains(&Event::LostLease) && node.number() == Some(1), "{:?}", node.events);
    assert_eq!(node.member.view().nodes.len(), 1);
}

#[test]
fn fences_go_on_where_etcd_was_set_up_anew() {
    let mut world = World::new();
    let later = MemberSettings { fences_from: 5000, ..settings(Some(1)) };
    let mut first = world.node(later, info(1, 10));
    let mut second = world.node(settings(Some(2)), NodeInfo { protocol: (1, 2), ..info(2, 20) });
    for node in [&mut first, &mut second] {
        node.member.wish(KIND, BTreeSet::from([0]), world.now);
    }
    world.settle(&mut [&mut first, &mut second]);
    let fence = first.owned(&world).or(second.owned(&world)).unwrap();
    assert!(fence > Fence(5000));
    assert_eq!(
        second.member.view().owner(KIND, 0).unwrap().fence,
        fence,
        "it is the cluster's, not the node's"
    );
    // All of etcd is lost while nodes run.
    world.etcd = Etcd::default();
    world.start = world.now;
    (first.wire, second.wire) = (Wire::default(), Wire::default());
    world.run(20, &mut [&mut first, &mut second]);
    assert_eq!(first.member.view().nodes.len(), 2);
    assert!(first.owned(&world).or(second.owned(&world)).unwrap() > fence);
}

#[test]
fn what_the_answer_to_a_lost_claim_would_have_said_is_learnt_by_reading() {
    let mut world = World::new();
    let mut member = Member::new(settings(Some(1)), info(1, 10), world.now);
    let mut is_lost = false;
    // The answer to the claim of the number is lost.
    while let Some((ticket, request)) = member.poll_request() {
        let answer = world.etcd.serve(&request);
        let is_claim =
            matches!(&request, Request::Txn(txn) if matches!(&txn.then[0], Op::Put { lease: Some(_), .. }));
        is_lost |= is_claim;
        let answer = if is_claim { Err(Failure::Unknown(String::new())) } else { answer };
        member.handle_answer(ticket, answer, world.now);
    }
    assert!(is_lost);
    let mut node = Node { member, wire: Wire::default(), events: Vec::new() };
    world.run(1, &mut [&mut node]);
    assert_eq!(
        (node.number(), node.events.iter().filter(|event| **event == Event::LostLease).count()),
        (Some(1), 0)
    );
}
