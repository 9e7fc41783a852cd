//! Who signs in, and who may use what.

use crate::table::table;
use crate::value::{Json, words};
use lucarne_control::api::{Permission, Role, ScopeKind};
use lucarne_control::{GroupId, PoolId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

words!(UserId, GroupId, Role, ScopeKind, LoginKind, HolderKind);

/// What a login is carried by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginKind {
    /// A browser's cookie.
    Cookie,
    /// A bearer token.
    Token,
}

/// Who holds an entitlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HolderKind {
    /// One user.
    User,
    /// Everyone in a group.
    Group,
}

table! {
    /// A person who signs in.
    User in "users" {
        /// Id.
        id: UserId,
        /// Unique among the living.
        name: String,
        /// What they may do.
        role: Role,
        /// In PHC form; empty when they cannot sign in with one.
        password_hash: String,
        /// At most this many live desktops at once, of all pools together.
        max_desktops: Option<u32>,
        /// When.
        created_at: i64,
        /// When.
        deleted_at: Option<i64>,
    }
    key (id: UserId);
    unique named (name: str) where deleted_at is null;
    index living () then (id) where deleted_at is null;
    index living_in_role (role: Role) where deleted_at is null;
}

table! {
    /// A named set of users.
    Group in "groups" {
        /// Id.
        id: GroupId,
        /// Unique.
        name: String,
        /// At most this many live desktops of all members together.
        max_desktops: Option<u32>,
        /// When.
        created_at: i64,
    }
    key (id: GroupId);
    unique named (name: str);
}

table! {
    /// A live assignment that counts for a group which has a limit: because its user was a member when it began, or when the
    /// limit was set.
    Charge in "charges" {
        /// The group.
        group_id: GroupId,
        /// The assignment.
        assignment_id: Uuid,
    }
    key (group_id: GroupId, assignment_id: Uuid);
    index of_group (group_id: GroupId);
    index of_assignment (assignment_id: Uuid) then (group_id);
}

table! {
    /// Who is in which group.
    Membership in "memberships" {
        /// The user.
        user_id: UserId,
        /// The group.
        group_id: GroupId,
    }
    key (user_id: UserId, group_id: GroupId);
    index of (user_id: UserId);
    index in_group (group_id: GroupId) then (user_id);
}

table! {
    /// A role that a user has for one pool or one group only.
    ScopedRole in "scoped_roles" {
        /// The user.
        user_id: UserId,
        /// The role.
        role: Role,
        /// A pool or a group.
        scope_kind: ScopeKind,
        /// Its id.
        scope_id: Uuid,
    }
    key (user_id: UserId, role: Role, scope_kind: ScopeKind, scope_id: Uuid);
    index of (user_id: UserId);
    index within (scope_kind: ScopeKind, scope_id: Uuid) then (user_id);
}

table! {
    /// Who may use a pool.
    Entitlement in "entitlements" {
        /// The pool.
        pool_id: PoolId,
        /// A user or a group.
        holder_kind: HolderKind,
        /// Its id.
        holder: Uuid,
    }
    key (pool_id: PoolId, holder_kind: HolderKind, holder: Uuid);
    index of_pool (pool_id: PoolId);
    index held_by (holder_kind: HolderKind, holder: Uuid) then (pool_id);
}

table! {
    /// A sign-in.
    Login in "logins" {
        /// sha256 of what its holder has.
        hash: Vec<u8>,
        /// The user.
        user_id: UserId,
        /// What it is carried by.
        kind: LoginKind,
        /// When.
        created_at: i64,
        /// When it ends.
        expires_at: i64,
        /// All that its holder may do by it; what the user may do where nothing is said.
        permissions: Option<Json<Vec<Permission>>>,
    }
    key (hash: [u8]);
    index of (user_id: UserId);
    index by_expiry () then (expires_at);
}
