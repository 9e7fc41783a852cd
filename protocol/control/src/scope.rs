//! Roles that hold for one pool or one group only, and what of a role can be held there.

use crate::access::{Permission, Role};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;
use uuid::Uuid;

/// What a role can be limited to one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScopeKind {
    /// A pool: itself, and the desktops of it, whoever has them.
    Pool,
    /// A group: itself, its members, and their desktops of whichever pool.
    Group,
}

impl ScopeKind {
    /// All.
    pub const ALL: [Self; 2] = [Self::Pool, Self::Group];

    /// As it is called in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Group => "group",
        }
    }

    /// What can be held for one such thing. What is not here is of the whole deployment, whatever its role: hosts and images serve
    /// all pools, the audit log tells of everybody, and who may change users can become anybody.
    #[must_use]
    pub const fn permissions(self) -> &'static [Permission] {
        use Permission as P;
        match self {
            Self::Pool => &[P::PoolsRead, P::PoolsWrite, P::DesktopsRead, P::DesktopsWrite, P::DesktopsWatch],
            Self::Group => &[P::UsersRead, P::DesktopsRead, P::DesktopsWrite, P::DesktopsWatch],
        }
    }
}

impl fmt::Display for ScopeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Role {
    /// Those that can be limited to a scope. An administrator of a part could give themselves the rest, and what makes a user is
    /// what is entitled.
    pub const SCOPED: [Self; 3] = [Self::Operator, Self::HelpDesk, Self::Auditor];

    /// What it may do in a scope of this kind.
    pub fn permissions_in(self, kind: ScopeKind) -> impl Iterator<Item = Permission> {
        let all = if Self::SCOPED.contains(&self) { self.permissions() } else { &[] };
        all.iter().copied().filter(move |permission| kind.permissions().contains(permission))
    }
}

/// A role that a user has for one pool or one group, beside the role that they have everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScopedRole {
    /// The role: `operator`, `help_desk` or `auditor`.
    pub role: Role,
    /// What it is limited to one of.
    pub scope: ScopeKind,
    /// The id of the pool or the group.
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ScopedRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for the {} {}", self.role.as_str(), self.scope, self.name)
    }
}

/// All roles of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserRoles {
    /// The one that holds everywhere.
    pub role: Role,
    /// Those that hold for one pool or one group.
    pub scoped_roles: Vec<ScopedRole>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_scope_gives_what_is_of_the_whole_deployment_nor_more_than_the_role() {
        use Permission as P;
        for kind in ScopeKind::ALL {
            for never in [P::Own, P::UsersWrite, P::HostsRead, P::HostsWrite, P::HostsTrust, P::ImagesRead] {
                assert!(!kind.permissions().contains(&never), "{kind} {never}");
            }
            assert!(
                !kind.permissions().contains(&P::ImagesWrite) && !kind.permissions().contains(&P::AuditRead)
            );
            for role in Role::ALL {
                let held: Vec<_> = role.permissions_in(kind).collect();
                assert!(held.iter().all(|permission| role.permissions().contains(permission)));
                assert_eq!(held.is_empty(), !Role::SCOPED.contains(&role), "{} {kind}", role.as_str());
            }
        }
        assert!(!ScopeKind::Group.permissions().contains(&P::PoolsRead));
        assert!(!ScopeKind::Pool.permissions().contains(&P::UsersRead));
    }
}
