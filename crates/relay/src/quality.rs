//! How well media arrives: loss and jitter of a stream measured on reception, and what the peer's RTCP tells.
//!
//! In: RTP and RTCP datagrams with their time of arrival (microseconds of the worker's clock). Out: numbers for
//! [`Figures`]. The relay writes no RTCP of its own; the round trip comes from sender reports that pass through it.
//! Elsewhere: the arithmetic (crate `rtp`).

use crate::figures::Figures;
use crate::stream::Clocks;
use rtp::quality::ntp_middle;
use rtp::reception::Reception;
use rtp::rtcp::{Compound, ReportBlock, Rtcp};
use std::time::Duration;

/// Sender reports remembered per peer: a report every second and round trips of some seconds fit.
const REPORTS_MAX: usize = 4;

/// Everything that is measured of one peer's stream; what every packet touches first.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Quality {
    /// Clock rate that `reception` reckons with; 0 when it has none.
    clock: u32,
    /// The last packet's payload type and its clock rate, if it has a regular one.
    last: Option<(u8, Option<u32>)>,
    reception: Option<Reception>,
    /// Lost packets of receptions with another clock rate.
    lost_before: u64,
    /// Sender reports that went to this peer.
    sent: [SentReport; REPORTS_MAX],
    sent_next: usize,
    reported: Option<Reported>,
}

#[derive(Clone, Copy, Default)]
struct SentReport {
    ssrc: u32,
    /// The middle 32 bits of its NTP time; 0 for an empty place.
    last_sr: u32,
    at_us: u64,
}

/// What the peer said last of a source that we send it.
struct Reported {
    ssrc: u32,
    lost: u64,
    lost_before: u64,
}

impl Quality {
    /// The meaning of payload types has changed.
    pub(crate) fn forget_types(&mut self) {
        self.last = None;
    }

    /// Measures an RTP packet whose fixed header is whole.
    pub(crate) fn rtp(&mut self, bytes: &[u8], clocks: &Clocks, now_us: u64) {
        let &[_, marker_and_type, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3, ..] = bytes else { return };
        let sequence = u16::from_be_bytes([s0, s1]);
        let timestamp = u32::from_be_bytes([t0, t1, t2, t3]);
        let ssrc = u32::from_be_bytes([c0, c1, c2, c3]);
        let payload_type = marker_and_type & 0x7f;
        let clock = match self.last {
            Some((last, clock)) if last == payload_type => clock,
            Some(_) | None => clocks.rate(payload_type),
        };
        self.last = Some((payload_type, clock));
        if let Some(clock) = clock.filter(|clock| *clock != self.clock) {
            // Another codec with another clock; what came before stays counted.
            self.lost_before += self.reception.take().map_or(0, |old| old.totals().lost());
            self.clock = clock;
        }
        let reception = self.reception.get_or_insert_with(|| Reception::new(self.clock));
        if clock.is_some() {
            reception.packet(ssrc, sequence, timestamp, Duration::from_micros(now_us));
        } else {
            reception.packet_untimed(ssrc, sequence);
        }
    }

    /// Reads a compound RTCP packet of this peer that goes on to the peer behind `to`.
    pub(crate) fn rtcp(
        &mut self,
        bytes: &[u8],
        mut to: Option<&mut Quality>,
        figures: &Figures,
        now_us: u64,
    ) {
        let Ok(compound) = Compound::parse(bytes) else { return };
        let heard = to.as_deref().and_then(|to| Some((to.reception.as_ref()?.ssrc()?, to.clock)));
        for packet in compound.packets() {
            let blocks = match packet {
                Rtcp::SenderReport(info, blocks) => {
                    if let Some(to) = to.as_deref_mut() {
                        to.sent[to.sent_next] =
                            SentReport { ssrc: info.ssrc, last_sr: ntp_middle(info.ntp), at_us: now_us };
                        to.sent_next = (to.sent_next + 1) % REPORTS_MAX;
                    }
                    blocks
                }
                Rtcp::ReceiverReport(_, blocks) => blocks,
                Rtcp::SourceDescription(_) | Rtcp::Goodbye(_) | Rtcp::Other(_) => continue,
            };
            for block in blocks {
                self.block(&block, heard, figures, now_us);
            }
        }
    }

    /// Packets of this peer that did not arrive, over all its sources.
    pub(crate) fn lost(&self) -> u64 {
        self.lost_before + self.reception.as_ref().map_or(0, |reception| reception.totals().lost())
    }

    /// Interarrival jitter in microseconds.
    pub(crate) fn jitter_us(&self) -> u32 {
        let jitter =
            self.reception.as_ref().filter(|_| self.clock > 0).map_or(Duration::ZERO, Reception::jitter);
        u32::try_from(jitter.as_micros()).unwrap_or(u32::MAX)
    }

    /// One report block (RFC 3550 section 6.4.1); only the source that this peer really gets is believed.
    fn block(&mut self, block: &ReportBlock, heard: Option<(u32, u32)>, figures: &Figures, now_us: u64) {
        let Some((ssrc, clock)) = heard.filter(|(ssrc, _)| *ssrc == block.ssrc) else { return };
        let lost = u64::try_from(block.lost).unwrap_or(0); // duplicates make it negative
        let lost_before = match &self.reported {
            Some(old) if old.ssrc == ssrc => old.lost_before,
            Some(old) => old.lost_before + old.lost,
            None => 0,
        };
        self.reported = Some(Reported { ssrc, lost, lost_before });
        let jitter_us = (u64::from(block.jitter) * 1_000_000).checked_div(u64::from(clock));
        figures.reported(lost_before + lost, jitter_us.map(|us| u32::try_from(us).unwrap_or(u32::MAX)));
        let answers =
            |sent: &&SentReport| (sent.ssrc, sent.last_sr) == (ssrc, block.last_sr) && block.last_sr != 0;
        if let Some(sent) = self.sent.iter().find(answers) {
            let delay_us = u64::from(block.delay_since_last_sr) * 1_000_000 / 65_536;
            if let Some(round_trip) = now_us.saturating_sub(sent.at_us).checked_sub(delay_us) {
                figures.round_trip(u32::try_from(round_trip).unwrap_or(u32::MAX));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtp::rtcp::{SenderInfo, Writer};

    fn packet(ssrc: u32, sequence: u16, timestamp: u32, payload_type: u8) -> Vec<u8> {
        let mut bytes = vec![0x80, payload_type];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(ssrc.to_be_bytes());
        bytes
    }

    fn clocks() -> Clocks {
        let mut clocks = Clocks::default();
        clocks.add(0, 8000);
        clocks
    }

    /// Feeds sequence numbers of one source, 20 ms apart and on time.
    fn feed(quality: &mut Quality, ssrc: u32, numbers: impl IntoIterator<Item = u16>) {
        for (n, sequence) in (0u32..).zip(numbers) {
            quality.rtp(&packet(ssrc, sequence, n * 160, 0), &clocks(), u64::from(n) * 20_000);
        }
    }

    #[test]
    fn loss_is_counted_over_sources_and_clocks() {
        let mut quality = Quality::default();
        feed(&mut quality, 7, [65_534, 65_535, 0, 2]);
        assert_eq!(quality.lost(), 1);
        feed(&mut quality, 8, [100, 103]);
        assert_eq!(quality.lost(), 3);
        let mut clocks = clocks();
        clocks.add(96, 48_000);
        quality.rtp(&packet(8, 104, 0, 96), &clocks, 0);
        quality.rtp(&packet(8, 106, 0, 96), &clocks, 0);
        assert_eq!(quality.lost(), 4);
    }

    #[test]
    fn jitter_follows_the_estimator_of_rfc_3550() {
        let mut quality = Quality::default();
        feed(&mut quality, 7, 0..50);
        assert_eq!(quality.jitter_us(), 0);
        // Every second packet 10 ms (80 units) late: |D| is 80 each time, and so becomes the estimate.
        let mut quality = Quality::default();
        for n in 0..200u32 {
            let late = u64::from(n % 2) * 10_000;
            quality.rtp(&packet(7, n as u16, n * 160, 0), &clocks(), u64::from(n) * 20_000 + late);
        }
        assert!((9_000..=10_000).contains(&quality.jitter_us()), "{}", quality.jitter_us());
        // Packets of a type without a clock (telephone events) say nothing.
        let before = quality.jitter_us();
        quality.rtp(&packet(7, 200, 0, 101), &clocks(), 99_000_000);
        quality.rtp(&packet(7, 201, 7, 101), &clocks(), 99_900_000);
        assert_eq!(quality.jitter_us(), before);
    }

    fn sender_report(ssrc: u32, ntp: u64) -> Vec<u8> {
        Writer::new()
            .sender_report(&SenderInfo { ssrc, ntp, ..SenderInfo::default() }, &[])
            .cname(ssrc, "a")
            .finish()
    }

    fn receiver_report(ssrc: u32, lost: i32, jitter: u32, last_sr: u32, delay_since_last_sr: u32) -> Vec<u8> {
        let block =
            ReportBlock { ssrc, lost, jitter, last_sr, delay_since_last_sr, ..ReportBlock::default() };
        Writer::new().receiver_report(9, &[block]).finish()
    }

    #[test]
    fn the_peers_reports_tell_loss_jitter_and_round_trip() {
        let (mut near, mut far) = (Quality::default(), Quality::default());
        let (near_figures, far_figures) = (Figures::default(), Figures::default());
        near_figures.reset(1);
        far_figures.reset(1);
        feed(&mut near, 7, 0..3);
        near.rtcp(&sender_report(7, 0x1111_2222_3333_4444), Some(&mut far), &near_figures, 1_000_000);
        far.rtcp(
            &receiver_report(7, 5, 80, 0x2222_3333, 65_536 / 2),
            Some(&mut near),
            &far_figures,
            1_530_000,
        );
        let seen = far_figures.seen(1);
        assert_eq!((seen.reported_lost, seen.reported_jitter_us), (Some(5), Some(10_000)));
        assert_eq!(seen.round_trip_us, Some(30_000));
        assert_eq!(near_figures.seen(1).reported_lost, None);
        far.rtcp(&receiver_report(7, -3, 80, 0, 0), Some(&mut near), &far_figures, 1_600_000);
        assert_eq!(far_figures.seen(1).reported_lost, Some(0));
    }

    #[test]
    fn reports_about_strangers_and_broken_packets_change_nothing() {
        let (mut near, mut far, figures) = (Quality::default(), Quality::default(), Figures::default());
        figures.reset(1);
        feed(&mut near, 7, 0..3);
        let stranger = receiver_report(8, 5, 80, 1, 0);
        far.rtcp(&stranger, Some(&mut near), &figures, 0);
        let whole = receiver_report(7, 5, 80, 1, 0);
        for length in 0..whole.len() {
            far.rtcp(&whole[..length], Some(&mut near), &figures, 0);
        }
        let mut endless = whole.clone();
        endless[2..4].copy_from_slice(&[0xff, 0xff]);
        far.rtcp(&endless, Some(&mut near), &figures, 0);
        far.rtcp(&whole, None, &figures, 0);
        assert_eq!(figures.seen(1), crate::figures::Seen::default());
    }
}
