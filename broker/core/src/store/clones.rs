//! Clones: desktops that are made of a snapshot of another one, for another user or in another pool.
//!
//! What it is made of is on one host only, so the clone is made there. Until that host has it, the snapshot is kept.

use super::make::{self, Made, Owner};
use super::places::Places;
use super::{DesktopHost, DesktopRow, Error, Result, Store, desktops, pools, quotas, timers};
use crate::plan::World;
use lucarne_control::agent::SnapshotState;
use lucarne_control::desktop::Phase;
use lucarne_control::pool::PoolKind;
use lucarne_control::{DesktopId, SnapshotId, UserId};
use lucarne_db::Tx;
use lucarne_db::tables::{Assignment, Desktop, Pool, Snapshot};
use lucarne_mutants::mutant;
use std::sync::Arc;

/// What is to be cloned, and for whom.
#[derive(Clone, Debug)]
pub struct CloneRequest {
    /// The snapshot. One that is being taken is waited for by its host.
    pub snapshot: SnapshotId,
    /// Whose the clone is to be.
    pub user: UserId,
    /// Who asks.
    pub actor: String,
    /// The name or id of the clone's pool.
    pub pool: String,
}

/// Whether its host has not said yet that it has it. After a backup was put back all count as held.
fn is_coming(clone: &Desktop) -> bool {
    !clone.held || matches!(clone.phase, Phase::Placing | Phase::Preparing)
}

/// The desktop that is being made of a snapshot, if there is one.
pub(super) fn being_made(tx: &mut Tx<'_>, snapshot: SnapshotId) -> Result<Option<Desktop>> {
    if mutant("a snapshot is deleted that a desktop is being made of") {
        return Ok(None);
    }
    let clones = tx.list(Desktop::live_of_origin(&snapshot))?;
    Ok(clones.into_iter().find(|clone| clone.is_wanted() && is_coming(clone)))
}

fn clone(tx: &mut Tx<'_>, request: &CloneRequest, world: &dyn World, places: &Places) -> Result<DesktopRow> {
    let missing = || Error::not_found("snapshot", request.snapshot);
    let user = quotas::hold(tx, request.user)?.filter(|user| user.deleted_at.is_none());
    let user = user.ok_or_else(|| Error::not_found("user", request.user))?;
    let id = pools::find(tx, &request.pool)?.id;
    let pool = tx.lock(Pool::key(&id))?.filter(|pool| pool.deleted_at.is_none());
    let mut pool = pool.ok_or_else(|| Error::not_found("pool", &request.pool))?;
    if !pools::entitled(tx, user.id, id)? {
        return Err(Error::NotEntitled { user: user.name, pool: pool.name.clone() });
    }
    if let Some(assignment) = tx.find(Assignment::live_in_pool(&user.id, &id))? {
        let desktop = tx.peek(Desktop::key(&assignment.desktop_id))?.map(|d| d.name).unwrap_or_default();
        return Err(Error::AlreadyAssigned { user: user.name, pool: pool.name.clone(), desktop });
    }
    let source = tx.peek(Snapshot::key(&request.snapshot))?.ok_or_else(missing)?.desktop_id;
    // Held, so that its snapshots stay as they are.
    let source = tx.lock(Desktop::key(&source))?.filter(|d| d.is_wanted()).ok_or_else(missing)?;
    let snapshot =
        tx.lock(Snapshot::key(&request.snapshot))?.filter(|s| s.gone_at.is_none()).ok_or_else(missing)?;
    let there = matches!(snapshot.state, SnapshotState::Taking | SnapshotState::Ready);
    if !there || snapshot.deleted_at.is_some() {
        let by = format!("it is {}", snapshot.state.as_str());
        return Err(Error::InUse { what: "snapshot", name: snapshot.name.clone(), by });
    }
    let of = tx.peek(Pool::key(&source.pool_id))?.ok_or_else(missing)?;
    let networks = (pool.policy.0.network, source.policy(&of).network);
    let same = pool.template() == of.template() && networks.0 == networks.1;
    if pool.rules.0.kind != PoolKind::Personal || !same {
        return Err(Error::OtherTemplate { desktop: source.name.clone(), pool: pool.name.clone() });
    }
    let counted = quotas::check(tx, &user)?;
    let owner = Owner { user: user.id, counted: &counted };
    if pool.desktops >= pool.max_desktops {
        return Err(Error::PoolFull { pool: pool.name.clone(), max: i64::from(pool.max_desktops) });
    }
    let (host, why) = places.choose(tx, &pool, Some(snapshot.host_id), world)?;
    let at = DesktopHost { id: host.id, name: host.name.clone(), online: true };
    pool.desktops += 1;
    tx.update(&pool)?;
    let pool = pool.into_row();
    let made = Made { owner: Some(&owner), disk: None, origin: Some(snapshot.id) };
    let desktop = make::desktop(tx, &pool, host, &why, made)?;
    let detail = format!(
        "a clone of {} in {} for {} on {}, of the snapshot {}: {why}",
        source.name, pool.name, user.name, at.name, snapshot.name
    );
    tx.audit(&request.actor, "desktop.cloned", &desktop.name, &detail)?;
    timers::arrival(tx, &desktop, &pool)?;
    Ok(desktops::row(desktop, pool.name, Some(at), Some(user.name)))
}

/// What desktops are made of that their host does not have yet.
pub(super) fn origins(tx: &mut Tx<'_>, desktops: &[Desktop]) -> Result<Vec<(SnapshotId, DesktopId)>> {
    let making = desktops.iter().filter(|d| !d.held).filter_map(|d| d.origin_id.as_ref());
    let snapshots = tx.peek_all(making.map(Snapshot::key))?;
    Ok(snapshots.into_iter().map(|snapshot| (snapshot.id, snapshot.desktop_id)).collect())
}

impl Store {
    /// Has a desktop made of a snapshot, for a user who has none of that pool: with its disk, and with what was open where the snapshot
    /// has the memory. Its host has to be told.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotEntitled`], [`Error::AlreadyAssigned`], [`Error::InUse`] where the snapshot is not there,
    /// [`Error::OtherTemplate`], [`Error::QuotaReached`], [`Error::PoolFull`], [`Error::NoHost`], or a database fault.
    pub async fn clone_snapshot(&self, request: CloneRequest, world: Arc<dyn World>) -> Result<DesktopRow> {
        let places = Arc::clone(&self.places);
        self.write(move |tx| clone(tx, &request, &*world, &places)).await
    }
}
