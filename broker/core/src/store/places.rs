//! Where a desktop can go: the hosts as they were a moment ago, and the one that is held for it.
//!
//! Hosts are many and change rarely, so a broker remembers them and counts what it gives out itself; what others gave out it
//! sees when it holds the host's row, which alone decides. Before anybody is refused all are read afresh.

use super::{Error, Result, all};
use crate::plan::{self, Candidate, Demand, HostSeen, NoChoice, Verdict, World};
use lucarne_control::HostId;
use lucarne_control::agent::TemplateState;
use lucarne_control::spec::ImageDigest;
use lucarne_db::tables::{Host, HostImage, HostPulse, HostTemplate, Pool};
use lucarne_db::{Locked, Tx};
use lucarne_mutants::mutant;
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
    memory_available: HashMap<HostId, u64>,
    images: HashMap<ImageDigest, HashSet<HostId>>,
    templates: HashMap<String, Templates>,
}

/// How far one template is on each host.
#[derive(Debug)]
struct Templates {
    /// Until then.
    until: i64,
    on: HashMap<HostId, (TemplateState, String)>,
}

impl Remembered {
    fn candidates(&self, pool: &Pool, world: &dyn World, cut: &[HostId]) -> Vec<Candidate<'_>> {
        let template = pool.template();
        let with_image = self.images.get(&template.image);
        let templates = self.templates.get(&template.key());
        let on_record = |host: &Host| HostSeen {
            online: host.is_online(),
            memory_available: self.memory_available.get(&host.id).copied(),
            template: templates.and_then(|templates| templates.on.get(&host.id).cloned()),
        };
        let seen = |host: &Host| match world.host(host.id, &template) {
            // Its link is lost, and this broker has not noticed.
            Some(_) if cut.contains(&host.id) => HostSeen::default(),
            Some(seen) => seen,
            None => on_record(host),
        };
        let labels = &pool.rules.0.placement.labels;
        let lacks = |host: &Host| {
            let has = &host.labels.0;
            let missing = labels.iter().find(|(name, value)| has.get(*name) != Some(*value));
            missing.map(|(name, value)| format!("{name}={value}"))
        };
        let candidates = self.hosts.iter().map(|host| Candidate {
            host: host.id,
            name: &host.name,
            facts: &host.facts.0,
            promised_mib: host.promised_mib,
            promised_vcpus: host.promised_vcpus,
            drained: host.drained_at.is_some(),
            lacks: lacks(host),
            has_image: with_image.is_some_and(|hosts| hosts.contains(&host.id)),
            seen: seen(host),
        });
        candidates.collect()
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
        let pulses = all(tx, HostPulse::all, |pulse| pulse.host_id)?;
        let memory_available =
            pulses.into_iter().map(|pulse| (pulse.host_id, pulse.memory_available)).collect();
        let until = tx.now() + FRESH;
        *self.lock() = Remembered { until, hosts, memory_available, images, templates: HashMap::new() };
        Ok(())
    }

    fn read_templates(&self, tx: &mut Tx<'_>, template: &str) -> Result<()> {
        let now = tx.now();
        if self.lock().templates.get(template).is_some_and(|templates| templates.until > now) {
            return Ok(());
        }
        let rows = all(tx, || HostTemplate::of(template), |row| row.host_id)?;
        let on = rows.into_iter().map(|row| (row.host_id, (row.seen.0.state, row.seen.0.detail))).collect();
        self.lock().templates.insert(template.to_owned(), Templates { until: now + FRESH, on });
        Ok(())
    }

    /// Whether there is a place for a desktop of the pool now; another may take it.
    ///
    /// # Errors
    /// A database fault.
    pub fn any(&self, tx: &mut Tx<'_>, pool: &Pool, world: &dyn World) -> Result<bool> {
        self.read(tx)?;
        self.read_templates(tx, &pool.template().key())?;
        let remembered = self.lock();
        Ok(plan::choose_host(&remembered.candidates(pool, world, &[]), &Demand::of(pool)).is_ok())
    }

    /// What is to be said of each host for a desktop of the pool now.
    ///
    /// # Errors
    /// A database fault.
    pub fn consider(&self, tx: &mut Tx<'_>, pool: &Pool, world: &dyn World) -> Result<Vec<Verdict>> {
        self.read(tx)?;
        self.read_templates(tx, &pool.template().key())?;
        let remembered = self.lock();
        Ok(plan::consider(&remembered.candidates(pool, world, &[]), &Demand::of(pool)))
    }

    /// The best host for a desktop of the pool and why, held until the end of the transaction, with room for it.
    ///
    /// # Errors
    /// [`Error::NoHost`], [`Error::TemplateFailed`], or a database fault.
    pub fn choose(&self, tx: &mut Tx<'_>, pool: &Pool, world: &dyn World) -> Result<(Locked<Host>, String)> {
        let demand = Demand::of(pool);
        let template = pool.template().key();
        let mut fresh = self.lock().until <= tx.now();
        if fresh {
            self.read(tx)?;
        }
        let mut cut = Vec::new();
        loop {
            self.read_templates(tx, &template)?;
            let chosen = {
                let mut remembered = self.lock();
                let chosen = plan::choose_host(&remembered.candidates(pool, world, &cut), &demand);
                // Counted before it is certain, so that who comes next prefers another and does not wait for this one.
                if let Some(host) = chosen.as_ref().ok().and_then(|choice| remembered.of(choice.host)) {
                    host.promised_mib += demand.memory_mib;
                    host.promised_vcpus += demand.vcpus;
                }
                chosen
            };
            let (id, why) = match chosen {
                Ok(choice) => (choice.host, choice.why),
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
            let room = demand.too_much(&host.facts.0, host.promised_mib, host.promised_vcpus).is_none();
            let open = host.is_online() && host.drained_at.is_none();
            let wanted = &pool.rules.0.placement.labels;
            let labelled = wanted.iter().all(|(name, value)| host.labels.0.get(name) == Some(value));
            if open && room && labelled || mutant("a place is taken as it was remembered") {
                return Ok((host, why));
            }
            // Others gave out more there, or it is cut off.
            if !host.is_online() {
                cut.push(id);
            }
            if let Some(remembered) = self.lock().of(id) {
                remembered.clone_from(&host);
            }
        }
    }
}
