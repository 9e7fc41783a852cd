//! Who is let in, and who is not.

use super::{Client, Host, read_answer, within};
use crate::config::files;
use crate::testing::Canvas;
use lucarne_control::ids::DesktopId;
use lucarne_control::link::{Open, Opened, Purpose};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

fn refusal(opened: Opened) -> String {
    match opened {
        Opened::Refused { reason } => reason,
        Opened::Ok => panic!("it was let in"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_desktop_and_another_generation_are_refused_with_the_reason() {
    let host = Host::start();
    host.sink().await.scanout(Canvas::new(64, 64).frame());
    let right = host.open(Purpose::View { view_only: false, shadow: false });
    for wrong in [
        Open { desktop: DesktopId::generate(), ..right.clone() },
        Open { generation: right.generation - 1, ..right.clone() },
        Open { generation: right.generation + 1, ..right.clone() },
    ] {
        let (mut stream, opened) = host.connect(&wrong).await;
        let reason = refusal(opened);
        assert!(reason.contains(&host.config.desktop.to_string()), "{reason}");
        assert_eq!(within(stream.read(&mut [0; 1])).await.unwrap(), 0, "it stays open");
    }
    assert_eq!(host.connect(&right).await.1, Opened::Ok);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_line_that_is_endless_or_nonsense_is_refused() {
    let host = Host::start();
    host.sink().await.scanout(Canvas::new(64, 64).frame());
    let reason = refusal(host.connect_raw(&[b'x'; 4096]).await.1);
    assert!(reason.contains("4096"), "{reason}");
    let reason = refusal(host.connect_raw(b"RFB 003.008\n").await.1);
    assert!(reason.contains("not understood"), "{reason}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_comes_before_the_picture_waits_for_it() {
    let host = Host::start();
    let sink = host.sink().await;
    let open = host.open(Purpose::View { view_only: false, shadow: false });
    let mut stream = UnixStream::connect(host.dir.path().join(files::DISPLAY_SOCKET)).await.unwrap();
    let mut line = serde_json::to_vec(&open).unwrap();
    line.push(b'\n');
    stream.write_all(&line).await.unwrap();
    // Whoever comes after it and is refused has been answered: the early one was not.
    let (_, later) = host.connect(&Open { generation: open.generation + 1, ..open }).await;
    refusal(later);
    let early = stream.try_read(&mut [0; 1]).expect_err("it was answered before there was a picture");
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    sink.scanout(Canvas::new(64, 48).frame());
    assert_eq!(read_answer(&mut stream).await, Opened::Ok);
    let client = Client::start(stream).await;
    assert_eq!((client.viewer.framebuffer().width(), client.viewer.framebuffer().height()), (64, 48));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thumbnail_is_a_jpeg_of_the_asked_width_until_end_of_file() {
    let host = Host::start();
    let mut canvas = Canvas::new(640, 400);
    canvas.fill((0, 0, 640, 400), 0x0020_8040);
    host.sink().await.scanout(canvas.frame());
    let (mut stream, opened) = host.connect(&host.open(Purpose::Thumbnail { width: 160 })).await;
    assert_eq!(opened, Opened::Ok);
    let mut jpeg = Vec::new();
    within(stream.read_to_end(&mut jpeg)).await.unwrap();
    let image = turbojpeg::decompress(&jpeg, turbojpeg::PixelFormat::RGB).unwrap();
    assert_eq!((image.width, image.height), (160, 100));
    let off = |i: usize, want: u8| image.pixels[i].abs_diff(want);
    assert!(off(0, 0x20) < 8 && off(1, 0x80) < 8 && off(2, 0x40) < 8, "{:?}", &image.pixels[..3]);
    host.stop().await;
}
