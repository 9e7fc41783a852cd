//! The broker's tables, and the engines that keep them.
//!
//! ```text
//! broker::store ── Db::write(|tx| …) ──► engine ──► memory (simulation) | SQLite (one file) | PostgreSQL (a server)
//!                      Tx: rows by key and index, locks, audit
//! ```
//!
//! What the broker decides is written once, as closures over [`Tx`], and runs the same on every engine: what the
//! simulation shows of it on memory is shown of what people run. Engines know rows and indexes; they know no desktop and no
//! user. Everything is synchronous inside of a transaction, on a thread of the engine; outside, [`Db`] is asynchronous.
//!
//! * [`value`], [`table`], [`tables`]: what is kept. [`tx`]: how it is read and changed. [`audit`]: the log's chain.
//! * `engine`: jobs and what becomes of them. `memory`, `sqlite`, `postgres`: the engines. `sql`: the statements that the
//!   latter two share. `schema`: that a database is as declared here.

// What only the engines of servers use is there for them.
#![cfg_attr(not(feature = "engines"), allow(dead_code))]

pub mod audit;
#[cfg(feature = "engines")]
mod backup;
mod engine;
mod fault;
mod ids;
mod memory;
#[cfg(feature = "engines")]
mod postgres;
#[cfg(feature = "engines")]
mod schema;
#[cfg(feature = "engines")]
mod sql;
#[cfg(feature = "engines")]
mod sqlite;
pub mod table;
pub mod tables;
pub mod tx;
pub mod value;
#[cfg(feature = "engines")]
pub mod wakes;

pub use crate::fault::Fault;
pub use crate::memory::{Clock, Gate, Pending, Simulated, Snapshot};
pub use crate::table::{Key, Row, Select};
pub use crate::tx::{Locked, Tx};

use crate::engine::{Engine, Mode, Work, panicked};
#[cfg(feature = "engines")]
use std::path::Path;
use std::sync::Arc;

/// A database with the broker's tables.
#[derive(Clone)]
pub struct Db {
    engine: Arc<dyn Engine>,
    name: Arc<str>,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Db({})", self.name)
    }
}

impl Db {
    /// An empty one in memory, whose time is `clock`'s and whose ids follow from `seed`.
    #[must_use]
    pub fn memory(clock: Clock, seed: u64) -> Self {
        Self { engine: Arc::new(memory::Memory::new(clock, seed)), name: "memory".into() }
    }

    /// The one in an SQLite file, which is made when there is none and brought up to date.
    ///
    /// # Errors
    /// [`Fault::Open`] when the file cannot be used, is not a database, or is of a newer version.
    #[cfg(feature = "engines")]
    pub async fn sqlite(file: &Path) -> Result<Self, Fault> {
        let (file, name) = (file.to_owned(), format!("SQLite {}", file.display()));
        let engine = blocking(move || sqlite::Sqlite::open(&file)).await?;
        Ok(Self { engine: Arc::new(engine), name: name.into() })
    }

    /// Writes what an SQLite file has in it now, whoever uses it, to a new file.
    ///
    /// # Errors
    /// [`Fault::Engine`] when the new file is there already or cannot be written, or the first cannot be read.
    #[cfg(feature = "engines")]
    pub async fn back_up_sqlite(file: &Path, to: &Path) -> Result<(), Fault> {
        let (file, to) = (file.to_owned(), to.to_owned());
        blocking(move || backup::back_up(&file, &to)).await
    }

    /// Whether an SQLite file is whole, and a broker's database.
    ///
    /// # Errors
    /// [`Fault::Engine`] with what is wrong.
    #[cfg(feature = "engines")]
    pub async fn check_sqlite(file: &Path) -> Result<(), Fault> {
        let file = file.to_owned();
        blocking(move || backup::check(&file)).await
    }

    /// The one that a PostgreSQL server has under `url` (`postgresql://user@host/database`, or libpq's words), brought
    /// up to date. Connections are not encrypted: the server is on this machine, or on a network that is.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when the server does not answer, [`Fault::Schema`] when the database is of a newer version or not
    /// as it should be, [`Fault::Engine`] when a migration fails.
    #[cfg(feature = "engines")]
    pub async fn postgres(url: &str) -> Result<Self, Fault> {
        let url = url.to_owned();
        let engine = blocking(move || postgres::Postgres::open(&url)).await?;
        Ok(Self { engine: Arc::new(engine), name: "PostgreSQL".into() })
    }

    /// Does `work` in one transaction, which is kept when it gives `Ok` and rolled back when not. It may be run several
    /// times, when other transactions are in the way, and is kept once at most.
    ///
    /// # Errors
    /// What `work` gives, or a fault of the database.
    pub async fn write<T, E>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Fault> + Send + 'static,
    {
        self.run(Mode::Write, work).await
    }

    /// Does `work` in one transaction that sees one state of the database and changes nothing.
    ///
    /// # Errors
    /// What `work` gives, or a fault of the database.
    pub async fn read<T, E>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Fault> + Send + 'static,
    {
        self.run(Mode::Read, work).await
    }

    async fn run<T, E>(
        &self,
        mode: Mode,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Fault> + Send + 'static,
    {
        let (work, answer) = Work::new(work);
        self.engine.submit(mode, Box::new(work));
        // Dropped without an answer: its work panicked.
        answer.await.unwrap_or_else(|_| Err(panicked().into()))
    }

    /// Ends it when everything that was asked for is done.
    pub async fn close(&self) {
        let engine = Arc::clone(&self.engine);
        let _ = tokio::task::spawn_blocking(move || engine.close()).await;
    }
}

#[cfg(feature = "engines")]
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(panicked()))
}
