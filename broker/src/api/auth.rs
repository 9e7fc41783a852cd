//! `/auth`: sign in, get a token, sign out.

use super::caller::{COOKIE, Peer, SignedIn};
use super::extract::Body;
use super::problem::{ApiError, Result};
use crate::app::App;
use crate::auth::names::check_length;
use crate::secret;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use lucarne_control::api::{Credentials, Problem, Token, User};
use lucarne_core::store::LoginKind;
use std::sync::Arc;

async fn verify(app: &App, peer: Peer, c: &Credentials) -> Result<User> {
    check_length(&c.password).map_err(ApiError::invalid)?;
    let id = app.auth.verify(&c.name, &c.password, peer.ip()).await?;
    Ok(app.store.user(&id.to_string()).await?)
}

/// Sign in with a cookie.
#[utoipa::path(post, path = "/auth/login", tag = "auth", request_body = Credentials, responses(
    (status = 200, body = User, description = "Signed in; the cookie ends after 12 h without use"),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "bad_credentials"),
    (status = 429, body = Problem, content_type = "application/problem+json", description = "too_many_attempts"),
))]
pub async fn login(
    State(app): State<Arc<App>>,
    peer: Peer,
    Body(credentials): Body<Credentials>,
) -> Result<impl IntoResponse> {
    let user = verify(&app, peer, &credentials).await?;
    let token = secret::generate()?;
    app.store.create_login(user.id, &user.name, LoginKind::Cookie, &secret::hash(&token)).await?;
    let cookie = format!("{COOKIE}={token}; HttpOnly; Secure; SameSite=Strict; Path=/");
    Ok(([(header::SET_COOKIE, cookie)], Json(user)))
}

/// Get a bearer token for a program.
#[utoipa::path(post, path = "/auth/token", tag = "auth", request_body = Credentials, responses(
    (status = 201, body = Token, description = "The token works for 30 days"),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "bad_credentials"),
    (status = 429, body = Problem, content_type = "application/problem+json", description = "too_many_attempts"),
))]
pub async fn token(
    State(app): State<Arc<App>>,
    peer: Peer,
    Body(credentials): Body<Credentials>,
) -> Result<impl IntoResponse> {
    let user = verify(&app, peer, &credentials).await?;
    let token = secret::generate()?;
    let expires_at =
        app.store.create_login(user.id, &user.name, LoginKind::Token, &secret::hash(&token)).await?;
    Ok((StatusCode::CREATED, Json(Token { token, expires_at })))
}

/// Sign out: the cookie or token ends. Desktops run on.
#[utoipa::path(post, path = "/auth/logout", tag = "auth", security(("cookie" = []), ("token" = [])), responses(
    (status = 204, description = "Signed out"),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
))]
pub async fn logout(State(app): State<Arc<App>>, SignedIn(caller): SignedIn) -> Result<impl IntoResponse> {
    if let Some(login) = &caller.login {
        app.store.delete_login(&caller.name, login).await?;
    }
    let cookie = format!("{COOKIE}=; HttpOnly; Secure; SameSite=Strict; Path=/; Max-Age=0");
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]))
}
