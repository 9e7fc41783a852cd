//! Users' disks.

use crate::table::table;
use crate::value::words;
use lucarne_control::{DiskId, HostId, PoolId, UserId};

words!(DiskId);

table! {
    /// A user's disk, which is put into each of their floating desktops of one pool.
    Disk in "disks" {
        /// Id.
        id: DiskId,
        /// Whose.
        user_id: UserId,
        /// For desktops of which pool.
        pool_id: PoolId,
        /// Where it is, or is to be made: from the first desktop on that it was meant for.
        host_id: Option<HostId>,
        /// Its size, MiB.
        size_mib: u64,
        /// When it was put on record.
        created_at: i64,
        /// When its host said that it is there.
        made_at: Option<i64>,
        /// When somebody decided that it is to be destroyed.
        deleted_at: Option<i64>,
        /// When its host said that it is not there any more.
        gone_at: Option<i64>,
    }
    key (id: DiskId);
    // Two disks of one user in one pool would be two places for what they saved.
    unique of_user_in_pool (user_id: UserId, pool_id: PoolId) where deleted_at is null;
    index present () then (id) where gone_at is null;
    index of_user (user_id: UserId) then (id) where gone_at is null;
    index of_pool (pool_id: PoolId) then (id) where gone_at is null;
    index on_host (host_id: HostId) then (id) where gone_at is null;
}
