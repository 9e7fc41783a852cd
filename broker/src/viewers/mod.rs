//! The viewers that are connected through this gateway, by session: who may come in, who has to go for it, and what each
//! is told. The rules are in [`room`]; here are the channels to the streams.
//!
//! Knows nothing of what carries them.

mod room;
#[cfg(test)]
mod tests;

pub use room::MOST;

use lucarne_control::viewer::{Ending, EndingReason, ShadowQuestion, Viewer, ViewerKind};
use lucarne_control::{SessionId, ShadowId};
use lucarne_core::Entry;
use room::{Change, Room, Seat};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// Why the broker ends a viewer's stream; its words are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The user logged off.
    LoggedOff,
    /// The desktop ended: it failed, or an administrator destroyed it.
    DesktopEnded,
    /// The session's user came by another viewer.
    TakenOver(Box<Viewer>),
    /// The session's user came through another broker.
    Elsewhere,
    /// Somebody ended this viewer; who.
    Stopped(String),
    /// The session has as many viewers as it may have.
    Full,
    /// The user could not see any more that an administrator watches.
    Unseen,
    /// An administrator took away the user's right to it, or its host's.
    Withdrawn,
    /// Nothing was typed for as long as that may be; the session goes on.
    Idle,
    /// The session has lasted for as long as it may.
    Lasted,
    /// The personal desktop was powered off.
    PoweredOff,
    /// The personal desktop was suspended.
    Suspended,
    /// The personal desktop was put back to a snapshot.
    PutBack,
    /// The desktop's host is worked on.
    Maintenance,
}

impl End {
    /// The WebSocket close code (RFC 6455, section 7.4.2: 4000 to 4999 are the application's).
    pub fn code(&self) -> u16 {
        match self {
            Self::LoggedOff => 4001,
            Self::DesktopEnded => 4002,
            Self::TakenOver(_) | Self::Elsewhere => 4003,
            Self::Stopped(_) => 4004,
            Self::Full => 4005,
            Self::Unseen => 4006,
            Self::Withdrawn => 4007,
            Self::Idle => 4008,
            Self::Lasted => 4009,
            Self::PoweredOff => 4010,
            Self::Maintenance => 4011,
            Self::Suspended => 4012,
            Self::PutBack => 4013,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoggedOff => f.write_str("logged off"),
            Self::DesktopEnded => f.write_str("the desktop ended"),
            Self::TakenOver(by) => {
                let kind = match by.kind {
                    ViewerKind::Browser => "a browser",
                    ViewerKind::Vnc => "a VNC viewer",
                };
                write!(f, "the session is used from elsewhere: {kind} at {}", by.address)
            }
            Self::Elsewhere => f.write_str("the session is used from elsewhere, through another server"),
            Self::Stopped(by) => write!(f, "{by} ended this viewer"),
            Self::Full => write!(f, "the session has {MOST} viewers, which is as many as it may have"),
            Self::Unseen => f.write_str("the user's viewer does not show any more that somebody watches"),
            Self::Withdrawn => f.write_str("an administrator has withdrawn this desktop"),
            Self::Idle => f.write_str("disconnected because nothing was typed"),
            Self::Lasted => f.write_str("the session has lasted for as long as it may"),
            Self::PoweredOff => f.write_str("the desktop was powered off"),
            Self::PutBack => f.write_str("the desktop was put back to a snapshot"),
            Self::Suspended => f.write_str("the desktop was suspended"),
            Self::Maintenance => f.write_str("the desktop's host is being worked on"),
        }
    }
}

/// Somebody who wants to view a session.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// As what.
    pub entry: Entry,
    /// The user's name.
    pub user: String,
    /// Where from.
    pub address: String,
    /// By what.
    pub kind: ViewerKind,
    /// What secures the connection.
    pub security: String,
    /// The viewer shows notices.
    pub notices: bool,
}

/// What all viewers of a session may know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// All of them.
    pub viewers: Vec<Viewer>,
    /// What the owner is asked.
    pub questions: Vec<ShadowQuestion>,
    /// It is about to end.
    pub ending: Option<NearEnd>,
}

/// An end that is near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearEnd {
    /// When.
    pub at: Instant,
    /// Why.
    pub why: EndingReason,
}

impl NearEnd {
    /// Whether it is the same for people: a clock on another machine moves it by a little.
    fn is_about(&self, other: &Self) -> bool {
        let (first, last) = (self.at.min(other.at), self.at.max(other.at));
        self.why == other.why && last - first < Duration::from_secs(2)
    }

    /// As viewers are told.
    pub fn told(&self) -> Ending {
        let left = self.at.saturating_duration_since(Instant::now()).as_secs_f64().round();
        Ending { left_s: left as u32, why: self.why }
    }
}

/// The user's answer to a question: whose, and whether they allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name of who answered.
    pub by: String,
    /// They may.
    pub allow: bool,
}

/// Why nobody was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// No browser of the owner is there.
    #[error(
        "nobody can be asked: the user has no browser open on this desktop (VNC viewers cannot show a question)"
    )]
    Nobody,
    /// One question at a time.
    #[error("the user is being asked by someone else right now; try again in a moment")]
    Busy,
}

#[derive(Debug, Default)]
struct Session {
    room: Room,
    ends: HashMap<u64, oneshot::Sender<End>>,
    answers: HashMap<ShadowId, oneshot::Sender<Answer>>,
    sight: watch::Sender<Sight>,
    ending: Option<NearEnd>,
}

impl Session {
    /// Tells those whom a step concerns, and shows the rest what is new.
    fn apply(&mut self, change: Change) {
        for (id, why) in change.ended {
            if let Some(end) = self.ends.remove(&id) {
                // A viewer that is just leaving does not listen any more.
                let _ = end.send(why);
            }
        }
        for id in change.dropped {
            self.answers.remove(&id);
        }
        let (viewers, questions) = (self.room.viewers(), self.room.questions().to_vec());
        let now = Sight { viewers, questions, ending: self.ending };
        self.sight.send_if_modified(|seen| {
            let changed = *seen != now;
            *seen = now;
            changed
        });
    }
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    sessions: HashMap<SessionId, Session>,
}

impl Inner {
    /// Changes a session's room, and forgets the session when nobody is left.
    fn step<T>(&mut self, id: SessionId, act: impl FnOnce(&mut Session) -> T) -> T {
        let session = self.sessions.entry(id).or_default();
        let done = act(session);
        if session.room.is_empty() {
            self.sessions.remove(&id);
        }
        done
    }
}

/// Who views which session.
#[derive(Clone, Debug, Default)]
pub struct Viewers(Arc<Mutex<Inner>>);

/// A viewer's place; given up when dropped.
#[derive(Debug)]
pub struct Place {
    viewers: Viewers,
    session: SessionId,
    /// The viewer's number.
    pub id: u64,
    /// The session's viewers and questions, as they change.
    pub sight: watch::Receiver<Sight>,
}

/// An open question; taken back when dropped.
#[derive(Debug)]
pub struct Asking {
    viewers: Viewers,
    session: SessionId,
    id: ShadowId,
    /// The answer; closed when nobody can give it any more.
    pub answer: oneshot::Receiver<Answer>,
}

impl Viewers {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place; viewers that have to go for it are told.
    ///
    /// # Errors
    /// [`End::Full`], [`End::Unseen`].
    pub fn enter(
        &self,
        session: SessionId,
        newcomer: Newcomer,
    ) -> Result<(Place, oneshot::Receiver<End>), End> {
        let (tx, rx) = oneshot::channel();
        let mut inner = self.lock();
        inner.last += 1;
        let id = inner.last;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed());
        let Newcomer { entry, user, address, kind, security, notices } = newcomer;
        let (role, control) = (entry.role(), entry.control());
        let viewer = Viewer { id, role, control, user, address, kind, security, since };
        let sight = inner.step(session, |s| {
            let change = s.room.enter(Seat { viewer, notices, entry })?;
            s.ends.insert(id, tx);
            s.apply(change);
            Ok(s.sight.subscribe())
        })?;
        Ok((Place { viewers: self.clone(), session, id, sight }, rx))
    }

    /// Tells all of the session's viewers that it is over.
    pub fn end(&self, session: SessionId, why: &End) {
        self.lock().step(session, |s| {
            let change = s.room.clear(why);
            s.apply(change);
        });
    }

    /// Tells a session's viewers that it is about to end, or that it is not any more.
    pub fn warn(&self, session: SessionId, ending: Option<NearEnd>) {
        let known = |s: &Session| match (&s.ending, &ending) {
            (Some(known), Some(new)) => known.is_about(new),
            (None, None) => true,
            _ => false,
        };
        if let Some(s) = self.lock().sessions.get_mut(&session)
            && !known(s)
        {
            s.ending = ending;
            s.apply(Change::default());
        }
    }

    /// Ends one viewer; says whether it was there.
    pub fn stop(&self, session: SessionId, viewer: u64, by: &str) -> bool {
        self.lock().step(session, |s| s.room.stop(viewer, by).map(|change| s.apply(change)).is_some())
    }

    /// The session's viewers, in the order in which they came.
    pub fn of(&self, session: SessionId) -> Vec<Viewer> {
        self.lock().sessions.get(&session).map(|s| s.room.viewers()).unwrap_or_default()
    }

    /// The sessions that somebody views.
    pub fn sessions(&self) -> Vec<SessionId> {
        self.lock().sessions.keys().copied().collect()
    }

    /// Whether a viewer of the owner with control is there.
    pub fn in_use(&self, session: SessionId) -> bool {
        self.lock().sessions.get(&session).is_some_and(|s| s.room.in_use())
    }

    /// The viewers that would end if somebody came in like this.
    ///
    /// # Errors
    /// They may not come in: [`End::Full`], [`End::Unseen`].
    pub fn in_the_way(&self, session: SessionId, entry: Entry) -> Result<Vec<Viewer>, End> {
        self.lock().step(session, |s| s.room.admits(entry).map(|()| s.room.in_the_way(entry)))
    }

    /// Puts a question to the session's owner.
    ///
    /// # Errors
    /// [`NotAsked`].
    pub fn ask(&self, session: SessionId, question: ShadowQuestion) -> Result<Asking, NotAsked> {
        let (tx, answer) = oneshot::channel();
        let id = question.id;
        self.lock().step(session, |s| {
            if !s.room.questions().is_empty() {
                return Err(NotAsked::Busy);
            }
            if !s.room.ask(question) {
                return Err(NotAsked::Nobody);
            }
            s.answers.insert(id, tx);
            s.apply(Change::default());
            Ok(())
        })?;
        Ok(Asking { viewers: self.clone(), session, id, answer })
    }

    /// Answers a question; says whether it was open.
    pub fn answer(&self, session: SessionId, id: ShadowId, answer: Answer) -> bool {
        self.lock().step(session, |s| {
            if !s.room.unask(id) {
                return false;
            }
            s.apply(Change::default());
            s.answers.remove(&id).is_some_and(|tx| tx.send(answer).is_ok())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.viewers.lock().step(self.session, |s| {
            s.ends.remove(&self.id);
            let change = s.room.leave(self.id);
            s.apply(change);
        });
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.viewers.lock().step(self.session, |s| {
            s.answers.remove(&self.id);
            if s.room.unask(self.id) {
                s.apply(Change::default());
            }
        });
    }
}
