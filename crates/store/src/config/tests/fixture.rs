//! Places for a store, the sample system's rows, and changes made by hand.
//!
//! Elsewhere: the PostgreSQL server (`server`).

use super::server::server;
use crate::config::migrate::Steps;
use crate::config::{
    Changes, ConfigError, ConfigOptions, ConfigPlace, ConfigStore, Keyring, Outcome, PostgresPlace,
};
use jiff::Timestamp;
use model::define::{Reading, SecretHasher, Table};
use model::draft::Change;
use model::import;
use model::rows::{Row, Rows};
use serde_json::{Value as Json, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tempfile::TempDir;

/// A place for a store, empty at first.
pub(super) struct Fixture {
    pub(super) place: ConfigPlace,
    pub(super) dir: TempDir,
}

impl Fixture {
    pub(super) fn file() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { place: ConfigPlace::Directory(dir.path().join("data")), dir }
    }

    pub(super) fn postgres() -> Self {
        Self::postgres_at(server().port)
    }

    pub(super) fn postgres_at(port: u16) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let schema = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let place = ConfigPlace::Postgres(PostgresPlace::new(connection(port), schema));
        Self { place, dir: tempfile::tempdir().unwrap() }
    }

    /// Another one of the same kind.
    pub(super) fn another(&self) -> Self {
        if self.is_shared() { Self::postgres() } else { Self::file() }
    }

    /// Another one of the other kind.
    pub(super) fn other(&self) -> Self {
        if self.is_shared() { Self::file() } else { Self::postgres() }
    }

    /// Several nodes can open it.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.place, ConfigPlace::Postgres(_))
    }

    pub(super) fn options(&self) -> ConfigOptions {
        let mut options = ConfigOptions::new(self.place.clone(), keys(&["a"]));
        options.patience = Duration::from_secs(8);
        options
    }

    pub(super) async fn open(&self) -> ConfigStore {
        self.try_open(&["a"]).await.unwrap()
    }

    pub(super) async fn try_open(&self, names: &[&str]) -> Result<ConfigStore, ConfigError> {
        let mut options = self.options();
        options.keys = keys(names);
        ConfigStore::open(options).await
    }

    pub(super) async fn open_with(&self, steps: Steps) -> Result<ConfigStore, ConfigError> {
        let mut options = self.options();
        options.steps = steps;
        ConfigStore::open(options).await
    }
}

pub(super) fn connection(port: u16) -> String {
    format!("host=127.0.0.1 port={port} user=carillon dbname=postgres")
}

/// Keys whose bytes are their name.
pub(super) fn keys(names: &[&str]) -> Keyring {
    Keyring::new(names.iter().map(|name| ((*name).to_owned(), [name.as_bytes()[0]; 32]))).unwrap()
}

struct PlainHasher;

impl SecretHasher for PlainHasher {
    fn hash(&self, password: &str) -> String {
        format!("hash of {password}")
    }
}

pub(super) fn now() -> Timestamp {
    "2026-01-31T12:00:00Z".parse().unwrap()
}

/// The sample system.
pub(super) fn sample() -> (Rows, Vec<Change>) {
    static SAMPLE: LazyLock<(Rows, Vec<Change>)> = LazyLock::new(|| {
        let text = include_str!("../../../../../tests/data/sample-system.json");
        let document = serde_json::from_str(text).unwrap();
        let (rows, changes, _) =
            import::import(&document, &Rows::default(), true, now(), &PlainHasher).unwrap();
        (rows, changes)
    });
    SAMPLE.clone()
}

pub(super) fn table(name: &str) -> &'static Table {
    model::entities::table(name).unwrap()
}

/// The sample system's rows that no entity but these needs: few, so that a test of many steps is fast.
pub(super) fn small() -> Vec<Change> {
    let wanted = ["Brand", "Company", "Terminal", "RoutingTag", "Carrier"];
    sample().1.into_iter().filter(|change| wanted.contains(&change.table.name)).collect()
}

pub(super) fn who() -> Json {
    json!({ "author": "admin", "level": "platform" })
}

/// Commits and expects it to be kept; gives the revision.
pub(super) async fn commit(store: &ConfigStore, expected: u64, changes: &[Change]) -> u64 {
    match store.commit(expected, changes, &who(), now()).await.unwrap() {
        Outcome::Done { revision, .. } => revision,
        Outcome::Conflict { head } => panic!("the head is {head}, not {expected}"),
    }
}

/// A row with some fields set.
pub(super) fn with(row: &Row, fields: &[(&str, Json)]) -> Row {
    let mut row = row.copy();
    for (name, value) in fields {
        let place = row.table().place(name).unwrap();
        row.set(place, value, &Reading::stored(now())).unwrap();
    }
    Arc::from(row)
}

/// A row of defaults with an id and some fields set.
pub(super) fn made(name: &str, id: u32, fields: &[(&str, Json)]) -> Row {
    let mut row = (table(name).make)();
    row.set_id(id);
    with(&Arc::from(row), fields)
}

pub(super) fn create(row: Row) -> Change {
    Change { table: row.table(), id: row.id(), before: None, after: Some(row) }
}

pub(super) fn edit(rows: &Rows, name: &str, id: u32, fields: &[(&str, Json)]) -> Change {
    let before = rows.row(table(name), id).unwrap().clone();
    Change { table: before.table(), id, after: Some(with(&before, fields)), before: Some(before) }
}

pub(super) fn delete(rows: &Rows, name: &str, id: u32) -> Change {
    Change { table: table(name), id, before: rows.row(table(name), id).cloned(), after: None }
}

/// What of the rows must be the same everywhere: documents and next ids, records aside.
pub(super) fn picture(rows: &Rows) -> Json {
    let mut picture = json!({ "revision": rows.revision });
    for table in model::entities::TABLES.iter().filter(|table| !table.records) {
        let documents: Vec<Json> =
            rows.all(table).map(|row| Json::Object(import::document(&**row))).collect();
        picture[table.name] = json!({ "next": rows.next_id(table), "rows": documents });
    }
    picture
}

/// Follows the log to the head.
pub(super) async fn catch_up(store: &ConfigStore, rows: &mut Rows) {
    loop {
        match store.changes_since(rows.revision, 7).await.unwrap() {
            Changes::Revisions(revisions) if revisions.is_empty() => return,
            Changes::Revisions(revisions) => revisions.iter().for_each(|revision| revision.apply(rows)),
            Changes::Reload => *rows = store.load().await.unwrap(),
        }
    }
}

/// Splitmix64.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % below
    }
}
