//! The RSA-AES types (5, 6, 129, 130), as a client. The messages are drawn at the server's side of this file.

use super::{Handshake, HandshakeError, HandshakeEvent, State, Step, Want};
use crate::security::RsaAes;
use crate::security::eax::Channel;
use crate::security::rsa_aes::{
    MAX_CREDENTIAL, PASSWORD_ONLY, PublicKey, Rsa, Sealed, Secret, USER_AND_PASSWORD, read_random,
    send_random,
};
use crate::wire::{Input, Put, Reader};
use subtle::ConstantTimeEq;

/// The exchange with one server.
#[derive(Debug)]
pub(super) struct Exchange {
    kind: RsaAes,
    phase: Phase,
}

/// What is waited for.
#[derive(Debug)]
enum Phase {
    Key,
    /// The caller's word about the server's key.
    Trust(PublicKey),
    Random {
        server: PublicKey,
        own: Secret,
    },
    Sealed {
        sealed: Sealed,
        next: Next,
    },
}

#[derive(Debug)]
enum Next {
    /// The server's hash, which has to be this.
    Hash(Vec<u8>),
    Subtype,
}

/// How far it went.
enum Reached {
    Waiting,
    Key,
    /// The server asks for credentials of this sub-type.
    Subtype(u8),
}

impl Exchange {
    pub(super) fn new(kind: RsaAes) -> Self {
        Self { kind, phase: Phase::Key }
    }

    /// Bytes that are held.
    pub(super) fn pending(&self) -> usize {
        match &self.phase {
            Phase::Sealed { sealed, .. } => sealed.pending(),
            Phase::Key | Phase::Trust(_) | Phase::Random { .. } => 0,
        }
    }

    fn trust(&mut self, rsa: &dyn Rsa, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        let Phase::Trust(server) = &self.phase else {
            return Err(HandshakeError::OutOfOrder("trust in the server's key"));
        };
        rsa.public_key().put(out);
        let own = send_random(self.kind, rsa, server, out)?;
        self.phase = Phase::Random { server: server.clone(), own };
        Ok(())
    }

    /// Goes as far as the input allows.
    fn advance(
        &mut self,
        rsa: &dyn Rsa,
        input: &mut Input,
        out: &mut Vec<u8>,
    ) -> Result<Reached, HandshakeError> {
        let own_key = rsa.public_key();
        loop {
            match &mut self.phase {
                Phase::Key => {
                    let mut r = Reader::new(input.pending());
                    let Some(server) = PublicKey::read(&mut r)? else { return Ok(Reached::Waiting) };
                    let n = r.consumed();
                    input.consume(n);
                    self.phase = Phase::Trust(server);
                    return Ok(Reached::Key);
                }
                Phase::Trust(_) => return Ok(Reached::Waiting),
                Phase::Random { server, own } => {
                    let mut r = Reader::new(input.pending());
                    let Some(others) = read_random(self.kind, rsa, &mut r)? else {
                        return Ok(Reached::Waiting);
                    };
                    let n = r.consumed();
                    input.consume(n);
                    let mut sealed = Sealed::new(self.kind, own, &others);
                    sealed.seal(&self.kind.hash(own_key, server), out);
                    let next = Next::Hash(self.kind.hash(server, own_key));
                    self.phase = Phase::Sealed { sealed, next };
                }
                Phase::Sealed { sealed, next: next @ Next::Hash(_) } => {
                    let size = self.kind.hash_size();
                    let Some(mut r) = sealed.read(input, size)? else { return Ok(Reached::Waiting) };
                    let hash = r.bytes(size).unwrap_or_default();
                    if let Next::Hash(expected) = next
                        && !bool::from(hash.ct_eq(expected))
                    {
                        return Err(HandshakeError::Hash);
                    }
                    sealed.consume(size);
                    *next = Next::Subtype;
                }
                Phase::Sealed { sealed, next: Next::Subtype } => {
                    let Some(mut r) = sealed.read(input, 1)? else { return Ok(Reached::Waiting) };
                    let subtype = r.u8().unwrap_or_default();
                    sealed.consume(1);
                    return Ok(Reached::Subtype(subtype));
                }
            }
        }
    }
}

/// Each behind its length.
fn credentials(subtype: u8, user: &str, password: &str) -> Result<Vec<u8>, HandshakeError> {
    let user = match subtype {
        USER_AND_PASSWORD => user,
        PASSWORD_ONLY => "",
        other => return Err(HandshakeError::Credentials(other)),
    };
    if user.len().max(password.len()) > MAX_CREDENTIAL {
        return Err(HandshakeError::CredentialsTooLong);
    }
    let mut text = Vec::new();
    for part in [user, password] {
        text.put_u8(part.len() as u8);
        text.put_bytes(part.as_bytes());
    }
    Ok(text)
}

impl Handshake {
    pub(super) fn on_rsa_aes(&mut self, out: &mut Vec<u8>) -> Step {
        let (Some(exchange), Want::RsaAes { rsa, user, password, .. }) = (&mut self.exchange, &self.want)
        else {
            return Err(HandshakeError::OutOfOrder("an exchange of keys"));
        };
        let subtype = match exchange.advance(&**rsa, &mut self.input, out)? {
            Reached::Waiting => return Ok(None),
            Reached::Key => {
                self.state = State::Trust;
                return Ok(Some(HandshakeEvent::CheckKey));
            }
            Reached::Subtype(subtype) => subtype,
        };
        let Phase::Sealed { sealed, .. } = &mut exchange.phase else {
            return Err(HandshakeError::OutOfOrder("an exchange of keys"));
        };
        sealed.seal(&credentials(subtype, user, password.expose())?, out);
        if exchange.kind.encrypts_stream() {
            self.state = State::Wrap;
            return Ok(Some(HandshakeEvent::StartAes));
        }
        if let Some(Exchange { phase: Phase::Sealed { sealed, .. }, .. }) = self.exchange.take() {
            self.input.push(&sealed.into_rest().ok_or(HandshakeError::Trailing)?);
        }
        self.state = State::Result;
        Ok(None)
    }

    /// The server's key, from [`HandshakeEvent::CheckKey`] until it is trusted.
    #[must_use]
    pub fn server_key(&self) -> Option<&PublicKey> {
        match self.exchange.as_ref().map(|e| &e.phase) {
            Some(Phase::Trust(key)) => Some(key),
            _ => None,
        }
    }

    /// The server's key is the right one: go on.
    ///
    /// # Errors
    /// It was not asked about, or RSA failed.
    pub fn trust(&mut self, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        let (Some(exchange), Want::RsaAes { rsa, .. }) = (&mut self.exchange, &self.want) else {
            return Err(HandshakeError::OutOfOrder("trust in the server's key"));
        };
        exchange.trust(&**rsa, out)?;
        self.state = State::RsaAes;
        Ok(())
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
        self.state = State::Result;
        Ok(channel)
    }
}

#[cfg(test)]
#[path = "rsa_aes_tests.rs"]
mod tests;
