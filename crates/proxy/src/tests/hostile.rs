//! Bytes from people who mean ill or know no better: loops, floods, garbage, overload.

use super::world::{PROXY, Phone, SDP, UNIX, World, parse};
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

/// Short requests that nobody's telephone sends, each answered by something longer, as from `from`.
fn short_requests(from: &str) -> Vec<Vec<u8>> {
    let line = |method: &str, to: &str, cseq: &str| {
        format!(
            "{method} sip:a SIP/2.0\r\nv:SIP/2.0/UDP {from};branch=z9hG4bK1;rport\r\nf:<sip:a>;tag=1\r\nt:{to}\r\ni:1\r\nCSeq:1 {cseq}\r\n\r\n"
        )
        .into_bytes()
    };
    let mut stun = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    stun.extend([9; 12]);
    vec![
        line("INVITE", "<sip:a>", "INVITE"),
        line("REGISTER", "<sip:a>", "REGISTER"),
        line("OPTIONS", "<sip:a>", "OPTIONS"),
        line("MESSAGE", "<sip:a>", "MESSAGE"),
        line("DANCE", "<sip:a>", "DANCE"),
        line("BYE", "<sip:a>;tag=1", "BYE"),
        line("CANCEL", "<sip:a>", "CANCEL"),
        line("OPTIONS", "<sip:a>", "one"),
        stun,
    ]
}

/// What comes back when these go out `times` times in one instant: octets sent, received, and beyond nine eighths.
async fn storm(phone: &mut Phone, requests: &[Vec<u8>], times: usize) -> (usize, usize, usize) {
    let (mut sent, mut heard, mut surplus) = (0, 0, 0);
    for _ in 0..times {
        for request in requests {
            sent += request.len();
            phone.send(request.clone());
            // The net is in order, so an answer is that of this request.
            tokio::time::sleep(Duration::from_millis(3)).await;
            let answer = phone.port.try_recv().map_or(0, |(bytes, _)| bytes.len());
            heard += answer;
            surplus += answer.saturating_sub(request.len() + request.len() / 8);
        }
    }
    (sent, heard, surplus)
}

#[tokio::test(start_paused = true)]
async fn forged_requests_bring_no_more_upon_their_victim_than_the_budget() {
    const BURST: usize = 20_000;
    const PER_SECOND: usize = 1000;
    let world = World::with(|config| {
        config.limits.udp_surplus_burst = BURST as u32;
        config.limits.udp_surplus_per_second = PER_SECOND as u32;
    })
    .await;
    // A telephone that lives at the victim's address, for instance behind the same NAT.
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let contact = alice.contact();
    assert_eq!(alice.register(&contact).await.status(), 200);

    let mut victim = world.phone("mallory", "198.51.100.7:7");
    let requests = short_requests("198.51.100.7:7");
    let began = tokio::time::Instant::now();
    let (sent, heard, surplus) = storm(&mut victim, &requests, 500).await;
    let budget = BURST + PER_SECOND * (began.elapsed().as_secs() as usize + 1);
    assert!(surplus <= budget, "{surplus} octets beyond {sent}");
    assert!(surplus > BURST, "the budget is used: {surplus}");
    assert!((heard as f64) < 1.2 * sent as f64, "{heard} octets in answer to {sent}");
    let silent = world.proxy.stats().refused(Cause::Amplification);
    assert!(silent > 1000, "{silent}");

    // Each kind of answer is counted.
    for request in &requests {
        let kind = String::from_utf8_lossy(&request[..4]).into_owned();
        let _ = storm(&mut victim, &requests[..1], 100).await;
        let before = world.proxy.stats().refused(Cause::Amplification);
        let (sent, heard, _) = storm(&mut victim, std::slice::from_ref(request), 100).await;
        let refused = world.proxy.stats().refused(Cause::Amplification) - before;
        assert!(heard < 2 * sent, "{kind}: {heard} octets in answer to {sent}");
        assert!(refused > 0 || heard <= sent + sent / 8, "{kind}: {heard} octets in answer to {sent}");
    }

    // The telephone at the same address notices nothing, nor does a new one that sends what telephones send.
    assert_eq!(alice.register(&contact).await.status(), 200);
    let own = requests[1].clone();
    let own = String::from_utf8(own).unwrap().replace("198.51.100.7:7", "198.51.100.7:5060");
    let (_, heard, surplus) = storm(&mut alice, &[own.into_bytes()], 10).await;
    assert!(heard > 0 && surplus > 0, "who proved to be there is answered in full");
    let mut bob = world.phone("bob", "198.51.100.7:5062");
    let usual = format!("{}User-Agent: {}\r\n", bob.contact(), "Telephone/1.0 ".repeat(12));
    assert_eq!(bob.register(&usual).await.status(), 200);

    // The budget comes back, other addresses have their own.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(storm(&mut victim, &requests[..1], 1).await.1 > 0);
    let mut other = world.phone("mallory", "198.51.100.8:7");
    assert!(storm(&mut other, &short_requests("198.51.100.8:7"), 1).await.2 > 0);
}

#[tokio::test(start_paused = true)]
async fn five_hundred_telephones_behind_one_nat_come_back_at_once() {
    let world = World::new().await;
    let mut phones: Vec<Phone> =
        (0..500).map(|number| world.phone("alice", &format!("198.51.100.7:{}", 10_000 + number))).collect();
    for phone in &mut phones {
        let contact = phone.contact();
        let text = phone.register_text(&contact);
        phone.send(text);
    }
    for phone in &mut phones {
        let challenge = phone.recv().await;
        let credentials = phone.credentials(&challenge, "REGISTER", "sip:users.democlient.com");
        let contact = phone.contact();
        let text = phone.register_text(&format!("{contact}{credentials}"));
        phone.send(text);
        assert!(matches!(phone.recv().await.status(), 200 | 403), "known, though one user has not so many");
    }
    assert_eq!(world.proxy.stats().refused(Cause::Amplification), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_learns_by_udp_that_there_is_a_proxy_and_a_telephone_what_it_can() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let contact = alice.contact();
    for is_known in [false, true] {
        for (method, status) in [("OPTIONS", 200), ("DANCE", 501)] {
            let text = alice.request(method, BOB, &format!("<{BOB}>"), "", "");
            alice.send(text);
            let answer = alice.recv().await;
            assert_eq!(answer.status(), status);
            assert_eq!(answer.header(HeaderId::Allow).is_some(), is_known, "{method}");
            assert_eq!(answer.header(HeaderId::Supported).is_some(), is_known && status == 200, "{method}");
        }
        assert_eq!(alice.register(&contact).await.status(), 200);
    }
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

/// The queue that nobody sees is the kernel's: what waited there too long tells of overload by its time of receipt.
#[tokio::test(start_paused = true)]
async fn new_calls_that_waited_too_long_in_the_kernels_queue_are_refused() {
    let world = World::new().await;
    let (began, start) = (Duration::from_secs(UNIX), tokio::time::Instant::now());
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    // One millisecond is the way through the net.
    let arrival = || began + start.elapsed() + Duration::from_millis(1);
    let limit = world.proxy.shared.config.overload.lag;
    let contact = alice.contact();
    let mut refused = 0;
    for (waited, status) in [
        (None, 407),
        (Some(Duration::ZERO), 407),
        (Some(limit), 407),
        (Some(limit + Duration::from_millis(1)), 503),
        (Some(Duration::from_secs(10)), 503),
        (Some(limit / 2), 407),
    ] {
        world.net.set_received(waited.map(|waited| arrival() - waited));
        let text = alice.request("INVITE", BOB, &format!("<{BOB}>"), &contact, SDP);
        alice.send(text.clone());
        let answer = alice.recv().await;
        assert_eq!(answer.status(), status, "after {waited:?}");
        refused += u64::from(status == 503);
        assert_eq!(world.proxy.stats().refused(Cause::Overload), refused);
        assert_eq!(answer.header(HeaderId::RetryAfter).is_some(), status == 503);
        world.net.set_received(waited.map(|waited| arrival() - waited));
        alice.send(sip::draft::ack_for_failure(&parse(&text), &answer));
        // All else goes on, however late.
        world.net.set_received(waited.map(|waited| arrival() - waited));
        let text = alice.register_text(&contact);
        alice.send(text);
        assert_eq!(alice.recv().await.status(), 401, "after {waited:?}");
    }
    // A clock that was put back makes nothing look old.
    world.net.set_received(Some(arrival() + Duration::from_secs(3600)));
    let text = alice.request("INVITE", BOB, &format!("<{BOB}>"), &contact, SDP);
    alice.send(text);
    assert_eq!(alice.recv().await.status(), 407);
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
