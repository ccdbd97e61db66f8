//! The checks that every message passes before anything acts on it, and the answer that a bad one gets.

use super::index::{Flaw, Start};
use super::{HeaderId, Message, Method, VIAS_MAX};
use crate::header::lex::number;
use crate::header::{
    Event, HeaderError, MediaType, NameAddr, RAck, ReferTo, ReplacesHdr, SessionExpires, Via,
};
use crate::uri::{Scheme, Uri, UriError};

/// Why a message is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// The status code of the answer: 400, 416, 501 or 505.
    pub status: u16,
    /// The reason phrase of the answer; it names the header.
    pub reason: String,
    /// The header's name, when one is to blame.
    pub header: Option<&'static str>,
    /// There must be no answer: a response, an ACK, or a request without Via.
    pub silent: bool,
}

impl From<HeaderError> for Defect {
    fn from(error: HeaderError) -> Defect {
        Defect { status: 400, reason: error.to_string(), header: Some(error.header), silent: false }
    }
}

impl Defect {
    fn message(status: u16, reason: &str) -> Defect {
        Defect { status, reason: reason.to_owned(), header: None, silent: false }
    }
}

pub(crate) fn validate(msg: &Message) -> Result<(), Defect> {
    check(msg).map_err(|mut defect| {
        defect.silent |=
            !msg.is_request() || msg.method_is(&Method::Ack) || msg.header(HeaderId::Via).is_none();
        defect
    })
}

fn check(msg: &Message) -> Result<(), Defect> {
    match msg.0.flaw {
        None | Some(Flaw::NoEmptyLine) => {}
        Some(Flaw::Version) => return Err(Defect::message(505, "Version Not Supported")),
        Some(Flaw::Status) => return Err(Defect::message(400, "Bad status code")),
        Some(Flaw::HeaderLine) => return Err(Defect::message(400, "Bad header line")),
        Some(Flaw::BareCr) => return Err(Defect::message(400, "CR that ends no line")),
        Some(Flaw::TooManyHeaders) => return Err(Defect::message(400, "Too many headers")),
    }
    check_counts(msg)?;
    check_vias(msg)?;
    msg.from()?;
    msg.to()?;
    check_call_id(msg)?;
    check_cseq(msg)?;
    check_content_length(msg)?;
    if msg.is_request() {
        check_request(msg)?;
    }
    if msg.0.flaw == Some(Flaw::NoEmptyLine) {
        return Err(Defect::message(400, "No empty line after the headers"));
    }
    Ok(())
}

/// Headers that may stand in a message once only, and must not be joined by commas (RFC 3261 section 7.3.1).
const SINGLE: [HeaderId; 21] = [
    HeaderId::From,
    HeaderId::To,
    HeaderId::CallId,
    HeaderId::CSeq,
    HeaderId::MaxForwards,
    HeaderId::ContentLength,
    HeaderId::ContentType,
    HeaderId::Expires,
    HeaderId::MinExpires,
    HeaderId::Event,
    HeaderId::SubscriptionState,
    HeaderId::RSeq,
    HeaderId::RAck,
    HeaderId::SessionExpires,
    HeaderId::MinSe,
    HeaderId::ReferTo,
    HeaderId::ReferredBy,
    HeaderId::Replaces,
    HeaderId::RetryAfter,
    HeaderId::Date,
    HeaderId::Timestamp,
];

const MANDATORY: [HeaderId; 5] =
    [HeaderId::Via, HeaderId::From, HeaderId::To, HeaderId::CallId, HeaderId::CSeq];

const fn bits(ids: &[HeaderId]) -> u128 {
    let mut bits = 0;
    let mut i = 0;
    while i < ids.len() {
        bits |= ids[i].bit();
        i += 1;
    }
    bits
}

fn check_counts(msg: &Message) -> Result<(), Defect> {
    let headers = &msg.0.headers;
    if let Some(missing) = MANDATORY.iter().find(|id| headers.first(**id).is_none()) {
        return Err(HeaderError::new(missing.name(), "missing").into());
    }
    if headers.repeated & const { bits(&SINGLE) } != 0 {
        let double = SINGLE.iter().find(|id| headers.repeated & id.bit() != 0).map_or("", |id| id.name());
        return Err(HeaderError::new(double, "more than one").into());
    }
    Ok(())
}

fn check_vias(msg: &Message) -> Result<(), Defect> {
    let mut count = 0;
    for value in msg.values(HeaderId::Via) {
        // The first one was read already, unless something is wrong with it.
        if count > 0 || msg.0.top_via.is_none() {
            Via::parse(value)?;
        }
        count += 1;
        if count > VIAS_MAX {
            return Err(HeaderError::new("Via", "too many").into());
        }
    }
    match count {
        0 => Err(HeaderError::new("Via", "empty").into()),
        // A response that is not for us: section 8.1.3.3. We never forward responses by their Via.
        2.. if !msg.is_request() => Err(HeaderError::new("Via", "more than one in a response").into()),
        _ => Ok(()),
    }
}

fn check_call_id(msg: &Message) -> Result<(), Defect> {
    let call_id = msg.call_id();
    if call_id.is_empty() || !call_id.iter().all(u8::is_ascii_graphic) {
        return Err(HeaderError::new("Call-ID", "not a word").into());
    }
    Ok(())
}

fn check_cseq(msg: &Message) -> Result<(), Defect> {
    let cseq = msg.cseq()?;
    if let Start::Request { method, .. } = msg.0.start
        && msg.at(method) != cseq.method
    {
        let mut defect = Defect::from(HeaderError::new("CSeq", "another method than the request"));
        // RFC 4475 section 3.1.2.18: 501 for a method that nobody here knows.
        if matches!(msg.method(), Method::Other(_)) {
            defect.status = 501;
        }
        return Err(defect);
    }
    Ok(())
}

fn check_content_length(msg: &Message) -> Result<(), Defect> {
    let Some(value) = msg.header(HeaderId::ContentLength) else { return Ok(()) };
    let fault = |what| Err(HeaderError::new("Content-Length", what).into());
    match number(value) {
        None => fault("not a number"),
        Some(length) if length != msg.0.body.range().len() as u64 => fault("more than there is"),
        Some(_) => Ok(()),
    }
}

fn check_request(msg: &Message) -> Result<(), Defect> {
    check_request_uri(msg)?;
    msg.max_forwards()?;
    if !(msg.method_is(&Method::Register) && msg.contact_is_star()) {
        check_addresses(msg, HeaderId::Contact)?;
    }
    // Few messages have any of these; one walk over the index finds them.
    for entry in msg.0.headers.lines() {
        check_known(entry.id, msg.at(entry.value()))?;
    }
    Ok(())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "other headers are checked by those who use them")]
fn check_known(id: HeaderId, value: &[u8]) -> Result<(), HeaderError> {
    match id {
        HeaderId::ContentType => MediaType::parse(value).map(drop),
        HeaderId::SessionExpires => SessionExpires::parse(value).map(drop),
        HeaderId::MinSe => crate::header::seconds(value, "Min-SE").map(drop),
        HeaderId::RAck => RAck::parse(value).map(drop),
        HeaderId::Replaces => ReplacesHdr::parse(value).map(drop),
        HeaderId::ReferTo => ReferTo::parse(value).map(drop),
        HeaderId::ReferredBy => NameAddr::parse(value, "Referred-By").map(drop),
        HeaderId::Event => Event::parse(value).map(drop),
        HeaderId::Route | HeaderId::RecordRoute | HeaderId::Path => crate::header::Values::new(value)
            .try_for_each(|value| NameAddr::parse(value, id.name()).map(drop)),
        _ => Ok(()),
    }
}

fn check_request_uri(msg: &Message) -> Result<(), Defect> {
    let uri: Result<Uri<'_>, UriError> = msg.uri();
    let uri = uri.map_err(|error| Defect::message(400, &format!("Bad Request-URI: {error}")))?;
    if matches!(uri.scheme, Scheme::Other(_)) {
        return Err(Defect::message(416, "Unsupported URI Scheme"));
    }
    if uri.has_headers() {
        return Err(Defect::message(400, "Bad Request-URI: headers are not allowed"));
    }
    Ok(())
}

fn check_addresses(msg: &Message, id: HeaderId) -> Result<(), Defect> {
    for address in msg.addresses(id) {
        address?;
    }
    Ok(())
}
