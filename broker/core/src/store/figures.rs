//! Pools and hosts in figures, for monitoring.

use super::{Result, Store, all};
use lucarne_db::tables::{Host, HostPulse, Pool};
use std::collections::HashMap;

/// What monitoring asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// All pools.
    pub pools: Vec<PoolFigures>,
    /// All hosts.
    pub hosts: Vec<HostFigures>,
}

/// A pool in figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolFigures {
    /// Name.
    pub name: String,
    /// Live desktops.
    pub desktops: u32,
    /// Those of them that wait for users.
    pub waiting: u32,
    /// At most.
    pub max_desktops: u32,
}

/// A host in figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFigures {
    /// Name.
    pub name: String,
    /// Its agent is linked to a broker.
    pub online: bool,
    /// It may not connect.
    pub denied: bool,
    /// It gets no new desktops.
    pub drained: bool,
    /// Desktops that are placed on it.
    pub desktops: u32,
    /// MiB of memory that these were promised.
    pub promised_mib: u64,
    /// MiB of memory that it has.
    pub memory_mib: u64,
    /// Bytes of memory that its programs could still get, as it last said.
    pub memory_available: u64,
    /// Bytes free on its disk, as it last said.
    pub disk_free: u64,
}

impl Store {
    /// All pools and hosts in figures; two pages of rows for each 500 hosts.
    ///
    /// # Errors
    /// A database fault.
    pub async fn figures(&self) -> Result<Figures> {
        self.read(|tx| {
            let pools = all(tx, Pool::present, |pool| pool.id)?;
            let mut waiting = HashMap::new();
            for pool in &pools {
                waiting.insert(pool.id, super::waiting::count(tx, pool.id)?);
            }
            let hosts: Vec<Host> = all(tx, Host::all, |host| host.id)?;
            let mut pulses = HashMap::new();
            for some in hosts.chunks(super::PAGE) {
                let found = tx.peek_all(some.iter().map(|host| HostPulse::key(&host.id)))?;
                pulses.extend(found.into_iter().map(|pulse| (pulse.host_id, pulse)));
            }
            let pool = |pool: Pool| PoolFigures {
                name: pool.name,
                desktops: pool.desktops,
                max_desktops: pool.max_desktops,
                waiting: waiting.get(&pool.id).copied().unwrap_or_default(),
            };
            let host = |host: Host| HostFigures {
                online: host.is_online(),
                denied: host.denied_at.is_some(),
                drained: host.drained_at.is_some(),
                desktops: host.desktops,
                promised_mib: host.promised_mib,
                memory_mib: host.facts.0.memory_mib,
                memory_available: pulses.get(&host.id).map_or(0, |pulse| pulse.memory_available),
                disk_free: pulses.get(&host.id).map_or(0, |pulse| pulse.disk_free),
                name: host.name,
            };
            Ok(Figures {
                pools: pools.into_iter().map(pool).collect(),
                hosts: hosts.into_iter().map(host).collect(),
            })
        })
        .await
    }

    /// Whether the database answers: the smallest question there is.
    ///
    /// # Errors
    /// It does not.
    pub async fn answers(&self) -> Result<()> {
        self.read(|tx| Ok(tx.peek(lucarne_db::tables::Counter::key(super::REVISION)).map(drop)?)).await
    }
}
