//! What fails, and when.

use crate::check::Checker;
use crate::user::Promise;
use crate::world::{Event, Ms, World};
use lucarne_control::HostId;
use lucarne_core::store::Store;
use lucarne_db::Snapshot;

/// The last of the trouble, in which nothing fails but messages, milliseconds: whoever is linked anew is told everything, so links
/// that end would heal what a message left that came late, twice or never.
const NOISE: Ms = 20_000;

/// A backup of the database, with what was promised then.
pub struct Backup {
    snapshot: Snapshot,
    promises: Vec<Option<Promise>>,
    checker: Checker,
}

impl World {
    /// Something fails.
    pub fn make_trouble(&mut self) {
        if !self.trouble {
            return;
        }
        let next = self.random.within(300, 9_000);
        self.after(next, Event::Trouble);
        if self.now + NOISE >= self.size.trouble {
            return;
        }
        let b = self.random.within(0, self.size.brokers as u64) as usize;
        let h = self.random.within(0, self.size.hosts as u64) as usize;
        match self.random.within(0, 21) {
            0..=2 if self.brokers[b].up => {
                self.broker_is_killed(b);
                let again = if self.random.one_in(3) {
                    self.random.within(20_000, 50_000)
                } else {
                    self.random.within(200, 4_000)
                };
                self.after(again, Event::BrokerStarts(b));
            }
            3..=4 if self.brokers[b].up && !self.brokers[b].paused => {
                self.broker_is_paused(b);
                let long = if self.random.one_in(2) { 40_000 } else { 4_000 };
                let again = self.random.within(500, long);
                self.after(again, Event::BrokerResumes(b));
            }
            5..=8 => {
                // One broker and one host do not hear each other, or nobody hears the host.
                let whole = self.random.one_in(2);
                let brokers: Vec<usize> = if whole { (0..self.size.brokers).collect() } else { vec![b] };
                let long = if self.random.one_in(3) { 70_000 } else { 12_000 };
                let mended = self.random.within(500, long);
                self.note(|| format!("host-{h} is cut off from {brokers:?}"));
                self.count("networks cut");
                for b in brokers {
                    self.cut.push((b, h));
                    self.after(mended, Event::Mended(b, h));
                }
            }
            9..=11 if self.hosts[h].agent => {
                self.agent_is_killed(h);
                let again = self.random.within(50, 15_000);
                self.after(again, Event::HostStarts(h));
            }
            12..=13 => {
                let disk_too = self.random.one_in(3);
                self.machine_stops(h, disk_too);
                let again = self.random.within(5_000, 45_000);
                self.after(again, Event::HostStarts(h));
            }
            14 => self.machine_dies(h),
            15 => self.host_is_given_up(h),
            16..=19 => self.host_reconnects(h),
            20 => self.host_is_denied(h),
            _ => {}
        }
    }

    /// A host's machine stops, an administrator sees that, and says so.
    fn host_is_given_up(&mut self, h: usize) {
        self.machine_stops(h, false);
        let again = self.random.within(25_000, 60_000);
        self.after(again, Event::HostStarts(h));
        self.after(again.saturating_sub(5_000), Event::Fence(h));
    }

    /// An administrator denies a host for a while, by a broker that tells nobody.
    fn host_is_denied(&mut self, h: usize) {
        let (store, name) = (Store::new(self.database.direct()), self.hosts[h].name.clone());
        let Some(Ok(seen)) = crate::check::now(store.host(&name)) else { return };
        self.note(|| format!("host-{h} is denied"));
        self.count("hosts denied");
        self.checker.look();
        crate::check::now(store.deny_host("admin", seen.id, "it was stolen"));
        let again = self.random.within(3_000, 45_000);
        self.after(again, Event::Allow(h));
    }

    /// They let it in again.
    pub fn allow(&mut self, h: usize) {
        let (store, name) = (Store::new(self.database.direct()), self.hosts[h].name.clone());
        let Some(Ok(seen)) = crate::check::now(store.host(&name)) else { return };
        self.note(|| format!("host-{h} is allowed"));
        crate::check::now(store.allow_host("admin", seen.id));
    }

    /// An administrator sees that a host is dead, and says so at once, or much later.
    pub fn fence(&mut self, h: usize) {
        if self.hosts[h].agent {
            return;
        }
        let name = self.hosts[h].name.clone();
        let Some(Ok(seen)) = crate::check::now(Store::new(self.database.direct()).host(&name)) else {
            return;
        };
        let later = if self.random.one_in(2) { self.random.within(5_000, 90_000) } else { 1 };
        self.after(later, Event::Speak(h, seen.id, seen.epoch));
    }

    /// They say so, of what they saw then.
    pub fn speak(&mut self, h: usize, host: HostId, epoch: u64) {
        let Some(b) = self.brokers.iter().position(|b| b.serving().is_some()) else { return };
        let Some(control) = self.brokers[b].serving() else { return };
        let name = self.hosts[h].name.clone();
        let Some(Ok(now)) = crate::check::now(Store::new(self.database.direct()).host(&name)) else { return };
        // Where it is on again and has reached nobody, nobody can know; it is told when it does. A link that is on record may be lost
        // by the time that their word is.
        if now.epoch == epoch {
            self.note(|| format!("host-{h} is declared dead"));
            self.count("hosts declared dead");
            let there: Vec<_> = self.hosts[h].disk.folders.keys().copied().collect();
            self.checker.excused.extend(there);
            let theirs =
                self.users.iter().filter_map(|user| user.promised).filter(|promise| promise.host == h);
            self.checker.excused.extend(theirs.map(|promise| promise.desktop));
            self.checker.personal.fenced(h);
            self.hosts[h].fenced = true;
        } else {
            self.note(|| format!("host-{h} is declared dead, which it is not any more"));
            self.count("hosts declared dead too late");
        }
        self.tasks.spawn(b, async move {
            if let Ok(ended) = control.store.fence_host("admin", host, epoch, "it is off").await {
                control.ended(&ended);
            }
        });
    }

    /// The database is backed up.
    pub fn back_up(&mut self) {
        self.note(|| "the database is backed up".to_owned());
        let promises = self.users.iter().map(|user| user.promised).collect();
        let (snapshot, checker) = (self.database.snapshot(), self.checker.clone());
        self.backup = Some(Backup { snapshot, promises, checker });
    }

    /// The backup is put back: all brokers are stopped, and what was promised since is not known any more.
    pub fn restore(&mut self) {
        let Some(backup) = self.backup.take().filter(|_| self.trouble) else { return };
        self.note(|| "the database is put back as it was".to_owned());
        self.count("databases put back");
        for b in 0..self.size.brokers {
            if self.brokers[b].up {
                self.broker_is_killed(b);
            }
            let again = self.random.within(500, 5_000);
            self.after(again, Event::BrokerStarts(b));
        }
        self.restored += 1;
        self.database.restore(&backup.snapshot);
        crate::check::now(Store::new(self.database.direct()).restored("admin"));
        let owners: Vec<_> = self.owners.iter().map(|owner| owner.id).collect();
        self.checker.restore(backup.checker, &owners);
        self.owners.iter_mut().for_each(crate::owner::Owner::forget);
        for (u, promised) in backup.promises.into_iter().enumerate() {
            self.users[u].promised = promised;
            self.users[u].forget_what_is_under_way();
        }
        for host in &mut self.hosts {
            host.behind = true;
        }
        self.excuse_what_is_not_there();
    }
}
