//! Session descriptions: what a relay reads in them, and how it makes them its own.
//!
//! In: a description of one peer. Out: [`MediaLine`]s for the session; the same text with our addresses and ports for
//! the other peer. Every line that does not depend on an address stays byte for byte. Elsewhere: ports, exchanges
//! ([`crate::session`]).

use crate::own::Own;
use crate::ports::Family;
use crate::stream::{Clocks, Kind, Sources};
use sip::sdp::{Address, Direction, Media, Part, Sdp};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Media lines of one description that get ports (audio, video, a second picture and text): each takes a pair for every
/// device that rings, and no description may empty the port range.
const USABLE_MAX: usize = 4;

/// What one peer says in an `m=` section.
#[derive(Clone, Debug)]
pub(crate) struct MediaLine {
    /// Neither rejected (port 0) nor of a transport that a datagram relay cannot carry.
    pub(crate) usable: bool,
    pub(crate) kind: Kind,
    /// Where it wants RTP; `None` when that is nowhere (hold by an unspecified address, one of our own ports) or unknown (a
    /// host name).
    pub(crate) rtp: Option<SocketAddr>,
    /// It wants nothing sent: an unspecified address.
    pub(crate) nowhere: bool,
    /// It names one of our own sockets, where nothing is sent.
    pub(crate) ours: bool,
    /// Where it wants RTCP (RFC 3550 section 11, RFC 3605).
    pub(crate) rtcp: Option<SocketAddr>,
    /// It can do with one port for both (RFC 5761).
    pub(crate) mux: bool,
    pub(crate) direction: Direction,
    pub(crate) sources: Sources,
    pub(crate) clocks: Clocks,
}

/// How we appear to one peer.
pub(crate) struct Face<'a> {
    pub(crate) address: IpAddr,
    /// RTP port by media line; `None` rejects the line.
    pub(crate) ports: &'a [Option<u16>],
    pub(crate) session_id: u64,
    pub(crate) version: u64,
    /// The text is an answer, so that `a=rtcp-mux` in it is the last word.
    pub(crate) is_answer: bool,
}

/// The IP version that a peer wants media by; `None` when it names no literal address.
pub(crate) fn family(sdp: &Sdp) -> Option<Family> {
    sdp.all_media()
        .filter(|media| media.port() != 0)
        .find_map(|media| Some(Family::of(media.connection()?.address.ip()?)))
}

/// Where we are ourselves.
#[derive(Clone, Copy)]
pub(crate) struct Here<'a> {
    /// Our address on this side.
    pub(crate) address: IpAddr,
    /// All our sockets.
    pub(crate) own: &'a Own,
}

/// Reads the media lines. `signalling` is where the peer's SIP messages come from, if known. Lines beyond the bound are
/// as good as rejected.
pub(crate) fn read(sdp: &Sdp, signalling: Option<IpAddr>, here: Here<'_>) -> Vec<MediaLine> {
    let mut used = 0;
    sdp.all_media()
        .map(|media| {
            let mut line = read_line(&media, signalling, here);
            line.usable &= used < USABLE_MAX;
            used += usize::from(line.usable);
            line
        })
        .collect()
}

/// Makes a description ours: `o=`, `c=`, ports and `a=rtcp`. ICE and bundling, which we do not take part in, go out.
pub(crate) fn rewrite(sdp: &mut Sdp, face: &Face<'_>) {
    let parts = (0..sdp.media_count()).map(Part::Media);
    for part in std::iter::once(Part::Session).chain(parts) {
        redirect(sdp, part, face.address);
        sdp.remove_attributes(part, is_unwanted);
    }
    for (index, port) in face.ports.iter().enumerate() {
        sdp.set_port(index, port.unwrap_or(0));
        let Some((port, media)) = port.zip(sdp.media(index)) else { continue };
        let muxed = face.is_answer && media.rtcp_mux();
        if media.attribute("rtcp").is_some() {
            let rtcp = if muxed { port } else { port + 1 };
            sdp.set_attribute(Part::Media(index), "rtcp", Some(&rtcp.to_string()));
        }
    }
    sdp.set_origin("-", &face.session_id.to_string(), face.version, face.address);
}

/// The `c=` line of one part, if it has one. "Unspecified" is hold in the manner of RFC 2543 and stays (RFC 3264 section
/// 8.4), in the peer's IP version.
fn redirect(sdp: &mut Sdp, part: Part, address: IpAddr) {
    let connection = match part {
        Part::Session => sdp.session().connection(),
        Part::Media(index) => sdp.media(index).and_then(|media| media.section().connection()),
    };
    let Some(connection) = connection else { return };
    if !connection.is_unspecified() {
        sdp.set_connection(part, address);
    } else if connection.address.ip().map(Family::of) != Some(Family::of(address)) {
        let nowhere = if address.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        sdp.set_connection(part, nowhere);
    }
}

/// RFC 8839 (ICE) and RFC 8843 section 7 (bundling, which joins lines that have ports of their own here).
fn is_unwanted(name: &str, value: Option<&str>) -> bool {
    match name {
        "candidate" | "remote-candidates" | "end-of-candidates" => true,
        "group" => value.is_some_and(|value| value.split_ascii_whitespace().next() == Some("BUNDLE")),
        _ => name.starts_with("ice-"),
    }
}

fn read_line(media: &Media<'_>, signalling: Option<IpAddr>, here: Here<'_>) -> MediaLine {
    let kind = kind_of(media);
    let host = media.connection().and_then(|connection| match connection.address {
        Address::Ip(ip) => Some(ip.to_canonical()),
        Address::Name(_) => None,
    });
    let rtp = host.and_then(|host| target(host, media.port(), here));
    let (rtcp_port, rtcp_host) = match media.rtcp() {
        Some((port, address)) => (port, address.map_or(host, |address| address.ip())),
        None => (media.port().checked_add(1).unwrap_or(0), host),
    };
    MediaLine {
        usable: media.port() != 0 && kind.is_some(),
        kind: kind.unwrap_or(Kind::Opaque),
        rtp,
        nowhere: host.is_some_and(|host| host.is_unspecified()),
        ours: host.is_some_and(|host| here.own.has(SocketAddr::new(host, media.port()))),
        rtcp: rtcp_host.and_then(|host| target(host.to_canonical(), rtcp_port, here)),
        mux: media.rtcp_mux(),
        direction: media.direction(),
        sources: match (rtp.map(|to| to.ip()), signalling.map(|from| from.to_canonical())) {
            (Some(host), Some(from)) if host != from => Sources::Either(host, from),
            (Some(host), Some(_)) => Sources::Host(host),
            (Some(host), None) if !is_private(host) => Sources::Host(host),
            (None, Some(from)) => Sources::Host(from),
            (Some(_) | None, None) => Sources::First,
        },
        clocks: if kind == Some(Kind::Opaque) { Clocks::default() } else { clocks(media) },
    }
}

/// `None` for a transport that is no datagram (RFC 4145, RFC 4975, RFC 4571).
fn kind_of(media: &Media<'_>) -> Option<Kind> {
    let protocol = media.protocol();
    let mut tokens = protocol.split('/').map(str::to_ascii_uppercase);
    let first = tokens.next()?;
    if first == "TCP" {
        None
    } else if media.is_rtp() {
        let secured = std::iter::once(first).chain(tokens).any(|token| token.starts_with("SAVP"));
        Some(if secured { Kind::Secured } else { Kind::Rtp })
    } else {
        (first == "UDP" || first == "UDPTL").then_some(Kind::Opaque)
    }
}

/// An address that media may be sent to: one host, no loopback unless we live there ourselves, and never a socket of ours.
fn target(host: IpAddr, port: u16, here: Here<'_>) -> Option<SocketAddr> {
    let address = SocketAddr::new(host, port);
    let elsewhere = host.is_unspecified()
        || host.is_multicast()
        || host == IpAddr::V4(Ipv4Addr::BROADCAST)
        || (host.is_loopback() && !here.address.is_loopback());
    (!elsewhere && port != 0 && !here.own.has(address)).then_some(address)
}

/// An address that means nothing beyond its own network (RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291 section 2.5.6).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_link_local() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Clock rates by payload type; events and comfort noise, whose timestamps do not follow the packets, are left out.
fn clocks(media: &Media<'_>) -> Clocks {
    let mut clocks = Clocks::default();
    for format in media.formats().take(crate::stream::CLOCKS_MAX) {
        let (Ok(payload_type @ 0..=127), Some(map)) = (format.parse::<u8>(), media.rtpmap(format)) else {
            continue;
        };
        let irregular =
            ["telephone-event", "tone", "CN"].iter().any(|name| map.encoding.eq_ignore_ascii_case(name));
        if !irregular && map.clock_rate > 0 {
            clocks.add(payload_type, map.clock_rate);
        }
    }
    clocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MediaAddress, RelayConfig};

    fn parse(text: &str) -> Sdp {
        Sdp::parse(text.as_bytes().to_vec()).unwrap()
    }

    /// What a relay on 203.0.113.1 with the usual ports reads.
    fn read_here(sdp: &Sdp, signalling: Option<IpAddr>) -> Vec<MediaLine> {
        let address = "203.0.113.1".parse().unwrap();
        let addresses =
            vec![MediaAddress::plain(address), MediaAddress::plain("2001:db8::1".parse().unwrap())];
        let own = Own::new(&RelayConfig { addresses, ..RelayConfig::default() }).with_all_bound();
        read(sdp, signalling, Here { address, own: &own })
    }

    fn line_from(body: &str, signalling: Option<&str>) -> MediaLine {
        let sdp = parse(&format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n{body}"));
        read_here(&sdp, signalling.map(|ip| ip.parse().unwrap())).remove(0)
    }

    fn line(body: &str) -> MediaLine {
        line_from(body, None)
    }

    fn at(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_plain_line_tells_its_addresses_and_clocks() {
        let line = line(
            "m=audio 4000 RTP/AVP 0 96 101\r\nc=IN IP4 198.51.100.7\r\na=rtpmap:96 opus/48000/2\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n",
        );
        assert!(line.usable && !line.mux && line.kind == Kind::Rtp);
        assert_eq!((line.rtp, line.rtcp), (at("198.51.100.7:4000"), at("198.51.100.7:4001")));
        assert_eq!(line.sources, Sources::Host("198.51.100.7".parse().unwrap()));
        assert_eq!(line.direction, Direction::SendOnly);
        assert_eq!([0, 96, 101].map(|pt| line.clocks.rate(pt)), [Some(8000), Some(48_000), None]);
    }

    #[test]
    fn rtcp_may_live_elsewhere() {
        let other =
            line("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 198.51.100.7\r\na=rtcp:5000 IN IP4 198.51.100.8\r\n");
        assert_eq!(other.rtcp, at("198.51.100.8:5000"));
        let port = line("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 198.51.100.7\r\na=rtcp:5000\r\na=rtcp-mux\r\n");
        assert_eq!((port.rtcp, port.mux), (at("198.51.100.7:5000"), true));
        let top = line("m=audio 65535 RTP/AVP 0\r\nc=IN IP4 198.51.100.7\r\n");
        assert_eq!(top.rtcp, None);
    }

    #[test]
    fn nothing_is_sent_to_addresses_that_are_no_peer() {
        for address in ["0.0.0.0", "224.2.1.1/127", "255.255.255.255", "127.0.0.1", "media.example.com"] {
            let line = line(&format!("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 {address}\r\n"));
            assert_eq!(
                (line.usable, line.rtp, line.rtcp, line.sources),
                (true, None, None, Sources::First),
                "{address}"
            );
        }
    }

    #[test]
    fn nothing_is_sent_to_our_own_media_ports_and_nothing_comes_from_them() {
        let peer: IpAddr = "198.51.100.7".parse().unwrap();
        for host in ["IP4 203.0.113.1", "IP6 2001:db8::1", "IP6 ::ffff:203.0.113.1"] {
            for port in [13_000, 15_001, 19_000] {
                let line =
                    line_from(&format!("m=audio {port} RTP/AVP 0\r\nc=IN {host}\r\n"), Some("198.51.100.7"));
                assert_eq!(
                    (line.usable, line.ours, line.rtp, line.sources),
                    (true, true, None, Sources::Host(peer)),
                    "{host} {port}"
                );
                let rtcp =
                    format!("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 {peer}\r\na=rtcp:{port} IN {host}\r\n");
                assert_eq!((self::line(&rtcp).rtp, self::line(&rtcp).rtcp), (at("198.51.100.7:4000"), None));
            }
        }
        let edge = line("m=audio 12999 RTP/AVP 0\r\nc=IN IP4 203.0.113.1\r\n");
        assert_eq!((edge.rtp, edge.rtcp), (at("203.0.113.1:12999"), None), "RTCP would be in the range");
        let inner = line("m=audio 20000 RTP/AVP 0\r\nc=IN IP4 203.0.113.1\r\na=rtcp:13001\r\n");
        assert_eq!((inner.rtp, inner.rtcp), (at("203.0.113.1:20000"), None), "the host of the c= line");
        let neighbour = line("m=audio 20000 RTP/AVP 0\r\nc=IN IP4 203.0.113.1\r\n");
        assert!(!neighbour.ours);
        assert_eq!((neighbour.rtp, neighbour.rtcp), (at("203.0.113.1:20000"), at("203.0.113.1:20001")));
        assert_eq!(
            neighbour.sources,
            Sources::Host("203.0.113.1".parse().unwrap()),
            "a telephone on our host"
        );
    }

    #[test]
    fn who_may_send_follows_from_description_and_signalling() {
        let sources = |address: &str, signalling: Option<&str>| {
            let sdp = parse(&format!(
                "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 {address}\r\nm=audio 4 RTP/AVP 0\r\n"
            ));
            read_here(&sdp, signalling.map(|ip| ip.parse().unwrap())).remove(0).sources
        };
        for private in ["10.1.2.3", "192.168.0.4", "172.16.0.1", "100.64.0.1", "169.254.0.9"] {
            assert_eq!(sources(private, None), Sources::First);
            assert_eq!(sources(private, Some(private)), Sources::Host(private.parse().unwrap()));
            let (described, signalling) = (private.parse().unwrap(), "198.51.100.1".parse().unwrap());
            assert_eq!(sources(private, Some("198.51.100.1")), Sources::Either(described, signalling));
        }
        assert_eq!(sources("198.51.100.1", None), Sources::Host("198.51.100.1".parse().unwrap()));
        let either = Sources::Either("198.51.100.1".parse().unwrap(), "198.51.100.2".parse().unwrap());
        assert_eq!(sources("198.51.100.1", Some("198.51.100.2")), either);
        assert_eq!(
            sources("media.example.com", Some("198.51.100.2")),
            Sources::Host("198.51.100.2".parse().unwrap())
        );
    }

    #[test]
    fn a_description_cannot_take_all_ports() {
        let lines = "m=audio 4000 RTP/AVP 0\r\nm=audio 0 RTP/AVP 0\r\n".repeat(20);
        let sdp = parse(&format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{lines}"
        ));
        let lines = read_here(&sdp, None);
        assert_eq!((lines.len(), lines.iter().filter(|line| line.usable).count()), (40, 4));
    }

    #[test]
    fn transports_are_told_apart() {
        let kind = |protocol: &str| {
            let line = line(&format!("m=audio 4000 {protocol} 0\r\nc=IN IP4 198.51.100.7\r\n"));
            (line.usable, line.kind)
        };
        for rtp in ["RTP/AVP", "RTP/AVPF", "rtp/avp"] {
            assert_eq!(kind(rtp), (true, Kind::Rtp));
        }
        for secured in ["RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVPF"] {
            assert_eq!(kind(secured), (true, Kind::Secured));
        }
        for opaque in ["udptl", "UDPTL", "UDP/BFCP", "udp"] {
            assert_eq!(kind(opaque), (true, Kind::Opaque));
        }
        for stream in ["TCP/MSRP", "TCP/RTP/AVP", "TCP/TLS/BFCP", "SIP"] {
            assert!(!kind(stream).0, "{stream}");
        }
    }

    fn rewritten(text: &str, address: &str, ports: &[Option<u16>], is_answer: bool) -> String {
        let mut sdp = parse(text);
        let address = address.parse().unwrap();
        rewrite(&mut sdp, &Face { address, ports, session_id: 42, version: 3, is_answer });
        String::from_utf8(sdp.to_bytes().to_vec()).unwrap()
    }

    #[test]
    fn only_what_depends_on_addresses_changes() {
        let offer = "v=0\r\no=alice 2890844526 2890844526 IN IP4 10.0.0.5\r\ns= a session \r\nc=IN IP4 10.0.0.5\r\nb=AS:64\r\n\
            t=0 0\r\na=group:BUNDLE 0 1\r\na=group:LS 0 1\r\na=ice-lite\r\na=x-unknown: Kept  As Is\r\n\
            m=audio 49170/2 RTP/AVP 96 0 8\r\na=rtpmap:96 strange-codec/12345/3\r\na=fmtp:96 a=b; c\r\na=rtcp:49999 IN IP4 10.0.0.6\r\n\
            a=candidate:1 1 UDP 2130706431 10.0.0.5 49170 typ host\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
            a=end-of-candidates\r\na=rtcp-mux\r\na=sendrecv\r\n\
            m=video 0 RTP/AVP 99\r\na=mid:1\r\n\
            m=image 50000 udptl t38\r\nc=IN IP4 10.0.0.7\r\na=T38FaxVersion:0\r\n";
        let expected = "v=0\r\no=- 42 3 IN IP4 203.0.113.1\r\ns= a session \r\nc=IN IP4 203.0.113.1\r\nb=AS:64\r\n\
            t=0 0\r\na=group:LS 0 1\r\na=x-unknown: Kept  As Is\r\n\
            m=audio 13000 RTP/AVP 96 0 8\r\na=rtpmap:96 strange-codec/12345/3\r\na=fmtp:96 a=b; c\r\na=rtcp:13001\r\n\
            a=rtcp-mux\r\na=sendrecv\r\n\
            m=video 0 RTP/AVP 99\r\na=mid:1\r\n\
            m=image 13004 udptl t38\r\nc=IN IP4 203.0.113.1\r\na=T38FaxVersion:0\r\n";
        let ports = [Some(13_000), None, Some(13_004)];
        assert_eq!(rewritten(offer, "203.0.113.1", &ports, false), expected);
        assert!(rewritten(offer, "203.0.113.1", &ports, true).contains("a=rtcp:13000\r\n"), "muxed for good");
        let refused = rewritten(offer, "203.0.113.1", &[None, None, Some(13_004)], false);
        assert!(refused.contains("m=audio 0 RTP/AVP 96 0 8\r\n"));
    }

    #[test]
    fn the_ip_version_may_change_and_hold_stays_hold() {
        let v4 = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n";
        let v6 = rewritten(v4, "2001:db8::1", &[Some(13_000)], false);
        assert!(v6.contains("o=- 42 3 IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\n"));
        assert!(v6.contains("m=audio 13000 RTP/AVP 0\r\nc=IN IP6 ::\r\n"));
        assert!(rewritten(v4, "203.0.113.1", &[Some(13_000)], false).contains("\r\nc=IN IP4 0.0.0.0\r\n"));
    }
}
