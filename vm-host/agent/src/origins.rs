//! What desktops are to be made of whose copies are not whole yet.
//!
//! ```text
//! clones/ID   of which desktop's snapshot the desktop ID is made; there from before its folder until it has all of it
//! ```
//!
//! A desktop's own folder is its user's, and cannot say what another's data it is to be given, nor that it has not had it. These
//! files are the agent's alone.

use lucarne_control::agent::CloneOf;
use lucarne_control::ids::DesktopId;
use lucarne_control::spec::TemplateSpec;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What a desktop is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Noted {
    /// Of whose snapshot.
    pub(crate) origin: CloneOf,
    /// Of which template it is to be, as that is.
    pub(crate) template: TemplateSpec,
}

/// What is on the disk of it.
pub(crate) struct Origins {
    dir: PathBuf,
}

impl Origins {
    /// Those in `dir`, which need not be there.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn of(&self, desktop: DesktopId) -> PathBuf {
        self.dir.join(desktop.to_string())
    }

    /// Forgets those whose desktops are not here, before any is begun.
    pub(crate) fn find(&self, desktops: &Path) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let there = desktops.join(entry.file_name()).symlink_metadata().is_ok();
            if !there && let Err(error) = fs::remove_file(entry.path()) {
                tracing::warn!(file = %entry.path().display(), %error, "what a desktop was to be cloned from is left");
            }
        }
    }

    /// Notes what a desktop is to be made of, before it has a folder.
    ///
    /// # Errors
    /// It is not on the disk.
    pub(crate) fn begin(&self, desktop: DesktopId, noted: &Noted) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let (path, next) = (self.of(desktop), self.dir.join(format!(".{desktop}")));
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec(noted)?)?;
        file.sync_all()?;
        fs::rename(&next, &path)?;
        File::open(&self.dir)?.sync_all()
    }

    /// What a desktop is to be made of and is not yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn get(&self, desktop: DesktopId) -> io::Result<Option<Noted>> {
        match fs::read(self.of(desktop)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A desktop has all of it, or is gone.
    ///
    /// # Errors
    /// It is still noted.
    pub(crate) fn end(&self, desktop: DesktopId) -> io::Result<()> {
        match fs::remove_file(self.of(desktop)) {
            Ok(()) => File::open(&self.dir)?.sync_all(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lucarne_control::SnapshotId;

    #[test]
    fn what_a_desktop_is_made_of_is_known_until_it_has_it_or_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let (dir, desktops) = (root.path().join("clones"), root.path().join("desktops"));
        let origins = Origins::new(dir.clone());
        let (one, other) = (DesktopId::generate(), DesktopId::generate());
        let origin = CloneOf { desktop: DesktopId::generate(), snapshot: SnapshotId::generate() };
        let image = lucarne_control::spec::ImageDigest::try_from("ab".repeat(32)).unwrap();
        let noted = Noted { origin, template: TemplateSpec { image, machine: Default::default() } };
        assert_eq!(origins.get(one).unwrap(), None);
        origins.end(one).unwrap();
        origins.begin(one, &noted).unwrap();
        origins.begin(other, &noted).unwrap();
        assert_eq!(Origins::new(dir.clone()).get(one).unwrap(), Some(noted.clone()));
        fs::create_dir_all(desktops.join(other.to_string())).unwrap();
        origins.find(&desktops);
        assert_eq!(origins.get(one).unwrap(), None, "its folder was never made");
        assert_eq!(origins.get(other).unwrap(), Some(noted.clone()));
        origins.end(other).unwrap();
        assert_eq!((origins.get(other).unwrap(), fs::read_dir(&dir).unwrap().count()), (None, 0));
        fs::write(dir.join(one.to_string()), "nothing").unwrap();
        assert!(origins.get(one).is_err());
    }
}
