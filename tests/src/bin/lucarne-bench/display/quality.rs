//! How much a picture is like the one that it should be.

use lucarne_player::{Area, Canvas};
use lucarne_rfb::client::Framebuffer;

/// Edge of the squares that are compared, pixels.
const WINDOW: u16 = 8;

/// The usual constants of SSIM for values up to 255: (0.01·255)², (0.03·255)².
const C1: f64 = 6.5025;
const C2: f64 = 58.5225;

/// Pixels that differ.
pub fn wrong_pixels(picture: &Framebuffer, wanted: &Canvas) -> usize {
    let differing = picture.pixels().iter().zip(wanted.pixels()).filter(|(a, b)| a != b).count();
    differing + picture.pixels().len().abs_diff(wanted.pixels().len())
}

/// The structural similarity (SSIM, Wang et al. 2004) of an area's brightness: the mean over squares of 8×8 pixels. 1 for
/// the same picture; 0 for pictures of different sizes.
pub fn similarity(picture: &Framebuffer, wanted: &Canvas, area: Area) -> f64 {
    if (picture.width(), picture.height()) != (wanted.width(), wanted.height()) {
        return 0.0;
    }
    let width = usize::from(picture.width());
    let mut sum = 0.0;
    let mut squares = 0.0;
    for y in (area.y..area.y + area.h).step_by(WINDOW.into()) {
        for x in (area.x..area.x + area.w).step_by(WINDOW.into()) {
            let square = Area::new(x, y, WINDOW.min(area.x + area.w - x), WINDOW.min(area.y + area.h - y));
            let pairs = (0..square.h).flat_map(|row| {
                let start = usize::from(square.y + row) * width + usize::from(square.x);
                let seen = &picture.pixels()[start..start + usize::from(square.w)];
                seen.iter().zip(wanted.row(square, row)).map(|(a, b)| (brightness(*a), brightness(*b)))
            });
            sum += ssim(pairs);
            squares += 1.0;
        }
    }
    if squares == 0.0 { 1.0 } else { sum / squares }
}

fn ssim(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (mut n, mut a, mut b, mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (x, y) in pairs {
        n += 1.0;
        a += x;
        b += y;
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    let (ma, mb) = (a / n, b / n);
    let (va, vb, cov) = (aa / n - ma * ma, bb / n - mb * mb, ab / n - ma * mb);
    (2.0 * ma * mb + C1) * (2.0 * cov + C2) / ((ma * ma + mb * mb + C1) * (va + vb + C2))
}

/// BT.601.
fn brightness(pixel: u32) -> f64 {
    let channel = |shift: u32| f64::from(pixel >> shift & 0xff);
    0.299 * channel(16) + 0.587 * channel(8) + 0.114 * channel(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_squares_are_1_and_noise_is_far_from_it() {
        let same = ssim([(10.0, 10.0), (200.0, 200.0)].into_iter());
        assert!((same - 1.0).abs() < 1e-9);
        let other = ssim((0..64).map(|i| (f64::from(i * 37 % 255), f64::from(i * 91 % 255))));
        assert!(other < 0.5, "{other}");
    }
}
