//! What is seen on this host: kept whole, and told as it changes to whoever is connected.

use lucarne_control::agent::{DesktopObserved, Observed, TemplateObserved};
use lucarne_control::ids::DesktopId;
use lucarne_control::spec::{ImageInfo, TemplateSpec};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// Changes that a slow link may fall behind before it is told everything anew.
const BACKLOG: usize = 1024;

#[derive(Default)]
struct State {
    images: Vec<ImageInfo>,
    templates: HashMap<TemplateSpec, TemplateObserved>,
    desktops: HashMap<DesktopId, DesktopObserved>,
}

/// The state and its listeners.
#[derive(Clone)]
pub(crate) struct Hub {
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<Observed>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), changes: broadcast::channel(BACKLOG).0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: Observed) {
        // Nobody listening is fine: the next link is told everything.
        let _ = self.changes.send(change);
    }

    /// Everything as it is, and what changes from here on.
    pub(crate) fn subscribe(&self) -> (Observed, broadcast::Receiver<Observed>) {
        let state = self.state();
        (complete(&state), self.changes.subscribe())
    }

    pub(crate) fn images(&self, images: Vec<ImageInfo>) {
        let mut state = self.state();
        if state.images != images {
            state.images.clone_from(&images);
            self.tell(Observed { images: Some(images), ..Observed::default() });
        }
    }

    pub(crate) fn template(&self, template: TemplateObserved) {
        self.state().templates.insert(template.spec.clone(), template.clone());
        self.tell(Observed { templates: vec![template], ..Observed::default() });
    }

    pub(crate) fn template_gone(&self, spec: &TemplateSpec) {
        self.state().templates.remove(spec);
    }

    pub(crate) fn desktop(&self, desktop: DesktopObserved) {
        self.state().desktops.insert(desktop.desktop, desktop.clone());
        self.tell(Observed { desktops: vec![desktop], ..Observed::default() });
    }

    pub(crate) fn desktop_gone(&self, desktop: DesktopId) {
        self.state().desktops.remove(&desktop);
    }
}

fn complete(state: &State) -> Observed {
    Observed {
        complete: true,
        images: Some(state.images.clone()),
        templates: state.templates.values().cloned().collect(),
        desktops: state.desktops.values().cloned().collect(),
    }
}
