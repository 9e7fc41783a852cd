//! Several displays of one guest are one picture, to which viewers have screens.

use super::viewing::{drawing, ready};
use crate::testing::{Canvas, eventually};
use lucarne_driver::{Damage, InputEvent, Origin};
use lucarne_rfb::Rect;
use lucarne_rfb::client::{ServerEvent, write};
use lucarne_rfb::encodings as enc;
use lucarne_rfb::server::Screen;

/// Two pictures beside each other, the lower one with black below it.
fn beside(left: &Canvas, right: &Canvas) -> Vec<u32> {
    let sides = [left, right].map(|c| (c.pixels(), c.frame().width as usize));
    let height = left.frame().height.max(right.frame().height) as usize;
    let row = |y: usize| {
        sides.iter().flat_map(move |(pixels, width)| {
            let row = pixels.get(y * width..(y + 1) * width).map(<[u32]>::to_vec);
            row.unwrap_or_else(|| vec![0; *width])
        })
    };
    (0..height).flat_map(row).collect()
}

fn screen(id: u32, x: u16, w: u16, h: u16) -> Screen {
    Screen { id, rect: Rect::new(x, 0, w, h), flags: 0 }
}

fn resized(event: ServerEvent) -> Option<(u16, u16, u16, Vec<Screen>)> {
    match event {
        ServerEvent::Resized { width, height, reason, screens, .. } => Some((width, height, reason, screens)),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn displays_that_a_viewer_asks_for_are_one_picture_with_as_many_screens() {
    let (mut left, mut right) = (drawing(640, 480), drawing(800, 400));
    let host = ready(&left).await;
    let sink = host.sink().await;
    let mut client = host.view(false).await;
    client.set_encodings(&[enc::TIGHT, enc::EXTENDED_DESKTOP_SIZE]).await;
    client.request(false).await;
    assert_eq!(client.wait(resized).await, (640, 480, 0, vec![screen(0, 0, 640, 480)]));
    client.wait_updated().await;

    let wanted = [screen(7, 0, 640, 480), screen(3, 640, 800, 400)];
    client.send(|out| write::set_desktop_size(1440, 480, &wanted, out)).await;
    eventually("the guest is asked", || {
        host.vm().log().contains(&"arrange 640x480+0+0 800x400+640+0".to_owned())
    })
    .await;
    let part = |x| Some(Origin { buffer: 5, x, y: 0 });
    sink.scanout(left.frame_of(0, part(0)));
    sink.scanout(right.frame_of(1, part(640)));
    client.request(true).await;
    let both = loop {
        // The answer to the viewer's wish is one too.
        let told = client.wait(resized).await;
        if told.0 == 1440 && told.2 == 0 {
            break told;
        }
        client.request(true).await;
    };
    assert_eq!(both, (1440, 480, 0, wanted.to_vec()), "with the ids that the viewer gave them");
    client.wait_picture(&beside(&left, &right)).await;

    left.fill((10, 10, 30, 20), 0x00ff_0000);
    sink.update(left.frame_of(0, part(0)), Damage { x: 10, y: 10, width: 30, height: 20 });
    right.fill((700, 300, 90, 80), 0x0000_ff00);
    sink.update(right.frame_of(1, part(640)), Damage { x: 700, y: 300, width: 90, height: 80 });
    client.request(true).await;
    client.wait_picture(&beside(&left, &right)).await;

    client.send(|out| write::pointer_event(0, 1400, 100, out)).await;
    let there = InputEvent::Pointer { x: 1400, y: 100, of: (1440, 480) };
    eventually("the pointer's place", || host.vm().inputs().contains(&there)).await;

    // The other way round, as a user of the guest may have it.
    sink.scanout(right.frame_of(1, part(0)));
    sink.scanout(left.frame_of(0, part(800)));
    client.request(true).await;
    client.wait_picture(&beside(&right, &left)).await;

    sink.blank(1);
    client.request(true).await;
    loop {
        if let (640, 480, _, screens) = client.wait(resized).await {
            assert_eq!(screens, [screen(7, 0, 640, 480)]);
            break;
        }
        client.request(true).await;
    }
    client.wait_picture(&left.pixels()).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_later_is_told_of_all_screens_and_a_viewer_without_screens_sees_them_all() {
    let (left, right) = (drawing(640, 480), drawing(320, 240));
    let host = ready(&left).await;
    let sink = host.sink().await;
    sink.scanout(right.frame_of(1, None));
    let mut client = host.view(false).await;
    client.set_encodings(&[enc::RAW, enc::EXTENDED_DESKTOP_SIZE]).await;
    client.request(false).await;
    let screens = vec![screen(0, 0, 640, 480), screen(1, 640, 320, 240)];
    assert_eq!(client.wait(resized).await, (960, 480, 0, screens));
    let mut plain = host.view(false).await;
    plain.request(false).await;
    for viewer in [&mut client, &mut plain] {
        viewer.wait_picture(&beside(&left, &right)).await;
    }
    host.stop().await;
}
