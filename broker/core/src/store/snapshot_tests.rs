//! Snapshots, shown on every engine: what is asked of hosts and what they say of it, schedules, limits, and going back.

use super::tests::{Scene, new_pool, scene};
use super::*;
use lucarne_control::agent::{
    DesktopDesired, DesktopObserved, Observed, SnapshotDesired, SnapshotObserved, SnapshotState, SnapshotWish,
};
use lucarne_control::api::NewPool;
use lucarne_control::desktop::{DesiredState, Phase};
use lucarne_control::pool::PoolKind;
use lucarne_control::snapshot::{NewSnapshot, Snapshot, SnapshotPolicy};
use lucarne_control::spec::ImageDigest;
use lucarne_control::{DesktopId, SnapshotId, UserId};
use lucarne_db::tables::{Desktop, Timer, TimerKind};

lucarne_postgres::on_each_engine!(
    scene:
    a_snapshot_is_asked_for_until_its_host_says_that_it_is_there_or_gone,
    what_cannot_be_taken_says_why_and_makes_room,
    a_desktop_has_only_so_many_and_no_two_of_one_name,
    one_that_is_given_up_is_told_so_and_is_gone,
    a_desktop_is_put_back_once_for_each_wish,
    it_is_put_back_though_somebody_wants_something_else_before,
    a_schedule_takes_them_and_keeps_the_last,
    what_a_schedule_could_not_take_costs_none_that_is_there,
    what_a_host_has_or_lacks_is_known_when_it_lists_all,
    snapshots_go_with_their_desktop_and_floating_ones_have_none,
);

async fn pool(scene: &Scene, snapshots: SnapshotPolicy) {
    let new = NewPool { kind: PoolKind::Personal, snapshots, ..new_pool("own") };
    scene.store.create_pool("admin", &new, &ImageDigest::try_from("ab".repeat(32)).unwrap()).await.unwrap();
}

pub(super) fn observed(desktop: DesktopId, snapshot: SnapshotId, state: SnapshotState) -> SnapshotObserved {
    SnapshotObserved {
        desktop,
        snapshot,
        state,
        progress: 40,
        detail: String::new(),
        parent: None,
        current: true,
        memory: true,
        taken_at: 1_790_000_000_000,
        pause_ms: 70,
        bytes: 4096,
    }
}

impl Scene {
    /// A desktop of a user's own that runs.
    pub(super) async fn own(&self, policy: SnapshotPolicy) -> (UserId, DesktopId) {
        pool(self, policy).await;
        let ada = self.user("ada").await;
        let desktop = self.connect_to(ada, "own").await.unwrap().desktop.id;
        self.is(desktop, 1, Phase::Ready).await;
        (ada, desktop)
    }

    pub(super) async fn is(&self, desktop: DesktopId, wish: u64, phase: Phase) -> Recorded {
        let seen = DesktopObserved {
            desktop,
            generation: 1,
            wish,
            phase,
            detail: String::new(),
            endpoint: None,
            timings: Default::default(),
        };
        let observed = Observed { desktops: vec![seen], ..Observed::default() };
        self.store.record(&self.link, &observed).await.unwrap()
    }

    pub(super) async fn row(&self, id: DesktopId) -> Desktop {
        self.all(|| Desktop::all().limit(100)).await.into_iter().find(|d: &Desktop| d.id == id).unwrap()
    }

    /// What its host is to do for snapshots.
    pub(super) async fn asked(&self) -> Vec<SnapshotDesired> {
        self.store.desired(&self.link).await.unwrap().snapshots
    }

    pub(super) async fn told_of(&self, id: DesktopId) -> DesktopDesired {
        let desired = self.store.desired(&self.link).await.unwrap();
        desired.desktops.into_iter().find(|d| d.desktop == id).unwrap()
    }

    pub(super) async fn take(&self, desktop: DesktopId, name: &str) -> Result<Snapshot> {
        let new = NewSnapshot { name: Some(name.to_owned()), memory: None };
        Ok(self.store.take_snapshot("ada", desktop, &new).await?.0)
    }

    pub(super) async fn says_of(&self, seen: &[SnapshotObserved], complete: bool) {
        let observed = Observed { complete, snapshots: seen.to_vec(), ..Observed::default() };
        self.store.record(&self.link, &observed).await.unwrap();
    }

    pub(super) async fn taken(&self, desktop: DesktopId, name: &str) -> SnapshotId {
        let id = self.take(desktop, name).await.unwrap().id;
        self.says_of(&[observed(desktop, id, SnapshotState::Ready)], false).await;
        id
    }

    pub(super) async fn list(&self, desktop: DesktopId) -> Vec<Snapshot> {
        self.store.snapshots(desktop).await.unwrap()
    }
}

async fn a_snapshot_is_asked_for_until_its_host_says_that_it_is_there_or_gone(scene: Scene) {
    let (_, desktop) = scene.own(SnapshotPolicy::default()).await;
    let revision = scene.store.desired(&scene.link).await.unwrap().revision;
    let id = scene.take(desktop, "monday").await.unwrap().id;
    let asked = scene.asked().await;
    assert!(
        matches!(asked[..], [SnapshotDesired { snapshot, wish: SnapshotWish::Take { memory: true, .. }, .. }] if snapshot == id)
    );
    assert!(scene.store.desired(&scene.link).await.unwrap().revision > revision, "its host is told");
    scene.says_of(&[observed(desktop, id, SnapshotState::Taking)], false).await;
    let now = scene.list(desktop).await.remove(0);
    assert_eq!((now.state, now.progress, now.taken_at), (SnapshotState::Taking, 40, None));
    scene.says_of(&[observed(desktop, id, SnapshotState::Ready)], false).await;
    let now = scene.list(desktop).await.remove(0);
    assert_eq!((now.state, now.progress, now.bytes, now.pause_ms), (SnapshotState::Ready, 100, 4096, 70));
    assert_eq!((now.taken_at, now.current, now.memory), (Some(1_790_000_000), true, true));
    assert!(scene.asked().await.is_empty());

    assert!(scene.store.delete_snapshot("ada", id).await.unwrap().is_some());
    assert!(scene.store.delete_snapshot("ada", id).await.unwrap().is_none(), "that was decided");
    assert!(matches!(scene.asked().await[..], [SnapshotDesired { wish: SnapshotWish::Delete, .. }]));
    // What it said before it heard of that does not count.
    scene.says_of(&[observed(desktop, id, SnapshotState::Ready)], false).await;
    assert_eq!(scene.list(desktop).await[0].state, SnapshotState::Deleting);
    scene.says_of(&[observed(desktop, id, SnapshotState::Gone)], false).await;
    assert!(scene.list(desktop).await.is_empty() && scene.asked().await.is_empty());
    assert!(matches!(scene.store.snapshot(id).await, Err(Error::NotFound { .. })));
    // Given up for gone, and there none the less.
    scene.says_of(&[observed(desktop, id, SnapshotState::Ready)], false).await;
    assert!(matches!(scene.asked().await[..], [SnapshotDesired { wish: SnapshotWish::Delete, .. }]));
}

async fn what_cannot_be_taken_says_why_and_makes_room(scene: Scene) {
    let (_, desktop) = scene.own(SnapshotPolicy { max: Some(1), ..Default::default() }).await;
    let id = scene.take(desktop, "monday").await.unwrap().id;
    let failed = SnapshotObserved {
        detail: "the disk is full".into(),
        ..observed(desktop, id, SnapshotState::Failed)
    };
    scene.says_of(&[failed], false).await;
    let now = scene.list(desktop).await.remove(0);
    assert_eq!((now.state, now.detail.as_str()), (SnapshotState::Failed, "the disk is full"));
    assert!(scene.asked().await.is_empty());
    assert!(matches!(scene.store.put_back("ada", id).await, Err(Error::InUse { .. })));
    assert!(scene.store.delete_snapshot("ada", id).await.unwrap().is_none(), "its host has nothing to do");
    assert!(scene.list(desktop).await.is_empty());
    scene.take(desktop, "monday").await.unwrap();
}

async fn a_desktop_has_only_so_many_and_no_two_of_one_name(scene: Scene) {
    let (_, desktop) = scene.own(SnapshotPolicy { max: Some(2), ..Default::default() }).await;
    scene.taken(desktop, "monday").await;
    assert!(matches!(scene.take(desktop, " monday ").await, Err(Error::NameTaken { .. })));
    scene.taken(desktop, "tuesday").await;
    assert!(matches!(scene.take(desktop, "wednesday").await, Err(Error::TooManySnapshots { max: 2, .. })));
}

async fn one_that_is_given_up_is_told_so_and_is_gone(scene: Scene) {
    let (_, desktop) = scene.own(SnapshotPolicy::default()).await;
    let id = scene.take(desktop, "monday").await.unwrap().id;
    scene.says_of(&[observed(desktop, id, SnapshotState::Taking)], false).await;
    assert!(scene.store.delete_snapshot("ada", id).await.unwrap().is_some());
    scene.says_of(&[observed(desktop, id, SnapshotState::Failed)], false).await;
    assert!(scene.list(desktop).await.is_empty() && scene.asked().await.is_empty());
}

async fn a_desktop_is_put_back_once_for_each_wish(scene: Scene) {
    let (ada, desktop) = scene.own(SnapshotPolicy::default()).await;
    let id = scene.taken(desktop, "monday").await;
    let ended = scene.store.put_back("ada", id).await.unwrap();
    assert_eq!((ended.host, ended.why), (Some(scene.link.host), PUT_BACK));
    assert!(ended.session.is_some(), "its user is told");
    let told = scene.told_of(desktop).await;
    assert_eq!((told.wish, told.state, told.back_to), (2, DesiredState::Running, Some(id)));
    assert!(matches!(scene.store.delete_snapshot("ada", id).await, Err(Error::InUse { .. })));
    scene.is(desktop, 2, Phase::Ready).await;
    assert_eq!(scene.row(desktop).await.phase, Phase::Ready);
    assert_eq!(scene.row(desktop).await.back_to, None, "it is done");
    // The next wish is not to go back again.
    scene.store.power_off("ada", desktop).await.unwrap();
    let told = scene.told_of(desktop).await;
    assert_eq!((told.wish, told.state, told.back_to), (3, DesiredState::Off, None));
    scene.is(desktop, 3, Phase::Off).await;
    // What does not run goes back and does not run: with its memory it is suspended.
    scene.store.put_back("ada", id).await.unwrap();
    let told = scene.told_of(desktop).await;
    assert_eq!((told.wish, told.state, told.back_to), (4, DesiredState::Suspended, Some(id)));
    scene.is(desktop, 4, Phase::Suspended).await;
    let again = scene.connect_to(ada, "own").await.unwrap();
    assert!(again.powered_on && again.desktop.id == desktop);
    assert_eq!(scene.told_of(desktop).await.back_to, None);
    scene.is(desktop, 5, Phase::Ready).await;
    // It could not be done: it is off, and says why.
    scene.store.put_back("ada", id).await.unwrap();
    let refused = scene.take(desktop, "tuesday").await.unwrap_err();
    assert!(matches!(refused, Error::InUse { .. }), "nobody knows of what it would be");
    let why = "it could not be put back to its snapshot: its disk is full";
    let seen = DesktopObserved {
        desktop,
        generation: 1,
        wish: 6,
        phase: Phase::Off,
        detail: why.to_owned(),
        endpoint: None,
        timings: Default::default(),
    };
    scene.store.record(&scene.link, &Observed { desktops: vec![seen], ..Observed::default() }).await.unwrap();
    let row = scene.row(desktop).await;
    assert_eq!((row.desired, row.phase, row.detail.as_str()), (DesiredState::Off, Phase::Off, why));
    assert!(scene.store.delete_snapshot("ada", id).await.unwrap().is_some());
}

async fn it_is_put_back_though_somebody_wants_something_else_before(scene: Scene) {
    let (ada, desktop) = scene.own(SnapshotPolicy::default()).await;
    let id = scene.taken(desktop, "monday").await;
    let taking = scene.take(desktop, "tuesday").await.unwrap().id;
    let refused = scene.store.put_back("ada", id).await.unwrap_err();
    assert!(matches!(refused, Error::InUse { .. }), "what is being taken would be of what comes after");
    scene.says_of(&[observed(desktop, taking, SnapshotState::Ready)], false).await;
    scene.store.power_off("ada", desktop).await.unwrap();
    scene.is(desktop, 2, Phase::Off).await;
    scene.store.put_back("ada", id).await.unwrap();
    // Its host has not heard of it, and its user comes.
    assert!(scene.connect_to(ada, "own").await.unwrap().powered_on);
    let told = scene.told_of(desktop).await;
    assert_eq!((told.wish, told.state, told.back_to), (4, DesiredState::Running, Some(id)));
    scene.is(desktop, 3, Phase::Suspended).await;
    assert_eq!(scene.told_of(desktop).await.back_to, Some(id), "that is of an earlier wish");
    scene.is(desktop, 4, Phase::Ready).await;
    assert_eq!(scene.told_of(desktop).await.back_to, None);
}

async fn a_schedule_takes_them_and_keeps_the_last(scene: Scene) {
    let policy = SnapshotPolicy { every_s: Some(86_400), keep: Some(3), max: Some(1), ..Default::default() };
    let (_, desktop) = scene.own(policy).await;
    let by_hand = scene.taken(desktop, "by hand").await;
    let timers = || async {
        let mut timers = scene.all(Timer::all).await;
        timers.retain(|timer: &Timer| timer.kind == TimerKind::DesktopSnapshot);
        timers
    };
    let mut days = Vec::new();
    for day in 1..=5 {
        assert_eq!(timers().await.len(), 1);
        scene.set_timer(TimerKind::DesktopSnapshot, desktop.0, 1).await;
        scene.store.ring().await.unwrap();
        scene.store.ring().await.unwrap();
        let new: Vec<_> =
            scene.list(desktop).await.into_iter().filter(|s| s.state == SnapshotState::Taking).collect();
        assert_eq!(new.len(), 1, "day {day}");
        assert!(new[0].scheduled && !new[0].memory);
        // Its host has not come to it: the next day none is asked for besides.
        scene.set_timer(TimerKind::DesktopSnapshot, desktop.0, 1).await;
        scene.store.ring().await.unwrap();
        let seen = SnapshotObserved { memory: false, ..observed(desktop, new[0].id, SnapshotState::Ready) };
        scene.says_of(&[seen], false).await;
        days.push(new[0].id);
        for wish in scene.asked().await {
            assert_eq!(wish.wish, SnapshotWish::Delete);
            scene.says_of(&[observed(desktop, wish.snapshot, SnapshotState::Gone)], false).await;
        }
        // No two of one name: the names go by the second.
        scene.rename(new[0].id, day).await;
    }
    let left: Vec<_> = scene.list(desktop).await.into_iter().map(|snapshot| snapshot.id).collect();
    assert_eq!(left, [by_hand, days[2], days[3], days[4]]);
}

impl Scene {
    async fn rename(&self, id: SnapshotId, day: u32) {
        let renamed = self.store.write(move |tx| {
            let mut row = tx.lock(lucarne_db::tables::Snapshot::key(&id))?.unwrap();
            row.name = format!("day {day}");
            Ok(tx.update(&row)?)
        });
        renamed.await.unwrap();
    }
}

async fn what_a_host_has_or_lacks_is_known_when_it_lists_all(scene: Scene) {
    let (_, desktop) = scene.own(SnapshotPolicy::default()).await;
    let (lost, deleted) = (scene.taken(desktop, "lost").await, scene.taken(desktop, "deleted").await);
    let waits = scene.take(desktop, "waits").await.unwrap().id;
    scene.store.delete_snapshot("ada", deleted).await.unwrap();
    // A database that was put back does not know of one.
    let unknown = SnapshotId(uuid::Uuid::from_u128(77));
    let here = DesktopObserved {
        desktop,
        generation: 1,
        wish: 1,
        phase: Phase::Ready,
        detail: String::new(),
        endpoint: None,
        timings: Default::default(),
    };
    let observed = Observed {
        complete: true,
        desktops: vec![here],
        snapshots: vec![observed(desktop, unknown, SnapshotState::Ready)],
        ..Observed::default()
    };
    scene.store.record(&scene.link, &observed).await.unwrap();
    let now = scene.list(desktop).await;
    let state = |id| now.iter().find(|s| s.id == id).map(|s| s.state);
    assert_eq!(state(lost), Some(SnapshotState::Failed));
    assert_eq!(state(deleted), None);
    assert_eq!(state(waits), Some(SnapshotState::Taking), "it has not heard of it yet");
    assert_eq!(state(unknown), Some(SnapshotState::Ready));
    assert_eq!(now.iter().find(|s| s.id == unknown).unwrap().name, "2026-09-21 14:13:20");
}

async fn snapshots_go_with_their_desktop_and_floating_ones_have_none(scene: Scene) {
    let (ada, desktop) = scene.own(SnapshotPolicy::default()).await;
    let id = scene.taken(desktop, "monday").await;
    scene.take(desktop, "tuesday").await.unwrap();
    scene.store.end_desktop("admin", desktop, "not needed").await.unwrap();
    assert!(matches!(scene.take(desktop, "wednesday").await, Err(Error::NotFound { .. })));
    scene.is(desktop, 2, Phase::Stopped).await;
    assert!(matches!(scene.store.snapshot(id).await, Err(Error::NotFound { .. })));
    assert!(scene.asked().await.is_empty());
    let floating = scene.connect_to(ada, "desk").await.unwrap().desktop.id;
    scene.is(floating, 1, Phase::Ready).await;
    assert!(matches!(scene.take(floating, "monday").await, Err(Error::NoSnapshots { .. })));
    let next = scene.connect_to(ada, "own").await.unwrap().desktop.id;
    assert!(matches!(scene.take(next, "monday").await, Err(Error::NotMade { .. })));
}

async fn what_a_schedule_could_not_take_costs_none_that_is_there(scene: Scene) {
    let policy = SnapshotPolicy { every_s: Some(86_400), keep: Some(2), ..Default::default() };
    let (_, desktop) = scene.own(policy).await;
    let next = || async {
        scene.set_timer(TimerKind::DesktopSnapshot, desktop.0, 1).await;
        scene.store.ring().await.unwrap();
        scene.list(desktop).await.into_iter().find(|s| s.state == SnapshotState::Taking)
    };
    let mut kept = Vec::new();
    for day in 1..=2 {
        let id = next().await.unwrap().id;
        scene.says_of(&[observed(desktop, id, SnapshotState::Ready)], false).await;
        scene.rename(id, day).await;
        kept.push(id);
    }
    for day in 3..=6 {
        let id = next().await.unwrap().id;
        scene.says_of(&[observed(desktop, id, SnapshotState::Failed)], false).await;
        scene.rename(id, day).await;
    }
    let there = scene.list(desktop).await;
    let ready: Vec<_> = there.iter().filter(|s| s.state == SnapshotState::Ready).map(|s| s.id).collect();
    assert_eq!((ready, there.len()), (kept, 3), "and the last that failed");
    // Off, it is as it was taken last.
    scene.store.power_off("ada", desktop).await.unwrap();
    scene.is(desktop, 2, Phase::Off).await;
    let id = next().await.unwrap().id;
    scene.says_of(&[observed(desktop, id, SnapshotState::Ready)], false).await;
    assert!(next().await.is_none(), "it has not run since");
}
