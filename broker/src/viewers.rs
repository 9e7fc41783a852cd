//! The viewers that are connected through this gateway: at most one per session, the newest.
//!
//! Knows nothing of what carries them.

use lucarne_control::SessionId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Why the broker ends a viewer's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The user logged off.
    LoggedOff,
    /// The desktop ended: it failed, or an administrator destroyed it.
    DesktopEnded,
    /// A newer viewer of the same session came.
    TakenOver,
}

impl End {
    /// The WebSocket close code (RFC 6455, section 7.4.2: 4000 to 4999 are the application's).
    pub fn code(self) -> u16 {
        match self {
            Self::LoggedOff => 4001,
            Self::DesktopEnded => 4002,
            Self::TakenOver => 4003,
        }
    }

    /// For people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::LoggedOff => "logged off",
            Self::DesktopEnded => "the desktop ended",
            Self::TakenOver => "the session is used from elsewhere",
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    current: HashMap<SessionId, (u64, oneshot::Sender<End>)>,
}

/// Who views which session.
#[derive(Clone, Debug, Default)]
pub struct Viewers(Arc<Mutex<Inner>>);

/// A viewer's place; given up when dropped.
#[derive(Debug)]
pub struct Place {
    viewers: Viewers,
    session: SessionId,
    number: u64,
}

impl Viewers {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the session's place; an earlier viewer is told [`End::TakenOver`].
    pub fn enter(&self, session: SessionId) -> (Place, oneshot::Receiver<End>) {
        let (tx, rx) = oneshot::channel();
        let mut inner = self.lock();
        inner.last += 1;
        let number = inner.last;
        if let Some((_, earlier)) = inner.current.insert(session, (number, tx)) {
            // A viewer that is just leaving does not listen any more.
            let _ = earlier.send(End::TakenOver);
        }
        (Place { viewers: self.clone(), session, number }, rx)
    }

    /// Tells the session's viewer, if there is one, that it is over.
    pub fn end(&self, session: SessionId, why: End) {
        if let Some((_, viewer)) = self.lock().current.remove(&session) {
            let _ = viewer.send(why);
        }
    }
}

impl Place {
    /// Gives up the place; tells whether it was still this viewer's.
    pub fn leave(self) -> bool {
        self.remove()
    }

    fn remove(&self) -> bool {
        let mut inner = self.viewers.lock();
        let mine = inner.current.get(&self.session).is_some_and(|(n, _)| *n == self.number);
        if mine {
            inner.current.remove(&self.session);
        }
        mine
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_viewer_wins_and_the_earlier_is_told() {
        let viewers = Viewers::default();
        let session = SessionId::generate();
        let (first, first_end) = viewers.enter(session);
        let (second, second_end) = viewers.enter(session);
        assert_eq!(first_end.await, Ok(End::TakenOver));
        assert!(!first.leave(), "the place was not the first viewer's any more");
        viewers.end(session, End::LoggedOff);
        assert_eq!(second_end.await, Ok(End::LoggedOff));
        drop(second);
        assert!(viewers.lock().current.is_empty());
    }
}
