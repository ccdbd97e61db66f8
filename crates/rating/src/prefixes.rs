//! The destinations of one brand by prefix, and the rates of one list by destination: flat sorted tables.
//! In: prefixes and ids. Out: which destinations a number has, the longest prefix first. A million prefixes take 24 MB, a
//! million rates 8 MB. Elsewhere: keeping them in step with the rows ([`crate::tariffs`]).

use crate::number::Digits;
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
        let new = merged(old, gone, come);
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

/// The rates of a list.
#[derive(Debug, Default)]
pub(crate) struct Rates(Box<[(u32, u32)]>);

impl Rates {
    /// The table without what goes and with what comes, each a destination and its rate.
    pub(crate) fn changed(&self, gone: Vec<(u32, u32)>, come: Vec<(u32, u32)>) -> Self {
        Self(merged(self.0.iter().copied(), gone, come).into())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rate of a destination.
    pub(crate) fn of(&self, destination: u32) -> Option<u32> {
        let at = self.0.partition_point(|(other, _)| *other < destination);
        self.0.get(at).filter(|(other, _)| *other == destination).map(|(_, rate)| *rate)
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
        fn a_list_finds_each_of_its_rates(rates in proptest::collection::btree_map(0_u32..100, any::<u32>(), 0..50)) {
            let list = Rates::default().changed(Vec::new(), rates.clone().into_iter().collect());
            for destination in 0..101 {
                prop_assert_eq!(list.of(destination), rates.get(&destination).copied());
            }
        }
    }
}
