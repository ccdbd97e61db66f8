//! Merging few changes into a long sorted list: what a change of rows costs an index.
//! In: the list as it was, what goes, what comes. Out: the list as it is.

/// Merges in one pass: a copy of the list, whatever the changes. Of `gone` each takes one like it out.
pub(crate) fn merged<T: Copy + Ord>(
    old: impl ExactSizeIterator<Item = T>,
    mut gone: Vec<T>,
    mut come: Vec<T>,
) -> Vec<T> {
    gone.sort_unstable();
    come.sort_unstable();
    let mut new = Vec::with_capacity(old.len() + come.len());
    let (mut gone, mut come) = (gone.into_iter().peekable(), come.into_iter().peekable());
    for entry in old {
        while let Some(entry) = come.next_if(|next| *next <= entry) {
            new.push(entry);
        }
        // What goes and is not there goes by.
        while gone.next_if(|next| *next < entry).is_some() {}
        if gone.next_if(|next| *next == entry).is_none() {
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
            prop_assert_eq!(merged(old.into_iter(), gone, come), want);
        }
    }
}
