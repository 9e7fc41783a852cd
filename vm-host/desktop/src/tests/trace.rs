//! The trace: what an update cost is told stage by stage, to whoever asks at the door.

use super::viewing::ready;
use super::{Client, Host, within};
use crate::testing::{Canvas, eventually};
use lucarne_control::link::{Opened, Purpose};
use lucarne_control::trace::{InputKind, Trace, UpdateTrace};
use lucarne_driver::Damage;
use lucarne_rfb::client::{ServerEvent, write};
use lucarne_rfb::encodings as enc;
use std::time::Duration;
use tokio::io::AsyncReadExt;

async fn trace(host: &Host, last: u32) -> Trace {
    let (mut stream, opened) = host.connect(&host.open(Purpose::Trace { last })).await;
    assert_eq!(opened, Opened::Ok);
    let mut json = Vec::new();
    within(stream.read_to_end(&mut json)).await.unwrap();
    serde_json::from_slice(&json).unwrap()
}

/// Answers every fence until the picture is this.
async fn follow(client: &mut Client, pixels: &[u32]) {
    while client.viewer.framebuffer().pixels() != pixels {
        if let ServerEvent::Fence { flags, payload } = client.event().await {
            client.send(|out| write::fence(flags & !(1 << 31), &payload, out)).await;
        }
    }
}

/// What is told when so many updates are put down to input. Answers fences meanwhile.
async fn noted(host: &Host, client: &mut Client, typed: usize) -> Trace {
    loop {
        if let Ok(ServerEvent::Fence { flags, payload }) =
            tokio::time::timeout(Duration::from_millis(5), client.event()).await
        {
            client.send(|out| write::fence(flags & !(1 << 31), &payload, out)).await;
        }
        let told = trace(host, 256).await;
        if told.viewers[0].recent.iter().filter(|u| u.input.is_some()).count() >= typed {
            return told;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_followed_from_the_viewer_to_the_guest_and_back_to_its_present() {
    let mut canvas = Canvas::new(320, 200);
    let host = ready(&canvas).await;
    let mut client = host.view(false).await;
    client.set_encodings(&[enc::ZRLE, enc::COPY_RECT, enc::FENCE, enc::CONTINUOUS_UPDATES]).await;
    // Flow control begins with the answer to the server's first fence.
    let hello =
        client.wait(|e| if let ServerEvent::Fence { payload, .. } = e { Some(payload) } else { None }).await;
    client.send(|out| write::fence(1, &hello, out)).await;
    client.request(false).await;
    client.wait_updated().await;
    // Earlier, and the whole picture would be sent twice, the second time perhaps together with the first key's.
    client
        .send(|out| write::enable_continuous_updates(true, lucarne_rfb::Rect::new(0, 0, 320, 200), out))
        .await;
    let presented = |update: &UpdateTrace| update.input.is_some() && update.present_ms.is_some();
    // Fences go with some updates only, with fewer the slower the viewer answers: type until one was answered.
    let mut typed = 0;
    let told = within(async {
        loop {
            typed += 1;
            client.key(true, 30).await;
            client.key(false, 30).await;
            eventually("the key is with the guest", || host.vm().inputs().len() == 2 * typed).await;
            let (x, colour) = (typed as u32 % 34 * 9, 0x0001_0101 * (typed as u32 % 256));
            canvas.fill((x, 10, 8, 19), colour);
            host.sink().await.update(canvas.frame(), Damage { x, y: 10, width: 8, height: 19 });
            follow(&mut client, &canvas.pixels()).await;
            // An update is noted after it was sent: the viewer may be quicker, and so may the next key.
            let told = noted(&host, &mut client, typed).await;
            if typed >= 5 && told.viewers[0].recent.iter().any(presented) {
                break told;
            }
        }
    })
    .await;
    let viewer = &told.viewers[0];
    assert!(viewer.link.answers && !viewer.view_only && viewer.viewer == 1);
    let keys: Vec<_> = viewer.recent.iter().filter(|u| u.input == Some(InputKind::Key)).collect();
    assert_eq!(keys.len(), typed, "{:#?}", viewer.recent);
    for update in keys {
        assert_eq!((update.damages, update.pixels, update.rects), (1, 152, 1));
        let stages =
            [update.input_ms, update.guest_ms, update.compare_ms, update.wait_ms].map(Option::unwrap);
        let known = stages.iter().sum::<f64>() + update.encode_ms + update.send_ms;
        let sum = known + update.present_ms.unwrap_or_default();
        // Each is rounded to a microsecond.
        assert!((sum - update.total_ms).abs() < 0.01, "{update:?}");
    }
    assert!(
        viewer.stages.iter().all(|s| s.p50_ms <= s.p95_ms && s.p95_ms <= s.p99_ms && s.p99_ms <= s.max_ms)
    );
    assert_eq!(trace(&host, 2).await.viewers[0].recent.len(), 2);
    drop(client);
    within(async { while !trace(&host, 0).await.viewers.is_empty() {} }).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_looks_is_traced_without_input() {
    let mut canvas = Canvas::new(64, 64);
    let host = ready(&canvas).await;
    let mut client = host.view(true).await;
    client.key(true, 30).await;
    client.request(false).await;
    client.wait_updated().await;
    canvas.fill((0, 0, 8, 8), 0x00ff_ffff);
    host.sink().await.update(canvas.frame(), Damage { x: 0, y: 0, width: 8, height: 8 });
    client.wait_picture(&canvas.pixels()).await;
    let told = within(async {
        loop {
            // An update is noted after it was sent: the viewer may be quicker.
            let told = trace(&host, 100).await;
            if told.viewers[0].updates >= 2 {
                break told;
            }
        }
    })
    .await;
    let viewer = &told.viewers[0];
    assert!(viewer.view_only && !viewer.link.answers);
    assert!(viewer.recent.iter().all(|u| u.input.is_none() && u.present_ms.is_none()));
    host.stop().await;
}
