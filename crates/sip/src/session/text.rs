//! Header lines that several messages of a session share, and which lines of the user's pass.
//!
//! In: the configuration, the user's lines, a peer's message. Out: lines, text values. Elsewhere: the grammar (`header`).

use super::face::{Rel100, SessionConfig};
use crate::draft::{HeaderText, RequestDraft};
use crate::msg::{HeaderId, Message};
use bytes::Bytes;

/// No text that a peer sends us to keep or pass on (a Reason, a Refer-To) is longer than this; the rest is cut.
const VALUE_MAX: usize = 2048;

/// Characters of a tag for call records.
const TAG_MAX: usize = 32;

/// The value of Supported.
pub(super) fn supported(cfg: &SessionConfig) -> &'static str {
    match cfg.rel100 {
        Rel100::Off => "timer",
        Rel100::Supported | Rel100::Required => "100rel, timer",
    }
}

/// The options of a request's Require that we do not know, as the Unsupported of a 420 lists them (RFC 3261 section 8.2.2.3).
pub(super) fn unsupported(request: &Message, cfg: &SessionConfig) -> Option<String> {
    let mut unknown = String::new();
    for option in request.values(HeaderId::Require).take(32) {
        let known = supported(cfg).split(", ").any(|ours| option.eq_ignore_ascii_case(ours.as_bytes()));
        if !known && let Ok(option) = std::str::from_utf8(option) {
            if !unknown.is_empty() {
                unknown.push_str(", ");
            }
            unknown.push_str(option);
        }
    }
    (!unknown.is_empty()).then_some(unknown)
}

/// What a message of the user's may add: everything but the lines that belong to the dialog, the hop, the body or the
/// extensions that a session runs itself. Contact passes where the user names other places (3xx).
pub(super) fn foreign(lines: &HeaderText, with_contact: bool) -> HeaderText {
    let mut passed = HeaderText::new();
    for (name, value) in lines.lines() {
        let id = HeaderId::from_name(name);
        if let Ok(name) = std::str::from_utf8(name)
            && (!is_ours(id) || (with_contact && id == HeaderId::Contact))
        {
            passed.push(name, value);
        }
    }
    passed
}

fn is_ours(id: HeaderId) -> bool {
    use HeaderId as H;
    let hop = matches!(id, H::Via | H::Route | H::RecordRoute | H::MaxForwards | H::Contact);
    let dialog = matches!(id, H::From | H::To | H::CallId | H::CSeq);
    let body = matches!(id, H::ContentLength | H::ContentType | H::ContentEncoding);
    let abilities = matches!(
        id,
        H::Require | H::ProxyRequire | H::Supported | H::Unsupported | H::Allow | H::UserAgent | H::Server
    );
    let extensions = matches!(id, H::RSeq | H::RAck | H::SessionExpires | H::MinSe);
    let login = matches!(id, H::Authorization | H::ProxyAuthorization | H::AuthenticationInfo);
    hop || dialog || body || abilities || extensions || login
}

/// A header's value as text, cut at a bound; bytes that are no UTF-8 are replaced.
pub(super) fn value(msg: &Message, id: HeaderId) -> Option<String> {
    let value = msg.header(id)?;
    Some(String::from_utf8_lossy(&value[..value.len().min(VALUE_MAX)]).into_owned())
}

/// The tag for call records that a peer's answer brings.
pub(super) fn tag(msg: &Message) -> Option<String> {
    let tag = String::from_utf8_lossy(msg.header_named("X-Tag")?);
    let tag: String = tag.chars().filter(|c| !c.is_control()).take(TAG_MAX).collect();
    (!tag.is_empty()).then_some(tag)
}

/// The body's type, or nothing.
pub(super) fn content_type(msg: &Message) -> String {
    value(msg, HeaderId::ContentType).unwrap_or_default()
}

/// Adds to a refusal for want of something that may be there again soon when that will be (RFC 3261 section 21.5.4).
pub(super) fn say_when(status: u16, mut lines: HeaderText, cfg: &SessionConfig) -> HeaderText {
    if status == 503 && lines.get("Retry-After").is_none() {
        lines.push_fmt("Retry-After", format_args!("{}", cfg.retry_after_secs));
    }
    lines
}

/// The lines of a refusal that tell more than its status.
pub(super) fn telling_lines(response: &Message) -> HeaderText {
    let mut lines = HeaderText::new();
    for id in [HeaderId::RetryAfter, HeaderId::Warning, HeaderId::Reason, HeaderId::ErrorInfo] {
        lines.copy(response, id);
    }
    if (300..400).contains(&response.status()) {
        lines.copy(response, HeaderId::Contact);
    }
    lines
}

/// Gives a request a body of this type; nothing if it is empty.
pub(super) fn attach(draft: &mut RequestDraft, content_type: &str, body: Bytes) {
    if !body.is_empty() {
        draft.headers.push("Content-Type", content_type);
        draft.body = body;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_for_want_of_something_says_when_to_come_again() {
        let cfg = SessionConfig { retry_after_secs: 7, ..SessionConfig::new("<sip:us>") };
        let said = |status, lines| say_when(status, lines, &cfg).as_bytes().to_vec();
        assert_eq!(said(503, HeaderText::new()), b"Retry-After: 7\r\n");
        assert!(said(486, HeaderText::new()).is_empty());
        let mut own = HeaderText::new();
        own.push("Retry-After", "60");
        assert_eq!(said(503, own), b"Retry-After: 60\r\n");
    }
}
