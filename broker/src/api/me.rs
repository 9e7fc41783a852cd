//! `/me`: the signed-in user.

use super::caller::{Peer, SignedIn};
use super::extract::Body;
use super::problem::{ApiError, Result};
use crate::app::App;
use crate::auth::{bootstrap, names};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lucarne_control::api::{Problem, User};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// A change of one's own password.
#[derive(Deserialize, ToSchema)]
pub struct OwnPassword {
    /// The present one.
    #[schema(max_length = 1024)]
    current: String,
    /// The new one, at least 8 characters.
    #[schema(min_length = 8, max_length = 1024)]
    password: String,
}

/// Who is signed in.
#[utoipa::path(get, path = "/me", tag = "me", security(("cookie" = []), ("token" = [])), responses(
    (status = 200, body = User),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_a_user: the local administrator, whose user was deleted"),
))]
pub async fn me(State(app): State<Arc<App>>, caller: SignedIn) -> Result<Json<User>> {
    Ok(Json(app.store.user(&caller.user()?.to_string()).await?))
}

/// Change one's own password: all other sign-ins end.
#[utoipa::path(put, path = "/me/password", tag = "me", security(("cookie" = []), ("token" = [])),
    request_body = OwnPassword, responses(
    (status = 204, description = "Changed"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in, bad_credentials"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_a_user: the local administrator, whose user was deleted"),
    (status = 429, body = Problem, content_type = "application/problem+json", description = "too_many_attempts"),
))]
pub async fn password(
    State(app): State<Arc<App>>,
    peer: Peer,
    caller: SignedIn,
    Body(change): Body<OwnPassword>,
) -> Result<StatusCode> {
    let user = app.store.user(&caller.user()?.to_string()).await?;
    names::check_password(&change.password).map_err(ApiError::invalid)?;
    names::check_length(&change.current).map_err(ApiError::invalid)?;
    app.auth.verify(&user.name, &change.current, peer.ip()).await?;
    let hash = app.auth.hash(&change.password).await?;
    app.store.set_password(&caller.0.name, user.id, &hash, caller.0.login.as_deref()).await?;
    app.events.logins_ended();
    forget_initial(&app, &user.name)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The generated password of the first start is of no use any more.
///
/// # Errors
/// When its file cannot be removed.
pub fn forget_initial(app: &App, name: &str) -> Result<()> {
    if name == bootstrap::ADMIN {
        bootstrap::password_changed(&app.data_dir).map_err(|e| ApiError::internal(&e))?;
    }
    Ok(())
}
