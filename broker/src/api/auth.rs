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
use lucarne_control::api::{Credentials, Permission, Problem, Token, TokenRequest, User};
use lucarne_core::store::NewToken;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// How long tokens work, seconds.
const LIVES: RangeInclusive<u32> = 60..=366 * 86_400;

async fn verify(app: &App, peer: Peer, c: &Credentials) -> Result<User> {
    check_length(&c.password).map_err(ApiError::invalid)?;
    let id = app.verify(&c.name, &c.password, peer.ip()).await?;
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
    app.store.create_cookie(user.id, &user.name, &secret::hash(&token)).await?;
    let cookie = format!("{COOKIE}={token}; HttpOnly; Secure; SameSite=Strict; Path=/");
    Ok(([(header::SET_COOKIE, cookie)], Json(user)))
}

/// Get a bearer token for a program.
#[utoipa::path(post, path = "/auth/token", tag = "auth", request_body = TokenRequest, responses(
    (status = 201, body = Token, description = "The token works until `expires_at`"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted: the user has not got these permissions"),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "bad_credentials"),
    (status = 429, body = Problem, content_type = "application/problem+json", description = "too_many_attempts"),
))]
pub async fn token(
    State(app): State<Arc<App>>,
    peer: Peer,
    Body(request): Body<TokenRequest>,
) -> Result<impl IntoResponse> {
    let life = match request.valid_for {
        None => NewToken::default().life,
        Some(seconds) if LIVES.contains(&seconds) => i64::from(seconds) * 1000,
        Some(seconds) => {
            let (least, most) = (LIVES.start(), LIVES.end());
            return Err(ApiError::invalid(format!(
                "valid_for is from {least} to {most} seconds, not {seconds}"
            )));
        }
    };
    let credentials = Credentials { name: request.name, password: request.password };
    let user = verify(&app, peer, &credentials).await?;
    let wanted = request.permissions.as_deref().unwrap_or_default();
    let has = |wanted: &Permission| {
        let mut scoped = user.scoped_roles.iter().flat_map(|held| held.role.permissions_in(held.scope));
        user.role.permissions().contains(wanted) || scoped.any(|held| held == *wanted)
    };
    if let Some(more) = wanted.iter().find(|wanted| !has(wanted)) {
        let detail = format!(
            "{} has not {more} by the role {}, so no token can have it",
            user.name,
            user.role.as_str()
        );
        return Err(ApiError::new(StatusCode::FORBIDDEN, "not_permitted", detail));
    }
    let token = secret::generate()?;
    let new = NewToken { life, permissions: request.permissions };
    let expires_at = app.store.create_token(user.id, &user.name, new, &secret::hash(&token)).await?;
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
        app.events.logins_ended();
    }
    let cookie = format!("{COOKIE}=; HttpOnly; Secure; SameSite=Strict; Path=/; Max-Age=0");
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]))
}
