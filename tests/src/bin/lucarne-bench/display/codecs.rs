//! What viewers decode pictures and video with: libraries of their own kind, and nothing of the encoders'.

use super::viewer::decode_jpeg;
use lucarne_rfb::client::{Codecs, H264Frames};
use openh264::decoder::Decoder;
use openh264::formats::YUVSource;
use std::collections::HashMap;

/// Decoders for JPEG and H.264.
pub fn codecs() -> Codecs {
    let mut decoders: HashMap<u8, Decoder> = HashMap::new();
    let h264 = Box::new(move |frames: H264Frames<'_>| {
        if frames.fresh {
            decoders.insert(frames.context, Decoder::new().ok()?);
        }
        let picture = decoders.get_mut(&frames.context)?.decode(frames.data).ok()??;
        let (width, height) = (usize::from(frames.rect.w), usize::from(frames.rect.h));
        let (seen_width, seen_height) = picture.dimensions();
        (seen_width >= width && seen_height >= height).then(|| pixels(&picture, width, height))
    });
    Codecs { jpeg: Some(Box::new(decode_jpeg)), h264: Some(h264), ..Codecs::default() }
}

/// BT.709 in the full range (ITU-T H.273), in 65,536ths.
fn pixels(picture: &impl YUVSource, width: usize, height: usize) -> Vec<u32> {
    let (y_stride, u_stride, v_stride) = picture.strides();
    let mut all = Vec::with_capacity(width * height);
    for row in 0..height {
        let y = &picture.y()[row * y_stride..][..width];
        let u = &picture.u()[row / 2 * u_stride..];
        let v = &picture.v()[row / 2 * v_stride..];
        all.extend(y.iter().enumerate().map(|(x, y)| {
            let y = i32::from(*y) * 65_536 + 32_768;
            let (cb, cr) = (i32::from(u[x / 2]) - 128, i32::from(v[x / 2]) - 128);
            let channels = [y + 103_206 * cr, y - 12_276 * cb - 30_679 * cr, y + 121_609 * cb];
            channels.into_iter().fold(0, |pixel, c| pixel << 8 | (c >> 16).clamp(0, 255) as u32)
        }));
    }
    all
}
