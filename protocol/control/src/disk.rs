//! Users' disks as the API shows them.

use crate::ids::DiskId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskState {
    /// Its host has not said yet that it is there.
    Planned,
    /// It is there.
    Present,
    /// Its host is to destroy it, and has not said yet that it is gone.
    Deleting,
}

impl DiskState {
    /// As it is called in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Present => "present",
            Self::Deleting => "deleting",
        }
    }
}

/// A user's disk, which is put into each of their floating desktops of one pool: their home directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    /// Id.
    pub id: DiskId,
    /// The user's name.
    pub user: String,
    /// The pool's name.
    pub pool: String,
    /// The name of the host that it is on, or is to be made on.
    pub host: Option<String>,
    /// Its size, MiB. On its host it takes what was written to it.
    pub size_mib: u64,
    /// How far it is.
    pub state: DiskState,
    /// The name of the desktop that has it.
    pub desktop: Option<String>,
    /// When it was put on record.
    pub created_at: i64,
}
