//! The gateway's side of [`lucarne_control::link`]: a connection to a desktop process, after it checked who is meant; by the
//! network its host is in between, and has shown its certificate.

use crate::app::App;
use lucarne_control::desktop::Endpoint;
use lucarne_control::link::{MAX_LINE, Open, Opened, Purpose};
use lucarne_control::{HostId, SessionId};
use lucarne_core::Entry;
use lucarne_core::store::{self, PlacedDesktop};
use lucarne_trust::{PublicKey, Role};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// A host that does not answer for this long is gone. Shorter: a short cut ends streams. Longer: after a long one they come back
/// later.
const CUT: Duration = Duration::from_secs(30);

/// The longest wait for a desktop process to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a desktop's display was not reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens, or the connection broke.
    #[error("the desktop's display cannot be reached: {0}; try again")]
    Io(#[from] std::io::Error),
    /// It took too long.
    #[error("the desktop's display did not answer within {} s; try again", PATIENCE.as_secs())]
    Silent,
    /// Its host does not answer as that host.
    #[error("the desktop's host at {address} cannot be reached: {source}; try again")]
    Host {
        /// Where.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The database, or what it says of the host.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A certificate.
    #[error("the desktop's host cannot be asked for: {0}")]
    Trust(#[from] lucarne_trust::Error),
    /// It said no.
    #[error("the desktop's display refused the connection: {0}")]
    Refused(String),
    /// It said something else.
    #[error("the desktop's display gave an answer that cannot be read: {0}")]
    Unreadable(String),
}

/// A connection to a desktop process.
pub type Desktop = Either<UnixStream, Box<TlsStream<TcpStream>>>;

/// What a viewer that comes in like this may do at the desktop.
pub fn view(entry: Entry) -> Purpose {
    Purpose::View { view_only: !entry.control(), shadow: matches!(entry, Entry::Shadow { .. }) }
}

/// Connects to a desktop's display and says which desktop, generation and session are meant. What was asked for
/// follows on the stream.
///
/// # Errors
/// [`Error`].
pub async fn open(
    app: &App,
    endpoint: &Endpoint,
    placed: &PlacedDesktop,
    session: Option<SessionId>,
    purpose: Purpose,
) -> Result<Desktop, Error> {
    let open = Open { desktop: placed.desktop, generation: placed.generation, session, purpose };
    timeout(PATIENCE, exchange(app, placed.host, endpoint, &open)).await.map_err(|_| Error::Silent)?
}

/// Has the kernel notice when the host is gone, also while nothing is sent: its relay does the same.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(CUT / 3).with_interval(CUT / 6))?;
    socket.set_tcp_user_timeout(Some(CUT))
}

async fn dial(app: &App, host: HostId, endpoint: &Endpoint) -> Result<Desktop, Error> {
    match endpoint {
        Endpoint::Unix { path } => Ok(Either::Left(UnixStream::connect(path).await?)),
        Endpoint::Host { address } => {
            let name = Role::Host(host).server_name()?;
            let there = async {
                let stream = TcpStream::connect(address).await?;
                prepare(&stream)?;
                TlsConnector::from(app.trust.client()).connect(name, stream).await
            };
            let stream = there.await.map_err(|source| Error::Host { address: address.clone(), source })?;
            // A certificate of before the host was enrolled again is valid, and is not that host's any more.
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let shown = shown.map(PublicKey::of).transpose()?.ok_or(Error::Silent)?;
            app.store.enrolled(host, shown.as_bytes()).await?;
            Ok(Either::Right(Box::new(stream)))
        }
    }
}

async fn exchange(app: &App, host: HostId, endpoint: &Endpoint, open: &Open) -> Result<Desktop, Error> {
    let mut stream = dial(app, host, endpoint).await?;
    let mut line = serde_json::to_vec(open).map_err(|e| Error::Unreadable(e.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await?;
    // Byte by byte, so that nothing of what follows is taken off the stream; it is a few dozen bytes, once.
    let mut answer = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            _ if answer.len() == MAX_LINE => {
                return Err(Error::Unreadable("its line is too long".to_owned()));
            }
            byte => answer.push(byte),
        }
    }
    match serde_json::from_slice(&answer).map_err(|e| Error::Unreadable(e.to_string()))? {
        Opened::Ok => Ok(stream),
        Opened::Refused { reason } => Err(Error::Refused(reason)),
    }
}
