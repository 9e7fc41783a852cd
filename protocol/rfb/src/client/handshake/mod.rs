//! The handshake up to ClientInit, as a client (rfbproto, "Handshaking Messages").
//!
//! ```text
//! Version ─► Types ─► None ────────────────────────────────────────────────────────► Result ─► Done
//!    │         ├────► VeNCryptVersion ─► VeNCryptAck ─► Subtypes ─► SubtypeAck ─► Tls ──┤
//!    │         ├────► RsaAes ─► Trust ─► RsaAes ─► those that encrypt on: Wrap ─────────┤
//!    │         │                            └────► the others ──────────────────────────┤
//!    └─► Type33 ────► VncAuth ──────────────────────────────────────────────────────────┘
//! ```
//!
//! It knows nothing of TLS and AES streams: at `Tls` and `Wrap` an event says so, and the caller feeds decrypted bytes from
//! then on. At `Trust` the caller says whether it knows the server's key. One file for each security type that has messages
//! of its own.

mod error;
mod rsa_aes;
mod vencrypt;
mod vnc_auth;

pub use error::HandshakeError;

use crate::security::rsa_aes::Rsa;
use crate::security::{MAX_REASON, Password, RsaAes, SecurityType, Subtype, Version};
use crate::wire::{Input, Put, Reader, from_latin1};
use rsa_aes::Exchange;
use std::sync::Arc;

/// The most that may wait unparsed, bytes; a reason of [`MAX_REASON`] and a TLS record fit.
const MAX_PENDING: usize = 64 * 1024;

/// What the client wants to be secured by.
#[derive(Clone, Debug)]
pub enum Want {
    /// Security type None.
    None,
    /// VncAuth.
    VncAuth {
        /// The password, of which eight bytes count.
        password: Password,
    },
    /// VeNCrypt with the first of these sub-types that the server offers.
    VeNCrypt {
        /// Most preferred first.
        subtypes: Vec<Subtype>,
        /// The user's name for Plain sub-types, at most 256 bytes.
        user: String,
        /// The password for Plain sub-types, at most 1,024 bytes.
        password: Password,
    },
    /// The first of these types that the server offers.
    RsaAes {
        /// Most preferred first.
        kinds: Vec<RsaAes>,
        /// The user's name, at most 255 bytes; not sent to servers that want only a password.
        user: String,
        /// The password, at most 255 bytes.
        password: Password,
        /// The client's own key. Viewers make one for each connection.
        rsa: Arc<dyn Rsa>,
    },
}

impl Want {
    /// The security types that fit, most preferred first.
    fn types(&self) -> Vec<SecurityType> {
        match self {
            Self::None => vec![SecurityType::None],
            Self::VncAuth { .. } => vec![SecurityType::VncAuth],
            Self::VeNCrypt { .. } => vec![SecurityType::VeNCrypt],
            Self::RsaAes { kinds, .. } => kinds.iter().map(|k| SecurityType::RsaAes(*k)).collect(),
        }
    }
}

/// What the caller has to know or do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeEvent {
    /// Send what was written, start TLS as its client, then call [`Handshake::tls_started`] and feed decrypted bytes.
    StartTls(Subtype),
    /// Look at [`Handshake::server_key`], and call [`Handshake::trust`] if it is the server's; else close.
    CheckKey,
    /// Send what was written, call [`Handshake::channel`] and put its channel around the stream as if it were TLS; then
    /// feed decrypted bytes.
    StartAes,
    /// The server let us in: send ClientInit; what follows is ServerInit, and [`Handshake::take_rest`] has what is here
    /// of it.
    Secured,
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
    VncAuth,
    RsaAes,
    Trust,
    Wrap,
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
    /// Once it is decided.
    security_type: Option<SecurityType>,
    /// Once it is decided.
    subtype: Option<Subtype>,
    input: Input,
    /// In `RsaAes`, `Trust` and `Wrap`.
    exchange: Option<Exchange>,
}

type Step = Result<Option<HandshakeEvent>, HandshakeError>;

impl Handshake {
    /// Waits for the server's version.
    #[must_use]
    pub fn new(want: Want) -> Self {
        Self {
            want,
            state: State::Version,
            version: Version::V3_8,
            security_type: None,
            subtype: None,
            input: Input::default(),
            exchange: None,
        }
    }

    /// The version that is spoken: the server's, at most 3.8; 3.8 until it has said it.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The security type, once it is decided.
    #[must_use]
    pub fn security_type(&self) -> Option<SecurityType> {
        self.security_type
    }

    /// Takes bytes from the server; then call [`Self::poll`] until it gives none.
    ///
    /// # Errors
    /// The server sent too much.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), HandshakeError> {
        let held = self.input.len() + self.exchange.as_ref().map_or(0, Exchange::pending);
        if held + bytes.len() > MAX_PENDING {
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
                State::VncAuth => self.on_challenge(&mut r, out),
                // Takes what it needs from the input itself.
                State::RsaAes => self.on_rsa_aes(out),
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
                State::Tls | State::Trust | State::Wrap | State::Done | State::Failed => {
                    return Ok(None);
                }
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

    fn on_types(&mut self, r: &mut Reader<'_>, out: &mut Vec<u8>) -> Step {
        let Some(count) = r.u8() else { return Ok(None) };
        let Some(types) = r.bytes(count.into()) else { return Ok(None) };
        if types.is_empty() {
            self.state = State::Reason;
            return Ok(None);
        }
        let Some(chosen) = self.want.types().into_iter().find(|t| types.contains(&t.number())) else {
            return Err(HandshakeError::NoCommonType(types.iter().copied().map(u32::from).collect()));
        };
        out.put_u8(chosen.number());
        self.start(chosen);
        Ok(None)
    }

    fn on_type_33(&mut self, r: &mut Reader<'_>) -> Step {
        let Some(number) = r.u32() else { return Ok(None) };
        if number == 0 {
            self.state = State::Reason;
            return Ok(None);
        }
        let fits = |t: &SecurityType| t.is_in_3_3() && u32::from(t.number()) == number;
        let Some(chosen) = self.want.types().into_iter().find(fits) else {
            return Err(HandshakeError::NoCommonType(vec![number]));
        };
        self.start(chosen);
        Ok(None)
    }

    /// The type is decided.
    fn start(&mut self, chosen: SecurityType) {
        self.security_type = Some(chosen);
        self.state = match chosen {
            SecurityType::VeNCrypt => State::VeNCryptVersion,
            SecurityType::VncAuth => State::VncAuth,
            SecurityType::RsaAes(kind) => {
                self.exchange = Some(Exchange::new(kind));
                State::RsaAes
            }
            SecurityType::None if self.version == Version::V3_8 => State::Result,
            SecurityType::None => State::Secured,
        };
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
mod tests;
