//! What was told last of each thing, in the order of its telling: those who come back, and those who are slow, read on from where
//! they were. What changed while nobody watched stands there too, unread.
//!
//! Knows nothing of who reads.

use super::Told;
use lucarne_control::spec::ImageDigest;
use lucarne_control::{DesktopId, HostId, PoolId, SessionId, UserId};
use lucarne_core::Change;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Things that are remembered. More: memory, a few KiB for each in the worst case, that is held whether or not somebody comes
/// back. Fewer: who was away for a moment in a busy hour has to read all lists again.
pub const REMEMBERED: usize = 8_192;

/// What an entry is about; a newer one takes the place of the one before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Thing {
    Desktop(DesktopId),
    Session(SessionId),
    Pool(PoolId),
    Card(PoolId),
    Host(HostId),
    Image(ImageDigest),
    User(UserId),
    /// Whatever this is about.
    Unread(Change),
}

/// An entry.
#[derive(Clone, Debug)]
pub enum Entry {
    /// As it was told.
    Told(Arc<Told>),
    /// Nobody watched, so nobody has read what it is now.
    Unread(Change),
}

/// The entries by their numbers, which rise from 1.
#[derive(Debug, Default)]
pub struct Log {
    /// The last number that was given.
    head: u64,
    /// Entries up to this one may be gone.
    horizon: u64,
    entries: BTreeMap<u64, (Thing, Entry)>,
    at: HashMap<Thing, u64>,
}

impl Log {
    /// The number of the last entry.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Adds an entry, in the place of the one about the same thing.
    pub fn put(&mut self, thing: Thing, entry: Entry) {
        self.head += 1;
        if let Some(before) = self.at.insert(thing.clone(), self.head) {
            self.entries.remove(&before);
        }
        self.entries.insert(self.head, (thing, entry));
        while self.entries.len() > REMEMBERED {
            let Some((number, (thing, _))) = self.entries.pop_first() else { break };
            self.at.remove(&thing);
            self.horizon = number;
        }
    }

    /// Forgets all: something may be missing in it.
    pub fn forget(&mut self) {
        self.head += 1;
        self.horizon = self.head;
        self.entries.clear();
        self.at.clear();
    }

    /// Whether whoever has all up to this entry can be told what came then.
    pub fn knows(&self, number: u64) -> bool {
        (self.horizon..=self.head).contains(&number)
    }

    /// Whether there is something about a thing that came after this entry.
    pub fn has_since(&self, thing: &Thing, number: u64) -> bool {
        self.at.get(thing).is_some_and(|at| *at > number)
    }

    /// What came after this entry, in order.
    pub fn after(&self, number: u64) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.range(number.saturating_add(1)..).map(|(number, (_, entry))| (*number, entry))
    }

    /// Takes out what came after this entry and was not read.
    pub fn take_unread(&mut self, number: u64) -> Vec<Change> {
        let unread = |(number, entry): (u64, &Entry)| match entry {
            Entry::Unread(change) => Some((number, *change)),
            Entry::Told(_) => None,
        };
        let found: Vec<_> = self.after(number).filter_map(unread).collect();
        for (number, change) in &found {
            self.entries.remove(number);
            self.at.remove(&Thing::Unread(*change));
        }
        found.into_iter().map(|(_, change)| change).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desktop() -> (Thing, Entry) {
        let change = Change::Desktop(DesktopId::generate());
        (Thing::Unread(change), Entry::Unread(change))
    }

    #[test]
    fn the_newest_of_a_thing_takes_the_place_of_what_was_said_of_it_before() {
        let mut log = Log::default();
        let ((a, first), (b, second)) = (desktop(), desktop());
        log.put(a.clone(), first.clone());
        log.put(b, second);
        log.put(a, first);
        assert_eq!(log.after(0).map(|(number, _)| number).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(log.after(2).count(), 1);
        assert!(log.knows(0) && log.knows(3) && !log.knows(4));
    }

    #[test]
    fn who_was_away_for_too_long_is_not_known_and_neither_is_anybody_after_a_loss() {
        let mut log = Log::default();
        for _ in 0..=REMEMBERED {
            let (thing, entry) = desktop();
            log.put(thing, entry);
        }
        assert_eq!(log.after(0).count(), REMEMBERED);
        assert!(!log.knows(0) && log.knows(1));
        let before = log.head();
        log.forget();
        assert!(!log.knows(before) && log.knows(log.head()));
        assert_eq!(log.after(0).count(), 0);
    }

    #[test]
    fn what_nobody_read_is_taken_out_once() {
        let mut log = Log::default();
        let ((a, first), (b, second)) = (desktop(), desktop());
        log.put(a, first);
        log.put(b, second);
        assert_eq!(log.take_unread(1).len(), 1);
        assert_eq!(log.take_unread(0).len(), 1);
        assert_eq!(log.take_unread(0), []);
        assert_eq!(log.head(), 2, "numbers are given once");
    }
}
