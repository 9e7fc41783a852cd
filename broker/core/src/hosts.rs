//! The links to hosts, whatever carries them: what is heard is taken over and put on record, what should be there is told.
//!
//! ```text
//! Hello ──► store.link ──┬─ heard ──► fleet (at once) ──► record ──► store, changes (what came meanwhile goes together)
//!                        └─ tell  ◄── dirty ◄── changes, others' changes, look_after
//! ```
//!
//! A link is carried by two channels: whoever owns the socket, or simulates one, fills and drains them, and closes them
//! when it breaks. Here is no clock: silence is for the carrier to notice.

use crate::Control;
use crate::change::Change;
use crate::store::{self, Link, Origin};
use lucarne_control::agent::{Desired, DesktopObserved, FromAgent, Hello, Observed, ToAgent};
use lucarne_control::desktop::Endpoint;
use lucarne_control::spec::ImageDigest;
use lucarne_control::{DesktopId, HostId};
use lucarne_mutants::mutant;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc, oneshot};

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The carrier closed it.
    #[error("the agent closed the link")]
    Closed,
    /// The agent did not keep to the protocol.
    #[error("the agent was refused: {0}")]
    Refused(String),
    /// A message between two others did not come.
    #[error("the agent's message {0} is missing")]
    Missing(u64),
    /// What is on record forbids it, or the database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The links of a broker that are up.
#[derive(Debug, Default)]
pub struct Links {
    up: Mutex<BTreeMap<HostId, Up>>,
    deletions: Mutex<Deletions>,
}

type Deletions = HashMap<(HostId, ImageDigest), Vec<oneshot::Sender<Option<String>>>>;

#[derive(Debug)]
struct Up {
    link: Link,
    dirty: Arc<Notify>,
    lost: Arc<Notify>,
    out: mpsc::Sender<ToAgent>,
    /// The revision that was told last.
    told: Option<u64>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of them in a way that leaves it half changed.
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Links {
    /// Has a host told what should be on it, if it is linked here.
    pub fn push(&self, host: HostId) {
        if let Some(up) = lock(&self.up).get(&host) {
            up.dirty.notify_one();
        }
    }

    /// As [`Links::push`] for all hosts.
    pub fn push_all(&self) {
        lock(&self.up).values().for_each(|up| up.dirty.notify_one());
    }

    /// Ends the link to a host, or all.
    pub fn drop_link(&self, host: Option<HostId>) {
        lock(&self.up)
            .iter()
            .filter(|(id, _)| host.is_none_or(|host| host == **id))
            .for_each(|(_, up)| up.lost.notify_one());
    }

    /// The links, with the revision that each was told last.
    #[must_use]
    pub fn told(&self) -> Vec<(Link, Option<u64>)> {
        lock(&self.up).values().map(|up| (up.link.clone(), up.told)).collect()
    }

    /// Asks a host to delete an image; its answer comes by the channel: `None` when it is gone, the reason when it stays. No
    /// answer comes when the link breaks.
    pub fn delete_image(
        &self,
        host: HostId,
        digest: &ImageDigest,
    ) -> Option<oneshot::Receiver<Option<String>>> {
        // Held until the answer is waited for: a link that breaks meanwhile takes it along.
        let up = lock(&self.up);
        let out = &up.get(&host)?.out;
        let (answer, waiting) = oneshot::channel();
        lock(&self.deletions).entry((host, digest.clone())).or_default().push(answer);
        out.try_send(ToAgent::DeleteImage { digest: digest.clone() }).ok()?;
        Some(waiting)
    }

    fn image_deleted(&self, host: HostId, digest: ImageDigest, error: Option<&str>) {
        for waiter in lock(&self.deletions).remove(&(host, digest)).unwrap_or_default() {
            let _ = waiter.send(error.map(str::to_owned));
        }
    }

    fn remove(&self, link: &Link) {
        let mut up = lock(&self.up);
        if up.get(&link.host).is_some_and(|up| up.link == *link) {
            up.remove(&link.host);
            lock(&self.deletions).retain(|(host, _), _| *host != link.host);
        }
    }
}

/// What was heard and is not on record yet: of each thing the last.
#[derive(Debug, Default)]
struct Heard {
    waiting: Observed,
    any: bool,
    /// What is being put on record.
    under_way: Option<Observed>,
}

impl Heard {
    fn add(&mut self, observed: Observed) {
        let Observed { number: _, complete, images, templates, desktops, disks, gone_disks, snapshots } =
            observed;
        self.any = true;
        let waiting = &mut self.waiting;
        if complete {
            // What is not in it is not there.
            waiting.templates.clear();
            waiting.desktops.clear();
            waiting.disks.clear();
            waiting.gone_disks.clear();
            waiting.snapshots.clear();
        }
        waiting.complete |= complete;
        waiting.images = images.or(waiting.images.take());
        for template in templates {
            waiting.templates.retain(|old| old.spec != template.spec);
            waiting.templates.push(template);
        }
        let told: HashSet<DesktopId> = desktops.iter().map(|desktop| desktop.desktop).collect();
        waiting.desktops.retain(|old| !told.contains(&old.desktop));
        waiting.desktops.extend(desktops);
        waiting.disks.retain(|disk| !gone_disks.contains(disk));
        waiting.gone_disks.retain(|disk| !disks.contains(disk));
        waiting.disks.extend(disks);
        waiting.gone_disks.extend(gone_disks);
        for snapshot in snapshots {
            waiting.snapshots.retain(|old| old.snapshot != snapshot.snapshot);
            waiting.snapshots.push(snapshot);
        }
    }

    fn take(&mut self) -> Option<Observed> {
        let taken = std::mem::take(&mut self.any).then(|| std::mem::take(&mut self.waiting));
        self.under_way.clone_from(&taken);
        taken
    }

    /// All that is not on record for certain.
    fn rest(&mut self) -> Option<Observed> {
        let waiting = std::mem::take(&mut self.any).then(|| std::mem::take(&mut self.waiting));
        match (self.under_way.take(), waiting) {
            (Some(first), Some(then)) => {
                let mut both = Self { waiting: first, any: true, under_way: None };
                both.add(then);
                both.take()
            }
            (first, then) => first.or(then),
        }
    }
}

/// What a host that was told `told` has to be told for `now` to be so; none when that is the same.
#[must_use]
pub fn change(told: Option<&Desired>, now: Desired) -> Option<Desired> {
    let Some(told) = told else { return Some(now) };
    if told.revision == now.revision {
        return None;
    }
    let before: HashMap<_, _> = told.desktops.iter().map(|d| (d.desktop, d)).collect();
    let after: HashSet<_> = now.desktops.iter().map(|d| d.desktop).collect();
    let removed: Vec<DesktopId> = before.keys().filter(|id| !after.contains(id)).copied().collect();
    let mut removed = removed;
    removed.sort();
    let desktops = now.desktops.into_iter().filter(|d| before.get(&d.desktop) != Some(&d)).collect();
    Some(Desired { since: Some(told.revision), desktops, removed, ..now })
}

/// A link's life: from `Hello` until it breaks, and what came is on record.
///
/// # Errors
/// Always: why it ended.
pub async fn serve(
    control: &Control,
    (hello, origin): (&Hello, &Origin),
    mut inbox: mpsc::Receiver<FromAgent>,
    outbox: mpsc::Sender<ToAgent>,
) -> LinkError {
    let link = match control.store.link(hello, origin, control.broker()).await {
        Ok(link) => link,
        Err(e) => return e.into(),
    };
    let (dirty, lost) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let up = Up {
        link: link.clone(),
        dirty: Arc::clone(&dirty),
        lost: Arc::clone(&lost),
        out: outbox.clone(),
        told: None,
    };
    if let Some(before) = lock(&control.links.up).insert(link.host, up) {
        before.lost.notify_one();
    }
    control.fleet.connect(&link);
    control.changed([Change::Link(link.host)]);
    let (heard, news, known) = (Mutex::new(Heard::default()), Notify::new(), Notify::new());
    let why = tokio::select! {
        // In an order, so that what happens follows from what came.
        biased;
        why = listen(control, (&link, origin), &mut inbox, &heard, &news) => why,
        why = record(control, &link, &heard, &news, &known) => why,
        why = tell(control, &link, (&known, &dirty), &outbox) => why,
        () = lost.notified() => store::Error::LinkLost { host: link.name.clone() }.into(),
    };
    // What came before the end, such as the last words of an agent that destroyed its desktops.
    let rest = lock(&heard).rest();
    if let (LinkError::Closed, Some(rest)) = (&why, rest)
        && let Err(e) = control.observed(&link, &rest).await
    {
        tracing::warn!(error = %e, host = link.name, "the last that a host said is not on record; it repeats it");
    }
    control.links.remove(&link);
    control.fleet.disconnect(&link);
    if let Err(e) = control.store.unlink(&link, &why.to_string()).await {
        tracing::error!(error = %e, host = link.name, "cannot put on record that the link is lost");
    }
    control.changed([Change::Link(link.host)]);
    why
}

/// Takes over what comes; the first `Observed` has to be complete.
async fn listen(
    control: &Control,
    (link, origin): (&Link, &Origin),
    inbox: &mut mpsc::Receiver<FromAgent>,
    heard: &Mutex<Heard>,
    news: &Notify,
) -> LinkError {
    let mut last = 0;
    while let Some(message) = inbox.recv().await {
        match message {
            FromAgent::Hello(_) => return LinkError::Refused("it said Hello twice".to_owned()),
            FromAgent::Heartbeat { disk_free, memory_available } => {
                control.fleet.heartbeat(link.host, disk_free, memory_available);
            }
            FromAgent::ImageDeleted { digest, error } => {
                control.links.image_deleted(link.host, digest, error.as_deref());
            }
            FromAgent::Observed(mut observed) => {
                observed.desktops.iter_mut().for_each(|desktop| reached(desktop, origin));
                if observed.number != 0 && !mutant("what hosts say counts in any order") {
                    if observed.number <= last {
                        continue;
                    }
                    if observed.number != last + 1 {
                        return LinkError::Missing(last + 1);
                    }
                }
                last = observed.number;
                control.fleet.observe(link, &observed);
                lock(heard).add(observed);
                news.notify_one();
            }
        }
    }
    LinkError::Closed
}

/// Where a display is reached is not for an agent of another machine to say: it would name sockets of this one.
fn reached(desktop: &mut DesktopObserved, origin: &Origin) {
    if let Origin::Enrolled { address, .. } = origin {
        let there = |_| Endpoint::Host { address: address.clone() };
        desktop.endpoint = desktop.endpoint.take().map(there);
    }
}

/// Puts on record what was heard.
async fn record(
    control: &Control,
    link: &Link,
    heard: &Mutex<Heard>,
    news: &Notify,
    known: &Notify,
) -> LinkError {
    loop {
        news.notified().await;
        let Some(observed) = lock(heard).take() else { continue };
        if let Err(e) = control.observed(link, &observed).await {
            return e.into();
        }
        lock(heard).under_way = None;
        if observed.complete {
            known.notify_one();
        }
    }
}

/// Tells what should be there, again after each change.
async fn tell(
    control: &Control,
    link: &Link,
    (known, dirty): (&Notify, &Notify),
    outbox: &mpsc::Sender<ToAgent>,
) -> LinkError {
    let mut told: Option<Desired> = None;
    // What should be there is told only once it is on record what is.
    known.notified().await;
    loop {
        let now = match control.store.desired(link).await {
            Ok(now) => now,
            Err(e) => return e.into(),
        };
        if let Some(up) = lock(&control.links.up).get_mut(&link.host).filter(|up| up.link == *link) {
            up.told = Some(now.revision);
        }
        if let Some(message) = change(told.as_ref(), now.clone()) {
            if outbox.send(ToAgent::Desired(message)).await.is_err() {
                return LinkError::Closed;
            }
            told = Some(now);
        }
        dirty.notified().await;
    }
}
