//! Older and newer formats: steps that rewrite documents, and a file of the first format that was written long ago.
//!
//! The steps are the tests' own; the product's are in `migrate`.

use super::fixture::{Fixture, catch_up, commit, create, keys, made, now, picture, small, table};
use crate::config::migrate::{Migration, Steps};
use crate::config::{ConfigError, ConfigOptions, ConfigPlace, ConfigStore, LogQuery, RecordQuery};
use model::rows::Rows;
use serde_json::json;
use std::path::Path;

/// The first format's `RoutingTag.tag` is called so in the second, in the tests' imagination; here it is moved the other way,
/// so that today's model reads the result.
static STEPS: [Migration; 2] = [
    Migration {
        what: "a routing tag's name is written in capitals",
        document: |entity, document| {
            if entity == "RoutingTag"
                && let Some(name) = document.get("name").and_then(|name| name.as_str())
            {
                let name = name.to_uppercase();
                document.insert("name".to_owned(), json!(name));
            }
            Ok(true)
        },
    },
    Migration {
        what: "records of users' calls are marked, carriers are dropped, a terminal's password is not what it was",
        document: |entity, document| {
            if entity == "UsersCdr" {
                document.insert("owner".to_owned(), json!("migrated"));
            }
            if entity == "Terminal"
                && let Some(password) = document.get("password").and_then(|password| password.as_str())
            {
                assert!(!password.starts_with("sealed:"), "steps see passwords open");
                let password = format!("{password}!");
                document.insert("password".to_owned(), json!(password));
            }
            Ok(entity != "Carrier")
        },
    },
];

static FAILING: [Migration; 1] = [Migration {
    what: "nothing",
    document: |entity, document| match document.get("id").and_then(|id| id.as_u64()) {
        Some(2) if entity == "RoutingTag" => Err("there is no way".to_owned()),
        _ => {
            document.insert("name".to_owned(), json!("spoilt"));
            Ok(true)
        }
    },
}];

pub(super) async fn documents_are_brought_to_a_newer_format(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &small()).await;
    store.append(vec![made("UsersCdr", 0, &[("company", json!(1))])]).await.unwrap();
    let old_backup = place.dir.path().join("old");
    store.backup(&old_backup).await.unwrap();
    drop(store);
    let migrated = place.open_with(Steps::of(&STEPS)).await.unwrap();
    let elsewhere = place.another();
    let restored = elsewhere.open_with(Steps::of(&STEPS)).await.unwrap();
    restored.restore(&old_backup).await.unwrap();
    for store in [&migrated, &restored] {
        let rows = store.load().await.unwrap();
        assert_eq!(rows.row(table("RoutingTag"), 1).unwrap().named("name").text(), Some("TAGNAME"));
        assert_eq!(rows.row(table("Terminal"), 1).unwrap().named("password").text(), Some("AUfVkn498_!"));
        assert_eq!(rows.count(table("Carrier")), 0);
        assert_eq!(rows.next_id(table("Carrier")), 3, "ids are not used again");
        let record = store.query(&RecordQuery::new(table("UsersCdr"))).await.unwrap().rows.remove(0);
        assert_eq!(record.named("owner").text(), Some("migrated"));
        let mut followed = Rows::default();
        catch_up(store, &mut followed).await;
        assert_eq!(followed.row(table("RoutingTag"), 1).unwrap().named("name").text(), Some("TAGNAME"));
        let query = LogQuery { entity: Some("Carrier".to_owned()), limit: 5, ..LogQuery::default() };
        assert!(store.log(&query).await.unwrap().changes.is_empty());
    }
    // Twice is once.
    drop(migrated);
    let again = place.open_with(Steps::of(&STEPS)).await.unwrap();
    assert_eq!(
        again.load().await.unwrap().row(table("Terminal"), 1).unwrap().named("password").text(),
        Some("AUfVkn498_!")
    );
}

pub(super) async fn a_migration_that_fails_changes_nothing(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &small()).await;
    let before = picture(&store.load().await.unwrap());
    drop(store);
    let error = place.open_with(Steps::of(&FAILING)).await.unwrap_err();
    assert!(matches!(&error, ConfigError::Migration { id: 2, from: 1, .. }), "{error}");
    assert_eq!(picture(&place.open().await.load().await.unwrap()), before);
}

pub(super) async fn a_newer_store_is_refused(place: Fixture) {
    let old = if place.is_shared() { Some(place.open().await) } else { None };
    drop(place.open_with(Steps::of(&STEPS)).await.unwrap());
    let error = place.try_open(&["a"]).await.unwrap_err();
    assert!(matches!(&error, ConfigError::Newer { found: 3, known: 1, .. }), "{error}");
    if let Some(old) = old {
        let tag = create(made("RoutingTag", 1, &[]));
        let error = old.commit(0, &[tag], &json!(null), now()).await.unwrap_err();
        assert!(matches!(&error, ConfigError::Newer { .. }), "an older node still runs: {error}");
    }
}

/// A file that this test made when the format was new: `CARILLON_WRITE=1` writes another one, which no other format may need.
const FIRST_FORMAT: &str = "tests/data/configuration-format-1.redb";

#[tokio::test]
async fn a_file_of_the_first_format_is_still_read() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIRST_FORMAT);
    let file = dir.path().join("configuration.redb");
    let options = || ConfigOptions::new(ConfigPlace::Directory(dir.path().to_owned()), keys(&["a"]));
    if std::env::var_os("CARILLON_WRITE").is_some() {
        let store = ConfigStore::open(options()).await.unwrap();
        commit(&store, 0, &small()).await;
        store
            .append(vec![made("UsersCdr", 0, &[("company", json!(1)), ("callid", json!("first"))])])
            .await
            .unwrap();
        drop(store);
        std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
        std::fs::copy(&file, &kept).unwrap();
        std::fs::remove_file(&file).unwrap();
    }
    std::fs::copy(&kept, &file).unwrap();
    for _ in 0..2 {
        let store = ConfigStore::open(options()).await.unwrap();
        let rows = store.load().await.unwrap();
        assert_eq!((rows.revision, rows.count(table("Terminal"))), (1, 4));
        assert_eq!(rows.row(table("Terminal"), 1).unwrap().named("password").text(), Some("AUfVkn498_"));
        let query = RecordQuery { reference: Some(("company", 1)), ..RecordQuery::new(table("UsersCdr")) };
        assert_eq!(store.query(&query).await.unwrap().rows[0].named("callid").text(), Some("first"));
        let query = LogQuery { entity: Some("Carrier".to_owned()), limit: 5, ..LogQuery::default() };
        assert_eq!(store.log(&query).await.unwrap().changes.len(), 2);
    }
}
