//! Looking into a guest through its guest agent (QEMU Guest Agent protocol), as root in the guest.

use crate::poll::{LIMIT, until};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one answer of the agent may take before the question is asked anew.
const PATIENCE: Duration = Duration::from_secs(20);

/// A guest.
#[derive(Clone, Debug)]
pub struct Guest {
    socket: PathBuf,
}

impl Guest {
    /// The guest of the desktop whose folder this is.
    #[must_use]
    pub fn of(desktop: &Path) -> Self {
        Self { socket: desktop.join("qga.sock") }
    }

    /// Runs a command of the guest's shell as root; gives what it printed, trimmed, if it succeeded.
    pub fn shell(&self, script: &str) -> Option<String> {
        let (status, output) = self.run(script);
        (status == 0).then(|| output.trim().to_owned())
    }

    /// The same for commands that always succeed.
    ///
    /// # Panics
    /// It did not.
    pub fn must(&self, script: &str) -> String {
        let (status, output) = self.run(script);
        assert_eq!(status, 0, "{script:?} in the guest: {output}");
        output.trim().to_owned()
    }

    /// Waits until a command of the guest's shell succeeds; gives what it printed, trimmed.
    pub fn wait(&self, script: &str) -> String {
        until(&format!("{script:?} succeeds in the guest"), LIMIT, || self.shell(script))
    }

    /// Has the guest's shell do something as root, and does not wait for it: the guest may end by it.
    pub fn tell(&self, script: &str) {
        self.call("guest-exec", &json!({ "path": "/bin/sh", "arg": ["-c", script] }));
    }

    /// As [`Self::shell`], asked once: nothing as well while the guest is not there to answer.
    pub fn try_shell(&self, script: &str) -> Option<String> {
        let shell = json!({ "path": "/bin/sh", "arg": ["-c", script], "capture-output": true });
        let started = self.try_call("guest-exec", &shell).ok()?;
        let began = std::time::Instant::now();
        while began.elapsed() < PATIENCE {
            let status = self.try_call("guest-exec-status", &json!({ "pid": started["pid"] })).ok()?;
            if status["exited"] == true {
                let bytes = STANDARD.decode(status["out-data"].as_str().unwrap_or_default()).ok()?;
                let output = String::from_utf8_lossy(&bytes).trim().to_owned();
                return (status["exitcode"] == 0).then_some(output);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }

    /// Waits until there is something in a file, which a shell makes a moment before it is written; gives it, trimmed.
    pub fn wait_file(&self, path: &str) -> String {
        self.wait(&format!("test -s {path} && cat {path}"))
    }

    /// Waits until a terminal has the keyboard: its shell runs and its window is the active one.
    pub fn wait_terminal(&self) {
        self.wait(
            "pgrep -u user -x bash && runuser -u user -- env DISPLAY=:0 xdotool getactivewindow getwindowname \
             | grep -i terminal",
        );
    }

    /// Opens a file of the user's in the text editor, and waits until that has the keyboard. The file is made when there is
    /// none; its name must be one that no other window's title has.
    pub fn edit(&self, name: &str) {
        self.must(&format!(
            "touch /home/user/{name} && chown user: /home/user/{name} && cd /home/user && \
             runuser -u user -- env DISPLAY=:0 XDG_RUNTIME_DIR=/run/user/1000 \
             mousepad --disable-server {name} >/dev/null 2>&1 </dev/null &"
        ));
        self.wait(&format!(
            "runuser -u user -- env DISPLAY=:0 xdotool getactivewindow getwindowname | grep {name}"
        ));
    }

    /// Writes a file, in pieces that the agent takes.
    ///
    /// # Panics
    /// The guest does not take it.
    pub fn put(&self, path: &str, content: &[u8]) {
        let handle = self.call("guest-file-open", &json!({ "path": path, "mode": "w" }));
        for piece in content.chunks(1 << 18) {
            let mut done = 0;
            while done < piece.len() {
                let text = STANDARD.encode(&piece[done..]);
                let wrote = self.call("guest-file-write", &json!({ "handle": handle, "buf-b64": text }));
                let count = wrote["count"].as_u64().expect("a number of bytes");
                done += usize::try_from(count).expect("no more than were given");
            }
        }
        self.call("guest-file-close", &json!({ "handle": handle }));
    }

    /// The guest's clock, seconds since the epoch.
    ///
    /// # Panics
    /// The agent does not say.
    #[must_use]
    pub fn time(&self) -> f64 {
        let nanos = self.call("guest-get-time", &json!({}));
        nanos.as_f64().expect("a number of nanoseconds") / 1e9
    }

    fn run(&self, script: &str) -> (i64, String) {
        let started = self
            .call("guest-exec", &json!({ "path": "/bin/sh", "arg": ["-c", script], "capture-output": true }));
        let status = until(&format!("{script:?} ends in the guest"), LIMIT, || {
            let status = self.call("guest-exec-status", &json!({ "pid": started["pid"] }));
            (status["exited"] == true).then_some(status)
        });
        let text = |key: &str| {
            let bytes = STANDARD.decode(status[key].as_str().unwrap_or_default()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        (status["exitcode"].as_i64().unwrap_or(-1), text("out-data") + &text("err-data"))
    }

    /// One command on a connection of its own; asked again while the agent is not there or another has the connection.
    /// The commands used here may be repeated.
    fn call(&self, command: &str, arguments: &Value) -> Value {
        let mut last = String::new();
        let began = std::time::Instant::now();
        loop {
            match self.try_call(command, arguments) {
                Ok(answer) => return answer,
                Err(e) => last.clone_from(&e.to_string()),
            }
            assert!(began.elapsed() < LIMIT, "the guest agent at {}: {last}", self.socket.display());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn try_call(&self, command: &str, arguments: &Value) -> io::Result<Value> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let id = u64::from(std::process::id()) << 16 | u64::from(next_id());
        // The byte 0xff ends whatever an earlier client left half-said, and marks the answer's start.
        stream.write_all(&[0xff])?;
        writeln!(stream, "{}", json!({ "execute": "guest-sync-delimited", "arguments": { "id": id } }))?;
        let mut byte = [0];
        while byte[0] != 0xff {
            stream.read_exact(&mut byte)?;
        }
        if line(&mut stream)?["return"] != id {
            return Err(io::Error::other("the agent answers somebody else"));
        }
        writeln!(stream, "{}", json!({ "execute": command, "arguments": arguments }))?;
        let answer = line(&mut stream)?;
        match answer.get("return") {
            Some(value) => Ok(value.clone()),
            None => Err(io::Error::other(answer.to_string())),
        }
    }
}

/// Differs from call to call.
fn next_id() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn line(stream: &mut UnixStream) -> io::Result<Value> {
    let mut line = Vec::new();
    let mut byte = [0];
    while byte[0] != b'\n' {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(serde_json::from_slice(&line)?)
}
