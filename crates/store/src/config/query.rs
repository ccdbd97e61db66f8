//! Questions to the store and their answers: lists of records, pages of the change log, what followers get.
//!
//! Elsewhere: answering them (`file`, `postgres`).

use super::document::{self, Document, RowChange};
use super::error::ConfigError;
use jiff::Timestamp;
use model::define::{Kind, Record, Table};
use model::draft::Change;
use model::entities::TABLES;
use model::rows::{Row, Rows};
use serde_json::Value as Json;
use std::fmt;
use std::sync::Arc;

/// A condition on records beside what the indexes answer.
pub type RecordFilter = Arc<dyn Fn(&dyn Record) -> bool + Send + Sync>;

/// Which records, in which order. All that match are counted, so a filter without a reference or a time reads them all.
#[derive(Clone)]
pub struct RecordQuery {
    /// The table.
    pub table: &'static Table,
    /// An indexed field and the row that it names.
    pub reference: Option<(&'static str, u32)>,
    /// In place of a reference, an indexed field and its text.
    pub text: Option<(&'static str, String)>,
    /// Not before this moment.
    pub from: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
    /// And this holds.
    pub filter: Option<RecordFilter>,
    /// The newest first, otherwise the oldest.
    pub newest_first: bool,
    /// How many to leave out.
    pub offset: usize,
    /// How many to give at most.
    pub limit: usize,
}

impl fmt::Debug for RecordQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordQuery")
            .field("table", &self.table.name)
            .field("reference", &self.reference)
            .field("offset", &self.offset)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl RecordQuery {
    /// The newest hundred of a table.
    pub fn new(table: &'static Table) -> Self {
        Self {
            table,
            reference: None,
            text: None,
            from: None,
            until: None,
            filter: None,
            newest_first: true,
            offset: 0,
            limit: 100,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_text =
            |field: &str| self.table.field(field).is_some_and(|field| matches!(field.kind, Kind::Text));
        let known = |field: &str| document::indexed(self.table).any(|known| known == field);
        let reference = self.reference.is_none_or(|(field, _)| known(field) && !is_text(field));
        let text = self.text.as_ref().is_none_or(|(field, _)| known(field) && is_text(field));
        let one = self.reference.is_none() || self.text.is_none();
        if self.table.records && reference && text && one {
            return Ok(());
        }
        let of_text = self.text.as_ref().map_or("", |(field, _)| field);
        let field = self.reference.map_or(of_text, |(field, _)| field).to_owned();
        Err(ConfigError::NoIndex { entity: self.table.name.to_owned(), field })
    }

    /// First and last time, both included, in Unix microseconds; nothing when there is none between.
    pub(super) fn times(&self) -> Option<(i64, i64)> {
        let from = self.from.map_or(i64::MIN, Timestamp::as_microsecond);
        let last = match self.until {
            Some(until) => until.as_microsecond().checked_sub(1)?,
            None => i64::MAX,
        };
        (from <= last).then_some((from, last))
    }
}

/// A page of records.
#[derive(Clone, Debug)]
pub struct RecordPage {
    /// The records.
    pub rows: Vec<Row>,
    /// How many there are on all pages.
    pub total: u64,
}

/// What happened since a revision.
#[derive(Clone, Debug)]
pub enum Changes {
    /// The revisions after it, oldest first; none: there is nothing new.
    Revisions(Vec<Revision>),
    /// The log does not reach back (or not so far forward): load all rows anew.
    Reload,
}

/// One revision.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Its number.
    pub revision: u64,
    /// When it was made.
    pub time: Timestamp,
    /// By whom.
    pub who: Json,
    /// What it changed.
    pub changes: Vec<Change>,
}

impl Revision {
    /// Brings rows of the revision before to this one. Records are left out.
    pub fn apply(&self, rows: &mut Rows) {
        for change in self.changes.iter().filter(|change| !change.table.records) {
            match &change.after {
                Some(row) => rows.insert(Arc::clone(row)),
                None => rows.remove(change.table, change.id),
            }
            rows.reserve(change.table, change.id.saturating_add(1));
        }
        rows.revision = self.revision;
    }
}

/// Which part of the change log, newest first.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// Changes of this entity.
    pub entity: Option<String>,
    /// Changes of the entity's row with this id.
    pub id: Option<u32>,
    /// From this revision on.
    pub from: Option<u64>,
    /// Up to this revision.
    pub to: Option<u64>,
    /// Of revisions made by whoever has this name.
    pub who: Option<String>,
    /// Where the page before ended.
    pub after: Option<LogCursor>,
    /// How many changes at most.
    pub limit: usize,
}

/// Where a page of the change log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogCursor {
    /// The revision.
    pub revision: u64,
    /// The place in it.
    pub place: u32,
}

/// A page of the change log.
#[derive(Clone, Debug)]
pub struct LogPage {
    /// What was changed, newest first: as many as were asked for, or fewer where looking for them took too long.
    pub changes: Vec<LoggedChange>,
    /// Where the next page begins, if there may be one.
    pub next: Option<LogCursor>,
}

/// The name in what a revision says of who made it.
pub(super) const WHO: &str = "name";

/// Entities that the log's readers are not shown: what the platform keeps for itself. Followers get their changes.
pub(super) fn hidden() -> impl Iterator<Item = &'static str> {
    TABLES.iter().filter(|table| table.hidden).map(|table| table.name)
}

/// A change of one row as the audit shows it.
#[derive(Clone, Debug)]
pub struct LoggedChange {
    /// The revision that it is part of.
    pub revision: u64,
    /// Its place in that.
    pub place: u32,
    /// When.
    pub time: Timestamp,
    /// By whom.
    pub who: Json,
    /// The entity.
    pub entity: String,
    /// The row.
    pub id: u32,
    /// The row as it was; none: it is new. Passwords are masked.
    pub before: Option<Document>,
    /// The row as it became; none: it was deleted. Passwords are masked.
    pub after: Option<Document>,
    /// The fields that differ, passwords among them.
    pub changed: Vec<String>,
}

const MASK: &str = "*****";

/// Masks passwords and says what differs. The documents' secrets are open; these fields were sealed.
pub(super) fn audited(change: &mut RowChange, sealed: &[String]) -> Vec<String> {
    let empty = Document::new();
    let (before, after) = (change.before.as_ref().unwrap_or(&empty), change.after.as_ref().unwrap_or(&empty));
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let differs = |name: &&&String| before.get(**name) != after.get(**name);
    let changed = names.iter().filter(differs).map(|name| (*name).clone()).collect();
    let table = model::entities::table(&change.entity);
    for (name, value) in
        [&mut change.before, &mut change.after].into_iter().flatten().flat_map(|d| d.iter_mut())
    {
        let kind = table.and_then(|table| table.field(name)).map(|field| field.kind);
        let is_secret = matches!(kind, Some(Kind::Secret | Kind::Password)) || sealed.contains(name);
        let looks_sealed = kind.is_none() && value.as_str().is_some_and(|text| text.starts_with("sealed:"));
        if (is_secret || looks_sealed) && !value.is_null() {
            *value = Json::String(MASK.to_owned());
        }
    }
    changed
}

/// How much of the change log to keep; the newest entries always stay.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// At most so many revisions.
    pub revisions: u64,
    /// None older than this.
    pub age: std::time::Duration,
}

impl Keep {
    /// So many revisions are kept whatever is asked, for nodes that are a moment behind.
    pub const LEAST: u64 = 100;
}

impl Default for Keep {
    /// A hundred thousand revisions, five years.
    fn default() -> Self {
        Self { revisions: 100_000, age: std::time::Duration::from_secs(5 * 365 * 86_400) }
    }
}

pub(super) fn time(time_us: i64) -> Timestamp {
    Timestamp::from_microsecond(time_us).unwrap_or(Timestamp::UNIX_EPOCH)
}
