//! `/health`: the program and its state, for scripts that wait.

use super::problem::Result;
use crate::app::App;
use axum::Json;
use axum::extract::State;
use lucarne_control::api::Health;
use std::sync::Arc;

/// The broker is there.
#[utoipa::path(get, path = "/health", tag = "health", responses((status = 200, body = Health)))]
pub async fn health(State(app): State<Arc<App>>) -> Result<Json<Health>> {
    Ok(Json(Health {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hosts_online: u32::try_from(app.store.hosts_online().await?).unwrap_or(u32::MAX),
    }))
}
