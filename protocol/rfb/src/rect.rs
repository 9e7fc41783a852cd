//! Rectangles in framebuffer coordinates. Knows nothing of pixels.

/// A rectangle, pixels, as RFB carries it: the right and bottom edges are exclusive and may pass 65,535, so they are
/// given as `u32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rect {
    /// Left edge.
    pub x: u16,
    /// Top edge.
    pub y: u16,
    /// Width; 0 means empty.
    pub w: u16,
    /// Height; 0 means empty.
    pub h: u16,
}

impl Rect {
    /// The rectangle with that corner and size.
    #[must_use]
    pub const fn new(x: u16, y: u16, w: u16, h: u16) -> Self {
        Self { x, y, w, h }
    }

    /// The rectangle between two corners, the second exclusive, cut to what `u16` can hold.
    #[must_use]
    pub fn from_edges(left: u32, top: u32, right: u32, bottom: u32) -> Self {
        let cut = |v: u32| u16::try_from(v).unwrap_or(u16::MAX);
        let (x, y) = (cut(left), cut(top));
        Self { x, y, w: cut(right).saturating_sub(x), h: cut(bottom).saturating_sub(y) }
    }

    /// First column to the right of it.
    #[must_use]
    pub const fn right(&self) -> u32 {
        self.x as u32 + self.w as u32
    }

    /// First row below it.
    #[must_use]
    pub const fn bottom(&self) -> u32 {
        self.y as u32 + self.h as u32
    }

    /// No pixel is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.w == 0 || self.h == 0
    }

    /// Pixels in it.
    #[must_use]
    pub const fn area(&self) -> u64 {
        self.w as u64 * self.h as u64
    }

    /// The pixels that are in both; `None` when there are none.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let r = Self::from_edges(
            self.x.max(other.x).into(),
            self.y.max(other.y).into(),
            self.right().min(other.right()),
            self.bottom().min(other.bottom()),
        );
        (!r.is_empty()).then_some(r)
    }

    /// Every pixel of `other` is in it. An empty `other` is in everything.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.is_empty()
            || (self.x <= other.x
                && self.y <= other.y
                && self.right() >= other.right()
                && self.bottom() >= other.bottom())
    }

    /// What is left of it without the pixels of `other`: at most four rectangles, above, left, right and below.
    pub fn without(&self, other: &Self) -> impl Iterator<Item = Self> + use<> {
        let hole = self.intersection(other).unwrap_or(Self::new(self.x, self.y, 0, 0));
        let (left, top) = (u32::from(self.x), u32::from(self.y));
        let (hole_left, hole_top) = (u32::from(hole.x), u32::from(hole.y));
        let parts = if hole.is_empty() {
            [*self, Self::default(), Self::default(), Self::default()]
        } else {
            [
                Self::from_edges(left, top, self.right(), hole_top),
                Self::from_edges(left, hole_top, hole_left, hole.bottom()),
                Self::from_edges(hole.right(), hole_top, self.right(), hole.bottom()),
                Self::from_edges(left, hole.bottom(), self.right(), self.bottom()),
            ]
        };
        parts.into_iter().filter(|part| !part.is_empty())
    }

    /// The smallest rectangle that contains both.
    #[must_use]
    pub fn bounding(&self, other: &Self) -> Self {
        if self.is_empty() {
            return *other;
        }
        if other.is_empty() {
            return *self;
        }
        Self::from_edges(
            self.x.min(other.x).into(),
            self.y.min(other.y).into(),
            self.right().max(other.right()),
            self.bottom().max(other.bottom()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_beyond_u16_do_not_wrap() {
        let r = Rect::new(65_535, 65_535, 65_535, 65_535);
        assert_eq!((r.right(), r.bottom()), (131_070, 131_070));
        assert_eq!(r.intersection(&Rect::new(0, 0, 65_535, 65_535)), None);
        assert!(Rect::from_edges(70_000, 0, 80_000, 1).is_empty());
    }

    #[test]
    fn what_is_left_and_the_hole_cover_every_pixel_once() {
        let whole = Rect::new(10, 10, 20, 20);
        for hole in [
            Rect::new(15, 15, 5, 5),
            Rect::new(0, 0, 15, 100),
            Rect::new(10, 10, 20, 20),
            Rect::new(25, 5, 100, 7),
            Rect::new(40, 40, 5, 5),
            Rect::new(12, 12, 0, 5),
        ] {
            for y in 10..30 {
                for x in 10..30 {
                    let pixel = Rect::new(x, y, 1, 1);
                    let times = whole.without(&hole).filter(|part| part.contains(&pixel)).count();
                    assert_eq!(times, usize::from(!hole.contains(&pixel)), "{hole:?} at {x},{y}");
                }
            }
        }
    }

    #[test]
    fn intersection_and_bounding_agree_on_overlap() {
        let (a, b) = (Rect::new(0, 0, 10, 10), Rect::new(5, 7, 10, 10));
        assert_eq!(a.intersection(&b), Some(Rect::new(5, 7, 5, 3)));
        assert_eq!(a.bounding(&b), Rect::new(0, 0, 15, 17));
        assert_eq!(a.intersection(&Rect::new(10, 0, 5, 5)), None);
        assert!(a.bounding(&b).contains(&b) && !a.contains(&b));
    }
}
