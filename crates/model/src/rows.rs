//! All rows of the configuration in memory, with the indexes that rules, lists and routing need; copying it is cheap.
//!
//! An immutable value: a change makes a new one that shares all else with the old. Elsewhere: changing it by the rules
//! ([`crate::draft`]), keeping it ([`store`](../../store)).

use crate::define::{Entity, Kind, OnDelete, Record, Table, Value};
use crate::entities::TABLES;
use crate::id::Id;
use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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
    /// By the table's indexed fields.
    references: Vec<Index>,
    /// The next row's id: ids are never used again.
    next: u32,
    orders: Orders,
}

/// Long lists of these very rows in order, as they were asked for last. A change of the rows begins without any.
#[derive(Default)]
struct Orders(Mutex<Vec<(String, Arc<[u32]>)>>);

impl Orders {
    /// Lists that are remembered.
    const MOST: usize = 8;
    /// Shorter ones are made each time.
    const LEAST: usize = 1000;

    fn known(&self, name: &str) -> Option<Arc<[u32]>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(other, _)| other == name).map(|(_, ids)| Arc::clone(ids))
    }

    fn remember(&self, name: String, ids: Arc<[u32]>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(other, _)| *other != name);
        known.truncate(Self::MOST - 1);
        known.insert(0, (name, ids));
    }
}

impl Clone for Orders {
    /// Whoever copies rows is about to change them.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Who refers to whom by one field.
#[derive(Clone)]
struct Index {
    /// The place of the field.
    place: usize,
    /// The row referred to, and the row.
    pairs: OrdSet<(u32, u32)>,
    /// How many rows refer to a row, where it is more than one.
    counts: OrdMap<u32, u32>,
}

impl Index {
    fn range(&self, target: u32) -> impl Iterator<Item = u32> + '_ {
        self.pairs.range((target, 0)..=(target, u32::MAX)).map(|(_, id)| *id)
    }

    /// How many rows refer to this one.
    fn count(&self, target: u32) -> usize {
        match self.counts.get(&target) {
            Some(count) => *count as usize,
            None => self.range(target).take(1).count(),
        }
    }

    fn insert(&mut self, target: u32, id: u32) {
        let before = self.count(target);
        if self.pairs.insert((target, id)).is_none() && before > 0 {
            self.counts.insert(target, u32::try_from(before + 1).unwrap_or(u32::MAX));
        }
    }

    fn remove(&mut self, target: u32, id: u32) {
        let before = self.count(target);
        if self.pairs.remove(&(target, id)).is_none() {
            return;
        }
        if before > 2 {
            self.counts.insert(target, u32::try_from(before - 1).unwrap_or(u32::MAX));
        } else {
            self.counts.remove(&target);
        }
    }
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
            references: indexed
                .map(|(place, _)| Index { place, pairs: OrdSet::new(), counts: OrdMap::new() })
                .collect(),
            next: 1,
            orders: Orders::default(),
        }
    }

    fn insert(&mut self, row: Row) {
        self.orders = Orders::default();
        let id = row.id();
        let old = self.rows.insert(id, Arc::clone(&row));
        for (places, index) in row.table().unique.iter().zip(&mut self.unique) {
            let before = old.as_deref().and_then(|old| unique_hash(old, places));
            let after = unique_hash(&*row, places);
            if before == after {
                continue;
            }
            if let Some(hash) = before {
                index.remove(&(hash, id));
            }
            if let Some(hash) = after {
                index.insert((hash, id));
            }
        }
        for index in &mut self.references {
            let before = old.as_deref().and_then(|old| old.get(index.place).id());
            let after = row.get(index.place).id();
            if before == after {
                continue;
            }
            if let Some(target) = before {
                index.remove(target, id);
            }
            if let Some(target) = after {
                index.insert(target, id);
            }
        }
        self.next = self.next.max(id.saturating_add(1));
    }

    /// The rows with these ids, which ascend. Those of neighbours are found by walking on, the others by looking.
    fn with_ids<'a>(&'a self, ids: impl Iterator<Item = u32> + 'a) -> impl Iterator<Item = &'a Row> + 'a {
        /// Rows that are walked over before it is quicker to look.
        const STEPS: usize = 8;
        let mut ahead = None;
        ids.filter_map(move |id| {
            let found = ahead.iter_mut().flatten().take(STEPS).find(|(key, _): &(&u32, &Row)| **key >= id);
            if let Some((_, row)) = found.filter(|(key, _)| **key == id) {
                return Some(row);
            }
            let mut walk = self.rows.range(id..);
            let (_, row) = walk.next().filter(|(key, _)| **key == id)?;
            ahead = Some(walk);
            Some(row)
        })
    }

    fn remove(&mut self, id: u32) {
        self.orders = Orders::default();
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
        for index in &mut self.references {
            if let Some(target) = old.get(index.place).id() {
                index.remove(target, id);
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

    /// Whether a table is the very same in both, so that what was made of it before still holds. False now and then where
    /// nothing differs; costs nothing.
    pub fn shares(&self, other: &Self, table: &Table) -> bool {
        Arc::ptr_eq(&self.tables[table.index], &other.tables[table.index])
    }

    /// How many rows the table has.
    pub fn count(&self, table: &Table) -> usize {
        self.tables[table.index].rows.len()
    }

    /// What leads from the table as it was in `before` to the table as it is: each row that is not alike, as it was and as it
    /// is, by id. Parts that both states share are not looked at, so it costs what the changes between them cost.
    pub fn since<'a>(
        &'a self,
        before: &'a Self,
        table: &Table,
    ) -> impl Iterator<Item = (Option<&'a Row>, Option<&'a Row>)> + use<'a> {
        let (old, new) = (&before.tables[table.index], &self.tables[table.index]);
        let differences = (!Arc::ptr_eq(old, new)).then(|| old.rows.diff(&new.rows));
        differences.into_iter().flatten().map(|difference| match difference {
            DiffItem::Add(_, row) => (None, Some(row)),
            DiffItem::Update { old: (_, old), new: (_, new) } => (Some(old), Some(new)),
            DiffItem::Remove(_, row) => (Some(row), None),
        })
    }

    /// The rows of a table whose field at this place refers to `target`, by id.
    pub fn referring<'a>(
        &'a self,
        table: &'static Table,
        place: usize,
        target: u32,
    ) -> Box<dyn Iterator<Item = &'a Row> + 'a> {
        let rows = &self.tables[table.index];
        match rows.references.iter().find(|index| index.place == place) {
            Some(index) => Box::new(rows.with_ids(index.range(target))),
            None => Box::new(rows.rows.values().filter(move |row| row.get(place).id() == Some(target))),
        }
    }

    /// Ids of rows of the table in an order, or none where it is not known yet. `name` names rows and order.
    pub fn known_order(&self, table: &Table, name: &str) -> Option<Arc<[u32]>> {
        self.tables[table.index].orders.known(name)
    }

    /// Keeps an order for as long as the table's rows stay as they are. It must follow from them and from `name` alone.
    pub fn keep_order(&self, table: &Table, name: String, ids: &[u32]) {
        if ids.len() >= Orders::LEAST {
            self.tables[table.index].orders.remember(name, Arc::from(ids));
        }
    }

    /// How many rows of a table refer to `target` by the indexed field at this place; nothing where it is not indexed.
    pub fn count_referring(&self, table: &Table, place: usize, target: u32) -> Option<usize> {
        let mut indexes = self.tables[table.index].references.iter();
        indexes.find(|index| index.place == place).map(|index| index.count(target))
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
            let alike = |place: &usize| same(row.table(), *place, other.get(*place), row.get(*place));
            other.id() != row.id() && places.iter().all(alike)
        })
    }

    /// All sets of fields that must be there once and that another row has like this one, with that row.
    pub fn clashes<'a>(&'a self, row: &'a dyn Record) -> impl Iterator<Item = (&'static [usize], &'a Row)> {
        let sets = row.table().unique.iter().copied().enumerate();
        sets.filter_map(move |(set, places)| Some((places, self.clash(row, places, set)?)))
    }

    /// The row whose unique fields have these values. `set` counts the entity's `unique(…)` words.
    pub fn find<E: Entity>(&self, set: usize, values: &[Value<'_>]) -> Option<&E> {
        let table = E::definition();
        let places = table.unique[set];
        let hash =
            hash_values(places.iter().zip(values).map(|(place, value)| (folds(table, *place), *value)))?;
        let alike = |row: &&Row| {
            places.iter().zip(values).all(|(place, value)| same(table, *place, row.get(*place), *value))
        };
        self.by_hash(table, set, hash).find(alike)?.cast()
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

fn folds(table: &Table, place: usize) -> bool {
    table.fields.get(place).is_some_and(|field| field.folded)
}

/// Small letters for capital ones.
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

/// Whether two values of this field are the same for a unique set.
fn same(table: &Table, place: usize, one: Value<'_>, other: Value<'_>) -> bool {
    match (one, other) {
        (Value::Text(a), Value::Text(b)) if folds(table, place) => folded(a).eq(folded(b)),
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
    hash_values(places.iter().map(|place| (folds(row.table(), *place), row.get(*place))))
}

/// FNV-1a over the values, texts of some whatever their case; nothing when one of them is null or an empty text.
fn hash_values<'a>(values: impl Iterator<Item = (bool, Value<'a>)>) -> Option<u64> {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for (fold, value) in values {
        match value {
            Value::Text(text) if fold && !text.is_empty() => {
                folded(text).for_each(|letter| eat(letter.encode_utf8(&mut [0; 4]).as_bytes()));
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entities::{Administrator, Terminal};

    fn terminal(id: u32, company: u32) -> Row {
        Arc::new(Terminal { id: Id::new(id), company: Id::new(company), ..Terminal::default() })
    }

    /// The rows of a client as the index finds them; checked against all rows, and the count against both.
    fn of(rows: &Rows, company: u32) -> Vec<u32> {
        let table = Terminal::definition();
        let place = table.place("company").unwrap();
        let found: Vec<u32> = rows.referring(table, place, company).map(|row| row.id()).collect();
        let all = rows.all(table).filter(|row| row.reference("company") == Some(company));
        assert_eq!(found, all.map(|row| row.id()).collect::<Vec<_>>());
        assert_eq!(rows.count_referring(table, place, company), Some(found.len()));
        found
    }

    #[test]
    fn an_index_finds_and_counts_rows_that_lie_close_or_far_apart() {
        let (table, mut rows) = (Terminal::definition(), Rows::default());
        assert!(of(&rows, 1).is_empty());
        // Neighbours, a few between, many between.
        for id in [1, 2, 3, 9, 100, 101, 500, 501] {
            rows.insert(terminal(id, 1));
        }
        for id in (4..100).chain(102..500).filter(|id| *id != 9) {
            rows.insert(terminal(id, 2));
        }
        assert_eq!(of(&rows, 1), [1, 2, 3, 9, 100, 101, 500, 501]);
        assert_eq!(of(&rows, 2).len(), 493);
        let before = rows.clone();
        rows.insert(terminal(9, 2));
        rows.insert(terminal(9, 2));
        rows.insert(terminal(50, 3));
        rows.remove(table, 2);
        assert_eq!(of(&rows, 1), [1, 3, 100, 101, 500, 501]);
        assert_eq!((of(&rows, 2).len(), of(&rows, 3)), (493, vec![50]));
        for id in [1, 3, 100, 101, 500, 501, 2] {
            rows.remove(table, id);
            of(&rows, 1);
        }
        assert!(of(&rows, 1).is_empty());
        assert_eq!(of(&before, 1).len(), 8, "what was read before stays as it was");
        assert_eq!(rows.count_referring(table, table.place("terminalModel").unwrap(), 1), None);
    }

    #[test]
    fn what_changed_between_two_states_is_told_row_by_row() {
        let (table, mut rows) = (Terminal::definition(), Rows::default());
        (1..=1000).for_each(|id| rows.insert(terminal(id, 1)));
        let between = |before: &Rows, after: &Rows| -> Vec<(Option<u32>, Option<u32>)> {
            let id = |row: Option<&Row>| row.map(|row| row.id());
            after.since(before, table).map(|(old, new)| (id(old), id(new))).collect()
        };
        let mut after = rows.clone();
        assert_eq!(between(&rows, &after), []);
        after.insert(terminal(2, 1));
        assert_eq!(between(&rows, &after), [], "it holds what it held");
        after.insert(terminal(500, 2));
        after.insert(terminal(1001, 1));
        after.remove(table, 7);
        assert_eq!(between(&rows, &after), [(Some(7), None), (Some(500), Some(500)), (None, Some(1001))]);
        assert_eq!(between(&after, &rows), [(None, Some(7)), (Some(500), Some(500)), (Some(1001), None)]);
        assert_eq!(between(&Rows::default(), &rows).len(), 1000);
    }

    #[test]
    fn an_order_is_known_until_the_rows_change() {
        let (table, mut rows) = (Terminal::definition(), Rows::default());
        let ids: Vec<u32> = (1..=1000).rev().collect();
        ids.iter().for_each(|id| rows.insert(terminal(*id, 1)));
        let known = |rows: &Rows, name: &str| rows.known_order(table, name).map(|ids| ids.to_vec());
        rows.keep_order(table, "short".to_owned(), &ids[1..]);
        assert_eq!(known(&rows, "short"), None);
        for number in 0..9 {
            rows.keep_order(table, number.to_string(), &ids);
        }
        assert_eq!((known(&rows, "0"), known(&rows, "1")), (None, Some(ids.clone())), "eight are kept");
        let same = rows.clone();
        assert!(known(&same, "8").is_some());
        rows.insert(terminal(5, 2));
        assert_eq!(known(&rows, "8"), None);
        assert!(known(&same, "8").is_some());
        rows.keep_order(table, "8".to_owned(), &ids);
        rows.remove(table, 5);
        assert_eq!(known(&rows, "8"), None);
    }

    #[test]
    fn tables_are_shared_until_one_of_them_changes() {
        let (table, mut rows) = (Terminal::definition(), Rows::default());
        rows.insert(terminal(1, 1));
        let before = rows.clone();
        assert!(rows.shares(&before, table));
        rows.insert(terminal(2, 1));
        assert!(!rows.shares(&before, table));
        assert!(rows.shares(&before, Administrator::definition()), "others are not touched");
    }

    #[test]
    fn a_changed_row_is_found_by_what_it_has_now() {
        let mut rows = Rows::default();
        let named = |name: &str| -> Row {
            let domain = Some(Id::new(3));
            Arc::new(Terminal { id: Id::new(1), name: name.to_owned(), domain, ..Terminal::default() })
        };
        let found =
            |rows: &Rows, name: &str| rows.find::<Terminal>(0, &[Value::Text(name), Value::Int(3)]).is_some();
        rows.insert(named("alice"));
        rows.insert(named("alice"));
        assert!(found(&rows, "alice"));
        rows.insert(named("bob"));
        assert!(found(&rows, "bob") && !found(&rows, "alice"));
        rows.remove(Terminal::definition(), 1);
        assert!(!found(&rows, "bob"));
    }

    #[test]
    fn names_to_log_in_with_are_found_whatever_their_case() {
        let mut rows = Rows::default();
        let named = |id: u32, username: &str| Administrator {
            id: Id::new(id),
            username: username.to_owned(),
            ..Administrator::default()
        };
        rows.insert(Arc::new(named(1, "Núria")));
        let found = |name: &str| rows.find::<Administrator>(0, &[Value::Text(name)]).map(|row| row.id.get());
        assert_eq!(
            ["Núria", "núria", "NÚRIA", "nuria", ""].map(found),
            [Some(1), Some(1), Some(1), None, None]
        );
        let places = Administrator::definition().unique[0];
        assert!(rows.clash(&named(2, "NÚRIA"), places, 0).is_some());
        assert!(rows.clash(&named(1, "NÚRIA"), places, 0).is_none(), "it is the row itself");
    }
}
