//! The RSA-AES types (5, 6, 129, 130), as a server (rfbproto, "RSA-AES Security Type" and the types after it).
//!
//! ```text
//! server                                           client
//!   │── public key ──────────────────────────────────►│   it may show its user the fingerprint
//!   │◄────────────────────────────────── public key ──│
//!   │── random number, encrypted to the client ──────►│
//!   │◄──────── random number, encrypted to the server ─│
//!   │═══ from here in messages of AES-EAX ════════════│
//!   │── hash of both public keys ────────────────────►│
//!   │◄──────────────────── hash of both public keys ──│
//!   │── sub-type: name and password ─────────────────►│
//!   │◄─────────────────────────── name and password ──│
//! ```

use super::{Handshake, HandshakeError, HandshakeEvent, Security, State, Step};
use crate::security::eax::Channel;
use crate::security::rsa_aes::{PublicKey, Rsa, Sealed, Secret, USER_AND_PASSWORD, read_random, send_random};
use crate::security::{Password, RsaAes};
use crate::wire::{Input, Reader};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The exchange with one client.
#[derive(Debug)]
pub(super) struct Exchange {
    kind: RsaAes,
    rsa: Arc<dyn Rsa>,
    phase: Phase,
}

/// What is waited for.
#[derive(Debug)]
enum Phase {
    Key,
    Random { client: PublicKey, own: Secret },
    Sealed { sealed: Sealed, next: Next },
}

#[derive(Debug)]
enum Next {
    /// The client's hash, which has to be this.
    Hash(Vec<u8>),
    Credentials,
}

impl Exchange {
    fn start(kind: RsaAes, rsa: Arc<dyn Rsa>, out: &mut Vec<u8>) -> Self {
        rsa.public_key().put(out);
        Self { kind, rsa, phase: Phase::Key }
    }

    /// Bytes that are held.
    pub(super) fn pending(&self) -> usize {
        match &self.phase {
            Phase::Sealed { sealed, .. } => sealed.pending(),
            Phase::Key | Phase::Random { .. } => 0,
        }
    }

    /// Goes as far as the input allows; gives name and password at its end.
    fn advance(
        &mut self,
        input: &mut Input,
        out: &mut Vec<u8>,
    ) -> Result<Option<(String, Password)>, HandshakeError> {
        let own_key = self.rsa.public_key();
        loop {
            match &mut self.phase {
                Phase::Key => {
                    let mut r = Reader::new(input.pending());
                    let Some(client) = PublicKey::read(&mut r)? else { return Ok(None) };
                    let n = r.consumed();
                    input.consume(n);
                    let own = send_random(self.kind, &*self.rsa, &client, out)?;
                    self.phase = Phase::Random { client, own };
                }
                Phase::Random { client, own } => {
                    let mut r = Reader::new(input.pending());
                    let Some(others) = read_random(self.kind, &*self.rsa, &mut r)? else { return Ok(None) };
                    let n = r.consumed();
                    input.consume(n);
                    let mut sealed = Sealed::new(self.kind, own, &others);
                    sealed.seal(&self.kind.hash(own_key, client), out);
                    let next = Next::Hash(self.kind.hash(client, own_key));
                    self.phase = Phase::Sealed { sealed, next };
                }
                Phase::Sealed { sealed, next: next @ Next::Hash(_) } => {
                    let size = self.kind.hash_size();
                    let Some(mut r) = sealed.read(input, size)? else { return Ok(None) };
                    let hash = r.bytes(size).unwrap_or_default();
                    if let Next::Hash(expected) = next
                        && !bool::from(hash.ct_eq(expected))
                    {
                        return Err(HandshakeError::Hash);
                    }
                    sealed.consume(size);
                    sealed.seal(&[USER_AND_PASSWORD], out);
                    *next = Next::Credentials;
                }
                Phase::Sealed { sealed, next: Next::Credentials } => return credentials(sealed, input),
            }
        }
    }
}

/// Reads name and password, each behind its length.
fn credentials(sealed: &mut Sealed, input: &mut Input) -> Result<Option<(String, Password)>, HandshakeError> {
    // The lengths stand apart, so what is needed grows as they become known.
    let mut needed = 2;
    loop {
        let Some(mut r) = sealed.read(input, needed)? else { return Ok(None) };
        let user = r.u8().and_then(|n| r.bytes(n.into())).map(<[u8]>::to_vec);
        let password = user.as_ref().and_then(|_| r.u8()).and_then(|n| r.bytes(n.into())).map(<[u8]>::to_vec);
        let n = r.consumed();
        let (Some(user), Some(password)) = (user, password) else {
            needed = n + r.remaining() + 1;
            continue;
        };
        sealed.consume(n);
        let text = |what, bytes| String::from_utf8(bytes).map_err(|_| HandshakeError::NotUtf8(what));
        return Ok(Some((text("user name", user)?, Password::new(text("password", password)?))));
    }
}

impl Handshake {
    pub(super) fn start_rsa_aes(&mut self, kind: RsaAes, rsa: Arc<dyn Rsa>, out: &mut Vec<u8>) {
        self.security = Security::RsaAes(kind);
        self.exchange = Some(Exchange::start(kind, rsa, out));
        self.state = State::RsaAes;
    }

    pub(super) fn on_rsa_aes(&mut self, out: &mut Vec<u8>) -> Step {
        let Some(exchange) = &mut self.exchange else {
            return Err(HandshakeError::OutOfOrder("an exchange of keys"));
        };
        let Some(credentials) = exchange.advance(&mut self.input, out)? else { return Ok(None) };
        self.credentials = Some(credentials);
        if exchange.kind.encrypts_stream() {
            self.state = State::Wrap;
            return Ok(Some(HandshakeEvent::StartAes));
        }
        if let Some(Exchange { phase: Phase::Sealed { sealed, .. }, .. }) = self.exchange.take() {
            self.input.push(&sealed.into_rest().ok_or(HandshakeError::Trailing)?);
        }
        self.state = State::Asked;
        Ok(None)
    }

    /// The channel that goes around the stream after [`HandshakeEvent::StartAes`], with all bytes that came for it.
    ///
    /// # Errors
    /// It was not asked for, or bytes were fed since.
    pub fn channel(&mut self) -> Result<Channel, HandshakeError> {
        if self.state != State::Wrap {
            return Err(HandshakeError::OutOfOrder("the start of AES"));
        }
        if self.input.len() > 0 {
            return Err(HandshakeError::UnencryptedBytes(self.input.len()));
        }
        let Some(Exchange { phase: Phase::Sealed { sealed, .. }, .. }) = self.exchange.take() else {
            return Err(HandshakeError::OutOfOrder("the start of AES"));
        };
        let (channel, decrypted) = sealed.into_channel();
        self.input.push(&decrypted);
        self.state = State::Asked;
        Ok(channel)
    }

    pub(super) fn on_asked(&mut self) -> Step {
        let Some((user, password)) = self.credentials.take() else {
            return Err(HandshakeError::OutOfOrder("a name and a password"));
        };
        self.state = State::Verdict;
        Ok(Some(HandshakeEvent::Plain { user, password }))
    }
}

#[cfg(test)]
#[path = "rsa_aes_tests.rs"]
mod tests;
