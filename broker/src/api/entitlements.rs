//! `/pools/{pool}/users` and `/pools/{pool}/groups`: who may use a pool. Taking it away ends the streams that rested on it, within
//! seconds, through whichever broker they go; the desktop stays until it is logged off.

use super::extract::InPath;
use super::problem::{ApiError, Result};
use super::scoped::Scoped;
use crate::app::App;
use crate::auth::names::check_name;
use crate::watch;
use axum::extract::State;
use axum::http::StatusCode;
use lucarne_control::api::Problem;
use lucarne_core::Change;
use lucarne_core::store::Holder;
use std::sync::Arc;

/// Ends the streams of who is not entitled any more, here at once and at other brokers as they hear of it.
pub async fn withdrawn(app: &App) {
    app.control.changed([Change::Entitlements]);
    watch::check_all_sessions(app).await;
}

/// Let a user use a pool.
#[utoipa::path(put, path = "/pools/{pool}/users/{user}", tag = "entitlements", security(("cookie" = []), ("token" = [])),
    params(("pool" = String, Path, description = "Name or id"), ("user" = String, Path, description = "Name or id")), responses(
    (status = 204, description = "So it is"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "pool_not_found, user_not_found"),
))]
pub async fn add_user(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath((pool, user)): InPath<(String, String)>,
) -> Result<StatusCode> {
    let (caller, pool) = caller.pool(&app, &pool).await?;
    app.store.entitle(&caller.name, &pool.id.to_string(), &Holder::User(user)).await?;
    app.control.changed([Change::Pool(pool.id)]);
    Ok(StatusCode::NO_CONTENT)
}

/// Do not let a user use a pool by their name any more. Unless a group of theirs may, their stream is cut.
#[utoipa::path(delete, path = "/pools/{pool}/users/{user}", tag = "entitlements", security(("cookie" = []), ("token" = [])),
    params(("pool" = String, Path, description = "Name or id"), ("user" = String, Path, description = "Name or id")), responses(
    (status = 204, description = "So it is"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "pool_not_found, user_not_found"),
))]
pub async fn remove_user(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath((pool, user)): InPath<(String, String)>,
) -> Result<StatusCode> {
    let (caller, pool) = caller.pool(&app, &pool).await?;
    app.store.withdraw(&caller.name, &pool.id.to_string(), &Holder::User(user)).await?;
    app.control.changed([Change::Pool(pool.id)]);
    withdrawn(&app).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Let the members of a group use a pool; the group is made when there is none.
#[utoipa::path(put, path = "/pools/{pool}/groups/{group}", tag = "entitlements", security(("cookie" = []), ("token" = [])),
    params(("pool" = String, Path, description = "Name or id"), ("group" = String, Path, pattern = "^[a-z][a-z0-9._-]{0,31}$", description = "Name; `everyone` is all users")), responses(
    (status = 204, description = "So it is"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "pool_not_found"),
))]
pub async fn add_group(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath((pool, group)): InPath<(String, String)>,
) -> Result<StatusCode> {
    check_name("group", &group).map_err(ApiError::invalid)?;
    let (caller, pool) = caller.pool(&app, &pool).await?;
    app.store.entitle(&caller.name, &pool.id.to_string(), &Holder::Group(group)).await?;
    app.control.changed([Change::Pool(pool.id)]);
    Ok(StatusCode::NO_CONTENT)
}

/// Do not let the members of a group use a pool any more.
#[utoipa::path(delete, path = "/pools/{pool}/groups/{group}", tag = "entitlements", security(("cookie" = []), ("token" = [])),
    params(("pool" = String, Path, description = "Name or id"), ("group" = String, Path, description = "Name; `everyone` is all users")), responses(
    (status = 204, description = "So it is"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "pool_not_found, group_not_found"),
))]
pub async fn remove_group(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath((pool, group)): InPath<(String, String)>,
) -> Result<StatusCode> {
    let (caller, pool) = caller.pool(&app, &pool).await?;
    app.store.withdraw(&caller.name, &pool.id.to_string(), &Holder::Group(group)).await?;
    app.control.changed([Change::Pool(pool.id)]);
    withdrawn(&app).await;
    Ok(StatusCode::NO_CONTENT)
}
