//! The desktops of this host: what is desired against what is here.

use crate::config::AgentConfig;
use crate::desktop_task::{DesktopTask, Wish, now_ms};
use crate::folder::{read_config, was_used};
use crate::homes::Homes;
use crate::hub::Hub;
use crate::origins::Origins;
use crate::slots::Slots;
use crate::snapshots::Snapshots;
use crate::templates::Templates;
use lucarne_control::agent::{Desired, DesktopDesired, DesktopObserved, HomeDesired};
use lucarne_control::desktop::{DesiredState, ForkTimings, Phase};
use lucarne_control::ids::DesktopId;
use lucarne_control::spec::{ImageDigest, TemplateSpec};
use lucarne_ledger::{Order, Refusal};
use lucarne_qemu::snapshot::export;
use lucarne_qemu::{Accel, Qemu, Template};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
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
    pub(crate) homes: Arc<Homes>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) origins: Origins,
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
    turn: Mutex<()>,
    /// The agent ends, and makes no desktop any more.
    closing: AtomicBool,
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
        let usual = || std::thread::available_parallelism().map_or(2, |n| n.get() * 2);
        let starts = config.max_starting.map_or_else(usual, |most| most as usize);
        let snapshots = Snapshots::new(config.desktops(), config.program.clone(), slots.clone(), hub.clone());
        let shared = Shared {
            desktops_dir: config.desktops(),
            recordings_dir: config.recordings(),
            program: config.program.clone(),
            qemu,
            accel,
            slots,
            confined,
            templates,
            homes: Arc::new(Homes::new(config.homes(), hub.clone())),
            snapshots: Arc::new(snapshots),
            origins: Origins::new(config.clones()),
            hub,
            starts: Semaphore::new(starts),
        };
        Self {
            shared: Arc::new(shared),
            running: Mutex::default(),
            tasks: TaskTracker::new(),
            turn: Mutex::default(),
            closing: AtomicBool::new(false),
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<DesktopId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over every desktop whose folder is here.
    pub(crate) fn adopt_all(self: &Arc<Self>) {
        self.shared.homes.find(&self.shared.desktops_dir);
        self.shared.origins.find(&self.shared.desktops_dir);
        let Ok(dirs) = std::fs::read_dir(&self.shared.desktops_dir) else { return };
        for entry in dirs.flatten() {
            let dir = entry.path();
            // Its id is in use from now on, whatever becomes of it.
            let _ = self.shared.slots.of_dir(&dir);
            // Whoever was to have it begins anew.
            let _ = std::fs::remove_dir_all(dir.join(export::FOLDER));
            let Some(id) = entry.file_name().to_str().and_then(|n| n.parse::<DesktopId>().ok()) else {
                tracing::warn!(dir = %dir.display(), "not a desktop's folder; left alone");
                continue;
            };
            match read_config(&dir) {
                Ok(config) => {
                    tracing::info!(desktop = %id, "takes over a desktop");
                    self.shared.hub.adopt(id, config.generation, config.wish, config.persistent);
                    self.shared.snapshots.find(id);
                    let template = Template::open(&config.template).map(|t| t.meta.spec);
                    // Which disk it has is not for its own folder to say.
                    let disk = self.shared.homes.held_by(id).or(config.home.map(|home| home.disk));
                    let home = disk.map(|disk| HomeDesired { disk, size_mib: 0, fresh: false });
                    self.begin(
                        DesktopDesired {
                            desktop: id,
                            generation: config.generation,
                            state: config.state,
                            wish: config.wish,
                            persistent: config.persistent,
                            fresh: false,
                            template: template.unwrap_or_else(|| unknown_template(&config.template)),
                            identity: config.identity,
                            network: config.network,
                            audio: config.audio,
                            clipboard: config.clipboard,
                            recording: config.recording,
                            pool: config.pool,
                            home,
                            back_to: config.back_to,
                            // What it is to be made of is not for its own folder to say.
                            origin: None,
                        },
                        true,
                    );
                }
                Err(why) if was_used(&dir) => {
                    tracing::error!(desktop = %id, %why, "a desktop's folder has no description; left alone with its data");
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

    fn begin(self: &Arc<Self>, desired: DesktopDesired, adopted: bool) {
        let id = desired.desktop;
        let now = Wish { desired, received_ms: now_ms(), parting: false };
        let (sender, receiver) = watch::channel(now.clone());
        let desktops = Arc::clone(self);
        let task = DesktopTask {
            shared: self.shared.clone(),
            report: Box::new(move |seen| desktops.observe(seen)),
            wish: receiver,
            now,
            dir: self.shared.desktops_dir.join(id.to_string()),
            has_folder: adopted,
            kept: true,
            not_back: None,
        };
        // Held until it is entered: a task may be over at once.
        let mut running = self.running();
        running.retain(|_, here| !here.task.is_finished());
        let task = self.tasks.spawn(task.run());
        running.insert(id, Running { wish: sender, task });
    }

    /// Makes the desired set so: starts what is missing, destroys what should not be.
    ///
    /// # Errors
    /// It is older than what was followed.
    pub(crate) fn apply(self: &Arc<Self>, desired: &Desired) -> Result<(), Refusal> {
        let _turn = self.turn();
        let orders = self.shared.hub.follow(desired)?;
        for order in &orders {
            if let Order::End(id) = order
                && !desired.desktops.iter().any(|d| d.desktop == *id)
                && self.running().get(id).is_some_and(|here| here.wish.borrow().desired.persistent)
            {
                tracing::error!(desktop = %id, "a persistent desktop is not desired here any more, and is destroyed");
            }
        }
        self.obey(orders);
        self.shared.snapshots.follow(&desired.snapshots);
        if !desired.deleted_disks.is_empty() {
            let (homes, disks) = (Arc::clone(&self.shared.homes), desired.deleted_disks.clone());
            // Freeing a large file takes a while.
            tokio::task::spawn_blocking(move || homes.doom(&disks));
        }
        Ok(())
    }

    /// What the ledger decides is obeyed in the order in which it was decided.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn obey(self: &Arc<Self>, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Begin(desktop) if self.closing.load(Ordering::Relaxed) => {
                    let seen = DesktopObserved {
                        desktop: desktop.desktop,
                        generation: desktop.generation,
                        wish: desktop.wish,
                        phase: Phase::Failed,
                        detail: "its host's agent is ending".to_owned(),
                        endpoint: None,
                        timings: ForkTimings::default(),
                    };
                    // A desktop that never began has none that could begin after it.
                    let _ = self.shared.hub.desktop(seen);
                }
                Order::Begin(desktop) => self.begin(desktop, false),
                Order::Change(desired) => {
                    if let Some(here) = self.running().get(&desired.desktop) {
                        change(here, desired);
                    }
                }
                Order::End(desktop) => {
                    if let Some(here) = self.running().get(&desktop) {
                        destroy(here);
                    }
                }
                Order::Stale { desktop, told, here } => {
                    tracing::warn!(%desktop, told, here, "a lower generation is refused");
                }
                // Told by the hub.
                Order::Tell(_) => {}
            }
        }
    }

    /// Takes over what became of a desktop.
    fn observe(self: &Arc<Self>, seen: DesktopObserved) {
        let _turn = self.turn();
        let orders = self.shared.hub.desktop(seen);
        self.obey(orders);
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

    /// Whether the disk of a desktop that persists is based on the template in this folder.
    pub(crate) fn is_base(&self, template: &Path) -> bool {
        let Ok(dirs) = std::fs::read_dir(&self.shared.desktops_dir) else { return true };
        // What cannot be read may be.
        dirs.flatten()
            .any(|dir| read_config(&dir.path()).map_or(true, |c| c.persistent && c.template == template))
    }

    /// Whether the disk of a desktop that persists is based on this image.
    pub(crate) fn is_kept(&self, image: &ImageDigest) -> bool {
        let running = self.running();
        let mut wishes = running.values().filter(|r| !r.task.is_finished()).map(|r| r.wish.borrow());
        wishes.any(|w| w.desired.persistent && w.desired.template.image == *image)
    }

    /// Destroys everything but what persists, which is powered off, and waits until nothing runs any more.
    pub(crate) async fn destroy_all(&self) {
        {
            let _turn = self.turn();
            self.closing.store(true, Ordering::Relaxed);
            self.running().values().for_each(part);
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn destroy(here: &Running) {
    here.wish.send_if_modified(|wish| {
        let due = wish.desired.state != DesiredState::Absent;
        wish.desired.state = DesiredState::Absent;
        due
    });
}

/// What becomes of it when the agent ends and nothing is to run on.
fn part(here: &Running) {
    if here.wish.borrow().desired.persistent {
        here.wish.send_modify(|wish| wish.parting = true);
    } else {
        destroy(here);
    }
}

/// Hands it a later wish. What its disk is based on and who it is do not change.
fn change(here: &Running, desired: DesktopDesired) {
    here.wish.send_if_modified(|wish| {
        let due = wish.desired.state != DesiredState::Absent;
        if due {
            let DesktopDesired { template, identity, .. } = wish.desired.clone();
            wish.desired = DesktopDesired { template, identity, ..desired };
            wish.received_ms = now_ms();
        }
        due
    });
}

/// A desktop outlives its template's description only if someone removed that; the desktop needs nothing from it any
/// more but the open files that its QEMU holds.
fn unknown_template(dir: &Path) -> TemplateSpec {
    tracing::warn!(template = %dir.display(), "a desktop's template has no description");
    let zero = lucarne_control::spec::ImageDigest::try_from("0".repeat(64));
    TemplateSpec {
        image: zero.unwrap_or_else(|_| unreachable!("64 zeros are a digest")),
        machine: lucarne_control::spec::MachineShape::default(),
    }
}
