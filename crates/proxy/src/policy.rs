//! The order of the questions that a request outside of any dialog must answer before anyone works for it.
//!
//! In: a validated request and what this proxy is. Out: a refusal, or which part of the proxy goes on. Pure, so that the
//! order is a table of tests. Elsewhere: who the sender is (`auth`), the answers' way out (`worker`).

use crate::config::Place;
use crate::stats::Cause;
use sip::draft::ResponseDraft;
use sip::header::Via;
use sip::msg::{HeaderId, Message, Method};
use std::net::SocketAddr;

/// The methods that are served here; the value of Allow.
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, INFO, MESSAGE, OPTIONS, REGISTER";
/// The methods within a call. Not REFER: telephones would show a transfer key for a service that is not there.
pub(crate) const CALL_ALLOW: &str = "INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, INFO, MESSAGE, OPTIONS";
/// The extensions of calls and registrations together; the value of Supported.
pub(crate) const SUPPORTED: &str = "100rel, timer, path, outbound";
/// Extensions that a caller may require.
const CALL_EXTENSIONS: [&str; 2] = ["100rel", "timer"];
/// Extensions that a registering client may require (RFC 3327, RFC 5626).
const REGISTER_EXTENSIONS: [&str; 2] = ["path", "outbound"];
/// Option tags that a refusal lists, so that it stays short.
const UNSUPPORTED_MAX: usize = 8;

/// What this proxy is at the moment.
pub(crate) struct Facts<'a> {
    pub(crate) places: &'a [Place],
    /// Where the request came from.
    pub(crate) source: SocketAddr,
    /// Anybody may have forged the source: the answer is to be short. Not asked for INVITE and REGISTER.
    pub(crate) is_stranger: bool,
    pub(crate) draining: bool,
    pub(crate) user_agent: &'a str,
    pub(crate) retry_after_secs: u32,
}

/// Who goes on with a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Answered at once, without state.
    Answer(ResponseDraft, Option<Cause>),
    /// The registrar, after authentication.
    Register,
    /// A new leg, after authentication and admission.
    Invite,
    /// Only authentication: who passes it learns that the method is not served outside of a call.
    Unserved,
}

/// Judges a request that has no To tag of ours.
pub(crate) fn judge(msg: &Message, facts: &Facts<'_>) -> Verdict {
    let method = msg.method();
    if msg.to_tag().is_some() && method != Method::Register {
        // Section 12.2.2. Some telephones repeat the To of the last answer when they refresh their registration.
        return refuse(481, Cause::NoDialog);
    }
    // OPTIONS and REGISTER have arrived; only a call goes on.
    let hops = msg.max_forwards().ok().flatten();
    if hops == Some(0) && !matches!(method, Method::Options | Method::Register) {
        return refuse(483, Cause::Loop); // section 16.3 step 3
    }
    if has_been_here(msg, facts) {
        return refuse(482, Cause::Loop); // section 16.3 step 4; a call that comes back would go round for ever
    }
    if let Some(draft) = unsupported(msg, &method) {
        return Verdict::Answer(draft, Some(Cause::Unsupported));
    }
    match method {
        Method::Options => Verdict::Answer(options(facts), None),
        Method::Register => Verdict::Register,
        Method::Invite if facts.draining => {
            Verdict::Answer(busy(facts.retry_after_secs), Some(Cause::Capacity))
        }
        Method::Invite => Verdict::Invite,
        Method::Message | Method::Subscribe | Method::Publish | Method::Refer | Method::Notify => {
            Verdict::Unserved
        }
        // In a dialog they have their sense, outside they can only be leftovers of one.
        Method::Bye | Method::Prack | Method::Update | Method::Info => refuse(481, Cause::NoDialog),
        // ACK and CANCEL never come here: the transaction layer has them.
        Method::Ack | Method::Cancel => refuse(481, Cause::NoDialog),
        Method::Other(_) => {
            let mut draft = ResponseDraft::new(501);
            if !facts.is_stranger {
                draft.headers.push("Allow", ALLOW);
            }
            Verdict::Answer(draft, Some(Cause::Unsupported))
        }
    }
}

/// 503 with Retry-After.
pub(crate) fn busy(retry_after_secs: u32) -> ResponseDraft {
    let mut draft = ResponseDraft::new(503);
    draft.headers.push_fmt("Retry-After", format_args!("{retry_after_secs}"));
    draft
}

/// 405 for methods that make sense inside a call only.
pub(crate) fn not_allowed() -> ResponseDraft {
    let mut draft = ResponseDraft::new(405);
    draft.headers.push("Allow", ALLOW);
    draft
}

fn refuse(status: u16, cause: Cause) -> Verdict {
    Verdict::Answer(ResponseDraft::new(status), Some(cause))
}

/// Section 11.2: what we would say of capabilities in an INVITE's answer. The headers are a SHOULD, which gives way where
/// a stranger would get more than he sent; he learns all by TCP, or when he has proved who he is.
fn options(facts: &Facts<'_>) -> ResponseDraft {
    let mut draft = if facts.draining { busy(facts.retry_after_secs) } else { ResponseDraft::new(200) };
    if facts.is_stranger {
        return draft;
    }
    draft.headers.push("Allow", ALLOW);
    draft.headers.push("Accept", "application/sdp");
    draft.headers.push("Supported", SUPPORTED);
    if !facts.user_agent.is_empty() {
        draft.headers.push("Server", facts.user_agent);
    }
    draft
}

/// Whether a Via line is one of ours: the request has been through here. A client on this very host has another port.
fn has_been_here(msg: &Message, facts: &Facts<'_>) -> bool {
    // The top Via is the sender's own: in a private network it may have the same address as we have in ours.
    let from_us = facts.places.iter().any(|place| place.local == facts.source);
    let others = msg.values(HeaderId::Via).skip(usize::from(!from_us));
    others.filter_map(|value| Via::parse(value).ok()).any(|via| {
        let port = via.port.unwrap_or(5060);
        facts.places.iter().any(|place| place.port == port && place.is_host(&via.host))
    })
}

/// Section 8.2.2.3, with all that is not understood in Unsupported.
fn unsupported(msg: &Message, method: &Method) -> Option<ResponseDraft> {
    let known: &[&str] = match method {
        Method::Register => &REGISTER_EXTENSIONS,
        Method::Invite => &CALL_EXTENSIONS,
        Method::Ack
        | Method::Bye
        | Method::Cancel
        | Method::Options
        | Method::Prack
        | Method::Update
        | Method::Info
        | Method::Refer
        | Method::Notify
        | Method::Subscribe
        | Method::Message
        | Method::Publish
        | Method::Other(_) => &[],
    };
    let mut draft: Option<ResponseDraft> = None;
    let required = msg.values(HeaderId::Require).chain(msg.values(HeaderId::ProxyRequire));
    let strange = required.filter(|tag| !known.iter().any(|each| each.as_bytes().eq_ignore_ascii_case(tag)));
    for tag in strange.take(UNSUPPORTED_MAX) {
        draft.get_or_insert_with(|| ResponseDraft::new(420)).headers.push("Unsupported", tag);
    }
    draft
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listener;
    use bytes::Bytes;
    use sip::flow::Transport;

    fn places() -> Vec<Place> {
        let listener = Listener::new(Transport::Udp, "192.0.2.1:5060".parse().unwrap());
        let mut named = listener.clone();
        named.advertised = Some("sip.example.com:5080".to_owned());
        vec![Place::new(&listener, listener.bind), Place::new(&named, named.bind)]
    }

    /// The verdict on `METHOD` with more header lines, as text.
    fn verdict(method: &str, more: &str, draining: bool) -> String {
        let mut text = format!(
            "{method} sip:bob@users.example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bKx\r\n\
             From: <sip:alice@users.example.com>;tag=a\r\nCall-ID: 1\r\nCSeq: 1 {method}\r\n"
        );
        text.push_str(more);
        if !more.contains("To:") {
            text.push_str("To: <sip:bob@users.example.com>\r\n");
        }
        text.push_str("\r\n");
        let msg = Message::parse(Bytes::from(text)).unwrap();
        let places = places();
        let facts = Facts {
            places: &places,
            source: ([192, 0, 2, 77], 5060).into(),
            is_stranger: false,
            draining,
            user_agent: "",
            retry_after_secs: 5,
        };
        match judge(&msg, &facts) {
            Verdict::Answer(draft, _) => {
                let unsupported = draft.headers.get("Unsupported").unwrap_or_default();
                format!("{} {}", draft.status, String::from_utf8_lossy(unsupported)).trim().to_owned()
            }
            Verdict::Register => "register".to_owned(),
            Verdict::Invite => "invite".to_owned(),
            Verdict::Unserved => "unserved".to_owned(),
        }
    }

    #[test]
    fn the_order_of_policy_is_a_table() {
        let table = [
            ("INVITE", "", "invite"),
            ("REGISTER", "", "register"),
            ("OPTIONS", "", "200"),
            ("MESSAGE", "", "unserved"),
            ("SUBSCRIBE", "", "unserved"),
            ("PUBLISH", "", "unserved"),
            ("REFER", "", "unserved"),
            ("NOTIFY", "", "unserved"),
            ("BYE", "", "481"),
            ("INFO", "", "481"),
            ("FROB", "", "501"),
            ("INVITE", "To: <sip:bob@x.example>;tag=strange\r\n", "481"),
            ("REGISTER", "To: <sip:bob@x.example>;tag=old\r\n", "register"),
            ("INVITE", "Max-Forwards: 0\r\n", "483"),
            ("INVITE", "Max-Forwards: 1\r\n", "invite"),
            ("OPTIONS", "Max-Forwards: 0\r\n", "200"),
            ("INVITE", "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKy\r\n", "482"),
            ("INVITE", "Via: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bKy\r\n", "invite"),
            ("INVITE", "Via: SIP/2.0/UDP SIP.example.com:5080;branch=z9hG4bKy\r\n", "482"),
            ("INVITE", "Require: timer, 100rel\r\n", "invite"),
            ("INVITE", "Require: frob\r\nProxy-Require: timer\r\n", "420 frob"),
            ("INVITE", "Proxy-Require: sec-agree\r\n", "420 sec-agree"),
            ("REGISTER", "Require: path\r\n", "register"),
            ("REGISTER", "Require: timer\r\n", "420 timer"),
            ("OPTIONS", "Require: frob\r\n", "420 frob"),
        ];
        for (method, more, expected) in table {
            assert_eq!(verdict(method, more, false), expected, "{method} {more}");
        }
    }

    #[test]
    fn a_draining_node_takes_no_calls_but_keeps_registrations() {
        assert_eq!(verdict("INVITE", "", true), "503");
        assert_eq!(verdict("OPTIONS", "", true), "503");
        assert_eq!(verdict("REGISTER", "", true), "register");
    }
}
