use super::*;
use lucarne_rfb::audio::{AudioFormat, Sample};
use opusic_c::{Channels, Decoder, SampleRate};
use std::f64::consts::TAU;

/// A tone of this frequency, Hz, for so many frames; the right channel is half as loud.
fn tone(hz: f64, frames: usize) -> Vec<i16> {
    let at = |i: usize| (10_000.0 * (TAU * hz * i as f64 / f64::from(SAMPLE_RATE)).sin()) as i16;
    (0..frames * FRAME / CHANNELS).flat_map(|i| [at(i), at(i) / 2]).collect()
}

/// The strongest frequency of a channel, Hz: the one that crosses zero so often.
fn frequency(samples: &[f64], rate: f64) -> f64 {
    let up: Vec<usize> = (1..samples.len()).filter(|&i| samples[i - 1] < 0.0 && samples[i] >= 0.0).collect();
    let (first, last) = (up[0], up[up.len() - 1]);
    (up.len() - 1) as f64 * rate / (last - first) as f64
}

fn audio() -> Arc<Audio> {
    Arc::default()
}

fn listen(audio: &Arc<Audio>, coding: Coding) -> Listener {
    audio.listen(coding, Arc::default())
}

#[test]
fn nothing_is_coded_while_nobody_listens() {
    let audio = audio();
    audio.samples(&tone(440.0, 3));
    assert!(audio.state().gathered.is_empty() && !audio.state().playing);
    let pcm = listen(&audio, Coding::Pcm);
    audio.samples(&tone(440.0, 1));
    assert_eq!(pcm.take().frames[0].packet, None, "nobody wants it as Opus");
    let opus = listen(&audio, Coding::Opus);
    audio.samples(&tone(440.0, 1));
    assert!(opus.take().frames[0].packet.is_some());
    drop((pcm, opus));
    assert!(!audio.heard.load(Ordering::Relaxed) && audio.state().opus.is_none());
}

#[test]
fn silence_ends_the_sound_after_a_while_and_the_next_sample_starts_it_at_once() {
    let audio = audio();
    let listener = listen(&audio, Coding::Pcm);
    let take = || {
        let waiting = listener.take();
        (waiting.frames.len(), waiting.playing)
    };
    audio.samples(&vec![0; FRAME * 10]);
    assert_eq!(take(), (0, false), "it has not begun");
    audio.samples(&tone(440.0, 2));
    assert_eq!(take(), (2, true));
    for _ in 0..HANGOVER {
        audio.samples(&vec![0; FRAME]);
        assert_eq!(take(), (1, true), "a pause between two words");
    }
    audio.samples(&vec![-1; FRAME * 5]);
    assert_eq!(take(), (0, false));
    let mut late = vec![0; FRAME];
    late[FRAME - 1] = 300;
    audio.samples(&late);
    assert_eq!(take(), (1, true));
}

#[test]
fn what_stops_in_the_middle_of_a_frame_is_heard_to_its_end() {
    let audio = audio();
    let listener = listen(&audio, Coding::Pcm);
    audio.samples(&[500; FRAME / 2]);
    assert!(listener.take().frames.is_empty());
    audio.stopped();
    let waiting = listener.take();
    assert_eq!(waiting.frames[0].samples, [vec![500; FRAME / 2], vec![0; FRAME / 2]].concat());
    assert!(!waiting.playing);
}

#[test]
fn a_slow_listener_loses_what_is_oldest_and_others_lose_nothing() {
    let audio = audio();
    let (slow, quick) = (listen(&audio, Coding::Pcm), listen(&audio, Coding::Pcm));
    let mut heard = 0;
    for level in 1..=20 {
        audio.samples(&[level * 100; FRAME]);
        heard += quick.take().frames.len();
    }
    assert_eq!(heard, 20);
    let levels: Vec<i16> = slow.take().frames.iter().map(|frame| frame.samples[0]).collect();
    assert_eq!(levels, [1700, 1800, 1900, 2000]);
}

#[test]
fn pieces_of_any_length_become_the_same_frames() {
    let audio = audio();
    let listener = listen(&audio, Coding::Pcm);
    let sound = tone(1000.0, 3);
    for piece in sound.chunks(482) {
        audio.samples(piece);
    }
    audio.stopped();
    let got: Vec<i16> = listener.take().frames.iter().flat_map(|frame| frame.samples.clone()).collect();
    assert_eq!(got, sound);
}

#[test]
fn opus_has_the_tone_and_few_bytes() {
    let audio = audio();
    let listener = listen(&audio, Coding::Opus);
    let mut decoder = Decoder::new(Channels::Stereo, SampleRate::Hz48000).unwrap();
    let (mut left, mut bytes) = (Vec::new(), 0);
    for frame in tone(1000.0, 50).chunks(FRAME) {
        audio.samples(frame);
        for frame in listener.take().frames {
            let packet = frame.packet.clone().unwrap();
            bytes += packet.len();
            let mut samples = vec![0f32; FRAME];
            assert_eq!(
                decoder.decode_float_to_slice(&packet, &mut samples, false).unwrap(),
                FRAME / CHANNELS
            );
            left.extend(samples.chunks(CHANNELS).map(|f| f64::from(f[0])));
        }
    }
    assert!(bytes < 20_000, "a second is {bytes} bytes");
    let hz = frequency(&left[9_600..], 48_000.0);
    assert!((hz - 1000.0).abs() < 1.0, "{hz} Hz");
}

fn convert(format: AudioFormat, sound: &[i16]) -> Vec<u8> {
    let mut converter = Converter::new(format, FRAME).unwrap();
    let mut out = Vec::new();
    sound.chunks(FRAME).for_each(|frame| converter.convert(frame, &mut out).unwrap());
    out
}

#[test]
fn samples_are_stored_as_the_viewer_asks() {
    let mut sound = vec![0; FRAME];
    sound[..4].copy_from_slice(&[0x1234, -0x1234, i16::MAX, i16::MIN]);
    let of = |sample, channels| {
        let out = convert(AudioFormat { sample, channels, frequency: SAMPLE_RATE }, &sound);
        assert_eq!(out.len(), FRAME / CHANNELS * usize::from(channels) * sample.bytes());
        out[..4 * sample.bytes()].to_vec()
    };
    assert_eq!(of(Sample::S16, 2), [0x34, 0x12, 0xcc, 0xed, 0xff, 0x7f, 0x00, 0x80]);
    assert_eq!(of(Sample::U16, 2), [0x34, 0x92, 0xcc, 0x6d, 0xff, 0xff, 0x00, 0x00]);
    assert_eq!(of(Sample::S8, 2), [0x12, 0xed, 0x7f, 0x80]);
    assert_eq!(of(Sample::U8, 2), [0x92, 0x6d, 0xff, 0x00]);
    assert_eq!(of(Sample::S32, 2)[..8], [0, 0, 0x34, 0x12, 0, 0, 0xcc, 0xed]);
    assert_eq!(of(Sample::U32, 2)[..8], [0, 0, 0x34, 0x92, 0, 0, 0xcc, 0x6d]);
    assert_eq!(of(Sample::S16, 1)[..4], [0, 0, 0xff, 0xff], "the mean of both channels");
}

#[test]
fn a_tone_keeps_its_frequency_at_every_rate() {
    for rate in [48_000, 44_100, 32_000, 22_050, 11_025, 8_000] {
        let format = AudioFormat { sample: Sample::S16, channels: 1, frequency: rate };
        let out = convert(format, &tone(440.0, 50));
        let samples: Vec<f64> = out.chunks(2).map(|b| f64::from(i16::from_le_bytes([b[0], b[1]]))).collect();
        let expected = rate as usize;
        assert!(samples.len().abs_diff(expected) < rate as usize / 50, "{} at {rate}", samples.len());
        let hz = frequency(&samples[samples.len() / 4..], rate.into());
        assert!((hz - 440.0).abs() < 2.0, "{hz} Hz at {rate}");
    }
}

#[test]
fn what_a_rate_cannot_hold_is_filtered_out() {
    let format = AudioFormat { sample: Sample::S16, channels: 1, frequency: 8_000 };
    let out = convert(format, &tone(7_000.0, 50));
    let loudest = out[4_000..].chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]]).unsigned_abs()).max();
    assert!(loudest.unwrap() < 100, "{loudest:?} of a tone that would be heard as 1 kHz");
}

#[test]
fn absurd_rates_are_served_too() {
    for rate in [1, 7, 50, 47_999] {
        let format = AudioFormat { sample: Sample::S16, channels: 2, frequency: rate };
        let out = convert(format, &tone(440.0, 100));
        assert!(out.len() <= 8 * rate as usize + 16, "{} bytes at {rate}", out.len());
    }
}
