//! A client's framebuffer: `0x00RRGGBB` pixels. Every rectangle is checked before it is used. Knows no encoding.

use super::decode::DecodeError;
use crate::rect::Rect;

/// The most pixels of a framebuffer that this client holds (256 MiB).
pub const MAX_PIXELS: u64 = 64 << 20;

/// Width × height pixels, row by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Framebuffer {
    width: u16,
    height: u16,
    pixels: Vec<u32>,
}

impl Framebuffer {
    /// A black framebuffer.
    ///
    /// # Errors
    /// It would have more than [`MAX_PIXELS`].
    pub fn new(width: u16, height: u16) -> Result<Self, DecodeError> {
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(DecodeError::Size { width, height });
        }
        Ok(Self { width, height, pixels: vec![0; usize::from(width) * usize::from(height)] })
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

    /// All pixels, row by row.
    #[must_use]
    pub fn pixels(&self) -> &[u32] {
        &self.pixels
    }

    /// One pixel; `None` outside.
    #[must_use]
    pub fn pixel(&self, x: u16, y: u16) -> Option<u32> {
        let inside = x < self.width && y < self.height;
        inside.then(|| self.pixels[usize::from(y) * usize::from(self.width) + usize::from(x)])
    }

    pub(super) fn check(&self, rect: Rect) -> Result<(), DecodeError> {
        if self.rect().contains(&rect) {
            Ok(())
        } else {
            Err(DecodeError::Outside { rect, width: self.width, height: self.height })
        }
    }

    /// The pixels of row `y` of `rect`, which was checked.
    pub(super) fn row_mut(&mut self, rect: Rect, y: u16) -> &mut [u32] {
        let start = usize::from(y) * usize::from(self.width) + usize::from(rect.x);
        &mut self.pixels[start..start + usize::from(rect.w)]
    }

    pub(super) fn fill(&mut self, rect: Rect, colour: u32) {
        // An empty rectangle counts as inside wherever it is.
        if rect.is_empty() {
            return;
        }
        for y in rect.y..rect.y + rect.h {
            self.row_mut(rect, y).fill(colour);
        }
    }

    /// Writes pixels that were given row by row.
    pub(super) fn put(&mut self, rect: Rect, mut pixels: impl Iterator<Item = u32>) {
        if rect.is_empty() {
            return;
        }
        for y in rect.y..rect.y + rect.h {
            for (dst, p) in self.row_mut(rect, y).iter_mut().zip(&mut pixels) {
                *dst = p;
            }
        }
    }

    /// Copies within, as if all was read first.
    pub(super) fn copy(&mut self, dst: Rect, src_x: u16, src_y: u16) -> Result<(), DecodeError> {
        let src = Rect { x: src_x, y: src_y, ..dst };
        self.check(src)?;
        self.check(dst)?;
        if dst.is_empty() {
            return Ok(());
        }
        let width = usize::from(self.width);
        let start = |r: Rect, row: u16| usize::from(r.y + row) * width + usize::from(r.x);
        let mut move_row = |row: u16| {
            let from = start(src, row);
            self.pixels.copy_within(from..from + usize::from(src.w), start(dst, row));
        };
        if dst.y > src.y {
            (0..dst.h).rev().for_each(&mut move_row);
        } else {
            (0..dst.h).for_each(&mut move_row);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_copies_read_before_they_write() {
        let numbered = || {
            let mut f = Framebuffer::new(4, 4).unwrap();
            f.put(Rect::new(0, 0, 4, 4), 0..16);
            f
        };
        let (mut down, mut up) = (numbered(), numbered());
        down.copy(Rect::new(1, 1, 3, 3), 0, 0).unwrap();
        assert_eq!(down.pixels(), [0, 1, 2, 3, 4, 0, 1, 2, 8, 4, 5, 6, 12, 8, 9, 10]);
        up.copy(Rect::new(0, 0, 4, 3), 0, 1).unwrap();
        assert_eq!(up.pixels()[..12], [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert!(up.copy(Rect::new(0, 0, 4, 3), 0, 2).is_err());
    }

    #[test]
    fn an_empty_rectangle_beyond_the_edge_does_nothing() {
        let mut f = Framebuffer::new(4, 4).unwrap();
        for far in [Rect::new(9000, 9000, 0, 3), Rect::new(9000, 9000, 3, 0)] {
            f.fill(far, 1);
            f.put(far, 0..9);
            f.copy(far, 8000, 8000).unwrap();
        }
        assert_eq!(f.pixels(), [0; 16]);
    }
}
