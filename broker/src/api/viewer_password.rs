//! `/sessions/{id}/viewer-password`: a one-time password that can be typed into a VNC viewer.

use super::caller::SignedIn;
use super::extract::InPath;
use super::problem::{ApiError, Result};
use super::sessions::own_live;
use crate::app::App;
use crate::auth::viewer_password::LIFE;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lucarne_control::SessionId;
use lucarne_control::api::{Problem, ViewerPassword};
use std::sync::Arc;

/// A one-time password for the session's desktop, for VNC viewers that know nothing but VncAuth; it takes the place of one
/// that was not used yet. What such a viewer shows and what is typed into it goes over the network unencrypted, so servers
/// offer this only if they were told to.
#[utoipa::path(post, path = "/sessions/{id}/viewer-password", tag = "sessions", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, format = "uuid", description = "The session's id")), responses(
    (status = 201, body = ViewerPassword, description = "Use it within a minute, once"),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_entitled"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "session_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "viewer_passwords_off"),
    (status = 410, body = Problem, content_type = "application/problem+json", description = "session_ended"),
))]
pub async fn viewer_password(
    State(app): State<Arc<App>>,
    caller: SignedIn,
    InPath(id): InPath<SessionId>,
) -> Result<(StatusCode, Json<ViewerPassword>)> {
    let (row, _) = own_live(&app, &caller, id).await?;
    let passwords = app.viewer_passwords.as_ref().ok_or_else(|| {
        let detail = "this server takes no one-time passwords from VNC viewers; an administrator can allow them with \
                      --vnc-security …,vncauth";
        ApiError::new(StatusCode::CONFLICT, "viewer_passwords_off", detail)
    })?;
    if !app.store.may_use(row.user, &row.session.pool).await? {
        let (user, pool) = (row.session.user.clone(), row.session.pool.clone());
        return Err(lucarne_core::store::Error::NotEntitled { user, pool }.into());
    }
    // On record first: there is none that nobody heard of.
    let detail = format!("for a VNC viewer on {}", row.session.desktop_name);
    app.store.note(&caller.0.name, "session.password_made", &id.to_string(), &detail).await?;
    let password = passwords.make(id)?;
    let valid_s = u32::try_from(LIFE.as_secs()).unwrap_or(u32::MAX);
    Ok((StatusCode::CREATED, Json(ViewerPassword { password, valid_s })))
}
