//! Who is who between brokers and hosts on a network.
//!
//! A deployment has one [`Authority`], made by its first broker and kept in the database that its brokers share. It issues
//! short-lived certificates to brokers and hosts; both sides of every connection show theirs (TLS 1.3), and a
//! certificate says by its DNS name which [`Role`] it is for. Names of the network play no part, so hosts and brokers may
//! be renamed, moved and put behind port forwardings.
//!
//! A host gets its first certificate for an [`EnrollmentToken`], which holds the authority's fingerprint, and later ones for the
//! public key that it gave then: issuing a certificate for a key is of use to nobody but who has the private one.
//!
//! Here is no socket and no clock: times are given.

mod authority;
mod credentials;
mod role;
mod token;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use authority::{Authority, VALID};
pub use credentials::{Clients, Credentials, pinned};
pub use role::Role;
pub use token::{EnrollmentToken, Fingerprint, Secret};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

/// Why something is not trusted, or cannot be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate that is of no role here.
    #[error("the certificate is not one of a Lucarne {0}")]
    NotOf(&'static str),
    /// Something that cannot be read.
    #[error("{what} cannot be read: {why}")]
    Unreadable {
        /// What.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// Making a certificate.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// Using one.
    #[error("a certificate cannot be used: {0}")]
    Use(#[from] rustls::Error),
}

fn unreadable(what: &'static str, why: impl std::fmt::Display) -> Error {
    Error::Unreadable { what, why: why.to_string() }
}

/// Bytes of a SubjectPublicKeyInfo with a key of P-256.
const SPKI: usize = 91;

/// A public key: ECDSA on P-256, the point uncompressed (SEC 1, section 2.3.3); base64url in text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; PublicKey::LENGTH]);

impl PublicKey {
    /// Bytes.
    pub const LENGTH: usize = 65;

    /// Reads the point.
    ///
    /// # Errors
    /// It is not as long, or not uncompressed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        match <[u8; Self::LENGTH]>::try_from(bytes) {
            Ok(point) if point[0] == 4 => Ok(Self(point)),
            _ => Err(unreadable(
                "a public key",
                format!("{} bytes that are no uncompressed point of P-256", bytes.len()),
            )),
        }
    }

    /// The key of a certificate.
    ///
    /// # Errors
    /// It is another kind of key.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let certificate =
            webpki::EndEntityCert::try_from(certificate).map_err(|e| unreadable("a certificate", e))?;
        let spki = certificate.subject_public_key_info();
        // SubjectPublicKeyInfo of a P-256 key (RFC 5480) ends with the point.
        match spki.len() {
            SPKI => Self::from_bytes(&spki[SPKI - Self::LENGTH..]),
            n => Err(unreadable("a public key", format!("it is not of P-256, and {n} bytes long"))),
        }
    }

    /// The point.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        URL_SAFE_NO_PAD.encode(key.0)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        Self::from_bytes(&URL_SAFE_NO_PAD.decode(text).map_err(|e| unreadable("a public key", e))?)
    }
}

impl rcgen::PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}
