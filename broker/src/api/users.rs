//! `/users`: who may sign in.

use super::caller::SignedIn;
use super::extract::{Body, InPath, InQuery, Paging, after, limit, page};
use super::me::forget_initial;
use super::problem::{ApiError, Result};
use super::scoped::Scoped;
use crate::app::App;
use crate::auth::names::{check_name, check_password};
use crate::viewers::End;
use crate::watch;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use lucarne_control::api::{NewPassword, NewQuota, NewRole, NewUser, Page, Problem, User};
use lucarne_core::Change;
use std::sync::Arc;

/// Add a user.
#[utoipa::path(post, path = "/users", tag = "users", security(("cookie" = []), ("token" = [])),
    request_body = NewUser, responses(
    (status = 201, body = User),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "name_taken"),
))]
pub async fn create(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    Body(new): Body<NewUser>,
) -> Result<impl IntoResponse> {
    let groups = || new.groups.iter().try_for_each(|g| check_name("group", g));
    check_name("user", &new.name)
        .and_then(|()| check_password(&new.password))
        .and_then(|()| groups())
        .map_err(ApiError::invalid)?;
    let hash = app.auth.hash(&new.password).await?;
    let user = app.store.create_user(&caller.name, &new, &hash).await?;
    app.control.changed([Change::User(user.id)]);
    Ok((StatusCode::CREATED, Json(user)))
}

/// All users that the caller may see.
#[utoipa::path(get, path = "/users", tag = "users", security(("cookie" = []), ("token" = [])),
    params(Paging), responses(
    (status = 200, body = Page<User>),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<Page<User>>> {
    let n = limit(paging.limit)?;
    let (_, reach) = caller.reach();
    Ok(page(app.store.users(&reach, after(&paging.after)?, n + 1).await?, n, |u| u.id.to_string()))
}

/// One user.
#[utoipa::path(get, path = "/users/{user}", tag = "users", security(("cookie" = []), ("token" = [])),
    params(("user" = String, Path, description = "Name or id")), responses(
    (status = 200, body = User),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "user_not_found"),
))]
pub async fn show(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(user): InPath<String>,
) -> Result<Json<User>> {
    Ok(Json(caller.user(&app, &user).await?.1))
}

/// Delete a user; their desktops are destroyed with everything in them.
#[utoipa::path(delete, path = "/users/{user}", tag = "users", security(("cookie" = []), ("token" = [])),
    params(("user" = String, Path, description = "Name or id")), responses(
    (status = 204, description = "Deleted"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "user_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "last_administrator"),
))]
pub async fn delete(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(user): InPath<String>,
) -> Result<StatusCode> {
    let User { id, name, .. } = app.store.user(&user).await?;
    let deleted = app.store.delete_user(&caller.name, &id.to_string()).await?;
    app.control.changed([Change::User(id)]);
    app.control.changed(deleted.groups.into_iter().map(Change::Members));
    watch::tell(&app, &deleted.ended, &End::DesktopEnded);
    forget_initial(&app, &name)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Set a user's password; all their sign-ins end.
#[utoipa::path(put, path = "/users/{user}/password", tag = "users", security(("cookie" = []), ("token" = [])),
    params(("user" = String, Path, description = "Name or id")), request_body = NewPassword, responses(
    (status = 204, description = "Set"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "user_not_found"),
))]
pub async fn password(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(user): InPath<String>,
    Body(new): Body<NewPassword>,
) -> Result<StatusCode> {
    check_password(&new.password).map_err(ApiError::invalid)?;
    let user = app.store.user(&user).await?;
    let hash = app.auth.hash(&new.password).await?;
    app.store.set_password(&caller.name, user.id, &hash, None).await?;
    app.events.logins_ended();
    forget_initial(&app, &user.name)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give a user another role. What they are doing goes by it from their next request on.
#[utoipa::path(put, path = "/users/{user}/role", tag = "users", security(("cookie" = []), ("token" = [])),
    params(("user" = String, Path, description = "Name or id")), request_body = NewRole, responses(
    (status = 200, body = User),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "user_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "last_administrator"),
))]
pub async fn role(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(user): InPath<String>,
    Body(new): Body<NewRole>,
) -> Result<Json<User>> {
    let user = app.store.set_role(&caller.name, &user, new.role).await?;
    app.control.changed([Change::User(user.id)]);
    Ok(Json(user))
}

/// Set how many desktops a user may have at once. Those that they have stay.
#[utoipa::path(put, path = "/users/{user}/quota", tag = "users", security(("cookie" = []), ("token" = [])),
    params(("user" = String, Path, description = "Name or id")), request_body = NewQuota, responses(
    (status = 200, body = User),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "user_not_found"),
))]
pub async fn quota(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(user): InPath<String>,
    Body(new): Body<NewQuota>,
) -> Result<Json<User>> {
    check_quota(new)?;
    let user = app.store.set_user_quota(&caller.name, &user, new.max_desktops).await?;
    app.control.changed([Change::User(user.id)]);
    Ok(Json(user))
}

/// Refuses a limit that nothing could reach.
pub fn check_quota(new: NewQuota) -> Result<()> {
    match new.max_desktops {
        Some(n) if n > MOST_DESKTOPS => Err(ApiError::invalid(format!(
            "max_desktops is from 0 to {MOST_DESKTOPS}, or null for no limit, not {n}"
        ))),
        _ => Ok(()),
    }
}

/// The highest limit of desktops that can be set.
const MOST_DESKTOPS: u32 = 1_000_000;
