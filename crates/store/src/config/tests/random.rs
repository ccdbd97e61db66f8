//! Anything in any order, by seeds, beside a plain model of what the store should hold.
//!
//! In: a seed. It makes writers that are late, records, reopenings, backups and trims; a failure names the seed.

use super::fixture::{Dice, Fixture, catch_up, create, delete, edit, made, now, picture, small, table, who};
use crate::config::{ConfigStore, Keep, Outcome, RecordQuery};
use model::draft::Change;
use model::import;
use model::rows::Rows;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::time::Duration;

const SEEDS: u64 = 4;
const STEPS: u32 = 40;

pub(super) async fn anything_in_any_order(place: Fixture) {
    drop(place.open().await);
    // A round of messages takes longer than a step in a file.
    let seeds = if place.is_shared() { SEEDS / 2 } else { SEEDS };
    for seed in 0..seeds {
        let place = place.another();
        let mut world = World::new(&place, seed).await;
        for step in 0..STEPS {
            world.step(&place).await;
            world.check(&format!("seed {seed}, step {step}")).await;
        }
    }
}

/// The store, and what it should hold.
struct World {
    dice: Dice,
    store: ConfigStore,
    /// The truth.
    rows: Rows,
    records: BTreeMap<u32, Json>,
    next_record: u32,
    /// Writers, some of them behind.
    writers: Vec<Rows>,
}

impl World {
    async fn new(place: &Fixture, seed: u64) -> Self {
        let store = place.open().await;
        super::fixture::commit(&store, 0, &small()).await;
        let rows = store.load().await.unwrap();
        let writers = vec![rows.clone(); 3];
        Self { dice: Dice(seed), store, rows, records: BTreeMap::new(), next_record: 1, writers }
    }

    async fn step(&mut self, place: &Fixture) {
        match self.dice.next(12) {
            0..=4 => self.commit().await,
            5 => {
                let writer = self.dice.next(3) as usize;
                catch_up(&self.store, &mut self.writers[writer]).await;
                assert_eq!(picture(&self.writers[writer]), picture(&self.rows));
            }
            6..=7 => self.append().await,
            8 => self.change_record().await,
            9 => self.store = reopened(place, &self.store).await,
            10 => {
                let path = place.dir.path().join("backup");
                self.store.backup(&path).await.unwrap();
                let other = place.another();
                let restored = other.open().await;
                restored.restore(&path).await.unwrap();
                assert_eq!(picture(&restored.load().await.unwrap()), picture(&self.rows));
            }
            _ => {
                let keep = Keep { revisions: 1, age: Duration::from_secs(60) };
                self.store.trim(keep, now(), None).await.unwrap();
            }
        }
    }

    async fn commit(&mut self) {
        let writer = self.dice.next(3) as usize;
        let rows = self.writers[writer].clone();
        let mut changes: Vec<Change> = Vec::new();
        let mut next = rows.next_id(table("RoutingTag"));
        for _ in 0..=self.dice.next(4) {
            let number = self.dice.next(1000);
            let tags: Vec<u32> = rows.all(table("RoutingTag")).map(|row| row.id()).collect();
            let some = tags.get(self.dice.next(tags.len().max(1) as u64) as usize).copied();
            let is_free =
                |id: u32| !changes.iter().any(|change| change.table.name == "RoutingTag" && change.id == id);
            match (self.dice.next(4), some) {
                (0, Some(id)) if is_free(id) => changes.push(delete(&rows, "RoutingTag", id)),
                (1, Some(id)) if is_free(id) => {
                    changes.push(edit(&rows, "RoutingTag", id, &[("tag", json!(number.to_string()))]));
                }
                (2, _) if !changes.iter().any(|change| change.table.name == "Terminal") => {
                    changes.push(edit(&rows, "Terminal", 1, &[("password", json!(format!("p{number}")))]));
                }
                _ => {
                    changes.push(create(made(
                        "RoutingTag",
                        next,
                        &[("name", json!(format!("n{number}"))), ("brand", json!(1))],
                    )));
                    next += 1;
                }
            }
        }
        let changes: Vec<Change> = changes
            .into_iter()
            .filter(|change| {
                change
                    .before
                    .as_ref()
                    .zip(change.after.as_ref())
                    .is_none_or(|(before, after)| !model::draft::alike(&**before, &**after))
            })
            .collect();
        if changes.is_empty() {
            return;
        }
        let outcome = self.store.commit(rows.revision, &changes, &who(), now()).await.unwrap();
        if rows.revision != self.rows.revision {
            assert_eq!(outcome, Outcome::Conflict { head: self.rows.revision });
            return;
        }
        self.rows.revision += 1;
        assert_eq!(outcome, Outcome::Done { revision: self.rows.revision, records: Vec::new() });
        for change in changes {
            match change.after {
                Some(row) => self.rows.insert(row),
                None => self.rows.remove(change.table, change.id),
            }
        }
    }

    async fn append(&mut self) {
        let count = 1 + self.dice.next(4) as u32;
        let rows: Vec<_> = (0..count).map(|at| self.call(self.next_record + at)).collect();
        let ids = self.store.append(rows.clone()).await.unwrap();
        assert_eq!(ids, (self.next_record..self.next_record + count).collect::<Vec<_>>());
        for (id, row) in ids.into_iter().zip(rows) {
            self.records.insert(id, Json::Object(import::document(&*row)));
        }
        self.next_record += count;
    }

    fn call(&mut self, id: u32) -> model::rows::Row {
        let second = self.dice.next(40);
        let fields = [
            ("startTime", json!(format!("2026-01-01 00:00:{second:02}"))),
            ("company", json!(1 + self.dice.next(3))),
            ("duration", json!(self.dice.next(100))),
        ];
        made("BillableCall", id, &fields)
    }

    async fn change_record(&mut self) {
        let ids: Vec<u32> = self.records.keys().copied().collect();
        let Some(id) = ids.get(self.dice.next(ids.len().max(1) as u64) as usize).copied() else { return };
        if self.dice.next(2) == 0 {
            self.store.remove(table("BillableCall"), id).await.unwrap();
            self.records.remove(&id);
        } else {
            let row = self.call(id);
            self.records.insert(id, Json::Object(import::document(&*row)));
            self.store.change(row).await.unwrap();
        }
    }

    async fn check(&mut self, at: &str) {
        if self.dice.next(4) == 0 {
            assert_eq!(picture(&self.store.load().await.unwrap()), picture(&self.rows), "{at}");
        }
        let company = 1 + self.dice.next(3) as u32;
        let query = RecordQuery {
            reference: Some(("company", company)),
            newest_first: self.dice.next(2) == 0,
            offset: self.dice.next(3) as usize,
            limit: 1 + self.dice.next(5) as usize,
            ..RecordQuery::new(table("BillableCall"))
        };
        let mut expected: Vec<(&str, u32, &Json)> = Vec::new();
        for (id, record) in &self.records {
            if record["company"] == json!(company) {
                expected.push((record["startTime"].as_str().unwrap(), *id, record));
            }
        }
        expected.sort_by_key(|(time, id, _)| (*time, *id));
        if query.newest_first {
            expected.reverse();
        }
        let page = self.store.query(&query).await.unwrap();
        assert_eq!(page.total, expected.len() as u64, "{at}");
        let found: Vec<Json> = page.rows.iter().map(|row| Json::Object(import::document(&**row))).collect();
        let wanted: Vec<Json> = expected
            .iter()
            .skip(query.offset)
            .take(query.limit)
            .map(|(_, _, record)| (*record).clone())
            .collect();
        assert_eq!(found, wanted, "{at}");
    }
}

/// Another store of the same place; the file's has to be closed first.
async fn reopened(place: &Fixture, store: &ConfigStore) -> ConfigStore {
    if !place.is_shared() {
        store.close_for_test();
    }
    place.open().await
}
