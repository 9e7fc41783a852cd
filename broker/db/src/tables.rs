//! The broker's tables. What must never be double is a unique index here and in the database.
//!
//! Times are milliseconds since the epoch by the database's clock. Rows of history are ended, not deleted.

use crate::table::table;
use crate::value::{Json, words};
use lucarne_control::agent::HostFacts;
use lucarne_control::api::{Role, SessionState};
use lucarne_control::desktop::{DesiredState, ForkTimings, Phase};
use lucarne_control::spec::{
    ClipboardPolicy, ImageDigest, MachineShape, NetworkPolicy, RecordingPolicy, TemplateSpec,
};
use lucarne_control::viewer::{ShadowPolicy, ViewerWish};
use lucarne_control::{DesktopId, GroupId, HostId, PoolId, SessionId, ShadowId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

words!(
    Uuid,
    UserId,
    GroupId,
    PoolId,
    DesktopId,
    SessionId,
    HostId,
    ShadowId,
    ImageDigest,
    Role,
    SessionState,
    DesiredState,
    Phase,
    ViewerWish,
    LoginKind,
    HolderKind,
    ShadowState,
);

/// What a login is carried by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginKind {
    /// A browser's cookie.
    Cookie,
    /// A bearer token.
    Token,
}

/// Who holds an entitlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HolderKind {
    /// One user.
    User,
    /// Everyone in a group.
    Group,
}

/// How far an administrator's wish to watch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShadowState {
    /// The user is asked.
    Asked,
    /// They said no, or nobody answered.
    Denied,
    /// They said yes, and the ticket is not redeemed yet.
    Allowed,
    /// The administrator watches.
    Watching,
    /// It is over.
    Ended,
}

/// What a pool lets its desktops and those who use them do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolPolicy {
    /// What desktops may reach.
    pub network: NetworkPolicy,
    /// Whether administrators may watch.
    pub shadow: ShadowPolicy,
    /// Whether those who watch may type too.
    pub shadow_control: bool,
    /// Viewers may hear what desktops play.
    pub audio: bool,
    /// Which way copied text goes.
    pub clipboard: ClipboardPolicy,
    /// Whether sessions are recorded.
    pub recording: RecordingPolicy,
}

impl Default for PoolPolicy {
    fn default() -> Self {
        Self {
            network: NetworkPolicy::default(),
            shadow: ShadowPolicy::default(),
            shadow_control: false,
            audio: true,
            clipboard: ClipboardPolicy::default(),
            recording: RecordingPolicy::default(),
        }
    }
}

table! {
    /// A person who signs in.
    User in "users" {
        /// Id.
        id: UserId,
        /// Unique among the living.
        name: String,
        /// What they may do.
        role: Role,
        /// In PHC form; empty when they cannot sign in with one.
        password_hash: String,
        /// When.
        created_at: i64,
        /// When.
        deleted_at: Option<i64>,
    }
    key (id: UserId);
    unique named (name: str) where deleted_at is null;
    index living () then (id) where deleted_at is null;
    index living_in_role (role: Role) where deleted_at is null;
}

table! {
    /// A named set of users.
    Group in "groups" {
        /// Id.
        id: GroupId,
        /// Unique.
        name: String,
        /// When.
        created_at: i64,
    }
    key (id: GroupId);
    unique named (name: str);
}

table! {
    /// Who is in which group.
    Membership in "memberships" {
        /// The user.
        user_id: UserId,
        /// The group.
        group_id: GroupId,
    }
    key (user_id: UserId, group_id: GroupId);
    index of (user_id: UserId);
    index in_group (group_id: GroupId) then (user_id);
}

table! {
    /// A set of like desktops.
    Pool in "pools" {
        /// Id.
        id: PoolId,
        /// Unique among those that are not deleted.
        name: String,
        /// One line for users.
        description: String,
        /// The golden image.
        image: ImageDigest,
        /// The virtual hardware.
        machine: Json<MachineShape>,
        /// What its desktops let people do.
        policy: Json<PoolPolicy>,
        /// At most this many live desktops.
        max_desktops: u32,
        /// So many there are.
        desktops: u32,
        /// When.
        created_at: i64,
        /// When.
        deleted_at: Option<i64>,
    }
    key (id: PoolId);
    unique named (name: str) where deleted_at is null;
    index present () then (id) where deleted_at is null;
    index on_image (image: ImageDigest);
}

impl Pool {
    /// What its desktops are forked from.
    #[must_use]
    pub fn template(&self) -> TemplateSpec {
        TemplateSpec { image: self.image.clone(), machine: self.machine.0 }
    }
}

table! {
    /// Who may use a pool.
    Entitlement in "entitlements" {
        /// The pool.
        pool_id: PoolId,
        /// A user or a group.
        holder_kind: HolderKind,
        /// Its id.
        holder: Uuid,
    }
    key (pool_id: PoolId, holder_kind: HolderKind, holder: Uuid);
    index of_pool (pool_id: PoolId);
    index held_by (holder_kind: HolderKind, holder: Uuid) then (pool_id);
}

table! {
    /// A node that runs desktops.
    Host in "hosts" {
        /// Id.
        id: HostId,
        /// Unique.
        name: String,
        /// What it says that it can do.
        facts: Json<HostFacts>,
        /// Rises with each change of what should be on it.
        revision: u64,
        /// Desktops that are placed on it.
        desktops: u32,
        /// MiB of memory that these were promised.
        promised_mib: u64,
        /// When.
        created_at: i64,
        /// When it last said anything.
        last_seen: i64,
    }
    key (id: HostId);
    unique named (name: str);
}

table! {
    /// A golden image.
    Image in "images" {
        /// The sha256 of its disk.
        digest: ImageDigest,
        /// The name people use.
        name: String,
        /// The version within the name.
        version: String,
        /// One line for people.
        description: String,
        /// Bytes that the guest sees.
        virtual_size: u64,
        /// Bytes that it takes.
        stored_size: u64,
        /// When it was made: seconds, as its own record says.
        created_at: i64,
        /// How.
        source: String,
    }
    key (digest: ImageDigest);
    index named (name: str) then (created_at, version);
}

table! {
    /// Which image is in which host's store.
    HostImage in "host_images" {
        /// The host.
        host_id: HostId,
        /// The image.
        digest: ImageDigest,
    }
    key (host_id: HostId, digest: ImageDigest);
    index on_host (host_id: HostId);
    index of (digest: ImageDigest) then (host_id);
}

table! {
    /// One virtual machine, from its fork to its destruction.
    Desktop in "desktops" {
        /// Id.
        id: DesktopId,
        /// Its pool.
        pool_id: PoolId,
        /// The guest's host name.
        name: String,
        /// Its `/etc/machine-id`.
        machine_id: String,
        /// The address of its network card.
        mac: String,
        /// What is wanted.
        desired: DesiredState,
        /// Rises with each change of the wish.
        desired_gen: i64,
        /// What was last recorded.
        phase: Phase,
        /// Why, for people.
        detail: String,
        /// How long its fork took.
        timings: Json<ForkTimings>,
        /// Where it is, or was last.
        host_id: Option<HostId>,
        /// The generation of that placement; 0 before the first.
        generation: u64,
        /// It is there: the placement lives.
        placed: bool,
        /// Whose it is, or was last.
        user_id: Option<UserId>,
        /// It is: the assignment lives.
        assigned: bool,
        /// When.
        created_at: i64,
        /// When its host confirmed that it and its data are gone.
        ended_at: Option<i64>,
    }
    key (id: DesktopId);
    unique named (name: str) where ended_at is null;
    unique with_mac (mac: str) where ended_at is null;
    unique with_machine_id (machine_id: str);
    index live () then (id) where ended_at is null;
    index live_of_pool (pool_id: PoolId) then (id) where ended_at is null;
    index live_on (host_id: HostId) then (id) where ended_at is null;
    index of_user (user_id: UserId) then (id);
}

impl Desktop {
    /// It is to be there.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.desired != DesiredState::Absent
    }
}

table! {
    /// Where a desktop is, or was.
    Placement in "placements" {
        /// The desktop.
        desktop_id: DesktopId,
        /// Higher than those of all its placements before.
        generation: u64,
        /// The host.
        host_id: HostId,
        /// The memory that it takes there.
        memory_mib: u64,
        /// When.
        created_at: i64,
        /// When its host confirmed that it is not there any more.
        freed_at: Option<i64>,
    }
    key (desktop_id: DesktopId, generation: u64);
    unique live (desktop_id: DesktopId) where freed_at is null;
    index of (desktop_id: DesktopId) then (generation);
    index on (host_id: HostId) then (desktop_id, generation);
}

table! {
    /// Whose a desktop is, or was.
    Assignment in "assignments" {
        /// Id.
        id: Uuid,
        /// The desktop.
        desktop_id: DesktopId,
        /// The user.
        user_id: UserId,
        /// The desktop's pool.
        pool_id: PoolId,
        /// When.
        created_at: i64,
        /// When.
        ended_at: Option<i64>,
        /// Why.
        end_reason: Option<String>,
    }
    key (id: Uuid);
    // A desktop that had a user is never given to another, not even after the first is done.
    unique of_desktop (desktop_id: DesktopId);
    unique live_in_pool (user_id: UserId, pool_id: PoolId) where ended_at is null;
    index of_user_in_pool (user_id: UserId, pool_id: PoolId) then (id);
    index live_of_user (user_id: UserId) then (pool_id) where ended_at is null;
}

table! {
    /// One user's use of one desktop.
    Session in "sessions" {
        /// Id.
        id: SessionId,
        /// The user.
        user_id: UserId,
        /// The pool.
        pool_id: PoolId,
        /// The desktop.
        desktop_id: DesktopId,
        /// Whether somebody looks at it.
        state: SessionState,
        /// When.
        created_at: i64,
        /// When.
        ended_at: Option<i64>,
        /// Why.
        end_reason: Option<String>,
    }
    key (id: SessionId);
    unique live_on (desktop_id: DesktopId) where ended_at is null;
    index on (desktop_id: DesktopId) then (id);
    index of_user (user_id: UserId) then (id);
    index live () then (id) where ended_at is null;
}

table! {
    /// The right to open one stream, once, soon.
    Ticket in "tickets" {
        /// sha256 of what its holder has.
        hash: Vec<u8>,
        /// The session.
        session_id: SessionId,
        /// The placement that it is for.
        generation: u64,
        /// As what it lets in.
        wish: ViewerWish,
        /// The shadow that begins with it.
        shadow_id: Option<ShadowId>,
        /// When it is of no use any more.
        expires_at: i64,
        /// When it was used.
        used_at: Option<i64>,
    }
    key (hash: [u8]);
    index by_expiry () then (expires_at);
}

table! {
    /// An administrator's wish to watch a session.
    Shadow in "shadows" {
        /// Id.
        id: ShadowId,
        /// The session.
        session_id: SessionId,
        /// The administrator's name.
        administrator: String,
        /// With keyboard and pointer.
        control: bool,
        /// The user is asked.
        consent: bool,
        /// How far it is.
        state: ShadowState,
        /// When.
        created_at: i64,
        /// When it was denied or over.
        ended_at: Option<i64>,
    }
    key (id: ShadowId);
    index open () then (id) where ended_at is null;
}

table! {
    /// A sign-in.
    Login in "logins" {
        /// sha256 of what its holder has.
        hash: Vec<u8>,
        /// The user.
        user_id: UserId,
        /// What it is carried by.
        kind: LoginKind,
        /// When.
        created_at: i64,
        /// When it ends.
        expires_at: i64,
    }
    key (hash: [u8]);
    index of (user_id: UserId);
    index by_expiry () then (expires_at);
}

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
        Pool::TABLE,
        Entitlement::TABLE,
        Host::TABLE,
        Image::TABLE,
        HostImage::TABLE,
        Desktop::TABLE,
        Placement::TABLE,
        Assignment::TABLE,
        Session::TABLE,
        Ticket::TABLE,
        Shadow::TABLE,
        Login::TABLE,
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
    let everyone = Group { id: EVERYONE_ID, name: EVERYONE.to_owned(), created_at: 0 };
    let revision = Counter { name: REVISION.to_owned(), value: 1 };
    vec![(Group::TABLE, everyone.to_values()), (Counter::TABLE, revision.to_values())]
}
