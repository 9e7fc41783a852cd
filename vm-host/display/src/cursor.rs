//! The shape of the pointer, as viewers draw it themselves. Knows nothing of its position.

use lucarne_rfb::Rect;
use lucarne_rfb::pixel::PixelWriter;
use lucarne_rfb::server::Update;

/// The largest shape, pixels each way. Guests draw at most 64 or 256.
pub const MAX_EDGE: u16 = 512;

/// A pointer's shape: `0xAARRGGBB`, colours multiplied by alpha as X11 and virtio-gpu give them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorShape {
    width: u16,
    height: u16,
    hot_x: u16,
    hot_y: u16,
    pixels: Vec<u32>,
}

/// A shape that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pointer of {width}×{height} pixels in {bytes} bytes is refused; at most {MAX_EDGE}×{MAX_EDGE}, 4 bytes each"
)]
pub struct CursorError {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Bytes that came with it.
    pub bytes: usize,
}

impl CursorShape {
    /// Takes a driver's shape: `width` × `height` pixels of 4 bytes B, G, R, A, row by row.
    ///
    /// A hot spot outside the shape is moved to its edge.
    ///
    /// # Errors
    /// The size is too large or not that of the bytes.
    pub fn from_bgra(
        width: u32,
        height: u32,
        hot_x: u32,
        hot_y: u32,
        bytes: &[u8],
    ) -> Result<Self, CursorError> {
        let error = CursorError { width, height, bytes: bytes.len() };
        let edge = |n: u32| u16::try_from(n).ok().filter(|n| *n <= MAX_EDGE).ok_or(error);
        let (w, h) = (edge(width)?, edge(height)?);
        if bytes.len() != usize::from(w) * usize::from(h) * 4 {
            return Err(error);
        }
        let hot = |at: u32, size: u16| at.min(u32::from(size.saturating_sub(1))) as u16;
        Ok(Self {
            width: w,
            height: h,
            hot_x: hot(hot_x, w),
            hot_y: hot(hot_y, h),
            pixels: bytes.chunks_exact(4).map(|p| u32::from_le_bytes([p[0], p[1], p[2], p[3]])).collect(),
        })
    }

    /// No pointer at all.
    #[must_use]
    pub fn hidden() -> Self {
        Self { width: 0, height: 0, hot_x: 0, hot_y: 0, pixels: Vec::new() }
    }

    /// Hot spot and size, as RFB's cursor rectangles carry them.
    #[must_use]
    pub fn rect(&self) -> Rect {
        Rect::new(self.hot_x, self.hot_y, self.width, self.height)
    }

    pub(crate) fn write_alpha(&self, update: &mut Update<'_>) {
        update.cursor_with_alpha(self.rect(), &self.pixels);
    }

    pub(crate) fn write_vmware(&self, update: &mut Update<'_>) {
        let with_alpha = |&p: &u32| p & 0xff00_0000 | unmultiplied(p);
        let pixels: Vec<u32> = self.pixels.iter().map(with_alpha).collect();
        update.vmware_cursor(self.rect(), &pixels);
    }

    pub(crate) fn write_mask(&self, update: &mut Update<'_>, writer: &PixelWriter) {
        let opaque: Vec<u32> = self.pixels.iter().map(|&p| unmultiplied(p)).collect();
        update.cursor(self.rect(), &opaque, |i| self.pixels[i] >> 24 >= 128, writer);
    }
}

/// The colour before it was multiplied by alpha.
fn unmultiplied(pixel: u32) -> u32 {
    let [a, r, g, b] = pixel.to_be_bytes();
    if a == 0 {
        return 0;
    }
    let full = |c: u8| (u32::from(c) * 255 / u32::from(a)).min(255) as u8;
    u32::from_be_bytes([0, full(r), full(g), full(b)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hot_spot_outside_is_moved_to_the_edge() {
        let shape = CursorShape::from_bgra(2, 1, 9, 9, &[0; 8]).unwrap();
        assert_eq!(shape.rect(), Rect::new(1, 0, 2, 1));
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        for (w, h, bytes) in [(2, 2, 15), (513, 1, 513 * 4), (u32::MAX, u32::MAX, 4), (1, 0, 4)] {
            assert!(CursorShape::from_bgra(w, h, 0, 0, &vec![0; bytes]).is_err(), "{w}×{h}");
        }
    }

    #[test]
    fn half_transparent_colours_are_brightened_for_viewers_without_alpha() {
        assert_eq!(unmultiplied(0x8040_2000), 0x007f_3f00);
        assert_eq!(unmultiplied(0), 0);
    }
}
