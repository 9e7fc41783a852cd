//! Streams judged by openh264's decoder.

use super::*;
use crate::video::testing::{film, h264_decoder, psnr};
use lucarne_rfb::client::{H264Decoder, H264Frames};

const SCREEN: (u16, u16) = (400, 300);
const RECT: Rect = Rect::new(34, 20, 322, 182);

fn screen(frame: u32) -> Screen {
    let mut screen = Screen::new(SCREEN.0.into(), SCREEN.1.into()).unwrap();
    let width = usize::from(SCREEN.0);
    let pixels = (0..width * usize::from(SCREEN.1)).map(|i| film(i % width, i / width, frame));
    let bytes: Vec<u8> = pixels.flat_map(u32::to_le_bytes).collect();
    screen.update(&bytes, width * 4, screen.rect()).unwrap();
    screen
}

fn wanted(screen: &Screen, rect: Rect) -> Vec<u32> {
    (rect.y..rect.y + rect.h).flat_map(|y| screen.row(rect, y)).copied().collect()
}

/// An encoder and a decoder of one film.
struct Pair {
    encoder: H264Encoder,
    decoder: H264Decoder,
    fresh: bool,
}

impl Pair {
    fn new(quantiser: u8) -> Self {
        Self { encoder: H264Encoder::new(RECT, quantiser).unwrap(), decoder: h264_decoder(), fresh: true }
    }

    /// Codes and decodes a frame; gives bytes and PSNR.
    fn show(&mut self, frame: u32, alone: bool) -> (usize, f64) {
        let (screen, mut data) = (screen(frame), Vec::new());
        assert!(self.encoder.encode(&screen, alone, &mut data));
        let fresh = std::mem::take(&mut self.fresh);
        let frames = H264Frames { rect: RECT, context: 0, fresh, data: &data };
        let seen = (self.decoder)(frames).expect("a picture at once");
        (data.len(), psnr(&seen, &wanted(&screen, RECT)))
    }
}

/// The types of the stream's NAL units (ITU-T H.264, table 7-1).
fn units(data: &[u8]) -> Vec<u8> {
    data.windows(4).filter(|w| w[..3] == [0, 0, 1]).map(|w| w[3] & 0x1f).collect()
}

#[test]
fn every_frame_is_shown_at_once_and_looks_like_its_source() {
    let mut pair = Pair::new(22);
    for frame in 0..40 {
        let (bytes, quality) = pair.show(frame, false);
        // 4:2:0 alone costs little here; the rest is the quantiser's.
        assert!(quality > 33.0, "{quality:.1} dB in frame {frame}");
        assert!(bytes < 40_000, "{bytes} bytes in frame {frame}");
    }
}

#[test]
fn frames_after_the_first_are_smaller() {
    let mut pair = Pair::new(26);
    let (first, _) = pair.show(0, false);
    let rest: usize = (1..20).map(|frame| pair.show(frame, false).0).sum();
    assert!(rest / 19 * 2 < first, "{} bytes a frame after {first}", rest / 19);
}

#[test]
fn the_quantiser_takes_effect_without_beginning_anew() {
    let mut pair = Pair::new(40);
    let coarse = (0..10).map(|frame| pair.show(frame, false)).last().unwrap();
    pair.encoder.set_quantiser(20);
    let fine = (10..30).map(|frame| pair.show(frame, false)).last().unwrap();
    assert!(fine.1 > coarse.1 + 3.0, "{fine:?} after {coarse:?}");
    let mut data = Vec::new();
    assert!(pair.encoder.encode(&screen(30), false, &mut data));
    assert_eq!(units(&data), [1], "a slice of a picture that needs another one");
}

#[test]
fn a_frame_is_one_slice_and_one_that_stands_alone_has_its_parameters() {
    let mut encoder = H264Encoder::new(RECT, 24).unwrap();
    let mut kinds = Vec::new();
    for (frame, alone) in [(0, false), (1, false), (2, true), (3, false)] {
        let mut data = Vec::new();
        assert!(encoder.encode(&screen(frame), alone, &mut data));
        assert_eq!(data[..4], [0, 0, 0, 1]);
        kinds.push(units(&data));
    }
    // 7 and 8: parameters of sequence and picture; 5: a slice that stands alone; 1: one that does not.
    assert_eq!(kinds, [vec![7, 8, 5], vec![1], vec![7, 8, 5], vec![1]]);
}

#[test]
fn a_decoder_that_begins_late_can_begin_with_a_frame_that_stands_alone() {
    let mut pair = Pair::new(24);
    (0..5).for_each(|frame| {
        pair.show(frame, false);
    });
    (pair.decoder, pair.fresh) = (h264_decoder(), true);
    assert!(pair.show(5, true).1 > 30.0);
    assert!(pair.show(6, false).1 > 30.0);
}

#[test]
fn the_stream_says_constrained_baseline_and_full_range_bt_709() {
    let mut data = Vec::new();
    assert!(H264Encoder::new(RECT, 24).unwrap().encode(&screen(0), false, &mut data));
    // profile_idc 66 with constraint_set0_flag and constraint_set1_flag.
    assert_eq!((data[4] & 0x1f, data[5], data[6] & 0xc0), (7, 66, 0xc0));
    // In the VUI: video_signal_type_present_flag 1, video_format 5, full range 1, description 1, then 1, 13 and 1.
    let bits: Vec<u8> =
        data[4..40].iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1)).collect();
    let text = |value: u32, n: u32| (0..n).rev().map(move |i| (value >> i & 1) as u8);
    let signal: Vec<u8> = [(1, 1), (5, 3), (1, 1), (1, 1), (1, 8), (13, 8), (1, 8)]
        .into_iter()
        .flat_map(|(value, n)| text(value, n))
        .collect();
    assert!(bits.windows(signal.len()).any(|w| w == signal), "{bits:?}");
}

#[test]
fn the_least_and_the_largest_film_can_be_coded() {
    for (w, h) in [(64u16, 256u16), (256, 64), (66, 248), (2048, 1280)] {
        let mut screen = Screen::new(w.into(), h.into()).unwrap();
        let bytes: Vec<u8> = (0..usize::from(w) * usize::from(h) * 4).map(|i| (i / 4 % 251) as u8).collect();
        screen.update(&bytes, usize::from(w) * 4, screen.rect()).unwrap();
        let rect = screen.rect();
        let mut data = Vec::new();
        assert!(H264Encoder::new(rect, 30).unwrap().encode(&screen, false, &mut data), "{w}×{h}");
        let seen = h264_decoder()(H264Frames { rect, context: 0, fresh: true, data: &data }).unwrap();
        let quality = psnr(&seen, screen.pixels());
        assert!(quality > 25.0, "{quality:.1} dB at {w}×{h}");
    }
}

#[test]
fn what_openh264_refuses_is_told_and_leaves_nothing_behind() {
    let mut data = vec![9];
    let mut encoder = H264Encoder::new(Rect::new(0, 0, 4096, 16), 30).unwrap();
    assert!(!encoder.encode(&Screen::new(4096, 16).unwrap(), false, &mut data));
    assert_eq!(data, [9]);
}

#[test]
fn a_stream_begins_as_fine_as_it_goes_on() {
    for quantiser in [16, 20, 34] {
        let mut pair = Pair::new(quantiser);
        let (first, quality) = pair.show(0, false);
        let later: Vec<_> = (1..10).map(|frame| pair.show(frame, false)).collect();
        let (least, most) =
            (later.iter().map(|l| l.1)).fold((f64::MAX, 0f64), |(a, b), q| (a.min(q), b.max(q)));
        assert!(
            (least - 2.0..most + 2.0).contains(&quality),
            "{quality:.1} dB, then {least:.1} to {most:.1}"
        );
        assert!(first > later[8].0, "{first} bytes of the first, then {}", later[8].0);
    }
}

#[test]
fn noise_is_coded_too() {
    for quantiser in [10, 15, 20, 26, 40] {
        let mut encoder = H264Encoder::new(RECT, quantiser).unwrap();
        let mut screen = Screen::new(SCREEN.0.into(), SCREEN.1.into()).unwrap();
        for frame in 0..5u32 {
            let pixels = (0..u32::from(SCREEN.0) * u32::from(SCREEN.1)).map(|i| i ^ frame << 20);
            let bytes: Vec<u8> =
                pixels.flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 8).to_le_bytes()).collect();
            let all = screen.rect();
            screen.update(&bytes, usize::from(SCREEN.0) * 4, all).unwrap();
            assert!(encoder.encode(&screen, false, &mut Vec::new()), "frame {frame} at {quantiser}");
        }
    }
}
