//! Templates: an image booted once in one machine shape, settled, and frozen.
//!
//! ```text
//! <templates>/<id>/
//!   memory        the guest's memory, mapped privately by every clone
//!   state         the devices' state, without the memory (x-ignore-shared)
//!   disk.qcow2    what the boot wrote, over the image
//!   overlay.qcow2 an empty overlay of disk.qcow2, copied for each clone
//!   template.json written last: a folder without it is not a template
//! ```
//!
//! All of it is read-only from the freeze on, and survives a restart of the host. It is bound to the QEMU version, the
//! accelerator and the processor that made it, which are part of its id.

use crate::binary::{Accel, Qemu};
use crate::card::{self, CardError};
use crate::command::{Machine, Memory, Start, files};
use crate::dbus::{Display, DisplayError, Listen};
use crate::device_state;
use crate::guest_agent::{GuestAgent, GuestAgentError};
use crate::process::{Credentials, Process, StartError};
use crate::qmp::{Qmp, QmpError};
use crate::settle::{Settle, Watcher};
use lucarne_control::spec::TemplateSpec;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// File names in a template's folder.
pub mod template_files {
    /// The guest's memory.
    pub const MEMORY: &str = "memory";
    /// The devices' state.
    pub const STATE: &str = "state";
    /// What the boot wrote.
    pub const DISK: &str = "disk.qcow2";
    /// An empty overlay, to be copied.
    pub const OVERLAY: &str = "overlay.qcow2";
    /// The description.
    pub const META: &str = "template.json";
}

/// Changes whenever the machine of [`crate::command`] changes, so that old templates are not loaded into it.
const MACHINE_VERSION: u32 = 6;

/// How long a boot may take until the guest agent answers. A Debian desktop takes half a minute under TCG on two
/// cores; a large imported image on a busy host several minutes.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(900);

/// How long writing the device state may take; it is about 10 MB.
const FREEZE_LIMIT: Duration = Duration::from_secs(120);

/// How a clone is given its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityMethod {
    /// The resident helper of recipe images.
    Helper,
    /// qemu-guest-agent and a shell.
    GuestAgent,
}

/// `template.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemplateMeta {
    /// What it was made from.
    pub spec: TemplateSpec,
    /// What executed it.
    pub accel: Accel,
    /// The QEMU that made it.
    pub qemu_version: String,
    /// How clones get their identity.
    pub identity: IdentityMethod,
    /// Whether it has a network card, to which the identity helper gives the clone's address. Without, a card is plugged
    /// into each clone.
    pub card: bool,
    /// Seconds from power-on to a painted desktop.
    pub cold_boot_s: f64,
    /// Milliseconds that writing the device state took.
    pub freeze_ms: f64,
    /// Seconds since the epoch.
    pub created_at: i64,
}

/// A template on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Its folder, absolute.
    pub dir: PathBuf,
    /// What it says of itself.
    pub meta: TemplateMeta,
}

/// Why a template could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file.
    #[error("{what} {path}")]
    File {
        /// What was done to it.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// qemu-img.
    #[error("an overlay of {base} could not be made: {said}")]
    Overlay {
        /// The lower disk.
        base: PathBuf,
        /// What qemu-img said.
        said: String,
    },
    /// QEMU did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// QEMU ended on the way.
    #[error("QEMU ended while the image booted: {0}")]
    Died(String),
    /// The control socket.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The display.
    #[error(transparent)]
    Display(#[from] DisplayError),
    /// No guest agent: no identity can be given, so no desktop can be forked.
    #[error(
        "the image booted for {} s and its guest agent did not answer; desktops get their identity through it: \
         install qemu-guest-agent in the image", BOOT_LIMIT.as_secs()
    )]
    NoGuestAgent,
    /// The guest agent.
    #[error(transparent)]
    GuestAgent(#[from] GuestAgentError),
    /// The guest still has a card that its clones could not have.
    #[error("{0}")]
    Card(String),
    /// The freeze.
    #[error("the guest's state could not be written: {0}")]
    Freeze(String),
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TemplateError {
    let path = path.to_path_buf();
    move |source| TemplateError::File { what, path, source }
}

/// What is needed to make a template.
pub struct TemplateRequest<'a> {
    /// The program.
    pub qemu: &'a Qemu,
    /// What executes the guest.
    pub accel: Accel,
    /// What to make.
    pub spec: &'a TemplateSpec,
    /// The image's disk file.
    pub image: &'a Path,
    /// Its format, `qcow2` or `raw`.
    pub image_format: &'a str,
    /// The folder of all templates, absolute.
    pub templates: &'a Path,
    /// Whom QEMU runs as.
    pub credentials: Option<&'a Credentials>,
}

/// How far it is: percent and a word for people.
pub type Progress<'a> = dyn FnMut(u8, &str) + Send + 'a;

impl Template {
    /// The folder's name for these ingredients on this host.
    #[must_use]
    pub fn id(spec: &TemplateSpec, accel: Accel, qemu: &Qemu) -> String {
        let m = &spec.machine;
        format!(
            "{}-{}m{}c{}x{}-{}-{}-v{MACHINE_VERSION}",
            spec.image.short(),
            m.memory_mib,
            m.vcpus,
            m.width,
            m.height,
            accel.as_str(),
            qemu.version
        )
    }

    /// Opens a finished template; `None` if there is none in `dir`.
    #[must_use]
    pub fn open(dir: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(dir.join(template_files::META)).ok()?;
        let meta: TemplateMeta = serde_json::from_str(&text).ok()?;
        let complete =
            [template_files::MEMORY, template_files::STATE, template_files::DISK, template_files::OVERLAY]
                .iter()
                .all(|f| dir.join(f).is_file());
        complete.then(|| Self { dir: dir.into(), meta })
    }

    /// Boots, settles and freezes; gives what is there already when it is.
    ///
    /// # Errors
    /// Says which step failed; nothing half-made is left.
    pub async fn build(
        request: &TemplateRequest<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Self, TemplateError> {
        let id = Self::id(request.spec, request.accel, request.qemu);
        let target = request.templates.join(&id);
        if let Some(template) = Self::open(&target) {
            return Ok(template);
        }
        let building = request.templates.join(format!(".building-{id}"));
        // What a killed builder left: its QEMU first, then its files.
        if let Some(left) = Process::adopt(&building) {
            left.kill().await;
        }
        remove_dir(&target)?;
        let unfinished = Unfinished(&building);
        let meta = match build_in(request, &building, &target, true, progress).await {
            Err(TemplateError::Card(why)) => {
                tracing::warn!(template = id, why, "the image is booted again, without a network card");
                build_in(request, &building, &target, false, progress).await?
            }
            other => other?,
        };
        std::fs::rename(&building, &target).map_err(file("cannot move into place", &target))?;
        drop(unfinished);
        Ok(Self { dir: target, meta })
    }
}

/// Removes the building folder when the work fails or is abandoned; once it has been renamed there is nothing to do.
struct Unfinished<'a>(&'a Path);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0);
    }
}

fn remove_dir(dir: &Path) -> Result<(), TemplateError> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file("cannot remove", dir)(e)),
        _ => Ok(()),
    }
}

/// Makes `overlay` an empty qcow2 over `base`.
///
/// # Errors
/// What qemu-img said.
pub async fn create_overlay(base: &Path, base_format: &str, overlay: &Path) -> Result<(), TemplateError> {
    let run = tokio::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", base_format, "-o", "lazy_refcounts=off", "-b"])
        .arg(base)
        .arg(overlay)
        .output()
        .await
        .map_err(file("cannot run qemu-img to create", overlay))?;
    if run.status.success() {
        Ok(())
    } else {
        let said = String::from_utf8_lossy(&run.stderr).trim().to_owned();
        Err(TemplateError::Overlay { base: base.into(), said })
    }
}

/// Boots in an empty folder, with or without a network card.
async fn build_in(
    request: &TemplateRequest<'_>,
    dir: &Path,
    target: &Path,
    card: bool,
    progress: &mut Progress<'_>,
) -> Result<TemplateMeta, TemplateError> {
    let path = |name: &str| dir.join(name);
    progress(1, "preparing");
    remove_dir(dir)?;
    std::fs::create_dir_all(dir).map_err(file("cannot create", dir))?;
    create_overlay(request.image, request.image_format, &path(files::DISK)).await?;
    std::fs::File::create(path(template_files::MEMORY)).map_err(file("cannot create", &path("memory")))?;
    if let Some(credentials) = request.credentials {
        let owner = Some(credentials.id);
        for owned in [dir.to_path_buf(), path(files::DISK), path(template_files::MEMORY)] {
            std::os::unix::fs::chown(&owned, owner, owner).map_err(file("cannot give away", &owned))?;
        }
    }
    let machine = Machine {
        qemu: request.qemu,
        accel: request.accel,
        shape: request.spec.machine,
        memory: Memory::Template(path(template_files::MEMORY)),
        start: Start::Boot,
        card: card.then(|| card::TEMPLATE_MAC.to_owned()),
        network: false,
        name: "lucarne-template".into(),
        generation_id: uuid::Uuid::new_v4(),
    };
    let started = Instant::now();
    let process = Process::start(&machine, dir, request.credentials).await?.kill_on_drop();
    let result = tokio::select! {
        made = settle_and_freeze(dir, started, &process, card, progress) => made,
        () = process.ended() => Err(TemplateError::Died(process.last_words())),
    };
    process.kill().await;
    let Frozen { identity, card, cold_boot_s, freeze_ms } = result?;
    mend_state(&path(template_files::STATE))?;

    progress(97, "sealing");
    for leftover in [files::QMP, files::GUEST_AGENT, files::IDENTITY, files::VDAGENT, files::PID, files::LOG]
    {
        let _ = std::fs::remove_file(path(leftover));
    }
    // The overlay is made while its lower disk is still in the building folder, under the name it will have.
    create_overlay(&path(files::DISK), "qcow2", &path(template_files::OVERLAY)).await?;
    rebase(&path(template_files::OVERLAY), &target.join(template_files::DISK)).await?;
    let meta = TemplateMeta {
        spec: request.spec.clone(),
        accel: request.accel,
        qemu_version: request.qemu.version.clone(),
        identity,
        card,
        cold_boot_s,
        freeze_ms,
        created_at: unix_time(),
    };
    let text = serde_json::to_string_pretty(&meta).map_err(|e| TemplateError::Freeze(e.to_string()))?;
    std::fs::write(path(template_files::META), text).map_err(file("cannot write", &path("template.json")))?;
    seal(dir)?;
    Ok(meta)
}

/// Makes the state one that QEMU can load.
fn mend_state(path: &Path) -> Result<(), TemplateError> {
    let mut state = std::fs::read(path).map_err(file("cannot read", path))?;
    match device_state::mend_if_known(&mut state) {
        Ok(false) => Ok(()),
        Ok(true) => std::fs::write(path, state).map_err(file("cannot write", path)),
        Err(error) => Err(TemplateError::Freeze(error.to_string())),
    }
}

/// Makes every file read-only, owned by us, and durable.
fn seal(dir: &Path) -> Result<(), TemplateError> {
    let own = rustix::process::geteuid().as_raw();
    for entry in std::fs::read_dir(dir).map_err(file("cannot list", dir))? {
        let path = entry.map_err(file("cannot list", dir))?.path();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(own), Some(own)).map_err(file("cannot take back", &path))?;
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444))
            .map_err(file("cannot seal", &path))?;
        std::fs::File::open(&path).and_then(|f| f.sync_all()).map_err(file("cannot make durable", &path))?;
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(dir, Some(own), Some(own)).map_err(file("cannot take back", dir))?;
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
        .map_err(file("cannot seal", dir))?;
    Ok(())
}

async fn rebase(overlay: &Path, base: &Path) -> Result<(), TemplateError> {
    let run = tokio::process::Command::new("qemu-img")
        .args(["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b"])
        .arg(base)
        .arg(overlay)
        .output()
        .await
        .map_err(file("cannot run qemu-img to rebase", overlay))?;
    if run.status.success() {
        Ok(())
    } else {
        let said = String::from_utf8_lossy(&run.stderr).trim().to_owned();
        Err(TemplateError::Overlay { base: base.into(), said })
    }
}

/// What is told of a template when it has been frozen.
struct Frozen {
    identity: IdentityMethod,
    card: bool,
    cold_boot_s: f64,
    freeze_ms: f64,
}

async fn settle_and_freeze(
    dir: &Path,
    started: Instant,
    process: &Process,
    card: bool,
    progress: &mut Progress<'_>,
) -> Result<Frozen, TemplateError> {
    let (qmp, mut events) = Qmp::connect(&dir.join(files::QMP)).await?;
    let qmp = Arc::new(qmp);
    if card {
        // There is nothing at its other end yet.
        card::set_cable(&qmp, false).await?;
    }
    let watcher = Arc::new(Watcher::default());
    let _display = Display::attach(&qmp, watcher.clone(), Listen::First).await?;

    progress(5, "booting");
    let socket = dir.join(files::GUEST_AGENT);
    let boot = GuestAgent::connect(&socket, BOOT_LIMIT);
    tokio::pin!(boot);
    let mut agent = loop {
        // The bar moves with the boot's usual length; nothing but the guest agent's answer ends this wait.
        match tokio::time::timeout(Duration::from_millis(500), &mut boot).await {
            Ok(Err(GuestAgentError::TimedOut(_))) => return Err(TemplateError::NoGuestAgent),
            Ok(answer) => break answer?,
            Err(_) => {
                let share = (started.elapsed().as_secs_f64() / 40.0).min(0.95);
                progress(5 + (50.0 * share) as u8, "booting");
            }
        }
    };
    progress(55, "waiting for the desktop to be painted");
    let settle = Settle { watcher: &watcher, process, started };
    let painted = settle.painted(&mut agent, progress).await?;
    progress(80, "waiting for the desktop to be idle");
    settle.idle(progress).await;
    let identity = if helper_answers(&dir.join(files::IDENTITY)).await {
        IdentityMethod::Helper
    } else {
        IdentityMethod::GuestAgent
    };
    let keeps_card = card && identity == IdentityMethod::Helper;
    if keeps_card {
        progress(86, "rehearsing a fork");
        card::rehearse(&qmp, &mut agent).await?;
    } else if card {
        progress(86, "unplugging the network card");
        card::remove(&qmp, &mut events).await.map_err(|error| match error {
            CardError::Qmp(error) => TemplateError::Qmp(error),
            stuck @ CardError::Stuck => TemplateError::Card(stuck.to_string()),
        })?;
    }
    // What a boot has not written back yet every clone would write to its own disk.
    if let Err(error) = agent.shell("sync", Duration::from_secs(60)).await {
        tracing::debug!(%error, "the guest does not write back what it has kept");
    }
    settle.idle(progress).await;
    // Clones must not find an agent in the middle of a conversation.
    agent.execute("guest-sync", json!({ "id": 1 }), Duration::from_secs(10)).await?;
    drop(agent);

    progress(93, "freezing");
    let freeze = Instant::now();
    qmp.execute("stop", Value::Null).await?;
    let capabilities = json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] });
    qmp.execute("migrate-set-capabilities", capabilities).await?;
    // As fast as the disk goes: the default limit is meant for networks.
    qmp.execute("migrate-set-parameters", json!({ "max-bandwidth": 8_u64 << 30 })).await?;
    qmp.execute("migrate", json!({ "uri": format!("file:{}", template_files::STATE) })).await?;
    wait_frozen(&qmp).await?;
    let freeze_ms = freeze.elapsed().as_secs_f64() * 1000.0;
    Ok(Frozen { identity, card: keeps_card, cold_boot_s: painted.as_secs_f64(), freeze_ms })
}

async fn wait_frozen(qmp: &Qmp) -> Result<(), TemplateError> {
    let deadline = Instant::now() + FREEZE_LIMIT;
    loop {
        let info = qmp.execute("query-migrate", Value::Null).await?;
        match info["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                let why = info["error-desc"].as_str().unwrap_or("QEMU gave no reason");
                return Err(TemplateError::Freeze(why.into()));
            }
            _ if Instant::now() > deadline => {
                return Err(TemplateError::Freeze(format!("not done in {} s", FREEZE_LIMIT.as_secs())));
            }
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// Whether the resident identity helper is there, listens, and speaks the version of [`crate::identity`].
async fn helper_answers(socket: &Path) -> bool {
    let ask = crate::identity::ask_helper(socket, "ping\n");
    matches!(tokio::time::timeout(Duration::from_secs(5), ask).await, Ok(Ok(answer)) if answer == "pong 2")
}

fn unix_time() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
