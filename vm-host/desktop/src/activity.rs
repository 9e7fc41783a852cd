//! When somebody used the desktop last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// When a viewer last came, or did something.
#[derive(Debug)]
pub(crate) struct Activity {
    since: Instant,
    /// Milliseconds after `since`.
    last: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self { since: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Activity {
    fn elapsed(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Somebody does something.
    pub(crate) fn now(&self) {
        self.last.store(self.elapsed(), Ordering::Relaxed);
    }

    /// For how long nobody has, milliseconds.
    pub(crate) fn idle_ms(&self) -> u64 {
        self.elapsed().saturating_sub(self.last.load(Ordering::Relaxed))
    }
}
