//! Merging few changes into a long sorted list: what a change of rows costs an index.
//! In: the list as it was, what goes, what comes. Out: the list as it is.

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
