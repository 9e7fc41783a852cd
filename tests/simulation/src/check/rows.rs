//! The tables, and that they agree with each other.

use super::{Checker, holds, now};
use lucarne_control::DesktopId;
use lucarne_db::Fault;
use lucarne_db::tables::{Assignment, Broker, Desktop, Host, Placement, Pool, PoolRules, Session, Snapshot};

/// The tables, as they are.
pub(crate) struct Rows {
    pub desktops: Vec<Desktop>,
    pub brokers: Vec<Broker>,
    pub hosts: Vec<Host>,
    pools: Vec<Pool>,
    placements: Vec<Placement>,
    pub sessions: Vec<Session>,
    assignments: Vec<Assignment>,
    /// Those that are not gone.
    pub snapshots: Vec<Snapshot>,
}

impl Checker {
    /// The tables.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn rows(&self) -> Result<Rows, String> {
        let rows = self.db.read(|tx| {
            let desktops = tx.list(Desktop::live())?;
            let mut snapshots = Vec::new();
            for desktop in desktops.iter().filter(|desktop| desktop.persistent) {
                snapshots.extend(tx.list(Snapshot::of_desktop(&desktop.id))?);
            }
            Ok::<_, Fault>(Rows {
                desktops,
                snapshots,
                brokers: tx.list(Broker::live())?,
                hosts: tx.list(Host::all())?,
                pools: tx.list(Pool::present())?,
                placements: tx.list(Placement::all())?.into_iter().filter(|p| p.freed_at.is_none()).collect(),
                sessions: tx.list(Session::live())?,
                assignments: tx
                    .list(Assignment::all())?
                    .into_iter()
                    .filter(|a| a.ended_at.is_none())
                    .collect(),
            })
        });
        now(rows).ok_or("the database waits")?.map_err(|e| e.to_string())
    }
}

impl Rows {
    /// The live desktop of that id.
    pub fn desktop(&self, id: DesktopId) -> Option<&Desktop> {
        self.desktops.iter().find(|d| d.id == id)
    }

    /// Whether nobody wants that desktop any more.
    pub fn is_gone(&self, id: DesktopId) -> bool {
        self.desktop(id).is_none_or(|desktop| !desktop.is_wanted())
    }

    /// What is counted beside the rows is what the rows say, and no limit is exceeded.
    pub fn add_up(&self) -> Result<(), String> {
        for host in &self.hosts {
            let here = || self.placements.iter().filter(|p| p.host_id == host.id);
            let vcpus: u64 = here().map(|p| u64::from(p.vcpus)).sum();
            holds!(
                host.promised_vcpus == vcpus,
                "{} counts {} processors, and has {vcpus}",
                host.name,
                host.promised_vcpus
            );
            let promised: u64 = here().map(|p| p.memory_mib).sum();
            let (name, counted) = (&host.name, (host.desktops as usize, host.promised_mib));
            holds!(
                counted == (here().count(), promised),
                "{name} counts {counted:?}, and has {} and {promised}",
                here().count()
            );
            let most = host.facts.0.memory_mib * PoolRules::default().placement.memory_percent() / 100;
            holds!(promised <= most, "{name} is promised {promised} of {most} MiB");
        }
        for pool in &self.pools {
            let live = self.desktops.iter().filter(|d| d.pool_id == pool.id);
            let (live, assigned) = (live.clone().count(), live.filter(|d| d.assigned).count());
            holds!(
                pool.desktops as usize == live,
                "the pool counts {} desktops, and has {live}",
                pool.desktops
            );
            holds!(
                assigned <= pool.max_desktops as usize,
                "the pool gives out {assigned} of {}",
                pool.max_desktops
            );
        }
        Ok(())
    }

    /// What is said of a desktop in several tables is the same.
    pub fn agree(&self) -> Result<(), String> {
        for session in &self.sessions {
            let desktop = self.desktop(session.desktop_id).filter(|d| d.is_wanted() && d.assigned);
            let fits = desktop.is_some_and(|d| d.user_id == Some(session.user_id));
            holds!(fits, "{} is live on {}, which is not its user's", session.id, session.desktop_id);
        }
        for d in self.desktops.iter().filter(|d| d.is_wanted()) {
            let (waits, given) = (d.taken_at.is_none(), d.assigned && d.user_id.is_some());
            holds!(waits != given, "{} waits for a user and has one, or neither", d.id);
        }
        for a in &self.assignments {
            let desktop = self.desktop(a.desktop_id).filter(|d| d.is_wanted() && d.assigned);
            let fits = desktop.is_some_and(|d| d.user_id == Some(a.user_id));
            holds!(fits, "{} is assigned, and does not say so", a.desktop_id);
        }
        for p in &self.placements {
            let desktop = self.desktop(p.desktop_id).filter(|d| d.placed);
            let fits = desktop.is_some_and(|d| d.host_id == Some(p.host_id) && d.generation == p.generation);
            holds!(fits, "{} is placed, and does not say so", p.desktop_id);
        }
        Ok(())
    }
}
