//! What a real guest's own player plays is heard by viewers: as samples by those that know QEMU's audio messages, as Opus by
//! those that know that, and in Chromium.

#![allow(clippy::unwrap_used)]

use lucarne_rfb::audio::{Audio, AudioFormat, AudioRequest, Sample};
use lucarne_tests::browser::Browser;
use lucarne_tests::guest::Guest;
use lucarne_tests::poll::{LIMIT, urging};
use lucarne_tests::server::Server;
use lucarne_tests::tone::{loudest, wav};
use lucarne_tests::viewer::Vnc;
use opusic_c::{Channels, Decoder, SampleRate};

/// Seconds of a tone.
const TONE: u32 = 4;

/// What must have come of it at least, seconds. An emulated guest on a busy machine does not always keep up with its own
/// sound.
const LEAST: f64 = 1.0;

/// What may come after the last tone at most, seconds: the silence that is sent before it counts as such, and what a player
/// in an emulated guest has in its buffers.
const REST: f64 = 2.0;

/// A player's command line in the guest, of the tone of so many Hz; it goes on beside what follows.
fn play(guest: &Guest, hz: f64) {
    let file = format!("/home/user/{hz}.wav");
    guest.put(&file, &wav(hz, TONE));
    guest.must(&format!(
        "chmod 644 {file}; runuser -u user -- env XDG_RUNTIME_DIR=/run/user/1000 paplay {file} \
         >/home/user/paplay.log 2>&1 </dev/null &"
    ));
}

/// Everything from the next beginning to its end; nothing comes before it.
fn heard(viewer: &mut Vnc) -> Vec<Vec<u8>> {
    assert_eq!(viewer.hear().unwrap(), Audio::Begin);
    let mut pieces = Vec::new();
    loop {
        match viewer.hear().unwrap() {
            Audio::Data(piece) => pieces.push(piece),
            Audio::End => return pieces,
            Audio::Begin => panic!("sound began twice"),
        }
    }
}

/// The left channel's samples are the tone, for no longer than it was played.
fn assert_tone(samples: &[f64], rate: u32, hz: f64) {
    let seconds = samples.len() as f64 / f64::from(rate);
    println!("{seconds:.2} s of sound, {:.1} Hz of {hz} Hz", loudest(samples, rate));
    assert!((loudest(samples, rate) / hz - 1.0).abs() < 0.01, "{} Hz, not {hz} Hz", loudest(samples, rate));
    let range = LEAST..f64::from(TONE) + REST;
    assert!(range.contains(&seconds), "{seconds} s of sound came of {TONE} s");
}

#[test]
fn a_tone_in_the_guest_reaches_viewers_as_samples_and_as_opus_and_silence_reaches_nobody() {
    let server = Server::start();
    let connection = server.connect(&server.user("anna"));
    let guest = server.guest(&connection);
    let mut samples = Vnc::connect(&server, "anna").unwrap();
    let rate = 44_100;
    samples
        .listen(AudioRequest::Format(AudioFormat { sample: Sample::S16, channels: 2, frequency: rate }))
        .unwrap();

    for hz in [440.0, 1000.0] {
        play(&guest, hz);
        let left: Vec<f64> = heard(&mut samples)
            .concat()
            .chunks_exact(4)
            .map(|frame| f64::from(i16::from_le_bytes([frame[0], frame[1]])))
            .collect();
        assert_tone(&left, rate, hz);
    }
    drop(samples);

    let mut opus = Vnc::connect(&server, "anna").unwrap();
    opus.listen(AudioRequest::Opus).unwrap();
    for hz in [440.0, 1000.0] {
        play(&guest, hz);
        let mut decoder = Decoder::new(Channels::Stereo, SampleRate::Hz48000).unwrap();
        let mut left = Vec::new();
        for packet in heard(&mut opus) {
            let mut frame = [0f32; 1920];
            assert_eq!(decoder.decode_float_to_slice(&packet, &mut frame, false).unwrap(), 960);
            left.extend(frame.chunks_exact(2).map(|frame| f64::from(frame[0])));
        }
        assert_tone(&left, 48_000, hz);
    }
    server.stop();
}

#[test]
fn chromium_plays_the_guests_tone_until_it_is_muted() {
    let server = Server::start();
    let anna = server.user("anna");
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Browser::start(profile.path());
    browser.sign_in(&server, "anna");
    browser.connect();
    let guest = server.guest(&server.connect(&anna));
    let hears = |browser: &mut Browser, hz: f64| {
        urging("Chromium plays the tone", LIMIT, |urge| {
            if urge {
                play(&guest, hz);
            }
            let heard = browser.hears()?;
            println!("{heard:.1} Hz of {hz} Hz");
            ((heard / hz - 1.0).abs() < 0.01).then_some(())
        });
    };
    hears(&mut browser, 440.0);
    hears(&mut browser, 1000.0);
    assert_eq!(browser.toggle_sound(), "Unmute");
    urging("Chromium plays nothing any more", LIMIT, |_| browser.hears().is_none().then_some(()));
    assert_eq!(browser.toggle_sound(), "Mute");
    hears(&mut browser, 440.0);
    browser.close();
    server.stop();
}
