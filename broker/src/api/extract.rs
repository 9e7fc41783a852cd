//! Extractors whose refusals are problems too, and the parameters that lists share.

use super::problem::ApiError;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Json, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::str::FromStr;
use utoipa::IntoParams;

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(e) => Err(json(&e)),
        }
    }
}

fn json(e: &JsonRejection) -> ApiError {
    match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "a body is at most 64 KiB, and 4 MiB for /apply",
        ),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not_json",
            "send the body as JSON, with Content-Type: application/json",
        ),
        _ => ApiError::invalid(e.body_text()),
    }
}

/// Parameters in the path.
pub struct InPath<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(e) => Err(ApiError::invalid(PathRejection::body_text(&e))),
        }
    }
}

/// Parameters after the question mark.
pub struct InQuery<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for InQuery<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(e) => Err(ApiError::invalid(QueryRejection::body_text(&e))),
        }
    }
}

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// `next` of the page before; the first page when left out.
    #[serde(default)]
    pub after: String,
    /// Rows, 1 to 500; 100 when left out.
    pub limit: Option<i64>,
}

/// Which page of a list that has ended rows too.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// `next` of the page before; the first page when left out.
    #[serde(default)]
    pub after: String,
    /// Rows, 1 to 500; 100 when left out.
    pub limit: Option<i64>,
    /// Those that have ended too.
    #[serde(default)]
    pub all: bool,
}

/// Whether to wait until it is done.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// Answer only when the desktop is gone with its data, confirmed by its host.
    #[serde(default)]
    pub wait: bool,
}

/// Rows to read for a page: one more than shown tells whether there is a next page.
///
/// # Errors
/// When the limit is out of range.
pub fn limit(asked: Option<i64>) -> Result<i64, ApiError> {
    match asked.unwrap_or(100) {
        n @ 1..=500 => Ok(n),
        n => Err(ApiError::invalid(format!("limit is from 1 to 500, not {n}"))),
    }
}

/// Where a page begins: `next` of the page before, if there was one.
///
/// # Errors
/// When it is none.
pub fn after<T: FromStr>(text: &str) -> Result<Option<T>, ApiError> {
    let bad = |_| ApiError::invalid(format!("after is `next` of the page before, not {text:?}"));
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(bad) }
}

/// A page of rows, of which one more than `limit` was read.
pub fn page<T>(
    mut items: Vec<T>,
    limit: i64,
    key: impl Fn(&T) -> String,
) -> axum::Json<lucarne_control::api::Page<T>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(key) } else { None };
    axum::Json(lucarne_control::api::Page { items, next })
}
