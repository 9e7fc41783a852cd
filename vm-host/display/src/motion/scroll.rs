//! Guesses a scroll: rows' middle parts are hashed, a few rows together; those whose content is found once in the old
//! picture and once in the new vote for a shift.

use super::{Moved, Pictures, mix};
use crate::screen::Copy;
use std::collections::HashMap;
use std::ops::Range;

/// Rows that are hashed together. More: fewer rows are alike by chance, but those at the edges of a scroll are lost.
const WINDOW: usize = 8;

/// A shift is looked at only when this many distinct rows vote for it. Fewer: chance likenesses of single lines would be
/// followed.
const MIN_VOTES: usize = 8;

/// Looks for one.
pub(super) fn find(pictures: &Pictures<'_>) -> Option<Copy> {
    let (width, height) = (pictures.width(), pictures.height());
    // The edges of a scrolled window hold scroll bars and borders that stay; its middle moves.
    let middle = width / 4..width - width / 4;
    let old_rows: Vec<u64> = (0..height).map(|y| hash_pixels(&pictures.before(y)[middle.clone()])).collect();
    let mut row = Vec::new();
    let new_rows: Vec<u64> = (0..height).map(|y| hash_bytes(pictures.after(y, &middle, &mut row))).collect();
    let shift = vote(&together(&old_rows), &together(&new_rows))?;
    let mut moved = Moved::new(pictures, (0, shift));
    let all = moved.longest_run(0..height, &middle)?;
    // Beyond what was scrolled, blank rows are alike by chance as far as the middle goes, and would keep it narrow. Those in the
    // middle of it are of it, and so give its width.
    let inner = all.start + all.len() / 4..all.end - all.len() / 4;
    let width_of = |moved: &mut Moved<'_>, rows: &Range<usize>| moved.widen(middle.clone(), rows);
    let wide = width_of(&mut moved, &inner);
    let among = moved.longest_run(all.clone(), &wide).map(|rows| (rows, wide));
    let narrow = width_of(&mut moved, &all);
    let either = among.into_iter().chain([(all, narrow)]);
    let (rows, columns) = either.max_by_key(|(rows, columns)| rows.len() * columns.len())?;
    // A copy of a sliver costs more (a rectangle split in two) than it saves.
    let saved = columns.len() * rows.len();
    (saved * 4 >= width * height).then(|| pictures.copy(&rows, &columns, (0, shift)))?
}

/// For each row the hashes of it and of those below it together. On its own a row is often like its neighbour: stems of
/// letters, blank lines, pictures drawn at twice their size.
fn together(rows: &[u64]) -> Vec<u64> {
    rows.windows(WINDOW).map(|rows| rows.iter().fold(0, |h, row| mix(h ^ row))).collect()
}

fn hash_pixels(row: &[u32]) -> u64 {
    let four = |p: &[u32]| [0, 1, 2, 3].map(|i| p.get(i).copied().unwrap_or(0));
    hash(row.chunks(4).map(four))
}

/// The same hash for the same picture.
fn hash_bytes(row: &[u8]) -> u64 {
    let pixel = |p: &[u8]| u32::from_le_bytes([p[0], p[1], p[2], p[3]]) & 0x00ff_ffff;
    let four = |bytes: &[u8]| [0, 4, 8, 12].map(|i| bytes.get(i..i + 4).map_or(0, pixel));
    hash(row.chunks(16).map(four))
}

/// In two chains so that one need not wait for the other.
fn hash(pixels: impl Iterator<Item = [u32; 4]>) -> u64 {
    let two = |a: u32, b: u32| u64::from(a) << 32 | u64::from(b);
    let (a, b) = pixels.fold((1, !1), |(a, b), p| (mix(a ^ two(p[0], p[1])), mix(b ^ two(p[2], p[3]))));
    a ^ b.rotate_left(32)
}

/// The shift that most rows agree on.
fn vote(old: &[u64], new: &[u64]) -> Option<i32> {
    // Row of each content, or none when it is there more than once: blank lines say nothing.
    let once = |rows: &[u64]| {
        let mut seen: HashMap<u64, Option<i32>> = HashMap::with_capacity(rows.len());
        for (y, &h) in (0i32..).zip(rows) {
            seen.entry(h).and_modify(|row| *row = None).or_insert(Some(y));
        }
        seen
    };
    let (old, new) = (once(old), once(new));
    let mut votes: HashMap<i32, usize> = HashMap::new();
    for (h, y) in &new {
        if let (Some(new_y), Some(Some(old_y))) = (y, old.get(h)) {
            *votes.entry(new_y - old_y).or_default() += 1;
        }
    }
    votes.remove(&0);
    // The smaller shift wins a tie, so that the result does not depend on the map's order.
    let (shift, count) = votes.into_iter().max_by_key(|&(shift, count)| (count, -shift.abs(), shift))?;
    (count >= MIN_VOTES).then_some(shift)
}
