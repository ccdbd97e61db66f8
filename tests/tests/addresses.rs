//! Where a node listens: IPv6, two versions of IP, several addresses, and an address that phones know it by.

use model::HungUpBy;
use sip::msg::{HeaderId, Message};
use std::net::{IpAddr, SocketAddr};
use system_tests::call::{Established, establish_with, media_address, sdp};
use system_tests::endpoint::{Dialog, Endpoint, header, unique};
use system_tests::node::{NODE, Node, Setup, run};
use system_tests::place::Place;
use system_tests::rtp::{RtpPort, Side, converse, greet};
use system_tests::sipp::Sipp;

/// UDP and TCP of an address, as the configuration lists them.
fn both(address: SocketAddr) -> [String; 2] {
    ["udp", "tcp"].map(|way| format!("\"{way}:{address}\""))
}

fn on_ipv6(place: &Place) -> Vec<String> {
    both(place.sip6(NODE)).into()
}

fn on_both(place: &Place) -> Vec<String> {
    [both(place.sip(NODE)), both(place.sip6(NODE))].concat()
}

/// A registered phone and its audio.
struct Phone {
    sip: Endpoint,
    audio: RtpPort,
}

impl Phone {
    fn on(server: SocketAddr, local: SocketAddr, audio: SocketAddr, name: &str) -> Phone {
        let mut sip = Endpoint::udp_to(server, local, name);
        sip.register();
        Phone { sip, audio: RtpPort::open(audio.ip(), audio.port()) }
    }

    fn v4(place: &Place, host: u8, name: &str) -> Phone {
        Self::on(place.sip(NODE), place.sip(host), SocketAddr::new(place.ip(host), 30_000), name)
    }

    fn v6(place: &Place, host: u8, name: &str) -> Phone {
        Self::on(place.sip6(NODE), place.sip6(host), place.audio6(host), name)
    }

    fn sdp(&self) -> String {
        sdp(self.sip.ip(), self.audio.port())
    }
}

fn call(caller: &mut Phone, callee: &mut Phone, number: &str) -> Established {
    let (offer, answer) = (caller.sdp(), callee.sdp());
    establish_with(&mut caller.sip, &mut callee.sip, number, &offer, &answer)
}

/// Each hears every packet of the other, at the address that its own description was answered with.
fn talk(caller: &Phone, callee: &Phone, call: &Established) {
    let hers = Side { port: &caller.audio, to: media_address(&call.answer) };
    let his = Side { port: &callee.audio, to: media_address(&call.offer) };
    greet(&hers, &his);
    converse(&hers, &his, 1..20);
}

/// Both sides of a call speak inside the dialog once, then the callee hangs up.
fn finish(caller: &mut Phone, callee: &mut Phone, mut call: Established) {
    caller.sip.in_dialog(&mut call.caller, "INFO", "", "");
    let info = callee.sip.expect("INFO");
    callee.sip.respond(&info, 200, "", "", "");
    caller.sip.expect("200 INFO");
    callee.sip.in_dialog(&mut call.callee, "BYE", "", "");
    caller.sip.hung_up();
    callee.sip.expect("200 BYE");
}

fn both_legs_had_audio(node: &mut Node) {
    let records = node.stop();
    for cdr in &records.0 {
        system_tests::records::check(cdr);
        assert_eq!((cdr.cause.status, cdr.hung_up_by), (200, HungUpBy::Callee), "{cdr:#?}");
        assert_eq!(cdr.legs.len(), 2, "{cdr:#?}");
        assert!(
            cdr.legs.iter().all(|leg| leg.media.is_some_and(|media| media.packets_received >= 20)),
            "{cdr:#?}"
        );
    }
}

#[test]
fn sipp_calls_sipp_over_ipv6() {
    for by_tcp in [false, true] {
        let mut node = Setup::default().listen(on_ipv6).media_ports(Place::media6_ports).start();
        Endpoint::udp_to(node.place().sip6(NODE), node.place().sip6(3), "bob").register();
        let callee = Sipp::callee("answer").ipv6().value("expect", "c=IN IP6 ::1").start(&node);
        let caller = Sipp::caller("call").ipv6();
        let caller = if by_tcp { caller.tcp() } else { caller };
        caller.start(&node).finish();
        callee.finish();
        node.stop().answered(HungUpBy::Caller);
    }
}

/// The softphones of the demonstration play and listen over IPv6.
#[test]
fn the_demo_places_its_call_over_ipv6() {
    let place = Place::take();
    let (sip, ports) = (place.sip6(NODE).to_string(), place.media6_ports());
    let output = run(&["demo", "--once", "--sip", &sip, "--media-ports", &ports, "--api", "127.0.0.1:0"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(&sip), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("ok ")).count(), 11, "{text}");
}

#[test]
fn signalling_and_audio_of_a_call_go_over_ipv6() {
    let mut node = Setup::default().listen(on_ipv6).media_ports(Place::media6_ports).start();
    let place = node.place().clone();
    let (mut alice, mut bob) = (Phone::v6(&place, 2, "alice"), Phone::v6(&place, 3, "bob"));
    let call = call(&mut alice, &mut bob, "102");
    for described in [&call.offer, &call.answer] {
        assert!(described.contains("IN IP6 ::1") && !described.contains("IP4"), "{described}");
    }
    talk(&alice, &bob, &call);
    finish(&mut alice, &mut bob, call);
    both_legs_had_audio(&mut node);
}

#[test]
fn a_phone_on_ipv4_and_one_on_ipv6_call_each_other() {
    let mut node = Setup::default().listen(on_both).media_ports(Place::media6_ports).start();
    let place = node.place().clone();
    let (mut alice, mut bob) = (Phone::v4(&place, 2, "alice"), Phone::v6(&place, 3, "bob"));
    let hers = call(&mut alice, &mut bob, "102");
    let his = call(&mut bob, &mut alice, "101");
    for (from_v4, described) in
        [(true, &hers.answer), (true, &his.offer), (false, &hers.offer), (false, &his.answer)]
    {
        let address = media_address(described);
        assert_eq!(address.ip().is_ipv4(), from_v4, "each is told an address that it can reach: {described}");
    }
    talk(&alice, &bob, &hers);
    finish(&mut alice, &mut bob, hers);
    talk(&bob, &alice, &his);
    finish(&mut bob, &mut alice, his);
    both_legs_had_audio(&mut node);
}

/// Host part of a second listener.
const SECOND: u8 = 9;

fn on_two(place: &Place) -> Vec<String> {
    [both(place.sip(NODE)), both(place.sip(SECOND))].concat()
}

fn contact_of(message: &Message) -> String {
    let contact = message.contact().ok().flatten().expect("it has a Contact");
    format!("{}:{}", contact.uri.host, contact.uri.port.unwrap_or(0))
}

/// A fixture's endpoints take messages from no other address than their own server's, so that what comes is from there.
#[test]
fn each_phone_sees_the_listener_that_it_uses() {
    let mut node = Setup::default().listen(on_two).start();
    let place = node.place().clone();
    let (first, second) = (place.sip(NODE), place.sip(SECOND));
    let audio = |host| SocketAddr::new(place.ip(host), 30_000);
    let mut alice = Phone::on(first, place.sip(2), audio(2), "alice");
    let mut bob = Phone::on(second, place.sip(3), audio(3), "bob");
    for (number, back) in [("102", false), ("101", true)] {
        let (caller, callee) = if back { (&mut bob, &mut alice) } else { (&mut alice, &mut bob) };
        let (near, far) = if back { (second, first) } else { (first, second) };
        let (offer, answer) = (caller.sdp(), callee.sdp());
        let sent = caller.sip.invite(number, "", &offer);
        let invite = callee.sip.expect("INVITE");
        assert_eq!(contact_of(&invite), far.to_string());
        let via = header(&invite, HeaderId::Via);
        assert!(via.starts_with(&format!("SIP/2.0/UDP {far};")), "{via}");
        let tag = format!("t{}", unique());
        callee.sip.respond(&invite, 200, &tag, "", &answer);
        let ok = caller.sip.expect("200 INVITE");
        assert_eq!(contact_of(&ok), near.to_string());
        let dialog = Dialog::of_caller(&sent, &ok);
        caller.sip.ack(&dialog, sent.cseq, "");
        callee.sip.expect("ACK");
        let call = Established {
            caller: dialog,
            callee: Dialog::of_callee(&invite, &tag),
            offer: system_tests::endpoint::body(&invite),
            answer: system_tests::endpoint::body(&ok),
        };
        talk(caller, callee, &call);
        finish(caller, callee, call);
    }
    both_legs_had_audio(&mut node);
}

/// What phones know the node by in the next tests: a name with a port, and an address for audio. The latter is a loopback
/// address that nobody has: a relay that lives elsewhere sends no audio to loopback addresses.
const ADVERTISED: &str = "sip.carillon.example:5999";
const ADVERTISED_MEDIA: &str = "127.200.0.77";

fn advertised(place: &Place) -> Vec<String> {
    let address = place.sip(NODE);
    ["udp", "tcp"].map(|way| format!("{{ bind = \"{way}:{address}\", advertise = \"{ADVERTISED}\" }}")).into()
}

#[test]
fn a_node_behind_another_address_tells_that_one() {
    let setup = Setup::default().listen(advertised).media(&format!("advertise = \"{ADVERTISED_MEDIA}\""));
    let mut node = setup.start();
    let place = node.place().clone();
    let (mut alice, mut bob) = (Phone::v4(&place, 2, "alice"), Phone::v4(&place, 3, "bob"));
    let sent = alice.sip.invite("102", "", &alice.sdp());
    let invite = bob.sip.expect("INVITE");
    let via = header(&invite, HeaderId::Via);
    assert!(via.starts_with(&format!("SIP/2.0/UDP {ADVERTISED};")), "{via}");
    assert_eq!(contact_of(&invite), ADVERTISED);
    bob.sip.respond(&invite, 200, "b", "", &bob.sdp());
    let ok = alice.sip.expect("200 INVITE");
    assert_eq!(contact_of(&ok), ADVERTISED);
    let dialog = Dialog::of_caller(&sent, &ok);
    alice.sip.ack(&dialog, sent.cseq, "");
    bob.sip.expect("ACK");
    // The audio is sent where the router in front of the node would send it on.
    let inside = |described: String| {
        let told = media_address(&described);
        assert_eq!(told.ip(), ADVERTISED_MEDIA.parse::<IpAddr>().expect("an address"), "{described}");
        described.replace(ADVERTISED_MEDIA, &place.ip(NODE).to_string())
    };
    let call = Established {
        caller: dialog,
        callee: Dialog::of_callee(&invite, "b"),
        offer: inside(system_tests::endpoint::body(&invite)),
        answer: inside(system_tests::endpoint::body(&ok)),
    };
    talk(&alice, &bob, &call);
    finish(&mut alice, &mut bob, call);
    both_legs_had_audio(&mut node);
}

#[test]
fn sipp_calls_through_a_node_behind_another_address() {
    let mut node = Setup::default().listen(advertised).start();
    Endpoint::udp(&node, 3, "bob").register();
    let callee = Sipp::callee("answer").value("expect", ADVERTISED).start(&node);
    Sipp::caller("call").start(&node).finish();
    callee.finish();
    node.stop().answered(HungUpBy::Caller);
}
