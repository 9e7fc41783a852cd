//! Requests are read to their end before they are answered, refusals too. Otherwise whoever is refused without being heard out
//! finds the connection closed under the rest of what they send, and the answer lost (RFC 9112, section 9.6).

use super::caller::admitted;
use super::problem::ApiError;
use crate::app::App;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header, request::Parts};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The largest request body, bytes. The largest real one, a new pool with its entitlements, is far below.
const LARGEST: usize = 64 << 10;

/// The same where all pools come at once: a thousand of them with some hundred names each.
const LARGEST_POOLS: usize = 4 << 20;

/// What a body may take to come: [`LARGEST_POOLS`] at 140 kB/s.
const PATIENCE: Duration = Duration::from_secs(30);

/// The middleware.
pub async fn read(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let largest = largest(&parts, &app).await;
    let problem = match timeout(PATIENCE, hear_out(body, largest)).await {
        Ok(Some(body)) => return next.run(Request::from_parts(parts, Body::from(body))).await,
        // Or its client went, and hears nothing.
        Ok(None) => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "a body is at most 64 KiB, and 4 MiB for /apply",
        ),
        Err(_) => ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            format!(
                "the rest of the request's body did not come within {} s; send it again",
                PATIENCE.as_secs()
            ),
        ),
    };
    let mut response = problem.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The body, if it has at most `largest` bytes. Of one that is larger nothing is kept, and it is read on to its end as far as any
/// body may go, so that its client hears the answer.
async fn hear_out(body: Body, largest: usize) -> Option<Vec<u8>> {
    let (mut stream, mut kept, mut read) = (body.into_data_stream(), Vec::new(), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.ok()?;
        read += chunk.len();
        if read > LARGEST_POOLS {
            return None;
        }
        if read <= largest {
            kept.extend_from_slice(&chunk);
        } else {
            kept = Vec::new();
        }
    }
    (read <= largest).then_some(kept)
}

/// How much is kept, bytes. Much is held in memory only for who may have it done.
async fn largest(parts: &Parts, app: &Arc<App>) -> usize {
    let much = parts.uri.path() == "/api/v1/apply" && admitted(parts, app).await.is_ok();
    if much { LARGEST_POOLS } else { LARGEST }
}
