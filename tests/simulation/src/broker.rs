//! Brokers: processes that run `lucarne_core`, are killed, paused and started again.

use crate::network::{Conn, Side};
use crate::world::{Event, World};
use lucarne_control::agent::Hello;
use lucarne_core::store::{BEAT, Origin, Store};
use lucarne_core::{Change, Control, hosts};
use std::cell::RefCell;
use std::rc::Rc;
use tokio::sync::mpsc;

/// A broker.
pub struct Broker {
    /// Its name.
    pub name: String,
    /// It runs.
    pub up: bool,
    /// It runs, and does nothing.
    pub paused: bool,
    /// What it decides with, once it is on record.
    pub control: Rc<RefCell<Option<Rc<Control>>>>,
    store: Store,
    /// How fast its clock goes, in thousandths.
    skew: u64,
    starting: Rc<RefCell<bool>>,
    looking: Rc<RefCell<bool>>,
}

impl Broker {
    /// One that is not started yet.
    #[must_use]
    pub fn new(name: String, store: Store, skew: u64) -> Self {
        Self {
            name,
            up: false,
            paused: false,
            control: Rc::default(),
            store,
            skew,
            starting: Rc::default(),
            looking: Rc::default(),
        }
    }

    /// What it decides with, while it runs.
    #[must_use]
    pub fn serving(&self) -> Option<Rc<Control>> {
        self.control.borrow().clone().filter(|_| self.up)
    }
}

impl World {
    /// A broker is started.
    pub fn broker_starts(&mut self, b: usize) {
        if self.brokers[b].up {
            return;
        }
        self.note(|| format!("broker-{b} is started"));
        let broker = &mut self.brokers[b];
        (broker.up, broker.paused) = (true, false);
        broker.control = Rc::default();
        broker.starting = Rc::default();
        broker.looking = Rc::default();
        self.broker_beats(b);
    }

    /// A broker is killed: nothing that it was about to do is done.
    pub fn broker_is_killed(&mut self, b: usize) {
        self.note(|| format!("broker-{b} is killed"));
        self.count("brokers killed");
        self.brokers[b].up = false;
        self.brokers[b].paused = false;
        self.brokers[b].control.replace(None);
        self.tasks.kill(b);
        for owner in self.owners.iter_mut().filter(|o| o.page.is_some_and(|page| page.broker == b)) {
            owner.loses_page(self.now);
        }
        for conn in self.conns_of(b) {
            self.close(conn, Side::Broker);
        }
    }

    /// The connections that a broker has open.
    fn conns_of(&self, b: usize) -> Vec<u64> {
        let open = self.conns.iter().filter(|(_, conn)| conn.broker == b && conn.inbox.is_some());
        open.map(|(id, _)| *id).collect()
    }

    /// A broker does nothing for a while, as where its machine swaps.
    pub fn broker_is_paused(&mut self, b: usize) {
        self.note(|| format!("broker-{b} is paused"));
        self.count("brokers paused");
        // What it is told by then is done when it goes on.
        self.pages_freeze(b);
        self.brokers[b].paused = true;
        self.tasks.pause(b);
    }

    /// It goes on as if nothing had been.
    pub fn broker_resumes(&mut self, b: usize) {
        if self.brokers[b].paused {
            self.note(|| format!("broker-{b} goes on"));
            self.brokers[b].paused = false;
            self.tasks.resume(b);
        }
    }

    /// A broker's timer.
    pub fn broker_beats(&mut self, b: usize) {
        let broker = &self.brokers[b];
        if !broker.up {
            return;
        }
        let next = BEAT as u64 * broker.skew / 1000;
        self.after(next, Event::Beat(b));
        let broker = &self.brokers[b];
        if broker.paused {
            return;
        }
        let control = broker.control.borrow().clone();
        match control {
            None if !broker.starting.replace(true) => {
                let (store, name) = (broker.store.clone(), broker.name.clone());
                let (slot, starting) = (Rc::clone(&broker.control), Rc::clone(&broker.starting));
                let outbox = Rc::clone(&self.outbox);
                self.tasks.spawn(b, async move {
                    let started = Control::start(store, &name).await;
                    starting.replace(false);
                    let Ok((control, mut changes)) = started else { return };
                    slot.replace(Some(Rc::new(control)));
                    while let Some(change) = changes.recv().await {
                        outbox.borrow_mut().changes.push((b, change));
                    }
                });
            }
            Some(control) if !broker.looking.replace(true) => {
                let (looking, store) = (Rc::clone(&broker.looking), broker.store.clone());
                self.tasks.spawn(b, async move {
                    // A fault is met by the next time.
                    let _ = control.look_after().await;
                    let _ = control.keep_up().await;
                    let _ = store.remember_hosts().await;
                    looking.replace(false);
                });
            }
            _ => {}
        }
        for conn in self.conns_of(b) {
            self.look_for_silence(conn, Side::Broker);
            self.send(conn, Side::Broker, Event::Ping);
        }
    }

    /// A broker hears of a change.
    pub fn broker_hears(&mut self, b: usize, change: Change) {
        if let Some(control) = self.brokers[b].serving().filter(|_| !self.brokers[b].paused) {
            control.follow(change);
        }
    }

    /// A host's agent connects: the broker serves its link until that ends.
    pub fn broker_serves(&mut self, id: u64, mut conn: Conn, hello: Hello) -> bool {
        let b = conn.broker;
        let Some(control) = self.brokers[b].serving() else { return false };
        let (inbox, messages) = mpsc::channel(4096);
        let (tell, mut told) = mpsc::channel(16);
        conn.inbox = Some(inbox);
        self.conns.insert(id, conn);
        let outbox = Rc::clone(&self.outbox);
        self.tasks.spawn(b, async move {
            hosts::serve(&control, (&hello, &Origin::Here), messages, tell).await;
            outbox.borrow_mut().closed.push(id);
        });
        let outbox = Rc::clone(&self.outbox);
        self.tasks.spawn(b, async move {
            while let Some(message) = told.recv().await {
                outbox.borrow_mut().to_hosts.push((id, message));
            }
        });
        true
    }
}
