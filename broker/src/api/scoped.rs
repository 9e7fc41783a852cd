//! Operations on things, for whoever may do them with some things only: the thing is named, and then it is judged.
//!
//! ```text
//! request ─► SignedIn   the permission everywhere, or 403              ─► Caller
//!         └► Scoped     the permission somewhere, or 403 ─► the thing, ─► Caller, the thing
//!                                                           or 404/403
//! ```
//!
//! A handler that takes [`SignedIn`](super::caller::SignedIn) is closed to those whose roles hold in a scope. One that takes [`Scoped`]
//! learns who asks only once it has said of what; what one may not see is not there.

use super::access::Need;
use super::caller::{admitted, takes};
use super::problem::{ApiError, Result};
use crate::app::App;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use lucarne_control::api::{Disk, Permission, User};
use lucarne_control::snapshot::Snapshot;
use lucarne_control::{DiskId, SessionId, SnapshotId};
use lucarne_core::store::{Caller, DesktopRow, Error, Object, PoolRow, Reach, SessionRow, SnapshotOf};
use std::sync::Arc;

/// Someone who is signed in and may do what they ask for with some things at least: see [`Need::Within`].
pub struct Scoped {
    caller: Caller,
    /// What the operation takes, one of them.
    takes: &'static [Permission],
}

impl FromRequestParts<Arc<App>> for Scoped {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let (caller, need) = admitted(parts, app).await?;
        let takes = match need {
            Need::OneOf(takes) | Need::Within(takes) => takes,
            // Nothing is within what takes no permission.
            Need::Nothing | Need::SignIn => &[],
        };
        Ok(Self { caller, takes })
    }
}

/// What it takes to see a desktop, a session or a home disk.
const SEE_DESKTOPS: &[Permission] = &[Permission::Own, Permission::DesktopsRead];

/// What it takes to see a pool.
const SEE_POOLS: &[Permission] = &[Permission::PoolsRead];

/// What it takes to see a user.
const SEE_USERS: &[Permission] = &[Permission::UsersRead];

fn missing(what: &'static str, name: impl ToString) -> Error {
    Error::NotFound { what, name: name.to_string() }
}

/// Goes on if the caller has one of the permissions for the object.
///
/// # Errors
/// `not_permitted` where they may see it, and `missing` where they may not.
async fn judge(
    app: &App,
    caller: &Caller,
    needs: &[Permission],
    sees: &[Permission],
    object: Object,
    missing: Error,
) -> Result<()> {
    if app.store.holds(&caller.reach(needs), object).await? {
        return Ok(());
    }
    if app.store.holds(&caller.reach(sees), object).await? {
        let detail = format!("this takes {} for it, which {} has not", takes(needs), caller.name);
        return Err(ApiError::new(StatusCode::FORBIDDEN, "not_permitted", detail));
    }
    Err(missing.into())
}

/// Goes on if the caller may see the desktop.
///
/// # Errors
/// `desktop_not_found`.
pub async fn see_desktop(app: &App, caller: &Caller, row: &DesktopRow, asked: &str) -> Result<()> {
    judge(app, caller, SEE_DESKTOPS, SEE_DESKTOPS, row.object(), missing("desktop", asked)).await
}

impl Scoped {
    /// The desktop of that id or name, if the caller may do with it what they ask for.
    ///
    /// # Errors
    /// `desktop_not_found`, `not_permitted`.
    pub async fn desktop(self, app: &App, asked: &str) -> Result<(Caller, DesktopRow)> {
        let row = app.store.desktop(asked).await?;
        let missing = missing("desktop", asked);
        judge(app, &self.caller, self.takes, SEE_DESKTOPS, row.object(), missing).await?;
        Ok((self.caller, row))
    }

    /// The session, if the caller may do with it what they ask for.
    ///
    /// # Errors
    /// `session_not_found`, `not_permitted`.
    pub async fn session(self, app: &App, id: SessionId) -> Result<(Caller, SessionRow)> {
        let row = app.store.session(id).await?;
        let missing = missing("session", id);
        judge(app, &self.caller, self.takes, SEE_DESKTOPS, row.object(), missing).await?;
        Ok((self.caller, row))
    }

    /// The disk, if the caller may do with it what they ask for.
    ///
    /// # Errors
    /// `disk_not_found`, `not_permitted`.
    pub async fn disk(self, app: &App, id: DiskId) -> Result<(Caller, Disk)> {
        let (disk, object) = app.store.disk(id).await?;
        judge(app, &self.caller, self.takes, SEE_DESKTOPS, object, missing("disk", id)).await?;
        Ok((self.caller, disk))
    }

    /// The snapshot, and whose it is, if the caller may do with its desktop what they ask for.
    ///
    /// # Errors
    /// `snapshot_not_found`, `not_permitted`.
    pub async fn snapshot(self, app: &App, id: SnapshotId) -> Result<(Caller, Snapshot, SnapshotOf)> {
        let (snapshot, of) = app.store.snapshot(id).await?;
        judge(app, &self.caller, self.takes, SEE_DESKTOPS, of.object, missing("snapshot", id)).await?;
        Ok((self.caller, snapshot, of))
    }

    /// The pool of that name or id, if the caller may do with it what they ask for.
    ///
    /// # Errors
    /// `pool_not_found`, `not_permitted`.
    pub async fn pool(self, app: &App, asked: &str) -> Result<(Caller, PoolRow)> {
        let row = app.store.pool(asked).await?;
        let missing = missing("pool", asked);
        judge(app, &self.caller, self.takes, SEE_POOLS, Object::Pool(row.id), missing).await?;
        Ok((self.caller, row))
    }

    /// The user of that name or id, if the caller may do with them what they ask for.
    ///
    /// # Errors
    /// `user_not_found`, `not_permitted`.
    pub async fn user(self, app: &App, asked: &str) -> Result<(Caller, User)> {
        let row = app.store.user(asked).await?;
        let missing = missing("user", asked);
        judge(app, &self.caller, self.takes, SEE_USERS, Object::User(row.id), missing).await?;
        Ok((self.caller, row))
    }

    /// The user and the pool of the desktop that they would get of it, if the caller may do with it what they ask for. Whoever may do
    /// it with neither is not told which of both there are.
    ///
    /// # Errors
    /// `user_not_found`, `pool_not_found`.
    pub async fn desktop_of(self, app: &App, user: &str, pool: &str) -> Result<(Caller, User, PoolRow)> {
        let found = (found(app.store.user(user).await)?, found(app.store.pool(pool).await)?);
        let reach = self.caller.reach(self.takes);
        let theirs = match &found.0 {
            Some(user) => app.store.holds(&reach, Object::User(user.id)).await?,
            None => reach.is_everywhere(),
        };
        let within = match &found.1 {
            Some(pool) => app.store.holds(&reach, Object::Pool(pool.id)).await?,
            None => reach.is_everywhere(),
        };
        match found {
            (Some(user), Some(pool)) if theirs || within => Ok((self.caller, user, pool)),
            // The rest is told to whom one of both is.
            (Some(_), None) if theirs => Err(missing("pool", pool).into()),
            (None, _) if within => Err(missing("user", user).into()),
            _ if reach.groups().is_empty() => Err(missing("pool", pool).into()),
            _ => Err(missing("user", user).into()),
        }
    }

    /// Who asks, and what they may do it with: for lists, which hold what is within, and no more.
    #[must_use]
    pub fn reach(self) -> (Caller, Reach) {
        let reach = self.caller.reach(self.takes);
        (self.caller, reach)
    }
}

fn found<T>(result: lucarne_core::store::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
