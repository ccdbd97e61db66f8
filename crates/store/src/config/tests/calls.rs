//! Call records of several nodes in one table: whoever is right stays, however words come, and lists are whole.
//!
//! Elsewhere: nodes that die between their journal and this table (program `carillon`).

use super::fixture::{Dice, Fixture};
use crate::CdrQuery;
use crate::config::{
    CallQuery, CallStanding, CallStory, CallTable, CallWord, ConfigError, ConfigPlace, PostgresPlace,
    UnlistedCall,
};
use model::{Cause, Cdr, HungUpBy, Id, OpenCall, Party};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A table of its own.
async fn table() -> (CallTable, PostgresPlace) {
    let fixture = Fixture::postgres();
    fixture.open().await;
    let ConfigPlace::Postgres(place) = fixture.place.clone() else { panic!("it is in PostgreSQL") };
    (CallTable::at(&place, Duration::from_secs(15)).unwrap(), place)
}

fn open(call: &str, started_us: i64) -> OpenCall {
    OpenCall {
        call: call.to_owned(),
        brand: Id::new(1),
        client: Id::new(1),
        caller: Party { number: "101".into(), name: "Alice Allison".into(), user: Some(Id::new(1)) },
        callee: Party::default(),
        dialed: "102".into(),
        started_us,
        answered_us: Some(started_us + 1),
        legs: Vec::new(),
        externals: Vec::new(),
        node: 1,
        relay: None,
    }
}

fn cdr(call: &str, started_us: i64, ended_us: i64) -> Cdr {
    Cdr {
        hung_up_by: HungUpBy::Caller,
        cause: Cause { status: 200, text: "OK".to_owned() },
        ..open(call, started_us).into_lost_cdr(ended_us)
    }
}

fn ended(call: &str, epoch: u32, node: u16, ended_us: i64) -> CallWord {
    CallWord { epoch, node, story: CallStory::Ended(Box::new(cdr(call, 10, ended_us))) }
}

fn lost(call: &str, epoch: u32, node: u16, ended_us: i64) -> CallWord {
    CallWord { epoch, node, story: CallStory::Lost(Box::new(open(call, 10).into_lost_cdr(ended_us))) }
}

fn mark(call: &str, epoch: u32, node: u16) -> CallWord {
    CallWord { epoch, node, story: CallStory::Open(Box::new(open(call, 10))) }
}

async fn end_of(table: &CallTable, call: &str) -> Option<i64> {
    table.cdr(call).await.unwrap().map(|cdr| cdr.ended_us)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_has_one_record_and_it_is_its_last_owners() {
    let (table, _) = table().await;
    table.put(&[ended("c1", 0, 1, 100)]).await.unwrap();
    assert_eq!(end_of(&table, "c1").await, Some(100));
    // What is sent again changes nothing, and neither does another end of the same owner.
    table.put(&[ended("c1", 0, 1, 100), ended("c1", 0, 1, 101)]).await.unwrap();
    assert_eq!(end_of(&table, "c1").await, Some(100));
    // A node that had the call before and wakes up.
    table.put(&[ended("c1", 2, 3, 300)]).await.unwrap();
    table.put(&[ended("c1", 1, 2, 200), lost("c1", 0, 1, 150)]).await.unwrap();
    assert_eq!(end_of(&table, "c1").await, Some(300));
    assert_eq!(table.cdr_count().await.unwrap(), 1);
    // A guess holds until somebody knows, and takes nobody's place who knows.
    table.put(&[lost("c2", 0, 1, 50)]).await.unwrap();
    assert_eq!(end_of(&table, "c2").await, Some(50));
    table.put(&[lost("c2", 0, 1, 60), ended("c2", 0, 1, 70)]).await.unwrap();
    table.put(&[lost("c2", 0, 1, 80)]).await.unwrap();
    assert_eq!(end_of(&table, "c2").await, Some(70));
    let found = table.cdr("c2").await.unwrap().unwrap();
    assert_eq!(found, cdr("c2", 10, 70));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_says_whose_a_call_is_and_is_no_record() {
    let (table, _) = table().await;
    table.put(&[mark("c1", 1, 2)]).await.unwrap();
    let standing = async || table.standings(&["c1", "c2"]).await.unwrap().remove("c1").unwrap();
    assert_eq!(standing().await, CallStanding { epoch: 1, node: 2, has_ended: false });
    assert_eq!(table.standings(&["c2"]).await.unwrap().len(), 0);
    assert_eq!(table.cdr("c1").await.unwrap(), None);
    assert_eq!(table.cdr_count().await.unwrap(), 0);
    assert!(table.cdrs(&CallQuery::default()).await.unwrap().cdrs.is_empty());
    // The owner of before says what it thinks.
    table.put(&[lost("c1", 0, 1, 50), ended("c1", 0, 1, 60)]).await.unwrap();
    assert_eq!(table.cdr("c1").await.unwrap(), None);
    // It goes to a third one, which dies and comes back.
    table.put(&[mark("c1", 2, 3), mark("c1", 1, 2)]).await.unwrap();
    assert_eq!(standing().await, CallStanding { epoch: 2, node: 3, has_ended: false });
    table.put(&[lost("c1", 2, 3, 70)]).await.unwrap();
    assert_eq!(end_of(&table, "c1").await, Some(70));
    table.put(&[mark("c1", 2, 3)]).await.unwrap();
    assert_eq!(standing().await, CallStanding { epoch: 2, node: 3, has_ended: true });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_word_about_a_call_that_is_over_is_to_be_listed() {
    let (table, _) = table().await;
    table.put(&[ended("c1", 0, 1, 100), lost("c2", 1, 1, 200), mark("c3", 1, 2)]).await.unwrap();
    let first = table.unlisted(None, 10).await.unwrap();
    let told = |found: &[(UnlistedCall, Result<Cdr, String>)]| -> Vec<(String, i64)> {
        let told = |(_, cdr): &(_, Result<Cdr, String>)| {
            cdr.as_ref().map(|cdr| (cdr.call.clone(), cdr.ended_us)).map_err(String::clone)
        };
        found.iter().map(|found| told(found).unwrap()).collect()
    };
    assert_eq!(told(&first), [("c1".to_owned(), 100), ("c2".to_owned(), 200)]);
    let rest = table.unlisted(Some(&first[0].0), 10).await.unwrap();
    assert_eq!(told(&rest), [("c2".to_owned(), 200)]);
    // While the rows were made, somebody knew better.
    table.put(&[ended("c2", 1, 1, 190)]).await.unwrap();
    let keys: Vec<UnlistedCall> = first.into_iter().map(|(key, _)| key).collect();
    table.listed(&keys).await.unwrap();
    let again = table.unlisted(None, 10).await.unwrap();
    assert_eq!(told(&again), [("c2".to_owned(), 190)]);
    assert!(again[0].0.word() > keys[1].word());
    table.listed(&[again[0].0.clone()]).await.unwrap();
    // What is said again is no news; what a later owner says is.
    table.put(&[ended("c1", 0, 1, 100), ended("c2", 2, 3, 180), ended("c3", 16, 2, 50)]).await.unwrap();
    let last = table.unlisted(None, 10).await.unwrap();
    assert_eq!(told(&last), [("c2".to_owned(), 180), ("c3".to_owned(), 50)]);
    assert!(last[0].0.word() > again[0].0.word() && last[1].0.word() > last[0].0.word());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_by_tenant_and_time_and_go_on_where_a_page_ended() {
    let (table, _) = table().await;
    let words: Vec<CallWord> = (0..25_u32)
        .map(|number| {
            let mut cdr = cdr(&format!("c{number}"), i64::from(number / 2), i64::from(number) + 100);
            cdr.client = Id::new(1 + number % 3);
            cdr.brand = Id::new(1 + number % 2);
            CallWord { epoch: 0, node: 1, story: CallStory::Ended(Box::new(cdr)) }
        })
        .collect();
    table.put(&words).await.unwrap();
    let all = async |query: CallQuery| {
        let (mut query, mut found) = (query, Vec::new());
        loop {
            let page = table.cdrs(&query).await.unwrap();
            assert!(page.cdrs.len() <= query.rest.limit);
            found.extend(page.cdrs.into_iter().map(|cdr| cdr.call[1..].parse::<u32>().unwrap()));
            let Some(next) = page.next else { return found };
            query.rest.after = Some(next.to_string().parse().unwrap());
        }
    };
    let expected = |is_wanted: &dyn Fn(u32) -> bool| {
        let mut wanted: Vec<u32> = (0..25).filter(|number| is_wanted(*number)).collect();
        // By their starts, then by their names as bytes.
        wanted.sort_by_key(|number| std::cmp::Reverse((number / 2, format!("c{number}"))));
        wanted
    };
    for limit in [1, 4, 24, 25, 26] {
        let query = |rest: CdrQuery| CallQuery { brand: None, rest: CdrQuery { limit, ..rest } };
        assert_eq!(all(query(CdrQuery::default())).await, expected(&|_| true), "{limit}");
        let client = query(CdrQuery { client: Some(Id::new(2)), ..CdrQuery::default() });
        assert_eq!(all(client).await, expected(&|number| number % 3 == 1), "{limit}");
        let brand = CallQuery { brand: Some(Id::new(1)), ..query(CdrQuery::default()) };
        assert_eq!(all(brand).await, expected(&|number| number % 2 == 0), "{limit}");
        let times = CdrQuery { from_us: Some(3), until_us: Some(9), ..CdrQuery::default() };
        assert_eq!(all(query(times)).await, expected(&|number| (3..9).contains(&(number / 2))), "{limit}");
    }
    // A cursor that somebody made up.
    for strange in ["00", "ffffffffffffffff", "800000000000000900", "8000000000000009ff"] {
        let rest = CdrQuery { after: Some(strange.parse().unwrap()), ..CdrQuery::default() };
        assert!(table.cdrs(&CallQuery { brand: None, rest }).await.is_ok(), "{strange}");
    }
}

/// Words about few calls: whose owners' stories depend on nothing but the owner, as they do.
fn words() -> impl Strategy<Value = Vec<CallWord>> {
    let word = (0..3_u32, 0..3_u32, 1..4_u16, 0..3_u32).prop_map(|(call, epoch, node, state)| {
        let (name, end) = (format!("c{call}"), i64::from(epoch * 100 + u32::from(node) * 10 + state) + 1000);
        match state {
            0 => mark(&name, epoch, node),
            1 => lost(&name, epoch, node, end),
            _ => ended(&name, epoch, node, end),
        }
    });
    proptest::collection::vec(word, 1..12)
}

/// What must be there in the end: for each call the largest (epoch, how it is known, node).
fn model_of(words: &[CallWord]) -> BTreeMap<String, (u32, i16, u16)> {
    let mut model = BTreeMap::new();
    for word in words {
        let state = match word.story {
            CallStory::Open(_) => 0,
            CallStory::Lost(_) => 1,
            CallStory::Ended(_) => 2,
        };
        let weight = (word.epoch, state, word.node);
        let there = model.entry(word.call().to_owned()).or_insert(weight);
        *there = weight.max(*there);
    }
    model
}

#[test]
fn words_in_any_order_and_grouping_leave_the_same_rows() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 40, ..Config::default() });
    let orders = (words(), any::<u64>(), 1..5_usize);
    let outcome = runner.run(&orders, |(words, seed, group)| {
        let (mut shuffled, mut dice) = (words.clone(), Dice(seed));
        for at in (1..shuffled.len()).rev() {
            shuffled.swap(at, usize::try_from(dice.next(at as u64 + 1)).unwrap());
        }
        runtime.block_on(async {
            let (table, _) = table().await;
            for some in shuffled.chunks(group) {
                table.put(some).await.unwrap();
            }
            let model = model_of(&words);
            let standings = table.standings(&["c0", "c1", "c2"]).await.unwrap();
            prop_assert_eq!(standings.len(), model.len());
            for (call, (epoch, state, node)) in model {
                let expected = CallStanding { epoch, node, has_ended: state > 0 };
                prop_assert_eq!(standings[&call], expected, "{}", &call);
                let end = (state > 0).then(|| {
                    i64::from(epoch * 100 + u32::from(node) * 10 + u32::try_from(state).unwrap()) + 1000
                });
                prop_assert_eq!(end_of(&table, &call).await, end, "{}", &call);
            }
            Ok(())
        })
    });
    outcome.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_the_same_calls_neither_wait_for_each_other_nor_lose_anything() {
    let (table, place) = table().await;
    let writers: Vec<_> = (1..=4_u16)
        .map(|node| {
            let own = CallTable::at(&place, Duration::from_secs(15)).unwrap();
            tokio::spawn(async move {
                for round in 0..10_u32 {
                    // Each in another order.
                    let mut words: Vec<CallWord> = (0..200_u32)
                        .map(|call| ended(&format!("c{call}"), round, node, i64::from(round)))
                        .collect();
                    words.rotate_left(usize::from(node) * 37);
                    if node % 2 == 0 {
                        words.reverse();
                    }
                    own.put(&words).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(table.cdr_count().await.unwrap(), 200);
    let standings = table.standings(&["c0", "c100", "c199"]).await.unwrap();
    let last = CallStanding { epoch: 9, node: 4, has_ended: true };
    assert_eq!(standings.values().copied().collect::<Vec<_>>(), [last; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_no_node_has_prepared_is_told_in_words() {
    let ConfigPlace::Postgres(place) = Fixture::postgres().place else { panic!("it is in PostgreSQL") };
    let table = CallTable::at(&place, Duration::from_secs(15)).unwrap();
    let error = table.put(&[ended("c1", 0, 1, 1)]).await.unwrap_err();
    assert!(matches!(error, ConfigError::Refused { .. }), "{error}");
    let error = table.cdr_count().await.unwrap_err();
    assert!(error.to_string().contains("count call records"), "{error}");
}

/// How many records a second one node brings there: `cargo test --release -p store records_a_second -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn records_a_second() {
    const CALLS: u32 = 100_000;
    let (table, _) = table().await;
    let table = Arc::new(table);
    for size in [10, 100, 1000] {
        let words: Vec<CallWord> =
            (0..CALLS).map(|call| ended(&format!("c{size}x{call}"), 0, 1, i64::from(call))).collect();
        let count = if size == 10 { CALLS as usize / 10 } else { CALLS as usize };
        let began = Instant::now();
        for some in words[..count].chunks(size) {
            table.put(some).await.unwrap();
        }
        let rate = count as f64 / began.elapsed().as_secs_f64();
        println!("{count} records in groups of {size}: {rate:.0} a second");
    }
}
