//! The making of a desktop's record: its identity, its place, and whose it is.

use super::Result;
use super::quotas::{self, Counted};
use lucarne_control::desktop::{DesiredState, Phase};
use lucarne_control::pool::PoolKind;
use lucarne_control::{DesktopId, DiskId, SnapshotId, UserId};
use lucarne_db::tables::{Assignment, Desktop, Host, Placement, Pool};
use lucarne_db::value::Json;
use lucarne_db::{Locked, Tx};
use uuid::Uuid;

/// Whose a desktop is to be.
pub(super) struct Owner<'a> {
    /// The user.
    pub user: UserId,
    /// The groups that it counts for.
    pub counted: &'a Counted,
}

/// What a desktop is made with.
#[derive(Default)]
pub(super) struct Made<'a> {
    /// Whose it is.
    pub owner: Option<&'a Owner<'a>>,
    /// Its user's disk.
    pub disk: Option<DiskId>,
    /// The snapshot that it is made of.
    pub origin: Option<SnapshotId>,
}

/// Inserts a desktop of the pool with its identity and its place on that host, which was held for it. Without an owner it waits
/// for a user until [`assign`] gives it to one.
pub(super) fn desktop(
    tx: &mut Tx<'_>,
    pool: &Pool,
    mut host: Locked<Host>,
    why: &str,
    Made { owner, disk, origin }: Made<'_>,
) -> Result<Desktop> {
    let (id, now) = (DesktopId(tx.uuid()), tx.now());
    let random = tx.random();
    let bytes = tx.random().into_bytes();
    let (memory_mib, vcpus) = (u64::from(pool.machine.0.memory_mib), pool.machine.0.vcpus);
    let desktop = Desktop {
        id,
        pool_id: pool.id,
        name: hostname(&pool.name, &random),
        machine_id: random.simple().to_string(),
        // Locally administered, unicast (IEEE 802, section 8.2): never the address of a real card.
        mac: format!("52:54:{:02x}:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2], bytes[3]),
        desired: DesiredState::Running,
        desired_gen: 1,
        phase: Phase::Placing,
        detail: String::new(),
        timings: Json::default(),
        launch: None,
        host_id: Some(host.id),
        generation: 1,
        placed: true,
        held: false,
        back_to: None,
        back_gen: 0,
        origin_id: origin,
        endpoint: None,
        user_id: owner.map(|owner| owner.user),
        assigned: owner.is_some(),
        created_at: now,
        ended_at: None,
        policy: Some(pool.policy),
        persistent: pool.rules.0.kind == PoolKind::Personal,
        taken_at: owner.map(|_| now),
        disk_id: disk,
    };
    tx.insert(&desktop)?;
    tx.insert(&Placement {
        desktop_id: id,
        generation: desktop.generation,
        host_id: host.id,
        memory_mib,
        vcpus,
        created_at: now,
        freed_at: None,
        reason: Some(why.to_owned()),
    })?;
    host.revision += 1;
    host.desktops += 1;
    host.promised_mib += memory_mib;
    host.promised_vcpus += u64::from(vcpus);
    tx.update(&host)?;
    if let Some(owner) = owner {
        assignment(tx, &desktop, owner)?;
    }
    Ok(desktop)
}

/// Gives a desktop that waits to a user.
pub(super) fn assign(tx: &mut Tx<'_>, desktop: &mut Locked<Desktop>, owner: &Owner<'_>) -> Result<()> {
    (desktop.user_id, desktop.assigned, desktop.taken_at) = (Some(owner.user), true, Some(tx.now()));
    tx.update(desktop)?;
    assignment(tx, desktop, owner)
}

fn assignment(tx: &mut Tx<'_>, desktop: &Desktop, owner: &Owner<'_>) -> Result<()> {
    let assignment = Assignment {
        id: tx.uuid(),
        desktop_id: desktop.id,
        user_id: owner.user,
        pool_id: desktop.pool_id,
        created_at: tx.now(),
        ended_at: None,
        end_reason: None,
    };
    tx.insert(&assignment)?;
    quotas::charge(tx, owner.counted, assignment.id)
}

/// A DNS label (RFC 1123) from the pool's name and six random characters without look-alikes.
fn hostname(pool: &str, random: &Uuid) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut label: String =
        pool.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    label.truncate(40);
    label.push('-');
    label.extend(random.as_bytes()[..6].iter().map(|b| char::from(LETTERS[usize::from(b % 32)])));
    label
}
