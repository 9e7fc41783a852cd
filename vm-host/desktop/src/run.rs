//! The process: its inherited sockets, its settings, and its tasks.
//!
//! It outlives the host agent and any terminal, and QEMU outlives it in turn.

use crate::agents;
use crate::config::{DesktopConfig, Done};
use crate::desktop::Desktop;
use crate::door;
use crate::error::DesktopError;
use crate::launch::{Launcher, QemuLauncher};
use crate::life::Life;
use crate::record;
use crate::recorder;
use crate::snapshots;
use lucarne_qemu::process::Process;
use rustix::fd::{BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::{FileType, OFlags};
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};

/// The two sockets that a desktop process listens on, and the file that it records to. The host agent binds the sockets, so
/// that their paths exist before the process does and nobody has to wait for them, and opens the file, which lies where the
/// process may not go.
#[derive(Debug)]
pub struct Sockets {
    display: UnixListener,
    control: UnixListener,
    recording: Option<File>,
}

impl Sockets {
    /// These two.
    #[must_use]
    pub fn new(display: UnixListener, control: UnixListener) -> Self {
        Self { display, control, recording: None }
    }

    /// The same with a file, empty and opened to be appended to.
    #[must_use]
    pub fn with_recording(self, file: File) -> Self {
        Self { recording: Some(file), ..self }
    }

    /// The ones that the host agent passed as these descriptors. Call it once, before anything else: it takes them for
    /// its own and keeps them from programs that are started later.
    ///
    /// # Errors
    /// They are not listening sockets, or not a file that is only appended to.
    pub fn inherited(display: i32, control: i32, recording: Option<i32>) -> Result<Self, DesktopError> {
        Ok(Self {
            display: inherited(display, "display.sock")?,
            control: inherited(control, "control.sock")?,
            recording: recording.map(inherited_file).transpose()?,
        })
    }
}

fn inherited(descriptor: i32, name: &'static str) -> Result<UnixListener, DesktopError> {
    let wrong =
        |source: rustix::io::Errno| DesktopError::NotInherited { descriptor, name, source: source.into() };
    if descriptor < 0 {
        return Err(wrong(rustix::io::Errno::BADF));
    }
    // SAFETY: not -1, and only borrowed for two questions to the kernel, which answers EBADF when nothing is open there.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    // Asked before it is taken over: it could belong to someone in this process, who goes on using it.
    if !rustix::net::sockopt::socket_acceptconn(borrowed).map_err(wrong)? {
        return Err(wrong(rustix::io::Errno::INVAL));
    }
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC).map_err(wrong)?;
    // SAFETY: it is open (it answered), it was inherited for this purpose, and nothing else in the process uses it.
    Ok(UnixListener::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// The file to record to.
fn inherited_file(descriptor: i32) -> Result<File, DesktopError> {
    let name = "the recording's file";
    let wrong =
        |source: rustix::io::Errno| DesktopError::NotInherited { descriptor, name, source: source.into() };
    if descriptor < 0 {
        return Err(wrong(rustix::io::Errno::BADF));
    }
    // SAFETY: as in `inherited`.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let is_file = FileType::from_raw_mode(rustix::fs::fstat(borrowed).map_err(wrong)?.st_mode).is_file();
    if !is_file || !rustix::fs::fcntl_getfl(borrowed).map_err(wrong)?.contains(OFlags::APPEND) {
        return Err(wrong(rustix::io::Errno::INVAL));
    }
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC).map_err(wrong)?;
    // SAFETY: as in `inherited`.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Runs the desktop in `dir` with the sockets that the host agent passed as these descriptors: what `lucarne desktop`
/// does.
///
/// Returns once an agent has said stop and the virtual machine has ended, or what persists is powered off. Needs a multi-threaded runtime, so that
/// encoding for viewers does not hold up the guest.
///
/// # Errors
/// It cannot start. A virtual machine that fails is no error but a status, which is served until an agent says stop.
pub async fn run(
    dir: PathBuf,
    display: i32,
    control: i32,
    recording: Option<i32>,
) -> Result<(), DesktopError> {
    let sockets = Sockets::inherited(display, control, recording)?;
    let dir = dir.canonicalize().map_err(|source| DesktopError::Folder { dir: dir.clone(), source })?;
    prepare_process(&dir)?;
    run_in(dir, sockets).await
}

/// [`run`] without the process-wide settings, on given sockets.
///
/// # Errors
/// As [`run`].
pub async fn run_in(dir: PathBuf, sockets: Sockets) -> Result<(), DesktopError> {
    let config = record::read_config(&dir)?;
    let _held = snapshots::hold(&dir).await?;
    if Process::adopt(&dir).is_none() {
        snapshots::settle(&dir)?;
    }
    let done = record::read_done(&dir)?;
    let launcher = QemuLauncher::new(dir.clone(), config.clone(), &done);
    serve(dir, config, done, sockets, &launcher).await
}

/// Runs a desktop whose virtual machine comes from `launcher`.
///
/// # Errors
/// As [`run`].
pub async fn serve(
    dir: PathBuf,
    config: DesktopConfig,
    done: Done,
    sockets: Sockets,
    launcher: &dyn Launcher,
) -> Result<(), DesktopError> {
    let listen = |socket: UnixListener| {
        socket.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(socket)
    };
    let display =
        listen(sockets.display).map_err(DesktopError::system("cannot listen on the display socket"))?;
    let control =
        listen(sockets.control).map_err(DesktopError::system("cannot listen on the control socket"))?;
    let desktop = Desktop::new(&config, done.timings);
    let taken_over = done.identified;

    let agents = tokio::spawn(agents::serve(control, desktop.clone()));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(door::serve(display, desktop.clone()));
    let note = desktop.clone();
    tasks.spawn(async move { note_picture(&note).await });
    // The first viewer of a guest that was taken over came long ago.
    if !taken_over {
        let note = desktop.clone();
        tasks.spawn(async move {
            let at = note.since_request(note.traces.first_sent().await.into_std());
            note.change(|status| status.timings.frame_ms = Some(at));
        });
    }

    tasks.spawn(recorder::run(desktop.clone(), sockets.recording));

    let life = Life { desktop: &desktop, config: &config, dir, done, launcher };
    life.live().await;
    if agents.await.is_err() {
        tracing::error!("the control socket's task ended early");
    }
    tasks.shutdown().await;
    Ok(())
}

/// Notes when the first picture is there.
async fn note_picture(desktop: &Desktop) {
    desktop.picture.first().await;
    let at = desktop.since_request(Instant::now());
    desktop.change(|status| {
        status.picture = true;
        // After an adoption the first picture was long ago.
        status.timings.picture_ms.get_or_insert(at);
    });
}

/// What has to be so for the whole process.
fn prepare_process(dir: &Path) -> Result<(), DesktopError> {
    // It was started through a link in /proc, and would be shown by that link's name.
    rustix::thread::set_name(c"lucarne")
        .map_err(|e| DesktopError::system("cannot name the process")(e.into()))?;
    // The picture of a user's desktop is in this memory: no core file, and no debugger of another process.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|e| DesktopError::system("cannot keep the process from being dumped")(e.into()))?;
    for ignored in [SignalKind::hangup(), SignalKind::interrupt()] {
        // A handler that nobody listens to. Unlike SIG_IGN, QEMU does not inherit it.
        let _ = signal(ignored).map_err(DesktopError::system("cannot ignore the terminal's signals"))?;
    }
    std::env::set_current_dir(dir).map_err(|source| DesktopError::Folder { dir: dir.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn sockets_that_were_passed_are_kept_from_later_programs() {
        let dir = tempfile::tempdir().unwrap();
        let pass = |name| {
            let listener = UnixListener::bind(dir.path().join(name)).unwrap();
            rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
            listener.into_raw_fd()
        };
        let sockets = Sockets::inherited(pass("display"), pass("control"), None).unwrap();
        for socket in [&sockets.display, &sockets.control] {
            assert!(rustix::io::fcntl_getfd(socket).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        }
    }

    #[test]
    fn descriptors_that_are_no_listening_sockets_are_refused_and_left_alone() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        for descriptor in [ours.as_raw_fd(), file.as_raw_fd(), -1, i32::MAX] {
            let error = Sockets::inherited(descriptor, descriptor, None).unwrap_err().to_string();
            assert!(error.contains(&descriptor.to_string()) && error.contains("display.sock"), "{error}");
        }
        file.sync_all().unwrap();
    }

    #[test]
    fn only_a_file_that_is_appended_to_is_recorded_to() {
        let dir = tempfile::tempdir().unwrap();
        let open = |append| {
            let mut options = std::fs::OpenOptions::new();
            options.create(true).append(append).write(true).open(dir.path().join("file")).unwrap()
        };
        assert!(inherited_file(open(true).into_raw_fd()).is_ok());
        let (plain, folder) = (open(false), File::open(dir.path()).unwrap());
        for descriptor in [plain.as_raw_fd(), folder.as_raw_fd(), -1, i32::MAX] {
            assert!(inherited_file(descriptor).is_err());
        }
        plain.sync_all().unwrap();
    }
}
