//! `/sessions`: connect, reconnect, log off.

use super::caller::SignedIn;
use super::extract::{Body, InPath, InQuery, Wait, after, limit, page};
use super::problem::{ApiError, Result};
use super::scoped::Scoped;
use crate::app::App;
use crate::connect::{self, Outcome};
use crate::viewers::End;
use crate::watch;
use crate::{secret, view};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use lucarne_control::api::{Connection, NewSession, Page, Permission, Problem, Session, SessionState};
use lucarne_control::desktop::DesiredState;
use lucarne_control::viewer::ViewerWish;
use lucarne_control::{DesktopId, SessionId};
use lucarne_core::Entry;
use lucarne_core::store::{Assigned, Caller, DesktopRow, Reach, SessionRow};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

/// The wait for a picture when the client says nothing, milliseconds.
const WAIT: u32 = 20_000;

/// The longest wait that a client may ask for, milliseconds.
const LONGEST_WAIT: u32 = 60_000;

/// The longest wait for a confirmed destruction.
const END_WAIT: Duration = Duration::from_secs(60);

/// The WebSocket's path.
pub(super) const STREAM: &str = "/api/v1/stream";

/// Connect to a pool: the desktop that the caller has of it, or a fresh one.
#[utoipa::path(post, path = "/sessions", tag = "sessions", security(("cookie" = []), ("token" = [])),
    request_body = NewSession, responses(
    (status = 201, body = Connection, description = "The picture is there; redeem the ticket within 30 s"),
    (status = 202, body = Connection, description = "Not ready: the desktop is the caller's; ask again"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_a_user, not_entitled"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "pool_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "pool_full, quota_reached, too_many_viewers"),
    (status = 410, body = Problem, content_type = "application/problem+json", description = "session_ended: logged off meanwhile"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "no_host, desktop_failed, host_in_maintenance"),
))]
pub async fn create(
    State(app): State<Arc<App>>,
    caller: SignedIn,
    Body(new): Body<NewSession>,
) -> Result<Response> {
    let user = caller.user()?;
    let wait = wait(new.wait_ms)?;
    let outcome = connect::connect(&app, user, &caller.0.name, &new.pool, wait).await?;
    answer(&app, outcome, new.viewers).await
}

fn wait(ms: Option<u32>) -> Result<Duration> {
    match ms.unwrap_or(WAIT) {
        ms if ms <= LONGEST_WAIT => Ok(Duration::from_millis(ms.into())),
        ms => Err(ApiError::invalid(format!("wait_ms is at most {LONGEST_WAIT}, not {ms}"))),
    }
}

async fn answer(app: &App, outcome: Outcome, wish: ViewerWish) -> Result<Response> {
    let mut takes_over = Vec::new();
    let (assigned, ticket, detail, progress) = match outcome {
        Outcome::Ready { assigned, at } => {
            let ticket = secret::generate()?;
            let session = session(&assigned)?.id;
            takes_over = app.viewers.in_the_way(session, Entry::User(wish)).map_err(|full| {
                let detail = format!("{full}; end one of them, or take over");
                ApiError::new(StatusCode::CONFLICT, "too_many_viewers", detail)
            })?;
            app.store.create_ticket(session, at.placed.generation, &secret::hash(&ticket), wish).await?;
            (assigned, Some(ticket), String::new(), None)
        }
        Outcome::Waiting { assigned, detail, progress } => (assigned, None, detail, progress),
    };
    let ready = ticket.is_some();
    let connection = Json(Connection {
        session: view::session(session(&assigned)?.clone(), &app.viewers),
        desktop: view::desktop(assigned.desktop, &app.control.fleet),
        ticket,
        websocket: STREAM.to_owned(),
        takes_over,
        detail,
        progress,
    });
    Ok(if ready {
        (StatusCode::CREATED, connection).into_response()
    } else {
        (StatusCode::ACCEPTED, [(header::RETRY_AFTER, "1")], connection).into_response()
    })
}

fn session(assigned: &Assigned) -> Result<&Session> {
    let session = assigned.session.as_ref().map(|s| &s.session);
    session.ok_or_else(|| ApiError::invalid("no session was asked for"))
}

/// Which page of whose sessions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// `next` of the page before; the first page when left out.
    #[serde(default)]
    #[param(pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$")]
    after: String,
    /// Rows, 1 to 500; 100 when left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    /// All that the caller may see.
    #[serde(default)]
    all: bool,
    /// Those that have ended too.
    #[serde(default)]
    ended: bool,
}

/// The caller's live sessions, and with `all=true` all those that their `desktops:read` holds for; with `ended` those of the past too.
#[utoipa::path(get, path = "/sessions", tag = "sessions", security(("cookie" = []), ("token" = [])),
    params(Listing), responses(
    (status = 200, body = Page<Session>),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_a_user: the local administrator, whose user was deleted"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InQuery(listing): InQuery<Listing>,
) -> Result<Json<Page<Session>>> {
    let n = limit(listing.limit)?;
    let (caller, mut reach) = caller.reach();
    if !listing.all {
        reach = own(caller)?;
    }
    let rows = app.store.sessions(&reach, listing.ended, after(&listing.after)?, n + 1).await?;
    Ok(page(rows.into_iter().map(|r| view::session(r.session, &app.viewers)).collect(), n, |s: &Session| {
        s.id.to_string()
    }))
}

/// The caller's own.
fn own(caller: Caller) -> Result<Reach> {
    if !caller.may(Permission::Own) && !caller.may(Permission::DesktopsRead) {
        let detail = "one's own sessions take own; ask with all=true for those that desktops:read holds for";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "not_permitted", detail));
    }
    Ok(Reach::own(SignedIn(caller).user()?))
}

/// The caller's own session, if it has not ended, and its desktop.
///
/// # Errors
/// `session_not_found`, `session_ended`.
pub async fn own_live(app: &App, caller: &SignedIn, id: SessionId) -> Result<(SessionRow, DesktopRow)> {
    let row = app.store.session(id).await?;
    if caller.0.user != Some(row.user) {
        return Err(lucarne_core::store::Error::NotFound { what: "session", name: id.to_string() }.into());
    }
    let desktop = app.store.desktop(&row.session.desktop.to_string()).await?;
    if row.session.state == SessionState::Ended || desktop.desired == DesiredState::Absent {
        return Err(lucarne_core::store::Error::SessionEnded(id.to_string()).into());
    }
    Ok((row, desktop))
}

/// One session and its viewers.
#[utoipa::path(get, path = "/sessions/{id}", tag = "sessions", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, format = "uuid", description = "The session's id")), responses(
    (status = 200, body = Session),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "session_not_found"),
))]
pub async fn show(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(id): InPath<SessionId>,
) -> Result<Json<Session>> {
    let (_, row) = caller.session(&app, id).await?;
    Ok(Json(view::session(row.session, &app.viewers)))
}

/// What a newcomer wants.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wish {
    /// What happens to the viewers that are there already: `take_over` when left out.
    #[serde(default)]
    viewers: ViewerWish,
}

/// Reconnect to the session's desktop: a new ticket.
#[utoipa::path(post, path = "/sessions/{id}/ticket", tag = "sessions", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, format = "uuid", description = "The session's id"), Wish), responses(
    (status = 201, body = Connection, description = "The same desktop; redeem the ticket within 30 s"),
    (status = 202, body = Connection, description = "Not ready; ask again"),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "session_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "too_many_viewers"),
    (status = 410, body = Problem, content_type = "application/problem+json", description = "session_ended"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "no_host, desktop_failed, host_in_maintenance"),
))]
pub async fn ticket(
    State(app): State<Arc<App>>,
    caller: SignedIn,
    InPath(id): InPath<SessionId>,
    InQuery(Wish { viewers }): InQuery<Wish>,
) -> Result<Response> {
    let (row, desktop) = own_live(&app, &caller, id).await?;
    let template = app.store.pool(&row.session.pool).await?.template;
    let assigned = Assigned {
        desktop,
        session: Some(row),
        template,
        fresh: false,
        prepared: false,
        powered_on: false,
        replaced: None,
        held_at: None,
    };
    let outcome = connect::wait_for_picture(&app, assigned, Duration::from_millis(WAIT.into())).await?;
    answer(&app, outcome, viewers).await
}

/// Log off: the desktop is destroyed with everything in it. When this answers, that is decided and on record.
#[utoipa::path(delete, path = "/sessions/{id}", tag = "sessions", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, format = "uuid", description = "The session's id"), Wait), responses(
    (status = 204, description = "Logged off; with `wait` the desktop is gone, confirmed by its host"),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "session_not_found"),
    (status = 504, body = Problem, content_type = "application/problem+json", description = "not_confirmed: the host has not answered yet"),
))]
pub async fn log_off(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(id): InPath<SessionId>,
    InQuery(Wait { wait }): InQuery<Wait>,
) -> Result<StatusCode> {
    let (caller, _) = caller.session(&app, id).await?;
    let (desktop, ended) = app.store.log_off(&caller.name, id).await?;
    watch::tell(&app, &ended, &End::LoggedOff);
    // A personal desktop stays.
    if wait && !app.store.desktop(&desktop.to_string()).await?.persistent {
        until_gone(&app, desktop).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Waits until a desktop's host has confirmed that it is gone.
///
/// # Errors
/// `not_confirmed` when the host takes too long; the end stays decided.
pub async fn until_gone(app: &App, desktop: DesktopId) -> Result<()> {
    let deadline = Instant::now() + END_WAIT;
    let mut changed = app.control.fleet.watch();
    loop {
        changed.borrow_and_update();
        if app.store.desktop(&desktop.to_string()).await?.ended {
            return Ok(());
        }
        if timeout_at(deadline, changed.changed()).await.is_err() {
            let detail = format!(
                "the end of the desktop {desktop} is on record and nobody can use it, but its host has not confirmed \
                 the destruction within {} s; it will when it answers",
                END_WAIT.as_secs()
            );
            return Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, "not_confirmed", detail));
        }
    }
}
