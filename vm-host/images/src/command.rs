//! Running another program: its output line by line, a time limit, cancellation, and an error that says what it said.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

/// Lines of output that an error carries. Fewer hide the cause behind the tool's own closing words.
const LAST_LINES: usize = 15;

/// Longest line kept, bytes; a program that writes without end fills no memory.
const LONGEST_LINE: u64 = 4096;

/// How long a program may take to end after it was asked to, before it is killed. `mmdebstrap` unmounts in it.
const GRACE: Duration = Duration::from_secs(15);

/// Lets another thread end a build or an import.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the work to end soon, with an error.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The work was asked to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program could not be started.
    #[error("cannot start {program}; install the package {package}")]
    Start {
        /// The program.
        program: String,
        /// The Debian package that has it.
        package: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The program reported failure.
    #[error("{program} failed ({status}):\n{output}{}", log.as_ref().map(|p| format!("\nthe whole log is {}", p.display())).unwrap_or_default())]
    Failed {
        /// The program.
        program: String,
        /// Its exit status.
        status: ExitStatus,
        /// Its last lines.
        output: String,
        /// Where all of its output is.
        log: Option<PathBuf>,
    },
    /// The program took longer than it may.
    #[error("{program} was ended because it took more than {} seconds", limit.as_secs())]
    TimedOut {
        /// The program.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The program's output could not be read or logged.
    #[error("cannot follow {program}")]
    Io {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A program to run; nothing is read from the terminal.
pub(crate) struct Run<'a> {
    program: &'static str,
    package: &'static str,
    command: Command,
    cancel: &'a Cancel,
    limit: Duration,
    log: Option<(PathBuf, File)>,
    raw: bool,
}

impl<'a> Run<'a> {
    /// `package` is the Debian package to name when the program is missing.
    pub(crate) fn new(program: &'static str, package: &'static str, cancel: &'a Cancel) -> Self {
        Self::wrapped(Command::new(program), program, package, cancel)
    }

    /// The same for a program that `command` starts through another one.
    pub(crate) fn wrapped(
        mut command: Command,
        program: &'static str,
        package: &'static str,
        cancel: &'a Cancel,
    ) -> Self {
        // Messages are read by people and by us: no translations. sbin is missing from an ordinary user's PATH.
        command
            .env("LC_ALL", "C.UTF-8")
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null());
        Self { program, package, command, cancel, limit: Duration::from_secs(3600), log: None, raw: false }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<S: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Keeps all of the output in a file.
    pub(crate) fn log(mut self, path: PathBuf, file: File) -> Self {
        self.log = Some((path, file));
        self
    }

    /// Runs to the end and returns the last lines of the output.
    pub(crate) fn run(self) -> Result<String, CommandError> {
        self.run_with(&mut |_| {})
    }

    /// The same with every line as the program wrote it, for output that is data and goes into no log.
    pub(crate) fn run_raw(mut self, on_line: &mut dyn FnMut(&str)) -> Result<(), CommandError> {
        self.raw = true;
        self.run_with(on_line).map(|_| ())
    }

    /// Runs to the end, giving each line of the output to `on_line`.
    pub(crate) fn run_with(mut self, on_line: &mut dyn FnMut(&str)) -> Result<String, CommandError> {
        let program = self.program;
        let io = |source| CommandError::Io { program: program.into(), source };
        let (reader, writer) = std::io::pipe().map_err(io)?;
        let second = writer.try_clone().map_err(io)?;
        // A group of its own: Ctrl-C reaches us only, and what we end, we end with all its children.
        self.command.stdout(writer).stderr(second).process_group(0);
        let child = self.command.spawn().map_err(|source| CommandError::Start {
            program: program.into(),
            package: self.package,
            source,
        })?;
        // The command holds the pipe's writing end; the reader below would never see the end of it.
        self.command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = Group { child, ended: false };

        let (sender, lines) = mpsc::sync_channel::<String>(256);
        let raw = self.raw;
        let reading = std::thread::spawn(move || read_lines(reader, raw, &sender));
        let started = Instant::now();
        let mut last = VecDeque::new();
        let outcome = loop {
            if self.cancel.is_cancelled() {
                break Err(CommandError::Cancelled);
            }
            if started.elapsed() > self.limit {
                break Err(CommandError::TimedOut { program: program.into(), limit: self.limit });
            }
            match lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => {
                    if let Some((_, file)) = &mut self.log {
                        writeln!(file, "{line}").map_err(io)?;
                    }
                    on_line(&line);
                    if last.len() == LAST_LINES {
                        last.pop_front();
                    }
                    last.push_back(line);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break Ok(()),
            }
        };
        if let Err(error) = outcome {
            // Unblocks a reader that waits for room before the group is asked to end.
            drop(lines);
            drop(child);
            let _ = reading.join();
            return Err(error);
        }
        let _ = reading.join();
        let status = child.wait().map_err(io)?;
        let output = Vec::from(last).join("\n");
        if status.success() {
            return Ok(output);
        }
        Err(CommandError::Failed {
            program: program.into(),
            status,
            output,
            log: self.log.map(|(path, _)| path),
        })
    }
}

/// A process group that does not outlive its handle.
struct Group {
    child: Child,
    ended: bool,
}

impl Group {
    fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.ended = true;
        Ok(status)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // The group may have ended by itself; that is what we want.
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.signal(rustix::process::Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < GRACE {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.signal(rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

fn read_lines(reader: impl Read, raw: bool, lines: &mpsc::SyncSender<String>) {
    let mut reader = BufReader::new(reader);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&bytes);
        let line = if raw { text.trim_end().to_owned() } else { without_credentials(text.trim_end()) };
        // Nobody listens any more: read on, so that the program is not blocked while it ends.
        let _ = lines.send(line);
    }
}

/// Takes `user:password@` out of the addresses in a line: a mirror's credentials belong in no log.
fn without_credentials(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after
            .find(|c: char| c == '/' || c.is_whitespace() || c == '\'' || c == '"')
            .unwrap_or(after.len());
        let host = after[..end].rfind('@').map_or(0, |at| at + 1);
        out.push_str(&after[host..end]);
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell<'a>(script: &str, cancel: &'a Cancel) -> Run<'a> {
        Run::new("sh", "dash", cancel).args(["-c", script])
    }

    #[test]
    fn a_failing_program_is_quoted_with_its_last_lines() {
        let script = "for i in $(seq 40); do echo line $i; done; echo why >&2; exit 3";
        let error = shell(script, &Cancel::default()).run().unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("line 40\nwhy"), "{error}");
        assert!(!error.contains("line 20\n"), "{error}");
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let cancel = Cancel::default();
        let error =
            Run::new("lucarne-no-such-program", "some-package", &cancel).run().unwrap_err().to_string();
        assert!(error.contains("some-package"), "{error}");
    }

    #[test]
    fn cancelling_ends_the_program_and_its_children() {
        let cancel = Cancel::default();
        let mut group = 0;
        let outcome = shell("echo $$; sleep 1000 & wait", &cancel).run_with(&mut |line| {
            group = line.parse().unwrap();
            cancel.cancel();
        });
        assert!(matches!(outcome, Err(CommandError::Cancelled)));
        let group = rustix::process::Pid::from_raw(group).unwrap();
        // The grandchild is reaped by init, whenever that runs.
        let started = Instant::now();
        while rustix::process::test_kill_process_group(group).is_ok() {
            assert!(started.elapsed() < Duration::from_secs(60), "the group lives on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_time_limit_ends_a_silent_program() {
        let cancel = Cancel::default();
        let outcome = shell("sleep 1000", &cancel).limit(Duration::from_millis(1)).run();
        assert!(matches!(outcome, Err(CommandError::TimedOut { .. })));
    }

    #[test]
    fn credentials_are_taken_out_of_addresses() {
        let line = "Get:1 https://me:s3cret@mirror.example/debian x http://a@b/c done";
        assert_eq!(without_credentials(line), "Get:1 https://mirror.example/debian x http://b/c done");
        assert_eq!(without_credentials("mail me@example.org"), "mail me@example.org");
    }
}
