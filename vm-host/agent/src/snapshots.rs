//! Snapshots of the desktops that are here: what is desired of them against what is here.
//!
//! ```text
//! taken or deleted:  its desktop process runs ──► it is asked to       (the guest runs on)
//!                    nothing runs             ──► `lucarne desktop --at-rest`, as the desktop's user, while nothing may be started
//! ```
//!
//! One thing is done at a time to a desktop. What is on the disk says what there is; what could not be done is told until nobody asks for
//! it any more.

use crate::desktop_process::connect;
use crate::desktop_task::now_ms;
use crate::hub::Hub;
use crate::slots::Slots;
use crate::snapshot_work::{self, ask, not_now};
use crate::{error_chain, folder};
use lucarne_control::agent::{CloneOf, SnapshotDesired, SnapshotObserved, SnapshotState, SnapshotWish};
use lucarne_control::{DesktopId, SnapshotId};
use lucarne_desktop::control::{Work, WorkEnd};
use lucarne_qemu::process::Process;
use lucarne_qemu::snapshot::{self, export};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// For how long it is tried again what cannot be done just now: a guest that starts is given its identity within a few seconds, and boots
/// within a minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// Within this, a snapshot is heard of that is asked for together with a desktop that is made of it.
const SOON: Duration = Duration::from_secs(10);

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(250);

/// Before a deletion is tried again that failed, such as because the disk was full.
const LATER: Duration = Duration::from_secs(30);

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
    /// Of which desktops snapshots are put together for others.
    exported: HashMap<u64, (DesktopId, CancellationToken)>,
    /// Since when it is known what is desired.
    since: Option<Instant>,
}

struct UnderWay {
    /// Which it is of all that were begun.
    number: u64,
    desktop: DesktopId,
    takes: bool,
    given_up: CancellationToken,
}

/// A snapshot that is where another desktop can be made of it, until this is dropped.
pub(crate) struct Exported {
    of: PathBuf,
    attempt: u64,
}

impl Exported {
    /// Where, in the folder of its desktop.
    pub(crate) fn folder(&self) -> PathBuf {
        Path::new(export::FOLDER).join(self.attempt.to_string())
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        match folder::remove_beneath(&self.of, Path::new(export::FOLDER), &self.attempt.to_string()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(of = %self.of.display(), %error, "what a desktop was cloned from is left until the agent starts again");
            }
            _ => {}
        }
    }
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
        let turn = {
            let mut state = self.state();
            state.under_way.values().filter(|w| w.desktop == desktop).for_each(|w| w.given_up.cancel());
            state
                .exported
                .values()
                .filter(|(of, _)| *of == desktop)
                .for_each(|(_, given_up)| given_up.cancel());
            state.turns.entry(desktop).or_default().clone()
        };
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
        {
            let mut state = self.state();
            state.desired = desired.to_vec();
            state.since.get_or_insert_with(Instant::now);
        }
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
        let (dir, mut began) = (self.dir(desktop), Instant::now());
        let folder = self.folder(desktop);
        loop {
            let (held, tried) = (folder.lock().await, Instant::now());
            let end = match connect(&dir).await {
                Ok(stream) => {
                    drop(held);
                    ask(stream, work, given_up, tell).await.unwrap_or_else(|error| not_now(&error))
                }
                Err(_) if Process::adopt(&dir).is_some() => {
                    WorkEnd::NotNow { why: "its desktop process is just being started again".into() }
                }
                Err(_) if matches!(work, Work::Export { .. }) => {
                    // Whoever is to be started need not wait for it.
                    drop(held);
                    self.at_rest(&dir, work, given_up, tell).await
                }
                Err(_) => self.at_rest(&dir, work, given_up, tell).await,
            };
            if tried.elapsed() > PATIENCE / 4 {
                // It was at it, and something came in between.
                began = Instant::now();
            }
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

    /// Puts a snapshot where another desktop can be made of it, once it is there.
    ///
    /// # Errors
    /// It is not there, and will not be.
    pub(crate) async fn export(self: &Arc<Self>, of: CloneOf, tell: impl Fn(u8)) -> Result<Exported, String> {
        loop {
            self.wait_ready(of.desktop, of.snapshot).await?;
            let given_up = CancellationToken::new();
            // A task of its own, so that it can say that it is given up when nobody waits for it any more.
            let unless_waited_for = given_up.clone().drop_guard();
            let (progress, mut told) = watch::channel(0);
            let (snapshots, token) = (self.clone(), given_up.clone());
            let mut exporting =
                tokio::spawn(async move { snapshots.export_once(of, &token, &progress).await });
            let exported = loop {
                tokio::select! {
                    exported = &mut exporting => break exported,
                    Ok(()) = told.changed() => tell(*told.borrow_and_update()),
                }
            };
            // Somebody else may have given it up, for something that was to be done to its desktop.
            let again = given_up.is_cancelled();
            unless_waited_for.disarm();
            match exported {
                Ok(Ok(exported)) => return Ok(exported),
                Ok(Err(_)) if again => {}
                Ok(Err(why)) => return Err(format!("what it is cloned from cannot be put together: {why}")),
                Err(error) => return Err(format!("what it is cloned from cannot be put together: {error}")),
            }
        }
    }

    async fn export_once(
        &self,
        CloneOf { desktop, snapshot }: CloneOf,
        given_up: &CancellationToken,
        progress: &watch::Sender<u8>,
    ) -> Result<Exported, String> {
        // No other attempt has that number, also of an agent before this one, whose work may go on.
        let attempt = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let exported = Exported { of: self.dir(desktop), attempt };
        let (number, turn) = {
            let mut state = self.state();
            state.begun += 1;
            let number = state.begun;
            state.exported.insert(number, (desktop, given_up.clone()));
            (number, state.turns.entry(desktop).or_default().clone())
        };
        let held = turn.lock().await;
        // Its end takes the turn away, and then its folder.
        let gone = self.state().turns.get(&desktop).is_none_or(|now| !Arc::ptr_eq(now, &turn));
        let end = if given_up.is_cancelled() {
            Err("something else is done to its desktop".to_owned())
        } else if gone || !self.dir(desktop).exists() {
            Err("its desktop is not on this host any more".to_owned())
        } else {
            let tell = |percent| {
                progress.send_replace(percent);
            };
            self.work(desktop, Work::Export { snapshot, attempt }, given_up, &tell).await
        };
        drop(held);
        self.state().exported.remove(&number);
        end.map(|()| exported)
    }

    async fn wait_ready(&self, desktop: DesktopId, snapshot: SnapshotId) -> Result<(), String> {
        loop {
            let since = self.state().since;
            match self.hub.snapshot_state(snapshot) {
                Some(SnapshotState::Ready) if !self.hub.is_of_another(snapshot, desktop) => return Ok(()),
                Some(SnapshotState::Taking) => {}
                Some(SnapshotState::Failed) => {
                    return Err("the snapshot that it is cloned from could not be taken".to_owned());
                }
                // It may just have been asked for.
                None if self.state().desired.iter().any(|wish| wish.snapshot == snapshot) => {}
                None if since.is_none_or(|since| since.elapsed() < SOON) => {}
                _ => return Err("its host does not have the snapshot that it is cloned from".to_owned()),
            }
            tokio::time::sleep(AGAIN).await;
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

    async fn at_rest(
        &self,
        dir: &Path,
        work: Work,
        given_up: &CancellationToken,
        tell: &(dyn Fn(u8) + Sync),
    ) -> WorkEnd {
        let user = self.slots.of_dir(dir);
        snapshot_work::at_rest(&self.program, user.as_ref(), dir, work, given_up, tell).await
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
