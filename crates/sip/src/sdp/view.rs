//! Typed views of a description's lines; nothing is stored but the `m=` line, every call reads its line again.
//!
//! In: lines of an [`Sdp`]. Out: origin, connection, direction, formats, attributes (RFC 8866, RFC 3605, RFC 4568,
//! RFC 5761, RFC 8122, RFC 8839). Elsewhere: changing them (`edit`).

use super::{Part, Sdp};
use std::cell::OnceCell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// The `o=` line (RFC 8866 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// `-` where there is none. Some telephones put blanks into it.
    pub username: &'a str,
    /// Digits; some are longer than 64 bits.
    pub session_id: &'a str,
    /// Digits; see [`Origin::version`].
    pub session_version: &'a str,
    /// The address or host name, unread: nobody may rely on it.
    pub address: &'a str,
}

impl<'a> Origin<'a> {
    /// The version as a number (RFC 3264 section 5: 64 bits signed, not negative).
    pub fn version(&self) -> Option<u64> {
        self.session_version.parse().ok()
    }

    pub(super) fn parse(value: &'a [u8]) -> Option<Origin<'a>> {
        // From the right, for the sake of blanks in the user name.
        let value = std::str::from_utf8(value).ok()?.trim_ascii();
        let (value, address) = value.rsplit_once(' ')?;
        let (value, address_type) = value.trim_ascii_end().rsplit_once(' ')?;
        let (value, net_type) = value.trim_ascii_end().rsplit_once(' ')?;
        let (value, session_version) = value.trim_ascii_end().rsplit_once(' ')?;
        let (username, session_id) = value.trim_ascii_end().rsplit_once(' ')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let fields = [username, address, address_type, net_type];
        let good =
            digits(session_id) && digits(session_version) && fields.iter().all(|field| !field.is_empty());
        good.then_some(Origin { username: username.trim_ascii_end(), session_id, session_version, address })
    }
}

/// An address in a `c=`, `a=rtcp` or `a=candidate` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address<'a> {
    /// A literal address.
    Ip(IpAddr),
    /// A host name: legal, and nobody resolves it in the middle of a call.
    Name(&'a str),
}

impl<'a> Address<'a> {
    /// The literal address.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Address::Ip(ip) => Some(ip),
            Address::Name(_) => None,
        }
    }

    fn parse(address_type: &str, text: &'a str) -> Option<Address<'a>> {
        let (v4, v6) = (|| text.parse::<Ipv4Addr>().ok(), || text.parse::<Ipv6Addr>().ok());
        let (ip, is_of_other_family) = if address_type.eq_ignore_ascii_case("IP4") {
            let ip = v4();
            (ip.map(IpAddr::V4), ip.is_none() && v6().is_some())
        } else if address_type.eq_ignore_ascii_case("IP6") {
            let ip = v6();
            (ip.map(IpAddr::V6), ip.is_none() && v4().is_some())
        } else {
            return None;
        };
        if ip.is_some() || is_of_other_family {
            return ip.map(Address::Ip);
        }
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let all_digits = text.bytes().all(|b| b.is_ascii_digit() || b == b'.'); // 300.1.1.1 is no host name
        (!text.is_empty() && text.len() <= 255 && text.bytes().all(name) && !all_digits)
            .then_some(Address::Name(text))
    }
}

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(ip) => ip.fmt(f),
            Address::Name(name) => f.write_str(name),
        }
    }
}

/// A `c=` line (RFC 8866 section 5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection<'a> {
    /// Where media goes.
    pub address: Address<'a>,
    /// What follows a slash: TTL and number of multicast addresses.
    pub multicast: Option<&'a str>,
}

impl<'a> Connection<'a> {
    /// `0.0.0.0` or `::`: nothing is to be sent, as RFC 2543 put calls on hold (RFC 3264 section 8.4).
    pub fn is_unspecified(&self) -> bool {
        self.address.ip().is_some_and(|ip| ip.is_unspecified())
    }

    pub(super) fn parse(value: &'a [u8]) -> Option<Connection<'a>> {
        let mut fields = std::str::from_utf8(value).ok()?.split_ascii_whitespace();
        let (net_type, address_type, address) = (fields.next()?, fields.next()?, fields.next()?);
        if !net_type.eq_ignore_ascii_case("IN") || fields.next().is_some() {
            return None;
        }
        let (address, multicast) = match address.split_once('/') {
            Some((address, rest)) => {
                let good = rest.split('/').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
                good.then_some((address, Some(rest)))?
            }
            None => (address, None),
        };
        Some(Connection { address: Address::parse(address_type, address)?, multicast })
    }
}

/// Which way media flows, seen from the author of the description (RFC 8866 section 6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Both ways; what a description without any such attribute means.
    #[default]
    SendRecv,
    /// The author sends.
    SendOnly,
    /// The author receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// All four.
    pub const ALL: [Direction; 4] =
        [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive];

    /// From the author's two answers.
    pub fn of(sends: bool, receives: bool) -> Direction {
        match (sends, receives) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// The author sends.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// The author receives.
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The same flow seen from the other side.
    pub fn reversed(self) -> Direction {
        Direction::of(self.receives(), self.sends())
    }

    /// What both allow.
    pub fn and(self, other: Direction) -> Direction {
        Direction::of(self.sends() && other.sends(), self.receives() && other.receives())
    }

    /// The attribute's name.
    pub fn token(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    pub(super) fn from_token(token: &str) -> Option<Direction> {
        Direction::ALL.into_iter().find(|direction| direction.token().eq_ignore_ascii_case(token))
    }
}

/// What a payload type stands for: `a=rtpmap` (RFC 8866 section 6.6) or the table of RFC 3551 section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpMap<'a> {
    /// Encoding name, to be compared whatever its case; see [`RtpMap::is`].
    pub encoding: &'a str,
    /// In Hz.
    pub clock_rate: u32,
    /// Channels of audio; 1 when not given.
    pub channels: u8,
}

impl RtpMap<'_> {
    /// The same encoding, clock rate and number of channels.
    pub fn is(&self, other: &RtpMap<'_>) -> bool {
        self.encoding.eq_ignore_ascii_case(other.encoding)
            && self.clock_rate == other.clock_rate
            && self.channels == other.channels
    }

    fn parse(text: &str) -> Option<RtpMap<'_>> {
        let mut fields = text.trim_ascii().split('/');
        let (encoding, clock_rate) = (fields.next()?.trim_ascii(), fields.next()?.trim_ascii().parse().ok()?);
        let channels = fields.next().and_then(|n| n.trim_ascii().parse().ok()).unwrap_or(1);
        (!encoding.is_empty()).then_some(RtpMap { encoding, clock_rate, channels })
    }

    /// Static payload types (RFC 3551 tables 4 and 5).
    fn of_static(payload_type: &str) -> Option<RtpMap<'static>> {
        let (encoding, clock_rate, channels) = match payload_type {
            "0" => ("PCMU", 8000, 1),
            "3" => ("GSM", 8000, 1),
            "4" => ("G723", 8000, 1),
            "5" => ("DVI4", 8000, 1),
            "6" => ("DVI4", 16_000, 1),
            "7" => ("LPC", 8000, 1),
            "8" => ("PCMA", 8000, 1),
            "9" => ("G722", 8000, 1),
            "10" => ("L16", 44_100, 2),
            "11" => ("L16", 44_100, 1),
            "12" => ("QCELP", 8000, 1),
            "13" => ("CN", 8000, 1),
            "14" => ("MPA", 90_000, 1),
            "15" => ("G728", 8000, 1),
            "16" => ("DVI4", 11_025, 1),
            "17" => ("DVI4", 22_050, 1),
            "18" => ("G729", 8000, 1),
            "25" => ("CelB", 90_000, 1),
            "26" => ("JPEG", 90_000, 1),
            "28" => ("nv", 90_000, 1),
            "31" => ("H261", 90_000, 1),
            "32" => ("MPV", 90_000, 1),
            "33" => ("MP2T", 90_000, 1),
            "34" => ("H263", 90_000, 1),
            _ => return None,
        };
        Some(RtpMap { encoding, clock_rate, channels })
    }
}

/// The lines of the session or of one media description.
#[derive(Clone)]
pub struct Section<'a> {
    sdp: &'a Sdp,
    range: Range<usize>,
}

impl<'a> Section<'a> {
    pub(super) fn new(sdp: &'a Sdp, part: Part) -> Section<'a> {
        Section { sdp, range: sdp.range(part) }
    }

    /// Type letter and value of each line.
    pub fn lines(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let sdp = self.sdp;
        self.range.clone().map(move |at| (sdp.letter(at), sdp.value(at)))
    }

    /// Value of the first line of a type.
    pub fn first(&self, letter: u8) -> Option<&'a [u8]> {
        self.lines().find(|(other, _)| *other == letter).map(|(_, value)| value)
    }

    /// Attributes in order.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { sdp: self.sdp, range: self.range.clone() }
    }

    /// The value of the first attribute of that name; an empty text when it has none.
    pub fn attribute(&self, name: &str) -> Option<&'a str> {
        self.named(name).next().map(|(_, value)| value.unwrap_or(""))
    }

    /// The attributes of that name: text is made of those lines alone.
    fn named<'n>(&self, name: &'n str) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a, 'n> {
        let sdp = self.sdp;
        let lines = self.range.clone().map(move |at| sdp.text(sdp.lines[at]));
        let begins = move |line: &&[u8]| {
            line.strip_prefix(b"a=").is_some_and(|line| line.starts_with(name.as_bytes()))
        };
        lines.filter(begins).filter_map(attribute).filter(move |(other, _)| *other == name)
    }

    /// Values of all attributes of that name.
    pub fn attributes_named(&self, name: &'static str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.named(name).filter_map(|(_, value)| value)
    }

    /// The `c=` line of this part alone.
    pub fn connection(&self) -> Option<Connection<'a>> {
        self.first(b'c').and_then(Connection::parse)
    }

    /// The direction attribute of this part alone.
    pub fn direction(&self) -> Option<Direction> {
        let sdp = self.sdp;
        let flags = self.range.clone().filter_map(|at| sdp.text(sdp.lines[at]).strip_prefix(b"a="));
        // The four begin alike; most other lines are not looked at any further.
        let candidates = flags.filter(|flag| matches!(flag.first(), Some(b's' | b'r' | b'i')));
        candidates
            .filter(|flag| !flag.contains(&b':'))
            .find_map(|flag| Direction::from_token(std::str::from_utf8(flag).ok()?.trim_ascii_end()))
    }
}

/// Name and value of the attributes of a part; one that is not UTF-8 is skipped.
pub struct Attributes<'a> {
    sdp: &'a Sdp,
    range: Range<usize>,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, Option<&'a str>);

    fn next(&mut self) -> Option<Self::Item> {
        let sdp = self.sdp;
        self.range.find_map(|at| attribute(sdp.text(sdp.lines[at])))
    }
}

/// Reads `a=name` or `a=name:value`.
pub(super) fn attribute(line: &[u8]) -> Option<(&str, Option<&str>)> {
    let text = std::str::from_utf8(line.strip_prefix(b"a=")?).ok()?;
    Some(match text.split_once(':') {
        Some((name, value)) => (name, Some(value)),
        None => (text.trim_ascii_end(), None),
    })
}

/// One media description.
#[derive(Clone)]
pub struct Media<'a> {
    sdp: &'a Sdp,
    index: usize,
    section: Section<'a>,
    /// Its first line, once somebody has asked for a part of it.
    line: OnceCell<Split<'a>>,
}

impl<'a> Media<'a> {
    pub(super) fn new(sdp: &'a Sdp, index: usize) -> Media<'a> {
        Media { sdp, index, section: Section::new(sdp, Part::Media(index)), line: OnceCell::new() }
    }

    /// Its place in the description, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its lines.
    pub fn section(&self) -> &Section<'a> {
        &self.section
    }

    fn line(&self) -> Split<'a> {
        // The parser and the setters let no other line in.
        let read = || self.section.first(b'm').and_then(|value| split_media(value).ok()).unwrap_or_default();
        *self.line.get_or_init(read)
    }

    /// `audio`, `video`, `image`, …
    pub fn kind(&self) -> &'a str {
        self.line().kind
    }

    /// The port; 0 is a stream that is rejected or removed.
    pub fn port(&self) -> u16 {
        self.line().port
    }

    /// The number of ports after a slash; 1 when not given.
    pub fn port_count(&self) -> u16 {
        self.line().port_count
    }

    /// `RTP/AVP`, `RTP/SAVP`, `UDP/TLS/RTP/SAVPF`, `udptl`, …
    pub fn protocol(&self) -> &'a str {
        self.line().protocol
    }

    /// RTP under any profile, so that formats are payload types.
    pub fn is_rtp(&self) -> bool {
        self.protocol().split('/').any(|token| token.eq_ignore_ascii_case("RTP"))
    }

    /// Payload types or other formats, in order of preference.
    pub fn formats(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.line().formats.split_ascii_whitespace()
    }

    /// The connection, of the media or else of the session.
    pub fn connection(&self) -> Option<Connection<'a>> {
        self.section.connection().or_else(|| self.sdp.session().connection())
    }

    /// The direction, of the media or else of the session or else [`Direction::SendRecv`].
    pub fn direction(&self) -> Direction {
        self.section.direction().or_else(|| self.sdp.session().direction()).unwrap_or_default()
    }

    /// What a payload type stands for.
    pub fn rtpmap(&self, format: &str) -> Option<RtpMap<'a>> {
        self.of_format("rtpmap", format).and_then(RtpMap::parse).or_else(|| RtpMap::of_static(format))
    }

    /// The parameters of a format (RFC 8866 section 6.15).
    pub fn fmtp(&self, format: &str) -> Option<&'a str> {
        self.of_format("fmtp", format)
    }

    /// Packet time in milliseconds.
    pub fn ptime(&self) -> Option<u32> {
        self.attribute("ptime").and_then(|value| value.trim_ascii().parse().ok())
    }

    /// RTCP port and address when they are not the next ones (RFC 3605).
    pub fn rtcp(&self) -> Option<(u16, Option<Address<'a>>)> {
        let mut fields = self.attribute("rtcp")?.split_ascii_whitespace();
        let port = fields.next()?.parse().ok()?;
        let address = match (fields.next(), fields.next(), fields.next()) {
            (Some(_), Some(address_type), Some(address)) => Address::parse(address_type, address),
            _ => None,
        };
        Some((port, address))
    }

    /// RTP and RTCP on one port (RFC 5761).
    pub fn rtcp_mux(&self) -> bool {
        self.attribute("rtcp-mux").is_some()
    }

    /// The name of the stream (RFC 5888).
    pub fn mid(&self) -> Option<&'a str> {
        self.attribute("mid")
    }

    /// SDES keys (RFC 4568), raw: tag, suite, key parameters.
    pub fn crypto(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.section.attributes_named("crypto")
    }

    /// Fingerprint of the DTLS certificate (RFC 8122), of the media or else of the session.
    pub fn fingerprint(&self) -> Option<&'a str> {
        self.inherited("fingerprint")
    }

    /// DTLS role (RFC 4145, RFC 5763), of the media or else of the session.
    pub fn setup(&self) -> Option<&'a str> {
        self.inherited("setup")
    }

    /// ICE user name fragment (RFC 8839), of the media or else of the session.
    pub fn ice_ufrag(&self) -> Option<&'a str> {
        self.inherited("ice-ufrag")
    }

    /// ICE password (RFC 8839), of the media or else of the session.
    pub fn ice_pwd(&self) -> Option<&'a str> {
        self.inherited("ice-pwd")
    }

    /// ICE candidates (RFC 8839), raw.
    pub fn candidates(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.section.attributes_named("candidate")
    }

    /// The value of this media's first attribute of that name; an empty text when it has none.
    pub fn attribute(&self, name: &str) -> Option<&'a str> {
        self.section.attribute(name)
    }

    /// An attribute that holds for the session unless the media has its own.
    pub fn inherited(&self, name: &str) -> Option<&'a str> {
        self.attribute(name).or_else(|| self.sdp.session().attribute(name))
    }

    /// `a=name:format value`. Text is made of the line that is meant alone.
    fn of_format(&self, name: &'static str, format: &str) -> Option<&'a str> {
        let values = self.section.lines().filter(|(letter, _)| *letter == b'a').filter_map(|(_, value)| {
            let value = value.strip_prefix(name.as_bytes())?.strip_prefix(b":")?;
            let rest = value.trim_ascii_start().strip_prefix(format.as_bytes())?;
            matches!(rest.first(), Some(b' ' | b'\t')).then_some(rest)
        });
        values.filter_map(|rest| std::str::from_utf8(rest).ok()).next().map(str::trim_ascii)
    }
}

/// The fields of an `m=` line (RFC 8866 section 5.14).
#[derive(Clone, Copy, Default)]
pub(super) struct Split<'a> {
    pub(super) kind: &'a str,
    pub(super) port: u16,
    pub(super) port_count: u16,
    /// Profile and formats as they stand.
    pub(super) after_port: &'a str,
    pub(super) protocol: &'a str,
    pub(super) formats: &'a str,
}

pub(super) fn split_media(value: &[u8]) -> Result<Split<'_>, &'static str> {
    let text = std::str::from_utf8(value).map_err(|_| "m= is not UTF-8")?.trim_ascii();
    let (kind, text) = cut(text).ok_or("m= without a port")?;
    let (port, after_port) = cut(text.trim_ascii_start()).ok_or("m= without a protocol")?;
    let after_port = after_port.trim_ascii_start();
    let (protocol, formats) = cut(after_port).unwrap_or((after_port, ""));
    let (port, count) = match port.split_once('/') {
        Some((port, count)) => (port, Some(count)),
        None => (port, None),
    };
    let number = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits).ok_or("bad port in m=")
    };
    let port = number(port)?;
    let port_count = count.map_or(Ok(1), number)?;
    // Some leave the formats out when they reject a stream.
    if formats.trim_ascii().is_empty() && port != 0 {
        return Err("m= without a format");
    }
    if kind.is_empty() || protocol.is_empty() {
        return Err("m= without media type or protocol");
    }
    Ok(Split { kind, port, port_count, after_port, protocol, formats })
}

/// What stands before the first blank, and behind it.
fn cut(text: &str) -> Option<(&str, &str)> {
    let at = text.bytes().position(|b| matches!(b, b' ' | b'\t'))?;
    Some((&text[..at], &text[at + 1..]))
}
