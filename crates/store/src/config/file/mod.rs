//! The configuration in a file of its own (redb): every commit is one durable transaction.
//!
//! In: batches and questions, on a thread that may block. Out: documents. Each value carries its name and a checksum.
//! Rooms: `tables` (what is
//! where in it). Elsewhere: the same in PostgreSQL (`postgres`), what documents mean (`document`), reading wrecks (`salvage`).

pub(super) mod tables;

use super::batch::{Batch, ORIGIN, Outcome, There};
use super::document::{self, Document, Entry, Piece, Stored};
use super::engine::{Head, LogEntry, LogHit, LogHits, Step, floor};
use super::error::ConfigError;
use super::fence::OwnerFence;
use super::keys::Keyring;
use super::media::Media;
use super::migrate::{Rewrite, Steps};
use super::query::{Keep, LogCursor, LogQuery, RecordQuery, WHO, hidden};
use model::define::Table;
use parking_lot::RwLock;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase,
    ReadableTable, ReadableTableMetadata, StorageError, WriteTransaction,
};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tables::*;

/// Changes that are looked at for one page of the change log, for those of one author: a fraction of a second.
const LOOKED_AT: usize = 100_000;

/// The file.
pub(super) struct FileEngine {
    /// `None` after a failure, until it is needed: redb does nothing more with a file that failed once, but can open it again.
    db: RwLock<Option<Database>>,
    media: Arc<dyn Media>,
    cache_bytes: usize,
    /// It was opened once: from then on an absent file is lost, and no empty one must take its place.
    is_made: AtomicBool,
    format: u32,
}

impl FileEngine {
    /// Opens the file, or makes it, and brings it to today's format and indexes.
    pub(super) fn open(
        media: Arc<dyn Media>,
        cache_bytes: usize,
        keys: &Keyring,
        steps: Steps,
    ) -> Result<Self, ConfigError> {
        let engine = Self {
            db: RwLock::new(None),
            media,
            cache_bytes,
            is_made: AtomicBool::new(false),
            format: steps.format(),
        };
        engine.prepare(keys, steps)?;
        engine.is_made.store(true, Ordering::Relaxed);
        Ok(engine)
    }

    fn prepare(&self, keys: &Keyring, steps: Steps) -> Result<(), ConfigError> {
        let place = self.media.name();
        let is_new = self.read("list tables", |read| Ok(read.list_tables()?.next().is_none()))?;
        let indexes = serde_json::json!(index_definitions()).to_string();
        let (name, check) = keys.check()?;
        if is_new {
            return self.write("make the store", |write| {
                make_tables(write)?;
                write.open_table(META)?.insert("format", u64::from(self.format))?;
                let mut notes = write.open_table(NOTES)?;
                notes.insert("indexes", indexes.as_bytes())?;
                notes.insert("keys", serde_json::json!({ name: check }).to_string().as_bytes())?;
                Ok(())
            });
        }
        let head = self.head()?;
        let rewrite = steps.since(head.format, &place)?;
        keys.knows(&head.keys)?;
        let noted = self.read("read the indexes", |read| {
            Ok(read
                .open_table(NOTES)?
                .get("indexes")?
                .is_some_and(|noted| noted.value() == indexes.as_bytes()))
        })?;
        if noted && rewrite.is_empty() && head.keys.contains_key(&name) {
            return Ok(());
        }
        if !rewrite.is_empty() {
            tracing::info!(
                from = head.format,
                to = self.format,
                what = rewrite.what(),
                "the configuration's store is brought to today's format"
            );
        }
        self.write("bring the store to today's format", |write| {
            let mut keys_used = head.keys.clone();
            if !rewrite.is_empty() {
                rewrite_all(write, rewrite, keys)?;
            }
            if !(noted && rewrite.is_empty()) {
                index_records(write)?;
            }
            keys_used.entry(name.clone()).or_insert_with(|| check.clone());
            write.open_table(META)?.insert("format", u64::from(self.format))?;
            let mut notes = write.open_table(NOTES)?;
            notes.insert("indexes", indexes.as_bytes())?;
            notes.insert("keys", serde_json::json!(keys_used).to_string().as_bytes())?;
            Ok(())
        })
    }

    /// Seals everything by the first key; the store then needs no other.
    pub(super) fn reseal(&self, keys: &Keyring) -> Result<(), ConfigError> {
        let (name, check) = keys.check()?;
        self.write("seal secrets by the new key", |write| {
            rewrite_all(write, Rewrite::seals(self.format), keys)?;
            let used = serde_json::json!({ name: check }).to_string();
            write.open_table(NOTES)?.insert("keys", used.as_bytes())?;
            Ok(())
        })
    }

    pub(super) fn head(&self) -> Result<Head, ConfigError> {
        self.read("read the head", head_of)
    }

    pub(super) fn revision(&self) -> Result<u64, ConfigError> {
        self.head().map(|head| head.revision)
    }

    /// All rows, each with its entity, id and the text of its document, and next ids, of one revision.
    pub(super) fn load(
        &self,
        row: &mut dyn FnMut(&str, u32, &str) -> Result<(), ConfigError>,
        next: &mut dyn FnMut(&str, u32),
    ) -> Result<u64, ConfigError> {
        self.read("load the rows", |read| {
            let mut sum = Sum::default();
            for entry in read.open_table(ROWS)?.iter()? {
                let (key, value) = entry?;
                sum.add(value.value());
                let (entity, id) = key.value();
                row(entity, id, row_text((entity, id), value.value())?).map_err(Fault::own)?;
            }
            sum.check(read, "rows")?;
            let mut sum = Sum::default();
            for entry in read.open_table(NEXT)?.iter()? {
                let (key, value) = entry?;
                sum.add(value.value());
                next(key.value(), next_of(value.value())?);
            }
            sum.check(read, "next")?;
            Ok(head_of(read)?.revision)
        })
    }

    /// One transaction. It may be repeated: what was kept is not done again.
    pub(super) fn commit(&self, batch: &Batch) -> Result<Outcome, ConfigError> {
        let work = |write: &WriteTransaction| commit_work(write, batch.clone(), self.format);
        let (error, may_be_kept) = match self.try_write(work) {
            Ok(outcome) => return Ok(outcome),
            Err(Fault::Settled(outcome)) => return Ok(outcome),
            Err(Fault::Redb(error)) => (error, false),
            Err(Fault::Commit(error)) => (error, true),
            Err(fault) => return Err(self.told("commit", fault)),
        };
        // Opening the file anew brings it to its last whole transaction: was it this one?
        let found = self.read("look for a commit", |read| {
            Ok(read.open_table(TOKENS)?.get(batch.token.0.as_slice())?.map(|v| v.value().to_vec()))
        });
        match found {
            Ok(Some(outcome)) => outcome_of(&outcome).ok_or_else(|| self.damaged("an unreadable outcome")),
            Err(_) if may_be_kept => {
                Err(ConfigError::OutcomeUnknown { token: batch.token, source: Arc::new(error) })
            }
            _ => Err(ConfigError::unavailable("commit", error)),
        }
    }

    /// Entries after this revision, oldest first; nothing where the log does not reach back.
    pub(super) fn entries(&self, after: u64, limit: usize) -> Result<Option<Vec<LogEntry>>, ConfigError> {
        self.read("read the change log", |read| {
            let head = head_of(read)?.revision;
            if after == head {
                return Ok(Some(Vec::new()));
            }
            let log = read.open_table(LOG)?;
            let oldest = log.first()?.map_or(u64::MAX, |(revision, _)| revision.value());
            if after > head || after.saturating_add(1) < oldest {
                return Ok(None);
            }
            let changes = read.open_table(CHANGES)?;
            let mut entries = Vec::new();
            for found in log.range(after.saturating_add(1)..)?.take(limit.max(1)) {
                let (key, value) = found?;
                let revision = key.value();
                let mut rows = Vec::new();
                for change in changes.range((revision, 0)..=(revision, u32::MAX))? {
                    rows.push(change_of(change?.1.value())?);
                }
                entries.push((entry_of(value.value())?, rows));
            }
            Ok(Some(entries))
        })
    }

    /// Revision and time of the newest entry of the change log up to a revision.
    pub(super) fn newest_entry(&self, to: u64) -> Result<Option<(u64, i64)>, ConfigError> {
        self.read("read the change log", |read| {
            let log = read.open_table(LOG)?;
            let Some(found) = log.range(..=to)?.next_back() else { return Ok(None) };
            let (revision, entry) = found?;
            Ok(Some((revision.value(), entry_of(entry.value())?.time_us)))
        })
    }

    /// A page of the change log, newest first.
    pub(super) fn log(&self, query: &LogQuery) -> Result<LogHits, ConfigError> {
        let from = query.from.unwrap_or(0);
        let to = query.to.unwrap_or(u64::MAX);
        // The place after the last one wanted.
        let end = query.after.map_or((u64::MAX, u32::MAX), |cursor| (cursor.revision, cursor.place));
        let end = end.min((to.saturating_add(1), 0)).max((from, 0));
        self.read("read the change log", |read| {
            let mut page = LogReader {
                query,
                log: read.open_table(LOG)?,
                changes: read.open_table(CHANGES)?,
                entry: None,
                looked_at: 0,
                last: None,
                found: LogHits::default(),
            };
            match (&query.entity, query.id) {
                (Some(entity), Some(id)) => {
                    let table = read.open_table(CHANGES_BY_ROW)?;
                    let range = (entity.as_str(), id, from, 0)..(entity.as_str(), id, end.0, end.1);
                    for found in table.range(range)?.rev() {
                        let (_, _, revision, place) = found?.0.value();
                        if !page.take((revision, place))? {
                            break;
                        }
                    }
                }
                (Some(entity), None) => {
                    let table = read.open_table(CHANGES_BY_ENTITY)?;
                    let range = (entity.as_str(), from, 0)..(entity.as_str(), end.0, end.1);
                    for found in table.range(range)?.rev() {
                        let (_, revision, place) = found?.0.value();
                        if !page.take((revision, place))? {
                            break;
                        }
                    }
                }
                (None, _) => {
                    for found in read.open_table(CHANGES)?.range((from, 0)..end)?.rev() {
                        if !page.take(found?.0.value())? {
                            break;
                        }
                    }
                }
            }
            Ok(page.found)
        })
    }

    /// Forgets old entries; says how many.
    pub(super) fn trim(
        &self,
        keep: &Keep,
        now_us: i64,
        owner: Option<&OwnerFence>,
    ) -> Result<u64, ConfigError> {
        let mut gone = 0;
        // In pieces, so that commits do not wait for long.
        loop {
            let (more, count) = self
                .try_write(|write| {
                    if let Some(owner) = owner {
                        check_fence(write, owner)?;
                    }
                    let head =
                        write.open_table(META)?.get("revision")?.map_or(0, |revision| revision.value());
                    let floor = floor(keep, now_us);
                    let mut log = write.open_table(LOG)?;
                    let mut changes = ChangeTables::open(write)?;
                    let mut count = 0;
                    while count < CHUNK as u64 {
                        let Some((revision, value)) =
                            log.first()?.map(|(k, v)| (k.value(), v.value().to_vec()))
                        else {
                            break;
                        };
                        if !floor.is_over(head, revision, entry_of(&value)?.time_us) {
                            return Ok((false, count));
                        }
                        log.remove(revision)?;
                        changes.remove_all(revision)?;
                        count += 1;
                    }
                    Ok((count == CHUNK as u64, count))
                })
                .map_err(|fault| self.told("trim the change log", fault))?;
            gone += count;
            if !more {
                return Ok(gone);
            }
        }
    }

    pub(super) fn record(&self, table: &Table, id: u32) -> Result<Option<Document>, ConfigError> {
        self.read("read a record", |read| {
            let found = read.open_table(RECORDS)?.get((table.name, id))?.map(|value| value.value().to_vec());
            found.map(|value| stored((table.name, id), &value).map(|stored| stored.document)).transpose()
        })
    }

    /// Gives the records that the query's indexes find, in its order. Without `each` they are only counted after the page.
    pub(super) fn records(
        &self,
        query: &RecordQuery,
        each: &mut dyn FnMut(u32, Document) -> Result<Step, ConfigError>,
    ) -> Result<u64, ConfigError> {
        let Some((from, last)) = query.times() else { return Ok(0) };
        let name = query.table.name;
        self.read("list records", |read| {
            let records = read.open_table(RECORDS)?;
            let mut count = 0;
            let mut step = Step::Skip(if query.filter.is_none() { query.offset } else { 0 });
            let mut visit = |id: u32| -> Work<()> {
                count += 1;
                match &mut step {
                    Step::Skip(0) | Step::More => {
                        let found = records.get((name, id))?.ok_or_else(|| missing("a record"))?;
                        step = each(id, stored((name, id), found.value())?.document).map_err(Fault::own)?;
                    }
                    Step::Skip(left) => *left -= 1,
                    Step::Enough => {}
                }
                Ok(())
            };
            let of_text = query.text.as_ref().map(|(field, text)| (*field, document::of_text(text)));
            match query.reference.or(of_text) {
                None => {
                    let table = read.open_table(RECORDS_BY_TIME)?;
                    let mut found = table.range((name, from, 0)..=(name, last, u32::MAX))?;
                    while let Some(key) = if query.newest_first { found.next_back() } else { found.next() } {
                        visit(key?.0.value().2)?;
                    }
                }
                Some((field, target)) => {
                    let table = read.open_table(RECORDS_BY_REFERENCE)?;
                    let mut found = table
                        .range((name, field, target, from, 0)..=(name, field, target, last, u32::MAX))?;
                    while let Some(key) = if query.newest_first { found.next_back() } else { found.next() } {
                        visit(key?.0.value().4)?;
                    }
                }
            }
            Ok(count)
        })
    }

    /// Everything, of one moment.
    pub(super) fn dump(
        &self,
        begin: &mut dyn FnMut(&Head) -> Result<(), ConfigError>,
        each: &mut dyn FnMut(Piece) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        self.read("read everything", |read| {
            begin(&head_of(read)?).map_err(Fault::own)?;
            for entry in read.open_table(NEXT)?.iter()? {
                let (key, value) = entry?;
                each(Piece::Next { entity: key.value().to_owned(), next: next_of(value.value())? })
                    .map_err(Fault::own)?;
            }
            for (definition, is_record) in [(ROWS, false), (RECORDS, true)] {
                let mut sum = Sum::default();
                for entry in read.open_table(definition)?.iter()? {
                    let (key, value) = entry?;
                    sum.add(value.value());
                    let stored = stored(key.value(), value.value())?;
                    each(if is_record { Piece::Record(stored) } else { Piece::Row(stored) })
                        .map_err(Fault::own)?;
                }
                sum.check(read, if is_record { "records" } else { "rows" })?;
            }
            for entry in read.open_table(LOG)?.iter()? {
                each(Piece::Entry(entry_of(entry?.1.value())?)).map_err(Fault::own)?;
            }
            for entry in read.open_table(CHANGES)?.iter()? {
                each(Piece::Change(change_of(entry?.1.value())?)).map_err(Fault::own)?;
            }
            Ok(())
        })
    }

    /// Takes everything into an empty store, in one transaction.
    pub(super) fn restore(
        &self,
        head: &Head,
        pieces: &mut dyn Iterator<Item = Result<Piece, ConfigError>>,
    ) -> Result<(), ConfigError> {
        let place = self.media.name();
        self.write("restore a backup", |write| {
            let is_empty = write.open_table(META)?.get("written")?.is_none();
            if !is_empty {
                return Err(Fault::Own(ConfigError::NotEmpty { place }));
            }
            let mut tables = AllTables::open(write)?;
            for piece in pieces {
                tables.put(piece.map_err(Fault::own)?)?;
            }
            let written = tables.written;
            drop(tables);
            index_records(write)?;
            sum_up(write)?;
            let mut meta = write.open_table(META)?;
            meta.insert("revision", head.revision)?;
            meta.insert("written", written)?;
            let mut notes = write.open_table(NOTES)?;
            let ours = notes.get("keys")?.map(|keys| keys.value().to_vec()).unwrap_or_default();
            let mut used: BTreeMap<String, String> = serde_json::from_slice(&ours).unwrap_or_default();
            used.extend(head.keys.clone());
            notes.insert("keys", serde_json::json!(used).to_string().as_bytes())?;
            Ok(())
        })
    }

    fn read<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&ReadTransaction) -> Work<T>,
    ) -> Result<T, ConfigError> {
        self.transact(|db| work(&db.begin_read()?)).map_err(|fault| self.told(action, fault))
    }

    fn write<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&WriteTransaction) -> Work<T>,
    ) -> Result<T, ConfigError> {
        self.try_write(work).map_err(|fault| self.told(action, fault))
    }

    /// One durable transaction. Quick repair: opening after a crash takes milliseconds instead of a walk through the file.
    fn try_write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Work<T>) -> Work<T> {
        self.transact(|db| {
            let mut write = db.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            write.set_quick_repair(true);
            let result = work(&write)?;
            write.commit().map_err(|error| Fault::Commit(error.into()))?;
            Ok(result)
        })
    }

    /// After a failure the database is closed, and opened again when it is needed next. That brings it to its last whole
    /// transaction, and syncs it: what is read from then on is on the disk.
    fn transact<T>(&self, work: impl FnOnce(&Database) -> Work<T>) -> Work<T> {
        loop {
            let db = self.db.read();
            let Some(open) = db.as_ref() else {
                drop(db);
                let mut db = self.db.write();
                if db.is_none() {
                    *db = Some(self.open_database().map_err(Fault::own)?);
                }
                continue;
            };
            // Pages that do not fit together can make redb panic; to an operator that is damage like any other.
            let outcome = catch_unwind(AssertUnwindSafe(|| work(open)));
            drop(db);
            let fault = match outcome {
                Ok(Ok(result)) => return Ok(result),
                Ok(Err(fault)) => fault,
                Err(_) => Fault::Damage("its pages do not fit together".to_owned()),
            };
            if !matches!(fault, Fault::Own(_) | Fault::Settled(_)) {
                *self.db.write() = None;
            }
            return Err(fault);
        }
    }

    fn told(&self, action: &'static str, fault: Fault) -> ConfigError {
        match fault {
            Fault::Own(error) => error,
            Fault::Damage(what) => self.damaged(what),
            Fault::Settled(_) => ConfigError::Closed,
            Fault::Redb(redb::Error::Corrupted(what)) | Fault::Commit(redb::Error::Corrupted(what)) => {
                self.damaged(what)
            }
            Fault::Redb(
                error @ (redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. }),
            ) => self.damaged(error.to_string()),
            Fault::Redb(error) | Fault::Commit(error) => ConfigError::unavailable(action, error),
        }
    }

    fn damaged(&self, what: impl Into<String>) -> ConfigError {
        ConfigError::Damaged { place: self.media.name(), what: what.into() }
    }

    fn open_database(&self) -> Result<Database, ConfigError> {
        let mut builder = Builder::new();
        builder.set_cache_size(self.cache_bytes);
        let may_make = !self.is_made.load(Ordering::Relaxed);
        match catch_unwind(AssertUnwindSafe(|| self.media.database(&builder, may_make))) {
            Ok(Ok(db)) => Ok(db),
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
                Err(ConfigError::Locked { place: self.media.name() })
            }
            Ok(Err(DatabaseError::Storage(StorageError::Corrupted(what)))) => Err(self.damaged(what)),
            Ok(Err(DatabaseError::Storage(StorageError::Io(error))))
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
                ) =>
            {
                Err(self.damaged("it is no whole database"))
            }
            Ok(Err(error)) => Err(ConfigError::unavailable("open", redb::Error::from(error))),
            Err(_) => Err(self.damaged("its pages do not fit together")),
        }
    }
}

/// A page of the change log while it is read.
struct LogReader<'a> {
    query: &'a LogQuery,
    log: ReadOnlyTable<u64, &'static [u8]>,
    changes: ReadOnlyTable<(u64, u32), &'static [u8]>,
    /// The revision of the last place, and whether it is wanted.
    entry: Option<(Entry, bool)>,
    looked_at: usize,
    last: Option<LogCursor>,
    found: LogHits,
}

impl LogReader<'_> {
    /// Looks at the next place; out: whether to go on.
    fn take(&mut self, (revision, place): (u64, u32)) -> Work<bool> {
        if self.found.hits.len() >= self.query.limit || self.looked_at >= LOOKED_AT {
            self.found.next = self.last;
            return Ok(false);
        }
        self.looked_at += 1;
        self.last = Some(LogCursor { revision, place });
        if self.entry.as_ref().is_none_or(|(entry, _)| entry.revision != revision) {
            let entry = self.log.get(revision)?.ok_or_else(|| missing("a log entry"))?;
            let entry = entry_of(entry.value())?;
            let is_by = |who: &String| entry.who.get(WHO).and_then(|name| name.as_str()) == Some(who);
            let is_wanted = self.query.who.as_ref().is_none_or(is_by);
            self.entry = Some((entry, is_wanted));
        }
        if let Some((entry, true)) = &self.entry {
            let change = self.changes.get((revision, place))?.ok_or_else(|| missing("a change"))?;
            let change = change_of(change.value())?;
            if !hidden().any(|name| name == change.entity) {
                self.found.hits.push(LogHit { entry: entry.clone(), change });
            }
        }
        Ok(true)
    }
}

/// Goes on only where no larger fence has been seen, and notes this one among the numbers of the file.
fn check_fence(write: &WriteTransaction, owner: &OwnerFence) -> Work<()> {
    let name = format!("fence {}", owner.name());
    let mut meta = write.open_table(META)?;
    let seen = meta.get(name.as_str())?.map_or(0, |fence| fence.value());
    if seen > owner.fence {
        return Err(Fault::Own(owner.refused()));
    }
    meta.insert(name.as_str(), owner.fence)?;
    Ok(())
}

fn head_of(read: &ReadTransaction) -> Work<Head> {
    let meta = read.open_table(META)?;
    let number = |name: &'static str| -> Work<u64> { Ok(meta.get(name)?.map_or(0, |number| number.value())) };
    let keys = read.open_table(NOTES)?.get("keys")?.map(|keys| keys.value().to_vec()).unwrap_or_default();
    let keys = serde_json::from_slice(&keys)
        .map_err(|_| Fault::Damage("the list of its keys is unreadable".to_owned()))?;
    Ok(Head {
        revision: number("revision")?,
        format: u32::try_from(number("format")?).unwrap_or(u32::MAX),
        keys,
    })
}

fn commit_work(write: &WriteTransaction, mut batch: Batch, format: u32) -> Work<Outcome> {
    let mut meta = write.open_table(META)?;
    let mut tokens = write.open_table(TOKENS)?;
    if let Some(outcome) = tokens.get(batch.token.0.as_slice())? {
        let outcome = outcome_of(outcome.value());
        return Err(outcome.map_or_else(|| Fault::Damage("an unreadable outcome".to_owned()), Fault::Settled));
    }
    for (token, _) in &batch.parts {
        if tokens.get(token.0.as_slice())?.is_some() {
            // It was given up, and its parts were kept one by one.
            return Err(Fault::Own(ConfigError::Closed));
        }
    }
    let number = |number: Option<redb::AccessGuard<'_, u64>>| number.map_or(0, |number| number.value());
    let found = u32::try_from(number(meta.get("format")?)).unwrap_or(u32::MAX);
    if found != format {
        return Err(Fault::Own(ConfigError::Newer { place: "the store".to_owned(), found, known: format }));
    }
    let head = number(meta.get("revision")?);
    if batch.expected.is_some_and(|expected| expected != head) {
        return Err(Fault::Settled(Outcome::Conflict { head }));
    }
    if batch.once.is_some() {
        let there = made_of(write, &batch)?;
        batch.settle(&there);
    }
    let written = number(meta.get("written")?) + 1;
    meta.insert("written", written)?;
    let mut next = write.open_table(NEXT)?;
    let mut counters = BTreeMap::new();
    for table in batch.needs_ids() {
        let counter = next.get(table.name)?.map(|value| next_of(value.value())).transpose()?;
        counters.insert(table.name, counter.unwrap_or(1));
    }
    let records = batch.assign(&counters).map_err(Fault::own)?;
    let mut sum_next = Sum(number(meta.get("next")?));
    for (entity, least) in batch.next_ids() {
        let known = next.get(entity)?.map(|value| next_of(value.value())).transpose()?.unwrap_or(1);
        let frame = Piece::Next { entity: entity.to_owned(), next: least.max(known) }.frame();
        sum_next.add(&frame);
        sum_next.subtract(next.insert(entity, frame.as_slice())?);
    }
    meta.insert("next", sum_next.0)?;
    let mut rows = write.open_table(ROWS)?;
    let mut sum_rows = Sum(number(meta.get("rows")?));
    let mut sum_records = Sum(number(meta.get("records")?));
    let mut record_tables: Option<RecordTables<'_>> = None;
    for item in &batch.items {
        if item.table.records {
            let tables = match &mut record_tables {
                Some(tables) => tables,
                none => none.insert(RecordTables::open(write)?),
            };
            tables.put(item, written, &mut sum_records)?;
            continue;
        }
        let key = (item.table.name, item.id);
        match &item.after {
            Some(document) => {
                let piece = Piece::Row(Stored {
                    entity: item.table.name.to_owned(),
                    id: item.id,
                    written,
                    document: document.clone(),
                });
                let frame = piece.frame();
                sum_rows.add(&frame);
                sum_rows.subtract(rows.insert(key, frame.as_slice())?);
            }
            None => sum_rows.subtract(rows.remove(key)?),
        }
    }
    meta.insert("rows", sum_rows.0)?;
    meta.insert("records", sum_records.0)?;
    let revision = if batch.expected.is_some() { head + 1 } else { head };
    if batch.expected.is_some() {
        let (entry, changes) = batch.entry(revision);
        write.open_table(LOG)?.insert(revision, Piece::Entry(entry).frame().as_slice())?;
        let mut tables = ChangeTables::open(write)?;
        for change in changes {
            let frame = Piece::Change(change.clone()).frame();
            tables.insert(&change, &frame)?;
        }
        meta.insert("revision", revision)?;
    }
    let mut by_age = write.open_table(TOKENS_BY_AGE)?;
    for ((token, outcome), place) in batch.outcomes(revision, &records).into_iter().zip(0..) {
        tokens.insert(token.0.as_slice(), outcome.as_bytes())?;
        by_age.insert((written, place), token.0.as_slice())?;
    }
    while by_age.len()? > TOKENS_MAX {
        let Some(oldest) = by_age.pop_first()?.map(|(_, token)| token.value().to_vec()) else { break };
        tokens.remove(oldest.as_slice())?;
    }
    Ok(Outcome::Done { revision, records })
}

/// Records that were made of the same as some of the batch.
fn made_of(write: &WriteTransaction, batch: &Batch) -> Work<There> {
    let (records, index) = (write.open_table(RECORDS)?, write.open_table(RECORDS_BY_REFERENCE)?);
    let mut there = There::new();
    for (table, origins) in batch.origins() {
        for origin in origins {
            let text = document::of_text(origin);
            let key = |time, id| (table, ORIGIN, text, time, id);
            for found in index.range(key(i64::MIN, 0)..=key(i64::MAX, u32::MAX))? {
                let id = found?.0.value().4;
                let record = records.get((table, id))?.ok_or_else(|| missing("a record"))?;
                let document = stored((table, id), record.value())?.document;
                // Others may look alike to the index.
                if document.get(ORIGIN).and_then(|it| it.as_str()) == Some(origin) {
                    there.insert((table, origin.to_owned()), (id, document));
                }
            }
        }
    }
    Ok(there)
}

#[cfg(test)]
impl FileEngine {
    pub(super) fn close_for_test(&self) {
        *self.db.write() = None;
    }
}
