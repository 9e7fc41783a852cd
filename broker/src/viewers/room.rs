//! Who views one session, as a pure state machine: no clock, no channels.
//!
//! ```text
//!             take-over: the owners that are there end      ┌── leave, stop ──► gone
//! newcomer ──┬─ share: one more owner, all may type ─────► seat
//!            ├─ view only: it looks, and changes nothing    └── a newer take-over, the session's end,
//!            └─ shadow: an administrator                        a shadow that the user cannot see any more ──► ended, told why
//! ```
//!
//! Whoever is in front of the desktop can see that they are watched: a shadow lives only while a browser of the owner
//! shows it, or, where no consent is needed, while no viewer of the owner is there at all.

use super::End;
use lucarne_control::ShadowId;
use lucarne_control::viewer::{ShadowQuestion, Viewer, ViewerRole, ViewerWish};
use lucarne_core::Entry;

/// Viewers of one session at once. One place is kept for the owner. More: more encoding for the desktop's host. Fewer: a
/// class cannot look together.
pub const MOST: usize = 8;

/// A viewer's seat.
#[derive(Clone, Debug)]
pub struct Seat {
    /// As others see it.
    pub viewer: Viewer,
    /// It shows notices.
    pub notices: bool,
    /// As what it came in.
    pub entry: Entry,
}

/// What a step did to others.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Viewers whose stream has to end, and why.
    pub ended: Vec<(u64, End)>,
    /// Questions that nobody can answer any more.
    pub dropped: Vec<ShadowId>,
}

/// The viewers of one session.
#[derive(Debug, Default)]
pub struct Room {
    seats: Vec<Seat>,
    questions: Vec<ShadowQuestion>,
}

impl Room {
    /// All viewers, in the order in which they came.
    pub fn viewers(&self) -> Vec<Viewer> {
        self.seats.iter().map(|s| s.viewer.clone()).collect()
    }

    /// What the owner is asked.
    pub fn questions(&self) -> &[ShadowQuestion] {
        &self.questions
    }

    /// Nobody is here or asks to be.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty() && self.questions.is_empty()
    }

    /// A viewer of the owner with control is here.
    pub fn in_use(&self) -> bool {
        self.owners().next().is_some()
    }

    fn owners(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter().filter(|s| s.viewer.role == ViewerRole::Owner)
    }

    /// Whether the owner could see a shadow.
    fn sees(&self, consent: bool) -> bool {
        self.owners().any(|s| s.notices) || (!consent && !self.in_use())
    }

    /// Whether somebody may come in like this; else why not.
    ///
    /// # Errors
    /// [`End::Full`], [`End::Unseen`].
    pub fn admits(&self, entry: Entry) -> Result<(), End> {
        if let Entry::Shadow { consent, .. } = entry
            && !self.sees(consent)
        {
            return Err(End::Unseen);
        }
        let owners = self.owners().count();
        let fits = match entry {
            // Those that end make room, and one place is always kept.
            Entry::User(ViewerWish::TakeOver) => true,
            Entry::User(ViewerWish::Share) => self.seats.len() < MOST,
            _ => self.seats.len() < MOST && self.seats.len() - owners < MOST - 1,
        };
        if fits { Ok(()) } else { Err(End::Full) }
    }

    /// The viewers that end when somebody comes in like this.
    pub fn in_the_way(&self, entry: Entry) -> Vec<Viewer> {
        match entry {
            Entry::User(ViewerWish::TakeOver) => self.owners().map(|s| s.viewer.clone()).collect(),
            _ => Vec::new(),
        }
    }

    /// Gives a newcomer a seat.
    ///
    /// # Errors
    /// As [`Room::admits`]; nothing changed then.
    pub fn enter(&mut self, seat: Seat) -> Result<Change, End> {
        self.admits(seat.entry)?;
        let ended = self.in_the_way(seat.entry);
        self.seats.retain(|s| ended.iter().all(|e| e.id != s.viewer.id));
        let by = seat.viewer.clone();
        self.seats.push(seat);
        let ended = ended.into_iter().map(|e| (e.id, End::TakenOver(Box::new(by.clone())))).collect();
        Ok(self.settle(ended))
    }

    /// A viewer went by itself.
    pub fn leave(&mut self, id: u64) -> Change {
        self.seats.retain(|s| s.viewer.id != id);
        self.settle(Vec::new())
    }

    /// Ends one viewer; `None` when there is no such.
    pub fn stop(&mut self, id: u64, by: &str) -> Option<Change> {
        let at = self.seats.iter().position(|s| s.viewer.id == id)?;
        self.seats.remove(at);
        Some(self.settle(vec![(id, End::Stopped(by.to_owned()))]))
    }

    /// Ends all viewers.
    pub fn clear(&mut self, why: &End) -> Change {
        let ended = self.seats.drain(..).map(|s| (s.viewer.id, why.clone())).collect();
        self.settle(ended)
    }

    /// Puts a question to the owner; says whether there is somebody to ask and no other question is open.
    pub fn ask(&mut self, question: ShadowQuestion) -> bool {
        let can = self.questions.is_empty() && self.sees(true);
        if can {
            self.questions.push(question);
        }
        can
    }

    /// Takes a question back; says whether it was open.
    pub fn unask(&mut self, id: ShadowId) -> bool {
        let before = self.questions.len();
        self.questions.retain(|q| q.id != id);
        self.questions.len() < before
    }

    /// Ends shadows and questions that the owner does not see any more.
    fn settle(&mut self, mut ended: Vec<(u64, End)>) -> Change {
        let (with, without) = (self.sees(true), self.sees(false));
        self.seats.retain(|s| {
            let stays = match s.entry {
                Entry::Shadow { consent, .. } => {
                    if consent {
                        with
                    } else {
                        without
                    }
                }
                Entry::User(_) => true,
            };
            if !stays {
                ended.push((s.viewer.id, End::Unseen));
            }
            stays
        });
        let dropped = if with { Vec::new() } else { self.questions.drain(..).map(|q| q.id).collect() };
        Change { ended, dropped }
    }
}
