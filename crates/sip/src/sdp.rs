//! Session descriptions (RFC 8866), read and changed line by line; what nobody asked for stays byte for byte.
//!
//! In: the body of an `application/sdp` part. Out: typed views ([`Section`], [`Media`]), changes by setters, bytes again.
//! Lines are ranges over the received buffer; only replaced lines are stored anew.
//! Elsewhere: which answer fits which offer (`offer`), addresses and ports of a relay (crate `relay`).

mod edit;
mod view;

pub use edit::MediaLine;
pub use view::{Address, Attributes, Connection, Direction, Media, Origin, RtpMap, Section};

use bytes::Bytes;
use smallvec::SmallVec;
use std::fmt;
use std::ops::Range;

/// No description may be longer.
pub const SIZE_MAX: usize = 64 * 1024;
/// No description may have more lines.
pub const LINES_MAX: usize = 1000;
/// No description may have more media.
pub const MEDIA_MAX: usize = 64;

/// A session description.
#[derive(Clone)]
pub struct Sdp {
    source: Bytes,
    /// Lines of ours, one after the other, without line ends.
    own: Vec<u8>,
    lines: Vec<Line>,
    /// Where the media descriptions begin in `lines`.
    media: SmallVec<[usize; 4]>,
    /// `source` is exactly what `to_bytes` would write.
    untouched: bool,
}

/// One line, `letter=value`, without its end.
#[derive(Clone, Copy)]
struct Line {
    start: u32,
    len: u32,
    own: bool,
}

/// The session part, or one media description by its index from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything before the first `m=`.
    Session,
    /// From an `m=` to the next.
    Media(usize),
}

/// Why bytes are no session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SDP line {line}: {reason}")]
pub struct SdpError {
    /// Counted from 1; 0 is the description as a whole.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
}

impl Sdp {
    /// Reads a description.
    ///
    /// Lenient where telephones are known to err: line feeds without carriage returns, no `s=` or `t=`, lines out of
    /// order, unknown lines and attributes, empty lines around it. Strict in what others rely on: `v=0` first, one
    /// `o=`, whole `m=` and `c=` lines, an address for every accepted stream.
    ///
    /// # Errors
    /// Names the first offending line, or line 0 for a limit ([`SIZE_MAX`], [`LINES_MAX`], [`MEDIA_MAX`]).
    pub fn parse(source: impl Into<Bytes>) -> Result<Sdp, SdpError> {
        let source = source.into();
        if source.len() > SIZE_MAX {
            return Err(SdpError { line: 0, reason: "longer than 64 KiB" });
        }
        let (lines, untouched) = split_lines(&source)?;
        let mut sdp = Sdp { source, own: Vec::new(), lines, media: SmallVec::new(), untouched };
        sdp.check()?;
        Ok(sdp)
    }

    /// A description without media: ours, to be filled by [`Sdp::add_media`]. The user name is `-` where there is none.
    pub fn new(username: &str, session_id: u64, version: u64, address: std::net::IpAddr) -> Sdp {
        let mut sdp = Sdp {
            source: Bytes::new(),
            own: Vec::with_capacity(256),
            lines: Vec::with_capacity(16),
            media: SmallVec::new(),
            untouched: false,
        };
        sdp.set_line(Part::Session, b'v', "0");
        sdp.set_line(Part::Session, b'o', "");
        sdp.set_origin(username, &session_id.to_string(), version, address);
        sdp.set_line(Part::Session, b's', "-");
        sdp.set_connection(Part::Session, address);
        sdp.set_line(Part::Session, b't', "0 0");
        sdp
    }

    /// The whole description, every line ended by CRLF. No copy when nothing was changed.
    pub fn to_bytes(&self) -> Bytes {
        if self.untouched {
            return self.source.clone();
        }
        let len = self.lines.iter().map(|line| line.len as usize + 2).sum();
        let mut out = Vec::with_capacity(len);
        for line in &self.lines {
            out.extend_from_slice(self.text(*line));
            out.extend_from_slice(b"\r\n");
        }
        Bytes::from(out)
    }

    /// The part before the first `m=`.
    pub fn session(&self) -> Section<'_> {
        Section::new(self, Part::Session)
    }

    /// The `index`-th media description.
    pub fn media(&self, index: usize) -> Option<Media<'_>> {
        (index < self.media.len()).then(|| Media::new(self, index))
    }

    /// All media descriptions in order.
    pub fn all_media(&self) -> impl ExactSizeIterator<Item = Media<'_>> {
        (0..self.media.len()).map(|index| Media::new(self, index))
    }

    /// How many media descriptions there are, rejected ones included.
    pub fn media_count(&self) -> usize {
        self.media.len()
    }

    /// The `o=` line.
    pub fn origin(&self) -> Option<Origin<'_>> {
        self.session().first(b'o').and_then(Origin::parse)
    }

    /// The lines of a part; empty for a media description that is not there.
    fn range(&self, part: Part) -> Range<usize> {
        let end_of = |index: usize| self.media.get(index).copied().unwrap_or(self.lines.len());
        match part {
            Part::Session => 0..end_of(0),
            Part::Media(index) => end_of(index)..end_of(index.saturating_add(1)),
        }
    }

    fn text(&self, line: Line) -> &[u8] {
        let from: &[u8] = if line.own { &self.own } else { &self.source };
        &from[line.start as usize..][..line.len as usize]
    }

    fn letter(&self, at: usize) -> u8 {
        self.text(self.lines[at])[0]
    }

    /// What follows `letter=`.
    fn value(&self, at: usize) -> &[u8] {
        &self.text(self.lines[at])[2..]
    }

    /// Line syntax and the few rules that others rely on; finds the media descriptions.
    fn check(&mut self) -> Result<(), SdpError> {
        let mut connections = [false; 2]; // of the session, of the current media description
        let mut origins = 0;
        for at in 0..self.lines.len() {
            let line = at + 1;
            let fail = |reason| Err(SdpError { line, reason });
            let text = self.text(self.lines[at]);
            let [letter @ b'a'..=b'z', b'=', value @ ..] = text else {
                return fail("not of the form letter=value");
            };
            match letter {
                b'v' if at == 0 && value.trim_ascii_end() == b"0" => {}
                b'v' if at == 0 => return fail("version is not 0"),
                b'v' => return fail("v= twice"),
                _ if at == 0 => return fail("does not begin with v=0"),
                b'o' => {
                    origins += 1;
                    if origins > 1 || !self.media.is_empty() {
                        return fail("o= twice or below an m=");
                    }
                    if Origin::parse(value).is_none() {
                        return fail("bad o= line");
                    }
                }
                b'm' => {
                    if self.media.len() == MEDIA_MAX {
                        return fail("more than 64 media");
                    }
                    self.require_connection(connections)?;
                    if let Err(reason) = view::split_media(value) {
                        return fail(reason);
                    }
                    self.media.push(at);
                    connections[1] = false;
                }
                b'c' => {
                    let place = &mut connections[usize::from(!self.media.is_empty())];
                    if *place && self.media.is_empty() {
                        return fail("c= twice");
                    }
                    *place = true;
                    if Connection::parse(value).is_none() {
                        return fail("bad c= line");
                    }
                }
                _ => {}
            }
        }
        if origins == 0 {
            return Err(SdpError { line: 0, reason: "no o= line" });
        }
        self.require_connection(connections)
    }

    /// RFC 8866 section 5.7: a `c=` for the session or for each media; a rejected stream needs none.
    fn require_connection(&self, [session, media]: [bool; 2]) -> Result<(), SdpError> {
        let Some(index) = self.media.len().checked_sub(1) else { return Ok(()) };
        if session || media || Media::new(self, index).port() == 0 {
            return Ok(());
        }
        Err(SdpError { line: self.media[index] + 1, reason: "no c= line for this m=" })
    }
}

impl TryFrom<&[u8]> for Sdp {
    type Error = SdpError;

    fn try_from(text: &[u8]) -> Result<Sdp, SdpError> {
        Sdp::parse(Bytes::copy_from_slice(text))
    }
}

impl fmt::Debug for Sdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Attributes may hold keys (`a=crypto`, `k=`): only the shape is shown.
        f.debug_list()
            .entries(
                self.media.iter().map(|at| String::from_utf8_lossy(self.text(self.lines[*at])).into_owned()),
            )
            .finish()
    }
}

/// Finds the lines. Also tells whether each of them ends with CRLF.
fn split_lines(source: &[u8]) -> Result<(Vec<Line>, bool), SdpError> {
    let mut lines = Vec::with_capacity(32);
    let mut clean = true;
    let mut gap = false;
    let mut start = 0;
    while start < source.len() {
        let number = lines.len() + 1;
        let rest = &source[start..];
        let end = memchr::memchr(b'\n', rest);
        let mut text = &rest[..end.unwrap_or(rest.len())];
        match text {
            [inner @ .., b'\r'] => {
                text = inner;
                clean &= end.is_some();
            }
            _ => clean = false,
        }
        if memchr::memchr2(b'\r', b'\0', text).is_some() {
            return Err(SdpError { line: number, reason: "carriage return or NUL inside a line" });
        }
        if text.is_empty() {
            gap = !lines.is_empty();
            clean = false;
        } else {
            if gap {
                return Err(SdpError { line: number, reason: "after an empty line" });
            }
            if lines.len() == LINES_MAX {
                return Err(SdpError { line: 0, reason: "more than 1000 lines" });
            }
            let at =
                |n: usize| u32::try_from(n).map_err(|_| SdpError { line: 0, reason: "longer than 64 KiB" });
            lines.push(Line { start: at(start)?, len: at(text.len())?, own: false });
        }
        start += end.map_or(rest.len(), |end| end + 1);
    }
    if lines.is_empty() {
        return Err(SdpError { line: 0, reason: "empty" });
    }
    Ok((lines, clean))
}

#[cfg(test)]
mod tests;
