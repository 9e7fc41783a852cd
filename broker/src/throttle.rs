//! Keeps a flood of like events from flooding the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Events that are logged in one [`WINDOW`]. Higher: strangers fill the disk. Lower: two users who mistype hide each other.
const LINES: u32 = 100;

/// After this, as many are logged again.
const WINDOW: Duration = Duration::from_secs(10);

/// Says which of many like events are logged.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    lines: u32,
    unlogged: u64,
}

impl Throttle {
    /// Whether an event at `now` is to be logged: then, how many were not since the last that was.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
            (state.began, state.lines) = (Some(now), 0);
        }
        if state.lines == LINES {
            state.unlogged += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_a_few_are_logged_and_the_rest_counted() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let logged = (0..1000).filter(|_| throttle.pass(now) == Some(0)).count();
        assert_eq!(logged, LINES as usize);
        assert_eq!(throttle.pass(now + WINDOW), Some(1000 - u64::from(LINES)));
        assert_eq!(throttle.pass(now + WINDOW), Some(0));
    }
}
