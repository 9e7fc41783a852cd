//! The clipboard's way into the guest, and that of the displays that its desktop is to have: a client of spice-vdagent, on the
//! virtio-serial port `com.redhat.spice.0`. (QEMU tells the guest's display driver of them too; desktops without a program
//! that listens to the driver, as most that are no whole desktop environment, hear of it from the agent alone.)
//!
//! ```text
//! offer, displays ─► watch ─► task ◄──► session (what is said) ◄──► socket ─ QEMU ─ port ─► spice-vdagentd ─► spice-vdagent
//! sink ◄──────────────────┘
//! ```
//!
//! QEMU keeps what is sent while no agent has the port open, so it does not matter who comes first. QEMU's own clipboard
//! (`qemu-vdagent`) is not used, because it forbids to migrate, and forks are loaded migrations. Texts are never logged.

pub(crate) mod session;
mod wire;

use lucarne_driver::{ClipboardSink, DisplayArea};
use session::{Event, Session, SessionError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// Bytes that are read at once.
const READ: usize = 16 << 10;

/// Pauses before another connection. They double up to the longest, so that an agent that always breaks the protocol costs
/// nothing; a connection that lasts longer starts over.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("no connection to the agent's port: {0}")]
    Connect(#[source] io::Error),
    #[error("the connection to the agent's port broke: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// A guest's clipboard. Dropped it exchanges nothing more.
pub(crate) struct Clipboard {
    offer: watch::Sender<Option<Arc<str>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Clipboard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Clipboard {
    /// Begins to exchange clipboards with the agent behind this socket of QEMU, as often as the connection breaks, and tells
    /// it the displays that are wanted; none are no wish.
    pub(crate) fn start(
        socket: PathBuf,
        sink: Arc<dyn ClipboardSink>,
        mut displays: watch::Receiver<Vec<DisplayArea>>,
    ) -> Self {
        let (offer, offers) = watch::channel(None);
        displays.mark_changed();
        let link = Link { socket, sink, offers, offered: None, displays };
        Self { offer, task: tokio::spawn(link.keep()) }
    }

    /// Puts a viewer's text into the guest's clipboard; never waits. Of several texts the last counts.
    pub(crate) fn offer(&self, text: Arc<str>) {
        self.offer.send_replace(Some(text));
    }
}

struct Link {
    socket: PathBuf,
    sink: Arc<dyn ClipboardSink>,
    offers: watch::Receiver<Option<Arc<str>>>,
    /// The viewer's text that is the clipboard's content.
    offered: Option<Arc<str>>,
    displays: watch::Receiver<Vec<DisplayArea>>,
}

impl Link {
    /// Connects again and again, until QEMU has ended.
    async fn keep(mut self) {
        let mut pause = PAUSE;
        loop {
            let began = tokio::time::Instant::now();
            match self.talk().await {
                LinkError::Connect(e)
                    if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) =>
                {
                    tracing::debug!("the clipboard's port has gone with QEMU");
                    return;
                }
                error => tracing::warn!(%error, "the guest's clipboard is tried again"),
            }
            if began.elapsed() > LONGEST_PAUSE {
                pause = PAUSE;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection; gives why it ended.
    async fn talk(&mut self) -> LinkError {
        let stream = match crate::address::connect(&self.socket).await {
            Ok(stream) => stream,
            Err(error) => return LinkError::Connect(error),
        };
        let mut session = Session::new(self.offered.take());
        // An agent that starts anew is in a desktop that does, and has the display that it had at first.
        session.arrange(self.displays.borrow_and_update().clone());
        let error = self.converse(stream, &mut session).await;
        self.offered = session.offered();
        error
    }

    async fn converse(&mut self, mut stream: tokio::net::UnixStream, session: &mut Session) -> LinkError {
        let (mut read, mut write) = stream.split();
        let mut buffer = vec![0; READ];
        let mut sent = 0;
        loop {
            // Both ways at once: an agent may read only after it was read from.
            tokio::select! {
                n = read.read(&mut buffer) => match n {
                    Ok(0) => return io::Error::from(io::ErrorKind::UnexpectedEof).into(),
                    Ok(n) => match session.feed(&buffer[..n]) {
                        Ok(events) => events.into_iter().for_each(|event| self.tell(event)),
                        Err(error) => return error.into(),
                    },
                    Err(error) => return error.into(),
                },
                n = write.write(&session.out[sent..]), if sent < session.out.len() => match n {
                    Ok(n) => {
                        sent += n;
                        if sent == session.out.len() {
                            // A long text should not stay allocated.
                            session.out = Vec::new();
                            sent = 0;
                        }
                    }
                    Err(error) => return error.into(),
                },
                changed = self.offers.changed(), if session.out.is_empty() => match changed {
                    Ok(()) => {
                        if let Some(text) = self.offers.borrow_and_update().clone() {
                            session.offer(text);
                        }
                    }
                    // The owner has gone, and this task is about to be ended.
                    Err(_) => std::future::pending().await,
                },
                Ok(()) = self.displays.changed(), if session.out.is_empty() => {
                    session.arrange(self.displays.borrow_and_update().clone());
                },
            }
        }
    }

    fn tell(&self, event: Event) {
        match event {
            Event::Content(text) => self.sink.clipboard(text),
            Event::Refused(why) => tracing::warn!(why, "the guest's clipboard was not taken"),
        }
    }
}

#[cfg(test)]
mod tests;
