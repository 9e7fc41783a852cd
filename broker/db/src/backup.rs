//! Backups of an SQLite file: whole and consistent, also while it is in use.

use crate::fault::Fault;
use rusqlite::{Connection, OpenFlags};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

fn open(file: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(file, flags).map_err(|e| said(file, &e))
}

fn said(file: &Path, error: &rusqlite::Error) -> Fault {
    Fault::Engine(format!("{}: {error}", file.display()))
}

/// Writes what is in `file` now to the new file `to`.
///
/// # Errors
/// [`Fault::Engine`] when `to` is there already or cannot be written, or `file` cannot be read.
pub(crate) fn back_up(file: &Path, to: &Path) -> Result<(), Fault> {
    if to.exists() {
        return Err(Fault::Engine(format!("{} is there already; choose another name", to.display())));
    }
    let name = to.to_str().ok_or_else(|| Fault::Engine(format!("{} is not UTF-8", to.display())))?;
    // For nobody else: in it are the hashes of passwords, and the key that certificates are issued with.
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    made.map_err(|e| Fault::Engine(format!("{}: {e}", to.display())))?;
    let written = open(file)?.execute("VACUUM INTO ?1", [name]);
    written.map_err(|e| said(to, &e))?;
    let flushed = std::fs::File::open(to).and_then(|file| file.sync_all());
    flushed.map_err(|e| Fault::Engine(format!("{}: {e}", to.display())))
}

/// Whether a file is whole, and a broker's database.
///
/// # Errors
/// [`Fault::Engine`] with what is wrong.
pub(crate) fn check(file: &Path) -> Result<(), Fault> {
    let connection = open(file)?;
    let ask = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0));
    let found = ask("PRAGMA integrity_check").map_err(|e| said(file, &e))?;
    if found != "ok" {
        return Err(Fault::Engine(format!("{} is damaged: {found}", file.display())));
    }
    let hosts = ask("SELECT name FROM sqlite_master WHERE name = 'desktops'");
    hosts.map(drop).map_err(|_| Fault::Engine(format!("{} has no desktops' table in it", file.display())))
}
