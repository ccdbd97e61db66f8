//! Long sorted tables of which little changes at a time: pages that states share, and merging what changed into one.
//! In: the table as it was, what goes, what comes. Out: the table as it is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A part of a table.
pub(crate) trait Page: Default {
    /// What it consists of.
    type Entry;
    /// The page without what goes and with what comes.
    fn changed(&self, gone: Vec<Self::Entry>, come: Vec<Self::Entry>) -> Self;
    /// Whether nothing is left.
    fn is_empty(&self) -> bool;
}

/// Pages by number.
pub(crate) struct Paged<P> {
    pages: Box<[(u32, Arc<P>)]>,
    /// The place after that of each page, from the number of the first on; 0 where there is none. Empty where numbers
    /// lie far apart: then pages are searched.
    places: Box<[u32]>,
}

/// There are at most so many places for a page.
const SPREAD: usize = 8;

impl<P> Default for Paged<P> {
    fn default() -> Self {
        Self { pages: Box::default(), places: Box::default() }
    }
}

impl<P: fmt::Debug> fmt::Debug for Paged<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.pages).finish()
    }
}

impl<P: Page> Paged<P> {
    /// The table without what goes and with what comes. `number` says on which page an entry is; other pages are shared.
    pub(crate) fn changed(
        &self,
        gone: Vec<P::Entry>,
        come: Vec<P::Entry>,
        number: impl Fn(&P::Entry) -> u32,
    ) -> Self {
        let mut touched: BTreeMap<u32, [Vec<P::Entry>; 2]> = BTreeMap::new();
        for (which, entries) in [gone, come].into_iter().enumerate() {
            for entry in entries {
                touched.entry(number(&entry)).or_default()[which].push(entry);
            }
        }
        let others = self.pages.iter().filter(|(number, _)| !touched.contains_key(number));
        let mut pages: Vec<(u32, Arc<P>)> = others.cloned().collect();
        for (number, [gone, come]) in touched {
            let page = match self.page(number) {
                Some(old) => old.changed(gone, come),
                None => P::default().changed(gone, come),
            };
            if !page.is_empty() {
                pages.push((number, Arc::new(page)));
            }
        }
        pages.sort_unstable_by_key(|(number, _)| *number);
        Self { places: places(&pages), pages: pages.into() }
    }
}

impl<P> Paged<P> {
    /// The page of this number.
    pub(crate) fn page(&self, number: u32) -> Option<&Arc<P>> {
        let (first, _) = self.pages.first()?;
        let place = if self.places.is_empty() {
            self.pages.partition_point(|(other, _)| *other < number)
        } else {
            self.places.get(number.checked_sub(*first)? as usize)?.checked_sub(1)? as usize
        };
        self.pages.get(place).filter(|(other, _)| *other == number).map(|(_, page)| page)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }
}

fn places<P>(pages: &[(u32, Arc<P>)]) -> Box<[u32]> {
    let (Some((first, _)), Some((last, _))) = (pages.first(), pages.last()) else { return Box::default() };
    let range = (last - first) as usize + 1;
    if range / SPREAD > pages.len() {
        return Box::default();
    }
    let mut places = vec![0; range];
    for (place, (number, _)) in (1..).zip(pages) {
        places[(number - first) as usize] = place;
    }
    places.into()
}

/// Merges in one pass: a copy of the list, whatever the changes. The list is sorted by `key`; of `gone` each takes one with this
/// key out, if there is any.
pub(crate) fn merged<T, K: Ord>(
    old: impl ExactSizeIterator<Item = T>,
    mut gone: Vec<K>,
    mut come: Vec<T>,
    key: impl Fn(&T) -> K,
) -> Vec<T> {
    gone.sort_unstable();
    come.sort_unstable_by_key(&key);
    let mut new = Vec::with_capacity(old.len() + come.len());
    let (mut gone, mut come) = (gone.into_iter().peekable(), come.into_iter().peekable());
    for entry in old {
        let at = key(&entry);
        while let Some(entry) = come.next_if(|next| key(next) <= at) {
            new.push(entry);
        }
        // What goes and is not there goes by.
        while gone.next_if(|next| *next < at).is_some() {}
        if gone.next_if(|next| *next == at).is_none() {
            new.push(entry);
        }
    }
    new.extend(come);
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A page of plain numbers.
    #[derive(Debug, Default)]
    struct Numbers(Vec<u32>);

    impl Page for Numbers {
        type Entry = u32;

        fn changed(&self, gone: Vec<u32>, come: Vec<u32>) -> Self {
            Self(merged(self.0.iter().copied(), gone, come, |one| *one))
        }

        fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }

    #[test]
    fn pages_are_found_where_they_lie_close_and_where_they_lie_far_apart() {
        let of = |numbers: &[u32]| {
            Paged::<Numbers>::default().changed(Vec::new(), numbers.to_vec(), |one| *one / 10)
        };
        for (numbers, has_places) in [
            (vec![], false),
            (vec![75], true),
            (vec![51, 52, 73, 99, 100], true),
            (vec![0, 99, u32::MAX], false),
        ] {
            let paged = of(&numbers);
            assert_eq!(!paged.places.is_empty(), has_places, "{numbers:?}");
            for page in (0..12).chain([u32::MAX / 10, u32::MAX]) {
                let found = paged.page(page).map_or_else(Vec::new, |page| page.0.clone());
                let want: Vec<u32> = numbers.iter().copied().filter(|one| one / 10 == page).collect();
                assert_eq!(found, want, "{numbers:?} {page}");
            }
            let none = paged.changed(numbers, Vec::new(), |one| *one / 10);
            assert!(none.is_empty() && none.page(5).is_none());
        }
    }

    proptest! {
        #[test]
        fn merging_is_taking_out_and_putting_in(
            mut old in proptest::collection::vec(0_u32..50, 0..40),
            gone in proptest::collection::vec(0_u32..50, 0..10),
            come in proptest::collection::vec(0_u32..50, 0..10),
        ) {
            old.sort_unstable();
            let mut want = old.clone();
            for one in &gone {
                if let Some(place) = want.iter().position(|other| other == one) {
                    want.remove(place);
                }
            }
            want.extend(&come);
            want.sort_unstable();
            prop_assert_eq!(merged(old.into_iter(), gone, come, |one| *one), want);
        }
    }
}
