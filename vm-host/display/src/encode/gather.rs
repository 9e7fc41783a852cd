//! Joining damaged rectangles where one costs less than several.
//!
//! A rectangle has a header, its own piece of a zlib stream, and of a photograph also JPEG's tables. What lies between two of
//! them would be sent needlessly, which costs little where it is plain.

use super::palette::changes;
use crate::screen::Screen;
use lucarne_rfb::Rect;

/// More rectangles than this are much damage, of which their headers are a small part.
const MANY: usize = 64;

/// Changes of colour between rectangles that cost as much as a header and the end of a zlib piece: about a byte each.
const CHANGES: u32 = 24;

/// Pixels between rectangles that are looked at for that; more would take longer to encode than they save.
const PLAIN: u64 = 16_384;

/// Pixels of a photograph that cost as much as JPEG's tables, and of whatever there is as much as a header where text is not
/// coded in `runs`.
const PHOTO: u64 = 1024;

/// The rectangles, which lie on the screen, in fewer that hold all of them; from the top down. With `runs`, drawings and text
/// are coded so that plain pixels among them cost next to nothing.
pub(super) fn gather(screen: &Screen, mut rects: Vec<Rect>, runs: bool) -> Vec<Rect> {
    if rects.len() > MANY {
        return rects;
    }
    let mut at = 0;
    while at < rects.len() {
        let one = rects[at];
        let joined = rects.iter().enumerate().skip(at + 1).find_map(|(i, other)| {
            let both = one.bounding(other);
            is_cheaper(screen, both, [one, *other], runs).then_some((i, both))
        });
        match joined {
            Some((other, both)) => {
                rects[at] = both;
                rects.swap_remove(other);
                // The larger one may reach those that were passed over.
                at = 0;
            }
            None => at += 1,
        }
    }
    rects.sort_unstable_by_key(|rect| (rect.y, rect.x));
    rects
}

fn is_cheaper(screen: &Screen, both: Rect, [one, other]: [Rect; 2], runs: bool) -> bool {
    let area = both.area().saturating_sub(one.area() + other.area());
    if area <= u64::from(CHANGES) || !runs && area <= PHOTO {
        return true;
    }
    if area > PLAIN || !runs {
        return false;
    }
    let (mut pixels, mut changed) = (0, 0);
    let gaps = both.without(&one).flat_map(|gap| gap.without(&other));
    let rows = gaps.flat_map(|gap| (gap.y..gap.y + gap.h).map(move |y| screen.row(gap, y)));
    for row in rows {
        pixels += row.len() as u32;
        changed += changes(row);
        // Where most pixels differ, it is of a photograph.
        if changed > CHANGES && (area > PHOTO || changed * 2 < pixels) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A screen of 256×256 with these pixels.
    fn screen(pixel: impl Fn(usize, usize) -> u32) -> Screen {
        let mut screen = Screen::new(256, 256).unwrap();
        let bytes: Vec<u8> = (0..256 * 256).flat_map(|i| pixel(i % 256, i / 256).to_le_bytes()).collect();
        let all = screen.rect();
        screen.update(&bytes, 256 * 4, all).unwrap();
        screen
    }

    fn noise(x: usize, y: usize) -> u32 {
        ((x << 9 ^ y) as u32).wrapping_mul(2_654_435_761) >> 8
    }

    const LEFT: Rect = Rect { x: 10, y: 10, w: 20, h: 16 };
    const RIGHT: Rect = Rect { x: 90, y: 10, w: 20, h: 16 };

    #[test]
    fn rectangles_with_plain_pixels_between_are_one() {
        let screen = screen(|x, y| if (30..90).contains(&x) { 7 } else { noise(x, y) });
        assert_eq!(gather(&screen, vec![RIGHT, LEFT], true), [LEFT.bounding(&RIGHT)]);
    }

    #[test]
    fn rectangles_with_text_between_stay_apart() {
        let screen = screen(|x, y| if (x / 3 + y / 5).is_multiple_of(4) { 0 } else { 0xff_ff_ff });
        assert_eq!(gather(&screen, vec![RIGHT, LEFT], true), [LEFT, RIGHT]);
    }

    #[test]
    fn close_parts_of_a_photograph_are_one_and_distant_ones_are_not() {
        let screen = screen(noise);
        let near = Rect { x: 40, ..LEFT };
        assert_eq!(gather(&screen, vec![LEFT, near], true), [LEFT.bounding(&near)]);
        let far = Rect { x: 120, ..LEFT };
        assert_eq!(gather(&screen, vec![LEFT, far], true), [LEFT, far]);
    }

    #[test]
    fn in_encodings_of_whole_pixels_plain_ones_cost_more() {
        let screen = screen(|_, _| 7);
        let far = Rect { x: 120, ..LEFT };
        assert_eq!(gather(&screen, vec![LEFT, far], true), [LEFT.bounding(&far)]);
        assert_eq!(gather(&screen, vec![LEFT, far], false), [LEFT, far]);
    }

    #[test]
    fn much_damage_is_left_as_it_is() {
        let screen = screen(|_, _| 0);
        let rects: Vec<Rect> = (0..MANY as u16 + 1).map(|i| Rect::new(i * 3, i * 3, 2, 2)).collect();
        assert_eq!(gather(&screen, rects.clone(), true), rects);
    }
}
