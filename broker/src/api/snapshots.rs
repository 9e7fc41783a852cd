//! `/desktops/{id}/snapshots` and `/snapshots`: personal desktops as they were.

use super::caller::SignedIn;
use super::extract::{Body, InPath};
use super::problem::{ApiError, Result};
use super::scoped::Scoped;
use crate::app::App;
use crate::viewers::End;
use crate::{view, watch};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use lucarne_control::SnapshotId;
use lucarne_control::api::{Desktop, Page, Permission, Problem};
use lucarne_control::snapshot::{NewClone, NewSnapshot, Snapshot};
use lucarne_core::Change;
use lucarne_core::store::{Caller, CloneRequest, Object};
use std::sync::Arc;

/// Whether the caller may change the snapshots of a desktop that they may do something with: administrators, and its user where its
/// pool lets them.
async fn check(app: &App, caller: &Caller, object: Object, users: bool) -> Result<()> {
    if users || app.store.holds(&caller.reach(&[Permission::DesktopsWrite]), object).await? {
        return Ok(());
    }
    let detail = "the desktop's pool lets only administrators see to its snapshots; ask one, or have them allow it (`snapshots.users`)";
    Err(ApiError::new(StatusCode::FORBIDDEN, "not_permitted", detail))
}

/// The snapshots of a desktop, oldest first.
#[utoipa::path(get, path = "/desktops/{id}/snapshots", tag = "snapshots", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, description = "The desktop's id, or a live one's name")), responses(
    (status = 200, body = Page<Snapshot>, description = "All of them: there are never more than some hundred"),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "desktop_not_found"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(id): InPath<String>,
) -> Result<Json<Page<Snapshot>>> {
    let (_, row) = caller.desktop(&app, &id).await?;
    Ok(Json(Page { items: app.store.snapshots(row.id).await?, next: None }))
}

/// Take a snapshot of a personal desktop: of its disk, and of its memory where it runs or is suspended. It runs on meanwhile.
#[utoipa::path(post, path = "/desktops/{id}/snapshots", tag = "snapshots", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, description = "The desktop's id, or a live one's name")), request_body = NewSnapshot, responses(
    (status = 202, body = Snapshot, description = "Decided and on record: its state says how far it is"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "desktop_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json",
        description = "not_personal, quota_reached, name_taken, desktop_not_ready, desktop_in_use: it is being put back"),
))]
pub async fn create(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(id): InPath<String>,
    Body(new): Body<NewSnapshot>,
) -> Result<impl IntoResponse> {
    new.check().map_err(ApiError::invalid)?;
    let (caller, row) = caller.desktop(&app, &id).await?;
    check(&app, &caller, row.object(), app.store.users_may_snapshot(row.id).await?).await?;
    let (snapshot, host) = app.store.take_snapshot(&caller.name, row.id, &new).await?;
    app.control.changed([Change::Host(host)]);
    Ok((StatusCode::ACCEPTED, Json(snapshot)))
}

/// One snapshot.
#[utoipa::path(get, path = "/snapshots/{id}", tag = "snapshots", security(("cookie" = []), ("token" = [])),
    params(("id" = SnapshotId, Path)), responses(
    (status = 200, body = Snapshot),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "snapshot_not_found"),
))]
pub async fn show(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(id): InPath<SnapshotId>,
) -> Result<Json<Snapshot>> {
    let (_, snapshot, _) = caller.snapshot(&app, id).await?;
    Ok(Json(snapshot))
}

/// Delete a snapshot, or give one up that is being taken. What others need of it they keep.
#[utoipa::path(delete, path = "/snapshots/{id}", tag = "snapshots", security(("cookie" = []), ("token" = [])),
    params(("id" = SnapshotId, Path)), responses(
    (status = 202, description = "Decided and on record"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "snapshot_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "snapshot_in_use: its desktop is being put back to it"),
))]
pub async fn delete(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(id): InPath<SnapshotId>,
) -> Result<StatusCode> {
    let (caller, _, of) = caller.snapshot(&app, id).await?;
    check(&app, &caller, of.object, of.users).await?;
    let host = app.store.delete_snapshot(&caller.name, id).await?;
    app.control.changed(host.map(Change::Host));
    Ok(StatusCode::ACCEPTED)
}

/// Put a desktop back to a snapshot: what is on its disk now, and was not then, is lost, and its user's session ends. It runs
/// afterwards if it did before, with what was open then where the snapshot has its memory.
#[utoipa::path(post, path = "/snapshots/{id}/revert", tag = "snapshots", security(("cookie" = []), ("token" = [])),
    params(("id" = SnapshotId, Path)), responses(
    (status = 202, description = "Decided and on record"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "snapshot_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "snapshot_in_use: it is not ready"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "host_in_maintenance"),
))]
pub async fn revert(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(id): InPath<SnapshotId>,
) -> Result<StatusCode> {
    let (caller, _, of) = caller.snapshot(&app, id).await?;
    check(&app, &caller, of.object, of.users).await?;
    let changed = app.store.put_back(&caller.name, id).await?;
    watch::tell(&app, [&changed], &End::PutBack);
    Ok(StatusCode::ACCEPTED)
}

/// Make a desktop of a snapshot for another user, or in another pool of the same image, machine and network: with its disk, with what was open then where the snapshot has its memory, and with an identity of its
/// own. A snapshot that is being taken is waited for.
#[utoipa::path(post, path = "/snapshots/{id}/clone", tag = "snapshots", security(("cookie" = []), ("token" = [])),
    params(("id" = SnapshotId, Path)), request_body = NewClone, responses(
    (status = 201, body = Desktop),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted, not_entitled"),
    (status = 404, body = Problem, content_type = "application/problem+json",
        description = "snapshot_not_found, user_not_found, pool_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json",
        description = "snapshot_in_use: it is being deleted, or could not be taken; already_assigned, other_template, pool_full, quota_reached"),
    (status = 503, body = Problem, content_type = "application/problem+json",
        description = "no_host: the snapshot's host does not take the clone"),
))]
pub async fn clone(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(snapshot): InPath<SnapshotId>,
    Body(new): Body<NewClone>,
) -> Result<impl IntoResponse> {
    let user = app.store.user(&new.user).await?;
    let pool = match new.pool {
        Some(pool) => pool,
        None => {
            let (snapshot, _) = app.store.snapshot(snapshot).await?;
            app.store.desktop(&snapshot.desktop.to_string()).await?.pool
        }
    };
    let request = CloneRequest { snapshot, user: user.id, actor: caller.name, pool };
    let desktop = app.control.clone_snapshot(request).await?;
    Ok((StatusCode::CREATED, Json(view::desktop(desktop, &app.control.fleet))))
}
