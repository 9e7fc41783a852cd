//! Hosts as they introduced themselves, and what should be on each.

use super::{Error, Result, Store, all, rows, seconds};
use lucarne_control::HostId;
use lucarne_control::agent::{Desired, DesktopDesired, Hello};
use lucarne_control::api;
use lucarne_control::desktop::Identity;
use lucarne_db::Tx;
use lucarne_db::tables::{Counter, Desktop, Host, HostImage, Placement, Pool, REVISION};
use lucarne_db::value::Json;
use std::collections::HashMap;

fn view(host: Host) -> api::Host {
    api::Host {
        id: host.id,
        name: host.name,
        online: false,
        last_seen: seconds(host.last_seen),
        facts: host.facts.0,
        desktops: host.desktops,
        disk_free: 0,
        memory_available: 0,
    }
}

fn desired(tx: &mut Tx<'_>, host: HostId) -> Result<Desired> {
    let everywhere = tx.peek(Counter::key(REVISION))?.map_or(0, |revision| revision.value);
    let here = tx.peek(Host::key(&host))?.map_or(0, |host| host.revision);
    let mut templates: Vec<_> = all(tx, Pool::present, |pool| pool.id)?.iter().map(Pool::template).collect();
    templates.sort_by_key(|t| {
        (t.image.clone(), t.machine.memory_mib, t.machine.vcpus, t.machine.width, t.machine.height)
    });
    templates.dedup();
    let there = all(tx, || Desktop::live_on(&host), |desktop| desktop.id)?;
    let pools = tx.peek_all(there.iter().map(|d| Pool::key(&d.pool_id)))?;
    let pools: HashMap<_, _> = pools.into_iter().map(|pool| (pool.id, pool)).collect();
    let desktop = |d: Desktop| {
        let pool = pools.get(&d.pool_id).ok_or_else(|| Error::not_found("pool", d.pool_id))?;
        Ok(DesktopDesired {
            desktop: d.id,
            generation: d.generation,
            state: d.desired,
            template: pool.template(),
            identity: Identity { hostname: d.name, machine_id: d.machine_id, mac: d.mac },
            network: pool.policy.0.network,
            audio: pool.policy.0.audio,
            clipboard: pool.policy.0.clipboard,
            recording: pool.policy.0.recording,
            pool: Some(d.pool_id),
        })
    };
    let desktops = there.into_iter().filter(|d| d.placed).map(desktop).collect::<Result<_>>()?;
    Ok(Desired { revision: everywhere + here, templates, desktops })
}

impl Store {
    /// Notes that a host's agent connected, and gives the host's id.
    ///
    /// # Errors
    /// A database fault.
    pub async fn host_connected(&self, hello: &Hello) -> Result<HostId> {
        let hello = hello.clone();
        self.write(move |tx| {
            let (facts, now) = (hello.facts.clone(), tx.now());
            let detail = format!("agent {}, {} by {}", hello.version, facts.driver, facts.accel);
            tx.audit("system", "host.connected", &hello.host, &detail)?;
            if let Some(mut host) = tx.lock_first(Host::named(&hello.host))? {
                (host.facts, host.last_seen) = (Json(facts), now);
                tx.update(&host)?;
                return Ok(host.id);
            }
            let host = Host {
                id: HostId(tx.uuid()),
                name: hello.host.clone(),
                facts: Json(facts),
                revision: 1,
                desktops: 0,
                promised_mib: 0,
                created_at: now,
                last_seen: now,
            };
            tx.insert(&host)?;
            Ok(host.id)
        })
        .await
    }

    /// Notes that a host's agent went.
    ///
    /// # Errors
    /// A database fault.
    pub async fn host_disconnected(&self, id: HostId, name: &str, why: &str) -> Result<()> {
        let (name, why) = (name.to_owned(), why.to_owned());
        self.write(move |tx| {
            if let Some(mut host) = tx.lock(Host::key(&id))? {
                host.last_seen = tx.now();
                tx.update(&host)?;
            }
            Ok(tx.audit("system", "host.disconnected", &name, &why)?)
        })
        .await
    }

    /// Everything that should be on a host: the templates of all pools, and the desktops placed there.
    ///
    /// # Errors
    /// A database fault.
    pub async fn desired(&self, host: HostId) -> Result<Desired> {
        self.read(move |tx| desired(tx, host)).await
    }

    /// At most `limit` hosts after this one, oldest first; what only the agent's link knows is left at rest.
    ///
    /// # Errors
    /// A database fault.
    pub async fn hosts(&self, after: Option<HostId>, limit: i64) -> Result<Vec<api::Host>> {
        self.read(move |tx| {
            let select = Host::all().limit(rows(limit));
            let hosts = tx.list(match after {
                Some(after) => select.after(&after),
                None => select,
            })?;
            Ok(hosts.into_iter().map(view).collect())
        })
        .await
    }

    /// The host of that name or id.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn host(&self, name_or_id: &str) -> Result<api::Host> {
        let name_or_id = name_or_id.to_owned();
        self.read(move |tx| {
            let by_id = match name_or_id.parse::<HostId>() {
                Ok(id) => tx.peek(Host::key(&id))?,
                Err(_) => None,
            };
            let host = match by_id {
                Some(host) => Some(host),
                None => tx.find(Host::named(&name_or_id))?,
            };
            Ok(view(host.ok_or_else(|| Error::not_found("host", &name_or_id))?))
        })
        .await
    }

    /// Forgets a host that has no desktop. That it is offline is for the caller to check.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InUse`], or a database fault.
    pub async fn delete_host(&self, actor: &str, host: &api::Host) -> Result<()> {
        let (actor, id, name) = (actor.to_owned(), host.id, host.name.clone());
        self.write(move |tx| {
            let host = tx.lock(Host::key(&id))?.ok_or_else(|| Error::not_found("host", &name))?;
            if host.desktops > 0 {
                let by = format!(
                    "{} desktop(s) are placed on it; destroy them while it is connected",
                    host.desktops
                );
                return Err(Error::InUse { what: "host", name: name.clone(), by });
            }
            // The placements of the past name the host only for history; their rows go with it.
            for placement in tx.lock_list(Placement::on(&id))? {
                tx.delete(placement)?;
            }
            for image in tx.lock_list(HostImage::on_host(&id))? {
                tx.delete(image)?;
            }
            tx.delete(host)?;
            Ok(tx.audit(&actor, "host.deleted", &name, "")?)
        })
        .await
    }
}
