//! What the agent is told, and the folders that it keeps.

use crate::AgentError;
use crate::accel::AccelChoice;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Longest path of the agent's folder, bytes: below it `desktops/<36>/display.sock` must fit the 107 bytes of a Unix
/// socket's path (unix(7)).
const MAX_DIR: usize = 107 - "/desktops//display.sock".len() - 36;

/// What the agent is told.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Its folder, absolute: images, templates and desktops are below it.
    pub dir: PathBuf,
    /// The broker's socket for agents.
    pub broker_socket: PathBuf,
    /// The host's name in the deployment.
    pub host: String,
    /// Which accelerator to use.
    pub accel: AccelChoice,
    /// The program that is started with `desktop --dir …` for each desktop: this one.
    pub program: PathBuf,
}

impl AgentConfig {
    pub(crate) fn check(&self) -> Result<(), AgentError> {
        let length = self.dir.as_os_str().len();
        if length > MAX_DIR {
            return Err(AgentError::PathTooLong(format!(
                "the host's folder {} is {length} bytes long; it must be at most {MAX_DIR}, because Unix sockets \
                 below it cannot have longer paths: choose a shorter --data-dir",
                self.dir.display()
            )));
        }
        Ok(())
    }

    /// The image store.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.dir.join("images")
    }

    /// The templates.
    #[must_use]
    pub fn templates(&self) -> PathBuf {
        self.dir.join("templates")
    }

    /// The desktops' folders.
    #[must_use]
    pub fn desktops(&self) -> PathBuf {
        self.dir.join("desktops")
    }
}

/// Creates a folder that unprivileged desktops may pass through.
pub(crate) fn create_public_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)
}

/// `name:` of /proc/meminfo, in bytes (proc_meminfo(5)).
fn meminfo(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|l| {
            l.strip_prefix(name)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.trim().parse().ok()
        })
        .map_or(0, |kib: u64| kib * 1024)
}

pub(crate) fn memory_total_mib() -> u64 {
    meminfo("MemTotal") >> 20
}

pub(crate) fn memory_available() -> u64 {
    meminfo("MemAvailable")
}

/// Bytes that are free for us on the disk of `path`; 0 when that cannot be told.
pub(crate) fn disk_free(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |s| s.f_bavail * s.f_frsize)
}
