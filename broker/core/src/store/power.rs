//! Powering personal desktops on and off, and suspending them: what is wanted of them changes, their place and their user do not.

use super::{Ended, Error, Result, Store, end, maintenance, timers};
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

/// The same where it was suspended.
pub const UNUSED_SUSPENDED: &str = "its desktop was suspended because nobody used it";

/// The same where it was suspended by somebody.
pub const SUSPENDED: &str = "its desktop was suspended";

/// How a desktop is not to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Powered off.
    Off,
    /// Suspended: it goes on where it was.
    Suspended,
}

impl Rest {
    fn desired(self) -> DesiredState {
        match self {
            Self::Off => DesiredState::Off,
            Self::Suspended if mutant("a desktop that is to be suspended is powered off") => {
                DesiredState::Off
            }
            Self::Suspended => DesiredState::Suspended,
        }
    }

    /// Why a session ends by it, and what the audit log says.
    fn reason(self) -> (&'static str, &'static str) {
        match self {
            Self::Off => (POWERED_OFF, "desktop.powered_off"),
            Self::Suspended => (SUSPENDED, "desktop.suspended"),
        }
    }
}

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

/// Powers a desktop on, or has it go on, if it does not run; tells whether that was so.
pub(super) fn on(tx: &mut Tx<'_>, actor: &str, desktop: &mut Locked<Desktop>) -> Result<bool> {
    if !desktop.desired.is_at_rest() {
        return Ok(false);
    }
    maintenance::check(tx, desktop)?;
    let suspended = desktop.desired == DesiredState::Suspended;
    desktop.desired = DesiredState::Running;
    if !mutant("a desktop is powered on by the wish that powered it off") {
        desktop.wish_anew();
    }
    (desktop.phase, desktop.endpoint) = (Phase::Placing, None);
    let (what, action) =
        if suspended { ("resumed", "desktop.resumed") } else { ("powered on", "desktop.powered_on") };
    desktop.detail = format!("it is being {what}");
    tx.update(desktop)?;
    tell(tx, desktop)?;
    tx.audit(actor, action, &desktop.name, "")?;
    Ok(true)
}

/// Has a held desktop powered off or suspended, or notes that it is; its session ends.
pub(super) fn rest(
    tx: &mut Tx<'_>,
    actor: &str,
    mut desktop: Locked<Desktop>,
    (rest, phase): (Rest, Phase),
    why: &str,
) -> Result<Ended> {
    desktop.desired = rest.desired();
    desktop.wish_anew();
    (desktop.phase, desktop.endpoint) = (phase, None);
    desktop.detail = why.to_owned();
    desktop.held |= plan::is_held(phase);
    tx.update(&desktop)?;
    let (reason, action) = rest.reason();
    let reason = Some(end::own(why)).filter(|own| !own.is_empty()).unwrap_or(reason);
    let session = end::close_session(tx, &desktop, reason)?;
    tell(tx, &desktop)?;
    tx.audit(actor, action, &desktop.name, why)?;
    Ok(Ended { desktop: desktop.id, host: desktop.host_id, session, why: reason })
}

/// Notes that a desktop goes on that was to be suspended, for this reason. On a host that is to be empty by now it is powered off.
pub(super) fn refused(tx: &mut Tx<'_>, mut desktop: Locked<Desktop>, why: &str) -> Result<()> {
    if let Err(Error::HostInMaintenance { .. }) = maintenance::check(tx, &desktop) {
        let how = (Rest::Off, Phase::Stopping);
        return rest(tx, "system", desktop, how, maintenance::MAINTENANCE).map(drop);
    }
    desktop.desired = DesiredState::Running;
    desktop.wish_anew();
    desktop.phase = Phase::Ready;
    desktop.detail = why.to_owned();
    tx.update(&desktop)?;
    tell(tx, &desktop)?;
    tx.audit("system", "desktop.suspend_refused", &desktop.name, why)?;
    if let Some(pool) = tx.peek(Pool::key(&desktop.pool_id))? {
        // It is not asked again at once.
        timers::arrival(tx, &desktop, &pool)?;
    }
    Ok(())
}

/// Powers off or suspends a personal desktop that nobody uses, as its pool says, if `due`, asked once it is held, says so.
pub(super) fn unused(
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
    let suspends = tx.peek(Pool::key(&desktop.pool_id))?.is_some_and(|pool| pool.rules.0.power.suspends());
    let (how, why) = if suspends { (Rest::Suspended, UNUSED_SUSPENDED) } else { (Rest::Off, UNUSED) };
    Ok(Some(rest(tx, "system", desktop, (how, Phase::Stopping), why)?))
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
                DesiredState::Running | DesiredState::Suspended => {
                    let why = format!("{actor} powered it off");
                    Ok(Some(rest(tx, &actor, desktop, (Rest::Off, Phase::Stopping), &why)?))
                }
                _ => Ok(None),
            }
        })
        .await
    }

    /// Suspends a personal desktop, whoever uses it; nothing when it does not run.
    ///
    /// # Errors
    /// As [`Store::power_off`].
    pub async fn suspend(&self, actor: &str, id: DesktopId) -> Result<Option<Ended>> {
        let actor = actor.to_owned();
        self.write(move |tx| {
            let desktop = lock(tx, id)?;
            if desktop.desired != DesiredState::Running {
                return Ok(None);
            }
            let why = format!("{actor} suspended it");
            Ok(Some(rest(tx, &actor, desktop, (Rest::Suspended, Phase::Stopping), &why)?))
        })
        .await
    }

    /// Powers a personal desktop on, or has it go on; tells whether it did not run.
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
