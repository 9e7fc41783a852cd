//! What was promised of snapshots: each is there until somebody wants it gone, and a desktop is put back when and only when it is
//! wanted, once.

use super::{Checker, Rows, holds};
use crate::pools::KEPT_SNAPSHOTS;
use crate::world::{BEGIN, World};
use lucarne_control::agent::SnapshotState;
use lucarne_control::{DesktopId, SnapshotId};
use lucarne_db::tables::Snapshot;
use std::collections::{BTreeMap, BTreeSet};

/// After this what is wanted has to be so, where nothing fails: one that could not be deleted is tried again after half a minute.
const OBEYED: i64 = 45_000;

/// That a desktop is to be put back, as it is on record.
#[derive(Clone, Copy, Debug)]
struct Back {
    to: SnapshotId,
    /// The first wish that said so.
    first: u64,
}

/// What was promised of snapshots.
#[derive(Clone, Default)]
pub struct Snapshots {
    /// Those that somebody wants gone.
    unwanted: BTreeSet<SnapshotId>,
    /// Those that were on record as to be deleted.
    condemned: BTreeSet<SnapshotId>,
    /// Where people want desktops put back to.
    asked: BTreeSet<(DesktopId, SnapshotId)>,
    /// What people want cloned.
    to_clone: BTreeSet<SnapshotId>,
    /// Which wishes said so.
    wished: BTreeMap<(DesktopId, u64), SnapshotId>,
    /// What is on record of it now.
    to_go: BTreeMap<DesktopId, Back>,
    /// The last wish for which each was put back, or could not be.
    answered: BTreeMap<DesktopId, u64>,
    /// Those for which it was.
    done: BTreeSet<(DesktopId, u64)>,
    broken: Option<String>,
}

impl Snapshots {
    fn broken(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// Somebody asks for the end of a snapshot.
    pub fn deletion_is_asked(&mut self, snapshot: SnapshotId) {
        self.unwanted.insert(snapshot);
    }

    /// Somebody asks for a desktop to be put back.
    pub fn back_is_asked(&mut self, desktop: DesktopId, snapshot: SnapshotId) {
        self.asked.insert((desktop, snapshot));
    }

    /// Somebody asks for a clone of a snapshot.
    pub fn clone_is_asked(&mut self, snapshot: SnapshotId) {
        self.to_clone.insert(snapshot);
    }

    /// A host has deleted a snapshot.
    pub fn deleted(&mut self, snapshot: SnapshotId) {
        if !self.condemned.contains(&snapshot) {
            self.broken(format!("{snapshot} is deleted, and nobody wanted that"));
        }
    }

    /// A desktop could not be put back, which its host says.
    pub fn not_back(&mut self, desktop: DesktopId, wish: u64) {
        let answered = self.answered.entry(desktop).or_default();
        *answered = wish.max(*answered);
    }

    /// The database is put back: what was wanted since is not known.
    pub(super) fn restore(&mut self) {
        self.to_go.clear();
    }
}

impl Checker {
    /// The snapshots that are on record of a desktop.
    #[must_use]
    pub fn snapshots_of(&self, desktop: DesktopId) -> Vec<SnapshotId> {
        let Ok(rows) = self.rows() else { return Vec::new() };
        rows.snapshots.iter().filter(|row| row.desktop_id == desktop).map(|row| row.id).collect()
    }

    /// A host has made a desktop of a snapshot: this was saved there then, and this open.
    pub fn cloned(&mut self, desktop: DesktopId, from: SnapshotId, saved: u64, open: u64) {
        if !self.snapshots.to_clone.contains(&from) {
            self.broken(format!("{desktop} is cloned from {from}, and nobody wanted that"));
        }
        self.personal.is_cloned(desktop, saved, open);
    }

    /// A host has put a desktop back for this wish: this was saved there then, and this open.
    pub fn went_back(&mut self, desktop: DesktopId, to: SnapshotId, wish: u64, saved: u64, open: u64) {
        let known = &mut self.snapshots;
        if known.wished.get(&(desktop, wish)) != Some(&to) {
            known.broken(format!("{desktop} is put back to {to} for wish {wish}, which did not say so"));
        }
        if !known.done.insert((desktop, wish)) {
            known.broken(format!("{desktop} is put back twice for wish {wish}"));
        }
        known.not_back(desktop, wish);
        self.personal.goes_back(desktop, saved, open);
    }
}

impl World {
    /// Whether everything holds that was promised of snapshots.
    pub(super) fn check_snapshots(&mut self, rows: &Rows) -> Result<(), String> {
        let known = &mut self.checker.snapshots;
        if let Some(broken) = known.broken.take() {
            return Err(broken);
        }
        for row in rows.snapshots.iter().filter(|row| row.deleted_at.is_some()) {
            known.condemned.insert(row.id);
            let wanted = rows.desktop(row.desktop_id).is_some_and(|d| d.is_wanted());
            holds!(
                row.scheduled || !wanted || known.unwanted.contains(&row.id),
                "{} is to be deleted, and nobody wants that",
                row.id
            );
        }
        for desktop in &rows.desktops {
            let (id, wish) = (desktop.id, desktop.desired_gen.unsigned_abs());
            if let Some(of) = desktop.origin_id.filter(|_| !desktop.held && desktop.is_wanted()) {
                let row = rows.snapshots.iter().find(|row| row.id == of);
                let kept = row.is_none_or(|row| row.deleted_at.is_none() || rows.is_gone(row.desktop_id));
                holds!(kept, "{id} is being cloned from {of}, which is to be deleted");
            }
            let Some(to) = desktop.back_to else {
                if let Some(back) = known.to_go.remove(&id).filter(|_| desktop.is_wanted()) {
                    let answered = known.answered.get(&id).is_some_and(|answered| *answered >= back.first);
                    holds!(answered, "{id} was to be put back to {}, which its host has not done", back.to);
                }
                continue;
            };
            holds!(known.asked.contains(&(id, to)), "{id} is to be put back to {to}, and nobody wants that");
            let row = rows.snapshots.iter().find(|row| row.id == to);
            let there = row.is_some_and(|row| row.deleted_at.is_none());
            holds!(there || !desktop.is_wanted(), "{id} is to be put back to {to}, which is to be deleted");
            if desktop.back_gen == desktop.desired_gen {
                known.wished.insert((id, wish), to);
            }
            let back = known.to_go.entry(id).or_insert(Back { to, first: wish });
            if back.to != to {
                *back = Back { to, first: wish };
            }
        }
        Ok(())
    }

    /// Whether each is as it should be when nothing has failed for long.
    pub(super) fn check_end_of_snapshots(&self, rows: &Rows) -> Result<(), String> {
        let now = BEGIN + self.now as i64;
        let recent = |row: &Snapshot| row.deleted_at.unwrap_or(row.created_at) + OBEYED > now;
        for row in rows.snapshots.iter().filter(|row| !recent(row)) {
            holds!(row.settled_at.is_some(), "{} is {:?} for long", row.id, row.state);
            if row.state != SnapshotState::Ready {
                continue;
            }
            let folder = self.hosts.iter().find_map(|host| host.disk.folders.get(&row.desktop_id));
            let snap = folder.and_then(|folder| folder.snapshots.get(&row.id));
            let Some(snap) = snap else {
                return Err(format!("{} is on record, and is not there", row.id));
            };
            holds!(row.taken_at == Some(snap.taken_at), "{} was taken at {}", row.id, snap.taken_at);
            holds!(row.memory == snap.open.is_some(), "{} has memory on record: {}", row.id, row.memory);
        }
        for (desktop, folder) in self.hosts.iter().flat_map(|host| &host.disk.folders) {
            let Some(row) = rows.desktop(*desktop).filter(|row| row.is_wanted()) else { continue };
            holds!(row.back_to.is_none(), "{desktop} is still to be put back to {:?}", row.back_to);
            for id in folder.snapshots.keys() {
                let row = rows.snapshots.iter().find(|row| row.id == *id);
                holds!(row.is_some(), "{id} of {desktop} is there, and is not on record");
            }
        }
        let kept = |row: &&Snapshot| {
            row.scheduled && row.deleted_at.is_none() && row.state == SnapshotState::Ready && !recent(row)
        };
        let mut of: BTreeMap<DesktopId, usize> = BTreeMap::new();
        rows.snapshots.iter().filter(kept).for_each(|row| *of.entry(row.desktop_id).or_default() += 1);
        let more = of.iter().find(|(_, there)| **there > KEPT_SNAPSHOTS as usize);
        holds!(more.is_none(), "more snapshots are kept than {KEPT_SNAPSHOTS}: {more:?}");
        Ok(())
    }
}
