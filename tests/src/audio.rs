//! Sound that can be told from other sound: melodies, WAV files, and a listener who knows the notes.
//!
//! In: frequencies. Out: samples (16 bit, mono, 8000 Hz), and whether heard samples hold the melody. Elsewhere: who plays
//! and records (`baresip`).

use std::f64::consts::TAU;
use std::path::Path;

/// Samples per second.
pub const RATE: usize = 8000;
/// Samples of one note: a quarter of a second.
const NOTE: usize = RATE / 4;
/// The listener tries beginnings this far apart.
const STEP: usize = 40;

/// Notes one after the other.
pub fn melody(notes: &[u32]) -> Vec<i16> {
    let tone = |hz: u32| {
        (0..NOTE).map(move |at| (10_000.0 * (TAU * f64::from(hz) * at as f64 / RATE as f64).sin()) as i16)
    };
    notes.iter().flat_map(|&hz| tone(hz)).collect()
}

/// The share of each inner note in the sound where the melody fits best; the first and the last note may be cut.
pub fn heard(notes: &[u32], samples: &[i16]) -> Vec<f64> {
    let inner = &notes[1..notes.len() - 1];
    let last = samples.len().saturating_sub(inner.len() * NOTE);
    let shares = |from: usize| -> Vec<f64> {
        // The edges of a note are left out: the alignment is rough.
        let part =
            |index: usize| &samples[from + index * NOTE + 2 * STEP..from + (index + 1) * NOTE - 2 * STEP];
        inner.iter().enumerate().map(|(index, &hz)| share(hz, part(index))).collect()
    };
    let fits = samples.len() >= inner.len() * NOTE;
    let all = (0..=last).step_by(STEP).filter(|_| fits).map(shares);
    let worst = |shares: &Vec<f64>| shares.iter().copied().fold(1.0, f64::min);
    all.max_by(|a, b| worst(a).total_cmp(&worst(b))).unwrap_or_default()
}

/// How much of the sound's energy is this tone: 1 for the pure tone (Goertzel's algorithm).
pub fn share(hz: u32, samples: &[i16]) -> f64 {
    let energy: f64 = samples.iter().map(|&sample| f64::from(sample).powi(2)).sum();
    let turn = 2.0 * (TAU * f64::from(hz) / RATE as f64).cos();
    let (before, last) = samples.iter().fold((0.0, 0.0), |(s2, s1), &x| (s1, f64::from(x) + turn * s1 - s2));
    let power = before * before + last * last - turn * before * last;
    if energy == 0.0 { 0.0 } else { 2.0 * power / (energy * samples.len() as f64) }
}

/// Writes a WAV file.
///
/// # Panics
/// When it cannot be written.
pub fn write_wav(file: &Path, samples: &[i16]) {
    let data = u32::try_from(samples.len() * 2).expect("short sounds");
    let rate = RATE as u32;
    let mut octets = Vec::from(*b"RIFF");
    octets.extend((36 + data).to_le_bytes());
    octets.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    octets.extend(rate.to_le_bytes());
    octets.extend((rate * 2).to_le_bytes());
    octets.extend(b"\x02\0\x10\0data");
    octets.extend(data.to_le_bytes());
    octets.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    std::fs::write(file, octets).expect("the WAV file can be written");
}

/// Reads the samples of a WAV file; its writer may have left the lengths in its header at zero.
///
/// # Panics
/// When it is none.
pub fn read_wav(file: &Path) -> Vec<i16> {
    let octets = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let data = octets.windows(4).position(|four| four == b"data").expect("a WAV file has data");
    let samples = octets.get(data + 8..).unwrap_or_default();
    samples.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTES: [u32; 6] = [400, 700, 1000, 1300, 900, 500];

    #[test]
    fn a_melody_is_heard_where_it_is() {
        let mut sound = vec![0; 1234];
        sound.extend(melody(&NOTES).split_off(900));
        assert!(heard(&NOTES, &sound).iter().all(|share| *share > 0.98), "{:?}", heard(&NOTES, &sound));
    }

    #[test]
    fn another_melody_and_silence_are_not_taken_for_it() {
        let other = [400, 700, 1000, 1100, 900, 500];
        assert!(heard(&NOTES, &melody(&other)).iter().any(|share| *share < 0.5));
        assert!(heard(&NOTES, &vec![0; 20_000]).iter().all(|share| *share == 0.0));
        assert!(heard(&NOTES, &[]).is_empty());
    }

    #[test]
    fn a_gap_is_noticed() {
        let mut sound = melody(&NOTES);
        sound.drain(2 * NOTE + 500..3 * NOTE);
        assert!(heard(&NOTES, &sound).iter().any(|share| *share < 0.8));
    }

    #[test]
    fn a_wav_file_keeps_its_samples() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.wav");
        write_wav(&file, &[1, -2, 3]);
        assert_eq!(read_wav(&file), [1, -2, 3]);
    }
}
