//! Roles that hold for one pool or one group only: given, taken away, and what is left of them with a login.

use super::{Error, Result, Store, pools, users};
use lucarne_control::api::{self, Permission, Role, ScopeKind};
use lucarne_control::{GroupId, PoolId, UserId};
use lucarne_db::tables::{EVERYONE, EVERYONE_ID, Group, Pool, ScopedRole, User};
use lucarne_db::{Fault, Tx};
use std::collections::HashMap;
use uuid::Uuid;

/// What a role is to hold for, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A pool, by name or id.
    Pool(String),
    /// A group that there is.
    Group(String),
}

/// What somebody may do in one scope by one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// What it holds for one of.
    pub kind: ScopeKind,
    /// Which.
    pub id: Uuid,
    /// What they may do there with this login.
    pub permissions: Vec<Permission>,
}

/// What the scoped roles of a user give with a login that is for these permissions only.
pub(super) fn grants(
    tx: &mut Tx<'_>,
    user: UserId,
    only: Option<&[Permission]>,
) -> Result<Vec<Grant>, Fault> {
    let rows = tx.list(ScopedRole::of(&user))?;
    let grant = |row: ScopedRole| {
        let all = row.role.permissions_in(row.scope_kind);
        let permissions =
            all.filter(|permission| only.is_none_or(|only| only.contains(permission))).collect();
        Grant { role: row.role, kind: row.scope_kind, id: row.scope_id, permissions }
    };
    Ok(rows.into_iter().map(grant).collect())
}

/// The scoped roles of a user as the API shows them.
pub(super) fn views(tx: &mut Tx<'_>, user: UserId) -> Result<Vec<api::ScopedRole>> {
    let rows = tx.list(ScopedRole::of(&user))?;
    let of = |kind| rows.iter().filter(move |row| row.scope_kind == kind).map(|row| row.scope_id);
    let pools = tx.peek_all(of(ScopeKind::Pool).map(|id| Pool::key(&PoolId(id))))?;
    let groups = tx.peek_all(of(ScopeKind::Group).map(|id| Group::key(&GroupId(id))))?;
    let pools = pools.into_iter().map(|pool| (pool.id.0, pool.name));
    let names: HashMap<Uuid, String> =
        groups.into_iter().map(|group| (group.id.0, group.name)).chain(pools).collect();
    let view = |row: ScopedRole| api::ScopedRole {
        role: row.role,
        scope: row.scope_kind,
        id: row.scope_id,
        name: names.get(&row.scope_id).cloned().unwrap_or_default(),
    };
    let mut views: Vec<_> = rows.into_iter().map(view).collect();
    views.sort_by(|a, b| (a.scope, &a.name, a.role.as_str()).cmp(&(b.scope, &b.name, b.role.as_str())));
    Ok(views)
}

/// Takes away all roles that hold for a pool which is being deleted; gives whose they were.
pub(super) fn end_with_pool(tx: &mut Tx<'_>, actor: &str, pool: &Pool) -> Result<Vec<UserId>> {
    let mut users = Vec::new();
    for row in tx.lock_list(ScopedRole::within(&ScopeKind::Pool, &pool.id.0))? {
        if let Some(user) = tx.peek(User::key(&row.user_id))? {
            let detail = format!("{} for the pool {}, which was deleted", row.role.as_str(), pool.name);
            tx.audit(actor, "user.scoped_role_taken", &user.name, &detail)?;
        }
        users.push(row.user_id);
        tx.delete(row)?;
    }
    users.dedup();
    Ok(users)
}

/// The scope's kind, id and name. A pool's row is held, so that it is not deleted meanwhile; groups stay.
fn find(tx: &mut Tx<'_>, scope: &Scope) -> Result<(ScopeKind, Uuid, String)> {
    match scope {
        Scope::Pool(name) => {
            let id = pools::find(tx, name)?.id;
            let pool = tx.share(Pool::key(&id))?.filter(|pool| pool.deleted_at.is_none());
            let pool = pool.ok_or_else(|| Error::not_found("pool", name))?;
            Ok((ScopeKind::Pool, pool.id.0, pool.name))
        }
        Scope::Group(name) if name == EVERYONE => Ok((ScopeKind::Group, EVERYONE_ID.0, EVERYONE.to_owned())),
        Scope::Group(name) => {
            let group = tx.find(Group::named(name))?.ok_or_else(|| Error::not_found("group", name))?;
            Ok((ScopeKind::Group, group.id.0, group.name))
        }
    }
}

fn check(role: Role) -> Result<()> {
    if Role::SCOPED.contains(&role) { Ok(()) } else { Err(Error::RoleUnscoped(role)) }
}

/// The living user of that name or id, who is not deleted meanwhile.
fn hold(tx: &mut Tx<'_>, name_or_id: &str) -> Result<User> {
    let id = users::find(tx, name_or_id)?.id;
    let user = tx.share(User::key(&id))?.filter(|user| user.deleted_at.is_none());
    user.ok_or_else(|| Error::not_found("user", name_or_id))
}

impl Store {
    /// Gives a user a role for one pool or one group; nothing where they have it. Gives who that is.
    ///
    /// # Errors
    /// [`Error::RoleUnscoped`], [`Error::NotFound`] for user, pool or group, or a database fault.
    pub async fn give_scoped_role(
        &self,
        actor: &str,
        user: &str,
        role: Role,
        scope: &Scope,
    ) -> Result<UserId> {
        check(role)?;
        let (actor, user, scope) = (actor.to_owned(), user.to_owned(), scope.clone());
        self.write(move |tx| {
            let user = hold(tx, &user)?;
            let (scope_kind, scope_id, name) = find(tx, &scope)?;
            if tx.peek(ScopedRole::key(&user.id, &role, &scope_kind, &scope_id))?.is_none() {
                tx.insert(&ScopedRole { user_id: user.id, role, scope_kind, scope_id })?;
                let detail = format!("{} for the {scope_kind} {name}", role.as_str());
                tx.audit(&actor, "user.scoped_role_given", &user.name, &detail)?;
            }
            Ok(user.id)
        })
        .await
    }

    /// Takes such a role away; nothing where they have it not. Gives who that is.
    ///
    /// # Errors
    /// [`Error::RoleUnscoped`], [`Error::NotFound`] for user, pool or group, or a database fault.
    pub async fn take_scoped_role(
        &self,
        actor: &str,
        user: &str,
        role: Role,
        scope: &Scope,
    ) -> Result<UserId> {
        check(role)?;
        let (actor, user, scope) = (actor.to_owned(), user.to_owned(), scope.clone());
        self.write(move |tx| {
            let user = hold(tx, &user)?;
            let (scope_kind, scope_id, name) = find(tx, &scope)?;
            if tx.remove(ScopedRole::key(&user.id, &role, &scope_kind, &scope_id))? {
                let detail = format!("{} for the {scope_kind} {name}", role.as_str());
                tx.audit(&actor, "user.scoped_role_taken", &user.name, &detail)?;
            }
            Ok(user.id)
        })
        .await
    }
}
