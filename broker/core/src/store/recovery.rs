//! What only people can decide: that a host will not come back, and that this database is a backup of an earlier one.

use super::{Ended, Error, Result, Store, all, disks, end};
use lucarne_control::HostId;
use lucarne_db::tables::{Broker, Desktop, Host, Ticket};
use lucarne_mutants::mutant;

/// The epochs of links begin anew from a multiple of this after a database was put back: higher than any that the database
/// after the backup has given out.
const RESTORED: u64 = 1 << 32;

/// The same for what is wanted of a desktop.
const RESTORED_WISH: i64 = 1 << 32;

impl Store {
    /// Somebody says that a host is dead, by what they saw or did: its desktops end and their places are free. Should it come
    /// back, it is told to destroy what it has. `epoch` is that of the link which it had when they looked: where it has been
    /// connected since, what they saw is not so any more.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InUse`] when its agent is or was connected since, or a database fault.
    pub async fn fence_host(
        &self,
        actor: &str,
        host: HostId,
        epoch: u64,
        evidence: &str,
    ) -> Result<Vec<Ended>> {
        let (actor, evidence) = (actor.to_owned(), evidence.to_owned());
        self.write(move |tx| {
            let Some(row) = tx.peek(Host::key(&host))? else { return Err(Error::not_found("host", host)) };
            let why = format!("its host {} is dead: {evidence}", row.name);
            let mut ended = Vec::new();
            for desktop in all(tx, || Desktop::live_on(&host), |desktop| desktop.id)? {
                ended.extend(end::failed(tx, desktop.id, &why, None)?);
                end::free(tx, desktop.id, None, |desktop| desktop.placed && !desktop.is_wanted(), &why)?;
            }
            disks::lose(tx, &actor, host, &why)?;
            let mut row = tx.lock(Host::key(&host))?.ok_or_else(|| Error::not_found("host", host))?;
            if row.epoch != epoch && !mutant("a host is declared dead that was connected since") {
                let by = "its agent has been connected since you looked; look again".to_owned();
                return Err(Error::InUse { what: "host", name: row.name.clone(), by });
            }
            if row.is_online() {
                let by = "its agent is connected, so it is not dead; stop the agent first".to_owned();
                return Err(Error::InUse { what: "host", name: row.name.clone(), by });
            }
            if row.desktops > 0 {
                return Err(tx.again("a desktop was placed there meanwhile").into());
            }
            row.revision += 1;
            tx.update(&row)?;
            tx.audit(&actor, "host.fenced", &row.name, &evidence)?;
            Ok(ended)
        })
        .await
    }

    /// Somebody says that this database is a backup that was put back: hosts, which may have followed what it does not know
    /// of, follow it again. What it has of desktops is not made anew where it is gone; tickets are void. All brokers have to be
    /// stopped, and this done before one is started.
    ///
    /// # Errors
    /// A database fault.
    pub async fn restored(&self, actor: &str) -> Result<()> {
        let actor = actor.to_owned();
        self.write(move |tx| {
            for broker in all(tx, Broker::live, |broker| broker.id)? {
                if let Some(broker) = tx.lock(Broker::key(&broker.id))? {
                    super::brokers::end(tx, broker, "the database was put back")?;
                }
            }
            for ticket in tx.list(Ticket::all())? {
                tx.remove(Ticket::key(&ticket.hash))?;
            }
            for desktop in all(tx, Desktop::live, |desktop| desktop.id)? {
                let waited = desktop.taken_at.is_none() && desktop.is_wanted();
                if waited && !mutant("a desktop that waited when a backup was made is given away after it") {
                    let why = "it waited for a user when the backup was made, and may have had one since";
                    end::desktop(tx, &actor, desktop.id, why)?;
                }
                let Some(mut desktop) = tx.lock(Desktop::key(&desktop.id))? else { continue };
                if !mutant("a database that was put back has desktops made anew") {
                    desktop.held = true;
                }
                // Its host may have followed later wishes, and obeys higher ones only.
                if !mutant("a database that was put back goes on with old wishes") {
                    // That may have been done since.
                    desktop.back_to = None;
                    desktop.desired_gen = (desktop.desired_gen / RESTORED_WISH + 1) * RESTORED_WISH;
                }
                tx.update(&desktop)?;
            }
            for host in all(tx, Host::all, |host| host.id)? {
                let Some(mut host) = tx.lock(Host::key(&host.id))? else { continue };
                // What was so when the backup was made is long ago.
                host.cut_at = Some(tx.now());
                if !mutant("a database that was put back goes on with old epochs") {
                    host.epoch = (host.epoch / RESTORED + 1) * RESTORED;
                }
                tx.update(&host)?;
            }
            Ok(tx.audit(&actor, "database.restored", "", "hosts follow it from now on")?)
        })
        .await
    }
}
