//! What the agent and the desktop process say to each other on `control.sock`: JSON lines.
//!
//! The agent connects (again, after it was restarted); the desktop process sends its [`Status`] at once and after every
//! change. The agent may send [`Command`]s. Several agents at once are allowed; each gets the status.

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
}
