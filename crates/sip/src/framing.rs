//! Messages out of a byte stream (RFC 3261 section 18.3), and the keep-alives between them (RFC 5626 section 4.4.1).
//!
//! In: bytes in pieces of any size. Out: whole messages, pings and pongs, the same ones however the bytes were cut.
//! Elsewhere: WebSockets, which frame by themselves (RFC 7118), and datagrams.

use crate::flow::MESSAGE_MAX;
use crate::header::lex::is_token_byte;
use crate::msg::content_length;
use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr_iter, memrchr};

/// What a stream carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The bytes of one message.
    Message(Bytes),
    /// CRLF CRLF between messages: the peer wants to see a CRLF.
    Ping,
    /// CRLF between messages. The first half of a ping looks the same and is reported too, since waiting for what
    /// follows would hold back every pong.
    Pong,
}

/// Why nothing more can be read from this stream: where the next message begins is unknown, so it must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message does not begin with a letter of a method or status line.
    #[error("no SIP message on the stream")]
    NotSip,
    /// The headers do not end within [`MESSAGE_MAX`] bytes.
    #[error("headers longer than {MESSAGE_MAX} bytes")]
    TooLong,
    /// A Content-Length by which the message would have more than [`MESSAGE_MAX`] bytes.
    #[error("Content-Length beyond {MESSAGE_MAX} bytes")]
    BodyTooLong,
    /// No Content-Length, or several that differ, or one that is no number.
    #[error("message without a valid Content-Length")]
    ContentLength,
}

/// Cuts a stream into frames.
#[derive(Debug, Default)]
pub struct Framer {
    buf: BytesMut,
    /// No end of headers lies before this place.
    scanned: usize,
    /// The length of the message whose headers are complete.
    wanted: Option<usize>,
    /// The last frame was the first CRLF of a possible ping.
    half_ping: bool,
    failed: Option<FrameError>,
    /// Of the message that the stream failed at.
    head: Bytes,
}

impl Framer {
    /// For a new connection.
    pub fn new() -> Framer {
        Framer::default()
    }

    /// Adds bytes that came in. Call [`Framer::next`] until it has no more before adding others: what it holds is
    /// bounded by one message and the bytes of one call.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buf.extend_from_slice(bytes);
        }
    }

    /// The next frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the stream cannot be understood any further; the same error from then on.
    #[expect(clippy::should_implement_trait, reason = "an iterator that ends and goes on again is none")]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.advance().inspect_err(|error| {
            self.failed = Some(*error);
            self.head = head_of(std::mem::take(&mut self.buf), *error);
        })
    }

    /// After an error: start line and headers of the message that cannot be framed, as far as they came and fit, for
    /// whoever wants to tell its sender. Empty for what is not SIP at all.
    pub fn take_head(&mut self) -> Bytes {
        std::mem::take(&mut self.head)
    }

    /// Bytes of a message that is not complete yet; a shell that closes half-sent messages asks for it.
    pub fn pending(&self) -> usize {
        self.buf.len()
    }

    fn advance(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.wanted.is_none() {
            if let Some(frame) = self.between_messages()? {
                return Ok(Some(frame));
            }
            self.find_length()?;
        }
        let Some(length) = self.wanted.filter(|length| *length <= self.buf.len()) else {
            if self.buf.is_empty() {
                // Idle connections are many and hold no memory.
                self.buf = BytesMut::new();
            }
            return Ok(None);
        };
        self.wanted = None;
        self.scanned = 0;
        Ok(Some(Frame::Message(self.buf.split_to(length).freeze())))
    }

    /// Takes keep-alives and stray line ends from the front.
    fn between_messages(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            match self.buf.as_ref() {
                [] | [b'\r'] => return Ok(None),
                [b'\r', b'\n', ..] => {
                    self.buf.advance(2);
                    self.half_ping = !self.half_ping;
                    return Ok(Some(if self.half_ping { Frame::Pong } else { Frame::Ping }));
                }
                [b'\r' | b'\n', ..] => {
                    self.buf.advance(1);
                    self.half_ping = false;
                }
                [c, ..] if is_token_byte(*c) => {
                    self.half_ping = false;
                    return Ok(None);
                }
                _ => return Err(FrameError::NotSip),
            }
        }
    }

    /// Looks for the end of the headers in what is new.
    fn find_length(&mut self) -> Result<(), FrameError> {
        let mut head = None;
        for lf in memchr_iter(b'\n', &self.buf[self.scanned..]) {
            let next = self.scanned + lf + 1;
            match &self.buf[next..] {
                [b'\n', ..] => head = Some(next + 1),
                [b'\r', b'\n', ..] => head = Some(next + 2),
                _ => continue,
            }
            break;
        }
        match head {
            None if self.buf.len() >= MESSAGE_MAX => Err(FrameError::TooLong),
            None => {
                // An LF seen at the very end is looked at again, with what follows it.
                self.scanned = self.buf.len().saturating_sub(2);
                Ok(())
            }
            Some(head) if head > MESSAGE_MAX => Err(FrameError::TooLong),
            Some(head) => {
                let length = content_length(&self.buf[..head]);
                if length.is_none_or(|body| body > MESSAGE_MAX - head) {
                    self.buf.truncate(head);
                }
                let body = length.ok_or(FrameError::ContentLength)?;
                let whole = head.checked_add(body).filter(|whole| *whole <= MESSAGE_MAX);
                self.wanted = Some(whole.ok_or(FrameError::BodyTooLong)?);
                Ok(())
            }
        }
    }
}

/// What can be read of a message that cannot be framed: whole lines, and no more than a message may have.
fn head_of(mut buf: BytesMut, error: FrameError) -> Bytes {
    match error {
        FrameError::NotSip => return Bytes::new(),
        FrameError::TooLong => {
            buf.truncate(MESSAGE_MAX);
            let lines = memrchr(b'\n', &buf).map_or(0, |lf| lf + 1);
            buf.truncate(lines);
        }
        FrameError::BodyTooLong | FrameError::ContentLength => {}
    }
    buf.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(framer: &mut Framer, out: &mut Vec<Frame>) -> Result<(), FrameError> {
        while let Some(frame) = framer.next()? {
            out.push(frame);
        }
        Ok(())
    }

    fn frames(pieces: &[&[u8]]) -> (Vec<Frame>, Option<FrameError>) {
        let mut framer = Framer::new();
        let mut out = Vec::new();
        for piece in pieces {
            framer.push(piece);
            if let Err(error) = drain(&mut framer, &mut out) {
                assert_eq!(framer.next(), Err(error), "an error stays");
                return (out, Some(error));
            }
        }
        (out, None)
    }

    /// What is kept of the message that a stream fails at.
    fn kept(pieces: &[&[u8]]) -> Option<Bytes> {
        let mut framer = Framer::new();
        for piece in pieces {
            framer.push(piece);
            if drain(&mut framer, &mut Vec::new()).is_err() {
                return Some(framer.take_head());
            }
        }
        None
    }

    const A: &str = "OPTIONS sip:a SIP/2.0\r\nContent-Length: 4\r\n\r\n\r\n\r\n";
    const B: &str = "SIP/2.0 200 OK\r\nTo: x\r\nl :\r\n  5\r\n\r\nhello";
    const C: &str = "ACK sip:c SIP/2.0\nContent-Length: 0\n\n";

    #[test]
    fn messages_and_keep_alives_alternate() {
        let stream = format!("\r\n\r\n{A}{B}\r\n{C}\r\n\r\n\r\n\r\n");
        let message = |text: &str| Frame::Message(Bytes::copy_from_slice(text.as_bytes()));
        let expected = vec![
            Frame::Pong,
            Frame::Ping,
            message(A),
            message(B),
            Frame::Pong,
            message(C),
            Frame::Pong,
            Frame::Ping,
            Frame::Pong,
            Frame::Ping,
        ];
        assert_eq!(frames(&[stream.as_bytes()]), (expected, None));
    }

    #[test]
    fn hopeless_streams_end() {
        for (stream, error) in [
            ("\u{16}\u{3}\u{1}", FrameError::NotSip),
            (" x", FrameError::NotSip),
            ("A sip:a SIP/2.0\r\nTo: x\r\n\r\n", FrameError::ContentLength),
            ("A sip:a SIP/2.0\r\nl: x\r\n\r\n", FrameError::ContentLength),
            ("A sip:a SIP/2.0\r\nl: -1\r\n\r\n", FrameError::ContentLength),
            ("A sip:a SIP/2.0\r\nl: 1\r\nContent-Length: 2\r\n\r\n", FrameError::ContentLength),
            ("A sip:a SIP/2.0\r\nl: 65536\r\n\r\n", FrameError::BodyTooLong),
            ("A sip:a SIP/2.0\r\nl: 18446744073709551615\r\n\r\n", FrameError::BodyTooLong),
        ] {
            assert_eq!(frames(&[stream.as_bytes()]), (vec![], Some(error)), "{stream:?}");
        }
        let endless = vec![b'a'; MESSAGE_MAX];
        assert_eq!(frames(&[&endless]).1, Some(FrameError::TooLong));
    }

    #[test]
    fn the_head_of_what_cannot_be_framed_is_kept() {
        let head = |pieces: &[&[u8]]| {
            let mut framer = Framer::new();
            pieces.iter().for_each(|piece| framer.push(piece));
            let error = drain(&mut framer, &mut Vec::new()).unwrap_err();
            let head = framer.take_head();
            framer.push(b"more");
            assert_eq!((framer.next(), framer.take_head()), (Err(error), Bytes::new()));
            head
        };
        for text in ["A sip:a SIP/2.0\r\nl: x\r\n\r\n", "A sip:a SIP/2.0\r\nl: 99999\r\n\r\n"] {
            assert_eq!(head(&[C.as_bytes(), text.as_bytes(), b"body"]), text);
        }
        assert_eq!(head(&[b"\x01"]), "");
        let line = "X: 123456\n";
        let many = line.repeat(MESSAGE_MAX / line.len() + 1);
        for rest in ["", "\nbody"] {
            let kept = head(&[many.as_bytes(), rest.as_bytes()]);
            assert_eq!(kept.len(), MESSAGE_MAX / line.len() * line.len(), "whole lines");
        }
    }

    #[test]
    fn a_message_of_the_largest_size_passes() {
        let head = format!("A sip:a SIP/2.0\r\nContent-Length: {:>6}\r\n\r\n", 0).len();
        let text = format!("A sip:a SIP/2.0\r\nContent-Length: {:>6}\r\n\r\n", MESSAGE_MAX - head);
        let mut whole = text.into_bytes();
        whole.resize(MESSAGE_MAX, b'x');
        assert_eq!(frames(&[&whole]), (vec![Frame::Message(Bytes::from(whole.clone()))], None));
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => Just(A.as_bytes().to_vec()),
            4 => Just(B.as_bytes().to_vec()),
            4 => Just(C.as_bytes().to_vec()),
            4 => Just(b"\r\n".to_vec()),
            2 => Just(b"\r\n\r\n".to_vec()),
            1 => Just(b"BYE sip:d SIP/2.0\r\nl: -1\r\n\r\n".to_vec()),
            1 => Just(b"\n".to_vec()),
            1 => Just(b"\r".to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..20),
        ]
    }

    proptest! {
        #[test]
        fn the_split_does_not_matter(
            parts in proptest::collection::vec(piece(), 0..12),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let stream = parts.concat();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
            let single: Vec<&[u8]> = stream.chunks(1).collect();
            let whole = frames(&[&stream]);
            prop_assert_eq!(&frames(&pieces), &whole);
            prop_assert_eq!(&frames(&single), &whole);
            prop_assert_eq!(kept(&pieces), kept(&[&stream]));
        }
    }
}
