//! `/hosts`: the nodes that run desktops.

use super::caller::SignedIn;
use super::extract::{Body, InPath, InQuery, Paging, after, limit, page};
use super::problem::{ApiError, Result};
use crate::app::App;
use crate::viewers::End;
use crate::watch;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lucarne_control::api::{DeadHost, DenyHost, Host, NewLabels, NewMaintenance, Page, Problem};
use lucarne_control::pool::check_labels;
use lucarne_core::Change;
use lucarne_core::store::LONGEST_NOTICE;
use std::sync::Arc;

/// All hosts.
#[utoipa::path(get, path = "/hosts", tag = "hosts", security(("cookie" = []), ("token" = [])),
    params(Paging), responses(
    (status = 200, body = Page<Host>),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    _: SignedIn,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<Page<Host>>> {
    let n = limit(paging.limit)?;
    let rows = app.store.hosts(after(&paging.after)?, n + 1).await?;
    Ok(page(rows, n, |h: &Host| h.id.to_string()))
}

/// One host.
#[utoipa::path(get, path = "/hosts/{host}", tag = "hosts", security(("cookie" = []), ("token" = [])),
    params(("host" = String, Path, description = "Name or id")), responses(
    (status = 200, body = Host),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "host_not_found"),
))]
pub async fn show(
    State(app): State<Arc<App>>,
    _: SignedIn,
    InPath(host): InPath<String>,
) -> Result<Json<Host>> {
    Ok(Json(app.store.host(&host).await?))
}

/// Forget a host that is not connected and has no desktop.
#[utoipa::path(delete, path = "/hosts/{host}", tag = "hosts", security(("cookie" = []), ("token" = [])),
    params(("host" = String, Path, description = "Name or id")), responses(
    (status = 204, description = "Forgotten; on a broker's own machine it is known again when its agent connects, and else when it is enrolled again"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "host_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "host_in_use"),
))]
pub async fn delete(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(host): InPath<String>,
) -> Result<StatusCode> {
    let host = app.store.host(&host).await?;
    app.store.delete_host(&caller.name, &host).await?;
    app.control.changed([Change::HostRecord(host.id)]);
    Ok(StatusCode::NO_CONTENT)
}

/// Declare a host dead that will not come back, or that was seen to be off: its desktops end, and their places are free. Should
/// it come back it destroys what it has. Nothing but your word stands behind it.
#[utoipa::path(post, path = "/hosts/{host}/fence", tag = "hosts", security(("cookie" = []), ("token" = [])),
    params(("host" = String, Path, description = "Name or id")), request_body = DeadHost, responses(
    (status = 204, description = "Its desktops have ended"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "host_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "host_in_use: its agent is, or has been, connected"),
))]
pub async fn fence(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(host): InPath<String>,
    Body(DeadHost { epoch, evidence }): Body<DeadHost>,
) -> Result<StatusCode> {
    let evidence = words(&evidence, "evidence says in 3 to 500 characters why the host is known to be dead")?;
    let host = app.store.host(&host).await?;
    let ended = app.store.fence_host(&caller.name, host.id, epoch, evidence).await?;
    watch::tell(&app, &ended, &End::DesktopEnded);
    app.control.changed([Change::HostRecord(host.id)]);
    Ok(StatusCode::NO_CONTENT)
}

/// What somebody gives as a reason.
fn words<'a>(text: &'a str, otherwise: &str) -> Result<&'a str> {
    let trimmed = text.trim();
    match text.chars().count() <= 500 && trimmed.chars().count() >= 3 {
        true => Ok(trimmed),
        false => Err(ApiError::invalid(otherwise.to_owned())),
    }
}

/// Deny a host: it is cut off within seconds, with the streams of its desktops, and may not connect until it is allowed again. What
/// runs there runs on, unreachable; users of floating desktops get fresh ones elsewhere.
#[utoipa::path(put, path = "/hosts/{host}/denial", tag = "hosts", security(("cookie" = []), ("token" = [])),
    params(("host" = String, Path, description = "Name or id")), request_body = DenyHost, responses(
    (status = 204, description = "It is denied"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "host_not_found"),
))]
pub async fn deny(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(host): InPath<String>,
    Body(DenyHost { reason }): Body<DenyHost>,
) -> Result<StatusCode> {
    let reason = words(&reason, "reason says in 3 to 500 characters why the host is denied")?;
    let host = app.store.host(&host).await?;
    app.store.deny_host(&caller.name, host.id, reason).await?;
    // Whoever has its link finds it lost; whoever has viewers there ends them.
    app.control.changed([Change::Denied(host.id), Change::Host(host.id), Change::Link(host.id)]);
    watch::check_all_sessions(&app).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Let a host that was denied connect again.
#[utoipa::path(delete, path = "/hosts/{host}/denial", tag = "hosts", security(("cookie" = []), ("token" = [])),
    params(("host" = String, Path, description = "Name or id")), responses(
    (status = 204, description = "It may connect"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "host_not_found"),
))]
pub async fn allow(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(host): InPath<String>,
) -> Result<StatusCode> {
    let host = app.store.host(&host).await?;
    app.store.allow_host(&caller.name, host.id).await?;
    app.control.changed([Change::HostRecord(host.id)]);
    Ok(StatusCode::NO_CONTENT)
}

/// Let no new desktops go to a host. Those that are there stay until their users log off.
#[utoipa::path(put, path = "/hosts/{host}/drain", tag = "hosts", security(("cookie" = []), ("token" = [])),
    params(("host" = String, Path, description = "Name or id")), responses(
    (status = 204, description = "None go there"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "host_not_found"),
))]
pub async fn drain(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(host): InPath<String>,
) -> Result<StatusCode> {
    let host = app.store.host(&host).await?;
    app.store.drain_host(&caller.name, host.id, true).await?;
    app.control.changed([Change::HostRecord(host.id)]);
    Ok(StatusCode::NO_CONTENT)
}

/// Let new desktops go to a host again.
#[utoipa::path(delete, path = "/hosts/{host}/drain", tag = "hosts", security(("cookie" = []), ("token" = [])),
    params(("host" = String, Path, description = "Name or id")), responses(
    (status = 204, description = "They may"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "host_not_found"),
))]
pub async fn resume(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(host): InPath<String>,
) -> Result<StatusCode> {
    let host = app.store.host(&host).await?;
    app.store.drain_host(&caller.name, host.id, false).await?;
    app.control.changed([Change::HostRecord(host.id)]);
    Ok(StatusCode::NO_CONTENT)
}

/// Give a host labels, in the place of those that it has. Pools can ask for them; desktops that are there stay.
#[utoipa::path(put, path = "/hosts/{host}/labels", tag = "hosts", security(("cookie" = []), ("token" = [])),
    params(("host" = String, Path, description = "Name or id")), request_body = NewLabels, responses(
    (status = 200, body = Host),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "host_not_found"),
))]
pub async fn label(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(host): InPath<String>,
    Body(new): Body<NewLabels>,
) -> Result<Json<Host>> {
    check_labels(&new.labels).map_err(ApiError::invalid)?;
    let host = app.store.host(&host).await?;
    app.store.label_host(&caller.name, host.id, &new.labels).await?;
    app.control.changed([Change::HostRecord(host.id)]);
    Ok(Json(app.store.host(&host.name).await?))
}

/// Have a host be empty at a time, so that somebody can work on it. From now on no new desktops go there; at the time floating
/// desktops end and personal ones are powered off. Viewers are told before.
#[utoipa::path(put, path = "/hosts/{host}/maintenance", tag = "hosts", security(("cookie" = []), ("token" = [])),
    params(("host" = String, Path, description = "Name or id")), request_body = NewMaintenance, responses(
    (status = 200, body = Host),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "host_not_found"),
))]
pub async fn maintain(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(host): InPath<String>,
    Body(new): Body<NewMaintenance>,
) -> Result<Json<Host>> {
    let in_ms = i64::from(new.in_s) * 1000;
    if in_ms > LONGEST_NOTICE {
        return Err(ApiError::invalid(format!(
            "in_s is at most {} s, which is 30 days",
            LONGEST_NOTICE / 1000
        )));
    }
    let host = app.store.host(&host).await?;
    app.store.maintain_host(&caller.name, host.id, Some(in_ms)).await?;
    app.control.changed([Change::HostRecord(host.id)]);
    app.control.upkeep.notify_one();
    Ok(Json(app.store.host(&host.name).await?))
}

/// Let desktops run on a host again, and new ones go there.
#[utoipa::path(delete, path = "/hosts/{host}/maintenance", tag = "hosts", security(("cookie" = []), ("token" = [])),
    params(("host" = String, Path, description = "Name or id")), responses(
    (status = 204, description = "They may"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "host_not_found"),
))]
pub async fn end_maintenance(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(host): InPath<String>,
) -> Result<StatusCode> {
    let host = app.store.host(&host).await?;
    app.store.maintain_host(&caller.name, host.id, None).await?;
    app.control.changed([Change::HostRecord(host.id)]);
    Ok(StatusCode::NO_CONTENT)
}
