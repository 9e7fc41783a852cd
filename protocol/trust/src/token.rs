//! What a new host is given by a person: a secret that is good once, and whom to trust.

use crate::{Error, unreadable};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// The sha256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// A certificate's.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// What proves that a person let the host in; on record is only its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// One of these random bytes; 255 of their bits count.
    #[must_use]
    pub fn new(mut random: [u8; 32]) -> Self {
        // As text it begins with a letter, then, where a `-` would be taken for an option of the command that it is given to.
        random[0] &= 0x7f;
        Self(random)
    }

    /// As it is on record: the sha256 of it, which needs no salt, since it is random.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// Reads base64url.
    ///
    /// # Errors
    /// It is not 32 bytes.
    pub fn parse(text: &str) -> Result<Self, Error> {
        bytes(text).map(Self)
    }

    /// As base64url.
    #[must_use]
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn bytes(text: &str) -> Result<[u8; 32], Error> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|b| <[u8; 32]>::try_from(b).ok());
    bytes.ok_or_else(|| {
        unreadable(
            "the enrolment token",
            "copy it whole, from `lucarne host token`: 87 characters with one dot",
        )
    })
}

/// What `lucarne host token` prints: secret and fingerprint, base64url, with a dot between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrollmentToken {
    /// The secret.
    pub secret: Secret,
    /// The deployment's authority.
    pub authority: Fingerprint,
}

impl fmt::Display for EnrollmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.secret.text(), URL_SAFE_NO_PAD.encode(self.authority.0))
    }
}

impl FromStr for EnrollmentToken {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let (secret, authority) = text.trim().split_once('.').unwrap_or((text, ""));
        Ok(Self { secret: Secret::parse(secret)?, authority: Fingerprint(bytes(authority)?) })
    }
}
