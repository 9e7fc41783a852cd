//! What the updates of a desktop's viewers cost, stage by stage: the answer to "what did that key cost".
//!
//! ```text
//! key read ─input► given to the guest ─guest► damage ─compare► seen ─wait► taken ─encode► encoded ─send► with the kernel
//!                                                                                                         └─present► shown
//! ```
//!
//! A desktop process keeps the last updates of each viewer and tells them on request ([`crate::link::Purpose::Trace`]); the
//! broker adds what its kernel knows of the connections. All times are of one monotonic clock, in milliseconds.

use crate::ids::SessionId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The trace of a session's desktop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trace {
    /// Those that look at it now, in the order in which they came.
    pub viewers: Vec<ViewerTrace>,
    /// The viewers' TCP connections to this gateway, as far as its kernel tells.
    #[serde(default)]
    pub connections: Vec<TcpFigures>,
}

/// One viewer's last updates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ViewerTrace {
    /// Its number at the desktop, counted from 1.
    pub viewer: u64,
    /// The session on whose behalf it came.
    pub session: Option<SessionId>,
    /// Its input is dropped.
    pub view_only: bool,
    /// Updates that it was sent since it came.
    pub updates: u64,
    /// The times of the updates that are remembered; stages of which nothing is known are left out.
    pub stages: Vec<StageTimes>,
    /// The last updates, oldest first, as many as were asked for.
    pub recent: Vec<UpdateTrace>,
    /// What is believed of the way to it.
    pub link: LinkFigures,
}

/// A part of an update's way, or several together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// From the viewer's key or pointer being read to its being given to the guest.
    Input,
    /// Until the hypervisor told of damage.
    Guest,
    /// Until it was found what really changed.
    Compare,
    /// Until the viewer was free for it: it had asked, and the link had room.
    Wait,
    /// Until it was encoded.
    Encode,
    /// Until the kernel had its last byte.
    Send,
    /// Until the viewer had answered the fence behind it, there and back, its decoding included. Only of updates with a fence
    /// of their own.
    Present,
    /// From damage to the kernel.
    DamageToSent,
    /// From damage to the answered fence.
    DamageToPresent,
    /// From a key or pointer being read to the kernel.
    InputToSent,
    /// From a key or pointer being read to the answered fence: what it cost.
    InputToPresent,
}

impl Stage {
    /// All, in the order of the way.
    pub const ALL: [Self; 11] = [
        Self::Input,
        Self::Guest,
        Self::Compare,
        Self::Wait,
        Self::Encode,
        Self::Send,
        Self::Present,
        Self::DamageToSent,
        Self::DamageToPresent,
        Self::InputToSent,
        Self::InputToPresent,
    ];

    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Guest => "guest",
            Self::Compare => "compare",
            Self::Wait => "wait",
            Self::Encode => "encode",
            Self::Send => "send",
            Self::Present => "present",
            Self::DamageToSent => "damage to sent",
            Self::DamageToPresent => "damage to present",
            Self::InputToSent => "input to sent",
            Self::InputToPresent => "input to present",
        }
    }
}

/// How long a stage took: the nearest-rank percentiles of the updates that are remembered, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StageTimes {
    /// Which.
    pub stage: Stage,
    /// Updates of which its time is known.
    pub count: u32,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// 95 of 100 took no longer.
    pub p95_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// None took longer.
    pub max_ms: f64,
}

/// What a viewer does that the guest hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// A key was pressed. Which one is kept nowhere.
    Key,
    /// The pointer moved, or a button changed.
    Pointer,
}

/// One update. Of a stage that it did not go through, or that is not known, there is no time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpdateTrace {
    /// The trace id: the viewer's number, a dot, and the update's among those of the viewer.
    pub id: String,
    /// The input of this viewer that came last before the damage. It need not be the cause.
    pub input: Option<InputKind>,
    /// Times that the hypervisor told of damage since the update before; 0 for a pointer's shape, a repair, or the rest of
    /// what an earlier update had no room for.
    pub damages: u32,
    /// Pixels that were to be encoded.
    pub pixels: u64,
    /// Rectangles that were sent.
    pub rects: u32,
    /// Bytes that were sent.
    pub bytes: u64,
    /// [`Stage::Input`].
    pub input_ms: Option<f64>,
    /// [`Stage::Guest`].
    pub guest_ms: Option<f64>,
    /// [`Stage::Compare`].
    pub compare_ms: Option<f64>,
    /// [`Stage::Wait`].
    pub wait_ms: Option<f64>,
    /// [`Stage::Encode`].
    pub encode_ms: f64,
    /// [`Stage::Send`].
    pub send_ms: f64,
    /// [`Stage::Present`].
    pub present_ms: Option<f64>,
    /// All of what is known, from the first to the last.
    pub total_ms: f64,
}

/// What flow control believes of the way to a viewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LinkFigures {
    /// The viewer answers fences; without, nothing else here is known.
    pub answers: bool,
    /// The shortest time that a fence took there and back.
    pub round_trip_ms: f64,
    /// Bytes that may be on the way.
    pub window: u64,
    /// Bytes a second that the way carries, the viewer's decoding included; none before it was measured.
    pub rate: Option<u64>,
    /// Bytes that are on the way.
    pub in_flight: u64,
}

/// A viewer's TCP connection, as the gateway's kernel sees it (tcp(7), `TCP_INFO`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TcpFigures {
    /// The viewer's address and port.
    pub peer: String,
    /// Smoothed round-trip time.
    pub rtt_ms: f64,
    /// How much that varies.
    pub rttvar_ms: f64,
    /// Bytes a second that the last acknowledgements tell of.
    pub delivery_rate: u64,
    /// Segments that were sent again, in all.
    pub retransmits: u32,
    /// Segments that are on the way.
    pub unacknowledged: u32,
    /// Bytes that wait in the kernel and were not sent yet.
    pub unsent: u32,
}
