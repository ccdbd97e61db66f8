//! The store on a disk that fails: nothing acknowledged is lost, nothing is there twice.

use crate::disk::{DATABASE_NAME, Directory, Disk, segment_name};
use crate::error::StoreError;
use crate::record::Record;
use crate::sim::SimDisk;
use crate::store::{Options, Store};
use crate::{CdrQuery, frame};
use model::{Aor, BindingRecord, Cdr, FlowRecord, Id, OpenCall, Party};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// No gap, short segments, and the tables are brought up to date only when asked or closed.
fn options() -> Options {
    Options {
        sync_gap: Duration::ZERO,
        apply_every: Duration::from_secs(3600),
        segment_bytes: 400,
        cache_bytes: 1024 * 1024,
        ..Options::default()
    }
}

fn open(disk: &SimDisk) -> Result<Store, StoreError> {
    Store::open_on(Arc::new(disk.clone()), &options())
}

fn call(number: u32) -> OpenCall {
    OpenCall {
        call: format!("c{number}"),
        brand: Id::new(1),
        client: Id::new(1 + number % 2),
        caller: Party { number: "101".into(), name: "Alice Allison".into(), user: Some(Id::new(1)) },
        callee: Party { number: "102".into(), name: "Bob Bobson".into(), user: None },
        dialed: "102".into(),
        started_us: i64::from(number) * 1_000_000,
        answered_us: Some(i64::from(number) * 1_000_000 + 500_000),
        legs: Vec::new(),
        externals: Vec::new(),
        node: 1,
        relay: None,
    }
}

fn cdr(number: u32) -> Cdr {
    let mut cdr = call(number).into_lost_cdr(i64::from(number) * 1_000_000 + 900_000);
    cdr.cause = model::Cause { status: 200, text: "OK".into() };
    cdr
}

fn ended(number: u32) -> Record {
    Record::CallEnded(Box::new(cdr(number)))
}

fn binding(aor: u32, cseq: u32) -> BindingRecord {
    BindingRecord {
        aor: Aor::from_bits(aor),
        contact: "sip:alice@192.0.2.1".into(),
        instance: None,
        reg_id: None,
        call_id: "x".into(),
        cseq,
        q: 1000,
        expires_at: 1_800_000_000,
        path: Vec::new(),
        user_agent: String::new(),
        flow: FlowRecord { transport: "UDP".into(), listener: 0, remote: "192.0.2.1:5060".parse().unwrap() },
        nat: false,
    }
}

/// Appends and waits for the outcome.
fn put(store: &Store, record: Record) -> Result<(), StoreError> {
    let (tell, told) = mpsc::channel();
    store.append(record, move |outcome| tell.send(outcome).unwrap());
    told.recv().unwrap()
}

/// What was acknowledged, and what was asked but not acknowledged.
#[derive(Clone, Default)]
struct Promises {
    ended: BTreeSet<u32>,
    answered: BTreeSet<u32>,
    bindings: BTreeMap<u32, u32>,
    doubtful: Option<Step>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Answer(u32),
    End(u32),
    Bind(u32, u32),
    Unbind(u32),
    /// Bring the tables up to date.
    Apply,
    /// Stop in order and open again.
    Reopen,
}

const STORY: &[Step] = &[
    Step::Answer(1),
    Step::End(2),
    Step::Bind(1, 1),
    Step::Apply,
    Step::End(1),
    Step::Answer(3),
    Step::Bind(2, 1),
    Step::Bind(1, 2),
    Step::End(4),
    Step::Answer(5),
    Step::Apply,
    Step::Unbind(2),
    Step::End(6),
    Step::Reopen,
    Step::Answer(7),
    Step::End(8),
    Step::Bind(3, 1),
    Step::Apply,
    Step::End(7),
];

/// Plays the story until the end or the power cut.
fn play(disk: &SimDisk) -> Promises {
    let mut promises = Promises::default();
    let Ok(mut store) = open(disk) else { return promises };
    for &step in STORY {
        let outcome = match step {
            Step::Answer(number) => put(&store, Record::CallBegan(call(number))),
            Step::End(number) => put(&store, ended(number)),
            Step::Bind(aor, cseq) => put(&store, Record::Bind(binding(aor, cseq))),
            Step::Unbind(aor) => {
                let contact = binding(aor, 0).contact;
                put(&store, Record::Unbind { aor: Aor::from_bits(aor), contact })
            }
            Step::Apply => store.cdr_count().map(drop),
            Step::Reopen => {
                drop(store);
                match open(disk) {
                    Ok(next) => {
                        store = next;
                        // What was open when the last run ended has its record now.
                        let answered = std::mem::take(&mut promises.answered);
                        promises.ended.extend(answered);
                        continue;
                    }
                    Err(_) => return promises,
                }
            }
        };
        if outcome.is_err() {
            assert!(disk.is_cut(), "{step:?}: {outcome:?}");
            promises.doubtful = Some(step);
            break;
        }
        match step {
            Step::Answer(number) => drop(promises.answered.insert(number)),
            Step::End(number) => {
                promises.answered.remove(&number);
                promises.ended.insert(number);
            }
            Step::Bind(aor, cseq) => drop(promises.bindings.insert(aor, cseq)),
            Step::Unbind(aor) => drop(promises.bindings.remove(&aor)),
            Step::Apply | Step::Reopen => {}
        }
    }
    promises
}

fn numbers(store: &Store) -> Vec<u32> {
    let page = store.cdrs(&CdrQuery { limit: 1000, ..CdrQuery::default() }).unwrap();
    assert!(page.next.is_none());
    page.cdrs.iter().map(|cdr| cdr.call[1..].parse().unwrap()).collect()
}

/// Opens the disk twice and compares what is there with what was promised.
fn check(disk: &SimDisk, promises: &Promises, context: &str) {
    let store = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    let found = numbers(&store);
    let unique: BTreeSet<u32> = found.iter().copied().collect();
    assert_eq!(unique.len(), found.len(), "{context}: a record is there twice: {found:?}");
    assert_eq!(store.cdr_count().unwrap(), found.len() as u64, "{context}");
    let mut due: BTreeSet<u32> = promises.ended.union(&promises.answered).copied().collect();
    let missing: Vec<_> = due.difference(&unique).collect();
    assert!(missing.is_empty(), "{context}: lost {missing:?} of {due:?}");
    if let Some(Step::End(number) | Step::Answer(number)) = promises.doubtful {
        due.insert(number);
    }
    let strange: Vec<_> = unique.difference(&due).collect();
    assert!(strange.is_empty(), "{context}: nobody asked for {strange:?}");
    for &number in &promises.ended {
        let stored = store.cdr(&format!("c{number}")).unwrap().unwrap();
        let expected = cdr(number);
        // A call that was open at an orderly stop ended when the store was last alive.
        assert_eq!((stored.started_us, stored.client), (expected.started_us, expected.client), "{context}");
    }
    let bindings: BTreeMap<u32, u32> =
        store.bindings().unwrap().into_iter().map(|binding| (binding.aor.bits(), binding.cseq)).collect();
    let mut doubtful = promises.bindings.clone();
    match promises.doubtful {
        Some(Step::Bind(aor, cseq)) => drop(doubtful.insert(aor, cseq)),
        Some(Step::Unbind(aor)) => drop(doubtful.remove(&aor)),
        _ => {}
    }
    assert!(bindings == promises.bindings || bindings == doubtful, "{context}: {bindings:?}");
    drop(store);
    let again = open(disk).unwrap();
    assert_eq!(numbers(&again), found, "{context}: opening again changed something");
}

#[test]
fn whenever_the_power_goes_every_promise_is_kept() {
    let mut cut = 0;
    loop {
        let disk = SimDisk::new();
        disk.cut_after(cut);
        let promises = play(&disk);
        if !disk.is_cut() {
            break;
        }
        check(&disk.after_kill(), &promises, &format!("killed at operation {cut}"));
        for seed in 0..2 {
            check(
                &disk.after_power_cut(seed),
                &promises,
                &format!("power cut at operation {cut}, seed {seed}"),
            );
        }
        cut += 1;
    }
    assert!(cut > 80, "the story has {cut} operations only");
}

/// Records of each kind, with the tables brought up to date in between.
const LONG_STORY: &[Step] = &[
    Step::Answer(1),
    Step::End(2),
    Step::Bind(1, 1),
    Step::Apply,
    Step::End(1),
    Step::Bind(2, 1),
    Step::Bind(1, 2),
    Step::End(3),
    Step::Apply,
    Step::Unbind(2),
    Step::End(4),
    Step::Apply,
];

/// Does a step.
fn take(store: &Store, step: Step) -> Result<(), StoreError> {
    match step {
        Step::Answer(number) => put(store, Record::CallBegan(call(number))),
        Step::End(number) => put(store, ended(number)),
        Step::Bind(aor, cseq) => put(store, Record::Bind(binding(aor, cseq))),
        Step::Unbind(aor) => {
            let contact = binding(aor, 0).contact;
            put(store, Record::Unbind { aor: Aor::from_bits(aor), contact })
        }
        Step::Apply => store.cdr_count().map(drop),
        Step::Reopen => unreachable!("no step of this story"),
    }
}

/// As [`take`], until it succeeds.
fn insist(store: &Store, step: Step, context: &str) {
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while let Err(error) = take(store, step) {
        assert!(std::time::Instant::now() < until, "{context}: {step:?} fails for ever: {error}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The disk fails from its operation `fault` on, until `failing` more steps were refused, and works again.
/// Returns what was acknowledged; `None` when the story is over before.
fn play_with_fault(fault: u64, failing: u32, context: &str) -> Option<(SimDisk, Store, Promises)> {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    disk.cut_after(fault);
    let mut promises = Promises::default();
    let mut left = failing;
    let mut happened = false;
    for &step in LONG_STORY {
        if happened {
            insist(&store, step, context); // the journal waits a little before it tries the disk again
        } else if take(&store, step).is_err() {
            assert!(disk.is_cut(), "{context}: {step:?} failed on a working disk");
            // Others are refused as well, and are not given again.
            for number in 100..100 + left {
                if put(&store, ended(number)).is_ok() {
                    promises.ended.insert(number);
                }
            }
            left = 0;
            disk.lift();
            happened = true;
            insist(&store, step, context);
        }
        match step {
            Step::Answer(number) => drop(promises.answered.insert(number)),
            Step::End(number) => {
                promises.answered.remove(&number);
                promises.ended.insert(number);
            }
            Step::Bind(aor, cseq) => drop(promises.bindings.insert(aor, cseq)),
            Step::Unbind(aor) => drop(promises.bindings.remove(&aor)),
            Step::Apply | Step::Reopen => {}
        }
    }
    let happened = happened || disk.is_cut();
    disk.lift();
    happened.then_some((disk, store, promises))
}

#[test]
fn a_disk_that_fails_for_a_while_costs_nothing_but_that_while() {
    let mut fault = 0;
    loop {
        let context = format!("the disk failed at operation {fault}");
        let Some((disk, store, promises)) = play_with_fault(fault, 2, &context) else { break };
        // Killed, without power, or in order: what was acknowledged is there once, what was refused is not.
        check(&disk.after_kill(), &promises, &format!("{context}, then killed"));
        for seed in 0..2 {
            check(&disk.after_power_cut(seed), &promises, &format!("{context}, then a power cut, {seed}"));
        }
        store.close();
        assert_eq!(disk.segment_numbers(), [0; 0], "{context}");
        drop(store);
        check(&disk.after_kill(), &promises, &format!("{context}, then closed"));
        check(&disk.after_power_cut(fault), &promises, &format!("{context}, then closed and a power cut"));
        fault += 1;
    }
    assert!(fault > 40, "the story has {fault} operations only");
}

#[test]
fn a_refused_record_does_not_come_back_when_the_process_dies_before_the_next_one() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    put(&store, ended(1)).unwrap();
    disk.hold();
    let (tell, told) = mpsc::channel();
    store.append(ended(2), move |outcome| tell.send(outcome).unwrap());
    disk.wait_for_append();
    disk.fail_once_after(1); // the bytes go out, the sync fails
    disk.release();
    assert!(told.recv().unwrap().is_err());
    for crashed in [disk.after_kill(), disk.after_power_cut(1), disk.after_power_cut(2)] {
        assert_eq!(numbers(&open(&crashed).unwrap()), [1]);
    }
}

#[test]
fn the_journal_goes_on_while_the_database_cannot() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    put(&store, ended(1)).unwrap();
    disk.fail_database(true);
    assert!(store.cdr_count().is_err());
    put(&store, ended(2)).unwrap();
    assert!(store.cdr_count().is_err(), "tried again, in vain");
    assert!(store.seen_revision("here").is_err() && store.put_seen_revision("here", 1).is_err());
    let crashed = disk.after_kill();
    crashed.fail_database(false);
    assert_eq!(numbers(&open(&crashed).unwrap()), [2, 1]);
    disk.fail_database(false);
    put(&store, ended(3)).unwrap();
    assert_eq!(numbers(&store), [3, 2, 1]);
    store.put_seen_revision("here", 1).unwrap();
    assert_eq!(store.seen_revision("here").unwrap(), Some(1));
    // Bindings of a configuration that is elsewhere are of no revision of this one, not even when it is back.
    store.put_seen_revision("there", 7).unwrap();
    assert_eq!(
        (store.seen_revision("here").unwrap(), store.seen_revision("there").unwrap()),
        (None, Some(7))
    );
    store.close();
    assert_eq!(disk.segment_numbers(), [0; 0]);
}

#[test]
fn a_power_cut_while_recovering_changes_nothing() {
    // Everything in the journal, nothing in the tables, a call open.
    let disk = SimDisk::new();
    let mut promises = Promises::default();
    let store = open(&disk).unwrap();
    for number in 1..=9 {
        put(&store, Record::CallBegan(call(number))).unwrap();
        promises.answered.insert(number);
        if number % 3 != 0 {
            put(&store, ended(number)).unwrap();
            promises.answered.remove(&number);
            promises.ended.insert(number);
        }
        put(&store, Record::Bind(binding(number, number))).unwrap();
        promises.bindings.insert(number, number);
    }
    let crashed = disk.after_kill();
    drop(store);
    assert!(crashed.segment_numbers().len() > 3, "the journal has several segments");
    let mut cut = 0;
    loop {
        let disk = crashed.after_kill();
        disk.cut_after(cut);
        let opened = open(&disk);
        if !disk.is_cut() {
            break;
        }
        drop(opened);
        check(&disk.after_kill(), &promises, &format!("killed at operation {cut}"));
        for seed in [cut, cut + 1000] {
            check(
                &disk.after_power_cut(seed),
                &promises,
                &format!("power cut at operation {cut}, seed {seed}"),
            );
        }
        cut += 1;
    }
    assert!(cut > 10, "recovery has {cut} operations only");
}

/// A crashed disk with `count` ended calls in one segment, each in a frame of its own.
fn one_segment(count: u32) -> SimDisk {
    let disk = SimDisk::new();
    let store = Store::open_on(
        Arc::new(disk.clone()),
        &Options { segment_bytes: Options::default().segment_bytes, ..options() },
    )
    .unwrap();
    for number in 1..=count {
        put(&store, ended(number)).unwrap();
    }
    let crashed = disk.after_kill();
    drop(store);
    crashed
}

/// The crashed disk's segment and the ends of its frames.
fn frames(disk: &SimDisk) -> (u64, Vec<u8>, Vec<usize>) {
    let number = disk.segment_numbers()[0];
    let mut bytes = Vec::new();
    disk.edit_segment(number, |segment| bytes.clone_from(segment));
    let ends = frame::read(&bytes).unwrap().records.iter().map(|record| record.end).collect();
    (number, bytes, ends)
}

#[test]
fn a_journal_cut_at_any_byte_gives_its_whole_records_and_no_half_one() {
    let crashed = one_segment(4);
    let (segment, bytes, ends) = frames(&crashed);
    for cut in 0..=bytes.len() {
        let disk = crashed.after_kill();
        disk.edit_segment(segment, |bytes| bytes.truncate(cut));
        let whole = ends.iter().filter(|&&end| end <= cut).count() as u32;
        let store = open(&disk).unwrap();
        assert_eq!(numbers(&store), (1..=whole).rev().collect::<Vec<_>>(), "cut at {cut}");
        assert!((1..=whole).all(|number| store.cdr(&format!("c{number}")).unwrap() == Some(cdr(number))));
    }
}

#[test]
fn a_flipped_byte_is_told_to_the_operator_or_was_never_promised() {
    let crashed = one_segment(3);
    let (segment, bytes, ends) = frames(&crashed);
    for at in 0..bytes.len() {
        let disk = crashed.after_kill();
        disk.edit_segment(segment, |bytes| bytes[at] ^= 0x41);
        match open(&disk) {
            // Only the last frame can look as if a crash had cut it short.
            Ok(store) => assert_eq!((numbers(&store), at >= ends[1]), (vec![2, 1], true), "flipped {at}"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("journal-000000000000.log is damaged"), "flipped {at}: {text}");
                assert!(at < ends[1], "flipped {at}");
            }
        }
    }
}

#[test]
fn a_missing_segment_is_told_to_the_operator() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    for number in 1..=20 {
        put(&store, ended(number)).unwrap();
    }
    let crashed = disk.after_kill();
    drop(store);
    let second = crashed.segment_numbers()[1];
    crate::disk::Disk::remove_segment(&crashed, second).unwrap();
    let text = open(&crashed).unwrap_err().to_string();
    assert!(text.contains("missing") && text.contains("restore"), "{text}");
}

#[test]
fn open_calls_become_lost_ones_that_ended_when_the_store_was_last_alive() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    put(&store, Record::CallBegan(call(1))).unwrap();
    put(&store, Record::CallBegan(call(2))).unwrap();
    store.cdr_count().unwrap(); // these two are in the tables, the next one in the journal only
    put(&store, Record::CallBegan(call(3))).unwrap();
    put(&store, ended(2)).unwrap();
    let crashed = disk.after_kill();
    crashed.set_alive(77_000_000);
    let store = open(&crashed).unwrap();
    assert_eq!(numbers(&store), [3, 2, 1]);
    for number in [1, 3] {
        let lost = store.cdr(&format!("c{number}")).unwrap().unwrap();
        assert_eq!(lost, call(number).into_lost_cdr(77_000_000));
    }
    assert_eq!(store.cdr("c2").unwrap(), Some(cdr(2)));
}

#[test]
fn the_first_record_of_a_call_counts() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let other = |started_us| Record::CallEnded(Box::new(Cdr { started_us, dialed: "999".into(), ..cdr(1) }));
    put(&store, ended(1)).unwrap();
    put(&store, other(5)).unwrap(); // in the same group
    assert_eq!(store.cdr_count().unwrap(), 1);
    put(&store, other(6)).unwrap(); // in a later one
    put(&store, Record::CallBegan(call(1))).unwrap(); // told late
    assert_eq!(store.cdr("c1").unwrap(), Some(cdr(1)));
    let crashed = disk.after_kill();
    let store = open(&crashed).unwrap();
    assert_eq!((numbers(&store), store.cdr("c1").unwrap()), (vec![1], Some(cdr(1))));
}

#[test]
fn a_broken_disk_is_told_to_everyone_and_nothing_is_acknowledged_after_it() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    put(&store, ended(1)).unwrap();
    let (tell, told) = mpsc::channel();
    let append = |number: u32| {
        let tell = tell.clone();
        store.append(ended(number), move |outcome| tell.send((number, outcome)).unwrap());
    };
    disk.hold();
    append(2);
    disk.wait_for_append();
    (3..=20).for_each(append); // wait behind the one that is being written
    disk.cut_after(1); // its bytes go out, the sync fails
    disk.release();
    let outcomes: Vec<_> = told.iter().take(19).collect();
    assert_eq!(outcomes.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (2..=20).collect::<Vec<_>>());
    for (number, outcome) in outcomes {
        let error = outcome.expect_err("nothing may be acknowledged");
        assert!(matches!(error, StoreError::Io { .. }), "{number}: {error}");
    }
    append(21);
    assert!(matches!(told.recv().unwrap(), (21, Err(StoreError::Io { .. }))));
    drop(store);
    // What was acknowledged is there; what was not may be, if its bytes got through.
    let found = numbers(&open(&disk.after_kill()).unwrap());
    assert!(found == [1] || found == [2, 1], "{found:?}");
}

#[test]
fn whoever_watches_an_idle_store_sees_that_its_disk_is_gone_and_back() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    put(&store, ended(1)).unwrap();
    let load = store.load();
    assert!(load.takes_records && load.tables_are_fine, "{load:?}");
    assert_eq!((load.waiting, load.waiting_bytes, load.unapplied), (0, 0, 1));
    disk.cut_after(0);
    put(&store, ended(2)).unwrap_err();
    assert!(!store.load().takes_records);
    disk.lift();
    // Nobody sends a record: asking alone brings it back.
    while !store.load().takes_records {
        std::thread::yield_now();
    }
    put(&store, ended(3)).unwrap();
    store.close();
    assert!(!store.load().takes_records, "a closed store takes nothing");
}

#[test]
fn a_disk_that_breaks_under_the_database_refuses_and_loses_nothing() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    put(&store, ended(1)).unwrap();
    disk.cut_after(0);
    assert!(store.cdr_count().is_err(), "the tables cannot be brought up to date");
    assert!(put(&store, ended(2)).is_err());
    assert!(put(&store, ended(3)).is_err());
    let crashed = disk.after_kill();
    drop(store);
    let found = numbers(&open(&crashed).unwrap());
    assert_eq!(found, [1]);
}

#[test]
fn a_full_queue_refuses_at_once_and_recovers() {
    let disk = SimDisk::new();
    let store = Store::open_on(Arc::new(disk.clone()), &Options { queue_max: 3, ..options() }).unwrap();
    let (tell, told) = mpsc::channel();
    let append = |number: u32| {
        let tell = tell.clone();
        store.append(ended(number), move |outcome| tell.send((number, outcome.is_ok())).unwrap());
    };
    disk.hold();
    append(1);
    disk.wait_for_append();
    append(2);
    append(3);
    append(4);
    append(5);
    assert_eq!(
        [told.recv().unwrap(), told.recv().unwrap()],
        [(4, false), (5, false)],
        "refused while the others wait"
    );
    assert!(told.try_recv().is_err());
    disk.release();
    let outcomes: Vec<_> = told.iter().take(3).collect();
    assert_eq!(outcomes, [(1, true), (2, true), (3, true)]);
    put(&store, ended(6)).unwrap();
    assert_eq!(numbers(&store), [6, 3, 2, 1]);
}

#[test]
fn what_gathers_during_a_sync_goes_out_as_one_write() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let (tell, told) = mpsc::channel();
    let append = |number: u32| {
        let tell = tell.clone();
        store.append(ended(number), move |outcome| tell.send((number, outcome.is_ok())).unwrap());
    };
    disk.hold();
    append(1);
    disk.wait_for_append();
    (2..=100).for_each(append);
    disk.release();
    let outcomes: Vec<_> = told.iter().take(100).collect();
    assert_eq!(outcomes, (1..=100).map(|number| (number, true)).collect::<Vec<_>>(), "in order");
    assert_eq!(disk.appends(), 2);
}

#[test]
fn closing_acknowledges_what_waits_empties_the_journal_and_takes_no_more() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let (tell, told) = mpsc::channel();
    disk.hold();
    for number in 1..=50 {
        let tell = tell.clone();
        store.append(ended(number), move |outcome| tell.send(outcome.is_ok()).unwrap());
    }
    disk.release();
    store.close();
    assert_eq!(told.try_iter().filter(|ok| *ok).count(), 50, "all are told when close returns");
    assert_eq!(disk.segment_numbers(), [0; 0]);
    assert!(matches!(put(&store, ended(51)), Err(StoreError::Closed)));
    assert_eq!(store.cdr_count().unwrap(), 50, "queries go on");
    let before = disk.operations();
    store.close();
    assert_eq!(disk.operations(), before, "a second close does nothing");
}

#[test]
fn a_callback_may_panic_append_or_hold_the_last_clone() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    store.append(ended(1), |_| panic!("a test's panic"));
    let (tell, told) = mpsc::channel();
    let last = store.clone();
    store.append(ended(2), move |_| {
        let next = last.clone();
        last.append(ended(3), move |outcome| {
            drop(next);
            tell.send(outcome.is_ok()).unwrap();
        });
    });
    drop(store);
    assert!(told.recv().unwrap());
}

#[test]
fn old_segments_go_when_their_records_are_in_the_tables() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    for number in 1..=20 {
        put(&store, ended(number)).unwrap();
    }
    assert!(disk.segment_numbers().len() > 3);
    store.cdr_count().unwrap();
    put(&store, ended(21)).unwrap();
    store.close();
    assert_eq!(disk.segment_numbers(), [0; 0]);
}

/// A disk that said that a cut was done and kept the bytes: the refused frame is behind the acknowledged ones, whole or torn.
#[test]
fn what_was_refused_does_not_take_the_place_of_what_a_later_segment_has() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("data");
    Store::open(&directory).unwrap().close();
    let bound = |aor: u32| Record::Bind(binding(aor, 1));
    let frame_of = |first: u64, records: &[Record]| {
        let mut writer = frame::FrameWriter::default();
        writer.start(first);
        records.iter().for_each(|record| writer.push(&crate::record::encode(record)));
        writer.finish().to_vec()
    };
    let acknowledged = [frame::header(0), frame_of(0, &[bound(1), bound(2)])].concat();
    let refused = frame_of(2, &[bound(3), bound(4)]);
    let later = [frame::header(2), frame_of(2, &[bound(5)])].concat();
    for kept in [refused.len(), refused.len() - 3, 1] {
        let copy = tempfile::tempdir().unwrap();
        let copied = copy.path().join("data");
        std::fs::create_dir(&copied).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&copied, private).unwrap();
        std::fs::copy(directory.join(DATABASE_NAME), copied.join(DATABASE_NAME)).unwrap();
        let first = [&acknowledged[..], &refused[..kept]].concat();
        std::fs::write(copied.join(segment_name(0)), first).unwrap();
        std::fs::write(copied.join(segment_name(2)), &later).unwrap();
        let store = Store::open(&copied).unwrap();
        let mut aors: Vec<_> = store.bindings().unwrap().iter().map(|each| each.aor).collect();
        aors.sort();
        assert_eq!(aors, [1, 2, 5].map(Aor::from_bits), "{kept} octets of what was refused");
        store.append(bound(6), |kept| assert!(kept.is_ok()));
        store.close();
        drop(store);
        assert_eq!(Store::open(&copied).unwrap().bindings().unwrap().len(), 4);
    }
}

#[test]
fn a_database_that_vanishes_is_not_replaced_by_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Directory::open(dir.path()).unwrap();
    let mut builder = redb::Builder::new();
    builder.set_cache_size(1024 * 1024);
    assert!(disk.database(&builder, false).is_err() && !dir.path().join(DATABASE_NAME).exists());
    drop(disk.database(&builder, true).unwrap());
    assert!(disk.database(&builder, false).is_ok());
}
