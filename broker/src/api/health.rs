//! `/health`: the program and its state, for scripts that wait.

use crate::app::App;
use axum::Json;
use axum::extract::State;
use lucarne_control::api::Health;
use std::sync::Arc;

/// The broker is there.
#[utoipa::path(get, path = "/health", tag = "health", responses((status = 200, body = Health)))]
pub async fn health(State(app): State<Arc<App>>) -> Json<Health> {
    Json(Health {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hosts_online: u32::try_from(app.fleet.online()).unwrap_or(u32::MAX),
    })
}
