//! One broker's part in deciding: the database that it shares with others, the links that it has itself, and who is told
//! what has changed.

use crate::change::Change;
use crate::fleet::Fleet;
use crate::hosts::Links;
use crate::plan::World;
use crate::store::{self, Assigned, ConnectRequest, Ended, Link, Store};
use lucarne_control::agent::Observed;
use lucarne_control::desktop::Phase;
use lucarne_control::{BrokerId, HostId};
use lucarne_mutants::mutant;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::mpsc;

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
    me: RwLock<BrokerId>,
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
        Ok((Self { store, fleet: Arc::default(), links: Links::default(), name, me, changes }, changed))
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
            Change::Hosts => self.links.push_all(),
            Change::Images | Change::Link(_) | Change::Desktop(_) | Change::Session(_) => self.fleet.touch(),
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
        if let Some(host) = assigned.desktop.host.as_ref().filter(|_| assigned.fresh) {
            self.changed([Change::Host(host.id)]);
        }
        self.ended(&assigned.replaced);
        Ok(assigned)
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
        let known = recorded.destroyed.iter().chain(&recorded.noted);
        self.changed(known.map(|desktop| Change::Desktop(*desktop)));
        if !recorded.destroyed.is_empty() {
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
    pub async fn look_after(&self) -> Result<(), store::Error> {
        match self.store.beat(self.broker()).await {
            Err(store::Error::BrokerEnded) if !mutant("a broker that was ended goes on") => {
                tracing::warn!(broker = self.name, "this broker was silent for too long; it starts over");
                self.links.drop_link(None);
                let me = self.store.start_broker(&self.name).await?;
                *self.me.write().unwrap_or_else(PoisonError::into_inner) = me;
            }
            Err(store::Error::BrokerEnded) => {}
            beat => beat?,
        }
        let swept = self.store.end_silent_brokers().await?;
        self.changed(swept.hosts.into_iter().map(Change::Link));
        let linked: HashMap<HostId, (u64, u64)> = self.store.revisions(self.broker()).await?;
        for (link, told) in self.links.told() {
            match linked.get(&link.host) {
                Some((epoch, _)) if *epoch != link.epoch => self.links.drop_link(Some(link.host)),
                None => self.links.drop_link(Some(link.host)),
                Some((_, revision)) if told.is_some_and(|told| told != *revision) => {
                    self.links.push(link.host)
                }
                Some(_) => {}
            }
        }
        self.store.note_pulses(self.fleet.take_pulses()).await
    }
}
