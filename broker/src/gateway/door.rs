//! The door for VNC viewers: which security types they are offered, and the way from an accepted connection to a stream that
//! is as secure as was agreed and a claim to a desktop.
//!
//! ```text
//! VeNCrypt ── TLS with the certificate, or anonymous ──┐
//! RSA-AES ─── RSA with the server's key, AES ──────────┼─► name and password
//! VncAuth ─── nothing is encrypted ────────────────────┴─► the answer of a one-time password
//! ```

use super::aes::AesStream;
use super::anonymous::Anonymous;
use crate::rsa::{self, RsaKey};
use lucarne_rfb::security::rsa_aes::Rsa;
use lucarne_rfb::security::vnc_auth::CHALLENGE;
use lucarne_rfb::security::{Password, RsaAes, Subtype};
use lucarne_rfb::server::{Handshake, HandshakeError, HandshakeEvent, Method, Offer, Security};
use rustls::ServerConfig;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

/// The longest handshake up to the password, and from the answer to ClientInit. People type the password before the
/// viewer connects or while it is being secured, so it is the longest that a person may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What VNC viewers may be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VncSecurity {
    /// A sub-type of VeNCrypt. All that are wanted are offered where the first of them stands.
    VeNCrypt(Subtype),
    /// A type with the server's RSA key.
    RsaAes(RsaAes),
    /// One-time passwords, with nothing encrypted.
    VncAuth,
}

/// How viewers name what secures their connection.
pub(super) fn name(security: Security) -> &'static str {
    match security {
        Security::None => "None",
        Security::VncAuth => "VncAuth",
        Security::VeNCrypt(Subtype::TlsNone) => "TLSNone",
        Security::VeNCrypt(Subtype::TlsPlain) => "TLSPlain",
        Security::VeNCrypt(Subtype::X509None) => "X509None",
        Security::VeNCrypt(Subtype::X509Plain) => "X509Plain",
        Security::RsaAes(RsaAes::Ra2) => "RA2",
        Security::RsaAes(RsaAes::Ra2ne) => "RA2ne",
        Security::RsaAes(RsaAes::Ra2_256) => "RA2_256",
        Security::RsaAes(RsaAes::Ra2ne_256) => "RA2ne_256",
    }
}

/// Why a viewer got nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    #[error("TLS failed: {0}")]
    Tls(io::Error),
    #[error("it went before its {0}")]
    Left(&'static str),
    #[error("its connection broke before its {0}: {1}")]
    Broke(&'static str, io::Error),
    #[error("its {awaited} did not come within {} s", PATIENCE.as_secs())]
    Slow { awaited: &'static str },
}

/// A viewer's connection, whatever secures it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What a viewer shows for its right to a desktop.
pub(super) enum Claim {
    /// Name (with a pool, or without) and password.
    Password(String, Password),
    /// What a one-time password makes of a challenge.
    Response { challenge: [u8; CHALLENGE], response: [u8; CHALLENGE] },
}

/// How viewers are let in.
pub struct Door {
    security: Vec<VncSecurity>,
    certified: TlsAcceptor,
    anonymous: Anonymous,
    /// There when an RSA-AES type is offered.
    rsa: Option<Arc<RsaKey>>,
}

impl Door {
    /// Offers these in this order. TLS with a certificate shows `tls`'s; RSA-AES types show the key in the data directory.
    ///
    /// # Errors
    /// OpenSSL cannot do anonymous TLS, or the RSA key cannot be used.
    pub fn new(
        security: Vec<VncSecurity>,
        tls: Arc<ServerConfig>,
        data_dir: &Path,
    ) -> Result<Self, rsa::Error> {
        let mut once = Vec::with_capacity(security.len());
        for named in security {
            if !once.contains(&named) {
                once.push(named);
            }
        }
        let security = once;
        let needs_rsa = security.iter().any(|s| matches!(s, VncSecurity::RsaAes(_)));
        let rsa = if needs_rsa { Some(Arc::new(RsaKey::load_or_make(data_dir)?)) } else { None };
        Ok(Self { security, certified: TlsAcceptor::from(tls), anonymous: Anonymous::new()?, rsa })
    }

    /// The fingerprint of the RSA key, as viewers show it; none when no RSA-AES type is offered.
    pub fn fingerprint(&self) -> Option<String> {
        self.rsa.as_ref().map(|rsa| rsa.public_key().fingerprint())
    }

    /// What one viewer is offered.
    fn offer(&self) -> io::Result<Offer> {
        let mut methods: Vec<Method> = Vec::new();
        for security in &self.security {
            match *security {
                VncSecurity::VeNCrypt(subtype) => {
                    let vencrypt = methods.iter_mut().find_map(|m| match m {
                        Method::VeNCrypt(subtypes) => Some(subtypes),
                        _ => None,
                    });
                    match vencrypt {
                        Some(subtypes) => subtypes.push(subtype),
                        None => methods.push(Method::VeNCrypt(vec![subtype])),
                    }
                }
                VncSecurity::RsaAes(kind) => {
                    methods.extend(self.rsa.iter().map(|rsa| Method::RsaAes(kind, Arc::clone(rsa) as _)));
                }
                VncSecurity::VncAuth => {
                    let mut challenge = [0; CHALLENGE];
                    getrandom::fill(&mut challenge).map_err(|e| io::Error::other(e.to_string()))?;
                    methods.push(Method::VncAuth { challenge });
                }
            }
        }
        Ok(Offer(methods))
    }

    /// Begins a handshake, and runs it up to the viewer's claim, which has to be there by `deadline`.
    pub(super) async fn sign_in(
        &self,
        mut tcp: TcpStream,
        deadline: Instant,
    ) -> Result<(Box<dyn Stream>, Handshake, Claim), Error> {
        let mut out = Vec::new();
        let mut shake = Handshake::new(self.offer()?, &mut out);
        tcp.write_all(&out).await?;
        let mut stream: Box<dyn Stream> = match pump(&mut tcp, &mut shake, deadline).await? {
            HandshakeEvent::StartTls(subtype) => {
                let started = timeout_at(deadline, self.start_tls(tcp, subtype, &mut shake)).await;
                started.map_err(|_| Error::Slow { awaited: shake.awaits() })??
            }
            HandshakeEvent::StartAes => Box::new(AesStream::new(tcp, shake.channel()?)),
            // VncAuth, and the RSA-AES types that go on unencrypted.
            event => return Ok((Box::new(tcp), shake, claim(event)?)),
        };
        let claim = claim(pump(&mut stream, &mut shake, deadline).await?)?;
        Ok((stream, shake, claim))
    }

    async fn start_tls(
        &self,
        tcp: TcpStream,
        subtype: Subtype,
        shake: &mut Handshake,
    ) -> Result<Box<dyn Stream>, Error> {
        // Bytes that came along with the choice of TLS are its first record's.
        let early = io::Cursor::new(shake.take_rest());
        let (read, write) = tcp.into_split();
        let stream = tokio::io::join(early.chain(read), write);
        let mut stream: Box<dyn Stream> = if subtype.has_certificate() {
            Box::new(self.certified.accept(stream).await.map_err(Error::Tls)?)
        } else {
            Box::new(self.anonymous.accept(stream).await.map_err(Error::Tls)?)
        };
        let mut out = Vec::new();
        shake.tls_started(&mut out)?;
        stream.write_all(&out).await?;
        Ok(stream)
    }
}

fn claim(event: HandshakeEvent) -> Result<Claim, HandshakeError> {
    match event {
        HandshakeEvent::Plain { user, password } => Ok(Claim::Password(user, password)),
        HandshakeEvent::Response { challenge, response } => Ok(Claim::Response { challenge, response }),
        _ => Err(HandshakeError::OutOfOrder("anything but a claim to a desktop")),
    }
}

/// Feeds the handshake until it has an event, at most until `deadline`.
pub(super) async fn pump<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    shake: &mut Handshake,
    deadline: Instant,
) -> Result<HandshakeEvent, Error> {
    let pumped = timeout_at(deadline, pump_on(stream, shake)).await;
    pumped.map_err(|_| Error::Slow { awaited: shake.awaits() })?
}

async fn pump_on<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    shake: &mut Handshake,
) -> Result<HandshakeEvent, Error> {
    let mut buffer = [0; 4096];
    loop {
        let mut out = Vec::new();
        let polled = shake.poll(&mut out);
        stream.write_all(&out).await?;
        stream.flush().await?;
        if let Some(event) = polled? {
            return Ok(event);
        }
        let n = match stream.read(&mut buffer).await {
            Ok(n) => n,
            // TLS without its proper end.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(e) => return Err(Error::Broke(shake.awaits(), e)),
        };
        if n == 0 {
            return Err(Error::Left(shake.awaits()));
        }
        shake.feed(&buffer[..n])?;
    }
}
