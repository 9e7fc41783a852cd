//! Powering a desktop that persists off and on, and suspending it, by wishes that rise.
//!
//! ```text
//!                   later wish: off              ┌── asked to power off ► switched off after a while
//!  on, or off by itself ───────────────► stopping┴──► off ──── later wish: running ──► started for that wish ──► on
//!
//!  on ── later wish: suspended ──► suspended, or on if it cannot be ── later wish: running ──► started for that wish ──► on
//!                                      └──────── later wish: off ──► taken up, so that it can power off ──► off
//! ```
//!
//! A wish is on the disk before it is acted on, and a start is: an agent that is started again goes on with the last one, and
//! a guest is started at most once for each. The disk goes only with the desktop.

use crate::desktop_process::{Asked, ask_to_end, ask_to_suspend, connect, kill_all, kill_desktop_process};
use crate::desktop_task::{DesktopTask, Wish};
use crate::folder::{self, remove_sockets};
use lucarne_control::SnapshotId;
use lucarne_control::desktop::{DesiredState, ForkTimings, Phase};
use lucarne_desktop::control::{Command, POWER_OFF_LIMIT, Status};
use lucarne_qemu::process::Process;
use lucarne_qemu::suspend;
use std::time::Duration;
use tokio::sync::watch;

/// How much longer than the guest its desktop process may take: it ends the recording, and may have to take its QEMU over first.
const PROCESS_LIMIT: Duration = Duration::from_secs(30);

/// How long a guest may take to be suspended: all of its memory is read, and what has changed is written.
const SUSPEND_LIMIT: Duration = Duration::from_secs(1800);

/// Before what could not be done to a desktop's disk is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// How often a guest is asked, by another desktop process each time, when they die of it.
const ASKED: u32 = 3;

/// Waits for a later wish than this, other than for its absence.
async fn later(mut wishes: watch::Receiver<Wish>, than: u64) -> Wish {
    let later = |wish: &Wish| wish.desired.wish > than && wish.desired.state != DesiredState::Absent;
    let wish = wishes.wait_for(later).await.ok().map(|wish| wish.clone());
    match wish {
        Some(wish) => wish,
        // The sender goes when the agent ends.
        None => std::future::pending().await,
    }
}

impl DesktopTask {
    /// Waits for a later wish than the one that is acted on, and takes its place.
    pub(crate) async fn later_wish(&mut self) {
        self.now = later(self.wish.clone(), self.now.desired.wish).await;
        self.kept = false;
        self.not_back = None;
    }

    /// Waits for a later wish than the one that is acted on.
    pub(crate) fn is_outdated(&self) -> impl Future<Output = ()> + use<> {
        let (wishes, now) = (self.wish.clone(), self.now.desired.wish);
        async move { drop(later(wishes, now).await) }
    }

    /// Puts the wish on the disk, and with `start` that a guest is to be started for it where none runs.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub(crate) async fn keep_wish(&mut self, start: bool) -> Result<(), String> {
        let mut config = folder::read_config(&self.dir)?;
        config.wish = self.now.desired.wish;
        config.state = self.now.desired.state;
        config.back_to = self.now.desired.back_to;
        if start && Process::adopt(&self.dir).is_none() {
            if self.now.desired.state == DesiredState::Running {
                self.check_disk()?;
            }
            if !lucarne_desktop::is_made(&self.dir) {
                // It is forked, which takes a template of this very QEMU.
                config.template = self.wait_template(&self.now.desired).await?.dir.clone();
            }
            config.start = config.wish;
            config.requested_at_ms = self.now.received_ms;
            config.network = self.network();
            config.qemu = self.shared.qemu.path.clone();
            config.qemu_version = self.shared.qemu.version.clone();
            config.accel = self.shared.accel;
        }
        let owner = self.shared.slots.of_dir(&self.dir);
        folder::write_config(&self.dir, &config, owner.as_ref())
            .map_err(|e| format!("what is wanted of it cannot be kept in {}: {e}", self.dir.display()))?;
        self.kept = true;
        Ok(())
    }

    /// Sees to it that it is off, and reports that.
    pub(crate) async fn keep_off(&mut self) {
        if !self.kept {
            // One that is suspended has to be started before it can power off.
            self.put_on_disk(self.is_suspended()).await;
        }
        self.switch_off().await;
    }

    /// Puts it back to a snapshot where this wish says so and that is not done yet, whatever runs. Why it could not be done goes with
    /// what is reported.
    pub(crate) async fn go_back(&mut self) {
        let Some(snapshot) = self.now.desired.back_to else { return };
        let desktop = self.now.desired.desktop;
        if !self.kept {
            // An agent that is started again goes on with it, and starts nothing before.
            self.put_on_disk(false).await;
        }
        // It is started for this wish, or not, by what comes next.
        self.kept = false;
        let quiet = self.shared.snapshots.quiet(desktop).await;
        loop {
            match self.back_once(snapshot).await {
                Ok(()) => {
                    self.shared.snapshots.find(desktop);
                    drop(quiet);
                    return self.shared.snapshots.go_on(desktop);
                }
                // What is decided is done, however often it is begun; nothing is started before.
                Err(why) if lucarne_desktop::is_going_back(&self.dir) => {
                    tracing::error!(%desktop, %snapshot, why, "a desktop is not put back to a snapshot yet");
                    let why = format!("it is being put back to a snapshot: {why}");
                    self.observe(Phase::Stopping, why, false, ForkTimings::default());
                }
                Err(why) => {
                    tracing::error!(%desktop, %snapshot, why, "a desktop is not put back to a snapshot");
                    self.not_back = Some(format!("it could not be put back to its snapshot: {why}"));
                    break;
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
        drop(quiet);
        self.shared.snapshots.go_on(desktop);
        // Whoever is told so works on: it is not tried again by an agent that is started again.
        self.now.desired.back_to = None;
        while let Err(error) = self.keep_wish(false).await {
            tracing::error!(%desktop, %error, "that a desktop was not put back is not on the disk");
            tokio::time::sleep(AGAIN).await;
        }
        self.kept = false;
    }

    async fn back_once(&mut self, snapshot: SnapshotId) -> Result<(), String> {
        let (desktop, wish) = (self.now.desired.desktop, self.now.desired.wish);
        if lucarne_desktop::went_back(&self.dir)? >= wish {
            return Ok(());
        }
        if !lucarne_desktop::is_going_back(&self.dir) {
            self.shared.snapshots.try_back(desktop, snapshot).await?;
        }
        self.observe(Phase::Stopping, "it is being put back to a snapshot", false, ForkTimings::default());
        kill_all(&self.dir).await;
        remove_sockets(&self.dir);
        self.shared.snapshots.back(desktop, snapshot, wish).await?;
        tracing::info!(%desktop, %snapshot, "a desktop is put back to a snapshot");
        Ok(())
    }

    pub(crate) async fn put_on_disk(&mut self, start: bool) {
        if let Err(error) = self.keep_wish(start).await {
            // An agent that is started again hears it again.
            tracing::error!(desktop = %self.now.desired.desktop, %error, "a wish is not on the disk");
        }
    }

    /// Nothing runs, and what ran is suspended.
    pub(crate) fn is_suspended(&self) -> bool {
        Process::adopt(&self.dir).is_none() && suspend::is_suspended(&self.dir)
    }

    /// Sees to it that it is suspended, and reports that; where it is off already, that. False where it goes on.
    pub(crate) async fn keep_suspended(&mut self) -> bool {
        if !self.kept {
            self.put_on_disk(false).await;
        }
        let desktop = self.now.desired.desktop;
        let mut how = String::new();
        for _ in 0..ASKED {
            let process = match connect(&self.dir).await {
                Ok(process) => process,
                Err(_) if Process::adopt(&self.dir).is_none() => break,
                // Its desktop process has died. Another one takes the guest over, and can suspend it.
                Err(_) => match self.spawn().await {
                    Ok((process, _)) => process,
                    Err(error) => {
                        tracing::error!(%desktop, %error, "a guest has nobody who could suspend it");
                        return false;
                    }
                },
            };
            self.observe(Phase::Stopping, "it is being suspended", false, ForkTimings::default());
            match tokio::time::timeout(SUSPEND_LIMIT, ask_to_suspend(process)).await {
                Ok(Ok(Some(Asked::Ended(said)))) => {
                    how = said;
                    break;
                }
                Ok(Ok(Some(Asked::Refused))) => return false,
                Ok(Ok(None)) => {
                    tracing::warn!(%desktop, "a desktop process ended while its guest was suspended");
                }
                Ok(Err(error)) => {
                    tracing::warn!(%desktop, %error, "a desktop process did not suspend its guest")
                }
                Err(_) => {
                    tracing::warn!(%desktop, "a desktop process did not suspend its guest in time");
                    // The next one lets the guest go on.
                    kill_desktop_process(&self.dir).await;
                    return false;
                }
            }
        }
        if Process::adopt(&self.dir).is_some() {
            return false;
        }
        kill_all(&self.dir).await;
        remove_sockets(&self.dir);
        if suspend::is_suspended(&self.dir) {
            tracing::info!(%desktop, "a desktop is suspended");
            // Who decided it knows why.
            self.observe(Phase::Suspended, "", false, ForkTimings::default());
        } else {
            if how.is_empty() {
                how = "it did not run when it was to be suspended".into();
            }
            tracing::info!(%desktop, how, "a desktop is off");
            self.observe(Phase::Off, how, false, ForkTimings::default());
        }
        true
    }

    /// Has a guest that runs power off, makes sure of it, and reports that it is off.
    pub(crate) async fn switch_off(&mut self) {
        let said = self.power_off().await;
        kill_all(&self.dir).await;
        remove_sockets(&self.dir);
        let unresumable = said.as_ref().is_some_and(|status| status.unresumable);
        // Nothing ran: who decided it knows why it is off.
        let mut how = said.map(|status| status.detail).unwrap_or_default();
        if self.is_suspended() {
            if !unresumable || self.wish.borrow().parting {
                // What is open in it is kept until it can be closed, or somebody says otherwise.
                return self.observe(Phase::Suspended, how, false, ForkTimings::default());
            }
            how = format!("what was open in it is lost: {how}");
            if let Err(error) = suspend::forget(&self.dir) {
                // A guest that boots from the disk removes it before it runs.
                tracing::error!(desktop = %self.now.desired.desktop, %error, "what a desktop was suspended to cannot be removed");
            }
        }
        tracing::info!(desktop = %self.now.desired.desktop, how, "a desktop is off");
        self.observe(Phase::Off, how, false, ForkTimings::default());
    }

    /// Has a guest that runs power off, and says how that went; what does not, the caller kills.
    pub(crate) async fn power_off(&mut self) -> Option<Status> {
        let desktop = self.now.desired.desktop;
        let dir = self.dir.clone();
        let runs = || Process::adopt(&dir).is_some();
        let mut how = None;
        for _ in 0..ASKED {
            let process = match connect(&self.dir).await {
                Ok(process) => process,
                Err(_) if !runs() && !suspend::is_suspended(&self.dir) => break,
                // Its desktop process has died. Another one takes the guest over, and can ask it.
                Err(_) => match self.spawn().await {
                    Ok((process, _)) => process,
                    Err(error) => {
                        tracing::error!(%desktop, %error, "a guest has nobody who could ask it to power off");
                        break;
                    }
                },
            };
            self.observe(Phase::Stopping, "it is being powered off", false, ForkTimings::default());
            let asked = ask_to_end(process, Command::PowerOff);
            // One that is suspended is resumed first; one that is being suspended sees that through.
            let more = if suspend::is_under_way(&self.dir) { SUSPEND_LIMIT } else { Duration::ZERO };
            match tokio::time::timeout(POWER_OFF_LIMIT + PROCESS_LIMIT + more, asked).await {
                Ok(Ok(Some(said))) if said.phase == Phase::Suspended && !said.unresumable => {
                    let parting = self.wish.borrow().parting;
                    how = Some(said);
                    if parting {
                        break;
                    }
                    // It was just being suspended, or somebody else was to start it: it is started for this.
                    self.put_on_disk(true).await;
                    continue;
                }
                Ok(Ok(Some(said))) => {
                    how = Some(said);
                    break;
                }
                Ok(Ok(None)) => {
                    tracing::warn!(%desktop, "a desktop process ended while its guest powered off")
                }
                Ok(Err(error)) => tracing::warn!(%desktop, %error, "a desktop process did not power off"),
                Err(_) => {
                    tracing::warn!(%desktop, "a desktop process did not power off in time");
                    break;
                }
            }
        }
        how
    }
}
