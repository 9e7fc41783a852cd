//! One viewer's side of the desktop's clipboard: what is told to it and what it is asked for.
//!
//! With the extended clipboard (rfbproto, "Extended Clipboard Pseudo-Encoding") it hears that there is text, or gets a
//! short one at once, as it likes. Without, it gets every text as ISO 8859-1. It hears nothing before its first
//! SetEncodings, which tells which of the two it is.

use crate::clipboard::{Content, Place, Seat};
use lucarne_rfb::clipboard::{Clipboard, MAX_TEXT};
use lucarne_rfb::server::write;
use tokio::sync::watch;

/// How the viewer wants texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Nobody knows yet.
    Unknown,
    Latin1,
    /// Texts up to so many bytes unasked; none at all when it does not understand text.
    Extended(Option<u32>),
}

/// The writing half's part of the clipboard.
pub(super) struct Board {
    seat: Seat,
    content: watch::Receiver<Content>,
    /// Its own texts are taken.
    gives: bool,
    manner: Manner,
    /// The viewer waits for the text. However often it asks, one answer will do.
    requested: bool,
    /// It waits to hear whether there is text.
    peeked: bool,
    /// It has text of its own, which it is to be asked for.
    offers: bool,
    /// It has been told how the clipboard was.
    told: bool,
}

impl Board {
    /// Of a viewer that has said nothing yet.
    pub(super) fn new(Place { seat, content, gives }: Place) -> Self {
        Self {
            seat,
            content,
            gives,
            manner: Manner::Unknown,
            requested: false,
            peeked: false,
            offers: false,
            told: false,
        }
    }

    /// The viewer knows the extended clipboard or not.
    pub(super) fn set_extended(&mut self, extended: bool, out: &mut Vec<u8>) {
        if !extended {
            self.manner = Manner::Latin1;
            return;
        }
        if !matches!(self.manner, Manner::Extended(_)) {
            // Nothing unasked, until it says how much.
            self.manner = Manner::Extended(Some(0));
        }
        // With every SetEncodings that has it, as the specification asks for.
        write::clipboard(&Clipboard::Caps { text: Some(MAX_TEXT as u32) }, out);
    }

    /// The viewer said something of the extended clipboard other than a text.
    pub(super) fn hear(&mut self, message: &Clipboard) {
        match message {
            Clipboard::Caps { text } if matches!(self.manner, Manner::Extended(_)) => {
                self.manner = Manner::Extended(*text);
            }
            Clipboard::Request => self.requested = true,
            Clipboard::Peek => self.peeked = true,
            Clipboard::Notify { text } => self.offers = *text && self.gives,
            _ => {}
        }
    }

    /// Appends what there is to say.
    pub(super) fn say(&mut self, out: &mut Vec<u8>) {
        if self.manner == Manner::Unknown {
            return;
        }
        if std::mem::take(&mut self.offers) {
            write::clipboard(&Clipboard::Request, out);
        }
        let (peeked, requested) = (std::mem::take(&mut self.peeked), std::mem::take(&mut self.requested));
        let changed = self.content.has_changed().unwrap_or(false);
        let content = self.content.borrow_and_update().clone();
        let text = content.text.as_deref();
        // What it copied itself is no news to it, and neither is it that nobody has copied anything yet.
        let news = changed && content.from != Some(self.seat) && (text.is_some() || self.told);
        match (self.manner, text) {
            (Manner::Latin1, Some(text)) if news => write::cut_text(text, out),
            (Manner::Extended(Some(unasked)), Some(text)) if requested || news && fits(text, unasked) => {
                write::clipboard(&Clipboard::Provide(text.to_owned()), out);
            }
            (Manner::Extended(Some(_)), _) if requested || peeked || news => {
                write::clipboard(&Clipboard::Notify { text: text.is_some() }, out);
            }
            _ => {}
        }
        self.told |= changed;
    }

    /// Waits until there is something else to say. Borrows nothing.
    pub(super) fn changed(&self) -> impl Future<Output = ()> + use<> {
        let content = (self.manner != Manner::Unknown).then(|| self.content.clone());
        async move {
            let Some(mut content) = content else { return std::future::pending().await };
            if content.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }
}

/// Whether a text is at most `limit` bytes on the wire, where lines end in CR LF and a zero ends it all.
fn fits(text: &str, limit: u32) -> bool {
    text.len() + text.matches('\n').count() < limit as usize
}
