//! What is on this host and what it was told: kept whole, and told as it changes to whoever is connected.

use lucarne_control::agent::{
    Desired, DesktopObserved, Followed, Observed, SnapshotObserved, SnapshotState, TemplateObserved,
};
use lucarne_control::desktop::Phase;
use lucarne_control::ids::{DesktopId, DiskId, SnapshotId};
use lucarne_control::spec::{ImageInfo, TemplateSpec};
use lucarne_ledger::{Ledger, Order, Refusal};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

struct State {
    images: Vec<ImageInfo>,
    templates: HashMap<TemplateSpec, TemplateObserved>,
    ledger: Ledger,
    disks: BTreeSet<DiskId>,
    snapshots: BTreeMap<SnapshotId, SnapshotObserved>,
}

/// The state and its listeners.
#[derive(Clone)]
pub(crate) struct Hub {
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<Observed>,
    /// Links that are told of changes.
    links: Arc<AtomicUsize>,
}

/// What a link is told by; it counts as a link until it is dropped.
pub(crate) struct Told {
    changes: broadcast::Receiver<Observed>,
    links: Arc<AtomicUsize>,
}

impl Told {
    /// The next change.
    pub(crate) async fn recv(&mut self) -> Result<Observed, RecvError> {
        self.changes.recv().await
    }

    /// The next change, if there is one already.
    pub(crate) fn try_recv(&mut self) -> Result<Observed, TryRecvError> {
        self.changes.try_recv()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.links.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hub {
    /// One of a host that has followed this before. A link may fall behind by `backlog` changes before it is told everything anew.
    pub(crate) fn new(followed: Followed, backlog: usize) -> Self {
        let state = State {
            images: Vec::new(),
            templates: HashMap::new(),
            ledger: Ledger::new(followed),
            disks: BTreeSet::new(),
            snapshots: BTreeMap::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            changes: broadcast::channel(backlog).0,
            links: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: Observed) {
        // Nobody listening is fine: the next link is told everything.
        let _ = self.changes.send(change);
    }

    /// Everything as it is, and what changes from here on, for a link to a broker.
    pub(crate) fn subscribe(&self) -> (Observed, Told) {
        let (complete, changes) = self.listen();
        self.links.fetch_add(1, Ordering::Relaxed);
        (complete, Told { changes, links: Arc::clone(&self.links) })
    }

    /// Whether a broker is told.
    pub(crate) fn is_linked(&self) -> bool {
        self.links.load(Ordering::Relaxed) > 0
    }

    /// The same for who only listens.
    pub(crate) fn listen(&self) -> (Observed, broadcast::Receiver<Observed>) {
        let state = self.state();
        (complete(&state), self.changes.subscribe())
    }

    pub(crate) fn images(&self, images: Vec<ImageInfo>) {
        let mut state = self.state();
        if state.images != images {
            state.images.clone_from(&images);
            self.tell(Observed { images: Some(images), ..Observed::default() });
        }
    }

    pub(crate) fn template(&self, template: TemplateObserved) {
        self.state().templates.insert(template.spec.clone(), template.clone());
        self.tell(Observed { templates: vec![template], ..Observed::default() });
    }

    pub(crate) fn template_gone(&self, spec: &TemplateSpec) {
        self.state().templates.remove(spec);
    }

    /// A user's disk is here.
    pub(crate) fn disk(&self, disk: DiskId) {
        let mut state = self.state();
        if state.disks.insert(disk) {
            self.tell(Observed { disks: vec![disk], ..Observed::default() });
        }
    }

    /// A user's disk is not here, or not any more.
    pub(crate) fn disk_gone(&self, disk: DiskId) {
        let mut state = self.state();
        state.disks.remove(&disk);
        self.tell(Observed { gone_disks: vec![disk], ..Observed::default() });
    }

    /// What a snapshot is now.
    pub(crate) fn snapshot(&self, seen: SnapshotObserved) {
        let mut state = self.state();
        if state.snapshots.insert(seen.snapshot, seen.clone()).as_ref() != Some(&seen) {
            self.tell(Observed { snapshots: vec![seen], ..Observed::default() });
        }
    }

    /// How far it is with a snapshot, of which the rest stays known.
    pub(crate) fn snapshot_progress(&self, now: SnapshotObserved) {
        let known = self.state().snapshots.get(&now.snapshot).cloned();
        let SnapshotObserved { state, progress, .. } = now;
        self.snapshot(match known {
            Some(known) => SnapshotObserved { state, progress, detail: String::new(), ..known },
            None => now,
        });
    }

    /// Tells again what a snapshot is.
    pub(crate) fn tell_snapshot(&self, snapshot: SnapshotId) {
        let state = self.state();
        if let Some(seen) = state.snapshots.get(&snapshot) {
            self.tell(Observed { snapshots: vec![seen.clone()], ..Observed::default() });
        }
    }

    /// A snapshot is not here, or not any more.
    pub(crate) fn snapshot_gone(&self, seen: SnapshotObserved) {
        let mut state = self.state();
        state.snapshots.remove(&seen.snapshot);
        self.tell(Observed { snapshots: vec![seen], ..Observed::default() });
    }

    /// Whether a snapshot is known to be another desktop's.
    pub(crate) fn is_of_another(&self, snapshot: SnapshotId, desktop: DesktopId) -> bool {
        self.state().snapshots.get(&snapshot).is_some_and(|seen| seen.desktop != desktop)
    }

    /// What a snapshot is, where there is one.
    pub(crate) fn snapshot_state(&self, snapshot: SnapshotId) -> Option<SnapshotState> {
        self.state().snapshots.get(&snapshot).map(|seen| seen.state)
    }

    /// A desktop is gone with its snapshots.
    pub(crate) fn forget_snapshots(&self, desktop: DesktopId) {
        self.state().snapshots.retain(|_, seen| seen.desktop != desktop);
    }

    /// Of snapshots that could not be taken, only those that are still asked for are told.
    pub(crate) fn keep_failed(&self, is_wanted: impl Fn(SnapshotId) -> bool) {
        self.state().snapshots.retain(|id, seen| seen.state != SnapshotState::Failed || is_wanted(*id));
    }

    /// What was followed last.
    pub(crate) fn followed(&self) -> Followed {
        self.state().ledger.followed()
    }

    /// How many desktops are here.
    pub(crate) fn desktops(&self) -> u64 {
        let state = self.state();
        state.ledger.complete().iter().filter(|d| d.phase != Phase::Stopped).count() as u64
    }

    /// A desktop was found on the disk.
    pub(crate) fn adopt(&self, desktop: DesktopId, generation: u64, wish: u64, persistent: bool) {
        self.state().ledger.adopt(desktop, generation, wish, persistent);
    }

    /// Takes over what should be here: what is to be made and ended for it.
    pub(crate) fn follow(&self, desired: &Desired) -> Result<Vec<Order>, Refusal> {
        let mut state = self.state();
        let orders = state.ledger.follow(desired)?;
        Ok(self.told(orders))
    }

    /// Takes over what became of a desktop; what may be made now that it is gone.
    pub(crate) fn desktop(&self, desktop: DesktopObserved) -> Vec<Order> {
        let mut state = self.state();
        let orders = state.ledger.observe(desktop);
        self.told(orders)
    }

    /// Tells what is to be told, in the order in which the ledger has it; the rest is for who can do it.
    fn told(&self, orders: Vec<Order>) -> Vec<Order> {
        let mut others = Vec::new();
        for order in orders {
            match order {
                Order::Tell(seen) => self.tell(Observed { desktops: vec![seen], ..Observed::default() }),
                other => others.push(other),
            }
        }
        others
    }
}

fn complete(state: &State) -> Observed {
    Observed {
        number: 0,
        complete: true,
        images: Some(state.images.clone()),
        templates: state.templates.values().cloned().collect(),
        desktops: state.ledger.complete(),
        disks: state.disks.iter().copied().collect(),
        gone_disks: Vec::new(),
        snapshots: state.snapshots.values().cloned().collect(),
    }
}
