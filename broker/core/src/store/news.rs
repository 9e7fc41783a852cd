//! What those who watch are told: things that have changed as they are now, many at once.

use super::{
    DesktopRow, Error, PoolRow, Result, SessionRow, Store, all, desktops, hosts, pools, reach, sessions,
    users,
};
use lucarne_control::{DesktopId, GroupId, HostId, PoolId, SessionId, UserId, api};
use lucarne_db::tables::{Assignment, Desktop, Entitlement, Host, HostTemplate, Pool, Session, User};
use lucarne_db::{Fault, Tx};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// Desktops of hosts that came or went that are read at once. More: memory, and a database that is busy with them for longer.
/// Fewer: whoever watches is told to read their lists again where a few hosts go together.
pub const MOST_MOVED: usize = 2_000;

/// Things that have changed.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Desktops.
    pub desktops: BTreeSet<DesktopId>,
    /// Hosts whose desktops are to be read, all that live there.
    pub desktops_on: BTreeSet<HostId>,
    /// Desktops that count in their pools now and did not before, so that those are to be read.
    pub counted: BTreeSet<DesktopId>,
    /// The pools of desktops that are gone are to be read too.
    pub uncounted: bool,
    /// Sessions.
    pub sessions: BTreeSet<SessionId>,
    /// Pools.
    pub pools: BTreeSet<PoolId>,
    /// Hosts whose templates are further than they were: their pools are to be read.
    pub templates_on: BTreeSet<HostId>,
    /// Hosts.
    pub hosts: BTreeSet<HostId>,
    /// Users.
    pub users: BTreeSet<UserId>,
    /// The groups of those whom the others belong to are to be read too.
    pub grouped: bool,
}

/// The same as they are.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// Desktops.
    pub desktops: Vec<DesktopRow>,
    /// Sessions.
    pub sessions: Vec<SessionRow>,
    /// Pools with their names; nothing more of those that were deleted.
    pub pools: Vec<(PoolId, String, Option<PoolRow>)>,
    /// The pools whose templates are further than they were.
    pub prepared: BTreeSet<PoolId>,
    /// Hosts; nothing of those that were forgotten.
    pub hosts: Vec<(HostId, Option<api::Host>)>,
    /// Users; nothing of those that were deleted.
    pub users: Vec<(UserId, Option<api::User>)>,
    /// The groups of these users, and of those whose the desktops and sessions are, where that was asked for.
    pub groups: BTreeMap<UserId, BTreeSet<GroupId>>,
    /// There are more desktops on hosts that came or went than are read at once ([`MOST_MOVED`]), so these are not all.
    pub too_many: bool,
}

/// The pools whose templates are on a host.
fn pools_of_templates(tx: &mut Tx<'_>, host: HostId) -> Result<BTreeSet<PoolId>, Fault> {
    let templates: Vec<_> =
        tx.list(HostTemplate::on_host(&host))?.into_iter().map(|row| row.seen.0.spec).collect();
    let mut found = BTreeSet::new();
    for image in templates.iter().map(|spec| &spec.image).collect::<BTreeSet<_>>() {
        let of = tx.list(Pool::on_image(image))?;
        let there = |pool: &Pool| pool.deleted_at.is_none() && templates.contains(&pool.template());
        found.extend(of.into_iter().filter(there).map(|pool| pool.id));
    }
    Ok(found)
}

fn news(tx: &mut Tx<'_>, asked: &Asked) -> Result<News> {
    let mut news = News::default();
    let mut rows: BTreeMap<DesktopId, Desktop> = BTreeMap::new();
    let of_ids = tx.peek_all(asked.desktops.iter().chain(&asked.counted).map(Desktop::key))?;
    rows.extend(of_ids.into_iter().map(|desktop| (desktop.id, desktop)));
    let mut pools = asked.pools.clone();
    let counts = |d: &&Desktop| asked.counted.contains(&d.id) || asked.uncounted && d.ended_at.is_some();
    pools.extend(rows.values().filter(counts).map(|desktop| desktop.pool_id));
    rows.retain(|id, _| asked.desktops.contains(id));
    let mut moved = 0;
    for host in &asked.desktops_on {
        let there = all(tx, || Desktop::live_on(host), |desktop: &Desktop| desktop.id)?;
        moved += there.len();
        if moved > MOST_MOVED {
            news.too_many = true;
            break;
        }
        rows.extend(there.into_iter().map(|desktop| (desktop.id, desktop)));
    }
    for host in &asked.templates_on {
        news.prepared.extend(pools_of_templates(tx, *host)?);
    }
    pools.extend(&news.prepared);
    news.desktops = desktops::views(tx, rows.into_values().collect())?;
    let rows = tx.peek_all(asked.sessions.iter().map(Session::key))?;
    news.sessions = sessions::views(tx, rows)?;
    for pool in tx.peek_all(pools.iter().map(Pool::key))? {
        let (id, name) = (pool.id, pool.name.clone());
        let there = pool.deleted_at.is_none();
        news.pools.push((id, name, there.then(|| pools::view(tx, pool, true)).transpose()?));
    }
    let rows = tx.peek_all(asked.hosts.iter().map(Host::key))?;
    let mut found: BTreeMap<_, _> = hosts::views(tx, rows)?.into_iter().map(|host| (host.id, host)).collect();
    news.hosts = asked.hosts.iter().map(|id| (*id, found.remove(id))).collect();
    for user in tx.peek_all(asked.users.iter().map(User::key))? {
        let (id, there) = (user.id, user.deleted_at.is_none());
        news.users.push((id, there.then(|| users::view(tx, user)).transpose()?));
    }
    if asked.grouped {
        let owners = news.desktops.iter().filter_map(|row| row.object().owner());
        let users = owners.chain(news.sessions.iter().map(|row| row.user)).chain(asked.users.iter().copied());
        news.groups = reach::all_groups_of(tx, users.collect())?;
    }
    Ok(news)
}

impl Store {
    /// Things that have changed as they are now, read together.
    ///
    /// # Errors
    /// A database fault.
    pub async fn news(&self, asked: Asked) -> Result<News> {
        self.read(move |tx| news(tx, &asked)).await
    }

    /// The pools that each of these users may use, or has a desktop of: those of [`Store::pools_of`].
    ///
    /// # Errors
    /// A database fault.
    pub async fn usable(&self, users: BTreeSet<UserId>) -> Result<BTreeMap<UserId, BTreeSet<PoolId>>> {
        self.read(move |tx| {
            // What a group may use is found out once for all its members.
            let mut held = BTreeMap::new();
            let mut usable = BTreeMap::new();
            for user in &users {
                let assigned = tx.list(Assignment::live_of_user(user))?;
                let mut pools: BTreeSet<PoolId> = assigned.into_iter().map(|a| a.pool_id).collect();
                for (kind, holder) in pools::holders(tx, *user)? {
                    let held: &Vec<PoolId> = match held.entry(holder) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(unknown) => {
                            let found = tx.list(Entitlement::held_by(&kind, &holder))?;
                            unknown.insert(found.into_iter().map(|e| e.pool_id).collect())
                        }
                    };
                    pools.extend(held);
                }
                usable.insert(*user, pools);
            }
            Ok::<_, Error>(usable)
        })
        .await
    }
}
