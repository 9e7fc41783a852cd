//! A desktop's folder: made with its description, which is replaced as a whole and is on the disk before anything is done by it.

use crate::error_chain;
use lucarne_desktop::config::{DesktopConfig, files};
use lucarne_qemu::process::Credentials;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};
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

/// Replaces the description.
///
/// # Errors
/// The disk does not take it; the old one is untouched then.
pub(crate) fn write_config(
    dir: &Path,
    config: &DesktopConfig,
    owner: Option<&Credentials>,
) -> io::Result<()> {
    let next = dir.join(".desktop.json.next");
    let mut file = File::create(&next)?;
    file.write_all(&serde_json::to_vec_pretty(config)?)?;
    file.sync_all()?;
    if let Some(owner) = owner {
        chown(&next, Some(owner.id), Some(owner.id))?;
    }
    fs::rename(&next, dir.join(files::CONFIG))?;
    File::open(dir)?.sync_all()
}

/// The description; why it cannot be read.
pub(crate) fn read_config(dir: &Path) -> Result<DesktopConfig, String> {
    let path = dir.join(files::CONFIG);
    let text = fs::read(&path).map_err(|e| format!("{}: {}", path.display(), error_chain(&e)))?;
    serde_json::from_slice(&text).map_err(|e| format!("{}: {}", path.display(), error_chain(&e)))
}

/// Whether a guest has run in it.
pub(crate) fn was_used(dir: &Path) -> bool {
    [files::DONE, lucarne_qemu::command::files::DISK].iter().any(|name| dir.join(name).exists())
}
