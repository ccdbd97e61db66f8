//! Figures of a leg for the call record.
//!
//! In: what was counted on each of its ports. Out: one [`MediaReport`] with its estimated score.

use crate::figures::Seen;
use model::MediaReport;
use rtp::quality::{Codec, Path, mean_opinion_score};
use std::time::Duration;

/// Adds the figures of another stream of the same peer. Counts add up; times are those of the stream with most packets.
pub(crate) fn merge(sum: &mut Seen, more: &Seen) {
    let (major, minor) =
        if more.packets_received > sum.packets_received { (*more, *sum) } else { (*sum, *more) };
    *sum = Seen {
        packets_received: major.packets_received + minor.packets_received,
        bytes_received: major.bytes_received + minor.bytes_received,
        packets_sent: major.packets_sent + minor.packets_sent,
        bytes_sent: major.bytes_sent + minor.bytes_sent,
        dropped: major.dropped + minor.dropped,
        lost: major.lost + minor.lost,
        jitter_us: major.jitter_us,
        reported_lost: match (major.reported_lost, minor.reported_lost) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        },
        reported_jitter_us: major.reported_jitter_us.or(minor.reported_jitter_us),
        round_trip_us: major.round_trip_us.or(minor.round_trip_us),
    };
}

/// The report of a leg. The score takes the codec for one of G.711's quality: it tells what the network did.
pub(crate) fn of(seen: &Seen) -> MediaReport {
    let expected = seen.packets_received + seen.lost;
    let score = (seen.packets_received > 0).then(|| {
        mean_opinion_score(&Path {
            codec: Codec::G711,
            loss: seen.lost as f64 / expected as f64,
            jitter: Duration::from_micros(seen.jitter_us.into()),
            round_trip: seen.round_trip_us.map(|us| Duration::from_micros(us.into())),
        })
    });
    MediaReport {
        packets_received: seen.packets_received,
        bytes_received: seen.bytes_received,
        packets_sent: seen.packets_sent,
        bytes_sent: seen.bytes_sent,
        lost: seen.lost,
        jitter_us: seen.jitter_us,
        reported_lost: seen.reported_lost,
        reported_jitter_us: seen.reported_jitter_us,
        round_trip_us: seen.round_trip_us,
        mos_hundredths: score.map(|score| (score * 100.0).round() as u16),
        dropped: seen.dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_leg_add_up_and_the_busiest_tells_the_times() {
        let audio = Seen {
            packets_received: 100,
            packets_sent: 90,
            lost: 1,
            jitter_us: 500,
            reported_lost: Some(2),
            round_trip_us: Some(20_000),
            ..Seen::default()
        };
        let video = Seen {
            packets_received: 10,
            lost: 5,
            jitter_us: 9000,
            reported_lost: Some(1),
            ..Seen::default()
        };
        let mut sum = Seen::default();
        merge(&mut sum, &video);
        merge(&mut sum, &audio);
        assert_eq!((sum.packets_received, sum.packets_sent, sum.lost), (110, 90, 6));
        assert_eq!((sum.jitter_us, sum.reported_lost, sum.round_trip_us), (500, Some(3), Some(20_000)));
    }

    #[test]
    fn the_score_falls_with_loss_and_is_absent_without_packets() {
        let score =
            |received, lost| of(&Seen { packets_received: received, lost, ..Seen::default() }).mos_hundredths;
        assert_eq!(score(0, 0), None);
        let (clean, lossy) = (score(1000, 0).unwrap(), score(900, 100).unwrap());
        assert!((400..=450).contains(&clean) && lossy + 50 < clean, "{clean} {lossy}");
    }
}
