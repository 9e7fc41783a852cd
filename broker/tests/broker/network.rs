//! Hosts that come by the network: enrolled with a token, known by their certificates, their desktops reached through a relay; and
//! who is turned away.

use crate::support::agent::{self, Agent, hello, refused_by};
use crate::support::viewer::Browser;
use crate::support::{Server, eventually};
use futures_util::{SinkExt, StreamExt};
use lucarne_control::HostId;
use lucarne_control::agent::{PROTOCOL_VERSION, StreamDoor};
use lucarne_control::api::{Enrollment, GivenEnrollment, Host};
use lucarne_relay::{Identity, dial, relay};
use lucarne_trust::{Authority, Credentials, EnrollmentToken, Role, pinned};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

/// A token for one host.
async fn token(server: &Server, body: serde_json::Value) -> EnrollmentToken {
    let given: GivenEnrollment = server.local().post("/enrollments", body).await.created();
    assert_eq!(given.brokers, std::slice::from_ref(&server.hosts));
    given.token.parse().unwrap()
}

async fn enroll(
    server: &Server,
    dir: &Path,
    token: &EnrollmentToken,
    name: &str,
) -> Result<Identity, String> {
    let brokers = [server.hosts.clone()];
    Identity::enroll(&dir.join("identity"), token, name, &brokers).await.map_err(|e| e.to_string())
}

/// An enrolled host: its agent is the test's, its relay the real one.
struct Machine {
    dir: Arc<TempDir>,
    identity: Identity,
    port: u16,
    asked: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Machine {
    async fn of(server: &Server, name: &str) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let identity = enroll(server, dir.path(), &token(server, json!({})).await, name).await.unwrap();
        let (asked, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let (desktops, count, lock) =
            (dir.path().to_owned(), Arc::clone(&asked), dir.path().join("relay.json"));
        let config = relay::Config {
            metrics_listen: None,
            listen: "127.0.0.1:0".parse().unwrap(),
            identity: dir.path().join("identity"),
            lock: lock.clone(),
            socket: Box::new(move |desktop| {
                count.fetch_add(1, Ordering::SeqCst);
                desktops.join(desktop.to_string())
            }),
        };
        tokio::spawn(relay::run(config, stop.clone()));
        let port = eventually("the relay takes streams", async || {
            relay::holder(&lock).unwrap().map(|holder| holder.port)
        })
        .await;
        Self { dir, identity, port, asked, stop }
    }

    async fn start(&self, server: &Server) -> Agent {
        Agent::start_enrolled(server, &self.identity, self.port, Arc::clone(&self.dir)).await
    }
}

async fn host(server: &Server, name: &str) -> Host {
    server.local().get(&format!("/hosts/{name}")).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolled_hosts_desktops_are_viewed_through_its_relay() {
    let server = Server::start().await;
    let attic = Machine::of(&server, "attic").await;
    let agent = attic.start(&server).await;
    agent.told(&server).await;
    let seen = host(&server, "attic").await;
    assert_eq!((seen.enrolled, seen.address), (true, Some(format!("127.0.0.1:{}", attic.port))));
    let ada = server.user("ada").await;
    let connection = ada.connect("desk").await;
    let mut browser = Browser::view(&server, &connection).await;
    browser.echo(b"by the network").await;
    // Its agent said that the display is a socket of the gateway's machine, where one is indeed: that is not for it to say.
    assert_eq!(attic.asked.load(Ordering::SeqCst), 1);
    let path = format!("/desktops/{}/thumbnail", connection.desktop.id);
    assert_eq!(ada.get(&path).await.body.as_ref(), agent::JPEG);

    // A relay that makes way keeps what it has, and the next takes what is new.
    attic.stop.cancel();
    eventually("the relay accepts no more", async || {
        relay::holder(&attic.dir.path().join("relay.json")).unwrap().is_none().then_some(())
    })
    .await;
    browser.echo(b"still there").await;
    agent.cut();
    eventually("the link is lost", async || (!host(&server, "attic").await.online).then_some(())).await;
    browser.echo(b"without its agent, too").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_once_and_for_whom_it_was_made() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let once = token(&server, json!({})).await;
    let attic = enroll(&server, dir, &once, "attic").await.unwrap();
    let why = enroll(&server, dir, &once, "cellar").await.unwrap_err();
    assert!(why.contains("it was used, by the host attic"), "{why}");
    assert_eq!(
        Identity::open(&dir.join("identity")).unwrap().unwrap().about,
        attic.about,
        "nothing was replaced"
    );

    let taken = token(&server, json!({})).await;
    let why = enroll(&server, dir, &taken, "attic").await.unwrap_err();
    assert!(why.contains("lucarne host token --host attic"), "{why}");
    enroll(&server, &dir.join("cellar"), &taken, "cellar").await.expect("a refusal does not use it up");

    let named = token(&server, json!({ "host": "attic", "valid_s": 60 })).await;
    let why = enroll(&server, dir, &named, "loft").await.unwrap_err();
    assert!(why.contains("it is for the host attic"), "{why}");
    let again = enroll(&server, dir, &named, "attic").await.unwrap();
    assert_eq!(again.about.id, attic.about.id, "it is the same host");

    for bad in ["", "a b", "../attic", &"x".repeat(254)] {
        let fresh = token(&server, json!({})).await;
        let why = enroll(&server, dir, &fresh, bad).await.unwrap_err();
        assert!(why.contains("is no name for a host"), "{why}");
    }
    let unknown = EnrollmentToken { secret: lucarne_trust::Secret::new([1; 32]), ..named.clone() };
    let why = enroll(&server, dir, &unknown, "loft").await.unwrap_err();
    assert!(why.contains("there is none like it here"), "{why}");

    let list: Vec<Enrollment> = server.local().page("/enrollments").await;
    let open = list.iter().find(|e| e.used_at.is_none()).unwrap();
    assert_eq!(server.local().delete(&format!("/enrollments/{}", open.id)).await.status, 204);
    server.local().delete(&format!("/enrollments/{}", open.id)).await.problem(404, "enrollment_not_found");
    server.local().post("/enrollments", json!({ "valid_s": 59 })).await.problem(400, "invalid_request");
    server.local().post("/enrollments", json!({ "host": "a/b" })).await.problem(400, "invalid_request");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_host_is_cut_off_with_its_streams_until_it_is_allowed() {
    let server = Server::start().await;
    let attic = Machine::of(&server, "attic").await;
    let mut agent = attic.start(&server).await;
    agent.told(&server).await;
    let ada = server.user("ada").await;
    let mut browser = Browser::view(&server, &ada.connect("desk").await).await;
    browser.echo(b"before").await;
    let deny = json!({ "reason": "it was stolen" });
    assert_eq!(server.local().put("/hosts/attic/denial", deny.clone()).await.status, 204);
    assert_eq!(browser.closed().await, 4007);
    assert_eq!(browser.reason, "an administrator has withdrawn this desktop");
    assert!(agent.ended().await.is_some_and(|why| why.contains("is lost")), "its link is cut");
    let seen = host(&server, "attic").await;
    assert!(seen.denied && !seen.online);
    let mut agent = agent.reconnect_enrolled(&server, &attic.identity, attic.port).await;
    let why = agent.ended().await.unwrap();
    assert!(why.contains("is denied") && why.contains("lucarne host allow attic"), "{why}");
    let why = attic.identity.renew().await.unwrap_err().to_string();
    assert!(why.contains("is denied"), "{why}");

    assert_eq!(server.local().delete("/hosts/attic/denial").await.status, 204);
    attic.identity.renew().await.unwrap();
    let agent = agent.reconnect_enrolled(&server, &attic.identity, attic.port).await;
    eventually("the host is back", async || host(&server, "attic").await.online.then_some(())).await;
    let mut browser = Browser::view(&server, &ada.connect("desk").await).await;
    browser.echo(b"after").await;
    drop(agent);
    server.local().put("/hosts/attic/denial", json!({ "reason": "x" })).await.problem(400, "invalid_request");
    server.local().put("/hosts/nowhere/denial", deny).await.problem(404, "host_not_found");
    ada.put("/hosts/attic/denial", json!({ "reason": "I want to" })).await.problem(403, "not_permitted");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_the_host_that_it_says_it_is_is_turned_away_and_told_why() {
    let server = Server::start().await;
    let (attic, cellar) = (Machine::of(&server, "attic").await, Machine::of(&server, "cellar").await);
    let door = Some(StreamDoor { address: None, port: 1 });
    let say = |name: &str| agent_hello(name, door.clone());
    let stream = || async { agent::dial(&server, &attic.identity).await.unwrap() };
    let why = refused_by(stream().await, say("cellar")).await;
    assert!(why.contains("its certificate is that of the host attic"), "{why}");
    let why = refused_by(stream().await, agent_hello("attic", None)).await;
    assert!(why.contains("where it takes viewers' streams"), "{why}");
    // Enrolled again elsewhere: who has the key of before is not that host any more.
    let again = token(&server, json!({ "host": "attic" })).await;
    enroll(&server, &cellar.dir.path().join("again"), &again, "attic").await.unwrap();
    let why = refused_by(stream().await, say("attic")).await;
    assert!(why.contains("enrolled again"), "{why}");
    // Deleted.
    assert_eq!(server.local().delete("/hosts/cellar").await.status, 204);
    let gone = agent::dial(&server, &cellar.identity).await.unwrap();
    let why = refused_by(gone, say("cellar")).await;
    assert!(why.contains("it was deleted here"), "{why}");
    // The broker's own machine cannot take an enrolled host's name by accident.
    let why = agent::refused(&server.agent_socket(), say("attic")).await;
    assert!(why.contains("was enrolled"), "{why}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_followed_something_before_is_taken_when_it_is_enrolled_and_has_nothing_left() {
    let server = Server::start().await;
    let attic = Machine::of(&server, "attic").await;
    let agent = attic.start(&server).await;
    agent.told(&server).await;
    agent.cut();
    eventually("it is offline", async || (!host(&server, "attic").await.online).then_some(())).await;
    assert_eq!(server.local().delete("/hosts/attic").await.status, 204);
    let again = token(&server, json!({})).await;
    let identity = enroll(&server, attic.dir.path(), &again, "attic").await.unwrap();
    assert_ne!(identity.about.id, attic.identity.about.id);
    // With desktops of a database that knew it, nobody here could tell whose they are.
    let followed = lucarne_control::agent::Followed { epoch: 7, revision: 9 };
    let door = Some(StreamDoor { address: None, port: 1 });
    let left = lucarne_control::agent::Hello { followed, desktops: 2, ..agent_hello("attic", door) };
    let why = refused_by(agent::dial(&server, &identity).await.unwrap(), left).await;
    assert!(why.contains("2 desktop(s) of another"), "{why}");
    let agent = agent.reconnect_enrolled(&server, &identity, attic.port).await;
    agent.told(&server).await;
    assert!(host(&server, "attic").await.epoch > 1, "it goes on from what it followed");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_that_it_is_another_host_keeps_that_one_from_nothing() {
    let server = Server::start().await;
    let (attic, cellar) = (Machine::of(&server, "attic").await, Machine::of(&server, "cellar").await);
    // Many at once, none of which goes away by itself.
    let mut liars = Vec::new();
    for _ in 0..8 {
        let stream = agent::dial(&server, &cellar.identity).await.unwrap();
        let door = Some(StreamDoor { address: None, port: 1 });
        let (mut ws, _) = tokio_tungstenite::client_async("ws://broker/", stream).await.unwrap();
        let hello = lucarne_control::agent::FromAgent::Hello(agent_hello("attic", door));
        ws.send(Message::text(serde_json::to_string(&hello).unwrap())).await.unwrap();
        liars.push(ws);
    }
    let agent = attic.start(&server).await;
    agent.told(&server).await;
    assert!(host(&server, "attic").await.online);
    server.stop().await;
}

fn agent_hello(name: &str, door: Option<StreamDoor>) -> lucarne_control::agent::Hello {
    lucarne_control::agent::Hello { streams: door, ..hello(name, PROTOCOL_VERSION, 1024) }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_garbage_at_the_door_for_hosts_change_nothing() {
    let server = Server::start().await;
    let attic = Machine::of(&server, "attic").await;
    // A certificate of another deployment with the same names.
    let (pem, key) = Authority::make(SystemTime::now()).unwrap();
    let other = Authority::load(&pem, &key).unwrap();
    let (key, public) = Credentials::make_key().unwrap();
    let own = other.issue(Role::Host(attic.identity.about.id), &public, SystemTime::now()).unwrap();
    let forged = Credentials::load(&own, &key, &pem).unwrap();
    assert!(dial::broker(&server.hosts, forged.client().unwrap()).await.is_err());
    // One that trusts this deployment, and shows what another issued.
    let authority = server.local().post("/enrollments", json!({})).await.created::<GivenEnrollment>();
    let pin = authority.token.parse::<EnrollmentToken>().unwrap().authority;
    let stranger = || async { dial::broker(&server.hosts, pinned(pin).unwrap()).await.unwrap() };
    // Without a certificate nobody is a host, and what is asked has to be understood.
    for (said, heard) in [
        (json!({ "type": "hello", "host": "attic" }).to_string(), "cannot be read"),
        ("garbage".to_owned(), "cannot be read"),
        (json!({ "type": "enroll", "secret": "x", "name": "loft", "public_key": "y" }).to_string(), "copy it whole"),
        (json!({ "type": "renew", "host": HostId::generate(), "public_key": String::from(public.clone()) }).to_string(), "deleted here"),
        (json!({ "type": "renew", "host": attic.identity.about.id, "public_key": String::from(public) }).to_string(), "another key"),
    ] {
        let (mut ws, _) = tokio_tungstenite::client_async("ws://broker/", stranger().await).await.unwrap();
        ws.send(Message::text(said)).await.unwrap();
        let answer = ws.next().await.unwrap().unwrap().into_text().unwrap();
        assert!(answer.contains("refused") && answer.contains(heard), "{answer}");
    }
    // Too much, and what is no TLS at all.
    let (mut ws, _) = tokio_tungstenite::client_async("ws://broker/", stranger().await).await.unwrap();
    let _ = ws.send(Message::text("x".repeat(1 << 20))).await;
    assert!(!matches!(ws.next().await, Some(Ok(Message::Text(_)))));
    let mut plain = TcpStream::connect(&server.hosts).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest).await;
    // An agent's garbage ends its link, and nothing else.
    let (mut ws, _) = tokio_tungstenite::client_async(
        "ws://broker/",
        match agent::dial(&server, &attic.identity).await.unwrap() {
            Either::Right(stream) => stream,
            Either::Left(_) => unreachable!(),
        },
    )
    .await
    .unwrap();
    ws.send(Message::text("{")).await.unwrap();
    assert!(!matches!(ws.next().await, Some(Ok(Message::Text(_)))));
    let agent = attic.start(&server).await;
    agent.told(&server).await;
    let ada = server.user("ada").await;
    Browser::view(&server, &ada.connect("desk").await).await.echo(b"all is well").await;

    // The relay takes brokers only.
    let hosts = attic.identity.credentials().unwrap();
    let address = format!("127.0.0.1:{}", attic.port);
    let tcp = TcpStream::connect(&address).await.unwrap();
    let name = Role::Host(attic.identity.about.id).server_name().unwrap();
    let connector = tokio_rustls::TlsConnector::from(hosts.client().unwrap());
    let mut stream = connector.connect(name, tcp).await.unwrap();
    let asked = attic.asked.load(Ordering::SeqCst);
    let _ = stream.write_all(b"{}\n").await;
    assert_eq!(stream.read(&mut [0; 10]).await.unwrap_or(0), 0, "it is closed without a word");
    assert_eq!(attic.asked.load(Ordering::SeqCst), asked);
    server.stop().await;
}
