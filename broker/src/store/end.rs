//! The end of a desktop: hygiene in one transaction.
//!
//! Ending means: its session ended, its assignment ended, the desktop wanted absent, an audit row. From then on nobody
//! can reach it, whatever happens to the broker. The placement stays until the host confirms the destruction.

use super::{Error, Result, Store, changed_on};
use lucarne_control::api::SessionState;
use lucarne_control::desktop::{DesiredState, ForkTimings, Phase};
use lucarne_control::{DesktopId, HostId, SessionId};
use lucarne_db::tables::{Assignment, Desktop, Host, Placement, Pool, Session};
use lucarne_db::value::Json;
use lucarne_db::{Locked, Tx};

/// A desktop whose end was just decided: who has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub desktop: DesktopId,
    /// The host that has to destroy it.
    pub host: Option<HostId>,
    /// The session that ended with it.
    pub session: Option<SessionId>,
}

/// Ends a wanted desktop; nothing when it is wanted absent already.
pub(super) fn desktop(tx: &mut Tx<'_>, actor: &str, id: DesktopId, reason: &str) -> Result<Option<Ended>> {
    let Some(desktop) = tx.lock(Desktop::key(&id))?.filter(|d| d.is_wanted()) else { return Ok(None) };
    let name = desktop.name.clone();
    let ended = end(tx, desktop, Phase::Stopping, reason, reason)?;
    tx.audit(actor, "desktop.ended", &name, reason)?;
    Ok(Some(ended))
}

/// As [`desktop`], for one that could not be made or died: the reason stays on record.
pub(super) fn failed(tx: &mut Tx<'_>, id: DesktopId, reason: &str) -> Result<Option<Ended>> {
    let Some(desktop) = tx.lock(Desktop::key(&id))?.filter(|d| d.is_wanted()) else { return Ok(None) };
    let name = desktop.name.clone();
    let ended = end(tx, desktop, Phase::Failed, reason, FAILED)?;
    tx.audit("system", "desktop.failed", &name, reason)?;
    Ok(Some(ended))
}

/// Why the assignment of a desktop ended that failed.
pub(super) const FAILED: &str = "failed";

fn end(
    tx: &mut Tx<'_>,
    mut desktop: Locked<Desktop>,
    phase: Phase,
    detail: &str,
    reason: &str,
) -> Result<Ended> {
    let (id, now) = (desktop.id, tx.now());
    desktop.desired = DesiredState::Absent;
    desktop.desired_gen += 1;
    desktop.phase = phase;
    desktop.detail = detail.to_owned();
    desktop.assigned = false;
    tx.update(&desktop)?;
    let assignment = tx.lock_first(Assignment::of_desktop(&id))?;
    if let Some(mut assignment) = assignment.filter(|a| a.ended_at.is_none()) {
        assignment.ended_at = Some(now);
        assignment.end_reason = Some(reason.to_owned());
        tx.update(&assignment)?;
    }
    if let Some(mut session) = tx.lock_first(Session::live_on(&id))? {
        session.ended_at = Some(now);
        session.end_reason = Some(reason.to_owned());
        session.state = SessionState::Ended;
        tx.update(&session)?;
    }
    let host = desktop.host_id.filter(|_| desktop.placed);
    if let Some(host) = host {
        changed_on(tx, host, |_| {})?;
    }
    let session = tx.find(Session::on(&id).newest_first())?.map(|session| session.id);
    Ok(Ended { desktop: id, host, session })
}

/// The desktop, if its wish has not changed since it was planned for.
fn still(tx: &mut Tx<'_>, id: DesktopId, desired_gen: i64) -> Result<Option<Locked<Desktop>>> {
    let desktop = tx.lock(Desktop::key(&id))?;
    Ok(desktop.filter(|d| d.desired_gen == desired_gen && d.ended_at.is_none()))
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

    /// Ends a session by log-off, with its desktop; nothing when it has ended before.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn log_off(&self, actor: &str, session: SessionId) -> Result<(DesktopId, Option<Ended>)> {
        let actor = actor.to_owned();
        self.write(move |tx| {
            let row = tx.peek(Session::key(&session))?.ok_or_else(|| Error::not_found("session", session))?;
            let ended = match row.ended_at {
                None => desktop(tx, &actor, row.desktop_id, "logged off")?,
                Some(_) => None,
            };
            Ok((row.desktop_id, ended))
        })
        .await
    }

    /// As planned by [`crate::plan::Action::Fail`]; without a generation to compare, whatever it is now.
    ///
    /// # Errors
    /// A database fault.
    pub async fn fail(&self, id: DesktopId, desired_gen: Option<i64>, reason: &str) -> Result<Option<Ended>> {
        let reason = reason.to_owned();
        self.write(move |tx| {
            if let Some(desired_gen) = desired_gen
                && still(tx, id, desired_gen)?.is_none()
            {
                return Ok(None);
            }
            failed(tx, id, &reason)
        })
        .await
    }

    /// As planned by [`crate::plan::Action::Destroy`].
    ///
    /// # Errors
    /// A database fault.
    pub async fn destroy(&self, id: DesktopId, desired_gen: i64) -> Result<Option<Ended>> {
        self.write(move |tx| match still(tx, id, desired_gen)? {
            Some(_) => desktop(tx, "system", id, "nobody has it"),
            None => Ok(None),
        })
        .await
    }

    /// As planned by [`crate::plan::Action::ConfirmStopped`]: the evidence that a desktop is gone. Tells whether it
    /// was not on record before.
    ///
    /// # Errors
    /// A database fault.
    pub async fn confirm_stopped(&self, id: DesktopId, desired_gen: i64) -> Result<bool> {
        self.write(move |tx| {
            let Some(pool) = tx.peek(Desktop::key(&id))?.map(|desktop| desktop.pool_id) else {
                return Ok(false);
            };
            let pool = tx.lock(Pool::key(&pool))?;
            let Some(mut desktop) = still(tx, id, desired_gen)?.filter(|d| !d.is_wanted()) else {
                return Ok(false);
            };
            let now = tx.now();
            desktop.ended_at = Some(now);
            desktop.placed = false;
            if desktop.phase != Phase::Failed {
                desktop.phase = Phase::Stopped;
            }
            tx.update(&desktop)?;
            if let Some(mut pool) = pool {
                pool.desktops = pool.desktops.saturating_sub(1);
                tx.update(&pool)?;
            }
            let mut detail = "it was never placed".to_owned();
            if let Some(mut placement) = tx.lock_first(Placement::live(&id))? {
                placement.freed_at = Some(now);
                tx.update(&placement)?;
                changed_on(tx, placement.host_id, |host| {
                    host.desktops = host.desktops.saturating_sub(1);
                    host.promised_mib = host.promised_mib.saturating_sub(placement.memory_mib);
                })?;
                let host = tx.peek(Host::key(&placement.host_id))?.map(|host| host.name).unwrap_or_default();
                detail = format!("{host} confirmed that it is gone with its data");
            }
            tx.audit("system", "desktop.destroyed", &desktop.name, &detail)?;
            Ok(true)
        })
        .await
    }

    /// As planned by [`crate::plan::Action::RecordReady`].
    ///
    /// # Errors
    /// A database fault.
    pub async fn record_ready(&self, id: DesktopId, desired_gen: i64, timings: &ForkTimings) -> Result<()> {
        let timings = *timings;
        self.write(move |tx| {
            let Some(mut desktop) = still(tx, id, desired_gen)?.filter(|d| d.is_wanted()) else {
                return Ok(());
            };
            desktop.phase = Phase::Ready;
            desktop.detail.clear();
            desktop.timings = Json(timings);
            tx.update(&desktop)?;
            let detail = serde_json::to_string(&timings).unwrap_or_default();
            Ok(tx.audit("system", "desktop.ready", &desktop.name, &detail)?)
        })
        .await
    }
}
