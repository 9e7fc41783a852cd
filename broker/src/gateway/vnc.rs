//! Ordinary VNC viewers: the handshake at the [`door`](super::door), then a byte stream.
//!
//! ```text
//! viewer ── RFB version, security type, claim ────────────► gateway
//!           connect (as by the API), RFB 3.8 None ──────────► desktop
//! viewer ◄─ SecurityResult, with the reason if there is no desktop
//! viewer ◄═ bytes from ClientInit on ═══════════════════════► desktop
//! ```
//!
//! A viewer that is willing to share joins those that are there; one that is not takes over from them. After ClientInit RFB
//! has no words for why a stream ends, so a viewer that has to go gets a clean close.
//!
//! The user name is `name` (the pool of which the user has a desktop, else the first that they may use) or
//! `name/pool`. A one-time password names its session by itself.

use super::door::{self, Claim, Door, Error, PATIENCE, pump};
use super::link;
use super::splice::{self, Over};
use super::tcp::Ends;
use crate::accept::{Handshaking, Limits, accept};
use crate::app::App;
use crate::auth::{self, Refused};
use crate::connect::{self, At, Outcome};
use crate::throttle::Throttle;
use crate::viewers::Newcomer;
use lucarne_control::desktop::DesiredState;
use lucarne_control::viewer::{ViewerKind, ViewerWish};
use lucarne_control::{SessionId, UserId};
use lucarne_core::Entry;
use lucarne_core::store::{self, Assigned, PoolRow, Reach};
use lucarne_rfb::client;
use lucarne_rfb::security::vnc_auth::CHALLENGE;
use lucarne_rfb::server::HandshakeEvent;
use rustix::net::sockopt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Viewers at once, and those of them that are not signed in yet.
const LIMITS: Limits = Limits { connections: 4096, handshaking: 64 };

/// The longest wait for the desktop's picture. Viewers show nothing meanwhile and give up on their own.
const WAIT: Duration = Duration::from_secs(45);

/// A viewer whose network is gone is noticed after this.
const DEAD: Duration = Duration::from_secs(60);

/// Accepts viewers until `shutdown`.
pub async fn listen(app: Arc<App>, listener: TcpListener, door: Door, shutdown: CancellationToken) {
    let (door, failures) = (Arc::new(door), Arc::new(Throttle::default()));
    accept("VNC viewers", listener, LIMITS, shutdown, move |stream, address, shaking| {
        let (app, door, failures) = (Arc::clone(&app), Arc::clone(&door), Arc::clone(&failures));
        async move {
            if let Err(e) = viewer(&app, stream, address, &door, shaking).await
                && let Some(unlogged) = failures.pass(Instant::now())
            {
                tracing::info!(error = %e, %address, unlogged, "a VNC viewer did not get a desktop");
            }
        }
    })
    .await;
}

async fn viewer(
    app: &Arc<App>,
    stream: TcpStream,
    address: SocketAddr,
    door: &Door,
    shaking: Handshaking,
) -> Result<(), Error> {
    sockopt::set_socket_keepalive(&stream, true).map_err(io::Error::from)?;
    sockopt::set_tcp_keepidle(&stream, DEAD).map_err(io::Error::from)?;
    sockopt::set_tcp_user_timeout(&stream, DEAD.as_millis() as u32).map_err(io::Error::from)?;
    let ends = Ends::of(&stream).ok();
    let secured = door.sign_in(stream, Instant::now() + PATIENCE).await;
    drop(shaking);
    let (mut viewer, mut shake, claim) = secured?;
    let from = address.ip().to_canonical();
    let (name, found) = match claim {
        Claim::Password(name, password) => {
            let found = desktop(app, &name, password.expose(), from).await;
            (name, found)
        }
        Claim::Response { challenge, response } => {
            ("a one-time password".to_owned(), of_one_time_password(app, &challenge, &response, from).await)
        }
    };
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
    let init = pump(&mut viewer, &mut shake, Instant::now() + PATIENCE).await?;
    // What the viewer's user wants (RFC 6143, section 7.3.1).
    let wish = match init {
        HandshakeEvent::ClientInit { shared: true } => ViewerWish::Share,
        _ => ViewerWish::TakeOver,
    };
    let newcomer = Newcomer {
        entry: Entry::User(wish),
        user: app.store.session(session).await.map(|row| row.session.user).map_err(io::Error::other)?,
        address: from.to_string(),
        kind: ViewerKind::Vnc,
        security: door::name(shake.security()).to_owned(),
        notices: false,
    };
    // Always shared at the desktop: whether another viewer has to go is decided here, by session, and told to it.
    let mut init = Vec::new();
    client::write::client_init(true, &mut init);
    init.extend(shake.take_rest());
    desktop.write_all(&init).await?;
    desktop.flush().await?;
    let _known = app.connections.enter(session, ends);
    let over = splice::run(app, session, at.placed, newcomer, |end, _| async {
        tokio::select! {
            over = end => over,
            over = copy(&mut viewer, &mut desktop) => over,
        }
    })
    .await;
    tracing::info!(user = name, %address, %session, over = %over, "a VNC viewer's stream ended");
    // It may be gone already.
    let _ = timeout(Duration::from_secs(2), viewer.shutdown()).await;
    Ok(())
}

/// Copies bytes until one side goes. A viewer that does not go although its desktop did keeps nothing.
async fn copy(viewer: &mut (impl AsyncRead + AsyncWrite + Unpin), desktop: &mut link::Desktop) -> Over {
    let (mut from_viewer, mut to_viewer) = tokio::io::split(viewer);
    let (mut from_desktop, mut to_desktop) = tokio::io::split(desktop);
    tokio::select! {
        up = tokio::io::copy(&mut from_viewer, &mut to_desktop) => match up {
            Ok(_) => Over::Viewer,
            Err(e) => Over::Broken(e.to_string()),
        },
        down = tokio::io::copy(&mut from_desktop, &mut to_viewer) => match down {
            Ok(_) => Over::Desktop("the desktop's display closed the stream".to_owned()),
            Err(e) => Over::Broken(e.to_string()),
        },
    }
}

/// What a fault on our side is to the viewer's user.
fn internal(e: &dyn std::error::Error) -> String {
    tracing::error!(error = %e, "a VNC viewer could not be served");
    "the broker could not do this; its log says why".to_owned()
}

/// Name, password and pool become a connection to a desktop; the error is for the viewer's user.
async fn desktop(
    app: &Arc<App>,
    login: &str,
    password: &str,
    from: IpAddr,
) -> Result<(SessionId, At, link::Desktop), String> {
    let (name, pool) = match login.split_once('/') {
        Some((name, pool)) => (name, Some(pool)),
        None => (login, None),
    };
    let user = app.verify(name, password, from).await.map_err(|e| match e {
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
        connect::Error::Store(e @ store::Error::Fault(_)) => internal(&e),
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
    let stream = open(app, &at, session).await.map_err(|e| e.to_string())?;
    Ok((session, at, stream))
}

/// The answer of a one-time password becomes a connection to its session's desktop; the error is for the viewer's user.
async fn of_one_time_password(
    app: &Arc<App>,
    challenge: &[u8; CHALLENGE],
    response: &[u8; CHALLENGE],
    from: IpAddr,
) -> Result<(SessionId, At, link::Desktop), String> {
    let passwords = app.viewer_passwords.as_ref().ok_or("one-time passwords are off")?;
    let session = match passwords.redeem(challenge, response, from) {
        Ok(session) => session,
        Err(refused) => {
            if refused == auth::viewer_password::Refused::Wrong {
                let subject = format!("a VNC viewer from {from}");
                let note = app.store.note("system", "login.refused", &subject, "wrong one-time password");
                note.await.map_err(|e| internal(&e))?;
            }
            return Err(refused.to_string());
        }
    };
    let placed = app.store.session_desktop(session).await.map_err(|e| match e {
        store::Error::Fault(_) => internal(&e),
        refused => refused.to_string(),
    })?;
    let at = connect::reach(app, placed).await?;
    let stream = open(app, &at, session).await.map_err(|e| e.to_string())?;
    Ok((session, at, stream))
}

fn session(assigned: &Assigned) -> Option<SessionId> {
    assigned.session.as_ref().map(|s| s.session.id)
}

/// The pool of which the user has a desktop, else the first by name that they may use and that has room.
async fn choose(app: &Arc<App>, user: UserId) -> Result<Option<String>, store::Error> {
    let pools = app.store.pools_of(user).await?;
    let mut desktops = app.store.desktops(&Reach::own(user), false, None, i64::MAX).await?;
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
async fn open(app: &Arc<App>, at: &At, session: SessionId) -> Result<link::Desktop, OpenError> {
    let view = link::view(Entry::User(ViewerWish::TakeOver));
    let mut stream = link::open(app, &at.endpoint, &at.placed, Some(session), view).await?;
    let shaken = timeout(PATIENCE, async {
        let mut shake = client::Handshake::new(client::Want::None);
        let mut buffer = [0; 1024];
        loop {
            let mut out = Vec::new();
            let event = shake.poll(&mut out)?;
            stream.write_all(&out).await?;
            stream.flush().await?;
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
