//! Judging that a booted desktop is painted and idle: by what the guest says, by damage going quiet, and by the
//! processor time that its QEMU uses. Never by waiting a fixed time.

use crate::guest_agent::{GuestAgent, GuestAgentError};
use crate::process::Process;
use crate::template::Progress;
use lucarne_driver::{CursorImage, Damage, DisplaySink, Frame};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Recipe images create this once wallpaper and panel are on the screen.
const READY_MARKER: &str = "/run/lucarne/session-ready";

/// No damage for this long counts as quiet. Longer than any blink of a cursor; a clock that shows minutes still fits.
const QUIET: Duration = Duration::from_secs(2);

/// An image that gives no marker counts as painted when it has shown a picture and been quiet for this long.
const QUIET_WITHOUT_MARKER: Duration = Duration::from_secs(10);

/// Share of one processor below which the guest counts as idle. A TCG guest that does nothing takes about 0.05 to 0.1.
const IDLE_SHARE: f64 = 0.25;

/// A guest that never gets idle is frozen after this all the same: some desktops animate for ever.
const IDLE_LIMIT: Duration = Duration::from_secs(120);

/// A desktop that is not painted by now never will be.
const PAINT_LIMIT: Duration = Duration::from_secs(600);

/// Remembers when the picture last changed and whether there is anything on it.
#[derive(Default)]
pub(crate) struct Watcher(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    last_damage: Option<Instant>,
    painted: bool,
}

impl Watcher {
    fn note(&self, frame: Frame<'_>) {
        let painted = is_painted(frame);
        let mut seen = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.last_damage = Some(Instant::now());
        seen.painted = painted;
    }

    fn quiet_for(&self) -> Duration {
        let seen = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.last_damage.map_or(Duration::ZERO, |at| at.elapsed())
    }

    fn painted(&self) -> bool {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).painted
    }
}

/// A picture is painted when most of a grid of its pixels is not black: consoles and blanked screens are black.
fn is_painted(frame: Frame<'_>) -> bool {
    let mut lit = 0;
    const GRID: u32 = 16;
    for row in 0..GRID {
        for column in 0..GRID {
            let x = (frame.width * (2 * column + 1) / (2 * GRID)) as usize;
            let y = (frame.height * (2 * row + 1) / (2 * GRID)) as usize;
            let at = y * frame.stride + x * 4;
            let mut pixel = [0; 3];
            if at + pixel.len() <= frame.pixels.length() {
                frame.pixels.read(at, &mut pixel);
            }
            if pixel.iter().any(|c| *c > 16) {
                lit += 1;
            }
        }
    }
    lit * 2 > GRID * GRID
}

impl DisplaySink for Watcher {
    fn scanout(&self, frame: Frame<'_>) {
        self.note(frame);
    }
    fn update(&self, frame: Frame<'_>, _damage: Damage) {
        self.note(frame);
    }
    fn blank(&self, _display: usize) {}
    fn cursor(&self, _cursor: Option<CursorImage>) {}
}

/// One boot that is being watched.
pub(crate) struct Settle<'a> {
    pub(crate) watcher: &'a Watcher,
    pub(crate) process: &'a Process,
    pub(crate) started: Instant,
}

impl Settle<'_> {
    /// Waits until the desktop is on the screen and gives the time since power-on.
    pub(crate) async fn painted(
        &self,
        agent: &mut GuestAgent,
        progress: &mut Progress<'_>,
    ) -> Result<Duration, GuestAgentError> {
        let began = Instant::now();
        loop {
            let script = format!("test -e {READY_MARKER} && echo ready || echo waiting");
            let marked = match agent.shell(&script, Duration::from_secs(60)).await {
                Ok(out) => out.trim() == "ready",
                // A guest without a POSIX shell, or whose agent may not execute: its picture decides.
                Err(GuestAgentError::Refused { .. }) => false,
                Err(error) => return Err(error),
            };
            let took = self.started.elapsed();
            if marked && self.watcher.painted() {
                return Ok(took);
            }
            if self.watcher.painted() && self.watcher.quiet_for() >= QUIET_WITHOUT_MARKER {
                return Ok(took.saturating_sub(self.watcher.quiet_for()));
            }
            if began.elapsed() > PAINT_LIMIT {
                return Err(GuestAgentError::TimedOut("the desktop's first picture".into()));
            }
            progress(55 + (began.elapsed().as_secs().min(25)) as u8, "waiting for the desktop to be painted");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until picture and processor are quiet.
    pub(crate) async fn idle(&self, progress: &mut Progress<'_>) {
        let began = Instant::now();
        loop {
            let before = (Instant::now(), self.process.cpu_time());
            tokio::time::sleep(Duration::from_secs(1)).await;
            let share = match (before.1, self.process.cpu_time()) {
                (Some(a), Some(b)) => b.saturating_sub(a).as_secs_f64() / before.0.elapsed().as_secs_f64(),
                _ => 1.0,
            };
            if share < IDLE_SHARE && self.watcher.quiet_for() >= QUIET {
                return;
            }
            if began.elapsed() > IDLE_LIMIT {
                tracing::warn!(share, "the desktop does not get idle; it is frozen as it is");
                return;
            }
            progress(80 + (began.elapsed().as_secs().min(12)) as u8, "waiting for the desktop to be idle");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_black_console_with_some_text_is_not_a_painted_desktop() {
        let (width, height) = (640u32, 480u32);
        let stride = width as usize * 4;
        let mut pixels = vec![0u8; stride * height as usize];
        for row in 0..60 {
            pixels[row * stride..row * stride + 1200].fill(170);
        }
        assert!(!is_painted(Frame { display: 0, origin: None, width, height, stride, pixels: &pixels }));
        pixels.fill(60);
        assert!(is_painted(Frame { display: 0, origin: None, width, height, stride, pixels: &pixels }));
    }
}
