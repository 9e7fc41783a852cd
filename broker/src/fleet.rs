//! What hosts were last seen to have, in memory: filled by the agents' links, read by everyone who has to know now.
//!
//! Lost with the process and rebuilt from the complete `Observed` that each agent sends when it connects. Knows
//! nothing of sockets or of the database.

use crate::plan::{HostSeen, World};
use lucarne_control::agent::{DesktopObserved, HostFacts, Observed, TemplateObserved, TemplateState};
use lucarne_control::desktop::Phase;
use lucarne_control::spec::TemplateSpec;
use lucarne_control::{DesktopId, HostId};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// All hosts that have connected since the start.
#[derive(Debug)]
pub struct Fleet {
    hosts: Mutex<HashMap<HostId, Seen>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Seen {
    name: String,
    facts: HostFacts,
    online: bool,
    /// A complete `Observed` came on this connection, so what is not in `desktops` is not known of.
    complete: bool,
    last_seen: i64,
    disk_free: Option<u64>,
    memory_available: Option<u64>,
    templates: HashMap<TemplateSpec, TemplateObserved>,
    desktops: HashMap<DesktopId, DesktopObserved>,
}

/// What only the link knows of a host, for people.
#[derive(Clone, Debug)]
pub struct Pulse {
    /// Its agent is connected.
    pub online: bool,
    /// Seconds since the epoch.
    pub last_seen: i64,
    /// Bytes free for disks; 0 until the first heartbeat.
    pub disk_free: u64,
    /// Bytes of memory available; 0 until the first heartbeat.
    pub memory_available: u64,
}

/// What is seen of one desktop.
#[derive(Clone, Debug, PartialEq)]
pub enum Sight {
    /// Its host said this.
    Seen(DesktopObserved),
    /// Its host is connected and has said nothing of it yet.
    NotYet,
    /// Its host is not connected, or has not told yet what it has.
    Lost,
}

impl Default for Fleet {
    fn default() -> Self {
        Self { hosts: Mutex::default(), changed: watch::channel(0).0 }
    }
}

impl Fleet {
    fn lock(&self) -> MutexGuard<'_, HashMap<HostId, Seen>> {
        // No code panics while it holds the lock in a way that leaves the map half changed.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        self.changed.send_modify(|v| *v = v.wrapping_add(1));
    }

    /// Wakes whenever anything was seen.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Notes a connected agent; false when that host is connected already.
    pub fn connect(&self, host: HostId, name: &str, facts: &HostFacts) -> bool {
        let mut hosts = self.lock();
        if hosts.get(&host).is_some_and(|h| h.online) {
            return false;
        }
        hosts.insert(
            host,
            Seen {
                name: name.to_owned(),
                facts: facts.clone(),
                online: true,
                complete: false,
                last_seen: now(),
                disk_free: None,
                memory_available: None,
                templates: HashMap::new(),
                desktops: HashMap::new(),
            },
        );
        drop(hosts);
        self.touch();
        true
    }

    /// Notes that the agent went: what it had is unknown from now on.
    pub fn disconnect(&self, host: HostId) {
        if let Some(h) = self.lock().get_mut(&host) {
            h.online = false;
            h.complete = false;
            h.last_seen = now();
        }
        self.touch();
    }

    /// Forgets a deleted host.
    pub fn forget(&self, host: HostId) {
        self.lock().remove(&host);
    }

    /// Takes over what an agent says. `gone` are desktops that the host should not have and, by a complete list, does
    /// not have: they count as stopped.
    pub fn observe(&self, host: HostId, observed: Observed, gone: &[(DesktopId, u64)]) {
        let mut hosts = self.lock();
        let Some(h) = hosts.get_mut(&host) else { return };
        h.last_seen = now();
        if observed.complete {
            h.complete = true;
            h.templates.clear();
            h.desktops.clear();
            for &(desktop, generation) in gone {
                let stopped = DesktopObserved {
                    desktop,
                    generation,
                    phase: Phase::Stopped,
                    detail: String::new(),
                    endpoint: None,
                    timings: Default::default(),
                };
                h.desktops.insert(desktop, stopped);
            }
        }
        for t in observed.templates {
            h.templates.insert(t.spec.clone(), t);
        }
        for d in observed.desktops {
            let newer = h.desktops.get(&d.desktop).is_none_or(|old| d.generation >= old.generation);
            if newer {
                h.desktops.insert(d.desktop, d);
            }
        }
        drop(hosts);
        self.touch();
    }

    /// Drops what is kept of a desktop that is on record as gone.
    pub fn forget_desktop(&self, host: HostId, desktop: DesktopId) {
        if let Some(h) = self.lock().get_mut(&host) {
            h.desktops.remove(&desktop);
        }
    }

    /// The desktops that hosts say have stopped and that are not among `live`.
    pub fn stopped_beside(&self, live: &HashMap<DesktopId, HostId>) -> Vec<(HostId, DesktopId)> {
        let hosts = self.lock();
        let of = |(host, h): (&HostId, &Seen)| {
            let host = *host;
            let stopped = h.desktops.values().filter(|d| d.phase == Phase::Stopped).map(|d| d.desktop);
            stopped.filter(|d| !live.contains_key(d)).map(|d| (host, d)).collect::<Vec<_>>()
        };
        hosts.iter().flat_map(of).collect()
    }

    /// Takes over a heartbeat.
    pub fn heartbeat(&self, host: HostId, disk_free: u64, memory_available: u64) {
        if let Some(h) = self.lock().get_mut(&host) {
            h.last_seen = now();
            h.disk_free = Some(disk_free);
            h.memory_available = Some(memory_available);
        }
    }

    /// What is seen of a desktop that is placed on `host` with `generation`.
    pub fn sight(&self, host: HostId, desktop: DesktopId, generation: u64) -> Sight {
        let hosts = self.lock();
        match hosts.get(&host) {
            Some(h) if h.online => match h.desktops.get(&desktop) {
                Some(seen) if seen.generation >= generation => Sight::Seen(seen.clone()),
                _ if h.complete => Sight::NotYet,
                _ => Sight::Lost,
            },
            _ => Sight::Lost,
        }
    }

    /// How far a template is on a host.
    pub fn template(&self, host: HostId, spec: &TemplateSpec) -> Option<TemplateObserved> {
        self.lock().get(&host).filter(|h| h.online).and_then(|h| h.templates.get(spec).cloned())
    }

    /// How far a template is on each connected host, by the host's name.
    pub fn templates(&self, spec: &TemplateSpec) -> Vec<(String, TemplateObserved)> {
        let hosts = self.lock();
        let mut found: Vec<_> = hosts
            .values()
            .filter(|h| h.online)
            .filter_map(|h| h.templates.get(spec).map(|t| (h.name.clone(), t.clone())))
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// What only the link knows of a host.
    pub fn pulse(&self, host: HostId) -> Option<(Pulse, HostFacts)> {
        self.lock().get(&host).map(|h| {
            let pulse = Pulse {
                online: h.online,
                last_seen: h.last_seen,
                disk_free: h.disk_free.unwrap_or(0),
                memory_available: h.memory_available.unwrap_or(0),
            };
            (pulse, h.facts.clone())
        })
    }

    /// Hosts whose agents are connected.
    pub fn online(&self) -> usize {
        self.lock().values().filter(|h| h.online).count()
    }
}

impl World for Fleet {
    fn host(&self, host: HostId, template: &TemplateSpec) -> HostSeen {
        let hosts = self.lock();
        let Some(h) = hosts.get(&host) else { return HostSeen::default() };
        HostSeen {
            online: h.online,
            memory_available: h.memory_available,
            template: h.templates.get(template).map(|t| (t.state, t.detail.clone())),
        }
    }

    fn failure(&self, desktop: DesktopId, generation: u64) -> Option<String> {
        let hosts = self.lock();
        hosts.values().filter(|h| h.online).find_map(|h| {
            let seen = h.desktops.get(&desktop).filter(|d| d.generation >= generation)?;
            match seen.phase {
                Phase::Failed => Some(seen.detail.clone()),
                Phase::Stopped => Some("it stopped by itself".to_owned()),
                _ => None,
            }
        })
    }
}

/// Whether a template's state stands in the way of a desktop for now.
pub fn is_building(t: &TemplateObserved) -> bool {
    t.state == TemplateState::Building
}

/// Seconds since the epoch, for what is shown to people as "last heard".
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed())
}
