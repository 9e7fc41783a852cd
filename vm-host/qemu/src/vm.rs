//! A desktop on QEMU: forked from a template, booted from its own disk, or taken over from a process that ended.

use crate::audio::Audio;
use crate::card;
use crate::command::files;
use crate::dbus::Display;
use crate::home;
use crate::identity::{self, Terms};
use crate::power::{self, Power};
use crate::process::Process;
use crate::qmp::{Qmp, QmpError};
use crate::save::{GuestMemory, SaveError};
use crate::snapshot::export::export;
use crate::snapshot::take::{Guest, take};
use crate::snapshot::{SnapshotError, merge};
use crate::start::{Held, Origin};
use crate::suspend;
use crate::template::IdentityMethod;
use crate::vdagent::Clipboard;
use async_trait::async_trait;
use lucarne_control::SnapshotId;
use lucarne_control::desktop::Identity;
use lucarne_driver::{
    AudioSink, Capabilities, ClipboardSink, DisplayArea, InputEvent, Overseer, SnapshotWanted, Vm, VmError,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::watch;

/// A desktop on QEMU.
pub struct QemuVm {
    dir: PathBuf,
    process: Process,
    qmp: Arc<Qmp>,
    display: Display,
    clipboard: OnceLock<Clipboard>,
    audio: OnceLock<Audio>,
    /// The displays that were asked for last; none before.
    displays: watch::Sender<Vec<DisplayArea>>,
    identity: IdentityMethod,
    terms: Terms,
    network: bool,
    power: Power,
    memory: Option<GuestMemory>,
    qemu_version: String,
    /// Held by who changes the layers of the disk.
    disk: tokio::sync::Mutex<()>,
}

impl QemuVm {
    pub(crate) fn new(dir: &Path, process: Process, held: Held, origin: Origin) -> Self {
        Self {
            dir: dir.into(),
            process,
            qmp: held.qmp,
            display: held.display,
            clipboard: OnceLock::new(),
            audio: OnceLock::new(),
            displays: watch::Sender::default(),
            identity: origin.identity,
            terms: Terms { keeps_key: origin.persistent, booted: origin.booted, anew: origin.anew },
            network: origin.network,
            power: held.power,
            memory: origin.memory,
            qemu_version: origin.qemu_version,
            disk: tokio::sync::Mutex::default(),
        }
    }

    /// QEMU's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }
}

/// Moves edges to columns that divide by eight. The guest's agent makes no other widths (spice-vdagent's
/// `vdagent_x11_set_monitor_config`), which would leave gaps between displays.
fn by_columns(displays: &[DisplayArea]) -> Vec<DisplayArea> {
    let column = |x: u32| x / 8 * 8;
    let moved = displays.iter().map(|d| {
        let x = column(d.x);
        DisplayArea { x, width: column(d.x.saturating_add(d.width)) - x, ..*d }
    });
    moved.collect()
}

/// An error with what caused it, for people.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said += &format!(": {error}");
        cause = error.source();
    }
    said
}

fn refused(what: &str) -> impl FnOnce(QmpError) -> VmError {
    let what = what.to_owned();
    move |error| match error {
        QmpError::Closed(_) | QmpError::Io(_) => VmError::Gone("QEMU closed its control socket".into()),
        other => VmError::Refused { what, why: other.to_string() },
    }
}

fn not_done(what: &str, error: &SnapshotError) -> VmError {
    let qmp = match error {
        SnapshotError::Qmp(error) | SnapshotError::Save(SaveError::Qmp(error)) => Some(error),
        _ => None,
    };
    match qmp {
        Some(QmpError::Closed(_) | QmpError::Io(_)) => VmError::Gone(with_causes(error)),
        _ => VmError::Refused { what: what.into(), why: with_causes(error) },
    }
}

#[async_trait]
impl Vm for QemuVm {
    fn capabilities(&self) -> Capabilities {
        let displays = self.display.count();
        Capabilities { shared_framebuffer: true, displays, identity: true, clipboard: true, audio: true }
    }

    fn input(&self, event: InputEvent) {
        self.display.input(event);
    }

    async fn identify(&self, identity: &Identity) -> Result<(), VmError> {
        match self.identity {
            IdentityMethod::Helper => identity::by_helper(&self.dir, identity, self.terms).await,
            IdentityMethod::GuestAgent => identity::by_guest_agent(&self.dir, identity, self.terms).await,
        }
    }

    async fn mount_home(&self, fresh: bool) -> Result<(), VmError> {
        home::mount(&self.dir, fresh).await
    }

    async fn connect_network(&self) -> Result<(), VmError> {
        if self.network {
            card::set_cable(&self.qmp, true).await.map_err(refused("the network's cable"))?;
        }
        Ok(())
    }

    async fn arrange(&self, displays: &[DisplayArea]) -> Result<(), VmError> {
        let displays = by_columns(displays);
        self.displays.send_replace(displays.clone());
        self.display.arrange(&displays).await.map_err(|e| VmError::Refused {
            what: format!("{} displays", displays.len()),
            why: e.to_string(),
        })
    }

    fn connect_clipboard(&self, sink: Arc<dyn ClipboardSink>) {
        let displays = self.displays.subscribe();
        self.clipboard.get_or_init(|| Clipboard::start(self.dir.join(files::VDAGENT), sink, displays));
    }

    fn offer_clipboard(&self, text: Arc<str>) {
        if let Some(clipboard) = self.clipboard.get() {
            clipboard.offer(text);
        }
    }

    fn connect_audio(&self, sink: Arc<dyn AudioSink>) {
        self.audio.get_or_init(|| self.display.listen(sink));
    }

    async fn power_off(&self) -> Result<(), VmError> {
        power::ask(&self.qmp, &self.dir.join(files::GUEST_AGENT)).await.map_err(refused("its power button"))
    }

    async fn suspend(&self) -> Result<(), VmError> {
        let refused = |why: String| VmError::Refused { what: "to suspend the guest".into(), why };
        let Some(memory) = &self.memory else {
            return Err(refused("the template that its memory began as is not here".into()));
        };
        let _alone = self.disk.lock().await;
        let began = Instant::now();
        let kept = suspend::suspend(&self.qmp, &self.dir, memory).await;
        let kept = kept.map_err(|error| refused(with_causes(&error)))?;
        self.process.kill().await;
        tracing::info!(
            pages = kept.pages,
            mib = kept.bytes >> 20,
            ms = began.elapsed().as_millis(),
            "the guest is suspended"
        );
        Ok(())
    }

    async fn snapshot(&self, wanted: SnapshotWanted, overseer: &dyn Overseer) -> Result<(), VmError> {
        let _alone = self.disk.lock().await;
        let guest = Guest {
            qmp: &self.qmp,
            dir: &self.dir,
            memory: self.memory.as_ref(),
            booted: self.terms.booted,
            qemu_version: &self.qemu_version,
        };
        take(&guest, wanted, overseer).await.map(drop).map_err(|error| not_done("to take a snapshot", &error))
    }

    async fn delete_snapshot(&self, id: SnapshotId, overseer: &dyn Overseer) -> Result<(), VmError> {
        let _alone = self.disk.lock().await;
        merge(&self.qmp, &self.dir, id, overseer)
            .await
            .map_err(|error| not_done("to delete a snapshot", &error))
    }

    async fn export_snapshot(
        &self,
        id: SnapshotId,
        attempt: u64,
        overseer: &dyn Overseer,
    ) -> Result<(), VmError> {
        let _alone = self.disk.lock().await;
        export(&self.dir, id, attempt, overseer).await.map_err(|error| not_done("to copy a snapshot", &error))
    }

    async fn wake(&self) -> Result<(), VmError> {
        let failed = |why: String| VmError::Guest { what: "the time".into(), why };
        suspend::set_clock(&self.dir).await.map_err(|error| failed(with_causes(&error)))
    }

    async fn ended(&self) -> String {
        self.process.ended().await;
        if self.power.is_off_by_guest().await {
            "it was powered off from within".into()
        } else {
            format!("QEMU ended: {}", self.process.last_words())
        }
    }

    async fn kill(&self) {
        self.process.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_side_by_side_stay_so_when_their_widths_are_cut() {
        let area = |x, width| DisplayArea { x, y: 0, width, height: 768 };
        assert_eq!(by_columns(&[area(0, 1366), area(1366, 1366)]), [area(0, 1360), area(1360, 1368)]);
        assert_eq!(by_columns(&[area(0, 1280)]), [area(0, 1280)]);
    }
}
