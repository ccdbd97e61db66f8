//! How many calls each user handles now, for the manual's "Call waiting" limit (10.1.1).
//!
//! A call holds a [`Place`] for its caller and one for its callee; dropping it gives the place back, also when the call
//! crashed. Elsewhere: who must have a place (`call`).

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use model::{Id, User};
use std::sync::Arc;

/// The counters of an application server.
#[derive(Clone, Default, Debug)]
pub struct Places {
    taken: Arc<DashMap<Id<User>, u32>>,
}

/// One call of one user, counted until dropped.
#[derive(Debug)]
pub struct Place {
    user: Id<User>,
    taken: Arc<DashMap<Id<User>, u32>>,
}

impl Places {
    /// Counts one more call for `user`, unless there are `limit` already (0: no limit).
    pub fn take(&self, user: Id<User>, limit: u32) -> Option<Place> {
        let mut count = self.taken.entry(user).or_insert(0);
        if limit > 0 && *count >= limit {
            return None;
        }
        *count += 1;
        drop(count);
        Some(Place { user, taken: Arc::clone(&self.taken) })
    }

    /// Calls that `user` handles now.
    pub fn of(&self, user: Id<User>) -> u32 {
        self.taken.get(&user).map_or(0, |count| *count)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.taken.entry(self.user) {
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
        let places = Places::default();
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
