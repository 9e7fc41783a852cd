//! What each operation of the API takes: the one place where that is said. An operation that is not here is for nobody.
//!
//! What is a user's own is told apart in the handlers, for it depends on whose the thing is.

use lucarne_control::api::Permission::{self, *};

/// What an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: who asks has not signed in.
    Nothing,
    /// A sign-in.
    SignIn,
    /// One of these permissions.
    OneOf(&'static [Permission]),
}

use Need::{Nothing, OneOf, SignIn};

/// Method, path below `/api/v1` as in the OpenAPI document, and what it takes.
pub const OPERATIONS: &[(&str, &str, Need)] = &[
    ("GET", "/health", Nothing),
    ("POST", "/auth/login", Nothing),
    ("POST", "/auth/token", Nothing),
    ("POST", "/auth/logout", SignIn),
    // A ticket says whose stream it is.
    ("GET", "/stream", Nothing),
    ("GET", "/me", SignIn),
    ("PUT", "/me/password", OneOf(&[Own])),
    ("GET", "/portal", OneOf(&[Own])),
    ("POST", "/sessions", OneOf(&[Own])),
    ("GET", "/sessions", OneOf(&[Own, DesktopsRead])),
    ("GET", "/sessions/{id}", OneOf(&[Own, DesktopsRead])),
    ("DELETE", "/sessions/{id}", OneOf(&[Own, DesktopsWrite])),
    ("POST", "/sessions/{id}/ticket", OneOf(&[Own])),
    ("POST", "/sessions/{id}/viewer-password", OneOf(&[Own])),
    ("GET", "/sessions/{id}/trace", OneOf(&[Own, DesktopsRead])),
    ("POST", "/sessions/{id}/shadow", OneOf(&[DesktopsWatch])),
    ("POST", "/sessions/{id}/shadows/{shadow}", OneOf(&[Own])),
    ("DELETE", "/sessions/{id}/viewers/{viewer}", OneOf(&[Own, DesktopsWrite])),
    ("GET", "/desktops", OneOf(&[Own, DesktopsRead])),
    ("POST", "/desktops", OneOf(&[DesktopsWrite])),
    ("GET", "/desktops/{id}", OneOf(&[Own, DesktopsRead])),
    ("DELETE", "/desktops/{id}", OneOf(&[DesktopsWrite])),
    ("PUT", "/desktops/{id}/power", OneOf(&[Own, DesktopsWrite])),
    ("GET", "/desktops/{id}/launch", OneOf(&[Own, DesktopsRead])),
    ("GET", "/desktops/{id}/thumbnail", OneOf(&[Own])),
    ("GET", "/disks", OneOf(&[DesktopsRead])),
    ("GET", "/disks/{id}", OneOf(&[DesktopsRead])),
    ("DELETE", "/disks/{id}", OneOf(&[DesktopsWrite])),
    // Of which kinds, goes by the permission for each.
    ("GET", "/events", OneOf(&[Own, PoolsRead, UsersRead, DesktopsRead, HostsRead, ImagesRead])),
    ("GET", "/explain", OneOf(&[DesktopsRead])),
    ("GET", "/pools", OneOf(&[PoolsRead])),
    ("POST", "/pools", OneOf(&[PoolsWrite])),
    ("GET", "/pools/{pool}", OneOf(&[PoolsRead])),
    ("DELETE", "/pools/{pool}", OneOf(&[PoolsWrite])),
    ("PUT", "/pools/{pool}/users/{user}", OneOf(&[PoolsWrite])),
    ("DELETE", "/pools/{pool}/users/{user}", OneOf(&[PoolsWrite])),
    ("PUT", "/pools/{pool}/groups/{group}", OneOf(&[PoolsWrite])),
    ("DELETE", "/pools/{pool}/groups/{group}", OneOf(&[PoolsWrite])),
    ("POST", "/apply", OneOf(&[PoolsWrite])),
    ("GET", "/users", OneOf(&[UsersRead])),
    ("POST", "/users", OneOf(&[UsersWrite])),
    ("GET", "/users/{user}", OneOf(&[UsersRead])),
    ("DELETE", "/users/{user}", OneOf(&[UsersWrite])),
    ("PUT", "/users/{user}/password", OneOf(&[UsersWrite])),
    ("PUT", "/users/{user}/role", OneOf(&[UsersWrite])),
    ("PUT", "/users/{user}/quota", OneOf(&[UsersWrite])),
    ("PUT", "/users/{user}/groups/{group}", OneOf(&[UsersWrite])),
    ("DELETE", "/users/{user}/groups/{group}", OneOf(&[UsersWrite])),
    ("GET", "/groups", OneOf(&[UsersRead])),
    ("PUT", "/groups/{group}/quota", OneOf(&[UsersWrite])),
    ("GET", "/images", OneOf(&[ImagesRead])),
    ("GET", "/images/{image}", OneOf(&[ImagesRead])),
    ("DELETE", "/images/{image}", OneOf(&[ImagesWrite])),
    ("GET", "/hosts", OneOf(&[HostsRead])),
    ("GET", "/hosts/{host}", OneOf(&[HostsRead])),
    ("DELETE", "/hosts/{host}", OneOf(&[HostsWrite])),
    ("POST", "/hosts/{host}/fence", OneOf(&[HostsWrite])),
    ("PUT", "/hosts/{host}/maintenance", OneOf(&[HostsWrite])),
    ("DELETE", "/hosts/{host}/maintenance", OneOf(&[HostsWrite])),
    ("PUT", "/hosts/{host}/labels", OneOf(&[HostsWrite])),
    ("PUT", "/hosts/{host}/drain", OneOf(&[HostsWrite])),
    ("DELETE", "/hosts/{host}/drain", OneOf(&[HostsWrite])),
    ("PUT", "/hosts/{host}/denial", OneOf(&[HostsTrust])),
    ("DELETE", "/hosts/{host}/denial", OneOf(&[HostsTrust])),
    ("GET", "/enrollments", OneOf(&[HostsTrust])),
    ("POST", "/enrollments", OneOf(&[HostsTrust])),
    ("DELETE", "/enrollments/{id}", OneOf(&[HostsTrust])),
    ("GET", "/audit", OneOf(&[AuditRead])),
    ("POST", "/audit/verify", OneOf(&[AuditRead])),
];

/// What the operation of that method and route takes; none where there is no such operation.
#[must_use]
pub fn need(method: &str, route: &str) -> Option<Need> {
    let path = route.strip_prefix("/api/v1")?;
    // What is said of GET holds for HEAD (RFC 9110, section 9.3.2).
    let method = if method == "HEAD" { "GET" } else { method };
    OPERATIONS.iter().find(|(m, p, _)| *m == method && *p == path).map(|(.., need)| *need)
}
