//! How many desktops a user may have of all pools together, and how many the members of a group.
//!
//! What counts for a group is on record as a charge, made when a desktop is given to a member, or when the group gets its limit.
//! Who leaves the group takes no charge along: it is over with the desktop.

use super::{Error, Reach, Result, Store, rows, users};
use lucarne_control::api::{self, QuotaUse};
use lucarne_control::{GroupId, UserId};
use lucarne_db::tables::{Assignment, Charge, EVERYONE_ID, Group, Membership, User};
use lucarne_db::{Locked, Tx};
use std::collections::BTreeSet;
use uuid::Uuid;

/// The groups of a user, in the order in which everybody holds them.
fn groups(tx: &mut Tx<'_>, user: UserId) -> Result<BTreeSet<GroupId>> {
    let mut ids: BTreeSet<GroupId> =
        tx.list(Membership::of(&user))?.into_iter().map(|m| m.group_id).collect();
    ids.insert(EVERYONE_ID);
    Ok(ids)
}

/// Those of them that have a limit.
fn limited(tx: &mut Tx<'_>, user: UserId) -> Result<Vec<GroupId>> {
    let ids = groups(tx, user)?;
    let groups = tx.peek_all(ids.iter().map(Group::key))?;
    let mut limited: Vec<_> = groups.into_iter().filter(|g| g.max_desktops.is_some()).map(|g| g.id).collect();
    limited.sort();
    Ok(limited)
}

/// The user who wants a desktop, held so that what they have does not change; who has a limit, alone.
pub(super) fn hold(tx: &mut Tx<'_>, user: UserId) -> Result<Option<User>> {
    // Looked at first: who holds a row with others cannot come to hold it alone beside them.
    if tx.peek(User::key(&user))?.is_some_and(|row| row.max_desktops.is_some()) {
        return Ok(tx.lock(User::key(&user))?.map(Locked::into_row));
    }
    let row = tx.share(User::key(&user))?;
    if row.as_ref().is_some_and(|row| row.max_desktops.is_some()) {
        return Err(tx.again("the user has a quota since").into());
    }
    Ok(row)
}

/// The groups that a user's next desktop counts for, held until the end.
#[derive(Debug)]
pub(super) struct Counted(Vec<GroupId>);

/// Refuses a desktop that would be one too many for the user or a group of theirs. The groups are held until the end.
pub(super) fn check(tx: &mut Tx<'_>, user: &User) -> Result<Counted> {
    let ids = groups(tx, user.id)?;
    let limits = tx.peek_all(ids.iter().map(Group::key))?;
    let mut limited = Vec::new();
    for id in ids {
        if limits.iter().any(|group| group.id == id && group.max_desktops.is_some()) {
            limited.extend(tx.lock(Group::key(&id))?.filter(|g| g.max_desktops.is_some()).map(|g| g.id));
        } else if tx.share(Group::key(&id))?.is_some_and(|group| group.max_desktops.is_some()) {
            return Err(tx.again("a group has a quota since").into());
        }
    }
    match obstacle_of(tx, user, &limited)? {
        Some(refused) => Err(refused),
        None => Ok(Counted(limited)),
    }
}

/// What would refuse the user a desktop now; nothing where nothing does. Only looked at.
pub(super) fn obstacle(tx: &mut Tx<'_>, user: &User) -> Result<Option<Error>> {
    let limited = limited(tx, user.id)?;
    obstacle_of(tx, user, &limited)
}

fn obstacle_of(tx: &mut Tx<'_>, user: &User, limited: &[GroupId]) -> Result<Option<Error>> {
    if let Some(max) = user.max_desktops
        && tx.count(Assignment::live_of_user(&user.id))? >= u64::from(max)
    {
        return Ok(Some(Error::QuotaReached { what: "user", name: user.name.clone(), max }));
    }
    for id in limited {
        let Some(group) = tx.peek(Group::key(id))? else { continue };
        if let Some(max) = group.max_desktops
            && tx.count(Charge::of_group(id))? >= u64::from(max)
        {
            return Ok(Some(Error::QuotaReached { what: "group", name: group.name, max }));
        }
    }
    Ok(None)
}

/// Counts an assignment that begins for the groups of its user, which [`check`] holds.
pub(super) fn charge(tx: &mut Tx<'_>, counted: &Counted, assignment_id: Uuid) -> Result<()> {
    for group_id in &counted.0 {
        tx.insert(&Charge { group_id: *group_id, assignment_id })?;
    }
    Ok(())
}

/// An assignment that ended counts for nobody any more.
pub(super) fn discharge(tx: &mut Tx<'_>, assignment: Uuid) -> Result<()> {
    for charge in tx.list(Charge::of_assignment(&assignment))? {
        tx.remove(Charge::key(&charge.group_id, &assignment))?;
    }
    Ok(())
}

/// Who is in a group.
fn members(tx: &mut Tx<'_>, group: GroupId) -> Result<Vec<UserId>> {
    if group == EVERYONE_ID {
        return Ok(super::all(tx, User::living, |user| user.id)?.into_iter().map(|user| user.id).collect());
    }
    let members = super::all(tx, || Membership::in_group(&group), |m| m.user_id)?;
    Ok(members.into_iter().map(|m| m.user_id).collect())
}

fn said(max: Option<u32>) -> String {
    max.map_or_else(|| "no limit".to_owned(), |max| format!("at most {max} desktops"))
}

impl Store {
    /// Sets how many desktops a user may have at once; those that they have stay.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn set_user_quota(&self, actor: &str, user: &str, max: Option<u32>) -> Result<api::User> {
        let (actor, user) = (actor.to_owned(), user.to_owned());
        self.write(move |tx| {
            let mut row = users::lock(tx, &user)?;
            if row.max_desktops != max {
                row.max_desktops = max;
                tx.update(&row)?;
                tx.audit(&actor, "user.quota_changed", &row.name, &said(max))?;
            }
            users::view(tx, row.into_row())
        })
        .await
    }

    /// Sets how many desktops the members of a group may have at once, together; those that they have stay, and count.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn set_group_quota(&self, actor: &str, group: &str, max: Option<u32>) -> Result<api::Group> {
        let (actor, name) = (actor.to_owned(), group.to_owned());
        self.write(move |tx| {
            let row = tx.lock_first(Group::named(&name))?;
            let mut row = row.ok_or_else(|| Error::not_found("group", &name))?;
            let before = row.max_desktops;
            if before != max {
                row.max_desktops = max;
                tx.update(&row)?;
                tx.audit(&actor, "group.quota_changed", &row.name, &said(max))?;
            }
            let kept: BTreeSet<Uuid> =
                tx.list(Charge::of_group(&row.id))?.into_iter().map(|charge| charge.assignment_id).collect();
            match (before, max) {
                (None, Some(_)) => {
                    for user in members(tx, row.id)? {
                        for assignment in tx.list(Assignment::live_of_user(&user))? {
                            // One that is just ending counts for nobody.
                            let live = tx.share(Assignment::key(&assignment.id))?;
                            let live = live.is_some_and(|live| live.ended_at.is_none());
                            if live && !kept.contains(&assignment.id) {
                                tx.insert(&Charge { group_id: row.id, assignment_id: assignment.id })?;
                            }
                        }
                    }
                }
                (Some(_), None) => {
                    for assignment in kept {
                        tx.remove(Charge::key(&row.id, &assignment))?;
                    }
                }
                _ => {}
            }
            view(tx, row.into_row())
        })
        .await
    }

    /// The group of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn group(&self, name: &str) -> Result<api::Group> {
        let name = name.to_owned();
        self.read(move |tx| {
            let group = tx.find(Group::named(&name))?.ok_or_else(|| Error::not_found("group", &name))?;
            view(tx, group)
        })
        .await
    }

    /// At most `limit` groups of this reach after this one, oldest first.
    ///
    /// # Errors
    /// A database fault.
    pub async fn groups(&self, of: &Reach, after: Option<GroupId>, limit: i64) -> Result<Vec<api::Group>> {
        let of = of.clone();
        self.read(move |tx| {
            let groups = if of.is_everywhere() {
                let select = Group::all().limit(rows(limit));
                tx.list(match after {
                    Some(after) => select.after(&after),
                    None => select,
                })?
            } else {
                // Groups stay, so the page is full.
                let ids = of.groups().iter().filter(|id| after.is_none_or(|after| **id > after));
                let mut groups = tx.peek_all(ids.take(rows(limit)).map(Group::key))?;
                groups.sort_by_key(|group| group.id);
                groups
            };
            groups.into_iter().map(|group| view(tx, group)).collect()
        })
        .await
    }
}

fn view(tx: &mut Tx<'_>, group: Group) -> Result<api::Group> {
    let quota = match group.max_desktops {
        Some(max_desktops) => {
            let used = tx.count(Charge::of_group(&group.id))?;
            Some(QuotaUse { max_desktops, desktops: u32::try_from(used).unwrap_or(u32::MAX) })
        }
        None => None,
    };
    Ok(api::Group { id: group.id, name: group.name, quota })
}
