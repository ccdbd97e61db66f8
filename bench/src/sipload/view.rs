//! What the generator reads of a message: the lines it copies or decides by. Trusts the server under test to write
//! full header names.

use smallvec::SmallVec;

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
        assert!(View::of(b"SIP/2.0 200 OK\r\nCSeq: 1 INVITE").is_none());
    }
}
