//! RTP packets (RFC 3550 section 5).
//!
//! In: a datagram, or the fields of one to be written. Out: a checked view without a copy, or bytes.
//! Elsewhere: what the payload is (`g711`, `event`), counting packets (`reception`).

use crate::{be16, be32};

/// Octets of the fixed header.
pub const HEADER_LEN: usize = 12;

/// Why a datagram is no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Shorter than its header says.
    #[error("RTP packet is cut short")]
    Short,
    /// Not version 2.
    #[error("not RTP version 2")]
    Version,
    /// The padding count is zero or more than there is.
    #[error("bad RTP padding")]
    Padding,
}

/// A checked RTP packet over borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    octets: &'a [u8],
    payload_start: usize,
    payload_end: usize,
}

impl<'a> Packet<'a> {
    /// Checks the header, the contributing sources, the extension and the padding.
    ///
    /// # Errors
    /// Nothing of such a packet can be used.
    pub fn parse(octets: &'a [u8]) -> Result<Packet<'a>, PacketError> {
        let first = *octets.first().ok_or(PacketError::Short)?;
        if first >> 6 != 2 {
            return Err(PacketError::Version);
        }
        let mut payload_start = HEADER_LEN + 4 * usize::from(first & 0x0f);
        if first & 0x10 != 0 {
            if octets.len() < payload_start + 4 {
                return Err(PacketError::Short);
            }
            payload_start += 4 + 4 * usize::from(be16(octets, payload_start + 2));
        }
        if octets.len() < payload_start {
            return Err(PacketError::Short);
        }
        let mut payload_end = octets.len();
        if first & 0x20 != 0 {
            let padding = octets.last().map_or(0, |count| usize::from(*count));
            if padding == 0 || padding > payload_end - payload_start {
                return Err(PacketError::Padding);
            }
            payload_end -= padding;
        }
        Ok(Packet { octets, payload_start, payload_end })
    }

    /// The marker bit: for audio the first packet after silence (RFC 3551 section 4.1).
    pub fn marker(&self) -> bool {
        self.octets[1] & 0x80 != 0
    }

    /// The payload type, 0 to 127.
    pub fn payload_type(&self) -> u8 {
        self.octets[1] & 0x7f
    }

    /// The sequence number.
    pub fn sequence(&self) -> u16 {
        be16(self.octets, 2)
    }

    /// The timestamp, in units of the payload type's clock rate.
    pub fn timestamp(&self) -> u32 {
        be32(self.octets, 4)
    }

    /// The synchronization source.
    pub fn ssrc(&self) -> u32 {
        be32(self.octets, 8)
    }

    /// The contributing sources, at most 15.
    pub fn csrcs(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        let octets = self.octets;
        (0..usize::from(octets[0] & 0x0f)).map(move |n| be32(octets, HEADER_LEN + 4 * n))
    }

    /// Profile and data of the header extension (RFC 3550 section 5.3.1).
    pub fn extension(&self) -> Option<(u16, &'a [u8])> {
        let at = HEADER_LEN + 4 * usize::from(self.octets[0] & 0x0f);
        (self.octets[0] & 0x10 != 0)
            .then(|| (be16(self.octets, at), &self.octets[at + 4..self.payload_start]))
    }

    /// The payload without padding.
    pub fn payload(&self) -> &'a [u8] {
        &self.octets[self.payload_start..self.payload_end]
    }
}

/// The fields of a packet to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The marker bit.
    pub marker: bool,
    /// 0 to 127; a higher bit is ignored.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence: u16,
    /// The timestamp.
    pub timestamp: u32,
    /// The synchronization source.
    pub ssrc: u32,
}

impl Header {
    /// The fixed header of a packet without contributing sources, extension and padding.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut octets = [0; HEADER_LEN];
        octets[0] = 0x80;
        octets[1] = u8::from(self.marker) << 7 | self.payload_type & 0x7f;
        octets[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        octets[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        octets[8..].copy_from_slice(&self.ssrc.to_be_bytes());
        octets
    }

    /// Appends a plain packet to `out`.
    pub fn write(&self, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
        out.extend_from_slice(payload);
    }

    /// Appends a packet with all that a header can have to `out`: the first 15 of `csrcs`, an extension (profile and
    /// data, filled up with zeros to whole words, cut at 65535 words) and `padding` octets.
    pub fn write_full(
        &self,
        csrcs: &[u32],
        extension: Option<(u16, &[u8])>,
        payload: &[u8],
        padding: u8,
        out: &mut Vec<u8>,
    ) {
        let mut octets = self.to_bytes();
        let csrcs = &csrcs[..csrcs.len().min(15)];
        octets[0] |= u8::from(padding != 0) << 5 | u8::from(extension.is_some()) << 4 | csrcs.len() as u8;
        out.extend_from_slice(&octets);
        for csrc in csrcs {
            out.extend_from_slice(&csrc.to_be_bytes());
        }
        if let Some((profile, data)) = extension {
            let data = &data[..data.len().min(usize::from(u16::MAX) * 4)];
            let words = data.len().div_ceil(4);
            out.extend_from_slice(&profile.to_be_bytes());
            out.extend_from_slice(&(words as u16).to_be_bytes());
            out.extend_from_slice(data);
            out.resize(out.len() + words * 4 - data.len(), 0);
        }
        out.extend_from_slice(payload);
        if let Some(zeros) = padding.checked_sub(1) {
            out.resize(out.len() + usize::from(zeros), 0);
            out.push(padding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_cut_or_contradicts_itself_is_refused() {
        let whole =
            [0xb1, 8, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0xbe, 0xde, 0, 1, 9, 9, 9, 9, 7, 7, 0, 2];
        let packet = Packet::parse(&whole).unwrap();
        assert_eq!((packet.payload(), packet.extension()), (&[7, 7][..], Some((0xbede, &[9, 9, 9, 9][..]))));
        assert_eq!(packet.csrcs().collect::<Vec<_>>(), [4]);
        for len in 0..24 {
            assert_eq!(Packet::parse(&whole[..len]).unwrap_err(), PacketError::Short, "{len}");
        }
        for count in [0, 5] {
            let mut padded = whole;
            padded[27] = count;
            assert_eq!(Packet::parse(&padded).unwrap_err(), PacketError::Padding);
        }
        let mut old = whole;
        old[0] = 0x40;
        assert_eq!(Packet::parse(&old).unwrap_err(), PacketError::Version);
        assert_eq!(
            Packet::parse(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap_err(),
            PacketError::Padding
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(octets in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(packet) = Packet::parse(&octets) {
                let _ = (packet.csrcs().count(), packet.extension(), packet.payload(), packet.ssrc());
            }
        }

        #[test]
        fn what_is_written_is_read(
            (marker, payload_type, sequence) in (any::<bool>(), 0..128u8, any::<u16>()),
            (timestamp, ssrc) in any::<(u32, u32)>(),
            csrcs in prop::collection::vec(any::<u32>(), 0..20),
            extension in prop::option::of((any::<u16>(), prop::collection::vec(any::<u8>(), 0..20))),
            payload in prop::collection::vec(any::<u8>(), 0..40),
            padding in any::<u8>(),
        ) {
            let header = Header { marker, payload_type, sequence, timestamp, ssrc };
            let mut octets = Vec::new();
            let data = extension.as_ref().map(|(profile, data)| (*profile, data.as_slice()));
            header.write_full(&csrcs, data, &payload, padding, &mut octets);
            let packet = Packet::parse(&octets).unwrap();
            let read = Header {
                marker: packet.marker(),
                payload_type: packet.payload_type(),
                sequence: packet.sequence(),
                timestamp: packet.timestamp(),
                ssrc: packet.ssrc(),
            };
            prop_assert_eq!(read, header);
            prop_assert_eq!(packet.payload(), &payload[..]);
            prop_assert_eq!(packet.csrcs().collect::<Vec<_>>(), &csrcs[..csrcs.len().min(15)]);
            let padded = extension.map(|(profile, mut data)| {
                data.resize(data.len().next_multiple_of(4), 0);
                (profile, data)
            });
            prop_assert_eq!(packet.extension().map(|(profile, data)| (profile, data.to_vec())), padded);

            let mut plain = Vec::new();
            header.write(&payload, &mut plain);
            prop_assert_eq!(Packet::parse(&plain).unwrap().payload(), &payload[..]);
        }
    }
}
