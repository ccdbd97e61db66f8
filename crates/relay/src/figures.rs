//! What a relay counts of one stream, readable by other threads while its worker writes.
//!
//! In: stores of the one worker that owns the stream. Out: a consistent enough [`Seen`] for reports. Elsewhere: measuring
//! ([`crate::stream`]).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Counters with one writer: plain loads and stores, no locked instruction.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Figures {
    /// The holder that the numbers belong to; written last when they are reset.
    generation: AtomicU32,
    jitter_us: AtomicU32,
    packets_received: AtomicU64,
    bytes_received: AtomicU64,
    packets_sent: AtomicU64,
    bytes_sent: AtomicU64,
    lost: AtomicU64,
    dropped: AtomicU64, // here ends the cache line that every packet touches
    /// One more than the number, 0 for "never reported"; so are the next two.
    reported_lost: AtomicU64,
    reported_jitter_us: AtomicU64,
    round_trip_us: AtomicU64,
}

/// A copy of the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) packets_received: u64,
    pub(crate) bytes_received: u64,
    pub(crate) packets_sent: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) dropped: u64,
    pub(crate) lost: u64,
    pub(crate) jitter_us: u32,
    pub(crate) reported_lost: Option<u64>,
    pub(crate) reported_jitter_us: Option<u32>,
    pub(crate) round_trip_us: Option<u32>,
}

impl Figures {
    /// Zero everything for a new holder (the worker, before it handles the holder's first packet).
    pub(crate) fn reset(&self, generation: u32) {
        self.generation.store(0, Ordering::Release);
        for counter in [
            &self.packets_received,
            &self.bytes_received,
            &self.packets_sent,
            &self.bytes_sent,
            &self.dropped,
            &self.lost,
            &self.reported_lost,
            &self.reported_jitter_us,
            &self.round_trip_us,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        self.jitter_us.store(0, Ordering::Relaxed);
        self.generation.store(generation, Ordering::Release);
    }

    /// What was counted for the holder `generation`; nothing when its first packet is still to come.
    pub(crate) fn seen(&self, generation: u32) -> Seen {
        if self.generation.load(Ordering::Acquire) != generation {
            return Seen::default();
        }
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let optional = |counter: &AtomicU64| get(counter).checked_sub(1);
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Seen {
            packets_received: get(&self.packets_received),
            bytes_received: get(&self.bytes_received),
            packets_sent: get(&self.packets_sent),
            bytes_sent: get(&self.bytes_sent),
            dropped: get(&self.dropped),
            lost: get(&self.lost),
            jitter_us: self.jitter_us.load(Ordering::Relaxed),
            reported_lost: optional(&self.reported_lost),
            reported_jitter_us: optional(&self.reported_jitter_us).map(narrow),
            round_trip_us: optional(&self.round_trip_us).map(narrow),
        }
    }

    pub(crate) fn received(&self, packets: u64, bytes: u64) {
        add(&self.packets_received, packets);
        add(&self.bytes_received, bytes);
    }

    pub(crate) fn sent(&self, packets: u64, bytes: u64) {
        add(&self.packets_sent, packets);
        add(&self.bytes_sent, bytes);
    }

    /// Takes back what was counted as sent and did not leave.
    pub(crate) fn unsent(&self, packets: u64, bytes: u64) {
        add(&self.packets_sent, packets.wrapping_neg());
        add(&self.bytes_sent, bytes.wrapping_neg());
    }

    pub(crate) fn dropped(&self, packets: u64) {
        add(&self.dropped, packets);
    }

    pub(crate) fn measured(&self, lost: u64, jitter_us: u32) {
        self.lost.store(lost, Ordering::Relaxed);
        self.jitter_us.store(jitter_us, Ordering::Relaxed);
    }

    pub(crate) fn reported(&self, lost: u64, jitter_us: Option<u32>) {
        self.reported_lost.store(lost.saturating_add(1), Ordering::Relaxed);
        if let Some(jitter_us) = jitter_us {
            self.reported_jitter_us.store(u64::from(jitter_us) + 1, Ordering::Relaxed);
        }
    }

    pub(crate) fn round_trip(&self, round_trip_us: u32) {
        self.round_trip_us.store(u64::from(round_trip_us) + 1, Ordering::Relaxed);
    }
}

/// Adds to a counter that only this thread writes.
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_belong_to_one_holder() {
        let figures = Figures::default();
        figures.reset(1);
        figures.received(2, 344);
        figures.sent(3, 516);
        figures.unsent(1, 172);
        figures.reported(0, Some(7));
        let seen = figures.seen(1);
        assert_eq!((seen.packets_received, seen.bytes_received), (2, 344));
        assert_eq!((seen.packets_sent, seen.bytes_sent), (2, 344));
        assert_eq!(
            (seen.reported_lost, seen.reported_jitter_us, seen.round_trip_us),
            (Some(0), Some(7), None)
        );
        assert_eq!(figures.seen(2), Seen::default(), "the next holder's first packet is still to come");
        figures.reset(2);
        assert_eq!((figures.seen(1), figures.seen(2)), (Seen::default(), Seen::default()));
    }
}
