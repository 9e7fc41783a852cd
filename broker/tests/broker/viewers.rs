//! VNC viewers without TLS: RSA-AES with name and password, VncAuth with a one-time password.

use crate::support::agent::Agent;
use crate::support::viewer::{self, Bare};
use crate::support::{Client, Server};
use lucarne_broker::{RsaAes, RsaKey, Subtype, VncSecurity};
use lucarne_control::api::{AuditEntry, Connection, ViewerPassword};
use lucarne_rfb::client::{HandshakeError, Want};
use lucarne_rfb::security::{Password, vnc_auth};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const X509_PLAIN: VncSecurity = VncSecurity::VeNCrypt(Subtype::X509Plain);

/// A server that takes one-time passwords.
async fn with_passwords() -> Server {
    Server::offering(vec![X509_PLAIN, VncSecurity::VncAuth]).await
}

async fn ask(client: &Client<'_>, connection: &Connection) -> String {
    let path = format!("/sessions/{}/viewer-password", connection.session.id);
    let made: ViewerPassword = client.post(&path, json!({})).await.created();
    assert_eq!((made.password.len(), made.valid_s), (8, 60));
    made.password
}

async fn enter(server: &Server, password: &str) -> Result<Bare, String> {
    let want = Want::VncAuth { password: Password::new(password.to_owned()) };
    viewer::bare(server, want).await.map_err(|e| e.to_string())
}

async fn refusal(server: &Server, password: &str) -> String {
    enter(server, password).await.err().expect("the password opens nothing")
}

#[tokio::test]
async fn a_one_time_password_opens_its_users_desktop_once() {
    let server = with_passwords().await;
    let _agent = Agent::start(&server).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    let (adas, bens) = (ada.connect("desk").await, ben.connect("desk").await);
    let (of_ada, of_ben) = (ask(&ada, &adas).await, ask(&ben, &bens).await);
    enter(&server, &of_ben).await.unwrap().shows(&bens.desktop.name).await;
    let mut viewer = enter(&server, &of_ada).await.unwrap();
    viewer.shows(&adas.desktop.name).await;
    assert!(refusal(&server, &of_ada).await.contains("was used"));
    assert_eq!(ada.delete(&format!("/sessions/{}", adas.session.id)).await.status, 204);
    assert_eq!(viewer.receive().await, None, "log off ends the viewer");
    let log: Vec<AuditEntry> = server.local().page("/audit?limit=500").await;
    let made: Vec<_> = log.iter().filter(|e| e.action == "session.password_made").collect();
    assert_eq!(made.iter().map(|e| e.actor.as_str()).collect::<Vec<_>>(), ["ada", "ben"]);
    let refused = log.iter().find(|e| e.action == "login.refused").unwrap();
    assert!(refused.subject.contains("127.0.0.1"), "{refused:?}");
    assert!(!format!("{log:?}").contains(&of_ada));
}

/// What Screen Sharing on macOS falls back to.
#[tokio::test]
async fn a_viewer_of_rfb_3_3_gets_in_with_a_one_time_password() {
    let server = with_passwords().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("desk").await;
    let password = ask(&ada, &connection).await;
    let attempt = async || {
        let mut tcp = TcpStream::connect(server.vnc).await.unwrap();
        let mut hello = [0; 12];
        tcp.read_exact(&mut hello).await.unwrap();
        tcp.write_all(b"RFB 003.003\n").await.unwrap();
        assert_eq!(tcp.read_u32().await.unwrap(), 2, "the server says VncAuth");
        let mut challenge = [0; 16];
        tcp.read_exact(&mut challenge).await.unwrap();
        tcp.write_all(&vnc_auth::response(password.as_bytes(), &challenge)).await.unwrap();
        (tcp.read_u32().await.unwrap(), challenge, tcp)
    };
    let (result, first, mut tcp) = attempt().await;
    assert_eq!(result, 0);
    tcp.write_all(&[1]).await.unwrap();
    let mut greeting = vec![0; 8 + connection.desktop.name.len()];
    tcp.read_exact(&mut greeting).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&greeting), format!("desktop {}", connection.desktop.name));
    let (result, second, mut tcp) = attempt().await;
    assert_eq!((result, tcp.read(&mut [0]).await.unwrap()), (1, 0), "no reason in 3.3, and an end");
    assert_ne!(first, second, "each challenge is another");
}

#[tokio::test]
async fn a_one_time_password_ends_with_its_time_its_session_and_a_newer_one() {
    let server = with_passwords().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("desk").await;
    let (old, new) = (ask(&ada, &connection).await, ask(&ada, &connection).await);
    assert!(refusal(&server, &old).await.contains("one-time password is wrong"));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    assert!(refusal(&server, &new).await.contains("older than 60 s"));
    let last = ask(&ada, &connection).await;
    assert_eq!(ada.delete(&format!("/sessions/{}", connection.session.id)).await.status, 204);
    assert!(refusal(&server, &last).await.contains("has ended"));
    let path = format!("/sessions/{}/viewer-password", connection.session.id);
    ada.post(&path, json!({})).await.problem(410, "session_ended");
}

#[tokio::test]
async fn after_five_wrong_passwords_the_right_one_is_refused_too() {
    let server = with_passwords().await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("desk").await;
    let password = ask(&ada, &connection).await;
    for _ in 0..5 {
        assert!(refusal(&server, "wrong").await.contains("is wrong"));
    }
    assert!(refusal(&server, &password).await.contains("too many wrong passwords"));
    viewer::vnc(&server, "ada", "password of ada").await.expect("name and password are not affected");
}

#[tokio::test]
async fn one_time_passwords_are_for_their_owner_and_only_where_they_are_on() {
    let server = with_passwords().await;
    let _agent = Agent::start(&server).await;
    let (ada, ben) = (server.user("ada").await, server.user("ben").await);
    let path = format!("/sessions/{}/viewer-password", ada.connect("desk").await.session.id);
    ben.post(&path, json!({})).await.problem(404, "session_not_found");
    server.admin().await.post(&path, json!({})).await.problem(404, "session_not_found");
    server.anyone().post(&path, json!({})).await.problem(401, "not_signed_in");

    let off = Server::start().await;
    let _agent = Agent::start(&off).await;
    let ada = off.user("ada").await;
    let path = format!("/sessions/{}/viewer-password", ada.connect("desk").await.session.id);
    let detail = ada.post(&path, json!({})).await.problem(409, "viewer_passwords_off");
    assert!(detail.contains("vncauth"), "{detail}");
    assert!(refusal(&off, "anything").await.contains("[19]"), "VncAuth is not offered");
}

fn rsa_aes(kind: RsaAes, user: &str, password: &str) -> Want {
    let password = Password::new(password.to_owned());
    let rsa = Arc::new(RsaKey::generate(1024).expect("OpenSSL makes a key"));
    Want::RsaAes { kinds: vec![kind], user: user.to_owned(), password, rsa }
}

#[tokio::test]
async fn each_rsa_aes_type_signs_in_with_the_right_password_and_not_with_a_wrong_one() {
    let server = Server::offering(RsaAes::ALL.map(VncSecurity::RsaAes).to_vec()).await;
    let _agent = Agent::start(&server).await;
    let ada = server.user("ada").await;
    let connection = ada.connect("desk").await;
    for kind in RsaAes::ALL {
        let mut viewer = viewer::bare(&server, rsa_aes(kind, "ada", "password of ada")).await.unwrap();
        assert_eq!(viewer.channel.is_some(), kind.encrypts_stream());
        viewer.shows(&connection.desktop.name).await;
        let wrong = viewer::bare(&server, rsa_aes(kind, "ada/desk", "wrong")).await.err().unwrap();
        let HandshakeError::Refused(reason) = wrong else { panic!("{kind:?}: {wrong}") };
        assert!(reason.contains("the name or the password is wrong"), "{reason}");
    }
}

#[tokio::test]
async fn the_rsa_key_stays_over_a_restart() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let security = vec![X509_PLAIN, VncSecurity::RsaAes(RsaAes::Ra2_256)];
    let config =
        || lucarne_broker::Config { vnc_security: security.clone(), ..crate::support::config(dir.path()) };
    let first = Server::start_with(Arc::clone(&dir), config()).await;
    let shown = first.vnc_fingerprint.clone();
    assert!(shown.as_ref().is_some_and(|f| f.len() == 23 && f.matches('-').count() == 7), "{shown:?}");
    first.stop().await;
    let again = Server::start_with(Arc::clone(&dir), config()).await;
    assert_eq!(again.vnc_fingerprint, shown);
}

#[tokio::test]
async fn viewers_are_offered_what_was_named_in_that_order_and_each_type_once() {
    let tls_plain = VncSecurity::VeNCrypt(Subtype::TlsPlain);
    let [ra2_256, ra2] = [RsaAes::Ra2_256, RsaAes::Ra2].map(VncSecurity::RsaAes);
    let offered = async |security| {
        let server = Server::offering(security).await;
        let mut tcp = TcpStream::connect(server.vnc).await.unwrap();
        tcp.write_all(b"RFB 003.008\n").await.unwrap();
        let mut hello = [0; 12];
        tcp.read_exact(&mut hello).await.unwrap();
        let mut types = vec![0; tcp.read_u8().await.unwrap().into()];
        tcp.read_exact(&mut types).await.unwrap();
        types
    };
    assert_eq!(offered(vec![X509_PLAIN, tls_plain, ra2_256, ra2]).await, [19, 129, 5]);
    assert_eq!(offered(vec![ra2, X509_PLAIN, VncSecurity::VncAuth, tls_plain, ra2]).await, [5, 19, 2]);
}
