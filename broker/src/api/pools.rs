//! `/pools`: sets of like desktops.

use super::caller::SignedIn;
use super::extract::{Body, InPath, InQuery, Paging, after, limit, page, rewrite};
use super::problem::{ApiError, Result};
use super::scoped::Scoped;
use crate::app::App;
use crate::auth::names::check_name;
use crate::viewers::End;
use crate::{view, watch};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use lucarne_control::api::{NewPool, Page, Pool, Problem};
use lucarne_control::object::Object;
use lucarne_core::{Change, schedule};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::IntoParams;

/// Desktops that one pool may have at most.
const MOST_DESKTOPS: u32 = 100_000;

/// The longest description, characters.
const LONGEST_DESCRIPTION: usize = 500;

/// What is wrong with a pool, with the field that it is in.
pub fn faults(new: &NewPool) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let mut check = |field, checked: Result<(), String>| faults.extend(checked.err().map(|why| (field, why)));
    check("name", check_name("pool", &new.name));
    check("machine", new.machine.unwrap_or_default().check());
    check("recording", new.recording.check());
    check("ready", schedule::check(&new.ready));
    check("limits", new.limits.check());
    check("power", new.power.check(new.kind));
    check("placement", new.placement.check());
    check("home", new.home.check(new.kind, &new.ready));
    check("snapshots", new.snapshots.check(new.kind));
    for group in &new.entitled_groups {
        check("entitled_groups", check_name("group", group));
    }
    if !(1..=MOST_DESKTOPS).contains(&new.max_desktops.unwrap_or(1)) {
        check("max_desktops", Err(format!("max_desktops is from 1 to {MOST_DESKTOPS}")));
    }
    if new.description.chars().count() > LONGEST_DESCRIPTION {
        check("description", Err(format!("a description has at most {LONGEST_DESCRIPTION} characters")));
    }
    faults
}

/// A pool as it is written, and what in it means nothing: a word that is not known would be a wish that nobody fulfils.
///
/// # Errors
/// When it is no pool.
pub fn read(written: &Value) -> Result<(NewPool, Vec<String>), serde_json::Error> {
    let (mut written, mut found) = (written.clone(), Vec::new());
    rewrite(&mut written);
    let Object(new) = serde_json::from_value::<Object<NewPool>>(written.clone())?;
    unknown(&written, &serde_json::to_value(&new)?, "", &mut found);
    let why = |field| format!("there is no field {field}; the API's description names all that there are");
    Ok((new, found.into_iter().map(why).collect()))
}

/// Collects what in `written` is not in what was understood of it.
fn unknown(written: &Value, understood: &Value, at: &str, found: &mut Vec<String>) {
    if let (Value::Array(written), Value::Array(understood)) = (written, understood) {
        for (i, (value, understood)) in written.iter().zip(understood).enumerate() {
            unknown(value, understood, &format!("{at}[{i}]"), found);
        }
    }
    let (Value::Object(written), Value::Object(understood)) = (written, understood) else { return };
    for (name, value) in written {
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        match understood.get(name) {
            Some(understood) => unknown(value, understood, &path, found),
            None => found.push(path),
        }
    }
}

/// Make a pool; hosts that have the image begin to make its template.
#[utoipa::path(post, path = "/pools", tag = "pools", security(("cookie" = []), ("token" = [])),
    request_body = NewPool, responses(
    (status = 201, body = Pool),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "image_not_found, user_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "name_taken"),
))]
pub async fn create(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    Body(written): Body<Map<String, Value>>,
) -> Result<impl IntoResponse> {
    let (new, strange) = read(&Value::Object(written)).map_err(|e| ApiError::invalid(e.to_string()))?;
    if let Some(why) = strange.into_iter().chain(faults(&new).into_iter().map(|(_, why)| why)).next() {
        return Err(ApiError::invalid(why));
    }
    let image = app.store.resolve_image(&new.image).await?;
    let pool = app.store.create_pool(&caller.name, &new, &image.digest).await?;
    app.control.changed([Change::Hosts, Change::Pool(pool.id)]);
    Ok((StatusCode::CREATED, Json(view::pool(pool, &app).await?)))
}

/// All pools that the caller may see.
#[utoipa::path(get, path = "/pools", tag = "pools", security(("cookie" = []), ("token" = [])),
    params(Paging), responses(
    (status = 200, body = Page<Pool>),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<Page<Pool>>> {
    let n = limit(paging.limit)?;
    let (_, reach) = caller.reach();
    let rows = app.store.pools(&reach, after(&paging.after)?, n + 1).await?;
    let mut pools = Vec::new();
    for row in rows {
        pools.push(view::pool(row, &app).await?);
    }
    Ok(page(pools, n, |p: &Pool| p.id.to_string()))
}

/// One pool.
#[utoipa::path(get, path = "/pools/{pool}", tag = "pools", security(("cookie" = []), ("token" = [])),
    params(("pool" = String, Path, description = "Name or id")), responses(
    (status = 200, body = Pool),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "pool_not_found"),
))]
pub async fn show(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(pool): InPath<String>,
) -> Result<Json<Pool>> {
    let (_, pool) = caller.pool(&app, &pool).await?;
    Ok(Json(view::pool(pool, &app).await?))
}

/// Whether to destroy what is in use.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Force {
    /// Destroy the pool's desktops with everything in them.
    #[serde(default)]
    force: bool,
}

/// Delete a pool.
#[utoipa::path(delete, path = "/pools/{pool}", tag = "pools", security(("cookie" = []), ("token" = [])),
    params(("pool" = String, Path, description = "Name or id"), Force), responses(
    (status = 204, description = "Deleted"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "pool_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "pool_in_use"),
))]
pub async fn delete(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(pool): InPath<String>,
    InQuery(Force { force }): InQuery<Force>,
) -> Result<StatusCode> {
    let (caller, pool) = caller.pool(&app, &pool).await?;
    let deleted = app.store.delete_pool(&caller.name, &pool.id.to_string(), force).await?;
    watch::tell(&app, &deleted.ended, &End::DesktopEnded);
    app.control.changed([Change::Hosts, Change::Pool(pool.id), Change::Entitlements]);
    app.control.changed(deleted.users.into_iter().map(Change::User));
    Ok(StatusCode::NO_CONTENT)
}
