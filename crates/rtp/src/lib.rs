//! RTP without I/O: packets, arrival times and samples go in; views, reports, figures and samples come out.
//!
//! Rooms: [`packet`] (RTP headers), [`rtcp`] (reports and their like), [`reception`] (loss and jitter of a stream),
//! [`quality`] (round trip and MOS), [`event`] (telephone events, RFC 4733), [`g711`], [`tone`] (making and recognizing
//! sines), [`playout`] (putting packets back in order). This file tells packets on one port apart.
//! Elsewhere: sockets and sessions (crate `relay`), who agreed on which payload type (crate `sip`).

pub mod event;
pub mod g711;
pub mod packet;
pub mod playout;
pub mod quality;
pub mod reception;
pub mod rtcp;
pub mod tone;

/// What a datagram on a media port is (RFC 7983 section 7; RTP against RTCP: RFC 5761 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// STUN: ICE and keep-alives.
    Stun,
    /// ZRTP.
    Zrtp,
    /// DTLS.
    Dtls,
    /// TURN channel data.
    TurnChannel,
    /// RTP or SRTP.
    Rtp,
    /// RTCP or SRTCP.
    Rtcp,
    /// To be dropped.
    Unknown,
}

/// Classifies a datagram by its first two octets; the rest is not looked at.
pub fn classify(datagram: &[u8]) -> Kind {
    match datagram {
        [0..=3, ..] => Kind::Stun,
        [16..=19, ..] => Kind::Zrtp,
        [20..=63, ..] => Kind::Dtls,
        [64..=79, ..] => Kind::TurnChannel,
        // RTP payload types 64-95 are not used, so that with or without marker none looks like these.
        [128..=191, 192..=223, ..] => Kind::Rtcp,
        [128..=191, _, ..] => Kind::Rtp,
        _ => Kind::Unknown,
    }
}

fn be16(octets: &[u8], at: usize) -> u16 {
    octets.get(at..at + 2).and_then(|two| two.try_into().ok()).map_or(0, u16::from_be_bytes)
}

fn be32(octets: &[u8], at: usize) -> u32 {
    octets.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_told_apart_by_their_first_octets() {
        for (datagram, kind) in [
            (&[][..], Kind::Unknown),
            (&[0, 1], Kind::Stun),
            (&[3, 0], Kind::Stun),
            (&[4, 0], Kind::Unknown),
            (&[16, 0], Kind::Zrtp),
            (&[22, 254], Kind::Dtls),
            (&[63], Kind::Dtls),
            (&[64, 0], Kind::TurnChannel),
            (&[80, 0], Kind::Unknown),
            (&[127, 0], Kind::Unknown),
            (&[128, 0], Kind::Rtp),
            (&[128, 0x80 | 8], Kind::Rtp),
            (&[129, 200], Kind::Rtcp),
            (&[129, 223], Kind::Rtcp),
            (&[129, 224], Kind::Rtp), // payload type 96 with marker
            (&[128], Kind::Unknown),
            (&[192, 0], Kind::Unknown),
        ] {
            assert_eq!(classify(datagram), kind, "{datagram:?}");
        }
    }
}
