//! Errors as RFC 9457 documents: each has a stable code, a status, and what to do.

use crate::auth::{self, Refused, password};
use crate::viewers::NotAsked;
use crate::{connect, shadow};
use axum::extract::OriginalUri;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lucarne_control::api::Problem;
use lucarne_core::store;
use lucarne_db::Fault;

/// The handlers' results.
pub type Result<T, E = ApiError> = std::result::Result<T, E>;

/// An error on its way to the client.
#[derive(Debug)]
pub struct ApiError(pub Problem);

impl ApiError {
    /// A problem with a stable `code`; its title is made of the code.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        let mut title = code.replace('_', " ");
        title[..1].make_ascii_uppercase();
        Self(Problem { code: code.to_owned(), title, status: status.as_u16(), detail: detail.into() })
    }

    /// The request itself is wrong.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    /// A fault on our side: the log has it, the client only hears that it is there.
    pub fn internal(e: &dyn std::error::Error) -> Self {
        tracing::error!(error = %e, "a request failed");
        let detail = "the broker could not do this; its log says why. Try again, and tell the administrator if it stays";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", detail)
    }

    /// Nobody is signed in.
    pub fn not_signed_in() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "not_signed_in",
            "sign in first: nobody is, or the sign-in has ended",
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self.0).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}

/// The status and the code of what the store says.
pub fn of_store(e: &store::Error) -> (StatusCode, String) {
    use store::Error as E;
    let (status, code) = match e {
        E::Fault(Fault::Unavailable(_) | Fault::Contended(_) | Fault::Unknown(_)) => {
            (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable")
        }
        E::Fault(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        E::NotFound { what, .. } => return (StatusCode::NOT_FOUND, format!("{what}_not_found")),
        E::InUse { what, .. } => return (StatusCode::CONFLICT, format!("{what}_in_use")),
        // Each of them would be refused alone; which of them does not matter much.
        E::PlanRefused(obstacles) => match obstacles.first() {
            Some(first) => return of_store(&first.error),
            None => (StatusCode::CONFLICT, "plan_refused"),
        },
        E::ImageUnclear(_) => (StatusCode::NOT_FOUND, "image_not_found"),
        E::NameTaken { .. } => (StatusCode::CONFLICT, "name_taken"),
        E::PoolFixed { .. } => (StatusCode::CONFLICT, "pool_fixed"),
        E::PlanOutdated => (StatusCode::CONFLICT, "plan_outdated"),
        E::AlreadyAssigned { .. } => (StatusCode::CONFLICT, "already_assigned"),
        E::RoleUnscoped(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
        E::OutOfScope(_) => (StatusCode::FORBIDDEN, "not_permitted"),
        E::LastAdministrator(_) => (StatusCode::CONFLICT, "last_administrator"),
        E::PoolFull { .. } => (StatusCode::CONFLICT, "pool_full"),
        E::NotEntitled { .. } => (StatusCode::FORBIDDEN, "not_entitled"),
        E::NoHost { .. } => (StatusCode::SERVICE_UNAVAILABLE, "no_host"),
        E::TemplateFailed { .. } => (StatusCode::SERVICE_UNAVAILABLE, "desktop_failed"),
        E::ShadowOff { .. } => (StatusCode::FORBIDDEN, "shadow_off"),
        E::ShadowControlOff { .. } => (StatusCode::FORBIDDEN, "shadow_control_off"),
        // None of these is met by what people ask for; a host or another broker hears them.
        E::LinkLost { .. }
        | E::BrokerEnded
        | E::DatabaseOlder { .. }
        | E::HostUnknown { .. }
        | E::HostDenied { .. }
        | E::NotThatHost { .. }
        | E::TokenRefused { .. } => (StatusCode::SERVICE_UNAVAILABLE, "broker_starts_over"),
        E::QuotaReached { .. } => (StatusCode::CONFLICT, "quota_reached"),
        E::HostInMaintenance { .. } => (StatusCode::SERVICE_UNAVAILABLE, "host_in_maintenance"),
        E::TooManySnapshots { .. } => (StatusCode::CONFLICT, "quota_reached"),
        E::NotMade { .. } => (StatusCode::CONFLICT, "desktop_not_ready"),
        E::OtherTemplate { .. } => (StatusCode::CONFLICT, "other_template"),
        E::NotPersonal { .. } | E::NoSnapshots { .. } => (StatusCode::CONFLICT, "not_personal"),
        E::SessionEnded(_) => (StatusCode::GONE, "session_ended"),
    };
    (status, code.to_owned())
}

impl From<store::Error> for ApiError {
    fn from(e: store::Error) -> Self {
        let (status, code) = of_store(&e);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            return Self::internal(&e);
        }
        if matches!(e, store::Error::Fault(_)) {
            tracing::error!(error = %e, "a request failed");
        }
        Self::new(status, &code, e.to_string())
    }
}

impl From<connect::Error> for ApiError {
    fn from(e: connect::Error) -> Self {
        let code = match e {
            connect::Error::Store(e) => return e.into(),
            connect::Error::Failed { .. } => "desktop_failed",
            connect::Error::HostSilent { .. } => "no_host",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, e.to_string())
    }
}

impl From<shadow::Error> for ApiError {
    fn from(e: shadow::Error) -> Self {
        let (status, code) = match e {
            shadow::Error::Store(e) => return e.into(),
            shadow::Error::Random(e) => return e.into(),
            shadow::Error::Denied(_) => (StatusCode::FORBIDDEN, "shadow_denied"),
            shadow::Error::Unanswered | shadow::Error::Withdrawn => {
                (StatusCode::FORBIDDEN, "shadow_unanswered")
            }
            shadow::Error::NotAsked(NotAsked::Nobody) => (StatusCode::CONFLICT, "nobody_to_ask"),
            shadow::Error::NotAsked(NotAsked::Busy) => (StatusCode::CONFLICT, "already_asking"),
            shadow::Error::Unseen => (StatusCode::CONFLICT, "shadow_unseen"),
            shadow::Error::Unreachable(_) => (StatusCode::SERVICE_UNAVAILABLE, "desktop_unreachable"),
        };
        Self::new(status, code, e.to_string())
    }
}

impl From<Refused> for ApiError {
    fn from(e: Refused) -> Self {
        match e {
            Refused::BadCredentials => {
                Self::new(StatusCode::UNAUTHORIZED, "bad_credentials", format!("{e}; try again"))
            }
            Refused::TooMany => Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", e.to_string()),
            Refused::Fault(auth::Fault::Store(e)) => e.into(),
            Refused::Fault(auth::Fault::Password(e)) => Self::internal(&e),
        }
    }
}

impl From<password::Error> for ApiError {
    fn from(e: password::Error) -> Self {
        Self::internal(&e)
    }
}

impl From<getrandom::Error> for ApiError {
    fn from(e: getrandom::Error) -> Self {
        Self::internal(&e)
    }
}

/// The answer for paths that the API does not have.
pub async fn no_such_path(OriginalUri(uri): OriginalUri) -> ApiError {
    let detail = format!("the API has no path {}; /api/v1/openapi.json lists them all", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "no_such_path", detail)
}

/// The answer for methods that a path does not have.
pub async fn method_not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    let detail = format!("{} cannot be used with {method}; /api/v1/openapi.json says how", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}
