//! Character classes and a cursor for SIP header values (RFC 3261 section 25.1).
//!
//! In: the bytes of one header value, folding included (CR and LF count as white space here, since a value can only
//! contain them where it was folded). Out: tokens, quoted strings, numbers. Elsewhere: what they mean (`header`).

use memchr::memchr2;
use std::borrow::Cow;

const TOKEN: u8 = 1;
const SPACE: u8 = 2;
const DIGIT: u8 = 4;
const HEX: u8 = 8;
const HOST: u8 = 16;
const URI: u8 = 32;
const VALUE: u8 = 64;
const DISPLAY: u8 = 128;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut i = 0;
    while i < 256 {
        let c = i as u8;
        let alphanum = c.is_ascii_alphanumeric();
        let mut class = 0;
        if alphanum || matches!(c, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~') {
            class |= TOKEN;
        }
        if matches!(c, b' ' | b'\t' | b'\r' | b'\n') {
            class |= SPACE;
        }
        if c.is_ascii_digit() {
            class |= DIGIT;
        }
        if c.is_ascii_hexdigit() {
            class |= HEX;
        }
        // The underscore is no hostname character, but inside networks it is in wide use and does no harm.
        if alphanum || matches!(c, b'-' | b'.' | b'_') {
            class |= HOST;
        }
        if c >= 0x80 || (c.is_ascii_graphic() && !matches!(c, b'<' | b'>' | b'"' | b'\\')) {
            class |= URI;
        }
        // Looser than gen-value: whatever cannot be confused with the structure around it.
        if c >= 0x80 || (c.is_ascii_graphic() && !matches!(c, b';' | b',' | b'"')) {
            class |= VALUE;
        }
        // Unquoted display names are tokens; many phones put more there, which is harmless as long as it is unambiguous.
        if class & TOKEN != 0
            || c >= 0x80
            || matches!(
                c,
                b'(' | b')' | b'@' | b'/' | b'[' | b']' | b'?' | b'=' | b'{' | b'}' | b'&' | b'#' | b'$'
            )
        {
            class |= DISPLAY;
        }
        table[i] = class;
        i += 1;
    }
    table
}

#[inline]
pub(crate) fn is_token_byte(c: u8) -> bool {
    CLASS[usize::from(c)] & TOKEN != 0
}

#[inline]
pub(crate) fn is_space(c: u8) -> bool {
    CLASS[usize::from(c)] & SPACE != 0
}

#[inline]
pub(crate) fn is_host_byte(c: u8) -> bool {
    CLASS[usize::from(c)] & HOST != 0
}

#[inline]
pub(crate) fn is_uri_byte(c: u8) -> bool {
    CLASS[usize::from(c)] & URI != 0
}

#[inline]
pub(crate) fn is_value_byte(c: u8) -> bool {
    CLASS[usize::from(c)] & VALUE != 0
}

#[inline]
pub(crate) fn is_display_byte(c: u8) -> bool {
    CLASS[usize::from(c)] & DISPLAY != 0
}

#[inline]
pub(crate) fn is_hex(c: u8) -> bool {
    CLASS[usize::from(c)] & HEX != 0
}

/// Whether the whole text is one token.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|c| is_token_byte(*c))
}

/// Cuts linear white space from both ends.
#[inline]
pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_space(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_space(*last)
    {
        text = rest;
    }
    text
}

/// A number of digits only; `None` when it has another character, none at all, or does not fit.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for c in text {
        if !c.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(c - b'0'))?;
    }
    Some(value)
}

/// Like [`number`], but what is too large becomes `u32::MAX` (RFC 3261 section 20.19 for durations).
pub(crate) fn number_saturating(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(number(text).and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::MAX))
}

/// The text inside a quoted string, without its quotes: quoted-pairs resolved, folding turned into one space.
pub(crate) fn unquote(inner: &[u8]) -> Cow<'_, [u8]> {
    if memchr2(b'\\', b'\n', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut at = 0;
    while let Some(&c) = inner.get(at) {
        match c {
            b'\\' if at + 1 < inner.len() => {
                out.push(inner[at + 1]);
                at += 2;
            }
            b'\r' | b'\n' => {
                while inner.get(at).is_some_and(|c| is_space(*c)) {
                    at += 1;
                }
                out.push(b' ');
            }
            _ => {
                out.push(c);
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}

/// A position in a header value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Lexer<'a> {
        Lexer { text, at: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        &self.text[start..self.at]
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.text.len()
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(crate) fn advance(&mut self, bytes: usize) {
        self.at = (self.at + bytes).min(self.text.len());
    }

    /// Skips LWS; tells whether there was any.
    #[inline]
    pub(crate) fn space(&mut self) -> bool {
        let start = self.at;
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
        self.at > start
    }

    /// Takes one given character.
    #[inline]
    pub(crate) fn eat(&mut self, c: u8) -> bool {
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    /// A separator with LWS around it (SEMI, COMMA, EQUAL, SLASH, COLON). Nothing is consumed when it is not there,
    /// save the white space before it.
    #[inline]
    pub(crate) fn separator(&mut self, c: u8) -> bool {
        self.space();
        if !self.eat(c) {
            return false;
        }
        self.space();
        true
    }

    /// The longest run of a class; may be empty.
    #[inline]
    pub(crate) fn run(&mut self, class: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let (run, _) = rest.split_at(rest.iter().position(|c| !class(*c)).unwrap_or(rest.len()));
        self.at += run.len();
        run
    }

    /// A token of at least one character.
    #[inline]
    pub(crate) fn token(&mut self) -> Option<&'a str> {
        let token = self.run(is_token_byte);
        if token.is_empty() { None } else { std::str::from_utf8(token).ok() }
    }

    /// A quoted string; returns what stands between the quotes, escapes untouched. `None`: no quote here, or no end.
    pub(crate) fn quoted(&mut self) -> Option<&'a [u8]> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let start = self.at + 1;
        let mut at = start;
        loop {
            at += memchr2(b'"', b'\\', self.text.get(at..)?)?;
            if self.text[at] == b'"' {
                self.at = at + 1;
                return Some(&self.text[start..at]);
            }
            at += 2;
        }
    }

    /// One or more digits.
    pub(crate) fn digits(&mut self) -> Option<&'a [u8]> {
        let digits = self.run(|c| CLASS[usize::from(c)] & DIGIT != 0);
        if digits.is_empty() { None } else { Some(digits) }
    }
}
