//! How a desktop's QEMU comes to run: forked from a template, booted from its own disk, resumed from what it was suspended to, or
//! taken over from a process that ended.

use crate::binary::{Accel, Qemu};
use crate::card;
use crate::command::{Machine, Memory, Start, files};
use crate::dbus::{Display, DisplayError, Listen};
use crate::home;
use crate::power::Power;
use crate::process::{Process, StartError};
use crate::qmp::{Qmp, QmpError};
use crate::save::GuestMemory;
use crate::snapshot;
use crate::suspend;
use crate::template::{IdentityMethod, Template, template_files};
use crate::vm::QemuVm;
use lucarne_driver::DisplaySink;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a desktop could not be forked, booted or taken over.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// One of its files.
    #[error("the desktop's file {path} could not be made or removed")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// QEMU.
    #[error(transparent)]
    Start(#[from] StartError),
    /// QEMU ended while it loaded the template, or what the guest was suspended to.
    #[error("QEMU ended while it loaded the guest's state: {0}")]
    Load(String),
    /// QEMU ended when the guest was to run.
    #[error("QEMU ended when the guest was to run: {0}")]
    Run(String),
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
    /// It is made of another desktop's snapshot, and has that one's identity until it is given its own.
    pub anew: bool,
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

/// A QEMU that was taken hold of.
pub(crate) struct Held {
    pub(crate) qmp: Arc<Qmp>,
    pub(crate) power: Power,
    pub(crate) display: Display,
}

/// How a guest that runs already came to run.
#[derive(Clone, Debug)]
pub struct Origin {
    /// How it is given its identity.
    pub identity: IdentityMethod,
    /// With a network.
    pub network: bool,
    /// Its disk outlives it.
    pub persistent: bool,
    /// It has another desktop's identity until it is given its own.
    pub anew: bool,
    /// It booted from its own disk, instead of being forked.
    pub booted: bool,
    /// What its memory began as; without, it cannot be suspended.
    pub memory: Option<GuestMemory>,
    /// The QEMU that runs it.
    pub qemu_version: String,
}

impl Origin {
    fn of(request: &ForkRequest<'_>, booted: bool) -> Self {
        Self {
            identity: request.template.meta.identity,
            network: request.network,
            persistent: request.persistent,
            anew: request.anew,
            booted,
            memory: Some(GuestMemory::of(request.template, booted)),
            qemu_version: request.qemu.version.clone(),
        }
    }
}

/// Where a guest starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Its template.
    Template,
    /// What is on its disk: it boots.
    Disk,
    /// What it was suspended to; its memory began as zero where it had booted.
    Suspended { booted: bool },
}

impl Source {
    fn is_booted(self) -> bool {
        matches!(self, Self::Disk | Self::Suspended { booted: true })
    }

    /// The same machine, whatever it starts from.
    fn machine<'a>(self, request: &ForkRequest<'a>, generation_id: uuid::Uuid) -> Machine<'a> {
        let meta = &request.template.meta;
        let (memory, card) = if self.is_booted() {
            (Memory::Own, meta.card || request.network)
        } else {
            (Memory::Clone(request.template.dir.join(template_files::MEMORY)), meta.card)
        };
        Machine {
            qemu: request.qemu,
            accel: request.accel,
            shape: meta.spec.machine,
            memory,
            start: if self == Self::Disk { Start::Held } else { Start::Incoming },
            card: card.then(|| request.mac.clone()),
            network: request.network,
            name: request.name.clone(),
            generation_id,
        }
    }
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
        let disk = request.dir.join(files::DISK);
        copy_overlay(&request.template.dir.join(template_files::OVERLAY), &disk)
            .map_err(|source| ForkError::File { path: disk, source })?;
        let generation = new_generation(request.dir)?;
        Self::load(request, Source::Template, generation, sink).await
    }

    /// Takes up a guest that was suspended in the folder: it runs when this returns, with its identity and its network as it had
    /// them, and is not suspended any more. The sink has had the first picture, or gets it within a few milliseconds.
    ///
    /// # Errors
    /// Says which step failed; QEMU has ended then, and the guest is suspended as before.
    pub async fn resume(
        request: &ForkRequest<'_>,
        booted: bool,
        sink: Arc<dyn DisplaySink>,
    ) -> Result<(Self, ForkSteps), ForkError> {
        let generation = match suspend::generation(request.dir) {
            Some(generation) => generation,
            None => new_generation(request.dir)?,
        };
        Self::load(request, Source::Suspended { booted }, generation, sink).await
    }

    async fn load(
        request: &ForkRequest<'_>,
        source: Source,
        generation: uuid::Uuid,
        sink: Arc<dyn DisplaySink>,
    ) -> Result<(Self, ForkSteps), ForkError> {
        let machine = source.machine(request, generation);
        let mut left = LOADS;
        loop {
            left -= 1;
            match Self::load_once(request, source, &machine, sink.clone()).await {
                // The guest has not run yet, so nothing of it is lost or done twice.
                Err(ForkError::Load(why)) if left > 0 => {
                    tracing::info!(why, "the guest's state was not loaded, and is loaded again");
                }
                done => return done,
            }
        }
    }

    async fn load_once(
        request: &ForkRequest<'_>,
        source: Source,
        machine: &Machine<'_>,
        sink: Arc<dyn DisplaySink>,
    ) -> Result<(Self, ForkSteps), ForkError> {
        let process = Process::start(machine, request.dir, None).await?;
        let spawned = Instant::now();
        let held = tokio::select! {
            held = Self::take_hold(request, source, machine, &process, sink) => held,
            () = process.ended() => Err(ForkError::Load(process.last_words())),
        };
        let (held, loaded) = match held {
            Ok(held) => held,
            Err(error) => return Err(Self::given_up(process, error, ForkError::Load).await),
        };
        // From here on it may have run: it is not loaded again, whatever happens.
        let suspended = (source != Source::Template).then_some(request.dir);
        if let Err(error) = Self::let_run(suspended, &held.qmp).await {
            return Err(Self::given_up(process, error, ForkError::Run).await);
        }
        let vm = Self::new(request.dir, process, held, Origin::of(request, source.is_booted()));
        Ok((vm, ForkSteps { spawned, loaded: Some(loaded), running: Instant::now() }))
    }

    /// Lets a guest run that was loaded. What it was suspended to is gone before, for good; it is there again where it is certain that
    /// the guest has not run.
    async fn let_run(suspended: Option<&Path>, qmp: &Qmp) -> Result<(), ForkError> {
        if let Some(dir) = suspended {
            suspend::retire(dir).map_err(suspended_file(dir))?;
        }
        let run = qmp.execute("cont", Value::Null).await;
        if let Some(dir) = suspended {
            match &run {
                Err(QmpError::Refused { .. }) => suspend::unretire(dir).map_err(suspended_file(dir))?,
                _ => suspend::bury(dir),
            }
        }
        run.map(drop).map_err(ForkError::from)
    }

    /// Ends a QEMU that did not come to run, and says why it did not.
    async fn given_up(process: Process, error: ForkError, ended: fn(String) -> ForkError) -> ForkError {
        // QEMU closes its socket a moment before it is gone; its last words say more than "closed".
        let over = tokio::time::timeout(Duration::from_millis(500), process.ended()).await.is_ok();
        process.kill().await;
        if over { ended(process.last_words()) } else { error }
    }

    async fn take_hold(
        request: &ForkRequest<'_>,
        source: Source,
        machine: &Machine<'_>,
        process: &Process,
        sink: Arc<dyn DisplaySink>,
    ) -> Result<(Held, Instant), ForkError> {
        let (qmp, events) = Qmp::connect(&request.dir.join(files::QMP)).await?;
        let (qmp, power) = (Arc::new(qmp), Power::watch(events));
        let forked = source == Source::Template;
        if !forked {
            // It had them when it was suspended.
            plug(&qmp, request, machine).await?;
        }
        let capabilities = json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": forked }] });
        qmp.execute("migrate-set-capabilities", capabilities).await?;
        let state = if forked {
            request.template.dir.join(template_files::STATE)
        } else {
            request.dir.join(files::SUSPENDED)
        };
        qmp.execute("migrate-incoming", json!({ "uri": format!("file:{}", state.display()) })).await?;
        let status = qmp.wait_loaded().await?;
        if status != "paused" && status != "postmigrate" && status != "prelaunch" {
            return Err(ForkError::Load(format!("its status is {status}; {}", process.last_words())));
        }
        if forked {
            // Plugged after the load, because a card in the template would keep the template's address.
            plug(&qmp, request, machine).await?;
        }
        if request.anew && request.network {
            // Until it is itself.
            card::set_cable(&qmp, false).await?;
        }
        let loaded = Instant::now();
        let display = Display::attach(&qmp, sink, Listen::First).await?;
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
        // What it was suspended to is of another boot.
        suspend::forget(request.dir).map_err(suspended_file(request.dir))?;
        let machine = Source::Disk.machine(request, new_generation(request.dir)?);
        let process = Process::start(&machine, request.dir, None).await?;
        let spawned = Instant::now();
        let on = tokio::select! {
            on = Self::power_on(request.dir, machine.card.is_some(), sink) => on,
            () = process.ended() => Err(ForkError::Boot(process.last_words())),
        };
        match on {
            Ok(held) => {
                let vm = Self::new(request.dir, process, held, Origin::of(request, true));
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
        let status = qmp.execute("query-status", Value::Null).await?;
        if status["status"] == "inmigrate" {
            // Its former owner ended before it had loaded anything, or all of it: it has never run.
            process.kill().await;
            return Err(ForkError::NothingToAdopt(dir.into()));
        }
        if origin.anew && origin.network {
            // It may have been loaded and no more.
            card::set_cable(&qmp, false).await?;
        }
        let display = Display::attach(&qmp, sink, Listen::All).await?;
        // Whatever was written of it meanwhile: it runs, and changes its disk.
        suspend::forget(dir).map_err(suspended_file(dir))?;
        // Its former owner may have ended between load and `cont`, or while it was suspended, or its disk was changed.
        suspend::take_back(&qmp).await?;
        if let Err(error) = snapshot::take::mend_under(&qmp, dir).await {
            tracing::error!(%error, "what was begun with the guest's snapshots is not undone");
        }
        Ok(Self::new(dir, process, Held { qmp, power, display }, origin))
    }
}

/// Plugs what is not part of the template: a network card where that has none, and the user's disk.
async fn plug(qmp: &Qmp, request: &ForkRequest<'_>, machine: &Machine<'_>) -> Result<(), QmpError> {
    if request.network && machine.card.is_none() {
        card::plug(qmp, &request.mac).await?;
    }
    match request.home {
        Some(disk) => home::plug(qmp, disk).await,
        None => Ok(()),
    }
}

fn new_generation(dir: &Path) -> Result<uuid::Uuid, ForkError> {
    let failed = |source| ForkError::File { path: dir.join(files::GENERATION), source };
    suspend::new_generation(dir).map_err(failed)
}

fn suspended_file(dir: &Path) -> impl FnOnce(std::io::Error) -> ForkError {
    let path = dir.join(files::SUSPENDED);
    move |source| ForkError::File { path, source }
}

/// Copies the few hundred kilobytes of an empty overlay and makes the copy writable.
fn copy_overlay(from: &Path, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::copy(from, to)?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o600))
}
