//! What carries the links to host agents: each dials the broker, by its Unix socket or by the network, and speaks
//! [`lucarne_control::agent`] by WebSocket. What is said there is for [`lucarne_core::hosts`]; here are sockets, silence, and
//! who may speak: on the Unix socket root and the broker's own user, on the network whoever shows a host's certificate. Who
//! shows none can ask for one ([`crate::enroll`]).
//!
//! A second agent of a name that is linked here is refused, since two agents with one desired set would run each desktop
//! twice.

use crate::accept::{Handshaking, Limits, accept};
use crate::app::App;
use crate::enroll;
use crate::names::Claim;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use lucarne_control::HostId;
use lucarne_control::agent::{FromAgent, Hello, PROTOCOL_VERSION, ToAgent};
use lucarne_core::hosts;
use lucarne_core::store::Origin;
use lucarne_trust::{PublicKey, Role};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};
use tokio_util::sync::CancellationToken;

/// Time to say `Hello`, and for one message to be taken. Longer: a stuck agent is noticed later.
const PATIENCE: Duration = Duration::from_secs(15);

/// An agent that is silent for this long is gone; it beats every 5 s ± 20 %, so four beats may be lost.
const SILENCE: Duration = Duration::from_secs(30);

/// How often the agent is shown that the broker is there.
const PING: Duration = Duration::from_secs(5);

/// Time for an agent to hear why it is refused.
const FAREWELL: Duration = Duration::from_secs(2);

/// The largest message, bytes: some 20,000 desktops. Bounds the memory that one agent can take.
const LARGEST: usize = 16 << 20;

/// Bytes read of a link at once. More: memory for each host, of which there may be thousands. Less: long messages take more reads.
const BUFFER: usize = 4 << 10;

/// Messages that wait on one link, either way.
const WAITING: usize = 64;

/// The longest name by which a host may be reached (RFC 1035, section 2.3.4).
const LONGEST_ADDRESS: usize = 253;

/// Agents and newcomers on the network at once.
const LIMITS: Limits = Limits { connections: 20_000, handshaking: 256 };

/// What a link goes over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

type Socket<S> = WebSocketStream<S>;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the agent did not say Hello within {} s", PATIENCE.as_secs())]
    NoHello,
    #[error("the agent was silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the agent was refused: {0}")]
    Refused(String),
    #[error("the agent sent a message that cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("the agent went away without a word")]
    Broken,
    #[error("the link failed: {0}")]
    Socket(#[source] tungstenite::Error),
    #[error(transparent)]
    Served(#[from] hosts::LinkError),
    #[error("the broker is going away")]
    Shutdown,
}

impl From<tungstenite::Error> for LinkError {
    fn from(e: tungstenite::Error) -> Self {
        match e {
            // As TLS says it, it would lead to a page about TLS.
            tungstenite::Error::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Self::Broken,
            e => Self::Socket(e),
        }
    }
}

/// Accepts agents of this machine until `shutdown`.
pub async fn listen(app: Arc<App>, listener: UnixListener, shutdown: CancellationToken) {
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::error!(error = %e, "cannot accept a host agent");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let trusted = stream.peer_cred().is_ok_and(|c| c.uid() == 0 || c.uid() == app.uid);
        if !trusted {
            tracing::warn!("a process of another user tried to be a host agent; it was turned away");
            continue;
        }
        let app = Arc::clone(&app);
        let shutdown = shutdown.clone();
        let links = app.links.clone();
        links.spawn(async move {
            let why = serve(&app, stream, Comer::Here, shutdown).await;
            tracing::info!(reason = %why, "a host agent's link ended");
        });
    }
}

/// Accepts agents, and those who want to become hosts, on the network until `shutdown`.
pub async fn listen_on_network(app: Arc<App>, listener: TcpListener, shutdown: CancellationToken) {
    let stop = shutdown.clone();
    accept("hosts", listener, LIMITS, shutdown, move |stream, address, shaking| {
        let (app, stop) = (Arc::clone(&app), stop.clone());
        async move {
            let acceptor = TlsAcceptor::from(app.trust.server());
            let stream = match timeout(PATIENCE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(e)) => {
                    tracing::debug!(error = %e, %address, "a host was turned away");
                    return;
                }
                Err(_) => return,
            };
            let Some(certificate) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) else {
                // A stranger until the end.
                return enroll::answer(&app, stream, address).await;
            };
            let who = Role::of(certificate).and_then(|role| Ok((role, PublicKey::of(certificate)?)));
            let (host, key) = match who {
                Ok((Role::Host(host), key)) => (host, key),
                Ok((Role::Broker, _)) => {
                    tracing::debug!(%address, "a broker came where hosts come in; it was turned away");
                    return;
                }
                Err(e) => {
                    tracing::debug!(error = %e, %address, "a host was turned away");
                    return;
                }
            };
            let comer = Comer::Network { host, key, address, shaking };
            let link = app.links.clone();
            let why = link.track_future(serve(&app, stream, comer, stop)).await;
            tracing::info!(reason = %why, %address, "a host agent's link ended");
        }
    })
    .await;
}

async fn serve<S: Stream>(app: &Arc<App>, stream: S, comer: Comer, shutdown: CancellationToken) -> LinkError {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LARGEST))
        .max_frame_size(Some(LARGEST))
        .read_buffer_size(BUFFER);
    let socket = match timeout(PATIENCE, accept_async_with_config(stream, Some(config))).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(e)) => return e.into(),
        Err(_) => return LinkError::NoHello,
    };
    let (mut tx, mut rx) = socket.split();
    let hello = match timeout(PATIENCE, next(&mut rx)).await {
        Ok(Ok(Some(FromAgent::Hello(hello)))) => hello,
        Ok(Ok(Some(_))) => {
            return refuse(&mut tx, &mut rx, "the first message has to be Hello".to_owned()).await;
        }
        Ok(Ok(None)) => return hosts::LinkError::Closed.into(),
        Ok(Err(e)) => return e,
        Err(_) => return LinkError::NoHello,
    };
    if hello.protocol != PROTOCOL_VERSION {
        let reason = format!(
            "this broker speaks version {PROTOCOL_VERSION} of the agent protocol, and the agent version {}; \
             install the same release on both",
            hello.protocol
        );
        return refuse(&mut tx, &mut rx, reason).await;
    }
    // Who it is comes before its name is taken: others have to be able to come by theirs.
    let origin = match comer.origin(app, &hello).await {
        Ok(origin) => origin,
        Err(reason) => return refuse(&mut tx, &mut rx, reason).await,
    };
    let Some(claim) = app.names.claim(&hello.host) else {
        let reason = format!(
            "another agent is connected as the host {:?}; give each host its own name, or stop the other agent. (After a cut \
             the link before may still be ending; then the agent gets through in a moment)",
            hello.host
        );
        return refuse(&mut tx, &mut rx, reason).await;
    };
    linked(app, (&hello, &origin), (tx, rx), claim, shutdown).await
}

/// Who comes.
enum Comer {
    /// Somebody of this machine whom it trusts.
    Here,
    /// Who has a host's certificate, from this address.
    Network { host: HostId, key: PublicKey, address: SocketAddr, shaking: Handshaking },
}

impl Comer {
    /// By which way the agent comes, if it is the host's that it says it is; the error is for people.
    async fn origin(self, app: &App, hello: &Hello) -> Result<Origin, String> {
        let Self::Network { host, key, address, shaking } = self else { return Ok(Origin::Here) };
        let known = app.store.enrolled(host, key.as_bytes()).await.map_err(|e| e.to_string())?;
        if known.name != hello.host {
            return Err(format!(
                "its certificate is that of the host {}, and it says that it is {}; if it was enrolled again, restart its agent",
                known.name, hello.host
            ));
        }
        let Some(door) = &hello.streams else {
            return Err("its agent does not say where it takes viewers' streams".to_owned());
        };
        let address = match door.address.as_deref() {
            // An IPv6 address has to be told from its port.
            Some(named) if named.parse::<Ipv6Addr>().is_ok() => format!("[{named}]:{}", door.port),
            Some(named) if named.len() > LONGEST_ADDRESS => return Err("its address is too long".to_owned()),
            Some(named) => format!("{named}:{}", door.port),
            None => SocketAddr::new(address.ip(), door.port).to_string(),
        };
        drop(shaking);
        Ok(Origin::Enrolled { host, public_key: key.as_bytes().to_vec(), address })
    }
}

/// The life of a link whose name is claimed.
async fn linked<S: Stream>(
    app: &App,
    (hello, origin): (&Hello, &Origin),
    (mut tx, mut rx): (SplitSink<Socket<S>, Message>, SplitStream<Socket<S>>),
    claim: Claim,
    shutdown: CancellationToken,
) -> LinkError {
    let (heard, inbox) = mpsc::channel(WAITING);
    let (outbox, mut told) = mpsc::channel(WAITING);
    tracing::info!(host = hello.host, accel = hello.facts.accel, "a host agent is connected");
    // What ends first says why; that the link is lost is on record before its name is free again.
    let served = hosts::serve(&app.control, (hello, origin), inbox, outbox);
    let carried = async {
        let why = tokio::select! {
            why = hear(&mut rx, heard) => why,
            why = tell(&mut tx, &mut told) => why,
            () = shutdown.cancelled() => LinkError::Shutdown,
        };
        // With the channels closed the link ends, and says so on record.
        drop(told);
        why
    };
    let (served, carried) = tokio::join!(served, carried);
    // It is not linked any more; that it may take a while to hear so keeps nobody out.
    drop(claim);
    match (&served, &carried) {
        (hosts::LinkError::Store(_) | hosts::LinkError::Refused(_) | hosts::LinkError::Missing(_), _) => {
            refuse(&mut tx, &mut rx, served.to_string()).await;
            served.into()
        }
        (hosts::LinkError::Closed, _) => {
            let _ = timeout(Duration::from_secs(1), tx.close()).await;
            carried
        }
    }
}

/// Passes on what the agent says, until it says no more.
async fn hear<S: Stream>(rx: &mut SplitStream<Socket<S>>, heard: mpsc::Sender<FromAgent>) -> LinkError {
    loop {
        let message = match timeout(SILENCE, next(rx)).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return hosts::LinkError::Closed.into(),
            Ok(Err(e)) => return e,
            Err(_) => return LinkError::Silent,
        };
        if heard.send(message).await.is_err() {
            return hosts::LinkError::Closed.into();
        }
    }
}

/// Tells the agent what is for it, and that the broker is there.
async fn tell<S: Stream>(
    tx: &mut SplitSink<Socket<S>, Message>,
    told: &mut mpsc::Receiver<ToAgent>,
) -> LinkError {
    let mut ping = interval(PING);
    loop {
        let sent = tokio::select! {
            message = told.recv() => match message {
                Some(message) => timeout(PATIENCE, send(tx, &message)).await,
                None => return hosts::LinkError::Closed.into(),
            },
            _ = ping.tick() => timeout(PATIENCE, async { Ok(tx.send(Message::Ping(Vec::new().into())).await?) }).await,
        };
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return e,
            Err(_) => return LinkError::Silent,
        }
    }
}

async fn send<S: Stream>(tx: &mut SplitSink<Socket<S>, Message>, message: &ToAgent) -> Result<(), LinkError> {
    let text = serde_json::to_string(message)?;
    Ok(tx.send(Message::text(text)).await?)
}

async fn refuse<S: Stream>(
    tx: &mut SplitSink<Socket<S>, Message>,
    rx: &mut SplitStream<Socket<S>>,
    reason: String,
) -> LinkError {
    let message = ToAgent::Refused { reason: reason.clone() };
    // The agent may be gone already; then there is nobody to tell.
    let _ = timeout(FAREWELL, async {
        send(tx, &message).await?;
        tx.close().await?;
        // What it still says is taken: a socket that is closed on unread words takes ours along.
        while next(rx).await?.is_some() {}
        Ok::<_, LinkError>(())
    })
    .await;
    LinkError::Refused(reason)
}

async fn next<S: Stream>(rx: &mut SplitStream<Socket<S>>) -> Result<Option<FromAgent>, LinkError> {
    loop {
        match rx.next().await {
            None | Some(Ok(Message::Close(_))) => return Ok(None),
            Some(Err(e)) => return Err(e.into()),
            Some(Ok(Message::Text(text))) => return Ok(Some(serde_json::from_str(&text)?)),
            Some(Ok(_)) => {}
        }
    }
}
