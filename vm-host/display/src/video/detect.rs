//! Finds films: areas that go on changing many times a second where they are, as moving pictures do.
//!
//! ```text
//! Change ──► how often each tile changed, in two halves of a window ──► often, steady, many colours ──► film
//!                                                                                                      │
//!                        none ◄── still, moved by a copy, or changing only in a small part for long ◄──┘
//! ```
//!
//! Scrolls and dragged windows come as copies or do not stay where they are; what is typed changes less often, and text has
//! few colours. A film keeps its rectangle while it lasts: changes within it are not counted again, so it grows only when
//! something beside it is a film of its own. Times are given, and reckoned from any moment; nothing here reads a clock.

use crate::encode::palette::Palette;
use crate::encode::plan::has_many_colours;
use crate::region::{Region, TILE};
use crate::screen::{Change, Screen};
use lucarne_rfb::Rect;
use std::time::Duration;

/// Films at once. Each costs every viewer a decoder; pages with more are rare, and the rest is sent as pictures.
pub const MAX_FILMS: usize = 4;

/// Half of the window in which changes are counted. Longer, and a film is found late; shorter, and a burst looks like one.
const HALF: Duration = Duration::from_millis(500);

/// Changes in each half that make a tile one of a film's: 12 a second, above what is typed or blinks.
const OFTEN: u8 = 6;

/// A film without a change for this long is over. Shorter would end it when the guest is busy; longer, and a picture that
/// was paused stays blurred.
const STILL: Duration = Duration::from_millis(500);

/// How long a film may change only in a small part of it. Shorter would end films of people who sit still.
const PARTLY_STILL: Duration = Duration::from_secs(2);

/// How far a film's edges may wander between the halves, pixels. What is dragged wanders further.
const STEADY: u32 = 8;

/// Of how many of its tiles one may lie beside it that changed often in one half alone. What is dragged has more of them.
const FRINGE: usize = 12;

/// What is a film so near to another, pixels, is a part of it that did not move before.
const BESIDE: u32 = 16;

/// The least width and height, pixels. Less is as cheap as a picture, and H.264 begins at 16.
const MIN_EDGE: u16 = 64;

/// The least area, pixels: half a frame of the smallest films on pages. Below it headers and decoders cost more than they save.
const MIN_AREA: u64 = 128 * 128;

/// The largest area, pixels: a little more than 1920×1200. Beyond it a frame takes longer to code than it is shown.
const MAX_AREA: u64 = 2048 * 1280;

/// The longest edge, pixels: what openh264 and small decoders take.
const MAX_EDGE: u16 = 3840;

/// Tiles of a film-to-be whose colours are counted, so that a large one takes no longer than a small one.
const SAMPLES: usize = 32;

/// Changes outside films during half a window.
#[derive(Clone, Debug)]
struct Half {
    /// Of each tile, row by row.
    counts: Vec<u8>,
    /// Where they were.
    extent: Region,
}

impl Half {
    fn new(bounds: Rect) -> Self {
        let tiles = usize::from(bounds.w.div_ceil(TILE)) * usize::from(bounds.h.div_ceil(TILE));
        Self { counts: vec![0; tiles], extent: Region::new(bounds.w, bounds.h) }
    }

    fn clear(&mut self) {
        self.counts.fill(0);
        self.extent.clear();
    }
}

#[derive(Clone, Debug)]
struct Film {
    rect: Rect,
    /// When it changed last.
    changed: Duration,
    /// When the present span of [`PARTLY_STILL`] began.
    since: Duration,
    /// Where it changed in the span before and in this one.
    seen: [Rect; 2],
}

/// What may be a film, or a part that one lacks.
#[derive(Debug)]
struct Candidate {
    tiles: Vec<usize>,
    /// Where it changed in the half before the last, and in the last.
    halves: [Rect; 2],
    /// Pixels that changed.
    area: u64,
    /// Tiles beside it that changed often in one half alone.
    fringe: usize,
}

/// Finds the films of one screen.
#[derive(Clone, Debug)]
pub struct FilmDetector {
    bounds: Rect,
    /// The half before and the present one.
    halves: [Half; 2],
    /// When the present half began.
    began: Duration,
    films: Vec<Film>,
}

impl FilmDetector {
    /// A detector for a screen of this size, pixels.
    #[must_use]
    pub fn new(width: u16, height: u16) -> Self {
        let bounds = Rect::new(0, 0, width, height);
        Self {
            bounds,
            halves: [Half::new(bounds), Half::new(bounds)],
            began: Duration::ZERO,
            films: Vec::new(),
        }
    }

    /// Takes a change of the screen, which has it already; every change, in order. Another size than before ends all films.
    pub fn note(&mut self, change: &Change, screen: &Screen, now: Duration) {
        if self.bounds != screen.rect() {
            *self = Self::new(screen.width(), screen.height());
        }
        if change.region.bounds() != self.bounds {
            return;
        }
        self.films.retain_mut(|film| film.goes_on(change, now));
        self.turn(screen, now);
        // Where something was moved, the rest is what the move uncovered.
        if change.copy.is_none() {
            change.region.tile_rects().for_each(|rect| self.count(rect));
        }
    }

    /// The films that run now, none of which overlaps another: even coordinates and sizes, within the screen.
    #[must_use]
    pub fn films(&self, now: Duration) -> Vec<Rect> {
        self.films.iter().filter(|film| !film.is_still(now)).map(|film| film.rect).collect()
    }

    /// Begins another half of the window when the present one is over.
    fn turn(&mut self, screen: &Screen, now: Duration) {
        let over = now.saturating_sub(self.began);
        if over >= HALF * 2 {
            // Nothing changed for longer than films may pause.
            self.halves.iter_mut().for_each(Half::clear);
            self.began = now;
        } else if over >= HALF {
            self.promote(screen, now);
            self.halves.swap(0, 1);
            self.halves[1].clear();
            self.began += HALF;
        }
    }

    /// Counts a tile's change, as far as it is in no film.
    fn count(&mut self, rect: Rect) {
        let mut parts = vec![rect];
        for film in &self.films {
            parts = parts.iter().flat_map(|part| part.without(&film.rect)).collect();
        }
        let [_, half] = &mut self.halves;
        if let Some(first) = parts.first() {
            let count = &mut half.counts[tile_of(self.bounds, *first)];
            *count = count.saturating_add(1);
        }
        parts.into_iter().for_each(|part| half.extent.add(part));
    }

    /// Makes films of what changed often in both halves.
    fn promote(&mut self, screen: &Screen, now: Duration) {
        let mut candidates = self.candidates();
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.area));
        let mut palette = Palette::new();
        for candidate in candidates {
            if !candidate.is_steady() || !self.is_colourful(&candidate, screen, &mut palette) {
                continue;
            }
            let own = even(candidate.halves[0].bounding(&candidate.halves[1]), self.bounds);
            let Some(rect) = self.joined(own, candidate.area).or_else(|| self.alone(own, candidate.area))
            else {
                continue;
            };
            self.films.retain(|film| film.rect.intersection(&rect).is_none());
            if self.films.len() < MAX_FILMS {
                self.films.push(Film { rect, changed: now, since: now, seen: [rect, Rect::default()] });
                // What was counted of it is not what is beside it.
                for tile in candidate.tiles {
                    self.halves[1].counts[tile] = 0;
                }
            }
        }
    }

    /// A film's rectangle with what is beside or in its way, if films are most of it.
    fn joined(&self, own: Rect, area: u64) -> Option<Rect> {
        let reach = Rect::from_edges(
            u32::from(own.x).saturating_sub(BESIDE),
            u32::from(own.y).saturating_sub(BESIDE),
            own.right() + BESIDE,
            own.bottom() + BESIDE,
        );
        let near = |film: &&Film| film.rect.intersection(&reach).is_some();
        let mut rect = self.films.iter().filter(near).fold(Rect::default(), |all, f| all.bounding(&f.rect));
        if rect.is_empty() {
            return None;
        }
        rect = rect.bounding(&own);
        let inside = self.films.iter().filter(|film| film.rect.intersection(&rect).is_some());
        // One that would be joined only in part is in the way.
        let films = inside.map(|f| rect.contains(&f.rect).then_some(f.rect.area())).sum::<Option<u64>>()?;
        (fits(rect) && is_most(area + films, rect)).then_some(rect)
    }

    /// A film of its own, where no other is.
    fn alone(&self, own: Rect, area: u64) -> Option<Rect> {
        let free = self.films.iter().all(|film| film.rect.intersection(&own).is_none());
        (free && fits(own) && is_most(area, own)).then_some(own)
    }

    /// Tiles that changed often in both halves, those that touch together.
    fn candidates(&self) -> Vec<Candidate> {
        let columns = usize::from(self.bounds.w.div_ceil(TILE));
        let [before, last] = &self.halves;
        let often = |tile: usize| [before, last].map(|half| half.counts[tile] >= OFTEN);
        let mut left: Vec<bool> = (0..last.counts.len()).map(|tile| often(tile) == [true; 2]).collect();
        let (count, mut found) = (left.len(), Vec::new());
        for first in 0..count {
            let mut next = Vec::new();
            if std::mem::take(&mut left[first]) {
                next.push(first);
            }
            let mut candidate =
                Candidate { tiles: Vec::new(), halves: [Rect::default(); 2], area: 0, fringe: 0 };
            while let Some(tile) = next.pop() {
                candidate.tiles.push(tile);
                let whole = tile_rect(self.bounds, tile);
                let boxes = [before, last].map(|half| half.extent.parts_in(whole).next().unwrap_or_default());
                for (all, part) in candidate.halves.iter_mut().zip(&boxes) {
                    *all = all.bounding(part);
                }
                candidate.area += boxes[0].bounding(&boxes[1]).area();
                let column = tile % columns;
                let beside = [(column > 0).then(|| tile - 1), (column + 1 < columns).then(|| tile + 1)];
                let above_and_below = [tile.checked_sub(columns), Some(tile + columns)];
                let near = beside.into_iter().chain(above_and_below).flatten();
                for tile in near.filter(|tile| *tile < count) {
                    if std::mem::take(&mut left[tile]) {
                        next.push(tile);
                    }
                    let [before, last] = often(tile);
                    candidate.fringe += usize::from(before != last);
                }
            }
            if !candidate.tiles.is_empty() {
                found.push(candidate);
            }
        }
        found
    }

    /// Most of it has more colours than text and drawings.
    fn is_colourful(&self, candidate: &Candidate, screen: &Screen, palette: &mut Palette) -> bool {
        let every = candidate.tiles.len().div_ceil(SAMPLES);
        let (mut looked, mut colourful) = (0, 0);
        for tile in candidate.tiles.iter().step_by(every) {
            let whole = tile_rect(self.bounds, *tile);
            for part in self.halves[1].extent.parts_in(whole) {
                looked += 1;
                colourful += usize::from(has_many_colours(screen, part, palette));
            }
        }
        colourful * 2 > looked
    }
}

impl Candidate {
    fn is_steady(&self) -> bool {
        let [a, b] = self.halves;
        let near = |a: u32, b: u32| a.abs_diff(b) <= STEADY;
        self.fringe * FRINGE <= self.tiles.len()
            && near(a.x.into(), b.x.into())
            && near(a.y.into(), b.y.into())
            && near(a.right(), b.right())
            && near(a.bottom(), b.bottom())
    }
}

impl Film {
    fn is_still(&self, now: Duration) -> bool {
        now.saturating_sub(self.changed) >= STILL
    }

    /// Whether it is one still after a change.
    fn goes_on(&mut self, change: &Change, now: Duration) -> bool {
        if self.is_still(now) {
            return false;
        }
        let mut changed = change.region.parts_in(self.rect).fold(Rect::default(), |all, r| all.bounding(&r));
        if let Some(copy) = change.copy {
            let touches = |r: Rect| self.rect.intersection(&r).is_some();
            if self.rect.contains(&copy.src) && self.rect.contains(&copy.dst()) {
                changed = changed.bounding(&copy.dst());
            } else if touches(copy.src) || touches(copy.dst()) {
                // It was scrolled or dragged away, or something onto it.
                return false;
            }
        }
        if !changed.is_empty() {
            self.changed = now;
            self.seen[1] = self.seen[1].bounding(&changed);
        }
        if now.saturating_sub(self.since) >= PARTLY_STILL {
            let seen = self.seen[0].bounding(&self.seen[1]);
            self.seen = [self.seen[1], Rect::default()];
            self.since = now;
            return seen.area() * 2 >= self.rect.area();
        }
        true
    }
}

/// Enough of the rectangle is in motion for it to be one film.
fn is_most(moving: u64, rect: Rect) -> bool {
    moving * 5 >= rect.area() * 3
}

fn fits(rect: Rect) -> bool {
    let edges = MIN_EDGE..=MAX_EDGE;
    edges.contains(&rect.w) && edges.contains(&rect.h) && (MIN_AREA..=MAX_AREA).contains(&rect.area())
}

/// The smallest rectangle around it with even edges, as far as the screen has them.
fn even(rect: Rect, bounds: Rect) -> Rect {
    let up = |edge: u32, end: u16| edge.next_multiple_of(2).min(u32::from(end) & !1);
    let down = |edge: u16| u32::from(edge & !1);
    Rect::from_edges(down(rect.x), down(rect.y), up(rect.right(), bounds.w), up(rect.bottom(), bounds.h))
}

fn tile_of(bounds: Rect, rect: Rect) -> usize {
    usize::from(rect.y / TILE) * usize::from(bounds.w.div_ceil(TILE)) + usize::from(rect.x / TILE)
}

fn tile_rect(bounds: Rect, tile: usize) -> Rect {
    let columns = usize::from(bounds.w.div_ceil(TILE));
    Rect::new((tile % columns) as u16 * TILE, (tile / columns) as u16 * TILE, TILE, TILE)
}

#[cfg(test)]
#[path = "detect_tests.rs"]
mod tests;
