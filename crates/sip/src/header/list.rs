//! Header values in comma-separated lists (RFC 3261 section 7.3.1).
//!
//! In: one header line. Out: its values, trimmed. Elsewhere: joining several lines (`Message::values`).

use super::lex::trim;
use memchr::memchr3;

/// The values of one line. Commas inside quoted strings and angle brackets do not separate. An empty line has no value;
/// between two commas stands an empty one.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Values<'a> {
    /// Splits a line.
    pub fn new(line: &'a [u8]) -> Values<'a> {
        Values { rest: Some(trim(line)).filter(|line| !line.is_empty()) }
    }

    /// What follows the last value and its comma; `None` when that was the end of the line.
    pub(crate) fn rest(&self) -> Option<&'a [u8]> {
        self.rest
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest?;
        let end = comma(text);
        self.rest = text.get(end + 1..);
        Some(trim(&text[..end]))
    }
}

/// Where the first separating comma is, or the end.
fn comma(text: &[u8]) -> usize {
    // Most values stand alone: then quotes and brackets need not be looked for.
    if memchr::memchr(b',', text).is_none() {
        return text.len();
    }
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| memchr3(b',', b'"', b'<', rest)) {
        at += found;
        let skipped = match text[at] {
            b',' => return at,
            b'"' => end_of_quoted(&text[at..]),
            _ => memchr::memchr(b'>', &text[at..]).map(|end| end + 1),
        };
        // An opening quote or bracket without its end reaches to the end; the value's own parser will complain.
        match skipped {
            Some(length) => at += length,
            None => return text.len(),
        }
    }
    text.len()
}

/// The length of the quoted string that the text begins with.
fn end_of_quoted(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<&str> {
        Values::new(line.as_bytes()).map(|v| std::str::from_utf8(v).unwrap()).collect()
    }

    #[test]
    fn commas_in_quotes_and_brackets_do_not_separate() {
        assert_eq!(
            split("\"a, \\\" b\" <sip:x,y@z>;p=\"q,r\" ,\r\n <sip:c>,d"),
            ["\"a, \\\" b\" <sip:x,y@z>;p=\"q,r\"", "<sip:c>", "d"]
        );
        assert_eq!(split("  "), Vec::<&str>::new());
        assert_eq!(split("a,,b,"), ["a", "", "b", ""]);
        assert_eq!(split("\"x, y"), ["\"x, y"]);
        assert_eq!(split("<x, y"), ["<x, y"]);
        assert_eq!(split("\"x\\"), ["\"x\\"]);
    }
}
