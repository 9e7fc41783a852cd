//! Who may do what: roles are sets of permissions, and a token may have fewer than its user.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use utoipa::ToSchema;

/// What a user may do; the permissions of each are [`Role::permissions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Administrator,
    /// Runs hosts, images, pools and desktops; neither who may come in, nor what was written down of it.
    Operator,
    /// Helps users: sees their desktops, watches them when they allow it, ends them.
    HelpDesk,
    /// Sees everything that is on record, and changes nothing.
    Auditor,
    /// Use desktops that they are entitled to.
    User,
}

impl Role {
    /// All.
    pub const ALL: [Self; 5] =
        [Self::Administrator, Self::Operator, Self::HelpDesk, Self::Auditor, Self::User];

    /// As it is called in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Operator => "operator",
            Self::HelpDesk => "help_desk",
            Self::Auditor => "auditor",
            Self::User => "user",
        }
    }

    /// What it may do.
    #[must_use]
    pub const fn permissions(self) -> &'static [Permission] {
        use Permission as P;
        match self {
            Self::Administrator => &P::ALL,
            Self::Operator => &[
                P::Own,
                P::PoolsRead,
                P::PoolsWrite,
                P::UsersRead,
                P::DesktopsRead,
                P::DesktopsWrite,
                P::HostsRead,
                P::HostsWrite,
                P::ImagesRead,
                P::ImagesWrite,
            ],
            Self::HelpDesk => &[
                P::Own,
                P::PoolsRead,
                P::UsersRead,
                P::DesktopsRead,
                P::DesktopsWrite,
                P::DesktopsWatch,
                P::HostsRead,
            ],
            Self::Auditor => &[
                P::Own,
                P::PoolsRead,
                P::UsersRead,
                P::DesktopsRead,
                P::HostsRead,
                P::ImagesRead,
                P::AuditRead,
            ],
            Self::User => &[P::Own],
        }
    }
}

/// Something that may be done by the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub enum Permission {
    /// Use one's own desktops, and change one's own password.
    #[serde(rename = "own")]
    Own,
    /// See pools, and who may use them.
    #[serde(rename = "pools:read")]
    PoolsRead,
    /// Make, change and delete pools, and say who may use them.
    #[serde(rename = "pools:write")]
    PoolsWrite,
    /// See users and groups.
    #[serde(rename = "users:read")]
    UsersRead,
    /// Make and delete users, give them passwords, put them into groups, and give one what is in another's desktop. Who may do this can become
    /// anybody.
    #[serde(rename = "users:write")]
    UsersWrite,
    /// See everybody's desktops and sessions, and why a user gets which desktop; not what is on their screens.
    #[serde(rename = "desktops:read")]
    DesktopsRead,
    /// Make and destroy desktops for users, and log them off.
    #[serde(rename = "desktops:write")]
    DesktopsWrite,
    /// Look at users' screens, as far as a pool's policy and the user allow it.
    #[serde(rename = "desktops:watch")]
    DesktopsWatch,
    /// See hosts.
    #[serde(rename = "hosts:read")]
    HostsRead,
    /// Drain hosts, declare them dead, and forget them.
    #[serde(rename = "hosts:write")]
    HostsWrite,
    /// Let machines become hosts, and deny them.
    #[serde(rename = "hosts:trust")]
    HostsTrust,
    /// See images.
    #[serde(rename = "images:read")]
    ImagesRead,
    /// Delete images.
    #[serde(rename = "images:write")]
    ImagesWrite,
    /// Read the audit log.
    #[serde(rename = "audit:read")]
    AuditRead,
}

impl Permission {
    /// All.
    pub const ALL: [Self; 14] = [
        Self::Own,
        Self::PoolsRead,
        Self::PoolsWrite,
        Self::UsersRead,
        Self::UsersWrite,
        Self::DesktopsRead,
        Self::DesktopsWrite,
        Self::DesktopsWatch,
        Self::HostsRead,
        Self::HostsWrite,
        Self::HostsTrust,
        Self::ImagesRead,
        Self::ImagesWrite,
        Self::AuditRead,
    ];

    /// As it is called in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::PoolsRead => "pools:read",
            Self::PoolsWrite => "pools:write",
            Self::UsersRead => "users:read",
            Self::UsersWrite => "users:write",
            Self::DesktopsRead => "desktops:read",
            Self::DesktopsWrite => "desktops:write",
            Self::DesktopsWatch => "desktops:watch",
            Self::HostsRead => "hosts:read",
            Self::HostsWrite => "hosts:write",
            Self::HostsTrust => "hosts:trust",
            Self::ImagesRead => "images:read",
            Self::ImagesWrite => "images:write",
            Self::AuditRead => "audit:read",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names nothing of the kind; says what does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} {word:?}; there are {known}")]
pub struct Unknown {
    what: &'static str,
    word: String,
    known: String,
}

pub(crate) fn named<T: Copy>(
    what: &'static str,
    word: &str,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<T, Unknown> {
    all.iter().copied().find(|one| name(*one) == word).ok_or_else(|| Unknown {
        what,
        word: word.to_owned(),
        known: all.iter().map(|one| name(*one)).collect::<Vec<_>>().join(", "),
    })
}

impl FromStr for Role {
    type Err = Unknown;
    fn from_str(word: &str) -> Result<Self, Unknown> {
        named("role", word, &Self::ALL, Self::as_str)
    }
}

impl FromStr for Permission {
    type Err = Unknown;
    fn from_str(word: &str) -> Result<Self, Unknown> {
        named("permission", word, &Self::ALL, Self::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_written_in_json_as_it_is_called() {
        for role in Role::ALL {
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        for permission in Permission::ALL {
            assert_eq!(serde_json::to_value(permission).unwrap(), permission.as_str());
            assert_eq!(permission.as_str().parse(), Ok(permission));
        }
        let why = "operater".parse::<Role>().unwrap_err().to_string();
        assert!(
            why.starts_with(r#"there is no role "operater"; there are administrator, operator"#),
            "{why}"
        );
    }

    #[test]
    fn nobody_but_the_administrator_can_become_anybody_and_the_auditor_changes_nothing() {
        for role in Role::ALL {
            let may = |p| role.permissions().contains(&p);
            assert!(may(Permission::Own));
            assert_eq!(may(Permission::UsersWrite), role == Role::Administrator);
            assert_eq!(may(Permission::HostsTrust), role == Role::Administrator);
        }
        assert!(
            Role::Auditor
                .permissions()
                .iter()
                .all(|p| *p == Permission::Own || p.as_str().ends_with(":read"))
        );
    }
}
