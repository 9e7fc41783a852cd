//! What the agent is told, and the folders that it keeps.

use crate::AgentError;
use crate::accel::AccelChoice;
use lucarne_relay::Identity;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Longest path of the agent's folder, bytes: below it `desktops/<36>/display.sock` must fit the 107 bytes of a Unix
/// socket's path (unix(7)).
const MAX_DIR: usize = 107 - "/desktops//display.sock".len() - 36;

/// The route to a broker.
#[derive(Clone, Debug)]
pub enum Route {
    /// On this machine.
    Here {
        /// The broker's socket for agents.
        socket: PathBuf,
        /// The host's name in the deployment.
        host: String,
    },
    /// By the network, as the host that was enrolled.
    Network {
        /// Who it is.
        identity: Identity,
        /// Where the relay takes gateways' connections.
        listen: SocketAddr,
        /// The name or IP address by which gateways reach it; that from which the agent comes when left out.
        address: Option<String>,
    },
}

impl Route {
    /// The host's name in the deployment.
    #[must_use]
    pub fn host(&self) -> &str {
        match self {
            Self::Here { host, .. } => host,
            Self::Network { identity, .. } => &identity.about.name,
        }
    }
}

/// What the agent is told.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Its folder, absolute: images, templates and desktops are below it.
    pub dir: PathBuf,
    /// The route to a broker.
    pub route: Route,
    /// Which accelerator to use.
    pub accel: AccelChoice,
    /// Where metrics, `/healthz` and `/readyz` are served, as plain HTTP without a sign-in; nowhere when left out.
    pub metrics_listen: Option<SocketAddr>,
    /// The same for the relay of an enrolled host.
    pub relay_metrics_listen: Option<SocketAddr>,
    /// Desktops that are started at once at most; none is twice the processors, for more only make each slower.
    pub max_starting: Option<u32>,
    /// This program's path. It is started with `desktop --dir …` for each desktop, as that desktop's user.
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
        check_passable(&self.dir)?;
        check_executable(&self.program)
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

    /// What was recorded of desktops.
    #[must_use]
    pub fn recordings(&self) -> PathBuf {
        self.dir.join("recordings")
    }

    /// The desktops' folders.
    #[must_use]
    pub fn desktops(&self) -> PathBuf {
        self.dir.join("desktops")
    }

    /// Users' disks that no desktop has.
    #[must_use]
    pub fn homes(&self) -> PathBuf {
        self.dir.join("homes")
    }

    /// What desktops are to be made of that are not whole yet.
    #[must_use]
    pub fn clones(&self) -> PathBuf {
        self.dir.join("clones")
    }

    pub(crate) fn relay_lock(&self) -> PathBuf {
        self.dir.join("relay.json")
    }

    pub(crate) fn relay_log(&self) -> PathBuf {
        self.dir.join("relay.log")
    }
}

fn others_may_execute(path: &Path) -> bool {
    // Only root starts desktops as others. What cannot be looked at is not there yet, and is made so that they may.
    !rustix::process::geteuid().is_root()
        || std::fs::metadata(path).map_or(true, |about| about.permissions().mode() & 0o001 != 0)
}

/// Checks that desktops' users, which own nothing of it, can get into a folder that is there or is yet to be made.
///
/// # Errors
/// Names the folder that keeps them out, and what to do.
pub fn check_passable(dir: &Path) -> Result<(), AgentError> {
    match dir.ancestors().find(|folder| !others_may_execute(folder)) {
        None => Ok(()),
        Some(closed) => Err(AgentError::Closed(format!(
            "only its owner may enter {closed}, and every desktop runs as a user of its own that must get to {dir}: choose \
             another --data-dir, or let others pass with `chmod o+x {closed}`",
            closed = closed.display(),
            dir = dir.display()
        ))),
    }
}

fn check_executable(program: &Path) -> Result<(), AgentError> {
    if others_may_execute(program) {
        return Ok(());
    }
    Err(AgentError::Closed(format!(
        "only its owner may run {program}, and every desktop runs it as a user of its own: `chmod o+rx {program}`",
        program = program.display()
    )))
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
