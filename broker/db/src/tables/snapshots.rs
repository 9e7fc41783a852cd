//! Snapshots of personal desktops.

use crate::table::table;
use crate::value::words;
use lucarne_control::agent::SnapshotState;
use lucarne_control::{DesktopId, HostId, SnapshotId};

words!(SnapshotId, SnapshotState);

table! {
    /// A personal desktop as it was at one time.
    Snapshot in "snapshots" {
        /// Id.
        id: SnapshotId,
        /// Of which desktop.
        desktop_id: DesktopId,
        /// Where it is.
        host_id: HostId,
        /// Unique among those of the desktop that are not gone.
        name: String,
        /// What its host last said, or what is wanted of it since.
        state: SnapshotState,
        /// Estimated share of what is being done, percent.
        progress: u32,
        /// Why it failed, or is still there.
        detail: String,
        /// The guest's memory is with it, or is to be.
        memory: bool,
        /// The schedule asked for it.
        scheduled: bool,
        /// Who asked for it.
        created_by: String,
        /// The wish for its desktop that counted then.
        wish: i64,
        /// When.
        created_at: i64,
        /// It is not taken after this.
        until: i64,
        /// The snapshot that it was taken after.
        parent_id: Option<SnapshotId>,
        /// The desktop's disk goes on from it.
        current: bool,
        /// When it was taken.
        taken_at: Option<i64>,
        /// For how long the guest stood still for it, milliseconds.
        pause_ms: u64,
        /// What it takes on its host's disk, bytes.
        bytes: u64,
        /// When somebody decided that it is to be deleted.
        deleted_at: Option<i64>,
        /// When its host said that it is as it should be, or cannot be.
        settled_at: Option<i64>,
        /// When it was gone.
        gone_at: Option<i64>,
    }
    key (id: SnapshotId);
    unique named (desktop_id: DesktopId, name: str) where gone_at is null;
    index of_desktop (desktop_id: DesktopId) then (id) where gone_at is null;
    index on_host (host_id: HostId) then (id) where gone_at is null;
    index pending (host_id: HostId) then (id) where settled_at is null;
}
