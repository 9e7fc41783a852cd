//! Who makes a request: by cookie, by bearer token, or by being root or the broker's own user on the local socket.

use super::access::{self, Need};
use super::problem::ApiError;
use crate::app::App;
use crate::auth::bootstrap::ADMIN;
use crate::secret;
use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use lucarne_control::UserId;
use lucarne_control::api::{Permission, Role};
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

/// Someone who is signed in, and may do what they ask for everywhere, or with what is their own: see [`access::OPERATIONS`]. Whoever may
/// do it in some scopes only is refused; [`Scoped`](super::scoped::Scoped) lets them in.
pub struct SignedIn(pub Caller);

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

/// Who makes a request, whatever they may do.
async fn who(parts: &Parts, app: &App) -> Result<Caller, ApiError> {
    if let Some(token) = token(&parts.headers) {
        return app.store.caller(&secret::hash(token)).await?.ok_or_else(ApiError::not_signed_in);
    }
    match parts.extensions.get::<Peer>() {
        Some(Peer::Local { uid }) if *uid == 0 || *uid == app.uid => {
            let user = match app.store.user(ADMIN).await {
                Ok(user) => Some(user.id),
                Err(Error::NotFound { .. }) => None,
                Err(e) => return Err(e.into()),
            };
            let (name, role) = (format!("{ADMIN} (local)"), Role::Administrator);
            Ok(Caller {
                user,
                name,
                role,
                permissions: role.permissions().to_vec(),
                grants: Vec::new(),
                login: None,
            })
        }
        _ => Err(ApiError::not_signed_in()),
    }
}

/// Whoever asks, and what the operation takes, if they have that somewhere: with what they ask for it may be otherwise.
///
/// # Errors
/// `not_signed_in`, `not_permitted`.
pub(super) async fn admitted(parts: &Parts, app: &App) -> Result<(Caller, Need), ApiError> {
    let caller = who(parts, app).await?;
    let route = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    // What is not in the list is for nobody.
    let need = access::need(parts.method.as_str(), route).unwrap_or(Need::OneOf(&[]));
    let admitted = match need {
        Need::Nothing | Need::SignIn => true,
        Need::OneOf(one_of) => everywhere(&caller, one_of),
        Need::Within(one_of) => everywhere(&caller, one_of) || !caller.reach(one_of).is_empty(),
    };
    if admitted { Ok((caller, need)) } else { Err(refusal(&caller, need)) }
}

/// Whether the caller has one of these everywhere, or for what is their own.
fn everywhere(caller: &Caller, one_of: &[Permission]) -> bool {
    one_of.iter().any(|permission| caller.may(*permission))
}

/// Permissions of which one is enough, in words.
pub(super) fn takes(one_of: &[Permission]) -> String {
    let words: Vec<_> = one_of.iter().map(|permission| permission.as_str()).collect();
    words.join(" or ")
}

fn refusal(caller: &Caller, need: Need) -> ApiError {
    let one_of = match need {
        Need::OneOf(one_of) | Need::Within(one_of) => one_of,
        Need::Nothing | Need::SignIn => &[],
    };
    let by_role = |p: &Permission| caller.role.permissions().contains(p);
    let in_scope =
        |p: &Permission| caller.grants.iter().any(|g| g.role.permissions_in(g.kind).any(|has| has == *p));
    let (name, takes) = (&caller.name, takes(one_of));
    let detail =
        if one_of.iter().any(by_role) || matches!(need, Need::Within(_)) && one_of.iter().any(in_scope) {
            format!("this takes {takes}, and the token was made for less; make another")
        } else if one_of.iter().any(in_scope) {
            format!("this takes {takes} everywhere, which {name} has for some pools or groups only")
        } else {
            format!("this takes {takes}, which {name} has not by the role {}", caller.role.as_str())
        };
    ApiError::new(StatusCode::FORBIDDEN, "not_permitted", detail)
}

impl FromRequestParts<Arc<App>> for SignedIn {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        match admitted(parts, app).await? {
            (caller, Need::Within(one_of)) if !everywhere(&caller, one_of) => {
                Err(refusal(&caller, Need::OneOf(one_of)))
            }
            (caller, _) => Ok(Self(caller)),
        }
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
