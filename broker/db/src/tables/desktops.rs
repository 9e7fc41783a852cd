//! Pools, their desktops, where those are and whose.

use crate::table::table;
use crate::value::{Json, words};
use lucarne_control::desktop::{DesiredState, Endpoint, ForkTimings, Launch, Phase};
use lucarne_control::pool::{HomePolicy, PlacementPolicy, PoolKind, PowerPolicy, ReadyPolicy, SessionLimits};
use lucarne_control::snapshot::SnapshotPolicy;
use lucarne_control::spec::{
    ClipboardPolicy, ImageDigest, MachineShape, NetworkPolicy, RecordingPolicy, TemplateSpec,
};
use lucarne_control::viewer::ShadowPolicy;
use lucarne_control::{DesktopId, DiskId, HostId, PoolId, SnapshotId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

words!(PoolId, DesktopId, DesiredState, Phase);

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

/// How a pool's desktops live. It counts as it is now, for all of them, but for the kind, which is settled when a desktop is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolRules {
    /// What becomes of them when their users log off.
    pub kind: PoolKind,
    /// How many wait for users.
    pub ready: ReadyPolicy,
    /// When their sessions end by themselves.
    pub limits: SessionLimits,
    /// When they are powered off.
    pub power: PowerPolicy,
    /// Which disk of their users' own they have.
    pub home: HomePolicy,
    /// What becomes of their snapshots.
    pub snapshots: SnapshotPolicy,
    /// Where they go.
    pub placement: PlacementPolicy,
}

/// How the making of desktops that wait for users goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preparation {
    /// Those that were made last.
    pub last: Vec<DesktopId>,
    /// How often in a row they failed.
    pub failures: u32,
    /// None is made before then.
    pub not_before: i64,
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
        /// How they live.
        rules: Json<PoolRules>,
        /// How the making of those goes that wait for users.
        preparation: Json<Preparation>,
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
        /// What its host last said, or what is wanted of it since.
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
        /// The host said that it has it: from then on it is kept there, and never made anew.
        held: bool,
        /// Where its display is reached, once there is a picture.
        endpoint: Option<Json<Endpoint>>,
        /// Whose it is, or was last.
        user_id: Option<UserId>,
        /// It is: the assignment lives.
        assigned: bool,
        /// When.
        created_at: i64,
        /// When its host confirmed that it and its data are gone.
        ended_at: Option<i64>,
        /// How long the broker's part of the connect took that made it, once that is known.
        launch: Option<Json<Launch>>,
        /// What its pool let people do when it was made; what it lets them now where an earlier version made it.
        policy: Option<Json<PoolPolicy>>,
        /// It stays when its user logs off.
        persistent: bool,
        /// Since when it does not wait for a user: it was given to one, or is to be destroyed.
        taken_at: Option<i64>,
        /// Its user's disk, which is in it while it is there.
        disk_id: Option<DiskId>,
        /// It is to be put back to this snapshot, for the wish of that generation.
        back_to: Option<SnapshotId>,
        /// Which.
        back_gen: i64,
        /// The snapshot of another desktop that it is made of.
        origin_id: Option<SnapshotId>,
    }
    key (id: DesktopId);
    unique named (name: str) where ended_at is null;
    unique with_mac (mac: str) where ended_at is null;
    unique with_machine_id (machine_id: str);
    index live () then (id) where ended_at is null;
    index live_of_pool (pool_id: PoolId) then (id) where ended_at is null;
    index live_on (host_id: HostId) then (id) where ended_at is null;
    index waiting (pool_id: PoolId) then (id) where taken_at is null;
    index of_user (user_id: UserId) then (id);
    index live_with_disk (disk_id: DiskId) then (id) where ended_at is null;
    index live_of_origin (origin_id: SnapshotId) then (id) where ended_at is null;
}

impl Desktop {
    /// What is wanted of it is something else from now on. What it is to be put back to first stays so.
    pub fn wish_anew(&mut self) {
        self.desired_gen += 1;
        if self.back_to.is_some() {
            self.back_gen = self.desired_gen;
        }
    }

    /// Whether what its host says of that wish shows that it was put back, or could not be.
    #[must_use]
    pub fn has_gone_back(&self, wish: u64, phase: Phase) -> bool {
        // An agent that is started again says of each that it starts, before it has done anything.
        let known = phase == Phase::Ready || phase.is_at_rest();
        self.back_to.is_some() && known && wish >= self.back_gen.unsigned_abs()
    }

    /// It is to be there.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.desired != DesiredState::Absent
    }

    /// What it lets people do, but for watching, which goes by what its pool says now.
    #[must_use]
    pub fn policy(&self, pool: &Pool) -> PoolPolicy {
        self.policy.unwrap_or(pool.policy).0
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
        /// The virtual processors.
        vcpus: u32,
        /// When.
        created_at: i64,
        /// When its host confirmed that it is not there any more.
        freed_at: Option<i64>,
        /// Why there, for people.
        reason: Option<String>,
    }
    key (desktop_id: DesktopId, generation: u64);
    unique live (desktop_id: DesktopId) where freed_at is null;
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
