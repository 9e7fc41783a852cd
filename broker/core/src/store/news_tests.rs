//! What those who watch are told, and whose sign-in still holds, shown on every engine.

use super::tests::{Scene, new_pool, scene};
use super::*;
use lucarne_control::api::Role;
use lucarne_control::desktop::DesiredState;
use lucarne_control::{HostId, UserId};
use std::collections::BTreeSet;

lucarne_postgres::on_each_engine!(
    scene:
    things_are_read_together_as_they_are_and_what_is_gone_is_nothing,
    the_desktops_of_a_host_are_read_with_it,
    what_many_may_use_is_what_each_may,
    a_sign_in_that_is_over_has_nobody_behind_it,
);

async fn things_are_read_together_as_they_are_and_what_is_gone_is_nothing(scene: Scene) {
    let store = &scene.store;
    let (ada, ben) = (scene.user("ada").await, scene.user("ben").await);
    let image = store.pool("desk").await.unwrap().template.image;
    let lab = store.create_pool("admin", &new_pool("lab"), &image).await.unwrap().id;
    let assigned = scene.connect_to(ada, "desk").await.unwrap();
    let (desktop, session) = (assigned.desktop.id, assigned.session.unwrap().session.id);
    store.delete_pool("admin", "lab", false).await.unwrap();
    store.delete_user("admin", "ben").await.unwrap();
    let nowhere = HostId::generate();
    let asked = Asked {
        desktops: [desktop].into(),
        counted: [desktop].into(),
        sessions: [session].into(),
        pools: [lab].into(),
        hosts: [scene.link.host, nowhere].into(),
        users: [ada, ben, UserId::generate()].into(),
        ..Asked::default()
    };
    let news = store.news(asked).await.unwrap();
    assert_eq!((news.desktops.len(), news.desktops[0].desired), (1, DesiredState::Running));
    assert_eq!((news.sessions.len(), news.sessions[0].user), (1, ada));
    let mut pools: Vec<_> =
        news.pools.iter().map(|(_, name, pool)| (name.as_str(), pool.as_ref().map(|p| p.desktops))).collect();
    pools.sort_unstable();
    assert_eq!(pools, [("desk", Some(1)), ("lab", None)]);
    let host = |id| news.hosts.iter().find(|(host, _)| *host == id).map(|(_, host)| host.is_some());
    assert_eq!((host(scene.link.host), host(nowhere)), (Some(true), Some(false)));
    let mut users: Vec<_> = news.users.iter().map(|(id, user)| (*id, user.is_some())).collect();
    users.sort_unstable();
    assert_eq!(users, [(ada, true), (ben, false)], "of who never was nothing is known");
}

async fn the_desktops_of_a_host_are_read_with_it(scene: Scene) {
    let ada = scene.user("ada").await;
    let desktop = scene.connect_to(ada, "desk").await.unwrap().desktop.id;
    let asked = || Asked { desktops_on: [scene.link.host].into(), ..Asked::default() };
    let read = async || {
        let news = scene.store.news(asked()).await.unwrap();
        news.desktops.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(read().await, [desktop]);
    scene.store.end_desktop("admin", desktop, "enough").await.unwrap();
    assert_eq!(read().await, [desktop], "until its host confirms it");
}

async fn what_many_may_use_is_what_each_may(scene: Scene) {
    let store = &scene.store;
    let users: BTreeSet<_> =
        [scene.user("ada").await, scene.user("ben").await, scene.user("eve").await].into();
    let image = store.pool("desk").await.unwrap().template.image;
    for name in ["lab", "attic"] {
        let new = lucarne_control::api::NewPool { entitled_groups: Vec::new(), ..new_pool(name) };
        store.create_pool("admin", &new, &image).await.unwrap();
    }
    store.entitle("admin", "lab", &Holder::User("ada".to_owned())).await.unwrap();
    store.entitle("admin", "attic", &Holder::Group("staff".to_owned())).await.unwrap();
    store.join_group("admin", "ada", "staff").await.unwrap();
    store.join_group("admin", "ben", "staff").await.unwrap();
    let bens = *users.iter().nth(1).unwrap();
    scene.connect_to(bens, "attic").await.unwrap();
    store.withdraw("admin", "attic", &Holder::Group("staff".to_owned())).await.unwrap();
    let usable = store.usable(users.clone()).await.unwrap();
    for user in users {
        let alone: BTreeSet<_> =
            store.pools_of(user).await.unwrap().into_iter().map(|pool| pool.id).collect();
        assert_eq!(usable[&user], alone);
    }
    assert_eq!(usable[&bens].len(), 2, "he has a desktop of one that he may not use any more");
}

async fn a_sign_in_that_is_over_has_nobody_behind_it(scene: Scene) {
    let store = &scene.store;
    let (ada, ben) = (scene.user("ada").await, scene.user("ben").await);
    let hash = |n: u8| vec![n; 32];
    let sign_in = async |user, name: &str, life, n: u8| {
        store.create_token(user, name, NewToken { life, permissions: None }, &hash(n)).await.unwrap();
    };
    sign_in(ada, "ada", 60_000, 1).await;
    sign_in(ada, "ada", -1, 2).await;
    sign_in(ada, "ada", 60_000, 3).await;
    sign_in(ben, "ben", 60_000, 4).await;
    let all: BTreeSet<_> = (1..=5).map(hash).collect();
    let held = async || {
        let callers = store.callers(all.clone()).await.unwrap();
        let held: BTreeSet<u8> = callers.keys().map(|hash| hash[0]).collect();
        (held, callers)
    };
    let (found, callers) = held().await;
    assert_eq!(found, [1, 3, 4].into(), "one has expired, and one never was");
    assert_eq!(callers.get(&hash(1)).cloned(), store.caller(&hash(1)).await.unwrap());
    store.delete_login("ada", &hash(1)).await.unwrap();
    store.delete_user("admin", "ben").await.unwrap();
    assert_eq!(held().await.0, [3].into());
    store.set_role("admin", "ada", Role::Auditor).await.unwrap();
    assert_eq!(held().await.1[&hash(3)].role, Role::Auditor);
}
