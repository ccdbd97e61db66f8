//! What the store promises, for either engine.
//!
//! Each test gets an empty place. Elsewhere: the list of tests (`mod`).

use super::fixture::{
    Fixture, catch_up, commit, create, delete, edit, keys, made, now, picture, sample, small, table, who,
    with,
};
use crate::config::{
    Changes, ConfigError, ConfigStore, Keep, LogQuery, Outcome, OwnerFence, PostgresPlace, RecordQuery, Token,
};
use model::define::Record;
use model::rows::{Row, Rows};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn is_send<T: Send>(value: T) -> T {
    value
}

pub(super) async fn what_was_imported_is_there_after_opening_again(place: Fixture) {
    let (rows, changes) = sample();
    let store = place.open().await;
    assert_eq!(store.load().await.unwrap().revision, 0);
    assert_eq!(commit(&store, 0, &changes).await, 1);
    let loaded = is_send(store.load()).await.unwrap();
    let mut expected = rows.clone();
    expected.revision = 1;
    assert_eq!(picture(&loaded), picture(&expected));
    let page = store.query(&RecordQuery::new(table("BillableCall"))).await.unwrap();
    assert_eq!(page.total, 105);
    drop(store);
    let store = place.open().await;
    assert_eq!(picture(&store.load().await.unwrap()), picture(&expected));
    assert_eq!(*store.head().borrow(), 1);
}

pub(super) async fn whoever_comes_second_has_to_catch_up(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &small()).await;
    let mut rows = store.load().await.unwrap();
    let tag = |text: &str| edit(&rows, "RoutingTag", 1, &[("tag", json!(text))]);
    let (first, second) = (tag("1#"), tag("2#"));
    assert_eq!(commit(&store, 1, &[first]).await, 2);
    let outcome = is_send(store.commit(1, std::slice::from_ref(&second), &who(), now())).await.unwrap();
    assert_eq!(outcome, Outcome::Conflict { head: 2 });
    assert_eq!(store.commit(7, &[second], &who(), now()).await.unwrap(), Outcome::Conflict { head: 2 });
    assert_eq!(store.commit(1, &[], &who(), now()).await.unwrap(), Outcome::Conflict { head: 2 });
    catch_up(&store, &mut rows).await;
    assert_eq!(rows.row(table("RoutingTag"), 1).unwrap().named("tag").text(), Some("1#"));
    assert_eq!(picture(&store.load().await.unwrap()), picture(&rows));
}

pub(super) async fn whoever_has_his_turn_is_not_overtaken(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &small()).await;
    let change = |rows: &Rows, text: &str| [edit(rows, "RoutingTag", 1, &[("tag", json!(text))])];
    // Another node, where there can be one, changes something all the time.
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (tell, mut made) = tokio::sync::watch::channel(0_u64);
    let (asks, mut asked) = tokio::sync::watch::channel(false);
    let other = if place.is_shared() { Some(place.open().await) } else { None };
    let changing = async {
        let Some(other) = other else { return };
        while !*stopped.borrow() {
            let rows = other.load().await.unwrap();
            let text = format!("{}#", rows.revision);
            asks.send_replace(true);
            let outcome = other.commit(rows.revision, &change(&rows, &text), &who(), now()).await;
            asks.send_replace(false);
            if let Outcome::Done { revision, .. } = outcome.unwrap() {
                tell.send_replace(revision);
            }
        }
    };
    let taking_turns = async {
        for round in 0..5 {
            let turn = is_send(store.turn()).await.unwrap();
            let rows = store.load().await.unwrap();
            if place.is_shared() {
                // The other one would be quicker.
                asked.wait_for(|asks| *asks).await.unwrap();
            }
            let outcome =
                store.commit(rows.revision, &change(&rows, &format!("{round}*")), &who(), now()).await;
            assert!(matches!(outcome.unwrap(), Outcome::Done { .. }), "round {round}");
            drop(turn);
            if place.is_shared() {
                let last = rows.revision + 1;
                made.wait_for(|revision| *revision > last).await.unwrap();
            }
        }
        stop.send_replace(true);
    };
    tokio::join!(changing, taking_turns);
}

pub(super) async fn ids_are_never_used_again(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &small()).await;
    let rows = store.load().await.unwrap();
    let next = rows.next_id(table("RoutingTag"));
    commit(&store, 1, &[create(made("RoutingTag", next + 5, &[("brand", json!(1))]))]).await;
    let rows = store.load().await.unwrap();
    commit(&store, 2, &[delete(&rows, "RoutingTag", next + 5)]).await;
    let ids = store.append(vec![made("UsersCdr", 0, &[]), made("UsersCdr", 0, &[])]).await.unwrap();
    assert_eq!(ids, [1, 2]);
    store.remove(table("UsersCdr"), 2).await.unwrap();
    drop(store);
    let store = place.open().await;
    assert_eq!(store.load().await.unwrap().next_id(table("RoutingTag")), next + 6);
    assert_eq!(store.append(vec![made("UsersCdr", 0, &[])]).await.unwrap(), [3]);
}

pub(super) async fn a_commit_is_applied_once_however_often_it_is_sent(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &small()).await;
    let token = Token::random();
    let changes = [create(made("BalanceMovement", 0, &[("company", json!(1)), ("amount", json!(5))]))];
    let first = store.commit_as(token, 1, &changes, &who(), now()).await.unwrap();
    assert_eq!(first, Outcome::Done { revision: 2, records: vec![1] });
    commit(&store, 2, &changes).await;
    assert_eq!(store.commit_as(token, 1, &changes, &who(), now()).await.unwrap(), first);
    assert_eq!(store.query(&RecordQuery::new(table("BalanceMovement"))).await.unwrap().total, 2);
}

pub(super) async fn followers_hear_of_commits_and_get_the_same_rows(place: Fixture) {
    let store = Arc::new(place.open().await);
    let follower = if place.is_shared() { Arc::new(place.open().await) } else { Arc::clone(&store) };
    let mut head = follower.head();
    let mut rows = follower.load().await.unwrap();
    commit(&store, 0, &small()).await;
    tokio::time::timeout(Duration::from_secs(5), head.wait_for(|head| *head == 1)).await.unwrap().unwrap();
    let mut slowest = Duration::ZERO;
    for number in 1..20_u64 {
        let current = store.load().await.unwrap();
        let change = edit(&current, "RoutingTag", 1, &[("tag", json!(format!("{number}#")))]);
        let begin = Instant::now();
        commit(&store, number, &[change]).await;
        tokio::time::timeout(Duration::from_secs(5), head.wait_for(|head| *head == number + 1))
            .await
            .unwrap()
            .unwrap();
        slowest = slowest.max(begin.elapsed());
    }
    // A busy test machine may be slow, but not as slow as a poll.
    assert!(slowest < Duration::from_millis(900), "{slowest:?}");
    catch_up(&follower, &mut rows).await;
    assert_eq!(picture(&rows), picture(&store.load().await.unwrap()));
    let Changes::Revisions(revisions) = follower.changes_since(3, 4).await.unwrap() else { panic!() };
    assert_eq!(revisions.iter().map(|revision| revision.revision).collect::<Vec<_>>(), [4, 5, 6, 7]);
    assert_eq!((revisions[0].time, &revisions[0].who), (now(), &who()));
    assert!(matches!(follower.changes_since(21, 4).await.unwrap(), Changes::Reload));
}

pub(super) async fn the_audit_finds_changes_by_row_entity_and_revision(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &small()).await;
    for number in 1..=6_u64 {
        let rows = store.load().await.unwrap();
        let changes = [
            edit(&rows, "RoutingTag", 1 + (number % 2) as u32, &[("tag", json!(format!("{number}#")))]),
            edit(&rows, "Carrier", 1, &[("description", json!(format!("{number}")))]),
        ];
        commit(&store, number, &changes).await;
    }
    let ask = |entity: Option<&str>, id, from, to, limit| LogQuery {
        entity: entity.map(str::to_owned),
        id,
        from,
        to,
        limit,
        ..LogQuery::default()
    };
    let revisions = async |query: &LogQuery| -> Vec<u64> {
        store.log(query).await.unwrap().changes.iter().map(|change| change.revision).collect()
    };
    assert_eq!(revisions(&ask(Some("RoutingTag"), Some(1), Some(2), None, 100)).await, [7, 5, 3]);
    assert_eq!(revisions(&ask(Some("RoutingTag"), None, Some(2), None, 3)).await, [7, 6, 5]);
    assert_eq!(revisions(&ask(None, None, Some(3), Some(4), 100)).await, [4, 4, 3, 3]);
    assert_eq!(revisions(&ask(Some("Nonsense"), None, None, None, 3)).await, Vec::<u64>::new());
    assert_eq!(revisions(&ask(None, None, Some(9), Some(3), 3)).await, Vec::<u64>::new());
    // Page by page it is the same as at once.
    let whole = store.log(&ask(None, None, None, None, 1000)).await.unwrap();
    assert!(whole.next.is_none());
    let (mut query, mut pages) = (ask(None, None, None, None, 5), Vec::new());
    loop {
        let page = store.log(&query).await.unwrap();
        pages.extend(page.changes);
        query.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    let names = |changes: &[crate::config::LoggedChange]| -> Vec<(u64, String, u32)> {
        changes.iter().map(|change| (change.revision, change.entity.clone(), change.id)).collect()
    };
    assert_eq!(names(&whole.changes), names(&pages));
    let last = &whole.changes[0];
    assert_eq!((last.entity.as_str(), last.revision, &last.who, last.time), ("Carrier", 7, &who(), now()));
    assert_eq!(last.changed, ["description"]);
    assert_eq!(last.before.as_ref().unwrap()["description"], json!("5"));
    assert_eq!(last.after.as_ref().unwrap()["description"], json!("6"));
}

pub(super) async fn the_audit_finds_what_one_of_many_did_and_shows_no_hidden_table(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &small()).await;
    let token = made("RefreshToken", 1, &[("hash", json!("h")), ("family", json!("f"))]);
    let rows = store.load().await.unwrap();
    let by = async |revision: u64, name: &str, changes: &[model::draft::Change]| {
        let who = json!({ "level": "platform", "name": name });
        assert!(matches!(store.commit(revision, changes, &who, now()).await.unwrap(), Outcome::Done { .. }));
    };
    let tag = |text: &str| edit(&rows, "RoutingTag", 1, &[("tag", json!(text))]);
    by(1, "admin", &[tag("1#"), create(token)]).await;
    for revision in 2..12 {
        let text = format!("{revision}#");
        by(revision, "seller", &[tag(&text), edit(&rows, "Carrier", 1, &[("description", json!(text))])])
            .await;
    }
    by(12, "admin", &[tag("3#")]).await;
    let found = async |query: LogQuery| -> Vec<(u64, String)> {
        let page = store.log(&query).await.unwrap();
        page.changes.into_iter().map(|change| (change.revision, change.entity)).collect()
    };
    let admins = LogQuery { who: Some("admin".to_owned()), limit: 2, ..LogQuery::default() };
    let tag = |revision| (revision, "RoutingTag".to_owned());
    assert_eq!(found(admins.clone()).await, [tag(13), tag(2)]);
    let of_row = LogQuery { entity: Some("RoutingTag".to_owned()), id: Some(1), ..admins.clone() };
    assert_eq!(found(of_row).await, [tag(13), tag(2)]);
    let first = store.log(&LogQuery { limit: 1, ..admins.clone() }).await.unwrap();
    assert_eq!(found(LogQuery { after: first.next, ..admins.clone() }).await, [tag(2)]);
    assert_eq!(found(LogQuery { who: Some("nobody".to_owned()), ..admins }).await, []);
    let whole = found(LogQuery { limit: 1000, from: Some(2), ..LogQuery::default() }).await;
    assert_eq!(whole.len(), 22, "{whole:?}");
    let hidden = LogQuery { entity: Some("RefreshToken".to_owned()), limit: 10, ..LogQuery::default() };
    assert_eq!(found(hidden).await, []);
    // Followers need them.
    let Changes::Revisions(revisions) = store.changes_since(1, 1).await.unwrap() else { panic!() };
    assert_eq!(revisions[0].changes.len(), 2);
}

/// All that a place holds, as bytes.
async fn bytes(place: &Fixture, store: &ConfigStore) -> Vec<u8> {
    let path = place.dir.path().join("bytes");
    store.backup(&path).await.unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    if !place.is_shared() {
        bytes.extend(std::fs::read(place.dir.path().join("data/configuration.redb")).unwrap());
    }
    bytes
}

/// Whether the text is anywhere in the bytes.
fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

pub(super) async fn passwords_are_sealed_everywhere(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &small()).await;
    let rows = store.load().await.unwrap();
    assert_eq!(rows.row(table("Terminal"), 1).unwrap().named("password").text(), Some("AUfVkn498_"));
    let same = edit(&rows, "Terminal", 1, &[("allowAudio", json!("g722"))]);
    commit(&store, 1, &[same]).await;
    let rows = store.load().await.unwrap();
    commit(&store, 2, &[edit(&rows, "Terminal", 1, &[("password", json!("Zebra-crossing-77"))])]).await;
    let all = bytes(&place, &store).await;
    assert!(holds(&all, "sealed:a:") && holds(&all, "\"g722\""));
    assert!(!holds(&all, "AUfVkn498_") && !holds(&all, "Zebra-crossing-77"));
    let query =
        LogQuery { entity: Some("Terminal".to_owned()), id: Some(1), limit: 10, ..LogQuery::default() };
    let changes = store.log(&query).await.unwrap().changes;
    assert_eq!(changes[0].changed, ["password"], "the audit says that it was changed");
    assert_eq!(changes[1].changed, ["allowAudio"], "and that it was not");
    assert_eq!(changes[0].after.as_ref().unwrap()["password"], json!("*****"));
    let Changes::Revisions(revisions) = store.changes_since(2, 1).await.unwrap() else { panic!() };
    let row = revisions[0].changes[0].after.as_ref().unwrap();
    assert_eq!(row.named("password").text(), Some("Zebra-crossing-77"), "followers need it");
}

pub(super) async fn keys_can_be_changed(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &small()).await;
    drop(store);
    let error = place.try_open(&["b"]).await.unwrap_err();
    assert!(matches!(&error, ConfigError::UnknownKey { key } if key == "a"), "{error}");
    let mut options = place.options();
    options.keys = crate::config::Keyring::new([("a".to_owned(), [9; 32])]).unwrap();
    let error = ConfigStore::open(options).await.unwrap_err();
    assert!(matches!(&error, ConfigError::WrongKey { key } if key == "a"), "{error}");

    let store = place.try_open(&["b", "a"]).await.unwrap();
    let rows = store.load().await.unwrap();
    commit(&store, 1, &[edit(&rows, "Terminal", 2, &[("password", json!("other"))])]).await;
    drop(store);
    assert!(place.try_open(&["a"]).await.is_err(), "something is sealed by b");
    let store = place.try_open(&["b", "a"]).await.unwrap();
    let before = picture(&store.load().await.unwrap());
    store.reseal().await.unwrap();
    drop(store);
    let store = place.try_open(&["b"]).await.unwrap();
    assert_eq!(picture(&store.load().await.unwrap()), before);
    assert!(matches!(store.changes_since(0, 10).await, Ok(Changes::Revisions(all)) if all.len() == 2));
    let query = LogQuery { entity: Some("Terminal".to_owned()), limit: 10, ..LogQuery::default() };
    assert_eq!(store.log(&query).await.unwrap().changes.len(), 5);
}

pub(super) async fn old_entries_are_trimmed_and_late_followers_reload(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &small()).await;
    let rows = store.load().await.unwrap();
    for number in 1..=120_u64 {
        let change = edit(&rows, "RoutingTag", 1, &[("tag", json!(number.to_string()))]);
        commit(&store, number, &[change]).await;
    }
    let year = Duration::from_secs(366 * 86_400);
    let later = now() + year;
    let keep = Keep { revisions: 1000, age: year * 2 };
    assert_eq!(store.trim(keep, later, None).await.unwrap(), 0);
    assert_eq!(store.trim(Keep { age: year / 2, ..keep }, later, None).await.unwrap(), 21, "a hundred stay");
    assert_eq!(store.trim(Keep { revisions: 1, ..keep }, later, None).await.unwrap(), 0);
    assert!(matches!(store.changes_since(20, 5).await.unwrap(), Changes::Reload));
    assert!(matches!(store.changes_since(21, 5).await.unwrap(), Changes::Revisions(some) if some.len() == 5));
    let query = LogQuery { entity: Some("Brand".to_owned()), limit: 10, ..LogQuery::default() };
    assert!(store.log(&query).await.unwrap().changes.is_empty());
    let query = LogQuery { limit: 1000, ..LogQuery::default() };
    assert_eq!(store.log(&query).await.unwrap().changes.len(), 100);
    let mut late = Rows::default();
    catch_up(&store, &mut late).await;
    assert_eq!(picture(&late), picture(&store.load().await.unwrap()));
}

pub(super) async fn an_owner_who_wakes_too_late_changes_nothing(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &small()).await;
    let rows = store.load().await.unwrap();
    for number in 1..=120_u64 {
        let change = edit(&rows, "RoutingTag", 1, &[("tag", json!(number.to_string()))]);
        commit(&store, number, &[change]).await;
    }
    let owner = |key, fence| Some(OwnerFence { kind: "housekeeping".to_owned(), key, fence });
    let keep = Keep { revisions: 1000, age: Duration::from_secs(366 * 86_400) };
    let later = now() + Duration::from_secs(86_400);
    assert_eq!(store.trim(keep, later, owner(0, 7)).await.unwrap(), 0);
    assert_eq!(store.trim(keep, later, owner(0, 9)).await.unwrap(), 0, "a new owner");
    let few = Keep { revisions: 1, ..keep };
    let late = store.trim(few, later, owner(0, 7)).await.unwrap_err();
    assert!(matches!(&late, ConfigError::Fenced { what, fence: 7 } if what == "housekeeping/0"), "{late:?}");
    let query = LogQuery { limit: 1000, ..LogQuery::default() };
    assert_eq!(store.log(&query).await.unwrap().changes.len(), 120 + small().len(), "all is there");
    assert_eq!(store.trim(keep, later, owner(1, 7)).await.unwrap(), 0, "of another thing");
    assert!(
        store.trim(few, later, owner(0, 9)).await.unwrap() > 0,
        "an owner writes as long as it is the last"
    );
    drop(store);
    let store = place.open().await;
    assert!(store.trim(few, later, owner(0, 8)).await.is_err(), "it is remembered");
}

pub(super) async fn who_shares_the_store_agrees_on_the_cluster(place: Fixture) {
    let store = place.open().await;
    let before = store.cluster("/a").await.unwrap();
    assert!(before.as_ref().is_none_or(|facts| facts.prefix == "/a"), "the first one says it");
    let owner = OwnerFence { kind: "housekeeping".to_owned(), key: 0, fence: 7 };
    let keep = Keep { revisions: 1000, age: Duration::from_secs(86_400) };
    store.trim(keep, now(), Some(owner)).await.unwrap();
    drop(store);
    let after = place.open().await.cluster("/b").await.unwrap();
    assert!(after.as_ref().is_none_or(|facts| facts.prefix == "/a"));
    let facts = before.map(|facts| (facts.largest_fence, facts.id));
    assert_eq!(after.map(|facts| (facts.largest_fence, facts.id)), facts.map(|(_, id)| (7, id)));
    let other = place.another().open().await.cluster("/b").await.unwrap();
    assert!(other.is_none() || other.map(|facts| facts.id) != facts.map(|(_, id)| id), "of another schema");
}

fn call(number: u32) -> Row {
    let second = format!("2026-01-01 00:{:02}:{:02}", number / 60, number % 60);
    let fields = [
        ("callid", json!(format!("c{number}"))),
        ("startTime", json!(second)),
        ("brand", json!(1 + number % 2)),
        ("company", json!(1 + number % 3)),
        ("duration", json!(number)),
    ];
    made("BillableCall", 0, &fields)
}

fn numbers(rows: &[Row]) -> Vec<u32> {
    let number = |row: &Row| row.named("callid").text().unwrap()[1..].parse().unwrap();
    rows.iter().map(number).collect()
}

pub(super) async fn records_are_listed_by_reference_and_time(place: Fixture) {
    let store = place.open().await;
    // Not in the order of time.
    let order = (0..60).map(|number| (number * 37) % 60);
    let ids = store.append(order.map(call).collect()).await.unwrap();
    assert_eq!(ids, (1..=60).collect::<Vec<_>>());
    let calls = table("BillableCall");
    let all = RecordQuery::new(calls);
    let page = is_send(store.query(&all)).await.unwrap();
    assert_eq!((page.total, numbers(&page.rows)), (60, (0..60).rev().collect()));

    let of_brand = RecordQuery { reference: Some(("brand", 2)), newest_first: false, ..all.clone() };
    let page = store.query(&RecordQuery { offset: 3, limit: 4, ..of_brand.clone() }).await.unwrap();
    assert_eq!((page.total, numbers(&page.rows)), (30, vec![7, 9, 11, 13]));
    let beyond = store.query(&RecordQuery { offset: 30, limit: 4, ..of_brand.clone() }).await.unwrap();
    assert_eq!((beyond.total, beyond.rows.len()), (30, 0));
    let none = store.query(&RecordQuery { limit: 0, ..of_brand.clone() }).await.unwrap();
    assert_eq!((none.total, none.rows.len()), (30, 0));

    let time = |text: &str| Some(text.parse().unwrap());
    let minute = RecordQuery {
        from: time("2026-01-01T00:00:10Z"),
        until: time("2026-01-01T00:00:20Z"),
        ..all.clone()
    };
    let page = store.query(&minute).await.unwrap();
    assert_eq!((page.total, numbers(&page.rows)), (10, (10..20).rev().collect()));
    let page = store.query(&RecordQuery { reference: Some(("company", 1)), ..minute.clone() }).await.unwrap();
    assert_eq!((page.total, numbers(&page.rows)), (3, vec![18, 15, 12]));
    let empty = RecordQuery { from: minute.until, until: minute.from, ..all.clone() };
    assert_eq!(store.query(&empty).await.unwrap().total, 0);

    let long = |row: &dyn Record| matches!(row.named("duration"), model::define::Value::Float(length) if length >= 30.0);
    let long = RecordQuery { filter: Some(Arc::new(long)), ..of_brand };
    let page = store.query(&RecordQuery { offset: 2, limit: 3, ..long }).await.unwrap();
    assert_eq!((page.total, numbers(&page.rows)), (15, vec![35, 37, 39]));

    let wrong = RecordQuery { reference: Some(("ddi", 1)), ..all };
    assert!(matches!(store.query(&wrong).await, Err(ConfigError::NoIndex { .. })));
    assert!(matches!(
        store.query(&RecordQuery::new(table("Carrier"))).await,
        Err(ConfigError::NoIndex { .. })
    ));
    assert!(matches!(store.append(vec![made("Carrier", 0, &[])]).await, Err(ConfigError::NoIndex { .. })));
}

pub(super) async fn records_are_found_by_their_texts(place: Fixture) {
    let store = place.open().await;
    // The first two look alike in the file's index.
    let texts = ["plumless", "buckeroo", "it's \"%\\ one", "plumless", ""];
    assert_eq!(crc32fast::hash(texts[0].as_bytes()), crc32fast::hash(texts[1].as_bytes()));
    let named = |(number, text): (u32, &&str)| with(&call(number), &[("callid", json!(text))]);
    let mut records: Vec<Row> = (0..).zip(&texts).map(named).collect();
    records.push(call(5));
    store.append(records).await.unwrap();
    let calls = table("BillableCall");
    let found = async |text: &str| {
        let query = RecordQuery { text: Some(("callid", text.to_owned())), ..RecordQuery::new(calls) };
        let page = store.query(&query).await.unwrap();
        assert_eq!(page.total as usize, page.rows.len(), "{text}");
        page.rows.iter().map(|row| row.id()).collect::<Vec<u32>>()
    };
    assert_eq!(found("plumless").await, [4, 1]);
    assert_eq!(found("buckeroo").await, [2]);
    assert_eq!(found(texts[2]).await, [3]);
    assert_eq!(found("").await, [5]);
    assert_eq!(found("nothing").await, Vec::<u32>::new());
    let first = store.get(calls, 1).await.unwrap().unwrap();
    store.change(with(&first, &[("callid", json!("another"))])).await.unwrap();
    assert_eq!((found("plumless").await, found("another").await), (vec![4], vec![1]));
    for wrong in [
        RecordQuery { text: Some(("caller", "1".to_owned())), ..RecordQuery::new(calls) },
        RecordQuery { text: Some(("carrier", "1".to_owned())), ..RecordQuery::new(calls) },
        RecordQuery { reference: Some(("callid", 1)), ..RecordQuery::new(calls) },
    ] {
        assert!(matches!(store.query(&wrong).await, Err(ConfigError::NoIndex { .. })), "{wrong:?}");
    }
}

pub(super) async fn a_moment_leads_to_the_first_revision_after_it(place: Fixture) {
    let store = place.open().await;
    assert_eq!(store.revision_at(now()).await.unwrap(), 0, "there is none");
    commit(&store, 0, &small()).await;
    let second = |number: i64| now().checked_add(jiff::SignedDuration::from_secs(number)).unwrap();
    for number in 1..=9_u64 {
        let rows = store.load().await.unwrap();
        let tag = edit(&rows, "RoutingTag", 1, &[("tag", json!(format!("{number}#")))]);
        // Two revisions in every tenth second.
        let time = second(number.div_ceil(2) as i64 * 10);
        store.commit(number, &[tag], &who(), time).await.unwrap();
    }
    for (moment, revision) in
        [(-1, 1), (0, 1), (1, 2), (10, 2), (11, 4), (20, 4), (49, 10), (50, 10), (51, 11)]
    {
        assert_eq!(store.revision_at(second(moment)).await.unwrap(), revision, "{moment} s");
    }
}

pub(super) async fn records_are_changed_and_removed(place: Fixture) {
    let store = place.open().await;
    store.append((0..6).map(call).collect()).await.unwrap();
    let calls = table("BillableCall");
    let third = store.get(calls, 3).await.unwrap().unwrap();
    assert_eq!(numbers(std::slice::from_ref(&third)), [2]);
    let moved = with(
        &third,
        &[("startTime", json!("2026-02-01 00:00:00")), ("brand", json!(2)), ("price", json!("1.25"))],
    );
    store.change(moved).await.unwrap();
    store.remove(calls, 2).await.unwrap();
    assert!(store.get(calls, 2).await.unwrap().is_none());
    let all = RecordQuery::new(calls);
    let page = store.query(&all).await.unwrap();
    assert_eq!((page.total, numbers(&page.rows)), (5, vec![2, 5, 4, 3, 0]));
    let page = store.query(&RecordQuery { reference: Some(("brand", 1)), ..all.clone() }).await.unwrap();
    assert_eq!(numbers(&page.rows), [4, 0]);
    let page = store.query(&RecordQuery { reference: Some(("brand", 2)), ..all.clone() }).await.unwrap();
    assert_eq!(numbers(&page.rows), [2, 5, 3]);
    assert_eq!(page.rows[0].named("price").stored(), json!("1.25"));
    for outcome in [
        store.remove(calls, 2).await,
        store.change(with(&third, &[("id", json!(2))])).await.and(store.remove(calls, 99).await),
    ] {
        assert!(matches!(outcome, Err(ConfigError::NoSuchRecord { .. })), "{outcome:?}");
    }
    assert_eq!(store.query(&all).await.unwrap().total, 5);
    assert_eq!(*store.head().borrow(), 0, "records make no revision");
}

/// A later word takes the place of an earlier one; the price stays.
fn takes(old: &serde_json::Map<String, Json>, new: &mut serde_json::Map<String, Json>) -> bool {
    new.insert("price".to_owned(), old["price"].clone());
    new["originWord"].as_str() > old["originWord"].as_str()
}

pub(super) async fn what_is_made_of_the_same_is_there_once(place: Fixture) {
    let store = place.open().await;
    let of = |number: u32, origin: &str, word: &str| {
        with(&call(number), &[("origin", json!(origin)), ("originWord", json!(word))])
    };
    let calls = table("BillableCall");
    let shown = async || {
        let page =
            store.query(&RecordQuery { newest_first: false, ..RecordQuery::new(calls) }).await.unwrap();
        let told = |row: &Row| format!("{} {}", row.id(), row.named("callid").text().unwrap());
        page.rows.iter().map(told).collect::<Vec<_>>()
    };
    let first = vec![of(0, "a", "1"), of(1, "b", "1"), of(9, "b", "1"), call(2)];
    assert_eq!(store.append_once(first.clone(), takes).await.unwrap(), [1, 2, 3]);
    // What has no origin is made each time.
    assert_eq!(store.append_once(first, takes).await.unwrap(), [4]);
    assert_eq!(shown().await, ["1 c0", "2 c1", "3 c2", "4 c2"]);
    let second = store.get(calls, 2).await.unwrap().unwrap();
    store.change(with(&second, &[("price", json!("7"))])).await.unwrap();
    let second = vec![of(30, "a", "0"), of(20, "b", "2"), of(21, "c", "1")];
    assert_eq!(store.append_once(second.clone(), takes).await.unwrap(), [5]);
    assert_eq!(shown().await, ["1 c0", "3 c2", "4 c2", "2 c20", "5 c21"]);
    let changed = store.get(calls, 2).await.unwrap().unwrap();
    assert_eq!(changed.named("price").stored(), json!("7"));
    assert_eq!(changed.named("duration").stored(), json!(20));
    // Also after a restart, and with the indexes that a backup's restoration makes.
    let backup = place.dir.path().join("backup");
    store.backup(&backup).await.unwrap();
    let other = place.other().open().await;
    other.restore(&backup).await.unwrap();
    assert_eq!(other.append_once(second, takes).await.unwrap(), [0_u32; 0]);
    let tag = made("BalanceMovement", 0, &[]);
    let refused = store.append_once(vec![tag], takes).await;
    assert!(matches!(refused, Err(ConfigError::NoIndex { .. })), "{refused:?}");
}

pub(super) async fn a_draft_with_rows_and_records_is_one_transaction(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &sample().1).await;
    let rows = store.load().await.unwrap();
    let (calls, movements) = (table("BillableCall"), table("BalanceMovement"));
    let provisional = rows.next_id(calls);
    let call = made("BillableCall", provisional, &[("callid", json!("mixed")), ("company", json!(1))]);
    let recording = rows.next_id(table("Recording"));
    let changes = [
        edit(&rows, "Company", 1, &[("balance", json!("7.5"))]),
        create(call.clone()),
        create(made(
            "BalanceMovement",
            rows.next_id(movements),
            &[("company", json!(1)), ("amount", json!("7.5"))],
        )),
        create(made("Recording", recording, &[("company", json!(1)), ("billableCall", json!(provisional))])),
    ];
    // Too late: neither the row nor the records.
    assert!(matches!(store.commit(0, &changes, &who(), now()).await.unwrap(), Outcome::Conflict { head: 1 }));
    assert_eq!(store.query(&RecordQuery::new(movements)).await.unwrap().total, 3);
    let outcome = store.commit(1, &changes, &who(), now()).await.unwrap();
    assert_eq!(outcome, Outcome::Done { revision: 2, records: vec![106, 4] });
    let kept = store.get(calls, 106).await.unwrap().unwrap();
    assert_eq!(kept.named("callid").text(), Some("mixed"));
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.row(table("Recording"), recording).unwrap().reference("billableCall"), Some(106));
    assert_eq!(loaded.count(calls), 0, "records are not among the rows");
    let mut followed = rows;
    catch_up(&store, &mut followed).await;
    assert_eq!(picture(&followed), picture(&loaded));
    let query =
        LogQuery { entity: Some("BalanceMovement".to_owned()), id: Some(4), limit: 9, ..LogQuery::default() };
    assert_eq!(store.log(&query).await.unwrap().changes.len(), 1, "the audit has it");
    let gone = model::draft::Change { table: calls, id: 999, before: Some(call), after: None };
    let tag = edit(&loaded, "RoutingTag", 1, &[("tag", json!("9#"))]);
    let error = store.commit(2, &[tag, gone], &who(), now()).await.unwrap_err();
    assert!(matches!(error, ConfigError::NoSuchRecord { id: 999, .. }), "{error}");
    assert_eq!(picture(&store.load().await.unwrap()), picture(&loaded), "nothing of it is kept");
}

async fn records(store: &ConfigStore, name: &str) -> Vec<Json> {
    let query = RecordQuery { limit: 10_000, ..RecordQuery::new(table(name)) };
    let page = store.query(&query).await.unwrap();
    page.rows.iter().map(|row| Json::Object(model::import::document(&**row))).collect()
}

pub(super) async fn a_backup_restores_to_either_engine(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &sample().1).await;
    let rows = store.load().await.unwrap();
    commit(&store, 1, &[delete(&rows, "RoutingTag", 2)]).await;
    let path = place.dir.path().join("backup");
    let summary = is_send(store.backup(&path)).await.unwrap();
    assert_eq!((summary.revision, summary.log_entries, summary.records), (2, 2, 111));
    let again = place.dir.path().join("again");
    for target in [place.another(), place.other()] {
        let restored = target.open().await;
        assert_eq!(is_send(restored.restore(&path)).await.unwrap(), summary);
        assert_eq!(picture(&restored.load().await.unwrap()), picture(&store.load().await.unwrap()));
        for name in ["BillableCall", "UsersCdr", "BalanceMovement"] {
            assert_eq!(records(&restored, name).await, records(&store, name).await);
        }
        let mut rows = Rows::default();
        catch_up(&restored, &mut rows).await;
        assert_eq!(rows.row(table("Terminal"), 1).unwrap().named("password").text(), Some("AUfVkn498_"));
        assert!(matches!(restored.restore(&path).await, Err(ConfigError::NotEmpty { .. })));
        assert_eq!(restored.append(vec![call(1)]).await.unwrap(), [106]);
        let rows = restored.load().await.unwrap();
        commit(&restored, 2, &[edit(&rows, "RoutingTag", 1, &[("tag", json!("5#"))])]).await;
        restored.backup(&again).await.unwrap();
    }
    assert!(matches!(store.restore(&path).await, Err(ConfigError::NotEmpty { .. })));
}

pub(super) async fn damaged_and_newer_backups_are_refused(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &small()).await;
    let path = place.dir.path().join("backup");
    store.backup(&path).await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    let target = place.another();
    let empty = target.open().await;
    let refused = async |bytes: &[u8], why: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = empty.restore(&path).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    };
    for seed in 0..40 {
        let mut spoilt = whole.clone();
        let at = super::fixture::Dice(seed).next(whole.len() as u64) as usize;
        spoilt[at] ^= 1;
        refused(&spoilt, "").await;
        refused(&whole[..at], "").await;
    }
    refused(b"", "empty").await;
    refused(b"GIF89a\n", "first line").await;
    refused(&whole[..whole.len() - 1], "cut off").await;
    let lines: Vec<&str> = std::str::from_utf8(&whole).unwrap().lines().collect();
    refused((lines[..lines.len() - 1].join("\n") + "\n").as_bytes(), "end is missing").await;
    refused((lines[..3].join("\n") + "\n" + &lines[4..].join("\n") + "\n").as_bytes(), "checksum").await;
    let first = |from: &str, to: &str| lines.join("\n").replacen(from, to, 1) + "\n";
    refused(first("\"carillon_backup\":1", "\"carillon_backup\":2").as_bytes(), "newer version").await;
    refused(first("\"format\":1", "\"format\":99").as_bytes(), "formats up to").await;
    let mut options = place.another().options();
    options.keys = keys(&["c"]);
    let other = ConfigStore::open(options).await.unwrap();
    std::fs::write(&path, &whole).unwrap();
    assert!(matches!(other.restore(&path).await, Err(ConfigError::UnknownKey { .. })));
    assert_eq!(picture(&empty.load().await.unwrap()), picture(&Rows::default()));
    empty.restore(&path).await.unwrap();
    assert_eq!(picture(&empty.load().await.unwrap()), picture(&store.load().await.unwrap()));
}

pub(super) async fn what_is_too_large_is_refused(place: Fixture) {
    let mut options = place.options();
    options.limits.document_bytes = 2000;
    options.limits.commit_bytes = 30_000;
    options.limits.commit_rows = 50;
    options.limits.who_bytes = 100;
    options.limits.page_rows = 10;
    let store = ConfigStore::open(options).await.unwrap();
    let tag = |id: u32, length: usize| create(made("RoutingTag", id, &[("name", json!("n".repeat(length)))]));
    let long = create(made("NotificationTemplate", 1, &[("name", json!("ä".repeat(55)))]));
    let refused = async |changes: &[model::draft::Change], who: &Json, what: &str| {
        let error = store.commit(0, changes, who, now()).await.unwrap_err();
        assert!(
            matches!(&error, ConfigError::TooLarge { .. }) && error.to_string().contains(what),
            "{error}"
        );
    };
    refused(&(1..=51).map(|id| tag(id, 1)).collect::<Vec<_>>(), &who(), "rows").await;
    refused(&[tag(1, 1)], &json!("x".repeat(200)), "who").await;
    let content = with(&made("BillableCall", 0, &[]), &[("priceDetails", json!("x".repeat(3000)))]);
    refused(&[create(content.clone())], &who(), "document").await;
    assert!(matches!(store.append(vec![content]).await, Err(ConfigError::TooLarge { .. })));
    let medium = with(&made("BillableCall", 0, &[]), &[("priceDetails", json!("x".repeat(1000)))]);
    refused(&vec![create(medium); 25], &who(), "a commit").await;
    commit(&store, 0, &[long, tag(1, 80)]).await;
    store.append((0..30).map(call).collect()).await.unwrap();
    let page =
        store.query(&RecordQuery { limit: 1000, ..RecordQuery::new(table("BillableCall")) }).await.unwrap();
    assert_eq!((page.total, page.rows.len()), (30, 10));
}

pub(super) async fn what_could_not_be_read_again_is_refused(place: Fixture) {
    let store = place.open().await;
    let tag = model::entities::RoutingTag { name: "x".repeat(81), ..Default::default() };
    let mut row: Box<dyn Record> = Box::new(tag);
    row.set_id(4);
    let error = store.commit(0, &[create(Arc::from(row))], &who(), now()).await.unwrap_err();
    assert!(matches!(&error, ConfigError::Unreadable { id: 4, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "RoutingTag 4 cannot be kept: RoutingTag.name: it has 81 characters, and may have 80"
    );
    assert_eq!(store.load().await.unwrap().revision, 0);
}

pub(super) async fn many_writers_lose_nothing(place: Fixture) {
    const WRITERS: u32 = 4;
    const TIMES: u32 = 8;
    let first = Arc::new(place.open().await);
    commit(&first, 0, &small()).await;
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let store = if place.is_shared() { Arc::new(place.open().await) } else { Arc::clone(&first) };
        tasks.push(tokio::spawn(async move {
            let mut rows = store.load().await.unwrap();
            for _ in 0..TIMES {
                loop {
                    catch_up(&store, &mut rows).await;
                    let old: u32 = rows
                        .row(table("Carrier"), 1)
                        .unwrap()
                        .named("description")
                        .text()
                        .unwrap()
                        .parse()
                        .unwrap_or(0);
                    let changes = [
                        edit(&rows, "Carrier", 1, &[("description", json!((old + 1).to_string()))]),
                        create(made(
                            "RoutingTag",
                            rows.next_id(table("RoutingTag")),
                            &[("name", json!(format!("{writer}")))],
                        )),
                        create(made("BalanceMovement", 0, &[("carrier", json!(1))])),
                    ];
                    match store.commit(rows.revision, &changes, &who(), now()).await.unwrap() {
                        Outcome::Done { .. } => break,
                        Outcome::Conflict { head } => assert_ne!(head, rows.revision),
                    }
                }
                store.append(vec![call(writer)]).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let rows = first.load().await.unwrap();
    let expected = WRITERS * TIMES;
    assert_eq!(rows.revision, u64::from(expected) + 1);
    assert_eq!(
        rows.row(table("Carrier"), 1).unwrap().named("description").text(),
        Some(expected.to_string().as_str())
    );
    assert_eq!(rows.count(table("RoutingTag")), expected as usize + 2);
    for name in ["BillableCall", "BalanceMovement"] {
        assert_eq!(first.query(&RecordQuery::new(table(name))).await.unwrap().total, u64::from(expected));
    }
}

pub(super) async fn appends_that_wait_together_each_get_their_own(place: Fixture) {
    let store = Arc::new(place.open().await);
    let mut tasks = Vec::new();
    for number in 0..40_u32 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            let rows: Vec<Row> = (0..1 + number % 3).map(|at| call(number * 10 + at)).collect();
            let ids = store.append(rows).await.unwrap();
            for (id, at) in ids.iter().zip(0..) {
                let row = store.get(table("BillableCall"), *id).await.unwrap().unwrap();
                assert_eq!(numbers(&[row]), [number * 10 + at]);
            }
            ids.len() as u64
        }));
    }
    // Some lose their patience, while they commit for others perhaps.
    for number in 0..20_u64 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            let rows = vec![made("UsersCdr", 0, &[])];
            let _ = tokio::time::timeout(Duration::from_micros(number * 300), store.append(rows)).await;
            0
        }));
    }
    let mut count = 0;
    for task in tasks {
        count += task.await.unwrap();
    }
    assert_eq!(store.query(&RecordQuery::new(table("BillableCall"))).await.unwrap().total, count);
    assert!(store.query(&RecordQuery::new(table("UsersCdr"))).await.unwrap().total <= 20);
}

struct NoHasher;

impl model::define::SecretHasher for NoHasher {
    fn hash(&self, password: &str) -> String {
        password.to_owned()
    }
}

pub(super) async fn what_a_draft_makes_is_kept(place: Fixture) {
    let store = place.open().await;
    commit(&store, 0, &small()).await;
    let mut rows = store.load().await.unwrap();
    let random = || 4;
    let env =
        model::draft::Env { now: now(), level: None, hasher: &NoHasher, random: &random, is_over: &|| false };
    for number in 1..4_u64 {
        let mut draft = model::draft::Draft::new(&rows, &env);
        let fields = [("name", json!("drafted")), ("tag", json!(format!("{number}#"))), ("brand", json!(1))];
        let id = draft.create_row(made("RoutingTag", 0, &fields).copy()).unwrap();
        assert_eq!(u64::from(id), number + 2);
        draft.create_row(made("BalanceMovement", 0, &[("company", json!(1))]).copy()).unwrap();
        draft.delete_row(table("RoutingTag"), id - 1).unwrap();
        let (_, changes) = draft.finish().unwrap();
        let outcome = store.commit(rows.revision, &changes, &who(), now()).await.unwrap();
        assert_eq!(outcome, Outcome::Done { revision: number + 1, records: vec![number as u32] });
        catch_up(&store, &mut rows).await;
    }
    assert_eq!(picture(&store.load().await.unwrap()), picture(&rows));
    assert_eq!(rows.count(table("RoutingTag")), 2);
}

pub(super) async fn a_place_that_cannot_be_is_an_error_in_words(place: Fixture) {
    let open = async |connection: &str, schema: &str| {
        let mut options = place.options();
        options.place = crate::config::ConfigPlace::Postgres(PostgresPlace::new(connection, schema));
        options.patience = Duration::from_millis(200);
        ConfigStore::open(options).await.unwrap_err()
    };
    for schema in ["", "Store", "a-b", "1a", "pg_catalog", "a; DROP TABLE x", &"x".repeat(41)] {
        assert!(matches!(open("host=127.0.0.1", schema).await, ConfigError::BadPlace(_)), "{schema}");
    }
    let error = open("password=hush port=none", "store").await;
    assert!(matches!(&error, ConfigError::BadPlace(why) if !why.contains("hush")), "{error}");
    let error = open("host=127.0.0.1 port=1 user=x password=hush", "store").await;
    assert!(error.is_retryable() && !format!("{error:?}").contains("hush"), "{error:?}");
    let mut options = place.options();
    options.place = crate::config::ConfigPlace::Directory(std::path::PathBuf::from("/dev/null/nothing"));
    let error = ConfigStore::open(options).await.unwrap_err();
    assert!(matches!(&error, ConfigError::Io { .. }), "{error:?}");
}

pub(super) async fn a_backup_is_of_one_moment(place: Fixture) {
    let store = Arc::new(place.open().await);
    commit(&store, 0, &small()).await;
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in 0..40_u32 {
                let tag = create(made("RoutingTag", 100 + number, &[("brand", json!(1))]));
                let movement = create(made("BalanceMovement", 0, &[("company", json!(1))]));
                commit(&store, u64::from(number) + 1, &[tag, movement]).await;
            }
        })
    };
    let mut revisions = Vec::new();
    while !writer.is_finished() {
        let path = place.dir.path().join("backup");
        let summary = store.backup(&path).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let count = |what: &str| text.lines().filter(|line| line.starts_with(what)).count() as u64;
        assert_eq!(count("{\"row\":{\"entity\":\"RoutingTag\""), summary.revision + 1);
        assert_eq!(count("{\"record\""), summary.revision - 1);
        assert_eq!(count("{\"entry\""), summary.revision);
        revisions.push(summary.revision);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    writer.await.unwrap();
    assert!(revisions.iter().any(|revision| (2..41).contains(revision)), "{revisions:?}");
}

pub(super) async fn several_nodes_may_begin_at_once(place: Fixture) {
    if !place.is_shared() {
        let _first = place.open().await;
        assert!(matches!(place.try_open(&["a"]).await, Err(ConfigError::Locked { .. })));
        return;
    }
    let place = Arc::new(place);
    let begin = |_| {
        let place = Arc::clone(&place);
        tokio::spawn(async move { place.open().await.load().await.unwrap().revision })
    };
    for task in (0..6).map(begin).collect::<Vec<_>>() {
        assert_eq!(task.await.unwrap(), 0);
    }
}

/// A version of the model that lists records by another field finds a store without that index.
pub(super) async fn a_missing_index_of_records_is_made(place: Fixture) {
    let store = place.open().await;
    store.append((0..6).map(call).collect()).await.unwrap();
    drop(store);
    match &place.place {
        crate::config::ConfigPlace::Directory(path) => {
            let db = redb::Database::open(path.join("configuration.redb")).unwrap();
            let write = db.begin_write().unwrap();
            write.delete_table(crate::config::file::tables::RECORDS_BY_REFERENCE).unwrap();
            let mut notes = write.open_table(crate::config::file::tables::NOTES).unwrap();
            notes.insert("indexes", b"{}".as_slice()).unwrap();
            drop(notes);
            write.commit().unwrap();
        }
        crate::config::ConfigPlace::Postgres(of_server) => {
            let schema = &of_server.schema;
            let (client, connection) = tokio_postgres::connect(
                &super::fixture::connection(super::server::server().port),
                tokio_postgres::NoTls,
            )
            .await
            .unwrap();
            tokio::spawn(connection);
            let sql = format!(
                "ALTER TABLE {schema}.record_billable_call DROP COLUMN ref_company;
                 UPDATE {schema}.record_billable_call SET time_us = 0; UPDATE {schema}.head SET indexes = ''"
            );
            client.batch_execute(&sql).await.unwrap();
        }
    }
    let store = place.open().await;
    let query = RecordQuery { reference: Some(("company", 2)), ..RecordQuery::new(table("BillableCall")) };
    assert_eq!(numbers(&store.query(&query).await.unwrap().rows), [4, 1]);
}
