//! What the agent and the desktop process say to each other on `control.sock`: JSON lines.
//!
//! The agent connects (again, after it was restarted); the desktop process sends its [`Status`] at once and after every
//! change. The agent may send [`Command`]s. Several agents at once are allowed; each gets the status.

use lucarne_control::SnapshotId;
use lucarne_control::desktop::{ForkTimings, Phase};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a guest may take to power off before it is switched off. A Debian desktop takes ten seconds without an
/// accelerator; programs that refuse to end take what their system gives them. Too low and what they had in mind is lost; too high
/// and a guest that hangs keeps its memory for as long.
pub const POWER_OFF_LIMIT: Duration = Duration::from_secs(90);

/// From the desktop process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `starting`, `ready`, `stopping`, `off`, `suspended`, `stopped` or `failed`.
    pub phase: Phase,
    /// What is going on, or why it failed.
    pub detail: String,
    /// There is a picture, and the display socket serves it.
    pub picture: bool,
    /// Viewers that are connected.
    pub viewers: u32,
    /// How long the fork's steps took, from the agent's receiving the request.
    pub timings: ForkTimings,
    /// How many [`Command::Suspend`]s were not done; why the last was not is in `detail`.
    #[serde(default)]
    pub refusals: u32,
    /// What is suspended cannot be resumed; why is in `detail`.
    #[serde(default)]
    pub unresumable: bool,
    /// What is done to its snapshots, or was done last.
    #[serde(default)]
    pub work: Option<WorkStatus>,
}

/// What is to be done to a desktop's snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum Work {
    /// Take one.
    Take {
        /// Its id.
        snapshot: SnapshotId,
        /// With the guest's memory, if it runs or is suspended.
        memory: bool,
    },
    /// Delete one.
    Delete {
        /// Which.
        snapshot: SnapshotId,
    },
    /// Put one where another desktop can be made of it ([`lucarne_qemu::snapshot::export`]).
    Export {
        /// Which.
        snapshot: SnapshotId,
        /// Under a number that no other attempt has.
        attempt: u64,
    },
    /// See whether the desktop can be put back to one, and change nothing.
    TryBack {
        /// To which.
        snapshot: SnapshotId,
    },
    /// Put the desktop back to one; it must not run. Asked for again by the same wish, it is not done again.
    Back {
        /// To which.
        snapshot: SnapshotId,
        /// By which wish of the control plane.
        wish: u64,
    },
}

impl Work {
    /// The snapshot that it is about.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotId {
        match *self {
            Self::Take { snapshot, .. }
            | Self::Delete { snapshot }
            | Self::Export { snapshot, .. }
            | Self::TryBack { snapshot }
            | Self::Back { snapshot, .. } => snapshot,
        }
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkStatus {
    /// The how manieth it is since the process began.
    pub number: u32,
    /// What is done.
    pub todo: Work,
    /// Estimated share that is done, 0 to 100.
    pub progress: u8,
    /// How it went, once it has ended.
    pub end: Option<WorkEnd>,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum WorkEnd {
    /// It is done.
    Done,
    /// It cannot be done just now: the desktop is as it was.
    NotNow {
        /// Why.
        why: String,
    },
    /// It could not be done: the desktop is as it was.
    Failed {
        /// Why.
        why: String,
    },
}

/// From the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// End the guest at once, say `stopped`, and end.
    Stop,
    /// Have the guest power off, within [`POWER_OFF_LIMIT`], say `off`, and end.
    PowerOff,
    /// Put the guest on the disk, say `suspended`, and end; or go on, and say why ([`Status::refusals`]).
    Suspend,
    /// See to its snapshots, and say how that goes ([`Status::work`]).
    Work {
        /// What to do.
        todo: Work,
    },
    /// What is done to its snapshots is not wanted any more.
    GiveUp,
}
