//! RTP through the relay: every packet arrives as it was sent, figures are right, ports come and go.

use model::{Cdr, HungUpBy, MediaReport};
use sip::msg::HeaderId;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use system_tests::PATIENCE;
use system_tests::call::{Established, answer_to, establish, establish_with, media_address, sdp, sdp_with};
use system_tests::endpoint::{Dialog, Endpoint, body, header, name_of};
use system_tests::node::{Node, Setup};
use system_tests::rtp::{RtpPort, Side, converse, greet, pass};

/// Two phones with an audio port each.
struct World {
    node: Node,
    alice: Endpoint,
    bob: Endpoint,
    her: RtpPort,
    his: RtpPort,
}

impl World {
    fn new(setup: Setup) -> World {
        let node = setup.start();
        let alice = Endpoint::udp(&node, 2, "alice");
        let mut bob = Endpoint::udp(&node, 3, "bob");
        bob.register();
        let (her, his) = (RtpPort::open(alice.ip(), 30_000), RtpPort::open(bob.ip(), 30_002));
        World { node, alice, bob, her, his }
    }

    fn call(&mut self) -> Established {
        establish(&mut self.alice, &mut self.bob)
    }

    /// Alice calls until the ports of the call before are free, which is when its record is on the disk. How often she was
    /// refused meanwhile.
    fn call_when_free(&mut self) -> (Established, usize) {
        const TURN: Duration = Duration::from_millis(5);
        let (offer, answer) = (sdp(self.alice.ip(), 30_000), sdp(self.bob.ip(), 30_002));
        let end = Instant::now() + PATIENCE;
        let mut refused = 0;
        while Instant::now() < end {
            let sent = self.alice.invite("102", "", &offer);
            while Instant::now() < end {
                if let Some(invite) = self.bob.fresh(TURN) {
                    return (answer_to(&mut self.alice, &sent, &mut self.bob, &invite, &answer), refused);
                }
                if let Some(response) = self.alice.fresh(TURN) {
                    assert_eq!(response.status(), 503);
                    self.alice.ack_failure(&sent, &response);
                    refused += 1;
                    break;
                }
            }
        }
        self.alice.fail("the ports of a call that is over are never free")
    }

    /// The first packet of each side, sent until it is heard; how often that was.
    fn greet(&self, offer: &str, answer: &str) -> (u64, u64) {
        let her = Side { port: &self.her, to: media_address(answer) };
        greet(&her, &Side { port: &self.his, to: media_address(offer) })
    }

    /// Packets `numbers`, counted from 1, go both ways.
    fn converse(&self, offer: &str, answer: &str, numbers: std::ops::Range<u16>) {
        let her = Side { port: &self.her, to: media_address(answer) };
        let his = Side { port: &self.his, to: media_address(offer) };
        converse(&her, &his, numbers);
    }

    fn hang_up(&mut self, call: &mut Established) {
        self.alice.in_dialog(&mut call.caller, "BYE", "", "");
        self.bob.hung_up();
        self.alice.expect("200 BYE");
    }
}

fn report(cdr: &Cdr, leg: usize) -> MediaReport {
    cdr.legs[leg].media.unwrap_or_else(|| panic!("leg {leg} has media figures: {cdr:#?}"))
}

#[test]
fn every_packet_arrives_as_it_was_sent_and_is_counted() {
    const PACKETS: u16 = 300;
    let mut world = World::new(Setup::default());
    let mut call = world.call();
    for (sdp, other) in [(&call.offer, world.alice.ip()), (&call.answer, world.bob.ip())] {
        assert_eq!(media_address(sdp).ip(), world.node.ip(), "audio goes through the relay: {sdp}");
        assert!(!sdp.contains(&other.to_string()), "the other side's address is not told: {sdp}");
        assert!(sdp.contains("a=rtpmap:101 telephone-event/8000"), "{sdp}");
    }
    let (hers, his) = world.greet(&call.offer, &call.answer);
    world.converse(&call.offer, &call.answer, 1..PACKETS);
    // RFC 4733 events and payload types that nobody negotiated pass as they are.
    let mut event = world.her.packet(PACKETS);
    event[1] = 101;
    event.truncate(16);
    world.her.send(&event, media_address(&call.answer));
    assert_eq!(world.his.receive().unwrap().0, event);
    world.hang_up(&mut call);
    let records = world.node.stop();
    let cdr = records.answered(HungUpBy::Caller);
    let (caller, callee) = (report(cdr, 0), report(cdr, 1));
    let packets = u64::from(PACKETS);
    assert!((packets + 1..=packets + hers).contains(&caller.packets_received), "{cdr:#?}");
    assert!((packets..packets + his).contains(&callee.packets_received), "{cdr:#?}");
    assert_eq!(caller.bytes_received, (caller.packets_received - 1) * 172 + 16, "{cdr:#?}");
    // What was heard before the BYE is counted, the last packet included.
    assert_eq!((caller.packets_sent, callee.packets_sent), (packets, packets + 1), "{cdr:#?}");
    assert_eq!((caller.lost, callee.lost, caller.dropped, callee.dropped), (0, 0, 0, 0), "{cdr:#?}");
}

/// RFC 3264 section 6.1: whoever has sent an answer is prepared to receive. The first syllable is not lost.
#[test]
fn what_follows_an_answer_at_once_is_heard() {
    const CALLS: usize = 50;
    let mut world = World::new(Setup::default());
    for _ in 0..CALLS {
        let mut call = world.call();
        let her = Side { port: &world.her, to: media_address(&call.answer) };
        pass(&her, &Side { port: &world.his, to: media_address(&call.offer) }, 0, "the callee");
        world.hang_up(&mut call);
    }
    assert_eq!(world.node.stop().0.len(), CALLS);
}

#[test]
fn lost_packets_are_counted() {
    let mut world = World::new(Setup::default());
    let mut call = world.call();
    world.greet(&call.offer, &call.answer);
    for numbers in [1..50, 60..100] {
        world.converse(&call.offer, &call.answer, numbers);
    }
    world.hang_up(&mut call);
    let records = world.node.stop();
    let cdr = records.answered(HungUpBy::Caller);
    assert_eq!((report(cdr, 0).lost, report(cdr, 1).lost), (10, 10), "{cdr:#?}");
    assert!(report(cdr, 0).mos_hundredths.is_some_and(|mos| mos < 440), "{cdr:#?}");
}

#[test]
fn early_media_is_heard_before_the_answer_and_goes_on_after_it() {
    let mut world = World::new(Setup::default());
    let sent = world.alice.invite("102", "", &sdp(world.alice.ip(), 30_000));
    let invite = world.bob.expect("INVITE");
    let (offer, his_answer) = (body(&invite), sdp(world.bob.ip(), 30_002));
    world.bob.respond(&invite, 183, "b", "", &his_answer);
    let answer = body(&world.alice.expect("183 INVITE"));
    let (hers, his) = world.greet(&offer, &answer);
    world.converse(&offer, &answer, 1..50);
    world.bob.respond(&invite, 200, "b", "", &his_answer);
    let ok = world.alice.expect("200 INVITE");
    let mut dialog = Dialog::of_caller(&sent, &ok);
    world.alice.ack(&dialog, sent.cseq, "");
    world.bob.expect("ACK");
    assert_eq!(media_address(&body(&ok)), media_address(&answer));
    world.converse(&offer, &answer, 50..100);
    world.alice.in_dialog(&mut dialog, "BYE", "", "");
    world.bob.hung_up();
    world.alice.expect("200 BYE");
    let records = world.node.stop();
    let cdr = records.answered(HungUpBy::Caller);
    assert!((100..100 + hers).contains(&report(cdr, 0).packets_received), "{cdr:#?}");
    assert!((100..100 + his).contains(&report(cdr, 1).packets_received), "{cdr:#?}");
}

#[test]
fn audio_goes_on_after_hold_and_resume() {
    let mut world = World::new(Setup::default());
    let mut call = world.call();
    world.greet(&call.offer, &call.answer);
    world.converse(&call.offer, &call.answer, 1..20);
    for (version, direction, reply) in [(2, "sendonly", "recvonly"), (3, "sendrecv", "sendrecv")] {
        let offer = sdp_with(world.alice.ip(), 30_000, version, &format!("a={direction}\r\n"));
        world.alice.in_dialog(&mut call.caller, "INVITE", "", &offer);
        let invite = world.bob.expect("INVITE");
        assert!(body(&invite).contains(&format!("a={direction}")), "{}", body(&invite));
        assert_eq!(media_address(&body(&invite)), media_address(&call.offer), "ports are kept");
        let answer = sdp_with(world.bob.ip(), 30_002, version, &format!("a={reply}\r\n"));
        world.bob.respond(&invite, 200, "", "", &answer);
        let ok = world.alice.expect("200 INVITE");
        world.bob.expect("ACK");
        world.alice.ack(&call.caller, call.caller.cseq, "");
        assert!(body(&ok).contains(&format!("a={reply}")), "{}", body(&ok));
        assert_eq!(media_address(&body(&ok)), media_address(&call.answer), "ports are kept");
    }
    world.converse(&call.offer, &call.answer, 20..60);
    world.hang_up(&mut call);
    world.node.stop().answered(HungUpBy::Caller);
}

#[test]
fn a_stranger_is_not_heard() {
    let mut world = World::new(Setup::default());
    let mut call = world.call();
    let (hers, _) = world.greet(&call.offer, &call.answer);
    world.converse(&call.offer, &call.answer, 1..20);
    let stranger = RtpPort::open(world.node.place().ip(4), 30_004);
    for number in 0..30 {
        stranger.send(&stranger.packet(number), media_address(&call.answer));
    }
    world.her.send(b"no RTP at all", media_address(&call.answer));
    world.converse(&call.offer, &call.answer, 20..40); // anything of the stranger's would come first
    world.hang_up(&mut call);
    let records = world.node.stop();
    let cdr = records.answered(HungUpBy::Caller);
    assert_eq!(report(cdr, 0).dropped, 31, "{cdr:#?}");
    assert!((40..40 + hers).contains(&report(cdr, 0).packets_received), "{cdr:#?}");
}

#[test]
fn rtcp_passes_and_its_figures_are_kept() {
    let mut world = World::new(Setup::default());
    let mut call = world.call();
    world.greet(&call.offer, &call.answer);
    world.converse(&call.offer, &call.answer, 1..20);
    let above = |address: SocketAddr| SocketAddr::new(address.ip(), address.port() + 1);
    let (hers, his) = (RtpPort::open(world.alice.ip(), 30_001), RtpPort::open(world.bob.ip(), 30_003));
    // A receiver report (RFC 3550 section 6.4.2) of bob about alice's stream: 7 lost, jitter 80 units (10 ms).
    let mut rr = vec![0x81, 201, 0, 7];
    rr.extend(9u32.to_be_bytes()); // its sender
    rr.extend(world.her.packet(0)[8..12].iter()); // SSRC of alice's stream
    rr.extend([0, 0, 0, 7]);
    rr.extend(19u32.to_be_bytes());
    rr.extend(80u32.to_be_bytes());
    rr.extend([0; 8]);
    his.send(&rr, above(media_address(&call.offer)));
    assert_eq!(hers.receive().unwrap().0, rr);
    world.hang_up(&mut call);
    let records = world.node.stop();
    let cdr = records.answered(HungUpBy::Caller);
    assert_eq!(report(cdr, 1).reported_lost, Some(7), "{cdr:#?}");
    assert_eq!(report(cdr, 1).reported_jitter_us, Some(10_000), "{cdr:#?}");
}

#[test]
fn without_a_free_port_a_call_is_refused_and_the_others_go_on() {
    // Four ports: two legs with RTP and RTCP each, one call.
    let mut world =
        World::new(Setup::default().media_ports(|_| "20000-20003".to_owned()).add("carol", "103"));
    let mut carol = Endpoint::udp(&world.node, 4, "carol");
    let mut call = world.call();
    world.greet(&call.offer, &call.answer);
    world.converse(&call.offer, &call.answer, 1..20);
    for _ in 0..3 {
        let sent = carol.invite("102", "", &sdp(carol.ip(), 30_000));
        let refusal = carol.refused(&sent, 503);
        assert!(header(&refusal, HeaderId::RetryAfter).parse::<u32>().is_ok_and(|s| s > 0), "{refusal:?}");
    }
    world.converse(&call.offer, &call.answer, 20..60);
    world.hang_up(&mut call);
    // The ports are free again as soon as the record is kept.
    let (mut call, meanwhile) = world.call_when_free();
    world.greet(&call.offer, &call.answer);
    world.converse(&call.offer, &call.answer, 1..20);
    world.hang_up(&mut call);
    let records = world.node.stop();
    let mut causes: Vec<u16> = records.0.iter().map(|cdr| cdr.cause.status).collect();
    causes.sort_unstable();
    assert_eq!(causes, [[200; 2].to_vec(), vec![503; 3 + meanwhile]].concat(), "{records:#?}");
}

#[test]
fn a_peer_that_falls_silent_ends_the_call() {
    let mut world = World::new(Setup::default().media("silence_seconds = 1"));
    let call = world.call();
    world.greet(&call.offer, &call.answer);
    world.converse(&call.offer, &call.answer, 1..20);
    let both = [world.alice.expect("BYE"), world.bob.expect("BYE")];
    world.alice.respond(&both[0], 200, "", "", "");
    world.bob.respond(&both[1], 200, "", "", "");
    let records = world.node.stop();
    let cdr = records.only();
    assert_eq!((cdr.cause.status, cdr.hung_up_by), (408, HungUpBy::Platform), "{cdr:#?}");
    assert!(report(cdr, 0).packets_received >= 20, "{cdr:#?}");
}

/// Codecs and attributes that nobody here knows pass; a second stream is relayed like the first.
#[test]
fn what_is_unknown_in_a_session_description_passes() {
    let mut world = World::new(Setup::default());
    let unknown =
        "a=rtpmap:97 martian/96000/7\r\na=fmtp:97 x=1;y=\"2\"\r\na=x-unknown:some thing\r\na=ptime:30\r\n";
    let (ip, bob_ip) = (world.alice.ip(), world.bob.ip());
    let video = "m=video 30010 RTP/AVPF 120\r\na=rtpmap:120 VP8/90000\r\na=rtcp-fb:120 nack pli\r\n";
    let offer = sdp_with(ip, 30_000, 1, &format!("{unknown}{video}")).replace("AVP 8 0", "AVP 97 8 0");
    let answer = sdp_with(bob_ip, 30_002, 1, &format!("{unknown}{}", video.replace("30010", "0")));
    let mut call = establish_with(&mut world.alice, &mut world.bob, "102", &offer, &answer);
    for line in
        ["97 8 0 101", "martian/96000/7", "x=1;y=\"2\"", "a=x-unknown:some thing", "a=ptime:30", "nack pli"]
    {
        assert!(call.offer.contains(line), "{line} in {}", call.offer);
    }
    assert!(call.answer.contains("m=video 0 "), "a refused stream stays refused: {}", call.answer);
    world.greet(&call.offer, &call.answer);
    world.converse(&call.offer, &call.answer, 1..20);
    world.hang_up(&mut call);
    world.node.stop().answered(HungUpBy::Caller);
}

/// The phone thinks of itself at an address that means nothing to the node: signalling goes back by the way it came, audio
/// goes where audio comes from.
#[test]
fn a_phone_behind_nat_is_reached_and_heard() {
    const PRIVATE: &str = "10.99.0.7";
    let mut node = Setup::default().with("[registrar]\nping_seconds = 1").start();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let mut bob = Endpoint::udp(&node, 3, "bob");
    let record = bob.record();
    let contact = format!("Contact: <sip:bob@{PRIVATE}:5060>\r\nExpires: 300\r\n");
    let registered = bob.ask("REGISTER", "sip:users.democlient.com", &record, &record, &contact);
    assert_eq!(registered.status(), 200);
    // RFC 5626 section 4.4: the mapping is kept open.
    let ping = bob.expect("OPTIONS");
    assert_eq!(ping.request_uri(), format!("sip:bob@{PRIVATE}:5060").as_bytes());
    bob.respond(&ping, 200, "p", "", "");
    let (her, his) = (RtpPort::open(alice.ip(), 30_000), RtpPort::open(bob.ip(), 40_000));
    let sent = alice.invite("102", "", &sdp(alice.ip(), 30_000));
    let invite = loop {
        match bob.fresh(PATIENCE) {
            Some(message) if name_of(&message) == "OPTIONS" => bob.respond(&message, 200, "p", "", ""),
            Some(message) => break message,
            None => bob.fail("no INVITE comes"),
        }
    };
    assert_eq!(name_of(&invite), "INVITE");
    bob.respond(&invite, 200, "b", "", &sdp(PRIVATE.parse().unwrap(), 7078));
    let ok = alice.expect("200 INVITE");
    let mut dialog = Dialog::of_caller(&sent, &ok);
    alice.ack(&dialog, sent.cseq, "");
    let his_side = Side { port: &his, to: media_address(&body(&invite)) };
    let her_side = Side { port: &her, to: media_address(&body(&ok)) };
    greet(&his_side, &her_side); // he speaks first, so that the relay learns where he is
    converse(&her_side, &his_side, 1..30);
    alice.in_dialog(&mut dialog, "BYE", "", "");
    while let Some(message) = bob.fresh(PATIENCE) {
        bob.respond(&message, 200, "p", "", "");
        if name_of(&message) == "BYE" {
            break;
        }
    }
    alice.expect("200 BYE");
    node.stop().answered(HungUpBy::Caller);
}
