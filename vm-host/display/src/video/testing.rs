//! Support for tests: openh264's decoder, and pictures that move.

use lucarne_rfb::client::{H264Decoder, H264Frames};
use openh264::decoder::Decoder;
use openh264::formats::YUVSource;
use std::collections::HashMap;

/// The brightness and colours of a decoded picture as `0x00RRGGBB`: BT.709, full range (ITU-T H.273).
fn pixels(picture: &impl YUVSource, width: usize, height: usize) -> Vec<u32> {
    let strides = picture.strides();
    let at = |x: usize, y: usize| {
        let y_ = f64::from(picture.y()[y * strides.0 + x]);
        let cb = f64::from(picture.u()[y / 2 * strides.1 + x / 2]) - 128.0;
        let cr = f64::from(picture.v()[y / 2 * strides.2 + x / 2]) - 128.0;
        let (r, b) = (y_ + 1.5748 * cr, y_ + 1.8556 * cb);
        let g = (y_ - 0.2126 * r - 0.0722 * b) / 0.7152;
        [r, g, b].into_iter().fold(0, |pixel, c| pixel << 8 | c.round().clamp(0.0, 255.0) as u32)
    };
    (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| at(x, y)).collect()
}

/// What a viewer decodes video with: a decoder for each context.
pub(crate) fn h264_decoder() -> H264Decoder {
    let mut decoders = HashMap::new();
    Box::new(move |frames: H264Frames<'_>| {
        if frames.fresh {
            decoders.insert(frames.context, Decoder::new().ok()?);
        }
        let picture = decoders.get_mut(&frames.context)?.decode(frames.data).ok()??;
        let (width, height) = (usize::from(frames.rect.w), usize::from(frames.rect.h));
        (picture.dimensions() == (width, height)).then(|| pixels(&picture, width, height))
    })
}

/// A pixel of frame `frame` of a film: shapes that move over each other, with some grain.
pub(crate) fn film(x: usize, y: usize, frame: u32) -> u32 {
    let t = f64::from(frame);
    let (x_, y_) = (x as f64, y as f64);
    let waves = [(x_ + 2.0 * t) / 23.0, (y_ - t) / 17.0, (x_ + y_ + 3.0 * t) / 41.0].map(f64::sin);
    let mut grain = x as u32 ^ (y as u32) << 11 ^ frame << 22;
    for _ in 0..2 {
        grain = (grain ^ grain >> 15).wrapping_mul(0x2c1b_3c6d);
    }
    let grain = f64::from(grain >> 29) - 3.5;
    let channel = |a: f64, b: f64| (128.0 + 60.0 * a + 50.0 * b + grain).clamp(0.0, 255.0) as u32;
    channel(waves[0], waves[1]) << 16 | channel(waves[1], waves[2]) << 8 | channel(waves[2], waves[0])
}

/// Peak signal-to-noise ratio over all channels, decibels; infinite for the same pictures.
pub(crate) fn psnr(seen: &[u32], wanted: &[u32]) -> f64 {
    assert_eq!(seen.len(), wanted.len());
    let square = |(a, b): (&u32, &u32)| -> f64 {
        let channels = a.to_be_bytes().into_iter().zip(b.to_be_bytes());
        channels.map(|(a, b)| f64::from(a.abs_diff(b)).powi(2)).sum()
    };
    let error = seen.iter().zip(wanted).map(square).sum::<f64>() / (3 * seen.len()) as f64;
    10.0 * (255.0 * 255.0 / error).log10()
}
