//! What the log shows of a SIP message: its first line, and no secret in it.
//!
//! In: a message from the wire or for it. Out: text of bounded length that stays on one line. Headers and bodies, where
//! credentials and session descriptions stand, never get here.

use std::fmt;

/// More of a line tells nothing.
const LENGTH_MAX: usize = 200;

/// Shows the first line of a message.
pub(super) struct FirstLine<'a>(pub(super) &'a [u8]);

impl fmt::Display for FirstLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(self.0.len());
        let line = &self.0[..end.min(LENGTH_MAX)];
        // A URI may hold a password (RFC 3261 section 19.1.1): what stands between the second colon and the last "@".
        let at = line.iter().rposition(|byte| *byte == b'@').or((end > LENGTH_MAX).then_some(line.len()));
        let colon =
            |from: usize| line[from..].iter().position(|byte| *byte == b':').map(|place| from + place + 1);
        match (at, colon(0).and_then(colon)) {
            (Some(at), Some(password)) if password <= at => {
                write!(f, "{}…{}", line[..password].escape_ascii(), line[at..].escape_ascii())
            }
            _ => line.escape_ascii().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(message: &str) -> String {
        FirstLine(message.as_bytes()).to_string()
    }

    #[test]
    fn the_first_line_alone_is_shown_and_no_password_of_a_uri() {
        let rest = "\r\nAuthorization: Digest hush\r\n\r\nhush";
        for line in [
            "INVITE sip:101@192.0.2.1:5060;transport=udp SIP/2.0",
            "OPTIONS sip:192.0.2.1:5060 SIP/2.0",
            "SIP/2.0 180 Ringing",
            "",
        ] {
            assert_eq!(shown(&format!("{line}{rest}")), line);
        }
        assert_eq!(shown("REGISTER sip:bob:hush@a:5060 SIP/2.0\nX: y"), "REGISTER sip:bob:…@a:5060 SIP/2.0");
        assert_eq!(shown("INVITE sip:bob:hu@sh:x@a SIP/2.0"), "INVITE sip:bob:…@a SIP/2.0");
        assert_eq!(shown("\x1b[31m\u{e9}"), "\\x1b[31m\\xc3\\xa9");
        let cut = shown(&format!("INVITE sip:bob:hush{}@a SIP/2.0\r\n", "h".repeat(10_000)));
        assert_eq!(cut, "INVITE sip:bob:…");
    }
}
