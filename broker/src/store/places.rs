//! Where a desktop can go: the hosts as they were a moment ago, and the one that is held for it.
//!
//! Hosts are many and change rarely, so a broker remembers them and counts what it gives out itself; what others gave out it
//! sees when it holds the host's row, which alone decides. Before anybody is refused all are read afresh.

use super::{Error, Result, all};
use crate::plan::{self, Candidate, NoChoice, World};
use lucarne_control::HostId;
use lucarne_control::spec::ImageDigest;
use lucarne_db::tables::{Host, HostImage, Pool};
use lucarne_db::{Locked, Tx};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is remembered is read again after this, milliseconds. Longer: what other brokers give out is seen late, and hosts are
/// less even. Shorter: all hosts are read for each few connects.
const FRESH: i64 = 1000;

/// The hosts.
#[derive(Debug, Default)]
pub(super) struct Places {
    remembered: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    /// Until then.
    until: i64,
    hosts: Vec<Host>,
    images: HashMap<ImageDigest, HashSet<HostId>>,
}

impl Remembered {
    fn candidates(&self, pool: &Pool, world: &dyn World) -> Vec<Candidate> {
        let template = pool.template();
        let with_image = self.images.get(&template.image);
        let candidate = |host: &Host| Candidate {
            host: host.id,
            name: host.name.clone(),
            memory_mib: host.facts.0.memory_mib,
            promised_mib: host.promised_mib,
            has_image: with_image.is_some_and(|hosts| hosts.contains(&host.id)),
            seen: world.host(host.id, &template),
        };
        self.hosts.iter().map(candidate).collect()
    }

    fn of(&mut self, id: HostId) -> Option<&mut Host> {
        self.hosts.iter_mut().find(|host| host.id == id)
    }
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        // What is half changed is at worst a wrong memory, which the next reading puts right.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, tx: &mut Tx<'_>) -> Result<()> {
        let hosts = all(tx, Host::all, |host| host.id)?;
        let mut images: HashMap<ImageDigest, HashSet<HostId>> = HashMap::new();
        for HostImage { host_id, digest } in tx.list(HostImage::all())? {
            images.entry(digest).or_default().insert(host_id);
        }
        *self.lock() = Remembered { until: tx.now() + FRESH, hosts, images };
        Ok(())
    }

    /// The best host for a desktop of the pool, held until the end of the transaction, with room for it.
    ///
    /// # Errors
    /// [`Error::NoHost`], [`Error::TemplateFailed`], or a database fault.
    pub fn choose(&self, tx: &mut Tx<'_>, pool: &Pool, world: &dyn World) -> Result<Locked<Host>> {
        let needed = u64::from(pool.machine.0.memory_mib);
        let mut fresh = self.lock().until <= tx.now();
        if fresh {
            self.read(tx)?;
        }
        loop {
            let chosen = {
                let mut remembered = self.lock();
                let chosen = plan::choose_host(&remembered.candidates(pool, world), needed);
                // Counted before it is certain, so that who comes next prefers another and does not wait for this one.
                if let Some(host) = chosen.as_ref().ok().and_then(|id| remembered.of(*id)) {
                    host.promised_mib += needed;
                }
                chosen
            };
            let id = match chosen {
                Ok(id) => id,
                Err(_) if !fresh => {
                    self.read(tx)?;
                    fresh = true;
                    continue;
                }
                Err(NoChoice::NoHost(reason)) => {
                    return Err(Error::NoHost { pool: pool.name.clone(), reason });
                }
                Err(NoChoice::TemplateFailed(reason)) => {
                    return Err(Error::TemplateFailed { pool: pool.name.clone(), reason });
                }
            };
            let Some(host) = tx.lock(Host::key(&id))? else {
                self.lock().hosts.retain(|host| host.id != id);
                continue;
            };
            if host.promised_mib + needed <= host.facts.0.memory_mib * plan::MEMORY_PROMISE {
                return Ok(host);
            }
            // Others gave out more there.
            if let Some(remembered) = self.lock().of(id) {
                remembered.clone_from(&host);
            }
        }
    }
}
