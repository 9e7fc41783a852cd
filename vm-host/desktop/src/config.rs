//! What a desktop process is told when it starts: `desktop.json` in the desktop's folder, written by the host agent.

use lucarne_control::agent::CloneOf;
use lucarne_control::desktop::{DesiredState, Identity};
use lucarne_control::ids::{DesktopId, DiskId, PoolId, SnapshotId};
use lucarne_control::spec::{ClipboardPolicy, NetworkPolicy, RecordingPolicy};
use lucarne_qemu::Accel;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// File names in a desktop's folder, beside those of the driver.
pub mod files {
    /// The configuration.
    pub const CONFIG: &str = "desktop.json";
    /// What the process has got done, for the one that takes over after it: [`super::Done`].
    pub const DONE: &str = "done.json";
    /// Where the gateway connects (`lucarne_control::link`). Bound by the agent and inherited.
    pub const DISPLAY_SOCKET: &str = "display.sock";
    /// Where the agent connects ([`crate::control`]). Bound by the agent and inherited.
    pub const CONTROL_SOCKET: &str = "control.sock";
    /// What the process logs.
    pub const LOG: &str = "desktop.log";
}

/// `desktop.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DesktopConfig {
    /// Which desktop.
    pub desktop: DesktopId,
    /// The placement's generation.
    pub generation: u64,
    /// What makes the clone its own machine.
    pub identity: Identity,
    /// What it may reach.
    pub network: NetworkPolicy,
    /// Viewers may hear what the guest plays. A configuration of an earlier version says nothing of it, and has a guest
    /// without a sound card.
    #[serde(default)]
    pub audio: bool,
    /// Which way copied text goes between the guest and viewers.
    #[serde(default)]
    pub clipboard: ClipboardPolicy,
    /// The template's folder, absolute.
    pub template: PathBuf,
    /// The hypervisor's program.
    pub qemu: PathBuf,
    /// Its version.
    pub qemu_version: String,
    /// What executes the guest.
    pub accel: Accel,
    /// When the agent received the request, milliseconds since the epoch; fork timings count from here.
    pub requested_at_ms: f64,
    /// Whether it is recorded.
    #[serde(default)]
    pub recording: RecordingPolicy,
    /// Whose recordings count together.
    #[serde(default)]
    pub pool: Option<PoolId>,
    /// It outlives its guest: one that ends is powered off, and boots again from its disk.
    #[serde(default)]
    pub persistent: bool,
    /// The last wish that the agent followed, and what was wanted.
    #[serde(default)]
    pub wish: u64,
    /// What was wanted.
    #[serde(default = "running")]
    pub state: DesiredState,
    /// The wish that it is started for. A guest is started once for each, however often its process is.
    #[serde(default)]
    pub start: u64,
    /// Its user's disk, which it may open.
    #[serde(default)]
    pub home: Option<Home>,
    /// It is to be put back to this snapshot for [`DesktopConfig::wish`], unless [`Done::back`] says that it was.
    #[serde(default)]
    pub back_to: Option<SnapshotId>,
    /// What it is cloned from. Nothing is started before that was copied ([`Done::cloned`]).
    #[serde(default)]
    pub origin: Option<CloneOf>,
}

/// A user's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// Which.
    pub disk: DiskId,
    /// Its file, absolute; plain (raw).
    pub path: PathBuf,
    /// No guest has come up with it yet: its file system may be to be made.
    pub fresh: bool,
}

fn running() -> DesiredState {
    DesiredState::Running
}

/// `done.json`: written once each step is done, so that a process that takes over neither repeats nor forgets one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// QEMU was started. If it does not run any more, the guest is lost: it is never forked a second time.
    #[serde(default)]
    pub forked: bool,
    /// The guest has its identity.
    #[serde(default)]
    pub identified: bool,
    /// A guest had its identity once: the disk is its user's from then on.
    #[serde(default)]
    pub made: bool,
    /// It is a copy of another desktop, whose identity it has until it is given its own.
    #[serde(default)]
    pub cloned: bool,
    /// [`DesktopConfig::start`] when QEMU was started last.
    #[serde(default)]
    pub started: u64,
    /// It was started to boot from its disk.
    #[serde(default)]
    pub booted: bool,
    /// The run of the host's kernel in which it was started (`/proc/sys/kernel/random/boot_id`).
    #[serde(default)]
    pub host_boot: String,
    /// The version of QEMU that runs it, or ran it last.
    #[serde(default)]
    pub qemu_version: String,
    /// The last wish by which it was put back to a snapshot.
    #[serde(default)]
    pub back: u64,
    /// How it ended, where the process saw that.
    #[serde(default)]
    pub ended: Option<String>,
    /// How long the steps took.
    #[serde(default)]
    pub timings: lucarne_control::desktop::ForkTimings,
}
