//! Two baresip phones, real codecs and real time: what one plays is what the other hears.

use model::HungUpBy;
use std::process::Command;
use system_tests::PATIENCE;
use system_tests::audio::{heard, melody, read_wav, write_wav};
use system_tests::baresip::Baresip;
use system_tests::node::{Node, carillon};
use system_tests::process::Process;

/// Alice's melody is the shorter one: her phone hangs up at its end.
const ALICE: [u32; 14] = [400, 600, 800, 1000, 1200, 1400, 1600, 1800, 500, 700, 900, 1100, 1300, 1500];
const BOB: [u32; 18] =
    [1850, 1650, 1450, 1250, 1050, 850, 650, 450, 1750, 1550, 1350, 1150, 950, 750, 550, 1900, 1000, 400];
/// Notes of Bob's that are over before Alice hangs up, whatever the phones' buffers hold back.
const BOB_HEARD: usize = 12;
/// A note is nearly all of what is heard while it lasts; the rest is the companding of G.711.
const PURE: f64 = 0.95;

fn melodies_go_both_ways(transport: &str) {
    let mut node = Node::start();
    let bob = Baresip::start(&node, 1, "bob", transport, &melody(&BOB));
    let alice = Baresip::start_calling(&node, 0, "alice", transport, &melody(&ALICE), "102");
    alice.wait_for("Call established: sip:102@users.democlient.com");
    bob.wait_for("Call established: sip:101@users.democlient.com");
    alice.wait_for("terminated (duration");
    bob.wait_for("terminated (duration");
    let (at_alice, at_bob) = (alice.stop(), bob.stop());
    for (notes, sound) in [(&ALICE[..], &at_bob), (&BOB[..BOB_HEARD], &at_alice)] {
        let shares = heard(notes, sound);
        assert!(!shares.is_empty(), "too little was heard: {} samples", sound.len());
        assert!(shares.iter().all(|share| *share > PURE), "{shares:.3?} of {notes:?}");
    }
    let records = node.stop();
    let cdr = records.answered(HungUpBy::Caller);
    for leg in &cdr.legs {
        let media = leg.media.expect("audio went through the relay");
        assert!(media.packets_received > 150 && media.packets_sent > 150, "{cdr:#?}");
        assert!(media.lost == 0 && media.dropped == 0 && media.mos_hundredths > Some(400), "{cdr:#?}");
    }
}

#[test]
fn melodies_go_both_ways_with_udp() {
    melodies_go_both_ways("udp");
}

#[test]
fn melodies_go_both_ways_with_tcp() {
    melodies_go_both_ways("tcp");
}

/// `carillon phone` answers, plays and records; baresip is the other end.
#[test]
fn the_built_in_phone_and_baresip_understand_each_other() {
    let mut node = Node::start();
    let file = |name: &str| node.folder().join(name).display().to_string();
    write_wav(file("bob.wav").as_ref(), &melody(&BOB));
    let server = node.sip().to_string();
    let mut command = Command::new(carillon());
    command.args(["phone", "--user", "bob", "--password", "bob", "--server", &server, "--bind", "127.0.0.1"]);
    command.args(["--answer", "--seconds", "30", "--play", &file("bob.wav"), "--record", &file("heard.wav")]);
    let mut bob = Process::start("carillon phone", &mut command);
    assert!(bob.line_with("registered as bob", PATIENCE).is_some(), "{}", bob.tail(20));
    let alice = Baresip::start_calling(&node, 0, "alice", "udp", &melody(&ALICE), "102");
    alice.wait_for("terminated (duration");
    let ended = bob.ended(PATIENCE);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}; {}", bob.tail(20));
    let at_alice = alice.stop();
    for (notes, sound) in
        [(&ALICE[..], &read_wav(file("heard.wav").as_ref())), (&BOB[..BOB_HEARD], &at_alice)]
    {
        let shares = heard(notes, sound);
        assert!(!shares.is_empty() && shares.iter().all(|share| *share > PURE), "{shares:.3?} of {notes:?}");
    }
    node.stop().answered(HungUpBy::Caller);
}
