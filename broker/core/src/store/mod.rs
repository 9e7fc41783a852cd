//! The broker's durable state: what it decides, written once as transactions over [`lucarne_db`], whichever engine keeps it.
//!
//! Every mutation is one transaction that also writes its audit row. What must never be double is a unique index of the
//! database, so a bug gives an error, not a double. Rows that a decision rests on are locked, where it can be in this
//! order: user, pool, disk, desktop, session, host. Who meets somebody in another order is rolled back and goes again. Knows nothing of SQL, HTTP, of agents or of what is observed.

mod apply;
mod audit;
mod brokers;
mod clones;
mod connect;
mod desktops;
mod disks;
mod end;
mod enroll;
mod entitle;
mod error;
mod explain;
mod figures;
mod hosts;
mod idempotency;
mod images;
mod launch;
mod links;
mod logins;
mod maintenance;
mod make;
mod news;
mod places;
mod pools;
mod power;
mod quotas;
mod reach;
mod record;
mod recovery;
mod scoped_roles;
mod sessions;
mod shadows;
mod snapshots;
mod tickets;
mod timers;
mod users;
mod waiting;

pub use apply::{Plan, Wanted};
pub use brokers::{BEAT, SILENCE, Swept};
pub use clones::CloneRequest;
pub use connect::{Assigned, ConnectRequest};
pub use desktops::{DesktopHost, DesktopRow, PlacedDesktop};
pub use end::{Ended, LASTED, LEFT, LOGGED_OFF};
pub use enroll::{Enrolled, Invitation};
pub use entitle::Holder;
pub use error::{Error, Obstacle, Result};
pub use figures::{Figures, HostFigures, PoolFigures};
pub use idempotency::Claim;
pub use links::{Link, Origin};
pub use logins::{Caller, NewToken};
pub use maintenance::{LONGEST as LONGEST_NOTICE, MAINTENANCE};
pub use news::{Asked, MOST_MOVED, News};
pub use pools::{Deleted, PoolRow};
pub use power::{POWERED_OFF, SUSPENDED, UNUSED, UNUSED_SUSPENDED};
pub use reach::{Object, Reach};
pub use record::Recorded;
pub use scoped_roles::{Grant, Scope};
pub use sessions::{Over, SessionRow};
pub use shadows::ShadowRequest;
pub use snapshots::{PUT_BACK, SnapshotOf};
pub use tickets::Redeemed;
pub use timers::Limited;
pub use users::DeletedUser;
pub use waiting::Prepared;

use lucarne_db::tables::{Counter, REVISION};
use lucarne_db::{Db, Fault, Row, Select, Tx};
use places::Places;
use std::sync::Arc;

/// Rows that are read at once where all are wanted.
const PAGE: usize = 500;

/// The broker's state.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    places: Arc<Places>,
}

impl Store {
    /// The state in a database.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db, places: Arc::default() }
    }

    /// Writes everything to the database and closes it.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// Reads again what is remembered of the hosts, if desktops are being placed and it has become old: to be called again and
    /// again, so that whoever wants a desktop does not wait for it.
    ///
    /// # Errors
    /// A database fault.
    pub async fn remember_hosts(&self) -> Result<()> {
        let places = Arc::clone(&self.places);
        self.read(move |tx| places.refresh(tx)).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.db.write(work).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.db.read(work).await
    }
}

#[cfg(test)]
mod apply_tests;
#[cfg(test)]
mod clone_tests;
#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod idempotency_tests;
#[cfg(test)]
mod life_tests;
#[cfg(test)]
mod news_tests;
#[cfg(test)]
mod scoped_roles_tests;
#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod tests;

/// What should be on every host has changed; part of the transaction that changes it.
fn changed_everywhere(tx: &mut Tx<'_>) -> Result<()> {
    if let Some(mut revision) = tx.lock(Counter::key(REVISION))? {
        revision.value += 1;
        tx.update(&revision)?;
    }
    Ok(())
}

/// All rows by an index, page by page: `after` tells where a row is in it.
fn all<R: Row, A: lucarne_db::value::ToValue>(
    tx: &mut Tx<'_>,
    select: impl Fn() -> Select<R>,
    after: impl Fn(&R) -> A,
) -> Result<Vec<R>, Fault> {
    let mut rows: Vec<R> = tx.list(select().limit(PAGE))?;
    let mut last = rows.len();
    while last == PAGE {
        let Some(row) = rows.last() else { break };
        let page = tx.list(select().after(&after(row)).limit(PAGE))?;
        last = page.len();
        rows.extend(page);
    }
    Ok(rows)
}

/// At most `limit` of the rows by an index that `fit`, after the one where `from` says.
fn page<R: Row, A: lucarne_db::value::ToValue>(
    tx: &mut Tx<'_>,
    select: impl Fn() -> Select<R>,
    after: impl Fn(&R) -> A,
    from: Option<A>,
    limit: usize,
    fits: impl Fn(&R) -> bool,
) -> Result<Vec<R>, Fault> {
    let (mut found, mut from, mut first) = (Vec::new(), from, true);
    while found.len() < limit {
        // Where most do not fit, the next pages are large.
        let wanted = if first { limit.min(PAGE) } else { PAGE };
        first = false;
        let rows = tx.list(match &from {
            Some(from) => select().after(from).limit(wanted),
            None => select().limit(wanted),
        })?;
        let (read, last) = (rows.len(), rows.last().map(&after));
        found.extend(rows.into_iter().filter(&fits));
        if read < wanted {
            break;
        }
        from = last;
    }
    found.truncate(limit);
    Ok(found)
}

/// At most this many rows; a caller's `limit` that is no number of rows is one that asks for none.
fn rows(limit: i64) -> usize {
    usize::try_from(limit).unwrap_or(0)
}

/// Milliseconds of the database as the API's seconds.
fn seconds(ms: i64) -> i64 {
    ms.div_euclid(1000)
}
