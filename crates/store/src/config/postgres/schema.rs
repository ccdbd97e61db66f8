//! The tables in PostgreSQL: made, brought up to date and rewritten by the program itself, in one transaction.
//!
//! Elsewhere: what is read from and written to them (`mod`).

use super::link::Trouble;
use crate::config::document::{self, Document, RowChange, Stored};
use crate::config::engine::Head;
use crate::config::error::ConfigError;
use crate::config::keys::Keyring;
use crate::config::migrate::{Rewrite, Steps};
use model::define::{Kind, Table};
use model::entities::TABLES;
use std::fmt::Write as _;
use tokio_postgres::{GenericClient, Row, Transaction};

/// Rows read at a time.
pub(super) const CHUNK: i64 = 1000;
/// The layout of the tables, apart from the format of the documents in them.
const LAYOUT: i32 = 1;

const TABLES_SQL: &str = "
CREATE TABLE head (one boolean PRIMARY KEY DEFAULT true CHECK (one), layout integer NOT NULL, format integer NOT NULL,
    revision bigint NOT NULL, written bigint NOT NULL, keys text NOT NULL, indexes text NOT NULL);
CREATE TABLE documents (entity text NOT NULL, id bigint NOT NULL, document json NOT NULL, PRIMARY KEY (entity, id));
CREATE TABLE next_ids (entity text PRIMARY KEY, next bigint NOT NULL);
CREATE TABLE log (revision bigint PRIMARY KEY, time_us bigint NOT NULL, who json NOT NULL, token text NOT NULL);
CREATE TABLE log_changes (revision bigint NOT NULL, place bigint NOT NULL, entity text NOT NULL, id bigint NOT NULL,
    before json, after json, PRIMARY KEY (revision, place));
CREATE INDEX log_changes_by_row ON log_changes (entity, id, revision, place);
CREATE INDEX log_changes_by_entity ON log_changes (entity, revision, place);
CREATE TABLE tokens (token text PRIMARY KEY, written bigint NOT NULL, outcome text NOT NULL);
CREATE INDEX tokens_by_age ON tokens (written);
";

/// What tables of before lack, beside [`TABLES_SQL`].
const LATER_SQL: &str = "CREATE INDEX IF NOT EXISTS log_by_who ON log ((who->>'name'), revision);";

/// Tables of records, and their names in PostgreSQL.
pub(super) fn record_tables() -> impl Iterator<Item = (&'static Table, String)> {
    TABLES.iter().copied().filter(|table| table.records).map(|table| (table, record_table(table)))
}

pub(super) fn record_table(table: &Table) -> String {
    format!("record_{}", snake(table.name))
}

/// The column of a field by which records are listed.
pub(super) fn column(field: &str) -> String {
    format!("ref_{}", snake(field))
}

/// `BillableCall` → `billable_call`; nothing but letters, digits and underscores comes out.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars().filter(char::is_ascii_alphanumeric) {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// Columns that the server computes itself, so that a new index is filled by adding it.
fn records_sql() -> String {
    let mut sql = String::new();
    for (table, name) in record_tables() {
        let _ = write!(
            sql,
            "CREATE TABLE IF NOT EXISTS {name} (id bigint PRIMARY KEY, time_us bigint NOT NULL, document json NOT NULL);
             CREATE INDEX IF NOT EXISTS {name}_by_time ON {name} (time_us, id);"
        );
        for field in document::indexed(table) {
            let column = column(field);
            if table.field(field).is_some_and(|field| matches!(field.kind, Kind::Text)) {
                let _ = write!(
                    sql,
                    "CREATE INDEX IF NOT EXISTS {name}_by_{column} ON {name} ((document->>'{field}'), time_us, id);"
                );
                continue;
            }
            let _ = write!(
                sql,
                "ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {column} bigint
                     GENERATED ALWAYS AS ((document->>'{field}')::bigint) STORED;
                 CREATE INDEX IF NOT EXISTS {name}_by_{column} ON {name} ({column}, time_us, id);"
            );
        }
    }
    sql
}

/// What our own part of the records' indexes is made from.
fn index_definitions() -> String {
    let times: Vec<String> = record_tables()
        .map(|(table, name)| format!("{name}:{}", document::time_field(table).unwrap_or_default()))
        .collect();
    times.join(",")
}

/// Makes the schema, or brings it to today's. Only one node does so at a time.
pub(super) async fn prepare(
    tx: &Transaction<'_>,
    schema: &str,
    place: &str,
    keys: &Keyring,
    steps: Steps,
) -> Result<(), Trouble> {
    tx.execute("SELECT pg_advisory_xact_lock(hashtext('carillon'), hashtext($1))", &[&schema]).await?;
    tx.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await?;
    let (name, check) = keys.check()?;
    let format = i32::try_from(steps.format()).unwrap_or(i32::MAX);
    let there: bool =
        tx.query_one("SELECT to_regclass($1) IS NOT NULL", &[&format!("{schema}.head")]).await?.try_get(0)?;
    if !there {
        tx.batch_execute(TABLES_SQL).await?;
        tx.batch_execute(LATER_SQL).await?;
        super::fence::prepare(tx).await?;
        tx.batch_execute(super::calls::SQL).await?;
        tx.batch_execute(&records_sql()).await?;
        let noted = serde_json::json!({ name: check }).to_string();
        tx.execute(
            "INSERT INTO head (layout, format, revision, written, keys, indexes) VALUES ($1, $2, 0, 0, $3, $4)",
            &[&LAYOUT, &format, &noted, &index_definitions()],
        )
        .await?;
        return Ok(());
    }
    let row = tx.query_one("SELECT layout, indexes FROM head FOR UPDATE", &[]).await?;
    let (layout, indexes): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    if layout > LAYOUT {
        let number = |number: i32| u32::try_from(number).unwrap_or(u32::MAX);
        return Err(ConfigError::Newer {
            place: place.to_owned(),
            found: number(layout),
            known: number(LAYOUT),
        }
        .into());
    }
    let mut head = head(tx, place).await?;
    let rewrite = steps.since(head.format, place)?;
    keys.knows(&head.keys)?;
    tx.batch_execute(LATER_SQL).await?;
    super::fence::prepare(tx).await?;
    tx.batch_execute(super::calls::SQL).await?;
    tx.batch_execute(&records_sql()).await?;
    let is_new_key = !head.keys.contains_key(&name);
    if rewrite.is_empty() && indexes == index_definitions() && !is_new_key {
        return Ok(());
    }
    if !rewrite.is_empty() {
        tracing::info!(
            from = head.format,
            to = format,
            what = rewrite.what(),
            "the configuration's store is brought to today's format"
        );
        rewrite_all(tx, rewrite, keys).await?;
    } else if indexes != index_definitions() {
        rewrite_records(tx, None, keys).await?;
    }
    head.keys.entry(name).or_insert(check);
    let noted = serde_json::json!(head.keys).to_string();
    tx.execute(
        "UPDATE head SET format = $1, keys = $2, indexes = $3",
        &[&format, &noted, &index_definitions()],
    )
    .await?;
    Ok(())
}

pub(super) async fn head(tx: &impl GenericClient, place: &str) -> Result<Head, Trouble> {
    let row = tx.query_one("SELECT revision, format, keys FROM head", &[]).await?;
    head_of(&row, place)
}

pub(super) fn head_of(row: &Row, place: &str) -> Result<Head, Trouble> {
    let (revision, format, keys): (i64, i32, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let damaged = |what: &str| ConfigError::Damaged { place: place.to_owned(), what: what.to_owned() };
    Ok(Head {
        revision: u64::try_from(revision).map_err(|_| damaged("its revision is no number"))?,
        format: u32::try_from(format).unwrap_or(u32::MAX),
        keys: serde_json::from_str(&keys).map_err(|_| damaged("the list of its keys is unreadable"))?,
    })
}

/// Seals everything by the first key.
pub(super) async fn reseal(tx: &Transaction<'_>, keys: &Keyring, format: u32) -> Result<(), Trouble> {
    tx.query_one("SELECT revision FROM head FOR UPDATE", &[]).await?;
    rewrite_all(tx, Rewrite::seals(format), keys).await?;
    let (name, check) = keys.check()?;
    tx.execute("UPDATE head SET keys = $1", &[&serde_json::json!({ name: check }).to_string()]).await?;
    Ok(())
}

async fn rewrite_all(tx: &Transaction<'_>, rewrite: Rewrite, keys: &Keyring) -> Result<(), Trouble> {
    let mut renamed = Vec::new();
    let mut last = (String::new(), -1);
    loop {
        let rows = tx
            .query(
                "SELECT entity, id, document::text FROM documents WHERE (entity, id) > ($1, $2) ORDER BY entity, id LIMIT $3",
                &[&last.0, &last.1, &CHUNK],
            )
            .await?;
        if rows.is_empty() {
            break;
        }
        let (mut gone, mut stay) = (Vec::new(), Vec::new());
        for row in rows {
            let mut stored = stored(&row)?;
            last = (stored.entity.clone(), i64::from(stored.id));
            let stays = rewrite.stored(&mut stored, keys)?;
            if !stays || stored.entity != last.0 {
                gone.push(last.clone());
            }
            if stays {
                if stored.entity == last.0 { stay.push(stored) } else { renamed.push(stored) }
            }
        }
        delete_documents(tx, &gone).await?;
        put_documents(tx, &stay).await?;
    }
    put_documents(tx, &renamed).await?;
    for row in tx.query("SELECT entity FROM next_ids", &[]).await? {
        let entity: String = row.try_get(0)?;
        let mut name = entity.clone();
        rewrite.name(&mut name);
        if name != entity {
            tx.execute("UPDATE next_ids SET entity = $1 WHERE entity = $2", &[&name, &entity]).await?;
        }
    }
    rewrite_records(tx, Some(rewrite), keys).await?;
    let mut last = (-1_i64, -1_i64);
    loop {
        let rows = tx
            .query(
                "SELECT revision, place, entity, id, before::text, after::text FROM log_changes
                 WHERE (revision, place) > ($1, $2) ORDER BY revision, place LIMIT $3",
                &[&last.0, &last.1, &CHUNK],
            )
            .await?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut stay = Vec::new();
        let first = last;
        for row in rows {
            let mut change = change(&row, 0)?;
            last = (signed(change.revision), i64::from(change.place));
            if rewrite.change(&mut change, keys)? {
                stay.push(change);
            }
        }
        tx.execute(
            "DELETE FROM log_changes WHERE (revision, place) > ($1, $2) AND (revision, place) <= ($3, $4)",
            &[&first.0, &first.1, &last.0, &last.1],
        )
        .await?;
        put_changes(tx, &stay).await?;
    }
}

/// Rewrites records, and the times by which they are listed.
async fn rewrite_records(
    tx: &Transaction<'_>,
    rewrite: Option<Rewrite>,
    keys: &Keyring,
) -> Result<(), Trouble> {
    for (table, name) in record_tables() {
        let mut last = -1_i64;
        loop {
            let sql = format!("SELECT id, document::text FROM {name} WHERE id > $1 ORDER BY id LIMIT $2");
            let rows = tx.query(&sql, &[&last, &CHUNK]).await?;
            if rows.is_empty() {
                break;
            }
            let (mut ids, mut stay) = (Vec::new(), Vec::new());
            for row in rows {
                last = row.try_get(0)?;
                ids.push(last);
                let document = parsed(row.try_get(1)?, table.name, last)?;
                let mut stored = Stored { entity: table.name.to_owned(), id: id(last), written: 0, document };
                let stays = match rewrite {
                    Some(rewrite) => rewrite.stored(&mut stored, keys)?,
                    None => true,
                };
                if stays {
                    stay.push(stored);
                }
            }
            tx.execute(&format!("DELETE FROM {name} WHERE id = ANY($1)"), &[&ids]).await?;
            put_records(tx, table, &stay).await?;
        }
    }
    Ok(())
}

pub(super) async fn put_documents(tx: &Transaction<'_>, rows: &[Stored]) -> Result<(), Trouble> {
    for rows in rows.chunks(5000) {
        let entities: Vec<&str> = rows.iter().map(|row| row.entity.as_str()).collect();
        let ids: Vec<i64> = rows.iter().map(|row| i64::from(row.id)).collect();
        let documents: Vec<String> = rows.iter().map(|row| text(&row.document)).collect();
        tx.execute(
            "INSERT INTO documents (entity, id, document)
             SELECT e, i, d::json FROM unnest($1::text[], $2::bigint[], $3::text[]) AS new (e, i, d)
             ON CONFLICT (entity, id) DO UPDATE SET document = excluded.document",
            &[&entities, &ids, &documents],
        )
        .await?;
    }
    Ok(())
}

pub(super) async fn delete_documents(tx: &Transaction<'_>, rows: &[(String, i64)]) -> Result<(), Trouble> {
    if rows.is_empty() {
        return Ok(());
    }
    let (entities, ids): (Vec<&str>, Vec<i64>) =
        rows.iter().map(|(entity, id)| (entity.as_str(), *id)).unzip();
    tx.execute(
        "DELETE FROM documents USING unnest($1::text[], $2::bigint[]) AS old (e, i) WHERE entity = e AND id = i",
        &[&entities, &ids],
    )
    .await?;
    Ok(())
}

/// Says how many were not there yet.
pub(super) async fn put_records(
    tx: &Transaction<'_>,
    table: &'static Table,
    rows: &[Stored],
) -> Result<u64, Trouble> {
    let mut count = 0;
    for rows in rows.chunks(5000) {
        let ids: Vec<i64> = rows.iter().map(|row| i64::from(row.id)).collect();
        let times: Vec<i64> = rows.iter().map(|row| document::time_us(table, &row.document)).collect();
        let documents: Vec<String> = rows.iter().map(|row| text(&row.document)).collect();
        let sql = format!(
            "INSERT INTO {} (id, time_us, document)
             SELECT i, t, d::json FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS new (i, t, d)
             ON CONFLICT DO NOTHING",
            record_table(table)
        );
        count += tx.execute(&sql, &[&ids, &times, &documents]).await?;
    }
    Ok(count)
}

pub(super) async fn put_changes(tx: &Transaction<'_>, changes: &[RowChange]) -> Result<(), Trouble> {
    for changes in changes.chunks(5000) {
        let revisions: Vec<i64> = changes.iter().map(|change| signed(change.revision)).collect();
        let places: Vec<i64> = changes.iter().map(|change| i64::from(change.place)).collect();
        let entities: Vec<&str> = changes.iter().map(|change| change.entity.as_str()).collect();
        let ids: Vec<i64> = changes.iter().map(|change| i64::from(change.id)).collect();
        let before: Vec<Option<String>> =
            changes.iter().map(|change| change.before.as_ref().map(text)).collect();
        let after: Vec<Option<String>> =
            changes.iter().map(|change| change.after.as_ref().map(text)).collect();
        tx.execute(
            "INSERT INTO log_changes (revision, place, entity, id, before, after)
             SELECT r, p, e, i, b::json, a::json
             FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::text[]) AS new (r, p, e, i, b, a)",
            &[&revisions, &places, &entities, &ids, &before, &after],
        )
        .await?;
    }
    Ok(())
}

/// Columns: entity, id, document.
pub(super) fn stored(row: &Row) -> Result<Stored, Trouble> {
    let (entity, number): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
    let document = parsed(row.try_get(2)?, &entity, number)?;
    Ok(Stored { entity, id: id(number), written: 0, document })
}

/// Columns: revision, place, entity, id, before, after, from this one on.
pub(super) fn change(row: &Row, at: usize) -> Result<RowChange, Trouble> {
    let (entity, number): (String, i64) = (row.try_get(at + 2)?, row.try_get(at + 3)?);
    let document = |column: usize| -> Result<Option<Document>, Trouble> {
        let text: Option<&str> = row.try_get(column)?;
        text.map(|text| parsed(text, &entity, number)).transpose()
    };
    let (before, after) = (document(at + 4)?, document(at + 5)?);
    let place: i64 = row.try_get(at + 1)?;
    Ok(RowChange {
        revision: unsigned(row.try_get(at)?),
        place: id(place),
        id: id(number),
        entity,
        before,
        after,
    })
}

pub(super) fn parsed(text: &str, entity: &str, id: i64) -> Result<Document, Trouble> {
    let damaged = |fault| ConfigError::Damaged {
        place: format!("{entity} {id}"),
        what: format!("it is no object: {fault}"),
    };
    Ok(serde_json::from_str(text).map_err(damaged)?)
}

pub(super) fn text(document: &Document) -> String {
    serde_json::to_string(document).unwrap_or_default()
}

/// A number that somebody else wrote may be anything.
pub(super) fn id(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
