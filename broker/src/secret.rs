//! Random secrets that are handed out once: tickets and login tokens, which are kept only as their sha256, and those that
//! people type.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// 256 bits from the system's randomness, as 43 characters of base64url (RFC 4648, section 5): they fit a cookie, a
/// header and a WebSocket subprotocol.
///
/// # Errors
/// When the system has no randomness.
pub fn generate() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// That many characters of 32 that do not look alike, 5 bits each.
///
/// # Errors
/// When the system has no randomness.
pub fn readable(length: usize) -> Result<String, getrandom::Error> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|b| char::from(LETTERS[usize::from(b % 32)])).collect())
}

/// What the database keeps of a secret. A plain hash is enough for 256 random bits.
pub fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}
