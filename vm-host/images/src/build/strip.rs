//! The last touch to a root file system before it becomes a disk: what the machine needs to boot, and nothing that
//! two clones must not share.
//!
//! Works on the folder from outside. A symbolic link in it may point anywhere on this machine, so nothing is ever
//! written through one.

use super::{BuildError, bootstrap::BOOT_PARTS};
use crate::recipe::Recipe;
use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

/// Label of the root file system, by which boot loader and kernel find it.
pub(super) const ROOT_LABEL: &str = "lucarne-root";

/// Folders whose contents are of no use in a fresh machine, or were made by this one.
const EMPTIED: [&str; 8] = [
    "var/lib/apt/lists",
    "var/cache/apt",
    "var/cache/debconf",
    "var/log",
    "var/tmp",
    "tmp",
    "run",
    "var/lib/systemd/random-seed.d",
];

/// The two parts of the boot loader that lie outside of every file system.
pub(super) struct BootLoader {
    /// GRUB's first sector, 512 bytes.
    pub(super) boot: Vec<u8>,
    /// GRUB's core image, which the first sector loads.
    pub(super) core: Vec<u8>,
}

/// Takes the boot loader's parts out of the root file system.
pub(super) fn take_boot_loader(root: &Path) -> Result<BootLoader, BuildError> {
    let folder = place(root, BOOT_PARTS)?;
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|source| BuildError::Io { what: "read", path, source })
    };
    let (boot, core) = (read("boot.img")?, read("core.img")?);
    fs::remove_dir_all(&folder).map_err(|source| BuildError::Io { what: "remove", path: folder, source })?;
    Ok(BootLoader { boot, core })
}

pub(super) fn strip(root: &Path, recipe: &Recipe) -> Result<(), BuildError> {
    for (path, what) in [("vmlinuz", "kernel (/vmlinuz)"), ("initrd.img", "initramfs (/initrd.img)")] {
        let link = root.join(path);
        // The link is relative to the image's root.
        let target = fs::read_link(&link).map_err(|_| BuildError::Unbootable(what))?;
        if !root.join(target.strip_prefix("/").unwrap_or(&target)).exists() {
            return Err(BuildError::Unbootable(what));
        }
    }
    write(root, "etc/fstab", &format!("LABEL={ROOT_LABEL} / ext4 noatime,discard 0 0\n"))?;
    write(root, "boot/grub/grub.cfg", &grub_config(recipe))?;
    write(root, "etc/hostname", &format!("{}\n", recipe.hostname))?;
    write(
        root,
        "etc/hosts",
        &format!(
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{}\n",
            recipe.hostname
        ),
    )?;
    // An empty file means "make one at boot, but do not treat this as the first boot": machine-id(5).
    write(root, "etc/machine-id", "")?;
    remove(root, "var/lib/dbus/machine-id")?;
    if root.join("var/lib/dbus").is_dir() {
        link(root, "var/lib/dbus/machine-id", "/etc/machine-id")?;
    }
    // mmdebstrap leaves the builder's name servers; the machine's own come with its lease.
    remove(root, "etc/resolv.conf")?;
    if root.join("usr/lib/systemd/systemd-resolved").exists() {
        link(root, "etc/resolv.conf", "/run/systemd/resolve/stub-resolv.conf")?;
    }
    // Public sources, whatever mirror or credentials the packages came from.
    remove(root, "etc/apt/sources.list.d/0000sources.list")?;
    write(root, "etc/apt/sources.list", &public_sources(&recipe.suite))?;
    for path in [
        "etc/apt/apt.conf.d/99mmdebstrap",
        "var/lib/systemd/random-seed",
        "var/lib/systemd/credential.secret",
    ] {
        remove(root, path)?;
    }
    // Keeps the excluded paths excluded in later upgrades, but not the unsafe writing.
    keep_lines(root, "etc/dpkg/dpkg.cfg.d/99mmdebstrap", |line| line.starts_with("path-"))?;
    remove_matching(root, "etc/ssh", |name| name.starts_with("ssh_host_"))?;
    remove_matching(root, "var/cache/ldconfig", |_| true)?;
    for path in EMPTIED {
        empty(root, path)?;
    }
    Ok(())
}

fn grub_config(recipe: &Recipe) -> String {
    format!(
        "# The links /vmlinuz and /initrd.img follow the newest installed kernel.\n\
         set timeout=0\n\
         set default=0\n\
         menuentry 'Linux' {{\n\
         \tsearch --no-floppy --label --set=root {ROOT_LABEL}\n\
         \tlinux /vmlinuz root=LABEL={ROOT_LABEL} rw {}\n\
         \tinitrd /initrd.img\n\
         }}\n",
        recipe.kernel_arguments
    )
}

fn public_sources(suite: &str) -> String {
    let main = format!("deb http://deb.debian.org/debian {suite} main\n");
    if matches!(suite, "sid" | "unstable") {
        return main;
    }
    format!(
        "{main}deb http://deb.debian.org/debian {suite}-updates main\n\
         deb http://deb.debian.org/debian-security {suite}-security main\n"
    )
}

/// A path below the root whose folders are real ones.
fn place(root: &Path, at: &str) -> Result<PathBuf, BuildError> {
    let mut path = root.to_path_buf();
    let mut parts = at.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        if parts.peek().is_some() && path.is_symlink() {
            return Err(BuildError::Link(path));
        }
    }
    Ok(path)
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError + use<> {
    let path = path.to_path_buf();
    move |source| BuildError::Io { what, path, source }
}

fn write(root: &Path, at: &str, text: &str) -> Result<(), BuildError> {
    remove(root, at)?;
    let path = place(root, at)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io("make the folder", folder))?;
    }
    fs::write(&path, text).map_err(io("write", &path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(io("set the mode of", &path))
}

fn link(root: &Path, at: &str, target: &str) -> Result<(), BuildError> {
    let path = place(root, at)?;
    symlink(target, &path).map_err(io("link", &path))
}

fn remove(root: &Path, at: &str) -> Result<(), BuildError> {
    let path = place(root, at)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io("remove", &path)(error)),
        _ => Ok(()),
    }
}

fn keep_lines(root: &Path, at: &str, keep: impl Fn(&str) -> bool) -> Result<(), BuildError> {
    let path = place(root, at)?;
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let kept: String = text.lines().filter(|line| keep(line)).flat_map(|line| [line, "\n"]).collect();
    write(root, at, &kept)
}

fn remove_matching(root: &Path, at: &str, matches: impl Fn(&str) -> bool) -> Result<(), BuildError> {
    let folder = place(root, at)?;
    if folder.is_symlink() || !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(&folder).map_err(io("list", &folder))? {
        let entry = entry.map_err(io("list", &folder))?;
        if matches(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path()).map_err(io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Removes the files of a folder and, of its folders, those that hold nothing that a package owns: log folders of
/// services stay, with their owners and modes.
fn empty(root: &Path, at: &str) -> Result<(), BuildError> {
    let folder = place(root, at)?;
    if folder.is_symlink() || !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(&folder).map_err(io("list", &folder))? {
        let entry = entry.map_err(io("list", &folder))?;
        let path = entry.path();
        if !entry.file_type().map_err(io("read", &path))?.is_dir() {
            fs::remove_file(&path).map_err(io("remove", &path))?;
        } else if at.starts_with("var/") {
            empty(root, &format!("{at}/{}", entry.file_name().to_string_lossy()))?;
        } else {
            fs::remove_dir_all(&path).map_err(io("remove", &path))?;
        }
    }
    Ok(())
}
