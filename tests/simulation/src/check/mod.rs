//! What was promised, and whether it holds: after every transaction, every step of a desktop, and at the end.

mod personal;
mod rows;
mod snapshots;

use crate::user::Promise;
use crate::world::{HEALING, Ms, World};
use lucarne_control::desktop::Phase;
use lucarne_control::{DesktopId, HostId, SessionId, UserId};
use lucarne_core::plan::LOST_AFTER;
use lucarne_db::tables::{Desktop, Host, Session, Timer};
use lucarne_db::{Db, Fault};
use personal::Personal;
use rows::Rows;
use snapshots::Snapshots;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// What a future gives that waits for nothing: the database without gates is there at once.
pub fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

/// What was promised.
#[derive(Clone)]
pub struct Checker {
    /// Desktops that may end: somebody asked for it, or what they ran on is gone.
    pub excused: BTreeSet<DesktopId>,
    /// What was promised of personal desktops.
    pub personal: Personal,
    /// What was promised of snapshots.
    pub snapshots: Snapshots,
    /// Desktops whose end was acknowledged, and when.
    pub ended: BTreeMap<DesktopId, Ms>,
    db: Db,
    /// When each host was last on record as linked.
    linked: BTreeMap<usize, Ms>,
    /// Desktops that are on record as there: they are never made anew.
    held: BTreeSet<DesktopId>,
    /// Desktops that are not on record as what they are, or are not what they should be, though their hosts are linked: since
    /// when.
    behind: BTreeMap<DesktopId, Ms>,
    /// Links of denied hosts that brokers still have, since when.
    denied: BTreeMap<(HostId, u64), Ms>,
    owners: BTreeMap<DesktopId, usize>,
    sessions: BTreeMap<SessionId, usize>,
    broken: Option<String>,
    due: bool,
}

/// Fails with words where something does not hold.
macro_rules! holds {
    ($what:expr, $($words:tt)+) => { if !$what { return Err(format!($($words)+)); } };
}
use holds;

impl Checker {
    /// Nothing is promised.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self {
            excused: BTreeSet::new(),
            personal: Personal::default(),
            snapshots: Snapshots::default(),
            ended: BTreeMap::new(),
            db,
            linked: BTreeMap::new(),
            held: BTreeSet::new(),
            behind: BTreeMap::new(),
            denied: BTreeMap::new(),
            owners: BTreeMap::new(),
            sessions: BTreeMap::new(),
            broken: None,
            due: false,
        }
    }

    /// Something may have changed.
    pub fn look(&mut self) {
        self.due = true;
    }

    /// A promise was broken.
    pub fn broken(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// A user was told that a desktop is theirs.
    pub fn promised(&mut self, user: usize, asked: Ms, promise: &Promise) {
        let owner = *self.owners.entry(promise.desktop).or_insert(user);
        if owner != user {
            self.broken(format!("{} was user-{owner}'s, and is given to user-{user}", promise.desktop));
        }
        self.sessions.insert(promise.session, user);
        if self.ended.get(&promise.desktop).is_some_and(|ended| *ended < asked) {
            self.broken(format!("{} is given to user-{user} after its end", promise.desktop));
        }
    }

    /// The database is put back as it was when this was so.
    pub fn restore(&mut self, then: Self, owners: &[Option<UserId>]) {
        // What failed since has failed; who had a desktop had it.
        self.ended = then.ended;
        self.behind.clear();
        self.snapshots.restore();
        self.due = true;
        if let Ok(rows) = self.rows() {
            self.personal.restore(&rows, |owner, d| d.user_id == owners[owner]);
        }
    }

    /// The personal desktops that their hosts have nothing of, or nothing that runs.
    #[must_use]
    pub fn dead_personal(&self) -> Vec<DesktopId> {
        let Ok(rows) = self.rows() else { return Vec::new() };
        let dead = |d: &&Desktop| {
            d.persistent
                && d.is_wanted()
                && d.taken_at.is_some()
                && matches!(d.phase, Phase::Failed | Phase::Stopped)
        };
        rows.desktops.iter().filter(dead).map(|d| d.id).collect()
    }

    /// A host makes a desktop.
    pub fn made(&mut self, desktop: DesktopId) {
        if self.held.contains(&desktop) {
            self.broken(format!("{desktop} is made anew, without what its user had there"));
        }
    }

    /// A ticket opened a session for its user.
    pub fn redeemed(&mut self, user: usize, session: SessionId) {
        let live = now(self.db.read(move |tx| tx.peek(Session::key(&session))));
        if !matches!(live, Some(Ok(Some(row))) if row.ended_at.is_none()) {
            self.broken(format!("a ticket of user-{user} opens {session}, which has ended"));
        }
        if self.sessions.get(&session).is_some_and(|owner| *owner != user) {
            self.broken(format!("a ticket of user-{user} opens another's session {session}"));
        }
    }
}

impl World {
    /// Whether everything holds that was promised.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&mut self) -> Result<(), String> {
        if let Some(broken) = self.checker.broken.take() {
            return Err(broken);
        }
        if !std::mem::take(&mut self.checker.due) {
            return Ok(());
        }
        self.count("checks");
        let rows = self.checker.rows()?;
        rows.add_up()?;
        rows.agree()?;
        for (h, host) in self.hosts.iter().enumerate() {
            if rows.hosts.iter().any(|row| row.name == host.name && row.is_online()) {
                self.checker.linked.insert(h, self.now);
            }
        }
        let there: BTreeSet<_> = self.hosts.iter().flat_map(|host| host.disk.folders.keys()).collect();
        let held = rows.desktops.iter().filter(|d| d.held).map(|d| d.id).filter(|id| there.contains(id));
        self.checker.held.extend(held);
        self.check_links(&rows)?;
        self.check_denied(&rows)?;
        self.check_machines(&rows)?;
        self.check_records(&rows)?;
        self.check_promises(&rows)?;
        self.check_snapshots(&rows)?;
        self.check_personal(&rows)
    }

    /// A link that a broker has is on record until another replaces it, or the broker is ended.
    fn check_links(&self, rows: &Rows) -> Result<(), String> {
        for control in self.brokers.iter().filter_map(crate::broker::Broker::serving) {
            for (link, _) in control.links.told() {
                let live = rows.brokers.iter().any(|broker| broker.id == link.broker);
                let row = rows.hosts.iter().find(|host| host.id == link.host && host.epoch == link.epoch);
                let kept = row.is_none_or(|host| host.broker_id == Some(link.broker));
                holds!(kept || !live, "the link {} to {} is not on record any more", link.epoch, link.name);
            }
        }
        Ok(())
    }

    /// A denied host is linked to nobody on record, and a broker that is awake has no link to it for long.
    fn check_denied(&mut self, rows: &Rows) -> Result<(), String> {
        const LONG: Ms = 30_000;
        let denied: BTreeSet<_> = rows.hosts.iter().filter(|h| h.denied_at.is_some()).map(|h| h.id).collect();
        for row in rows.hosts.iter().filter(|host| denied.contains(&host.id)) {
            holds!(!row.is_online(), "{} is denied, and is linked", row.name);
        }
        let awake = self.brokers.iter().filter(|broker| !broker.paused);
        let serving = awake.filter_map(crate::broker::Broker::serving);
        let links: Vec<_> = serving.flat_map(|control| control.links.told()).map(|(link, _)| link).collect();
        let mut kept = BTreeMap::new();
        for link in links.into_iter().filter(|link| denied.contains(&link.host)) {
            let since = self.checker.denied.get(&(link.host, link.epoch)).copied().unwrap_or(self.now);
            holds!(
                self.now - since < LONG,
                "{} is denied, and a broker has its link for {LONG} ms",
                link.name
            );
            kept.insert((link.host, link.epoch), since);
        }
        self.checker.denied = kept;
        Ok(())
    }

    /// A desktop runs, and has data, only where it is placed, and so nowhere twice.
    fn check_machines(&self, rows: &Rows) -> Result<(), String> {
        let id = |name: &str| rows.hosts.iter().find(|host| host.name == name).map(|host| host.id);
        let mut running: BTreeMap<DesktopId, usize> = BTreeMap::new();
        for (h, host) in self.hosts.iter().enumerate() {
            let here: Option<HostId> = id(&host.name);
            // One that has not heard of it yet may have what was given up, or what a backup does not know.
            let unaware = host.fenced || host.behind;
            let machines = host.machines.iter().map(|(id, guest)| (*id, guest.generation));
            let folders = host.disk.folders.iter().map(|(id, folder)| (*id, folder.generation));
            for (desktop, generation) in machines.chain(folders).filter(|_| !unaware) {
                let row = rows.desktop(desktop).filter(|d| d.placed && d.host_id == here);
                let placed = row.is_some_and(|d| d.generation == generation);
                holds!(
                    placed,
                    "{desktop} generation {generation} is on {}, and its place there is free",
                    host.name
                );
            }
            for &desktop in host.machines.keys() {
                if let Some(other) = running.insert(desktop, h) {
                    return Err(format!("{desktop} runs on host-{other} and on host-{h}"));
                }
            }
        }
        Ok(())
    }

    /// Whether a host is linked to a broker that is awake: one that does nothing for a while records nothing.
    fn hears(&self, host: &Host) -> bool {
        let awake = self.brokers.iter().filter(|broker| !broker.paused);
        let mut serving = awake.filter_map(crate::broker::Broker::serving);
        serving.any(|control| host.broker_id == Some(control.broker()))
    }

    /// What is on record of a desktop follows what it is.
    fn check_records(&mut self, rows: &Rows) -> Result<(), String> {
        const LONG: Ms = 45_000;
        let now = self.now;
        let mut behind = BTreeMap::new();
        let awake = |host: &Host| self.hears(host);
        for row in rows.desktops.iter().filter(|d| d.is_wanted() && d.phase != Phase::Ready) {
            let host = rows.hosts.iter().find(|host| Some(host.id) == row.host_id && awake(host));
            let host = host.and_then(|row| self.hosts.iter().find(|host| host.name == row.name));
            if host.is_some_and(|host| host.is_ready(row.id, row.generation)) {
                let since = self.checker.behind.get(&row.id).copied().unwrap_or(now);
                holds!(
                    now - since < LONG,
                    "{} is ready, and is on record as {:?} for {LONG} ms",
                    row.id,
                    row.phase
                );
                behind.insert(row.id, since);
            }
        }
        for row in rows.desktops.iter().filter(|d| !d.is_wanted()) {
            let host = rows.hosts.iter().find(|host| Some(host.id) == row.host_id && awake(host));
            if host.is_some_and(|row| self.hosts.iter().any(|host| host.name == row.name && host.agent)) {
                let since = self.checker.behind.get(&row.id).copied().unwrap_or(now);
                holds!(
                    now - since < LONG,
                    "{} is to be destroyed for {LONG} ms, and its host is linked",
                    row.id
                );
                behind.insert(row.id, since);
            }
        }
        self.checker.behind = behind;
        Ok(())
    }

    /// What a user was given is theirs until they, or what it ran on, end it.
    fn check_promises(&mut self, rows: &Rows) -> Result<(), String> {
        for u in 0..self.users.len() {
            let Some(promise) = self.users[u].promised else { continue };
            let desktop = promise.desktop;
            if self.checker.excused.contains(&desktop) {
                continue;
            }
            let row = rows
                .desktop(desktop)
                .filter(|d| d.is_wanted() && d.assigned && d.user_id == self.users[u].id);
            let session = rows.sessions.iter().any(|s| s.id == promise.session && s.desktop_id == desktop);
            if row.is_some() && session {
                continue;
            }
            self.check_given_up(u, &promise)?;
        }
        for row in &rows.desktops {
            let wanted = row.is_wanted() && self.checker.ended.contains_key(&row.id);
            holds!(!wanted, "{} is wanted after its end was acknowledged", row.id);
        }
        Ok(())
    }

    /// What a database that was put back has of desktops that are not on their hosts ends.
    pub fn excuse_what_is_not_there(&mut self) {
        let Ok(rows) = self.checker.rows() else { return };
        let there: BTreeSet<_> = self.hosts.iter().flat_map(|host| host.disk.folders.keys()).collect();
        let gone = rows.desktops.iter().map(|d| d.id).filter(|id| !there.contains(id));
        self.checker.excused.extend(gone);
    }

    /// A user's desktop is not theirs any more: somebody asked for that, or its host was silent for long.
    ///
    /// # Errors
    /// Neither is so.
    pub fn check_given_up(&mut self, u: usize, promise: &Promise) -> Result<(), String> {
        let desktop = promise.desktop;
        if self.checker.excused.insert(desktop) {
            let linked = self.checker.linked.get(&promise.host).copied().unwrap_or(0);
            let silent = self.now - linked;
            holds!(
                silent >= LOST_AFTER as Ms,
                "user-{u} has lost {desktop}, whose host was linked {silent} ms ago"
            );
            self.count("desktops given up with their hosts");
        }
        Ok(())
    }

    /// Whether everything is as it should be when nothing has failed for [`HEALING`].
    ///
    /// # Errors
    /// What is not.
    pub fn check_end(&mut self) -> Result<(), String> {
        /// So long after it is due, something should have been done, milliseconds.
        const LONG: i64 = 10_000;
        let rows = self.checker.rows()?;
        for host in &rows.hosts {
            holds!(host.is_online(), "{} is not linked {} s after the trouble", host.name, HEALING / 1000);
        }
        for broker in self.brokers.iter().filter_map(crate::broker::Broker::serving) {
            let live = rows.brokers.iter().any(|row| row.id == broker.broker());
            holds!(live, "a broker that is there is on record as ended");
        }
        // Nobody has asked for anything for a while, so nothing is under way.
        for row in &rows.desktops {
            let at = rows.hosts.iter().find(|host| Some(host.id) == row.host_id).map(|host| &host.name);
            holds!(row.is_wanted(), "{} on {at:?} is to be destroyed, and is not", row.id);
            if row.persistent {
                self.check_end_of_personal(row)?;
                continue;
            }
            let host = self.hosts.iter().find(|host| Some(&host.name) == at);
            let guest = host.and_then(|host| host.machines.get(&row.id));
            let runs = guest.is_some_and(|guest| guest.generation == row.generation);
            holds!(runs, "{} is wanted on {at:?}, and does not run", row.id);
            holds!(
                row.phase == Phase::Ready,
                "{} runs on {at:?}, and is on record as {:?}",
                row.id,
                row.phase
            );
        }
        self.check_end_of_snapshots(&rows)?;
        let due = crate::world::BEGIN + self.now as i64 - LONG;
        let late = now(self.checker.db.read(move |tx| tx.list(Timer::due().up_to(&due))));
        let late = late.ok_or("the timers are not read")?.map_err(|e: Fault| e.to_string())?;
        holds!(late.is_empty(), "what is due is not done: {late:?}");
        let verified = now(lucarne_db::audit::verify(&self.checker.db, &[])).ok_or("the log is not read")?;
        let verified = verified.map_err(|e| e.to_string())?;
        holds!(verified.faults.is_empty(), "the audit log is broken: {:?}", verified.faults);
        Ok(())
    }
}
