//! Runs `qemu-img convert` on a file that nobody trusts: as an ordinary user without privileges, with limits on time,
//! memory and what it writes, in a folder that holds nothing else.

use super::{ImportError, ImportFormat};
use crate::command::{Cancel, Run};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

/// `nobody` (Debian Policy, section 9.2.2).
const NOBODY: u32 = 65_534;

/// Time for the conversion. Too low and a slow disk fails a large import; too high and a crafted file occupies a
/// processor for longer.
const LIMIT: Duration = Duration::from_secs(2 * 3600);

/// Address space, bytes. qemu-img needs some 300 MiB with the largest tables that our checks let through.
const MEMORY: u64 = 2 << 30;

/// Names inside the folder; given to qemu-img as relative paths, so that nothing in them is taken for a protocol.
pub(super) const INPUT: &str = "input";
const OUTPUT: &str = "output.qcow2";

/// Converts `folder/input` and returns the path of the result, which belongs to whoever runs this.
pub(super) fn convert(
    folder: &Path,
    format: ImportFormat,
    virtual_size: u64,
    cancel: &Cancel,
) -> Result<std::path::PathBuf, ImportError> {
    let io = |what, path: &Path| {
        let path = path.to_path_buf();
        move |source| ImportError::Io { what, path, source }
    };
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(io("set the mode of", folder))?;
    let mut command = Command::new("setpriv");
    command.current_dir(folder).args(["--pdeathsig", "KILL", "--no-new-privs"]);
    if rustix::process::geteuid().is_root() {
        let id = NOBODY.to_string();
        command.args([
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "--bounding-set",
            "-all",
            "--inh-caps",
            "-all",
        ]);
        let owner = (rustix::process::Uid::from_raw(NOBODY), rustix::process::Gid::from_raw(NOBODY));
        for path in [folder, &folder.join(INPUT)] {
            rustix::fs::chown(path, Some(owner.0), Some(owner.1))
                .map_err(|errno| io("change the owner of", path)(errno.into()))?;
        }
    }
    // Tables of the result and the rounding to clusters come on top of the disk itself.
    let writes = virtual_size + virtual_size / 64 + (64 << 20);
    command.arg("prlimit").args([
        format!("--cpu={}", LIMIT.as_secs()),
        format!("--as={MEMORY}"),
        format!("--fsize={writes}"),
        "--core=0".into(),
        "--nofile=64".into(),
        "--".into(),
    ]);
    command.args([
        "qemu-img",
        "convert",
        "-f",
        format.as_str(),
        "-O",
        "qcow2",
        "-o",
        "compat=1.1",
        INPUT,
        OUTPUT,
    ]);
    Run::wrapped(command, "qemu-img", "qemu-utils", cancel).limit(LIMIT).run()?;
    let output = folder.join(OUTPUT);
    // The folder was the other user's until here: take what it made only if it is what it should be.
    let about = fs::symlink_metadata(&output).map_err(io("read", &output))?;
    if !about.is_file() {
        return Err(io("read", &output)(std::io::Error::other("qemu-img made something that is not a file")));
    }
    Ok(output)
}
