//! Finding the parts of a message: start line, header lines, body. One pass, nothing copied.

use super::top_via::TopVia;
use super::{HEADERS_MAX, HeaderId, Message, tag_of};
use crate::flow::MESSAGE_MAX;
use crate::header::lex::{is_space, is_token_byte, number, number_saturating, trim};
use crate::header::{Values, Via};
use bytes::Bytes;
use memchr::{memchr, memchr2, memrchr};
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;

/// Bytes that are no message of ours; there is nothing to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing but line breaks.
    #[error("empty message")]
    Empty,
    /// Longer than [`MESSAGE_MAX`].
    #[error("message longer than {MESSAGE_MAX} bytes")]
    TooLong,
    /// The first line is neither a request line nor a status line of SIP.
    #[error("no SIP start line")]
    NotSip,
}

/// What is wrong with the structure of a message that is one nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Another version than SIP/2.0.
    Version,
    /// The status code is no number from 100 to 699.
    Status,
    /// A header line without a name or colon.
    HeaderLine,
    /// A CR that ends no line.
    BareCr,
    /// More than [`HEADERS_MAX`] lines.
    TooManyHeaders,
    /// The message ends before the empty line.
    NoEmptyLine,
}

/// A place in the buffer. `MESSAGE_MAX` fits easily.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    #[inline]
    fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, end: end as u32 }
    }

    /// The place of `part` in the text that it is a slice of.
    pub(crate) fn of(part: &[u8], text: &[u8]) -> Span {
        let start = part.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
        debug_assert!(start + part.len() <= text.len(), "not a slice of the text");
        Span::new(start, start + part.len())
    }

    #[inline]
    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Start {
    Request { method: Span, uri: Span },
    Response { status: u16, reason: Span },
}

/// One header line, in 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    name_start: u32,
    value_start: u32,
    value_end: u32,
    name_len: u16,
    pub(crate) id: HeaderId,
}

impl Entry {
    pub(crate) fn name(self) -> Span {
        Span { start: self.name_start, end: self.name_start + u32::from(self.name_len) }
    }

    #[inline]
    pub(crate) fn value(self) -> Span {
        Span { start: self.value_start, end: self.value_end }
    }
}

/// So many header lines need no allocation of their own: few telephones send more.
const LINES_USUAL: usize = 20;

/// What a message consists of.
pub(crate) struct Index {
    pub(crate) buf: Bytes,
    pub(crate) start: Start,
    pub(crate) headers: Headers,
    pub(crate) body: Span,
    /// The first thing found wrong with the structure; [`Message::validate`] reports it.
    pub(crate) flaw: Option<Flaw>,
    /// The first value of the first Via line; `None` when that is no Via.
    pub(crate) top_via: Option<TopVia>,
    pub(crate) from_tag: Option<Span>,
    pub(crate) to_tag: Option<Span>,
}

/// The header lines in order.
pub(crate) struct Headers {
    lines: SmallVec<[Entry; LINES_USUAL]>,
    /// For each header, the number of its first line, counted from 1; 0 when there is none.
    first: [u16; HeaderId::Other as usize + 1],
    /// The headers that have more than one line, a bit for each.
    pub(crate) repeated: u128,
}

impl Headers {
    fn new() -> Headers {
        Headers { lines: SmallVec::new(), first: [0; HeaderId::Other as usize + 1], repeated: 0 }
    }

    #[inline]
    fn push(&mut self, entry: Entry) {
        self.lines.push(entry);
        let first = &mut self.first[entry.id as usize];
        if *first == 0 {
            *first = self.lines.len() as u16;
        } else {
            self.repeated |= entry.id.bit();
        }
    }

    /// Every line.
    pub(crate) fn lines(&self) -> &[Entry] {
        &self.lines
    }

    /// The first line of a header.
    #[inline]
    pub(crate) fn first(&self, id: HeaderId) -> Option<Entry> {
        self.of(id).first().copied()
    }

    /// The lines from the first to the last one of a header, with other headers' in between.
    #[inline]
    pub(crate) fn of(&self, id: HeaderId) -> &[Entry] {
        let Some(first) = usize::from(self.first[id as usize]).checked_sub(1) else { return &[] };
        let end = if self.repeated & id.bit() != 0 { self.lines.len() } else { first + 1 };
        &self.lines[first..end]
    }
}

pub(crate) fn parse(buf: Bytes) -> Result<Message, ParseError> {
    if buf.len() > MESSAGE_MAX {
        return Err(ParseError::TooLong);
    }
    let text: &[u8] = &buf;
    // RFC 3261 section 7.5: line breaks before the start line are ignored.
    let begin = text.iter().position(|c| !matches!(c, b'\r' | b'\n')).ok_or(ParseError::Empty)?;
    let mut flaw = None;
    let (line_end, mut at) = line_end(text, begin);
    let start = start_line(text, begin, line_end, &mut flaw)?;
    if memchr(b'\r', &text[begin..line_end]).is_some() {
        flaw = flaw.or(Some(Flaw::BareCr));
    }

    let mut headers = Headers::new();
    loop {
        match &text[at..] {
            [] => {
                flaw = flaw.or(Some(Flaw::NoEmptyLine));
                break;
            }
            [b'\n', ..] => {
                at += 1;
                break;
            }
            [b'\r', b'\n', ..] => {
                at += 2;
                break;
            }
            _ => {}
        }
        if headers.lines.len() == HEADERS_MAX {
            flaw = flaw.or(Some(Flaw::TooManyHeaders));
            // Where the body begins is unknown now; none is better than a wrong one.
            at = text.len();
            break;
        }
        at = match header_line(text, at, &mut flaw) {
            Ok((entry, next)) => {
                headers.push(entry);
                next
            }
            Err(next) => {
                flaw = flaw.or(Some(Flaw::HeaderLine));
                next
            }
        };
    }

    let mut end = text.len();
    if let Some(entry) = headers.first(HeaderId::ContentLength)
        && let Some(length) = number(&text[entry.value().range()])
    {
        end = usize::try_from(length)
            .ok()
            .and_then(|length| at.checked_add(length))
            .map_or(end, |e| e.min(end));
    }
    let top = headers.first(HeaderId::Via).and_then(|line| Values::new(&text[line.value().range()]).next());
    let top_via = top.and_then(|top| Via::parse(top).ok()).map(|via| TopVia::of(&via, text));
    let tag = |id| {
        let value = &text[headers.first(id)?.value().range()];
        tag_of(value, id.name()).map(|tag| Span::of(tag, text))
    };
    let (from_tag, to_tag) = (tag(HeaderId::From), tag(HeaderId::To));
    let body = Span::new(at, end);
    Ok(Message(Arc::new(Index { buf, start, headers, body, flaw, top_via, from_tag, to_tag })))
}

/// The Content-Length in the head of a message (start line, headers, empty line); `None` when it is missing, no number,
/// or said twice with different values. On a stream nobody knows then where the message ends (RFC 4475 section 3.3.9).
pub(crate) fn content_length(head: &[u8]) -> Option<usize> {
    let (_, mut at) = line_end(head, 0);
    let mut found = None;
    while at < head.len() && !matches!(head[at], b'\r' | b'\n') {
        at = match header_line(head, at, &mut None) {
            Ok((entry, next)) => {
                if entry.id == HeaderId::ContentLength {
                    // What does not fit is too long in any case.
                    let value = &head[entry.value().range()];
                    let length = number(value).or_else(|| number_saturating(value).map(u64::from))?;
                    if found.is_some_and(|other| other != length) {
                        return None;
                    }
                    found = Some(length);
                }
                next
            }
            Err(next) => next,
        };
    }
    found.map(|length| usize::try_from(length).unwrap_or(usize::MAX))
}

/// The end of the line's text and the start of the next line. A lone LF ends a line too: it cannot be meant as
/// anything else, and old senders use it.
#[inline]
fn line_end(text: &[u8], from: usize) -> (usize, usize) {
    match memchr(b'\n', &text[from..]) {
        Some(lf) => {
            let lf = from + lf;
            (if lf > from && text[lf - 1] == b'\r' { lf - 1 } else { lf }, lf + 1)
        }
        None => (text.len(), text.len()),
    }
}

fn start_line(text: &[u8], from: usize, to: usize, flaw: &mut Option<Flaw>) -> Result<Start, ParseError> {
    let line = &text[from..to];
    if is_sip_version(line) {
        let (version, rest) = line.split_at(memchr(b' ', line).unwrap_or(line.len()));
        let code_start = from + version.len() + usize::from(!rest.is_empty());
        let code_end = memchr(b' ', &text[code_start..to]).map_or(to, |space| code_start + space);
        let reason = Span::new((code_end + 1).min(to), to);
        let code = &text[code_start..code_end];
        let status = number(code)
            .and_then(|n| u16::try_from(n).ok())
            .filter(|n| code.len() == 3 && (100..=699).contains(n));
        if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            *flaw = Some(Flaw::Version);
        } else if status.is_none() {
            *flaw = Some(Flaw::Status);
        }
        return Ok(Start::Response { status: status.unwrap_or(0), reason });
    }

    let method_len = line.iter().position(|c| !is_token_byte(*c)).unwrap_or(line.len());
    if method_len == 0 || line.get(method_len) != Some(&b' ') {
        return Err(ParseError::NotSip);
    }
    // Spaces too many are harmless: what is in between is unambiguous (RFC 4475 sections 3.1.2.9 and 3.1.2.10).
    let line = trim(line);
    let version_start = memrchr(b' ', line).ok_or(ParseError::NotSip)? + 1;
    let version = &line[version_start..];
    if !is_sip_version(version) {
        return Err(ParseError::NotSip);
    }
    if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        *flaw = Some(Flaw::Version);
    }
    let mut uri = method_len..version_start;
    while uri.start < uri.end && line[uri.start] == b' ' {
        uri.start += 1;
    }
    while uri.start < uri.end && line[uri.end - 1] == b' ' {
        uri.end -= 1;
    }
    Ok(Start::Request {
        method: Span::new(from, from + method_len),
        uri: Span::new(from + uri.start, from + uri.end),
    })
}

fn is_sip_version(text: &[u8]) -> bool {
    text.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"SIP/"))
}

/// One header line with its continuation lines; the start of the next one comes back in any case.
#[inline]
fn header_line(text: &[u8], from: usize, flaw: &mut Option<Flaw>) -> Result<(Entry, usize), usize> {
    let rest = &text[from..];
    let name_end = from + rest.iter().position(|c| !is_token_byte(*c)).unwrap_or(rest.len());
    let mut at = name_end;
    while at < text.len() && matches!(text[at], b' ' | b'\t') {
        at += 1;
    }
    let named = name_end > from && text.get(at) == Some(&b':') && name_end - from <= usize::from(u16::MAX);
    let value_at = if named { at + 1 } else { from };
    let (mut end, next) = value_end(text, value_at, flaw);
    if !named {
        return Err(next);
    }
    let mut start = value_at;
    while start < end && is_space(text[start]) {
        start += 1;
    }
    while end > start && is_space(text[end - 1]) {
        end -= 1;
    }
    let entry = Entry {
        name_start: from as u32,
        value_start: start as u32,
        value_end: end as u32,
        name_len: (name_end - from) as u16,
        id: HeaderId::from_name(&text[from..name_end]),
    };
    Ok((entry, next))
}

/// The end of a value, its folding included (RFC 3261 section 7.3.1), and the start of the next line.
#[inline]
fn value_end(text: &[u8], from: usize, flaw: &mut Option<Flaw>) -> (usize, usize) {
    let mut at = from;
    while let Some(found) = memchr2(b'\r', b'\n', &text[at..]) {
        let end = at + found;
        let next = match text[end..] {
            [b'\n', ..] => end + 1,
            [_, b'\n', ..] => end + 2,
            _ => {
                *flaw = flaw.or(Some(Flaw::BareCr));
                at = end + 1;
                continue;
            }
        };
        if !matches!(text.get(next), Some(b' ' | b'\t')) {
            return (end, next);
        }
        at = next;
    }
    (text.len(), text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Message, ParseError> {
        parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn what_is_no_sip_is_told_apart() {
        for (text, error) in [
            ("", ParseError::Empty),
            ("\r\n\r\n", ParseError::Empty),
            ("GET / HTTP/1.1\r\n\r\n", ParseError::NotSip),
            ("INVITE\r\n\r\n", ParseError::NotSip),
            ("INVITE sip:a@b\r\n\r\n", ParseError::NotSip),
            (" INVITE sip:a@b SIP/2.0\r\n\r\n", ParseError::NotSip),
            ("IN<ITE sip:a@b SIP/2.0\r\n\r\n", ParseError::NotSip),
            ("\u{0}\u{1}\u{2}", ParseError::NotSip),
        ] {
            assert_eq!(parse_text(text).unwrap_err(), error, "{text:?}");
        }
        assert_eq!(parse(Bytes::from(vec![b'x'; MESSAGE_MAX + 1])).unwrap_err(), ParseError::TooLong);
    }

    #[test]
    fn flaws_are_kept_for_the_answer() {
        for (text, flaw) in [
            ("A sip:b SIP/2.0\r\n\r\n", None),
            ("A sip:b SIP/2.0\n\n", None),
            ("\r\n\r\nA sip:b SIP/2.0\r\n\r\n", None),
            ("A  sip:b   sip/2.0  \r\n\r\n", None),
            ("A SIP/2.0\r\n\r\n", None),
            ("A sip:b SIP/3.0\r\n\r\n", Some(Flaw::Version)),
            ("SIP/2.0 20\r\n\r\n", Some(Flaw::Status)),
            ("SIP/2.0 0200 OK\r\n\r\n", Some(Flaw::Status)),
            ("SIP/2.0 700 OK\r\n\r\n", Some(Flaw::Status)),
            ("SIP/2.0\r\n\r\n", Some(Flaw::Status)),
            ("A sip:b SIP/2.0\r\nx\r\n\r\n", Some(Flaw::HeaderLine)),
            ("A sip:b SIP/2.0\r\n x: y\r\n\r\n", Some(Flaw::HeaderLine)),
            ("A sip:b SIP/2.0\r\n: y\r\n\r\n", Some(Flaw::HeaderLine)),
            ("A sip:b SIP/2.0\r\nx: a\rb: c\r\n\r\n", Some(Flaw::BareCr)),
            ("A sip:b\rc SIP/2.0\r\n\r\n", Some(Flaw::BareCr)),
            ("A sip:b SIP/2.0\r\nx: y\r\n", Some(Flaw::NoEmptyLine)),
            ("A sip:b SIP/2.0\r\nx: y", Some(Flaw::NoEmptyLine)),
            ("A sip:b SIP/2.0", Some(Flaw::NoEmptyLine)),
        ] {
            assert_eq!(parse_text(text).unwrap().0.flaw, flaw, "{text:?}");
        }
        let many = format!("A sip:b SIP/2.0\r\n{}\r\n", "x: y\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(parse_text(&many).unwrap().0.flaw, Some(Flaw::TooManyHeaders));
        let most = format!("A sip:b SIP/2.0\r\n{}\r\n", "x: y\r\n".repeat(HEADERS_MAX));
        assert_eq!(parse_text(&most).unwrap().0.flaw, None);
    }

    #[test]
    fn folded_values_keep_their_bytes() {
        let m = parse_text("A sip:b SIP/2.0\r\nS :\r\n one\r\n\ttwo \r\n \r\nTo: x\r\n\r\n").unwrap();
        assert_eq!(m.header(HeaderId::Subject), Some(b"one\r\n\ttwo".as_slice()));
        assert_eq!(m.header(HeaderId::To), Some(b"x".as_slice()));
    }

    #[test]
    fn content_length_cuts_the_body() {
        let body =
            |length: &str| parse_text(&format!("A sip:b SIP/2.0\r\nl: {length}\r\n\r\nabcd")).unwrap().body();
        assert_eq!(body("2"), "ab");
        assert_eq!(body("0"), "");
        assert_eq!(body("9999"), "abcd");
        assert_eq!(body("-1"), "abcd");
        assert_eq!(body("99999999999999999999999"), "abcd");
        assert_eq!(parse_text("A sip:b SIP/2.0\r\n\r\nabcd").unwrap().body(), "abcd");
    }
}
