//! Finds what moved between two pictures of one area: a page that was scrolled, or a window that was dragged.
//!
//! [`scroll`] and [`shift`] guess by how much; the guess is then checked pixel by pixel and grown to the largest rectangle
//! for which it holds, so a result is exact. Knows nothing of viewers.

mod scroll;
mod shift;

use crate::screen::{Copy, Screen};
use crate::source::Source;
use crate::wide::differs;
use lucarne_rfb::Rect;
use std::ops::Range;

/// What moves must have this many rows and columns. Fewer: a copy saves nothing over sending them.
const MIN_EDGE: usize = 32;

/// The picture before and the one after, and where they differ.
pub(crate) struct Pictures<'p> {
    pub(crate) area: Rect,
    pub(crate) old: &'p Screen,
    pub(crate) new: &'p dyn Source,
}

impl<'p> Pictures<'p> {
    /// Looks for a move within the area.
    pub(crate) fn moved(&self) -> Option<Copy> {
        if usize::from(self.area.w) < MIN_EDGE || usize::from(self.area.h) < MIN_EDGE {
            return None;
        }
        scroll::find(self).or_else(|| shift::find(self))
    }

    fn width(&self) -> usize {
        self.area.w.into()
    }

    fn height(&self) -> usize {
        self.area.h.into()
    }

    /// Pixels of a row of the area before.
    fn before(&self, y: usize) -> &'p [u32] {
        self.old.row(self.area, self.area.y + y as u16)
    }

    /// Bytes of some columns of a row of the area after.
    fn after<'r>(&self, y: usize, columns: &Range<usize>, row: &'r mut Vec<u8>) -> &'r [u8] {
        row.resize(columns.len() * 4, 0);
        self.new.read(self.area.x + columns.start as u16, self.area.y + y as u16, row);
        row
    }

    /// Old pixels that are in the new picture elsewhere, as a copy on the screen.
    fn copy(&self, rows: &Range<usize>, columns: &Range<usize>, by: (i32, i32)) -> Option<Copy> {
        let x = self.area.x + columns.start as u16;
        let y = self.area.y + rows.start as u16;
        let to = |at: u16, by: i32| u16::try_from(i32::from(at) + by).ok();
        let src = Rect::new(x, y, columns.len() as u16, rows.len() as u16);
        Some(Copy { src, dst_x: to(x, by.0)?, dst_y: to(y, by.1)? })
    }
}

/// Two pictures under one assumed move, in pixels to the right and down.
struct Moved<'p> {
    pictures: &'p Pictures<'p>,
    by: (i32, i32),
    row: Vec<u8>,
}

impl<'p> Moved<'p> {
    fn new(pictures: &'p Pictures<'p>, by: (i32, i32)) -> Self {
        Self { pictures, by, row: Vec::new() }
    }

    /// The old row's pixels in `columns` are where the move says, within the area.
    fn same(&mut self, src: usize, columns: &Range<usize>) -> bool {
        let moved =
            |at: usize, by: i32, limit: usize| at.checked_add_signed(by as isize).filter(|&at| at <= limit);
        let Some(y) = moved(src, self.by.1, self.pictures.height() - 1) else { return false };
        let width = self.pictures.width();
        let ends = (moved(columns.start, self.by.0, width), moved(columns.end, self.by.0, width));
        let (Some(left), Some(right)) = ends else { return false };
        let new = self.pictures.after(y, &(left..right), &mut self.row);
        !differs(new, &self.pictures.before(src)[columns.clone()])
    }

    /// The most rows one below another, of those in `among`, that moved in `columns`.
    fn longest_run(&mut self, among: Range<usize>, columns: &Range<usize>) -> Option<Range<usize>> {
        let (mut best, mut start) = (0..0, among.start);
        for y in among.start..=among.end {
            if y < among.end && self.same(y, columns) {
                continue;
            }
            if y - start > best.len() {
                best = start..y;
            }
            start = y + 1;
        }
        (best.len() >= MIN_EDGE).then_some(best)
    }

    /// Widens the columns as long as all rows moved there too.
    fn widen(&mut self, mut columns: Range<usize>, rows: &Range<usize>) -> Range<usize> {
        let width = self.pictures.width();
        for step in [64, 8, 1] {
            while columns.start >= step && self.all(rows, &(columns.start - step..columns.start)) {
                columns.start -= step;
            }
            while columns.end + step <= width && self.all(rows, &(columns.end..columns.end + step)) {
                columns.end += step;
            }
        }
        columns
    }

    fn all(&mut self, rows: &Range<usize>, columns: &Range<usize>) -> bool {
        rows.clone().all(|y| self.same(y, columns))
    }
}

/// Multiply and fold: only likeness is wanted, for every hit is checked.
fn mix(v: u64) -> u64 {
    /// An odd constant whose bits look random (2⁶⁴ divided by the golden ratio).
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let product = u128::from(v) * u128::from(K);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests;
