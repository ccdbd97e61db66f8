//! The database and the disks: one row for each call, in which a larger epoch replaces a smaller one, and what each node notes for itself.
//!
//! In: records, notes. Out: what is there in the end, complaints. Elsewhere: how long it takes, and whether it is reached (`world`).

use cluster::ids::NodeId;
use model::{BindingRecord, Cdr, Id, OpenCall, Terminal};
use std::collections::BTreeMap;

/// A record as it stands.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) epoch: u32,
    pub(crate) by: NodeId,
    pub(crate) cdr: Cdr,
    /// Made from a note of a node that had died.
    pub(crate) recovered: bool,
}

/// What all nodes share.
#[derive(Debug, Default)]
pub(crate) struct Store {
    rows: BTreeMap<String, Row>,
    /// Rows that were replaced by others.
    pub(crate) replaced: u64,
    /// Records that came too late.
    pub(crate) refused: u64,
}

impl Store {
    /// Takes a record in; a complaint, if two owners of one epoch say different things.
    pub(crate) fn record(&mut self, by: NodeId, epoch: u32, cdr: Cdr) -> Result<(), String> {
        let row = Row { epoch, by, cdr, recovered: false };
        match self.rows.get_mut(&row.cdr.call) {
            None => drop(self.rows.insert(row.cdr.call.clone(), row)),
            Some(known) if known.recovered || known.epoch < epoch => {
                self.replaced += 1;
                *known = row;
            }
            Some(known) if known.epoch > epoch => self.refused += 1,
            Some(known) if known.by != by => {
                let call = &known.cdr.call;
                return Err(format!(
                    "two records of {call} in epoch {epoch}: of node {} and node {}",
                    known.by.0, by.0
                ));
            }
            Some(known) => *known = row,
        }
        Ok(())
    }

    /// What a node finds in its notes when it starts.
    pub(crate) fn recovered(&mut self, by: NodeId, note: OpenCall, unix_us: i64) {
        let cdr = note.into_lost_cdr(unix_us);
        self.rows.entry(cdr.call.clone()).or_insert(Row { epoch: 0, by, cdr, recovered: true });
    }

    pub(crate) fn rows(&self) -> &BTreeMap<String, Row> {
        &self.rows
    }
}

/// What a node has written down, and finds again unless its disk is lost.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) notes: BTreeMap<String, OpenCall>,
    pub(crate) bindings: BTreeMap<(Id<Terminal>, String), BindingRecord>,
}
