//! How many calls each user handles now, for the manual's "Call waiting" limit (10.1.1), and how many each client has.
//!
//! A call holds a [`Place`] for its caller, one for its callee and one for its client; dropping it gives the place back, also
//! when the call crashed. Elsewhere: who must have a place (`call`).

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use model::{Id, User};
use std::sync::Arc;

/// The counters of an application server: calls by users, or by whoever else has them.
#[derive(Debug)]
pub struct Places<E = User> {
    taken: Arc<DashMap<Id<E>, u32>>,
}

impl<E> Default for Places<E> {
    fn default() -> Self {
        Self { taken: Arc::default() }
    }
}

/// One call of one user, counted until dropped.
#[derive(Debug)]
pub struct Place<E = User> {
    whose: Id<E>,
    taken: Arc<DashMap<Id<E>, u32>>,
}

impl<E> Places<E> {
    /// Counts one more call for `whose`, unless there are `limit` already (0: no limit).
    pub fn take(&self, whose: Id<E>, limit: u32) -> Option<Place<E>> {
        let mut count = self.taken.entry(whose).or_insert(0);
        if limit > 0 && *count >= limit {
            return None;
        }
        *count += 1;
        drop(count);
        Some(Place { whose, taken: Arc::clone(&self.taken) })
    }

    /// Calls that `whose` has now.
    pub fn of(&self, whose: Id<E>) -> u32 {
        self.taken.get(&whose).map_or(0, |count| *count)
    }
}

impl<E> Drop for Place<E> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.taken.entry(self.whose) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_counts_calls_and_a_dropped_place_is_free_again() {
        let places = Places::<User>::default();
        let bob = Id::new(2);
        let first = places.take(bob, 2).unwrap();
        let second = places.take(bob, 2).unwrap();
        assert!(places.take(bob, 2).is_none());
        assert!(places.take(bob, 0).is_some(), "0 means unlimited");
        drop(first);
        assert_eq!(places.of(bob), 1);
        drop(second);
        assert_eq!((places.of(bob), places.taken.len()), (0, 0));
    }
}
