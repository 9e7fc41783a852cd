//! Extractors whose refusals are problems too, and the parameters that lists share.

use super::problem::ApiError;
use axum::body::Bytes;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Json, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use lucarne_control::object::Object;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::str::FromStr;
use utoipa::IntoParams;

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        // It is in memory, see `whole`.
        let bytes = Bytes::from_request(Request::from_parts(parts.clone(), body), state).await;
        let bytes = bytes.map_err(|e| json(&JsonRejection::from(e)))?;
        let again = Request::from_parts(parts, bytes.clone().into());
        match Json::from_request(again, state).await {
            Ok(Json(Object(body))) => Ok(Self(body)),
            Err(e) => match whole_numbers(&e, &bytes).map(|b| Json::from_bytes(&b)) {
                Some(Ok(Json(Object(body)))) => Ok(Self(body)),
                _ => Err(json(&e)),
            },
        }
    }
}

/// JSON that was not of the right types, with its whole numbers written as such: 3.0 is an integer where the document asks for one
/// (JSON Schema Core, section 6.3), and serde takes it for none. Nothing where there is no such number.
fn whole_numbers(e: &JsonRejection, bytes: &[u8]) -> Option<Vec<u8>> {
    if !matches!(e, JsonRejection::JsonDataError(_)) {
        return None;
    }
    let mut value = serde_json::from_slice(bytes).ok()?;
    rewrite(&mut value).then(|| value.to_string().into_bytes())
}

/// Writes the whole numbers in it as such; false where there was nothing to do.
pub fn rewrite(value: &mut Value) -> bool {
    /// Up to which every whole number is exact as a double (RFC 8259, section 6).
    const EXACT: f64 = 9_007_199_254_740_991.0;
    match value {
        Value::Array(items) => items.iter_mut().fold(false, |any, item| rewrite(item) | any),
        Value::Object(fields) => fields.values_mut().fold(false, |any, field| rewrite(field) | any),
        Value::Number(n) if n.is_f64() => {
            let whole = n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() <= EXACT);
            #[allow(clippy::cast_possible_truncation, reason = "it is whole and within what is exact")]
            let whole = whole.map(|f| f as i64);
            whole.map(|n| *value = n.into()).is_some()
        }
        _ => false,
    }
}

fn json(e: &JsonRejection) -> ApiError {
    match e.status() {
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
    #[param(pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$")]
    pub after: String,
    /// Rows, 1 to 500; 100 when left out.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<i64>,
}

/// Which page of the images.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ImagePaging {
    /// `next` of the page before; the first page when left out.
    #[serde(default)]
    #[param(pattern = "^([0-9a-f]{64})?$")]
    pub after: String,
    /// Rows, 1 to 500; 100 when left out.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<i64>,
}

/// Which page of a list that has ended rows too.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// `next` of the page before; the first page when left out.
    #[serde(default)]
    #[param(pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$")]
    pub after: String,
    /// Rows, 1 to 500; 100 when left out.
    #[param(minimum = 1, maximum = 500)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body as HttpBody;
    use axum::http::header;
    use lucarne_control::api::NewSession;

    async fn read(text: &str) -> Option<NewSession> {
        let request = Request::post("/").header(header::CONTENT_TYPE, "application/json");
        let request = request.body(HttpBody::from(text.to_owned())).unwrap();
        Body::from_request(request, &()).await.ok().map(|Body(new)| new)
    }

    #[tokio::test]
    async fn a_number_without_a_fraction_is_an_integer_however_it_is_written() {
        for text in ["594", "594.0", "5.94e2"] {
            let new = read(&format!(r#"{{"pool": "office", "wait_ms": {text}}}"#)).await.unwrap();
            assert_eq!(new.wait_ms, Some(594), "{text}");
        }
        for text in ["594.5", "-1.0", "1e300", "\"594\""] {
            assert!(read(&format!(r#"{{"pool": "office", "wait_ms": {text}}}"#)).await.is_none(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_an_array_is_refused() {
        assert!(read(r#"["office", 594, "take_over"]"#).await.is_none());
    }
}
