//! What one viewer has not been sent yet.
//!
//! A copy is right only where the viewer's picture of its source is up to date. [`ViewerDamage`] keeps that true: it takes
//! every [`Change`] of the screen in order, and what a copy would bring from a stale place becomes damage at its new
//! place. The result, [`Changes`], is sent as: all copies in order, then the region with the screen's present pixels, then
//! the backlog. What of it is not sent for now is put back, as backlog: what is new and small goes before it, so that a key's
//! echo does not wait behind a picture; what is new and large goes behind it, so that what changes all the time does not keep
//! the rest from being sent. Whatever comes out of it, a viewer that gets every `Changes` in order converges to the screen.
//!
//! Knows nothing of encodings or of when to send.

use crate::region::Region;
use crate::screen::{Change, Copy, Screen};
use lucarne_rfb::Rect;

/// The most copies that wait for one viewer; a further one becomes damage. More would let a viewer that lags through a
/// long scroll do work that nobody sees.
const MAX_COPIES: usize = 4;

/// Pixels of something new that goes before what waits already: a line of text across a wide screen. More would let a film,
/// of which there is always something new, keep everything else from being sent.
const SMALL: u64 = 64 * 1024;

/// What one viewer still has to get.
#[derive(Clone, Debug)]
pub struct ViewerDamage {
    copies: Vec<Copy>,
    region: Region,
    /// What was put back, and not damaged since.
    backlog: Region,
}

/// What to send now. Only [`ViewerDamage::take`] makes one, so the copies in it are right for that viewer.
#[derive(Clone, Debug)]
pub struct Changes {
    copies: Vec<Copy>,
    region: Region,
    backlog: Region,
    behind: Region,
    films: Vec<Rect>,
}

impl Changes {
    /// Nothing is to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.area() == 0
    }

    /// Pixels to send, but for the copies.
    #[must_use]
    pub fn area(&self) -> u64 {
        [&self.region, &self.backlog, &self.behind].map(Region::area).iter().sum()
    }

    /// Copies, in the order in which the viewer has to do them.
    #[must_use]
    pub fn copies(&self) -> &[Copy] {
        &self.copies
    }

    /// What to send after them.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// What to send then.
    #[must_use]
    pub fn backlog(&self) -> &Region {
        &self.backlog
    }

    /// What to send last.
    #[must_use]
    pub fn behind(&self) -> &Region {
        &self.behind
    }

    /// The films of the screen that the changes are of.
    #[must_use]
    pub fn films(&self) -> &[Rect] {
        &self.films
    }

    /// Something of a film is to be sent.
    #[must_use]
    pub fn touch_films(&self) -> bool {
        let lists = [&self.region, &self.backlog, &self.behind];
        self.films.iter().any(|film| lists.iter().any(|list| list.intersects(*film)))
    }

    /// The same with the films that run, as [`crate::FilmDetector::films`] gives them. A viewer that takes video gets them so.
    #[must_use]
    pub fn with_films(self, films: Vec<Rect>) -> Self {
        Self { films, ..self }
    }

    /// The same without copies: their destinations become part of the region.
    #[must_use]
    pub fn without_copies(mut self) -> Self {
        for copy in self.copies.drain(..) {
            self.region.add(copy.dst());
        }
        self
    }

    /// The copies, and what goes after them: what is new, the backlog, and what goes behind it.
    pub(crate) fn into_parts(self) -> (Vec<Copy>, [Region; 3]) {
        (self.copies, [self.region, self.backlog, self.behind])
    }
}

impl ViewerDamage {
    /// A viewer that has nothing yet: all of the screen is damaged.
    #[must_use]
    pub fn new(screen: &Screen) -> Self {
        Self::all(screen.width(), screen.height())
    }

    fn all(width: u16, height: u16) -> Self {
        Self { copies: Vec::new(), region: Region::full(width, height), backlog: Region::new(width, height) }
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.region.is_empty() && self.backlog.is_empty()
    }

    /// Takes a change of the screen; every change, in order. One of another size than before damages everything.
    pub fn apply(&mut self, change: &Change) {
        let size = change.region.bounds();
        if size != self.region.bounds() {
            *self = Self::all(size.w, size.h);
            return;
        }
        if let Some(copy) = change.copy {
            self.apply_copy(copy);
        }
        self.region.union(&change.region);
    }

    fn apply_copy(&mut self, copy: Copy) {
        let stale: Vec<Rect> =
            self.region.parts_in(copy.src).chain(self.backlog.parts_in(copy.src)).collect();
        let stale_area: u64 = stale.iter().map(Rect::area).sum();
        if self.copies.len() == MAX_COPIES || stale_area * 2 > copy.src.area() {
            self.region.add(copy.dst());
            return;
        }
        // The viewer copies before it gets the region: the destination is then as fresh as the source was.
        self.region.subtract(copy.dst());
        self.backlog.subtract(copy.dst());
        stale.into_iter().for_each(|part| self.region.add(copy.moved(part)));
        self.copies.push(copy);
    }

    /// The screen has another size, or was replaced: everything is to be sent again.
    pub fn reset(&mut self, screen: &Screen) {
        *self = Self::new(screen);
    }

    /// The viewer asks for this area whether or not it changed (a request that is not incremental).
    pub fn damage(&mut self, rect: Rect) {
        self.region.add(rect);
    }

    /// What to send now; nothing waits afterwards. The caller sends it and puts back what it did not send, or resets.
    #[must_use]
    pub fn take(&mut self) -> Changes {
        let (mut region, mut backlog) = (self.region.take(), self.backlog.take());
        let mut behind = Region::new(region.bounds().w, region.bounds().h);
        if !backlog.is_empty() {
            let (around, area) = region.largest_cluster();
            if area > SMALL {
                region.parts_in(around).for_each(|part| behind.add(part));
                behind.tile_rects().for_each(|part| region.subtract(part));
            }
            region.tile_rects().for_each(|part| backlog.subtract(part));
            backlog.tile_rects().for_each(|part| behind.subtract(part));
        }
        Changes { copies: std::mem::take(&mut self.copies), region, backlog, behind, films: Vec::new() }
    }

    /// Puts back what was taken last and not sent.
    pub fn put_back(&mut self, mut rest: Region) {
        if rest.bounds() != self.region.bounds() {
            // Everything is to be sent already.
            return;
        }
        // Copies that came meanwhile took these places for fresh.
        for copy in &self.copies {
            let stale: Vec<Rect> = rest.parts_in(copy.src).collect();
            rest.subtract(copy.dst());
            stale.into_iter().for_each(|part| rest.add(copy.moved(part)));
        }
        self.backlog.union(&rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const W: u16 = 200;
    const H: u16 = 180;

    fn change(copy: Option<Copy>, rects: &[Rect]) -> Change {
        let mut region = Region::new(W, H);
        rects.iter().for_each(|&r| region.add(r));
        Change { copy, region }
    }

    fn rect() -> impl Strategy<Value = Rect> {
        (0..W, 0..H, 1..W, 1..H).prop_map(|(x, y, w, h)| Rect {
            x,
            y,
            w: w.min(W - x).max(1),
            h: h.min(H - y).max(1),
        })
    }

    fn copy() -> impl Strategy<Value = Copy> {
        (rect(), any::<u16>(), any::<u16>()).prop_map(|(src, x, y)| Copy {
            src,
            dst_x: x % (W - src.w + 1),
            dst_y: y % (H - src.h + 1),
        })
    }

    fn run_copy(pixels: &mut [u32], c: &Copy) {
        let old = pixels.to_vec();
        let at = |x: u16, y: u16| usize::from(y) * usize::from(W) + usize::from(x);
        for y in 0..c.src.h {
            for x in 0..c.src.w {
                pixels[at(c.dst_x + x, c.dst_y + y)] = old[at(c.src.x + x, c.src.y + y)];
            }
        }
    }

    fn fill(pixels: &mut [u32], r: Rect, mut value: impl FnMut(usize) -> u32) {
        for y in r.y..r.y + r.h {
            for x in r.x..r.x + r.w {
                let i = usize::from(y) * usize::from(W) + usize::from(x);
                pixels[i] = value(i);
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Change(Option<Copy>, Vec<Rect>),
        /// With the share of the region's rectangles that is sent at once, and what happens until the rest is put back.
        Send(usize, Vec<(Option<Copy>, Vec<Rect>)>),
        Ask(Rect),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (prop::option::of(copy()), prop::collection::vec(rect(), 0..3))
                .prop_map(|(c, r)| Step::Change(c, r)),
            1 => (0usize..4, prop::collection::vec(
                (prop::option::of(copy()), prop::collection::vec(rect(), 0..2)), 0..3,
            )).prop_map(|(share, meanwhile)| Step::Send(share, meanwhile)),
            1 => rect().prop_map(Step::Ask),
        ]
    }

    proptest! {
        #[test]
        fn a_viewer_always_converges_to_the_screen(
            steps in prop::collection::vec(step(), 1..20), with_copies in any::<bool>(),
        ) {
            let screen = Screen::new(W.into(), H.into()).unwrap();
            let mut truth: Vec<u32> = (0..u32::from(W) * u32::from(H)).collect();
            let mut picture = vec![u32::MAX; truth.len()];
            let mut damage = ViewerDamage::new(&screen);
            let mut next = 1_000_000;
            let mut draw = |truth: &mut Vec<u32>, damage: &mut ViewerDamage, copy: Option<Copy>, rects: &[Rect]| {
                if let Some(c) = &copy {
                    run_copy(truth, c);
                }
                for &r in rects {
                    next += 1_000_000;
                    fill(truth, r, |i| next + i as u32);
                }
                damage.apply(&change(copy, rects));
            };
            for step in steps.into_iter().chain([Step::Send(usize::MAX, Vec::new())]) {
                match step {
                    Step::Change(copy, rects) => draw(&mut truth, &mut damage, copy, &rects),
                    Step::Ask(r) => damage.damage(r),
                    Step::Send(share, meanwhile) => {
                        let changes = damage.take();
                        prop_assert!(damage.is_empty());
                        let changes = if with_copies { changes } else { changes.without_copies() };
                        changes.copies().iter().for_each(|c| run_copy(&mut picture, c));
                        let shown = truth.clone();
                        let lists = [changes.region(), changes.backlog(), changes.behind()];
                        let rects = lists.map(Region::rects).concat();
                        let now = share.min(rects.len());
                        for (copy, rects) in &meanwhile {
                            draw(&mut truth, &mut damage, *copy, rects);
                        }
                        let mut rest = Region::new(W, H);
                        rects[now..].iter().for_each(|&r| rest.add(r));
                        damage.put_back(rest);
                        for &r in &rects[..now] {
                            fill(&mut picture, r, |i| shown[i]);
                        }
                        if now == rects.len() && meanwhile.is_empty() {
                            prop_assert!(picture == truth, "the viewer's picture differs from the screen");
                            prop_assert!(damage.is_empty());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_copy_to_an_up_to_date_viewer_is_sent_as_a_copy() {
        let screen = Screen::new(W.into(), H.into()).unwrap();
        let mut damage = ViewerDamage::new(&screen);
        let up = Copy { src: Rect::new(0, 20, W, H - 20), dst_x: 0, dst_y: 0 };
        damage.apply(&change(Some(up), &[]));
        assert_eq!(damage.take().copies(), [], "it had nothing to copy from");
        damage.apply(&change(Some(up), &[Rect::new(0, H - 20, W, 20)]));
        let changes = damage.take();
        assert_eq!(
            (changes.copies(), changes.region().rects()),
            (&[up][..], vec![Rect::new(0, H - 20, W, 20)])
        );
    }

    #[test]
    fn what_is_new_goes_before_the_backlog_where_it_is_small_and_behind_it_where_it_is_large() {
        let screen = Screen::new(1024, 768).unwrap();
        let mut damage = ViewerDamage::new(&screen);
        let mut rest = damage.take().region().clone();
        let (half, spot) = (Rect::new(0, 0, 1024, 384), Rect::new(512, 640, 9, 9));
        rest.subtract(half);
        damage.put_back(rest);
        damage.damage(spot);
        let changes = damage.take();
        assert_eq!((changes.region().rects(), changes.behind().area()), (vec![spot], 0));
        damage.put_back(changes.backlog().clone());
        // All of it changes again: what waits goes first, and once.
        damage.damage(screen.rect());
        let changes = damage.take();
        assert_eq!((changes.region().area(), changes.behind().rects()), (0, vec![half]));
        assert_eq!(changes.backlog().bounding(), Rect::new(0, 384, 1024, 384));
        assert!(changes.area() <= screen.rect().area());
    }

    #[test]
    fn another_size_damages_everything() {
        let screen = Screen::new(W.into(), H.into()).unwrap();
        let mut damage = ViewerDamage::new(&screen);
        let _ = damage.take();
        damage.apply(&Change { copy: None, region: Region::new(10, 10) });
        assert_eq!(damage.take().region().rects(), [Rect::new(0, 0, 10, 10)]);
    }
}
