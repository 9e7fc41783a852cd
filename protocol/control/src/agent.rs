//! Messages between broker and host agent: one WebSocket that the agent dials, JSON text frames.
//!
//! ```text
//! agent                               broker
//!   │ ── Hello ──────────────────────►  │   who I am, what I can run
//!   │ ── Observed (complete) ────────►  │   what is here
//!   │ ◄─────────── Desired (complete)   │   what should be here
//!   │ ── Observed (delta) … ─────────►  │   as it changes
//!   │ ── Heartbeat every 5 s ────────►  │
//! ```
//!
//! `Desired` is always complete: what is not in it should not exist. `Observed` with `complete: true` lists
//! everything that the host has; with `false` only what changed. A lower generation than the agent has seen for a
//! desktop is refused.

use crate::desktop::{DesiredState, Endpoint, ForkTimings, Identity, Phase};
use crate::ids::{DesktopId, PoolId};
use crate::spec::{ClipboardPolicy, ImageDigest, ImageInfo, NetworkPolicy, RecordingPolicy, TemplateSpec};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The version of these messages; a broker refuses an agent whose major version differs.
pub const PROTOCOL_VERSION: u32 = 1;

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
}

/// What a host can do, as shown to administrators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// Rises with each change.
    pub revision: u64,
    /// Templates to have ready, whether or not a desktop needs them now.
    pub templates: Vec<TemplateSpec>,
    /// The desktops placed here.
    pub desktops: Vec<DesktopDesired>,
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
}

/// What is on a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
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
