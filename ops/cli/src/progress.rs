//! Progress on a terminal as a bar, elsewhere as a line now and then.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// One piece of work.
pub struct Progress {
    title: String,
    bar: Option<ProgressBar>,
    said: Option<(Instant, String)>,
    began: Instant,
}

impl Progress {
    /// Begins.
    pub fn new(title: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "  {spinner} {prefix:<24} [{bar:28}] {percent:>3} %  {elapsed}  {wide_msg}",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸ ");
            let bar = ProgressBar::new(100).with_style(style).with_prefix(title.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("  {title} …");
        }
        Self { title: title.into(), bar, said: None, began: Instant::now() }
    }

    /// How far it is.
    pub fn set(&mut self, percent: u8, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(percent.into());
            bar.set_message(what.to_owned());
            return;
        }
        let due = self.said.as_ref().is_none_or(|(at, said)| {
            said != what && at.elapsed() > LINE_EVERY / 15 || at.elapsed() > LINE_EVERY
        });
        if due {
            eprintln!("  {}: {percent} % {what}", self.title);
            self.said = Some((Instant::now(), what.into()));
        }
    }

    /// It is done.
    pub fn done(self, what: &str) {
        let took = self.began.elapsed().as_secs_f64();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("  ✓ {}: {what} ({took:.1} s)", self.title);
    }

    /// It failed; the error is printed by whoever handles it.
    pub fn failed(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("  ✗ {}", self.title);
    }
}
