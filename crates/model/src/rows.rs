//! All rows of the configuration in memory, with the indexes that rules, lists and routing need; copying it is cheap.
//!
//! An immutable value: a change makes a new one that shares all else with the old. Elsewhere: changing it by the rules
//! ([`crate::draft`]), keeping it ([`store`](../../store)).

use crate::define::{Entity, Kind, OnDelete, Record, Table, Value};
use crate::entities::TABLES;
use crate::id::Id;
use imbl::{OrdMap, OrdSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A row that is shared.
pub type Row = Arc<dyn Record>;

/// The whole configuration.
#[derive(Clone)]
pub struct Rows {
    tables: Vec<Arc<TableRows>>,
    /// Which change was the last one in it.
    pub revision: u64,
}

#[derive(Clone)]
struct TableRows {
    rows: OrdMap<u32, Row>,
    /// By place in [`Table::unique`]: the hash of the values, and the row.
    unique: Vec<OrdSet<(u64, u32)>>,
    /// By place in the table's indexed fields: the row referred to, and the row.
    references: Vec<(usize, OrdSet<(u32, u32)>)>,
    /// The next row's id: ids are never used again.
    next: u32,
}

/// A field of a table that refers to another table.
#[derive(Clone, Copy, Debug)]
pub struct Referrer {
    /// The table that refers.
    pub table: &'static Table,
    /// The place of its field.
    pub place: usize,
    /// What the field does when the row is deleted.
    pub on_delete: OnDelete,
}

/// Who refers to a table.
pub fn referrers(table: &Table) -> &'static [Referrer] {
    static ALL: OnceLock<Vec<Vec<Referrer>>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let mut all: Vec<Vec<Referrer>> = TABLES.iter().map(|_| Vec::new()).collect();
        for table in TABLES.iter().copied() {
            for (place, field) in table.fields.iter().enumerate() {
                if let Kind::Reference(target) = field.kind
                    && place > 0
                {
                    all[target().index].push(Referrer { table, place, on_delete: field.on_delete });
                }
            }
        }
        all
    });
    &all[table.index]
}

impl Default for Rows {
    fn default() -> Self {
        Self { tables: TABLES.iter().map(|table| Arc::new(TableRows::empty(table))).collect(), revision: 0 }
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: usize = self.tables.iter().map(|table| table.rows.len()).sum();
        f.debug_struct("Rows").field("revision", &self.revision).field("rows", &count).finish()
    }
}

impl TableRows {
    fn empty(table: &Table) -> Self {
        let indexed = table.fields.iter().enumerate().filter(|(_, field)| field.index);
        Self {
            rows: OrdMap::new(),
            unique: table.unique.iter().map(|_| OrdSet::new()).collect(),
            references: indexed.map(|(place, _)| (place, OrdSet::new())).collect(),
            next: 1,
        }
    }

    fn insert(&mut self, row: Row) {
        let id = row.id();
        if let Some(old) = self.rows.insert(id, Arc::clone(&row)) {
            self.unindex(&*old);
        }
        let table = row.table();
        for (places, index) in table.unique.iter().zip(&mut self.unique) {
            if let Some(hash) = unique_hash(&*row, places) {
                index.insert((hash, id));
            }
        }
        for (place, index) in &mut self.references {
            if let Some(target) = row.get(*place).id() {
                index.insert((target, id));
            }
        }
        self.next = self.next.max(id.saturating_add(1));
    }

    fn remove(&mut self, id: u32) {
        if let Some(old) = self.rows.remove(&id) {
            self.unindex(&*old);
        }
    }

    fn unindex(&mut self, old: &dyn Record) {
        let id = old.id();
        for (places, index) in old.table().unique.iter().zip(&mut self.unique) {
            if let Some(hash) = unique_hash(old, places) {
                index.remove(&(hash, id));
            }
        }
        for (place, index) in &mut self.references {
            if let Some(target) = old.get(*place).id() {
                index.remove(&(target, id));
            }
        }
    }
}

impl Rows {
    /// The row of this table with this id.
    pub fn row(&self, table: &Table, id: u32) -> Option<&Row> {
        self.tables[table.index].rows.get(&id)
    }

    /// The row with this id.
    pub fn get<E: Entity>(&self, id: Id<E>) -> Option<&E> {
        self.row(E::definition(), id.get())?.cast()
    }

    /// The row that a reference names, if it names one.
    pub fn at<E: Entity>(&self, id: Option<Id<E>>) -> Option<&E> {
        self.get(id?)
    }

    /// All rows of a table, by id.
    pub fn all(&self, table: &Table) -> impl DoubleEndedIterator<Item = &Row> {
        self.tables[table.index].rows.values()
    }

    /// All rows of an entity, by id.
    pub fn each<E: Entity>(&self) -> impl DoubleEndedIterator<Item = &E> {
        self.all(E::definition()).filter_map(|row| row.cast())
    }

    /// How many rows the table has.
    pub fn count(&self, table: &Table) -> usize {
        self.tables[table.index].rows.len()
    }

    /// The rows of a table whose field at this place refers to `target`, by id.
    pub fn referring<'a>(
        &'a self,
        table: &'static Table,
        place: usize,
        target: u32,
    ) -> Box<dyn Iterator<Item = &'a Row> + 'a> {
        let rows = &self.tables[table.index];
        match rows.references.iter().find(|(at, _)| *at == place) {
            Some((_, index)) => Box::new(
                index.range((target, 0)..=(target, u32::MAX)).filter_map(|(_, id)| rows.rows.get(id)),
            ),
            None => Box::new(rows.rows.values().filter(move |row| row.get(place).id() == Some(target))),
        }
    }

    /// The rows of an entity whose field with this name refers to `target`, by id.
    pub fn of<'a, E: Entity>(&'a self, field: &str, target: u32) -> impl Iterator<Item = &'a E> + use<'a, E> {
        let table = E::definition();
        let place = table.place(field).unwrap_or(usize::MAX);
        self.referring(table, place, target).filter_map(|row| row.cast())
    }

    /// A row with the same values in the fields of a unique set as this one, which is not this one itself.
    pub fn clash(&self, row: &dyn Record, places: &[usize], set: usize) -> Option<&Row> {
        let hash = unique_hash(row, places)?;
        self.by_hash(row.table(), set, hash).find(|other| {
            other.id() != row.id() && places.iter().all(|place| same(other.get(*place), row.get(*place)))
        })
    }

    /// The row whose unique fields have these values. `set` counts the entity's `unique(…)` words.
    pub fn find<E: Entity>(&self, set: usize, values: &[Value<'_>]) -> Option<&E> {
        let table = E::definition();
        let places = table.unique[set];
        let hash = hash_values(values.iter().copied())?;
        self.by_hash(table, set, hash)
            .find(|row| places.iter().zip(values).all(|(place, value)| same(row.get(*place), *value)))?
            .cast()
    }

    fn by_hash<'a>(
        &'a self,
        table: &Table,
        set: usize,
        hash: u64,
    ) -> impl Iterator<Item = &'a Row> + use<'a> {
        let rows = &self.tables[table.index];
        rows.unique[set].range((hash, 0)..=(hash, u32::MAX)).filter_map(|(_, id)| rows.rows.get(id))
    }

    /// The id that the next new row of the table gets.
    pub fn next_id(&self, table: &Table) -> u32 {
        self.tables[table.index].next
    }

    /// Makes sure that ids below this one are not given to new rows.
    pub fn reserve(&mut self, table: &Table, next: u32) {
        let rows = Arc::make_mut(&mut self.tables[table.index]);
        rows.next = rows.next.max(next);
    }

    /// Puts a row in, in place of the one with its id. No rule is looked at.
    pub fn insert(&mut self, row: Row) {
        Arc::make_mut(&mut self.tables[row.table().index]).insert(row);
    }

    /// Takes a row out. No rule is looked at.
    pub fn remove(&mut self, table: &Table, id: u32) {
        Arc::make_mut(&mut self.tables[table.index]).remove(id);
    }
}

/// Whether two values are the same for a unique set.
pub fn same(one: Value<'_>, other: Value<'_>) -> bool {
    match (one, other) {
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::Decimal(a), Value::Decimal(b)) => a == b,
        (Value::Time(a), Value::Time(b)) => a == b,
        (Value::Date(a), Value::Date(b)) => a == b,
        (Value::Clock(a), Value::Clock(b)) => a == b,
        _ => false,
    }
}

fn unique_hash(row: &dyn Record, places: &[usize]) -> Option<u64> {
    hash_values(places.iter().map(|place| row.get(*place)))
}

/// FNV-1a over the values; nothing when one of them is null or an empty text.
fn hash_values<'a>(values: impl Iterator<Item = Value<'a>>) -> Option<u64> {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for value in values {
        match value {
            Value::Null | Value::Text("") => return None,
            Value::Bool(flag) => eat(&[u8::from(flag)]),
            Value::Int(number) => eat(&number.to_le_bytes()),
            Value::Text(text) => eat(text.as_bytes()),
            Value::Decimal(decimal) => eat(&decimal.normalize().serialize()),
            Value::Time(time) => eat(&time.as_nanosecond().to_le_bytes()),
            Value::Float(number) => eat(&number.to_le_bytes()),
            other => eat(format!("{other:?}").as_bytes()),
        }
        eat(&[0xff]);
    }
    Some(hash)
}
