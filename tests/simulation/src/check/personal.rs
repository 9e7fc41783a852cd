//! What was promised of personal desktops: they are their users' until somebody destroys them, with what was saved there, and run
//! when and only when that is wanted.

use super::{Rows, holds};
use crate::host::NOT_RESUMED;
use crate::owner::Shows;
use crate::world::{Ms, World};
use lucarne_control::DesktopId;
use lucarne_control::desktop::{DesiredState, Phase};
use lucarne_core::store::{LEFT, LOGGED_OFF, UNUSED, UNUSED_SUSPENDED};
use lucarne_db::tables::{Desktop, Session};
use std::collections::{BTreeMap, BTreeSet};

/// After this somebody's call for a power-off, whose broker was killed meanwhile, does nothing any more.
const FORGOTTEN: Ms = 120_000;

/// After this what is wanted has to be so, where nothing fails.
const OBEYED: Ms = 14_000;

/// A desktop that an owner was given.
#[derive(Clone, Copy, Debug)]
struct Kept {
    owner: usize,
    host: usize,
    /// The virtual disk that they have used.
    volume: Option<u64>,
    /// What they saved there last.
    saved: u64,
    /// What they have open.
    open: u64,
    /// Their guest was powered off, or ended by nobody's wish: what was open may be gone.
    ended: bool,
}

/// What was promised of personal desktops.
#[derive(Clone, Default)]
pub struct Personal {
    kept: BTreeMap<DesktopId, Kept>,
    /// What is in clones that nobody was given yet: what was saved, and what was open.
    clones: BTreeMap<DesktopId, (u64, u64)>,
    /// Desktops that may be destroyed: somebody asked for it, or said that their host is dead.
    willed: BTreeSet<DesktopId>,
    /// Desktops whose disks are gone with their machines.
    lost: BTreeSet<DesktopId>,
    /// The wishes for each to run that were on record.
    wished: BTreeMap<DesktopId, BTreeSet<u64>>,
    /// The wish that a guest was started for last, on each virtual disk.
    started: BTreeMap<u64, u64>,
    /// The last wish under which a guest ended by nobody's wish.
    ended: BTreeMap<DesktopId, u64>,
    /// Calls for a power-off or a suspension that may still be done, since when.
    off_asked: BTreeMap<u64, (DesktopId, Ms, DesiredState)>,
    /// Those that are not among them any more once it has been looked at what they did.
    answered: Vec<u64>,
    /// What is wanted of each by which wish, since when.
    wanted: BTreeMap<DesktopId, (DesiredState, u64, Ms)>,
    /// Desktops that run and should not, since when.
    late: BTreeMap<DesktopId, Ms>,
    now: Ms,
    broken: Option<String>,
}

impl Personal {
    fn broken(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// Somebody has asked for the end of a desktop.
    pub fn willed(&mut self, desktop: DesktopId) {
        self.willed.insert(desktop);
    }

    /// Somebody says that a host is dead.
    pub fn fenced(&mut self, host: usize) {
        let there = self.kept.iter().filter(|(_, kept)| kept.host == host).map(|(id, _)| *id);
        self.willed.extend(there.collect::<Vec<_>>());
    }

    /// A disk is gone with its machine.
    pub fn lost(&mut self, desktop: DesktopId) {
        self.excuse(desktop);
        self.lost.insert(desktop);
    }

    /// A power-off or a suspension was asked for.
    pub fn rest_is_asked(&mut self, request: u64, desktop: DesktopId, desired: DesiredState) {
        self.off_asked.insert(request, (desktop, self.now, desired));
    }

    /// What was asked for was done, or will not be.
    pub fn off_is_answered(&mut self, request: u64) {
        self.answered.push(request);
    }

    /// A guest is started on a virtual disk, for a wish.
    pub fn starts(&mut self, desktop: DesktopId, volume: u64, wish: u64) {
        if !self.wished.get(&desktop).is_some_and(|wishes| wishes.contains(&wish)) {
            self.broken(format!("{desktop} is started for wish {wish}, by which it was not to run"));
        }
        let before = self.started.insert(volume, wish).unwrap_or(0);
        if before >= wish {
            self.broken(format!("{desktop} is started for wish {wish}, and was for {before} before"));
        }
    }

    /// A guest ended, or did not start, by nobody's wish; of one that `failed` there is nothing that could be kept.
    pub fn guest_ended(&mut self, desktop: DesktopId, wish: u64, failed: bool) {
        let ended = self.ended.entry(desktop).or_default();
        *ended = wish.max(*ended);
        self.excuse(desktop);
        if failed {
            self.willed.insert(desktop);
        }
    }

    /// An owner was given a desktop.
    ///
    /// # Errors
    /// They had another that nobody has destroyed.
    pub fn given(&mut self, owner: usize, desktop: DesktopId, host: usize) -> Result<(), String> {
        let other = |(id, kept): &(&DesktopId, &Kept)| kept.owner == owner && **id != desktop;
        let mut others = self.kept.iter().filter(other).map(|(id, _)| *id);
        if let Some(before) = others.find(|id| !self.willed.contains(id)) {
            return Err(format!("owner-{owner} is given {desktop}, and nobody has destroyed {before}"));
        }
        let (saved, open) = self.clones.remove(&desktop).unwrap_or((0, 0));
        let kept =
            self.kept.entry(desktop).or_insert(Kept { owner, host, volume: None, saved, open, ended: false });
        holds!(kept.host == host, "{desktop} was on host-{}, and is on host-{host}", kept.host);
        Ok(())
    }

    /// A guest begins, with so much open.
    pub fn opens(&mut self, desktop: DesktopId, open: u64) {
        let Some(kept) = self.kept.get_mut(&desktop) else { return };
        let (had, ended) = (kept.open, std::mem::take(&mut kept.ended));
        kept.open = open;
        if open != had && !ended {
            self.broken(format!("{desktop} begins with {open} open, and its owner left {had}"));
        }
    }

    /// A desktop is made with what was saved, and open, in another.
    pub(super) fn is_cloned(&mut self, desktop: DesktopId, saved: u64, open: u64) {
        match self.kept.get_mut(&desktop) {
            Some(kept) => (kept.saved, kept.open) = (saved, open),
            None => drop(self.clones.insert(desktop, (saved, open))),
        }
    }

    /// A desktop is put back to what was saved, and open, then.
    pub(super) fn goes_back(&mut self, desktop: DesktopId, saved: u64, open: u64) {
        if let Some(kept) = self.kept.get_mut(&desktop) {
            (kept.saved, kept.open, kept.ended) = (saved, open, false);
        }
    }

    /// What is open in a desktop may be gone.
    fn excuse(&mut self, desktop: DesktopId) {
        if let Some(kept) = self.kept.get_mut(&desktop) {
            kept.ended = true;
        }
    }

    /// An owner finds this on their virtual disk, and saves more: one more, which is acknowledged.
    pub fn uses(&mut self, desktop: DesktopId, volume: u64, found: u64, open: u64) {
        let Some(kept) = self.kept.get_mut(&desktop) else { return };
        let (before, saved) = (kept.volume, kept.saved);
        let anew = self.lost.remove(&desktop);
        (kept.volume, kept.saved) = (Some(volume), found + 1);
        let before_open = std::mem::replace(&mut kept.open, open + 1);
        if open != before_open {
            self.broken(format!("{desktop} has {open} open, and its owner left {before_open}"));
        }
        if !anew && (before.is_some_and(|before| before != volume) || found != saved) {
            self.broken(format!(
                "{desktop} has {found} on disk {volume}, and its owner saved {saved} on {before:?}"
            ));
        }
    }

    /// The database is put back: it may be that it does not know what was given since.
    pub(super) fn restore(&mut self, rows: &Rows, owners: impl Fn(usize, &Desktop) -> bool) {
        self.wanted.clear();
        self.late.clear();
        self.off_asked.clear();
        for (id, kept) in &self.kept {
            let known = rows.desktop(*id).filter(|d| d.is_wanted() && d.assigned);
            if !known.is_some_and(|d| owners(kept.owner, d)) {
                self.willed.insert(*id);
            }
        }
    }
}

fn personal(rows: &Rows) -> impl Iterator<Item = &Desktop> {
    rows.desktops.iter().filter(|d| d.persistent)
}

impl World {
    /// Whether everything holds that was promised of personal desktops.
    pub(super) fn check_personal(&mut self, rows: &Rows) -> Result<(), String> {
        self.checker.personal.now = self.now;
        if let Some(broken) = self.checker.personal.broken.take() {
            return Err(broken);
        }
        self.check_wishes(rows)?;
        self.check_owners(rows)?;
        self.check_disks(rows)?;
        self.check_power(rows)
    }

    /// What is wanted of a desktop changes only by somebody's wish, or because its guest ended.
    fn check_wishes(&mut self, rows: &Rows) -> Result<(), String> {
        let now = self.now;
        self.checker.personal.off_asked.retain(|_, (_, asked, _)| *asked + FORGOTTEN > now);
        for row in personal(rows) {
            let wish = row.desired_gen.unsigned_abs();
            if row.desired == DesiredState::Off {
                self.checker.personal.excuse(row.id);
            }
            if row.desired == DesiredState::Running {
                self.checker.personal.wished.entry(row.id).or_default().insert(wish);
            }
            let promised = &self.checker.personal;
            match promised.wanted.get(&row.id) {
                Some((desired, before, _)) if (*desired, *before) == (row.desired, wish) => continue,
                Some((DesiredState::Running, before, _)) if row.desired.is_at_rest() => {
                    let mut asked = promised.off_asked.values();
                    let asked = asked.any(|(desktop, _, how)| (*desktop, *how) == (row.id, row.desired));
                    let ended = promised.ended.get(&row.id).is_some_and(|ended| ended >= before);
                    let unused = row.detail == UNUSED || row.detail == UNUSED_SUSPENDED;
                    let stays = row.desired == DesiredState::Suspended && row.detail == NOT_RESUMED;
                    holds!(
                        asked || ended || unused || stays,
                        "{} is {:?}: {}, and nobody wanted that",
                        row.id,
                        row.desired,
                        row.detail
                    );
                    if unused {
                        self.check_absence(row.id, None, "is at rest", self.personal.rest_after_s)?;
                    }
                }
                _ => {}
            }
            self.checker.personal.wanted.insert(row.id, (row.desired, wish, now));
        }
        for request in std::mem::take(&mut self.checker.personal.answered) {
            self.checker.personal.off_asked.remove(&request);
        }
        Ok(())
    }

    /// Nobody has used a desktop, or this session on it, for so long.
    fn check_absence(
        &self,
        desktop: DesktopId,
        session: Option<&Session>,
        what: &str,
        after_s: u32,
    ) -> Result<(), String> {
        let owner = self.owners.iter().filter_map(|owner| owner.own).find(|own| own.desktop == desktop);
        let Some(own) = owner.filter(|own| own.session.is_some()) else { return Ok(()) };
        if session.is_some_and(|session| own.session != Some(session.id)) {
            return Ok(());
        }
        let Some(left) = own.left else { return Err(format!("{desktop} {what}, and its owner is there")) };
        let (away, least) = (self.now - left, Ms::from(after_s) * 1000);
        holds!(away >= least, "{desktop} {what}, and its owner left {away} ms ago");
        Ok(())
    }

    /// Sessions end when that is due, and owners see what became of theirs.
    fn check_owners(&mut self, rows: &Rows) -> Result<(), String> {
        for o in 0..self.owners.len() {
            let Some(own) = self.owners[o].own else { continue };
            let live = |id| rows.brokers.iter().any(|broker| broker.id == id);
            let session = own.session.and_then(|id| rows.sessions.iter().find(|session| session.id == id));
            if let Some(id) = own.session.filter(|_| session.is_none()) {
                let row = super::now(self.checker.db.read(move |tx| tx.peek(Session::key(&id))));
                if let Some(Ok(Some(row))) = row {
                    self.check_end_of_session(&own, &row)?;
                }
                self.owners[o].page = None;
                if let Some(own) = &mut self.owners[o].own {
                    (own.session, own.through, own.logging_off) = (None, None, false);
                }
                continue;
            }
            let through = session.and_then(|session| session.broker_id);
            let owner = &mut self.owners[o];
            if owner
                .page
                .is_some_and(|page| !live(page.through) || through.is_some_and(|b| b != page.through))
            {
                owner.loses_page(self.now);
            }
            let page = owner.page.is_some();
            let open = owner.page.is_some_and(|page| page.shows == Shows::Open && !page.closed);
            if let Some(own) = &mut owner.own {
                if open {
                    own.left = None;
                }
                own.through = through.or(own.through);
                if own.through.is_some_and(|through| !live(through)) {
                    own.through = None;
                    if !page {
                        own.left.get_or_insert(self.now);
                    }
                }
            }
        }
        Ok(())
    }

    fn check_end_of_session(&self, own: &crate::owner::Own, row: &Session) -> Result<(), String> {
        match row.end_reason.as_deref() {
            Some(LOGGED_OFF) => {
                holds!(own.logging_off, "{} is logged off, and its owner did not ask for it", row.id);
            }
            Some(LEFT) => {
                let after_s = self.personal.disconnected_s.unwrap_or(u32::MAX);
                self.check_absence(own.desktop, Some(row), "is left", after_s)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Each is on record as its owner's, in its place, with its disk and what was saved there.
    fn check_disks(&self, rows: &Rows) -> Result<(), String> {
        let promised = &self.checker.personal;
        let mut volumes = BTreeSet::new();
        for guest in self.hosts.iter().flat_map(|host| host.machines.values()) {
            holds!(volumes.insert(guest.volume), "two guests run on the disk {}", guest.volume);
        }
        for (id, kept) in promised.kept.iter().filter(|(id, _)| !promised.willed.contains(id)) {
            let host = &self.hosts[kept.host];
            let row = rows.desktop(*id).filter(|d| d.is_wanted() && d.placed);
            let Some(row) = row else { return Err(format!("{id} is gone, and nobody has destroyed it")) };
            let theirs = row.assigned && row.user_id == self.owners[kept.owner].id;
            holds!(theirs, "{id} is not owner-{}'s any more, and nobody has destroyed it", kept.owner);
            let at = rows.hosts.iter().find(|h| Some(h.id) == row.host_id).map(|h| &h.name);
            holds!(at == Some(&host.name), "{id} was on {}, and is placed on {at:?}", host.name);
            if promised.lost.contains(id) {
                continue;
            }
            let folder = host.disk.folders.get(id);
            if let Some(volume) = kept.volume {
                let there = folder.is_some_and(|f| f.volume == volume && f.saved == kept.saved);
                holds!(there, "{id} has not what its owner saved: {} on disk {volume}", kept.saved);
            }
        }
        Ok(())
    }

    /// What is powered off does not run on, where its host can hear of it.
    fn check_power(&mut self, rows: &Rows) -> Result<(), String> {
        const LONG: Ms = 45_000;
        let mut late = BTreeMap::new();
        for row in personal(rows).filter(|d| d.desired.is_at_rest()) {
            let host = rows.hosts.iter().find(|host| Some(host.id) == row.host_id && self.hears(host));
            let host = host.and_then(|row| self.hosts.iter().find(|host| host.name == row.name));
            if host.is_some_and(|host| host.agent && host.machines.contains_key(&row.id)) {
                let since = self.checker.personal.late.get(&row.id).copied().unwrap_or(self.now);
                holds!(self.now - since < LONG, "{} is to be off for {LONG} ms, and runs", row.id);
                late.insert(row.id, since);
            }
        }
        self.checker.personal.late = late;
        Ok(())
    }

    /// Whether each is as it should be when nothing has failed for long.
    pub(super) fn check_end_of_personal(&self, row: &Desktop) -> Result<(), String> {
        let wanted = self.checker.personal.wanted.get(&row.id);
        if wanted.is_none_or(|(_, _, since)| since + OBEYED > self.now) {
            return Ok(());
        }
        let guest = self.hosts.iter().any(|host| host.machines.contains_key(&row.id));
        let (phase, on) = match row.desired {
            DesiredState::Running => (Phase::Ready, true),
            DesiredState::Suspended => (Phase::Suspended, false),
            _ => (Phase::Off, false),
        };
        holds!(guest == on, "{} is to be {phase:?}, and runs: {guest}", row.id);
        holds!(row.phase == phase, "{} is to be {phase:?}, and is on record as {:?}", row.id, row.phase);
        Ok(())
    }
}
