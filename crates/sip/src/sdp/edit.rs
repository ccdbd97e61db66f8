//! Changes of a description; every line that is not meant stays as it came.
//!
//! In: an [`Sdp`] and new values, from which line ends and NUL are dropped so that no value becomes two lines.
//! Out: the same [`Sdp`]. Elsewhere: which changes make an offer or an answer (`offer`).

use super::view::{attribute, split_media};
use super::{Direction, LINES_MAX, Line, MEDIA_MAX, Part, Sdp};
use crate::text::{Decimal, push_ip};
use std::fmt;
use std::net::IpAddr;

/// Room that the first line of ours makes: a relay needs no more.
const FIRST_ROOM: usize = 192;

/// Fields of a new `m=` line (RFC 8866 section 5.14).
#[derive(Clone, Copy, Debug)]
pub struct MediaLine<'a> {
    /// `audio`, …
    pub kind: &'a str,
    /// 0 rejects the stream.
    pub port: u16,
    /// `RTP/AVP`, …
    pub protocol: &'a str,
    /// At least one.
    pub formats: &'a [&'a str],
}

impl Sdp {
    /// Replaces the `o=` line.
    pub fn set_origin(&mut self, username: &str, session_id: &str, version: u64, address: IpAddr) {
        let username = if username.is_empty() { "-" } else { username };
        // A blank would shift the fields for strict readers.
        let name = |c: char| if c.is_whitespace() { '_' } else { c };
        let username: String = username.chars().map(name).collect();
        let line = self.write_with(b'o', |out| {
            for piece in [&username, " ", session_id, " "] {
                out.extend_from_slice(piece.as_bytes());
            }
            out.extend_from_slice(Decimal::of(version).as_bytes());
            out.push(b' ');
            push_address(out, address);
        });
        self.set(Part::Session, b'o', line);
    }

    /// Replaces the version in the `o=` line.
    pub fn set_version(&mut self, version: u64) {
        let Some(origin) = self.origin() else { return };
        let at = |part: &str, whole: &[u8]| part.as_ptr() as usize - whole.as_ptr() as usize;
        let Some(old) = self.session().first(b'o') else { return };
        let start = at(origin.session_version, old);
        let head = String::from_utf8_lossy(&old[..start]).into_owned();
        let tail = String::from_utf8_lossy(&old[start + origin.session_version.len()..]).into_owned();
        self.set_line(Part::Session, b'o', format_args!("{head}{version}{tail}"));
    }

    /// Sets the `c=` line of one part.
    pub fn set_connection(&mut self, part: Part, address: IpAddr) {
        if self.has(part) {
            let line = self.write_with(b'c', |out| push_address(out, address));
            self.set(part, b'c', line);
        }
    }

    /// Points every `c=` line there is to one address, as a relay does. One that says "unspecified" (hold in the manner
    /// of RFC 2543) is left alone.
    pub fn redirect(&mut self, address: IpAddr) {
        let parts = (0..self.media_count()).map(Part::Media);
        for part in std::iter::once(Part::Session).chain(parts) {
            let old = super::Section::new(self, part).connection();
            if old.is_some_and(|connection| !connection.is_unspecified()) {
                self.set_connection(part, address);
            }
        }
    }

    /// Sets the port in an `m=` line; a number of ports goes away, all else stays.
    pub fn set_port(&mut self, index: usize, port: u16) {
        let Some(&at) = self.media.get(index) else { return };
        let Ok(old) = split_media(self.value(at)) else { return };
        let (kind, port) = (old.kind.as_bytes(), Decimal::of(port.into()));
        let value = [kind, b" ", port.as_bytes(), b" ", old.after_port.as_bytes()].concat();
        let line = self.write_with(b'm', |out| out.extend_from_slice(&value));
        self.put(at, line);
    }

    /// Replaces the whole `m=` line; nothing happens when there is no such media.
    pub fn set_media(&mut self, index: usize, new: MediaLine<'_>) {
        let Some(&at) = self.media.get(index) else { return };
        let line = self.write_media(new);
        self.put(at, line);
    }

    /// Appends a media description and gives its index; `None` when there are [`MEDIA_MAX`] already.
    pub fn add_media(&mut self, new: MediaLine<'_>) -> Option<usize> {
        if self.media.len() == MEDIA_MAX || self.lines.len() >= LINES_MAX {
            return None;
        }
        let line = self.write_media(new);
        self.untouched = false;
        self.media.push(self.lines.len());
        self.lines.push(line);
        Some(self.media.len() - 1)
    }

    /// Sets the direction of one part. For a media description this overrides the session's.
    pub fn set_direction(&mut self, part: Part, direction: Direction) {
        self.remove_attributes(part, |name, value| value.is_none() && Direction::from_token(name).is_some());
        self.add_attribute(part, direction.token(), None);
    }

    /// Replaces all attributes of that name in one part by a single one.
    pub fn set_attribute(&mut self, part: Part, name: &str, value: Option<&str>) {
        let range = self.range(part);
        let found = range.into_iter().find(|at| self.is_attribute(*at, name));
        let Some(first) = found else { return self.add_attribute(part, name, value) };
        let line = self.write_attribute(name, value);
        self.put(first, line);
        for at in (first + 1..self.range(part).end).rev() {
            if self.is_attribute(at, name) {
                self.take_out(at);
            }
        }
    }

    /// Appends an attribute to one part. Beyond [`LINES_MAX`] lines nothing happens.
    pub fn add_attribute(&mut self, part: Part, name: &str, value: Option<&str>) {
        if let Part::Media(index) = part
            && index >= self.media.len()
        {
            return;
        }
        let line = self.write_attribute(name, value);
        self.insert(self.range(part).end, line);
    }

    /// Takes out the attributes of one part for which `unwanted` (name, value) holds.
    pub fn remove_attributes(&mut self, part: Part, unwanted: impl Fn(&str, Option<&str>) -> bool) {
        for at in self.range(part).rev() {
            let found = attribute(self.text(self.lines[at]));
            if found.is_some_and(|(name, value)| unwanted(name, value)) {
                self.take_out(at);
            }
        }
    }

    /// Replaces the lines of a type in one part by a single one, or inserts it where RFC 8866 section 5 wants it.
    /// `m=` lines have their own setters.
    pub fn set_line(&mut self, part: Part, letter: u8, value: impl fmt::Display) {
        if letter != b'm' && letter.is_ascii_lowercase() && self.has(part) {
            let line = self.write(letter, value);
            self.set(part, letter, line);
        }
    }

    /// Whether a line can be put into a part.
    fn has(&self, part: Part) -> bool {
        part == Part::Session || !self.range(part).is_empty()
    }

    fn set(&mut self, part: Part, letter: u8, line: Line) {
        let range = self.range(part);
        if let Some(first) = range.clone().find(|at| self.letter(*at) == letter) {
            self.put(first, line);
            for at in (first + 1..range.end).rev() {
                if self.letter(at) == letter {
                    self.take_out(at);
                }
            }
            return;
        }
        let place = |letter: u8| ORDER.iter().position(|known| *known == letter).unwrap_or(ORDER.len());
        let inside = range.start + usize::from(part != Part::Session)..range.end; // nothing goes before the m=
        let before = inside.into_iter().find(|at| place(self.letter(*at)) > place(letter));
        self.insert(before.unwrap_or(range.end), line);
    }

    fn is_attribute(&self, at: usize, name: &str) -> bool {
        attribute(self.text(self.lines[at])).is_some_and(|(other, _)| other == name)
    }

    fn write_attribute(&mut self, name: &str, value: Option<&str>) -> Line {
        match value {
            Some(value) => self.write(b'a', format_args!("{name}:{value}")),
            None => self.write(b'a', name),
        }
    }

    fn write_media(&mut self, new: MediaLine<'_>) -> Line {
        let formats = if new.formats.is_empty() { "0".to_owned() } else { new.formats.join(" ") };
        self.write(b'm', format_args!("{} {} {} {formats}", new.kind, new.port, new.protocol))
    }

    /// Stores a line of ours.
    fn write(&mut self, letter: u8, value: impl fmt::Display) -> Line {
        use std::io::Write;
        self.write_with(letter, |out| write!(out, "{value}").expect("writing to memory does not fail"))
    }

    /// The same for a value that is appended in place.
    fn write_with(&mut self, letter: u8, value: impl FnOnce(&mut Vec<u8>)) -> Line {
        if self.own.capacity() == 0 {
            self.own.reserve(FIRST_ROOM);
        }
        let start = self.own.len();
        self.own.extend_from_slice(&[letter, b'=']);
        value(&mut self.own);
        if memchr::memchr3(b'\r', b'\n', b'\0', &self.own[start..]).is_some() {
            let clean: Vec<u8> =
                self.own.drain(start..).filter(|b| !matches!(b, b'\r' | b'\n' | b'\0')).collect();
            self.own.extend_from_slice(&clean);
        }
        let at = |n: usize| u32::try_from(n).expect("descriptions are far smaller than 4 GiB");
        Line { start: at(start), len: at(self.own.len() - start), own: true }
    }

    fn put(&mut self, at: usize, line: Line) {
        self.untouched = false;
        self.lines[at] = line;
    }

    fn insert(&mut self, at: usize, line: Line) {
        if self.lines.len() >= LINES_MAX {
            return;
        }
        self.untouched = false;
        self.lines.insert(at, line);
        // A line at the place of an `m=` belongs to the part before it.
        for start in self.media.iter_mut().filter(|start| **start >= at) {
            *start += 1;
        }
    }

    fn take_out(&mut self, at: usize) {
        self.untouched = false;
        self.lines.remove(at);
        for start in self.media.iter_mut().filter(|start| **start > at) {
            *start -= 1;
        }
    }
}

/// The order of RFC 8866 section 5, session and media parts alike.
const ORDER: &[u8] = b"vosmiuepcbtrzka";

/// Appends `IN IP4 192.0.2.1`, or the same with `IP6`.
fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    out.extend_from_slice(if address.is_ipv4() { b"IN IP4 " } else { b"IN IP6 " });
    push_ip(out, address);
}
