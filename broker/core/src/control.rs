//! One broker's part in deciding: the database that it shares with others, the links that it has itself, and who is told
//! what has changed.

use crate::change::Change;
use crate::fleet::Fleet;
use crate::hosts::Links;
use crate::plan::World;
use crate::store::{self, Assigned, CloneRequest, ConnectRequest, DesktopRow, Ended, Link, Store};
use lucarne_control::agent::Observed;
use lucarne_control::api::Explanation;
use lucarne_control::desktop::Phase;
use lucarne_control::{BrokerId, HostId};
use lucarne_mutants::mutant;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::{Notify, mpsc};

/// Looks in a row that a broker was there itself, before it says of others that they are not.
const STEADY: u32 = 3;

/// How the timer's work found this broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// As it should be.
    Well,
    /// Another had ended it, so it has started over: whoever looks through it is not on record any more.
    StartedOver,
}

/// A broker, without its sockets.
#[derive(Debug)]
pub struct Control {
    /// Durable state, shared with all brokers.
    pub store: Store,
    /// What the hosts that are linked here were last seen to have.
    pub fleet: Arc<Fleet>,
    /// The links to them.
    pub links: Links,
    name: String,
    /// Looks in a row that said in time that this broker is there.
    beats: AtomicU32,
    /// Links that were on record at the last look, and were not there.
    ghosts: Mutex<BTreeMap<HostId, u64>>,
    me: RwLock<BrokerId>,
    /// Pools are to be looked after at once, and not only the next time.
    pub upkeep: Notify,
    changes: mpsc::UnboundedSender<Change>,
}

impl Control {
    /// Puts a broker of this name on record. What it changes comes by the channel: it is for other brokers, and for those
    /// who wait here.
    ///
    /// # Errors
    /// A database fault.
    pub async fn start(
        store: Store,
        name: &str,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Change>), store::Error> {
        let me = RwLock::new(store.start_broker(name).await?);
        let (changes, changed) = mpsc::unbounded_channel();
        let name = name.to_owned();
        Ok((
            Self {
                store,
                fleet: Arc::default(),
                links: Links::default(),
                name,
                beats: AtomicU32::new(0),
                ghosts: Mutex::default(),
                me,
                upkeep: Notify::new(),
                changes,
            },
            changed,
        ))
    }

    /// Which broker this is, for now: one that was silent for too long starts over as another.
    #[must_use]
    pub fn broker(&self) -> BrokerId {
        *self.me.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what has changed, and does here what follows.
    pub fn changed(&self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.follow(change);
            // Nobody is there to hear it when the broker ends.
            let _ = self.changes.send(change);
        }
    }

    /// Does what follows from a change that was made here or elsewhere.
    pub fn follow(&self, change: Change) {
        match change {
            Change::Host(host) => self.links.push(host),
            Change::Hosts => {
                self.links.push_all();
                self.upkeep.notify_one();
            }
            Change::Images
            | Change::Link(_)
            | Change::Denied(_)
            | Change::Entitlements
            | Change::Desktop(_)
            | Change::Session(_) => self.fleet.touch(),
            // Nothing waits for these but those who watch. A touch would have every connect that waits look again.
            Change::Claimed(_)
            | Change::Viewers(_)
            | Change::Pool(_)
            | Change::Templates(_)
            | Change::HostRecord(_)
            | Change::User(_)
            | Change::Members(_) => {}
        }
    }

    /// Says that desktops ended.
    pub fn ended<'a>(&self, ended: impl IntoIterator<Item = &'a Ended>) {
        for e in ended {
            self.changed([Change::Desktop(e.desktop)]);
            self.changed(e.host.map(Change::Host));
            self.changed(e.session.map(Change::Session));
        }
    }

    /// Gives the user their desktop of the pool, and has its host told.
    ///
    /// # Errors
    /// As [`Store::connect`].
    pub async fn assign(&self, request: ConnectRequest) -> Result<Assigned, store::Error> {
        let assigned = self.store.connect(request, Arc::clone(&self.fleet) as Arc<dyn World>).await?;
        let told = assigned.fresh || assigned.powered_on;
        if let Some(host) = assigned.desktop.host.as_ref().filter(|_| told) {
            self.changed([Change::Host(host.id)]);
        }
        if told || assigned.prepared {
            self.changed([Change::Claimed(assigned.desktop.id)]);
        }
        self.changed(assigned.session.iter().map(|row| Change::Viewers(row.session.id)));
        if assigned.prepared {
            self.upkeep.notify_one();
        }
        self.ended(&assigned.replaced);
        Ok(assigned)
    }

    /// Has a desktop made of another's snapshot.
    ///
    /// # Errors
    /// As [`Store::clone_snapshot`].
    pub async fn clone_snapshot(&self, request: CloneRequest) -> Result<DesktopRow, store::Error> {
        let world = Arc::clone(&self.fleet) as Arc<dyn World>;
        let desktop = self.store.clone_snapshot(request, world).await?;
        self.changed(desktop.host.as_ref().map(|host| Change::Host(host.id)));
        self.changed([Change::Claimed(desktop.id)]);
        Ok(desktop)
    }

    /// Has desktops wait for users, and does what is due at this time: of what ended, the viewers here are the caller's to tell.
    ///
    /// # Errors
    /// A database fault; the next time may do better.
    pub async fn keep_up(&self) -> Result<Vec<Ended>, store::Error> {
        let mut ended = self.store.ring().await?;
        self.ended(&ended);
        let prepared = match self.store.prepare(Arc::clone(&self.fleet) as Arc<dyn World>).await {
            Ok(prepared) => prepared,
            Err(e) => {
                tracing::error!(error = %e, "desktops cannot be made to wait for users; it is tried again");
                return Ok(ended);
            }
        };
        self.changed(prepared.hosts.into_iter().collect::<BTreeSet<_>>().into_iter().map(Change::Host));
        self.changed(prepared.desktops.into_iter().map(Change::Claimed));
        self.ended(&prepared.ended);
        ended.extend(prepared.ended);
        Ok(ended)
    }

    /// What a user would get of a pool now, and why.
    ///
    /// # Errors
    /// As [`Store::explain`].
    pub async fn explain(&self, user: &str, pool: &str) -> Result<Explanation, store::Error> {
        self.store.explain(user, pool, Arc::clone(&self.fleet) as Arc<dyn World>).await
    }

    /// Puts on record what a host said.
    ///
    /// # Errors
    /// [`store::Error::LinkLost`], or a database fault.
    pub async fn observed(&self, link: &Link, observed: &Observed) -> Result<(), store::Error> {
        if let Some(images) = &observed.images {
            self.store.set_host_images(link, images).await?;
            self.changed([Change::Images]);
        }
        let recorded = self.store.record(link, observed).await?;
        self.ended(&recorded.ended);
        if recorded.templates {
            self.changed([Change::Templates(link.host)]);
        }
        let known = recorded.destroyed.iter().chain(&recorded.noted).chain(&recorded.refused);
        self.changed(known.map(|desktop| Change::Desktop(*desktop)));
        // It is told of a later wish, or of a place that is free.
        if !recorded.destroyed.is_empty() || !recorded.refused.is_empty() {
            self.changed([Change::Host(link.host)]);
        }
        for stopped in observed.desktops.iter().filter(|d| d.phase == Phase::Stopped) {
            self.fleet.forget_desktop(link, stopped);
        }
        Ok(())
    }

    /// The timer's work, every [`store::BEAT`] milliseconds: says that this broker is there, ends those that are not, and
    /// looks at what changes it may have missed.
    ///
    /// # Errors
    /// A database fault; the next time may do better.
    pub async fn look_after(&self) -> Result<Looked, store::Error> {
        let mut looked = Looked::Well;
        let beat = self.store.beat(self.broker()).await;
        // Where this broker could not say that it is there, others could not either, and may be all right.
        let steady = matches!(beat, Ok(since) if since < store::SILENCE / 2);
        let beats = if steady { self.beats.load(Ordering::Relaxed) + 1 } else { 0 };
        self.beats.store(beats, Ordering::Relaxed);
        match beat {
            Err(store::Error::BrokerEnded) if !mutant("a broker that was ended goes on") => {
                tracing::warn!(broker = self.name, "this broker was silent for too long; it starts over");
                self.links.drop_link(None);
                let me = self.store.start_broker(&self.name).await?;
                *self.me.write().unwrap_or_else(PoisonError::into_inner) = me;
                looked = Looked::StartedOver;
            }
            Err(store::Error::BrokerEnded) => {}
            beat => drop(beat?),
        }
        if beats >= STEADY {
            let swept = self.store.end_silent_brokers().await?;
            self.changed(swept.hosts.into_iter().map(Change::Link));
            self.changed(swept.sessions.into_iter().map(Change::Viewers));
        }
        // Taken first: a link that is made meanwhile is on record, and not in what is read.
        let told = self.links.told();
        let linked: HashMap<HostId, (u64, u64)> = self.store.revisions(self.broker()).await?;
        for (link, told) in told {
            match linked.get(&link.host) {
                Some((epoch, _)) if *epoch != link.epoch => self.links.drop_link(Some(link.host)),
                None => self.links.drop_link(Some(link.host)),
                Some((_, revision)) if told.is_some_and(|told| told != *revision) => {
                    self.links.push(link.host)
                }
                Some(_) => {}
            }
        }
        self.unlink_ghosts(&linked).await?;
        let pulses = self.fleet.take_pulses();
        if !pulses.is_empty() {
            self.store.note_pulses(pulses).await?;
        }
        Ok(looked)
    }

    /// Links that are on record as this broker's and that it has not, twice in a row: the answer to their making, or their
    /// end, was lost on the way to or from the database.
    async fn unlink_ghosts(&self, linked: &HashMap<HostId, (u64, u64)>) -> Result<(), store::Error> {
        let up: HashSet<HostId> = self.links.told().into_iter().map(|(link, _)| link.host).collect();
        let missing = linked.iter().filter(|(host, _)| !up.contains(host));
        let missing: BTreeMap<HostId, u64> = missing.map(|(host, (epoch, _))| (*host, *epoch)).collect();
        let before = {
            let mut ghosts = self.ghosts.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *ghosts, missing.clone())
        };
        for (host, epoch) in missing.into_iter().filter(|(host, epoch)| before.get(host) == Some(epoch)) {
            let link = Link { host, name: host.to_string(), broker: self.broker(), epoch };
            self.store.unlink(&link, "the link was not there any more").await?;
            self.changed([Change::Link(host)]);
        }
        Ok(())
    }
}
