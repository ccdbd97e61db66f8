//! Properties of the message layer over random and mutated bytes: nothing panics, nothing is lost, nothing is injected.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use proptest::prelude::*;
use sip::draft::{HeaderText, ResponseDraft, ack_for_failure, cancel_for, serialize_response};
use sip::framing::{Frame, Framer};
use sip::header::{AuthParams, MediaType, NameAddr, Reason, ReplacesHdr, RetryAfter, Via};
use sip::msg::{HeaderId, Message, Method};
use sip::stun::binding_response;
use sip::uri::{Uri, UriBuf};
use std::path::PathBuf;
use std::sync::LazyLock;

/// Every message of the RFCs' collections, whole ones and broken ones.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let vectors = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut paths: Vec<PathBuf> = ["rfc4475/messages", "rfc5118/messages"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(vectors.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 61);
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
});

/// Asks a message everything that can be asked.
fn ask_everything(m: &Message) {
    let _ = m.validate();
    let _ =
        (m.is_request(), m.method(), m.status(), m.reason(), m.uri().map(|u| u.to_string()), m.raw().len());
    let _ = (
        m.via(),
        m.from().map(|a| a.to_string()),
        m.to(),
        m.contact(),
        m.call_id(),
        m.cseq(),
        m.max_forwards(),
    );
    let _ = (m.from_tag(), m.to_tag(), m.contact_is_star(), m.contacts().count(), m.vias().count());
    let _ =
        (m.expires(), m.min_expires(), m.rseq(), m.rack(), m.session_expires(), m.min_se(), m.retry_after());
    let _ = (m.replaces(), m.refer_to().map(|r| r.replaces()), m.event(), m.subscription_state());
    let _ = (m.allows(&Method::Bye), m.content_type().and_then(|t| t.boundary()), m.sdp(), format!("{m:?}"));
    for part in m.parts() {
        let _ = (part.content_type(), part.header("Content-Disposition"), part.parts().count());
    }
    for (id, name, value) in m.all_headers() {
        let name = std::str::from_utf8(name).unwrap();
        assert_eq!(HeaderId::from_name(name.as_bytes()), id);
        assert!(m.header_named(name).is_some());
        for value in m.values(id).take(10).chain([value]) {
            let _ = (
                Via::parse(value).map(|v| (v.rport(), v.received(), v.ttl(), v.transaction_branch())),
                Reason::parse(value),
            );
            let _ =
                NameAddr::parse(value, "x").map(|a| (a.display_decoded(), a.q(), a.expires(), a.to_string()));
            let _ = (MediaType::parse(value), RetryAfter::parse(value), ReplacesHdr::parse(value));
            let _ = AuthParams::parse(value, "x").map(|a| (a.iter().count(), a.param("realm")));
            let _ = AuthParams::parse_info(value, "x").map(|a| a.param("nextnonce"));
        }
    }
}

/// An answer to whatever came in is one frame of a stream with one message in it.
fn answer_cleanly(m: &Message) {
    let source = "[2001:db8::1]:5060".parse().unwrap();
    let mut draft = ResponseDraft { to_tag: Some("t".into()), ..ResponseDraft::new(200) };
    draft.headers.copy(m, HeaderId::Subject);
    for bytes in [serialize_response(m, source, &draft), ack_for_failure(m, m), cancel_for(m, Some("SIP"))] {
        let mut framer = Framer::new();
        framer.push(&bytes);
        // A response has no Request-URI to make an ACK with.
        if m.is_request() && !m.request_uri().is_empty() {
            assert_eq!(framer.next(), Ok(Some(Frame::Message(bytes.clone()))));
            assert_eq!(framer.next(), Ok(None));
            assert_eq!(framer.pending(), 0);
            let back = Message::parse(bytes).unwrap();
            assert_eq!(back.body(), "");
            assert!(back.all_headers().count() <= m.all_headers().count() + 6);
        }
    }
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..7u8, any::<u8>());
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), prop::collection::vec(edit, 0..8)).prop_map(
        |(seed, other, edits)| {
            const STRUCTURE: &[u8] = b"\r\n \t:;,<>\"\\%@?=[]\0";
            let mut bytes = seed.get(&SEEDS).clone();
            for (at, to, kind, value) in edits {
                let (at, to) = (at.index(bytes.len().max(1)), to.index(bytes.len().max(1)));
                let (from, end) =
                    (at.min(to).min(bytes.len()), at.max(to).min(bytes.len()).min(at.min(to) + 40));
                match kind {
                    0 if at < bytes.len() => bytes[at] = value,
                    1 if at < bytes.len() => bytes[at] = STRUCTURE[usize::from(value) % STRUCTURE.len()],
                    2 => bytes.insert(at.min(bytes.len()), STRUCTURE[usize::from(value) % STRUCTURE.len()]),
                    3 => drop(bytes.drain(from..end)),
                    4 => {
                        let piece = bytes[from..end].to_vec();
                        bytes.splice(from..from, piece);
                    }
                    5 => bytes.truncate(at),
                    _ => {
                        let donor = other.get(&SEEDS);
                        let cut = to.min(donor.len());
                        bytes.truncate(at);
                        bytes.extend_from_slice(&donor[cut..]);
                    }
                }
            }
            bytes
        },
    )
}

fn uri_text() -> impl Strategy<Value = String> {
    let user = prop_oneof![
        Just(String::new()),
        "[a-zA-Z0-9;?/&=+$,*~()'!._-]{1,12}(:[a-z&=+$,]{0,6})?@",
        "%[0-9A-F]{2}[a-z#]{0,5}@",
    ];
    let host = prop_oneof![
        "[a-z]([a-z0-9-]{0,5}[a-z0-9])?(\\.[a-z]{2,5}){0,2}\\.?",
        "192\\.0\\.2\\.[1-9]",
        Just("[2001:db8::1]".to_owned()),
        Just("[2001:db8:::192.0.2.1]".to_owned()),
        Just("[::ffff:192.0.2.1]".to_owned()),
    ];
    let rest = "(:[1-9][0-9]{0,3})?(;[a-z%4]{1,3}(=[a-zA-Z0-9%5]{1,4})?){0,3}(\\?[A-Za-z]{1,5}=[a-z%20]{0,4}(&b=)?)?";
    let sip = ("sips?|SIP", user, host, rest)
        .prop_map(|(scheme, user, host, rest)| format!("{scheme}:{user}{host}{rest}"));
    prop_oneof![
        8 => sip,
        2 => "tel:\\+?[0-9.()-]{1,10}(;[a-z-]{1,8}=[a-z+0-9]{1,5}){0,2}",
        1 => "[a-z][a-z0-9+.-]{0,6}:[a-zA-Z0-9:/;?=]{1,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(m) = Message::parse(Bytes::copy_from_slice(&bytes)) {
            ask_everything(&m);
        }
        let mut with_start = b"INVITE sip:a@b SIP/2.0\r\n".to_vec();
        with_start.extend_from_slice(&bytes);
        let m = Message::parse(Bytes::from(with_start)).unwrap();
        ask_everything(&m);
        answer_cleanly(&m);
        let _ = Uri::parse(&bytes);
        let _ = binding_response(&bytes, "192.0.2.1:1".parse().unwrap());
    }

    #[test]
    fn mutated_messages_are_survived_and_answered_cleanly(bytes in mutated()) {
        if let Ok(m) = Message::parse(Bytes::from(bytes)) {
            ask_everything(&m);
            answer_cleanly(&m);
        }
    }

    #[test]
    fn headers_keep_their_bytes(bytes in mutated()) {
        let Ok(m) = Message::parse(Bytes::from(bytes)) else { return Ok(()) };
        let mut again = b"X sip:x SIP/2.0\r\n".to_vec();
        for (_, name, value) in m.all_headers() {
            for piece in [name, b": ".as_slice(), value, b"\r\n"] {
                again.extend_from_slice(piece);
            }
        }
        again.extend_from_slice(b"\r\n");
        prop_assume!(again.len() <= sip::flow::MESSAGE_MAX);
        let again = Message::parse(Bytes::from(again)).unwrap();
        prop_assert!(m.all_headers().eq(again.all_headers()));
    }

    #[test]
    fn a_uri_is_written_as_it_was_read(text in uri_text()) {
        if let Ok(uri) = Uri::parse(text.as_bytes()) {
            let written = uri.to_string();
            let again = Uri::parse(written.as_bytes()).unwrap();
            prop_assert!(uri.equivalent(&again), "{text} became {written}");
            prop_assert_eq!((uri.user, uri.password, uri.port), (again.user, again.password, again.port));
            prop_assert!(uri.params().eq(again.params()) && uri.headers().eq(again.headers()));
            prop_assert_eq!(again.to_string(), written);
        }
    }

    #[test]
    fn any_user_and_parameter_fit_into_a_uri(user in ".{0,10}", name in "[a-z]{1,5}", value in ".{1,10}") {
        let uri = UriBuf::sip(&user, "example.com", Some(5060)).unwrap().with_param(&name, Some(&value));
        let view = uri.as_uri();
        prop_assert_eq!(view.user_decoded().unwrap_or_default().into_owned(), user.as_bytes());
        prop_assert_eq!(sip::uri::decode(view.param(&name).flatten().unwrap()).into_owned(), value.as_bytes());
        prop_assert_eq!((view.host.to_string(), view.port), ("example.com".to_owned(), Some(5060)));
    }

    #[test]
    fn header_text_is_one_line_for_each_push(lines in prop::collection::vec((".{0,8}|[A-Z][a-z-]{0,8}", prop::collection::vec(any::<u8>(), 0..30)), 0..6)) {
        let mut text = HeaderText::new();
        for (name, value) in &lines {
            text.push(name, value);
        }
        prop_assert!(text.lines().count() <= lines.len());
        let whole = [b"X sip:x SIP/2.0\r\n", text.as_bytes(), b"\r\n"].concat();
        let m = Message::parse(Bytes::from(whole)).unwrap();
        prop_assert_eq!(m.all_headers().count(), text.lines().count());
        prop_assert_eq!(m.body(), "");
        prop_assert!(m.header(HeaderId::Via).is_none() && m.header(HeaderId::ContentLength).is_none());
    }
}
