//! Sines: made without a seam between blocks, and recognized again (Goertzel), to prove that what is heard was played.
//!
//! In: a frequency and a level, or a block of samples. Out: samples, or how strong a frequency is in the block.
//! Elsewhere: codecs (`g711`), digits as events (`event`).

use std::f64::consts::TAU;

/// The largest sample.
const FULL: f64 = i16::MAX as f64;

/// A sine generator.
#[derive(Clone, Debug)]
pub struct Tone {
    step: f64,
    phase: f64,
    amplitude: f64,
}

impl Tone {
    /// `frequency` in Hz, `level` the peak from 0 to 1 (full scale), `rate` in samples per second.
    pub fn new(frequency: f64, level: f64, rate: u32) -> Tone {
        let step = TAU * frequency / f64::from(rate.max(1));
        Tone { step, phase: 0.0, amplitude: level.clamp(0.0, 1.0) * FULL }
    }

    /// Overwrites a block; the next call goes on where this one ends.
    pub fn fill(&mut self, block: &mut [i16]) {
        for sample in block {
            *sample = (self.phase.sin() * self.amplitude).round() as i16;
            self.phase = (self.phase + self.step) % TAU;
        }
    }
}

/// How strong a frequency is in a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strength {
    /// Peak of a sine of this frequency, 1 being full scale.
    pub level: f64,
    /// Its share of the block's energy, 0 to 1: near 1 when there is nothing else.
    pub share: f64,
}

/// Measures one frequency (Goertzel). The longer the block, the narrower the ear: about `rate / block.len()` Hz.
/// An empty or silent block has none of it.
pub fn listen(block: &[i16], frequency: f64, rate: u32) -> Strength {
    let turn = TAU * frequency / f64::from(rate.max(1));
    let (mut last, mut before, mut energy) = (0.0, 0.0, 0.0);
    for sample in block.iter().map(|sample| f64::from(*sample)) {
        let next = sample + 2.0 * turn.cos() * last - before;
        (before, last) = (last, next);
        energy += sample * sample;
    }
    if energy == 0.0 {
        return Strength { level: 0.0, share: 0.0 };
    }
    let power = (last * last + before * before - 2.0 * turn.cos() * last * before).max(0.0);
    let count = block.len() as f64;
    Strength { level: 2.0 * power.sqrt() / (count * FULL), share: (2.0 * power / (count * energy)).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::g711;
    use proptest::prelude::*;

    fn tone(frequency: f64, len: usize) -> Vec<i16> {
        let mut block = vec![0; len];
        Tone::new(frequency, 0.25, 8000).fill(&mut block);
        block
    }

    #[test]
    fn a_tone_is_heard_at_its_frequency_and_nowhere_else() {
        let block = tone(440.0, 800);
        let heard = listen(&block, 440.0, 8000);
        assert!((heard.level - 0.25).abs() < 0.001 && heard.share > 0.999, "{heard:?}");
        for other in [350.0, 425.0, 480.0, 620.0, 880.0, 1000.0] {
            assert!(listen(&block, other, 8000).share < 0.05, "{other}");
        }
    }

    #[test]
    fn two_tones_share_the_energy() {
        let both: Vec<i16> =
            tone(400.0, 800).iter().zip(tone(1000.0, 800)).map(|(a, b)| a / 2 + b / 2).collect();
        for frequency in [400.0, 1000.0] {
            let heard = listen(&both, frequency, 8000);
            assert!((0.48..0.52).contains(&heard.share) && (heard.level - 0.125).abs() < 0.001, "{heard:?}");
        }
    }

    #[test]
    fn blocks_join_without_a_seam() {
        let whole = tone(437.0, 1600);
        let mut generator = Tone::new(437.0, 0.25, 8000);
        let mut parts = vec![0; 1600];
        parts.chunks_mut(160).for_each(|block| generator.fill(block));
        assert_eq!(parts, whole);
    }

    #[test]
    fn a_tone_survives_g711_and_a_lost_packet_shows() {
        let mut coded: Vec<i16> =
            tone(440.0, 1600).iter().map(|s| g711::alaw_to_linear(g711::linear_to_alaw(*s))).collect();
        assert!(listen(&coded, 440.0, 8000).share > 0.99);
        coded[160..320].fill(0);
        assert!(listen(&coded, 440.0, 8000).share < 0.95);
    }

    #[test]
    fn silence_noise_and_nothing() {
        assert_eq!(listen(&[], 440.0, 8000), Strength { level: 0.0, share: 0.0 });
        assert_eq!(listen(&[0; 160], 440.0, 8000).share, 0.0);
        let mut state = 1u32;
        let noise: Vec<i16> = (0..8000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16) as i16
            })
            .collect();
        assert!(listen(&noise, 440.0, 8000).share < 0.01);
        assert!(listen(&[i16::MIN; 80], 0.0, 0).share <= 1.0);
    }

    proptest! {
        #[test]
        fn any_tone_is_found_by_ear(frequency in 200.0..3800.0f64, level in 0.01..1.0f64) {
            let mut block = [0; 1600];
            Tone::new(frequency, level, 8000).fill(&mut block);
            let heard = listen(&block, frequency, 8000);
            prop_assert!(heard.share > 0.99 && (heard.level / level - 1.0).abs() < 0.02, "{:?}", heard);
        }
    }
}
