//! Streams: tickets, what goes through, and how streams end, for browsers and for VNC viewers.

use crate::support::agent::{Agent, Behaviour, JPEG};
use crate::support::viewer::{self, Browser};
use crate::support::{Client, Server, eventually};
use lucarne_control::api::{Session, SessionState};
use lucarne_control::trace::Trace;
use lucarne_rfb::client::HandshakeError;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn session_is(client: &Client<'_>, id: lucarne_control::SessionId, state: SessionState) {
    eventually("the session's state is on record", || async {
        (client.get(&format!("/sessions/{id}")).await.ok::<Session>().state == state).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_ticket_opens_the_users_desktop_once() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("desk").await;
    let mut browser = Browser::view(&server, &connection).await;
    browser.echo(b"typed").await;
    browser.echo(&vec![7; 1 << 20]).await;
    session_is(&ada, connection.session.id, SessionState::Connected).await;
    let (status, body) =
        viewer::open(&server, connection.ticket.as_deref().unwrap(), None).await.err().unwrap();
    assert!(status == 401 && body.contains("ticket_invalid"), "{status} {body}");
    browser.echo(b"the first stream goes on").await;
    browser.close().await;
    session_is(&ada, connection.session.id, SessionState::Disconnected).await;
}

#[tokio::test]
async fn made_up_tickets_and_foreign_pages_open_nothing() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    assert_eq!(viewer::open(&server, "made-up", None).await.err().unwrap().0, 401);
    let ticket = ada.connect("desk").await.ticket.unwrap();
    let (status, body) = viewer::open(&server, &ticket, Some("https://evil.example")).await.err().unwrap();
    assert!(status == 403 && body.contains("foreign_origin"), "{status} {body}");
    let own = format!("https://{}", server.address);
    assert!(
        viewer::open(&server, &ticket, Some(&own)).await.is_ok(),
        "the refusal did not use the ticket up"
    );
}

#[tokio::test]
async fn the_newest_viewer_wins_and_the_earlier_is_told() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("desk").await;
    let mut first = Browser::view(&server, &connection).await;
    let path = format!("/sessions/{}/ticket", connection.session.id);
    let mut second = Browser::view(&server, &ada.post(&path, json!({})).await.created()).await;
    assert_eq!(first.closed().await, 4003);
    second.echo(b"still here").await;
    session_is(&ada, connection.session.id, SessionState::Connected).await;
}

#[tokio::test]
async fn a_stream_ends_with_the_reason_that_viewers_show() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    let (adas, bens) = (ada.connect("desk").await, ben.connect("desk").await);
    let mut logged_off = Browser::view(&server, &adas).await;
    let mut died = Browser::view(&server, &bens).await;
    assert_eq!(ada.delete(&format!("/sessions/{}", adas.session.id)).await.status, 204);
    assert_eq!(logged_off.closed().await, 4001);
    let fresh = ada.connect("desk").await;
    let mut destroyed = Browser::view(&server, &fresh).await;
    let path = format!("/desktops/{}", fresh.desktop.id);
    assert_eq!(server.local().delete(&path).await.status, 202);
    assert_eq!(destroyed.closed().await, 4002);
    // The desktop's process goes first or the report of its death: a reconnect, or the end.
    agent.kill(bens.desktop.id, "out of memory");
    assert!([1012, 4002].contains(&died.closed().await));
}

#[tokio::test]
async fn a_stream_lives_on_while_the_agent_is_gone_and_is_told_when_the_server_goes() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("desk").await;
    let mut browser = Browser::view(&server, &connection).await;
    agent.cut();
    eventually("the host is offline", || async {
        let health: serde_json::Value = server.anyone().get("/health").await.ok();
        (health["hosts_online"] == 0).then_some(())
    })
    .await;
    browser.echo(b"typed while the agent is gone").await;
    let (_, code) = tokio::join!(server.stop(), browser.closed());
    assert_eq!(code, 1012);
}

#[tokio::test]
async fn a_thumbnail_is_passed_on_and_kept_nowhere() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let desktop = ada.connect("desk").await.desktop.id;
    let answer = ada.get(&format!("/desktops/{desktop}/thumbnail?width=320")).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, JPEG));
    assert_eq!(answer.headers["content-type"], "image/jpeg");
    assert_eq!(answer.headers["cache-control"], "no-store");
    let watched = server.local().get(&format!("/desktops/{desktop}/thumbnail")).await;
    watched.problem(403, "not_your_desktop");
    ada.get(&format!("/desktops/{desktop}/thumbnail?width=9999")).await.problem(400, "invalid_request");
}

#[tokio::test]
async fn a_trace_is_for_the_owner_and_administrators_and_names_the_viewers_connections() {
    let server = Server::start().await;
    let _agent = Agent::start(&server).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    let connection = ada.connect("desk").await;
    let path = format!("/sessions/{}/trace", connection.session.id);
    let told: Trace = ada.get(&path).await.ok();
    assert_eq!((told.viewers[0].session, told.viewers[0].recent.len()), (Some(connection.session.id), 10));
    assert_eq!(told.connections, [], "nobody views it");
    let mut browser = Browser::view(&server, &connection).await;
    browser.echo(b"something to measure").await;
    let mut vnc = viewer::vnc(&server, "ada", "password of ada").await.unwrap();
    vnc.write_all(b"typed").await.unwrap();
    vnc.flush().await.unwrap();
    vnc.read_u8().await.unwrap();
    let told: Trace = server.admin().await.get(&format!("{path}?last=3")).await.ok();
    assert_eq!(told.viewers[0].recent.len(), 3);
    assert!(told.connections.iter().any(|c| c.peer.starts_with("127.0.0.1:") && c.rtt_ms > 0.0), "{told:?}");
    ada.get(&format!("{path}?last=257")).await.problem(400, "invalid_request");
    ben.get(&path).await.problem(404, "session_not_found");
    server.anyone().get(&path).await.problem(401, "not_signed_in");
    assert_eq!(ada.delete(&format!("/sessions/{}", connection.session.id)).await.status, 204);
    ada.get(&path).await.problem(410, "session_ended");
}

#[tokio::test]
async fn a_vnc_viewer_gets_the_same_desktop_as_the_browser() {
    let server = Server::start().await;
    let agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("desk").await;
    let mut browser = Browser::view(&server, &connection).await;
    let mut vnc = viewer::vnc(&server, "ada", "password of ada").await.unwrap();
    let greeting = format!("desktop {}\ntyped", connection.desktop.name);
    vnc.write_all(b"typed").await.unwrap();
    vnc.flush().await.unwrap();
    let mut got = vec![0; greeting.len()];
    vnc.read_exact(&mut got).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&got), greeting);
    assert_eq!(browser.closed().await, 4003);
    assert_eq!(ada.delete(&format!("/sessions/{}", connection.session.id)).await.status, 204);
    assert_eq!(vnc.read(&mut got).await.unwrap_or(0), 0, "log off ends the viewer");
    eventually("the desktop is gone", || async { agent.running().is_empty().then_some(()) }).await;
    let mut fresh = viewer::vnc(&server, "ada/desk", "password of ada").await.unwrap();
    fresh.read_exact(&mut got[..8]).await.unwrap();
    assert_eq!(&got[..8], b"desktop ");
    assert!(!agent.running().contains(&connection.desktop.id));
}

#[tokio::test]
async fn a_vnc_viewer_without_a_desktop_is_told_why() {
    let server = Server::start().await;
    let fails = Behaviour { fork_fails: Some("the disk is full".to_owned()), ..Behaviour::default() };
    let _agent = Agent::start_with(&server, "attic", fails).await;
    server.user("ada").await;
    let refused = async |user: &str, password: &str| match viewer::vnc(&server, user, password).await {
        Err(HandshakeError::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert!(refused("ada", "wrong").await.contains("the name or the password is wrong"));
    assert!(refused("ada/nowhere", "password of ada").await.contains("there is no pool \"nowhere\""));
    assert!(refused("ada", "password of ada").await.contains("the disk is full"));
}
