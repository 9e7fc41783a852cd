//! A screen of its own for programs with windows: Xvfb, xdotool to press keys on it, and xclip to copy and paste.

use crate::poll::{LIMIT, until};
use lucarne_rfb::client::Framebuffer;
use std::fs;
use std::io::{BufRead, BufReader, Write};
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
        Self::of("1600x1200x24")
    }

    /// The same with two monitors beside each other, of 1280x800 and 1024x768 pixels.
    ///
    /// # Panics
    /// As [`Self::start`], and where xrandr is missing.
    #[must_use]
    pub fn with_two_monitors() -> Self {
        let screen = Self::of("2304x800x24");
        for (name, place, output) in
            [("left", "1280/325x800/203+0+0", "screen"), ("right", "1024/260x768/195+1280+0", "none")]
        {
            let set = Command::new("xrandr")
                .args(["--setmonitor", name, place, output])
                .env("DISPLAY", &screen.name)
                .status()
                .expect("xrandr is there: use ops/test");
            assert!(set.success(), "xrandr makes a monitor");
        }
        screen
    }

    fn of(size: &str) -> Self {
        let home = tempfile::tempdir().expect("a folder for the programs' settings");
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", size, "-nolisten", "tcp", "-noreset", "-fbdir"])
            .arg(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb is there: use ops/test");
        let mut number = String::new();
        let stdout = server.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut number).expect("Xvfb says its number");
        assert!(!number.trim().is_empty(), "Xvfb did not start");
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

    /// Where on the screen a picture is, with every pixel of it; `None` when it is nowhere.
    ///
    /// # Panics
    /// The X server's image cannot be read.
    #[must_use]
    pub fn find(&self, picture: &Framebuffer) -> Option<(usize, usize)> {
        let image = fs::read(self.home().join("Xvfb_screen0")).expect("the X server's image is there");
        Image::of(&image).expect("the X server's image is an XWD file").find(picture)
    }

    /// Clicks there.
    ///
    /// # Panics
    /// It cannot be.
    pub fn click(&self, (x, y): (usize, usize)) {
        let (x, y) = (x.to_string(), y.to_string());
        assert!(self.xdotool(&["mousemove", &x, &y, "click", "1"]).is_some(), "xdotool click {x} {y}");
    }

    /// Moves the pointer to the screen's far corner, where no window should be.
    ///
    /// # Panics
    /// It cannot be.
    pub fn hide_pointer(&self) {
        assert!(self.xdotool(&["mousemove", "1599", "1199"]).is_some(), "xdotool mousemove");
    }

    /// Copies a text, as a program on this screen would.
    ///
    /// # Panics
    /// xclip is missing.
    pub fn copy(&self, text: &str) {
        let mut xclip = self.xclip();
        // It stays to serve the text; what it inherits must not keep anybody waiting.
        xclip.args(["-in"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut xclip = xclip.spawn().expect("xclip is there: use ops/test");
        let mut stdin = xclip.stdin.take().expect("piped");
        stdin.write_all(text.as_bytes()).expect("xclip takes the text");
        drop(stdin);
        assert!(xclip.wait().expect("xclip can be waited for").success(), "xclip copies");
    }

    /// The text that was copied last; `None` if there is none.
    ///
    /// # Panics
    /// xclip is missing.
    #[must_use]
    pub fn copied(&self) -> Option<String> {
        let mut xclip = self.xclip();
        let output = xclip.args(["-out"]).output().expect("xclip is there: use ops/test");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn xclip(&self) -> Command {
        let mut xclip = Command::new("xclip");
        xclip.args(["-selection", "clipboard", "-target", "UTF8_STRING"]).env("DISPLAY", &self.name);
        xclip.stdin(Stdio::null()).stderr(Stdio::null());
        xclip
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

    /// Types a text.
    ///
    /// # Panics
    /// It cannot be.
    pub fn type_text(&self, text: &str) {
        assert!(self.xdotool(&["type", "--delay", "40", text]).is_some(), "xdotool type {text}");
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// An image of the X server's screen, 32 bits a pixel (XWD version 7, X11/XWDFile.h).
struct Image<'a> {
    width: usize,
    height: usize,
    stride: usize,
    pixels: &'a [u8],
}

impl<'a> Image<'a> {
    fn of(file: &'a [u8]) -> Option<Self> {
        let field =
            |n: usize| Some(u32::from_be_bytes(file.get(n * 4..n * 4 + 4)?.try_into().ok()?) as usize);
        let (header, version, bits, colours) = (field(0)?, field(1)?, field(11)?, field(19)?);
        let (width, height, least_first, stride) = (field(4)?, field(5)?, field(7)? == 0, field(12)?);
        let pixels = file.get(header + colours * 12..)?;
        let good = version == 7 && bits == 32 && least_first && pixels.len() >= stride * height;
        good.then_some(Self { width, height, stride, pixels })
    }

    fn find(&self, picture: &Framebuffer) -> Option<(usize, usize)> {
        let (width, height) = (usize::from(picture.width()), usize::from(picture.height()));
        let is_at = |x: usize, y: usize| {
            picture.pixels().chunks_exact(width).enumerate().all(|(row, pixels)| {
                let line = &self.pixels[(y + row) * self.stride + x * 4..];
                pixels.iter().zip(line.chunks_exact(4)).all(|(a, b)| a.to_le_bytes()[..3] == b[..3])
            })
        };
        let (right, below) = (self.width.checked_sub(width)?, self.height.checked_sub(height)?);
        let mut places = (0..=below).flat_map(|y| (0..=right).map(move |x| (x, y)));
        places.find(|(x, y)| is_at(*x, *y))
    }
}
