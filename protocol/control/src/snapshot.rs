//! Snapshots as the API shows them, and what pools say of them.

use crate::agent::SnapshotState;
use crate::ids::{DesktopId, SnapshotId};
use crate::pool::PoolKind;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

impl SnapshotState {
    /// As it is called in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Taking => "taking",
            Self::Ready => "ready",
            Self::Deleting => "deleting",
            Self::Gone => "gone",
            Self::Failed => "failed",
        }
    }
}

/// A personal desktop as it was at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Id.
    pub id: SnapshotId,
    /// Of which desktop.
    pub desktop: DesktopId,
    /// Unique among those of the desktop.
    pub name: String,
    /// How far it is.
    pub state: SnapshotState,
    /// Estimated share of what is being done, 0 to 100.
    pub progress: u8,
    /// Why it failed, or is still there.
    pub detail: String,
    /// The guest's memory is with it, or is to be.
    pub memory: bool,
    /// The snapshot that it was taken after; none is what the desktop was made of.
    pub parent: Option<SnapshotId>,
    /// The desktop's disk goes on from it.
    pub current: bool,
    /// The pool's schedule asked for it.
    pub scheduled: bool,
    /// Who asked for it.
    pub created_by: String,
    /// When.
    pub created_at: i64,
    /// When it was taken.
    pub taken_at: Option<i64>,
    /// For how long the guest stood still for it, milliseconds.
    pub pause_ms: u64,
    /// What it takes on its host's disk, bytes.
    pub bytes: u64,
}

/// A snapshot that is to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewSnapshot {
    /// Its name; the time when left out.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100)]
    pub name: Option<String>,
    /// With the guest's memory, so that what is open comes back; it is, when left out. Without, only its disk.
    #[serde(default)]
    pub memory: Option<bool>,
}

impl NewSnapshot {
    /// Says what is wrong with it.
    ///
    /// # Errors
    /// A sentence for the person who asked for it.
    pub fn check(&self) -> Result<(), String> {
        match &self.name {
            Some(name) if name.trim().is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) => {
                Err("a snapshot's name has 1 to 100 characters, and no line breaks or other control characters".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// A desktop that is to be made of a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewClone {
    /// The user it is for, who has none of the pool.
    pub user: String,
    /// The pool's name or id: a personal one of the same image, machine and network. The snapshot's own when left out.
    #[serde(default)]
    pub pool: Option<String>,
}

/// What a pool says of its desktops' snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SnapshotPolicy {
    /// Users may take and delete snapshots of their desktops, and put them back; without, only administrators.
    pub users: bool,
    /// At most so many of each desktop that somebody has asked for; 10 when left out.
    #[schema(minimum = 1, maximum = 50)]
    pub max: Option<u32>,
    /// One is taken of each desktop whenever the last is so old, seconds; never when left out.
    #[schema(minimum = 60, maximum = 31_536_000)]
    pub every_s: Option<u32>,
    /// So many of those are kept; 7 when left out.
    #[schema(minimum = 1, maximum = 50)]
    pub keep: Option<u32>,
    /// Those are taken with the guest's memory.
    pub memory: bool,
}

impl SnapshotPolicy {
    /// How many of a desktop somebody may ask for.
    #[must_use]
    pub fn max(&self) -> u32 {
        self.max.unwrap_or(10)
    }

    /// How many are kept of those that the schedule asks for.
    #[must_use]
    pub fn keep(&self) -> u32 {
        self.keep.unwrap_or(7)
    }

    /// Says what is wrong with it for a pool of that kind.
    ///
    /// # Errors
    /// A sentence for the person who asked for it.
    pub fn check(&self, kind: PoolKind) -> Result<(), String> {
        if *self != Self::default() && kind != PoolKind::Personal {
            return Err(
                "snapshots are for personal desktops: floating ones are destroyed at log-off".to_owned()
            );
        }
        crate::pool::within("snapshots.max", self.max, 1, 50)?;
        crate::pool::within("snapshots.every_s", self.every_s, 60, crate::pool::YEAR)?;
        crate::pool::within("snapshots.keep", self.keep, 1, 50)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_said_with_what_can() {
        let daily = SnapshotPolicy { every_s: Some(86_400), keep: Some(30), ..Default::default() };
        assert_eq!(daily.check(PoolKind::Personal), Ok(()));
        assert!(daily.check(PoolKind::Floating).unwrap_err().contains("personal desktops"));
        assert_eq!(SnapshotPolicy::default().check(PoolKind::Floating), Ok(()));
        let often = SnapshotPolicy { every_s: Some(1), ..daily };
        assert_eq!(
            often.check(PoolKind::Personal).unwrap_err(),
            "snapshots.every_s is from 60 to 31536000, not 1"
        );
        let named = |name: &str| NewSnapshot { name: Some(name.to_owned()), memory: None }.check();
        assert_eq!(named("Before the update, Monday"), Ok(()));
        assert!(named(" ").is_err() && named("a\nb").is_err() && named(&"x".repeat(101)).is_err());
    }
}
