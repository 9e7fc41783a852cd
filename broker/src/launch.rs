//! How long each step of a connect took that made a desktop: measured here as far as the broker goes, and put together with
//! what the desktop's host tells.
//!
//! The host's clock is another one, so its steps are laid where they end as the broker saw it: what the picture took here and
//! not there is the order's way to the host and the answer's way back, shown before them.

use crate::app::App;
use lucarne_control::DesktopId;
use lucarne_control::api::{LaunchSpan, LaunchTimes};
use lucarne_control::desktop::{ForkTimings, Launch, LaunchStep};
use lucarne_core::store::{Assigned, DesktopRow};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A connect that is being served.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    at: SystemTime,
    began: Instant,
}

fn ms(time: Duration) -> f64 {
    // Microseconds are as fine as these clocks are looked at.
    (time.as_secs_f64() * 1e6).round() / 1000.0
}

impl Stopwatch {
    /// Starts.
    pub fn start() -> Self {
        Self { at: SystemTime::now(), began: Instant::now() }
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The claim is on record now; what it took, if it made a desktop.
    pub fn claimed(&self, assigned: &Assigned) -> Option<Claimed> {
        let held_at = assigned.held_at.filter(|_| assigned.fresh)?;
        let queue = held_at.saturating_duration_since(self.began);
        let requested_at = self.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let launch = Launch {
            requested_at: i64::try_from(requested_at).unwrap_or(i64::MAX),
            queue_ms: ms(queue),
            placement_ms: ms(held_at.elapsed()),
            picture_ms: None,
        };
        let (desktop, pool) = (assigned.desktop.id, assigned.desktop.pool.clone());
        Some(Claimed { desktop, pool, launch, claimed: Instant::now() })
    }
}

/// A desktop that was promised to somebody who waits for it.
#[derive(Clone, Debug)]
pub struct Claimed {
    desktop: DesktopId,
    pool: String,
    launch: Launch,
    claimed: Instant,
}

impl Claimed {
    /// Nobody waits any more: with the picture, or without. What it took is put on record, for which nobody waits either.
    pub fn over(mut self, app: &Arc<App>, picture: bool) {
        self.launch.picture_ms = picture.then(|| ms(self.claimed.elapsed()));
        app.metrics.launched(&self.pool, &self.launch);
        let app = Arc::clone(app);
        tokio::spawn(async move {
            if let Err(e) = app.store.note_launch(self.desktop, self.launch).await {
                tracing::warn!(error = %e, desktop = %self.desktop, "the times of a launch are not on record");
            }
        });
    }
}

/// The steps of a desktop's launch, one below the other, from the request on.
pub fn times(row: &DesktopRow, seen: ForkTimings) -> LaunchTimes {
    let launch = row.launch.unwrap_or_default();
    let mut steps = Vec::new();
    let mut step = |step, start_ms: f64, end_ms: f64| {
        steps.push(LaunchSpan { step, start_ms, end_ms: end_ms.max(start_ms) });
        end_ms.max(start_ms)
    };
    let mut at = 0.0;
    if row.launch.is_some() {
        at = step(LaunchStep::Queue, at, at + launch.queue_ms);
        at = step(LaunchStep::Placement, at, at + launch.placement_ms);
    }
    if let (Some(here), Some(there)) = (launch.picture_ms, seen.picture_ms) {
        at = step(LaunchStep::Order, at, at + (here - there).max(0.0));
    }
    // From here on the host's, which count from its receipt of the order.
    let host = at;
    if let Some(running) = seen.running_ms {
        at = step(LaunchStep::Clone, host, host + running);
    }
    let running = at;
    if let Some(picture) = seen.picture_ms {
        at = step(LaunchStep::Picture, running, host + picture);
    }
    let picture = at;
    if let Some(identity) = seen.identity_ms {
        step(LaunchStep::Identity, running, host + identity);
    }
    if let Some(frame) = seen.frame_ms {
        step(LaunchStep::FirstFrame, picture, host + frame);
    }
    LaunchTimes {
        desktop: row.id,
        name: row.name.clone(),
        pool: row.pool.clone(),
        host: row.host.as_ref().map(|host| host.name.clone()),
        user: row.user.as_ref().map(|(_, name)| name.clone()),
        requested_at_ms: row.launch.map(|launch| launch.requested_at),
        total_ms: steps.iter().map(|s| s.end_ms).fold(0.0, f64::max),
        steps,
    }
}
