//! The templates of this host: built when wanted, one at a time, kept while wanted.

use crate::error_chain;
use crate::hub::Hub;
use crate::slots::Slots;
use lucarne_control::agent::{TemplateObserved, TemplateState};
use lucarne_control::spec::TemplateSpec;
use lucarne_images::Store;
use lucarne_qemu::template::TemplateRequest;
use lucarne_qemu::{Accel, Qemu, Template};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long after a failure a template is tried again. Too low and a broken image keeps the machine busy.
const RETRY: Duration = Duration::from_secs(120);

/// How long a template that nothing uses is kept: long enough for a pool to be deleted and made anew, or for a broker
/// that has just started to learn of its pools, without another boot.
const LINGER: Duration = Duration::from_secs(600);

/// What a desktop that waits for a template sees.
#[derive(Clone, Debug)]
pub(crate) enum Availability {
    Building(String),
    Ready(Arc<Template>),
    Failed(String),
}

struct Entry {
    available: watch::Sender<Availability>,
    unwanted: CancellationToken,
}

/// All templates of this host.
pub(crate) struct Templates {
    dir: PathBuf,
    store: Arc<Store>,
    qemu: Qemu,
    accel: Accel,
    slots: Arc<Slots>,
    hub: Hub,
    entries: Mutex<HashMap<TemplateSpec, Entry>>,
    /// Two boots at once take longer than one after the other, and the first is usable sooner.
    turn: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
    stop: CancellationToken,
    unused_since: Mutex<HashMap<String, Instant>>,
}

impl Templates {
    pub(crate) fn new(
        dir: PathBuf,
        store: Arc<Store>,
        qemu: Qemu,
        accel: Accel,
        slots: Arc<Slots>,
        hub: Hub,
    ) -> Self {
        Self {
            dir,
            store,
            qemu,
            accel,
            slots,
            hub,
            entries: Mutex::default(),
            turn: tokio::sync::Mutex::new(()),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            unused_since: Mutex::default(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<TemplateSpec, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the template for `spec` is, once it is there.
    pub(crate) fn folder(&self, spec: &TemplateSpec) -> PathBuf {
        self.dir.join(Template::id(spec, self.accel, &self.qemu))
    }

    /// The template for `spec`, which begins to be made if it is not there.
    pub(crate) fn want(self: &Arc<Self>, spec: &TemplateSpec) -> watch::Receiver<Availability> {
        let mut entries = self.entries();
        if let Some(entry) = entries.get(spec) {
            return entry.available.subscribe();
        }
        let dir = self.folder(spec);
        let ready = Template::open(&dir).map(Arc::new);
        let begin = match &ready {
            Some(template) => Availability::Ready(template.clone()),
            None => Availability::Building("waiting for its turn".into()),
        };
        let (available, receiver) = watch::channel(begin);
        let unwanted = self.stop.child_token();
        entries.insert(spec.clone(), Entry { available: available.clone(), unwanted: unwanted.clone() });
        if let Some(template) = ready {
            self.report(spec, TemplateState::Ready, "", 100, Some(template.meta.cold_boot_s));
        } else {
            self.report(spec, TemplateState::Building, "waiting for its turn", 0, None);
            let (this, spec) = (self.clone(), spec.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = this.keep_building(&spec, &available) => {}
                    () = unwanted.cancelled() => {}
                }
            });
        }
        receiver
    }

    /// Stops making what is neither wanted nor used by a desktop, and removes what has not been for [`LINGER`]; `keep`
    /// lists both. What disks are based on stays, even if another QEMU has made it.
    pub(crate) fn retain(&self, keep: &[TemplateSpec], is_base: impl Fn(&Path) -> bool) {
        let mut entries = self.entries();
        let gone: Vec<TemplateSpec> = entries.keys().filter(|s| !keep.contains(s)).cloned().collect();
        for spec in gone {
            if let Some(entry) = entries.remove(&spec) {
                entry.unwanted.cancel();
            }
            self.hub.template_gone(&spec);
        }
        let kept: Vec<String> = keep.iter().map(|s| Template::id(s, self.accel, &self.qemu)).collect();
        let Ok(dirs) = std::fs::read_dir(&self.dir) else { return };
        let unused: Vec<String> = dirs
            .flatten()
            .map(|dir| dir.file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with('.') && !kept.contains(name))
            .collect();
        let mut since = self.unused_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.retain(|name, _| unused.contains(name));
        for name in unused {
            if since.entry(name.clone()).or_insert_with(Instant::now).elapsed() < LINGER {
                continue;
            }
            let dir = self.dir.join(&name);
            if is_base(&dir) {
                since.remove(&name);
                continue;
            }
            match std::fs::remove_dir_all(dir) {
                Ok(()) => tracing::info!(template = %name, "removed a template that nothing uses"),
                Err(error) => tracing::warn!(template = %name, %error, "a template could not be removed"),
            }
        }
    }

    /// Ends what is being built.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn report(
        &self,
        spec: &TemplateSpec,
        state: TemplateState,
        detail: &str,
        progress: u8,
        cold_boot_s: Option<f64>,
    ) {
        let detail = detail.to_owned();
        self.hub.template(TemplateObserved { spec: spec.clone(), state, detail, cold_boot_s, progress });
    }

    async fn keep_building(&self, spec: &TemplateSpec, available: &watch::Sender<Availability>) {
        loop {
            let turn = self.turn.lock().await;
            let result = self.build(spec, available).await;
            drop(turn);
            match result {
                Ok(template) => {
                    tracing::info!(
                        image = spec.image.short(),
                        cold_boot_s = template.meta.cold_boot_s,
                        "a template is ready"
                    );
                    self.report(spec, TemplateState::Ready, "", 100, Some(template.meta.cold_boot_s));
                    available.send_replace(Availability::Ready(Arc::new(template)));
                    return;
                }
                Err(why) => {
                    tracing::error!(image = spec.image.short(), %why, "a template could not be made");
                    self.report(spec, TemplateState::Failed, &why, 0, None);
                    available.send_replace(Availability::Failed(why));
                }
            }
            tokio::time::sleep(RETRY).await;
            available.send_replace(Availability::Building("trying again".into()));
        }
    }

    async fn build(
        &self,
        spec: &TemplateSpec,
        available: &watch::Sender<Availability>,
    ) -> Result<Template, String> {
        let image = self
            .store
            .get(&spec.image)
            .map_err(|e| error_chain(&e))?
            .ok_or_else(|| format!("image {} is not on this host", spec.image.short()))?;
        let credentials = self.slots.template();
        let disk = self.store.disk(&image);
        let request = TemplateRequest {
            qemu: &self.qemu,
            accel: self.accel,
            spec,
            image: &disk,
            image_format: &image.format,
            templates: &self.dir,
            credentials: credentials.as_ref(),
        };
        let mut last = (0, String::new());
        let mut progress = |percent: u8, what: &str| {
            if last.0 != percent || last.1 != what {
                last = (percent, what.to_owned());
                available.send_replace(Availability::Building(what.into()));
                self.report(spec, TemplateState::Building, what, percent, None);
            }
        };
        Template::build(&request, &mut progress).await.map_err(|e| error_chain(&e))
    }
}
