//! Waiting for conditions, never for time.

use std::time::{Duration, Instant};

/// The longest wait for what takes moments; only failures take that long, whatever else the machine does.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Asked too rarely it delays tests, too often it takes the processor from the guests.
const PAUSE: Duration = Duration::from_millis(50);

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
