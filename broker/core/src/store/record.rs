//! What hosts say of their desktops and templates, put on record, and what follows from it.

use super::links::Link;
use super::power::{self, Rest};
use super::{Ended, Error, Result, Store, all, disks, end, snapshots};
use crate::plan::{self, Action};
use lucarne_control::DesktopId;
use lucarne_control::agent::{DesktopObserved, Observed, TemplateObserved};
use lucarne_control::desktop::{ForkTimings, Phase};
use lucarne_db::Tx;
use lucarne_db::tables::{Desktop, HostTemplate};
use lucarne_db::value::Json;
use lucarne_mutants::mutant;

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Desktops that ended by it.
    pub ended: Vec<Ended>,
    /// Desktops that go on though they were to be suspended.
    pub refused: Vec<DesktopId>,
    /// Desktops that are gone by it, with their data.
    pub destroyed: Vec<DesktopId>,
    /// Desktops that something else is known of.
    pub noted: Vec<DesktopId>,
    /// Templates are further than they were, or gone.
    pub templates: bool,
}

impl Recorded {
    /// Nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Keeps what is seen of wanted desktops; those that have changed meanwhile are left out.
fn note(tx: &mut Tx<'_>, link: &Link, seen: &[DesktopObserved]) -> Result<Vec<DesktopId>> {
    let mut noted = Vec::new();
    for o in seen {
        let Some(mut desktop) = tx.lock(Desktop::key(&o.desktop))? else { continue };
        if plan::step(&desktop, link.host, o) != Some(Action::Note) {
            continue;
        }
        let became_ready = o.phase == Phase::Ready && desktop.phase != Phase::Ready;
        desktop.held |= plan::is_held(o.phase);
        desktop.phase = o.phase;
        if desktop.has_gone_back(o.wish, o.phase) || mutant("a desktop counts as put back before it is") {
            desktop.back_to = None;
        }
        if !plan::keeps_detail(desktop.desired, o) {
            desktop.detail.clone_from(&o.detail);
        }
        desktop.endpoint = o.endpoint.clone().map(Json);
        if o.timings != Default::default() {
            // A desktop process that was started again knows nothing of the first viewer.
            let frame_ms = o.timings.frame_ms.or(desktop.timings.0.frame_ms);
            desktop.timings = Json(ForkTimings { frame_ms, ..o.timings });
        }
        tx.update(&desktop)?;
        if became_ready {
            let detail = serde_json::to_string(&o.timings).unwrap_or_default();
            tx.audit("system", "desktop.ready", &desktop.name, &detail)?;
            snapshots::schedule(tx, &desktop)?;
        }
        noted.push(desktop.id);
    }
    link.share(tx)?;
    Ok(noted)
}

/// The evidence that a desktop is gone: frees its placement. Tells whether it was not on record before.
fn gone(tx: &mut Tx<'_>, link: &Link, o: &DesktopObserved) -> Result<bool> {
    let due = |desktop: &Desktop| plan::step(desktop, link.host, o) == Some(Action::Free);
    let detail = format!("{} confirmed that it is gone with its data", link.name);
    end::free(tx, o.desktop, Some(link), due, &detail)
}

/// Keeps how far templates are; tells whether that was not on record before.
fn templates(tx: &mut Tx<'_>, link: &Link, seen: &[TemplateObserved], complete: bool) -> Result<bool> {
    let mut changed = false;
    let kept = all(tx, || HostTemplate::on_host(&link.host), |row| row.template.clone())?;
    for seen in seen {
        let template = seen.spec.key();
        let row = HostTemplate { host_id: link.host, template: template.clone(), seen: Json(seen.clone()) };
        match kept.iter().find(|kept| kept.template == template) {
            Some(kept) if kept.seen == row.seen => continue,
            Some(_) => {
                if let Some(mut kept) = tx.lock(HostTemplate::key(&link.host, &template))? {
                    *kept = row;
                    tx.update(&kept)?;
                }
            }
            None => tx.insert(&row)?,
        }
        changed = true;
    }
    if complete {
        for old in kept.iter().filter(|kept| seen.iter().all(|seen| seen.spec.key() != kept.template)) {
            changed |= tx.remove(HostTemplate::key(&link.host, &old.template))?;
        }
    }
    link.share(tx)?;
    Ok(changed)
}

impl Store {
    /// Puts on record what a host says by its link, and does what follows: a desktop that failed is ended, one that is gone
    /// frees its place. Of images see [`Store::set_host_images`].
    ///
    /// # Errors
    /// [`Error::LinkLost`], or a database fault. What was recorded before it stays so; hosts repeat themselves.
    pub async fn record(&self, link: &Link, observed: &Observed) -> Result<Recorded> {
        let mut recorded = Recorded::default();
        if !observed.templates.is_empty() || observed.complete {
            let (link, seen, complete) = (link.clone(), observed.templates.clone(), observed.complete);
            recorded.templates = self.write(move |tx| templates(tx, &link, &seen, complete)).await?;
        }
        // Before what is said of desktops: one that is gone may be the last that knew of its disk.
        if observed.complete || !observed.disks.is_empty() || !observed.gone_disks.is_empty() {
            let (by, there, gone) = (link.clone(), observed.disks.clone(), observed.gone_disks.clone());
            let complete = observed.complete;
            let said = self.read(move |tx| disks::news(tx, &by, (&there, &gone, complete))).await?;
            if said != disks::Said::default() {
                let link = link.clone();
                self.write(move |tx| disks::note(tx, &link, &said)).await?;
            }
        }
        if observed.complete || !observed.snapshots.is_empty() {
            let (by, seen, complete) = (link.clone(), observed.snapshots.clone(), observed.complete);
            let news = self.read(move |tx| snapshots::news(tx, &by, &seen, complete)).await?;
            if !news.is_empty() {
                let link = link.clone();
                recorded.noted = self.write(move |tx| snapshots::note(tx, &link, &news)).await?;
            }
        }
        let (here, seen) = (link.host, observed.desktops.clone());
        let steps = self.read(move |tx| {
            let rows = tx.peek_all(seen.iter().map(|o| Desktop::key(&o.desktop)))?;
            let row = |o: &DesktopObserved| rows.iter().find(|row| row.id == o.desktop);
            let step = |o: &DesktopObserved| Some((plan::step(row(o)?, here, o)?, o.clone()));
            Ok::<_, Error>(seen.iter().filter_map(step).collect::<Vec<_>>())
        });
        let mut notes = Vec::new();
        for (step, o) in steps.await? {
            let link = link.clone();
            match step {
                Action::Note => notes.push(o),
                Action::Fail => {
                    let ended = self.write(move |tx| {
                        let row = tx.peek(Desktop::key(&o.desktop))?;
                        if row.and_then(|row| plan::step(&row, link.host, &o)) != Some(Action::Fail) {
                            return Ok(None);
                        }
                        end::failed(tx, o.desktop, &plan::failure(&o), Some(&link))
                    });
                    recorded.ended.extend(ended.await?);
                }
                Action::Refused => {
                    let refused = self.write(move |tx| {
                        let Some(mut row) = tx.lock(Desktop::key(&o.desktop))? else { return Ok(None) };
                        if plan::step(&row, link.host, &o) != Some(Action::Refused) {
                            return Ok(None);
                        }
                        if row.has_gone_back(o.wish, o.phase) {
                            row.back_to = None;
                        }
                        power::refused(tx, row, &o.detail)?;
                        link.share(tx)?;
                        Ok(Some(o.desktop))
                    });
                    recorded.refused.extend(refused.await?);
                }
                Action::Rest => {
                    let rested = self.write(move |tx| {
                        let Some(mut row) = tx.lock(Desktop::key(&o.desktop))? else { return Ok(None) };
                        if plan::step(&row, link.host, &o) != Some(Action::Rest) {
                            return Ok(None);
                        }
                        if row.has_gone_back(o.wish, o.phase) {
                            row.back_to = None;
                        }
                        let (rest, unknown) = match o.phase {
                            Phase::Suspended => (Rest::Suspended, "it was suspended"),
                            _ => (Rest::Off, "it was powered off from within"),
                        };
                        let why = if o.detail.is_empty() { unknown } else { &o.detail };
                        let ended = power::rest(tx, "system", row, (rest, o.phase), why)?;
                        link.share(tx)?;
                        Ok(Some(ended))
                    });
                    recorded.ended.extend(rested.await?);
                }
                Action::Free => {
                    let desktop = o.desktop;
                    if self.write(move |tx| gone(tx, &link, &o)).await? {
                        recorded.destroyed.push(desktop);
                    }
                }
            }
        }
        if !notes.is_empty() {
            let link = link.clone();
            notes.sort_by_key(|o| o.desktop);
            recorded.noted.extend(self.write(move |tx| note(tx, &link, &notes)).await?);
        }
        Ok(recorded)
    }
}
