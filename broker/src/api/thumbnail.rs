//! `/desktops/{id}/thumbnail`: a small picture of a desktop, made by its host and kept nowhere.

use super::caller::SignedIn;
use super::extract::{InPath, InQuery};
use super::problem::{ApiError, Result};
use super::scoped::see_desktop;
use crate::app::App;
use crate::gateway::link;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use lucarne_control::api::Problem;
use lucarne_control::desktop::DesiredState;
use lucarne_control::link::Purpose;
use lucarne_core::fleet::Sight;
use lucarne_core::store::PlacedDesktop;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use utoipa::IntoParams;

/// The largest picture that is passed on, bytes.
const LARGEST: u64 = 4 << 20;

/// The longest wait for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How wide.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Size {
    /// At most this wide, 16 to 1920 pixels; 480 when left out.
    #[param(minimum = 16, maximum = 1920)]
    width: Option<u32>,
}

/// A picture of the desktop as it is now, for its user. Administrators ask to watch its session instead, so that nobody is
/// watched without seeing it.
#[utoipa::path(get, path = "/desktops/{id}/thumbnail", tag = "desktops", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, description = "The desktop's id"), Size), responses(
    (status = 200, content_type = "image/jpeg", body = Vec<u8>),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_your_desktop, not_entitled"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "desktop_not_found"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "no_picture"),
))]
pub async fn thumbnail(
    State(app): State<Arc<App>>,
    caller: SignedIn,
    InPath(id): InPath<String>,
    InQuery(Size { width }): InQuery<Size>,
) -> Result<impl IntoResponse> {
    let width = width.unwrap_or(480);
    if !(16..=1920).contains(&width) {
        return Err(ApiError::invalid(format!("width is from 16 to 1920 pixels, not {width}")));
    }
    let no_picture = |detail: String| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_picture", detail);
    let row = app.store.desktop(&id).await?;
    see_desktop(&app, &caller.0, &row, &id).await?;
    if row.user.as_ref().map(|(id, _)| *id) != caller.0.user {
        let detail = "a desktop's picture is for its user; ask to watch the session instead";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "not_your_desktop", detail));
    }
    if let Some((user, name)) = &row.user
        && !app.store.may_use(*user, &row.pool).await?
    {
        let (user, pool) = (name.clone(), row.pool.clone());
        return Err(lucarne_core::store::Error::NotEntitled { user, pool }.into());
    }
    let host = row.host.as_ref().map(|host| host.id).filter(|_| row.desired == DesiredState::Running);
    let endpoint = host.and_then(|host| match row.sight(&app.control.fleet) {
        Sight::Seen(seen) => {
            seen.endpoint.map(|e| (PlacedDesktop { desktop: row.id, host, generation: row.generation }, e))
        }
        _ => None,
    });
    let (placed, endpoint) =
        endpoint.ok_or_else(|| no_picture(format!("the desktop {} has no picture yet", row.name)))?;
    let fetch = async {
        let stream = link::open(&app, &endpoint, &placed, None, Purpose::Thumbnail { width }).await?;
        let mut jpeg = Vec::new();
        stream.take(LARGEST).read_to_end(&mut jpeg).await.map_err(link::Error::from)?;
        Ok::<_, link::Error>(jpeg)
    };
    let late = || no_picture(format!("the desktop {} gave no picture in time", row.name));
    let jpeg = timeout(PATIENCE, fetch).await.map_err(|_| late())?.map_err(|e| no_picture(e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "image/jpeg")], jpeg))
}
