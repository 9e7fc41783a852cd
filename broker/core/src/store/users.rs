//! Users, groups and who is in which.

use super::{Ended, Error, Reach, Result, Store, disks, end, reach, rows, scoped_roles, seconds};
use lucarne_control::api::{self, NewUser, Role};
use lucarne_control::{GroupId, UserId};
use lucarne_db::tables::{
    Assignment, EVERYONE, EVERYONE_ID, Entitlement, Group, HolderKind, Login, Membership, ScopedRole, User,
};
use lucarne_db::{Locked, Tx};

/// What went with a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletedUser {
    /// Their desktops.
    pub ended: Vec<Ended>,
    /// The groups that they were in.
    pub groups: Vec<GroupId>,
}

/// The group's id; the group is made when there is none of that name.
pub(super) fn group(tx: &mut Tx<'_>, name: &str) -> Result<GroupId> {
    if let Some(group) = tx.find(Group::named(name))? {
        return Ok(group.id);
    }
    let group =
        Group { id: GroupId(tx.uuid()), name: name.to_owned(), max_desktops: None, created_at: tx.now() };
    tx.insert(&group)?;
    Ok(group.id)
}

/// The living user of that name or id.
pub(super) fn find(tx: &mut Tx<'_>, name_or_id: &str) -> Result<User> {
    let by_id = match name_or_id.parse::<UserId>() {
        Ok(id) => tx.peek(User::key(&id))?.filter(|user| user.deleted_at.is_none()),
        Err(_) => None,
    };
    let user = match by_id {
        Some(user) => Some(user),
        None => tx.find(User::named(name_or_id))?,
    };
    user.ok_or_else(|| Error::not_found("user", name_or_id))
}

/// As [`find`], for change.
pub(super) fn lock(tx: &mut Tx<'_>, name_or_id: &str) -> Result<Locked<User>> {
    let id = find(tx, name_or_id)?.id;
    let user = tx.lock(User::key(&id))?.filter(|user| user.deleted_at.is_none());
    user.ok_or_else(|| Error::not_found("user", name_or_id))
}

pub(super) fn view(tx: &mut Tx<'_>, user: User) -> Result<api::User> {
    let memberships = tx.list(Membership::of(&user.id))?;
    let mut groups: Vec<Group> = tx.peek_all(memberships.iter().map(|m| Group::key(&m.group_id)))?;
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(api::User {
        id: user.id,
        name: user.name,
        role: user.role,
        scoped_roles: scoped_roles::views(tx, user.id)?,
        groups: groups.into_iter().map(|g| g.name).collect(),
        max_desktops: user.max_desktops,
        created_at: seconds(user.created_at),
    })
}

impl Store {
    /// Adds a user whose password has the given PHC hash.
    ///
    /// # Errors
    /// [`Error::NameTaken`], or a database fault.
    pub async fn create_user(&self, actor: &str, new: &NewUser, password_hash: &str) -> Result<api::User> {
        let (actor, new, hash) = (actor.to_owned(), new.clone(), password_hash.to_owned());
        self.write(move |tx| {
            if tx.find(User::named(&new.name))?.is_some() {
                return Err(Error::NameTaken { what: "user", name: new.name.clone() });
            }
            let user = User {
                id: UserId(tx.uuid()),
                name: new.name.clone(),
                role: new.role.unwrap_or(Role::User),
                password_hash: hash.clone(),
                max_desktops: None,
                created_at: tx.now(),
                deleted_at: None,
            };
            tx.insert(&user)?;
            let mut names: Vec<&String> = new.groups.iter().filter(|n| *n != EVERYONE).collect();
            names.sort();
            names.dedup();
            for name in names {
                let group_id = group(tx, name)?;
                tx.insert(&Membership { user_id: user.id, group_id })?;
            }
            let detail = format!("role {}, groups {:?}", user.role.as_str(), new.groups);
            tx.audit(&actor, "user.created", &new.name, &detail)?;
            view(tx, user)
        })
        .await
    }

    /// The living user of that name or id.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn user(&self, name_or_id: &str) -> Result<api::User> {
        let name_or_id = name_or_id.to_owned();
        self.read(move |tx| {
            let user = find(tx, &name_or_id)?;
            view(tx, user)
        })
        .await
    }

    /// At most `limit` living users of this reach after this one, oldest first.
    ///
    /// # Errors
    /// A database fault.
    pub async fn users(&self, of: &Reach, after: Option<UserId>, limit: i64) -> Result<Vec<api::User>> {
        let of = of.clone();
        self.read(move |tx| {
            let users = if of.is_everywhere() || of.groups().contains(&EVERYONE_ID) {
                let select = User::living().limit(rows(limit));
                tx.list(match after {
                    Some(after) => select.after(&after),
                    None => select,
                })?
            } else {
                // Who is deleted is in no group any more.
                let members = reach::members(tx, &of, after, rows(limit))?;
                let mut users = tx.peek_all(members.iter().map(User::key))?;
                users.sort_by_key(|user| user.id);
                users
            };
            users.into_iter().map(|user| view(tx, user)).collect()
        })
        .await
    }

    /// Id and password hash of the living user of that name.
    ///
    /// # Errors
    /// A database fault.
    pub async fn password_hash(&self, name: &str) -> Result<Option<(UserId, String)>> {
        let name = name.to_owned();
        self.read(move |tx| Ok(tx.find(User::named(&name))?.map(|user| (user.id, user.password_hash)))).await
    }

    /// Changes a user's password and ends all their logins but `keep` (the sha256 of its token).
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn set_password(
        &self,
        actor: &str,
        user: UserId,
        hash: &str,
        keep: Option<&[u8]>,
    ) -> Result<()> {
        let (actor, hash, keep) = (actor.to_owned(), hash.to_owned(), keep.map(<[u8]>::to_vec));
        self.write(move |tx| {
            let row = tx.lock(User::key(&user))?.filter(|row| row.deleted_at.is_none());
            let mut row = row.ok_or_else(|| Error::not_found("user", user))?;
            row.password_hash.clone_from(&hash);
            tx.update(&row)?;
            for login in tx.lock_list(Login::of(&user))? {
                if keep.as_ref() != Some(&login.hash) {
                    tx.delete(login)?;
                }
            }
            Ok(tx.audit(&actor, "user.password_changed", &row.name, "other sign-ins ended")?)
        })
        .await
    }

    /// Gives a user another role.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::LastAdministrator`], or a database fault.
    pub async fn set_role(&self, actor: &str, name_or_id: &str, role: Role) -> Result<api::User> {
        let (actor, name_or_id) = (actor.to_owned(), name_or_id.to_owned());
        self.write(move |tx| {
            // All administrators, so that no two of the last two go at once.
            let administrators = tx.lock_list(User::living_in_role(&Role::Administrator))?;
            let mut user = lock(tx, &name_or_id)?;
            let before = user.role;
            if before == Role::Administrator && role != before && administrators.len() == 1 {
                return Err(Error::LastAdministrator(user.name.clone()));
            }
            if before != role {
                user.role = role;
                tx.update(&user)?;
                let detail = format!("from {} to {}", before.as_str(), role.as_str());
                tx.audit(&actor, "user.role_changed", &user.name, &detail)?;
            }
            view(tx, user.into_row())
        })
        .await
    }

    /// Deletes a user: their logins, and their desktops with all data.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::LastAdministrator`], or a database fault.
    pub async fn delete_user(&self, actor: &str, name_or_id: &str) -> Result<DeletedUser> {
        let (actor, name_or_id) = (actor.to_owned(), name_or_id.to_owned());
        self.write(move |tx| {
            // All administrators, so that no two of the last two go at once.
            let administrators = tx.lock_list(User::living_in_role(&Role::Administrator))?;
            let mut user = lock(tx, &name_or_id)?;
            if user.role == Role::Administrator && administrators.len() == 1 {
                return Err(Error::LastAdministrator(user.name.clone()));
            }
            let doomed = disks::delete_users(tx, &actor, user.id)?;
            let mut ended = Vec::new();
            for assignment in tx.list(Assignment::live_of_user(&user.id))? {
                ended.extend(end::desktop(tx, &actor, assignment.desktop_id, "the user was deleted")?);
            }
            disks::revise(tx, &doomed.hosts)?;
            for login in tx.lock_list(Login::of(&user.id))? {
                tx.delete(login)?;
            }
            let mut groups = Vec::new();
            for membership in tx.lock_list(Membership::of(&user.id))? {
                groups.push(membership.group_id);
                tx.delete(membership)?;
            }
            for role in tx.lock_list(ScopedRole::of(&user.id))? {
                tx.delete(role)?;
            }
            for entitlement in tx.lock_list(Entitlement::held_by(&HolderKind::User, &user.id.0))? {
                tx.delete(entitlement)?;
            }
            user.deleted_at = Some(tx.now());
            user.password_hash.clear();
            tx.update(&user)?;
            let detail =
                format!("{} desktop(s) and {} home disk(s) will be destroyed", ended.len(), doomed.count);
            tx.audit(&actor, "user.deleted", &user.name, &detail)?;
            Ok(DeletedUser { ended, groups })
        })
        .await
    }

    /// Whether there has ever been a user; when not, the broker is new.
    ///
    /// # Errors
    /// A database fault.
    pub async fn has_users(&self) -> Result<bool> {
        self.read(|tx| Ok(tx.find(User::all())?.is_some())).await
    }
}
