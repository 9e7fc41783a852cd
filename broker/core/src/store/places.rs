//! Where a desktop can go: the hosts as they were a moment ago, and the one that is held for it.
//!
//! Hosts are many and change rarely, so a broker remembers them and counts what it gives out itself; what others gave out it
//! sees when it holds the host's row, which alone decides. Before anybody is refused all are read afresh. What is in use is read
//! again beside the transactions that place desktops, so that nobody waits for all hosts to be read.

use super::{Error, Result, all};
use crate::plan::{self, Candidate, Choice, Demand, HostSeen, NoChoice, Verdict, World};
use crate::rank::Ranking;
use lucarne_control::agent::TemplateState;
use lucarne_control::spec::{ImageDigest, TemplateSpec};
use lucarne_control::{HostId, PoolId};
use lucarne_db::tables::{Host, HostImage, HostPulse, HostTemplate, Pool};
use lucarne_db::{Locked, Tx};
use lucarne_mutants::mutant;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is remembered is read again after this, milliseconds, and after [`FRESH_EACH`] more for each host: what reading all takes is
/// a like part of the time however many there are. Longer: what other brokers give out is seen late, and hosts are less even.
/// Shorter: all hosts are read for each few connects.
const FRESH: i64 = 1000;
const FRESH_EACH: i64 = 1;

/// What is older than that by this much, milliseconds, is read by whoever needs it: nothing has read it beside them, or it was not
/// in use. Shorter: who comes waits for that where reading is slow.
const GRACE: i64 = 2000;

/// So long after somebody needed it, it counts as in use, milliseconds. Shorter: who comes after a quiet time waits. Longer: it is
/// read for nobody.
const IN_USE: i64 = 600_000;

fn fresh(hosts: usize) -> i64 {
    FRESH + FRESH_EACH * i64::try_from(hosts).unwrap_or(0)
}

/// The hosts.
#[derive(Debug, Default)]
pub(super) struct Places {
    remembered: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    /// Until then.
    until: i64,
    /// When somebody needed it last.
    used_at: i64,
    hosts: Vec<Host>,
    memory_available: HashMap<HostId, u64>,
    images: HashMap<ImageDigest, HashSet<HostId>>,
    templates: HashMap<String, Templates>,
    rankings: HashMap<PoolId, Ranked>,
}

/// How far one template is on each host.
#[derive(Debug)]
struct Templates {
    /// Until then.
    until: i64,
    /// When somebody needed it last.
    used_at: i64,
    on: HashMap<HostId, (TemplateState, String)>,
}

impl Templates {
    fn read(tx: &mut Tx<'_>, template: &str) -> Result<Self> {
        let rows = all(tx, || HostTemplate::of(template), |row| row.host_id)?;
        let on: HashMap<_, _> =
            rows.into_iter().map(|row| (row.host_id, (row.seen.0.state, row.seen.0.detail))).collect();
        Ok(Self { until: tx.now() + fresh(on.len()), used_at: tx.now(), on })
    }
}

impl Remembered {
    /// What is known of a host for a desktop of the pool.
    fn candidate<'a>(&'a self, host: &'a Host, asked: &Asked<'_>) -> Candidate<'a> {
        let template = asked.template;
        let on_record = || HostSeen {
            online: host.is_online(),
            memory_available: self.memory_available.get(&host.id).copied(),
            template: self.templates.get(asked.key).and_then(|templates| templates.on.get(&host.id).cloned()),
        };
        let seen = match asked.world.host(host.id, template) {
            // Its link is lost, and this broker has not noticed.
            Some(_) if asked.cut.contains(&host.id) => HostSeen::default(),
            Some(seen) => seen,
            None => on_record(),
        };
        let mut labels = asked.pool.rules.0.placement.labels.iter();
        let missing = labels.find(|(name, value)| host.labels.0.get(*name) != Some(*value));
        Candidate {
            host: host.id,
            name: &host.name,
            facts: &host.facts.0,
            promised_mib: host.promised_mib,
            promised_vcpus: host.promised_vcpus,
            drained: host.drained_at.is_some(),
            lacks: missing.map(|(name, value)| format!("{name}={value}")),
            has_image: self.images.get(&template.image).is_some_and(|hosts| hosts.contains(&host.id)),
            seen,
        }
    }

    /// The hosts that might take a desktop of the pool; of all but one nothing is said where it has to be on that.
    fn candidates(&self, asked: &Asked<'_>) -> Vec<Candidate<'_>> {
        let hosts = match asked.only {
            Some(id) => self.at(id).map_or(&[][..], |n| &self.hosts[n..=n]),
            None => &self.hosts,
        };
        hosts.iter().map(|host| self.candidate(host, asked)).collect()
    }

    /// Where in the list of hosts, which is in the order of their ids, one is.
    fn at(&self, id: HostId) -> Option<usize> {
        self.hosts.binary_search_by_key(&id, |host| host.id).ok()
    }

    /// Chooses a host, and counts what it promises by that before it is certain: who comes next prefers another then, and does
    /// not wait for this one.
    fn choose(&mut self, asked: &Asked<'_>, demand: &Demand) -> Result<Choice, NoChoice> {
        if asked.only.is_some() {
            let choice = plan::choose_host(&self.candidates(asked), demand)?;
            self.promise(choice.host, demand);
            return Ok(choice);
        }
        let known = self.rankings.remove(&asked.pool.id);
        let labels = &asked.pool.rules.0.placement.labels;
        let known = known.filter(|known| known.is_of(demand, asked.key, labels));
        let mut ranked = known.unwrap_or_else(|| {
            let all = self.hosts.iter().map(|host| self.candidate(host, asked));
            Ranked {
                ranking: Ranking::new(*demand, all),
                template: asked.key.to_owned(),
                labels: labels.clone(),
            }
        });
        let Some((n, choice)) = ranked.ranking.take(|n| self.candidate(&self.hosts[n], asked)) else {
            // Another look at all of them, which says why of each, or finds that one fits again.
            let choice = plan::choose_host(&self.candidates(asked), demand)?;
            self.promise(choice.host, demand);
            return Ok(choice);
        };
        self.promise(choice.host, demand);
        ranked.ranking.put_back(n, &self.candidate(&self.hosts[n], asked));
        self.rankings.insert(asked.pool.id, ranked);
        Ok(choice)
    }

    fn promise(&mut self, host: HostId, demand: &Demand) {
        if let Some(n) = self.at(host) {
            self.hosts[n].promised_mib += demand.memory_mib;
            self.hosts[n].promised_vcpus += demand.vcpus;
        }
    }

    /// A host is not there any more.
    fn forget(&mut self, id: HostId) {
        self.hosts.retain(|host| host.id != id);
        // Their numbers are places in the list.
        self.rankings.clear();
    }
}

/// What is asked of the hosts.
struct Asked<'a> {
    pool: &'a Pool,
    template: &'a TemplateSpec,
    /// The template's key.
    key: &'a str,
    /// Where the desktop has to be.
    only: Option<HostId>,
    world: &'a dyn World,
    /// Hosts whose link is lost, as this transaction has found.
    cut: &'a [HostId],
}

/// The order of hosts for a pool, as it was when it was made.
#[derive(Debug)]
struct Ranked {
    ranking: Ranking,
    template: String,
    labels: BTreeMap<String, String>,
}

impl Ranked {
    fn is_of(&self, demand: &Demand, template: &str, labels: &BTreeMap<String, String>) -> bool {
        self.ranking.is_for(demand) && self.template == template && self.labels == *labels
    }
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        // What is half changed is at worst a wrong memory, which the next reading puts right.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads again what is in use and not fresh any more.
    ///
    /// # Errors
    /// A database fault.
    pub fn refresh(&self, tx: &mut Tx<'_>) -> Result<()> {
        let in_use = |used_at: i64| used_at + IN_USE > tx.now();
        let known: Vec<(String, i64)> = {
            let remembered = self.lock();
            if remembered.until > tx.now() || !in_use(remembered.used_at) {
                return Ok(());
            }
            let templates = remembered.templates.iter().filter(|(_, templates)| in_use(templates.used_at));
            templates.map(|(key, templates)| (key.clone(), templates.used_at)).collect()
        };
        let mut read = HashMap::new();
        for (key, used_at) in known {
            let templates = Templates { used_at, ..Templates::read(tx, &key)? };
            read.insert(key, templates);
        }
        self.read(tx)?;
        self.lock().templates = read;
        Ok(())
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
        let until = tx.now() + fresh(hosts.len());
        let mut remembered = self.lock();
        let used_at = remembered.used_at;
        *remembered = Remembered { until, used_at, hosts, memory_available, images, ..Remembered::default() };
        remembered.hosts.sort_by_key(|host| host.id);
        Ok(())
    }

    fn read_templates(&self, tx: &mut Tx<'_>, template: &str) -> Result<()> {
        let now = tx.now();
        if let Some(templates) = self.lock().templates.get_mut(template)
            && templates.until + GRACE > now
        {
            templates.used_at = now;
            return Ok(());
        }
        let templates = Templates::read(tx, template)?;
        self.lock().templates.insert(template.to_owned(), templates);
        Ok(())
    }

    /// Whether there is a place for a desktop of the pool now; another may take it.
    ///
    /// # Errors
    /// A database fault.
    pub fn any(&self, tx: &mut Tx<'_>, pool: &Pool, only: Option<HostId>, world: &dyn World) -> Result<bool> {
        self.read(tx)?;
        self.read_templates(tx, &pool.template().key())?;
        let (template, key) = (pool.template(), pool.template().key());
        let asked = Asked { pool, template: &template, key: &key, only, world, cut: &[] };
        let remembered = self.lock();
        Ok(plan::choose_host(&remembered.candidates(&asked), &Demand::of(pool)).is_ok())
    }

    /// What is to be said of each host for a desktop of the pool now.
    ///
    /// # Errors
    /// A database fault.
    pub fn consider(
        &self,
        tx: &mut Tx<'_>,
        pool: &Pool,
        only: Option<HostId>,
        world: &dyn World,
    ) -> Result<Vec<Verdict>> {
        self.read(tx)?;
        self.read_templates(tx, &pool.template().key())?;
        let (template, key) = (pool.template(), pool.template().key());
        let asked = Asked { pool, template: &template, key: &key, only, world, cut: &[] };
        let remembered = self.lock();
        Ok(plan::consider(&remembered.candidates(&asked), &Demand::of(pool)))
    }

    /// The best host for a desktop of the pool, `only` this one where one is given, and why; held until the end of the transaction, with room for it.
    ///
    /// # Errors
    /// [`Error::NoHost`], [`Error::TemplateFailed`], or a database fault.
    pub fn choose(
        &self,
        tx: &mut Tx<'_>,
        pool: &Pool,
        only: Option<HostId>,
        world: &dyn World,
    ) -> Result<(Locked<Host>, String)> {
        let demand = Demand::of(pool);
        let (template, key) = (pool.template(), pool.template().key());
        let mut fresh = self.lock().until + GRACE <= tx.now();
        if fresh {
            self.read(tx)?;
        }
        self.lock().used_at = tx.now();
        let mut cut = Vec::new();
        loop {
            self.read_templates(tx, &key)?;
            let asked = Asked { pool, template: &template, key: &key, only, world, cut: &cut };
            let chosen = self.lock().choose(&asked, &demand);
            let (id, why) = match chosen {
                Ok(choice) => (choice.host, choice.why),
                Err(_) if !fresh => {
                    self.read(tx)?;
                    fresh = true;
                    continue;
                }
                Err(NoChoice::NoHost(reason)) => {
                    let reason = match only {
                        Some(_) => format!("the home disk is on one host alone: {reason}"),
                        None => reason,
                    };
                    return Err(Error::NoHost { pool: pool.name.clone(), reason });
                }
                Err(NoChoice::TemplateFailed(reason)) => {
                    return Err(Error::TemplateFailed { pool: pool.name.clone(), reason });
                }
            };
            let Some(host) = tx.lock(Host::key(&id))? else {
                self.lock().forget(id);
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
            let mut remembered = self.lock();
            if let Some(n) = remembered.at(id) {
                remembered.hosts[n].clone_from(&host);
            }
        }
    }
}
