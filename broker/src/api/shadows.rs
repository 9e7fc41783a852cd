//! `/sessions/{id}/shadow` and `/sessions/{id}/viewers`: administrators who watch, users who answer, and ending a viewer.

use super::caller::SignedIn;
use super::extract::{Body, InPath};
use super::problem::{ApiError, Result};
use super::scoped::Scoped;
use super::sessions::{STREAM, own_live};
use crate::app::App;
use crate::shadow::{self, Allowed};
use crate::view;
use crate::viewers::Answer;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lucarne_control::api::{Connection, Problem};
use lucarne_control::viewer::{NewShadow, ShadowAnswer};
use lucarne_control::{SessionId, ShadowId};
use lucarne_core::store::Error;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The longest reason, characters.
const LONGEST_REASON: usize = 200;

/// Watch a session, as the pool's policy allows. With `with_consent` the user is asked, and this answers when they did, within
/// 30 s; closing the request takes the question back.
#[utoipa::path(post, path = "/sessions/{id}/shadow", tag = "sessions", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, format = "uuid", description = "The session's id")), request_body = NewShadow, responses(
    (status = 201, body = Connection, description = "Redeem the ticket within 30 s; it opens a view-only stream, or one with control"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted, shadow_off, shadow_control_off, shadow_denied, shadow_unanswered"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "session_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "nobody_to_ask, already_asking, shadow_unseen"),
    (status = 410, body = Problem, content_type = "application/problem+json", description = "session_ended"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "desktop_unreachable"),
))]
pub async fn shadow(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(id): InPath<SessionId>,
    Body(new): Body<NewShadow>,
) -> Result<(StatusCode, Json<Connection>)> {
    let (caller, _) = caller.session(&app, id).await?;
    if new.reason.chars().count() > LONGEST_REASON || new.reason.chars().any(char::is_control) {
        let detail = format!("a reason is one line of at most {LONGEST_REASON} characters");
        return Err(ApiError::invalid(detail));
    }
    let gone = CancellationToken::new();
    let _here = gone.clone().drop_guard();
    let asking = Arc::clone(&app);
    // In a task of its own, so that the record is complete when the client goes while it waits.
    let asked = app.streams.spawn(async move { shadow::ask(&asking, id, &caller.name, &new, gone).await });
    let Allowed { ticket, placed } = asked.await.map_err(|e| ApiError::internal(&e))??;
    let session = app.store.session(id).await?.session;
    let desktop = app.store.desktop(&placed.desktop.to_string()).await?;
    let connection = Connection {
        session: view::session(session, &app.viewers),
        desktop: view::desktop(desktop, &app.control.fleet),
        ticket: Some(ticket),
        websocket: STREAM.to_owned(),
        takes_over: Vec::new(),
        detail: String::new(),
        progress: None,
    };
    Ok((StatusCode::CREATED, Json(connection)))
}

/// Answer an administrator's question to watch the caller's session; its id came in a `Notice`.
#[utoipa::path(post, path = "/sessions/{id}/shadows/{shadow}", tag = "sessions", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, format = "uuid", description = "The session's id"), ("shadow" = String, Path, format = "uuid", description = "The question's id")),
    request_body = ShadowAnswer, responses(
    (status = 204, description = "Answered"),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "session_not_found, shadow_not_found: it was answered, taken back, or is too old"),
    (status = 410, body = Problem, content_type = "application/problem+json", description = "session_ended"),
))]
pub async fn answer(
    State(app): State<Arc<App>>,
    caller: SignedIn,
    InPath((id, shadow)): InPath<(SessionId, ShadowId)>,
    Body(ShadowAnswer { allow }): Body<ShadowAnswer>,
) -> Result<StatusCode> {
    own_live(&app, &caller, id).await?;
    let answer = Answer { by: caller.0.name, allow };
    if app.viewers.answer(id, shadow, answer) {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Error::NotFound { what: "shadow", name: shadow.to_string() }.into())
}

/// End one viewer of a session, by its user or an administrator: a shadow above all. The desktop runs on.
#[utoipa::path(delete, path = "/sessions/{id}/viewers/{viewer}", tag = "sessions", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, format = "uuid", description = "The session's id"), ("viewer" = u64, Path, description = "The viewer's id")),
    responses(
    (status = 204, description = "Ended"),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "session_not_found, viewer_not_found"),
))]
pub async fn end_viewer(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath((id, viewer)): InPath<(SessionId, u64)>,
) -> Result<StatusCode> {
    let (caller, _) = caller.session(&app, id).await?;
    if !app.viewers.stop(id, viewer, &caller.name) {
        return Err(Error::NotFound { what: "viewer", name: viewer.to_string() }.into());
    }
    let subject = format!("viewer {viewer} of {id}");
    app.store.note(&caller.name, "viewer.ended", &subject, "the desktop runs on").await?;
    Ok(StatusCode::NO_CONTENT)
}
