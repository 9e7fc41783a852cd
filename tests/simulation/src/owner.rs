//! Owners: users of the personal pool. They connect, look at their desktop through any broker, save something there, close the page,
//! log off, and have it powered off and on; now and then an administrator destroys it.

use crate::pools::OWN;
use crate::user::{PATIENCE, Promise};
use crate::world::{Event, HEALING, Ms, QUIET, World};
use lucarne_control::desktop::DesiredState;
use lucarne_control::snapshot::NewSnapshot;
use lucarne_control::{BrokerId, DesktopId, HostId, SessionId, SnapshotId, UserId};
use lucarne_core::store::{self, Assigned, CloneRequest, ConnectRequest, Ended};
use lucarne_core::{Change, Control};
use std::rc::Rc;

/// Owners are told apart from other users by their numbers, from this on.
pub const FIRST: usize = 1000;

/// An owner.
pub struct Owner {
    /// Their id, once they are in the database.
    pub id: Option<UserId>,
    /// What they were last told that they have.
    pub own: Option<Own>,
    /// The page in which they look at it, or are about to.
    pub page: Option<Page>,
    name: String,
    waiting: Option<(u64, Ms)>,
    /// They are elsewhere until then.
    away_until: Ms,
}

/// What an owner was told that they have.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// The desktop.
    pub desktop: DesktopId,
    /// Its host, by its number.
    pub host: usize,
    /// Their session on it, until it has ended.
    pub session: Option<SessionId>,
    /// They have asked for its end.
    pub logging_off: bool,
    /// Since when nobody may be there, as far as brokers know; none while its owner came, or looks at it.
    pub left: Option<Ms>,
    /// Through which broker brokers may take it to be looked at.
    pub through: Option<BrokerId>,
}

/// How far a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// It is not on record yet.
    Opening,
    /// Its owner looks at their desktop.
    Open,
    /// Its end is not on record yet.
    Closing,
}

/// A page with a session in it.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The session.
    pub session: SessionId,
    /// Through which broker, by its number.
    pub broker: usize,
    /// As which that broker was on record.
    pub through: BrokerId,
    /// How far it is.
    pub shows: Shows,
    /// It is not wanted any more.
    pub closed: bool,
    number: u64,
}

/// What an owner asks for besides their desktop.
#[derive(Clone, Copy, Debug)]
enum Call {
    LogOff(SessionId),
    PowerOff,
    Suspend,
    PowerOn,
    Destroy,
    Snapshot { memory: bool },
    DeleteSnapshot(SnapshotId),
    PutBack(SnapshotId),
    Clone(SnapshotId, UserId),
}

/// What became of what an owner asked for.
#[derive(Debug)]
pub enum Heard {
    /// They are in the database.
    Known(usize, UserId),
    /// A connect: who, the request's number, when they asked, and what they were given.
    Connected(usize, u64, Ms, Result<Box<Assigned>, store::Error>),
    /// A page is on record as it shows: whose, its number, and whether that was done.
    Page(usize, u64, bool),
    /// Something else was done, or not: who, the request's number, and the desktop whose destruction it was.
    Called(usize, u64, Option<DesktopId>),
}

impl Owner {
    /// The owner of that number.
    #[must_use]
    pub fn new(number: usize) -> Self {
        let name = format!("owner-{number}");
        Self { id: None, own: None, page: None, name, waiting: None, away_until: 0 }
    }

    /// Nothing that was asked for before is heard of any more, and nothing that was told counts.
    pub fn forget(&mut self) {
        (self.own, self.page, self.waiting) = (None, None, None);
    }

    /// They do not look at their desktop from now on, whether they know why or not.
    pub fn loses_page(&mut self, now: Ms) {
        if self.page.take().is_some_and(|page| page.shows == Shows::Open)
            && let Some(own) = &mut self.own
        {
            own.left.get_or_insert(now);
        }
    }
}

impl World {
    /// An owner does something.
    pub fn owner_acts(&mut self, o: usize) {
        if self.now + QUIET >= self.size.trouble + HEALING {
            return;
        }
        let think = self.random.within(500, 10_000);
        self.after(think, Event::Owner(o));
        let now = self.now;
        let owner = &self.owners[o];
        if owner.away_until > now || owner.waiting.is_some_and(|(_, since)| now < since + PATIENCE) {
            return;
        }
        // Pages are opened and closed one after the other, as a browser does.
        if owner.page.is_some_and(|page| page.shows != Shows::Open) {
            return;
        }
        let serving: Vec<usize> =
            (0..self.size.brokers).filter(|b| self.brokers[*b].serving().is_some()).collect();
        let Some(b) = self.random.pick(&serving) else { return };
        let Some(control) = self.brokers[b].serving() else { return };
        let Some(user) = self.owners[o].id else { return self.becomes_known(o, b, control) };
        let (own, page) = (self.owners[o].own, self.owners[o].page);
        match (own, self.random.within(0, 28)) {
            (Some(_), 0) => self.calls(o, b, &control, Call::Destroy),
            (Some(_), 1) => self.calls(o, b, &control, Call::PowerOff),
            (Some(_), 2) => self.calls(o, b, &control, Call::Suspend),
            (Some(Own { session: None, .. }), 3) => self.calls(o, b, &control, Call::PowerOn),
            (Some(Own { session: Some(session), .. }), 3..=4) => {
                self.calls(o, b, &control, Call::LogOff(session));
            }
            (Some(own), 24..=26) => {
                let memory = self.random.one_in(2);
                let there = self.checker.snapshots_of(own.desktop);
                // Somebody who has none, as far as anybody knows.
                let others = self.owners.iter().filter(|other| other.own.is_none());
                let others: Vec<_> = others.filter_map(|other| other.id).collect();
                let call = match (self.random.within(0, 6), self.random.pick(&there)) {
                    (3..=4, Some(snapshot)) if !others.is_empty() => {
                        let user = self.random.pick(&others).unwrap_or(user);
                        Call::Clone(snapshot, user)
                    }
                    (0, Some(snapshot)) => Call::DeleteSnapshot(snapshot),
                    (1, Some(snapshot)) => Call::PutBack(snapshot),
                    _ => Call::Snapshot { memory },
                };
                self.calls(o, b, &control, call);
            }
            (Some(own), 5..=6) => {
                self.uses(o);
                self.powered_off_from_within(own.host, own.desktop);
            }
            (Some(_), 7..=10) if page.is_some() => {
                self.uses(o);
                self.closes_page(o);
                if self.random.one_in(2) {
                    self.owners[o].away_until = now + self.random.within(10_000, 50_000);
                }
            }
            (Some(Own { session: Some(session), .. }), 7..=18) if page.is_none() => {
                self.opens_page(o, b, &control, session);
            }
            (Some(_), _) if page.is_some() => self.uses(o),
            // Some would rather have one that is made of another's.
            (None, 4..) if o % 2 == 1 => {}
            _ => self.connects(o, b, control, user),
        }
    }

    fn waits(&mut self, o: usize) -> u64 {
        let request = self.number();
        self.owners[o].waiting = Some((request, self.now));
        request
    }

    fn becomes_known(&mut self, o: usize, b: usize, control: Rc<Control>) {
        self.waits(o);
        let (name, personal) = (self.owners[o].name.clone(), self.personal);
        let outbox = Rc::clone(&self.outbox);
        self.tasks.spawn(b, async move {
            if let Ok(id) = crate::pools::prepare(&control.store, &name, personal).await {
                outbox.borrow_mut().heard.push(Heard::Known(o, id));
            }
        });
    }

    fn connects(&mut self, o: usize, b: usize, control: Rc<Control>, user: UserId) {
        let (request, asked) = (self.waits(o), self.now);
        self.count("connects asked for by owners");
        self.note(|| format!("owner-{o} connects through broker-{b}"));
        let outbox = Rc::clone(&self.outbox);
        let wanted = ConnectRequest {
            user,
            actor: "owner".to_owned(),
            pool: OWN.to_owned(),
            session: true,
            clock: std::time::Instant::now,
        };
        self.tasks.spawn(b, async move {
            let result = control.assign(wanted).await.map(Box::new);
            outbox.borrow_mut().heard.push(Heard::Connected(o, request, asked, result));
        });
    }

    /// They ask for something that is done to their desktop.
    fn calls(&mut self, o: usize, b: usize, control: &Rc<Control>, call: Call) {
        let Some(Own { desktop, .. }) = self.owners[o].own else { return };
        let (request, now) = (self.waits(o), self.now);
        self.note(|| format!("owner-{o} asks broker-{b} for {call:?} of {desktop}"));
        match call {
            Call::LogOff(_) => {
                self.count("log-offs of owners asked for");
                if let Some(own) = &mut self.owners[o].own {
                    own.logging_off = true;
                    own.left.get_or_insert(now);
                }
            }
            Call::PowerOff => {
                self.count("power-offs asked for");
                self.checker.personal.rest_is_asked(request, desktop, DesiredState::Off);
            }
            Call::Suspend => {
                self.count("suspensions asked for");
                self.checker.personal.rest_is_asked(request, desktop, DesiredState::Suspended);
            }
            Call::PowerOn => self.count("power-ons asked for"),
            Call::Snapshot { .. } => self.count("snapshots asked for"),
            Call::DeleteSnapshot(snapshot) => {
                self.count("deletions of snapshots asked for");
                self.checker.snapshots.deletion_is_asked(snapshot);
            }
            Call::Clone(snapshot, _) => {
                self.count("clones asked for");
                self.checker.snapshots.clone_is_asked(snapshot);
                self.checker.snapshots.deletion_is_asked(snapshot);
            }
            Call::PutBack(snapshot) => {
                self.count("desktops asked to be put back");
                self.checker.snapshots.back_is_asked(desktop, snapshot);
            }
            Call::Destroy => {
                self.count("personal desktops destroyed by administrators");
                self.checker.personal.willed(desktop);
            }
        }
        let (control, outbox) = (Rc::clone(control), Rc::clone(&self.outbox));
        self.tasks.spawn(b, async move {
            let store = &control.store;
            let own = |result: store::Result<Option<Ended>>| result.map(|ended| control.ended(&ended));
            let told = |host: Option<HostId>| control.changed(host.map(Change::Host));
            let done = match call {
                Call::LogOff(session) => own(store.log_off("owner", session).await.map(|(_, ended)| ended)),
                Call::PowerOff => own(store.power_off("owner", desktop).await),
                Call::Suspend => own(store.suspend("owner", desktop).await),
                Call::PowerOn => own(store.power_on("owner", desktop).await),
                Call::Destroy => own(store.end_desktop("admin", desktop, "it is not needed any more").await),
                Call::PutBack(snapshot) => own(store.put_back("owner", snapshot).await.map(Some)),
                Call::Clone(snapshot, user) => {
                    let (actor, pool) = ("admin".to_owned(), OWN.to_owned());
                    let made = control.clone_snapshot(CloneRequest { snapshot, user, actor, pool }).await;
                    if made.is_ok() {
                        // They need it no more: it goes when the clone is there, and not before.
                        if let Ok(host) = store.delete_snapshot("owner", snapshot).await {
                            told(host);
                        }
                    }
                    made.map(drop)
                }
                Call::DeleteSnapshot(snapshot) => store.delete_snapshot("owner", snapshot).await.map(told),
                Call::Snapshot { memory } => {
                    let new = NewSnapshot { name: None, memory: Some(memory) };
                    let taken = store.take_snapshot("owner", desktop, &new).await;
                    taken.map(|(_, host)| told(Some(host)))
                }
            };
            let destroyed = Some(desktop).filter(|_| done.is_ok() && matches!(call, Call::Destroy));
            outbox.borrow_mut().heard.push(Heard::Called(o, request, destroyed));
        });
    }

    fn opens_page(&mut self, o: usize, b: usize, control: &Rc<Control>, session: SessionId) {
        let (number, through) = (self.number(), control.broker());
        self.count("pages opened");
        self.note(|| format!("owner-{o} opens a page of {session} through broker-{b}"));
        let page = Page { session, broker: b, through, shows: Shows::Opening, closed: false, number };
        self.owners[o].page = Some(page);
        if let Some(own) = &mut self.owners[o].own {
            own.through = Some(through);
        }
        let (control, outbox) = (Rc::clone(control), Rc::clone(&self.outbox));
        self.tasks.spawn(b, async move {
            let done = control.store.session_connected(session, through).await.is_ok();
            outbox.borrow_mut().heard.push(Heard::Page(o, number, done));
        });
    }

    /// They close their page, or lose it with what it goes through.
    pub fn closes_page(&mut self, o: usize) {
        let (now, number) = (self.now, self.number());
        let owner = &mut self.owners[o];
        let Some(page) = &mut owner.page else { return };
        page.closed = true;
        if let Some(own) = &mut owner.own {
            own.left.get_or_insert(now);
        }
        if page.shows == Shows::Opening {
            return;
        }
        (page.shows, page.number) = (Shows::Closing, number);
        let Page { session, through, broker, .. } = *page;
        let Some(control) = self.brokers[broker].serving() else { return };
        self.note(|| format!("owner-{o} closes the page of {session}"));
        let outbox = Rc::clone(&self.outbox);
        self.tasks.spawn(broker, async move {
            let done = control.store.session_disconnected(session, through).await.is_ok();
            outbox.borrow_mut().heard.push(Heard::Page(o, number, done));
        });
    }

    /// A broker is paused: what goes through it is not seen any more.
    pub fn pages_freeze(&mut self, b: usize) {
        for o in 0..self.owners.len() {
            if self.owners[o].page.is_some_and(|page| page.broker == b && page.shows == Shows::Open) {
                self.closes_page(o);
            }
        }
    }

    /// They look at what they saved, and save more.
    fn uses(&mut self, o: usize) {
        let Owner { own: Some(own), page: Some(page), .. } = &self.owners[o] else { return };
        let (Own { desktop, host, .. }, cut) = (*own, self.cut.contains(&(page.broker, own.host)));
        let Some(host) = self.hosts.get_mut(host).filter(|_| page.shows == Shows::Open && !cut) else {
            return;
        };
        let Some(guest) = host.machines.get_mut(&desktop).filter(|guest| guest.up) else { return };
        let Some(folder) = host.disk.folders.get_mut(&desktop) else { return };
        let (found, open) = (folder.saved, guest.open);
        folder.saved += 1;
        guest.open += 1;
        self.checker.personal.uses(desktop, guest.volume, found, open);
        self.checker.look();
        self.count("uses of personal desktops");
    }

    /// An owner hears what became of what they asked for.
    pub fn owner_hears(&mut self, heard: Heard) {
        self.checker.look();
        match heard {
            Heard::Known(o, id) => {
                self.owners[o].id = Some(id);
                self.owners[o].waiting = None;
            }
            Heard::Connected(o, request, asked, result) => {
                let current = self.owners[o].waiting.is_some_and(|(waiting, _)| waiting == request);
                if current {
                    self.owners[o].waiting = None;
                }
                match result {
                    Ok(assigned) if current => self.owner_is_given(o, asked, &assigned),
                    Ok(_) => {}
                    Err(store::Error::Fault(_)) => self.count("connects that failed by a fault"),
                    Err(e) => {
                        self.count("connects of owners refused");
                        self.note(|| format!("owner-{o} is refused: {e}"));
                    }
                }
            }
            Heard::Page(o, number, done) => {
                let owner = &mut self.owners[o];
                let Some(page) = owner.page.as_mut().filter(|page| page.number == number) else { return };
                match page.shows {
                    Shows::Opening => {
                        page.shows = Shows::Open;
                        if !done || page.closed {
                            self.closes_page(o);
                        }
                    }
                    Shows::Closing if done => {
                        owner.page = None;
                        if let Some(own) = &mut owner.own {
                            own.through = None;
                        }
                    }
                    // It is tried again.
                    _ => self.closes_page(o),
                }
            }
            Heard::Called(o, request, destroyed) => {
                self.checker.personal.off_is_answered(request);
                if self.owners[o].waiting.is_some_and(|(waiting, _)| waiting == request) {
                    self.owners[o].waiting = None;
                }
                if let Some(desktop) = destroyed {
                    self.checker.ended.insert(desktop, self.now);
                    if self.owners[o].own.is_some_and(|own| own.desktop == desktop) {
                        self.owners[o].own = None;
                        self.owners[o].page = None;
                    }
                }
            }
        }
    }

    fn owner_is_given(&mut self, o: usize, asked: Ms, assigned: &Assigned) {
        self.count("connects of owners");
        let desktop = assigned.desktop.id;
        let (Some(session), Some(host)) = (&assigned.session, &assigned.desktop.host) else {
            return self.checker.broken(format!("owner-{o} was given {desktop} without a session or a host"));
        };
        let session = session.session.id;
        let at = self.hosts.iter().position(|known| known.name == host.name).unwrap_or(usize::MAX);
        self.note(|| format!("owner-{o} is given {desktop} on host-{at}"));
        let promise = Promise { desktop, session, host: at, generation: assigned.desktop.generation };
        self.checker.promised(FIRST + o, asked, &promise);
        if let Err(broken) = self.checker.personal.given(o, desktop, at) {
            self.checker.broken(broken);
        }
        if self.hosts.get(at).is_some_and(|host| host.fenced) {
            self.checker.personal.willed(desktop);
        }
        let before = self.owners[o].own.filter(|own| own.session == Some(session));
        let through = before.and_then(|own| own.through);
        // Where brokers may still find out that an earlier page is gone, nobody is there from then on.
        let left = through.filter(|_| self.owners[o].page.is_none()).map(|_| self.now);
        let logging_off = before.is_some_and(|own| own.logging_off);
        let own = Own { desktop, host: at, session: Some(session), logging_off, left, through };
        self.owners[o].own = Some(own);
    }

    /// Administrators destroy the personal desktops whose hosts say that there is nothing of them any more.
    pub fn care(&mut self) {
        let again = self.random.within(2_000, 6_000);
        self.after(again, Event::Care);
        let dead = self.checker.dead_personal();
        let Some(b) = self.brokers.iter().position(|b| b.serving().is_some() && !b.paused) else { return };
        let Some(control) = self.brokers[b].serving() else { return };
        for desktop in dead {
            self.note(|| format!("{desktop} is destroyed, of which its host has nothing any more"));
            self.count("personal desktops destroyed whose hosts had lost them");
            self.checker.personal.willed(desktop);
            let control = Rc::clone(&control);
            self.tasks.spawn(b, async move {
                if let Ok(ended) = control.store.end_desktop("admin", desktop, "its disk is gone").await {
                    control.ended(&ended);
                }
            });
        }
    }
}
