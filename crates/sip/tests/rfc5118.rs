//! The IPv6 torture messages of RFC 5118, from raw files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use sip::draft::{ResponseDraft, serialize_response};
use sip::msg::{HeaderId, Message};
use std::net::IpAddr;
use std::path::PathBuf;

/// The reason phrase of the 400, for those that get one. Two messages are printed with a Content-Length beyond their
/// body, which is the case of RFC 4475 section 3.1.2.2; the corrected ones are in another folder.
const TABLE: [(&str, Option<&str>); 15] = [
    ("messages/ipv6-good", None),
    ("messages/ipv6-bad", Some("Bad Request-URI: bad host in URI")),
    ("messages/port-ambiguous", None),
    ("messages/port-unambiguous", None),
    ("messages/via-received-param-with-delim", None),
    ("messages/via-received-param-no-delim", None),
    ("messages/ipv6-in-sdp", Some("Bad Content-Length: more than there is")),
    ("messages/mult-ip-in-header", None),
    ("messages/mult-ip-in-sdp", None),
    ("messages/ipv4-mapped-ipv6", None),
    ("messages/ipv6-bug-abnf-3-colons", None),
    ("messages/ipv6-correct-abnf-2-colons", None),
    ("messages-cl-fixed/ipv6-in-sdp", None),
    ("messages-cl-fixed/mult-ip-in-sdp", None),
    ("messages-cl-fixed/ipv4-mapped-ipv6", None),
];

fn load(name: &str) -> Message {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/rfc5118");
    let bytes = std::fs::read(folder.join(format!("{name}.sip"))).unwrap();
    Message::parse(Bytes::from(bytes)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn every_message_gets_its_verdict() {
    for (name, refused) in TABLE {
        match (load(name).validate(), refused) {
            (Ok(()), None) => {}
            (Err(defect), Some(reason)) => {
                assert_eq!(
                    (defect.status, defect.reason.as_str(), defect.silent),
                    (400, reason, false),
                    "{name}"
                );
            }
            (got, expected) => panic!("{name}: expected {expected:?}, got {got:?}"),
        }
    }
}

#[test]
fn references_end_at_their_bracket() {
    let good = load("messages/ipv6-good");
    assert_eq!(good.uri().unwrap().host.ip(), ip("2001:db8::10"));
    assert_eq!(good.via().unwrap().host.ip(), ip("2001:db8::9:1"));
    assert_eq!(good.contact().unwrap().unwrap().uri.host.ip(), ip("2001:db8::1"));

    let inside = load("messages/port-ambiguous");
    let uri = inside.uri().unwrap();
    assert_eq!((uri.host.ip(), uri.port), (ip("2001:db8::10:5070"), None));
    let outside = load("messages/port-unambiguous");
    let uri = outside.uri().unwrap();
    assert_eq!((uri.host.ip(), uri.port), (ip("2001:db8::10"), Some(5070)));
}

#[test]
fn received_is_read_with_and_without_brackets_and_written_without() {
    for name in ["messages/via-received-param-with-delim", "messages/via-received-param-no-delim"] {
        let message = load(name);
        assert_eq!(message.via().unwrap().received(), ip("2001:db8::9:255"), "{name}");
        let source = "[2001:db8::9:255]:5060".parse().unwrap();
        let answer = Message::parse(serialize_response(&message, source, &ResponseDraft::new(200))).unwrap();
        let via = answer.header(HeaderId::Via).unwrap();
        assert!(via.ends_with(b";received=2001:db8::9:255"), "{}", String::from_utf8_lossy(via));
    }
}

#[test]
fn addresses_of_both_families_mix() {
    let message = load("messages/mult-ip-in-header");
    let hops: Vec<_> =
        message.vias().map(|v| v.map(|v| (v.host.ip(), v.port, v.received())).unwrap()).collect();
    assert_eq!(
        hops,
        [
            (ip("2001:db8::9:1"), Some(6050), None),
            (ip("192.0.2.1"), None, None),
            (ip("2001:db8::9:255"), None, ip("192.0.2.200")),
        ]
    );

    let mapped = load("messages-cl-fixed/ipv4-mapped-ipv6");
    let hops: Vec<_> = mapped.vias().map(|v| v.map(|v| (v.host.ip(), v.port)).unwrap()).collect();
    assert_eq!(hops, [(ip("::ffff:192.0.2.10"), Some(19823)), (ip("::ffff:192.0.2.2"), None)]);
    assert_eq!(mapped.contact().unwrap().unwrap().uri.host.ip(), ip("::ffff:192.0.2.2"));
    for name in ["ipv6-in-sdp", "mult-ip-in-sdp", "ipv4-mapped-ipv6"] {
        let message = load(&format!("messages-cl-fixed/{name}"));
        let sdp = message.sdp().unwrap();
        assert!(sdp.ends_with(b"a=rtpmap:107 H263-1998/90000\r\n"), "{name}");
    }
}

#[test]
fn the_third_colon_is_understood_and_not_repeated() {
    let three = load("messages/ipv6-bug-abnf-3-colons");
    let two = load("messages/ipv6-correct-abnf-2-colons");
    assert_eq!(three.uri().unwrap().host.ip(), ip("2001:db8::192.0.2.1"));
    assert!(three.uri().unwrap().equivalent(&two.uri().unwrap()));
    assert_eq!(three.uri().unwrap().to_string(), "sip:user@[2001:db8::c000:201]");
}
