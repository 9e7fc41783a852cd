//! Hextile (RFC 6143 section 7.7.4): tiles of 16×16, each a background with rectangles of one or of many colours on it, or
//! raw where that is smaller. For viewers that know nothing better.

use crate::screen::Screen;
use lucarne_rfb::Rect;
use lucarne_rfb::encodings::HEXTILE;
use lucarne_rfb::pixel::PixelWriter;
use lucarne_rfb::server::Update;

/// Side of a tile, pixels.
const SIDE: u32 = 16;

// The first byte of a tile.
const RAW: u8 = 1;
const BACKGROUND: u8 = 2;
const FOREGROUND: u8 = 4;
const ANY_SUBRECTS: u8 = 8;
const COLOURED: u8 = 16;

/// A rectangle of one colour within a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    colour: u32,
    x: u8,
    y: u8,
    w: u8,
    h: u8,
}

/// The Hextile encoder. Rectangles stand for themselves, so it holds only what it would otherwise allocate anew.
#[derive(Debug, Default)]
pub(super) struct Hextile {
    tile: Vec<u32>,
    parts: Vec<Part>,
    /// Colours that the viewer takes for a tile that names none.
    background: Option<u32>,
    foreground: Option<u32>,
}

impl Hextile {
    /// Writes `rect`, which lies on the screen.
    pub(super) fn write(
        &mut self,
        screen: &Screen,
        writer: &PixelWriter,
        rect: Rect,
        update: &mut Update<'_>,
    ) {
        let out = update.rect(rect, HEXTILE);
        (self.background, self.foreground) = (None, None);
        for y in (u32::from(rect.y)..rect.bottom()).step_by(SIDE as usize) {
            for x in (u32::from(rect.x)..rect.right()).step_by(SIDE as usize) {
                let tile =
                    Rect::from_edges(x, y, (x + SIDE).min(rect.right()), (y + SIDE).min(rect.bottom()));
                self.tile.clear();
                (tile.y..tile.y + tile.h).for_each(|y| self.tile.extend_from_slice(screen.row(tile, y)));
                self.put_tile(tile.w.into(), writer, out);
            }
        }
    }

    fn put_tile(&mut self, width: usize, writer: &PixelWriter, out: &mut Vec<u8>) {
        let size = writer.format().bytes_per_pixel();
        let background = most_frequent(&self.tile);
        find_parts(&self.tile, width, background, &mut self.parts);
        let colour = self.parts.first().map(|part| part.colour);
        let coloured = self.parts.iter().any(|part| Some(part.colour) != colour);
        let bytes = size + 2 + self.parts.len() * if coloured { size + 2 } else { 2 };
        if bytes > self.tile.len() * size {
            out.push(RAW);
            writer.put_pixels(&self.tile, out);
            // A raw tile leaves it open what the colours are.
            (self.background, self.foreground) = (None, None);
            return;
        }
        let at = out.len();
        out.push(0);
        let mut mask = 0;
        if self.background != Some(background) {
            mask |= BACKGROUND;
            writer.put_pixels(&[background], out);
            self.background = Some(background);
        }
        if let Some(colour) = colour {
            mask |= ANY_SUBRECTS;
            if coloured {
                mask |= COLOURED;
                // Some viewers keep the last of these as the foreground.
                self.foreground = None;
            } else if self.foreground != Some(colour) {
                mask |= FOREGROUND;
                writer.put_pixels(&[colour], out);
                self.foreground = Some(colour);
            }
            // At most 255, for at least one of 256 pixels is background.
            out.push(self.parts.len() as u8);
            for part in &self.parts {
                if coloured {
                    writer.put_pixels(&[part.colour], out);
                }
                out.push(part.x << 4 | part.y);
                out.push((part.w - 1) << 4 | (part.h - 1));
            }
        }
        out[at] = mask;
    }
}

/// The most frequent colour among the first few of a tile.
fn most_frequent(tile: &[u32]) -> u32 {
    /// More are not told apart: then the tile is hardly worth rectangles.
    const COLOURS: usize = 4;
    let mut counts = [(0, 0usize); COLOURS];
    let mut known = 0;
    for run in tile.chunk_by(|a, b| a == b) {
        match counts[..known].iter_mut().find(|(colour, _)| *colour == run[0]) {
            Some((_, count)) => *count += run.len(),
            None if known < COLOURS => {
                counts[known] = (run[0], run.len());
                known += 1;
            }
            None => {}
        }
    }
    counts[..known].iter().max_by_key(|(_, count)| *count).map_or(0, |(colour, _)| *colour)
}

/// Covers all that is not background with rectangles of one colour, from the top left, each as wide as it goes and then as
/// high.
fn find_parts(tile: &[u32], width: usize, background: u32, parts: &mut Vec<Part>) {
    parts.clear();
    let height = tile.len() / width;
    let mut covered = [0u16; SIDE as usize];
    for y in 0..height {
        for x in 0..width {
            let colour = tile[y * width + x];
            if colour == background || covered[y] >> x & 1 != 0 {
                continue;
            }
            let free = |x: usize, y: usize| tile[y * width + x] == colour && covered[y] >> x & 1 == 0;
            let w = (x..width).take_while(|x| free(*x, y)).count();
            let h = (y..height).take_while(|y| (x..x + w).all(|x| free(x, *y))).count();
            let bits = (((1u32 << w) - 1) << x) as u16;
            covered[y..y + h].iter_mut().for_each(|row| *row |= bits);
            parts.push(Part { colour, x: x as u8, y: y as u8, w: w as u8, h: h as u8 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_exactly_what_is_not_background() {
        #[rustfmt::skip]
        let tile = [
            7, 7, 7, 7,
            7, 1, 1, 2,
            7, 1, 1, 2,
            3, 7, 1, 7,
        ];
        let mut parts = Vec::new();
        find_parts(&tile, 4, most_frequent(&tile), &mut parts);
        let part = |colour, x, y, w, h| Part { colour, x, y, w, h };
        assert_eq!(
            parts,
            [part(1, 1, 1, 2, 2), part(2, 3, 1, 1, 2), part(3, 0, 3, 1, 1), part(1, 2, 3, 1, 1)]
        );
    }

    #[test]
    fn a_tile_of_one_colour_that_is_known_is_one_byte() {
        let mut screen = Screen::new(32, 16).unwrap();
        let white = vec![0xff; 32 * 16 * 4];
        screen.update(&white, 32 * 4, Rect::new(0, 0, 32, 16)).unwrap();
        let writer = PixelWriter::new(lucarne_rfb::PixelFormat::BGRX);
        let mut out = Vec::new();
        let mut update = Update::new(&mut out);
        Hextile::default().write(&screen, &writer, screen.rect(), &mut update);
        update.finish();
        // The message's head, the rectangle's, and two tiles.
        assert_eq!(out[4 + 12..], [BACKGROUND, 0xff, 0xff, 0xff, 0, 0]);
    }
}
