//! Sets of pixels, kept as one trimmed box per 64×64 tile: a fixed, small size whatever the damage.
//!
//! A region may hold more pixels than were added (the box of a tile covers everything between two spots in it), never
//! fewer. Knows nothing of pixels' contents.

use lucarne_rfb::Rect;

/// Edge of a tile, pixels. Larger: fewer boxes, more pixels sent for two spots in one tile; smaller: the opposite.
pub const TILE: u16 = 64;

/// What is in the set of one tile: columns `x0..x1`, rows `y0..y1` within the tile; empty when `x1` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct TileBox {
    x0: u8,
    y0: u8,
    x1: u8,
    y1: u8,
}

impl TileBox {
    fn is_empty(self) -> bool {
        self.x1 == 0
    }

    fn union(self, o: Self) -> Self {
        if self.is_empty() {
            o
        } else if o.is_empty() {
            self
        } else {
            Self {
                x0: self.x0.min(o.x0),
                y0: self.y0.min(o.y0),
                x1: self.x1.max(o.x1),
                y1: self.y1.max(o.y1),
            }
        }
    }

    /// Cuts `o` out where what remains is a box; else keeps everything.
    fn minus(self, o: Self) -> Self {
        let (wide, tall) = (o.x0 <= self.x0 && o.x1 >= self.x1, o.y0 <= self.y0 && o.y1 >= self.y1);
        let mut left = self;
        match (wide, tall) {
            (true, true) => return Self::default(),
            (true, false) => cut(&mut left.y0, &mut left.y1, o.y0, o.y1),
            (false, true) => cut(&mut left.x0, &mut left.x1, o.x0, o.x1),
            (false, false) => {}
        }
        left
    }
}

/// Shortens `from..to` by `cut_from..cut_to` where that touches one of its ends.
fn cut(from: &mut u8, to: &mut u8, cut_from: u8, cut_to: u8) {
    if cut_from <= *from {
        *from = (*from).max(cut_to);
    } else if cut_to >= *to {
        *to = (*to).min(cut_from);
    }
}

/// A set of pixels of a `width` × `height` screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    bounds: Rect,
    columns: usize,
    boxes: Vec<TileBox>,
    /// Tiles whose box is not empty, so that asking for emptiness is free.
    used: usize,
}

impl Region {
    /// An empty set.
    #[must_use]
    pub fn new(width: u16, height: u16) -> Self {
        let tiles = |n: u16| usize::from(n.div_ceil(TILE));
        Self {
            bounds: Rect::new(0, 0, width, height),
            columns: tiles(width),
            boxes: vec![TileBox::default(); tiles(width) * tiles(height)],
            used: 0,
        }
    }

    /// The whole screen.
    #[must_use]
    pub fn full(width: u16, height: u16) -> Self {
        let mut region = Self::new(width, height);
        region.add(region.bounds);
        region
    }

    /// The screen that it is a set of.
    #[must_use]
    pub fn bounds(&self) -> Rect {
        self.bounds
    }

    /// No pixel is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.boxes.fill(TileBox::default());
        self.used = 0;
    }

    /// Gives its content and leaves it empty.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let empty = Self::new(self.bounds.w, self.bounds.h);
        std::mem::replace(self, empty)
    }

    /// Adds a rectangle; what lies outside the screen is left out.
    pub fn add(&mut self, rect: Rect) {
        self.for_tiles(rect, |b, part| *b = b.union(part));
    }

    /// Takes a rectangle out, as far as boxes can show it: pixels that remain in spite of it are harmless.
    pub fn subtract(&mut self, rect: Rect) {
        self.for_tiles(rect, |b, part| {
            if !b.is_empty() {
                *b = b.minus(part);
            }
        });
    }

    /// Adds all pixels of `other`, whose screen may have another size.
    pub fn union(&mut self, other: &Self) {
        if other.bounds == self.bounds {
            self.used = 0;
            for (mine, theirs) in self.boxes.iter_mut().zip(&other.boxes) {
                *mine = mine.union(*theirs);
                self.used += usize::from(!mine.is_empty());
            }
        } else {
            other.tile_rects().for_each(|r| self.add(r));
        }
    }

    /// Some pixel of `rect` is in it.
    #[must_use]
    pub fn intersects(&self, rect: Rect) -> bool {
        self.parts_in(rect).next().is_some()
    }

    /// The parts of its tiles' boxes that lie in `rect`.
    pub fn parts_in(&self, rect: Rect) -> impl Iterator<Item = Rect> + '_ {
        let rect = rect.intersection(&self.bounds).unwrap_or_default();
        let (x0, x1) = tile_range(rect.x, rect.right());
        let (y0, y1) = tile_range(rect.y, rect.bottom());
        (y0..y1)
            .flat_map(move |ty| (x0..x1).map(move |tx| (tx, ty)))
            .filter_map(move |(tx, ty)| self.tile_rect(tx, ty)?.intersection(&rect))
    }

    /// The box of every tile that is not empty, row by row.
    pub fn tile_rects(&self) -> impl Iterator<Item = Rect> + '_ {
        self.parts_in(self.bounds)
    }

    /// Pixels in it.
    #[must_use]
    pub fn area(&self) -> u64 {
        self.tile_rects().map(|r| r.area()).sum()
    }

    /// Its largest part whose tiles touch each other, also at corners: the smallest rectangle around that, and its pixels.
    #[must_use]
    pub fn largest_cluster(&self) -> (Rect, u64) {
        let rows = self.boxes.len() / self.columns.max(1);
        let mut seen = vec![false; self.boxes.len()];
        let mut largest = (Rect::default(), 0);
        for start in 0..self.boxes.len() {
            if std::mem::replace(&mut seen[start], true) || self.boxes[start].is_empty() {
                continue;
            }
            let (mut open, mut bounding, mut area) = (vec![start], Rect::default(), 0);
            while let Some(tile) = open.pop() {
                let (tx, ty) = (tile % self.columns, tile / self.columns);
                let rect = self.tile_rect(tx, ty).unwrap_or_default();
                (bounding, area) = (bounding.bounding(&rect), area + rect.area());
                for y in ty.saturating_sub(1)..(ty + 2).min(rows) {
                    for x in tx.saturating_sub(1)..(tx + 2).min(self.columns) {
                        let near = y * self.columns + x;
                        if !std::mem::replace(&mut seen[near], true) && !self.boxes[near].is_empty() {
                            open.push(near);
                        }
                    }
                }
            }
            if area > largest.1 {
                largest = (bounding, area);
            }
        }
        largest
    }

    /// The smallest rectangle around it.
    #[must_use]
    pub fn bounding(&self) -> Rect {
        self.tile_rects().fold(Rect::default(), |all, r| all.bounding(&r))
    }

    /// The same pixels in few rectangles that do not overlap: neighbours are joined where their union is a rectangle,
    /// first along rows, then down columns.
    #[must_use]
    pub fn rects(&self) -> Vec<Rect> {
        let mut done = Vec::new();
        // Rectangles that reach down to the end of the row of tiles above, left to right.
        let mut open: Vec<Rect> = Vec::new();
        for row in self.boxes.chunks(self.columns.max(1)).enumerate().map(|(ty, _)| self.runs(ty)) {
            let mut next = Vec::with_capacity(row.len());
            for run in row {
                let above = |o: &Rect| o.x == run.x && o.w == run.w && o.bottom() == u32::from(run.y);
                match open.iter().position(above) {
                    Some(i) => {
                        let top = open.swap_remove(i);
                        next.push(Rect { h: top.h + run.h, ..top });
                    }
                    None => next.push(run),
                }
            }
            done.append(&mut open);
            open = next;
        }
        done.append(&mut open);
        done.sort_unstable_by_key(|r| (r.y, r.x));
        done
    }

    /// The boxes of one row of tiles, those that touch and have the same height joined.
    fn runs(&self, ty: usize) -> Vec<Rect> {
        let mut runs: Vec<Rect> = Vec::new();
        for r in (0..self.columns).filter_map(|tx| self.tile_rect(tx, ty)) {
            match runs.last_mut() {
                Some(last) if last.right() == u32::from(r.x) && last.y == r.y && last.h == r.h => {
                    last.w += r.w
                }
                _ => runs.push(r),
            }
        }
        runs
    }

    fn tile_rect(&self, tx: usize, ty: usize) -> Option<Rect> {
        let b = self.boxes[ty * self.columns + tx];
        if b.is_empty() {
            return None;
        }
        let (x, y) = (tx as u32 * u32::from(TILE), ty as u32 * u32::from(TILE));
        Some(Rect::from_edges(
            x + u32::from(b.x0),
            y + u32::from(b.y0),
            x + u32::from(b.x1),
            y + u32::from(b.y1),
        ))
    }

    /// Calls `change` with each tile's box that `rect` touches, and the part of it that `rect` covers.
    fn for_tiles(&mut self, rect: Rect, change: impl Fn(&mut TileBox, TileBox)) {
        let Some(rect) = rect.intersection(&self.bounds) else { return };
        let (x0, x1) = tile_range(rect.x, rect.right());
        let (y0, y1) = tile_range(rect.y, rect.bottom());
        // Where an edge falls within a tile: both ends are cut to 0..=64.
        let within = |edge: u32, tile: usize| {
            edge.saturating_sub(tile as u32 * u32::from(TILE)).min(u32::from(TILE)) as u8
        };
        for ty in y0..y1 {
            let (top, bottom) = (within(rect.y.into(), ty), within(rect.bottom(), ty));
            for tx in x0..x1 {
                let b = &mut self.boxes[ty * self.columns + tx];
                let was_empty = b.is_empty();
                change(
                    b,
                    TileBox {
                        x0: within(rect.x.into(), tx),
                        y0: top,
                        x1: within(rect.right(), tx),
                        y1: bottom,
                    },
                );
                match (was_empty, b.is_empty()) {
                    (true, false) => self.used += 1,
                    (false, true) => self.used -= 1,
                    _ => {}
                }
            }
        }
    }
}

/// The tiles that pixels `from..to` lie in.
fn tile_range(from: u16, to: u32) -> (usize, usize) {
    (usize::from(from / TILE), to.div_ceil(u32::from(TILE)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const W: u16 = 300;
    const H: u16 = 200;

    fn any_rect() -> impl Strategy<Value = Rect> {
        (0..W + 20, 0..H + 20, 0..W, 0..H).prop_map(|(x, y, w, h)| Rect { x, y, w, h })
    }

    fn pixels(rects: impl IntoIterator<Item = Rect>) -> Vec<u8> {
        let mut count = vec![0u8; usize::from(W) * usize::from(H)];
        for r in rects {
            for y in u32::from(r.y)..r.bottom().min(H.into()) {
                for x in u32::from(r.x)..r.right().min(W.into()) {
                    count[(y * u32::from(W) + x) as usize] += 1;
                }
            }
        }
        count
    }

    #[derive(Clone, Debug)]
    enum Op {
        Add(Rect),
        Subtract(Rect),
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_region_never_loses_a_pixel(
            ops in prop::collection::vec(
                prop_oneof![any_rect().prop_map(Op::Add), any_rect().prop_map(Op::Subtract)], 0..12)
        ) {
            let mut region = Region::new(W, H);
            let mut model = vec![false; usize::from(W) * usize::from(H)];
            for op in ops {
                let (rect, value) = match op {
                    Op::Add(r) => { region.add(r); (r, true) }
                    Op::Subtract(r) => { region.subtract(r); (r, false) }
                };
                for (p, n) in model.iter_mut().zip(pixels([rect])) {
                    if n > 0 { *p = value; }
                }
            }
            let covered = pixels(region.rects());
            prop_assert!(covered.iter().all(|&n| n <= 1), "rectangles overlap");
            prop_assert!(model.iter().zip(&covered).all(|(&want, &n)| !want || n == 1));
            prop_assert_eq!(&covered, &pixels(region.tile_rects()));
            prop_assert_eq!(region.is_empty(), covered.iter().all(|&n| n == 0));
            prop_assert_eq!(region.area(), covered.iter().filter(|&&n| n == 1).count() as u64);
        }

        #[test]
        fn one_rectangle_comes_back_as_it_was(rect in any_rect()) {
            let mut region = Region::new(W, H);
            region.add(rect);
            let inside = rect.intersection(&Rect::new(0, 0, W, H));
            prop_assert_eq!(region.rects(), inside.into_iter().collect::<Vec<_>>());
            region.subtract(rect);
            prop_assert!(region.is_empty());
        }

        #[test]
        fn union_holds_both(a in any_rect(), b in any_rect()) {
            let (mut one, mut two, mut both) = (Region::new(W, H), Region::new(W, H), Region::new(W, H));
            one.add(a);
            two.add(b);
            both.add(a);
            both.add(b);
            one.union(&two);
            prop_assert_eq!(one, both);
        }
    }

    #[test]
    fn the_largest_cluster_is_apart_from_what_does_not_touch_it() {
        let mut region = Region::new(640, 640);
        region.add(Rect::new(0, 0, 200, 8));
        region.add(Rect::new(300, 300, 100, 100));
        region.add(Rect::new(448, 400, 20, 20));
        region.add(Rect::new(0, 600, 100, 10));
        // The second and third touch by their tiles; the box of a tile holds all between them.
        assert_eq!(region.largest_cluster(), (Rect::new(300, 300, 168, 120), 10_400));
        assert_eq!(Region::new(10, 10).largest_cluster(), (Rect::default(), 0));
        assert_eq!(Region::new(0, 0).largest_cluster().1, 0);
    }

    #[test]
    fn taking_leaves_nothing() {
        let mut region = Region::full(W, H);
        assert_eq!(region.take().rects(), [Rect::new(0, 0, W, H)]);
        assert!(region.is_empty() && region.rects().is_empty());
    }

    #[test]
    fn a_screen_without_pixels_has_an_empty_region() {
        let mut region = Region::full(0, 0);
        region.add(Rect::new(0, 0, 9, 9));
        assert!(region.is_empty() && region.rects().is_empty());
    }
}
