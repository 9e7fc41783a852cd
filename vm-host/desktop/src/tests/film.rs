//! A guest that plays a film, before a viewer that takes video.

use super::viewing::ready;
use crate::testing::{Canvas, PATIENCE};
use lucarne_driver::Damage;
use lucarne_rfb::client::ServerEvent;
use lucarne_rfb::encodings as enc;
use std::time::{Duration, Instant};

const FILM: (u32, u32, u32, u32) = (40, 30, 160, 128);

fn draw(canvas: &mut Canvas, frame: u32) {
    let (left, top, width, height) = FILM;
    for y in 0..height {
        for x in 0..width {
            // Nothing that is only moved.
            let colour = ((x * 131) ^ (y * 7919) ^ (frame * 104_729)).wrapping_mul(2_654_435_761) >> 8;
            canvas.fill((left + x, top + y, 1, 1), colour);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_comes_as_video_and_becomes_exact_when_it_stops() {
    let mut canvas = Canvas::new(320, 240);
    canvas.fill((0, 0, 320, 240), 0x00ff_ffff);
    let host = ready(&canvas).await;
    let sink = host.sink().await;
    let mut client = host.view(false).await;
    client.set_encodings(&[enc::TIGHT, enc::QUALITY_0 + 8, enc::OPEN_H264]).await;
    client.request(false).await;
    client.wait_updated().await;
    let deadline = Instant::now() + PATIENCE;
    let mut ticks = tokio::time::interval(Duration::from_millis(30));
    let mut frames = 0..;
    let mut is_video = false;
    while !is_video {
        assert!(Instant::now() < deadline, "no video came");
        ticks.tick().await;
        draw(&mut canvas, frames.next().unwrap_or_default());
        let (x, y, width, height) = FILM;
        sink.update(canvas.frame(), Damage { x, y, width, height });
        client.request(true).await;
        is_video = loop {
            match client.event().await {
                ServerEvent::Drawn { encoding: enc::OPEN_H264, .. } => break true,
                ServerEvent::Updated { .. } => break false,
                _ => {}
            }
        };
    }
    // What the viewer's decoder makes of it is far from the guest's picture.
    assert!(client.viewer.framebuffer().pixels() != canvas.pixels());
    client.wait_picture(&canvas.pixels()).await;
    host.stop().await;
}
