//! The recording: what a session shows is found again at its time, whatever ends the desktop, and what happens without one.

use super::{Client, Host, within};
use crate::config::Done;
use crate::testing::{Canvas, FakeLauncher, PATIENCE, config, eventually};
use lucarne_control::desktop::Phase;
use lucarne_control::ids::SessionId;
use lucarne_control::link::{Open, Opened, Purpose};
use lucarne_control::spec::{RecordingMode, RecordingPolicy};
use lucarne_driver::{CursorImage, Damage};
use lucarne_recording::Recording;
use lucarne_rfb::client::ServerEvent;
use lucarne_rfb::encodings as enc;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek};
use std::path::Path;
use std::time::Duration;

const ALL: Duration = Duration::from_secs(1 << 20);

fn host(mode: RecordingMode, file: Option<File>) -> Host {
    let mut config = config();
    config.recording = RecordingPolicy { mode, days: Some(30), mib: None };
    let host = Host::start_of(FakeLauncher::new(), Done::default(), config, file);
    host.vm().answer_identity(Ok(()));
    host
}

fn appended(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

fn opened(path: &Path) -> Option<Recording<File>> {
    Recording::open(File::open(path).unwrap()).ok()
}

fn of_session(host: &Host) -> Open {
    Open {
        session: Some(SessionId::generate()),
        ..host.open(Purpose::View { view_only: false, shadow: false })
    }
}

async fn view(host: &Host) -> Client {
    let (stream, answer) = host.connect(&of_session(host)).await;
    assert_eq!(answer, Opened::Ok);
    Client::start(stream).await
}

/// Waits until the last recorded screen is this, and gives its time.
async fn recorded(path: &Path, canvas: &Canvas) -> Duration {
    let last = || opened(path).and_then(|mut recording| recording.frame(ALL).ok());
    eventually("the screen is recorded", || {
        last().is_some_and(|frame| frame.screen.pixels() == canvas.pixels())
    })
    .await;
    last().unwrap().at
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_viewer_sees_is_recorded_and_found_again_at_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.lrec");
    let mut canvas = Canvas::new(300, 200);
    let host = host(RecordingMode::On, Some(appended(&path)));
    let sink = host.sink().await;
    sink.scanout(canvas.frame());
    let mut client = view(&host).await;
    client.set_encodings(&[enc::ZRLE, enc::DESKTOP_NAME]).await;
    client.request(false).await;
    let name = client.wait(|e| if let ServerEvent::Name(name) = e { Some(name) } else { None }).await;
    assert_eq!(name, "desk-1 (recorded)");
    let mut times = Vec::new();
    for step in 0..4_u32 {
        canvas.fill((step * 40, step * 30, 50, 40), (0x0012_3456 * (step + 1)) & 0x00ff_ffff);
        sink.update(canvas.frame(), Damage { x: step * 40, y: step * 30, width: 50, height: 40 });
        client.wait_picture(&canvas.pixels()).await;
        times.push((recorded(&path, &canvas).await, canvas.pixels()));
    }
    let mut wider = Canvas::new(400, 100);
    wider.fill((390, 90, 10, 10), 0x00ff_ffff);
    sink.scanout(wider.frame());
    sink.cursor(Some(CursorImage { width: 1, height: 1, hot_x: 0, hot_y: 0, argb: vec![1, 2, 3, 255] }));
    times.push((recorded(&path, &wider).await, wider.pixels()));
    drop(client);
    host.stop().await;
    let mut recording = opened(&path).unwrap();
    let checked = recording.check().unwrap();
    assert!(checked.ended && checked.keys == 2, "{checked:?}");
    assert!(recording.header().session.is_some() && recording.header().keep_days == Some(30));
    for (at, pixels) in times {
        assert!(recording.frame(at).unwrap().screen.pixels() == pixels, "at {at:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_recorded_before_a_session_or_without_being_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [RecordingMode::Off, RecordingMode::Required] {
        let path = dir.path().join(format!("{mode:?}"));
        let host = host(mode, Some(appended(&path)));
        host.sink().await.scanout(Canvas::new(64, 64).frame());
        let (mut stream, answer) = host.connect(&host.open(Purpose::Thumbnail { width: 64 })).await;
        assert_eq!(answer, Opened::Ok);
        within(tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new())).await.unwrap();
        if mode == RecordingMode::Off {
            drop(view(&host).await);
        }
        host.stop().await;
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0, "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_whose_process_was_killed_is_read_up_to_what_was_last_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.lrec");
    let mut canvas = Canvas::photo(300, 200);
    let host = host(RecordingMode::Required, Some(appended(&path)));
    let sink = host.sink().await;
    sink.scanout(canvas.frame());
    let client = view(&host).await;
    canvas.fill((7, 7, 90, 20), 0x00aa_5500);
    sink.update(canvas.frame(), Damage { x: 7, y: 7, width: 90, height: 20 });
    recorded(&path, &canvas).await;
    host.task.abort();
    drop(client);
    let mut recording = opened(&path).unwrap();
    assert!(!recording.check().unwrap().ended);
    assert!(recording.frame(ALL).unwrap().screen.pixels() == canvas.pixels());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_the_policy_says_whether_the_desktop_is_used_unrecorded() {
    // Its writes fail as on a full disk (full(4)).
    let full = || OpenOptions::new().append(true).open("/dev/full").unwrap();
    let required = host(RecordingMode::Required, Some(full()));
    required.sink().await.scanout(Canvas::new(64, 64).frame());
    for _ in 0..2 {
        match required.connect(&of_session(&required)).await.1 {
            Opened::Refused { reason } => {
                assert!(
                    reason.contains("only be used while it is recorded") && reason.contains("disk is full"),
                    "{reason}"
                );
            }
            Opened::Ok => panic!("a viewer was let in without a recording"),
        }
    }
    required.stop().await;
    for file in [Some(full()), None] {
        let on = host(RecordingMode::On, file);
        on.sink().await.scanout(Canvas::new(64, 64).frame());
        on.agent().await.wait(|s| s.phase == Phase::Ready).await;
        let mut client = view(&on).await;
        client.request(false).await;
        client.wait_updated().await;
        on.agent().await.wait(|s| s.detail.contains("it is not recorded: ")).await;
        on.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_are_closed_when_what_must_be_recorded_cannot_be_any_more() {
    // A file that can be written to for a while: the other end of this goes.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let host = host(RecordingMode::Required, Some(File::from(std::os::fd::OwnedFd::from(writer))));
    let mut canvas = Canvas::new(64, 64);
    let sink = host.sink().await;
    sink.scanout(canvas.frame());
    let mut client = view(&host).await;
    let mut begun = [0; 8];
    reader.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, lucarne_recording::MAGIC);
    drop(reader);
    canvas.fill((0, 0, 9, 9), 0x00ff_ffff);
    sink.update(canvas.frame(), Damage { x: 0, y: 0, width: 9, height: 9 });
    tokio::time::timeout(PATIENCE, async { while client.try_event().await.is_some() {} }).await.unwrap();
    assert!(matches!(host.connect(&of_session(&host)).await.1, Opened::Refused { .. }));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_screen_takes_nothing_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.lrec");
    let canvas = Canvas::new(300, 200);
    let host = host(RecordingMode::On, Some(appended(&path)));
    let sink = host.sink().await;
    sink.scanout(canvas.frame());
    let mut client = view(&host).await;
    recorded(&path, &canvas).await;
    let before = File::open(&path).unwrap().seek(std::io::SeekFrom::End(0)).unwrap();
    for _ in 0..50 {
        // The same pixels again and again.
        sink.update(canvas.frame(), Damage { x: 0, y: 0, width: 300, height: 200 });
        client.request(false).await;
        client.wait_updated().await;
    }
    assert_eq!(std::fs::metadata(&path).unwrap().len(), before);
    host.stop().await;
}
