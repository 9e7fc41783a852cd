//! Our client against our server, and against literal bytes of older servers.

use super::*;
use crate::security::eax::Channel;
use crate::security::rsa_aes::tests::OpenSsl;
use crate::server::{self, Method};
use proptest::prelude::*;

fn plain(user: &str, password: &str) -> Want {
    Want::VeNCrypt {
        subtypes: vec![Subtype::X509Plain, Subtype::X509None],
        user: user.into(),
        password: Password::new(password.into()),
    }
}

fn vnc_auth(password: &str) -> Want {
    Want::VncAuth { password: Password::new(password.into()) }
}

pub(super) fn rsa_aes(kinds: &[RsaAes], password: &str) -> Want {
    let password = Password::new(password.into());
    Want::RsaAes { kinds: kinds.to_vec(), user: "eve".into(), password, rsa: OpenSsl::client() }
}

/// The server's offer of one type, with what the client of [`want`] brings.
pub(super) fn method(security: SecurityType) -> Method {
    match security {
        SecurityType::None => Method::None,
        SecurityType::VncAuth => Method::VncAuth { challenge: std::array::from_fn(|i| i as u8 + 200) },
        SecurityType::VeNCrypt => Method::VeNCrypt(vec![Subtype::X509Plain]),
        SecurityType::RsaAes(kind) => Method::RsaAes(kind, OpenSsl::server()),
    }
}

fn want(security: SecurityType, password: &str) -> Want {
    match security {
        SecurityType::None => Want::None,
        SecurityType::VncAuth => vnc_auth(password),
        SecurityType::VeNCrypt => plain("eve", password),
        SecurityType::RsaAes(kind) => rsa_aes(&[kind], password),
    }
}

fn types() -> Vec<SecurityType> {
    let plain = [SecurityType::None, SecurityType::VncAuth, SecurityType::VeNCrypt];
    plain.into_iter().chain(RsaAes::ALL.map(SecurityType::RsaAes)).collect()
}

/// How bytes are cut on their way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// In chunks of that many.
    Every(usize),
    /// Once, after that many of each direction.
    After(usize),
}

/// One side's stream: what it sends and receives, through its channel once it has one.
#[derive(Default)]
struct Pipe {
    channel: Option<Channel>,
    /// What was sent and has not arrived.
    wire: Vec<u8>,
    /// All that ever was on the wire.
    seen: Vec<u8>,
}

impl Pipe {
    fn send(&mut self, text: &mut Vec<u8>) {
        match &mut self.channel {
            None => self.wire.append(text),
            Some(channel) => channel.sealer.seal(&std::mem::take(text), &mut self.wire),
        }
    }

    fn receive(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(channel) = &mut self.channel else { return bytes.to_vec() };
        channel.opener.feed(bytes);
        self.opened()
    }

    fn opened(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Some(channel) = &mut self.channel {
            while channel.opener.open(&mut text).unwrap() {}
        }
        text
    }

    /// What is on the wire, in the chunks in which it arrives.
    fn deliver(&mut self, cut: Cut) -> Vec<Vec<u8>> {
        let wire = std::mem::take(&mut self.wire);
        let before = self.seen.len();
        self.seen.extend_from_slice(&wire);
        match cut {
            Cut::Every(n) => wire.chunks(n).map(<[u8]>::to_vec).collect(),
            Cut::After(n) => {
                let (a, b) = wire.split_at(n.saturating_sub(before).min(wire.len()));
                [a, b].into_iter().filter(|c| !c.is_empty()).map(<[u8]>::to_vec).collect()
            }
        }
    }
}

/// Both sides of one connection; TLS is a no-op, and the name is `eve`, the password `pässword`.
pub(super) struct Play {
    client: Handshake,
    server: server::Handshake,
    from_client: Pipe,
    from_server: Pipe,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    /// What the server says that it is, if not 3.8.
    version: Version,
    init: Option<bool>,
}

impl Play {
    pub(super) fn new(version: Version, offer: Vec<Method>, want: Want) -> Self {
        let mut to_client = Vec::new();
        let server = server::Handshake::new(server::Offer(offer), &mut to_client);
        to_client = version.message().to_vec();
        Self {
            client: Handshake::new(want),
            server,
            from_client: Pipe::default(),
            from_server: Pipe::default(),
            to_client,
            to_server: Vec::new(),
            version,
            init: None,
        }
    }

    /// Runs to the end of the handshake.
    pub(super) fn run(&mut self, cut: Cut) -> Result<(), HandshakeError> {
        while self.init.is_none() {
            self.from_server.send(&mut self.to_client);
            self.from_client.send(&mut self.to_server);
            let chunks = self.from_server.deliver(cut);
            let more = self.from_client.deliver(cut);
            assert!(chunks.len() + more.len() > 0, "both sides wait");
            for chunk in chunks {
                let text = self.from_client.receive(&chunk);
                self.client.feed(&text)?;
                self.client_goes_on()?;
            }
            for chunk in more {
                let text = self.from_server.receive(&chunk);
                self.server.feed(&text).unwrap();
                self.server_goes_on();
            }
        }
        assert_eq!(self.client.version(), self.version);
        assert_eq!(self.server.version(), self.version);
        Ok(())
    }

    fn client_goes_on(&mut self) -> Result<(), HandshakeError> {
        while let Some(event) = self.client.poll(&mut self.to_server)? {
            match event {
                HandshakeEvent::StartTls(_) => self.client.tls_started(&mut self.to_server)?,
                HandshakeEvent::CheckKey => {
                    assert_eq!(self.client.server_key(), Some(OpenSsl::server().public_key()));
                    self.client.trust(&mut self.to_server)?;
                }
                HandshakeEvent::StartAes => {
                    self.from_client.send(&mut self.to_server);
                    self.from_client.channel = Some(self.client.channel()?);
                    let early = self.from_client.opened();
                    self.client.feed(&early)?;
                }
                HandshakeEvent::Secured => super::super::write::client_init(true, &mut self.to_server),
            }
        }
        Ok(())
    }

    fn server_goes_on(&mut self) {
        while let Ok(Some(event)) = self.server.poll(&mut self.to_client) {
            let right = match event {
                server::HandshakeEvent::StartTls(_) => {
                    let early = self.server.take_rest();
                    self.server.tls_started(&mut self.to_client).unwrap();
                    self.server.feed(&early).unwrap();
                    continue;
                }
                server::HandshakeEvent::StartAes => {
                    self.from_server.send(&mut self.to_client);
                    self.from_server.channel = Some(self.server.channel().unwrap());
                    let early = self.from_server.opened();
                    self.server.feed(&early).unwrap();
                    continue;
                }
                server::HandshakeEvent::Response { challenge, response } => {
                    response == crate::security::vnc_auth::response("pässword".as_bytes(), &challenge)
                }
                server::HandshakeEvent::Plain { user, password } => {
                    user == "eve" && password.expose() == "pässword"
                }
                server::HandshakeEvent::ClientInit { shared } => {
                    self.init = Some(shared);
                    return;
                }
            };
            if right {
                self.server.accept(&mut self.to_client).unwrap();
            } else {
                self.server.reject("wrong name or password", &mut self.to_client);
            }
        }
    }

    /// Sends a text each way after the handshake; whether it could be read on the wire.
    fn talk(&mut self) -> bool {
        let texts = [&b"what the desktop shows"[..], b"what the user types"];
        self.from_server.send(&mut texts[0].to_vec());
        self.from_client.send(&mut texts[1].to_vec());
        let [down, up] = [self.from_server.wire.clone(), self.from_client.wire.clone()];
        assert_eq!(self.from_client.receive(&down), texts[0]);
        assert_eq!(self.from_server.receive(&up), texts[1]);
        let readable = [down == texts[0], up == texts[1]];
        assert_eq!(readable[0], readable[1]);
        readable[0]
    }
}

pub(super) fn play(offer: Vec<Method>, want: Want) -> Result<(), HandshakeError> {
    Play::new(Version::V3_8, offer, want).run(Cut::Every(1000))
}

const VERSIONS: [Version; 3] = [Version::V3_3, Version::V3_7, Version::V3_8];

#[test]
fn every_type_works_in_every_version_that_has_it() {
    for version in VERSIONS {
        for security in types().into_iter().filter(|t| version != Version::V3_3 || t.is_in_3_3()) {
            let mut play = Play::new(version, vec![method(security)], want(security, "pässword"));
            play.run(Cut::Every(1000)).unwrap_or_else(|e| panic!("{version:?} {security:?}: {e}"));
            assert_eq!(play.init, Some(true));
            assert_eq!(play.client.security_type(), Some(security));
            let hidden = matches!(security, SecurityType::RsaAes(kind) if kind.encrypts_stream());
            assert_eq!(play.talk(), !hidden, "{security:?}");
        }
    }
}

#[test]
fn a_wrong_password_is_refused_by_every_type_with_a_reason_only_in_3_8() {
    for version in VERSIONS {
        for security in types() {
            if security == SecurityType::None || version == Version::V3_3 && !security.is_in_3_3() {
                continue;
            }
            let mut play = Play::new(version, vec![method(security)], want(security, "wrong"));
            let reason = match version {
                Version::V3_8 => "wrong name or password",
                _ => "authentication failed",
            };
            let refused = Err(HandshakeError::Refused(reason.into()));
            assert_eq!(play.run(Cut::Every(1000)), refused, "{version:?} {security:?}");
        }
    }
}

#[test]
fn a_client_gets_the_first_type_that_it_wants_of_those_that_are_offered() {
    let offer = || vec![method(SecurityType::VeNCrypt), method(SecurityType::RsaAes(RsaAes::Ra2))];
    let chosen = |want| {
        let mut play = Play::new(Version::V3_8, offer(), want);
        play.run(Cut::Every(1000)).unwrap();
        (play.client.security_type().unwrap(), play.server.security())
    };
    let ra2 = chosen(rsa_aes(&[RsaAes::Ra2_256, RsaAes::Ra2], "pässword"));
    assert_eq!(ra2, (SecurityType::RsaAes(RsaAes::Ra2), server::Security::RsaAes(RsaAes::Ra2)));
    assert_eq!(chosen(plain("eve", "pässword")).0, SecurityType::VeNCrypt);
}

#[test]
fn in_3_3_the_server_takes_the_first_type_that_3_3_has() {
    let offer = [SecurityType::VeNCrypt, SecurityType::RsaAes(RsaAes::Ra2), SecurityType::VncAuth];
    let mut play = Play::new(Version::V3_3, offer.map(method).to_vec(), vnc_auth("pässword"));
    play.run(Cut::Every(1)).unwrap();
    assert_eq!(play.server.security(), server::Security::VncAuth);
    let mut play = Play::new(Version::V3_3, offer[..2].iter().map(|t| method(*t)).collect(), Want::None);
    let Err(HandshakeError::Refused(why)) = play.run(Cut::Every(1)) else { panic!("it was let in") };
    assert!(why.contains("3.7"), "{why}");
}

#[test]
fn every_place_to_cut_the_bytes_gives_the_same() {
    for security in types() {
        let whole = {
            let mut play = Play::new(Version::V3_8, vec![method(security)], want(security, "pässword"));
            play.run(Cut::Every(1 << 20)).unwrap();
            play.from_client.seen.len().max(play.from_server.seen.len())
        };
        for at in 1..=whole {
            let mut play = Play::new(Version::V3_8, vec![method(security)], want(security, "pässword"));
            play.run(Cut::After(at)).unwrap_or_else(|e| panic!("{security:?} cut after {at}: {e}"));
            play.talk();
        }
    }
}

#[test]
fn nothing_in_common_is_said_with_what_was_offered() {
    let tls = || vec![Method::VeNCrypt(vec![Subtype::TlsPlain]), method(SecurityType::VncAuth)];
    assert_eq!(play(tls(), Want::None), Err(HandshakeError::NoCommonType(vec![19, 2])));
    assert_eq!(play(tls(), plain("a", "b")), Err(HandshakeError::NoCommonType(vec![259])));
    let mut old = Play::new(Version::V3_3, vec![method(SecurityType::VncAuth)], Want::None);
    assert_eq!(old.run(Cut::Every(9)), Err(HandshakeError::NoCommonType(vec![2])));
}

#[test]
fn older_servers_without_a_security_result_are_understood() {
    for (hello, answer) in [(&b"RFB 003.007\n\x01\x01"[..], 13), (b"RFB 003.003\n\0\0\0\x01", 12)] {
        let mut client = Handshake::new(Want::None);
        let mut out = Vec::new();
        client.feed(hello).unwrap();
        assert_eq!(client.poll(&mut out), Ok(Some(HandshakeEvent::Secured)));
        assert_eq!(out.len(), answer);
    }
}

#[test]
fn a_refusal_before_any_type_gives_its_reason() {
    let mut client = Handshake::new(Want::None);
    client.feed(b"RFB 003.008\n\0\0\0\0\x04full").unwrap();
    assert_eq!(client.poll(&mut Vec::new()), Err(HandshakeError::Refused("full".into())));
}

#[test]
fn a_password_does_not_show_in_debug() {
    assert!(!format!("{:?}", Handshake::new(plain("eve", "hunter2"))).contains("hunter2"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn chunking_changes_nothing(
        version in prop::sample::select(VERSIONS.to_vec()),
        security in prop::sample::select(types()),
        password in prop::sample::select(vec!["pässword", "wrong", ""]),
        size in 1usize..300,
    ) {
        let play = |cut| {
            let mut play = Play::new(version, vec![method(security)], want(security, password));
            let ended = play.run(cut);
            (ended, play.init, play.server.security())
        };
        prop_assert_eq!(play(Cut::Every(size)), play(Cut::Every(1 << 20)));
    }

    #[test]
    fn byte_soup_never_panics(
        security in prop::sample::select(types()),
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        size in 1usize..99,
    ) {
        let mut client = Handshake::new(want(security, "b"));
        client.feed(&[b"RFB 003.008\n\x01", &[security.number()][..]].concat()).unwrap();
        for chunk in bytes.chunks(size) {
            client.feed(chunk).unwrap();
            let mut out = Vec::new();
            while let Ok(Some(event)) = client.poll(&mut out) {
                let gone_on = match event {
                    HandshakeEvent::StartTls(_) => client.tls_started(&mut out).is_ok(),
                    HandshakeEvent::CheckKey => client.trust(&mut out).is_ok(),
                    HandshakeEvent::StartAes => client.channel().is_ok(),
                    HandshakeEvent::Secured => true,
                };
                if !gone_on {
                    return Ok(());
                }
            }
        }
    }
}
