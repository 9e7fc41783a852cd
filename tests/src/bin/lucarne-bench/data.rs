//! The benchmark's own data directory: emptied of what an earlier run left, and given an image. It touches no directory
//! that it did not make.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Says whose directory it is, so that nobody's database is removed by a mistyped `--data-dir`.
const MARKER: &str = "made-by-lucarne-bench";

/// Makes the directory ready for a run and gives its absolute path.
pub fn prepare(data_dir: &Path, images: &Path) -> Result<PathBuf> {
    let dir = std::path::absolute(data_dir)?;
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be created", dir.display()))?;
    let marker = dir.join(MARKER);
    if !marker.exists() {
        if fs::read_dir(&dir)?.next().is_some() {
            bail!(
                "{} was not made by this benchmark, which would remove the database in it; choose another --data-dir",
                dir.display()
            );
        }
        fs::write(&marker, "")?;
    }
    if let Ok(lock) = fs::File::open(dir.join("run/up.lock"))
        && rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err()
    {
        bail!("a server runs with {}; end it first, or choose another --data-dir", dir.display());
    }
    // The database goes so that users and pools are as expected, the templates so that the cold boot is of this run.
    for old in ["broker", "host/templates"] {
        match fs::remove_dir_all(dir.join(old)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("{} cannot be removed", dir.join(old).display()));
            }
            _ => {}
        }
    }
    take_image(&dir.join("host/images"), images)?;
    Ok(dir)
}

/// Links the newest image of `from` into an empty store; without one, the server builds it.
fn take_image(store: &Path, from: &Path) -> Result<()> {
    let is_empty = newest(store).is_none();
    let Some(image) = newest(from).filter(|_| is_empty) else { return Ok(()) };
    let name = image.file_name().context("an image's folder has a name")?;
    let target = store.join(name);
    fs::create_dir_all(&target)?;
    for entry in fs::read_dir(&image)? {
        let entry = entry?;
        let (source, target) = (entry.path(), target.join(entry.file_name()));
        // Images are never written to, so a link is as good as a copy, which another file system needs.
        if fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target).with_context(|| format!("{} cannot be copied", source.display()))?;
        }
    }
    Ok(())
}

/// The folder of the image that was made last.
fn newest(store: &Path) -> Option<PathBuf> {
    let created = |dir: &Path| {
        let text = fs::read(dir.join("image.json")).ok()?;
        serde_json::from_slice::<serde_json::Value>(&text).ok()?.get("created_at")?.as_i64()
    };
    let dirs = fs::read_dir(store).ok()?.flatten().map(|e| e.path());
    dirs.filter_map(|dir| Some((created(&dir)?, dir))).max().map(|(_, dir)| dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(store: &Path, name: &str, created_at: i64) {
        let dir = store.join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("image.json"), format!("{{\"created_at\":{created_at}}}")).unwrap();
        fs::write(dir.join("disk.qcow2"), name).unwrap();
    }

    #[test]
    fn a_folder_of_someone_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("broker")).unwrap();
        assert!(prepare(dir.path(), Path::new("/nowhere")).is_err());
        assert!(dir.path().join("broker").exists());
    }

    #[test]
    fn each_run_starts_without_the_last_ones_database_and_with_its_image() {
        let (dir, images) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        image(images.path(), "old", 1);
        image(images.path(), "new", 2);
        prepare(dir.path(), images.path()).unwrap();
        fs::create_dir_all(dir.path().join("broker")).unwrap();
        prepare(dir.path(), images.path()).unwrap();
        assert!(!dir.path().join("broker").exists());
        assert_eq!(fs::read(dir.path().join("host/images/new/disk.qcow2")).unwrap(), b"new");
        assert!(!dir.path().join("host/images/old").exists());
    }
}
