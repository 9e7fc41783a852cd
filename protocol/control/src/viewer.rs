//! The viewers of a session: their roles, what they are told, and an administrator's shadow.
//!
//! ```text
//! a browser's WebSocket (subprotocol lucarne.notices): binary messages are RFB, text messages are Notice
//! ```

use crate::ids::ShadowId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a viewer is to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ViewerRole {
    /// The session's user, with keyboard, pointer and clipboard.
    Owner,
    /// The session's user, who only looks.
    ViewOnly,
    /// An administrator.
    Shadow,
}

/// What carries a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ViewerKind {
    /// A WebSocket.
    Browser,
    /// A VNC viewer.
    Vnc,
}

/// A viewer that is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Viewer {
    /// Its number: unique until the broker restarts.
    pub id: u64,
    /// What it is to the session.
    pub role: ViewerRole,
    /// What it types reaches the desktop.
    pub control: bool,
    /// The name of the user who looks.
    pub user: String,
    /// The network address that it comes from, without port.
    pub address: String,
    /// What carries it.
    pub kind: ViewerKind,
    /// What secures its connection: `TLS` for browsers, for VNC viewers the security type as they name it.
    pub security: String,
    /// When it came.
    pub since: i64,
}

/// What happens to the viewers with control that are there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ViewerWish {
    /// They end, and are told who came.
    #[default]
    TakeOver,
    /// They stay, and both may type.
    Share,
    /// They stay, and the newcomer only looks.
    ViewOnly,
}

/// Whether administrators may watch a pool's sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShadowPolicy {
    /// Nobody may.
    #[default]
    Off,
    /// When the user allows it, each time, and for as long as the user's browser shows it.
    WithConsent,
    /// When the user's browser shows it, or the user is not there.
    WithNotice,
}

/// An administrator's wish to watch a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewShadow {
    /// Keyboard and pointer too; the pool has to allow it.
    #[serde(default)]
    pub control: bool,
    /// What for, shown to the user and put on record; at most 200 characters.
    #[serde(default)]
    #[schema(max_length = 200, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub reason: String,
}

/// The user's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowAnswer {
    /// They may.
    pub allow: bool,
}

/// The question to the user whether an administrator may watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowQuestion {
    /// Which.
    pub id: ShadowId,
    /// The administrator's name.
    pub user: String,
    /// Keyboard and pointer too.
    pub control: bool,
    /// What for; may be empty.
    pub reason: String,
    /// Without an answer this many seconds after it was asked it counts as denied.
    pub answer_within_s: u32,
}

/// Why a stream is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndingReason {
    /// Nothing is typed: the viewer is disconnected, and the session goes on.
    Idle,
    /// The session has lasted for as long as it may: the user is logged off.
    SessionLimit,
    /// Its host is going to be worked on: a floating desktop ends, a personal one is powered off.
    Maintenance,
}

/// An end that is near.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ending {
    /// In so many seconds.
    pub left_s: u32,
    /// Why.
    pub why: EndingReason,
}

/// What a browser's viewer is told beside the picture: a JSON text message of its WebSocket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// All viewers and open questions, at the beginning and whenever something changed.
    Viewers {
        /// The `id` of the viewer that is told.
        you: u64,
        /// All viewers, in the order in which they came.
        viewers: Vec<Viewer>,
        /// What the user is asked; for viewers of the role `owner` alone.
        questions: Vec<ShadowQuestion>,
    },
    /// The stream ends at that time, unless something is done where `why` is `idle`; none takes back what was said before.
    Ending {
        /// When and why.
        ending: Option<Ending>,
    },
    /// Another viewer took over; the stream ends with code 4003.
    TakenOver {
        /// Which.
        by: Viewer,
    },
}
