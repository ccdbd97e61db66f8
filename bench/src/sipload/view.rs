//! What the generator reads of a message: the lines it copies or decides by. Trusts the server under test to write
//! full header names.

use super::CallKey;
use smallvec::SmallVec;
use std::net::SocketAddr;

/// A message, its lines found.
#[derive(Default)]
pub(super) struct View<'a> {
    /// Start line.
    pub(super) start: &'a [u8],
    /// Whole Via lines, top first.
    pub(super) vias: SmallVec<[&'a [u8]; 4]>,
    /// Whole Record-Route lines, top first.
    pub(super) record_routes: SmallVec<[&'a [u8]; 4]>,
    /// Values of WWW-Authenticate and Proxy-Authenticate.
    pub(super) challenges: SmallVec<[&'a [u8]; 2]>,
    /// Whole From line.
    pub(super) from: &'a [u8],
    /// Whole To line.
    pub(super) to: &'a [u8],
    /// Whole Call-ID line.
    pub(super) call_id: &'a [u8],
    /// Whole CSeq line.
    pub(super) cseq: &'a [u8],
    /// Value of Contact.
    pub(super) contact: &'a [u8],
    /// Value of the header by which callees know calls again.
    pub(super) marker: &'a [u8],
    /// What follows the headers.
    pub(super) body: &'a [u8],
}

impl<'a> View<'a> {
    /// Finds the lines; `None` when it is no SIP message.
    pub(super) fn of(message: &'a [u8]) -> Option<View<'a>> {
        let mut view = View::default();
        let mut from = 0;
        for at in memchr::memchr_iter(b'\n', message) {
            let line = message.get(from..at)?.strip_suffix(b"\r")?;
            if from == 0 {
                view.start = line;
            } else if line.is_empty() {
                view.body = message.get(at + 1..)?;
                return Some(view).filter(|view| !view.call_id.is_empty() && !view.cseq.is_empty());
            } else {
                view.header(line);
            }
            from = at + 1;
        }
        None
    }

    fn header(&mut self, line: &'a [u8]) {
        let Some(colon) = memchr::memchr(b':', line) else { return };
        let (name, value) =
            (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
        match name {
            b"Via" => self.vias.push(line),
            b"From" => self.from = line,
            b"To" => self.to = line,
            b"Call-ID" => self.call_id = line,
            b"CSeq" => self.cseq = line,
            b"Contact" => self.contact = value.trim_ascii(),
            b"X-Bench" => self.marker = value.trim_ascii(),
            b"Record-Route" => self.record_routes.push(line),
            b"WWW-Authenticate" | b"Proxy-Authenticate" => self.challenges.push(value.trim_ascii()),
            _ => {}
        }
    }

    /// Status of a response, 0 of a request.
    pub(super) fn status(&self) -> u16 {
        self.start.strip_prefix(b"SIP/2.0 ").and_then(|rest| number(rest.get(..3)?)).unwrap_or(0) as u16
    }

    /// Sequence number and method of CSeq.
    pub(super) fn sequence(&self) -> Option<(u64, &'a [u8])> {
        let value = after(self.cseq, b':').trim_ascii();
        let blank = memchr::memchr(b' ', value)?;
        Some((number(value.get(..blank)?)?, value.get(blank + 1..)?.trim_ascii()))
    }

    /// Where the peer wants its audio: the first media line of its description.
    pub(super) fn audio(&self) -> Option<SocketAddr> {
        let text = std::str::from_utf8(self.body).ok()?;
        let value = |key| text.lines().find_map(|line| line.strip_prefix(key));
        let port = value("m=audio ")?.split(' ').next()?.parse().ok()?;
        Some(SocketAddr::new(value("c=IN IP4 ")?.trim().parse().ok()?, port))
    }

    /// Whether it is inside a dialog.
    pub(super) fn in_dialog(&self) -> bool {
        memchr::memmem::find(after(self.to, b'>'), b";tag=").is_some()
    }

    /// The call that it belongs to: callees are told by a header, callers named it themselves.
    pub(super) fn call(&self) -> Option<CallKey> {
        key(self.marker).or_else(|| {
            let value = after(self.call_id, b':').trim_ascii().strip_prefix(b"c")?;
            key(value.get(..memchr::memchr(b'@', value)?)?)
        })
    }

    /// The URI in the To line, without angle brackets.
    pub(super) fn to_uri(&self) -> &'a [u8] {
        uri(after(self.to, b':'))
    }
}

/// The URI of a name-addr or addr-spec.
pub(super) fn uri(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    let value = memchr::memchr(b'<', value).map_or(value, |at| value.get(at + 1..).unwrap_or_default());
    value.get(..memchr::memchr(b'>', value).unwrap_or(value.len())).unwrap_or_default()
}

/// Reads `AT.GENERATION`.
fn key(text: &[u8]) -> Option<CallKey> {
    let (at, generation) = text.split_at_checked(memchr::memchr(b'.', text)?)?;
    let number = |digits: &[u8]| u32::try_from(number(digits)?).ok();
    Some(CallKey { at: number(at)?, generation: number(generation.get(1..)?)? })
}

/// Where a SIP URI leads, if it names an address and a port.
pub(super) fn address(uri: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(uri).ok()?.strip_prefix("sip:")?;
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    host.split([';', '?']).next()?.parse().ok()
}

/// What stands behind the first `byte`.
pub(super) fn after(text: &[u8], byte: u8) -> &[u8] {
    memchr::memchr(byte, text).and_then(|at| text.get(at + 1..)).unwrap_or_default()
}

/// A decimal number.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_and_taken_apart() {
        let text =
            b"SIP/2.0 200 OK\r\nVia: a\r\nVia: b\r\nFrom: <sip:a@b>;tag=1\r\nTo: \"B\" <sip:b@c>;tag=2\r\n\
                     Call-ID: c1.2@x\r\nCSeq: 17 INVITE\r\nContact: <sip:d@e;x=y>\r\n\r\nbody";
        let view = View::of(text).unwrap();
        assert_eq!((view.status(), view.vias.len(), view.sequence()), (200, 2, Some((17, &b"INVITE"[..]))));
        assert_eq!((view.to_uri(), uri(view.contact)), (&b"sip:b@c"[..], &b"sip:d@e;x=y"[..]));
        assert_eq!(
            (view.call(), view.in_dialog(), view.body),
            (Some(CallKey { at: 1, generation: 2 }), true, &b"body"[..])
        );
        assert!(View::of(b"SIP/2.0 200 OK\r\nCSeq: 1 INVITE").is_none());
    }

    #[test]
    fn a_request_says_which_call_it_is_of_and_where_its_sender_hears() {
        let text = b"INVITE sip:x SIP/2.0\r\nFrom: a\r\nTo: <sip:b@c>\r\nX-Bench: 7.9\r\nCall-ID: 5@x\r\nCSeq: 1 INVITE\r\n\r\n\
                     v=0\r\nc=IN IP4 127.0.0.9\r\nt=0 0\r\nm=audio 4002 RTP/AVP 0\r\n";
        let view = View::of(text).unwrap();
        assert_eq!((view.call(), view.in_dialog()), (Some(CallKey { at: 7, generation: 9 }), false));
        assert_eq!(view.audio(), Some(([127, 0, 0, 9], 4002).into()));
        assert_eq!(address(b"sip:l1-c2@127.0.0.3:5062;transport=udp"), Some(([127, 0, 0, 3], 5062).into()));
        assert_eq!((address(b"sip:b@example.com"), address(b"tel:1")), (None, None));
    }
}
