//! The broker's durable state: the only module that speaks SQL.
//!
//! One writer connection (SQLite has one writer anyway; queueing here beats busy errors there) and several readers.
//! Every mutation is one transaction that also writes its audit row. What must never be double is a unique index in
//! `migrations/`, so a bug gives an error, not a double. Knows nothing of HTTP, of agents or of what is observed.

mod audit;
mod connect;
mod desktops;
mod end;
mod error;
mod hosts;
mod images;
mod logins;
mod pools;
mod sessions;
mod shadows;
mod snapshot;
mod tickets;
mod users;

pub use connect::{Assigned, ConnectRequest};
pub use desktops::{DesktopRow, PlacedDesktop};
pub use end::Ended;
pub use error::{Error, Result};
pub use logins::{Caller, LoginKind};
pub use pools::PoolRow;
pub use sessions::SessionRow;
pub use shadows::ShadowRequest;
pub use tickets::Redeemed;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};
use std::path::Path;
use std::time::Duration;

/// Readers that run at once. Too few: API lists wait for each other. Too many: only memory, some 2 MB each.
const READERS: u32 = 4;

/// How long a connection waits for a lock of another process (a backup, a shell) before it gives up.
const BUSY: Duration = Duration::from_secs(10);

type Tx = Transaction<'static, Sqlite>;

/// The broker's state in one SQLite file.
#[derive(Clone, Debug)]
pub struct Store {
    writer: SqlitePool,
    reader: SqlitePool,
}

impl Store {
    /// Opens `file`, creates it (mode as the process' umask says) when there is none, and brings its schema up to date.
    ///
    /// # Errors
    /// [`Error::Open`] when the file cannot be used, is not a database, or is of a newer version.
    pub async fn open(file: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .pragma("secure_delete", "on");
        let open = |e: sqlx::Error| Error::Open { file: file.to_owned(), reason: e.to_string() };
        let writer =
            SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await.map_err(open)?;
        sqlx::migrate!()
            .run(&writer)
            .await
            .map_err(|e| Error::Open { file: file.to_owned(), reason: e.to_string() })?;
        let reader = SqlitePoolOptions::new()
            .min_connections(1)
            .max_connections(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(open)?;
        Ok(Self { writer, reader })
    }

    /// Writes everything to the file and closes it.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Begins a transaction that may write: it holds SQLite's write lock from the start, so what it reads stays true.
    async fn begin(&self) -> Result<Tx> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

#[cfg(test)]
mod tests;

/// Raises the revision of the desired sets; part of each transaction that changes what should be on a host.
async fn bump_revision(tx: &mut Tx) -> Result<()> {
    sqlx::query("UPDATE revision SET value = value + 1 WHERE id = 1").execute(&mut **tx).await?;
    Ok(())
}

/// Milliseconds of the database as the API's seconds.
fn seconds(ms: i64) -> i64 {
    ms.div_euclid(1000)
}
