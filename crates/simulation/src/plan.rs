//! What a seed means: which nodes there are, who calls whom, what goes wrong and when.
//!
//! In: a seed. Out: a plan that is the same for it wherever it is made. Elsewhere: carrying it out (`world`, `faults`).

use crate::Time;
use crate::phones::Behaviour;
use cluster::ids::NodeId;
use cluster::node::{Role, Roles};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::ops::Range;

pub(crate) const SECOND: Time = 1_000_000;
pub(crate) const MS: Time = 1000;

/// Telephones register from here on, and call a little later.
pub(crate) const REGISTER: Time = 2_500 * MS;
pub(crate) const CALLS: Time = 4 * SECOND;
/// What goes wrong has ended by then, save what stays broken.
pub(crate) const CHAOS: Time = 26 * SECOND;
/// So long after it everything is in order that can be.
pub(crate) const HEALING: Time = 16 * SECOND;
/// Telephones.
pub(crate) const PHONES: [(&str, &str); 6] =
    [("alice", "101"), ("bob", "102"), ("carol", "103"), ("dave", "104"), ("erin", "105"), ("frank", "106")];
/// This one takes one call at a time.
pub(crate) const ONE_CALL: usize = 5;

/// What kind of story it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One node is hit by one fault: whoever talks goes on talking.
    Single,
    /// All nodes are started anew, one after the other: no call fails.
    Rolling,
    /// Anything, at any time; all is healed in the end, or a majority.
    Chaos,
}

/// A place that can be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spot {
    Node(NodeId),
    Etcd,
    Store,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Killed; with its machine (nobody says that it is gone), or alone.
    Crash {
        node: NodeId,
        with_machine: bool,
    },
    Pause(NodeId),
    /// Nothing goes from one to the other.
    Cut(Spot, Spot),
    /// Nothing goes between the node and any other.
    Isolate(NodeId),
    /// All connections between two nodes are reset.
    Reset(NodeId, NodeId),
    /// All is late.
    Slow,
    /// Datagrams are lost, doubled and late.
    Lossy {
        lost: u32,
        doubled: u32,
    },
    EtcdAway,
    Compact,
    /// The node's lease ends, whatever it does.
    Expire(NodeId),
    StoreAway,
    /// Told to stop, and started again.
    Drain(NodeId),
    /// Drained by an operator, who takes it back in the end.
    LetGo(NodeId),
}

/// A fault with its time; without an end it stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    pub(crate) begin: Time,
    pub(crate) end: Option<Time>,
    pub(crate) fault: Fault,
}

/// A call that is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) at: Time,
    pub(crate) caller: usize,
    pub(crate) callee: usize,
    pub(crate) behaviour: Behaviour,
}

#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    pub(crate) id: NodeId,
    pub(crate) roles: Roles,
    pub(crate) zone: &'static str,
    pub(crate) skew_us: i64,
    pub(crate) rate: f64,
}

/// How telephones come to another proxy when theirs is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The address moves there.
    AddressMoves,
    /// They have a second address.
    SecondAddress,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) way: Way,
    /// How late things are as a rule, between nodes and to telephones.
    pub(crate) between: Range<Time>,
    pub(crate) outside: Range<Time>,
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) wishes: Vec<Wish>,
    /// What each telephone does with calls that come.
    pub(crate) answers: [Behaviour; PHONES.len()],
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed_0fc0_ffee);
        let kind = match rng.random_range(0..10) {
            0..4 => Kind::Single,
            4 => Kind::Rolling,
            _ => Kind::Chaos,
        };
        let nodes = nodes(&mut rng);
        let lan = rng.random_range(2..6) * MS;
        let between = lan..lan + rng.random_range(2..30) * MS;
        let wan = rng.random_range(4..30) * MS;
        let outside = wan..wan + rng.random_range(2..40) * MS;
        let way = if rng.random_bool(0.5) { Way::AddressMoves } else { Way::SecondAddress };
        let mut plan = Self {
            kind,
            nodes,
            way,
            between,
            outside,
            troubles: Vec::new(),
            wishes: Vec::new(),
            answers: Default::default(),
        };
        plan.call(&mut rng);
        match kind {
            Kind::Single => plan.single(&mut rng),
            Kind::Rolling => plan.rolling(&mut rng),
            Kind::Chaos => plan.chaos(&mut rng),
        }
        plan.troubles.sort_by_key(|trouble| trouble.begin);
        plan
    }

    fn call(&mut self, rng: &mut StdRng) {
        for behaviour in &mut self.answers {
            behaviour.answer = rng.random_bool(0.9).then(|| rng.random_range(50 * MS..3 * SECOND));
            behaviour.hang_up = rng.random_bool(0.4).then(|| rng.random_range(2 * SECOND..40 * SECOND));
            behaviour.hold = rng.random_bool(0.15).then(|| rng.random_range(SECOND..20 * SECOND));
        }
        let count = rng.random_range(2..6);
        for number in 0..count {
            let caller = rng.random_range(0..PHONES.len());
            let callee = (caller + rng.random_range(1..PHONES.len())) % PHONES.len();
            let at = if number < 2 {
                rng.random_range(CALLS..CALLS + 3 * SECOND)
            } else {
                rng.random_range(CALLS..CHAOS - 3 * SECOND)
            };
            let behaviour = Behaviour {
                answer: None,
                give_up: rng.random_bool(0.15).then(|| rng.random_range(500 * MS..5 * SECOND)),
                hang_up: rng.random_bool(0.5).then(|| rng.random_range(2 * SECOND..40 * SECOND)),
                hold: rng.random_bool(0.15).then(|| rng.random_range(SECOND..20 * SECOND)),
            };
            self.wishes.push(Wish { at, caller, callee, behaviour });
        }
        self.wishes.sort_by_key(|wish| wish.at);
    }

    fn any(&self, rng: &mut StdRng) -> NodeId {
        self.nodes[rng.random_range(0..self.nodes.len())].id
    }

    fn single(&mut self, rng: &mut StdRng) {
        let begin = rng.random_range(10 * SECOND..15 * SECOND);
        let node = self.any(rng);
        let back = Some(begin + rng.random_range(SECOND / 2..10 * SECOND));
        let crash = Fault::Crash { node, with_machine: rng.random_bool(0.3) };
        let (fault, end) = match rng.random_range(0..10) {
            0..3 => (crash, None),
            3..6 => (crash, back),
            6 => (Fault::Pause(node), Some(begin + rng.random_range(SECOND / 10..10 * SECOND))),
            7 => (Fault::Isolate(node), Some(begin + rng.random_range(SECOND / 10..8 * SECOND))),
            8 => (Fault::Drain(node), back),
            _ => (Fault::Expire(node), back),
        };
        self.troubles.push(Trouble { begin, end, fault });
        // An operator may have been at work when it happened: what one knows of the other must not be lost.
        let mut operator = StdRng::seed_from_u64(rng.random());
        if operator.random_bool(0.4) {
            let begin = (begin + operator.random_range(0..SECOND))
                .saturating_sub(operator.random_range(0..3 * SECOND));
            let end = Some(begin + operator.random_range(2 * SECOND..10 * SECOND));
            let node = self.any(&mut operator);
            self.troubles.push(Trouble { begin, end, fault: Fault::LetGo(node) });
        }
    }

    /// One after the other, each when the one before is back.
    fn rolling(&mut self, _: &mut StdRng) {
        let begin = 8 * SECOND;
        let drains = self.nodes.iter().map(|node| Trouble { begin, end: None, fault: Fault::Drain(node.id) });
        self.troubles = drains.collect();
    }

    fn chaos(&mut self, rng: &mut StdRng) {
        for _ in 0..rng.random_range(1..6) {
            let begin = rng.random_range(3 * SECOND..CHAOS - SECOND);
            let longest = rng.random_range(SECOND / 10..12 * SECOND);
            let end = Some((begin + longest).min(CHAOS));
            let node = self.any(rng);
            let other = self.any(rng);
            let fault = match rng.random_range(0..19) {
                0..4 => Fault::Crash { node, with_machine: rng.random_bool(0.3) },
                4 | 5 => Fault::Pause(node),
                6 | 7 if node != other => Fault::Cut(Spot::Node(node), Spot::Node(other)),
                8 => Fault::Cut(Spot::Node(node), Spot::Etcd),
                9 => Fault::Cut(Spot::Etcd, Spot::Node(node)),
                10 => Fault::Cut(Spot::Node(node), Spot::Store),
                11 => Fault::Isolate(node),
                12 if node != other => Fault::Reset(node, other),
                13 => Fault::Slow,
                14 => Fault::Lossy { lost: rng.random_range(50..250), doubled: rng.random_range(0..100) },
                15 => Fault::EtcdAway,
                16 => Fault::Expire(node),
                17 => Fault::StoreAway,
                18 => Fault::Drain(node),
                _ => Fault::Compact,
            };
            // Two-way, as often as not.
            if let Fault::Cut(from, to) = fault
                && rng.random_bool(0.5)
            {
                self.troubles.push(Trouble { begin, end, fault: Fault::Cut(to, from) });
            }
            self.troubles.push(Trouble { begin, end, fault });
        }
        if rng.random_bool(0.3) {
            // A minority stays broken.
            let node = self.any(rng);
            let begin = rng.random_range(8 * SECOND..CHAOS - SECOND);
            let fault = match rng.random_range(0..3) {
                0 => Fault::Isolate(node),
                with_machine => Fault::Crash { node, with_machine: with_machine == 1 },
            };
            self.troubles.push(Trouble { begin, end: None, fault });
        }
    }

    /// Nodes that something befalls, where it is known which.
    pub(crate) fn hit(&self) -> Vec<NodeId> {
        let of = |trouble: &Trouble| match trouble.fault {
            Fault::Crash { node, .. }
            | Fault::Pause(node)
            | Fault::Isolate(node)
            | Fault::Drain(node)
            | Fault::LetGo(node)
            | Fault::Expire(node) => Some(node),
            _ => None,
        };
        self.troubles.iter().filter_map(of).collect()
    }

    /// Nodes that stay broken.
    pub(crate) fn broken(&self) -> Vec<NodeId> {
        let of = |trouble: &Trouble| match trouble.fault {
            Fault::Crash { node, .. } | Fault::Isolate(node) if trouble.end.is_none() => Some(node),
            _ => None,
        };
        self.troubles.iter().filter_map(of).collect()
    }
}

fn nodes(rng: &mut StdRng) -> Vec<NodePlan> {
    let of = |roles: &[Role]| roles.iter().copied().collect::<Roles>();
    let (proxy, server, relay) = (of(&[Role::Proxy]), of(&[Role::As]), of(&[Role::Relay]));
    let all = of(&[Role::Proxy, Role::As, Role::Relay]);
    let roles = match rng.random_range(0..10) {
        0..3 => vec![all; 3],
        3..6 => vec![proxy, proxy, server, server, relay, relay],
        _ => vec![proxy, proxy, server, server, server, relay, relay],
    };
    let zoned = rng.random_bool(0.5);
    let is_odd = rng.random_bool(0.5);
    let plan = |(at, roles): (usize, Roles)| NodePlan {
        id: NodeId(at as u16 + 1),
        roles,
        zone: if zoned && at % 2 == 1 { "b" } else { "a" },
        skew_us: if is_odd { rng.random_range(-400_000..400_000) } else { 0 },
        rate: if is_odd { rng.random_range(0.98..1.02) } else { 1.0 },
    };
    roles.into_iter().enumerate().map(plan).collect()
}
