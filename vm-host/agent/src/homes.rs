//! Users' disks, which outlive the desktops that they are in.
//!
//! ```text
//! homes/ID/disk.raw   the disk: root's, or of the user id of the desktop that has it
//! homes/ID/holder     which desktop that is; not there while none has it
//! homes/ID/used       a guest came up with it: from then on nobody makes its file system anew
//! ```
//!
//! A disk has a folder of its own, which is root's alone: what runs as a desktop's user can write the disk, and can neither replace,
//! move nor name it, and no end of a desktop's folder takes it along. It is in one desktop at a time because one desktop is named in its
//! `holder`, which is on the disk before the desktop may open it; nothing that a desktop's user can write says whose a disk is. It is
//! a plain image (raw): the header of any other format names files that the next hypervisor would open.

use crate::hub::Hub;
use lucarne_control::agent::HomeDesired;
use lucarne_control::ids::{DesktopId, DiskId};
use lucarne_qemu::process::Credentials;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

const DISK: &str = "disk.raw";
const HOLDER: &str = "holder";
const USED: &str = "used";

#[derive(Default)]
struct State {
    /// Which desktop has a disk: what the files say.
    held: HashMap<DiskId, DesktopId>,
    /// Disks to be destroyed once no desktop has them.
    doomed: BTreeSet<DiskId>,
}

/// The disks of this host.
pub(crate) struct Homes {
    dir: PathBuf,
    hub: Hub,
    state: Mutex<State>,
    freed: Notify,
}

/// A disk that a desktop has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attached {
    /// Its file.
    pub(crate) path: PathBuf,
    /// No guest has come up with it yet: it may have no file system.
    pub(crate) fresh: bool,
}

/// A disk could not be put into a desktop, and who is in the way.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Another desktop has it, and will have done with it.
    Held(DesktopId),
    /// For this reason.
    Not(String),
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Puts a small file in its place, whole and on the disk.
fn write(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let new = dir.join(format!(".{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, dir.join(name))?;
    sync_dir(dir)
}

/// A folder that others may pass through and not look into.
fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o711).create(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o711))
}

fn missing(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound
}

impl Homes {
    /// Those in `dir`, which need not be there.
    pub(crate) fn new(dir: PathBuf, hub: Hub) -> Self {
        Self { dir, hub, state: Mutex::default(), freed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, disk: DiskId) -> PathBuf {
        self.dir.join(disk.to_string())
    }

    /// The file of a disk.
    pub(crate) fn path(&self, disk: DiskId) -> PathBuf {
        self.of(disk).join(DISK)
    }

    /// Finds what is here, before any desktop is begun or taken over: which desktops there are, their folders tell.
    pub(crate) fn find(&self, desktops: &Path) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let (name, dir) = (entry.file_name(), entry.path());
            let Some(disk) = name.to_str().and_then(|name| name.parse::<DiskId>().ok()) else {
                // One whose making, or whose end, did not come to its end.
                if name.to_string_lossy().starts_with('.') {
                    let _ = fs::remove_dir_all(&dir);
                } else {
                    tracing::warn!(file = %dir.display(), "not a home disk; left alone");
                }
                continue;
            };
            self.hub.disk(disk);
            let holder = match fs::read_to_string(dir.join(HOLDER)) {
                Ok(text) => text.trim().parse::<DesktopId>().map_err(|e| e.to_string()),
                Err(e) if missing(&e) => continue,
                Err(e) => Err(e.to_string()),
            };
            match holder {
                Ok(desktop) if desktops.join(desktop.to_string()).symlink_metadata().is_err() => {
                    tracing::info!(%disk, %desktop, "a home disk was in a desktop that is gone");
                    if let Err(error) = self.release(disk) {
                        tracing::error!(%disk, %error, "it cannot be taken back");
                    }
                }
                Ok(desktop) => drop(self.state().held.insert(disk, desktop)),
                // Nobody gets it, and nothing of it is lost.
                Err(error) => {
                    tracing::error!(%disk, error, "who has a home disk cannot be read; it stays where it is");
                    self.state().held.insert(disk, DesktopId::generate());
                }
            }
        }
    }

    /// The disk that a desktop has.
    pub(crate) fn held_by(&self, desktop: DesktopId) -> Option<DiskId> {
        self.state().held.iter().find(|(_, held)| **held == desktop).map(|(disk, _)| *disk)
    }

    /// Puts a disk into a desktop, and makes it where it may be made. Done again, it changes nothing.
    pub(crate) fn attach(
        &self,
        desktop: DesktopId,
        home: HomeDesired,
        owner: Option<&Credentials>,
    ) -> Result<Attached, Refused> {
        let mut state = self.state();
        if state.doomed.contains(&home.disk) {
            return Err(Refused::Not("its home disk is being destroyed; connect again".to_owned()));
        }
        match state.held.get(&home.disk) {
            Some(other) if *other != desktop => return Err(Refused::Held(*other)),
            Some(_) => {}
            None => {
                self.put(desktop, home, owner)
                    .map_err(|e| Refused::Not(format!("its home disk {}: {e}", home.disk)))?;
                state.held.insert(home.disk, desktop);
            }
        }
        // What cannot be looked at may have been used.
        let fresh = matches!(fs::symlink_metadata(self.of(home.disk).join(USED)), Err(e) if missing(&e));
        Ok(Attached { path: self.path(home.disk), fresh })
    }

    fn put(&self, desktop: DesktopId, home: HomeDesired, owner: Option<&Credentials>) -> io::Result<()> {
        let dir = self.of(home.disk);
        match fs::symlink_metadata(dir.join(DISK)) {
            Ok(_) => {}
            Err(e) if missing(&e) && home.fresh => self.make(home)?,
            Err(e) if missing(&e) => {
                let why = "it was on this host and is not any more; an administrator can delete it \
                           (`lucarne disk delete`), and connecting again makes another";
                return Err(io::Error::new(io::ErrorKind::NotFound, why));
            }
            Err(e) => return Err(e),
        }
        self.hub.disk(home.disk);
        write(&dir, HOLDER, &desktop.to_string())?;
        match owner {
            Some(owner) => lchown(dir.join(DISK), Some(owner.id), Some(owner.id)),
            None => Ok(()),
        }
    }

    fn make(&self, home: HomeDesired) -> io::Result<()> {
        match make_dir(&self.dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let new = self.dir.join(format!(".{}", home.disk));
        match fs::remove_dir_all(&new) {
            Err(e) if !missing(&e) => return Err(e),
            _ => {}
        }
        make_dir(&new)?;
        let file = File::create_new(new.join(DISK))?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.set_len(home.size_mib << 20)?;
        file.sync_all()?;
        sync_dir(&new)?;
        fs::rename(&new, self.of(home.disk))?;
        sync_dir(&self.dir)
    }

    /// A guest has come up with it: what is on it is its user's.
    pub(crate) fn used(&self, disk: DiskId) {
        let dir = self.of(disk);
        if dir.join(USED).exists() {
            return;
        }
        if let Err(error) = write(&dir, USED, "") {
            // Its file system has its label by now, and is not made anew for want of this.
            tracing::error!(%disk, %error, "that a home disk is used is not on record");
        }
    }

    /// Waits until some desktop has done with its disk.
    pub(crate) fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.freed.notified()
    }

    fn release(&self, disk: DiskId) -> io::Result<()> {
        let dir = self.of(disk);
        if rustix::process::geteuid().is_root() {
            lchown(dir.join(DISK), Some(0), Some(0))?;
        }
        match fs::remove_file(dir.join(HOLDER)) {
            Err(e) if !missing(&e) => Err(e),
            _ => sync_dir(&dir),
        }
    }

    /// Takes its disk from a desktop of which nothing runs any more.
    ///
    /// # Errors
    /// It is the desktop's still.
    pub(crate) fn detach(&self, desktop: DesktopId) -> io::Result<()> {
        while let Some(disk) = self.held_by(desktop) {
            let mut state = self.state();
            self.release(disk)?;
            state.held.remove(&disk);
            let doomed = state.doomed.contains(&disk);
            drop(state);
            if doomed {
                self.destroy(disk);
            }
        }
        self.freed.notify_waiters();
        Ok(())
    }

    /// Destroys these disks, each as soon as no desktop has it.
    pub(crate) fn doom(&self, disks: &[DiskId]) {
        for &disk in disks {
            let mut state = self.state();
            state.doomed.insert(disk);
            let held = state.held.contains_key(&disk);
            drop(state);
            if !held {
                self.destroy(disk);
            }
        }
    }

    fn destroy(&self, disk: DiskId) {
        // Under another name first: half a disk is none.
        let ending = self.dir.join(format!(".{disk}.ending"));
        let gone = match fs::rename(self.of(disk), &ending) {
            Err(e) if missing(&e) => Ok(()),
            Err(e) => Err(e),
            Ok(()) => sync_dir(&self.dir).and_then(|()| fs::remove_dir_all(&ending)),
        };
        if let Err(error) = gone {
            // The broker asks again when the host links again.
            tracing::error!(%disk, %error, "a home disk cannot be destroyed");
            return;
        }
        tracing::info!(%disk, "a home disk is destroyed");
        self.state().doomed.remove(&disk);
        self.hub.disk_gone(disk);
    }
}

#[cfg(test)]
#[path = "homes_tests.rs"]
mod tests;
