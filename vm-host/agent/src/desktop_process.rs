//! A desktop's process as the agent sees it: what it says on its control socket, what it is asked, and its end.

use lucarne_control::desktop::Phase;
use lucarne_desktop::config::files;
use lucarne_desktop::control::{Command, Status};
use lucarne_qemu::process::Process;
use std::io;
use std::path::Path;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Longest status line accepted from a desktop process, bytes.
const MAX_STATUS: u64 = 64 << 10;

/// Connects to the process that serves this folder.
pub(crate) async fn connect(dir: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(dir.join(files::CONTROL_SOCKET)).await
}

/// Says something to a desktop process.
pub(crate) async fn say(to: &mut BufReader<UnixStream>, command: &Command) -> io::Result<()> {
    let mut command = serde_json::to_vec(command)?;
    command.push(b'\n');
    to.get_mut().write_all(&command).await
}

/// Asks a desktop process to end its guest, and waits until it says that it has; what it said last.
pub(crate) async fn ask_to_end(stream: UnixStream, command: Command) -> io::Result<Option<Status>> {
    let mut lines = BufReader::new(stream);
    say(&mut lines, &command).await?;
    while let Some(status) = read_status(&mut lines).await? {
        if status.phase == Phase::Stopped || status.phase.is_at_rest() {
            return Ok(Some(status));
        }
    }
    Ok(None)
}

/// What became of asking a guest to be suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It does not run any more, in this way.
    Ended(String),
    /// It goes on, for a reason that its process tells.
    Refused,
}

/// Asks a desktop process to suspend its guest, and waits until it has or does not.
pub(crate) async fn ask_to_suspend(stream: UnixStream) -> io::Result<Option<Asked>> {
    let mut lines = BufReader::new(stream);
    // It is told of at once, and what was refused before does not count.
    let Some(before) = read_status(&mut lines).await? else { return Ok(None) };
    say(&mut lines, &Command::Suspend).await?;
    while let Some(status) = read_status(&mut lines).await? {
        if status.phase == Phase::Stopped || status.phase.is_at_rest() {
            return Ok(Some(Asked::Ended(status.detail)));
        }
        if status.refusals > before.refusals {
            return Ok(Some(Asked::Refused));
        }
    }
    Ok(None)
}

/// Kills the desktop process and the QEMU of this folder, whichever are there, and waits until they have ended.
pub(crate) async fn kill_all(dir: &Path) {
    kill_desktop_process(dir).await;
    if let Some(left) = Process::adopt(dir) {
        left.kill().await;
    }
}

/// The next status; none when the process has ended.
pub(crate) async fn read_status(lines: &mut BufReader<UnixStream>) -> io::Result<Option<Status>> {
    use tokio::io::AsyncReadExt;
    let mut line = Vec::new();
    let read = lines.take(MAX_STATUS).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(io::Error::from)
}

/// Kills every process that runs `desktop --dir dir`; there is at most one.
pub(crate) async fn kill_desktop_process(dir: &Path) {
    let Some(pid) = find_desktop_process(dir) else { return };
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return };
    let Ok(fd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    // Between the look and the open the number may have been given to another process: look again.
    if find_desktop_process(dir) != Some(pid.as_raw_nonzero().get()) {
        return;
    }
    let _ = rustix::process::pidfd_send_signal(&fd, rustix::process::Signal::KILL);
    let _ = tokio::task::spawn_blocking(move || {
        let mut poll = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        rustix::event::poll(&mut poll, Some(&limit)).map(|_| ())
    })
    .await;
}

fn find_desktop_process(dir: &Path) -> Option<i32> {
    let wanted = dir.to_string_lossy();
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let mut args = line.split(|b| *b == 0).skip(1);
        let matches =
            args.next()? == b"desktop" && args.next()? == b"--dir" && args.next()? == wanted.as_bytes();
        // Another one sees to its snapshots.
        let serves = args.next() == Some(b"--display-fd");
        (matches && serves).then_some(pid)
    })
}
