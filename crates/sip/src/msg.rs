//! One SIP message, parsed in place over one buffer (RFC 3261 section 7).
//!
//! In: the bytes of exactly one message (datagram, or framed by `framing`). Out: a header index over the same bytes;
//! values are typed on demand (`header`, `uri`), unknown headers are kept byte for byte.
//! Elsewhere: writing messages (`draft`), finding a message's end in a stream (`framing`).

mod header_id;
mod index;
mod method;
mod multipart;
mod top_via;
mod validate;

pub use header_id::HeaderId;
pub use index::ParseError;
pub(crate) use index::content_length;
pub use method::Method;
pub use multipart::{PARTS_MAX, Part};
pub use validate::Defect;

use crate::header::lex::{is_token_byte, number, number_saturating};
use crate::header::{
    CSeq, Event, HeaderError, MediaType, NameAddr, RAck, ReferTo, ReplacesHdr, RetryAfter, SessionExpires,
    SubscriptionState, Values, Via,
};
use crate::uri::{Uri, UriError};
use bytes::Bytes;
use index::{Index, Span, Start};
use memchr::memchr;
use std::fmt;
use std::sync::Arc;

/// No message may have more header lines than this.
pub const HEADERS_MAX: usize = 256;
/// No message may have come over more hops than this: one for each step of the usual Max-Forwards.
pub const VIAS_MAX: usize = 70;

/// A parsed message: the bytes it came in, and where in them its start line, headers and body are. A clone shares both.
#[derive(Clone)]
pub struct Message(Arc<Index>);

impl Message {
    /// Finds the parts of one whole message. In a datagram, what follows behind Content-Length is no part of it (RFC
    /// 3261 section 18.3), and without Content-Length all the rest is the body. Flaws that can still be answered are
    /// not errors here: [`Message::validate`] finds them.
    ///
    /// # Errors
    /// When there is no telling what this is: no start line of SIP, or longer than [`crate::flow::MESSAGE_MAX`].
    /// Such bytes are dropped without an answer.
    pub fn parse(buf: Bytes) -> Result<Message, ParseError> {
        index::parse(buf)
    }

    /// Checks all that the layers above rely on; to be called once, before anything else is asked.
    ///
    /// # Errors
    /// What is wrong, with the answer it deserves.
    pub fn validate(&self) -> Result<(), Defect> {
        validate::validate(self)
    }

    /// Whether this is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.0.start, Start::Request { .. })
    }

    /// The method: of the request line, or of CSeq for a response.
    pub fn method(&self) -> Method {
        let name = self.method_bytes();
        Method::known(name).unwrap_or_else(|| Method::Other(self.0.buf.slice_ref(name)))
    }

    /// Compares the method.
    pub fn method_is(&self, method: &Method) -> bool {
        self.method_bytes() == method.as_bytes()
    }

    /// The method's bytes; empty for a response without a readable CSeq.
    pub fn method_bytes(&self) -> &[u8] {
        match &self.0.start {
            Start::Request { method, .. } => self.at(*method),
            Start::Response { .. } => self.cseq().map(|cseq| cseq.method).unwrap_or_default(),
        }
    }

    /// The Request-URI as written; empty for a response.
    pub fn request_uri(&self) -> &[u8] {
        match &self.0.start {
            Start::Request { uri, .. } => self.at(*uri),
            Start::Response { .. } => &[],
        }
    }

    /// The Request-URI.
    ///
    /// # Errors
    /// When it is malformed, or this is a response.
    pub fn uri(&self) -> Result<Uri<'_>, UriError> {
        Uri::parse(self.request_uri())
    }

    /// The status code; 0 for a request (and for a response whose code is none, which `validate` refuses).
    pub fn status(&self) -> u16 {
        match self.0.start {
            Start::Request { .. } => 0,
            Start::Response { status, .. } => status,
        }
    }

    /// The reason phrase as written; empty for a request.
    pub fn reason(&self) -> &[u8] {
        match &self.0.start {
            Start::Request { .. } => &[],
            Start::Response { reason, .. } => self.at(*reason),
        }
    }

    /// The value of a header's first line, trimmed. One that was folded still has its line breaks; the typed parsers
    /// take them for the white space they are.
    pub fn header(&self, id: HeaderId) -> Option<&[u8]> {
        self.0.headers.first(id).map(|h| self.at(h.value()))
    }

    /// The values of all lines of a header, in order.
    pub fn lines(&self, id: HeaderId) -> impl Iterator<Item = &[u8]> {
        self.0.headers.of(id).iter().filter(move |h| h.id == id).map(|h| self.at(h.value()))
    }

    /// The comma-separated values of all lines of a header, in order. For headers whose grammar is a list; quoted
    /// strings and angle brackets are respected.
    pub fn values(&self, id: HeaderId) -> impl Iterator<Item = &[u8]> {
        self.lines(id).flat_map(Values::new)
    }

    /// The value of any header by name, whatever its case. A name that we know also finds the header's other form
    /// (compact or long).
    pub fn header_named(&self, name: &str) -> Option<&[u8]> {
        let id = HeaderId::from_name(name.as_bytes());
        if id != HeaderId::Other {
            return self.header(id);
        }
        self.all_headers()
            .find(|(_, n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, _, value)| value)
    }

    /// Every header line in order: id, name and value as written.
    pub fn all_headers(&self) -> impl Iterator<Item = (HeaderId, &[u8], &[u8])> {
        self.0.headers.lines().iter().map(|h| (h.id, self.at(h.name()), self.at(h.value())))
    }

    /// The body, sharing the message's buffer.
    pub fn body(&self) -> Bytes {
        self.0.buf.slice(self.0.body.range())
    }

    /// All bytes as they came in, including any behind the body.
    pub fn raw(&self) -> &Bytes {
        &self.0.buf
    }

    /// The topmost Via.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn via(&self) -> Result<Via<'_>, HeaderError> {
        match self.top_via() {
            Some(via) => Ok(via),
            None => self.vias().next().unwrap_or(Err(HeaderError::new("Via", "missing"))),
        }
    }

    /// The first value of the first Via line, which was read when the message was; `None` when that is no Via.
    pub(crate) fn top_via(&self) -> Option<Via<'_>> {
        self.0.top_via.as_ref()?.view(&self.0.buf)
    }

    /// All hops from the top.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'_>, HeaderError>> {
        self.values(HeaderId::Via).map(Via::parse)
    }

    /// From.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn from(&self) -> Result<NameAddr<'_>, HeaderError> {
        NameAddr::parse(self.required(HeaderId::From)?, "From")
    }

    /// To.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn to(&self) -> Result<NameAddr<'_>, HeaderError> {
        NameAddr::parse(self.required(HeaderId::To)?, "To")
    }

    /// The first Contact.
    ///
    /// # Errors
    /// When it is malformed; `*` counts as that, see [`Message::contact_is_star`].
    pub fn contact(&self) -> Result<Option<NameAddr<'_>>, HeaderError> {
        self.contacts().next().transpose()
    }

    /// All Contact values in order.
    pub fn contacts(&self) -> impl Iterator<Item = Result<NameAddr<'_>, HeaderError>> {
        self.addresses(HeaderId::Contact)
    }

    /// Whether the only Contact is `*` (RFC 3261 section 10.2.2).
    pub fn contact_is_star(&self) -> bool {
        let mut contacts = self.values(HeaderId::Contact);
        contacts.next() == Some(b"*".as_slice()) && contacts.next().is_none()
    }

    /// All values of a header that is a list of addresses: Contact, Route, Record-Route, Path, P-Asserted-Identity, ...
    pub fn addresses(&self, id: HeaderId) -> impl Iterator<Item = Result<NameAddr<'_>, HeaderError>> {
        self.values(id).map(move |value| NameAddr::parse(value, id.name()))
    }

    /// Call-ID; empty when missing.
    pub fn call_id(&self) -> &[u8] {
        self.header(HeaderId::CallId).unwrap_or_default()
    }

    /// CSeq.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn cseq(&self) -> Result<CSeq<'_>, HeaderError> {
        CSeq::parse(self.required(HeaderId::CSeq)?)
    }

    /// The tag of From. Every step needs it: it is read with the message, in the usual forms without parsing the URI.
    pub fn from_tag(&self) -> Option<&[u8]> {
        self.0.from_tag.map(|tag| self.at(tag))
    }

    /// The tag of To, as [`Message::from_tag`].
    pub fn to_tag(&self) -> Option<&[u8]> {
        self.0.to_tag.map(|tag| self.at(tag))
    }

    /// Max-Forwards; `None` when missing, which RFC 2543 allowed.
    ///
    /// # Errors
    /// When it is no number from 0 to 255.
    pub fn max_forwards(&self) -> Result<Option<u8>, HeaderError> {
        self.header(HeaderId::MaxForwards)
            .map(|value| number(value).and_then(|n| u8::try_from(n).ok()))
            .map(|hops| hops.ok_or(HeaderError::new("Max-Forwards", "not a number from 0 to 255")))
            .transpose()
    }

    /// Expires in seconds; too large a value becomes the largest, a malformed one counts as missing (RFC 3261 section
    /// 20.19, RFC 4475 section 3.1.2.4).
    pub fn expires(&self) -> Option<u32> {
        number_saturating(self.header(HeaderId::Expires)?)
    }

    /// Min-Expires in seconds (RFC 3261 section 20.23).
    pub fn min_expires(&self) -> Option<u32> {
        number_saturating(self.header(HeaderId::MinExpires)?)
    }

    /// RSeq (RFC 3262 section 7.1); a malformed one counts as missing.
    pub fn rseq(&self) -> Option<u32> {
        number(self.header(HeaderId::RSeq)?).and_then(|n| u32::try_from(n).ok()).filter(|n| *n != 0)
    }

    /// RAck (RFC 3262 section 7.2).
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn rack(&self) -> Result<RAck<'_>, HeaderError> {
        RAck::parse(self.required(HeaderId::RAck)?)
    }

    /// Session-Expires (RFC 4028 section 4); a malformed one counts as missing.
    pub fn session_expires(&self) -> Option<SessionExpires> {
        SessionExpires::parse(self.header(HeaderId::SessionExpires)?).ok()
    }

    /// Min-SE in seconds (RFC 4028 section 5); a malformed one counts as missing.
    pub fn min_se(&self) -> Option<u32> {
        crate::header::seconds(self.header(HeaderId::MinSe)?, "Min-SE").ok().map(|(secs, _)| secs)
    }

    /// Retry-After (RFC 3261 section 20.33); a malformed one counts as missing.
    pub fn retry_after(&self) -> Option<RetryAfter> {
        RetryAfter::parse(self.header(HeaderId::RetryAfter)?).ok()
    }

    /// Replaces (RFC 3891 section 6.1).
    pub fn replaces(&self) -> Option<Result<ReplacesHdr<'_>, HeaderError>> {
        self.header(HeaderId::Replaces).map(ReplacesHdr::parse)
    }

    /// Refer-To (RFC 3515 section 2.1).
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn refer_to(&self) -> Result<ReferTo<'_>, HeaderError> {
        ReferTo::parse(self.required(HeaderId::ReferTo)?)
    }

    /// Event (RFC 6665 section 8.2.1); a malformed one counts as missing.
    pub fn event(&self) -> Option<Event<'_>> {
        Event::parse(self.header(HeaderId::Event)?).ok()
    }

    /// Subscription-State (RFC 6665 section 8.2.3); a malformed one counts as missing.
    pub fn subscription_state(&self) -> Option<SubscriptionState<'_>> {
        SubscriptionState::parse(self.header(HeaderId::SubscriptionState)?).ok()
    }

    /// Whether a list of option tags (Supported, Require, ...) holds one.
    pub fn has_option(&self, id: HeaderId, tag: &str) -> bool {
        self.values(id).any(|value| value.eq_ignore_ascii_case(tag.as_bytes()))
    }

    /// Whether Allow lists a method. Without Allow nothing is known, and this is `false`.
    pub fn allows(&self, method: &Method) -> bool {
        self.values(HeaderId::Allow).any(|value| value == method.as_bytes())
    }

    /// Content-Type; a malformed one counts as missing.
    pub fn content_type(&self) -> Option<MediaType<'_>> {
        MediaType::parse(self.header(HeaderId::ContentType)?).ok()
    }

    /// The session description: the whole body, or the first such part of a multipart body (RFC 5621 section 3).
    pub fn sdp(&self) -> Option<Bytes> {
        multipart::sdp(self)
    }

    /// The parts of a multipart body, at most [`PARTS_MAX`]; none for another body. A part may be multipart itself.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        multipart::parts(self)
    }

    /// The length of everything before the body.
    pub(crate) fn head_len(&self) -> usize {
        self.0.body.range().start
    }

    fn required(&self, id: HeaderId) -> Result<&[u8], HeaderError> {
        self.header(id).ok_or(HeaderError::new(id.name(), "missing"))
    }

    fn at(&self, span: Span) -> &[u8] {
        &self.0.buf[span.range()]
    }
}

/// The tag of an address.
fn tag_of<'a>(value: &'a [u8], header: &'static str) -> Option<&'a [u8]> {
    match plain_tag(value) {
        Some(tag) => tag,
        None => NameAddr::parse(value, header).ok()?.tag().map(str::as_bytes),
    }
}

/// The tag of `"Display" <uri>;tag=token`, the display name and the tag being optional; `None` when it takes more to tell.
fn plain_tag(value: &[u8]) -> Option<Option<&[u8]>> {
    let mut quotes = 0;
    let mut open = value.iter().enumerate();
    let open = loop {
        match open.next()? {
            (at, b'<') => break at,
            (_, b'\\') => return None,
            (_, b'"') => quotes += 1,
            _ => {}
        }
    };
    // Quotes that open and close once, before the bracket: the bracket is no part of a quoted string.
    if !matches!(quotes, 0 | 2) {
        return None;
    }
    let close = open + memchr(b'>', &value[open..])?;
    let params = &value[close + 1..];
    if params.is_empty() {
        return Some(None);
    }
    let tag = params.strip_prefix(b";tag=")?;
    (!tag.is_empty() && tag.iter().all(|byte| is_token_byte(*byte))).then_some(Some(tag))
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Message");
        match &self.0.start {
            Start::Request { method, uri, .. } => out
                .field("method", &String::from_utf8_lossy(self.at(*method)))
                .field("uri", &String::from_utf8_lossy(self.at(*uri))),
            Start::Response { status, .. } => out.field("status", status),
        };
        out.field("headers", &self.0.headers.lines().len()).field("body", &self.0.body.range().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    const OPTIONS: &str = "OPTIONS sip:bob@example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP a.example.com;branch=z9hG4bK1\r\n\
        v: SIP/2.0/TCP b.example.com;branch=z9hG4bK2 ,\r\n SIP/2.0/UDP c.example.com\r\n\
        From: \"A, B\" <sip:a@example.com>;tag=1\r\n\
        t: <sip:bob@example.com>\r\n\
        i: x@y\r\n\
        CSeq: 7 OPTIONS\r\n\
        Max-Forwards: 70\r\n\
        k: 100rel, timer\r\n\
        Supported:\r\n\
        SUPPORTED: replaces\r\n\
        Allow: INVITE,ACK , BYE\r\n\
        X-Thing:  kept  as is \r\n\
        Expires: 99999999999\r\n\
        Content-Length: 0\r\n\r\n";

    #[test]
    fn headers_are_found_in_all_forms() {
        let m = message(OPTIONS);
        m.validate().unwrap();
        assert!(m.is_request() && m.method_is(&Method::Options) && !m.method_is(&Method::Invite));
        assert_eq!((m.method(), m.status(), m.reason()), (Method::Options, 0, b"".as_slice()));
        assert_eq!(m.uri().unwrap().user, Some("bob"));
        assert_eq!(m.vias().map(|v| v.unwrap().host.to_string()).collect::<Vec<_>>().len(), 3);
        assert_eq!(m.via().unwrap().branch(), Some("z9hG4bK1"));
        assert_eq!(m.from_tag(), Some(b"1".as_slice()));
        assert_eq!(m.to_tag(), None);
        assert_eq!(m.call_id(), b"x@y");
        assert_eq!(m.cseq().unwrap().number, 7);
        assert_eq!(m.max_forwards(), Ok(Some(70)));
        assert!(m.has_option(HeaderId::Supported, "Timer") && m.has_option(HeaderId::Supported, "replaces"));
        assert!(!m.has_option(HeaderId::Supported, "") && !m.has_option(HeaderId::Require, "timer"));
        assert!(m.allows(&Method::Ack) && !m.allows(&Method::Refer));
        assert_eq!(m.header_named("x-thing"), Some(b"kept  as is".as_slice()));
        assert_eq!(m.header_named("CALL-ID"), Some(b"x@y".as_slice()));
        assert_eq!(m.header_named("y"), None);
        assert_eq!(m.expires(), Some(u32::MAX));
        assert_eq!(m.all_headers().count(), 14);
        assert_eq!(m.all_headers().nth(4), Some((HeaderId::CallId, b"i".as_slice(), b"x@y".as_slice())));
    }

    #[test]
    fn responses_take_their_method_from_cseq() {
        let m = message("SIP/2.0 183 Session  Progress\r\nCSeq: 1 FOO\r\n\r\n");
        assert!(!m.is_request());
        assert_eq!((m.status(), m.reason()), (183, b"Session  Progress".as_slice()));
        assert_eq!(m.method(), Method::Other(Bytes::from_static(b"FOO")));
        assert_eq!(m.request_uri(), b"");
        assert!(m.uri().is_err());
        assert_eq!(message("SIP/2.0 100\r\n\r\n").method_bytes(), b"");
    }

    #[test]
    fn tags_that_are_read_the_short_way_are_those_of_the_parser() {
        let mut short = 0;
        for value in [
            "<sip:a@b>;tag=x1",
            "<sip:a@b>",
            "Alice <sip:a@b;transport=tcp>;tag=x.1",
            "\"Alice\" <sip:a@b>;tag=x",
            "\"Al <ice>;tag=no\" <sip:a@b>;tag=x",
            "\"Al \\\"<sip:no@b>;tag=no\\\"\" <sip:a@b>;tag=x",
            "<sip:a@b> ;tag=x",
            "<sip:a@b>; tag = x",
            "<sip:a@b>;TAG=x",
            "<sip:a@b>;other=1;tag=x",
            "<sip:a@b>;other=\";tag=no\"",
            "<sip:a@b>;tag=x;other=1",
            "<sip:a@b;tag=no>",
            "<sip:a@b?x=%3Btag%3Dno>",
            "sip:a@b;tag=x",
            "sip:a@b",
        ] {
            let text = format!("OPTIONS sip:b SIP/2.0\r\nFrom: {value}\r\nTo: {value}\r\n\r\n");
            let msg = Message::parse(text.into()).unwrap();
            let parsed = |address: Result<NameAddr<'_>, HeaderError>| {
                address.ok().and_then(|address| address.tag().map(|tag| tag.as_bytes().to_vec()))
            };
            assert_eq!(msg.from_tag().map(<[u8]>::to_vec), parsed(msg.from()), "{value}");
            assert_eq!(msg.to_tag().map(<[u8]>::to_vec), parsed(msg.to()), "{value}");
            short += u32::from(plain_tag(value.as_bytes()).is_some());
        }
        assert_eq!(short, 6, "the short way is taken");
    }

    #[test]
    fn a_star_contact_stands_alone() {
        assert!(message("REGISTER sip:x SIP/2.0\r\nContact: *\r\n\r\n").contact_is_star());
        assert!(!message("REGISTER sip:x SIP/2.0\r\nContact: *, <sip:a@b>\r\n\r\n").contact_is_star());
        assert!(!message("REGISTER sip:x SIP/2.0\r\n\r\n").contact_is_star());
    }
}
