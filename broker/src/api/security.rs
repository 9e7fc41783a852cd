//! What holds for every request and every answer: no foreign origin changes anything, nothing is stored, no page
//! frames ours or runs what we did not serve.

use super::problem::ApiError;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Images and cursors are drawn from memory (`data:`, `blob:`); everything else comes from the broker itself.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'";

/// Put on every answer.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// The middleware.
pub async fn guard(request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        || request.headers().contains_key(header::UPGRADE);
    let host = request.uri().host().map(str::to_owned);
    let mut response = if changes && !own_origin(request.headers(), host.as_deref()) {
        let detail = "the request comes from a page of another site; open the broker's own page and use that";
        ApiError::new(StatusCode::FORBIDDEN, "foreign_origin", detail).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Whether the `Origin` header, if there is one, is this server's own: `https://` and what `Host` says.
fn own_origin(headers: &HeaderMap, uri_host: Option<&str>) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).or(uri_host);
    let (Ok(origin), Some(host)) = (origin.to_str(), host) else { return false };
    origin.strip_prefix("https://").is_some_and(|o| o.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_own_origin_passes() {
        let with = |origin: &str| {
            HeaderMap::from_iter([
                (header::ORIGIN, origin.parse().unwrap()),
                (header::HOST, "desk.example:8443".parse().unwrap()),
            ])
        };
        assert!(own_origin(&with("https://desk.example:8443"), None));
        assert!(own_origin(&with("https://DESK.example:8443"), None));
        for foreign in
            ["https://desk.example", "http://desk.example:8443", "null", "https://evil.example:8443"]
        {
            assert!(!own_origin(&with(foreign), None), "{foreign}");
        }
        assert!(own_origin(&HeaderMap::new(), None), "programs send no origin");
    }
}
