//! The API over HTTP/1.1, one connection a request: over TLS with the server's own certificate as the only trusted one,
//! or over the local administrators' socket.

use crate::poll::LIMIT;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// TLS on a connection.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// TLS that trusts the certificate in `cert` and no other.
///
/// # Panics
/// The certificate cannot be read.
#[must_use]
pub fn tls_config(cert: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let cert = CertificateDer::from_pem_file(cert).expect("the server's certificate can be read");
    roots.add(cert).expect("the server's certificate is one");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Starts TLS, trusting the certificate in `cert` and no other.
///
/// # Panics
/// The certificate cannot be read.
#[must_use]
pub fn tls(cert: &Path, tcp: TcpStream) -> Tls {
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(tls_config(cert), name).expect("a TLS client");
    StreamOwned::new(connection, tcp)
}

/// A server's answer.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// Body.
    pub body: String,
}

impl Answer {
    /// The body of an answer with this status.
    ///
    /// # Panics
    /// It has another status, or is not JSON.
    #[must_use]
    pub fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.body);
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// The code of the problem that the body tells.
    #[must_use]
    pub fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Where requests go, and as whom.
#[derive(Clone, Debug)]
pub struct Client {
    target: Target,
    headers: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
enum Target {
    Local(PathBuf),
    Tls { address: SocketAddr, cert: PathBuf },
}

impl Client {
    /// As the administrator of this machine.
    #[must_use]
    pub fn local(socket: PathBuf) -> Self {
        Self { target: Target::Local(socket), headers: Vec::new() }
    }

    /// As nobody yet.
    #[must_use]
    pub fn remote(address: SocketAddr, cert: PathBuf) -> Self {
        Self { target: Target::Tls { address, cert }, headers: Vec::new() }
    }

    /// Adds a header to every request.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Signed in by a bearer token.
    ///
    /// # Panics
    /// The server does not let them in.
    #[must_use]
    pub fn signed_in(self, name: &str, password: &str) -> Self {
        let body = serde_json::json!({ "name": name, "password": password });
        let token = self.send("POST", "/api/v1/auth/token", Some(&body)).json(201);
        let token = token["token"].as_str().expect("the answer has a token").to_owned();
        self.with("Authorization", &format!("Bearer {token}"))
    }

    /// A GET that must succeed.
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        self.send("GET", path, None).json(200)
    }

    /// Sends a request; the path is absolute, the body JSON.
    ///
    /// # Panics
    /// No whole answer came.
    #[must_use]
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.try_send(method, path, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// Sends a request to a server that may be away.
    ///
    /// # Errors
    /// The connection's.
    pub fn try_send(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Answer> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let host = match &self.target {
            Target::Local(_) => "localhost".to_owned(),
            Target::Tls { address, .. } => address.to_string(),
        };
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection")) {
            request += "Connection: close\r\n";
        }
        for (name, value) in &self.headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            request += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        request += &format!("\r\n{body}");
        match &self.target {
            Target::Local(socket) => {
                let stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(LIMIT))?;
                exchange(stream, &request)
            }
            Target::Tls { address, cert } => {
                let tcp = TcpStream::connect(address)?;
                tcp.set_read_timeout(Some(LIMIT))?;
                exchange(tls(cert, tcp), &request)
            }
        }
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> std::io::Result<Answer> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut got = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        if let Some(answer) = parse(&got) {
            return Ok(answer);
        }
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            let got = String::from_utf8_lossy(&got).into_owned();
            return Err(std::io::Error::other(format!("the answer ends early: {got:?}")));
        }
        got.extend_from_slice(&buffer[..n]);
    }
}

/// An answer, once all of it is there. Lucarne's own answers have a length.
fn parse(got: &[u8]) -> Option<Answer> {
    let end = got.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&got[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().filter_map(|l| l.split_once(':'));
    let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.filter_map(|(_, value)| value.trim().parse().ok()).next().unwrap_or(0);
    let body = got[end + 4..].get(..length)?;
    Some(Answer { status, head, body: String::from_utf8_lossy(body).into_owned() })
}
