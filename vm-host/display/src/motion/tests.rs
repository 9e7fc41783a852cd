//! Moves that are found, and likenesses that are none.

use super::*;
use crate::source::Bytes;

const W: usize = 200;
const H: usize = 160;

fn find(old: &[u32], new: &[u32]) -> Option<Copy> {
    let bytes =
        |pixels: &[u32]| pixels.iter().flat_map(|p| (p | 0x5a00_0000).to_le_bytes()).collect::<Vec<u8>>();
    let mut screen = Screen::new(W as u32, (old.len() / W) as u32).unwrap();
    screen.update(&bytes(old), W * 4, screen.rect()).unwrap();
    let new = bytes(new);
    let pictures = Pictures { area: screen.rect(), old: &screen, new: &Bytes { bytes: &new, stride: W * 4 } };
    pictures.moved()
}

/// Text-like rows: distinct every now and then, blank in between, as a terminal has them.
fn page(from: usize) -> Vec<u32> {
    let line =
        |y: usize| (0..W).map(move |x| if y % 16 < 10 { ((y * 7919) ^ (x * 31)) as u32 % 4096 } else { 0 });
    (from..from + H).flat_map(line).collect()
}

fn copy(src: (u16, u16, u16, u16), to: (u16, u16)) -> Option<Copy> {
    Some(Copy { src: Rect::new(src.0, src.1, src.2, src.3), dst_x: to.0, dst_y: to.1 })
}

#[test]
fn a_scrolled_page_is_found_in_both_directions() {
    let (w, h) = (W as u16, H as u16);
    assert_eq!(find(&page(0), &page(32)), copy((0, 32, w, h - 32), (0, 0)));
    assert_eq!(find(&page(48), &page(0)), copy((0, 0, w, h - 48), (0, 48)));
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
    assert_eq!(find(&old, &new), copy((0, 32, 185, H as u16 - 32), (0, 0)));
}

#[test]
fn rows_beside_a_scroll_that_are_blank_in_the_middle_do_not_make_it_narrow() {
    let (mut old, mut new) = (page(0), page(32));
    for x in 0..W {
        // The first row that stays has something at its left end only; so does what was below it, elsewhere.
        for y in 0..20 {
            new[y * W + x] = if x < 20 { 9 } else { 0 };
            old[(y + 32) * W + x] = if x > W - 20 { 7 } else { 0 };
        }
    }
    assert_eq!(find(&old, &new), copy((0, 52, W as u16, H as u16 - 52), (0, 20)));
}

#[test]
fn a_page_drawn_at_twice_its_size_is_found() {
    let double = |page: Vec<u32>| page.chunks(W).flat_map(|row| [row, row].concat()).collect::<Vec<_>>();
    let found = find(&double(page(0)), &double(page(16))).expect("a scroll");
    assert_eq!((found.src.y, found.src.h, found.dst_y), (32, 2 * H as u16 - 32, 0));
}

#[test]
fn an_unrelated_page_and_a_blank_one_are_no_move() {
    assert_eq!(find(&page(0), &page(100_000)), None);
    assert_eq!(find(&vec![7; W * H], &vec![7; W * H]), None);
    assert_eq!(find(&page(0), &page(0)), None);
}

/// A background with detail, and a window with lines of text on white at `at`.
fn desktop(at: (usize, usize), background: impl Fn(usize, usize) -> u32) -> Vec<u32> {
    const WINDOW: (usize, usize) = (110, 90);
    let pixel = |x: usize, y: usize| {
        let inside = (at.0..at.0 + WINDOW.0).contains(&x) && (at.1..at.1 + WINDOW.1).contains(&y);
        if !inside {
            return background(x, y);
        }
        let (x, y) = (x - at.0, y - at.1);
        let letter = ((x * 7919) ^ ((y / 14) * 104_729) ^ ((y % 14) * 31)) % 7 < 3;
        if y % 14 < 9 && letter { 0x0010_1010 + (y / 14) as u32 } else { 0x00ff_ffff }
    };
    (0..H).flat_map(|y| (0..W).map(move |x| (x, y))).map(|(x, y)| pixel(x, y)).collect()
}

#[test]
fn a_window_that_was_dragged_is_found_in_every_direction() {
    let photo = |x: usize, y: usize| ((x * x * 31 + y * 17 * x) as u32).wrapping_mul(0x9e37_79b1) >> 8;
    for (dx, dy) in [(11i32, 7i32), (-9, 5), (13, -6), (-3, -12), (20, 0), (0, 10)] {
        let from = (40usize, 30usize);
        let to = (from.0.strict_add_signed(dx as isize), from.1.strict_add_signed(dy as isize));
        let found = find(&desktop(from, photo), &desktop(to, photo)).unwrap_or_else(|| panic!("{dx},{dy}"));
        let expected = copy((from.0 as u16, from.1 as u16, 110, 90), (to.0 as u16, to.1 as u16));
        assert_eq!(Some(found), expected, "{dx},{dy}");
    }
}

#[test]
fn a_window_on_plain_ground_takes_at_most_some_of_the_ground_along() {
    let plain = |_: usize, _: usize| 0x0020_4060;
    let (old, new) = (desktop((40, 30), plain), desktop((52, 37), plain));
    let found = find(&old, &new).expect("a move");
    assert_eq!((found.dst_x - found.src.x, found.dst_y - found.src.y), (12, 7));
    assert!(found.src.contains(&Rect::new(40, 30, 110, 90)), "{found:?}");
}
