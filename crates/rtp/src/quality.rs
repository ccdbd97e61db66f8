//! What the figures of a stream mean to an ear: round trip (RFC 3550 section 6.4.1) and mean opinion score (E-model).
//!
//! In: report blocks, loss, jitter, round trip. Out: a duration, a score. Elsewhere: measuring loss and jitter
//! (`reception`), the call record (crate `appserver`).

use crate::rtcp::ReportBlock;
use std::time::Duration;

/// Seconds from 1900 to 1970.
const NTP_UNIX: u64 = 2_208_988_800;

/// NTP time of a sender report from the time since 1970.
pub fn ntp_time(unix: Duration) -> u64 {
    let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
    unix.as_secs().wrapping_add(NTP_UNIX) << 32 | fraction
}

/// The middle 32 bits of an NTP time: seconds modulo 65536 and 1/65536 s.
pub fn ntp_middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// The round trip from a report block about our stream that came at NTP time `now`. `None` when the peer has had no
/// sender report of ours yet, or when the figures contradict each other.
pub fn round_trip(block: &ReportBlock, now: u64) -> Option<Duration> {
    if block.last_sr == 0 {
        return None;
    }
    let units = ntp_middle(now).wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_last_sr);
    // More than a minute is a clock that was set, or a lie.
    (units < 60 << 16).then(|| Duration::from_nanos((u64::from(units) * 1_000_000_000) >> 16))
}

/// How robust a codec is against loss (ITU-T G.113 appendix I).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Codec {
    /// Equipment impairment factor Ie without loss.
    pub impairment: f64,
    /// Packet-loss robustness factor Bpl.
    pub robustness: f64,
}

impl Codec {
    /// G.711 whose receiver conceals losses.
    pub const G711: Codec = Codec { impairment: 0.0, robustness: 25.1 };
    /// G.711 whose receiver plays silence for lost packets.
    pub const G711_PLAIN: Codec = Codec { impairment: 0.0, robustness: 4.3 };
    /// G.729A with concealment.
    pub const G729: Codec = Codec { impairment: 11.0, robustness: 19.0 };
}

/// One direction of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// The codec.
    pub codec: Codec,
    /// Share of packets lost, 0 to 1.
    pub loss: f64,
    /// Interarrival jitter.
    pub jitter: Duration,
    /// Round trip, when measured.
    pub round_trip: Option<Duration>,
}

/// The mean opinion score, 1.0 (bad) to 4.4 (as good as G.711 gets).
///
/// The E-model of ITU-T G.107 with every parameter that an operator cannot see at its default: R = 93.2 - Id - Ie,eff.
/// Id, the delay impairment, in the approximation of Cole and Rosenbluth ("Voice over IP performance monitoring", ACM
/// Computer Communication Review 31(2), 2001): 0.024 d + 0.11 (d - 177.3) above 177.3 ms. Ie,eff = Ie + (95 - Ie)
/// Ppl / (Ppl + Bpl) for random loss (G.107 section 7.5). MOS from R: G.107 annex B. The one-way delay d is half the round
/// trip, a playout buffer of twice the jitter, and 25 ms for packets of 20 ms and the codec.
pub fn mean_opinion_score(path: &Path) -> f64 {
    let one_way = path.round_trip.unwrap_or_default().as_secs_f64() * 500.0;
    let delay = one_way + path.jitter.as_secs_f64() * 2000.0 + 25.0;
    let delay_impairment = 0.024 * delay + 0.11 * (delay - 177.3).max(0.0);
    let loss = path.loss.clamp(0.0, 1.0) * 100.0;
    let Codec { impairment, robustness } = path.codec;
    let equipment = impairment + (95.0 - impairment) * loss / (loss + robustness);
    score(93.2 - delay_impairment - equipment)
}

/// MOS from R (G.107 annex B). The polynomial dips below 1 for very small R.
fn score(r: f64) -> f64 {
    if r <= 0.0 {
        return 1.0;
    }
    let r = r.min(100.0);
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(loss: f64, jitter_ms: u64, rtt_ms: u64) -> Path {
        Path {
            codec: Codec::G711,
            loss,
            jitter: Duration::from_millis(jitter_ms),
            round_trip: Some(Duration::from_millis(rtt_ms)),
        }
    }

    #[test]
    fn the_example_of_rfc_3550_figure_2() {
        let block =
            ReportBlock { last_sr: 0xb705_2000, delay_since_last_sr: 0x0005_4000, ..ReportBlock::default() };
        let now = 0xb44d_b710_8000_0000;
        assert_eq!(round_trip(&block, now), Some(Duration::from_millis(6125)));
    }

    #[test]
    fn impossible_round_trips_are_none() {
        let block =
            ReportBlock { last_sr: 100 << 16, delay_since_last_sr: 1 << 16, ..ReportBlock::default() };
        assert_eq!(round_trip(&block, 100 << 32), None, "before it was sent");
        assert_eq!(round_trip(&block, 200 << 32), None, "more than a minute");
        assert_eq!(round_trip(&block, 102 << 32), Some(Duration::from_secs(1)));
        assert_eq!(round_trip(&ReportBlock { last_sr: 0, ..block }, 102 << 32), None);
        let wrapped = ReportBlock { last_sr: 65_535 << 16, delay_since_last_sr: 0, ..block };
        assert_eq!(round_trip(&wrapped, 65_537 << 32), Some(Duration::from_secs(2)));
    }

    #[test]
    fn ntp_time_of_known_moments() {
        assert_eq!(ntp_time(Duration::ZERO), 2_208_988_800 << 32);
        assert_eq!(ntp_time(Duration::from_millis(1500)), 2_208_988_801 << 32 | 1 << 31);
    }

    #[test]
    fn scores_of_known_ratings() {
        // G.107 annex B: R = 93.2 is MOS 4.41, 80 is 4.03, 70 is 3.60, 60 is 3.10, 50 is 2.58.
        for (r, mos) in [
            (93.2, 4.41),
            (80.0, 4.03),
            (70.0, 3.60),
            (60.0, 3.10),
            (50.0, 2.58),
            (0.0, 1.0),
            (-5.0, 1.0),
            (3.0, 1.0),
        ] {
            assert!((score(r) - mos).abs() < 0.01, "R {r}: {}", score(r));
        }
    }

    #[test]
    fn a_good_path_scores_well_and_every_defect_costs() {
        let good = mean_opinion_score(&path(0.0, 0, 0));
        assert!((4.35..4.45).contains(&good), "{good}");
        assert!(mean_opinion_score(&path(0.02, 0, 0)) < good - 0.1);
        assert!(mean_opinion_score(&path(0.0, 60, 0)) < good);
        assert!(mean_opinion_score(&path(0.0, 0, 600)) < good - 0.5);
        assert!(mean_opinion_score(&Path { codec: Codec::G729, ..path(0.0, 0, 0) }) < good - 0.2);
        assert!(mean_opinion_score(&Path { codec: Codec::G711_PLAIN, ..path(0.05, 0, 0) }) < 2.6);
        assert_eq!(mean_opinion_score(&path(1.0, 500, 5000)), 1.0);
    }

    proptest! {
        #[test]
        fn scores_stay_on_the_scale_and_fall_with_loss(
            loss in -1.0..2.0f64, more in 0.0..0.5f64, jitter in 0..5000u64, rtt in 0..20_000u64,
        ) {
            let (less, worse) = (mean_opinion_score(&path(loss, jitter, rtt)), mean_opinion_score(&path(loss + more, jitter, rtt)));
            prop_assert!((1.0..4.5).contains(&less) && (1.0..4.5).contains(&worse));
            prop_assert!(worse <= less + 0.08, "the polynomial is not monotonous below R = 6.5");
        }
    }
}
