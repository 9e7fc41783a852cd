//! The life of the virtual machine, from its fork or adoption to its end.
//!
//! ```text
//!           ┌─ one runs ──────────► adopt ─┐            ┌─ identity done ─► open the gate
//! launch ───┼─ none ran yet ──────► fork ──┼─► starting ┤                        │
//!           ├─ off, a later wish ─► boot ──┤            └─ identify ─────────────┴─► ready
//!           ├─ suspended, the same ► resume ┘
//!           └─ one ran, is gone ──► failed, or off where it persists
//!
//! suspend: what has changed of the guest goes to the disk, and it ends ─► suspended; where it does not, it goes on
//! failed: the fork or the identity failed, or the guest has ended; the status is served until an agent says stop
//! stop, in any state: stopping ─► the hypervisor is killed ─► stopped
//! power off: stopping ─► the guest powers off, or the hypervisor is killed ─► off
//! ```
//!
//! "Forked" is on the disk before the hypervisor starts, so a desktop is never forked twice: after a crash between the
//! two the guest counts as lost, which costs the user a new click, while a second guest could cost data.
//!
//! A desktop that persists has a disk of its user's from its first identity on. What ends its guest then is never a failure: it
//! is off, and boots once for each later wish of its agent. While it boots its user may type, because the identity that it waits for
//! is on its disk already.
//!
//! This knows nothing of viewers and agents, and of no hypervisor.

use crate::config::{DesktopConfig, Done};
use crate::desktop::{Desktop, Ending};
use crate::error::chain;
use crate::launch::{Forked, Launcher};
use crate::record;
use crate::snapshots;
use lucarne_control::desktop::{DesiredState, ForkTimings, Phase};
use lucarne_driver::{Button, InputEvent, Vm};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a fork that is under way may go on once the desktop is to be stopped. Ending it in the middle is possible
/// too, but leaves more to clear up.
const FORK_GRACE: Duration = Duration::from_secs(5);

/// A guest that dies while it is given its identity is seen to be dead within this, and then that is what is reported.
const DEATH_NOTICE: Duration = Duration::from_millis(500);

/// Time between the askings of a guest to power off. One that boots hears nothing, and a user may have said no.
const ASK_AGAIN: Duration = Duration::from_secs(20);

/// How long the recording may take to its end. The host agent kills this process a little later.
const RECORDING_END: Duration = Duration::from_secs(5);

/// Keys that change what others do: left and right Ctrl, Shift, Alt and Meta.
const MODIFIERS: [u32; 8] = [0x1d, 0x9d, 0x2a, 0x36, 0x38, 0xb8, 0xdb, 0xdc];

/// How a life is over.
enum Over {
    /// It was to be ended at once.
    Stopped,
    /// The guest is off, in this way; its disk is kept.
    Off(String),
    /// The guest is suspended, for this reason.
    Suspended(String),
    /// For this reason.
    Failed(String),
}

/// How a guest that does not run is to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    Fork,
    Boot,
    Resume,
}

/// One virtual machine's life.
pub(crate) struct Life<'a> {
    pub(crate) desktop: &'a Desktop,
    pub(crate) config: &'a DesktopConfig,
    pub(crate) dir: PathBuf,
    pub(crate) done: Done,
    pub(crate) launcher: &'a dyn Launcher,
}

impl Life<'_> {
    /// Lives it until an agent wants it stopped and it has ended, or until it is off. Mishaps are phases.
    pub(crate) async fn live(mut self) {
        let mut over = self.run().await;
        self.desktop.worker.make_way();
        self.desktop.gate.shut();
        self.desktop.clipboard.shut();
        if let Over::Failed(why) = over {
            tracing::error!(why, "the desktop failed");
            self.desktop.set_phase(Phase::Failed, why);
            over = match self.failed().await {
                Ending::Stop => Over::Stopped,
                Ending::PowerOff => Over::Off("it was powered off".into()),
            };
        }
        self.desktop.set_phase(Phase::Stopping, "the virtual machine is being ended");
        if let Some(vm) = self.desktop.vm() {
            vm.kill().await;
        }
        self.launcher.clear().await;
        if tokio::time::timeout(RECORDING_END, self.desktop.recording.finished()).await.is_err() {
            tracing::error!("the recording did not end in time; its last blocks may be missing");
        }
        match over {
            Over::Off(how) => {
                self.note_end(&how);
                self.desktop.set_phase(Phase::Off, how);
            }
            Over::Suspended(how) => self.desktop.set_phase(Phase::Suspended, how),
            Over::Stopped | Over::Failed(_) => {
                self.desktop.set_phase(Phase::Stopped, "the virtual machine has ended");
            }
        }
    }

    /// Waits until a desktop that failed is to be ended, and says how.
    async fn failed(&self) -> Ending {
        tokio::select! {
            biased;
            wanted = self.desktop.end_wanted() => wanted,
            never = self.desktop.refuse_suspends("it does not run: it has failed") => match never {},
        }
    }

    /// Returns when it is to be ended, or has ended.
    async fn run(&mut self) -> Over {
        let desktop = self.desktop;
        let vm = match self.launch().await {
            Ok(vm) => vm,
            Err(over) => return over,
        };
        desktop.set_vm(vm.clone());
        if self.done.booted && !self.done.cloned {
            desktop.gate.open(vm.clone());
        }
        let given = tokio::select! {
            biased;
            wanted = desktop.end_wanted() => return self.end(wanted, &vm).await,
            how = vm.ended() => return self.gone(how),
            // One that was taken over has its identity, and is suspended at once.
            never = desktop.refuse_suspends("it is still starting"), if !self.done.identified => match never {},
            given = self.give_identity(&vm) => given,
        };
        let mut detail = "the desktop runs".to_owned();
        if let Err(why) = given {
            if let Ok(how) = tokio::time::timeout(DEATH_NOTICE, vm.ended()).await {
                return self.gone(how);
            }
            if self.done.cloned {
                // It would be the twin of what it was cloned from. It is tried again with its next start.
                vm.kill().await;
                return Over::Off(why);
            }
            if !self.done.booted {
                // Without its own identity it would be its template's twin: it must not be used.
                vm.kill().await;
                return Over::Failed(why);
            }
            tracing::warn!(why, "the guest goes on with the identity of its disk");
            detail = format!("the desktop runs with the identity of its disk: {why}");
            if let Err(error) = vm.connect_network().await {
                tracing::warn!(error = chain(&error), "it stays without a network");
            }
        }
        desktop.gate.open(vm.clone());
        desktop.clipboard.open(vm.clone());
        if let Some(audio) = &desktop.audio {
            vm.connect_audio(audio.clone());
        }
        if desktop.status().borrow().refusals > 0 {
            detail = "it could not be suspended: it was still starting".into();
        }
        desktop.set_phase(Phase::Ready, detail);
        loop {
            tokio::select! {
                biased;
                wanted = desktop.end_wanted() => return self.end(wanted, &vm).await,
                how = vm.ended() => return self.gone(how),
                () = desktop.suspend_wanted() => {
                    if let Some(over) = self.suspend(&vm).await {
                        return over;
                    }
                }
            }
        }
    }

    /// Suspends a running guest; none where it goes on. Its viewers see its last picture meanwhile, and what they type waits.
    async fn suspend(&self, vm: &Arc<dyn Vm>) -> Option<Over> {
        let desktop = self.desktop;
        desktop.worker.make_way();
        desktop.gate.shut();
        let suspended = tokio::select! {
            biased;
            () = desktop.stop_wanted() => return Some(Over::Stopped),
            suspended = vm.suspend() => suspended,
        };
        let Err(error) = suspended else { return Some(Over::Suspended("it is suspended".into())) };
        if let Ok(how) = tokio::time::timeout(DEATH_NOTICE, vm.ended()).await {
            return Some(self.gone(how));
        }
        tracing::warn!(error = chain(&error), "the guest is not suspended and goes on");
        desktop.gate.open(vm.clone());
        desktop.refuse(&chain(&error));
        None
    }

    /// Whether the disk is its user's, and is there for a next guest.
    fn is_kept(&self) -> bool {
        self.config.persistent && self.done.made
    }

    /// The guest has ended by itself.
    fn gone(&self, how: String) -> Over {
        if self.is_kept() {
            Over::Off(how)
        } else {
            Over::Failed(format!("the virtual machine has ended: {how}"))
        }
    }

    /// There is no guest, for this reason.
    fn none(&self, why: String) -> Over {
        if self.launcher.is_suspended() {
            self.desktop.change(|status| status.unresumable = true);
            return Over::Suspended(format!("it could not be resumed: {why}"));
        }
        if self.is_kept() { Over::Off(why) } else { Over::Failed(why) }
    }

    /// Ends a running guest as it is wanted. Whatever is left of it, the caller kills.
    async fn end(&self, wanted: Ending, vm: &Arc<dyn Vm>) -> Over {
        if wanted == Ending::Stop {
            return Over::Stopped;
        }
        if !self.done.made {
            // It has not taken anything of its user's yet.
            return Over::Off("it was powered off before it was made".into());
        }
        self.desktop.worker.make_way();
        self.desktop.set_phase(Phase::Stopping, "it is being powered off");
        let asking = async {
            loop {
                if let Err(error) = vm.power_off().await {
                    tracing::warn!(error = chain(&error), "the guest cannot be asked to power off");
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        let limit = self.launcher.power_off_limit();
        tokio::select! {
            biased;
            () = self.desktop.stop_wanted() => Over::Stopped,
            _ = vm.ended() => Over::Off("it was powered off".into()),
            () = tokio::time::sleep(limit) => {
                let how = format!("it did not power off within {} s and was switched off", limit.as_secs());
                tracing::warn!(how, "the guest is killed");
                Over::Off(how)
            }
            () = asking => unreachable!("it is asked again and again"),
        }
    }

    /// Puts the guest's end on record. One that never had its identity leaves nothing: the next is forked.
    fn note_end(&mut self, how: &str) {
        if self.done.made {
            self.done.ended = Some(how.to_owned());
        } else if self.config.persistent {
            self.done = Done { back: self.done.back, ..Done::default() };
        }
        if let Err(error) = record::write_done(&self.dir, &self.done) {
            tracing::warn!(error = chain(&error), "how the guest ended is not on record");
        }
    }

    /// The running guest. Whatever it leaves running, the caller clears up.
    async fn launch(&mut self) -> Result<Arc<dyn Vm>, Over> {
        let desktop = self.desktop;
        let sink = desktop.picture.clone();
        let adopted = tokio::select! {
            adopted = self.launcher.adopt(sink.clone()) => adopted.map_err(|why| self.none(why))?,
            () = desktop.stop_wanted() => return Err(Over::Stopped),
        };
        if let Some(vm) = adopted {
            tracing::info!("a running virtual machine was taken over");
            release_leftovers(vm.as_ref());
            if self.done.qemu_version.is_empty() {
                // An earlier build started it and did not write this down: by the version that it was told to take.
                self.done.qemu_version.clone_from(&self.config.qemu_version);
                if let Err(error) = record::write_done(&self.dir, &self.done) {
                    tracing::warn!(error = chain(&error), "the version of QEMU is not on record");
                }
            }
            return Ok(vm);
        }
        // Where a guest ran when this process began, what somebody was killed over has not been finished yet.
        snapshots::settle_layers(&self.dir).map_err(|error| self.none(chain(&error)))?;
        let suspended = self.launcher.is_suspended();
        if desktop.is_ending() && !suspended {
            return Err(Over::Off("it was powered off".into()));
        }
        let begin = self.begin()?;
        let resumed = begin == Begin::Resume;
        self.done = Done {
            forked: true,
            identified: resumed && self.done.identified,
            made: self.done.made,
            cloned: self.done.cloned,
            started: self.config.start,
            booted: begin == Begin::Boot || resumed && self.done.booted,
            host_boot: record::host_boot(),
            qemu_version: self.config.qemu_version.clone(),
            back: self.done.back,
            ..Done::default()
        };
        record::write_done(&self.dir, &self.done).map_err(|e| self.none(chain(&e)))?;
        if begin != Begin::Fork {
            // Those of the guest before.
            desktop.change(|status| status.timings = ForkTimings::default());
        }
        let start = match begin {
            Begin::Fork => self.launcher.fork(sink),
            Begin::Boot => self.launcher.boot(sink),
            Begin::Resume => self.launcher.resume(sink),
        };
        tokio::pin!(start);
        let forked = tokio::select! {
            forked = &mut start => forked.map_err(|why| self.none(why))?,
            // One that is resumed has to come up before it can power off.
            wanted = desktop.end_wanted(), if !resumed => {
                desktop.set_phase(Phase::Stopping, "the fork is being ended");
                let _ = tokio::time::timeout(FORK_GRACE, &mut start).await;
                return Err(match wanted {
                    Ending::Stop => Over::Stopped,
                    Ending::PowerOff => Over::Off("it was powered off before it ran".into()),
                });
            }
            () = desktop.stop_wanted() => {
                desktop.set_phase(Phase::Stopping, "what begins is being ended");
                let _ = tokio::time::timeout(FORK_GRACE, &mut start).await;
                return Err(Over::Stopped);
            }
        };
        self.note_steps(&forked);
        if resumed {
            release_leftovers(forked.vm.as_ref());
            let vm = forked.vm.clone();
            // Its user need not wait for it.
            tokio::spawn(async move {
                if let Err(error) = vm.wake().await {
                    tracing::warn!(error = chain(&error), "the guest's clock may be wrong");
                }
            });
        }
        Ok(forked.vm)
    }

    /// How a guest that does not run begins; how it is over where it does not.
    fn begin(&self) -> Result<Begin, Over> {
        let done = &self.done;
        if !done.forked {
            if self.config.origin.is_some() {
                return Err(Over::Failed("what it is cloned from is not copied yet".into()));
            }
            return Ok(Begin::Fork);
        }
        if self.launcher.is_suspended() {
            // That it is suspended shows that it has not run for this wish, even where a process before has begun to resume it.
            let asked = self.config.start == self.config.wish && self.config.state != DesiredState::Suspended;
            if self.config.start <= done.started && !asked {
                return Err(Over::Suspended("it is suspended".into()));
            }
            let (wrote, here) = (&done.qemu_version, &self.config.qemu_version);
            if wrote != here {
                let why = format!(
                    "it could not be resumed: it was suspended by QEMU {wrote}, and its host has {here} now; power it off, and it boots"
                );
                self.desktop.change(|status| status.unresumable = true);
                return Err(Over::Suspended(why));
            }
            return Ok(Begin::Resume);
        }
        if !self.is_kept() {
            let why = "the virtual machine has ended: it does not run any more; log off for a fresh one";
            return Err(Over::Failed(why.into()));
        }
        if self.config.start > done.started {
            return Ok(Begin::Boot);
        }
        Err(Over::Off(match &done.ended {
            Some(how) => how.clone(),
            None if done.host_boot != record::host_boot() => "its host was started again".into(),
            None => "QEMU ended: it does not run any more".into(),
        }))
    }

    fn note_steps(&self, forked: &Forked) {
        let since = |at| Some(self.desktop.since_request(at));
        self.desktop.change(|status| {
            status.timings.spawned_ms = since(forked.spawned);
            status.timings.loaded_ms = forked.loaded.and_then(since);
            status.timings.running_ms = since(forked.running);
            let booted = self.done.booted;
            let identified = self.done.identified;
            status.detail = match (identified, booted) {
                _ if self.done.cloned => "the clone gets its identity",
                (true, _) => "the guest goes on where it was suspended",
                (false, true) => "the guest boots",
                (false, false) => "the guest gets its identity",
            }
            .into();
        });
    }

    async fn give_identity(&mut self, vm: &Arc<dyn Vm>) -> Result<(), String> {
        if self.done.identified {
            return Ok(());
        }
        vm.identify(&self.config.identity).await.map_err(|e| chain(&e))?;
        if let Some(home) = &self.config.home {
            self.desktop.change(|status| status.detail = "its home disk is mounted".into());
            vm.mount_home(home.fresh).await.map_err(|e| chain(&e))?;
        }
        vm.connect_network().await.map_err(|e| chain(&e))?;
        let at = Some(self.desktop.since_request(Instant::now()));
        self.desktop.change(|status| status.timings.identity_ms = at);
        self.done.identified = true;
        self.done.timings = self.desktop.status().borrow().timings;
        let (dir, mut done) = (self.dir.clone(), self.done.clone());
        (done.made, done.cloned) = (true, false);
        let written = tokio::task::spawn_blocking(move || {
            record::write_done(&dir, &done).inspect_err(|error| {
                tracing::warn!(error = chain(error), "the guest's identity is not on record");
            })
        });
        // What its user does from now on is kept only if this is on the disk. Of a desktop that does not persist it is not waited for:
        // if it gets lost, the next process only gives the identity again.
        if self.config.persistent && (self.done.cloned || !self.done.made) {
            written.await.map_err(|e| chain(&e))?.map_err(|e| chain(&e))?;
        }
        (self.done.made, self.done.cloned) = (true, false);
        Ok(())
    }
}

/// Releases what the viewers of the former process may have held when it was killed.
fn release_leftovers(vm: &dyn Vm) {
    for qnum in MODIFIERS {
        vm.input(InputEvent::Key { qnum, down: false });
    }
    for button in [Button::Left, Button::Middle, Button::Right] {
        vm.input(InputEvent::Button { button, down: false });
    }
}
