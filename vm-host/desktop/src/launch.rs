//! How the desktop process comes to its virtual machine: what it asks of a driver's launcher, and the QEMU one.
//!
//! Nothing else in this crate knows which hypervisor runs. Whether to fork or to take over is not decided here but in
//! [`crate::life`].

use crate::config::DesktopConfig;
use crate::error::chain;
use async_trait::async_trait;
use lucarne_control::spec::NetworkPolicy;
use lucarne_driver::{DisplaySink, Vm};
use lucarne_qemu::process::Process;
use lucarne_qemu::template::IdentityMethod;
use lucarne_qemu::vm::ForkError;
use lucarne_qemu::{ForkRequest, Qemu, QemuVm, Template};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a hypervisor may refuse to be taken over. It serves one owner at a time and notices the end of the former
/// within milliseconds; on a host that swaps it takes seconds.
const ADOPT_LIMIT: Duration = Duration::from_secs(15);

/// A guest that was just forked: it runs, without an identity and with its network unplugged.
pub struct Forked {
    /// The guest.
    pub vm: Arc<dyn Vm>,
    /// When the hypervisor ran.
    pub spawned: Instant,
    /// When it had loaded the template.
    pub loaded: Instant,
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

    /// Ends what runs for this desktop, if anything does, whoever started it, and waits until it has ended.
    async fn clear(&self);
}

/// Launches desktops on QEMU.
pub(crate) struct QemuLauncher {
    dir: PathBuf,
    config: DesktopConfig,
    /// The guest has its identity already, so how it would be given does not matter.
    identified: bool,
}

impl QemuLauncher {
    /// For the desktop in `dir`, absolute and without symbolic links.
    pub(crate) fn new(dir: PathBuf, config: DesktopConfig, identified: bool) -> Self {
        Self { dir, config, identified }
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
}

#[async_trait]
impl Launcher for QemuLauncher {
    async fn adopt(&self, sink: Arc<dyn DisplaySink>) -> Result<Option<Arc<dyn Vm>>, String> {
        if Process::adopt(&self.dir).is_none() {
            return Ok(None);
        }
        let method = match self.template() {
            Ok(template) => template.meta.identity,
            Err(_) if self.identified => IdentityMethod::GuestAgent,
            Err(why) => return Err(why),
        };
        let attempts = async {
            loop {
                match QemuVm::adopt(&self.dir, method, self.networked(), sink.clone()).await {
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
        let template = self.template()?;
        let qemu = Qemu { path: self.config.qemu.clone(), version: self.config.qemu_version.clone() };
        let request = ForkRequest {
            qemu: &qemu,
            accel: self.config.accel,
            template: &template,
            dir: &self.dir,
            name: format!("lucarne-{}", self.config.desktop),
            mac: self.config.identity.mac.clone(),
            network: self.networked(),
        };
        let (vm, steps) = QemuVm::fork(&request, sink).await.map_err(|error| chain(&error))?;
        tracing::info!(pid = vm.pid(), "the guest runs");
        Ok(Forked { vm: Arc::new(vm), spawned: steps.spawned, loaded: steps.loaded, running: steps.running })
    }

    async fn clear(&self) {
        if let Some(process) = Process::adopt(&self.dir) {
            process.kill().await;
        }
    }
}
