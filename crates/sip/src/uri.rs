//! SIP, SIPS and tel URIs (RFC 3261 section 19.1, RFC 3966), borrowed from the message or owned.
//!
//! In: the bytes of one URI, without angle brackets. Out: its components as written (escapes untouched), decoded on
//! demand, and the comparison of section 19.1.4. Elsewhere: name-addr and its parameters (`header`).

use crate::flow::Transport;
use crate::header::lex::{is_hex, is_host_byte, is_uri_byte, number};
use memchr::{memchr, memchr2};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// No URI may be longer than this.
pub const URI_MAX: usize = 8 * 1024;
/// No host name may be longer than this (RFC 1035 section 2.3.4).
const HOST_MAX: usize = 255;
/// No URI may have more parameters, or more headers, than this.
pub const URI_PARAMS_MAX: usize = 64;

/// What is wrong with a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Longer than [`URI_MAX`].
    #[error("URI too long")]
    TooLong,
    /// White space, a control character, a quote, an angle bracket, or bytes that are no UTF-8.
    #[error("character not allowed in a URI")]
    Character,
    /// No scheme, or none that follows the grammar.
    #[error("bad URI scheme")]
    Scheme,
    /// `%` without two hexadecimal digits.
    #[error("bad escape in URI")]
    Escape,
    /// An empty user part or a bad telephone number.
    #[error("bad user part in URI")]
    User,
    /// Neither a host name nor an IP address.
    #[error("bad host in URI")]
    Host,
    /// No number from 1 to 65535.
    #[error("bad port in URI")]
    Port,
    /// An empty parameter, one that stands there twice, or too many.
    #[error("bad URI parameter")]
    Param,
    /// A URI header without name or `=`, or too many.
    #[error("bad URI header")]
    Header,
}

/// The scheme of a URI.
#[derive(Clone, Copy, Debug)]
pub enum Scheme<'a> {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:` (RFC 3966)
    Tel,
    /// Any other, as written.
    Other(&'a str),
}

impl Scheme<'_> {
    /// The scheme's name without the colon.
    pub fn as_str(&self) -> &str {
        match self {
            Scheme::Sip => "sip",
            Scheme::Sips => "sips",
            Scheme::Tel => "tel",
            Scheme::Other(name) => name,
        }
    }
}

impl PartialEq for Scheme<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str().eq_ignore_ascii_case(other.as_str())
    }
}

impl Eq for Scheme<'_> {}

/// The host of a URI or of a Via's sent-by.
#[derive(Clone, Copy, Debug)]
pub enum Host<'a> {
    /// A host name as written; empty for URIs that have no host (tel and unknown schemes).
    Name(&'a str),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, without its brackets.
    V6(Ipv6Addr),
}

impl<'a> Host<'a> {
    /// Parses a whole host: name, IPv4 address or bracketed IPv6 reference.
    pub fn parse(text: &'a [u8]) -> Result<Host<'a>, UriError> {
        match Host::parse_prefix(text)? {
            (host, used) if used == text.len() => Ok(host),
            _ => Err(UriError::Host),
        }
    }

    /// Parses the host that the text begins with, and tells how many bytes it takes.
    pub(crate) fn parse_prefix(text: &'a [u8]) -> Result<(Host<'a>, usize), UriError> {
        if let Some(found) = address_prefix(text)? {
            return Ok(found);
        }
        let end = host_name(text).ok_or(UriError::Host)?;
        let name = std::str::from_utf8(&text[..end]).map_err(|_| UriError::Host)?;
        Ok((Host::Name(name), end))
    }

    /// The same for what is known to be text.
    fn prefix_of(text: &'a str) -> Result<(Host<'a>, usize), UriError> {
        if let Some(found) = address_prefix(text.as_bytes())? {
            return Ok(found);
        }
        let end = host_name(text.as_bytes()).ok_or(UriError::Host)?;
        Ok((Host::Name(&text[..end]), end))
    }

    /// The address, when it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Host::Name(_) => None,
            Host::V4(address) => Some(IpAddr::V4(*address)),
            Host::V6(address) => Some(IpAddr::V6(*address)),
        }
    }

    /// Whether there is no host at all.
    pub fn is_empty(&self) -> bool {
        matches!(self, Host::Name(""))
    }
}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            (Host::Name(_), _) | (_, Host::Name(_)) => false,
            _ => self.ip() == other.ip(),
        }
    }
}

impl Eq for Host<'_> {}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::V4(address) => write!(f, "{address}"),
            Host::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// A URI over the bytes it was parsed from. Escapes are kept as written: decoding is the last step, done by the
/// `*_decoded` methods, or what is decoded could be taken for structure.
#[derive(Clone, Copy, Debug)]
pub struct Uri<'a> {
    /// The scheme.
    pub scheme: Scheme<'a>,
    /// User part as written; the number with its separators for tel.
    pub user: Option<&'a str>,
    /// Password as written (deprecated by RFC 3261 section 19.1.1).
    pub password: Option<&'a str>,
    /// Host; an empty name for tel and unknown schemes.
    pub host: Host<'a>,
    /// Port, if one is written.
    pub port: Option<u16>,
    /// Parameters of sip, sips and tel without the first `;`; all behind the colon for other schemes.
    params: &'a str,
    /// URI headers without the `?`.
    headers: Option<&'a str>,
}

impl<'a> Uri<'a> {
    /// Parses one whole URI.
    ///
    /// # Errors
    /// The component that is wrong. URIs of unknown schemes are not looked into (RFC 3261 section 25.1, absoluteURI).
    pub fn parse(text: &'a [u8]) -> Result<Uri<'a>, UriError> {
        if text.len() > URI_MAX {
            return Err(UriError::TooLong);
        }
        Uri::parse_any_length(text)
    }

    fn parse_any_length(text: &'a [u8]) -> Result<Uri<'a>, UriError> {
        let (mut legal, mut escapes) = (true, false);
        for &c in text {
            legal &= is_uri_byte(c);
            escapes |= c == b'%';
        }
        if !legal {
            return Err(UriError::Character);
        }
        let text = std::str::from_utf8(text).map_err(|_| UriError::Character)?;
        let colon = text.bytes().position(|c| c == b':').ok_or(UriError::Scheme)?;
        let (scheme, rest) = (&text[..colon], &text[colon + 1..]);
        if escapes {
            check_escapes(rest.as_bytes())?;
        }
        if scheme.eq_ignore_ascii_case("sip") {
            return Uri::parse_sip(Scheme::Sip, rest);
        }
        if scheme.eq_ignore_ascii_case("sips") {
            return Uri::parse_sip(Scheme::Sips, rest);
        }
        if scheme.eq_ignore_ascii_case("tel") {
            return Uri::parse_tel(rest);
        }
        let legal = scheme.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.'));
        if !legal || !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || rest.is_empty() {
            return Err(UriError::Scheme);
        }
        Ok(Uri { params: rest, ..Uri::empty(Scheme::Other(scheme)) })
    }

    fn empty(scheme: Scheme<'a>) -> Uri<'a> {
        Uri {
            scheme,
            user: None,
            password: None,
            host: Host::Name(""),
            port: None,
            params: "",
            headers: None,
        }
    }

    fn parse_sip(scheme: Scheme<'a>, text: &'a str) -> Result<Uri<'a>, UriError> {
        let mut uri = Uri::empty(scheme);
        // An `@` is legal in no other place, while the user part may contain `;` and `?` (RFC 4475 section 3.1.1.9).
        let rest = match memchr(b'@', text.as_bytes()) {
            Some(at) => {
                let userinfo = &text[..at];
                match memchr(b':', userinfo.as_bytes()) {
                    Some(colon) => {
                        (uri.user, uri.password) = (Some(&userinfo[..colon]), Some(&userinfo[colon + 1..]));
                    }
                    None => uri.user = Some(userinfo),
                }
                if uri.user.is_none_or(str::is_empty) {
                    return Err(UriError::User);
                }
                &text[at + 1..]
            }
            None => text,
        };
        let (host, used) = Host::prefix_of(rest)?;
        uri.host = host;
        let mut rest = &rest[used..];
        if rest.is_empty() {
            return Ok(uri);
        }
        if let Some(after) = rest.strip_prefix(':') {
            let end = memchr2(b';', b'?', after.as_bytes()).unwrap_or(after.len());
            uri.port = Some(port(&after.as_bytes()[..end]).ok_or(UriError::Port)?);
            rest = &after[end..];
        }
        if let Some(mark) = memchr(b'?', rest.as_bytes()) {
            uri.headers = Some(&rest[mark + 1..]);
            rest = &rest[..mark];
            check_headers(&uri)?;
        }
        match rest.strip_prefix(';') {
            Some(params) => uri.params = params,
            None if rest.is_empty() => return Ok(uri),
            None => return Err(UriError::Host),
        }
        check_params(uri.params)?;
        Ok(uri)
    }

    fn parse_tel(text: &'a str) -> Result<Uri<'a>, UriError> {
        let (number, params) = text.split_once(';').map_or((text, None), |(n, p)| (n, Some(p)));
        let (global, local) = number.strip_prefix('+').map_or((false, number), |digits| (true, digits));
        let digit = |c: u8| c.is_ascii_digit() || (!global && (is_hex(c) || matches!(c, b'*' | b'#')));
        let separator = |c: u8| matches!(c, b'-' | b'.' | b'(' | b')');
        if !local.bytes().any(digit) || !local.bytes().all(|c| digit(c) || separator(c)) {
            return Err(UriError::User);
        }
        if let Some(params) = params {
            check_params(params)?;
        }
        Ok(Uri { user: Some(number), params: params.unwrap_or(""), ..Uri::empty(Scheme::Tel) })
    }

    /// Whether the scheme is `sip` or `sips`.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// The user part with its escapes resolved (once, never twice: RFC 3986 section 2.4). It may contain NUL.
    pub fn user_decoded(&self) -> Option<Cow<'a, [u8]>> {
        self.user.map(decode)
    }

    /// The digits of a tel URI, or of a user part that is a telephone number: visual separators removed, a leading
    /// `+` kept. `None` when there is anything else in it.
    pub fn digits(&self) -> Option<String> {
        let user = self.user?;
        let user = user.split_once(';').map_or(user, |(number, _)| number);
        let mut out = String::with_capacity(user.len());
        for (at, c) in user.char_indices() {
            match c {
                '0'..='9' => out.push(c),
                '+' if at == 0 => out.push(c),
                '-' | '.' | '(' | ')' => {}
                _ => return None,
            }
        }
        out.ends_with(|c: char| c.is_ascii_digit()).then_some(out)
    }

    /// Everything behind the colon of a URI whose scheme is neither sip, sips nor tel.
    pub fn opaque(&self) -> Option<&'a str> {
        matches!(self.scheme, Scheme::Other(_)).then_some(self.params)
    }

    /// The parameters in order: name and value as written.
    pub fn params(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        let text = if self.opaque().is_some() { "" } else { self.params };
        split(text, ';').map(|param| param.split_once('=').map_or((param, None), |(n, v)| (n, Some(v))))
    }

    /// The value of a parameter as written: `Some(None)` when it stands there without one.
    pub fn param(&self, name: &str) -> Option<Option<&'a str>> {
        if self.params.is_empty() {
            return None;
        }
        self.params().find(|(n, _)| same_text(n, name, true)).map(|(_, value)| value)
    }

    /// The URI headers in order: name and value as written.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        split(self.headers.unwrap_or(""), '&').map(|header| header.split_once('=').unwrap_or((header, "")))
    }

    /// Whether there are URI headers; they are not allowed everywhere (RFC 3261 section 19.1.1, table 1).
    pub fn has_headers(&self) -> bool {
        self.headers.is_some()
    }

    /// A URI header's value, decoded.
    pub fn header(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.headers().find(|(n, _)| same_text(n, name, true)).map(|(_, value)| decode(value))
    }

    /// The `transport` parameter, when it names a transport that we know.
    pub fn transport_param(&self) -> Option<Transport> {
        self.param("transport").flatten().and_then(Transport::from_token)
    }

    /// Whether the `lr` parameter is there: the peer is a loose router (RFC 3261 section 19.1.1).
    pub fn is_lr(&self) -> bool {
        self.param("lr").is_some()
    }

    /// RFC 3261 section 19.1.4 for SIP and SIPS, RFC 3966 section 5 for tel, RFC 3986 section 6.2.1 (as text) for others.
    pub fn equivalent(&self, other: &Uri<'_>) -> bool {
        match (self.scheme, other.scheme) {
            (Scheme::Sip, Scheme::Sip) | (Scheme::Sips, Scheme::Sips) => self.same_sip(other),
            (Scheme::Tel, Scheme::Tel) => self.same_tel(other),
            (Scheme::Other(a), Scheme::Other(b)) => a.eq_ignore_ascii_case(b) && self.params == other.params,
            _ => false,
        }
    }

    fn same_sip(&self, other: &Uri<'_>) -> bool {
        // These never match when only one side has them, not even with their default (the examples of the section say
        // so for transport).
        const NEVER_IGNORED: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];
        same_option(self.user, other.user, false)
            && same_option(self.password, other.password, false)
            && self.host == other.host
            && self.port == other.port
            && self.params().all(|(name, value)| match other.param(name) {
                Some(theirs) => same_option(value, theirs, true),
                None => !NEVER_IGNORED.iter().any(|n| same_text(n, name, true)),
            })
            && NEVER_IGNORED.iter().all(|n| other.param(n).is_none() || self.param(n).is_some())
            && self.headers().count() == other.headers().count()
            && self.headers().all(|(name, value)| {
                other.headers().any(|(n, v)| same_text(n, name, true) && same_text(v, value, true))
            })
    }

    fn same_tel(&self, other: &Uri<'_>) -> bool {
        let digits = |uri: &Uri<'_>| {
            let kept = uri.user.unwrap_or("").bytes().filter(|c| !matches!(c, b'-' | b'.' | b'(' | b')'));
            kept.map(|c| c.to_ascii_lowercase()).collect::<Vec<u8>>()
        };
        digits(self) == digits(other)
            && self.params().count() == other.params().count()
            && self
                .params()
                .all(|(name, value)| other.param(name).is_some_and(|theirs| same_option(value, theirs, true)))
    }
}

impl fmt::Display for Uri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme.as_str())?;
        f.write_str(":")?;
        if let Some(opaque) = self.opaque() {
            return f.write_str(opaque);
        }
        if let Some(user) = self.user {
            f.write_str(user)?;
            if let Some(password) = self.password {
                f.write_str(":")?;
                f.write_str(password)?;
            }
            if self.is_sip() {
                f.write_str("@")?;
            }
        }
        self.host.fmt(f)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if !self.params.is_empty() {
            f.write_str(";")?;
            f.write_str(self.params)?;
        }
        if let Some(headers) = self.headers {
            f.write_str("?")?;
            f.write_str(headers)?;
        }
        Ok(())
    }
}

/// An owned URI: text that has gone through [`Uri::parse`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UriBuf(String);

impl UriBuf {
    /// Keeps a URI.
    ///
    /// # Errors
    /// As [`Uri::parse`].
    pub fn parse(text: &str) -> Result<UriBuf, UriError> {
        Uri::parse(text.as_bytes())?;
        Ok(UriBuf(text.to_owned()))
    }

    /// `sip:user@host:port`. The user is escaped where needed (empty: no user part); the host is a name or an address,
    /// an IPv6 address with or without brackets.
    ///
    /// # Errors
    /// When the host is neither.
    pub fn sip(user: &str, host: &str, port: Option<u16>) -> Result<UriBuf, UriError> {
        let address: Result<Ipv6Addr, _> = host.parse();
        let host = match &address {
            Ok(address) => Host::V6(*address),
            Err(_) => Host::parse(host.as_bytes())?,
        };
        let user = match user {
            "" => None,
            user => Some(escape_user(user.as_bytes())),
        };
        let uri = Uri { user: user.as_deref(), host, port, ..Uri::empty(Scheme::Sip) };
        let text = uri.to_string();
        Uri::parse(text.as_bytes())?;
        Ok(UriBuf(text))
    }

    /// Appends a parameter; characters that may not stand in one are escaped. Nothing changes when the URI has such a
    /// parameter already, or [`URI_PARAMS_MAX`] of them, or is neither sip, sips nor tel.
    #[must_use]
    pub fn with_param(mut self, name: &str, value: Option<&str>) -> UriBuf {
        let uri = self.as_uri();
        let full = uri.params().count() >= URI_PARAMS_MAX;
        if name.is_empty() || value == Some("") || full || uri.opaque().is_some() || uri.param(name).is_some()
        {
            return self;
        }
        let mut param = format!(";{}", escape(name.as_bytes(), is_param_byte));
        if let Some(value) = value {
            param.push('=');
            param.push_str(&escape(value.as_bytes(), is_param_byte));
        }
        let at = uri.headers.map_or(self.0.len(), |headers| self.0.len() - headers.len() - 1);
        self.0.insert_str(at, &param);
        self
    }

    /// The components.
    pub fn as_uri(&self) -> Uri<'_> {
        // Writing may have made it longer than what is accepted from outside: an IPv6 address has several spellings.
        Uri::parse_any_length(self.0.as_bytes()).expect("only text that parses gets into a UriBuf")
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for UriBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Uri<'_>> for UriBuf {
    fn from(uri: Uri<'_>) -> UriBuf {
        UriBuf(uri.to_string())
    }
}

/// Resolves `%` escapes once.
pub fn decode(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if memchr(b'%', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned(Unescaped { text: bytes }.map(|(c, _)| c).collect())
}

/// Escapes what may not stand in a user part (RFC 3261 section 25.1, `user`).
pub fn escape_user(user: &[u8]) -> String {
    escape(user, |c| is_unreserved(c) || matches!(c, b'&' | b'=' | b'+' | b'$' | b',' | b';' | b'?' | b'/'))
}

/// Escapes what may not stand in the value of a URI header (RFC 3261 section 25.1, `hvalue`).
pub fn escape_header_value(value: &[u8]) -> String {
    escape(value, |c| is_unreserved(c) || matches!(c, b'[' | b']' | b'/' | b'?' | b':' | b'+' | b'$'))
}

fn escape(text: &[u8], plain: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for &c in text {
        if plain(c) {
            out.push(char::from(c));
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(DIGITS[usize::from(c >> 4)]));
            out.push(char::from(DIGITS[usize::from(c & 15)]));
        }
    }
    out
}

fn is_unreserved(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')')
}

fn is_param_byte(c: u8) -> bool {
    is_unreserved(c) || matches!(c, b'[' | b']' | b'/' | b':' | b'&' | b'+' | b'$')
}

fn check_escapes(text: &[u8]) -> Result<(), UriError> {
    for at in memchr::memchr_iter(b'%', text) {
        match text.get(at + 1..at + 3) {
            Some([a, b]) if is_hex(*a) && is_hex(*b) => {}
            _ => return Err(UriError::Escape),
        }
    }
    Ok(())
}

fn check_params(params: &str) -> Result<(), UriError> {
    let mut rest = params;
    for count in 0..URI_PARAMS_MAX {
        let end = memchr(b';', rest.as_bytes()).unwrap_or(rest.len());
        let name = param_name(&rest[..end]);
        // No name stands there twice (RFC 3261 section 19.1.1).
        let twice = || params.split(';').take(count).any(|p| same_text(param_name(p), name, true));
        if name.is_empty() || rest[..end].ends_with('=') || (count > 0 && twice()) {
            return Err(UriError::Param);
        }
        if end == rest.len() {
            return Ok(());
        }
        rest = &rest[end + 1..];
    }
    Err(UriError::Param)
}

fn param_name(param: &str) -> &str {
    &param[..memchr(b'=', param.as_bytes()).unwrap_or(param.len())]
}

fn check_headers(uri: &Uri<'_>) -> Result<(), UriError> {
    for (count, header) in uri.headers.unwrap_or("").split('&').enumerate() {
        if !header.contains('=') || header.starts_with('=') || count == URI_PARAMS_MAX {
            return Err(UriError::Header);
        }
    }
    Ok(())
}

/// Port 0 is refused too: nothing can be sent there.
pub(crate) fn port(text: &[u8]) -> Option<u16> {
    number(text).and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0)
}

/// The address that a text begins with, and its length.
fn address_prefix(text: &[u8]) -> Result<Option<(Host<'static>, usize)>, UriError> {
    if text.first() == Some(&b'[') {
        let end = memchr(b']', text).ok_or(UriError::Host)?;
        let address = ipv6(&text[1..end]).ok_or(UriError::Host)?;
        return Ok(Some((Host::V6(address), end + 1)));
    }
    Ok(ipv4_prefix(text).map(|(address, used)| (Host::V4(address), used)))
}

/// The length of the host name that a text begins with: labels that are not empty, behind the last of them a dot or none.
fn host_name(text: &[u8]) -> Option<usize> {
    let (mut label, mut last, mut at) = (0, 0, 0);
    while let Some(c) = text.get(at).filter(|c| is_host_byte(**c)) {
        if *c == b'.' {
            if at == label {
                return None;
            }
            (label, last) = (at + 1, label);
        }
        at += 1;
    }
    let last = if label == at { &text[last..at.checked_sub(1)?] } else { &text[label..at] };
    // The last label of a name is never all digits (toplabel): that could only be an address, and is none.
    let is_name = last.iter().any(|c| !c.is_ascii_digit());
    (is_name && at <= HOST_MAX).then_some(at)
}

/// The IPv4 address that a text begins with, and its length; `None` when more of a host follows. The standard library's
/// parser takes the same, but wants it cut out and costs several times as much.
fn ipv4_prefix(text: &[u8]) -> Option<(Ipv4Addr, usize)> {
    let mut octets = [0; 4];
    let mut at = 0;
    for (place, octet) in octets.iter_mut().enumerate() {
        if place > 0 {
            text.get(at).filter(|c| **c == b'.')?;
            at += 1;
        }
        let start = at;
        let mut value = 0;
        while let Some(digit) = text.get(at).filter(|c| c.is_ascii_digit())
            && at < start + 3
        {
            value = value * 10 + u16::from(digit - b'0');
            at += 1;
        }
        // Some read leading zeros as octal: such an octet is none.
        if at == start || (text[start] == b'0' && at > start + 1) {
            return None;
        }
        *octet = u8::try_from(value).ok()?;
    }
    text.get(at).is_none_or(|c| !is_host_byte(*c)).then(|| (Ipv4Addr::from(octets), at))
}

/// An IPv6 address in text form. RFC 3261's grammar also derives a third colon before an embedded IPv4 address; RFC
/// 5118 section 4.10 wants it understood.
pub(crate) fn ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    // The longest form: six groups of four digits, colons, an IPv4 address, and the third colon.
    const LONGEST: usize = 46;
    let text = std::str::from_utf8(text).ok().filter(|t| t.len() <= LONGEST)?;
    match text.find(":::") {
        Some(at) => format!("{}{}", &text[..at], &text[at + 1..]).parse().ok(),
        None => text.parse().ok(),
    }
}

/// Splits at a separator; an empty text has no pieces.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    text.split(separator).filter(|piece| !piece.is_empty())
}

/// Characters with escapes resolved. The flag tells an escaped reserved character, which is not the same as the
/// character itself (section 19.1.4).
struct Unescaped<'a> {
    text: &'a [u8],
}

impl Iterator for Unescaped<'_> {
    type Item = (u8, bool);

    fn next(&mut self) -> Option<(u8, bool)> {
        const RESERVED: &[u8] = b";/?:@&=+$,";
        match self.text {
            [b'%', a, b, rest @ ..] if is_hex(*a) && is_hex(*b) => {
                self.text = rest;
                let c = hex_value(*a) << 4 | hex_value(*b);
                Some((c, RESERVED.contains(&c)))
            }
            [c, rest @ ..] => {
                self.text = rest;
                Some((*c, false))
            }
            [] => None,
        }
    }
}

fn hex_value(c: u8) -> u8 {
    match c {
        b'0'..=b'9' => c - b'0',
        b'a'..=b'f' => c - b'a' + 10,
        _ => c.wrapping_sub(b'A').wrapping_add(10) & 15,
    }
}

fn same_text(a: &str, b: &str, fold_case: bool) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a == b {
        return true;
    }
    if memchr(b'%', a).is_none() && memchr(b'%', b).is_none() {
        return fold_case && a.eq_ignore_ascii_case(b);
    }
    let fold = |(c, flag): (u8, bool)| (if fold_case { c.to_ascii_lowercase() } else { c }, flag);
    Unescaped { text: a }.map(fold).eq(Unescaped { text: b }.map(fold))
}

fn same_option(a: Option<&str>, b: Option<&str>, fold_case: bool) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same_text(a, b, fold_case),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri<'_> {
        Uri::parse(text.as_bytes()).unwrap()
    }

    fn same(a: &str, b: &str) -> bool {
        let there = uri(a).equivalent(&uri(b));
        assert_eq!(there, uri(b).equivalent(&uri(a)), "comparison is symmetric: {a} {b}");
        there
    }

    #[test]
    fn an_ipv4_address_is_what_the_standard_library_takes_for_one() {
        let octets = [
            "0", "1", "9", "10", "99", "100", "249", "255", "256", "300", "00", "01", "001", "1000", "", "x",
        ];
        for a in octets {
            for b in octets {
                for text in [
                    format!("{a}.2.3.{b}"),
                    format!("1.{a}.{b}.4"),
                    format!("{a}.{b}"),
                    format!("1.2.3.{a}.{b}"),
                ] {
                    let expected: Option<Ipv4Addr> = text.parse().ok();
                    assert_eq!(ipv4_prefix(text.as_bytes()), expected.map(|ip| (ip, text.len())), "{text}");
                }
            }
        }
        for end in [":5060", ";lr", " ", "]"] {
            let text = format!("192.0.2.1{end}");
            assert_eq!(ipv4_prefix(text.as_bytes()), Some(([192, 0, 2, 1].into(), 9)), "{text}");
        }
        for end in [".", ".example.com", "-a", "_", "a"] {
            assert_eq!(ipv4_prefix(format!("192.0.2.1{end}").as_bytes()), None, "{end}");
        }
    }

    #[test]
    fn a_host_name_has_no_empty_label_and_ends_in_one_that_is_no_number() {
        let long = "a".repeat(HOST_MAX);
        for name in ["a", "a.", "a.b", "1.a", "a.1b", "a-b_c.example.com.", "9a", &long] {
            assert_eq!(Host::parse(name.as_bytes()), Ok(Host::Name(name)), "{name}");
            assert_eq!(Host::prefix_of(&format!("{name};lr")), Ok((Host::Name(name), name.len())), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            ".a",
            "a..",
            "a..b",
            "1",
            "1.",
            "a.1",
            "a.1.",
            "1.2.3.4.",
            "1.2.3.4.5",
            &format!("{long}a"),
        ] {
            assert_eq!(Host::parse(name.as_bytes()), Err(UriError::Host), "{name}");
            assert_eq!(Host::prefix_of(name), Err(UriError::Host), "{name}");
        }
    }

    #[test]
    fn all_components_are_found() {
        let u = uri("sips:alice:secret@[2001:db8::1]:5071;transport=TCP;lr?Subject=a%20b&Priority=urgent");
        assert_eq!(u.scheme, Scheme::Sips);
        assert_eq!((u.user, u.password, u.port), (Some("alice"), Some("secret"), Some(5071)));
        assert_eq!(u.host.ip(), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(u.transport_param(), Some(Transport::Tcp));
        assert!(u.is_lr());
        assert_eq!(u.param("LR"), Some(None));
        assert_eq!(u.header("subject").as_deref(), Some(b"a b".as_slice()));
        assert_eq!(
            u.to_string(),
            "sips:alice:secret@[2001:db8::1]:5071;transport=TCP;lr?Subject=a%20b&Priority=urgent"
        );
    }

    #[test]
    fn comparison_follows_the_examples_of_section_19_1_4() {
        assert!(same("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"));
        assert!(same("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"));
        assert!(same("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"));
        assert!(same(
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com"
        ));
        assert!(same(
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x"
        ));
        assert!(!same("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"));
        assert!(!same("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"));
        assert!(!same("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"));
        assert!(!same("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"));
        assert!(!same("sip:a@example.com", "sips:a@example.com"));
        assert!(
            !same("sip:a%3Bb@example.com", "sip:a;b@example.com"),
            "an escaped reserved character is another"
        );
    }

    #[test]
    fn tel_numbers_compare_without_their_separators() {
        assert!(same("tel:+1-201-555-0123", "tel:+1(201)555.0123"));
        assert!(same("tel:7042;phone-context=Example.com", "tel:7042;phone-context=example.com"));
        assert!(!same("tel:7042;phone-context=example.com", "tel:7042;phone-context=+49"));
        assert_eq!(uri("tel:+1-201-555-0123").digits().as_deref(), Some("+12015550123"));
        assert_eq!(uri("sip:+1(201)5550123;x=y@example.com").digits().as_deref(), Some("+12015550123"));
        assert_eq!(uri("sip:alice@example.com").digits(), None);
        assert_eq!(uri("tel:*21*102#;phone-context=a.b").user, Some("*21*102#"));
    }

    #[test]
    fn wrong_uris_name_their_fault() {
        for (text, fault) in [
            ("", UriError::Scheme),
            ("sip", UriError::Scheme),
            ("1x:y", UriError::Scheme),
            ("sip:", UriError::Host),
            ("sip:@example.com", UriError::User),
            ("sip:a@", UriError::Host),
            ("sip:2001:db8::10", UriError::Host),
            ("sip:a@300.1.1.1", UriError::Host),
            ("sip:a@[::1", UriError::Host),
            ("sip:a@[fe80::1%25eth0]", UriError::Host),
            ("sip:a@b:", UriError::Port),
            ("sip:a@b:0", UriError::Port),
            ("sip:a@b:65536", UriError::Port),
            ("sip:a@b:db8::10", UriError::Port),
            ("sip:a@b;", UriError::Param),
            ("sip:a@b;x=", UriError::Param),
            ("sip:a@b;;lr", UriError::Param),
            ("sip:a@b;lr;x=1;%4Cr", UriError::Param),
            ("sip:a@b?", UriError::Header),
            ("sip:a@b?x", UriError::Header),
            ("sip:100%@b", UriError::Escape),
            ("sip:a b@c", UriError::Character),
            ("<sip:a@b>", UriError::Character),
            ("sip:a@b\u{0}", UriError::Character),
            ("tel:", UriError::User),
            ("tel:+", UriError::User),
            ("tel:+49x", UriError::User),
        ] {
            assert_eq!(Uri::parse(text.as_bytes()).unwrap_err(), fault, "{text}");
        }
        assert_eq!(Uri::parse(b"sip:\xff@b").unwrap_err(), UriError::Character);
    }

    #[test]
    fn escapes_are_resolved_once() {
        let u = uri("sip:I%20have%2520spaces@example.net;%6C%72;n%61me=v%61lue%25%34%31");
        assert_eq!(u.user_decoded().as_deref(), Some(b"I have%20spaces".as_slice()));
        assert!(u.is_lr());
        assert_eq!(decode(u.param("name").flatten().unwrap()).as_ref(), b"value%41");
        assert_eq!(uri("sip:%00@a.b").user_decoded().as_deref(), Some([0u8].as_slice()));
    }

    #[test]
    fn built_uris_are_escaped_and_parse() {
        let built = UriBuf::sip("a b@c:d;e", "2001:db8::1", Some(5060)).unwrap().with_param("ob", None);
        assert_eq!(built.as_str(), "sip:a%20b%40c%3Ad;e@[2001:db8::1]:5060;ob");
        assert_eq!(built.as_uri().user_decoded().as_deref(), Some(b"a b@c:d;e".as_slice()));
        assert_eq!(UriBuf::sip("", "example.com", None).unwrap().as_str(), "sip:example.com");
        assert_eq!(UriBuf::sip("a", "example.com>\r\nX: y", None), Err(UriError::Host));
        let with_header = UriBuf::parse("sip:a@b?x=y").unwrap().with_param("k", Some("a=b;\r\n"));
        assert_eq!(with_header.as_str(), "sip:a@b;k=a%3Db%3B%0D%0A?x=y");
        assert_eq!(with_header.as_uri().param("k"), Some(Some("a%3Db%3B%0D%0A")));
    }

    #[test]
    fn a_kept_uri_can_always_be_read_again() {
        let filler = "x".repeat(URI_MAX - "sip:@[1:2:3::5:6:7:8]".len());
        let longest = format!("sip:{filler}@[1:2:3::5:6:7:8]");
        let kept = UriBuf::from(uri(&longest));
        assert_eq!(kept.as_str().len(), URI_MAX + 1, "the one group of zeros is written out");
        assert_eq!(kept.as_uri().user, Some(filler.as_str()));
        assert_eq!(Uri::parse(kept.as_str().as_bytes()).unwrap_err(), UriError::TooLong);

        let mut full = UriBuf::sip("a", "b", None).unwrap();
        for n in 0..URI_PARAMS_MAX + 2 {
            full = full.with_param(&format!("p{n}"), None).with_param("p0", Some("again"));
        }
        assert_eq!(full.as_uri().params().count(), URI_PARAMS_MAX);
        assert_eq!(full.as_uri().param("p0"), Some(None));
    }
}
