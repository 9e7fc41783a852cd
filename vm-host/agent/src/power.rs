//! Powering a desktop that persists off and on, by wishes that rise.
//!
//! ```text
//!                   later wish: off              ┌── asked to power off ► switched off after a while
//!  on, or off by itself ───────────────► stopping┴──► off ──── later wish: running ──► started for that wish ──► on
//! ```
//!
//! A wish is on the disk before it is acted on, and a start is: an agent that is started again goes on with the last one, and
//! a guest is started at most once for each. The disk goes only with the desktop.

use crate::desktop_process::{ask_to_end, connect, kill_all};
use crate::desktop_task::{DesktopTask, Wish};
use crate::folder::{self, remove_sockets};
use lucarne_control::desktop::{DesiredState, ForkTimings, Phase};
use lucarne_desktop::control::{Command, POWER_OFF_LIMIT};
use lucarne_qemu::process::Process;
use std::time::Duration;
use tokio::sync::watch;

/// How much longer than the guest its desktop process may take: it ends the recording, and may have to take its QEMU over first.
const PROCESS_LIMIT: Duration = Duration::from_secs(30);

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
        if start && Process::adopt(&self.dir).is_none() {
            self.check_disk()?;
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
        if !self.kept
            && let Err(error) = self.keep_wish(false).await
        {
            // An agent that is started again hears it again.
            tracing::error!(desktop = %self.now.desired.desktop, %error, "a wish is not on the disk");
        }
        self.switch_off().await;
    }

    /// Has a guest that runs power off, makes sure of it, and reports that it is off.
    pub(crate) async fn switch_off(&self) {
        let how = self.power_off().await;
        kill_all(&self.dir).await;
        remove_sockets(&self.dir);
        // Nothing ran: who decided it knows why it is off.
        let how = how.unwrap_or_default();
        tracing::info!(desktop = %self.now.desired.desktop, how, "a desktop is off");
        self.observe(Phase::Off, how, false, ForkTimings::default());
    }

    /// Has a guest that runs power off, and says how that went; what does not, the caller kills.
    pub(crate) async fn power_off(&self) -> Option<String> {
        let desktop = self.now.desired.desktop;
        let runs = || Process::adopt(&self.dir).is_some();
        let mut how = None;
        for _ in 0..ASKED {
            let process = match connect(&self.dir).await {
                Ok(process) => process,
                Err(_) if !runs() => break,
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
            match tokio::time::timeout(POWER_OFF_LIMIT + PROCESS_LIMIT, asked).await {
                Ok(Ok(Some(said))) => how = Some(said),
                Ok(Ok(None)) => {
                    tracing::warn!(%desktop, "a desktop process ended while its guest powered off")
                }
                Ok(Err(error)) => tracing::warn!(%desktop, %error, "a desktop process did not power off"),
                Err(_) => {
                    tracing::warn!(%desktop, "a desktop process did not power off in time");
                    break;
                }
            }
            if how.is_some() {
                break;
            }
        }
        how
    }
}
