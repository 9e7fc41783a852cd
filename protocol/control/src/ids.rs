//! Typed ids: UUIDv7 (RFC 9562, section 5.7) newtypes, so that ids sort by creation and never mix.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;
use uuid::Uuid;

macro_rules! typed_id {
    ($(#[$doc:meta] $name:ident),+ $(,)?) => {$(
        #[$doc]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, format = "uuid")]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id from the system's clock and randomness.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(s).map(Self)
            }
        }
    )+};
}

typed_id! {
    /// A person who signs in.
    UserId,
    /// A named set of users.
    GroupId,
    /// A set of like desktops, forked from one template specification.
    PoolId,
    /// One virtual machine, from its fork to its destruction.
    DesktopId,
    /// One user's disk, which is put into each of their floating desktops of one pool.
    DiskId,
    /// A personal desktop as it was at one time.
    SnapshotId,
    /// One user's use of one desktop, from connect to log-off.
    SessionId,
    /// One node that runs desktops.
    HostId,
    /// One run of a broker, from its start until it is gone.
    BrokerId,
    /// The permission for one host to join, from when it is given until it is used or over.
    EnrollmentId,
    /// One administrator's wish to watch a session, from the question to its end.
    ShadowId,
}
