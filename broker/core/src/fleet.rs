//! What the hosts that are linked to this broker were last seen to have, in memory: what is on record comes a moment later.
//!
//! Lost with the process and rebuilt from the complete `Observed` that each agent sends when it connects. Knows
//! nothing of sockets or of the database.

use crate::plan::{self, HostSeen, World};
use crate::store::Link;
use lucarne_control::agent::{DesktopObserved, Observed, TemplateObserved, TemplateState};
use lucarne_control::desktop::Phase;
use lucarne_control::spec::TemplateSpec;
use lucarne_control::{DesktopId, HostId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The hosts that are linked here.
#[derive(Debug)]
pub struct Fleet {
    hosts: Mutex<BTreeMap<HostId, Seen>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Seen {
    /// The link's.
    epoch: u64,
    /// A complete `Observed` came by it, so what is not in `desktops` is not known of.
    complete: bool,
    /// A heartbeat came that is not on record.
    pulsed: bool,
    disk_free: Option<u64>,
    memory_available: Option<u64>,
    templates: HashMap<TemplateSpec, TemplateObserved>,
    desktops: HashMap<DesktopId, DesktopObserved>,
}

/// What is seen of one desktop.
#[derive(Clone, Debug, PartialEq)]
pub enum Sight {
    /// Its host said this.
    Seen(DesktopObserved),
    /// Its host is connected and has said nothing of it yet.
    NotYet,
    /// Its host is not connected.
    Lost,
}

impl Default for Fleet {
    fn default() -> Self {
        Self { hosts: Mutex::default(), changed: watch::channel(0).0 }
    }
}

impl Fleet {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostId, Seen>> {
        // No code panics while it holds the lock in a way that leaves the map half changed.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever waits for something to be seen.
    pub fn touch(&self) {
        self.changed.send_modify(|v| *v = v.wrapping_add(1));
    }

    /// Wakes whenever anything was seen.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Notes a link to a host.
    pub fn connect(&self, link: &Link) {
        self.lock().insert(
            link.host,
            Seen {
                epoch: link.epoch,
                complete: false,
                pulsed: false,
                disk_free: None,
                memory_available: None,
                templates: HashMap::new(),
                desktops: HashMap::new(),
            },
        );
        self.touch();
    }

    /// Notes that a link is lost: what its host has is for others to see.
    pub fn disconnect(&self, link: &Link) {
        let mut hosts = self.lock();
        if hosts.get(&link.host).is_some_and(|h| h.epoch == link.epoch) {
            hosts.remove(&link.host);
        }
        drop(hosts);
        self.touch();
    }

    /// Takes over what an agent says.
    pub fn observe(&self, link: &Link, observed: &Observed) {
        let mut hosts = self.lock();
        let Some(h) = hosts.get_mut(&link.host).filter(|h| h.epoch == link.epoch) else { return };
        if observed.complete {
            h.complete = true;
            h.templates.clear();
            h.desktops.clear();
        }
        for t in &observed.templates {
            h.templates.insert(t.spec.clone(), t.clone());
        }
        for d in &observed.desktops {
            h.desktops.insert(d.desktop, d.clone());
        }
        drop(hosts);
        self.touch();
    }

    /// Drops what is kept of a desktop, if it is this: hosts repeat themselves, and what is on record needs no memory.
    pub fn forget_desktop(&self, link: &Link, seen: &DesktopObserved) {
        if let Some(h) = self.lock().get_mut(&link.host)
            && h.desktops.get(&seen.desktop) == Some(seen)
        {
            h.desktops.remove(&seen.desktop);
        }
    }

    /// Takes over a heartbeat.
    pub fn heartbeat(&self, host: HostId, disk_free: u64, memory_available: u64) {
        if let Some(h) = self.lock().get_mut(&host) {
            h.pulsed = true;
            h.disk_free = Some(disk_free);
            h.memory_available = Some(memory_available);
        }
    }

    /// The heartbeats that came since the last time, to be put on record together: bytes free on the disk, and of memory.
    pub fn take_pulses(&self) -> Vec<(HostId, u64, u64)> {
        let mut hosts = self.lock();
        let fresh = |(id, h): (&HostId, &mut Seen)| {
            let pulse = (*id, h.disk_free.unwrap_or(0), h.memory_available.unwrap_or(0));
            std::mem::take(&mut h.pulsed).then_some(pulse)
        };
        // In the order of their ids, in which all brokers hold rows.
        hosts.iter_mut().filter_map(fresh).collect()
    }

    /// What is seen of a desktop that is placed on `host` with `generation`; none when the host is not linked to this
    /// broker, or has not told yet what it has.
    pub fn sight(&self, host: HostId, desktop: DesktopId, generation: u64) -> Option<Sight> {
        let hosts = self.lock();
        let h = hosts.get(&host).filter(|h| h.complete)?;
        Some(match h.desktops.get(&desktop) {
            Some(seen) if seen.generation == generation => Sight::Seen(seen.clone()),
            _ => Sight::NotYet,
        })
    }

    /// Whether a host is linked here, and has told what it has.
    pub fn is_linked(&self, host: HostId) -> bool {
        self.lock().get(&host).is_some_and(|h| h.complete)
    }

    /// How far a template is on a host.
    pub fn template(&self, host: HostId, spec: &TemplateSpec) -> Option<TemplateObserved> {
        self.lock().get(&host).and_then(|h| h.templates.get(spec).cloned())
    }
}

impl World for Fleet {
    fn host(&self, host: HostId, template: &TemplateSpec) -> Option<HostSeen> {
        let hosts = self.lock();
        let h = hosts.get(&host)?;
        Some(HostSeen {
            online: true,
            memory_available: h.memory_available,
            template: h.templates.get(template).map(|t| (t.state, t.detail.clone())),
        })
    }

    fn failure(&self, host: HostId, desktop: DesktopId, generation: u64) -> Option<String> {
        let hosts = self.lock();
        let seen = hosts.get(&host)?.desktops.get(&desktop).filter(|d| d.generation == generation)?;
        match seen.phase {
            Phase::Failed | Phase::Stopped => Some(plan::failure(seen)),
            _ => None,
        }
    }
}

/// Whether a template's state stands in the way of a desktop for now.
pub fn is_building(t: &TemplateObserved) -> bool {
    t.state == TemplateState::Building
}
