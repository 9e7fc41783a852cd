//! Decoder of Hextile (RFC 6143 section 7.7.4), tile by tile.

use super::decode::DecodeError;
use super::framebuffer::Framebuffer;
use crate::pixel::PixelReader;
use crate::rect::Rect;
use crate::wire::Reader;

const RAW: u8 = 1;
const BACKGROUND: u8 = 2;
const FOREGROUND: u8 = 4;
const ANY_SUBRECTS: u8 = 8;
const COLOURED: u8 = 16;

/// How far the present rectangle is.
#[derive(Default)]
pub(super) struct Hextile {
    done: u32,
    background: u32,
    foreground: u32,
}

impl Hextile {
    /// Decodes whole tiles as far as the bytes go; says whether the rectangle is whole.
    pub(super) fn rect(
        &mut self,
        rect: Rect,
        bytes: &[u8],
        consumed: &mut usize,
        reader: &PixelReader,
        fb: &mut Framebuffer,
    ) -> Result<bool, DecodeError> {
        let (columns, rows) = (u32::from(rect.w.div_ceil(16)), u32::from(rect.h.div_ceil(16)));
        while self.done < columns * rows {
            let x = u32::from(rect.x) + self.done % columns * 16;
            let y = u32::from(rect.y) + self.done / columns * 16;
            let tile = Rect::from_edges(x, y, (x + 16).min(rect.right()), (y + 16).min(rect.bottom()));
            let mut r = Reader::new(&bytes[*consumed..]);
            if self.tile(tile, &mut r, reader, fb)?.is_none() {
                return Ok(false);
            }
            *consumed += r.consumed();
            self.done += 1;
        }
        *self = Self::default();
        Ok(true)
    }

    fn tile(
        &mut self,
        tile: Rect,
        r: &mut Reader<'_>,
        reader: &PixelReader,
        fb: &mut Framebuffer,
    ) -> Result<Option<()>, DecodeError> {
        let size = reader.format().bytes_per_pixel();
        let Some(mask) = r.u8() else { return Ok(None) };
        if mask & RAW != 0 {
            let Some(pixels) = r.bytes(tile.area() as usize * size) else { return Ok(None) };
            fb.put(tile, pixels.chunks_exact(size).map(|p| reader.pixel(p)));
            return Ok(Some(()));
        }
        let (mut background, mut foreground) = (self.background, self.foreground);
        for (bit, colour) in [(BACKGROUND, &mut background), (FOREGROUND, &mut foreground)] {
            if mask & bit != 0 {
                let Some(pixel) = r.bytes(size) else { return Ok(None) };
                *colour = reader.pixel(pixel);
            }
        }
        let mut parts = Vec::new();
        if mask & ANY_SUBRECTS != 0 {
            let Some(count) = r.u8() else { return Ok(None) };
            for _ in 0..count {
                let colour = if mask & COLOURED != 0 {
                    let Some(pixel) = r.bytes(size) else { return Ok(None) };
                    reader.pixel(pixel)
                } else {
                    foreground
                };
                let (Some(at), Some(extent)) = (r.u8(), r.u8()) else { return Ok(None) };
                let nibbles = |b: u8| (u16::from(b >> 4), u16::from(b & 15));
                let ((x, y), (w, h)) = (nibbles(at), nibbles(extent));
                let part = Rect::new(tile.x + x, tile.y + y, w + 1, h + 1);
                if !tile.contains(&part) {
                    return Err(DecodeError::Rules("a Hextile sub-rectangle outside its tile"));
                }
                parts.push((part, colour));
            }
        }
        (self.background, self.foreground) = (background, foreground);
        fb.fill(tile, background);
        parts.into_iter().for_each(|(part, colour)| fb.fill(part, colour));
        Ok(Some(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::PixelFormat;

    #[test]
    fn tiles_inherit_colours_and_come_in_any_chunking() {
        let mut bytes = vec![BACKGROUND | FOREGROUND | ANY_SUBRECTS];
        bytes.extend([1, 0, 0, 0, 2, 0, 0, 0, 1, 0x12, 0x20]);
        bytes.push(0);
        let reader = PixelReader::new(PixelFormat::BGRX);
        let rect = Rect::new(0, 0, 20, 4);
        for split in 0..bytes.len() {
            let mut fb = Framebuffer::new(20, 4).unwrap();
            let (mut hextile, mut consumed) = (Hextile::default(), 0);
            assert!(!hextile.rect(rect, &bytes[..split], &mut consumed, &reader, &mut fb).unwrap());
            assert!(hextile.rect(rect, &bytes, &mut consumed, &reader, &mut fb).unwrap());
            assert_eq!(consumed, bytes.len());
            assert_eq!((fb.pixel(0, 0), fb.pixel(19, 3)), (Some(1), Some(1)));
            assert_eq!((fb.pixel(1, 2), fb.pixel(3, 2), fb.pixel(4, 2)), (Some(2), Some(2), Some(1)));
        }
    }
}
