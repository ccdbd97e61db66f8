//! A message from the network: parsed, checked, asked for every typed view, answered.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sip::draft::{ResponseDraft, ack_for_failure, cancel_for, serialize_response};
use sip::framing::{Frame, Framer};
use sip::header::{AuthParams, MediaType, NameAddr, Reason, ReplacesHdr, RetryAfter, Via};
use sip::msg::{HeaderId, Message, Method};
use sip::uri::Uri;

fuzz_target!(|data: &[u8]| {
    if let Ok(uri) = Uri::parse(data) {
        let written = uri.to_string();
        let again = Uri::parse(written.as_bytes()).expect("a written URI can be read");
        assert!(uri.equivalent(&again), "{written}");
    }
    let Ok(msg) = Message::parse(Bytes::copy_from_slice(data)) else { return };
    let verdict = msg.validate();
    views(&msg);
    if msg.is_request() && !msg.request_uri().is_empty() {
        let draft = match &verdict {
            Ok(()) => ResponseDraft { to_tag: Some("t".into()), ..ResponseDraft::new(200) },
            Err(defect) => ResponseDraft::from(defect),
        };
        let source = "192.0.2.1:5060".parse().expect("an address");
        for bytes in
            [serialize_response(&msg, source, &draft), ack_for_failure(&msg, &msg), cancel_for(&msg, None)]
        {
            let mut framer = Framer::new();
            framer.push(&bytes);
            assert_eq!(framer.next(), Ok(Some(Frame::Message(bytes))));
            assert_eq!(framer.next(), Ok(None));
        }
    }
});

fn views(msg: &Message) {
    let _ = (
        msg.method(),
        msg.uri().map(|u| u.to_string()),
        msg.via(),
        msg.from(),
        msg.to(),
        msg.contact(),
        msg.cseq(),
    );
    let _ = (msg.max_forwards(), msg.expires(), msg.rseq(), msg.rack(), msg.session_expires(), msg.min_se());
    let _ = (msg.retry_after(), msg.replaces(), msg.refer_to().map(|r| r.replaces()), msg.event());
    let _ = (
        msg.subscription_state(),
        msg.allows(&Method::Bye),
        msg.has_option(HeaderId::Supported, "timer"),
        msg.sdp(),
    );
    for part in msg.parts() {
        let _ = (part.content_type(), part.parts().count());
    }
    for (id, _, line) in msg.all_headers() {
        for value in msg.values(id).take(8).chain([line]) {
            let _ = Via::parse(value).map(|v| (v.rport(), v.received(), v.ttl()));
            let _ =
                NameAddr::parse(value, "x").map(|a| (a.display_decoded(), a.q(), a.expires(), a.to_string()));
            let _ = AuthParams::parse(value, "x").map(|a| (a.iter().count(), a.param("realm")));
            let _ = (
                MediaType::parse(value),
                Reason::parse(value),
                RetryAfter::parse(value),
                ReplacesHdr::parse(value),
            );
        }
    }
}
