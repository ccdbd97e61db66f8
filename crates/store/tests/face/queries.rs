//! Asking for call records: order, pages, filters.

use crate::common::{cdr, number, put, put_cdrs};
use model::{Cdr, Id};
use store::{CdrQuery, Record, Store};

/// Every page of a query, as numbers of calls.
fn pages(store: &Store, query: &CdrQuery) -> Vec<Vec<u64>> {
    let mut query = query.clone();
    let mut pages = Vec::new();
    loop {
        let page = store.cdrs(&query).unwrap();
        pages.push(page.cdrs.iter().map(number).collect());
        match page.next {
            Some(next) => query.after = Some(next.to_string().parse().unwrap()),
            None => return pages,
        }
    }
}

#[test]
fn pages_come_newest_first_and_miss_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put_cdrs(&store, (1..=7).rev()); // the order of their ends is not that of their starts
    let query = |limit| CdrQuery { limit, ..CdrQuery::default() };
    assert_eq!(pages(&store, &query(3)), [vec![7, 6, 5], vec![4, 3, 2], vec![1]]);
    assert_eq!(pages(&store, &query(7)), [vec![7, 6, 5, 4, 3, 2, 1]], "a page that fits exactly is the last");
    assert_eq!(pages(&store, &query(0))[0], [7], "no limit is too small");
    assert_eq!(store.cdr_count().unwrap(), 7);
    assert_eq!(store.cdr("c4").unwrap(), Some(cdr(4)));
    assert_eq!(store.cdr("c8").unwrap(), None);
}

#[test]
fn what_comes_between_two_pages_moves_neither() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put_cdrs(&store, [1, 2, 3, 4]);
    let query = CdrQuery { limit: 2, ..CdrQuery::default() };
    let first = store.cdrs(&query).unwrap();
    put_cdrs(&store, [5, 6]);
    let second = store.cdrs(&CdrQuery { after: first.next, ..query }).unwrap();
    assert_eq!(second.cdrs.iter().map(number).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn a_client_sees_its_own_and_a_time_range_is_half_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put_cdrs(&store, 1..=9);
    let own = CdrQuery { client: Some(Id::new(1)), limit: 2, ..CdrQuery::default() };
    assert_eq!(pages(&store, &own), [vec![9, 6], vec![3]]);
    let nobody = CdrQuery { client: Some(Id::new(u32::MAX)), ..CdrQuery::default() };
    assert_eq!(pages(&store, &nobody), [[0; 0]]);
    let range = |from_us, until_us| CdrQuery { from_us, until_us, ..CdrQuery::default() };
    assert_eq!(pages(&store, &range(Some(3_000), Some(6_000))), [[5, 4, 3]]);
    assert_eq!(pages(&store, &range(Some(8_000), None)), [[9, 8]]);
    assert_eq!(pages(&store, &range(None, Some(2_001))), [[2, 1]]);
    assert_eq!(pages(&store, &range(Some(6_000), Some(3_000))), [[0; 0]]);
    let both = CdrQuery { client: Some(Id::new(2)), limit: 1, ..range(Some(2_000), Some(8_000)) };
    assert_eq!(pages(&store, &both), [[7], [4]]);
}

#[test]
fn calls_of_the_same_microsecond_and_before_1970_have_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for (number, started_us) in [(1, -5), (2, 0), (3, 0), (4, i64::MAX), (5, i64::MIN)] {
        let record = Cdr { started_us, ..cdr(number) };
        put(&store, Record::CallEnded(Box::new(record))).unwrap();
    }
    let query = CdrQuery { limit: 1, ..CdrQuery::default() };
    assert_eq!(pages(&store, &query), [[4], [3], [2], [1], [5]]);
}
