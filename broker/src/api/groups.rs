//! `/groups`: named sets of users.

use super::caller::Administrator;
use super::extract::{InQuery, Paging, after, limit, page};
use super::problem::Result;
use crate::app::App;
use axum::Json;
use axum::extract::State;
use lucarne_control::api::{Group, Page, Problem};
use std::sync::Arc;

/// All groups.
#[utoipa::path(get, path = "/groups", tag = "groups", security(("cookie" = []), ("token" = [])),
    params(Paging), responses(
    (status = 200, body = Page<Group>),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "administrators_only"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    _: Administrator,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<Page<Group>>> {
    let n = limit(paging.limit)?;
    Ok(page(app.store.groups(after(&paging.after)?, n + 1).await?, n, |g| g.id.to_string()))
}
