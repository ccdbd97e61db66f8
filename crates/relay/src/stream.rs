//! One stream: what one peer sends on one media line, and where our packets for it go. No sockets here.
//!
//! In: a datagram with its source and time, the exchange's outcome ([`Setup`]). Out: a [`Verdict`], the addresses to send
//! to, figures. Elsewhere: moving the bytes ([`crate::worker`]), making setups ([`crate::session`]).

use crate::figures::Figures;
use crate::own::Own;
use crate::quality::Quality;
use cluster::ids::CallId;
use cluster::media::MediaLeg;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Payload formats of a media line whose clock is known; more are measured without jitter.
pub(crate) const CLOCKS_MAX: usize = 16;

/// A source of RTP that was not heard for this time may be replaced by another port of its host: a NAT that has given the
/// peer another mapping looks like that (microseconds).
const RTP_LOST_US: u64 = 5_000_000;

/// The same for RTCP: five of its usual intervals (RFC 3550 section 6.3.5).
const RTCP_LOST_US: u64 = 25_000_000;

/// The window of the packet rate bound (microseconds).
const RATE_WINDOW_US: u64 = 1_000_000;

/// The second octet of RTCP, where it may be told from RTP by it (RFC 5761 section 4).
const RTCP: RangeInclusive<u8> = 192..=223;

/// The second octet of RTCP that comes to the RTP port without anybody having agreed to it. Every compound packet begins by a
/// sender or receiver report (RFC 3550 section 6.1), and payload types 72 to 76 are reserved so that these and the next
/// three cannot be taken for RTP (appendix A.1, RFC 3551 section 6); the other types are RTP with the marker bit here.
/// Read as RTP it would make loss and jitter nonsense; dropped, the peer would miss reports that are right. So it goes on to
/// the peer's RTCP port, where it would have gone had its sender known better.
const RTCP_ASTRAY: RangeInclusive<u8> = 200..=204;

/// What runs on a media line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// RTP and RTCP that we can read.
    Rtp,
    /// RTP under a key that we do not know (RFC 3711): headers are readable, RTCP is not.
    Secured,
    /// Datagrams that we know nothing about (T.38 over UDPTL).
    Opaque,
}

/// Which socket of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Rtp,
    Rtcp,
}

/// Who may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sources {
    /// The host of the session description alone.
    Host(IpAddr),
    /// The host of the session description, or the one that the peer's signalling comes from: the description was
    /// written behind a NAT, or the signalling takes another way.
    Either(IpAddr, IpAddr),
    /// Whoever is first: the session description names an address that means nothing here, and nothing else is known.
    First,
}

impl Sources {
    /// Whether this host is named: it needs no luck to be the first.
    fn names(self, host: IpAddr) -> bool {
        match self {
            Sources::Host(named) => host == named,
            Sources::Either(described, signalling) => host == described || host == signalling,
            Sources::First => false,
        }
    }
}

/// Clock rates by payload type; a format without a useful clock (telephone events) is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clocks {
    list: [(u8, u32); CLOCKS_MAX],
    len: usize,
}

impl Clocks {
    /// Remembers the clock rate of a payload type; the first word counts.
    pub(crate) fn add(&mut self, payload_type: u8, rate: u32) {
        if self.len < CLOCKS_MAX && self.rate(payload_type).is_none() {
            self.list[self.len] = (payload_type, rate);
            self.len += 1;
        }
    }

    /// The clock rate of a payload type.
    pub(crate) fn rate(&self, payload_type: u8) -> Option<u32> {
        self.list[..self.len].iter().find(|(known, _)| *known == payload_type).map(|(_, rate)| *rate)
    }

    /// Adds what another description says of types that this one does not name.
    pub(crate) fn merge(&mut self, other: &Clocks) {
        for &(payload_type, rate) in &other.list[..other.len] {
            self.add(payload_type, rate);
        }
    }
}

/// What an offer/answer exchange decided about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    /// The holder of the port pair.
    pub(crate) generation: u32,
    pub(crate) call: CallId,
    pub(crate) leg: MediaLeg,
    /// Goes up with every new offer that was answered, not with a repeated answer.
    pub(crate) exchange: u32,
    /// Slot that gets what comes in.
    pub(crate) peer: u32,
    /// Slot that stands for the leg when silence is judged.
    pub(crate) watch: u32,
    /// On the slot of `watch`: the leg should send.
    pub(crate) expects: bool,
    pub(crate) kind: Kind,
    /// RTP and RTCP of this peer share a port (RFC 5761).
    pub(crate) mux: bool,
    pub(crate) sources: Sources,
    /// The peer's RTP address by its session description; `None` when nothing can be sent to it.
    pub(crate) rtp: Option<SocketAddr>,
    /// The same for RTCP.
    pub(crate) rtcp: Option<SocketAddr>,
    pub(crate) clocks: Clocks,
}

/// What is to be done with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Forward it as RTP (or as what the line carries).
    Rtp,
    /// Forward it as RTCP.
    Rtcp,
    /// Not RTP, not from the peer, or too much.
    Drop,
}

/// The state of one stream, owned by one worker. What every packet touches stands together at the beginning: with a
/// thousand streams none of it is in the cache.
#[repr(C)]
pub(crate) struct Stream {
    /// The slot that packets go to; `None` when the other leg left.
    pub(crate) peer: Option<u32>,
    pub(crate) kind: Kind,
    mux: bool,
    pub(crate) call: CallId,
    rate_bound: u32,
    window_packets: u32,
    window_from_us: u64,
    /// Packets taken so far.
    taken: u64,
    rtp: Latch,
    pub(crate) quality: Quality,
    pub(crate) watch: Watch,
    rtcp: Latch,
    pub(crate) setup: Box<Setup>,
    own: Arc<Own>,
}

/// Silence of a leg, kept in one of its streams.
pub(crate) struct Watch {
    /// `taken` at the last look.
    pub(crate) looked: u64,
    /// Some stream of the leg was heard since the last look.
    pub(crate) heard: bool,
    pub(crate) quiet_since_us: u64,
    pub(crate) reported: bool,
}

/// The source that a socket is locked to, and the address that it sends to.
#[derive(Clone, Copy, Debug, Default)]
struct Latch {
    locked: Option<SocketAddr>,
    to: Option<SocketAddr>,
    heard_us: u64,
}

impl Stream {
    /// A stream at its first exchange. `rate_bound` is in packets per second, 0 for none.
    pub(crate) fn new(setup: Box<Setup>, rate_bound: u32, own: Arc<Own>, now_us: u64) -> Self {
        Self {
            peer: Some(setup.peer),
            kind: setup.kind,
            mux: setup.mux,
            call: setup.call,
            quality: Quality::default(),
            watch: Watch { looked: 0, heard: false, quiet_since_us: now_us, reported: false },
            rtp: Latch { to: setup.rtp, ..Latch::default() },
            rtcp: Latch { to: setup.rtcp, ..Latch::default() },
            rate_bound,
            window_from_us: now_us,
            window_packets: 0,
            taken: 0,
            setup,
            own,
        }
    }

    /// The outcome of a later exchange. A new offer opens the lock: the next packet that the rules admit decides anew. A
    /// repeated answer that changes nothing leaves it closed.
    pub(crate) fn renew(&mut self, setup: Box<Setup>, now_us: u64) {
        let moved = |old: Option<SocketAddr>, new: Option<SocketAddr>| old != new;
        if moved(self.setup.rtp, setup.rtp) || self.setup.mux != setup.mux {
            self.rtp = Latch { to: setup.rtp, ..Latch::default() };
            self.rtcp = Latch { to: setup.rtcp, ..Latch::default() };
        } else {
            if moved(self.setup.rtcp, setup.rtcp) {
                self.rtcp = Latch { to: setup.rtcp, ..Latch::default() };
            }
            if self.setup.exchange != setup.exchange || self.setup.sources != setup.sources {
                self.rtp.locked = None;
                self.rtcp.locked = None;
            }
        }
        self.peer = Some(setup.peer);
        self.kind = setup.kind;
        self.mux = setup.mux;
        self.quality.forget_types();
        self.watch.quiet_since_us = now_us;
        self.watch.reported = false;
        self.setup = setup;
    }

    /// Where a packet for this peer goes, and by which socket.
    pub(crate) fn destination(&self, channel: Channel) -> Option<(Channel, SocketAddr)> {
        match channel {
            Channel::Rtcp if !self.mux => Some((Channel::Rtcp, self.rtcp.to?)),
            Channel::Rtp | Channel::Rtcp => Some((Channel::Rtp, self.rtp.to?)),
        }
    }

    /// Judges a datagram, and learns from it if it is good.
    pub(crate) fn judge(&mut self, channel: Channel, bytes: &[u8], from: SocketAddr, now_us: u64) -> Verdict {
        let verdict = self.sort(channel, bytes);
        let from_peer = match (channel, verdict) {
            (_, Verdict::Drop) => false,
            (Channel::Rtp, Verdict::Rtp) => self.admit_rtp(from, now_us),
            (Channel::Rtp, Verdict::Rtcp) => self.admit_muxed(from),
            (Channel::Rtcp, _) => self.admit_rtcp(from, now_us),
        };
        if !from_peer || self.is_too_much(now_us) {
            return Verdict::Drop;
        }
        self.taken += 1;
        if verdict == Verdict::Rtp && self.kind != Kind::Opaque {
            self.quality.rtp(bytes, &self.setup.clocks, now_us);
        }
        verdict
    }

    /// Whether something came since the last time this was asked.
    pub(crate) fn was_heard(&mut self) -> bool {
        let heard = self.watch.looked != self.taken;
        self.watch.looked = self.taken;
        heard
    }

    /// Writes what was measured to where others read it.
    pub(crate) fn publish(&self, figures: &Figures) {
        figures.measured(self.quality.lost(), self.quality.jitter_us());
    }

    /// What a datagram is by its first bytes (RFC 3550 A.1 and A.2, RFC 5761 section 4, RFC 7983 section 7).
    fn sort(&self, channel: Channel, bytes: &[u8]) -> Verdict {
        if self.kind == Kind::Opaque {
            return match channel {
                Channel::Rtp if !bytes.is_empty() => Verdict::Rtp,
                Channel::Rtp | Channel::Rtcp => Verdict::Drop,
            };
        }
        let &[first, second, ..] = bytes else { return Verdict::Drop };
        if first >> 6 != 2 {
            return Verdict::Drop; // STUN, DTLS, noise
        }
        let is_rtcp = match channel {
            Channel::Rtp if !self.mux => RTCP_ASTRAY.contains(&second),
            Channel::Rtp | Channel::Rtcp => RTCP.contains(&second),
        };
        match channel {
            Channel::Rtp if !is_rtcp => {
                let header = 12 + 4 * usize::from(first & 15);
                if bytes.len() >= header { Verdict::Rtp } else { Verdict::Drop }
            }
            Channel::Rtp | Channel::Rtcp if is_rtcp && bytes.len() >= 8 => Verdict::Rtcp,
            Channel::Rtp | Channel::Rtcp => Verdict::Drop,
        }
    }

    fn admit_rtp(&mut self, from: SocketAddr, now_us: u64) -> bool {
        let is_negotiated = self.setup.rtp == Some(from);
        let is_named = self.setup.sources.names(from.ip());
        let admitted = match self.rtp.locked {
            Some(_) => self.rtp.admits(from, is_negotiated, is_named, RTP_LOST_US, now_us),
            None => is_named || self.setup.sources == Sources::First,
        } && !self.is_ours(from, self.rtp.locked);
        if admitted {
            if self.rtp.locked != Some(from) {
                self.rtcp.locked = self.rtcp.locked.filter(|locked| locked.ip() == from.ip());
            }
            self.rtp.hear(from, now_us);
        }
        admitted
    }

    /// RTCP on the RTP port follows the lock and never makes one.
    fn admit_muxed(&self, from: SocketAddr) -> bool {
        match self.rtp.locked {
            Some(locked) => locked == from,
            None => self.setup.sources.names(from.ip()) && !self.own.has(from),
        }
    }

    /// RTCP comes from the host that RTP is locked to, or from the negotiated one.
    fn admit_rtcp(&mut self, from: SocketAddr, now_us: u64) -> bool {
        let is_negotiated = self.setup.rtcp == Some(from);
        let is_named = self.setup.sources.names(from.ip());
        let admitted = match self.rtcp.locked {
            Some(_) => self.rtcp.admits(from, is_negotiated, is_named, RTCP_LOST_US, now_us),
            None => self.rtp.locked.is_some_and(|rtp| rtp.ip() == from.ip()) || is_named || is_negotiated,
        } && !self.is_ours(from, self.rtcp.locked);
        if admitted {
            self.rtcp.hear(from, now_us);
        }
        admitted
    }

    /// What comes out of a socket of ours is no peer's, whatever host the peer is on. The source of a lock was looked at
    /// when it was locked.
    fn is_ours(&self, from: SocketAddr, locked: Option<SocketAddr>) -> bool {
        locked != Some(from) && self.own.has(from)
    }

    fn is_too_much(&mut self, now_us: u64) -> bool {
        if now_us.saturating_sub(self.window_from_us) >= RATE_WINDOW_US {
            self.window_from_us = now_us;
            self.window_packets = 0;
        }
        self.window_packets = self.window_packets.saturating_add(1);
        self.rate_bound > 0 && self.window_packets > self.rate_bound
    }
}

impl Latch {
    /// Whether a closed lock lets this source in. The negotiated address of a named host needs no luck: whoever was faster
    /// gives way, be it a gateway's late packets of an earlier call or somebody behind the same NAT. Once it has spoken,
    /// and for every other lock, a change of port within the host takes silence (or a new exchange, which opens the lock).
    fn admits(
        &self,
        from: SocketAddr,
        is_negotiated: bool,
        is_named: bool,
        lost_us: u64,
        now_us: u64,
    ) -> bool {
        let Some(locked) = self.locked else { return false };
        if locked == from || is_negotiated && is_named {
            return true;
        }
        let is_lost = now_us.saturating_sub(self.heard_us) >= lost_us;
        is_lost && (is_negotiated || locked.ip() == from.ip())
    }

    fn hear(&mut self, from: SocketAddr, now_us: u64) {
        if self.locked != Some(from) {
            self.locked = Some(from);
            self.to = Some(from);
        }
        self.heard_us = now_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MediaAddress, RelayConfig};
    use cluster::ids::NodeId;

    const RTP: [u8; 14] = [0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7, 0xd5, 0xd5];
    const RTCP: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 7];

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn setup(sources: Sources) -> Setup {
        Setup {
            generation: 1,
            call: CallId::new(NodeId(1), 1),
            leg: MediaLeg(0),
            exchange: 1,
            peer: 1,
            watch: 0,
            expects: true,
            kind: Kind::Rtp,
            mux: false,
            sources,
            rtp: Some(at("192.0.2.1:4000")),
            rtcp: Some(at("192.0.2.1:4001")),
            clocks: Clocks::default(),
        }
    }

    fn host() -> Setup {
        setup(Sources::Host(at("192.0.2.1:0").ip()))
    }

    /// A relay on 203.0.113.1 with the usual ports.
    fn own() -> Arc<Own> {
        let addresses = vec![MediaAddress::plain(at("203.0.113.1:0").ip())];
        Arc::new(Own::new(&RelayConfig { addresses, ..RelayConfig::default() }).with_all_bound())
    }

    fn stream(setup: Setup) -> Stream {
        Stream::new(Box::new(setup), 2000, own(), 0)
    }

    #[test]
    fn packets_go_to_the_negotiated_address_until_the_peer_shows_another_port() {
        let mut stream = stream(host());
        assert_eq!(stream.destination(Channel::Rtp), Some((Channel::Rtp, at("192.0.2.1:4000"))));
        assert_eq!(stream.destination(Channel::Rtcp), Some((Channel::Rtcp, at("192.0.2.1:4001"))));
        assert_eq!(stream.judge(Channel::Rtp, &RTP, at("192.0.2.9:4000"), 0), Verdict::Drop);
        assert_eq!(stream.judge(Channel::Rtp, &RTP, at("192.0.2.1:6000"), 0), Verdict::Rtp);
        assert_eq!(stream.judge(Channel::Rtcp, &RTCP, at("192.0.2.1:6001"), 0), Verdict::Rtcp);
        assert_eq!(stream.destination(Channel::Rtp), Some((Channel::Rtp, at("192.0.2.1:6000"))));
        assert_eq!(stream.destination(Channel::Rtcp), Some((Channel::Rtcp, at("192.0.2.1:6001"))));
        assert_eq!(stream.judge(Channel::Rtp, &RTP, at("192.0.2.1:6002"), 0), Verdict::Drop, "locked");
        assert_eq!(stream.judge(Channel::Rtcp, &RTCP, at("192.0.2.1:6003"), 0), Verdict::Drop, "locked");
    }

    #[test]
    fn a_meaningless_address_lets_the_first_source_lock_rtp_and_then_rtcp_from_the_same_host() {
        let mut stream = stream(setup(Sources::First));
        assert_eq!(stream.judge(Channel::Rtcp, &RTCP, at("198.51.100.1:9001"), 0), Verdict::Drop);
        assert_eq!(stream.judge(Channel::Rtp, &RTP, at("198.51.100.1:9000"), 0), Verdict::Rtp);
        assert_eq!(stream.judge(Channel::Rtp, &RTP, at("203.0.113.1:9000"), 0), Verdict::Drop);
        assert_eq!(stream.judge(Channel::Rtcp, &RTCP, at("203.0.113.1:9001"), 0), Verdict::Drop);
        assert_eq!(stream.judge(Channel::Rtcp, &RTCP, at("198.51.100.1:9001"), 0), Verdict::Rtcp);
    }

    #[test]
    fn a_lost_source_is_replaced_by_the_negotiated_address_only() {
        let mut stream = stream(setup(Sources::First));
        let mut judge = |from: &str, now_us| stream.judge(Channel::Rtp, &RTP, at(from), now_us);
        assert_eq!(judge("198.51.100.1:6000", 0), Verdict::Rtp);
        assert_eq!(judge("192.0.2.1:4000", RTP_LOST_US - 1), Verdict::Drop);
        assert_eq!(judge("192.0.2.1:5000", RTP_LOST_US), Verdict::Drop);
        assert_eq!(judge("192.0.2.1:4000", RTP_LOST_US), Verdict::Rtp);
        assert_eq!(stream.destination(Channel::Rtp), Some((Channel::Rtp, at("192.0.2.1:4000"))));
    }

    #[test]
    fn another_port_of_the_host_gives_way_to_the_negotiated_one_for_good() {
        for (channel, bytes, verdict, port, lost_us) in [
            (Channel::Rtp, &RTP[..], Verdict::Rtp, 4000, RTP_LOST_US),
            (Channel::Rtcp, &RTCP[..], Verdict::Rtcp, 4001, RTCP_LOST_US),
        ] {
            let mut stream = stream(host());
            let mut judge = |port: u16, now_us| {
                stream.judge(channel, bytes, SocketAddr::new(at("192.0.2.1:0").ip(), port), now_us)
            };
            // Somebody else of that host is faster, and goes on.
            assert_eq!(judge(9000, 0), verdict);
            assert_eq!(judge(9000, 3 * lost_us), verdict);
            assert_eq!(judge(9002, 3 * lost_us), Verdict::Drop, "the first one has the lock");
            // The one that the description names needs no luck, and from then on nobody else is heard.
            assert_eq!(judge(port, 3 * lost_us), verdict);
            assert_eq!(judge(9000, 3 * lost_us), Verdict::Drop);
            assert_eq!(judge(9000, 4 * lost_us - 1), Verdict::Drop);
            assert_eq!(judge(port, 4 * lost_us - 1), verdict);
            assert_eq!(judge(9000, 4 * lost_us), Verdict::Drop);
            // It falls silent: its NAT may have given it another port. It may come back all the same.
            assert_eq!(judge(9004, 5 * lost_us), verdict);
            assert_eq!(judge(9000, 5 * lost_us), Verdict::Drop);
            assert_eq!(judge(port, 5 * lost_us), verdict);
        }
    }

    #[test]
    fn a_change_of_port_behind_a_nat_takes_silence_and_the_same_host() {
        let mut stream = stream(setup(Sources::First));
        let mut judge = |from: &str, now_us| stream.judge(Channel::Rtp, &RTP, at(from), now_us);
        assert_eq!(judge("198.51.100.1:6000", 0), Verdict::Rtp);
        assert_eq!(judge("198.51.100.1:6002", RTP_LOST_US - 1), Verdict::Drop);
        assert_eq!(judge("198.51.100.2:6002", RTP_LOST_US), Verdict::Drop, "another host");
        assert_eq!(judge("198.51.100.1:6002", RTP_LOST_US), Verdict::Rtp);
        assert_eq!(judge("198.51.100.1:6000", RTP_LOST_US), Verdict::Drop);
        assert_eq!(stream.destination(Channel::Rtp), Some((Channel::Rtp, at("198.51.100.1:6002"))));
    }

    #[test]
    fn a_new_exchange_opens_the_lock_and_a_repeated_answer_does_not() {
        let mut stream = stream(host());
        stream.judge(Channel::Rtp, &RTP, at("192.0.2.1:6000"), 0);
        stream.renew(Box::new(host()), 1);
        assert_eq!(stream.judge(Channel::Rtp, &RTP, at("192.0.2.1:6002"), 1), Verdict::Drop);
        stream.renew(Box::new(Setup { exchange: 2, ..host() }), 2);
        assert_eq!(
            stream.destination(Channel::Rtp),
            Some((Channel::Rtp, at("192.0.2.1:6000"))),
            "kept so long"
        );
        assert_eq!(stream.judge(Channel::Rtp, &RTP, at("192.0.2.1:6002"), 2), Verdict::Rtp);
        stream.renew(Box::new(Setup { exchange: 3, rtp: Some(at("192.0.2.1:7000")), ..host() }), 3);
        assert_eq!(
            stream.destination(Channel::Rtp),
            Some((Channel::Rtp, at("192.0.2.1:7000"))),
            "the peer moved"
        );
    }

    #[test]
    fn what_is_not_rtp_is_dropped() {
        let mut stream = stream(host());
        let peer = at("192.0.2.1:4000");
        let stun = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let dtls = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let short_csrc = [0x8f, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7];
        for bytes in [&[][..], &[0x80], &RTP[..11], &stun, &dtls, &short_csrc] {
            assert_eq!(stream.judge(Channel::Rtp, bytes, peer, 0), Verdict::Drop, "{bytes:?}");
        }
        assert_eq!(stream.judge(Channel::Rtcp, &RTP, peer, 0), Verdict::Drop);
        assert_eq!(stream.judge(Channel::Rtcp, &RTCP[..7], peer, 0), Verdict::Drop);
    }

    #[test]
    fn with_mux_rtcp_comes_and_goes_by_the_rtp_port() {
        let mut stream = stream(Setup { mux: true, ..host() });
        assert_eq!(stream.judge(Channel::Rtp, &RTCP, at("192.0.2.1:4000"), 0), Verdict::Rtcp);
        assert_eq!(stream.judge(Channel::Rtp, &RTP, at("192.0.2.1:4000"), 0), Verdict::Rtp);
        assert_eq!(stream.judge(Channel::Rtp, &RTCP, at("192.0.2.1:4002"), 0), Verdict::Drop);
        assert_eq!(stream.destination(Channel::Rtcp), Some((Channel::Rtp, at("192.0.2.1:4000"))));
    }

    #[test]
    fn without_mux_rtcp_on_the_rtp_port_is_rtcp_and_a_marked_packet_is_rtp() {
        let mut plain = Stream::new(Box::new(host()), 0, own(), 0);
        for kind in 200..=204 {
            let astray = [0x80, kind, 0, 1, 0, 0, 0, 7];
            assert_eq!(plain.judge(Channel::Rtp, &astray, at("192.0.2.1:4000"), 0), Verdict::Rtcp);
            assert_eq!(plain.judge(Channel::Rtp, &astray, at("192.0.2.9:4000"), 0), Verdict::Drop);
        }
        assert_eq!(plain.destination(Channel::Rtcp), Some((Channel::Rtcp, at("192.0.2.1:4001"))));
        let marked = [0x80, 208, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7];
        assert_eq!(
            plain.judge(Channel::Rtp, &marked, at("192.0.2.1:4000"), 0),
            Verdict::Rtp,
            "payload type 80"
        );
    }

    #[test]
    fn an_opaque_line_takes_any_datagram_of_the_peer() {
        let mut stream = stream(Setup { kind: Kind::Opaque, ..host() });
        assert_eq!(stream.judge(Channel::Rtp, &[0, 0, 1], at("192.0.2.1:4000"), 0), Verdict::Rtp);
        assert_eq!(stream.judge(Channel::Rtp, &[0, 0, 1], at("192.0.2.2:4000"), 0), Verdict::Drop);
        assert_eq!(stream.judge(Channel::Rtp, &[], at("192.0.2.1:4000"), 0), Verdict::Drop);
    }

    #[test]
    fn more_than_the_bound_in_a_second_is_dropped_and_strangers_do_not_use_it_up() {
        let mut stream = Stream::new(Box::new(host()), 3, own(), 0);
        let (peer, stranger) = (at("192.0.2.1:4000"), at("192.0.2.2:4000"));
        let verdicts: Vec<_> = (0..6)
            .map(|n| {
                stream.judge(Channel::Rtp, &RTP, stranger, n);
                stream.judge(Channel::Rtp, &RTP, peer, n)
            })
            .collect();
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Rtp).count(), 3);
        assert_eq!(stream.judge(Channel::Rtp, &RTP, peer, RATE_WINDOW_US), Verdict::Rtp);
    }

    #[test]
    fn what_comes_out_of_our_own_sockets_is_nobodys() {
        let near = at("203.0.113.1:0").ip();
        let own = ["203.0.113.1:13000", "203.0.113.1:13001", "[::ffff:203.0.113.1]:19000"];
        for sources in [Sources::First, Sources::Host(near), Sources::Either(at("192.0.2.1:0").ip(), near)] {
            for mux in [false, true] {
                let mut stream = stream(Setup { mux, ..setup(sources) });
                let of_rtcp = if mux { Channel::Rtp } else { Channel::Rtcp };
                let mut judge = |from: &str, now_us| {
                    [(Channel::Rtp, &RTP[..]), (of_rtcp, &RTCP)]
                        .map(|(channel, bytes)| stream.judge(channel, bytes, at(from), now_us))
                };
                for from in own {
                    assert_eq!(judge(from, 0), [Verdict::Drop; 2], "{sources:?} {from}");
                }
                // A telephone on our host has other ports. Its lock is not for us either, however long it is silent.
                assert!(!judge("203.0.113.1:20000", 0).contains(&Verdict::Drop));
                for from in own {
                    assert_eq!(judge(from, 2 * RTCP_LOST_US), [Verdict::Drop; 2], "{sources:?} {from}");
                }
                assert!(!judge("203.0.113.1:20000", 2 * RTCP_LOST_US).contains(&Verdict::Drop));
            }
        }
    }

    #[test]
    fn being_heard_is_asked_once() {
        let mut stream = stream(host());
        assert!(!stream.was_heard());
        stream.judge(Channel::Rtp, &RTP, at("192.0.2.1:4000"), 0);
        assert!(stream.was_heard());
        assert!(!stream.was_heard());
    }
}
