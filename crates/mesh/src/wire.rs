//! From native messages to those of `proto/carillon/v1` and back.
//!
//! What another node says is untrusted in shape: every size, count and range is looked at. The same bounds hold on the way out, so that nobody
//! sends what would be dropped. Rooms: `leg`, `session` (a leg's events and commands), `media`, `directory`, `question`
//! (operators' questions). Elsewhere: streams (`peer`).

mod directory;
mod leg;
mod media;
mod question;
mod session;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use cluster::between::Title;
use cluster::ids::{CallId, LegId, NodeId};
use model::{Aor, E164, Id};
use proto::v1;
use sip::draft::HeaderText;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// Octets of a session description or another body.
pub const BODY_MAX: usize = 64 * 1024;
/// Octets of the header lines of one message.
pub const HEADERS_MAX: usize = 8 * 1024;
/// Octets of a URI, a name or another text.
pub const TEXT_MAX: usize = 2048;
/// Octets of a serialized dialog.
pub const DIALOG_MAX: usize = 64 * 1024;
/// Octets of a serialized call.
pub const CALL_MAX: usize = 256 * 1024;
/// Legs of a call, and custodians of it.
pub const LEGS_MAX: usize = 64;
/// What happened to legs of a call.
pub const HAPPENED_MAX: usize = 256;
/// Values of a route set or a path.
pub const ROUTES_MAX: usize = 32;
/// What a call counts for.
pub const COUNTS_MAX: usize = 16;
/// Calls of one `Holds`.
pub const HOLDS_MAX: usize = 1024;
/// Legs of a media session: they are numbered by an octet.
pub const MEDIA_LEGS_MAX: usize = 256;
/// Octets of a method's name.
const METHOD_MAX: usize = 32;
/// Octets of a text that is for people only; longer ones are cut.
pub(crate) const WORDS_MAX: usize = 1024;

/// A message that has a wire form.
pub trait Wire: Sized {
    /// The form.
    type Message: prost::Message + Default + Clone;

    /// The message for the wire; an error where it is larger than messages may be.
    fn write(self) -> Result<Self::Message, WireError>;

    /// The message from the wire.
    fn read(message: Self::Message) -> Result<Self, WireError>;
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct WireError {
    /// Message and field, as in the proto files.
    pub field: &'static str,
    /// What is wrong there.
    pub why: Why,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It is not there, or of a kind that this release does not know.
    #[error("missing, or of a kind that this release does not know")]
    Missing,
    /// It has too many octets.
    #[error("{octets} octets are too many, {max} at most")]
    TooLong {
        /// So many.
        octets: usize,
        /// At most so many.
        max: usize,
    },
    /// It has too many elements.
    #[error("{count} are too many, {max} at most")]
    TooMany {
        /// So many.
        count: usize,
        /// At most so many.
        max: usize,
    },
    /// A number that means nothing there.
    #[error("{0} is out of range")]
    Range(u64),
    /// A value of an enumeration that this release does not know.
    #[error("{0} is a value that this release does not know")]
    Unknown(i32),
    /// It is not what its name says: an address, header lines, a method.
    #[error("malformed")]
    Malformed,
}

type Read<T> = Result<T, WireError>;

fn bad<T>(field: &'static str, why: Why) -> Read<T> {
    Err(WireError { field, why })
}

fn there<T>(field: &'static str, value: Option<T>) -> Read<T> {
    value.ok_or(WireError { field, why: Why::Missing })
}

fn fits(field: &'static str, octets: usize, max: usize) -> Read<()> {
    if octets > max { bad(field, Why::TooLong { octets, max }) } else { Ok(()) }
}

fn few(field: &'static str, count: usize, max: usize) -> Read<()> {
    if count > max { bad(field, Why::TooMany { count, max }) } else { Ok(()) }
}

fn text(field: &'static str, text: String) -> Read<String> {
    fits(field, text.len(), TEXT_MAX)?;
    Ok(text)
}

fn maybe_text(field: &'static str, value: Option<String>) -> Read<Option<String>> {
    value.map(|value| text(field, value)).transpose()
}

fn texts(field: &'static str, values: Vec<String>) -> Read<Vec<String>> {
    few(field, values.len(), ROUTES_MAX)?;
    values.iter().try_for_each(|value| fits(field, value.len(), TEXT_MAX))?;
    Ok(values)
}

fn body(field: &'static str, body: Bytes) -> Read<Bytes> {
    fits(field, body.len(), BODY_MAX)?;
    Ok(body)
}

fn maybe_body(field: &'static str, value: Option<Bytes>) -> Read<Option<Bytes>> {
    value.map(|value| body(field, value)).transpose()
}

fn dialog(field: &'static str, state: Bytes) -> Read<Bytes> {
    fits(field, state.len(), DIALOG_MAX)?;
    Ok(state)
}

/// Words for people, cut at their bound.
fn words(mut text: String) -> String {
    if text.len() > WORDS_MAX {
        let end = (0..=WORDS_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
    }
    text
}

fn octet(field: &'static str, value: u32) -> Read<u8> {
    u8::try_from(value).or(bad(field, Why::Range(value.into())))
}

fn short(field: &'static str, value: u32) -> Read<u16> {
    u16::try_from(value).or(bad(field, Why::Range(value.into())))
}

/// A status code between two others.
fn status(field: &'static str, value: u32, from: u16, to: u16) -> Read<u16> {
    match u16::try_from(value) {
        Ok(value) if (from..=to).contains(&value) => Ok(value),
        Ok(_) | Err(_) => bad(field, Why::Range(value.into())),
    }
}

pub(crate) fn node(field: &'static str, value: u32) -> Read<NodeId> {
    match u16::try_from(value) {
        Ok(value) if value != 0 => Ok(NodeId(value)),
        Ok(_) | Err(_) => bad(field, Why::Range(value.into())),
    }
}

fn call(field: &'static str, raw: u64) -> Read<CallId> {
    let call = CallId::from_u64(raw);
    if call.node() == NodeId(0) { bad(field, Why::Range(raw)) } else { Ok(call) }
}

fn leg(field: &'static str, raw: u64) -> Read<LegId> {
    let leg = LegId::from_u64(raw);
    if leg.node() == NodeId(0) { bad(field, Why::Range(raw)) } else { Ok(leg) }
}

fn id<K>(field: &'static str, raw: u32) -> Read<Id<K>> {
    if raw == 0 { bad(field, Why::Range(0)) } else { Ok(Id::new(raw)) }
}

/// An address-of-record of anybody.
fn aor(field: &'static str, raw: u32) -> Read<Aor> {
    if raw == 0 { bad(field, Why::Range(0)) } else { Ok(Aor::from_bits(raw)) }
}

fn number(field: &'static str, text: &str) -> Read<E164> {
    text.parse().or(bad(field, Why::Malformed))
}

/// Header lines as [`HeaderText`] would have written them, and none of those that a message writes itself.
fn headers(field: &'static str, raw: &[u8]) -> Read<HeaderText> {
    fits(field, raw.len(), HEADERS_MAX)?;
    let mut lines = HeaderText::new();
    for line in raw.split_inclusive(|c| *c == b'\n') {
        let colon = line.windows(2).position(|two| two == b": ");
        let value = colon.and_then(|at| line[at + 2..].strip_suffix(b"\r\n"));
        match (colon.and_then(|at| std::str::from_utf8(&line[..at]).ok()), value) {
            (Some(name), Some(value)) => lines.push(name, value),
            _ => return bad(field, Why::Malformed),
        }
    }
    // What is no name, or would have become two lines, was left out.
    if lines.as_bytes() == raw { Ok(lines) } else { bad(field, Why::Malformed) }
}

fn write_headers(field: &'static str, lines: &HeaderText) -> Read<Bytes> {
    fits(field, lines.as_bytes().len(), HEADERS_MAX)?;
    Ok(Bytes::copy_from_slice(lines.as_bytes()))
}

fn ip(field: &'static str, raw: &[u8]) -> Read<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(raw) {
        Ok(IpAddr::from(four))
    } else if let Ok(sixteen) = <[u8; 16]>::try_from(raw) {
        Ok(IpAddr::from(sixteen))
    } else {
        bad(field, Why::Malformed)
    }
}

fn write_ip(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
        IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
    }
}

fn address(field: &'static str, value: Option<v1::SocketAddress>) -> Read<SocketAddr> {
    let value = there(field, value)?;
    let port = short(field, value.port)?;
    Ok(match ip(field, &value.ip)? {
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, value.scope).into(),
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, port),
    })
}

fn write_address(address: SocketAddr) -> Option<v1::SocketAddress> {
    let scope = match address {
        SocketAddr::V6(address) => address.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    Some(v1::SocketAddress { ip: write_ip(address.ip()), port: address.port().into(), scope })
}

fn title(field: &'static str, value: Option<v1::Title>) -> Read<Title> {
    let value = there(field, value)?;
    Ok(Title { call: call(field, value.call)?, epoch: value.epoch })
}

fn write_title(title: Title) -> Option<v1::Title> {
    Some(v1::Title { call: title.call.as_u64(), epoch: title.epoch })
}
