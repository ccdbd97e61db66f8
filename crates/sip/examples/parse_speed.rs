//! How many messages a second one core parses and validates: `cargo run --release -p sip --example parse_speed`.
#![expect(clippy::print_stdout, reason = "the figures are the purpose")]
#![expect(clippy::disallowed_methods, reason = "a stopwatch is not a core")]

use bytes::Bytes;
use sip::draft::{ResponseDraft, serialize_response};
use sip::msg::Message;
use std::hint::black_box;
use std::time::Instant;

fn main() {
    let invite = invite();
    println!("INVITE of {} bytes, {} headers", invite.len(), parse(&invite).all_headers().count());
    measure("parse", || drop(black_box(parse(&invite))));
    measure("parse, validate", || parse(&invite).validate().expect("the message is valid"));
    let message = parse(&invite);
    let mut draft = ResponseDraft { to_tag: Some("8Ks2j1".into()), ..ResponseDraft::new(180) };
    draft.headers.push("Contact", "<sip:192.0.2.1:5060>");
    let source = "192.0.2.77:5060".parse().expect("an address");
    measure("write a 180", || drop(black_box(serialize_response(&message, source, &draft))));
}

fn parse(bytes: &Bytes) -> Message {
    Message::parse(black_box(bytes.clone())).expect("a message")
}

/// The best of many short rounds: what the machine does while nobody else uses it.
fn measure(what: &str, mut step: impl FnMut()) {
    const STEPS: u32 = 1_000;
    let best = (0..1000)
        .map(|_| {
            let start = Instant::now();
            (0..STEPS).for_each(|_| step());
            start.elapsed()
        })
        .min()
        .unwrap_or_default();
    let each = best.as_secs_f64() / f64::from(STEPS);
    println!("{what:16} {:6.0} ns  {:9.0} per second", each * 1e9, 1.0 / each);
}

fn invite() -> Bytes {
    let sdp = "v=0\r\no=- 3747 3747 IN IP4 192.0.2.77\r\ns=call\r\nc=IN IP4 192.0.2.77\r\nt=0 0\r\n\
        m=audio 13012 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=sendrecv\r\n";
    Bytes::from(format!(
        "INVITE sip:102@users.example.com;user=phone SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.77:5060;rport;branch=z9hG4bKPj8fK2ahkGnK5vPl7rdyVt\r\n\
        Max-Forwards: 70\r\n\
        From: \"Alice Example\" <sip:alice@users.example.com>;tag=aN2xQ7pVfK\r\n\
        To: <sip:102@users.example.com>\r\n\
        Contact: <sip:alice@192.0.2.77:5060;ob>;+sip.instance=\"<urn:uuid:00000000-0000-0000-0000-0000deadbeef>\"\r\n\
        Call-ID: Zk3vP8yqjR1mWf0aTn5uGc4bLs7dEx9h\r\n\
        CSeq: 21437 INVITE\r\n\
        Route: <sip:proxy.example.com;transport=udp;lr>\r\n\
        Allow: PRACK, INVITE, ACK, BYE, CANCEL, UPDATE, INFO, SUBSCRIBE, NOTIFY, REFER, MESSAGE, OPTIONS\r\n\
        Supported: replaces, 100rel, timer, norefersub\r\n\
        Session-Expires: 1800\r\n\
        Min-SE: 90\r\n\
        User-Agent: Example Phone 1.2.3\r\n\
        P-Preferred-Identity: \"Alice Example\" <sip:alice@users.example.com>\r\n\
        Privacy: none\r\n\
        Content-Type: application/sdp\r\n\
        Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    ))
}
