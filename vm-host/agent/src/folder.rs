//! A desktop's folder: made with its description, which is replaced as a whole and is on the disk before anything is done by it.

use crate::error_chain;
use lucarne_desktop::config::{DesktopConfig, files};
use lucarne_desktop::read_plain;
use lucarne_qemu::process::Credentials;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown, fchown};
use std::path::Path;

/// Makes the folder of a new desktop.
///
/// # Errors
/// It is there already, or the disk does not take it.
pub(crate) fn make(dir: &Path, config: &DesktopConfig, owner: Option<&Credentials>) -> io::Result<()> {
    fs::create_dir(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    // The generation must be on the disk before anything runs: a restarted agent refuses lower ones by it.
    write_config(dir, config, owner)?;
    if let Some(owner) = owner {
        chown(dir, Some(owner.id), Some(owner.id))?;
    }
    Ok(())
}

/// Replaces the description. The folder is the desktop's user's, who may have put anything there: nothing that a link leads to is
/// written or given away.
///
/// # Errors
/// The disk does not take it; the old one is untouched then.
pub(crate) fn write_config(
    dir: &Path,
    config: &DesktopConfig,
    owner: Option<&Credentials>,
) -> io::Result<()> {
    write(dir, files::CONFIG, &serde_json::to_vec_pretty(config)?, owner)
}

/// Replaces a small file of the folder, as [`write_config`] does.
///
/// # Errors
/// The disk does not take it; the old one is untouched then.
pub(crate) fn write(dir: &Path, name: &str, text: &[u8], owner: Option<&Credentials>) -> io::Result<()> {
    let next = dir.join(format!(".{name}.next"));
    match fs::remove_file(&next) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = File::create_new(&next)?;
    file.write_all(text)?;
    file.sync_all()?;
    if let Some(owner) = owner {
        fchown(&file, Some(owner.id), Some(owner.id))?;
    }
    fs::rename(&next, dir.join(name))?;
    File::open(dir)?.sync_all()
}

/// The description; why it cannot be read.
pub(crate) fn read_config(dir: &Path) -> Result<DesktopConfig, String> {
    let path = dir.join(files::CONFIG);
    let text = read_plain(&path).map_err(|e| format!("{}: {}", path.display(), error_chain(&e)))?;
    serde_json::from_slice(&text).map_err(|e| format!("{}: {}", path.display(), error_chain(&e)))
}

/// Removes a folder that lies in another one of a desktop's folder. No link is followed on the way, whoever makes one when.
///
/// # Errors
/// It is still there, or never was.
pub(crate) fn remove_beneath(dir: &Path, within: &Path, name: &str) -> io::Result<()> {
    let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let dir = rustix::fs::open(dir, path, Mode::empty())?;
    let within = rustix::fs::openat2(&dir, within, path, Mode::empty(), beneath)?;
    // By what is open, and not by its name, which may lead elsewhere by now.
    fs::remove_dir_all(format!("/proc/self/fd/{}/{name}", within.as_raw_fd()))
}

/// Removes the sockets of processes that have ended: nobody listens on them any more.
pub(crate) fn remove_sockets(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_socket())
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::debug!(socket = %entry.path().display(), %error, "a socket was not removed");
        }
    }
}

/// Whether a guest has run in it.
pub(crate) fn was_used(dir: &Path) -> bool {
    [files::DONE, lucarne_qemu::command::files::DISK].iter().any(|name| dir.join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lucarne_control::DesktopId;
    use lucarne_control::desktop::{DesiredState, Identity};
    use lucarne_control::spec::NetworkPolicy;
    use std::os::unix::fs::symlink;

    fn config(wish: u64, state: DesiredState) -> DesktopConfig {
        DesktopConfig {
            desktop: DesktopId::generate(),
            generation: 1,
            identity: Identity { hostname: "d".into(), machine_id: "m".into(), mac: "a".into() },
            network: NetworkPolicy::None,
            audio: false,
            clipboard: Default::default(),
            template: "/t".into(),
            qemu: "/q".into(),
            qemu_version: "1".into(),
            accel: lucarne_qemu::Accel::Tcg,
            requested_at_ms: 0.0,
            recording: Default::default(),
            pool: None,
            persistent: true,
            wish,
            state,
            start: 1,
            home: None,
            back_to: None,
            origin: None,
        }
    }

    #[test]
    fn the_last_wish_is_there_after_a_start_and_no_link_leads_out_of_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let (dir, other) = (root.path().join("desktop"), root.path().join("other"));
        make(&dir, &config(1, DesiredState::Running), None).unwrap();
        assert!(!was_used(&dir));
        fs::write(&other, "precious").unwrap();
        symlink(&other, dir.join(".desktop.json.next")).unwrap();
        let off = config(2, DesiredState::Off);
        write_config(&dir, &off, None).unwrap();
        assert_eq!(read_config(&dir).unwrap(), off);
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
        fs::remove_file(dir.join(files::CONFIG)).unwrap();
        symlink(&other, dir.join(files::CONFIG)).unwrap();
        assert!(read_config(&dir).is_err());
    }

    #[test]
    fn what_is_removed_lies_in_the_desktops_own_folder_whatever_is_linked() {
        let root = tempfile::tempdir().unwrap();
        let (dir, other) = (root.path().join("desktop"), root.path().join("other"));
        let there = |path: &Path| fs::create_dir_all(path).unwrap();
        there(&dir.join("export/7/deep"));
        there(&other.join("7"));
        remove_beneath(&dir, Path::new("export"), "7").unwrap();
        assert!(dir.join("export").exists() && !dir.join("export/7").exists());
        fs::remove_dir(dir.join("export")).unwrap();
        symlink("../other", dir.join("export")).unwrap();
        assert!(remove_beneath(&dir, Path::new("export"), "7").is_err());
        assert!(other.join("7").exists());
        fs::remove_file(dir.join("export")).unwrap();
        assert!(remove_beneath(&dir, Path::new("export"), "7").is_err());
    }

    #[test]
    fn only_sockets_go_with_the_processes_that_listened() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        fs::write(dir.path().join("disk.qcow2"), "kept").unwrap();
        symlink(dir.path().join("disk.qcow2"), dir.path().join("display.sock")).unwrap();
        remove_sockets(dir.path());
        assert!(!socket.exists());
        assert_eq!(fs::read_to_string(dir.path().join("display.sock")).unwrap(), "kept");
    }

    #[test]
    fn a_description_of_an_earlier_version_is_of_what_runs_and_does_not_persist() {
        let mut old = serde_json::to_value(config(3, DesiredState::Off)).unwrap();
        for name in ["persistent", "wish", "state", "start"] {
            old.as_object_mut().unwrap().remove(name);
        }
        let read: DesktopConfig = serde_json::from_value(old).unwrap();
        assert_eq!(
            (read.persistent, read.wish, read.state, read.start),
            (false, 0, DesiredState::Running, 0)
        );
    }
}
