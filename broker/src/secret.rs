//! Random secrets that are handed out once and kept only as their sha256: tickets and login tokens.

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

/// What the database keeps of a secret. A plain hash is enough for 256 random bits.
pub fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}
