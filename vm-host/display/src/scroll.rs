//! Finds a vertical scroll between two pictures of one area: which rows moved, and by how much.
//!
//! Rows' middle parts are hashed, a few rows together; those whose content is found once in the old picture and once in
//! the new vote for a shift; the winner is then checked pixel by pixel, so a result is exact. Knows nothing of screens or viewers.

use crate::screen::differs;
use std::collections::HashMap;
use std::ops::Range;

/// A shift must move at least this many rows. Fewer: a copy saves nothing over sending them.
const MIN_ROWS: usize = 32;

/// Rows that are hashed together. More: fewer rows are alike by chance, but those at the edges of a scroll are lost.
const WINDOW: usize = 8;

/// An odd constant whose bits look random (2⁶⁴ divided by the golden ratio).
const K: u64 = 0x9e37_79b9_7f4a_7c15;

/// A shift is looked at only when this many distinct rows vote for it. Fewer: chance likenesses of single lines would be
/// followed.
const MIN_VOTES: usize = 8;

/// A scroll that was found: `src_rows` and `columns` of the old picture appear `shift` rows lower in the new one
/// (higher when negative).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scroll {
    /// Rows in the old picture.
    pub(crate) src_rows: Range<usize>,
    /// Columns, the same in both.
    pub(crate) columns: Range<usize>,
    /// Rows down.
    pub(crate) shift: i32,
}

/// Two pictures of one area, `width` × `height` pixels.
pub(crate) struct Pictures<O, N> {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Pixels `0x00RRGGBB` of a row of the old picture.
    pub(crate) old: O,
    /// Bytes B, G, R, ignored of a row of the new picture.
    pub(crate) new: N,
}

/// Looks for one.
pub(crate) fn find<'a, O, N>(pictures: &Pictures<O, N>) -> Option<Scroll>
where
    O: Fn(usize) -> &'a [u32],
    N: Fn(usize) -> &'a [u8],
{
    let Pictures { width, height, old, new } = pictures;
    // The edges of a scrolled window hold scroll bars and borders that stay; its middle moves.
    let middle = width / 4..width - width / 4;
    let old_rows: Vec<u64> = (0..*height).map(|y| hash_pixels(&old(y)[middle.clone()])).collect();
    let bytes = middle.start * 4..middle.end * 4;
    let new_rows: Vec<u64> = (0..*height).map(|y| hash_bytes(&new(y)[bytes.clone()])).collect();
    let shift = vote(&together(&old_rows), &together(&new_rows))?;
    let moved = Moved { pictures, shift };
    let src_rows = moved.longest_run(&middle)?;
    let columns = moved.widen(middle, &src_rows);
    let (saved, all) = (columns.len() * src_rows.len(), width * height);
    // A copy of a sliver costs more (a rectangle split in two) than it saves.
    (saved * 4 >= all).then_some(Scroll { src_rows, columns, shift })
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

/// Multiply and fold, in two chains so that one need not wait for the other. Only likeness is wanted: every hit is checked.
fn hash(pixels: impl Iterator<Item = [u32; 4]>) -> u64 {
    let two = |a: u32, b: u32| u64::from(a) << 32 | u64::from(b);
    let (a, b) = pixels.fold((K, !K), |(a, b), p| (mix(a ^ two(p[0], p[1])), mix(b ^ two(p[2], p[3]))));
    a ^ b.rotate_left(32)
}

fn mix(v: u64) -> u64 {
    let product = u128::from(v) * u128::from(K);
    (product as u64) ^ (product >> 64) as u64
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

/// Two pictures under one assumed shift.
struct Moved<'p, O, N> {
    pictures: &'p Pictures<O, N>,
    shift: i32,
}

impl<'a, O, N> Moved<'_, O, N>
where
    O: Fn(usize) -> &'a [u32],
    N: Fn(usize) -> &'a [u8],
{
    /// The old row's pixels in `columns` are where the shift says.
    fn same(&self, src: usize, columns: &Range<usize>) -> bool {
        let Some(dst) = src.checked_add_signed(self.shift as isize).filter(|&y| y < self.pictures.height)
        else {
            return false;
        };
        let new = &(self.pictures.new)(dst)[columns.start * 4..columns.end * 4];
        !differs(new, &(self.pictures.old)(src)[columns.clone()])
    }

    fn longest_run(&self, columns: &Range<usize>) -> Option<Range<usize>> {
        let (mut best, mut start) = (0..0, 0);
        for y in 0..=self.pictures.height {
            if y < self.pictures.height && self.same(y, columns) {
                continue;
            }
            if y - start > best.len() {
                best = start..y;
            }
            start = y + 1;
        }
        (best.len() >= MIN_ROWS).then_some(best)
    }

    /// Widens the columns as long as all rows moved there too.
    fn widen(&self, mut columns: Range<usize>, rows: &Range<usize>) -> Range<usize> {
        let all = |part: Range<usize>| rows.clone().all(|y| self.same(y, &part));
        for step in [64, 8, 1] {
            while columns.start >= step && all(columns.start - step..columns.start) {
                columns.start -= step;
            }
            while columns.end + step <= self.pictures.width && all(columns.end..columns.end + step) {
                columns.end += step;
            }
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: usize = 200;
    const H: usize = 160;

    fn find(old: &[u32], new: &[u32]) -> Option<Scroll> {
        let bytes: Vec<u8> = new.iter().flat_map(|p| (p | 0x5a00_0000).to_le_bytes()).collect();
        super::find(&Pictures {
            width: W,
            height: old.len() / W,
            old: |y| &old[y * W..(y + 1) * W],
            new: |y| &bytes[y * W * 4..(y + 1) * W * 4],
        })
    }

    /// Text-like rows: distinct every now and then, blank in between, as a terminal has them.
    fn page(from: usize) -> Vec<u32> {
        let line = |y: usize| {
            (0..W).map(move |x| if y % 16 < 10 { ((y * 7919) ^ (x * 31)) as u32 % 4096 } else { 0 })
        };
        (from..from + H).flat_map(line).collect()
    }

    #[test]
    fn a_scrolled_page_is_found_in_both_directions() {
        let up = find(&page(0), &page(32)).expect("a scroll");
        assert_eq!(up, Scroll { src_rows: 32..H, columns: 0..W, shift: -32 });
        let down = find(&page(48), &page(0)).expect("a scroll");
        assert_eq!(down, Scroll { src_rows: 0..H - 48, columns: 0..W, shift: 48 });
    }

    #[test]
    fn a_scroll_bar_that_moves_otherwise_is_left_out() {
        let (mut old, mut new) = (page(0), page(32));
        for y in 0..H {
            for x in 185..W {
                old[y * W + x] = y as u32;
                new[y * W + x] = 1000 + y as u32;
            }
        }
        let found = find(&old, &new).expect("a scroll");
        assert_eq!((found.columns, found.shift), (0..185, -32));
    }

    #[test]
    fn a_page_drawn_at_twice_its_size_is_found() {
        let double = |page: Vec<u32>| page.chunks(W).flat_map(|row| [row, row].concat()).collect::<Vec<_>>();
        let found = find(&double(page(0)), &double(page(16))).expect("a scroll");
        assert_eq!((found.src_rows, found.shift), (32..2 * H, -32));
    }

    #[test]
    fn an_unrelated_page_and_a_blank_one_are_no_scroll() {
        assert_eq!(find(&page(0), &page(100_000)), None);
        assert_eq!(find(&vec![7; W * H], &vec![7; W * H]), None);
        assert_eq!(find(&page(0), &page(0)), None);
        assert_eq!(find(&[], &[]), None);
    }
}
