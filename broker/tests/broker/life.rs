//! How desktops live: those that wait, those that stay, sessions that end by themselves, and quotas, as their users meet them.

use crate::support::agent::{Agent, image};
use crate::support::viewer::Browser;
use crate::support::{Client, Server, eventually};
use lucarne_control::api::{Connection, Desktop, Group, Host, Pool, Session};
use lucarne_control::desktop::Phase;
use lucarne_control::pool::PoolKind;
use lucarne_control::viewer::EndingReason;
use serde_json::{Value, json};

/// A pool for everyone that has these fields besides.
async fn pool(server: &Server, name: &str, fields: Value) {
    let mut new = json!({ "name": name, "image": image(1).digest, "entitled_groups": ["everyone"] });
    for (field, value) in fields.as_object().unwrap() {
        new[field] = value.clone();
    }
    let made: Pool = server.local().post("/pools", new).await.created();
    assert_eq!(made.name, name);
}

async fn desktop(client: &Client<'_>, connection: &Connection) -> Desktop {
    client.get(&format!("/desktops/{}", connection.desktop.id)).await.ok()
}

async fn in_phase(client: &Client<'_>, connection: &Connection, phase: Phase) -> Desktop {
    eventually(&format!("the desktop is {phase:?}"), || async {
        Some(desktop(client, connection).await).filter(|d| d.phase == phase)
    })
    .await
}

#[tokio::test]
async fn who_comes_gets_a_desktop_that_waits_and_another_is_made() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "office", json!({ "ready": { "min": 2 } })).await;
    let waiting = |n| {
        let server = &server;
        move || async move {
            let pool: Pool = server.local().get("/pools/office").await.ok();
            let desktops: Vec<Desktop> = server.local().page("/desktops").await;
            let mut ready = desktops.into_iter().filter(|d| d.pool == "office" && d.phase == Phase::Ready);
            (pool.waiting == n && ready.by_ref().filter(|d| d.user.is_none()).count() as u32 == n)
                .then_some(())
        }
    };
    eventually("two wait", waiting(2)).await;
    let ada = server.user("ada").await;
    let why: lucarne_control::api::Explanation =
        server.local().get("/explain?user=ada&pool=office").await.ok();
    assert_eq!(why.outcome, "desktop_waiting", "{why:?}");
    let connection = ada.connect("office").await;
    assert_eq!(connection.desktop.user.as_deref(), Some("ada"));
    Browser::view(&server, &connection).await.echo(b"hello").await;
    eventually("two wait again", waiting(2)).await;
    let all: Vec<Desktop> = server.local().page("/desktops").await;
    assert_eq!(all.iter().filter(|d| d.pool == "office").count(), 3);
}

#[tokio::test]
async fn a_personal_desktop_survives_the_log_off_and_is_powered_on_by_the_next_connect() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    pool(&server, "own", json!({ "kind": "personal", "power": { "off_after_s": 1 } })).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    let first = ada.connect("own").await;
    in_phase(&ada, &first, Phase::Ready).await;
    let mut viewer = Browser::view(&server, &first).await;
    viewer.echo(b"hello").await;
    assert!(desktop(&ada, &first).await.persistent);
    assert_eq!(ada.delete(&format!("/sessions/{}?wait=true", first.session.id)).await.status, 204);
    assert_eq!(viewer.closed().await, 4001);
    // Nobody uses it for a second.
    let off = in_phase(&ada, &first, Phase::Off).await;
    assert!(off.detail.contains("nobody used it"), "{off:?}");
    let card = ada.get("/portal").await.ok::<Vec<lucarne_control::api::Card>>();
    let card = card.into_iter().find(|card| card.name == "own").unwrap();
    assert_eq!((card.kind, card.desktop.unwrap().phase), (PoolKind::Personal, Phase::Off));
    let again = ada.connect("own").await;
    assert_eq!(again.desktop.id, first.desktop.id);
    assert_ne!(again.session.id, first.session.id);
    Browser::view(&server, &again).await.echo(b"again").await;
    assert_eq!(agent.running(), [first.desktop.id]);
    // Others can do nothing to it; its user and administrators can.
    let power = format!("/desktops/{}/power", first.desktop.id);
    ben.put(&power, json!({ "state": "off" })).await.problem(404, "desktop_not_found");
    let mut viewer = Browser::view(&server, &ada.connect("own").await).await;
    viewer.echo(b"once more").await;
    assert_eq!(ada.put(&power, json!({ "state": "off" })).await.status, 202);
    assert_eq!(viewer.closed().await, 4010);
    in_phase(&ada, &first, Phase::Off).await;
    assert_eq!(server.local().put(&power, json!({ "state": "on" })).await.status, 202);
    in_phase(&ada, &first, Phase::Ready).await;
    let floating = ada.connect("desk").await;
    let power = format!("/desktops/{}/power", floating.desktop.id);
    ada.put(&power, json!({ "state": "off" })).await.problem(409, "not_personal");
    let refused = json!({ "name": "x", "image": image(1).digest, "power": { "off_after_s": 60 } });
    assert!(
        server.local().post("/pools", refused).await.problem(400, "invalid_request").contains("personal")
    );
}

#[tokio::test]
async fn a_personal_desktop_is_suspended_and_goes_on_at_the_next_connect() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    pool(&server, "own", json!({ "kind": "personal", "power": { "suspend_after_s": 1 } })).await;
    let ada = server.user("ada").await;
    let first = ada.connect("own").await;
    in_phase(&ada, &first, Phase::Ready).await;
    let mut viewer = Browser::view(&server, &first).await;
    viewer.echo(b"hello").await;
    let power = format!("/desktops/{}/power", first.desktop.id);
    assert_eq!(ada.put(&power, json!({ "state": "suspended" })).await.status, 202);
    assert_eq!(viewer.closed().await, 4012);
    let suspended = in_phase(&ada, &first, Phase::Suspended).await;
    assert_eq!(suspended.detail, "ada suspended it");
    // Nobody uses it for a second.
    let again = ada.connect("own").await;
    assert_eq!(again.desktop.id, first.desktop.id);
    let mut viewer = Browser::view(&server, &again).await;
    viewer.echo(b"again").await;
    assert_eq!(ada.delete(&format!("/sessions/{}?wait=true", again.session.id)).await.status, 204);
    let suspended = in_phase(&ada, &first, Phase::Suspended).await;
    assert!(suspended.detail.contains("nobody used it"), "{suspended:?}");
    // Where it cannot be done it goes on, and says why.
    ada.connect("own").await;
    in_phase(&ada, &first, Phase::Ready).await;
    agent.behave(|b| b.cannot_suspend = true);
    assert_eq!(ada.put(&power, json!({ "state": "suspended" })).await.status, 202);
    eventually("it is said why it goes on", || async {
        let now = desktop(&ada, &first).await;
        (now.phase == Phase::Ready && now.detail.ends_with("the disk is full")).then_some(())
    })
    .await;
    let both = json!({ "name": "x", "image": image(1).digest, "kind": "personal",
        "power": { "off_after_s": 60, "suspend_after_s": 60 } });
    let said = server.local().post("/pools", both).await.problem(400, "invalid_request");
    assert!(said.contains("one or the other"), "{said}");
}

#[tokio::test]
async fn who_types_nothing_is_warned_and_then_disconnected_and_the_session_goes_on() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    pool(&server, "office", json!({ "limits": { "idle_s": 10 } })).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("office").await;
    let mut viewer = Browser::told(&server, &connection).await;
    agent.behave(|b| b.idle_ms = 8000);
    let ending = viewer.ending().await.unwrap();
    assert_eq!(ending.why, EndingReason::Idle);
    // They come back to life.
    agent.behave(|b| b.idle_ms = 0);
    assert_eq!(viewer.ending().await, None);
    agent.behave(|b| b.idle_ms = 60_000);
    assert_eq!(viewer.closed().await, 4008);
    let session: Session = ada.get(&format!("/sessions/{}", connection.session.id)).await.ok();
    assert_eq!(session.ended_at, None);
    assert_eq!(ada.connect("office").await.desktop.id, connection.desktop.id);
}

#[tokio::test]
async fn a_session_that_lasts_too_long_is_ended_after_a_warning() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "office", json!({ "limits": { "session_s": 10 } })).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("office").await;
    let mut viewer = Browser::told(&server, &connection).await;
    assert_eq!(viewer.ending().await.unwrap().why, EndingReason::SessionLimit);
    assert_eq!(viewer.closed().await, 4009);
    let session: Session = ada.get(&format!("/sessions/{}", connection.session.id)).await.ok();
    assert!(session.ended_at.is_some());
    assert_ne!(ada.connect("office").await.desktop.id, connection.desktop.id);
}

#[tokio::test]
async fn who_stays_away_is_logged_off() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "office", json!({ "limits": { "disconnected_s": 1 } })).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("office").await;
    let viewer = Browser::view(&server, &connection).await;
    viewer.close().await;
    eventually("the session ends", || async {
        let session: Session = ada.get(&format!("/sessions/{}", connection.session.id)).await.ok();
        session.ended_at
    })
    .await;
}

#[tokio::test]
async fn quotas_are_kept_and_told() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "office", json!({})).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    let admin = server.local();
    admin.put("/users/ada/quota", json!({ "max_desktops": 1 })).await.ok::<Value>();
    let own = ada.connect("desk").await;
    let why = ada.post("/sessions", json!({ "pool": "office" })).await.problem(409, "quota_reached");
    assert!(why.contains("the user ada has 1 desktop(s)"), "{why}");
    ben.put("/users/ben/quota", json!({ "max_desktops": null })).await.problem(403, "not_permitted");
    for user in ["ada", "ben"] {
        assert_eq!(admin.put(&format!("/users/{user}/groups/staff"), json!(null)).await.status, 204);
    }
    let staff: Group = admin.put("/groups/staff/quota", json!({ "max_desktops": 1 })).await.ok();
    assert_eq!(staff.quota.map(|q| (q.max_desktops, q.desktops)), Some((1, 1)));
    let why = ben.post("/sessions", json!({ "pool": "desk" })).await.problem(409, "quota_reached");
    assert!(why.contains("the group staff"), "{why}");
    assert_eq!(ada.delete(&format!("/sessions/{}", own.session.id)).await.status, 204);
    ben.connect("desk").await;
    admin.put("/groups/nobody/quota", json!({ "max_desktops": 1 })).await.problem(404, "group_not_found");
    let high = json!({ "max_desktops": 2_000_000 });
    admin.put("/users/ada/quota", high).await.problem(400, "invalid_request");
}

#[tokio::test]
async fn a_pool_that_asks_for_labels_waits_for_a_host_that_has_them() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "north", json!({ "placement": { "labels": { "site": "north" } } })).await;
    let ada = server.user("ada").await;
    let refused = ada.post("/sessions", json!({ "pool": "north" })).await.problem(503, "no_host");
    assert!(refused.contains("it does not have the label site=north"), "{refused}");
    let name = server.local().page::<Host>("/hosts").await.remove(0).name;
    let path = format!("/hosts/{name}/labels");
    let bad = json!({ "labels": { "a b": "c" } });
    server.local().put(&path, bad).await.problem(400, "invalid_request");
    let host: Host = server.local().put(&path, json!({ "labels": { "site": "north" } })).await.ok();
    assert_eq!(host.labels["site"], "north");
    ada.connect("north").await;
}

#[tokio::test]
async fn a_host_that_is_to_be_worked_on_is_emptied_after_a_warning() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "own", json!({ "kind": "personal" })).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    let (own, floating) = (ada.connect("own").await, ben.connect("desk").await);
    in_phase(&ada, &own, Phase::Ready).await;
    let mut viewers = [Browser::told(&server, &own).await, Browser::told(&server, &floating).await];
    let path = "/hosts/attic/maintenance";
    let host: Host = server.local().put(path, json!({ "in_s": 8 })).await.ok();
    assert!(host.drained && host.maintenance_at.is_some());
    for viewer in &mut viewers {
        assert_eq!(viewer.ending().await.unwrap().why, EndingReason::Maintenance);
    }
    for viewer in &mut viewers {
        assert_eq!(viewer.closed().await, 4011);
    }
    in_phase(&ada, &own, Phase::Off).await;
    let refused = ada.post("/sessions", json!({ "pool": "own" })).await.problem(503, "host_in_maintenance");
    assert!(refused.contains("attic"), "{refused}");
    ben.post("/sessions", json!({ "pool": "desk" })).await.problem(503, "no_host");
    assert_eq!(server.local().delete(path).await.status, 204);
    assert_eq!(ada.connect("own").await.desktop.id, own.desktop.id);
    assert_ne!(ben.connect("desk").await.desktop.id, floating.desktop.id);
    let far = json!({ "in_s": 4_000_000 });
    server.local().put(path, far).await.problem(400, "invalid_request");
}
