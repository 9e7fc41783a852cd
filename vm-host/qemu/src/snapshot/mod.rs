//! Snapshots of a desktop: its disk as it was, and with it the guest's memory where that is wanted.
//!
//! ```text
//! <desktop>/
//!   disk.qcow2             what is written now, over the snapshot that was taken last or gone back to
//!   disk.next.qcow2        an empty layer that is about to take its place
//!   export/<attempt>/      a snapshot that another desktop is made of ([`export`])
//!   snapshots/<id>/
//!     disk.qcow2           the disk as it was then, over the snapshot before, or over the template's
//!     memory               the guest as it was then, of one that ran ([`crate::save`])
//!     snapshot.json        what it is, written last: a folder without it is no snapshot
//!
//! template ◄─ monday ◄─ tuesday ◄─ disk.qcow2
//!                ▲
//!                └───── wednesday                  (gone back to monday, and taken from there)
//! ```
//!
//! The layers are a tree, which their headers hold. A snapshot is taken by putting an empty layer over what is written now. One that is
//! deleted while others are over it stays as a layer until there is only one, which gets what it has of it ([`merge`]).
//!
//! Whatever is killed meanwhile: the guest stands still while the layers change places, so what it writes is either in the one or
//! in the other, and [`mend`] finds out which.

pub mod at_rest;
pub mod export;
mod merge;
pub(crate) mod take;

use crate::command::files;
use crate::disk::{self, DiskError};
use crate::qmp::QmpError;
use crate::save::SaveError;
use lucarne_control::SnapshotId;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(crate) use merge::merge;

/// The folder of all snapshots, in the desktop's.
pub const FOLDER: &str = "snapshots";

/// A snapshot's description.
const INFO: &str = "snapshot.json";

/// A snapshot's memory.
pub(crate) const MEMORY: &str = "memory";

/// An empty layer that is about to take the disk's place.
pub(crate) const NEXT: &str = "disk.next.qcow2";

/// The most layers between a desktop's disk and its template's. Each costs QEMU an open file and a table in memory, what is read
/// in the lowest is looked for in all, and what QEMU says of them grows with their square.
pub const MAX_LAYERS: usize = 120;

/// What the folder of a layer begins with that is being removed.
const GONE: &str = "gone-";

/// The most folders that are looked at. What runs as the desktop's user may have made any number.
const MAX_FOLDERS: usize = 256;

/// The longest description, bytes.
const MAX_INFO: u64 = 64 << 10;

/// Why a snapshot was not taken, or not deleted, or not gone back to.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// QEMU.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The guest.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// Its disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file.
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
    /// It is not there.
    #[error("there is no snapshot {0} on the desktop's host")]
    None(SnapshotId),
    /// Its disk is over something that is not its own.
    #[error("the desktop's disk is over {0}, which is none of its snapshots: it is damaged")]
    Foreign(PathBuf),
    /// Too many.
    #[error("there are {MAX_LAYERS} snapshots beneath its disk already; delete some")]
    TooMany,
    /// The disk is full.
    #[error("the disk of its host is full: {} MiB have to stay free", crate::save::RESERVE >> 20)]
    Full,
    /// The template that its memory began as is gone.
    #[error("the template that its memory began as is not on its host: a snapshot can only have its disk")]
    NoTemplate,
    /// Something else is done with it.
    #[error("its disk is being changed by something else")]
    Busy,
    /// Whoever took it was killed.
    #[error("taking it was interrupted; take another one")]
    Interrupted,
    /// Somebody has put something into the folder.
    #[error("{0} is not as this program leaves it: it is left alone")]
    Strange(PathBuf),
}

pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_path_buf();
    move |source| SnapshotError::File { what, path, source }
}

/// `snapshot.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Which.
    pub snapshot: SnapshotId,
    /// When it was taken, milliseconds since the epoch.
    pub taken_at_ms: u64,
    /// For how long the guest stood still for it, milliseconds; 0 of one that did not run.
    pub pause_ms: u64,
    /// The guest's memory is with it.
    pub memory: bool,
    /// The guest had booted from its disk, instead of being forked.
    pub booted: bool,
    /// The QEMU that ran it: another one does not take its memory up.
    pub qemu_version: String,
    /// It is not to be seen any more, and is there only for what is over it.
    #[serde(default)]
    pub deleted: bool,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What it is.
    pub info: SnapshotInfo,
    /// The one that it is over; none is over the template.
    pub parent: Option<SnapshotId>,
    /// What it takes on the host's disk, bytes.
    pub bytes: u64,
}

/// All layers of a desktop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// Those beneath, in the order in which they were taken.
    pub layers: Vec<Layer>,
    /// The one that the disk is over, which is written now; none is over the template.
    pub current: Option<SnapshotId>,
}

impl Layers {
    /// The layer.
    #[must_use]
    pub fn get(&self, id: SnapshotId) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.info.snapshot == id)
    }

    /// How many there are over it, the disk that is written now among them.
    fn over(&self, id: SnapshotId) -> usize {
        let layers = self.layers.iter().filter(|layer| layer.parent == Some(id)).count();
        layers + usize::from(self.current == Some(id))
    }

    /// Those beneath the disk that is written now, the highest first.
    fn beneath(&self) -> Vec<SnapshotId> {
        let mut beneath = Vec::new();
        let mut next = self.current;
        while let Some(id) = next.filter(|id| !beneath.contains(id)) {
            beneath.push(id);
            next = self.get(id).and_then(|layer| layer.parent);
        }
        beneath
    }

    /// What is to be done next for the layers that were deleted; nothing is left to do when there is none.
    fn due(&self) -> Option<Due> {
        let deleted = || self.layers.iter().filter(|layer| layer.info.deleted);
        // What costs nothing, and makes room for the rest.
        if let Some(layer) = deleted().find(|layer| self.over(layer.info.snapshot) == 0) {
            return Some(Due::Remove(layer.info.snapshot));
        }
        let merges = deleted().filter(|layer| self.over(layer.info.snapshot) == 1);
        // The smallest first, for the same reason.
        let layer = merges.min_by_key(|layer| layer.bytes)?;
        let id = layer.info.snapshot;
        let upper = self.layers.iter().find(|l| l.parent == Some(id)).map(|l| l.info.snapshot);
        Some(Due::Merge { lower: id, upper, onto: layer.parent })
    }
}

/// A step of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Nothing is over this layer.
    Remove(SnapshotId),
    /// One is over it, which is to have what it needs of it, and to be over what it was over.
    Merge {
        /// The layer that was deleted.
        lower: SnapshotId,
        /// The one over it; none is the disk that is written now.
        upper: Option<SnapshotId>,
        /// What it is over; none is the template.
        onto: Option<SnapshotId>,
    },
}

/// Whether there is room for what a layer gets that another one has.
fn check_room(dir: &Path, layers: &Layers, lower: SnapshotId) -> Result<(), SnapshotError> {
    let room = crate::save::room(dir).map_err(file("cannot look at the disk of", dir))?;
    let needed = layers.get(lower).map_or(0, |layer| layer.bytes);
    if room < needed { Err(SnapshotError::Full) } else { Ok(()) }
}

fn folder(dir: &Path, id: SnapshotId) -> PathBuf {
    dir.join(FOLDER).join(id.to_string())
}

/// The file of a layer; of the disk that is written now, where there is no id.
fn disk_of(dir: &Path, id: Option<SnapshotId>) -> PathBuf {
    id.map_or_else(|| dir.join(files::DISK), |id| folder(dir, id).join(files::DISK))
}

/// The snapshot whose layer this file is; none where it is not in this folder, as the template's is.
fn layer_at(dir: &Path, path: &Path) -> Option<SnapshotId> {
    let mut rest = path.strip_prefix(dir.join(FOLDER)).ok()?.iter();
    let id = rest.next()?.to_str()?.parse().ok()?;
    (rest.next()? == files::DISK && rest.next().is_none()).then_some(id)
}

fn parent_of(dir: &Path, disk: &Path) -> Result<Option<SnapshotId>, SnapshotError> {
    let over = disk::header(disk)?.over;
    let parent = over.as_ref().and_then(|over| layer_at(dir, over));
    match over {
        // What looks like one of ours and is none.
        Some(over) if parent.is_none() && over.starts_with(dir) => Err(SnapshotError::Foreign(over)),
        _ => Ok(parent),
    }
}

/// All layers of the desktop in this folder, absolute.
///
/// # Errors
/// One cannot be read. Half-made ones are left out.
pub fn list(dir: &Path) -> Result<Layers, SnapshotError> {
    let folder = dir.join(FOLDER);
    let mut layers = Vec::new();
    match std::fs::symlink_metadata(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Layers::default()),
        Ok(about) if !about.is_dir() => return Err(SnapshotError::Strange(folder)),
        Err(e) => return Err(file("cannot read the folder", &folder)(e)),
        Ok(_) => {}
    }
    let entries = std::fs::read_dir(&folder).map_err(file("cannot read the folder", &folder))?;
    for (n, entry) in entries.enumerate() {
        let entry = entry.map_err(file("cannot read the folder", &folder))?;
        if n >= MAX_FOLDERS {
            return Err(SnapshotError::Strange(folder));
        }
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<SnapshotId>().ok()) else {
            continue;
        };
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            return Err(SnapshotError::Strange(entry.path()));
        }
        let Some(info) = read_info(&entry.path())? else { continue };
        let disk = disk_of(dir, Some(id));
        let taken = |path: &Path| std::fs::symlink_metadata(path).map_or(0, |about| about.blocks() * 512);
        let bytes = taken(&disk) + taken(&entry.path().join(MEMORY));
        layers.push(Layer {
            parent: parent_of(dir, &disk)?,
            info: SnapshotInfo { snapshot: id, ..info },
            bytes,
        });
    }
    layers.sort_by_key(|layer| (layer.info.taken_at_ms, layer.info.snapshot));
    Ok(Layers { layers, current: parent_of(dir, &disk_of(dir, None))? })
}

fn read_info(folder: &Path) -> Result<Option<SnapshotInfo>, SnapshotError> {
    let path = folder.join(INFO);
    let plain = rustix::fs::OFlags::NOFOLLOW.bits() | rustix::fs::OFlags::NONBLOCK.bits();
    // Their numbers are small.
    let opened = File::options().read(true).custom_flags(plain as i32).open(&path);
    let opened = match opened {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(file("cannot open", &path))?,
    };
    let mut text = Vec::new();
    opened.take(MAX_INFO).read_to_end(&mut text).map_err(file("cannot read", &path))?;
    let info = serde_json::from_slice(&text).map_err(|e| file("cannot understand", &path)(e.into()))?;
    Ok(Some(info))
}

/// Puts a snapshot's description on the disk: from then on it is one.
fn write_info(dir: &Path, info: &SnapshotInfo) -> Result<(), SnapshotError> {
    let folder = folder(dir, info.snapshot);
    let (path, next) = (folder.join(INFO), folder.join("snapshot.json.next"));
    let write = || {
        let mut out = File::create(&next)?;
        out.write_all(&serde_json::to_vec_pretty(info)?)?;
        out.sync_all()?;
        std::fs::rename(&next, &path)?;
        sync(&folder)
    };
    write().map_err(file("cannot write", &path))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn make_folder(dir: &Path, id: SnapshotId) -> Result<PathBuf, SnapshotError> {
    let folder = folder(dir, id);
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(&folder);
    made.and_then(|()| sync(&dir.join(FOLDER))).map_err(file("cannot make the folder", &folder))?;
    Ok(folder)
}

/// Notes that a snapshot is not to be seen any more; [`merge`] or [`at_rest::merge`] sees to its layer.
fn mark_deleted(dir: &Path, id: SnapshotId) -> Result<bool, SnapshotError> {
    let folder = folder(dir, id);
    let Some(info) = read_info(&folder)? else { return Ok(false) };
    if !info.deleted {
        write_info(dir, &SnapshotInfo { deleted: true, memory: false, ..info })?;
    }
    let memory = folder.join(MEMORY);
    match std::fs::remove_file(&memory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file("cannot remove", &memory)(e)),
        _ => Ok(true),
    }
}

/// Removes a layer that nothing is over. It has no name of a snapshot before anything of it goes, so that no half of it is taken for
/// one.
fn remove(dir: &Path, id: SnapshotId) -> Result<(), SnapshotError> {
    let (folder, gone) = (folder(dir, id), dir.join(FOLDER).join(format!("{GONE}{id}")));
    match std::fs::rename(&folder, &gone) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed.and_then(|()| sync(&dir.join(FOLDER))).map_err(file("cannot remove", &folder))?,
    }
    std::fs::remove_dir_all(&gone).map_err(file("cannot remove", &gone))
}

/// Brings the layers back in order that somebody was killed over; to be asked with nothing else at them. Where QEMU runs, `opened` are
/// the snapshots for which it has opened the layer that was to be put over them, and does not use it; none where nothing runs.
///
/// # Errors
/// They are not in order: nothing may run that is not running.
pub(crate) fn mend(dir: &Path, opened: Option<&[SnapshotId]>) -> Result<(), SnapshotError> {
    let (disk, next) = (dir.join(files::DISK), dir.join(NEXT));
    for entry in std::fs::read_dir(dir.join(FOLDER)).into_iter().flatten().flatten().take(MAX_FOLDERS) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(GONE) {
            let path = entry.path();
            std::fs::remove_dir_all(&path).map_err(file("cannot remove", &path))?;
        }
        let Ok(id) = name.parse::<SnapshotId>() else { continue };
        if read_info(&entry.path())?.is_some() {
            continue;
        }
        let layer = disk_of(dir, Some(id));
        if !layer.exists() {
            // It had not come to that.
            remove(dir, id)?;
        } else if opened.is_some_and(|opened| opened.contains(&id)) {
            // QEMU writes to it still: nothing is in the one that was to take its place.
            std::fs::rename(&layer, &disk).map_err(file("cannot put back", &disk))?;
            remove(dir, id)?;
        } else {
            if !disk.exists() {
                std::fs::rename(&next, &disk).map_err(file("cannot put into place", &disk))?;
            }
            // Nobody was told that it is a snapshot.
            let info = SnapshotInfo {
                snapshot: id,
                taken_at_ms: 0,
                pause_ms: 0,
                memory: false,
                booted: false,
                qemu_version: String::new(),
                deleted: true,
            };
            if let Err(error) = write_info(dir, &info) {
                // The disk is as it is to be; the next one writes it.
                tracing::warn!(%error, snapshot = %id, "a layer is not on record");
            }
            let _ = std::fs::remove_file(entry.path().join(MEMORY));
        }
    }
    match std::fs::remove_file(&next) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file("cannot remove", &next)(e)),
        _ => sync(dir).map_err(file("cannot put on the disk", dir)),
    }
}

/// What the names of layers begin with that were put over a snapshot.
const OVER: &str = "over-";

/// QEMU's name for the layer that was put over this snapshot when it was taken. It has at most 31 bytes.
fn node_name(id: SnapshotId) -> String {
    let name = id.0.simple().to_string();
    format!("{OVER}{}", &name[12..])
}

#[cfg(test)]
mod tests;
