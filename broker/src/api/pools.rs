//! `/pools`: sets of like desktops.

use super::caller::SignedIn;
use super::extract::{Body, InPath, InQuery, Paging, after, limit, page};
use super::problem::{ApiError, Result};
use crate::app::App;
use crate::auth::names::check_name;
use crate::viewers::End;
use crate::{view, watch};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use lucarne_control::api::{NewPool, Page, Pool, Problem};
use lucarne_core::Change;
use serde::Deserialize;
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
    Body(new): Body<NewPool>,
) -> Result<impl IntoResponse> {
    if let Some((_, why)) = faults(&new).into_iter().next() {
        return Err(ApiError::invalid(why));
    }
    let image = app.store.resolve_image(&new.image).await?;
    let pool = app.store.create_pool(&caller.name, &new, &image.digest).await?;
    app.control.changed([Change::Hosts]);
    Ok((StatusCode::CREATED, Json(view::pool(pool, &app).await?)))
}

/// All pools.
#[utoipa::path(get, path = "/pools", tag = "pools", security(("cookie" = []), ("token" = [])),
    params(Paging), responses(
    (status = 200, body = Page<Pool>),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    _: SignedIn,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<Page<Pool>>> {
    let n = limit(paging.limit)?;
    let rows = app.store.pools(after(&paging.after)?, n + 1).await?;
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
    _: SignedIn,
    InPath(pool): InPath<String>,
) -> Result<Json<Pool>> {
    Ok(Json(view::pool(app.store.pool(&pool).await?, &app).await?))
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
    SignedIn(caller): SignedIn,
    InPath(pool): InPath<String>,
    InQuery(Force { force }): InQuery<Force>,
) -> Result<StatusCode> {
    let ended = app.store.delete_pool(&caller.name, &pool, force).await?;
    watch::tell(&app, &ended, &End::DesktopEnded);
    app.control.changed([Change::Hosts]);
    Ok(StatusCode::NO_CONTENT)
}
