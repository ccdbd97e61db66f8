//! Messages being written (RFC 3261 sections 7, 8.1.1 and 8.2.6).
//!
//! In: a method or status, header lines, a body, and the request that is answered. Out: the bytes of one message. No
//! value that is put in can begin a new line. Elsewhere: Via of our own requests (`transaction`), what to say (`dialog`,
//! `session`).

mod phrase;

pub use phrase::reason_phrase;

use crate::header::lex::{is_token, is_token_byte, trim};
use crate::header::{Values, Via};
use crate::msg::{Defect, HeaderId, Message, Method};
use crate::text::{Decimal, push_ip};
use bytes::Bytes;
use memchr::{memchr, memchr3};
use std::fmt::{self, Write as _};
use std::net::SocketAddr;

/// Room that the first line makes: most drafts need no more.
const FIRST_ROOM: usize = 384;

/// Header lines, each `Name: value` with its line break.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderText(Vec<u8>);

impl HeaderText {
    /// No lines.
    pub fn new() -> HeaderText {
        HeaderText::default()
    }

    /// Appends a line. CR, LF and NUL are removed from the value, so that no value becomes two lines. Nothing is
    /// appended when the name is no header name, or is Via or Content-Length, which the message writes itself.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.push_pieces(name, &[value.as_ref()]);
    }

    /// Appends a line whose value is these pieces one behind the other; the same rules.
    pub(crate) fn push_pieces(&mut self, name: &str, value: &[&[u8]]) {
        if is_ours_to_write(name) {
            return;
        }
        self.begin(name);
        let start = self.0.len();
        value.iter().for_each(|piece| self.0.extend_from_slice(piece));
        clean(&mut self.0, start);
        self.0.extend_from_slice(b"\r\n");
    }

    /// Appends a line whose value is formatted in place; the same rules.
    pub fn push_fmt(&mut self, name: &str, value: fmt::Arguments<'_>) {
        if is_ours_to_write(name) {
            return;
        }
        self.begin(name);
        // Writing to a vector cannot fail.
        let _ = CleanWriter(&mut self.0).write_fmt(value);
        self.0.extend_from_slice(b"\r\n");
    }

    fn begin(&mut self, name: &str) {
        if self.0.capacity() == 0 {
            self.0.reserve(FIRST_ROOM);
        }
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
    }

    /// Appends a copy of every line that a message has of this header.
    pub fn copy(&mut self, from: &Message, id: HeaderId) {
        from.lines(id).for_each(|value| self.push(id.name(), value));
    }

    /// Appends whole lines that were checked before, such as those of another `HeaderText`.
    pub fn extend_raw(&mut self, lines: &[u8]) {
        self.0.extend_from_slice(lines);
    }

    /// The first value of a header, by its name in any case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.lines().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Removes every line of a header.
    pub fn remove(&mut self, name: &str) {
        if self.get(name).is_none() {
            return;
        }
        let mut kept = Vec::with_capacity(self.0.len());
        for line in self.0.split_inclusive(|c| *c == b'\n') {
            if !split_line(line).0.eq_ignore_ascii_case(name.as_bytes()) {
                kept.extend_from_slice(line);
            }
        }
        self.0 = kept;
    }

    /// Puts a line in place of all lines that the header had.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.remove(name);
        self.push(name, value);
    }

    /// Name and value of every line in order.
    pub fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.split_inclusive(|c| *c == b'\n').map(split_line)
    }

    /// The lines as they go to the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there are no lines.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for HeaderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

fn is_ours_to_write(name: &str) -> bool {
    // The lengths of the two names and of their compact forms.
    let may_be = matches!(name.len(), 1 | 3 | 14);
    !is_token(name.as_bytes())
        || may_be && matches!(HeaderId::from_name(name.as_bytes()), HeaderId::Via | HeaderId::ContentLength)
}

fn split_line(line: &[u8]) -> (&[u8], &[u8]) {
    let colon = memchr(b':', line).unwrap_or(line.len());
    (trim(&line[..colon]), trim(line.get(colon + 1..).unwrap_or_default()))
}

/// Appends a value without CR, LF and NUL. What was folded becomes one line that way.
fn push_clean(out: &mut Vec<u8>, value: &[u8]) {
    let start = out.len();
    out.extend_from_slice(value);
    clean(out, start);
}

/// Takes CR, LF and NUL out of what was appended from `start` on.
fn clean(out: &mut Vec<u8>, start: usize) {
    if memchr3(b'\r', b'\n', 0, &out[start..]).is_some() {
        let value = out.split_off(start);
        out.extend(value.into_iter().filter(|c| !matches!(c, b'\r' | b'\n' | 0)));
    }
}

struct CleanWriter<'a>(&'a mut Vec<u8>);

impl fmt::Write for CleanWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        push_clean(self.0, text.as_bytes());
        Ok(())
    }
}

/// A request without its Via and Content-Length.
#[derive(Clone, Debug)]
pub struct RequestDraft {
    /// The method.
    pub method: Method,
    /// The Request-URI.
    pub uri: String,
    /// Every other header, in order.
    pub headers: HeaderText,
    /// The body.
    pub body: Bytes,
}

impl RequestDraft {
    /// The whole request; `via` is the value of its only Via.
    pub fn serialize(&self, via: &str) -> Bytes {
        let mut out =
            Vec::with_capacity(128 + self.uri.len() + via.len() + self.headers.0.len() + self.body.len());
        request_line(&mut out, self.method.as_bytes(), self.uri.as_bytes());
        line(&mut out, "Via", via.as_bytes());
        out.extend_from_slice(&self.headers.0);
        finish(out, &self.body)
    }
}

/// A response without what is copied from the request.
#[derive(Clone, Debug)]
pub struct ResponseDraft {
    /// The status code.
    pub status: u16,
    /// The reason phrase; the registered one when `None`.
    pub reason: Option<String>,
    /// The tag for To, used when the request has none there.
    pub to_tag: Option<String>,
    /// The headers that are not copied from the request.
    pub headers: HeaderText,
    /// The body.
    pub body: Bytes,
}

impl ResponseDraft {
    /// A response with no headers of its own and no body.
    pub fn new(status: u16) -> ResponseDraft {
        ResponseDraft { status, reason: None, to_tag: None, headers: HeaderText::new(), body: Bytes::new() }
    }
}

/// The answer that a malformed request gets.
impl From<&Defect> for ResponseDraft {
    fn from(defect: &Defect) -> ResponseDraft {
        ResponseDraft { reason: Some(defect.reason.clone()), ..ResponseDraft::new(defect.status) }
    }
}

/// The whole response (RFC 3261 section 8.2.6): Via lines of the request in order, the top one told where the request
/// came from (section 18.2.1, RFC 3581 section 4); From, To with a tag, Call-ID, CSeq; Record-Route when a dialog may
/// come of it (section 12.1.1); Timestamp in a 100 (section 8.2.6.1). What the request lacks is left out.
pub fn serialize_response(req: &Message, source: SocketAddr, draft: &ResponseDraft) -> Bytes {
    serialize_tagged_response(req, source, draft, draft.to_tag.as_deref())
}

/// The same with this tag for To in place of the draft's own.
pub(crate) fn serialize_tagged_response(
    req: &Message,
    source: SocketAddr,
    draft: &ResponseDraft,
    to_tag: Option<&str>,
) -> Bytes {
    // What is copied is no longer than the request's own head.
    let mut out = Vec::with_capacity(192 + req.head_len() + draft.headers.0.len() + draft.body.len());
    out.extend_from_slice(b"SIP/2.0 ");
    out.extend_from_slice(Decimal::of(draft.status.into()).as_bytes());
    out.push(b' ');
    push_clean(&mut out, draft.reason.as_deref().unwrap_or(reason_phrase(draft.status)).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (at, value) in req.lines(HeaderId::Via).enumerate() {
        match req.top_via().filter(|_| at == 0) {
            Some(via) => top_via(&mut out, &via, value, source),
            None => line(&mut out, "Via", value),
        }
    }
    copy_first(&mut out, req, HeaderId::From);
    if let Some(to) = req.header(HeaderId::To) {
        out.extend_from_slice(b"To: ");
        push_clean(&mut out, to);
        if let Some(tag) = to_tag
            && draft.status != 100
            && req.to_tag().is_none()
        {
            out.extend_from_slice(b";tag=");
            out.extend(tag.bytes().filter(|c| is_token_byte(*c)));
        }
        out.extend_from_slice(b"\r\n");
    }
    copy_first(&mut out, req, HeaderId::CallId);
    copy_first(&mut out, req, HeaderId::CSeq);
    if (101..=299).contains(&draft.status) && makes_dialogs(req) {
        req.lines(HeaderId::RecordRoute).for_each(|value| line(&mut out, "Record-Route", value));
    }
    if draft.status == 100 {
        copy_first(&mut out, req, HeaderId::Timestamp);
    }
    out.extend_from_slice(&draft.headers.0);
    finish(out, &draft.body)
}

fn makes_dialogs(req: &Message) -> bool {
    [Method::Invite, Method::Subscribe, Method::Refer, Method::Notify]
        .iter()
        .any(|method| req.method_is(method))
}

/// The topmost Via with `received` and `rport`. Whatever the sender wrote into these itself is replaced: they say what
/// we saw. `received` is always written when `rport` is (RFC 3581 section 4), else when sent-by differs.
fn top_via(out: &mut Vec<u8>, via: &Via<'_>, value: &[u8], source: SocketAddr) {
    let ip = source.ip().to_canonical();
    let mut asked = false;
    let start = out.len();
    out.extend_from_slice(b"Via: ");
    out.extend_from_slice(via.head());
    for (name, value) in via.params.pairs() {
        let is_rport = name.eq_ignore_ascii_case(b"rport");
        asked |= is_rport;
        if is_rport || name.eq_ignore_ascii_case(b"received") {
            continue;
        }
        out.push(b';');
        out.extend_from_slice(name);
        if let Some(value) = value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    if asked || via.host.ip().map(|host| host.to_canonical()) != Some(ip) {
        out.extend_from_slice(b";received=");
        // RFC 5118 section 4.5: an IPv6 address goes out without brackets here.
        push_ip(out, ip);
    }
    if asked {
        out.extend_from_slice(b";rport=");
        out.extend_from_slice(Decimal::of(source.port().into()).as_bytes());
    }
    let mut hops = Values::new(value);
    hops.next();
    if let Some(others) = hops.rest() {
        out.push(b',');
        out.extend_from_slice(others);
    }
    clean(out, start);
    out.extend_from_slice(b"\r\n");
}

/// The ACK of a failure response (RFC 3261 section 17.1.1.3): top Via, Route, From, Call-ID and CSeq number of the
/// INVITE, To of the response. The ACK of a 2xx is another request and belongs to the dialog.
pub fn ack_for_failure(invite: &Message, response: &Message) -> Bytes {
    let to = response.header(HeaderId::To).or(invite.header(HeaderId::To)).unwrap_or_default();
    let out = same_branch_request(invite, &Method::Ack, to);
    finish(out, &Bytes::new())
}

/// The CANCEL of a pending INVITE (RFC 3261 section 9.1): the same Request-URI, top Via, Route, From, To, Call-ID and
/// CSeq number. `reason` is the value of a Reason header (RFC 3326).
pub fn cancel_for(invite: &Message, reason: Option<&str>) -> Bytes {
    let to = invite.header(HeaderId::To).unwrap_or_default();
    let mut out = same_branch_request(invite, &Method::Cancel, to);
    if let Some(reason) = reason {
        line(&mut out, "Reason", reason.as_bytes());
    }
    finish(out, &Bytes::new())
}

fn same_branch_request(invite: &Message, method: &Method, to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    request_line(&mut out, method.as_bytes(), invite.request_uri());
    line(&mut out, "Via", invite.values(HeaderId::Via).next().unwrap_or_default());
    invite.lines(HeaderId::Route).for_each(|value| line(&mut out, "Route", value));
    line(&mut out, "Max-Forwards", b"70");
    copy_first(&mut out, invite, HeaderId::From);
    line(&mut out, "To", to);
    copy_first(&mut out, invite, HeaderId::CallId);
    let number = invite.cseq().map_or(0, |cseq| cseq.number);
    out.extend_from_slice(b"CSeq: ");
    out.extend_from_slice(Decimal::of(number.into()).as_bytes());
    out.push(b' ');
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"\r\n");
    out
}

fn request_line(out: &mut Vec<u8>, method: &[u8], uri: &[u8]) {
    out.extend_from_slice(method);
    out.push(b' ');
    push_clean(out, uri);
    out.extend_from_slice(b" SIP/2.0\r\n");
}

fn copy_first(out: &mut Vec<u8>, from: &Message, id: HeaderId) {
    if let Some(value) = from.header(id) {
        line(out, id.name(), value);
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    push_clean(out, value);
    out.extend_from_slice(b"\r\n");
}

fn finish(mut out: Vec<u8>, body: &Bytes) -> Bytes {
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(Decimal::of(body.len() as u64).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.replace('\n', "\r\n").as_bytes())).unwrap()
    }

    fn text(bytes: Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap().replace("\r\n", "\n")
    }

    fn invite(via: &str, to: &str) -> Message {
        message(&format!(
            "INVITE sip:bob@example.com SIP/2.0\n{via}\nMax-Forwards: 70\n\
             Record-Route: <sip:p2;lr>,\n <sip:p1;lr>\nRoute: <sip:r1;lr>\nRoute: <sip:r2;lr>\nf: <sip:a@b>;tag=1\nt: {to}\n\
             i: cid\nCSeq: 314 INVITE\nTimestamp: 54\nContent-Length: 0\n\n"
        ))
    }

    #[test]
    fn no_value_becomes_two_lines() {
        let mut h = HeaderText::new();
        h.push("Subject", "a\r\nEvil: yes\0\n\r b");
        h.push_fmt("Reason", format_args!("{}{}", "x\r", "\ny"));
        h.push("Bad Name", "x");
        h.push("Bad\r\nName", "x");
        h.push("", "x");
        h.push("Via", "x");
        h.push("l", "5");
        h.push("content-length", "5");
        assert_eq!(h.as_bytes(), b"Subject: aEvil: yes b\r\nReason: xy\r\n");
        assert_eq!(h.get("SUBJECT"), Some(b"aEvil: yes b".as_slice()));
        h.set("subject", "new");
        assert_eq!(h.as_bytes(), b"Reason: xy\r\nsubject: new\r\n");
        h.remove("Reason");
        assert_eq!(h.lines().collect::<Vec<_>>(), [(b"subject".as_slice(), b"new".as_slice())]);
    }

    #[test]
    fn requests_are_written_whole() {
        let mut headers = HeaderText::new();
        headers.push("Max-Forwards", "70");
        let draft = RequestDraft {
            method: Method::Info,
            uri: "sip:a@b\r\n".into(),
            headers,
            body: Bytes::from_static(b"abc"),
        };
        assert_eq!(
            text(draft.serialize("SIP/2.0/UDP h;branch=z9hG4bK1")),
            "INFO sip:a@b SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\nMax-Forwards: 70\nContent-Length: 3\n\nabc"
        );
    }

    #[test]
    fn responses_copy_what_section_8_2_6_wants() {
        let req = invite(
            "Via: SIP / 2.0 / UDP\n  10.0.0.1:5070 ;branch=z9hG4bK1;rport ;received=9.9.9.9, SIP/2.0/TCP b\nv: SIP/2.0/TCP c",
            "<sip:bob@example.com>",
        );
        let source = "192.0.2.7:40000".parse().unwrap();
        let mut draft = ResponseDraft { to_tag: Some("xyz\r\n".into()), ..ResponseDraft::new(180) };
        draft.headers.push("Contact", "<sip:us>");
        assert_eq!(
            text(serialize_response(&req, source, &draft)),
            "SIP/2.0 180 Ringing\n\
             Via: SIP / 2.0 / UDP  10.0.0.1:5070;branch=z9hG4bK1;received=192.0.2.7;rport=40000, SIP/2.0/TCP b\n\
             Via: SIP/2.0/TCP c\nFrom: <sip:a@b>;tag=1\nTo: <sip:bob@example.com>;tag=xyz\nCall-ID: cid\nCSeq: 314 INVITE\n\
             Record-Route: <sip:p2;lr>, <sip:p1;lr>\nContact: <sip:us>\nContent-Length: 0\n\n"
        );
        let trying = ResponseDraft { to_tag: Some("xyz".into()), ..ResponseDraft::new(100) };
        let trying = text(serialize_response(&req, source, &trying));
        assert!(
            trying.contains("\nTo: <sip:bob@example.com>\n") && trying.contains("\nTimestamp: 54\n"),
            "{trying}"
        );
        assert!(!trying.contains("Record-Route"));
        let failed = ResponseDraft { reason: Some("No\r\nway".into()), ..ResponseDraft::new(404) };
        let failed = text(serialize_response(&req, source, &failed));
        assert!(failed.starts_with("SIP/2.0 404 Noway\n") && !failed.contains("Record-Route"), "{failed}");
    }

    #[test]
    fn received_is_added_when_sent_by_differs() {
        let top = |via: &str, source: &str| {
            let response = serialize_response(
                &invite(via, "sip:b@c;tag=t"),
                source.parse().unwrap(),
                &ResponseDraft::new(200),
            );
            let response = text(response);
            assert!(response.contains("\nTo: sip:b@c;tag=t\n"));
            response.lines().nth(1).unwrap().to_owned()
        };
        assert_eq!(top("Via: SIP/2.0/UDP 192.0.2.1", "192.0.2.1:7"), "Via: SIP/2.0/UDP 192.0.2.1");
        assert_eq!(top("Via: SIP/2.0/UDP 192.0.2.1", "[::ffff:192.0.2.1]:7"), "Via: SIP/2.0/UDP 192.0.2.1");
        assert_eq!(top("Via: SIP/2.0/UDP h.org", "192.0.2.1:7"), "Via: SIP/2.0/UDP h.org;received=192.0.2.1");
        assert_eq!(top("Via: SIP/2.0/UDP [::2]", "[::1]:7"), "Via: SIP/2.0/UDP [::2];received=::1");
        assert_eq!(
            top("Via: SIP/2.0/UDP 192.0.2.1;rport=1", "192.0.2.1:7"),
            "Via: SIP/2.0/UDP 192.0.2.1;received=192.0.2.1;rport=7"
        );
        assert_eq!(top("Via: SIP/2.0/UDP ;;,", "192.0.2.1:7"), "Via: SIP/2.0/UDP ;;,");
    }

    #[test]
    fn ack_and_cancel_repeat_the_invite() {
        let req = invite("Via: SIP/2.0/UDP h;branch=z9hG4bK1", "<sip:bob@example.com>");
        let busy = message("SIP/2.0 486 Busy Here\nTo: <sip:bob@example.com>;tag=9\nCSeq: 314 INVITE\n\n");
        let rest = "Via: SIP/2.0/UDP h;branch=z9hG4bK1\nRoute: <sip:r1;lr>\nRoute: <sip:r2;lr>\nMax-Forwards: 70\nFrom: <sip:a@b>;tag=1\n";
        assert_eq!(
            text(ack_for_failure(&req, &busy)),
            format!(
                "ACK sip:bob@example.com SIP/2.0\n{rest}To: <sip:bob@example.com>;tag=9\nCall-ID: cid\nCSeq: 314 ACK\nContent-Length: 0\n\n"
            )
        );
        assert_eq!(
            text(cancel_for(&req, Some("SIP;cause=200"))),
            format!(
                "CANCEL sip:bob@example.com SIP/2.0\n{rest}To: <sip:bob@example.com>\nCall-ID: cid\nCSeq: 314 CANCEL\nReason: SIP;cause=200\nContent-Length: 0\n\n"
            )
        );
    }

    #[test]
    fn a_defect_answers_with_its_reason() {
        let req = message(
            "INVITE sip:a@b SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\nFrom: <sip:a@b>\nCSeq: 1 INVITE\n\n",
        );
        let defect = req.validate().unwrap_err();
        let response =
            text(serialize_response(&req, "192.0.2.1:7".parse().unwrap(), &ResponseDraft::from(&defect)));
        assert!(response.starts_with("SIP/2.0 400 Bad To: missing\nVia: SIP/2.0/UDP h;"), "{response}");
    }
}
