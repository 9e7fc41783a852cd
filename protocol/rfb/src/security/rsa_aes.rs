//! What both sides of the RSA-AES types share: public keys and their fingerprints, random numbers encrypted to them, the
//! session keys and hashes made of both, and the first encrypted messages.
//!
//! RSA itself and randomness are the caller's, behind [`Rsa`]: this crate has no big numbers and no system calls.
//!
//! Source: rfbproto, "RSA-AES Security Type" and the types after it; RFC 8017 (PKCS #1).

use super::RsaAes;
use super::eax::{Channel, Key, MAX_MESSAGE, OpenError, Opener, Sealer};
use crate::wire::{Input, Put, Reader};
use sha2::Sha256;
use std::fmt::{self, Write as _};
use subtle::{ConditionallySelectable, ConstantTimeEq};

/// The shortest modulus that is taken, bits. TigerVNC has the same bounds.
pub const MIN_KEY: u32 = 1024;
/// The longest modulus that is taken, bits. Higher: a stranger's key costs more of our time.
pub const MAX_KEY: u32 = 8192;
/// The longest public exponent that is taken, bytes: everyone uses 65,537. Longer: a stranger's key costs more of our
/// time, and OpenSSL refuses it with long moduli.
const MAX_EXPONENT: usize = 8;

/// The longest user name or password in an RSA-AES handshake, bytes: its length is a `U8`.
pub const MAX_CREDENTIAL: usize = u8::MAX as usize;

/// The longest encrypted message during the handshake, bytes. The longest real one has name and password with their
/// lengths, 512.
const MAX_HANDSHAKE_MESSAGE: usize = 1024;

/// The sub-type that asks for name and password.
pub(crate) const USER_AND_PASSWORD: u8 = 1;
/// The sub-type that asks for a password only.
pub(crate) const PASSWORD_ONLY: u8 = 2;

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Too short, or too long.
    #[error("an RSA key of {0} bits; it must have from {MIN_KEY} to {MAX_KEY}")]
    Length(u32),
    /// It is no product of two odd primes, or shorter than it says.
    #[error("an RSA key whose modulus is even, or shorter than it says")]
    Modulus,
    /// It is even, 1, or very long.
    #[error("an RSA key whose public exponent is even, less than 3, or longer than {} bits", MAX_EXPONENT * 8)]
    Exponent,
}

/// Why the caller's RSA or randomness did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("RSA failed: {0}")]
pub struct RsaError(pub String);

/// RSA with our own private key, and randomness. Padding is not its business.
///
/// Each handshake encrypts once and decrypts once, within `poll`.
pub trait Rsa: fmt::Debug + Send + Sync {
    /// The public half of our own key.
    fn public_key(&self) -> &PublicKey;

    /// RSAEP (RFC 8017, section 5.1.1): a block as long as `to`'s modulus, and less than it, becomes another as long.
    ///
    /// # Errors
    /// The key is unusable.
    fn encrypt(&self, to: &PublicKey, block: &[u8]) -> Result<Vec<u8>, RsaError>;

    /// RSADP (RFC 8017, section 5.1.2) with our own private key; leading zeros are kept. Its time must not depend on the
    /// result.
    ///
    /// # Errors
    /// The block is not as long as our modulus, or not less than it.
    fn decrypt(&self, block: &[u8]) -> Result<Vec<u8>, RsaError>;

    /// Fills `bytes` from a cryptographic source.
    ///
    /// # Errors
    /// There is no randomness.
    fn random(&self, bytes: &mut [u8]) -> Result<(), RsaError>;
}

/// A public key as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    bits: u32,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

fn stripped(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|b| **b == 0).count();
    &number[zeros..]
}

impl PublicKey {
    /// Of big-endian numbers.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn new(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let modulus = stripped(modulus);
        let zeros = modulus.first().map_or(0, |b| b.leading_zeros());
        let bits = u32::try_from(modulus.len()).unwrap_or(u32::MAX).saturating_mul(8) - zeros;
        Self::checked(bits, modulus, exponent)
    }

    /// `modulus` has as many bytes as `bits` fill.
    fn checked(bits: u32, modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        if !(MIN_KEY..=MAX_KEY).contains(&bits) {
            return Err(KeyError::Length(bits));
        }
        let exponent = stripped(exponent);
        if modulus.first().is_none_or(|b| *b == 0) || modulus.last().is_none_or(|b| b % 2 == 0) {
            return Err(KeyError::Modulus);
        }
        if exponent.len() > MAX_EXPONENT || exponent == [1] || exponent.last().is_none_or(|b| b % 2 == 0) {
            return Err(KeyError::Exponent);
        }
        Ok(Self { bits, modulus: modulus.to_vec(), exponent: exponent.to_vec() })
    }

    /// The length as it is said to the other side, bits. Implementations may round it up to whole bytes.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// The modulus, big-endian without leading zeros: as many bytes as an encrypted block has.
    #[must_use]
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// The public exponent, big-endian without leading zeros.
    #[must_use]
    pub fn exponent(&self) -> &[u8] {
        &self.exponent
    }

    /// What people compare: the first 8 bytes of the SHA-1 of the key as it goes over the wire, as RealVNC's and
    /// TigerVNC's viewers show it, such as `4f-9c-…`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        use sha1::Digest;
        let mut wire = Vec::new();
        self.put(&mut wire);
        let mut text = String::new();
        for byte in &sha1::Sha1::digest(&wire)[..8] {
            let dash = if text.is_empty() { "" } else { "-" };
            let _ = write!(text, "{dash}{byte:02x}");
        }
        text
    }

    /// Appends length, modulus and exponent, each number as long as the modulus.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(self.bits);
        out.put_bytes(&self.modulus);
        out.put_padding(self.modulus.len() - self.exponent.len());
        out.put_bytes(&self.exponent);
    }

    /// Reads what [`Self::put`] writes; `None` when it has not all arrived.
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Option<Self>, KeyError> {
        let Some(bits) = r.u32() else { return Ok(None) };
        if !(MIN_KEY..=MAX_KEY).contains(&bits) {
            return Err(KeyError::Length(bits));
        }
        let size = bits.div_ceil(8) as usize;
        let (Some(modulus), Some(exponent)) = (r.bytes(size), r.bytes(size)) else { return Ok(None) };
        Self::checked(bits, modulus, exponent).map(Some)
    }
}

impl RsaAes {
    /// Bytes of the random numbers and of the session keys.
    fn key_size(self) -> usize {
        match self {
            Self::Ra2 | Self::Ra2ne => 16,
            Self::Ra2_256 | Self::Ra2ne_256 => 32,
        }
    }

    /// Bytes of [`Self::hash`].
    pub(crate) fn hash_size(self) -> usize {
        match self {
            Self::Ra2 | Self::Ra2ne => 20,
            Self::Ra2_256 | Self::Ra2ne_256 => 32,
        }
    }

    /// SHA-1 or SHA-256 of two keys: the sender's first.
    pub(crate) fn hash(self, sender: &PublicKey, receiver: &PublicKey) -> Vec<u8> {
        let mut wire = Vec::new();
        sender.put(&mut wire);
        receiver.put(&mut wire);
        match self {
            Self::Ra2 | Self::Ra2ne => <sha1::Sha1 as sha1::Digest>::digest(&wire).to_vec(),
            Self::Ra2_256 | Self::Ra2ne_256 => <Sha256 as sha2::Digest>::digest(&wire).to_vec(),
        }
    }

    /// The key for what the side sends whose random number stands second.
    fn session_key(self, first: &Secret, second: &Secret) -> Key {
        let both = [&first.0[..], &second.0].concat();
        match self {
            Self::Ra2 | Self::Ra2ne => {
                let hash = <sha1::Sha1 as sha1::Digest>::digest(&both);
                Key::Aes128(std::array::from_fn(|i| hash[i]))
            }
            Self::Ra2_256 | Self::Ra2ne_256 => Key::Aes256(<Sha256 as sha2::Digest>::digest(&both).into()),
        }
    }
}

/// A side's random number.
pub(crate) struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Makes a random number and writes it encrypted to the other side's key (EME-PKCS1-v1_5: RFC 8017, section 7.2.1).
pub(crate) fn send_random(
    kind: RsaAes,
    rsa: &dyn Rsa,
    to: &PublicKey,
    out: &mut Vec<u8>,
) -> Result<Secret, RsaError> {
    let mut secret = vec![0; kind.key_size()];
    rsa.random(&mut secret)?;
    let mut block = vec![0; to.modulus.len()];
    let at = block.len() - secret.len();
    block[1] = 2;
    rsa.random(&mut block[2..at - 1])?;
    while let Some(zero) = block[2..at - 1].iter().position(|b| *b == 0) {
        rsa.random(&mut block[2 + zero..3 + zero])?;
    }
    block[at..].copy_from_slice(&secret);
    let encrypted = rsa.encrypt(to, &block)?;
    if encrypted.len() != block.len() {
        return Err(RsaError("an encrypted block is not as long as the modulus".to_owned()));
    }
    out.put_u16(encrypted.len() as u16);
    out.put_bytes(&encrypted);
    Ok(Secret(secret))
}

/// Why the other side's random number was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RandomError {
    /// It is not as long as our modulus.
    #[error("the other side's encrypted random number has {0} bytes, where our key has {1}")]
    Length(usize, usize),
    /// RSA.
    #[error(transparent)]
    Rsa(#[from] RsaError),
}

/// Reads the other side's random number; `None` when it has not all arrived.
///
/// When the padding is wrong the result is a random number of our own, so that the handshake fails two messages later
/// exactly as with a peer that does not know its random number. Telling the difference would let an attacker have other
/// people's random numbers decrypted by asking often enough (Bleichenbacher 1998; RFC 8017, section 7.2.2).
pub(crate) fn read_random(
    kind: RsaAes,
    rsa: &dyn Rsa,
    r: &mut Reader<'_>,
) -> Result<Option<Secret>, RandomError> {
    let size = rsa.public_key().modulus.len();
    match r.u16().map(usize::from) {
        None => return Ok(None),
        Some(length) if length != size => return Err(RandomError::Length(length, size)),
        Some(_) => {}
    }
    let Some(encrypted) = r.bytes(size) else { return Ok(None) };
    let mut secret = vec![0; kind.key_size()];
    rsa.random(&mut secret)?;
    let block = rsa.decrypt(encrypted)?;
    if block.len() != size {
        return Err(RsaError("a decrypted block is not as long as the modulus".to_owned()).into());
    }
    unpad(&block, &mut secret);
    Ok(Some(Secret(secret)))
}

/// Takes the message out of an EME-PKCS1-v1_5 block into `message` if the padding is right and the message of that
/// length, in the same time whether it is or not.
fn unpad(block: &[u8], message: &mut [u8]) {
    let at = block.len() - message.len();
    let mut right = block[0].ct_eq(&0) & block[1].ct_eq(&2) & block[at - 1].ct_eq(&0);
    for byte in &block[2..at - 1] {
        right &= !byte.ct_eq(&0);
    }
    for (m, b) in message.iter_mut().zip(&block[at..]) {
        m.conditional_assign(b, right);
    }
}

/// The encrypted part of a handshake: what is fed is encrypted, and is read as a stream of bytes.
#[derive(Debug)]
pub(crate) struct Sealed {
    channel: Channel,
    plain: Input,
}

impl Sealed {
    /// Of the side whose random number is `own`.
    pub(crate) fn new(kind: RsaAes, own: &Secret, others: &Secret) -> Self {
        let sealer = Sealer::new(&kind.session_key(others, own));
        let opener = Opener::new(&kind.session_key(own, others), MAX_HANDSHAKE_MESSAGE);
        Self { channel: Channel { sealer, opener }, plain: Input::default() }
    }

    pub(crate) fn seal(&mut self, text: &[u8], out: &mut Vec<u8>) {
        self.channel.sealer.seal(text, out);
    }

    /// Takes what has arrived and gives a cursor over what is decrypted, once there are at least `n` bytes of it.
    pub(crate) fn read(&mut self, input: &mut Input, n: usize) -> Result<Option<Reader<'_>>, OpenError> {
        self.channel.opener.feed(&input.take());
        while self.plain.len() < n {
            let mut text = Vec::new();
            if !self.channel.opener.open(&mut text)? {
                return Ok(None);
            }
            self.plain.push(&text);
        }
        Ok(Some(Reader::new(self.plain.pending())))
    }

    /// Drops the first `n` decrypted bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        self.plain.consume(n);
    }

    /// Bytes that are held.
    pub(crate) fn pending(&self) -> usize {
        self.channel.opener.pending() + self.plain.len()
    }

    /// For a stream that stays encrypted: its channel, and what is decrypted already.
    pub(crate) fn into_channel(mut self) -> (Channel, Vec<u8>) {
        self.channel.opener.set_limit(MAX_MESSAGE);
        let plain = self.plain.take();
        (self.channel, plain)
    }

    /// For a stream that goes on unencrypted: what came of it already; `None` when there is more decrypted than was
    /// asked for.
    pub(crate) fn into_rest(self) -> Option<Vec<u8>> {
        (self.plain.len() == 0).then(|| self.channel.opener.into_rest())
    }
}

#[cfg(test)]
#[path = "rsa_aes_tests.rs"]
pub(crate) mod tests;
