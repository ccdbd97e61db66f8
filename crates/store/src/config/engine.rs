//! What both engines have in common: their words, reading rows back, gathering a page of records.
//!
//! Elsewhere: the engines (`file`, `postgres`), the face that callers see (`store`).

use super::batch::Outcome;
use super::document::{self, Document, Entry, RowChange};
use super::error::ConfigError;
use super::keys::Keyring;
use super::query::{Keep, LogCursor, RecordPage, RecordQuery};
use model::define::Table;
use model::rows::Row;
use std::collections::BTreeMap;

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The last revision.
    pub(super) revision: u64,
    /// The format of its documents.
    pub(super) format: u32,
    /// The keys by which its secrets are sealed, each with a sealed text to know it again.
    pub(super) keys: BTreeMap<String, String>,
}

/// An entry of the change log with its rows.
pub(super) type LogEntry = (Entry, Vec<RowChange>);

/// A row's change that a question to the log found.
#[derive(Clone, Debug)]
pub(super) struct LogHit {
    pub(super) entry: Entry,
    pub(super) change: RowChange,
}

/// A page of the change log.
#[derive(Clone, Debug, Default)]
pub(super) struct LogHits {
    pub(super) hits: Vec<LogHit>,
    /// The last place that was looked at, where there may be more beyond it.
    pub(super) next: Option<LogCursor>,
}

/// How a list goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many records are only counted.
    Skip(usize),
    /// The next record is wanted.
    More,
    /// The rest is only counted.
    Enough,
}

/// Which entries of the log are too old.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    revisions: u64,
    before_us: i64,
}

pub(super) fn floor(keep: &Keep, now_us: i64) -> Floor {
    let age = i64::try_from(keep.age.as_micros()).unwrap_or(i64::MAX);
    Floor { revisions: keep.revisions.max(Keep::LEAST), before_us: now_us.saturating_sub(age) }
}

impl Floor {
    pub(super) fn is_over(self, head: u64, revision: u64, time_us: i64) -> bool {
        let newer = head.saturating_sub(revision);
        newer >= self.revisions || (newer >= Keep::LEAST && time_us < self.before_us)
    }
}

/// Reads a remembered outcome.
pub(super) fn outcome(text: &str) -> Option<Outcome> {
    #[derive(serde::Deserialize)]
    struct Remembered {
        revision: u64,
        records: Vec<u32>,
    }
    let Remembered { revision, records } = serde_json::from_str(text).ok()?;
    Some(Outcome::Done { revision, records })
}

/// Gathers one page of a list of records.
pub(super) struct Collector<'a> {
    query: &'a RecordQuery,
    keys: &'a Keyring,
    rows: Vec<Row>,
    /// How many met the filter.
    met: u64,
}

impl<'a> Collector<'a> {
    pub(super) fn new(query: &'a RecordQuery, keys: &'a Keyring) -> Self {
        Self { query, keys, rows: Vec::new(), met: 0 }
    }

    /// Begins anew.
    pub(super) fn reset(&mut self) {
        self.rows.clear();
        self.met = 0;
    }

    /// The next record in order; with a filter all come, without one those from the offset on.
    pub(super) fn take(&mut self, id: u32, document: Document) -> Result<Step, ConfigError> {
        let query = self.query;
        let has_place = self.rows.len() < query.limit;
        if query.filter.is_none() && !has_place {
            return Ok(Step::Enough);
        }
        let row = read(query.table, id, document, self.keys)?;
        match &query.filter {
            None => self.rows.push(row),
            Some(filter) if filter(&*row) => {
                self.met += 1;
                if self.met > query.offset as u64 && has_place {
                    self.rows.push(row);
                }
            }
            Some(_) => {}
        }
        Ok(if query.filter.is_none() && self.rows.len() >= query.limit { Step::Enough } else { Step::More })
    }

    /// The page. `found` is how many the indexes found.
    pub(super) fn page(self, found: u64) -> RecordPage {
        let total = if self.query.filter.is_some() { self.met } else { found };
        RecordPage { rows: self.rows, total }
    }
}

/// Reads a row back from its document's text.
pub(super) fn read_text(
    table: &'static Table,
    id: u32,
    text: &str,
    keys: &Keyring,
) -> Result<Row, ConfigError> {
    let damaged = |what| ConfigError::Damaged { place: format!("{} {id}", table.name), what };
    document::row_of_text(table, id, text, keys).map_err(damaged)
}

/// Reads a row back.
pub(super) fn read(
    table: &'static Table,
    id: u32,
    document: Document,
    keys: &Keyring,
) -> Result<Row, ConfigError> {
    let damaged = |what| ConfigError::Damaged { place: format!("{} {id}", table.name), what };
    document::row(table, id, document, keys).map_err(damaged)
}
