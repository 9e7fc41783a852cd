//! Snapshots that the schedules of pools ask for.

use super::{By, delete, policy, take, tell};
use crate::store::{Error, Result, all, clones, timers};
use lucarne_control::DesktopId;
use lucarne_control::agent::SnapshotState;
use lucarne_control::snapshot::NewSnapshot;
use lucarne_db::Tx;
use lucarne_db::tables::{Desktop, Pool, Snapshot, Timer, TimerKind};
use lucarne_mutants::mutant;

/// Takes the next snapshot that the schedule of a desktop's pool asks for, and has those deleted that are too many; if `due`, asked
/// once the desktop is held, says so. Tells whether it did.
pub(in crate::store) fn scheduled(
    tx: &mut Tx<'_>,
    id: DesktopId,
    due: impl FnOnce(&mut Tx<'_>) -> Result<bool>,
) -> Result<bool> {
    let Some(desktop) = tx.lock(Desktop::key(&id))?.filter(|d| d.is_wanted() && d.persistent) else {
        return Ok(false);
    };
    if !due(tx)? {
        return Ok(false);
    }
    let policy = policy(tx, &desktop)?;
    let (Some(every), Some(host)) = (policy.every_s, desktop.host_id.filter(|_| desktop.held)) else {
        return Ok(true);
    };
    let at = tx.now() + i64::from(every) * 1000;
    timers::set(tx, TimerKind::DesktopSnapshot, id.0, at)?;
    let mut there = all(tx, || Snapshot::of_desktop(&id), |snapshot| snapshot.id)?;
    there.retain(|snapshot| snapshot.scheduled && snapshot.deleted_at.is_none());
    if there.iter().any(|snapshot| snapshot.state == SnapshotState::Taking) {
        // Its host has not come to the last one.
        return Ok(true);
    }
    let last = there.iter().rfind(|snapshot| snapshot.state == SnapshotState::Ready);
    if desktop.phase.is_at_rest() && last.is_some_and(|last| last.current && last.wish == desktop.desired_gen)
    {
        // It has not run since.
        return Ok(true);
    }
    for failed in there.iter().filter(|snapshot| snapshot.state == SnapshotState::Failed) {
        if clones::being_made(tx, failed.id)?.is_none()
            && let Some(failed) = tx.lock(Snapshot::key(&failed.id))?
        {
            delete(tx, "system", failed, &desktop)?;
        }
    }
    let new = NewSnapshot { name: None, memory: Some(policy.memory) };
    match take(tx, &desktop, &new, By::Schedule) {
        Ok(_) => {}
        Err(Error::NameTaken { .. } | Error::InUse { .. }) => return Ok(true),
        Err(error) => return Err(error),
    }
    tell(tx, host)?;
    Ok(true)
}

/// Has those of a desktop's schedule deleted that are more than are kept, now that one more is there; tells whether there are any.
pub(super) fn retain(tx: &mut Tx<'_>, id: DesktopId) -> Result<bool> {
    let Some(desktop) = tx.lock(Desktop::key(&id))?.filter(|desktop| desktop.is_wanted()) else {
        return Ok(false);
    };
    let keep = policy(tx, &desktop)?.keep() as usize;
    let mut there = all(tx, || Snapshot::of_desktop(&id), |snapshot| snapshot.id)?;
    there.retain(|s| {
        s.scheduled
            && s.deleted_at.is_none()
            && s.state == SnapshotState::Ready
            && desktop.back_to != Some(s.id)
    });
    let more = there.len().saturating_sub(keep);
    let more = if mutant("a schedule keeps all of its snapshots") { 0 } else { more };
    for old in there.into_iter().take(more) {
        // What a clone is made of goes with the next one.
        if clones::being_made(tx, old.id)?.is_none()
            && let Some(old) = tx.lock(Snapshot::key(&old.id))?
        {
            delete(tx, "system", old, &desktop)?;
        }
    }
    Ok(more > 0)
}

/// Has the schedule of a desktop's pool begin for it, where there is one and it has not.
pub(in crate::store) fn schedule(tx: &mut Tx<'_>, desktop: &Desktop) -> Result<()> {
    let Some(every) = policy(tx, desktop)?.every_s.filter(|_| desktop.persistent) else { return Ok(()) };
    if tx.peek(Timer::key(&TimerKind::DesktopSnapshot, &desktop.id.0))?.is_none() {
        let at = tx.now() + i64::from(every) * 1000;
        timers::set(tx, TimerKind::DesktopSnapshot, desktop.id.0, at)?;
    }
    Ok(())
}

/// The schedule of a pool has changed: it begins anew for each desktop.
pub(in crate::store) fn reschedule(tx: &mut Tx<'_>, pool: &Pool) -> Result<()> {
    for desktop in all(tx, || Desktop::live_of_pool(&pool.id), |desktop| desktop.id)? {
        timers::clear(tx, TimerKind::DesktopSnapshot, desktop.id.0)?;
        if desktop.is_wanted() && desktop.held {
            schedule(tx, &desktop)?;
        }
    }
    Ok(())
}
