//! The server's side of the RSA-AES types against a client that does what it should not.

use super::super::tests::{answer, failure, poll_all, started};
use super::super::{Method, Offer};
use super::*;
use crate::security::eax::OpenError;
use crate::security::rsa_aes::tests::OpenSsl;
use crate::security::rsa_aes::{KeyError, RandomError};

fn until_client_key(kind: RsaAes) -> Handshake {
    let mut h = started(Offer(vec![Method::RsaAes(kind, OpenSsl::server())]));
    answer(&mut h, b"RFB 003.008\n");
    let (key, _) = answer(&mut h, &[kind.number()]);
    let mut expected = Vec::new();
    OpenSsl::server().public_key().put(&mut expected);
    assert_eq!(key, expected);
    h
}

fn until_hash() -> Handshake {
    let mut h = until_client_key(RsaAes::Ra2);
    let mut key = Vec::new();
    OpenSsl::client().public_key().put(&mut key);
    let (random, _) = answer(&mut h, &key);
    assert_eq!(random.len(), 2 + OpenSsl::client().public_key().modulus().len());
    h
}

#[test]
fn short_and_long_client_keys_are_refused_at_their_length() {
    for bits in [0u32, 1023, 8193, u32::MAX] {
        let (out, e) = failure(&mut until_client_key(RsaAes::Ra2), &bits.to_be_bytes());
        assert_eq!((out, e), (vec![], HandshakeError::Key(KeyError::Length(bits))));
    }
}

#[test]
fn a_client_random_number_of_another_length_is_refused() {
    let (_, e) = failure(&mut until_hash(), &[0, 16]);
    assert_eq!(e, HandshakeError::Random(RandomError::Length(16, 128)));
}

/// The server goes on as if all were well, so that nobody learns whether the padding was right.
#[test]
fn a_random_number_that_cannot_be_decrypted_fails_like_one_that_is_not_known() {
    for filling in [0, 1, 0x55] {
        let mut h = until_hash();
        let (hash, events) = answer(&mut h, &[&[0, 128][..], &[filling; 128]].concat());
        assert_eq!((hash.len(), events), (2 + 20 + 16, vec![]));
        let (out, e) = failure(&mut h, &[&[0, 20][..], &[0; 36]].concat());
        assert_eq!((out, e), (vec![], HandshakeError::Message(OpenError::NotGenuine(0))));
    }
}

#[test]
fn a_long_message_is_refused_at_its_length() {
    let mut h = until_hash();
    answer(&mut h, &[&[0, 128][..], &[1; 128]].concat());
    let (_, e) = failure(&mut h, &[0xff, 0xff]);
    assert_eq!(e, HandshakeError::Message(OpenError::TooLong { length: 65_535, limit: 1024 }));
}

/// Up to where the server waits for the client's hash, with the client's cipher and hash.
fn until_hash_with_keys(kind: RsaAes) -> (Handshake, Sealed, Vec<u8>) {
    let (server, client) = (OpenSsl::server(), OpenSsl::client());
    let mut h = until_client_key(kind);
    let mut wire = Vec::new();
    client.public_key().put(&mut wire);
    let (random, _) = answer(&mut h, &wire);
    let others = read_random(kind, &*client, &mut Reader::new(&random)).unwrap().unwrap();
    let mut wire = Vec::new();
    let own = send_random(kind, &*client, server.public_key(), &mut wire).unwrap();
    answer(&mut h, &wire);
    (h, Sealed::new(kind, &own, &others), kind.hash(client.public_key(), server.public_key()))
}

#[test]
fn a_client_that_saw_another_key_is_refused_before_its_password() {
    let (mut h, mut sealed, mut hash) = until_hash_with_keys(RsaAes::Ra2_256);
    hash[0] ^= 1;
    let mut wire = Vec::new();
    sealed.seal(&hash, &mut wire);
    assert_eq!(failure(&mut h, &wire), (vec![], HandshakeError::Hash));
}

#[test]
fn credentials_before_the_hash_are_no_hash() {
    let (mut h, mut sealed, _) = until_hash_with_keys(RsaAes::Ra2);
    let mut wire = Vec::new();
    sealed.seal(b"\x03eve\x14twenty bytes or more", &mut wire);
    assert_eq!(failure(&mut h, &wire).1, HandshakeError::Hash);
}

#[test]
fn names_and_passwords_may_be_spread_over_messages_and_must_be_utf8() {
    let credentials = |parts: &[&[u8]]| {
        let (mut h, mut sealed, hash) = until_hash_with_keys(RsaAes::Ra2ne);
        let mut wire = Vec::new();
        sealed.seal(&hash, &mut wire);
        parts.iter().for_each(|part| sealed.seal(part, &mut wire));
        h.feed(&wire).unwrap();
        poll_all(&mut h, &mut Vec::new()).map(|mut events| events.pop())
    };
    let plain = |user: &str, password: &str| {
        let password = Password::new(password.into());
        Ok(Some(HandshakeEvent::Plain { user: user.into(), password }))
    };
    assert_eq!(credentials(&[b"\x03eve\x02pw"]), plain("eve", "pw"));
    assert_eq!(credentials(&[b"\x03e", b"ve", b"\x02p", b"w"]), plain("eve", "pw"));
    assert_eq!(credentials(&[b"\0\0"]), plain("", ""));
    assert_eq!(credentials(&[b"\x03eve\x02p"]), Ok(None), "a byte is missing");
    assert_eq!(credentials(&[b"\x01\xff\0"]), Err(HandshakeError::NotUtf8("user name")));
    assert_eq!(credentials(&[b"\x03eve\x02pwX"]), Err(HandshakeError::Trailing));
}

#[test]
fn the_stream_cannot_go_on_before_it_is_wrapped() {
    let (mut h, mut sealed, hash) = until_hash_with_keys(RsaAes::Ra2);
    assert!(matches!(h.channel(), Err(HandshakeError::OutOfOrder(_))));
    let mut wire = Vec::new();
    sealed.seal(&hash, &mut wire);
    sealed.seal(b"\x03eve\x02pw", &mut wire);
    assert_eq!(answer(&mut h, &wire).1, [HandshakeEvent::StartAes]);
    let mut out = Vec::new();
    assert_eq!(h.accept(&mut out), Err(HandshakeError::OutOfOrder("a verdict")));
    assert_eq!(answer(&mut h, b"\x01").1, [], "nothing is parsed meanwhile");
    assert_eq!(h.channel().unwrap_err(), HandshakeError::UnencryptedBytes(1));
    assert_eq!(h.take_rest(), b"\x01");
    h.channel().unwrap();
    let password = Password::new("pw".into());
    assert_eq!(answer(&mut h, &[]).1, [HandshakeEvent::Plain { user: "eve".into(), password }]);
    assert!(h.channel().is_err(), "there is one");
}
