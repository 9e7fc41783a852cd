//! The desktops of this host: what is desired against what is here.

use crate::config::AgentConfig;
use crate::desktop_task::{DesktopTask, Wish, now_ms, read_config};
use crate::hub::Hub;
use crate::slots::Slots;
use crate::templates::Templates;
use lucarne_control::agent::{Desired, DesktopDesired};
use lucarne_control::desktop::DesiredState;
use lucarne_control::ids::DesktopId;
use lucarne_control::spec::TemplateSpec;
use lucarne_qemu::{Accel, Qemu, Template};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

/// What every desktop's task uses.
pub(crate) struct Shared {
    pub(crate) desktops_dir: PathBuf,
    pub(crate) recordings_dir: PathBuf,
    pub(crate) program: PathBuf,
    pub(crate) qemu: Qemu,
    pub(crate) accel: Accel,
    pub(crate) slots: Arc<Slots>,
    /// Guests are kept off this machine's own network.
    pub(crate) confined: bool,
    pub(crate) templates: Arc<Templates>,
    pub(crate) hub: Hub,
    /// Forks under way at once: more than the processors can run only makes each slower.
    pub(crate) starts: Semaphore,
}

struct Running {
    wish: watch::Sender<Wish>,
    task: tokio::task::JoinHandle<()>,
}

/// All desktops of this host.
pub(crate) struct Desktops {
    shared: Arc<Shared>,
    running: Mutex<HashMap<DesktopId, Running>>,
    tasks: TaskTracker,
}

impl Desktops {
    pub(crate) fn new(
        config: &AgentConfig,
        qemu: Qemu,
        accel: Accel,
        slots: Arc<Slots>,
        confined: bool,
        templates: Arc<Templates>,
        hub: Hub,
    ) -> Self {
        let starts = std::thread::available_parallelism().map_or(2, |n| n.get() * 2);
        let shared = Shared {
            desktops_dir: config.desktops(),
            recordings_dir: config.recordings(),
            program: config.program.clone(),
            qemu,
            accel,
            slots,
            confined,
            templates,
            hub,
            starts: Semaphore::new(starts),
        };
        Self { shared: Arc::new(shared), running: Mutex::default(), tasks: TaskTracker::new() }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<DesktopId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over every desktop whose folder is here.
    pub(crate) fn adopt_all(&self) {
        let Ok(dirs) = std::fs::read_dir(&self.shared.desktops_dir) else { return };
        for entry in dirs.flatten() {
            let dir = entry.path();
            // Its id is in use from now on, whatever becomes of it.
            let _ = self.shared.slots.of_dir(&dir);
            let Some(id) = entry.file_name().to_str().and_then(|n| n.parse::<DesktopId>().ok()) else {
                tracing::warn!(dir = %dir.display(), "not a desktop's folder; left alone");
                continue;
            };
            match read_config(&dir) {
                Ok(config) => {
                    tracing::info!(desktop = %id, "takes over a desktop");
                    let template = Template::open(&config.template).map(|t| t.meta.spec);
                    self.begin(
                        DesktopDesired {
                            desktop: id,
                            generation: config.generation,
                            state: DesiredState::Running,
                            template: template.unwrap_or_else(|| unknown_template(&config.template)),
                            identity: config.identity,
                            network: config.network,
                            audio: config.audio,
                            clipboard: config.clipboard,
                            recording: config.recording,
                            pool: config.pool,
                        },
                        true,
                    );
                }
                Err(why) => {
                    // The agent ended between the folder and its description: nothing ever ran here.
                    tracing::warn!(desktop = %id, %why, "removes a half-made desktop");
                    if let Err(error) = std::fs::remove_dir_all(&dir) {
                        tracing::error!(dir = %dir.display(), %error, "it cannot be removed");
                    }
                }
            }
        }
    }

    fn begin(&self, desired: DesktopDesired, adopted: bool) {
        let id = desired.desktop;
        let (sender, receiver) = watch::channel(Wish { desired, received_ms: now_ms() });
        let task = DesktopTask {
            shared: self.shared.clone(),
            wish: receiver,
            dir: self.shared.desktops_dir.join(id.to_string()),
            adopted,
        };
        let task = self.tasks.spawn(task.run());
        self.running().insert(id, Running { wish: sender, task });
    }

    /// Makes the desired set so: starts what is missing, destroys what should not be.
    pub(crate) fn apply(&self, desired: &Desired) {
        let mut new = Vec::new();
        {
            let mut running = self.running();
            // What is gone and no longer asked about is forgotten.
            running.retain(|id, r| {
                let asked = desired.desktops.iter().any(|d| d.desktop == *id);
                let keep = asked || !r.task.is_finished();
                if !keep {
                    self.shared.hub.desktop_gone(*id);
                }
                keep
            });
            for (id, here) in running.iter() {
                let wanted = desired.desktops.iter().find(|d| d.desktop == *id);
                match wanted {
                    Some(d) if d.state == DesiredState::Running => {}
                    Some(d) => destroy(here, d.generation),
                    None => {
                        tracing::info!(desktop = %id, "is not desired here; it is destroyed");
                        destroy(here, here.wish.borrow().desired.generation);
                    }
                }
            }
            for d in &desired.desktops {
                match running.get(&d.desktop) {
                    Some(here) => {
                        let seen = here.wish.borrow().desired.generation;
                        if d.generation < seen {
                            tracing::warn!(desktop = %d.desktop, told = d.generation, seen, "a lower generation is refused");
                        }
                    }
                    None => new.push(d.clone()),
                }
            }
        }
        for d in new {
            self.begin(d, false);
        }
    }

    /// The templates that desktops here came from or wait for.
    pub(crate) fn templates_in_use(&self) -> Vec<TemplateSpec> {
        let running = self.running();
        running
            .values()
            .filter(|r| !r.task.is_finished())
            .map(|r| r.wish.borrow().desired.template.clone())
            .collect()
    }

    /// Destroys everything and waits until it is gone.
    pub(crate) async fn destroy_all(&self) {
        for here in self.running().values() {
            destroy(here, u64::MAX);
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// An order of a lower generation than the desktop's own is out of date and changes nothing.
fn destroy(here: &Running, generation: u64) {
    here.wish.send_if_modified(|wish| {
        let due = wish.desired.state == DesiredState::Running && generation >= wish.desired.generation;
        if due {
            wish.desired.state = DesiredState::Absent;
        }
        due
    });
}

/// A desktop outlives its template's description only if someone removed that; the desktop needs nothing from it any
/// more but the open files that its QEMU holds.
fn unknown_template(dir: &std::path::Path) -> TemplateSpec {
    tracing::warn!(template = %dir.display(), "a desktop's template has no description");
    let zero = lucarne_control::spec::ImageDigest::try_from("0".repeat(64));
    TemplateSpec {
        image: zero.unwrap_or_else(|_| unreachable!("64 zeros are a digest")),
        machine: lucarne_control::spec::MachineShape::default(),
    }
}
