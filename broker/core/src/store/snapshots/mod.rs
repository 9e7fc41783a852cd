//! Snapshots of personal desktops: what is asked for, by people and by schedules, and what hosts say of it.
//!
//! ```text
//! taking ──► ready ──► deleting ──► gone          settled: its host has nothing to do for it
//!    └─────► failed ──────────────► gone
//! ```
//!
//! Its host takes a snapshot, and deletes it, as long as it is not settled. What people see in between is what the host said last.

mod record;
mod schedule;

pub(super) use record::{news, note};
pub(super) use schedule::{reschedule, schedule, scheduled};

use super::{Ended, Error, Object, Result, Store, all, clones, end, maintenance, seconds, timers};
use lucarne_control::agent::{SnapshotDesired, SnapshotState, SnapshotWish};
use lucarne_control::desktop::{DesiredState, Phase};
use lucarne_control::snapshot::{self as api, NewSnapshot, SnapshotPolicy};
use lucarne_control::{DesktopId, HostId, SnapshotId};
use lucarne_db::tables::{Desktop, Host, Pool, Snapshot};
use lucarne_db::{Locked, Tx};
use lucarne_mutants::mutant;

/// For how long a host may put off taking a snapshot, milliseconds: one that is asked for shows the desktop as it was about then.
const TIMELY: i64 = 15 * 60_000;

/// Why a session ended whose desktop was put back to a snapshot.
pub const PUT_BACK: &str = "its desktop was put back to a snapshot";

/// Who asks for a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By<'a> {
    Person(&'a str),
    Schedule,
}

fn policy(tx: &mut Tx<'_>, desktop: &Desktop) -> Result<SnapshotPolicy> {
    Ok(tx.peek(Pool::key(&desktop.pool_id))?.map(|pool| pool.rules.0.snapshots).unwrap_or_default())
}

/// The desktop, held, if it has snapshots.
fn lock(tx: &mut Tx<'_>, id: DesktopId) -> Result<Locked<Desktop>> {
    let desktop = tx.lock(Desktop::key(&id))?.filter(|desktop| desktop.is_wanted());
    let desktop = desktop.ok_or_else(|| Error::not_found("desktop", id))?;
    if !desktop.persistent {
        return Err(Error::NoSnapshots { desktop: desktop.name.clone() });
    }
    Ok(desktop)
}

/// What should be on its host has changed. Hosts are the last rows that a transaction takes.
fn tell(tx: &mut Tx<'_>, host: HostId) -> Result<()> {
    if let Some(mut host) = tx.lock(Host::key(&host))?
        && !mutant("a host is not told of a snapshot")
    {
        host.revision += 1;
        tx.update(&host)?;
    }
    Ok(())
}

/// The time as a name, such as `2026-11-23 10:04:18`.
fn name_of(now: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(now).unwrap_or_default();
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn take(tx: &mut Tx<'_>, desktop: &Desktop, new: &NewSnapshot, by: By<'_>) -> Result<Snapshot> {
    let policy = policy(tx, desktop)?;
    let there = all(tx, || Snapshot::of_desktop(&desktop.id), |snapshot| snapshot.id)?;
    let counts = |s: &&Snapshot| !s.scheduled && s.deleted_at.is_none() && s.state != SnapshotState::Failed;
    let asked = there.iter().filter(counts).count();
    if matches!(by, By::Person(_)) && asked >= policy.max() as usize {
        return Err(Error::TooManySnapshots { desktop: desktop.name.clone(), max: policy.max() });
    }
    let host = desktop
        .host_id
        .filter(|_| desktop.held)
        .ok_or_else(|| Error::NotMade { desktop: desktop.name.clone() })?;
    if desktop.back_to.is_some() {
        let by = "it is being put back to a snapshot; try again when it is".to_owned();
        return Err(Error::InUse { what: "desktop", name: desktop.name.clone(), by });
    }
    let now = tx.now();
    let name = new.name.as_deref().map_or_else(|| name_of(now), |name| name.trim().to_owned());
    if tx.find(Snapshot::named(&desktop.id, &name))?.is_some() {
        return Err(Error::NameTaken { what: "snapshot", name });
    }
    let (actor, scheduled) = match by {
        By::Person(actor) => (actor, false),
        By::Schedule => ("system", true),
    };
    let snapshot = Snapshot {
        id: SnapshotId(tx.uuid()),
        desktop_id: desktop.id,
        host_id: host,
        name,
        state: SnapshotState::Taking,
        progress: 0,
        detail: String::new(),
        memory: new.memory.unwrap_or(true),
        scheduled,
        created_by: actor.to_owned(),
        wish: desktop.desired_gen,
        created_at: now,
        until: now + TIMELY,
        parent_id: None,
        current: false,
        taken_at: None,
        pause_ms: 0,
        bytes: 0,
        deleted_at: None,
        settled_at: None,
        gone_at: None,
    };
    tx.insert(&snapshot)?;
    tx.audit(actor, "snapshot.created", &desktop.name, &snapshot.name)?;
    Ok(snapshot)
}

/// Has it deleted; tells whether its host has to do something for that.
fn delete(tx: &mut Tx<'_>, actor: &str, mut snapshot: Locked<Snapshot>, desktop: &Desktop) -> Result<bool> {
    if snapshot.deleted_at.is_some() {
        return Ok(false);
    }
    if desktop.back_to == Some(snapshot.id)
        && !mutant("a snapshot is deleted that its desktop is being put back to")
    {
        let by = format!("{} is being put back to it", desktop.name);
        return Err(Error::InUse { what: "snapshot", name: snapshot.name.clone(), by });
    }
    if let Some(clone) = clones::being_made(tx, snapshot.id)? {
        let by = format!("{} is being made of it", clone.name);
        return Err(Error::InUse { what: "snapshot", name: snapshot.name.clone(), by });
    }
    let now = tx.now();
    snapshot.deleted_at = Some(now);
    let was_there = snapshot.state != SnapshotState::Failed;
    if was_there {
        (snapshot.state, snapshot.settled_at, snapshot.progress) = (SnapshotState::Deleting, None, 0);
    } else {
        (snapshot.state, snapshot.gone_at) = (SnapshotState::Gone, Some(now));
    }
    snapshot.detail.clear();
    tx.update(&snapshot)?;
    tx.audit(actor, "snapshot.deleted", &desktop.name, &snapshot.name)?;
    Ok(was_there)
}

/// What the host of a link has to do for snapshots.
pub(super) fn desired(tx: &mut Tx<'_>, host: HostId) -> Result<Vec<SnapshotDesired>> {
    let pending = all(tx, || Snapshot::pending(&host), |snapshot| snapshot.id)?;
    let wish = |snapshot: &Snapshot| SnapshotDesired {
        desktop: snapshot.desktop_id,
        snapshot: snapshot.id,
        wish: match snapshot.deleted_at {
            Some(_) => SnapshotWish::Delete,
            None => SnapshotWish::Take { memory: snapshot.memory, until: snapshot.until },
        },
    };
    Ok(pending.iter().map(wish).collect())
}

/// A desktop is gone, and its snapshots with it.
pub(super) fn gone(tx: &mut Tx<'_>, desktop: DesktopId) -> Result<()> {
    let now = tx.now();
    for snapshot in all(tx, || Snapshot::of_desktop(&desktop), |snapshot| snapshot.id)? {
        if let Some(mut snapshot) = tx.lock(Snapshot::key(&snapshot.id))?.filter(|s| s.gone_at.is_none()) {
            snapshot.deleted_at.get_or_insert(now);
            (snapshot.state, snapshot.settled_at, snapshot.gone_at) =
                (SnapshotState::Gone, Some(now), Some(now));
            tx.update(&snapshot)?;
        }
    }
    Ok(())
}

fn view(snapshot: Snapshot) -> api::Snapshot {
    api::Snapshot {
        id: snapshot.id,
        desktop: snapshot.desktop_id,
        name: snapshot.name,
        state: snapshot.state,
        progress: u8::try_from(snapshot.progress).unwrap_or(100),
        detail: snapshot.detail,
        memory: snapshot.memory,
        parent: snapshot.parent_id,
        current: snapshot.current,
        scheduled: snapshot.scheduled,
        created_by: snapshot.created_by,
        created_at: seconds(snapshot.created_at),
        taken_at: snapshot.taken_at.map(seconds),
        pause_ms: snapshot.pause_ms,
        bytes: snapshot.bytes,
    }
}

/// Whose a snapshot is, and whether they may do something to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOf {
    /// What the desktop is to whoever asks for it.
    pub object: Object,
    /// Its user may take and delete snapshots of it, and put it back.
    pub users: bool,
}

impl Store {
    /// The snapshots of a desktop, oldest first. There are never more than a hundred or so.
    ///
    /// # Errors
    /// A database fault.
    pub async fn snapshots(&self, desktop: DesktopId) -> Result<Vec<api::Snapshot>> {
        self.read(move |tx| {
            let snapshots = all(tx, || Snapshot::of_desktop(&desktop), |snapshot| snapshot.id)?;
            Ok(snapshots.into_iter().map(view).collect())
        })
        .await
    }

    /// The snapshot of that id, and whose it is.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn snapshot(&self, id: SnapshotId) -> Result<(api::Snapshot, SnapshotOf)> {
        self.read(move |tx| {
            let missing = || Error::not_found("snapshot", id);
            let snapshot =
                tx.peek(Snapshot::key(&id))?.filter(|s| s.gone_at.is_none()).ok_or_else(missing)?;
            let desktop = tx.peek(Desktop::key(&snapshot.desktop_id))?.ok_or_else(missing)?;
            let object = Object::Desktop {
                pool: desktop.pool_id,
                owner: desktop.user_id.filter(|_| desktop.assigned),
            };
            let users = policy(tx, &desktop)?.users;
            Ok((view(snapshot), SnapshotOf { object, users }))
        })
        .await
    }

    /// Whether the user of a desktop may take and delete snapshots of it, and put it back.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn users_may_snapshot(&self, desktop: DesktopId) -> Result<bool> {
        self.read(move |tx| {
            let desktop =
                tx.peek(Desktop::key(&desktop))?.ok_or_else(|| Error::not_found("desktop", desktop))?;
            Ok(policy(tx, &desktop)?.users)
        })
        .await
    }

    /// Has a snapshot taken; the host that has to be told.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NoSnapshots`], [`Error::TooManySnapshots`], [`Error::NotMade`], [`Error::NameTaken`], or a database
    /// fault.
    pub async fn take_snapshot(
        &self,
        actor: &str,
        desktop: DesktopId,
        new: &NewSnapshot,
    ) -> Result<(api::Snapshot, HostId)> {
        let (actor, new) = (actor.to_owned(), new.clone());
        self.write(move |tx| {
            let desktop = lock(tx, desktop)?;
            let snapshot = take(tx, &desktop, &new, By::Person(&actor))?;
            let host = snapshot.host_id;
            tell(tx, host)?;
            Ok((view(snapshot), host))
        })
        .await
    }

    /// Has a snapshot deleted, or given up that is being taken; the host that has to be told. Nothing when that was decided before.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn delete_snapshot(&self, actor: &str, id: SnapshotId) -> Result<Option<HostId>> {
        let actor = actor.to_owned();
        self.write(move |tx| {
            let missing = || Error::not_found("snapshot", id);
            let desktop = tx.peek(Snapshot::key(&id))?.ok_or_else(missing)?.desktop_id;
            let desktop = tx.lock(Desktop::key(&desktop))?.ok_or_else(missing)?;
            let snapshot =
                tx.lock(Snapshot::key(&id))?.filter(|s| s.gone_at.is_none()).ok_or_else(missing)?;
            let host = snapshot.host_id;
            if delete(tx, &actor, snapshot, &desktop)? {
                tell(tx, host)?;
                return Ok(Some(host));
            }
            Ok(None)
        })
        .await
    }

    /// Puts a desktop back to a snapshot: what is on its disk now, and was not then, is lost. It runs afterwards if it does now.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InUse`] where the snapshot is not there, [`Error::HostInMaintenance`], or a database fault.
    pub async fn put_back(&self, actor: &str, id: SnapshotId) -> Result<Ended> {
        let actor = actor.to_owned();
        self.write(move |tx| {
            let missing = || Error::not_found("snapshot", id);
            let desktop = tx.peek(Snapshot::key(&id))?.ok_or_else(missing)?.desktop_id;
            let mut desktop = lock(tx, desktop)?;
            let snapshot =
                tx.lock(Snapshot::key(&id))?.filter(|s| s.gone_at.is_none()).ok_or_else(missing)?;
            if snapshot.state != SnapshotState::Ready || snapshot.deleted_at.is_some() {
                let by = format!("it is {}", snapshot.state.as_str());
                return Err(Error::InUse { what: "snapshot", name: snapshot.name.clone(), by });
            }
            let others = all(tx, || Snapshot::of_desktop(&desktop.id), |snapshot| snapshot.id)?;
            if let Some(taking) = others.iter().find(|s| s.state == SnapshotState::Taking) {
                let by = format!(
                    "{} is just being taken, and would be of what comes after; wait for it, or delete it",
                    taking.name
                );
                return Err(Error::InUse { what: "snapshot", name: snapshot.name.clone(), by });
            }
            maintenance::check(tx, &desktop)?;
            let runs = desktop.desired == DesiredState::Running;
            if !runs {
                desktop.desired = if snapshot.memory { DesiredState::Suspended } else { DesiredState::Off };
            }
            desktop.desired_gen += 1;
            (desktop.back_to, desktop.back_gen) = (Some(id), desktop.desired_gen);
            (desktop.phase, desktop.endpoint) = (if runs { Phase::Placing } else { Phase::Stopping }, None);
            desktop.detail = format!("{actor} put it back to {}", snapshot.name);
            tx.update(&desktop)?;
            let session = end::close_session(tx, &desktop, PUT_BACK)?;
            if let Some(pool) = tx.peek(Pool::key(&desktop.pool_id))? {
                timers::arrival(tx, &desktop, &pool)?;
            }
            let host = desktop.host_id;
            if let Some(host) = host {
                tell(tx, host)?;
            }
            tx.audit(&actor, "desktop.put_back", &desktop.name, &snapshot.name)?;
            Ok(Ended { desktop: desktop.id, host, session, why: PUT_BACK })
        })
        .await
    }
}
