//! What the parts of one desktop process share: the picture, the input gate, the clipboard, the sound, the status, and
//! the wish to end.
//!
//! ```text
//!             ┌─► agents   (status out, the wish to end in)
//! Desktop ────┼─► viewers  (picture and sound out, input in, copied text both ways)
//!             └─► life     (the only one that changes the phase)
//! ```
//!
//! It holds state and starts nothing.

use crate::activity::Activity;
use crate::audio::Audio;
use crate::clipboard::Clipboard;
use crate::config::DesktopConfig;
use crate::control::Status;
use crate::gate::InputGate;
use crate::picture::Picture;
use crate::recorder::Recording;
use crate::snapshots::Worker;
use crate::viewer::Traces;
use lucarne_control::desktop::{ForkTimings, Phase};
use lucarne_control::ids::{DesktopId, PoolId};
use lucarne_control::spec::RecordingMode;
use lucarne_driver::Vm;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// How a guest is to end; the later is the stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// As its user would end it, and its disk is kept.
    PowerOff,
    /// At once.
    Stop,
}

/// One desktop, as its process sees it.
pub(crate) struct Desktop {
    pub(crate) id: DesktopId,
    pub(crate) generation: u64,
    /// The pool, for what is recorded.
    pub(crate) pool: Option<PoolId>,
    /// The guest's host name, which viewers show as the window's title; it says whether the desktop is recorded.
    pub(crate) name: String,
    pub(crate) picture: Arc<Picture>,
    pub(crate) gate: InputGate,
    pub(crate) clipboard: Arc<Clipboard>,
    /// What the guest plays, where the pool's policy lets viewers hear it.
    pub(crate) audio: Option<Arc<Audio>>,
    pub(crate) traces: Traces,
    pub(crate) activity: Activity,
    pub(crate) recording: Recording,
    vm: watch::Sender<Option<Arc<dyn Vm>>>,
    status: watch::Sender<Status>,
    ending: watch::Sender<Option<Ending>>,
    suspending: watch::Sender<bool>,
    pub(crate) worker: Worker,
    requested_at_ms: f64,
}

impl Desktop {
    pub(crate) fn new(config: &DesktopConfig, timings: ForkTimings) -> Arc<Self> {
        let status = Status {
            phase: Phase::Starting,
            detail: "starting".into(),
            picture: false,
            viewers: 0,
            timings,
            refusals: 0,
            unresumable: false,
            work: None,
        };
        let name = match config.recording.mode {
            RecordingMode::Off => config.identity.hostname.clone(),
            RecordingMode::On | RecordingMode::Required => format!("{} (recorded)", config.identity.hostname),
        };
        Arc::new(Self {
            id: config.desktop,
            generation: config.generation,
            pool: config.pool,
            name,
            picture: Picture::new(),
            gate: InputGate::closed(),
            clipboard: Arc::new(Clipboard::new(config.clipboard)),
            audio: config.audio.then(Arc::default),
            traces: Traces::default(),
            activity: Activity::default(),
            recording: Recording::new(config.recording),
            vm: watch::Sender::new(None),
            status: watch::Sender::new(status),
            ending: watch::Sender::new(None),
            suspending: watch::Sender::new(false),
            worker: Worker::default(),
            requested_at_ms: config.requested_at_ms,
        })
    }

    /// The guest, if it runs yet.
    pub(crate) fn vm(&self) -> Option<Arc<dyn Vm>> {
        self.vm.borrow().clone()
    }

    /// Waits until it runs.
    pub(crate) async fn running(&self) -> Arc<dyn Vm> {
        let mut vm = self.vm.subscribe();
        loop {
            if let Some(vm) = &*vm.borrow_and_update() {
                return vm.clone();
            }
            if vm.changed().await.is_err() {
                // Cannot be: the sender lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The guest runs. It never becomes another one.
    pub(crate) fn set_vm(&self, vm: Arc<dyn Vm>) {
        self.vm.send_replace(Some(vm));
    }

    /// The status and its changes.
    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Changes the status; agents are told when it is another one afterwards.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        });
    }

    /// The phase and what is going on, or why it failed.
    pub(crate) fn set_phase(&self, phase: Phase, detail: impl Into<String>) {
        let detail = detail.into();
        tracing::info!(phase = phase.as_str(), detail, "the desktop's phase");
        self.change(|status| {
            status.phase = phase;
            status.detail = detail;
        });
    }

    /// Milliseconds from the request until `at`.
    pub(crate) fn since_request(&self, at: Instant) -> f64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = now.as_secs_f64() * 1000.0 - at.elapsed().as_secs_f64() * 1000.0 - self.requested_at_ms;
        // Microseconds are noise in a wall clock.
        (ms * 1000.0).round() / 1000.0
    }

    /// An agent wants the guest ended.
    pub(crate) fn end(&self, how: Ending) {
        self.ending.send_modify(|ending| *ending = (*ending).max(Some(how)));
    }

    /// An agent wants the guest suspended.
    pub(crate) fn suspend(&self) {
        self.suspending.send_replace(true);
    }

    /// Waits until one does.
    pub(crate) async fn suspend_wanted(&self) {
        // The sender lives as long as `self`.
        let _ = self.suspending.subscribe().wait_for(|wanted| *wanted).await;
    }

    /// It could not be suspended, and goes on.
    pub(crate) fn refuse(&self, why: &str) {
        self.suspending.send_replace(false);
        self.change(|status| {
            status.refusals += 1;
            status.detail = format!("it could not be suspended: {why}");
        });
    }

    /// As long as it cannot be suspended, for this reason.
    pub(crate) async fn refuse_suspends(&self, why: &str) -> Infallible {
        loop {
            self.suspend_wanted().await;
            self.refuse(why);
        }
    }

    /// Whether one wants it ended or suspended.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.is_ending() || *self.suspending.borrow()
    }

    /// Whether one wants it ended.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.borrow().is_some()
    }

    /// Waits until one does, and says how.
    pub(crate) async fn end_wanted(&self) -> Ending {
        let wanted = self.ending.subscribe().wait_for(Option::is_some).await.ok().and_then(|ending| *ending);
        match wanted {
            Some(ending) => ending,
            // Cannot be: the sender lives as long as `self`.
            None => std::future::pending().await,
        }
    }

    /// Waits until one wants it ended at once.
    pub(crate) async fn stop_wanted(&self) {
        // The sender lives as long as `self`.
        let _ = self.ending.subscribe().wait_for(|ending| *ending == Some(Ending::Stop)).await;
    }

    /// Waits until the phase is `stopped`, `off` or `suspended`, after which there is none.
    pub(crate) async fn stopped(&self) {
        let over = |s: &Status| s.phase == Phase::Stopped || s.phase.is_at_rest();
        let _ = self.status.subscribe().wait_for(over).await;
    }

    /// Waits until there is nothing to view any more, or nobody may, and says why, for the viewer.
    pub(crate) async fn ended(&self) -> String {
        tokio::select! {
            biased;
            why = self.guest_ended() => why,
            why = self.recording.lost() => why,
        }
    }

    /// Waits until there is no guest any more, and says why.
    pub(crate) async fn guest_ended(&self) -> String {
        let over = |s: &Status| !matches!(s.phase, Phase::Starting | Phase::Ready);
        match self.status.subscribe().wait_for(over).await {
            Ok(status) => status.detail.clone(),
            Err(_) => "the desktop process ends".into(),
        }
    }
}
