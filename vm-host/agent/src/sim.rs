//! Hosts that only pretend to run virtual machines, thousands in one process: to see what a deployment of that size takes
//! before there is one. All else is real: each has a link of its own, keeps its ledger and tells what would happen when.

use crate::hub::Hub;
use crate::link::{Link, Route};
use crate::machine::Machine;
use lucarne_control::DesktopId;
use lucarne_control::agent::{
    Desired, DesktopDesired, DesktopObserved, Followed, HostFacts, TemplateObserved, TemplateState,
};
use lucarne_control::desktop::{DesiredState, Endpoint, ForkTimings, Phase};
use lucarne_control::link::Opened;
use lucarne_control::spec::{ImageDigest, ImageInfo, TemplateSpec};
use lucarne_ledger::{Order, Refusal};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long what it pretends takes; near what a two-core machine without KVM was measured to take.
const PICTURE: Duration = Duration::from_millis(90);
const IDENTITY: Duration = Duration::from_millis(450);
const TEMPLATE: Duration = Duration::from_millis(500);
const DESTRUCTION: Duration = Duration::from_millis(150);
const POWER_OFF: Duration = Duration::from_millis(300);

/// The size of each.
const CPUS: u32 = 64;
const MEMORY_MIB: u64 = 512 << 10;
const DISK: u64 = 8 << 40;

/// Changes that a link may fall behind: few, because there are many hosts.
const BACKLOG: usize = 128;

/// What is pretended.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// The broker's socket for agents of its machine.
    pub socket: PathBuf,
    /// Where the pretended displays are: a socket that says what they are.
    pub display: PathBuf,
    /// What the hosts' names begin with.
    pub name: String,
    /// How many.
    pub hosts: u32,
}

struct Pretended {
    hub: Hub,
    display: String,
    /// What is here, with its generation and the wish that is acted on.
    desktops: Mutex<HashMap<DesktopId, (u64, u64)>>,
    templates: Mutex<HashSet<TemplateSpec>>,
    /// What the ledger decides is obeyed in the order in which it was decided.
    turn: Mutex<()>,
    me: Weak<Self>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The image that all of them have.
fn image() -> ImageInfo {
    let digest = ImageDigest::try_from("5".repeat(64));
    ImageInfo {
        digest: digest.unwrap_or_else(|_| unreachable!("64 digits are a digest")),
        name: "simulated".to_owned(),
        version: "1".to_owned(),
        description: "No image: desktops of simulated hosts have none".to_owned(),
        format: "raw".to_owned(),
        virtual_size: 8 << 30,
        stored_size: 1 << 30,
        created_at: 0,
        source: "simulated".to_owned(),
        guest_agent: true,
    }
}

impl Pretended {
    fn new(display: String) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            hub: Hub::new(Followed::default(), BACKLOG),
            display,
            desktops: Mutex::default(),
            templates: Mutex::default(),
            turn: Mutex::default(),
            me: me.clone(),
        })
    }

    /// Does it later.
    fn after(&self, delay: Duration, work: impl FnOnce(&Self) + Send + 'static) {
        let me = self.me.clone();
        tokio::spawn(async move {
            sleep(delay).await;
            if let Some(me) = me.upgrade() {
                work(&me);
            }
        });
    }

    /// Does what is wanted of one that is new, or wanted otherwise than before.
    fn begin(&self, desired: &DesktopDesired) {
        let (desktop, at) = (desired.desktop, (desired.generation, desired.wish));
        let new = lock(&self.desktops).insert(desktop, at).is_none();
        if let Some(home) = desired.home {
            self.hub.disk(home.disk);
        }
        if desired.state == DesiredState::Running {
            self.after(PICTURE, move |me| me.steps(desktop, at, Phase::Starting));
            self.after(IDENTITY, move |me| me.steps(desktop, at, Phase::Ready));
        } else {
            if !new {
                self.steps(desktop, at, Phase::Stopping);
            }
            let rest = if desired.state == DesiredState::Suspended { Phase::Suspended } else { Phase::Off };
            self.after(POWER_OFF, move |me| me.steps(desktop, at, rest));
        }
    }

    fn steps(&self, desktop: DesktopId, at: (u64, u64), phase: Phase) {
        if lock(&self.desktops).get(&desktop) == Some(&at) {
            self.observe(desktop, at, phase);
        }
    }

    fn end(&self, desktop: DesktopId) {
        // One that was never begun here is confirmed as well.
        let at = lock(&self.desktops).remove(&desktop).unwrap_or_default();
        self.observe(desktop, at, Phase::Stopping);
        self.after(DESTRUCTION, move |me| {
            let _turn = lock(&me.turn);
            me.observe(desktop, at, Phase::Stopped);
        });
    }

    fn observe(&self, desktop: DesktopId, (generation, wish): (u64, u64), phase: Phase) {
        let ms = |d: Duration| Some(d.as_secs_f64() * 1000.0);
        let shown = matches!(phase, Phase::Starting | Phase::Ready);
        let timings = ForkTimings {
            picture_ms: ms(PICTURE).filter(|_| shown),
            identity_ms: ms(IDENTITY).filter(|_| phase == Phase::Ready),
            ..ForkTimings::default()
        };
        let endpoint = shown.then(|| Endpoint::Unix { path: self.display.clone() });
        let detail = "simulated".to_owned();
        let seen = DesktopObserved { desktop, generation, wish, phase, detail, endpoint, timings };
        let orders = self.hub.desktop(seen);
        self.obey(orders);
    }

    fn obey(&self, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Begin(desktop) | Order::Change(desktop) => self.begin(&desktop),
                Order::End(desktop) => self.end(desktop),
                Order::Stale { .. } | Order::Tell(_) => {}
            }
        }
    }

    fn template(&self, spec: &TemplateSpec, state: TemplateState, progress: u8) {
        let (spec, detail) = (spec.clone(), "simulated".to_owned());
        self.hub.template(TemplateObserved { spec, state, detail, cold_boot_s: None, progress });
    }
}

impl Machine for Pretended {
    fn hub(&self) -> &Hub {
        &self.hub
    }

    fn look(&self) {
        self.hub.images(vec![image()]);
    }

    fn keep(&self, _: Followed) -> io::Result<()> {
        // There is no disk, and nothing on it that could be destroyed by mistake.
        Ok(())
    }

    fn apply(&self, desired: &Desired) -> Result<(), Refusal> {
        let _turn = lock(&self.turn);
        let orders = self.hub.follow(desired)?;
        self.obey(orders);
        desired.deleted_disks.iter().for_each(|disk| self.hub.disk_gone(*disk));
        let mut templates = lock(&self.templates);
        let gone: Vec<_> = templates.iter().filter(|t| !desired.templates.contains(t)).cloned().collect();
        for spec in gone {
            templates.remove(&spec);
            self.hub.template_gone(&spec);
        }
        for spec in &desired.templates {
            if templates.insert(spec.clone()) {
                self.template(spec, TemplateState::Building, 0);
                let spec = spec.clone();
                self.after(TEMPLATE, move |me| me.template(&spec, TemplateState::Ready, 100));
            }
        }
        Ok(())
    }

    fn delete_image(&self, _: &ImageDigest) -> Option<String> {
        Some("simulated hosts keep their image".to_owned())
    }

    fn pulse(&self) -> (u64, u64) {
        (DISK, MEMORY_MIB << 20)
    }
}

/// Says to whoever wants to look that there is nothing to be seen.
async fn displays(listener: UnixListener) {
    let reason = "this desktop is simulated, and has no picture".to_owned();
    let mut line = serde_json::to_vec(&Opened::Refused { reason }).unwrap_or_default();
    line.push(b'\n');
    while let Ok((mut stream, _)) = listener.accept().await {
        // They may be gone already.
        let _ = stream.write_all(&line).await;
    }
}

/// Runs them until `stop`.
///
/// # Errors
/// The displays' socket cannot be made.
pub async fn run(config: SimConfig, stop: CancellationToken) -> io::Result<()> {
    match std::fs::remove_file(&config.display) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&config.display)?;
    let display = config.display.display().to_string();
    let shown = tokio::spawn(displays(listener));
    let facts = HostFacts {
        cpus: CPUS,
        memory_mib: MEMORY_MIB,
        driver: "simulated".to_owned(),
        driver_version: env!("CARGO_PKG_VERSION").to_owned(),
        accel: "none".to_owned(),
        accel_reason: "nothing is run".to_owned(),
        network: "none".to_owned(),
    };
    tracing::info!(hosts = config.hosts, "pretends to be hosts");
    let mut links = JoinSet::new();
    for n in 1..=config.hosts {
        let route = Route::Here { socket: config.socket.clone(), host: format!("{}-{n:05}", config.name) };
        let link = Link::new(route, None, facts.clone(), Pretended::new(display.clone()));
        links.spawn(link.run(stop.clone()));
    }
    links.join_all().await;
    shown.abort();
    std::fs::remove_file(&config.display)
}
