//! A process that keeps records is killed in the middle of it, again and again: whatever it was told to be safe is there.
//!
//! The test starts its own binary once more as the victim, which prints the number of each record it was told about.

use crate::common::{cdr, number, open_call};
use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use store::{CdrQuery, Options, Record, Store};

const DIR: &str = "STORE_KILL_TEST_DIR";
const FIRST: &str = "STORE_KILL_TEST_FIRST";
const ROUNDS: u64 = 5;
const CALLS_A_ROUND: u64 = 1_000_000;
/// Records that wait for the disk at any time.
const UNDER_WAY: u64 = 20;

fn options() -> Options {
    Options {
        sync_gap: Duration::from_millis(1),
        apply_every: Duration::from_millis(20),
        apply_bytes: 64 * 1024,
        segment_bytes: 32 * 1024,
        ..Options::default()
    }
}

#[test]
fn what_a_killed_process_was_told_to_be_safe_is_there() {
    if let Ok(dir) = env::var(DIR) {
        return victim(Path::new(&dir), env::var(FIRST).unwrap().parse().unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut safe = BTreeSet::new();
    for round in 0..ROUNDS {
        let first = round * CALLS_A_ROUND;
        let mut victim = Command::new(env::current_exe().unwrap())
            .args(["kill::what_a_killed_process_was_told_to_be_safe_is_there", "--exact", "--nocapture"])
            .env(DIR, dir.path())
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        // The test harness has a word of its own to say; then the numbers come.
        let mut numbers = lines.by_ref().map_while(Result::ok).filter_map(|line| line.parse::<u64>().ok());
        let enough = 200 + 300 * round as usize;
        safe.extend(numbers.by_ref().take(enough));
        victim.kill().unwrap();
        safe.extend(numbers); // what it still said before it died
        victim.wait().unwrap();
        assert!(safe.range(first..).count() >= enough, "the victim died by itself");
        check(dir.path(), &safe);
    }
}

/// Keeps records as fast as it can until it is killed. Even calls are answered and stay open, odd ones end.
fn victim(dir: &Path, first: u64) {
    let store = Store::open_with(dir, options()).unwrap();
    let (done, told) = mpsc::channel();
    for number in first..first + CALLS_A_ROUND {
        if number >= first + UNDER_WAY {
            told.recv().unwrap();
        }
        let record = match number % 2 {
            0 => Record::CallBegan(open_call(number)),
            _ => Record::CallEnded(Box::new(cdr(number))),
        };
        let done = done.clone();
        store.append(record, move |outcome| {
            outcome.unwrap();
            // One write of a whole line, past the harness's capture, so that the parent never reads half a number.
            std::io::stdout().lock().write_all(format!("{number}\n").as_bytes()).unwrap();
            done.send(()).unwrap();
        });
    }
}

fn check(dir: &Path, safe: &BTreeSet<u64>) {
    let store = Store::open_with(dir, options()).unwrap();
    let mut query = CdrQuery { limit: CdrQuery::LIMIT_MAX, ..CdrQuery::default() };
    let mut found = Vec::new();
    loop {
        let page = store.cdrs(&query).unwrap();
        for stored in &page.cdrs {
            let number = number(stored);
            found.push(number);
            if number % 2 == 1 {
                assert_eq!(*stored, cdr(number));
            } else {
                assert_eq!(*stored, open_call(number).into_lost_cdr(stored.ended_us));
            }
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    let unique: BTreeSet<u64> = found.iter().copied().collect();
    assert_eq!(unique.len(), found.len(), "a record is there twice");
    let lost: Vec<_> = safe.difference(&unique).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert_eq!(store.cdr_count().unwrap(), found.len() as u64);
}
