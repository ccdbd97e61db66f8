//! Which counts of which nonces were used, so that no credentials pass twice (RFC 7616 section 5.5).
//!
//! In: nonces that are authentic and young, from any thread. Out: whether this use is a new one. Count 1, all that most
//! clients ever send, takes one bit in a window over the newest nonces, so that nobody's traffic pushes out anybody's;
//! higher counts are kept in a table of bounded size. Elsewhere: what a nonce says and its age (`server`).

use super::server::{Nonce, Verdict};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The uses of all nonces of one [`super::Verifier`].
pub(super) struct NonceCounts {
    first: FirstUses,
    later: LaterUses,
}

impl NonceCounts {
    /// `window`: how many of the newest nonces are known; `reused`: of how many nonces higher counts are known.
    pub(super) fn new(window: usize, reused: usize) -> NonceCounts {
        NonceCounts { first: FirstUses::new(window), later: LaterUses::new(reused) }
    }

    /// Notes one use of a valid nonce. Nonces issued before `oldest_live` are no longer valid.
    pub(super) fn spend(&self, nonce: Nonce, count: u32, oldest_live: u32) -> Verdict {
        match count {
            1 => self.first.spend(nonce.sequence),
            _ => self.later.spend(nonce, count, oldest_live),
        }
    }
}

/// Flags of one word; its upper half is the lap that they belong to.
const FLAGS: u64 = 32;
/// Words of one page.
const PAGE: u64 = 512;

/// A ring of flags, one for each sequence number. A word serves one lap of the ring and moves on to a later one when a
/// nonce of that lap is used, so nothing needs to be cleared and nothing is forgotten before its place is taken. Pages
/// are made when they are first written.
struct FirstUses {
    pages: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

impl FirstUses {
    fn new(window: usize) -> FirstUses {
        let per_page = usize::try_from(FLAGS * PAGE).unwrap_or(usize::MAX);
        let pages = window.div_ceil(per_page).max(1);
        FirstUses { pages: (0..pages).map(|_| OnceLock::new()).collect() }
    }

    fn spend(&self, sequence: u64) -> Verdict {
        let pages = self.pages.len() as u64;
        let (block, flag) = (sequence / FLAGS, 1 << (sequence % FLAGS));
        let (page, place) = (block / PAGE % pages, block % PAGE);
        let lap = (block / PAGE / pages) & u64::from(u32::MAX);
        let [page, place] = [page, place].map(|at| usize::try_from(at).unwrap_or(0)); // below the lengths
        let words = self.pages[page].get_or_init(|| (0..PAGE).map(|_| AtomicU64::new(0)).collect());
        let spent = words[place].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let flags = match lap.cmp(&(word >> 32)) {
                std::cmp::Ordering::Less => return None,
                std::cmp::Ordering::Equal => word & u64::from(u32::MAX),
                std::cmp::Ordering::Greater => 0,
            };
            (flags & flag == 0).then_some(lap << 32 | flags | flag)
        });
        match spent {
            Ok(_) => Verdict::Ok,
            Err(word) if word >> 32 == lap => Verdict::Replay,
            Err(_) => Verdict::Stale,
        }
    }
}

/// Counts above 1: buckets of a few nonces each.
struct LaterUses {
    buckets: Box<[Mutex<Bucket>]>,
}

#[derive(Clone, Default)]
struct Bucket {
    uses: [Uses; 8],
    /// Newest nonce that was pushed out alive: not listed and not newer means forgotten.
    forgotten: Option<u64>,
}

/// Uses of one nonce. UDP and proxies reorder requests, hence a window over the last 64 counts.
#[derive(Clone, Copy, Default)]
struct Uses {
    sequence: u64,
    /// Bit n: count `highest - n` was used.
    window: u64,
    issued: u32,
    /// 0: an empty place.
    highest: u32,
}

impl LaterUses {
    fn new(nonces: usize) -> LaterUses {
        let buckets = nonces.div_ceil(Bucket::default().uses.len()).max(1);
        LaterUses { buckets: (0..buckets).map(|_| Mutex::default()).collect() }
    }

    fn spend(&self, nonce: Nonce, count: u32, oldest_live: u32) -> Verdict {
        let index = nonce.sequence % self.buckets.len() as u64;
        let bucket = &self.buckets[usize::try_from(index).unwrap_or(0)];
        // A panic can leave no bucket half changed.
        bucket.lock().unwrap_or_else(PoisonError::into_inner).spend(nonce, count, oldest_live)
    }
}

impl Bucket {
    fn spend(&mut self, nonce: Nonce, count: u32, oldest_live: u32) -> Verdict {
        let listed = |uses: &&mut Uses| uses.highest != 0 && uses.sequence == nonce.sequence;
        if let Some(uses) = self.uses.iter_mut().find(listed) {
            return if uses.mark(count) { Verdict::Ok } else { Verdict::Replay };
        }
        if self.forgotten.is_some_and(|forgotten| nonce.sequence <= forgotten) {
            return Verdict::Stale;
        }
        let fresh = Uses { sequence: nonce.sequence, window: 1, issued: nonce.issued, highest: count };
        let free = |uses: &&mut Uses| uses.highest == 0 || uses.issued < oldest_live;
        if let Some(place) = self.uses.iter_mut().find(free) {
            *place = fresh;
            return Verdict::Ok;
        }
        let Some(oldest) = self.uses.iter_mut().min_by_key(|uses| uses.sequence) else {
            return Verdict::Stale;
        };
        if nonce.sequence < oldest.sequence {
            return Verdict::Stale;
        }
        self.forgotten = self.forgotten.max(Some(oldest.sequence));
        *oldest = fresh;
        Verdict::Ok
    }
}

impl Uses {
    /// False when the count was used before or is too far back to tell.
    fn mark(&mut self, count: u32) -> bool {
        if count > self.highest {
            self.window = self.window.checked_shl(count - self.highest).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let Some(bit) = 1u64.checked_shl(self.highest - count) else { return false };
        let unused = self.window & bit == 0;
        self.window |= bit;
        unused
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::PLACE_OCTETS;
    use super::*;

    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn nonce_of(issued: u32, sequence: u64) -> Nonce {
        Nonce { issued, sequence, place: [0; PLACE_OCTETS] }
    }

    fn counts() -> NonceCounts {
        let cfg = super::super::Config::default();
        NonceCounts::new(cfg.window_nonces, cfg.reused_nonces)
    }

    /// A day's peak on a simulated clock: ten thousand telephones a second are challenged and answer within half a minute,
    /// those behind a slow line last.
    #[test]
    fn however_many_others_register_a_first_use_is_accepted_and_only_once() {
        const RATE: u64 = 10_000;
        const SLOWEST: u64 = 32;
        let counts = counts();
        let lifetime = 300;
        for second in 0..400u64 {
            let now = u32::try_from(second).unwrap();
            for each in 0..RATE {
                // Nonces of this second and of those before it come back in no order.
                let delay = each % SLOWEST;
                let Some(issued) = second.checked_sub(delay) else { continue };
                let nonce = nonce_of(now - u32::try_from(delay).unwrap(), issued * RATE + each);
                let oldest_live = now.saturating_sub(lifetime);
                assert_eq!(counts.spend(nonce, 1, oldest_live), Verdict::Ok, "second {second}, {each}");
            }
            // Replays of what was used up to the whole lifetime ago.
            for age in [0, 1, 100, 250] {
                let Some(then) = second.checked_sub(age + SLOWEST) else { continue };
                let nonce = nonce_of(u32::try_from(then).unwrap(), then * RATE + 77);
                assert_ne!(
                    counts.spend(nonce, 1, now.saturating_sub(lifetime)),
                    Verdict::Ok,
                    "second {second}"
                );
            }
        }
    }

    #[test]
    fn the_window_takes_memory_as_it_is_used_and_no_more_than_its_bound() {
        let first = FirstUses::new(1 << 20);
        let pages = |first: &FirstUses| first.pages.iter().filter(|page| page.get().is_some()).count();
        assert_eq!((pages(&first), first.pages.len()), (0, 64));
        for sequence in 0..3_000_000 {
            assert_eq!(first.spend(sequence), Verdict::Ok);
        }
        assert_eq!(pages(&first), 64);
    }

    #[test]
    fn what_left_the_window_is_stale_and_what_is_in_it_is_told_apart() {
        let window = FLAGS * PAGE;
        let first = FirstUses::new(1);
        assert_eq!(
            (first.spend(5), first.spend(5), first.spend(6)),
            (Verdict::Ok, Verdict::Replay, Verdict::Ok)
        );
        assert_eq!(first.spend(window + 5), Verdict::Ok);
        assert_eq!((first.spend(5), first.spend(7)), (Verdict::Stale, Verdict::Stale), "its place was taken");
        assert_eq!(first.spend(40), Verdict::Ok, "no newer nonce took this place");
        assert_eq!((first.spend(window + 5), first.spend(window + 6)), (Verdict::Replay, Verdict::Ok));
    }

    #[test]
    fn a_full_table_forgets_the_oldest_and_never_accepts_a_replay() {
        let later = LaterUses::new(8); // one bucket
        let nonce = |sequence: u64| nonce_of(7, sequence);
        for sequence in 0..9 {
            assert_eq!(later.spend(nonce(sequence), 2, 0), Verdict::Ok);
        }
        assert_eq!(later.spend(nonce(0), 2, 0), Verdict::Stale);
        assert_eq!(later.spend(nonce(0), 3, 0), Verdict::Stale);
        for sequence in 1..9 {
            assert_eq!(later.spend(nonce(sequence), 2, 0), Verdict::Replay);
            assert_eq!(later.spend(nonce(sequence), 3, 0), Verdict::Ok);
        }
        // Whoever expired makes room for an older one that is still alive.
        let fresh = nonce_of(1000, 9);
        assert_eq!(later.spend(fresh, 2, 700), Verdict::Ok);
        assert_eq!(later.spend(nonce(0), 2, 0), Verdict::Stale);
    }

    #[test]
    fn threads_that_replay_at_the_same_moment_get_in_once() {
        let counts = counts();
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let each = (0..20_000u64).flat_map(|sequence| [(sequence, 1), (sequence, 2)]);
                        each.filter(|(sequence, count)| {
                            let nonce = nonce_of(5, *sequence);
                            counts.spend(nonce, *count, 0) == Verdict::Ok
                        })
                        .count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 40_000);
    }

    proptest! {
        #[test]
        fn no_count_passes_twice(uses in prop::collection::vec((0..40u64, 1..100u32), 1..400)) {
            let counted = NonceCounts::new(1, 8);
            let mut passed = BTreeSet::new();
            for (sequence, count) in uses {
                let nonce = nonce_of(5, sequence * 5000);
                if counted.spend(nonce, count, 0) == Verdict::Ok {
                    prop_assert!(passed.insert((sequence, count)), "{sequence} {count} passed twice");
                }
            }
        }
    }
}
