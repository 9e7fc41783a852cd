//! The handshake up to ClientInit, as a server (rfbproto, "Handshaking Messages", "VeNCrypt").
//!
//! ```text
//! Version ─► Type ──────────────── None ─────────────────────────────────┐
//!             └► VeNCryptVersion ─► Subtype ─► Tls ─► None sub-types ────┤
//!                                              └────► Credentials ─► Verdict ─► Init ─► Done
//!                                                                       └─ reject ─► Failed
//! ```
//!
//! Where the caller's deed is needed (`Tls`, `Verdict`) the machine waits and parses nothing. It knows nothing of TLS,
//! users or sockets.

use super::messages::ClientMessages;
use crate::security::{MAX_PASSWORD, MAX_USER, Password, SecurityType, Subtype, Version};
use crate::wire::{Input, Put, Reader};

/// The most that may wait unparsed, bytes. A client sends far less before it is answered; the first TLS record of a
/// client that does not wait for the acknowledgement fits.
const MAX_PENDING: usize = 64 * 1024;

/// What the server is willing to do, most preferred first. Viewers take the first type that they know.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Security types.
    pub types: Vec<SecurityType>,
    /// Sub-types of VeNCrypt; ignored when VeNCrypt is not offered.
    pub subtypes: Vec<Subtype>,
}

impl Offer {
    /// Only None: for inside a link that is already trusted.
    #[must_use]
    pub fn none() -> Self {
        Self { types: vec![SecurityType::None], subtypes: Vec::new() }
    }

    /// Only VeNCrypt with these sub-types.
    #[must_use]
    pub fn vencrypt(subtypes: Vec<Subtype>) -> Self {
        Self { types: vec![SecurityType::VeNCrypt], subtypes }
    }
}

/// How the connection came to be secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Security type None.
    None,
    /// A VeNCrypt sub-type.
    VeNCrypt(Subtype),
}

/// What the caller has to know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeEvent {
    /// Send what was written, start TLS as its server, call [`Handshake::tls_started`], then feed decrypted bytes. Bytes
    /// that arrived already are in [`Handshake::take_rest`] and belong to TLS.
    StartTls(Subtype),
    /// Check these and call [`Handshake::accept`] or [`Handshake::reject`].
    Plain {
        /// The user's name, at most [`MAX_USER`] bytes.
        user: String,
        /// The password, at most [`MAX_PASSWORD`] bytes.
        password: Password,
    },
    /// The handshake is over: write ServerInit and go on with [`Handshake::into_messages`].
    ClientInit {
        /// The client is willing to share the desktop with other viewers.
        shared: bool,
    },
}

/// Why a handshake failed. What was written for the client before an error may still be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The first bytes are no ProtocolVersion message.
    #[error("the peer does not speak RFB: it opened with {0:?}")]
    NotRfb(String),
    /// RFB 3.3 knows no list of security types, and none that is offered can be used with it.
    #[error(
        "the client speaks RFB 3.3, which has none of the offered security types; it must speak 3.7 or later"
    )]
    VersionTooOld,
    /// A security type that was not offered.
    #[error("the client chose security type {0}, which was not offered")]
    Type(u8),
    /// A VeNCrypt version other than 0.2.
    #[error("the client wants VeNCrypt {0}.{1}; only 0.2 is supported")]
    VeNCryptVersion(u8, u8),
    /// A sub-type that was not offered.
    #[error("the client chose VeNCrypt sub-type {0}, which was not offered")]
    Subtype(u32),
    /// Plain text followed the start of TLS.
    #[error(
        "{0} bytes came unencrypted after the start of TLS; they are not trusted and the connection must be closed"
    )]
    UnencryptedBytes(usize),
    /// A name or password of impossible length.
    #[error("the client sent a {what} of {length} bytes; at most {limit} are taken")]
    TooLong {
        /// `user name` or `password`.
        what: &'static str,
        /// What it said.
        length: u32,
        /// What is taken.
        limit: usize,
    },
    /// A name or password that is no UTF-8.
    #[error("the client's {0} is not UTF-8")]
    NotUtf8(&'static str),
    /// The client goes on sending without waiting for an answer.
    #[error("the client sent more than {MAX_PENDING} bytes ahead of the handshake")]
    Backlog,
    /// The caller's call does not fit the state.
    #[error("{0} is out of order in this handshake")]
    OutOfOrder(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Version,
    Type,
    VeNCryptVersion,
    Subtype,
    Tls,
    Credentials,
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

    /// Takes bytes from the client; then call [`Self::poll`] until it gives none.
    ///
    /// # Errors
    /// The client sent too much ahead.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), HandshakeError> {
        if self.input.len() + bytes.len() > MAX_PENDING {
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
                State::VeNCryptVersion => self.on_vencrypt_version(self.peek(), out),
                State::Subtype => self.on_subtype(self.peek(), out),
                State::Credentials => self.on_credentials(),
                State::Init => self.on_init(self.peek()),
                State::Tls | State::Verdict | State::Done | State::Failed => return Ok(None),
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

    /// The caller's TLS is up: from here on it feeds decrypted bytes.
    ///
    /// # Errors
    /// TLS was not asked for, or bytes that came before it were not taken by [`Self::take_rest`]: they would otherwise
    /// count as encrypted, which is how STARTTLS injections work.
    pub fn tls_started(&mut self, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        let (State::Tls, Security::VeNCrypt(subtype)) = (self.state, self.security) else {
            return Err(HandshakeError::OutOfOrder("the start of TLS"));
        };
        if self.input.len() > 0 {
            return Err(HandshakeError::UnencryptedBytes(self.input.len()));
        }
        if subtype.is_plain() {
            self.state = State::Credentials;
        } else {
            self.succeed(out);
        }
        Ok(())
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
        if matches!(self.state, State::Verdict | State::Credentials) {
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
        out.put_u8(self.offer.types.len() as u8);
        self.offer.types.iter().for_each(|t| out.put_u8(t.number()));
        if self.offer.types.is_empty() {
            put_reason("this server offers no security type", out);
            return Err(HandshakeError::OutOfOrder("an empty offer"));
        }
        self.state = State::Type;
        Ok(None)
    }

    /// In 3.3 the server decides, and only None of ours exists there.
    fn start_3_3(&mut self, out: &mut Vec<u8>) -> Step {
        if !self.offer.types.contains(&SecurityType::None) {
            out.put_u32(0);
            put_reason("this server needs RFB 3.7 or later with VeNCrypt", out);
            return Err(HandshakeError::VersionTooOld);
        }
        out.put_u32(1);
        self.succeed(out);
        Ok(None)
    }

    fn on_type(&mut self, number: Option<[u8; 1]>, out: &mut Vec<u8>) -> Step {
        let Some([number]) = number else { return Ok(None) };
        self.input.consume(1);
        match self.offer.types.iter().find(|t| t.number() == number) {
            Some(SecurityType::None) => self.succeed(out),
            Some(SecurityType::VeNCrypt) => {
                out.put_bytes(&[0, 2]);
                self.state = State::VeNCryptVersion;
            }
            None => {
                if self.version == Version::V3_8 {
                    out.put_u32(1);
                    put_reason("this security type was not offered", out);
                }
                return Err(HandshakeError::Type(number));
            }
        }
        Ok(None)
    }

    fn on_vencrypt_version(&mut self, version: Option<[u8; 2]>, out: &mut Vec<u8>) -> Step {
        let Some([major, minor]) = version else { return Ok(None) };
        self.input.consume(2);
        if (major, minor) != (0, 2) {
            out.put_u8(1);
            return Err(HandshakeError::VeNCryptVersion(major, minor));
        }
        out.put_u8(0);
        out.put_u8(self.offer.subtypes.len() as u8);
        self.offer.subtypes.iter().for_each(|s| out.put_u32(s.number()));
        self.state = State::Subtype;
        Ok(None)
    }

    fn on_subtype(&mut self, number: Option<[u8; 4]>, out: &mut Vec<u8>) -> Step {
        let Some(number) = number.map(u32::from_be_bytes) else { return Ok(None) };
        self.input.consume(4);
        let Some(&subtype) = self.offer.subtypes.iter().find(|s| s.number() == number) else {
            out.put_u8(0);
            return Err(HandshakeError::Subtype(number));
        };
        out.put_u8(1);
        self.security = Security::VeNCrypt(subtype);
        self.state = State::Tls;
        Ok(Some(HandshakeEvent::StartTls(subtype)))
    }

    fn on_credentials(&mut self) -> Step {
        let mut reader = Reader::new(self.input.pending());
        let length = |what, length: Option<u32>, limit: usize| match length {
            Some(n) if n as usize > limit => Err(HandshakeError::TooLong { what, length: n, limit }),
            n => Ok(n.map(|n| n as usize)),
        };
        let Some(user_len) = length("user name", reader.u32(), MAX_USER)? else { return Ok(None) };
        let Some(password_len) = length("password", reader.u32(), MAX_PASSWORD)? else { return Ok(None) };
        let (Some(user), Some(password)) = (reader.bytes(user_len), reader.bytes(password_len)) else {
            return Ok(None);
        };
        let text =
            |what, bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| HandshakeError::NotUtf8(what));
        let (user, password) = (text("user name", user)?, Password::new(text("password", password)?));
        let n = reader.consumed();
        self.input.consume(n);
        self.state = State::Verdict;
        Ok(Some(HandshakeEvent::Plain { user, password }))
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
#[path = "handshake_tests.rs"]
mod tests;
