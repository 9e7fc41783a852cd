//! Saving what a guest needs to go on to a file: QEMU writes it to a pipe, and what differs from where the guest began is kept.
//!
//! ```text
//! QEMU ── migrate ──► pipe ──► what differs from its template ──► file
//! ```

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
use std::time::Duration;
use tokio::task::JoinHandle;

/// Bytes of the disk that are left free: a guest whose disk is full stops, and so do those beside it.
pub(crate) const RESERVE: u64 = 512 << 20;

/// QEMU's name for the pipe.
const PIPE: &str = "save";

/// Bytes that are read and written at once.
const PIECE: usize = 1 << 20;

/// How long a guest that runs may stand still for what it has changed last, milliseconds; more where that is more each time.
const STANDSTILL_MS: u64 = 100;

/// Why what a guest is was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// QEMU.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// What it wrote.
    #[error(transparent)]
    State(#[from] GuestStateError),
    /// It has stopped by itself.
    #[error("the guest does not run: its state is {0}")]
    NotRunning(String),
    /// It is not wanted any more.
    #[error("it was cancelled")]
    Cancelled,
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

pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SaveError {
    let path = path.to_path_buf();
    move |source| SaveError::File { what, path, source }
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

/// The longest, milliseconds; what is left of any guest is written within it.
const STANDSTILL_MOST_MS: u64 = 600_000;

/// So many times a guest's memory is written before it stands still for as long as it takes.
const MOST_TIMES: u64 = 2;

/// How a guest is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It stands still.
    Standing,
    /// It runs, until nearly all of it is saved ([`Save::at_standstill`]).
    Running,
}

/// A guest that is being saved.
pub(crate) struct Save {
    keeping: JoinHandle<Result<(Kept, File), GuestStateError>>,
}

impl Save {
    /// Begins to save a guest to this file, which is made, or made empty.
    ///
    /// # Errors
    /// Nothing is being saved, and the file is of no use.
    pub(crate) async fn begin(
        qmp: &Qmp,
        path: &Path,
        memory: &GuestMemory,
        how: How,
    ) -> Result<Self, SaveError> {
        let template = memory.template.as_deref();
        let template =
            template.map(|path| File::open(path).map_err(file("cannot open", path))).transpose()?;
        let out = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
        let out = out.map_err(file("cannot make", path))?;
        let (ours, theirs) = UnixStream::pair().map_err(file("cannot make a pipe for", path))?;
        let size = u64::from(memory.size_mib) << 20;
        let room = room(path.parent().unwrap_or(path)).map_err(file("cannot look at the disk of", path))?;
        let keeping = tokio::task::spawn_blocking(move || {
            let start = Start { size, template: template.as_ref() };
            let to = BufWriter::with_capacity(PIECE, Sparing { file: &out, room });
            let kept = guest_state::keep(BufReader::with_capacity(PIECE, ours), to, &start)?;
            Ok((kept, out))
        });
        match start(qmp, theirs, how).await {
            Ok(()) => Ok(Self { keeping }),
            Err(error) => {
                // QEMU's end of the pipe is closed: the copy comes to its end.
                let _ = keeping.await;
                Err(error.into())
            }
        }
    }

    /// Waits until a guest that ran stands still, because what is left of it is little, and says how far it is, in percent. It is to
    /// be finished then.
    ///
    /// # Errors
    /// It is not saved; it may stand still or run.
    pub(crate) async fn at_standstill(
        &self,
        qmp: &Qmp,
        mut each: impl FnMut(u8) -> Result<(), SaveError>,
    ) -> Result<(), SaveError> {
        let mut allowed = STANDSTILL_MS;
        loop {
            let info = qmp.execute("query-migrate", Value::Null).await?;
            match info["status"].as_str() {
                Some("pre-switchover") => return Ok(()),
                Some("failed" | "cancelled" | "completed") => return Err(failure(&info)),
                _ => {}
            }
            let ram = &info["ram"];
            let number = |name: &str| ram[name].as_u64().unwrap_or(0);
            let (total, left) = (number("total").max(1), number("remaining"));
            // At most 100.
            each((total.saturating_sub(left) * 100 / total) as u8)?;
            // A guest that changes more than can be saved meanwhile: each time around it may stand still for longer.
            let due = if number("transferred") > MOST_TIMES * total {
                // What is sent again and again is also written again and again.
                STANDSTILL_MOST_MS
            } else {
                STANDSTILL_MS << (number("dirty-sync-count") / 8).min(9)
            };
            if due > allowed {
                allowed = due;
                qmp.execute("migrate-set-parameters", json!({ "downtime-limit": allowed })).await?;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    /// Waits until everything is saved; what is written may not be on the disk yet. The guest stands still.
    ///
    /// # Errors
    /// It is not saved.
    pub(crate) async fn finish(self, qmp: &Qmp) -> Result<(Kept, File), SaveError> {
        let kept = self.keeping.await.map_err(|_| SaveError::Failed("its copy was broken off".into()))?;
        let migrated = wait_written(qmp).await;
        match (kept, migrated) {
            (Ok(kept), Ok(())) => Ok(kept),
            // What it began to write has no end.
            (Ok(_) | Err(GuestStateError::Read(_)), Err(error)) => Err(error),
            // That is why QEMU could not go on, if it could not.
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Gives up: what was written is of no use. The guest may stand still.
    pub(crate) async fn give_up(self, qmp: &Qmp) {
        if let Err(error) = qmp.execute("migrate_cancel", Value::Null).await {
            tracing::debug!(%error, "QEMU does not give up what it writes");
        }
        let _ = self.keeping.await;
    }
}

/// Waits until what was written is on the disk.
///
/// # Errors
/// It may not be there after a power cut.
pub(crate) async fn to_disk(out: File, path: &Path) -> Result<(), SaveError> {
    let synced = tokio::task::spawn_blocking(move || out.sync_all()).await;
    let synced = synced.map_err(|_| SaveError::Failed("its copy was broken off".into()))?;
    synced.map_err(file("cannot put on the disk", path))
}

/// Bytes that may be written there.
pub(crate) fn room(dir: &Path) -> io::Result<u64> {
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

async fn start(qmp: &Qmp, pipe: UnixStream, how: How) -> Result<(), QmpError> {
    qmp.execute_with_fd("getfd", json!({ "fdname": PIPE }), pipe.as_fd()).await?;
    drop(pipe);
    let migrate = async {
        // All of the memory: nothing of it is in a file that the next QEMU has.
        let capabilities = json!({ "capabilities": [
            { "capability": "x-ignore-shared", "state": false },
            // Its disk is seen to while it stands still.
            { "capability": "pause-before-switchover", "state": how == How::Running },
        ] });
        qmp.execute("migrate-set-capabilities", capabilities).await?;
        let parameters = json!({ "max-bandwidth": 8_u64 << 30, "downtime-limit": STANDSTILL_MS });
        qmp.execute("migrate-set-parameters", parameters).await?;
        qmp.execute("migrate", json!({ "uri": format!("fd:{PIPE}") })).await
    };
    let migrated = migrate.await;
    if migrated.is_err() {
        // It would keep its end open, and the copy would wait for more.
        let _ = qmp.execute("closefd", json!({ "fdname": PIPE })).await;
    }
    migrated.map(drop)
}

async fn wait_written(qmp: &Qmp) -> Result<(), SaveError> {
    loop {
        let info = qmp.execute("query-migrate", Value::Null).await?;
        match info["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => return Err(failure(&info)),
            // The pipe's end came a moment before.
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

fn failure(info: &Value) -> SaveError {
    SaveError::Failed(info["error-desc"].as_str().unwrap_or("it gave no reason").into())
}
