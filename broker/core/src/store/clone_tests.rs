//! Clones, shown on every engine: who may have one, where it is made, and how long what it is made of is kept.

use super::snapshot_tests::observed;
use super::tests::{Fine, Scene, new_pool, scene};
use super::*;
use lucarne_control::agent::{CloneOf, DesktopObserved, Observed, SnapshotState};
use lucarne_control::api::NewPool;
use lucarne_control::desktop::Phase;
use lucarne_control::pool::PoolKind;
use lucarne_control::snapshot::SnapshotPolicy;
use lucarne_control::spec::{ImageDigest, MachineShape, NetworkPolicy};
use lucarne_control::{DesktopId, SnapshotId, UserId};

lucarne_postgres::on_each_engine!(
    scene:
    a_clone_is_made_where_its_snapshot_is_and_that_is_kept_until_it_is_there,
    who_may_not_have_a_clone_is_told_why_and_nothing_is_made,
    a_snapshot_that_is_being_taken_is_cloned_and_one_that_was_not_is_not,
    a_clone_that_failed_keeps_nothing,
);

impl Scene {
    async fn clones(&self, snapshot: SnapshotId, user: UserId, pool: &str) -> Result<DesktopRow> {
        let actor = "admin".to_owned();
        let request = CloneRequest { snapshot, user, actor, pool: pool.to_owned() };
        self.store.clone_snapshot(request, Arc::new(Fine)).await
    }

    async fn says_that(&self, desktop: DesktopId, phase: Phase, detail: &str) {
        let seen = DesktopObserved {
            desktop,
            generation: 1,
            wish: 1,
            phase,
            detail: detail.to_owned(),
            endpoint: None,
            timings: Default::default(),
        };
        let observed = Observed { desktops: vec![seen], ..Observed::default() };
        self.store.record(&self.link, &observed).await.unwrap();
    }
}

async fn a_clone_is_made_where_its_snapshot_is_and_that_is_kept_until_it_is_there(scene: Scene) {
    let (_, desktop) = scene.own(SnapshotPolicy::default()).await;
    let snapshot = scene.taken(desktop, "monday").await;
    let grace = scene.user("grace").await;
    let clone = scene.clones(snapshot, grace, "own").await.unwrap();
    assert_eq!((clone.user.clone().unwrap().0, clone.pool.as_str()), (grace, "own"));
    assert_eq!(clone.host.as_ref().unwrap().id, scene.link.host);
    let told = scene.told_of(clone.id).await;
    assert_eq!(told.origin, Some(CloneOf { desktop, snapshot }));
    let source = scene.told_of(desktop).await;
    assert!(source.origin.is_none() && source.identity != told.identity && source.template == told.template);

    let refused = scene.store.delete_snapshot("ada", snapshot).await.unwrap_err();
    assert!(refused.to_string().contains("is being made of it"), "{refused}");
    scene.says_that(clone.id, Phase::Preparing, "it is being copied").await;
    assert!(scene.store.delete_snapshot("ada", snapshot).await.is_err(), "it may begin anew");
    scene.says_that(clone.id, Phase::Starting, "").await;
    assert_eq!(scene.told_of(clone.id).await.origin, None, "it is its own from now on");
    assert!(scene.store.delete_snapshot("ada", snapshot).await.unwrap().is_some());
    // It is theirs as any is.
    let again = scene.connect_to(grace, "own").await.unwrap();
    assert!(!again.fresh && again.desktop.id == clone.id);
}

async fn who_may_not_have_a_clone_is_told_why_and_nothing_is_made(scene: Scene) {
    let (ada, desktop) = scene.own(SnapshotPolicy::default()).await;
    let snapshot = scene.taken(desktop, "monday").await;
    let grace = scene.user("grace").await;
    assert!(matches!(scene.clones(snapshot, ada, "own").await, Err(Error::AlreadyAssigned { .. })));
    let nowhere = scene.clones(SnapshotId::generate(), grace, "own").await;
    assert!(matches!(nowhere, Err(Error::NotFound { what: "snapshot", .. })));
    let digest = ImageDigest::try_from("ab".repeat(32)).unwrap();
    let larger = MachineShape { memory_mib: 4096, ..MachineShape::default() };
    let other = NewPool { kind: PoolKind::Personal, machine: Some(larger), ..new_pool("larger") };
    let closed = NewPool { kind: PoolKind::Personal, entitled_groups: Vec::new(), ..new_pool("closed") };
    let alone = NewPool { kind: PoolKind::Personal, network: NetworkPolicy::None, ..new_pool("alone") };
    for new in [other, alone, new_pool("floating"), closed] {
        scene.store.create_pool("admin", &new, &digest).await.unwrap();
    }
    for pool in ["larger", "alone", "floating"] {
        let refused = scene.clones(snapshot, grace, pool).await;
        assert!(matches!(refused, Err(Error::OtherTemplate { .. })), "{pool}");
    }
    assert!(matches!(scene.clones(snapshot, grace, "closed").await, Err(Error::NotEntitled { .. })));
    assert_eq!(scene.store.desired(&scene.link).await.unwrap().desktops.len(), 1, "nothing is made");
    // It is in another pool that ada may have another one.
    let second = NewPool { kind: PoolKind::Personal, ..new_pool("second") };
    scene.store.create_pool("admin", &second, &digest).await.unwrap();
    scene.clones(snapshot, ada, "second").await.unwrap();
}

async fn a_snapshot_that_is_being_taken_is_cloned_and_one_that_was_not_is_not(scene: Scene) {
    let (_, desktop) = scene.own(SnapshotPolicy::default()).await;
    let grace = scene.user("grace").await;
    let taking = scene.take(desktop, "monday").await.unwrap().id;
    let failed = scene.take(desktop, "tuesday").await.unwrap().id;
    scene.says_of(&[observed(desktop, failed, SnapshotState::Failed)], false).await;
    assert!(matches!(scene.clones(failed, grace, "own").await, Err(Error::InUse { what: "snapshot", .. })));
    scene.clones(taking, grace, "own").await.unwrap();
    let gone = scene.taken(desktop, "wednesday").await;
    scene.store.delete_snapshot("ada", gone).await.unwrap();
    let joan = scene.user("joan").await;
    assert!(matches!(scene.clones(gone, joan, "own").await, Err(Error::InUse { .. })));
}

async fn a_clone_that_failed_keeps_nothing(scene: Scene) {
    let (_, desktop) = scene.own(SnapshotPolicy::default()).await;
    let snapshot = scene.taken(desktop, "monday").await;
    let grace = scene.user("grace").await;
    let clone = scene.clones(snapshot, grace, "own").await.unwrap().id;
    scene.says_that(clone, Phase::Failed, "the disk is full").await;
    let row = scene.row(clone).await;
    assert!(!row.is_wanted() && row.detail.contains("the disk is full"), "{row:?}");
    assert!(scene.store.delete_snapshot("ada", snapshot).await.unwrap().is_some());
    scene.says_that(clone, Phase::Stopped, "").await;
    assert!(scene.row(desktop).await.is_wanted());
    let fresh = scene.connect_to(grace, "own").await.unwrap();
    assert!(fresh.fresh && fresh.desktop.id != clone);
}
