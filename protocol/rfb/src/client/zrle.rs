//! Decoder of ZRLE (RFC 6143 section 7.7.6).

use super::decode::{DecodeError, MAX_RECT_BYTES};
use super::framebuffer::Framebuffer;
use super::inflate::Inflate;
use crate::pixel::PixelReader;
use crate::rect::Rect;
use crate::wire::Reader;

#[derive(Default)]
pub(super) struct Zrle {
    stream: Inflate,
}

const SHORT: DecodeError = DecodeError::Rules("a ZRLE tile that is cut short");

impl Zrle {
    pub(super) fn rect(
        &mut self,
        rect: Rect,
        r: &mut Reader<'_>,
        reader: &PixelReader,
        fb: &mut Framebuffer,
    ) -> Result<Option<()>, DecodeError> {
        let Some(length) = r.u32().map(|n| n as usize) else { return Ok(None) };
        if length > MAX_RECT_BYTES {
            return Err(DecodeError::Rules("more ZRLE data than any rectangle needs"));
        }
        let Some(packed) = r.bytes(length) else { return Ok(None) };
        // The worst legal tile: runs of one pixel each, or a palette for next to nothing.
        let tiles = u64::from(rect.w.div_ceil(64)) * u64::from(rect.h.div_ceil(64));
        let limit = rect.area() * 5 + tiles * 512;
        let plain = self.stream.piece(packed, limit as usize)?;
        let mut tiles = Reader::new(&plain);
        for y in (u32::from(rect.y)..rect.bottom()).step_by(64) {
            for x in (u32::from(rect.x)..rect.right()).step_by(64) {
                let tile = Rect::from_edges(x, y, (x + 64).min(rect.right()), (y + 64).min(rect.bottom()));
                fb.put(tile, tile_pixels(tile, &mut tiles, reader)?.into_iter());
            }
        }
        match tiles.remaining() {
            0 => Ok(Some(())),
            _ => Err(DecodeError::Rules("ZRLE data after the last tile")),
        }
    }
}

fn tile_pixels(tile: Rect, r: &mut Reader<'_>, reader: &PixelReader) -> Result<Vec<u32>, DecodeError> {
    let (w, count) = (usize::from(tile.w), tile.area() as usize);
    let size = reader.format().bytes_per_cpixel();
    let kind = r.u8().ok_or(SHORT)?;
    let mut colours = |n: usize| {
        let bytes = r.bytes(n * size).ok_or(SHORT)?;
        Ok(bytes.chunks_exact(size).map(|p| reader.cpixel(p)).collect::<Vec<_>>())
    };
    match kind {
        0 => colours(count),
        1 => Ok(vec![colours(1)?[0]; count]),
        2..=16 => {
            let palette = colours(kind.into())?;
            let bits = match kind {
                2 => 1,
                3..=4 => 2,
                _ => 4,
            };
            let row = (w * bits).div_ceil(8);
            let packed = r.bytes(row * usize::from(tile.h)).ok_or(SHORT)?;
            (0..count)
                .map(|i| {
                    let bit = i % w * bits;
                    let byte = packed[i / w * row + bit / 8];
                    let index = byte >> (8 - bits - bit % 8) & ((1 << bits) - 1);
                    palette
                        .get(usize::from(index))
                        .copied()
                        .ok_or(DecodeError::Rules("an index beyond the palette"))
                })
                .collect()
        }
        128 => {
            let mut pixels = Vec::with_capacity(count);
            while pixels.len() < count {
                let colour = reader.cpixel(r.bytes(size).ok_or(SHORT)?);
                push_run(&mut pixels, colour, count, r)?;
            }
            Ok(pixels)
        }
        130.. => {
            let palette = colours(usize::from(kind) - 128)?;
            let mut pixels = Vec::with_capacity(count);
            while pixels.len() < count {
                let index = r.u8().ok_or(SHORT)?;
                let colour = *palette
                    .get(usize::from(index & 0x7f))
                    .ok_or(DecodeError::Rules("an index beyond the palette"))?;
                if index & 0x80 == 0 {
                    pixels.push(colour);
                } else {
                    push_run(&mut pixels, colour, count, r)?;
                }
            }
            Ok(pixels)
        }
        _ => Err(DecodeError::Rules("an unknown kind of ZRLE tile")),
    }
}

fn push_run(pixels: &mut Vec<u32>, colour: u32, count: usize, r: &mut Reader<'_>) -> Result<(), DecodeError> {
    let mut length = 1usize;
    loop {
        let byte = r.u8().ok_or(SHORT)?;
        length += usize::from(byte);
        if length > count - pixels.len() {
            return Err(DecodeError::Rules("a run beyond the end of its tile"));
        }
        if byte != 255 {
            break;
        }
    }
    pixels.resize(pixels.len() + length, colour);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::PixelFormat;

    #[test]
    fn tiles_that_reach_beyond_themselves_or_end_early_are_errors() {
        let reader = PixelReader::new(PixelFormat::BGR233);
        let tile = |bytes: &[u8]| tile_pixels(Rect::new(0, 0, 3, 2), &mut Reader::new(bytes), &reader);
        let run = DecodeError::Rules("a run beyond the end of its tile");
        let index = DecodeError::Rules("an index beyond the palette");
        for (bytes, error) in [
            (&[128, 7, 6][..], run.clone()),
            (&[128, 7, 4, 8, 1], run.clone()),
            (&[130, 7, 8, 0x80, 255, 255], run),
            (&[130, 7, 8, 2], index.clone()),
            (&[3, 7, 8, 9, 0b0011_0000, 0], index),
            (&[128, 7, 4], SHORT),
            (&[0, 1, 2, 3, 4, 5], SHORT),
            (&[], SHORT),
            (&[17], DecodeError::Rules("an unknown kind of ZRLE tile")),
            (&[129, 7], DecodeError::Rules("an unknown kind of ZRLE tile")),
        ] {
            assert_eq!(tile(bytes), Err(error), "{bytes:?}");
        }
        assert_eq!(tile(&[128, 0, 5]), Ok(vec![0; 6]));
        assert_eq!(tile(&[130, 0, 0xff, 0x80, 4, 1]), Ok([[0; 5].as_slice(), &[0xff_ffff]].concat()));
    }
}
