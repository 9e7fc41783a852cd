//! What has changed in the database, for brokers that were not asked: each looks there itself what it is now.

use lucarne_control::{DesktopId, GroupId, HostId, PoolId, SessionId, UserId};
use serde::{Deserialize, Serialize};

/// Something that is not as it was. It may be told twice, late, or never: what hangs on it is looked at on a timer too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// What should be on a host.
    Host(HostId),
    /// What should be on all hosts.
    Hosts,
    /// Which images hosts have.
    Images,
    /// A host's link was made or lost.
    Link(HostId),
    /// A host may not connect any more.
    Denied(HostId),
    /// Who may use which pool.
    Entitlements,
    /// What is known of a desktop.
    Desktop(DesktopId),
    /// A session ended, or is used through another broker.
    Session(SessionId),
    /// A desktop was made, or given to a user.
    Claimed(DesktopId),
    /// A session began, or others view it than before.
    Viewers(SessionId),
    /// A pool was made, changed or deleted, or others may use it than before.
    Pool(PoolId),
    /// How far templates are on a host.
    Templates(HostId),
    /// What is on record of a host that nobody has to be told of: it was drained, resumed, allowed again, fenced or forgotten.
    HostRecord(HostId),
    /// A user was made or deleted, or has other roles or other groups.
    User(UserId),
    /// Somebody came into a group or left it, and what they have with them.
    Members(GroupId),
}
