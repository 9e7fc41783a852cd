//! The life of the virtual machine, from its fork or adoption to its end.
//!
//! ```text
//!           ┌─ one runs ──────────► adopt ─┐            ┌─ identity done ─► open the gate
//! launch ───┼─ none ran yet ──────► fork ──┴─► starting ┤                        │
//!           └─ one ran, is gone ──► failed              └─ identify ─────────────┴─► ready
//!
//! failed: the fork or the identity failed, or the guest has ended; the status is served until an agent says stop
//! stop, in any state: stopping ─► the hypervisor is killed ─► stopped
//! ```
//!
//! "Forked" is on the disk before the hypervisor starts, so a desktop is never forked twice: after a crash between the
//! two the guest counts as lost, which costs the user a new click, while a second guest could cost data. It knows
//! nothing of viewers and agents, and of no hypervisor.

use crate::config::{DesktopConfig, Done};
use crate::desktop::Desktop;
use crate::error::chain;
use crate::launch::{Forked, Launcher};
use crate::record;
use lucarne_control::desktop::Phase;
use lucarne_driver::{Button, InputEvent, Vm};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a fork that is under way may go on once the desktop is to be stopped. Ending it in the middle is possible
/// too, but leaves more to clear up.
const FORK_GRACE: Duration = Duration::from_secs(5);

/// A guest that dies while it is given its identity is seen to be dead within this, and then that is what is reported.
const DEATH_NOTICE: Duration = Duration::from_millis(500);

/// How long the recording may take to its end. The host agent kills this process a little later.
const RECORDING_END: Duration = Duration::from_secs(5);

/// Keys that change what others do: left and right Ctrl, Shift, Alt and Meta.
const MODIFIERS: [u32; 8] = [0x1d, 0x9d, 0x2a, 0x36, 0x38, 0xb8, 0xdb, 0xdc];

/// One virtual machine's life.
pub(crate) struct Life<'a> {
    pub(crate) desktop: &'a Desktop,
    pub(crate) config: &'a DesktopConfig,
    pub(crate) dir: PathBuf,
    pub(crate) done: Done,
    pub(crate) launcher: &'a dyn Launcher,
}

impl Life<'_> {
    /// Lives it until an agent wants it stopped and it has ended. Mishaps are phases.
    pub(crate) async fn live(mut self) {
        let outcome = self.run().await;
        self.desktop.gate.shut();
        self.desktop.clipboard.shut();
        if let Err(why) = outcome {
            tracing::error!(why, "the desktop failed");
            self.desktop.set_phase(Phase::Failed, why);
            self.desktop.stop_wanted().await;
        }
        self.desktop.set_phase(Phase::Stopping, "the virtual machine is being ended");
        if let Some(vm) = self.desktop.vm() {
            vm.kill().await;
        }
        self.launcher.clear().await;
        if tokio::time::timeout(RECORDING_END, self.desktop.recording.finished()).await.is_err() {
            tracing::error!("the recording did not end in time; its last blocks may be missing");
        }
        self.desktop.set_phase(Phase::Stopped, "the virtual machine has ended");
    }

    /// Returns when it is to be stopped, or with the reason when it failed.
    async fn run(&mut self) -> Result<(), String> {
        let desktop = self.desktop;
        let Some(vm) = self.launch().await? else { return Ok(()) };
        desktop.set_vm(vm.clone());
        let gone = |how: String| format!("the virtual machine has ended: {how}");
        tokio::select! {
            biased;
            () = desktop.stop_wanted() => return Ok(()),
            how = vm.ended() => return Err(gone(how)),
            given = self.give_identity(&vm) => if let Err(why) = given {
                if let Ok(how) = tokio::time::timeout(DEATH_NOTICE, vm.ended()).await {
                    return Err(gone(how));
                }
                // Without its own identity it would be its template's twin: it must not be used.
                vm.kill().await;
                return Err(why);
            },
        }
        desktop.gate.open(vm.clone());
        desktop.clipboard.open(vm.clone());
        if let Some(audio) = &desktop.audio {
            vm.connect_audio(audio.clone());
        }
        desktop.set_phase(Phase::Ready, "the desktop runs");
        tokio::select! {
            biased;
            () = desktop.stop_wanted() => Ok(()),
            how = vm.ended() => Err(gone(how)),
        }
    }

    /// The running guest; none when it is to be stopped. Whatever it leaves running, the caller clears up.
    async fn launch(&mut self) -> Result<Option<Arc<dyn Vm>>, String> {
        let sink = self.desktop.picture.clone();
        let adopted = tokio::select! {
            adopted = self.launcher.adopt(sink.clone()) => adopted?,
            () = self.desktop.stop_wanted() => return Ok(None),
        };
        if let Some(vm) = adopted {
            tracing::info!("a running virtual machine was taken over");
            release_leftovers(vm.as_ref());
            return Ok(Some(vm));
        }
        if self.done.forked {
            return Err(
                "the virtual machine has ended: it does not run any more; log off for a fresh one".into()
            );
        }
        self.done.forked = true;
        record::write_done(&self.dir, &self.done).map_err(|e| chain(&e))?;
        let fork = self.launcher.fork(sink);
        tokio::pin!(fork);
        let forked = tokio::select! {
            forked = &mut fork => forked?,
            () = self.desktop.stop_wanted() => {
                self.desktop.set_phase(Phase::Stopping, "the fork is being ended");
                let _ = tokio::time::timeout(FORK_GRACE, &mut fork).await;
                return Ok(None);
            }
        };
        self.note_steps(&forked);
        Ok(Some(forked.vm))
    }

    fn note_steps(&self, forked: &Forked) {
        let since = |at| Some(self.desktop.since_request(at));
        self.desktop.change(|status| {
            status.timings.spawned_ms = since(forked.spawned);
            status.timings.loaded_ms = since(forked.loaded);
            status.timings.running_ms = since(forked.running);
            status.detail = "the guest gets its identity".into();
        });
    }

    async fn give_identity(&mut self, vm: &Arc<dyn Vm>) -> Result<(), String> {
        if self.done.identified {
            return Ok(());
        }
        vm.identify(&self.config.identity).await.map_err(|e| chain(&e))?;
        vm.connect_network().await.map_err(|e| chain(&e))?;
        let at = Some(self.desktop.since_request(Instant::now()));
        self.desktop.change(|status| status.timings.identity_ms = at);
        self.done.identified = true;
        self.done.timings = self.desktop.status().borrow().timings;
        // Not waited for: if it gets lost, the next process only gives the identity again.
        let (dir, done) = (self.dir.clone(), self.done.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = record::write_done(&dir, &done) {
                tracing::warn!(error = chain(&error), "the guest's identity is not on record");
            }
        });
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
