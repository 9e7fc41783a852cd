//! Requests are read to their end before they are answered, refusals too. Otherwise whoever is refused without being heard out
//! finds the connection closed under the rest of what they send, and the answer lost (RFC 9112, section 9.6).

use super::problem::ApiError;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// The largest request body, bytes. The largest real one, a new pool with its entitlements, is far below.
const LARGEST: usize = 64 << 10;

/// The middleware.
pub async fn read(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match to_bytes(body, LARGEST).await {
        Ok(body) => next.run(Request::from_parts(parts, Body::from(body))).await,
        // Or its client went, and hears nothing.
        Err(_) => {
            let problem =
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "a body is at most 64 KiB");
            let mut response = problem.into_response();
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }
    }
}
