//! The shadow of the guest's screen: what viewers are served from, and what new frames are compared with.
//!
//! ```text
//! driver's frame + damaged rectangle ── compare ──► what really changed ── scrolled? ──► Change { copy, region }
//!                                                   (tiles, trimmed)                     and the shadow is up to date
//! ```
//!
//! Source pixels are 4 bytes each, B, G, R and one that is ignored (little-endian `0x00RRGGBB`). Knows nothing of where
//! frames come from, of viewers or of encodings.

use crate::region::{Region, TILE};
use crate::scroll;
use lucarne_rfb::Rect;

/// The most pixels a screen may have: 8K UHD with room to spare, so that a broken guest cannot claim gigabytes.
pub const MAX_PIXELS: u64 = 64 << 20;

/// A change below this size is not searched for a scroll: it is as cheap to send.
const MIN_SCROLL: u16 = 64;

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
    /// A scroll, which was checked pixel by pixel.
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
}

impl Screen {
    /// A black screen.
    ///
    /// # Errors
    /// The size is impossible.
    pub fn new(width: u32, height: u32) -> Result<Self, ScreenError> {
        let (w, h) = checked_size(width, height)?;
        Ok(Self { width: w, height: h, pixels: vec![0; usize::from(w) * usize::from(h)], generation: 0 })
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
        let frame = self.check(frame, stride, damage)?;
        let mut region = Region::new(self.width, self.height);
        // An empty rectangle counts as inside wherever it is.
        if damage.is_empty() {
            return Ok(Change { copy: None, region });
        }
        self.compare(&frame, damage, &mut region);
        let mut copy = None;
        if !region.is_empty() {
            self.generation += 1;
            copy = self.find_scroll(&frame, &region);
            if let Some(found) = copy {
                self.copy_within(found);
                let whole = region.bounding().bounding(&found.dst());
                region.clear();
                self.compare(&frame, whole, &mut region);
            }
            region.tile_rects().for_each(|r| self.copy_from(&frame, r));
        }
        Ok(Change { copy, region })
    }

    fn check<'a>(&self, bytes: &'a [u8], stride: usize, rect: Rect) -> Result<Frame<'a>, ScreenError> {
        let (width, height) = (self.width, self.height);
        if !self.rect().contains(&rect) {
            return Err(ScreenError::Outside { rect, width, height });
        }
        // Checked for the whole frame, so that every access in it is within.
        let row = usize::from(width) * 4;
        let need = stride.checked_mul(usize::from(height) - 1).and_then(|n| n.checked_add(row));
        match need {
            Some(need) if stride >= row && bytes.len() >= need => Ok(Frame { bytes, stride }),
            _ => Err(ScreenError::Short { have: bytes.len(), need: need.unwrap_or(usize::MAX), stride }),
        }
    }

    /// Adds the trimmed differences between frame and shadow to `region`, tile by tile. Memory is read row by row, as it
    /// lies, which is twice as fast as tile by tile.
    fn compare(&self, frame: &Frame<'_>, rect: Rect, region: &mut Region) {
        let tile = u32::from(TILE);
        let edges = |from: u16, to: u32| {
            let first = u32::from(from) / tile * tile;
            (first..to).step_by(TILE.into()).map(move |t| (t.max(from.into()), (t + tile).min(to)))
        };
        let columns: Vec<Rect> =
            edges(rect.x, rect.right()).map(|(left, right)| Rect::from_edges(left, 0, right, 1)).collect();
        let mut found = vec![Trimmed::default(); columns.len()];
        for (top, bottom) in edges(rect.y, rect.bottom()) {
            for y in top as u16..bottom as u16 {
                for (column, trimmed) in columns.iter().zip(&mut found) {
                    trimmed.look(y, frame.row(*column, y), self.row(*column, y));
                }
            }
            for (column, trimmed) in columns.iter().zip(&mut found) {
                if let Some(rect) = std::mem::take(trimmed).rect(column.x) {
                    region.add(rect);
                }
            }
        }
    }

    fn copy_from(&mut self, frame: &Frame<'_>, rect: Rect) {
        for y in rect.y..rect.y + rect.h {
            let start = usize::from(y) * usize::from(self.width) + usize::from(rect.x);
            let row = &mut self.pixels[start..start + usize::from(rect.w)];
            for (dst, src) in row.iter_mut().zip(frame.row(rect, y).chunks_exact(4)) {
                *dst = u32::from_le_bytes([src[0], src[1], src[2], src[3]]) & 0x00ff_ffff;
            }
        }
    }

    fn find_scroll(&self, frame: &Frame<'_>, region: &Region) -> Option<Copy> {
        let area = region.bounding();
        // Scattered changes are not a scroll; a scroll changes most tiles of what it moves.
        if area.w < MIN_SCROLL || area.h < MIN_SCROLL || region.area() * 3 < area.area() {
            return None;
        }
        let found = scroll::find(&scroll::Pictures {
            width: area.w.into(),
            height: area.h.into(),
            old: |y| self.row(area, area.y + y as u16),
            new: |y| frame.row(area, area.y + y as u16),
        })?;
        let at = |rows: &std::ops::Range<usize>, shift: usize| area.y + (rows.start + shift) as u16;
        let (src_y, dst_y) = (at(&found.src_rows, 0), at(&found.src_rows, 0) as i32 + found.shift);
        let x = area.x + found.columns.start as u16;
        let src = Rect::new(x, src_y, found.columns.len() as u16, found.src_rows.len() as u16);
        Some(Copy { src, dst_x: x, dst_y: u16::try_from(dst_y).ok()? })
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

/// A driver's frame whose every row of the screen is known to be there.
struct Frame<'a> {
    bytes: &'a [u8],
    stride: usize,
}

impl<'a> Frame<'a> {
    fn row(&self, rect: Rect, y: u16) -> &'a [u8] {
        let start = usize::from(y) * self.stride + usize::from(rect.x) * 4;
        &self.bytes[start..start + usize::from(rect.w) * 4]
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

/// Whether two rows differ in what is shown. Works in blocks without an exit inside, so that it is vectorised.
pub(crate) fn differs(new: &[u8], old: &[u32]) -> bool {
    let block = |(new, old): (&[[u8; 4]], &[u32])| {
        let difference = |bits, (n, o): (&[u8; 4], &u32)| bits | (u32::from_le_bytes(*n) ^ o);
        new.iter().zip(old).fold(0, difference) & 0x00ff_ffff != 0
    };
    new.as_chunks().0.chunks(64).zip(old.chunks(64)).any(block)
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
