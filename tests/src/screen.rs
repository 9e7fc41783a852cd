//! A screen of its own for programs with windows: Xvfb, and xdotool to press keys on it.

use crate::poll::{LIMIT, until};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running X server without a display. Dropped it is killed.
pub struct Screen {
    server: Child,
    name: String,
    home: tempfile::TempDir,
}

impl Screen {
    /// Starts one under the first free number.
    ///
    /// # Panics
    /// Xvfb is missing or does not come up.
    #[must_use]
    pub fn start() -> Self {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1600x1200x24", "-nolisten", "tcp"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb is there: use ops/test");
        let mut number = String::new();
        let stdout = server.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut number).expect("Xvfb says its number");
        assert!(!number.trim().is_empty(), "Xvfb did not start");
        let home = tempfile::tempdir().expect("a folder for the programs' settings");
        Self { server, name: format!(":{}", number.trim()), home }
    }

    /// What `DISPLAY` is for its programs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `HOME` is for its programs.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs xdotool; gives what it printed if it succeeded.
    ///
    /// # Panics
    /// It is missing.
    #[must_use]
    pub fn xdotool(&self, words: &[&str]) -> Option<String> {
        let output = Command::new("xdotool")
            .args(words)
            .env("DISPLAY", &self.name)
            .output()
            .expect("xdotool is there: use ops/test");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Gives a window the keyboard.
    pub fn focus(&self, window: &str) {
        until("the window has the keyboard", LIMIT, || {
            self.xdotool(&["windowfocus", window])?;
            self.xdotool(&["getwindowfocus"]).filter(|focused| focused == window)
        });
    }

    /// Presses a combination, named as X11 does.
    ///
    /// # Panics
    /// It cannot be.
    pub fn key(&self, keys: &str) {
        assert!(self.xdotool(&["key", keys]).is_some(), "xdotool key {keys}");
    }

    /// Types a line and ends it by Return.
    ///
    /// # Panics
    /// It cannot be.
    pub fn type_line(&self, text: &str) {
        assert!(self.xdotool(&["type", "--delay", "40", text]).is_some(), "xdotool type {text}");
        self.key("Return");
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
