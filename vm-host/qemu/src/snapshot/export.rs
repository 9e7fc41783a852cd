//! A snapshot for another desktop: its disk in one layer over the template's, its memory and its description, in a folder of their own
//! for each attempt, from where they are taken.
//!
//! Nothing that it is made of is written meanwhile: the layers are beneath others, and whoever exports one is the only one who changes
//! layers.

use super::at_rest::below;
use super::{INFO, MEMORY, SnapshotError, SnapshotInfo, disk_of, file, list, sync};
use crate::command::files;
use crate::disk::{self, DiskError};
use crate::{save, sparse};
use lucarne_control::SnapshotId;
use lucarne_driver::Overseer;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

/// The folder of all such folders, in the desktop's. What is in it may be removed at any time.
pub const FOLDER: &str = "export";

/// What is in each: the disk, which needs nothing but its template's, the memory where the snapshot has it, and the description.
pub const FILES: [&str; 3] = [files::DISK, MEMORY, INFO];

/// Share of the progress that copying the snapshot's own layer takes, percent; taking in those beneath is the rest.
const COPYING: u64 = 50;

/// Makes the folder of a snapshot, under a number that no other attempt has.
///
/// # Errors
/// There is no such folder, and the desktop is as it was.
pub async fn export(
    dir: &Path,
    id: SnapshotId,
    attempt: u64,
    overseer: &dyn Overseer,
) -> Result<(), SnapshotError> {
    remove(dir, attempt)?;
    let made = make(dir, id, attempt, overseer).await;
    if made.is_err() {
        remove(dir, attempt)?;
    }
    made
}

fn remove(dir: &Path, attempt: u64) -> Result<(), SnapshotError> {
    let folder = dir.join(FOLDER).join(attempt.to_string());
    match std::fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file("cannot remove", &folder)(e)),
        _ => Ok(()),
    }
}

async fn make(
    dir: &Path,
    id: SnapshotId,
    attempt: u64,
    overseer: &dyn Overseer,
) -> Result<(), SnapshotError> {
    if overseer.is_cancelled() {
        return Err(DiskError::Cancelled.into());
    }
    let layers = list(dir)?;
    let layer = layers.get(id).filter(|layer| !layer.info.deleted).ok_or(SnapshotError::None(id))?;
    let mut beneath = vec![layer];
    while let Some(next) = beneath.last().and_then(|layer| layer.parent).and_then(|id| layers.get(id)) {
        if beneath.len() > super::MAX_LAYERS {
            return Err(SnapshotError::TooMany);
        }
        beneath.push(next);
    }
    let needed: u64 = beneath.iter().map(|layer| layer.bytes).sum();
    if save::room(dir).map_err(file("cannot look at the disk of", dir))? < needed {
        return Err(SnapshotError::Full);
    }
    let folder = dir.join(FOLDER).join(attempt.to_string());
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(file("cannot make the folder", &folder))?;
    let (from, to) = (disk_of(dir, Some(id)), folder.join(files::DISK));
    copy(&from, &to, overseer).await?;
    let lowest = beneath.last().map_or(id, |layer| layer.info.snapshot);
    if lowest != id {
        disk::put_over(&to, &below(dir, lowest)?, || overseer.is_cancelled()).await?;
    }
    if layer.info.memory {
        let memory = super::folder(dir, id).join(MEMORY);
        // It is never written again.
        std::fs::hard_link(&memory, folder.join(MEMORY)).map_err(file("cannot take", &memory))?;
    }
    describe(&folder, &layer.info)?;
    overseer.progress(100);
    Ok(())
}

/// What the copy and whoever waits for it tell each other.
#[derive(Default)]
struct Copying {
    percent: AtomicU8,
    cancelled: AtomicBool,
}

/// Gives a copy up when it is dropped; one that has ended has not to be.
struct GivesUp(Arc<Copying>);

impl Drop for GivesUp {
    fn drop(&mut self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }
}

async fn copy(from: &Path, to: &Path, overseer: &dyn Overseer) -> Result<(), SnapshotError> {
    let shared = Arc::new(Copying::default());
    let (told, source, target) = (shared.clone(), from.to_path_buf(), to.to_path_buf());
    let mut copied = tokio::task::spawn_blocking(move || copy_now(&source, &target, &told));
    // Nobody asks it to end any more when this is dropped.
    let _unless_waited_for = GivesUp(shared.clone());
    loop {
        match tokio::time::timeout(Duration::from_millis(100), &mut copied).await {
            Ok(done) => return done.map_err(|e| file("cannot copy", from)(io::Error::other(e)))?,
            Err(_) => {
                overseer.progress(shared.percent.load(Ordering::Relaxed));
                shared.cancelled.store(overseer.is_cancelled(), Ordering::Relaxed);
            }
        }
    }
}

fn copy_now(from: &Path, to: &Path, told: &Copying) -> Result<(), SnapshotError> {
    let plain = rustix::fs::OFlags::NOFOLLOW.bits();
    // Its number is small.
    let opened = File::options().read(true).custom_flags(plain as i32).open(from);
    let source = opened.map_err(file("cannot open", from))?;
    let made = File::options().write(true).create_new(true).mode(0o600).open(to);
    let target = made.map_err(file("cannot make", to))?;
    let copied = sparse::copy(&source, &target, |done, all| {
        // At most fifty.
        let percent = (done * COPYING).checked_div(all).unwrap_or(COPYING) as u8;
        told.percent.store(percent, Ordering::Relaxed);
        !told.cancelled.load(Ordering::Relaxed)
    });
    match copied {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(DiskError::Cancelled.into()),
        copied => copied.map_err(file("cannot copy", from)),
    }
}

fn describe(folder: &Path, info: &SnapshotInfo) -> Result<(), SnapshotError> {
    let path = folder.join(INFO);
    let write = || {
        let mut out = File::create_new(&path)?;
        out.write_all(&serde_json::to_vec_pretty(info)?)?;
        out.sync_all()?;
        sync(folder)
    };
    write().map_err(file("cannot write", &path))
}
