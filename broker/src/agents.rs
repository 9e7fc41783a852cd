//! The links to host agents: each dials the broker's Unix socket and speaks [`lucarne_control::agent`] by WebSocket.
//!
//! ```text
//! accepted → Hello → (host on record) → Observed complete → Desired sent, again after each push
//!                                                           ↑ Observed deltas, heartbeats
//! ```
//!
//! A link's reader only fills [`Fleet`](crate::fleet::Fleet) and its writer only sends what the database says, so the
//! two cannot wait for each other. One link per host: a second agent of the same name is refused, since two agents
//! with one desired set would run each desktop twice.

use crate::app::App;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use lucarne_control::HostId;
use lucarne_control::agent::{FromAgent, Hello, Observed, PROTOCOL_VERSION, ToAgent};
use lucarne_control::spec::ImageDigest;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};
use tokio_util::sync::CancellationToken;

/// Time to say `Hello`, and for one message to be taken. Longer: a stuck agent is noticed later.
const PATIENCE: Duration = Duration::from_secs(15);

/// An agent that is silent for this long is gone; it beats every 5 s ± 20 %, so four beats may be lost.
const SILENCE: Duration = Duration::from_secs(30);

/// The largest message, bytes: some 20,000 desktops. Bounds the memory that one agent can take.
const LARGEST: usize = 16 << 20;

type Socket = WebSocketStream<UnixStream>;
type Waiters = HashMap<(HostId, ImageDigest), Vec<oneshot::Sender<Option<String>>>>;

/// The links that are up.
#[derive(Debug, Default)]
pub struct Agents {
    links: Mutex<HashMap<String, Link>>,
    deletions: Mutex<Waiters>,
}

#[derive(Debug)]
struct Link {
    host: Option<HostId>,
    dirty: Arc<Notify>,
    out: mpsc::Sender<ToAgent>,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the agent did not say Hello within {} s", PATIENCE.as_secs())]
    NoHello,
    #[error("the agent was silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the agent closed the link")]
    Closed,
    #[error("the agent was refused: {0}")]
    Refused(String),
    #[error("the agent sent a message that cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("the link failed: {0}")]
    Socket(#[from] tungstenite::Error),
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    #[error("the broker is going away")]
    Shutdown,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Agents {
    /// Has the desired set sent to a host, if it is connected; what the database says when it is sent.
    pub fn push(&self, host: HostId) {
        if let Some(link) = lock(&self.links).values().find(|l| l.host == Some(host)) {
            link.dirty.notify_one();
        }
    }

    /// As [`Agents::push`] for all hosts.
    pub fn push_all(&self) {
        lock(&self.links).values().for_each(|l| l.dirty.notify_one());
    }

    /// Asks a host to delete an image and waits for its answer: `Ok(None)` when it is gone, `Ok(Some(reason))` when it
    /// stays.
    ///
    /// # Errors
    /// `Err(())` when the host is not connected, or goes before it answers.
    pub async fn delete_image(&self, host: HostId, digest: &ImageDigest) -> Result<Option<String>, ()> {
        let (tx, rx) = oneshot::channel();
        let out =
            lock(&self.links).values().find(|l| l.host == Some(host)).map(|l| l.out.clone()).ok_or(())?;
        lock(&self.deletions).entry((host, digest.clone())).or_default().push(tx);
        out.send(ToAgent::DeleteImage { digest: digest.clone() }).await.map_err(drop)?;
        match timeout(SILENCE, rx).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(()),
        }
    }

    fn image_deleted(&self, host: HostId, digest: ImageDigest, error: Option<&str>) {
        for waiter in lock(&self.deletions).remove(&(host, digest)).unwrap_or_default() {
            let _ = waiter.send(error.map(str::to_owned));
        }
    }

    fn remove(&self, name: &str) {
        let link = lock(&self.links).remove(name);
        if let Some(host) = link.and_then(|l| l.host) {
            lock(&self.deletions).retain(|(h, _), _| *h != host);
        }
    }
}

/// Accepts agents until `shutdown`.
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
        tokio::spawn(async move {
            let why = serve(&app, stream, shutdown).await;
            tracing::info!(reason = %why, "a host agent's link ended");
        });
    }
}

async fn serve(app: &Arc<App>, stream: UnixStream, shutdown: CancellationToken) -> LinkError {
    let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
    let socket = match timeout(PATIENCE, accept_async_with_config(stream, Some(config))).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(e)) => return e.into(),
        Err(_) => return LinkError::NoHello,
    };
    let (mut tx, mut rx) = socket.split();
    let hello = match timeout(PATIENCE, next(&mut rx)).await {
        Ok(Ok(FromAgent::Hello(hello))) => hello,
        Ok(Ok(_)) => return refuse(&mut tx, "the first message has to be Hello".to_owned()).await,
        Ok(Err(e)) => return e,
        Err(_) => return LinkError::NoHello,
    };
    if hello.protocol != PROTOCOL_VERSION {
        let reason = format!(
            "this broker speaks version {PROTOCOL_VERSION} of the agent protocol, and the agent version {}; \
             install the same release on both",
            hello.protocol
        );
        return refuse(&mut tx, reason).await;
    }
    let (out, outgoing) = mpsc::channel(16);
    let dirty = Arc::new(Notify::new());
    let link = Link { host: None, dirty: Arc::clone(&dirty), out };
    let taken = {
        let mut links = lock(&app.agents.links);
        let taken = links.contains_key(&hello.host);
        if !taken {
            links.insert(hello.host.clone(), link);
        }
        taken
    };
    if taken {
        let reason = format!(
            "another agent is connected as the host {:?}; give each host its own name, or stop the other agent",
            hello.host
        );
        return refuse(&mut tx, reason).await;
    }
    let why = linked(app, &hello, (tx, rx), (outgoing, dirty), shutdown).await;
    app.agents.remove(&hello.host);
    why
}

/// The life of a link whose name is claimed.
async fn linked(
    app: &Arc<App>,
    hello: &Hello,
    (tx, mut rx): (SplitSink<Socket, Message>, SplitStream<Socket>),
    (outgoing, dirty): (mpsc::Receiver<ToAgent>, Arc<Notify>),
    shutdown: CancellationToken,
) -> LinkError {
    let host = match app.store.host_connected(hello).await {
        Ok(host) => host,
        Err(e) => return e.into(),
    };
    if let Some(link) = lock(&app.agents.links).get_mut(&hello.host) {
        link.host = Some(host);
    }
    app.fleet.connect(host, &hello.host, &hello.facts);
    tracing::info!(host = hello.host, accel = hello.facts.accel, "a host agent is connected");
    let complete = Arc::new(Notify::new());
    let stop = shutdown.child_token();
    let writer = {
        let (app, complete, dirty, stop) =
            (Arc::clone(app), Arc::clone(&complete), Arc::clone(&dirty), stop.clone());
        tokio::spawn(async move { write(&app, host, tx, outgoing, (complete, dirty), stop).await })
    };
    let why = tokio::select! {
        e = read(app, host, &hello.host, &mut rx, &complete) => e,
        () = stop.cancelled() => LinkError::Shutdown,
    };
    stop.cancel();
    app.fleet.disconnect(host);
    let why = match (why, writer.await) {
        (LinkError::Shutdown, Ok(Err(e))) => e,
        (why, _) => why,
    };
    if let Err(e) = app.store.host_disconnected(host, &hello.host, &why.to_string()).await {
        tracing::error!(error = %e, host = hello.host, "cannot put on record that the host went");
    }
    why
}

async fn read(
    app: &App,
    host: HostId,
    name: &str,
    rx: &mut SplitStream<Socket>,
    complete: &Notify,
) -> LinkError {
    loop {
        let message = match timeout(SILENCE, next(rx)).await {
            Ok(Ok(message)) => message,
            Ok(Err(e)) => return e,
            Err(_) => return LinkError::Silent,
        };
        match message {
            FromAgent::Hello(_) => return LinkError::Refused("it said Hello twice".to_owned()),
            FromAgent::Heartbeat { disk_free, memory_available } => {
                app.fleet.heartbeat(host, disk_free, memory_available);
            }
            FromAgent::ImageDeleted { digest, error } => {
                app.agents.image_deleted(host, digest, error.as_deref());
            }
            FromAgent::Observed(observed) => {
                let all = observed.complete;
                if let Err(e) = observe(app, host, name, observed).await {
                    return e.into();
                }
                if all {
                    complete.notify_one();
                }
            }
        }
    }
}

async fn observe(app: &App, host: HostId, name: &str, observed: Observed) -> Result<(), crate::store::Error> {
    if let Some(images) = &observed.images {
        app.store.set_host_images(host, name, images).await?;
    }
    let mut gone = Vec::new();
    if observed.complete {
        gone = app.store.absent_on(host).await?;
        gone.retain(|(desktop, _)| observed.desktops.iter().all(|d| d.desktop != *desktop));
    }
    app.fleet.observe(host, observed, &gone);
    Ok(())
}

async fn write(
    app: &App,
    host: HostId,
    mut tx: SplitSink<Socket, Message>,
    mut outgoing: mpsc::Receiver<ToAgent>,
    (complete, dirty): (Arc<Notify>, Arc<Notify>),
    stop: CancellationToken,
) -> Result<(), LinkError> {
    // What should be there is sent only once it is known what is.
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = complete.notified() => {}
    }
    dirty.notify_one();
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => {
                let _ = timeout(Duration::from_secs(1), tx.close()).await;
                return Ok(());
            }
            () = dirty.notified() => match app.store.desired(host).await {
                Ok(desired) => ToAgent::Desired(desired),
                Err(e) => {
                    stop.cancel();
                    return Err(e.into());
                }
            },
            Some(message) = outgoing.recv() => message,
        };
        let sent = match timeout(PATIENCE, send(&mut tx, &message)).await {
            Ok(sent) => sent,
            Err(_) => Err(LinkError::Silent),
        };
        if sent.is_err() {
            stop.cancel();
            return sent;
        }
    }
}

async fn send(tx: &mut SplitSink<Socket, Message>, message: &ToAgent) -> Result<(), LinkError> {
    let text = serde_json::to_string(message)?;
    Ok(tx.send(Message::text(text)).await?)
}

async fn refuse(tx: &mut SplitSink<Socket, Message>, reason: String) -> LinkError {
    let message = ToAgent::Refused { reason: reason.clone() };
    // The agent may be gone already; then there is nobody to tell.
    let _ = timeout(PATIENCE, async {
        send(tx, &message).await?;
        tx.close().await.map_err(LinkError::from)
    })
    .await;
    LinkError::Refused(reason)
}

async fn next(rx: &mut SplitStream<Socket>) -> Result<FromAgent, LinkError> {
    loop {
        match rx.next().await {
            None | Some(Ok(Message::Close(_))) => return Err(LinkError::Closed),
            Some(Err(e)) => return Err(e.into()),
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text)?),
            Some(Ok(_)) => {}
        }
    }
}
