//! What this host followed last, on its disk: so that, started again, it refuses what is older.

use lucarne_control::agent::Followed;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The file, and what is in it.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    synced: u64,
}

impl Kept {
    /// Opens the file of a host's folder; nothing was followed where there is none.
    ///
    /// # Errors
    /// It cannot be read, or something else is in it: without it the host would follow what is older.
    pub(crate) fn open(folder: &Path) -> io::Result<(Self, Followed)> {
        let path = folder.join("followed.json");
        let followed = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Followed::default(),
            Err(e) => return Err(e),
        };
        Ok((Self { path, synced: followed.epoch }, followed))
    }

    /// Keeps what is followed from now on: it is on the disk when this returns. Where the machine stops meanwhile, it may be what
    /// was followed before, of the same epoch.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn keep(&mut self, followed: Followed) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(&followed)?)?;
        let new = followed.epoch != self.synced;
        // Always: a file that takes the place of another must not be empty after the machine stopped.
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        if new && let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        self.synced = followed.epoch;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_followed_is_there_after_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let (mut kept, nothing) = Kept::open(folder.path()).unwrap();
        assert_eq!(nothing, Followed::default());
        for revision in [4, 9] {
            kept.keep(Followed { epoch: 3, revision }).unwrap();
        }
        assert_eq!(Kept::open(folder.path()).unwrap().1, Followed { epoch: 3, revision: 9 });
        std::fs::write(folder.path().join("followed.json"), "{").unwrap();
        assert!(Kept::open(folder.path()).is_err(), "not taken for nothing");
    }
}
