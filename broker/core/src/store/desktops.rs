//! Desktops as recorded: what is wanted of each, where it is placed and whose it is.

use super::{Error, Object, Reach, Result, Store, rows, seconds};
use crate::fleet::{Fleet, Sight};
use lucarne_control::agent::DesktopObserved;
use lucarne_control::desktop::{DesiredState, Endpoint, ForkTimings, Launch, Phase};
use lucarne_control::{DesktopId, HostId, PoolId, UserId};
use lucarne_db::Tx;
use lucarne_db::tables::{Desktop, Host, Pool, User};
use std::collections::HashMap;

/// A desktop without what its host sees of it at the moment.
#[derive(Clone, Debug)]
pub struct DesktopRow {
    /// Id.
    pub id: DesktopId,
    /// The guest's host name.
    pub name: String,
    /// The pool's name.
    pub pool: String,
    /// The pool.
    pub pool_id: PoolId,
    /// The host of the live placement, or of the last one.
    pub host: Option<DesktopHost>,
    /// The generation of that placement.
    pub generation: u64,
    /// What is wanted.
    pub desired: DesiredState,
    /// What is on record.
    pub phase: Phase,
    /// Where its display is reached, as is on record.
    pub endpoint: Option<Endpoint>,
    /// Why, for people.
    pub detail: String,
    /// The user that it is, or was, assigned to.
    pub user: Option<(UserId, String)>,
    /// It stays when its user logs off.
    pub persistent: bool,
    /// The address of its network card.
    pub mac: String,
    /// How long its fork took, once recorded.
    pub timings: ForkTimings,
    /// How long the broker's part of the connect took that made it, once recorded.
    pub launch: Option<Launch>,
    /// Seconds since the epoch.
    pub created_at: i64,
    /// It is gone, confirmed.
    pub ended: bool,
}

/// The host of a desktop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesktopHost {
    /// Id.
    pub id: HostId,
    /// Name.
    pub name: String,
    /// Its agent is linked to a broker.
    pub online: bool,
}

impl From<Host> for DesktopHost {
    fn from(host: Host) -> Self {
        Self { id: host.id, online: host.is_online(), name: host.name }
    }
}

impl DesktopRow {
    /// What it is to who may do something with some desktops.
    #[must_use]
    pub fn object(&self) -> Object {
        Object::Desktop { pool: self.pool_id, owner: self.user.as_ref().map(|(id, _)| *id) }
    }

    /// What is seen of it: by this broker where its host is linked to it, and as it is on record otherwise.
    #[must_use]
    pub fn sight(&self, fleet: &Fleet) -> Sight {
        let Some(host) = &self.host else { return Sight::NotYet };
        if let Some(sight) = fleet.sight(host.id, self.id, self.generation) {
            return sight;
        }
        match self.phase {
            _ if !host.online => Sight::Lost,
            Phase::Unplaced | Phase::Placing => Sight::NotYet,
            phase => Sight::Seen(DesktopObserved {
                desktop: self.id,
                generation: self.generation,
                wish: 0,
                phase,
                detail: self.detail.clone(),
                endpoint: self.endpoint.clone(),
                timings: self.timings,
            }),
        }
    }
}

/// A desktop that is placed and wanted: what a connection to it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedDesktop {
    /// Which.
    pub desktop: DesktopId,
    /// Where.
    pub host: HostId,
    /// The placement's generation.
    pub generation: u64,
}

/// Desktops with the names that they are shown with.
pub(super) fn views(tx: &mut Tx<'_>, desktops: Vec<Desktop>) -> Result<Vec<DesktopRow>> {
    let pools = tx.peek_all(desktops.iter().map(|d| Pool::key(&d.pool_id)))?;
    let pools: HashMap<_, _> = pools.into_iter().map(|p| (p.id, p.name)).collect();
    let hosts = tx.peek_all(desktops.iter().filter_map(|d| d.host_id.as_ref()).map(Host::key))?;
    let hosts: HashMap<_, _> = hosts.into_iter().map(|h| (h.id, DesktopHost::from(h))).collect();
    let users = tx.peek_all(desktops.iter().filter_map(|d| d.user_id.as_ref()).map(User::key))?;
    let users: HashMap<_, _> = users.into_iter().map(|u| (u.id, u.name)).collect();
    let view = |d: Desktop| {
        let pool = pools.get(&d.pool_id).cloned().unwrap_or_default();
        let host = d.host_id.and_then(|id| hosts.get(&id).cloned());
        let user = d.user_id.and_then(|id| users.get(&id).cloned());
        row(d, pool, host, user)
    };
    Ok(desktops.into_iter().map(view).collect())
}

/// A desktop with the names of its pool, its host and its user.
pub(super) fn row(d: Desktop, pool: String, host: Option<DesktopHost>, user: Option<String>) -> DesktopRow {
    DesktopRow {
        id: d.id,
        name: d.name,
        pool,
        pool_id: d.pool_id,
        host,
        generation: d.generation,
        desired: d.desired,
        phase: d.phase,
        endpoint: d.endpoint.map(|endpoint| endpoint.0),
        detail: d.detail,
        user: d.user_id.zip(user),
        persistent: d.persistent,
        mac: d.mac,
        timings: d.timings.0,
        launch: d.launch.map(|launch| launch.0),
        created_at: seconds(d.created_at),
        ended: d.ended_at.is_some(),
    }
}

impl Store {
    /// The desktop of that id, or the live one of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn desktop(&self, name_or_id: &str) -> Result<DesktopRow> {
        let name_or_id = name_or_id.to_owned();
        self.read(move |tx| {
            let by_id = match name_or_id.parse::<DesktopId>() {
                Ok(id) => tx.peek(Desktop::key(&id))?,
                Err(_) => None,
            };
            let desktop = match by_id {
                Some(desktop) => Some(desktop),
                None => tx.find(Desktop::named(&name_or_id))?,
            };
            let row = views(tx, desktop.into_iter().collect())?.pop();
            row.ok_or_else(|| Error::not_found("desktop", &name_or_id))
        })
        .await
    }

    /// At most `limit` desktops of this reach after this one, oldest first: the live ones, or the ended too.
    ///
    /// # Errors
    /// A database fault.
    pub async fn desktops(
        &self,
        of: &Reach,
        ended_too: bool,
        after: Option<DesktopId>,
        limit: i64,
    ) -> Result<Vec<DesktopRow>> {
        let of = of.clone();
        self.read(move |tx| {
            let sieve = of.sieve(tx)?;
            let select = || match of.only_own() {
                Some(user) => Desktop::of_user(&user),
                None if ended_too => Desktop::all(),
                None => Desktop::live(),
            };
            let fits = |desktop: &Desktop| {
                (ended_too || desktop.ended_at.is_none()) && sieve.holds(desktop.pool_id, desktop.user_id)
            };
            let desktops = super::page(tx, select, |desktop| desktop.id, after, rows(limit), fits)?;
            views(tx, desktops)
        })
        .await
    }
}
