//! The life of a desktop: what is wanted of it, and what is seen of it.
//!
//! ```text
//! unplaced → placing → preparing → starting → ready → stopping → stopped
//!                          │         ↑ │        │
//!                          │         │ └────────┤
//!                          │ off, suspended ←───┤                        off and suspended: only what persists
//!                          └────────────────────┴──→ failed(reason)      lost: the host is silent
//! ```

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the control plane wants of a desktop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    /// It should run.
    Running,
    /// It should be powered off, and keep its disk.
    Off,
    /// It should hold no memory, and go on later where it was.
    Suspended,
    /// It should be destroyed with all its data.
    Absent,
}

impl DesiredState {
    /// Whether it is to be there and not to run.
    #[must_use]
    pub fn is_at_rest(self) -> bool {
        matches!(self, Self::Off | Self::Suspended)
    }
}

/// What is seen of a desktop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No host has been chosen yet.
    Unplaced,
    /// A host has been chosen and has not answered yet.
    Placing,
    /// The host waits for its template.
    Preparing,
    /// It is being forked; the picture may already be there.
    Starting,
    /// It runs, has its own identity and takes input.
    Ready,
    /// It is being powered off or destroyed.
    Stopping,
    /// It is powered off; its disk is kept.
    Off,
    /// It is suspended: its memory is on its host's disk, and it goes on where it was.
    Suspended,
    /// It is gone, and its data with it.
    Stopped,
    /// The host that runs it is silent: it may or may not run.
    Lost,
    /// It could not be made, or it died; `detail` says why.
    Failed,
}

impl Phase {
    /// Whether it is there and does not run.
    #[must_use]
    pub fn is_at_rest(self) -> bool {
        matches!(self, Self::Off | Self::Suspended)
    }

    /// The word used in the API, the CLI and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unplaced => "unplaced",
            Self::Placing => "placing",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Off => "off",
            Self::Suspended => "suspended",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
            Self::Failed => "failed",
        }
    }
}

/// What makes a clone its own machine: given to the guest after the fork, before its input and network work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Identity {
    /// The guest's host name, a DNS label (RFC 1123).
    pub hostname: String,
    /// `/etc/machine-id`: 32 lower-case hexadecimal digits (machine-id(5)).
    pub machine_id: String,
    /// The address of its network card, `xx:xx:xx:xx:xx:xx`, locally administered.
    pub mac: String,
}

/// How long each step of a fork took, milliseconds since the host agent received the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ForkTimings {
    /// The overlay exists and the desktop process runs.
    #[serde(default)]
    pub spawned_ms: Option<f64>,
    /// The hypervisor has loaded the template's state and answers.
    #[serde(default)]
    pub loaded_ms: Option<f64>,
    /// The guest runs.
    #[serde(default)]
    pub running_ms: Option<f64>,
    /// The first picture is there.
    #[serde(default)]
    pub picture_ms: Option<f64>,
    /// The identity is in place and input is let through.
    #[serde(default)]
    pub identity_ms: Option<f64>,
    /// The first viewer was sent a picture.
    #[serde(default)]
    pub frame_ms: Option<f64>,
}

/// The broker's part of a connect that made a desktop: how long each step took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Launch {
    /// When it was asked for, milliseconds since the epoch.
    pub requested_at: i64,
    /// Until the pool was free for this decision: waiting for others, and tries at which others were faster.
    pub queue_ms: f64,
    /// From there until the decision was on record.
    pub placement_ms: f64,
    /// From there until the broker heard of the picture; none when the user's request did not wait so long.
    #[serde(default)]
    pub picture_ms: Option<f64>,
}

/// A step of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LaunchStep {
    /// Waiting for others that want a desktop of the pool.
    Queue,
    /// Choosing the host, and putting that on record.
    Placement,
    /// Telling the host, and hearing from it: both ways.
    Order,
    /// Making the virtual machine from the template, until its guest runs.
    Clone,
    /// Until there is a picture.
    Picture,
    /// Giving the guest its name and machine id, until input is let through.
    Identity,
    /// Until the first viewer was sent a picture.
    FirstFrame,
}

impl LaunchStep {
    /// As it is called in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Placement => "placement",
            Self::Order => "order",
            Self::Clone => "clone",
            Self::Picture => "picture",
            Self::Identity => "identity",
            Self::FirstFrame => "first_frame",
        }
    }
}

/// Where the gateway reaches a desktop's display. The broker hands these out; a client never names one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Endpoint {
    /// A Unix socket on the gateway's own machine.
    Unix {
        /// Absolute path of the socket.
        path: String,
    },
    /// The desktop's host, by the network: the connection is secured by both sides' certificates.
    Host {
        /// Name or IP address, and port, such as `192.0.2.7:8445`.
        address: String,
    },
}
