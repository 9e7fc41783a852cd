//! ZRLE (RFC 6143 section 7.7.6): tiles of 64×64, each in the smallest of its forms, all in one zlib stream.

use super::EncodeError;
use super::palette::{Palette, scan};
use super::zlib::ZlibStream;
use crate::region::TILE;
use crate::screen::Screen;
use lucarne_rfb::Rect;
use lucarne_rfb::encodings::ZRLE;
use lucarne_rfb::pixel::PixelWriter;
use lucarne_rfb::server::Update;

/// The most colours of a packed palette, and of a run-length palette.
const MAX_PACKED: usize = 16;
const MAX_PALETTE: usize = 127;

/// The ZRLE encoder of one viewer.
#[derive(Default)]
pub(super) struct Zrle {
    stream: Option<ZlibStream>,
    palette: Option<Palette>,
    plain: Vec<u8>,
    tile: Vec<u32>,
}

impl std::fmt::Debug for Zrle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zrle").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// The forms of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Raw,
    Packed,
    PlainRle,
    PaletteRle,
}

impl Zrle {
    /// Writes `rect`, which lies on the screen. The stream cannot be reset, so `level` counts only for the first.
    pub(super) fn write(
        &mut self,
        screen: &Screen,
        writer: &PixelWriter,
        level: u32,
        rect: Rect,
        update: &mut Update<'_>,
    ) -> Result<(), EncodeError> {
        self.plain.clear();
        for y in (u32::from(rect.y)..rect.bottom()).step_by(TILE.into()) {
            for x in (u32::from(rect.x)..rect.right()).step_by(TILE.into()) {
                let edge = u32::from(TILE);
                let tile =
                    Rect::from_edges(x, y, (x + edge).min(rect.right()), (y + edge).min(rect.bottom()));
                self.put_tile(screen, writer, tile);
            }
        }
        let stream = self.stream.get_or_insert_with(|| ZlibStream::new(level));
        stream.put(&self.plain, update.rect(rect, ZRLE))
    }

    fn put_tile(&mut self, screen: &Screen, writer: &PixelWriter, rect: Rect) {
        self.tile.clear();
        (rect.y..rect.y + rect.h).for_each(|y| self.tile.extend_from_slice(screen.row(rect, y)));
        let (tile, out) = (&self.tile[..], &mut self.plain);
        let palette = self.palette.get_or_insert_with(Palette::new);
        palette.clear();
        let many =
            scan(tile.chunks(rect.w.into()), palette).overflow || palette.colours().len() > MAX_PALETTE;
        if let (false, &[colour]) = (many, palette.colours()) {
            out.push(1);
            return writer.put_cpixels(&[colour], out);
        }
        let colours = (!many).then(|| palette.colours().len());
        match smallest(tile, rect.w.into(), colours, writer.format().bytes_per_cpixel()) {
            Form::Raw => {
                out.push(0);
                writer.put_cpixels(tile, out);
            }
            Form::Packed => {
                out.push(palette.colours().len() as u8);
                writer.put_cpixels(palette.colours(), out);
                tile.chunks(rect.w.into()).for_each(|row| put_packed(row, palette, out));
            }
            Form::PlainRle => {
                out.push(128);
                for run in tile.chunk_by(|a, b| a == b) {
                    writer.put_cpixels(&run[..1], out);
                    put_run_length(run.len(), out);
                }
            }
            Form::PaletteRle => {
                out.push(128 + palette.colours().len() as u8);
                writer.put_cpixels(palette.colours(), out);
                for run in tile.chunk_by(|a, b| a == b) {
                    let index = palette.index(run[0]);
                    if run.len() == 1 {
                        out.push(index);
                    } else {
                        out.push(index | 128);
                        put_run_length(run.len(), out);
                    }
                }
            }
        }
    }
}

/// The form with the fewest bytes before zlib. `colours` is `None` when there are too many to list.
fn smallest(tile: &[u32], width: usize, colours: Option<usize>, pixel: usize) -> Form {
    let (mut runs, mut length_bytes, mut long_runs) = (0, 0, 0);
    for run in tile.chunk_by(|a, b| a == b) {
        runs += 1;
        let bytes = (run.len() - 1) / 255 + 1;
        length_bytes += bytes;
        if run.len() > 1 {
            long_runs += bytes;
        }
    }
    let mut best = (tile.len() * pixel, Form::Raw);
    let mut offer = |size, form| {
        if size < best.0 {
            best = (size, form);
        }
    };
    if let Some(colours) = colours {
        if colours <= MAX_PACKED {
            let row = width.div_ceil(8 / packed_bits(colours));
            offer(colours * pixel + row * (tile.len() / width), Form::Packed);
        }
        offer(colours * pixel + runs + long_runs, Form::PaletteRle);
    }
    offer(runs * pixel + length_bytes, Form::PlainRle);
    best.1
}

fn packed_bits(colours: usize) -> usize {
    match colours {
        0..=2 => 1,
        3..=4 => 2,
        _ => 4,
    }
}

fn put_packed(row: &[u32], palette: &Palette, out: &mut Vec<u8>) {
    let bits = packed_bits(palette.colours().len());
    out.extend(row.chunks(8 / bits).map(|pixels| {
        let packed = pixels.iter().fold(0u16, |v, &p| v << bits | u16::from(palette.index(p)));
        (packed << (8 - bits * pixels.len())) as u8
    }));
}

/// One less than the length, in bytes of which only the last is not 255.
fn put_run_length(length: usize, out: &mut Vec<u8>) {
    let rest = length - 1;
    out.extend(std::iter::repeat_n(255, rest / 255));
    out.push((rest % 255) as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_lengths_are_as_the_specification_shows() {
        for (length, bytes) in [
            (1, &[0][..]),
            (255, &[254]),
            (256, &[255, 0]),
            (257, &[255, 1]),
            (510, &[255, 254]),
            (511, &[255, 255, 0]),
        ] {
            let mut out = Vec::new();
            put_run_length(length, &mut out);
            assert_eq!(out, bytes, "{length}");
        }
    }

    #[test]
    fn each_form_is_chosen_where_it_is_the_smallest() {
        let rows = |f: fn(usize) -> u32| (0..4096).map(f).collect::<Vec<_>>();
        let noise = rows(|i| i as u32);
        assert_eq!(smallest(&noise, 64, None, 3), Form::Raw);
        let stripes = rows(|i| (i / 8 % 20) as u32);
        assert_eq!(smallest(&stripes, 64, Some(20), 3), Form::PaletteRle);
        let checks = rows(|i| (i % 2) as u32);
        assert_eq!(smallest(&checks, 64, Some(2), 3), Form::Packed);
        let many_long_runs = rows(|i| (i / 20) as u32);
        assert_eq!(smallest(&many_long_runs, 64, None, 3), Form::PlainRle);
    }
}
