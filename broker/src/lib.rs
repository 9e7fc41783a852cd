//! The broker: the control plane and the gateway in one process.
//!
//! ```text
//! browser, CLI ─ https ─► server ─► api ─► connect ─► lucarne_core ─► lucarne_db
//! VNC viewer ─── tls ───► gateway ──────────┘            ▲    ▲
//! host agent ── WebSocket: mTLS, Unix ──► agents ───────┘    │
//! other brokers ◄── PostgreSQL's LISTEN and NOTIFY ──► watch ─┘
//! ```
//!
//! What is promised to people is in the database before they hear of it. What is decided is `lucarne_core`'s. Knows nothing of hypervisors, images' contents or pixels.

#![deny(unsafe_code)]

mod accept;
mod agents;
mod api;
mod app;
mod auth;
mod connect;
pub mod database;
mod enroll;
mod events;
mod gateway;
mod launch;
mod limits;
mod metrics;
mod names;
mod retransmit;
mod rsa;
mod secret;
mod server;
mod shadow;
mod throttle;
mod tls;
mod trust;
mod upkeep;
mod view;
pub mod viewers;
mod watch;
mod web;

pub use api::{access, openapi};
pub use auth::bootstrap::InitialAdmin;
pub use gateway::door::VncSecurity;
pub use lucarne_rfb::security::{RsaAes, Subtype};
pub use rsa::RsaKey;

use app::App;
use auth::viewer_password::ViewerPasswords;
use axum::Router;
use gateway::door::Door;
use lucarne_core::{Change, Control, store};
use lucarne_db::wakes::Wakes;
use lucarne_db::{Db, Fault};
use server::SocketFile;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The longest wait at the end for viewers to take their last message.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a broker needs to know to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where `broker.db`, `tls/` (certificate and RSA key) and `initial-admin-password` are kept; made when it is not there, mode 0700.
    pub data_dir: PathBuf,
    /// Where browsers and programs connect (HTTPS). Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where VNC viewers connect; none when left out.
    pub vnc_listen: Option<SocketAddr>,
    /// What VNC viewers are offered, most preferred first. Without certificates (TLSPlain) the stream is encrypted, but
    /// a viewer cannot tell whom it talks to; with VncAuth, and after the RSA-AES types that end in "ne", nothing is.
    pub vnc_security: Vec<VncSecurity>,
    /// The PostgreSQL database that this broker shares with others, as a URL; `broker.db` in `data_dir`, for one broker alone,
    /// when left out.
    pub database: Option<String>,
    /// Where host agents connect by the network (TLS with certificates of both sides); nowhere when left out.
    pub agent_listen: Option<SocketAddr>,
    /// Where metrics, `/healthz` and `/readyz` are served, as plain HTTP without a sign-in; nowhere when left out.
    pub metrics_listen: Option<SocketAddr>,
    /// The Unix socket for host agents of this machine, mode 0600.
    pub agent_socket: PathBuf,
    /// The Unix socket with the same API for administrators of this machine, mode 0600: root and the broker's own
    /// user are the built-in administrator there.
    pub admin_socket: PathBuf,
    /// When set and there has never been a pool, the first image that a host reports becomes a pool of this name that
    /// everyone may use.
    pub default_pool: Option<String>,
}

/// Why a broker did not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory cannot be used.
    #[error("cannot use the data directory {path}: {source}; choose another with --data-dir", path = path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the address, or it is not this machine's.
    #[error(
        "cannot listen on {address}: {source}; stop what uses it, or choose another address with {option}"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
        /// The option that changes it.
        option: &'static str,
    },
    /// A Unix socket cannot be made.
    #[error("cannot listen on the socket {path}: {source}; stop the other server, or choose another --data-dir", path = path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database.
    #[error(transparent)]
    Store(Box<dyn std::error::Error + Send + Sync>),
    /// The certificate.
    #[error(transparent)]
    Certificate(Box<dyn std::error::Error + Send + Sync>),
    /// What is counted cannot be set up.
    #[error("metrics cannot be set up: {0}")]
    Metrics(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The first administrator.
    #[error(transparent)]
    Administrator(Box<dyn std::error::Error + Send + Sync>),
}

/// A broker that listens. Nothing is served before [`Broker::run`].
pub struct Broker {
    app: Arc<App>,
    identity: tls::Identity,
    router: Router,
    https: TcpListener,
    vnc: Option<(TcpListener, Door)>,
    hosts: Option<TcpListener>,
    monitors: Option<(TcpListener, SocketAddr)>,
    agents: UnixListener,
    local: UnixListener,
    address: SocketAddr,
    vnc_address: Option<SocketAddr>,
    initial_admin: Option<InitialAdmin>,
    changes: UnboundedReceiver<Change>,
    others: watch::Others,
    _files: [SocketFile; 2],
}

impl Broker {
    /// Takes the addresses, opens the database, and makes certificate and first administrator when there are none.
    ///
    /// # Errors
    /// [`Error`] that names what is in the way. Addresses are taken first, so a port in use leaves nothing behind.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let (https, address) = bind(config.listen, "--listen").await?;
        let vnc = match config.vnc_listen {
            Some(listen) => Some(bind(listen, "--vnc-listen").await?),
            None => None,
        };
        let hosts = match config.agent_listen {
            Some(listen) => Some(bind(listen, "--agent-listen").await?),
            None => None,
        };
        let monitors = match config.metrics_listen {
            Some(listen) => Some(bind(listen, "--metrics-listen").await?),
            None => None,
        };
        let dir = |source| Error::DataDir { path: config.data_dir.clone(), source };
        make_dir(&config.data_dir).map_err(dir)?;
        let (local, local_file) = socket(&config.admin_socket)?;
        let (agents, agents_file) = socket(&config.agent_socket)?;
        let uid = server::own_uid(&config.admin_socket).map_err(dir)?;
        let boxed = |e: store::Error| Error::Store(Box::new(e));
        let faulty = |e: Fault| Error::Store(Box::new(e));
        let (db, others) = match &config.database {
            None => (Db::sqlite(&config.data_dir.join("broker.db")).await.map_err(faulty)?, None),
            Some(url) => {
                let db = Db::postgres(url).await.map_err(faulty)?;
                (db, Some(Wakes::join(url).map_err(faulty)?))
            }
        };
        let store = store::Store::new(db);
        let name = own_name(&config.data_dir).map_err(dir)?;
        let (control, changes) = Control::start(store.clone(), &name).await.map_err(boxed)?;
        let identity = tls::load_or_make(&config.data_dir, config.listen.ip())
            .map_err(|e| Error::Certificate(Box::new(e)))?;
        let auth = auth::Auth::new(store.clone()).await.map_err(|e| Error::Administrator(Box::new(e)))?;
        let initial_admin = auth::bootstrap::first_administrator(&store, &auth, &config.data_dir)
            .await
            .map_err(|e| Error::Administrator(Box::new(e)))?;
        let trust = Arc::new(trust::Trust::of(&store).await.map_err(|e| Error::Certificate(Box::new(e)))?);
        let vnc_passwords = vnc.is_some() && config.vnc_security.contains(&VncSecurity::VncAuth);
        let app = Arc::new(App {
            store,
            control,
            names: names::Names::default(),
            links: TaskTracker::new(),
            trust,
            agent_address: hosts.as_ref().map(|(_, address)| *address),
            auth,
            viewer_passwords: vnc_passwords.then(ViewerPasswords::default),
            viewers: viewers::Viewers::default(),
            events: Arc::default(),
            metrics: metrics::Metrics::new().map_err(|e| Error::Metrics(Box::new(e)))?,
            connections: gateway::tcp::Connections::default(),
            default_pool: config.default_pool.clone(),
            data_dir: config.data_dir.clone(),
            uid,
            streams: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        });
        let vnc_address = vnc.as_ref().map(|(_, address)| *address);
        let vnc = match vnc {
            Some((listener, _)) => {
                let tls = Arc::clone(&identity.plain);
                let door = Door::new(config.vnc_security, tls, &config.data_dir)
                    .map_err(|e| Error::Certificate(Box::new(e)))?;
                Some((listener, door))
            }
            None => None,
        };
        let router = api::router(Arc::clone(&app)).map_err(|e| Error::Store(Box::new(e)))?;
        Ok(Self {
            app,
            identity,
            router,
            https,
            vnc,
            hosts: hosts.map(|(listener, _)| listener),
            monitors,
            agents,
            local,
            address,
            vnc_address,
            initial_admin,
            changes,
            others,
            _files: [local_file, agents_file],
        })
    }

    /// sha256 of the certificate, upper-case hexadecimal with colons, as browsers and viewers show it.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.identity.fingerprint
    }

    /// The fingerprint of the RSA key, as VNC viewers show it; none when no RSA-AES type is offered.
    #[must_use]
    pub fn vnc_fingerprint(&self) -> Option<String> {
        self.vnc.as_ref().and_then(|(_, door)| door.fingerprint())
    }

    /// Where HTTPS is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where VNC viewers are served.
    #[must_use]
    pub fn vnc_address(&self) -> Option<SocketAddr> {
        self.vnc_address
    }

    /// Where hosts come in by the network.
    #[must_use]
    pub fn agent_address(&self) -> Option<SocketAddr> {
        self.app.agent_address
    }

    /// Where metrics are served.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.monitors.as_ref().map(|(_, address)| *address)
    }

    /// The administrator of the first start, while the generated password has not been changed.
    #[must_use]
    pub fn initial_admin(&self) -> Option<&InitialAdmin> {
        self.initial_admin.as_ref()
    }

    /// Serves until `shutdown`, then tells viewers that the server goes away and closes the database.
    ///
    /// # Errors
    /// None at present; a listener that breaks is tried again and logged.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let tasks = TaskTracker::new();
        let stop = self.app.shutdown.clone();
        tasks.spawn(watch::run(Arc::clone(&self.app), self.changes, self.others, stop.clone()));
        tasks.spawn(watch::keep_looking(Arc::clone(&self.app), stop.clone()));
        tasks.spawn(upkeep::run(Arc::clone(&self.app), stop.clone()));
        tasks.spawn(upkeep::remember_hosts(Arc::clone(&self.app), stop.clone()));
        tasks.spawn(limits::run(Arc::clone(&self.app), stop.clone()));
        tasks.spawn(events::tell::run(Arc::clone(&self.app), stop.clone()));
        tasks.spawn(agents::listen(Arc::clone(&self.app), self.agents, stop.clone()));
        if let Some(hosts) = self.hosts {
            tasks.spawn(agents::listen_on_network(Arc::clone(&self.app), hosts, stop.clone()));
        }
        if let Some((monitors, _)) = self.monitors {
            let watched = Arc::new(metrics::Monitored(Arc::clone(&self.app)));
            tasks.spawn(lucarne_metrics::serve(monitors, watched, stop.clone()));
        }
        tasks.spawn(Arc::clone(&self.app.trust).keep_fresh(stop.clone()));
        tasks.spawn(server::local(self.local, self.router.clone(), stop.clone()));
        let https = Arc::clone(&self.identity.https);
        tasks.spawn(server::https(self.https, https, self.router, stop.clone()));
        if let Some((vnc, door)) = self.vnc {
            tasks.spawn(gateway::vnc::listen(Arc::clone(&self.app), vnc, door, stop.clone()));
        }
        tasks.close();
        shutdown.cancelled().await;
        stop.cancel();
        tasks.wait().await;
        self.app.streams.close();
        self.app.links.close();
        let _ =
            timeout(FAREWELL, async { tokio::join!(self.app.streams.wait(), self.app.links.wait()) }).await;
        if let Err(e) = self.app.store.end_broker(self.app.control.broker()).await {
            tracing::error!(error = %e, "cannot put on record that this broker ends");
        }
        self.app.store.close().await;
        Ok(())
    }
}

async fn bind(address: SocketAddr, option: &'static str) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source, option };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn socket(path: &std::path::Path) -> Result<(UnixListener, SocketFile), Error> {
    let failed = |source| Error::Socket { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        make_dir(dir).map_err(failed)?;
    }
    server::bind_private(path).map_err(failed)
}

/// What this broker is called: the machine's name, and what sets its data directory apart from others on it.
fn own_name(data_dir: &std::path::Path) -> io::Result<String> {
    let file = data_dir.join("name");
    match std::fs::read_to_string(&file) {
        Ok(name) if !name.trim().is_empty() => Ok(name.trim().to_owned()),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "the file name is empty; remove it")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let random = uuid::Uuid::new_v4().simple().to_string();
            let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let name = format!("{machine}-{}", &random[..6]);
            let beside = data_dir.join("name.new");
            std::fs::write(&beside, &name)?;
            std::fs::rename(&beside, &file)?;
            Ok(name)
        }
        Err(e) => Err(e),
    }
}

/// Makes a directory that only its owner can enter, when there is none.
fn make_dir(dir: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
