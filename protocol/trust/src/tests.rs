use super::*;
use lucarne_control::HostId;
use rustls::{ClientConnection, ServerConnection};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

struct Deployment {
    authority: Authority,
    pem: String,
}

fn deployment() -> Deployment {
    let (pem, key) = Authority::make(SystemTime::now()).unwrap();
    Deployment { authority: Authority::load(&pem, &key).unwrap(), pem }
}

impl Deployment {
    fn credentials(&self, role: Role, now: SystemTime) -> Credentials {
        let (key, public) = Credentials::make_key().unwrap();
        assert_eq!(Credentials::public(&key).unwrap(), public);
        Credentials::load(&self.authority.issue(role, &public, now).unwrap(), &key, &self.pem).unwrap()
    }
}

/// Both sides of a handshake, in memory.
fn handshake(
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
    asked: Role,
) -> Result<ServerConnection, rustls::Error> {
    let mut client = ClientConnection::new(client, asked.server_name().unwrap())?;
    let mut server = ServerConnection::new(server)?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(server)
}

fn host(n: u128) -> Role {
    Role::Host(HostId(uuid::Uuid::from_u128(n)))
}

#[test]
fn brokers_and_hosts_know_each_other_by_their_certificates() {
    let (d, now) = (deployment(), SystemTime::now());
    let (broker, attic) = (d.credentials(Role::Broker, now), d.credentials(host(1), now));
    let met = handshake(broker.server(Clients::May).unwrap(), attic.client().unwrap(), Role::Broker).unwrap();
    assert_eq!(Role::of(&met.peer_certificates().unwrap()[0]).unwrap(), host(1));
    let met = handshake(attic.server(Clients::Must).unwrap(), broker.client().unwrap(), host(1)).unwrap();
    let shown = &met.peer_certificates().unwrap()[0];
    assert_eq!(Role::of(shown).unwrap(), Role::Broker);
    assert_eq!(PublicKey::of(shown).unwrap(), PublicKey::of(broker.certificate()).unwrap());
    assert_ne!(PublicKey::of(shown).unwrap(), PublicKey::of(attic.certificate()).unwrap());
    // A host that answers at another's address is not taken for it, nor for a broker.
    handshake(attic.server(Clients::Must).unwrap(), broker.client().unwrap(), host(2)).unwrap_err();
    handshake(attic.server(Clients::May).unwrap(), attic.client().unwrap(), Role::Broker).unwrap_err();
}

#[test]
fn certificates_of_others_and_those_that_are_over_are_refused() {
    let (d, other, now) = (deployment(), deployment(), SystemTime::now());
    let (broker, stranger) = (d.credentials(Role::Broker, now), other.credentials(host(1), now));
    let server = broker.server(Clients::May).unwrap();
    handshake(server.clone(), stranger.client().unwrap(), Role::Broker).unwrap_err();
    let past = now - VALID - Duration::from_secs(1);
    let late = d.credentials(host(1), past);
    handshake(server, late.client().unwrap(), Role::Broker).unwrap_err();
    let old = d.credentials(Role::Broker, past).server(Clients::May).unwrap();
    handshake(old, d.credentials(host(1), now).client().unwrap(), Role::Broker).unwrap_err();
}

#[test]
fn a_host_that_has_only_a_token_finds_the_right_deployment() {
    let (d, other, now) = (deployment(), deployment(), SystemTime::now());
    let token = EnrollmentToken { secret: Secret::new([7; 32]), authority: d.authority.fingerprint() };
    let told = token.to_string();
    assert_eq!(told.len(), 87);
    let like_an_option = Secret::new([0xf8; 32]).text();
    assert!(like_an_option.starts_with(|c: char| c.is_ascii_alphabetic()), "{like_an_option}");
    assert_eq!(format!(" {told}\n").parse::<EnrollmentToken>().unwrap(), token);
    let client = || pinned(token.authority).unwrap();
    let met =
        handshake(d.credentials(Role::Broker, now).server(Clients::May).unwrap(), client(), Role::Broker);
    assert!(met.unwrap().peer_certificates().is_none());
    let strangers = other.credentials(Role::Broker, now).server(Clients::May).unwrap();
    let why = handshake(strangers, client(), Role::Broker).unwrap_err().to_string();
    assert!(why.contains("not of the deployment"), "{why}");
    // A host of the deployment is no broker.
    let host = d.credentials(host(1), now).server(Clients::May).unwrap();
    handshake(host, client(), Role::Broker).unwrap_err();
    // And where certificates are a must, a stranger stays outside.
    let strict = d.credentials(Role::Broker, now).server(Clients::Must).unwrap();
    handshake(strict, client(), Role::Broker).unwrap_err();
}

#[test]
fn half_a_token_is_said_to_be_that() {
    for bad in ["", ".", "abc", "abc.def", &"A".repeat(87)] {
        let why = bad.parse::<EnrollmentToken>().unwrap_err().to_string();
        assert!(why.contains("copy it whole"), "{why}");
    }
    assert!(PublicKey::from_bytes(&[4; 64]).is_err());
    assert!(PublicKey::from_bytes(&[2; 65]).is_err());
}
