//! What a broker or host shows and checks on its connections.

use crate::token::Fingerprint;
use crate::{Error, PublicKey, unreadable};
use rcgen::{KeyPair, PublicKeyData};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::sync::Arc;

/// Whether those who connect have to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Always.
    Must,
    /// Or they are strangers.
    May,
}

/// A key, the certificate for it, and the authority behind both sides'.
#[derive(Debug)]
pub struct Credentials {
    own: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    authority: CertificateDer<'static>,
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self { own: self.own.clone(), key: self.key.clone_key(), authority: self.authority.clone() }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(authority: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    Ok(Arc::new(roots))
}

impl Credentials {
    /// A new key: as PEM, and its public half.
    ///
    /// # Errors
    /// [`Error::Make`].
    pub fn make_key() -> Result<(String, PublicKey), Error> {
        let key = KeyPair::generate()?;
        let public = PublicKey::from_bytes(key.der_bytes())?;
        Ok((key.serialize_pem(), public))
    }

    /// The public half of a key.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn public(key: &str) -> Result<PublicKey, Error> {
        PublicKey::from_bytes(KeyPair::from_pem(key)?.der_bytes())
    }

    /// Of a certificate, its key and the authority's certificate, all PEM.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn load(own: &str, key: &str, authority: &str) -> Result<Self, Error> {
        let certificate =
            |pem: &str, what| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| unreadable(what, e));
        Ok(Self {
            own: certificate(own, "the certificate")?,
            key: PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|e| unreadable("the certificate's key", e))?,
            authority: certificate(authority, "the authority's certificate")?,
        })
    }

    /// The fingerprint of an authority's certificate, PEM.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn authority(pem: &str) -> Result<Fingerprint, Error> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes());
        Ok(Fingerprint::of(&certificate.map_err(|e| unreadable("the authority's certificate", e))?))
    }

    /// Its own certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.own
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        // The authority's goes along for those who know no more of it than its fingerprint.
        vec![self.own.clone(), self.authority.clone()]
    }

    /// What accepts connections.
    ///
    /// # Errors
    /// Key and certificate do not match.
    pub fn server(&self, clients: Clients) -> Result<Arc<ServerConfig>, Error> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(&self.authority)?, provider());
        let verifier = match clients {
            Clients::Must => verifier.build(),
            Clients::May => verifier.allow_unauthenticated().build(),
        };
        let verifier = verifier.map_err(|e| unreadable("the authority", e))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain(), self.key.clone_key())?;
        // A resumed session would keep a certificate alive that is over.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// What makes connections, to servers of this authority only.
    ///
    /// # Errors
    /// Key and certificate do not match.
    pub fn client(&self) -> Result<Arc<ClientConfig>, Error> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots(&self.authority)?)
            .with_client_auth_cert(self.chain(), self.key.clone_key())?;
        Ok(Arc::new(config))
    }
}

/// What connects without a certificate of its own, to servers of the authority with this fingerprint only.
///
/// # Errors
/// None that can happen.
pub fn pinned(authority: Fingerprint) -> Result<Arc<ClientConfig>, Error> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { authority, provider: provider() }))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Trusts the authority with the fingerprint, which servers send along, and nothing else.
#[derive(Debug)]
struct Pinned {
    authority: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authority) = others.iter().find(|c| Fingerprint::of(c) == self.authority) else {
            return Err(rustls::Error::General(
                "this server is not of the deployment that the token is for: its authority's fingerprint is another"
                    .to_owned(),
            ));
        };
        let failed = |e: &dyn std::fmt::Display| rustls::Error::General(e.to_string());
        let roots = roots(&authority.clone().into_owned()).map_err(|e| failed(&e))?;
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
            .build()
            .map_err(|e| failed(&e))?
            .verify_server_cert(own, others, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
