//! A desktop that outlives its guest: off, and on again.

use super::{Host, within};
use crate::config::{DesktopConfig, Done};
use crate::control::{Command, Status};
use crate::record;
use crate::testing::{Canvas, FakeLauncher, config, eventually};
use lucarne_control::desktop::{DesiredState, ForkTimings, Phase};
use lucarne_driver::InputEvent;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// One that is started for the `start`th wish.
fn persistent(start: u64) -> DesktopConfig {
    DesktopConfig { persistent: true, wish: start, start, ..config() }
}

/// What is on record of one that ran for the first wish.
fn ran() -> Done {
    let (host_boot, timings) =
        (record::host_boot(), ForkTimings { loaded_ms: Some(7.0), ..ForkTimings::default() });
    Done {
        forked: true,
        identified: true,
        made: true,
        started: 1,
        host_boot,
        timings,
        qemu_version: config().qemu_version,
        ..Done::default()
    }
}

/// Waits until the process would exit, and gives what it said last.
async fn over(host: Host, agent: &mut super::Agent) -> (Status, Done) {
    let last = agent.wait(|s| matches!(s.phase, Phase::Off | Phase::Stopped)).await;
    within(host.task).await.unwrap().unwrap();
    (last, record::read_done(host.dir.path()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_powers_off_when_it_is_asked_to_and_that_is_on_record() {
    let host = Host::start_as(FakeLauncher::new(), Done::default(), persistent(1));
    host.vm().answer_identity(Ok(()));
    let mut agent = host.agent().await;
    agent.wait(|s| s.phase == Phase::Ready).await;
    assert!(record::is_made(host.dir.path()), "before anybody uses it");
    agent.say(Command::PowerOff).await;
    assert_eq!(agent.wait(|s| s.phase == Phase::Stopping).await.detail, "it is being powered off");
    let vm = host.vm().clone();
    let (off, done) = over(host, &mut agent).await;
    assert_eq!((off.phase, off.detail.as_str()), (Phase::Off, "it was powered off"));
    assert_eq!(vm.log(), ["fork", "identify desk-1", "network", "power off", "kill", "clear"]);
    assert!(
        done.made && done.started == 1 && done.ended.as_deref() == Some("it was powered off"),
        "{done:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_does_not_power_off_is_switched_off() {
    let hurried = FakeLauncher { power_off_limit: Duration::from_millis(20), ..FakeLauncher::new() };
    let host = Host::start_as(hurried, Done::default(), persistent(1));
    host.vm().stubborn.store(true, Ordering::Relaxed);
    host.vm().answer_identity(Ok(()));
    let mut agent = host.agent().await;
    agent.wait(|s| s.phase == Phase::Ready).await;
    agent.say(Command::PowerOff).await;
    let vm = host.vm().clone();
    let (off, _) = over(host, &mut agent).await;
    assert!(off.phase == Phase::Off && off.detail.contains("did not power off"), "{off:?}");
    assert!(vm.log().ends_with(&["power off".into(), "kill".into(), "clear".into()]), "{:?}", vm.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_later_wish_it_boots_from_its_disk_and_its_user_may_type_meanwhile() {
    let host = Host::start_as(FakeLauncher::new(), ran(), persistent(2));
    host.sink().await.scanout(Canvas::new(64, 64).frame());
    let mut agent = host.agent().await;
    let boots = agent.wait(|s| s.picture && s.detail == "the guest boots").await;
    assert_eq!(
        (boots.phase, boots.timings.loaded_ms),
        (Phase::Starting, None),
        "the timings of another start"
    );
    let mut viewer = host.view(false).await;
    viewer.key(true, 0x1e).await;
    eventually("what was typed", || host.vm().inputs().contains(&InputEvent::Key { qnum: 0x1e, down: true }))
        .await;
    host.vm().answer_identity(Ok(()));
    agent.wait(|s| s.phase == Phase::Ready).await;
    assert_eq!(host.vm().log(), ["boot", "identify desk-1", "network"]);
    let dir = host.dir.path().to_owned();
    eventually("the record", || record::read_done(&dir).unwrap().identified).await;
    let done = record::read_done(&dir).unwrap();
    assert!(done.made && done.booted && done.started == 2, "{done:?}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_started_once_for_each_wish_and_says_why_it_is_off() {
    let elsewhere = Done { host_boot: "another".into(), ..ran() };
    let seen = Done { ended: Some("it was powered off from within".into()), ..elsewhere.clone() };
    for (done, why) in [
        (ran(), "QEMU ended: it does not run any more"),
        (elsewhere, "its host was started again"),
        (seen, "it was powered off from within"),
    ] {
        let host = Host::start_as(FakeLauncher::new(), done, persistent(1));
        let (mut agent, vm) = (host.agent().await, host.vm().clone());
        let (off, done) = over(host, &mut agent).await;
        assert_eq!((off.phase, off.detail.as_str()), (Phase::Off, why));
        assert_eq!(vm.log(), ["clear"]);
        assert!(done.made && done.started == 1, "{done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_ends_by_itself_and_one_that_cannot_boot_leave_it_off() {
    let host = Host::start_as(FakeLauncher::new(), Done::default(), persistent(1));
    host.vm().answer_identity(Ok(()));
    let mut agent = host.agent().await;
    agent.wait(|s| s.phase == Phase::Ready).await;
    host.vm().end("it was powered off from within");
    let (off, done) = over(host, &mut agent).await;
    assert_eq!((off.phase, off.detail.as_str()), (Phase::Off, "it was powered off from within"));
    assert_eq!(done.ended.as_deref(), Some("it was powered off from within"));

    let failing = FakeLauncher { failure: Some("no memory".into()), ..FakeLauncher::new() };
    let host = Host::start_as(failing, done, persistent(2));
    let mut agent = host.agent().await;
    let (off, done) = over(host, &mut agent).await;
    assert_eq!((off.phase, off.detail.as_str()), (Phase::Off, "no memory"));
    assert!(
        done.made && done.started == 2,
        "a boot that failed is not tried again for the same wish: {done:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_made_fails_and_leaves_nothing_when_it_is_powered_off() {
    let failing = FakeLauncher { failure: Some("no memory".into()), ..FakeLauncher::new() };
    let host = Host::start_as(failing, Done::default(), persistent(1));
    assert!(!record::is_made(host.dir.path()));
    let mut agent = host.agent().await;
    assert_eq!(agent.wait(|s| s.phase == Phase::Failed).await.detail, "no memory");
    agent.say(Command::PowerOff).await;
    let (_, done) = over(host, &mut agent).await;
    assert_eq!(done, Done::default(), "the next is forked");

    // It waits for its identity, and has not been asked for anything by anybody.
    let host = Host::start_as(FakeLauncher::new(), Done::default(), persistent(1));
    let _sink = host.sink().await;
    let mut agent = host.agent().await;
    eventually("the identity", || host.vm().log().len() == 2).await;
    agent.say(Command::PowerOff).await;
    let vm = host.vm().clone();
    let (off, done) = over(host, &mut agent).await;
    assert_eq!(off.phase, Phase::Off);
    assert_eq!(
        (vm.log(), done),
        (["fork", "identify desk-1", "kill", "clear"].map(String::from).into(), Done::default())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_boots_and_takes_no_identity_goes_on_with_that_of_its_disk() {
    let host = Host::start_as(FakeLauncher::new(), ran(), persistent(2));
    host.vm().answer_identity(Err("no helper".into()));
    let ready = host.agent().await.wait(|s| s.phase == Phase::Ready).await;
    assert!(ready.detail.contains("no helper"), "{}", ready.detail);
    assert_eq!(host.vm().log(), ["boot", "identify desk-1", "network"]);
    host.stop().await;
}

/// What is on record of one that was suspended after it had run for the first wish.
fn suspended() -> FakeLauncher {
    FakeLauncher { suspended: true, ..FakeLauncher::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_suspended_when_it_is_asked_to_and_its_viewers_are_told() {
    let host = Host::start_as(FakeLauncher::new(), Done::default(), persistent(1));
    host.vm().answer_identity(Ok(()));
    host.sink().await.scanout(Canvas::new(64, 64).frame());
    let mut agent = host.agent().await;
    agent.wait(|s| s.phase == Phase::Ready && s.picture).await;
    let mut viewer = host.view(false).await;
    agent.say(Command::Suspend).await;
    within(async { while viewer.try_event().await.is_some() {} }).await;
    let vm = host.vm().clone();
    let last = agent.wait(|s| s.phase.is_at_rest()).await;
    within(host.task).await.unwrap().unwrap();
    assert_eq!((last.phase, last.detail.as_str(), last.refusals), (Phase::Suspended, "it is suspended", 0));
    assert_eq!(vm.log(), ["fork", "identify desk-1", "network", "suspend", "kill", "clear"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_cannot_be_suspended_goes_on_and_what_was_typed_meanwhile_arrives() {
    let host = Host::start_as(FakeLauncher::new(), Done::default(), persistent(1));
    host.vm().answer_identity(Ok(()));
    host.sink().await.scanout(Canvas::new(64, 64).frame());
    let mut agent = host.agent().await;
    agent.wait(|s| s.phase == Phase::Ready && s.picture).await;
    let mut viewer = host.view(false).await;
    *host.vm().no_suspend.lock().unwrap() = Some("the disk is full".into());
    for n in 1..=2 {
        agent.say(Command::Suspend).await;
        let refused = agent.wait(|s| s.refusals == n).await;
        assert_eq!(refused.phase, Phase::Ready);
        assert!(refused.detail.ends_with("the disk is full"), "{}", refused.detail);
    }
    viewer.key(true, 0x1e).await;
    eventually("what was typed", || host.vm().inputs().contains(&InputEvent::Key { qnum: 0x1e, down: true }))
        .await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_suspended_goes_on_for_a_later_wish_and_not_before() {
    let config = DesktopConfig { wish: 2, state: DesiredState::Suspended, ..persistent(1) };
    let host = Host::start_as(suspended(), ran(), config);
    let (mut agent, vm) = (host.agent().await, host.vm().clone());
    let last = agent.wait(|s| s.phase.is_at_rest()).await;
    within(host.task).await.unwrap().unwrap();
    assert_eq!((last.phase, vm.log()), (Phase::Suspended, vec!["clear".to_owned()]));

    // Also where the process before has put it on record that it begins, and got no further.
    for done in [ran(), Done { started: 2, ..ran() }] {
        let host = Host::start_as(suspended(), done, persistent(2));
        host.agent().await.wait(|s| s.phase == Phase::Ready).await;
        eventually("the guest was told the time", || host.vm().log() == ["resume", "wake"]).await;
        let done = record::read_done(host.dir.path()).unwrap();
        assert!(done.identified && done.made && !done.booted && done.started == 2, "{done:?}");
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_resumed_stays_suspended_and_says_why() {
    let failing = FakeLauncher { failure: Some("no memory".into()), ..suspended() };
    let host = Host::start_as(failing, ran(), persistent(2));
    let mut agent = host.agent().await;
    let last = agent.wait(|s| s.phase.is_at_rest()).await;
    within(host.task).await.unwrap().unwrap();
    assert_eq!((last.phase, last.detail.as_str()), (Phase::Suspended, "it could not be resumed: no memory"));
    assert!(last.unresumable);
}

/// What is on record of a copy of another desktop that has not run yet.
fn cloned() -> Done {
    Done { cloned: true, identified: false, started: 0, host_boot: String::new(), ..ran() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_given_its_own_identity_before_anybody_uses_it() {
    for (launcher, begins) in [(suspended(), "resume"), (FakeLauncher::new(), "boot")] {
        let host = Host::start_as(launcher, cloned(), persistent(1));
        host.sink().await.scanout(Canvas::new(64, 64).frame());
        let mut agent = host.agent().await;
        agent.wait(|s| s.picture && s.detail == "the clone gets its identity").await;
        let mut viewer = host.view(false).await;
        viewer.key(true, 0x1e).await;
        viewer.key(false, 0x1e).await;
        eventually("it is asked", || host.vm().log().contains(&"identify desk-1".to_owned())).await;
        assert!(host.vm().inputs().iter().all(|i| !matches!(i, InputEvent::Key { qnum: 0x1e, .. })));
        assert!(!host.vm().log().contains(&"network".to_owned()));
        host.vm().answer_identity(Ok(()));
        agent.wait(|s| s.phase == Phase::Ready).await;
        assert!(host.vm().log().contains(&begins.to_owned()), "{:?}", host.vm().log());
        assert!(host.vm().log().contains(&"network".to_owned()));
        let done = record::read_done(host.dir.path()).unwrap();
        assert!(done.identified && done.made && !done.cloned, "{done:?}");
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_does_not_take_its_identity_is_off_and_is_given_it_by_its_next_start() {
    let host = Host::start_as(FakeLauncher::new(), cloned(), persistent(1));
    host.vm().answer_identity(Err("no helper".into()));
    let mut agent = host.agent().await;
    let (off, done) = over(host, &mut agent).await;
    assert_eq!(off.phase, Phase::Off);
    assert!(off.detail.contains("no helper"), "{}", off.detail);
    assert!(done.cloned && done.made && !done.identified, "{done:?}");
    let host = Host::start_as(FakeLauncher::new(), done, persistent(2));
    host.vm().answer_identity(Ok(()));
    host.agent().await.wait(|s| s.phase == Phase::Ready).await;
    assert!(!record::read_done(host.dir.path()).unwrap().cloned);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_a_clone_is_never_forked_from_its_template_alone() {
    use lucarne_control::agent::CloneOf;
    use lucarne_control::{DesktopId, SnapshotId};
    let origin = CloneOf { desktop: DesktopId::generate(), snapshot: SnapshotId::generate() };
    let config = DesktopConfig { origin: Some(origin), ..persistent(1) };
    let host = Host::start_as(FakeLauncher::new(), Done::default(), config);
    let mut agent = host.agent().await;
    let failed = agent.wait(|s| s.phase == Phase::Failed).await;
    assert!(failed.detail.contains("not copied"), "{}", failed.detail);
    assert!(!host.vm().log().contains(&"fork".to_owned()));
    host.stop().await;
}
