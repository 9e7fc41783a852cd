//! Desktops that wait for users: made before somebody asks, so that nobody waits for one.

use super::places::Places;
use super::{DesktopHost, Ended, Error, Result, Store, all, connect, end, make};
use crate::plan::World;
use crate::schedule;
use lucarne_control::desktop::{DesiredState, Phase};
use lucarne_control::pool::PoolKind;
use lucarne_control::{DesktopId, HostId, PoolId};
use lucarne_db::tables::{Desktop, Host, Pool};
use lucarne_db::{Locked, Tx};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Desktops that are looked at for one that is given away: those that wait the longest.
const LOOKED_AT: usize = 64;

/// None is made for so long after no host could take one, milliseconds.
const NO_HOST: i64 = 10_000;

/// The same after one failed; twice as long after each more, up to [`LONGEST`].
const FAILED: i64 = 2000;
const LONGEST: i64 = 300_000;

/// What was done so that desktops wait.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// Hosts that are to make one.
    pub hosts: Vec<HostId>,
    /// Those that they are to make.
    pub desktops: Vec<DesktopId>,
    /// Desktops that ended: too many wait, or their pool has changed.
    pub ended: Vec<Ended>,
}

/// The desktops of a pool that wait, as they are of use.
#[derive(Debug, Default)]
struct Waiting {
    /// They can be given to a user, or will be.
    good: Vec<Desktop>,
    /// They are as their pool was, or on a host that is to be emptied.
    stale: Vec<Desktop>,
}

impl Waiting {
    fn starting(&self) -> usize {
        self.good.iter().filter(|desktop| desktop.phase != Phase::Ready).count()
    }
}

fn hosts(tx: &mut Tx<'_>, desktops: &[Desktop]) -> Result<BTreeMap<HostId, Host>> {
    let ids: BTreeSet<HostId> = desktops.iter().filter_map(|desktop| desktop.host_id).collect();
    Ok(tx.peek_all(ids.iter().map(Host::key))?.into_iter().map(|host| (host.id, host)).collect())
}

/// It is as its pool makes them now.
fn is_current(desktop: &Desktop, pool: &Pool) -> bool {
    let rules = &pool.rules.0;
    // One with a disk of its user's is made for them.
    rules.home.size_gib.is_none()
        && desktop.policy(pool) == pool.policy.0
        && desktop.persistent == (rules.kind == PoolKind::Personal)
}

fn look(tx: &mut Tx<'_>, pool: &Pool, world: &dyn World) -> Result<Waiting> {
    let all = all(tx, || Desktop::waiting(&pool.id), |desktop| desktop.id)?;
    let hosts = hosts(tx, &all)?;
    let mut waiting = Waiting::default();
    for desktop in all.into_iter().filter(Desktop::is_wanted) {
        let Some(host) = desktop.host_id.and_then(|id| hosts.get(&id)) else { continue };
        let off = desktop.desired != DesiredState::Running;
        if off || !is_current(&desktop, pool) || host.drained_at.is_some() {
            waiting.stale.push(desktop);
        } else if host.is_online() && host.denied_at.is_none() && connect::failure(&desktop, world).is_none()
        {
            waiting.good.push(desktop);
        }
        // Others are out of reach: they count when their host is back.
    }
    Ok(waiting)
}

/// The desktop that waits and that a user is given; held until the end. The pool has to be held.
pub(super) fn take(
    tx: &mut Tx<'_>,
    pool: &Pool,
    world: &dyn World,
) -> Result<Option<(Locked<Desktop>, DesktopHost)>> {
    let mut waiting = tx.list(Desktop::waiting(&pool.id).limit(LOOKED_AT))?;
    let hosts = hosts(tx, &waiting)?;
    let rank = |desktop: &Desktop| match desktop.phase {
        Phase::Ready => 0,
        _ if desktop.endpoint.is_some() => 1,
        _ => 2,
    };
    waiting.sort_by_key(|desktop| (rank(desktop), desktop.id));
    let fits = |desktop: &Desktop| {
        let free = desktop.taken_at.is_none();
        free && desktop.desired == DesiredState::Running
            && is_current(desktop, pool)
            && connect::failure(desktop, world).is_none()
    };
    for desktop in waiting.iter().filter(|desktop| fits(desktop)) {
        let host = desktop.host_id.and_then(|id| hosts.get(&id));
        let open = |h: &&Host| h.is_online() && h.denied_at.is_none() && h.drained_at.is_none();
        let Some(host) = host.filter(open) else { continue };
        let host = DesktopHost::from(host.clone());
        if let Some(desktop) = tx.lock(Desktop::key(&desktop.id))?.filter(|desktop| fits(desktop)) {
            return Ok(Some((desktop, host)));
        }
    }
    Ok(None)
}

/// How many desktops of a pool wait that could be given to a user now.
pub(super) fn good(tx: &mut Tx<'_>, pool: &Pool, world: &dyn World) -> Result<usize> {
    if tx.find(Desktop::waiting(&pool.id))?.is_none() {
        return Ok(0);
    }
    Ok(look(tx, pool, world)?.good.len())
}

/// Takes note of what became of those that were made last.
fn settle(tx: &mut Tx<'_>, pool: &mut Pool) -> Result<()> {
    let preparation = &mut pool.preparation.0;
    if preparation.last.is_empty() {
        return Ok(());
    }
    let made = tx.peek_all(preparation.last.iter().map(Desktop::key))?;
    preparation.last = made
        .iter()
        .filter(|d| d.is_wanted() && d.phase != Phase::Ready && d.taken_at.is_none())
        .map(|d| d.id)
        .collect();
    if made.iter().any(|desktop| desktop.phase == Phase::Failed) {
        preparation.failures = preparation.failures.saturating_add(1);
        let wait = FAILED << preparation.failures.min(16);
        preparation.not_before = tx.now() + wait.min(LONGEST);
    } else if made.iter().any(|desktop| desktop.phase == Phase::Ready) {
        (preparation.failures, preparation.not_before) = (0, 0);
    }
    Ok(())
}

fn prepare(tx: &mut Tx<'_>, id: PoolId, world: &dyn World, places: &Places) -> Result<Prepared> {
    let mut prepared = Prepared::default();
    let Some(mut pool) = tx.lock(Pool::key(&id))?.filter(|pool| pool.deleted_at.is_none()) else {
        return Ok(prepared);
    };
    let mut waiting = look(tx, &pool, world)?;
    let wanted = schedule::ready(&pool.rules.0.ready, tx.now()) as usize;
    for desktop in &waiting.stale {
        let why = "it waited for a user, and its pool or its host has changed";
        prepared.ended.extend(end::desktop(tx, "system", desktop.id, why)?);
    }
    // The last to be made are the last to be of use.
    while waiting.good.len() > wanted {
        let Some(desktop) = waiting.good.pop() else { break };
        let why = "it waited for a user, and fewer are to wait";
        prepared.ended.extend(end::desktop(tx, "system", desktop.id, why)?);
    }
    let before = pool.preparation.clone();
    settle(tx, &mut pool)?;
    let slots = (pool.rules.0.ready.max_starting() as usize).saturating_sub(waiting.starting());
    let missing = wanted.saturating_sub(waiting.good.len()).min(slots);
    for _ in 0..missing {
        if pool.preparation.0.not_before > tx.now() || pool.desktops >= pool.max_desktops {
            break;
        }
        let (host, why) = match places.choose(tx, &pool, None, world) {
            Ok(chosen) => chosen,
            Err(e @ (Error::NoHost { .. } | Error::TemplateFailed { .. })) => {
                tracing::info!(error = %e, "no desktop is made that would wait for a user");
                pool.preparation.0.not_before = tx.now() + NO_HOST;
                break;
            }
            Err(e) => return Err(e),
        };
        let (at, name) = (host.id, host.name.clone());
        let desktop = make::desktop(tx, &pool, host, &why, make::Made::default())?;
        pool.desktops += 1;
        pool.preparation.0.last.push(desktop.id);
        let detail = format!("a desktop of {} that waits for a user, on {name}: {why}", pool.name);
        tx.audit("system", "desktop.prepared", &desktop.name, &detail)?;
        prepared.hosts.push(at);
        prepared.desktops.push(desktop.id);
    }
    if before != pool.preparation || !prepared.hosts.is_empty() {
        tx.update(&pool)?;
    }
    Ok(prepared)
}

/// Whether something is to be done for a pool, by what is only looked at.
fn is_due(tx: &mut Tx<'_>, pool: &Pool, world: &dyn World) -> Result<bool> {
    let rules = &pool.rules.0.ready;
    if rules.is_off() && tx.find(Desktop::waiting(&pool.id))?.is_none() {
        return Ok(false);
    }
    let waiting = look(tx, pool, world)?;
    let wanted = schedule::ready(rules, tx.now()) as usize;
    let room = pool.desktops < pool.max_desktops && waiting.starting() < rules.max_starting() as usize;
    let free = pool.preparation.0.not_before <= tx.now() && room;
    let settled = pool.preparation.0.last.is_empty();
    Ok(!waiting.stale.is_empty()
        || waiting.good.len() > wanted
        || !settled
        || waiting.good.len() < wanted && free)
}

impl Store {
    /// Has as many desktops of each pool wait for users as should: makes those that are missing, and ends those that are too
    /// many.
    ///
    /// # Errors
    /// A database fault. What was done before it stays so.
    pub async fn prepare(&self, world: Arc<dyn World>) -> Result<Prepared> {
        let (seen, places) = (Arc::clone(&world), Arc::clone(&self.places));
        let due = self.read(move |tx| {
            let mut due = Vec::new();
            for pool in all(tx, Pool::present, |pool| pool.id)? {
                if is_due(tx, &pool, &*seen)? {
                    due.push(pool.id);
                }
            }
            Ok(due)
        });
        let mut prepared = Prepared::default();
        for pool in due.await? {
            let (world, places) = (Arc::clone(&world), Arc::clone(&places));
            let done = self.write(move |tx| prepare(tx, pool, &*world, &places)).await?;
            prepared.hosts.extend(done.hosts);
            prepared.desktops.extend(done.desktops);
            prepared.ended.extend(done.ended);
        }
        Ok(prepared)
    }
}

/// How many desktops of a pool wait for users, of use or not.
pub(super) fn count(tx: &mut Tx<'_>, pool: PoolId) -> Result<u32> {
    Ok(u32::try_from(tx.count(Desktop::waiting(&pool))?).unwrap_or(u32::MAX))
}
