//! The way of a connect request: claim in the database, tell the host, wait for the picture.
//!
//! One implementation for every door (REST and VNC). On the fast path nothing polls and no timer is in the way: a
//! commit, a push to the agent's link, and a wake-up when the host says where the picture is.

use crate::app::App;
use crate::launch::Stopwatch;
use crate::viewers::End;
use crate::watch;
use lucarne_control::agent::TemplateState;
use lucarne_control::desktop::{DesiredState, Endpoint, Phase};
use lucarne_control::{HostId, UserId};
use lucarne_core::fleet::{self, Sight};
use lucarne_core::store::{self, Assigned, ConnectRequest, DesktopHost, PlacedDesktop};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a host that is not connected is waited for: agents come back within a second of the broker's restart.
const HOST_PATIENCE: Duration = Duration::from_secs(3);

/// How long what a host said takes to be on record, at most: a transaction, on a slow disk.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);

/// How far a connect came.
#[derive(Debug)]
pub enum Outcome {
    /// The picture is there.
    Ready {
        /// Desktop and session.
        assigned: Assigned,
        /// Where the picture is.
        at: At,
    },
    /// It is not, for now; the desktop stays the user's, and the next connect finds it.
    Waiting {
        /// Desktop and session.
        assigned: Assigned,
        /// What is being waited for, for people.
        detail: String,
        /// Estimated share that is done, where known.
        progress: Option<u8>,
    },
}

/// Where a desktop's display is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The desktop and its placement.
    pub placed: PlacedDesktop,
    /// The address, from the host's agent.
    pub endpoint: Endpoint,
}

/// What is seen of a desktop: by this broker where its host is linked to it, and as it is on record otherwise.
async fn sight(app: &App, placed: &PlacedDesktop) -> Result<Sight, store::Error> {
    match app.control.fleet.sight(placed.host, placed.desktop, placed.generation) {
        Some(sight) => Ok(sight),
        None => Ok(app.store.desktop(&placed.desktop.to_string()).await?.sight(&app.control.fleet)),
    }
}

/// Where the display of a desktop that was placed is now, as its host last said; the error is for people.
///
/// # Errors
/// Its host is not connected, or says of no display.
pub async fn reach(app: &App, placed: PlacedDesktop) -> Result<At, String> {
    let seen = match sight(app, &placed).await {
        Ok(Sight::Seen(seen)) => seen,
        Ok(_) => return Err("the desktop's host is not connected".to_owned()),
        Err(e) => return Err(e.to_string()),
    };
    seen.endpoint
        .map(|endpoint| At { placed, endpoint })
        .ok_or_else(|| "the desktop has no picture".to_owned())
}

/// Why there is no desktop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Refused, or a fault of the database.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The host could not make it, or it died.
    #[error("the desktop {desktop} could not be started: {reason}. Connect again for a fresh one")]
    Failed {
        /// The desktop's name.
        desktop: String,
        /// What the host says.
        reason: String,
    },
    /// Its host is silent.
    #[error(
        "the desktop {desktop} is on the host {host}, which is not connected; it is there again when the host is"
    )]
    HostSilent {
        /// The desktop's name.
        desktop: String,
        /// The host's name.
        host: String,
    },
}

/// Gives a user their desktop of a pool and waits at most `wait` for its picture.
///
/// # Errors
/// [`Error`]: refusals leave nothing behind; a desktop that failed is being destroyed.
pub async fn connect(
    app: &Arc<App>,
    user: UserId,
    actor: &str,
    pool: &str,
    wait: Duration,
) -> Result<Outcome, Error> {
    let watch = Stopwatch::start();
    let (actor, pool) = (actor.to_owned(), pool.to_owned());
    let assigned =
        assign(app, ConnectRequest { user, actor, pool, session: true, clock: std::time::Instant::now })
            .await;
    let assigned = assigned.inspect_err(|_| app.metrics.connected("", "refused", watch.elapsed()))?;
    let (pool, fresh) = (assigned.desktop.pool.clone(), assigned.fresh);
    let (prepared, powered_on) = (assigned.prepared, assigned.powered_on);
    let claimed = watch.claimed(&assigned);
    let outcome = wait_for_picture(app, assigned, wait).await;
    let picture = matches!(outcome, Ok(Outcome::Ready { .. }));
    if let Some(claimed) = claimed {
        claimed.over(app, picture);
    }
    let how = match &outcome {
        Ok(Outcome::Ready { .. }) if fresh => "fresh",
        Ok(Outcome::Ready { .. }) if prepared => "prepared",
        Ok(Outcome::Ready { .. }) if powered_on => "powered_on",
        Ok(Outcome::Ready { .. }) => "existing",
        Ok(Outcome::Waiting { .. }) => "waiting",
        Err(_) => "failed",
    };
    app.metrics.connected(&pool, how, watch.elapsed());
    outcome
}

/// Claims the desktop and tells its host.
///
/// # Errors
/// The store's refusals and faults.
pub async fn assign(app: &App, request: ConnectRequest) -> Result<Assigned, store::Error> {
    let assigned = app.control.assign(request).await?;
    if let Some(session) = assigned.replaced.as_ref().and_then(|replaced| replaced.session) {
        app.viewers.end(session, &End::DesktopEnded);
    }
    Ok(assigned)
}

/// Waits until the desktop's picture is there, or something is in its way.
///
/// # Errors
/// [`Error::Failed`], [`Error::HostSilent`], [`store::Error::SessionEnded`] when it was logged off meanwhile.
pub async fn wait_for_picture(app: &App, assigned: Assigned, wait: Duration) -> Result<Outcome, Error> {
    let begin = Instant::now();
    let deadline = begin + wait;
    let Some(DesktopHost { id: host, name: host_name, .. }) = assigned.desktop.host.clone() else {
        return Err(gone(app, &assigned).await);
    };
    let placed =
        PlacedDesktop { desktop: assigned.desktop.id, host, generation: assigned.desktop.generation };
    let mut changes = app.control.fleet.watch();
    loop {
        changes.borrow_and_update();
        let (mut until, mut lost) = (deadline, false);
        let detail = match sight(app, &placed).await? {
            Sight::Seen(seen) => match (seen.phase, seen.endpoint) {
                (Phase::Starting | Phase::Ready, Some(endpoint)) => {
                    return Ok(Outcome::Ready { assigned, at: At { placed, endpoint } });
                }
                (Phase::Failed | Phase::Stopped, _) => {
                    return Err(gone(app, &assigned).await);
                }
                _ if seen.detail.is_empty() => "the desktop is being started".to_owned(),
                _ => seen.detail,
            },
            Sight::NotYet => "the host was told to start the desktop".to_owned(),
            Sight::Lost => {
                (until, lost) = (until.min(begin + HOST_PATIENCE), true);
                if Instant::now() >= until {
                    return Err(Error::HostSilent { desktop: assigned.desktop.name, host: host_name });
                }
                "its host is not connected".to_owned()
            }
        };
        if let Some(outcome) = template_in_the_way(app, host, &assigned).await? {
            let (detail, progress) = outcome;
            return Ok(Outcome::Waiting { assigned, detail, progress });
        }
        tokio::select! {
            // The sender lives in `app`, so this never fails.
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(until) => if !lost {
                return Ok(Outcome::Waiting { assigned, detail, progress: None });
            },
        }
    }
}

/// What to say while the desktop's template is being made; an error when it could not be made.
async fn template_in_the_way(
    app: &App,
    host: HostId,
    assigned: &Assigned,
) -> Result<Option<(String, Option<u8>)>, Error> {
    let template = match app.control.fleet.template(host, &assigned.template) {
        Some(template) => Some(template),
        // Linked to another broker.
        None if !app.control.fleet.is_linked(host) => app.store.template_on(host, &assigned.template).await?,
        None => None,
    };
    let Some(template) = template else { return Ok(None) };
    if fleet::is_building(&template) {
        let doing = if template.detail.is_empty() { "in work" } else { &template.detail };
        return Ok(Some((format!("the pool's template is being made: {doing}"), Some(template.progress))));
    }
    if template.state == TemplateState::Failed {
        let reason = format!("its template could not be made: {}", template.detail);
        let Some(ended) = app.store.fail(assigned.desktop.id, &reason).await? else { return Ok(None) };
        watch::tell(app, [&ended], &End::DesktopEnded);
        return Err(Error::Failed { desktop: assigned.desktop.name.clone(), reason });
    }
    Ok(None)
}

/// Says why a desktop is not there, once that is on record.
async fn gone(app: &App, assigned: &Assigned) -> Error {
    let deadline = Instant::now() + RECORD_PATIENCE;
    let mut changes = app.control.fleet.watch();
    loop {
        changes.borrow_and_update();
        let row = match app.store.desktop(&assigned.desktop.id.to_string()).await {
            Ok(row) => row,
            Err(e) => return e.into(),
        };
        if row.phase == Phase::Failed {
            return Error::Failed { desktop: row.name, reason: row.detail };
        }
        if row.desired == DesiredState::Absent || timeout_at(deadline, changes.changed()).await.is_err() {
            let session = assigned.session.as_ref().map_or(row.name, |s| s.session.id.to_string());
            return store::Error::SessionEnded(session).into();
        }
    }
}
