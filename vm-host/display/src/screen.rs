//! The shadow of the guest's screen: what viewers are served from, and what new frames are compared with.
//!
//! ```text
//! driver's frame + damaged rectangle ── compare ──► what really changed ── moved? ──► Change { copy, region }
//!                                                   (tiles, trimmed)                  and the shadow is up to date
//! ```
//!
//! Source pixels are 4 bytes each, B, G, R and one that is ignored (little-endian `0x00RRGGBB`). Knows nothing of where
//! frames come from, of viewers or of encodings.

use crate::motion::Pictures;
use crate::region::{Region, TILE};
use crate::source::{Bytes, Source};
use crate::wide::{differs, take};
use lucarne_rfb::Rect;

/// The most pixels a screen may have: 8K UHD with room to spare, so that a broken guest cannot claim gigabytes.
pub const MAX_PIXELS: u64 = 64 << 20;

/// A change below this size is not searched for a move: it is as cheap to send.
const MIN_MOVED: u16 = 64;

/// After so many changes of one place in which nothing had moved, only every such many is searched: a film is never found to
/// have moved.
const PATIENCE: u32 = 8;

/// A copy within the screen: the pixels of `src` appear at `dst_x`, `dst_y`. Overlap means "as if read first".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Where from.
    pub src: Rect,
    /// Left edge of where to.
    pub dst_x: u16,
    /// Top edge of where to.
    pub dst_y: u16,
}

impl Copy {
    /// Where to.
    #[must_use]
    pub fn dst(&self) -> Rect {
        Rect { x: self.dst_x, y: self.dst_y, ..self.src }
    }

    /// Where a part of the source appears; `part` must lie in the source.
    #[must_use]
    pub fn moved(&self, part: Rect) -> Rect {
        let shift = |v: u16, from: u16, to: u16| (v.wrapping_sub(from)).wrapping_add(to);
        Rect { x: shift(part.x, self.src.x, self.dst_x), y: shift(part.y, self.src.y, self.dst_y), ..part }
    }
}

/// What a frame changed: first the copy, then the pixels of the region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What was scrolled or dragged, checked pixel by pixel.
    pub copy: Option<Copy>,
    /// What differs after the copy.
    pub region: Region,
}

impl Change {
    /// Nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.copy.is_none() && self.region.is_empty()
    }
}

/// Why a frame is refused. The shadow is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScreenError {
    /// No screen has this size.
    #[error(
        "a screen of {width}×{height} pixels cannot be shown; both must be from 1 to 65,535 and the area at most {MAX_PIXELS}"
    )]
    Size {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// The damaged rectangle is not on the screen.
    #[error("damage at {rect:?} is outside the screen of {width}×{height} pixels")]
    Outside {
        /// The damage.
        rect: Rect,
        /// Of the screen.
        width: u16,
        /// Of the screen.
        height: u16,
    },
    /// The frame has fewer bytes than the rectangle needs.
    #[error("the frame has {have} bytes; with {stride} bytes per row {need} are needed")]
    Short {
        /// Bytes that there are.
        have: usize,
        /// Bytes that there would have to be.
        need: usize,
        /// Bytes per row.
        stride: usize,
    },
}

/// The shadow: `width` × `height` pixels of `0x00RRGGBB`, row by row.
#[derive(Clone, Debug)]
pub struct Screen {
    width: u16,
    height: u16,
    pixels: Vec<u32>,
    generation: u64,
    /// Searches for a move since one was found, and where the last one would have been.
    in_vain: u32,
    vain: Rect,
}

impl Screen {
    /// A black screen.
    ///
    /// # Errors
    /// The size is impossible.
    pub fn new(width: u32, height: u32) -> Result<Self, ScreenError> {
        let (w, h) = checked_size(width, height)?;
        Ok(Self {
            width: w,
            height: h,
            pixels: vec![0; usize::from(w) * usize::from(h)],
            generation: 0,
            in_vain: 0,
            vain: Rect::default(),
        })
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
    pub fn rect(&self) -> Rect {
        Rect::new(0, 0, self.width, self.height)
    }

    /// Rises with every change of size or content.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All pixels, row by row.
    #[must_use]
    pub fn pixels(&self) -> &[u32] {
        &self.pixels
    }

    /// The pixels of one row of a rectangle; empty when it is not on the screen.
    #[must_use]
    pub fn row(&self, rect: Rect, y: u16) -> &[u32] {
        let start = usize::from(y) * usize::from(self.width) + usize::from(rect.x);
        self.pixels.get(start..start + usize::from(rect.w)).unwrap_or_default()
    }

    /// Changes the size; the content becomes black until the next frame, which should damage everything.
    ///
    /// # Errors
    /// The size is impossible.
    pub fn resize(&mut self, width: u32, height: u32) -> Result<(), ScreenError> {
        let generation = self.generation + 1;
        *self = Self::new(width, height)?;
        self.generation = generation;
        Ok(())
    }

    /// Takes the damaged rectangle of a frame of the screen's size: compares, copies what differs, and says what that is.
    ///
    /// `frame` begins with the frame's first pixel; `stride` is bytes per row. The last row may end with its last pixel.
    ///
    /// # Errors
    /// The rectangle is not on the screen, or the frame is too short for it.
    pub fn update(&mut self, frame: &[u8], stride: usize, damage: Rect) -> Result<Change, ScreenError> {
        // Checked for the whole frame, so that every access in it is within.
        let row = usize::from(self.width) * 4;
        let need = stride.checked_mul(usize::from(self.height) - 1).and_then(|n| n.checked_add(row));
        match need {
            Some(need) if stride >= row && frame.len() >= need => {
                self.update_from(&Bytes { bytes: frame, stride }, damage)
            }
            _ => Err(ScreenError::Short { have: frame.len(), need: need.unwrap_or(usize::MAX), stride }),
        }
    }

    /// The same with a frame that is read as it is needed.
    ///
    /// # Errors
    /// The rectangle is not on the screen.
    pub fn update_from(&mut self, frame: &dyn Source, damage: Rect) -> Result<Change, ScreenError> {
        let (width, height) = (self.width, self.height);
        if !self.rect().contains(&damage) {
            return Err(ScreenError::Outside { rect: damage, width, height });
        }
        let mut region = Region::new(width, height);
        // An empty rectangle counts as inside wherever it is.
        if damage.is_empty() {
            return Ok(Change { copy: None, region });
        }
        self.compare(frame, damage, &mut region);
        let mut copy = None;
        if !region.is_empty() {
            self.generation += 1;
            copy = self.find_move(frame, &region);
            if let Some(found) = copy {
                self.copy_within(found);
                let whole = region.bounding().bounding(&found.dst());
                region.clear();
                // What was copied is as in the frame already.
                for rest in whole.without(&found.dst()) {
                    self.compare(frame, rest, &mut region);
                }
            }
            let mut row = Vec::new();
            for rect in region.tile_rects() {
                self.copy_from(frame, rect, &mut row);
            }
        }
        Ok(Change { copy, region })
    }

    /// Adds the trimmed differences between frame and shadow to `region`, tile by tile. Memory is read row by row, as it
    /// lies, which is twice as fast as tile by tile.
    fn compare(&self, frame: &dyn Source, rect: Rect, region: &mut Region) {
        let tile = u32::from(TILE);
        let edges = |from: u16, to: u32| {
            let first = u32::from(from) / tile * tile;
            (first..to).step_by(TILE.into()).map(move |t| (t.max(from.into()), (t + tile).min(to)))
        };
        let columns: Vec<Rect> =
            edges(rect.x, rect.right()).map(|(left, right)| Rect::from_edges(left, 0, right, 1)).collect();
        let mut found = vec![Trimmed::default(); columns.len()];
        let mut new = vec![0; usize::from(rect.w) * 4];
        for (top, bottom) in edges(rect.y, rect.bottom()) {
            for y in top as u16..bottom as u16 {
                frame.read(rect.x, y, &mut new);
                let old = self.row(rect, y);
                if !differs(&new, old) {
                    continue;
                }
                for (column, trimmed) in columns.iter().zip(&mut found) {
                    let at = usize::from(column.x - rect.x);
                    let part = at..at + usize::from(column.w);
                    trimmed.look(y, &new[part.start * 4..part.end * 4], &old[part]);
                }
            }
            for (column, trimmed) in columns.iter().zip(&mut found) {
                if let Some(rect) = std::mem::take(trimmed).rect(column.x) {
                    region.add(rect);
                }
            }
        }
    }

    fn copy_from(&mut self, frame: &dyn Source, rect: Rect, row: &mut Vec<u8>) {
        row.resize(usize::from(rect.w) * 4, 0);
        for y in rect.y..rect.y + rect.h {
            let start = usize::from(y) * usize::from(self.width) + usize::from(rect.x);
            frame.read(rect.x, y, row);
            take(row, &mut self.pixels[start..start + usize::from(rect.w)]);
        }
    }

    fn find_move(&mut self, frame: &dyn Source, region: &Region) -> Option<Copy> {
        // What changes elsewhere, such as a clock, has nothing to do with it.
        let (area, changed) = region.largest_cluster();
        // Scattered changes are not a move; a move changes most tiles of what it moves.
        if area.w < MIN_MOVED || area.h < MIN_MOVED || changed * 3 < area.area() {
            return None;
        }
        // What changes elsewhere, or more than half of which does, is something else.
        let before = std::mem::replace(&mut self.vain, area);
        let both = before.intersection(&area).map_or(0, |both| both.area());
        if both * 2 < before.area().max(area.area()) {
            self.in_vain = 0;
        }
        if self.in_vain > PATIENCE && !self.in_vain.is_multiple_of(PATIENCE) {
            self.in_vain += 1;
            return None;
        }
        let found = Pictures { area, old: self, new: frame }.moved();
        self.in_vain = if found.is_some() { 0 } else { self.in_vain + 1 };
        found
    }

    fn copy_within(&mut self, copy: Copy) {
        let (src, dst, width) = (copy.src, copy.dst(), usize::from(self.width));
        let start = |r: Rect, row: u16| usize::from(r.y + row) * width + usize::from(r.x);
        let mut move_row = |row| {
            let from = start(src, row);
            self.pixels.copy_within(from..from + usize::from(src.w), start(dst, row));
        };
        if dst.y > src.y {
            (0..src.h).rev().for_each(&mut move_row);
        } else {
            (0..src.h).for_each(&mut move_row);
        }
    }
}

fn checked_size(width: u32, height: u32) -> Result<(u16, u16), ScreenError> {
    match (u16::try_from(width), u16::try_from(height)) {
        (Ok(w @ 1..), Ok(h @ 1..)) if u64::from(width) * u64::from(height) <= MAX_PIXELS => Ok((w, h)),
        _ => Err(ScreenError::Size { width, height }),
    }
}

fn pixel(row: &[u8], x: u16) -> u32 {
    let at = usize::from(x) * 4;
    u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]) & 0x00ff_ffff
}

/// The smallest rectangle that holds all differing pixels of a tile, as far as its rows were looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Trimmed {
    /// First differing row, and the one after the last; nothing differs as long as both are 0.
    top: u16,
    bottom: u16,
    /// The same for columns, within the tile.
    left: u16,
    right: u16,
}

impl Trimmed {
    /// Looks at the next row, `y`.
    fn look(&mut self, y: u16, new: &[u8], old: &[u32]) {
        if !differs(new, old) {
            return;
        }
        if self.bottom == 0 {
            (self.top, self.left) = (y, old.len() as u16);
        }
        self.bottom = y + 1;
        let unequal = |x: &u16| pixel(new, *x) != old[usize::from(*x)];
        self.left = (0..self.left).find(unequal).unwrap_or(self.left);
        self.right = (self.right..old.len() as u16).rev().find(unequal).map_or(self.right, |x| x + 1);
    }

    /// The rectangle, for a tile that begins at column `x`.
    fn rect(self, x: u16) -> Option<Rect> {
        let (w, h) = (self.right - self.left, self.bottom - self.top);
        (self.bottom > 0).then_some(Rect::new(x + self.left, self.top, w, h))
    }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
