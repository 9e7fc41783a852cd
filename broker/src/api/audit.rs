//! `/audit`: who did what, when.

use super::caller::SignedIn;
use super::extract::{Body, InQuery, Paging, after, limit, page};
use super::problem::{ApiError, Result};
use crate::app::App;
use axum::Json;
use axum::extract::State;
use lucarne_control::api::{AuditEntry, AuditKnown, AuditVerified, Page, Problem};
use std::sync::Arc;

/// The audit log, oldest first, by the time at which each change began: who follows it reads the last minute again, because
/// changes that took long come before some that were there already.
#[utoipa::path(get, path = "/audit", tag = "audit", security(("cookie" = []), ("token" = [])),
    params(Paging), responses(
    (status = 200, body = Page<AuditEntry>),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    _: SignedIn,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<Page<AuditEntry>>> {
    let n = limit(paging.limit)?;
    Ok(page(app.store.audit(after(&paging.after)?, n + 1).await?, n, |e| e.id.to_string()))
}

/// Reads the whole log and checks that nothing in it was changed, moved or taken out, nor cut off behind the rows given.
#[utoipa::path(post, path = "/audit/verify", tag = "audit", security(("cookie" = []), ("token" = [])),
    request_body = AuditKnown, responses(
    (status = 200, body = AuditVerified),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
))]
pub async fn verify(
    State(app): State<Arc<App>>,
    _: SignedIn,
    Body(known): Body<AuditKnown>,
) -> Result<Json<AuditVerified>> {
    for head in &known.heads {
        let digits =
            head.hash.len() == 64 && head.hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !digits || i64::try_from(head.number).map_or(true, |n| n < 1) {
            let detail = format!(
                "row {} of {} with the hash {:?} is none; give `heads` of an earlier check",
                head.number, head.strand, head.hash
            );
            return Err(ApiError::invalid(detail));
        }
    }
    let verified = app.store.verify_audit(&known.heads).await?;
    for fault in &verified.faults {
        tracing::error!(fault, "the audit log is not as it was written");
    }
    Ok(Json(verified))
}
