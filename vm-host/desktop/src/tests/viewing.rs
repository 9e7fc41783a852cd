//! Viewers: what they see, what they type, and that none is in another's way.

use super::{Host, within};
use crate::testing::{Canvas, eventually};
use lucarne_control::desktop::Phase;
use lucarne_driver::{Button, CursorImage, Damage, InputEvent, Leds};
use lucarne_rfb::client::{ServerEvent, write};
use lucarne_rfb::encodings as enc;
use lucarne_rfb::server::Screen;
use lucarne_rfb::{PixelFormat, Rect};

fn key(qnum: u32, down: bool) -> InputEvent {
    InputEvent::Key { qnum, down }
}

/// A host with a picture whose guest has its identity.
pub(super) async fn ready(canvas: &Canvas) -> Host {
    started(Host::start(), canvas).await
}

/// The same host once it is as far.
pub(super) async fn started(host: Host, canvas: &Canvas) -> Host {
    host.vm().answer_identity(Ok(()));
    host.sink().await.scanout(canvas.frame());
    host.agent().await.wait(|s| s.phase == Phase::Ready).await;
    host
}

pub(super) fn drawing(width: u32, height: u32) -> Canvas {
    let mut canvas = Canvas::new(width, height);
    for i in 0..40 {
        let colour = (i * 0x0003_0507) & 0x00ff_ffff;
        canvas.fill(((i * 37) % (width - 30), (i * 23) % (height - 20), 30, 20), colour);
    }
    canvas
}

#[tokio::test(flavor = "multi_thread")]
async fn the_picture_is_exact_in_every_encoding_and_follows_the_guest() {
    let mut canvas = drawing(500, 300);
    let host = ready(&canvas).await;
    let sink = host.sink().await;
    let mut clients = Vec::new();
    for encodings in [
        &[][..],
        &[enc::TIGHT, enc::COPY_RECT],
        &[enc::ZRLE, enc::COPY_RECT, enc::LAST_RECT],
        &[enc::HEXTILE, enc::COPY_RECT],
        &[enc::ZLIB],
        &[enc::RAW],
    ] {
        let mut client = host.view(false).await;
        client.set_encodings(encodings).await;
        client.request(false).await;
        client.wait_updated().await;
        client.wait_picture(&canvas.pixels()).await;
        clients.push(client);
    }
    for step in 0..20 {
        canvas.fill((step * 22, step * 13, 50, 40), step * 0x000c_0a08);
        sink.update(canvas.frame(), Damage { x: step * 22, y: step * 13, width: 50, height: 40 });
    }
    for client in &mut clients {
        client.wait_picture(&canvas.pixels()).await;
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pixel_format_applies_from_the_fence_that_is_sent_with_it() {
    let mut canvas = Canvas::new(320, 200);
    canvas.fill((0, 0, 320, 200), 0x00ff_ff00);
    let host = ready(&canvas).await;
    let mut client = host.view(false).await;
    client.set_encodings(&[enc::RAW, enc::FENCE]).await;
    let hello =
        client.wait(|e| if let ServerEvent::Fence { flags, .. } = e { Some(flags) } else { None }).await;
    assert_eq!(hello >> 31, 1, "the server's own fence asks for an answer");
    let big_endian = PixelFormat::RGB565.with_big_endian(true);
    client
        .send(|out| {
            write::fence(1 << 31 | 4, b"format", out);
            write::set_pixel_format(&big_endian, out);
            write::framebuffer_update_request(false, Rect::new(0, 0, 320, 200), out);
        })
        .await;
    let answer = client
        .wait(|e| match e {
            ServerEvent::Fence { flags, payload } => Some((flags, payload)),
            ServerEvent::Drawn { .. } => panic!("pixels came before the fence"),
            _ => None,
        })
        .await;
    assert_eq!(answer, (4, b"format".to_vec()));
    client.viewer.set_format(big_endian);
    client.wait_updated().await;
    let top = client.viewer.framebuffer().pixel(0, 0).unwrap();
    assert_eq!(top, 0x00ff_ff00, "{top:06x}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_is_held_until_the_guest_has_its_identity_and_then_comes_in_order() {
    let host = Host::start();
    host.sink().await.scanout(drawing(640, 480).frame());
    let mut client = host.view(false).await;
    client
        .send(|out| {
            for (down, code) in [(true, 0x23), (false, 0x23), (true, 0x17), (false, 0x17)] {
                write::extended_key_event(down, 0, code, out);
            }
            write::pointer_event(1, 30, 40, out);
            write::pointer_event(0, 30, 40, out);
        })
        .await;
    // The answer to a request that was sent after the input shows that the input was read.
    client.request(false).await;
    client.wait_updated().await;
    assert_eq!(host.vm().inputs(), [], "input reached a guest without an identity");
    host.vm().answer_identity(Ok(()));
    let typed = [
        key(0x23, true),
        key(0x23, false),
        key(0x17, true),
        key(0x17, false),
        InputEvent::Pointer { x: 30, y: 40, of: (640, 480) },
        InputEvent::Button { button: Button::Left, down: true },
        InputEvent::Button { button: Button::Left, down: false },
    ];
    eventually("the held input", || host.vm().inputs().len() == typed.len()).await;
    assert_eq!(host.vm().inputs(), typed);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_viewer_holds_is_released_when_it_goes() {
    let host = ready(&drawing(640, 480)).await;
    let mut client = host.view(false).await;
    client.key(true, 0x1d).await;
    client.send(|out| write::key_event(true, 'A'.into(), out)).await;
    client.send(|out| write::pointer_event(0b101, 1, 1, out)).await;
    eventually("the presses", || {
        host.vm().inputs().contains(&InputEvent::Button { button: Button::Right, down: true })
    })
    .await;
    drop(client);
    for up in [
        key(0x1d, false),
        key(0x1e, false),
        InputEvent::Button { button: Button::Left, down: false },
        InputEvent::Button { button: Button::Right, down: false },
    ] {
        eventually("a release", || host.vm().inputs().contains(&up)).await;
    }
    host.agent().await.wait(|s| s.viewers == 0).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_may_only_look_changes_nothing() {
    let canvas = drawing(640, 480);
    let host = ready(&canvas).await;
    let mut client = host.view(true).await;
    client.set_encodings(&[enc::RAW, enc::EXTENDED_DESKTOP_SIZE]).await;
    client.key(true, 0x1e).await;
    client.send(|out| write::pointer_event(1, 5, 5, out)).await;
    let screen = Screen { id: 0, rect: Rect::new(0, 0, 800, 600), flags: 0 };
    client.send(|out| write::set_desktop_size(800, 600, &[screen], out)).await;
    client.request(false).await;
    let status = client
        .wait(|e| match e {
            ServerEvent::Resized { reason: 1, status, .. } => Some(status),
            _ => None,
        })
        .await;
    assert_eq!(status, 1, "prohibited");
    client.wait_picture(&canvas.pixels()).await;
    assert_eq!(host.vm().inputs(), []);
    assert!(!host.vm().log().iter().any(|l| l.starts_with("arrange")));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_reads_nothing_holds_up_neither_the_guest_nor_another_viewer() {
    let mut canvas = Canvas::photo(640, 480);
    let host = ready(&canvas).await;
    let sink = host.sink().await;
    let mut slow = host.view(false).await;
    slow.request(false).await;
    let mut quick = host.view(false).await;
    quick.request(false).await;
    // Raw frames of 1.2 MB each, many times what the kernel holds for the slow one.
    for step in 0..8 {
        canvas.fill((0, 0, 640, 480), step * 0x0010_1010);
        canvas.fill((step * 20, 10, 300, 300), 0x00ff_ffff);
        sink.scanout(canvas.frame());
        quick.wait_picture(&canvas.pixels()).await;
        slow.request(true).await;
    }
    // What the slow one gets in the end is the present, without all that it missed.
    let mut updates = 0;
    while slow.viewer.framebuffer().pixels() != canvas.pixels() {
        slow.request(true).await;
        slow.wait_updated().await;
        updates += 1;
    }
    assert!(updates <= 3, "{updates} frames were queued for the slow viewer");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wanted_size_reaches_the_guest_and_a_new_size_reaches_every_viewer() {
    let host = ready(&drawing(640, 480)).await;
    let mut asking = host.view(false).await;
    let mut old_style = host.view(false).await;
    asking.set_encodings(&[enc::TIGHT, enc::EXTENDED_DESKTOP_SIZE]).await;
    old_style.set_encodings(&[enc::RAW, enc::DESKTOP_SIZE]).await;
    asking.request(false).await;
    let resized = |e| match e {
        ServerEvent::Resized { width, height, reason, status, .. } => Some((width, height, reason, status)),
        _ => None,
    };
    assert_eq!(asking.wait(resized).await, (640, 480, 0, 0), "the announcement");
    asking.wait_updated().await;
    asking.request(true).await;
    let screen = |w, h| [Screen { id: 0, rect: Rect::new(0, 0, w, h), flags: 0 }];
    asking.send(|out| write::set_desktop_size(1024, 600, &screen(1024, 600), out)).await;
    assert_eq!(asking.wait(resized).await, (640, 480, 1, 4), "passed on to the guest");
    eventually("the guest's resize", || host.vm().log().contains(&"arrange 1024x600+0+0".to_owned())).await;

    let wide = drawing(1024, 600);
    host.sink().await.scanout(wide.frame());
    asking.request(true).await;
    assert_eq!(asking.wait(resized).await, (1024, 600, 0, 0));
    asking.wait_picture(&wide.pixels()).await;
    old_style.request(true).await;
    old_style.wait_updated().await;
    old_style.wait_picture(&wide.pixels()).await;

    asking.send(|out| write::set_desktop_size(9, 9, &screen(9, 9), out)).await;
    asking.request(true).await;
    assert_eq!(asking.wait(resized).await, (1024, 600, 1, 3), "no such layout");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_are_announced_once_to_those_who_know_them() {
    let host = ready(&drawing(320, 240)).await;
    host.sink().await.cursor(Some(CursorImage {
        width: 2,
        height: 1,
        hot_x: 1,
        hot_y: 0,
        argb: vec![0, 0, 255, 255, 0, 0, 0, 0],
    }));
    let mut client = host.view(false).await;
    let list = [
        enc::RAW,
        enc::QEMU_EXTENDED_KEY,
        enc::EXTENDED_MOUSE_BUTTONS,
        enc::QEMU_POINTER_MOTION,
        enc::DESKTOP_NAME,
        enc::CURSOR_WITH_ALPHA,
        enc::CONTINUOUS_UPDATES,
    ];
    client.set_encodings(&list).await;
    client.set_encodings(&list).await;
    client.request(false).await;
    let mut seen = Vec::new();
    loop {
        match client.event().await {
            ServerEvent::Updated { .. } => break,
            ServerEvent::Drawn { .. } => {}
            event => seen.push(event),
        }
    }
    let count = |wanted: &dyn Fn(&ServerEvent) -> bool| seen.iter().filter(|e| wanted(e)).count();
    assert_eq!(count(&|e| *e == ServerEvent::Acknowledged(enc::QEMU_EXTENDED_KEY)), 1);
    assert_eq!(count(&|e| *e == ServerEvent::Acknowledged(enc::EXTENDED_MOUSE_BUTTONS)), 1);
    assert_eq!(count(&|e| *e == ServerEvent::PointerMotion { absolute: true }), 1);
    assert_eq!(count(&|e| *e == ServerEvent::Name("desk-1".into())), 1);
    assert_eq!(count(&|e| *e == ServerEvent::EndOfContinuousUpdates), 1);
    let cursors: Vec<_> = seen
        .iter()
        .filter_map(|e| if let ServerEvent::Cursor(c) = e { Some((c.rect, c.pixels.clone())) } else { None })
        .collect();
    assert_eq!(cursors, [(Rect::new(1, 0, 2, 1), vec![0xffff_0000, 0])]);
    assert_eq!(seen.len(), 6, "{seen:?}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn continuous_updates_come_without_requests_and_stop_when_told() {
    let mut canvas = drawing(320, 240);
    let host = ready(&canvas).await;
    let sink = host.sink().await;
    let mut client = host.view(false).await;
    client.set_encodings(&[enc::ZRLE, enc::CONTINUOUS_UPDATES]).await;
    let whole = Rect::new(0, 0, 320, 240);
    client.send(|out| write::enable_continuous_updates(true, whole, out)).await;
    for step in 1..=5 {
        canvas.fill((10 * step, 10, 8, 8), 0x00ff_ff00);
        sink.update(canvas.frame(), Damage { x: 0, y: 0, width: 320, height: 240 });
        while client.viewer.framebuffer().pixels() != canvas.pixels() {
            client.wait_updated().await;
        }
    }
    client.send(|out| write::enable_continuous_updates(false, whole, out)).await;
    client.wait(|e| (e == ServerEvent::EndOfContinuousUpdates).then_some(())).await;
    canvas.fill((0, 0, 320, 240), 0x0000_ffff);
    sink.scanout(canvas.frame());
    // A fence is answered at once, and an update that should not be would come before it.
    client.send(|out| write::fence(1 << 31, b"now", out)).await;
    client
        .wait(|e| match e {
            ServerEvent::Fence { payload, .. } if payload == b"now" => Some(()),
            ServerEvent::Drawn { .. } => panic!("an update came without a request"),
            _ => None,
        })
        .await;
    client.wait_picture(&canvas.pixels()).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lossy_picture_is_repaired_once_the_guest_is_quiet() {
    let canvas = Canvas::photo(320, 256);
    let host = ready(&canvas).await;
    let mut client = host.view(false).await;
    client.set_encodings(&[enc::TIGHT, enc::QUALITY_0 + 5]).await;
    client.request(false).await;
    client.wait_updated().await;
    assert_ne!(client.viewer.framebuffer().pixels(), canvas.pixels(), "nothing was lossy");
    client.wait_picture(&canvas.pixels()).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_breaks_the_protocol_is_closed_and_others_stay() {
    let canvas = drawing(320, 240);
    let host = ready(&canvas).await;
    let mut good = host.view(false).await;
    let mut bad = host.view(false).await;
    bad.send(|out| out.extend([99; 64])).await;
    while within(bad.try_event()).await.is_some() {}
    good.request(false).await;
    good.wait_picture(&canvas.pixels()).await;
    host.agent().await.wait(|s| s.viewers == 1).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_floods_and_reads_nothing_does_not_hold_up_another() {
    let host = ready(&drawing(320, 240)).await;
    let flood = host.view(false).await;
    let mut fences = Vec::new();
    for _ in 0..1000 {
        write::fence(1 << 31, &[7; 64], &mut fences);
    }
    let written = async {
        loop {
            flood.stream.writable().await.unwrap();
            match flood.stream.try_write(&fences) {
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(e) => panic!("{e}"),
            }
        }
    };
    let mut other = host.view(false).await;
    within(written).await;
    other.request(false).await;
    within(other.wait_updated()).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lights_of_the_lock_keys_reach_viewers_that_know_them_and_newcomers() {
    let host = ready(&drawing(64, 64)).await;
    let lights = |e| if let ServerEvent::Leds(leds) = e { Some(leds) } else { None };
    let mut client = host.view(false).await;
    client.set_encodings(&[enc::RAW, enc::QEMU_LED_STATE]).await;
    client.request(false).await;
    client.wait_updated().await;
    client.request(true).await;
    host.sink().await.leds(Leds { scroll: false, num: false, caps: true });
    assert_eq!(client.wait(lights).await, 4);
    client.request(true).await;
    host.sink().await.leds(Leds { scroll: true, num: true, caps: false });
    assert_eq!(client.wait(lights).await, 3);
    let mut newcomer = host.view(true).await;
    newcomer.set_encodings(&[enc::RAW, enc::QEMU_LED_STATE]).await;
    newcomer.request(false).await;
    assert_eq!(newcomer.wait(lights).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_that_no_displays_can_have_is_invalid() {
    let host = ready(&drawing(640, 480)).await;
    let mut client = host.view(false).await;
    client.set_encodings(&[enc::RAW, enc::EXTENDED_DESKTOP_SIZE]).await;
    let screen = |id, x, w| Screen { id, rect: Rect::new(x, 0, w, 600), flags: 0 };
    for screens in [&[][..], &[screen(0, 0, 400), screen(1, 399, 401)], &[screen(0, 0, 799)]] {
        client.send(|out| write::set_desktop_size(800, 600, screens, out)).await;
        client.request(true).await;
        let status = client
            .wait(|e| match e {
                ServerEvent::Resized { reason: 1, status, .. } => Some(status),
                _ => None,
            })
            .await;
        assert_eq!(status, 3, "{screens:?}");
    }
    assert!(!host.vm().log().iter().any(|l| l.starts_with("arrange")), "{:?}", host.vm().log());
}
