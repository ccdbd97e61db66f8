//! G.711: A-law and mu-law to and from 16-bit linear samples.
//!
//! In: codes or samples. Out: the other. Decoding is exact; encoding takes the code whose level is nearest below the
//! decision values of the recommendation. Elsewhere: packets (`packet`), other codecs.

/// Added to magnitudes before the segment of mu-law is found, so that segments begin at powers of two.
const MU_BIAS: i32 = 0x84;
/// Larger magnitudes are cut.
const MU_CLIP: i32 = 32_635;

static ALAW: [i16; 256] = {
    let mut levels = [0; 256];
    let mut code = 0;
    while code < levels.len() {
        levels[code] = alaw_level(code as u8);
        code += 1;
    }
    levels
};
static ULAW: [i16; 256] = {
    let mut levels = [0; 256];
    let mut code = 0;
    while code < levels.len() {
        levels[code] = ulaw_level(code as u8);
        code += 1;
    }
    levels
};

/// The level of an A-law code.
pub fn alaw_to_linear(code: u8) -> i16 {
    ALAW[usize::from(code)]
}

/// The level of a mu-law code.
pub fn ulaw_to_linear(code: u8) -> i16 {
    ULAW[usize::from(code)]
}

/// The A-law code of a sample.
pub fn linear_to_alaw(sample: i16) -> u8 {
    // Even bits are inverted on the line (G.711 table 1a, note 2); the sign bit is 1 for positive.
    let sign = if sample >= 0 { 0x80 } else { 0 };
    let magnitude = if sample >= 0 { sample } else { !sample }.cast_unsigned() >> 4; // 11 bits
    let exponent = (12 - magnitude.leading_zeros().clamp(5, 12)) as u16;
    let code = if exponent == 0 {
        magnitude
    } else {
        // Two lowest segments share a step.
        exponent << 4 | magnitude >> (exponent - 1) & 0x0f
    };
    (sign | code as u8) ^ 0x55
}

/// The mu-law code of a sample.
pub fn linear_to_ulaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = (i32::from(sample).abs().min(MU_CLIP) + MU_BIAS).cast_unsigned(); // 0x84..=0x7fff
    let exponent = 24 - magnitude.leading_zeros();
    let mantissa = magnitude >> (exponent + 3) & 0x0f;
    // All bits are inverted on the line.
    !(sign | (exponent << 4 | mantissa) as u8)
}

/// Replaces the contents of `samples` by the decoded payload.
pub fn decode_alaw(payload: &[u8], samples: &mut Vec<i16>) {
    samples.clear();
    samples.extend(payload.iter().map(|code| alaw_to_linear(*code)));
}

/// Replaces the contents of `samples` by the decoded payload.
pub fn decode_ulaw(payload: &[u8], samples: &mut Vec<i16>) {
    samples.clear();
    samples.extend(payload.iter().map(|code| ulaw_to_linear(*code)));
}

/// Replaces the contents of `payload` by the encoded samples.
pub fn encode_alaw(samples: &[i16], payload: &mut Vec<u8>) {
    payload.clear();
    payload.extend(samples.iter().map(|sample| linear_to_alaw(*sample)));
}

/// Replaces the contents of `payload` by the encoded samples.
pub fn encode_ulaw(samples: &[i16], payload: &mut Vec<u8>) {
    payload.clear();
    payload.extend(samples.iter().map(|sample| linear_to_ulaw(*sample)));
}

const fn alaw_level(code: u8) -> i16 {
    let code = code ^ 0x55;
    let (exponent, mantissa) = (code >> 4 & 7, (code & 0x0f) as i16);
    let level = match exponent {
        0 => mantissa << 4 | 8,
        _ => (mantissa << 4 | 0x108) << (exponent - 1),
    };
    if code & 0x80 != 0 { level } else { -level }
}

const fn ulaw_level(code: u8) -> i16 {
    let code = !code;
    let (exponent, mantissa) = (code >> 4 & 7, (code & 0x0f) as i32);
    let level = (((mantissa << 3) + MU_BIAS) << exponent) - MU_BIAS;
    if code & 0x80 != 0 { -level as i16 } else { level as i16 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tone::listen;

    /// One period of 1 kHz at 0 dBm0 (G.711 tables 5 and 6).
    const MILLIWATT_A: [u8; 8] = [0x34, 0x21, 0x21, 0x34, 0xb4, 0xa1, 0xa1, 0xb4];
    const MILLIWATT_MU: [u8; 8] = [0x1e, 0x0b, 0x0b, 0x1e, 0x9e, 0x8b, 0x8b, 0x9e];

    #[test]
    fn levels_at_the_ends_and_at_zero() {
        let alaw = [(0xd5, 8), (0x55, -8), (0xaa, 32_256), (0x2a, -32_256), (0xc5, 264), (0xf5, 528)];
        for (code, level) in alaw {
            assert_eq!(alaw_to_linear(code), level, "A-law {code:#x}");
        }
        let ulaw = [
            (0xff, 0),
            (0x7f, 0),
            (0x80, 32_124),
            (0x00, -32_124),
            (0xfe, 8),
            (0x7e, -8),
            (0xef, 132),
            (0x8f, 16_764),
        ];
        for (code, level) in ulaw {
            assert_eq!(ulaw_to_linear(code), level, "mu-law {code:#x}");
        }
    }

    #[test]
    fn the_digital_milliwatt_is_a_sine_of_the_right_level() {
        // The theoretical load capacity (in 1/100 dBm0) belongs to a peak of 4096 units (A-law) and 8159 units (mu-law).
        for (codes, decode, full, capacity) in [
            (MILLIWATT_A, alaw_to_linear as fn(u8) -> i16, 32_768.0, 314.0),
            (MILLIWATT_MU, ulaw_to_linear, 8159.0 * 4.0, 317.0),
        ] {
            let samples: Vec<i16> = codes.iter().cycle().take(800).map(|code| decode(*code)).collect();
            let heard = listen(&samples, 1000.0, 8000);
            let level = 20.0 * (heard.level * f64::from(i16::MAX) / full).log10() + capacity / 100.0;
            assert!(level.abs() < 0.1, "{level} dBm0");
            assert!(heard.share > 0.999);
        }
    }

    #[test]
    fn every_code_is_the_code_of_its_level() {
        for code in 0..=u8::MAX {
            assert_eq!(linear_to_alaw(alaw_to_linear(code)), code);
            let zero = code == 0x7f; // negative zero becomes positive zero
            assert_eq!(linear_to_ulaw(ulaw_to_linear(code)), if zero { 0xff } else { code });
        }
    }

    #[test]
    fn encoding_rises_with_the_sample_and_errs_by_half_a_step_at_most() {
        let mut before = [i16::MIN; 2];
        for sample in i16::MIN..=i16::MAX {
            let levels = [alaw_to_linear(linear_to_alaw(sample)), ulaw_to_linear(linear_to_ulaw(sample))];
            assert!(levels[0] >= before[0] && levels[1] >= before[1], "{sample}");
            before = levels;
            let size = i32::from(sample).abs();
            let steps = [(size / 16).max(16), ((size + MU_BIAS) / 16).max(8)];
            for (level, step) in levels.into_iter().zip(steps) {
                let clipped = i32::from(sample).clamp(-32_635, 32_635);
                assert!((i32::from(level) - clipped).abs() <= step / 2 + 8, "{sample} became {level}");
            }
        }
    }

    #[test]
    fn whole_payloads() {
        let (mut payload, mut samples) = (vec![1, 2, 3], vec![9]);
        encode_alaw(&[0, 1000, -1000], &mut payload);
        decode_alaw(&payload, &mut samples);
        assert_eq!(samples, [8, 1008, -1008]);
        encode_ulaw(&[0, 1000, -1000], &mut payload);
        decode_ulaw(&payload, &mut samples);
        assert_eq!(samples, [0, 988, -988]);
    }
}
