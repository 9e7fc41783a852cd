//! What the processes of Lucarne say to each other: typed ids, desired and observed state, and the REST types.
//!
//! This crate does no I/O and knows no async runtime. Everything here is plain data with serde; unknown fields are
//! ignored, so that two versions can talk.

pub mod access;
pub mod agent;
pub mod api;
pub mod apply;
pub mod desktop;
pub mod disk;
pub mod enroll;
pub mod events;
pub mod ids;
pub mod link;
pub mod object;
pub mod pool;
pub mod scope;
pub mod snapshot;
pub mod spec;
pub mod trace;
pub mod viewer;

pub use ids::{
    BrokerId, DesktopId, DiskId, EnrollmentId, GroupId, HostId, PoolId, SessionId, ShadowId, SnapshotId,
    UserId,
};
