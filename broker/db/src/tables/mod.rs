//! The broker's tables. What must never be double is a unique index here and in the database.
//!
//! Times are milliseconds since the epoch by the database's clock. Rows of history are ended, not deleted.

mod desktops;
mod disks;
mod hosts;
mod people;
mod requests;
mod sessions;
mod snapshots;
mod timers;

pub use desktops::{Assignment, Desktop, Placement, Pool, PoolPolicy, PoolRules, Preparation};
pub use disks::Disk;
pub use hosts::{Authority, Broker, Enrollment, Host, HostImage, HostPulse, HostTemplate, Image};
pub use people::{Charge, Entitlement, Group, HolderKind, Login, LoginKind, Membership, ScopedRole, User};
pub use requests::IdempotencyKey;
pub use sessions::{Session, Shadow, ShadowState, Ticket};
pub use snapshots::Snapshot;
pub use timers::{Timer, TimerKind};

use crate::table::table;
use crate::value::words;
use lucarne_control::GroupId;
use uuid::Uuid;

words!(Uuid);

table! {
    /// What was done, by whom, to what.
    Audit in "audit" {
        /// Orders the log by time.
        id: Uuid,
        /// The chain that it is in.
        strand: Uuid,
        /// Its place there, from 1.
        number: u64,
        /// When.
        at: i64,
        /// A user's name, or `system`.
        actor: String,
        /// What.
        action: String,
        /// To what.
        subject: String,
        /// More, for people.
        detail: String,
        /// The hash of the row before it; 32 zeros in a strand's first.
        previous: Vec<u8>,
        /// Its own (`audit::hash`).
        hash: Vec<u8>,
    }
    key (id: Uuid);
    unique place (strand: Uuid, number: u64);
}

table! {
    /// A number that all brokers share.
    Counter in "counters" {
        /// Its name.
        name: String,
        /// Its value.
        value: u64,
    }
    key (name: str);
}

/// All tables.
pub const ALL: &[&crate::table::Table] = {
    use crate::table::Row;
    &[
        User::TABLE,
        Group::TABLE,
        Membership::TABLE,
        ScopedRole::TABLE,
        Pool::TABLE,
        Entitlement::TABLE,
        Broker::TABLE,
        Authority::TABLE,
        Enrollment::TABLE,
        Host::TABLE,
        HostPulse::TABLE,
        HostTemplate::TABLE,
        Image::TABLE,
        HostImage::TABLE,
        Disk::TABLE,
        Desktop::TABLE,
        Snapshot::TABLE,
        Placement::TABLE,
        Assignment::TABLE,
        Charge::TABLE,
        Session::TABLE,
        Ticket::TABLE,
        Shadow::TABLE,
        Login::TABLE,
        IdempotencyKey::TABLE,
        Timer::TABLE,
        Audit::TABLE,
        Counter::TABLE,
    ]
};

/// The group that everyone is a member of, without a row in `memberships`.
pub const EVERYONE: &str = "everyone";

/// Its id.
pub const EVERYONE_ID: GroupId = GroupId(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));

/// The counter that rises with each change of what should be on all hosts.
pub const REVISION: &str = "revision";

/// What a new database has in it; migrations write the same.
pub(crate) fn first_rows() -> Vec<(&'static crate::table::Table, Vec<crate::value::Value>)> {
    use crate::table::Row;
    let everyone = Group { id: EVERYONE_ID, name: EVERYONE.to_owned(), max_desktops: None, created_at: 0 };
    let revision = Counter { name: REVISION.to_owned(), value: 1 };
    vec![(Group::TABLE, everyone.to_values()), (Counter::TABLE, revision.to_values())]
}
