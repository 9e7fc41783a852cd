//! The encrypted messages of the RSA-AES types: a length of 16 bits, as much ciphertext, and a MAC of 16 bytes, by AES in
//! EAX mode with the length as associated data and the message's number as nonce.
//!
//! It is a layer of its own, like TLS: what is in a message need not be one message of RFB, nor the other way round. Bytes
//! in, bytes out; the caller has the socket.
//!
//! Source: rfbproto, "RSA-AES Security Type". EAX: Bellare, Rogaway, Wagner, "The EAX Mode of Operation" (2004).

use crate::wire::{Input, Put};
use aes::{Aes128, Aes256};
use eax::aead::inout::InOutBuf;
use eax::{AeadInOut, Eax, KeyInit};
use std::fmt;

/// What is put into one message at most, bytes. The format takes 65,535; viewers send 8,192 themselves and have buffers
/// to fit.
pub const MAX_SEALED: usize = 8192;

/// The longest message that the format has, bytes.
pub const MAX_MESSAGE: usize = u16::MAX as usize;

/// What a message is longer than its text, bytes.
pub const OVERHEAD: usize = 2 + MAC;

const MAC: usize = 16;

/// Why a message could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It says that it is longer than anything that may come now.
    #[error("an encrypted message of {length} bytes; at most {limit} are taken here")]
    TooLong {
        /// What it says.
        length: usize,
        /// What is taken.
        limit: usize,
    },
    /// It was changed on its way, left out, repeated, or made with another key.
    #[error("encrypted message {0} is not genuine: it was changed on its way, or made with another key")]
    NotGenuine(u128),
}

/// AES in EAX mode, of either key length.
#[derive(Clone)]
enum Cipher {
    Aes128(Eax<Aes128>),
    Aes256(Eax<Aes256>),
}

impl Cipher {
    fn seal(&self, number: u128, header: &[u8], text: &mut [u8]) -> [u8; MAC] {
        let (nonce, text) = (number.to_le_bytes().into(), InOutBuf::from(text));
        let mac = match self {
            Self::Aes128(c) => c.encrypt_inout_detached(&nonce, header, text),
            Self::Aes256(c) => c.encrypt_inout_detached(&nonce, header, text),
        };
        mac.expect("EAX takes 2^36 bytes, and a message has 2^16").into()
    }

    fn open(&self, number: u128, header: &[u8], text: &mut [u8], mac: [u8; MAC]) -> bool {
        let (nonce, mac, text) = (number.to_le_bytes().into(), mac.into(), InOutBuf::from(text));
        match self {
            Self::Aes128(c) => c.decrypt_inout_detached(&nonce, header, text, &mac).is_ok(),
            Self::Aes256(c) => c.decrypt_inout_detached(&nonce, header, text, &mac).is_ok(),
        }
    }
}

/// A session key: 16 bytes for AES-128 or 32 for AES-256.
#[derive(Clone)]
pub enum Key {
    /// For AES-128.
    Aes128([u8; 16]),
    /// For AES-256.
    Aes256([u8; 32]),
}

impl Key {
    fn cipher(&self) -> Cipher {
        match self {
            Self::Aes128(key) => Cipher::Aes128(Eax::new(&(*key).into())),
            Self::Aes256(key) => Cipher::Aes256(Eax::new(&(*key).into())),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Encrypts one direction.
pub struct Sealer {
    cipher: Cipher,
    number: u128,
}

impl Sealer {
    /// Starts at message 0.
    #[must_use]
    pub fn new(key: &Key) -> Self {
        Self { cipher: key.cipher(), number: 0 }
    }

    /// Appends `text` to `out` as messages of at most [`MAX_SEALED`] bytes each; none for no text.
    pub fn seal(&mut self, text: &[u8], out: &mut Vec<u8>) {
        for text in text.chunks(MAX_SEALED) {
            let header = (text.len() as u16).to_be_bytes();
            out.put_bytes(&header);
            let at = out.len();
            out.put_bytes(text);
            let mac = self.cipher.seal(self.number, &header, &mut out[at..]);
            out.put_bytes(&mac);
            self.number += 1;
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer(message {})", self.number)
    }
}

/// Decrypts the other direction. What it holds is less than one message more than what was fed since [`Opener::open`]
/// gave `false`.
pub struct Opener {
    cipher: Cipher,
    number: u128,
    limit: usize,
    input: Input,
    failed: Option<OpenError>,
}

impl Opener {
    /// Starts at message 0 and takes messages of at most `limit` bytes.
    #[must_use]
    pub fn new(key: &Key, limit: usize) -> Self {
        Self { cipher: key.cipher(), number: 0, limit, input: Input::default(), failed: None }
    }

    /// Takes messages of at most that many bytes from now on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Bytes that were fed and are not opened yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.input.len()
    }

    /// Takes bytes from the peer; then call [`Self::open`] until it gives `false`.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.push(bytes);
    }

    /// Appends the next message's text, which may be empty, to `out`; `false` when it has not all arrived.
    ///
    /// # Errors
    /// [`OpenError`], then and at every call after it; `out` is as it was.
    pub fn open(&mut self, out: &mut Vec<u8>) -> Result<bool, OpenError> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        self.next(out).inspect_err(|e| self.failed = Some(*e))
    }

    fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, OpenError> {
        let pending = self.input.pending();
        let Some(&header) = pending.first_chunk::<2>() else { return Ok(false) };
        let length = usize::from(u16::from_be_bytes(header));
        if length > self.limit {
            return Err(OpenError::TooLong { length, limit: self.limit });
        }
        let Some((text, rest)) = pending[2..].split_at_checked(length) else { return Ok(false) };
        let Some(&mac) = rest.first_chunk::<MAC>() else { return Ok(false) };
        let at = out.len();
        out.put_bytes(text);
        // The MAC is compared, in constant time, before anything is decrypted.
        if !self.cipher.open(self.number, &header, &mut out[at..], mac) {
            out.truncate(at);
            return Err(OpenError::NotGenuine(self.number));
        }
        self.input.consume(OVERHEAD + length);
        self.number += 1;
        Ok(true)
    }

    /// What was fed and not opened: for where encryption ends before the connection does.
    pub(crate) fn into_rest(mut self) -> Vec<u8> {
        self.input.take()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opener(message {}, {:?})", self.number, self.input)
    }
}

/// Both directions of one side.
#[derive(Debug)]
pub struct Channel {
    /// For what this side sends.
    pub sealer: Sealer,
    /// For what it receives; it may hold bytes already.
    pub opener: Opener,
}

#[cfg(test)]
#[path = "eax_tests.rs"]
mod tests;
