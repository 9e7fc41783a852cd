//! Pixels as H.264 takes them: brightness of each, colour of each four (I420).
//!
//! Full range and the matrix of BT.709 (ITU-T H.273, `MatrixCoefficients` 1), which is what the stream says of itself. Compiled
//! twice, of which the processor that is here chooses.

#![allow(unsafe_code)]

use crate::screen::Screen;
use lucarne_rfb::Rect;

/// A picture of even size in three planes; those of colour have half its width and height.
#[derive(Debug)]
pub(super) struct Planes {
    rect: Rect,
    y: Vec<u8>,
    cb: Vec<u8>,
    cr: Vec<u8>,
}

impl Planes {
    /// Planes for a rectangle, black-green until they are filled.
    pub(super) fn new(rect: Rect) -> Self {
        let pixels = rect.area() as usize;
        Self { rect, y: vec![0; pixels], cb: vec![0; pixels / 4], cr: vec![0; pixels / 4] }
    }

    /// Width and height, pixels.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.rect.w.into(), self.rect.h.into())
    }

    /// Brightness, then the two of colour.
    pub(super) fn planes(&self) -> (&[u8], &[u8], &[u8]) {
        (&self.y, &self.cb, &self.cr)
    }

    /// Takes the rectangle from the screen, on which it lies.
    pub(super) fn fill(&mut self, screen: &Screen) {
        let Self { rect, y, cb, cr } = self;
        let width = usize::from(rect.w);
        let colours = cb.chunks_exact_mut(width / 2).zip(cr.chunks_exact_mut(width / 2));
        for ((y, (cb, cr)), row) in y.chunks_exact_mut(width * 2).zip(colours).zip((rect.y..).step_by(2)) {
            let (first, second) = y.split_at_mut(width);
            let pixels = [screen.row(*rect, row), screen.row(*rect, row + 1)];
            two_rows(pixels, [first, second], cb, cr);
        }
    }
}

/// Two rows of `0x00RRGGBB` of the same even length.
fn two_rows(pixels: [&[u32]; 2], y: [&mut [u8]; 2], cb: &mut [u8], cr: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { two_rows_avx2(pixels, y, cb, cr) };
    }
    two_rows_plain(pixels, y, cb, cr);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn two_rows_avx2(pixels: [&[u32]; 2], y: [&mut [u8]; 2], cb: &mut [u8], cr: &mut [u8]) {
    two_rows_plain(pixels, y, cb, cr);
}

/// The matrix in 65,536ths; each row's rounding goes where its sum stays exact, so that grey has no colour and white is 255.
const Y: [u32; 3] = [13_933, 46_871, 4732];
const CB: [i32; 3] = [-7509, -25_259, 32_768];
const CR: [i32; 3] = [32_768, -29_763, -3005];

#[inline(always)]
fn two_rows_plain(pixels: [&[u32]; 2], y: [&mut [u8]; 2], cb: &mut [u8], cr: &mut [u8]) {
    for (row, y) in pixels.into_iter().zip(y) {
        for (pixel, y) in row.iter().zip(y) {
            let (r, g, b) = (pixel >> 16 & 0xff, pixel >> 8 & 0xff, pixel & 0xff);
            *y = ((Y[0] * r + Y[1] * g + Y[2] * b + (1 << 15)) >> 16) as u8;
        }
    }
    let [first, second] = pixels.map(|row| row.as_chunks::<2>().0);
    for (((a, b), cb), cr) in first.iter().zip(second).zip(cb).zip(cr) {
        let four = [a[0], a[1], b[0], b[1]];
        // Red and blue side by side: four of them do not run into each other.
        let red_blue: u32 = four.iter().map(|p| p & 0x00ff_00ff).sum();
        let green = four.iter().map(|p| p >> 8 & 0xff).sum::<u32>() as i32;
        let (red, blue) = ((red_blue >> 16) as i32, (red_blue & 0xffff) as i32);
        let of = |matrix: [i32; 3]| {
            let sum = matrix[0] * red + matrix[1] * green + matrix[2] * blue;
            // In the middle of the range; half of full blue or red is rounded down.
            ((sum + (128 << 18) + (1 << 17)) >> 18).min(255) as u8
        };
        (*cb, *cr) = (of(CB), of(CR));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(colours: [u32; 4]) -> ([u8; 4], u8, u8) {
        let (mut y, mut cb, mut cr) = ([[0; 2]; 2], [0], [0]);
        let [top, bottom] = &mut y;
        two_rows([&colours[..2], &colours[2..]], [top, bottom], &mut cb, &mut cr);
        ([y[0][0], y[0][1], y[1][0], y[1][1]], cb[0], cr[0])
    }

    #[test]
    fn grey_has_no_colour_and_the_range_is_full() {
        for level in 0..=255u32 {
            let grey = level << 16 | level << 8 | level;
            assert_eq!(converted([grey; 4]), ([level as u8; 4], 128, 128));
        }
    }

    /// ITU-T H.273, equations 38 to 40 with Kr = 0.2126 and Kb = 0.0722.
    #[test]
    fn colours_are_those_of_bt_709() {
        for colour in (0..0x0100_0000u32).step_by(9973).chain([0xff, 0xff00, 0x00ff_0000]) {
            let [_, r, g, b] = colour.to_be_bytes().map(f64::from);
            let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
            let near = |seen: u8, wanted: f64| (f64::from(seen) - wanted.clamp(0.0, 255.0)).abs() <= 0.51;
            let (seen, cb, cr) = converted([colour; 4]);
            assert!(near(seen[0], y), "{colour:06x}: {}", seen[0]);
            assert!(near(cb, (b - y) / 1.8556 + 128.0), "{colour:06x}: {cb}");
            assert!(near(cr, (r - y) / 1.5748 + 128.0), "{colour:06x}: {cr}");
        }
    }

    #[test]
    fn four_pixels_share_their_mean_colour_and_keep_their_brightness() {
        let (y, cb, cr) = converted([0x00ff_0000, 0, 0, 0x0000_00ff]);
        assert_eq!(y, [54, 0, 0, 18]);
        let mean = converted([0x0040_0040; 4]);
        assert!(cb.abs_diff(mean.1) <= 1 && cr.abs_diff(mean.2) <= 1);
    }

    #[test]
    fn every_length_gives_what_the_plain_loop_gives() {
        for length in (0..200).step_by(2) {
            let noise = |n: u32| n.wrapping_mul(2_654_435_761) >> 8;
            let rows = [0, 1].map(|row| (0..length).map(|x| noise(x * 2 + row)).collect::<Vec<u32>>());
            let run = |wide: bool| {
                let n = length as usize;
                let (mut y, mut cb, mut cr) = ([vec![0; n], vec![0; n]], vec![0; n / 2], vec![0; n / 2]);
                let [first, second] = &mut y;
                let (rows, y) = ([&rows[0][..], &rows[1][..]], [&mut first[..], &mut second[..]]);
                match wide {
                    true => two_rows(rows, y, &mut cb, &mut cr),
                    false => two_rows_plain(rows, y, &mut cb, &mut cr),
                }
                (first.clone(), second.clone(), cb, cr)
            };
            assert_eq!(run(true), run(false), "{length}");
        }
    }
}
