//! The REST types of `/api/v1`: JSON, field names in snake case, times in seconds since the epoch.

pub use crate::access::{Permission, Role};
use crate::agent::{HostFacts, TemplateObserved};
use crate::desktop::{ForkTimings, LaunchStep, Phase};
pub use crate::disk::{Disk, DiskState};
use crate::ids::{DesktopId, EnrollmentId, GroupId, HostId, PoolId, SessionId, UserId};
use crate::pool::{HomePolicy, PlacementPolicy, PoolKind, PowerPolicy, ReadyPolicy, SessionLimits};
pub use crate::scope::{ScopeKind, ScopedRole, UserRoles};
use crate::snapshot::SnapshotPolicy;
use crate::spec::{ClipboardPolicy, ImageDigest, MachineShape, NetworkPolicy, RecordingPolicy};
use crate::viewer::{ShadowPolicy, Viewer, ViewerWish};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// An error, RFC 9457 (`application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A stable word for programs, such as `pool_not_found`.
    pub code: String,
    /// A short title.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, to what, and what to do.
    pub detail: String,
}

/// Name and password.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Credentials {
    /// The user's name.
    pub name: String,
    /// The password.
    #[schema(max_length = 1024)]
    pub password: String,
}

/// Name and password, and what is wanted for them.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenRequest {
    /// The user's name.
    pub name: String,
    /// The password.
    pub password: String,
    /// All that may be done with the token, of what the user may do; everything of that when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<Permission>>,
    /// How long it works, seconds, from a minute to a year; 30 days when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 60, maximum = 31_622_400)]
    pub valid_for: Option<u32>,
}

/// Another role for a user.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewRole {
    /// The role.
    pub role: Role,
}

/// A person who signs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Id.
    pub id: UserId,
    /// Unique name, lower case.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// What they may do besides, for one pool or one group each.
    #[serde(default)]
    pub scoped_roles: Vec<ScopedRole>,
    /// Names of the groups they are in.
    pub groups: Vec<String>,
    /// At most so many desktops at once, of all pools together.
    #[serde(default)]
    pub max_desktops: Option<u32>,
    /// When they were created.
    pub created_at: i64,
}

/// The name of a user, a pool or a group, in the API's document.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[a-z][a-z0-9._-]{0,31}$")]
pub struct Name(#[allow(dead_code, reason = "it is only in the document")] String);

/// A new user.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct NewUser {
    /// Unique name: a lower-case letter, then letters, digits, `.`, `_` or `-`, at most 32.
    #[schema(pattern = "^[a-z][a-z0-9._-]{0,31}$")]
    pub name: String,
    /// At least 8 characters.
    #[schema(min_length = 8, max_length = 1024)]
    pub password: String,
    /// `user` when left out.
    #[serde(default)]
    pub role: Option<Role>,
    /// Names of groups to be in; created when they do not exist.
    #[serde(default)]
    #[schema(value_type = Vec<Name>)]
    pub groups: Vec<String>,
}

/// A change of password.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct NewPassword {
    /// At least 8 characters.
    #[schema(min_length = 8, max_length = 1024)]
    pub password: String,
}

/// A bearer token for programs, shown once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Send as `Authorization: Bearer …`.
    pub token: String,
    /// When it stops working.
    pub expires_at: i64,
}

/// A named set of users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Id.
    pub id: GroupId,
    /// Unique name.
    pub name: String,
    /// How many desktops its members may have at once, where there is a limit.
    pub quota: Option<QuotaUse>,
}

/// A limit of desktops, and how far it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaUse {
    /// At most so many at once, of all pools together.
    pub max_desktops: u32,
    /// So many there are.
    pub desktops: u32,
}

/// Another limit of desktops for a user or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewQuota {
    /// At most so many at once, of all pools together; no limit when it is null. Those that there are stay.
    #[schema(maximum = 1_000_000)]
    pub max_desktops: Option<u32>,
}

/// An image somewhere in the deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// sha256 of the disk file.
    pub digest: ImageDigest,
    /// Name.
    pub name: String,
    /// Version within the name.
    pub version: String,
    /// One line for people.
    pub description: String,
    /// Size of the disk that the guest sees, bytes.
    pub virtual_size: u64,
    /// Bytes that it takes in a store.
    pub stored_size: u64,
    /// When it was made.
    pub created_at: i64,
    /// How it came to be.
    pub source: String,
    /// Names of the hosts that have it.
    pub hosts: Vec<String>,
}

/// A set of like desktops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Id.
    pub id: PoolId,
    /// Unique name.
    pub name: String,
    /// One line for users, shown on the card.
    pub description: String,
    /// The golden image.
    pub image: ImageDigest,
    /// The virtual hardware.
    pub machine: MachineShape,
    /// What desktops may reach.
    pub network: NetworkPolicy,
    /// Whether administrators may watch its sessions.
    pub shadow: ShadowPolicy,
    /// Whether those who watch may type too.
    pub shadow_control: bool,
    /// Viewers may hear what desktops play.
    pub audio: bool,
    /// Which way copied text goes between desktops and their viewers.
    pub clipboard: ClipboardPolicy,
    /// Whether sessions are recorded.
    pub recording: RecordingPolicy,
    /// What becomes of its desktops when their users log off.
    pub kind: PoolKind,
    /// How many desktops wait for users.
    pub ready: ReadyPolicy,
    /// When sessions end by themselves.
    pub limits: SessionLimits,
    /// When personal desktops are powered off.
    pub power: PowerPolicy,
    /// A disk of each user's own for floating desktops.
    pub home: HomePolicy,
    /// Snapshots of personal desktops.
    pub snapshots: SnapshotPolicy,
    /// Where its desktops go.
    pub placement: PlacementPolicy,
    /// At most this many desktops at once.
    pub max_desktops: u32,
    /// Names of users who may use it.
    pub entitled_users: Vec<String>,
    /// Names of groups whose members may use it; `everyone` is all users.
    pub entitled_groups: Vec<String>,
    /// Desktops that exist now.
    pub desktops: u32,
    /// Those of them that wait for users.
    pub waiting: u32,
    /// The template on each host that has or makes it.
    pub templates: Vec<PoolTemplate>,
    /// When it was created.
    pub created_at: i64,
}

/// A pool's template on one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolTemplate {
    /// The host's name.
    pub host: String,
    /// How far it is.
    #[serde(flatten)]
    pub template: TemplateObserved,
}

/// A new pool.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewPool {
    /// Unique name, same rule as users'.
    #[schema(pattern = "^[a-z][a-z0-9._-]{0,31}$")]
    pub name: String,
    /// One line for users.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub description: String,
    /// An image's digest, a unique prefix of one (8 digits or more), or an image's name (the newest version).
    pub image: String,
    /// The default shape when left out.
    #[serde(default, deserialize_with = "crate::object::maybe")]
    pub machine: Option<MachineShape>,
    /// What desktops may reach.
    #[serde(default)]
    pub network: NetworkPolicy,
    /// Whether administrators may watch its sessions.
    #[serde(default)]
    pub shadow: ShadowPolicy,
    /// Whether those who watch may type too.
    #[serde(default)]
    pub shadow_control: bool,
    /// Viewers may hear what desktops play; they may where nothing is said.
    #[serde(default)]
    pub audio: Option<bool>,
    /// Which way copied text goes between desktops and their viewers; both ways when left out.
    #[serde(default)]
    pub clipboard: ClipboardPolicy,
    /// Whether sessions are recorded; not, when left out.
    #[serde(default, deserialize_with = "crate::object::one")]
    pub recording: RecordingPolicy,
    /// What becomes of its desktops when their users log off.
    #[serde(default)]
    pub kind: PoolKind,
    /// How many desktops wait for users.
    #[serde(default, deserialize_with = "crate::object::one")]
    pub ready: ReadyPolicy,
    /// When sessions end by themselves.
    #[serde(default, deserialize_with = "crate::object::one")]
    pub limits: SessionLimits,
    /// When personal desktops are powered off.
    #[serde(default, deserialize_with = "crate::object::one")]
    pub power: PowerPolicy,
    /// A disk of each user's own for floating desktops: what is saved in the home directory outlives the desktop.
    #[serde(default, deserialize_with = "crate::object::one")]
    pub home: HomePolicy,
    /// Snapshots of personal desktops: who may take them, and when they are taken by themselves.
    #[serde(default, deserialize_with = "crate::object::one")]
    pub snapshots: SnapshotPolicy,
    /// Where its desktops go.
    #[serde(default, deserialize_with = "crate::object::one")]
    pub placement: PlacementPolicy,
    /// At most this many desktops at once; 16 when left out.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100_000)]
    pub max_desktops: Option<u32>,
    /// Names of users who may use it.
    #[serde(default)]
    pub entitled_users: Vec<String>,
    /// Names of groups whose members may use it; `everyone` is all users.
    #[serde(default)]
    #[schema(value_type = Vec<Name>)]
    pub entitled_groups: Vec<String>,
}

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Desktop {
    /// Id.
    pub id: DesktopId,
    /// The guest's host name.
    pub name: String,
    /// The pool's name.
    pub pool: String,
    /// The host's name, once placed.
    pub host: Option<String>,
    /// What is seen of it.
    pub phase: Phase,
    /// What is going on, or why it failed.
    pub detail: String,
    /// The name of the user it is assigned to.
    pub user: Option<String>,
    /// It stays when its user logs off.
    #[serde(default)]
    pub persistent: bool,
    /// The address of its network card.
    pub mac: String,
    /// How long its fork took.
    pub timings: ForkTimings,
    /// When it was created.
    pub created_at: i64,
}

/// A desktop to be made and assigned without a viewer, for administrators.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewDesktop {
    /// The pool's name or id.
    pub pool: String,
    /// The user it is for.
    pub user: String,
}

/// The states of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// A viewer was asked for and has not come yet.
    Connecting,
    /// A viewer with control is there.
    Connected,
    /// None is; the desktop runs on and waits.
    Disconnected,
    /// Logged off; the desktop is destroyed.
    Ended,
}

/// One user's use of one desktop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Id.
    pub id: SessionId,
    /// The user's name.
    pub user: String,
    /// The pool's name.
    pub pool: String,
    /// The desktop.
    pub desktop: DesktopId,
    /// The desktop's name.
    pub desktop_name: String,
    /// What is going on.
    pub state: SessionState,
    /// Its viewers now, in the order in which they came.
    #[serde(default)]
    pub viewers: Vec<Viewer>,
    /// When it began.
    pub created_at: i64,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// What is on the screen is recorded.
    #[serde(default)]
    pub recorded: bool,
    /// Which way copied text goes between the desktop and the user's viewers.
    #[serde(default)]
    pub clipboard: ClipboardPolicy,
}

/// A wish to use a desktop of a pool: the one the user has, or a fresh one.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewSession {
    /// The pool's name or id.
    pub pool: String,
    /// Longest wait for the picture, milliseconds; 20,000 when left out, 60,000 at most.
    #[serde(default)]
    #[schema(maximum = 60_000)]
    pub wait_ms: Option<u32>,
    /// What happens to the viewers that are there already.
    #[serde(default)]
    pub viewers: ViewerWish,
}

/// The answer to a connect.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// The session.
    pub session: Session,
    /// The desktop.
    pub desktop: Desktop,
    /// With status 201: redeem within 30 s, once, as WebSocket subprotocol `lucarne.ticket.<ticket>` (offer `binary`
    /// too) at `websocket`. With status 202 there is none: the desktop is not ready; ask again.
    pub ticket: Option<String>,
    /// Path of the WebSocket.
    pub websocket: String,
    /// The viewers that end when the ticket is redeemed.
    #[serde(default)]
    pub takes_over: Vec<Viewer>,
    /// With status 202: what is being waited for, for people.
    pub detail: String,
    /// With status 202: estimated share that is done, 0 to 100, where known.
    pub progress: Option<u8>,
}

/// A one-time password for a VNC viewer that knows nothing but VncAuth (RFB security type 2).
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct ViewerPassword {
    /// Eight characters; it opens the session's desktop once. The viewer needs no user name.
    pub password: String,
    /// For how long it can be used, seconds from now.
    pub valid_s: u32,
}

/// A card of the user's portal: a pool that they may use, and their desktop of it if they have one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Card {
    /// The pool's id.
    pub pool: PoolId,
    /// The pool's name.
    pub name: String,
    /// One line.
    pub description: String,
    /// What becomes of the desktop at log-off.
    #[serde(default)]
    pub kind: PoolKind,
    /// The user's desktop of this pool.
    pub desktop: Option<Desktop>,
    /// The user's live session on it.
    pub session: Option<Session>,
    /// `available`, `preparing` (the template is being made) or `unavailable`.
    pub availability: Availability,
    /// For people, when it is not available: what is being waited for or what to do.
    pub detail: String,
    /// While preparing: estimated share that is done, 0 to 100.
    pub progress: Option<u8>,
}

/// Whether a connect would succeed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// It would.
    Available,
    /// Soon.
    Preparing,
    /// Not without someone's doing.
    Unavailable,
}

/// A node that runs desktops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Host {
    /// Rises with each link to its agent: to be repeated by who declares it dead, so that it is of what they saw.
    pub epoch: u64,
    /// Id.
    pub id: HostId,
    /// Unique name.
    pub name: String,
    /// The agent is connected.
    pub online: bool,
    /// When the agent was last heard.
    pub last_seen: i64,
    /// What it can do.
    pub facts: HostFacts,
    /// Desktops placed on it.
    pub desktops: u32,
    /// Bytes free where desktops' disks are kept.
    pub disk_free: u64,
    /// Bytes of memory available.
    pub memory_available: u64,
    /// It was enrolled, and comes by the network with a certificate; else it is on a broker's own machine.
    #[serde(default)]
    pub enrolled: bool,
    /// Where gateways reach its desktops' displays, by the network.
    #[serde(default)]
    pub address: Option<String>,
    /// It may not connect: an administrator said so.
    #[serde(default)]
    pub denied: bool,
    /// No new desktops go there: an administrator said so.
    #[serde(default)]
    pub drained: bool,
    /// MiB of memory that desktops on it were promised.
    #[serde(default)]
    pub promised_mib: u64,
    /// Virtual processors of the desktops on it.
    #[serde(default)]
    pub promised_vcpus: u64,
    /// What pools can ask for.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// From when on nothing runs there: an administrator said so.
    #[serde(default)]
    pub maintenance_at: Option<i64>,
}

/// When a host is to be empty, so that somebody can work on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewMaintenance {
    /// In so many seconds, at most 30 days.
    #[schema(maximum = 2_592_000)]
    pub in_s: u32,
}

/// Whether a personal desktop is to be powered on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewPower {
    /// What it is to be.
    pub state: Power,
}

/// How a personal desktop is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// It runs: it boots if it was off, and goes on where it was if it was suspended.
    On,
    /// It is powered off. What is open in one that is suspended is closed before.
    Off,
    /// It holds no memory, and goes on later where it was. One that is off stays so.
    Suspended,
}

/// A host's labels, in the place of those that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewLabels {
    /// Names and values: letters, digits, `.`, `_`, `-` and `/`, at most 63 of them; at most 32 labels.
    pub labels: BTreeMap<String, String>,
}

/// Why a user has the desktop of a pool that they have, or what they would get if they connected now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The user's name.
    pub user: String,
    /// The pool's name.
    pub pool: String,
    /// What would come of it, in a word: `desktop_found`, `desktop_made`, or the code of the error.
    pub outcome: String,
    /// The same for people.
    pub says: String,
    /// The rules, in the order in which they are asked; the first that is not passed decides.
    pub rules: Vec<ExplainedRule>,
    /// The hosts, the preferred first, where one had to be chosen: at most 100, and `hosts_total` in all.
    pub hosts: Vec<ExplainedHost>,
    /// How many hosts there are.
    pub hosts_total: u64,
    /// The user's last desktops of the pool, the newest first: at most 10.
    pub past: Vec<PastDesktop>,
}

/// What a rule said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedRule {
    /// `user`, `pool`, `entitlement`, `desktop`, `limit` or `host`.
    pub rule: String,
    /// It lets the user through.
    pub passed: bool,
    /// Why, for people.
    pub says: String,
}

/// What was considered of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedHost {
    /// Its name.
    pub host: String,
    /// It would be taken.
    pub chosen: bool,
    /// It could take the desktop.
    pub fits: bool,
    /// Why, for people.
    pub says: String,
}

/// A desktop that a user had, or has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PastDesktop {
    /// Which.
    pub desktop: DesktopId,
    /// Its name.
    pub name: String,
    /// When they got it.
    pub assigned_at: i64,
    /// The host that it was on first.
    pub host: Option<String>,
    /// Why there.
    pub placed: Option<String>,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// Why.
    pub end_reason: Option<String>,
}

/// What a host is to be let in for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewEnrollment {
    /// Only as the host of this name, which may be known already: then it is the same host with a new key.
    #[serde(default)]
    #[schema(pattern = "^[A-Za-z0-9._-]{1,253}$")]
    pub host: Option<String>,
    /// Seconds for which the token is good, 60 to 604800; 3600 when left out.
    #[serde(default)]
    #[schema(minimum = 60, maximum = 604_800)]
    pub valid_s: Option<u32>,
}

/// The permission for one host to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Enrollment {
    /// Id.
    pub id: EnrollmentId,
    /// Only as the host of this name.
    pub host: Option<String>,
    /// Who gave it.
    pub created_by: String,
    /// When.
    pub created_at: i64,
    /// When it is over.
    pub expires_at: i64,
    /// When it was used.
    pub used_at: Option<i64>,
    /// The name of the host that used it.
    pub used_by: Option<String>,
}

/// A permission just given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GivenEnrollment {
    /// What it is.
    pub enrollment: Enrollment,
    /// The token for `lucarne host enroll`; it is shown this once.
    pub token: String,
    /// Where this broker takes hosts, for `--broker`: by the address that it listens on, or its machine's name when that is any.
    pub brokers: Vec<String>,
}

/// Why a host may not connect any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DenyHost {
    /// For the audit log: 3 to 500 characters.
    #[schema(max_length = 500, pattern = "\\S[\\s\\S]+\\S")]
    pub reason: String,
}

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Which, in the order of the log.
    #[schema(value_type = String, format = "uuid")]
    pub id: uuid::Uuid,
    /// When.
    pub at: i64,
    /// Who: a user's name, or `system`.
    pub actor: String,
    /// What, such as `desktop.destroyed`.
    pub action: String,
    /// To what.
    pub subject: String,
    /// Particulars.
    pub detail: String,
}

/// A row of the audit log that was there: where it is in which strand, and its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditHead {
    /// The strand: a chain of rows, begun by each connection to the database.
    #[schema(value_type = String, format = "uuid")]
    pub strand: uuid::Uuid,
    /// The row's number in it, from 1.
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807i64)]
    pub number: u64,
    /// Its sha256, 64 lower-case hexadecimal digits.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub hash: String,
}

/// Somebody's word that a host is dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadHost {
    /// The host's `epoch`, as whoever says it saw it: where its agent has been connected since, it is not dead.
    pub epoch: u64,
    /// What they saw or did, at least a few words; it is kept in the audit log.
    #[schema(max_length = 500, pattern = "\\S[\\s\\S]+\\S")]
    pub evidence: String,
}

/// Rows that have to be in the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditKnown {
    /// `heads` of an earlier check.
    #[serde(default, deserialize_with = "crate::object::each")]
    pub heads: Vec<AuditHead>,
}

/// What a check of the audit log found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerified {
    /// Rows that were read.
    pub rows: u64,
    /// What is wrong, for people, the first 100; none when nothing is.
    pub faults: Vec<String>,
    /// The last row of each strand. Kept elsewhere, they show later that nothing was cut off.
    pub heads: Vec<AuditHead>,
}

/// The program and its state, for scripts that wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Version of the broker.
    pub version: String,
    /// Hosts that are connected.
    pub hosts_online: u32,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The rows, oldest first.
    pub items: Vec<T>,
    /// Pass as `after` for the next page; none at the end.
    pub next: Option<String>,
}

/// How long each step of a connect took that made a desktop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LaunchTimes {
    /// The desktop.
    pub desktop: DesktopId,
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Its host.
    #[serde(default)]
    pub host: Option<String>,
    /// Whose it is, or was.
    #[serde(default)]
    pub user: Option<String>,
    /// When it was asked for, milliseconds since the epoch; none for one that was not made by a connect, and of which only the
    /// host's steps are known.
    #[serde(default)]
    pub requested_at_ms: Option<i64>,
    /// From the request to the end of the last step, milliseconds.
    pub total_ms: f64,
    /// In the order in which they begin; those that are not over, or of which nothing is known, are left out.
    pub steps: Vec<LaunchSpan>,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LaunchSpan {
    /// Which.
    pub step: LaunchStep,
    /// Milliseconds after the request.
    pub start_ms: f64,
    /// Milliseconds after the request.
    pub end_ms: f64,
}
