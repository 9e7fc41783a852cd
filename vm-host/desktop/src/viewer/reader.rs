//! The reading half of a viewer: takes the client's messages, gives input and copied text to the guest, and leaves the
//! rest to the writing half.
//!
//! Input goes straight to the gate, so it is never behind a picture that is being encoded or sent. It knows nothing of
//! pixels.

use super::inbox::{Inbox, Order};
use super::trace::Tracer;
use super::{Rights, fence};
use crate::clipboard::Seat;
use crate::desktop::Desktop;
use crate::keyboard::Keyboard;
use crate::pointer::Pointer;
use lucarne_control::trace::InputKind;
use lucarne_driver::{DisplayArea, InputEvent, MAX_DISPLAYS};
use lucarne_rfb::Rect;
use lucarne_rfb::clipboard::Clipboard;
use lucarne_rfb::server::write::ResizeStatus;
use lucarne_rfb::server::{ClientMessage, ClientMessages, MessageError, Screen};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;
use tokio::time::Instant;

/// Bytes read at once. Input messages are under 20.
const CHUNK: usize = 4096;

/// How long a message that has begun may come to a halt. Shorter would close viewers whose network is away for a moment
/// while they send a long text; longer keeps what they sent in memory.
const UNFINISHED: Duration = Duration::from_secs(30);

/// The sides of a display that a guest may be asked for, and of all its displays together, pixels. Below, desktops have no
/// room for their own windows; above, no guest driver goes.
const SIDES: std::ops::RangeInclusive<u16> = 320..=8192;

/// Why a viewer's reading half ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("its connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("it began a message and sent nothing more of it for {} s", UNFINISHED.as_secs())]
    Unfinished,
    #[error("it went in the middle of a message")]
    CutShort,
}

/// The reading half of one viewer.
pub(super) struct Reader<'a> {
    pub(super) desktop: &'a Desktop,
    pub(super) inbox: &'a Inbox,
    /// The displays that the client wants.
    pub(super) wanted: &'a watch::Sender<Vec<DisplayArea>>,
    pub(super) rights: Rights,
    /// Its place at the clipboard, if it may use it.
    pub(super) clipboard: Option<Seat>,
    pub(super) held: Held<'a>,
    /// A fence that is to take effect together with the next message.
    pub(super) sync: Option<Order>,
    pub(super) tracer: &'a Tracer,
}

/// The keys and buttons that a viewer holds, which are released with it.
pub(super) struct Held<'a> {
    desktop: &'a Desktop,
    keyboard: Keyboard,
    pointer: Pointer,
}

impl<'a> Held<'a> {
    /// Nothing held.
    pub(super) fn new(desktop: &'a Desktop) -> Self {
        Self { desktop, keyboard: Keyboard::default(), pointer: Pointer::default() }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let send = &mut |event: InputEvent| self.desktop.gate.send(event);
        self.keyboard.release_all(send);
        self.pointer.release_all(send);
    }
}

impl Reader<'_> {
    /// Reads until the client goes.
    pub(super) async fn run(
        mut self,
        mut stream: impl AsyncRead + Unpin,
        mut messages: ClientMessages,
    ) -> Result<(), ReadError> {
        let mut chunk = vec![0; CHUNK];
        let mut read_at = Instant::now();
        loop {
            while let Some(message) = messages.next_message()? {
                self.handle(message, read_at).await;
            }
            let read = stream.read(&mut chunk);
            let n = if messages.is_within() {
                tokio::time::timeout(UNFINISHED, read).await.map_err(|_| ReadError::Unfinished)??
            } else {
                read.await?
            };
            if n == 0 {
                return if messages.is_within() { Err(ReadError::CutShort) } else { Ok(()) };
            }
            read_at = Instant::now();
            messages.feed(&chunk[..n])?;
        }
    }

    async fn handle(&mut self, message: ClientMessage, read_at: Instant) {
        match message {
            ClientMessage::SetPixelFormat(format) => self.order(Order::PixelFormat(format)).await,
            ClientMessage::SetEncodings(list) => {
                tracing::debug!(encodings = ?list, "what a viewer understands");
                self.order(Order::Encodings(list)).await;
            }
            ClientMessage::FramebufferUpdateRequest { incremental, rect } => {
                self.flush_sync().await;
                self.inbox.request(rect, incremental);
            }
            ClientMessage::EnableContinuousUpdates { enable, rect } => {
                self.order(Order::ContinuousUpdates(enable.then_some(rect))).await;
            }
            ClientMessage::Fence { flags, payload } => self.fence(flags, payload).await,
            ClientMessage::SetDesktopSize { width, height, screens } => {
                let status = self.resize(width, height, screens);
                self.order(Order::Resize(status)).await;
            }
            ClientMessage::CutText(text) | ClientMessage::Clipboard(Clipboard::Provide(text)) => {
                self.flush_sync().await;
                if self.rights.input {
                    self.desktop.activity.now();
                }
                if let Some(own) = self.clipboard
                    && !self.desktop.clipboard.offer(own, &text)
                {
                    self.order(Order::Bell).await;
                }
            }
            ClientMessage::Clipboard(message) => self.order(Order::Clipboard(message)).await,
            ClientMessage::Audio(request) => self.order(Order::Audio(request)).await,
            ClientMessage::CutTextTooLong { length } => {
                tracing::warn!(length, "a viewer's clipboard was not taken: its text is too long");
                self.order(Order::Bell).await;
            }
            input => {
                self.flush_sync().await;
                if self.rights.input {
                    self.desktop.activity.now();
                    self.input(&input, read_at);
                }
            }
        }
    }

    /// What is not input is dropped: no viewer switches the guest off.
    fn input(&mut self, message: &ClientMessage, read_at: Instant) {
        let send = &mut |event: InputEvent| self.desktop.gate.send(event);
        match *message {
            ClientMessage::KeyEvent { down, keysym } => self.held.keyboard.symbol(down, keysym, send),
            ClientMessage::ExtendedKeyEvent { down, keysym, keycode } => {
                self.held.keyboard.place(down, keysym, keycode, send);
            }
            ClientMessage::PointerEvent { buttons, x, y } => {
                let Rect { w, h, .. } = self.desktop.picture.rect();
                self.held.pointer.moved(buttons, (x, y), (w.into(), h.into()), send);
            }
            _ => {}
        }
        let kind = match message {
            // What a key does it does when it goes down.
            ClientMessage::KeyEvent { down: true, .. }
            | ClientMessage::ExtendedKeyEvent { down: true, .. } => InputKind::Key,
            ClientMessage::PointerEvent { .. } => InputKind::Pointer,
            _ => return,
        };
        self.tracer.input(kind, read_at, Instant::now());
    }

    async fn order(&mut self, order: Order) {
        self.inbox.put(self.sync.take().into_iter().chain([order])).await;
    }

    async fn flush_sync(&mut self) {
        if let Some(fence) = self.sync.take() {
            self.inbox.put([fence]).await;
        }
    }

    async fn fence(&mut self, flags: u32, payload: Vec<u8>) {
        if flags & fence::REQUEST == 0 {
            let at = Instant::now();
            self.inbox.put([Order::Answer { payload, at }]).await;
            return;
        }
        // Messages are handled in turn and updates are sent whole, so both kinds of blocking hold by construction.
        let flags = flags & (fence::BLOCK_BEFORE | fence::BLOCK_AFTER | fence::SYNC_NEXT);
        let fence = Order::Fence { flags, payload };
        if flags & fence::SYNC_NEXT != 0 {
            self.flush_sync().await;
            self.sync = Some(fence);
        } else {
            self.order(fence).await;
        }
    }

    fn resize(&self, width: u16, height: u16, screens: Vec<Screen>) -> ResizeStatus {
        // As long as there is no guest, nobody knows what it can.
        let most = self.desktop.vm().map_or(MAX_DISPLAYS, |vm| vm.capabilities().displays);
        if !self.rights.sharing || most == 0 {
            ResizeStatus::Prohibited
        } else if !arrangeable(width, height, &screens, most) {
            ResizeStatus::InvalidLayout
        } else {
            let areas = screens.iter().map(|screen| {
                let Rect { x, y, w, h } = screen.rect;
                DisplayArea { x: x.into(), y: y.into(), width: w.into(), height: h.into() }
            });
            self.wanted.send_replace(areas.collect());
            self.desktop.picture.want(screens);
            ResizeStatus::Forwarded
        }
    }
}

/// Whether displays can lie like these screens: at most so many, none on another, together as large as the framebuffer.
fn arrangeable(width: u16, height: u16, screens: &[Screen], most: usize) -> bool {
    let sides = |w: u16, h: u16| SIDES.contains(&w) && SIDES.contains(&h);
    let apart = |n: usize, screen: &Screen| {
        screens[..n]
            .iter()
            .all(|other| other.id != screen.id && other.rect.intersection(&screen.rect).is_none())
    };
    let whole = screens.iter().map(|screen| screen.rect).reduce(|all, rect| all.bounding(&rect));
    (1..=most).contains(&screens.len())
        && sides(width, height)
        && whole == Some(Rect::new(0, 0, width, height))
        && screens
            .iter()
            .enumerate()
            .all(|(n, screen)| sides(screen.rect.w, screen.rect.h) && apart(n, screen))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(id: u32, x: u16, y: u16, w: u16, h: u16) -> Screen {
        Screen { id, rect: Rect::new(x, y, w, h), flags: 0 }
    }

    #[test]
    fn displays_may_lie_in_any_way_but_on_each_other() {
        let left = screen(1, 0, 0, 800, 600);
        for (width, height, beside) in [
            (1600, 600, screen(2, 800, 0, 800, 600)),
            (800, 1100, screen(2, 0, 600, 640, 500)),
            (2000, 1400, screen(2, 900, 700, 1100, 700)),
        ] {
            assert!(arrangeable(width, height, &[left, beside], 2), "{beside:?}");
            assert!(!arrangeable(width, height, &[left, beside], 1), "more than there are");
        }
        for (width, height, beside) in [
            (1500, 600, screen(2, 700, 0, 800, 600)),
            (1600, 600, screen(1, 800, 0, 800, 600)),
            (1700, 600, screen(2, 800, 0, 800, 600)),
            (1100, 600, screen(2, 800, 0, 300, 600)),
            (65_535, 600, screen(2, 800, 0, 64_735, 600)),
        ] {
            assert!(!arrangeable(width, height, &[left, beside], 4), "{beside:?}");
        }
        assert!(!arrangeable(800, 600, &[], 4) && !arrangeable(900, 600, &[screen(0, 100, 0, 800, 600)], 4));
    }
}
