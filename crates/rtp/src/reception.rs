//! How well a stream arrives: sequence numbers (RFC 3550 appendix A.1), loss (A.3), jitter (A.8).
//!
//! In: header fields and arrival times. Out: report blocks and totals for the call record. A few dozen octets per stream,
//! nothing allocated. Elsewhere: writing reports (`rtcp`), what the figures mean to an ear (`quality`).

use crate::quality::ntp_middle;
use crate::rtcp::{ReportBlock, SenderInfo};
use std::time::Duration;

/// A gap up to this is loss; beyond it the source began anew.
const MAX_DROPOUT: u16 = 3000;
/// A packet at most so many behind is late.
const MAX_MISORDER: u16 = 100;
/// Beyond this the timestamps began anew (the source was exchanged behind the same SSRC): no jitter. Seconds.
const JUMP_SECS: u32 = 10;

/// The reception of one stream of packets, over all sources that appear in it one after the other.
#[derive(Clone, Debug)]
pub struct Reception {
    clock_rate: u32,
    current: Option<Source>,
    past: Totals,
    max_jitter: u32,
}

/// State of one source (RFC 3550 appendix A.1).
#[derive(Clone, Copy, Debug)]
struct Source {
    ssrc: u32,
    base: u16,
    max: u16,
    cycles: u32,
    /// The sequence number that would prove a restart.
    bad: Option<u16>,
    received: u32,
    expected_prior: u32,
    received_prior: u32,
    /// Arrival minus timestamp of the last timed packet.
    transit: Option<u32>,
    /// In 1/16 timestamp units.
    jitter: u32,
    /// Middle bits of the NTP time of the last SR, and when it came.
    last_sr: Option<(u32, Duration)>,
}

/// Packets of a stream since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets that came, late ones and duplicates included.
    pub received: u64,
    /// Packets that should have come, from the sequence numbers.
    pub expected: u64,
}

impl Totals {
    /// Packets that did not come.
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.received)
    }

    /// Share of packets that did not come, 0 to 1.
    pub fn loss(&self) -> f64 {
        if self.expected == 0 { 0.0 } else { self.lost() as f64 / self.expected as f64 }
    }
}

impl Reception {
    /// `clock_rate` of the payload type, in Hz; taken as between 1 and a million.
    pub fn new(clock_rate: u32) -> Reception {
        Reception {
            clock_rate: clock_rate.clamp(1, 1_000_000),
            current: None,
            past: Totals::default(),
            max_jitter: 0,
        }
    }

    /// Counts one packet. `arrival`: since any moment that stays the same. False: its sequence number does not follow,
    /// it is not counted unless the next one proves that the source began anew.
    pub fn packet(&mut self, ssrc: u32, sequence: u16, timestamp: u32, arrival: Duration) -> bool {
        if !self.packet_untimed(ssrc, sequence) {
            return false;
        }
        let arrival = in_units(arrival, self.clock_rate);
        let jump = JUMP_SECS * self.clock_rate;
        if let Some(source) = &mut self.current {
            let transit = arrival.wrapping_sub(timestamp);
            if let Some(before) = source.transit.replace(transit) {
                let difference = transit.wrapping_sub(before).cast_signed().unsigned_abs();
                if difference <= jump {
                    source.jitter = (source.jitter + difference).saturating_sub((source.jitter + 8) >> 4);
                }
            }
            self.max_jitter = self.max_jitter.max(source.jitter >> 4);
        }
        true
    }

    /// Counts one packet whose timestamp is not the time of its sending: a telephone event (RFC 4733 section 2.2.2).
    pub fn packet_untimed(&mut self, ssrc: u32, sequence: u16) -> bool {
        match &mut self.current {
            Some(source) if source.ssrc == ssrc => {
                if !source.advance(sequence) {
                    return false;
                }
                if source.bad == Some(sequence) {
                    self.restart(ssrc, sequence);
                }
            }
            Some(_) | None => self.restart(ssrc, sequence),
        }
        true
    }

    /// Notes a sender report of the source, so that the next report block lets it measure the round trip.
    pub fn sender_report(&mut self, info: &SenderInfo, arrival: Duration) {
        if let Some(source) = self.current.as_mut().filter(|source| source.ssrc == info.ssrc) {
            source.last_sr = Some((ntp_middle(info.ntp), arrival));
        }
    }

    /// The block of the next report; the interval of "fraction lost" begins anew. `None` before the first packet.
    pub fn report(&mut self, now: Duration) -> Option<ReportBlock> {
        let source = self.current.as_mut()?;
        let expected = source.expected();
        let expected_interval = expected.wrapping_sub(source.expected_prior);
        let received_interval = source.received.wrapping_sub(source.received_prior);
        (source.expected_prior, source.received_prior) = (expected, source.received);
        let lost_interval = u64::from(expected_interval.saturating_sub(received_interval));
        let fraction = (lost_interval << 8).checked_div(u64::from(expected_interval)).unwrap_or(0);
        let (last_sr, delay) =
            source.last_sr.map_or((0, 0), |(middle, at)| (middle, in_units(now.saturating_sub(at), 65_536)));
        Some(ReportBlock {
            ssrc: source.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            lost: expected.wrapping_sub(source.received).cast_signed(),
            highest_sequence: source.cycles | u32::from(source.max),
            jitter: source.jitter >> 4,
            last_sr,
            delay_since_last_sr: delay,
        })
    }

    /// Packets since the stream began, over all its sources.
    pub fn totals(&self) -> Totals {
        let now = self.current.map_or(Totals::default(), |source| source.totals());
        Totals { received: self.past.received + now.received, expected: self.past.expected + now.expected }
    }

    /// The present jitter.
    pub fn jitter(&self) -> Duration {
        self.duration(self.current.map_or(0, |source| source.jitter >> 4))
    }

    /// The highest jitter so far.
    pub fn max_jitter(&self) -> Duration {
        self.duration(self.max_jitter)
    }

    /// The source of the last packet.
    pub fn ssrc(&self) -> Option<u32> {
        self.current.map(|source| source.ssrc)
    }

    fn duration(&self, units: u32) -> Duration {
        Duration::from_nanos(u64::from(units) * 1_000_000_000 / u64::from(self.clock_rate))
    }

    fn restart(&mut self, ssrc: u32, sequence: u16) {
        self.past = self.totals();
        self.current = Some(Source {
            ssrc,
            base: sequence,
            max: sequence,
            cycles: 0,
            bad: None,
            received: 1,
            expected_prior: 0,
            received_prior: 0,
            transit: None,
            jitter: 0,
            last_sr: None,
        });
    }
}

impl Source {
    /// `update_seq` of RFC 3550 appendix A.1, valid from the first packet: the peer was named by signalling. A proven
    /// restart leaves `bad` at the sequence number itself.
    fn advance(&mut self, sequence: u16) -> bool {
        let ahead = sequence.wrapping_sub(self.max);
        if ahead < MAX_DROPOUT {
            if sequence < self.max {
                self.cycles = self.cycles.wrapping_add(1 << 16);
            }
            self.max = sequence;
        } else if ahead <= u16::MAX - MAX_MISORDER + 1 {
            if self.bad == Some(sequence) {
                return true;
            }
            self.bad = Some(sequence.wrapping_add(1));
            return false;
        }
        self.bad = None;
        self.received = self.received.wrapping_add(1);
        true
    }

    fn expected(&self) -> u32 {
        (self.cycles | u32::from(self.max)).wrapping_sub(u32::from(self.base)).wrapping_add(1)
    }

    fn totals(&self) -> Totals {
        Totals { received: u64::from(self.received), expected: u64::from(self.expected()) }
    }
}

/// A duration in units of `rate` per second, modulo 2^32 as timestamps are.
fn in_units(time: Duration, rate: u32) -> u32 {
    let parts = u64::from(time.subsec_nanos()) * u64::from(rate) / 1_000_000_000;
    (time.as_secs() as u32).wrapping_mul(rate).wrapping_add(parts as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A stream of 20 ms packets with the sequence numbers given.
    fn stream(sequences: impl IntoIterator<Item = u16>) -> Reception {
        let mut reception = Reception::new(8000);
        for (n, sequence) in (0u32..).zip(sequences) {
            reception.packet(1, sequence, n * 160, ms(u64::from(n) * 20));
        }
        reception
    }

    #[test]
    fn a_perfect_stream_over_the_wrap_of_its_sequence_numbers() {
        let mut reception = stream((65_000..=65_535).chain(0..1000));
        assert_eq!(reception.totals(), Totals { received: 1536, expected: 1536 });
        assert_eq!((reception.jitter(), reception.max_jitter()), (Duration::ZERO, Duration::ZERO));
        let report = reception.report(ms(0)).unwrap();
        assert_eq!((report.highest_sequence, report.lost, report.fraction_lost), (65_536 + 999, 0, 0));
    }

    #[test]
    fn loss_is_counted_in_all_and_per_interval() {
        let mut reception = stream((0..100).filter(|n| n % 4 != 1));
        assert_eq!((reception.totals().lost(), reception.totals().loss()), (25, 0.25));
        let report = reception.report(ms(0)).unwrap();
        assert_eq!((report.lost, report.fraction_lost), (25, 64));
        for n in 100..200 {
            reception.packet(1, n, 0, ms(0));
        }
        let report = reception.report(ms(0)).unwrap();
        assert_eq!((report.lost, report.fraction_lost), (25, 0));
        assert_eq!(reception.report(ms(0)).unwrap().fraction_lost, 0, "an empty interval");
    }

    #[test]
    fn late_packets_count_and_duplicates_make_loss_negative() {
        let mut late = stream([1, 2, 5, 3, 4, 6]);
        assert_eq!(late.report(ms(0)).unwrap().lost, 0);
        let mut twice = stream([1, 2, 2, 2]);
        let report = twice.report(ms(0)).unwrap();
        assert_eq!((report.lost, report.fraction_lost, twice.totals().lost()), (-2, 0, 0));
    }

    #[test]
    fn a_stray_number_is_refused_and_two_in_a_row_are_a_new_beginning() {
        let mut reception = stream(1..=10);
        assert!(!reception.packet(1, 30_000, 0, ms(200)));
        assert!(reception.packet(1, 11, 0, ms(200)));
        assert!(!reception.packet(1, 40_000, 0, ms(200)));
        assert!(reception.packet(1, 40_001, 0, ms(220)));
        assert!(reception.packet(1, 40_002, 160, ms(240)));
        assert_eq!(reception.totals(), Totals { received: 13, expected: 13 });
        assert_eq!(reception.report(ms(0)).unwrap().highest_sequence, 40_002);
    }

    #[test]
    fn a_new_source_keeps_the_totals() {
        let mut reception = stream([1, 2, 4]);
        for n in 7000..7010 {
            reception.packet(2, n, 0, ms(0));
        }
        assert_eq!(reception.totals(), Totals { received: 13, expected: 14 });
        assert_eq!((reception.ssrc(), reception.report(ms(0)).unwrap().lost), (Some(2), 0));
    }

    #[test]
    fn jitter_follows_the_formula_of_appendix_a8() {
        // Every other packet 10 ms late: |D| is 80 units each time, the estimate closes in on 80.
        let mut reception = Reception::new(8000);
        let mut estimate = 0.0;
        for n in 0..500u32 {
            let late = u64::from(n % 2) * 10;
            reception.packet(1, n as u16, n * 160, ms(u64::from(n) * 20 + late));
            estimate += if n == 0 { 0.0 } else { (80.0 - estimate) / 16.0 };
        }
        let units = reception.report(ms(0)).unwrap().jitter;
        assert!((f64::from(units) - estimate).abs() < 1.5, "{units} against {estimate}");
        assert!(reception.jitter() > ms(9) && reception.jitter() <= ms(10));
    }

    #[test]
    fn events_and_jumps_of_the_clock_make_no_jitter() {
        let mut reception = stream(0..10);
        for n in 10..20 {
            reception.packet_untimed(1, n);
        }
        reception.packet(1, 20, 20 * 160, ms(400));
        reception.packet(1, 21, 3_000_000_000, ms(420));
        reception.packet(1, 22, 3_000_000_160, ms(440));
        assert_eq!(reception.max_jitter(), Duration::ZERO);
        assert_eq!(reception.totals().lost(), 0);
    }

    #[test]
    fn the_report_lets_the_peer_measure_the_round_trip() {
        let mut reception = stream(0..3);
        assert_eq!(reception.report(ms(50)).unwrap().last_sr, 0);
        let info = SenderInfo { ssrc: 1, ntp: 0xaaaa_1234_5678_bbbb, ..SenderInfo::default() };
        reception.sender_report(&info, ms(100));
        reception.sender_report(&SenderInfo { ssrc: 2, ntp: 1, ..info }, ms(150));
        let report = reception.report(ms(1600)).unwrap();
        assert_eq!((report.last_sr, report.delay_since_last_sr), (0x1234_5678, 65_536 * 3 / 2));
    }

    #[test]
    fn nothing_received_nothing_reported() {
        let mut reception = Reception::new(0);
        assert!(reception.report(ms(0)).is_none());
        assert_eq!((reception.totals().loss(), reception.ssrc()), (0.0, None));
    }

    proptest! {
        #[test]
        fn any_packets_leave_sane_figures(
            packets in prop::collection::vec((0..3u32, any::<u16>(), any::<u32>(), 0..u64::MAX / 2), 0..200),
            rate in any::<u32>(),
        ) {
            let mut reception = Reception::new(rate);
            for (ssrc, sequence, timestamp, at) in packets {
                reception.packet(ssrc, sequence, timestamp, Duration::from_nanos(at));
                let _ = reception.report(Duration::from_nanos(at / 2));
            }
            let loss = reception.totals().loss();
            prop_assert!((0.0..=1.0).contains(&loss));
        }
    }
}
