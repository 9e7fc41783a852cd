//! A browser's viewer: WebSocket binary messages on one side, the desktop's byte stream on the other.
//!
//! A viewer that offered the subprotocol [`NOTICES`] gets a text message, a [`Notice`], whenever the session's viewers change.
//!
//! One message or one buffer is in flight in each direction, so a slow side slows the other and memory is bounded.

use super::link;
use super::splice::{self, Over};
use crate::app::App;
use crate::connect::{self, At};
use crate::viewers::{End, NearEnd, Newcomer, Sight};
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use lucarne_control::SessionId;
use lucarne_control::viewer::{Notice, ViewerKind, ViewerRole};
use lucarne_core::Entry;
use lucarne_core::store::{PlacedDesktop, Redeemed};
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, interval_at, timeout};

/// The subprotocol of viewers that show notices.
pub const NOTICES: &str = "lucarne.notices";

/// How often a viewer is pinged; proxies close what is silent for a minute.
const PING: Duration = Duration::from_secs(20);

/// A viewer that has not taken a message for this long is gone.
const STUCK: Duration = Duration::from_secs(60);

/// Bytes read from the desktop at once. Smaller: more WebSocket headers. Larger: more memory for each viewer.
const BUFFER: usize = 64 << 10;

/// The code for "reconnect": the stream broke or the server goes away (IANA's registry of RFC 6455, "service
/// restart").
const RESTART: u16 = 1012;

/// What a viewer may know of the others.
struct Told {
    you: u64,
    questions: bool,
    sight: watch::Receiver<Sight>,
    /// What it knows.
    known: Option<Notice>,
    ending: Option<NearEnd>,
}

impl Told {
    /// What is to be told now, if anything.
    fn notice(&mut self) -> Option<Notice> {
        let Sight { viewers, mut questions, ending } = self.sight.borrow().clone();
        if !self.questions {
            questions.clear();
        }
        let all = Notice::Viewers { you: self.you, viewers, questions };
        if self.known.as_ref() != Some(&all) {
            self.known = Some(all.clone());
            return Some(all);
        }
        if self.ending != ending {
            self.ending = ending;
            return Some(Notice::Ending { ending: ending.map(|ending| ending.told()) });
        }
        None
    }

    /// Waits for something new.
    async fn next(&mut self) -> Notice {
        loop {
            self.sight.mark_unchanged();
            if let Some(notice) = self.notice() {
                return notice;
            }
            // The session's viewers are all gone, this one too: its end comes another way.
            if self.sight.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Runs a viewer's stream to its end; `address` is where it comes from.
pub async fn run(app: &App, socket: WebSocket, redeemed: Redeemed, address: IpAddr) {
    let notices = socket.protocol().is_some_and(|p| p == NOTICES);
    let Redeemed { session, placed, entry, user, shadow } = redeemed;
    let (mut tx, rx) = socket.split();
    let over = match reach(app, session, placed, entry).await {
        Ok(desktop) => {
            let (from_desktop, to_desktop) = tokio::io::split(desktop);
            let (kind, security) = (ViewerKind::Browser, "TLS".to_owned());
            let address = address.to_string();
            let newcomer = Newcomer { entry, user, address, kind, security, notices };
            splice::run(app, session, placed, newcomer, |end, place| {
                let told = notices.then(|| Told {
                    you: place.id,
                    questions: entry.role() == ViewerRole::Owner,
                    sight: place.sight.clone(),
                    known: None,
                    ending: None,
                });
                let tx = &mut tx;
                async move {
                    tokio::select! {
                        biased;
                        over = end => over,
                        over = upward(rx, to_desktop) => over,
                        over = downward(from_desktop, tx, told) => over,
                    }
                }
            })
            .await
        }
        Err(why) => Over::Desktop(why),
    };
    if let Some(shadow) = shadow
        && let Err(e) = app.store.end_shadow(shadow, &over.to_string()).await
    {
        tracing::error!(error = %e, %session, "cannot put the end of a shadow on record");
    }
    tracing::info!(%address, %session, over = %over, "a browser's stream ended");
    // It may be gone already.
    let _ = timeout(Duration::from_secs(2), farewell(&mut tx, over, notices)).await;
}

/// Closes the stream with what there is to say.
async fn farewell(
    tx: &mut SplitSink<WebSocket, Message>,
    over: Over,
    notices: bool,
) -> Result<(), axum::Error> {
    let code = match &over {
        Over::Ended(end) => end.code(),
        Over::Desktop(_) | Over::Shutdown => RESTART,
        Over::Viewer | Over::Broken(_) => return Ok(()),
    };
    // A reason has at most 123 bytes (RFC 6455, section 5.5).
    let mut reason = over.to_string();
    while reason.len() > 120 {
        reason.pop();
    }
    if let Over::Ended(End::TakenOver(by)) = over
        && notices
        && let Some(message) = message(&Notice::TakenOver { by: *by })
    {
        tx.send(message).await?;
    }
    tx.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await
}

fn message(notice: &Notice) -> Option<Message> {
    serde_json::to_string(notice).ok().map(|text| Message::Text(text.into()))
}

/// Connects to the desktop's display.
async fn reach(
    app: &App,
    session: SessionId,
    placed: PlacedDesktop,
    entry: Entry,
) -> Result<link::Desktop, String> {
    let At { placed, endpoint } = connect::reach(app, placed).await?;
    link::open(app, &endpoint, &placed, Some(session), link::view(entry)).await.map_err(|e| {
        tracing::warn!(error = %e, %session, "a viewer did not reach its desktop");
        e.to_string()
    })
}

/// Viewer to desktop.
async fn upward(mut rx: SplitStream<WebSocket>, mut to_desktop: WriteHalf<link::Desktop>) -> Over {
    loop {
        // A live viewer at least answers pings.
        let Ok(message) = timeout(PING + STUCK, rx.next()).await else {
            return Over::Broken(format!("the viewer was silent for {} s", (PING + STUCK).as_secs()));
        };
        match message {
            Some(Ok(Message::Binary(bytes))) => {
                if let Err(e) = give(&mut to_desktop, &bytes).await {
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

/// Nothing of it waits for more.
async fn give(to_desktop: &mut WriteHalf<link::Desktop>, bytes: &[u8]) -> io::Result<()> {
    to_desktop.write_all(bytes).await?;
    to_desktop.flush().await
}

/// Desktop to viewer.
async fn downward(
    mut from_desktop: ReadHalf<link::Desktop>,
    tx: &mut SplitSink<WebSocket, Message>,
    mut told: Option<Told>,
) -> Over {
    let mut ping = interval_at(Instant::now() + PING, PING);
    let mut buffer = vec![0; BUFFER];
    loop {
        let next = async {
            match &mut told {
                Some(told) => message(&told.next().await),
                None => std::future::pending().await,
            }
        };
        let message = tokio::select! {
            biased;
            Some(notice) = next => notice,
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
