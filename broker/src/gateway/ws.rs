//! A browser's viewer: WebSocket binary messages on one side, the desktop's byte stream on the other.
//!
//! One message or one buffer is in flight in each direction, so a slow side slows the other and memory is bounded.

use super::link;
use super::splice::{self, Over};
use crate::app::App;
use crate::connect::{self, At};
use crate::store::Redeemed;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use lucarne_control::link::Purpose;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::time::{Instant, interval_at, timeout};

/// How often a viewer is pinged; proxies close what is silent for a minute.
const PING: Duration = Duration::from_secs(20);

/// A viewer that has not taken a message for this long is gone.
const STUCK: Duration = Duration::from_secs(60);

/// Bytes read from the desktop at once. Smaller: more WebSocket headers. Larger: more memory for each viewer.
const BUFFER: usize = 64 << 10;

/// The code for "reconnect": the stream broke or the server goes away (IANA's registry of RFC 6455, "service
/// restart").
const RESTART: u16 = 1012;

/// Runs a viewer's stream to its end.
pub async fn run(app: &App, socket: WebSocket, redeemed: Redeemed, address: IpAddr) {
    let (mut tx, rx) = socket.split();
    let over = match reach(app, redeemed).await {
        Ok(desktop) => {
            let (from_desktop, to_desktop) = tokio::io::split(desktop);
            splice::run(app, redeemed.session, redeemed.placed, |end| async {
                tokio::select! {
                    biased;
                    over = end => over,
                    over = upward(rx, to_desktop) => over,
                    over = downward(from_desktop, &mut tx) => over,
                }
            })
            .await
        }
        Err(why) => Over::Desktop(why),
    };
    tracing::info!(%address, session = %redeemed.session, over = %over, "a browser's stream ended");
    let code = match &over {
        Over::Ended(end) => end.code(),
        Over::Desktop(_) | Over::Shutdown => RESTART,
        Over::Viewer | Over::Broken(_) => return,
    };
    // A reason has at most 123 bytes (RFC 6455, section 5.5).
    let mut reason = over.to_string();
    while reason.len() > 120 {
        reason.pop();
    }
    let frame = CloseFrame { code, reason: reason.into() };
    // It may be gone already.
    let _ = timeout(Duration::from_secs(2), tx.send(Message::Close(Some(frame)))).await;
}

/// Connects to the desktop's display.
async fn reach(app: &App, redeemed: Redeemed) -> Result<UnixStream, String> {
    let At { placed, endpoint } = connect::reach(app, redeemed.placed)?;
    let view = Purpose::View { view_only: false };
    link::open(&endpoint, &placed, Some(redeemed.session), view).await.map_err(|e| {
        tracing::warn!(error = %e, session = %redeemed.session, "a viewer did not reach its desktop");
        e.to_string()
    })
}

/// Viewer to desktop.
async fn upward(mut rx: SplitStream<WebSocket>, mut to_desktop: WriteHalf<UnixStream>) -> Over {
    loop {
        // A live viewer at least answers pings.
        let Ok(message) = timeout(PING + STUCK, rx.next()).await else {
            return Over::Broken(format!("the viewer was silent for {} s", (PING + STUCK).as_secs()));
        };
        match message {
            Some(Ok(Message::Binary(bytes))) => {
                if let Err(e) = to_desktop.write_all(&bytes).await {
                    return Over::Desktop(format!("the desktop's display went: {e}"));
                }
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) | None => return Over::Viewer,
            Some(Ok(Message::Text(_))) => {
                return Over::Broken("the viewer sent text where RFB is binary".to_owned());
            }
            Some(Err(e)) => return Over::Broken(e.to_string()),
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
            Ok(Err(e)) => return Over::Broken(e.to_string()),
            Err(_) => return Over::Broken(format!("the viewer took nothing for {} s", STUCK.as_secs())),
        }
    }
}
