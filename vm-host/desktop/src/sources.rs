//! Where the picture's pixels come from when it changes.

use crate::displays::Layout;
use lucarne_display::{Rect, Screen, ScreenError, Source};
use lucarne_driver::Frame;

/// A driver's frame, all of whose rows are known to be there.
pub(crate) struct Rows<'a>(Frame<'a>);

impl<'a> Rows<'a> {
    /// Of this frame.
    pub(crate) fn of(frame: Frame<'a>) -> Result<Self, ScreenError> {
        let row = frame.width as usize * 4;
        let need = frame.stride.checked_mul((frame.height as usize).saturating_sub(1));
        let need = need.and_then(|rows| rows.checked_add(row)).unwrap_or(usize::MAX);
        if frame.stride < row || frame.pixels.length() < need {
            return Err(ScreenError::Short { have: frame.pixels.length(), need, stride: frame.stride });
        }
        Ok(Self(frame))
    }
}

impl Source for Rows<'_> {
    fn read(&self, x: u16, y: u16, into: &mut [u8]) {
        self.0.pixels.read(usize::from(y) * self.0.stride + usize::from(x) * 4, into);
    }
}

/// Nothing at all.
pub(crate) struct Black;

impl Source for Black {
    fn read(&self, _x: u16, _y: u16, into: &mut [u8]) {
        into.fill(0);
    }
}

/// A display's rows at its place in the picture.
pub(crate) struct At<'a> {
    /// Its left edge.
    pub(crate) x: u16,
    /// Its top.
    pub(crate) y: u16,
    /// From its left upper corner on.
    pub(crate) rows: &'a Rows<'a>,
}

impl Source for At<'_> {
    fn read(&self, x: u16, y: u16, into: &mut [u8]) {
        self.rows.read(x - self.x, y - self.y, into);
    }
}

/// What displays showed at their places before, at their places now, on black.
pub(crate) struct Moved<'a> {
    /// What there was.
    pub(crate) old: &'a Screen,
    /// Where it was.
    pub(crate) before: &'a Layout,
    /// Where it is.
    pub(crate) layout: &'a Layout,
}

impl Source for Moved<'_> {
    fn read(&self, x: u16, y: u16, into: &mut [u8]) {
        into.fill(0);
        let wanted = Rect::new(x, y, (into.len() / 4) as u16, 1);
        for (display, to) in &self.layout.places {
            let from = self.before.place(*display).filter(|from| (from.w, from.h) == (to.w, to.h));
            let (Some(from), Some(part)) = (from, to.intersection(&wanted)) else { continue };
            let row = Rect { x: from.x + (part.x - to.x), y: from.y + (part.y - to.y), ..part };
            let at = usize::from(part.x - x) * 4;
            for (pixel, bytes) in self.old.row(row, row.y).iter().zip(into[at..].chunks_exact_mut(4)) {
                bytes.copy_from_slice(&pixel.to_le_bytes());
            }
        }
    }
}
