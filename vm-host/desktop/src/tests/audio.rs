//! Sound: who is offered it, who gets it and as what, and what becomes of it where the link is too slow.

use super::viewing::{ready, started};
use super::{Client, Host};
use crate::config::Done;
use crate::testing::{Canvas, FakeLauncher, config};
use lucarne_driver::AudioSink;
use lucarne_rfb::audio::{Audio, AudioFormat, AudioRequest, Sample};
use lucarne_rfb::client::{ServerEvent, write};
use lucarne_rfb::encodings as enc;
use opusic_c::{Channels, Decoder, SampleRate};
use std::sync::Arc;

/// Samples of 20 ms, both channels together.
const FRAME: usize = 1920;

fn player(host: &Host) -> Arc<dyn AudioSink> {
    host.vm().audio().expect("the desktop process listens")
}

/// A viewer that has been offered sound of this kind and asked for it.
async fn hearing(host: &Host, kind: i32, format: AudioRequest) -> Client {
    let mut client = host.view(true).await;
    client.set_encodings(&[enc::RAW, enc::LAST_RECT, kind]).await;
    client.request(false).await;
    client.wait(|e| (e == ServerEvent::Acknowledged(kind)).then_some(())).await;
    for request in [format, AudioRequest::Enable] {
        client.send(|out| write::audio(&request, out)).await;
    }
    settle(&mut client).await;
    client
}

/// Waits until the server has handled what the client said; gives the sound that came meanwhile.
async fn settle(client: &mut Client) -> Vec<Audio> {
    client.send(|out| write::fence(1 << 31, b"settled", out)).await;
    let mut sound = Vec::new();
    loop {
        match client.event().await {
            ServerEvent::Fence { payload, .. } if payload == b"settled" => return sound,
            ServerEvent::Audio(audio) => sound.push(audio),
            ServerEvent::Acknowledged(kind) if kind == enc::QEMU_AUDIO => panic!("sound is offered"),
            _ => {}
        }
    }
}

async fn heard(client: &mut Client) -> Audio {
    client.wait(|e| if let ServerEvent::Audio(audio) = e { Some(audio) } else { None }).await
}

const S16: AudioFormat = AudioFormat { sample: Sample::S16, channels: 2, frequency: 48_000 };

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_only_looks_hears_the_guest_as_it_asked_and_nothing_of_silence() {
    let host = ready(&Canvas::new(64, 64)).await;
    let mut client = hearing(&host, enc::QEMU_AUDIO, AudioRequest::Format(S16)).await;
    let mut decoder = Decoder::new(Channels::Stereo, SampleRate::Hz48000).unwrap();
    let mut browser = hearing(&host, enc::OPUS_AUDIO, AudioRequest::Opus).await;
    let player = player(&host);
    player.samples(&[0; FRAME]);
    assert_eq!((settle(&mut client).await, settle(&mut browser).await), (vec![], vec![]));
    player.samples(&[0x1234; FRAME]);
    player.stopped();
    assert_eq!(heard(&mut client).await, Audio::Begin);
    assert_eq!(heard(&mut client).await, Audio::Data([0x34, 0x12].repeat(FRAME)));
    assert_eq!(heard(&mut client).await, Audio::End);
    assert_eq!(heard(&mut browser).await, Audio::Begin);
    let Audio::Data(packet) = heard(&mut browser).await else { panic!("no packet") };
    let mut samples = [0f32; FRAME];
    assert_eq!(decoder.decode_float_to_slice(&packet, &mut samples, false).unwrap(), FRAME / 2);
    assert!(samples.iter().any(|sample| *sample > 0.05), "it can be heard");
    assert_eq!(heard(&mut browser).await, Audio::End);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_that_is_disabled_ends_and_the_rest_is_not_sent() {
    let host = ready(&Canvas::new(64, 64)).await;
    let mut client = hearing(&host, enc::QEMU_AUDIO, AudioRequest::Format(S16)).await;
    player(&host).samples(&[500; FRAME]);
    assert_eq!(heard(&mut client).await, Audio::Begin);
    assert!(matches!(heard(&mut client).await, Audio::Data(_)));
    client.send(|out| write::audio(&AudioRequest::Disable, out)).await;
    assert_eq!(settle(&mut client).await, [Audio::End]);
    player(&host).samples(&[500; FRAME]);
    assert_eq!(settle(&mut client).await, []);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_policy_is_against_it_sound_is_neither_taken_nor_offered_nor_given() {
    let mut config = config();
    config.audio = false;
    let host = Host::start_as(FakeLauncher::new(), Done::default(), config);
    let host = started(host, &Canvas::new(64, 64)).await;
    assert!(host.vm().audio().is_none());
    let mut client = host.view(false).await;
    client.set_encodings(&[enc::RAW, enc::LAST_RECT, enc::QEMU_AUDIO, enc::OPUS_AUDIO]).await;
    client.request(false).await;
    client.wait_updated().await;
    client.send(|out| write::audio(&AudioRequest::Enable, out)).await;
    assert_eq!(settle(&mut client).await, []);
    host.stop().await;
}

/// A viewer that has answered the first fence and keeps the next, behind which as much is under way as may be.
#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_more_fits_on_the_link_old_sound_is_lost_and_the_picture_is_not() {
    let mut canvas = Canvas::new(400, 400);
    let host = ready(&canvas).await;
    let sink = host.sink().await;
    let mut client = host.view(false).await;
    client.set_encodings(&[enc::RAW, enc::FENCE, enc::QEMU_AUDIO, enc::CONTINUOUS_UPDATES]).await;
    let fence = async |client: &mut Client| {
        client.wait(|e| if let ServerEvent::Fence { payload, .. } = e { Some(payload) } else { None }).await
    };
    let first = fence(&mut client).await;
    client.send(|out| write::fence(1, &first, out)).await;
    let whole = lucarne_rfb::Rect::new(0, 0, u16::MAX, u16::MAX);
    client.send(|out| write::enable_continuous_updates(true, whole, out)).await;
    for request in [AudioRequest::Format(S16), AudioRequest::Enable] {
        client.send(|out| write::audio(&request, out)).await;
    }
    // The whole picture is more than the window of a viewer of which little is known.
    let held = fence(&mut client).await;
    canvas.fill((0, 0, 400, 400), 0x0012_3456);
    sink.scanout(canvas.frame());
    let player = player(&host);
    for level in 1..=200 {
        player.samples(&[level * 100; FRAME]);
    }
    // From here on everything is answered.
    client.send(|out| write::fence(1, &held, out)).await;
    let mut levels = Vec::new();
    while client.viewer.framebuffer().pixels() != canvas.pixels() || levels.last() != Some(&20_000) {
        match client.event().await {
            ServerEvent::Audio(Audio::Data(data)) => levels.push(i16::from_le_bytes([data[0], data[1]])),
            ServerEvent::Fence { payload, .. } => client.send(|out| write::fence(1, &payload, out)).await,
            _ => {}
        }
    }
    assert!(levels.is_sorted() && levels.len() < 150, "{} frames of 200 came: {levels:?}", levels.len());
    host.stop().await;
}
