//! What a broker does by itself: follows what others change and tells them what it changes, ends viewers whose session is
//! over, and looks again on a timer at all that it may have missed.

use crate::app::App;
use crate::auth::names::check_name;
use crate::events;
use crate::viewers::End;
use lucarne_control::SessionId;
use lucarne_control::viewer::ViewerRole;
use lucarne_core::store::{
    self, BEAT, Ended, LASTED, LEFT, LOGGED_OFF, MAINTENANCE, Over, POWERED_OFF, PUT_BACK, SUSPENDED, UNUSED,
    UNUSED_SUSPENDED,
};
use lucarne_core::{Change, Looked};
use lucarne_db::wakes::{Wake, Wakes};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// The way to the other brokers, where there can be any.
pub type Others = Option<(Wakes, UnboundedReceiver<Wake>)>;

/// Tells everyone concerned that desktops ended: viewers here first, then the hosts that destroy them, and other brokers.
pub fn tell<'a>(app: &App, ended: impl IntoIterator<Item = &'a Ended>, why: &End) {
    for e in ended {
        if let Some(session) = e.session {
            app.viewers.end(session, why);
        }
        app.control.ended([e]);
    }
}

/// Runs until `shutdown`. `changes` are those that this broker makes.
pub async fn run(
    app: Arc<App>,
    mut changes: UnboundedReceiver<Change>,
    mut others: Others,
    shutdown: CancellationToken,
) {
    make_default_pool(&app).await;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(change) = changes.recv() => {
                app.events.changed(change);
                look_at_shadows(&app, change);
                if let Some((wakes, _)) = &others
                    && let Ok(line) = serde_json::to_string(&(app.control.broker(), change))
                {
                    wakes.say(line);
                }
                if change == Change::Images {
                    make_default_pool(&app).await;
                }
            }
            wake = heard(&mut others) => match wake {
                Wake::Said(lines) => lines.lines().for_each(|line| follow(&app, line)),
                // What was said before, nobody here has heard.
                Wake::Listening => app.events.missed(),
                Wake::Missed => {
                    app.events.missed();
                    app.control.changed([Change::Hosts]);
                    check_sessions(&app, app.viewers.sessions()).await;
                }
            },
        }
    }
}

/// Looks again and again at what may have been missed, until `shutdown`. Apart from [`run`], so that neither waits for what the
/// other does with the database.
pub async fn keep_looking(app: Arc<App>, shutdown: CancellationToken) {
    let mut beat = interval(Duration::from_millis(BEAT.unsigned_abs()));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = beat.tick() => look(&app).await,
        }
    }
}

async fn heard(others: &mut Others) -> Wake {
    match others {
        Some((_, heard)) => match heard.recv().await {
            Some(wake) => wake,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Follows what another broker says that it changed. What this version cannot read is of a newer one, and looked at on
/// the timer.
fn follow(app: &Arc<App>, line: &str) {
    let Ok((from, change)) = serde_json::from_str::<(lucarne_control::BrokerId, Change)>(line) else {
        return;
    };
    if from == app.control.broker() {
        return;
    }
    app.control.follow(change);
    app.events.changed(change);
    look_at_shadows(app, change);
    let concerned = match change {
        Change::Session(session) if !app.viewers.of(session).is_empty() => vec![session],
        Change::Denied(_) | Change::Entitlements => app.viewers.sessions(),
        _ => return,
    };
    let app = Arc::clone(app);
    tokio::spawn(async move { check_sessions(&app, concerned).await });
}

/// The timer's work.
async fn look(app: &Arc<App>) {
    let began = Instant::now();
    match app.control.look_after().await {
        Ok(Looked::Well) => {}
        Ok(Looked::StartedOver) => start_over(app).await,
        Err(e) => tracing::error!(error = %e, "the broker cannot look after its hosts; it is tried again"),
    }
    let here = app.viewers.sessions();
    if !here.is_empty() {
        check_sessions(app, here).await;
    }
    check_shadows(app).await;
    events::tell::check_all(app).await;
    if let Err(e) = app.store.forget_keys().await {
        tracing::error!(error = %e, "idempotency keys whose time is over are not forgotten; it is tried again");
    }
    if began.elapsed() > Duration::from_secs(5) {
        tracing::warn!(took = ?began.elapsed(), "the database is slow");
    }
}

/// Another broker has put on record that nobody looks through this one: who watches is ended, and who uses their session is put
/// on record again.
async fn start_over(app: &App) {
    for session in app.viewers.sessions() {
        for viewer in app.viewers.of(session).into_iter().filter(|viewer| viewer.role == ViewerRole::Shadow) {
            app.viewers.stop(session, viewer.id, "the server");
        }
        if app.viewers.in_use(session)
            && let Err(e) = app.store.session_connected(session, app.control.broker()).await
        {
            tracing::error!(error = %e, %session, "cannot put a session's use on record");
        }
    }
}

/// As the timer does, at once.
pub async fn check_all_sessions(app: &App) {
    check_sessions(app, app.viewers.sessions()).await;
}

/// Ends the viewers of sessions that ended, or that are used through another broker.
async fn check_sessions(app: &App, sessions: Vec<SessionId>) {
    match app.store.not_here(sessions, app.control.broker()).await {
        Ok(over) => {
            for (session, why) in over {
                let end = match why {
                    Over::Ended(why) if why == LOGGED_OFF || why == LEFT => End::LoggedOff,
                    Over::Ended(why) if why == LASTED => End::Lasted,
                    Over::Ended(why) if why == UNUSED || why == POWERED_OFF => End::PoweredOff,
                    Over::Ended(why) if why == UNUSED_SUSPENDED || why == SUSPENDED => End::Suspended,
                    Over::Ended(why) if why == PUT_BACK => End::PutBack,
                    Over::Ended(why) if why == MAINTENANCE => End::Maintenance,
                    Over::Ended(_) => End::DesktopEnded,
                    Over::Elsewhere => End::Elsewhere,
                    Over::HostDenied | Over::NotEntitled => End::Withdrawn,
                };
                app.viewers.end(session, &end);
            }
        }
        Err(e) => tracing::error!(error = %e, "cannot see which sessions ended; it is tried again"),
    }
}

/// Looks whether those who watch still may, where roles or what is in their scopes have changed.
fn look_at_shadows(app: &Arc<App>, change: Change) {
    if matches!(change, Change::User(_) | Change::Members(_)) && !shadows(app).is_empty() {
        let app = Arc::clone(app);
        tokio::spawn(async move { check_shadows(&app).await });
    }
}

/// The shadows of users: the session, the viewer, and the user's name. Whoever is root here is no user, and may go on.
fn shadows(app: &App) -> Vec<(SessionId, u64, String)> {
    let of = |session| app.viewers.of(session).into_iter().map(move |viewer| (session, viewer));
    let all = app.viewers.sessions().into_iter().flat_map(of);
    let users = all.filter(|(_, v)| v.role == ViewerRole::Shadow && check_name("user", &v.user).is_ok());
    users.map(|(session, viewer)| (session, viewer.id, viewer.user)).collect()
}

/// Ends the shadows of those who may not watch any more.
async fn check_shadows(app: &App) {
    let shadows = shadows(app);
    if shadows.is_empty() {
        return;
    }
    let asked = shadows.iter().map(|(session, _, user)| (*session, user.clone())).collect();
    match app.store.may_not_watch(asked).await {
        Ok(over) => {
            let over =
                |(session, _, user): &&(SessionId, u64, String)| over.contains(&(*session, user.clone()));
            for (session, viewer, _) in shadows.iter().filter(over) {
                app.viewers.stop(*session, *viewer, "the server");
            }
        }
        Err(e) => tracing::error!(error = %e, "cannot see who may still watch; it is tried again"),
    }
}

async fn make_default_pool(app: &App) {
    let Some(name) = &app.default_pool else { return };
    let made: store::Result<bool> = app.store.create_default_pool(name).await;
    match made {
        Ok(true) => {
            app.control.changed([Change::Hosts]);
            let made = app.store.pool(name).await;
            app.control.changed(made.iter().map(|pool| Change::Pool(pool.id)));
        }
        Ok(false) => {}
        Err(e) => tracing::error!(error = %e, "cannot make the first pool; it is tried again"),
    }
}
