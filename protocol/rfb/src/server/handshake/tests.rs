//! The server's handshake against literal bytes of each version and type.

use super::*;
use crate::security::rsa_aes::tests::OpenSsl;
use crate::security::{MAX_PASSWORD, MAX_USER};

pub(super) fn poll_all(h: &mut Handshake, out: &mut Vec<u8>) -> Result<Vec<HandshakeEvent>, HandshakeError> {
    let mut events = Vec::new();
    while let Some(e) = h.poll(out)? {
        events.push(e);
    }
    Ok(events)
}

pub(super) fn started(offer: Offer) -> Handshake {
    let mut out = Vec::new();
    let h = Handshake::new(offer, &mut out);
    assert_eq!(out, b"RFB 003.008\n");
    h
}

pub(super) fn answer(h: &mut Handshake, bytes: &[u8]) -> (Vec<u8>, Vec<HandshakeEvent>) {
    let mut out = Vec::new();
    h.feed(bytes).unwrap();
    let events = poll_all(h, &mut out).unwrap();
    (out, events)
}

pub(super) fn failure(h: &mut Handshake, bytes: &[u8]) -> (Vec<u8>, HandshakeError) {
    let mut out = Vec::new();
    h.feed(bytes).unwrap();
    let e = poll_all(h, &mut out).unwrap_err();
    assert_eq!(h.poll(&mut Vec::new()), Ok(None), "a failed handshake stays silent");
    (out, e)
}

#[test]
fn none_in_3_8_has_a_security_result() {
    let mut h = started(Offer::none());
    assert_eq!(answer(&mut h, b"RFB 003.008\n").0, [1, 1]);
    assert_eq!(answer(&mut h, &[1]).0, [0; 4]);
    assert_eq!(answer(&mut h, &[0]).1, [HandshakeEvent::ClientInit { shared: false }]);
}

#[test]
fn none_in_3_7_has_no_security_result() {
    let mut h = started(Offer::none());
    assert_eq!(answer(&mut h, b"RFB 003.007\n").0, [1, 1]);
    assert_eq!(answer(&mut h, &[1, 1]), (vec![], vec![HandshakeEvent::ClientInit { shared: true }]));
}

#[test]
fn none_in_3_3_is_decided_by_the_server() {
    let mut h = started(Offer::none());
    assert_eq!(answer(&mut h, b"RFB 003.003\n").0, [0, 0, 0, 1]);
    assert_eq!(answer(&mut h, &[1]).1, [HandshakeEvent::ClientInit { shared: true }]);
}

#[test]
fn a_3_3_client_is_told_why_vencrypt_cannot_be_used() {
    let mut h = started(Offer::vencrypt(vec![Subtype::X509Plain]));
    let (out, e) = failure(&mut h, b"RFB 003.003\n");
    assert_eq!(e, HandshakeError::VersionTooOld);
    assert_eq!(&out[..4], [0; 4]);
    assert_eq!(out.len(), 8 + usize::from(out[7]));
}

fn until_tls(version: &[u8], subtype: Subtype) -> Handshake {
    let mut h = started(Offer::vencrypt(vec![Subtype::X509Plain, Subtype::TlsPlain, Subtype::X509None]));
    assert_eq!(answer(&mut h, version).0, [1, 19]);
    assert_eq!(answer(&mut h, &[19]).0, [0, 2]);
    let list = [0, 3, 0, 0, 1, 6, 0, 0, 1, 3, 0, 0, 1, 4];
    assert_eq!(answer(&mut h, &[0, 2]).0, list);
    let chosen = answer(&mut h, &subtype.number().to_be_bytes());
    assert_eq!(chosen, (vec![1], vec![HandshakeEvent::StartTls(subtype)]));
    h
}

#[test]
fn vencrypt_plain_asks_about_the_credentials() {
    for version in [b"RFB 003.008\n", b"RFB 003.007\n"] {
        let mut h = until_tls(version, Subtype::X509Plain);
        let mut out = Vec::new();
        h.tls_started(&mut out).unwrap();
        assert_eq!(out, []);
        let events = answer(&mut h, b"\0\0\0\x03\0\0\0\x06eveSecret\x01").1;
        let password = Password::new("Secret".into());
        assert_eq!(events, [HandshakeEvent::Plain { user: "eve".into(), password }]);
        assert!(!format!("{events:?} {h:?}").contains("Secret"));
        h.accept(&mut out).unwrap();
        assert_eq!(out, [0; 4], "there is a SecurityResult in 3.7 too: the type is not None");
        assert_eq!(answer(&mut h, &[]).1, [HandshakeEvent::ClientInit { shared: true }]);
        assert_eq!(h.security(), Security::VeNCrypt(Subtype::X509Plain));
    }
}

#[test]
fn x509_none_goes_on_after_tls() {
    let mut h = until_tls(b"RFB 003.008\n", Subtype::X509None);
    let mut out = Vec::new();
    h.tls_started(&mut out).unwrap();
    assert_eq!(out, [0; 4]);
    assert_eq!(answer(&mut h, &[1]).1, [HandshakeEvent::ClientInit { shared: true }]);
}

#[test]
fn a_rejection_carries_a_reason_only_in_3_8() {
    for (version, with_reason) in [(b"RFB 003.008\n", true), (b"RFB 003.007\n", false)] {
        let mut h = until_tls(version, Subtype::TlsPlain);
        h.tls_started(&mut Vec::new()).unwrap();
        answer(&mut h, b"\0\0\0\x01\0\0\0\x01ab");
        let mut out = Vec::new();
        h.reject("no", &mut out);
        let expected: &[u8] = if with_reason { b"\0\0\0\x01\0\0\0\x02no" } else { b"\0\0\0\x01" };
        assert_eq!(out, expected);
        assert_eq!(h.accept(&mut out), Err(HandshakeError::OutOfOrder("a verdict")));
    }
}

#[test]
fn nothing_is_parsed_while_the_verdict_is_open() {
    let mut h = until_tls(b"RFB 003.008\n", Subtype::X509Plain);
    h.tls_started(&mut Vec::new()).unwrap();
    answer(&mut h, b"\0\0\0\x01\0\0\0\x01ab");
    assert_eq!(answer(&mut h, &[1, 1, 1]), (vec![], vec![]));
}

#[test]
fn plain_text_that_rides_ahead_of_tls_is_never_taken_for_decrypted() {
    let mut h = until_tls(b"RFB 003.008\n", Subtype::X509Plain);
    h.feed(b"\0\0\0\x01\0\0\0\x01ab").unwrap();
    assert_eq!(h.tls_started(&mut Vec::new()), Err(HandshakeError::UnencryptedBytes(10)));
    assert_eq!(h.take_rest().len(), 10);
    assert_eq!(h.tls_started(&mut Vec::new()), Ok(()));
}

#[test]
fn credentials_are_bounded_and_utf8() {
    let plain = || {
        let mut h = until_tls(b"RFB 003.008\n", Subtype::X509Plain);
        h.tls_started(&mut Vec::new()).unwrap();
        h
    };
    let long_user = HandshakeError::TooLong { what: "user name", length: 257, limit: MAX_USER };
    assert_eq!(failure(&mut plain(), &[0, 0, 1, 1]).1, long_user);
    let long_password = HandshakeError::TooLong { what: "password", length: u32::MAX, limit: MAX_PASSWORD };
    assert_eq!(failure(&mut plain(), b"\0\0\0\x01\xff\xff\xff\xff").1, long_password);
    assert_eq!(failure(&mut plain(), b"\0\0\0\x01\0\0\0\x01a\xff").1, HandshakeError::NotUtf8("password"));
}

#[test]
fn what_was_not_offered_cannot_be_chosen() {
    let mut h = started(Offer::vencrypt(vec![Subtype::X509Plain]));
    answer(&mut h, b"RFB 003.008\n");
    let (out, e) = failure(&mut h, &[1]);
    assert_eq!((e, &out[..4]), (HandshakeError::Type(1), &[0, 0, 0, 1][..]));

    let mut h = started(Offer::vencrypt(vec![Subtype::X509Plain]));
    answer(&mut h, b"RFB 003.008\n");
    answer(&mut h, &[19, 0, 2]);
    assert_eq!(failure(&mut h, &256u32.to_be_bytes()), (vec![0], HandshakeError::Subtype(256)));

    let mut h = started(Offer::vencrypt(vec![Subtype::X509Plain]));
    answer(&mut h, b"RFB 003.008\n");
    assert_eq!(failure(&mut h, &[19, 0, 1]).1, HandshakeError::VeNCryptVersion(0, 1));
}

fn vnc_auth() -> Offer {
    Offer(vec![Method::VeNCrypt(vec![Subtype::X509Plain]), Method::VncAuth { challenge: [9; CHALLENGE] }])
}

#[test]
fn vnc_auth_gives_challenge_and_response_to_the_caller() {
    let versions: [(&[u8], &[u8]); 2] =
        [(b"RFB 003.008\n", b"\0\0\0\x01\0\0\0\x02no"), (b"RFB 003.007\n", b"\0\0\0\x01")];
    for (version, refusal) in versions {
        let verdict = || {
            let mut h = started(vnc_auth());
            assert_eq!(answer(&mut h, version).0, [2, 19, 2]);
            assert_eq!(answer(&mut h, &[2]).0, [9; 16]);
            assert_eq!(answer(&mut h, &[1; 15]), (vec![], vec![]));
            let asked = HandshakeEvent::Response { challenge: [9; 16], response: [1; 16] };
            assert_eq!(answer(&mut h, &[1]), (vec![], vec![asked]));
            h
        };
        let (mut right, mut wrong) = (verdict(), verdict());
        let mut out = Vec::new();
        right.accept(&mut out).unwrap();
        assert_eq!((&out[..], right.security()), (&[0; 4][..], Security::VncAuth));
        assert_eq!(answer(&mut right, &[0]).1, [HandshakeEvent::ClientInit { shared: false }]);
        out.clear();
        wrong.reject("no", &mut out);
        assert_eq!(out, refusal);
    }
}

#[test]
fn vnc_auth_in_3_3_has_a_security_result_and_no_reason() {
    let verdict = || {
        let mut h = started(vnc_auth());
        assert_eq!(answer(&mut h, b"RFB 003.003\n").0, [&[0, 0, 0, 2][..], &[9; 16]].concat());
        assert_eq!(answer(&mut h, &[1; 16]).1.len(), 1);
        h
    };
    let mut out = Vec::new();
    verdict().accept(&mut out).unwrap();
    verdict().reject("no", &mut out);
    assert_eq!(out, [0, 0, 0, 0, 0, 0, 0, 1]);
}

/// Screen Sharing on macOS says 3.889.
#[test]
fn a_viewer_that_announces_3_889_is_served_as_3_8() {
    let mut h = started(vnc_auth());
    assert_eq!(answer(&mut h, b"RFB 003.889\n").0, [2, 19, 2]);
    assert_eq!(h.version(), Version::V3_8);
}

#[test]
fn another_protocol_is_named_at_its_first_bytes() {
    let (out, e) = failure(&mut started(Offer::none()), b"GET");
    assert_eq!((out, e), (vec![], HandshakeError::NotRfb("GET".into())));
}

#[test]
fn a_client_that_runs_ahead_is_stopped() {
    let mut h = started(Offer::none());
    h.feed(&[0; 60_000]).unwrap();
    assert_eq!(h.feed(&[0; 60_000]), Err(HandshakeError::Backlog));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn run(chunks: &[&[u8]]) -> (Vec<u8>, Vec<HandshakeEvent>, Option<HandshakeError>) {
        let subtypes = vec![Subtype::X509Plain, Subtype::X509None];
        let challenge = [7; CHALLENGE];
        let rsa_aes = Method::RsaAes(RsaAes::Ra2, OpenSsl::server());
        let offer =
            Offer(vec![Method::VeNCrypt(subtypes), Method::VncAuth { challenge }, rsa_aes, Method::None]);
        let (mut out, mut events) = (Vec::new(), Vec::new());
        let mut h = Handshake::new(offer, &mut out);
        for chunk in chunks {
            h.feed(chunk).unwrap();
            loop {
                match h.poll(&mut out) {
                    Err(e) => return (out, events, Some(e)),
                    Ok(None) => break,
                    Ok(Some(e)) => {
                        match &e {
                            HandshakeEvent::StartTls(_) => {
                                // Played without TLS: what came already counts as decrypted here.
                                let rest = h.take_rest();
                                h.tls_started(&mut out).unwrap();
                                h.feed(&rest).unwrap();
                            }
                            HandshakeEvent::Plain { user, .. } if user == "ok" => h.accept(&mut out).unwrap(),
                            HandshakeEvent::Plain { .. } => h.reject("no", &mut out),
                            HandshakeEvent::Response { response, .. } if response[0] < 128 => {
                                h.accept(&mut out).unwrap();
                            }
                            HandshakeEvent::Response { .. } => h.reject("no", &mut out),
                            HandshakeEvent::StartAes | HandshakeEvent::ClientInit { .. } => {}
                        }
                        events.push(e);
                    }
                }
            }
        }
        (out, events, None)
    }

    fn plausible() -> impl Strategy<Value = Vec<u8>> {
        let version = prop::sample::select(vec![*b"RFB 003.003\n", *b"RFB 003.007\n", *b"RFB 003.008\n"]);
        let rest = prop_oneof![
            Just(b"\x01\x01".to_vec()),
            Just(b"\x13\0\x02\0\0\x01\x06\0\0\0\x02\0\0\0\x03okpwd\x01".to_vec()),
            Just(b"\x13\0\x02\0\0\x01\x06\0\0\0\x02\0\0\0\x03nopwd\x01".to_vec()),
            Just(b"\x13\0\x02\0\0\x01\x04\x00".to_vec()),
            Just(b"\x02sixteen bytes 16\x01".to_vec()),
            prop::collection::vec(any::<u8>(), 300).prop_map(|soup| [b"\x05\0\0\x04\0", &soup[..]].concat()),
            prop::collection::vec(any::<u8>(), 0..40),
        ];
        (version, rest).prop_map(|(v, r)| [&v[..], &r].concat())
    }

    proptest! {
        #[test]
        fn chunking_changes_nothing(bytes in plausible(), size in 1usize..9) {
            let chunks: Vec<_> = bytes.chunks(size).collect();
            prop_assert_eq!(run(&chunks), run(&[&bytes]));
        }

        #[test]
        fn byte_soup_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            run(&[&bytes]);
        }
    }
}
