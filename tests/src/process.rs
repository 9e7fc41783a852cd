//! The processes that a server started, found by the folder that they name or work in.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// A running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its command line, words separated by spaces.
    pub command: String,
}

impl Process {
    /// Kills it at once, as a crash or the kernel's out-of-memory killer would.
    ///
    /// # Panics
    /// It is gone already.
    pub fn kill(&self) {
        assert!(signal(self.pid, Signal::KILL), "{self:?} is gone");
    }

    /// Whether it takes up a process number, be it as one that has ended and was not collected.
    #[must_use]
    pub fn exists(&self) -> bool {
        Path::new(&format!("/proc/{}", self.pid)).exists()
    }

    /// Whether it still runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        read(self.pid).is_some_and(|now| now.1 == self.command)
    }
}

/// Sends a signal; says whether the process was there.
pub fn signal(pid: i32, signal: Signal) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, signal).is_ok())
}

/// Working folder and command line; `None` for what has ended, and for the kernel's own.
fn read(pid: i32) -> Option<(String, String)> {
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned();
    let folder = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    (!command.is_empty()).then(|| (folder.display().to_string(), command))
}

/// All processes that name `folder` in their command line or work in it, except this one.
#[must_use]
pub fn of(folder: &Path) -> Vec<Process> {
    let name = folder.display().to_string();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|pid| *pid != own)
        .filter_map(|pid| {
            let (cwd, command) = read(pid)?;
            // It may read an image of this folder, and is nobody's server.
            if command.split(' ').next().is_some_and(|program| program.ends_with("lucarne-bench")) {
                return None;
            }
            // As a whole component: another data folder may begin with the same letters.
            let names = command.match_indices(&name).any(|(at, _)| {
                !command[at + name.len()..].starts_with(|c: char| c.is_alphanumeric() || "-_.".contains(c))
            });
            (names || Path::new(&cwd).starts_with(folder)).then_some(Process { pid, command })
        })
        .collect()
}

/// The processes of `folder` whose command line has all of these words.
#[must_use]
pub fn with(folder: &Path, words: &[&str]) -> Vec<Process> {
    let mut all = of(folder);
    all.retain(|p| words.iter().all(|w| p.command.split(' ').any(|c| c.contains(w))));
    all
}

/// Kills everything of `folder` until nothing is left, parents before they start more.
pub fn kill_all(folder: &Path) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        let left = of(folder);
        if left.is_empty() {
            return;
        }
        for process in left {
            signal(process.pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
