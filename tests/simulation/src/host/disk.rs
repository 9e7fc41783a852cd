//! A host's disk: what is there again when its agent, or its machine, was off.

use lucarne_control::agent::{CloneOf, DesktopDesired, Followed};
use lucarne_control::desktop::DesiredState;
use lucarne_control::{DesktopId, SnapshotId};
use std::collections::BTreeMap;

/// What is wanted of a desktop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// The wish.
    pub wish: u64,
    /// It is to run.
    pub running: bool,
    /// It is to be suspended.
    pub suspended: bool,
    /// It has a disk that outlives its guest.
    pub persistent: bool,
    /// It is to be put back to this first.
    pub back_to: Option<SnapshotId>,
    /// It is to be made of this.
    pub origin: Option<CloneOf>,
}

impl Wanted {
    /// As its host was told.
    #[must_use]
    pub fn of(desired: &DesktopDesired) -> Self {
        let running = desired.state == DesiredState::Running;
        let suspended = desired.state == DesiredState::Suspended;
        let DesktopDesired { wish, persistent, back_to, origin, .. } = *desired;
        Self { wish, running, suspended, persistent, back_to, origin }
    }
}

/// A desktop's folder.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The placement's generation.
    pub generation: u64,
    /// The last wish that was acted on.
    pub wanted: Wanted,
    /// The wish that a guest is to be started for, as the agent has put it on the disk.
    pub start: u64,
    /// The wish that one was started for last, as the desktop's process has put it there before that.
    pub started: u64,
    /// Its guest has had its identity: from then on there is something to be kept.
    pub made: bool,
    /// Which virtual disk it has: no other has the same number.
    pub volume: u64,
    /// What its user has saved there: it rises with each use.
    pub saved: u64,
    /// What its guest was suspended to, if it is.
    pub suspended: Option<Suspended>,
    /// What it is cloned from, where that is not there yet.
    pub origin: Option<CloneOf>,
    /// Its snapshots.
    pub snapshots: BTreeMap<SnapshotId, Snap>,
    /// The one that its disk goes on from.
    pub tip: Option<SnapshotId>,
    /// The wish for which it was put back last.
    pub back: u64,
}

/// A snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snap {
    /// The one before.
    pub parent: Option<SnapshotId>,
    /// What was saved on the disk then.
    pub saved: u64,
    /// What was open, if the guest's memory is with it.
    pub open: Option<u64>,
    /// When it was taken, milliseconds since the epoch.
    pub taken_at: i64,
}

/// A guest that is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspended {
    /// What its user had open.
    pub open: u64,
    /// What was saved on its disk then.
    pub saved: u64,
}

impl Folder {
    /// Whether it has a disk that outlives its guest.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.wanted.persistent && self.made
    }

    /// The snapshot that it is to be put back to, if that is not done.
    #[must_use]
    pub fn is_to_go_back(&self) -> Option<SnapshotId> {
        self.wanted.back_to.filter(|_| self.back < self.wanted.wish)
    }

    /// Whether a guest is to be started, where none runs.
    #[must_use]
    pub fn is_to_start(&self) -> bool {
        self.wanted.running && (!self.wanted.persistent || self.start > self.started)
    }
}

/// What is on a disk.
#[derive(Default)]
pub struct Disk {
    /// Desktops' folders.
    pub folders: BTreeMap<DesktopId, Folder>,
    /// What was followed last.
    pub followed: Followed,
    /// What of that is there even when the machine stops at once.
    pub synced: Followed,
}
