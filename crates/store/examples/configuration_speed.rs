//! What keeping the configuration costs: commits of one row, records one by one and in groups, loading a hundred thousand rows.
//!
//! `cargo run --release -p store --example configuration_speed [-- CONNECTION]`: in a file beside the current directory, so that it
//! lies on a real disk, or in the PostgreSQL database of that connection, in the schema `speed`, which must be absent.

use jiff::Timestamp;
use model::define::Record;
use model::draft::Change;
use model::entities::{BillableCall, RoutingTag};
use model::rows::Row;
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::config::{ConfigOptions, ConfigPlace, ConfigStore};
use store::config::{Keyring, PostgresPlace, RecordQuery};

const ROWS: u32 = 100_000;
const TIMES: u32 = 300;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let dir = tempfile::Builder::new().prefix("configuration-speed-").tempdir_in(".")?;
    let place = match std::env::args().nth(1) {
        Some(connection) => ConfigPlace::Postgres(PostgresPlace::new(connection, "speed")),
        None => ConfigPlace::Directory(dir.path().to_owned()),
    };
    let open = async || -> Outcome<ConfigStore> {
        let keys = Keyring::new([("speed".to_owned(), [7; 32])])?;
        Ok(ConfigStore::open(ConfigOptions::new(place.clone(), keys)).await?)
    };
    let store = open().await?;
    let begin = Instant::now();
    let mut revision = 0;
    let all: Vec<u32> = (1..=ROWS).collect();
    for ids in all.chunks(20_000) {
        let changes: Vec<Change> = ids.iter().map(|id| tag(*id, "first")).collect();
        store.commit(revision, &changes, &json!("speed"), Timestamp::UNIX_EPOCH).await?;
        revision += 1;
    }
    say(&format!("{ROWS} rows in 5 commits: {:?}", begin.elapsed()))?;
    let mut head = store.head();
    let (begin, mut heard) = (Instant::now(), Duration::ZERO);
    for number in 0..TIMES {
        let mut change = tag(1, "other");
        change.before = tag(1, "first").after;
        store.commit(revision, &[change], &json!(number), Timestamp::UNIX_EPOCH).await?;
        revision += 1;
        let kept = Instant::now();
        head.wait_for(|head| *head == revision).await?;
        heard = heard.max(kept.elapsed());
    }
    say(&format!(
        "commits of one row: {:.0}/s, followers hear at most {heard:?} later",
        per_second(TIMES, begin)
    ))?;
    for group in [1, 100] {
        let begin = Instant::now();
        for _ in 0..TIMES {
            store.append((0..group).map(call).collect()).await?;
        }
        say(&format!("records, {group} at a time: {:.0}/s", per_second(TIMES * group, begin)))?;
    }
    let store = Arc::new(store);
    let begin = Instant::now();
    let callers = (0..64).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in 0..TIMES / 10 {
                store.append(vec![call(number)]).await?;
            }
            Ok::<(), store::config::ConfigError>(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    say(&format!("records, one by each of 64 callers: {:.0}/s", per_second(64 * (TIMES / 10), begin)))?;
    let begin = Instant::now();
    let query = RecordQuery { reference: Some(("company", 1)), ..RecordQuery::new(call(0).table()) };
    let total = store.query(&query).await?.total;
    say(&format!("the newest hundred of {total} records: {:?}", begin.elapsed()))?;
    drop(store);
    let begin = Instant::now();
    let store = open().await?;
    let opened = begin.elapsed();
    let rows = store.load().await?;
    say(&format!("opening {opened:?}, then loading {rows:?} {:?}", begin.elapsed() - opened))?;
    Ok(())
}

fn tag(id: u32, name: &str) -> Change {
    let mut row = RoutingTag { name: name.to_owned(), ..RoutingTag::default() };
    row.set_id(id);
    let row: Row = Arc::new(row);
    Change { table: row.table(), id, before: None, after: Some(row) }
}

fn call(number: u32) -> Row {
    let start_time = Timestamp::from_second(1_800_000_000 + i64::from(number)).unwrap_or_default();
    let company = Some(model::Id::new(1 + number % 3));
    Arc::new(BillableCall {
        start_time,
        company,
        callid: Some(format!("call {number}")),
        ..BillableCall::default()
    })
}

fn per_second(count: u32, begin: Instant) -> f64 {
    f64::from(count) / begin.elapsed().as_secs_f64()
}

fn say(line: &str) -> Outcome<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
