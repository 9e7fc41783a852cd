//! Users' disks: where each is, that there is one for a user and a pool, and their end.
//!
//! A disk is put on record with the first desktop that it is meant for, and stays on that desktop's host. Where it is, is
//! nowhere else: a user's desktops go to their disk, and wait for its host.

use super::links::Link;
use super::{Error, Object, Reach, Result, Store, all, page, rows, seconds};
use lucarne_control::api;
use lucarne_control::{DiskId, HostId, PoolId, UserId};
use lucarne_db::tables::{Desktop, Disk, Host, Pool, User};
use lucarne_db::{Locked, Tx};
use std::collections::BTreeSet;

/// The user's disk of the pool, held; none where they have none yet, or the pool has none.
pub(super) fn held(tx: &mut Tx<'_>, pool: &Pool, user: UserId) -> Result<Option<Locked<Disk>>> {
    match pool.rules.0.home.size_mib() {
        Some(_) => Ok(tx.lock_first(Disk::of_user_in_pool(&user, &pool.id))?),
        None => Ok(None),
    }
}

/// The same, only looked at.
pub(super) fn seen(tx: &mut Tx<'_>, pool: &Pool, user: UserId) -> Result<Option<Disk>> {
    match pool.rules.0.home.size_mib() {
        Some(_) => Ok(tx.find(Disk::of_user_in_pool(&user, &pool.id))?),
        None => Ok(None),
    }
}

/// The user's disk for a desktop that is made for them on that host, where it is or is to be made; none where the pool has none.
pub(super) fn attach(
    tx: &mut Tx<'_>,
    actor: &str,
    (user, pool): (&User, &Pool),
    host: HostId,
    disk: Option<Locked<Disk>>,
) -> Result<Option<DiskId>> {
    let Some(size_mib) = pool.rules.0.home.size_mib() else { return Ok(None) };
    let id = match disk {
        Some(mut disk) => {
            if disk.host_id.is_none() {
                disk.host_id = Some(host);
                tx.update(&disk)?;
            }
            disk.id
        }
        None => {
            let disk = Disk {
                id: DiskId(tx.uuid()),
                user_id: user.id,
                pool_id: pool.id,
                host_id: Some(host),
                size_mib,
                created_at: tx.now(),
                made_at: None,
                deleted_at: None,
                gone_at: None,
            };
            tx.insert(&disk)?;
            let detail = format!("{size_mib} MiB for {} in {}", user.name, pool.name);
            tx.audit(actor, "disk.created", &disk.id.to_string(), &detail)?;
            disk.id
        }
    };
    Ok(Some(id))
}

/// A desktop is gone for which a disk was to be made that never was: the next may be elsewhere, if none is made already.
pub(super) fn unbind(tx: &mut Tx<'_>, id: DiskId) -> Result<()> {
    if let Some(mut disk) = tx.lock(Disk::key(&id))?
        && tx.find(Desktop::live_with_disk(&id))?.is_none()
        && disk.made_at.is_none()
        && disk.deleted_at.is_none()
    {
        disk.host_id = None;
        tx.update(&disk)?;
    }
    Ok(())
}

/// Whether a desktop has it that is to be there.
fn user_of(tx: &mut Tx<'_>, disk: &Disk) -> Result<Option<Desktop>> {
    let desktops = tx.list(Desktop::live_with_disk(&disk.id))?;
    Ok(desktops.into_iter().find(Desktop::is_wanted))
}

/// Has a disk destroyed that no desktop has; tells the host that has to.
fn delete(tx: &mut Tx<'_>, actor: &str, mut disk: Locked<Disk>, reason: &str) -> Result<Option<HostId>> {
    let (now, host) = (tx.now(), disk.host_id);
    disk.deleted_at = Some(now);
    if host.is_none() {
        disk.gone_at = Some(now);
    }
    tx.update(&disk)?;
    tx.audit(actor, "disk.deleted", &disk.id.to_string(), reason)?;
    Ok(host)
}

/// Whether a desktop that is to be destroyed has the user's disk still: the next one waits for it, on the same host.
pub(super) fn is_leaving(tx: &mut Tx<'_>, disk: &Disk) -> Result<bool> {
    let desktops = tx.list(Desktop::live_with_disk(&disk.id))?;
    Ok(desktops.iter().any(|desktop| !desktop.is_wanted()))
}

/// What should be on these hosts has changed. Hosts are the last rows that a transaction takes.
pub(super) fn revise(tx: &mut Tx<'_>, hosts: &BTreeSet<HostId>) -> Result<()> {
    for host in hosts {
        if let Some(mut host) = tx.lock(Host::key(host))? {
            host.revision += 1;
            tx.update(&host)?;
        }
    }
    Ok(())
}

/// Disks whose end was decided: how many, and the hosts that [`revise`] is to be called for once desktops have ended.
#[derive(Debug, Default)]
pub(super) struct Doomed {
    pub count: usize,
    pub hosts: BTreeSet<HostId>,
}

fn delete_each(tx: &mut Tx<'_>, actor: &str, disks: Vec<Disk>, reason: &str) -> Result<Doomed> {
    let mut doomed = Doomed::default();
    for disk in disks {
        if let Some(disk) = tx.lock(Disk::key(&disk.id))?.filter(|disk| disk.deleted_at.is_none()) {
            doomed.hosts.extend(delete(tx, actor, disk, reason)?);
            doomed.count += 1;
        }
    }
    Ok(doomed)
}

/// Has a user's disks destroyed.
pub(super) fn delete_users(tx: &mut Tx<'_>, actor: &str, user: UserId) -> Result<Doomed> {
    let disks = all(tx, || Disk::of_user(&user), |disk| disk.id)?;
    delete_each(tx, actor, disks, "the user was deleted")
}

/// Has a pool's disks destroyed.
pub(super) fn delete_pools(tx: &mut Tx<'_>, actor: &str, pool: PoolId) -> Result<Doomed> {
    let disks = all(tx, || Disk::of_pool(&pool), |disk| disk.id)?;
    delete_each(tx, actor, disks, "its pool was deleted")
}

/// How many disks of a pool there are that nobody has deleted.
pub(super) fn count(tx: &mut Tx<'_>, pool: PoolId) -> Result<usize> {
    Ok(all(tx, || Disk::of_pool(&pool), |disk| disk.id)?.iter().filter(|d| d.deleted_at.is_none()).count())
}

/// The disks of a host that is dead are lost with it. Should it come back, it is told to destroy them.
pub(super) fn lose(tx: &mut Tx<'_>, actor: &str, host: HostId, why: &str) -> Result<()> {
    for disk in all(tx, || Disk::on_host(&host), |disk| disk.id)? {
        if let Some(disk) = tx.lock(Disk::key(&disk.id))?.filter(|disk| disk.deleted_at.is_none()) {
            delete(tx, actor, disk, why)?;
        }
    }
    Ok(())
}

/// A host is forgotten that has no disk which somebody may want.
pub(super) fn forget(tx: &mut Tx<'_>, host: HostId, name: &str) -> Result<()> {
    let disks = all(tx, || Disk::on_host(&host), |disk| disk.id)?;
    let kept = disks.iter().filter(|disk| disk.deleted_at.is_none()).count();
    if kept > 0 {
        let by = format!(
            "{kept} home disk(s) are on it; delete them, or declare it dead with `lucarne host fence {name}`"
        );
        return Err(Error::InUse { what: "host", name: name.to_owned(), by });
    }
    for disk in disks {
        if let Some(mut disk) = tx.lock(Disk::key(&disk.id))? {
            disk.gone_at = Some(tx.now());
            tx.update(&disk)?;
        }
    }
    Ok(())
}

/// What is to be put on record of what a host says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Disks that are there.
    pub made: Vec<DiskId>,
    /// Disks that are not there any more.
    pub gone: Vec<DiskId>,
    /// Disks that are there none the less: they are to be destroyed.
    pub back: Vec<DiskId>,
}

/// What of a host's words is not on record yet.
pub(super) fn news(
    tx: &mut Tx<'_>,
    link: &Link,
    (there, gone, complete): (&[DiskId], &[DiskId], bool),
) -> Result<Said> {
    let mut said = Said::default();
    let known = tx.peek_all(there.iter().map(Disk::key))?;
    for unknown in there.iter().filter(|id| known.iter().all(|disk| disk.id != **id)) {
        tracing::error!(disk = %unknown, host = link.name,
            "a host has a home disk that is not on record, as after a backup was put back; it is left alone there");
    }
    for disk in known {
        match disk.host_id {
            Some(host) if host != link.host => {
                tracing::error!(disk = %disk.id, host = link.name, "a host has a home disk that is on record on another host");
            }
            _ if disk.gone_at.is_some() => said.back.push(disk.id),
            _ if disk.made_at.is_none() => said.made.push(disk.id),
            _ => {}
        }
    }
    let deleted = |disk: &Disk| disk.deleted_at.is_some() && disk.gone_at.is_none();
    said.gone =
        tx.peek_all(gone.iter().map(Disk::key))?.into_iter().filter(deleted).map(|disk| disk.id).collect();
    if complete {
        for disk in all(tx, || Disk::on_host(&link.host), |disk| disk.id)? {
            if there.contains(&disk.id) {
                continue;
            }
            if deleted(&disk) {
                said.gone.push(disk.id);
            } else if disk.made_at.is_some() {
                tracing::error!(disk = %disk.id, host = link.name, "a home disk is not on its host any more");
            }
        }
    }
    Ok(said)
}

/// Puts it on record.
pub(super) fn note(tx: &mut Tx<'_>, link: &Link, said: &Said) -> Result<()> {
    let now = tx.now();
    let ids: BTreeSet<DiskId> = said.made.iter().chain(&said.gone).chain(&said.back).copied().collect();
    for id in ids {
        let Some(mut disk) = tx.lock(Disk::key(&id))? else { continue };
        if disk.host_id.is_some_and(|host| host != link.host) {
            continue;
        }
        if said.made.contains(&id) && disk.made_at.is_none() {
            // A database that is older than the disk does not know where it was made.
            (disk.host_id, disk.made_at) = (Some(link.host), Some(now));
            tx.audit("system", "disk.made", &id.to_string(), &format!("on {}", link.name))?;
        }
        if said.gone.contains(&id) && disk.deleted_at.is_some() && disk.gone_at.is_none() {
            disk.gone_at = Some(now);
            tx.audit("system", "disk.destroyed", &id.to_string(), &format!("{} confirmed it", link.name))?;
        }
        if said.back.contains(&id) && disk.gone_at.is_some() {
            (disk.host_id, disk.gone_at) = (Some(link.host), None);
        }
        tx.update(&disk)?;
    }
    if said.back.is_empty() {
        return link.share(tx);
    }
    // It is told again.
    let mut host = link.lock(tx)?;
    host.revision += 1;
    Ok(tx.update(&host)?)
}

fn views(tx: &mut Tx<'_>, disks: Vec<Disk>) -> Result<Vec<api::Disk>> {
    let mut views = Vec::new();
    for disk in disks {
        let user = tx.peek(User::key(&disk.user_id))?.map(|user| user.name).unwrap_or_default();
        let pool = tx.peek(Pool::key(&disk.pool_id))?.map(|pool| pool.name).unwrap_or_default();
        let host = disk.host_id.map(|host| tx.peek(Host::key(&host))).transpose()?.flatten();
        let desktop = user_of(tx, &disk)?.map(|desktop| desktop.name);
        views.push(api::Disk {
            id: disk.id,
            user,
            pool,
            host: host.map(|host| host.name),
            size_mib: disk.size_mib,
            state: match (disk.deleted_at, disk.made_at) {
                (Some(_), _) => api::DiskState::Deleting,
                (None, Some(_)) => api::DiskState::Present,
                (None, None) => api::DiskState::Planned,
            },
            desktop,
            created_at: seconds(disk.created_at),
        });
    }
    Ok(views)
}

impl Store {
    /// At most `limit` disks of this reach after this one, oldest first.
    ///
    /// # Errors
    /// A database fault.
    pub async fn disks(&self, of: &Reach, after: Option<DiskId>, limit: i64) -> Result<Vec<api::Disk>> {
        let of = of.clone();
        self.read(move |tx| {
            let sieve = of.sieve(tx)?;
            let select = || match of.only_own() {
                Some(user) => Disk::of_user(&user),
                None => Disk::present(),
            };
            let fits = |disk: &Disk| sieve.holds(disk.pool_id, Some(disk.user_id));
            let disks = page(tx, select, |disk| disk.id, after, rows(limit), fits)?;
            views(tx, disks)
        })
        .await
    }

    /// The disk of that id, and what it is to whoever asks for it.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn disk(&self, id: DiskId) -> Result<(api::Disk, Object)> {
        self.read(move |tx| {
            let disk = tx.peek(Disk::key(&id))?.filter(|disk| disk.gone_at.is_none());
            let disk = disk.ok_or_else(|| Error::not_found("disk", id))?;
            let object = Object::Desktop { pool: disk.pool_id, owner: Some(disk.user_id) };
            let view = views(tx, vec![disk])?.pop().ok_or_else(|| Error::not_found("disk", id))?;
            Ok((view, object))
        })
        .await
    }

    /// Has a disk destroyed with what its user saved; tells the host that has to. Nothing when that was decided before.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::InUse`] when it is in a desktop; or a database fault.
    pub async fn delete_disk(&self, actor: &str, id: DiskId) -> Result<Option<HostId>> {
        let actor = actor.to_owned();
        self.write(move |tx| {
            let missing = || Error::not_found("disk", id);
            let user = tx.peek(Disk::key(&id))?.ok_or_else(missing)?.user_id;
            // Who connects holds their user's row: none gets the disk meanwhile.
            let user = tx.lock(User::key(&user))?;
            let disk = tx.lock(Disk::key(&id))?.filter(|disk| disk.gone_at.is_none()).ok_or_else(missing)?;
            if disk.deleted_at.is_some() {
                return Ok(None);
            }
            if let Some(desktop) = user_of(tx, &disk)? {
                let by = format!("the desktop {} has it; log its user off first", desktop.name);
                return Err(Error::InUse { what: "disk", name: id.to_string(), by });
            }
            let reason = user.map(|user| format!("of {}", user.name)).unwrap_or_default();
            let host = delete(tx, &actor, disk, &reason)?;
            revise(tx, &host.into_iter().collect())?;
            Ok(host)
        })
        .await
    }
}
