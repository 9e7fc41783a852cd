//! The content-addressed store of golden images.
//!
//! ```text
//! <store>/<sha256>/disk.qcow2   the disk (or disk.raw), read-only
//! <store>/<sha256>/image.json   what it is (`ImageInfo`)
//! <store>/.building-<id>/       work in progress, locked by its owner
//! <store>/.broken-<id>/         an entry that was found damaged, kept for a look
//! ```
//!
//! An entry comes to be by one rename of a complete, synced folder, so that a crash leaves either the whole image or
//! none of it. A folder without a valid `image.json` whose disk has the recorded size is no image: it is set aside
//! when the store is opened, and never listed. The store knows nothing of how images are made or used.

use crate::{command::Cancel, hex};
use lucarne_control::spec::{ImageDigest, ImageInfo};
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

const BUILDING: &str = ".building-";
const BROKEN: &str = ".broken-";
const ABOUT: &str = "image.json";
const LOCK: &str = "lock";

/// Largest `image.json` that is read, bytes.
const LARGEST_ABOUT: u64 = 64 << 10;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
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
    /// No image has this name or digest.
    #[error(
        "no image is called {0:?} and no image's digest begins with it; `lucarne image list` shows what there is"
    )]
    NotFound(String),
    /// A digest prefix fits several images.
    #[error("{prefix:?} fits several images ({}); give more digits", digests.join(", "))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// The short digests that fit.
        digests: Vec<String>,
    },
    /// The disk's bytes are not those that the digest was taken of.
    #[error("image {} is damaged: its disk has the digest {found}; delete it and build or import it again", expected.short())]
    Damaged {
        /// The image.
        expected: ImageDigest,
        /// The digest of what is there.
        found: ImageDigest,
    },
    /// The disk format is neither `qcow2` nor `raw`.
    #[error("an image is stored as qcow2 or raw, not as {0:?}")]
    Format(String),
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + use<'a> {
    move |source| StoreError::Io { what, path: path.into(), source }
}

/// What the maker of an image says about it; the store finds out the rest.
#[derive(Clone, Debug)]
pub struct Description {
    /// The name people use.
    pub name: String,
    /// The version within the name.
    pub version: String,
    /// One line for people.
    pub description: String,
    /// `qcow2` or `raw`.
    pub format: String,
    /// Size of the disk that the guest sees, bytes.
    pub virtual_size: u64,
    /// `recipe:<sha256>` or `import:<format>`.
    pub source: String,
    /// The guest runs `qemu-guest-agent`.
    pub guest_agent: bool,
}

/// A folder of images.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the store, making the folder when there is none; clears away what dead builders left and sets damaged
    /// entries aside, with a warning each.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder cannot be made or read.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(io_error("make the folder", &dir))?;
        let dir = dir.canonicalize().map_err(io_error("find", &dir))?;
        let store = Self { dir };
        store.clean()?;
        Ok(store)
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All images, newest first.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder cannot be read.
    pub fn list(&self) -> Result<Vec<ImageInfo>, StoreError> {
        let mut images = Vec::new();
        for digest in self.entries()? {
            match read_entry(&self.dir.join(digest.as_str()), &digest) {
                Ok(info) => images.push(info),
                Err(reason) => {
                    tracing::warn!(image = digest.short(), reason, "a damaged image is not listed")
                }
            }
        }
        images.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.digest.cmp(&b.digest)));
        Ok(images)
    }

    /// One image, or nothing when the store has none with this digest.
    ///
    /// # Errors
    /// None at present besides [`StoreError::Io`].
    pub fn get(&self, digest: &ImageDigest) -> Result<Option<ImageInfo>, StoreError> {
        let path = self.dir.join(digest.as_str());
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
            Ok(_) => Ok(read_entry(&path, digest).ok()),
        }
    }

    /// The path of an image's disk, for a hypervisor to open read-only.
    #[must_use]
    pub fn disk(&self, image: &ImageInfo) -> PathBuf {
        self.dir.join(image.digest.as_str()).join(disk_name(&image.format))
    }

    /// The image that a person means: the newest of a name, `name:version`, or a digest prefix of at least 6 digits.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Ambiguous`].
    pub fn resolve(&self, wanted: &str) -> Result<ImageInfo, StoreError> {
        let images = self.list()?;
        let (name, version) = wanted.split_once(':').map_or((wanted, None), |(n, v)| (n, Some(v)));
        let named = images.iter().find(|i| i.name == name && version.is_none_or(|v| i.version == v));
        if let Some(image) = named {
            return Ok(image.clone());
        }
        let fits: Vec<&ImageInfo> = if wanted.len() >= 6 {
            images.iter().filter(|i| i.digest.as_str().starts_with(wanted)).collect()
        } else {
            Vec::new()
        };
        match fits.as_slice() {
            [] => Err(StoreError::NotFound(wanted.into())),
            [one] => Ok((*one).clone()),
            several => Err(StoreError::Ambiguous {
                prefix: wanted.into(),
                digests: several.iter().map(|i| i.digest.short().into()).collect(),
            }),
        }
    }

    /// The newest image made from this source, such as `recipe:<sha256>`.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn by_source(&self, source: &str) -> Result<Option<ImageInfo>, StoreError> {
        Ok(self.list()?.into_iter().find(|image| image.source == source))
    }

    /// Removes an image; an open disk stays readable to who has it open.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Io`].
    pub fn delete(&self, digest: &ImageDigest) -> Result<(), StoreError> {
        let path = self.dir.join(digest.as_str());
        // Out of the listing by one rename, so that an interrupted removal leaves no half of an image behind.
        let gone = self.dir.join(format!("{BUILDING}delete-{}", unique()));
        fs::rename(&path, &gone).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound(digest.to_string()),
            _ => io_error("delete", &path)(error),
        })?;
        sync(&self.dir)?;
        remove_tree(&gone)
    }

    /// Reads the whole disk again and compares its digest.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when a byte changed; [`StoreError::NotFound`].
    pub fn verify(&self, digest: &ImageDigest) -> Result<ImageInfo, StoreError> {
        let info = self.get(digest)?.ok_or_else(|| StoreError::NotFound(digest.to_string()))?;
        let found = digest_of(&self.disk(&info), &Cancel::default(), &mut |_| {})?;
        if found == *digest { Ok(info) } else { Err(StoreError::Damaged { expected: digest.clone(), found }) }
    }

    /// A folder in the store to work in; it is removed when the value is dropped, or when the store is next opened
    /// after its owner died.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn stage(&self) -> Result<Staging, StoreError> {
        let path = self.dir.join(format!("{BUILDING}{}", unique()));
        let build = path.join("work");
        fs::create_dir_all(&build).map_err(io_error("make the folder", &build))?;
        let lock = path.join(LOCK);
        let file = File::create(&lock).map_err(io_error("make", &lock))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| io_error("lock", &lock)(errno.into()))?;
        Ok(Staging { path, _lock: file })
    }

    /// Moves a finished disk, `Staging::disk(format)`, into the store. An image that is there already is kept and
    /// returned.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Format`], [`StoreError::Cancelled`].
    pub fn add(
        &self,
        staging: Staging,
        about: Description,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<ImageInfo, StoreError> {
        if !matches!(about.format.as_str(), "qcow2" | "raw") {
            return Err(StoreError::Format(about.format));
        }
        let from = staging.disk(&about.format);
        let digest = digest_of(&from, cancel, progress)?;
        if let Some(there) = self.get(&digest)? {
            return Ok(there);
        }
        let entry = staging.path.join("entry");
        fs::create_dir(&entry).map_err(io_error("make the folder", &entry))?;
        set_mode(&entry, 0o755)?;
        let disk = entry.join(disk_name(&about.format));
        fs::rename(&from, &disk).map_err(io_error("move", &from))?;
        rustix::fs::chown(&disk, Some(rustix::process::geteuid()), Some(rustix::process::getegid()))
            .map_err(|errno| io_error("own", &disk)(errno.into()))?;
        set_mode(&disk, 0o444)?;
        sync(&disk)?;
        let stored_size = fs::metadata(&disk).map_err(io_error("read", &disk))?.len();
        let created_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        let info = ImageInfo {
            digest: digest.clone(),
            name: about.name,
            version: about.version,
            description: about.description,
            format: about.format,
            virtual_size: about.virtual_size,
            stored_size,
            created_at,
            source: about.source,
            guest_agent: about.guest_agent,
        };
        let json = entry.join(ABOUT);
        let text = serde_json::to_vec_pretty(&info).map_err(|e| io_error("write", &json)(e.into()))?;
        fs::write(&json, text).map_err(io_error("write", &json))?;
        set_mode(&json, 0o444)?;
        sync(&json)?;
        sync(&entry)?;
        let place = self.dir.join(digest.as_str());
        match fs::rename(&entry, &place) {
            Ok(()) => {}
            // Another process was faster with the same bytes, or a damaged entry stands in the way.
            Err(error) => match self.get(&digest)? {
                Some(there) => return Ok(there),
                None => {
                    self.set_aside(&place, "it stood where a new image belongs");
                    fs::rename(&entry, &place).map_err(|_| io_error("move into the store", &place)(error))?;
                }
            },
        }
        sync(&self.dir)?;
        Ok(info)
    }

    fn entries(&self) -> Result<Vec<ImageDigest>, StoreError> {
        let failed = |error| io_error("list", &self.dir)(error);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some(digest) = name.to_str().and_then(|name| ImageDigest::try_from(name.to_owned()).ok()) {
                found.push(digest);
            }
        }
        Ok(found)
    }

    fn clean(&self) -> Result<(), StoreError> {
        for digest in self.entries()? {
            let path = self.dir.join(digest.as_str());
            if let Err(reason) = read_entry(&path, &digest) {
                self.set_aside(&path, &reason);
            }
        }
        let failed = |error| io_error("list", &self.dir)(error);
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().to_string_lossy().starts_with(BUILDING) || !is_abandoned(&entry.path()) {
                continue;
            }
            tracing::info!(path = %entry.path().display(), "removing what an interrupted build left");
            if let Err(error) = remove_staging(&entry.path()) {
                tracing::warn!(%error, "cannot remove what an interrupted build left");
            }
        }
        Ok(())
    }

    fn set_aside(&self, path: &Path, reason: &str) {
        let aside = self.dir.join(format!("{BROKEN}{}", unique()));
        let moved = fs::rename(path, &aside);
        tracing::warn!(
            image = %path.display(),
            reason,
            moved_to = %aside.display(),
            error = moved.err().map(|e| e.to_string()),
            "set a damaged image aside"
        );
    }
}

/// Work in progress, locked against cleaning as long as the value lives.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    _lock: File,
}

impl Staging {
    /// The folder to work in.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// Where the finished disk has to be for [`Store::add`].
    #[must_use]
    pub fn disk(&self, format: &str) -> PathBuf {
        self.work().join(disk_name(format))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = remove_staging(&self.path) {
            tracing::warn!(%error, "cannot remove the folder of a build");
        }
    }
}

fn disk_name(format: &str) -> &'static str {
    if format == "raw" { "disk.raw" } else { "disk.qcow2" }
}

/// The lock goes last: a removal that is interrupted is taken up again when the store is next opened.
fn remove_staging(path: &Path) -> Result<(), StoreError> {
    remove_tree(&path.join("work"))?;
    remove_tree(path)
}

/// Its owner holds the lock as long as it lives; a folder that has none yet is being made, or was never finished.
fn is_abandoned(path: &Path) -> bool {
    let lock = path.join(LOCK);
    match File::open(&lock) {
        Ok(file) => rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
        // A builder makes folder and lock within microseconds; an hour later it is not coming any more.
        Err(_) => fs::metadata(path)
            .and_then(|about| about.modified())
            .is_ok_and(|then| then.elapsed().is_ok_and(|age| age.as_secs() > 3600)),
    }
}

fn read_entry(path: &Path, digest: &ImageDigest) -> Result<ImageInfo, String> {
    let json = path.join(ABOUT);
    let mut text = String::new();
    File::open(&json)
        .and_then(|file| file.take(LARGEST_ABOUT).read_to_string(&mut text))
        .map_err(|e| format!("{ABOUT} cannot be read: {e}"))?;
    let info: ImageInfo = serde_json::from_str(&text).map_err(|e| format!("{ABOUT} is not valid: {e}"))?;
    if info.digest != *digest {
        return Err(format!("{ABOUT} is that of image {}", info.digest.short()));
    }
    if !matches!(info.format.as_str(), "qcow2" | "raw") {
        return Err(format!("the disk format {:?} is not known", info.format));
    }
    let disk = path.join(disk_name(&info.format));
    let about = fs::symlink_metadata(&disk).map_err(|e| format!("the disk cannot be read: {e}"))?;
    if !about.is_file() || about.len() != info.stored_size {
        return Err(format!("the disk has {} bytes instead of {}", about.len(), info.stored_size));
    }
    Ok(info)
}

/// sha256 of a file; `progress` gets the number of bytes read so far.
pub(crate) fn digest_of(
    path: &Path,
    cancel: &Cancel,
    progress: &mut dyn FnMut(u64),
) -> Result<ImageDigest, StoreError> {
    let mut file = File::open(path).map_err(io_error("open", path))?;
    let mut sha = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        if cancel.is_cancelled() {
            return Err(StoreError::Cancelled);
        }
        let got = file.read(&mut buffer).map_err(io_error("read", path))?;
        if got == 0 {
            break;
        }
        sha.update(&buffer[..got]);
        total += got as u64;
        progress(total);
    }
    Ok(ImageDigest::try_from(hex(&sha.finalize())).expect("a sha256 in hexadecimal is a digest"))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io_error("set the mode of", path))
}

fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(io_error("sync", path))
}

/// Removes a folder, but never through a mount: a build that was killed hard may have left `/dev` bound inside.
pub(crate) fn remove_tree(path: &Path) -> Result<(), StoreError> {
    // The last mounted lies on top and has to go first.
    for at in mounts_inside(path)?.iter().rev() {
        let detached = rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH);
        tracing::info!(mount = %at.display(), error = detached.err().map(|e| e.to_string()), "unmounting what a build left");
    }
    if let Some(at) = mounts_inside(path)?.first() {
        let text = format!("{} is still mounted; unmount it, then open the store again", at.display());
        return Err(io_error("remove", path)(io::Error::new(io::ErrorKind::ResourceBusy, text)));
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Mount points in a folder, in the order in which they were mounted.
fn mounts_inside(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let table = Path::new("/proc/self/mountinfo");
    let mounts = fs::read_to_string(table).map_err(io_error("read", table))?;
    // proc(5): the fifth field is the mount point, with white space escaped in octal, which our names have not.
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    Ok(points.filter(|at| at.starts_with(path)).collect())
}

/// A name that no other work in the store has.
fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    format!("{}-{nanos:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests;
