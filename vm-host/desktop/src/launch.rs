//! How the desktop process comes to its virtual machine: what it asks of a driver's launcher, and the QEMU one.
//!
//! Nothing else in this crate knows which hypervisor runs. Whether to fork or to take over is not decided here but in
//! [`crate::life`].

use crate::config::{DesktopConfig, Done};
use crate::control::POWER_OFF_LIMIT;
use crate::error::chain;
use async_trait::async_trait;
use lucarne_control::spec::NetworkPolicy;
use lucarne_driver::{DisplaySink, Vm};
use lucarne_qemu::process::Process;
use lucarne_qemu::save::GuestMemory;
use lucarne_qemu::start::{ForkError, ForkSteps, Origin};
use lucarne_qemu::suspend;
use lucarne_qemu::template::IdentityMethod;
use lucarne_qemu::{ForkRequest, Qemu, QemuVm, Template};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a hypervisor may refuse to be taken over. It serves one owner at a time and notices the end of the former
/// within milliseconds; on a host that swaps it takes seconds.
const ADOPT_LIMIT: Duration = Duration::from_secs(15);

/// A guest that was just forked or powered on: it runs, without an identity and with its network unplugged. One that was resumed
/// has both.
pub struct Forked {
    /// The guest.
    pub vm: Arc<dyn Vm>,
    /// When the hypervisor ran.
    pub spawned: Instant,
    /// When it had loaded the template, from which a guest that boots takes nothing.
    pub loaded: Option<Instant>,
    /// When the guest ran.
    pub running: Instant,
}

/// What starts a desktop's virtual machine. The errors are sentences for the administrator.
#[async_trait]
pub trait Launcher: Send + Sync {
    /// Takes over the virtual machine that runs already; `None` when none does.
    ///
    /// # Errors
    /// One runs and does not answer. It is left alone.
    async fn adopt(&self, sink: Arc<dyn DisplaySink>) -> Result<Option<Arc<dyn Vm>>, String>;

    /// Starts a new one from the template.
    ///
    /// # Errors
    /// It does not run; nothing of it is left running.
    async fn fork(&self, sink: Arc<dyn DisplaySink>) -> Result<Forked, String>;

    /// Powers it on, to boot from the disk that an earlier guest has left.
    ///
    /// # Errors
    /// It does not run; nothing of it is left running, and its disk is as it was.
    async fn boot(&self, sink: Arc<dyn DisplaySink>) -> Result<Forked, String>;

    /// Whether what does not run is suspended.
    fn is_suspended(&self) -> bool;

    /// Takes up what is suspended.
    ///
    /// # Errors
    /// It does not run; nothing of it is left running, and it is suspended as before.
    async fn resume(&self, sink: Arc<dyn DisplaySink>) -> Result<Forked, String>;

    /// How long a guest may take to power off.
    fn power_off_limit(&self) -> Duration {
        POWER_OFF_LIMIT
    }

    /// Ends what runs for this desktop, if anything does, whoever started it, and waits until it has ended.
    async fn clear(&self);
}

/// Launches desktops on QEMU.
pub(crate) struct QemuLauncher {
    dir: PathBuf,
    config: DesktopConfig,
    /// The guest has its identity already, so how it would be given does not matter.
    identified: bool,
    /// What it has is another desktop's identity.
    cloned: bool,
    /// The guest booted from its disk.
    booted: bool,
    /// The QEMU that runs it, if one does.
    qemu_version: String,
}

impl QemuLauncher {
    /// For the desktop in `dir`, absolute and without symbolic links.
    pub(crate) fn new(dir: PathBuf, config: DesktopConfig, done: &Done) -> Self {
        let (identified, booted) = (done.identified, done.booted);
        let (cloned, qemu_version) = (done.cloned, done.qemu_version.clone());
        Self { dir, config, identified, cloned, booted, qemu_version }
    }

    fn template(&self) -> Result<Template, String> {
        Template::open(&self.config.template).ok_or_else(|| {
            format!(
                "the template {} is missing or not complete; make it again (it is made when its pool is next used)",
                self.config.template.display()
            )
        })
    }

    fn networked(&self) -> bool {
        self.config.network == NetworkPolicy::User
    }

    fn qemu(&self) -> Qemu {
        Qemu { path: self.config.qemu.clone(), version: self.config.qemu_version.clone() }
    }

    fn request<'a>(&'a self, template: &'a Template, qemu: &'a Qemu) -> ForkRequest<'a> {
        ForkRequest {
            qemu,
            accel: self.config.accel,
            template,
            dir: &self.dir,
            name: format!("lucarne-{}", self.config.desktop),
            mac: self.config.identity.mac.clone(),
            network: self.networked(),
            persistent: self.config.persistent,
            anew: self.cloned,
            home: self.config.home.as_ref().map(|home| home.path.as_path()),
        }
    }
}

fn forked(started: Result<(QemuVm, ForkSteps), ForkError>) -> Result<Forked, String> {
    let (vm, steps) = started.map_err(|error| chain(&error))?;
    tracing::info!(pid = vm.pid(), "the guest runs");
    Ok(Forked { vm: Arc::new(vm), spawned: steps.spawned, loaded: steps.loaded, running: steps.running })
}

#[async_trait]
impl Launcher for QemuLauncher {
    async fn adopt(&self, sink: Arc<dyn DisplaySink>) -> Result<Option<Arc<dyn Vm>>, String> {
        if Process::adopt(&self.dir).is_none() {
            return Ok(None);
        }
        let (persistent, booted) = (self.config.persistent, self.booted);
        let (identity, memory) = match self.template() {
            Ok(template) => (template.meta.identity, Some(GuestMemory::of(&template, booted))),
            Err(_) if self.identified => (IdentityMethod::GuestAgent, None),
            Err(why) => return Err(why),
        };
        let qemu_version = self.qemu_version.clone();
        let network = self.networked();
        let anew = self.cloned;
        let origin = Origin { identity, network, persistent, anew, booted, memory, qemu_version };
        let attempts = async {
            loop {
                match QemuVm::adopt(&self.dir, origin.clone(), sink.clone()).await {
                    Ok(vm) => return Ok(Some(Arc::new(vm) as Arc<dyn Vm>)),
                    Err(ForkError::NothingToAdopt(_)) => return Ok(None),
                    Err(error) if Process::adopt(&self.dir).is_none() => {
                        tracing::warn!(error = chain(&error), "QEMU ended while it was taken over");
                        return Ok(None);
                    }
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "QEMU could not be taken over yet");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        };
        let limit = ADOPT_LIMIT.as_secs();
        tokio::time::timeout(ADOPT_LIMIT, attempts).await.unwrap_or_else(|_| {
            Err(format!("QEMU runs and could not be taken over within {limit} s; see {}", self.dir.display()))
        })
    }

    async fn fork(&self, sink: Arc<dyn DisplaySink>) -> Result<Forked, String> {
        let (template, qemu) = (self.template()?, self.qemu());
        forked(QemuVm::fork(&self.request(&template, &qemu), sink).await)
    }

    async fn boot(&self, sink: Arc<dyn DisplaySink>) -> Result<Forked, String> {
        // The disk is based on its template's.
        let (template, qemu) = (self.template()?, self.qemu());
        forked(QemuVm::boot(&self.request(&template, &qemu), sink).await)
    }

    fn is_suspended(&self) -> bool {
        suspend::is_suspended(&self.dir)
    }

    async fn resume(&self, sink: Arc<dyn DisplaySink>) -> Result<Forked, String> {
        // Its memory is what has changed since its template.
        let (template, qemu) = (self.template()?, self.qemu());
        forked(QemuVm::resume(&self.request(&template, &qemu), self.booted, sink).await)
    }

    async fn clear(&self) {
        if let Some(process) = Process::adopt(&self.dir) {
            process.kill().await;
        }
    }
}
