//! Tones: made for a guest to play, and found again in what was heard.

use std::f64::consts::TAU;

/// Samples a second of [`wav`]: none that anything on the way has, so that all of it converts.
const RATE: u32 = 22_050;

/// A tone of this frequency, Hz, as a WAV file: 16 bits, mono.
#[must_use]
pub fn wav(hz: f64, seconds: u32) -> Vec<u8> {
    let samples = RATE * seconds;
    let mut file = Vec::new();
    file.extend(b"RIFF");
    file.extend((36 + samples * 2).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    // Plain PCM, one channel.
    file.extend([1, 0, 1, 0]);
    file.extend(RATE.to_le_bytes());
    file.extend((RATE * 2).to_le_bytes());
    file.extend([2, 0, 16, 0]);
    file.extend(b"data");
    file.extend((samples * 2).to_le_bytes());
    for i in 0..samples {
        let sample = 16_000.0 * (TAU * hz * f64::from(i) / f64::from(RATE)).sin();
        file.extend((sample as i16).to_le_bytes());
    }
    file
}

/// The power of one frequency (Goertzel's algorithm).
fn power(samples: &[f64], hz: f64, rate: f64) -> f64 {
    let factor = 2.0 * (TAU * hz / rate).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for sample in samples {
        (last, before) = (sample + factor * last - before, last);
    }
    last * last + before * before - factor * last * before
}

/// The frequency of a tone, 100 to 4,000 Hz, to 1 Hz, in the quarter of a second that is most of one piece: guests that are
/// emulated leave gaps.
///
/// # Panics
/// It is shorter than a quarter of a second.
#[must_use]
pub fn loudest(samples: &[f64], rate: u32) -> f64 {
    let window = rate as usize / 4;
    let of = |part: &[f64]| {
        let power = |hz: f64| (power(part, hz, f64::from(rate)), hz);
        let best = |all: &mut dyn Iterator<Item = f64>| all.map(power).max_by(|a, b| a.0.total_cmp(&b.0));
        let (_, near) = best(&mut (50..2_000).map(|i| f64::from(i) * 2.0))?;
        let (strongest, hz) = best(&mut (-8..=8).map(|i| near + f64::from(i) / 4.0))?;
        // Of a pure tone this is half the number of samples.
        Some((strongest / part.iter().map(|s| s * s).sum::<f64>().max(1e-9), hz))
    };
    let found = samples.chunks_exact(window).filter_map(of).max_by(|a, b| a.0.total_cmp(&b.0));
    found.expect("a quarter of a second of sound").1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_found_in_noise_and_gaps() {
        let mut noise = 1u32;
        let samples: Vec<f64> = (0..96_000)
            .map(|i| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let gap = i % 20_000 < 1_000;
                let tone = (TAU * 444.0 * f64::from(i) / 48_000.0).sin();
                if gap { 0.0 } else { tone + f64::from(noise >> 16) / 65_536.0 }
            })
            .collect();
        assert!((loudest(&samples, 48_000) - 444.0).abs() <= 1.0);
    }
}
