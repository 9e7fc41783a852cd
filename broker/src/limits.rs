//! The limits of the sessions that somebody views through this gateway: who types nothing is disconnected, and whose session is
//! about to be over is told so before.
//!
//! The desktop process knows when something was typed last. It is asked when the limit could be reached at the earliest, so an idle
//! session costs a question now and then, and a busy one no more.

use crate::app::App;
use crate::connect;
use crate::gateway::link;
use crate::viewers::{End, NearEnd};
use lucarne_control::SessionId;
use lucarne_control::link::{Idle, Purpose};
use lucarne_control::viewer::EndingReason;
use lucarne_core::store::Limited;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// How often sessions are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often their limits are read.
const READ: Duration = Duration::from_secs(3);

/// How long before its end a session's viewers are told, at most; never before a third of the limit is left.
const SESSION_WARNING: Duration = Duration::from_secs(300);
const MAINTENANCE_WARNING: Duration = Duration::from_secs(900);
const IDLE_WARNING: Duration = Duration::from_secs(60);

/// The longest wait for a desktop process to say how long nothing was typed.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of a session that has limits.
#[derive(Debug)]
struct Watched {
    limits: Limited,
    /// Its end by the longest time that it may last.
    over: Option<Instant>,
    /// Its host is to be empty then.
    empty: Option<Instant>,
    /// Its desktop process is asked then.
    ask: Instant,
    /// When its viewers are disconnected unless something is typed; known shortly before.
    idle_end: Option<Instant>,
}

fn seconds(s: u32) -> Duration {
    Duration::from_secs(s.into())
}

fn warning(limit: Duration, most: Duration) -> Duration {
    most.min(limit / 3)
}

/// Runs until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut watched, mut read) = (HashMap::new(), Instant::now());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = look.tick() => {}
        }
        if Instant::now() >= read {
            read = Instant::now() + READ;
            if let Err(e) = refresh(&app, &mut watched).await {
                tracing::error!(error = %e, "the limits of sessions cannot be read; it is tried again");
            }
        }
        for (session, watched) in &mut watched {
            step(&app, *session, watched).await;
        }
    }
}

/// Reads which of the sessions that are viewed here have limits.
async fn refresh(
    app: &App,
    watched: &mut HashMap<SessionId, Watched>,
) -> Result<(), lucarne_core::store::Error> {
    let here: Vec<_> = app.viewers.sessions().into_iter().filter(|s| app.viewers.in_use(*s)).collect();
    if here.is_empty() {
        watched.drain().for_each(|(session, _)| app.viewers.warn(session, None));
        return Ok(());
    }
    let (now, limited) = (Instant::now(), app.store.limits(here).await?);
    let mut before = std::mem::take(watched);
    for (session, limits) in limited {
        let after = |ms: i64| now + Duration::from_millis(ms.try_into().unwrap_or(0));
        let (over, empty) = (limits.left_ms.map(after), limits.maintenance_ms.map(after));
        let known = before.remove(&session).filter(|known| known.limits.idle_s == limits.idle_s);
        let (ask, idle_end) = match known {
            Some(known) => (known.ask, known.idle_end),
            // Who comes has just done something.
            None => {
                let idle = seconds(limits.idle_s.unwrap_or_default());
                (now + (idle - warning(idle, IDLE_WARNING)), None)
            }
        };
        watched.insert(session, Watched { limits, over, empty, ask, idle_end });
    }
    // Those that are left have no limits any more.
    for session in before.into_keys() {
        app.viewers.warn(session, None);
    }
    Ok(())
}

async fn step(app: &App, session: SessionId, watched: &mut Watched) {
    if let Some(limit) = watched.limits.idle_s.map(seconds)
        && Instant::now() >= watched.ask
    {
        let warning = warning(limit, IDLE_WARNING);
        match idle(app, session).await {
            Ok(idle) if idle >= limit => {
                tracing::info!(%session, ?idle, "nothing is typed: the viewers are disconnected");
                app.viewers.end(session, &End::Idle);
                return;
            }
            Ok(idle) => {
                let end = Instant::now() + (limit - idle);
                watched.idle_end = (idle >= limit - warning).then_some(end);
                // Somebody who is warned does something, and the warning goes soon.
                watched.ask = match watched.idle_end {
                    Some(_) => end.min(Instant::now() + LOOK),
                    None => end - warning,
                };
            }
            // It may be of an earlier version, or be just ending.
            Err(error) => {
                tracing::debug!(%error, %session, "a desktop does not tell for how long nothing was typed");
                watched.idle_end = None;
                watched.ask = Instant::now() + warning;
            }
        }
    }
    let session_s = seconds(watched.limits.session_s.unwrap_or_default());
    let soon = |at: &Instant, warning| *at <= Instant::now() + warning;
    let over = watched.over.filter(|at| soon(at, warning(session_s, SESSION_WARNING)));
    let over = over.map(|at| (at, EndingReason::SessionLimit));
    let empty = watched.empty.filter(|at| soon(at, MAINTENANCE_WARNING));
    let empty = empty.map(|at| (at, EndingReason::Maintenance));
    let idle = watched.idle_end.map(|at| (at, EndingReason::Idle));
    let first = over.into_iter().chain(empty).chain(idle).min_by_key(|(at, _)| *at);
    app.viewers.warn(session, first.map(|(at, why)| NearEnd { at, why }));
}

/// For how long nothing was typed, clicked or pasted at a session's desktop.
async fn idle(app: &App, session: SessionId) -> Result<Duration, String> {
    let placed = app.store.session_desktop(session).await.map_err(|e| e.to_string())?;
    let at = connect::reach(app, placed).await?;
    let ask = async {
        let stream = link::open(app, &at.endpoint, &at.placed, Some(session), Purpose::Idle).await;
        let mut json = Vec::new();
        let stream = stream.map_err(|e| e.to_string())?;
        stream.take(4096).read_to_end(&mut json).await.map_err(|e| e.to_string())?;
        serde_json::from_slice::<Idle>(&json).map_err(|e| e.to_string())
    };
    let Idle { idle_ms } = timeout(PATIENCE, ask).await.map_err(|_| "it does not answer".to_owned())??;
    Ok(Duration::from_millis(idle_ms))
}
