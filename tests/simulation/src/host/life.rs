//! The lives of desktops on their host, as its agent and their processes live them.
//!
//! ```text
//! Begin ► Folder ► Act ─┬─ running ► Boot ► Ready ─┬─ it ends by itself ► off, or failed where nothing is kept
//!                  ▲    └─ off ────► Rest          │
//!                  └── Change: a later wish ───────┘                      End, at any point: Gone
//! ```
//!
//! A wish is on the disk before it is acted on, and a start before the guest runs: an agent that is started again goes on from
//! there. A desktop's process outlives the agent, so a boot under way ends only with the machine.

use super::disk::{Folder, Wanted};
use super::{Guest, Suspended, seen};
use crate::world::{Event, World};
use lucarne_control::DesktopId;
use lucarne_control::desktop::Phase;
use std::collections::BTreeMap;

/// What a host says of a guest that stays suspended though it was to go on.
pub const NOT_RESUMED: &str = "it could not be resumed";

/// What a desktop does next on its host.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Its folder is made.
    Folder(DesktopId, u64),
    /// The last wish is acted on.
    Act(DesktopId, u64),
    /// Its guest is started, for this wish and in this run of its host's machine.
    Boot(DesktopId, u64, u64, u64),
    /// It is ready.
    Ready(DesktopId, u64),
    /// Its guest is found to have ended.
    Over(DesktopId, u64),
    /// It is off or suspended, by this wish, or goes on because it cannot be suspended.
    Rest(DesktopId, u64, u64),
    /// It is put back to a snapshot, for this wish.
    Back(DesktopId, u64, u64),
    /// What it is cloned from is copied.
    Copy(DesktopId, u64),
    /// It is gone.
    Gone(DesktopId, u64),
}

impl Step {
    fn of(self) -> (DesktopId, u64) {
        match self {
            Self::Folder(desktop, generation)
            | Self::Act(desktop, generation)
            | Self::Copy(desktop, generation)
            | Self::Boot(desktop, generation, ..)
            | Self::Ready(desktop, generation)
            | Self::Over(desktop, generation)
            | Self::Rest(desktop, generation, _)
            | Self::Back(desktop, generation, _)
            | Self::Gone(desktop, generation) => (desktop, generation),
        }
    }
}

/// What the agent is at with a desktop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Task {
    /// The generation.
    pub generation: u64,
    /// It is being destroyed.
    pub ending: bool,
    /// What was last wanted.
    pub told: Wanted,
    /// The wish that is acted on, which everything that is reported is about.
    pub acting: u64,
    /// It is being powered off, suspended or put back, which is seen through before a later wish is looked at.
    pub powering_off: bool,
}

impl World {
    /// A desktop on a host takes its next step.
    pub fn desktop_steps(&mut self, h: usize, life: u64, step: Step) {
        self.checker.look();
        let host = &mut self.hosts[h];
        let (desktop, generation) = step.of();
        if let Step::Boot(.., wish, run) = step {
            if host.run == run && host.disk.folders.get(&desktop).is_some_and(|f| f.generation == generation)
            {
                self.boots(h, desktop, wish);
            }
            return;
        }
        if !host.agent || host.life != life {
            return;
        }
        let Some(task) = host.tasks.get_mut(&desktop) else { return };
        if task.generation != generation || task.ending != matches!(step, Step::Gone(..)) {
            return;
        }
        match step {
            Step::Folder(..) => {
                let told = task.told;
                let volume = self.number();
                let folder = Folder {
                    generation,
                    wanted: told,
                    start: 0,
                    started: 0,
                    made: false,
                    volume,
                    saved: 0,
                    suspended: None,
                    origin: told.origin,
                    snapshots: BTreeMap::new(),
                    tip: None,
                    back: 0,
                };
                let before = self.hosts[h].disk.folders.insert(desktop, folder);
                if let Some(before) = before.filter(Folder::is_kept) {
                    let volume = before.volume;
                    self.checker.broken(format!("{desktop} is made over the disk {volume} that it has"));
                }
                self.act(h, desktop);
                if told.origin.is_some() {
                    self.is_copied(h, desktop, generation);
                }
            }
            Step::Copy(..) => self.is_copied(h, desktop, generation),
            Step::Act(..) => self.act(h, desktop),
            Step::Rest(_, _, wish) => {
                task.powering_off = false;
                let later = task.told.wish != wish;
                self.rests(h, desktop);
                if later {
                    self.act(h, desktop);
                }
            }
            Step::Back(_, _, wish) => {
                self.goes_back(h, desktop, wish);
                self.act(h, desktop);
            }
            Step::Ready(..) => {
                let powering_off = task.powering_off;
                let Some(guest) = host.machines.get_mut(&desktop) else { return };
                guest.up = true;
                if let Some(folder) = host.disk.folders.get_mut(&desktop) {
                    folder.made = true;
                }
                if !powering_off {
                    self.observe(h, seen(desktop, generation, Phase::Ready, ""));
                }
            }
            Step::Over(..) => {
                let gone = !host.machines.contains_key(&desktop);
                let folder = host.disk.folders.get(&desktop);
                if gone && folder.is_some_and(|folder| !folder.is_to_start() && folder.wanted.running) {
                    self.is_over(h, desktop, "its host was started again");
                }
            }
            Step::Gone(..) => {
                host.machines.remove(&desktop);
                host.disk.folders.remove(&desktop);
                host.tasks.remove(&desktop);
                self.count("desktops destroyed");
                self.observe(h, seen(desktop, generation, Phase::Stopped, ""));
            }
            Step::Boot(..) => {}
        }
    }

    /// The last wish for a desktop is acted on, once it is on the disk.
    pub(super) fn act(&mut self, h: usize, desktop: DesktopId) {
        let host = &mut self.hosts[h];
        let (life, run) = (host.life, host.run);
        let Some(task) = host.tasks.get_mut(&desktop).filter(|t| !t.ending && !t.powering_off) else {
            return;
        };
        let Some(folder) = host.disk.folders.get_mut(&desktop) else { return };
        let (generation, told) = (task.generation, task.told);
        task.acting = told.wish;
        folder.wanted = told;
        if folder.origin.is_some() {
            // Nothing is done before that is there.
            return self.observe(h, seen(desktop, generation, Phase::Preparing, "it is being copied"));
        }
        if folder.is_to_go_back().is_some() {
            task.powering_off = true;
            self.is_to_go_back(h, desktop, generation);
            let delay = self.random.within(50, 5_000);
            return self.after(delay, Event::Desktop(h, life, Step::Back(desktop, generation, told.wish)));
        }
        let guest = host.machines.get(&desktop).map(|guest| guest.up);
        match guest {
            _ if told.persistent && !told.running => {
                task.powering_off = true;
                self.observe(h, seen(desktop, generation, Phase::Stopping, ""));
                let delay = if guest.is_some() { self.random.within(50, 10_000) } else { 5 };
                self.after(delay, Event::Desktop(h, life, Step::Rest(desktop, generation, told.wish)));
            }
            Some(up) => {
                let phase = if up { Phase::Ready } else { Phase::Starting };
                self.observe(h, seen(desktop, generation, phase, ""));
            }
            None => {
                folder.start = told.wish;
                let delay = self.random.within(5, 400);
                self.after(delay, Event::Desktop(h, life, Step::Boot(desktop, generation, told.wish, run)));
            }
        }
    }

    /// A desktop is off, or suspended, or goes on because it cannot be.
    fn rests(&mut self, h: usize, desktop: DesktopId) {
        let refused = self.random.one_in(6);
        let host = &mut self.hosts[h];
        let Some(folder) = host.disk.folders.get_mut(&desktop) else { return };
        let generation = folder.generation;
        if !folder.wanted.suspended {
            host.machines.remove(&desktop);
            // It is taken up before, so that it can power off.
            folder.suspended = None;
            return self.observe(h, seen(desktop, generation, Phase::Off, ""));
        }
        match host.machines.get(&desktop).copied() {
            Some(guest) if !guest.up || refused => {
                self.count("suspensions that could not be done");
                let phase = if guest.up { Phase::Ready } else { Phase::Starting };
                self.observe(h, seen(desktop, generation, phase, "it could not be suspended"));
            }
            Some(guest) => {
                host.machines.remove(&desktop);
                folder.suspended = Some(Suspended { open: guest.open, saved: folder.saved });
                self.count("personal desktops suspended");
                self.note(|| format!("{desktop} is suspended on host-{h}"));
                self.observe(h, seen(desktop, generation, Phase::Suspended, ""));
            }
            None => {
                let phase = if folder.suspended.is_some() { Phase::Suspended } else { Phase::Off };
                self.observe(h, seen(desktop, generation, phase, ""));
            }
        }
    }

    /// A desktop's process starts its guest, if it is still to.
    fn boots(&mut self, h: usize, desktop: DesktopId, wish: u64) {
        let host = &mut self.hosts[h];
        let (life, runs) = (host.life, host.machines.contains_key(&desktop));
        let Some(folder) = host.disk.folders.get_mut(&desktop) else { return };
        let Folder { generation, volume, .. } = *folder;
        let persistent = folder.wanted.persistent;
        if persistent && (folder.start != wish || !folder.wanted.running) {
            // It was powered off meanwhile, or is to run for a later wish.
            return;
        }
        if runs {
            return self.observe(h, seen(desktop, generation, Phase::Ready, ""));
        }
        // One that ended before there was anything to keep is not forked again.
        let spent = persistent && folder.started > 0 && !folder.made;
        folder.started = wish;
        if folder.suspended.is_some() && self.trouble && self.random.one_in(20) {
            self.count("desktops that could not be resumed");
            return self.observe(h, seen(desktop, generation, Phase::Suspended, NOT_RESUMED));
        }
        if spent || self.trouble && self.random.one_in(40) {
            self.count("desktops that could not be started");
            return self.is_over(h, desktop, "it cannot be started");
        }
        self.count(if persistent { "personal desktops started" } else { "desktops made" });
        if persistent {
            self.note(|| format!("{desktop} is started on host-{h} for wish {wish}"));
            self.checker.personal.starts(desktop, volume, wish);
        }
        let (saved, resumed) = match self.hosts[h].disk.folders.get_mut(&desktop) {
            Some(folder) => (folder.saved, folder.suspended.take()),
            None => (0, None),
        };
        if let Some(resumed) = resumed {
            self.count("personal desktops resumed");
            if resumed.saved != saved {
                let then = resumed.saved;
                self.checker
                    .broken(format!("{desktop} goes on over a disk with {saved} that had {then} then"));
            }
        }
        let open = resumed.map_or(0, |resumed| resumed.open);
        self.checker.personal.opens(desktop, open);
        self.hosts[h].machines.insert(desktop, Guest { generation, volume, up: false, open });
        self.observe(h, seen(desktop, generation, Phase::Starting, ""));
        let delay = self.random.within(50, 1_500);
        self.after(delay, Event::Desktop(h, life, Step::Ready(desktop, generation)));
    }

    /// A desktop's guest does not run, by nobody's wish: the agent says so, now or once it is there again.
    pub(super) fn is_over(&mut self, h: usize, desktop: DesktopId, why: &str) {
        self.hosts[h].machines.remove(&desktop);
        let Some(folder) = self.hosts[h].disk.folders.get(&desktop).cloned() else { return };
        let phase = if folder.is_kept() { Phase::Off } else { Phase::Failed };
        if folder.wanted.persistent {
            self.checker.personal.guest_ended(desktop, folder.wanted.wish, phase == Phase::Failed);
        } else {
            self.checker.excused.insert(desktop);
        }
        let powering_off = self.hosts[h].tasks.get(&desktop).is_some_and(|task| task.powering_off);
        if !powering_off {
            self.observe(h, seen(desktop, folder.generation, phase, why));
        }
    }

    /// A virtual machine dies.
    pub fn machine_dies(&mut self, h: usize) {
        let all: Vec<_> = self.hosts[h].machines.keys().copied().collect();
        let Some(desktop) = self.random.pick(&all).filter(|_| self.hosts[h].agent) else { return };
        self.note(|| format!("{desktop} dies on host-{h}"));
        self.count("desktops that died");
        self.checker.look();
        self.is_over(h, desktop, "it died");
    }

    /// A user powers off their desktop from within, where it runs.
    pub fn powered_off_from_within(&mut self, h: usize, desktop: DesktopId) {
        if self.hosts[h].machines.get(&desktop).is_some_and(|guest| guest.up) {
            self.note(|| format!("{desktop} is powered off from within"));
            self.count("personal desktops powered off from within");
            self.checker.look();
            self.is_over(h, desktop, "");
        }
    }
}
