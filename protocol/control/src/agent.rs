//! Messages between broker and host agent: one WebSocket that the agent dials, JSON text frames.
//!
//! ```text
//! agent                               broker
//!   │ ── Hello ──────────────────────►  │   who I am, what I can run, what I followed last
//!   │ ── Observed (complete) ────────►  │   what is here
//!   │ ◄─────────── Desired (complete)   │   what should be here
//!   │ ◄─────────── Desired (delta) …    │   as that changes
//!   │ ── Observed (delta) … ─────────►  │   as it changes
//!   │ ── Heartbeat every 5 s ────────►  │
//! ```
//!
//! `Desired` and `Observed` with `complete: true` list everything: what is not in them should not exist, or does not. With
//! `false` they list what changed. Each link has an *epoch*, higher than that of the host's link before, and each `Desired`
//! a *revision* that rises within it: agents refuse what is lower than what they followed before, keep the highest epoch on
//! their disk, and say it when they connect, so a broker whose database is older than that finds out. `Observed` are
//! counted within a link. A desktop is made only where a `Desired` says `fresh`; one that was there once and is not
//! any more is reported as gone. The same holds for users' disks, which outlive the desktops that they are put into.

use crate::desktop::{DesiredState, Endpoint, ForkTimings, Identity, Phase};
use crate::ids::{DesktopId, DiskId, PoolId, SnapshotId};
use crate::spec::{ClipboardPolicy, ImageDigest, ImageInfo, NetworkPolicy, RecordingPolicy, TemplateSpec};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The version of these messages; a broker refuses an agent whose major version differs.
pub const PROTOCOL_VERSION: u32 = 6;

/// From the agent to the broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromAgent {
    /// The first message.
    Hello(Hello),
    /// What is here.
    Observed(Observed),
    /// Nothing changed, and the agent is alive.
    Heartbeat {
        /// Bytes free where desktops' disks are kept.
        disk_free: u64,
        /// Bytes of memory available on the host.
        memory_available: u64,
    },
    /// The answer to [`ToAgent::DeleteImage`]: `error` is `None` when the image is gone.
    ImageDeleted {
        /// The image.
        digest: ImageDigest,
        /// Why it is still there.
        error: Option<String>,
    },
}

/// From the broker to the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToAgent {
    /// Everything that should be on this host.
    Desired(Desired),
    /// Remove an image that no template uses.
    DeleteImage {
        /// The image.
        digest: ImageDigest,
    },
    /// The connection is refused; the agent logs the reason and tries again later.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Who the agent is and what its host can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the agent.
    pub protocol: u32,
    /// The host's name, unique in the deployment.
    pub host: String,
    /// Version of the agent's program.
    pub version: String,
    /// What this host runs desktops with.
    pub facts: HostFacts,
    /// The last desired set that it followed.
    #[serde(default)]
    pub followed: Followed,
    /// How many desktops are there.
    #[serde(default)]
    pub desktops: u64,
    /// Where gateways reach its desktops' displays; none on the broker's own machine.
    #[serde(default)]
    pub streams: Option<StreamDoor>,
}

/// Where a host takes the connections of gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamDoor {
    /// Name or IP address by which gateways reach it; none is that from which its agent comes.
    #[serde(default)]
    pub address: Option<String>,
    /// Port.
    pub port: u16,
}

/// Which desired set a host followed last; ordered as they were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Followed {
    /// The epoch of the link that it came by.
    pub epoch: u64,
    /// Its revision.
    pub revision: u64,
}

/// What a host can do, as shown to administrators.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostFacts {
    /// Logical processors.
    pub cpus: u32,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// The driver that is used: `qemu`.
    pub driver: String,
    /// Its version, such as `10.0.2`.
    pub driver_version: String,
    /// What executes guest instructions: `kvm` or `tcg`.
    pub accel: String,
    /// Why that accelerator: what the KVM probe found, or what was asked for.
    pub accel_reason: String,
    /// What keeps desktops from the host's own network, or why they have none.
    #[serde(default)]
    pub network: String,
}

/// Everything that should be on a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// The link's epoch.
    #[serde(default)]
    pub epoch: u64,
    /// Rises with each change.
    pub revision: u64,
    /// The revision that this is a change to; none where it is complete.
    #[serde(default)]
    pub since: Option<u64>,
    /// Templates to have ready, whether or not a desktop needs them now: always all.
    pub templates: Vec<TemplateSpec>,
    /// The desktops placed here, or those that changed.
    pub desktops: Vec<DesktopDesired>,
    /// In a change, those that should not be here any more.
    #[serde(default)]
    pub removed: Vec<DesktopId>,
    /// Users' disks to be destroyed with what is on them: always all that the host has not said to be gone.
    #[serde(default)]
    pub deleted_disks: Vec<DiskId>,
    /// What is to become of snapshots of desktops that are here: always all of which the host has not said that it is so.
    #[serde(default)]
    pub snapshots: Vec<SnapshotDesired>,
}

/// A snapshot that is to be taken or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDesired {
    /// Of which desktop.
    pub desktop: DesktopId,
    /// Which.
    pub snapshot: SnapshotId,
    /// What is to become of it.
    pub wish: SnapshotWish,
}

/// What is to become of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum SnapshotWish {
    /// It is to be taken.
    Take {
        /// With the guest's memory, if it runs or is suspended; without, only its disk.
        memory: bool,
        /// Not after this, milliseconds since the epoch: it is to be of the time when it was asked for.
        until: i64,
    },
    /// It is to be deleted; one that is being taken is given up.
    Delete,
}

/// A snapshot of a desktop, as its host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotObserved {
    /// Of which desktop.
    pub desktop: DesktopId,
    /// Which.
    pub snapshot: SnapshotId,
    /// How far it is.
    pub state: SnapshotState,
    /// Estimated share of what is being done, 0 to 100.
    #[serde(default)]
    pub progress: u8,
    /// Why it failed.
    #[serde(default)]
    pub detail: String,
    /// The one that it was taken after; none is what its desktop was made of.
    #[serde(default)]
    pub parent: Option<SnapshotId>,
    /// The desktop's disk goes on from it.
    #[serde(default)]
    pub current: bool,
    /// The guest's memory is with it.
    #[serde(default)]
    pub memory: bool,
    /// When it was taken, milliseconds since the epoch.
    #[serde(default)]
    pub taken_at: i64,
    /// For how long the guest stood still for it, milliseconds.
    #[serde(default)]
    pub pause_ms: u64,
    /// What it takes on its host's disk, bytes.
    #[serde(default)]
    pub bytes: u64,
}

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotState {
    /// It is being taken.
    Taking,
    /// It is there.
    Ready,
    /// It is being deleted.
    Deleting,
    /// It is not there, as it should be.
    Gone,
    /// It could not be taken, and is not there.
    Failed,
}

/// A user's disk that is put into a desktop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeDesired {
    /// Which.
    pub disk: DiskId,
    /// Its size where it is made, MiB.
    pub size_mib: u64,
    /// It may be made when it is not there. Without, it has been here, and a desktop without it fails.
    pub fresh: bool,
}

/// One desktop that is placed on the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DesktopDesired {
    /// Which.
    pub desktop: DesktopId,
    /// The placement's generation; the agent refuses a lower one than it has seen.
    pub generation: u64,
    /// What is wanted.
    pub state: DesiredState,
    /// Rises with each change of what is wanted: a guest that ended by itself is started again only for a later wish.
    #[serde(default)]
    pub wish: u64,
    /// It outlives its guest: one that ends or dies is powered off, and only [`DesiredState::Absent`] destroys its disk.
    #[serde(default)]
    pub persistent: bool,
    /// It may be made when it is not there. Without, it has been here, and is kept or reported as gone.
    #[serde(default = "yes")]
    pub fresh: bool,
    /// What it is forked from.
    pub template: TemplateSpec,
    /// What makes it its own machine.
    pub identity: Identity,
    /// What it may reach.
    pub network: NetworkPolicy,
    /// Viewers may hear what it plays. A broker that does not say so has not heard of it.
    #[serde(default)]
    pub audio: bool,
    /// Which way copied text goes between it and its viewers.
    #[serde(default)]
    pub clipboard: ClipboardPolicy,
    /// Whether it is recorded.
    #[serde(default)]
    pub recording: RecordingPolicy,
    /// The pool, whose recordings count together.
    #[serde(default)]
    pub pool: Option<PoolId>,
    /// Its user's disk, for the home directory.
    #[serde(default)]
    pub home: Option<HomeDesired>,
    /// It is to be put back to this snapshot for this wish, whatever runs, before anything else is done for it.
    #[serde(default)]
    pub back_to: Option<SnapshotId>,
    /// Where it is not there yet, what it is made of, instead of its template alone.
    #[serde(default)]
    pub origin: Option<CloneOf>,
}

/// What a desktop is cloned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneOf {
    /// The desktop, which is on the same host and of the same template.
    pub desktop: DesktopId,
    /// Its snapshot. One that is being taken is waited for.
    pub snapshot: SnapshotId,
}

fn yes() -> bool {
    true
}

/// What is on a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// The how manieth it is on its link, from 1; 0 where the agent does not count.
    #[serde(default)]
    pub number: u64,
    /// Everything is listed; what is not listed is not there.
    pub complete: bool,
    /// The store's images; `None` when unchanged.
    #[serde(default)]
    pub images: Option<Vec<ImageInfo>>,
    /// Templates that changed, or all.
    #[serde(default)]
    pub templates: Vec<TemplateObserved>,
    /// Desktops that changed, or all.
    #[serde(default)]
    pub desktops: Vec<DesktopObserved>,
    /// Users' disks that were made, or all.
    #[serde(default)]
    pub disks: Vec<DiskId>,
    /// In a change, users' disks that are gone.
    #[serde(default)]
    pub gone_disks: Vec<DiskId>,
    /// Snapshots that changed, or all; one that is gone is told once.
    #[serde(default)]
    pub snapshots: Vec<SnapshotObserved>,
}

/// How far a template is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TemplateObserved {
    /// Which.
    pub spec: TemplateSpec,
    /// How far it is.
    pub state: TemplateState,
    /// What is going on, for people: `waiting for the desktop to be painted`, or why it failed.
    #[serde(default)]
    pub detail: String,
    /// Seconds that the cold boot took, from power-on to a painted, idle desktop.
    #[serde(default)]
    pub cold_boot_s: Option<f64>,
    /// Estimated share that is done, 0 to 100.
    #[serde(default)]
    pub progress: u8,
}

/// The states of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TemplateState {
    /// It is being made.
    Building,
    /// Desktops can be forked from it.
    Ready,
    /// It could not be made.
    Failed,
}

/// One desktop as its host sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DesktopObserved {
    /// Which.
    pub desktop: DesktopId,
    /// The generation that is seen.
    pub generation: u64,
    /// The wish ([`DesktopDesired::wish`]) that this is about.
    #[serde(default)]
    pub wish: u64,
    /// What is seen. `Stopped` means: gone, with its data, and confirmed.
    pub phase: Phase,
    /// What is going on, or why it failed.
    #[serde(default)]
    pub detail: String,
    /// Where its display is reached, once there is a picture.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// How long the fork's steps took.
    #[serde(default)]
    pub timings: ForkTimings,
}
