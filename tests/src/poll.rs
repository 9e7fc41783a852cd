//! Waiting for conditions, never for time.

use std::time::{Duration, Instant};

/// The longest wait for what takes moments; only failures take that long, whatever else the machine does.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Asked too rarely it delays tests, too often it takes the processor from the guests.
const PAUSE: Duration = Duration::from_millis(50);

/// How long something that a guest was asked to do may take before it is asked again. Asked sooner, a busy guest would begin
/// anew each time.
const AGAIN: Duration = Duration::from_secs(2);

/// Does something that a guest may miss or not be ready for, and asks what comes of it: `step` is told when to do it (again),
/// and asks each time.
///
/// # Panics
/// There is no answer within `limit`; the text says what was waited for.
pub fn urging<T>(what: &str, limit: Duration, mut step: impl FnMut(bool) -> Option<T>) -> T {
    let mut urged: Option<Instant> = None;
    until(what, limit, || {
        let urge = urged.is_none_or(|at| at.elapsed() >= AGAIN);
        if urge {
            urged = Some(Instant::now());
        }
        step(urge)
    })
}

/// Asks until there is an answer.
///
/// # Panics
/// There is none within `limit`; the text says what was waited for.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < limit, "not within {} s: {what}", limit.as_secs());
        std::thread::sleep(PAUSE);
    }
}
