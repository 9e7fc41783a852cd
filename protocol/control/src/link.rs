//! The first exchange on a connection from the gateway to a desktop process, before RFB, a thumbnail's bytes or a trace.
//!
//! The gateway sends one JSON line, [`Open`]; the desktop process checks it against what it runs and answers with one
//! JSON line, [`Opened`]. After `Opened::Ok` the stream is RFB 3.8 with security type None (for [`Purpose::View`]),
//! a JPEG until end of file (for [`Purpose::Thumbnail`]), or until end of file as JSON a [`crate::trace::Trace`] (for
//! [`Purpose::Trace`]) or [`Idle`].

use crate::ids::{DesktopId, SessionId};
use serde::{Deserialize, Serialize};

/// The longest line either side may send, bytes.
pub const MAX_LINE: usize = 4096;

/// What the gateway asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The desktop that the gateway believes it talks to.
    pub desktop: DesktopId,
    /// The placement's generation.
    pub generation: u64,
    /// The session on whose behalf; none for a thumbnail.
    pub session: Option<SessionId>,
    /// What for.
    pub purpose: Purpose,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Purpose {
    /// An RFB stream.
    View {
        /// Input from this viewer is dropped.
        #[serde(default)]
        view_only: bool,
        /// It is not the user's: it takes no part in the clipboard and does not change the display's size, even where
        /// its input counts.
        #[serde(default)]
        shadow: bool,
    },
    /// One JPEG of the present picture, at most this wide, pixels.
    Thumbnail {
        /// Pixels.
        width: u32,
    },
    /// What the viewers' last updates cost, stage by stage.
    Trace {
        /// Updates of each viewer to list, at most.
        last: u32,
    },
    /// For how long nothing was typed.
    Idle,
}

/// For how long nobody has used a desktop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idle {
    /// Since a viewer came, or since the last key, button, movement or text of one, milliseconds.
    pub idle_ms: u64,
}

/// The desktop process's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Opened {
    /// What was asked for follows.
    Ok,
    /// It does not, and the connection closes.
    Refused {
        /// Why.
        reason: String,
    },
}
