//! The handshake up to ClientInit, as a server (rfbproto, "Handshaking Messages").
//!
//! ```text
//! Version ─► Type ─► None ─────────────────────────────────────────────────────────────────────────┐
//!    │        ├────► VeNCryptVersion ─► Subtype ─► Tls ─► None sub-types ──────────────────────────┤
//!    │        │                                     └───► Plain ────────────────► Verdict ─ accept ┤
//!    │        ├────► RsaAes ─► those that encrypt on: Wrap ─► Asked ───────────────► │              │
//!    │        │          └──► the others ──────────────────────────────────────────► │             ▼
//!    └ 3.3 ───┴────► VncAuth ──────────────────────────────────────────────────────► │           Init ─► Done
//!                                                                                    └─ reject ─► Failed
//! ```
//!
//! Where the caller's deed is needed (`Tls`, `Wrap`, `Verdict`) the machine waits and parses nothing. It knows nothing of
//! TLS, users or sockets. One file for each security type that has messages of its own.

mod error;
mod rsa_aes;
mod vencrypt;
mod vnc_auth;

pub use error::HandshakeError;

use super::messages::ClientMessages;
use crate::security::rsa_aes::Rsa;
use crate::security::vnc_auth::CHALLENGE;
use crate::security::{Password, RsaAes, SecurityType, Subtype, Version};
use crate::wire::{Input, Put};
use rsa_aes::Exchange;
use std::sync::Arc;

/// The most that may wait unparsed, bytes. A client sends far less before it is answered; the first TLS record of a
/// client that does not wait for the acknowledgement fits.
const MAX_PENDING: usize = 64 * 1024;

/// A security type with what the server needs for it.
#[derive(Clone, Debug)]
pub enum Method {
    /// No authentication, no encryption.
    None,
    /// A one-time password against this challenge.
    VncAuth {
        /// Random, and never used before or after: whoever saw the answer to it could give it again.
        challenge: [u8; CHALLENGE],
    },
    /// VeNCrypt with these sub-types, most preferred first.
    VeNCrypt(Vec<Subtype>),
    /// Name and password, encrypted by the server's key.
    RsaAes(RsaAes, Arc<dyn Rsa>),
}

impl Method {
    fn security_type(&self) -> SecurityType {
        match self {
            Self::None => SecurityType::None,
            Self::VncAuth { .. } => SecurityType::VncAuth,
            Self::VeNCrypt(_) => SecurityType::VeNCrypt,
            Self::RsaAes(kind, _) => SecurityType::RsaAes(*kind),
        }
    }
}

/// What the server is willing to do, most preferred first: each security type once. Viewers take the first type that
/// they know; in RFB 3.3 the server takes the first that there is.
#[derive(Clone, Debug)]
pub struct Offer(pub Vec<Method>);

impl Offer {
    /// Only None: for inside a link that is already trusted.
    #[must_use]
    pub fn none() -> Self {
        Self(vec![Method::None])
    }

    /// Only VeNCrypt with these sub-types.
    #[must_use]
    pub fn vencrypt(subtypes: Vec<Subtype>) -> Self {
        Self(vec![Method::VeNCrypt(subtypes)])
    }
}

/// How the connection came to be secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Security type None.
    None,
    /// VncAuth.
    VncAuth,
    /// A VeNCrypt sub-type.
    VeNCrypt(Subtype),
    /// An RSA-AES type.
    RsaAes(RsaAes),
}

/// What the caller has to know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeEvent {
    /// Send what was written, start TLS as its server, call [`Handshake::tls_started`], then feed decrypted bytes. Bytes
    /// that arrived already are in [`Handshake::take_rest`] and belong to TLS.
    StartTls(Subtype),
    /// Send what was written, call [`Handshake::channel`] and put its channel around the stream as if it were TLS; then
    /// feed decrypted bytes.
    StartAes,
    /// Try the live one-time passwords against this and call [`Handshake::accept`] or [`Handshake::reject`]
    /// ([`crate::security::vnc_auth::response`]).
    Response {
        /// The challenge of the offer.
        challenge: [u8; CHALLENGE],
        /// What the client made of it.
        response: [u8; CHALLENGE],
    },
    /// Check these and call [`Handshake::accept`] or [`Handshake::reject`].
    Plain {
        /// The user's name, at most [`MAX_USER`](crate::security::MAX_USER) bytes.
        user: String,
        /// The password, at most [`MAX_PASSWORD`](crate::security::MAX_PASSWORD) bytes.
        password: Password,
    },
    /// The handshake is over: write ServerInit and go on with [`Handshake::into_messages`].
    ClientInit {
        /// The client is willing to share the desktop with other viewers.
        shared: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Version,
    Type,
    VncAuth([u8; CHALLENGE]),
    VeNCryptVersion,
    Subtype,
    Tls,
    Plain,
    RsaAes,
    Wrap,
    Asked,
    Verdict,
    Init,
    Done,
    Failed,
}

/// The server's handshake with one client.
#[derive(Debug)]
pub struct Handshake {
    offer: Offer,
    state: State,
    version: Version,
    security: Security,
    input: Input,
    /// In `RsaAes` and `Wrap`.
    exchange: Option<Exchange>,
    /// In `Wrap` and `Asked`: what the caller will be asked about.
    credentials: Option<(String, Password)>,
}

impl Handshake {
    /// Starts a handshake and writes the server's version.
    pub fn new(offer: Offer, out: &mut Vec<u8>) -> Self {
        out.put_bytes(Version::V3_8.message());
        Self {
            offer,
            state: State::Version,
            version: Version::V3_8,
            security: Security::None,
            input: Input::default(),
            exchange: None,
            credentials: None,
        }
    }

    /// The version that the client chose; 3.8 until it has.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// How the connection is secured; None until the client has chosen.
    #[must_use]
    pub fn security(&self) -> Security {
        self.security
    }

    /// What the client has to send next, for people.
    #[must_use]
    pub fn awaits(&self) -> &'static str {
        match self.state {
            State::Version => "RFB version",
            State::Type => "security type",
            State::VncAuth(_) => "answer to the challenge",
            State::VeNCryptVersion => "VeNCrypt version",
            State::Subtype => "VeNCrypt sub-type",
            State::Tls => "TLS handshake",
            State::Plain => "user name and password",
            State::RsaAes | State::Wrap => "part of the RSA-AES exchange",
            State::Init => "ClientInit",
            State::Asked | State::Verdict | State::Done | State::Failed => "end",
        }
    }

    /// Takes bytes from the client; then call [`Self::poll`] until it gives none.
    ///
    /// # Errors
    /// The client sent too much ahead.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), HandshakeError> {
        let held = self.input.len() + self.exchange.as_ref().map_or(0, Exchange::pending);
        if held + bytes.len() > MAX_PENDING {
            return Err(HandshakeError::Backlog);
        }
        self.input.push(bytes);
        Ok(())
    }

    /// Goes as far as the fed bytes allow, appends answers to `out`, and says what the caller has to know.
    ///
    /// # Errors
    /// The handshake failed; send `out`, which may tell the client why, and close.
    pub fn poll(&mut self, out: &mut Vec<u8>) -> Result<Option<HandshakeEvent>, HandshakeError> {
        loop {
            let before = self.state;
            let step = match self.state {
                State::Version => self.on_version(self.peek(), out),
                State::Type => self.on_type(self.peek(), out),
                State::VncAuth(challenge) => self.on_response(challenge, self.peek()),
                State::VeNCryptVersion => self.on_vencrypt_version(self.peek(), out),
                State::Subtype => self.on_subtype(self.peek(), out),
                State::Plain => self.on_plain(),
                State::RsaAes => self.on_rsa_aes(out),
                State::Asked => self.on_asked(),
                State::Init => self.on_init(self.peek()),
                State::Tls | State::Wrap | State::Verdict | State::Done | State::Failed => return Ok(None),
            };
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

    /// The credentials are right.
    ///
    /// # Errors
    /// None were asked about.
    pub fn accept(&mut self, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        if self.state != State::Verdict {
            return Err(HandshakeError::OutOfOrder("a verdict"));
        }
        self.succeed(out);
        Ok(())
    }

    /// The credentials are wrong, or the desktop cannot be given: tells the client, after which the caller closes.
    ///
    /// Works in any state before ClientInit in which the client waits for the server. 3.3 and 3.7 carry no reason.
    pub fn reject(&mut self, reason: &str, out: &mut Vec<u8>) {
        if matches!(self.state, State::Verdict | State::Plain | State::Asked) {
            out.put_u32(1);
            if self.version == Version::V3_8 {
                put_reason(reason, out);
            }
        }
        self.state = State::Failed;
    }

    /// Bytes that were fed and not parsed: TLS's after [`HandshakeEvent::StartTls`], else the client's next messages.
    #[must_use]
    pub fn take_rest(&mut self) -> Vec<u8> {
        self.input.take()
    }

    /// The parser of what follows ClientInit, with the bytes that are already here.
    #[must_use]
    pub fn into_messages(mut self) -> ClientMessages {
        ClientMessages::after_handshake(self.input.take())
    }

    fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        self.input.pending().first_chunk().copied()
    }

    fn succeed(&mut self, out: &mut Vec<u8>) {
        // Before 3.8 there is no SecurityResult after None; every other type has one in every version.
        if self.version == Version::V3_8 || self.security != Security::None {
            out.put_u32(0);
        }
        self.state = State::Init;
    }

    fn on_version(&mut self, message: Option<[u8; 12]>, out: &mut Vec<u8>) -> Step {
        let Some(message) = message else {
            // A peer of another protocol may send fewer than 12 bytes and wait; its first ones give it away.
            let start = &self.input.pending()[..self.input.len().min(4)];
            return if b"RFB ".starts_with(start) { Ok(None) } else { Err(not_rfb(start)) };
        };
        self.version = Version::parse(&message).ok_or_else(|| not_rfb(&message))?;
        self.input.consume(12);
        if self.version == Version::V3_3 {
            return self.start_3_3(out);
        }
        let types = self.offer.0.iter().map(|m| m.security_type().number());
        out.put_u8(types.len() as u8);
        out.extend(types);
        if self.offer.0.is_empty() {
            put_reason("this server offers no security type", out);
            return Err(HandshakeError::NothingOffered);
        }
        self.state = State::Type;
        Ok(None)
    }

    /// In 3.3 the server decides.
    fn start_3_3(&mut self, out: &mut Vec<u8>) -> Step {
        let method = self.offer.0.iter().find(|m| m.security_type().is_in_3_3()).cloned();
        let Some(method) = method else {
            out.put_u32(0);
            put_reason("this server needs RFB 3.7 or later: RFB 3.3 has none of its security types", out);
            return Err(HandshakeError::VersionTooOld);
        };
        out.put_u32(method.security_type().number().into());
        self.start(method, out);
        Ok(None)
    }

    fn on_type(&mut self, number: Option<[u8; 1]>, out: &mut Vec<u8>) -> Step {
        let Some([number]) = number else { return Ok(None) };
        self.input.consume(1);
        let method = self.offer.0.iter().find(|m| m.security_type().number() == number).cloned();
        let Some(method) = method else {
            if self.version == Version::V3_8 {
                out.put_u32(1);
                put_reason("this security type was not offered", out);
            }
            return Err(HandshakeError::Type(number));
        };
        self.start(method, out);
        Ok(None)
    }

    /// The type is decided.
    fn start(&mut self, method: Method, out: &mut Vec<u8>) {
        match method {
            Method::None => self.succeed(out),
            Method::VncAuth { challenge } => self.start_vnc_auth(challenge, out),
            Method::VeNCrypt(_) => self.start_vencrypt(out),
            Method::RsaAes(kind, rsa) => self.start_rsa_aes(kind, rsa, out),
        }
    }

    fn on_init(&mut self, shared: Option<[u8; 1]>) -> Step {
        let Some([shared]) = shared else { return Ok(None) };
        self.input.consume(1);
        self.state = State::Done;
        Ok(Some(HandshakeEvent::ClientInit { shared: shared != 0 }))
    }
}

type Step = Result<Option<HandshakeEvent>, HandshakeError>;

fn not_rfb(start: &[u8]) -> HandshakeError {
    HandshakeError::NotRfb(String::from_utf8_lossy(start).into_owned())
}

fn put_reason(reason: &str, out: &mut Vec<u8>) {
    out.put_u32(reason.len() as u32);
    out.put_bytes(reason.as_bytes());
}

#[cfg(test)]
mod tests;
