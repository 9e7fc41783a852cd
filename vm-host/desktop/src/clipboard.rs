//! The desktop's one clipboard: the text that was copied last, by a program in the guest or by one of the viewers.
//!
//! ```text
//! viewer A ─ offer ─► Clipboard ─► guest          guest ─► Clipboard ─► every viewer
//!                         └──────► viewers but A
//! ```
//!
//! As with input, nothing reaches the guest before it has its identity; a text that comes earlier waits. It knows nothing
//! of RFB or of who may use it, and logs no text.

use lucarne_driver::{ClipboardSink, MAX_CLIPBOARD, Vm};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// Lines end in `\n`; `None` when there is no text.
    pub(crate) text: Option<Arc<str>>,
    /// The viewer that it came from, which knows it.
    pub(crate) from: Option<Seat>,
}

/// Tells one viewer from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat(u64);

/// The clipboard of one desktop.
#[derive(Default)]
pub(crate) struct Clipboard {
    /// Locked while the content changes, so that the guest gets texts in the order that viewers see.
    guest: Mutex<Option<Arc<dyn Vm>>>,
    content: watch::Sender<Content>,
    seats: AtomicU64,
}

impl Clipboard {
    /// A place for another viewer, and the content with its changes; what is in it now counts as a change.
    pub(crate) fn join(&self) -> (Seat, watch::Receiver<Content>) {
        let mut content = self.content.subscribe();
        content.mark_changed();
        (Seat(self.seats.fetch_add(1, Ordering::Relaxed)), content)
    }

    /// A viewer copied this. A text that is too long is refused: `false`.
    pub(crate) fn offer(&self, from: Seat, text: &str) -> bool {
        let text = text.replace("\r\n", "\n");
        if text.len() > MAX_CLIPBOARD {
            tracing::warn!(bytes = text.len(), "a viewer's clipboard was not taken: its text is too long");
            return false;
        }
        let guest = self.guest();
        if self.content.borrow().text.as_deref() == Some(text.as_str()) {
            // Viewers that tell back whatever they hear would otherwise keep each other busy for ever.
            return true;
        }
        let text: Arc<str> = text.into();
        self.content.send_replace(Content { text: Some(text.clone()), from: Some(from) });
        if let Some(guest) = &*guest {
            guest.offer_clipboard(text);
        }
        true
    }

    /// The guest has its identity: exchanges texts with it from now on.
    pub(crate) fn open(self: &Arc<Self>, vm: Arc<dyn Vm>) {
        let mut guest = self.guest();
        vm.connect_clipboard(self.clone());
        if let Some(text) = &self.content.borrow().text {
            vm.offer_clipboard(text.clone());
        }
        *guest = Some(vm);
    }

    /// Forgets the guest, which has ended, and the text.
    pub(crate) fn shut(&self) {
        let mut guest = self.guest();
        *guest = None;
        self.content.send_replace(Content::default());
    }

    fn guest(&self) -> MutexGuard<'_, Option<Arc<dyn Vm>>> {
        // Every change is whole at every point where a panic is possible.
        self.guest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClipboardSink for Clipboard {
    fn clipboard(&self, text: Option<Arc<str>>) {
        let _guest = self.guest();
        self.content.send_replace(Content { text, from: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeVm;

    #[test]
    fn a_text_waits_until_the_guest_has_its_identity() {
        let (clipboard, vm) = (Arc::new(Clipboard::default()), FakeVm::new());
        let (seat, _content) = clipboard.join();
        clipboard.offer(seat, "first");
        clipboard.offer(seat, "early\r\nbird");
        assert!(vm.offered().is_empty());
        clipboard.open(vm.clone());
        clipboard.offer(seat, "late");
        assert_eq!(vm.offered(), ["early\nbird", "late"]);
    }

    #[test]
    fn a_text_that_is_told_back_goes_nowhere() {
        let (clipboard, vm) = (Arc::new(Clipboard::default()), FakeVm::new());
        clipboard.open(vm.clone());
        let ((one, mut content), (other, _)) = (clipboard.join(), clipboard.join());
        clipboard.offer(one, "echo");
        clipboard.offer(other, "echo");
        assert_eq!(vm.offered(), ["echo"]);
        assert_eq!(content.borrow_and_update().from, Some(one));
        clipboard.clipboard(Some("guest's".into()));
        clipboard.offer(other, "guest's");
        assert_eq!(vm.offered(), ["echo"]);
        clipboard.offer(other, "echo");
        assert_eq!(vm.offered(), ["echo", "echo"]);
    }

    #[test]
    fn a_text_that_is_too_long_changes_nothing() {
        let (clipboard, vm) = (Arc::new(Clipboard::default()), FakeVm::new());
        clipboard.open(vm.clone());
        let (seat, mut content) = clipboard.join();
        content.borrow_and_update();
        assert!(!clipboard.offer(seat, &"x".repeat(MAX_CLIPBOARD + 1)));
        assert!(vm.offered().is_empty() && !content.has_changed().unwrap());
        assert!(clipboard.offer(seat, &"x".repeat(MAX_CLIPBOARD)));
        assert_eq!(vm.offered()[0].len(), MAX_CLIPBOARD);
    }
}
