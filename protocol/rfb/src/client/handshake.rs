//! The handshake up to ClientInit, as a client (rfbproto, "Handshaking Messages", "VeNCrypt").
//!
//! ```text
//! Version ─► Types ─── None ───────────────────────────────────────────► Result ─► Done
//!             └► VeNCryptVersion ─► VeNCryptAck ─► Subtypes ─► SubtypeAck ─► Tls ──┘
//! ```
//!
//! It knows nothing of TLS: at `Tls` an event says so, and the caller feeds decrypted bytes from then on.

use crate::security::{MAX_PASSWORD, MAX_REASON, MAX_USER, Password, SecurityType, Subtype, Version};
use crate::wire::{Input, Put, Reader, from_latin1};

/// The most that may wait unparsed, bytes; a reason of [`MAX_REASON`] and a TLS record fit.
const MAX_PENDING: usize = 64 * 1024;

/// What the client wants to be secured by.
#[derive(Clone, Debug)]
pub enum Want {
    /// Security type None.
    None,
    /// VeNCrypt with the first of these sub-types that the server offers.
    VeNCrypt {
        /// Most preferred first.
        subtypes: Vec<Subtype>,
        /// The user's name for Plain sub-types, at most 256 bytes.
        user: String,
        /// The password for Plain sub-types, at most 1,024 bytes.
        password: Password,
    },
}

/// What the caller has to know or do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeEvent {
    /// Send what was written, start TLS as its client, then call [`Handshake::tls_started`] and feed decrypted bytes.
    StartTls(Subtype),
    /// The server let us in: send ClientInit; what follows is ServerInit, and [`Handshake::take_rest`] has what is here
    /// of it.
    Secured,
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The first bytes are no ProtocolVersion message.
    #[error("the server does not speak RFB: it opened with {0:?}")]
    NotRfb(String),
    /// The server refuses and says why.
    #[error("the server refuses the connection: {0}")]
    Refused(String),
    /// The server offers nothing that is wanted.
    #[error("the server offers security types {0:?}, and none of them is wanted")]
    NoCommonType(Vec<u32>),
    /// The server's VeNCrypt is older than 0.2, or it refuses ours.
    #[error("the server does not take VeNCrypt 0.2")]
    VeNCryptVersion,
    /// The server does not go on after the choice of the sub-type.
    #[error("the server does not accept the VeNCrypt sub-type that it offered")]
    SubtypeRefused,
    /// Unencrypted bytes came after the start of TLS.
    #[error("{0} bytes came unencrypted after the start of TLS; they are not trusted")]
    UnencryptedBytes(usize),
    /// The name or password is too long for the protocol's other side.
    #[error("the user name or password is too long: at most {MAX_USER} and {MAX_PASSWORD} bytes")]
    CredentialsTooLong,
    /// The server sends more than a handshake holds.
    #[error("the server sent more than {MAX_PENDING} bytes during the handshake")]
    Backlog,
    /// The caller's call does not fit the state.
    #[error("{0} is out of order in this handshake")]
    OutOfOrder(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Version,
    Types,
    Type33,
    VeNCryptVersion,
    VeNCryptAck,
    Subtypes,
    SubtypeAck,
    Tls,
    Result,
    /// A reason string ends the handshake.
    Reason,
    /// `Secured` is to be told without a SecurityResult.
    Secured,
    Done,
    Failed,
}

/// The client's handshake with one server.
#[derive(Debug)]
pub struct Handshake {
    want: Want,
    state: State,
    version: Version,
    subtype: Option<Subtype>,
    input: Input,
}

type Step = Result<Option<HandshakeEvent>, HandshakeError>;

impl Handshake {
    /// Waits for the server's version.
    #[must_use]
    pub fn new(want: Want) -> Self {
        Self { want, state: State::Version, version: Version::V3_8, subtype: None, input: Input::default() }
    }

    /// Takes bytes from the server; then call [`Self::poll`] until it gives none.
    ///
    /// # Errors
    /// The server sent too much.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), HandshakeError> {
        if self.input.len() + bytes.len() > MAX_PENDING {
            return Err(HandshakeError::Backlog);
        }
        self.input.push(bytes);
        Ok(())
    }

    /// Goes as far as the fed bytes allow and appends answers to `out`.
    ///
    /// # Errors
    /// The handshake failed; close the connection.
    pub fn poll(&mut self, out: &mut Vec<u8>) -> Result<Option<HandshakeEvent>, HandshakeError> {
        loop {
            let before = self.state;
            let pending = self.input.pending().to_vec();
            let mut r = Reader::new(&pending);
            let step = match self.state {
                State::Version => self.on_version(&mut r, out),
                State::Types => self.on_types(&mut r, out),
                State::Type33 => self.on_type_33(&mut r),
                State::VeNCryptVersion => self.on_vencrypt_version(&mut r, out),
                State::VeNCryptAck => self.on_vencrypt_ack(&mut r),
                State::Subtypes => self.on_subtypes(&mut r, out),
                State::SubtypeAck => self.on_subtype_ack(&mut r),
                State::Result => self.on_result(&mut r),
                State::Reason => on_reason(&mut r),
                State::Secured => {
                    self.state = State::Done;
                    Ok(Some(HandshakeEvent::Secured))
                }
                State::Tls | State::Done | State::Failed => return Ok(None),
            };
            if self.state != before {
                self.input.consume(r.consumed());
            }
            match step {
                Err(e) => {
                    self.state = State::Failed;
                    return Err(e);
                }
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) if self.state == before => return Ok(None),
                Ok(None) => {}
            }
        }
    }

    /// The caller's TLS is up: writes the credentials where the sub-type has them.
    ///
    /// # Errors
    /// TLS was not asked for, or unencrypted bytes came first.
    pub fn tls_started(&mut self, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        let (State::Tls, Some(subtype)) = (self.state, self.subtype) else {
            return Err(HandshakeError::OutOfOrder("the start of TLS"));
        };
        if self.input.len() > 0 {
            return Err(HandshakeError::UnencryptedBytes(self.input.len()));
        }
        if let (true, Want::VeNCrypt { user, password, .. }) = (subtype.is_plain(), &self.want) {
            let password = password.expose();
            if user.len() > MAX_USER || password.len() > MAX_PASSWORD {
                return Err(HandshakeError::CredentialsTooLong);
            }
            out.put_u32(user.len() as u32);
            out.put_u32(password.len() as u32);
            out.put_bytes(user.as_bytes());
            out.put_bytes(password.as_bytes());
        }
        self.state = State::Result;
        Ok(())
    }

    /// Bytes that were fed and not parsed: TLS's after [`HandshakeEvent::StartTls`], else the start of ServerInit.
    #[must_use]
    pub fn take_rest(&mut self) -> Vec<u8> {
        self.input.take()
    }

    fn on_version(&mut self, r: &mut Reader<'_>, out: &mut Vec<u8>) -> Step {
        let Some(Ok(message)) = r.bytes(12).map(<[u8; 12]>::try_from) else { return Ok(None) };
        let not_rfb = || HandshakeError::NotRfb(String::from_utf8_lossy(&message).into_owned());
        self.version = Version::parse(&message).ok_or_else(not_rfb)?;
        out.put_bytes(self.version.message());
        self.state = if self.version == Version::V3_3 { State::Type33 } else { State::Types };
        Ok(None)
    }

    fn wanted(&self) -> SecurityType {
        match self.want {
            Want::None => SecurityType::None,
            Want::VeNCrypt { .. } => SecurityType::VeNCrypt,
        }
    }

    fn on_types(&mut self, r: &mut Reader<'_>, out: &mut Vec<u8>) -> Step {
        let Some(count) = r.u8() else { return Ok(None) };
        let Some(types) = r.bytes(count.into()) else { return Ok(None) };
        if types.is_empty() {
            self.state = State::Reason;
            return Ok(None);
        }
        let wanted = self.wanted();
        if !types.contains(&wanted.number()) {
            return Err(HandshakeError::NoCommonType(types.iter().copied().map(u32::from).collect()));
        }
        out.put_u8(wanted.number());
        self.state = match (wanted, self.version) {
            (SecurityType::VeNCrypt, _) => State::VeNCryptVersion,
            (SecurityType::None, Version::V3_8) => State::Result,
            (SecurityType::None, _) => State::Secured,
        };
        Ok(None)
    }

    fn on_type_33(&mut self, r: &mut Reader<'_>) -> Step {
        match r.u32() {
            None => Ok(None),
            Some(0) => {
                self.state = State::Reason;
                Ok(None)
            }
            Some(1) if self.wanted() == SecurityType::None => {
                self.state = State::Secured;
                Ok(None)
            }
            Some(other) => Err(HandshakeError::NoCommonType(vec![other])),
        }
    }

    fn on_vencrypt_version(&mut self, r: &mut Reader<'_>, out: &mut Vec<u8>) -> Step {
        let (Some(major), Some(minor)) = (r.u8(), r.u8()) else { return Ok(None) };
        if (major, minor) < (0, 2) {
            return Err(HandshakeError::VeNCryptVersion);
        }
        out.put_bytes(&[0, 2]);
        self.state = State::VeNCryptAck;
        Ok(None)
    }

    fn on_vencrypt_ack(&mut self, r: &mut Reader<'_>) -> Step {
        match r.u8() {
            None => Ok(None),
            Some(0) => {
                self.state = State::Subtypes;
                Ok(None)
            }
            Some(_) => Err(HandshakeError::VeNCryptVersion),
        }
    }

    fn on_subtypes(&mut self, r: &mut Reader<'_>, out: &mut Vec<u8>) -> Step {
        let Some(count) = r.u8() else { return Ok(None) };
        let Some(body) = r.bytes(usize::from(count) * 4) else { return Ok(None) };
        let offered: Vec<u32> =
            body.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
        let Want::VeNCrypt { subtypes, .. } = &self.want else {
            return Err(HandshakeError::OutOfOrder("a list of sub-types"));
        };
        let Some(&subtype) = subtypes.iter().find(|s| offered.contains(&s.number())) else {
            return Err(HandshakeError::NoCommonType(offered));
        };
        out.put_u32(subtype.number());
        self.subtype = Some(subtype);
        self.state = State::SubtypeAck;
        Ok(None)
    }

    fn on_subtype_ack(&mut self, r: &mut Reader<'_>) -> Step {
        match (r.u8(), self.subtype) {
            (None, _) => Ok(None),
            (Some(1), Some(subtype)) => {
                self.state = State::Tls;
                Ok(Some(HandshakeEvent::StartTls(subtype)))
            }
            _ => Err(HandshakeError::SubtypeRefused),
        }
    }

    fn on_result(&mut self, r: &mut Reader<'_>) -> Step {
        match r.u32() {
            None => Ok(None),
            Some(0) => {
                self.state = State::Done;
                Ok(Some(HandshakeEvent::Secured))
            }
            Some(_) if self.version == Version::V3_8 => {
                self.state = State::Reason;
                Ok(None)
            }
            Some(_) => Err(HandshakeError::Refused("authentication failed".to_owned())),
        }
    }
}

fn on_reason(r: &mut Reader<'_>) -> Step {
    let Some(length) = r.u32() else { return Ok(None) };
    // A longer reason is cut: it is only shown.
    let Some(reason) = r.bytes((length as usize).min(MAX_REASON)) else { return Ok(None) };
    let text = String::from_utf8(reason.to_vec()).unwrap_or_else(|_| from_latin1(reason));
    Err(HandshakeError::Refused(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server;
    use proptest::prelude::*;

    fn plain(user: &str, password: &str) -> Want {
        Want::VeNCrypt {
            subtypes: vec![Subtype::X509Plain, Subtype::X509None],
            user: user.into(),
            password: Password::new(password.into()),
        }
    }

    /// Plays a client against our server, `size` bytes at a time; TLS is a no-op. Gives how the client ended.
    fn play(offer: server::Offer, want: Want, size: usize) -> Result<bool, HandshakeError> {
        let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
        let mut server = server::Handshake::new(offer, &mut to_client);
        let mut client = Handshake::new(want);
        loop {
            if to_client.is_empty() && to_server.is_empty() {
                panic!("both sides wait");
            }
            for chunk in std::mem::take(&mut to_client).chunks(size) {
                client.feed(chunk)?;
                while let Some(event) = client.poll(&mut to_server)? {
                    match event {
                        HandshakeEvent::StartTls(_) => client.tls_started(&mut to_server)?,
                        HandshakeEvent::Secured => super::super::write::client_init(true, &mut to_server),
                    }
                }
            }
            for chunk in std::mem::take(&mut to_server).chunks(size) {
                server.feed(chunk).unwrap();
                while let Ok(Some(event)) = server.poll(&mut to_client) {
                    match event {
                        server::HandshakeEvent::StartTls(_) => {
                            let early = server.take_rest();
                            server.tls_started(&mut to_client).unwrap();
                            server.feed(&early).unwrap();
                        }
                        server::HandshakeEvent::Plain { user, password } => {
                            if user == "eve" && password.expose() == "pässword" {
                                server.accept(&mut to_client).unwrap();
                            } else {
                                server.reject("wrong name or password", &mut to_client);
                            }
                        }
                        server::HandshakeEvent::ClientInit { shared } => return Ok(shared),
                    }
                }
            }
        }
    }

    #[test]
    fn our_client_and_server_agree_in_any_chunking() {
        for size in [1, 2, 3, 7, 1000] {
            assert_eq!(play(server::Offer::none(), Want::None, size), Ok(true));
            let offer = || server::Offer::vencrypt(vec![Subtype::X509Plain]);
            assert_eq!(play(offer(), plain("eve", "pässword"), size), Ok(true));
            let refused = HandshakeError::Refused("wrong name or password".into());
            assert_eq!(play(offer(), plain("eve", "no"), size), Err(refused));
        }
    }

    #[test]
    fn nothing_in_common_is_said_with_what_was_offered() {
        let ours = play(server::Offer::vencrypt(vec![Subtype::TlsPlain]), Want::None, 100);
        assert_eq!(ours, Err(HandshakeError::NoCommonType(vec![19])));
        let sub = play(server::Offer::vencrypt(vec![Subtype::TlsPlain]), plain("a", "b"), 100);
        assert_eq!(sub, Err(HandshakeError::NoCommonType(vec![259])));
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
        #[test]
        fn byte_soup_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100), size in 1usize..9) {
            let mut client = Handshake::new(plain("a", "b"));
            client.feed(b"RFB 003.008\n").unwrap();
            for chunk in bytes.chunks(size) {
                client.feed(chunk).unwrap();
                let mut out = Vec::new();
                while let Ok(Some(event)) = client.poll(&mut out) {
                    if matches!(event, HandshakeEvent::StartTls(_)) && client.tls_started(&mut out).is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}
