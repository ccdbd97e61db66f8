//! The file on a disk whose power goes at any moment: nothing acknowledged is lost, nothing is half there or there twice.
//!
//! Elsewhere: the disk (`sim`).

use super::fixture::{Fixture, create, edit, keys, made, now, picture, table, who};
use crate::config::media::Media;
use crate::config::migrate::{Migration, Steps};
use crate::config::{ConfigError, ConfigStore, Outcome, RecordQuery, Token};
use crate::disk::Disk;
use crate::sim::SimDisk;
use model::draft::Change;
use redb::{Builder, Database, DatabaseError};
use serde_json::{Value as Json, json};
use std::sync::Arc;

struct SimMedia(SimDisk);

impl Media for SimMedia {
    fn name(&self) -> String {
        "the simulated file".to_owned()
    }

    fn database(&self, builder: &Builder, may_make: bool) -> Result<Database, DatabaseError> {
        self.0.database(builder, may_make)
    }
}

pub(super) async fn open(disk: &SimDisk) -> Result<ConfigStore, ConfigError> {
    open_with(disk, Steps::default()).await
}

async fn open_with(disk: &SimDisk, steps: Steps) -> Result<ConfigStore, ConfigError> {
    let mut options = Fixture::file().options();
    (options.keys, options.steps, options.cache_bytes) = (keys(&["a"]), steps, 1 << 20);
    let disk = disk.clone();
    ConfigStore::open_on(move || Ok(Arc::new(SimMedia(disk)) as Arc<dyn Media>), options).await
}

/// What is done, one after the other.
#[derive(Clone)]
struct Script {
    tokens: [Token; 4],
}

const STEPS: usize = 4;

impl Script {
    fn new() -> Self {
        Self { tokens: [Token::random(), Token::random(), Token::random(), Token::random()] }
    }

    /// Does a step, by its token.
    async fn step(&self, store: &ConfigStore, step: usize) -> Result<(), ConfigError> {
        let token = self.tokens[step];
        let tag = |id: u32, text: &str| made("RoutingTag", id, &[("tag", json!(text)), ("brand", json!(1))]);
        let movement = create(made("BalanceMovement", 0, &[("company", json!(1)), ("amount", json!(step))]));
        let (expected, changes): (u64, Vec<Change>) = match step {
            0 => (1, vec![create(tag(2, "two")), create(tag(3, "three")), movement]),
            1 => {
                let rows = (0..3).map(|_| made("BillableCall", 0, &[("company", json!(1))])).collect();
                return store.append_as(token, rows).await.map(drop);
            }
            2 => {
                let mut change = create(tag(2, "two"));
                change.before = change.after.take();
                (2, vec![change, create(made("Terminal", 1, &[("password", json!("hush"))]))])
            }
            _ => {
                let rows = store.load().await?;
                if rows.row(table("RoutingTag"), 3).is_none() {
                    return Ok(());
                }
                (3, vec![edit(&rows, "RoutingTag", 3, &[("tag", json!("changed"))]), movement])
            }
        };
        match store.commit_as(token, expected, &changes, &who(), now()).await? {
            Outcome::Done { revision, .. } => assert_eq!(revision, expected + 1),
            Outcome::Conflict { head } => panic!("step {step} conflicts with {head}"),
        }
        Ok(())
    }
}

/// All that is in the store.
async fn all(store: &ConfigStore) -> Json {
    let mut all = picture(&store.load().await.unwrap());
    for name in ["BillableCall", "BalanceMovement"] {
        let whole = store.query(&RecordQuery::new(table(name))).await.unwrap();
        let of_company = RecordQuery { reference: Some(("company", 1)), ..RecordQuery::new(table(name)) };
        assert_eq!(store.query(&of_company).await.unwrap().total, whole.total, "index and records agree");
        let documents = whole.rows.iter().map(|row| Json::Object(model::import::document(&**row)));
        all[name] = documents.collect();
    }
    let log = store.log(&crate::config::LogQuery { limit: 100, ..Default::default() }).await.unwrap();
    all["log"] =
        log.changes.iter().map(|change| json!([change.revision, change.entity, change.id])).collect();
    all
}

/// A disk with one revision on it, and what the store holds after each step.
async fn prepared() -> (SimDisk, Vec<Json>, u64) {
    let disk = SimDisk::new();
    let store = open(&disk).await.unwrap();
    let first = create(made("RoutingTag", 1, &[("tag", json!("one")), ("brand", json!(1))]));
    super::fixture::commit(&store, 0, &[first]).await;
    drop(store);
    let base = disk.after_kill();
    let disk = base.after_kill();
    let store = open(&disk).await.unwrap();
    let mut pictures = vec![all(&store).await];
    let (script, begin) = (Script::new(), disk.operations());
    for step in 0..STEPS {
        script.step(&store, step).await.unwrap();
        pictures.push(all(&store).await);
    }
    let operations = disk.operations() - begin;
    (base, pictures, operations)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_at_any_operation_loses_nothing_acknowledged() {
    let (base, pictures, operations) = prepared().await;
    assert!(operations > 40, "{operations}");
    for cut in 0..operations {
        let disk = base.after_kill();
        let store = open(&disk).await.unwrap();
        let script = Script::new();
        disk.cut_after(cut);
        let mut done = 0;
        while done < STEPS && script.step(&store, done).await.is_ok() {
            done += 1;
        }
        drop(store);
        // The power may have gone while the file was closed, which nobody waits for.
        let wrecks = [disk.after_kill(), disk.after_power_cut(cut)];
        for (number, wreck) in wrecks.into_iter().enumerate() {
            let at = format!("cut {cut}, wreck {number}, {done} steps acknowledged");
            let store = open(&wreck).await.unwrap_or_else(|error| panic!("{at}: {error}"));
            let found = all(&store).await;
            let last = pictures.iter().position(|picture| *picture == found);
            assert!(last.is_some_and(|last| last == done || last == done + 1), "{at}: state {last:?}");
            // The one that was not acknowledged is done again, by the same token.
            for step in done..STEPS {
                script.step(&store, step).await.unwrap();
            }
            assert_eq!(all(&store).await, pictures[STEPS], "{at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_once_costs_no_change_and_doubles_none() {
    let (base, pictures, operations) = prepared().await;
    for failure in 0..operations {
        let disk = base.after_kill();
        let store = open(&disk).await.unwrap();
        let script = Script::new();
        disk.fail_once_after(failure);
        for step in 0..STEPS {
            let mut times = 0;
            while let Err(error) = script.step(&store, step).await {
                assert!(error.is_retryable() && times < 3, "failure {failure}, step {step}: {error:?}");
                if matches!(error, ConfigError::Unavailable { .. }) {
                    assert_eq!(
                        all(&store).await,
                        pictures[step],
                        "failure {failure}: it said that nothing was changed"
                    );
                }
                times += 1;
            }
            assert_eq!(all(&store).await, pictures[step + 1], "failure {failure}, step {step}");
        }
        drop(store);
        let store = open(&disk.after_power_cut(failure)).await.unwrap();
        assert_eq!(all(&store).await, pictures[STEPS], "failure {failure}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_that_were_one_transaction_are_each_whole_and_there_once() {
    const CALLERS: u32 = 6;
    let (base, ..) = prepared().await;
    for cut in (0..60).step_by(2) {
        let disk = base.after_kill();
        let store = Arc::new(open(&disk).await.unwrap());
        disk.cut_after(cut);
        let callers = (0..CALLERS).map(|caller| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let name = format!("caller {caller}");
                let rows = (0..2).map(|_| made("UsersCdr", 0, &[("callid", json!(name))])).collect();
                store.append(rows).await
            })
        });
        let mut kept: Vec<(u32, Vec<u32>)> = Vec::new();
        for (caller, task) in callers.collect::<Vec<_>>().into_iter().enumerate() {
            match task.await.unwrap() {
                Ok(ids) => kept.push((caller as u32, ids)),
                Err(error) => assert!(error.is_retryable(), "cut {cut}: {error:?}"),
            }
        }
        drop(store);
        for wreck in [disk.after_kill(), disk.after_power_cut(cut)] {
            let store = open(&wreck).await.unwrap();
            let page = store.query(&RecordQuery::new(table("UsersCdr"))).await.unwrap();
            let of = |caller: u32| {
                let name = format!("caller {caller}");
                let rows =
                    page.rows.iter().filter(move |row| row.named("callid").text() == Some(name.as_str()));
                rows.map(|row| row.id()).collect::<Vec<_>>()
            };
            for caller in 0..CALLERS {
                assert!(matches!(of(caller).len(), 0 | 2), "cut {cut}: all or none, once");
            }
            for (caller, ids) in &kept {
                let mut found = of(*caller);
                found.sort_unstable();
                assert_eq!(found, *ids, "cut {cut}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_while_the_store_is_made_leaves_an_empty_one() {
    for cut in 0.. {
        let disk = SimDisk::new();
        disk.cut_after(cut);
        let is_made = open(&disk).await.is_ok();
        for wreck in [disk.after_kill(), disk.after_power_cut(cut)] {
            let store = open(&wreck).await.unwrap_or_else(|error| panic!("cut {cut}: {error}"));
            assert_eq!(store.load().await.unwrap().revision, 0);
        }
        if is_made && !disk.is_cut() {
            assert!(cut > 10, "{cut}");
            return;
        }
    }
}

static CAPITALS: [Migration; 1] = [Migration {
    what: "tags in capitals",
    document: |_, document| {
        if let Some(tag) = document.get("tag").and_then(Json::as_str) {
            let tag = format!("{tag}!");
            document.insert("tag".to_owned(), json!(tag));
        }
        Ok(true)
    },
}];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_while_formats_change_leaves_the_old_or_the_new() {
    let (base, ..) = prepared().await;
    for cut in 0.. {
        let disk = base.after_kill();
        disk.cut_after(cut);
        let is_done = open_with(&disk, Steps::of(&CAPITALS)).await.is_ok();
        for wreck in [disk.after_kill(), disk.after_power_cut(cut)] {
            match open(&wreck).await {
                Ok(store) => {
                    assert!(!is_done, "cut {cut}: it was done");
                    let rows = store.load().await.unwrap();
                    assert_eq!(
                        rows.row(table("RoutingTag"), 1).unwrap().named("tag").text(),
                        Some("one"),
                        "cut {cut}"
                    );
                }
                Err(error) => assert!(matches!(error, ConfigError::Newer { .. }), "cut {cut}: {error}"),
            }
            let store = open_with(&wreck, Steps::of(&CAPITALS)).await.unwrap();
            let rows = store.load().await.unwrap();
            assert_eq!(
                rows.row(table("RoutingTag"), 1).unwrap().named("tag").text(),
                Some("one!"),
                "cut {cut}"
            );
        }
        if is_done && !disk.is_cut() {
            return;
        }
    }
}
