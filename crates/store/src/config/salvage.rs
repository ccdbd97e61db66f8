//! Reading what can be read of a damaged file into a backup, and saying what cannot.
//!
//! In: the file, which is copied and not touched. Out: a backup for an empty store, and a list for people. First the file is
//! read as a database; what that does not give is looked for in its bytes, where every value says itself what it is.

use super::backup::{BackupSummary, Writer};
use super::document::{Entry, Piece, RowChange, Stored};
use super::engine::Head;
use super::error::ConfigError;
use super::file::tables::{CHANGES, LOG, META, NEXT, RECORDS, ROWS, Sum};
use super::media::FILE_NAME;
use super::migrate::Steps;
use redb::{Builder, Key, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Bytes looked through at a time, and how many of them again with the next.
const WINDOW: usize = 32 << 20;
const OVERLAP: usize = 8 << 20;

/// What was saved of a damaged file.
#[derive(Clone, Debug, Default)]
pub struct Salvage {
    /// What the backup holds.
    pub saved: BackupSummary,
    /// What could not be read, or only in an older version, in words.
    pub lost: Vec<String>,
}

/// Reads what is readable of the configuration's file in `directory` into the backup `into`, to be restored into an empty
/// store. The file is left as it is. Blocks; for the program's command line.
///
/// What was being written when the machine died may be in it, and where the change log is lost, too, rows that were deleted.
///
/// # Errors
///
/// The file cannot be read at all, or the backup not written.
pub fn salvage(directory: &Path, into: &Path) -> Result<Salvage, ConfigError> {
    let file = directory.join(FILE_NAME);
    let mut name = into.file_name().unwrap_or_default().to_owned();
    name.push(".wreck");
    let copy = into.with_file_name(name);
    let failed = ConfigError::io(format!("copy {} to {}", file.display(), copy.display()));
    fs::copy(&file, &copy).map_err(failed)?;
    let result = salvage_copy(&copy, into);
    let _ = fs::remove_file(&copy);
    result
}

fn salvage_copy(copy: &Path, into: &Path) -> Result<Salvage, ConfigError> {
    let mut found = Found::default();
    // The bytes first: opening the copy as a database may change them.
    let mut bytes = Found::default();
    scan(copy, &mut bytes)?;
    let mut lost = Vec::new();
    let read = catch_unwind(AssertUnwindSafe(|| read_database(copy, &mut found, &mut lost)));
    if !matches!(read, Ok(Ok(()))) {
        let why = match read {
            Ok(Err(error)) => error.to_string(),
            _ => "its pages do not fit together".to_owned(),
        };
        lost.push(format!("the file as a database: {why}; its values were looked for one by one"));
    }
    if !lost.is_empty() {
        found.fill_up(bytes, &mut lost);
    }
    let saved = found.write(into)?;
    Ok(Salvage { saved, lost })
}

type Place = (String, u32);

#[derive(Default)]
struct Found {
    head: Option<(u64, u32)>,
    rows: BTreeMap<Place, Stored>,
    records: BTreeMap<Place, Stored>,
    next: BTreeMap<String, u32>,
    entries: BTreeMap<u64, Entry>,
    changes: BTreeMap<(u64, u32), RowChange>,
    /// Tables that were read to their end.
    whole: BTreeSet<&'static str>,
    /// Rows that are known to have been there and could not be read.
    bad: BTreeSet<Place>,
}

impl Found {
    fn take(&mut self, piece: Piece) {
        let keep = |map: &mut BTreeMap<Place, Stored>, stored: Stored| {
            let place = (stored.entity.clone(), stored.id);
            if map.get(&place).is_none_or(|known| known.written <= stored.written) {
                map.insert(place, stored);
            }
        };
        match piece {
            Piece::Row(row) => keep(&mut self.rows, row),
            Piece::Record(record) => keep(&mut self.records, record),
            Piece::Next { entity, next } => {
                let known = self.next.entry(entity).or_insert(1);
                *known = next.max(*known);
            }
            Piece::Entry(entry) => {
                self.entries.insert(entry.revision, entry);
            }
            Piece::Change(change) => {
                self.changes.insert((change.revision, change.place), change);
            }
        }
    }

    /// Adds what the bytes gave to what the database did not.
    fn fill_up(&mut self, bytes: Found, lost: &mut Vec<String>) {
        let Found { rows, records, next, entries, changes, .. } = bytes;
        if !self.whole.contains("log") {
            for (revision, entry) in entries {
                self.entries.entry(revision).or_insert(entry);
            }
        }
        if !self.whole.contains("changes") {
            let head = self.head.map_or(u64::MAX, |(revision, _)| revision);
            let known = changes.into_iter().filter(|((revision, _), _)| *revision <= head);
            for (place, change) in known {
                self.changes.entry(place).or_insert(change);
            }
        }
        next.into_iter().for_each(|(entity, next)| self.take(Piece::Next { entity, next }));
        // What the log last said of each row.
        let mut last: BTreeMap<Place, &RowChange> = BTreeMap::new();
        for change in self.changes.values() {
            last.insert((change.entity.clone(), change.id), change);
        }
        let whole = self.whole.contains("rows");
        let is_gone = |place: &Place| last.get(place).is_some_and(|change| change.after.is_none());
        for (place, row) in rows {
            let is_wanted = self.bad.contains(&place) || !whole;
            if is_wanted && !self.rows.contains_key(&place) && !is_gone(&place) {
                let newer = last.get(&place).and_then(|change| change.after.clone());
                let is_sure = newer.is_some();
                let document = newer.unwrap_or_else(|| row.document.clone());
                if !is_sure {
                    lost.push(format!("{} {}: saved, perhaps in an older version", place.0, place.1));
                }
                self.bad.remove(&place);
                self.rows.insert(place, Stored { document, ..row });
            }
        }
        for (place, change) in &last {
            let is_record = model::entities::table(&place.0).is_some_and(|table| table.records);
            if let Some(document) = &change.after
                && !is_record
                && (self.bad.contains(place) || !whole)
                && !self.rows.contains_key(place)
            {
                let (entity, id) = place.clone();
                let row = Stored { entity, id, written: 0, document: document.clone() };
                self.bad.remove(place);
                self.rows.insert(place.clone(), row);
            }
        }
        let whole = self.whole.contains("records");
        for (place, record) in records {
            if (self.bad.contains(&place) || !whole) && !self.records.contains_key(&place) {
                self.bad.remove(&place);
                self.records.insert(place, record);
            }
        }
        lost.extend(self.bad.iter().map(|(entity, id)| format!("{entity} {id}: lost")));
    }

    fn write(mut self, into: &Path) -> Result<BackupSummary, ConfigError> {
        for (entity, id) in self.rows.keys().chain(self.records.keys()) {
            let next = self.next.entry(entity.clone()).or_insert(1);
            *next = id.saturating_add(1).max(*next);
        }
        // A change without its entry says nothing of when and by whom: it is left out, and so is an entry after the head.
        let newest = self.entries.keys().next_back().copied().unwrap_or(0);
        let (revision, format) = self.head.unwrap_or((newest, Steps::default().format()));
        self.entries.retain(|number, _| *number <= revision);
        self.changes.retain(|(number, _), _| self.entries.contains_key(number));
        let mut writer = Writer::new(into)?;
        writer.begin(&Head { revision, format, keys: BTreeMap::new() })?;
        for (entity, next) in self.next {
            writer.piece(&Piece::Next { entity, next })?;
        }
        self.rows.into_values().try_for_each(|row| writer.piece(&Piece::Row(row)))?;
        self.records.into_values().try_for_each(|record| writer.piece(&Piece::Record(record)))?;
        self.entries.into_values().try_for_each(|entry| writer.piece(&Piece::Entry(entry)))?;
        self.changes.into_values().try_for_each(|change| writer.piece(&Piece::Change(change)))?;
        writer.finish()
    }
}

fn scan(file: &Path, found: &mut Found) -> Result<(), ConfigError> {
    let failed = || ConfigError::io(format!("read {}", file.display()));
    let mut file = File::open(file).map_err(failed())?;
    let mut window = Vec::new();
    loop {
        let before = window.len();
        let read = file
            .by_ref()
            .take((WINDOW - before.min(WINDOW)) as u64)
            .read_to_end(&mut window)
            .map_err(failed())?;
        if read == 0 {
            return Ok(());
        }
        Piece::find_all(&window, |piece| found.take(piece));
        let rest = window.len().saturating_sub(OVERLAP);
        window.drain(..rest);
    }
}

fn read_database(file: &Path, found: &mut Found, lost: &mut Vec<String>) -> Result<(), redb::Error> {
    let db = Builder::new().set_cache_size(16 << 20).open(file)?;
    let read = db.begin_read()?;
    if let Ok(meta) = read.open_table(META) {
        let number = |name| meta.get(name).ok().flatten().map(|number| number.value());
        if let (Some(revision), Some(format)) = (number("revision").or(Some(0)), number("format")) {
            found.head = Some((revision, u32::try_from(format).unwrap_or(u32::MAX)));
        }
    }
    let place = |key: (&str, u32)| (key.0.to_owned(), key.1);
    table(&read, "next", NEXT, |_| None, found, lost);
    table(&read, "rows", ROWS, |key| Some(place(key)), found, lost);
    table(&read, "records", RECORDS, |key| Some(place(key)), found, lost);
    table(&read, "log", LOG, |_| None, found, lost);
    table(&read, "changes", CHANGES, |_| None, found, lost);
    Ok(())
}

/// Reads a table as far as it goes.
fn table<K: Key + 'static>(
    read: &redb::ReadTransaction,
    name: &'static str,
    definition: TableDefinition<'static, K, &'static [u8]>,
    place: impl for<'a> Fn(K::SelfType<'a>) -> Option<Place>,
    found: &mut Found,
    lost: &mut Vec<String>,
) {
    let work = || -> Result<(), redb::Error> {
        let mut is_whole = true;
        let mut sum = Sum::default();
        for entry in read.open_table(definition)?.iter()? {
            let (key, value) = entry?;
            sum.add(value.value());
            match Piece::of_frame(value.value()) {
                Ok(piece) => found.take(piece),
                Err(what) => {
                    is_whole &= name == "rows" || name == "records";
                    if let Some(place) = place(key.value()) {
                        lost.push(format!("{} {}: {what}", place.0, place.1));
                        found.bad.insert(place);
                    } else {
                        lost.push(format!("a value of the table {name}: {what}"));
                    }
                }
            }
        }
        // Only these tables have a sum.
        let noted =
            read.open_table(META).ok().and_then(|meta| meta.get(name).ok().flatten().map(|sum| sum.value()));
        if noted.is_some_and(|noted| noted != sum.0) {
            is_whole = false;
            lost.push(format!("the table {name}: some of its entries are missing or old"));
        }
        if is_whole {
            found.whole.insert(name);
        }
        Ok(())
    };
    let mut work = work;
    match catch_unwind(AssertUnwindSafe(&mut work)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => lost.push(format!("the rest of the table {name}: {error}")),
        Err(_) => lost.push(format!("the rest of the table {name}: its pages do not fit together")),
    }
}
