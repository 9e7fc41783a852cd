//! `/enrollments`: permissions for hosts to join.

use super::caller::SignedIn;
use super::extract::{Body, InPath, InQuery, Paging, after, limit, page};
use super::problem::{ApiError, Result};
use crate::app::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lucarne_control::EnrollmentId;
use lucarne_control::api::{Enrollment, GivenEnrollment, NewEnrollment, Page, Problem};
use lucarne_core::store::Invitation;
use lucarne_trust::{EnrollmentToken, Secret};
use std::sync::Arc;

/// Seconds for which a token is good when nothing is said.
const VALID: u32 = 3600;

/// Let one host join: the answer has the token that it needs.
#[utoipa::path(post, path = "/enrollments", tag = "enrollments", security(("cookie" = []), ("token" = [])),
    request_body = NewEnrollment, responses(
    (status = 201, body = GivenEnrollment),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "no_network: this broker takes no hosts by the network"),
))]
pub async fn create(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    Body(new): Body<NewEnrollment>,
) -> Result<(StatusCode, Json<GivenEnrollment>)> {
    let valid = new.valid_s.unwrap_or(VALID);
    if !(60..=604_800).contains(&valid) {
        return Err(ApiError::invalid(format!("valid_s is from 60 to 604800 seconds, not {valid}")));
    }
    if let Some(host) = &new.host {
        crate::enroll::check_name(host).map_err(ApiError::invalid)?;
    }
    let Some(address) = app.agent_address else {
        let detail = "this broker takes no hosts by the network; start it with --agent-listen, such as --agent-listen 0.0.0.0:8444";
        return Err(ApiError::new(StatusCode::CONFLICT, "no_network", detail));
    };
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    let secret = Secret::new(random);
    let invitation =
        Invitation { hash: secret.hash().to_vec(), host: new.host, valid: i64::from(valid) * 1000 };
    let enrollment = app.store.invite(&caller.name, invitation).await?;
    let token = EnrollmentToken { secret, authority: app.trust.authority().fingerprint() }.to_string();
    // One that listens everywhere is reached by its name.
    let brokers = match address.ip().is_unspecified() {
        true => vec![format!("{}:{}", rustix::system::uname().nodename().to_string_lossy(), address.port())],
        false => vec![address.to_string()],
    };
    Ok((StatusCode::CREATED, Json(GivenEnrollment { enrollment, token, brokers })))
}

/// All permissions, used ones too.
#[utoipa::path(get, path = "/enrollments", tag = "enrollments", security(("cookie" = []), ("token" = [])),
    params(Paging), responses(
    (status = 200, body = Page<Enrollment>),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    _: SignedIn,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<Page<Enrollment>>> {
    let n = limit(paging.limit)?;
    let rows = app.store.invitations(after(&paging.after)?, n + 1).await?;
    Ok(page(rows, n, |e: &Enrollment| e.id.to_string()))
}

/// Take a permission back, or forget one that was used.
#[utoipa::path(delete, path = "/enrollments/{id}", tag = "enrollments", security(("cookie" = []), ("token" = [])),
    params(("id" = String, Path, format = "uuid", description = "The permission's id")), responses(
    (status = 204, description = "Its token is good for nothing"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "enrollment_not_found"),
))]
pub async fn delete(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    InPath(id): InPath<EnrollmentId>,
) -> Result<StatusCode> {
    app.store.withdraw_invitation(&caller.name, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
