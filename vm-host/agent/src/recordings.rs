//! The recordings of this host: their files are made here, because desktops' users may not enter the folder, and removed when
//! they were kept for long enough.
//!
//! A desktop's folder goes with its desktop; its recording stays. Each process of a desktop writes a file of its own, the second
//! one only if the first has died, so that a file is only ever appended to by one.

use crate::error_chain;
use lucarne_control::ids::DesktopId;
use lucarne_recording::{Header, Recording};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Time between looks for recordings that are old. Their ages are told in days.
const SWEEP: Duration = Duration::from_secs(15 * 60);

/// Parts that a desktop's recording may have; its process would have died as often.
const PARTS: u32 = 1000;

/// The ending of recordings' names.
const ENDING: &str = "lrec";

/// Makes a new file for a desktop's recording, to be appended to. Only we and those who inherit it can use it.
pub(crate) fn create(folder: &Path, desktop: DesktopId) -> io::Result<File> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for part in 0..PARTS {
        let path = folder.join(format!("{desktop}.{part}.{ENDING}"));
        match OpenOptions::new().append(true).create_new(true).mode(0o600).open(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made,
        }
    }
    Err(io::Error::other(format!("the desktop {desktop} has {PARTS} recordings already")))
}

/// The files of a desktop in which nothing was recorded are of no use when it is gone.
pub(crate) fn forget_empty(folder: &Path, desktop: DesktopId) {
    for path in files(folder).filter(|path| of(path) == Some(desktop)) {
        if fs::metadata(&path).is_ok_and(|about| about.len() == 0) {
            remove(&path, "nothing was recorded in it");
        }
    }
}

/// Removes recordings that are older or more than their pools keep, now and again and again. Those of desktops that are here
/// are left alone.
pub(crate) async fn keep_swept(folder: PathBuf, desktops: PathBuf) {
    loop {
        let (folder, desktops) = (folder.clone(), desktops.clone());
        if tokio::task::spawn_blocking(move || sweep(&folder, &desktops, SystemTime::now())).await.is_err() {
            return;
        }
        tokio::time::sleep(SWEEP).await;
    }
}

struct Kept {
    path: PathBuf,
    header: Header,
    changed: SystemTime,
    bytes: u64,
}

fn sweep(folder: &Path, desktops: &Path, now: SystemTime) {
    let over = |path: &PathBuf| of(path).is_some_and(|id| !desktops.join(id.to_string()).exists());
    let mut kept: Vec<Kept> = files(folder).filter(over).filter_map(read).collect();
    kept.retain(|file| {
        let age = now.duration_since(file.changed).unwrap_or_default();
        let old = file.header.keep_days.is_some_and(|days| age.as_secs() / 86_400 >= days.into());
        if old {
            remove(&file.path, "it was kept for as long as its pool says");
        }
        !old
    });
    // The newest of each pool stay.
    kept.sort_by_key(|file| std::cmp::Reverse(file.changed));
    let mut taken: HashMap<Option<String>, u64> = HashMap::new();
    for file in kept {
        let taken = taken.entry(file.header.pool.clone()).or_default();
        *taken += file.bytes;
        if file.header.keep_mib.is_some_and(|mib| *taken > mib.saturating_mul(1 << 20)) {
            remove(&file.path, "its pool's recordings take more than they may");
            *taken -= file.bytes;
        }
    }
}

fn files(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == ENDING))
}

/// The desktop that a recording is of, by its name.
fn of(path: &Path) -> Option<DesktopId> {
    path.file_name()?.to_str()?.split('.').next()?.parse().ok()
}

fn read(path: PathBuf) -> Option<Kept> {
    let about = fs::metadata(&path).ok()?;
    let header = match Recording::open(File::open(&path).ok()?) {
        Ok(recording) => recording.header().clone(),
        Err(error) => {
            tracing::warn!(path = %path.display(), error = %error_chain(&error), "left alone");
            return None;
        }
    };
    Some(Kept { path, header, changed: about.modified().ok()?, bytes: about.len() })
}

fn remove(path: &Path, why: &str) {
    match fs::remove_file(path) {
        Ok(()) => tracing::info!(path = %path.display(), why, "a recording was removed"),
        Err(error) => tracing::error!(path = %path.display(), %error, "a recording cannot be removed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lucarne_recording::{VERSION, Writer};
    use std::os::unix::fs::PermissionsExt;

    const DAY: Duration = Duration::from_secs(86_400);

    /// A recording of a mebibyte, changed so many days ago.
    fn recording(folder: &Path, pool: &str, days: u32, mib: Option<u64>, age: u32) -> (DesktopId, PathBuf) {
        let desktop = DesktopId::generate();
        let file = create(folder, desktop).unwrap();
        let header = Header {
            version: VERSION,
            desktop: desktop.to_string(),
            name: "desk-1".into(),
            session: None,
            pool: Some(pool.into()),
            started_at_ms: 0,
            keep_days: Some(days),
            keep_mib: mib,
        };
        let mut writer = Writer::new(file, &header).unwrap();
        writer.key(Duration::ZERO, &vec![0; 1 << 20]).unwrap();
        let (file, _) = writer.finish(Duration::ZERO).unwrap();
        file.set_modified(SystemTime::now() - DAY * age).unwrap();
        (desktop, folder.join(format!("{desktop}.0.{ENDING}")))
    }

    #[test]
    fn old_recordings_go_and_those_of_desktops_that_are_here_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, desktops) = (dir.path().join("recordings"), dir.path().join("desktops"));
        let (_, young) = recording(&folder, "a", 7, None, 6);
        let (_, old) = recording(&folder, "a", 7, None, 7);
        let (here, of_here) = recording(&folder, "a", 7, None, 90);
        fs::create_dir_all(desktops.join(here.to_string())).unwrap();
        let foreign = folder.join("notes.txt");
        fs::write(&foreign, "kept").unwrap();
        sweep(&folder, &desktops, SystemTime::now());
        assert!(young.exists() && of_here.exists() && foreign.exists());
        assert!(!old.exists());
    }

    #[test]
    fn the_oldest_go_when_a_pools_recordings_take_too_much() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("recordings");
        let aged: Vec<_> = (0..4).map(|age| recording(&folder, "a", 30, Some(3), age).1).collect();
        let other = recording(&folder, "b", 30, Some(3), 20).1;
        sweep(&folder, &dir.path().join("desktops"), SystemTime::now());
        assert_eq!(aged.iter().map(|path| path.exists()).collect::<Vec<_>>(), [true, true, false, false]);
        assert!(other.exists(), "another pool's count for themselves");
    }

    #[test]
    fn each_process_of_a_desktop_has_a_file_of_its_own_that_only_we_can_open() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("recordings");
        let desktop = DesktopId::generate();
        for part in 0..2 {
            let file = create(&folder, desktop).unwrap();
            let path = folder.join(format!("{desktop}.{part}.{ENDING}"));
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
            if part == 1 {
                file.set_len(10).unwrap();
            }
        }
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        forget_empty(&folder, desktop);
        assert_eq!(files(&folder).count(), 1, "what is not empty stays");
    }
}
