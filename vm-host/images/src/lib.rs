//! Golden images: recipes and their builder, import of foreign disk files, and the content-addressed store.
//!
//! An image is a disk file that never changes, known by its sha256. Everything here is blocking; callers with an
//! executor run it on a thread of their own. This crate starts `mmdebstrap` and `qemu-img`, but knows nothing of virtual
//! machines: booting an image, to judge it, is its callers' work.

pub mod build;
mod command;
pub mod import;
pub mod recipe;
pub mod store;

pub use build::{BuildError, BuildOptions, build, today};
pub use command::{Cancel, CommandError};
pub use import::{ImportError, ImportFormat, ImportOptions, Prepared, import_prepare};
pub use recipe::{Recipe, RecipeError};
pub use store::{Staging, Store, StoreError};

/// How far a build or an import is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Of the whole work, from 0 to 100; never falls.
    pub percent: u8,
    /// One line for people.
    pub message: String,
}

/// The parts of a build or an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Tools, room on the disk, the file's header.
    Check,
    /// Packages are downloaded and installed.
    Packages,
    /// Files, user, services, boot loader.
    Configure,
    /// The file system and the disk are written.
    Disk,
    /// The digest is taken and the image moved into the store.
    Store,
}

impl Phase {
    /// The word for people and for structured output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Check => "check",
            Phase::Packages => "packages",
            Phase::Configure => "configure",
            Phase::Disk => "disk",
            Phase::Store => "store",
        }
    }
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
