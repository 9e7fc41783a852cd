//! Builds a golden image from a recipe: packages → root file system → disk → store.
//!
//! ```text
//! mmdebstrap ──► work/root ──► strip ──► ext4 in a GPT disk (work/disk.raw) ──► work/disk.qcow2 ──► store
//!     ▲ hooks: overlay files, user, services, boot loader
//! ```
//!
//! Nothing is mounted by us and no loop device is used, so a plain chroot is enough; mmdebstrap, which must mount,
//! does so in a mount namespace of its own. Needs root, for file owners and chroot.

mod bootstrap;
mod disk;
mod gpt;
mod sources;
mod strip;

use crate::{
    Phase, Progress,
    command::{Cancel, CommandError},
    recipe::Recipe,
    store::{Description, Staging, Store, StoreError, remove_tree},
};
use lucarne_control::spec::ImageInfo;
use std::{fs, io, path::PathBuf, time::SystemTime};

/// Part of every recipe's hash: raise it when the builder makes other images from the same recipe.
pub(crate) const BUILDER_VERSION: &str = "1";

/// Room that a build needs in the store, bytes: the unpacked system and two copies of it as a disk. Too low and a
/// build dies half-way with the tools' own words; too high and small machines are turned away.
const ROOM: u64 = 7 << 30;

/// Why an image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Not root.
    #[error(
        "building an image needs root (it unpacks files with their owners and enters a chroot); run it with sudo"
    )]
    NotRoot,
    /// The store's file system is too full.
    #[error(
        "building needs {} MiB of free space in {}, which has {} MiB; free some or choose another data directory",
        needed >> 20, path.display(), free >> 20
    )]
    NoRoom {
        /// The store.
        path: PathBuf,
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// The installed system does not fit the disk that the recipe asks for.
    #[error("the system takes {} MiB, too much for a disk of {} MiB; raise `disk_size` in the recipe", used >> 20, disk >> 20)]
    DiskTooSmall {
        /// Bytes.
        used: u64,
        /// Bytes.
        disk: u64,
    },
    /// The machine has no keyring to check Debian's packages with.
    #[error("no keyring to check Debian's packages with; install the package debian-archive-keyring")]
    NoKeyring,
    /// The built system lacks something without which it cannot boot.
    #[error("the installed system has no {0}; add the package that brings it to the recipe")]
    Unbootable(&'static str),
    /// The root file system has a link where the builder wants to write.
    #[error("the installed system has a symbolic link at {}, where the builder wants to write", .0.display())]
    Link(PathBuf),
    /// A tool failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file operation failed.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// How to build.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Build although the store has an image of this recipe.
    pub force: bool,
    /// Where the log of the package installation is kept when it fails; the system's folder for temporary files when
    /// absent.
    pub log_dir: Option<PathBuf>,
    /// Ends the build early, with nothing left behind.
    pub cancel: Cancel,
}

/// Builds the recipe's image, or returns the one that the store already has of the same recipe hash.
///
/// # Errors
/// [`BuildError`]; the store is then as it was.
pub fn build(
    recipe: &Recipe,
    store: &Store,
    options: &BuildOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<ImageInfo, BuildError> {
    let source = format!("recipe:{}", recipe.hash());
    if !options.force
        && let Some(there) = store.by_source(&source)?
    {
        report(progress, Phase::Store, 100, format!("image {} is there already", there.digest.short()));
        return Ok(there);
    }
    report(progress, Phase::Check, 0, "checking tools, room and package sources".into());
    if !rustix::process::geteuid().is_root() {
        return Err(BuildError::NotRoot);
    }
    check_room(store)?;
    let sources = sources::find(&recipe.suite, &options.cancel)?;

    let staging = store.stage()?;
    let root = staging.work().join("root");
    let log_dir = options.log_dir.clone().unwrap_or_else(std::env::temp_dir);
    bootstrap::run(recipe, &staging, &sources, &log_dir, &options.cancel, progress)?;

    report(progress, Phase::Configure, 72, "stripping what a clone must not share".into());
    strip::strip(&root, recipe)?;
    let boot = strip::take_boot_loader(&root)?;

    report(progress, Phase::Disk, 75, "writing the file system".into());
    let raw = staging.work().join("disk.raw");
    disk::write(&raw, recipe.disk_size, recipe.hash(), &root, &boot, &options.cancel)?;
    remove_tree(&root)?;
    report(progress, Phase::Disk, 85, "converting the disk to qcow2".into());
    disk::convert(&raw, &staging.disk("qcow2"), &options.cancel)?;
    fs::remove_file(&raw).map_err(|source| BuildError::Io { what: "remove", path: raw, source })?;

    add(recipe, store, staging, source, &options.cancel, progress)
}

fn add(
    recipe: &Recipe,
    store: &Store,
    staging: Staging,
    source: String,
    cancel: &Cancel,
    progress: &mut dyn FnMut(Progress),
) -> Result<ImageInfo, BuildError> {
    let path = staging.disk("qcow2");
    let size = fs::metadata(&path).map_err(|source| BuildError::Io { what: "read", path, source })?.len();
    let about = Description {
        name: recipe.name.clone(),
        version: recipe.version.clone().unwrap_or_else(|| day(SystemTime::now())),
        description: recipe.description.clone(),
        format: "qcow2".into(),
        virtual_size: recipe.disk_size,
        source,
        guest_agent: recipe.guest_agent,
    };
    let mut on_read = |read: u64| {
        let share = (read * 8 / size.max(1)) as u8;
        report(progress, Phase::Store, 91 + share.min(8), "taking the digest".into());
    };
    let info = store.add(staging, about, cancel, &mut on_read)?;
    report(progress, Phase::Store, 100, format!("image {} is in the store", info.digest.short()));
    Ok(info)
}

fn report(progress: &mut dyn FnMut(Progress), phase: Phase, percent: u8, message: String) {
    progress(Progress { phase, percent, message });
}

fn check_room(store: &Store) -> Result<(), BuildError> {
    let path = store.dir();
    let about = rustix::fs::statvfs(path).map_err(|errno| BuildError::Io {
        what: "ask for the free space of",
        path: path.into(),
        source: errno.into(),
    })?;
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    if free < ROOM {
        return Err(BuildError::NoRoom { path: path.into(), needed: ROOM, free });
    }
    Ok(())
}

/// Today in UTC as `YYYY.MM.DD`, the version of an image that is given none.
#[must_use]
pub fn today() -> String {
    day(SystemTime::now())
}

/// `YYYY.MM.DD` in UTC, by the civil calendar: days are counted in eras of 400 years that begin on 1 March.
fn day(now: SystemTime) -> String {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    // 719,468 days lie between 1 March of year 0 and 1 January 1970.
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = 400 * era + year + u64::from(month <= 2);
    format!("{year:04}.{month:02}.{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_version_is_the_day_in_utc() {
        for (seconds, text) in [
            (0, "1970.01.01"),
            (951_782_399, "2000.02.28"),
            (951_782_400, "2000.02.29"),
            (1_772_323_200, "2026.03.01"),
            (1_798_761_599, "2026.12.31"),
        ] {
            assert_eq!(day(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn an_image_of_the_same_recipe_is_not_built_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        let text = "name = \"x\"\nsuite = \"bookworm\"\ndisk_size = \"2 GiB\"\npackages = [\"systemd\"]";
        let recipe = Recipe::parse(&folder.path().join("x.toml"), text).unwrap();
        let staging = store.stage().unwrap();
        fs::write(staging.disk("qcow2"), "a disk").unwrap();
        let source = format!("recipe:{}", recipe.hash());
        let made = add(&recipe, &store, staging, source, &Cancel::default(), &mut |_| {}).unwrap();

        let mut steps = Vec::new();
        let again = build(&recipe, &store, &BuildOptions::default(), &mut |step| steps.push(step)).unwrap();
        assert_eq!(again, made);
        assert!(matches!(steps.as_slice(), [Progress { percent: 100, .. }]), "{steps:?}");
    }
}
