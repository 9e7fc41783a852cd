//! Users' disks, shown on every engine: one for a user and a pool, where it is, and their end.

use super::tests::{Scene, new_pool, scene};
use super::*;
use lucarne_control::agent::{DesktopDesired, DesktopObserved, Observed};
use lucarne_control::api::{DiskState, NewPool};
use lucarne_control::desktop::Phase;
use lucarne_control::pool::HomePolicy;
use lucarne_control::spec::ImageDigest;
use lucarne_control::{DesktopId, DiskId};
use lucarne_db::tables::{Disk, Host};

lucarne_postgres::on_each_engine!(
    scene:
    each_desktop_of_a_user_has_the_same_disk_and_nobody_elses,
    a_disk_that_was_never_made_keeps_nobody_on_a_host,
    a_disk_is_waited_for_when_its_host_is_lost,
    a_disk_is_destroyed_by_somebodys_will_and_gone_when_its_host_says_so,
    the_disks_of_a_dead_host_are_lost_with_it,
    a_database_that_is_older_than_a_disk_learns_where_it_is,
    who_connect_at_once_have_one_disk_between_them,
    a_disk_that_one_desktop_gives_back_stays_where_the_next_one_waits_for_it,
    a_disk_that_is_there_none_the_less_is_destroyed,
);

async fn homes(scene: &Scene) {
    let new = NewPool { home: HomePolicy { size_gib: Some(3) }, ..new_pool("homes") };
    scene.store.create_pool("admin", &new, &ImageDigest::try_from("ab".repeat(32)).unwrap()).await.unwrap();
}

impl Scene {
    async fn told(&self, desktop: DesktopId) -> DesktopDesired {
        let desired = self.store.desired(&self.link).await.unwrap();
        desired.desktops.into_iter().find(|d| d.desktop == desktop).unwrap()
    }

    async fn doomed(&self) -> Vec<DiskId> {
        self.store.desired(&self.link).await.unwrap().deleted_disks
    }

    /// What the host says of its disks.
    async fn tells_disks(&self, disks: &[DiskId], gone: &[DiskId], complete: bool) {
        let observed =
            Observed { complete, disks: disks.to_vec(), gone_disks: gone.to_vec(), ..Observed::default() };
        self.store.record(&self.link, &observed).await.unwrap();
    }

    async fn leave(&self, assigned: &Assigned) {
        let session = assigned.session.as_ref().unwrap().session.id;
        self.store.log_off("test", session).await.unwrap();
    }

    async fn stopped(&self, desktop: DesktopId) {
        let seen = DesktopObserved {
            desktop,
            generation: 1,
            wish: 2,
            phase: Phase::Stopped,
            detail: String::new(),
            endpoint: None,
            timings: Default::default(),
        };
        let observed = Observed { desktops: vec![seen], ..Observed::default() };
        assert_eq!(self.store.record(&self.link, &observed).await.unwrap().destroyed, [desktop]);
    }

    async fn disk(&self) -> Disk {
        self.all(|| Disk::all().limit(100)).await.remove(0)
    }
}

async fn each_desktop_of_a_user_has_the_same_disk_and_nobody_elses(scene: Scene) {
    homes(&scene).await;
    let (ada, ben) = (scene.user("ada").await, scene.user("ben").await);
    let first = scene.connect_to(ada, "homes").await.unwrap();
    let home = scene.told(first.desktop.id).await.home.unwrap();
    assert_eq!((home.size_mib, home.fresh), (3 << 10, true));
    scene.tells_disks(&[home.disk], &[], false).await;
    assert!(!scene.told(first.desktop.id).await.home.unwrap().fresh, "it is never made anew");
    scene.leave(&first).await;
    let second = scene.connect_to(ada, "homes").await.unwrap();
    assert_ne!(second.desktop.id, first.desktop.id);
    assert_eq!(scene.told(second.desktop.id).await.home.unwrap().disk, home.disk);
    let other = scene.connect_to(ben, "homes").await.unwrap();
    assert_ne!(scene.told(other.desktop.id).await.home.unwrap().disk, home.disk);
    let plain = scene.connect_to(ada, "desk").await.unwrap();
    assert_eq!(scene.told(plain.desktop.id).await.home, None);
    let listed = scene.store.disks(&Reach::everywhere(), None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|d| d.user.as_str()).collect::<Vec<_>>(), ["ada", "ben"]);
    assert_eq!((listed[0].state, listed[1].state), (DiskState::Present, DiskState::Planned));
    assert_eq!(listed[0].desktop.as_deref(), Some(second.desktop.name.as_str()));
    let own = scene.store.disks(&Reach::own(ben), None, 10).await.unwrap();
    assert_eq!(own, listed[1..], "what is theirs");
    scene.check_counts().await;
}

async fn a_disk_that_was_never_made_keeps_nobody_on_a_host(scene: Scene) {
    homes(&scene).await;
    let ada = scene.user("ada").await;
    let first = scene.connect_to(ada, "homes").await.unwrap();
    let disk = scene.disk().await;
    assert_eq!(disk.host_id, Some(scene.link.host));
    scene.leave(&first).await;
    scene.stopped(first.desktop.id).await;
    assert_eq!(scene.disk().await.host_id, None);
    let second = scene.connect_to(ada, "homes").await.unwrap();
    assert_eq!(scene.told(second.desktop.id).await.home.unwrap().disk, disk.id, "it is the same one");
    scene.tells_disks(&[disk.id], &[], false).await;
    scene.leave(&second).await;
    scene.stopped(second.desktop.id).await;
    assert_eq!(scene.disk().await.host_id, Some(scene.link.host), "now it is there");
}

async fn a_disk_is_waited_for_when_its_host_is_lost(scene: Scene) {
    homes(&scene).await;
    let ada = scene.user("ada").await;
    let first = scene.connect_to(ada, "homes").await.unwrap();
    scene.tells_disks(&[scene.disk().await.id], &[], false).await;
    scene.store.unlink(&scene.link, "the cable").await.unwrap();
    scene.lost_for_long().await;
    let again = scene.connect_to(ada, "homes").await.unwrap();
    assert_eq!(again.desktop.id, first.desktop.id, "no other has what they saved");
    scene.leave(&first).await;
    let refused = scene.connect_to(ada, "homes").await.unwrap_err().to_string();
    assert!(refused.contains("the home disk is on one host alone"), "{refused}");
}

async fn a_disk_is_destroyed_by_somebodys_will_and_gone_when_its_host_says_so(scene: Scene) {
    homes(&scene).await;
    let ada = scene.user("ada").await;
    let first = scene.connect_to(ada, "homes").await.unwrap();
    let disk = scene.disk().await.id;
    scene.tells_disks(&[disk], &[], false).await;
    let refused = scene.store.delete_disk("admin", disk).await.unwrap_err();
    assert!(matches!(refused, Error::InUse { what: "disk", .. }), "{refused}");
    scene.leave(&first).await;
    let refused = scene.store.delete_pool("admin", "homes", false).await.unwrap_err().to_string();
    assert!(refused.contains("home disk"), "{refused}");
    assert_eq!(scene.store.delete_disk("admin", disk).await.unwrap(), Some(scene.link.host));
    assert_eq!(scene.store.delete_disk("admin", disk).await.unwrap(), None, "it was decided before");
    assert_eq!(scene.doomed().await, [disk]);
    let second = scene.connect_to(ada, "homes").await.unwrap();
    assert_ne!(scene.told(second.desktop.id).await.home.unwrap().disk, disk, "the next has a new one");
    // Not by a host that has it still, nor by one that tells of others.
    scene.tells_disks(&[disk], &[], true).await;
    assert_eq!(scene.doomed().await, [disk]);
    scene.tells_disks(&[], &[disk], false).await;
    assert!(scene.doomed().await.is_empty());
    assert!(matches!(scene.store.disk(disk).await, Err(Error::NotFound { .. })));
    let deleted = scene.store.delete_user("admin", "ada").await.unwrap();
    assert_eq!(deleted.ended.len(), 1);
    assert_eq!(scene.doomed().await.len(), 1, "what a user saved goes with them");
    // A host that does not list it any more has destroyed it.
    scene.tells_disks(&[], &[], true).await;
    assert!(scene.doomed().await.is_empty());
}

async fn the_disks_of_a_dead_host_are_lost_with_it(scene: Scene) {
    homes(&scene).await;
    let ada = scene.user("ada").await;
    let first = scene.connect_to(ada, "homes").await.unwrap();
    let disk = scene.disk().await.id;
    scene.tells_disks(&[disk], &[], false).await;
    scene.leave(&first).await;
    scene.stopped(first.desktop.id).await;
    scene.store.unlink(&scene.link, "fire").await.unwrap();
    let host = scene.store.hosts(None, 1).await.unwrap().remove(0);
    let refused = scene.store.delete_host("admin", &host).await.unwrap_err().to_string();
    assert!(refused.contains("1 home disk(s) are on it"), "{refused}");
    scene.store.fence_host("admin", host.id, scene.link.epoch, "it burnt").await.unwrap();
    assert_eq!(scene.store.disk(disk).await.unwrap().0.state, DiskState::Deleting, "should it come back");
    scene.store.delete_host("admin", &host).await.unwrap();
    assert!(scene.all(Host::all).await.is_empty());
    assert!(matches!(scene.store.disk(disk).await, Err(Error::NotFound { .. })));
}

async fn a_database_that_is_older_than_a_disk_learns_where_it_is(scene: Scene) {
    homes(&scene).await;
    let ada = scene.user("ada").await;
    let first = scene.connect_to(ada, "homes").await.unwrap();
    scene.leave(&first).await;
    scene.stopped(first.desktop.id).await;
    let disk = scene.disk().await;
    assert_eq!((disk.host_id, disk.made_at), (None, None));
    scene.tells_disks(&[disk.id, DiskId::generate()], &[], true).await;
    let disk = scene.disk().await;
    assert_eq!(disk.host_id, Some(scene.link.host));
    assert!(disk.made_at.is_some());
}

async fn who_connect_at_once_have_one_disk_between_them(scene: Scene) {
    homes(&scene).await;
    let ada = scene.user("ada").await;
    let tries = (0..8).map(|_| scene.connect_to(ada, "homes"));
    let all = futures_util::future::join_all(tries).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(scene.all(|| Disk::all().limit(100)).await.len(), 1);
}

async fn a_disk_that_one_desktop_gives_back_stays_where_the_next_one_waits_for_it(scene: Scene) {
    let new = NewPool { home: HomePolicy { size_gib: Some(3) }, max_desktops: Some(1), ..new_pool("homes") };
    scene.store.create_pool("admin", &new, &ImageDigest::try_from("ab".repeat(32)).unwrap()).await.unwrap();
    let ada = scene.user("ada").await;
    let first = scene.connect_to(ada, "homes").await.unwrap();
    scene.leave(&first).await;
    let second = scene.connect_to(ada, "homes").await.expect("there is one place, and it is theirs");
    // It was never made, and the one that it was for is gone: the other is to have it.
    scene.stopped(first.desktop.id).await;
    assert_eq!(scene.disk().await.host_id, Some(scene.link.host));
    assert_eq!(scene.told(second.desktop.id).await.home.unwrap().disk, scene.disk().await.id);
    let explained =
        scene.store.explain("ada", "homes", std::sync::Arc::new(super::tests::Fine)).await.unwrap();
    assert_eq!(explained.outcome, "desktop_found");
    scene.check_counts().await;
}

async fn a_disk_that_is_there_none_the_less_is_destroyed(scene: Scene) {
    homes(&scene).await;
    let ada = scene.user("ada").await;
    let first = scene.connect_to(ada, "homes").await.unwrap();
    let disk = scene.disk().await.id;
    scene.tells_disks(&[disk], &[], false).await;
    scene.leave(&first).await;
    scene.store.delete_disk("admin", disk).await.unwrap();
    scene.tells_disks(&[], &[disk], false).await;
    assert!(scene.doomed().await.is_empty());
    scene.tells_disks(&[disk], &[], true).await;
    assert_eq!(scene.doomed().await, [disk], "a host has it again, such as from a backup of its own");
}
