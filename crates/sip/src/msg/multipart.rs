//! Multipart bodies (RFC 2046 section 5.1, RFC 5621 section 3).

use super::{HeaderId, Message};
use crate::header::MediaType;
use crate::header::lex::trim;
use bytes::Bytes;
use memchr::memmem;

/// No multipart body is followed further than this many parts.
pub const PARTS_MAX: usize = 32;
/// How deep multipart bodies inside multipart bodies are searched for a session description.
const DEPTH_MAX: usize = 3;

/// One part of a multipart body.
#[derive(Clone, Debug)]
pub struct Part {
    headers: Bytes,
    body: Bytes,
}

impl Part {
    /// A header of the part, by its long name in any case; trimmed.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut rest: &[u8] = &self.headers;
        while !rest.is_empty() {
            let end = logical_line(rest);
            let line = &rest[..end];
            rest = &rest[end..];
            if let Some(colon) = memchr::memchr(b':', line)
                && trim(&line[..colon]).eq_ignore_ascii_case(name.as_bytes())
            {
                return Some(trim(&line[colon + 1..]));
            }
        }
        None
    }

    /// The part's Content-Type; `None` when missing (then it is `text/plain`, RFC 2046 section 5.1) or malformed.
    pub fn content_type(&self) -> Option<MediaType<'_>> {
        MediaType::parse(self.header("Content-Type")?).ok()
    }

    /// The part's content.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The parts inside, when this part is a multipart body itself.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        split(&self.body, self.content_type())
    }
}

pub(crate) fn parts(msg: &Message) -> impl Iterator<Item = Part> {
    split(&msg.body(), msg.content_type())
}

pub(crate) fn sdp(msg: &Message) -> Option<Bytes> {
    if msg.header(HeaderId::ContentEncoding).is_some_and(|value| !value.eq_ignore_ascii_case(b"identity")) {
        return None;
    }
    let body = msg.body();
    let kind = msg.content_type()?;
    if body.is_empty() {
        None
    } else if kind.is_sdp() {
        Some(body)
    } else if kind.is_multipart() {
        find_sdp(parts(msg), DEPTH_MAX)
    } else {
        None
    }
}

fn find_sdp(parts: impl Iterator<Item = Part>, depth: usize) -> Option<Bytes> {
    for part in parts {
        match part.content_type() {
            Some(kind) if kind.is_sdp() && !part.body.is_empty() => return Some(part.body.clone()),
            Some(kind) if kind.is_multipart() && depth > 1 => {
                // The iterator's type would contain itself without the collecting.
                let inner: Vec<Part> = part.parts().collect();
                if let Some(found) = find_sdp_in(inner, depth - 1) {
                    return Some(found);
                }
            }
            _ => {}
        }
    }
    None
}

fn find_sdp_in(parts: Vec<Part>, depth: usize) -> Option<Bytes> {
    find_sdp(parts.into_iter(), depth)
}

fn split(body: &Bytes, kind: Option<MediaType<'_>>) -> impl Iterator<Item = Part> + use<> {
    let boundary =
        kind.filter(MediaType::is_multipart).and_then(|kind| kind.boundary().map(|b| b.into_owned()));
    let delimiter = boundary.map(|boundary| [b"--", boundary.as_slice()].concat());
    let body = body.clone();
    let mut at = delimiter.as_ref().and_then(|delimiter| next_delimiter(&body, delimiter, 0));
    std::iter::from_fn(move || {
        let delimiter = delimiter.as_ref()?;
        let here = at.take()?;
        if here.last {
            return None;
        }
        let next = next_delimiter(&body, delimiter, here.content);
        let end = next.as_ref().map_or(body.len(), |next| next.line);
        at = next;
        Some(part(body.slice(here.content.min(end)..end)))
    })
    .take(PARTS_MAX)
}

/// A line that separates two parts.
struct Delimiter {
    /// Where its line break begins: it belongs to the delimiter.
    line: usize,
    /// Where the next part begins.
    content: usize,
    /// `--boundary--`
    last: bool,
}

fn next_delimiter(body: &[u8], delimiter: &[u8], from: usize) -> Option<Delimiter> {
    let mut at = from;
    loop {
        let found = at + memmem::find(body.get(at..)?, delimiter)?;
        let after = found + delimiter.len();
        at = after;
        if found > 0 && body[found - 1] != b'\n' {
            continue;
        }
        let end = memchr::memchr(b'\n', &body[after..]).map_or(body.len(), |lf| after + lf + 1);
        let rest = &body[after..end];
        let (last, padding) = rest.strip_prefix(b"--").map_or((false, rest), |padding| (true, padding));
        if !trim(padding).is_empty() {
            continue;
        }
        let line = match &body[from..found] {
            [.., b'\r', b'\n'] => found - 2,
            [.., b'\n'] => found - 1,
            _ => found,
        };
        return Some(Delimiter { line, content: end, last });
    }
}

fn part(whole: Bytes) -> Part {
    let mut at = 0;
    // The headers end at the first empty line, which may come at once.
    while at < whole.len() {
        let end = memchr::memchr(b'\n', &whole[at..]).map_or(whole.len(), |lf| at + lf + 1);
        if trim(&whole[at..end]).is_empty() {
            return Part { headers: whole.slice(..at), body: whole.slice(end..) };
        }
        at = end;
    }
    Part { headers: whole.slice(..at), body: Bytes::new() }
}

/// The length of a header line with its continuation lines.
fn logical_line(text: &[u8]) -> usize {
    let mut end = 0;
    loop {
        end = memchr::memchr(b'\n', &text[end..]).map_or(text.len(), |lf| end + lf + 1);
        if !matches!(text.get(end), Some(b' ' | b'\t')) {
            return end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(content_type: &str, body: &str) -> Message {
        let text = format!(
            "INVITE sip:a@b SIP/2.0\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    #[test]
    fn parts_lose_the_line_break_before_the_delimiter() {
        let m = message(
            "multipart/mixed; boundary=\"x y\"",
            "preamble\r\n--x y  \r\nContent-Type:\r\n application/sdp\r\n\r\nv=0\r\n\r\n--x yz\r\n--x y\r\n\r\nplain\r\n--x y--\r\nepilogue",
        );
        let parts: Vec<Part> = m.parts().collect();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].body(), "v=0\r\n\r\n--x yz");
        assert!(parts[0].content_type().unwrap().is_sdp());
        assert_eq!(
            (parts[1].body().as_ref(), parts[1].content_type().is_none()),
            (b"plain".as_slice(), true)
        );
        assert_eq!(m.sdp().unwrap(), "v=0\r\n\r\n--x yz");
    }

    #[test]
    fn sdp_is_found_inside_nested_parts_and_only_there() {
        let inner = "--i\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--i--\r\n";
        let outer = format!(
            "--o\r\nContent-Type: text/plain\r\n\r\nhi\r\n--o\r\nContent-Type: multipart/alternative;boundary=i\r\n\r\n{inner}\r\n--o--\r\n"
        );
        assert_eq!(message("multipart/mixed;boundary=o", &outer).sdp().unwrap(), "v=0");
        assert_eq!(message("application/sdp", "v=0\r\n").sdp().unwrap(), "v=0\r\n");
        assert_eq!(message("text/plain", "v=0\r\n").sdp(), None);
        assert_eq!(message("application/sdp", "").sdp(), None);
        assert_eq!(message("multipart/mixed", &outer).sdp(), None);
        assert_eq!(message("multipart/mixed;boundary=q", &outer).sdp(), None);
        let encoded = message("application/sdp\r\nContent-Encoding: gzip", "v=0\r\n");
        assert_eq!(encoded.sdp(), None);
    }

    #[test]
    fn odd_multipart_bodies_are_bounded() {
        let many = "--b\r\n\r\nx\r\n".repeat(PARTS_MAX * 2);
        assert_eq!(message("multipart/mixed;boundary=b", &many).parts().count(), PARTS_MAX);
        for body in ["", "--b", "--b--", "--b\r\n", "--b\r\n--b--", "--b\n\n--b\n", "--b\r\nX"] {
            for part in message("multipart/mixed;boundary=b", body).parts() {
                assert!(part.body().len() <= body.len());
            }
        }
    }
}
