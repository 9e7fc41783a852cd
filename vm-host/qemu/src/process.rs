//! Starting QEMU so that it outlives its starter, and ending it for certain.

use crate::command::{Machine, files};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Address space beyond the guest's memory that QEMU may map: translated code, threads' stacks, libraries, video
/// memory. Measured at under 2 GiB; a runaway QEMU ends at this instead of taking the host.
const ADDRESS_SPACE_SLACK: u64 = 6 << 30;

/// Descriptors that QEMU may hold. It uses about 60.
const OPEN_FILES: u64 = 1024;

/// Why QEMU could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program could not be run, or its log not be opened.
    #[error("QEMU could not be started in {dir}")]
    Spawn {
        /// The desktop's folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended at once.
    #[error("QEMU ended right after its start: {0}")]
    Ended(String),
}

/// The identity that a process gives up root for. Each desktop has its own, so that no desktop's QEMU can touch the
/// files or processes of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User and group id.
    pub id: u32,
    /// Supplementary groups: the one that may use `/dev/kvm`, where KVM is used.
    pub groups: Vec<u32>,
}

impl Credentials {
    /// Makes `command` run with these credentials, unable to gain others.
    pub fn apply(&self, command: &mut Command) {
        use rustix::process::{Gid, Uid};
        let (uid, gid) = (Uid::from_raw(self.id), Gid::from_raw(self.id));
        let groups: Vec<Gid> = self.groups.iter().map(|g| Gid::from_raw(*g)).collect();
        // SAFETY: only async-signal-safe system calls between fork and exec, on memory allocated before.
        unsafe {
            command.pre_exec(move || {
                rustix::thread::set_thread_groups(&groups)?;
                rustix::thread::set_thread_res_gid(gid, gid, gid)?;
                rustix::thread::set_thread_res_uid(uid, uid, uid)?;
                rustix::thread::set_no_new_privs(true)?;
                Ok(())
            });
        }
    }
}

/// A running QEMU, ours by birth or by adoption.
pub struct Process {
    dir: PathBuf,
    pid: Pid,
    pidfd: AsyncFd<rustix::fd::OwnedFd>,
    kill_on_drop: bool,
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.kill_on_drop {
            // It may have ended already, and there is nobody to tell if it cannot be killed.
            let _ = rustix::process::pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
        }
    }
}

fn last_log_lines(dir: &Path) -> String {
    let text = std::fs::read_to_string(dir.join(files::LOG)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    let said: Vec<&str> = lines.into_iter().rev().collect();
    if said.is_empty() { "it printed nothing".into() } else { said.join("; ") }
}

impl Process {
    /// Starts QEMU in `dir`, in a session of its own, and waits until its control socket is there.
    ///
    /// # Errors
    /// When it cannot be started or ends before it listens; its last words are in the error.
    pub async fn start(
        machine: &Machine<'_>,
        dir: &Path,
        credentials: Option<&Credentials>,
    ) -> Result<Self, StartError> {
        let spawn = |source| StartError::Spawn { dir: dir.into(), source };
        for stale in [files::QMP, files::GUEST_AGENT, files::IDENTITY, files::VDAGENT, files::PID] {
            match std::fs::remove_file(dir.join(stale)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(spawn(e)),
                _ => {}
            }
        }
        let log = File::create(dir.join(files::LOG)).map_err(spawn)?;
        let mut command = Command::new(&machine.qemu.path);
        command
            .args(machine.arguments())
            .current_dir(dir)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            // glibc gives each thread an arena; QEMU's many short-lived threads would keep memory in them.
            .env("MALLOC_ARENA_MAX", "2")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(spawn)?)
            .stderr(log);
        let address_space = (u64::from(machine.shape.memory_mib) << 20) + ADDRESS_SPACE_SLACK;
        // SAFETY: only async-signal-safe system calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                rustix::process::setsid()?;
                limit(rustix::process::Resource::As, address_space)?;
                limit(rustix::process::Resource::Nofile, OPEN_FILES)?;
                limit(rustix::process::Resource::Core, 0)?;
                Ok(())
            });
        }
        if let Some(credentials) = credentials {
            credentials.apply(&mut command);
        }
        let mut child = command.spawn().map_err(spawn)?;
        let pid = Pid::from_child(&child);
        let process = Self::attach(dir, pid).map_err(spawn)?;
        // Whoever starts a child must collect it; after an adoption init does.
        std::thread::Builder::new()
            .name("qemu-reaper".into())
            .stack_size(64 << 10)
            .spawn(move || {
                let _ = child.wait();
            })
            .map_err(spawn)?;
        let socket = dir.join(files::QMP);
        loop {
            if socket.exists() {
                return Ok(process);
            }
            // QEMU has no way of saying "I listen now" to a parent that does not share its end of a socket.
            match tokio::time::timeout(Duration::from_millis(1), process.ended()).await {
                Ok(()) => return Err(StartError::Ended(last_log_lines(dir))),
                Err(_) => continue,
            }
        }
    }

    /// Takes over the QEMU that runs in `dir`; `None` if none does.
    #[must_use]
    pub fn adopt(dir: &Path) -> Option<Self> {
        let pid: i32 = std::fs::read_to_string(dir.join(files::PID)).ok()?.trim().parse().ok()?;
        // A number may have been given to another process since: only one that works in this folder is ours.
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        if cwd != dir.canonicalize().ok()? {
            return None;
        }
        Self::attach(dir, Pid::from_raw(pid)?).ok()
    }

    fn attach(dir: &Path, pid: Pid) -> io::Result<Self> {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        // SAFETY: the descriptor is owned by the `AsyncFd`, which never lends it out to be closed or replaced.
        let pidfd = unsafe { AsyncFd::register(pidfd)? };
        Ok(Self { dir: dir.into(), pid, pidfd, kill_on_drop: false })
    }

    /// Ends it with this value: for work that may be abandoned half-way.
    #[must_use]
    pub fn kill_on_drop(mut self) -> Self {
        self.kill_on_drop = true;
        self
    }

    /// Waits until it has ended.
    pub async fn ended(&self) {
        // A pidfd becomes readable when its process ends (pidfd_open(2)), and stays so.
        if let Ok(mut guard) = self.pidfd.readable().await {
            guard.retain_ready();
        }
    }

    /// Its last words, for an error message.
    #[must_use]
    pub fn last_words(&self) -> String {
        last_log_lines(&self.dir)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Ends it at once and waits until it has ended.
    pub async fn kill(&self) {
        match rustix::process::pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => self.ended().await,
            Err(error) => tracing::error!(pid = self.pid(), %error, "QEMU could not be killed"),
        }
    }

    /// Processor time that it has used so far, all threads (proc_pid_stat(5), fields 14 and 15).
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
    }
}

fn limit(resource: rustix::process::Resource, value: u64) -> io::Result<()> {
    let limit = rustix::process::Rlimit { current: Some(value), maximum: Some(value) };
    rustix::process::setrlimit(resource, limit).map_err(io::Error::from)
}
