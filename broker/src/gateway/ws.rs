//! A browser's viewer: WebSocket binary messages on one side, the desktop's byte stream on the other.
//!
//! One message or one buffer is in flight in each direction, so a slow side slows the other and memory is bounded.

use super::link;
use crate::app::App;
use crate::fleet::Sight;
use crate::store::Redeemed;
use crate::viewers::End;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use lucarne_control::link::Purpose;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, interval_at, timeout};

/// How often a viewer is pinged; proxies close what is silent for a minute.
const PING: Duration = Duration::from_secs(20);

/// A viewer that has not taken a message for this long is gone.
const STUCK: Duration = Duration::from_secs(60);

/// Bytes read from the desktop at once. Smaller: more WebSocket headers. Larger: more memory for each viewer.
const BUFFER: usize = 64 << 10;

/// The code for "reconnect": the stream broke or the server goes away (RFC 6455 registry, "service restart").
const RESTART: u16 = 1012;

/// How a stream ended.
enum Over {
    /// The broker ended it.
    Ended(End),
    /// The viewer went, or broke the protocol.
    Viewer,
    /// The desktop's side went.
    Desktop(String),
    /// The server goes away.
    Shutdown,
}

/// Runs a viewer's stream to its end.
pub async fn run(app: &App, socket: WebSocket, redeemed: Redeemed) {
    let (place, end) = app.viewers.enter(redeemed.session);
    let (mut tx, rx) = socket.split();
    let over = stream(app, &mut tx, rx, redeemed, end).await;
    let frame = match &over {
        Over::Ended(end) => Some((end.code(), end.reason().to_owned())),
        Over::Desktop(why) => Some((RESTART, why.clone())),
        Over::Shutdown => Some((RESTART, "the server is going away".to_owned())),
        Over::Viewer => None,
    };
    if let Some((code, reason)) = frame {
        // A reason has at most 123 bytes (RFC 6455, section 5.5).
        let reason: String = reason.chars().take(40).collect();
        let frame = CloseFrame { code, reason: reason.into() };
        let _ = timeout(Duration::from_secs(2), tx.send(Message::Close(Some(frame)))).await;
    }
    if place.leave() && !matches!(over, Over::Shutdown) {
        connected(app, redeemed, false).await;
    }
}

async fn connected(app: &App, redeemed: Redeemed, is: bool) {
    if let Err(e) = app.store.set_session_connected(redeemed.session, is).await {
        tracing::error!(error = %e, session = %redeemed.session, "cannot put the viewer's state on record");
    }
}

async fn stream(
    app: &App,
    tx: &mut SplitSink<WebSocket, Message>,
    rx: SplitStream<WebSocket>,
    redeemed: Redeemed,
    end: oneshot::Receiver<End>,
) -> Over {
    // Between the ticket and taking the place the session may have ended, with nobody there to be told.
    match app.store.session_desktop(redeemed.session).await {
        Ok(placed) if placed == redeemed.placed => {}
        Ok(_) | Err(crate::store::Error::SessionEnded(_)) => return Over::Ended(End::LoggedOff),
        Err(e) => return Over::Desktop(e.to_string()),
    }
    let placed = redeemed.placed;
    let Sight::Seen(seen) = app.fleet.sight(placed.host, placed.desktop, placed.generation) else {
        return Over::Desktop("the desktop's host is not connected".to_owned());
    };
    let Some(endpoint) = seen.endpoint else { return Over::Desktop("the desktop has no picture".to_owned()) };
    let view = Purpose::View { view_only: false };
    let desktop = match link::open(&endpoint, &placed, Some(redeemed.session), view).await {
        Ok(desktop) => desktop,
        Err(e) => {
            tracing::warn!(error = %e, session = %redeemed.session, "a viewer did not reach its desktop");
            return Over::Desktop("the desktop's display cannot be reached".to_owned());
        }
    };
    connected(app, redeemed, true).await;
    let (from_desktop, to_desktop) = tokio::io::split(desktop);
    tokio::select! {
        biased;
        ended = end => match ended {
            Ok(ended) => Over::Ended(ended),
            Err(_) => Over::Shutdown,
        },
        () = app.shutdown.cancelled() => Over::Shutdown,
        over = upward(rx, to_desktop) => over,
        over = downward(from_desktop, tx) => over,
    }
}

/// Viewer to desktop.
async fn upward(mut rx: SplitStream<WebSocket>, mut to_desktop: WriteHalf<UnixStream>) -> Over {
    loop {
        // A live viewer at least answers pings.
        let Ok(message) = timeout(PING + STUCK, rx.next()).await else { return Over::Viewer };
        match message {
            Some(Ok(Message::Binary(bytes))) => {
                if let Err(e) = to_desktop.write_all(&bytes).await {
                    return Over::Desktop(format!("the desktop's display went: {e}"));
                }
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Text(_) | Message::Close(_)) | Err(_)) | None => return Over::Viewer,
        }
    }
}

/// Desktop to viewer.
async fn downward(mut from_desktop: ReadHalf<UnixStream>, tx: &mut SplitSink<WebSocket, Message>) -> Over {
    let mut ping = interval_at(Instant::now() + PING, PING);
    let mut buffer = vec![0; BUFFER];
    loop {
        let message = tokio::select! {
            read = from_desktop.read(&mut buffer) => match read {
                Ok(0) => return Over::Desktop("the desktop's display went".to_owned()),
                Ok(n) => Message::Binary(buffer[..n].to_vec().into()),
                Err(e) => return Over::Desktop(format!("the desktop's display went: {e}")),
            },
            _ = ping.tick() => Message::Ping(Vec::new().into()),
        };
        match timeout(STUCK, tx.send(message)).await {
            Ok(Ok(())) => {}
            _ => return Over::Viewer,
        }
    }
}
