//! A picture in memory and the few things that are drawn on it.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};

/// Size of a letter's cell, pixels.
pub const CELL: (u16, u16) = (8, 18);

/// A rectangle on the canvas, pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Left edge.
    pub x: u16,
    /// Top edge.
    pub y: u16,
    /// Width.
    pub w: u16,
    /// Height.
    pub h: u16,
}

impl Area {
    /// The rectangle with these edges and this size.
    #[must_use]
    pub const fn new(x: u16, y: u16, w: u16, h: u16) -> Self {
        Self { x, y, w, h }
    }

    /// The smallest rectangle that holds both.
    #[must_use]
    pub fn bounding(self, other: Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.w).max(other.x + other.w);
        let bottom = (self.y + self.h).max(other.y + other.h);
        Self { x, y, w: right - x, h: bottom - y }
    }
}

/// Pixels `0x00RRGGBB`, row by row.
#[derive(Clone, Debug)]
pub struct Canvas {
    width: u16,
    height: u16,
    pixels: Vec<u32>,
}

impl Canvas {
    /// A black one.
    #[must_use]
    pub fn new(width: u16, height: u16) -> Self {
        Self { width, height, pixels: vec![0; usize::from(width) * usize::from(height)] }
    }

    /// Pixels.
    #[must_use]
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Pixels.
    #[must_use]
    pub fn height(&self) -> u16 {
        self.height
    }

    /// All of it.
    #[must_use]
    pub fn area(&self) -> Area {
        Area::new(0, 0, self.width, self.height)
    }

    /// All pixels.
    #[must_use]
    pub fn pixels(&self) -> &[u32] {
        &self.pixels
    }

    /// The pixels of one row of an area, which must lie on the canvas.
    #[must_use]
    pub fn row(&self, area: Area, y: u16) -> &[u32] {
        let start = usize::from(area.y + y) * usize::from(self.width) + usize::from(area.x);
        &self.pixels[start..start + usize::from(area.w)]
    }

    fn row_mut(&mut self, area: Area, y: u16) -> &mut [u32] {
        let start = usize::from(area.y + y) * usize::from(self.width) + usize::from(area.x);
        &mut self.pixels[start..start + usize::from(area.w)]
    }

    /// Replaces a row, which must have the canvas's width.
    pub(crate) fn set_row(&mut self, y: u16, row: &[u32]) {
        self.row_mut(Area::new(0, y, self.width, 1), 0).copy_from_slice(row);
    }

    /// Fills an area, which must lie on the canvas, with a colour.
    pub fn fill(&mut self, area: Area, colour: u32) {
        for y in 0..area.h {
            self.row_mut(area, y).fill(colour);
        }
    }

    /// Copies `area`'s size from `source` at `from` to `area`; both must lie on their canvases.
    pub fn copy(&mut self, source: &Self, from: (u16, u16), area: Area) {
        for y in 0..area.h {
            let row = source.row(Area { x: from.0, y: from.1, ..area }, y);
            self.row_mut(area, y).copy_from_slice(row);
        }
    }

    /// Moves everything in an area up by `rows`; the lowest rows stay as they are.
    pub fn scroll_up(&mut self, area: Area, rows: u16) {
        for y in 0..area.h - rows {
            let start = |y| usize::from(area.y + y) * usize::from(self.width) + usize::from(area.x);
            let from = start(y + rows);
            self.pixels.copy_within(from..from + usize::from(area.w), start(y));
        }
    }

    /// Draws a row of letters with its left top corner at `at`, as far as it fits on the canvas; gives where it drew.
    pub fn text(&mut self, at: (u16, u16), text: &str, colour: u32, paper: u32) -> Area {
        let fitting = usize::from(self.width.saturating_sub(at.0) / CELL.0);
        let text: Vec<char> = text.chars().take(fitting).collect();
        let area = Area::new(at.0, at.1, text.len() as u16 * CELL.0, CELL.1);
        self.fill(area, paper);
        for (x, letter) in (at.0..).step_by(CELL.0.into()).zip(text) {
            let Some(raster) = get_raster(letter, FontWeight::Regular, RasterHeight::Size16) else {
                continue;
            };
            for (y, row) in (0..).zip(raster.rows()) {
                let cells = self.row_mut(Area::new(x, at.1 + 1, CELL.0, 1), y);
                for (pixel, &ink) in cells.iter_mut().zip(row) {
                    *pixel = mix(paper, colour, ink);
                }
            }
        }
        area
    }
}

/// Between two colours: `share` of 255 of the second.
#[must_use]
pub fn mix(first: u32, second: u32, share: u8) -> u32 {
    let channel = |shift: u32| {
        let (a, b) = (first >> shift & 0xff, second >> shift & 0xff);
        (a * (255 - u32::from(share)) + b * u32::from(share)) / 255 << shift
    };
    channel(16) | channel(8) | channel(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_have_grey_edges_and_stay_within_their_cells() {
        let mut canvas = Canvas::new(64, 20);
        let drawn = canvas.text((8, 1), "ab", 0, 0x00ff_ffff);
        assert_eq!(drawn, Area::new(8, 1, 16, 18));
        let inside = |x: u16, y: u16| (8..24).contains(&x) && (1..19).contains(&y);
        let mut greys = 0;
        for y in 0..20 {
            for x in 0..64 {
                let pixel = canvas.row(Area::new(x, y, 1, 1), 0)[0];
                assert!(inside(x, y) || pixel == 0, "{x},{y}");
                greys += usize::from(inside(x, y) && pixel != 0 && pixel != 0x00ff_ffff);
            }
        }
        assert!(greys > 10);
    }

    #[test]
    fn text_ends_at_the_edge_of_the_canvas() {
        let mut canvas = Canvas::new(20, 20);
        assert_eq!(canvas.text((8, 0), "abc", 1, 2).w, 8);
        assert_eq!(canvas.text((30, 0), "abc", 1, 2).w, 0);
    }

    #[test]
    fn scrolling_moves_rows_up() {
        let mut canvas = Canvas::new(4, 4);
        (0..4).for_each(|y| canvas.fill(Area::new(0, y, 4, 1), y.into()));
        canvas.scroll_up(Area::new(1, 0, 2, 4), 2);
        assert_eq!(canvas.pixels(), [0, 2, 2, 0, 1, 3, 3, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
    }
}
