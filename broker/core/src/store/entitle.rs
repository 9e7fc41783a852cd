//! Who may use a pool, and who is in which group: given and taken away.

use super::{Error, Result, Store, pools, users};
use lucarne_control::{GroupId, PoolId};
use lucarne_db::tables::{EVERYONE, EVERYONE_ID, Entitlement, Group, HolderKind, Membership, Pool, User};
use lucarne_db::{Key, Tx};

/// Who is entitled, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A user, by name or id.
    User(String),
    /// All members of a group.
    Group(String),
}

impl Holder {
    fn describe(&self) -> String {
        match self {
            Self::User(name) => format!("user {name}"),
            Self::Group(name) => format!("group {name}"),
        }
    }
}

fn group(tx: &mut Tx<'_>, name: &str) -> Result<GroupId> {
    if name == EVERYONE {
        return Ok(EVERYONE_ID);
    }
    let group = tx.find(Group::named(name))?.ok_or_else(|| Error::not_found("group", name))?;
    Ok(group.id)
}

/// The pool's row is held, so that it is not deleted meanwhile.
fn pool(tx: &mut Tx<'_>, name_or_id: &str) -> Result<Pool> {
    let id = pools::find(tx, name_or_id)?.id;
    let pool = tx.share(Pool::key(&id))?.filter(|pool| pool.deleted_at.is_none());
    pool.ok_or_else(|| Error::not_found("pool", name_or_id))
}

fn key(pool: &PoolId, (kind, holder): (HolderKind, uuid::Uuid)) -> Key<Entitlement> {
    Entitlement::key(pool, &kind, &holder)
}

/// Lets a user, or a group that is made when there is none of that name, use a pool whose row is held; tells whether they could
/// not before.
pub(super) fn give(tx: &mut Tx<'_>, actor: &str, pool: &Pool, holder: &Holder) -> Result<bool> {
    let of = match holder {
        Holder::User(name) => (HolderKind::User, users::find(tx, name)?.id.0),
        Holder::Group(name) if name == EVERYONE => (HolderKind::Group, EVERYONE_ID.0),
        Holder::Group(name) => (HolderKind::Group, users::group(tx, name)?.0),
    };
    if tx.peek(key(&pool.id, of))?.is_some() {
        return Ok(false);
    }
    tx.insert(&Entitlement { pool_id: pool.id, holder_kind: of.0, holder: of.1 })?;
    tx.audit(actor, "pool.entitled", &pool.name, &holder.describe())?;
    Ok(true)
}

/// Takes that away; tells whether they could before.
pub(super) fn take(tx: &mut Tx<'_>, actor: &str, pool: &Pool, holder: &Holder) -> Result<bool> {
    let of = match holder {
        Holder::User(name) => (HolderKind::User, users::find(tx, name)?.id.0),
        Holder::Group(name) => (HolderKind::Group, group(tx, name)?.0),
    };
    if !tx.remove(key(&pool.id, of))? {
        return Ok(false);
    }
    tx.audit(actor, "pool.withdrawn", &pool.name, &holder.describe())?;
    Ok(true)
}

impl Store {
    /// Lets a user, or a group that is made when there is none of that name, use a pool; nothing when they may already.
    ///
    /// # Errors
    /// [`Error::NotFound`] for pool or user, or a database fault.
    pub async fn entitle(&self, actor: &str, pool_name: &str, holder: &Holder) -> Result<()> {
        let (actor, pool_name, holder) = (actor.to_owned(), pool_name.to_owned(), holder.clone());
        self.write(move |tx| {
            let pool = pool(tx, &pool_name)?;
            give(tx, &actor, &pool, &holder).map(drop)
        })
        .await
    }

    /// Takes it away; nothing when they may not. They may still by another entitlement.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn withdraw(&self, actor: &str, pool_name: &str, holder: &Holder) -> Result<()> {
        let (actor, pool_name, holder) = (actor.to_owned(), pool_name.to_owned(), holder.clone());
        self.write(move |tx| {
            let pool = pool(tx, &pool_name)?;
            take(tx, &actor, &pool, &holder).map(drop)
        })
        .await
    }

    /// Puts a user into a group, which is made when there is none of that name; gives the group where they were not in it.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn join_group(&self, actor: &str, user: &str, group: &str) -> Result<Option<GroupId>> {
        let (actor, user, group) = (actor.to_owned(), user.to_owned(), group.to_owned());
        self.write(move |tx| {
            let id = users::find(tx, &user)?.id;
            let user = tx.share(User::key(&id))?.filter(|user| user.deleted_at.is_none());
            let user = user.ok_or_else(|| Error::not_found("user", id))?;
            if group == EVERYONE {
                return Ok(None);
            }
            let group_id = users::group(tx, &group)?;
            if tx.peek(Membership::key(&id, &group_id))?.is_some() {
                return Ok(None);
            }
            tx.insert(&Membership { user_id: id, group_id })?;
            tx.audit(&actor, "group.joined", &user.name, &group)?;
            Ok(Some(group_id))
        })
        .await
    }

    /// Takes a user out of a group; gives the group where they were in it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InUse`] for the group of everyone, or a database fault.
    pub async fn leave_group(&self, actor: &str, user: &str, group_name: &str) -> Result<Option<GroupId>> {
        let (actor, user, name) = (actor.to_owned(), user.to_owned(), group_name.to_owned());
        self.write(move |tx| {
            let user = users::find(tx, &user)?;
            if name == EVERYONE {
                let by = "every user is in it; entitle another group instead".to_owned();
                return Err(Error::InUse { what: "group", name: name.clone(), by });
            }
            let group_id = group(tx, &name)?;
            if !tx.remove(Membership::key(&user.id, &group_id))? {
                return Ok(None);
            }
            tx.audit(&actor, "group.left", &user.name, &name)?;
            Ok(Some(group_id))
        })
        .await
    }
}
