//! The HTTP server: three paths, for few who ask.

use crate::{CONTENT_TYPE, Watched, text};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE as TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The longest wait for a request's headers, and between two requests.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections at once. Few ask; a stranger who opens many holds no more.
const CONNECTIONS: usize = 64;

const PLAIN: &str = "text/plain; charset=utf-8";

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, watched: Arc<dyn Watched>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::error!(error = %e, "cannot accept a connection for metrics");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (watched, stop) = (Arc::clone(&watched), stop.clone());
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(move |request| answer(Arc::clone(&watched), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // Who asks no more is of no interest.
                _ = connection => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn answer(
    watched: Arc<dyn Watched>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "this is only read: use GET\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(refused);
    }
    Ok(match request.uri().path() {
        "/metrics" => with(StatusCode::OK, CONTENT_TYPE, text(&watched.metrics().await).into()),
        "/healthz" => plain(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            let checks = watched.checks().await;
            let ready = checks.iter().all(|check| check.passed);
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            plain(status, checks.iter().map(|check| format!("{check}\n")).collect())
        }
        _ => plain(StatusCode::NOT_FOUND, "here are /metrics, /healthz and /readyz\n".to_owned()),
    })
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    with(status, PLAIN, text.into())
}

fn with(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(TYPE, HeaderValue::from_static(kind));
    response
}
