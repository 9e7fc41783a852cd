//! Links to hosts: which broker has which, and what a host is told by it.
//!
//! A link's epoch is higher than that of any link of its host before. What is recorded of a host is recorded by its
//! link, in a transaction that holds the host's row and finds this epoch there: what comes by a link that another replaced
//! changes nothing.

use super::{Error, Result, Store, all};
use lucarne_control::agent::{CloneOf, Desired, DesktopDesired, Followed, Hello, HomeDesired};
use lucarne_control::desktop::Identity;
use lucarne_control::{BrokerId, HostId};
use lucarne_db::tables::{Broker, Counter, Desktop, Disk, Host, HostPulse, Pool, REVISION};
use lucarne_db::value::Json;
use lucarne_db::{Locked, Tx};
use lucarne_mutants::mutant;
use std::collections::HashMap;

/// By which way an agent comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the broker's own machine, as one whom that trusts.
    Here,
    /// By the network, with a certificate.
    Enrolled {
        /// Of which host.
        host: HostId,
        /// The certificate's public key.
        public_key: Vec<u8>,
        /// Where gateways reach the displays of its desktops.
        address: String,
    },
}

impl Origin {
    fn address(&self) -> Option<String> {
        match self {
            Self::Here => None,
            Self::Enrolled { address, .. } => Some(address.clone()),
        }
    }
}

/// A host's link to a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// Whose link it is.
    pub broker: BrokerId,
    /// Higher than that of any link of the host before.
    pub epoch: u64,
}

impl Link {
    fn check(&self, host: Option<&Host>) -> Result<()> {
        let mine = |host: &&Host| host.epoch == self.epoch && host.broker_id == Some(self.broker);
        if host.filter(mine).is_none() && !mutant("what comes by a lost link is recorded") {
            return Err(Error::LinkLost { host: self.name.clone() });
        }
        Ok(())
    }

    /// Holds the host's row, to change it; the last row that a transaction takes.
    pub(super) fn lock(&self, tx: &mut Tx<'_>) -> Result<Locked<Host>> {
        let host = tx.lock(Host::key(&self.host))?;
        self.check(host.as_deref())?;
        host.ok_or_else(|| Error::not_found("host", &self.name))
    }

    /// Holds the link as it is; the last row that a transaction takes.
    pub(super) fn share(&self, tx: &mut Tx<'_>) -> Result<()> {
        let host = tx.share(Host::key(&self.host))?;
        self.check(host.as_ref())
    }
}

/// What is to be on every host has changed this often.
fn everywhere(tx: &mut Tx<'_>) -> Result<u64> {
    Ok(tx.peek(Counter::key(REVISION))?.map_or(0, |revision| revision.value))
}

/// The row of the host that an agent says it is, if it may say so.
fn claimed(tx: &mut Tx<'_>, hello: &Hello, origin: &Origin) -> Result<Option<Locked<Host>>> {
    let host = match origin {
        Origin::Here => tx.lock_first(Host::named(&hello.host))?,
        Origin::Enrolled { host, .. } => tx.lock(Host::key(host))?,
    };
    let other =
        |reason: &str| Err(Error::NotThatHost { host: hello.host.clone(), reason: reason.to_owned() });
    match (origin, &host) {
        (_, Some(host)) if host.denied_at.is_some() && !mutant("a denied host is linked") => {
            Err(Error::HostDenied { host: host.name.clone() })
        }
        (Origin::Here, Some(host)) if host.public_key.is_some() => {
            other("that host was enrolled, and comes by the network; give this one another --name")
        }
        (Origin::Enrolled { .. }, None) => {
            other("it was deleted here; enrol it again with `lucarne host enroll`")
        }
        (Origin::Enrolled { .. }, Some(host)) if host.name != hello.host => other(&format!(
            "its certificate is that of the host {}; enrol it again with `lucarne host enroll`",
            host.name
        )),
        (Origin::Enrolled { public_key, .. }, Some(host)) if host.public_key.as_ref() != Some(public_key) => {
            other(
                "that host was enrolled again since, elsewhere or with another data directory, and this one's key is not good any more",
            )
        }
        _ => Ok(host),
    }
}

fn link(tx: &mut Tx<'_>, hello: &Hello, origin: &Origin, broker: BrokerId) -> Result<Link> {
    if tx.share(Broker::key(&broker))?.is_none_or(|broker| broker.ended_at.is_some()) {
        return Err(Error::BrokerEnded);
    }
    let (facts, now, everywhere) = (hello.facts.clone(), tx.now(), everywhere(tx)?);
    let detail = format!("agent {}, {} by {}", hello.version, facts.driver, facts.accel);
    tx.audit("system", "host.connected", &hello.host, &detail)?;
    let (host, epoch) = match claimed(tx, hello, origin)? {
        Some(mut host) => {
            if host.epoch == 0 && hello.followed.epoch > 0 {
                // It was enrolled just now, and was a host of something before.
                if hello.desktops > 0 {
                    return Err(Error::HostUnknown { host: host.name.clone(), desktops: hello.desktops });
                }
                host.epoch = hello.followed.epoch;
            }
            let known = Followed { epoch: host.epoch, revision: everywhere + host.revision };
            if hello.followed > known && !mutant("a host links to a database that is older than itself") {
                return Err(Error::DatabaseOlder {
                    host: host.name.clone(),
                    followed: hello.followed,
                    known,
                });
            }
            host.epoch += 1;
            (host.broker_id, host.cut_at) = (Some(broker), None);
            (host.facts, host.last_seen, host.address) = (Json(facts), now, origin.address());
            tx.update(&host)?;
            (host.id, host.epoch)
        }
        None if hello.followed.epoch > 0
            && hello.desktops > 0
            && !mutant("a host with desktops follows a database that does not know it") =>
        {
            return Err(Error::HostUnknown { host: hello.host.clone(), desktops: hello.desktops });
        }
        None => {
            let host = Host {
                id: HostId(tx.uuid()),
                name: hello.host.clone(),
                facts: Json(facts),
                revision: 1,
                desktops: 0,
                promised_mib: 0,
                promised_vcpus: 0,
                created_at: now,
                last_seen: now,
                // One that another database knew goes on from there.
                epoch: hello.followed.epoch + 1,
                broker_id: Some(broker),
                cut_at: None,
                public_key: None,
                address: None,
                denied_at: None,
                drained_at: None,
                labels: Json::default(),
                maintenance_at: None,
            };
            tx.insert(&host)?;
            (host.id, host.epoch)
        }
    };
    Ok(Link { host, name: hello.host.clone(), broker, epoch })
}

fn desired(tx: &mut Tx<'_>, link: &Link) -> Result<Desired> {
    // First, so that what is read is at least as new as it says.
    let everywhere = everywhere(tx)?;
    let host = tx.peek(Host::key(&link.host))?;
    link.check(host.as_ref())?;
    let here = host.map_or(0, |host| host.revision);
    let mut templates: Vec<_> = all(tx, Pool::present, |pool| pool.id)?.iter().map(Pool::template).collect();
    templates.sort_by_key(lucarne_control::spec::TemplateSpec::key);
    templates.dedup();
    let there = all(tx, || Desktop::live_on(&link.host), |desktop| desktop.id)?;
    let pools = tx.peek_all(there.iter().map(|d| Pool::key(&d.pool_id)))?;
    let pools: HashMap<_, _> = pools.into_iter().map(|pool| (pool.id, pool)).collect();
    let disks = all(tx, || Disk::on_host(&link.host), |disk| disk.id)?;
    let deleted_disks = disks.iter().filter(|disk| disk.deleted_at.is_some()).map(|disk| disk.id).collect();
    // By what desktops have, wherever that is on record: one without its disk would lose what is saved in it.
    let disks = tx.peek_all(there.iter().filter_map(|d| d.disk_id.as_ref()).map(Disk::key))?;
    let disks: HashMap<_, _> = disks.into_iter().map(|disk| (disk.id, disk)).collect();
    let origins: HashMap<_, _> = super::clones::origins(tx, &there)?.into_iter().collect();
    let origin = |d: &Desktop| {
        let snapshot = d.origin_id.filter(|_| !d.held)?;
        Some(CloneOf { desktop: *origins.get(&snapshot)?, snapshot })
    };
    let home = |d: &Desktop| {
        let disk = d.disk_id?;
        Some(match disks.get(&disk) {
            Some(row) => HomeDesired { disk, size_mib: row.size_mib, fresh: row.made_at.is_none() },
            None => HomeDesired { disk, size_mib: 0, fresh: false },
        })
    };
    let desktop = |d: Desktop| {
        let pool = pools.get(&d.pool_id).ok_or_else(|| Error::not_found("pool", d.pool_id))?;
        let policy = d.policy(pool);
        Ok(DesktopDesired {
            desktop: d.id,
            generation: d.generation,
            state: d.desired,
            wish: d.desired_gen.unsigned_abs(),
            persistent: d.persistent,
            home: home(&d),
            fresh: !d.held || mutant("a host is told to make anew what it has lost"),
            template: pool.template(),
            origin: origin(&d),
            identity: Identity { hostname: d.name, machine_id: d.machine_id, mac: d.mac },
            network: policy.network,
            audio: policy.audio,
            clipboard: policy.clipboard,
            recording: policy.recording,
            pool: Some(d.pool_id),
            back_to: d.back_to.filter(|_| d.back_gen == d.desired_gen),
        })
    };
    let desktops = there.into_iter().filter(|d| d.placed).map(desktop).collect::<Result<_>>()?;
    let revision = everywhere + here;
    let snapshots = super::snapshots::desired(tx, link.host)?;
    Ok(Desired {
        epoch: link.epoch,
        revision,
        since: None,
        templates,
        desktops,
        removed: Vec::new(),
        deleted_disks,
        snapshots,
    })
}

impl Store {
    /// Links a host's agent to a broker, in the place of any link that it had.
    ///
    /// # Errors
    /// [`Error::BrokerEnded`], [`Error::HostDenied`], [`Error::NotThatHost`], [`Error::DatabaseOlder`] when the host has followed what this database does not know of,
    /// or a database fault.
    pub async fn link(&self, hello: &Hello, origin: &Origin, broker: BrokerId) -> Result<Link> {
        let (hello, origin) = (hello.clone(), origin.clone());
        self.write(move |tx| link(tx, &hello, &origin, broker)).await
    }

    /// Notes that a link is lost; nothing when another has replaced it.
    ///
    /// # Errors
    /// A database fault.
    pub async fn unlink(&self, link: &Link, why: &str) -> Result<()> {
        let (link, why) = (link.clone(), why.to_owned());
        self.write(move |tx| {
            let host = tx.lock(Host::key(&link.host))?;
            let Some(mut host) = host.filter(|host| link.check(Some(host)).is_ok()) else { return Ok(()) };
            let now = tx.now();
            (host.broker_id, host.cut_at, host.last_seen) = (None, Some(now), now);
            tx.update(&host)?;
            Ok(tx.audit("system", "host.disconnected", &link.name, &why)?)
        })
        .await
    }

    /// Everything that should be on a host: the templates of all pools, and the desktops placed there.
    ///
    /// # Errors
    /// [`Error::LinkLost`], or a database fault.
    pub async fn desired(&self, link: &Link) -> Result<Desired> {
        let link = link.clone();
        self.read(move |tx| desired(tx, &link)).await
    }

    /// The epoch of the link, and the revision of what should be there, of each host that is linked to a broker.
    ///
    /// # Errors
    /// A database fault.
    pub async fn revisions(&self, broker: BrokerId) -> Result<HashMap<HostId, (u64, u64)>> {
        self.read(move |tx| {
            let everywhere = everywhere(tx)?;
            let hosts = all(tx, || Host::linked_to(&broker), |host| host.id)?;
            Ok(hosts.into_iter().map(|host| (host.id, (host.epoch, everywhere + host.revision))).collect())
        })
        .await
    }

    /// Keeps what hosts said of themselves: bytes free on the disk, and of memory.
    ///
    /// # Errors
    /// A database fault.
    pub async fn note_pulses(&self, pulses: Vec<(HostId, u64, u64)>) -> Result<()> {
        self.write(move |tx| {
            for &(host_id, disk_free, memory_available) in &pulses {
                let pulse = HostPulse { host_id, disk_free, memory_available };
                match tx.lock(HostPulse::key(&host_id))? {
                    Some(mut row) => {
                        *row = pulse;
                        tx.update(&row)?;
                    }
                    None => tx.insert(&pulse)?,
                }
            }
            Ok(())
        })
        .await
    }
}
