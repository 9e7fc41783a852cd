//! `/groups`: named sets of users.

use super::caller::SignedIn;
use super::entitlements::withdrawn;
use super::extract::{Body, InPath, InQuery, Paging, after, limit, page};
use super::problem::{ApiError, Result};
use super::scoped::Scoped;
use super::users::check_quota;
use crate::app::App;
use crate::auth::names::check_name;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lucarne_control::api::{Group, NewQuota, Page, Problem};
use lucarne_core::Change;
use std::sync::Arc;

/// All groups that the caller may see.
#[utoipa::path(get, path = "/groups", tag = "groups", security(("cookie" = []), ("token" = [])),
    params(Paging), responses(
    (status = 200, body = Page<Group>),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<Page<Group>>> {
    let n = limit(paging.limit)?;
    let (_, reach) = caller.reach();
    Ok(page(app.store.groups(&reach, after(&paging.after)?, n + 1).await?, n, |g| g.id.to_string()))
}

/// Put a user into a group, which is made when there is none.
#[utoipa::path(put, path = "/users/{user}/groups/{group}", tag = "groups", security(("cookie" = []), ("token" = [])),
    params(("user" = String, Path, description = "Name or id"), ("group" = String, Path, pattern = "^[a-z][a-z0-9._-]{0,31}$", description = "Name; `everyone` is all users")), responses(
    (status = 204, description = "So it is"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "user_not_found"),
))]
pub async fn join(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath((user, group)): InPath<(String, String)>,
) -> Result<StatusCode> {
    check_name("group", &group).map_err(ApiError::invalid)?;
    let user = app.store.user(&user).await?.id;
    let joined = app.store.join_group(&caller.name, &user.to_string(), &group).await?;
    app.control.changed([Change::User(user)]);
    app.control.changed(joined.map(Change::Members));
    Ok(StatusCode::NO_CONTENT)
}

/// Take a user out of a group. Streams that rested on it are cut.
#[utoipa::path(delete, path = "/users/{user}/groups/{group}", tag = "groups", security(("cookie" = []), ("token" = [])),
    params(("user" = String, Path, description = "Name or id"), ("group" = String, Path, description = "Name; `everyone` is all users")), responses(
    (status = 204, description = "So it is"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "user_not_found, group_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "group_in_use: everyone is in `everyone`"),
))]
pub async fn leave(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath((user, group)): InPath<(String, String)>,
) -> Result<StatusCode> {
    let user = app.store.user(&user).await?.id;
    let left = app.store.leave_group(&caller.name, &user.to_string(), &group).await?;
    app.control.changed([Change::User(user)]);
    app.control.changed(left.map(Change::Members));
    withdrawn(&app).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Set how many desktops the members of a group may have at once, together. Those that they have stay, and count.
#[utoipa::path(put, path = "/groups/{group}/quota", tag = "groups", security(("cookie" = []), ("token" = [])),
    params(("group" = String, Path, description = "Name; `everyone` is all users")), request_body = NewQuota, responses(
    (status = 200, body = Group),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "group_not_found"),
))]
pub async fn quota(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(group): InPath<String>,
    Body(new): Body<NewQuota>,
) -> Result<Json<Group>> {
    check_quota(new)?;
    Ok(Json(app.store.set_group_quota(&caller.name, &group, new.max_desktops).await?))
}
