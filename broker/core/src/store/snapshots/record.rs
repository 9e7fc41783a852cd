//! What hosts say of snapshots, put on record.

use super::name_of;
use super::schedule::retain;
use crate::store::links::Link;
use crate::store::{Result, all};
use lucarne_control::DesktopId;
use lucarne_control::agent::{SnapshotObserved, SnapshotState};
use lucarne_db::Tx;
use lucarne_db::tables::{Desktop, Snapshot};

/// What a row is after a host has said this of it; none where that changes nothing.
fn after(row: &Snapshot, seen: &SnapshotObserved, now: i64) -> Option<Snapshot> {
    let mut next = row.clone();
    let as_told = |next: &mut Snapshot| {
        (next.parent_id, next.current, next.memory) = (seen.parent, seen.current, seen.memory);
        (next.pause_ms, next.bytes) = (seen.pause_ms, seen.bytes);
        next.taken_at = Some(seen.taken_at);
    };
    match (seen.state, row.deleted_at.is_some()) {
        (SnapshotState::Ready, _) if row.gone_at.is_some() => {
            // It was given up for gone, and is not.
            next.deleted_at.get_or_insert(now);
            (next.state, next.settled_at, next.gone_at) = (SnapshotState::Deleting, None, None);
        }
        _ if row.gone_at.is_some() => {}
        (SnapshotState::Gone | SnapshotState::Failed, true) => {
            (next.state, next.settled_at, next.gone_at) = (SnapshotState::Gone, Some(now), Some(now));
        }
        (SnapshotState::Deleting, true) => {
            next.progress = seen.progress.into();
            next.detail.clone_from(&seen.detail);
        }
        // It has not heard yet that it is to be deleted.
        (_, true) => {}
        (SnapshotState::Taking | SnapshotState::Deleting, false) => {
            if row.settled_at.is_none() {
                next.progress = seen.progress.into();
            }
        }
        (SnapshotState::Ready, false) => {
            as_told(&mut next);
            (next.state, next.progress) = (SnapshotState::Ready, 100);
            next.detail.clear();
            next.settled_at.get_or_insert(now);
        }
        (SnapshotState::Failed, false) if row.state == SnapshotState::Ready => {}
        (SnapshotState::Gone | SnapshotState::Failed, false) => {
            (next.state, next.current) = (SnapshotState::Failed, false);
            next.settled_at.get_or_insert(now);
            next.detail = match seen.detail.as_str() {
                "" => "its host does not have it any more".to_owned(),
                why => why.to_owned(),
            };
        }
    }
    (next != *row).then_some(next)
}

/// Whether it is what that host may say of that desktop's.
fn is_of(row: &Snapshot, link: &Link, seen: &SnapshotObserved) -> bool {
    row.host_id == link.host && row.desktop_id == seen.desktop
}

/// The most of a desktop that are put on record though nobody has asked for them.
const MOST_FOUND: usize = 150;

/// What a host says of snapshots that is not on record yet.
pub(in crate::store) fn news(
    tx: &mut Tx<'_>,
    link: &Link,
    seen: &[SnapshotObserved],
    complete: bool,
) -> Result<Vec<SnapshotObserved>> {
    let now = tx.now();
    let rows = tx.peek_all(seen.iter().map(|o| Snapshot::key(&o.snapshot)))?;
    let is_news = |o: &&SnapshotObserved| match rows.iter().find(|row| row.id == o.snapshot) {
        Some(row) => is_of(row, link, o) && after(row, o, now).is_some(),
        // After a backup of the database was put back.
        None => o.state == SnapshotState::Ready,
    };
    let mut news: Vec<SnapshotObserved> = seen.iter().filter(is_news).cloned().collect();
    if complete {
        let known = all(tx, || Snapshot::on_host(&link.host), |snapshot| snapshot.id)?;
        let missing = known.iter().filter(|row| seen.iter().all(|o| o.snapshot != row.id));
        // One that it has not heard of yet is no news.
        let missing = missing.filter(|row| row.deleted_at.is_some() || row.state == SnapshotState::Ready);
        news.extend(missing.map(|row| SnapshotObserved {
            desktop: row.desktop_id,
            snapshot: row.id,
            state: SnapshotState::Gone,
            progress: 0,
            detail: String::new(),
            parent: None,
            current: false,
            memory: row.memory,
            taken_at: 0,
            pause_ms: 0,
            bytes: 0,
        }));
    }
    Ok(news)
}

/// Puts it on record; the desktops of which something else is known by it.
pub(in crate::store) fn note(
    tx: &mut Tx<'_>,
    link: &Link,
    news: &[SnapshotObserved],
) -> Result<Vec<DesktopId>> {
    let now = tx.now();
    let (mut noted, mut grown, mut told) = (Vec::new(), Vec::new(), false);
    let mut news: Vec<&SnapshotObserved> = news.iter().collect();
    news.sort_by_key(|seen| (seen.desktop, seen.snapshot));
    for seen in news {
        // Desktops are held before their snapshots.
        let _desktop = tx.lock(Desktop::key(&seen.desktop))?;
        let Some(mut row) = tx.lock(Snapshot::key(&seen.snapshot))? else {
            noted.extend(found(tx, link, seen)?);
            continue;
        };
        let Some(next) = after(&row, seen, now).filter(|_| is_of(&row, link, seen)) else { continue };
        if next.state != row.state {
            let name =
                tx.peek(Desktop::key(&row.desktop_id))?.map(|desktop| desktop.name).unwrap_or_default();
            let (action, detail) = match next.state {
                SnapshotState::Ready => ("snapshot.taken", next.name.clone()),
                SnapshotState::Failed => ("snapshot.failed", format!("{}: {}", next.name, next.detail)),
                SnapshotState::Gone => ("snapshot.gone", next.name.clone()),
                _ => ("snapshot.back", next.name.clone()),
            };
            tx.audit("system", action, &name, &detail)?;
        }
        told |= next.settled_at.is_none() && row.settled_at.is_some();
        let more = next.scheduled && next.state == SnapshotState::Ready && row.state != SnapshotState::Ready;
        noted.push(row.desktop_id);
        *row = next;
        tx.update(&row)?;
        if more {
            grown.push(row.desktop_id);
        }
    }
    for desktop in grown {
        told |= retain(tx, desktop)?;
    }
    if told {
        let mut host = link.lock(tx)?;
        host.revision += 1;
        tx.update(&host)?;
    } else {
        link.share(tx)?;
    }
    Ok(noted)
}

/// A host has a snapshot that is not on record, as after a backup of the database was put back: it is shown, so that somebody decides.
fn found(tx: &mut Tx<'_>, link: &Link, seen: &SnapshotObserved) -> Result<Option<DesktopId>> {
    let desktop = tx.peek(Desktop::key(&seen.desktop))?;
    let Some(desktop) = desktop.filter(|d| d.is_wanted() && d.host_id == Some(link.host)) else {
        return Ok(None);
    };
    if all(tx, || Snapshot::of_desktop(&desktop.id), |snapshot| snapshot.id)?.len() >= MOST_FOUND {
        return Ok(None);
    }
    let now = tx.now();
    let mut name = name_of(seen.taken_at);
    if tx.find(Snapshot::named(&desktop.id, &name))?.is_some() {
        name = format!("{name} ({})", seen.snapshot);
    }
    let row = Snapshot {
        id: seen.snapshot,
        desktop_id: desktop.id,
        host_id: link.host,
        name,
        state: SnapshotState::Ready,
        progress: 100,
        detail: String::new(),
        memory: seen.memory,
        scheduled: false,
        created_by: "system".to_owned(),
        wish: 0,
        created_at: now,
        until: now,
        parent_id: seen.parent,
        current: seen.current,
        taken_at: Some(seen.taken_at),
        pause_ms: seen.pause_ms,
        bytes: seen.bytes,
        deleted_at: None,
        settled_at: Some(now),
        gone_at: None,
    };
    tx.insert(&row)?;
    tx.audit("system", "snapshot.found", &desktop.name, &row.name)?;
    Ok(Some(desktop.id))
}
