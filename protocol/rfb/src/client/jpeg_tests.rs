//! Where pictures end, in any chunking, and which tables they are decoded with.

use super::*;
use std::sync::{Arc, Mutex};

const RECT: Rect = Rect::new(0, 0, 1, 1);

fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    [&[0xff, marker][..], &(data.len() as u16 + 2).to_be_bytes(), data].concat()
}

fn quantization(number: u8, value: u8) -> Vec<u8> {
    segment(DQT, &[&[number][..], &[value; 64]].concat())
}

fn huffman(number: u8, value: u8) -> Vec<u8> {
    let mut lengths = [0; 16];
    lengths[3] = 2;
    segment(DHT, &[&[number][..], &lengths, &[value; 2]].concat())
}

/// A picture with these tables; its scan has stuffed zeros, a restart marker and a filled one, and there are two scans.
fn picture(tables: &[Vec<u8>]) -> Vec<u8> {
    let frame = segment(0xc0, &[8, 0, 1, 0, 1, 1, 1, 0x11, 0]);
    let scan = segment(SOS, &[1, 1, 0, 0, 63, 0]);
    let data = [1, 0xff, 0, 0xff, 0xd0, 2, 0xff, 0xff];
    [&[0xff, SOI][..], &tables.concat(), &frame, &scan, &data, &scan, &[3, 0xff, 0xff, EOI]].concat()
}

/// A decoder that keeps what it is given.
fn codecs() -> (Codecs, Arc<Mutex<Vec<Vec<u8>>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let jpeg = Box::new(move |picture: &[u8], _, _| {
        log.lock().unwrap().push(picture.to_vec());
        Some(vec![5])
    });
    (Codecs { jpeg: Some(jpeg), ..Codecs::default() }, seen)
}

#[test]
fn a_picture_ends_at_its_last_marker_however_its_bytes_come() {
    let whole = picture(&[quantization(0, 1), huffman(0, 1)]);
    let bytes = [&whole[..], &[0xff, EOI, 9]].concat();
    for step in [1, 2, 3, 7, bytes.len()] {
        let (mut codecs, seen) = codecs();
        let (mut jpeg, mut fb) = (Jpeg::default(), Framebuffer::new(1, 1).unwrap());
        let mut found = None;
        for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
            found = jpeg.rect(RECT, &bytes[..end], &mut codecs, &mut fb).unwrap();
            if found.is_some() {
                break;
            }
            assert!(end < whole.len(), "{end} of {} bytes and no end, {step} at a time", whole.len());
        }
        assert_eq!(found, Some(whole.len()));
        assert_eq!((seen.lock().unwrap().as_slice(), fb.pixel(0, 0)), (&[whole.clone()][..], Some(5)));
    }
}

#[test]
fn tables_that_a_picture_leaves_out_are_the_last_ones_of_that_number() {
    let (mut codecs, seen) = codecs();
    let (mut jpeg, mut fb) = (Jpeg::default(), Framebuffer::new(1, 1).unwrap());
    let mut show = |tables: &[Vec<u8>]| {
        jpeg.rect(RECT, &picture(tables), &mut codecs, &mut fb).unwrap();
        seen.lock().unwrap().pop().unwrap()
    };
    let first = [quantization(0, 1), quantization(1, 2), huffman(0x00, 3), huffman(0x11, 4)];
    assert_eq!(show(&first), picture(&first));
    let both = segment(DQT, &[&[0][..], &[1; 64], &[1], &[2; 64]].concat());
    let codes = |dc: u8, ac: u8| {
        let (dc, ac) = (huffman(0x00, dc), huffman(0x11, ac));
        segment(DHT, &[&dc[4..], &ac[4..]].concat())
    };
    assert_eq!(show(&[]), picture(&[both, codes(3, 4)]));
    let newer = quantization(1, 7);
    let older = quantization(0, 1);
    assert_eq!(show(std::slice::from_ref(&newer)), picture(&[older, codes(3, 4), newer.clone()]));
    let both = segment(DQT, &[&[0][..], &[1; 64], &[1], &[7; 64]].concat());
    assert_eq!(show(&[]), picture(&[both, codes(3, 4)]));
}

#[test]
fn what_is_no_jpeg_is_an_error_and_what_is_cut_short_waits() {
    let parse = |bytes: &[u8]| {
        let mut fb = Framebuffer::new(1, 1).unwrap();
        Jpeg::default().rect(RECT, bytes, &mut codecs().0, &mut fb)
    };
    let whole = picture(&[quantization(0, 1), huffman(0, 1)]);
    for length in 0..whole.len() {
        assert_eq!(parse(&whole[..length]), Ok(None), "{length} bytes");
    }
    for bad in [
        &[0, 0][..],
        &[0xff, EOI],
        &[0xff, SOI, 0xff, SOI],
        &[0xff, SOI, 0xff, 0],
        &[0xff, SOI, 1, 2],
        &[0xff, SOI, 0xff, 0xe0, 0, 1],
    ] {
        assert!(matches!(parse(bad), Err(DecodeError::Rules(_))), "{bad:x?}");
    }
    for tables in [
        segment(DQT, &[0; 64]),
        segment(DQT, &[&[4][..], &[1; 64]].concat()),
        segment(DQT, &[0x20]),
        segment(DHT, &[0; 16]),
        segment(DHT, &[&[0][..], &[255; 16], &[0; 4080]].concat()),
        segment(DHT, &[&[0x20][..], &[0; 16]].concat()),
    ] {
        assert_eq!(parse(&picture(&[tables])), Err(BROKEN));
    }
}

#[test]
fn a_picture_without_an_end_is_given_up_at_the_limit() {
    let mut bytes = picture(&[]);
    bytes.truncate(bytes.len() - 3);
    bytes.resize(MAX_RECT_BYTES + 1, 0);
    let mut fb = Framebuffer::new(1, 1).unwrap();
    let given_up = Jpeg::default().rect(RECT, &bytes, &mut codecs().0, &mut fb);
    assert_eq!(given_up, Err(DecodeError::Rules("a JPEG of more than 64 MiB")));
}
