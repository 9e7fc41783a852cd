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
//!
//! A desktop that persists is powered off and on by later wishes ([`crate::power`]); what ends its guest leaves it off.

use crate::config::disk_free;
use crate::desktop_process::{ask_to_end, connect, kill_all, read_status};
use crate::desktops::Shared;
use crate::homes::{Attached, Refused};
use crate::origins::Noted;
use crate::templates::Availability;
use crate::{folder, recordings, spawn};
use lucarne_control::agent::{DesktopDesired, DesktopObserved};
use lucarne_control::desktop::{DesiredState, Endpoint, ForkTimings, Phase};
use lucarne_control::spec::{NetworkPolicy, RecordingMode};
use lucarne_desktop::config::{DesktopConfig, Home, files};
use lucarne_desktop::control::Command;
use lucarne_qemu::Template;
use lucarne_qemu::process::Process;
use lucarne_qemu::suspend::is_suspended;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::sync::watch;

/// Disk space that a fork leaves free. A desktop that fills the disk would take every other desktop's writes with it.
pub(crate) const DISK_RESERVE: u64 = 512 << 20;

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
    /// The agent ends, and nothing of it is to run on. That is nobody's wish: what persists is powered off, and kept.
    pub(crate) parting: bool,
}

/// How following a desktop came to its end, short of the desktop's.
pub(crate) enum Over {
    /// It persists, and is off or suspended in this way.
    AtRest(Phase, String),
    /// It does not run and is not tried again, for this reason.
    GivenUp(String),
}

/// What a desktop process has said until it said no more.
#[derive(Default)]
struct Said {
    /// Its guest was up.
    up: bool,
    /// The guest is off or suspended in this way, and its disk is kept.
    at_rest: Option<(Phase, String)>,
}

pub(crate) struct DesktopTask {
    pub(crate) shared: Arc<Shared>,
    /// Told what becomes of it.
    pub(crate) report: Box<dyn Fn(DesktopObserved) + Send + Sync>,
    pub(crate) wish: watch::Receiver<Wish>,
    /// The wish that is acted on, which everything that is reported is about.
    pub(crate) now: Wish,
    pub(crate) dir: PathBuf,
    /// Its folder is there, as it was when the agent started or has been made since.
    pub(crate) has_folder: bool,
    /// The wish that is acted on is on the disk.
    pub(crate) kept: bool,
    /// Why it was not put back to a snapshot for this wish, when it was to be.
    pub(crate) not_back: Option<String>,
}

pub(crate) fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}

/// Waits until the desktop is not wanted any more, or not while there is no agent.
async fn unwanted(mut wish: watch::Receiver<Wish>) {
    // The sender goes when the agent ends, which is not the same as not being wanted.
    if wish.wait_for(|w| w.desired.state == DesiredState::Absent || w.parting).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl DesktopTask {
    /// Runs until the desktop is gone with its data, or is off where the agent ends.
    pub(crate) async fn run(mut self) {
        let absent = unwanted(self.wish.clone());
        tokio::select! {
            biased;
            () = absent => {}
            () = self.live() => unreachable!("a desktop's life ends only by not being wanted"),
        }
        let parting = self.wish.borrow().desired.state != DesiredState::Absent;
        if parting && self.is_kept() {
            // It may just be being resumed, by a process that runs on.
            if connect(&self.dir).await.is_ok() || !self.is_suspended() {
                self.switch_off().await;
            }
        } else {
            self.destroy().await;
        }
    }

    /// Whether it has a disk that outlives its guest.
    pub(crate) fn is_kept(&self) -> bool {
        self.now.desired.persistent && self.has_folder && lucarne_desktop::is_made(&self.dir)
    }

    pub(crate) fn observe(
        &self,
        phase: Phase,
        detail: impl Into<String>,
        endpoint: bool,
        timings: ForkTimings,
    ) {
        let DesktopDesired { desktop, generation, wish, .. } = self.now.desired;
        let mut detail = detail.into();
        if let Some(why) = self.not_back.clone().filter(|_| phase == Phase::Ready || phase.is_at_rest()) {
            detail = why;
        }
        let endpoint = endpoint.then(|| Endpoint::Unix {
            path: self.dir.join(files::DISPLAY_SOCKET).to_string_lossy().into_owned(),
        });
        (self.report)(DesktopObserved { desktop, generation, wish, phase, detail, endpoint, timings });
    }

    /// Never returns: a failed desktop is reported and kept until it is not wanted.
    async fn live(&mut self) {
        loop {
            let outdated = self.is_outdated();
            let made = tokio::select! {
                biased;
                () = outdated => {
                    self.later_wish().await;
                    continue;
                }
                made = self.prepare() => made,
            };
            if let Err(why) = made {
                tracing::error!(desktop = %self.now.desired.desktop, %why, "a desktop could not be made");
                self.observe(Phase::Failed, why, false, ForkTimings::default());
            } else {
                self.go_back().await;
                let at_rest = match self.now.desired.state {
                    DesiredState::Off => {
                        self.keep_off().await;
                        true
                    }
                    DesiredState::Suspended => self.keep_suspended().await,
                    DesiredState::Running | DesiredState::Absent => false,
                };
                if !at_rest {
                    self.keep_on().await;
                }
            }
            self.later_wish().await;
        }
    }

    /// Follows what runs until there is a later wish, or it does not run any more; that is reported.
    async fn keep_on(&mut self) {
        let later = self.is_outdated();
        let over = tokio::select! {
            biased;
            () = later => return,
            over = self.keep_running() => over,
        };
        let why = match over {
            Over::AtRest(phase, how) => {
                tracing::info!(desktop = %self.now.desired.desktop, phase = phase.as_str(), how, "a desktop is at rest");
                return self.observe(phase, how, false, ForkTimings::default());
            }
            Over::GivenUp(why) => why,
        };
        tracing::error!(desktop = %self.now.desired.desktop, %why, "a desktop is given up");
        if self.is_kept() {
            // What is off has neither processes nor memory.
            kill_all(&self.dir).await;
            let phase = if is_suspended(&self.dir) { Phase::Suspended } else { Phase::Off };
            self.observe(phase, why, false, ForkTimings::default());
        } else {
            self.observe(Phase::Failed, why, false, ForkTimings::default());
        }
    }

    /// Puts everything into its folder that the desktop process needs, unless that is there.
    async fn prepare(&mut self) -> Result<(), String> {
        let adopted = self.has_folder;
        if !adopted {
            self.make_folder().await?;
        }
        self.attach_home(adopted).await?;
        self.copy_origin().await
    }

    /// Takes its user's disk for it, once no other desktop has that.
    async fn attach_home(&self, adopted: bool) -> Result<(), String> {
        let DesktopDesired { desktop, home: Some(home), .. } = self.now.desired else { return Ok(()) };
        if adopted {
            return match self.shared.homes.held_by(desktop) {
                Some(_) => Ok(()),
                // Its folder alone says that it is to have it.
                None => Err("the host's agent ended before it had its home disk; connect again".to_owned()),
            };
        }
        let owner = self.shared.slots.of_dir(&self.dir);
        loop {
            let freed = self.shared.homes.freed();
            tokio::pin!(freed);
            // What is freed from here on is not missed.
            freed.as_mut().enable();
            match self.shared.homes.attach(desktop, home, owner.as_ref()) {
                Ok(Attached { path, fresh }) => {
                    let mut config = folder::read_config(&self.dir)?;
                    config.home = Some(Home { disk: home.disk, path, fresh });
                    return folder::write_config(&self.dir, &config, owner.as_ref())
                        .map_err(|e| format!("its description in {}: {e}", self.dir.display()));
                }
                Err(Refused::Not(why)) => return Err(why),
                Err(Refused::Held(other)) => {
                    let why = format!("its home disk is still in the desktop {other}, which ends");
                    self.observe(Phase::Preparing, why, false, ForkTimings::default());
                }
            }
            freed.await;
        }
    }

    /// Gives its user's disk back, now that nothing of it runs any more; waits until that is done.
    async fn detach_home(&self) {
        let desktop = self.now.desired.desktop;
        while let Err(error) = self.shared.homes.detach(desktop) {
            tracing::error!(%desktop, %error, "a home disk cannot be taken from its desktop");
            let why = format!("its home disk cannot be taken from it: {error}");
            self.observe(Phase::Stopping, why, false, ForkTimings::default());
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }

    /// Waits for the template, and makes the folder with the desktop's description.
    async fn make_folder(&mut self) -> Result<(), String> {
        let Wish { desired, received_ms, .. } = self.now.clone();
        let template = match desired.state {
            // It is waited for when it is started.
            DesiredState::Off | DesiredState::Suspended => self.shared.templates.folder(&desired.template),
            // What it is cloned from has one.
            _ if desired.origin.is_some() => self.shared.templates.folder(&desired.template),
            _ => self.wait_template(&desired).await?.dir.clone(),
        };
        self.check_disk()?;
        let config = DesktopConfig {
            desktop: desired.desktop,
            generation: desired.generation,
            identity: desired.identity.clone(),
            network: self.network(),
            audio: desired.audio,
            clipboard: desired.clipboard,
            template,
            qemu: self.shared.qemu.path.clone(),
            qemu_version: self.shared.qemu.version.clone(),
            accel: self.shared.accel,
            requested_at_ms: received_ms,
            recording: desired.recording,
            pool: desired.pool,
            persistent: desired.persistent,
            wish: desired.wish,
            state: desired.state,
            start: desired.wish,
            back_to: None,
            origin: desired.origin,
            // Until it has it, that it is to.
            home: desired.home.map(|home| Home {
                disk: home.disk,
                path: self.shared.homes.path(home.disk),
                fresh: false,
            }),
        };
        if let Some(origin) = desired.origin {
            let noted = Noted { origin, template: desired.template.clone() };
            let kept = self.shared.origins.begin(desired.desktop, &noted);
            kept.map_err(|e| format!("what it is cloned from cannot be noted: {e}"))?;
        }
        let credentials = self.shared.slots.take();
        let made = folder::make(&self.dir, &config, credentials.as_ref());
        if let (Err(_), Some(credentials)) = (&made, &credentials) {
            let _ = std::fs::remove_dir_all(&self.dir);
            self.shared.slots.give_back(credentials);
        }
        made.map_err(|e| format!("the desktop's folder {} cannot be made: {e}", self.dir.display()))?;
        (self.has_folder, self.kept) = (true, true);
        Ok(())
    }

    /// What it may reach: nothing where nothing keeps guests off this machine's own network.
    pub(crate) fn network(&self) -> NetworkPolicy {
        if self.shared.confined { self.now.desired.network } else { NetworkPolicy::None }
    }

    /// Whether there is room for what a guest writes.
    pub(crate) fn check_disk(&self) -> Result<(), String> {
        let free = disk_free(&self.shared.desktops_dir);
        if free >= DISK_RESERVE {
            return Ok(());
        }
        Err(format!(
            "the disk of {} is full: {} MiB are free and {} must be; remove what is not needed there or choose \
             another --data-dir",
            self.shared.desktops_dir.display(),
            free >> 20,
            DISK_RESERVE >> 20
        ))
    }

    pub(crate) async fn wait_template(&self, desired: &DesktopDesired) -> Result<Arc<Template>, String> {
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

    /// Starts the desktop process, follows it, and starts it again when it ends; gives up with a reason.
    async fn keep_running(&mut self) -> Over {
        let mut quick_ends = 0;
        let mut process = connect(&self.dir).await.ok().map(|stream| (stream, None));
        // A wish that came while a guest runs, or just has not ended yet, is known to be fulfilled by it only when that is seen.
        let mut asked_for = !self.kept;
        if !self.kept
            && let Err(why) = self.keep_wish(process.is_none()).await
        {
            if process.is_none() && Process::adopt(&self.dir).is_none() {
                return Over::GivenUp(why);
            }
            // It runs, as it is to. An agent that is started again hears of the wish again.
            tracing::error!(desktop = %self.now.desired.desktop, error = why, "a wish is not on the disk");
        }
        loop {
            let began = std::time::Instant::now();
            let (stream, child) = match process.take() {
                Some(adopted) => adopted,
                None => match self.spawn().await {
                    Ok((stream, child)) => {
                        asked_for = false;
                        (stream, Some(child))
                    }
                    Err(error) => {
                        return Over::GivenUp(format!("its desktop process could not be started: {error}"));
                    }
                },
            };
            let (said, end) = self.follow(stream).await;
            if let Some(mut child) = child {
                let _ = child.wait().await;
            }
            match said.at_rest {
                Some((phase, _)) if asked_for && (!said.up || phase == Phase::Suspended) => {
                    // It ended before it heard of the wish, or was just being suspended.
                    kill_all(&self.dir).await;
                    if let Err(why) = self.keep_wish(true).await {
                        return Over::GivenUp(why);
                    }
                    continue;
                }
                Some((phase, how)) => return Over::AtRest(phase, how),
                None => asked_for = false,
            }
            quick_ends = if began.elapsed() < QUICK_END { quick_ends + 1 } else { 0 };
            if quick_ends >= QUICK_ENDS {
                return Over::GivenUp(format!(
                    "its desktop process ended {QUICK_ENDS} times at once: {}",
                    self.last_words()
                ));
            }
            tracing::warn!(desktop = %self.now.desired.desktop, ?end, "a desktop process ended; it is started again");
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join(files::LOG)).unwrap_or_default();
        text.lines().last().unwrap_or("it logged nothing").to_owned()
    }

    pub(crate) async fn spawn(&self) -> io::Result<(UnixStream, tokio::process::Child)> {
        // One that waits for its own disk keeps no other from starting.
        let folder = self.shared.snapshots.folder(self.now.desired.desktop);
        let _alone = folder.lock().await;
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
        let DesktopDesired { desktop, recording: policy, .. } = self.now.desired;
        if policy.mode == RecordingMode::Off {
            return None;
        }
        let made = recordings::create(&self.shared.recordings_dir, desktop);
        made.inspect_err(|error| tracing::error!(%desktop, %error, "a recording's file cannot be made"))
            .map(Into::into)
            .ok()
    }

    /// Reports what the desktop process says, until it says no more.
    async fn follow(&self, stream: UnixStream) -> (Said, io::Result<()>) {
        let (mut lines, mut said) = (BufReader::new(stream), Said::default());
        loop {
            let status = match read_status(&mut lines).await {
                Ok(Some(status)) => status,
                Ok(None) => return (said, Ok(())),
                Err(error) => return (said, Err(error)),
            };
            let phase = match status.phase {
                // What it is told when everything has ended.
                rest @ (Phase::Off | Phase::Suspended) => {
                    said.at_rest = Some((rest, status.detail));
                    continue;
                }
                Phase::Stopped if self.is_kept() => {
                    let rest = if is_suspended(&self.dir) { Phase::Suspended } else { Phase::Off };
                    said.at_rest = Some((rest, "its desktop process was stopped".into()));
                    continue;
                }
                Phase::Stopping if self.is_kept() => Phase::Stopping,
                // Ended without being asked: the data is still here, so it is not `stopped` for the control plane.
                Phase::Stopped | Phase::Stopping => Phase::Failed,
                other => other,
            };
            let up = matches!(phase, Phase::Starting | Phase::Ready);
            if let (Phase::Ready, Some(home)) = (phase, self.now.desired.home) {
                // Before anybody hears of it, and may type.
                self.shared.homes.used(home.disk);
            }
            said.up |= up;
            self.observe(phase, status.detail, status.picture && up, status.timings);
        }
    }

    /// Ends the guest, makes sure of it, and removes its data.
    async fn destroy(&mut self) {
        let desktop = self.now.desired.desktop;
        self.observe(Phase::Stopping, "", false, ForkTimings::default());
        if self.is_kept() {
            tracing::warn!(%desktop, dir = %self.dir.display(), "the disk of a persistent desktop is destroyed with its user's data");
        }
        if self.now.desired.home.is_some() {
            // What its user saved last may be in its guest's memory only.
            self.power_off().await;
        }
        let asked = async { ask_to_end(connect(&self.dir).await?, Command::Stop).await };
        if let Err(error) = tokio::time::timeout(STOP_LIMIT, asked)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        {
            tracing::debug!(%desktop, %error, "the desktop process could not be asked to stop");
        }
        kill_all(&self.dir).await;
        self.shared.snapshots.forget(desktop).await;
        self.detach_home().await;
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
        if let Err(error) = self.shared.origins.end(desktop) {
            tracing::warn!(%desktop, %error, "what a desktop was to be cloned from is left until the agent starts again");
        }
        if let Some(credentials) = credentials {
            self.shared.slots.give_back(&credentials);
        }
        recordings::forget_empty(&self.shared.recordings_dir, desktop);
        tracing::info!(%desktop, "a desktop is gone with its data");
        self.observe(Phase::Stopped, "", false, ForkTimings::default());
    }
}
