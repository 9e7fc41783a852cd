//! Pools as they should be, and the plan that leads there: `POST /api/v1/apply`.
//!
//! ```text
//! pools, dry_run ──► plan with a revision ──► shown to people ──► pools, revision ──► done, or 409 when it would be another
//! ```

use crate::api::NewPool;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Pools as they should be: what a field does not say is its default.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ApplyPools {
    /// Each pool in full, at most 1,000. A field that is not known is refused.
    #[schema(max_items = 1000)]
    pub pools: Vec<NewPool>,
    /// Delete the pools that are not listed; without, they are left alone.
    #[serde(default)]
    pub prune: bool,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// The `revision` of a plan: do what it said, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// What is to be done, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolsPlan {
    /// Stands for what the plan was made from: the pools as they should be and as they are.
    pub revision: String,
    /// It was done.
    pub applied: bool,
    /// Each pool, in the order of the list, then those to be deleted.
    pub pools: Vec<PoolPlan>,
    /// Names of groups that there are not yet, and that are made.
    pub new_groups: Vec<String>,
    /// Why it cannot be done; nothing is done while there is one.
    pub errors: Vec<PlanError>,
}

/// What is to be done with a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolPlan {
    /// The pool's name.
    pub pool: String,
    /// What.
    pub action: PlanAction,
    /// Of a new pool all fields, of a changed one those that change.
    pub changes: Vec<FieldChange>,
}

/// What can be done with a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanAction {
    /// It is made.
    Create,
    /// Some of its fields are changed.
    Change,
    /// It is as it should be.
    Unchanged,
    /// It is deleted.
    Delete,
}

/// A field and its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldChange {
    /// Its name, such as `max_desktops` or `machine.memory_mib`.
    pub field: String,
    /// What it is; null for a new pool.
    pub from: Value,
    /// What it will be.
    pub to: Value,
}

/// Why something cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanError {
    /// The pool's name.
    pub pool: String,
    /// The field that is to blame, if one is.
    pub field: Option<String>,
    /// A stable word for programs, as a problem's.
    pub code: String,
    /// The HTTP status that the same would have alone.
    pub status: u16,
    /// What is wrong, and what to do.
    pub detail: String,
}
