//! `/explain`: why a user has what they have, or gets what they get.

use super::extract::InQuery;
use super::problem::Result;
use super::scoped::Scoped;
use crate::app::App;
use axum::Json;
use axum::extract::State;
use lucarne_control::api::{Explanation, Problem};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Who, and of what.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Of {
    /// The user's name or id.
    user: String,
    /// The pool's name or id.
    pool: String,
}

/// What would happen if the user connected to the pool now: each rule and each host that is asked, and what it says. Nothing is done.
#[utoipa::path(get, path = "/explain", tag = "explain", security(("cookie" = []), ("token" = [])),
    params(Of), responses(
    (status = 200, body = Explanation),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "user_not_found, pool_not_found"),
))]
pub async fn explain(
    State(app): State<Arc<App>>,
    caller: Scoped,
    InQuery(Of { user, pool }): InQuery<Of>,
) -> Result<Json<Explanation>> {
    let (_, user, pool) = caller.desktop_of(&app, &user, &pool).await?;
    Ok(Json(app.control.explain(&user.id.to_string(), &pool.id.to_string()).await?))
}
