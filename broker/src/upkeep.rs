//! What a broker does again and again for pools: has desktops wait for users, ends what is due, powers off what nobody uses.

use crate::app::App;
use crate::viewers::End;
use lucarne_core::store::{Ended, LASTED, LEFT, MAINTENANCE, SUSPENDED, UNUSED_SUSPENDED};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often. Shorter: more reads of the database. Longer: sessions end later than they should.
const EVERY: Duration = Duration::from_secs(2);

/// How often it is looked whether what is remembered of the hosts has become old. Longer: whoever wants a desktop waits for that.
const REMEMBER: Duration = Duration::from_millis(500);

/// Runs until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
            // A desktop that waited was given away, or a pool has changed.
            () = app.control.upkeep.notified() => {}
        }
        match app.control.keep_up().await {
            Ok(ended) => ended.iter().for_each(|ended| tell(&app, ended)),
            Err(e) => tracing::error!(error = %e, "pools cannot be looked after; it is tried again"),
        }
    }
}

/// Keeps what is remembered of the hosts fresh, until `shutdown`.
pub async fn remember_hosts(app: Arc<App>, shutdown: CancellationToken) {
    let mut tick = interval(REMEMBER);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(e) = app.store.remember_hosts().await {
            tracing::error!(error = %e, "the hosts cannot be read; it is tried again");
        }
    }
}

/// Tells the viewers here why their stream ends.
fn tell(app: &App, ended: &Ended) {
    let Some(session) = ended.session else { return };
    let why = match ended.why {
        LASTED => End::Lasted,
        LEFT => End::LoggedOff,
        MAINTENANCE => End::Maintenance,
        SUSPENDED | UNUSED_SUSPENDED => End::Suspended,
        _ if ended.host.is_some() => End::PoweredOff,
        _ => End::DesktopEnded,
    };
    app.viewers.end(session, &why);
}
