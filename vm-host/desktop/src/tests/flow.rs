//! A viewer behind a slow link, which is one that answers fences late.

use super::viewing::ready;
use super::{Client, Host};
use crate::testing::Canvas;
use lucarne_driver::Damage;
use lucarne_rfb::Rect;
use lucarne_rfb::client::{ServerEvent, write};
use lucarne_rfb::encodings as enc;

/// No two pixels alike, so that every pixel takes its bytes.
fn noise(width: u32, height: u32) -> Canvas {
    let mut canvas = Canvas::new(width, height);
    for y in 0..height {
        for x in 0..width {
            canvas.fill((x, y, 1, 1), (x * 131 + y * 7919).wrapping_mul(2_654_435_761) >> 8);
        }
    }
    canvas
}

/// A viewer with continuous updates that has answered the first fence and will answer no other unless told to.
async fn slow(host: &Host) -> Client {
    let mut client = host.view(false).await;
    client.set_encodings(&[enc::RAW, enc::FENCE, enc::CONTINUOUS_UPDATES]).await;
    answer_fence(&mut client).await;
    client.send(|out| write::enable_continuous_updates(true, Rect::new(0, 0, u16::MAX, u16::MAX), out)).await;
    client
}

/// Answers the next fence, and gives the rectangles that came before it.
async fn answer_fence(client: &mut Client) -> Vec<Rect> {
    let mut drawn = Vec::new();
    loop {
        match client.event().await {
            ServerEvent::Drawn { rect, .. } => drawn.push(rect),
            ServerEvent::Fence { flags, payload } => {
                assert_eq!(flags, 1 << 31 | 1);
                client.send(|out| write::fence(1, &payload, out)).await;
                return drawn;
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_picture_comes_in_parts_and_what_is_new_comes_before_its_rest() {
    let mut canvas = noise(1600, 1200);
    let host = ready(&canvas).await;
    let sink = host.sink().await;
    let mut client = slow(&host).await;
    let first: u64 = answer_fence(&mut client).await.iter().map(Rect::area).sum();
    assert!(first > 0 && first < 1600 * 1200 / 4, "{first} pixels came at once");
    let spot = Rect::new(1500, 1100, 8, 8);
    canvas.fill((1500, 1100, 8, 8), 0x00ff_ffff);
    sink.update(canvas.frame(), Damage { x: 1500, y: 1100, width: 8, height: 8 });
    // What was on its way already comes first.
    let mut before = 0;
    loop {
        let drawn = answer_fence(&mut client).await;
        if drawn.iter().any(|rect| rect.contains(&spot)) {
            break;
        }
        before += drawn.iter().map(Rect::area).sum::<u64>();
        assert!(before < 1600 * 1200 / 2, "{before} pixels came before the new ones");
    }
    while client.viewer.framebuffer().pixels() != canvas.pixels() {
        answer_fence(&mut client).await;
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_answers_no_fence_gets_everything() {
    let canvas = noise(320, 240);
    let host = ready(&canvas).await;
    let mut client = host.view(false).await;
    client.set_encodings(&[enc::RAW, enc::FENCE]).await;
    client.request(false).await;
    client.wait_updated().await;
    assert_eq!(client.viewer.framebuffer().pixels(), canvas.pixels());
    host.stop().await;
}
