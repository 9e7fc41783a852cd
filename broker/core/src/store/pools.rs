//! Pools: what their desktops are made of, and who may use them.

use super::{
    Ended, Error, PAGE, Reach, Result, Store, changed_everywhere, disks, end, rows, scoped_roles, seconds,
    users, waiting,
};
use lucarne_control::api::NewPool;
use lucarne_control::spec::{ImageDigest, TemplateSpec};
use lucarne_control::viewer::ShadowPolicy;
use lucarne_control::{DesktopId, GroupId, PoolId, UserId};
use lucarne_db::tables::{
    Assignment, Desktop, EVERYONE, EVERYONE_ID, Entitlement, Group, HolderKind, Image, Membership, Pool,
    PoolPolicy, PoolRules, User,
};
use lucarne_db::value::{Json, ToValue};
use lucarne_db::{Fault, Locked, Tx};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A pool without what hosts know of it.
#[derive(Clone, Debug)]
pub struct PoolRow {
    /// Id.
    pub id: PoolId,
    /// Unique name.
    pub name: String,
    /// One line for users.
    pub description: String,
    /// What desktops are forked from.
    pub template: TemplateSpec,
    /// What its desktops let people do.
    pub policy: PoolPolicy,
    /// How they live.
    pub rules: PoolRules,
    /// At most this many desktops at once.
    pub max_desktops: u32,
    /// Names of users.
    pub entitled_users: Vec<String>,
    /// Names of groups.
    pub entitled_groups: Vec<String>,
    /// Live desktops.
    pub desktops: u32,
    /// Those of them that wait for users.
    pub waiting: u32,
    /// Seconds since the epoch.
    pub created_at: i64,
}

/// What went with a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Its desktops.
    pub ended: Vec<Ended>,
    /// Those who had a role for it.
    pub users: Vec<UserId>,
}

/// The pool of that name or id.
pub(super) fn find(tx: &mut Tx<'_>, name_or_id: &str) -> Result<Pool> {
    let by_id = match name_or_id.parse::<PoolId>() {
        Ok(id) => tx.peek(Pool::key(&id))?.filter(|pool| pool.deleted_at.is_none()),
        Err(_) => None,
    };
    let pool = match by_id {
        Some(pool) => Some(pool),
        None => tx.find(Pool::named(name_or_id))?,
    };
    pool.ok_or_else(|| Error::not_found("pool", name_or_id))
}

/// As whom a user may be entitled: by name, as everyone is, and as a member of groups.
pub(super) fn holders(tx: &mut Tx<'_>, user: UserId) -> Result<Vec<(HolderKind, Uuid)>, Fault> {
    let groups = tx.list(Membership::of(&user))?.into_iter().map(|m| (HolderKind::Group, m.group_id.0));
    let always = [(HolderKind::User, user.0), (HolderKind::Group, EVERYONE_ID.0)];
    Ok(always.into_iter().chain(groups).collect())
}

/// The entitlements by which a user may use a pool.
pub(super) fn entitlements(tx: &mut Tx<'_>, user: UserId, pool: PoolId) -> Result<Vec<Entitlement>, Fault> {
    let mut held = Vec::new();
    for (kind, holder) in holders(tx, user)? {
        held.extend(tx.peek(Entitlement::key(&pool, &kind, &holder))?);
    }
    Ok(held)
}

fn is_everyones(tx: &mut Tx<'_>, pool: PoolId) -> Result<bool, Fault> {
    Ok(tx.peek(Entitlement::key(&pool, &HolderKind::Group, &EVERYONE_ID.0))?.is_some())
}

/// Whether a user may use a pool, by what is entitled at this moment.
pub(super) fn entitled(tx: &mut Tx<'_>, user: UserId, pool: PoolId) -> Result<bool, Fault> {
    // Most pools are everyone's, and this is asked at each connect.
    Ok(is_everyones(tx, pool)? || !entitlements(tx, user, pool)?.is_empty())
}

/// Those of the users who may use the pool that stands beside them.
pub(super) fn all_entitled(
    tx: &mut Tx<'_>,
    asked: impl Iterator<Item = (UserId, PoolId)>,
) -> Result<BTreeSet<(UserId, PoolId)>, Fault> {
    let mut open = BTreeMap::new();
    let mut entitled = BTreeSet::new();
    for (user, pool) in asked.collect::<BTreeSet<_>>() {
        // What is everyone's is found out for all users at once.
        let everyones = match open.entry(pool) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => *unknown.insert(is_everyones(tx, pool)?),
        };
        if everyones || !entitlements(tx, user, pool)?.is_empty() {
            entitled.insert((user, pool));
        }
    }
    Ok(entitled)
}

pub(super) fn view(tx: &mut Tx<'_>, pool: Pool, with_entitlements: bool) -> Result<PoolRow> {
    let (mut entitled_users, mut entitled_groups) = (Vec::new(), Vec::new());
    if with_entitlements {
        let held = tx.list(Entitlement::of_pool(&pool.id))?;
        let of = |kind| held.iter().filter(move |e| e.holder_kind == kind).map(|e| e.holder);
        let users = tx.peek_all(of(HolderKind::User).map(|id| User::key(&UserId(id))))?;
        let groups = tx.peek_all(of(HolderKind::Group).map(|id| Group::key(&GroupId(id))))?;
        entitled_users = users.into_iter().map(|user| user.name).collect();
        entitled_groups = groups.into_iter().map(|group| group.name).collect();
        entitled_users.sort();
        entitled_groups.sort();
    }
    let waiting = waiting::count(tx, pool.id)?;
    Ok(PoolRow {
        template: pool.template(),
        id: pool.id,
        name: pool.name,
        description: pool.description,
        policy: pool.policy.0,
        rules: pool.rules.0,
        max_desktops: pool.max_desktops,
        entitled_users,
        entitled_groups,
        desktops: pool.desktops,
        waiting,
        created_at: seconds(pool.created_at),
    })
}

fn shadow_word(policy: ShadowPolicy) -> String {
    match serde_json::to_value(policy) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// What a new pool lets people do.
pub(super) fn policy(new: &NewPool) -> PoolPolicy {
    PoolPolicy {
        network: new.network,
        shadow: new.shadow,
        shadow_control: new.shadow_control,
        audio: new.audio.unwrap_or(true),
        clipboard: new.clipboard,
        recording: new.recording,
    }
}

/// How the desktops of a new pool live.
pub(super) fn rules(new: &NewPool) -> PoolRules {
    PoolRules {
        kind: new.kind,
        ready: new.ready.clone(),
        limits: new.limits,
        power: new.power,
        home: new.home,
        snapshots: new.snapshots,
        placement: new.placement.clone(),
    }
}

/// How many desktops a new pool may have.
pub(super) fn max_desktops(new: &NewPool) -> u32 {
    new.max_desktops.unwrap_or(16)
}

pub(super) fn insert(tx: &mut Tx<'_>, actor: &str, new: &NewPool, image: &ImageDigest) -> Result<Pool> {
    if tx.find(Pool::named(&new.name))?.is_some() {
        return Err(Error::NameTaken { what: "pool", name: new.name.clone() });
    }
    if tx.share(Image::key(image))?.is_none() {
        return Err(Error::not_found("image", image));
    }
    let machine = new.machine.unwrap_or_default();
    let pool = Pool {
        id: PoolId(tx.uuid()),
        name: new.name.clone(),
        description: new.description.clone(),
        image: image.clone(),
        machine: Json(machine),
        policy: Json(policy(new)),
        rules: Json(rules(new)),
        preparation: Json::default(),
        max_desktops: max_desktops(new),
        desktops: 0,
        created_at: tx.now(),
        deleted_at: None,
    };
    tx.insert(&pool)?;
    let mut holders = Vec::new();
    for name in &new.entitled_users {
        let user = tx.share_first(User::named(name))?.ok_or_else(|| Error::not_found("user", name))?;
        holders.push((HolderKind::User, user.id.0));
    }
    for name in &new.entitled_groups {
        holders.push((HolderKind::Group, users::group(tx, name)?.0));
    }
    holders.sort_by_key(|(kind, id)| (kind.to_value(), *id));
    holders.dedup();
    for (holder_kind, holder) in holders {
        tx.insert(&Entitlement { pool_id: pool.id, holder_kind, holder })?;
    }
    changed_everywhere(tx)?;
    let mut detail = format!("image {}, {} MiB, {} vcpus", image.short(), machine.memory_mib, machine.vcpus);
    if new.shadow != ShadowPolicy::Off {
        let control = if new.shadow_control { " and control" } else { "" };
        detail += &format!(", shadow {}{control}", shadow_word(new.shadow));
    }
    tx.audit(actor, "pool.created", &new.name, &detail)?;
    Ok(pool)
}

/// At most `limit` of these pools, but for those that were deleted, in the order in which they are named.
fn some(tx: &mut Tx<'_>, ids: impl Iterator<Item = PoolId>, limit: usize) -> Result<Vec<Pool>, Fault> {
    let (ids, mut found) = (ids.collect::<Vec<_>>(), Vec::new());
    for ids in ids.chunks(PAGE) {
        let mut pools = tx.peek_all(ids.iter().map(Pool::key))?;
        pools.retain(|pool| pool.deleted_at.is_none());
        pools.sort_by_key(|pool| pool.id);
        found.extend(pools);
        if found.len() >= limit {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// The desktops of a pool that are to be there.
fn wanted(tx: &mut Tx<'_>, pool: PoolId) -> Result<Vec<DesktopId>, Fault> {
    let desktops: Vec<Desktop> = tx.list(Desktop::live_of_pool(&pool))?;
    Ok(desktops.iter().filter(|d| d.is_wanted()).map(|d| d.id).collect())
}

/// Refuses what must not be done to a pool that has desktops.
pub(super) fn check_unused(tx: &mut Tx<'_>, pool: &Pool) -> Result<()> {
    let desktops: Vec<Desktop> = tx.list(Desktop::live_of_pool(&pool.id))?;
    // Those that wait are nobody's.
    let by = match desktops.iter().filter(|d| d.is_wanted() && d.taken_at.is_some()).count() {
        0 => match disks::count(tx, pool.id)? {
            0 => return Ok(()),
            n => format!("{n} user(s) have a home disk in it; delete those disks, or delete with force"),
        },
        n => format!("{n} desktop(s) run; log them off, or delete with force"),
    };
    Err(Error::InUse { what: "pool", name: pool.name.clone(), by })
}

/// Deletes a pool, as [`Store::delete_pool`].
pub(super) fn delete(tx: &mut Tx<'_>, actor: &str, mut pool: Locked<Pool>, force: bool) -> Result<Deleted> {
    if !force {
        check_unused(tx, &pool)?;
    }
    // All hosts are told anew for the pool that is not there any more.
    let doomed = disks::delete_pools(tx, actor, pool.id)?;
    let mut ended = Vec::new();
    for desktop in wanted(tx, pool.id)? {
        ended.extend(end::desktop(tx, actor, desktop, "its pool was deleted")?);
    }
    for entitlement in tx.lock_list(Entitlement::of_pool(&pool.id))? {
        tx.delete(entitlement)?;
    }
    let users = scoped_roles::end_with_pool(tx, actor, &pool)?;
    pool.deleted_at = Some(tx.now());
    tx.update(&pool)?;
    changed_everywhere(tx)?;
    let detail = format!("{} desktop(s) and {} home disk(s) will be destroyed", ended.len(), doomed.count);
    tx.audit(actor, "pool.deleted", &pool.name, &detail)?;
    Ok(Deleted { ended, users })
}

impl Store {
    /// Adds a pool on an image that was resolved before.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::NotFound`] for an entitled user, or a database fault.
    pub async fn create_pool(&self, actor: &str, new: &NewPool, image: &ImageDigest) -> Result<PoolRow> {
        let (actor, new, image) = (actor.to_owned(), new.clone(), image.clone());
        self.write(move |tx| {
            let pool = insert(tx, &actor, &new, &image)?;
            view(tx, pool, true)
        })
        .await
    }

    /// Adds the first pool on the first image, when no pool has ever been; tells whether it did.
    ///
    /// # Errors
    /// A database fault.
    pub async fn create_default_pool(&self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        // Most rounds find that there is one, and change nothing.
        if self.read(|tx| Ok(tx.find(Pool::all())?.is_some() || tx.find(Image::all())?.is_none())).await? {
            return Ok(false);
        }
        self.write(move |tx| {
            let images = tx.list(Image::all())?;
            let newest =
                images.into_iter().max_by(|a, b| (a.created_at, &b.digest).cmp(&(b.created_at, &a.digest)));
            let (Some(image), None) = (newest, tx.find(Pool::all())?) else { return Ok(false) };
            let new = NewPool {
                name: name.clone(),
                description: image.description,
                image: image.digest.to_string(),
                machine: None,
                network: Default::default(),
                shadow: ShadowPolicy::Off,
                shadow_control: false,
                audio: None,
                clipboard: Default::default(),
                recording: Default::default(),
                kind: Default::default(),
                ready: Default::default(),
                limits: Default::default(),
                power: Default::default(),
                placement: Default::default(),
                home: Default::default(),
                snapshots: Default::default(),
                max_desktops: None,
                entitled_users: Vec::new(),
                entitled_groups: vec![EVERYONE.to_owned()],
            };
            insert(tx, "system", &new, &image.digest)?;
            Ok(true)
        })
        .await
    }

    /// The pool of that name or id.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn pool(&self, name_or_id: &str) -> Result<PoolRow> {
        let name_or_id = name_or_id.to_owned();
        self.read(move |tx| {
            let pool = find(tx, &name_or_id)?;
            view(tx, pool, true)
        })
        .await
    }

    /// At most `limit` pools of this reach after this one, oldest first.
    ///
    /// # Errors
    /// A database fault.
    pub async fn pools(&self, of: &Reach, after: Option<PoolId>, limit: i64) -> Result<Vec<PoolRow>> {
        let of = of.clone();
        self.read(move |tx| {
            let pools = if of.is_everywhere() {
                let select = Pool::present().limit(rows(limit));
                tx.list(match after {
                    Some(after) => select.after(&after),
                    None => select,
                })?
            } else {
                some(tx, of.pools().filter(|id| after.is_none_or(|after| *id > after)), rows(limit))?
            };
            pools.into_iter().map(|pool| view(tx, pool, true)).collect()
        })
        .await
    }

    /// Whether a user may use the pool of that name or id.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn may_use(&self, user: UserId, pool: &str) -> Result<bool> {
        let pool = pool.to_owned();
        self.read(move |tx| {
            let pool = find(tx, &pool)?.id;
            Ok(entitled(tx, user, pool)?)
        })
        .await
    }

    /// The pools that a user may use, or has a desktop of, by name.
    ///
    /// # Errors
    /// A database fault.
    pub async fn pools_of(&self, user: UserId) -> Result<Vec<PoolRow>> {
        self.read(move |tx| {
            let mut ids: Vec<PoolId> =
                tx.list(Assignment::live_of_user(&user))?.into_iter().map(|a| a.pool_id).collect();
            for (kind, holder) in holders(tx, user)? {
                ids.extend(tx.list(Entitlement::held_by(&kind, &holder))?.iter().map(|e| e.pool_id));
            }
            let mut pools = tx.peek_all(ids.iter().map(Pool::key))?;
            pools.retain(|pool| pool.deleted_at.is_none());
            pools.sort_by(|a, b| a.name.cmp(&b.name));
            pools.into_iter().map(|pool| view(tx, pool, false)).collect()
        })
        .await
    }

    /// Deletes a pool. With `force` its desktops are destroyed, with all data.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::InUse`] when it has desktops that nobody said to destroy; or a database fault.
    pub async fn delete_pool(&self, actor: &str, name_or_id: &str, force: bool) -> Result<Deleted> {
        let (actor, name_or_id) = (actor.to_owned(), name_or_id.to_owned());
        self.write(move |tx| {
            let id = find(tx, &name_or_id)?.id;
            let pool = tx.lock(Pool::key(&id))?.filter(|pool| pool.deleted_at.is_none());
            let pool = pool.ok_or_else(|| Error::not_found("pool", &name_or_id))?;
            delete(tx, &actor, pool, force)
        })
        .await
    }
}
