//! Snapshots on a host: taken and deleted as it is told, and desktops put back to them.
//!
//! What is on the disk is there again when the agent is; what could not be taken is told until nobody asks for it any more.

use super::disk::{Folder, Snap};
use super::life::Step;
use super::{Suspended, seen};
use crate::world::{Event, World};
use lucarne_control::agent::{Observed, SnapshotDesired, SnapshotObserved, SnapshotState, SnapshotWish};
use lucarne_control::desktop::Phase;
use lucarne_control::{DesktopId, SnapshotId};

/// Before a deletion is tried again that failed, milliseconds.
const LATER: u64 = 30_000;

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

/// What is said of those that a desktop has.
pub(super) fn of_folder(desktop: DesktopId, folder: &Folder) -> impl Iterator<Item = SnapshotObserved> {
    folder.snapshots.iter().map(move |(id, snap)| SnapshotObserved {
        parent: snap.parent,
        current: folder.tip == Some(*id),
        memory: snap.open.is_some(),
        taken_at: snap.taken_at,
        progress: 100,
        ..observed(desktop, *id, SnapshotState::Ready)
    })
}

impl World {
    /// A host hears all that is wanted of its snapshots.
    pub(super) fn snapshots_told(&mut self, h: usize, desired: &[SnapshotDesired]) {
        let host = &mut self.hosts[h];
        host.not_taken.retain(|id, _| desired.iter().any(|wish| wish.snapshot == *id));
        let life = host.life;
        for wish in desired {
            let takes = matches!(wish.wish, SnapshotWish::Take { .. });
            let host = &mut self.hosts[h];
            if host.under_way.insert(wish.snapshot, takes) == Some(takes) {
                continue;
            }
            let delay = self.random.within(5, 3_000);
            self.after(delay, Event::Snapshot(h, life, *wish));
        }
    }

    /// A host comes to what is wanted of a snapshot.
    pub fn snapshot_is_due(&mut self, h: usize, life: u64, wish: SnapshotDesired) {
        self.checker.look();
        let SnapshotDesired { desktop, snapshot, wish: what } = wish;
        let takes = matches!(what, SnapshotWish::Take { .. });
        let host = &mut self.hosts[h];
        // One that was being taken may have been given up for its deletion.
        if !host.agent || host.life != life || host.under_way.get(&snapshot) != Some(&takes) {
            return;
        }
        let up = host.machines.get(&desktop).map(|guest| guest.up);
        let busy = host.tasks.get(&desktop).is_some_and(|task| task.powering_off || task.ending);
        if busy || up == Some(false) {
            return self.after(500, Event::Snapshot(h, life, wish));
        }
        match what {
            SnapshotWish::Take { memory, until } => {
                host.under_way.remove(&snapshot);
                self.snapshot_is_taken(h, desktop, snapshot, memory, until);
            }
            SnapshotWish::Delete if self.trouble && self.random.one_in(4) => {
                self.count("snapshots that could not be deleted at once");
                let why = "there is no room".to_owned();
                let state = SnapshotState::Deleting;
                self.tell_snapshots(
                    h,
                    vec![SnapshotObserved { detail: why, ..observed(desktop, snapshot, state) }],
                );
                self.after(LATER, Event::Snapshot(h, life, wish));
            }
            SnapshotWish::Delete => {
                host.under_way.remove(&snapshot);
                self.snapshot_is_deleted(h, desktop, snapshot);
            }
        }
    }

    fn snapshot_is_taken(
        &mut self,
        h: usize,
        desktop: DesktopId,
        snapshot: SnapshotId,
        memory: bool,
        until: i64,
    ) {
        let late = crate::world::BEGIN + self.now as i64 > until;
        let full = self.trouble && self.random.one_in(8);
        let taken_at = crate::world::BEGIN + self.now as i64;
        let host = &mut self.hosts[h];
        let there = host.disk.folders.get(&desktop).is_some_and(|f| f.snapshots.contains_key(&snapshot));
        if let Some(failed) = host.not_taken.get(&snapshot).cloned() {
            return self.tell_snapshots(h, vec![failed]);
        }
        let guest = host.machines.get(&desktop).copied();
        match host.disk.folders.get_mut(&desktop).filter(|_| !late && !full || there) {
            Some(folder) => {
                if !there {
                    let open = guest.map(|guest| guest.open).or(folder.suspended.map(|s| s.open));
                    let open = open.filter(|_| memory);
                    let snap = Snap { parent: folder.tip, saved: folder.saved, open, taken_at };
                    folder.snapshots.insert(snapshot, snap);
                    folder.tip = Some(snapshot);
                    self.count("snapshots taken");
                    self.note(|| format!("{snapshot} of {desktop} is taken on host-{h}"));
                }
                self.find_snapshots(h, desktop);
            }
            None => {
                let why = if late { "it is too late" } else { "there is no room" };
                let failed = observed(desktop, snapshot, SnapshotState::Failed);
                let failed = SnapshotObserved { detail: why.to_owned(), ..failed };
                host.not_taken.insert(snapshot, failed.clone());
                self.count("snapshots that could not be taken");
                self.tell_snapshots(h, vec![failed]);
            }
        }
    }

    fn snapshot_is_deleted(&mut self, h: usize, desktop: DesktopId, snapshot: SnapshotId) {
        let host = &mut self.hosts[h];
        host.not_taken.remove(&snapshot);
        if let Some(folder) = host.disk.folders.get_mut(&desktop)
            && let Some(old) = folder.snapshots.remove(&snapshot)
        {
            for over in folder.snapshots.values_mut().filter(|snap| snap.parent == Some(snapshot)) {
                over.parent = old.parent;
            }
            if folder.tip == Some(snapshot) {
                folder.tip = old.parent;
            }
            self.count("snapshots deleted");
            self.note(|| format!("{snapshot} of {desktop} is deleted on host-{h}"));
            self.checker.snapshots.deleted(snapshot);
        }
        self.tell_snapshots(h, vec![observed(desktop, snapshot, SnapshotState::Gone)]);
        self.find_snapshots(h, desktop);
    }

    /// A desktop is put back for this wish, or is not.
    pub(super) fn goes_back(&mut self, h: usize, desktop: DesktopId, wish: u64) {
        let refused = self.trouble && self.random.one_in(8);
        let host = &mut self.hosts[h];
        let Some(task) = host.tasks.get_mut(&desktop) else { return };
        task.powering_off = false;
        let Some(folder) = host.disk.folders.get_mut(&desktop) else { return };
        let Some(to) = folder.wanted.back_to.filter(|_| folder.wanted.wish == wish) else { return };
        match folder.snapshots.get(&to).copied().filter(|_| !refused) {
            Some(snap) => {
                host.machines.remove(&desktop);
                (folder.saved, folder.tip, folder.back) = (snap.saved, Some(to), wish);
                folder.suspended = snap.open.map(|open| Suspended { open, saved: snap.saved });
                self.count("desktops put back to a snapshot");
                self.note(|| format!("{desktop} is put back to {to} on host-{h} for wish {wish}"));
                self.checker.went_back(desktop, to, wish, snap.saved, snap.open.unwrap_or(0));
                self.find_snapshots(h, desktop);
            }
            None => {
                // Whoever is told so works on.
                if task.told.wish == wish {
                    task.told.back_to = None;
                }
                folder.wanted.back_to = None;
                self.count("desktops that could not be put back");
                self.note(|| format!("{desktop} is not put back to {to} on host-{h} for wish {wish}"));
                self.checker.snapshots.not_back(desktop, wish);
            }
        }
    }

    /// What a desktop is cloned from is copied, once it is there.
    pub(super) fn is_copied(&mut self, h: usize, desktop: DesktopId, generation: u64) {
        let (life, full) = (self.hosts[h].life, self.trouble && self.random.one_in(8));
        let host = &mut self.hosts[h];
        let Some(of) = host.disk.folders.get(&desktop).and_then(|folder| folder.origin) else { return };
        let waited_for = host.under_way.get(&of.snapshot) == Some(&true);
        let there = host.disk.folders.get(&of.desktop).and_then(|other| other.snapshots.get(&of.snapshot));
        let Some(snap) = there.copied().filter(|_| !full) else {
            if waited_for {
                return self.after(300, Event::Desktop(h, life, Step::Copy(desktop, generation)));
            }
            self.count("desktops that could not be cloned");
            return self.is_over(h, desktop, "what it is cloned from is not there");
        };
        let Some(folder) = host.disk.folders.get_mut(&desktop) else { return };
        (folder.origin, folder.made, folder.saved) = (None, true, snap.saved);
        folder.suspended = snap.open.map(|open| Suspended { open, saved: snap.saved });
        self.count("desktops cloned");
        self.note(|| format!("{desktop} is cloned from {} on host-{h}", of.snapshot));
        self.checker.cloned(desktop, of.snapshot, snap.saved, snap.open.unwrap_or(0));
        self.act(h, desktop);
    }

    /// It is told that a desktop is about to be put back, for this wish.
    pub(super) fn is_to_go_back(&mut self, h: usize, desktop: DesktopId, generation: u64) {
        self.observe(h, seen(desktop, generation, Phase::Stopping, "it is being put back to a snapshot"));
    }

    fn find_snapshots(&mut self, h: usize, desktop: DesktopId) {
        let folder = self.hosts[h].disk.folders.get(&desktop);
        let all = folder.map(|folder| of_folder(desktop, folder).collect()).unwrap_or_default();
        self.tell_snapshots(h, all);
    }

    fn tell_snapshots(&mut self, h: usize, snapshots: Vec<SnapshotObserved>) {
        if !snapshots.is_empty() {
            self.tell(h, Observed { snapshots, ..Observed::default() });
        }
    }
}
