//! Faults put in on purpose.
//!
//! Where a promise hangs on one comparison, the code asks here whether it is to leave it out: `mutant("…")` is false, and
//! costs nothing, in every build but the simulation's. That one lets each mutant live in turn and has to catch it: a promise
//! whose check can be left out unnoticed is not tested.

/// Whether this fault is to be made now.
#[cfg(not(feature = "on"))]
#[inline(always)]
#[must_use]
pub fn mutant(_: &'static str) -> bool {
    false
}

#[cfg(feature = "on")]
pub use alive::{all_asked, live, mutant};

#[cfg(feature = "on")]
mod alive {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;

    thread_local! {
        static ALIVE: Cell<Option<&'static str>> = const { Cell::new(None) };
        static ASKED: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// Lets one fault be made on this thread from now on, or none.
    pub fn live(name: Option<&'static str>) {
        ALIVE.set(name);
    }

    /// Whether this fault is to be made now.
    #[must_use]
    pub fn mutant(name: &'static str) -> bool {
        ASKED.with_borrow_mut(|asked| asked.insert(name));
        ALIVE.get() == Some(name)
    }

    /// The faults that this thread came by.
    #[must_use]
    pub fn all_asked() -> BTreeSet<&'static str> {
        ASKED.with_borrow(Clone::clone)
    }
}
