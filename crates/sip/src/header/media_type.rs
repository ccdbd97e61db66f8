//! Content-Type (RFC 3261 section 20.15, RFC 2045 section 5.1).

use super::lex::Lexer;
use super::{HeaderError, Params};
use std::borrow::Cow;

/// A media type with its parameters.
#[derive(Clone, Copy, Debug)]
pub struct MediaType<'a> {
    /// The type, as written.
    pub kind: &'a str,
    /// The subtype, as written.
    pub subtype: &'a str,
    /// The parameters.
    pub params: Params<'a>,
}

impl<'a> MediaType<'a> {
    /// Parses the value.
    ///
    /// # Errors
    /// Names Content-Type.
    pub fn parse(value: &'a [u8]) -> Result<MediaType<'a>, HeaderError> {
        let fault = |what| HeaderError::new("Content-Type", what);
        let mut lexer = Lexer::new(value);
        lexer.space();
        let kind = lexer.token().ok_or(fault("no type"))?;
        if !lexer.separator(b'/') {
            return Err(fault("no subtype"));
        }
        let subtype = lexer.token().ok_or(fault("no subtype"))?;
        let params = Params::parse(&mut lexer, "Content-Type")?;
        Ok(MediaType { kind, subtype, params })
    }

    /// Compares type and subtype, whatever their case.
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind) && self.subtype.eq_ignore_ascii_case(subtype)
    }

    /// Whether this is `application/sdp`.
    pub fn is_sdp(&self) -> bool {
        self.is("application", "sdp")
    }

    /// Whether this is a multipart body (RFC 2046 section 5.1).
    pub fn is_multipart(&self) -> bool {
        self.kind.eq_ignore_ascii_case("multipart")
    }

    /// The boundary of a multipart body, when it is a legal one (1 to 70 characters).
    pub fn boundary(&self) -> Option<Cow<'a, [u8]>> {
        self.params.decoded("boundary").filter(|b| (1..=70).contains(&b.len()) && !b.ends_with(b" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_and_boundaries() {
        let t = MediaType::parse(b"Multipart / mixed ;\r\n boundary = \"a b\\\"c\"; x=y").unwrap();
        assert!(t.is_multipart() && t.is("multipart", "MIXED"));
        assert_eq!(t.boundary().as_deref(), Some(b"a b\"c".as_slice()));
        assert!(MediaType::parse(b"application/sdp").unwrap().is_sdp());
        for text in ["", "application", "application/", "/sdp", "application/sdp;", "application/sdp x"] {
            assert!(MediaType::parse(text.as_bytes()).is_err(), "{text}");
        }
        let long = format!("multipart/mixed;boundary={}", "x".repeat(71));
        assert_eq!(MediaType::parse(long.as_bytes()).unwrap().boundary(), None);
    }
}
