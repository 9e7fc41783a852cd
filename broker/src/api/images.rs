//! `/images`: what hosts have in their stores.

use super::caller::SignedIn;
use super::extract::{ImagePaging, InPath, InQuery, after, limit, page};
use super::problem::{ApiError, Result};
use crate::app::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lucarne_control::api::{Image, Page, Problem};
use lucarne_core::Change;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a host may take to delete an image.
const PATIENCE: Duration = Duration::from_secs(30);

/// All images.
#[utoipa::path(get, path = "/images", tag = "images", security(("cookie" = []), ("token" = [])),
    params(ImagePaging), responses(
    (status = 200, body = Page<Image>),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    _: SignedIn,
    InQuery(paging): InQuery<ImagePaging>,
) -> Result<Json<Page<Image>>> {
    let n = limit(paging.limit)?;
    Ok(page(app.store.images(after(&paging.after)?, n + 1).await?, n, |i| i.digest.to_string()))
}

/// One image.
#[utoipa::path(get, path = "/images/{image}", tag = "images", security(("cookie" = []), ("token" = [])),
    params(("image" = String, Path, description = "Digest, a unique prefix of one, or a name (the newest version)")),
    responses(
    (status = 200, body = Image),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "image_not_found"),
))]
pub async fn show(
    State(app): State<Arc<App>>,
    _: SignedIn,
    InPath(image): InPath<String>,
) -> Result<Json<Image>> {
    Ok(Json(app.store.resolve_image(&image).await?))
}

/// Delete an image from all hosts that have it.
#[utoipa::path(delete, path = "/images/{image}", tag = "images", security(("cookie" = []), ("token" = [])),
    params(("image" = String, Path, description = "Digest, a unique prefix of one, or a name (the newest version)")),
    responses(
    (status = 204, description = "Gone from all hosts"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "image_not_found"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "image_in_use"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "host_offline, image_not_deleted"),
))]
pub async fn delete(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(image): InPath<String>,
) -> Result<StatusCode> {
    let image = app.store.resolve_image(&image).await?;
    app.store.check_image_unused(&image).await?;
    let unavailable = |code, detail| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
    for name in &image.hosts {
        let host = app.store.host(name).await?.id;
        let answer = match app.control.links.delete_image(host, &image.digest) {
            Some(answer) => {
                timeout(PATIENCE, answer).await.map_err(drop).and_then(|answer| answer.map_err(drop))
            }
            None => Err(()),
        };
        match answer {
            Ok(None) => {
                app.store.image_deleted(&caller.name, host, name, &image.digest).await?;
                app.control.changed([Change::Images]);
            }
            Ok(Some(why)) => {
                let detail =
                    format!("the host {name} could not delete the image {}: {why}", image.digest.short());
                return Err(unavailable("image_not_deleted", detail));
            }
            Err(()) => {
                let detail =
                    format!("the host {name} has the image and is not connected; try again when it is");
                return Err(unavailable("host_offline", detail));
            }
        }
    }
    Ok(StatusCode::NO_CONTENT)
}
