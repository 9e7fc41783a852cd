//! `/stream`: a ticket becomes a WebSocket that carries RFB.

use super::caller::Peer;
use super::problem::{ApiError, Result};
use crate::app::App;
use crate::gateway::tcp::Ends;
use crate::gateway::ws;
use crate::secret;
use axum::Extension;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use lucarne_control::api::Problem;
use std::sync::Arc;

/// The subprotocol that carries the ticket.
const TICKET: &str = "lucarne.ticket.";

/// The longest message from a viewer, bytes: above the longest clipboard.
const LARGEST: usize = 4 << 20;

fn ticket(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .find_map(|p| p.trim().strip_prefix(TICKET))
}

/// The desktop's screen, keyboard and mouse: a WebSocket of binary messages that carry RFB (RFC 6143). Offer the
/// subprotocols `binary` and `lucarne.ticket.<ticket>`, and `lucarne.notices` too for text messages, each a `Notice` as
/// JSON; only who shows those is asked and told when an administrator wants to watch. Close codes: 4001 logged off, 4002
/// the desktop ended, 4003 taken over by a newer viewer, 4004 ended by the user or an administrator, 4005 too many
/// viewers, 4006 the user could not see a shadow any more, 1012 the stream broke or the server goes away: reconnect with
/// a new ticket.
#[utoipa::path(get, path = "/stream", tag = "sessions", responses(
    (status = 101, description = "The stream follows"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request: not a WebSocket"),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "ticket_invalid: missing, used, expired, or its session has ended"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "foreign_origin"),
))]
pub async fn stream(
    State(app): State<Arc<App>>,
    peer: Peer,
    headers: HeaderMap,
    ends: Option<Extension<Ends>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response> {
    let upgrade = upgrade
        .map_err(|e| ApiError::invalid(format!("this path is a WebSocket (RFC 6455): {}", e.body_text())))?;
    let invalid = || {
        let detail = "the ticket is missing, unknown, used or older than 30 s, or its session has ended; get a new one";
        ApiError::new(StatusCode::UNAUTHORIZED, "ticket_invalid", detail)
    };
    let ticket = ticket(&headers).ok_or_else(invalid)?;
    let redeemed = app.store.redeem_ticket(&secret::hash(ticket)).await?.ok_or_else(invalid)?;
    let upgrade =
        upgrade.protocols([ws::NOTICES, "binary"]).max_message_size(LARGEST).max_frame_size(LARGEST);
    let (shadow, failed) = (redeemed.shadow, Arc::clone(&app));
    let upgrade = upgrade.on_failed_upgrade(move |e| {
        tracing::debug!(error = %e, "a WebSocket was not opened");
        if let Some(shadow) = shadow {
            failed.clone().streams.spawn(async move {
                if let Err(e) = failed.store.end_shadow(shadow, "its stream did not open").await {
                    tracing::error!(error = %e, "cannot put the end of a shadow on record");
                }
            });
        }
    });
    Ok(upgrade.on_upgrade(move |socket| {
        let streams = app.streams.clone();
        streams.track_future(async move {
            let _known = app.connections.enter(redeemed.session, ends.map(|Extension(ends)| ends));
            ws::run(&app, socket, redeemed, peer.ip()).await;
        })
    }))
}
