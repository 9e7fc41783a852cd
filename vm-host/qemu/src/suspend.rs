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
use crate::guest_state::Kept;
use crate::qmp::{Qmp, QmpError};
use crate::save::{self, GuestMemory, How, Save, SaveError, file};
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The file while it is written.
const NEXT: &str = "suspended.next";

/// The file of a guest that is just about to run: of no use any more, unless it is certain that it did not.
const RETIRED: &str = "suspended.gone";

/// How long QEMU may take to give up what it writes.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(60);

/// How long a guest may take to take the time. It has just come back, and does it before its user sees the old one.
const CLOCK_LIMIT: Duration = Duration::from_secs(10);

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

/// Stops the guest and writes what it needs to go on to its folder, durably. Its QEMU has to be killed then, and its disk is whole.
///
/// # Errors
/// The guest goes on, and nothing is left of what was written.
pub(crate) async fn suspend(qmp: &Qmp, dir: &Path, memory: &GuestMemory) -> Result<Kept, SaveError> {
    let status = qmp.execute("query-status", Value::Null).await?;
    // One that has stopped by itself, such as on a full disk, would do so again after it was loaded.
    if status["status"] != "running" {
        return Err(SaveError::NotRunning(status["status"].as_str().unwrap_or("unknown").into()));
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
        take_back(qmp).await?;
    }
    written
}

/// Has QEMU give up what it is writing of a guest, whatever that is for, and lets the guest run.
///
/// # Errors
/// It may stand still.
pub(crate) async fn take_back(qmp: &Qmp) -> Result<(), QmpError> {
    // Refused by nobody, also where there is nothing to give up.
    qmp.execute("migrate_cancel", Value::Null).await?;
    go_on(qmp).await
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

async fn write(qmp: &Qmp, dir: &Path, memory: &GuestMemory) -> Result<Kept, SaveError> {
    let next = dir.join(NEXT);
    let (kept, out) = Save::begin(qmp, &next, memory, How::Standing).await?.finish(qmp).await?;
    save::to_disk(out, &next).await?;
    let done = dir.join(files::SUSPENDED);
    std::fs::rename(&next, &done).map_err(file("cannot put into place", &done))?;
    if let Err(error) = File::open(dir).and_then(|dir| dir.sync_all()) {
        // The guest stands still and stays so: a power cut now costs what is open in it, and not its disk.
        tracing::warn!(%error, dir = %dir.display(), "that a guest is suspended may not be on the disk yet");
    }
    Ok(kept)
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
