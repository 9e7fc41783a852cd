//! The shadow against frames: what changes, what does not, and what is refused.

use super::*;
use proptest::prelude::*;

fn frame_of(pixels: &[u32]) -> Vec<u8> {
    // The fourth byte is noise, as some guests leave it.
    pixels.iter().flat_map(|p| (p | 0xa5 << 24).to_le_bytes()).collect()
}

fn update(screen: &mut Screen, pixels: &[u32], damage: impl Into<Option<Rect>>) -> Change {
    let damage = damage.into().unwrap_or(screen.rect());
    let stride = usize::from(screen.width()) * 4;
    screen.update(&frame_of(pixels), stride, damage).expect("a good frame")
}

#[test]
fn an_unchanged_frame_changes_nothing() {
    let mut screen = Screen::new(200, 100).unwrap();
    let change = update(&mut screen, &[0; 20_000], None);
    assert!(change.is_empty());
    assert_eq!(screen.generation(), 0);
}

#[test]
fn a_typed_character_gives_its_own_box() {
    let mut screen = Screen::new(200, 100).unwrap();
    let mut pixels = vec![0; 20_000];
    for y in 30..49 {
        for x in 70..78 {
            pixels[y * 200 + x] = 0x00ff_ffff;
        }
    }
    let change = update(&mut screen, &pixels, None);
    assert_eq!((change.copy, change.region.rects()), (None, vec![Rect::new(70, 30, 8, 19)]));
    assert_eq!((screen.pixels(), screen.generation()), (&pixels[..], 1));
}

#[test]
fn only_the_damaged_part_is_looked_at() {
    let mut screen = Screen::new(100, 100).unwrap();
    let change = update(&mut screen, &[1; 10_000], Rect::new(10, 20, 30, 40));
    assert_eq!(change.region.rects(), [Rect::new(10, 20, 30, 40)]);
    assert_eq!(screen.pixels().iter().filter(|&&p| p == 1).count(), 1200);
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_touched() {
    let mut screen = Screen::new(10, 10).unwrap();
    let outside = Rect::new(5, 5, 6, 1);
    assert_eq!(
        screen.update(&[0; 400], 40, outside),
        Err(ScreenError::Outside { rect: outside, width: 10, height: 10 })
    );
    let all = screen.rect();
    assert!(matches!(screen.update(&[1; 399], 40, all), Err(ScreenError::Short { need: 400, .. })));
    assert!(matches!(screen.update(&[1; 400], 39, all), Err(ScreenError::Short { .. })));
    assert!(matches!(screen.update(&[1; 400], usize::MAX, all), Err(ScreenError::Short { .. })));
    assert_eq!((screen.pixels(), screen.generation()), (&[0; 100][..], 0));
    for (w, h) in [(0, 10), (10, 0), (65_536, 1), (65_535, 65_535)] {
        assert_eq!(Screen::new(w, h).err(), Some(ScreenError::Size { width: w, height: h }));
    }
}

#[test]
fn empty_damage_beyond_the_edge_changes_nothing() {
    let mut screen = Screen::new(10, 10).unwrap();
    for far in [Rect::new(9000, 9, 0, 1), Rect::new(9, 9000, 1, 0)] {
        assert!(update(&mut screen, &[1; 100], far).is_empty());
    }
}

#[test]
fn a_resize_starts_black_and_counts() {
    let mut screen = Screen::new(10, 10).unwrap();
    update(&mut screen, &[1; 100], None);
    screen.resize(20, 5).unwrap();
    assert_eq!(
        (screen.rect(), screen.pixels(), screen.generation()),
        (Rect::new(0, 0, 20, 5), &[0; 100][..], 2)
    );
    assert!(screen.resize(0, 5).is_err());
    assert_eq!(screen.width(), 20);
}

#[test]
fn a_scroll_is_a_copy_and_the_new_rows() {
    let (w, h) = (256usize, 192usize);
    let page = |from: usize| -> Vec<u32> {
        (from..from + h).flat_map(|y| (0..w).map(move |x| ((y * 7919) ^ (x * 131)) as u32 & 0xffff)).collect()
    };
    let mut screen = Screen::new(w as u32, h as u32).unwrap();
    update(&mut screen, &page(0), None);
    let change = update(&mut screen, &page(20), None);
    let copy = Copy { src: Rect::new(0, 20, 256, 172), dst_x: 0, dst_y: 0 };
    assert_eq!(change.copy, Some(copy));
    assert_eq!(change.region.rects(), [Rect::new(0, 172, 256, 20)]);
    assert_eq!(screen.pixels(), page(20));
}

#[test]
fn a_scroll_is_found_at_once_although_a_film_has_run_elsewhere() {
    let (w, h) = (256usize, 512usize);
    let mut picture: Vec<u32> =
        (0..w * h).map(|i| ((i / w * 7919) ^ (i % w * 131)) as u32 & 0xffff).collect();
    let mut screen = Screen::new(w as u32, h as u32).unwrap();
    update(&mut screen, &picture, None);
    for frame in 1..100 {
        for (i, p) in picture[..w * 128].iter_mut().enumerate() {
            *p = (i as u32 ^ frame << 20).wrapping_mul(0x9e37_79b1) >> 8;
        }
        assert_eq!(update(&mut screen, &picture, None).copy, None);
    }
    picture.copy_within(w * 220.., w * 200);
    let copy = update(&mut screen, &picture, None).copy.expect("a scroll");
    assert_eq!((copy.src.y - copy.dst_y, copy.src.w), (20, 256));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn copy_and_region_turn_the_old_screen_into_the_new(
        seed in any::<u32>(), shift in 0usize..60, spots in prop::collection::vec((0usize..160, 0usize..150), 0..6),
    ) {
        let (w, h) = (160usize, 150usize);
        let page = |from: usize| -> Vec<u32> {
            (from..from + h)
                .flat_map(|y| (0..w).map(move |x| (y as u32).wrapping_mul(seed | 1) ^ (x as u32 * 77)))
                .map(|p| p & 0x00ff_ffff)
                .collect()
        };
        let mut screen = Screen::new(w as u32, h as u32).unwrap();
        update(&mut screen, &page(0), None);
        let mut model = screen.clone();
        let mut next = page(shift);
        for (x, y) in spots {
            next[y * w + x] ^= 0x10;
        }
        let change = update(&mut screen, &next, None);
        prop_assert_eq!(screen.pixels(), &next[..]);
        if let Some(copy) = change.copy {
            model.copy_within(copy);
        }
        for r in change.region.rects() {
            model.copy_from(&Bytes { bytes: &frame_of(&next), stride: w * 4 }, r, &mut Vec::new());
        }
        prop_assert_eq!(model.pixels(), &next[..]);
    }
}
