//! Snapshots of a desktop that does not run: taken, deleted and gone back to by changing files, with nothing else at them.
//!
//! Going back is decided by one file. Before it is there nothing has changed; once it is, [`go_on_back`] does the rest, however often
//! it is begun:
//!
//! ```text
//! an empty layer over the snapshot ─► back.json ─► what is suspended now goes ─► the layer takes the disk's place
//!                                                  ─► the snapshot's memory is what is suspended ─► (its owner notes it) ─► back.json goes
//! ```

use super::take::{self, now_ms};
use super::{
    Due, MAX_LAYERS, MEMORY, NEXT, SnapshotError, SnapshotInfo, check_room, disk_of, file, folder, list,
    make_folder, mark_deleted, mend, read_info, remove, sync, write_info,
};
use crate::command::files;
use crate::{disk, save, suspend};
use lucarne_control::SnapshotId;
use lucarne_driver::{Overseer, SnapshotWanted};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// The decision to go back.
const BACK: &str = "back.json";

/// How the guest was run that is suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// It had booted from its disk.
    pub booted: bool,
    /// The QEMU that ran it.
    pub qemu_version: String,
}

/// Brings the layers back in order that somebody was killed over.
///
/// # Errors
/// They are not in order: nothing may be started.
pub fn settle(dir: &Path) -> Result<(), SnapshotError> {
    if dir.join(BACK).exists() {
        // That comes first ([`go_on_back`]).
        return Err(SnapshotError::Busy);
    }
    // The next guest was not asked to write nothing.
    let _ = std::fs::remove_file(dir.join(take::FROZEN));
    if dir.join(super::FOLDER).exists() { mend(dir, None) } else { Ok(()) }
}

/// Takes a snapshot; gives what is there already where it was taken before.
///
/// # Errors
/// There is none, and nothing has changed.
pub async fn take(dir: &Path, wanted: SnapshotWanted, ran: Ran) -> Result<SnapshotInfo, SnapshotError> {
    settle(dir)?;
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
    let id = wanted.snapshot;
    let taken = change_places(dir, wanted, ran).await;
    if taken.is_err() {
        // One that came as far as to be beneath the disk is kept for that.
        settle(dir)?;
        tracing::warn!(snapshot = %id, "a snapshot is not taken");
    }
    taken
}

async fn change_places(dir: &Path, wanted: SnapshotWanted, ran: Ran) -> Result<SnapshotInfo, SnapshotError> {
    let folder = make_folder(dir, wanted.snapshot)?;
    let disk = dir.join(files::DISK);
    let layer = disk_of(dir, Some(wanted.snapshot));
    let size = disk::header(&disk)?.size;
    disk::make(&dir.join(NEXT), &layer, size).await?;
    let memory = wanted.memory && suspend::is_suspended(dir);
    let places = || {
        if memory {
            // The same file: it is never written again, and goes when neither needs it.
            std::fs::hard_link(dir.join(files::SUSPENDED), folder.join(MEMORY))?;
        }
        std::fs::rename(&disk, &layer)?;
        std::fs::rename(dir.join(NEXT), &disk)?;
        sync(&folder)?;
        sync(dir)
    };
    places().map_err(file("cannot put into place", &disk))?;
    let info = SnapshotInfo {
        snapshot: wanted.snapshot,
        taken_at_ms: now_ms(),
        pause_ms: 0,
        memory,
        booted: ran.booted,
        qemu_version: ran.qemu_version,
        deleted: false,
    };
    write_info(dir, &info)?;
    Ok(info)
}

/// Deletes a snapshot: what is over it gets what it needs of it. Does what is left to do of others as well.
///
/// # Errors
/// The layers are as they were, or the snapshot is not to be seen any more and some of its work is left to be done.
pub async fn delete(dir: &Path, id: SnapshotId, overseer: &dyn Overseer) -> Result<(), SnapshotError> {
    settle(dir)?;
    mark_deleted(dir, id)?;
    let mut last = None;
    loop {
        let layers = list(dir)?;
        if layers.due().is_some() && layers.due() == last {
            // It did not bring it about, whatever it said.
            return Err(SnapshotError::Busy);
        }
        last = layers.due();
        match layers.due() {
            None => return Ok(()),
            Some(Due::Remove(id)) => remove(dir, id)?,
            Some(Due::Merge { lower, upper, onto }) => {
                check_room(dir, &layers, lower)?;
                let onto = match onto {
                    Some(id) => disk_of(dir, Some(id)),
                    // The template's, which only the header knows.
                    None => below(dir, lower)?,
                };
                // Nothing is over it then, and it is removed.
                disk::put_over(&disk_of(dir, upper), &onto, || overseer.is_cancelled()).await?;
            }
        }
    }
}

/// What the layer is over.
pub(super) fn below(dir: &Path, id: SnapshotId) -> Result<std::path::PathBuf, SnapshotError> {
    let layer = disk_of(dir, Some(id));
    disk::header(&layer)?.over.ok_or_else(|| disk::DiskError::Damaged(layer).into())
}

/// Makes an empty layer over a snapshot that is there.
async fn make_next(dir: &Path, id: SnapshotId, path: &Path) -> Result<SnapshotInfo, SnapshotError> {
    let there = read_info(&folder(dir, id))?.filter(|info| !info.deleted);
    let info = there.ok_or(SnapshotError::None(id))?;
    if save::room(dir).map_err(file("cannot look at the disk of", dir))? == 0 {
        return Err(SnapshotError::Full);
    }
    let layer = disk_of(dir, Some(id));
    disk::make(path, &layer, disk::header(&layer)?.size).await?;
    Ok(info)
}

/// Whether it can be gone back to a snapshot, while the guest runs: everything but what changes something.
///
/// # Errors
/// It cannot.
pub async fn try_back(dir: &Path, id: SnapshotId) -> Result<(), SnapshotError> {
    let tried = dir.join("disk.try.qcow2");
    let made = make_next(dir, id, &tried).await;
    let _ = std::fs::remove_file(&tried);
    made.map(drop)
}

/// `back.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// To what.
    pub snapshot: SnapshotInfo,
    /// By which wish of the control plane, which is followed once.
    pub wish: u64,
}

/// Decides to go back to a snapshot: what is on the disk now, and was not at its time, goes. Then [`go_on_back`] does it.
///
/// # Errors
/// It is not gone back, and nothing has changed.
pub async fn back(dir: &Path, id: SnapshotId, wish: u64) -> Result<(), SnapshotError> {
    settle(dir)?;
    let snapshot = make_next(dir, id, &dir.join(NEXT)).await?;
    let info = Back { snapshot, wish };
    let (path, next) = (dir.join(BACK), dir.join("back.json.next"));
    let decide = || {
        use std::io::Write;
        let mut out = std::fs::File::create(&next)?;
        out.write_all(&serde_json::to_vec(&info)?)?;
        out.sync_all()?;
        // The layer's name is on the disk before that it is to be used.
        sync(dir)?;
        std::fs::rename(&next, &path)?;
        sync(dir)
    };
    decide().map_err(file("cannot write", &path))
}

/// Whether it was decided by [`back`], and is not done.
#[must_use]
pub fn is_decided(dir: &Path) -> bool {
    dir.join(BACK).exists()
}

/// Does what was decided by [`back`], if anything was, and says what is there now. To be noted, and then [`is_back`] to be called.
///
/// # Errors
/// It is half done: nothing may be started.
pub fn go_on_back(dir: &Path) -> Result<Option<Back>, SnapshotError> {
    let path = dir.join(BACK);
    let text = match std::fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(file("cannot read", &path))?,
    };
    let back: Back = serde_json::from_slice(&text).map_err(|e| file("cannot understand", &path)(e.into()))?;
    let info = &back.snapshot;
    let next = dir.join(NEXT);
    if next.exists() {
        // What is suspended now belongs to the disk that goes.
        suspend::forget(dir).map_err(file("cannot remove the suspended guest of", dir))?;
        let disk = dir.join(files::DISK);
        std::fs::rename(&next, &disk)
            .and_then(|()| sync(dir))
            .map_err(file("cannot put into place", &disk))?;
    }
    if info.memory && !suspend::is_suspended(dir) {
        let memory = folder(dir, info.snapshot).join(MEMORY);
        let linked = std::fs::hard_link(&memory, dir.join(files::SUSPENDED)).and_then(|()| sync(dir));
        linked.map_err(file("cannot take up", &memory))?;
    }
    // Its kernel is to see that it has been there before.
    suspend::new_generation(dir).map_err(file("cannot write the generation of", dir))?;
    Ok(Some(back))
}

/// What was decided by [`back`] is done, and noted.
///
/// # Errors
/// It will be done once more.
pub fn is_back(dir: &Path) -> Result<(), SnapshotError> {
    let path = dir.join(BACK);
    std::fs::remove_file(&path).and_then(|()| sync(dir)).map_err(file("cannot remove", &path))
}
