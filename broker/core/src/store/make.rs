//! The making of a desktop's record: its identity, its place, and whose it is.

use super::{Result, quotas};
use lucarne_control::desktop::{DesiredState, Phase};
use lucarne_control::pool::PoolKind;
use lucarne_control::{DesktopId, PoolId, UserId};
use lucarne_db::tables::{Assignment, Desktop, Host, Placement, Pool};
use lucarne_db::value::Json;
use lucarne_db::{Locked, Tx};
use uuid::Uuid;

/// Inserts a desktop of the pool with its identity and its place on that host, which was held for it. It waits for a user
/// until [`assign`] gives it to one.
pub(super) fn desktop(tx: &mut Tx<'_>, pool: &Pool, mut host: Locked<Host>, why: &str) -> Result<Desktop> {
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
        endpoint: None,
        user_id: None,
        assigned: false,
        created_at: now,
        ended_at: None,
        policy: Some(pool.policy),
        persistent: pool.rules.0.kind == PoolKind::Personal,
        taken_at: None,
        disk_id: None,
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
    Ok(desktop)
}

/// Gives a desktop that waits to a user.
pub(super) fn assign(
    tx: &mut Tx<'_>,
    desktop: &mut Locked<Desktop>,
    user: UserId,
    pool: PoolId,
) -> Result<()> {
    let now = tx.now();
    (desktop.user_id, desktop.assigned, desktop.taken_at) = (Some(user), true, Some(now));
    tx.update(desktop)?;
    let assignment = Assignment {
        id: tx.uuid(),
        desktop_id: desktop.id,
        user_id: user,
        pool_id: pool,
        created_at: now,
        ended_at: None,
        end_reason: None,
    };
    tx.insert(&assignment)?;
    quotas::charge(tx, user, assignment.id)
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
