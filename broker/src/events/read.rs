//! From what has changed to what is told of it: each thing is read once, together with others, and only if somebody wants to know.

use super::log::{Entry, Thing};
use super::{Told, lock};
use crate::app::App;
use crate::view;
use lucarne_control::api::Image;
use lucarne_control::events::{Event, EventKind};
use lucarne_control::spec::ImageDigest;
use lucarne_control::{GroupId, UserId};
use lucarne_core::Change;
use lucarne_core::store::{self, Asked, News, Object};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Images that are read at once.
const PAGE: i64 = 500;

/// What is to be put into the log, in order.
pub type Tidings = Vec<(Thing, Entry)>;

/// What changes are about.
#[derive(Debug, Default)]
pub struct Topics {
    asked: Asked,
    pools: bool,
    images: bool,
    /// The cards of pools that may have changed in themselves, and not only in how many desktops they have.
    cards: BTreeSet<lucarne_control::PoolId>,
    /// Who may use which pool.
    pub entitlements: bool,
    /// Who may do what.
    pub people: bool,
    /// Who is in these groups.
    pub members: BTreeSet<GroupId>,
}

impl Topics {
    /// Of changes, as far as somebody wants to know: `wanted` tells of each kind whether, and `grouped` whether somebody has to be
    /// told the groups of owners. The others are left for who comes back.
    pub fn of(
        changes: &BTreeSet<Change>,
        wanted: impl Fn(EventKind) -> bool,
        grouped: bool,
    ) -> (Self, Tidings) {
        use EventKind as K;
        let (mut topics, mut unread) = (Self::default(), Vec::new());
        let (desktops, pools, hosts) = (wanted(K::Desktop), wanted(K::Pool), wanted(K::Host));
        let cards = wanted(K::Card);
        let asked = &mut topics.asked;
        (topics.pools, asked.uncounted, asked.grouped) = (pools, pools, grouped);
        for change in changes {
            // All that could be told of it is, and somebody may come back who wants what nobody wants now.
            let whole = match *change {
                Change::Hosts => true,
                Change::Host(host) | Change::Denied(host) | Change::HostRecord(host) => {
                    asked.hosts.extend(hosts.then_some(host));
                    hosts
                }
                Change::Link(host) => {
                    asked.hosts.extend(hosts.then_some(host));
                    asked.desktops_on.extend(desktops.then_some(host));
                    hosts && desktops
                }
                Change::Images => {
                    topics.images = wanted(K::Image);
                    topics.images
                }
                Change::Entitlements => {
                    topics.entitlements = true;
                    // Who comes back may have lost something meanwhile, which no card could tell them.
                    false
                }
                Change::Desktop(desktop) => {
                    asked.desktops.extend((desktops || pools).then_some(desktop));
                    desktops && pools
                }
                Change::Claimed(desktop) => {
                    asked.desktops.extend(desktops.then_some(desktop));
                    asked.counted.extend(pools.then_some(desktop));
                    desktops && pools
                }
                Change::Session(session) | Change::Viewers(session) => {
                    let sessions = wanted(K::Session);
                    asked.sessions.extend(sessions.then_some(session));
                    sessions
                }
                Change::Pool(pool) => {
                    asked.pools.extend((pools || cards).then_some(pool));
                    topics.cards.insert(pool);
                    topics.entitlements |= cards;
                    pools && cards
                }
                Change::Templates(host) => {
                    asked.templates_on.extend((pools || cards).then_some(host));
                    pools && cards
                }
                Change::User(user) => {
                    topics.people = true;
                    let users = wanted(K::User);
                    asked.users.extend(users.then_some(user));
                    users
                }
                // Whom it concerns goes, and is told so when they come back.
                Change::Members(group) => {
                    topics.members.insert(group);
                    true
                }
            };
            if !whole {
                unread.push((Thing::Unread(*change), Entry::Unread(*change)));
            }
        }
        (topics, unread)
    }
}

/// Reads what changes are about; nothing where too much has changed at once for anybody to be told of each.
///
/// # Errors
/// A database fault.
pub async fn read(app: &App, topics: &Topics) -> store::Result<Option<Tidings>> {
    let mut tidings = Tidings::new();
    let News { desktops, sessions, pools, prepared, hosts, users, groups, too_many } =
        app.store.news(topics.asked.clone()).await?;
    if too_many {
        return Ok(None);
    }
    let mut tell = |thing, told: Told| tidings.push((thing, Entry::Told(Arc::new(told))));
    let of = |object: Object| {
        let groups = object.owner().and_then(|owner: UserId| groups.get(&owner).cloned());
        (Some(object), groups.unwrap_or_default())
    };
    for row in desktops {
        let (id, pool, (object, groups)) = (row.id, Some(row.pool.clone()), of(row.object()));
        let state = Box::new(view::desktop(row, &app.control.fleet));
        let told = Told::new(EventKind::Desktop, &Event::Desktop { id, state });
        tell(Thing::Desktop(id), Told { object, groups, pool, ..told });
    }
    for row in sessions {
        let (id, pool) = (row.session.id, Some(row.session.pool.clone()));
        let (object, groups) = of(row.object());
        let state = Box::new(view::session(row.session, &app.viewers));
        let told = Told::new(EventKind::Session, &Event::Session { id, state });
        tell(Thing::Session(id), Told { object, groups, pool, ..told });
    }
    for (id, name, row) in pools {
        if topics.cards.contains(&id) || prepared.contains(&id) {
            let told = Told::new(EventKind::Card, &Event::Card { id, name: name.clone() });
            tell(Thing::Card(id), Told { pool: Some(name.clone()), card: Some(id), ..told });
        }
        if !topics.pools {
            continue;
        }
        let state = match row {
            Some(row) => Some(Box::new(view::pool(row, app).await?)),
            None => None,
        };
        let told = Told::new(EventKind::Pool, &Event::Pool { id, state });
        let (object, groups) = of(Object::Pool(id));
        tell(Thing::Pool(id), Told { object, groups, pool: Some(name), ..told });
    }
    for (id, state) in hosts {
        let event = Event::Host { id, state: state.map(Box::new) };
        tell(Thing::Host(id), Told::new(EventKind::Host, &event));
    }
    for (id, state) in users {
        let event = Event::User { id, state: state.map(Box::new) };
        let (object, groups) = of(Object::User(id));
        tell(Thing::User(id), Told { object, groups, ..Told::new(EventKind::User, &event) });
    }
    if topics.images {
        for (id, state) in images(app).await? {
            let event = Event::Image { id: id.clone(), state: state.map(Box::new) };
            tell(Thing::Image(id), Told::new(EventKind::Image, &event));
        }
    }
    Ok(Some(tidings))
}

/// The images that are not as those who watch know them; notes that they know them now.
async fn images(app: &App) -> store::Result<Vec<(ImageDigest, Option<Image>)>> {
    let now = all_images(app).await?;
    let mut inner = lock(&app.events.inner);
    let before = inner.images.replace(now.clone()).unwrap_or_else(|| now.clone());
    drop(inner);
    let gone = before.keys().filter(|digest| !now.contains_key(digest)).map(|digest| (digest.clone(), None));
    let gone: Vec<_> = gone.collect();
    let other = now.into_iter().filter(|(digest, image)| before.get(digest) != Some(image));
    Ok(other.map(|(digest, image)| (digest, Some(image))).chain(gone).collect())
}

/// Reads which images there are, where somebody who wants to hear of changes is the first.
///
/// # Errors
/// A database fault.
pub async fn know_images(app: &App) -> store::Result<()> {
    if lock(&app.events.inner).images.is_none() {
        let now = all_images(app).await?;
        lock(&app.events.inner).images.get_or_insert(now);
    }
    Ok(())
}

async fn all_images(app: &App) -> store::Result<HashMap<ImageDigest, Image>> {
    let (mut all, mut after) = (HashMap::new(), None);
    loop {
        let page = app.store.images(after, PAGE).await?;
        after = page.last().map(|image| image.digest.clone());
        let last = i64::try_from(page.len()).is_ok_and(|n| n < PAGE);
        all.extend(page.into_iter().map(|image| (image.digest.clone(), image)));
        if last {
            return Ok(all);
        }
    }
}
