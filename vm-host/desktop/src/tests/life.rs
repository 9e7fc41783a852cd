//! From the fork to the end.

use super::{Host, within};
use crate::config::{DesktopConfig, Done, Home};
use crate::record;
use crate::testing::{Canvas, FakeLauncher, config, eventually};
use lucarne_control::desktop::{ForkTimings, Phase};
use lucarne_control::ids::DiskId;
use lucarne_control::link::{Opened, Purpose};
use lucarne_driver::InputEvent;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_becomes_ready_with_its_steps_timed_and_recorded() {
    let host = Host::start();
    let mut agent = host.agent().await;
    assert_eq!(agent.status().await.phase, Phase::Starting);
    host.sink().await.scanout(Canvas::new(64, 64).frame());
    agent.wait(|s| s.picture && s.phase == Phase::Starting).await;
    host.vm().answer_identity(Ok(()));
    let ready = agent.wait(|s| s.phase == Phase::Ready).await;
    let ForkTimings { spawned_ms, loaded_ms, running_ms, picture_ms, identity_ms, frame_ms } = ready.timings;
    for (name, ms) in [
        ("spawned", spawned_ms),
        ("loaded", loaded_ms),
        ("running", running_ms),
        ("picture", picture_ms),
        ("identity", identity_ms),
    ] {
        assert!(ms.is_some_and(|ms| ms >= 0.0), "{name} is {ms:?}");
    }
    assert!(identity_ms >= running_ms);
    assert_eq!(frame_ms, None, "nobody has looked");
    assert_eq!(host.vm().log(), ["fork", "identify desk-1", "network"]);
    let dir = host.dir.path().to_owned();
    eventually("the record", || record::read_done(&dir).unwrap().identified).await;
    let done = record::read_done(&dir).unwrap();
    assert!(done.forked && done.timings.identity_ms == identity_ms);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_on_record_before_it_happens_and_is_never_repeated() {
    let failing = FakeLauncher { failure: Some("no memory".into()), ..FakeLauncher::new() };
    let host = Host::start_with(failing, Done::default());
    let mut agent = host.agent().await;
    let failed = agent.wait(|s| s.phase == Phase::Failed).await;
    assert_eq!(failed.detail, "no memory");
    let done = record::read_done(host.dir.path()).unwrap();
    assert!(done.forked && !done.identified);
    host.stop().await;

    let again = Host::start_with(FakeLauncher::new(), done);
    let failed = again.agent().await.wait(|s| s.phase == Phase::Failed).await;
    assert!(failed.detail.starts_with("the virtual machine has ended"), "{}", failed.detail);
    assert!(!again.vm().log().contains(&"fork".to_owned()));
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_refuses_its_identity_is_killed_and_never_gets_input_or_network() {
    let host = Host::start();
    host.sink().await.scanout(Canvas::new(64, 64).frame());
    let mut agent = host.agent().await;
    let mut viewer = host.view(false).await;
    viewer.key(true, 0x1e).await;
    host.vm().answer_identity(Err("disk full".into()));
    let failed = agent.wait(|s| s.phase == Phase::Failed).await;
    assert!(failed.detail.contains("identity") && failed.detail.contains("disk full"), "{}", failed.detail);
    assert!(host.vm().log().contains(&"kill".to_owned()));
    assert!(!host.vm().log().contains(&"network".to_owned()));
    assert_eq!(host.vm().inputs(), []);
    while within(viewer.try_event()).await.is_some() {}
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_disk_is_mounted_before_anybody_types_and_a_guest_that_does_not_is_killed() {
    let home = Home { disk: DiskId::generate(), path: "/nowhere/disk.raw".into(), fresh: true };
    let launcher = FakeLauncher::new();
    let host =
        Host::start_as(launcher, Done::default(), DesktopConfig { home: Some(home.clone()), ..config() });
    host.sink().await.scanout(Canvas::new(64, 64).frame());
    host.vm().answer_identity(Ok(()));
    host.agent().await.wait(|s| s.phase == Phase::Ready).await;
    assert_eq!(host.vm().log(), ["fork", "identify desk-1", "home, fresh", "network"]);
    host.stop().await;

    let launcher = FakeLauncher::new();
    *launcher.vm.no_home.lock().unwrap() = Some("it is damaged".into());
    let host = Host::start_as(launcher, Done::default(), DesktopConfig { home: Some(home), ..config() });
    host.sink().await.scanout(Canvas::new(64, 64).frame());
    let mut viewer = host.view(false).await;
    viewer.key(true, 0x1e).await;
    host.vm().answer_identity(Ok(()));
    let failed = host.agent().await.wait(|s| s.phase == Phase::Failed).await;
    assert!(
        failed.detail.contains("its home disk") && failed.detail.contains("damaged"),
        "{}",
        failed.detail
    );
    assert!(host.vm().log().contains(&"kill".to_owned()));
    assert_eq!(host.vm().inputs(), []);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_guest_is_taken_over_and_gets_an_identity_only_if_it_has_none() {
    for identified in [true, false] {
        let running = FakeLauncher { running: true, ..FakeLauncher::new() };
        running.vm.answer_identity(Ok(()));
        let timings = ForkTimings { picture_ms: Some(41.0), ..ForkTimings::default() };
        let host = Host::start_with(running, Done { forked: true, identified, timings, ..Done::default() });
        host.sink().await.scanout(Canvas::new(64, 64).frame());
        let status = host.agent().await.wait(|s| s.phase == Phase::Ready && s.picture).await;
        assert_eq!(status.timings.picture_ms, Some(41.0), "a timing was measured again");
        let log = host.vm().log();
        assert!(!log.contains(&"fork".to_owned()), "{log:?}");
        assert_eq!(log.iter().any(|l| l.starts_with("identify")), !identified, "{log:?}");
        // What viewers of the former process held is up again.
        assert!(host.vm().inputs().contains(&InputEvent::Key { qnum: 0x2a, down: false }));
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_ends_by_itself_closes_its_viewers_and_is_reported_until_stop() {
    let host = Host::start();
    host.vm().answer_identity(Ok(()));
    host.sink().await.scanout(Canvas::new(64, 64).frame());
    let mut viewer = host.view(false).await;
    let mut agent = host.agent().await;
    agent.wait(|s| s.phase == Phase::Ready && s.viewers == 1).await;
    host.vm().end("powered off");
    let failed = agent.wait(|s| s.phase == Phase::Failed).await;
    assert_eq!(failed.detail, "the virtual machine has ended: powered off");
    while within(viewer.try_event()).await.is_some() {}
    let (_, opened) = host.connect(&host.open(Purpose::View { view_only: false, shadow: false })).await;
    assert_eq!(opened, Opened::Refused { reason: failed.detail.clone() });
    assert_eq!(host.agent().await.status().await.phase, Phase::Failed);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_kills_the_guest_and_says_stopped_to_an_agent_that_has_hung_up_its_side() {
    let host = Host::start();
    let _sink = host.sink().await;
    let mut agent = host.agent().await;
    agent.stop().await;
    agent.0.get_mut().shutdown().await.unwrap();
    agent.wait(|s| s.phase == Phase::Stopped).await;
    assert!(host.vm().log().contains(&"clear".to_owned()));
    within(host.task).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_during_a_fork_clears_up_what_was_forked_and_gives_it_no_identity() {
    let wait = Arc::new(tokio::sync::Notify::new());
    let slow = FakeLauncher { fork_waits: Some(wait.clone()), ..FakeLauncher::new() };
    let host = Host::start_with(slow, Done::default());
    eventually("the fork's start", || host.vm().log() == ["fork"]).await;
    let mut agent = host.agent().await;
    agent.stop().await;
    agent.wait(|s| s.phase == Phase::Stopping).await;
    wait.notify_one();
    agent.wait(|s| s.phase == Phase::Stopped).await;
    assert_eq!(host.vm().log(), ["fork", "clear"]);
    within(host.task).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_not_known_ends_that_connection_only() {
    let host = Host::start();
    let mut agent = host.agent().await;
    agent.0.get_mut().write_all(b"{\"command\":\"dance\"}\n").await.unwrap();
    within(async {
        let mut line = String::new();
        use tokio::io::AsyncBufReadExt;
        while agent.0.read_line(&mut line).await.unwrap_or(0) > 0 {}
    })
    .await;
    host.stop().await;
}
