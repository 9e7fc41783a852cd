//! A real browser, driven by a script of `tests/browser` that asks for orders line by line.
//!
//! The script reads one JSON order a line and answers each with one JSON line, `{"ok": …}` or `{"error": …}`.

use crate::server::{Server, password_of, root};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lucarne_rfb::client::Framebuffer;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long Chromium may take to end.
const LIMIT: Duration = Duration::from_secs(30);

/// A browser with a profile of its own.
pub struct Browser {
    node: Child,
    /// Gone when the script shall end.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Browser {
    /// Starts one that keeps its profile in `profile`.
    ///
    /// # Panics
    /// Node.js, playwright-core or Chromium is missing.
    #[must_use]
    pub fn start(profile: &Path) -> Self {
        let tests = root().join("tests");
        assert!(
            tests.join("node_modules/playwright-core").exists(),
            "playwright-core is missing: use ops/test, or run npm ci in {}",
            tests.display()
        );
        let mut node = Command::new("node")
            .arg(tests.join("browser/drive.mjs"))
            .arg(profile)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node.js starts");
        let orders = node.stdin.take();
        let answers = BufReader::new(node.stdout.take().expect("piped"));
        let mut browser = Self { node, orders, answers };
        browser.order(json!({ "do": "start" }));
        browser
    }

    /// Has the script do something; gives its answer.
    ///
    /// # Panics
    /// The script could not.
    #[allow(clippy::needless_pass_by_value, reason = "orders are written in place")]
    pub fn order(&mut self, order: Value) -> Value {
        let orders = self.orders.as_mut().expect("there until the end");
        writeln!(orders, "{order}").expect("the browser's script listens");
        let mut line = String::new();
        let n = self.answers.read_line(&mut line).expect("the browser's script answers");
        assert!(n > 0, "the browser's script ended at {order}");
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{order}: {line:?}: {e}"));
        assert!(answer["error"].is_null(), "{order}: {}", answer["error"].as_str().unwrap_or(&line));
        answer["ok"].clone()
    }

    /// Opens the server's page and signs in; the portal is there then.
    pub fn sign_in(&mut self, server: &Server, name: &str) {
        let password = password_of(name);
        self.order(json!({ "do": "sign_in", "url": server.url(), "name": name, "password": password }));
    }

    /// Presses Connect and waits for the picture.
    pub fn connect(&mut self) {
        self.order(json!({ "do": "connect" }));
    }

    /// A digest of the pixels that the viewer shows.
    #[must_use]
    pub fn pixels(&mut self) -> String {
        self.order(json!({ "do": "pixels" }))["digest"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether the viewer shows exactly this picture.
    #[must_use]
    pub fn shows(&mut self, picture: &Framebuffer) -> bool {
        let shown = self.order(json!({ "do": "picture" }));
        let rgba = STANDARD.decode(shown["rgba"].as_str().unwrap_or_default()).unwrap_or_default();
        shown["width"] == picture.width()
            && rgba.len() == picture.pixels().len() * 4
            && rgba.chunks_exact(4).zip(picture.pixels()).all(|(a, b)| a[..3] == b.to_be_bytes()[1..])
    }

    /// How many streams the viewer has opened so far, if the last of them shows the desktop.
    #[must_use]
    pub fn stream(&mut self) -> Option<u64> {
        let stream = self.order(json!({ "do": "stream" }));
        if stream["state"] == "connected" { stream["number"].as_u64() } else { None }
    }

    /// Presses a combination, named as Playwright does.
    pub fn press(&mut self, keys: &str) {
        self.order(json!({ "do": "press", "keys": keys }));
    }

    /// Types; line ends are Enter.
    pub fn type_text(&mut self, text: &str) {
        self.order(json!({ "do": "type", "text": text }));
    }

    /// Sends a text by the toolbar's clipboard panel, and gives the keyboard back to the desktop.
    pub fn copy(&mut self, text: &str) {
        self.order(json!({ "do": "copy", "text": text }));
    }

    /// What the toolbar's clipboard panel shows.
    #[must_use]
    pub fn clipboard(&mut self) -> String {
        self.order(json!({ "do": "clipboard" }))["text"].as_str().unwrap_or_default().to_owned()
    }

    /// Opens the desktop of a session at an address of the web client: `view`, `shadow` or `control`.
    pub fn open(&mut self, server: &Server, session: &str, way: &str) {
        let url = format!("{}desktop/{session}/{way}", server.url());
        self.order(json!({ "do": "open", "url": url }));
    }

    /// Waits until the viewer is in a state, such as `connected` or `ended`; gives the words that it ends with.
    pub fn wait_state(&mut self, state: &str) -> String {
        let seen = self.order(json!({ "do": "state", "state": state }));
        seen["detail"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits for an element, by its test id; gives its words.
    pub fn words(&mut self, id: &str) -> String {
        self.order(json!({ "do": "words", "id": id }))["text"].as_str().unwrap_or_default().to_owned()
    }

    /// Clicks an element, by its test id.
    pub fn click(&mut self, id: &str) {
        self.order(json!({ "do": "click", "id": id }));
    }

    /// Waits until an element is not there, by its test id.
    pub fn wait_gone(&mut self, id: &str) {
        self.order(json!({ "do": "gone", "id": id }));
    }

    /// Keeps a picture of the page, if `LUCARNE_TEST_SCREENSHOTS` names a folder.
    pub fn screenshot(&mut self, name: &str) {
        if let Some(folder) = std::env::var_os("LUCARNE_TEST_SCREENSHOTS") {
            let path = Path::new(&folder).join(format!("{name}.png"));
            self.order(json!({ "do": "screenshot", "path": path }));
        }
    }

    /// The loudest frequency that the page plays now, Hz; `None` while it plays nothing.
    #[must_use]
    pub fn hears(&mut self) -> Option<f64> {
        self.order(json!({ "do": "hears" }))["hz"].as_f64()
    }

    /// Presses the toolbar's button for sound; gives what it says then.
    #[must_use]
    pub fn toggle_sound(&mut self) -> String {
        self.order(json!({ "do": "toggle_sound" }))["says"].as_str().unwrap_or_default().to_owned()
    }

    /// Logs off by the viewer's toolbar; the portal is there then.
    pub fn log_off(&mut self) {
        self.order(json!({ "do": "log_off" }));
    }

    /// Closes the browser in good order, so that it writes what it wants to keep.
    ///
    /// # Panics
    /// It does not end well.
    pub fn close(mut self) {
        self.order(json!({ "do": "close" }));
        let status = self.ended().expect("the browser's script ends");
        assert!(status.success(), "the browser's script ended with {status}");
    }

    /// Lets the script close Chromium and waits until it has ended; `None` if it does not.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.orders = None;
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            if let Ok(Some(status)) = self.node.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if self.ended().is_none() {
            // Chromium ends with the pipe to its script.
            let _ = self.node.kill();
            let _ = self.node.wait();
        }
    }
}
