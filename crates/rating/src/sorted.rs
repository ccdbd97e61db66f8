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
pub(crate) struct Paged<P>(Box<[(u32, Arc<P>)]>);

impl<P> Default for Paged<P> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<P: fmt::Debug> fmt::Debug for Paged<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
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
        let others = self.0.iter().filter(|(number, _)| !touched.contains_key(number));
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
        Self(pages.into())
    }
}

impl<P> Paged<P> {
    /// The page of this number.
    pub(crate) fn page(&self, number: u32) -> Option<&Arc<P>> {
        let at = self.0.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.0.get(at).map(|(_, page)| page)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
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
