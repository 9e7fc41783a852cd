//! Backups of the broker's database, and what follows when one is put back; for the command line, without a broker.

use lucarne_core::store::{Error, Store};
use lucarne_db::{Db, Fault};
use std::path::Path;

/// Which database.
#[derive(Clone, Copy, Debug)]
pub enum Where<'a> {
    /// An SQLite file.
    File(&'a Path),
    /// A PostgreSQL server's.
    Url(&'a str),
}

/// Writes a backup of an SQLite file that may be in use.
///
/// # Errors
/// The file is there already, or cannot be written; it is not a database.
pub async fn back_up(file: &Path, to: &Path) -> Result<(), Fault> {
    Db::back_up_sqlite(file, to).await
}

/// Whether a file is a database of this version or an older one.
///
/// # Errors
/// What is wrong with it.
pub async fn check(file: &Path) -> Result<(), Fault> {
    Db::check_sqlite(file).await
}

/// Says that a database was put back: hosts follow it again, and nothing that is gone is made anew.
///
/// # Errors
/// It cannot be opened, or is of a newer version.
pub async fn restored(database: Where<'_>) -> Result<(), Error> {
    let db = match database {
        Where::File(file) => Db::sqlite(file).await?,
        Where::Url(url) => Db::postgres(url).await?,
    };
    let store = Store::new(db);
    let done = store.restored("system").await;
    store.close().await;
    done
}
