//! The link to the broker: the agent dials, says who it is and what is here, and takes the desired set. It tries for
//! ever, and nothing that runs depends on it.

pub(crate) use crate::config::Route;
use crate::error_chain;
use crate::machine::Machine;
use futures_util::{SinkExt, StreamExt};
use lucarne_control::agent::{
    Followed, FromAgent, Hello, HostFacts, Observed, PROTOCOL_VERSION, StreamDoor, ToAgent,
};
use lucarne_ledger::Refusal;
use lucarne_relay::{dial, identity};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

/// Time between heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Time between looks at the image store; images are added by another process.
const STORE_LOOK: Duration = Duration::from_secs(2);

/// A broker that is silent for this long is gone; it pings every 5 s.
const SILENCE: Duration = Duration::from_secs(30);

/// How long the reason of a broker that closed the link is waited for.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Bytes read at once.
const BUFFER: usize = 16 << 10;

/// First and longest wait between tries to reach the broker.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// A machine's link.
pub(crate) struct Link<M> {
    route: Route,
    /// Where gateways reach its desktops.
    streams: Option<StreamDoor>,
    /// Which of several brokers is tried next.
    turn: AtomicUsize,
    facts: HostFacts,
    machine: Arc<M>,
}

type Socket = WebSocketStream<Either<UnixStream, Box<TlsStream<TcpStream>>>>;

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the broker's socket {} (this machine is not enrolled, so its broker has to be on it)", .0.display())]
    Connect(PathBuf, #[source] std::io::Error),
    #[error("the broker at {0}")]
    Dial(String, #[source] std::io::Error),
    #[error("the host's identity")]
    Identity(#[from] identity::Error),
    #[error(
        "the host was given no broker to connect to; enrol it again with `lucarne host enroll --broker NAME:PORT`"
    )]
    NoBroker,
    #[error("the broker went away without a word")]
    Broken,
    #[error("the link")]
    WebSocket(#[source] tungstenite::Error),
    #[error("a message of the broker is not understood")]
    Json(#[from] serde_json::Error),
    #[error("what the broker desires is not followed")]
    NotFollowed(#[from] Refusal),
    #[error("what was followed cannot be kept on the disk")]
    Kept(#[source] std::io::Error),
    #[error("the broker was silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the broker refuses this host: {0}")]
    Refused(String),
}

impl<M: Machine> Link<M> {
    pub(crate) fn new(route: Route, streams: Option<StreamDoor>, facts: HostFacts, machine: Arc<M>) -> Self {
        Self { route, streams, turn: AtomicUsize::new(0), facts, machine }
    }

    /// Runs until `stop`, then hands over what is still to be told.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut wait = RETRY_FIRST;
        let mut said = String::new();
        while !stop.is_cancelled() {
            self.machine.look();
            match self.session(&stop, &mut wait).await {
                Ok(()) => {}
                Err(error) => {
                    let text = error_chain(&error);
                    // A broker that is away is said once, not every two seconds.
                    if text != said {
                        tracing::warn!(error = %text, "no link to the broker; trying on");
                        said = text;
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_MOST),
            }
        }
    }

    async fn dial(&self) -> Result<Either<UnixStream, Box<TlsStream<TcpStream>>>, LinkError> {
        match &self.route {
            Route::Here { socket, .. } => {
                let failed = |e| LinkError::Connect(socket.clone(), e);
                Ok(Either::Left(UnixStream::connect(socket).await.map_err(failed)?))
            }
            Route::Network { identity, .. } => {
                // As it is now: it may have been renewed.
                let client = identity.credentials()?.client().map_err(identity::Error::from)?;
                let brokers = &identity.about.brokers;
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let broker = brokers.get(turn % brokers.len().max(1)).ok_or(LinkError::NoBroker)?;
                let failed = |e| LinkError::Dial(broker.clone(), e);
                Ok(Either::Right(Box::new(dial::broker(broker, client).await.map_err(failed)?)))
            }
        }
    }

    async fn session(&self, stop: &CancellationToken, wait: &mut Duration) -> Result<(), LinkError> {
        let stream = self.dial().await?;
        let config = WebSocketConfig::default().read_buffer_size(BUFFER);
        let shaken = client_async_with_config("ws://broker/agent", stream, Some(config));
        let (mut socket, _) =
            tokio::time::timeout(SILENCE, shaken).await.map_err(|_| LinkError::Silent)??;
        match self.talk(&mut socket, stop, wait).await {
            // A broker that refuses does not listen any more; what it said before says more than that.
            Err(LinkError::WebSocket(error)) => {
                match tokio::time::timeout(LAST_WORD, refusal(&mut socket)).await {
                    Ok(Some(reason)) => Err(LinkError::Refused(reason)),
                    _ => Err(error.into()),
                }
            }
            over => over,
        }
    }

    async fn talk(
        &self,
        socket: &mut Socket,
        stop: &CancellationToken,
        wait: &mut Duration,
    ) -> Result<(), LinkError> {
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            host: self.route.host().to_owned(),
            version: env!("CARGO_PKG_VERSION").into(),
            facts: self.facts.clone(),
            followed: self.machine.hub().followed(),
            desktops: self.machine.hub().desktops(),
            streams: self.streams.clone(),
        };
        send(socket, &FromAgent::Hello(hello)).await?;
        let (everything, mut changes) = self.machine.hub().subscribe();
        let mut number = 0;
        observed(socket, &mut number, everything).await?;
        self.beat(socket).await?;
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut look = tokio::time::interval(STORE_LOOK);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(change) => observed(socket, &mut number, change).await?,
                    Err(RecvError::Lagged(_)) => {
                        let (everything, fresh) = self.machine.hub().subscribe();
                        changes = fresh;
                        observed(socket, &mut number, everything).await?;
                    }
                    Err(RecvError::Closed) => return Ok(()),
                },
                message = socket.next() => match message {
                    Some(message) => {
                        heard = Instant::now();
                        self.handle(message?, socket, wait).await?;
                    }
                    None => return Ok(()),
                },
                _ = heartbeat.tick() => self.beat(socket).await?,
                _ = look.tick() => self.machine.look(),
                () = tokio::time::sleep_until(heard + SILENCE) => return Err(LinkError::Silent),
                () = stop.cancelled() => {
                    while let Ok(change) = changes.try_recv() {
                        observed(socket, &mut number, change).await?;
                    }
                    socket.close(None).await?;
                    return Ok(());
                }
            }
        }
    }

    async fn beat(&self, socket: &mut Socket) -> Result<(), LinkError> {
        let (disk_free, memory_available) = self.machine.pulse();
        send(socket, &FromAgent::Heartbeat { disk_free, memory_available }).await
    }

    async fn handle(
        &self,
        message: Message,
        socket: &mut Socket,
        wait: &mut Duration,
    ) -> Result<(), LinkError> {
        let Message::Text(text) = message else { return Ok(()) };
        match serde_json::from_str(&text)? {
            ToAgent::Desired(desired) => {
                tracing::debug!(revision = desired.revision, desktops = desired.desktops.len(), "desired");
                // On the disk before anything is made by it.
                let told = Followed { epoch: desired.epoch, revision: desired.revision };
                if told > self.machine.hub().followed() {
                    self.machine.keep(told).map_err(LinkError::Kept)?;
                }
                self.machine.apply(&desired)?;
                if desired.since.is_none() {
                    tracing::info!("linked to the broker");
                    *wait = RETRY_FIRST;
                }
            }
            ToAgent::DeleteImage { digest } => {
                let error = self.machine.delete_image(&digest);
                self.machine.look();
                send(socket, &FromAgent::ImageDeleted { digest, error }).await?;
            }
            ToAgent::Refused { reason } => return Err(LinkError::Refused(reason)),
        }
        Ok(())
    }
}

impl From<tungstenite::Error> for LinkError {
    fn from(e: tungstenite::Error) -> Self {
        match e {
            // As TLS says it, it would lead to a page about TLS.
            tungstenite::Error::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Self::Broken,
            e => Self::WebSocket(e),
        }
    }
}

/// What a broker that closed the link refused it for, where it did.
async fn refusal(socket: &mut Socket) -> Option<String> {
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(text) = message
            && let Ok(ToAgent::Refused { reason }) = serde_json::from_str(&text)
        {
            return Some(reason);
        }
    }
    None
}

async fn observed(socket: &mut Socket, number: &mut u64, observed: Observed) -> Result<(), LinkError> {
    *number += 1;
    send(socket, &FromAgent::Observed(Observed { number: *number, ..observed })).await
}

async fn send(socket: &mut Socket, message: &FromAgent) -> Result<(), LinkError> {
    let text = serde_json::to_string(message)?;
    socket.send(Message::text(text)).await?;
    Ok(())
}
