//! Records and small helpers for the tests of the store's public face.

use model::{Cause, Cdr, HungUpBy, Id, OpenCall, Party};
use std::sync::mpsc;
use store::{Record, Store, StoreError};

/// An answered call whose figures all follow from its number.
pub(crate) fn open_call(number: u64) -> OpenCall {
    let started_us = number as i64 * 1_000;
    OpenCall {
        call: format!("c{number}"),
        brand: Id::new(1),
        client: Id::new(1 + (number % 3) as u32),
        caller: Party { number: "101".into(), name: "Alice Allison".into(), user: Some(Id::new(1)) },
        callee: Party { number: "102".into(), name: "Bob Bobson".into(), user: Some(Id::new(2)) },
        dialed: "102".into(),
        started_us,
        answered_us: Some(started_us + 300),
        legs: Vec::new(),
        externals: Vec::new(),
        node: 1,
        relay: None,
    }
}

/// Its record.
pub(crate) fn cdr(number: u64) -> Cdr {
    let cdr = open_call(number).into_lost_cdr(number as i64 * 1_000 + 700);
    Cdr { hung_up_by: HungUpBy::Callee, cause: Cause { status: 200, text: "OK".into() }, ..cdr }
}

/// The number of a record made here.
pub(crate) fn number(cdr: &Cdr) -> u64 {
    cdr.call[1..].parse().unwrap()
}

/// Appends and waits for the outcome.
pub(crate) fn put(store: &Store, record: Record) -> Result<(), StoreError> {
    let (tell, told) = mpsc::channel();
    store.append(record, move |outcome| tell.send(outcome).unwrap());
    told.recv().unwrap()
}

/// Appends the records of these calls and waits until all are on the disk.
pub(crate) fn put_cdrs(store: &Store, numbers: impl IntoIterator<Item = u64>) {
    let (tell, told) = mpsc::channel();
    for number in numbers {
        let tell = tell.clone();
        store.append(Record::CallEnded(Box::new(cdr(number))), move |outcome| tell.send(outcome).unwrap());
    }
    drop(tell);
    told.iter().for_each(|outcome| outcome.unwrap());
}
