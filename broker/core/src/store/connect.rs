//! The claim: in one transaction, a user gets their desktop of a pool, or a fresh one, with session and audit row.

use super::places::Places;
use super::sessions::{self, SessionRow};
use super::{
    DesktopHost, DesktopRow, Ended, Error, Result, Store, desktops, disks, end, make, pools, power, quotas,
    timers, waiting,
};
use crate::plan::{self, World};
use lucarne_control::api::SessionState;
use lucarne_control::spec::TemplateSpec;
use lucarne_control::{PoolId, SessionId, UserId};
use lucarne_db::tables::{Assignment, Desktop, Host, Pool, Session, User};
use lucarne_db::{Locked, Tx};
use lucarne_mutants::mutant;
use std::sync::Arc;
use std::time::Instant;

/// Who wants a desktop of which pool.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// The user.
    pub user: UserId,
    /// Who asks: the user, or an administrator for them.
    pub actor: String,
    /// The pool's name or id.
    pub pool: String,
    /// Make a session too; without, only a desktop that is there when the user comes.
    pub session: bool,
    /// Tells when the decision began, for [`Assigned::held_at`]; nothing is decided by it.
    pub clock: fn() -> Instant,
}

/// The user's desktop.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// The desktop, placed.
    pub desktop: DesktopRow,
    /// The user's live session on it, when one was asked for.
    pub session: Option<SessionRow>,
    /// What it is forked from.
    pub template: TemplateSpec,
    /// It was made just now.
    pub fresh: bool,
    /// It was waiting for a user, and is theirs from now on.
    pub prepared: bool,
    /// It was powered off: its host has to be told.
    pub powered_on: bool,
    /// Dead desktops that it replaces: their hosts have to be told.
    pub replaced: Option<Ended>,
    /// When its pool was held for it, if it was made just now: what came before was waiting for others.
    pub held_at: Option<Instant>,
}

/// A request that may be served.
struct Claim<'a> {
    request: &'a ConnectRequest,
    pool: Pool,
    user: User,
}

impl Store {
    /// Gives the user their desktop of the pool: the live one, or a fresh one when there is none or it died.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotEntitled`], [`Error::PoolFull`], [`Error::NoHost`],
    /// [`Error::TemplateFailed`], or a database fault; nothing was changed then.
    pub async fn connect(&self, request: ConnectRequest, world: Arc<dyn World>) -> Result<Assigned> {
        let places = Arc::clone(&self.places);
        self.write(move |tx| connect(tx, &request, &*world, &places)).await
    }
}

fn connect(
    tx: &mut Tx<'_>,
    request: &ConnectRequest,
    world: &dyn World,
    places: &Places,
) -> Result<Assigned> {
    let user = quotas::hold(tx, request.user)?.filter(|user| user.deleted_at.is_none());
    let user = user.ok_or_else(|| Error::not_found("user", request.user))?;
    let id = pools::find(tx, &request.pool)?.id;
    if !pools::entitled(tx, user.id, id)? {
        let pool = tx.peek(Pool::key(&id))?.map(|pool| pool.name).unwrap_or_default();
        return Err(Error::NotEntitled { user: user.name, pool });
    }
    if let Some(desktop) = healthy(tx, user.id, id, world)? {
        return reuse(tx, request, user, id, desktop);
    }
    // Something is to be made: the pool is held, and looked at again, since whoever held it before may have made it.
    let pool = tx.lock(Pool::key(&id))?.filter(|pool| pool.deleted_at.is_none());
    let mut pool = pool.ok_or_else(|| Error::not_found("pool", &request.pool))?;
    let held_at = Some((request.clock)());
    // What they saved is where their disk is, and nowhere else.
    let disk = disks::held(tx, &pool, user.id)?;
    let only = disk.as_ref().and_then(|disk| disk.host_id);
    let (mut replaced, mut lost) = (None, false);
    if let Some(assignment) = tx.find(Assignment::live_in_pool(&user.id, &id))?
        && let Some(desktop) = tx.lock(Desktop::key(&assignment.desktop_id))?
        && desktop.is_wanted()
        && desktop.assigned
    {
        lost = failure(&desktop, world).is_none();
        let reason = if lost { out_of_reach(tx, &desktop)? } else { failure(&desktop, world) };
        let Some(reason) = reason else { return reuse(tx, request, user, id, desktop) };
        // What is on its disk is nowhere else: it is waited for, until somebody says that its host is dead.
        if lost && desktop.persistent && !mutant("a personal desktop is given up with its host") {
            return reuse(tx, request, user, id, desktop);
        }
        // A desktop that is out of reach is given up only for one that is not.
        if lost && !places.any(tx, &pool, only, world)? {
            return reuse(tx, request, user, id, desktop);
        }
        let host = desktop.host_id;
        replaced = end::failed(tx, desktop.id, &reason, None)?;
        // Its row is held now, and may have changed since it was looked at: the host may be back.
        let back = host.map(|host| tx.peek(Host::key(&host))).transpose()?.flatten();
        if lost && back.is_some_and(|host| host.is_online()) {
            return Err(tx.again("the desktop's host is back").into());
        }
    }
    let counted = quotas::check(tx, &user)?;
    let owner = make::Owner { user: user.id, counted: &counted };
    if let Some((mut desktop, at)) = waiting::take(tx, &pool, world)? {
        let claim = Claim { request, pool: pool.into_row(), user };
        make::assign(tx, &mut desktop, &owner)?;
        let detail = format!(
            "a desktop of {} that waited on {} for whoever comes: {} did",
            claim.pool.name, at.name, claim.user.name
        );
        tx.audit(&request.actor, "desktop.assigned", &desktop.name, &detail)?;
        let done = finish(tx, &claim, desktop.into_row(), Some(at))?;
        return Ok(Assigned { prepared: true, replaced, ..done });
    }
    // The place of one that is lost is not free, and its user has none the less.
    // Nor is that of one that gives its disk back, and its user waits for that.
    let leaving = disk.as_ref().map_or(Ok(false), |disk| disks::is_leaving(tx, disk))?;
    if pool.desktops >= pool.max_desktops && !lost && !leaving && !mutant("a pool gives more than it may") {
        return Err(Error::PoolFull { pool: pool.name.clone(), max: i64::from(pool.max_desktops) });
    }
    let (host, why) = places.choose(tx, &pool, only, world)?;
    let at = DesktopHost { id: host.id, name: host.name.clone(), online: true };
    pool.desktops += 1;
    tx.update(&pool)?;
    let claim = Claim { request, pool: pool.into_row(), user };
    let earlier = earlier_failure(tx, &claim)?;
    let disk = disks::attach(tx, &request.actor, (&claim.user, &claim.pool), at.id, disk)?;
    let made = make::Made { owner: Some(&owner), disk, origin: None };
    let desktop = make::desktop(tx, &claim.pool, host, &why, made)?;
    let mut detail =
        format!("a fresh desktop of {} for {} on {}: {why}", claim.pool.name, claim.user.name, at.name);
    if let Some(earlier) = earlier {
        detail += &format!(", in the place of {earlier}");
    }
    tx.audit(&request.actor, "desktop.assigned", &desktop.name, &detail)?;
    Ok(Assigned { fresh: true, replaced, held_at, ..finish(tx, &claim, desktop, Some(at))? })
}

pub(super) fn failure(desktop: &Desktop, world: &dyn World) -> Option<String> {
    // What is on the disk of a personal desktop is nowhere else: whatever its host says, it is not replaced.
    if plan::has_data(desktop) {
        return None;
    }
    world.failure(desktop.host_id?, desktop.id, if desktop.placed { desktop.generation } else { 0 })
}

/// Why the desktop is lost to its user, when its host has been out of reach for too long.
pub(super) fn out_of_reach(tx: &mut Tx<'_>, desktop: &Desktop) -> Result<Option<String>> {
    let Some(host) = desktop.host_id.map(|host| tx.peek(Host::key(&host))).transpose()?.flatten() else {
        return Ok(None);
    };
    let patience = if mutant("a host counts as lost at once") { 0 } else { plan::LOST_AFTER };
    let lost = plan::out_of_reach(&host, tx.now()).filter(|ms| *ms >= patience);
    Ok(lost.map(|ms| format!("its host {} has been out of reach for {} s", host.name, ms / 1000)))
}

/// The user's desktop of the pool, held until the end, if nothing is wrong with it.
fn healthy(
    tx: &mut Tx<'_>,
    user: UserId,
    pool: PoolId,
    world: &dyn World,
) -> Result<Option<Locked<Desktop>>> {
    let Some(assignment) = tx.find(Assignment::live_in_pool(&user, &pool))? else { return Ok(None) };
    // Only looked at before: one that died is held after its pool.
    let fine = |d: &Desktop| d.is_wanted() && d.assigned && failure(d, world).is_none();
    match tx.peek(Desktop::key(&assignment.desktop_id))? {
        // Nobody's absence gives up what is on a disk.
        Some(desktop)
            if fine(&desktop)
                && (desktop.persistent && !mutant("a personal desktop is given up with its host")
                    || out_of_reach(tx, &desktop)?.is_none()) => {}
        _ => return Ok(None),
    }
    Ok(tx.lock(Desktop::key(&assignment.desktop_id))?.filter(|desktop| fine(desktop)))
}

/// Connects the user to the desktop that they have.
fn reuse(
    tx: &mut Tx<'_>,
    request: &ConnectRequest,
    user: User,
    pool: PoolId,
    mut desktop: Locked<Desktop>,
) -> Result<Assigned> {
    let powered_on = request.session && power::on(tx, &request.actor, &mut desktop)?;
    let pool = tx.peek(Pool::key(&pool))?.ok_or_else(|| Error::not_found("pool", &request.pool))?;
    let host = desktop.host_id.map(|host| tx.peek(Host::key(&host))).transpose()?.flatten();
    let host = host.map(DesktopHost::from);
    let done = finish(tx, &Claim { request, pool, user }, desktop.into_row(), host)?;
    Ok(Assigned { powered_on, ..done })
}

/// The user's last desktop of the pool, when it died: the audit log tells why there is a fresh one.
fn earlier_failure(tx: &mut Tx<'_>, claim: &Claim<'_>) -> Result<Option<String>> {
    let last = Assignment::of_user_in_pool(&claim.user.id, &claim.pool.id).newest_first();
    let last = tx.find(last)?.filter(|last| last.end_reason.as_deref() == Some(end::FAILED));
    let desktop = last.map(|last| tx.peek(Desktop::key(&last.desktop_id))).transpose()?.flatten();
    Ok(desktop.map(|desktop| format!("{}, which failed: {}", desktop.name, desktop.detail)))
}

/// The live session on the desktop, or a new one.
fn session(tx: &mut Tx<'_>, claim: &Claim<'_>, desktop: &Desktop) -> Result<SessionRow> {
    let session = match tx.find(Session::live_on(&desktop.id))? {
        Some(live) => {
            if live.state != SessionState::Connected {
                timers::came(tx, live.id, desktop, &claim.pool)?;
            }
            live
        }
        None => {
            let session = Session {
                id: SessionId(tx.uuid()),
                user_id: claim.user.id,
                pool_id: claim.pool.id,
                desktop_id: desktop.id,
                state: SessionState::Connecting,
                broker_id: None,
                created_at: tx.now(),
                ended_at: None,
                end_reason: None,
            };
            tx.insert(&session)?;
            timers::began(tx, session.id, desktop, &claim.pool)?;
            let subject = format!("{} of {}", session.id, claim.user.name);
            tx.audit(&claim.request.actor, "session.created", &subject, &format!("on {}", desktop.id))?;
            session
        }
    };
    Ok(sessions::row(session, &claim.user.name, &claim.pool, Some(desktop)))
}

/// The desktop of the claim, which is on that host.
fn finish(
    tx: &mut Tx<'_>,
    claim: &Claim<'_>,
    desktop: Desktop,
    host: Option<DesktopHost>,
) -> Result<Assigned> {
    let session = match claim.request.session {
        true => Some(session(tx, claim, &desktop)?),
        false => {
            timers::arrival(tx, &desktop, &claim.pool)?;
            None
        }
    };
    let template = claim.pool.template();
    let desktop = desktops::row(desktop, claim.pool.name.clone(), host, Some(claim.user.name.clone()));
    Ok(Assigned {
        desktop,
        session,
        template,
        fresh: false,
        prepared: false,
        powered_on: false,
        replaced: None,
        held_at: None,
    })
}
