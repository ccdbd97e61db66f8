//! How fast `sip` reads a message: one INVITE of about 1 KB, again and again, on this core.

use bytes::Bytes;
use sip::msg::Message;
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

/// What a desk phone sends through one proxy, padded by nothing.
const INVITE: &[u8] = b"INVITE sip:102@users.democlient.com;user=phone SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK776asdhds71.1;received=192.0.2.10;rport=5060\r\n\
    Via: SIP/2.0/UDP 10.0.0.17:5060;branch=z9hG4bKnashds8;rport=49152;received=198.51.100.7\r\n\
    Max-Forwards: 69\r\n\
    Record-Route: <sip:192.0.2.10;lr;ftag=1928301774>\r\n\
    From: \"Alice Allison\" <sip:alice@users.democlient.com>;tag=1928301774\r\n\
    To: <sip:102@users.democlient.com;user=phone>\r\n\
    Call-ID: a84b4c76e66710-3848276298220188511@10.0.0.17\r\n\
    CSeq: 314159 INVITE\r\n\
    Contact: <sip:alice@10.0.0.17:5060;transport=udp>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\"\r\n\
    Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, UPDATE, INFO, PRACK\r\n\
    Supported: replaces, 100rel, timer, outbound, path\r\n\
    Session-Expires: 1800;refresher=uac\r\n\
    Min-SE: 90\r\n\
    User-Agent: Desk Phone 7.2\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 232\r\n\r\n\
    v=0\r\no=- 3990000000 3990000000 IN IP4 10.0.0.17\r\ns=-\r\nc=IN IP4 10.0.0.17\r\nt=0 0\r\n\
    m=audio 16384 RTP/AVP 8 0 9 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:9 G722/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n";

/// Messages a second: with the lines located alone, and with everything validated that RFC 3261 lets a proxy rely on.
pub(crate) fn measure(seconds: u64) -> io::Result<(f64, f64)> {
    let located = rate(seconds, |text| Message::parse(text).is_ok());
    let validated =
        rate(seconds, |text| Message::parse(text).is_ok_and(|message| message.validate().is_ok()));
    located.zip(validated).ok_or_else(|| io::Error::other("the parser refuses the benchmark's INVITE"))
}

fn rate(seconds: u64, read: impl Fn(Bytes) -> bool) -> Option<f64> {
    const SLICE: u64 = 10_000;
    let text = Bytes::from_static(INVITE);
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..SLICE {
            if !read(black_box(text.clone())) {
                return None;
            }
        }
        count += SLICE;
    }
    Some(count as f64 / begin.elapsed().as_secs_f64())
}
