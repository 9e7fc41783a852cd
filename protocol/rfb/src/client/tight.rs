//! Decoder of Tight (rfbproto, "Tight Encoding"): fill, copy, palette and gradient filters, JPEG; and of Tight PNG.

use super::codecs::Codecs;
use super::decode::DecodeError;
use super::framebuffer::Framebuffer;
use super::inflate::Inflate;
use crate::pixel::{PixelFormat, PixelReader};
use crate::rect::Rect;
use crate::wire::Reader;

const MIN_TO_COMPRESS: usize = 12;

/// The widest rectangle that the encoding allows.
const MAX_WIDTH: u16 = 2048;

#[derive(Default)]
pub(super) struct Tight {
    streams: [Inflate; 4],
}

/// What a rectangle is besides filled or a JPEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Tight: pixels packed by zlib.
    Zlib,
    /// Tight PNG.
    Png,
}

/// How pixels were prepared for zlib.
enum Filter {
    Copy,
    Palette(Vec<u32>),
    Gradient,
}

impl Tight {
    pub(super) fn rect(
        &mut self,
        kind: Kind,
        rect: Rect,
        r: &mut Reader<'_>,
        reader: &PixelReader,
        codecs: &mut Codecs,
        fb: &mut Framebuffer,
    ) -> Result<Option<()>, DecodeError> {
        if rect.w > MAX_WIDTH {
            return Err(DecodeError::Rules("a Tight rectangle wider than 2,048 pixels"));
        }
        let Some(control) = r.u8() else { return Ok(None) };
        let size = reader.format().bytes_per_tpixel();
        match (control >> 4, kind) {
            (0b1000, _) => {
                let Some(pixel) = r.bytes(size) else { return Ok(None) };
                self.reset(control);
                fb.fill(rect, reader.tpixel(pixel));
                Ok(Some(()))
            }
            (method @ 0b1001, _) | (method @ 0b1010, Kind::Png) => {
                let (decoder, error) = if method == 0b1010 {
                    (&mut codecs.png, DecodeError::Png)
                } else if reader.format().bits_per_pixel == 8 {
                    return Err(DecodeError::Rules("a JPEG with 8 bits per pixel"));
                } else {
                    (&mut codecs.jpeg, DecodeError::Jpeg)
                };
                let Some(picture) = r.compact_length().and_then(|n| r.bytes(n)) else { return Ok(None) };
                self.reset(control);
                let pixels = decoder.as_mut().and_then(|decode| decode(picture, rect.w, rect.h));
                let Some(pixels) = pixels.filter(|p| p.len() as u64 == rect.area()) else {
                    return Err(error);
                };
                fb.put(rect, pixels.into_iter().map(|p| p & 0x00ff_ffff));
                Ok(Some(()))
            }
            (basic @ 0..=7, Kind::Zlib) => self.basic(basic, control, rect, r, reader, fb),
            _ => Err(DecodeError::Rules("an unknown kind of Tight compression")),
        }
    }

    fn reset(&mut self, control: u8) {
        for (i, stream) in self.streams.iter_mut().enumerate() {
            if control >> i & 1 != 0 {
                stream.reset();
            }
        }
    }

    fn basic(
        &mut self,
        kind: u8,
        control: u8,
        rect: Rect,
        r: &mut Reader<'_>,
        reader: &PixelReader,
        fb: &mut Framebuffer,
    ) -> Result<Option<()>, DecodeError> {
        let Some(filter) = filter(kind, r, reader)? else { return Ok(None) };
        let pixel = reader.format().bytes_per_tpixel();
        let (w, h) = (usize::from(rect.w), usize::from(rect.h));
        let size = match &filter {
            Filter::Palette(colours) if colours.len() == 2 => w.div_ceil(8) * h,
            Filter::Palette(_) => w * h,
            Filter::Copy | Filter::Gradient => w * h * pixel,
        };
        let plain = if size < MIN_TO_COMPRESS {
            let Some(plain) = r.bytes(size) else { return Ok(None) };
            self.reset(control);
            plain.to_vec()
        } else {
            let Some(packed) = r.compact_length().and_then(|n| r.bytes(n)) else { return Ok(None) };
            self.reset(control);
            self.streams[usize::from(kind & 3)].exactly(packed, size)?
        };
        match filter {
            Filter::Copy => fb.put(rect, plain.chunks_exact(pixel).map(|p| reader.tpixel(p))),
            Filter::Gradient => fb.put(rect, gradient(&plain, w, reader)?.into_iter()),
            Filter::Palette(colours) if colours.len() == 2 => {
                let row = w.div_ceil(8);
                let bit = |i: usize| plain[i / w * row + i % w / 8] >> (7 - i % w % 8) & 1;
                fb.put(rect, (0..w * h).map(|i| colours[usize::from(bit(i))]));
            }
            Filter::Palette(colours) => {
                if plain.iter().any(|&i| usize::from(i) >= colours.len()) {
                    return Err(DecodeError::Rules("an index beyond the palette"));
                }
                fb.put(rect, plain.iter().map(|&i| colours[usize::from(i)]));
            }
        }
        Ok(Some(()))
    }
}

fn filter(kind: u8, r: &mut Reader<'_>, reader: &PixelReader) -> Result<Option<Filter>, DecodeError> {
    if kind & 4 == 0 {
        return Ok(Some(Filter::Copy));
    }
    match r.u8() {
        None => Ok(None),
        Some(0) => Ok(Some(Filter::Copy)),
        Some(1) => {
            let size = reader.format().bytes_per_tpixel();
            let Some(count) = r.u8().map(|n| usize::from(n) + 1) else { return Ok(None) };
            let Some(colours) = r.bytes(count * size) else { return Ok(None) };
            if count < 2 {
                return Err(DecodeError::Rules("a Tight palette of one colour"));
            }
            Ok(Some(Filter::Palette(colours.chunks_exact(size).map(|p| reader.tpixel(p)).collect())))
        }
        Some(2) => Ok(Some(Filter::Gradient)),
        Some(_) => Err(DecodeError::Rules("an unknown Tight filter")),
    }
}

/// Undoes the gradient filter: each channel was sent as its difference to left + above − above left, cut to its range.
fn gradient(plain: &[u8], width: usize, reader: &PixelReader) -> Result<Vec<u32>, DecodeError> {
    let format = reader.format();
    if format.bits_per_pixel == 8 {
        return Err(DecodeError::Rules("a gradient filter with 8 bits per pixel"));
    }
    if width == 0 {
        return Ok(Vec::new());
    }
    let rgb = PixelFormat { bits_per_pixel: 32, max: [255; 3], shift: [16, 8, 0], ..*format };
    let (layout, size) = if format.has_rgb_tpixel() { (rgb, 3) } else { (*format, format.bytes_per_pixel()) };
    let mut above = vec![[0i32; 3]; width + 1];
    let mut pixels = Vec::with_capacity(plain.len() / size);
    for row in plain.chunks_exact(width * size) {
        let mut left = [0i32; 3];
        let mut corner = above[0];
        for (x, bytes) in row.chunks_exact(size).enumerate() {
            let value = match bytes {
                [r, g, b] => u32::from_be_bytes([0, *r, *g, *b]),
                _ if format.big_endian => bytes.iter().fold(0, |v, b| v << 8 | u32::from(*b)),
                _ => bytes.iter().rev().fold(0, |v, b| v << 8 | u32::from(*b)),
            };
            let mut full = 0u32;
            for channel in 0..3 {
                let max = i32::from(layout.max[channel]);
                let guess = (left[channel] + above[x + 1][channel] - corner[channel]).clamp(0, max);
                let difference = (value >> layout.shift[channel]) as i32 & max;
                left[channel] = (guess + difference) & max;
                full |= (left[channel] as u32) << layout.shift[channel];
            }
            corner = std::mem::replace(&mut above[x + 1], left);
            pixels.push(if size == 3 { full } else { reader.rgb(full) });
        }
    }
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradient_is_undone() {
        // Filtered by hand: 2×2 of (10,20,30) (12,20,30) / (11,25,30) (13,25,29).
        let plain = [10, 20, 30, 2, 0, 0, 1, 5, 0, 0, 0, 255];
        let pixels = gradient(&plain, 2, &PixelReader::new(PixelFormat::BGRX)).unwrap();
        assert_eq!(pixels, [0x0a_14_1e, 0x0c_14_1e, 0x0b_19_1e, 0x0d_19_1d]);
    }
}
