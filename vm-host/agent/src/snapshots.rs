//! Snapshots of the desktops that are here: what is desired of them against what is here.
//!
//! ```text
//! taken or deleted:  its desktop process runs ──► it is asked to       (the guest runs on)
//!                    nothing runs             ──► `lucarne desktop --at-rest`, as the desktop's user, while nothing may be started
//! ```
//!
//! One thing is done at a time to a desktop. What is on the disk says what there is; what could not be done is told until nobody asks for
//! it any more.

use crate::desktop_process::{connect, read_status, say};
use crate::desktop_task::now_ms;
use crate::hub::Hub;
use crate::slots::Slots;
use crate::{error_chain, spawn};
use lucarne_control::agent::{SnapshotDesired, SnapshotObserved, SnapshotState, SnapshotWish};
use lucarne_control::{DesktopId, SnapshotId};
use lucarne_desktop::control::{Command, Work, WorkEnd, WorkStatus};
use lucarne_qemu::process::Process;
use lucarne_qemu::snapshot;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

/// For how long it is tried again what cannot be done just now: a guest that starts is given its identity within a few seconds, and boots
/// within a minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(250);

/// Before a deletion is tried again that failed, such as because the disk was full.
const LATER: Duration = Duration::from_secs(30);

/// How long something may take that is done at rest: a layer is read and written, which may be as large as the disk.
const AT_REST_LIMIT: Duration = Duration::from_secs(6 * 3600);

/// The same once it is given up.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(30);

/// Longest line of what is done at rest, bytes.
const MAX_LINE: u64 = 64 << 10;

/// Progress is told in steps of so many percent.
const STEP: u8 = 20;

#[derive(Default)]
struct State {
    /// Held by who starts something in a desktop's folder, or changes its disk where nothing runs.
    folders: HashMap<DesktopId, Arc<tokio::sync::Mutex<()>>>,
    /// Held by who sees to a desktop's snapshots.
    turns: HashMap<DesktopId, Arc<tokio::sync::Mutex<()>>>,
    under_way: HashMap<SnapshotId, UnderWay>,
    /// How many were begun.
    begun: u64,
    /// What was desired last.
    desired: Vec<SnapshotDesired>,
}

struct UnderWay {
    /// Which it is of all that were begun.
    number: u64,
    desktop: DesktopId,
    takes: bool,
    given_up: CancellationToken,
}

/// The snapshots of this host's desktops.
pub(crate) struct Snapshots {
    desktops_dir: PathBuf,
    program: PathBuf,
    slots: Arc<Slots>,
    hub: Hub,
    state: Mutex<State>,
}

impl Snapshots {
    pub(crate) fn new(desktops_dir: PathBuf, program: PathBuf, slots: Arc<Slots>, hub: Hub) -> Self {
        Self { desktops_dir, program, slots, hub, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, desktop: DesktopId) -> PathBuf {
        self.desktops_dir.join(desktop.to_string())
    }

    /// To be held while something is started in the desktop's folder.
    pub(crate) fn folder(&self, desktop: DesktopId) -> Arc<tokio::sync::Mutex<()>> {
        self.state().folders.entry(desktop).or_default().clone()
    }

    /// Tells what there is of a desktop.
    pub(crate) fn find(&self, desktop: DesktopId) {
        let layers = match snapshot::list(&self.dir(desktop)) {
            Ok(layers) => layers,
            Err(error) => {
                tracing::error!(%desktop, error = error_chain(&error), "a desktop's snapshots cannot be read");
                return;
            }
        };
        // One that is there only for those over it is not to be seen.
        let seen = |mut id: Option<SnapshotId>| {
            // What runs as the desktop's user may have written anything into them, such as a circle.
            for _ in 0..=layers.layers.len() {
                match id.and_then(|id| layers.get(id)).filter(|layer| layer.info.deleted) {
                    Some(layer) => id = layer.parent,
                    None => return id,
                }
            }
            None
        };
        for layer in layers.layers.iter().filter(|layer| !layer.info.deleted) {
            if self.hub.is_of_another(layer.info.snapshot, desktop) {
                tracing::error!(%desktop, snapshot = %layer.info.snapshot, "a desktop has a snapshot of another one; it is not told");
                continue;
            }
            self.hub.snapshot(SnapshotObserved {
                parent: seen(layer.parent),
                current: seen(layers.current) == Some(layer.info.snapshot),
                memory: layer.info.memory,
                taken_at: i64::try_from(layer.info.taken_at_ms).unwrap_or(i64::MAX),
                pause_ms: layer.info.pause_ms,
                bytes: layer.bytes,
                progress: 100,
                ..observed(desktop, layer.info.snapshot, SnapshotState::Ready)
            });
        }
    }

    /// What is being done to a desktop's snapshots is given up, and nothing is done to them as long as this is held.
    pub(crate) async fn quiet(&self, desktop: DesktopId) -> tokio::sync::OwnedMutexGuard<()> {
        self.state().under_way.values().filter(|w| w.desktop == desktop).for_each(|w| w.given_up.cancel());
        let turn = self.state().turns.entry(desktop).or_default().clone();
        turn.lock_owned().await
    }

    /// The desktop is to be destroyed: nothing is done to it any more when this returns, and nothing is told of it.
    pub(crate) async fn forget(&self, desktop: DesktopId) {
        let _turn = self.quiet(desktop).await;
        self.hub.forget_snapshots(desktop);
        let mut state = self.state();
        state.turns.remove(&desktop);
        state.folders.remove(&desktop);
    }

    /// Makes it so, as far as it is not.
    pub(crate) fn follow(self: &Arc<Self>, desired: &[SnapshotDesired]) {
        self.hub.keep_failed(|id| desired.iter().any(|wish| wish.snapshot == id));
        self.state().desired = desired.to_vec();
        self.begin(desired);
    }

    /// Goes on with what [`Snapshots::quiet`] has given up of a desktop and is desired still.
    pub(crate) fn go_on(self: &Arc<Self>, desktop: DesktopId) {
        let mut desired = self.state().desired.clone();
        desired.retain(|wish| wish.desktop == desktop);
        self.begin(&desired);
    }

    fn begin(self: &Arc<Self>, desired: &[SnapshotDesired]) {
        for wish in desired {
            let takes = matches!(wish.wish, SnapshotWish::Take { .. });
            let here = self.hub.snapshot_state(wish.snapshot);
            let mut state = self.state();
            if let Some(under_way) = state.under_way.get(&wish.snapshot) {
                if under_way.takes && !takes {
                    under_way.given_up.cancel();
                }
                // A deletion that was broken off goes on. One that was not taken would be of another time now.
                if under_way.takes == takes && (takes || !under_way.given_up.is_cancelled()) {
                    continue;
                }
            } else if takes && here.is_some() {
                // It is there, or could not be taken: who asks has not heard that.
                self.hub.tell_snapshot(wish.snapshot);
                continue;
            } else if !takes && here.is_none_or(|here| here == SnapshotState::Failed) {
                self.hub.snapshot_gone(observed(wish.desktop, wish.snapshot, SnapshotState::Gone));
                continue;
            }
            state.begun += 1;
            let (number, given_up) = (state.begun, CancellationToken::new());
            let turn = state.turns.entry(wish.desktop).or_default().clone();
            let under_way = UnderWay { number, desktop: wish.desktop, takes, given_up: given_up.clone() };
            state.under_way.insert(wish.snapshot, under_way);
            drop(state);
            let (snapshots, wish) = (self.clone(), *wish);
            tokio::spawn(async move {
                loop {
                    let held = turn.lock().await;
                    let again = snapshots.obey(&wish, &given_up).await;
                    drop(held);
                    if !again || tokio::time::timeout(LATER, given_up.cancelled()).await.is_ok() {
                        break;
                    }
                }
                let mut state = snapshots.state();
                if state.under_way.get(&wish.snapshot).is_some_and(|now| now.number == number) {
                    state.under_way.remove(&wish.snapshot);
                }
            });
        }
    }

    /// Whether it is to be tried again.
    async fn obey(&self, wish: &SnapshotDesired, given_up: &CancellationToken) -> bool {
        let SnapshotDesired { desktop, snapshot, wish } = *wish;
        let (work, state) = match wish {
            SnapshotWish::Take { memory, .. } => (Work::Take { snapshot, memory }, SnapshotState::Taking),
            SnapshotWish::Delete => (Work::Delete { snapshot }, SnapshotState::Deleting),
        };
        let end = match wish {
            _ if given_up.is_cancelled() => Err("it was cancelled".to_owned()),
            _ if !self.dir(desktop).exists() => Err("its desktop is not on this host".to_owned()),
            SnapshotWish::Take { until, .. } if now_ms() > until as f64 => {
                Err("its host came to it too late, and it would be of another time than it was asked for"
                    .to_owned())
            }
            _ => {
                let tell = |progress| {
                    self.hub.snapshot_progress(SnapshotObserved {
                        progress,
                        ..observed(desktop, snapshot, state)
                    });
                };
                tell(0);
                self.work(desktop, work, given_up, &tell).await
            }
        };
        if !self.dir(desktop).exists() {
            // It was destroyed meanwhile, and what there was of it with it.
            self.hub.snapshot_gone(observed(desktop, snapshot, SnapshotState::Gone));
            return false;
        }
        match (end, wish) {
            (Ok(()), SnapshotWish::Take { .. }) => {
                self.find(desktop);
                if !self.is_ready(snapshot) {
                    let detail = "it is there, and cannot be read; its host's log says why".to_owned();
                    self.hub.snapshot(SnapshotObserved {
                        detail,
                        ..observed(desktop, snapshot, SnapshotState::Failed)
                    });
                }
                false
            }
            (Ok(()), SnapshotWish::Delete) => {
                self.hub.snapshot_gone(observed(desktop, snapshot, SnapshotState::Gone));
                // Others may have got what was its.
                self.find(desktop);
                false
            }
            (Err(why), wish) => {
                tracing::error!(%desktop, %snapshot, ?wish, why, "a snapshot is not as it is to be");
                let again = wish == SnapshotWish::Delete;
                let state = if again { SnapshotState::Deleting } else { SnapshotState::Failed };
                if !again
                    && let Err(why) = self
                        .work(desktop, Work::Delete { snapshot }, &CancellationToken::new(), &|_| {})
                        .await
                {
                    tracing::warn!(%desktop, %snapshot, why, "what is left of a snapshot goes with the next one that is deleted");
                }
                self.hub.snapshot(SnapshotObserved { detail: why, ..observed(desktop, snapshot, state) });
                again
            }
        }
    }

    /// Does it as soon as it can be done.
    async fn work(
        &self,
        desktop: DesktopId,
        work: Work,
        given_up: &CancellationToken,
        tell: &(dyn Fn(u8) + Sync),
    ) -> Result<(), String> {
        let (dir, began) = (self.dir(desktop), Instant::now());
        let folder = self.folder(desktop);
        loop {
            let held = folder.lock().await;
            let end = match connect(&dir).await {
                Ok(stream) => {
                    drop(held);
                    ask(stream, work, given_up, tell).await.unwrap_or_else(|error| not_now(&error))
                }
                Err(_) if Process::adopt(&dir).is_some() => {
                    WorkEnd::NotNow { why: "its desktop process is just being started again".into() }
                }
                Err(_) => self.at_rest(&dir, work, given_up, tell).await,
            };
            match end {
                WorkEnd::Done => return Ok(()),
                WorkEnd::Failed { why } => return Err(why),
                WorkEnd::NotNow { why } if given_up.is_cancelled() || began.elapsed() > PATIENCE => {
                    return Err(why);
                }
                WorkEnd::NotNow { .. } => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Puts a desktop back to a snapshot. Nothing of it may run.
    ///
    /// # Errors
    /// It is as it was, for this reason.
    pub(crate) async fn back(
        &self,
        desktop: DesktopId,
        snapshot: SnapshotId,
        wish: u64,
    ) -> Result<(), String> {
        let folder = self.folder(desktop);
        let _held = folder.lock().await;
        self.once(desktop, Work::Back { snapshot, wish }).await
    }

    /// Whether a desktop can be put back to a snapshot, whatever runs.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) async fn try_back(&self, desktop: DesktopId, snapshot: SnapshotId) -> Result<(), String> {
        if !self.is_ready(snapshot) {
            return Err("its host does not have that".into());
        }
        self.once(desktop, Work::TryBack { snapshot }).await
    }

    async fn once(&self, desktop: DesktopId, work: Work) -> Result<(), String> {
        match self.at_rest(&self.dir(desktop), work, &CancellationToken::new(), &|_| {}).await {
            WorkEnd::Done => Ok(()),
            WorkEnd::Failed { why } | WorkEnd::NotNow { why } => Err(why),
        }
    }

    /// Whether a desktop has it.
    pub(crate) fn is_ready(&self, snapshot: SnapshotId) -> bool {
        self.hub.snapshot_state(snapshot) == Some(SnapshotState::Ready)
    }

    async fn at_rest(
        &self,
        dir: &Path,
        work: Work,
        given_up: &CancellationToken,
        tell: &(dyn Fn(u8) + Sync),
    ) -> WorkEnd {
        let credentials = self.slots.of_dir(dir);
        let mut child = match spawn::at_rest(&self.program, dir, work, credentials.as_ref()) {
            Ok(child) => child,
            Err(error) => return not_now(&error),
        };
        let (mut input, output) = (child.stdin.take(), child.stdout.take());
        let Some(output) = output else { return WorkEnd::Failed { why: "it says nothing".into() } };
        let mut lines = BufReader::new(output);
        let (mut end, mut line) = (None, Vec::new());
        let limit = tokio::time::sleep(AT_REST_LIMIT);
        tokio::pin!(limit);
        loop {
            let mut limited = (&mut lines).take(MAX_LINE);
            let read = tokio::select! {
                read = limited.read_until(b'\n', &mut line) => read,
                () = &mut limit => {
                    let _ = child.kill().await;
                    return WorkEnd::Failed { why: "it did not come to its end".into() };
                }
                // It gives up when nobody can ask it any more.
                () = given_up.cancelled(), if input.is_some() => {
                    input = None;
                    limit.as_mut().reset(tokio::time::Instant::now() + GIVE_UP_LIMIT);
                    continue;
                }
            };
            if !matches!(read, Ok(1..)) {
                break;
            }
            match serde_json::from_slice::<WorkStatus>(&line) {
                Ok(WorkStatus { end: Some(how), .. }) => end = Some(how),
                Ok(status) => tell(status.progress),
                Err(error) => tracing::warn!(%error, "what is said of a snapshot is not understood"),
            }
            line.clear();
        }
        let _ = child.wait().await;
        end.unwrap_or_else(|| WorkEnd::Failed {
            why: "its work ended early; the desktop's log may say why".into(),
        })
    }
}

fn observed(desktop: DesktopId, snapshot: SnapshotId, state: SnapshotState) -> SnapshotObserved {
    SnapshotObserved {
        desktop,
        snapshot,
        state,
        progress: 0,
        detail: String::new(),
        parent: None,
        current: false,
        memory: false,
        taken_at: 0,
        pause_ms: 0,
        bytes: 0,
    }
}

fn not_now(error: &io::Error) -> WorkEnd {
    WorkEnd::NotNow { why: error.to_string() }
}

/// Asks a desktop process, and waits until it says how it went.
async fn ask(
    stream: UnixStream,
    work: Work,
    given_up: &CancellationToken,
    tell: &(dyn Fn(u8) + Sync),
) -> io::Result<WorkEnd> {
    let ended = || Ok(WorkEnd::NotNow { why: "its desktop process ended meanwhile".into() });
    let mut lines = BufReader::new(stream);
    // It is told of at once, and what was done before does not count.
    let Some(before) = read_status(&mut lines).await? else { return ended() };
    let before = match before.work {
        // An agent before this one has asked for it.
        Some(now) if now.end.is_none() && now.todo == work => now.number.saturating_sub(1),
        last => {
            say(&mut lines, &Command::Work { todo: work }).await?;
            last.map_or(0, |last| last.number)
        }
    };
    let (mut asked, mut last) = (true, 0);
    loop {
        let status = tokio::select! {
            status = read_status(&mut lines) => status?,
            () = given_up.cancelled(), if asked => {
                asked = false;
                say(&mut lines, &Command::GiveUp).await?;
                continue;
            }
        };
        let Some(status) = status else { return ended() };
        let Some(now) = status.work.filter(|work| work.number > before) else { continue };
        if let Some(end) = now.end {
            return Ok(end);
        }
        if now.progress >= last + STEP {
            last = now.progress;
            tell(last);
        }
    }
}
