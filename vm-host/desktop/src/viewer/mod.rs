//! One viewer: an RFB 3.8 server on a stream that the door has let in.
//!
//! ```text
//! stream ──► reader ──► gate (input), clipboard (text), wanted size
//!              └─► inbox ──► writer ◄── seat (damage) ◄── picture
//!                              ▲─────── board (text) ◄── clipboard
//!                              ▲─────── speaker (sound) ◄── audio
//! stream ◄──────────────────────┘
//! ```
//!
//! Security type None, because the gateway has checked who this is and the stream never leaves the machine unprotected.
//! Both halves run in one task, so a viewer costs one task, and ends as a whole.

mod board;
mod flow;
mod inbox;
mod reader;
mod speaker;
mod trace;
mod writer;

use crate::desktop::Desktop;
use board::Board;
use inbox::Inbox;
use lucarne_control::ids::SessionId;
use lucarne_driver::DisplayArea;
use lucarne_rfb::PixelFormat;
use lucarne_rfb::server::{ClientMessages, Handshake, HandshakeError, HandshakeEvent, Offer, write};
use reader::{Held, ReadError, Reader};
use speaker::Speaker;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, watch};
use trace::Tracer;
pub(crate) use trace::Traces;
use writer::{WriteError, Writer};

/// How long the handshake may take. Both sides are programs; a stuck one should not keep a place for ever.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);

/// Bytes that the kernel may hold for the gateway. What is in there is old when it arrives: at 20 Mbit/s this is 26 ms.
/// Much lower costs a wake-up per few kilobytes on fast links.
const SEND_BUFFER: usize = 64 << 10;

/// How long the hypervisor may take to pass a wanted size on.
const RESIZE_LIMIT: Duration = Duration::from_secs(10);

/// Flags of fences (rfbproto, "ClientFence").
mod fence {
    /// Handle what came before it first.
    pub(super) const BLOCK_BEFORE: u32 = 1;
    /// Handle it before what comes after.
    pub(super) const BLOCK_AFTER: u32 = 2;
    /// Take effect together with the next message.
    pub(super) const SYNC_NEXT: u32 = 4;
    /// Send it back.
    pub(super) const REQUEST: u32 = 1 << 31;
}

/// What a viewer may do beside looking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rights {
    /// Its keys, buttons and pointer count.
    pub(crate) input: bool,
    /// It takes part in the clipboard, and may change the display's size.
    pub(crate) sharing: bool,
}

/// Why a viewer ended, for the log.
#[derive(Debug, thiserror::Error)]
enum ViewerError {
    #[error("the handshake failed: {0}")]
    Handshake(#[from] HandshakeError),
    #[error("the handshake took more than {} s", HANDSHAKE_LIMIT.as_secs())]
    HandshakeTimedOut,
    #[error("its connection broke: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Counts a viewer as long as it lives.
struct Counted<'a>(&'a Desktop);

impl<'a> Counted<'a> {
    fn new(desktop: &'a Desktop) -> Self {
        desktop.change(|status| status.viewers += 1);
        Self(desktop)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.change(|status| status.viewers = status.viewers.saturating_sub(1));
    }
}

/// Serves a viewer until it goes, breaks the protocol, takes nothing any more, or there is no guest to view.
pub(crate) async fn serve(
    mut stream: UnixStream,
    desktop: Arc<Desktop>,
    session: Option<SessionId>,
    rights: Rights,
) {
    let tracer = Tracer::new(&desktop.traces, session, !rights.input);
    let session = session.map_or_else(|| "none".to_owned(), |s| s.to_string());
    let _counted = Counted::new(&desktop);
    tracing::info!(session, ?rights, "a viewer is here");
    let served = tokio::select! {
        served = serve_rfb(&mut stream, &desktop, rights, &tracer) => served,
        why = desktop.ended() => {
            tracing::info!(session, why, "a viewer was closed: there is nothing to view any more");
            return;
        }
    };
    match served {
        Ok(()) => tracing::info!(session, "a viewer has gone"),
        Err(error) => tracing::warn!(session, %error, "a viewer was closed"),
    }
}

async fn serve_rfb(
    stream: &mut UnixStream,
    desktop: &Desktop,
    rights: Rights,
    tracer: &Tracer,
) -> Result<(), ViewerError> {
    rustix::net::sockopt::set_socket_send_buffer_size(&*stream, SEND_BUFFER).map_err(io::Error::from)?;
    let shake = tokio::time::timeout(HANDSHAKE_LIMIT, handshake(stream));
    let Some(messages) = shake.await.map_err(|_| ViewerError::HandshakeTimedOut)?? else { return Ok(()) };

    let wake = Arc::new(Notify::new());
    let inbox = Inbox::new(wake.clone());
    let wanted = watch::Sender::new(Vec::new());
    let seat = desktop.picture.join(wake.clone());
    // Who may only look neither hears what others copy, which need not be on the screen, nor copies anything.
    let able = desktop.vm().is_none_or(|vm| vm.capabilities().clipboard);
    let clipboard = (able && rights.sharing).then(|| desktop.clipboard.join()).flatten();
    let own = clipboard.as_ref().map(|place| place.seat);
    let speaker = desktop.audio.as_ref().map(|audio| Speaker::new(audio.clone(), wake.clone()));
    let board = clipboard.map(Board::new);
    let mut writer = Writer::new(seat, board, speaker, &inbox, wake, &desktop.name, tracer);
    writer.greet();
    let reader = Reader {
        desktop,
        inbox: &inbox,
        wanted: &wanted,
        rights,
        clipboard: own,
        held: Held::new(desktop),
        sync: None,
        tracer,
    };
    let (read, write) = stream.split();
    tokio::select! {
        read = reader.run(read, messages) => Ok(read?),
        written = writer.run(write) => Ok(written?),
        () = arrange_guest(desktop, wanted.subscribe()) => Ok(()),
    }
}

/// Up to ClientInit; `None` when the viewer leaves before. Whether it is willing to share does not matter: there may be
/// many viewers, and who is let in is the broker's affair.
async fn handshake(stream: &mut UnixStream) -> Result<Option<ClientMessages>, ViewerError> {
    let mut out = Vec::new();
    let mut handshake = Handshake::new(Offer::none(), &mut out);
    let mut chunk = [0; 256];
    loop {
        stream.write_all(&out).await?;
        out.clear();
        let n = stream.read(&mut chunk).await?;
        if n == 0 {
            return Ok(None);
        }
        handshake.feed(&chunk[..n])?;
        match handshake.poll(&mut out) {
            Ok(Some(HandshakeEvent::ClientInit { .. })) => {
                stream.write_all(&out).await?;
                return Ok(Some(handshake.into_messages()));
            }
            // Only None was offered: there is no TLS to start and no password to check.
            Ok(_) => {}
            Err(error) => {
                // It may hold the reason for the viewer's user.
                let _ = stream.write_all(&out).await;
                return Err(error.into());
            }
        }
    }
}

/// ServerInit in the server's own format.
fn server_init((width, height): (u16, u16), name: &str, out: &mut Vec<u8>) {
    write::server_init(width, height, &PixelFormat::BGRX, name, out);
}

/// Passes wanted displays on to the guest, the last ones only when they come faster than it takes them. Never returns.
async fn arrange_guest(desktop: &Desktop, mut wanted: watch::Receiver<Vec<DisplayArea>>) {
    while wanted.changed().await.is_ok() {
        let vm = desktop.running().await;
        let displays = wanted.borrow_and_update().clone();
        match tokio::time::timeout(RESIZE_LIMIT, vm.arrange(&displays)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(?displays, %error, "the guest's displays stay as they are"),
            Err(_) => {
                tracing::warn!(
                    ?displays,
                    "the guest's displays stay as they are: the hypervisor did not answer"
                );
            }
        }
    }
    std::future::pending::<()>().await;
}
