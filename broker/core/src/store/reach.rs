//! Where somebody may do something: everywhere, with what is their own, and with what some pools and groups have.
//!
//! ```text
//! roles, token ─► Caller::reach(permission) ─► Reach ─┬─► holds(Object)? one thing
//!                                                     └─► lists: what is in it, page by page
//! ```
//!
//! Here alone it is decided whether something is within a reach. Knows nothing of who asks, nor of what is then done.

use super::{Grant, Result, Store, all};
use lucarne_control::api::{Permission, ScopeKind};
use lucarne_control::{GroupId, PoolId, UserId};
use lucarne_db::Tx;
use lucarne_db::tables::{EVERYONE_ID, Membership};
use std::collections::{BTreeMap, BTreeSet};

/// Where somebody may do something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    pub(super) everywhere: bool,
    pub(super) own: Option<UserId>,
    pub(super) pools: BTreeSet<PoolId>,
    pub(super) groups: BTreeSet<GroupId>,
}

/// What something is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A pool, and who may use it.
    Pool(PoolId),
    /// A user.
    User(UserId),
    /// A group.
    Group(GroupId),
    /// A desktop, with its session.
    Desktop {
        /// Its pool.
        pool: PoolId,
        /// Whose it is, or was last; nobody's while it waits for a user.
        owner: Option<UserId>,
    },
}

impl Object {
    /// The user whose groups it belongs to.
    #[must_use]
    pub fn owner(self) -> Option<UserId> {
        match self {
            Self::User(user) => Some(user),
            Self::Desktop { owner, .. } => owner,
            Self::Pool(_) | Self::Group(_) => None,
        }
    }
}

impl Reach {
    /// With everything.
    #[must_use]
    pub fn everywhere() -> Self {
        Self { everywhere: true, ..Self::default() }
    }

    /// With what is this user's own.
    #[must_use]
    pub fn own(user: UserId) -> Self {
        Self { own: Some(user), ..Self::default() }
    }

    /// It is everything.
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        self.everywhere
    }

    /// There is nothing in it, whatever there is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.everywhere && self.own.is_none() && self.pools.is_empty() && self.groups.is_empty()
    }

    /// What is in it depends on who is in some groups; gives those.
    #[must_use]
    pub fn groups(&self) -> &BTreeSet<GroupId> {
        &self.groups
    }

    /// The pools that are in it, in the order of their ids.
    pub(super) fn pools(&self) -> impl Iterator<Item = PoolId> {
        self.pools.iter().copied()
    }

    /// Whether something is in it whose owner is in these groups.
    #[must_use]
    pub fn holds(&self, object: Object, groups: &BTreeSet<GroupId>) -> bool {
        self.known(object).unwrap_or_else(|| !self.groups.is_disjoint(groups))
    }

    /// The same where it can be told without the groups of the owner.
    fn known(&self, object: Object) -> Option<bool> {
        let within = match object {
            Object::Pool(pool) => self.pools.contains(&pool),
            Object::User(_) => false,
            Object::Group(group) => self.groups.contains(&group),
            Object::Desktop { pool, owner } => {
                self.pools.contains(&pool) || owner.is_some() && owner == self.own
            }
        };
        if self.everywhere || within {
            return Some(true);
        }
        // Everyone is in that group, without a row that says so.
        match object.owner() {
            Some(_) if self.groups.contains(&EVERYONE_ID) => Some(true),
            Some(_) if !self.groups.is_empty() => None,
            _ => Some(false),
        }
    }

    /// With what a role gives in its scope too, if that is one of these.
    pub(super) fn add(&mut self, grant: &Grant, one_of: &[Permission]) {
        if !one_of.iter().any(|permission| grant.permissions.contains(permission)) {
            return;
        }
        match grant.kind {
            ScopeKind::Pool => drop(self.pools.insert(PoolId(grant.id))),
            ScopeKind::Group => drop(self.groups.insert(GroupId(grant.id))),
        }
    }

    /// The user, where nothing but their own is in it.
    pub(super) fn only_own(&self) -> Option<UserId> {
        let more = self.everywhere || !self.pools.is_empty() || !self.groups.is_empty();
        self.own.filter(|_| !more)
    }

    /// The same with the members of its groups, for many desktops or sessions.
    pub(super) fn sieve(&self, tx: &mut Tx<'_>) -> Result<Sieve<'_>> {
        let (mut members, everyones) = (BTreeSet::new(), self.groups.contains(&EVERYONE_ID));
        if !self.everywhere && !everyones {
            for group in &self.groups {
                let rows = all(tx, || Membership::in_group(group), |m: &Membership| m.user_id)?;
                members.extend(rows.into_iter().map(|m| m.user_id));
            }
        }
        Ok(Sieve { reach: self, members })
    }
}

/// A reach, and who is in its groups.
pub(super) struct Sieve<'a> {
    reach: &'a Reach,
    members: BTreeSet<UserId>,
}

impl Sieve<'_> {
    /// Whether a desktop, or a session on it, is in the reach.
    pub fn holds(&self, pool: PoolId, owner: Option<UserId>) -> bool {
        let member = || owner.is_some_and(|owner| self.members.contains(&owner));
        self.reach.known(Object::Desktop { pool, owner }).unwrap_or_else(member)
    }
}

/// Whether something is in a reach.
pub(super) fn holds(tx: &mut Tx<'_>, reach: &Reach, object: Object) -> Result<bool> {
    if let Some(known) = reach.known(object) {
        return Ok(known);
    }
    let Some(owner) = object.owner() else { return Ok(false) };
    Ok(reach.holds(object, &groups_of(tx, owner)?))
}

/// The groups that a user is in.
fn groups_of(tx: &mut Tx<'_>, user: UserId) -> Result<BTreeSet<GroupId>> {
    let rows = tx.list(Membership::of(&user))?;
    Ok(rows.into_iter().map(|m| m.group_id).chain([EVERYONE_ID]).collect())
}

/// The groups that each of these users is in.
pub(super) fn all_groups_of(
    tx: &mut Tx<'_>,
    users: BTreeSet<UserId>,
) -> Result<BTreeMap<UserId, BTreeSet<GroupId>>> {
    users.into_iter().map(|user| Ok((user, groups_of(tx, user)?))).collect()
}

/// At most `limit` of those who are in the groups of a reach, after this one, in the order of their ids.
pub(super) fn members(
    tx: &mut Tx<'_>,
    reach: &Reach,
    after: Option<UserId>,
    limit: usize,
) -> Result<BTreeSet<UserId>> {
    let mut members = BTreeSet::new();
    for group in &reach.groups {
        let select = Membership::in_group(group).limit(limit);
        let rows = tx.list(match after {
            Some(after) => select.after(&after),
            None => select,
        })?;
        members.extend(rows.into_iter().map(|m| m.user_id));
    }
    // The first of all are among the first of each.
    Ok(members.into_iter().take(limit).collect())
}

impl Store {
    /// Whether something is in a reach now.
    ///
    /// # Errors
    /// A database fault.
    pub async fn holds(&self, reach: &Reach, object: Object) -> Result<bool> {
        if let Some(known) = reach.known(object) {
            return Ok(known);
        }
        let reach = reach.clone();
        self.read(move |tx| holds(tx, &reach, object)).await
    }
}
