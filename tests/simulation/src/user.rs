//! Users: they connect through any broker, come back, open viewers with tickets, log off, and are thrown out.

use crate::world::{Event, HEALING, Ms, QUIET, World};
use lucarne_control::{DesktopId, SessionId, UserId};
use lucarne_core::store::{self, Assigned, ConnectRequest};
use std::rc::Rc;

/// A user.
pub struct User {
    /// Their id, once they are in the database.
    pub id: Option<UserId>,
    /// What they were last promised.
    pub promised: Option<Promise>,
    /// What they wait for, since when.
    waiting: Option<(u64, Ms)>,
    /// How many of their last ticket's redemptions won.
    won: Option<(u64, u32)>,
    name: String,
}

/// What a user was told: this desktop is yours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The desktop.
    pub desktop: DesktopId,
    /// The session on it.
    pub session: SessionId,
    /// Its place, by the host's number.
    pub host: usize,
    /// The placement's generation.
    pub generation: u64,
}

/// What became of what somebody asked for.
#[derive(Debug)]
pub enum Outcome {
    /// The users are in the database.
    Known(usize, UserId),
    /// A connect.
    Connected {
        /// Who asked.
        user: usize,
        /// The request's number.
        request: u64,
        /// When.
        asked: Ms,
        /// What they were given.
        result: Result<Box<Assigned>, store::Error>,
    },
    /// A log-off, or an administrator's destruction.
    Ended {
        /// Whose.
        user: usize,
        /// The request's number.
        request: u64,
        /// Of what.
        desktop: DesktopId,
        /// Whether it was done.
        done: bool,
    },
    /// A ticket was redeemed, or not.
    Redeemed {
        /// Whose.
        user: usize,
        /// The ticket's number.
        ticket: u64,
        /// The session that it opens.
        session: Option<SessionId>,
    },
}

impl User {
    /// The user of that number.
    #[must_use]
    pub fn new(number: usize) -> Self {
        Self { id: None, promised: None, waiting: None, won: None, name: format!("user-{number}") }
    }
}

impl User {
    /// Nothing that was asked for before is heard of any more.
    pub fn forget_what_is_under_way(&mut self) {
        self.waiting = None;
        self.won = None;
    }
}

/// Users give up waiting after this.
pub const PATIENCE: Ms = 25_000;

impl World {
    /// A user does something.
    pub fn user_acts(&mut self, u: usize) {
        if self.now + QUIET >= self.size.trouble + HEALING {
            return;
        }
        let think =
            if self.trouble { self.random.within(500, 12_000) } else { self.random.within(3_000, 9_000) };
        self.after(think, Event::User(u));
        let now = self.now;
        if self.users[u].waiting.is_some_and(|(_, since)| now < since + PATIENCE) {
            return;
        }
        let serving: Vec<usize> =
            (0..self.size.brokers).filter(|b| self.brokers[*b].serving().is_some()).collect();
        let Some(b) = self.random.pick(&serving) else { return };
        let Some(control) = self.brokers[b].serving() else { return };
        let request = self.number();
        self.users[u].waiting = Some((request, now));
        let outbox = Rc::clone(&self.outbox);
        let Some(user) = self.users[u].id else {
            let (name, personal) = (self.users[u].name.clone(), self.personal);
            return self.tasks.spawn(b, async move {
                if let Ok(id) = crate::pools::prepare(&control.store, &name, personal).await {
                    outbox.borrow_mut().outcomes.push(Outcome::Known(u, id));
                }
            });
        };
        match (self.users[u].promised, self.random.within(0, 10)) {
            (Some(promise), 0..=1) => {
                self.count("log-offs asked for");
                self.note(|| format!("user-{u} logs off {} through broker-{b}", promise.desktop));
                // From now on it may end, whether they hear of it or not.
                self.checker.excused.insert(promise.desktop);
                self.tasks.spawn(b, async move {
                    let done = control.store.log_off("user", promise.session).await;
                    if let Ok((_, ended)) = &done {
                        control.ended(ended);
                    }
                    let (desktop, done) = (promise.desktop, done.is_ok());
                    outbox.borrow_mut().outcomes.push(Outcome::Ended { user: u, request, desktop, done });
                });
            }
            (Some(promise), 2) => {
                self.count("desktops destroyed by administrators");
                self.checker.excused.insert(promise.desktop);
                self.tasks.spawn(b, async move {
                    let done =
                        control.store.end_desktop("admin", promise.desktop, "destroyed by admin").await;
                    if let Ok(ended) = &done {
                        control.ended(ended);
                    }
                    let (desktop, done) = (promise.desktop, done.is_ok());
                    outbox.borrow_mut().outcomes.push(Outcome::Ended { user: u, request, desktop, done });
                });
            }
            (Some(promise), 3..=5) => self.race_for_a_ticket(u, b, request, promise),
            _ => {
                self.count("connects asked for");
                self.note(|| format!("user-{u} connects through broker-{b}"));
                let asked = now;
                let wanted = ConnectRequest {
                    user,
                    actor: "user".to_owned(),
                    pool: crate::pools::POOL.to_owned(),
                    session: true,
                    clock: std::time::Instant::now,
                };
                self.tasks.spawn(b, async move {
                    let result = control.assign(wanted).await.map(Box::new);
                    outbox.borrow_mut().outcomes.push(Outcome::Connected { user: u, request, asked, result });
                });
            }
        }
    }

    /// A ticket is made, and redeemed through all brokers at once.
    fn race_for_a_ticket(&mut self, u: usize, b: usize, ticket: u64, promise: Promise) {
        self.users[u].won = Some((ticket, 0));
        let Some(control) = self.brokers[b].serving() else { return };
        let everywhere: Vec<_> =
            (0..self.size.brokers).filter_map(|b| Some((b, self.brokers[b].serving()?))).collect();
        let hash = ticket.to_be_bytes().to_vec();
        let made = Rc::new(tokio::sync::Semaphore::new(0));
        for (at, control) in everywhere {
            let (made, hash, outbox) = (Rc::clone(&made), hash.clone(), Rc::clone(&self.outbox));
            self.tasks.spawn(at, async move {
                let _made = made.acquire().await;
                let redeemed = control.store.redeem_ticket(&hash).await;
                let session = redeemed.ok().flatten().map(|redeemed| redeemed.session);
                outbox.borrow_mut().outcomes.push(Outcome::Redeemed { user: u, ticket, session });
            });
        }
        let brokers = self.size.brokers;
        self.tasks.spawn(b, async move {
            let wish = Default::default();
            if control.store.create_ticket(promise.session, promise.generation, &hash, wish).await.is_ok() {
                made.add_permits(brokers);
            } else {
                made.close();
            }
        });
    }

    /// A user hears what became of what they asked for.
    pub fn user_hears(&mut self, outcome: Outcome) {
        self.checker.look();
        match outcome {
            Outcome::Known(u, id) => {
                self.users[u].id = Some(id);
                self.users[u].waiting = None;
            }
            Outcome::Connected { user, request, asked, result } => {
                let current = self.users[user].waiting.is_some_and(|(waiting, _)| waiting == request);
                if current {
                    self.users[user].waiting = None;
                }
                match result {
                    // Who has given up does not hear it.
                    Ok(assigned) if current => self.is_promised(user, asked, &assigned),
                    Ok(_) => {}
                    Err(store::Error::Fault(_)) => self.count("connects that failed by a fault"),
                    Err(e) => {
                        self.count("connects refused");
                        self.note(|| format!("user-{user} is refused: {e}"));
                    }
                }
            }
            Outcome::Ended { user, request, desktop, done } => {
                if self.users[user].waiting.is_some_and(|(waiting, _)| waiting == request) {
                    self.users[user].waiting = None;
                }
                if done {
                    self.count("desktops ended on request");
                    self.checker.ended.insert(desktop, self.now);
                    if self.users[user].promised.is_some_and(|promise| promise.desktop == desktop) {
                        self.users[user].promised = None;
                    }
                }
            }
            Outcome::Redeemed { user, ticket, session } => {
                self.users[user].waiting = None;
                let Some(session) = session else { return };
                self.count("tickets redeemed");
                self.checker.redeemed(user, session);
                if let Some((current, won)) = &mut self.users[user].won
                    && *current == ticket
                {
                    *won += 1;
                    if *won > 1 {
                        self.checker.broken(format!("a ticket of user-{user} was redeemed {won} times"));
                    }
                }
            }
        }
    }

    fn is_promised(&mut self, u: usize, asked: Ms, assigned: &Assigned) {
        self.count("connects");
        let desktop = assigned.desktop.id;
        let (Some(session), Some(host)) = (&assigned.session, &assigned.desktop.host) else {
            return self.checker.broken(format!("user-{u} was given {desktop} without a session or a host"));
        };
        let at = self.hosts.iter().position(|known| known.name == host.name).unwrap_or(usize::MAX);
        let promise = Promise {
            desktop,
            session: session.session.id,
            host: at,
            generation: assigned.desktop.generation,
        };
        self.note(|| format!("user-{u} is given {desktop} on host-{at}"));
        self.checker.promised(u, asked, &promise);
        if self.hosts.get(at).is_some_and(|host| host.fenced) {
            self.checker.excused.insert(desktop);
        }
        if let Some(before) = self.users[u].promised.filter(|before| before.desktop != desktop)
            && let Err(broken) = self.check_given_up(u, &before)
        {
            self.checker.broken(broken);
        }
        self.users[u].promised = Some(promise);
    }
}
