//! A small JPEG of the screen, for cards and lists. Knows nothing of who asks.

use crate::encode::jpeg::{JpegError, compress};
use crate::screen::Screen;
use lucarne_rfb::encodings::Subsampling;

/// Quality of thumbnails, libjpeg's scale: below 70 text gets fringes even when small; above 90 only size grows.
const QUALITY: u8 = 80;

/// The present picture as a JPEG at most `max_width` pixels wide (at least 16), scaled down by averaging, never up.
///
/// # Errors
/// libjpeg-turbo fails, which means that memory is short.
pub fn thumbnail(screen: &Screen, max_width: u32) -> Result<Vec<u8>, JpegError> {
    let (sw, sh) = (usize::from(screen.width()), usize::from(screen.height()));
    let w = sw.min((max_width as usize).max(16));
    let h = (sh * w / sw).max(1);
    let mut bytes = Vec::with_capacity(w * h * 4);
    for y in 0..h {
        let rows = span(y, h, sh);
        for x in 0..w {
            let columns = span(x, w, sw);
            bytes.extend_from_slice(&average(screen, &rows, &columns));
        }
    }
    compress(&bytes, w, h, QUALITY, Subsampling::Quarter)
}

/// The source pixels that the `i`th of `n` stands for, of `all`; never empty.
fn span(i: usize, n: usize, all: usize) -> std::ops::Range<usize> {
    let start = i * all / n;
    start..((i + 1) * all / n).max(start + 1)
}

fn average(screen: &Screen, rows: &std::ops::Range<usize>, columns: &std::ops::Range<usize>) -> [u8; 4] {
    let width = usize::from(screen.width());
    let mut sum = [0u32; 3];
    for y in rows.clone() {
        for p in &screen.pixels()[y * width + columns.start..y * width + columns.end] {
            let [b, g, r, _] = p.to_le_bytes();
            sum[0] += u32::from(b);
            sum[1] += u32::from(g);
            sum[2] += u32::from(r);
        }
    }
    let count = (rows.len() * columns.len()) as u32;
    [(sum[0] / count) as u8, (sum[1] / count) as u8, (sum[2] / count) as u8, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rect;

    fn decoded(jpeg: &[u8]) -> (usize, usize, Vec<u8>) {
        let image = turbojpeg::decompress(jpeg, turbojpeg::PixelFormat::BGRX).expect("a JPEG");
        (image.width, image.height, image.pixels)
    }

    #[test]
    fn a_thumbnail_is_the_picture_scaled_down() {
        let mut screen = Screen::new(640, 400).unwrap();
        let left_red =
            (0..640 * 400).flat_map(|i| if i % 640 < 320 { [0, 0, 255, 0] } else { [255, 0, 0, 0] });
        screen.update(&left_red.collect::<Vec<u8>>(), 640 * 4, Rect::new(0, 0, 640, 400)).unwrap();
        let (w, h, pixels) = decoded(&thumbnail(&screen, 160).unwrap());
        assert_eq!((w, h), (160, 100));
        let at = |x: usize| &pixels[(50 * w + x) * 4..][..3];
        assert!(at(20)[2] > 240 && at(20)[0] < 15, "{:?}", at(20));
        assert!(at(140)[0] > 240 && at(140)[2] < 15, "{:?}", at(140));
    }

    #[test]
    fn a_small_screen_is_not_scaled_up_and_no_width_is_too_small() {
        let screen = Screen::new(33, 7).unwrap();
        assert_eq!(decoded(&thumbnail(&screen, 1000).unwrap()).0, 33);
        let (w, h, _) = decoded(&thumbnail(&screen, 0).unwrap());
        assert_eq!((w, h), (16, 3));
    }
}
