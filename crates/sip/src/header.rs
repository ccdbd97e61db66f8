//! Typed views of header values, made on demand (RFC 3261 sections 20 and 25).
//!
//! In: the bytes of one header value, folding included. Out: small borrowed structures, or a [`HeaderError`] that
//! names the header. Elsewhere: finding headers in a message (`msg`), URIs (`uri`), writing (`draft`).

mod auth;
mod event;
pub(crate) mod lex;
mod list;
mod media_type;

pub use auth::AuthParams;
pub(crate) use event::seconds;
pub use event::{
    Event, RAck, Reason, ReferTo, Refresher, ReplacesHdr, RetryAfter, SessionExpires, SubscriptionState,
};
pub use list::Values;
pub use media_type::MediaType;

use crate::flow::Transport;
use crate::uri::{Host, Uri, ipv6, port};
use lex::{
    Lexer, is_display_byte, is_space, is_token_byte, is_uri_byte, is_value_byte, number, number_saturating,
    trim, unquote,
};
use memchr::memchr;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

/// No header value may have more parameters than this.
pub const PARAMS_MAX: usize = 64;

/// A header value that does not follow its grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Bad {header}: {what}")]
pub struct HeaderError {
    /// The header's name.
    pub header: &'static str,
    /// What is wrong with it, fit for a reason phrase.
    pub what: &'static str,
}

impl HeaderError {
    pub(crate) fn new(header: &'static str, what: &'static str) -> HeaderError {
        HeaderError { header, what }
    }
}

/// The parameters behind a header value: `;name`, `;name=token`, `;name="quoted string"`. They were checked when the
/// value was parsed, so looking them up cannot fail.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    pub(crate) raw: &'a [u8],
    pub(crate) identity: Option<Identity<'a>>,
}

/// What identifies a dialog or a transaction, for which everybody asks: ASCII.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Identity<'a> {
    Tag(&'a [u8]),
    Branch(&'a [u8]),
}

impl<'a> Params<'a> {
    /// Checks everything from here to the end of the value.
    fn parse(lexer: &mut Lexer<'a>, header: &'static str) -> Result<Params<'a>, HeaderError> {
        let start = lexer.position();
        let (mut count, mut identity) = (0, None);
        while lexer.separator(b';') {
            count += 1;
            if count > PARAMS_MAX {
                return Err(HeaderError::new(header, "too many parameters"));
            }
            let (name, value) = next_param(lexer).ok_or(HeaderError::new(header, "bad parameter"))?;
            let identify = if name.eq_ignore_ascii_case(b"tag") {
                Identity::Tag
            } else if name.eq_ignore_ascii_case(b"branch") {
                Identity::Branch
            } else {
                continue;
            };
            // It stands there once, as a token.
            let token = value.filter(|value| value.is_ascii() && value[0] != b'"' && identity.is_none());
            identity = Some(identify(token.ok_or(HeaderError::new(header, "bad tag or branch"))?));
        }
        if !lexer.is_empty() {
            return Err(HeaderError::new(header, "unexpected character"));
        }
        Ok(Params { raw: trim(lexer.since(start)), identity })
    }

    /// Name and value in order; the value as written, a quoted string with its quotes.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        self.pairs().filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
    }

    /// The same with names as bytes.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut lexer = Lexer::new(self.raw);
        std::iter::from_fn(move || if lexer.separator(b';') { next_param(&mut lexer) } else { None })
    }

    /// A value's bytes as written, by a name of any case.
    pub fn raw(&self, name: &str) -> Option<Option<&'a [u8]>> {
        if self.raw.is_empty() {
            return None;
        }
        self.pairs().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// A value as text: `Some(None)` when the parameter has none. A quoted string comes without its quotes, escapes
    /// untouched. A value that is no UTF-8 counts as absent.
    pub fn get(&self, name: &str) -> Option<Option<&'a str>> {
        match self.raw(name)? {
            None => Some(None),
            Some(value) => std::str::from_utf8(strip_quotes(value)).ok().map(Some),
        }
    }

    /// A value with a quoted string's escapes resolved.
    pub fn decoded(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let value = self.raw(name)??;
        Some(if value.first() == Some(&b'"') { unquote(strip_quotes(value)) } else { Cow::Borrowed(value) })
    }

    /// Whether the parameter is there.
    pub fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// All of them as written, from the first `;` to the end of the value.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }
}

/// One parameter, the lexer standing behind its `;`.
#[inline]
fn next_param<'a>(lexer: &mut Lexer<'a>) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let name = lexer.run(is_token_byte);
    if name.is_empty() {
        return None;
    }
    if !lexer.separator(b'=') {
        return Some((name, None));
    }
    let start = lexer.position();
    if lexer.peek() == Some(b'"') {
        lexer.quoted()?;
    } else if lexer.run(is_value_byte).is_empty() {
        return None;
    }
    Some((name, Some(lexer.since(start))))
}

fn strip_quotes(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

/// From, To, Contact, Route and all other headers that carry an address (RFC 3261 section 20.10).
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'a> {
    /// The display name as written, a quoted string with its quotes.
    pub display: Option<&'a [u8]>,
    /// The URI.
    pub uri: Uri<'a>,
    /// The URI's bytes as written, without angle brackets.
    pub uri_raw: &'a [u8],
    /// The header's own parameters (not the URI's).
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Parses one value.
    ///
    /// # Errors
    /// Names `header`. Without angle brackets everything behind the first `;` is the header's, and a `?` is not allowed
    /// (RFC 3261 section 20).
    pub fn parse(value: &'a [u8], header: &'static str) -> Result<NameAddr<'a>, HeaderError> {
        let mut lexer = Lexer::new(value);
        lexer.space();
        let display = display_name(&mut lexer).map_err(|what| HeaderError::new(header, what))?;
        let uri_raw = if lexer.eat(b'<') {
            let end =
                memchr(b'>', lexer.rest()).ok_or(HeaderError::new(header, "no closing angle bracket"))?;
            let uri = &lexer.rest()[..end];
            lexer.advance(end + 1);
            uri
        } else if display.is_some() {
            return Err(HeaderError::new(header, "no URI after the display name"));
        } else {
            let uri = lexer.run(|c| is_uri_byte(c) && !matches!(c, b';' | b',' | b'?'));
            if lexer.peek() == Some(b'?') {
                return Err(HeaderError::new(header, "a URI with headers needs angle brackets"));
            }
            uri
        };
        let uri = Uri::parse(uri_raw).map_err(|_| HeaderError::new(header, "bad URI"))?;
        let params = Params::parse(&mut lexer, header)?;
        Ok(NameAddr { display, uri, uri_raw, params })
    }

    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&'a str> {
        match self.params.identity {
            Some(Identity::Tag(tag)) => std::str::from_utf8(tag).ok(),
            Some(Identity::Branch(_)) | None => None,
        }
    }

    /// A parameter of the header.
    pub fn param(&self, name: &str) -> Option<Option<&'a str>> {
        self.params.get(name)
    }

    /// The display name as a human reads it: quotes gone, escapes resolved, bytes that are no UTF-8 replaced.
    pub fn display_decoded(&self) -> Option<Cow<'a, str>> {
        let raw = self.display?;
        let bytes = match raw {
            [b'"', inner @ .., b'"'] => unquote(inner),
            plain => Cow::Borrowed(plain),
        };
        Some(match bytes {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        })
    }

    /// The `q` parameter of a Contact in thousandths (0 to 1000).
    pub fn q(&self) -> Option<u16> {
        qvalue(self.params.get("q")??)
    }

    /// The `expires` parameter of a Contact in seconds; too large a value becomes the largest. A malformed one is
    /// `None` (RFC 3261 section 10.3 wants the default then).
    pub fn expires(&self) -> Option<u32> {
        number_saturating(self.params.raw("expires")??)
    }
}

/// `"Display" <uri>;params`, folding removed.
impl fmt::Display for NameAddr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = self.display {
            write!(f, "{} ", Unfolded(display))?;
        }
        write!(f, "<{}>{}", self.uri, Unfolded(self.params.raw))
    }
}

struct Unfolded<'a>(&'a [u8]);

impl fmt::Display for Unfolded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(self.0);
        text.split(['\r', '\n', '\0']).try_for_each(|piece| f.write_str(piece))
    }
}

/// What stands before `<`, if anything. Leaves the lexer at `<`, or at the start of an addr-spec.
fn display_name<'a>(lexer: &mut Lexer<'a>) -> Result<Option<&'a [u8]>, &'static str> {
    let start = lexer.position();
    match lexer.peek() {
        None => return Err("empty"),
        Some(b'<') => return Ok(None),
        Some(b'"') => {
            lexer.quoted().ok_or("unterminated quoted string")?;
            let display = lexer.since(start);
            lexer.space();
            return if lexer.peek() == Some(b'<') {
                Ok(Some(display))
            } else {
                Err("no URI after the display name")
            };
        }
        Some(_) => {}
    }
    let here = *lexer;
    lexer.run(is_token_byte);
    if lexer.peek() == Some(b':') {
        *lexer = here;
        return Ok(None);
    }
    lexer.run(|c| is_display_byte(c) || is_space(c));
    if lexer.peek() == Some(b'<') {
        return Ok(Some(trim(lexer.since(start))));
    }
    Err("neither a URI nor a display name")
}

/// `0.33` to 330 (RFC 3261 section 25.1, qvalue).
fn qvalue(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = match whole {
        "0" => 0,
        "1" => 1000,
        _ => return None,
    };
    if fraction.len() > 3 {
        return None;
    }
    let mut thousandths = 0;
    for at in 0..3 {
        let digit = match fraction.as_bytes().get(at) {
            None => 0,
            Some(c) if c.is_ascii_digit() => c - b'0',
            Some(_) => return None,
        };
        thousandths = thousandths * 10 + u16::from(digit);
    }
    Some(whole + thousandths).filter(|q| *q <= 1000)
}

/// One hop of the way back (RFC 3261 section 20.42, RFC 3581).
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    /// The transport token as written.
    pub transport: &'a str,
    /// Host of sent-by.
    pub host: Host<'a>,
    /// Port of sent-by, if written.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params<'a>,
    /// Everything before the parameters, as written.
    pub(crate) head: &'a [u8],
}

/// A branch that begins with this was made by the rules of RFC 3261 (section 8.1.1.7).
pub const BRANCH_COOKIE: &str = "z9hG4bK";

impl<'a> Via<'a> {
    /// Parses one value (one hop, not a whole line).
    ///
    /// # Errors
    /// Names Via.
    pub fn parse(value: &'a [u8]) -> Result<Via<'a>, HeaderError> {
        let fault = |what| HeaderError::new("Via", what);
        let mut lexer = Lexer::new(value);
        lexer.space();
        let start = lexer.position();
        if lexer.rest().starts_with(b"SIP/2.0/") {
            lexer.advance(8);
            lexer.space();
        } else {
            sent_protocol(&mut lexer)?;
        }
        let transport = lexer.token().ok_or(fault("no transport"))?;
        if !lexer.space() {
            return Err(fault("no sent-by"));
        }
        let (host, used) = Host::parse_prefix(lexer.rest()).map_err(|_| fault("bad sent-by host"))?;
        lexer.advance(used);
        let mut end = lexer;
        let port = if lexer.separator(b':') {
            let digits = lexer.digits().unwrap_or_default();
            end = lexer;
            Some(port(digits).ok_or(fault("bad sent-by port"))?)
        } else {
            None
        };
        let head = end.since(start);
        let params = Params::parse(&mut end, "Via")?;
        Ok(Via { transport, host, port, params, head })
    }

    /// The transport, when it is one that we know.
    pub fn transport(&self) -> Option<Transport> {
        Transport::from_token(self.transport)
    }

    /// The `branch` parameter.
    pub fn branch(&self) -> Option<&'a str> {
        match self.params.identity {
            Some(Identity::Branch(branch)) => std::str::from_utf8(branch).ok(),
            Some(Identity::Tag(_)) | None => None,
        }
    }

    /// The branch, when it names the transaction by the rules of RFC 3261: with the cookie and something behind it.
    /// Otherwise the transaction is found by the rules of RFC 2543 (section 17.2.3).
    pub fn transaction_branch(&self) -> Option<&'a str> {
        let branch = self.branch()?;
        let cookie = branch.as_bytes().get(..BRANCH_COOKIE.len())?;
        (cookie.eq_ignore_ascii_case(BRANCH_COOKIE.as_bytes()) && branch.len() > BRANCH_COOKIE.len())
            .then_some(branch)
    }

    /// The `rport` parameter (RFC 3581): `Some(None)` asks for it, `Some(Some(_))` is the answer. A value that is no
    /// port counts as a question.
    pub fn rport(&self) -> Option<Option<u16>> {
        self.params.raw("rport").map(|value| value.and_then(port))
    }

    /// The `received` parameter; IPv6 with or without brackets (RFC 5118 section 4.5).
    pub fn received(&self) -> Option<IpAddr> {
        address(self.params.get("received")??)
    }

    /// The `maddr` parameter.
    pub fn maddr(&self) -> Option<&'a str> {
        self.params.get("maddr").flatten()
    }

    /// The `ttl` parameter (RFC 3261 section 18.1.1).
    pub fn ttl(&self) -> Option<u8> {
        number(self.params.raw("ttl")??).and_then(|n| u8::try_from(n).ok())
    }

    /// Protocol and sent-by as written, without the parameters.
    pub fn head(&self) -> &'a [u8] {
        self.head
    }
}

/// `SIP/2.0/` in any case, white space around the slashes.
fn sent_protocol(lexer: &mut Lexer<'_>) -> Result<(), HeaderError> {
    let fault = |what| HeaderError::new("Via", what);
    let name = lexer.token().ok_or(fault("no protocol"))?;
    if !name.eq_ignore_ascii_case("SIP") || !lexer.separator(b'/') {
        return Err(fault("protocol is not SIP"));
    }
    if lexer.token() != Some("2.0") || !lexer.separator(b'/') {
        return Err(fault("protocol version is not 2.0"));
    }
    Ok(())
}

fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    ipv6(inner.as_bytes()).map(IpAddr::V6)
}

/// CSeq (RFC 3261 section 20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// The sequence number, below 2^31 (section 8.1.1.5).
    pub number: u32,
    /// The method as written.
    pub method: &'a [u8],
}

impl<'a> CSeq<'a> {
    /// Parses the value.
    ///
    /// # Errors
    /// Names CSeq.
    pub fn parse(value: &'a [u8]) -> Result<CSeq<'a>, HeaderError> {
        let fault = |what| HeaderError::new("CSeq", what);
        let mut lexer = Lexer::new(trim(value));
        let digits = lexer.digits().ok_or(fault("no number"))?;
        let number = number(digits)
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n < 1 << 31)
            .ok_or(fault("number out of range"))?;
        if !lexer.space() {
            return Err(fault("no method"));
        }
        let method = lexer.run(is_token_byte);
        if method.is_empty() || !lexer.is_empty() {
            return Err(fault("no method"));
        }
        Ok(CSeq { number, method })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> NameAddr<'_> {
        NameAddr::parse(text.as_bytes(), "From").unwrap()
    }

    #[test]
    fn addresses_in_all_forms() {
        let a = from("\"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8");
        assert_eq!(a.display_decoded().as_deref(), Some("J Rosenberg \\\""));
        assert_eq!(a.uri_raw, b"sip:jdrosen@example.com");
        assert_eq!(a.tag(), Some("98asjd8"));

        let b = from("sip:user@example.com;tag=1;x=\"a;b\"");
        assert_eq!(b.display, None);
        assert_eq!((b.tag(), b.param("X"), b.param("y")), (Some("1"), Some(Some("a;b")), None));
        assert_eq!(b.uri.param("tag"), None, "without brackets parameters belong to the header");

        let c = from("caller<sip:caller@example.com;user=phone>;q=0.33;expires=99999999999");
        assert_eq!(c.display_decoded().as_deref(), Some("caller"));
        assert_eq!(
            (c.q(), c.expires(), c.uri.param("user")),
            (Some(330), Some(u32::MAX), Some(Some("phone")))
        );

        let d = from("  A. B. C\r\n <sips:x@[::1]:5061> ");
        assert_eq!(d.display_decoded().as_deref(), Some("A. B. C"));
        assert_eq!(d.to_string(), "A. B. C <sips:x@[::1]:5061>");
        assert_eq!(from("Bob (home) <sip:b@c>").display_decoded().as_deref(), Some("Bob (home)"));
        let latin1 = NameAddr::parse(b"J\xfcrgen <sip:j@example.com>;x=\"\xfc\";y=z", "From").unwrap();
        assert_eq!(latin1.display_decoded().as_deref(), Some("J\u{fffd}rgen"));
        assert_eq!((latin1.param("x"), latin1.params.raw("x")), (None, Some(Some(b"\"\xfc\"".as_slice()))));
        assert_eq!(latin1.param("y"), Some(Some("z")));
        assert_eq!(from("\"\" <sip:b@c>").display_decoded().as_deref(), Some(""));
    }

    #[test]
    fn wrong_addresses_are_refused() {
        for text in [
            "",
            "\"x <sip:a@b>",
            "\"x\" sip:a@b",
            "\"x\"",
            "Bell, Alexander <sip:a@b>",
            "\"W\" < sip:a@b >",
            "<sip:a@b",
            "<sip:a@b> x",
            "<sip:a@b>;;",
            "<sip:a@b>;",
            "<sip:a@b>;=x",
            "<sip:a@b>;tag=",
            "<sip:a@b>;t=\"x",
            "<sip:a@b>,<sip:c@d>",
            "sip:a@b?x=y",
            "a@b",
            "<>",
            "*",
        ] {
            assert_eq!(NameAddr::parse(text.as_bytes(), "To").unwrap_err().header, "To", "{text}");
        }
        let many = format!("<sip:a@b>{}", ";x".repeat(PARAMS_MAX + 1));
        assert_eq!(NameAddr::parse(many.as_bytes(), "To").unwrap_err().what, "too many parameters");
    }

    #[test]
    fn q_values_are_thousandths() {
        for (text, q) in
            [("1", Some(1000)), ("0", Some(0)), ("0.5", Some(500)), ("1.000", Some(1000)), ("0.", Some(0))]
        {
            assert_eq!(qvalue(text), q, "{text}");
        }
        for text in ["", "2", "1.1", "0.1234", "0.x", "-1", ".5"] {
            assert_eq!(qvalue(text), None, "{text}");
        }
    }

    #[test]
    fn via_with_all_its_spaces() {
        let via =
            Via::parse(b"SIP  / 2.0  / TCP     spindle.example.com  : 5070 ;\r\n  branch  =   z9hG4bK9ikj8")
                .unwrap();
        assert_eq!(via.transport(), Some(Transport::Tcp));
        assert_eq!((via.host, via.port), (Host::Name("spindle.example.com"), Some(5070)));
        assert_eq!(via.transaction_branch(), Some("z9hG4bK9ikj8"));
        let via =
            Via::parse(b"SIP/2.0/UDP [::1];received=[2001:db8::9:255];rport;branch=z9hG4bK;ttl=300").unwrap();
        assert_eq!(via.received(), Some("2001:db8::9:255".parse().unwrap()));
        assert_eq!((via.rport(), via.ttl(), via.transaction_branch()), (Some(None), None, None));
        assert_eq!(via.head(), b"SIP/2.0/UDP [::1]");
        assert_eq!(Via::parse(b"SIP/2.0/\tUDP a").unwrap().transport(), Some(Transport::Udp));
        assert_eq!(Via::parse(b"SIP/2.0/UDP a;rport=5061").unwrap().rport(), Some(Some(5061)));
        for text in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/7.0/UDP a",
            "HTTP/2.0/UDP a",
            "SIP/2.0/UDP a:",
            "SIP/2.0/UDP a:99999",
            "SIP/2.0/UDP a;;",
            "SIP/2.0/UDP a b",
            "SIP/2.0/UDP a, SIP/2.0/UDP b",
            "SIP/2.0/UDP 1.2.3.4.5",
        ] {
            assert!(Via::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn cseq_stays_below_two_to_the_31() {
        assert_eq!(CSeq::parse(b"0009\r\n INVITE").unwrap(), CSeq { number: 9, method: b"INVITE" });
        assert_eq!(CSeq::parse(b"2147483647 ACK").unwrap().number, 2147483647);
        for text in
            ["", "1", "1 ", "x INVITE", "2147483648 ACK", "36893488147419103232 REGISTER", "-1 ACK", "1 A B"]
        {
            assert!(CSeq::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
