//! Bytes from people who mean ill or know no better: loops, floods, garbage, overload.

use super::world::{PROXY, SDP, World, parse};
use crate::Cause;
use bytes::Bytes;
use proptest::prelude::*;
use sip::msg::HeaderId;
use std::time::Duration;

const BOB: &str = "sip:102@users.democlient.com";

#[tokio::test(start_paused = true)]
async fn loops_and_spent_hops_are_caught() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let contact = alice.contact();
    let text = alice.request("INVITE", BOB, &format!("<{BOB}>"), &contact, SDP);
    let spent = text.replace("Max-Forwards: 70", "Max-Forwards: 0");
    alice.send(spent);
    assert_eq!(alice.recv().await.status(), 483);
    let looped = text.replace(
        "Max-Forwards: 70",
        &format!("Max-Forwards: 70\r\nVia: SIP/2.0/UDP {PROXY};branch=z9hG4bKold"),
    );
    alice.send(looped);
    let (answer, _) = alice.port.recv().await;
    assert!(answer.starts_with(b"SIP/2.0 482 "));
    assert_eq!(world.proxy.stats().refused(Cause::Loop), 2);
    assert_eq!(world.open_transactions().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_challenge_costs_no_state_and_its_ack_is_swallowed() {
    let mut world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    for _ in 0..20 {
        let contact = alice.contact();
        let text = alice.request("INVITE", BOB, &format!("<{BOB}>"), &contact, SDP);
        alice.send(text.clone());
        let challenge = alice.recv().await;
        assert_eq!(challenge.status(), 407);
        alice.send(sip::draft::ack_for_failure(&parse(&text), &challenge));
    }
    assert!(alice.hears_nothing().await);
    assert_eq!(world.open_transactions().await, 0);
    assert!(world.heard.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_malformed_request_is_told_what_is_wrong_with_it() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let text = alice.register_text("");
    for (good, bad, named) in [
        ("CSeq: 1 REGISTER", "CSeq: one REGISTER", "CSeq"),
        ("Max-Forwards: 70", "Max-Forwards: 700", "Max-Forwards"),
        ("Call-ID: ", "X-Call-ID: ", "Call-ID"),
        ("From: <sip:alice@users.democlient.com>", "From: <sip:alice@users.democlient.com", "From"),
    ] {
        alice.send(text.replace(good, bad));
        let (answer, _) = alice.port.recv().await;
        let first = String::from_utf8_lossy(&answer).lines().next().unwrap().to_owned();
        assert!(first.starts_with("SIP/2.0 400 ") && first.contains(named), "{bad}: {first}");
    }
    // An ACK is never answered, nor is a response.
    let ack = text.replace("REGISTER", "ACK").replace("Max-Forwards: 70", "Max-Forwards: 700");
    alice.send(ack);
    alice.send("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1:5060\r\n\r\n");
    assert!(alice.hears_nothing().await);
    assert_eq!(world.proxy.stats().refused(Cause::Malformed), 6);
}

#[tokio::test(start_paused = true)]
async fn keep_alives_are_served_and_junk_is_not_answered() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let mut stun = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    stun.extend([9; 12]);
    alice.send(stun.clone());
    let (answer, _) = alice.port.recv().await;
    assert_eq!((&answer[..2], &answer[8..20]), (&[1, 1][..], &[9; 12][..]), "a Binding success response");
    for junk in [
        &b"\r\n\r\n"[..],
        b"\0\0\0\0",
        b"\0",
        b"",
        b"hello world",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 1400],
        &[1; 40],
    ] {
        alice.send(Bytes::copy_from_slice(junk));
    }
    assert!(alice.hears_nothing().await);
    assert!(world.proxy.stats().refused(Cause::Junk) >= 4);
}

#[tokio::test(start_paused = true)]
async fn under_overload_new_calls_are_refused_and_all_else_goes_on() {
    let world = World::with(|config| config.overload.queue = 0).await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let contact = alice.contact();
    assert_eq!(alice.register(&contact).await.status(), 200);
    let text = alice.request("INVITE", BOB, &format!("<{BOB}>"), &contact, SDP);
    alice.send(text);
    let answer = alice.recv().await;
    assert_eq!((answer.status(), answer.header(HeaderId::RetryAfter)), (503, Some(&b"5"[..])));
    assert_eq!(world.proxy.stats().refused(Cause::Overload), 1);
    let open = world.open_transactions().await;
    assert!(open <= 1, "the REGISTER at most");
}

#[tokio::test(start_paused = true)]
async fn strange_dialogs_are_unknown() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    for tag in [
        "other",
        "l1000000000001.0123456789abcdef",
        "l1000000000001",
        "l.",
        "lffffffffffffffff.0123456789abcdef",
    ] {
        let to = format!("<{BOB}>;tag={tag}");
        for method in ["BYE", "INVITE"] {
            let contact = alice.contact();
            let text = alice.request(method, BOB, &to, &contact, "");
            alice.send(text);
            assert_eq!(alice.recv().await.status(), 481, "{method} {tag}");
        }
        let ack = alice.request("ACK", BOB, &to, "", "");
        alice.send(ack);
        assert!(alice.hears_nothing().await);
    }
    assert_eq!(world.open_transactions().await, 0);
}

/// A valid message of each kind that the mutations start from.
fn seeds() -> Vec<String> {
    let line = |method: &str, to_tag: &str, lines: &str, body: &str| {
        format!(
            "{method} sip:102@users.democlient.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9:5060;rport;branch=z9hG4bKfuzz\r\n\
             Max-Forwards: 70\r\nFrom: \"A\" <sip:alice@users.democlient.com>;tag=1\r\nTo: <sip:102@users.democlient.com>{to_tag}\r\n\
             Call-ID: fuzz\r\nCSeq: 1 {method}\r\nContact: <sip:alice@198.51.100.9>\r\n{lines}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    vec![
        line("INVITE", "", "Content-Type: application/sdp\r\nSupported: timer, 100rel\r\n", SDP),
        line("REGISTER", "", "Authorization: Digest username=\"alice\", realm=\"users.democlient.com\", nonce=\"x\", uri=\"sip:x\", response=\"00000000000000000000000000000000\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"c\"\r\n", ""),
        line("OPTIONS", "", "Accept: */*\r\n", ""),
        line("BYE", ";tag=l1000000000001.0123456789abcdef", "", ""),
        line("CANCEL", "", "Reason: SIP;cause=200\r\n", ""),
        line("ACK", ";tag=l1000000000001.0123456789abcdef", "", ""),
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK00000000010123456789abcdef\r\nFrom: <sip:a@x.test>;tag=1\r\n\
         To: <sip:b@x.test>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ]
}

/// One change to a message: a byte overwritten, a piece cut out, doubled or replaced by noise.
#[derive(Clone, Debug)]
enum Change {
    Byte(usize, u8),
    Cut(usize, usize),
    Double(usize, usize),
    Noise(usize, Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0usize..2000, any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (0usize..2000, 1usize..200).prop_map(|(at, len)| Change::Cut(at, len)),
        (0usize..2000, 1usize..400).prop_map(|(at, len)| Change::Double(at, len)),
        (0usize..2000, proptest::collection::vec(any::<u8>(), 1..50))
            .prop_map(|(at, noise)| Change::Noise(at, noise)),
    ]
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec(change(), 0..6);
    let message = (0..seeds().len(), changes).prop_map(|(seed, changes)| {
        let mut bytes = seeds()[seed].clone().into_bytes();
        for change in changes {
            let len = bytes.len().max(1);
            match change {
                Change::Byte(at, byte) => bytes.get_mut(at % len).into_iter().for_each(|place| *place = byte),
                Change::Cut(at, count) => drop(bytes.drain(at % len..(at % len + count).min(bytes.len()))),
                Change::Double(at, count) => {
                    let piece = bytes[at % len..(at % len + count).min(bytes.len())].to_vec();
                    bytes.splice(at % len..at % len, piece);
                }
                Change::Noise(at, noise) => {
                    drop(bytes.splice((at % len).min(bytes.len())..bytes.len().min(at % len), noise))
                }
            }
        }
        bytes
    });
    prop_oneof![8 => message, 1 => proptest::collection::vec(any::<u8>(), 0..2000)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_hurt_anyone(datagrams in proptest::collection::vec(mutated(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (panics, open) = runtime.block_on(async {
            let world = World::new().await;
            let stranger = world.phone("mallory", "198.51.100.9:5060");
            let count = datagrams.len();
            for datagram in datagrams {
                stranger.send(datagram);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let open = world.open_transactions().await;
            assert!(open <= count, "no more than was sent");
            // It still serves.
            let mut alice = world.phone("alice", "198.51.100.7:5060");
            let contact = alice.contact();
            assert_eq!(alice.register(&contact).await.status(), 200);
            tokio::time::sleep(Duration::from_secs(120)).await;
            (world.proxy.stats().refused(Cause::Panic), world.open_transactions().await)
        });
        prop_assert_eq!((panics, open), (0, 0));
    }
}
