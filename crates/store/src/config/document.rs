//! Stored documents: rows as JSON with sealed secrets, and the self-describing pieces that files are made of.
//!
//! In and out: rows of crate `model`. Elsewhere: where the pieces go (`file`, `postgres`, `backup`).

use super::error::ConfigError;
use super::keys::{Keyring, Unsealable};
use jiff::Timestamp;
use model::define::{Kind, Record, Table, parse_time};
use model::import;
use model::rows::Row;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use std::borrow::Cow;
use std::sync::Arc;

/// A row's fields.
pub(super) type Document = Map<String, Json>;

/// Fields of secrets are few; most tables have none.
fn secrets(table: &Table) -> impl Iterator<Item = &'static str> + use<> {
    let secret = |field: &&'static model::define::Field| matches!(field.kind, Kind::Secret);
    table.fields.iter().filter(secret).map(|field| field.name)
}

/// Whether anything in rows of the table is sealed.
pub(super) fn has_secrets(table: &Table) -> bool {
    secrets(table).next().is_some()
}

/// The document of a row, its secrets sealed.
pub(super) fn sealed(row: &dyn Record, keys: &Keyring) -> Result<Document, ConfigError> {
    let mut document = import::document(row);
    if has_secrets(row.table()) {
        seal_all(row.table().name, row.id(), &mut document, &[], keys)?;
    }
    Ok(document)
}

/// Reads a row back from its document. The fault is in words.
pub(super) fn row(
    table: &'static Table,
    id: u32,
    mut document: Document,
    keys: &Keyring,
) -> Result<Row, String> {
    for field in secrets(table) {
        if let Some(Json::String(text)) = document.get_mut(field) {
            *text = keys
                .open(table.name, field, id, text)
                .map_err(|fault| format!("{}.{field}: {fault}", table.name))?;
        }
    }
    plain_row(table, id, &document)
}

/// As [`row`], from the document's text.
pub(super) fn row_of_text(table: &'static Table, id: u32, text: &str, keys: &Keyring) -> Result<Row, String> {
    let mut open = |field: &model::define::Field, value: &mut Json| {
        if let (Kind::Secret, Json::String(text)) = (field.kind, value) {
            *text = keys
                .open(table.name, field.name, id, text)
                .map_err(|fault| format!("{}.{}: {fault}", table.name, field.name))?;
        }
        Ok(())
    };
    right(table, id, import::read_text(table, text, Timestamp::UNIX_EPOCH, &mut open)?)
}

/// As [`row`], of a document whose secrets are open.
pub(super) fn plain_row(table: &'static Table, id: u32, document: &Document) -> Result<Row, String> {
    right(table, id, import::read_document(table, document, Timestamp::UNIX_EPOCH)?)
}

/// The row, which has this id.
fn right(table: &Table, id: u32, row: Box<dyn Record>) -> Result<Row, String> {
    if row.id() != id {
        return Err(format!("{} {id}: the document is of {}", table.name, row.id()));
    }
    Ok(Arc::from(row))
}

/// Opens whatever is sealed, also in fields and entities that today's model does not know. Returns the names of those fields.
pub(super) fn unseal_all(
    entity: &str,
    id: u32,
    document: &mut Document,
    keys: &Keyring,
) -> Result<Vec<String>, String> {
    let table = model::entities::table(entity);
    let mut opened = Vec::new();
    for (name, value) in document.iter_mut() {
        let Json::String(text) = value else { continue };
        match keys.open(entity, name, id, text) {
            Ok(plain) => {
                *text = plain;
                opened.push(name.clone());
            }
            Err(Unsealable::NotSealed) => {}
            // Somebody's text that only looks like it.
            Err(_) if table.is_some_and(|table| is_open(table, name)) => {}
            Err(fault) => return Err(format!("{entity}.{name}: {fault}")),
        }
    }
    Ok(opened)
}

/// The table has a field with this name, and it is no secret.
fn is_open(table: &Table, name: &str) -> bool {
    table.field(name).is_some_and(|field| !matches!(field.kind, Kind::Secret))
}

/// Seals what is to be sealed: secrets of today's model, and what was sealed before and means nothing to it.
pub(super) fn seal_all(
    entity: &str,
    id: u32,
    document: &mut Document,
    opened: &[String],
    keys: &Keyring,
) -> Result<(), ConfigError> {
    let table = model::entities::table(entity);
    for (name, value) in document.iter_mut() {
        let Json::String(text) = value else { continue };
        let is_secret = table.is_some_and(|table| secrets(table).any(|field| field == name));
        if is_secret || (opened.contains(name) && !table.is_some_and(|table| is_open(table, name))) {
            *text = keys.seal(entity, name, id, text)?;
        }
    }
    Ok(())
}

/// The place of the field by whose time records are listed.
pub(super) fn time_field(table: &Table) -> Option<&'static str> {
    table.fields.iter().find(|field| matches!(field.kind, Kind::Time)).map(|field| field.name)
}

/// The moment by which a record is listed, in Unix microseconds; the beginning of time for one without.
pub(super) fn time_us(table: &Table, document: &Document) -> i64 {
    let text = time_field(table).and_then(|field| document.get(field)).and_then(Json::as_str);
    let time = text.and_then(|text| parse_time(text, &jiff::tz::TimeZone::UTC));
    time.map_or(i64::MIN, Timestamp::as_microsecond)
}

/// The references and texts by which records are listed: field and what it names, or what stands for its text.
pub(super) fn references<'a>(
    table: &'static Table,
    document: &'a Document,
) -> impl Iterator<Item = (&'static str, u32)> + use<'a> {
    indexed(table).filter_map(|field| match document.get(field)? {
        Json::String(text) => Some((field, of_text(text))),
        id => Some((field, u32::try_from(id.as_u64()?).ok()?)),
    })
}

/// What stands for a text in an index of numbers; others may have the same.
pub(super) fn of_text(text: &str) -> u32 {
    crc32fast::hash(text.as_bytes())
}

/// The fields by which records are listed.
pub(super) fn indexed(table: &'static Table) -> impl Iterator<Item = &'static str> {
    table.fields.iter().filter(|field| field.index).map(|field| field.name)
}

/// One line of a backup, and one value of the file: it says itself what it is, so that it can be read out of a wreck.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Piece {
    /// A row of the configuration.
    Row(Stored),
    /// A record.
    Record(Stored),
    /// The next id of a table.
    Next { entity: String, next: u32 },
    /// An entry of the change log.
    Entry(Entry),
    /// A row's part of an entry.
    Change(RowChange),
}

/// A row or record as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) entity: String,
    pub(super) id: u32,
    /// Which transaction wrote it: the greatest is the newest.
    #[serde(default)]
    pub(super) written: u64,
    pub(super) document: Document,
}

/// A row or record as it is stored, with its document as text.
#[derive(Debug, Deserialize)]
pub(super) struct StoredText<'a> {
    #[serde(borrow)]
    pub(super) entity: Cow<'a, str>,
    pub(super) id: u32,
    #[serde(borrow)]
    pub(super) document: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RowText<'a> {
    #[serde(borrow)]
    Row(StoredText<'a>),
}

impl<'a> StoredText<'a> {
    /// A row from the bytes of its piece; the fault is in words.
    pub(super) fn row_of_frame(frame: &'a [u8]) -> Result<Self, String> {
        let text = text_of(frame).ok_or(WRONG_SUM)?;
        let RowText::Row(row) = serde_json::from_slice(text).map_err(|fault| no_piece(&fault))?;
        Ok(row)
    }
}

const WRONG_SUM: &str = "its checksum is wrong";

fn no_piece(fault: &serde_json::Error) -> String {
    format!("it is no piece of a configuration: {fault}")
}

/// An entry of the change log, without its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) revision: u64,
    pub(super) time_us: i64,
    pub(super) who: Json,
    pub(super) token: String,
}

/// What an entry of the change log did to a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RowChange {
    pub(super) revision: u64,
    pub(super) place: u32,
    pub(super) entity: String,
    pub(super) id: u32,
    pub(super) before: Option<Document>,
    pub(super) after: Option<Document>,
}

const MAGIC: [u8; 4] = [0xCA, 0x21, 0x10, 0x0E];
const HEADER: usize = 12;

impl Piece {
    /// Its text.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Its bytes with length and checksum.
    pub(super) fn frame(&self) -> Vec<u8> {
        let text = self.text();
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let mut frame = Vec::with_capacity(HEADER + text.len());
        frame.extend(MAGIC);
        frame.extend(length.to_le_bytes());
        frame.extend(crc32fast::hash(text.as_bytes()).to_le_bytes());
        frame.extend(text.as_bytes());
        frame
    }

    /// From its bytes; the fault is in words.
    pub(super) fn of_frame(frame: &[u8]) -> Result<Self, String> {
        let text = text_of(frame).ok_or(WRONG_SUM)?;
        serde_json::from_slice(text).map_err(|fault| no_piece(&fault))
    }

    /// All that can be found in these bytes, whatever else they are.
    pub(super) fn find_all(bytes: &[u8], mut found: impl FnMut(Self)) {
        let mut at = 0;
        while let Some(step) = bytes[at..].windows(MAGIC.len()).position(|window| window == MAGIC) {
            at += step;
            match Self::of_frame(&bytes[at..]) {
                Ok(piece) => {
                    at += text_of(&bytes[at..]).map_or(MAGIC.len(), |text| HEADER + text.len());
                    found(piece);
                }
                Err(_) => at += MAGIC.len(),
            }
        }
    }
}

/// The text of a frame at the beginning of these bytes.
fn text_of(bytes: &[u8]) -> Option<&[u8]> {
    let header = bytes.get(..HEADER)?;
    let number = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let length = usize::try_from(number(4)?).ok()?;
    let text = bytes.get(HEADER..HEADER.checked_add(length)?)?;
    (header[..4] == MAGIC && crc32fast::hash(text) == number(8)?).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_found_among_rubbish() {
        let piece = |next| Piece::Next { entity: "Carrier".to_owned(), next };
        let mut bytes = vec![7; 50];
        bytes.extend(piece(1).frame());
        bytes.extend(MAGIC);
        let torn = piece(2).frame();
        bytes.extend(&torn[..torn.len() - 1]);
        bytes.extend(piece(3).frame());
        let mut found = Vec::new();
        Piece::find_all(&bytes, |piece| found.push(piece));
        assert_eq!(found, [piece(1), piece(3)]);
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let frame = Piece::Next { entity: "Carrier".to_owned(), next: 4 }.frame();
        for at in 0..frame.len() * 8 {
            let mut spoilt = frame.clone();
            spoilt[at / 8] ^= 1 << (at % 8);
            assert!(Piece::of_frame(&spoilt).is_err(), "bit {at}");
        }
    }

    #[test]
    fn no_record_holds_a_secret() {
        for table in model::entities::TABLES.iter().filter(|table| table.records) {
            assert!(!has_secrets(table), "{}: records get their ids too late for a seal", table.name);
            assert!(time_field(table).is_some(), "{}: records are listed by a time", table.name);
        }
    }
}
