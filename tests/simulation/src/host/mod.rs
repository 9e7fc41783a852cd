//! Hosts: machines with a disk, the virtual machines that run there, and an agent that follows its ledger.

mod disk;
mod life;
mod snapshots;

use disk::Suspended;
pub use disk::{Disk, Folder};
pub use life::{NOT_RESUMED, Step};

use crate::network::{Conn, Side};
use crate::world::{Event, World};
use disk::Wanted;
use life::Task;
use lucarne_control::agent::{
    DesktopObserved, FromAgent, Hello, HostFacts, Observed, PROTOCOL_VERSION, SnapshotObserved,
    TemplateObserved, TemplateState, ToAgent,
};
use lucarne_control::desktop::{Endpoint, ForkTimings, Phase};
use lucarne_control::spec::{ImageDigest, ImageInfo, MachineShape, TemplateSpec};
use lucarne_control::{DesktopId, SnapshotId};
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
    /// Which run of its machine it is.
    run: u64,
    /// The virtual machines that run.
    pub machines: BTreeMap<DesktopId, Guest>,
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
    /// What the agent is at.
    tasks: BTreeMap<DesktopId, Task>,
    /// What it is at with snapshots: whether it takes each, or deletes it.
    under_way: BTreeMap<SnapshotId, bool>,
    /// Snapshots that could not be taken, as it says.
    not_taken: BTreeMap<SnapshotId, SnapshotObserved>,
}

/// A virtual machine that runs.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// The placement's generation.
    pub generation: u64,
    /// The virtual disk that it runs on.
    pub volume: u64,
    /// It is up.
    pub up: bool,
    /// What its user has open, and has not saved: it rises with each use.
    pub open: u64,
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
            run: 0,
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
            under_way: BTreeMap::new(),
            not_taken: BTreeMap::new(),
        }
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
        let folders = self.disk.folders.iter();
        let mut snapshots: Vec<_> =
            folders.flat_map(|(id, folder)| snapshots::of_folder(*id, folder)).collect();
        snapshots.extend(self.not_taken.values().cloned());
        Observed {
            number: 1,
            complete: true,
            images: Some(vec![image()]),
            templates: vec![template],
            desktops: self.ledger.complete(),
            snapshots,
            ..Observed::default()
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
        host.under_way.clear();
        host.not_taken.clear();
        let life = host.life;
        let mut steps = Vec::new();
        for (&desktop, folder) in &host.disk.folders {
            let Folder { generation, wanted, start, .. } = *folder;
            host.ledger.adopt(desktop, generation, wanted.wish, wanted.persistent);
            let goes_back = folder.is_to_go_back().is_some();
            let copies = folder.origin.is_some();
            let powering_off = wanted.persistent && !wanted.running && !goes_back && !copies;
            let task = Task { generation, ending: false, told: wanted, acting: wanted.wish, powering_off };
            host.tasks.insert(desktop, task);
            steps.push(match host.machines.contains_key(&desktop) {
                _ if folder.origin.is_some() => Step::Copy(desktop, generation),
                _ if goes_back => Step::Act(desktop, generation),
                _ if powering_off => Step::Rest(desktop, generation, wanted.wish),
                true => Step::Ready(desktop, generation),
                false if folder.is_to_start() => Step::Boot(desktop, generation, start, host.run),
                false => Step::Over(desktop, generation),
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
        host.run += 1;
        let stopped = std::mem::take(&mut host.machines);
        host.disk.followed = host.disk.synced;
        let folders = host.disk.folders.clone();
        if disk_too {
            host.disk = Disk::default();
            self.checker.excused.extend(folders.keys());
        }
        for (desktop, folder) in folders.into_iter().filter(|(_, folder)| folder.wanted.persistent) {
            if disk_too {
                self.checker.personal.lost(desktop);
            } else if stopped.contains_key(&desktop) {
                self.checker.personal.guest_ended(desktop, folder.wanted.wish, !folder.made);
            }
        }
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
                self.snapshots_told(h, &desired.snapshots);
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
        if host.tasks.values().any(|task| task.ending) {
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
                    let told = Wanted::of(&d);
                    let task = Task { generation, told, acting: told.wish, ..Task::default() };
                    self.hosts[h].tasks.insert(desktop, task);
                    let delay = self.random.within(0, 60);
                    self.after(delay, Event::Desktop(h, life, Step::Folder(desktop, generation)));
                }
                Order::Change(d) => {
                    let (desktop, generation) = (d.desktop, d.generation);
                    self.note(|| format!("host-{h} is to have {desktop} {:?} by wish {}", d.state, d.wish));
                    if let Some(task) = self.hosts[h].tasks.get_mut(&desktop) {
                        task.told = Wanted::of(&d);
                        let delay = self.random.within(0, 20);
                        self.after(delay, Event::Desktop(h, life, Step::Act(desktop, generation)));
                    }
                }
                Order::End(desktop) => {
                    self.note(|| format!("host-{h} ends {desktop}"));
                    let task = self.hosts[h].tasks.entry(desktop).or_default();
                    task.ending = true;
                    let generation = task.generation;
                    self.observe(h, seen(desktop, generation, Phase::Stopping, ""));
                    let delay = self.random.within(2, 700);
                    self.after(delay, Event::Desktop(h, life, Step::Gone(desktop, generation)));
                }
                Order::Tell(seen) => {
                    self.tell(h, Observed { desktops: vec![seen], ..Observed::default() });
                }
                Order::Stale { .. } => self.count("stale orders"),
            }
        }
    }

    fn tell(&mut self, h: usize, mut observed: Observed) {
        let host = &mut self.hosts[h];
        let Some(conn) = host.conn else { return };
        host.sent += 1;
        observed.number = host.sent;
        self.send(conn, Side::Host, |conn| Event::ToBroker(conn, FromAgent::Observed(observed.clone())));
    }

    fn observe(&mut self, h: usize, mut seen: DesktopObserved) {
        if !self.hosts[h].agent {
            return;
        }
        seen.wish = self.hosts[h].tasks.get(&seen.desktop).map_or(0, |task| task.acting);
        let orders = self.hosts[h].ledger.observe(seen);
        self.obey(h, orders);
    }
}
