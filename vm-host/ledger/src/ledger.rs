//! The ledger.

use lucarne_control::DesktopId;
use lucarne_control::agent::{Desired, DesktopDesired, DesktopObserved, Followed};
use lucarne_control::desktop::{DesiredState, ForkTimings, Phase};
use lucarne_mutants::mutant;
use std::collections::{BTreeMap, BTreeSet};

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Make this desktop. What was followed has to be on the disk before it runs.
    Begin(DesktopDesired),
    /// Power it off, suspend it, or start it again: a later wish for a desktop that persists and is here. The wish has to be on the
    /// disk before it is acted on.
    Change(DesktopDesired),
    /// End it and destroy what it has; [`Ledger::observe`] is told when it is gone.
    End(DesktopId),
    /// Tell the broker.
    Tell(DesktopObserved),
    /// It was asked for with a lower generation than is here; nothing is done.
    Stale {
        /// Which.
        desktop: DesktopId,
        /// What was asked for.
        told: u64,
        /// What is here.
        here: u64,
    },
}

/// Why a desired set is not followed; the link it came by is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It came by a link that a newer one has replaced, or from a database that is older than this host.
    #[error("what is desired has the epoch {}, and this host has followed {} before", told.epoch, seen.epoch)]
    Epoch {
        /// What it says.
        told: Followed,
        /// What was followed.
        seen: Followed,
    },
    /// A newer one was followed.
    #[error("what is desired has the revision {}, and this host has followed {} before", told.revision, seen.revision)]
    Revision {
        /// What it says.
        told: Followed,
        /// What was followed.
        seen: Followed,
    },
    /// It is a change to a set that this host has not.
    #[error("what is desired is a change to the revision {since}, and this host has {}", seen.revision)]
    Gap {
        /// To which.
        since: u64,
        /// What was followed.
        seen: Followed,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Here,
    Ending,
    Gone,
}

#[derive(Clone, Debug)]
struct Entry {
    generation: u64,
    /// The last wish that was followed.
    wish: u64,
    /// It outlives its guest.
    persistent: bool,
    state: State,
    seen: DesktopObserved,
    /// To be made when this one is gone.
    next: Option<DesktopDesired>,
}

/// What a host was told and what it has.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    followed: Followed,
    desktops: BTreeMap<DesktopId, Entry>,
}

fn sight(desktop: DesktopId, generation: u64, wish: u64, phase: Phase, detail: &str) -> DesktopObserved {
    DesktopObserved {
        desktop,
        generation,
        wish,
        phase,
        detail: detail.to_owned(),
        endpoint: None,
        timings: ForkTimings::default(),
    }
}

impl Ledger {
    /// One of a host that has followed this before, as its disk says.
    #[must_use]
    pub fn new(followed: Followed) -> Self {
        Self { followed, desktops: BTreeMap::new() }
    }

    /// What was followed last: to be kept on the disk, and said in `Hello`.
    #[must_use]
    pub fn followed(&self) -> Followed {
        self.followed
    }

    /// A desktop that was made before, found on the disk with the last wish that was followed.
    pub fn adopt(&mut self, desktop: DesktopId, generation: u64, wish: u64, persistent: bool) {
        let seen = sight(desktop, generation, wish, Phase::Starting, "its host's agent was started again");
        let entry = Entry { generation, wish, persistent, state: State::Here, seen, next: None };
        self.desktops.insert(desktop, entry);
    }

    /// All desktops: what `Observed` lists when it is complete.
    #[must_use]
    pub fn complete(&self) -> Vec<DesktopObserved> {
        self.desktops.values().map(|entry| entry.seen.clone()).collect()
    }

    /// Whether it is here, and has not been told to go.
    #[cfg(test)]
    fn is_kept(&self, desktop: DesktopId) -> bool {
        self.desktops.get(&desktop).is_some_and(|entry| entry.state == State::Here)
    }

    /// Takes over what should be here.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed then.
    pub fn follow(&mut self, desired: &Desired) -> Result<Vec<Order>, Refusal> {
        let (told, seen) = (Followed { epoch: desired.epoch, revision: desired.revision }, self.followed);
        if told.epoch < seen.epoch && !mutant("a host follows an earlier link") {
            return Err(Refusal::Epoch { told, seen });
        }
        match desired.since {
            // It came twice.
            Some(_) if told.epoch == seen.epoch && told.revision <= seen.revision => return Ok(Vec::new()),
            Some(since)
                if (told.epoch != seen.epoch || since != seen.revision)
                    && !mutant("a host follows a change to a set that it has not") =>
            {
                return Err(Refusal::Gap { since, seen });
            }
            None if told < seen && !mutant("a host follows an earlier revision") => {
                return Err(Refusal::Revision { told, seen });
            }
            _ => {}
        }
        self.followed = told;
        let mut orders = Vec::new();
        let unasked: Vec<DesktopId> = match desired.since {
            Some(_) => desired.removed.clone(),
            None => {
                let asked: BTreeSet<_> = desired.desktops.iter().map(|d| d.desktop).collect();
                self.desktops.keys().filter(|id| !asked.contains(id)).copied().collect()
            }
        };
        if !mutant("a host keeps what is not desired any more") {
            for desktop in unasked {
                self.unasked(desktop, &mut orders);
            }
        }
        for desktop in &desired.desktops {
            self.asked(desktop, &mut orders);
        }
        Ok(orders)
    }

    fn unasked(&mut self, desktop: DesktopId, orders: &mut Vec<Order>) {
        let Some(entry) = self.desktops.get_mut(&desktop) else { return };
        entry.next = None;
        match entry.state {
            State::Here => {
                entry.state = State::Ending;
                orders.push(Order::End(desktop));
            }
            State::Ending => {}
            State::Gone => {
                self.desktops.remove(&desktop);
            }
        }
    }

    fn asked(&mut self, told: &DesktopDesired, orders: &mut Vec<Order>) {
        let wanted = told.state == DesiredState::Running;
        let Some(entry) = self.desktops.get_mut(&told.desktop) else {
            return self.new_here(told, orders);
        };
        let here = entry.generation;
        if told.generation < here && !mutant("a host follows a lower generation") {
            orders.push(Order::Stale { desktop: told.desktop, told: told.generation, here });
        } else if told.generation > here {
            match entry.state {
                State::Gone => self.new_here(told, orders),
                state => {
                    // One at a time: the one that is here goes first.
                    entry.next = Some(told.clone());
                    if state == State::Here {
                        entry.state = State::Ending;
                        orders.push(Order::End(told.desktop));
                    }
                    if mutant("a host makes the next generation before the last is gone") && wanted {
                        orders.push(Order::Begin(told.clone()));
                    }
                }
            }
        } else if told.state == DesiredState::Absent
            && entry.state == State::Here
            && !mutant("a host keeps what is to be destroyed")
        {
            entry.wish = entry.wish.max(told.wish);
            entry.state = State::Ending;
            orders.push(Order::End(told.desktop));
        } else if entry.state == State::Gone && (!wanted || told.wish > entry.wish) {
            // Who asks has not heard it, or has decided since.
            entry.wish = entry.wish.max(told.wish);
            orders.push(Order::Tell(entry.seen.clone()));
        } else if told.state != DesiredState::Absent && entry.state == State::Here && entry.persistent {
            let later =
                told.wish > entry.wish || told.wish == entry.wish && mutant("a host follows a wish again");
            if later {
                entry.wish = told.wish;
                orders.push(Order::Change(told.clone()));
            } else if told.wish < entry.wish || entry.seen.phase.is_at_rest() {
                // Who asks has not heard what became of this wish, or that there was a later one.
                orders.push(Order::Tell(entry.seen.clone()));
            }
        }
    }

    /// A desktop that is not here, or not any more, is asked for.
    fn new_here(&mut self, told: &DesktopDesired, orders: &mut Vec<Order>) {
        let DesktopDesired { desktop, generation, wish, persistent, .. } = *told;
        let wanted = match told.state {
            DesiredState::Running => true,
            // Made, so that it is on the disk, and not started yet.
            DesiredState::Off | DesiredState::Suspended => persistent,
            DesiredState::Absent => false,
        };
        let fresh = told.fresh || mutant("a host makes anew what it has lost");
        let (state, seen) = if wanted && fresh {
            orders.push(Order::Begin(told.clone()));
            (State::Here, sight(desktop, generation, wish, Phase::Placing, "its host was told to make it"))
        } else {
            let why = if wanted { "its host does not have it any more" } else { "" };
            let seen = sight(desktop, generation, wish, Phase::Stopped, why);
            orders.push(Order::Tell(seen.clone()));
            (State::Gone, seen)
        };
        if mutant("a host lists a desktop only once it runs") && state == State::Here {
            return;
        }
        self.desktops.insert(desktop, Entry { generation, wish, persistent, state, seen, next: None });
    }

    /// Takes over what became of a desktop: `Stopped` says that it is gone with its data. What is said of another
    /// generation than the one that is here is not of interest. Its wish is the one that it is about; the end of a desktop
    /// is about the last.
    pub fn observe(&mut self, mut seen: DesktopObserved) -> Vec<Order> {
        let desktop = seen.desktop;
        if mutant("a host lists a desktop only once it runs") && !self.desktops.contains_key(&desktop) {
            self.adopt(desktop, seen.generation, seen.wish, false);
        }
        let Some(entry) = self.desktops.get_mut(&desktop) else { return Vec::new() };
        if entry.state == State::Ending && matches!(seen.phase, Phase::Stopping | Phase::Stopped) {
            seen.wish = entry.wish;
        }
        if entry.generation != seen.generation || entry.state == State::Gone || entry.seen == seen {
            return Vec::new();
        }
        if seen.phase == Phase::Stopped {
            entry.state = State::Gone;
        }
        entry.seen = seen.clone();
        let mut orders = vec![Order::Tell(seen)];
        if entry.state == State::Gone
            && let Some(next) = entry.next.take()
        {
            self.new_here(&next, &mut orders);
        }
        orders
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
