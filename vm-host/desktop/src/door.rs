//! The display socket: who comes in, and for what ([`lucarne_control::link`]).
//!
//! ```text
//! accept ─► Open line ─► is it this desktop, this generation? ─► is there a picture? ─► Opened::Ok ─► View, Thumbnail, Trace
//!              └ late, long or broken ─► closed  └ no ─► Opened::Refused ◄─ no ┘
//! ```
//!
//! It knows nothing of RFB beyond handing a stream to [`crate::viewer`].

use crate::desktop::Desktop;
use crate::viewer;
use lucarne_control::link::{Idle, MAX_LINE, Open, Opened, Purpose};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// How long a gateway may take for its first line. It sends it right after connecting.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// How long a viewer that came early waits for the first picture. A fork takes well under a second, and several at once
/// on a loaded host some seconds.
const PICTURE_LIMIT: Duration = Duration::from_secs(30);

/// Connections at once. Each viewer may hold a frame's worth of memory, so there must be an end.
const MAX_CONNECTIONS: usize = 64;

/// Widths of thumbnails, pixels. What is asked for outside of them is cut to them.
const THUMBNAIL_WIDTHS: std::ops::RangeInclusive<u32> = 16..=1920;

/// How long a gateway may take to read a thumbnail, and any viewer to read why it is refused.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Lets viewers in until the future is dropped; then all of them are closed.
pub(crate) async fn serve(listener: UnixListener, desktop: Arc<Desktop>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
                    connections.spawn(serve_connection(stream, desktop.clone()));
                }
                Ok((stream, _)) => {
                    tracing::warn!("a viewer was turned away: {MAX_CONNECTIONS} are connected");
                    drop(stream);
                }
                Err(error) => {
                    tracing::error!(%error, "the display socket accepts no viewer");
                    // Descriptors run out and come back; without a pause this would spin until they do.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(mut stream: UnixStream, desktop: Arc<Desktop>) {
    let open = match tokio::time::timeout(OPEN_LIMIT, read_open(&mut stream)).await {
        Ok(Ok(Some(open))) => open,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => {
            tracing::warn!(%error, "a connection was refused");
            let refused = Opened::Refused { reason: error.to_string() };
            let _ = answer(&mut stream, &refused).await;
            return;
        }
        Err(_) => {
            tracing::warn!(
                "a connection was closed: it did not say what for within {} s",
                OPEN_LIMIT.as_secs()
            );
            return;
        }
    };
    if let Err(reason) = admit(&open, &desktop).await {
        tracing::warn!(reason, purpose = ?open.purpose, "a connection was refused");
        let _ = answer(&mut stream, &Opened::Refused { reason }).await;
        return;
    }
    if let Purpose::View { .. } = open.purpose
        && let Err(reason) = desktop.recording.begin(open.session).await
    {
        tracing::warn!(reason, "a viewer was refused");
        let _ = answer(&mut stream, &Opened::Refused { reason }).await;
        return;
    }
    if answer(&mut stream, &Opened::Ok).await.is_err() {
        return;
    }
    match open.purpose {
        Purpose::View { view_only, shadow } => {
            desktop.activity.now();
            let rights = viewer::Rights { input: !view_only, sharing: !view_only && !shadow };
            viewer::serve(stream, desktop, open.session, rights).await;
        }
        Purpose::Thumbnail { width } => {
            if let Err(error) = send_thumbnail(&mut stream, &desktop, width).await {
                tracing::warn!(%error, "a thumbnail was not sent");
            }
        }
        Purpose::Idle => {
            let idle = Idle { idle_ms: desktop.activity.idle_ms() };
            let line = serde_json::to_vec(&idle).unwrap_or_default();
            if let Err(error) = send(&mut stream, &line).await {
                tracing::warn!(%error, "how long nothing was typed was not told");
            }
        }
        Purpose::Trace { last } => {
            if let Err(error) = send_trace(&mut stream, &desktop, last).await {
                tracing::warn!(%error, "a trace was not sent");
            }
        }
    }
}

/// Reads the line, and not a byte more: what follows belongs to RFB. `None` when the peer closes without a word.
async fn read_open(stream: &mut UnixStream) -> io::Result<Option<Open>> {
    let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut line = Vec::new();
    loop {
        // A byte at a time: it is one short line per connection, and there is no way to put bytes back.
        match stream.read_u8().await {
            Ok(b'\n') => break,
            Ok(byte) => line.push(byte),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && line.is_empty() => return Ok(None),
            Err(e) => return Err(e),
        }
        if line.len() >= MAX_LINE {
            return Err(bad(format!("the first line is longer than {MAX_LINE} bytes")));
        }
    }
    serde_json::from_slice(&line).map(Some).map_err(|e| bad(format!("the first line is not understood: {e}")))
}

/// Whether they may come in, once there is something to see; else why not.
async fn admit(open: &Open, desktop: &Desktop) -> Result<(), String> {
    if open.desktop != desktop.id {
        return Err(format!("this is desktop {}, not {}", desktop.id, open.desktop));
    }
    if open.generation != desktop.generation {
        return Err(format!(
            "desktop {} is here in generation {}, not {}",
            desktop.id, desktop.generation, open.generation
        ));
    }
    tokio::select! {
        biased;
        why = desktop.ended() => Err(why),
        () = desktop.picture.first() => Ok(()),
        () = tokio::time::sleep(PICTURE_LIMIT) => {
            Err(format!("the desktop showed no picture within {} s", PICTURE_LIMIT.as_secs()))
        }
    }
}

async fn answer(stream: &mut UnixStream, opened: &Opened) -> io::Result<()> {
    let mut line = serde_json::to_vec(opened)?;
    line.push(b'\n');
    send(stream, &line).await
}

async fn send_thumbnail(stream: &mut UnixStream, desktop: &Desktop, width: u32) -> io::Result<()> {
    let width = width.clamp(*THUMBNAIL_WIDTHS.start(), *THUMBNAIL_WIDTHS.end());
    let screen = desktop.picture.screen();
    let jpeg = tokio::task::spawn_blocking(move || lucarne_display::thumbnail(&screen, width))
        .await
        .map_err(io::Error::other)?
        .map_err(io::Error::other)?;
    send(stream, &jpeg).await
}

async fn send_trace(stream: &mut UnixStream, desktop: &Desktop, last: u32) -> io::Result<()> {
    let trace = desktop.traces.trace(usize::try_from(last).unwrap_or(usize::MAX));
    send(stream, &serde_json::to_vec(&trace)?).await
}

async fn send(stream: &mut UnixStream, bytes: &[u8]) -> io::Result<()> {
    tokio::time::timeout(SEND_LIMIT, stream.write_all(bytes)).await?
}
