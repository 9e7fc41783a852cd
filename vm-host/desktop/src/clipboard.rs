//! The desktop's one clipboard: the text that was copied last, by a program in the guest or by one of the viewers.
//!
//! ```text
//! viewer A ─ offer ─► Clipboard ─► guest          guest ─► Clipboard ─► every viewer
//!                         └──────► viewers but A
//! ```
//!
//! As with input, nothing reaches the guest before it has its identity; a text that comes earlier waits. It knows nothing
//! of RFB or of which viewers take part, and logs no text. The pool's policy says which of the arrows there are; with those to
//! viewers missing, viewers hear nothing of each other either.

use lucarne_control::spec::ClipboardPolicy;
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
    policy: ClipboardPolicy,
    /// Locked while a text changes, so that the guest gets texts in the order that viewers see.
    inside: Mutex<Inside>,
    /// What viewers may see.
    content: watch::Sender<Content>,
    seats: AtomicU64,
}

/// What the guest has, or will have.
#[derive(Default)]
struct Inside {
    guest: Option<Arc<dyn Vm>>,
    text: Option<Arc<str>>,
}

/// A viewer's place at the clipboard.
pub(crate) struct Place {
    pub(crate) seat: Seat,
    /// What is in it, as far as viewers may see; what is in it now counts as a change.
    pub(crate) content: watch::Receiver<Content>,
    /// The viewer's own texts are taken.
    pub(crate) gives: bool,
}

impl Clipboard {
    /// Empty, with the pool's policy.
    pub(crate) fn new(policy: ClipboardPolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// A place for another viewer; none where nothing goes either way.
    pub(crate) fn join(&self) -> Option<Place> {
        if self.policy == ClipboardPolicy::Off {
            return None;
        }
        let mut content = self.content.subscribe();
        content.mark_changed();
        let seat = Seat(self.seats.fetch_add(1, Ordering::Relaxed));
        Some(Place { seat, content, gives: self.policy.lets_in() })
    }

    /// A viewer copied this. A text that is too long is refused: `false`. One that the policy does not let in goes nowhere.
    pub(crate) fn offer(&self, from: Seat, text: &str) -> bool {
        if !self.policy.lets_in() {
            tracing::debug!("a viewer's clipboard was not taken: the pool's policy lets none in");
            return true;
        }
        let text = text.replace("\r\n", "\n");
        if text.len() > MAX_CLIPBOARD {
            tracing::warn!(bytes = text.len(), "a viewer's clipboard was not taken: its text is too long");
            return false;
        }
        let mut inside = self.inside();
        if inside.text.as_deref() == Some(text.as_str()) {
            // Viewers that tell back whatever they hear would otherwise keep each other busy for ever.
            return true;
        }
        let text: Arc<str> = text.into();
        inside.text = Some(text.clone());
        if self.policy.lets_out() {
            self.content.send_replace(Content { text: Some(text.clone()), from: Some(from) });
        }
        if let Some(guest) = &inside.guest {
            guest.offer_clipboard(text);
        }
        true
    }

    /// The guest has its identity: exchanges texts with it from now on.
    pub(crate) fn open(self: &Arc<Self>, vm: Arc<dyn Vm>) {
        let mut inside = self.inside();
        vm.connect_clipboard(self.clone());
        if let Some(text) = &inside.text {
            vm.offer_clipboard(text.clone());
        }
        inside.guest = Some(vm);
    }

    /// Forgets the guest, which has ended, and the text.
    pub(crate) fn shut(&self) {
        let mut inside = self.inside();
        *inside = Inside::default();
        self.content.send_replace(Content::default());
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Every change is whole at every point where a panic is possible.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClipboardSink for Clipboard {
    fn clipboard(&self, text: Option<Arc<str>>) {
        let mut inside = self.inside();
        if self.policy.lets_out() {
            self.content.send_replace(Content { text: text.clone(), from: None });
            inside.text = text;
        } else {
            // Not even kept: all that matters is that a viewer's earlier text is no longer what the guest has.
            inside.text = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeVm;

    #[test]
    fn a_text_waits_until_the_guest_has_its_identity() {
        let (clipboard, vm) = (Arc::new(Clipboard::default()), FakeVm::new());
        let seat = clipboard.join().unwrap().seat;
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
        let Place { seat: one, mut content, .. } = clipboard.join().unwrap();
        let other = clipboard.join().unwrap().seat;
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
        let Place { seat, mut content, .. } = clipboard.join().unwrap();
        content.borrow_and_update();
        assert!(!clipboard.offer(seat, &"x".repeat(MAX_CLIPBOARD + 1)));
        assert!(vm.offered().is_empty() && !content.has_changed().unwrap());
        assert!(clipboard.offer(seat, &"x".repeat(MAX_CLIPBOARD)));
        assert_eq!(vm.offered()[0].len(), MAX_CLIPBOARD);
    }

    #[test]
    fn texts_go_only_where_the_policy_lets_them() {
        for policy in ClipboardPolicy::ALL {
            let (clipboard, vm) = (Arc::new(Clipboard::new(policy)), FakeVm::new());
            let Some(Place { seat, mut content, gives }) = clipboard.join() else {
                assert_eq!(policy, ClipboardPolicy::Off);
                continue;
            };
            let mut beside = clipboard.join().unwrap().content;
            assert_eq!(gives, policy.lets_in());
            assert!(clipboard.offer(seat, "early"));
            clipboard.open(vm.clone());
            assert!(clipboard.offer(seat, "viewer's"));
            let expected: &[&str] = if policy.lets_in() { &["early", "viewer's"] } else { &[] };
            assert_eq!(vm.offered(), expected, "{policy:?}");
            let seen = beside.borrow_and_update().text.is_some();
            assert_eq!(seen, policy == ClipboardPolicy::Both, "a viewer's text beside it, {policy:?}");
            clipboard.clipboard(Some("guest's".into()));
            let seen = content.borrow_and_update().text.clone();
            assert_eq!(seen.as_deref(), policy.lets_out().then_some("guest's"), "{policy:?}");
        }
    }

    #[test]
    fn a_text_can_be_offered_again_after_the_guest_copied_unseen() {
        let (clipboard, vm) = (Arc::new(Clipboard::new(ClipboardPolicy::ToDesktop)), FakeVm::new());
        clipboard.open(vm.clone());
        let seat = clipboard.join().unwrap().seat;
        clipboard.offer(seat, "mine");
        clipboard.clipboard(Some("secret".into()));
        clipboard.offer(seat, "mine");
        assert_eq!(vm.offered(), ["mine", "mine"]);
    }
}
