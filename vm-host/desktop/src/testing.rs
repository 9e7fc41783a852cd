//! What the tests stand on: a guest that records what it is given, and a canvas to draw its frames on. The QEMU driver
//! behind the same traits is tested end to end elsewhere.

use crate::config::DesktopConfig;
use crate::launch::{Forked, Launcher};
use async_trait::async_trait;
use lucarne_control::SnapshotId;
use lucarne_control::desktop::{DesiredState, Identity};
use lucarne_control::ids::DesktopId;
use lucarne_control::spec::{ClipboardPolicy, NetworkPolicy, RecordingPolicy};
use lucarne_driver::{
    AudioSink, Capabilities, ClipboardSink, DisplayArea, DisplaySink, Frame, InputEvent, MAX_DISPLAYS,
    Origin, Overseer, SnapshotWanted, Vm, VmError,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The longest that a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition that something else brings about.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A guest that exists only here.
pub(crate) struct FakeVm {
    inputs: Mutex<Vec<InputEvent>>,
    /// What was done to it, in order.
    log: Mutex<Vec<String>>,
    identity: watch::Sender<Option<Result<(), String>>>,
    ended: watch::Sender<Option<String>>,
    /// The texts that it was offered, in order.
    offered: Mutex<Vec<String>>,
    /// Where it tells what it copies.
    clipboard: Mutex<Option<Arc<dyn ClipboardSink>>>,
    /// Where it plays to.
    audio: Mutex<Option<Arc<dyn AudioSink>>>,
    capabilities: Capabilities,
    /// It does not power off when it is asked to.
    pub(crate) stubborn: AtomicBool,
    /// Why it does not mount its user's disk.
    pub(crate) no_home: Mutex<Option<String>>,
    /// Why it cannot be suspended.
    pub(crate) no_suspend: Mutex<Option<String>>,
    /// What is done to its snapshots takes as long as this is set.
    pub(crate) slow: AtomicBool,
}

impl FakeVm {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inputs: Mutex::default(),
            log: Mutex::default(),
            identity: watch::Sender::new(None),
            ended: watch::Sender::new(None),
            offered: Mutex::default(),
            clipboard: Mutex::default(),
            audio: Mutex::default(),
            capabilities: Capabilities {
                shared_framebuffer: true,
                displays: MAX_DISPLAYS,
                identity: true,
                clipboard: true,
                audio: true,
            },
            stubborn: AtomicBool::new(false),
            no_home: Mutex::default(),
            no_suspend: Mutex::default(),
            slow: AtomicBool::new(false),
        })
    }

    /// What it was given, in order.
    pub(crate) fn inputs(&self) -> Vec<InputEvent> {
        self.inputs.lock().unwrap().clone()
    }

    /// What was done to it, in order.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The texts of viewers that it was offered, in order.
    pub(crate) fn offered(&self) -> Vec<String> {
        self.offered.lock().unwrap().clone()
    }

    /// It copies a text, or something else; false when nobody listens yet.
    pub(crate) fn copy(&self, text: Option<&str>) -> bool {
        let sink = self.clipboard.lock().unwrap().clone();
        sink.map(|sink| sink.clipboard(text.map(Arc::from))).is_some()
    }

    /// Where it plays to, if anybody listens.
    pub(crate) fn audio(&self) -> Option<Arc<dyn AudioSink>> {
        self.audio.lock().unwrap().clone()
    }

    fn note(&self, what: impl Into<String>) {
        self.log.lock().unwrap().push(what.into());
    }

    /// It takes its identity, or refuses it; until this is called it keeps whoever gives it waiting.
    pub(crate) fn answer_identity(&self, answer: Result<(), String>) {
        self.identity.send_replace(Some(answer));
    }

    /// It ends by itself.
    pub(crate) fn end(&self, how: &str) {
        self.ended.send_replace(Some(how.into()));
    }
}

impl FakeVm {
    /// Works until it may be done, or is given up.
    async fn work(&self, what: &str, id: SnapshotId, overseer: &dyn Overseer) -> Result<(), VmError> {
        self.note(format!("{what} {id}"));
        while self.slow.load(Ordering::Relaxed) {
            if overseer.is_cancelled() {
                return Err(VmError::Refused { what: what.into(), why: "it was cancelled".into() });
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Vm for FakeVm {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn input(&self, event: InputEvent) {
        self.inputs.lock().unwrap().push(event);
    }

    async fn identify(&self, identity: &Identity) -> Result<(), VmError> {
        self.note(format!("identify {}", identity.hostname));
        let answer = self.identity.subscribe().wait_for(Option::is_some).await.unwrap().clone();
        answer.unwrap().map_err(|why| VmError::Guest { what: "its identity".into(), why })
    }

    async fn mount_home(&self, fresh: bool) -> Result<(), VmError> {
        self.note(format!("home, {}", if fresh { "fresh" } else { "as it is" }));
        let why = self.no_home.lock().unwrap().clone();
        why.map_or(Ok(()), |why| Err(VmError::Guest { what: "its home disk".into(), why }))
    }

    async fn connect_network(&self) -> Result<(), VmError> {
        self.note("network");
        Ok(())
    }

    async fn arrange(&self, displays: &[DisplayArea]) -> Result<(), VmError> {
        let areas: Vec<String> =
            displays.iter().map(|d| format!("{}x{}+{}+{}", d.width, d.height, d.x, d.y)).collect();
        self.note(format!("arrange {}", areas.join(" ")));
        Ok(())
    }

    fn connect_clipboard(&self, sink: Arc<dyn ClipboardSink>) {
        *self.clipboard.lock().unwrap() = Some(sink);
    }

    fn offer_clipboard(&self, text: Arc<str>) {
        assert!(self.clipboard.lock().unwrap().is_some(), "the clipboard is connected first");
        self.offered.lock().unwrap().push(text.to_string());
    }

    fn connect_audio(&self, sink: Arc<dyn AudioSink>) {
        *self.audio.lock().unwrap() = Some(sink);
    }

    async fn power_off(&self) -> Result<(), VmError> {
        self.note("power off");
        if !self.stubborn.load(Ordering::Relaxed) {
            self.end("it was powered off from within");
        }
        Ok(())
    }

    async fn suspend(&self) -> Result<(), VmError> {
        self.note("suspend");
        let why = self.no_suspend.lock().unwrap().clone();
        if let Some(why) = why {
            return Err(VmError::Refused { what: "to suspend the guest".into(), why });
        }
        self.end("killed");
        Ok(())
    }

    async fn snapshot(&self, wanted: SnapshotWanted, overseer: &dyn Overseer) -> Result<(), VmError> {
        overseer.progress(50);
        self.work("snapshot", wanted.snapshot, overseer).await
    }

    async fn delete_snapshot(&self, id: SnapshotId, overseer: &dyn Overseer) -> Result<(), VmError> {
        self.work("delete", id, overseer).await
    }

    async fn export_snapshot(&self, id: SnapshotId, _: u64, overseer: &dyn Overseer) -> Result<(), VmError> {
        self.work("export", id, overseer).await
    }

    async fn wake(&self) -> Result<(), VmError> {
        self.note("wake");
        Ok(())
    }

    async fn ended(&self) -> String {
        self.ended.subscribe().wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }

    async fn kill(&self) {
        self.note("kill");
        self.end("killed");
    }
}

/// Launches the fake guest.
pub(crate) struct FakeLauncher {
    pub(crate) vm: Arc<FakeVm>,
    /// It runs already.
    pub(crate) running: bool,
    /// It is suspended.
    pub(crate) suspended: bool,
    /// Why it cannot be forked.
    pub(crate) failure: Option<String>,
    /// A fork waits for this.
    pub(crate) fork_waits: Option<Arc<tokio::sync::Notify>>,
    /// Where the driver puts frames.
    pub(crate) sink: Mutex<Option<Arc<dyn DisplaySink>>>,
    /// How long it waits for a guest to power off.
    pub(crate) power_off_limit: Duration,
}

impl FakeLauncher {
    pub(crate) fn new() -> Self {
        Self {
            vm: FakeVm::new(),
            running: false,
            suspended: false,
            failure: None,
            fork_waits: None,
            sink: Mutex::default(),
            power_off_limit: PATIENCE,
        }
    }

    async fn start(&self, sink: Arc<dyn DisplaySink>, loads: bool) -> Result<Forked, String> {
        if let Some(wait) = &self.fork_waits {
            wait.notified().await;
        }
        if let Some(why) = &self.failure {
            return Err(why.clone());
        }
        *self.sink.lock().unwrap() = Some(sink);
        let now = Instant::now();
        Ok(Forked { vm: self.vm.clone(), spawned: now, loaded: loads.then_some(now), running: now })
    }
}

#[async_trait]
impl Launcher for FakeLauncher {
    async fn adopt(&self, sink: Arc<dyn DisplaySink>) -> Result<Option<Arc<dyn Vm>>, String> {
        if !self.running {
            return Ok(None);
        }
        self.vm.note("adopt");
        *self.sink.lock().unwrap() = Some(sink);
        Ok(Some(self.vm.clone()))
    }

    async fn fork(&self, sink: Arc<dyn DisplaySink>) -> Result<Forked, String> {
        self.vm.note("fork");
        self.start(sink, true).await
    }

    async fn boot(&self, sink: Arc<dyn DisplaySink>) -> Result<Forked, String> {
        self.vm.note("boot");
        self.start(sink, false).await
    }

    fn is_suspended(&self) -> bool {
        self.suspended
    }

    async fn resume(&self, sink: Arc<dyn DisplaySink>) -> Result<Forked, String> {
        self.vm.note("resume");
        self.start(sink, true).await
    }

    fn power_off_limit(&self) -> Duration {
        self.power_off_limit
    }

    async fn clear(&self) {
        self.vm.note("clear");
    }
}

/// A configuration for tests.
pub(crate) fn config() -> DesktopConfig {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    DesktopConfig {
        desktop: DesktopId::generate(),
        generation: 7,
        identity: Identity {
            hostname: "desk-1".into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            mac: "52:54:00:00:00:01".into(),
        },
        network: NetworkPolicy::User,
        audio: true,
        clipboard: ClipboardPolicy::Both,
        template: "/nowhere/template".into(),
        qemu: "/nowhere/qemu".into(),
        qemu_version: "10.0.2".into(),
        accel: lucarne_qemu::Accel::Tcg,
        requested_at_ms: now.as_secs_f64() * 1000.0,
        recording: RecordingPolicy::default(),
        pool: None,
        persistent: false,
        wish: 0,
        state: DesiredState::Running,
        start: 0,
        home: None,
        back_to: None,
        origin: None,
    }
}

/// A picture to draw on.
pub(crate) struct Canvas {
    width: u32,
    height: u32,
    bytes: Vec<u8>,
}

impl Canvas {
    /// A black one.
    pub(crate) fn new(width: u32, height: u32) -> Self {
        Self { width, height, bytes: vec![0; (width * height * 4) as usize] }
    }

    /// Like a photograph: neighbours are alike and no two rows the same, so that lossy coding pays.
    pub(crate) fn photo(width: u32, height: u32) -> Self {
        let mut canvas = Self::new(width, height);
        let mut noise = 1u32;
        for y in 0..height {
            for x in 0..width {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let n = noise >> 29;
                let colour = ((x / 3 + n) & 255) << 16 | ((y / 2 + n) & 255) << 8 | ((x + y) / 5 + n) & 255;
                canvas.fill((x, y, 1, 1), colour);
            }
        }
        canvas
    }

    /// Paints x, y, width, height with `0x00RRGGBB`.
    pub(crate) fn fill(&mut self, (x, y, w, h): (u32, u32, u32, u32), colour: u32) {
        let row = colour.to_le_bytes().repeat(w as usize);
        for y in y..y + h {
            let at = ((y * self.width + x) * 4) as usize;
            self.bytes[at..at + row.len()].copy_from_slice(&row);
        }
    }

    pub(crate) fn frame(&self) -> Frame<'_> {
        self.frame_of(0, None)
    }

    /// As one of several displays.
    pub(crate) fn frame_of(&self, display: usize, origin: Option<Origin>) -> Frame<'_> {
        let (width, height, stride) = (self.width, self.height, self.width as usize * 4);
        Frame { display, origin, width, height, stride, pixels: &self.bytes }
    }

    /// `0x00RRGGBB`, row by row.
    pub(crate) fn pixels(&self) -> Vec<u32> {
        self.bytes.chunks_exact(4).map(|p| u32::from_le_bytes([p[0], p[1], p[2], p[3]])).collect()
    }
}
