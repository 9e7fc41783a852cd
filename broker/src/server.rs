//! The listeners: HTTPS on TCP, and the same API on a Unix socket for administrators of this machine.
//!
//! Bounds what strangers can hold: connections, in `accept`, and the time for each step.

use crate::accept::{Limits, accept, pause};
use crate::api::caller::Peer;
use crate::gateway::tcp::Ends;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Each connection takes some 50 KiB; a viewer holds one.
const LIMITS: Limits = Limits { connections: 8192, handshaking: 256 };

/// The longest handshake, and the longest wait for a request's headers.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first byte of a TLS connection (RFC 8446, section 5.1: handshake).
const TLS_HANDSHAKE: u8 = 0x16;

const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n\r\nthis is an https port: open the same address with https://\n";

/// Accepts HTTPS until `shutdown`, then lets running requests end.
pub async fn https(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let stop = shutdown.clone();
    accept("browsers", listener, LIMITS, shutdown, move |stream, address, shaking| {
        let (acceptor, router, stop) = (acceptor.clone(), router.clone(), stop.clone());
        async move {
            let ends = Ends::of(&stream).ok();
            let secured = timeout(PATIENCE, secure(stream, &acceptor)).await;
            drop(shaking);
            match secured {
                Ok(Ok(Some(stream))) => serve(stream, (Peer::Remote(address), ends), router, stop).await,
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(e)) => tracing::debug!(error = %e, %address, "a TLS handshake failed"),
            }
        }
    })
    .await;
}

/// The TLS handshake; `None` for a client that speaks plain HTTP, after it was told.
async fn secure(
    mut stream: TcpStream,
    acceptor: &TlsAcceptor,
) -> io::Result<Option<tokio_rustls::server::TlsStream<TcpStream>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
        if first[0].is_ascii_uppercase() {
            stream.write_all(PLAIN_HTTP).await?;
            stream.shutdown().await?;
        }
        return Ok(None);
    }
    acceptor.accept(stream).await.map(Some)
}

/// Accepts local administrators until `shutdown`.
pub async fn local(listener: UnixListener, router: Router, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    pause(&e).await;
                    continue;
                }
            },
        };
        let Ok(credentials) = stream.peer_cred() else { continue };
        let peer = Peer::Local { uid: credentials.uid() };
        tasks.spawn(serve(stream, (peer, None), router.clone(), shutdown.clone()));
    }
    tasks.close();
    let _ = timeout(Duration::from_secs(5), tasks.wait()).await;
}

/// The end of the connection that a request came by, whatever its peer takes or not; put into each request.
#[derive(Clone, Debug, Default)]
pub struct Cut(CancellationToken);

impl Cut {
    /// Ends it.
    pub fn now(&self) {
        self.0.cancel();
    }
}

async fn serve<S>(stream: S, (peer, ends): (Peer, Option<Ends>), router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let cut = Cut::default();
    let cutting = cut.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(cut.clone());
        if let Some(ends) = ends {
            request.extensions_mut().insert(ends);
        }
        router.call(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ending = async {
        tokio::select! {
            ended = &mut connection => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    tokio::select! {
        ended = ending => if let Err(e) = ended {
            tracing::debug!(error = %e, "a connection ended early");
        },
        () = cutting.0.cancelled() => tracing::debug!("a connection was cut whose peer takes nothing"),
    }
}

/// A Unix socket's file, which goes when it is not listened on any more.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_file(&self.0) {
            tracing::warn!(error = %e, socket = %self.0.display(), "cannot remove a socket");
        }
    }
}

/// Binds a Unix socket that only its owner can use, in the place of one that a dead process left.
///
/// # Errors
/// `AddrInUse` when a process still listens there; otherwise the file system's.
pub fn bind_private(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
        Err(e) => return Err(e),
    }
    // Under another name until its mode is right, so that there is no moment at which others can connect.
    let mut half = path.as_os_str().to_owned();
    half.push(".new");
    let half = PathBuf::from(half);
    match std::fs::remove_file(&half) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&half)?;
    std::fs::set_permissions(&half, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&half, path)?;
    Ok((listener, SocketFile(path.to_owned())))
}

/// The user id that this process makes files with.
///
/// # Errors
/// The file system's.
pub fn own_uid(file_of_ours: &Path) -> io::Result<u32> {
    Ok(std::fs::metadata(file_of_ours)?.uid())
}
