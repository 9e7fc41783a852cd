//! Suspending a guest to a file in its folder, and taking it up again.
//!
//! ```text
//! stop ─► migrate to a pipe ─► what differs from its template ─► suspended.next ─► suspended, on the disk ─► QEMU is killed
//!
//! QEMU with the same machine ─► migrate-incoming from suspended ─► suspended is removed, on the disk ─► cont
//! ```
//!
//! The file belongs to the disk as it was then. A guest that goes on writes to the disk, so the file is gone for good before it does:
//! who finds a QEMU has a guest, and who finds the file and no QEMU has a suspended one. A guest that was not suspended goes on.

use crate::command::files;
use crate::guest_agent::{GuestAgent, GuestAgentError};
use crate::guest_state::{self, GuestStateError, Kept, Start};
use crate::qmp::{Qmp, QmpError};
use crate::template::{Template, template_files};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The file while it is written.
const NEXT: &str = "suspended.next";

/// The file of a guest that is just about to run: of no use any more, unless it is certain that it did not.
const RETIRED: &str = "suspended.gone";

/// Bytes of the disk that are left free: a guest whose disk is full stops, and so do those beside it.
const RESERVE: u64 = 512 << 20;

/// How long QEMU may take to give up what it writes.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(60);

/// QEMU's name for the pipe.
const PIPE: &str = "suspend";

/// Bytes that are read and written at once.
const PIECE: usize = 1 << 20;

/// How long a guest may take to take the time. It has just come back, and does it before its user sees the old one.
const CLOCK_LIMIT: Duration = Duration::from_secs(10);

/// Why a guest was not suspended, or not resumed.
#[derive(Debug, thiserror::Error)]
pub enum SuspendError {
    /// QEMU.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// What it wrote.
    #[error(transparent)]
    State(#[from] GuestStateError),
    /// It has stopped by itself.
    #[error("the guest does not run: its state is {0}")]
    NotRunning(String),
    /// It gave up.
    #[error("QEMU could not write the guest's state: {0}")]
    Failed(String),
    /// The folder.
    #[error("{what} {path}")]
    File {
        /// What went wrong.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SuspendError {
    let path = path.to_path_buf();
    move |source| SuspendError::File { what, path, source }
}

/// Whether a guest is suspended in this folder; to be asked where no QEMU runs.
#[must_use]
pub fn is_suspended(dir: &Path) -> bool {
    std::fs::symlink_metadata(dir.join(files::SUSPENDED)).is_ok_and(|about| about.is_file())
}

/// Whether a guest is suspended, or is being suspended, in this folder.
#[must_use]
pub fn is_under_way(dir: &Path) -> bool {
    is_suspended(dir) || dir.join(NEXT).exists()
}

fn where_there_is_one(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Removes the state of a suspended guest, durably; nothing where there is none.
///
/// # Errors
/// It is still there, or may be again after a power cut.
pub fn forget(dir: &Path) -> io::Result<()> {
    bury(dir);
    where_there_is_one(std::fs::remove_file(dir.join(files::SUSPENDED)))?;
    // Also where somebody else has removed it, who may not have come to this.
    File::open(dir)?.sync_all()
}

/// Has the state not count any more, durably, because the guest is about to run.
///
/// # Errors
/// It may count still: the guest must not run.
pub(crate) fn retire(dir: &Path) -> io::Result<()> {
    where_there_is_one(std::fs::rename(dir.join(files::SUSPENDED), dir.join(RETIRED)))?;
    File::open(dir)?.sync_all()
}

/// Has the state count again, because the guest certainly did not run.
pub(crate) fn unretire(dir: &Path) -> io::Result<()> {
    where_there_is_one(std::fs::rename(dir.join(RETIRED), dir.join(files::SUSPENDED)))
}

/// Removes what does not count any more.
pub(crate) fn bury(dir: &Path) {
    if let Err(error) = where_there_is_one(std::fs::remove_file(dir.join(RETIRED))) {
        tracing::warn!(%error, dir = %dir.display(), "a suspended state that is of no use any more is still there");
    }
}

/// What a guest's memory began as.
#[derive(Clone, Debug)]
pub struct GuestMemory {
    size_mib: u32,
    /// The file of its template's, of a guest that was forked; it began as zero where it booted.
    template: Option<PathBuf>,
}

impl GuestMemory {
    /// That of a guest that was forked from the template, or that booted a disk which was.
    #[must_use]
    pub fn of(template: &Template, booted: bool) -> Self {
        let file = (!booted).then(|| template.dir.join(template_files::MEMORY));
        Self { size_mib: template.meta.spec.machine.memory_mib, template: file }
    }
}

/// Stops the guest and writes what it needs to go on to its folder, durably. Its QEMU has to be killed then, and its disk is whole.
///
/// # Errors
/// The guest goes on, and nothing is left of what was written.
pub(crate) async fn suspend(qmp: &Qmp, dir: &Path, memory: &GuestMemory) -> Result<Kept, SuspendError> {
    let status = qmp.execute("query-status", Value::Null).await?;
    // One that has stopped by itself, such as on a full disk, would do so again after it was loaded.
    if status["status"] != "running" {
        return Err(SuspendError::NotRunning(status["status"].as_str().unwrap_or("unknown").into()));
    }
    // Of a guest before this one.
    bury(dir);
    let written = match qmp.execute("stop", Value::Null).await {
        Ok(_) => write(qmp, dir, memory).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = &written {
        tracing::warn!(%error, "a guest is not suspended and goes on");
        let _ = std::fs::remove_file(dir.join(NEXT));
        let _ = qmp.execute("migrate_cancel", Value::Null).await;
        go_on(qmp).await?;
    }
    written
}

/// Lets a guest run that is stopped, once QEMU has given up what it was writing of it.
///
/// # Errors
/// It may stand still.
pub(crate) async fn go_on(qmp: &Qmp) -> Result<(), QmpError> {
    let began = Instant::now();
    loop {
        let status = qmp.execute("query-status", Value::Null).await?;
        let gone_on = match status["status"].as_str() {
            Some("paused" | "postmigrate" | "prelaunch") => qmp.execute("cont", Value::Null).await.map(drop),
            Some("finish-migrate") => Err(QmpError::TimedOut("migrate_cancel".into())),
            // It runs, or has stopped by itself.
            _ => return Ok(()),
        };
        match gone_on {
            // It is looked at again whether it does.
            Ok(()) => {}
            Err(QmpError::Refused { .. } | QmpError::TimedOut(_)) if began.elapsed() < GIVE_UP_LIMIT => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn write(qmp: &Qmp, dir: &Path, memory: &GuestMemory) -> Result<Kept, SuspendError> {
    let next = dir.join(NEXT);
    let template = memory.template.as_deref();
    let template = template.map(|path| File::open(path).map_err(file("cannot open", path))).transpose()?;
    let out = File::options().write(true).create(true).truncate(true).mode(0o600).open(&next);
    let out = out.map_err(file("cannot make", &next))?;
    let (ours, theirs) = UnixStream::pair().map_err(file("cannot make a pipe for", &next))?;
    let size = u64::from(memory.size_mib) << 20;
    let room = room(dir).map_err(file("cannot look at the disk of", &next))?;
    let keeping = tokio::task::spawn_blocking(move || {
        let start = Start { size, template: template.as_ref() };
        let to = BufWriter::with_capacity(PIECE, Sparing { file: &out, room });
        let kept = guest_state::keep(BufReader::with_capacity(PIECE, ours), to, &start)?;
        out.sync_all().map_err(GuestStateError::Write)?;
        Ok::<_, GuestStateError>(kept)
    });
    let started = start(qmp, theirs).await;
    // Its end of the pipe is QEMU's alone now, or closed: the copy comes to its end.
    let kept = keeping.await.map_err(|_| SuspendError::Failed("its copy was broken off".into()))?;
    started?;
    let migrated = wait_written(qmp).await;
    // Where the copy failed, that is why QEMU did.
    let kept = kept?;
    migrated?;
    let done = dir.join(files::SUSPENDED);
    std::fs::rename(&next, &done).map_err(file("cannot put into place", &done))?;
    if let Err(error) = File::open(dir).and_then(|dir| dir.sync_all()) {
        // The guest stands still and stays so: a power cut now costs what is open in it, and not its disk.
        tracing::warn!(%error, dir = %dir.display(), "that a guest is suspended may not be on the disk yet");
    }
    Ok(kept)
}

/// Bytes that may be written there.
fn room(dir: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok((disk.f_bavail * disk.f_frsize).saturating_sub(RESERVE))
}

/// A file that leaves room on its disk.
struct Sparing<'a> {
    file: &'a File,
    room: u64,
}

impl Write for Sparing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.room {
            let why = format!("the disk has to keep {} MiB free", RESERVE >> 20);
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        let written = self.file.write(bytes)?;
        self.room -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

async fn start(qmp: &Qmp, pipe: UnixStream) -> Result<(), QmpError> {
    qmp.execute_with_fd("getfd", json!({ "fdname": PIPE }), pipe.as_fd()).await?;
    drop(pipe);
    let migrate = async {
        // All of the memory: nothing of it is in a file that the next QEMU has.
        let capabilities = json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": false }] });
        qmp.execute("migrate-set-capabilities", capabilities).await?;
        qmp.execute("migrate-set-parameters", json!({ "max-bandwidth": 8_u64 << 30 })).await?;
        qmp.execute("migrate", json!({ "uri": format!("fd:{PIPE}") })).await
    };
    let migrated = migrate.await;
    if migrated.is_err() {
        // It would keep its end open, and the copy would wait for more.
        let _ = qmp.execute("closefd", json!({ "fdname": PIPE })).await;
    }
    migrated.map(drop)
}

async fn wait_written(qmp: &Qmp) -> Result<(), SuspendError> {
    loop {
        let info = qmp.execute("query-migrate", Value::Null).await?;
        match info["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                let why = info["error-desc"].as_str().unwrap_or("it gave no reason");
                return Err(SuspendError::Failed(why.into()));
            }
            // The pipe's end came a moment before.
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// The GUID of the guest in this folder, which it keeps for as long as it goes on with the same memory.
pub(crate) fn generation(dir: &Path) -> Option<uuid::Uuid> {
    std::fs::read_to_string(dir.join(files::GENERATION)).ok()?.trim().parse().ok()
}

/// A new GUID, which a guest in this folder is shown from now on.
///
/// # Errors
/// It cannot be kept.
pub(crate) fn new_generation(dir: &Path) -> io::Result<uuid::Uuid> {
    let generation = uuid::Uuid::new_v4();
    std::fs::write(dir.join(files::GENERATION), generation.to_string())?;
    Ok(generation)
}

/// Tells a guest what time it is, which has passed it by.
///
/// # Errors
/// It does not take it.
pub(crate) async fn set_clock(dir: &Path) -> Result<(), GuestAgentError> {
    let mut agent = GuestAgent::connect(&dir.join(files::GUEST_AGENT), CLOCK_LIMIT).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = json!({ "time": u64::try_from(now.as_nanos()).unwrap_or(u64::MAX) });
    agent.execute("guest-set-time", time, CLOCK_LIMIT).await.map(drop)
}
