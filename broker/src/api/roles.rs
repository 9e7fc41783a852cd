//! `/users/{user}/roles`: roles that hold for one pool or one group only.

use super::caller::SignedIn;
use super::extract::InPath;
use super::problem::Result;
use super::scoped::Scoped;
use crate::app::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lucarne_control::UserId;
use lucarne_control::api::{Problem, Role, UserRoles};
use lucarne_core::Change;
use lucarne_core::store::Scope;
use std::sync::Arc;

/// All roles of a user: the one that holds everywhere, and those that hold for one pool or one group.
#[utoipa::path(get, path = "/users/{user}/roles", tag = "users", security(("cookie" = []), ("token" = [])),
    params(("user" = String, Path, description = "Name or id")), responses(
    (status = 200, body = UserRoles),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "user_not_found"),
))]
pub async fn roles(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(user): InPath<String>,
) -> Result<Json<UserRoles>> {
    let (_, user) = caller.user(&app, &user).await?;
    Ok(Json(UserRoles { role: user.role, scoped_roles: user.scoped_roles }))
}

/// What they do goes by it from their next request on, and event streams that rest on what they could do end.
fn changed(app: &App, user: UserId) -> StatusCode {
    app.control.changed([Change::User(user)]);
    StatusCode::NO_CONTENT
}

/// Give a user a role for one pool: for the pool itself, and the desktops of it.
#[utoipa::path(put, path = "/users/{user}/roles/{role}/pools/{pool}", tag = "users", security(("cookie" = []), ("token" = [])),
    params(("user" = String, Path, description = "Name or id"), ("role" = Role, Path, description = "`operator`, `help_desk` or `auditor`; the others hold everywhere"), ("pool" = String, Path, description = "Name or id")), responses(
    (status = 204, description = "So it is"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request: the role holds everywhere or not at all"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "user_not_found, pool_not_found"),
))]
pub async fn give_for_pool(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath((user, role, pool)): InPath<(String, Role, String)>,
) -> Result<StatusCode> {
    let user = app.store.give_scoped_role(&caller.name, &user, role, &Scope::Pool(pool)).await?;
    Ok(changed(&app, user))
}

/// Take a role for one pool away from a user.
#[utoipa::path(delete, path = "/users/{user}/roles/{role}/pools/{pool}", tag = "users", security(("cookie" = []), ("token" = [])),
    params(("user" = String, Path, description = "Name or id"), ("role" = Role, Path, description = "`operator`, `help_desk` or `auditor`"), ("pool" = String, Path, description = "Name or id")), responses(
    (status = 204, description = "So it is"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request: the role holds everywhere or not at all"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "user_not_found, pool_not_found"),
))]
pub async fn take_for_pool(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath((user, role, pool)): InPath<(String, Role, String)>,
) -> Result<StatusCode> {
    let user = app.store.take_scoped_role(&caller.name, &user, role, &Scope::Pool(pool)).await?;
    Ok(changed(&app, user))
}

/// Give a user a role for one group: for its members, and their desktops.
#[utoipa::path(put, path = "/users/{user}/roles/{role}/groups/{group}", tag = "users", security(("cookie" = []), ("token" = [])),
    params(("user" = String, Path, description = "Name or id"), ("role" = Role, Path, description = "`operator`, `help_desk` or `auditor`; the others hold everywhere"), ("group" = String, Path, description = "Name of a group that there is; `everyone` is all users")), responses(
    (status = 204, description = "So it is"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request: the role holds everywhere or not at all"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "user_not_found, group_not_found"),
))]
pub async fn give_for_group(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath((user, role, group)): InPath<(String, Role, String)>,
) -> Result<StatusCode> {
    let user = app.store.give_scoped_role(&caller.name, &user, role, &Scope::Group(group)).await?;
    Ok(changed(&app, user))
}

/// Take a role for one group away from a user.
#[utoipa::path(delete, path = "/users/{user}/roles/{role}/groups/{group}", tag = "users", security(("cookie" = []), ("token" = [])),
    params(("user" = String, Path, description = "Name or id"), ("role" = Role, Path, description = "`operator`, `help_desk` or `auditor`"), ("group" = String, Path, description = "Name; `everyone` is all users")), responses(
    (status = 204, description = "So it is"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request: the role holds everywhere or not at all"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "user_not_found, group_not_found"),
))]
pub async fn take_for_group(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath((user, role, group)): InPath<(String, Role, String)>,
) -> Result<StatusCode> {
    let user = app.store.take_scoped_role(&caller.name, &user, role, &Scope::Group(group)).await?;
    Ok(changed(&app, user))
}
