//! Credentials and challenges as syntax (RFC 3261 sections 20.7 and 20.44, RFC 7616 section 3).
//!
//! Elsewhere: what they mean (`digest`).

use super::lex::{Lexer, is_value_byte, unquote};
use super::{HeaderError, PARAMS_MAX};
use std::borrow::Cow;

/// Authorization, Proxy-Authorization, WWW-Authenticate, Proxy-Authenticate: a scheme and comma-separated parameters.
/// Authentication-Info has no scheme: see [`AuthParams::parse_info`].
#[derive(Clone, Copy, Debug)]
pub struct AuthParams<'a> {
    /// The scheme as written.
    pub scheme: &'a str,
    raw: &'a [u8],
}

impl<'a> AuthParams<'a> {
    /// Parses one value, which is one line: these headers are never joined by commas (RFC 3261 section 7.3.1).
    /// Parameters are checked for the Digest scheme only; others have their own grammar.
    ///
    /// # Errors
    /// Names `header`.
    pub fn parse(value: &'a [u8], header: &'static str) -> Result<AuthParams<'a>, HeaderError> {
        let mut lexer = Lexer::new(value);
        lexer.space();
        let scheme = lexer.token().ok_or(HeaderError::new(header, "no scheme"))?;
        if !lexer.space() && !lexer.is_empty() {
            return Err(HeaderError::new(header, "no space after the scheme"));
        }
        let raw = lexer.rest();
        if scheme.eq_ignore_ascii_case("Digest") {
            check(raw, header)?;
        }
        Ok(AuthParams { scheme, raw })
    }

    /// Parses a value that has parameters only.
    ///
    /// # Errors
    /// Names `header`.
    pub fn parse_info(value: &'a [u8], header: &'static str) -> Result<AuthParams<'a>, HeaderError> {
        check(value, header)?;
        Ok(AuthParams { scheme: "", raw: value })
    }

    /// Whether the scheme is Digest.
    pub fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("Digest")
    }

    /// Name and value in order; the value as written, a quoted string with its quotes. Ends at the first thing that is
    /// no parameter.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let mut lexer = Lexer::new(self.raw);
        std::iter::from_fn(move || next_pair(&mut lexer)).take(PARAMS_MAX)
    }

    /// A value as written, by a name of any case; the first one, should it stand there twice.
    pub fn raw(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// A value as text: quotes gone, escapes resolved. One that is no UTF-8 counts as absent.
    pub fn param(&self, name: &str) -> Option<Cow<'a, str>> {
        match self.raw(name)? {
            [b'"', inner @ .., b'"'] => match unquote(inner) {
                Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
                Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
            },
            plain => std::str::from_utf8(plain).ok().map(Cow::Borrowed),
        }
    }
}

fn check(raw: &[u8], header: &'static str) -> Result<(), HeaderError> {
    let mut lexer = Lexer::new(raw);
    for _ in 0..=PARAMS_MAX {
        lexer.space();
        if lexer.is_empty() {
            return Ok(());
        }
        if next_pair(&mut lexer).is_none() {
            return Err(HeaderError::new(header, "bad parameter"));
        }
    }
    Err(HeaderError::new(header, "too many parameters"))
}

/// One `name=value` and the comma behind it. Empty list elements are skipped (RFC 9110 section 5.6.1, which digest
/// headers come from).
fn next_pair<'a>(lexer: &mut Lexer<'a>) -> Option<(&'a str, &'a [u8])> {
    while lexer.separator(b',') {}
    let name = lexer.token()?;
    if !lexer.separator(b'=') {
        return None;
    }
    let start = lexer.position();
    if lexer.peek() == Some(b'"') {
        lexer.quoted()?;
    } else if lexer.run(|c| is_value_byte(c) || c == b';').is_empty() {
        return None;
    }
    let value = lexer.since(start);
    (lexer.separator(b',') || lexer.is_empty()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_parameters_are_decoded() {
        let a = AuthParams::parse(
            b"Digest username=\"a \\\"b\\\"\", realm=\"x, y\",\r\n nonce = \"n=\" ,qop=auth, nc=00000001,uri=\"sip:a;b\"",
            "Authorization",
        )
        .unwrap();
        assert!(a.is_digest());
        assert_eq!(a.param("username").as_deref(), Some("a \"b\""));
        assert_eq!(a.param("REALM").as_deref(), Some("x, y"));
        assert_eq!(a.param("nonce").as_deref(), Some("n="));
        assert_eq!(a.param("nc").as_deref(), Some("00000001"));
        assert_eq!(a.raw("uri"), Some(b"\"sip:a;b\"".as_slice()));
        assert_eq!(a.param("opaque"), None);
        assert_eq!(a.iter().count(), 6);
    }

    #[test]
    fn broken_digest_is_refused_and_other_schemes_are_left_alone() {
        for text in ["", "Digest=x", "Digest username", "Digest username=\"x", "Digest a=b c=d", "Digest a="]
        {
            assert!(AuthParams::parse(text.as_bytes(), "Authorization").is_err(), "{text}");
        }
        let other = AuthParams::parse(b"NoOneKnowsThisScheme opaque-data=here", "Authorization").unwrap();
        assert_eq!(
            (other.scheme, other.param("opaque-data").as_deref()),
            ("NoOneKnowsThisScheme", Some("here"))
        );
        assert!(AuthParams::parse(b"Basic dXNlcjpwYXNz==", "Authorization").is_ok());
        let info = AuthParams::parse_info(b"nextnonce=\"x\", qop=auth", "Authentication-Info").unwrap();
        assert_eq!(info.param("nextnonce").as_deref(), Some("x"));
    }
}
