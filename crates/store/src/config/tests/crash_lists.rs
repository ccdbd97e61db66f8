//! From the journal of calls to the lists of calls, with the power going at any moment on either side: each call is listed, and once.
//!
//! Elsewhere: the disk (`sim`), each side by itself (`crash_tests`, `crash_file`), what the rows of a call are (program `carillon`).

use super::crash_file::open;
use super::fixture::{made, table};
use crate::config::{ConfigStore, RecordQuery};
use crate::sim::SimDisk;
use crate::{Options, Record, Store};
use model::{Cause, Cdr, HungUpBy, Id, OpenCall, Party};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use std::time::Duration;

const CALLS: u32 = 5;
const AT_ONCE: usize = 2;

fn journal(disk: &SimDisk) -> Result<Store, crate::StoreError> {
    let options = Options {
        sync_gap: Duration::ZERO,
        apply_every: Duration::from_secs(3600),
        cache_bytes: 1 << 20,
        ..Options::default()
    };
    Store::open_on(Arc::new(disk.clone()), &options)
}

fn cdr(number: u32) -> Cdr {
    let started_us = i64::from(number) * 1_000_000;
    let call = OpenCall {
        call: format!("c{number}"),
        brand: Id::new(1),
        client: Id::new(1),
        caller: Party::default(),
        callee: Party::default(),
        dialed: String::new(),
        started_us,
        answered_us: Some(started_us),
        legs: Vec::new(),
        externals: Vec::new(),
        node: 1,
        relay: None,
    };
    let cause = Cause { status: 200, text: "OK".into() };
    Cdr { hung_up_by: HungUpBy::Caller, cause, ..call.into_lost_cdr(started_us + 5) }
}

/// A call ends; whether that was acknowledged.
fn end(store: &Store, number: u32) -> bool {
    let (tell, told) = mpsc::channel();
    store.append(Record::CallEnded(Box::new(cdr(number))), move |kept| tell.send(kept.is_ok()).unwrap());
    told.recv().unwrap()
}

/// Lists what is not listed; false: something failed.
async fn list(calls: &Store, lists: &ConfigStore) -> bool {
    loop {
        let Ok(unlisted) = calls.unlisted(None, AT_ONCE) else { return false };
        if unlisted.is_empty() {
            return true;
        }
        let row = |(_, cdr): &(_, Result<Cdr, String>)| {
            let call = &cdr.as_ref().unwrap().call;
            made("BillableCall", 0, &[("callid", json!(call)), ("origin", json!(call))])
        };
        let rows = unlisted.iter().map(row).collect();
        if lists.append_once(rows, |_, _| false).await.is_err() {
            return false;
        }
        let keys: Vec<_> = unlisted.into_iter().map(|(key, _)| key).collect();
        if calls.listed(&keys).is_err() {
            return false;
        }
    }
}

/// Calls end and are listed until the power goes; which ends were acknowledged.
async fn play(calls: &SimDisk, lists: &SimDisk) -> BTreeSet<String> {
    let mut ended = BTreeSet::new();
    let (Ok(calls), Ok(lists)) = (journal(calls), open(lists).await) else { return ended };
    for number in 0..CALLS {
        if !end(&calls, number) {
            break;
        }
        ended.insert(format!("c{number}"));
        if number % 2 == 0 && !list(&calls, &lists).await {
            break;
        }
    }
    ended
}

async fn listed(lists: &ConfigStore) -> Vec<String> {
    let page = lists.query(&RecordQuery::new(table("BillableCall"))).await.unwrap();
    page.rows.iter().map(|row| row.named("callid").text().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_power_goes_each_call_is_listed_once() {
    let base = (SimDisk::new(), SimDisk::new());
    drop((journal(&base.0).unwrap(), open(&base.1).await.unwrap()));
    let base = (base.0.after_kill(), base.1.after_kill());
    let whole = (base.0.after_kill(), base.1.after_kill());
    assert_eq!(play(&whole.0, &whole.1).await.len(), CALLS as usize);
    let operations = [whole.0.operations(), whole.1.operations()];
    assert!(operations.iter().all(|count| *count > 20), "{operations:?}");
    let mut half_done = 0;
    for (side, operations) in operations.into_iter().enumerate() {
        for cut in 0..operations {
            let disks = (base.0.after_kill(), base.1.after_kill());
            [&disks.0, &disks.1][side].cut_after(cut);
            let ended = play(&disks.0, &disks.1).await;
            let at = format!("side {side}, cut {cut}");
            for wreck in [
                (disks.0.after_kill(), disks.1.after_kill()),
                (disks.0.after_power_cut(cut), disks.1.after_power_cut(cut)),
            ] {
                let (calls, lists) = (journal(&wreck.0).unwrap(), open(&wreck.1).await.unwrap());
                let before = listed(&lists).await;
                let due = calls.unlisted(None, 100).unwrap();
                half_done +=
                    usize::from(due.iter().any(|(_, cdr)| before.contains(&cdr.as_ref().unwrap().call)));
                assert!(list(&calls, &lists).await, "{at}");
                let found = listed(&lists).await;
                let unique: BTreeSet<String> = found.iter().cloned().collect();
                assert_eq!(unique.len(), found.len(), "{at}: listed twice: {found:?}");
                assert!(unique.is_superset(&ended), "{at}: {ended:?} ended, {found:?} are listed");
                assert_eq!(unique.len() as u64, calls.cdr_count().unwrap(), "{at}");
                assert!(calls.unlisted(None, 1).unwrap().is_empty(), "{at}");
            }
        }
    }
    assert!(half_done > 0, "some wreck was between the two");
}
