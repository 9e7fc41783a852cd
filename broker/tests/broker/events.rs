//! Watching what changes: who is told what, who comes back, who has to go, and who does not read.

use crate::support::agent::{Agent, image};
use crate::support::events::Watching;
use crate::support::viewer::Browser;
use crate::support::{Client, Server, config, eventually};
use lucarne_control::agent::{FromAgent, Observed};
use lucarne_control::api::{Desktop, Host, Image, Pool, Session, SessionState};
use lucarne_control::desktop::Phase;
use lucarne_control::events::{Event, EventKind};
use lucarne_postgres::Server as Postgres;
use serde_json::{Value, json};
use std::sync::Arc;

fn desktop(event: &Event) -> Option<Desktop> {
    match event {
        Event::Desktop { state, .. } => Some((**state).clone()),
        _ => None,
    }
}

fn session(event: &Event) -> Option<Session> {
    match event {
        Event::Session { state, .. } => Some((**state).clone()),
        _ => None,
    }
}

/// Takes events until a desktop is in this phase.
async fn phase(watching: &mut Watching, phase: Phase) -> Desktop {
    let fits = |event: &Event| desktop(event).filter(|desktop| desktop.phase == phase);
    watching.until(phase.as_str(), fits).await
}

/// Takes events until a pool is told of, none of which was deleted.
async fn pool(watching: &mut Watching, fits: impl Fn(&Pool) -> bool) -> Pool {
    let fits = |event: &Event| match event {
        Event::Pool { state: Some(pool), .. } if fits(pool) => Some((**pool).clone()),
        _ => None,
    };
    watching.until("a pool", fits).await
}

async fn host(watching: &mut Watching, fits: impl Fn(&Host) -> bool) -> Host {
    let fits = |event: &Event| match event {
        Event::Host { state: Some(host), .. } if fits(host) => Some((**host).clone()),
        _ => None,
    };
    watching.until("a host", fits).await
}

async fn log_off(client: &Client<'_>, session: lucarne_control::SessionId) {
    assert_eq!(client.delete(&format!("/sessions/{session}?wait=true")).await.status, 204);
}

/// The last that a stream says whose watcher may not know any more what they could.
#[track_caller]
fn ends_with_reset(rest: &[Event]) {
    assert!(matches!(rest.last(), Some(Event::Reset { .. })), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_sees_their_desktop_become_ready_and_go_without_asking() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let mut watching = ada.watch("").await;
    let connection = ada.connect("desk").await;
    let ready = phase(&mut watching, Phase::Ready).await;
    assert_eq!((ready.id, ready.user.as_deref()), (connection.desktop.id, Some("ada")));
    let mut sessions = ada.watch("?kind=session").await;
    let browser = Browser::view(&server, &connection).await;
    let viewed = |event: &Event| session(event).filter(|s| s.state == SessionState::Connected);
    let seen = sessions.until("the session is viewed", viewed).await;
    assert_eq!((seen.id, seen.viewers.len()), (connection.session.id, 1));
    browser.close().await;
    let left = |event: &Event| session(event).filter(|s| s.state == SessionState::Disconnected);
    sessions.until("the viewer went", left).await;
    log_off(&ada, connection.session.id).await;
    assert_eq!(phase(&mut watching, Phase::Stopped).await.id, connection.desktop.id);
    let ended = |event: &Event| session(event).filter(|s| s.state == SessionState::Ended);
    assert_eq!(sessions.until("the session's end", ended).await.id, connection.session.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_has_is_told_to_nobody_but_who_may_see_everyones() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    let (mut adas, mut everyones) = (ada.watch("").await, server.admin().await.watch("").await);
    let bens = ben.connect("desk").await;
    log_off(&ben, bens.session.id).await;
    let of_ben = |event: &Event| session(event).filter(|s| s.state == SessionState::Ended);
    assert_eq!(everyones.until("the other's session", of_ben).await.user, "ben");
    ada.connect("desk").await;
    // What was told of the other's would have come before.
    loop {
        let event = adas.next().await.unwrap();
        match &event {
            Event::Desktop { state, .. } => assert_eq!(state.user.as_deref(), Some("ada")),
            Event::Session { state, .. } => assert_eq!(state.user, "ada"),
            Event::Card { name, .. } => assert_eq!(name, "desk"),
            other => panic!("{other:?}"),
        }
        if desktop(&event).is_some_and(|desktop| desktop.phase == Phase::Ready) {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_sign_in_that_it_rests_on() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let admin = server.admin().await;
    let ada = server.user("ada").await;
    let mut signed_out = ada.watch("").await;
    let other = server.sign_in("ada", "password of ada").await;
    let mut others = other.watch("").await;
    assert_eq!(ada.post("/auth/logout", json!({})).await.status, 204);
    ends_with_reset(&signed_out.rest().await);
    assert_eq!(ada.open("", Some(&signed_out.last_id)).await.err().unwrap().status, 401);

    let connection = other.connect("desk").await;
    assert_eq!(phase(&mut others, Phase::Ready).await.id, connection.desktop.id, "the other sign-in is good");
    let new = json!({ "password": "another password" });
    assert_eq!(admin.put("/users/ada/password", new).await.status, 204);
    ends_with_reset(&others.rest().await);

    let again = server.sign_in("ada", "another password").await;
    let mut again_watching = again.watch("").await;
    assert_eq!(admin.delete("/users/ada").await.status, 204);
    let rest = again_watching.rest().await;
    ends_with_reset(&rest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_watcher_may_see_less() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let admin = server.local();
    let ada = server.user("ada").await;
    assert_eq!(admin.put("/users/ada/role", json!({ "role": "operator" })).await.status, 200);
    let mut watching = ada.watch("?kind=host,desktop").await;
    assert_eq!(admin.put("/users/ada/role", json!({ "role": "user" })).await.status, 200);
    ends_with_reset(&watching.rest().await);
    let refused = ada.open("?kind=host,desktop", None).await.err().unwrap();
    assert!(refused.problem(403, "not_permitted").contains("hosts:read"));

    let ben = server.user("ben").await;
    assert_eq!(admin.put("/pools/desk/users/ben", json!({})).await.status, 204);
    let (mut adas, mut bens) = (ada.watch("?kind=card").await, ben.watch("?kind=card").await);
    assert_eq!(admin.delete("/pools/desk/groups/everyone").await.status, 204);
    ends_with_reset(&adas.rest().await);
    let card = |event: &Event| matches!(event, Event::Card { name, .. } if name == "desk").then_some(());
    bens.until("the pool is his still", card).await;
    ada.open("?pool=desk", None).await.err().unwrap().problem(404, "pool_not_found");
    let mut lost = ada.watch_again("?kind=card", &adas.last_id).await;
    assert!(
        matches!(lost.next().await, Some(Event::Reset { .. })),
        "her cards are others than when she went"
    );
    let mut adas = ada.watch("?kind=card").await;
    assert_eq!(admin.put("/pools/desk/users/ada", json!({})).await.status, 204);
    adas.until("the pool is hers again", card).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_is_told_what_they_missed_or_that_they_missed_it() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let first = ada.watch("").await;
    let id = first.last_id.clone();
    drop(first);
    // Nobody watches.
    let connection = ada.connect("desk").await;
    eventually("the desktop is ready", || async {
        let path = format!("/desktops/{}", connection.desktop.id);
        (ada.get(&path).await.ok::<Desktop>().phase == Phase::Ready).then_some(())
    })
    .await;
    let mut again = ada.watch_again("", &id).await;
    assert!(matches!(again.next().await, Some(Event::Hello { .. })));
    assert_eq!(phase(&mut again, Phase::Ready).await.id, connection.desktop.id);
    // Somebody else does.
    let other = ada.watch("").await;
    let id = again.last_id.clone();
    drop(again);
    log_off(&ada, connection.session.id).await;
    let mut again = ada.watch_again("", &id).await;
    assert!(matches!(again.next().await, Some(Event::Hello { .. })));
    assert_eq!(phase(&mut again, Phase::Stopped).await.id, connection.desktop.id);
    drop(other);

    let id = again.last_id.clone();
    for unknown in ["nothing", "0-0", ""] {
        let mut lost = ada.watch_again("", unknown).await;
        assert!(matches!(lost.next().await, Some(Event::Reset { .. })), "{unknown:?}");
        assert!(!lost.last_id.is_empty(), "it can come back from here");
    }
    let server = Server::start_in(server.stop().await).await;
    assert_eq!(again.rest().await.iter().filter(|event| matches!(event, Event::Reset { .. })).count(), 0);
    let ada = server.sign_in("ada", "password of ada").await;
    let mut lost = ada.watch_again("", &id).await;
    assert!(matches!(lost.next().await, Some(Event::Reset { .. })), "the broker was started again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_told_and_what_cannot_be_is_said() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let (ada, admin) = (server.user("ada").await, server.admin().await);
    let refused = async |client: &Client<'_>, query: &str| client.open(query, None).await.err().unwrap();
    let why = refused(&ada, "?kind=desktops").await.problem(400, "invalid_request");
    assert!(why.contains("\"desktops\"") && why.contains("session"), "{why}");
    refused(&ada, "?kind=desktop,").await.problem(400, "invalid_request");
    refused(&admin, "?kind=host&pool=desk").await.problem(400, "invalid_request");
    refused(&admin, "?pool=desk&pool=desk").await.problem(400, "invalid_request");
    refused(&admin, "?pool=none").await.problem(404, "pool_not_found");
    refused(&ada, "?kind=user").await.problem(403, "not_permitted");
    refused(&server.anyone(), "").await.problem(401, "not_signed_in");
    let kinds = async |client: &Client<'_>, query: &str| match client
        .open(query, None)
        .await
        .ok()
        .unwrap()
        .next()
        .await
    {
        Some(Event::Hello { kinds }) => kinds,
        other => panic!("{other:?}"),
    };
    use EventKind::{Card, Desktop, Host, Image, Pool, Session, User};
    assert_eq!(kinds(&ada, "").await, [Desktop, Session, Card]);
    assert_eq!(kinds(&admin, "").await, [Desktop, Session, Pool, Host, Image, User]);
    assert_eq!(kinds(&admin, "?pool=desk").await, [Desktop, Session, Pool]);
    assert_eq!(kinds(&admin, "?kind=host&kind=card,user").await, [Card, Host, User]);
    assert_eq!(kinds(&server.local(), "?kind=host").await, [Host]);

    let new = json!({ "name": "lab", "image": "debian-desktop", "entitled_groups": ["everyone"] });
    assert_eq!(admin.post("/pools", new).await.status, 201);
    let mut lab = admin.watch("?pool=lab&kind=desktop,session").await;
    ada.connect("desk").await;
    let connection = ada.post("/sessions", json!({ "pool": "lab" })).await;
    assert!(connection.status.is_success(), "{}", connection.text());
    let first = lab.until("something of the pool", |event| desktop(event).map(|desktop| desktop.pool)).await;
    assert_eq!(first, "lab");
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_hosts_images_and_users_are_told_of_as_they_come_change_and_go() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let admin = server.admin().await;
    let mut watching = admin.watch("").await;
    let machine = json!({ "memory_mib": 2048, "vcpus": 2, "width": 1280, "height": 800 });
    let new = json!({ "name": "lab", "image": "debian-desktop", "machine": machine });
    let lab: Pool = admin.post("/pools", new).await.created();
    pool(&mut watching, |pool| pool.id == lab.id && !pool.templates.is_empty()).await;
    assert_eq!(admin.put("/pools/lab/groups/staff", json!({})).await.status, 204);
    pool(&mut watching, |pool| pool.entitled_groups == ["staff"]).await;
    let file = json!({ "pools": [{ "name": "lab", "image": lab.image, "machine": machine, "description": "The lab" }] });
    let applied: Value = admin.post("/apply", file).await.ok();
    assert_eq!(applied["applied"], true);
    pool(&mut watching, |pool| pool.description == "The lab" && pool.entitled_groups.is_empty()).await;
    assert_eq!(admin.delete("/pools/lab").await.status, 204);
    let gone =
        |event: &Event| matches!(event, Event::Pool { id, state: None } if *id == lab.id).then_some(());
    watching.until("the pool's end", gone).await;

    assert_eq!(admin.put("/hosts/attic/drain", json!({})).await.status, 204);
    host(&mut watching, |host| host.drained).await;
    assert_eq!(admin.delete("/hosts/attic/drain").await.status, 204);
    host(&mut watching, |host| !host.drained).await;
    let images = Some(vec![image(1), image(2)]);
    agent.say(FromAgent::Observed(Observed { images, ..Observed::default() }));
    let of_image = |event: &Event| match event {
        Event::Image { id, state } => Some((id.clone(), state.as_deref().cloned())),
        _ => None,
    };
    let (digest, second) = watching.until("another image", of_image).await;
    assert_eq!(
        (&digest, second.map(|Image { hosts, .. }| hosts)),
        (&image(2).digest, Some(vec!["attic".to_owned()]))
    );
    let images = Some(vec![image(1)]);
    agent.say(FromAgent::Observed(Observed { images, ..Observed::default() }));
    assert_eq!(watching.until("it is gone", of_image).await, (digest, None));

    let ada: lucarne_control::api::User =
        admin.post("/users", json!({ "name": "ada", "password": "password of ada" })).await.created();
    let of_ada = |event: &Event| match event {
        Event::User { id, state } if *id == ada.id => Some(state.as_deref().map(|user| user.groups.clone())),
        _ => None,
    };
    assert_eq!(watching.until("a user", of_ada).await, Some(vec![]));
    assert_eq!(admin.put("/users/ada/groups/staff", json!({})).await.status, 204);
    assert_eq!(watching.until("her group", of_ada).await, Some(vec!["staff".to_owned()]));
    assert_eq!(admin.delete("/users/ada").await.status, 204);
    assert_eq!(watching.until("her end", of_ada).await, None);

    agent.cut();
    host(&mut watching, |host| !host.online).await;
    let attic: Host = admin.get("/hosts/attic").await.ok();
    assert_eq!(admin.delete("/hosts/attic").await.status, 204);
    let gone =
        |event: &Event| matches!(event, Event::Host { id, state: None } if *id == attic.id).then_some(());
    watching.until("the host's end", gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn desktops_of_a_host_that_is_lost_are_told_as_lost_and_as_back() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("desk").await;
    let mut watching = ada.watch("?kind=desktop").await;
    agent.cut();
    assert_eq!(phase(&mut watching, Phase::Lost).await.id, connection.desktop.id);
    let _agent = agent.reconnect(&server).await;
    assert_eq!(phase(&mut watching, Phase::Ready).await.id, connection.desktop.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_sixteen_streams_and_is_told_so() {
    let server = Server::start().await;
    let ada = server.user("ada").await;
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(ada.watch("?kind=session").await);
    }
    let why = ada.open("", None).await.err().unwrap().problem(429, "too_many_streams");
    assert!(why.contains("ada has 16 event streams"), "{why}");
    open.pop();
    eventually("the place of one that went is free", || async { ada.open("", None).await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_up_nobody_and_then_reads_what_is_so_then() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let admin = server.admin().await;
    let groups: Vec<_> = (0..1500).map(|n| format!("group-number-{n}")).collect();
    let new = json!({ "name": "lab", "image": "debian-desktop", "entitled_groups": groups });
    assert_eq!(admin.post("/pools", new).await.status, 201);
    let (mut slow, mut stuck) = (admin.watch("?kind=pool").await, admin.watch("?kind=pool").await);
    let mut fast = admin.watch("?kind=pool").await;
    // Each event is some 30 KB: much more than sockets take.
    for n in 0..60 {
        let path = format!("/pools/lab/groups/zz-{n}");
        assert_eq!(admin.put(&path, json!({})).await.status, 204);
        let last = format!("zz-{n}");
        pool(&mut fast, |pool| pool.entitled_groups.last() == Some(&last)).await;
        assert_eq!(admin.delete(&path).await.status, 204);
    }
    assert_eq!(admin.put("/pools/lab/groups/zzz", json!({})).await.status, 204);
    let mut told = 0;
    loop {
        let Some(Event::Pool { state: Some(pool), .. }) = slow.next().await else { panic!("no pool") };
        told += 1;
        if pool.entitled_groups.last().is_some_and(|last| last == "zzz") {
            break;
        }
    }
    assert!(told < 60, "{told} events were kept for who did not read");
    // The broker ends although one takes nothing, which then finds its stream cut.
    server.stop().await;
    stuck.rest().await;
    assert_eq!(fast.rest().await.iter().filter(|event| matches!(event, Event::Reset { .. })).count(), 0);
}

/// Runs a test with two brokers. The database's own client must not be used within a runtime.
fn with_two<F: Future<Output = ()>>(test: impl FnOnce(Server, Server) -> F) {
    let postgres = Postgres::get().unwrap();
    let database = postgres.database().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let start = async || {
            let dir = Arc::new(tempfile::tempdir().unwrap());
            let config = lucarne_broker::Config { database: Some(database.url()), ..config(dir.path()) };
            Server::start_with(dir, config).await
        };
        test(start().await, start().await).await;
    });
    // Their connections end with their threads, before the database does.
    drop(runtime);
}

#[test]
fn what_is_changed_through_one_broker_is_told_by_the_other() {
    with_two(|one, two| async move {
        let _agent = Agent::start(&one).await;
        let ada = one.user("ada").await;
        let ada_at_two = two.sign_in("ada", "password of ada").await;
        let (admin, mut everyones) = (one.admin().await, two.local().watch("").await);
        let mut watching = ada_at_two.watch("").await;
        let connection = ada.connect("desk").await;
        assert_eq!(phase(&mut watching, Phase::Ready).await.id, connection.desktop.id);
        assert_eq!(phase(&mut everyones, Phase::Ready).await.id, connection.desktop.id);
        log_off(&ada, connection.session.id).await;
        assert_eq!(phase(&mut watching, Phase::Stopped).await.id, connection.desktop.id);
        let lab: Pool =
            admin.post("/pools", json!({ "name": "lab", "image": "debian-desktop" })).await.created();
        pool(&mut everyones, |pool| pool.id == lab.id).await;
        assert_eq!(admin.put("/hosts/attic/drain", json!({})).await.status, 204);
        host(&mut everyones, |host| host.drained).await;

        // An id of one is nothing to the other.
        let mut lost = ada.watch_again("", &watching.last_id).await;
        assert!(matches!(lost.next().await, Some(Event::Reset { .. })));
        // What rests on a sign-in that ends through one ends at the other.
        assert_eq!(ada_at_two.at(&one).post("/auth/logout", json!({})).await.status, 204);
        ends_with_reset(&watching.rest().await);
        one.stop().await;
        two.stop().await;
    });
}

#[test]
fn whoever_may_have_missed_what_another_broker_said_is_told_so() {
    let postgres = Postgres::get().unwrap();
    let database = postgres.database().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (server, mut watching) = runtime.block_on(async {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let config = lucarne_broker::Config { database: Some(database.url()), ..config(dir.path()) };
        let server = Server::start_with(dir, config).await;
        let watching = server.local().watch("").await;
        (server, watching)
    });
    // The connection that it hears others by breaks.
    let ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    database.connect().unwrap().batch_execute(ends).unwrap();
    runtime.block_on(async {
        watching.until("reset", |event| matches!(event, Event::Reset { .. }).then_some(())).await;
        server.stop().await;
    });
    drop(runtime);
}
