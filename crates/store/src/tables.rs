//! The database: call records with their indexes, open calls, bindings, the configuration, and how much of the journal
//! is in it.
//!
//! In: groups of journal entries, each applied in one transaction together with the journal position. Out: queries.
//! Keys sort as their bytes do; times are stored big-endian with the sign bit turned.

use crate::cdrs::{CdrCursor, CdrPage, CdrQuery};
use crate::disk::{DATABASE_NAME, Disk};
use crate::error::StoreError;
use crate::note::{CallNote, EndedCall, Unlisted, UnlistedKey};
use crate::record::{self, Effect, Entry, Record};
use model::{BindingRecord, Cdr};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use redb::{
    Builder, Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, StorageError, Table, TableDefinition, TableHandle, WriteTransaction,
};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Start time and call id → record.
const CDRS: Bytes = TableDefinition::new("cdrs");
/// Client, start time and call id → nothing.
const CDRS_BY_CLIENT: TableDefinition<'static, &[u8], ()> = TableDefinition::new("cdrs_by_client");
/// Call id → start time.
const CDRS_BY_CALL: TableDefinition<'static, &[u8], i64> = TableDefinition::new("cdrs_by_call");
/// The time of its end, epoch and call id → record of a call that the shared database of a cluster does not have yet.
const UNSENT: Bytes = TableDefinition::new("unsent");
/// Start time and call id of records whose rows are not in the API's lists of calls yet → nothing.
const UNLISTED: TableDefinition<'static, &[u8], ()> = TableDefinition::new("unlisted");
/// Call id → record.
const OPEN_CALLS: Bytes = TableDefinition::new("open_calls");
/// Terminal and contact → record.
const BINDINGS: Bytes = TableDefinition::new("bindings");
/// Where the configuration is → its revision that bindings belong to.
const REVISION: TableDefinition<'static, &str, u64> = TableDefinition::new("revision");
/// `format` and `applied` → number.
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

const FORMAT: u64 = 1;

pub(crate) struct Tables {
    /// `None` after a failure, until it is needed: redb does nothing more with a file that failed once, but can open it again.
    db: RwLock<Option<Database>>,
    disk: Arc<dyn Disk>,
    cache_bytes: usize,
    file: PathBuf,
    /// It was opened once. From then on an absent file is lost or out of reach, and no empty one must take its place.
    is_made: AtomicBool,
}

impl Tables {
    pub(crate) fn open(disk: Arc<dyn Disk>, cache_bytes: usize) -> Result<Self, StoreError> {
        let file = disk.dir().join(DATABASE_NAME);
        let tables = Self { db: RwLock::new(None), disk, cache_bytes, file, is_made: AtomicBool::new(false) };
        tables.prepare()?;
        tables.is_made.store(true, Ordering::Relaxed);
        Ok(tables)
    }

    /// The database, opened when it is not.
    fn database(&self) -> Result<RwLockReadGuard<'_, Option<Database>>, StoreError> {
        let db = self.db.read();
        if db.is_some() {
            return Ok(db);
        }
        drop(db);
        let mut db = self.db.write();
        if db.is_none() {
            *db = Some(self.open_database()?);
        }
        Ok(RwLockWriteGuard::downgrade(db))
    }

    fn open_database(&self) -> Result<Database, StoreError> {
        let file = self.file.clone();
        // A file that is not what redb wrote can make it panic; to an operator that is damage like any other.
        let mut builder = Builder::new();
        builder.set_cache_size(self.cache_bytes);
        let may_make = !self.is_made.load(Ordering::Relaxed);
        match catch_unwind(AssertUnwindSafe(|| self.disk.database(&builder, may_make))) {
            Ok(Ok(db)) => Ok(db),
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
                Err(StoreError::Locked { dir: self.disk.dir().to_owned() })
            }
            Ok(Err(DatabaseError::Storage(StorageError::Corrupted(what)))) => {
                Err(StoreError::Damaged { file, what })
            }
            Ok(Err(DatabaseError::Storage(StorageError::Io(error))))
                if error.kind() == std::io::ErrorKind::InvalidData =>
            {
                Err(StoreError::Damaged { file, what: "it is no database".to_owned() })
            }
            Ok(Err(error)) => Err(StoreError::Database { action: "open", source: Arc::new(error.into()) }),
            Err(_) => Err(StoreError::Damaged { file, what: "its pages do not fit together".to_owned() }),
        }
    }

    /// The ordinal of the first journal record that is not in the tables.
    pub(crate) fn applied(&self) -> Result<u64, StoreError> {
        self.read("read the journal position", |read| {
            Ok(read.open_table(META)?.get("applied")?.map_or(0, |position| position.value()))
        })
    }

    /// Applies journal entries; `applied` is the ordinal after the last of them. May be tried again after a failure:
    /// what a transaction that seemed to fail has applied is left out.
    pub(crate) fn apply(&self, entries: &[Entry], applied: u64) -> Result<(), StoreError> {
        self.change(|write| {
            let mut meta = write.open_table(META)?;
            let before = meta.insert("applied", applied)?.map_or(0, |position| position.value());
            let missing = usize::try_from(applied.saturating_sub(before)).unwrap_or(usize::MAX);
            apply_entries(write, &entries[entries.len().saturating_sub(missing)..])
        })
    }

    /// As [`Tables::apply`], and every call that is open then gets its record as lost at `lost_us`.
    /// Returns how many were lost.
    pub(crate) fn recover(&self, entries: &[Entry], applied: u64, lost_us: i64) -> Result<usize, StoreError> {
        let no_call_is_open =
            self.read("read open calls", |read| Ok(read.open_table(OPEN_CALLS)?.is_empty()?))?;
        if entries.is_empty() && no_call_is_open {
            return Ok(0);
        }
        let mut lost = 0;
        self.change(|write| {
            apply_entries(write, entries)?;
            let mut ended = Vec::new();
            let mut open = write.open_table(OPEN_CALLS)?;
            while let Some((_, payload)) = open.pop_first()? {
                let CallNote { call, left_us, .. } = stored_note(payload.value())?;
                let record = Record::CallEnded(Box::new(call.into_lost_cdr(left_us.unwrap_or(lost_us))));
                let payload = record::encode(&record);
                ended.push(Entry { payload, effect: Effect::of(record) });
            }
            drop(open);
            lost = ended.len();
            insert_cdrs(write, &ended.iter().collect::<Vec<_>>())?;
            write.open_table(META)?.insert("applied", applied)?;
            Ok(())
        })?;
        Ok(lost)
    }

    /// As [`Tables::apply`], and every open call stays; those that nobody has said it of were left at `left_us`.
    pub(crate) fn recover_for_cluster(
        &self,
        entries: &[Entry],
        applied: u64,
        left_us: i64,
    ) -> Result<(), StoreError> {
        let of_the_last_run = self.notes(|note| note.left_us.is_none())?;
        if entries.is_empty() && of_the_last_run.is_empty() {
            return Ok(());
        }
        self.change(|write| {
            apply_entries(write, entries)?;
            let mut open = write.open_table(OPEN_CALLS)?;
            let mut left = Vec::new();
            for row in open.iter()? {
                let note = stored_note(row?.1.value())?;
                if note.left_us.is_none() {
                    left.push(CallNote { left_us: Some(left_us), ..note });
                }
            }
            for note in left {
                let call = note.call.call.clone();
                let payload = record::encode(&Record::CallNoted(Box::new(note)));
                open.insert(call.as_bytes(), payload.as_slice())?;
            }
            write.open_table(META)?.insert("applied", applied)?;
            Ok(())
        })
    }

    /// Some notes of open calls, in the order of their names.
    pub(crate) fn notes(&self, is_wanted: impl Fn(&CallNote) -> bool) -> Result<Vec<CallNote>, StoreError> {
        self.read("read open calls", |read| {
            let mut notes = Vec::new();
            for row in read.open_table(OPEN_CALLS)?.iter()? {
                let note = stored_note(row?.1.value())?;
                if is_wanted(&note) {
                    notes.push(note);
                }
            }
            Ok(notes)
        })
    }

    /// The first of the records that the shared database does not have.
    pub(crate) fn unsent(&self, limit: usize) -> Result<Vec<EndedCall>, StoreError> {
        self.read("read records that wait for the shared database", |read| {
            let mut unsent = Vec::new();
            for row in read.open_table(UNSENT)?.iter()?.take(limit) {
                match record::decode(row?.1.value()) {
                    Ok(Record::CallSettled(ended)) => unsent.push(*ended),
                    Ok(_) => return Err(redb::Error::Corrupted("a call record that is none".to_owned())),
                    Err(what) => return Err(redb::Error::Corrupted(what)),
                }
            }
            Ok(unsent)
        })
    }

    /// Some of the records that are not in the lists of calls, from after this one on. What is unreadable is told in words.
    pub(crate) fn unlisted(
        &self,
        after: Option<&UnlistedKey>,
        limit: usize,
    ) -> Result<Vec<Unlisted<UnlistedKey>>, StoreError> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.0.as_slice()));
        self.read("read which calls are not in the lists", |read| {
            let cdrs = read.open_table(CDRS)?;
            let mut unlisted = Vec::new();
            for row in read.open_table(UNLISTED)?.range::<&[u8]>((from, Bound::Unbounded))?.take(limit) {
                let key = row?.0.value().to_vec();
                let cdr = match cdrs.get(key.as_slice())?.map(|stored| record::decode(stored.value())) {
                    Some(Ok(Record::CallEnded(cdr))) => Ok(*cdr),
                    Some(Err(what)) => Err(what),
                    Some(Ok(_)) | None => Err("a call record is missing".to_owned()),
                };
                unlisted.push((UnlistedKey(key), cdr));
            }
            Ok(unlisted)
        })
    }

    /// They are in the lists of calls now.
    pub(crate) fn listed(&self, keys: &[UnlistedKey]) -> Result<(), StoreError> {
        self.change(|write| {
            let mut unlisted = write.open_table(UNLISTED)?;
            for key in keys {
                unlisted.remove(key.0.as_slice())?;
            }
            Ok(())
        })
    }

    #[cfg(test)]
    pub(crate) fn drop_later_tables(&self) {
        self.change(|write| {
            write.delete_table(UNLISTED)?;
            write.delete_table(UNSENT).map(|_| ()).map_err(redb::Error::from)
        })
        .unwrap();
    }

    pub(crate) fn unsent_count(&self) -> Result<u64, StoreError> {
        self.read("count records that wait for the shared database", |read| {
            Ok(read.open_table(UNSENT)?.len()?)
        })
    }

    pub(crate) fn seen_revision(&self, place: &str) -> Result<Option<u64>, StoreError> {
        self.read("read the revision that bindings belong to", |read| {
            Ok(read.open_table(REVISION)?.get(place)?.map(|stored| stored.value()))
        })
    }

    pub(crate) fn put_seen_revision(&self, place: &str, revision: u64) -> Result<(), StoreError> {
        self.change(|write| {
            let mut table = write.open_table(REVISION)?;
            table.insert(place, revision)?;
            // Of what they belonged to before nothing can be said any more.
            table.retain(|key, _| key == place)?;
            Ok(())
        })
    }

    pub(crate) fn cdr(&self, call: &str) -> Result<Option<Cdr>, StoreError> {
        self.read("read a call record", |read| {
            let by_call = read.open_table(CDRS_BY_CALL)?;
            let Some(started) = by_call.get(call.as_bytes())? else { return Ok(None) };
            let stored = read.open_table(CDRS)?.get(cdr_key(started.value(), call).as_slice())?;
            stored_cdr(stored.ok_or_else(missing_cdr)?.value()).map(Some)
        })
    }

    pub(crate) fn cdrs(&self, query: &CdrQuery) -> Result<CdrPage, StoreError> {
        let prefix = query.client.map(|client| client.get().to_be_bytes().to_vec()).unwrap_or_default();
        let (from, until) = bounds(query, &prefix);
        let mut page = PageBuilder::new(query.limit);
        if from >= until {
            return Ok(page.page);
        }
        let range = (Bound::Included(from.as_slice()), Bound::Excluded(until.as_slice()));
        self.read("read call records", |read| {
            let cdrs = read.open_table(CDRS)?;
            if query.client.is_none() {
                for row in cdrs.range::<&[u8]>(range)?.rev() {
                    let (key, stored) = row?;
                    if page.is_full() {
                        break;
                    }
                    page.push(key.value(), stored_cdr(stored.value())?);
                }
                return Ok(());
            }
            for row in read.open_table(CDRS_BY_CLIENT)?.range::<&[u8]>(range)?.rev() {
                let (key, _) = row?;
                if page.is_full() {
                    break;
                }
                let key = &key.value()[prefix.len()..];
                let stored = cdrs.get(key)?.ok_or_else(missing_cdr)?;
                page.push(key, stored_cdr(stored.value())?);
            }
            Ok(())
        })?;
        Ok(page.page)
    }

    pub(crate) fn cdr_count(&self) -> Result<u64, StoreError> {
        self.read("count call records", |read| Ok(read.open_table(CDRS)?.len()?))
    }

    pub(crate) fn bindings(&self) -> Result<Vec<BindingRecord>, StoreError> {
        self.read("read bindings", |read| {
            let mut bindings = Vec::new();
            for row in read.open_table(BINDINGS)?.iter()? {
                let (_, stored) = row?;
                match record::decode(stored.value()) {
                    Ok(Record::Bind(binding)) => bindings.push(binding),
                    Ok(_) => return Err(redb::Error::Corrupted("a binding that is none".to_owned())),
                    Err(what) => return Err(redb::Error::Corrupted(what)),
                }
            }
            Ok(bindings)
        })
    }

    /// Makes the tables of a new database; checks the format of an old one.
    fn prepare(&self) -> Result<(), StoreError> {
        let is_new = self.read("list tables", |read| Ok(read.list_tables()?.next().is_none()))?;
        if is_new {
            return self.change(|write| {
                write.open_table(META)?.insert("format", FORMAT)?;
                write.open_table(CDRS)?;
                write.open_table(CDRS_BY_CLIENT)?;
                write.open_table(CDRS_BY_CALL)?;
                write.open_table(OPEN_CALLS)?;
                write.open_table(UNSENT)?;
                write.open_table(UNLISTED)?;
                write.open_table(BINDINGS)?;
                write.open_table(REVISION)?;
                Ok(())
            });
        }
        let found = self.read("read the format", |read| {
            Ok(read.open_table(META)?.get("format")?.map_or(0, |format| format.value()))
        })?;
        if found == FORMAT {
            let later = [UNSENT.name(), UNLISTED.name()];
            let has_all = self.read("list tables", |read| {
                Ok(read.list_tables()?.filter(|table| later.contains(&table.name())).count() == later.len())
            })?;
            // Those of before clusters, and of before lists of calls, lack one.
            return if has_all {
                Ok(())
            } else {
                self.change(|write| {
                    write.open_table(UNSENT)?;
                    write.open_table(UNLISTED)?;
                    Ok(())
                })
            };
        }
        let number = |format: u64| u32::try_from(format).unwrap_or(u32::MAX);
        Err(StoreError::Format { file: self.file.clone(), found: number(found), known: number(FORMAT) })
    }

    /// One durable transaction. Quick repair: opening after a crash takes milliseconds instead of a walk through the
    /// whole file.
    fn change(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        self.transact("write", |db| {
            let mut write = db.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            write.set_quick_repair(true);
            work(&write)?;
            write.commit()?;
            Ok(())
        })
    }

    fn read<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.transact(action, |db| work(&db.begin_read()?))
    }

    /// After a failure the database is closed, and opened again when it is needed next. That brings it to its last whole
    /// transaction, and syncs it: what is read from then on is on the disk.
    fn transact<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let db = self.database()?;
        let outcome = work(db.as_ref().expect("it was opened above"));
        drop(db);
        outcome.map_err(|error| {
            if let redb::Error::Corrupted(what) = error {
                return self.damaged(what);
            }
            *self.db.write() = None;
            StoreError::Database { action, source: Arc::new(error) }
        })
    }

    fn damaged(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { file: self.file.clone(), what: what.into() }
    }
}

fn apply_entries(write: &WriteTransaction, entries: &[Entry]) -> Result<(), redb::Error> {
    // What comes later in the journal wins, so most calls that start and end within a group touch no table of open calls.
    let mut open: BTreeMap<&[u8], Option<&[u8]>> = BTreeMap::new();
    let mut bindings: BTreeMap<Vec<u8>, Option<&[u8]>> = BTreeMap::new();
    let mut unsent: BTreeMap<&[u8], Option<&[u8]>> = BTreeMap::new();
    let mut ended = Vec::new();
    for entry in entries {
        match &entry.effect {
            Effect::Answered { call } => {
                open.insert(call.as_bytes(), Some(&entry.payload));
            }
            Effect::Ended { call, .. } => {
                open.insert(call.as_bytes(), None);
                ended.push(entry);
            }
            Effect::Bound { aor, contact } => {
                bindings.insert(binding_key(*aor, contact), Some(&entry.payload));
            }
            Effect::Unbound { aor, contact } => {
                bindings.insert(binding_key(*aor, contact), None);
            }
            Effect::Settled { call, key } => {
                open.insert(call.as_bytes(), None);
                unsent.insert(&key.0, Some(&entry.payload));
            }
            Effect::Moved { call } => {
                open.insert(call.as_bytes(), None);
            }
            Effect::Sent { keys } => unsent.extend(keys.iter().map(|key| (key.0.as_slice(), None))),
        }
    }
    put_all(&mut write.open_table(OPEN_CALLS)?, open.iter().map(|(key, value)| (*key, *value)))?;
    put_all(&mut write.open_table(BINDINGS)?, bindings.iter().map(|(key, value)| (key.as_slice(), *value)))?;
    put_all(&mut write.open_table(UNSENT)?, unsent.iter().map(|(key, value)| (*key, *value)))?;
    insert_cdrs(write, &ended)
}

/// Sets the rows that have a value and removes the others.
fn put_all<'a>(
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    rows: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Result<(), redb::Error> {
    for (key, value) in rows {
        match value {
            Some(value) => drop(table.insert(key, value)?),
            None => drop(table.remove(key)?),
        }
    }
    Ok(())
}

/// Inserts the records of ended calls, the first of each call id.
fn insert_cdrs(write: &WriteTransaction, ended: &[&Entry]) -> Result<(), redb::Error> {
    if ended.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(ended.len());
    let mut by_call = write.open_table(CDRS_BY_CALL)?;
    for entry in ended {
        let Effect::Ended { call, client, started_us } = &entry.effect else { continue };
        let before = by_call.insert(call.as_bytes(), started_us)?.map(|before| before.value());
        if let Some(before) = before {
            by_call.insert(call.as_bytes(), before)?;
            tracing::error!(call = %call, "a second record of the same call is dropped");
            continue;
        }
        rows.push((cdr_key(*started_us, call), *client, &entry.payload));
    }
    rows.sort_unstable(); // neighbours share pages
    let (mut cdrs, mut unlisted) = (write.open_table(CDRS)?, write.open_table(UNLISTED)?);
    for (key, _, payload) in &rows {
        cdrs.insert(key.as_slice(), payload.as_slice())?;
        unlisted.insert(key.as_slice(), ())?;
    }
    let mut keys: Vec<Vec<u8>> =
        rows.iter().map(|(key, client, _)| [&client.to_be_bytes(), key.as_slice()].concat()).collect();
    keys.sort_unstable();
    let mut by_client = write.open_table(CDRS_BY_CLIENT)?;
    for key in keys {
        by_client.insert(key.as_slice(), ())?;
    }
    Ok(())
}

fn cdr_key(started_us: i64, call: &str) -> Vec<u8> {
    [&time_key(started_us), call.as_bytes()].concat()
}

/// Sorts as the number does.
pub(crate) fn time_key(time_us: i64) -> [u8; 8] {
    (time_us ^ i64::MIN).to_be_bytes()
}

/// The reverse of [`time_key`].
pub(crate) fn time_of(key: [u8; 8]) -> i64 {
    i64::from_be_bytes(key) ^ i64::MIN
}

fn binding_key(aor: u32, contact: &str) -> Vec<u8> {
    [&aor.to_be_bytes(), contact.as_bytes()].concat()
}

/// First key of a query's range, and the one after its last.
fn bounds(query: &CdrQuery, prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let from = query.from_us.map(|time| time_key(time).to_vec()).unwrap_or_default();
    let until = query.until_us.map_or(vec![u8::MAX; 9], |time| time_key(time).to_vec()); // no call id begins with 0xFF
    let until = match &query.after {
        Some(CdrCursor(key)) if *key < until => key,
        _ => &until,
    };
    ([prefix, &from].concat(), [prefix, until].concat())
}

/// Collects one page.
struct PageBuilder {
    page: CdrPage,
    limit: usize,
    last_key: Vec<u8>,
}

impl PageBuilder {
    fn new(limit: usize) -> Self {
        let page = CdrPage { cdrs: Vec::new(), next: None };
        Self { page, limit: limit.clamp(1, CdrQuery::LIMIT_MAX), last_key: Vec::new() }
    }

    /// To be asked when there is another row: a full page then gets its cursor.
    fn is_full(&mut self) -> bool {
        let full = self.page.cdrs.len() == self.limit;
        if full {
            self.page.next = Some(CdrCursor(std::mem::take(&mut self.last_key)));
        }
        full
    }

    fn push(&mut self, key: &[u8], cdr: Cdr) {
        self.page.cdrs.push(cdr);
        key.clone_into(&mut self.last_key);
    }
}

fn stored_cdr(stored: &[u8]) -> Result<Cdr, redb::Error> {
    match record::decode(stored) {
        Ok(Record::CallEnded(cdr)) => Ok(*cdr),
        Ok(_) => Err(redb::Error::Corrupted("a call record that is none".to_owned())),
        Err(what) => Err(redb::Error::Corrupted(what)),
    }
}

fn stored_note(stored: &[u8]) -> Result<CallNote, redb::Error> {
    match record::decode(stored) {
        Ok(Record::CallBegan(call)) => Ok(CallNote { call, epoch: 0, node: 0, left_us: None }),
        Ok(Record::CallNoted(note)) => Ok(*note),
        Ok(_) => Err(redb::Error::Corrupted("an open call that is none".to_owned())),
        Err(what) => Err(redb::Error::Corrupted(what)),
    }
}

fn missing_cdr() -> redb::Error {
    redb::Error::Corrupted("a call record is missing".to_owned())
}
