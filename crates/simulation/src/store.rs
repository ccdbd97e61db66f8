//! The database and the disks: one row for each call, that of its best owner, and what each node notes for itself.
//!
//! In: records, notes. Out: what is there in the end, complaints. Elsewhere: how long it takes, and whether it is reached (`world`).

use cluster::ids::NodeId;
use model::{Aor, BindingRecord, Cdr, OpenCall};
use std::collections::{BTreeMap, BTreeSet};

/// A record as it stands.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) epoch: u32,
    pub(crate) by: NodeId,
    pub(crate) cdr: Cdr,
    /// Made from a note of a node that had died.
    pub(crate) recovered: bool,
}

impl Row {
    /// The owner with the larger epoch is right; of one epoch, whoever has seen the end before who guesses it, then the larger node.
    fn weight(&self) -> (u32, bool, NodeId) {
        (self.epoch, !self.recovered, self.by)
    }
}

/// What all nodes share.
#[derive(Debug, Default)]
pub(crate) struct Store {
    rows: BTreeMap<String, Row>,
    /// Rows that were replaced by others.
    pub(crate) replaced: u64,
    /// Records that came too late.
    pub(crate) refused: u64,
    /// Of one call: what stood, and what came beside it from another owner or from the same one.
    pub(crate) twice: Vec<(Row, Row)>,
}

impl Store {
    /// Takes a record in: a better owner's replaces a lesser one's, in the order in which owners are obeyed.
    pub(crate) fn record(&mut self, by: NodeId, epoch: u32, cdr: Cdr) {
        let row = Row { epoch, by, cdr, recovered: false };
        // What comes too late is refused, and is no record.
        let is_taken = |known: &&Row| !known.recovered && known.weight() <= row.weight();
        if let Some(known) = self.rows.get(&row.cdr.call).filter(is_taken) {
            self.twice.push((known.clone(), row.clone()));
        }
        match self.rows.get_mut(&row.cdr.call) {
            None => drop(self.rows.insert(row.cdr.call.clone(), row)),
            Some(known) if known.weight() < row.weight() => {
                self.replaced += 1;
                *known = row;
            }
            Some(known) if known.weight() > row.weight() => self.refused += 1,
            Some(known) => *known = row, // the same once more, for its maker did not hear that it was kept
        }
    }

    /// What a node finds in its notes when it starts.
    pub(crate) fn recovered(&mut self, by: NodeId, (note, epoch): (OpenCall, u32), unix_us: i64) {
        let cdr = note.into_lost_cdr(unix_us);
        let row = Row { epoch, by, cdr, recovered: true };
        let is_known = self.rows.get(&row.cdr.call).is_some_and(|known| known.weight() > row.weight());
        if !is_known {
            self.rows.insert(row.cdr.call.clone(), row);
        }
    }

    pub(crate) fn rows(&self) -> &BTreeMap<String, Row> {
        &self.rows
    }
}

/// Who could go on with which call.
#[derive(Debug, Default)]
pub(crate) struct Knowers {
    serving: BTreeMap<String, BTreeSet<(NodeId, u64)>>,
    /// On whose disks there was a note.
    noted: BTreeMap<String, BTreeSet<NodeId>>,
    forgotten: BTreeSet<String>,
    /// Processes that are no more, or that nobody will ever hear again.
    gone: BTreeSet<(NodeId, u64)>,
}

impl Knowers {
    /// A process serves a call.
    pub(crate) fn serves(&mut self, who: (NodeId, u64), call: &str) {
        if self.gone.contains(&who) {
            return;
        }
        self.serving.entry(call.to_owned()).or_default().insert(who);
        self.noted.entry(call.to_owned()).or_default().insert(who.0);
    }

    /// It serves it no more.
    fn leaves(&mut self, who: (NodeId, u64), call: &str) {
        if let Some(servers) = self.serving.get_mut(call) {
            servers.remove(&who);
        }
    }

    /// Another process has it, and what this node has written down of it is void.
    pub(crate) fn lets_go(&mut self, who: (NodeId, u64), call: &str) {
        self.leaves(who, call);
        if let Some(nodes) = self.noted.get_mut(call) {
            nodes.remove(&who.0);
        }
    }

    /// A process is no more that had these calls in custody; `kept` are those that others have there.
    pub(crate) fn died(&mut self, who: (NodeId, u64), custody: BTreeSet<String>, kept: &BTreeSet<String>) {
        self.gone.insert(who);
        let served = self.serving.iter().filter(|(_, servers)| servers.contains(&who));
        let all: BTreeSet<String> = served.map(|(call, _)| call.clone()).chain(custody).collect();
        for call in all {
            self.leaves(who, &call);
            let is_served = self.serving.get(&call).is_some_and(|servers| !servers.is_empty());
            if !is_served && !kept.contains(&call) {
                self.forgotten.insert(call);
            }
        }
    }

    /// Whether there was a moment when nobody was left who knew of the call.
    pub(crate) fn is_forgotten(&self, call: &str) -> bool {
        self.forgotten.contains(call)
    }

    /// Nodes that had written down that there is the call.
    pub(crate) fn noted(&self, call: &str) -> BTreeSet<NodeId> {
        self.noted.get(call).cloned().unwrap_or_default()
    }
}

/// What a node has written down, and finds again unless its disk is lost.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Each with the epoch of its owner.
    pub(crate) notes: BTreeMap<String, (OpenCall, u32)>,
    pub(crate) bindings: BTreeMap<(Aor, String), BindingRecord>,
}
