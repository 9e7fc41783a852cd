//! Tight (rfbproto, "Tight Encoding"): fill, two-colour and indexed palettes, full colour, JPEG.
//!
//! zlib stream 0 carries full colour, 1 two-colour bitmaps, 2 indices: like follows like, so each finds its own
//! repetitions.

use super::EncodeError;
use super::jpeg::JpegSettings;
use super::palette::Palette;
use super::photos::Photos;
use super::plan::{Kind, Piece, plan};
use super::zlib::ZlibStream;
use super::zrle::Zrle;
use crate::region::Region;
use crate::screen::Screen;
use lucarne_rfb::Rect;
use lucarne_rfb::encodings::TIGHT;
use lucarne_rfb::pixel::PixelWriter;
use lucarne_rfb::server::Update;
use lucarne_rfb::wire::Put;

const FILL: u8 = 0x80;
const JPEG: u8 = 0x90;
const READ_FILTER: u8 = 0x40;
const PALETTE_FILTER: u8 = 1;

/// Data shorter than this is not compressed; the protocol says so.
const MIN_TO_COMPRESS: usize = 12;

/// A palette may have one byte for so many pixels.
const PALETTE_SHARE: u64 = 20;

const FULL_STREAM: usize = 0;
const MONO_STREAM: usize = 1;
const INDEX_STREAM: usize = 2;

/// What a rectangle is encoded from and for.
pub(super) struct Job<'a> {
    pub(super) screen: &'a Screen,
    pub(super) writer: &'a PixelWriter,
    /// zlib's.
    pub(super) level: u32,
    /// `None`: without loss.
    pub(super) jpeg: Option<JpegSettings>,
}

/// The Tight encoder of one viewer.
#[derive(Debug)]
pub(super) struct Tight {
    lossless: Lossless,
    photos: Photos,
}

/// What is sent as it is, in streams.
#[derive(Debug)]
struct Lossless {
    streams: [Option<ZlibStream>; 3],
    /// Each rectangle's streams begin anew.
    anew: bool,
    scratch: Scratch,
}

/// Memory that is kept between rectangles.
struct Scratch {
    palette: Palette,
    /// Data before zlib.
    plain: Vec<u8>,
    /// Data after zlib.
    packed: Vec<u8>,
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scratch")
    }
}

impl Tight {
    pub(super) fn new() -> Self {
        let scratch = Scratch { palette: Palette::new(), plain: Vec::new(), packed: Vec::new() };
        let lossless = Lossless { streams: [None, None, None], anew: false, scratch };
        Self { lossless, photos: Photos::default() }
    }

    /// From now on each rectangle stands for itself.
    pub(super) fn begin_anew(&mut self) {
        self.lossless.anew = true;
    }

    /// The viewer was sent rectangles that reset its streams.
    pub(super) fn forget(&mut self) {
        self.lossless.streams = [None, None, None];
    }

    /// Writes `rect`, which lies on the screen, and adds what was sent with loss to `lossy`. A viewer that also knows ZRLE
    /// gets text and drawings in it, with zlib's level: its palettes are small, per tile, and compressed.
    pub(super) fn write(
        &mut self,
        job: &Job<'_>,
        rect: Rect,
        update: &mut Update<'_>,
        lossy: &mut Region,
        zrle: Option<(&mut Zrle, u32)>,
    ) -> Result<(), EncodeError> {
        let Self { lossless, photos } = self;
        let pieces = plan(job.screen, rect, zrle.is_some(), &mut lossless.scratch.palette);
        let Some(settings) = job.jpeg else { return lossless.write(job, pieces, update, zrle) };
        let (pictures, others): (Vec<Piece>, _) = pieces.into_iter().partition(|p| p.kind == Kind::Photo);
        let rects: Vec<Rect> = pictures.iter().map(|piece| piece.rect).collect();
        let meanwhile = || lossless.write(job, others, update, zrle);
        let (jpegs, written) = photos.compress(job.screen, settings, &rects, meanwhile);
        written?;
        for (rect, jpeg) in rects.into_iter().zip(jpegs) {
            let Some(jpeg) = jpeg else {
                lossless.write_full(job, rect, update)?;
                continue;
            };
            let out = update.rect(rect, TIGHT);
            out.push(JPEG);
            out.put_compact_length(jpeg.len());
            out.extend_from_slice(&jpeg);
            lossy.add(rect);
        }
        Ok(())
    }
}

impl Lossless {
    fn write(
        &mut self,
        job: &Job<'_>,
        pieces: Vec<Piece>,
        update: &mut Update<'_>,
        mut zrle: Option<(&mut Zrle, u32)>,
    ) -> Result<(), EncodeError> {
        for Piece { rect, kind } in pieces {
            match kind {
                Kind::Solid(colour) => {
                    let out = update.rect(rect, TIGHT);
                    out.push(FILL);
                    job.writer.put_tpixels(&[colour], out);
                }
                Kind::Indexed(colours) if pays_off(job.writer, &colours, rect) => {
                    self.write_indexed(job, rect, &colours, update)?;
                }
                Kind::Indexed(_) | Kind::Photo | Kind::Full => self.write_full(job, rect, update)?,
                Kind::Drawing => match &mut zrle {
                    Some((zrle, level)) => zrle.write(job.screen, job.writer, *level, rect, update)?,
                    None => self.write_full(job, rect, update)?,
                },
            }
        }
        Ok(())
    }

    fn write_full(&mut self, job: &Job<'_>, rect: Rect, update: &mut Update<'_>) -> Result<(), EncodeError> {
        self.scratch.plain.clear();
        for y in rect.y..rect.y + rect.h {
            job.writer.put_tpixels(job.screen.row(rect, y), &mut self.scratch.plain);
        }
        let out = update.rect(rect, TIGHT);
        let reset = self.prepare(FULL_STREAM, job.level);
        out.push((FULL_STREAM as u8) << 4 | reset);
        self.write_compressed(FULL_STREAM, out)
    }

    fn write_indexed(
        &mut self,
        job: &Job<'_>,
        rect: Rect,
        colours: &[u32],
        update: &mut Update<'_>,
    ) -> Result<(), EncodeError> {
        let Scratch { palette, plain, .. } = &mut self.scratch;
        plain.clear();
        let rows = (rect.y..rect.y + rect.h).map(|y| job.screen.row(rect, y));
        let stream = if let &[_, second] = colours {
            rows.for_each(|row| put_bits(row, second, plain));
            MONO_STREAM
        } else {
            palette.clear();
            palette.merge(colours);
            rows.for_each(|row| palette.put_indices(row, plain));
            INDEX_STREAM
        };
        let out = update.rect(rect, TIGHT);
        let reset = self.prepare(stream, job.level);
        out.push(READ_FILTER | (stream as u8) << 4 | reset);
        out.push(PALETTE_FILTER);
        out.push((colours.len() - 1) as u8);
        job.writer.put_tpixels(colours, out);
        self.write_compressed(stream, out)
    }

    /// Makes the stream ready at that level; gives the control byte's bit that resets the viewer's end when it is new.
    fn prepare(&mut self, stream: usize, level: u32) -> u8 {
        // Too little data is not compressed and would leave the viewer's stream as it is, so nothing changes then.
        if self.scratch.plain.len() < MIN_TO_COMPRESS {
            return 0;
        }
        match &mut self.streams[stream] {
            Some(s) if s.level() == level && self.anew => {
                s.reset();
                1 << stream
            }
            Some(s) if s.level() == level => 0,
            _ => {
                self.streams[stream] = Some(ZlibStream::new(level));
                1 << stream
            }
        }
    }

    fn write_compressed(&mut self, stream: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let Scratch { plain, packed, .. } = &mut self.scratch;
        if plain.len() < MIN_TO_COMPRESS {
            out.extend_from_slice(plain);
            return Ok(());
        }
        packed.clear();
        let Some(zlib) = &mut self.streams[stream] else { return Err(EncodeError::Zlib) };
        zlib.compress(plain, packed)?;
        out.put_compact_length(packed.len());
        out.extend_from_slice(packed);
        Ok(())
    }
}

/// An index is smaller than the pixels themselves. A palette is not compressed, and makes the same letters other bytes in
/// each rectangle, which zlib cannot find again: few pixels of many colours are better sent as they are.
fn pays_off(writer: &PixelWriter, colours: &[u32], rect: Rect) -> bool {
    let pixel = writer.format().bytes_per_tpixel() as u64;
    let palette = colours.len() as u64 * pixel;
    if colours.len() == 2 {
        return palette + u64::from(rect.w.div_ceil(8)) * u64::from(rect.h) < rect.area() * pixel;
    }
    palette * PALETTE_SHARE <= rect.area()
}

/// One bit per pixel, set where it has the second colour, each row padded to a byte.
fn put_bits(row: &[u32], second: u32, out: &mut Vec<u8>) {
    out.extend(row.chunks(8).map(|eight| {
        let bits = eight.iter().fold(0u16, |bits, &p| bits << 1 | u16::from(p == second));
        (bits << (8 - eight.len())) as u8
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_start_at_the_left_and_rows_are_padded() {
        let mut out = Vec::new();
        put_bits(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 1], 1, &mut out);
        assert_eq!(out, [0x80, 0x40]);
    }
}
