//! Files that were spoilt: damage is told and never a panic, and what can be read is saved.
//!
//! Elsewhere: power cuts, which spoil nothing (`crash_file`).

use super::fixture::{Dice, Fixture, commit, delete, edit, keys, made, picture, small, table};
use crate::config::file::tables::ROWS;
use crate::config::{ConfigError, ConfigOptions, ConfigPlace, ConfigStore, RecordQuery, salvage};
use model::rows::Rows;
use serde_json::json;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A closed store's directory, and what is in it.
async fn filled() -> (TempDir, Rows) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    commit(&store, 0, &small()).await;
    let rows = store.load().await.unwrap();
    let changes = [edit(&rows, "RoutingTag", 1, &[("tag", json!("newer"))]), delete(&rows, "RoutingTag", 2)];
    commit(&store, 1, &changes).await;
    let calls = (0..20).map(|number| made("BillableCall", 0, &[("callid", json!(format!("c{number}")))]));
    store.append(calls.collect()).await.unwrap();
    (dir, store.load().await.unwrap())
}

async fn open(dir: &Path) -> Result<ConfigStore, ConfigError> {
    ConfigStore::open(ConfigOptions::new(ConfigPlace::Directory(dir.to_owned()), keys(&["a"]))).await
}

fn places(bytes: &[u8], text: &str) -> Vec<usize> {
    let windows = bytes.windows(text.len()).enumerate();
    windows.filter(|(_, window)| *window == text.as_bytes()).map(|(at, _)| at).collect()
}

async fn restored(backup: &Path) -> (Fixture, ConfigStore) {
    let place = Fixture::file();
    let store = place.open().await;
    store.restore(backup).await.unwrap();
    (place, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_file_is_salvaged_whole() {
    let (dir, rows) = filled().await;
    let backup = dir.path().join("backup");
    let salvaged = salvage(dir.path(), &backup).unwrap();
    assert!(salvaged.lost.is_empty(), "{:?}", salvaged.lost);
    assert_eq!((salvaged.saved.revision, salvaged.saved.records), (2, 20));
    let (_place, store) = restored(&backup).await;
    assert_eq!(picture(&store.load().await.unwrap()), picture(&rows));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_file_is_damage_and_no_new_store_takes_its_place() {
    let (dir, _) = filled().await;
    let file = dir.path().join("configuration.redb");
    fs::write(&file, "").unwrap();
    let error = open(dir.path()).await.unwrap_err();
    assert!(matches!(&error, ConfigError::Damaged { what, .. } if what.contains("empty")), "{error}");
    assert_eq!(fs::metadata(&file).unwrap().len(), 0);
    // One that a start of before left half made, by another name, is in nobody's way.
    fs::rename(&file, dir.path().join("configuration.redb.new")).unwrap();
    assert_eq!(open(dir.path()).await.unwrap().load().await.unwrap().revision, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_of_a_row_is_told_and_the_rest_is_saved() {
    let (dir, rows) = filled().await;
    let file = dir.path().join("configuration.redb");
    let whole = fs::read(&file).unwrap();
    let mut spoilt = whole.clone();
    // Whichever version of the row is the current one: those in the log stay whole.
    for at in places(&whole, "{\"row\":{\"entity\":\"RoutingTag\",\"id\":1,") {
        spoilt[at + 60] ^= 4;
    }
    // A record has no other version anywhere.
    for at in places(&whole, "\"callid\":\"c7\"") {
        spoilt[at + 11] ^= 4;
    }
    fs::write(&file, &spoilt).unwrap();
    let store = open(dir.path()).await.unwrap();
    let error = store.load().await.unwrap_err();
    assert!(matches!(&error, ConfigError::Damaged { what, .. } if what.contains("RoutingTag 1")), "{error}");
    let error = store.query(&RecordQuery::new(table("BillableCall"))).await.unwrap_err();
    assert!(
        matches!(&error, ConfigError::Damaged { what, .. } if what.contains("BillableCall 8")),
        "{error}"
    );
    assert!(store.backup(&dir.path().join("none")).await.is_err(), "a backup of a damaged store is none");
    assert!(!dir.path().join("none").exists());
    drop(store);
    let backup = dir.path().join("backup");
    let salvaged = salvage(dir.path(), &backup).unwrap();
    assert!(salvaged.lost.iter().any(|line| line == "BillableCall 8: lost"), "{:?}", salvaged.lost);
    assert_eq!(salvaged.saved.records, 19);
    let (_place, store) = restored(&backup).await;
    assert_eq!(picture(&store.load().await.unwrap()), picture(&rows), "the log had the row");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_no_database_any_more_is_told_and_searched() {
    let (dir, rows) = filled().await;
    let file = dir.path().join("configuration.redb");
    let whole = fs::read(&file).unwrap();
    let mut spoilt = whole.clone();
    spoilt[..4096].fill(0);
    fs::write(&file, &spoilt).unwrap();
    let error = open(dir.path()).await.unwrap_err();
    assert!(matches!(&error, ConfigError::Damaged { .. }), "{error:?}");
    let backup = dir.path().join("backup");
    let salvaged = salvage(dir.path(), &backup).unwrap();
    assert!(salvaged.lost[0].starts_with("the file as a database"), "{:?}", salvaged.lost);
    let (_place, store) = restored(&backup).await;
    assert_eq!(picture(&store.load().await.unwrap()), picture(&rows));
    assert_eq!(store.query(&RecordQuery::new(table("BillableCall"))).await.unwrap().total, 20);
    assert_eq!(fs::read(&file).unwrap(), spoilt, "the wreck is left as it was");
}

/// A spoilt page may make the database see less than there is, without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_missing_is_noticed_and_found() {
    let (dir, rows) = filled().await;
    let db = redb::Database::open(dir.path().join("configuration.redb")).unwrap();
    let mut write = db.begin_write().unwrap();
    write.set_durability(redb::Durability::Immediate).unwrap();
    write.open_table(ROWS).unwrap().remove(("Terminal", 2)).unwrap();
    write.commit().unwrap();
    drop(db);
    let store = open(dir.path()).await.unwrap();
    let error = store.load().await.unwrap_err();
    assert!(matches!(&error, ConfigError::Damaged { what, .. } if what.contains("missing")), "{error}");
    assert!(store.backup(&dir.path().join("none")).await.is_err());
    drop(store);
    let backup = dir.path().join("backup");
    let salvaged = salvage(dir.path(), &backup).unwrap();
    assert!(salvaged.lost[0].contains("missing"), "{:?}", salvaged.lost);
    let (_place, store) = restored(&backup).await;
    assert_eq!(picture(&store.load().await.unwrap()), picture(&rows));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_spoilt_nothing_panics_and_nothing_less_is_read() {
    let (dir, rows) = filled().await;
    let file = dir.path().join("configuration.redb");
    let whole = fs::read(&file).unwrap();
    let right = picture(&rows);
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let mut spoilt = whole.clone();
        match dice.next(3) {
            0 => spoilt.truncate(dice.next(whole.len() as u64) as usize),
            1 => {
                let at = dice.next(whole.len() as u64) as usize;
                let end = (at + 512).min(whole.len());
                spoilt[at..end].fill(0);
            }
            _ => {
                for _ in 0..20 {
                    let at = dice.next(whole.len() as u64) as usize;
                    spoilt[at] ^= 1 << dice.next(8);
                }
            }
        }
        fs::write(&file, &spoilt).unwrap();
        let backup = dir.path().join("backup");
        let salvaged = salvage(dir.path(), &backup);
        assert!(salvaged.is_ok(), "seed {seed}: {salvaged:?}");
        if let Ok(store) = open(dir.path()).await
            && let Ok(loaded) = store.load().await
        {
            assert_eq!(picture(&loaded), right, "seed {seed}: what is read is right, and all of it");
        }
    }
}
