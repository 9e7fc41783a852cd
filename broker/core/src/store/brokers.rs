//! Brokers on record: who is there, and what becomes of a silent one's links and viewers.
//!
//! A broker that says nothing for [`SILENCE`] is ended by another. From then on nothing that it was linked to counts as
//! linked, and what it may still try is refused ([`Error::LinkLost`], [`Error::BrokerEnded`]), since it may only have been
//! slow: it starts over under a new id.

use super::{Error, Result, Store, all, timers};
use lucarne_control::api::SessionState;
use lucarne_control::{BrokerId, HostId, SessionId};
use lucarne_db::tables::{Broker, Host, Pool, Session, Shadow};
use lucarne_db::{Locked, Tx};
use lucarne_mutants::mutant;

/// Milliseconds after which a silent broker is ended. Longer: what it was linked to is out of reach for longer. Shorter: a
/// pause of the machine costs all its links.
pub const SILENCE: i64 = 15_000;

/// A broker says that it is there this often, milliseconds: four may be lost.
pub const BEAT: i64 = 3_000;

/// What ended with a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Hosts that are linked to nobody now.
    pub hosts: Vec<HostId>,
    /// Sessions that nobody views now.
    pub sessions: Vec<SessionId>,
}

pub(super) fn end(tx: &mut Tx<'_>, mut broker: Locked<Broker>, why: &str) -> Result<Swept> {
    let (id, now) = (broker.id, tx.now());
    broker.ended_at = Some(now);
    tx.update(&broker)?;
    let mut swept = Swept::default();
    for session in all(tx, || Session::through(&id), |session| session.id)? {
        let Some(mut session) = tx.lock(Session::key(&session.id))? else { continue };
        if session.ended_at.is_none() && session.broker_id == Some(id) {
            session.broker_id = None;
            if session.state == SessionState::Connected {
                session.state = SessionState::Disconnected;
            }
            tx.update(&session)?;
            if let Some(pool) = tx.peek(Pool::key(&session.pool_id))? {
                timers::left(tx, &session, &pool)?;
            }
            swept.sessions.push(session.id);
        }
    }
    for shadow in all(tx, || Shadow::through(&id), |shadow| shadow.id)? {
        super::shadows::broke_off(tx, &shadow, why)?;
    }
    for host in all(tx, || Host::linked_to(&id), |host| host.id)? {
        let Some(mut host) = tx.lock(Host::key(&host.id))?.filter(|host| host.broker_id == Some(id)) else {
            continue;
        };
        (host.broker_id, host.cut_at, host.last_seen) = (None, Some(now), now);
        tx.update(&host)?;
        swept.hosts.push(host.id);
    }
    tx.audit("system", "broker.ended", &broker.name, why)?;
    Ok(swept)
}

impl Store {
    /// Puts a broker on record. Those of the same name before it have ended: a name is of one machine.
    ///
    /// # Errors
    /// A database fault.
    pub async fn start_broker(&self, name: &str) -> Result<BrokerId> {
        let name = name.to_owned();
        self.write(move |tx| {
            for earlier in all(tx, Broker::live, |broker| broker.id)? {
                if earlier.name == name
                    && let Some(earlier) = tx.lock(Broker::key(&earlier.id))?.filter(|b| b.ended_at.is_none())
                {
                    end(tx, earlier, "it was started again")?;
                }
            }
            let now = tx.now();
            if tx.find(Broker::live())?.is_none() {
                timers::put_off(tx)?;
                // Nobody could be linked to anybody: for how long says nothing of the hosts.
                for host in all(tx, Host::all, |host| host.id)? {
                    let Some(mut host) = tx.lock(Host::key(&host.id))?.filter(|host| !host.is_online())
                    else {
                        continue;
                    };
                    host.cut_at = Some(now);
                    tx.update(&host)?;
                }
            }
            let broker = Broker {
                id: BrokerId(tx.uuid()),
                name: name.clone(),
                started_at: now,
                seen_at: now,
                ended_at: None,
            };
            tx.insert(&broker)?;
            tx.audit("system", "broker.started", &name, &broker.id.to_string())?;
            Ok(broker.id)
        })
        .await
    }

    /// A broker says that it is there; gives the milliseconds since it last did.
    ///
    /// # Errors
    /// [`Error::BrokerEnded`] when another found it silent, or a database fault.
    pub async fn beat(&self, broker: BrokerId) -> Result<i64> {
        self.write(move |tx| {
            let row = tx.lock(Broker::key(&broker))?.filter(|b| b.ended_at.is_none());
            let mut row = row.ok_or(Error::BrokerEnded)?;
            let since = tx.now() - row.seen_at;
            row.seen_at = tx.now();
            tx.update(&row)?;
            Ok(since)
        })
        .await
    }

    /// Ends the brokers that have been silent for too long.
    ///
    /// # Errors
    /// A database fault.
    pub async fn end_silent_brokers(&self) -> Result<Swept> {
        let live = self.read(|tx| Ok((tx.now(), all(tx, Broker::live, |broker| broker.id)?))).await?;
        let limit = if mutant("brokers are ended that are not silent") { 0 } else { SILENCE };
        let silent = move |now: i64, broker: &Broker| broker.seen_at + limit < now;
        let mut swept = Swept::default();
        for broker in live.1.into_iter().filter(|broker| silent(live.0, broker)) {
            let ended = self.write(move |tx| {
                let row = tx.lock(Broker::key(&broker.id))?.filter(|b| b.ended_at.is_none());
                match row.filter(|row| silent(tx.now(), row)) {
                    Some(row) => end(tx, row, &format!("it was silent for {} s", SILENCE / 1000)),
                    None => Ok(Swept::default()),
                }
            });
            let ended = ended.await?;
            swept.hosts.extend(ended.hosts);
            swept.sessions.extend(ended.sessions);
        }
        Ok(swept)
    }

    /// A broker ends by itself.
    ///
    /// # Errors
    /// A database fault.
    pub async fn end_broker(&self, broker: BrokerId) -> Result<Swept> {
        self.write(move |tx| match tx.lock(Broker::key(&broker))?.filter(|b| b.ended_at.is_none()) {
            Some(row) => end(tx, row, "it was stopped"),
            None => Ok(Swept::default()),
        })
        .await
    }
}
