//! The destinations of one brand by prefix, and the rates of one list by destination: flat sorted tables.
//! In: prefixes and ids. Out: which destinations a number has, the longest prefix first. A million prefixes take 24 MB, a
//! million rates 44 MB where most destinations have one. Elsewhere: keeping them in step with the rows ([`crate::tariffs`]).

use crate::number::Digits;
use crate::rate::Rate;
use crate::sorted::merged;

/// No entry.
const NONE: u32 = u32::MAX;

/// The destinations of a brand.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    /// Sorted; ids of equal ones (rows of other systems may have such) ascend.
    keys: Box<[Digits]>,
    ids: Box<[u32]>,
    /// The place of the longest shorter prefix of each; [`NONE`] where there is none.
    parents: Box<[u32]>,
}

impl Prefixes {
    /// The table without what goes and with what comes: one pass over all of it.
    pub(crate) fn changed(&self, gone: Vec<(Digits, u32)>, come: Vec<(Digits, u32)>) -> Self {
        let old = self.keys.iter().copied().zip(self.ids.iter().copied());
        let new = merged(old, gone, come, |entry| *entry);
        let keys: Box<[Digits]> = new.iter().map(|(key, _)| *key).collect();
        let parents = parents(&keys);
        Self { ids: new.iter().map(|(_, id)| *id).collect(), keys, parents }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The destinations whose prefix the number begins with, the longest first: one search and a walk.
    pub(crate) fn matches(&self, number: Digits) -> impl Iterator<Item = u32> + '_ {
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
pub(crate) struct Rates {
    /// By destination.
    entries: Box<[Entry]>,
    places: Places,
}

/// How the place of a destination's rate is found.
#[derive(Debug)]
enum Places {
    /// The places of the destinations from this one on; [`NONE`] where there is no rate.
    Table(u32, Box<[u32]>),
    /// Destinations by place, where they lie far apart.
    Sorted(Box<[u32]>),
}

impl Default for Places {
    fn default() -> Self {
        Self::Sorted(Box::default())
    }
}

impl Places {
    /// A table has at most so many places for a rate.
    const SPREAD: usize = 8;

    fn of(entries: &[Entry]) -> Self {
        let ends = entries.first().zip(entries.last());
        let range = ends.map(|(first, last)| (last.destination - first.destination) as usize + 1);
        match (ends, range) {
            (Some((first, _)), Some(range)) if range / Self::SPREAD <= entries.len() => {
                let mut places = vec![NONE; range].into_boxed_slice();
                // Of two rates of one destination (rows of other systems may have such) the first counts.
                for (place, entry) in (0..).zip(entries) {
                    let known = &mut places[(entry.destination - first.destination) as usize];
                    *known = place.min(*known);
                }
                Self::Table(first.destination, places)
            }
            _ => Self::Sorted(entries.iter().map(|entry| entry.destination).collect()),
        }
    }

    fn find(&self, destination: u32) -> Option<usize> {
        match self {
            Self::Table(first, places) => {
                let place = places.get(destination.checked_sub(*first)? as usize)?;
                (*place != NONE).then_some(*place as usize)
            }
            Self::Sorted(all) => {
                let place = all.partition_point(|other| *other < destination);
                (all.get(place) == Some(&destination)).then_some(place)
            }
        }
    }
}

impl Rates {
    /// The table without what goes and with what comes: one pass over all of it.
    pub(crate) fn changed(&self, gone: Vec<Entry>, come: Vec<Entry>) -> Self {
        let gone = gone.iter().map(Entry::key).collect();
        let entries: Box<[Entry]> = merged(self.entries.iter().copied(), gone, come, Entry::key).into();
        Self { places: Places::of(&entries), entries }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The rate of a destination.
    pub(crate) fn of(&self, destination: u32) -> Option<&Entry> {
        self.entries.get(self.places.find(destination)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            rates in proptest::collection::btree_map(0_u32..100, 1_u32..9, 0..50),
            far in proptest::option::of(1_000_000_u32..),
            gone in 0_u32..100,
        ) {
            let mut rates = rates;
            rates.extend(far.map(|far| (far, 1)));
            let entry = |(destination, row): (&u32, &u32)| Entry { destination: *destination, row: *row, rate: None };
            let list = Rates::default().changed(Vec::new(), rates.iter().map(entry).collect());
            let left = list.changed(rates.get_key_value(&gone).map(entry).into_iter().collect(), Vec::new());
            for destination in (0..101).chain(far).chain([u32::MAX]) {
                let row = |list: &Rates| list.of(destination).map(|entry| entry.row);
                let want = rates.get(&destination).copied();
                prop_assert_eq!(row(&list), want);
                prop_assert_eq!(row(&left), want.filter(|_| destination != gone));
            }
        }
    }

    #[test]
    fn lists_that_lie_far_apart_take_no_table() {
        let list = |destinations: &[u32]| {
            let entry =
                |destination: &u32| Entry { destination: *destination, row: *destination, rate: None };
            Rates::default().changed(Vec::new(), destinations.iter().map(entry).collect())
        };
        assert!(matches!(list(&[7, 9, 12]).places, Places::Table(7, places) if places.len() == 6));
        assert!(matches!(list(&[0, u32::MAX]).places, Places::Sorted(_)));
        let twins = [2, 1].map(|row| Entry { destination: 5, row, rate: None });
        let twins = Rates::default().changed(Vec::new(), twins.to_vec());
        assert_eq!(twins.of(5).map(|entry| entry.row), Some(1));
    }
}
