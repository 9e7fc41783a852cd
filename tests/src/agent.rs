//! The host agent alone, with the test in the broker's place: what it is told is up to the test, and what it says is kept.

use crate::guest::Guest;
use crate::poll::until;
use crate::process::{self, Process};
use crate::server::{Server, Turn, data_dir, lucarne, names};
use futures_util::{SinkExt, StreamExt};
use lucarne_control::agent::{
    Desired, DesktopDesired, DesktopObserved, FromAgent, Observed, SnapshotDesired, SnapshotObserved,
    SnapshotState, ToAgent,
};
use lucarne_control::desktop::{DesiredState, Identity, Phase};
use lucarne_control::spec::{NetworkPolicy, TemplateSpec};
use lucarne_control::{DesktopId, SnapshotId};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;

/// Time between signs of life of the broker.
const PING: Duration = Duration::from_secs(5);

/// What the agent has said of desktops.
#[derive(Debug, Default)]
struct Heard {
    now: BTreeMap<DesktopId, DesktopObserved>,
    /// Everything, in order.
    all: Vec<DesktopObserved>,
    snapshots: BTreeMap<SnapshotId, SnapshotObserved>,
}

/// A running agent with its broker. Dropped it is killed with all that it started.
pub struct Agent {
    /// Its data folder.
    pub data: PathBuf,
    /// The template of the tests' image.
    pub template: TemplateSpec,
    desired: watch::Sender<Desired>,
    heard: Arc<Mutex<Heard>>,
    process: Child,
    _broker: tokio::runtime::Runtime,
    _turn: Turn,
}

/// The template that a server has left; made by one where there is none.
fn template() -> TemplateSpec {
    let folder = data_dir().join("host/templates");
    let look = || {
        let described = |name: &String| fs::read(folder.join(name).join("template.json")).ok();
        let text = names(&folder).iter().filter(|name| !name.starts_with('.')).find_map(described)?;
        let meta: serde_json::Value = serde_json::from_slice(&text).expect("a template's description");
        Some(serde_json::from_value(meta["spec"].clone()).expect("what it was made from"))
    };
    look().unwrap_or_else(|| {
        let server = Server::start();
        until("a template is made", Duration::from_secs(30 * 60), || {
            let template = look();
            template.filter(|_: &TemplateSpec| names(&folder).iter().all(|name| !name.starts_with('.')))
        });
        server.stop();
        look().expect("it stays")
    })
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Agent {
    /// Starts one that is to have nothing.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start() -> Self {
        let template = template();
        let turn = Turn::take();
        let data = data_dir();
        for folder in ["run", "log"] {
            fs::create_dir_all(data.join(folder)).expect("a folder");
        }
        let broker = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let broker = broker.expect("a runtime");
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let desired = watch::Sender::new(Desired { templates: vec![template.clone()], ..Desired::default() });
        let listener = {
            let _in = broker.enter();
            UnixListener::bind(data.join("run/agent.sock")).expect("the broker's socket")
        };
        broker.spawn(serve(listener, desired.clone(), heard.clone()));
        let process = spawn(&data);
        Self { data, template, desired, heard, process, _broker: broker, _turn: turn }
    }

    /// A desktop that persists, with a network, as a broker would have it for this wish.
    #[must_use]
    pub fn desktop(
        &self,
        desktop: DesktopId,
        identity: Identity,
        wish: u64,
        state: DesiredState,
    ) -> DesktopDesired {
        DesktopDesired {
            desktop,
            generation: 1,
            state,
            wish,
            persistent: true,
            fresh: wish == 1,
            template: self.template.clone(),
            identity,
            network: NetworkPolicy::User,
            audio: true,
            clipboard: Default::default(),
            recording: Default::default(),
            pool: None,
            home: None,
            back_to: None,
            origin: None,
        }
    }

    /// Kills the agent, and starts it again.
    ///
    /// # Panics
    /// It cannot be.
    pub fn restart(&mut self) {
        self.process.kill().expect("it runs");
        let _ = self.process.wait();
        let mut heard = lock(&self.heard);
        heard.now.clear();
        heard.snapshots.clear();
        drop(heard);
        self.process = spawn(&self.data);
    }

    /// Tells it all that it is to have from now on.
    pub fn desire(&self, desktops: &[DesktopDesired]) {
        self.desired.send_modify(|desired| {
            desired.revision += 1;
            desired.desktops = desktops.to_vec();
        });
    }

    /// Tells it what is to become of snapshots, which are all that it has to do something for.
    pub fn desire_snapshots(&self, snapshots: &[SnapshotDesired]) {
        self.desired.send_modify(|desired| {
            desired.revision += 1;
            desired.snapshots = snapshots.to_vec();
        });
    }

    /// What it says of a snapshot now.
    #[must_use]
    pub fn snapshot(&self, snapshot: SnapshotId) -> Option<SnapshotObserved> {
        lock(&self.heard).snapshots.get(&snapshot).cloned()
    }

    /// Waits until it says this of a snapshot, and gives what it says.
    ///
    /// # Panics
    /// It does not within `limit`.
    pub fn wait_snapshot(
        &self,
        snapshot: SnapshotId,
        state: SnapshotState,
        limit: Duration,
    ) -> SnapshotObserved {
        let began = std::time::Instant::now();
        loop {
            let seen = self.snapshot(snapshot);
            if let Some(seen) = seen.clone().filter(|seen| seen.state == state) {
                return seen;
            }
            assert!(began.elapsed() < limit, "{snapshot} is not {state:?}: {seen:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it says of a desktop now.
    #[must_use]
    pub fn seen(&self, desktop: DesktopId) -> Option<DesktopObserved> {
        lock(&self.heard).now.get(&desktop).cloned()
    }

    /// Waits until it says this of a desktop, about this wish, and gives what it says. What it said on the way is in the failure.
    ///
    /// # Panics
    /// It does not within `limit`.
    pub fn wait(&self, desktop: DesktopId, phase: Phase, wish: u64, limit: Duration) -> DesktopObserved {
        let began = std::time::Instant::now();
        loop {
            if let Some(seen) = self.seen(desktop).filter(|seen| seen.phase == phase && seen.wish == wish) {
                return seen;
            }
            let said = || {
                lock(&self.heard).all.iter().map(|d| (d.wish, d.phase, d.detail.clone())).collect::<Vec<_>>()
            };
            assert!(began.elapsed() < limit, "not {phase:?} for wish {wish}: {:?}\n{}", said(), self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A desktop's folder.
    #[must_use]
    pub fn dir(&self, desktop: DesktopId) -> PathBuf {
        self.data.join("host/desktops").join(desktop.to_string())
    }

    /// A desktop's guest.
    #[must_use]
    pub fn guest(&self, desktop: DesktopId) -> Guest {
        Guest::of(&self.dir(desktop))
    }

    /// What runs for a desktop.
    #[must_use]
    pub fn processes(&self, desktop: DesktopId) -> Vec<Process> {
        process::with(&self.data, &[&desktop.to_string()])
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.data.join("log/host.log")).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        process::kill_all(&self.data);
        let _ = self.process.wait();
    }
}

fn spawn(data: &Path) -> Child {
    let log = File::options().create(true).append(true).open(data.join("log/host.log")).expect("its log");
    let mut command = lucarne(&["host", "run"]);
    command.current_dir(data).stdout(log.try_clone().expect("a descriptor")).stderr(log);
    command.spawn().expect("the agent starts")
}

/// Answers agents for as long as there is a test.
async fn serve(listener: UnixListener, desired: watch::Sender<Desired>, heard: Arc<Mutex<Heard>>) {
    while let Ok((stream, _)) = listener.accept().await {
        // It ends with its agent, which then comes again.
        let _ = talk(stream, desired.subscribe(), &heard).await;
    }
}

async fn talk(
    stream: UnixStream,
    mut desired: watch::Receiver<Desired>,
    heard: &Mutex<Heard>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    let mut ping = tokio::time::interval(PING);
    let mut epoch = None;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                None => return Ok(()),
                Some(message) => {
                    let Message::Text(text) = message? else { continue };
                    match serde_json::from_str(&text)? {
                        FromAgent::Hello(hello) => {
                            epoch = Some(hello.followed.epoch + 1);
                            desired.mark_changed();
                        }
                        FromAgent::Observed(observed) => hear(&mut lock(heard), observed),
                        _ => {}
                    }
                }
            },
            Ok(()) = desired.changed(), if epoch.is_some() => {
                let told = Desired { epoch: epoch.unwrap_or_default(), ..desired.borrow_and_update().clone() };
                socket.send(Message::text(serde_json::to_string(&ToAgent::Desired(told))?)).await?;
            }
            _ = ping.tick() => socket.send(Message::Ping(Vec::new().into())).await?,
        }
    }
}

fn hear(heard: &mut Heard, observed: Observed) {
    if observed.complete {
        heard.now.clear();
        heard.snapshots.clear();
    }
    for snapshot in observed.snapshots {
        heard.snapshots.insert(snapshot.snapshot, snapshot);
    }
    for desktop in observed.desktops {
        heard.all.push(desktop.clone());
        heard.now.insert(desktop.desktop, desktop);
    }
}
