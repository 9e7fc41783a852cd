//! The REST API under `/api/v1`: one file per resource, and the OpenAPI document that is derived from the handlers.
//!
//! Handlers translate: extract, call the store or [`connect`](crate::connect), show. They hold no rules of their own.

pub mod access;
mod apply;
mod audit;
mod auth;
pub mod caller;
mod desktops;
mod disks;
mod document;
mod enrollments;
mod entitlements;
mod events;
mod explain;
mod extract;
mod groups;
mod health;
mod hosts;
mod idempotency;
mod images;
mod me;
mod pools;
mod portal;
pub mod problem;
mod roles;
mod scoped;
mod security;
mod sessions;
mod shadows;
mod snapshots;
mod stream;
mod thumbnail;
mod trace;
mod users;
mod viewer_password;
mod whole;

use crate::app::App;
use crate::{metrics, web};
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Router, routing};
use std::sync::Arc;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(OpenApi)]
#[openapi(
    components(schemas(lucarne_control::viewer::Notice)),
    info(
        title = "Lucarne",
        description = "Desktops on demand: users, pools, desktops, sessions. Errors are application/problem+json (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    )
)]
struct Document;

fn routes() -> OpenApiRouter<Arc<App>> {
    let v1 = OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(auth::login))
        .routes(routes!(auth::token))
        .routes(routes!(auth::logout))
        .routes(routes!(me::me))
        .routes(routes!(me::password))
        .routes(routes!(portal::portal))
        .routes(routes!(sessions::create, sessions::list))
        .routes(routes!(sessions::show, sessions::log_off))
        .routes(routes!(sessions::ticket))
        .routes(routes!(shadows::shadow))
        .routes(routes!(shadows::answer))
        .routes(routes!(shadows::end_viewer))
        .routes(routes!(trace::trace))
        .routes(routes!(viewer_password::viewer_password))
        .routes(routes!(stream::stream))
        .routes(routes!(desktops::create, desktops::list))
        .routes(routes!(desktops::show, desktops::destroy))
        .routes(routes!(thumbnail::thumbnail))
        .routes(routes!(desktops::launch))
        .routes(routes!(disks::list))
        .routes(routes!(disks::show, disks::delete))
        .routes(routes!(desktops::power))
        .routes(routes!(snapshots::create, snapshots::list))
        .routes(routes!(snapshots::show, snapshots::delete))
        .routes(routes!(snapshots::revert))
        .routes(routes!(snapshots::clone))
        .routes(routes!(pools::create, pools::list))
        .routes(routes!(pools::show, pools::delete))
        .routes(routes!(entitlements::add_user, entitlements::remove_user))
        .routes(routes!(entitlements::add_group, entitlements::remove_group))
        .routes(routes!(groups::join, groups::leave))
        .routes(routes!(users::create, users::list))
        .routes(routes!(users::show, users::delete))
        .routes(routes!(users::password))
        .routes(routes!(users::role))
        .routes(routes!(users::quota))
        .routes(routes!(roles::roles))
        .routes(routes!(roles::give_for_pool, roles::take_for_pool))
        .routes(routes!(roles::give_for_group, roles::take_for_group))
        .routes(routes!(groups::list))
        .routes(routes!(groups::quota))
        .routes(routes!(images::list))
        .routes(routes!(images::show, images::delete))
        .routes(routes!(hosts::list))
        .routes(routes!(hosts::show, hosts::delete))
        .routes(routes!(hosts::fence))
        .routes(routes!(hosts::deny, hosts::allow))
        .routes(routes!(hosts::drain, hosts::resume))
        .routes(routes!(hosts::label))
        .routes(routes!(hosts::maintain, hosts::end_maintenance))
        .routes(routes!(explain::explain))
        .routes(routes!(enrollments::create, enrollments::list))
        .routes(routes!(enrollments::delete))
        .routes(routes!(events::events))
        .routes(routes!(audit::list))
        .routes(routes!(audit::verify))
        .routes(routes!(apply::apply));
    OpenApiRouter::with_openapi(Document::openapi()).nest("/api/v1", v1)
}

/// The OpenAPI 3.1 document of this build.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    document::complete(routes().into_openapi())
}

/// Everything that is served over HTTP.
///
/// # Errors
/// When the OpenAPI document cannot be written as JSON.
pub fn router(app: Arc<App>) -> Result<Router, serde_json::Error> {
    let document: Arc<str> = openapi().to_json()?.into();
    let (router, _) = routes().split_for_parts();
    Ok(router
        // Around what the document has, and nothing else.
        .route_layer(from_fn_with_state(Arc::clone(&app), idempotency::layer))
        .route(
            "/api/v1/openapi.json",
            routing::get(move || async move {
                ([(axum::http::header::CONTENT_TYPE, "application/json")], document.to_string())
            }),
        )
        .route("/api", routing::any(problem::no_such_path))
        .route("/api/{*rest}", routing::any(problem::no_such_path))
        .fallback(web::serve)
        .method_not_allowed_fallback(problem::method_not_allowed)
        // What is too large is said by `whole`.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Arc::clone(&app), whole::read))
        .layer(from_fn(security::guard))
        .layer(from_fn_with_state(Arc::clone(&app), metrics::observe))
        .with_state(app))
}
