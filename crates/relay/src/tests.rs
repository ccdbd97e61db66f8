//! The relay between real sockets on loopback: phones that offer, answer and talk.
//!
//! Nothing here waits for time to pass: a packet that must not arrive is followed by one that must.

use crate::{MediaAddress, Relay, RelayConfig};
use bytes::Bytes;
use cluster::ids::{CallId, NodeId};
use cluster::media::{
    Media, MediaCommand, MediaError, MediaEvent, MediaLeg, MediaReply, MediaSink, Signalling,
};
use model::MediaReport;
use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rtp::packet::Header;
use rtp::rtcp::{ReportBlock, SenderInfo, Writer};
use sip::sdp::Sdp;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const A: MediaLeg = MediaLeg(0);
const B: MediaLeg = MediaLeg(1);
const C: MediaLeg = MediaLeg(2);

/// Ends a test that hangs; no test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A range of ports that no other test uses. A socket on an address that nobody else needs says so to other processes, as
/// long as this one lives.
pub(crate) fn quiet_range(ports: u16) -> RangeInclusive<u16> {
    static KEPT: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    assert!(ports <= 40);
    // Outside the range of ports that the system gives away by itself.
    for first in (61_000..65_480).chain(9_000..32_000).step_by(40) {
        let Ok(mark) = UdpSocket::bind(("127.77.77.77", first)) else { continue };
        let range = first..=first + ports - 1;
        if range.clone().all(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok()) {
            KEPT.lock().push(mark);
            return range;
        }
    }
    panic!("no quiet range of ports on this machine");
}

struct Sink(Mutex<Sender<(CallId, MediaEvent)>>);

impl MediaSink for Sink {
    fn reply(&self, _: CallId, _: u32, _: MediaReply) {
        panic!("a relay in this process answers at once");
    }

    fn event(&self, call: CallId, event: MediaEvent) {
        self.0.lock().send((call, event)).ok();
    }
}

struct World {
    relay: Arc<Relay>,
    events: Receiver<(CallId, MediaEvent)>,
    call: Cell<CallId>,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn call(number: u64) -> CallId {
    CallId::new(NodeId(1), number)
}

fn world() -> World {
    world_with(RelayConfig { ports: quiet_range(40), workers: 2, ..RelayConfig::default() })
}

fn world_with(config: RelayConfig) -> World {
    let (sender, events) = channel();
    let relay = Relay::start(config, Arc::new(Sink(Mutex::new(sender)))).unwrap();
    World { relay, events, call: Cell::new(call(1)) }
}

impl World {
    /// Commands are about this call from now on.
    fn of_call(&self, number: u64) {
        self.call.set(call(number));
    }

    fn submit(&self, command: MediaCommand) -> MediaReply {
        let reply = self.relay.submit(NodeId(1), self.call.get(), 7, command, Signalling::default()).unwrap();
        self.relay.settle();
        reply
    }

    fn offer(&self, from: MediaLeg, to: MediaLeg, sdp: &str) -> Result<String, MediaError> {
        text(self.submit(MediaCommand::Offer { from, to, sdp: Bytes::copy_from_slice(sdp.as_bytes()) }))
    }

    fn answer(&self, from: MediaLeg, to: MediaLeg, sdp: &str) -> Result<String, MediaError> {
        text(self.submit(MediaCommand::Answer { from, to, sdp: Bytes::copy_from_slice(sdp.as_bytes()) }))
    }

    fn withdraw(&self, from: MediaLeg, to: MediaLeg) {
        assert!(matches!(self.submit(MediaCommand::Withdraw { from, to }), MediaReply::Done));
    }

    fn close(&self) -> HashMap<MediaLeg, MediaReport> {
        report(self.submit(MediaCommand::Close))
    }

    /// Two phones that talk.
    fn talking(&self) -> (Phone, Phone) {
        self.talking_at("127.0.0.1")
    }

    fn talking_at(&self, host: &str) -> (Phone, Phone) {
        let (mut a, mut b) = (Phone::new(host), Phone::new(host));
        b.learn(&self.offer(A, B, &a.sdp("")).unwrap());
        a.learn(&self.answer(B, A, &b.sdp("")).unwrap());
        (a, b)
    }

    /// Waits until so many datagrams were counted as sent on.
    fn forwarded(&self, packets: u64) {
        let begun = Instant::now();
        while self.relay.stats().packets_forwarded < packets {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.relay.stats());
            std::thread::yield_now();
        }
    }
}

fn text(reply: MediaReply) -> Result<String, MediaError> {
    match reply {
        MediaReply::Sdp(sdp) => Ok(String::from_utf8(sdp.to_vec()).unwrap()),
        MediaReply::Refused(error) => Err(error),
        MediaReply::Done | MediaReply::Report(_) => panic!("{reply:?}"),
    }
}

fn report(reply: MediaReply) -> HashMap<MediaLeg, MediaReport> {
    match reply {
        MediaReply::Report(legs) => legs.into_iter().collect(),
        MediaReply::Done | MediaReply::Refused(_) | MediaReply::Sdp(_) => panic!("{reply:?}"),
    }
}

/// A pair of sockets, and where the relay wants its media.
struct Phone {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    to_rtp: Option<SocketAddr>,
    to_rtcp: Option<SocketAddr>,
    sequence: u16,
}

impl Phone {
    fn new(host: &str) -> Self {
        let bind = || {
            let socket = UdpSocket::bind((host, 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        Self { rtp: bind(), rtcp: bind(), to_rtp: None, to_rtcp: None, sequence: 0 }
    }

    fn address(&self) -> SocketAddr {
        self.rtp.local_addr().unwrap()
    }

    /// A description of this phone with one audio line, and `more` attributes.
    fn sdp(&self, more: &str) -> String {
        self.sdp_as(self.address().ip(), more)
    }

    fn sdp_as(&self, host: IpAddr, more: &str) -> String {
        let family = if host.is_ipv4() { "IP4" } else { "IP6" };
        let (rtp, rtcp) = (self.address().port(), self.rtcp.local_addr().unwrap().port());
        format!(
            "v=0\r\no=phone 1 1 IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\n\
             m=audio {rtp} RTP/AVP 0\r\na=rtcp:{rtcp}\r\n{more}"
        )
    }

    /// Takes the relay's description of the other side.
    fn learn(&mut self, sdp: &str) {
        let sdp = Sdp::parse(sdp.as_bytes().to_vec()).unwrap();
        let media = sdp.media(0).unwrap();
        let host = media.connection().unwrap().address.ip().unwrap();
        self.to_rtp = Some(SocketAddr::new(host, media.port()));
        self.to_rtcp = Some(SocketAddr::new(host, media.port() + 1));
    }

    fn packet(&mut self, payload: &[u8]) -> Vec<u8> {
        self.sequence += 1;
        let timestamp = u32::from(self.sequence) * 160;
        let header = Header {
            sequence: self.sequence,
            timestamp,
            ssrc: self.address().port().into(),
            ..Header::default()
        };
        let mut bytes = Vec::new();
        header.write(payload, &mut bytes);
        bytes
    }

    fn say(&mut self, word: &str) {
        let packet = self.packet(word.as_bytes());
        self.rtp.send_to(&packet, self.to_rtp.unwrap()).unwrap();
    }

    /// The next RTP payload, and its source.
    fn hear_from(&self) -> (String, SocketAddr) {
        let mut bytes = [0; 2000];
        let (length, from) = self.rtp.recv_from(&mut bytes).unwrap();
        (String::from_utf8(bytes[12..length].to_vec()).unwrap(), from)
    }

    fn hear(&self) -> String {
        self.hear_from().0
    }

    fn report(&self, bytes: &[u8]) {
        self.rtcp.send_to(bytes, self.to_rtcp.unwrap()).unwrap();
    }

    fn hear_report(&self) -> (Vec<u8>, SocketAddr) {
        let mut bytes = [0; 2000];
        let (length, from) = self.rtcp.recv_from(&mut bytes).unwrap();
        (bytes[..length].to_vec(), from)
    }
}

#[test]
fn rtp_and_rtcp_go_both_ways_unchanged_and_are_counted() {
    let world = world();
    let (mut a, mut b) = world.talking();
    for n in 0..10 {
        a.say(&format!("a{n}"));
        assert_eq!(b.hear_from(), (format!("a{n}"), b.to_rtp.unwrap()));
        b.say(&format!("b{n}"));
        assert_eq!(a.hear_from(), (format!("b{n}"), a.to_rtp.unwrap()));
    }
    let ssrc = u32::from(a.address().port());
    let info = SenderInfo { ssrc, ntp: 0x1234_5678_9abc_def0, ..SenderInfo::default() };
    let sender_report = Writer::new().sender_report(&info, &[]).cname(ssrc, "a").finish();
    a.report(&sender_report);
    assert_eq!(b.hear_report(), (sender_report, b.to_rtcp.unwrap()));
    let block = ReportBlock { ssrc, lost: 3, jitter: 16, last_sr: 0x5678_9abc, ..ReportBlock::default() };
    let receiver_report = Writer::new().receiver_report(9, &[block]).finish();
    b.report(&receiver_report);
    assert_eq!(a.hear_report(), (receiver_report, a.to_rtcp.unwrap()));
    world.forwarded(22);
    let report = world.close();
    let (of_a, of_b) = (&report[&A], &report[&B]);
    assert_eq!((of_a.packets_received, of_a.packets_sent, of_a.dropped, of_a.lost), (10, 10, 0, 0));
    assert_eq!((of_b.packets_received, of_b.packets_sent, of_b.dropped, of_b.lost), (10, 10, 0, 0));
    assert!(of_a.bytes_received == of_b.bytes_sent && of_b.bytes_received == of_a.bytes_sent);
    assert_eq!((of_b.reported_lost, of_b.reported_jitter_us), (Some(3), Some(2000)));
    assert!(of_b.round_trip_us.is_some() && of_a.round_trip_us.is_none());
    assert!(of_a.mos_hundredths.is_some_and(|mos| (300..=450).contains(&mos)));
    assert!(world.close().is_empty(), "a session that is gone is reported empty");
}

#[test]
fn what_a_phone_has_heard_when_it_hangs_up_is_in_the_report() {
    let world = world();
    for number in 1..=400 {
        world.of_call(number);
        let (mut a, b) = world.talking();
        a.say("last word");
        b.hear();
        let report = report(
            world
                .relay
                .submit(NodeId(1), call(number), 7, MediaCommand::Close, Signalling::default())
                .unwrap(),
        );
        assert_eq!((report[&A].packets_received, report[&B].packets_sent), (1, 1), "call {number}");
    }
}

#[test]
fn a_stopped_session_relays_nothing_and_keeps_its_ports_until_it_is_closed() {
    let world = world();
    let (mut a, b) = world.talking();
    a.say("last word");
    b.hear();
    let used = world.relay.stats().ports_used;
    assert_eq!(used, 2);
    let mut reports = Vec::new();
    for (command, left) in [(MediaCommand::Stop, used), (MediaCommand::Close, 0)] {
        reports
            .push(report(world.relay.submit(NodeId(1), call(1), 7, command, Signalling::default()).unwrap()));
        world.relay.settle();
        assert_eq!(world.relay.stats().ports_used, left);
        let before = world.relay.stats().packets_forwarded;
        a.say("too late");
        world.relay.settle();
        assert_eq!(world.relay.stats().packets_forwarded, before);
    }
    assert_eq!((reports[0][&A].packets_received, reports[0][&B].packets_sent), (1, 1));
    assert_eq!(reports[0], reports[1]);
}

#[test]
fn loss_on_the_way_to_us_is_reported() {
    let world = world();
    let (mut a, b) = world.talking();
    for n in 0..20 {
        if n % 5 == 3 {
            a.sequence += 1; // this one got lost
        } else {
            a.say("x");
            b.hear();
        }
    }
    assert_eq!(world.close()[&A].lost, 4);
}

#[test]
fn a_phone_behind_a_nat_is_found_by_its_packets_and_an_attacker_is_shut_out() {
    let world = world();
    let (mut a, mut b) = (Phone::new("127.0.0.1"), Phone::new("127.0.0.1"));
    b.learn(&world.offer(A, B, &a.sdp_as(ip("192.168.1.20"), "")).unwrap());
    a.learn(&world.answer(B, A, &b.sdp("")).unwrap());
    a.say("first");
    assert_eq!(b.hear(), "first");
    let mut attacker = Phone::new("127.0.0.1");
    attacker.to_rtp = a.to_rtp;
    for _ in 0..3 {
        attacker.say("evil");
    }
    a.say("second");
    assert_eq!(b.hear(), "second");
    b.say("answer");
    assert_eq!(a.hear(), "answer");
    assert_eq!(world.close()[&A].dropped, 3);
}

#[test]
fn only_the_negotiated_host_is_heard_when_its_address_is_public_or_ours() {
    let world = world();
    let (mut a, b) = world.talking();
    let mut stranger = Phone::new("127.0.0.2");
    stranger.to_rtp = a.to_rtp;
    stranger.say("evil");
    a.rtp.send_to(b"\x00\x01\x00\x00\x21\x12\xa4\x42 a STUN request", a.to_rtp.unwrap()).unwrap();
    a.say("hello");
    assert_eq!(b.hear(), "hello");
    assert_eq!(world.close()[&A].dropped, 2);
}

#[test]
fn the_signalling_address_tells_a_nat_from_a_lan() {
    let world = world();
    let (mut a, mut b) = (Phone::new("127.0.0.1"), Phone::new("127.0.0.1"));
    // A names an address that is not the one it signals from: packets from there count, a stranger's never do.
    let command = |from, to, sdp: String| (from, to, Bytes::from(sdp));
    let (from, to, sdp) = command(A, B, a.sdp_as(ip("198.51.100.1"), ""));
    let near = Signalling { from: Some(ip("127.0.0.1")), ..Signalling::default() };
    b.learn(
        &text(
            world
                .relay
                .submit(NodeId(1), world.call.get(), 0, MediaCommand::Offer { from, to, sdp }, near)
                .unwrap(),
        )
        .unwrap(),
    );
    a.learn(&world.answer(B, A, &b.sdp("")).unwrap());
    let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
    let mut stolen = Vec::new();
    Header { sequence: 1, ..Header::default() }.write(b"stolen", &mut stolen);
    stranger.send_to(&stolen, a.to_rtp.unwrap()).unwrap();
    a.say("through the NAT");
    assert_eq!(b.hear(), "through the NAT");
    assert_eq!(world.close()[&A].dropped, 1, "the stranger was heard first and not believed");
}

/// "Direct audio": a carrier's description names one host, and another one sends.
#[test]
fn media_of_a_trunk_may_come_from_anywhere_and_the_first_that_sends_is_heard() {
    let world = world();
    let (mut a, mut b) = (Phone::new("127.0.0.1"), Phone::new("127.0.0.1"));
    let anywhere = Signalling { from: Some(ip("127.0.0.1")), to: None, anywhere: true };
    let offer = MediaCommand::Offer { from: A, to: B, sdp: Bytes::from(a.sdp("")) };
    let offered = world.relay.submit(NodeId(1), world.call.get(), 0, offer, anywhere).unwrap();
    b.learn(&text(offered).unwrap());
    a.learn(&world.answer(B, A, &b.sdp("")).unwrap());
    let mut elsewhere = Phone::new("127.0.0.2");
    elsewhere.to_rtp = a.to_rtp;
    elsewhere.say("from where nobody said");
    assert_eq!(b.hear(), "from where nobody said");
    let mut third = Phone::new("127.0.0.3");
    third.to_rtp = a.to_rtp;
    third.say("too late");
    elsewhere.say("still me");
    assert_eq!(b.hear(), "still me");
    assert_eq!(world.close()[&A].dropped, 1);
}

#[test]
fn late_packets_of_an_old_call_do_not_reach_the_next_one_on_its_ports() {
    let world = world_with(RelayConfig { ports: quiet_range(4), workers: 1, ..RelayConfig::default() });
    let (mut old_a, old_b) = world.talking();
    old_a.say("old");
    assert_eq!(old_b.hear(), "old");
    world.close();
    old_a.say("late");
    world.of_call(2);
    let (mut a, b) = world.talking_at("127.0.0.2");
    let ports: HashSet<_> = [a.to_rtp, b.to_rtp].into();
    assert!(ports.contains(&old_a.to_rtp), "the range has no other ports");
    old_a.say("later");
    a.say("new");
    assert_eq!(b.hear(), "new");
}

#[test]
fn without_ports_an_offer_is_refused_and_calls_go_on() {
    let world = world_with(RelayConfig { ports: quiet_range(6), workers: 1, ..RelayConfig::default() });
    let (mut a, b) = world.talking();
    let phone = Phone::new("127.0.0.1");
    world.of_call(2);
    assert_eq!(world.offer(A, B, &phone.sdp("")), Err(MediaError::NoPorts));
    let stats = world.relay.stats();
    assert_eq!((stats.sessions, stats.ports_used, stats.ports_free), (1, 2, 1));
    assert!(world.close().is_empty());
    a.say("still here");
    assert_eq!(b.hear(), "still here");
    world.of_call(1);
    // A second line that finds no port leaves the call as it was.
    let two = a.sdp("m=video 4000 RTP/AVP 31\r\n");
    assert_eq!(world.offer(A, B, &two), Err(MediaError::NoPorts));
    a.say("unharmed");
    assert_eq!(b.hear(), "unharmed");
    world.close();
    let stats = world.relay.stats();
    assert_eq!((stats.sessions, stats.ports_used, stats.ports_free), (0, 0, 3));
    world.of_call(3);
    assert!(world.offer(A, B, &phone.sdp("")).is_ok());
}

#[test]
fn hold_keeps_ports_and_says_so_to_the_other_side() {
    let world = world();
    let (mut a, mut b) = world.talking();
    let (to_a, to_b) = (a.to_rtp, b.to_rtp);
    let held = world.offer(A, B, &a.sdp("a=sendonly\r\n")).unwrap();
    assert!(held.contains("a=sendonly\r\n"));
    b.learn(&held);
    a.learn(&world.answer(B, A, &b.sdp("a=recvonly\r\n")).unwrap());
    assert_eq!((a.to_rtp, b.to_rtp), (to_a, to_b));
    a.say("music");
    assert_eq!(b.hear(), "music");

    let nowhere = a.sdp("").replace("c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0");
    let held = world.offer(A, B, &nowhere).unwrap();
    assert!(held.contains("c=IN IP4 0.0.0.0\r\n"));
    a.learn(&world.answer(B, A, &b.sdp("a=recvonly\r\n")).unwrap());
    b.say("into the void");
    let resumed = world.offer(A, B, &a.sdp("")).unwrap();
    b.learn(&resumed);
    a.learn(&world.answer(B, A, &b.sdp("")).unwrap());
    assert_eq!((a.to_rtp, b.to_rtp), (to_a, to_b));
    b.say("back");
    assert_eq!(a.hear(), "back");
}

#[test]
fn a_conversation_goes_on_at_another_relay_which_is_told_what_both_had_agreed_upon() {
    let (first, second) = (world(), world());
    let (mut a, mut b) = first.talking();
    let told_before = (a.to_rtp, b.to_rtp);
    // Both are offered what the second relay makes of the other's last word.
    b.learn(&second.offer(A, B, &a.sdp("")).unwrap());
    a.learn(&second.answer(B, A, &b.sdp("")).unwrap());
    assert!(a.to_rtp != told_before.0 && b.to_rtp != told_before.1);
    a.say("a has moved");
    assert_eq!(b.hear(), "a has moved");
    b.say("b, too");
    assert_eq!(a.hear(), "b, too");
    // Each may answer with something new: here both speak from other ports.
    let (mut a2, mut b2) = (Phone::new("127.0.0.1"), Phone::new("127.0.0.1"));
    second.answer(B, A, &b2.sdp("")).unwrap();
    b2.to_rtp = b.to_rtp;
    second.offer(B, A, &b2.sdp("")).unwrap();
    second.answer(A, B, &a2.sdp("")).unwrap();
    a2.to_rtp = a.to_rtp;
    a2.say("from another port");
    assert_eq!(b2.hear(), "from another port");
    b2.say("likewise");
    assert_eq!(a2.hear(), "likewise");
    let figures = second.close();
    assert_eq!((figures[&A].packets_received, figures[&B].packets_received), (2, 2));
    assert_eq!(first.close()[&A].packets_received, 0);
}

#[test]
fn the_last_answer_decides_which_fork_is_heard() {
    let world = world();
    let (mut a, mut b, mut c) = (Phone::new("127.0.0.1"), Phone::new("127.0.0.1"), Phone::new("127.0.0.1"));
    b.learn(&world.offer(A, B, &a.sdp("")).unwrap());
    c.learn(&world.offer(A, C, &a.sdp("")).unwrap());
    assert_ne!(b.to_rtp, c.to_rtp);
    let from_b = world.answer(B, A, &b.sdp("")).unwrap();
    a.learn(&from_b);
    let early = a.to_rtp;
    b.say("ringing at b");
    assert_eq!(a.hear(), "ringing at b");
    let from_c = world.answer(C, A, &c.sdp("")).unwrap();
    a.learn(&from_c);
    assert_eq!(a.to_rtp, early, "the caller's port stays");
    b.say("ringing on");
    c.say("hello");
    assert_eq!(a.hear(), "hello");
    a.say("hello c");
    assert_eq!(c.hear(), "hello c");
    let released = report(world.submit(MediaCommand::Release { leg: B }));
    assert_eq!((released.len(), released[&B].packets_received), (1, 2));
    c.say("still");
    assert_eq!(a.hear(), "still");
    let again = world.answer(C, A, &c.sdp("")).unwrap();
    assert_eq!(again, from_c, "nothing changed, so neither does the version");
    let rest = world.close();
    assert_eq!(rest.keys().copied().collect::<HashSet<_>>(), HashSet::from([A, C]));
    assert_eq!(world.relay.stats().ports_used, 0);
}

#[test]
fn versions_count_changes_and_ids_differ_by_leg() {
    let world = world();
    let (a, b) = (Phone::new("127.0.0.1"), Phone::new("127.0.0.1"));
    let origin = |sdp: &str| {
        let sdp = Sdp::parse(sdp.as_bytes().to_vec()).unwrap();
        let origin = sdp.origin().unwrap();
        (origin.session_id.to_owned(), origin.version().unwrap())
    };
    let first = origin(&world.offer(A, B, &a.sdp("")).unwrap());
    assert_eq!(origin(&world.offer(A, B, &a.sdp("")).unwrap()), first);
    let changed = origin(&world.offer(A, B, &a.sdp("a=sendonly\r\n")).unwrap());
    assert_eq!(changed, (first.0.clone(), first.1 + 1));
    let back = origin(&world.answer(B, A, &b.sdp("")).unwrap());
    assert_ne!(back.0, first.0);
}

#[test]
fn fax_passes_as_it_is() {
    let world = world();
    let (mut a, mut b) = world.talking();
    let fax = |phone: &Phone| {
        format!(
            "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n\
             m=image {} udptl t38\r\na=T38FaxVersion:0\r\n",
            phone.address().port()
        )
    };
    let image = |sdp: &str| {
        let sdp = Sdp::parse(sdp.as_bytes().to_vec()).unwrap();
        assert_eq!(sdp.media(0).unwrap().port(), 0);
        SocketAddr::new(ip("127.0.0.1"), sdp.media(1).unwrap().port())
    };
    a.to_rtp = Some(image(&world.offer(B, A, &fax(&b)).unwrap()));
    b.to_rtp = Some(image(&world.answer(A, B, &fax(&a)).unwrap()));
    assert_eq!(world.relay.stats().ports_used, 2, "the audio ports are free again");
    let udptl = [0, 0, 6, 0xc0, 1, 0x80, 0, 0, 0xff];
    a.rtp.send_to(&udptl, a.to_rtp.unwrap()).unwrap();
    let mut bytes = [0; 100];
    let (length, from) = b.rtp.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..length], from), (&udptl[..], b.to_rtp.unwrap()));
    assert_eq!(world.close()[&A].dropped, 0);
}

#[test]
fn a_line_may_come_and_go() {
    let world = world();
    let (a, b) = world.talking();
    let video = "m=video 4000 RTP/AVP 31\r\n";
    world.offer(A, B, &a.sdp(video)).unwrap();
    assert_eq!(world.relay.stats().ports_used, 4);
    world.withdraw(A, B);
    assert_eq!(world.relay.stats().ports_used, 2);
    world.offer(A, B, &a.sdp(video)).unwrap();
    let refused = world.answer(B, A, &b.sdp("m=video 0 RTP/AVP 31\r\n")).unwrap();
    assert!(refused.contains("m=video 0 RTP/AVP 31\r\n"));
    assert_eq!(world.relay.stats().ports_used, 2);
    world.offer(B, A, &b.sdp(video)).unwrap();
    world.answer(A, B, &a.sdp(video)).unwrap();
    assert_eq!(world.relay.stats().ports_used, 4);
    let gone = "m=video 0 RTP/AVP 31\r\n";
    assert!(world.offer(B, A, &b.sdp(gone)).unwrap().contains(gone));
    assert_eq!(world.relay.stats().ports_used, 4, "until it is answered");
    world.answer(A, B, &a.sdp(gone)).unwrap();
    assert_eq!(world.relay.stats().ports_used, 2);
}

#[test]
fn a_call_without_media_takes_no_ports_until_a_line_is_added() {
    // RFC 3264 section 5: no media stream at all means that they will be added later.
    let world = world();
    let (mut a, mut b) = (Phone::new("127.0.0.1"), Phone::new("127.0.0.1"));
    let bare = |phone: &Phone| phone.sdp("").split("m=").next().unwrap().to_owned();
    let offer = world.offer(A, B, &bare(&a)).unwrap();
    let answer = world.answer(B, A, &bare(&b)).unwrap();
    assert!(!offer.contains("m=") && !answer.contains("m="));
    assert_eq!(world.relay.stats().ports_used, 0);
    b.learn(&world.offer(A, B, &a.sdp("")).unwrap());
    a.learn(&world.answer(B, A, &b.sdp("")).unwrap());
    a.say("now");
    assert_eq!(b.hear(), "now");
    let report = world.close();
    assert_eq!((report[&A].packets_received, report[&B].packets_sent), (1, 1));
}

#[test]
fn calls_bent_into_a_ring_pass_nothing_on() {
    ring(MediaAddress::plain(ip("127.0.0.1")), "127.0.0.1");
    // Bound to all addresses, it has more of them than the one that it shows.
    ring(MediaAddress { bind: ip("0.0.0.0"), advertised: ip("127.9.9.9") }, "127.0.0.1");
}

/// Two calls whose sides name the relay's ports at `host` as their own.
fn ring(address: MediaAddress, host: &str) {
    let config = RelayConfig {
        addresses: vec![address],
        ports: quiet_range(40),
        workers: 1,
        ..RelayConfig::default()
    };
    let world = world_with(config);
    let port = |to: Option<SocketAddr>| to.unwrap().port();
    let said = |rtp: u16, rtcp: u16| {
        format!(
            "v=0\r\no=- 1 2 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n\
             m=audio {rtp} RTP/AVP 0\r\na=rtcp:{rtcp}\r\n"
        )
    };
    let (a1, b1) = world.talking();
    world.of_call(2);
    let (a2, b2) = world.talking();
    // Each side of each call names the relay's own ports of the other call as its own.
    for (call, a, b) in [(1, &a2, &b2), (2, &a1, &b1)] {
        world.of_call(call);
        let theirs = |phone: &Phone| said(port(phone.to_rtp), port(phone.to_rtcp));
        assert!(world.offer(A, B, &theirs(a)).is_ok() && world.answer(B, A, &theirs(b)).is_ok());
    }
    let mut outside = Phone::new("127.0.0.1");
    let report_of_nothing = Writer::new().receiver_report(1, &[]).finish();
    for to in [&a1, &b1, &a2, &b2] {
        (outside.to_rtp, outside.to_rtcp) = (to.to_rtp, to.to_rtcp);
        outside.say("round and round");
        outside.report(&report_of_nothing);
    }
    // A packet that went round would move on by one port at least with every word of another call.
    world.of_call(3);
    let (mut a, b) = world.talking();
    for word in 0..100 {
        a.say(&word.to_string());
        assert_eq!(b.hear(), word.to_string());
    }
    world.forwarded(100);
    let forwarded = world.relay.stats().packets_forwarded;
    assert!(forwarded <= 108, "{forwarded}: the words, and what came from outside, once each");
}

#[test]
fn muxed_rtcp_uses_the_rtp_port_on_both_sides() {
    let world = world();
    let (mut a, mut b) = (Phone::new("127.0.0.1"), Phone::new("127.0.0.1"));
    b.learn(&world.offer(A, B, &a.sdp("a=rtcp-mux\r\n")).unwrap());
    a.learn(&world.answer(B, A, &b.sdp("a=rtcp-mux\r\n")).unwrap());
    a.say("x");
    b.hear();
    let packet = Writer::new().receiver_report(1, &[]).finish();
    a.rtp.send_to(&packet, a.to_rtp.unwrap()).unwrap();
    let mut bytes = [0; 100];
    let (length, from) = b.rtp.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..length], from), (&packet[..], b.to_rtp.unwrap()));
}

#[test]
fn rtcp_that_goes_astray_reaches_the_rtcp_port_and_no_figure_of_rtp() {
    let world = world();
    let (mut a, b) = world.talking();
    let info = SenderInfo { ssrc: a.address().port().into(), ..SenderInfo::default() };
    for word in ["one", "two", "three"] {
        a.say(word);
        assert_eq!(b.hear(), word);
        let report = Writer::new().sender_report(&info, &[]).cname(info.ssrc, "a").finish();
        a.rtp.send_to(&report, a.to_rtp.unwrap()).unwrap();
        assert_eq!(b.hear_report(), (report, b.to_rtcp.unwrap()));
    }
    let report = world.close();
    let of_a = &report[&A];
    assert_eq!((of_a.packets_received, of_a.lost, of_a.dropped, report[&B].packets_sent), (3, 0, 0, 3));
}

#[test]
fn ipv6_meets_ipv4() {
    let config = RelayConfig {
        addresses: vec![MediaAddress::plain(ip("127.0.0.1")), MediaAddress::plain(ip("::1"))],
        ports: quiet_range(40),
        workers: 1,
        ..RelayConfig::default()
    };
    let world = world_with(config);
    let (mut a, mut b) = (Phone::new("::1"), Phone::new("127.0.0.1"));
    let near = Signalling { from: Some(ip("::1")), to: Some(ip("127.0.0.1")), anywhere: false };
    let offer = MediaCommand::Offer { from: A, to: B, sdp: a.sdp("").into() };
    let offered = text(world.relay.submit(NodeId(1), world.call.get(), 0, offer, near).unwrap()).unwrap();
    assert!(offered.contains("c=IN IP4 127.0.0.1\r\n") && !offered.contains("IP6"));
    b.learn(&offered);
    let answered = world.answer(B, A, &b.sdp("")).unwrap();
    assert!(answered.contains("c=IN IP6 ::1\r\n") && !answered.contains("IP4"));
    a.learn(&answered);
    a.say("six");
    assert_eq!(b.hear(), "six");
    b.say("four");
    assert_eq!(a.hear(), "four");
}

#[test]
fn a_peer_may_move_to_the_other_ip_version_in_the_middle_of_a_call() {
    let config = RelayConfig {
        addresses: vec![MediaAddress::plain(ip("127.0.0.1")), MediaAddress::plain(ip("::1"))],
        ports: quiet_range(40),
        workers: 1,
        ..RelayConfig::default()
    };
    let world = world_with(config);
    let (mut a, mut b) = world.talking();
    a.say("four");
    assert_eq!(b.hear(), "four");
    let mut moved = Phone::new("::1");
    b.learn(&world.offer(A, B, &moved.sdp("")).unwrap());
    assert_eq!(world.relay.stats().ports_used, 3);
    world.withdraw(A, B);
    assert_eq!(world.relay.stats().ports_used, 2);
    a.say("as before");
    assert_eq!(b.hear(), "as before");
    b.learn(&world.offer(A, B, &moved.sdp("")).unwrap());
    moved.learn(&world.answer(B, A, &b.sdp("")).unwrap());
    assert_eq!(world.relay.stats().ports_used, 2);
    moved.say("six");
    assert_eq!(b.hear(), "six");
    b.say("welcome");
    assert_eq!(moved.hear(), "welcome");
    assert_eq!(world.close()[&A].packets_received, 3, "figures of both addresses");
}

#[test]
fn ipv6_alone_and_a_family_that_we_do_not_have() {
    let ports = quiet_range(40);
    let config =
        RelayConfig { addresses: vec![MediaAddress::plain(ip("::1"))], ports, ..RelayConfig::default() };
    let world = world_with(config);
    let (mut a, mut b) = (Phone::new("::1"), Phone::new("::1"));
    b.learn(&world.offer(A, B, &a.sdp("")).unwrap());
    a.learn(&world.answer(B, A, &b.sdp("")).unwrap());
    a.say("six");
    assert_eq!(b.hear(), "six");
    world.of_call(2);
    let refused = world.offer(A, B, &Phone::new("127.0.0.1").sdp("")).unwrap_err();
    assert!(matches!(refused, MediaError::BadSdp(why) if why.contains("IPv4")));
    assert_eq!(world.relay.stats().sessions, 1);
}

#[test]
fn silence_is_reported_for_the_leg_that_is_silent() {
    let config = RelayConfig {
        ports: quiet_range(8),
        workers: 1,
        silence: Duration::from_millis(80),
        ..RelayConfig::default()
    };
    let world = world_with(config);
    let (_a, _b) = world.talking();
    let mut silent = HashSet::new();
    for _ in 0..2 {
        let (call, event) = world.events.recv_timeout(PATIENCE).unwrap();
        let MediaEvent::Silent { leg } = event else { panic!("{event:?}") };
        silent.insert((call, leg));
    }
    assert_eq!(silent, HashSet::from([A, B].map(|leg| (world.call.get(), leg))));
}

#[test]
fn commands_out_of_step_are_refused_and_change_nothing() {
    let world = world();
    let phone = Phone::new("127.0.0.1");
    let out_of_step =
        |result: Result<String, MediaError>| assert!(matches!(result, Err(MediaError::OutOfStep(_))));
    out_of_step(world.answer(B, A, &phone.sdp("")));
    out_of_step(world.offer(A, A, &phone.sdp("")));
    assert!(matches!(world.submit(MediaCommand::Withdraw { from: A, to: B }), MediaReply::Refused(_)));
    assert!(matches!(world.submit(MediaCommand::Release { leg: A }), MediaReply::Refused(_)), "no session");
    assert!(matches!(world.offer(A, B, "nonsense"), Err(MediaError::BadSdp(_))));
    assert_eq!(world.relay.stats().sessions, 0);
    world.offer(A, B, &phone.sdp("")).unwrap();
    assert!(report(world.submit(MediaCommand::Release { leg: MediaLeg(255) })).is_empty(), "no such leg");
    out_of_step(world.answer(A, B, &phone.sdp("")));
    let two = phone.sdp("m=video 4000 RTP/AVP 31\r\n");
    assert!(matches!(world.answer(B, A, &two), Err(MediaError::BadSdp(why)) if why.contains("2 media")));
    assert!(world.answer(B, A, &phone.sdp("")).is_ok());
    let crowd =
        (2..=255).map(|leg| world.offer(A, MediaLeg(leg), &phone.sdp(""))).filter(Result::is_ok).count();
    assert!(crowd < 100);
}

/// Random commands with descriptions put together at random: no panic, and every port comes back.
#[test]
fn any_commands_leave_the_relay_whole() {
    let world = world_with(RelayConfig { ports: quiet_range(20), workers: 2, ..RelayConfig::default() });
    let commands = prop::collection::vec((0..5u8, 0..4u8, 0..4u8, description()), 1..40);
    let run = |commands: Vec<(u8, u8, u8, String)>| {
        for (kind, from, to, sdp) in commands {
            let (from, to, sdp) = (MediaLeg(from), MediaLeg(to), Bytes::from(sdp));
            let command = match kind {
                0 | 1 => MediaCommand::Offer { from, to, sdp },
                2 => MediaCommand::Answer { from, to, sdp },
                3 => MediaCommand::Withdraw { from, to },
                _ => MediaCommand::Release { leg: from },
            };
            if let Some(MediaReply::Sdp(sdp)) =
                world.relay.submit(NodeId(1), world.call.get(), 0, command, Signalling::default())
            {
                prop_assert!(Sdp::parse(sdp).is_ok());
            }
        }
        world.close();
        let stats = world.relay.stats();
        prop_assert_eq!((stats.sessions, stats.ports_used, stats.ports_free), (0, 0, 10));
        Ok(())
    };
    TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })
        .run(&commands, run)
        .unwrap();
}

/// Random datagrams at the ports of a call: the worker lives, and the peer is still heard.
#[test]
fn any_datagrams_leave_the_call_alive() {
    let world = world();
    let (a, b) = world.talking();
    let b = RefCell::new(b);
    b.borrow_mut().say("here");
    assert_eq!(a.hear(), "here");
    let run = |datagrams: Vec<(bool, Vec<u8>)>| {
        let mut b = b.borrow_mut();
        for (is_rtcp, bytes) in datagrams {
            let (socket, to) = if is_rtcp { (&b.rtcp, b.to_rtcp) } else { (&b.rtp, b.to_rtp) };
            socket.send_to(&bytes, to.unwrap()).unwrap();
        }
        b.say("the end");
        let mut bytes = [0; 5000];
        let mut heard = 0;
        while !bytes[..heard].ends_with(b"the end") {
            heard = a.rtp.recv_from(&mut bytes).unwrap().0;
        }
        Ok(())
    };
    TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })
        .run(&prop::collection::vec((any::<bool>(), datagram()), 0..10), run)
        .unwrap();
}

/// Bytes that look like RTP or RTCP more often than not.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let noise = || prop::collection::vec(any::<u8>(), 0..200);
    let like = move |head: [u8; 2]| {
        noise().prop_map(move |mut bytes| {
            bytes.splice(0..0, head);
            bytes
        })
    };
    prop_oneof![
        noise(),
        any::<(u8, u8)>().prop_flat_map(move |(first, kind)| like([0x80 | first & 0x3f, kind])),
        any::<(u8, u8)>().prop_flat_map(move |(first, kind)| like([0x80 | first & 0x3f, 200 + kind % 8])),
    ]
}

/// Descriptions from fragments that belong there, in any order and number.
fn description() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "c=IN IP4 127.0.0.1",
        "c=IN IP4 0.0.0.0",
        "c=IN IP4 10.0.0.1",
        "c=IN IP6 2001:db8::1",
        "c=IN IP4 host.example.com",
        "m=audio 4000 RTP/AVP 0 8 101",
        "m=audio 0 RTP/AVP 0",
        "m=audio 65535 RTP/SAVP 0",
        "m=video 4002/2 RTP/AVPF 96",
        "m=image 4004 udptl t38",
        "m=message 4006 TCP/MSRP *",
        "a=rtcp:1 IN IP4 192.0.2.1",
        "a=rtcp:99999",
        "a=rtcp-mux",
        "a=sendonly",
        "a=inactive",
        "a=rtpmap:96 H264/90000",
        "a=rtpmap:101 telephone-event/8000",
        "a=candidate:1 1 UDP 1 192.0.2.1 9 typ host",
        "a=group:BUNDLE a b",
    ]);
    prop::collection::vec(line, 0..12).prop_map(|lines| {
        format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n{}\r\n", lines.join("\r\n"))
    })
}
