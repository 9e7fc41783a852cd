//! `/disks`: users' disks, which outlive the desktops that they are in.

use super::caller::SignedIn;
use super::extract::{InPath, InQuery, Paging, after, limit, page};
use super::problem::Result;
use crate::app::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lucarne_control::DiskId;
use lucarne_control::api::{Disk, Page, Problem};
use lucarne_core::Change;
use std::sync::Arc;

/// All users' disks.
#[utoipa::path(get, path = "/disks", tag = "disks", security(("cookie" = []), ("token" = [])),
    params(Paging), responses(
    (status = 200, body = Page<Disk>),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    _: SignedIn,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<Page<Disk>>> {
    let n = limit(paging.limit)?;
    Ok(page(app.store.disks(after(&paging.after)?, n + 1).await?, n, |disk| disk.id.to_string()))
}

/// One disk.
#[utoipa::path(get, path = "/disks/{id}", tag = "disks", security(("cookie" = []), ("token" = [])),
    params(("id" = DiskId, Path)), responses(
    (status = 200, body = Disk),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "disk_not_found"),
))]
pub async fn show(
    State(app): State<Arc<App>>,
    _: SignedIn,
    InPath(id): InPath<DiskId>,
) -> Result<Json<Disk>> {
    Ok(Json(app.store.disk(id).await?))
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
    SignedIn(caller): SignedIn,
    InPath(id): InPath<DiskId>,
) -> Result<StatusCode> {
    let host = app.store.delete_disk(&caller.name, id).await?;
    app.control.changed(host.map(Change::Host));
    Ok(StatusCode::NO_CONTENT)
}
