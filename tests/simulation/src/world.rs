//! The world: a clock, what is going to happen, and who it happens to.
//!
//! Everything follows from a seed. Brokers run the code that people run (`lucarne_core`) and hosts the ledger that agents
//! run (`lucarne_ledger`); here are the network between them, the database's delays and faults, the machines that stop,
//! and the users.

use crate::broker::Broker;
use crate::check::Checker;
use crate::host::{Host, Step};
use crate::network::{Conn, Side};
use crate::owner::{Heard, Owner};
use crate::pools::Personal;
use crate::random::Random;
use crate::tasks::Tasks;
use crate::user::{Outcome, User};
use lucarne_control::HostId;
use lucarne_control::agent::{FromAgent, SnapshotDesired, ToAgent};
use lucarne_core::Change;
use lucarne_core::store::Store;
use lucarne_db::{Gate, Pending, Simulated};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Milliseconds.
pub type Ms = u64;

/// How much of what there is in a world.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Brokers.
    pub brokers: usize,
    /// Hosts.
    pub hosts: usize,
    /// Users.
    pub users: usize,
    /// Users of the personal pool.
    pub owners: usize,
    /// Virtual milliseconds in which things fail.
    pub trouble: Ms,
    /// One transaction in so many waits, for up to so many milliseconds.
    pub stalls: (u64, Ms),
}

/// Virtual milliseconds after the trouble in which everything has to be as it should.
pub const HEALING: Ms = 60_000;

/// Of these, the last, in which nobody asks for anything.
pub const QUIET: Ms = 15_000;

/// Something that is going to happen.
#[derive(Debug)]
pub enum Event {
    /// The database takes a transaction.
    Database(usize, u64, Pending),
    /// A broker's timer.
    Beat(usize),
    /// A broker is started.
    BrokerStarts(usize),
    /// A paused broker goes on.
    BrokerResumes(usize),
    /// A broker hears what another changed.
    Changed(usize, Change),
    /// A message reaches a broker.
    ToBroker(u64, FromAgent),
    /// A message reaches a host.
    ToHost(u64, ToAgent),
    /// A sign of life reaches a host.
    Ping(u64),
    /// One side learns that a connection is closed.
    Closed(u64, Side),
    /// A host's agent connects.
    Dial(usize, u64),
    /// A host's heartbeat, and its look at the clock.
    HostBeat(usize, u64),
    /// A desktop on a host takes its next step.
    Desktop(usize, u64, Step),
    /// A host comes to what is wanted of a snapshot.
    Snapshot(usize, u64, SnapshotDesired),
    /// A host's agent, or the machine, is started.
    HostStarts(usize),
    /// A user does something.
    User(usize),
    /// An owner does something.
    Owner(usize),
    /// Administrators look at personal desktops whose hosts have nothing of them.
    Care,
    /// Something fails.
    Trouble,
    /// An administrator sees that a host is dead.
    Fence(usize),
    /// An administrator lets a host in again.
    Allow(usize),
    /// They say so of a host, which then had this epoch.
    Speak(usize, HostId, u64),
    /// A host has had the time to end what it has too much.
    Aware(usize, u64, u64),
    /// The database is backed up.
    Backup,
    /// The backup is put back.
    Restore,
    /// A cut network is whole again.
    Mended(usize, usize),
    /// Nothing fails any more.
    Calm,
    /// Everything has to be as it should.
    End,
}

struct Due(Ms, u64, Event);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// What tasks hand to the world.
#[derive(Default)]
pub struct Outbox {
    /// From brokers to hosts, by connection.
    pub to_hosts: Vec<(u64, ToAgent)>,
    /// Connections that a broker has closed.
    pub closed: Vec<u64>,
    /// What brokers have changed.
    pub changes: Vec<(usize, Change)>,
    /// What became of what users asked for.
    pub outcomes: Vec<Outcome>,
    /// What became of what owners asked for.
    pub heard: Vec<Heard>,
}

/// The world.
pub struct World {
    /// Milliseconds since it began.
    pub now: Ms,
    /// What it does next follows from this.
    pub random: Random,
    /// How much there is of it.
    pub size: Size,
    /// Brokers.
    pub brokers: Vec<Broker>,
    /// Hosts.
    pub hosts: Vec<Host>,
    /// Users.
    pub users: Vec<User>,
    /// Users of the personal pool.
    pub owners: Vec<Owner>,
    /// The rules of the personal pool.
    pub personal: Personal,
    /// Connections.
    pub conns: BTreeMap<u64, Conn>,
    /// Pairs of broker and host that do not hear each other.
    pub cut: Vec<(usize, usize)>,
    /// What brokers run.
    pub tasks: Tasks,
    /// What they hand over.
    pub outbox: Rc<RefCell<Outbox>>,
    /// Things fail.
    pub trouble: bool,
    /// The last backup, with what was promised then.
    pub backup: Option<crate::trouble::Backup>,
    /// What was promised.
    pub checker: Checker,
    /// What was done so far.
    pub counts: BTreeMap<&'static str, u64>,
    /// The last things that happened, for people.
    pub log: Vec<String>,
    /// Keep the whole log, not only its end.
    pub keep_log: bool,
    /// The database.
    pub database: Simulated,
    /// How often it was put back: what was sent to it before is lost.
    pub restored: u64,
    clock: Arc<AtomicI64>,
    gates: Arc<Mutex<Vec<(usize, Pending)>>>,
    due: BinaryHeap<Reverse<Due>>,
    numbers: u64,
    over: bool,
}

/// The database's time at the beginning: any.
pub const BEGIN: i64 = 1_800_000_000_000;

impl World {
    /// A world of this seed, with its pool, its image and its users.
    #[must_use]
    pub fn new(seed: u64, size: Size) -> Self {
        let clock = Arc::new(AtomicI64::new(BEGIN));
        let tells = Arc::clone(&clock);
        let database = Simulated::new(Arc::new(move || tells.load(Ordering::Relaxed)), seed);
        let mut world = Self {
            now: 0,
            random: Random::new(seed),
            size,
            brokers: Vec::new(),
            hosts: Vec::new(),
            users: Vec::new(),
            owners: Vec::new(),
            personal: Personal {
                rest_after_s: 20,
                suspends: seed % 4 > 1,
                // With less than it takes until they are at rest, sessions end first.
                disconnected_s: [None, Some(10)][(seed % 2) as usize],
                ready: (!seed.is_multiple_of(3)).into(),
            },
            conns: BTreeMap::new(),
            cut: Vec::new(),
            tasks: Tasks::default(),
            outbox: Rc::default(),
            trouble: true,
            backup: None,
            checker: Checker::new(database.direct()),
            counts: BTreeMap::new(),
            log: Vec::new(),
            keep_log: false,
            database,
            restored: 0,
            clock,
            gates: Arc::default(),
            due: BinaryHeap::new(),
            numbers: 0,
            over: false,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        for broker in 0..self.size.brokers {
            let gates = Arc::clone(&self.gates);
            let gate: Gate = Arc::new(move |pending| {
                gates.lock().unwrap_or_else(PoisonError::into_inner).push((broker, pending));
            });
            let skew = 900 + self.random.within(0, 201);
            self.brokers.push(Broker::new(
                format!("broker-{broker}"),
                Store::new(self.database.through(gate)),
                skew,
            ));
            self.at(0, Event::BrokerStarts(broker));
        }
        for host in 0..self.size.hosts {
            let skew = 900 + self.random.within(0, 201);
            // Room for some of the desktops each, so that hosts fill up.
            self.hosts.push(Host::new(format!("host-{host}"), 2560, skew));
            let first = self.random.within(10, 500);
            self.at(first, Event::HostStarts(host));
        }
        for user in 0..self.size.users {
            self.users.push(User::new(user));
            let first = self.random.within(2_000, 10_000);
            self.at(first, Event::User(user));
        }
        for owner in 0..self.size.owners {
            self.owners.push(Owner::new(owner));
            let first = self.random.within(2_000, 10_000);
            self.at(first, Event::Owner(owner));
        }
        self.at(10_000, Event::Care);
        self.at(5_000, Event::Trouble);
        if self.random.one_in(3) {
            let backup = self.random.within(10_000, self.size.trouble);
            let restore = self.random.within(backup, self.size.trouble);
            self.at(backup, Event::Backup);
            self.at(restore, Event::Restore);
        }
        self.at(self.size.trouble, Event::Calm);
        self.at(self.size.trouble + HEALING, Event::End);
    }

    /// A number that was not given out before.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Has it happen so long from now.
    pub fn after(&mut self, ms: Ms, event: Event) {
        self.at(self.now + ms, event);
    }

    fn at(&mut self, at: Ms, event: Event) {
        let number = self.number();
        self.due.push(Reverse(Due(at, number, event)));
    }

    /// Counts something that was done.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Notes for people what happened.
    pub fn note(&mut self, what: impl FnOnce() -> String) {
        const KEPT: usize = 4000;
        if self.log.len() > 2 * KEPT && !self.keep_log {
            self.log.drain(..KEPT);
        }
        self.log.push(format!("{:>8.3}  {}", self.now as f64 / 1000.0, what()));
    }

    /// Lives until the end.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn live(&mut self) -> Result<(), String> {
        while let Some(Reverse(Due(at, _, event))) = self.due.pop() {
            self.now = at;
            self.clock.store(BEGIN + at as i64, Ordering::Relaxed);
            self.happen(event);
            self.tasks.run();
            self.deliver();
            self.check()?;
            if self.over {
                return self.check_end();
            }
        }
        Err("nothing happens any more before the end".to_owned())
    }

    fn happen(&mut self, event: Event) {
        self.count("events");
        match event {
            Event::Database(broker, restored, pending) => self.database(broker, restored, pending),
            Event::Beat(broker) => self.broker_beats(broker),
            Event::BrokerStarts(broker) => self.broker_starts(broker),
            Event::BrokerResumes(broker) => self.broker_resumes(broker),
            Event::Changed(broker, change) => self.broker_hears(broker, change),
            Event::ToBroker(conn, message) => self.reaches_broker(conn, message),
            Event::ToHost(conn, message) => self.reaches_host(conn, message),
            Event::Ping(conn) => self.pings(conn),
            Event::Closed(conn, side) => self.is_closed(conn, side),
            Event::Dial(host, life) => self.dial(host, life),
            Event::HostBeat(host, life) => self.host_beats(host, life),
            Event::Desktop(host, life, step) => self.desktop_steps(host, life, step),
            Event::Snapshot(host, life, wish) => self.snapshot_is_due(host, life, wish),
            Event::HostStarts(host) => self.host_starts(host),
            Event::User(user) => self.user_acts(user),
            Event::Owner(owner) => self.owner_acts(owner),
            Event::Care => self.care(),
            Event::Trouble => self.make_trouble(),
            Event::Mended(broker, host) => self.mended(broker, host),
            Event::Fence(host) => self.fence(host),
            Event::Allow(host) => self.allow(host),
            Event::Speak(host, id, epoch) => self.speak(host, id, epoch),
            Event::Aware(host, life, restored) => self.host_is_aware(host, life, restored),
            Event::Backup => self.back_up(),
            Event::Restore => self.restore(),
            Event::Calm => self.calm(),
            Event::End => self.over = true,
        }
    }

    /// Takes what tasks have handed over.
    fn deliver(&mut self) {
        loop {
            let pending = std::mem::take(&mut *self.gates.lock().unwrap_or_else(PoisonError::into_inner));
            let Outbox { to_hosts, closed, changes, outcomes, heard } =
                std::mem::take(&mut *self.outbox.borrow_mut());
            if pending.is_empty()
                && to_hosts.is_empty()
                && closed.is_empty()
                && changes.is_empty()
                && outcomes.is_empty()
                && heard.is_empty()
            {
                return;
            }
            for (broker, pending) in pending {
                let mut delay = self.random.within(0, 4);
                let (often, long) = self.size.stalls;
                if self.trouble && self.random.one_in(often) {
                    delay += self.random.within(100, long);
                    self.count("stalls of the database");
                }
                self.after(delay, Event::Database(broker, self.restored, pending));
            }
            for (conn, message) in to_hosts {
                self.send(conn, Side::Broker, |conn| Event::ToHost(conn, message.clone()));
            }
            for conn in closed {
                self.close(conn, Side::Broker);
            }
            for (from, change) in changes {
                for broker in (0..self.size.brokers).filter(|broker| *broker != from) {
                    if !self.trouble || !self.random.one_in(20) {
                        let delay = self.random.within(1, 30);
                        self.after(delay, Event::Changed(broker, change));
                    }
                }
            }
            for outcome in outcomes {
                self.user_hears(outcome);
            }
            for heard in heard {
                self.owner_hears(heard);
            }
        }
    }

    fn database(&mut self, broker: usize, restored: u64, pending: Pending) {
        if restored != self.restored {
            return;
        }
        self.checker.look();
        if self.trouble && self.random.one_in(100) {
            self.count("faults of the database");
            if pending.writes() && self.random.one_in(2) {
                self.note(|| format!("the database loses an answer to broker-{broker}"));
                return pending.lose_answer();
            }
            self.note(|| format!("the database is not reached by broker-{broker}"));
            return pending.refuse();
        }
        self.count("transactions");
        pending.run();
    }

    fn calm(&mut self) {
        self.note(|| "nothing fails any more".to_owned());
        self.trouble = false;
        for (broker, host) in self.cut.clone() {
            self.mended(broker, host);
        }
        for broker in 0..self.size.brokers {
            if self.brokers[broker].paused {
                self.broker_resumes(broker);
            } else if !self.brokers[broker].up {
                self.broker_starts(broker);
            }
        }
        for host in 0..self.size.hosts {
            self.allow(host);
            if !self.hosts[host].agent {
                self.host_starts(host);
            }
        }
    }
}
