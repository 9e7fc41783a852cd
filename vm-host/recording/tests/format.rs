//! What is written is read back: all of it, any part of it, and the screen at any time. What was changed is found.

#![allow(clippy::unwrap_used)]

use lucarne_display::{Encoder, Extras, Rect, Screen, UNLIMITED, ViewerDamage};
use lucarne_recording::{Header, ReadError, Recording, VERSION, Writer};
use lucarne_rfb::server::write;
use lucarne_rfb::{ClientEncodings, PixelFormat, encodings as enc};
use proptest::prelude::*;
use std::io::Cursor;
use std::time::Duration;

const ENCODINGS: [i32; 4] = [enc::TIGHT, enc::ZRLE, enc::COPY_RECT, enc::DESKTOP_SIZE];

fn header() -> Header {
    Header {
        version: VERSION,
        desktop: "d".into(),
        name: "desk-1".into(),
        session: Some("s".into()),
        pool: None,
        started_at_ms: 1_700_000_000_000,
        keep_days: Some(30),
        keep_mib: None,
    }
}

/// A file with its screens: the time of each and what was on it.
struct Written {
    bytes: Vec<u8>,
    screens: Vec<(Duration, Vec<u32>)>,
    /// Where the block of each screen ends.
    ends: Vec<usize>,
    hash: [u8; 32],
}

#[derive(Clone, Debug)]
struct Step {
    after_ms: u64,
    key: bool,
    size: (u32, u32),
    fill: (u16, u16, u16, u16, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let fill = (0..90_u16, 0..60_u16, 1..50_u16, 1..40_u16, 0..0x0100_0000_u32);
    let size = prop_oneof![9 => Just((100, 70)), 1 => Just((64, 80))];
    (0..500_u64, prop::bool::weighted(0.2), size, fill).prop_map(|(after_ms, key, size, fill)| Step {
        after_ms,
        key,
        size,
        fill,
    })
}

/// A screen on which something was painted.
fn paint(screen: &mut Screen, (x, y, w, h, colour): (u16, u16, u16, u16, u32)) -> lucarne_display::Change {
    let (width, height) = (screen.width(), screen.height());
    let mut pixels = screen.pixels().to_vec();
    for row in y.min(height)..(y + h).min(height) {
        for column in x.min(width)..(x + w).min(width) {
            let at = usize::from(row) * usize::from(width) + usize::from(column);
            pixels[at] = (colour + u32::from(column % 3)) & 0x00ff_ffff;
        }
    }
    let bytes: Vec<u8> = pixels.iter().flat_map(|p| p.to_le_bytes()).collect();
    screen.update(&bytes, usize::from(width) * 4, Rect::new(0, 0, width, height)).unwrap()
}

fn write(steps: &[Step], finish: bool) -> Written {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    let mut screen = Screen::new(100, 70).unwrap();
    let mut damage = ViewerDamage::new(&screen);
    let encoder = |s: &Screen| {
        Encoder::new(PixelFormat::BGRX, ClientEncodings::new(ENCODINGS.to_vec()), s.width(), s.height())
    };
    let mut current = encoder(&screen);
    let (mut at, mut screens, mut ends) = (Duration::ZERO, Vec::new(), Vec::new());
    for (number, step) in steps.iter().enumerate() {
        at += Duration::from_millis(step.after_ms);
        if (u32::from(screen.width()), u32::from(screen.height())) != step.size {
            screen.resize(step.size.0, step.size.1).unwrap();
            damage = ViewerDamage::new(&screen);
        }
        damage.apply(&paint(&mut screen, step.fill));
        let mut out = Vec::new();
        let key = step.key || number == 0;
        if key {
            current = encoder(&screen);
            damage = ViewerDamage::new(&screen);
            write::server_init(screen.width(), screen.height(), &PixelFormat::BGRX, "desk-1", &mut out);
        }
        current.encode_update(&screen, damage.take(), &Extras::default(), UNLIMITED, &mut out).unwrap();
        if key { writer.key(at, &out) } else { writer.update(at, &out) }.unwrap();
        screens.push((at, screen.pixels().to_vec()));
        ends.push(usize::try_from(writer.bytes()).unwrap());
    }
    let (mut bytes, hash) = writer.finish(at).unwrap();
    if !finish {
        bytes.truncate(*ends.last().unwrap());
    }
    Written { bytes, screens, ends, hash }
}

fn open(bytes: &[u8]) -> Result<Recording<Cursor<Vec<u8>>>, ReadError> {
    Recording::open(Cursor::new(bytes.to_vec()))
}

/// The screen that was there then: the last of those up to that time, or the first.
fn expected(screens: &[(Duration, Vec<u32>)], at: Duration) -> &[u32] {
    let first = screens[0].0;
    &screens[screens.partition_point(|(time, _)| *time <= at.max(first)).saturating_sub(1)].1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn seeking_to_any_time_shows_what_playing_from_the_start_shows(
        steps in prop::collection::vec(step(), 1..30), ms in 0..16_000_u64, finish: bool,
    ) {
        let written = write(&steps, finish);
        let mut recording = open(&written.bytes).unwrap();
        prop_assert_eq!(recording.ended(), finish);
        let first = written.screens[0].0;
        for at in [Duration::from_millis(ms).max(first), first, Duration::from_secs(1 << 30)] {
            let frame = recording.frame(at).unwrap();
            prop_assert!(frame.screen.pixels() == expected(&written.screens, at), "at {:?}", at);
        }
    }

    #[test]
    fn a_file_that_was_cut_anywhere_is_read_up_to_the_cut(
        steps in prop::collection::vec(step(), 1..12), share in 0.0..1.0_f64,
    ) {
        let written = write(&steps, true);
        let cut = (written.bytes.len() as f64 * share) as usize;
        let whole = written.ends.iter().filter(|end| **end <= cut).count();
        match open(&written.bytes[..cut]) {
            Err(ReadError::NotOne(_)) => prop_assert_eq!(whole, 0),
            Err(other) => prop_assert!(false, "{}", other),
            Ok(mut recording) => {
                let checked = recording.check().unwrap();
                prop_assert!(!checked.ended);
                prop_assert_eq!(checked.keys + checked.updates, whole as u64);
                let last = recording.frame(Duration::from_secs(3600));
                match whole.checked_sub(1) {
                    None => prop_assert!(last.is_err()),
                    Some(at) => prop_assert!(last.unwrap().screen.pixels() == written.screens[at].1),
                }
            }
        }
    }

    #[test]
    fn a_byte_that_was_changed_is_found_or_leaves_a_file_without_its_end(
        steps in prop::collection::vec(step(), 1..8), share in 0.0..1.0_f64, bit in 0..8_u32,
    ) {
        let written = write(&steps, true);
        let at = (written.bytes.len() as f64 * share) as usize;
        let mut bytes = written.bytes.clone();
        bytes[at] ^= 1 << bit;
        match open(&bytes).and_then(|mut recording| recording.check()) {
            Ok(checked) => prop_assert!(!checked.ended, "byte {}", at),
            Err(error) => prop_assert!(!matches!(error, ReadError::Io(_)), "byte {}: {}", at, error),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        steps in prop::collection::vec(step(), 1..3),
        at in any::<prop::sample::Index>(),
    ) {
        let mut spoiled = write(&steps, true).bytes;
        let at = at.index(spoiled.len());
        let end = (at + bytes.len()).min(spoiled.len());
        spoiled[at..end].copy_from_slice(&bytes[..end - at]);
        if let Ok(mut recording) = open(&spoiled) {
            let _ = recording.check();
            let _ = recording.frame(Duration::from_secs(1));
        }
    }
}

fn steps(n: u16) -> Vec<Step> {
    let fill = |i: u16| (i, i, 20, 20, 0x00ff_0000 + u32::from(i) * 0x1234);
    (0..n).map(|i| Step { after_ms: 200, key: i % 5 == 0, size: (100, 70), fill: fill(i) }).collect()
}

#[test]
fn a_block_that_was_taken_out_or_put_elsewhere_is_found() {
    let written = write(&steps(10), true);
    assert_eq!(open(&written.bytes).unwrap().check().unwrap().hash, written.hash);
    let (all, third, fourth, fifth) = (&written.bytes, written.ends[2], written.ends[3], written.ends[4]);
    let without = [&all[..third], &all[fourth..]].concat();
    let turned = [&all[..third], &all[fourth..fifth], &all[third..fourth], &all[fifth..]].concat();
    for spoiled in [without, turned] {
        assert!(matches!(open(&spoiled).and_then(|mut r| r.check()), Err(ReadError::Broken(_))));
    }
}

#[test]
fn a_file_says_what_it_is_and_a_newer_one_is_refused() {
    let written = write(&steps(7), true);
    let mut recording = open(&written.bytes).unwrap();
    assert_eq!(recording.header(), &header());
    assert_eq!((recording.keys().len(), recording.duration()), (2, Duration::from_millis(1400)));
    let checked = recording.check().unwrap();
    assert_eq!((checked.keys, checked.updates, checked.ended), (2, 5, true));
    assert_eq!((checked.bytes, checked.length), (written.bytes.len() as u64, written.bytes.len() as u64));
    let newer = Writer::new(Vec::new(), &Header { version: VERSION + 1, ..header() }).unwrap();
    let (newer, _) = newer.finish(Duration::ZERO).unwrap();
    assert!(matches!(open(&newer), Err(ReadError::Newer(_))));
    assert!(matches!(open(b"FBS 001.000\n"), Err(ReadError::NotOne(_))));
}

#[test]
fn a_note_is_part_of_the_chain_and_no_screen() {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    writer.note(Duration::ZERO, r#"{"lost":"the disk is full"}"#).unwrap();
    let (bytes, _) = writer.finish(Duration::from_secs(1)).unwrap();
    let mut recording = open(&bytes).unwrap();
    assert_eq!(recording.check().unwrap().blocks, 4);
    assert!(recording.frame(Duration::ZERO).is_err(), "there is no screen");
}
