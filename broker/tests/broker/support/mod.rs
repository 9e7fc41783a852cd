//! What the broker's tests share: a real broker on a free port and a temporary folder, a client that trusts its
//! certificate, and (in `agent`) a host agent that speaks the real protocol with fake desktops behind it.

#![allow(missing_docs)]

pub mod agent;
pub mod events;
pub mod viewer;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderName};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use lucarne_broker::{Broker, Config, Subtype, VncSecurity};
use lucarne_control::api::{Card, Connection, Page, Problem, Token};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// The longest that a test waits for a condition; only failures take that long.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A running broker.
pub struct Server {
    pub address: SocketAddr,
    pub vnc: SocketAddr,
    /// Where hosts come in by the network.
    pub hosts: String,
    /// Where monitoring asks.
    pub metrics: SocketAddr,
    pub password: String,
    pub vnc_fingerprint: Option<String>,
    pub dir: Arc<TempDir>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

pub fn config(dir: &Path) -> Config {
    Config {
        data_dir: dir.join("data"),
        listen: "127.0.0.1:0".parse().unwrap(),
        vnc_listen: Some("127.0.0.1:0".parse().unwrap()),
        vnc_security: vec![VncSecurity::VeNCrypt(Subtype::X509Plain)],
        agent_listen: Some("127.0.0.1:0".parse().unwrap()),
        metrics_listen: Some("127.0.0.1:0".parse().unwrap()),
        agent_socket: dir.join("run/agent.sock"),
        admin_socket: dir.join("run/admin.sock"),
        default_pool: Some("desk".to_owned()),
        database: None,
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap())).await
    }

    /// With what VNC viewers are offered.
    pub async fn offering(vnc_security: Vec<VncSecurity>) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let config = Config { vnc_security, ..config(dir.path()) };
        Self::start_with(dir, config).await
    }

    pub async fn start_in(dir: Arc<TempDir>) -> Self {
        Self::start_with(Arc::clone(&dir), config(dir.path())).await
    }

    pub async fn start_with(dir: Arc<TempDir>, config: Config) -> Self {
        let broker = Broker::start(config).await.unwrap();
        let (address, vnc) = (broker.address(), broker.vnc_address().unwrap());
        let password = broker.initial_admin().map(|a| a.password.clone()).unwrap_or_default();
        let hosts = broker.agent_address().unwrap().to_string();
        let vnc_fingerprint = broker.vnc_fingerprint();
        let metrics = broker.metrics_address().unwrap();
        let stop = CancellationToken::new();
        let child = stop.clone();
        let task = tokio::spawn(async move { broker.run(child).await.unwrap() });
        Self { address, vnc, hosts, metrics, password, vnc_fingerprint, dir, stop, task }
    }

    /// Ends the broker in good order; the folder stays.
    pub async fn stop(self) -> Arc<TempDir> {
        self.stop.cancel();
        self.task.await.unwrap();
        self.dir
    }

    pub fn agent_socket(&self) -> PathBuf {
        self.dir.path().join("run/agent.sock")
    }

    pub async fn tls(&self, tcp: TcpStream) -> TlsStream<TcpStream> {
        let file = self.dir.path().join("data/tls/cert.pem");
        tls(&file, tcp).await
    }

    pub async fn connect(&self) -> TlsStream<TcpStream> {
        self.tls(TcpStream::connect(self.address).await.unwrap()).await
    }

    /// A request without a login.
    pub fn anyone(&self) -> Client<'_> {
        Client { server: self, headers: HeaderMap::new(), local: false }
    }

    /// Requests on the local administrators' socket.
    pub fn local(&self) -> Client<'_> {
        Client { server: self, headers: HeaderMap::new(), local: true }
    }

    /// Requests of a user, by a bearer token.
    pub async fn sign_in(&self, name: &str, password: &str) -> Client<'_> {
        let body = json!({ "name": name, "password": password });
        let token: Token = self.anyone().post("/auth/token", body).await.created();
        self.anyone().with("authorization", &format!("Bearer {}", token.token))
    }

    pub async fn admin(&self) -> Client<'_> {
        self.sign_in("admin", &self.password).await
    }

    /// Makes a user (password `password of NAME`) and signs in.
    pub async fn user(&self, name: &str) -> Client<'_> {
        let password = format!("password of {name}");
        let body = json!({ "name": name, "password": password });
        let answer = self.local().post("/users", body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        self.sign_in(name, &password).await
    }
}

async fn tls(cert: &Path, tcp: TcpStream) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cert).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

/// Makes requests to one server with the same headers.
#[derive(Clone)]
pub struct Client<'a> {
    server: &'a Server,
    headers: HeaderMap,
    local: bool,
}

/// An answer, read to its end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Client<'_> {
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        self
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, &format!("/api/v1{path}"), None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, &format!("/api/v1{path}"), Some(body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, &format!("/api/v1{path}"), Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, &format!("/api/v1{path}"), None).await
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        if self.local {
            let socket = self.server.dir.path().join("run/admin.sock");
            self.exchange(UnixStream::connect(socket).await.unwrap(), method, path, body).await
        } else {
            self.exchange(self.server.connect().await, method, path, body).await
        }
    }

    async fn exchange<S>(&self, stream: S, method: Method, path: &str, body: Option<Value>) -> Answer
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        let headers = request.headers_mut().unwrap();
        headers.insert("host", self.server.address.to_string().parse().unwrap());
        if body.is_some() {
            headers.insert("content-type", "application/json".parse().unwrap());
        }
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        let body = body.map(|b| b.to_string()).unwrap_or_default();
        let answer = sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        connection.abort();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn page<T: DeserializeOwned>(&self, path: &str) -> Vec<T> {
        self.get(path).await.ok::<Page<T>>().items
    }

    /// Connects to a pool and expects the picture to be there.
    pub async fn connect(&self, pool: &str) -> Connection {
        self.post("/sessions", json!({ "pool": pool })).await.created()
    }

    /// The only card of the portal.
    pub async fn card(&self) -> Card {
        let mut cards: Vec<Card> = self.get("/portal").await.ok();
        assert_eq!(cards.len(), 1);
        cards.remove(0)
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn expect<T: DeserializeOwned>(&self, status: StatusCode) -> T {
        assert_eq!(self.status, status, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn ok<T: DeserializeOwned>(&self) -> T {
        self.expect(StatusCode::OK)
    }

    pub fn created<T: DeserializeOwned>(&self) -> T {
        self.expect(StatusCode::CREATED)
    }

    pub fn accepted<T: DeserializeOwned>(&self) -> T {
        self.expect(StatusCode::ACCEPTED)
    }

    /// A problem document with this status and code; gives its detail.
    pub fn problem(&self, status: u16, code: &str) -> String {
        assert_eq!(
            self.headers.get("content-type").map(|v| v.to_str().unwrap()),
            Some("application/problem+json")
        );
        assert_eq!(self.headers["cache-control"], "no-store");
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(
            (self.status.as_u16(), problem.status, problem.code.as_str()),
            (status, status, code),
            "{}",
            problem.detail
        );
        assert!(!problem.title.is_empty() && !problem.detail.is_empty());
        problem.detail
    }
}

/// Polls a condition until it gives something, under a generous limit.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let search = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, search).await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}
