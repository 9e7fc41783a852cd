//! One desktop's life on this host: a task that makes its desired state so, whatever ends meanwhile.
//!
//! ```text
//!   new ──► wait for the template ──► folder, generation, disk space ──► spawn ─┐
//!   adopted ────────────────────────────────────────────────────────────────────┤
//!                                                                               ▼
//!                    ┌── process ended: spawn again (it takes its QEMU over) ── follow its status
//!                    └──────────────────────────────────────────────────────────┘   │
//!   desired absent, at any point: stop ► kill what is left ► remove the folder ◄────┘
//! ```

use crate::config::disk_free;
use crate::desktops::Shared;
use crate::templates::Availability;
use crate::{error_chain, recordings, spawn};
use lucarne_control::agent::{DesktopDesired, DesktopObserved};
use lucarne_control::desktop::{DesiredState, Endpoint, ForkTimings, Phase};
use lucarne_control::spec::{NetworkPolicy, RecordingMode};
use lucarne_desktop::config::{DesktopConfig, files};
use lucarne_desktop::control::{Command, Status};
use lucarne_qemu::Template;
use lucarne_qemu::process::{Credentials, Process};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::watch;

/// Disk space that a fork leaves free. A desktop that fills the disk would take every other desktop's writes with it.
const DISK_RESERVE: u64 = 512 << 20;

/// Longest status line accepted from a desktop process, bytes.
const MAX_STATUS: u64 = 64 << 10;

/// Starts of a desktop process that ends within [`QUICK_END`] before the desktop counts as failed.
const QUICK_ENDS: u32 = 5;
const QUICK_END: Duration = Duration::from_secs(5);

/// How long a desktop process may take to end its guest when asked, before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What the task is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wish {
    pub(crate) desired: DesktopDesired,
    /// When it was received, milliseconds since the epoch.
    pub(crate) received_ms: f64,
}

pub(crate) struct DesktopTask {
    pub(crate) shared: Arc<Shared>,
    /// Told what becomes of it.
    pub(crate) report: Box<dyn Fn(DesktopObserved) + Send + Sync>,
    pub(crate) wish: watch::Receiver<Wish>,
    pub(crate) dir: PathBuf,
    /// Its folder was there when the agent started.
    pub(crate) adopted: bool,
}

pub(crate) fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}

/// Waits until the desktop is not wanted any more.
async fn unwanted(mut wish: watch::Receiver<Wish>) {
    // The sender goes when the agent ends, which is not the same as not being wanted.
    if wish.wait_for(|w| w.desired.state == DesiredState::Absent).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl DesktopTask {
    /// Runs until the desktop is gone with its data.
    pub(crate) async fn run(mut self) {
        let absent = unwanted(self.wish.clone());
        tokio::select! {
            biased;
            () = absent => {}
            () = self.live() => unreachable!("a desktop's life ends only by not being wanted"),
        }
        self.destroy().await;
    }

    fn observe(&self, phase: Phase, detail: impl Into<String>, endpoint: bool, timings: ForkTimings) {
        let (desktop, generation) = {
            let wish = self.wish.borrow();
            (wish.desired.desktop, wish.desired.generation)
        };
        let endpoint = endpoint.then(|| Endpoint::Unix {
            path: self.dir.join(files::DISPLAY_SOCKET).to_string_lossy().into_owned(),
        });
        (self.report)(DesktopObserved {
            desktop,
            generation,
            wish: 0,
            phase,
            detail: detail.into(),
            endpoint,
            timings,
        });
    }

    /// Never returns: a failed desktop is reported and kept until it is not wanted.
    async fn live(&mut self) {
        if !self.adopted
            && let Err(why) = self.prepare().await
        {
            tracing::error!(desktop = %self.wish.borrow().desired.desktop, %why, "a desktop could not be made");
            self.observe(Phase::Failed, why, false, ForkTimings::default());
            return std::future::pending().await;
        }
        let why = self.keep_running().await;
        tracing::error!(desktop = %self.wish.borrow().desired.desktop, %why, "a desktop is given up");
        self.observe(Phase::Failed, why, false, ForkTimings::default());
        std::future::pending().await
    }

    /// Waits for the template and writes everything that the desktop process needs.
    async fn prepare(&self) -> Result<(), String> {
        let Wish { desired, received_ms } = self.wish.borrow().clone();
        let template = self.wait_template(&desired).await?;
        let free = disk_free(&self.shared.desktops_dir);
        if free < DISK_RESERVE {
            return Err(format!(
                "the disk of {} is full: {} MiB are free and {} must be; remove what is not needed there or choose \
                 another --data-dir",
                self.shared.desktops_dir.display(),
                free >> 20,
                DISK_RESERVE >> 20
            ));
        }
        let config = DesktopConfig {
            desktop: desired.desktop,
            generation: desired.generation,
            identity: desired.identity.clone(),
            network: if self.shared.confined { desired.network } else { NetworkPolicy::None },
            audio: desired.audio,
            clipboard: desired.clipboard,
            template: template.dir.clone(),
            qemu: self.shared.qemu.path.clone(),
            qemu_version: self.shared.qemu.version.clone(),
            accel: self.shared.accel,
            requested_at_ms: received_ms,
            recording: desired.recording,
            pool: desired.pool,
        };
        let credentials = self.shared.slots.take();
        let made = self.write_folder(&config, credentials.as_ref());
        if let (Err(_), Some(credentials)) = (&made, &credentials) {
            let _ = std::fs::remove_dir_all(&self.dir);
            self.shared.slots.give_back(credentials);
        }
        made.map_err(|e| format!("the desktop's folder {} cannot be made: {e}", self.dir.display()))
    }

    async fn wait_template(&self, desired: &DesktopDesired) -> Result<Arc<Template>, String> {
        let mut available = self.shared.templates.want(&desired.template);
        loop {
            let now = available.borrow_and_update().clone();
            match now {
                Availability::Ready(template) => return Ok(template),
                Availability::Failed(why) => return Err(format!("its template could not be made: {why}")),
                Availability::Building(what) => {
                    self.observe(
                        Phase::Preparing,
                        format!("its template is being made: {what}"),
                        false,
                        ForkTimings::default(),
                    );
                }
            }
            if available.changed().await.is_err() {
                return Err("its template is no longer wanted".into());
            }
        }
    }

    fn write_folder(&self, config: &DesktopConfig, owner: Option<&Credentials>) -> io::Result<()> {
        std::fs::create_dir(&self.dir)?;
        std::fs::set_permissions(&self.dir, std::fs::Permissions::from_mode(0o700))?;
        let text = serde_json::to_vec_pretty(config)?;
        let mut file = std::fs::File::create(self.dir.join(files::CONFIG))?;
        file.write_all(&text)?;
        // The generation must be on the disk before anything runs: a restarted agent refuses lower ones by it.
        file.sync_all()?;
        std::fs::File::open(&self.dir)?.sync_all()?;
        if let Some(owner) = owner {
            for path in [self.dir.join(files::CONFIG), self.dir.clone()] {
                std::os::unix::fs::chown(path, Some(owner.id), Some(owner.id))?;
            }
        }
        Ok(())
    }

    /// Starts the desktop process, follows it, and starts it again when it ends; gives up with a reason.
    async fn keep_running(&self) -> String {
        let mut quick_ends = 0;
        let mut process = match UnixStream::connect(self.dir.join(files::CONTROL_SOCKET)).await {
            Ok(stream) => Some((stream, None)),
            Err(_) => None,
        };
        loop {
            let began = std::time::Instant::now();
            let (stream, child) = match process.take() {
                Some(adopted) => adopted,
                None => match self.spawn().await {
                    Ok((stream, child)) => (stream, Some(child)),
                    Err(error) => return format!("its desktop process could not be started: {error}"),
                },
            };
            let end = self.follow(stream).await;
            if let Some(mut child) = child {
                let _ = child.wait().await;
            }
            quick_ends = if began.elapsed() < QUICK_END { quick_ends + 1 } else { 0 };
            if quick_ends >= QUICK_ENDS {
                return format!(
                    "its desktop process ended {QUICK_ENDS} times at once: {}",
                    self.last_words()
                );
            }
            tracing::warn!(desktop = %self.wish.borrow().desired.desktop, ?end, "a desktop process ended; it is started again");
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join(files::LOG)).unwrap_or_default();
        text.lines().last().unwrap_or("it logged nothing").to_owned()
    }

    async fn spawn(&self) -> io::Result<(UnixStream, tokio::process::Child)> {
        let _turn = self.shared.starts.acquire().await;
        let credentials = self.shared.slots.of_dir(&self.dir);
        let recording = self.recording();
        let (program, credentials) = (&self.shared.program, credentials.as_ref());
        let child = spawn::desktop_process(program, &self.dir, credentials, recording)?;
        let stream = UnixStream::connect(self.dir.join(files::CONTROL_SOCKET)).await?;
        Ok((stream, child))
    }

    /// The file that the desktop process records to, if it is to. Without one, what its policy says is for the process to do.
    fn recording(&self) -> Option<std::os::fd::OwnedFd> {
        let (desktop, policy) = {
            let wish = self.wish.borrow();
            (wish.desired.desktop, wish.desired.recording)
        };
        if policy.mode == RecordingMode::Off {
            return None;
        }
        let made = recordings::create(&self.shared.recordings_dir, desktop);
        made.inspect_err(|error| tracing::error!(%desktop, %error, "a recording's file cannot be made"))
            .map(Into::into)
            .ok()
    }

    /// Reports what the desktop process says, until it says no more.
    async fn follow(&self, stream: UnixStream) -> io::Result<()> {
        let mut lines = BufReader::new(stream);
        loop {
            let Some(status) = read_status(&mut lines).await? else { return Ok(()) };
            let phase = match status.phase {
                // Ended without being asked: the data is still here, so it is not `stopped` for the control plane.
                Phase::Stopped | Phase::Stopping => Phase::Failed,
                other => other,
            };
            self.observe(phase, status.detail, status.picture && phase != Phase::Failed, status.timings);
        }
    }

    /// Ends the guest, makes sure of it, and removes its data.
    async fn destroy(&self) {
        let desktop = self.wish.borrow().desired.desktop;
        self.observe(Phase::Stopping, "", false, ForkTimings::default());
        if let Err(error) = tokio::time::timeout(STOP_LIMIT, self.ask_to_stop())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        {
            tracing::debug!(%desktop, %error, "the desktop process could not be asked to stop");
        }
        kill_desktop_process(&self.dir).await;
        if let Some(left) = Process::adopt(&self.dir) {
            left.kill().await;
        }
        let credentials = self.shared.slots.of_dir(&self.dir);
        loop {
            match std::fs::remove_dir_all(&self.dir) {
                Ok(()) => break,
                Err(e) if e.kind() == io::ErrorKind::NotFound => break,
                Err(error) => {
                    // Data of a user is still there: the desktop is not reported as gone until it is.
                    tracing::error!(%desktop, dir = %self.dir.display(), %error, "a desktop's data cannot be removed");
                    let why = format!("its data cannot be removed: {error}");
                    self.observe(Phase::Stopping, why, false, ForkTimings::default());
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
            }
        }
        if let Some(credentials) = credentials {
            self.shared.slots.give_back(&credentials);
        }
        recordings::forget_empty(&self.shared.recordings_dir, desktop);
        tracing::info!(%desktop, "a desktop is gone with its data");
        self.observe(Phase::Stopped, "", false, ForkTimings::default());
    }

    async fn ask_to_stop(&self) -> io::Result<()> {
        let stream = UnixStream::connect(self.dir.join(files::CONTROL_SOCKET)).await?;
        let mut lines = BufReader::new(stream);
        let mut command = serde_json::to_vec(&Command::Stop)?;
        command.push(b'\n');
        lines.get_mut().write_all(&command).await?;
        while let Some(status) = read_status(&mut lines).await? {
            if status.phase == Phase::Stopped {
                return Ok(());
            }
        }
        Ok(())
    }
}

async fn read_status(lines: &mut BufReader<UnixStream>) -> io::Result<Option<Status>> {
    use tokio::io::AsyncReadExt;
    let mut line = Vec::new();
    let read = lines.take(MAX_STATUS).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(io::Error::from)
}

/// Kills every process that runs `desktop --dir dir`; there is at most one.
async fn kill_desktop_process(dir: &Path) {
    let Some(pid) = find_desktop_process(dir) else { return };
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return };
    let Ok(fd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    // Between the look and the open the number may have been given to another process: look again.
    if find_desktop_process(dir) != Some(pid.as_raw_nonzero().get()) {
        return;
    }
    let _ = rustix::process::pidfd_send_signal(&fd, rustix::process::Signal::KILL);
    let _ = tokio::task::spawn_blocking(move || {
        let mut poll = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        rustix::event::poll(&mut poll, Some(&limit)).map(|_| ())
    })
    .await;
}

fn find_desktop_process(dir: &Path) -> Option<i32> {
    let wanted = dir.to_string_lossy();
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let mut args = line.split(|b| *b == 0).skip(1);
        let matches =
            args.next()? == b"desktop" && args.next()? == b"--dir" && args.next()? == wanted.as_bytes();
        matches.then_some(pid)
    })
}

pub(crate) fn read_config(dir: &Path) -> Result<DesktopConfig, String> {
    let path = dir.join(files::CONFIG);
    let text = std::fs::read(&path).map_err(|e| format!("{}: {}", path.display(), error_chain(&e)))?;
    serde_json::from_slice(&text).map_err(|e| format!("{}: {}", path.display(), error_chain(&e)))
}
