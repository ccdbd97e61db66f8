//! Datagrams that were read and wait for their turn: those of known telephones apart from those of strangers, so that no
//! flood from outside keeps a call waiting.
//!
//! In: datagrams, and whether their flow has proved itself (`budget`). Out: three of known flows for each of a stranger's.
//! Known ones that find no room stay in the kernel's queue; strangers are dropped, those first that take more than a share.

use crate::budget::network;
use crate::net::Datagram;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

/// Datagrams of known flows, and their octets.
const KNOWN: Bound = Bound { datagrams: 16_384, octets: 16 * 1024 * 1024 };
/// The same of strangers: a tenth of a second of work.
const STRANGERS: Bound = Bound { datagrams: 8_192, octets: 8 * 1024 * 1024 };
/// While fewer strangers wait than this nobody's share is looked at: the telephones behind one NAT may come back at once.
const CROWD: usize = 2048;
/// In a crowd one network may have one of so many places.
const SHARE: usize = 8;
/// Networks that fall together share their share.
const BUCKETS: usize = 1024;
/// Of so many datagrams one is a stranger's while both kinds wait.
const MIX: u32 = 4;

struct Bound {
    datagrams: usize,
    octets: usize,
}

/// A datagram and the listener that it came by.
pub(super) type Waiting = (u16, Datagram);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    octets: usize,
}

impl Queue {
    fn is_full(&self, bound: &Bound) -> bool {
        self.waiting.len() >= bound.datagrams || self.octets >= bound.octets
    }

    fn push(&mut self, waiting: Waiting) {
        self.octets += waiting.1.bytes.len();
        self.waiting.push_back(waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.octets -= waiting.1.bytes.len();
        Some(waiting)
    }
}

pub(super) struct Backlog {
    known: Queue,
    strangers: Queue,
    /// How many of the strangers' datagrams each bucket of networks has.
    shares: Vec<u32>,
    hasher: RandomState,
    turn: u32,
}

impl Backlog {
    pub(super) fn new() -> Self {
        Self {
            known: Queue::default(),
            strangers: Queue::default(),
            shares: vec![0; BUCKETS],
            hasher: RandomState::new(),
            turn: 0,
        }
    }

    /// Whether nothing more should be read.
    pub(super) fn is_full(&self) -> bool {
        self.known.is_full(&KNOWN)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.waiting.is_empty() && self.strangers.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.known.waiting.len() + self.strangers.waiting.len()
    }

    /// Datagrams that a datagram of a known flow has before it.
    pub(super) fn known(&self) -> usize {
        self.known.waiting.len()
    }

    /// Takes a datagram in. `false`: it is dropped.
    pub(super) fn push(&mut self, waiting: Waiting, is_known: bool) -> bool {
        if is_known {
            self.known.push(waiting);
            return true;
        }
        let crowd = self.strangers.waiting.len();
        let share = self.share(&waiting);
        let takes_too_much = crowd >= CROWD && self.shares[share] as usize * SHARE > crowd;
        if takes_too_much || self.strangers.is_full(&STRANGERS) {
            return false;
        }
        self.shares[share] += 1;
        self.strangers.push(waiting);
        true
    }

    /// Whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        self.turn = self.turn.wrapping_add(1);
        let stranger_first = self.turn.is_multiple_of(MIX);
        let known = if stranger_first { None } else { self.known.pop() };
        known.or_else(|| self.pop_stranger()).or_else(|| self.known.pop())
    }

    fn pop_stranger(&mut self) -> Option<Waiting> {
        let waiting = self.strangers.pop()?;
        let share = self.share(&waiting);
        self.shares[share] -= 1;
        Some(waiting)
    }

    fn share(&self, waiting: &Waiting) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
        let hash = self.hasher.hash_one(network(waiting.1.from.ip())) as usize;
        hash % BUCKETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn from(ip: [u8; 4], length: usize) -> Waiting {
        let bytes = Bytes::from(vec![b'x'; length]);
        (0, Datagram { bytes, from: (ip, 5060).into(), received: None })
    }

    #[test]
    fn one_stranger_does_not_keep_the_others_out() {
        let mut backlog = Backlog::new();
        let flood = (0..100_000).filter(|_| backlog.push(from([192, 0, 2, 1], 400), false)).count();
        assert_eq!(flood, CROWD);
        // All but those that fall into the same bucket, if any.
        let others = (0..200u8).filter(|host| backlog.push(from([198, 51, 100, *host], 400), false)).count();
        assert!(others > 190, "{others}");
        while backlog.pop().is_some() {}
        assert!(backlog.shares.iter().all(|share| *share == 0));
    }

    #[test]
    fn strangers_are_bounded_in_number_and_octets() {
        for (length, most) in [(10, STRANGERS.datagrams), (60_000, STRANGERS.octets / 60_000 + 1)] {
            let mut backlog = Backlog::new();
            for number in 0..60_000u32 {
                let [_, a, b, c] = number.to_be_bytes();
                backlog.push(from([a + 1, b, c, 1], length), false);
            }
            assert!(backlog.len() <= most && backlog.len() * 2 > most, "{} of {most}", backlog.len());
            assert!(!backlog.is_full(), "reading goes on for those who are known");
        }
    }

    #[test]
    fn known_telephones_go_first_and_strangers_get_a_quarter() {
        let mut backlog = Backlog::new();
        for _ in 0..100 {
            backlog.push(from([203, 0, 113, 1], 1), false);
            backlog.push(from([192, 0, 2, 1], 2), true);
        }
        let first: Vec<usize> = (0..100).map(|_| backlog.pop().unwrap().1.bytes.len()).collect();
        assert_eq!(first.iter().filter(|length| **length == 2).count(), 75);
        assert_eq!(std::iter::from_fn(|| backlog.pop()).count(), 100, "nobody is forgotten");
        assert!(backlog.is_empty() && backlog.pop().is_none());
    }
}
