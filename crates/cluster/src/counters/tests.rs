//! Keepers and askers of a few nodes, a word at a time.

use super::*;
use crate::between::Hold;
use crate::node::{NodeInfo, Owner, Roles};
use std::sync::Arc;

const P: u16 = 3;
const BOB: Counted = Counted::User(Id::new(2));

/// One node, whose words are handed to the others by the test.
struct Node {
    id: NodeId,
    counters: Counters,
    sure: Sure,
    now: Instant,
    verdicts: Vec<(CallId, Verdict)>,
}

#[derive(Clone, Default)]
struct Sure {
    owned: BTreeMap<u16, Fence>,
    certain: Option<u64>,
}

impl Lease for Sure {
    fn owned(&self, partition: u16) -> Option<Fence> {
        self.owned.get(&partition).copied()
    }

    fn certain(&self) -> Option<u64> {
        self.certain
    }
}

/// Servers with their processes and whether they drain; who owns `P`, and by which fence.
pub(super) fn view(servers: &[(u16, u64, bool)], owner: Option<(u16, u64)>) -> View {
    let mut view = View::default();
    for (id, instance, draining) in servers {
        let info = NodeInfo {
            id: NodeId(*id),
            name: String::new(),
            instance: *instance,
            identity: 0,
            roles: Roles::default().with(Role::As),
            zone: String::new(),
            capacity: 100,
            peer: String::new(),
            sip: Vec::new(),
            media: Vec::new(),
            release: String::new(),
            protocol: (1, 1),
            draining: *draining,
            calls: 0,
            started_ms: 0,
        };
        view.nodes.insert(NodeId(*id), Arc::new(info));
    }
    if let Some((node, fence)) = owner {
        let owner = Owner { node: NodeId(node), instance: 0, fence: Fence(fence) };
        view.owners.insert((Kind::CLIENTS, P.into()), owner);
    }
    view
}

impl Node {
    fn new(id: u16) -> Self {
        let sure = Sure { owned: BTreeMap::new(), certain: Some(1) };
        let counters = Counters::new(NodeId(id), 10 + u64::from(id));
        Self { id: NodeId(id), counters, sure, now: Instant::now(), verdicts: Vec::new() }
    }

    /// The node does something; what it says to others.
    fn go(&mut self, work: impl FnOnce(&mut Counters, &Sure, Instant)) -> Vec<(NodeId, DirectoryItem)> {
        work(&mut self.counters, &self.sure, self.now);
        let mut said = Vec::new();
        while let Some(action) = self.counters.poll_action() {
            match action {
                Action::Tell(node, item) => said.push((node, item)),
                Action::Verdict(call, _, verdict) => self.verdicts.push((call, verdict)),
            }
        }
        said
    }

    fn sees(&mut self, view: &View) -> Vec<(NodeId, DirectoryItem)> {
        let owner = view.owner(Kind::CLIENTS, P.into()).filter(|owner| owner.node == self.id);
        self.sure.owned = owner.map(|owner| (P, owner.fence)).into_iter().collect();
        let owned = self.sure.owned.iter().map(|(key, fence)| ((Kind::CLIENTS, u32::from(*key)), *fence));
        let owned = owned.collect();
        self.go(|counters, sure, now| counters.changed(&owned, view, sure, now))
    }

    fn hears(&mut self, from: u16, item: DirectoryItem) -> Vec<(NodeId, DirectoryItem)> {
        self.go(|counters, sure, now| counters.told(NodeId(from), item, sure, now))
    }

    fn reserve(&mut self, call: CallId, limit: u32) -> Vec<(NodeId, DirectoryItem)> {
        let claims = [Claim { partition: P, counted: BOB, limit }];
        self.go(|counters, sure, now| counters.reserve(Title { call, epoch: 0 }, 1, &claims, sure, now))
    }

    fn release(&mut self, call: CallId) -> Vec<(NodeId, DirectoryItem)> {
        let claims = [Claim { partition: P, counted: BOB, limit: 0 }];
        self.go(|counters, sure, now| counters.release(call, &claims, sure, now))
    }

    fn verdict(&mut self) -> Option<Verdict> {
        self.verdicts.pop().map(|(_, verdict)| verdict)
    }

    fn pass(&mut self, time: Duration) -> Vec<(NodeId, DirectoryItem)> {
        self.now += time;
        self.go(|counters, sure, now| counters.handle_timeout(sure, now))
    }

    fn counted(&self) -> u32 {
        self.counters.keeper.count(P, BOB)
    }
}

fn call(number: u64) -> CallId {
    CallId::new(NodeId(9), number)
}

fn item(said: &[(NodeId, DirectoryItem)]) -> DirectoryItem {
    assert_eq!(said.len(), 1, "{said:?}");
    said[0].1.clone()
}

fn ticket(item: &DirectoryItem) -> u64 {
    match item {
        DirectoryItem::Reserve { ticket, .. } => *ticket,
        other => panic!("{other:?}"),
    }
}

fn holds(fence: u64, instance: u64, calls: &[CallId]) -> DirectoryItem {
    let calls = calls.iter().map(|call| Hold { call: *call, epoch: 0, counts: vec![BOB] }).collect();
    DirectoryItem::Holds { partition: P, fence, instance, calls, complete: true }
}

/// Node 1 owns, node 2 asks, and each knows what the other's calls hold.
fn pair() -> (Node, Node) {
    let (mut one, mut two) = (Node::new(1), Node::new(2));
    let seen = view(&[(1, 11, false), (2, 12, false)], Some((1, 5)));
    two.sees(&seen);
    let recount = item(&one.sees(&seen));
    let told = item(&two.hears(1, recount));
    assert!(one.hears(2, told).is_empty());
    (one, two)
}

#[test]
fn an_owner_answers_its_own_calls_at_once_and_others_when_they_ask() {
    let (mut one, mut two) = pair();
    assert!(one.reserve(call(1), 2).is_empty());
    assert_eq!(one.verdict(), Some(Verdict::Granted));
    let asked = item(&two.reserve(call(2), 2));
    assert_eq!(two.verdict(), None);
    let answer = item(&one.hears(2, asked.clone()));
    assert!(matches!(answer, DirectoryItem::Reserved { full: None, fence: 5, .. }), "{answer:?}");
    assert!(two.hears(1, answer).is_empty());
    assert_eq!((two.verdict(), one.counted()), (Some(Verdict::Granted), 2));
    // Asked twice it counts once; one more is too many; who is not limited is counted all the same.
    one.hears(2, asked);
    let answer = item(&two.reserve(call(3), 2));
    let answer = item(&one.hears(2, answer));
    two.hears(1, answer);
    assert_eq!((two.verdict(), one.counted()), (Some(Verdict::Full(BOB)), 2));
    let report = item(&two.reserve(call(4), 0));
    assert_eq!((two.verdict(), ticket(&report)), (Some(Verdict::Granted), 0));
    assert!(one.hears(2, report).is_empty(), "nobody waits for an answer");
    assert_eq!(one.counted(), 3);
    for gone in [call(2), call(4)] {
        let release = item(&two.release(gone));
        one.hears(2, release);
    }
    one.release(call(1));
    assert_eq!((one.counted(), two.release(call(2)).len()), (0, 0), "it is given back once");
}

#[test]
fn a_call_counts_for_all_its_partitions_or_for_none() {
    let (mut one, mut two) = pair();
    let other = Claim { partition: P + 1, counted: Counted::Brand(Id::new(1)), limit: 1 };
    let claims = [Claim { partition: P, counted: BOB, limit: 1 }, other];
    let title = Title { call: call(1), epoch: 0 };
    let asked = item(&two.go(|counters, sure, now| counters.reserve(title, 1, &claims, sure, now)));
    let answer = item(&one.hears(2, asked));
    two.hears(1, answer);
    assert_eq!((two.verdict(), one.counted()), (None, 1), "nobody is known for the other partition");
    let release = item(&two.pass(ANSWER_LIMIT));
    one.hears(2, release);
    assert_eq!((two.verdict(), one.counted()), (Some(Verdict::Unknown), 0));
}

#[test]
fn a_new_owner_grants_nothing_until_all_have_told_and_void_what_the_earlier_one_grants() {
    let (mut one, mut two) = pair();
    let late = item(&two.reserve(call(1), 1));
    let late = item(&one.hears(2, late)); // on its way
    let mut three = Node::new(3);
    let seen = view(&[(1, 11, false), (2, 12, false), (3, 13, false)], Some((3, 8)));
    let asked = three.sees(&seen);
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(three.reserve(call(2), 1).is_empty());
    assert_eq!(three.verdict(), None);
    // Node 2 has not seen the new owner, and is asked by it: what it waits for it asks for again, there.
    let told = two.hears(3, asked[1].1.clone());
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(two.hears(1, late).is_empty());
    assert_eq!(two.verdict(), None, "the earlier owner's word is void");
    told.into_iter().for_each(|(_, item)| assert!(three.hears(2, item).is_empty()));
    one.sees(&seen);
    let told = item(&one.hears(3, asked[0].1.clone()));
    let answer = item(&three.hears(1, told));
    assert_eq!(three.verdict(), Some(Verdict::Granted), "first come, first served");
    two.hears(3, answer);
    assert_eq!(two.verdict(), Some(Verdict::Full(BOB)));
    // Who is asked and is the owner no more says so.
    let stale =
        DirectoryItem::Reserve { ticket: 4, partition: P, call: call(9), epoch: 0, counts: vec![(BOB, 1)] };
    assert!(matches!(item(&one.hears(2, stale)), DirectoryItem::Reserved { ticket: 4, fence: 0, .. }));
}

#[test]
fn an_owner_in_doubt_grants_nothing_and_a_server_in_doubt_takes_nothing() {
    let (mut one, mut two) = pair();
    let asked = item(&two.reserve(call(1), 1));
    let owned = std::mem::take(&mut one.sure.owned);
    assert!(matches!(item(&one.hears(2, asked)), DirectoryItem::Reserved { fence: 0, .. }));
    one.sure.owned = owned;
    let asked = item(&two.reserve(call(2), 1));
    let answer = item(&one.hears(2, asked));
    two.sure.certain = Some(2); // it was out, and is in again
    let release = item(&two.hears(1, answer));
    assert_eq!(two.verdict(), Some(Verdict::Unknown));
    one.hears(2, release);
    assert_eq!(one.counted(), 0);
    two.sure.certain = None;
    assert!(two.reserve(call(3), 1).is_empty());
    assert_eq!(two.verdict(), Some(Verdict::Unknown));
    assert_eq!(two.reserve(call(4), 0).len(), 1);
    assert_eq!(two.verdict(), Some(Verdict::Granted), "what is not limited goes on");
}

#[test]
fn who_does_not_get_an_answer_in_time_gives_back_what_may_have_been_granted() {
    let (mut one, mut two) = pair();
    let asked = item(&two.reserve(call(1), 1));
    let answer = item(&one.hears(2, asked));
    assert!(two.pass(ANSWER_LIMIT - Duration::from_millis(1)).is_empty());
    let release = item(&two.pass(Duration::from_millis(1)));
    assert_eq!(two.verdict(), Some(Verdict::Unknown));
    assert!(two.hears(1, answer).is_empty(), "too late");
    one.hears(2, release);
    assert_eq!((two.verdict(), one.counted()), (None, 0));
}

#[test]
fn what_was_not_heard_while_a_link_was_down_is_told_when_it_is_back() {
    let (mut one, mut two) = pair();
    for number in 1..=2 {
        let asked = item(&two.reserve(call(number), 3));
        let answer = item(&one.hears(2, asked));
        two.hears(1, answer);
    }
    drop(two.release(call(1))); // lost
    drop(two.reserve(call(3), 0)); // lost
    drop(two.reserve(call(4), 3)); // lost
    let recount = item(&one.go(|counters, sure, now| counters.back(NodeId(2), sure, now)));
    let told = two.hears(1, recount);
    assert_eq!(told.len(), 2, "its holds, and its question again: {told:?}");
    let mut answers = Vec::new();
    told.into_iter().for_each(|(_, item)| answers.extend(one.hears(2, item)));
    two.hears(1, item(&answers));
    assert_eq!((two.verdict(), one.counted()), (Some(Verdict::Granted), 3));
}

#[test]
fn calls_of_a_server_that_is_gone_count_until_others_have_them() {
    let (mut one, mut two) = pair();
    for number in 1..=2 {
        let asked = item(&two.reserve(call(number), 3));
        one.hears(2, asked);
    }
    one.sees(&view(&[(1, 11, false)], Some((1, 5))));
    assert!(one.pass(ADOPTION - Duration::from_millis(1)).is_empty());
    assert_eq!(one.counted(), 2);
    let claims = [Claim { partition: P, counted: BOB, limit: 3 }];
    let title = Title { call: call(1), epoch: 1 };
    one.go(|counters, sure, now| counters.adopt(title, &claims, sure, now));
    assert_eq!(one.counted(), 2, "a call counts once");
    one.pass(Duration::from_millis(1));
    assert_eq!(one.counted(), 1, "nobody has carried on the other");
    one.release(call(1));
    assert_eq!(one.counted(), 0);
}

#[test]
fn a_new_owner_waits_for_those_who_carry_on_calls_of_the_lost_and_not_after_a_server_that_drained() {
    for draining in [false, true] {
        let mut one = Node::new(1);
        one.sees(&view(&[(1, 11, false), (2, 12, draining)], Some((2, 5))));
        one.sees(&view(&[(1, 11, false)], None));
        one.pass(Duration::from_secs(1));
        one.sees(&view(&[(1, 11, false)], Some((1, 9))));
        one.reserve(call(1), 1);
        assert_eq!(one.verdict(), draining.then_some(Verdict::Granted));
        if !draining {
            one.pass(ANSWER_LIMIT);
            assert_eq!(one.verdict(), Some(Verdict::Unknown));
            one.pass(ADOPTION - ANSWER_LIMIT - Duration::from_secs(1));
            one.reserve(call(2), 1);
            assert_eq!(one.verdict(), Some(Verdict::Granted));
        }
    }
}

#[test]
fn a_call_that_goes_on_elsewhere_counts_until_its_new_server_has_said_so() {
    let (mut one, mut two) = pair();
    let claims = [Claim { partition: P, counted: BOB, limit: 1 }];
    let asked = item(&two.reserve(call(1), 1));
    let answer = item(&one.hears(2, asked));
    two.hears(1, answer);
    assert!(two.go(|counters, _, now| counters.let_go(call(1), &claims, now)).is_empty());
    let title = Title { call: call(1), epoch: 1 };
    one.go(|counters, sure, now| counters.adopt(title, &claims, sure, now));
    let release = item(&two.pass(ADOPTION));
    one.hears(2, release);
    assert_eq!(one.counted(), 1, "the other's word counts for its own only");
    let late =
        DirectoryItem::Reserve { ticket: 0, partition: P, call: call(1), epoch: 0, counts: vec![(BOB, 0)] };
    one.hears(2, late);
    one.release(call(1));
    assert_eq!(one.counted(), 0, "of two the later owner is right");
}

#[test]
fn holds_of_another_process_or_for_another_fence_are_not_taken() {
    let (mut one, _) = pair();
    one.hears(2, holds(5, 99, &[call(1)]));
    one.hears(2, holds(4, 12, &[call(1)]));
    one.hears(3, holds(5, 12, &[call(1)]));
    assert_eq!(one.counted(), 0);
    one.hears(2, holds(5, 12, &[call(1), call(2)]));
    assert_eq!(one.counted(), 2);
    one.hears(2, holds(5, 12, &[call(2)]));
    assert_eq!(one.counted(), 1);
    let unknown = DirectoryItem::Recount { partition: u16::MAX, fence: 1 };
    assert!(one.hears(2, unknown).is_empty(), "there is no such partition");
}

#[test]
fn holds_of_many_calls_come_in_parts_and_count_when_they_are_complete() {
    let (mut one, mut two) = pair();
    let calls: Vec<CallId> = (0..2500).map(call).collect();
    for call in &calls {
        drop(two.reserve(*call, 0));
    }
    let told = two.hears(1, DirectoryItem::Recount { partition: P, fence: 5 });
    assert_eq!(told.len(), 3);
    for (place, (_, item)) in told.into_iter().enumerate() {
        one.hears(2, item);
        assert_eq!(one.counted(), if place == 2 { 2500 } else { 0 });
    }
}

#[test]
fn partitions_stay_what_they_were_in_earlier_releases() {
    let client = |id| Claim::client(Id::new(id), 0).partition;
    assert_eq!([1, 2, 3].map(client), CLIENTS);
    assert_eq!(Claim::user(Id::new(2), Id::new(7), 1).partition, client(2), "as its client");
    assert_ne!(Claim::brand(Id::new(1), 0).partition, client(1));
    let mut claims = vec![Claim::client(Id::new(1), 0)];
    for limit in [5, 0, 3, 4] {
        Claim::add(&mut claims, Claim::client(Id::new(1), limit));
    }
    assert_eq!(claims, [Claim::client(Id::new(1), 3)]);
}

const CLIENTS: [u16; 3] = [12, 143, 235];

#[test]
fn attempts_are_counted_by_each_server_for_itself_where_nobody_can_be_asked() {
    let (mut one, mut two) = pair();
    let claims = |limit: u32| {
        let attempts = Claim { partition: P, counted: Counted::Attempts(Id::new(1)), limit };
        [Claim { partition: P, counted: BOB, limit: 0 }, attempts]
    };
    let ask = |two: &mut Node, number: u64, claims: &[Claim]| {
        let title = Title { call: call(number), epoch: 0 };
        two.go(|counters, sure, now| counters.reserve(title, 1, claims, sure, now))
    };
    two.sure.certain = None;
    for number in [1, 2] {
        let report = item(&ask(&mut two, number, &claims(2)));
        assert_eq!((two.verdict(), ticket(&report)), (Some(Verdict::Granted), 0));
        one.hears(2, report);
    }
    assert_eq!(one.counted(), 2, "whoever counts hears of them");
    assert!(ask(&mut two, 3, &claims(2)).is_empty());
    assert_eq!(two.verdict(), Some(Verdict::Full(Counted::Attempts(Id::new(1)))));
    // What was promised to somebody is another matter.
    let [_, attempts] = claims(3);
    assert!(ask(&mut two, 4, &[Claim { partition: P, counted: BOB, limit: 9 }, attempts]).is_empty());
    assert_eq!(two.verdict(), Some(Verdict::Unknown));
    // An owner that does not answer is waited for.
    two.sure.certain = Some(2);
    let asked = item(&ask(&mut two, 5, &claims(3)));
    assert_eq!(two.verdict(), None);
    let report = item(&two.pass(ANSWER_LIMIT));
    assert_eq!((two.verdict(), ticket(&report)), (Some(Verdict::Granted), 0));
    one.hears(2, asked);
    one.hears(2, report);
    assert_eq!(one.counted(), 3, "each counts once");
}
