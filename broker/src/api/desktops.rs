//! `/desktops`: what runs, for whom and where.

use super::extract::{Body, InPath, InQuery, Listing, Wait, after, limit, page};
use super::problem::Result;
use super::scoped::Scoped;
use super::sessions::until_gone;
use crate::app::App;
use crate::viewers::End;
use crate::{connect, launch, view, watch};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use lucarne_control::api::{Desktop, LaunchTimes, NewDesktop, NewPower, Page, Permission, Power, Problem};
use lucarne_core::store::{ConnectRequest, Error};
use std::sync::Arc;

/// Make a desktop for a user before they come.
#[utoipa::path(post, path = "/desktops", tag = "desktops", security(("cookie" = []), ("token" = [])),
    request_body = NewDesktop, responses(
    (status = 201, body = Desktop),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted, not_entitled"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "pool_not_found, user_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "already_assigned, pool_full, quota_reached"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "no_host, desktop_failed, host_in_maintenance"),
))]
pub async fn create(
    State(app): State<Arc<App>>,
    caller: Scoped,
    Body(new): Body<NewDesktop>,
) -> Result<impl IntoResponse> {
    let (caller, user, pool) = caller.desktop_of(&app, &new.user, &new.pool).await?;
    let request = ConnectRequest {
        user: user.id,
        actor: caller.name,
        // What was judged, whatever has that name by now.
        pool: pool.id.to_string(),
        session: false,
        clock: std::time::Instant::now,
    };
    let assigned = connect::assign(&app, request).await?;
    if !assigned.fresh && !assigned.prepared {
        let d = assigned.desktop;
        return Err(Error::AlreadyAssigned { user: user.name, pool: d.pool, desktop: d.name }.into());
    }
    Ok((StatusCode::CREATED, Json(view::desktop(assigned.desktop, &app.control.fleet))))
}

/// The caller's live desktops, and with `desktops:read` all those that it holds for; with `all` those of the past too.
#[utoipa::path(get, path = "/desktops", tag = "desktops", security(("cookie" = []), ("token" = [])),
    params(Listing), responses(
    (status = 200, body = Page<Desktop>),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InQuery(listing): InQuery<Listing>,
) -> Result<Json<Page<Desktop>>> {
    let n = limit(listing.limit)?;
    let (_, reach) = caller.reach();
    let rows = app.store.desktops(&reach, listing.all, after(&listing.after)?, n + 1).await?;
    let shown = rows.into_iter().map(|r| view::desktop(r, &app.control.fleet)).collect();
    Ok(page(shown, n, |d: &Desktop| d.id.to_string()))
}

/// How long each step took from the connect that made the desktop to the first picture that its user was sent.
#[utoipa::path(get, path = "/desktops/{id}/launch", tag = "desktops", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, description = "The desktop's id, or a live one's name")), responses(
    (status = 200, body = LaunchTimes),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "desktop_not_found"),
))]
pub async fn launch(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(id): InPath<String>,
) -> Result<Json<LaunchTimes>> {
    let (_, row) = caller.desktop(&app, &id).await?;
    let timings = view::desktop(row.clone(), &app.control.fleet).timings;
    Ok(Json(launch::times(&row, timings)))
}

/// One desktop.
#[utoipa::path(get, path = "/desktops/{id}", tag = "desktops", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, description = "The desktop's id, or a live one's name")), responses(
    (status = 200, body = Desktop),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "desktop_not_found"),
))]
pub async fn show(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(id): InPath<String>,
) -> Result<Json<Desktop>> {
    let (_, row) = caller.desktop(&app, &id).await?;
    Ok(Json(view::desktop(row, &app.control.fleet)))
}

/// Destroy a desktop with everything in it; its user's session ends.
#[utoipa::path(delete, path = "/desktops/{id}", tag = "desktops", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, description = "The desktop's id, or a live one's name"), Wait), responses(
    (status = 202, description = "Decided and on record"),
    (status = 204, description = "With `wait`: gone, confirmed by its host"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "desktop_not_found"),
    (status = 504, body = Problem, content_type = "application/problem+json", description = "not_confirmed"),
))]
pub async fn destroy(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(id): InPath<String>,
    InQuery(Wait { wait }): InQuery<Wait>,
) -> Result<StatusCode> {
    let (caller, row) = caller.desktop(&app, &id).await?;
    let desktop = row.id;
    let reason = format!("destroyed by {}", caller.name);
    let ended = app.store.end_desktop(&caller.name, desktop, &reason).await?;
    watch::tell(&app, &ended, &End::DesktopEnded);
    if wait {
        until_gone(&app, desktop).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    Ok(StatusCode::ACCEPTED)
}

/// Power a personal desktop on or off, or suspend it. Its user's session ends when it does not run any more; its disk stays.
#[utoipa::path(put, path = "/desktops/{id}/power", tag = "desktops", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, description = "The desktop's id, or a live one's name")), request_body = NewPower, responses(
    (status = 202, description = "Decided and on record"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted, not_entitled"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "desktop_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "not_personal"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "host_in_maintenance"),
))]
pub async fn power(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(id): InPath<String>,
    Body(new): Body<NewPower>,
) -> Result<StatusCode> {
    let (caller, row) = caller.desktop(&app, &id).await?;
    let as_own = !app.store.holds(&caller.reach(&[Permission::DesktopsWrite]), row.object()).await?;
    if let Some((user, name)) = row.user.clone().filter(|_| new.state == Power::On && as_own)
        && !app.store.may_use(user, &row.pool).await?
    {
        return Err(Error::NotEntitled { user: name, pool: row.pool }.into());
    }
    let (changed, end) = match new.state {
        Power::On => (app.store.power_on(&caller.name, row.id).await?, End::PoweredOff),
        Power::Off => (app.store.power_off(&caller.name, row.id).await?, End::PoweredOff),
        Power::Suspended => (app.store.suspend(&caller.name, row.id).await?, End::Suspended),
    };
    watch::tell(&app, &changed, &end);
    Ok(StatusCode::ACCEPTED)
}
