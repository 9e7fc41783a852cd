//! `/apply`: pools as they should be, all at once: a plan of what that takes, and its doing.

use super::extract::Body;
use super::problem::{ApiError, Result, of_store};
use super::scoped::Scoped;
use super::{entitlements, pools};
use crate::app::App;
use axum::Json;
use axum::extract::State;
use lucarne_control::api::{NewPool, Problem};
use lucarne_control::apply::{ApplyPools, PlanError, PoolsPlan};
use lucarne_core::Change;
use lucarne_core::store::{Obstacle, Plan, Wanted};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Pools that are taken at once. More would hold the database for longer than others should wait.
const MOST_POOLS: usize = 1000;

/// Faults that are told at once.
const MOST_FAULTS: usize = 50;

/// [`ApplyPools`] as it is written. A word in it that is not known would be a wish that nobody fulfils, so none is passed over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    pools: Vec<Value>,
    #[serde(default)]
    prune: bool,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    revision: Option<String>,
}

/// The pools, or all that is wrong with how they are written.
fn read(written: &[Value]) -> Result<Vec<NewPool>, Vec<String>> {
    let (mut pools, mut faults, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (i, value) in written.iter().enumerate() {
        let which = match value.get("name") {
            Some(Value::String(name)) => format!("pool {name:?}"),
            _ => format!("pool {} of the list", i + 1),
        };
        let (new, strange) = match pools::read(value) {
            Ok(read) => read,
            Err(e) => {
                faults.push(format!("{which}: {e}"));
                continue;
            }
        };
        faults.extend(strange.iter().map(|why| format!("{which}: {why}")));
        faults.extend(pools::faults(&new).into_iter().map(|(field, why)| format!("{which}, {field}: {why}")));
        if !names.insert(new.name.clone()) {
            faults.push(format!("{which} is there twice; a name is one pool's"));
        }
        pools.push(new);
    }
    if faults.is_empty() { Ok(pools) } else { Err(faults) }
}

fn error(obstacle: Obstacle) -> PlanError {
    let (status, code) = of_store(&obstacle.error);
    PlanError {
        detail: format!("{}{}", obstacle.error, obstacle.remedy()),
        pool: obstacle.pool,
        field: obstacle.field.map(str::to_owned),
        code,
        status: status.as_u16(),
    }
}

fn show(plan: Plan, applied: bool) -> Json<PoolsPlan> {
    Json(PoolsPlan {
        revision: plan.revision,
        applied,
        pools: plan.pools,
        new_groups: plan.new_groups,
        errors: plan.obstacles.into_iter().map(error).collect(),
    })
}

/// Have the pools be as they should be, in one transaction: make, change and delete what it takes, or nothing where anything
/// stands in the way. With `dry_run`, only say what that is. Image and machine of a pool that there is do not change. What
/// desktops let people do is settled when they are made; who may watch them changes at once, as does who may use a pool, and
/// streams that rested on that are cut. Who may change some pools only can list those alone, and deletes no others with `prune`.
#[utoipa::path(post, path = "/apply", tag = "apply", security(("cookie" = []), ("token" = [])),
    request_body = ApplyPools, responses(
    (status = 200, body = PoolsPlan, description = "What was done; with `dry_run`, what would be, or why it cannot"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "image_not_found, user_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "plan_outdated, pool_fixed, pool_in_use"),
    (status = 413, body = Problem, content_type = "application/problem+json", description = "body_too_large"),
))]
pub async fn apply(
    State(app): State<Arc<App>>,
    caller: Scoped,
    Body(written): Body<Written>,
) -> Result<Json<PoolsPlan>> {
    if written.pools.len() > MOST_POOLS {
        return Err(ApiError::invalid(format!(
            "at most {MOST_POOLS} pools are taken at once, not {}",
            written.pools.len()
        )));
    }
    let pools = read(&written.pools).map_err(|mut faults| {
        let more = faults.len().saturating_sub(MOST_FAULTS);
        faults.truncate(MOST_FAULTS);
        if more > 0 {
            faults.push(format!("and {more} more"));
        }
        ApiError::invalid(faults.join("\n"))
    })?;
    let wanted = Wanted { pools, prune: written.prune };
    let (caller, reach) = caller.reach();
    if written.dry_run {
        return Ok(show(app.store.plan_pools(&reach, &wanted).await?, false));
    }
    let plan = app.store.apply_pools(&caller.name, &reach, &wanted, written.revision.as_deref()).await?;
    if plan.concerns_hosts() {
        app.control.changed([Change::Hosts]);
    }
    app.control.changed(plan.touched.iter().map(|pool| Change::Pool(*pool)));
    app.control.changed(plan.relieved.iter().map(|user| Change::User(*user)));
    if plan.withdraws {
        entitlements::withdrawn(&app).await;
    }
    Ok(show(plan, true))
}
