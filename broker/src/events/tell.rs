//! What has changed is read and put into the log, after those whom it concerns were looked at: whose sign-in has ended, or who may do
//! less than they could, hears no more.

use super::log::{Entry, Thing};
use super::read::{self, Tidings, Topics};
use super::{Told, Watcher, lock};
use crate::app::App;
use lucarne_control::PoolId;
use lucarne_control::events::{Event, EventKind};
use lucarne_core::Change;
use lucarne_core::store;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long changes are gathered. Longer: people see them later. Shorter: what changes several times in a moment is read and told
/// each time.
const GATHER: Duration = Duration::from_millis(100);

/// The pause after a fault of the database.
const PAUSE: Duration = Duration::from_secs(1);

/// Changes that are read at once, so that one reading is not long.
const AT_ONCE: usize = 256;

/// Sign-ins and users that are looked at in one reading.
const LOOKED_AT: usize = 256;

/// Runs until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    let mut faults = 0_u32;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = app.events.wake.notified() => {}
        }
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(if faults == 0 { GATHER } else { PAUSE }) => {}
            }
            let (changes, logins) = take(&app);
            if changes.is_empty() && !logins {
                break;
            }
            match tell(&app, &changes, logins).await {
                Ok(()) if faults == 0 => {}
                Ok(()) => {
                    // What was found out before a fault came in between was told to nobody.
                    app.events.missed();
                    faults = 0;
                }
                Err(e) => {
                    faults += 1;
                    if faults == 1 {
                        tracing::error!(error = %e, "those who watch cannot be told what has changed; it is tried again");
                    }
                    let mut inner = lock(&app.events.inner);
                    inner.waiting.extend(changes);
                    inner.logins |= logins;
                }
            }
        }
    }
}

/// Some of what waits.
fn take(app: &App) -> (BTreeSet<Change>, bool) {
    let mut inner = lock(&app.events.inner);
    let mut changes = std::mem::take(&mut inner.waiting);
    if let Some(rest) = changes.iter().nth(AT_ONCE).copied() {
        inner.waiting = changes.split_off(&rest);
    }
    (changes, std::mem::take(&mut inner.logins))
}

async fn tell(app: &App, changes: &BTreeSet<Change>, logins: bool) -> store::Result<()> {
    let (topics, unread) = {
        let inner = lock(&app.events.inner);
        let (wanted, grouped) = (inner.wanted(), inner.grouped());
        Topics::of(changes, |kind| wanted.contains(&kind), grouped)
    };
    if logins || topics.people {
        check(app, &app.events.watchers()).await?;
    }
    // What they could know of who came or went nobody reads for them one by one.
    for watcher in app.events.watchers().iter().filter(|watcher| watcher.rests_on(&topics.members)) {
        watcher.over.cancel();
    }
    let mut tidings = Tidings::new();
    if topics.entitlements || topics.people {
        tidings.extend(entitlements(app).await?);
    }
    match read::read(app, &topics).await? {
        Some(read) => tidings.extend(read),
        None => {
            app.events.missed();
            return Ok(());
        }
    }
    let gained = concerned(app, &tidings).await?;
    tidings.extend(cards(app, gained).await?);
    let mut inner = lock(&app.events.inner);
    for (thing, entry) in tidings.into_iter().chain(unread) {
        inner.log.put(thing, entry);
    }
    app.events.head.send_replace(inner.log.head());
    Ok(())
}

/// Looks at those whom this would be told: what they may know is settled at the time when it is told. Gives the pools that some of
/// them may use and could not before.
async fn concerned(app: &App, tidings: &Tidings) -> store::Result<BTreeSet<PoolId>> {
    let told = || {
        tidings.iter().filter_map(|(_, entry)| match entry {
            Entry::Told(told) => Some(told),
            Entry::Unread(_) => None,
        })
    };
    let mut watchers = app.events.watchers();
    watchers.retain(|watcher| told().any(|told| watcher.concerns(told)));
    check(app, &watchers).await?;
    watchers.retain(|watcher| told().any(|told| told.card.is_some() && watcher.concerns(told)));
    look_at_cards(app, &watchers).await
}

/// Ends the streams of those whose sign-in has ended, or who may do something else than when they came.
///
/// # Errors
/// A database fault.
pub async fn check(app: &App, watchers: &[Arc<Watcher>]) -> store::Result<()> {
    let logins: BTreeSet<_> = watchers.iter().filter_map(|watcher| watcher.caller.login.clone()).collect();
    let logins: Vec<_> = logins.into_iter().collect();
    for some in logins.chunks(LOOKED_AT) {
        let asked: BTreeSet<_> = some.iter().cloned().collect();
        let callers = app.store.callers(asked.clone()).await?;
        for watcher in watchers {
            if let Some(login) = watcher.caller.login.as_ref().filter(|login| asked.contains(*login))
                && callers.get(login) != Some(&watcher.caller)
            {
                watcher.over.cancel();
            }
        }
    }
    Ok(())
}

/// As the timer does: [`check`] of all.
pub async fn check_all(app: &App) {
    let watchers = app.events.watchers();
    if let Err(e) = check(app, &watchers).await {
        tracing::error!(error = %e, "cannot see whose event streams have to end; it is tried again");
    }
}

/// Finds out which pools these may use now. Whoever may not use one any more that they could is ended; gives what they may use and
/// could not.
///
/// # Errors
/// A database fault.
pub async fn look_at_cards(app: &App, watchers: &[Arc<Watcher>]) -> store::Result<BTreeSet<PoolId>> {
    let users: BTreeSet<_> = watchers.iter().filter_map(|watcher| watcher.caller.user).collect();
    let users: Vec<_> = users.into_iter().collect();
    let mut gained = BTreeSet::new();
    for some in users.chunks(LOOKED_AT) {
        let usable = app.store.usable(some.iter().copied().collect()).await?;
        for watcher in watchers {
            let Some(now) = watcher.caller.user.and_then(|user| usable.get(&user)) else { continue };
            let before = std::mem::replace(&mut *lock(&watcher.usable), now.clone());
            if !before.is_subset(now) {
                watcher.over.cancel();
            }
            gained.extend(now.difference(&before));
        }
    }
    Ok(gained)
}

/// Who may use which pool has changed: ends who lost one, and tells of the cards of those that are new to somebody.
async fn entitlements(app: &App) -> store::Result<Tidings> {
    let mut watchers = app.events.watchers();
    watchers.retain(|watcher| watcher.wants(EventKind::Card));
    cards(app, look_at_cards(app, &watchers).await?).await
}

/// Tells of the cards of pools.
async fn cards(app: &App, pools: BTreeSet<PoolId>) -> store::Result<Tidings> {
    if pools.is_empty() {
        return Ok(Tidings::new());
    }
    let asked = store::Asked { pools, ..Default::default() };
    let pools = app.store.news(asked).await?.pools;
    let card = |(id, name, _): (PoolId, String, _)| {
        let told = Told::new(EventKind::Card, &Event::Card { id, name: name.clone() });
        (Thing::Card(id), Entry::Told(Arc::new(Told { pool: Some(name), card: Some(id), ..told })))
    };
    Ok(pools.into_iter().map(card).collect())
}
