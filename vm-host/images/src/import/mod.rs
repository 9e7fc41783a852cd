//! Imports a foreign disk file as a golden image.
//!
//! The format is always said by the caller and never guessed: a guest could have written any format's header into a
//! raw disk. Our own bounded parsers refuse what points outside of the file, before `qemu-img` sees it.
//!
//! ```text
//! FILE ─ copy ─► check header and tables ─► qemu-img convert (unprivileged) ─► Prepared ─► commit ─► store
//!                                                                                 └─ dropped: nothing is left
//! ```
//!
//! Whether the disk boots is for the caller to find out between [`import_prepare`] and [`Prepared::commit`]: this
//! crate knows no virtual machines.

mod convert;
mod qcow2;
mod raw;
mod source;
mod vhdx;
mod vmdk;

pub use source::HeaderError;

use crate::{
    Phase, Progress,
    command::{Cancel, CommandError},
    store::{Description, Staging, Store, StoreError},
};
use lucarne_control::spec::ImageInfo;
use source::{FileSource, Source};
use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Left free in the store besides the copy, bytes: what the converted disk may start with.
const SPARE_ROOM: u64 = 256 << 20;

/// A format that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportFormat {
    /// QEMU's own, versions 2 and 3.
    Qcow2,
    /// The disk's bytes as they are.
    Raw,
    /// VMware's, in one file.
    Vmdk,
    /// Hyper-V's.
    Vhdx,
}

impl ImportFormat {
    /// The word for users and for qemu-img.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
        }
    }
}

impl fmt::Display for ImportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no format.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a disk format is qcow2, raw, vmdk or vhdx, not {0:?}")]
pub struct UnknownFormat(pub String);

impl FromStr for ImportFormat {
    type Err = UnknownFormat;
    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        [Self::Qcow2, Self::Raw, Self::Vmdk, Self::Vhdx]
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| UnknownFormat(text.into()))
    }
}

/// Why a file could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file was judged and refused.
    #[error("cannot import {} as {format}: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The format that it was said to have.
        format: ImportFormat,
        /// Why.
        reason: HeaderError,
    },
    /// Not a regular file.
    #[error("{} is not a regular file; give a disk file, or copy the device into one", .0.display())]
    NotAFile(PathBuf),
    /// A name or version has characters that references to images cannot have.
    #[error("an image's {what} has lower-case letters, digits, `-` and `.`, not {got:?}")]
    Name {
        /// `name` or `version`.
        what: &'static str,
        /// As given.
        got: String,
    },
    /// The store's file system is too full.
    #[error(
        "importing needs {} MiB of free space in {}, which has {} MiB; free some or choose another data directory",
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
    /// qemu-img failed.
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

/// What to call the image, and how to stop.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The name people use.
    pub name: String,
    /// The version within the name.
    pub version: String,
    /// One line for people.
    pub description: String,
    /// Ends the import early, with nothing left behind.
    pub cancel: Cancel,
}

/// A converted disk that is not yet in the store; dropping it leaves nothing.
#[derive(Debug)]
pub struct Prepared {
    staging: Staging,
    store: Store,
    options: ImportOptions,
    format: ImportFormat,
    virtual_size: u64,
}

impl Prepared {
    /// The disk, qcow2, readable by any user; boot it through an overlay, never write to it.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.staging.disk("qcow2")
    }

    /// Size of the disk that the guest sees, bytes.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    /// The image that has the same disk, if the store has one: then there is nothing to boot and to commit.
    ///
    /// # Errors
    /// [`ImportError::Store`]: the disk cannot be read, or the caller cancelled.
    pub fn known(&self) -> Result<Option<ImageInfo>, ImportError> {
        let digest = crate::store::digest_of(&self.disk(), &self.options.cancel, &mut |_| {})?;
        Ok(self.store.get(&digest)?)
    }

    /// Makes it an image. `guest_agent` says whether the agent answered when the disk was booted.
    ///
    /// # Errors
    /// [`ImportError::Store`]; nothing is left behind then.
    pub fn commit(
        self,
        guest_agent: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<ImageInfo, ImportError> {
        progress(Progress { phase: Phase::Store, percent: 90, message: "taking the digest".into() });
        let about = Description {
            name: self.options.name,
            version: self.options.version,
            description: self.options.description,
            format: "qcow2".into(),
            virtual_size: self.virtual_size,
            source: format!("import:{}", self.format),
            guest_agent,
        };
        let info = self.store.add(self.staging, about, &self.options.cancel, &mut |_| {})?;
        let message = format!("image {} is in the store", info.digest.short());
        progress(Progress { phase: Phase::Store, percent: 100, message });
        Ok(info)
    }

    /// Gives it up, with nothing left behind; the same as dropping it.
    pub fn abort(self) {}
}

/// Copies, checks and converts a disk file, up to the decision whether it becomes an image.
///
/// # Errors
/// [`ImportError`] says what is wrong with the file, or what failed; nothing is left behind then.
pub fn import_prepare(
    file: &Path,
    format: ImportFormat,
    store: &Store,
    options: ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Prepared, ImportError> {
    for (what, got) in [("name", &options.name), ("version", &options.version)] {
        if !crate::recipe::is_word(got) {
            return Err(ImportError::Name { what, got: got.clone() });
        }
    }
    let io = |what, path: &Path| {
        let path = path.to_path_buf();
        move |source| ImportError::Io { what, path, source }
    };
    progress(Progress { phase: Phase::Check, percent: 0, message: "checking the file".into() });
    // A device or a pipe would block or never end; the answer before opening is for people, the one after counts.
    if !fs::metadata(file).map_err(io("read", file))?.is_file() {
        return Err(ImportError::NotAFile(file.into()));
    }
    let opened = File::open(file).map_err(io("open", file))?;
    let about = opened.metadata().map_err(io("read", file))?;
    if !about.is_file() {
        return Err(ImportError::NotAFile(file.into()));
    }
    // A quick answer about a bad file, before it is copied.
    check(format, &FileSource::new(opened.try_clone().map_err(io("open", file))?).map_err(io("read", file))?)
        .map_err(|reason| ImportError::Refused { path: file.into(), format, reason })?;
    check_room(store, about.len())?;

    let staging = store.stage()?;
    let folder = staging.work().join("convert");
    fs::create_dir(&folder).map_err(io("make the folder", &folder))?;
    let copy = folder.join(convert::INPUT);
    progress(Progress { phase: Phase::Disk, percent: 5, message: "copying the file".into() });
    copy_file(&opened, about.len(), &copy, &options.cancel, progress).map_err(|error| match error {
        CopyError::Cancelled => CommandError::Cancelled.into(),
        CopyError::Io(source) => io("copy", file)(source),
    })?;
    // The original may have changed meanwhile, and is not ours: what counts is what the copy says.
    let source = File::open(&copy).and_then(FileSource::new).map_err(io("open", &copy))?;
    let virtual_size = check(format, &source).map_err(|reason| ImportError::Refused {
        path: file.into(),
        format,
        reason,
    })?;

    progress(Progress { phase: Phase::Disk, percent: 45, message: "converting the disk to qcow2".into() });
    let output = convert::convert(&folder, format, virtual_size, &options.cancel)?;
    let disk = staging.disk("qcow2");
    fs::rename(&output, &disk).map_err(io("move", &output))?;
    let me = (rustix::process::geteuid(), rustix::process::getegid());
    rustix::fs::chown(&disk, Some(me.0), Some(me.1)).map_err(|errno| io("own", &disk)(errno.into()))?;
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o444)).map_err(io("set the mode of", &disk))?;
    fs::remove_dir_all(&folder).map_err(io("remove", &folder))?;
    progress(Progress { phase: Phase::Disk, percent: 90, message: "converted".into() });
    Ok(Prepared { staging, store: store.clone(), options, format, virtual_size })
}

/// Judges a disk file by its header and tables, as an import does before anything else; gives the size of the disk, bytes.
///
/// # Errors
/// What is wrong with it.
pub fn examine(format: ImportFormat, file: File) -> Result<u64, HeaderError> {
    check(format, &FileSource::new(file)?)
}

/// Size of the disk, bytes.
fn check(format: ImportFormat, source: &impl Source) -> Result<u64, HeaderError> {
    match format {
        ImportFormat::Qcow2 => qcow2::check(source),
        ImportFormat::Raw => raw::check(source),
        ImportFormat::Vmdk => vmdk::check(source),
        ImportFormat::Vhdx => vhdx::check(source),
    }
}

fn check_room(store: &Store, length: u64) -> Result<(), ImportError> {
    let path = store.dir();
    let about = rustix::fs::statvfs(path).map_err(|errno| ImportError::Io {
        what: "ask for the free space of",
        path: path.into(),
        source: errno.into(),
    })?;
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    let needed = length.saturating_mul(2).saturating_add(SPARE_ROOM);
    if free < needed {
        return Err(ImportError::NoRoom { path: path.into(), needed, free });
    }
    Ok(())
}

enum CopyError {
    Cancelled,
    Io(io::Error),
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Copies at most `length` bytes, leaving zeros out; a file that grows meanwhile does not fill the disk.
fn copy_file(
    from: &File,
    length: u64,
    to: &Path,
    cancel: &Cancel,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), CopyError> {
    use std::io::Seek;
    let mut reader = from.take(length);
    let mut writer = File::create_new(to)?;
    let mut buffer = vec![0; 1 << 20];
    let mut total: u64 = 0;
    loop {
        if cancel.is_cancelled() {
            return Err(CopyError::Cancelled);
        }
        let got = reader.read(&mut buffer)?;
        if got == 0 {
            break;
        }
        if buffer[..got].iter().all(|byte| *byte == 0) {
            writer.seek_relative(got as i64)?;
        } else {
            writer.write_all(&buffer[..got])?;
        }
        total += got as u64;
        let share = (total * 40 / length.max(1)) as u8;
        progress(Progress {
            phase: Phase::Disk,
            percent: 5 + share.min(40),
            message: "copying the file".into(),
        });
    }
    writer.set_len(total)?;
    Ok(())
}

#[cfg(test)]
mod tests;
