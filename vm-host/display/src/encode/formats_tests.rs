//! Every encoding with every pixel format, small sizes, and JPEG as an encoding of its own.

use super::*;

/// Every size of a pixel, with channels of common and of odd widths and places, in both byte orders.
pub(super) fn formats() -> Vec<PixelFormat> {
    let format = |bits_per_pixel, depth, max, shift| {
        let format = PixelFormat { bits_per_pixel, depth, big_endian: false, max, shift };
        let mut wire = Vec::new();
        format.write(&mut wire);
        PixelFormat::parse(&wire.try_into().unwrap()).unwrap()
    };
    let little = [
        PixelFormat::BGR233,
        format(8, 8, [7, 7, 3], [5, 2, 0]),
        format(8, 3, [1, 1, 1], [6, 0, 3]),
        PixelFormat::RGB565,
        format(16, 15, [31, 31, 31], [0, 5, 10]),
        format(16, 12, [15, 15, 15], [12, 1, 6]),
        format(16, 16, [1, 8191, 3], [15, 0, 13]),
        PixelFormat::BGRX,
        format(32, 32, [255, 255, 255], [0, 8, 16]),
        // Three bytes of CPIXEL are the high ones, or there are none that hold all channels.
        format(32, 24, [255, 255, 255], [24, 16, 8]),
        format(32, 24, [255, 255, 255], [4, 20, 12]),
        format(32, 30, [1023, 1023, 1023], [20, 10, 0]),
        format(32, 9, [127, 1, 1], [25, 3, 0]),
        format(32, 18, [63, 63, 63], [26, 20, 10]),
        format(32, 32, [65_535, 255, 255], [16, 8, 0]),
    ];
    little.iter().flat_map(|f| [*f, f.with_big_endian(true)]).collect()
}

/// Unlike the test with random pictures, this one leaves no pair of encoding and format out.
#[test]
fn every_encoding_shows_every_content_in_every_format() {
    let mut picture = vec![0u32; usize::from(W) * usize::from(H)];
    let contents =
        [Content::Solid(0x00ab_cdef), Content::Text, Content::Icons, Content::Gradient, Content::Noise];
    for (row, content) in (0..).zip(contents) {
        paint(&mut picture, W.into(), Rect::new(0, row * 30, W - row, 37), content);
    }
    for format in formats() {
        for encoding in [enc::TIGHT, enc::ZRLE, enc::HEXTILE, enc::ZLIB, enc::RAW] {
            let mut pair = Pair::new(W, H, format, &[encoding]);
            pair.show(&picture);
            assert_eq!(pair.error(), 0, "{encoding} in {format:?}");
            assert!(pair.drawn(encoding) > 0, "{encoding} was not used");
        }
    }
}

/// Hextile's tiles and ZRLE's and Tight's rows end anywhere in the last byte or tile.
#[test]
fn every_encoding_shows_screens_of_every_small_size() {
    for (width, height) in (1..=20u16).flat_map(|w| [(w, 1), (1, w), (w, 17), (65, w), (w + 120, w)]) {
        let mut picture = vec![0u32; usize::from(width) * usize::from(height)];
        for content in [Content::Text, Content::Icons, Content::Noise] {
            paint(&mut picture, width.into(), Rect::new(0, 0, width, height), content);
            for encoding in [enc::TIGHT, enc::ZRLE, enc::HEXTILE, enc::ZLIB, enc::RAW] {
                let mut pair = Pair::new(width, height, PixelFormat::RGB565, &[encoding]);
                pair.show(&picture);
                assert_eq!(pair.error(), 0, "{encoding}, {width}×{height}, {content:?}");
            }
        }
    }
}

/// The viewer puts in the tables that a picture leaves out, as libjpeg-turbo needs them.
#[test]
fn a_jpeg_without_tables_is_the_same_picture_as_with_them() {
    let (w, h) = (64usize, 48usize);
    let bgrx = |content| {
        let pixels = (0..h).flat_map(|y| (0..w).map(move |x| (x, y)));
        pixels.flat_map(|(x, y)| pixel(content, x, y).to_le_bytes()).collect::<Vec<u8>>()
    };
    let jpeg = |content| jpeg::compress(&bgrx(content), w, h, 80, enc::Subsampling::Quarter).unwrap();
    let (first, second) = (jpeg(Content::Icons), jpeg(Content::Photo));
    // Segments are a marker and a length; the tables' are 0xdb and 0xc4, the scan's 0xda is the last.
    let (mut bare, mut at) = (second[..2].to_vec(), 2);
    while second[at + 1] != 0xda {
        let end = at + 2 + usize::from(u16::from_be_bytes([second[at + 2], second[at + 3]]));
        if !matches!(second[at + 1], 0xdb | 0xc4) {
            bare.extend_from_slice(&second[at..end]);
        }
        at = end;
    }
    bare.extend_from_slice(&second[at..]);
    assert!(bare.len() + 300 < second.len(), "{} bytes without tables, {} with", bare.len(), second.len());

    let rect = Rect::new(3, 5, w as u16, h as u16);
    let shown = |pictures: &[&[u8]]| {
        let mut pair = Pair::new(W, H, PixelFormat::BGRX, &[enc::JPEG]);
        let mut out = Vec::new();
        let mut update = Update::new(&mut out);
        pictures.iter().for_each(|picture| update.jpeg(rect, picture));
        update.finish();
        pair.receive(&out);
        pair.viewer.framebuffer().clone()
    };
    assert!(shown(&[&first, &bare]) == shown(&[&second]));
    assert!(shown(&[&first]) != shown(&[&second]));
}
