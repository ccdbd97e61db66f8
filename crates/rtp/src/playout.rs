//! Puts packets back in order and lets a player take one per packet time: the jitter buffer of a softphone.
//!
//! In: payloads with sequence numbers, as they come. Out: payloads in order, or the news that one is missing.
//! Bounded; what comes too late or too early is dropped. Elsewhere: decoding (`g711`), arrival figures (`reception`).

use std::collections::VecDeque;

/// Packets that a [`Playout`] holds at most: 1.28 s of 20 ms packets.
const DEPTH_MAX: usize = 64;
/// A packet this far behind is not late: the source began anew.
const LATE_MAX: u16 = 100;

/// A playout buffer.
#[derive(Clone, Debug)]
pub struct Playout {
    /// The first place is the packet to be played next.
    places: VecDeque<Option<Vec<u8>>>,
    next: Option<u16>,
    target: usize,
    filling: bool,
    dropped: u64,
}

/// What to play for one packet time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Play {
    /// This payload.
    Payload(Vec<u8>),
    /// A packet is lost or late: conceal it.
    Missing,
    /// The stream has not begun, or the buffer fills up again: silence.
    Waiting,
}

impl Playout {
    /// `target`: packets to collect before the first is played, 1 to 64; two or three cover an ordinary network.
    pub fn new(target: usize) -> Playout {
        Playout {
            places: VecDeque::new(),
            next: None,
            target: target.clamp(1, DEPTH_MAX),
            filling: true,
            dropped: 0,
        }
    }

    /// Takes one payload; false when it is a duplicate or too late.
    pub fn push(&mut self, sequence: u16, payload: &[u8]) -> bool {
        let next = *self.next.get_or_insert(sequence);
        let ahead = sequence.wrapping_sub(next);
        if ahead > u16::MAX / 2 {
            let behind = next.wrapping_sub(sequence);
            if self.filling && usize::from(behind) + self.places.len() <= DEPTH_MAX {
                // Nothing of the stream was played yet: it begins earlier than the first packet that came.
                (0..behind).for_each(|_| self.places.push_front(None));
                self.next = Some(sequence);
                return self.place(0, payload);
            }
            if behind <= LATE_MAX {
                self.dropped += 1;
                return false;
            }
            self.restart(sequence);
            return self.place(0, payload);
        }
        if usize::from(ahead) >= 2 * DEPTH_MAX {
            self.restart(sequence);
            return self.place(0, payload);
        }
        let mut at = usize::from(ahead);
        // Too long: the player's clock is slower than the sender's. The oldest go.
        while at >= DEPTH_MAX {
            self.dropped += u64::from(self.take().is_some());
            at -= 1;
        }
        self.place(at, payload)
    }

    /// What to play now; to be called once per packet time.
    pub fn pop(&mut self) -> Play {
        if self.filling {
            if self.places.len() < self.target {
                return Play::Waiting;
            }
            self.filling = false;
        }
        if self.places.is_empty() {
            // Ran dry: collect again, or every packet would be late from now on.
            self.filling = true;
            return Play::Waiting;
        }
        self.take().map_or(Play::Missing, Play::Payload)
    }

    /// Packets that came too late or were pushed out.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Packet times that are held, gaps included.
    pub fn depth(&self) -> usize {
        self.places.len()
    }

    fn place(&mut self, at: usize, payload: &[u8]) -> bool {
        while self.places.len() <= at {
            self.places.push_back(None);
        }
        let empty = self.places[at].is_none();
        if empty {
            self.places[at] = Some(payload.to_vec());
        }
        empty
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        self.next = self.next.map(|next| next.wrapping_add(1));
        self.places.pop_front().flatten()
    }

    fn restart(&mut self, sequence: u16) {
        self.dropped += self.places.iter().flatten().count() as u64;
        self.places.clear();
        self.next = Some(sequence);
        self.filling = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn push_all(playout: &mut Playout, sequences: &[u16]) {
        for sequence in sequences {
            playout.push(*sequence, &sequence.to_be_bytes());
        }
    }

    /// Plays until the buffer is dry; `None` is a missing packet.
    fn play(playout: &mut Playout) -> Vec<Option<u16>> {
        std::iter::from_fn(|| match playout.pop() {
            Play::Payload(payload) => Some(Some(u16::from_be_bytes(payload.try_into().unwrap()))),
            Play::Missing => Some(None),
            Play::Waiting => None,
        })
        .collect()
    }

    #[test]
    fn order_is_restored_over_the_wrap_and_gaps_are_told() {
        let mut playout = Playout::new(3);
        assert_eq!(playout.pop(), Play::Waiting);
        push_all(&mut playout, &[65_535, 65_534, 1, 0, 4]);
        assert_eq!(play(&mut playout), [Some(65_534), Some(65_535), Some(0), Some(1), None, None, Some(4)]);
    }

    #[test]
    fn duplicates_and_late_packets_are_refused() {
        let mut playout = Playout::new(1);
        push_all(&mut playout, &[10, 11, 12]);
        assert!(!playout.push(12, b"again"));
        assert_eq!(play(&mut playout).len(), 3);
        let mut playing = Playout::new(1);
        push_all(&mut playing, &[10, 11, 12]);
        playing.pop();
        assert!(!playing.push(10, b"late"));
        assert_eq!(playing.dropped(), 1);
    }

    #[test]
    fn a_dry_buffer_fills_up_again_and_goes_on() {
        let mut playout = Playout::new(2);
        push_all(&mut playout, &[1, 2]);
        assert_eq!(play(&mut playout), [Some(1), Some(2)]);
        push_all(&mut playout, &[3]);
        assert_eq!(playout.pop(), Play::Waiting);
        push_all(&mut playout, &[4]);
        assert_eq!(play(&mut playout), [Some(3), Some(4)]);
    }

    #[test]
    fn a_player_that_is_too_slow_loses_the_oldest() {
        let mut playout = Playout::new(1);
        push_all(&mut playout, &(0..100).collect::<Vec<_>>());
        assert_eq!((playout.depth(), playout.dropped()), (DEPTH_MAX, 36));
        assert_eq!(play(&mut playout)[0], Some(36));
    }

    #[test]
    fn a_jump_is_a_new_beginning() {
        let mut playout = Playout::new(1);
        push_all(&mut playout, &[1, 2, 30_000, 30_001]);
        assert_eq!(play(&mut playout), [Some(30_000), Some(30_001)]);
        push_all(&mut playout, &[5, 6]);
        assert_eq!(play(&mut playout), [Some(5), Some(6)]);
    }

    proptest! {
        #[test]
        fn any_order_stays_bounded(
            steps in prop::collection::vec((any::<u16>(), any::<bool>()), 0..500),
            span in 1..u16::MAX,
        ) {
            let mut playout = Playout::new(3);
            for (sequence, pop) in steps {
                playout.push(sequence % span, b"x");
                prop_assert!(playout.depth() <= DEPTH_MAX);
                if pop {
                    playout.pop();
                }
            }
        }

        #[test]
        fn shuffled_neighbours_come_out_in_order(start in any::<u16>(), swaps in prop::collection::vec(any::<bool>(), 20)) {
            let mut order: Vec<u16> = (0..40).map(|n| start.wrapping_add(n)).collect();
            for (pair, swap) in order.chunks_mut(2).zip(swaps) {
                if swap {
                    pair.swap(0, 1);
                }
            }
            let mut playout = Playout::new(40);
            push_all(&mut playout, &order);
            order.sort_by_key(|n| n.wrapping_sub(start));
            prop_assert_eq!(play(&mut playout), order.into_iter().map(Some).collect::<Vec<_>>());
        }
    }
}
