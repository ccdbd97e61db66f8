//! A process that keeps calls is killed between its journal and the table, again and again: no record is lost, and none is there twice.
//!
//! The test starts its own binary once more as the victim, which prints the number of each call whose record it was told to be durable.

use super::*;
use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

const DIR: &str = "CARILLON_KILL_TEST_DIR";
const PORT: &str = "CARILLON_KILL_TEST_PORT";
const SCHEMA: &str = "CARILLON_KILL_TEST_SCHEMA";
const FIRST: &str = "CARILLON_KILL_TEST_FIRST";
const CALLS_A_ROUND: u32 = 1_000_000;
/// Calls at any time.
const UNDER_WAY: u32 = 50;
const NAME: &str = "records::tests::kill::what_a_killed_process_was_told_to_be_durable_is_in_the_table_once";

/// When the victim dies: how many records it was told of before the gate changes, how it does, how many after.
const ROUNDS: &[(usize, Pass, usize)] = &[
    (1, Pass::All, 0),
    (700, Pass::All, 0),
    // In the journal, not in the table; in memory and beyond.
    (100, Pass::Nothing, 20),
    (200, Pass::Nobody, 500),
    // In the table, and the victim does not know.
    (100, Pass::Questions, 1),
    (50, Pass::Questions, 300),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_was_told_to_be_durable_is_in_the_table_once() {
    if let Ok(dir) = env::var(DIR) {
        return victim(Path::new(&dir)).await;
    }
    let (world, dir) = (World::new().await, TempDir::new().unwrap());
    let (mut durable, mut begun) = (BTreeSet::new(), BTreeSet::new());
    for (round, &(before, pass, after)) in (0..).zip(ROUNDS) {
        let first = round * CALLS_A_ROUND;
        let mut victim = Command::new(env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture"])
            .env(DIR, dir.path())
            .env(PORT, world.gate.port.to_string())
            .env(SCHEMA, &world.schema)
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        spawn_blocking(move || lines.map_while(Result::ok).all(|line| tell.send(line).is_ok()));
        // Whether a record was told to be durable, and whether the journal's word was enough for it.
        let mut note = |line: String| match line.split(' ').collect::<Vec<_>>()[..] {
            ["begun", number] => {
                begun.insert(number.parse::<u32>().unwrap());
                (false, false)
            }
            ["durable", number, place] => (durable.insert(number.parse::<u32>().unwrap()), place == "here"),
            _ => (false, false), // the test harness has a word of its own to say
        };
        for (count, pass) in [(before, Pass::All), (after, pass)] {
            world.gate.set(pass);
            let mut left = count;
            while left > 0 {
                let (is_durable, is_here) = note(told.recv().await.expect("the victim died by itself"));
                // What it said before the gate changed may still be on its way.
                left -= usize::from(is_durable && (is_here || pass == Pass::All));
            }
        }
        victim.kill().unwrap();
        while let Some(line) = told.recv().await {
            note(line); // what it still said before it died
        }
        victim.wait().unwrap();
    }
    // The node is back, and nobody else has taken its calls over.
    world.gate.set(Pass::All);
    let records = world.start(dir.path(), 1, nobody(), eager()).await;
    until("nothing is left", async || {
        records.notes().await == 0 && records.unsent().await == 0 && records.waiting() == 0
    })
    .await;
    let found = world.records().await;
    let missing: Vec<&u32> = durable.union(&begun).filter(|number| !found.contains_key(number)).collect();
    assert!(missing.is_empty(), "{} of {} are lost: {missing:?}", missing.len(), durable.len());
    for (number, record) in &found {
        if record.cause.status == 500 {
            assert!(!durable.contains(number), "{number} has ended, and is told to be lost");
            assert_eq!(*record, open_call(*number).into_lost_cdr(record.ended_us));
        } else {
            assert_eq!(*record, cdr(*number));
        }
    }
    assert_eq!(world.table.cdr_count().await.unwrap(), found.len() as u64);
    assert!(found.values().any(|record| record.cause.status == 500), "some calls were open");
    records.stop().await;
}

/// Keeps calls as fast as it can until it is killed. Each begins and ends, but for every seventh, which goes on.
async fn victim(dir: &Path) {
    let number = |name: &str| env::var(name).unwrap().parse::<u32>().unwrap();
    let place = place(u16::try_from(number(PORT)).unwrap(), &env::var(SCHEMA).unwrap());
    let apart = Apart::start().unwrap();
    // What earlier victims left is a matter of the survivor.
    let patience = Patience {
        table: Duration::from_millis(100),
        grace: Duration::from_secs(3600),
        waiting: 100,
        ..Patience::default()
    };
    let records = ClusterRecords::start(open(dir), &place, 1, nobody(), patience, &apart).await.unwrap();
    let first = number(FIRST);
    let mut under_way = VecDeque::new();
    for number in first..first + CALLS_A_ROUND {
        records.note(open_call(number), 0).await;
        say(&format!("begun {number}"));
        if number % 7 == 0 {
            continue;
        }
        let ((tell, told), own) = (oneshot::channel(), Arc::clone(&records));
        let done = move |kept: bool| {
            assert!(kept);
            say(&format!("durable {number} {}", if own.is_away() { "here" } else { "there" }));
            tell.send(()).unwrap();
        };
        records.ended(cdr(number), 0, Box::new(done));
        under_way.push_back(told);
        if under_way.len() > UNDER_WAY as usize {
            under_way.pop_front().unwrap().await.unwrap();
        }
    }
}

/// One write of a whole line, past the harness's capture, so that the parent never reads half a number.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}
