//! Guesses a move in any direction, as of a window that is dragged.
//!
//! Short runs of pixels that are full of detail are taken from the new picture, a few dozen of them; a rolling hash over
//! the old picture's rows finds where they were; each that is found once votes for a move.

use super::{MIN_EDGE, Moved, Pictures};
use crate::screen::Copy;
use std::collections::HashMap;

/// Pixels of a run. More: rarely alike by chance, but fewer fit into small windows.
const RUN: usize = 24;

/// Pixels of a run that must differ from their left neighbour: shades and blank paper are alike everywhere.
const MIN_DETAIL: usize = 9;

/// Runs are looked for in so many rows, and in so many parts of each: what is fullest of detail may lie outside of what
/// moved, so each part gives one. More cost more.
const ROWS: usize = 32;
const PARTS: usize = 6;

/// A move is looked at only when this many runs vote for it.
const MIN_VOTES: usize = 4;

/// What moved must have this many pixels, or a quarter of the area: a smaller copy saves too little.
const MIN_AREA: usize = 64 * 64;

/// An odd constant whose bits look random; hashes are polynomials in it, of which the upper bits are used.
const BASE: u32 = 0x9e37_79b1;

/// A run of the new picture, or of the old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spot {
    x: usize,
    y: usize,
}

/// Looks for one.
pub(super) fn find(pictures: &Pictures<'_>) -> Option<Copy> {
    let wanted = runs(pictures);
    if wanted.len() < MIN_VOTES {
        return None;
    }
    let found = places(pictures, &wanted);
    let (by, voters) = vote(&wanted, &found)?;
    let mut moved = Moved::new(pictures, by);
    // Beyond what moved, rows are alike by chance, each to another extent: the narrowest of several is that of all.
    let mut columns = 0..pictures.width();
    for spot in voters.iter().take(8) {
        let here = moved.widen(spot.x..spot.x + RUN, &(spot.y..spot.y + 1));
        columns = columns.start.max(here.start)..columns.end.min(here.end);
    }
    if columns.len() < MIN_EDGE {
        return None;
    }
    let rows = moved.longest_run(0..pictures.height(), &columns)?;
    let columns = moved.widen(columns, &rows);
    let saved = columns.len() * rows.len();
    (saved >= MIN_AREA && saved * 4 >= pictures.width() * pictures.height())
        .then(|| pictures.copy(&rows, &columns, by))?
}

/// Runs of the new picture that are full of detail, spread over the area, by their hashes. None that is there twice.
fn runs(pictures: &Pictures<'_>) -> HashMap<u32, Spot> {
    let (width, height) = (pictures.width(), pictures.height());
    let mut runs: HashMap<u32, Option<Spot>> = HashMap::new();
    let mut row = Vec::new();
    // An odd number of rows apart, so that a pattern of the content's does not hide it.
    for y in (0..height).step_by(height.div_ceil(ROWS) | 1) {
        let bytes = pictures.after(y, &(0..width), &mut row);
        let pixels: Vec<u32> =
            bytes.as_chunks().0.iter().map(|p| u32::from_le_bytes(*p) & 0x00ff_ffff).collect();
        for (left, part) in (0..).step_by(width.div_ceil(PARTS)).zip(pixels.chunks(width.div_ceil(PARTS))) {
            let candidates = part.windows(RUN).enumerate().step_by(5);
            let best = candidates.map(|(x, run)| (detail(run), x, run)).max_by_key(|&(d, x, _)| (d, x));
            if let Some((_, x, run)) = best.filter(|&(detail, _, _)| detail >= MIN_DETAIL) {
                let spot = Spot { x: left + x, y };
                runs.entry(hash(run)).and_modify(|spot| *spot = None).or_insert(Some(spot));
            }
        }
    }
    runs.into_iter().filter_map(|(hash, spot)| Some((hash, spot?))).collect()
}

fn detail(run: &[u32]) -> usize {
    run.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

/// Where the old picture has these runs; `None` of those that it has more than once.
fn places(pictures: &Pictures<'_>, wanted: &HashMap<u32, Spot>) -> HashMap<u32, Option<Spot>> {
    // Nearly all pixels are asked for in vain: a small table of bits is asked first.
    let slot = |hash: u32| ((hash >> 17) as usize / 64, 1u64 << (hash >> 17 & 63));
    let mut filter = vec![0u64; (1 << 15) / 64];
    for &hash in wanted.keys() {
        let (word, bit) = slot(hash);
        filter[word] |= bit;
    }
    let oldest = (0..RUN).fold(1u32, |power, _| power.wrapping_mul(BASE));
    let mut found: HashMap<u32, Option<Spot>> = HashMap::new();
    for y in 0..pictures.height() {
        let row = pictures.before(y);
        let mut value = hash(&row[..RUN]);
        for x in 0..=row.len() - RUN {
            if x > 0 {
                let (gone, come) = (row[x - 1], row[x + RUN - 1]);
                value = value.wrapping_mul(BASE).wrapping_add(come).wrapping_sub(gone.wrapping_mul(oldest));
            }
            let (word, bit) = slot(value);
            if filter[word] & bit != 0 && wanted.contains_key(&value) {
                found.entry(value).and_modify(|spot| *spot = None).or_insert(Some(Spot { x, y }));
            }
        }
    }
    found
}

fn hash(run: &[u32]) -> u32 {
    run.iter().fold(0u32, |hash, &pixel| hash.wrapping_mul(BASE).wrapping_add(pixel))
}

/// The move that most runs agree on, and where they were.
fn vote(wanted: &HashMap<u32, Spot>, found: &HashMap<u32, Option<Spot>>) -> Option<((i32, i32), Vec<Spot>)> {
    let mut votes: HashMap<(i32, i32), Vec<Spot>> = HashMap::new();
    for (hash, to) in wanted {
        if let Some(Some(from)) = found.get(hash) {
            let by = (to.x as i32 - from.x as i32, to.y as i32 - from.y as i32);
            votes.entry(by).or_default().push(*from);
        }
    }
    votes.remove(&(0, 0));
    let (by, mut voters) = votes.into_iter().max_by_key(|(by, voters)| (voters.len(), *by))?;
    // So that the result does not depend on the map's order.
    voters.sort_unstable_by_key(|spot| (spot.y, spot.x));
    (voters.len() >= MIN_VOTES).then_some((by, voters))
}
