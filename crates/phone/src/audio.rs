//! Audio as samples: what a phone plays, what it heard, WAV files of 8 kHz mono.
//!
//! Elsewhere: packets and codecs (crate `rtp`).

use parking_lot::Mutex;
use rtp::tone::{Tone, listen};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Samples per second of everything here.
pub(crate) const RATE: u32 = 8000;

/// What is heard is kept for this many seconds.
const KEPT_SECONDS: usize = 120;

/// What a phone plays, from the moment that audio may flow.
#[derive(Clone, Debug)]
pub enum Source {
    /// Silence: packets of zeros.
    Silence,
    /// A sine of so many Hz.
    Tone(f32),
    /// Samples at 8 kHz, then silence.
    Samples(Arc<[i16]>),
}

/// A source being played.
pub(crate) enum Player {
    Silence,
    Tone(Tone),
    Samples(Arc<[i16]>, usize),
}

impl Player {
    pub(crate) fn new(source: Source) -> Self {
        match source {
            Source::Silence => Player::Silence,
            Source::Tone(hz) => Player::Tone(Tone::new(f64::from(hz), 0.3, RATE)),
            Source::Samples(samples) => Player::Samples(samples, 0),
        }
    }

    pub(crate) fn fill(&mut self, frame: &mut [i16]) {
        match self {
            Player::Silence => frame.fill(0),
            Player::Tone(tone) => tone.fill(frame),
            Player::Samples(samples, at) => {
                let rest = &samples[*at..];
                let count = rest.len().min(frame.len());
                frame[..count].copy_from_slice(&rest[..count]);
                frame[count..].fill(0);
                *at += count;
            }
        }
    }
}

/// What came by RTP in one call. Shared between the call's audio and whoever asks.
#[derive(Debug, Default)]
pub struct Heard {
    packets: AtomicU64,
    samples: Mutex<VecDeque<i16>>,
}

impl Heard {
    pub(crate) fn add(&self, frame: &[i16]) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        let mut samples = self.samples.lock();
        samples.extend(frame);
        let excess = samples.len().saturating_sub(KEPT_SECONDS * RATE as usize);
        samples.drain(..excess);
    }

    /// Packets taken.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// The samples, oldest first; at most two minutes.
    pub fn samples(&self) -> Vec<i16> {
        self.samples.lock().iter().copied().collect()
    }

    /// How much of the last `seconds` is the tone of `hz`: 0 (nothing) to 1 (nothing else).
    pub fn purity(&self, hz: f32, seconds: f32) -> f64 {
        let samples = self.samples();
        let wanted = (seconds * RATE as f32) as usize;
        let tail = &samples[samples.len().saturating_sub(wanted)..];
        listen(tail, f64::from(hz), RATE).share
    }
}

/// Why a WAV file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Not PCM, 16 bit, mono, 8000 Hz.
    #[error("not a WAV file of 16 bit, mono, 8000 Hz; make one with: sox IN -r 8000 -c 1 -b 16 OUT.wav")]
    Format,
}

/// Samples of a WAV file: PCM, 16 bit, mono, 8000 Hz.
///
/// # Errors
/// [`WavError`].
pub fn read_wav(file: &std::path::Path) -> Result<Vec<i16>, WavError> {
    let bytes = std::fs::read(file)?;
    parse_wav(&bytes).ok_or(WavError::Format)
}

fn parse_wav(bytes: &[u8]) -> Option<Vec<i16>> {
    let word = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let long = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if bytes.get(..4)? != b"RIFF" || bytes.get(8..12)? != b"WAVE" {
        return None;
    }
    let (mut at, mut format_fits) = (12, false);
    loop {
        let length = long(at + 4)? as usize;
        match bytes.get(at..at + 4)? {
            b"fmt " => {
                format_fits = word(at + 8)? == 1
                    && word(at + 10)? == 1
                    && long(at + 12)? == RATE
                    && word(at + 22)? == 16;
            }
            b"data" if format_fits => {
                let end = bytes.len().min((at + 8).checked_add(length)?);
                let samples = bytes[at + 8..end].chunks_exact(2);
                return Some(samples.map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect());
            }
            b"data" => return None,
            _ => {}
        }
        at = at.checked_add(8)?.checked_add(length)?.checked_add(length & 1)?;
    }
}

/// Writes samples as a WAV file: PCM, 16 bit, mono, 8000 Hz.
///
/// # Errors
/// The file cannot be written.
pub fn write_wav(file: &std::path::Path, samples: &[i16]) -> Result<(), WavError> {
    std::fs::write(file, wav(samples))?;
    Ok(())
}

fn wav(samples: &[i16]) -> Vec<u8> {
    let length = u32::try_from(samples.len() * 2).unwrap_or(u32::MAX - 36);
    let mut bytes = Vec::with_capacity(44 + samples.len() * 2);
    bytes.extend_from_slice(b"RIFF");
    bytes.extend_from_slice(&(36 + length).to_le_bytes());
    bytes.extend_from_slice(b"WAVEfmt ");
    bytes.extend_from_slice(&16u32.to_le_bytes());
    bytes.extend_from_slice(&1u16.to_le_bytes());
    bytes.extend_from_slice(&1u16.to_le_bytes());
    bytes.extend_from_slice(&RATE.to_le_bytes());
    bytes.extend_from_slice(&(RATE * 2).to_le_bytes());
    bytes.extend_from_slice(&2u16.to_le_bytes());
    bytes.extend_from_slice(&16u16.to_le_bytes());
    bytes.extend_from_slice(b"data");
    bytes.extend_from_slice(&length.to_le_bytes());
    samples.iter().for_each(|sample| bytes.extend_from_slice(&sample.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wav_file_comes_back_and_foreign_ones_are_refused() {
        let samples: Vec<i16> = (0..1000).map(|n| n * 7 - 3000).collect();
        let bytes = wav(&samples);
        assert_eq!(parse_wav(&bytes).unwrap(), samples);
        for broken in 0..44 {
            let mut other = bytes.clone();
            other[broken] ^= 0x55;
            let _ = parse_wav(&other); // must not panic
            let _ = parse_wav(&bytes[..broken]);
        }
        let mut stereo = bytes;
        stereo[22] = 2;
        assert!(parse_wav(&stereo).is_none());
    }

    #[test]
    fn what_was_heard_is_bounded() {
        let heard = Heard::default();
        for _ in 0..(KEPT_SECONDS * 50 + 10) {
            heard.add(&[1; 160]);
        }
        assert_eq!(heard.samples().len(), KEPT_SECONDS * RATE as usize);
    }
}
