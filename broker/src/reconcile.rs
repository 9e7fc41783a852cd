//! The loop that makes the database follow what hosts were seen to do: wakes on a signal and on a timer, reads a
//! snapshot, asks [`plan`](crate::plan), applies each action. No retries inside: the next round decides afresh.

use crate::app::App;
use crate::fleet::Sight;
use crate::plan::{self, Action, Snapshot};
use crate::store::{self, Ended};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The longest sleep. The signal does the work; this only bounds the harm of one that was missed.
const TICK: Duration = Duration::from_secs(5);

/// Runs until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    let mut seen = app.fleet.watch();
    loop {
        if let Err(e) = round(&app).await {
            tracing::error!(error = %e, "reconciling failed; it is tried again");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = app.reconcile.notified() => {}
            changed = seen.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// One round: read, plan, apply.
///
/// # Errors
/// A database fault.
pub async fn round(app: &App) -> Result<(), store::Error> {
    if let Some(name) = &app.default_pool
        && app.store.create_default_pool(name).await?
    {
        app.agents.push_all();
    }
    let mut hosts = HashMap::new();
    let mut snapshot = Snapshot::default();
    for (host, mut d) in app.store.live_desktops().await? {
        if let (Some(host), Some(generation)) = (host, d.placement) {
            hosts.insert(d.desktop, host);
            if let Sight::Seen(observed) = app.fleet.sight(host, d.desktop, generation) {
                d.observed = Some(observed);
            }
        }
        snapshot.desktops.push(d);
    }
    // Hosts repeat themselves; what is on record as gone needs no memory.
    for (host, desktop) in app.fleet.stopped_beside(&hosts) {
        if !app.store.is_live(desktop).await? {
            app.fleet.forget_desktop(host, desktop);
        }
    }
    for action in plan::plan(&snapshot) {
        match action {
            Action::RecordReady { desktop, desired_gen, timings } => {
                app.store.record_ready(desktop, desired_gen, &timings).await?;
            }
            Action::Fail { desktop, desired_gen, reason } => {
                let ended = app.store.fail(desktop, Some(desired_gen), &reason).await?;
                tell(app, ended, crate::viewers::End::DesktopEnded);
            }
            Action::Destroy { desktop, desired_gen } => {
                let ended = app.store.destroy(desktop, desired_gen).await?;
                tell(app, ended, crate::viewers::End::DesktopEnded);
            }
            Action::ConfirmStopped { desktop, desired_gen } => {
                if app.store.confirm_stopped(desktop, desired_gen).await? {
                    app.settled.send_modify(|v| *v = v.wrapping_add(1));
                    if let Some(host) = hosts.get(&desktop) {
                        app.fleet.forget_desktop(*host, desktop);
                        app.agents.push(*host);
                    }
                }
            }
        }
    }
    Ok(())
}

/// Tells everyone concerned that desktops ended: viewers first, then the hosts that destroy them.
pub fn tell(app: &App, ended: impl IntoIterator<Item = Ended>, why: crate::viewers::End) {
    for e in ended {
        if let Some(session) = e.session {
            app.viewers.end(session, &why);
        }
        match e.host {
            Some(host) => app.agents.push(host),
            None => app.reconcile.notify_one(),
        }
    }
}
