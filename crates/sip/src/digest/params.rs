//! The parameters of `Digest` challenges and credentials (RFC 3261 section 25.1: `challenge`, `credentials`).
//!
//! In: the raw value of one Authorization, Proxy-Authorization, WWW- or Proxy-Authenticate header, folds included.
//! Out: names and unquoted values. Elsewhere: what they mean (`server`, `client`).

use std::borrow::Cow;

/// No value of these headers may be longer: real ones stay below 1 KiB.
pub(super) const VALUE_MAX: usize = 4096;
/// No value may have more parameters; the RFCs define 14.
const PARAMS_MAX: usize = 32;

/// Why a challenge or credentials could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Another scheme: ignore the header (Basic is forbidden, RFC 3261 section 22).
    #[error("the scheme is not Digest")]
    Scheme,
    /// The value is not a list of parameters.
    #[error("malformed Digest parameters: {0}")]
    Syntax(&'static str),
    /// A parameter appears twice.
    #[error("Digest parameter given twice: {0}")]
    Repeated(&'static str),
    /// A parameter that must be there is not.
    #[error("Digest parameter missing: {0}")]
    Missing(&'static str),
    /// A parameter's value is outside its grammar.
    #[error("bad value of Digest parameter: {0}")]
    Value(&'static str),
}

/// Name and unquoted value.
pub(super) type Param<'a> = (&'a [u8], Cow<'a, [u8]>);

/// Cuts `Digest name=value, …` into parameters.
pub(super) struct Params<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Params<'a> {
    /// Takes the scheme off.
    pub(super) fn of(value: &'a [u8]) -> Result<Params<'a>, DigestError> {
        if value.len() > VALUE_MAX {
            return Err(DigestError::Syntax("too long"));
        }
        let value = trim_start(value);
        let (scheme, rest) = value.split_at_checked(6).ok_or(DigestError::Scheme)?;
        if !scheme.eq_ignore_ascii_case(b"Digest") || !rest.first().is_some_and(|b| is_lws(*b)) {
            return Err(DigestError::Scheme);
        }
        Ok(Params { rest, left: PARAMS_MAX })
    }

    /// The next name and its unquoted value. Empty list elements are skipped.
    pub(super) fn next(&mut self) -> Result<Option<Param<'a>>, DigestError> {
        loop {
            self.rest = trim_start(self.rest);
            match self.rest.split_first() {
                Some((b',', rest)) => self.rest = rest,
                Some(_) => break,
                None => return Ok(None),
            }
        }
        self.left = self.left.checked_sub(1).ok_or(DigestError::Syntax("too many parameters"))?;
        let name = self.until(|b| matches!(b, b',' | b'=' | b'"'));
        if name.is_empty() {
            return Err(DigestError::Syntax("no parameter name"));
        }
        self.rest = trim_start(self.rest);
        let [b'=', rest @ ..] = self.rest else { return Err(DigestError::Syntax("no `=` after a name")) };
        self.rest = trim_start(rest);
        let value = match self.rest.split_first() {
            Some((b'"', rest)) => self.quoted(rest)?,
            // Some send nonces unquoted, base64 padding and all.
            _ => Cow::Borrowed(self.until(|b| b == b',')),
        };
        self.rest = trim_start(self.rest);
        match self.rest.first() {
            None | Some(b',') => Ok(Some((name, value))),
            Some(_) => Err(DigestError::Syntax("no comma between parameters")),
        }
    }

    /// Everything up to white space or an octet that ends it.
    fn until(&mut self, ends: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|b| is_lws(*b) || ends(*b)).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        text
    }

    /// A quoted-string after its opening quote, backslashes removed (`unq` of RFC 7616 section 3.3).
    fn quoted(&mut self, text: &'a [u8]) -> Result<Cow<'a, [u8]>, DigestError> {
        let mut escaped = false;
        let mut escapes = 0;
        for (at, byte) in text.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => {
                    escaped = true;
                    escapes += 1;
                }
                b'"' => {
                    self.rest = &text[at + 1..];
                    let inner = &text[..at];
                    return Ok(if escapes == 0 { Cow::Borrowed(inner) } else { Cow::Owned(unescape(inner)) });
                }
                _ => {}
            }
        }
        Err(DigestError::Syntax("quote not closed"))
    }
}

/// Puts a value into a slot that must be empty.
pub(super) fn put<T>(slot: &mut Option<T>, value: T, name: &'static str) -> Result<(), DigestError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(DigestError::Repeated(name)),
    }
}

/// Appends `text` as the inside of a quoted-string: quotes and backslashes escaped, line ends and NUL left out.
pub(super) fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\r' | '\n' | '\0' => {}
            _ => out.push(c),
        }
    }
    out.push('"');
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        out.extend(if byte == b'\\' { bytes.next() } else { Some(byte) });
    }
    out
}

fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_lws(*first)
    {
        text = rest;
    }
    text
}

fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(value: &[u8]) -> Result<Vec<(String, String)>, DigestError> {
        let mut params = Params::of(value)?;
        let mut out = Vec::new();
        while let Some((name, value)) = params.next()? {
            let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
            out.push((text(name), text(&value)));
        }
        Ok(out)
    }

    #[test]
    fn folds_blanks_empty_elements_and_escapes_are_understood() {
        let got =
            all(b"digest  realm = \"a \\\"b\\\" c\",\r\n nonce=\"\", , qop=auth ,nc=00000001\r\n ").unwrap();
        let want = [("realm", "a \"b\" c"), ("nonce", ""), ("qop", "auth"), ("nc", "00000001")];
        assert_eq!(got, want.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn what_is_no_parameter_list_is_refused() {
        assert_eq!(all(b"Basic Zm9vOmJhcg=="), Err(DigestError::Scheme));
        assert_eq!(all(b"Digestive realm=\"x\""), Err(DigestError::Scheme));
        assert_eq!(all(b"Dig"), Err(DigestError::Scheme));
        assert_eq!(all(b"Digest realm"), Err(DigestError::Syntax("no `=` after a name")));
        assert_eq!(all(b"Digest =x"), Err(DigestError::Syntax("no parameter name")));
        assert_eq!(all(b"Digest realm=\"x"), Err(DigestError::Syntax("quote not closed")));
        assert_eq!(all(b"Digest realm=\"x\\"), Err(DigestError::Syntax("quote not closed")));
        assert_eq!(all(b"Digest a=b c=d"), Err(DigestError::Syntax("no comma between parameters")));
        assert_eq!(
            all(&[b"Digest ".as_slice(), &b"a=b,".repeat(33)].concat()),
            Err(DigestError::Syntax("too many parameters"))
        );
        assert_eq!(
            all(&[b"Digest ".as_slice(), &[b'a'; VALUE_MAX]].concat()),
            Err(DigestError::Syntax("too long"))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = all(&[b"Digest ".as_slice(), &tail].concat());
        }

        #[test]
        fn quoting_and_unquoting_are_each_others_reverse(text in "[ -~äß]{0,40}") {
            let mut value = String::from("Digest realm=");
            push_quoted(&mut value, &text);
            prop_assert_eq!(all(value.as_bytes()).unwrap(), vec![("realm".to_owned(), text)]);
        }
    }
}
