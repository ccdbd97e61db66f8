//! Many rows at once from one document, and back: imports, exports, and what a fresh system holds.
//!
//! In: `{"entities": {"Provider.Carrier": [{"id": 1, …}]}}`, references as ids, moments in UTC. Out: the new rows, or every
//! mistake with its row and field. Nothing is half imported. Elsewhere: making it durable (crate `store`).

use crate::define::{Field, Kind, Reading, Record, SecretHasher, Table, parse_time};
use crate::draft::Change;
use crate::entities::TABLES;
use crate::rows::{Row, Rows};
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
/// Passwords of people are hashed where the row says `passIsPlainText`, and taken as hashes otherwise.
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
    let Reader { mut mistakes, imported, rows: new, .. } = reader;
    let mut rows = onto.clone();
    if replace {
        for table in TABLES.iter().filter(|table| !table.hidden) {
            let ids: Vec<u32> = rows.all(table).map(|row| row.id()).collect();
            ids.iter().for_each(|id| rows.remove(table, *id));
        }
    }
    new.iter().for_each(|row| rows.insert(Arc::clone(row)));
    check(&rows, &new, &mut mistakes);
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

struct Reader<'a> {
    now: Timestamp,
    hasher: &'a dyn SecretHasher,
    mistakes: Vec<ImportMistake>,
    imported: Imported,
    rows: Vec<Row>,
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
            let moved = moved.map(|relative| Json::String(relative.at(self.now)));
            if let Err(fault) = row.set(place, moved.as_ref().unwrap_or(value), &reading) {
                self.wrong(name, &label, key, fault.to_string());
            }
        }
        for field in table.fields.iter().filter(|field| field.required()) {
            if !document.contains_key(field.name) {
                self.wrong(name, &label, field.name, "missing; it has no default");
            }
        }
        if !self.seen.insert((table.index, id)) {
            self.wrong(name, &label, "id", "another row has it, too");
        }
        self.imported.rows += 1;
        self.rows.push(Arc::from(row));
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

fn check(rows: &Rows, new: &[Row], mistakes: &mut Vec<ImportMistake>) {
    let mut wrong = |row: &Row, field: &str, remedy: String| {
        if mistakes.len() < MOST_MISTAKES {
            let (entity, id, field) = (row.table().full_name(), row.id().to_string(), field.to_owned());
            mistakes.push(ImportMistake { entity, row: id, field, remedy });
        }
    };
    for row in new {
        let table = row.table();
        for (place, field) in table.fields.iter().enumerate().skip(1) {
            if let (Kind::Reference(target), Some(id)) = (field.kind, row.get(place).id())
                && rows.row(target(), id).is_none()
            {
                wrong(row, field.name, format!("there is no {} {id}", target().full_name()));
            }
        }
        for (set, places) in table.unique.iter().enumerate() {
            if let Some(other) = rows.clash(&**row, places, set) {
                let names: Vec<&str> = places.iter().map(|place| table.fields[*place].name).collect();
                wrong(row, &names.join("+"), format!("row {} has the same", other.id()));
            }
        }
    }
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
            ]
        );
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
    fn what_must_be_unique_is_checked_against_the_rows_that_are_there() {
        let document = json!({ "entities": { "Provider.Feature": [
            { "id": 500, "iden": "queues", "name": { "en": "Queues" } },
        ] } });
        let mistakes = read(&document).unwrap_err();
        assert_eq!(mistakes[0].to_string(), "Provider.Feature[500].iden: row 1 has the same");
    }
}
