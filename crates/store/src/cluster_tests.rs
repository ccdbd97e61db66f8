//! The store of a node of a cluster: notes are handed out and never become records, and what the shared database lacks waits in order.
//!
//! Elsewhere: failing disks in general (`crash_tests`), the shared table (`config::tests::calls`).

use crate::error::StoreError;
use crate::note::{CallNote, EndedCall};
use crate::record::Record;
use crate::sim::SimDisk;
use crate::store::{Options, Store};
use model::{Cdr, Id, OpenCall, Party};
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

fn open_as(disk: &SimDisk, is_clustered: bool) -> Result<Store, StoreError> {
    let options = Options {
        sync_gap: Duration::ZERO,
        apply_every: Duration::from_secs(3600),
        segment_bytes: 400,
        cache_bytes: 1024 * 1024,
        is_clustered,
        ..Options::default()
    };
    Store::open_on(Arc::new(disk.clone()), &options)
}

fn call(number: u32) -> OpenCall {
    OpenCall {
        call: format!("c{number}"),
        brand: Id::new(1),
        client: Id::new(1),
        caller: Party { number: "101".into(), name: "Alice Allison".into(), user: Some(Id::new(1)) },
        callee: Party::default(),
        dialed: "102".into(),
        started_us: 1_000_000,
        answered_us: Some(2_000_000),
        legs: Vec::new(),
        externals: Vec::new(),
        node: 1,
        relay: None,
    }
}

/// Calls end in the reverse order of their names.
fn settled(number: u32, epoch: u32) -> EndedCall {
    let cdr: Cdr = call(number).into_lost_cdr(100_000_000 - i64::from(number));
    EndedCall { cdr, epoch, node: 1, is_lost: number.is_multiple_of(2) }
}

fn put(store: &Store, record: Record) -> Result<(), StoreError> {
    let (tell, told) = mpsc::channel();
    store.append(record, move |outcome| tell.send(outcome).unwrap());
    told.recv().unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Note(u32, u32),
    Settle(u32, u32),
    Move(u32),
    Send(u32, u32),
    Apply,
    Reopen,
}

const STORY: &[Step] = &[
    Step::Note(1, 0),
    Step::Note(2, 1),
    Step::Settle(3, 0),
    Step::Apply,
    Step::Note(4, 0),
    Step::Settle(1, 0),
    Step::Note(2, 3),
    Step::Settle(5, 2),
    Step::Send(3, 0),
    Step::Move(4),
    Step::Apply,
    Step::Note(6, 0),
    Step::Reopen,
    Step::Send(1, 0),
    Step::Note(7, 1),
    Step::Settle(8, 0),
    Step::Send(8, 0),
    Step::Apply,
    Step::Move(6),
    Step::Settle(2, 3),
    Step::Reopen,
    Step::Send(2, 3),
];

/// What is there: epochs of noted calls, epochs of unsent ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    notes: BTreeMap<u32, u32>,
    unsent: BTreeMap<u32, u32>,
}

impl State {
    fn after(&self, step: Step) -> Self {
        let mut state = self.clone();
        match step {
            Step::Note(number, epoch) => drop(state.notes.insert(number, epoch)),
            Step::Settle(number, epoch) => {
                state.notes.remove(&number);
                state.unsent.insert(number, epoch);
            }
            Step::Move(number) => drop(state.notes.remove(&number)),
            Step::Send(number, _) => drop(state.unsent.remove(&number)),
            Step::Apply | Step::Reopen => {}
        }
        state
    }
}

/// Plays until the end or the power cut. Gives what was acknowledged, and what may be there as well.
fn play(disk: &SimDisk) -> (State, State) {
    let mut state = State::default();
    let Ok(mut store) = open_as(disk, true) else { return (state.clone(), state) };
    for &step in STORY {
        let outcome = match step {
            Step::Note(number, epoch) => {
                let note = CallNote { call: call(number), epoch, node: 1, left_us: None };
                put(&store, Record::CallNoted(Box::new(note)))
            }
            Step::Settle(number, epoch) => put(&store, Record::CallSettled(Box::new(settled(number, epoch)))),
            Step::Move(number) => put(&store, Record::CallMoved { call: format!("c{number}") }),
            Step::Send(number, epoch) => {
                put(&store, Record::CallsSent { keys: vec![settled(number, epoch).key()] })
            }
            Step::Apply => store.unsent_count().map(drop),
            Step::Reopen => {
                drop(store);
                match open_as(disk, true) {
                    Ok(next) => {
                        store = next;
                        continue;
                    }
                    Err(_) => return (state.clone(), state),
                }
            }
        };
        if outcome.is_err() {
            assert!(disk.is_cut(), "{step:?}: {outcome:?}");
            return (state.clone(), state.after(step));
        }
        state = state.after(step);
    }
    (state.clone(), state)
}

fn found(store: &Store) -> State {
    let number = |name: &str| name[1..].parse::<u32>().unwrap();
    let notes = store.open_calls().unwrap();
    let notes = notes.iter().map(|note| {
        assert_eq!(note.call, call(number(&note.call.call)));
        (number(&note.call.call), note.epoch)
    });
    let unsent = store.unsent(1000).unwrap();
    assert_eq!(store.unsent_count().unwrap(), unsent.len() as u64);
    assert!(unsent.is_sorted_by_key(|ended| ended.cdr.ended_us), "they wait in the order of their ends");
    let unsent = unsent.iter().map(|ended| {
        let number = number(&ended.cdr.call);
        assert_eq!(*ended, settled(number, ended.epoch));
        (number, ended.epoch)
    });
    State { notes: notes.collect(), unsent: unsent.collect() }
}

#[test]
fn whenever_the_power_goes_notes_are_handed_out_and_records_wait() {
    let mut cut = 0;
    loop {
        let disk = SimDisk::new();
        disk.cut_after(cut);
        let (told, doubtful) = play(&disk);
        if !disk.is_cut() {
            assert_eq!(told.notes.keys().copied().collect::<Vec<_>>(), [7]);
            assert_eq!(told.unsent.keys().copied().collect::<Vec<_>>(), [5]);
            break;
        }
        for (what, disk) in [
            ("killed", disk.after_kill()),
            ("power cut, seed 0", disk.after_power_cut(0)),
            ("power cut, seed 1", disk.after_power_cut(1)),
        ] {
            let store = open_as(&disk, true).unwrap();
            let state = found(&store);
            assert!(state == told || state == doubtful, "{what} at {cut}: {state:?}, told {told:?}");
            assert_eq!(store.cdr_count().unwrap(), 0, "no note becomes a record");
            drop(store);
            assert_eq!(found(&open_as(&disk, true).unwrap()), state, "opening again changes nothing");
        }
        cut += 1;
    }
    assert!(cut > 60, "the story has {cut} operations only");
}

#[test]
fn a_note_remembers_when_its_process_was_last_alive_however_often_the_node_dies() {
    let disk = SimDisk::new();
    let store = open_as(&disk, true).unwrap();
    for number in [1, 2] {
        let note = CallNote { call: call(number), epoch: 0, node: 1, left_us: None };
        put(&store, Record::CallNoted(Box::new(note))).unwrap();
    }
    // One of before clusters.
    put(&store, Record::CallBegan(call(3))).unwrap();
    assert_eq!(store.open_calls().unwrap(), [], "this process is alive");
    drop(store);
    let store = open_as(&disk, true).unwrap();
    let left: Vec<Option<i64>> = store.open_calls().unwrap().iter().map(|note| note.left_us).collect();
    assert!(left.len() == 3 && left[0].is_some() && left.iter().all(|time| *time == left[0]), "{left:?}");
    // One goes on here.
    let adopted = CallNote { call: call(2), epoch: 1, node: 1, left_us: None };
    put(&store, Record::CallNoted(Box::new(adopted))).unwrap();
    assert_eq!(store.open_calls().unwrap().len(), 2);
    let names = |notes: &[CallNote]| notes.iter().map(|note| note.call.call.clone()).collect::<Vec<_>>();
    assert_eq!(names(&store.adopted_calls().unwrap()), ["c2"]);
    let between = crate::apply::now_us();
    drop(store);
    let store = open_as(&disk, true).unwrap();
    assert_eq!(store.adopted_calls().unwrap(), []);
    let notes = store.open_calls().unwrap();
    assert_eq!(notes.iter().map(|note| note.epoch).collect::<Vec<_>>(), [0, 1, 0]);
    assert_eq!((notes[0].left_us, notes[2].left_us), (left[0], left[2]));
    assert!(notes[1].left_us >= left[0] && left[0] <= Some(between));
    drop(store);
    // A node that leaves the cluster is alone with them.
    let alone = open_as(&disk, false).unwrap();
    assert_eq!(alone.cdr_count().unwrap(), 3);
    assert_eq!(Some(alone.cdr("c1").unwrap().unwrap().ended_us), left[0].map(|time| time.max(2_000_000)));
    assert_eq!(alone.open_calls().unwrap(), []);
}

#[test]
fn a_database_of_before_clusters_gets_what_it_lacks() {
    let disk = SimDisk::new();
    let store = open_as(&disk, false).unwrap();
    put(&store, Record::CallEnded(Box::new(settled(1, 0).cdr))).unwrap();
    store.drop_later_tables();
    drop(store);
    let store = open_as(&disk, true).unwrap();
    put(&store, Record::CallSettled(Box::new(settled(2, 0)))).unwrap();
    assert_eq!((store.cdr_count().unwrap(), store.unsent_count().unwrap()), (1, 1));
}
