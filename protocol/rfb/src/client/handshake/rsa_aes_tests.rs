//! The client's side of the RSA-AES types against servers that do what they should not.

use super::super::tests::{Cut, Play, method, play, rsa_aes as want};
use super::*;
use crate::security::eax::OpenError;
use crate::security::rsa_aes::tests::OpenSsl;
use crate::security::rsa_aes::{KeyError, RsaError};
use crate::security::{SecurityType, Version};
use crate::server::Method;
use std::sync::Arc;

#[test]
fn credentials_that_do_not_fit_are_not_sent() {
    let long = "x".repeat(256);
    let sent = play(vec![method(SecurityType::RsaAes(RsaAes::Ra2))], want(&[RsaAes::Ra2], &long));
    assert_eq!(sent, Err(HandshakeError::CredentialsTooLong));
}

#[test]
fn a_server_key_is_not_answered_until_it_is_trusted() {
    let mut client = Handshake::new(want(&[RsaAes::Ra2], "secret"));
    let mut out = Vec::new();
    client.feed(b"RFB 003.008\n\x01\x05").unwrap();
    assert_eq!(client.poll(&mut out), Ok(None));
    assert_eq!(client.trust(&mut out), Err(HandshakeError::OutOfOrder("trust in the server's key")));
    let mut key = Vec::new();
    OpenSsl::server().public_key().put(&mut key);
    client.feed(&key).unwrap();
    out.clear();
    assert_eq!(client.poll(&mut out), Ok(Some(HandshakeEvent::CheckKey)));
    assert_eq!((client.poll(&mut out), out.len()), (Ok(None), 0), "it waits");
    assert_eq!(client.server_key().unwrap().fingerprint(), OpenSsl::server().public_key().fingerprint());
    assert!(matches!(client.channel(), Err(HandshakeError::OutOfOrder(_))));
    client.trust(&mut out).unwrap();
    assert!(out.len() > 2 * 1100 / 8);
}

#[test]
fn a_short_server_key_is_refused_at_its_length() {
    let mut client = Handshake::new(want(&[RsaAes::Ra2], "secret"));
    client.feed(b"RFB 003.008\n\x01\x05\0\0\x02\0").unwrap();
    assert_eq!(client.poll(&mut Vec::new()), Err(HandshakeError::Key(KeyError::Length(512))));
}

/// A server in the middle that shows the real server's key but cannot read what is encrypted to it.
#[test]
fn a_server_without_its_private_key_learns_nothing() {
    #[derive(Debug)]
    struct Borrowed(PublicKey);
    impl Rsa for Borrowed {
        fn public_key(&self) -> &PublicKey {
            &self.0
        }
        fn encrypt(&self, to: &PublicKey, block: &[u8]) -> Result<Vec<u8>, RsaError> {
            OpenSsl::client().encrypt(to, block)
        }
        fn decrypt(&self, block: &[u8]) -> Result<Vec<u8>, RsaError> {
            Ok(block.to_vec())
        }
        fn random(&self, bytes: &mut [u8]) -> Result<(), RsaError> {
            OpenSsl::client().random(bytes)
        }
    }
    let borrowed = Arc::new(Borrowed(OpenSsl::server().public_key().clone()));
    for kind in RsaAes::ALL {
        let offer = vec![Method::RsaAes(kind, Arc::clone(&borrowed) as Arc<dyn Rsa>)];
        let mut play = Play::new(Version::V3_8, offer, want(&[kind], "secret"));
        let ended = play.run(Cut::Every(1000));
        assert_eq!(ended, Err(HandshakeError::Message(OpenError::NotGenuine(0))));
    }
}

#[test]
fn a_server_that_asks_for_the_password_alone_is_not_told_the_name() {
    assert_eq!(credentials(1, "eve", "pw").unwrap(), b"\x03eve\x02pw");
    assert_eq!(credentials(2, "eve", "pw").unwrap(), b"\0\x02pw");
    assert_eq!(credentials(3, "eve", "pw"), Err(HandshakeError::Credentials(3)));
}

/// What a server sends that has the right private key and was shown another client's public key.
#[test]
fn a_server_that_saw_another_client_key_is_not_told_the_password() {
    let (server, kind) = (OpenSsl::server(), RsaAes::Ra2_256);
    let mut client = Handshake::new(want(&[kind], "secret"));
    let mut wire = b"RFB 003.008\n\x01\x81".to_vec();
    server.public_key().put(&mut wire);
    client.feed(&wire).unwrap();
    assert_eq!(client.poll(&mut Vec::new()), Ok(Some(HandshakeEvent::CheckKey)));
    let mut out = Vec::new();
    client.trust(&mut out).unwrap();
    let mut r = Reader::new(&out);
    let client_key = PublicKey::read(&mut r).unwrap().unwrap();
    let others = read_random(kind, &*server, &mut r).unwrap().unwrap();
    wire.clear();
    let own = send_random(kind, &*server, &client_key, &mut wire).unwrap();
    let mut sealed = Sealed::new(kind, &own, &others);
    sealed.seal(&kind.hash(server.public_key(), server.public_key()), &mut wire);
    sealed.seal(&[USER_AND_PASSWORD], &mut wire);
    client.feed(&wire).unwrap();
    out.clear();
    assert_eq!(client.poll(&mut out), Err(HandshakeError::Hash));
    assert_eq!(out.len(), 2 + 32 + 16, "its own hash, and no more");
}
