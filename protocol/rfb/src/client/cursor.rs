//! Decoders of the pointer's shape: Cursor, Cursor With Alpha and VMware Cursor (rfbproto, the pseudo-encodings of these
//! names).

use super::decode::DecodeError;
use crate::encodings as enc;
use crate::pixel::PixelReader;
use crate::rect::Rect;
use crate::wire::Reader;

/// The largest pointer, pixels each way.
const MAX_CURSOR: u16 = 1024;

/// The shape of the pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Hot spot and size.
    pub rect: Rect,
    /// `0xAARRGGBB`, row by row, colours multiplied by alpha; with a mask, alpha is 0 or 255.
    pub pixels: Vec<u32>,
}

type Shape = Result<Option<Cursor>, DecodeError>;

fn count(rect: Rect) -> Result<usize, DecodeError> {
    if rect.w > MAX_CURSOR || rect.h > MAX_CURSOR {
        return Err(DecodeError::Rules("a pointer of more than 1024 pixels each way"));
    }
    Ok(usize::from(rect.w) * usize::from(rect.h))
}

/// Cursor: pixels and a bit mask.
pub(super) fn masked(rect: Rect, r: &mut Reader<'_>, reader: &PixelReader) -> Shape {
    let (count, size) = (count(rect)?, reader.format().bytes_per_pixel());
    let row = usize::from(rect.w).div_ceil(8);
    let (Some(pixels), Some(mask)) = (r.bytes(count * size), r.bytes(row * usize::from(rect.h))) else {
        return Ok(None);
    };
    let pixel = |(i, p): (usize, &[u8])| {
        let (x, y) = (i % usize::from(rect.w), i / usize::from(rect.w));
        if mask[y * row + x / 8] & 0x80 >> (x % 8) == 0 { 0 } else { OPAQUE | reader.pixel(p) }
    };
    Ok(Some(Cursor { rect, pixels: pixels.chunks_exact(size).enumerate().map(pixel).collect() }))
}

/// Cursor With Alpha, in Raw only.
pub(super) fn with_alpha(rect: Rect, r: &mut Reader<'_>) -> Shape {
    let count = count(rect)?;
    match r.i32() {
        None => return Ok(None),
        Some(enc::RAW) => {}
        Some(_) => return Err(DecodeError::Rules("a pointer with alpha in another encoding than Raw")),
    }
    Ok(r.bytes(count * 4).map(|bytes| Cursor { rect, pixels: bytes.chunks_exact(4).map(argb).collect() }))
}

/// VMware Cursor: two masks, or pixels with alpha that they are not multiplied by.
pub(super) fn vmware(rect: Rect, r: &mut Reader<'_>, reader: &PixelReader) -> Shape {
    let count = count(rect)?;
    let (Some(kind), Some(_)) = (r.u8(), r.u8()) else { return Ok(None) };
    let size = reader.format().bytes_per_pixel();
    let pixels = match kind {
        0 => {
            let (Some(and), Some(xor)) = (r.bytes(count * size), r.bytes(count * size)) else {
                return Ok(None);
            };
            let pairs = and.chunks_exact(size).zip(xor.chunks_exact(size));
            pairs.map(|(and, xor)| drawn(reader.pixel(and), reader.pixel(xor))).collect()
        }
        1 => {
            let Some(bytes) = r.bytes(count * 4) else { return Ok(None) };
            bytes.chunks_exact(4).map(|p| multiplied(argb(p))).collect()
        }
        _ => return Err(DecodeError::Rules("an unknown kind of VMware pointer")),
    };
    Ok(Some(Cursor { rect, pixels }))
}

const OPAQUE: u32 = 0xff00_0000;

/// What a pixel `and`s and `xor`s with what is below. A shape cannot say that it inverts: that becomes black.
fn drawn(and: u32, xor: u32) -> u32 {
    match (and, xor) {
        (0, colour) => OPAQUE | colour,
        (_, 0) => 0,
        _ => OPAQUE,
    }
}

/// `0xAARRGGBB` of red, green, blue, alpha.
fn argb(rgba: &[u8]) -> u32 {
    u32::from_be_bytes([rgba[3], rgba[0], rgba[1], rgba[2]])
}

fn multiplied(argb: u32) -> u32 {
    let [a, r, g, b] = argb.to_be_bytes();
    let by_alpha = |c: u8| ((u32::from(c) * u32::from(a) + 127) / 255) as u8;
    u32::from_be_bytes([a, by_alpha(r), by_alpha(g), by_alpha(b)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::PixelFormat;

    #[test]
    fn two_masks_become_colours_holes_and_black_for_what_inverts() {
        let reader = PixelReader::new(PixelFormat::RGB565);
        let white = [0xff, 0xff];
        let and = [[0, 0], [0, 0], white, white];
        let xor = [[0, 0xf8], [0, 0], [0, 0], white];
        let bytes = [&[0, 0][..], and.as_flattened(), xor.as_flattened()].concat();
        let rect = Rect::new(1, 0, 4, 1);
        let shape = vmware(rect, &mut Reader::new(&bytes), &reader).unwrap().unwrap();
        assert_eq!(shape.pixels, [0xffff_0000, 0xff00_0000, 0, 0xff00_0000]);
        for short in 0..bytes.len() {
            assert_eq!(vmware(rect, &mut Reader::new(&bytes[..short]), &reader), Ok(None));
        }
    }

    #[test]
    fn colours_of_a_vmware_pointer_are_multiplied_by_alpha() {
        let reader = PixelReader::new(PixelFormat::BGRX);
        let bytes = [1, 0, 200, 100, 50, 128, 9, 9, 9, 0];
        let shape = vmware(Rect::new(0, 0, 2, 1), &mut Reader::new(&bytes), &reader).unwrap().unwrap();
        assert_eq!(shape.pixels, [0x8064_3219, 0]);
    }

    #[test]
    fn shapes_beyond_the_limit_are_refused_before_their_pixels() {
        let reader = PixelReader::new(PixelFormat::BGRX);
        for rect in [Rect::new(0, 0, 1025, 1), Rect::new(0, 0, 1, 65_535)] {
            let too_large = Err(DecodeError::Rules("a pointer of more than 1024 pixels each way"));
            assert_eq!(masked(rect, &mut Reader::new(&[]), &reader), too_large);
            assert_eq!(with_alpha(rect, &mut Reader::new(&[])), too_large);
            assert_eq!(vmware(rect, &mut Reader::new(&[]), &reader), too_large);
        }
    }
}
