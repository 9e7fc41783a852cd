//! What is done at a time: sessions that have lasted for as long as they may, that nobody came back to, and personal desktops that
//! nobody uses. Any broker does it; the first to look takes the timer away.

use super::{Ended, Result, Store, end, maintenance, power, snapshots};
use lucarne_control::api::SessionState;
use lucarne_control::desktop::DesiredState;
use lucarne_control::pool::SessionLimits;
use lucarne_control::{DesktopId, HostId, SessionId};
use lucarne_db::Tx;
use lucarne_db::tables::{Desktop, Host, Pool, PoolRules, Session, Timer, TimerKind};
use lucarne_mutants::mutant;
use std::collections::BTreeSet;
use uuid::Uuid;

/// What a viewer may take to come to a fresh session, milliseconds: a slow start is not somebody's absence.
const ARRIVAL: i64 = 15 * 60_000;

/// Timers that one look takes.
const AT_ONCE: usize = 200;

fn ms(seconds: u32) -> i64 {
    i64::from(seconds) * 1000
}

/// Has something done at that time, and not when it was to be done before.
pub(super) fn set(tx: &mut Tx<'_>, kind: TimerKind, subject: Uuid, at: i64) -> Result<()> {
    match tx.lock(Timer::key(&kind, &subject))? {
        Some(mut timer) => {
            timer.at = at;
            tx.update(&timer)?;
        }
        None => tx.insert(&Timer { kind, subject, at })?,
    }
    Ok(())
}

pub(super) fn clear(tx: &mut Tx<'_>, kind: TimerKind, subject: Uuid) -> Result<()> {
    tx.remove(Timer::key(&kind, &subject))?;
    Ok(())
}

/// A session began, and nobody looks at it yet.
pub(super) fn began(tx: &mut Tx<'_>, session: SessionId, desktop: &Desktop, pool: &Pool) -> Result<()> {
    if let Some(longest) = pool.rules.0.limits.session_s {
        let at = tx.now() + ms(longest);
        set(tx, TimerKind::SessionOver, session.0, at)?;
    }
    came(tx, session, desktop, pool)
}

/// Whose session it is came to it, and does not look at it yet: they were absent until now, and are not any more.
pub(super) fn came(tx: &mut Tx<'_>, session: SessionId, desktop: &Desktop, pool: &Pool) -> Result<()> {
    if let Some(left) = pool.rules.0.limits.disconnected_s {
        let at = tx.now() + ms(left).max(ARRIVAL);
        set(tx, TimerKind::SessionLeft, session.0, at)?;
    }
    if mutant("a desktop is powered off for the absence of who has just come") {
        return Ok(());
    }
    unused(tx, desktop, pool, ARRIVAL)
}

/// A desktop was powered on, and nobody looks at it yet.
pub(super) fn arrival(tx: &mut Tx<'_>, desktop: &Desktop, pool: &Pool) -> Result<()> {
    unused(tx, desktop, pool, ARRIVAL)
}

/// Nobody could be connected for a while: nobody's absence until now counts.
pub(super) fn put_off(tx: &mut Tx<'_>) -> Result<()> {
    let at = tx.now() + ARRIVAL;
    for timer in tx.list(Timer::due().before(&at))? {
        if matches!(timer.kind, TimerKind::SessionLeft | TimerKind::DesktopUnused) {
            set(tx, timer.kind, timer.subject, at)?;
        }
    }
    Ok(())
}

/// The pool of what a timer is about, for a rule that may not hold any more.
fn rules_of(tx: &mut Tx<'_>, timer: &Timer) -> Result<Option<PoolRules>> {
    let pool = match timer.kind {
        TimerKind::DesktopUnused | TimerKind::DesktopSnapshot => {
            tx.peek(Desktop::key(&DesktopId(timer.subject)))?.map(|d| d.pool_id)
        }
        _ => tx.peek(Session::key(&SessionId(timer.subject)))?.map(|s| s.pool_id),
    };
    let pool = pool.map(|pool| tx.peek(Pool::key(&pool))).transpose()?.flatten();
    Ok(pool.map(|pool| pool.rules.0))
}

/// Nobody uses a desktop from now on, or from `least` milliseconds on.
fn unused(tx: &mut Tx<'_>, desktop: &Desktop, pool: &Pool, least: i64) -> Result<()> {
    let runs = desktop.persistent && desktop.desired == DesiredState::Running;
    if let Some(after) = pool.rules.0.power.after_s().filter(|_| runs) {
        let at = tx.now() + ms(after).max(least);
        set(tx, TimerKind::DesktopUnused, desktop.id.0, at)?;
    }
    Ok(())
}

/// A session is used.
pub(super) fn used(tx: &mut Tx<'_>, session: &Session, pool: &Pool) -> Result<()> {
    if pool.rules.0.limits.disconnected_s.is_some() {
        clear(tx, TimerKind::SessionLeft, session.id.0)?;
    }
    if pool.rules.0.power.after_s().is_some()
        && !mutant("a desktop is powered off for the absence of who looks at it")
    {
        clear(tx, TimerKind::DesktopUnused, session.desktop_id.0)?;
    }
    Ok(())
}

/// The last viewer of a session went.
pub(super) fn left(tx: &mut Tx<'_>, session: &Session, pool: &Pool) -> Result<()> {
    if let Some(after) = pool.rules.0.limits.disconnected_s {
        let at = tx.now() + ms(after);
        set(tx, TimerKind::SessionLeft, session.id.0, at)?;
    }
    if pool.rules.0.power.after_s().is_some()
        && let Some(desktop) = tx.peek(Desktop::key(&session.desktop_id))?
    {
        unused(tx, &desktop, pool, 0)?;
    }
    Ok(())
}

/// A session is over.
pub(super) fn over(tx: &mut Tx<'_>, session: SessionId, desktop: &Desktop, pool: &Pool) -> Result<()> {
    if pool.rules.0.limits.session_s.is_some() {
        clear(tx, TimerKind::SessionOver, session.0)?;
    }
    if pool.rules.0.limits.disconnected_s.is_some() {
        clear(tx, TimerKind::SessionLeft, session.0)?;
    }
    unused(tx, desktop, pool, 0)
}

/// Takes a timer away whose subject is held by now, if it is due still: who came meanwhile has set it again, or taken it away.
fn take(tx: &mut Tx<'_>, timer: &Timer) -> Result<bool> {
    let now = tx.now();
    match tx.lock(Timer::key(&timer.kind, &timer.subject))?.filter(|timer| timer.at <= now) {
        Some(due) => {
            tx.delete(due)?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// Does what a timer is for, which is due, and takes it away.
fn ring(tx: &mut Tx<'_>, timer: &Timer) -> Result<Vec<Ended>> {
    let session = SessionId(timer.subject);
    if timer.kind == TimerKind::HostMaintenance {
        let ended = maintenance::empty(tx, HostId(timer.subject))?;
        if !take(tx, timer)? && !ended.is_empty() {
            return Err(tx.again("a timer was set anew").into());
        }
        return Ok(ended);
    }
    let holds = rules_of(tx, timer)?.is_some_and(|rules| match timer.kind {
        TimerKind::SessionOver => rules.limits.session_s.is_some(),
        TimerKind::SessionLeft => rules.limits.disconnected_s.is_some(),
        TimerKind::DesktopSnapshot => rules.snapshots.every_s.is_some(),
        _ => rules.power.after_s().is_some(),
    });
    if timer.kind == TimerKind::DesktopSnapshot {
        let due = |tx: &mut Tx<'_>| Ok(holds && take(tx, timer)?);
        if !snapshots::scheduled(tx, DesktopId(timer.subject), due)? {
            take(tx, timer)?;
        }
        // Its host is told when it is looked after next.
        return Ok(Vec::new());
    }
    // What ends by it may set it again, or take it away, as whoever comes meanwhile does: it is taken before anything ends.
    let ended = match timer.kind {
        _ if !holds => None,
        TimerKind::SessionOver => end::session(tx, "system", session, end::LASTED, |tx, _| take(tx, timer))?,
        TimerKind::SessionLeft => {
            let alone = |s: &Session| s.state != SessionState::Connected;
            end::session(tx, "system", session, end::LEFT, |tx, s| Ok(alone(s) && take(tx, timer)?))?
        }
        _ => power::unused(tx, DesktopId(timer.subject), |tx| take(tx, timer))?,
    };
    if ended.is_none() {
        // It is for nothing any more.
        take(tx, timer)?;
    }
    Ok(ended.into_iter().collect())
}

/// The limits of a live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// Its viewers are disconnected when nothing was typed for so long, seconds.
    pub idle_s: Option<u32>,
    /// It lasts at most so long, seconds.
    pub session_s: Option<u32>,
    /// It is over in so many milliseconds, where it was to last only so long when it began.
    pub left_ms: Option<i64>,
    /// Its host is to be empty in so many milliseconds.
    pub maintenance_ms: Option<i64>,
}

impl Store {
    /// Does what is due; gives whom it concerns. What cannot be done now is tried again the next time.
    ///
    /// # Errors
    /// A database fault.
    pub async fn ring(&self) -> Result<Vec<Ended>> {
        let due = self.read(|tx| {
            let now = tx.now();
            Ok(tx.list(Timer::due().up_to(&now).limit(AT_ONCE))?)
        });
        let mut ended = Vec::new();
        for timer in due.await? {
            let due = timer.clone();
            let rung = self.write(move |tx| {
                let (timer, now) = (&due, tx.now());
                let row = tx.peek(Timer::key(&timer.kind, &timer.subject))?;
                if row.is_none_or(|row| row.at > now) {
                    return Ok(Vec::new());
                }
                ring(tx, timer)
            });
            match rung.await {
                Ok(rung) => ended.extend(rung),
                // The others are not to wait for it.
                Err(e) => {
                    tracing::error!(error = %e, ?timer, "what is due cannot be done; it is tried again")
                }
            }
        }
        Ok(ended)
    }

    /// Those of these sessions that have limits.
    ///
    /// # Errors
    /// A database fault.
    pub async fn limits(&self, sessions: Vec<SessionId>) -> Result<Vec<(SessionId, Limited)>> {
        self.read(move |tx| {
            let live = tx.peek_all(sessions.iter().map(Session::key))?;
            let pools: BTreeSet<_> = live.iter().map(|session| session.pool_id).collect();
            let pools = tx.peek_all(pools.iter().map(Pool::key))?;
            let now = tx.now();
            let desktops = tx.peek_all(live.iter().map(|session| Desktop::key(&session.desktop_id)))?;
            let hosts: BTreeSet<_> = desktops.iter().filter_map(|desktop| desktop.host_id).collect();
            let hosts = tx.peek_all(hosts.iter().map(Host::key))?;
            let maintenance = |session: &Session| {
                let at = desktops.iter().find(|d| d.id == session.desktop_id)?.host_id?;
                hosts.iter().find(|host| host.id == at)?.maintenance_at
            };
            let mut limited = Vec::new();
            for session in live.into_iter().filter(|session| session.ended_at.is_none()) {
                let Some(pool) = pools.iter().find(|pool| pool.id == session.pool_id) else { continue };
                let SessionLimits { idle_s, session_s, .. } = pool.rules.0.limits;
                let maintenance_ms = maintenance(&session).map(|at| at - now);
                if idle_s.is_none() && session_s.is_none() && maintenance_ms.is_none() {
                    continue;
                }
                let timer = tx.peek(Timer::key(&TimerKind::SessionOver, &session.id.0))?;
                let left_ms = timer.map(|timer| timer.at - now);
                limited.push((session.id, Limited { idle_s, session_s, left_ms, maintenance_ms }));
            }
            Ok(limited)
        })
        .await
    }
}
