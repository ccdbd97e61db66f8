//! Many rows at once from one document, and back: imports, exports, and what a fresh system holds.
//!
//! In: `{"entities": {"Provider.Carrier": [{"id": 1, …}]}}`, references as ids, moments in UTC. Out: the new rows, or every
//! mistake with its row and field. Nothing is half imported. Elsewhere: making it durable (crate `store`).

use crate::define::{Field, Kind, Reading, Record, SecretHasher, Table, Value, parse_time};
use crate::draft::Change;
use crate::entities::{DOMAIN_NAMES, TABLES, domain_name_kept};
use crate::rows::{Row, Rows};
use crate::rules::{Check, Mistake, Refusal, Trial};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// More mistakes than anybody reads at once.
const MOST_MISTAKES: usize = 1000;

/// One thing wrong in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportMistake {
    /// The entity as the document names it.
    pub entity: String,
    /// The row's id, or its place in the list, from 1, where it has none.
    pub row: String,
    /// The field; empty when it is about the whole row.
    pub field: String,
    /// What is wrong and how to make it right.
    pub remedy: String,
}

impl fmt::Display for ImportMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entity, row, field, remedy } = self;
        let dot = if field.is_empty() { "" } else { "." };
        write!(f, "{entity}[{row}]{dot}{field}: {remedy}")
    }
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Rows read.
    pub rows: usize,
    /// Rows of another system's inner tables, which mean nothing here, by entity.
    pub skipped: BTreeMap<String, usize>,
}

/// Reads a document onto these rows: rows with known ids are changed, others are added; `replace` drops all rows first.
/// Rows that are new or changed pass the rules of their entity, as far as their own values go (`Onto::judge`). Passwords of
/// people are hashed where the row says `passIsPlainText`, and taken as hashes otherwise.
///
/// # Errors
///
/// All mistakes (the first thousand).
pub fn import(
    document: &Json,
    onto: &Rows,
    replace: bool,
    now: Timestamp,
    hasher: &dyn SecretHasher,
) -> Result<(Rows, Vec<Change>, Imported), Vec<ImportMistake>> {
    let mut reader = Reader {
        now,
        hasher,
        mistakes: Vec::new(),
        imported: Imported::default(),
        rows: Vec::new(),
        seen: HashSet::new(),
    };
    reader.document(document);
    let Reader { mistakes, imported, rows: mut new, .. } = reader;
    let mut rows = onto.clone();
    if replace {
        for table in TABLES.iter().filter(|table| !table.hidden) {
            let ids: Vec<u32> = rows.all(table).map(|row| row.id()).collect();
            ids.iter().for_each(|id| rows.remove(table, *id));
        }
    }
    new.iter().for_each(|read| rows.insert(Arc::clone(&read.row)));
    // What a row takes over from its brand or its client is to be there by then.
    new.sort_by_key(|read| match read.row.table().name {
        "Brand" => 0,
        "Company" => 1,
        _ => 2,
    });
    let mut onto_these = Onto { before: onto, replace, rows, now, mistakes };
    new.iter().for_each(|read| onto_these.judge(read));
    new.iter().for_each(|read| onto_these.check_unique(read));
    let Onto { rows, mut mistakes, .. } = onto_these;
    if !mistakes.is_empty() {
        mistakes.truncate(MOST_MISTAKES);
        return Err(mistakes);
    }
    let changes = differences(onto, &rows);
    Ok((rows, changes, imported))
}

/// What leads from one state to another.
pub fn differences(from: &Rows, to: &Rows) -> Vec<Change> {
    let mut changes = Vec::new();
    for table in TABLES.iter().copied() {
        for row in to.all(table) {
            let before = from.row(table, row.id()).cloned();
            let same = before
                .as_ref()
                .is_some_and(|before| Arc::ptr_eq(before, row) || crate::draft::alike(&**before, &**row));
            if !same {
                changes.push(Change { table, id: row.id(), before, after: Some(Arc::clone(row)) });
            }
        }
        for row in from.all(table).filter(|row| to.row(table, row.id()).is_none()) {
            changes.push(Change { table, id: row.id(), before: Some(Arc::clone(row)), after: None });
        }
    }
    changes
}

/// Writes all rows in the form that [`import`] reads. Passwords are in it, those of SIP in the clear.
pub fn export(rows: &Rows) -> Json {
    let mut entities = Map::new();
    for table in TABLES.iter().filter(|table| !table.hidden) {
        let list: Vec<Json> = rows.all(table).map(|row| Json::Object(document(&**row))).collect();
        if !list.is_empty() {
            entities.insert(table.full_name(), Json::Array(list));
        }
    }
    json!({ "entities": entities })
}

/// A row as stored documents hold it.
pub fn document(row: &dyn Record) -> Map<String, Json> {
    let fields = row.table().fields.iter().enumerate();
    fields.map(|(place, field)| (field.name.to_owned(), row.get(place).stored())).collect()
}

/// Reads a stored document. Fields that it lacks keep their defaults; fields that are not known any more are left out.
///
/// # Errors
///
/// Fields with values that cannot be read, each with the fault.
pub fn read_document(
    table: &Table,
    document: &Map<String, Json>,
    now: Timestamp,
) -> Result<Box<dyn Record>, String> {
    let mut row = (table.make)();
    let reading = Reading::stored(now);
    for (place, field) in table.fields.iter().enumerate() {
        match (place, document.get(field.name)) {
            (0, Some(id)) => {
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
                row.set_id(id.ok_or_else(|| format!("{}: the id is no number", table.name))?);
            }
            (_, Some(value)) => {
                row.set(place, value, &reading)
                    .map_err(|fault| format!("{}.{}: {fault}", table.name, field.name))?;
            }
            (_, None) => {}
        }
    }
    Ok(row)
}

/// What changes a stored value before it is read: seals are opened so. The fault is in words.
pub type Opener<'a> = dyn FnMut(&Field, &mut Json) -> Result<(), String> + 'a;

/// As [`read_document`], from the document's text: at a start there are millions, so none is taken apart twice.
///
/// # Errors
///
/// As there, and that the text is no document.
pub fn read_text(
    table: &Table,
    text: &str,
    now: Timestamp,
    open: &mut Opener<'_>,
) -> Result<Box<dyn Record>, String> {
    let mut fault = None;
    let seed = TextReader { table, now, open, fault: &mut fault };
    let mut json = serde_json::Deserializer::from_str(text);
    let row = seed.deserialize(&mut json).and_then(|row| json.end().map(|()| row));
    row.map_err(|error| fault.unwrap_or_else(|| format!("{}: {error}", table.name)))
}

struct TextReader<'a, 'o> {
    table: &'a Table,
    now: Timestamp,
    open: &'a mut Opener<'o>,
    /// Why a field cannot be read.
    fault: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for TextReader<'_, '_> {
    type Value = Box<dyn Record>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TextReader<'_, '_> {
    type Value = Box<dyn Record>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row's document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut document: A) -> Result<Self::Value, A::Error> {
        let Self { table, now, open, fault } = self;
        let mut row = (table.make)();
        let reading = Reading::stored(now);
        let mut expected = 0;
        while let Some(place) = document.next_key_seed(PlaceReader { table, expected })? {
            let Some((place, field)) = place.and_then(|place| Some((place, table.fields.get(place)?))) else {
                document.next_value::<IgnoredAny>()?;
                continue;
            };
            expected = place + 1;
            let mut value: Json = document.next_value()?;
            let read = if place == 0 {
                let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
                id.map(|id| row.set_id(id)).ok_or_else(|| format!("{}: the id is no number", table.name))
            } else {
                open(field, &mut value).and_then(|()| {
                    row.set(place, &value, &reading)
                        .map_err(|fault| format!("{}.{}: {fault}", table.name, field.name))
                })
            };
            read.map_err(|why| {
                *fault = Some(why);
                A::Error::custom("a field")
            })?;
        }
        Ok(row)
    }
}

/// Finds the place of a field by its name; documents have them in the table's order.
struct PlaceReader<'a> {
    table: &'a Table,
    expected: usize,
}

impl<'de> DeserializeSeed<'de> for PlaceReader<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for PlaceReader<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        let is_next = self.table.fields.get(self.expected).is_some_and(|field| field.name == name);
        Ok(if is_next { Some(self.expected) } else { self.table.place(name) })
    }
}

/// A row of the document.
struct ReadRow {
    row: Row,
    /// Places of fields that the document does not name.
    left_out: Vec<usize>,
    /// Places of fields with values that cannot be.
    wrong: Vec<usize>,
}

struct Reader<'a> {
    now: Timestamp,
    hasher: &'a dyn SecretHasher,
    mistakes: Vec<ImportMistake>,
    imported: Imported,
    rows: Vec<ReadRow>,
    /// Tables and ids of the rows.
    seen: HashSet<(usize, u32)>,
}

impl Reader<'_> {
    fn wrong(&mut self, entity: &str, row: &str, field: &str, remedy: impl Into<String>) {
        if self.mistakes.len() < MOST_MISTAKES {
            let (entity, row, field) = (entity.to_owned(), row.to_owned(), field.to_owned());
            self.mistakes.push(ImportMistake { entity, row, field, remedy: remedy.into() });
        }
    }

    fn document(&mut self, document: &Json) {
        let Some(entities) = document.get("entities").and_then(Json::as_object) else {
            self.wrong(
                "",
                "",
                "entities",
                "missing; write {\"entities\": {\"Provider.Brand\": [{\"id\": 1, …}]}}",
            );
            return;
        };
        let relative = relative_times(document);
        for (name, list) in entities {
            let Some(list) = list.as_array() else {
                self.wrong(name, "", "", "write a list of rows");
                continue;
            };
            match by_full_name(name) {
                Some(table) => {
                    for (at, row) in list.iter().enumerate() {
                        self.row(name, table, at, row, &relative);
                    }
                }
                None if is_inner(name) => {
                    self.imported.skipped.insert(name.clone(), list.len());
                }
                None => self.wrong(name, "", "", "there is no such entity"),
            }
        }
    }

    fn row(&mut self, name: &str, table: &'static Table, at: usize, json: &Json, relative: &[Relative]) {
        let place_name = format!("entry {}", at + 1);
        let Some(document) = json.as_object() else {
            self.wrong(name, &place_name, "", "write an object");
            return;
        };
        let id = document.get("id").and_then(Json::as_u64).and_then(|id| u32::try_from(id).ok());
        let Some(id) = id else {
            self.wrong(name, &place_name, "id", "every row has an id, a whole number");
            return;
        };
        let label = id.to_string();
        let mut row = (table.make)();
        row.set_id(id);
        let mut wrong = Vec::new();
        let plain = document.get("passIsPlainText").and_then(Json::as_bool).unwrap_or(false);
        let utc = TimeZone::UTC;
        for (key, value) in document {
            if matches!(key.as_str(), "id" | "passIsPlainText" | "passIsUnknown")
                || table.inner.contains(&key.as_str())
            {
                continue;
            }
            let Some(place) = table.place(key) else {
                self.wrong(name, &label, key, "there is no such field");
                continue;
            };
            let hasher = (plain && matches!(table.fields[place].kind, Kind::Password)).then_some(self.hasher);
            let reading = Reading { zone: &utc, now: self.now, hasher };
            let moved = relative.iter().find(|relative| relative.fits(name, key, value));
            let mut moved = moved.map(|relative| Json::String(relative.at(self.now)));
            if DOMAIN_NAMES.contains(&(table.name, key.as_str())) {
                moved = value.as_str().map(|name| Json::String(domain_name_kept(name)));
            }
            if let Err(fault) = row.set(place, moved.as_ref().unwrap_or(value), &reading) {
                self.wrong(name, &label, key, fault.to_string());
                wrong.push(place);
            }
        }
        let fields = table.fields.iter().enumerate().skip(1);
        let left_out = fields.filter(|(_, field)| !document.contains_key(field.name)).map(|(place, _)| place);
        let left_out: Vec<usize> = left_out.collect();
        for place in left_out.iter().filter(|place| table.fields[**place].required()) {
            self.wrong(name, &label, table.fields[*place].name, "missing; it has no default");
            wrong.push(*place);
        }
        if !self.seen.insert((table.index, id)) {
            self.wrong(name, &label, "id", "another row has it, too");
        }
        self.imported.rows += 1;
        self.rows.push(ReadRow { row: Arc::from(row), left_out, wrong });
    }
}

/// A moment that is relative to the time of the import.
struct Relative {
    entity: String,
    field: String,
    value: String,
    days: i64,
}

impl Relative {
    fn fits(&self, entity: &str, field: &str, value: &Json) -> bool {
        self.entity == entity && self.field == field && value.as_str() == Some(self.value.as_str())
    }

    fn at(&self, now: Timestamp) -> String {
        let seconds = self.days.saturating_mul(86_400);
        let moved = Timestamp::from_second(now.as_second().saturating_add(seconds)).unwrap_or(now);
        crate::define::shown_time(moved, &TimeZone::UTC)
    }
}

fn relative_times(document: &Json) -> Vec<Relative> {
    let list = document.get("timeDependent").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = |entry: &Json, key: &str| entry.get(key).and_then(Json::as_str).map(str::to_owned);
    list.iter()
        .filter_map(|entry| {
            let value = text(entry, "value")?;
            parse_time(&value, &TimeZone::UTC)?;
            let days = entry.get("daysFromNow")?.as_i64()?;
            Some(Relative { entity: text(entry, "entity")?, field: text(entry, "field")?, value, days })
        })
        .collect()
}

/// Rows with those of a document among them.
struct Onto<'a> {
    /// The rows before.
    before: &'a Rows,
    /// Those before are dropped: a row with the same id may be something else.
    replace: bool,
    rows: Rows,
    now: Timestamp,
    mistakes: Vec<ImportMistake>,
}

impl Onto<'_> {
    fn wrong(&mut self, row: &dyn Record, field: &str, remedy: String) {
        if self.mistakes.len() < MOST_MISTAKES {
            let (entity, id, field) = (row.table().full_name(), row.id().to_string(), field.to_owned());
            self.mistakes.push(ImportMistake { entity, row: id, field, remedy });
        }
    }

    /// Checks a row's references, and by the rules of its entity the row, as one that is made, or changed where it is there.
    /// How rows stand to others is not held against them, where they might be kept so: other systems have rows that refer
    /// to those of another client, or were made before the rule was.
    fn judge(&mut self, read: &ReadRow) {
        let ReadRow { row, left_out, wrong } = read;
        let table = row.table();
        let mut lost = Vec::new();
        for (place, field) in table.fields.iter().enumerate().skip(1) {
            if let (Kind::Reference(target), Some(id)) = (field.kind, row.get(place).id())
                && self.rows.row(target(), id).is_none()
            {
                self.wrong(&**row, field.name, format!("there is no {} {id}", target().full_name()));
                lost.push(place);
            }
        }
        let before = self.before.row(table, row.id()).cloned();
        let is_same = before.as_ref().is_some_and(|before| crate::draft::alike(&**before, &**row));
        if is_same || self.mistakes.len() >= MOST_MISTAKES {
            return;
        }
        let before = before.filter(|_| !self.replace);
        // Rules see all other rows, and this one as it was.
        match &before {
            Some(before) => self.rows.insert(Arc::clone(before)),
            None => self.rows.remove(table, row.id()),
        }
        let made = self.by_rules(&**row, before.as_deref(), wrong, &lost);
        self.rows.insert(Arc::clone(row));
        let is_sound = made.mistakes.is_empty() && made.refusal.is_none();
        if is_sound && crate::draft::alike(&*made.row, &**row) {
            return;
        }
        let kept = self.by_rules(&**row, Some(&**row), wrong, &lost);
        let (mut found, mut refusal) = (made.mistakes, made.refusal);
        // What is said of the change alone is no matter of how the row stands to others.
        let new = before.as_ref().filter(|_| !is_sound).map(|_| self.by_rules(&**row, None, wrong, &lost));
        let of_change = |mistake: &Mistake| new.as_ref().is_some_and(|new| !new.mistakes.contains(mistake));
        found.retain(|mistake| {
            let place = table.place(&mistake.field);
            let named = place.is_some_and(|place| wrong.contains(&place) || lost.contains(&place));
            let of_others =
                place.is_some_and(|place| row.get(place).id().is_some() && is_reference(table, place));
            !named && (!of_others || of_change(mistake) || kept.mistakes.contains(mistake))
        });
        let of_others = matches!(refusal, Some(Refusal::Forbidden(_)))
            && new.as_ref().is_none_or(|new| new.refusal == refusal)
            && kept.refusal != refusal;
        if of_others {
            refusal = None;
        }
        let is_sound = found.is_empty() && refusal.is_none() && wrong.is_empty() && lost.is_empty();
        found.into_iter().for_each(|mistake| self.wrong(&**row, &mistake.field, mistake.remedy));
        if let Some(refusal) = refusal {
            self.wrong(&**row, "", refusal.to_string());
        }
        if is_sound {
            self.put_in_order(row, left_out, &*made.row, &*kept.row);
        }
    }

    /// What the rules make of a row, and say of it.
    fn by_rules(&self, row: &dyn Record, old: Option<&dyn Record>, wrong: &[usize], lost: &[usize]) -> Ruled {
        let (rows, now, level) = (&self.rows, self.now, None);
        let mut copy = row.copy();
        if !wrong.is_empty() || !lost.is_empty() {
            let trial = Trial { row, old, rows, now, level, unique: false };
            return Ruled { row: copy, mistakes: trial.beside(wrong, lost), refusal: None };
        }
        let mut check = Check::new(rows, now, level);
        copy.rules().check_row(old, &mut check);
        let (mistakes, refusal) = check.said();
        Ruled { row: copy, mistakes, refusal }
    }

    /// Takes over what the rules write: for fields that the document does not name what a new row gets, for those that are
    /// null what a row gets that is there already, and texts as they are kept. All other values stay as they are.
    fn put_in_order(&mut self, row: &Row, left_out: &[usize], made: &dyn Record, kept: &dyn Record) {
        let mut new = row.copy();
        for (place, field) in row.table().fields.iter().enumerate().skip(1) {
            let is_text = matches!(field.kind, Kind::Text | Kind::Secret);
            let by = match row.get(place) {
                _ if left_out.contains(&place) => made,
                Value::Null => kept,
                _ if is_text && !kept.get(place).is_null() => kept,
                _ => continue,
            };
            if let Err(fault) = new.set(place, &by.get(place).stored(), &Reading::stored(self.now)) {
                self.wrong(&**row, field.name, fault.to_string());
            }
        }
        self.rows.insert(Arc::from(new));
    }

    fn check_unique(&mut self, read: &ReadRow) {
        let Some(row) = self.rows.row(read.row.table(), read.row.id()).cloned() else { return };
        let names = |places: &[usize]| {
            let names: Vec<&str> = places.iter().map(|place| row.table().fields[*place].name).collect();
            names.join("+")
        };
        let clashes = self.rows.clashes(&*row);
        let clashes: Vec<_> = clashes.map(|(places, other)| (names(places), other.id())).collect();
        for (names, other) in clashes {
            self.wrong(&*row, &names, format!("row {other} has the same"));
        }
    }
}

/// A row as its rules leave it, and what they say.
struct Ruled {
    row: Box<dyn Record>,
    mistakes: Vec<Mistake>,
    refusal: Option<Refusal>,
}

fn is_reference(table: &Table, place: usize) -> bool {
    table.fields.get(place).is_some_and(|field| matches!(field.kind, Kind::Reference(_)))
}

/// The table that a document calls "Provider.Carrier".
pub fn by_full_name(name: &str) -> Option<&'static Table> {
    let (space, name) = name.split_once('.')?;
    let table = crate::entities::table(name)?;
    (table.space() == space && !table.hidden).then_some(table)
}

/// Tables of the other system's call server, rating engine and proxies.
fn is_inner(name: &str) -> bool {
    ["Ast.", "Cgr.", "Kam."].iter().any(|space| name.starts_with(space))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{PlainHasher, now, sample};

    fn read(document: &Json) -> Result<(Rows, Vec<Change>, Imported), Vec<ImportMistake>> {
        import(document, &sample(), false, now(), &PlainHasher)
    }

    #[test]
    fn an_export_imports_to_the_same_rows() {
        let exported = export(&sample());
        let (rows, changes, imported) =
            import(&exported, &Rows::default(), true, now(), &PlainHasher).unwrap();
        assert_eq!(export(&rows), exported);
        assert_eq!(imported.rows, changes.len());
        assert!(imported.rows > 1400, "{}", imported.rows);
        assert_eq!(read(&exported).unwrap().1.len(), 0, "onto itself it changes nothing");
    }

    #[test]
    fn all_mistakes_are_listed_with_row_and_field() {
        let document = json!({ "entities": {
            "Provider.Carrier": [
                { "id": 1, "name": "x", "brand": 99, "balance": "much", "nonsense": 1 },
                { "name": "without id" },
                { "id": 7, "brand": 1, "mediaRelaySet": 0 },
            ],
            "Provider.Nonsense": [],
            "Kam.Dispatcher": [{ "id": 1 }],
        } });
        let lines: Vec<String> = read(&document).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "Provider.Carrier[1].balance: \"much\" is not a number",
                "Provider.Carrier[1].nonsense: there is no such field",
                "Provider.Carrier[entry 2].id: every row has an id, a whole number",
                "Provider.Carrier[7].name: missing; it has no default",
                "Provider.Nonsense[]: there is no such entity",
                "Provider.Carrier[1].brand: there is no Provider.Brand 99",
                "Provider.Carrier[1].proxyTrunk: it must be given",
                "Provider.Carrier[7].proxyTrunk: it must be given",
            ]
        );
    }

    fn lines(document: &Json) -> Vec<String> {
        read(document).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rows_pass_the_rules_of_their_entity_and_every_mistake_is_listed() {
        let document = json!({ "entities": {
            "Provider.RoutingTag": [{ "id": 70, "name": "Bad", "tag": "bad", "brand": 1 }],
            "Provider.Terminal": [
                { "id": 70, "name": "a b", "password": "x", "company": 1, "mac": "zz", "t38Passthrough": "maybe" },
                { "id": 71, "name": "carol", "password": "ABCabc123+", "company": 77 },
                { "id": 72, "name": "alice", "password": "ABCabc123+", "company": 1 },
            ],
            "Provider.User": [{ "id": 70, "name": "", "lastname": "x", "email": "nomail", "company": 1 }],
        } });
        assert_eq!(
            lines(&document),
            [
                "Provider.Terminal[70].t38Passthrough: \"maybe\" is not one of yes, no",
                "Provider.RoutingTag[70].tag: write one to three digits and a #, such as 12#",
                "Provider.Terminal[70].name: write letters, digits, underscores and asterisks only",
                "Provider.Terminal[70].password: it takes 10 characters or more, with 3 capital letters, 3 small letters, \
                 3 digits and one of + * _ -",
                "Provider.Terminal[70].mac: a hardware address has 12 hexadecimal digits: 0011223344aa",
                "Provider.Terminal[71].company: there is no Provider.Company 77",
                "Provider.User[70].name: a user needs a first name",
                "Provider.User[70].email: it is no e-mail address; write name@example.com",
                "Provider.Terminal[72].name+domain: row 1 has the same",
            ]
        );
    }

    /// The sample system's row, with other values.
    fn sample_row(entity: &str, id: u32, values: &Json) -> Json {
        let exported = export(&sample());
        let rows = exported["entities"][entity].as_array().unwrap();
        let mut row = rows.iter().find(|row| row["id"] == json!(id)).unwrap().clone();
        let values = values.as_object().unwrap().clone();
        row.as_object_mut().unwrap().extend(values);
        json!({ "entities": { entity: [row] } })
    }

    #[test]
    fn a_row_that_is_there_is_judged_by_what_is_changed() {
        let bob = |values: Json| sample_row("Provider.User", 2, &values);
        assert_eq!(read(&bob(json!({ "maxCalls": 7 }))).unwrap().1.len(), 1);
        assert_eq!(lines(&bob(json!({ "email": "bob" }))).len(), 1);
        // As one that is new: a friend does not move.
        let friend = sample_row("Provider.Friend", 1, &json!({ "company": 2, "priority": 9 }));
        assert_eq!(
            lines(&friend),
            ["Provider.Friend[1].company: a friend stays with its client; make a new one"]
        );
    }

    #[test]
    fn how_rows_stand_to_others_is_not_held_against_them() {
        // In the sample system, too, a user shows a number of another client, and two holidays overlap.
        let bob = sample_row("Provider.User", 2, &json!({ "outgoingDdi": 3 }));
        assert_eq!(read(&bob).unwrap().1.len(), 1);
        let day = json!({ "id": 70, "name": "Another", "calendar": 1, "eventDate": "2018-01-01" });
        let overlapping = export(&sample())["entities"]["Provider.HolidayDate"][0].clone();
        let mut day = day.as_object().unwrap().clone();
        day.insert("eventDate".to_owned(), overlapping["eventDate"].clone());
        day.insert("calendar".to_owned(), overlapping["calendar"].clone());
        day.insert("wholeDayEvent".to_owned(), json!(true));
        assert!(read(&json!({ "entities": { "Provider.HolidayDate": [day] } })).is_ok());
    }

    #[test]
    fn what_the_rules_write_is_taken_over_where_the_document_has_nothing() {
        let new = json!({ "id": 70, "name": " Carol ", "lastname": "C", "email": " carol@example.com ", "company": 1 });
        let document = json!({ "entities": {
            "Provider.Terminal": [
                { "id": 70, "name": "carol", "password": "ABCabc123+", "company": 1, "mac": "00:1A-22.33:44:FF" },
                { "id": 71, "name": "dave", "password": "ABCabc123+", "company": 1, "domain": null },
            ],
            "Provider.User": [new],
            "Provider.Friend": [
                { "id": 70, "name": "first", "password": "ABCabc123+", "directConnectivity": "no", "company": 1 },
                { "id": 71, "name": "second", "password": "ABCabc123+", "directConnectivity": "no", "company": 1 },
            ],
        } });
        let (rows, changes, _) = read(&document).unwrap();
        let row = |name: &str, id: u32| rows.row(crate::entities::table(name).unwrap(), id).unwrap();
        assert_eq!(
            (row("Terminal", 70).reference("domain"), row("Terminal", 71).reference("domain")),
            (Some(3), Some(3))
        );
        assert_eq!(row("Terminal", 70).named("mac").text(), Some("001a223344ff"));
        assert_eq!(row("User", 70).reference("timezone"), Some(145), "the client's, as a new user has it");
        assert_eq!(row("User", 70).named("email").text(), Some("carol@example.com"));
        let priorities: Vec<_> = [70, 71].map(|id| row("Friend", id).named("priority").stored()).into();
        assert_eq!(priorities, [json!(3), json!(4)]);
        let kept = changes.iter().find(|change| change.table.name == "User").unwrap().after.as_ref().unwrap();
        assert_eq!(kept.reference("timezone"), Some(145), "and it is what is kept");
        // Null that may be null stays.
        let bob = sample_row("Provider.User", 2, &json!({ "timezone": null }));
        let (rows, ..) = read(&bob).unwrap();
        assert_eq!(rows.row(crate::entities::table("User").unwrap(), 2).unwrap().reference("timezone"), None);
    }

    #[test]
    fn mistakes_by_the_rules_are_bounded() {
        let tag = |id: u32| json!({ "id": id, "name": "Bad", "tag": "bad", "brand": 1 });
        let tags: Vec<Json> = (100..1200).map(tag).collect();
        let document = json!({ "entities": { "Provider.RoutingTag": tags } });
        assert_eq!(lines(&document).len(), MOST_MISTAKES);
    }

    #[test]
    fn a_text_is_read_as_its_document_is() {
        let rows = sample();
        let mut opened = 0;
        for row in TABLES.iter().flat_map(|table| rows.all(table)) {
            let text = json!(document(&**row)).to_string();
            let mut open = |field: &Field, _: &mut Json| {
                opened += usize::from(field.name == "password");
                Ok(())
            };
            let read = read_text(row.table(), &text, now(), &mut open).unwrap();
            assert_eq!((read.id(), document(&*read)), (row.id(), document(&**row)));
        }
        assert!(opened > 10, "{opened}");
    }

    #[test]
    fn a_text_may_lack_fields_and_have_others_and_its_faults_are_named() {
        let table = crate::entities::table("Carrier").unwrap();
        let read = |text: &str| read_text(table, text, now(), &mut |_, _| Ok(()));
        let row = read(r#"{"gone": {"a": [1]}, "name": "A\u0042", "id": 7, "brand": 3}"#).unwrap();
        assert_eq!((row.id(), row.named("name").text()), (7, Some("AB")));
        assert_eq!(row.reference("brand"), Some(3));
        assert_eq!(read(r#"{"id": "x"}"#).unwrap_err(), "Carrier: the id is no number");
        assert_eq!(
            read(r#"{"acd": true, "name": {}}"#).unwrap_err(),
            "Carrier.name: an object is not a text"
        );
        for broken in ["", "[]", "{", r#"{"id": 7} x"#, r#"{"name"}"#] {
            assert!(read(broken).unwrap_err().starts_with("Carrier: "), "{broken}");
        }
        let refused = read_text(table, r#"{"name": "x"}"#, now(), &mut |_, _| Err("sealed".to_owned()));
        assert_eq!(refused.unwrap_err(), "sealed");
    }

    #[test]
    fn domains_are_imported_in_small_letters_and_are_unique_so() {
        let rows = |name: &str| json!({ "entities": { "Provider.Domain": [{ "id": 500, "domain": name }, { "id": 501, "domain": "One.Example" }] } });
        let (imported, ..) = read(&rows("Mixed.Example")).unwrap();
        let domain = imported.get(crate::Id::<crate::entities::Domain>::new(500)).unwrap();
        assert_eq!(domain.domain, "mixed.example");
        let mistakes = read(&rows("oNE.eXAMPLE")).unwrap_err();
        assert_eq!(mistakes[0].to_string(), "Provider.Domain[500].domain: row 501 has the same");
    }

    #[test]
    fn what_must_be_unique_is_checked_against_the_rows_that_are_there() {
        let document = json!({ "entities": { "Provider.Feature": [
            { "id": 500, "iden": "queues", "name": { "en": "Queues" } },
        ] } });
        let mistakes = read(&document).unwrap_err();
        assert_eq!(mistakes[0].to_string(), "Provider.Feature[500].iden: row 1 has the same");
    }
}
