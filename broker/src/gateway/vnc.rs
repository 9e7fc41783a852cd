//! Ordinary VNC viewers: RFB 3.7 and 3.8 with VeNCrypt (19), sub-types X509Plain (262) and TLSPlain (259), then a byte
//! stream.
//!
//! ```text
//! viewer ── RFB version, VeNCrypt, TLS, name and password ──► gateway
//!           connect (as by the API), RFB 3.8 None ──────────► desktop
//! viewer ◄─ SecurityResult, with the reason if there is no desktop
//! viewer ◄═ bytes from ClientInit on ═══════════════════════► desktop
//! ```
//!
//! The user name is `name` (the pool of which the user has a desktop, else the first that they may use) or
//! `name/pool`. Viewers choose the sub-type; X509Plain comes first in the offer, and viewers take the first that they know.

use super::anonymous::Anonymous;
use super::link;
use super::splice::{self, Over};
use crate::accept::{Handshaking, Limits, accept};
use crate::app::App;
use crate::auth::Refused;
use crate::connect::{self, At, Outcome};
use crate::store::{self, Assigned, PoolRow};
use lucarne_control::desktop::DesiredState;
use lucarne_control::link::Purpose;
use lucarne_control::{SessionId, UserId};
use lucarne_rfb::security::{Password, Subtype};
use lucarne_rfb::{client, server};
use rustix::net::sockopt;
use rustls::ServerConfig;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Viewers at once, and those of them that are not signed in yet.
const LIMITS: Limits = Limits { connections: 4096, handshaking: 64 };

/// The longest handshake up to the password, and from the answer to ClientInit. People type the password before the
/// viewer connects or while TLS is up, so it is the longest that a person may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest wait for the desktop's picture. Viewers show nothing meanwhile and give up on their own.
const WAIT: Duration = Duration::from_secs(45);

/// A viewer whose network is gone is noticed after this.
const DEAD: Duration = Duration::from_secs(60);

/// Why a viewer got nothing.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Handshake(#[from] server::HandshakeError),
    #[error("the handshake took more than {} s", PATIENCE.as_secs())]
    Slow,
}

/// How viewers are let in.
pub struct Door {
    subtypes: Vec<Subtype>,
    certified: TlsAcceptor,
    anonymous: Anonymous,
}

impl Door {
    /// Offers these sub-types in this order; those with a certificate show `tls`'s.
    ///
    /// # Errors
    /// OpenSSL cannot do anonymous TLS.
    pub fn new(subtypes: Vec<Subtype>, tls: Arc<ServerConfig>) -> io::Result<Self> {
        Ok(Self { subtypes, certified: TlsAcceptor::from(tls), anonymous: Anonymous::new()? })
    }
}

/// A viewer's connection, whichever TLS it is in.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Accepts viewers until `shutdown`.
pub async fn listen(app: Arc<App>, listener: TcpListener, door: Door, shutdown: CancellationToken) {
    let door = Arc::new(door);
    accept(listener, LIMITS, shutdown, move |stream, address, shaking| {
        let (app, door) = (Arc::clone(&app), Arc::clone(&door));
        async move {
            if let Err(e) = viewer(&app, stream, address, &door, shaking).await {
                tracing::info!(error = %e, %address, "a VNC viewer did not get a desktop");
            }
        }
    })
    .await;
}

async fn viewer(
    app: &App,
    stream: TcpStream,
    address: SocketAddr,
    door: &Door,
    shaking: Handshaking,
) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true).map_err(io::Error::from)?;
    sockopt::set_tcp_keepidle(&stream, DEAD).map_err(io::Error::from)?;
    sockopt::set_tcp_user_timeout(&stream, DEAD.as_millis() as u32).map_err(io::Error::from)?;
    let mut out = Vec::new();
    let mut shake = server::Handshake::new(server::Offer::vencrypt(door.subtypes.clone()), &mut out);
    let secured = timeout(PATIENCE, sign_in(stream, door, &mut shake, out)).await;
    drop(shaking);
    let (mut viewer, name, password) = secured.map_err(|_| Error::Slow)??;
    let found = desktop(app, &name, password.expose(), address.ip().to_canonical()).await;
    drop(password);
    let mut out = Vec::new();
    let (session, at, mut desktop) = match found {
        Ok(found) => found,
        Err(reason) => {
            shake.reject(&reason, &mut out);
            viewer.write_all(&out).await?;
            viewer.shutdown().await?;
            tracing::info!(user = name, %address, reason, "a VNC viewer was refused");
            return Ok(());
        }
    };
    shake.accept(&mut out)?;
    viewer.write_all(&out).await?;
    viewer.flush().await?;
    timeout(PATIENCE, pump(&mut viewer, &mut shake)).await.map_err(|_| Error::Slow)??;
    // Always shared: whether another viewer has to go is decided here, by session, and told to it.
    let mut init = Vec::new();
    client::write::client_init(true, &mut init);
    init.extend(shake.take_rest());
    desktop.write_all(&init).await?;
    let over = splice::run(app, session, at.placed, |end| async {
        tokio::select! {
            over = end => over,
            copied = tokio::io::copy_bidirectional(&mut viewer, &mut desktop) => match copied {
                Ok(_) => Over::Viewer,
                Err(e) => Over::Desktop(e.to_string()),
            },
        }
    })
    .await;
    tracing::debug!(user = name, %address, over = %over, "a VNC viewer's stream ended");
    // It may be gone already.
    let _ = timeout(Duration::from_secs(2), viewer.shutdown()).await;
    Ok(())
}

/// Runs the handshake up to name and password.
async fn sign_in(
    stream: TcpStream,
    door: &Door,
    shake: &mut server::Handshake,
    out: Vec<u8>,
) -> Result<(Box<dyn Stream>, String, Password), Error> {
    let mut stream = stream;
    stream.write_all(&out).await?;
    let server::HandshakeEvent::StartTls(subtype) = pump(&mut stream, shake).await? else {
        return Err(server::HandshakeError::OutOfOrder("anything but TLS").into());
    };
    // Bytes that came along with the choice of TLS are its first record's.
    let early = io::Cursor::new(shake.take_rest());
    let (read, write) = stream.into_split();
    let stream = tokio::io::join(early.chain(read), write);
    let mut stream: Box<dyn Stream> = if subtype.has_certificate() {
        Box::new(door.certified.accept(stream).await?)
    } else {
        Box::new(door.anonymous.accept(stream).await?)
    };
    let mut out = Vec::new();
    shake.tls_started(&mut out)?;
    stream.write_all(&out).await?;
    match pump(&mut stream, shake).await? {
        server::HandshakeEvent::Plain { user, password } => Ok((stream, user, password)),
        _ => Err(server::HandshakeError::OutOfOrder("no name and password").into()),
    }
}

/// Feeds the handshake until it has an event.
async fn pump<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    shake: &mut server::Handshake,
) -> Result<server::HandshakeEvent, Error> {
    let mut buffer = [0; 4096];
    loop {
        let mut out = Vec::new();
        let polled = shake.poll(&mut out);
        stream.write_all(&out).await?;
        stream.flush().await?;
        if let Some(event) = polled? {
            return Ok(event);
        }
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the viewer went").into());
        }
        shake.feed(&buffer[..n])?;
    }
}

/// Name, password and pool become a connection to a desktop; the error is for the viewer's user.
async fn desktop(
    app: &App,
    login: &str,
    password: &str,
    from: IpAddr,
) -> Result<(SessionId, At, UnixStream), String> {
    let (name, pool) = match login.split_once('/') {
        Some((name, pool)) => (name, Some(pool)),
        None => (login, None),
    };
    let internal = |e: &dyn std::error::Error| {
        tracing::error!(error = %e, "a VNC viewer could not be served");
        "the broker could not do this; its log says why".to_owned()
    };
    let user = app.auth.verify(name, password, from).await.map_err(|e| match e {
        Refused::Fault(e) => internal(&e),
        refused => refused.to_string(),
    })?;
    let pool = match pool {
        Some(pool) => pool.to_owned(),
        None => choose(app, user)
            .await
            .map_err(|e| internal(&e))?
            .ok_or_else(|| format!("{name} is not entitled to any pool; ask an administrator"))?,
    };
    let outcome = connect::connect(app, user, name, &pool, WAIT).await.map_err(|e| match e {
        connect::Error::Store(e @ (store::Error::Sql(_) | store::Error::Corrupt { .. })) => internal(&e),
        refused => refused.to_string(),
    })?;
    let (assigned, at) = match outcome {
        Outcome::Ready { assigned, at } => (assigned, at),
        Outcome::Waiting { detail, progress, .. } => {
            let share = progress.map(|p| format!(" ({p} %)")).unwrap_or_default();
            return Err(format!("the desktop is not ready: {detail}{share}; try again in a moment"));
        }
    };
    let session = session(&assigned).ok_or("the desktop has no session; try again")?;
    let stream = open(&at, session).await.map_err(|e| e.to_string())?;
    Ok((session, at, stream))
}

fn session(assigned: &Assigned) -> Option<SessionId> {
    assigned.session.as_ref().map(|s| s.session.id)
}

/// The pool of which the user has a desktop, else the first by name that they may use and that has room.
async fn choose(app: &App, user: UserId) -> Result<Option<String>, store::Error> {
    let pools = app.store.pools_of(user).await?;
    let mut desktops = app.store.desktops(Some(user), false, "", i64::MAX).await?;
    desktops.retain(|d| d.desired == DesiredState::Running);
    let has = |p: &&PoolRow| desktops.iter().any(|d| d.pool == p.name);
    let room = |p: &&PoolRow| p.desktops < p.max_desktops;
    let chosen = pools.iter().find(has).or_else(|| pools.iter().find(room)).or(pools.first());
    Ok(chosen.map(|p| p.name.clone()))
}

/// Why the desktop did not let the gateway in.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error("the desktop's display broke off: {0}; try again")]
    Io(#[from] io::Error),
    #[error("the desktop's display: {0}")]
    Handshake(#[from] client::HandshakeError),
    #[error("the desktop's display did not answer in time; try again")]
    Slow,
}

/// Connects to the desktop's display and runs the client's handshake (3.8, None) up to ClientInit.
async fn open(at: &At, session: SessionId) -> Result<UnixStream, OpenError> {
    let view = Purpose::View { view_only: false };
    let mut stream = link::open(&at.endpoint, &at.placed, Some(session), view).await?;
    let shaken = timeout(PATIENCE, async {
        let mut shake = client::Handshake::new(client::Want::None);
        let mut buffer = [0; 1024];
        loop {
            let mut out = Vec::new();
            let event = shake.poll(&mut out)?;
            stream.write_all(&out).await?;
            if event == Some(client::HandshakeEvent::Secured) {
                return Ok(());
            }
            let n = stream.read(&mut buffer).await?;
            if n == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            shake.feed(&buffer[..n])?;
        }
    })
    .await;
    shaken.map_err(|_| OpenError::Slow)?.map(|()| stream)
}
