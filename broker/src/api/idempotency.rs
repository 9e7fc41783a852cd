//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a POST whose answer was lost can be sent again without being
//! done twice, through whichever broker.
//!
//! A middleware around all operations, so that none can forget it. The request runs in a task of its own: it is done, and its
//! answer kept, whether or not the client is still there to hear it.
//!
//! Answers may have tickets, tokens and passwords in them, so what is kept is sealed (AES-256-GCM) with a key that is derived
//! from the caller's, which itself is not kept. Whoever reads the database can try to guess keys; the document asks for random ones.

use super::caller::admitted;
use super::problem::{ApiError, Result};
use crate::app::App;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use lucarne_core::store::{Caller, Claim};
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The tag of the operations that take no key: who signs in is nobody before, and who signs out nobody after.
pub const REFUSED: &str = "auth";

/// What the OpenAPI document says of the header.
pub const DESCRIPTION: &str = "So that a request whose answer is lost can be sent again: within 24 h the same request of the same \
     caller with the same key is answered as the first was, and not done again. Refusals (4xx) are answers, too; after a 5xx it \
     is done anew. Answers are kept encrypted with a key that is derived from this one, so use one that nobody can guess, such as \
     a random UUID (draft-ietf-httpapi-idempotency-key-header).";

/// The header of requests.
pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The header of answers that were given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The longest key, bytes.
const LONGEST_KEY: usize = 255;

/// Headers that are part of an answer; what the middleware around this puts on every answer is put on a repeated one, too.
const KEPT: [HeaderName; 2] = [header::CONTENT_TYPE, header::RETRY_AFTER];

/// An answer as it is sealed.
#[derive(Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// The middleware.
pub async fn layer(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if *request.method() != Method::POST || !request.headers().contains_key(KEY) {
        return next.run(request).await;
    }
    once(app, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

async fn once(app: Arc<App>, request: Request, next: Next) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let key = key(&parts)?.to_owned();
    if parts.uri.path().starts_with("/api/v1/auth/") {
        let detail = "a sign-in or sign-out is not repeated for a key: send it again without Idempotency-Key";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "idempotency_key_not_accepted", detail));
    }
    let (caller, _) = admitted(&parts, &app).await?;
    // It is in memory, see `whole`.
    let body = to_bytes(body, usize::MAX).await.map_err(|e| ApiError::internal(&e))?;
    let seal = Seal::new(&caller, &key);
    let digest = digest(&parts, &body);
    match app.store.claim_key(&seal.hash, &digest).await? {
        Claim::New => {}
        Claim::Answered(sealed) => return seal.open(&sealed, &digest),
        Claim::Reused => {
            let detail = "this Idempotency-Key came with another request in the last 24 h; give each request a key of its own";
            return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail));
        }
        Claim::InProgress => {
            let detail =
                "the request with this Idempotency-Key is being done; repeat it in a while for its answer";
            return Err(ApiError::new(StatusCode::CONFLICT, "idempotency_key_in_use", detail));
        }
        Claim::Unknown => {
            let detail = "the request with this Idempotency-Key was begun by a broker that went before it could answer; see \
                          whether it was done, and if not send it with another key";
            return Err(ApiError::new(StatusCode::CONFLICT, "idempotency_outcome_unknown", detail));
        }
    }
    let request = Request::from_parts(parts, Body::from(body));
    let doing = Arc::clone(&app);
    let done = app.streams.spawn(async move {
        let response = next.run(request).await;
        keep(&doing, &seal, &digest, response).await
    });
    // Where it panicked its claim stays, because nobody knows how far it came.
    done.await.map_err(|e| ApiError::internal(&e))?
}

/// The request's key.
fn key(parts: &Parts) -> Result<&str> {
    let mut values = parts.headers.get_all(KEY).iter();
    let visible = |b: u8| b.is_ascii_graphic();
    let fits =
        |v: &&HeaderValue| (1..=LONGEST_KEY).contains(&v.len()) && v.as_bytes().iter().copied().all(visible);
    let first = values.next().filter(fits).and_then(|v| v.to_str().ok());
    first.filter(|_| values.next().is_none()).ok_or_else(|| {
        let detail = format!("Idempotency-Key is one value of 1 to {LONGEST_KEY} visible ASCII characters, such as a random UUID");
        ApiError::invalid(detail)
    })
}

/// What has to be the same in a repeat: method, path with query, and body.
fn digest(parts: &Parts, body: &[u8]) -> [u8; 32] {
    let path = parts.uri.path_and_query().map_or("", |p| p.as_str());
    sum(&[parts.method.as_str().as_bytes(), path.as_bytes(), body])
}

/// sha256 of byte strings, each with its length, so that no two lists of them are taken for each other.
fn sum(strings: &[&[u8]]) -> [u8; 32] {
    let mut sum = Sha256::new();
    for string in strings {
        sum.update((string.len() as u64).to_be_bytes());
        sum.update(string);
    }
    sum.finalize().into()
}

/// Keeps the answer of a request that was done, and forgets the key of one that was not.
async fn keep(app: &App, seal: &Seal, digest: &[u8], response: Response) -> Result<Response> {
    // Who may not ask has not been answered, and may the next time.
    let undone = response.status().is_server_error() || response.status() == StatusCode::UNAUTHORIZED;
    if undone {
        if let Err(e) = app.store.release_key(&seal.hash).await {
            tracing::error!(error = %e, "an idempotency key stays in use although its request was not done");
        }
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    // It is in memory already.
    let body = to_bytes(body, usize::MAX).await.map_err(|e| ApiError::internal(&e))?;
    let header =
        |name: &HeaderName| Some((name.to_string(), parts.headers.get(name)?.to_str().ok()?.to_owned()));
    let answer = Answer {
        status: parts.status.as_u16(),
        headers: KEPT.iter().filter_map(header).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    // It was done, so the client hears of it even if a repeat could not.
    match seal.close(&answer, digest) {
        Ok(sealed) => {
            if let Err(e) = app.store.answer_key(&seal.hash, sealed).await {
                tracing::error!(error = %e, "an answer is not kept for its idempotency key");
            }
        }
        Err(e) => tracing::error!(problem = e.0.code, "an answer cannot be sealed for its idempotency key"),
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// What a caller's key becomes: the row that it is kept under, and the key of what is in it.
struct Seal {
    hash: [u8; 32],
    secret: [u8; 32],
}

const NONCE: usize = 12;
const TAG: usize = 16;

impl Seal {
    fn new(caller: &Caller, key: &str) -> Self {
        let caller = caller.user.map_or_else(|| caller.name.clone(), |user| user.to_string());
        let of = |what: &str| sum(&[what.as_bytes(), caller.as_bytes(), key.as_bytes()]);
        Self { hash: of("lucarne idempotency key"), secret: of("lucarne idempotency answer") }
    }

    /// Nonce, tag and text. The request's digest is authenticated with it: no row can be given for another.
    fn close(&self, answer: &Answer, digest: &[u8]) -> Result<Vec<u8>> {
        let text = serde_json::to_vec(answer).map_err(|e| ApiError::internal(&e))?;
        let (mut nonce, mut tag) = ([0; NONCE], [0; TAG]);
        getrandom::fill(&mut nonce)?;
        let sealed = encrypt_aead(Cipher::aes_256_gcm(), &self.secret, Some(&nonce), digest, &text, &mut tag);
        let sealed = sealed.map_err(|e| ApiError::internal(&e))?;
        Ok([&nonce[..], &tag, &sealed].concat())
    }

    fn open(&self, sealed: &[u8], digest: &[u8]) -> Result<Response> {
        let (nonce, rest) = sealed.split_at_checked(NONCE).unwrap_or_default();
        let (tag, text) = rest.split_at_checked(TAG).unwrap_or_default();
        let text = decrypt_aead(Cipher::aes_256_gcm(), &self.secret, Some(nonce), digest, text, tag);
        let text = text.map_err(|e| ApiError::internal(&e))?;
        let answer: Answer = serde_json::from_slice(&text).map_err(|e| ApiError::internal(&e))?;
        let status = StatusCode::from_u16(answer.status).map_err(|e| ApiError::internal(&e))?;
        let mut response = (status, Bytes::from(answer.body)).into_response();
        let headers = response.headers_mut();
        headers.clear();
        for (name, value) in answer.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        Ok(response)
    }
}
