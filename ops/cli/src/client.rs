//! Talking to the API: over this machine's local socket, where the peer's user id is the credential, or over TLS to a
//! pinned server with a token.

use crate::args::Remote;
use crate::pin;
use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use lucarne_control::api::{Credentials, Page, Problem, Token};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Largest answer accepted, bytes.
const MAX_ANSWER: usize = 64 << 20;

/// Why the API did not do it.
#[derive(Debug)]
pub enum ApiError {
    /// It said why.
    Problem(Problem),
    /// There is no server.
    Unreachable { server: String, why: String },
    /// It is not a Lucarne server, or a broken one.
    Protocol(String),
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Problem(problem) => f.write_str(&problem.detail),
            Self::Unreachable { server, why } => write!(f, "no server answers at {server}: {why}"),
            Self::Protocol(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ApiError {}

enum Transport {
    Local(PathBuf),
    Tls { host: String, address: String, config: Arc<rustls::ClientConfig> },
}

/// A client of one server.
pub struct Client {
    transport: Transport,
    token: Option<String>,
}

/// Where a broker with this data directory listens for local administration.
pub fn admin_socket(data_dir: &Path) -> PathBuf {
    data_dir.join("run").join("admin.sock")
}

impl Client {
    /// The server on this machine.
    pub fn local(data_dir: &Path) -> Self {
        Self { transport: Transport::Local(admin_socket(data_dir)), token: None }
    }

    /// The server that the command line names, signed in.
    pub async fn open(remote: &Remote) -> Result<Self> {
        let Some(server) = &remote.server else { return Ok(Self::local(&remote.data_dir)) };
        let Some(address) = server.strip_prefix("https://") else {
            bail!("--server must begin with https://, not {server:?}");
        };
        let address = address.trim_end_matches('/').to_owned();
        let fingerprint = remote.fingerprint.as_deref().context(
            "--server needs --fingerprint, the SHA-256 of the server's certificate that `lucarne up` prints there",
        )?;
        let host =
            address.rsplit_once(':').map_or(address.as_str(), |(h, _)| h).trim_matches(['[', ']']).to_owned();
        let address = if address.contains(':') { address } else { format!("{address}:443") };
        let config = Arc::new(pin::config(fingerprint)?);
        let mut client = Self { transport: Transport::Tls { host, address, config }, token: None };
        if let Ok(token) = std::env::var("LUCARNE_TOKEN") {
            client.token = Some(token);
            return Ok(client);
        }
        let name = remote.user.clone().context("--server needs --user, or a token in LUCARNE_TOKEN")?;
        let password = crate::commands::secret("LUCARNE_PASSWORD", &format!("Password of {name}: "))?;
        let token: Token = client.post("/api/v1/auth/token", &Credentials { name, password }).await?;
        client.token = Some(token.token);
        Ok(client)
    }

    fn name(&self) -> String {
        match &self.transport {
            Transport::Local(path) => path.display().to_string(),
            Transport::Tls { address, .. } => format!("https://{address}"),
        }
    }

    /// Sends a request; gives status and body.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(u16, Bytes), ApiError> {
        let answer = self.send(method, path, &[], body).await?;
        let status = answer.status().as_u16();
        Ok((status, self.read(answer).await?))
    }

    /// Sends a GET whose answer goes on; gives what it is read from.
    pub async fn stream(&self, path: &str, headers: &[(&str, &str)]) -> Result<Incoming, ApiError> {
        let answer = self.send(Method::GET, path, headers, None).await?;
        match answer.status().as_u16() {
            status if status < 400 => Ok(answer.into_body()),
            _ => Err(match self.read(answer).await {
                Err(refused) => refused,
                Ok(_) => ApiError::Protocol(format!("{} refused without a reason", self.name())),
            }),
        }
    }

    /// Sends a request; gives the beginning of its answer.
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Response<Incoming>, ApiError> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let unreachable =
            |e: &dyn std::fmt::Display| ApiError::Unreachable { server: self.name(), why: e.to_string() };
        match &self.transport {
            Transport::Local(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(|e| {
                    let why = match e.kind() {
                        std::io::ErrorKind::PermissionDenied => {
                            "only root and the server's own user may use it".into()
                        }
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                            "it does not run; start it with `lucarne up`".to_owned()
                        }
                        _ => e.to_string(),
                    };
                    unreachable(&why)
                })?;
                self.exchange(stream, "localhost", request, body).await
            }
            Transport::Tls { host, address, config } => {
                let stream = TcpStream::connect(address).await.map_err(|e| unreachable(&e))?;
                let name =
                    rustls::pki_types::ServerName::try_from(host.clone()).map_err(|e| unreachable(&e))?;
                let connector = tokio_rustls::TlsConnector::from(config.clone());
                let stream = connector.connect(name, stream).await.map_err(|e| unreachable(&e))?;
                self.exchange(stream, address, request, body).await
            }
        }
    }

    async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        host: &str,
        request: hyper::http::request::Builder,
        body: Option<Vec<u8>>,
    ) -> Result<Response<Incoming>, ApiError> {
        let broken = |e: &dyn std::fmt::Display| self.nonsense(e);
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
        tokio::spawn(connection);
        let mut request = request.header("host", host);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request =
            request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(|e| broken(&e))?;
        sender.send_request(request).await.map_err(|e| broken(&e))
    }

    /// Reads an answer to its end, or why there is none.
    async fn read(&self, answer: Response<Incoming>) -> Result<Bytes, ApiError> {
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let bytes = body.map_err(|e| self.nonsense(&e))?.to_bytes();
        if status >= 400 {
            return Err(match serde_json::from_slice(&bytes) {
                Ok(problem) => ApiError::Problem(problem),
                Err(_) => self.nonsense(&format!("status {status} without a reason")),
            });
        }
        Ok(bytes)
    }

    fn nonsense(&self, e: &dyn std::fmt::Display) -> ApiError {
        ApiError::Protocol(format!("{} answered nonsense: {e}", self.name()))
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, ApiError> {
        serde_json::from_slice(bytes).map_err(|e| self.nonsense(&e))
    }

    /// GET.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let (_, bytes) = self.request(Method::GET, path, None).await?;
        self.decode(&bytes)
    }

    /// POST with an answer.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ApiError> {
        let body = serde_json::to_vec(body).map_err(|e| ApiError::Protocol(e.to_string()))?;
        let (_, bytes) = self.request(Method::POST, path, Some(body)).await?;
        self.decode(&bytes)
    }

    /// POST without an answer.
    pub async fn post_nothing(&self, path: &str, body: &impl Serialize) -> Result<(), ApiError> {
        let body = serde_json::to_vec(body).map_err(|e| ApiError::Protocol(e.to_string()))?;
        self.request(Method::POST, path, Some(body)).await.map(|_| ())
    }

    /// PUT without an answer.
    pub async fn put(&self, path: &str, body: &impl Serialize) -> Result<(), ApiError> {
        let body = serde_json::to_vec(body).map_err(|e| ApiError::Protocol(e.to_string()))?;
        self.request(Method::PUT, path, Some(body)).await.map(|_| ())
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<(), ApiError> {
        self.request(Method::DELETE, path, None).await.map(|_| ())
    }

    /// Every page of a list.
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, ApiError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let sign = if path.contains('?') { '&' } else { '?' };
            let page = match &after {
                Some(after) => format!("{path}{sign}limit=200&after={}", escape(after)),
                None => format!("{path}{sign}limit=200"),
            };
            let page: Page<T> = self.get(&page).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }
}

/// Percent-encodes one path segment or query value (RFC 3986, section 2.3: everything but unreserved characters).
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
