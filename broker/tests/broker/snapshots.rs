//! Snapshots of personal desktops, as their users and administrators meet them.

use crate::support::agent::{Agent, image};
use crate::support::viewer::Browser;
use crate::support::{Client, Server, eventually};
use lucarne_control::agent::SnapshotState;
use lucarne_control::api::{Connection, Desktop, Page};
use lucarne_control::desktop::Phase;
use lucarne_control::snapshot::Snapshot;
use serde_json::{Value, json};

async fn pool(server: &Server, name: &str, snapshots: Value) {
    let new = json!({ "name": name, "image": image(1).digest, "entitled_groups": ["everyone"], "kind": "personal",
        "snapshots": snapshots });
    assert_eq!(server.local().post("/pools", new).await.status, 201);
}

async fn in_phase(client: &Client<'_>, connection: &Connection, phase: Phase) {
    eventually(&format!("the desktop is {phase:?}"), || async {
        let desktop: Desktop = client.get(&format!("/desktops/{}", connection.desktop.id)).await.ok();
        (desktop.phase == phase).then_some(())
    })
    .await
}

async fn ready(client: &Client<'_>, id: &str) -> Snapshot {
    eventually("it is taken", || async {
        let snapshot: Snapshot = client.get(&format!("/snapshots/{id}")).await.ok();
        (snapshot.state == SnapshotState::Ready).then_some(snapshot)
    })
    .await
}

#[tokio::test]
async fn a_user_takes_one_of_their_desktop_and_puts_it_back_where_the_pool_lets_them() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "own", json!({ "users": true, "max": 2 })).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    let connection = ada.connect("own").await;
    in_phase(&ada, &connection, Phase::Ready).await;
    let all = format!("/desktops/{}/snapshots", connection.desktop.id);
    let answer = ada.post(&all, json!({ "name": "monday" })).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let taken: Snapshot = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((taken.state, taken.memory, taken.created_by.as_str()), (SnapshotState::Taking, true, "ada"));
    let id = taken.id.to_string();
    let taken = ready(&ada, &id).await;
    assert_eq!((taken.name.as_str(), taken.bytes, taken.taken_at), ("monday", 1 << 20, Some(1_790_000_000)));
    ada.post(&all, json!({ "name": "monday" })).await.problem(409, "name_taken");
    ada.post(&all, json!({ "name": "two\nlines" })).await.problem(400, "invalid_request");
    assert_eq!(ada.post(&all, json!({ "memory": false })).await.status, 202);
    let most = ada.post(&all, json!({})).await.problem(409, "quota_reached");
    assert!(most.contains("2 snapshots") && most.contains("delete one"), "{most}");
    // Nobody else's.
    ben.get(&all).await.problem(404, "desktop_not_found");
    ben.get(&format!("/snapshots/{id}")).await.problem(404, "snapshot_not_found");
    ben.post(&format!("/snapshots/{id}/revert"), json!({})).await.problem(404, "snapshot_not_found");
    ben.delete(&format!("/snapshots/{id}")).await.problem(404, "snapshot_not_found");

    let mut viewer = Browser::view(&server, &connection).await;
    viewer.echo(b"hello").await;
    assert_eq!(ada.post(&format!("/snapshots/{id}/revert"), json!({})).await.status, 202);
    assert_eq!(viewer.closed().await, 4013);
    in_phase(&ada, &connection, Phase::Ready).await;
    let again = ada.connect("own").await;
    assert_eq!(again.desktop.id, connection.desktop.id);
    Browser::view(&server, &again).await.echo(b"again").await;

    assert_eq!(ada.delete(&format!("/snapshots/{id}")).await.status, 202);
    eventually("it is gone", || async {
        let left: Page<Snapshot> = ada.get(&all).await.ok();
        (left.items.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn elsewhere_only_administrators_may_and_floating_desktops_have_none() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "own", json!({})).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("own").await;
    in_phase(&ada, &connection, Phase::Ready).await;
    let all = format!("/desktops/{}/snapshots", connection.desktop.id);
    let why = ada.post(&all, json!({})).await.problem(403, "not_permitted");
    assert!(why.contains("snapshots.users"), "{why}");
    let answer = server.local().post(&all, json!({ "name": "before" })).await;
    let taken: Snapshot = serde_json::from_slice(&answer.body).unwrap();
    let path = format!("/snapshots/{}", taken.id);
    // They see it, and that is all.
    assert_eq!(ready(&ada, &taken.id.to_string()).await.name, "before");
    ada.delete(&path).await.problem(403, "not_permitted");
    ada.post(&format!("{path}/revert"), json!({})).await.problem(403, "not_permitted");
    let floating = ada.connect("desk").await;
    in_phase(&ada, &floating, Phase::Ready).await;
    let all = format!("/desktops/{}/snapshots", floating.desktop.id);
    server.local().post(&all, json!({})).await.problem(409, "not_personal");
    let wrong = json!({ "name": "x", "image": image(1).digest, "snapshots": { "every_s": 3600 } });
    let said = server.local().post("/pools", wrong).await.problem(400, "invalid_request");
    assert!(said.contains("personal desktops"), "{said}");
}

#[tokio::test]
async fn an_administrator_clones_a_desktop_for_another_user() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "own", json!({ "users": true })).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    let connection = ada.connect("own").await;
    in_phase(&ada, &connection, Phase::Ready).await;
    let all = format!("/desktops/{}/snapshots", connection.desktop.id);
    let answer = server.local().post(&all, json!({})).await;
    let taken: Snapshot = serde_json::from_slice(&answer.body).unwrap();
    let clone = format!("/snapshots/{}/clone", taken.id);
    // What is in a desktop is not for its user to give away, nor for others to take.
    ada.post(&clone, json!({ "user": "ben" })).await.problem(403, "not_permitted");
    for (name, role) in [("oona", "operator"), ("hal", "help_desk")] {
        let staff = server.user(name).await;
        let given = server.local().put(&format!("/users/{name}/role"), json!({ "role": role })).await;
        assert_eq!(given.status, 200, "{}", given.text());
        let why = staff.post(&clone, json!({ "user": name })).await.problem(403, "not_permitted");
        assert!(why.contains("users:write"), "{why}");
    }
    server.local().post(&clone, json!({ "user": "nobody" })).await.problem(404, "user_not_found");
    server
        .local()
        .post(&clone, json!({ "user": "ben", "pool": "desk" }))
        .await
        .problem(409, "other_template");
    server.local().post(&clone, json!({ "user": "ada" })).await.problem(409, "already_assigned");
    let answer = server.local().post(&clone, json!({ "user": "ben" })).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let made: Desktop = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((made.user.as_deref(), made.pool.as_str(), made.persistent), (Some("ben"), "own", true));
    assert_ne!(made.id, connection.desktop.id);
    let theirs = ben.connect("own").await;
    assert_eq!(theirs.desktop.id, made.id);
    in_phase(&ben, &theirs, Phase::Ready).await;
    Browser::view(&server, &theirs).await.echo(b"mine").await;
}
