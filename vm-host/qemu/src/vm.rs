//! A desktop on QEMU: forked from a template, booted from its own disk, or taken over from a process that ended.

use crate::audio::Audio;
use crate::binary::{Accel, Qemu};
use crate::card;
use crate::command::{Machine, Memory, Start, files};
use crate::dbus::{Display, DisplayError, Listen};
use crate::home;
use crate::identity::{self, Terms};
use crate::power::{self, Power};
use crate::process::{Process, StartError};
use crate::qmp::{Qmp, QmpError};
use crate::template::{IdentityMethod, Template, template_files};
use crate::vdagent::Clipboard;
use async_trait::async_trait;
use lucarne_control::desktop::Identity;
use lucarne_driver::{
    AudioSink, Capabilities, ClipboardSink, DisplayArea, DisplaySink, InputEvent, Vm, VmError,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Why a desktop could not be forked, booted or taken over.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// The overlay.
    #[error("the desktop's disk {path} could not be made")]
    Overlay {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// QEMU.
    #[error(transparent)]
    Start(#[from] StartError),
    /// QEMU ended while it loaded the template.
    #[error("QEMU ended while it loaded the template: {0}")]
    Load(String),
    /// QEMU ended before the guest booted.
    #[error("QEMU ended before the guest booted: {0}")]
    Boot(String),
    /// The control socket.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The display.
    #[error(transparent)]
    Display(#[from] DisplayError),
    /// Nothing to take over.
    #[error("no QEMU runs in {0}")]
    NothingToAdopt(PathBuf),
}

/// What is needed to fork a desktop, or to boot it from the disk that an earlier fork has left.
pub struct ForkRequest<'a> {
    /// The program.
    pub qemu: &'a Qemu,
    /// What executes the guest; for a fork the template's.
    pub accel: Accel,
    /// What to fork from. A boot takes only the machine from it.
    pub template: &'a Template,
    /// The desktop's own folder, absolute; empty before a fork.
    pub dir: &'a Path,
    /// Shown by ps.
    pub name: String,
    /// The network card's address.
    pub mac: String,
    /// With a network; without, a card's cable stays out.
    pub network: bool,
    /// Its disk outlives its guest, and so does its SSH host key.
    pub persistent: bool,
    /// The file of the user's disk, absolute; plain (raw).
    pub home: Option<&'a Path>,
}

/// How often a template is loaded at most. One load in sixteen fails, at random, because of QEMU's fault that
/// [`crate::device_state`] tells of; with this, one fork in four thousand million.
const LOADS: u32 = 8;

/// When the steps of a fork were done.
#[derive(Clone, Copy, Debug)]
pub struct ForkSteps {
    /// QEMU runs.
    pub spawned: Instant,
    /// The template is loaded; a boot loads none.
    pub loaded: Option<Instant>,
    /// The guest runs.
    pub running: Instant,
}

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
}

/// A QEMU that was taken hold of.
struct Held {
    qmp: Arc<Qmp>,
    power: Power,
    display: Display,
}

/// How a guest that runs already came to run.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// How it is given its identity.
    pub identity: IdentityMethod,
    /// With a network.
    pub network: bool,
    /// Its disk outlives it.
    pub persistent: bool,
    /// It booted from its own disk, instead of being forked.
    pub booted: bool,
}

impl QemuVm {
    /// Forks a desktop: the guest runs when this returns, without an identity and with its network unplugged. The sink
    /// has had the first picture, or gets it within a few milliseconds.
    ///
    /// # Errors
    /// Says which step failed; QEMU has ended then. The folder's files are the caller's to remove.
    pub async fn fork(
        request: &ForkRequest<'_>,
        sink: Arc<dyn DisplaySink>,
    ) -> Result<(Self, ForkSteps), ForkError> {
        let mut left = LOADS;
        loop {
            left -= 1;
            match Self::fork_once(request, sink.clone()).await {
                // The guest has not run yet, so nothing of it is lost or done twice.
                Err(ForkError::Load(why)) if left > 0 => {
                    tracing::info!(why, "the template was not loaded, and is loaded again");
                }
                done => return done,
            }
        }
    }

    async fn fork_once(
        request: &ForkRequest<'_>,
        sink: Arc<dyn DisplaySink>,
    ) -> Result<(Self, ForkSteps), ForkError> {
        let disk = request.dir.join(files::DISK);
        copy_overlay(&request.template.dir.join(template_files::OVERLAY), &disk)
            .map_err(|source| ForkError::Overlay { path: disk, source })?;
        let machine = Machine {
            qemu: request.qemu,
            accel: request.accel,
            shape: request.template.meta.spec.machine,
            memory: Memory::Clone(request.template.dir.join(template_files::MEMORY)),
            start: Start::Incoming,
            card: request.template.meta.card.then(|| request.mac.clone()),
            network: request.network,
            name: request.name.clone(),
            generation_id: uuid::Uuid::new_v4(),
        };
        let process = Process::start(&machine, request.dir, None).await?;
        let spawned = Instant::now();
        let loaded = tokio::select! {
            loaded = Self::load(request, &process, sink) => loaded,
            () = process.ended() => Err(ForkError::Load(process.last_words())),
        };
        match loaded {
            Ok((held, loaded)) => {
                let vm = Self::of(request, process, held, false);
                Ok((vm, ForkSteps { spawned, loaded: Some(loaded), running: Instant::now() }))
            }
            Err(error) => Err(Self::given_up(process, error, ForkError::Load).await),
        }
    }

    fn of(request: &ForkRequest<'_>, process: Process, held: Held, booted: bool) -> Self {
        let origin = Origin {
            identity: request.template.meta.identity,
            network: request.network,
            persistent: request.persistent,
            booted,
        };
        Self::new(request.dir, process, held, origin)
    }

    fn new(dir: &Path, process: Process, held: Held, origin: Origin) -> Self {
        Self {
            dir: dir.into(),
            process,
            qmp: held.qmp,
            display: held.display,
            clipboard: OnceLock::new(),
            audio: OnceLock::new(),
            displays: watch::Sender::default(),
            identity: origin.identity,
            terms: Terms { keeps_key: origin.persistent, booted: origin.booted },
            network: origin.network,
            power: held.power,
        }
    }

    /// Ends a QEMU that did not come to run, and says why it did not.
    async fn given_up(process: Process, error: ForkError, ended: fn(String) -> ForkError) -> ForkError {
        // QEMU closes its socket a moment before it is gone; its last words say more than "closed".
        let over = tokio::time::timeout(Duration::from_millis(500), process.ended()).await.is_ok();
        process.kill().await;
        if over { ended(process.last_words()) } else { error }
    }

    async fn load(
        request: &ForkRequest<'_>,
        process: &Process,
        sink: Arc<dyn DisplaySink>,
    ) -> Result<(Held, Instant), ForkError> {
        let (qmp, events) = Qmp::connect(&request.dir.join(files::QMP)).await?;
        let (qmp, power) = (Arc::new(qmp), Power::watch(events));
        let capabilities = json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] });
        qmp.execute("migrate-set-capabilities", capabilities).await?;
        let state = request.template.dir.join(template_files::STATE);
        qmp.execute("migrate-incoming", json!({ "uri": format!("file:{}", state.display()) })).await?;
        let status = qmp.wait_loaded().await?;
        if status != "paused" && status != "postmigrate" && status != "prelaunch" {
            return Err(ForkError::Load(format!("its status is {status}; {}", process.last_words())));
        }
        if request.network && !request.template.meta.card {
            // Plugged after the load, because a card in the template would keep the template's address.
            card::plug(&qmp, &request.mac).await?;
        }
        if let Some(disk) = request.home {
            home::plug(&qmp, disk).await?;
        }
        let loaded = Instant::now();
        let display = Display::attach(&qmp, sink, Listen::First).await?;
        qmp.execute("cont", Value::Null).await?;
        Ok((Held { qmp, power, display }, loaded))
    }

    /// Powers a desktop on: its guest boots from the disk in the folder when this returns, with its network unplugged. The
    /// sink has had the first picture, or gets it within a few milliseconds.
    ///
    /// # Errors
    /// Says which step failed; QEMU has ended then, and the disk is as it was.
    pub async fn boot(
        request: &ForkRequest<'_>,
        sink: Arc<dyn DisplaySink>,
    ) -> Result<(Self, ForkSteps), ForkError> {
        let meta = &request.template.meta;
        let machine = Machine {
            qemu: request.qemu,
            accel: request.accel,
            shape: meta.spec.machine,
            memory: Memory::Own,
            start: Start::Held,
            card: (meta.card || request.network).then(|| request.mac.clone()),
            network: request.network,
            name: request.name.clone(),
            generation_id: uuid::Uuid::new_v4(),
        };
        let process = Process::start(&machine, request.dir, None).await?;
        let spawned = Instant::now();
        let on = tokio::select! {
            on = Self::power_on(request.dir, machine.card.is_some(), sink) => on,
            () = process.ended() => Err(ForkError::Boot(process.last_words())),
        };
        match on {
            Ok(held) => {
                let vm = Self::of(request, process, held, true);
                Ok((vm, ForkSteps { spawned, loaded: None, running: Instant::now() }))
            }
            Err(error) => Err(Self::given_up(process, error, ForkError::Boot).await),
        }
    }

    async fn power_on(dir: &Path, card: bool, sink: Arc<dyn DisplaySink>) -> Result<Held, ForkError> {
        let (qmp, events) = Qmp::connect(&dir.join(files::QMP)).await?;
        let (qmp, power) = (Arc::new(qmp), Power::watch(events));
        if card {
            card::set_cable(&qmp, false).await?;
        }
        let display = Display::attach(&qmp, sink, Listen::First).await?;
        qmp.execute("cont", Value::Null).await?;
        Ok(Held { qmp, power, display })
    }

    /// Takes over the QEMU that runs in `dir`.
    ///
    /// # Errors
    /// When none runs there, or it does not answer.
    pub async fn adopt(dir: &Path, origin: Origin, sink: Arc<dyn DisplaySink>) -> Result<Self, ForkError> {
        let process = Process::adopt(dir).ok_or_else(|| ForkError::NothingToAdopt(dir.into()))?;
        let (qmp, events) = Qmp::connect(&dir.join(files::QMP)).await?;
        let (qmp, power) = (Arc::new(qmp), Power::watch(events));
        let display = Display::attach(&qmp, sink, Listen::All).await?;
        let status = qmp.execute("query-status", Value::Null).await?;
        if matches!(status["status"].as_str(), Some("paused" | "postmigrate" | "prelaunch")) {
            // Its former owner ended between load and `cont`.
            qmp.execute("cont", Value::Null).await?;
        }
        Ok(Self::new(dir, process, Held { qmp, power, display }, origin))
    }

    /// QEMU's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }
}

/// Copies the few hundred kilobytes of an empty overlay and makes the copy writable.
fn copy_overlay(from: &Path, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::copy(from, to)?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o600))
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

fn refused(what: &str) -> impl FnOnce(QmpError) -> VmError {
    let what = what.to_owned();
    move |error| match error {
        QmpError::Closed(_) | QmpError::Io(_) => VmError::Gone("QEMU closed its control socket".into()),
        other => VmError::Refused { what, why: other.to_string() },
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
