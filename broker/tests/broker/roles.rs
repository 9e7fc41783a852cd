//! Several viewers of one session: who takes over, who joins, who only looks, and administrators who watch.

use crate::support::agent::Agent;
use crate::support::viewer::{self, Browser};
use crate::support::{Answer, Client, Server, eventually};
use lucarne_control::api::{AuditEntry, Connection, Session, SessionState};
use lucarne_control::viewer::{Notice, Viewer, ViewerKind, ViewerRole};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// A pool whose sessions may be watched.
async fn pool(server: &Server, name: &str, shadow: &str, control: bool) {
    let body = json!({ "name": name, "image": "debian-desktop", "entitled_groups": ["everyone"],
        "shadow": shadow, "shadow_control": control });
    let made: Value = server.local().post("/pools", body).await.created();
    assert_eq!((&made["shadow"], &made["shadow_control"]), (&json!(shadow), &json!(control)));
}

async fn ticket(client: &Client<'_>, connection: &Connection, viewers: &str) -> Connection {
    let path = format!("/sessions/{}/ticket?viewers={viewers}", connection.session.id);
    client.post(&path, json!({})).await.created()
}

async fn viewers(client: &Client<'_>, connection: &Connection, n: usize) -> Vec<Viewer> {
    let path = format!("/sessions/{}", connection.session.id);
    eventually(&format!("the session has {n} viewers"), || async {
        let session: Session = client.get(&path).await.ok();
        (session.viewers.len() == n).then_some(session.viewers)
    })
    .await
}

async fn state(client: &Client<'_>, connection: &Connection, state: SessionState) {
    let path = format!("/sessions/{}", connection.session.id);
    eventually("the session's state is on record", || async {
        (client.get(&path).await.ok::<Session>().state == state).then_some(())
    })
    .await;
}

async fn shadow(server: &Server, connection: &Connection, control: bool) -> Answer {
    let path = format!("/sessions/{}/shadow", connection.session.id);
    server.local().post(&path, json!({ "control": control, "reason": "you called" })).await
}

async fn answer(client: &Client<'_>, connection: &Connection, owner: &mut Browser, allow: bool) {
    let question = owner.asked().await;
    assert_eq!((question.user.as_str(), question.reason.as_str()), ("admin (local)", "you called"));
    let path = format!("/sessions/{}/shadows/{}", connection.session.id, question.id);
    assert_eq!(client.post(&path, json!({ "allow": allow })).await.status, 204);
    client.post(&path, json!({ "allow": allow })).await.problem(404, "shadow_not_found");
    owner.unasked().await;
}

/// The audit log's words on shadows, in order.
async fn on_record(server: &Server) -> Vec<(String, String, String)> {
    let log: Vec<AuditEntry> = server.local().page("/audit?limit=500").await;
    let shadows = log.into_iter().filter(|e| e.action.starts_with("shadow."));
    shadows.map(|e| (e.actor, e.action["shadow.".len()..].to_owned(), e.detail)).collect()
}

async fn steps(server: &Server, wanted: &[&str]) {
    eventually(&format!("the log has {wanted:?}"), || async {
        let log = on_record(server).await;
        (log.iter().map(|(_, action, _)| action.as_str()).eq(wanted.iter().copied())).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_takes_over_says_so_and_the_earlier_is_told_who_came() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("desk").await;
    assert!(connection.takes_over.is_empty());
    let mut first = Browser::told(&server, &connection).await;
    let seen = first.sees(1).await;
    assert_eq!((seen[0].role, seen[0].control, seen[0].kind), (ViewerRole::Owner, true, ViewerKind::Browser));
    assert_eq!((&*seen[0].user, &*seen[0].address, &*seen[0].security), ("ada", "127.0.0.1", "TLS"));
    let second = ticket(&ada, &connection, "take_over").await;
    assert_eq!(second.takes_over, seen, "the newcomer is told before");
    assert_eq!(ada.card().await.session.unwrap().viewers, seen, "and the portal shows it");
    let _vnc = viewer::vnc(&server, "ada", "password of ada").await.unwrap();
    let by = first.notice(|n| if let Notice::TakenOver { by } = n { Some(by.clone()) } else { None }).await;
    assert_eq!((by.kind, &*by.security, &*by.user), (ViewerKind::Vnc, "X509Plain", "ada"));
    assert_eq!(first.closed().await, 4003);
    assert_eq!(first.reason, "the session is used from elsewhere: a VNC viewer at 127.0.0.1");
    assert_eq!(viewers(&ada, &connection, 1).await, [by]);
    state(&ada, &connection, SessionState::Connected).await;
}

#[tokio::test]
async fn a_second_viewer_can_join_and_both_type() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("desk").await;
    let mut first = Browser::told(&server, &connection).await;
    let body = json!({ "pool": "desk", "viewers": "share" });
    let second: Connection = ada.post("/sessions", body).await.created();
    assert!(second.takes_over.is_empty());
    let mut second = Browser::told(&server, &second).await;
    first.echo(b"from the first").await;
    second.echo(b"from the second").await;
    let seen = first.sees(2).await;
    let path = format!("/sessions/{}/viewers/{}", connection.session.id, seen[0].id);
    assert_eq!(ada.delete(&path).await.status, 204);
    assert_eq!((first.closed().await, &*first.reason), (4004, "ada ended this viewer"));
    ada.delete(&path).await.problem(404, "viewer_not_found");
    second.sees(1).await;
    second.echo(b"alone now").await;
    second.close().await;
    state(&ada, &connection, SessionState::Disconnected).await;
}

#[tokio::test]
async fn a_vnc_viewer_joins_if_it_is_willing_to_share_and_takes_over_if_not() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("desk").await;
    let mut browser = Browser::told(&server, &connection).await;
    let mut joined = viewer::vnc_sharing(&server, "ada", "password of ada", true).await.unwrap();
    browser.sees(2).await;
    browser.echo(b"still here").await;
    let _alone = viewer::vnc_sharing(&server, "ada", "password of ada", false).await.unwrap();
    assert_eq!(browser.closed().await, 4003);
    assert!(joined.read_to_end(&mut Vec::new()).await.is_ok(), "a viewer that has to go is closed cleanly");
    viewers(&ada, &connection, 1).await;
}

#[tokio::test]
async fn a_view_only_viewer_changes_nothing() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("desk").await;
    let mut looking = Browser::told(&server, &ticket(&ada, &connection, "view_only").await).await;
    assert_eq!(looking.sees(1).await[0].role, ViewerRole::ViewOnly);
    state(&ada, &connection, SessionState::Connecting).await;
    let mut owner = Browser::told(&server, &connection).await;
    looking.sees(2).await;
    looking.send(b"dropped").await;
    owner.echo(b"what counts").await;
    assert_eq!(ada.delete(&format!("/sessions/{}", connection.session.id)).await.status, 204);
    assert_eq!((looking.closed().await, owner.closed().await), (4001, 4001), "log off ends all of them");
    assert_eq!(looking.reason, "logged off");
}

#[tokio::test]
async fn there_is_an_end_to_the_number_of_viewers_and_the_owner_always_gets_in() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("desk").await;
    let late = ticket(&ada, &connection, "view_only").await;
    let mut looking = Vec::new();
    for _ in 1..8 {
        looking.push(Browser::view(&server, &ticket(&ada, &connection, "view_only").await).await);
    }
    let path = format!("/sessions/{}/ticket?viewers=view_only", connection.session.id);
    let detail = ada.post(&path, json!({})).await.problem(409, "too_many_viewers");
    assert!(detail.contains("has 8 viewers"), "{detail}");
    let mut late = viewer::open(&server, late.ticket.as_deref().unwrap(), None).await.unwrap();
    assert_eq!(late.closed().await, 4005);
    Browser::view(&server, &connection).await.echo(b"the owner").await;
    ada.post("/sessions/x/ticket?viewers=both", json!({})).await.problem(400, "invalid_request");
}

/// Policy, whether control is allowed and wanted, and what comes of it while the owner's browser allows everything.
#[tokio::test]
async fn who_may_watch_is_the_pools_policy() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    for (policy, allowed, wanted, expected) in [
        ("off", false, false, Err("shadow_off")),
        ("off", true, true, Err("shadow_off")),
        ("with_consent", false, false, Ok(true)),
        ("with_consent", false, true, Err("shadow_control_off")),
        ("with_consent", true, true, Ok(true)),
        ("with_notice", false, false, Ok(false)),
        ("with_notice", false, true, Err("shadow_control_off")),
        ("with_notice", true, true, Ok(false)),
    ] {
        let name = format!("{policy}-{allowed}-{wanted}").replace('_', "-");
        pool(&server, &name, policy, allowed).await;
        let connection = ada.connect(&name).await;
        let mut owner = Browser::told(&server, &connection).await;
        let asked = shadow(&server, &connection, wanted);
        let allowed: Connection = match expected {
            Err(code) => {
                asked.await.problem(403, code);
                continue;
            }
            Ok(true) => tokio::join!(asked, answer(&ada, &connection, &mut owner, true)).0.created(),
            Ok(false) => asked.await.created(),
        };
        let mut shadow = Browser::told(&server, &allowed).await;
        let seen = owner.sees(2).await;
        assert_eq!((seen[1].role, seen[1].control), (ViewerRole::Shadow, wanted), "{name}");
        assert_eq!(seen[1].user, "admin (local)");
        if wanted {
            shadow.echo(b"typed for the user").await;
        } else {
            shadow.send(b"dropped").await;
        }
        owner.echo(b"the owner goes on").await;
    }
}

#[tokio::test]
async fn a_user_who_allows_it_sees_who_watches_and_can_end_it() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "asked", "with_consent", false).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("asked").await;
    let mut owner = Browser::told(&server, &connection).await;
    let asked = shadow(&server, &connection, false);
    let (allowed, ()) = tokio::join!(asked, answer(&ada, &connection, &mut owner, true));
    let mut shadow = Browser::told(&server, &allowed.created()).await;
    let watching = owner.sees(2).await.remove(1);
    // Another window of the owner's takes over, and sees it too.
    let mut newer = Browser::told(&server, &ticket(&ada, &connection, "take_over").await).await;
    assert_eq!(owner.closed().await, 4003);
    let both = |n: &Notice| {
        matches!(n, Notice::Viewers { viewers, .. } if viewers.contains(&watching)).then_some(())
    };
    newer.notice(both).await;
    let path = format!("/sessions/{}/viewers/{}", connection.session.id, watching.id);
    server.user("ben").await.delete(&path).await.problem(404, "session_not_found");
    assert_eq!(ada.delete(&path).await.status, 204);
    assert_eq!((shadow.closed().await, &*shadow.reason), (4004, "ada ended this viewer"));
    newer.sees(1).await;
    steps(&server, &["asked", "allowed", "began", "ended"]).await;
    let log = on_record(&server).await;
    let actors: Vec<_> = log.iter().map(|(actor, ..)| actor.as_str()).collect();
    assert_eq!(actors, ["admin (local)", "ada", "admin (local)", "admin (local)"]);
    assert_eq!(log[0].2, "view only: you called");
    assert_eq!(log[3].2, "ada ended this viewer");
}

#[tokio::test]
async fn a_user_who_says_no_or_nothing_or_goes_is_not_watched() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "asked", "with_consent", false).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("asked").await;
    let nobody = async || {
        let detail = shadow(&server, &connection, false).await.problem(409, "nobody_to_ask");
        assert!(detail.contains("no browser open"), "{detail}");
    };
    nobody().await;
    let vnc = viewer::vnc(&server, "ada/asked", "password of ada").await.unwrap();
    nobody().await;
    drop(vnc);
    // A program that shows no notices cannot be asked either.
    let mute = Browser::view(&server, &ticket(&ada, &connection, "take_over").await).await;
    nobody().await;
    mute.close().await;

    let mut owner = Browser::told(&server, &ticket(&ada, &connection, "take_over").await).await;
    let asked = shadow(&server, &connection, false);
    let (denied, ()) = tokio::join!(asked, answer(&ada, &connection, &mut owner, false));
    assert_eq!(denied.problem(403, "shadow_denied"), "ada did not allow it");

    let slow = async {
        let question = owner.asked().await;
        assert_eq!(question.answer_within_s, 30);
        shadow(&server, &connection, false).await.problem(409, "already_asking");
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(30)).await;
        tokio::time::resume();
        owner.unasked().await;
    };
    let (unanswered, ()) = tokio::join!(shadow(&server, &connection, false), slow);
    assert_eq!(unanswered.problem(403, "shadow_unanswered"), "the user did not answer within 30 s");

    let leaving = async {
        owner.asked().await;
        owner.close().await;
    };
    let (left, ()) = tokio::join!(shadow(&server, &connection, false), leaving);
    left.problem(409, "nobody_to_ask");
    let log = on_record(&server).await;
    let denied: Vec<_> = log.iter().filter(|(_, action, _)| action == "denied").collect();
    assert_eq!(denied.len(), 7, "{log:#?}");
    assert_eq!(log.len(), 14, "each was asked before: {log:#?}");
    let mine: Vec<_> = denied.iter().filter(|(actor, ..)| actor == "ada").collect();
    assert_eq!(mine.len(), 1);
    assert_eq!(mine[0].2, "admin (local) may not: ada did not allow it");
}

#[tokio::test]
async fn an_administrator_who_does_not_wait_takes_the_question_back() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "asked", "with_consent", false).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("asked").await;
    let mut owner = Browser::told(&server, &connection).await;
    tokio::select! {
        _ = shadow(&server, &connection, false) => panic!("nobody answered"),
        _ = owner.asked() => {}
    }
    owner.unasked().await;
    steps(&server, &["asked", "denied"]).await;
}

#[tokio::test]
async fn nobody_is_watched_without_seeing_it() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "told", "with_notice", false).await;
    pool(&server, "asked", "with_consent", false).await;
    let ada = server.user("ada").await;

    let told = ada.connect("told").await;
    let mut shadows = Browser::told(&server, &shadow(&server, &told, false).await.created()).await;
    state(&ada, &told, SessionState::Connecting).await;
    let mut owner = Browser::told(&server, &told).await;
    assert_eq!(owner.sees(2).await[0].role, ViewerRole::Shadow, "who comes later sees it");
    owner.close().await;
    shadows.sees(1).await;
    let vnc = viewer::vnc(&server, "ada/told", "password of ada").await.unwrap();
    assert_eq!(shadows.closed().await, 4006);
    shadow(&server, &told, false).await.problem(409, "shadow_unseen");
    drop(vnc);

    let asked = ada.connect("asked").await;
    let mut owner = Browser::told(&server, &asked).await;
    let (allowed, ()) = tokio::join!(shadow(&server, &asked, false), answer(&ada, &asked, &mut owner, true));
    let mut shadows = Browser::told(&server, &allowed.created()).await;
    owner.close().await;
    assert_eq!(shadows.closed().await, 4006, "whoever allowed it has gone");
    let log = on_record(&server).await;
    assert!(
        log.iter().any(|(_, action, why)| action == "ended" && why.contains("does not show")),
        "{log:#?}"
    );
}

#[tokio::test]
async fn only_administrators_watch_and_only_the_user_answers() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    pool(&server, "asked", "with_consent", false).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    let connection = ada.connect("asked").await;
    let path = format!("/sessions/{}/shadow", connection.session.id);
    ben.post(&path, json!({})).await.problem(403, "not_permitted");
    ada.post(&path, json!({})).await.problem(403, "not_permitted");
    let long = json!({ "reason": "x".repeat(201) });
    server.local().post(&path, long).await.problem(400, "invalid_request");
    let mut owner = Browser::told(&server, &connection).await;
    let others = async {
        let id = owner.asked().await.id;
        let path = format!("/sessions/{}/shadows/{id}", connection.session.id);
        ben.post(&path, json!({ "allow": true })).await.problem(404, "session_not_found");
        server.local().post(&path, json!({ "allow": true })).await.problem(404, "session_not_found");
        assert_eq!(ada.post(&path, json!({ "allow": false })).await.status, 204);
    };
    let (denied, ()) = tokio::join!(shadow(&server, &connection, false), others);
    denied.problem(403, "shadow_denied");
    assert_eq!(ada.delete(&format!("/sessions/{}", connection.session.id)).await.status, 204);
    server.local().post(&path, json!({})).await.problem(410, "session_ended");
}

#[tokio::test]
async fn what_a_killed_broker_left_open_is_closed_on_record() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    pool(&server, "told", "with_notice", false).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("told").await;
    // Allowed, and not redeemed when the server goes.
    let _: Connection = shadow(&server, &connection, false).await.created();
    drop(agent);
    let dir = server.stop().await;
    let server = Server::start_in(dir).await;
    let log = on_record(&server).await;
    let (actor, action, detail) = log.last().unwrap();
    assert_eq!((&**actor, &**action, &**detail), ("system", "ended", "its broker is gone: it was stopped"));
}
