//! The destinations of one brand by prefix, and the rates of one list by destination: flat sorted tables, in pages.
//! In: prefixes and ids. Out: which destinations a number has, the longest prefix first. A million prefixes take 24 MB, a
//! million rates 44 MB where they are on most destinations. Elsewhere: keeping them in step with the rows ([`crate::tariffs`]).

use crate::number::Digits;
use crate::rate::Rate;
use crate::sorted::{Page, Paged, merged};

/// No entry.
const NONE: u32 = u32::MAX;

/// The destinations of a brand, those of less than four digits on a page of their own.
#[derive(Debug, Default)]
pub(crate) struct Prefixes(Paged<Table>);

impl Prefixes {
    /// The table without what goes and with what comes; pages of other numbers are shared.
    pub(crate) fn changed(&self, gone: Vec<(Digits, u32)>, come: Vec<(Digits, u32)>) -> Self {
        Self(self.0.changed(gone, come, |(key, _)| key.page()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The destinations whose prefix the number begins with, the longest first.
    pub(crate) fn matches(&self, number: Digits) -> impl Iterator<Item = u32> + '_ {
        let long = Some(number.page()).filter(|page| *page != 0);
        let pages = long.into_iter().chain([0]).filter_map(|page| self.0.page(page));
        pages.flat_map(move |table| table.matches(number))
    }
}

/// Destinations of which none begins with one that is elsewhere, but for shorter ones.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Sorted; ids of equal ones (rows of other systems may have such) ascend.
    keys: Box<[Digits]>,
    ids: Box<[u32]>,
    /// The place of the longest shorter prefix of each; [`NONE`] where there is none.
    parents: Box<[u32]>,
}

impl Page for Table {
    type Entry = (Digits, u32);

    fn changed(&self, gone: Vec<(Digits, u32)>, come: Vec<(Digits, u32)>) -> Self {
        let old = self.keys.iter().copied().zip(self.ids.iter().copied());
        let new = merged(old, gone, come, |entry| *entry);
        let keys: Box<[Digits]> = new.iter().map(|(key, _)| *key).collect();
        let parents = parents(&keys);
        Self { ids: new.iter().map(|(_, id)| *id).collect(), keys, parents }
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Table {
    /// One search and a walk.
    fn matches(&self, number: Digits) -> impl Iterator<Item = u32> + '_ {
        // The last entry up to the number begins with each prefix of the number that there is, because all that lies between a
        // text and what it begins does. So they are among its parents.
        let at = self.keys.partition_point(|key| *key <= number).checked_sub(1);
        let walk = std::iter::successors(at, |at| {
            self.parents.get(*at).filter(|parent| **parent != NONE).map(|parent| *parent as usize)
        });
        walk.skip_while(move |at| !self.keys[*at].begins(number)).map(|at| self.ids[at])
    }
}

fn parents(keys: &[Digits]) -> Box<[u32]> {
    let mut open: Vec<u32> = Vec::new();
    let parent = |(at, key): (u32, &Digits)| {
        while open.pop_if(|last| !keys[*last as usize].begins(*key)).is_some() {}
        let parent = open.last().copied().unwrap_or(NONE);
        open.push(at);
        parent
    };
    // Rows have ids of 32 bits, so places fit.
    (0..).zip(keys).map(parent).collect()
}

/// The rate of a destination within a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) destination: u32,
    /// The row of the rate.
    pub(crate) row: u32,
    /// What it says, but for what the list says of all its rates; nothing where it holds no rate.
    pub(crate) rate: Option<Rate>,
}

impl Entry {
    fn key(&self) -> (u32, u32) {
        (self.destination, self.row)
    }
}

/// The rates of a list.
#[derive(Debug, Default)]
pub(crate) struct Rates(Paged<Neighbours>);

impl Rates {
    /// The table without what goes and with what comes; pages of other destinations are shared.
    pub(crate) fn changed(&self, gone: Vec<Entry>, come: Vec<Entry>) -> Self {
        Self(self.0.changed(gone, come, |entry| entry.destination / PAGE))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rate of a destination.
    pub(crate) fn of(&self, destination: u32) -> Option<&Entry> {
        self.0.page(destination / PAGE)?.of(destination)
    }
}

/// Destinations of a page.
const PAGE: u32 = 1024;
/// So many rates have a table of places; fewer are searched.
const MANY: usize = 64;

/// Rates of destinations whose ids are close.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    /// By destination.
    entries: Box<[Entry]>,
    /// The place after that of each destination's rate; 0 where there is none. Empty where there are few.
    places: Box<[u32]>,
}

impl Page for Neighbours {
    type Entry = Entry;

    fn changed(&self, gone: Vec<Entry>, come: Vec<Entry>) -> Self {
        let gone = gone.iter().map(Entry::key).collect();
        let entries = merged(self.entries.iter().copied(), gone, come, Entry::key);
        let mut places = Box::default();
        if entries.len() >= MANY {
            let mut all = vec![0; PAGE as usize];
            // Of two rates of one destination (rows of other systems may have such) the first counts.
            for (place, entry) in (1..).zip(&entries) {
                let known = &mut all[(entry.destination % PAGE) as usize];
                *known = if *known == 0 { place } else { *known };
            }
            places = all.into();
        }
        Self { entries: entries.into(), places }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Neighbours {
    fn of(&self, destination: u32) -> Option<&Entry> {
        let place = if self.places.is_empty() {
            self.entries.partition_point(|entry| entry.destination < destination)
        } else {
            self.places.get((destination % PAGE) as usize)?.checked_sub(1)? as usize
        };
        self.entries.get(place).filter(|entry| entry.destination == destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn table(prefixes: &[&str]) -> Prefixes {
        let come = (0..).zip(prefixes).map(|(id, prefix)| (Digits::of_prefix(prefix).unwrap(), id)).collect();
        Prefixes::default().changed(Vec::new(), come)
    }

    #[test]
    fn the_longest_prefix_comes_first_and_the_shorter_ones_follow() {
        let prefixes = ["+34", "+346", "+346001", "+3460012345", "+35", "+1", "+3460"];
        let table = table(&prefixes);
        let found = |number: &str| -> Vec<&str> {
            table.matches(Digits::of_number(number).unwrap()).map(|id| prefixes[id as usize]).collect()
        };
        for (number, want) in [
            ("+34600123456", vec!["+3460012345", "+346001", "+3460", "+346", "+34"]),
            ("+34600129999", vec!["+346001", "+3460", "+346", "+34"]),
            ("+34600999999", vec!["+3460", "+346", "+34"]),
            ("+34946002050", vec!["+34"]),
            ("+346", vec!["+346", "+34"]),
            ("+3", vec![]),
            ("+36", vec![]),
            ("+0", vec![]),
            ("+99", vec![]),
            ("+35", vec!["+35"]),
        ] {
            assert_eq!(found(number), want, "{number}");
        }
        assert!(Prefixes::default().matches(Digits::of_number("+34").unwrap()).next().is_none());
    }

    #[test]
    fn a_prefix_that_is_there_twice_is_found_by_both() {
        let table = table(&["+34", "+34", "+3"]);
        let found: Vec<u32> = table.matches(Digits::of_number("+346").unwrap()).collect();
        assert_eq!(found, [1, 0, 2]);
    }

    proptest! {
        #[test]
        fn a_search_finds_what_looking_at_all_finds(
            prefixes in proptest::collection::btree_set("[0-2]{1,6}", 0..60),
            gone in proptest::collection::vec(any::<proptest::sample::Index>(), 0..10),
            number in "[0-2]{1,8}",
        ) {
            let all: Vec<String> = prefixes.into_iter().map(|digits| format!("+{digits}")).collect();
            let entry = |id: usize| (Digits::of_prefix(&all[id]).unwrap(), id as u32);
            let mut without: Vec<usize> = gone.iter().filter(|_| !all.is_empty()).map(|at| at.index(all.len())).collect();
            without.sort_unstable();
            without.dedup();
            let table = Prefixes::default().changed(Vec::new(), (0..all.len()).map(entry).collect());
            let table = table.changed(without.iter().map(|id| entry(*id)).collect(), Vec::new());
            let number = format!("+{number}");
            let mut want: Vec<&String> =
                (0..all.len()).filter(|id| !without.contains(id)).map(|id| &all[id]).filter(|prefix| number.starts_with(*prefix)).collect();
            want.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
            let found: Vec<&String> = table.matches(Digits::of_number(&number).unwrap()).map(|id| &all[id as usize]).collect();
            prop_assert_eq!(found, want);
        }

        #[test]
        fn a_list_finds_each_of_its_rates(
            rates in proptest::collection::btree_map(0_u32..200, 1_u32..9, 0..150),
            far in proptest::option::of(1_000_000_u32..),
            gone in 0_u32..200,
        ) {
            let mut rates = rates;
            rates.extend(far.map(|far| (far, 1)));
            let entry = |(destination, row): (&u32, &u32)| Entry { destination: *destination, row: *row, rate: None };
            let list = Rates::default().changed(Vec::new(), rates.iter().map(entry).collect());
            let left = list.changed(rates.get_key_value(&gone).map(entry).into_iter().collect(), Vec::new());
            for destination in (0..201).chain(far).chain([u32::MAX]) {
                let row = |list: &Rates| list.of(destination).map(|entry| entry.row);
                let want = rates.get(&destination).copied();
                prop_assert_eq!(row(&list), want);
                prop_assert_eq!(row(&left), want.filter(|_| destination != gone));
            }
        }
    }

    #[test]
    fn of_two_rates_of_a_destination_the_first_counts_until_it_goes() {
        let entry = |destination, row| Entry { destination, row, rate: None };
        for others in [0, 100] {
            let all = (100..100 + others).map(|id| entry(id, id)).chain([entry(5, 2), entry(5, 1)]).collect();
            let list = Rates::default().changed(Vec::new(), all);
            let row = |list: &Rates| list.of(5).map(|entry| entry.row);
            assert_eq!(row(&list), Some(1));
            assert_eq!(row(&list.changed(vec![entry(5, 1)], Vec::new())), Some(2));
        }
    }

    #[test]
    fn what_is_on_other_pages_is_shared() {
        let entry = |destination| Entry { destination, row: 1, rate: None };
        let list = Rates::default().changed(Vec::new(), (0..5000).map(entry).collect());
        let next = list.changed(vec![entry(7)], vec![entry(9000)]);
        let same = |page| match (list.0.page(page), next.0.page(page)) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        assert_eq!([0, 1, 4, 8].map(same), [false, true, true, false]);
        let prefixes = table(&["+3", "+3460", "+3491"]);
        let next = prefixes.changed(Vec::new(), vec![(Digits::of_prefix("+34601").unwrap(), 7)]);
        let page = |table: &Prefixes, text: &str| {
            Arc::clone(table.0.page(Digits::of_number(text).unwrap().page()).unwrap())
        };
        let same = |text| Arc::ptr_eq(&page(&prefixes, text), &page(&next, text));
        assert_eq!(["+3", "+3460", "+3491"].map(same), [true, false, true]);
    }
}
