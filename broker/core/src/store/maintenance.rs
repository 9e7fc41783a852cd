//! Hosts that are to be empty at a time, so that somebody can work on them.
//!
//! From the decision on no new desktop goes there. At the time floating desktops end, with their sessions, and personal ones are
//! powered off and cannot be powered on until it is over.

use super::timers::{clear, set};
use super::{Ended, Error, Result, Store, all, end, power};
use lucarne_control::HostId;
use lucarne_control::desktop::{DesiredState, Phase};
use lucarne_db::Tx;
use lucarne_db::tables::{Desktop, Host, TimerKind};

/// Why sessions end whose host is worked on.
pub const MAINTENANCE: &str = "its host is being worked on";

/// The longest time ahead, milliseconds: 30 days.
pub const LONGEST: i64 = 30 * 86_400_000;

/// Refuses to power on what is on a host that is worked on.
pub(super) fn check(tx: &mut Tx<'_>, desktop: &Desktop) -> Result<()> {
    let host = desktop.host_id.map(|host| tx.peek(Host::key(&host))).transpose()?.flatten();
    match host.filter(|host| host.maintenance_at.is_some_and(|at| at <= tx.now())) {
        Some(host) => Err(Error::HostInMaintenance { desktop: desktop.name.clone(), host: host.name }),
        None => Ok(()),
    }
}

/// Empties a host whose time has come.
pub(super) fn empty(tx: &mut Tx<'_>, host: HostId) -> Result<Vec<Ended>> {
    let due = |host: &Host, now| host.maintenance_at.is_some_and(|at| at <= now);
    let now = tx.now();
    if !tx.peek(Host::key(&host))?.is_some_and(|host| due(&host, now)) {
        return Ok(Vec::new());
    }
    let mut ended = Vec::new();
    for desktop in all(tx, || Desktop::live_on(&host), |desktop| desktop.id)? {
        if !desktop.persistent {
            ended.extend(end::desktop(tx, "system", desktop.id, MAINTENANCE)?);
        } else if let Some(desktop) = tx.lock(Desktop::key(&desktop.id))?
            && desktop.desired == DesiredState::Running
        {
            ended.push(power::rest(tx, "system", desktop, (power::Rest::Off, Phase::Stopping), MAINTENANCE)?);
        }
    }
    Ok(ended)
}

impl Store {
    /// Has nothing run on a host from so many milliseconds on, or has desktops run there again.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn maintain_host(&self, actor: &str, host: HostId, in_ms: Option<i64>) -> Result<()> {
        let actor = actor.to_owned();
        self.write(move |tx| {
            let at = in_ms.map(|ms| tx.now() + ms);
            match at {
                Some(at) => set(tx, TimerKind::HostMaintenance, host.0, at)?,
                None => clear(tx, TimerKind::HostMaintenance, host.0)?,
            }
            let mut row = tx.lock(Host::key(&host))?.ok_or_else(|| Error::not_found("host", host))?;
            row.maintenance_at = at;
            if at.is_some() {
                row.drained_at.get_or_insert(tx.now());
            } else {
                row.drained_at = None;
            }
            tx.update(&row)?;
            let detail = in_ms.map(|ms| format!("it is to be empty in {} s", ms / 1000)).unwrap_or_default();
            let action = if at.is_some() { "host.maintenance" } else { "host.resumed" };
            Ok(tx.audit(&actor, action, &row.name, &detail)?)
        })
        .await
    }
}
