//! Hosts: machines with a disk, the virtual machines that run there, and an agent that follows its ledger.

use crate::network::{Conn, Side};
use crate::world::{Event, World};
use lucarne_control::DesktopId;
use lucarne_control::agent::{
    DesktopDesired, DesktopObserved, Followed, FromAgent, Hello, HostFacts, Observed, PROTOCOL_VERSION,
    TemplateObserved, TemplateState, ToAgent,
};
use lucarne_control::desktop::{DesiredState, Endpoint, ForkTimings, Phase};
use lucarne_control::spec::{ImageDigest, ImageInfo, MachineShape, TemplateSpec};
use lucarne_ledger::{Ledger, Order};
use std::collections::BTreeMap;

/// A host.
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its agent runs.
    pub agent: bool,
    /// Which life of its agent it is.
    pub life: u64,
    /// The virtual machines that run, with the generation of each.
    pub machines: BTreeMap<DesktopId, u64>,
    /// What is on its disk.
    pub disk: Disk,
    /// It was declared dead, and has not heard of it.
    pub fenced: bool,
    /// The database was put back, and it has not heard of it.
    pub behind: bool,
    memory_mib: u64,
    skew: u64,
    ledger: Ledger,
    conn: Option<u64>,
    sent: u64,
    /// What the agent is at, with the generation of each and whether it is ending.
    tasks: BTreeMap<DesktopId, (u64, bool)>,
}

/// What was last wanted of a desktop.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    wish: u64,
    running: bool,
    persistent: bool,
}

impl Wanted {
    fn of(desired: &DesktopDesired) -> Self {
        let running = desired.state == DesiredState::Running;
        Self { wish: desired.wish, running, persistent: desired.persistent }
    }
}

/// What is on a disk.
#[derive(Default)]
pub struct Disk {
    /// Desktops' folders, with the generation of each.
    pub folders: BTreeMap<DesktopId, u64>,
    /// What was last wanted of each.
    wanted: BTreeMap<DesktopId, Wanted>,
    followed: Followed,
    /// What is there even when the machine stops at once.
    synced: Followed,
}

/// What a desktop does next on its host.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Its folder is made.
    Folder(DesktopId, u64),
    /// Its machine runs.
    Runs(DesktopId, u64),
    /// It is ready.
    Ready(DesktopId, u64),
    /// It is off, if this is still the last wish for it.
    Off(DesktopId, u64, u64),
    /// It is gone.
    Gone(DesktopId, u64),
}

/// The image that all have.
#[must_use]
pub fn image() -> ImageInfo {
    ImageInfo {
        digest: "ab".repeat(32).parse::<ImageDigest>().unwrap_or_else(|_| unreachable!("64 digits")),
        name: "debian-desktop".to_owned(),
        version: "1".to_owned(),
        description: String::new(),
        format: "qcow2".to_owned(),
        virtual_size: 1,
        stored_size: 1,
        created_at: 1,
        source: "recipe:x".to_owned(),
        guest_agent: true,
    }
}

impl Host {
    /// One that is off.
    #[must_use]
    pub fn new(name: String, memory_mib: u64, skew: u64) -> Self {
        Self {
            name,
            agent: false,
            life: 0,
            machines: BTreeMap::new(),
            disk: Disk::default(),
            fenced: false,
            behind: false,
            memory_mib,
            skew,
            ledger: Ledger::default(),
            conn: None,
            sent: 0,
            tasks: BTreeMap::new(),
        }
    }

    fn wanted(&self, desktop: DesktopId) -> Wanted {
        self.disk.wanted.get(&desktop).copied().unwrap_or_default()
    }

    fn hello(&self) -> Hello {
        let facts = HostFacts {
            cpus: 8,
            memory_mib: self.memory_mib,
            driver: "qemu".to_owned(),
            driver_version: "10".to_owned(),
            accel: "tcg".to_owned(),
            accel_reason: String::new(),
            network: String::new(),
        };
        let followed = self.disk.followed;
        let desktops = self.disk.folders.len() as u64;
        Hello {
            protocol: PROTOCOL_VERSION,
            host: self.name.clone(),
            version: "0".to_owned(),
            facts,
            followed,
            desktops,
            streams: None,
        }
    }

    /// Whether a desktop runs here, and its agent says that it is ready.
    #[must_use]
    pub fn is_ready(&self, desktop: DesktopId, generation: u64) -> bool {
        let said = |d: &DesktopObserved| {
            d.desktop == desktop && d.generation == generation && d.phase == Phase::Ready
        };
        self.agent && self.ledger.complete().iter().any(said)
    }

    /// What its agent says first.
    fn everything(&self) -> Observed {
        let spec = TemplateSpec { image: image().digest, machine: MachineShape::default() };
        let template = TemplateObserved {
            spec,
            state: TemplateState::Ready,
            detail: String::new(),
            cold_boot_s: None,
            progress: 100,
        };
        Observed {
            number: 1,
            complete: true,
            images: Some(vec![image()]),
            templates: vec![template],
            desktops: self.ledger.complete(),
        }
    }
}

fn seen(desktop: DesktopId, generation: u64, phase: Phase, detail: &str) -> DesktopObserved {
    let endpoint = matches!(phase, Phase::Starting | Phase::Ready)
        .then(|| Endpoint::Unix { path: format!("/{desktop}/{generation}") });
    let timings = ForkTimings::default();
    DesktopObserved { desktop, generation, wish: 0, phase, detail: detail.to_owned(), endpoint, timings }
}

impl World {
    /// A host's agent is started, and with it the machine where that was off.
    pub fn host_starts(&mut self, h: usize) {
        let host = &mut self.hosts[h];
        if host.agent {
            return;
        }
        host.agent = true;
        host.life += 1;
        host.conn = None;
        host.ledger = Ledger::new(host.disk.followed);
        host.tasks.clear();
        let life = host.life;
        let mut steps = Vec::new();
        for (&desktop, &generation) in &host.disk.folders {
            let Wanted { wish, running, persistent } =
                host.disk.wanted.get(&desktop).copied().unwrap_or_default();
            host.ledger.adopt(desktop, generation, wish, persistent);
            host.tasks.insert(desktop, (generation, false));
            let runs = host.machines.contains_key(&desktop);
            steps.push(match (persistent, runs) {
                // It is started for a later wish only.
                (true, false) => Step::Off(desktop, generation, wish),
                (true, true) if !running => Step::Off(desktop, generation, wish),
                (_, true) => Step::Ready(desktop, generation),
                (_, false) => Step::Runs(desktop, generation),
            });
        }
        self.note(|| format!("host-{h}'s agent is started"));
        for step in steps {
            let delay = self.random.within(5, 800);
            self.after(delay, Event::Desktop(h, life, step));
        }
        self.after(1, Event::Dial(h, life));
        self.after(1, Event::HostBeat(h, life));
    }

    /// A host's agent is killed; its virtual machines run on.
    pub fn agent_is_killed(&mut self, h: usize) {
        self.note(|| format!("host-{h}'s agent is killed"));
        self.count("agents killed");
        self.hosts[h].agent = false;
        if let Some(conn) = self.hosts[h].conn {
            self.close(conn, Side::Host);
        }
    }

    /// A host's machine stops at once, and may lose its disk.
    pub fn machine_stops(&mut self, h: usize, disk_too: bool) {
        self.note(|| format!("host-{h} stops{}", if disk_too { ", and loses its disk" } else { "" }));
        self.count("machines stopped");
        self.agent_is_killed(h);
        let host = &mut self.hosts[h];
        host.machines.clear();
        host.disk.followed = host.disk.synced;
        if disk_too {
            let lost = std::mem::take(&mut host.disk);
            self.checker.excused.extend(lost.folders.keys());
        }
    }

    /// A virtual machine dies.
    pub fn machine_dies(&mut self, h: usize) {
        let dying = self.hosts[h].machines.iter().next().map(|(id, generation)| (*id, *generation));
        let Some((desktop, generation)) = dying.filter(|_| self.hosts[h].agent) else { return };
        self.note(|| format!("{desktop} dies on host-{h}"));
        self.count("desktops that died");
        self.hosts[h].machines.remove(&desktop);
        if self.hosts[h].wanted(desktop).persistent {
            return self.observe(h, seen(desktop, generation, Phase::Off, "it died"));
        }
        self.checker.excused.insert(desktop);
        self.observe(h, seen(desktop, generation, Phase::Failed, "it died"));
    }

    /// A host's agent connects to any broker that it can reach.
    pub fn dial(&mut self, h: usize, life: u64) {
        let host = &self.hosts[h];
        if !host.agent || host.life != life || host.conn.is_some() {
            return;
        }
        let reachable: Vec<usize> =
            (0..self.size.brokers).filter(|b| self.brokers[*b].up && !self.cut.contains(&(*b, h))).collect();
        let again = self.random.within(50, 2_000);
        self.after(again, Event::Dial(h, life));
        let Some(b) = self.random.pick(&reachable) else { return };
        let id = self.number();
        let (hello, everything) = (self.hosts[h].hello(), self.hosts[h].everything());
        if self.broker_serves(id, Conn::new(h, life, b, self.now), hello) {
            self.note(|| format!("host-{h} connects to broker-{b} by {id}"));
            let host = &mut self.hosts[h];
            host.conn = Some(id);
            host.sent = 1;
            self.send(id, Side::Host, |id| Event::ToBroker(id, FromAgent::Observed(everything.clone())));
        }
    }

    /// A host's connection breaks, and it makes another.
    pub fn host_reconnects(&mut self, h: usize) {
        if let Some(conn) = self.hosts[h].conn {
            self.count("connections broken");
            self.close(conn, Side::Host);
        }
    }

    /// A host has lost this connection.
    pub fn host_lost(&mut self, h: usize, conn: u64) {
        let host = &mut self.hosts[h];
        if host.conn == Some(conn) {
            host.conn = None;
            let life = host.life;
            let again = self.random.within(50, 1_000);
            self.after(again, Event::Dial(h, life));
        }
    }

    /// A host's heartbeat.
    pub fn host_beats(&mut self, h: usize, life: u64) {
        if !self.hosts[h].agent || self.hosts[h].life != life {
            return;
        }
        let next = self.random.within(4_000, 6_000) * self.hosts[h].skew / 1000;
        self.after(next, Event::HostBeat(h, life));
        if let Some(conn) = self.hosts[h].conn {
            let beat = FromAgent::Heartbeat { disk_free: 1 << 40, memory_available: 1 << 40 };
            self.send(conn, Side::Host, |conn| Event::ToBroker(conn, beat.clone()));
            self.look_for_silence(conn, Side::Host);
        }
    }

    /// A host is told something.
    pub fn host_told(&mut self, h: usize, conn: u64, message: ToAgent) {
        if self.hosts[h].conn != Some(conn) {
            return;
        }
        let ToAgent::Desired(desired) = message else { return };
        let host = &mut self.hosts[h];
        match host.ledger.follow(&desired) {
            Ok(orders) => {
                let followed = host.ledger.followed();
                if followed.epoch != host.disk.followed.epoch {
                    host.disk.synced = followed;
                }
                host.disk.followed = followed;
                let restored = self.restored;
                // What was sent before the database was put back says nothing of it.
                let current = desired.epoch >> 32 >= restored;
                if desired.since.is_none() && current && (host.fenced || host.behind) {
                    // What it has too much ends from now on.
                    let life = host.life;
                    self.after(2_000, Event::Aware(h, life, restored));
                }
                self.obey(h, orders);
            }
            Err(refusal) => {
                self.note(|| format!("host-{h} refuses: {refusal}"));
                self.count("desired sets refused");
                self.close(conn, Side::Host);
            }
        }
    }

    /// A host that was told what it has too much has ended it.
    pub fn host_is_aware(&mut self, h: usize, life: u64, restored: u64) {
        let host = &mut self.hosts[h];
        if !host.agent || host.life != life || restored != self.restored {
            return;
        }
        if host.tasks.values().any(|(_, ending)| *ending) {
            return self.after(2_000, Event::Aware(h, life, restored));
        }
        (host.fenced, host.behind) = (false, false);
    }

    fn obey(&mut self, h: usize, orders: Vec<Order>) {
        let life = self.hosts[h].life;
        for order in orders {
            match order {
                Order::Begin(d) => {
                    let (desktop, generation) = (d.desktop, d.generation);
                    self.note(|| format!("host-{h} begins {desktop} generation {generation}"));
                    self.checker.made(desktop);
                    self.hosts[h].tasks.insert(desktop, (generation, false));
                    self.hosts[h].disk.wanted.insert(desktop, Wanted::of(&d));
                    let delay = self.random.within(0, 60);
                    self.after(delay, Event::Desktop(h, life, Step::Folder(desktop, generation)));
                }
                Order::Change(d) => {
                    let (desktop, generation) = (d.desktop, d.generation);
                    self.note(|| format!("host-{h} is to have {desktop} {:?} by wish {}", d.state, d.wish));
                    self.hosts[h].disk.wanted.insert(desktop, Wanted::of(&d));
                    let (step, delay) = if d.state == DesiredState::Running {
                        (Step::Runs(desktop, generation), self.random.within(5, 400))
                    } else {
                        self.observe(h, seen(desktop, generation, Phase::Stopping, ""));
                        (Step::Off(desktop, generation, d.wish), self.random.within(50, 20_000))
                    };
                    self.after(delay, Event::Desktop(h, life, step));
                }
                Order::End(desktop) => {
                    self.note(|| format!("host-{h} ends {desktop}"));
                    let task = self.hosts[h].tasks.entry(desktop).or_default();
                    task.1 = true;
                    let generation = task.0;
                    self.observe(h, seen(desktop, generation, Phase::Stopping, ""));
                    let delay = self.random.within(2, 700);
                    self.after(delay, Event::Desktop(h, life, Step::Gone(desktop, generation)));
                }
                Order::Tell(seen) => self.tell(h, seen),
                Order::Stale { .. } => self.count("stale orders"),
            }
        }
    }

    fn tell(&mut self, h: usize, seen: DesktopObserved) {
        let host = &mut self.hosts[h];
        let Some(conn) = host.conn else { return };
        host.sent += 1;
        let observed = Observed { number: host.sent, desktops: vec![seen], ..Observed::default() };
        self.send(conn, Side::Host, |conn| Event::ToBroker(conn, FromAgent::Observed(observed.clone())));
    }

    fn observe(&mut self, h: usize, mut seen: DesktopObserved) {
        seen.wish = self.hosts[h].wanted(seen.desktop).wish;
        let orders = self.hosts[h].ledger.observe(seen);
        self.obey(h, orders);
    }

    /// A desktop on a host takes its next step.
    pub fn desktop_steps(&mut self, h: usize, life: u64, step: Step) {
        self.checker.look();
        let host = &mut self.hosts[h];
        if !host.agent || host.life != life {
            return;
        }
        let (Step::Folder(desktop, generation)
        | Step::Runs(desktop, generation)
        | Step::Ready(desktop, generation)
        | Step::Off(desktop, generation, _)
        | Step::Gone(desktop, generation)) = step;
        let Some(&(at, ending)) = host.tasks.get(&desktop) else { return };
        if at != generation || ending != matches!(step, Step::Gone(..)) {
            return;
        }
        let wanted = host.wanted(desktop);
        match step {
            Step::Folder(..) => {
                host.disk.folders.insert(desktop, generation);
                if wanted.persistent && !wanted.running {
                    return self.observe(h, seen(desktop, generation, Phase::Off, ""));
                }
                let delay = self.random.within(5, 400);
                self.after(delay, Event::Desktop(h, life, Step::Runs(desktop, generation)));
            }
            Step::Off(_, _, wish) => {
                if wish == wanted.wish {
                    host.machines.remove(&desktop);
                    self.observe(h, seen(desktop, generation, Phase::Off, ""));
                }
            }
            // It was powered off meanwhile.
            Step::Runs(..) if wanted.persistent && !wanted.running => {}
            Step::Runs(..) if host.machines.contains_key(&desktop) => {
                self.observe(h, seen(desktop, generation, Phase::Ready, ""));
            }
            Step::Runs(..) => {
                if self.trouble && self.random.one_in(40) {
                    self.count("desktops that could not be made");
                    self.checker.excused.insert(desktop);
                    return self.observe(h, seen(desktop, generation, Phase::Failed, "it cannot be made"));
                }
                self.count("desktops made");
                self.hosts[h].machines.insert(desktop, generation);
                self.observe(h, seen(desktop, generation, Phase::Starting, ""));
                let delay = self.random.within(50, 1_500);
                self.after(delay, Event::Desktop(h, life, Step::Ready(desktop, generation)));
            }
            Step::Ready(..) => {
                if host.machines.contains_key(&desktop) {
                    self.observe(h, seen(desktop, generation, Phase::Ready, ""));
                }
            }
            Step::Gone(..) => {
                host.machines.remove(&desktop);
                host.disk.folders.remove(&desktop);
                host.disk.wanted.remove(&desktop);
                host.tasks.remove(&desktop);
                self.count("desktops destroyed");
                self.observe(h, seen(desktop, generation, Phase::Stopped, ""));
            }
        }
    }
}
