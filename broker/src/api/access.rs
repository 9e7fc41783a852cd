//! What each operation of the API takes: the one place where that is said. An operation that is not here is for nobody.
//!
//! What is a user's own, and what is in the scope of a role, is told apart once the handler has found the thing: see
//! [`scoped`](super::scoped).

use lucarne_control::api::Permission::{self, *};

/// What an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: who asks has not signed in.
    Nothing,
    /// A sign-in.
    SignIn,
    /// One of these permissions, everywhere: roles that hold for one pool or one group do not count.
    OneOf(&'static [Permission]),
    /// One of these permissions, for what it is done to: its handler takes [`Scoped`](super::scoped::Scoped), and says what that is.
    Within(&'static [Permission]),
}

use Need::{Nothing, OneOf, SignIn, Within};

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
    ("GET", "/sessions", Within(&[Own, DesktopsRead])),
    ("GET", "/sessions/{id}", Within(&[Own, DesktopsRead])),
    ("DELETE", "/sessions/{id}", Within(&[Own, DesktopsWrite])),
    ("POST", "/sessions/{id}/ticket", OneOf(&[Own])),
    ("POST", "/sessions/{id}/viewer-password", OneOf(&[Own])),
    ("GET", "/sessions/{id}/trace", Within(&[Own, DesktopsRead])),
    ("POST", "/sessions/{id}/shadow", Within(&[DesktopsWatch])),
    ("POST", "/sessions/{id}/shadows/{shadow}", OneOf(&[Own])),
    ("DELETE", "/sessions/{id}/viewers/{viewer}", Within(&[Own, DesktopsWrite])),
    ("GET", "/desktops", Within(&[Own, DesktopsRead])),
    ("POST", "/desktops", Within(&[DesktopsWrite])),
    ("GET", "/desktops/{id}", Within(&[Own, DesktopsRead])),
    ("DELETE", "/desktops/{id}", Within(&[DesktopsWrite])),
    ("PUT", "/desktops/{id}/power", Within(&[Own, DesktopsWrite])),
    ("GET", "/desktops/{id}/launch", Within(&[Own, DesktopsRead])),
    ("GET", "/desktops/{id}/thumbnail", OneOf(&[Own])),
    ("GET", "/desktops/{id}/snapshots", Within(&[Own, DesktopsRead])),
    ("POST", "/desktops/{id}/snapshots", Within(&[Own, DesktopsWrite])),
    ("GET", "/snapshots/{id}", Within(&[Own, DesktopsRead])),
    ("DELETE", "/snapshots/{id}", Within(&[Own, DesktopsWrite])),
    ("POST", "/snapshots/{id}/revert", Within(&[Own, DesktopsWrite])),
    // What is in a desktop becomes another user's.
    ("POST", "/snapshots/{id}/clone", OneOf(&[UsersWrite])),
    ("GET", "/disks", Within(&[Own, DesktopsRead])),
    ("GET", "/disks/{id}", Within(&[Own, DesktopsRead])),
    ("DELETE", "/disks/{id}", Within(&[DesktopsWrite])),
    // Of which kinds, goes by the permission for each.
    ("GET", "/events", Within(&[Own, PoolsRead, UsersRead, DesktopsRead, HostsRead, ImagesRead])),
    ("GET", "/explain", Within(&[DesktopsRead])),
    ("GET", "/pools", Within(&[PoolsRead])),
    ("POST", "/pools", OneOf(&[PoolsWrite])),
    ("GET", "/pools/{pool}", Within(&[PoolsRead])),
    ("DELETE", "/pools/{pool}", Within(&[PoolsWrite])),
    ("PUT", "/pools/{pool}/users/{user}", Within(&[PoolsWrite])),
    ("DELETE", "/pools/{pool}/users/{user}", Within(&[PoolsWrite])),
    ("PUT", "/pools/{pool}/groups/{group}", Within(&[PoolsWrite])),
    ("DELETE", "/pools/{pool}/groups/{group}", Within(&[PoolsWrite])),
    ("POST", "/apply", Within(&[PoolsWrite])),
    ("GET", "/users", Within(&[UsersRead])),
    ("POST", "/users", OneOf(&[UsersWrite])),
    ("GET", "/users/{user}", Within(&[UsersRead])),
    ("DELETE", "/users/{user}", OneOf(&[UsersWrite])),
    ("PUT", "/users/{user}/password", OneOf(&[UsersWrite])),
    ("PUT", "/users/{user}/role", OneOf(&[UsersWrite])),
    ("PUT", "/users/{user}/quota", OneOf(&[UsersWrite])),
    ("GET", "/users/{user}/roles", Within(&[UsersRead])),
    ("PUT", "/users/{user}/roles/{role}/pools/{pool}", OneOf(&[UsersWrite])),
    ("DELETE", "/users/{user}/roles/{role}/pools/{pool}", OneOf(&[UsersWrite])),
    ("PUT", "/users/{user}/roles/{role}/groups/{group}", OneOf(&[UsersWrite])),
    ("DELETE", "/users/{user}/roles/{role}/groups/{group}", OneOf(&[UsersWrite])),
    ("PUT", "/users/{user}/groups/{group}", OneOf(&[UsersWrite])),
    ("DELETE", "/users/{user}/groups/{group}", OneOf(&[UsersWrite])),
    ("GET", "/groups", Within(&[UsersRead])),
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
