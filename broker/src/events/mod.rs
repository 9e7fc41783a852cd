//! Those who watch what changes: what of it each may know, what they were told, and who has to go.
//!
//! ```text
//! changes made here ────────┐
//!                           ├─► changed ─► tell: read once, for all ─► log ─► stream: each at its own pace
//! changes of other brokers ─┘                     │
//!                                                 └─ who may not know any more what they could: the stream ends
//! ```
//!
//! Nothing is read while nobody watches. A stream holds one event: who is slow reads on in the log from where they were, and is
//! told to read their lists again where that is gone. What another broker changed comes by a way that may lose it; where it may
//! have, everybody is told so. Knows nothing of what carries a stream.

mod log;
mod read;
pub mod stream;
pub mod tell;
#[cfg(test)]
mod tests;

use log::{Entry, Log, Thing};
use lucarne_control::api::Image;
use lucarne_control::events::{Event, EventKind};
use lucarne_control::spec::ImageDigest;
use lucarne_control::{GroupId, PoolId};
use lucarne_core::Change;
use lucarne_core::store::{Caller, Object, Reach};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Streams that one user may have through one broker. More: a script that opens them in a loop holds connections that others need.
/// Fewer: people with many windows are refused.
pub const MOST_STREAMS: usize = 16;

/// Changes that wait to be read. Beyond it too much has changed for anybody to be told of each.
const MOST_WAITING: usize = 4_096;

/// What is told of one thing.
#[derive(Debug)]
pub struct Told {
    /// The kind, which is the event's name.
    kind: EventKind,
    /// The event as JSON.
    data: String,
    /// What it is to who may know of some only; nothing of what nobody may know a part of.
    object: Option<Object>,
    /// The groups that its owner was in when it was read, while somebody watches who has to be in one.
    groups: BTreeSet<GroupId>,
    /// The pool's name, of desktops, sessions, pools and cards.
    pool: Option<String>,
    /// The pool, of cards.
    card: Option<PoolId>,
}

/// What somebody wants to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of these kinds, all of which they may be told of.
    pub kinds: BTreeSet<EventKind>,
    /// Only of the pool of this name.
    pub pool: Option<String>,
}

/// Somebody who watches.
#[derive(Debug)]
pub struct Watcher {
    number: u64,
    caller: Caller,
    filter: Filter,
    /// What of each kind they may know.
    reaches: BTreeMap<EventKind, Reach>,
    /// The pools that they may use; for those who are told of cards.
    usable: Mutex<BTreeSet<PoolId>>,
    /// They may not know any more what they could.
    over: CancellationToken,
}

impl Watcher {
    /// Whether they may know of this, and want to.
    fn concerns(&self, told: &Told) -> bool {
        if !self.filter.kinds.contains(&told.kind)
            || self.filter.pool.as_ref().is_some_and(|pool| told.pool.as_ref() != Some(pool))
        {
            return false;
        }
        if told.kind == EventKind::Card {
            return told.card.is_some_and(|pool| lock(&self.usable).contains(&pool));
        }
        let Some(reach) = self.reaches.get(&told.kind) else { return false };
        told.object.map_or(reach.is_everywhere(), |object| reach.holds(object, &told.groups))
    }

    /// Whether what they may know depends on who is in one of these groups.
    fn rests_on(&self, groups: &BTreeSet<GroupId>) -> bool {
        self.reaches.values().any(|reach| !reach.groups().is_disjoint(groups))
    }

    /// Whether what they may know depends on who is in which group.
    fn is_grouped(&self) -> bool {
        self.reaches.values().any(|reach| !reach.groups().is_empty())
    }

    fn wants(&self, kind: EventKind) -> bool {
        self.filter.kinds.contains(&kind)
    }
}

/// Why somebody cannot watch.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} has {MOST_STREAMS} event streams through this broker, which is as many as one user may have; end one of them"
)]
pub struct TooMany(String);

#[derive(Debug, Default)]
struct Inner {
    log: Log,
    waiting: BTreeSet<Change>,
    /// Sign-ins have ended: all watchers are looked at.
    logins: bool,
    watchers: HashMap<u64, Arc<Watcher>>,
    last: u64,
    /// The images that those who watch images know of; none where nobody does.
    images: Option<HashMap<ImageDigest, Image>>,
}

impl Inner {
    /// What somebody wants to be told.
    fn wanted(&self) -> BTreeSet<EventKind> {
        self.watchers.values().flat_map(|watcher| &watcher.filter.kinds).copied().collect()
    }

    /// Somebody has to be told the groups of those to whom things belong.
    fn grouped(&self) -> bool {
        self.watchers.values().any(|watcher| watcher.is_grouped())
    }

    /// Whether what somebody may see has changed since an entry: what they saw then is no beginning for what comes.
    fn may_see_else(&self, caller: &Caller, filter: &Filter, number: u64) -> bool {
        let since =
            |change| self.waiting.contains(&change) || self.log.has_since(&Thing::Unread(change), number);
        let told = |user| self.log.has_since(&Thing::User(user), number);
        caller.user.is_some_and(|user| told(user) || since(Change::User(user)))
            || filter.kinds.contains(&EventKind::Card) && since(Change::Entitlements)
    }

    /// Everybody reads their lists again.
    fn forget(&mut self) {
        self.waiting.clear();
        self.log.forget();
    }
}

/// All who watch through this broker.
#[derive(Debug)]
pub struct Events {
    inner: Mutex<Inner>,
    /// Rises with the log.
    head: watch::Sender<u64>,
    wake: Notify,
    /// Tells the ids of this run of this broker from those of others.
    run: String,
}

impl Default for Events {
    fn default() -> Self {
        let run = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        Self { inner: Mutex::default(), head: watch::channel(0).0, wake: Notify::new(), run }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of them in a way that leaves it half changed.
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where somebody begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what comes.
    Fresh,
    /// Where they were.
    Resumed,
    /// With what comes, and some of what was before is lost to them.
    Lost,
}

/// What somebody who has all up to an entry is told next.
#[derive(Debug)]
enum Next {
    /// This, and then they have all up to there.
    Told(u64, Arc<Told>),
    /// Nothing: what came up to there is not for them.
    Nothing(u64),
    /// That some is lost to them; what comes after this entry is not.
    Lost(u64),
}

/// A watcher's place; given up when dropped.
#[derive(Debug)]
pub struct Place {
    events: Arc<Events>,
    watcher: Arc<Watcher>,
    /// They have all up to this entry.
    cursor: u64,
    /// How they began.
    start: Start,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = lock(&self.events.inner);
        inner.watchers.remove(&self.watcher.number);
        if !inner.wanted().contains(&EventKind::Image) {
            inner.images = None;
        }
        if inner.watchers.is_empty() {
            for change in std::mem::take(&mut inner.waiting) {
                inner.log.put(Thing::Unread(change), Entry::Unread(change));
            }
        }
    }
}

impl Events {
    /// Something has changed, here or elsewhere.
    pub fn changed(&self, change: Change) {
        // What should be on all hosts is nobody's to see.
        if change == Change::Hosts {
            return;
        }
        let mut inner = lock(&self.inner);
        if inner.watchers.is_empty() {
            // Whom this concerns is told so when they come back, whatever changed.
            if matches!(change, Change::Members(_)) {
                return;
            }
            inner.log.put(Thing::Unread(change), Entry::Unread(change));
            return;
        }
        inner.waiting.insert(change);
        if inner.waiting.len() > MOST_WAITING {
            inner.forget();
            self.head.send_replace(inner.log.head());
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Changes may have been missed.
    pub fn missed(&self) {
        let mut inner = lock(&self.inner);
        inner.forget();
        self.head.send_replace(inner.log.head());
    }

    /// Sign-ins have ended: whose streams rest on one of them is found out at once, and not when the timer is due.
    pub fn logins_ended(&self) {
        let mut inner = lock(&self.inner);
        inner.logins |= !inner.watchers.is_empty();
        drop(inner);
        self.wake.notify_one();
    }

    /// How many watch.
    pub fn count(&self) -> usize {
        lock(&self.inner).watchers.len()
    }

    /// Takes a place; with the id of the last event that they have, where they were. What changes from here on is told.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn enter(
        self: &Arc<Self>,
        caller: Caller,
        filter: Filter,
        last_id: Option<&str>,
    ) -> Result<Place, TooMany> {
        let mut inner = lock(&self.inner);
        let same = |watcher: &&Arc<Watcher>| match caller.user {
            Some(user) => watcher.caller.user == Some(user),
            None => watcher.caller.name == caller.name,
        };
        if inner.watchers.values().filter(same).count() >= MOST_STREAMS {
            return Err(TooMany(caller.name));
        }
        let reaches = filter.kinds.iter().map(|kind| (*kind, caller.reach(kind.takes()))).collect();
        inner.last += 1;
        let number = inner.last;
        let (usable, over) = (Mutex::default(), CancellationToken::new());
        let watcher = Watcher { number, caller, filter, reaches, usable, over };
        let (caller, filter) = (&watcher.caller, &watcher.filter);
        let (mut cursor, mut start) = (inner.log.head(), Start::Fresh);
        if let Some(last) = last_id {
            start = Start::Lost;
            // In which groups owners were meanwhile is not in the log.
            let known = self.number(last).filter(|number| inner.log.knows(*number) && !watcher.is_grouped());
            if let Some(known) = known.filter(|number| !inner.may_see_else(caller, filter, *number)) {
                let unread = inner.log.take_unread(known);
                // Which images there were is not known any more, so nobody could be told that one is gone.
                if !(unread.contains(&Change::Images) && filter.kinds.contains(&EventKind::Image)) {
                    (cursor, start) = (known, Start::Resumed);
                }
                inner.waiting.extend(unread);
            }
        }
        let watcher = Arc::new(watcher);
        inner.watchers.insert(number, Arc::clone(&watcher));
        drop(inner);
        self.wake.notify_one();
        Ok(Place { events: Arc::clone(self), watcher, cursor, start })
    }

    /// The id of the event after which somebody has all up to this entry.
    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.run)
    }

    /// The entry that an id stands for, if it is of this run.
    fn number(&self, id: &str) -> Option<u64> {
        id.trim().strip_prefix(&self.run)?.strip_prefix('-')?.parse().ok()
    }

    /// What a watcher who has all up to `cursor` is told next.
    fn next(&self, cursor: u64, watcher: &Watcher) -> Next {
        let inner = lock(&self.inner);
        let head = inner.log.head();
        if !inner.log.knows(cursor) {
            return Next::Lost(head);
        }
        let fits = |(number, entry): (u64, &Entry)| match entry {
            Entry::Told(told) if watcher.concerns(told) => Some(Next::Told(number, Arc::clone(told))),
            _ => None,
        };
        inner.log.after(cursor).find_map(fits).unwrap_or(Next::Nothing(head))
    }

    /// All who watch.
    fn watchers(&self) -> Vec<Arc<Watcher>> {
        lock(&self.inner).watchers.values().cloned().collect()
    }
}

impl Told {
    /// An event of what nobody may know a part of, and that is about no pool.
    fn new(kind: EventKind, event: &Event) -> Self {
        // Every one of our types has a form in JSON.
        let data = serde_json::to_string(event).unwrap_or_default();
        Self { kind, data, object: None, groups: BTreeSet::new(), pool: None, card: None }
    }
}
