//! Why a desktop process ends other than by being told to.

use std::io;
use std::path::PathBuf;

/// Why a desktop process cannot start or go on. What happens to its guest is not here: that is told to the host agent
/// as the phase `failed`, and the process goes on.
#[derive(Debug, thiserror::Error)]
pub enum DesktopError {
    /// The folder.
    #[error("the desktop's folder {dir} cannot be used")]
    Folder {
        /// Which.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// `desktop.json` cannot be read.
    #[error("the desktop's configuration {path} cannot be read")]
    ReadConfig {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// `desktop.json` or `done.json` is not what it should be.
    #[error("{path} is not valid; the host agent writes it, nothing else should")]
    BadFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// `done.json` could not be written, so a step that must not be repeated cannot be started.
    #[error(
        "{path} cannot be written; without it a restart could run this desktop twice (is the disk full?)"
    )]
    WriteDone {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The layers of its disk are not in order.
    #[error("the snapshots in {dir} cannot be brought back in order")]
    Snapshots {
        /// The desktop's folder.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: Box<lucarne_qemu::snapshot::SnapshotError>,
    },
    /// A descriptor that should have been inherited is something else, or nothing.
    #[error(
        "descriptor {descriptor} is not what {name} should be; a desktop process is started by the host agent, which \
         passes sockets that listen and files that are appended to"
    )]
    NotInherited {
        /// Its number.
        descriptor: i32,
        /// What it should be.
        name: &'static str,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// A socket or a process setting.
    #[error("{what}")]
    System {
        /// What could not be done.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl DesktopError {
    /// For `map_err`: names the step that failed.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// An error with everything that caused it, for a person: `outer: middle: inner`.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        // Transparent wrappers repeat what they wrap.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}
