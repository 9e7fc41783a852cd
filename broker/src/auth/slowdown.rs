//! A growing delay after failed sign-ins, for the same name from the same address.
//!
//! Attempts queue: each failure makes the next attempt wait longer, and attempts made side by side wait behind each
//! other, so many connections are no way around. Nobody is locked out: another address is not slowed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The delay after the first failure; it doubles with each further one. Higher: typing errors annoy.
const FIRST: Duration = Duration::from_millis(250);

/// The longest delay. Higher: browsers and people give up. Lower: 17,000 guesses a day become more.
const LONGEST: Duration = Duration::from_secs(5);

/// An attempt that would wait longer than this behind others is refused at once.
const LONGEST_QUEUE: Duration = Duration::from_secs(20);

/// Failures are forgotten after this.
const MEMORY: Duration = Duration::from_secs(900);

/// Names and addresses remembered at most; the oldest is dropped for a new one.
const ENTRIES: usize = 10_000;

#[derive(Debug)]
struct Entry {
    failures: u32,
    last: Instant,
    free_at: Instant,
}

/// What is remembered of failures.
#[derive(Debug, Default)]
pub struct SlowDown {
    entries: Mutex<HashMap<(String, IpAddr), Entry>>,
}

fn delay(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => FIRST.saturating_mul(1 << (n - 1).min(10)).min(LONGEST),
    }
}

impl SlowDown {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, IpAddr), Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long this attempt has to wait; `None` when too many wait already.
    pub fn turn(&self, name: &str, from: IpAddr) -> Option<Duration> {
        let now = Instant::now();
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&(name.to_owned(), from)) else { return Some(Duration::ZERO) };
        if now.duration_since(entry.last) > MEMORY {
            entries.remove(&(name.to_owned(), from));
            return Some(Duration::ZERO);
        }
        let at = entry.free_at.max(now) + delay(entry.failures);
        let wait = at.duration_since(now);
        if wait > LONGEST_QUEUE {
            return None;
        }
        entry.free_at = at;
        Some(wait)
    }

    /// Notes a failure.
    pub fn failed(&self, name: &str, from: IpAddr) {
        let now = Instant::now();
        let mut entries = self.lock();
        let key = (name.to_owned(), from);
        if entries.len() >= ENTRIES && !entries.contains_key(&key) {
            let oldest = entries.iter().min_by_key(|(_, e)| e.last).map(|(k, _)| k.clone());
            if let Some(oldest) = oldest {
                entries.remove(&oldest);
            }
        }
        let entry = entries.entry(key).or_insert(Entry { failures: 0, last: now, free_at: now });
        entry.failures = entry.failures.saturating_add(1);
        entry.last = now;
    }

    /// Forgets the failures.
    pub fn succeeded(&self, name: &str, from: IpAddr) {
        self.lock().remove(&(name.to_owned(), from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[tokio::test(start_paused = true)]
    async fn each_failure_doubles_the_wait_up_to_the_longest() {
        let s = SlowDown::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            let wait = s.turn("ada", HERE).unwrap();
            tokio::time::advance(wait).await;
            waits.push(wait.as_millis());
            s.failed("ada", HERE);
        }
        assert_eq!(waits, [0, 250, 500, 1000, 2000, 4000, 5000, 5000]);
    }

    #[tokio::test(start_paused = true)]
    async fn others_are_not_slowed_and_success_forgets() {
        let s = SlowDown::default();
        s.failed("ada", HERE);
        assert_eq!(s.turn("ada", THERE), Some(Duration::ZERO));
        assert_eq!(s.turn("ben", HERE), Some(Duration::ZERO));
        assert_eq!(s.turn("ada", HERE), Some(FIRST));
        s.succeeded("ada", HERE);
        assert_eq!(s.turn("ada", HERE), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_side_by_side_wait_behind_each_other_and_then_are_refused() {
        let s = SlowDown::default();
        for _ in 0..6 {
            s.failed("ada", HERE);
        }
        let waits: Vec<_> = (0..5).map(|_| s.turn("ada", HERE).map(|w| w.as_secs())).collect();
        assert_eq!(waits, [Some(5), Some(10), Some(15), Some(20), None]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_of_failures_is_bounded() {
        let s = SlowDown::default();
        for i in 0..ENTRIES + 50 {
            s.failed(&format!("u{i}"), HERE);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(s.lock().len(), ENTRIES);
        assert_eq!(s.turn("u0", HERE), Some(Duration::ZERO), "the oldest was dropped");
    }
}
