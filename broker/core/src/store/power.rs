//! Powering personal desktops on and off: what is wanted of them changes, their place and their user do not.

use super::{Ended, Result, Store, end, maintenance, timers};
use crate::plan;
use lucarne_control::DesktopId;
use lucarne_control::api::SessionState;
use lucarne_control::desktop::{DesiredState, Phase};
use lucarne_db::tables::{Desktop, Host, Pool, Session};
use lucarne_db::{Locked, Tx};
use lucarne_mutants::mutant;

/// Why a session ended whose desktop was powered off because nobody used it.
pub const UNUSED: &str = "its desktop was powered off because nobody used it";

/// Why a session ended whose desktop was powered off otherwise: by somebody, or from within.
pub const POWERED_OFF: &str = "its desktop was powered off";

/// What should be on its host has changed.
fn tell(tx: &mut Tx<'_>, desktop: &Desktop) -> Result<()> {
    if let Some(host) = desktop.host_id.filter(|_| desktop.placed)
        && let Some(mut host) = tx.lock(Host::key(&host))?
        && !mutant("a host is not told what is wanted of a desktop")
    {
        host.revision += 1;
        tx.update(&host)?;
    }
    Ok(())
}

/// Powers a desktop on, if it is off; tells whether it was.
pub(super) fn on(tx: &mut Tx<'_>, actor: &str, desktop: &mut Locked<Desktop>) -> Result<bool> {
    if desktop.desired != DesiredState::Off {
        return Ok(false);
    }
    maintenance::check(tx, desktop)?;
    desktop.desired = DesiredState::Running;
    if !mutant("a desktop is powered on by the wish that powered it off") {
        desktop.desired_gen += 1;
    }
    (desktop.phase, desktop.endpoint) = (Phase::Placing, None);
    desktop.detail = "it is being powered on".to_owned();
    tx.update(desktop)?;
    tell(tx, desktop)?;
    tx.audit(actor, "desktop.powered_on", &desktop.name, "")?;
    Ok(true)
}

/// Has a held desktop powered off, or notes that it is; its session ends.
pub(super) fn rest(
    tx: &mut Tx<'_>,
    actor: &str,
    mut desktop: Locked<Desktop>,
    phase: Phase,
    why: &str,
) -> Result<Ended> {
    desktop.desired = DesiredState::Off;
    desktop.desired_gen += 1;
    (desktop.phase, desktop.endpoint) = (phase, None);
    desktop.detail = why.to_owned();
    desktop.held |= plan::is_held(phase);
    tx.update(&desktop)?;
    let reason = Some(end::own(why)).filter(|own| !own.is_empty()).unwrap_or(POWERED_OFF);
    let session = end::close_session(tx, &desktop, reason)?;
    tell(tx, &desktop)?;
    tx.audit(actor, "desktop.powered_off", &desktop.name, why)?;
    Ok(Ended { desktop: desktop.id, host: desktop.host_id, session, why: reason })
}

/// Powers off a personal desktop that nobody uses, if `due`, asked once it is held, says so.
pub(super) fn off(
    tx: &mut Tx<'_>,
    id: DesktopId,
    due: impl FnOnce(&mut Tx<'_>) -> Result<bool>,
) -> Result<Option<Ended>> {
    let Some(desktop) = tx.lock(Desktop::key(&id))? else { return Ok(None) };
    if !desktop.persistent || desktop.desired != DesiredState::Running {
        return Ok(None);
    }
    // Held: who comes now waits until it is decided.
    let session = tx.lock_first(Session::live_on(&id))?;
    if session.is_some_and(|session| session.state == SessionState::Connected)
        && !mutant("a desktop is powered off for the absence of who looks at it")
    {
        return Ok(None);
    }
    if !due(tx)? {
        return Ok(None);
    }
    Ok(Some(rest(tx, "system", desktop, Phase::Stopping, UNUSED)?))
}

impl Store {
    /// Powers a personal desktop off, whoever uses it; nothing when it is off.
    ///
    /// # Errors
    /// [`super::Error::NotFound`], [`super::Error::NotPersonal`], or a database fault.
    pub async fn power_off(&self, actor: &str, id: DesktopId) -> Result<Option<Ended>> {
        let actor = actor.to_owned();
        self.write(move |tx| {
            let desktop = lock(tx, id)?;
            match desktop.desired {
                DesiredState::Running => {
                    let why = format!("{actor} powered it off");
                    Ok(Some(rest(tx, &actor, desktop, Phase::Stopping, &why)?))
                }
                _ => Ok(None),
            }
        })
        .await
    }

    /// Powers a personal desktop on; tells whether it was off.
    ///
    /// # Errors
    /// As [`Store::power_off`].
    pub async fn power_on(&self, actor: &str, id: DesktopId) -> Result<Option<Ended>> {
        let actor = actor.to_owned();
        self.write(move |tx| {
            let mut desktop = lock(tx, id)?;
            if !on(tx, &actor, &mut desktop)? {
                return Ok(None);
            }
            if let Some(pool) = tx.peek(Pool::key(&desktop.pool_id))? {
                timers::arrival(tx, &desktop, &pool)?;
            }
            Ok(Some(Ended { desktop: id, host: desktop.host_id, session: None, why: "" }))
        })
        .await
    }
}

fn lock(tx: &mut Tx<'_>, id: DesktopId) -> Result<Locked<Desktop>> {
    let desktop = tx.lock(Desktop::key(&id))?.filter(|desktop| desktop.is_wanted());
    let desktop = desktop.ok_or_else(|| super::Error::not_found("desktop", id))?;
    if !desktop.persistent {
        return Err(super::Error::NotPersonal { desktop: desktop.name.clone() });
    }
    Ok(desktop)
}
