//! Connections between processes: each keeps the order of what goes by it, loses nothing while it lasts, and breaks.
//!
//! In: greetings, frames, cuts between places. Out: the same, later. Elsewhere: the links above (`lines`), datagrams (`world`).

use crate::Time;
use crate::lines::{Item, Way};
use cluster::ids::NodeId;
use cluster::link::{Answer, Frame, Greeting};
use std::collections::{BTreeMap, VecDeque};

/// A connection, unique in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnId(pub(crate) u64);

/// What goes by a connection.
#[derive(Clone, Debug)]
pub(crate) enum Carried {
    Hello {
        greeting: Greeting,
        instance: u64,
    },
    Welcome {
        answer: Answer,
        instance: u64,
    },
    Frame(Frame<Item>),
    /// The end of it.
    Closed,
}

/// One of the two ends: the process that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) node: NodeId,
    /// Which of the node's processes; 0 for the dialled end until the greeting arrives.
    pub(crate) life: u64,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Conn {
    /// The dialler, and whom it dials.
    pub(crate) ends: [End; 2],
    pub(crate) way: Way,
    /// What is on its way to the dialled end, and to the dialler.
    pub(crate) flying: [VecDeque<(Time, Carried)>; 2],
    /// Nothing arrives before what was sent earlier.
    pub(crate) last: [Time; 2],
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Conns {
    next: u64,
    pub(crate) all: BTreeMap<ConnId, Conn>,
}

impl Conns {
    pub(crate) fn open(&mut self, from: End, to: NodeId, way: Way, now: Time) -> ConnId {
        self.next += 1;
        let id = ConnId(self.next);
        let ends = [from, End { node: to, life: 0 }];
        self.all.insert(id, Conn { ends, way, flying: Default::default(), last: [now; 2] });
        id
    }
}
