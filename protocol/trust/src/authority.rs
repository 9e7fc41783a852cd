//! The authority of a deployment: a key that signs, and the certificate that all trust.

use crate::token::Fingerprint;
use crate::{Error, PublicKey, Role, unreadable};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::time::{Duration, SystemTime};

/// How long a certificate of a broker or host is valid; they are renewed at half of it. Longer: one that was stolen is of use
/// for longer. Shorter: a broker that nobody can reach for that long has hosts that nobody can reach after.
pub const VALID: Duration = Duration::from_secs(24 * 3600);

/// How long the authority's own is.
const OWN: Duration = Duration::from_secs(20 * 365 * 86_400);

/// How far back a certificate is valid, for clocks that are behind.
const BACK: Duration = Duration::from_secs(3600);

/// Issues certificates.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.fingerprint())
    }
}

fn own() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Lucarne deployment");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    /// Makes one: its certificate and its key, as PEM (RFC 7468).
    ///
    /// # Errors
    /// [`Error::Make`].
    pub fn make(now: SystemTime) -> Result<(String, String), Error> {
        let mut params = own();
        params.not_before = (now - BACK).into();
        params.not_after = (now + OWN).into();
        let key = KeyPair::generate()?;
        Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
    }

    /// The one that [`Authority::make`] made.
    ///
    /// # Errors
    /// [`Error::Unreadable`] or [`Error::Make`].
    pub fn load(certificate: &str, key: &str) -> Result<Self, Error> {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|e| unreadable("the authority's certificate", e))?;
        Ok(Self { certificate, issuer: Issuer::new(own(), KeyPair::from_pem(key)?) })
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// A certificate for who has the key, as PEM.
    ///
    /// # Errors
    /// [`Error::Make`].
    pub fn issue(&self, role: Role, key: &PublicKey, now: SystemTime) -> Result<String, Error> {
        let mut params = CertificateParams::new(vec![role.to_string()])?;
        params.distinguished_name.push(
            DnType::CommonName,
            match role {
                Role::Broker => "Lucarne broker",
                Role::Host(_) => "Lucarne host",
            },
        );
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (now - BACK).into();
        params.not_after = (now + VALID).into();
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }
}
