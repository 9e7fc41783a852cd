//! `/sessions/{id}/trace`: what the viewers' last updates cost, stage by stage, told by the desktop's host and kept nowhere.

use super::extract::{InPath, InQuery};
use super::problem::{ApiError, Result};
use super::scoped::Scoped;
use crate::app::App;
use crate::connect;
use crate::gateway::link;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lucarne_control::SessionId;
use lucarne_control::api::Problem;
use lucarne_control::link::Purpose;
use lucarne_control::trace::Trace;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use utoipa::IntoParams;

/// The largest trace that is passed on, bytes: some twenty viewers with all of their updates.
const LARGEST: u64 = 4 << 20;

/// The longest wait for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Updates of each viewer that can be listed. A desktop remembers no more.
const MOST: u32 = 256;

/// How much.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Last {
    /// Updates of each viewer to list, 0 to 256; 10 when left out. The stages' times are always of all that are remembered.
    #[param(maximum = 256)]
    last: Option<u32>,
}

/// What the last updates of the session's viewers cost, stage by stage from a key to its present.
#[utoipa::path(get, path = "/sessions/{id}/trace", tag = "sessions", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, format = "uuid", description = "The session's id"), Last), responses(
    (status = 200, body = Trace),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "session_not_found"),
    (status = 410, body = Problem, content_type = "application/problem+json", description = "session_ended"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "no_trace: the desktop does not tell"),
))]
pub async fn trace(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InPath(id): InPath<SessionId>,
    InQuery(Last { last }): InQuery<Last>,
) -> Result<Json<Trace>> {
    let last = last.unwrap_or(10);
    if last > MOST {
        return Err(ApiError::invalid(format!("last is from 0 to {MOST} updates, not {last}")));
    }
    caller.session(&app, id).await?;
    let placed = app.store.session_desktop(id).await?;
    let no_trace = |detail: String| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_trace", detail);
    let at = connect::reach(&app, placed).await.map_err(no_trace)?;
    let fetch = async {
        let stream = link::open(&app, &at.endpoint, &at.placed, Some(id), Purpose::Trace { last }).await?;
        let mut json = Vec::new();
        stream.take(LARGEST).read_to_end(&mut json).await.map_err(link::Error::from)?;
        serde_json::from_slice::<Trace>(&json).map_err(|e| link::Error::Unreadable(e.to_string()))
    };
    let late = || no_trace("the desktop's display gave no trace in time".to_owned());
    let told = timeout(PATIENCE, fetch).await.map_err(|_| late())?.map_err(|e| no_trace(e.to_string()))?;
    Ok(Json(Trace { connections: app.connections.figures(id), ..told }))
}
