//! What is to be done later.

use crate::table::table;
use crate::value::words;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

words!(TimerKind);

/// What is done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimerKind {
    /// A session has lasted for as long as it may.
    SessionOver,
    /// No viewer of a session was there for as long as that may be.
    SessionLeft,
    /// A personal desktop was not used for as long as it stays on.
    DesktopUnused,
    /// A host is to be empty.
    HostMaintenance,
    /// A snapshot of a personal desktop is to be taken.
    DesktopSnapshot,
}

table! {
    /// Something to be done at a time, by whichever broker looks first.
    Timer in "timers" {
        /// What.
        kind: TimerKind,
        /// To which session or desktop.
        subject: Uuid,
        /// When.
        at: i64,
    }
    key (kind: TimerKind, subject: Uuid);
    index due () then (at);
}
