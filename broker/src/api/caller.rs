//! Who makes a request: by cookie, by bearer token, or by being root or the broker's own user on the local socket.

use super::problem::ApiError;
use crate::app::App;
use crate::auth::bootstrap::ADMIN;
use crate::secret;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use lucarne_control::UserId;
use lucarne_control::api::Role;
use lucarne_core::store::{Caller, Error};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The cookie's name.
pub const COOKIE: &str = "lucarne_session";

/// Where a request comes from; put into each request by the server.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// Over TLS.
    Remote(SocketAddr),
    /// Over the local administrators' socket.
    Local {
        /// The process' user id.
        uid: u32,
    },
}

impl Peer {
    /// The address that failed sign-ins are counted for.
    pub fn ip(self) -> IpAddr {
        match self {
            Self::Remote(address) => address.ip().to_canonical(),
            Self::Local { .. } => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().copied().ok_or_else(ApiError::not_signed_in)
    }
}

/// Someone who is signed in.
pub struct SignedIn(pub Caller);

/// An administrator.
pub struct Administrator(pub Caller);

impl SignedIn {
    /// The user behind the request.
    ///
    /// # Errors
    /// For a local administrator whose user was deleted: such a one has no desktops.
    pub fn user(&self) -> Result<UserId, ApiError> {
        self.0.user.ok_or_else(|| {
            let detail = "the local administrator is not a user any more; sign in as a user to use desktops";
            ApiError::new(StatusCode::FORBIDDEN, "not_a_user", detail)
        })
    }

    /// Whether the caller may see what is `owner`'s.
    pub fn may_see(&self, owner: Option<UserId>) -> bool {
        self.0.role == Role::Administrator || (owner.is_some() && owner == self.0.user)
    }
}

/// The login token of a request, from the header or the cookie.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim());
    }
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

impl FromRequestParts<Arc<App>> for SignedIn {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        if let Some(token) = token(&parts.headers) {
            return match app.store.caller(&secret::hash(token)).await? {
                Some(caller) => Ok(Self(caller)),
                None => Err(ApiError::not_signed_in()),
            };
        }
        match parts.extensions.get::<Peer>() {
            Some(Peer::Local { uid }) if *uid == 0 || *uid == app.uid => {
                let user = match app.store.user(ADMIN).await {
                    Ok(user) => Some(user.id),
                    Err(Error::NotFound { .. }) => None,
                    Err(e) => return Err(e.into()),
                };
                let name = format!("{ADMIN} (local)");
                Ok(Self(Caller { user, name, role: Role::Administrator, login: None }))
            }
            _ => Err(ApiError::not_signed_in()),
        }
    }
}

impl FromRequestParts<Arc<App>> for Administrator {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let SignedIn(caller) = SignedIn::from_request_parts(parts, app).await?;
        if caller.role == Role::Administrator {
            return Ok(Self(caller));
        }
        let detail = format!("only administrators may do this, and {} is not one", caller.name);
        Err(ApiError::new(StatusCode::FORBIDDEN, "administrators_only", detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn the_token_is_found_among_other_cookies_and_in_the_header() {
        assert_eq!(token(&headers(header::COOKIE, "a=b; lucarne_session=abc; c=d")), Some("abc"));
        assert_eq!(token(&headers(header::AUTHORIZATION, "bearer abc")), Some("abc"));
        assert_eq!(token(&headers(header::COOKIE, "lucarne_session2=abc")), None);
        assert_eq!(token(&headers(header::AUTHORIZATION, "Basic abc")), None);
    }
}
