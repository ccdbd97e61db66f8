//! A stream cut in two ways gives the same frames. The first byte says how long the pieces are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sip::framing::{Frame, FrameError, Framer};

fuzz_target!(|data: &[u8]| {
    let Some((size, stream)) = data.split_first() else { return };
    assert_eq!(frames(stream, usize::from(*size).max(1)), frames(stream, stream.len().max(1)));
});

/// The frames, and why and with what in its hands the framer gave up.
fn frames(stream: &[u8], size: usize) -> (Vec<Frame>, Option<(FrameError, Vec<u8>)>) {
    let (mut framer, mut out) = (Framer::new(), Vec::new());
    for piece in stream.chunks(size) {
        framer.push(piece);
        loop {
            match framer.next() {
                Ok(Some(frame)) => out.push(frame),
                Ok(None) => break,
                Err(error) => return (out, Some((error, framer.take_head().to_vec()))),
            }
        }
    }
    (out, None)
}
