//! The tables of the configuration's file: their keys, reading and writing their values, their sums and indexes.
//!
//! Within a transaction that somebody else began (`file`). Each value is a piece with its name and a checksum (`document`).

use crate::config::batch::{Item, Outcome};
use crate::config::document::{self, Entry, Piece, RowChange, Stored, StoredText};
use crate::config::error::ConfigError;
use crate::config::keys::Keyring;
use crate::config::migrate::Rewrite;
use model::entities::TABLES;
use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};
use std::collections::BTreeMap;

pub(super) type Def<K, V> = TableDefinition<'static, K, V>;
pub(super) type Bytes = &'static [u8];
pub(super) type Name = &'static str;

/// `format`, `revision`, `written` (transactions so far), `rows`, `records` and `next` (sums of their checksums, by which it is seen
/// when some are missing) → number.
pub(in crate::config) const META: Def<Name, u64> = Def::new("meta");
/// `keys`, `indexes` → JSON.
pub(in crate::config) const NOTES: Def<Name, Bytes> = Def::new("notes");
/// Entity and id → row.
pub(in crate::config) const ROWS: Def<(Name, u32), Bytes> = Def::new("rows");
/// Entity → next id.
pub(in crate::config) const NEXT: Def<Name, Bytes> = Def::new("next");
/// Revision → entry.
pub(in crate::config) const LOG: Def<u64, Bytes> = Def::new("log");
/// Revision and place → change of a row.
pub(in crate::config) const CHANGES: Def<(u64, u32), Bytes> = Def::new("changes");
/// Entity, revision and place → nothing.
pub(super) const CHANGES_BY_ENTITY: Def<(Name, u64, u32), ()> = Def::new("changes_by_entity");
/// Entity, id, revision and place → nothing.
pub(super) const CHANGES_BY_ROW: Def<(Name, u32, u64, u32), ()> = Def::new("changes_by_row");
/// Token → outcome as JSON.
pub(super) const TOKENS: Def<Bytes, Bytes> = Def::new("tokens");
/// Transaction and place → a token of it.
pub(super) const TOKENS_BY_AGE: Def<(u64, u32), Bytes> = Def::new("tokens_by_age");
/// Entity and id → record.
pub(in crate::config) const RECORDS: Def<(Name, u32), Bytes> = Def::new("records");
/// Entity, time and id → nothing.
pub(super) const RECORDS_BY_TIME: Def<(Name, i64, u32), ()> = Def::new("records_by_time");
/// Entity, field, row named, time and id → nothing.
pub(in crate::config) const RECORDS_BY_REFERENCE: Def<(Name, Name, u32, i64, u32), ()> =
    Def::new("records_by_reference");

/// Outcomes that are remembered: more than can be repeated after a failure.
pub(super) const TOKENS_MAX: u64 = 10_000;
/// Rows rewritten at a time.
pub(super) const CHUNK: usize = 1000;

/// Why a transaction was given up.
pub(super) enum Fault {
    Redb(redb::Error),
    /// The last step failed: it may be kept.
    Commit(redb::Error),
    Own(ConfigError),
    Damage(String),
    /// Not a failure: there is nothing to write.
    Settled(Outcome),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Fault::Redb(error.into())
    }
}

impl Fault {
    pub(super) fn own(error: ConfigError) -> Self {
        Fault::Own(error)
    }
}

pub(super) type Work<T> = Result<T, Fault>;

/// Every table that a backup fills, open for writing.
pub(super) struct AllTables<'a> {
    rows: Table<'a, (Name, u32), Bytes>,
    records: Table<'a, (Name, u32), Bytes>,
    next: Table<'a, Name, Bytes>,
    log: Table<'a, u64, Bytes>,
    changes: ChangeTables<'a>,
    /// The newest transaction that wrote any of it.
    pub(super) written: u64,
}

impl<'a> AllTables<'a> {
    pub(super) fn open(write: &'a WriteTransaction) -> Work<Self> {
        Ok(Self {
            rows: write.open_table(ROWS)?,
            records: write.open_table(RECORDS)?,
            next: write.open_table(NEXT)?,
            log: write.open_table(LOG)?,
            changes: ChangeTables::open(write)?,
            written: 1,
        })
    }

    pub(super) fn put(&mut self, piece: Piece) -> Work<()> {
        let frame = piece.frame();
        match piece {
            Piece::Row(row) => {
                self.written = self.written.max(row.written);
                self.rows.insert((row.entity.as_str(), row.id), frame.as_slice())?;
            }
            Piece::Record(record) => {
                self.written = self.written.max(record.written);
                self.records.insert((record.entity.as_str(), record.id), frame.as_slice())?;
            }
            Piece::Next { entity, .. } => drop(self.next.insert(entity.as_str(), frame.as_slice())?),
            Piece::Entry(entry) => drop(self.log.insert(entry.revision, frame.as_slice())?),
            Piece::Change(change) => self.changes.insert(&change, &frame)?,
        }
        Ok(())
    }
}

/// The sum of the checksums of a table's values. The database reads what its pages say; a page that was spoilt may say less.
#[derive(Clone, Copy, Default)]
pub(in crate::config) struct Sum(pub(in crate::config) u64);

impl Sum {
    pub(super) fn of(frame: &[u8]) -> u64 {
        u64::from(crc32fast::hash(frame))
    }

    pub(in crate::config) fn add(&mut self, frame: &[u8]) {
        self.0 = self.0.wrapping_add(Self::of(frame));
    }

    pub(super) fn subtract(&mut self, old: Option<redb::AccessGuard<'_, Bytes>>) {
        self.0 = self.0.wrapping_sub(old.map_or(0, |old| Self::of(old.value())));
    }

    pub(super) fn check(self, read: &ReadTransaction, name: &'static str) -> Work<()> {
        let noted = read.open_table(META)?.get(name)?.map_or(0, |sum| sum.value());
        if noted == self.0 {
            Ok(())
        } else {
            Err(Fault::Damage(format!("some entries of its table {name} are missing or old")))
        }
    }
}

pub(super) fn sum_up(write: &WriteTransaction) -> Work<()> {
    let mut meta = write.open_table(META)?;
    for (definition, name) in [(ROWS, "rows"), (RECORDS, "records")] {
        let mut sum = Sum::default();
        for entry in write.open_table(definition)?.iter()? {
            sum.add(entry?.1.value());
        }
        meta.insert(name, sum.0)?;
    }
    let mut sum = Sum::default();
    for entry in write.open_table(NEXT)?.iter()? {
        sum.add(entry?.1.value());
    }
    meta.insert("next", sum.0)?;
    Ok(())
}

pub(super) fn make_tables(write: &WriteTransaction) -> Work<()> {
    write.open_table(META)?;
    write.open_table(NOTES)?;
    write.open_table(ROWS)?;
    write.open_table(NEXT)?;
    write.open_table(LOG)?;
    write.open_table(CHANGES)?;
    write.open_table(CHANGES_BY_ENTITY)?;
    write.open_table(CHANGES_BY_ROW)?;
    write.open_table(TOKENS)?;
    write.open_table(TOKENS_BY_AGE)?;
    write.open_table(RECORDS)?;
    write.open_table(RECORDS_BY_TIME)?;
    write.open_table(RECORDS_BY_REFERENCE)?;
    Ok(())
}

/// The tables of records, open for writing.
pub(super) struct RecordTables<'a> {
    records: Table<'a, (Name, u32), Bytes>,
    by_time: Table<'a, (Name, i64, u32), ()>,
    by_reference: Table<'a, (Name, Name, u32, i64, u32), ()>,
}

impl<'a> RecordTables<'a> {
    pub(super) fn open(write: &'a WriteTransaction) -> Work<Self> {
        let (by_time, by_reference) =
            (write.open_table(RECORDS_BY_TIME)?, write.open_table(RECORDS_BY_REFERENCE)?);
        Ok(Self { records: write.open_table(RECORDS)?, by_time, by_reference })
    }

    pub(super) fn put(&mut self, item: &Item, written: u64, sum: &mut Sum) -> Work<()> {
        let (table, id) = (item.table, item.id);
        let old = self.records.remove((table.name, id))?.map(|value| value.value().to_vec());
        if item.is_new == old.is_some() {
            return Err(Fault::Own(match old {
                Some(_) => ConfigError::Unreadable {
                    entity: table.name.to_owned(),
                    id,
                    fault: "there is one with this id".to_owned(),
                },
                None => item.no_such_record(),
            }));
        }
        if let Some(old) = old {
            sum.0 = sum.0.wrapping_sub(Sum::of(&old));
            self.index(table, &stored((table.name, id), &old)?, false)?;
        }
        if let Some(document) = &item.after {
            let new = Stored { entity: table.name.to_owned(), id, written, document: document.clone() };
            self.index(table, &new, true)?;
            let frame = Piece::Record(new).frame();
            sum.add(&frame);
            self.records.insert((table.name, id), frame.as_slice())?;
        }
        Ok(())
    }

    fn index(&mut self, table: &'static model::define::Table, record: &Stored, is_there: bool) -> Work<()> {
        let time = document::time_us(table, &record.document);
        let key = (table.name, time, record.id);
        if is_there {
            self.by_time.insert(key, ())?
        } else {
            self.by_time.remove(key)?
        };
        for (field, target) in document::references(table, &record.document) {
            let key = (table.name, field, target, time, record.id);
            if is_there {
                self.by_reference.insert(key, ())?
            } else {
                self.by_reference.remove(key)?
            };
        }
        Ok(())
    }
}

/// What the indexes of records are made from: where it differs from what the file was written with, they are made anew.
pub(super) fn index_definitions() -> BTreeMap<&'static str, Vec<&'static str>> {
    let records = TABLES.iter().copied().filter(|table| table.records);
    records
        .map(|table| {
            (table.name, document::time_field(table).into_iter().chain(document::indexed(table)).collect())
        })
        .collect()
}

/// Makes the indexes of records anew, some at a time so that memory is bounded.
pub(super) fn index_records(write: &WriteTransaction) -> Work<()> {
    write.delete_table(RECORDS_BY_TIME)?;
    write.delete_table(RECORDS_BY_REFERENCE)?;
    let mut tables = RecordTables::open(write)?;
    let mut after: Option<(String, u32)> = None;
    loop {
        let from = after.as_ref().map_or(("", 0), |(entity, id)| (entity.as_str(), id.saturating_add(1)));
        let mut chunk = Vec::new();
        for entry in tables.records.range(from..)?.take(CHUNK) {
            let (key, value) = entry?;
            chunk.push(stored(key.value(), value.value())?);
        }
        let Some(last) = chunk.last() else { return Ok(()) };
        after = Some((last.entity.clone(), last.id));
        for record in &chunk {
            if let Some(table) = model::entities::table(&record.entity) {
                tables.index(table, record, true)?;
            }
        }
    }
}

/// The tables of changes in the log, open for writing.
pub(super) struct ChangeTables<'a> {
    changes: Table<'a, (u64, u32), Bytes>,
    by_entity: Table<'a, (Name, u64, u32), ()>,
    by_row: Table<'a, (Name, u32, u64, u32), ()>,
}

impl<'a> ChangeTables<'a> {
    pub(super) fn open(write: &'a WriteTransaction) -> Work<Self> {
        let (by_entity, by_row) = (write.open_table(CHANGES_BY_ENTITY)?, write.open_table(CHANGES_BY_ROW)?);
        Ok(Self { changes: write.open_table(CHANGES)?, by_entity, by_row })
    }

    pub(super) fn insert(&mut self, change: &RowChange, frame: &[u8]) -> Work<()> {
        let RowChange { revision, place, entity, id, .. } = change;
        self.changes.insert((*revision, *place), frame)?;
        self.by_entity.insert((entity.as_str(), *revision, *place), ())?;
        self.by_row.insert((entity.as_str(), *id, *revision, *place), ())?;
        Ok(())
    }

    fn remove(&mut self, change: &RowChange) -> Work<()> {
        let RowChange { revision, place, entity, id, .. } = change;
        self.changes.remove((*revision, *place))?;
        self.by_entity.remove((entity.as_str(), *revision, *place))?;
        self.by_row.remove((entity.as_str(), *id, *revision, *place))?;
        Ok(())
    }

    /// Some changes from this place on.
    fn chunk(&self, from: (u64, u32)) -> Work<Vec<RowChange>> {
        self.changes.range(from..)?.take(CHUNK).map(|entry| change_of(entry?.1.value())).collect()
    }

    /// All changes of a revision.
    pub(super) fn remove_all(&mut self, revision: u64) -> Work<()> {
        let found: Work<Vec<RowChange>> = self
            .changes
            .range((revision, 0)..=(revision, u32::MAX))?
            .map(|entry| change_of(entry?.1.value()))
            .collect();
        found?.iter().try_for_each(|change| self.remove(change))
    }
}

/// Rewrites every document, some at a time so that memory is bounded.
pub(super) fn rewrite_all(write: &WriteTransaction, rewrite: Rewrite, keys: &Keyring) -> Work<()> {
    for (definition, is_record) in [(ROWS, false), (RECORDS, true)] {
        let mut table = write.open_table(definition)?;
        let piece = |stored| if is_record { Piece::Record(stored) } else { Piece::Row(stored) };
        let mut renamed = Vec::new();
        let mut after: Option<(String, u32)> = None;
        loop {
            let from = after.as_ref().map_or(("", 0), |(entity, id)| (entity.as_str(), id.saturating_add(1)));
            let mut chunk = Vec::new();
            for entry in table.range(from..)?.take(CHUNK) {
                let (key, value) = entry?;
                chunk.push(stored(key.value(), value.value())?);
            }
            let Some(last) = chunk.last() else { break };
            after = Some((last.entity.clone(), last.id));
            for mut stored in chunk {
                let (entity, id) = (stored.entity.clone(), stored.id);
                let stays = rewrite.stored(&mut stored, keys).map_err(Fault::own)?;
                if !stays || stored.entity != entity {
                    table.remove((entity.as_str(), id))?;
                }
                if stays && stored.entity == entity {
                    table.insert((entity.as_str(), id), piece(stored).frame().as_slice())?;
                } else if stays {
                    renamed.push(stored);
                }
            }
        }
        for stored in renamed {
            let frame = piece(stored.clone()).frame();
            table.insert((stored.entity.as_str(), stored.id), frame.as_slice())?;
        }
    }
    let mut next = write.open_table(NEXT)?;
    let mut counters = Vec::new();
    for entry in next.iter()? {
        let (key, value) = entry?;
        counters.push((key.value().to_owned(), next_of(value.value())?));
    }
    for (entity, counter) in counters {
        let mut name = entity.clone();
        rewrite.name(&mut name);
        if name != entity {
            next.remove(entity.as_str())?;
            next.insert(
                name.as_str(),
                Piece::Next { entity: name.clone(), next: counter }.frame().as_slice(),
            )?;
        }
    }
    drop(next);
    sum_up(write)?;
    rewrite_log(write, rewrite, keys)
}

pub(super) fn rewrite_log(write: &WriteTransaction, rewrite: Rewrite, keys: &Keyring) -> Work<()> {
    let mut tables = ChangeTables::open(write)?;
    let mut from = (0, 0);
    loop {
        let chunk = tables.chunk(from)?;
        let Some(last) = chunk.last() else { return Ok(()) };
        from = (last.revision, last.place.saturating_add(1));
        for mut change in chunk {
            tables.remove(&change)?;
            if rewrite.change(&mut change, keys).map_err(Fault::own)? {
                let frame = Piece::Change(change.clone()).frame();
                tables.insert(&change, &frame)?;
            }
        }
    }
}

pub(super) fn stored(key: (&str, u32), frame: &[u8]) -> Work<Stored> {
    let (entity, id) = key;
    let damage = |what: &str| Fault::Damage(format!("{entity} {id}: {what}"));
    match Piece::of_frame(frame) {
        Ok(Piece::Row(stored) | Piece::Record(stored)) if stored.entity == entity && stored.id == id => {
            Ok(stored)
        }
        Ok(_) => Err(damage("another row is in its place")),
        Err(what) => Err(damage(&what)),
    }
}

/// The text of a row's document.
pub(super) fn row_text<'a>(key: (&str, u32), frame: &'a [u8]) -> Work<&'a str> {
    let (entity, id) = key;
    let damage = |what: &str| Fault::Damage(format!("{entity} {id}: {what}"));
    match StoredText::row_of_frame(frame) {
        Ok(stored) if stored.entity == entity && stored.id == id => Ok(stored.document.get()),
        Ok(_) => Err(damage("another row is in its place")),
        Err(what) => Err(damage(&what)),
    }
}

pub(super) fn next_of(frame: &[u8]) -> Work<u32> {
    match Piece::of_frame(frame) {
        Ok(Piece::Next { next, .. }) => Ok(next),
        _ => Err(Fault::Damage("a table's next id is unreadable".to_owned())),
    }
}

pub(super) fn entry_of(frame: &[u8]) -> Work<Entry> {
    match Piece::of_frame(frame) {
        Ok(Piece::Entry(entry)) => Ok(entry),
        _ => Err(Fault::Damage("an entry of its change log is unreadable".to_owned())),
    }
}

pub(super) fn change_of(frame: &[u8]) -> Work<RowChange> {
    match Piece::of_frame(frame) {
        Ok(Piece::Change(change)) => Ok(change),
        _ => Err(Fault::Damage("a change in its change log is unreadable".to_owned())),
    }
}

pub(super) fn missing(what: &str) -> Fault {
    Fault::Damage(format!("{what} is missing"))
}

pub(super) fn outcome_of(bytes: &[u8]) -> Option<Outcome> {
    crate::config::engine::outcome(std::str::from_utf8(bytes).ok()?)
}
