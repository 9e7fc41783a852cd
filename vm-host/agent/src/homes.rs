//! Users' disks: files that outlive the desktops that they are put into.
//!
//! ```text
//! homes/ID.raw ──attach──► desktops/DESKTOP/home.raw ──detach──► homes/ID.raw ──delete──► gone
//! ```
//!
//! A disk is one file, moved into the folder of the desktop that has it and owned by that desktop's user: it is in one desktop
//! at a time because it is in one place at a time, whatever ends when. It is a plain image (raw): a hypervisor that a guest has taken over
//! could write the header of any other format, and have the next one open a file that is named there.

use crate::folder::read_config;
use crate::hub::Hub;
use lucarne_control::agent::HomeDesired;
use lucarne_control::ids::{DesktopId, DiskId};
use lucarne_qemu::command::files;
use lucarne_qemu::process::Credentials;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

#[derive(Default)]
struct State {
    /// Which desktop has a disk, or is about to.
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

/// A disk could not be put into a desktop, and who is in the way.
pub(crate) enum Refused {
    /// Another desktop has it, and will have done with it.
    Held(DesktopId),
    /// For this reason.
    Not(String),
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Whether there is a plain file; anything else there is an error.
fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() && meta.nlink() == 1 => Ok(true),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a plain file with one name")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    for path in [to, from] {
        path.parent().map_or(Ok(()), sync_dir)?;
    }
    Ok(())
}

impl Homes {
    /// Those in `dir`, which need not be there.
    pub(crate) fn new(dir: PathBuf, hub: Hub) -> Self {
        Self { dir, hub, state: Mutex::default(), freed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, disk: DiskId) -> PathBuf {
        self.dir.join(format!("{disk}.raw"))
    }

    /// Finds what is here: before any desktop is begun or taken over.
    pub(crate) fn find(&self, desktops: &Path) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            match name.to_str().and_then(|name| name.strip_suffix(".raw")).and_then(|id| id.parse().ok()) {
                Some(disk) => self.hub.disk(disk),
                // One whose making did not come to its end.
                None if name.to_string_lossy().ends_with(".new") => drop(fs::remove_file(entry.path())),
                None => tracing::warn!(file = %entry.path().display(), "not a home disk; left alone"),
            }
        }
        for dir in fs::read_dir(desktops).into_iter().flatten().flatten() {
            let Ok(config) = read_config(&dir.path()) else { continue };
            let Some(disk) = config.home.map(|home| home.disk) else { continue };
            self.state().held.insert(disk, config.desktop);
            if dir.path().join(files::HOME).exists() {
                self.hub.disk(disk);
            }
        }
    }

    /// Puts a disk into a desktop's folder, and makes it where it may be made. Done again, it changes nothing.
    pub(crate) fn attach(
        &self,
        desktop: DesktopId,
        dir: &Path,
        home: HomeDesired,
        owner: Option<&Credentials>,
    ) -> Result<(), Refused> {
        let mut state = self.state();
        if state.doomed.contains(&home.disk) {
            return Err(Refused::Not("its home disk is being destroyed; connect again".to_owned()));
        }
        match state.held.get(&home.disk) {
            Some(other) if *other != desktop => return Err(Refused::Held(*other)),
            _ => {}
        }
        let put = self.put(dir, home, owner);
        if put.is_ok() || dir.join(files::HOME).exists() {
            state.held.insert(home.disk, desktop);
        }
        put.map_err(|e| Refused::Not(format!("its home disk {}: {e}", home.disk)))?;
        self.hub.disk(home.disk);
        Ok(())
    }

    fn put(&self, dir: &Path, home: HomeDesired, owner: Option<&Credentials>) -> io::Result<()> {
        let (here, there) = (self.path(home.disk), dir.join(files::HOME));
        if is_there(&there)? {
            return Ok(());
        }
        if !is_there(&here)? {
            if !home.fresh {
                let why = "it was on this host and is not any more; an administrator can delete it, and connecting again makes another";
                return Err(io::Error::new(io::ErrorKind::NotFound, why));
            }
            self.make(home)?;
        }
        if let Some(owner) = owner {
            lchown(&here, Some(owner.id), Some(owner.id))?;
        }
        move_file(&here, &there)
    }

    fn make(&self, home: HomeDesired) -> io::Result<()> {
        match fs::create_dir(&self.dir) {
            Ok(()) => fs::set_permissions(&self.dir, Permissions::from_mode(0o700))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        let new = self.dir.join(format!("{}.new", home.disk));
        let file = File::create(&new)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.set_len(home.size_mib << 20)?;
        file.sync_all()?;
        move_file(&new, &self.path(home.disk))
    }

    /// Waits until some desktop has done with its disk.
    pub(crate) fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.freed.notified()
    }

    /// Takes the disk out of the folder of a desktop of which nothing runs any more.
    ///
    /// # Errors
    /// It is still there; what is in the folder must stay.
    pub(crate) fn detach(&self, desktop: DesktopId, dir: &Path, disk: DiskId) -> io::Result<()> {
        let mut state = self.state();
        if state.held.get(&disk) != Some(&desktop) {
            return Ok(());
        }
        let (here, there) = (self.path(disk), dir.join(files::HOME));
        match is_there(&there) {
            Ok(true) => {
                if rustix::process::geteuid().is_root() {
                    lchown(&there, Some(0), Some(0))?;
                }
                move_file(&there, &here)?;
            }
            Ok(false) => {
                tracing::error!(%desktop, %disk, "a home disk is not in its desktop's folder any more")
            }
            // Nothing of it is looked at or kept: it was put there by what ran as the desktop's user.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::error!(%desktop, %disk, %error, "something else is in the place of a home disk, which is lost");
            }
            Err(error) => return Err(error),
        }
        state.held.remove(&disk);
        let doomed = state.doomed.contains(&disk);
        drop(state);
        if doomed {
            self.destroy(disk);
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
        match fs::remove_file(self.path(disk)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // The broker asks again when the host links again.
                tracing::error!(%disk, %error, "a home disk cannot be destroyed");
                return;
            }
            _ => tracing::info!(%disk, "a home disk is destroyed"),
        }
        self.state().doomed.remove(&disk);
        self.hub.disk_gone(disk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lucarne_control::agent::Followed;

    fn home(disk: DiskId, fresh: bool) -> HomeDesired {
        HomeDesired { disk, size_mib: 3, fresh }
    }

    struct Place {
        root: tempfile::TempDir,
        hub: Hub,
        homes: Homes,
    }

    impl Place {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let hub = Hub::new(Followed::default(), 16);
            let homes = Homes::new(root.path().join("homes"), hub.clone());
            Self { root, hub, homes }
        }

        fn desktop(&self) -> (DesktopId, PathBuf) {
            let id = DesktopId::generate();
            let dir = self.root.path().join("desktops").join(id.to_string());
            fs::create_dir_all(&dir).unwrap();
            (id, dir)
        }

        fn told(&self) -> Vec<DiskId> {
            self.hub.listen().0.disks
        }
    }

    fn put(place: &Place, (desktop, dir): &(DesktopId, PathBuf), home: HomeDesired) -> Result<(), String> {
        place.homes.attach(*desktop, dir, home, None).map_err(|refused| match refused {
            Refused::Held(by) => format!("held by {by}"),
            Refused::Not(why) => why,
        })
    }

    #[test]
    fn a_disk_goes_from_desktop_to_desktop_with_what_is_on_it_and_is_in_one_at_a_time() {
        let (place, disk) = (Place::new(), DiskId::generate());
        let (first, second) = (place.desktop(), place.desktop());
        put(&place, &first, home(disk, true)).unwrap();
        assert_eq!(place.told(), [disk]);
        let file = first.1.join(files::HOME);
        assert_eq!(fs::metadata(&file).unwrap().len(), 3 << 20);
        fs::write(&file, "saved").unwrap();
        put(&place, &first, home(disk, false)).expect("done again");
        assert_eq!(put(&place, &second, home(disk, false)).unwrap_err(), format!("held by {}", first.0));
        place.homes.detach(second.0, &second.1, disk).expect("not its own");
        place.homes.detach(first.0, &first.1, disk).unwrap();
        assert!(!file.exists());
        put(&place, &second, home(disk, false)).unwrap();
        assert_eq!(fs::read_to_string(second.1.join(files::HOME)).unwrap(), "saved");
    }

    #[test]
    fn a_disk_that_was_here_once_is_never_made_anew() {
        let (place, disk) = (Place::new(), DiskId::generate());
        let desktop = place.desktop();
        let why = put(&place, &desktop, home(disk, false)).unwrap_err();
        assert!(why.contains("was on this host and is not any more"), "{why}");
        assert!(place.told().is_empty());
    }

    #[test]
    fn a_disk_that_is_to_be_destroyed_goes_when_its_desktop_has_done_with_it() {
        let (place, disk) = (Place::new(), DiskId::generate());
        let desktop = place.desktop();
        put(&place, &desktop, home(disk, true)).unwrap();
        place.homes.doom(&[disk]);
        assert!(desktop.1.join(files::HOME).exists(), "it is in use");
        assert!(put(&place, &place.desktop(), home(disk, true)).unwrap_err().contains("being destroyed"));
        place.homes.detach(desktop.0, &desktop.1, disk).unwrap();
        assert!(place.told().is_empty() && !place.homes.path(disk).exists());
        let (_, mut told) = place.hub.listen();
        place.homes.doom(&[disk]);
        assert_eq!(told.try_recv().unwrap().gone_disks, [disk], "who asks again is told again");
    }

    #[test]
    fn what_a_desktop_put_in_the_place_of_its_disk_is_not_taken_for_it() {
        let (place, disk) = (Place::new(), DiskId::generate());
        let desktop = place.desktop();
        put(&place, &desktop, home(disk, true)).unwrap();
        let (file, secret) = (desktop.1.join(files::HOME), place.root.path().join("secret"));
        fs::write(&secret, "another's").unwrap();
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(&secret, &file).unwrap();
        place.homes.detach(desktop.0, &desktop.1, disk).expect("it is given up");
        assert!(!place.homes.path(disk).exists());
        let (other, disk) = (place.desktop(), DiskId::generate());
        put(&place, &other, home(disk, true)).unwrap();
        let file = other.1.join(files::HOME);
        fs::remove_file(&file).unwrap();
        fs::hard_link(&secret, &file).unwrap();
        place.homes.detach(other.0, &other.1, disk).expect("it is given up");
        assert!(!place.homes.path(disk).exists());
        assert_eq!(fs::read_to_string(&secret).unwrap(), "another's");
    }
}
