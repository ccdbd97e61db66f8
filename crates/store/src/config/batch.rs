//! One transaction as both engines get it: what to write, checked and sealed, with nothing of its engine in it.
//!
//! In: changes of a draft, or records. Out: documents, log lines, index keys, next ids. Elsewhere: writing them (`file`,
//! `postgres`).

use super::document::{self, Document, Entry, RowChange};
use super::error::ConfigError;
use super::keys::Keyring;
use super::token::Token;
use jiff::Timestamp;
use model::define::{Kind, Table};
use model::draft::Change;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

/// New records in a draft have ids from here on: their real ones are given while they are committed.
pub(super) const PROVISIONAL: u32 = 1 << 31;

/// What the store takes at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Octets of one row's document.
    pub document_bytes: usize,
    /// Octets of all documents of one commit.
    pub commit_bytes: usize,
    /// Rows of one commit.
    pub commit_rows: usize,
    /// Octets of what a commit says of its author.
    pub who_bytes: usize,
    /// Rows of one page of a list.
    pub page_rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes: 1 << 20,
            commit_bytes: 128 << 20, // a file of 200,000 rates, each with a destination of its own
            commit_rows: 500_000,
            who_bytes: 16 << 10,
            page_rows: 10_000,
        }
    }
}

/// One transaction.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// The head that it replaces; none: it holds records only, and makes no revision.
    pub(super) expected: Option<u64>,
    pub(super) token: Token,
    pub(super) time_us: i64,
    pub(super) who: Json,
    pub(super) items: Vec<Item>,
    /// Where several appends are one transaction: the token of each, and how many records are its own, in order.
    pub(super) parts: Vec<(Token, usize)>,
    /// Each record is there once for what it was made of: whether a new one takes the place of the one that is there.
    pub(super) once: Option<Takes>,
}

/// Whether a record takes the place of an older one that was made of the same; it may take over from that one what stays.
pub type Takes = fn(old: &Document, new: &mut Document) -> bool;

/// Records by their tables and what they were made of: id and document.
pub(super) type There = BTreeMap<(&'static str, String), (u32, Document)>;

/// The field that says what a record was made of.
pub(super) const ORIGIN: &str = "origin";

/// One row or record of a batch.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) table: &'static Table,
    pub(super) id: u32,
    pub(super) before: Option<Document>,
    pub(super) after: Option<Document>,
    /// It was not there before.
    pub(super) is_new: bool,
}

impl Batch {
    /// # Errors
    ///
    /// Something is too large, or could not be read again.
    pub(super) fn new(
        expected: Option<u64>,
        token: Token,
        changes: &[Change],
        who: &Json,
        time: Timestamp,
        keys: &Keyring,
        limits: &Limits,
    ) -> Result<Self, ConfigError> {
        limit("a commit's count of rows", changes.len(), limits.commit_rows, "make it in parts")?;
        limit("the note of who commits", who.to_string().len(), limits.who_bytes, "write less of it")?;
        let mut bytes = 0;
        let mut items = Vec::with_capacity(changes.len());
        for change in changes {
            // What is written must be readable, or no node could start again.
            if let Some(row) = &change.after {
                let unreadable = |fault| ConfigError::Unreadable {
                    entity: change.table.name.to_owned(),
                    id: change.id,
                    fault,
                };
                document::plain_row(change.table, change.id, &model::import::document(&**row))
                    .map_err(unreadable)?;
            }
            let stored = |row: &model::rows::Row| document::sealed(&**row, keys);
            let before = change.before.as_ref().map(stored).transpose()?;
            let after = change.after.as_ref().map(stored).transpose()?;
            for document in [&before, &after].into_iter().flatten() {
                let size = serde_json::to_string(document).map_or(0, |text| text.len());
                limit("a row's document", size, limits.document_bytes, "keep large contents as a file")?;
                bytes += size;
            }
            items.push(Item { table: change.table, id: change.id, is_new: before.is_none(), before, after });
        }
        limit("a commit", bytes, limits.commit_bytes, "make it in parts")?;
        Ok(Self {
            expected,
            token,
            time_us: time.as_microsecond(),
            who: who.clone(),
            items,
            parts: Vec::new(),
            once: None,
        })
    }

    /// For each table what its new records were made of, where each is to be there once.
    pub(super) fn origins(&self) -> BTreeMap<&'static str, Vec<&str>> {
        let mut origins: BTreeMap<&'static str, Vec<&str>> = BTreeMap::new();
        for item in self.items.iter().filter(|_| self.once.is_some()) {
            if let Some(origin) = item.origin() {
                origins.entry(item.table.name).or_default().push(origin);
            }
        }
        origins
    }

    /// Leaves out what is `there` already, or puts it in its place.
    pub(super) fn settle(&mut self, there: &There) {
        let Some(takes) = self.once else { return };
        let mut seen = BTreeSet::new();
        self.items.retain_mut(|item| {
            let Some(origin) = item.origin() else { return true };
            let key = (item.table.name, origin.to_owned());
            let old = there.get(&key);
            if !seen.insert(key) {
                return false;
            }
            let (Some((id, old)), Some(new)) = (old, &mut item.after) else { return true };
            if !takes(old, new) {
                return false;
            }
            new.insert("id".to_owned(), Json::from(*id));
            (item.id, item.is_new, item.before) = (*id, false, Some(old.clone()));
            true
        });
    }

    /// Several appends as one transaction.
    pub(super) fn joined(mut batches: Vec<Self>) -> Option<Self> {
        if batches.len() < 2 {
            return batches.pop();
        }
        let parts = batches.iter().map(|batch| (batch.token, batch.items.len())).collect();
        let mut all = batches.pop()?;
        let last = std::mem::take(&mut all.items);
        all.items = batches.into_iter().flat_map(|batch| batch.items).chain(last).collect();
        Some(Self { token: Token::random(), parts, ..all })
    }

    /// What is to be remembered of its outcome, by token.
    pub(super) fn outcomes(&self, revision: u64, records: &[u32]) -> Vec<(Token, String)> {
        let text =
            |records: &[u32]| serde_json::json!({ "revision": revision, "records": records }).to_string();
        let mut rest = records;
        let mut outcomes = vec![(self.token, text(records))];
        for (token, count) in &self.parts {
            let (own, others) = rest.split_at((*count).min(rest.len()));
            outcomes.push((*token, text(own)));
            rest = others;
        }
        outcomes
    }

    /// The tables of which new records need ids.
    pub(super) fn needs_ids(&self) -> Vec<&'static Table> {
        let mut tables: Vec<&'static Table> = Vec::new();
        for item in self.items.iter().filter(|item| item.needs_id()) {
            if !tables.iter().any(|table| std::ptr::eq(*table, item.table)) {
                tables.push(item.table);
            }
        }
        tables
    }

    /// Gives new records their ids, counted from `next`, also where other rows of the batch name them.
    /// Returns the ids of all new records, in order.
    pub(super) fn assign(&mut self, next: &BTreeMap<&'static str, u32>) -> Result<Vec<u32>, ConfigError> {
        let mut next = next.clone();
        let mut given: BTreeMap<(&'static str, u32), u32> = BTreeMap::new();
        let mut ids = Vec::new();
        for item in self.items.iter_mut().filter(|item| item.table.records && item.is_new) {
            if item.needs_id() {
                let counter = next.entry(item.table.name).or_insert(1);
                let id = *counter;
                limit("the count of records", id as usize, PROVISIONAL as usize, "there are no ids left")?;
                *counter += 1;
                if item.id != 0 {
                    given.insert((item.table.name, item.id), id);
                }
                item.id = id;
                if let Some(after) = &mut item.after {
                    after.insert("id".to_owned(), Json::from(id));
                }
            }
            ids.push(item.id);
        }
        if !given.is_empty() {
            for item in &mut self.items {
                let Some(after) = &mut item.after else { continue };
                for field in item.table.fields.iter().skip(1) {
                    if let Kind::Reference(target) = field.kind
                        && target().records
                        && let Some(id) =
                            after.get(field.name).and_then(Json::as_u64).and_then(|id| u32::try_from(id).ok())
                        && let Some(id) = given.get(&(target().name, id))
                    {
                        after.insert(field.name.to_owned(), Json::from(*id));
                    }
                }
            }
        }
        Ok(ids)
    }

    /// For each table that got rows: the least id that none of them has.
    pub(super) fn next_ids(&self) -> BTreeMap<&'static str, u32> {
        let mut next = BTreeMap::new();
        for item in self.items.iter().filter(|item| item.is_new) {
            let least = next.entry(item.table.name).or_insert(1);
            *least = item.id.saturating_add(1).max(*least);
        }
        next
    }

    /// The log entry of this revision, and its rows.
    pub(super) fn entry(&self, revision: u64) -> (Entry, Vec<RowChange>) {
        let entry =
            Entry { revision, time_us: self.time_us, who: self.who.clone(), token: self.token.to_string() };
        let changes = self.items.iter().zip(0..).map(|(item, place)| RowChange {
            revision,
            place,
            entity: item.table.name.to_owned(),
            id: item.id,
            before: item.before.clone(),
            after: item.after.clone(),
        });
        (entry, changes.collect())
    }
}

impl Item {
    fn origin(&self) -> Option<&str> {
        self.after.as_ref().filter(|_| self.is_new)?.get(ORIGIN)?.as_str()
    }

    fn needs_id(&self) -> bool {
        self.table.records && self.is_new && (self.id == 0 || self.id >= PROVISIONAL)
    }

    pub(super) fn no_such_record(&self) -> ConfigError {
        ConfigError::NoSuchRecord { entity: self.table.name.to_owned(), id: self.id }
    }
}

fn limit(what: &'static str, size: usize, max: usize, remedy: &'static str) -> Result<(), ConfigError> {
    if size > max { Err(ConfigError::TooLarge { what, size, max, remedy }) } else { Ok(()) }
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is kept.
    Done {
        /// The head now.
        revision: u64,
        /// The ids of its new records, in their order.
        records: Vec<u32>,
    },
    /// Somebody else was faster, and nothing was changed: catch up with this revision, and make the change again.
    Conflict {
        /// The head.
        head: u64,
    },
}
