//! `/disks`: users' disks, which outlive the desktops that they are in.

use super::extract::{InPath, InQuery, Paging, after, limit, page};
use super::problem::Result;
use super::scoped::Scoped;
use crate::app::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lucarne_control::DiskId;
use lucarne_control::api::{Disk, Page, Problem};
use lucarne_core::Change;
use std::sync::Arc;

/// The caller's home disks, and with `desktops:read` all those that it holds for.
#[utoipa::path(get, path = "/disks", tag = "disks", security(("cookie" = []), ("token" = [])),
    params(Paging), responses(
    (status = 200, body = Page<Disk>),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<Page<Disk>>> {
    let n = limit(paging.limit)?;
    let (_, reach) = caller.reach();
    Ok(page(app.store.disks(&reach, after(&paging.after)?, n + 1).await?, n, |disk| disk.id.to_string()))
}

/// One disk.
#[utoipa::path(get, path = "/disks/{id}", tag = "disks", security(("cookie" = []), ("token" = [])),
    params(("id" = DiskId, Path)), responses(
    (status = 200, body = Disk),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "disk_not_found"),
))]
pub async fn show(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(id): InPath<DiskId>,
) -> Result<Json<Disk>> {
    let (_, disk) = caller.disk(&app, id).await?;
    Ok(Json(disk))
}

/// Destroy a disk with everything that its user saved. The user's next desktop of the pool has a new one.
#[utoipa::path(delete, path = "/disks/{id}", tag = "disks", security(("cookie" = []), ("token" = [])),
    params(("id" = DiskId, Path)), responses(
    (status = 204, description = "Its host is told to destroy it"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "disk_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "disk_in_use: it is in a desktop"),
))]
pub async fn delete(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(id): InPath<DiskId>,
) -> Result<StatusCode> {
    let (caller, _) = caller.disk(&app, id).await?;
    let host = app.store.delete_disk(&caller.name, id).await?;
    app.control.changed(host.map(Change::Host));
    Ok(StatusCode::NO_CONTENT)
}
