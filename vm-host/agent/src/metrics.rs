//! What the host agent tells monitoring ([`lucarne_metrics`] serves it): counted as desktops' observations go by, and looked up
//! in the hub when it is asked for.

use crate::config::{disk_free, memory_available, memory_total_mib};
use crate::hub::Hub;
use async_trait::async_trait;
use lucarne_control::DesktopId;
use lucarne_control::agent::{DesktopObserved, TemplateState};
use lucarne_control::desktop::Phase;
use lucarne_metrics::prometheus::core::Collector;
use lucarne_metrics::prometheus::proto::MetricFamily;
use lucarne_metrics::prometheus::{
    self, HistogramOpts, HistogramVec, IntCounter, IntGauge, IntGaugeVec, Opts, Registry,
};
use lucarne_metrics::{Check, SECONDS, Watched};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast::error::RecvError;

/// Phases that are told also while no desktop is in them.
const PHASES: [Phase; 8] = [
    Phase::Placing,
    Phase::Preparing,
    Phase::Starting,
    Phase::Ready,
    Phase::Stopping,
    Phase::Off,
    Phase::Suspended,
    Phase::Failed,
];

/// The agent as monitoring sees it.
pub(crate) struct Monitored {
    hub: Hub,
    dir: PathBuf,
    registry: Registry,
    steps: HistogramVec,
    failures: IntCounter,
    desktops: IntGaugeVec,
    templates: IntGaugeVec,
    linked: IntGauge,
    memory: IntGauge,
    available: IntGauge,
    disk: IntGauge,
    /// What was last seen of each desktop, so that each start and each failure is counted once.
    seen: Mutex<HashMap<DesktopId, Phase>>,
}

impl Monitored {
    /// All at 0, of the host in `dir`.
    ///
    /// # Errors
    /// Never with these names.
    pub(crate) fn new(hub: Hub, dir: PathBuf) -> prometheus::Result<Self> {
        let registry = lucarne_metrics::registry(env!("CARGO_PKG_VERSION"))?;
        let vec = |name: &str, help: &str, label: &str| IntGaugeVec::new(Opts::new(name, help), &[label]);
        let steps = "Time from the order to start a desktop to the end of each step of its fork, or of its boot, in seconds.";
        let steps = HistogramOpts::new("lucarne_desktop_start_seconds", steps).buckets(SECONDS.to_vec());
        let failures = "Desktops of this host that failed.";
        let monitored = Self {
            hub,
            dir,
            steps: HistogramVec::new(steps, &["step"])?,
            failures: IntCounter::new("lucarne_desktop_failures_total", failures)?,
            desktops: vec("lucarne_desktops", "Desktops that are on this host, by their phase.", "phase")?,
            templates: vec("lucarne_templates", "Templates of this host, by their state.", "state")?,
            linked: IntGauge::new("lucarne_broker_linked", "1 while the agent is linked to a broker.")?,
            memory: IntGauge::new("lucarne_memory_bytes", "Memory that this host has, in bytes.")?,
            available: IntGauge::new(
                "lucarne_memory_available_bytes",
                "Memory that this host's programs could still get, in bytes.",
            )?,
            disk: IntGauge::new("lucarne_disk_free_bytes", "Bytes free on the disk of the host's folder.")?,
            seen: Mutex::default(),
            registry,
        };
        let all: [Box<dyn Collector>; 8] = [
            Box::new(monitored.steps.clone()),
            Box::new(monitored.failures.clone()),
            Box::new(monitored.desktops.clone()),
            Box::new(monitored.templates.clone()),
            Box::new(monitored.linked.clone()),
            Box::new(monitored.memory.clone()),
            Box::new(monitored.available.clone()),
            Box::new(monitored.disk.clone()),
        ];
        for collector in all {
            monitored.registry.register(collector)?;
        }
        Ok(monitored)
    }

    /// Counts what becomes of desktops, for as long as the hub is there.
    pub(crate) async fn follow(self: Arc<Self>) {
        loop {
            let (complete, mut changes) = self.hub.listen();
            // What was here before was counted by the agent that saw it happen.
            let seen = complete.desktops.iter().map(|d| (d.desktop, d.phase)).collect();
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
            loop {
                match changes.recv().await {
                    Ok(change) => change.desktops.iter().for_each(|desktop| self.count(desktop)),
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    fn count(&self, desktop: &DesktopObserved) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match desktop.phase {
            Phase::Stopped => seen.remove(&desktop.desktop),
            phase => seen.insert(desktop.desktop, phase),
        };
        if before == Some(desktop.phase) {
            return;
        }
        let t = &desktop.timings;
        match desktop.phase {
            // A guest that booted from its own disk loaded no template, and takes a hundred times as long.
            Phase::Ready if t.loaded_ms.is_none() => {
                if let Some(ms) = t.identity_ms {
                    self.steps.with_label_values(&["boot"]).observe(ms / 1000.0);
                }
            }
            Phase::Ready => {
                let steps = [
                    ("spawned", t.spawned_ms),
                    ("loaded", t.loaded_ms),
                    ("running", t.running_ms),
                    ("picture", t.picture_ms),
                    ("identity", t.identity_ms),
                ];
                for (step, ms) in steps {
                    if let Some(ms) = ms {
                        self.steps.with_label_values(&[step]).observe(ms / 1000.0);
                    }
                }
            }
            Phase::Failed => self.failures.inc(),
            _ => {}
        }
    }
}

#[async_trait]
impl Watched for Monitored {
    async fn metrics(&self) -> Vec<MetricFamily> {
        let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let (now, _) = self.hub.listen();
        for phase in PHASES {
            let n = now.desktops.iter().filter(|d| d.phase == phase).count();
            self.desktops.with_label_values(&[phase.as_str()]).set(bytes(n as u64));
        }
        for (name, state) in [
            ("building", TemplateState::Building),
            ("ready", TemplateState::Ready),
            ("failed", TemplateState::Failed),
        ] {
            let n = now.templates.iter().filter(|t| t.state == state).count();
            self.templates.with_label_values(&[name]).set(bytes(n as u64));
        }
        self.linked.set(self.hub.is_linked().into());
        self.memory.set(bytes(memory_total_mib() << 20));
        self.available.set(bytes(memory_available()));
        self.disk.set(bytes(disk_free(&self.dir)));
        self.registry.gather()
    }

    async fn checks(&self) -> Vec<Check> {
        let linked = self.hub.is_linked();
        let says = if linked { "the agent is linked to a broker" } else { "there is no link to a broker" };
        vec![Check { what: "broker", passed: linked, says: says.to_owned() }]
    }
}
