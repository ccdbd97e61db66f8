//! How many calls count for whom, where one application server has them all: it stands alone.
//!
//! In: what calls claim and give back. Out: verdicts, at once. Elsewhere: what a call counts for (`call::limits`), when it gives that back
//! (`actor`), the same across nodes (`cluster::counters`).

use cluster::between::{Counted, Title};
use cluster::counters::{Claim, Limits, Verdict};
use cluster::ids::CallId;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

/// The counters of an application server that stands alone.
#[derive(Debug, Default)]
pub struct Places {
    taken: DashMap<Counted, u32>,
}

impl Places {
    /// Calls that count for this now.
    pub fn of(&self, counted: Counted) -> u32 {
        self.taken.get(&counted).map_or(0, |count| *count)
    }

    fn take(&self, claim: &Claim) -> bool {
        let mut count = self.taken.entry(claim.counted).or_insert(0);
        let is_full = claim.limit > 0 && *count >= claim.limit;
        *count += u32::from(!is_full);
        !is_full
    }

    fn give_back(&self, claim: &Claim) {
        if let Entry::Occupied(mut count) = self.taken.entry(claim.counted) {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Limits for Places {
    fn reserve(&self, _: Title, _: u32, claims: &[Claim]) -> Option<Verdict> {
        for (taken, claim) in claims.iter().enumerate() {
            if !self.take(claim) {
                claims[..taken].iter().for_each(|claim| self.give_back(claim));
                return Some(Verdict::Full(claim.counted));
            }
        }
        Some(Verdict::Granted)
    }

    fn adopt(&self, _: Title, claims: &[Claim]) {
        for claim in claims {
            self.take(&Claim { limit: 0, ..*claim });
        }
    }

    fn release(&self, _: CallId, claims: &[Claim]) {
        claims.iter().for_each(|claim| self.give_back(claim));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::ids::NodeId;
    use model::Id;

    #[test]
    fn a_call_counts_for_all_that_it_claims_or_for_nothing() {
        let places = Places::default();
        let (alice, bob) = (Claim::user(Id::new(1), Id::new(1), 0), Claim::user(Id::new(1), Id::new(2), 2));
        let call = CallId::new(NodeId(1), 1);
        let reserve = |claims: &[Claim]| places.reserve(Title { call, epoch: 0 }, 1, claims);
        assert_eq!(reserve(&[alice, bob]), Some(Verdict::Granted));
        assert_eq!(reserve(&[alice, bob]), Some(Verdict::Granted));
        assert_eq!(reserve(&[alice, bob]), Some(Verdict::Full(bob.counted)));
        assert_eq!((places.of(alice.counted), places.of(bob.counted)), (2, 2), "0 means unlimited");
        places.release(call, &[bob]);
        assert_eq!((places.of(alice.counted), places.of(bob.counted)), (2, 1));
        places.adopt(Title { call, epoch: 1 }, &[bob, bob]);
        assert_eq!(places.of(bob.counted), 3, "who is carried on is not asked");
        places.release(call, &[alice, alice, bob, bob, bob]);
        assert!(places.taken.is_empty());
    }
}
