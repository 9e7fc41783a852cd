//! Starting a desktop process: its sockets are bound here and inherited, so that whoever connects while it starts, or
//! starts again, waits in the socket's queue instead of failing.

use lucarne_desktop::config::files;
use lucarne_desktop::control::Work;
use lucarne_qemu::process::Credentials;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::process::Child;

fn bind(path: &Path, owner: Option<&Credentials>) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    if let Some(owner) = owner {
        std::os::unix::fs::chown(path, Some(owner.id), Some(owner.id))?;
    }
    Ok(listener.into())
}

/// This program, whatever its path leads through: desktops' users may not enter every folder above it. A program that was
/// replaced meanwhile is still the one that runs here.
const THIS_PROGRAM: &str = "/proc/self/exe";

fn open_log(dir: &Path) -> io::Result<File> {
    // The folder is the desktop's user's: no link is followed out of it.
    let plain = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    File::options().create(true).append(true).custom_flags(plain).open(dir.join(files::LOG))
}

/// `program desktop --dir dir`, which logs into the folder.
fn command(program: &Path, dir: &Path, log: File) -> io::Result<Command> {
    let mut command = Command::new(THIS_PROGRAM);
    command
        .arg0(program)
        .arg("desktop")
        .arg("--dir")
        .arg(dir)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
        .env("RUST_LOG", std::env::var_os("RUST_LOG").unwrap_or_else(|| "info".into()))
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

/// Starts `program desktop --dir dir --at-rest`, which does something to the snapshots of a desktop that does not run, as its user. It is
/// asked to give up by closing its standard input.
pub(crate) fn at_rest(
    program: &Path,
    dir: &Path,
    work: Work,
    credentials: Option<&Credentials>,
) -> io::Result<Child> {
    let mut command = command(program, dir, open_log(dir)?)?;
    command.arg("--at-rest").arg(serde_json::to_string(&work)?).stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some(credentials) = credentials {
        credentials.apply(&mut command);
    }
    // It ends by itself when its standard input does.
    tokio::process::Command::from(command).spawn()
}

/// Starts `program desktop --dir dir` with its two sockets and the file that it records to, `program` being what ps shows. It outlives whoever drops the
/// result; tokio collects it when it has ended.
pub(crate) fn desktop_process(
    program: &Path,
    dir: &Path,
    credentials: Option<&Credentials>,
    recording: Option<OwnedFd>,
) -> io::Result<Child> {
    let display = bind(&dir.join(files::DISPLAY_SOCKET), credentials)?;
    let control = bind(&dir.join(files::CONTROL_SOCKET), credentials)?;
    let log = open_log(dir)?;
    let mut command = command(program, dir, log)?;
    command
        .arg("--display-fd")
        .arg(display.as_raw_fd().to_string())
        .arg("--control-fd")
        .arg(control.as_raw_fd().to_string())
        .stdin(Stdio::null());
    if let Some(recording) = &recording {
        command.arg("--recording-fd").arg(recording.as_raw_fd().to_string());
    }
    let inherited =
        [Some(display.as_raw_fd()), Some(control.as_raw_fd()), recording.as_ref().map(AsRawFd::as_raw_fd)];
    // SAFETY: only async-signal-safe system calls between fork and exec; the descriptors are open in the parent until
    // after the spawn.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            for fd in inherited.into_iter().flatten() {
                let fd = rustix::fd::BorrowedFd::borrow_raw(fd);
                rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
            }
            Ok(())
        });
    }
    if let Some(credentials) = credentials {
        credentials.apply(&mut command);
    }
    tokio::process::Command::from(command).spawn()
}
