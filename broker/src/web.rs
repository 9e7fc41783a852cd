//! The web client, embedded in the binary. Knows nothing of the API.
//!
//! A path with a file extension is an asset; any other is a page of the client, which routes by itself, so it gets
//! `index.html`.

use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "../web-client/dist"]
struct Assets;

const PAGE: &str = "index.html";

/// Serves the client.
pub async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return (StatusCode::METHOD_NOT_ALLOWED, "pages are only read (GET)\n").into_response();
    }
    let path = uri.path().trim_start_matches('/');
    let is_asset = path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    if is_asset {
        return match Assets::get(path) {
            Some(file) => asset(path, &file, &headers),
            None => (StatusCode::NOT_FOUND, "there is no such file\n").into_response(),
        };
    }
    match Assets::get(PAGE) {
        Some(page) => {
            ([(header::CONTENT_TYPE, kind(PAGE))], Body::from(page.data.into_owned())).into_response()
        }
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            "the web client was not built into this binary; run ./ops/up\n",
        )
            .into_response(),
    }
}

fn asset(path: &str, file: &EmbeddedFile, headers: &HeaderMap) -> Response {
    let digits: String = file.metadata.sha256_hash().iter().map(|b| format!("{b:02x}")).collect();
    let tag = format!("\"{digits}\"");
    // Kept by the browser, but asked for each time: the program may have been upgraded.
    let kept = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|t| t.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, kept).into_response();
    }
    (kept, [(header::CONTENT_TYPE, kind(path))], Body::from(file.data.to_vec())).into_response()
}

/// The media type (RFC 6838) of a file of the client.
fn kind(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
