//! Hosts as they introduced themselves.

use super::{Error, Result, Store, all, disks, rows, seconds};
use lucarne_control::HostId;
use lucarne_control::agent::TemplateObserved;
use lucarne_control::api;
use lucarne_control::spec::TemplateSpec;
use lucarne_db::Tx;
use lucarne_db::tables::{Broker, Host, HostImage, HostPulse, HostTemplate, Placement};
use std::collections::{BTreeMap, HashMap};

pub(super) fn views(tx: &mut Tx<'_>, hosts: Vec<Host>) -> Result<Vec<api::Host>> {
    let pulses = tx.peek_all(hosts.iter().map(|host| HostPulse::key(&host.id)))?;
    let pulses: HashMap<_, _> = pulses.into_iter().map(|pulse| (pulse.host_id, pulse)).collect();
    let now = tx.now();
    let view = |host: Host| api::Host {
        id: host.id,
        epoch: host.epoch,
        online: host.is_online(),
        last_seen: seconds(if host.is_online() { now } else { host.last_seen }),
        name: host.name,
        facts: host.facts.0,
        desktops: host.desktops,
        disk_free: pulses.get(&host.id).map_or(0, |pulse| pulse.disk_free),
        memory_available: pulses.get(&host.id).map_or(0, |pulse| pulse.memory_available),
        enrolled: host.public_key.is_some(),
        address: host.address,
        denied: host.denied_at.is_some(),
        drained: host.drained_at.is_some(),
        promised_mib: host.promised_mib,
        promised_vcpus: host.promised_vcpus,
        labels: host.labels.0,
        maintenance_at: host.maintenance_at.map(seconds),
    };
    Ok(hosts.into_iter().map(view).collect())
}

impl Store {
    /// At most `limit` hosts after this one, oldest first.
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
            views(tx, hosts)
        })
        .await
    }

    /// How many hosts are linked to a broker.
    ///
    /// # Errors
    /// A database fault.
    pub async fn hosts_online(&self) -> Result<u64> {
        self.read(|tx| {
            let mut online = 0;
            for broker in tx.list(Broker::live())? {
                online += tx.count(Host::linked_to(&broker.id))?;
            }
            Ok(online)
        })
        .await
    }

    /// How far a template is on a host, as is on record.
    ///
    /// # Errors
    /// A database fault.
    pub async fn template_on(
        &self,
        host: HostId,
        template: &TemplateSpec,
    ) -> Result<Option<TemplateObserved>> {
        let template = template.key();
        self.read(move |tx| Ok(tx.peek(HostTemplate::key(&host, &template))?.map(|row| row.seen.0))).await
    }

    /// How far a template is on each host that is linked to a broker, by the host's name.
    ///
    /// # Errors
    /// A database fault.
    pub async fn templates(&self, template: &TemplateSpec) -> Result<Vec<(String, TemplateObserved)>> {
        let template = template.key();
        self.read(move |tx| {
            let rows = all(tx, || HostTemplate::of(&template), |row| row.host_id)?;
            let hosts = tx.peek_all(rows.iter().map(|row| Host::key(&row.host_id)))?;
            let online: HashMap<_, _> =
                hosts.into_iter().filter(Host::is_online).map(|host| (host.id, host.name)).collect();
            let of = |row: HostTemplate| Some((online.get(&row.host_id)?.clone(), row.seen.0));
            let mut found: Vec<_> = rows.into_iter().filter_map(of).collect();
            found.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(found)
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
            views(tx, host.into_iter().collect())?.pop().ok_or_else(|| Error::not_found("host", &name_or_id))
        })
        .await
    }

    /// Lets no new desktops go to a host, or lets them again.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn drain_host(&self, actor: &str, host: HostId, drain: bool) -> Result<()> {
        let actor = actor.to_owned();
        self.write(move |tx| {
            let mut row = tx.lock(Host::key(&host))?.ok_or_else(|| Error::not_found("host", host))?;
            if row.drained_at.is_some() == drain {
                return Ok(());
            }
            row.drained_at = drain.then(|| tx.now());
            if !drain {
                row.maintenance_at = None;
            }
            tx.update(&row)?;
            let action = if drain { "host.drained" } else { "host.resumed" };
            Ok(tx.audit(&actor, action, &row.name, "")?)
        })
        .await
    }

    /// Gives a host these labels, in the place of those that it has. What is there stays.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn label_host(
        &self,
        actor: &str,
        host: HostId,
        labels: &BTreeMap<String, String>,
    ) -> Result<()> {
        let (actor, labels) = (actor.to_owned(), labels.clone());
        self.write(move |tx| {
            let mut row = tx.lock(Host::key(&host))?.ok_or_else(|| Error::not_found("host", host))?;
            if row.labels.0 == labels {
                return Ok(());
            }
            row.labels.0.clone_from(&labels);
            tx.update(&row)?;
            let said: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            Ok(tx.audit(&actor, "host.labelled", &row.name, &said.join(", "))?)
        })
        .await
    }

    /// Forgets a host that is not connected and has no desktop.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InUse`], or a database fault.
    pub async fn delete_host(&self, actor: &str, host: &api::Host) -> Result<()> {
        let (actor, id, name) = (actor.to_owned(), host.id, host.name.clone());
        self.write(move |tx| {
            let host = tx.lock(Host::key(&id))?.ok_or_else(|| Error::not_found("host", &name))?;
            if host.is_online() {
                let by = "its agent is connected; stop the agent first".to_owned();
                return Err(Error::InUse { what: "host", name: name.clone(), by });
            }
            if host.desktops > 0 {
                let by = format!(
                    "{} desktop(s) are placed on it; destroy them while it is connected",
                    host.desktops
                );
                return Err(Error::InUse { what: "host", name: name.clone(), by });
            }
            disks::forget(tx, id, &name)?;
            // The placements of the past name the host only for history; their rows go with it.
            for placement in tx.lock_list(Placement::on(&id))? {
                tx.delete(placement)?;
            }
            for image in tx.lock_list(HostImage::on_host(&id))? {
                tx.delete(image)?;
            }
            for template in tx.lock_list(HostTemplate::on_host(&id))? {
                tx.delete(template)?;
            }
            tx.remove(HostPulse::key(&id))?;
            tx.delete(host)?;
            Ok(tx.audit(&actor, "host.deleted", &name, "")?)
        })
        .await
    }
}
