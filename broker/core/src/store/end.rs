//! The end of a desktop: hygiene in one transaction.
//!
//! Ending means: its session ended, its assignment ended, the desktop wanted absent, an audit row. From then on nobody
//! can reach it, whatever happens to the broker. The placement stays until the host confirms the destruction.

use super::links::Link;
use super::{Error, Result, Store, disks, maintenance, power, quotas, snapshots, timers};
use lucarne_control::api::SessionState;
use lucarne_control::desktop::{DesiredState, Phase};
use lucarne_control::{DesktopId, HostId, SessionId};
use lucarne_db::tables::{Assignment, Desktop, Host, Placement, Pool, Session};
use lucarne_db::{Locked, Tx};
use lucarne_mutants::mutant;

/// A desktop whose end was just decided: who has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub desktop: DesktopId,
    /// The host that has to destroy it.
    pub host: Option<HostId>,
    /// The session that ended with it.
    pub session: Option<SessionId>,
    /// Why, where that is one of this store's own reasons.
    pub why: &'static str,
}

/// Ends a wanted desktop; nothing when it is wanted absent already.
pub(super) fn desktop(tx: &mut Tx<'_>, actor: &str, id: DesktopId, reason: &str) -> Result<Option<Ended>> {
    let Some(desktop) = tx.lock(Desktop::key(&id))?.filter(|d| d.is_wanted()) else { return Ok(None) };
    let name = desktop.name.clone();
    let ended = end(tx, desktop, Phase::Stopping, reason, reason, None)?;
    tx.audit(actor, "desktop.ended", &name, reason)?;
    Ok(Some(ended))
}

/// As [`desktop`], for one that could not be made or died: the reason stays on record.
/// Where a host says so, only while that comes by its link.
pub(super) fn failed(
    tx: &mut Tx<'_>,
    id: DesktopId,
    reason: &str,
    by: Option<&Link>,
) -> Result<Option<Ended>> {
    let Some(desktop) = tx.lock(Desktop::key(&id))?.filter(|d| d.is_wanted()) else { return Ok(None) };
    let name = desktop.name.clone();
    let ended = end(tx, desktop, Phase::Failed, reason, FAILED, by)?;
    tx.audit("system", "desktop.failed", &name, reason)?;
    Ok(Some(ended))
}

/// Why a session ended that lasted for as long as it may.
pub const LASTED: &str = "the session has lasted for as long as it may";

/// Why a session ended that nobody came back to.
pub const LEFT: &str = "nobody was connected for as long as that may be";

/// Why a session ended whose user logged off.
pub const LOGGED_OFF: &str = "logged off";

/// The reason, if it is one of those that viewers are told in words of their own; empty otherwise.
pub(super) fn own(reason: &str) -> &'static str {
    let own = [
        LASTED,
        LEFT,
        LOGGED_OFF,
        power::UNUSED,
        power::UNUSED_SUSPENDED,
        maintenance::MAINTENANCE,
        snapshots::PUT_BACK,
    ];
    own.into_iter().find(|own| *own == reason).unwrap_or_default()
}

/// Ends a live session that `due`, asked once it is held, says is to end: with its desktop, unless that is personal.
pub(super) fn session(
    tx: &mut Tx<'_>,
    actor: &str,
    id: SessionId,
    reason: &str,
    due: impl FnOnce(&mut Tx<'_>, &Session) -> Result<bool>,
) -> Result<Option<Ended>> {
    let Some(row) = tx.peek(Session::key(&id))?.filter(|row| row.ended_at.is_none()) else { return Ok(None) };
    let Some(desktop_row) = tx.lock(Desktop::key(&row.desktop_id))?.filter(|d| d.is_wanted()) else {
        return Ok(None);
    };
    // Held with its desktop: nobody comes or goes meanwhile.
    let Some(held) = tx.lock(Session::key(&id))?.filter(|row| row.ended_at.is_none()) else {
        return Ok(None);
    };
    if !due(tx, &held)? {
        return Ok(None);
    }
    if !desktop_row.persistent || mutant("a log-off destroys a personal desktop") {
        return desktop(tx, actor, desktop_row.id, reason);
    }
    let session = close_session(tx, &desktop_row, reason)?;
    tx.audit(actor, "session.ended", &format!("{id} on {}", desktop_row.name), reason)?;
    Ok(Some(Ended { desktop: desktop_row.id, host: None, session, why: own(reason) }))
}

/// Ends the live session on a desktop that is held, if there is one.
pub(super) fn close_session(tx: &mut Tx<'_>, desktop: &Desktop, reason: &str) -> Result<Option<SessionId>> {
    let Some(mut session) = tx.lock_first(Session::live_on(&desktop.id))? else { return Ok(None) };
    session.ended_at = Some(tx.now());
    session.end_reason = Some(reason.to_owned());
    (session.state, session.broker_id) = (SessionState::Ended, None);
    tx.update(&session)?;
    if let Some(pool) = tx.peek(Pool::key(&desktop.pool_id))? {
        timers::over(tx, session.id, desktop, &pool)?;
    }
    Ok(Some(session.id))
}

/// Why the assignment of a desktop ended that failed.
pub(super) const FAILED: &str = "failed";

fn end(
    tx: &mut Tx<'_>,
    mut desktop: Locked<Desktop>,
    phase: Phase,
    detail: &str,
    reason: &str,
    by: Option<&Link>,
) -> Result<Ended> {
    let (id, now) = (desktop.id, tx.now());
    desktop.desired = DesiredState::Absent;
    desktop.wish_anew();
    desktop.phase = phase;
    desktop.detail = detail.to_owned();
    desktop.endpoint = None;
    desktop.assigned = false;
    desktop.taken_at.get_or_insert(now);
    tx.update(&desktop)?;
    let assignment = tx.lock_first(Assignment::of_desktop(&id))?;
    if let Some(mut assignment) = assignment.filter(|a| a.ended_at.is_none())
        && !mutant("the assignment of a desktop that ended lives on")
    {
        assignment.ended_at = Some(now);
        assignment.end_reason = Some(reason.to_owned());
        tx.update(&assignment)?;
        quotas::discharge(tx, assignment.id)?;
    }
    if let Some(mut session) = tx.lock_first(Session::live_on(&id))?
        && !mutant("the session of a desktop that ended lives on")
    {
        session.ended_at = Some(now);
        session.end_reason = Some(reason.to_owned());
        session.state = SessionState::Ended;
        tx.update(&session)?;
    }
    let host = desktop.host_id.filter(|_| desktop.placed);
    let session = tx.find(Session::on(&id).newest_first())?.map(|session| session.id);
    // What should be on its host has changed.
    let row = match (by, host) {
        (Some(link), _) => Some(link.lock(tx)?),
        (None, Some(host)) => tx.lock(Host::key(&host))?,
        (None, None) => None,
    };
    if let Some(mut row) = row {
        row.revision += 1;
        tx.update(&row)?;
    }
    Ok(Ended { desktop: id, host, session, why: own(reason) })
}

/// Frees the place of a desktop that is gone, if that is `due` by its row: by a host's word, only while that comes by its link,
/// or by somebody's. Tells whether it was not free before.
pub(super) fn free(
    tx: &mut Tx<'_>,
    id: DesktopId,
    by: Option<&Link>,
    due: impl FnOnce(&Desktop) -> bool,
    detail: &str,
) -> Result<bool> {
    let Some(pool) = tx.peek(Desktop::key(&id))?.map(|desktop| desktop.pool_id) else { return Ok(false) };
    let pool = tx.lock(Pool::key(&pool))?;
    let Some(mut desktop) = tx.lock(Desktop::key(&id))?.filter(|desktop| due(desktop)) else {
        return Ok(false);
    };
    let now = tx.now();
    (desktop.ended_at, desktop.placed, desktop.endpoint) = (Some(now), false, None);
    if desktop.phase != Phase::Failed {
        desktop.phase = Phase::Stopped;
    }
    tx.update(&desktop)?;
    if let Some(disk) = desktop.disk_id {
        disks::unbind(tx, disk)?;
    }
    if desktop.persistent {
        snapshots::gone(tx, id)?;
    }
    if let Some(mut pool) = pool
        && !mutant("a desktop that is gone counts on in its pool")
    {
        pool.desktops = pool.desktops.saturating_sub(1);
        tx.update(&pool)?;
    }
    let mut freed = None;
    if let Some(mut placement) = tx.lock_first(Placement::live(&id))? {
        placement.freed_at = Some(now);
        freed = Some((placement.host_id, placement.memory_mib, placement.vcpus));
        tx.update(&placement)?;
    }
    let host = match (by, freed) {
        (Some(link), _) => Some(link.lock(tx)?),
        (None, Some((host, ..))) => tx.lock(Host::key(&host))?,
        (None, None) => None,
    };
    if let Some(mut host) = host {
        host.revision += 1;
        if let Some((_, memory_mib, vcpus)) = freed {
            host.desktops = host.desktops.saturating_sub(1);
            host.promised_vcpus = host.promised_vcpus.saturating_sub(u64::from(vcpus));
            if !mutant("the memory of a desktop that is gone stays promised") {
                host.promised_mib = host.promised_mib.saturating_sub(memory_mib);
            }
        }
        tx.update(&host)?;
    }
    tx.audit("system", "desktop.destroyed", &desktop.name, detail)?;
    Ok(true)
}

impl Store {
    /// Ends a desktop, whoever has it; nothing when its end was decided before.
    ///
    /// # Errors
    /// A database fault.
    pub async fn end_desktop(&self, actor: &str, id: DesktopId, reason: &str) -> Result<Option<Ended>> {
        let (actor, reason) = (actor.to_owned(), reason.to_owned());
        self.write(move |tx| desktop(tx, &actor, id, &reason)).await
    }

    /// Ends a session by log-off, with its desktop unless that is personal; nothing when it has ended before.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn log_off(&self, actor: &str, session: SessionId) -> Result<(DesktopId, Option<Ended>)> {
        let actor = actor.to_owned();
        self.write(move |tx| {
            let row = tx.peek(Session::key(&session))?.ok_or_else(|| Error::not_found("session", session))?;
            let ended = self::session(tx, &actor, session, LOGGED_OFF, |_, _| Ok(true))?;
            Ok((row.desktop_id, ended))
        })
        .await
    }

    /// Ends a desktop that cannot be made, whoever has it; nothing when its end was decided before, or when its host has it.
    ///
    /// # Errors
    /// A database fault.
    pub async fn fail(&self, id: DesktopId, reason: &str) -> Result<Option<Ended>> {
        let reason = reason.to_owned();
        self.write(move |tx| match tx.lock(Desktop::key(&id))? {
            Some(desktop) if !desktop.held => failed(tx, id, &reason, None),
            _ => Ok(None),
        })
        .await
    }
}
