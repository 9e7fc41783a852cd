//! The files of a desktop's folder that this crate reads and writes: `desktop.json` and `done.json`.
//!
//! `done.json` is replaced as a whole and is on the disk before the call returns, because it decides whether a guest may
//! be started: after a crash the next process must know at least as much as this one acted on.

use crate::config::{DesktopConfig, Done, files};
use crate::error::{DesktopError, chain};
use lucarne_qemu::snapshot::SnapshotInfo;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The longest of these files, bytes.
const MAX_FILE: u64 = 1 << 20;

/// Reads a small file of a desktop's folder, which is its user's: a link or a pipe in its place is an error, and nothing that
/// the host agent follows or waits for.
///
/// # Errors
/// It cannot be read, or is no such file.
pub fn read_plain(path: &Path) -> io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    // Their numbers are small.
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() || about.len() > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no small file"));
    }
    let mut text = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut text)?;
    Ok(text)
}

/// Reads `desktop.json`.
///
/// # Errors
/// It is missing or broken.
pub(crate) fn read_config(dir: &Path) -> Result<DesktopConfig, DesktopError> {
    let path = dir.join(files::CONFIG);
    let text = match read_plain(&path) {
        Ok(text) => text,
        Err(source) => return Err(DesktopError::ReadConfig { path, source }),
    };
    serde_json::from_slice(&text).map_err(|source| DesktopError::BadFile { path, source })
}

/// Reads `done.json`; nothing is done where there is none.
///
/// # Errors
/// It is there and cannot be read. Taking that for "nothing is done" could start a second guest.
pub(crate) fn read_done(dir: &Path) -> Result<Done, DesktopError> {
    let path = dir.join(files::DONE);
    match read_plain(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|source| DesktopError::BadFile { path, source }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Done::default()),
        Err(source) => Err(DesktopError::ReadConfig { path, source }),
    }
}

/// Replaces `done.json`, durably.
///
/// # Errors
/// The disk does not take it; the old one is untouched then.
pub(crate) fn write_done(dir: &Path, done: &Done) -> Result<(), DesktopError> {
    let path = dir.join(files::DONE);
    let next = dir.join(".done.json.next");
    let write = || {
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec_pretty(done)?)?;
        file.sync_all()?;
        std::fs::rename(&next, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| DesktopError::WriteDone { path: path.clone(), source })
}

/// Whether the desktop in this folder has had its identity: its disk is then its user's. What cannot be read counts as if it had.
#[must_use]
pub fn is_made(dir: &Path) -> bool {
    read_done(dir).map_or(true, |done| done.made)
}

/// The last wish by which the desktop in this folder was put back to a snapshot.
///
/// # Errors
/// That cannot be read: it is not to be put back, because it may have been.
pub fn went_back(dir: &Path) -> Result<u64, String> {
    read_done(dir).map(|done| done.back).map_err(|error| chain(&error))
}

/// `done.json` of a folder into which a snapshot of another desktop was copied, with the guest's memory where it has it: from then on it
/// is this desktop's.
///
/// # Errors
/// It cannot be written down.
pub fn of_clone(snapshot: &SnapshotInfo) -> Result<Vec<u8>, String> {
    let done = Done {
        forked: true,
        made: true,
        cloned: true,
        booted: snapshot.booted,
        qemu_version: snapshot.qemu_version.clone(),
        ended: Some("it was just cloned".to_owned()),
        ..Done::default()
    };
    serde_json::to_vec_pretty(&done).map_err(|error| error.to_string())
}

/// Which run of this machine's kernel it is; empty where the kernel does not say.
pub(crate) fn host_boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_survives_and_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_done(dir.path()).unwrap(), Done::default());
        let mut done = Done { forked: true, ..Done::default() };
        write_done(dir.path(), &done).unwrap();
        done.identified = true;
        done.timings.identity_ms = Some(12.5);
        write_done(dir.path(), &done).unwrap();
        assert_eq!(read_done(dir.path()).unwrap(), done);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing temporary is left");
    }

    #[test]
    fn a_broken_record_is_an_error_and_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(files::DONE), "{\"forked\": tr").unwrap();
        let error = read_done(dir.path()).unwrap_err().to_string();
        assert!(error.contains("done.json"), "{error}");
    }

    #[test]
    fn a_missing_configuration_is_named_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = read_config(dir.path()).unwrap_err().to_string();
        assert!(error.contains("desktop.json"), "{error}");
    }
}
