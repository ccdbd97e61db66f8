//! RTCP packets (RFC 3550 section 6): sender and receiver reports, source descriptions, goodbye; others are skipped.
//!
//! In: a datagram, or figures to be reported. Out: a checked compound packet without a copy, or bytes.
//! Elsewhere: the figures (`reception`), the round trip (`quality`), when to send (the owner of the stream).

use crate::{be16, be32};

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;

/// Octets of a report block.
const BLOCK_LEN: usize = 24;
/// Counts are five bits wide.
const COUNT_MAX: usize = 31;

/// Why a datagram is no compound RTCP packet (RFC 3550 appendix A.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    /// A packet is shorter than its header says.
    #[error("RTCP packet is cut short")]
    Short,
    /// Not version 2.
    #[error("not RTCP version 2")]
    Version,
    /// Padding where none may be, or more of it than there is.
    #[error("bad RTCP padding")]
    Padding,
}

/// A checked compound packet over borrowed bytes. That the first packet is a report is not asked for: RFC 5506 allows
/// others.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a> {
    octets: &'a [u8],
}

impl<'a> Compound<'a> {
    /// Checks versions, lengths and padding of all packets.
    ///
    /// # Errors
    /// Nothing of such a datagram can be used.
    pub fn parse(octets: &'a [u8]) -> Result<Compound<'a>, RtcpError> {
        let mut rest = octets;
        if rest.is_empty() {
            return Err(RtcpError::Short);
        }
        while let Some(first) = rest.first() {
            if first >> 6 != 2 {
                return Err(RtcpError::Version);
            }
            let (packet, tail) = cut(rest).ok_or(RtcpError::Short)?;
            if first & 0x20 != 0 {
                let padding = packet.last().map_or(0, |count| usize::from(*count));
                let fits = padding != 0 && padding.is_multiple_of(4) && padding <= packet.len() - 4;
                if !tail.is_empty() || !fits {
                    return Err(RtcpError::Padding); // only the last packet may be padded
                }
            }
            rest = tail;
        }
        Ok(Compound { octets })
    }

    /// The packets in order. One whose contents contradict its length comes as [`Rtcp::Other`].
    pub fn packets(&self) -> impl Iterator<Item = Rtcp<'a>> + use<'a> {
        let mut rest = self.octets;
        std::iter::from_fn(move || {
            let (packet, tail) = cut(rest)?;
            rest = tail;
            Some(Rtcp::of(packet))
        })
    }
}

/// One packet of a compound.
#[derive(Clone, Copy, Debug)]
pub enum Rtcp<'a> {
    /// SR: what the sender sent, and what it received.
    SenderReport(SenderInfo, Blocks<'a>),
    /// RR: what the sender with this SSRC received.
    ReceiverReport(u32, Blocks<'a>),
    /// SDES.
    SourceDescription(Chunks<'a>),
    /// BYE.
    Goodbye(Goodbye<'a>),
    /// APP, feedback, extended reports and what cannot be read: the packet type.
    Other(u8),
}

/// The sender's part of an SR (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderInfo {
    /// Who reports.
    pub ssrc: u32,
    /// Wall clock, NTP format: seconds since 1900 in the upper half.
    pub ntp: u64,
    /// The same moment in RTP timestamp units.
    pub rtp_timestamp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Octets of payload sent.
    pub octets: u32,
}

/// A report block: how one source is received (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source reported on.
    pub ssrc: u32,
    /// Share of packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost in all; negative when there were duplicates. Written clamped to 24 bits.
    pub lost: i32,
    /// Highest sequence number received, with the number of cycles in the upper half.
    pub highest_sequence: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// The middle 32 bits of the last SR's NTP time; 0 = none yet.
    pub last_sr: u32,
    /// Time since that SR came, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

/// Report blocks of one packet.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a>(&'a [u8]);

impl<'a> IntoIterator for Blocks<'a> {
    type Item = ReportBlock;
    type IntoIter = std::iter::Map<std::slice::ChunksExact<'a, u8>, fn(&[u8]) -> ReportBlock>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.chunks_exact(BLOCK_LEN).map(ReportBlock::read)
    }
}

impl ReportBlock {
    fn read(octets: &[u8]) -> ReportBlock {
        let word = be32(octets, 4);
        ReportBlock {
            ssrc: be32(octets, 0),
            fraction_lost: (word >> 24) as u8,
            lost: (word << 8).cast_signed() >> 8, // 24 bits signed
            highest_sequence: be32(octets, 8),
            jitter: be32(octets, 12),
            last_sr: be32(octets, 16),
            delay_since_last_sr: be32(octets, 20),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let lost = self.lost.clamp(-0x80_0000, 0x7f_ffff).cast_unsigned() & 0xff_ffff;
        let word = u32::from(self.fraction_lost) << 24 | lost;
        let words =
            [self.ssrc, word, self.highest_sequence, self.jitter, self.last_sr, self.delay_since_last_sr];
        words.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
    }
}

/// SDES chunks (RFC 3550 section 6.5).
#[derive(Clone, Copy, Debug)]
pub struct Chunks<'a> {
    octets: &'a [u8],
    count: usize,
}

impl<'a> Chunks<'a> {
    /// The canonical name of each source that gives one.
    pub fn cnames(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        let (mut rest, mut left) = (self.octets, self.count);
        std::iter::from_fn(move || {
            while left > 0 && rest.len() >= 8 {
                left -= 1;
                let ssrc = be32(rest, 0);
                let mut at = 4;
                let mut cname = None;
                // Items end with a zero octet; the next chunk begins at the next whole word.
                while let Some(kind @ 1..) = rest.get(at).copied() {
                    let len = rest.get(at + 1).map_or(0, |len| usize::from(*len));
                    if kind == 1 && cname.is_none() {
                        cname = rest.get(at + 2..at + 2 + len);
                    }
                    at += 2 + len;
                }
                rest = rest.get((at + 1).next_multiple_of(4)..).unwrap_or_default();
                if let Some(cname) = cname {
                    return Some((ssrc, cname));
                }
            }
            None
        })
    }
}

/// A BYE (RFC 3550 section 6.6).
#[derive(Clone, Copy, Debug)]
pub struct Goodbye<'a> {
    sources: &'a [u8],
    reason: &'a [u8],
}

impl<'a> Goodbye<'a> {
    /// The sources that leave.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.sources.chunks_exact(4).map(|word| be32(word, 0))
    }

    /// Why; empty when not said.
    pub fn reason(&self) -> &'a [u8] {
        self.reason
    }
}

impl<'a> Rtcp<'a> {
    /// `packet`: one whole packet with its header.
    fn of(packet: &'a [u8]) -> Rtcp<'a> {
        let (count, kind) = (usize::from(packet[0] & 0x1f), packet[1]);
        let padding = if packet[0] & 0x20 != 0 { packet.last().map_or(0, |n| usize::from(*n)) } else { 0 };
        let body = &packet[4..packet.len() - padding];
        let blocks = |from: usize| body.get(from..from + count * BLOCK_LEN).map(Blocks);
        let read = match kind {
            SENDER_REPORT => blocks(24).map(|blocks| {
                let info = SenderInfo {
                    ssrc: be32(body, 0),
                    ntp: u64::from(be32(body, 4)) << 32 | u64::from(be32(body, 8)),
                    rtp_timestamp: be32(body, 12),
                    packets: be32(body, 16),
                    octets: be32(body, 20),
                };
                Rtcp::SenderReport(info, blocks)
            }),
            RECEIVER_REPORT => blocks(4).map(|blocks| Rtcp::ReceiverReport(be32(body, 0), blocks)),
            SOURCE_DESCRIPTION => Some(Rtcp::SourceDescription(Chunks { octets: body, count })),
            GOODBYE => body.split_at_checked(count * 4).map(|(sources, rest)| {
                let reason = rest.split_first().and_then(|(len, text)| text.get(..usize::from(*len)));
                Rtcp::Goodbye(Goodbye { sources, reason: reason.unwrap_or_default() })
            }),
            _ => None,
        };
        read.unwrap_or(Rtcp::Other(kind))
    }
}

/// Writes a compound packet. Begin with a report (RFC 3550 section 6.1) and add the CNAME.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Nothing written yet.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// An SR with the first 31 blocks.
    pub fn sender_report(mut self, info: &SenderInfo, blocks: &[ReportBlock]) -> Writer {
        let blocks = &blocks[..blocks.len().min(COUNT_MAX)];
        self.head(SENDER_REPORT, blocks.len(), 24 + blocks.len() * BLOCK_LEN);
        self.word(info.ssrc);
        self.out.extend_from_slice(&info.ntp.to_be_bytes());
        [info.rtp_timestamp, info.packets, info.octets].into_iter().for_each(|word| self.word(word));
        blocks.iter().for_each(|block| block.write(&mut self.out));
        self
    }

    /// An RR with the first 31 blocks.
    pub fn receiver_report(mut self, ssrc: u32, blocks: &[ReportBlock]) -> Writer {
        let blocks = &blocks[..blocks.len().min(COUNT_MAX)];
        self.head(RECEIVER_REPORT, blocks.len(), 4 + blocks.len() * BLOCK_LEN);
        self.word(ssrc);
        blocks.iter().for_each(|block| block.write(&mut self.out));
        self
    }

    /// An SDES with one canonical name, cut at 255 octets.
    pub fn cname(mut self, ssrc: u32, cname: &str) -> Writer {
        let cname = &cname.as_bytes()[..cname.len().min(255)];
        let len = (4 + 2 + cname.len() + 1).next_multiple_of(4);
        self.head(SOURCE_DESCRIPTION, 1, len);
        self.word(ssrc);
        self.out.extend_from_slice(&[1, cname.len() as u8]);
        self.out.extend_from_slice(cname);
        self.fill(4 + 2 + cname.len(), len);
        self
    }

    /// A BYE of one source. The reason is cut at 255 octets.
    pub fn goodbye(mut self, ssrc: u32, reason: &str) -> Writer {
        let reason = &reason.as_bytes()[..reason.len().min(255)];
        let used = if reason.is_empty() { 4 } else { 4 + 1 + reason.len() };
        let len = used.next_multiple_of(4);
        self.head(GOODBYE, 1, len);
        self.word(ssrc);
        if !reason.is_empty() {
            self.out.push(reason.len() as u8);
            self.out.extend_from_slice(reason);
        }
        self.fill(used, len);
        self
    }

    /// The compound packet.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    fn head(&mut self, kind: u8, count: usize, body_len: usize) {
        self.out.extend_from_slice(&[0x80 | count as u8, kind]);
        self.out.extend_from_slice(&((body_len / 4) as u16).to_be_bytes());
    }

    fn word(&mut self, word: u32) {
        self.out.extend_from_slice(&word.to_be_bytes());
    }

    fn fill(&mut self, used: usize, len: usize) {
        self.out.resize(self.out.len() + len - used, 0);
    }
}

/// Cuts the first packet off.
fn cut(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    (octets.len() >= 4).then(|| octets.split_at_checked(4 + 4 * usize::from(be16(octets, 2))))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block() -> impl Strategy<Value = ReportBlock> {
        (any::<(u32, u8, u32, u32, u32, u32)>(), -0x80_0000..0x80_0000i32).prop_map(|(f, lost)| ReportBlock {
            ssrc: f.0,
            fraction_lost: f.1,
            lost,
            highest_sequence: f.2,
            jitter: f.3,
            last_sr: f.4,
            delay_since_last_sr: f.5,
        })
    }

    fn look_at_all(octets: &[u8]) -> usize {
        let Ok(compound) = Compound::parse(octets) else { return 0 };
        let look = |packet: Rtcp<'_>| match packet {
            Rtcp::SenderReport(_, blocks) | Rtcp::ReceiverReport(_, blocks) => blocks.into_iter().count(),
            Rtcp::SourceDescription(chunks) => chunks.cnames().count(),
            Rtcp::Goodbye(goodbye) => goodbye.ssrcs().count() + goodbye.reason().len(),
            Rtcp::Other(_) => 0,
        };
        compound.packets().map(look).sum()
    }

    #[test]
    fn a_compound_is_read_as_written() {
        let info =
            SenderInfo { ssrc: 1, ntp: 0x1122_3344_5566_7788, rtp_timestamp: 2, packets: 3, octets: 4 };
        let block = ReportBlock {
            ssrc: 9,
            fraction_lost: 128,
            lost: -3,
            highest_sequence: 65_537,
            ..ReportBlock::default()
        };
        let octets = Writer::new()
            .sender_report(&info, &[block])
            .cname(1, "a@example.com")
            .goodbye(1, "done")
            .finish();
        assert!(octets.len().is_multiple_of(4));
        let packets: Vec<_> = Compound::parse(&octets).unwrap().packets().collect();
        let [Rtcp::SenderReport(read, blocks), Rtcp::SourceDescription(chunks), Rtcp::Goodbye(goodbye)] =
            packets[..]
        else {
            panic!("{packets:?}")
        };
        assert_eq!(read, info);
        assert_eq!(blocks.into_iter().collect::<Vec<_>>(), [block]);
        assert_eq!(chunks.cnames().collect::<Vec<_>>(), [(1, &b"a@example.com"[..])]);
        assert_eq!((goodbye.ssrcs().collect::<Vec<_>>(), goodbye.reason()), (vec![1], &b"done"[..]));
    }

    #[test]
    fn loss_is_clamped_to_24_bits() {
        for (lost, written) in
            [(0x80_0000, 0x7f_ffff), (-0x80_0001, -0x80_0000), (i32::MIN, -0x80_0000), (-1, -1)]
        {
            let octets =
                Writer::new().receiver_report(1, &[ReportBlock { lost, ..ReportBlock::default() }]).finish();
            let packets: Vec<_> = Compound::parse(&octets).unwrap().packets().collect();
            let [Rtcp::ReceiverReport(1, blocks)] = packets[..] else { panic!("{packets:?}") };
            assert_eq!(blocks.into_iter().next().unwrap().lost, written);
        }
    }

    #[test]
    fn contradictions_are_refused_or_skipped() {
        let good = Writer::new().receiver_report(7, &[]).finish();
        assert_eq!(good, [0x80, 201, 0, 1, 0, 0, 0, 7]);
        let refused = |octets: &[u8]| Compound::parse(octets).unwrap_err();
        assert_eq!(refused(&[]), RtcpError::Short);
        assert_eq!(refused(&good[..7]), RtcpError::Short);
        assert_eq!(refused(&[0x40, 201, 0, 0]), RtcpError::Version);
        assert_eq!(refused(&[&good[..], &[0x80]].concat()), RtcpError::Short);
        assert_eq!(refused(&[0xa0, 201, 0, 1, 0, 0, 0, 0]), RtcpError::Padding);
        assert_eq!(refused(&[0xa0, 201, 0, 1, 0, 0, 0, 8]), RtcpError::Padding);
        assert_eq!(refused(&[0xa0, 201, 0, 1, 0, 0, 0, 4, 0x80, 201, 0, 0]), RtcpError::Padding);
        let other =
            |octets: &[u8]| matches!(Compound::parse(octets).unwrap().packets().next(), Some(Rtcp::Other(_)));
        assert!(other(&[0x81, 201, 0, 1, 0, 0, 0, 7]), "one block announced, none there");
        assert!(other(&[0x80, 200, 0, 1, 0, 0, 0, 7]), "no sender info");
        assert!(other(&[0x82, 203, 0, 1, 0, 0, 0, 7]), "two sources announced, one there");
        assert!(other(&[0x80, 204, 0, 2, 0, 0, 0, 7, b'n', b'a', b'm', b'e']), "APP");
        assert_eq!(look_at_all(&[0xa1, 203, 0, 2, 0, 0, 0, 7, 0, 0, 0, 4]), 1, "padding is no reason");
    }

    #[test]
    fn names_after_a_chunk_without_one_are_found() {
        let octets = [
            0x82, 202, 0, 5, 0, 0, 0, 1, 2, 1, b'n', 0, // NAME
            0, 0, 0, 2, 1, 2, b'c', b'n', 0, 0, 0, 0, // CNAME
        ];
        let Some(Rtcp::SourceDescription(chunks)) = Compound::parse(&octets).unwrap().packets().next() else {
            panic!()
        };
        assert_eq!(chunks.cnames().collect::<Vec<_>>(), [(2, &b"cn"[..])]);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(
            mut octets in prop::collection::vec(any::<u8>(), 4..120),
            kind in 200..206u8,
        ) {
            let words = octets.len() / 4 - 1;
            octets.truncate(4 * words + 4);
            octets[0] = octets[0] & 0x3f | 0x80;
            octets[1] = kind;
            octets[2..4].copy_from_slice(&(words as u16).to_be_bytes());
            look_at_all(&octets);
        }

        #[test]
        fn reports_are_read_as_written(blocks in prop::collection::vec(block(), 0..40), ssrc in any::<u32>()) {
            let octets = Writer::new().receiver_report(ssrc, &blocks).finish();
            let packets: Vec<_> = Compound::parse(&octets).unwrap().packets().collect();
            let [Rtcp::ReceiverReport(read, read_blocks)] = packets[..] else { panic!() };
            prop_assert_eq!(read, ssrc);
            prop_assert_eq!(read_blocks.into_iter().collect::<Vec<_>>(), &blocks[..blocks.len().min(COUNT_MAX)]);
        }
    }
}
