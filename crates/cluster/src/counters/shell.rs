//! Counters behind the switchboards of two nodes, with a wire that carries what they say when the test wants it.

use super::tests::view;
use super::*;
use crate::between::{FromRelay, ToCalls, ToLegs, ToRelay};
use crate::media::{MediaEvent, MediaReply, MediaSink};
use crate::switchboard::{CallServer, Deps, Switchboard, Wire};
use parking_lot::Mutex;
use std::sync::Arc;

type Said = Arc<Mutex<VecDeque<(NodeId, NodeId, DirectoryItem)>>>;

struct Queue {
    me: NodeId,
    said: Said,
}

impl Wire for Queue {
    fn to_calls(&self, _: NodeId, _: ToCalls) -> bool {
        false
    }

    fn to_legs(&self, _: NodeId, _: ToLegs) -> bool {
        false
    }

    fn to_relay(&self, _: NodeId, _: ToRelay) -> bool {
        false
    }

    fn of_relay(&self, _: NodeId, _: FromRelay) -> bool {
        false
    }

    fn directory(&self, node: NodeId, item: DirectoryItem) -> bool {
        self.said.lock().push_back((self.me, node, item));
        true
    }
}

#[derive(Default)]
struct Server(Mutex<Vec<(CallId, u32, Verdict)>>);

impl MediaSink for Server {
    fn reply(&self, _: CallId, _: u32, _: MediaReply) {}
    fn event(&self, _: CallId, _: MediaEvent) {}
}

impl CallServer for Server {
    fn told(&self, _: NodeId, _: ToCalls) {}
    fn proxy_lost(&self, _: NodeId) {}
    fn proxy_gone(&self, _: NodeId) {}
    fn proxy_left(&self, _: NodeId) {}
    fn proxy_back(&self, _: NodeId) {}
    fn relay_lost(&self, _: NodeId) {}
    fn relay_back(&self, _: NodeId) {}
    fn relay_leaves(&self, _: NodeId) {}

    fn reserved(&self, call: CallId, number: u32, verdict: Verdict) {
        self.0.lock().push((call, number, verdict));
    }
}

/// Owns everything, or nothing.
struct Owner(bool);

impl Lease for Owner {
    fn owned(&self, _: u16) -> Option<Fence> {
        self.0.then_some(Fence(5))
    }

    fn certain(&self) -> Option<u64> {
        Some(1)
    }
}

#[test]
fn calls_ask_through_their_switchboard_and_are_answered_at_once_or_later() {
    let said = Said::default();
    let now = Arc::new(Mutex::new(Instant::now()));
    let node = |id: u16| {
        let clock = Arc::clone(&now);
        let deps = Deps {
            me: NodeId(id),
            snapshot: Arc::default(),
            unix_us: Arc::new(|| 0),
            now: Arc::new(move || *clock.lock()),
            random: Arc::new(|| 7),
        };
        let (board, server) = (Switchboard::new(deps), Arc::new(Server::default()));
        board.set_server(Arc::clone(&server) as _);
        board.set_wire(Arc::new(Queue { me: NodeId(id), said: Arc::clone(&said) }));
        board.count_by(Arc::new(Owner(id == 1)), 10 + u64::from(id));
        (board, server)
    };
    let (one, two) = (node(1), node(2));
    let carry = || {
        while let Some((from, to, item)) = { said.lock().pop_front() } {
            let board = if to == NodeId(1) { &one.0 } else { &two.0 };
            board.heard_directory(from, &item);
        }
    };
    let claim = Claim::client(Id::new(1), 1);
    let mut view = view(&[(1, 11, false), (2, 12, false)], None);
    let key = (Kind::CLIENTS, u32::from(claim.partition));
    let owner = crate::node::Owner { node: NodeId(1), instance: 11, fence: Fence(5) };
    view.owners.insert(key, owner);
    two.0.ownership_changed(&BTreeMap::new(), &view);
    one.0.ownership_changed(&BTreeMap::from([(key, Fence(5))]), &view);
    carry();
    let title = |number| Title { call: CallId::new(NodeId(9), number), epoch: 0 };
    assert_eq!(one.0.reserve(title(1), 3, &[claim]), Some(Verdict::Granted));
    assert_eq!(two.0.reserve(title(2), 4, &[claim]), None);
    carry();
    assert_eq!(two.1.0.lock().pop(), Some((title(2).call, 4, Verdict::Full(claim.counted))));
    one.0.release(title(1).call, &[claim]);
    assert_eq!(two.0.reserve(title(3), 5, &[claim]), None);
    carry();
    assert_eq!(two.1.0.lock().pop(), Some((title(3).call, 5, Verdict::Granted)));
    // The other node says nothing any more: whoever waits is told in time.
    assert_eq!(two.0.reserve(title(4), 6, &[claim]), None);
    *now.lock() += ANSWER_LIMIT;
    two.0.tick();
    assert_eq!(two.1.0.lock().pop(), Some((title(4).call, 6, Verdict::Unknown)));
}
