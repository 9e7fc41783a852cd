//! A host agent for tests: the real protocol on the real socket; its desktops are sockets that speak the real link.

use super::eventually;
use futures_util::{SinkExt, StreamExt};
use lucarne_control::agent::{
    Desired, DesktopObserved, Followed, FromAgent, Hello, HostFacts, Observed, PROTOCOL_VERSION,
    SnapshotDesired, SnapshotObserved, SnapshotState, SnapshotWish, StreamDoor, TemplateObserved,
    TemplateState, ToAgent,
};
use lucarne_control::desktop::{DesiredState, Endpoint, ForkTimings, Phase};
use lucarne_control::link::{Idle, Open, Opened, Purpose};
use lucarne_control::spec::{ImageDigest, ImageInfo};
use lucarne_control::{DesktopId, SessionId, SnapshotId};
use lucarne_relay::Identity;
use lucarne_rfb::server;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::either::Either;

/// What the fake picture is.
pub const JPEG: &[u8] = b"\xff\xd8 not really a picture \xff\xd9";

/// How the host behaves; may be changed at any time.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub template: TemplateState,
    pub template_detail: String,
    pub progress: u8,
    /// Forks fail with this.
    pub fork_fails: Option<String>,
    /// Destructions are put off.
    pub keeps: bool,
    /// What is to be suspended goes on.
    pub cannot_suspend: bool,
    pub memory_mib: u64,
    /// For how long nobody typed, milliseconds.
    pub idle_ms: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            template: TemplateState::Ready,
            template_detail: String::new(),
            progress: 100,
            fork_fails: None,
            keeps: false,
            cannot_suspend: false,
            memory_mib: 16384,
            idle_ms: 0,
        }
    }
}

pub fn image(n: u8) -> ImageInfo {
    ImageInfo {
        digest: ImageDigest::try_from(format!("{n:02x}").repeat(32)).unwrap(),
        name: "debian-desktop".to_owned(),
        version: format!("2026.11.{n}"),
        description: "Debian desktop".to_owned(),
        format: "qcow2".to_owned(),
        virtual_size: 8 << 30,
        stored_size: 1 << 30,
        created_at: 1_790_000_000 + i64::from(n),
        source: "recipe:test".to_owned(),
        guest_agent: true,
    }
}

struct Fake {
    observed: DesktopObserved,
    socket: AbortHandle,
}

#[derive(Default)]
struct State {
    desired: Option<Desired>,
    received: Vec<Desired>,
    desktops: HashMap<DesktopId, Fake>,
    snapshots: HashMap<SnapshotId, SnapshotObserved>,
}

/// What became of a snapshot.
pub fn snapshot_of(desktop: DesktopId, snapshot: SnapshotId, wish: SnapshotWish) -> SnapshotObserved {
    let (state, memory) = match wish {
        SnapshotWish::Take { memory, .. } => (SnapshotState::Ready, memory),
        SnapshotWish::Delete => (SnapshotState::Gone, false),
    };
    SnapshotObserved {
        desktop,
        snapshot,
        state,
        progress: 100,
        detail: String::new(),
        parent: None,
        current: true,
        memory,
        taken_at: 1_790_000_000_000,
        pause_ms: 60,
        bytes: 1 << 20,
    }
}

/// A connected agent.
pub struct Agent {
    name: String,
    dir: Arc<TempDir>,
    state: Arc<Mutex<State>>,
    behaviour: Arc<Mutex<Behaviour>>,
    again: mpsc::UnboundedSender<FromAgent>,
    task: JoinHandle<Option<String>>,
}

impl Agent {
    /// Connects as the host `attic` with one image, and waits until the default pool's template was wanted.
    pub async fn start(server: &super::Server) -> Self {
        Self::start_with(server, "attic", Behaviour::default()).await
    }

    pub async fn start_with(server: &super::Server, name: &str, behaviour: Behaviour) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let stream = Either::Left(UnixStream::connect(server.agent_socket()).await.unwrap());
        let agent = Self::connect(stream, None, name, behaviour, State::default(), dir).await;
        agent.told(server).await;
        agent
    }

    /// Connects by the network, as the host that was enrolled, with a relay on this port.
    pub async fn start_enrolled(
        server: &super::Server,
        identity: &Identity,
        port: u16,
        dir: Arc<TempDir>,
    ) -> Self {
        let stream = dial(server, identity).await.unwrap();
        let door = Some(StreamDoor { address: None, port });
        let name = &identity.about.name;
        Self::connect(stream, door, name, Behaviour::default(), State::default(), dir).await
    }

    /// Waits until the broker has told this agent of the default pool, and sees it.
    pub async fn told(&self, server: &super::Server) {
        let (agent, name) = (self, &self.name);
        eventually("the agent gets its desired set", || async { agent.desired() }).await;
        let wanted = || async { agent.desired().filter(|d| !d.templates.is_empty()) };
        eventually("the default pool's template is wanted", wanted).await;
        let admin = server.local();
        eventually("the template is seen", || async {
            let pools: Vec<lucarne_control::api::Pool> = admin.page("/pools").await;
            pools.iter().any(|p| p.templates.iter().any(|t| t.host == *name)).then_some(())
        })
        .await;
    }

    /// Why the broker ended the link.
    pub async fn ended(&mut self) -> Option<String> {
        (&mut self.task).await.unwrap()
    }

    /// Breaks the link and comes back by the network with the same desktops.
    pub async fn reconnect_enrolled(self, server: &super::Server, identity: &Identity, port: u16) -> Self {
        self.task.abort();
        let state = std::mem::take(&mut *self.state.lock().unwrap());
        let stream = dial(server, identity).await.unwrap();
        let door = Some(StreamDoor { address: None, port });
        Self::connect(stream, door, &self.name, Behaviour::default(), state, Arc::clone(&self.dir)).await
    }

    async fn connect(
        stream: Stream,
        streams: Option<StreamDoor>,
        name: &str,
        behaviour: Behaviour,
        state: State,
        dir: Arc<TempDir>,
    ) -> Self {
        let (again, outgoing) = mpsc::unbounded_channel();
        let state = Arc::new(Mutex::new(state));
        let behaviour = Arc::new(Mutex::new(behaviour));
        let (ws, _) = tokio_tungstenite::client_async("ws://localhost/", stream).await.unwrap();
        let mut hello = hello(name, PROTOCOL_VERSION, behaviour.lock().unwrap().memory_mib);
        if let Some(desired) = &state.lock().unwrap().desired {
            hello.followed = Followed { epoch: desired.epoch, revision: desired.revision };
        }
        hello.streams = streams;
        let run = Run {
            hello,
            dir: dir.path().to_owned(),
            state: Arc::clone(&state),
            behaviour: Arc::clone(&behaviour),
        };
        let task = tokio::spawn(run.go(ws, outgoing));
        Self { name: name.to_owned(), dir, state, behaviour, again, task }
    }

    /// Breaks the link and comes back with the same desktops.
    pub async fn reconnect(self, server: &super::Server) -> Self {
        self.task.abort();
        let behaviour = self.behaviour.lock().unwrap().clone();
        let state = std::mem::take(&mut *self.state.lock().unwrap());
        let stream = Either::Left(UnixStream::connect(server.agent_socket()).await.unwrap());
        Self::connect(stream, None, &self.name, behaviour, state, Arc::clone(&self.dir)).await
    }

    /// Breaks the link, comes back, and gives the reason for which it is refused.
    pub async fn refused_again(self, server: &super::Server) -> (Self, String) {
        let mut again = self.reconnect(server).await;
        let reason = (&mut again.task).await.unwrap().unwrap();
        (again, reason)
    }

    /// Breaks the link; the desktops run on.
    pub fn cut(&self) {
        self.task.abort();
    }

    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
        // Any message makes the loop look at its behaviour again.
        let _ = self.again.send(FromAgent::Heartbeat { disk_free: 1 << 40, memory_available: 1 << 40 });
    }

    pub fn say(&self, message: FromAgent) {
        self.again.send(message).unwrap();
    }

    pub fn desired(&self) -> Option<Desired> {
        self.state.lock().unwrap().desired.clone()
    }

    /// All desired sets so far.
    pub fn received(&self) -> Vec<Desired> {
        self.state.lock().unwrap().received.clone()
    }

    /// The desktops that run here.
    pub fn running(&self) -> Vec<DesktopId> {
        self.state.lock().unwrap().desktops.keys().copied().collect()
    }

    /// A desktop dies by itself.
    pub fn kill(&self, desktop: DesktopId, why: &str) {
        let mut state = self.state.lock().unwrap();
        let fake = state.desktops.get_mut(&desktop).unwrap();
        fake.socket.abort();
        fake.observed.phase = Phase::Failed;
        fake.observed.detail = why.to_owned();
        fake.observed.endpoint = None;
        let desktops = vec![fake.observed.clone()];
        self.again.send(FromAgent::Observed(Observed { desktops, ..Observed::default() })).unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn hello(name: &str, protocol: u32, memory_mib: u64) -> Hello {
    Hello {
        protocol,
        host: name.to_owned(),
        version: "0.1.0".to_owned(),
        facts: HostFacts {
            cpus: 64,
            memory_mib,
            driver: "qemu".to_owned(),
            driver_version: "10.0.2".to_owned(),
            accel: "tcg".to_owned(),
            accel_reason: "/dev/kvm does not run guests".to_owned(),
            network: "user".to_owned(),
        },
        followed: Default::default(),
        desktops: 0,
        streams: None,
    }
}

/// Connects as an enrolled host.
pub async fn dial(server: &super::Server, identity: &Identity) -> std::io::Result<Stream> {
    let client = identity.credentials().unwrap().client().unwrap();
    Ok(Either::Right(Box::new(lucarne_relay::dial::broker(&server.hosts, client).await?)))
}

/// What is desired after a set, or a change to the one before.
fn merged(before: Option<Desired>, told: Desired) -> Desired {
    let Some(since) = told.since else { return told };
    let before = before.unwrap();
    assert_eq!(before.revision, since, "a change to what was told last");
    let mut desktops = before.desktops;
    let new: Vec<_> = told.desktops.iter().map(|d| d.desktop).chain(told.removed.clone()).collect();
    desktops.retain(|d| !new.contains(&d.desktop));
    desktops.extend(told.desktops);
    desktops.sort_by_key(|d| d.desktop);
    Desired { desktops, removed: Vec::new(), since: None, ..told }
}

/// Says one `Hello` and gives the reason for which the broker refuses it.
pub async fn refused(socket: &Path, hello: Hello) -> String {
    refused_by(Either::Left(UnixStream::connect(socket).await.unwrap()), hello).await
}

/// The same, over anything.
pub async fn refused_by(stream: Stream, hello: Hello) -> String {
    let (mut ws, _) = tokio_tungstenite::client_async("ws://localhost/", stream).await.unwrap();
    ws.send(Message::text(serde_json::to_string(&FromAgent::Hello(hello)).unwrap())).await.unwrap();
    let text = loop {
        match ws.next().await {
            Some(Ok(Message::Text(text))) => break text,
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("the broker said nothing: {other:?}"),
        }
    };
    match serde_json::from_str(&text).unwrap() {
        ToAgent::Refused { reason } => reason,
        other => panic!("{other:?}"),
    }
}

struct Run {
    hello: Hello,
    dir: PathBuf,
    state: Arc<Mutex<State>>,
    behaviour: Arc<Mutex<Behaviour>>,
}

/// What an agent's link goes over.
pub type Stream = Either<UnixStream, Box<TlsStream<TcpStream>>>;
type Ws = tokio_tungstenite::WebSocketStream<Stream>;

impl Run {
    /// The agent's loop; gives the reason when the broker refuses it.
    async fn go(self, mut ws: Ws, mut outgoing: mpsc::UnboundedReceiver<FromAgent>) -> Option<String> {
        send(&mut ws, &FromAgent::Hello(self.hello.clone())).await?;
        let all = Observed { complete: true, images: Some(vec![image(1)]), ..self.observed() };
        // A broker that refuses does not listen any more, and has said why.
        let _ = send(&mut ws, &FromAgent::Observed(all)).await;
        loop {
            let reply = tokio::select! {
                message = ws.next() => match message?.ok()? {
                    Message::Text(text) => match serde_json::from_str(&text).unwrap() {
                        ToAgent::Desired(desired) => {
                            let mut state = self.state.lock().unwrap();
                            state.received.push(desired.clone());
                            state.desired = Some(merged(state.desired.take(), desired));
                            None
                        }
                        ToAgent::DeleteImage { digest } => Some(FromAgent::ImageDeleted { digest, error: None }),
                        ToAgent::Refused { reason } => return Some(reason),
                    },
                    _ => None,
                },
                message = outgoing.recv() => message,
            };
            if let Some(message) = reply {
                send(&mut ws, &message).await?;
            }
            let changes = self.reconcile();
            send(&mut ws, &FromAgent::Observed(changes)).await?;
            self.finish();
            send(&mut ws, &FromAgent::Observed(self.observed())).await?;
        }
    }

    /// Everything that is here.
    fn observed(&self) -> Observed {
        let state = self.state.lock().unwrap();
        Observed {
            desktops: state.desktops.values().map(|f| f.observed.clone()).collect(),
            snapshots: state.snapshots.values().cloned().collect(),
            templates: self.templates(&state),
            ..Observed::default()
        }
    }

    fn templates(&self, state: &State) -> Vec<TemplateObserved> {
        let b = self.behaviour.lock().unwrap();
        let specs = state.desired.iter().flat_map(|d| &d.templates);
        specs
            .map(|spec| TemplateObserved {
                spec: spec.clone(),
                state: b.template,
                detail: b.template_detail.clone(),
                cold_boot_s: None,
                progress: b.progress,
            })
            .collect()
    }

    /// Does what is desired and tells what changed.
    fn reconcile(&self) -> Observed {
        let mut state = self.state.lock().unwrap();
        let b = self.behaviour.lock().unwrap().clone();
        let Some(desired) = state.desired.clone() else { return Observed::default() };
        let mut changes = Vec::new();
        for d in &desired.desktops {
            let gone = |generation| observed(d.desktop, generation, Phase::Stopped);
            match d.state {
                DesiredState::Absent if b.keeps => {}
                DesiredState::Absent => {
                    if let Some(fake) = state.desktops.remove(&d.desktop) {
                        fake.socket.abort();
                    }
                    changes.push(gone(d.generation));
                }
                DesiredState::Running | DesiredState::Off | DesiredState::Suspended
                    if !d.fresh && !state.desktops.contains_key(&d.desktop) =>
                {
                    changes.push(gone(d.generation));
                }
                DesiredState::Suspended if b.cannot_suspend => {
                    if let Some(fake) = state.desktops.get_mut(&d.desktop) {
                        fake.observed.wish = d.wish;
                        fake.observed.detail = "it could not be suspended: the disk is full".to_owned();
                        changes.push(fake.observed.clone());
                    }
                }
                at_rest @ (DesiredState::Off | DesiredState::Suspended) => {
                    let phase = if at_rest == DesiredState::Off { Phase::Off } else { Phase::Suspended };
                    let off = DesktopObserved { wish: d.wish, ..observed(d.desktop, d.generation, phase) };
                    let fake = Fake { observed: off.clone(), socket: tokio::spawn(async {}).abort_handle() };
                    if let Some(before) = state.desktops.insert(d.desktop, fake) {
                        before.socket.abort();
                        if before.observed.phase == phase {
                            continue;
                        }
                    }
                    changes.push(off);
                }
                DesiredState::Running
                    if state.desktops.get(&d.desktop).is_some_and(|f| {
                        // One that is put back is another one.
                        !f.observed.phase.is_at_rest() && (d.back_to.is_none() || f.observed.wish >= d.wish)
                    }) => {}
                DesiredState::Running if b.template != TemplateState::Ready => {
                    changes.push(observed(d.desktop, d.generation, Phase::Preparing));
                }
                DesiredState::Running => {
                    let mut o = observed(d.desktop, d.generation, Phase::Starting);
                    o.wish = d.wish;
                    let path = self.dir.join(d.desktop.to_string());
                    // It was powered off before.
                    let _ = std::fs::remove_file(&path);
                    let listener = UnixListener::bind(&path).unwrap();
                    let expected = (d.desktop, d.generation);
                    let name = d.identity.hostname.clone();
                    let socket = tokio::spawn(display(listener, expected, name, Arc::clone(&self.behaviour)))
                        .abort_handle();
                    if let Some(why) = &b.fork_fails {
                        o.phase = Phase::Failed;
                        o.detail = why.clone();
                    } else {
                        o.endpoint = Some(Endpoint::Unix { path: path.to_str().unwrap().to_owned() });
                        o.timings.picture_ms = Some(80.0);
                    }
                    changes.push(o.clone());
                    state.desktops.insert(d.desktop, Fake { observed: o, socket });
                }
            }
        }
        state.desktops.retain(|id, fake| {
            let keep = desired.desktops.iter().any(|d| d.desktop == *id);
            if !keep {
                fake.socket.abort();
            }
            keep
        });
        let mut snapshots = Vec::new();
        for SnapshotDesired { desktop, snapshot, wish } in desired.snapshots {
            let seen = snapshot_of(desktop, snapshot, wish);
            match seen.state {
                SnapshotState::Gone => state.snapshots.remove(&snapshot),
                _ => state.snapshots.insert(snapshot, seen.clone()),
            };
            snapshots.push(seen);
        }
        let templates = self.templates(&state);
        Observed { desktops: changes, templates, snapshots, ..Observed::default() }
    }

    /// What starts gets ready.
    fn finish(&self) {
        for fake in self.state.lock().unwrap().desktops.values_mut() {
            if fake.observed.phase == Phase::Starting {
                fake.observed.phase = Phase::Ready;
                fake.observed.timings.identity_ms = Some(400.0);
            }
        }
    }
}

fn observed(desktop: DesktopId, generation: u64, phase: Phase) -> DesktopObserved {
    let timings = ForkTimings::default();
    DesktopObserved { desktop, generation, wish: 0, phase, detail: String::new(), endpoint: None, timings }
}

async fn send(ws: &mut Ws, message: &FromAgent) -> Option<()> {
    ws.send(Message::text(serde_json::to_string(message).unwrap())).await.ok()
}

/// A desktop process: checks who is meant; then a thumbnail, or RFB with security None and, after a greeting, an
/// echo of what viewers with control type.
async fn display(
    listener: UnixListener,
    expected: (DesktopId, u64),
    name: String,
    behaviour: Arc<Mutex<Behaviour>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (name, idle) = (name.clone(), Arc::clone(&behaviour));
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let open: Open = serde_json::from_str(&line).unwrap();
            let meant = (open.desktop, open.generation) == expected;
            let answer = match meant {
                true => Opened::Ok,
                false => Opened::Refused { reason: "another desktop runs here".to_owned() },
            };
            let answer = serde_json::to_string(&answer).unwrap() + "\n";
            stream.write_all(answer.as_bytes()).await?;
            match open.purpose {
                _ if !meant => Ok(()),
                Purpose::Thumbnail { .. } => stream.write_all(JPEG).await,
                Purpose::View { view_only, .. } => view(stream, &name, view_only).await,
                Purpose::Idle => {
                    let idle = Idle { idle_ms: idle.lock().unwrap().idle_ms };
                    stream.write_all(&serde_json::to_vec(&idle).unwrap()).await
                }
                Purpose::Trace { last } => stream.write_all(&trace(open.session, last)).await,
            }
        });
    }
}

async fn view(mut stream: BufReader<UnixStream>, name: &str, view_only: bool) -> std::io::Result<()> {
    let mut out = Vec::new();
    let mut shake = server::Handshake::new(server::Offer::none(), &mut out);
    let mut buffer = vec![0; 64 << 10];
    loop {
        stream.write_all(&std::mem::take(&mut out)).await?;
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        shake.feed(&buffer[..n]).unwrap();
        let event = shake.poll(&mut out).unwrap();
        if let Some(server::HandshakeEvent::ClientInit { .. }) = event {
            break;
        }
    }
    stream.write_all(format!("desktop {name}\n").as_bytes()).await?;
    let early = shake.take_rest();
    if !view_only {
        stream.write_all(&early).await?;
    }
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        if !view_only {
            stream.write_all(&buffer[..n]).await?;
        }
    }
}

/// A trace of one viewer with one stage and as many updates as were asked for.
fn trace(session: Option<SessionId>, last: u32) -> Vec<u8> {
    let update = |number: u32| {
        serde_json::json!({ "id": format!("1.{number}"), "input": "key", "damages": 1, "pixels": 152, "rects": 1,
            "bytes": 40, "encode_ms": 0.1, "send_ms": 0.1, "total_ms": 20.5 })
    };
    let viewer = serde_json::json!({ "viewer": 1, "session": session, "view_only": false, "updates": 300,
        "stages": [{ "stage": "encode", "count": 256, "p50_ms": 0.1, "p95_ms": 0.2, "p99_ms": 0.3, "max_ms": 0.4 }],
        "recent": (0..last).map(update).collect::<Vec<_>>(),
        "link": { "answers": true, "round_trip_ms": 1.5, "window": 16384, "rate": null, "in_flight": 0 } });
    serde_json::to_vec(&serde_json::json!({ "viewers": [viewer] })).unwrap()
}
