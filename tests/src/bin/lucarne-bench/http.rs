//! One HTTP/1.1 connection that is kept open, over TLS to a server whose certificate is known, or over its local socket.

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use lucarne_control::api::Problem;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Largest answer accepted, bytes.
const MAX_ANSWER: usize = 16 << 20;

/// A server's address and the one certificate that is taken for it.
#[derive(Clone)]
pub struct Pinned {
    /// Where it listens.
    pub address: SocketAddr,
    connector: TlsConnector,
}

impl Pinned {
    /// Trusts the certificate in the file.
    pub fn new(address: SocketAddr, certificate: &Path) -> Result<Self> {
        let certificate = CertificateDer::from_pem_file(certificate)
            .with_context(|| format!("{} is no certificate", certificate.display()))?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { address, connector: TlsConnector::from(Arc::new(config)) })
    }

    /// A new connection. Sessions are resumed, as browsers do.
    pub async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        Ok(self.connector.connect(ServerName::from(self.address.ip()), tcp).await?)
    }
}

/// A client on one connection.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    token: Option<String>,
}

impl Client {
    /// The server on this machine, as its administrator.
    pub async fn local(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).await;
        let stream = stream.with_context(|| format!("nobody answers at {}", socket.display()))?;
        Self::open(stream, "localhost".into(), None).await
    }

    /// The server over TLS, as the owner of a token, or as nobody.
    pub async fn remote(server: &Pinned, token: Option<String>) -> Result<Self> {
        Self::open(server.connect().await?, server.address.to_string(), token).await
    }

    async fn open<S>(stream: S, host: String, token: Option<String>) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, host, token })
    }

    async fn request(&mut self, method: Method, path: &str, body: Vec<u8>) -> Result<(u16, Bytes)> {
        let mut request = Request::builder().method(&method).uri(path).header("host", &self.host);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|e| anyhow::anyhow!("{method} {path}: {e}"))?.to_bytes();
        if status >= 400 {
            match serde_json::from_slice::<Problem>(&body) {
                Ok(problem) => bail!("{method} {path}: {}", problem.detail),
                Err(_) => bail!("{method} {path}: status {status} without a reason"),
            }
        }
        Ok((status, body))
    }

    /// GET.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T> {
        let (_, body) = self.request(Method::GET, path, Vec::new()).await?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// POST; gives the status too.
    pub async fn post<T: DeserializeOwned>(&mut self, path: &str, body: &impl Serialize) -> Result<(u16, T)> {
        let (status, body) = self.request(Method::POST, path, serde_json::to_vec(body)?).await?;
        Ok((status, serde_json::from_slice(&body)?))
    }

    /// PUTs something that is answered without a body.
    pub async fn put(&mut self, path: &str, body: &impl Serialize) -> Result<()> {
        let body = serde_json::to_vec(body)?;
        self.request(Method::PUT, path, body).await.map(drop)
    }

    /// DELETE.
    pub async fn delete(&mut self, path: &str) -> Result<()> {
        self.request(Method::DELETE, path, Vec::new()).await.map(|_| ())
    }
}
