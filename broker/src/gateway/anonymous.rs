//! TLS without certificates, for viewers that choose VeNCrypt's TLSPlain (259): TLS 1.2 with the anonymous
//! Diffie-Hellman suites of RFC 5246, A.5.
//!
//! It keeps out who only listens, and nobody who can change the traffic: the viewer cannot tell whom it talks to. rustls
//! leaves these suites out on purpose, so this one path is OpenSSL's, and TLS 1.3 has none of them.

use openssl::bn::BigNum;
use openssl::dh::Dh;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslVersion};
use std::io;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_openssl::SslStream;

/// Anonymous suites, authenticated encryption first. Security level 0, because every higher one forbids `aNULL`.
const SUITES: &str =
    "ADH-AES256-GCM-SHA384:ADH-AES128-GCM-SHA256:AECDH-AES256-SHA:AECDH-AES128-SHA:@SECLEVEL=0";

/// Accepts viewers without a certificate.
#[derive(Clone)]
pub(super) struct Anonymous(SslContext);

impl Anonymous {
    /// With the 2048-bit group of RFC 3526 (3).
    ///
    /// # Errors
    /// OpenSSL is built without what it needs.
    pub(super) fn new() -> Result<Self, ErrorStack> {
        let mut context = SslContext::builder(SslMethod::tls_server())?;
        context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        context.set_max_proto_version(Some(SslVersion::TLS1_2))?;
        context.set_cipher_list(SUITES)?;
        let group = Dh::from_pqg(BigNum::get_rfc3526_prime_2048()?, None, BigNum::from_u32(2)?)?;
        context.set_tmp_dh(&group)?;
        Ok(Self(context.build()))
    }

    /// Goes through TLS's handshake as the server.
    ///
    /// # Errors
    /// The viewer's connection, or what it sent.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<SslStream<S>> {
        let mut stream = SslStream::new(Ssl::new(&self.0)?, stream)?;
        Pin::new(&mut stream).accept().await.map_err(io::Error::other)?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    /// A client that takes these suites talks to the gateway.
    async fn talk(suites: &str) -> Result<(String, String), String> {
        let mut context = SslContext::builder(SslMethod::tls_client()).unwrap();
        context.set_cipher_list(suites).unwrap();
        let (ours, theirs) = tokio::io::duplex(16 << 10);
        let server = Anonymous::new().unwrap();
        let server = tokio::spawn(async move {
            let mut stream: SslStream<DuplexStream> = server.accept(theirs).await?;
            stream.write_all(b"hello").await?;
            stream.shutdown().await
        });
        let mut client = SslStream::new(Ssl::new(&context.build()).unwrap(), ours).unwrap();
        Pin::new(&mut client).connect().await.map_err(|e| e.to_string())?;
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        server.await.unwrap().unwrap();
        let cipher = client.ssl().current_cipher().unwrap().name().to_owned();
        Ok((said, cipher))
    }

    #[tokio::test]
    async fn a_viewer_with_anonymous_suites_gets_authenticated_encryption() {
        let (said, cipher) = talk("aNULL:@SECLEVEL=0").await.unwrap();
        assert_eq!((&*said, &*cipher), ("hello", "ADH-AES256-GCM-SHA384"));
    }

    #[tokio::test]
    async fn a_viewer_with_only_elliptic_curves_is_served_too() {
        let (said, cipher) = talk("AECDH:@SECLEVEL=0").await.unwrap();
        assert_eq!((&*said, &*cipher), ("hello", "AECDH-AES256-SHA"));
    }

    #[tokio::test]
    async fn nothing_unencrypted_and_nothing_with_certificates_is_agreed_on() {
        for suites in ["eNULL:@SECLEVEL=0", "ECDHE+AESGCM"] {
            assert!(talk(suites).await.is_err(), "{suites}");
        }
    }
}
