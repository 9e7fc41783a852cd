//! Takes the gateways' connections to the desktops of this host.
//!
//! A connection that shows a broker's certificate says in its first line which desktop it is for
//! ([`lucarne_control::link`]); that line and all that follows is copied to and from the desktop process's socket. One relay
//! at a time accepts, which a lock on a file shows; another takes its place while this one still copies what it has.

use crate::dial;
use crate::identity::{self, Identity};
use crate::metrics::{Counted, Counts, Outcome};
use lucarne_control::DesktopId;
use lucarne_control::link::{MAX_LINE, Open, Opened};
use lucarne_trust::{Clients, Role};
use rustix::fs::FlockOperation;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The longest handshake with the line after it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Handshakes at once; strangers cannot hold more.
const SHAKING: usize = 256;

/// How soon a new certificate is used.
const LOOK: Duration = Duration::from_secs(30);

/// Bytes copied at once: as many as a gateway takes.
const BUFFER: usize = 64 << 10;

/// Bytes that the kernel takes beyond those that are on the network: what waits there is an old picture by the time it goes.
const UNSENT: u32 = 32 << 10;

/// How long a lock that somebody only looks at is tried again.
const LOOKED_AT: Duration = Duration::from_secs(2);

/// What a relay is told.
pub struct Config {
    /// Where gateways connect.
    pub listen: SocketAddr,
    /// Where metrics, `/healthz` and `/readyz` are served, as plain HTTP without a sign-in; nowhere when left out.
    pub metrics_listen: Option<SocketAddr>,
    /// The folder of the host's identity.
    pub identity: PathBuf,
    /// The file that shows which relay accepts.
    pub lock: PathBuf,
    /// A desktop's socket.
    pub socket: Box<dyn Fn(DesktopId) -> PathBuf + Send + Sync>,
}

/// Why a relay ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The identity.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// There is none.
    #[error("this host is not enrolled; `lucarne host enroll` does that")]
    NotEnrolled,
    /// The address.
    #[error(
        "the relay cannot listen on {address}: {source}; stop what uses it, or choose another with {option}"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// The option that says so.
        option: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// What is counted cannot be set up.
    #[error("metrics cannot be set up")]
    Metrics(#[from] lucarne_metrics::prometheus::Error),
    /// The lock.
    #[error("the relay's file {path} cannot be used: {source}", path = path.display())]
    Lock {
        /// Which.
        path: PathBuf,
        /// Why not; `WouldBlock` when another relay accepts.
        source: io::Error,
    },
}

/// The relay that accepts, as it says in its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: i32,
    /// Its program: two that differ are different builds.
    pub build: String,
    /// Where it was told to listen.
    pub listen: SocketAddr,
    /// Where it does.
    pub port: u16,
    /// Where it was told to serve metrics.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
    /// The host that it is of; a new enrolment needs a new relay.
    pub host: String,
}

/// What tells this build of the program from others.
///
/// # Errors
/// The program cannot be looked at.
pub fn build() -> io::Result<String> {
    let program = std::fs::metadata("/proc/self/exe")?;
    Ok(format!("{}:{}:{}.{}", program.dev(), program.ino(), program.mtime(), program.mtime_nsec()))
}

/// The relay that accepts, if one does.
///
/// # Errors
/// The file cannot be read.
pub fn holder(path: &Path) -> io::Result<Option<Holder>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            // Between taking the lock and saying so it is not there yet.
            Ok(serde_json::from_str(&text).ok())
        }
        Err(e) => Err(e.into()),
    }
}

/// Takes the place of the relay that accepts; given back when dropped.
async fn hold(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let until = tokio::time::Instant::now() + LOOKED_AT;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if tokio::time::Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// Accepts until `stop`, then copies on what it has until the last stream ends.
///
/// # Errors
/// [`Error`]: it could not begin.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let failed = |source| Error::Lock { path: config.lock.clone(), source };
    let mut lock = hold(&config.lock).await.map_err(failed)?;
    // What the one before said of itself is not so of this one.
    lock.set_len(0).map_err(failed)?;
    let identity = Identity::open(&config.identity)?.ok_or(Error::NotEnrolled)?;
    let server =
        Arc::new(Mutex::new(identity.credentials()?.server(Clients::Must).map_err(identity::Error::from)?));
    let cannot = |source| Error::Listen { address: config.listen, option: "--listen", source };
    let listener = TcpListener::bind(config.listen).await.map_err(cannot)?;
    let port = listener.local_addr().map_err(cannot)?.port();
    let counts = Counts::new()?;
    let monitoring = CancellationToken::new();
    let monitored = match config.metrics_listen {
        Some(address) => {
            let cannot = |source| Error::Listen { address, option: "--relay-metrics-listen", source };
            let listener = TcpListener::bind(address).await.map_err(cannot)?;
            let watched = Arc::new(counts.clone());
            Some(tokio::spawn(lucarne_metrics::serve(listener, watched, monitoring.clone())))
        }
        None => None,
    };
    let said = (|| {
        let holder = Holder {
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            build: build()?,
            listen: config.listen,
            port,
            metrics: config.metrics_listen,
            host: identity.about.id.to_string(),
        };
        lock.rewind()?;
        lock.write_all(&serde_json::to_vec(&holder)?)
    })();
    said.map_err(failed)?;
    tracing::info!(port, host = identity.about.name, "takes viewers' streams");

    let fresh = tokio::spawn(keep_fresh(identity, Arc::clone(&server)));
    let tasks = TaskTracker::new();
    let socket = Arc::new(config.socket);
    let shaking = Arc::new(Semaphore::new(SHAKING));
    loop {
        let (stream, address) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    tracing::error!(error = %e, "cannot accept a gateway; trying again");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let Ok(shaking) = Arc::clone(&shaking).try_acquire_owned() else {
            tracing::debug!(%address, "more than {SHAKING} connections are in their handshake; one was closed");
            counts.connection(Outcome::Crowded);
            continue;
        };
        let acceptor = TlsAcceptor::from(Arc::clone(&server.lock().unwrap_or_else(PoisonError::into_inner)));
        let (socket, counts) = (Arc::clone(&socket), counts.clone());
        tasks.spawn(async move {
            let begun = timeout(PATIENCE, begin(stream, acceptor, &*socket)).await;
            drop(shaking);
            match begun {
                Ok(Ok((gateway, desktop))) => {
                    counts.connection(Outcome::Taken);
                    copy(gateway, counts.stream(desktop)).await;
                }
                // Anybody may try: this is no place to fill a disk from.
                Ok(Err(e)) => {
                    counts.connection(Outcome::Refused);
                    tracing::debug!(error = %e, %address, "a stream was not taken");
                }
                Err(_) => {
                    counts.connection(Outcome::Late);
                    tracing::debug!(%address, "a gateway was too slow to say what it wants");
                }
            }
        });
    }
    // Another may accept from here on.
    drop(listener);
    monitoring.cancel();
    if let Some(monitored) = monitored {
        // Its address is free before another takes this one's place.
        let _ = monitored.await;
    }
    let _ = lock.set_len(0);
    drop(lock);
    fresh.abort();
    tasks.close();
    tracing::info!(streams = tasks.len(), "takes no new streams");
    tasks.wait().await;
    Ok(())
}

async fn keep_fresh(identity: Identity, server: Arc<Mutex<Arc<ServerConfig>>>) {
    let mut used = identity.certificate();
    let mut look = interval(LOOK);
    loop {
        look.tick().await;
        let now = identity.certificate();
        if now == used {
            continue;
        }
        match identity.credentials().map(|c| c.server(Clients::Must)) {
            Ok(Ok(fresh)) => {
                *server.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
                used = now;
            }
            Ok(Err(e)) => tracing::error!(error = %e, "the new certificate cannot be used"),
            Err(e) => tracing::error!(error = %e, "the new certificate cannot be used"),
        }
    }
}

/// Handshake, the line, and the desktop's socket.
async fn begin(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    socket: &(dyn Fn(DesktopId) -> PathBuf + Send + Sync),
) -> io::Result<(TlsStream<TcpStream>, UnixStream)> {
    dial::prepare(&stream)?;
    socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT)?;
    let mut gateway = acceptor.accept(stream).await?;
    let shown = gateway.get_ref().1.peer_certificates().and_then(<[_]>::first).map(Role::of);
    match shown {
        Some(Ok(Role::Broker)) => {}
        Some(Ok(Role::Host(id))) => {
            return Err(io::Error::other(format!("the host {id} came in a broker's place")));
        }
        Some(Err(e)) => return Err(io::Error::other(e)),
        None => return Err(io::Error::other("it showed no certificate")),
    }
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        if line.len() > MAX_LINE {
            return Err(io::Error::other("its first line is too long"));
        }
        line.push(gateway.read_u8().await?);
    }
    let open: Open = serde_json::from_slice(&line)?;
    match UnixStream::connect(socket(open.desktop)).await {
        Ok(mut desktop) => {
            desktop.write_all(&line).await?;
            Ok((gateway, desktop))
        }
        Err(e) => {
            let reason = format!("the desktop {} is not on this host: {e}", open.desktop);
            let mut answer = serde_json::to_vec(&Opened::Refused { reason: reason.clone() })?;
            answer.push(b'\n');
            gateway.write_all(&answer).await?;
            gateway.shutdown().await?;
            Err(io::Error::other(reason))
        }
    }
}

/// Copies until both sides are done.
async fn copy(mut gateway: TlsStream<TcpStream>, mut desktop: Counted) {
    let copied = tokio::io::copy_bidirectional_with_sizes(&mut gateway, &mut desktop, BUFFER, BUFFER).await;
    if let Err(e) = copied {
        tracing::debug!(error = %e, "a stream broke");
    }
}
