//! How desktops live, shown on every engine: those that wait, those that stay, what ends by itself, and quotas.

use super::tests::{Fine, Scene, new_pool, scene};
use super::*;
use lucarne_control::DesktopId;
use lucarne_control::agent::{DesktopObserved, Observed};
use lucarne_control::api::NewPool;
use lucarne_control::desktop::{DesiredState, Phase};
use lucarne_control::pool::{PoolKind, PowerPolicy, ReadyPolicy, SessionLimits};
use lucarne_control::spec::ImageDigest;
use lucarne_db::tables::{Assignment, Charge, Desktop, Host, Session, Timer, TimerKind};
use std::collections::BTreeSet;
use std::sync::Arc;

lucarne_postgres::on_each_engine!(
    scene:
    as_many_desktops_wait_as_should_and_who_comes_gets_one_of_them,
    who_come_at_once_get_a_waiting_desktop_each,
    desktops_that_wait_go_when_their_pool_changes_or_fewer_are_to_wait,
    desktops_that_fail_are_made_again_later_and_later,
    a_personal_desktop_stays_with_its_user_and_is_powered_on_again,
    a_personal_desktop_is_suspended_and_one_that_cannot_be_goes_on,
    a_personal_desktop_is_waited_for_when_its_host_is_lost,
    a_personal_desktop_that_its_host_does_not_find_stays_its_users,
    a_personal_desktop_that_waits_and_that_its_host_does_not_find_makes_room_for_another,
    a_personal_desktop_whose_session_nobody_ended_is_powered_off_when_nobody_uses_it,
    a_personal_desktops_session_ends_when_that_is_due_and_its_desktop_stays,
    who_comes_back_to_their_session_is_not_absent_any_more,
    a_limit_that_is_lifted_ends_nobody,
    nobodys_absence_counts_while_no_broker_was_there,
    what_is_powered_off_from_within_stays_so_until_somebody_connects,
    what_is_due_is_done_once_and_not_to_who_came_back,
    a_user_has_no_more_desktops_than_their_quota,
    a_group_has_no_more_desktops_than_its_quota_however_many_ask_at_once,
    a_pool_goes_only_to_hosts_with_its_labels,
);

impl Scene {
    async fn pool_with(&self, new: NewPool) {
        let digest = ImageDigest::try_from("ab".repeat(32)).unwrap();
        self.store.create_pool("admin", &new, &digest).await.unwrap();
    }

    async fn prepare(&self) -> Prepared {
        self.store.prepare(Arc::new(Fine)).await.unwrap()
    }

    async fn desktop(&self, id: DesktopId) -> Desktop {
        self.all(move || Desktop::all().limit(100)).await.into_iter().find(|d: &Desktop| d.id == id).unwrap()
    }

    async fn waiting(&self, pool: &str) -> Vec<Desktop> {
        let pool = self.store.pool(pool).await.unwrap().id;
        let all = self.all(move || Desktop::waiting(&pool)).await;
        all.into_iter().filter(Desktop::is_wanted).collect()
    }

    /// What the host says of a desktop, by the wish that it followed.
    async fn tells(&self, desktop: DesktopId, wish: u64, phase: Phase) -> Recorded {
        let seen = DesktopObserved {
            desktop,
            generation: 1,
            wish,
            phase,
            detail: String::new(),
            endpoint: None,
            timings: Default::default(),
        };
        self.store
            .record(&self.link, &Observed { desktops: vec![seen], ..Observed::default() })
            .await
            .unwrap()
    }

    /// The time of all timers has come.
    async fn hurry(&self) -> Vec<Ended> {
        for timer in self.all(Timer::all).await {
            self.set_timer(timer.kind, timer.subject, 1).await;
        }
        self.store.ring().await.unwrap()
    }
}

fn ready(name: &str, min: u32) -> NewPool {
    NewPool { ready: ReadyPolicy { min, max_starting: Some(2), ..Default::default() }, ..new_pool(name) }
}

async fn as_many_desktops_wait_as_should_and_who_comes_gets_one_of_them(scene: Scene) {
    scene.pool_with(ready("office", 3)).await;
    assert_eq!(scene.prepare().await.hosts.len(), 2, "two at once");
    assert_eq!(scene.prepare().await.hosts.len(), 0, "they are being made");
    let first = scene.waiting("office").await;
    assert!(first.iter().all(|d| d.user_id.is_none() && !d.assigned));
    scene.tells(first[1].id, 1, Phase::Ready).await;
    assert_eq!(scene.prepare().await.hosts.len(), 1);
    let ada = scene.user("ada").await;
    let given = scene.connect_to(ada, "office").await.unwrap();
    assert!(given.prepared && !given.fresh);
    assert_eq!(given.desktop.id, first[1].id, "the one that is ready");
    let row = scene.desktop(given.desktop.id).await;
    assert!(row.assigned && row.user_id == Some(ada) && row.taken_at.is_some());
    assert_eq!(scene.connect_to(ada, "office").await.unwrap().desktop.id, given.desktop.id, "it is theirs");
    assert_eq!(scene.store.pool("office").await.unwrap().waiting, 2);
    scene.tells(first[0].id, 1, Phase::Ready).await;
    assert_eq!(scene.prepare().await.hosts.len(), 1, "another takes its place");
    scene.check_counts().await;
}

async fn who_come_at_once_get_a_waiting_desktop_each(scene: Scene) {
    scene
        .pool_with(NewPool {
            ready: ReadyPolicy { min: 5, max_starting: Some(9), ..Default::default() },
            ..new_pool("office")
        })
        .await;
    scene.prepare().await;
    let mut users = Vec::new();
    for n in 0..8 {
        users.push(scene.user(&format!("user-{n}")).await);
    }
    let all = users.iter().map(|user| scene.connect_to(*user, "office"));
    let given: Vec<_> = futures_util::future::join_all(all).await.into_iter().map(|a| a.unwrap()).collect();
    let ids: BTreeSet<_> = given.iter().map(|a| a.desktop.id).collect();
    assert_eq!(ids.len(), 8, "nobody shares one");
    assert_eq!(given.iter().filter(|a| a.prepared).count(), 5);
    scene.check_counts().await;
}

async fn desktops_that_wait_go_when_their_pool_changes_or_fewer_are_to_wait(scene: Scene) {
    scene.pool_with(ready("office", 2)).await;
    scene.prepare().await;
    let wanted = |new: NewPool| Wanted { pools: vec![new], prune: false };
    scene.store.apply_pools("admin", &Reach::everywhere(), &wanted(ready("office", 1)), None).await.unwrap();
    let before = scene.waiting("office").await;
    assert_eq!(scene.prepare().await.ended.len(), 1);
    assert_eq!(scene.waiting("office").await, before[..1], "the one that was made first stays");
    let silent = NewPool { audio: Some(false), ..ready("office", 1) };
    scene.store.apply_pools("admin", &Reach::everywhere(), &wanted(silent), None).await.unwrap();
    let done = scene.prepare().await;
    assert_eq!((done.ended.len(), done.hosts.len()), (1, 1), "one that is as the pool says takes its place");
    scene.store.drain_host("admin", scene.link.host, true).await.unwrap();
    assert_eq!(scene.prepare().await.ended.len(), 1, "nothing waits on a drained host");
    assert!(scene.waiting("office").await.is_empty());
    assert!(scene.prepare().await.hosts.is_empty());
    scene.check_counts().await;
}

async fn desktops_that_fail_are_made_again_later_and_later(scene: Scene) {
    scene.pool_with(ready("office", 1)).await;
    scene.prepare().await;
    let made = scene.waiting("office").await.remove(0);
    assert_eq!(scene.tells(made.id, 1, Phase::Failed).await.ended.len(), 1);
    assert!(scene.prepare().await.hosts.is_empty(), "not at once");
    let pool = scene.store.pool("office").await.unwrap().id;
    let row = scene.all(lucarne_db::tables::Pool::all).await.into_iter().find(|p| p.id == pool).unwrap();
    assert_eq!(row.preparation.0.failures, 1);
    assert!(row.preparation.0.not_before > row.created_at);
    scene.tells(made.id, 1, Phase::Stopped).await;
    scene.check_counts().await;
}

fn personal(name: &str) -> NewPool {
    let power = PowerPolicy { off_after_s: Some(60), suspend_after_s: None };
    NewPool { kind: PoolKind::Personal, power, ..new_pool(name) }
}

async fn a_personal_desktop_stays_with_its_user_and_is_powered_on_again(scene: Scene) {
    scene.pool_with(personal("own")).await;
    let ada = scene.user("ada").await;
    let first = scene.connect_to(ada, "own").await.unwrap();
    let (id, session) = (first.desktop.id, first.session.unwrap().session.id);
    scene.tells(id, 1, Phase::Ready).await;
    let (_, ended) = scene.store.log_off("ada", session).await.unwrap();
    let ended = ended.unwrap();
    assert_eq!((ended.session, ended.host), (Some(session), None), "nothing is destroyed");
    let row = scene.desktop(id).await;
    assert!(row.assigned && row.desired == DesiredState::Running && row.ended_at.is_none());
    // Nobody uses it.
    let off = scene.hurry().await;
    assert_eq!(off.iter().map(|e| (e.desktop, e.host)).collect::<Vec<_>>(), [(id, Some(scene.link.host))]);
    let row = scene.desktop(id).await;
    assert_eq!((row.desired, row.desired_gen), (DesiredState::Off, 2));
    scene.tells(id, 2, Phase::Off).await;
    assert_eq!(scene.desktop(id).await.phase, Phase::Off);
    let desired = scene.store.desired(&scene.link).await.unwrap();
    let told = desired.desktops.iter().find(|d| d.desktop == id).unwrap();
    assert!(told.persistent && told.state == DesiredState::Off && told.wish == 2);
    let again = scene.connect_to(ada, "own").await.unwrap();
    assert!(again.powered_on && !again.fresh);
    assert_eq!(again.desktop.id, id);
    let row = scene.desktop(id).await;
    assert_eq!((row.desired, row.desired_gen), (DesiredState::Running, 3));
    // Its host has not heard of that yet.
    scene.tells(id, 2, Phase::Off).await;
    assert_eq!(scene.desktop(id).await.desired, DesiredState::Running);
    scene.tells(id, 3, Phase::Ready).await;
    assert_eq!(scene.desktop(id).await.phase, Phase::Ready);
    assert_ne!(again.session.unwrap().session.id, session);
    scene.store.end_desktop("admin", id, "it is not needed").await.unwrap();
    scene.tells(id, 3, Phase::Stopped).await;
    scene.check_counts().await;
}

async fn a_personal_desktop_is_suspended_and_one_that_cannot_be_goes_on(scene: Scene) {
    let power = PowerPolicy { off_after_s: None, suspend_after_s: Some(60) };
    scene.pool_with(NewPool { power, ..personal("own") }).await;
    let ada = scene.user("ada").await;
    let first = scene.connect_to(ada, "own").await.unwrap();
    let (id, session) = (first.desktop.id, first.session.unwrap().session.id);
    scene.tells(id, 1, Phase::Ready).await;
    scene.store.log_off("ada", session).await.unwrap();
    let unused = scene.hurry().await;
    assert_eq!(unused.iter().map(|e| (e.desktop, e.why)).collect::<Vec<_>>(), [(id, UNUSED_SUSPENDED)]);
    let row = scene.desktop(id).await;
    assert_eq!((row.desired, row.desired_gen), (DesiredState::Suspended, 2));
    assert_eq!(row.detail, UNUSED_SUSPENDED);
    // Its host has not heard of that yet, and then does not do it.
    assert!(scene.tells(id, 1, Phase::Ready).await.refused.is_empty());
    assert_eq!(scene.tells(id, 2, Phase::Ready).await.refused, [id]);
    let row = scene.desktop(id).await;
    assert_eq!((row.desired, row.desired_gen, row.phase), (DesiredState::Running, 3, Phase::Ready));
    assert!(scene.tells(id, 2, Phase::Ready).await.refused.is_empty(), "it says the same again");
    scene.tells(id, 3, Phase::Ready).await;

    let ended = scene.store.suspend("ada", id).await.unwrap().unwrap();
    assert_eq!((ended.host, ended.why), (Some(scene.link.host), SUSPENDED));
    assert!(scene.store.suspend("ada", id).await.unwrap().is_none(), "it is being suspended");
    scene.tells(id, 4, Phase::Suspended).await;
    let row = scene.desktop(id).await;
    assert_eq!((row.phase, row.held, row.assigned), (Phase::Suspended, true, true));
    let again = scene.connect_to(ada, "own").await.unwrap();
    assert!(again.powered_on && again.desktop.id == id);
    // It could not be resumed, and stays as it is.
    let rested = scene.tells(id, 5, Phase::Suspended).await;
    assert_eq!(rested.ended.len(), 1);
    assert_eq!(scene.desktop(id).await.desired, DesiredState::Suspended);
    // What cannot be resumed can be powered off, and boots then.
    assert!(scene.store.power_off("ada", id).await.unwrap().is_some());
    scene.tells(id, 7, Phase::Off).await;
    assert!(scene.store.power_on("ada", id).await.unwrap().is_some());
    scene.tells(id, 8, Phase::Ready).await;
    assert_eq!(scene.desktop(id).await.phase, Phase::Ready);
    scene.check_counts().await;
}

async fn a_personal_desktop_is_waited_for_when_its_host_is_lost(scene: Scene) {
    scene.pool_with(personal("own")).await;
    let ada = scene.user("ada").await;
    let id = scene.connect_to(ada, "own").await.unwrap().desktop.id;
    scene.tells(id, 1, Phase::Ready).await;
    scene.store.unlink(&scene.link, "the cable is out").await.unwrap();
    scene.lost_for_long().await;
    let again = scene.connect_to(ada, "own").await.unwrap();
    assert!(again.desktop.id == id && again.replaced.is_none() && !again.fresh);
    let epoch = scene.all(Host::all).await.remove(0).epoch;
    let fenced = scene.store.fence_host("admin", scene.link.host, epoch, "it burnt").await.unwrap();
    assert_eq!(fenced.len(), 1, "somebody says that it is dead");
    assert!(
        matches!(scene.connect_to(ada, "own").await, Err(Error::NoHost { .. })),
        "there is no other host"
    );
}

async fn a_personal_desktop_that_its_host_does_not_find_stays_its_users(scene: Scene) {
    scene.pool_with(personal("own")).await;
    let ada = scene.user("ada").await;
    let id = scene.connect_to(ada, "own").await.unwrap().desktop.id;
    scene.tells(id, 1, Phase::Ready).await;
    assert!(scene.tells(id, 1, Phase::Stopped).await.ended.is_empty());
    let again = scene.connect_to(ada, "own").await.unwrap();
    assert!(again.desktop.id == id && !again.fresh);
    // The disk is mounted again.
    scene.tells(id, 1, Phase::Ready).await;
    assert_eq!(scene.desktop(id).await.phase, Phase::Ready);
    scene.check_counts().await;
}

async fn a_personal_desktop_that_waits_and_that_its_host_does_not_find_makes_room_for_another(scene: Scene) {
    let ready = ReadyPolicy { min: 1, max_starting: Some(1), ..Default::default() };
    scene.pool_with(NewPool { ready, ..personal("own") }).await;
    scene.prepare().await;
    let made = scene.waiting("own").await.remove(0);
    scene.tells(made.id, 1, Phase::Ready).await;
    assert_eq!(scene.tells(made.id, 1, Phase::Stopped).await.ended.len(), 1, "nobody has anything there");
    let ada = scene.user("ada").await;
    assert_ne!(scene.connect_to(ada, "own").await.unwrap().desktop.id, made.id);
    scene.tells(made.id, 2, Phase::Stopped).await;
    scene.check_counts().await;
}

async fn a_personal_desktop_whose_session_nobody_ended_is_powered_off_when_nobody_uses_it(scene: Scene) {
    scene.pool_with(personal("own")).await;
    let ada = scene.user("ada").await;
    let first = scene.connect_to(ada, "own").await.unwrap();
    let (id, session) = (first.desktop.id, first.session.unwrap().session.id);
    scene.tells(id, 1, Phase::Ready).await;
    scene.store.session_connected(session, scene.link.broker).await.unwrap();
    scene.store.session_disconnected(session, scene.link.broker).await.unwrap();
    let off = scene.hurry().await;
    assert_eq!(off.iter().map(|e| (e.desktop, e.session)).collect::<Vec<_>>(), [(id, Some(session))]);
    assert_eq!(scene.desktop(id).await.desired, DesiredState::Off);
    assert!(scene.all(Timer::all).await.is_empty(), "nothing of it is due any more");
    scene.check_counts().await;
}

async fn a_personal_desktops_session_ends_when_that_is_due_and_its_desktop_stays(scene: Scene) {
    let limits =
        SessionLimits { disconnected_s: Some(60), session_s: Some(3600), ..SessionLimits::default() };
    scene.pool_with(NewPool { limits, power: PowerPolicy::default(), ..personal("own") }).await;
    let ada = scene.user("ada").await;
    for (kind, why) in [(TimerKind::SessionLeft, LEFT), (TimerKind::SessionOver, LASTED)] {
        let given = scene.connect_to(ada, "own").await.unwrap();
        let session = given.session.unwrap().session.id;
        scene.set_timer(kind, session.0, 1).await;
        let ended = scene.store.ring().await.unwrap();
        assert_eq!(ended.iter().map(|e| (e.session, e.why)).collect::<Vec<_>>(), [(Some(session), why)]);
        assert!(scene.desktop(given.desktop.id).await.is_wanted());
        assert!(scene.all(Timer::all).await.is_empty(), "nothing of it is due any more");
    }
    scene.check_counts().await;
}

async fn who_comes_back_to_their_session_is_not_absent_any_more(scene: Scene) {
    let limits = SessionLimits { disconnected_s: Some(60), ..Default::default() };
    scene.pool_with(NewPool { limits, ..new_pool("office") }).await;
    scene.pool_with(personal("own")).await;
    let ada = scene.user("ada").await;
    for pool in ["office", "own"] {
        let given = scene.connect_to(ada, pool).await.unwrap();
        let (id, session) = (given.desktop.id, given.session.unwrap().session.id);
        scene.store.session_connected(session, scene.link.broker).await.unwrap();
        scene.store.session_disconnected(session, scene.link.broker).await.unwrap();
        scene.set_timer(TimerKind::SessionLeft, session.0, 1).await;
        scene.set_timer(TimerKind::DesktopUnused, id.0, 1).await;
        let again = scene.connect_to(ada, pool).await.unwrap();
        assert_eq!(again.session.unwrap().session.id, session);
        assert!(scene.store.ring().await.unwrap().is_empty(), "they look at it in a moment");
    }
    scene.check_counts().await;
}

async fn a_limit_that_is_lifted_ends_nobody(scene: Scene) {
    let limits = SessionLimits { disconnected_s: Some(60), ..Default::default() };
    let office = NewPool { limits, ..new_pool("office") };
    scene.pool_with(office.clone()).await;
    let ada = scene.user("ada").await;
    scene.connect_to(ada, "office").await.unwrap();
    let lifted = Wanted { pools: vec![NewPool { limits: Default::default(), ..office }], prune: false };
    scene.store.apply_pools("admin", &Reach::everywhere(), &lifted, None).await.unwrap();
    assert!(scene.hurry().await.is_empty());
    assert!(scene.all(Timer::all).await.is_empty(), "it is not asked again");
}

async fn nobodys_absence_counts_while_no_broker_was_there(scene: Scene) {
    let limits = SessionLimits { disconnected_s: Some(1), ..Default::default() };
    scene.pool_with(NewPool { limits, ..new_pool("office") }).await;
    let ada = scene.user("ada").await;
    let session = scene.connect_to(ada, "office").await.unwrap().session.unwrap().session.id;
    scene.store.session_connected(session, scene.link.broker).await.unwrap();
    scene.store.end_broker(scene.link.broker).await.unwrap();
    for timer in scene.all(Timer::all).await {
        scene.set_timer(timer.kind, timer.subject, 1).await;
    }
    scene.store.start_broker("test").await.unwrap();
    assert!(scene.store.ring().await.unwrap().is_empty(), "they have time to come back");
}

async fn what_is_powered_off_from_within_stays_so_until_somebody_connects(scene: Scene) {
    scene.pool_with(personal("own")).await;
    let ada = scene.user("ada").await;
    let first = scene.connect_to(ada, "own").await.unwrap();
    let id = first.desktop.id;
    scene.tells(id, 1, Phase::Ready).await;
    let recorded = scene.tells(id, 1, Phase::Off).await;
    assert_eq!(recorded.ended.len(), 1);
    assert_eq!(recorded.ended[0].session, first.session.map(|s| s.session.id));
    let row = scene.desktop(id).await;
    assert_eq!((row.desired, row.phase, row.assigned), (DesiredState::Off, Phase::Off, true));
    assert!(scene.tells(id, 1, Phase::Off).await.is_empty(), "it says the same again");
    assert!(scene.connect_to(ada, "own").await.unwrap().powered_on);
    scene.check_counts().await;
}

async fn what_is_due_is_done_once_and_not_to_who_came_back(scene: Scene) {
    let limits = SessionLimits { disconnected_s: Some(60), session_s: Some(3600), idle_s: Some(60) };
    scene.pool_with(NewPool { limits, ..new_pool("office") }).await;
    let (ada, ben) = (scene.user("ada").await, scene.user("ben").await);
    let mut sessions = Vec::new();
    for user in [ada, ben] {
        let assigned = scene.connect_to(user, "office").await.unwrap();
        scene.tells(assigned.desktop.id, 1, Phase::Ready).await;
        let session = assigned.session.unwrap().session.id;
        scene.store.session_connected(session, scene.link.broker).await.unwrap();
        sessions.push((session, assigned.desktop.id));
    }
    let limited = scene.store.limits(sessions.iter().map(|s| s.0).collect()).await.unwrap();
    assert_eq!(limited.len(), 2);
    assert!(limited.iter().all(|(_, l)| l.idle_s == Some(60) && l.left_ms.is_some_and(|ms| ms > 3_500_000)));
    assert!(scene.store.ring().await.unwrap().is_empty(), "nothing is due");
    // Both go, and one comes back.
    for (session, _) in &sessions {
        scene.store.session_disconnected(*session, scene.link.broker).await.unwrap();
    }
    scene.store.session_connected(sessions[0].0, scene.link.broker).await.unwrap();
    for timer in scene.all(Timer::all).await {
        if timer.kind == TimerKind::SessionLeft {
            scene.set_timer(timer.kind, timer.subject, 1).await;
        }
    }
    let both = tokio::join!(scene.store.ring(), scene.store.ring());
    let ended: Vec<_> = [both.0.unwrap(), both.1.unwrap()].concat();
    assert_eq!(ended.iter().map(|e| (e.desktop, e.why)).collect::<Vec<_>>(), [(sessions[1].1, LEFT)]);
    let last = scene.hurry().await;
    assert_eq!(last.iter().map(|e| (e.session, e.why)).collect::<Vec<_>>(), [(Some(sessions[0].0), LASTED)]);
    assert!(scene.all(Session::live).await.is_empty());
    for (_, desktop) in sessions {
        scene.tells(desktop, 1, Phase::Stopped).await;
    }
    scene.check_counts().await;
}

async fn a_user_has_no_more_desktops_than_their_quota(scene: Scene) {
    scene.pool_with(new_pool("office")).await;
    let ada = scene.user("ada").await;
    scene.store.set_user_quota("admin", "ada", Some(1)).await.unwrap();
    let both = tokio::join!(scene.connect_to(ada, "desk"), scene.connect_to(ada, "office"));
    let (given, refused) = match both {
        (Ok(given), Err(refused)) | (Err(refused), Ok(given)) => (given, refused),
        other => panic!("{other:?}"),
    };
    assert!(matches!(&refused, Error::QuotaReached { what: "user", max: 1, .. }), "{refused}");
    let pool = given.desktop.pool.clone();
    assert_eq!(
        scene.connect_to(ada, &pool).await.unwrap().desktop.id,
        given.desktop.id,
        "they have that one"
    );
    let other = if pool == "desk" { "office" } else { "desk" };
    let why = scene.store.explain("ada", other, Arc::new(Fine)).await.unwrap();
    assert_eq!(why.outcome, "quota_reached");
    scene.store.set_user_quota("admin", "ada", None).await.unwrap();
    scene.connect_to(ada, other).await.unwrap();
    scene.check_counts().await;
}

async fn a_group_has_no_more_desktops_than_its_quota_however_many_ask_at_once(scene: Scene) {
    let mut users = Vec::new();
    for n in 0..8 {
        let name = format!("user-{n}");
        users.push(scene.user(&name).await);
        scene.store.join_group("admin", &name, "staff").await.unwrap();
    }
    let early = scene.connect_to(users[0], "desk").await.unwrap();
    let group = scene.store.set_group_quota("admin", "staff", Some(4)).await.unwrap();
    assert_eq!(group.quota.unwrap().desktops, 1, "what there is counts");
    let all = users[1..].iter().map(|user| scene.connect_to(*user, "desk"));
    let all = futures_util::future::join_all(all).await;
    assert_eq!(all.iter().filter(|a| a.is_ok()).count(), 3);
    let refused = all.iter().find_map(|a| a.as_ref().err()).unwrap();
    assert!(matches!(refused, Error::QuotaReached { what: "group", max: 4, .. }), "{refused}");
    assert_eq!(scene.store.group("staff").await.unwrap().quota.unwrap().desktops, 4);
    scene.store.end_desktop("admin", early.desktop.id, "enough").await.unwrap();
    assert_eq!(scene.store.group("staff").await.unwrap().quota.unwrap().desktops, 3);
    scene.store.set_group_quota("admin", "staff", None).await.unwrap();
    assert!(scene.all(Charge::all).await.is_empty());
    assert_eq!(scene.all(Assignment::all).await.len(), 4);
}

async fn a_pool_goes_only_to_hosts_with_its_labels(scene: Scene) {
    let mut new = new_pool("north");
    new.placement.labels.insert("site".to_owned(), "north".to_owned());
    scene.pool_with(new).await;
    let ada = scene.user("ada").await;
    let Err(Error::NoHost { reason, .. }) = scene.connect_to(ada, "north").await else { panic!() };
    assert!(reason.contains("it does not have the label site=north"), "{reason}");
    let labels = [("site".to_owned(), "north".to_owned())].into();
    scene.store.label_host("admin", scene.link.host, &labels).await.unwrap();
    scene.connect_to(ada, "north").await.unwrap();
    assert_eq!(scene.store.host("attic").await.unwrap().labels, labels);
}
