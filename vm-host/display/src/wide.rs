//! Loops over rows of pixels that are worth the processor's wide registers: the same code, compiled twice, of which the
//! processor that is here chooses.

#![allow(unsafe_code)]

/// Whether two rows of the same length differ in what is shown: B, G, R, ignored against `0x00RRGGBB`.
pub(crate) fn differs(new: &[u8], old: &[u32]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { differs_avx2(new, old) };
    }
    differs_plain(new, old)
}

/// Copies a row into the shadow, clearing the byte that is ignored.
pub(crate) fn take(new: &[u8], into: &mut [u32]) {
    for (dst, src) in into.iter_mut().zip(new.as_chunks().0) {
        *dst = u32::from_le_bytes(*src) & 0x00ff_ffff;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn differs_avx2(new: &[u8], old: &[u32]) -> bool {
    differs_plain(new, old)
}

/// In blocks without an exit inside, so that it is vectorised.
#[inline(always)]
fn differs_plain(new: &[u8], old: &[u32]) -> bool {
    let block = |(new, old): (&[[u8; 4]], &[u32])| {
        let difference = |bits, (n, o): (&[u8; 4], &u32)| bits | (u32::from_le_bytes(*n) ^ o);
        new.iter().zip(old).fold(0, difference) & 0x00ff_ffff != 0
    };
    new.as_chunks().0.chunks(64).zip(old.chunks(64)).any(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_counts_and_its_ignored_byte_does_not() {
        for length in [0, 1, 3, 63, 64, 65, 200] {
            let old: Vec<u32> = (0..length).map(|i| (i * 0x0001_0305) & 0x00ff_ffff).collect();
            let new: Vec<u8> = old.iter().flat_map(|p| (p | 0x7700_0000).to_le_bytes()).collect();
            assert!(!differs(&new, &old) && !differs_plain(&new, &old));
            for at in 0..old.len() {
                let mut other = new.clone();
                other[at * 4 + at % 3] ^= 0x80;
                assert!(differs(&other, &old) && differs_plain(&other, &old), "{at} of {length}");
            }
            let mut copy = vec![1; old.len()];
            take(&new, &mut copy);
            assert_eq!(copy, old);
        }
    }
}
