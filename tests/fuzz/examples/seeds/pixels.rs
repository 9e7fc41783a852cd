//! Rectangles: what the display path's encoders make of small pictures, and forms that they never choose.

use super::{Seeds, with};
use lucarne_display::{Encoder, Extras, Screen, UNLIMITED, ViewerDamage};
use lucarne_fuzz::messages::formats;
use lucarne_fuzz::rects::record;
use lucarne_rfb::{ClientEncodings, Rect, encodings as enc};

/// Room for a message's head and a rectangle's.
const HEADS: usize = 4 + 12;

pub(super) fn seeds() -> Seeds {
    vec![
        ("rect_raw", [encoded(enc::RAW), copies()].concat()),
        ("rect_hextile", [encoded(enc::HEXTILE), hextiles()].concat()),
        ("rect_zlib", encoded(enc::ZLIB)),
        ("rect_zrle", [encoded(enc::ZRLE), tiles()].concat()),
        ("rect_tight", [encoded(enc::TIGHT), filters()].concat()),
        ("rect_jpeg", jpegs()),
        ("rect_h264", frames()),
        ("rect_cursor", shapes()),
        ("encode", drawings()),
    ]
}

/// Small pictures in each format, where one rectangle is enough for them.
fn encoded(encoding: i32) -> Vec<Vec<u8>> {
    let pictures: [&dyn Fn(u32, u32) -> u32; 5] = [
        &|_, _| 0x0033_6699,
        &|x, y| if (x / 3 + y) % 4 == 0 { 0x0010_1010 } else { 0x00ff_ffff },
        &|x, y| (x / 5 * 37) << 16 | (y / 4 * 11) << 8,
        &|x, y| x << 18 | y << 10 | (x + y),
        &|x, y| (x ^ y << 7).wrapping_mul(2_654_435_761) >> 8,
    ];
    let mut all = Vec::new();
    for (number, format) in (0u8..).zip(formats()) {
        let format_number = number;
        for (at, picture) in pictures.iter().enumerate().filter(|(at, _)| (at + usize::from(number)) % 3 == 0)
        {
            let (width, height) = if at == 4 { (9, 7) } else { (21, 17) };
            let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
            let bytes: Vec<u8> = pixels.flat_map(|(x, y)| picture(x, y).to_le_bytes()).collect();
            let mut screen = Screen::new(width, height).expect("a small screen");
            let mut damage = ViewerDamage::new(&screen);
            let change = screen.update(&bytes, width as usize * 4, screen.rect()).expect("a whole frame");
            damage.apply(&change);
            let list = ClientEncodings::new(vec![encoding]);
            let mut encoder = Encoder::new(format, list, screen.width(), screen.height());
            let mut out = Vec::new();
            let extras = Extras::default();
            let done = encoder.encode_update(&screen, damage.take(), &extras, UNLIMITED, &mut out);
            if done.expect("its own stream").rects == 1 {
                let rect = record(screen.rect(), &out[HEADS..]);
                // The same again shows what is kept from one rectangle to the next.
                all.push(with(&[format_number, 0, 11], &[&rect[..], &rect].concat()));
            }
        }
    }
    all
}

fn copies() -> Vec<Vec<u8>> {
    let raw = record(Rect::new(0, 0, 2, 1), &[1, 2, 3, 4, 5, 6, 7, 8]);
    [(1, 0), (79, 0), (200, 0), (0, 0xffff)]
        .into_iter()
        .map(|(x, y): (u16, u16)| {
            let place = [x.to_be_bytes(), y.to_be_bytes()].concat();
            with(&[0, 0, 3], &[&raw[..], &record(Rect::new(1, 1, 2, 2), &place)].concat())
        })
        .collect()
}

fn hextiles() -> Vec<Vec<u8>> {
    let rect = Rect::new(3, 3, 18, 5);
    [
        &[2 | 4 | 8, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0x12, 0x20, 0][..],
        &[8 | 16 | 2, 1, 0, 0, 0, 2, 5, 0, 0, 0, 0x00, 0x00, 6, 0, 0, 0, 0xff, 0x00, 0],
        &[0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
        &[8, 255, 0, 0],
    ]
    .into_iter()
    .map(|data| with(&[0, 0, 4], &record(rect, data)))
    .collect()
}

/// ZRLE's kinds of tiles before they are packed, for 8 bits per pixel.
fn tiles() -> Vec<Vec<u8>> {
    let rect = Rect::new(0, 0, 5, 3);
    [
        &[1, 7][..],
        &[2, 1, 2, 0b1010_1000, 0, 0xff],
        &[3, 1, 2, 3, 0b0001_1000, 0, 0, 0, 0, 0],
        &[
            16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x01, 0x23, 0x40, 0, 0, 0, 0xff, 0xff,
            0xf0,
        ],
        &[128, 7, 9, 8, 4],
        &[128, 7, 255, 255],
        &[130, 1, 2, 0x80, 9, 0x01, 0x81, 3],
        &[131, 1, 2, 3, 0x83, 14],
        &[129, 1],
        &[17, 1],
    ]
    .into_iter()
    .map(|data| with(&[2, 1, 6], &record(rect, data)))
    .collect()
}

/// Tight's kinds of rectangles before they are packed; every third one is Tight PNG.
fn filters() -> Vec<Vec<u8>> {
    let rect = Rect::new(0, 0, 11, 9);
    let one = |data: &[u8]| with(&[0, 1, 6], &[record(rect, data), record(rect, data)].concat());
    let mut all: Vec<Vec<u8>> = [
        &[0x80, 1, 2, 3][..],
        &[0x8f, 1, 2, 3],
        &[0x00, 1, 2, 3, 4, 5],
        &[0x41, 0, 7, 8, 9],
        &[0x52, 1, 1, 1, 2, 3, 4, 5, 6, 0x55, 0xaa],
        &[0x64, 1, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2],
        &[0x78, 2, 1, 255, 3, 128],
        &[0x40, 3],
        &[0x90, 3, 1, 2, 3],
        &[0xa0, 0x83, 0x80, 0, 1, 2, 3],
        &[0x90, 0xff, 0xff, 0xff],
        &[0xb0],
    ]
    .into_iter()
    .map(one)
    .collect();
    let first = record(rect, &[0x80, 1, 2, 3]);
    all.push(with(&[0, 0, 9], &[&first[..], &first, &record(rect, &[0xa0, 2, 5, 5])].concat()));
    all
}

fn jpegs() -> Vec<Vec<u8>> {
    let table = |marker: u8, length: u16, head: &[u8]| {
        let mut data = head.to_vec();
        data.resize(usize::from(length) - 2, 1);
        [&[0xff, marker][..], &length.to_be_bytes(), &data].concat()
    };
    let quantization = table(0xdb, 67, &[1]);
    let huffman = table(0xc4, 23, &[0x11, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let scan = [0xff, 0xda, 0, 3, 0, 1, 0xff, 0, 2, 0xff, 0xd0, 3, 0xff, 0xff];
    let picture = |tables: &[u8]| [&[0xff, 0xd8][..], tables, &scan, &[0xd9]].concat();
    let (full, bare) = (picture(&[quantization.clone(), huffman].concat()), picture(&[]));
    let rect = Rect::new(2, 3, 4, 5);
    [
        [record(rect, &full), record(rect, &bare)].concat(),
        [record(rect, &picture(&quantization)), record(rect, &full), record(rect, &bare)].concat(),
        record(rect, &[0xff, 0xd8, 0xff, 0xff, 0xff, 0xd9]),
        record(rect, &full[..20]),
        record(rect, &[0xff, 0xd8, 0xff, 0xe0, 0xff, 0xff]),
    ]
    .into_iter()
    .map(|data| with(&[0, 0, 5], &data))
    .collect()
}

fn frames() -> Vec<Vec<u8>> {
    let frame = |x: u16, flags: u32, data: &[u8]| {
        let body = [&(data.len() as u32).to_be_bytes()[..], &flags.to_be_bytes(), data].concat();
        record(Rect::new(x, 0, 1, 1), &body)
    };
    let many: Vec<u8> = (0..70).flat_map(|x| frame(x % 68, u32::from(x % 5 == 4), &[1, 2])).collect();
    [
        [frame(0, 1, &[0, 0, 1, 0x67]), frame(0, 0, &[5]), frame(0, 2, &[])].concat(),
        many,
        record(Rect::new(0, 0, 1, 1), &[0xff; 8]),
    ]
    .into_iter()
    .map(|data| with(&[0, 0, 5], &data))
    .collect()
}

/// Cursor, Cursor With Alpha, VMware Cursor.
fn shapes() -> Vec<Vec<u8>> {
    let mask = record(Rect::new(1, 0, 2, 2), &[&[9; 16][..], &[0x80, 0x40]].concat());
    let alpha = record(Rect::new(0, 1, 2, 1), &[0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let classic = [&[0, 0][..], &[0; 4], &[0xff; 4], &[7; 4], &[0xff; 4]].concat();
    let empty = record(Rect::default(), &[]);
    let other = record(Rect::new(0, 0, 1, 1), &[0, 0, 0, 7]);
    [
        [mask.clone(), alpha.clone(), record(Rect::new(0, 0, 2, 1), &classic)].concat(),
        [mask, alpha, record(Rect::new(0, 0, 1, 1), &[1, 0, 9, 8, 7, 128])].concat(),
        [empty.clone(), other, record(Rect::new(0, 0, 1, 1), &[2, 0])].concat(),
        [empty.clone(), record(Rect::default(), &[0; 4]), record(Rect::default(), &[1, 0])].concat(),
    ]
    .into_iter()
    .map(|data| with(&[0, 0, 5], &data))
    .collect()
}

fn drawings() -> Vec<Vec<u8>> {
    let draw = |pattern: u8, colour: u8| [0, 0, 140, 140, pattern, 0, colour, 0x55, 7];
    let mut all = Vec::new();
    for encoding in 0..5 {
        for format in [0, 1, 2, 8] {
            let patterns = [2, 4 | 24, 7 | 64, 5, 6, 0];
            let steps: Vec<u8> = patterns.into_iter().flat_map(|p| draw(p, p * 3)).collect();
            all.push(with(&[encoding, format, 99 + encoding, 70, format], &steps));
        }
    }
    all
}
