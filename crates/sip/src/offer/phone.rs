//! Offers and answers of a telephone with one audio stream.
//!
//! In: the codecs it can, its media address, the peer's description. Out: our description and what was agreed.
//! Elsewhere: codecs and packets (crate `rtp`), the state of the exchange ([`super::OfferAnswer`]).

use super::{OfferError, agreed_direction};
use crate::sdp::{Direction, Media, MediaLine, Part, RtpMap, Sdp};
use std::net::{IpAddr, SocketAddr};

const TELEPHONE_EVENT: &str = "telephone-event";

/// An audio codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    /// Encoding name.
    pub encoding: String,
    /// In Hz, as RTP counts it (G.722 says 8000).
    pub clock_rate: u32,
    /// Usually 1.
    pub channels: u8,
    /// The payload type in our offers.
    pub payload_type: u8,
    /// Format parameters that we announce.
    pub fmtp: Option<String>,
}

impl Codec {
    /// G.711 mu-law, payload type 0.
    pub fn pcmu() -> Codec {
        Codec { encoding: "PCMU".into(), clock_rate: 8000, channels: 1, payload_type: 0, fmtp: None }
    }

    /// G.711 A-law, payload type 8.
    pub fn pcma() -> Codec {
        Codec { encoding: "PCMA".into(), clock_rate: 8000, channels: 1, payload_type: 8, fmtp: None }
    }

    fn map(&self) -> RtpMap<'_> {
        RtpMap { encoding: &self.encoding, clock_rate: self.clock_rate, channels: self.channels }
    }
}

/// Whose order of codecs an answer keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// The offer's, as RFC 3264 section 6.1 recommends.
    #[default]
    Theirs,
    /// Ours.
    Ours,
}

/// What our telephone can.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// In our order of preference.
    pub codecs: Vec<Codec>,
    /// Payload type of `telephone-event` (RFC 4733) in our offers; `None` = we do not do it.
    pub telephone_event: Option<u8>,
    /// Packet time that we like to receive, in milliseconds.
    pub ptime: Option<u32>,
    /// Order of codecs in answers.
    pub preference: Preference,
}

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities {
            codecs: vec![Codec::pcma(), Codec::pcmu()],
            telephone_event: Some(101),
            ptime: Some(20),
            preference: Preference::Theirs,
        }
    }
}

/// Where and how we do media.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Where we receive RTP.
    pub address: SocketAddr,
    /// Which way it flows, as we see it.
    pub direction: Direction,
}

/// What both sides agreed for the audio stream, as our side sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Which `m=` line.
    pub media: usize,
    /// Index in [`Capabilities::codecs`] of the codec that we send.
    pub codec: usize,
    /// Its payload type in packets that we send: the peer's number.
    pub send_payload_type: u8,
    /// Payload types that we may receive, with the index of the codec.
    pub receive: Vec<(u8, usize)>,
    /// Payload types of `telephone-event` that we send and receive, when both sides do it.
    pub telephone_event: Option<(u8, u8)>,
    /// The peer's RTP address; `None` when it is a name or unspecified.
    pub remote: Option<SocketAddr>,
    /// The peer's RTCP address.
    pub remote_rtcp: Option<SocketAddr>,
    /// What we do.
    pub direction: Direction,
    /// Packet time that the peer likes to receive, in milliseconds.
    pub ptime: Option<u32>,
}

impl Capabilities {
    /// Our first offer; an [`super::Author`] signs it. Later offers are made by changing the last description.
    pub fn offer(&self, stream: Stream) -> Sdp {
        let mut sdp = Sdp::new("-", 0, 0, stream.address.ip());
        let mut formats: Vec<Format> = self.codecs.iter().map(Format::of_ours).collect();
        if let Some(payload_type) = self.telephone_event {
            let rate = self.codecs.first().map_or(8000, |codec| codec.clock_rate);
            formats.push(Format::event(payload_type, rate));
        }
        self.add_audio(&mut sdp, "RTP/AVP", stream, &formats);
        sdp
    }

    /// Our answer: the first acceptable audio stream, all others rejected.
    ///
    /// # Errors
    /// [`OfferError::NothingInCommon`]. An offer without any media gets an answer without any (RFC 3264 section 6).
    pub fn answer(&self, offer: &Sdp, stream: Stream) -> Result<Sdp, OfferError> {
        let mut sdp = Sdp::new("-", 0, 0, stream.address.ip());
        if let Some(time) = offer.session().first(b't') {
            sdp.set_line(Part::Session, b't', String::from_utf8_lossy(time));
        }
        let chosen = offer.all_media().find(|media| self.can(media) && !self.common(media).is_empty());
        if chosen.is_none() && offer.media_count() > 0 {
            return Err(OfferError::NothingInCommon);
        }
        for media in offer.all_media() {
            if chosen.as_ref().is_none_or(|chosen| chosen.index() != media.index()) {
                let format = media.formats().next().unwrap_or("0");
                let (kind, protocol) = (media.kind(), media.protocol());
                sdp.add_media(MediaLine { kind, port: 0, protocol, formats: &[format] });
                continue;
            }
            let common = self.common(&media);
            let mut formats: Vec<Format> = common
                .iter()
                .map(|(theirs, codec)| Format::answering(*theirs, &self.codecs[*codec]))
                .collect();
            if let Some((payload_type, rate)) = self.event_of(&media, &common) {
                formats.push(Format::event(payload_type, rate));
            }
            let direction = stream.direction.and(media.direction().reversed());
            self.add_audio(&mut sdp, media.protocol(), Stream { direction, ..stream }, &formats);
            if let Some(mid) = media.mid() {
                sdp.set_attribute(Part::Media(media.index()), "mid", Some(mid)); // RFC 5888 section 9.1
            }
        }
        Ok(sdp)
    }

    /// What our and the peer's description amount to, whoever offered. `None`: no audio stream was accepted by both.
    pub fn agreed(&self, local: &Sdp, remote: &Sdp) -> Option<Agreed> {
        let live = |media: &Media<'_>| self.can(media);
        let (ours, theirs) = local.all_media().zip(remote.all_media()).find(|(l, r)| live(l) && live(r))?;
        let mine = self.common(&ours);
        let their_codecs = self.common(&theirs);
        // The first of the peer's that we listed too: both an answer's and an offer's order is the author's wish.
        let (send_payload_type, codec) =
            *their_codecs.iter().find(|(_, codec)| mine.iter().any(|(_, own)| own == codec))?;
        let event = self.event_of(&theirs, &their_codecs).zip(self.event_of(&ours, &mine));
        let connection = theirs.connection().filter(|c| !c.is_unspecified()).and_then(|c| c.address.ip());
        let remote_rtcp = connection.and_then(|ip| rtcp_address(&theirs, ip));
        Some(Agreed {
            media: ours.index(),
            codec,
            send_payload_type,
            receive: mine,
            telephone_event: event.map(|((send, _), (receive, _))| (send, receive)),
            remote: connection.map(|ip| SocketAddr::new(ip, theirs.port())),
            remote_rtcp,
            direction: agreed_direction(&ours, &theirs),
            ptime: theirs.ptime(),
        })
    }

    fn can(&self, media: &Media<'_>) -> bool {
        let plain = ["RTP/AVP", "RTP/AVPF"].iter().any(|known| media.protocol().eq_ignore_ascii_case(known));
        media.kind().eq_ignore_ascii_case("audio") && media.port() != 0 && plain
    }

    /// Payload types of `media` that are codecs of ours, with the index of the codec, in the preferred order.
    fn common(&self, media: &Media<'_>) -> Vec<(u8, usize)> {
        let mut common: Vec<(u8, usize)> = Vec::new();
        for format in media.formats() {
            let (Ok(payload_type), Some(map)) = (format.parse::<u8>(), media.rtpmap(format)) else {
                continue;
            };
            if let Some(codec) = self.codecs.iter().position(|codec| codec.map().is(&map))
                && payload_type < 128
                && !common.iter().any(|(_, known)| *known == codec)
            {
                common.push((payload_type, codec));
            }
        }
        if self.preference == Preference::Ours {
            common.sort_by_key(|(_, codec)| *codec);
        }
        common
    }

    /// Payload type and rate of `telephone-event`, best at the rate of the first codec.
    fn event_of(&self, media: &Media<'_>, common: &[(u8, usize)]) -> Option<(u8, u32)> {
        self.telephone_event?;
        let rate = self.codecs[common.first()?.1].clock_rate;
        let events = || {
            media.formats().filter_map(|format| {
                let map = media.rtpmap(format)?;
                let payload_type = format.parse().ok().filter(|n| *n < 128)?;
                map.encoding.eq_ignore_ascii_case(TELEPHONE_EVENT).then_some((payload_type, map.clock_rate))
            })
        };
        events().find(|(_, other)| *other == rate).or_else(|| events().next())
    }

    fn add_audio(&self, sdp: &mut Sdp, protocol: &str, stream: Stream, formats: &[Format]) {
        let numbers: Vec<String> = formats.iter().map(|format| format.payload_type.to_string()).collect();
        let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
        let port = stream.address.port();
        let Some(index) = sdp.add_media(MediaLine { kind: "audio", port, protocol, formats: &numbers })
        else {
            return; // as many as the offer has, which has no more than we take
        };
        let part = Part::Media(index);
        for format in formats {
            sdp.add_attribute(part, "rtpmap", Some(&format!("{} {}", format.payload_type, format.map)));
            if let Some(fmtp) = &format.fmtp {
                sdp.add_attribute(part, "fmtp", Some(&format!("{} {fmtp}", format.payload_type)));
            }
        }
        if let Some(ptime) = self.ptime {
            sdp.add_attribute(part, "ptime", Some(&ptime.to_string()));
        }
        sdp.set_direction(part, stream.direction);
    }
}

/// A format that we list.
struct Format {
    payload_type: u8,
    map: String,
    fmtp: Option<String>,
}

impl Format {
    fn of_ours(codec: &Codec) -> Format {
        Format::answering(codec.payload_type, codec)
    }

    fn answering(payload_type: u8, codec: &Codec) -> Format {
        let channels = if codec.channels > 1 { format!("/{}", codec.channels) } else { String::new() };
        let map = format!("{}/{}{channels}", codec.encoding, codec.clock_rate);
        Format { payload_type, map, fmtp: codec.fmtp.clone() }
    }

    /// Digits, `*`, `#`, A-D and flash (RFC 4733 section 3.2).
    fn event(payload_type: u8, rate: u32) -> Format {
        Format { payload_type, map: format!("{TELEPHONE_EVENT}/{rate}"), fmtp: Some("0-16".into()) }
    }
}

/// `a=rtcp` (RFC 3605), or the RTP port itself (RFC 5761), or the next port.
fn rtcp_address(media: &Media<'_>, rtp: IpAddr) -> Option<SocketAddr> {
    if media.rtcp_mux() {
        return Some(SocketAddr::new(rtp, media.port()));
    }
    match media.rtcp() {
        Some((port, Some(address))) => address.ip().map(|ip| SocketAddr::new(ip, port)),
        Some((port, None)) => Some(SocketAddr::new(rtp, port)),
        None => media.port().checked_add(1).map(|port| SocketAddr::new(rtp, port)),
    }
}
