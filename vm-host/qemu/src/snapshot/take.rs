//! Taking a snapshot of a guest that runs.
//!
//! ```text
//! an empty layer ─► the memory, while the guest runs ─► it stands still ─► the layers change places ─► the rest of the memory ─► it runs
//! ```
//!
//! Without its memory the guest is asked to have its files in order on the disk, where it can be.

use super::{
    MAX_LAYERS, MEMORY, NEXT, OVER, SnapshotError, SnapshotInfo, disk_of, file, list, make_folder, mend,
    merge, node_name, sync, write_info,
};
use crate::command::files;
use crate::disk;
use crate::guest_agent::GuestAgent;
use crate::qmp::{Qmp, QmpError};
use crate::save::{self, GuestMemory, How, Save, SaveError};
use crate::suspend;
use lucarne_control::SnapshotId;
use lucarne_driver::{Overseer, SnapshotWanted};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a guest may take to have its files in order on its disk, and to go on after it. Programs that save something wait for as
/// long.
const FREEZE_LIMIT: Duration = Duration::from_secs(20);

/// Between two askings of a guest that does not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// There while a guest was asked to write nothing.
pub(super) const FROZEN: &str = "snapshots/frozen";

/// A guest that runs.
pub(crate) struct Guest<'a> {
    pub(crate) qmp: &'a Qmp,
    pub(crate) dir: &'a Path,
    /// What its memory began as, where that is known.
    pub(crate) memory: Option<&'a GuestMemory>,
    pub(crate) booted: bool,
    pub(crate) qemu_version: &'a str,
}

/// Milliseconds since the epoch.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Takes a snapshot; gives what is there already where it was taken before.
///
/// # Errors
/// There is none, and the guest runs on as before.
pub(crate) async fn take(
    guest: &Guest<'_>,
    wanted: SnapshotWanted,
    overseer: &dyn Overseer,
) -> Result<SnapshotInfo, SnapshotError> {
    let Guest { qmp, dir, .. } = *guest;
    let status = qmp.execute("query-status", Value::Null).await?;
    if status["status"] != "running" {
        let status = status["status"].as_str().unwrap_or("unknown");
        return Err(SaveError::NotRunning(status.into()).into());
    }
    mend_under(qmp, dir).await?;
    let layers = list(dir)?;
    if let Some(layer) = layers.get(wanted.snapshot) {
        return if layer.info.deleted { Err(SnapshotError::Interrupted) } else { Ok(layer.info.clone()) };
    }
    if layers.beneath().len() >= MAX_LAYERS {
        return Err(SnapshotError::TooMany);
    }
    if save::room(dir).map_err(file("cannot look at the disk of", dir))? == 0 {
        return Err(SnapshotError::Full);
    }
    if wanted.memory && guest.memory.is_none() {
        return Err(SnapshotError::NoTemplate);
    }
    let taken = match prepare(guest, wanted).await {
        Ok(()) if wanted.memory => with_memory(guest, wanted, overseer).await,
        Ok(()) => disk_alone(guest, wanted).await,
        Err(error) => Err(error),
    };
    let taken = match taken {
        Ok(info) => write_info(dir, &info).map(|()| info),
        Err(error) => Err(error),
    };
    if let Err(error) = &taken {
        tracing::warn!(error = %error, snapshot = %wanted.snapshot, "a snapshot is not taken, and the guest goes on");
        suspend::go_on(qmp).await?;
        mend_under(qmp, dir).await?;
    }
    taken
}

/// Brings the layers back in order beneath a guest that runs, and has it write again if it was asked not to.
///
/// # Errors
/// As [`mend`].
pub(crate) async fn mend_under(qmp: &Qmp, dir: &Path) -> Result<(), SnapshotError> {
    if !dir.join(super::FOLDER).exists() {
        return Ok(());
    }
    thaw(dir).await;
    merge::end_left(qmp).await?;
    let top = top(qmp).await?;
    let nodes = qmp.execute("query-named-block-nodes", json!({ "flat": true })).await?;
    let nodes = nodes.as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<&str> = nodes.iter().filter_map(|node| node["node-name"].as_str()).collect();
    let halves = std::fs::read_dir(dir.join(super::FOLDER)).into_iter().flatten().flatten();
    let halves = halves.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let opened: Vec<SnapshotId> =
        halves.filter(|id| node_name(*id) != top && names.contains(&node_name(*id).as_str())).collect();
    mend(dir, Some(&opened))?;
    // Those that nothing uses, of whoever ended before he came to that. QEMU closes no other.
    for name in names.iter().filter(|name| **name != top && (name.starts_with(OVER) || **name == "disk")) {
        if !name.ends_with("-file") {
            close(qmp, name).await;
        }
    }
    Ok(())
}

/// The layer that the guest's disk is written to.
pub(super) async fn top(qmp: &Qmp) -> Result<String, QmpError> {
    let devices = qmp.execute("query-block", Value::Null).await?;
    let devices = devices.as_array().map(Vec::as_slice).unwrap_or_default();
    let disk = devices.iter().find(|device| device["qdev"].as_str().is_some_and(|q| q.contains("disk0")));
    let name = disk.and_then(|disk| disk["inserted"]["node-name"].as_str());
    name.map(str::to_owned).ok_or_else(|| QmpError::Refused {
        command: "query-block".into(),
        desc: "the guest has no disk".into(),
    })
}

/// Closes a layer that nothing is over; nothing where there is none.
pub(super) async fn close(qmp: &Qmp, node: &str) {
    for name in [node.to_owned(), format!("{node}-file")] {
        if let Err(error) = qmp.execute("blockdev-del", json!({ "node-name": name })).await {
            tracing::trace!(%error, node = name, "a layer is not closed");
        }
    }
}

/// Makes the layer that is to take the disk's place, and has QEMU open it.
async fn prepare(guest: &Guest<'_>, wanted: SnapshotWanted) -> Result<(), SnapshotError> {
    let Guest { qmp, dir, .. } = *guest;
    make_folder(dir, wanted.snapshot)?;
    let size = disk::header(&dir.join(files::DISK))?.size;
    disk::make(&dir.join(NEXT), &disk_of(dir, Some(wanted.snapshot)), size).await?;
    let node = node_name(wanted.snapshot);
    let lower = json!({
        "driver": "file", "node-name": format!("{node}-file"), "filename": NEXT, "discard": "unmap",
    });
    qmp.execute("blockdev-add", lower).await?;
    let layer = json!({
        "driver": "qcow2", "node-name": node, "file": format!("{node}-file"), "discard": "unmap", "backing": null,
    });
    qmp.execute("blockdev-add", layer).await?;
    Ok(())
}

/// Has the layers change places. The guest has to stand still.
async fn change_places(guest: &Guest<'_>, wanted: SnapshotWanted) -> Result<(), SnapshotError> {
    let Guest { qmp, dir, .. } = *guest;
    let (disk, layer) = (dir.join(files::DISK), disk_of(dir, Some(wanted.snapshot)));
    let places = || {
        std::fs::rename(&disk, &layer)?;
        std::fs::rename(dir.join(NEXT), &disk)?;
        sync(&super::folder(dir, wanted.snapshot))?;
        sync(dir)
    };
    places().map_err(file("cannot put into place", &disk))?;
    let node = top(qmp).await?;
    let over = json!({ "node": node, "overlay": node_name(wanted.snapshot) });
    qmp.execute("blockdev-snapshot", over).await?;
    Ok(())
}

fn taken(guest: &Guest<'_>, wanted: SnapshotWanted, at: u64, stood: Instant, memory: bool) -> SnapshotInfo {
    SnapshotInfo {
        snapshot: wanted.snapshot,
        taken_at_ms: at,
        pause_ms: u64::try_from(stood.elapsed().as_millis()).unwrap_or(u64::MAX),
        memory,
        booted: guest.booted,
        qemu_version: guest.qemu_version.to_owned(),
        deleted: false,
    }
}

async fn with_memory(
    guest: &Guest<'_>,
    wanted: SnapshotWanted,
    overseer: &dyn Overseer,
) -> Result<SnapshotInfo, SnapshotError> {
    let Guest { qmp, dir, memory, .. } = *guest;
    let memory = memory.ok_or(SnapshotError::NoTemplate)?;
    let path = super::folder(dir, wanted.snapshot).join(MEMORY);
    let save = Save::begin(qmp, &path, memory, How::Running).await?;
    let mut last = 0;
    let still = save.at_standstill(qmp, |percent| {
        if overseer.is_cancelled() {
            return Err(SaveError::Cancelled);
        }
        if percent > last {
            last = percent;
            overseer.progress(percent.min(95));
        }
        Ok(())
    });
    let (stood, at) = match still.await {
        Ok(()) => (Instant::now(), now_ms()),
        Err(SaveError::Failed(why)) => {
            // Where the copy failed, that is why.
            return Err(save.finish(qmp).await.err().unwrap_or(SaveError::Failed(why)).into());
        }
        Err(error) => {
            save.give_up(qmp).await;
            return Err(error.into());
        }
    };
    if let Err(error) = change_places(guest, wanted).await {
        save.give_up(qmp).await;
        return Err(error);
    }
    qmp.execute("migrate-continue", json!({ "state": "pre-switchover" })).await?;
    let (kept, out) = save.finish(qmp).await?;
    suspend::go_on(qmp).await?;
    let info = taken(guest, wanted, at, stood, true);
    save::to_disk(out, &path).await?;
    tracing::info!(
        mib = kept.bytes >> 20,
        pause_ms = info.pause_ms,
        "a snapshot is taken with the guest's memory"
    );
    Ok(info)
}

async fn disk_alone(guest: &Guest<'_>, wanted: SnapshotWanted) -> Result<SnapshotInfo, SnapshotError> {
    let Guest { qmp, dir, .. } = *guest;
    freeze(dir).await;
    let (stood, at) = (Instant::now(), now_ms());
    let changed = match qmp.execute("stop", Value::Null).await {
        Ok(_) => change_places(guest, wanted).await,
        Err(error) => Err(error.into()),
    };
    let went_on = suspend::go_on(qmp).await;
    let info = taken(guest, wanted, at, stood, false);
    thaw(dir).await;
    changed?;
    went_on?;
    tracing::info!(pause_ms = info.pause_ms, "a snapshot is taken of the disk");
    Ok(info)
}

/// Asks the guest to have its files in order on its disk and to write nothing. One that does not is as after a power cut.
async fn freeze(dir: &Path) {
    if let Err(error) = std::fs::write(dir.join(FROZEN), "") {
        tracing::warn!(%error, "the guest is not asked to write its files");
        return;
    }
    let asked = async {
        let mut agent = GuestAgent::connect(&dir.join(files::GUEST_AGENT), FREEZE_LIMIT).await?;
        agent.execute("guest-fsfreeze-freeze", json!({}), FREEZE_LIMIT).await
    };
    if let Err(error) = asked.await {
        tracing::warn!(%error, "the guest's disk is taken as it is");
    }
}

/// Has a guest write again that was asked not to. Where it does not answer, it is asked again and again: it stands still until it has heard
/// that.
async fn thaw(dir: &Path) {
    if !dir.join(FROZEN).exists() || ask_to_thaw(dir).await {
        return;
    }
    let dir = dir.to_path_buf();
    tokio::spawn(async move {
        while dir.join(FROZEN).exists() && !ask_to_thaw(&dir).await {
            tokio::time::sleep(AGAIN).await;
        }
    });
}

async fn ask_to_thaw(dir: &Path) -> bool {
    let asked = async {
        let mut agent = GuestAgent::connect(&dir.join(files::GUEST_AGENT), FREEZE_LIMIT).await?;
        agent.execute("guest-fsfreeze-thaw", json!({}), FREEZE_LIMIT).await
    };
    match asked.await {
        Ok(_) => {
            let _ = std::fs::remove_file(dir.join(FROZEN));
            true
        }
        Err(error) => {
            tracing::warn!(%error, "the guest is not told yet that it may write");
            false
        }
    }
}
