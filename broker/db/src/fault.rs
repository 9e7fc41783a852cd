//! What can go wrong with a database, whichever it is.

use crate::value::Value;
use std::path::PathBuf;

/// A fault of the database or of what it holds. Nothing of the transaction that met it was kept, but for
/// [`Fault::Unknown`], where nobody can tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file cannot be used, is not a database, or is of a newer version.
    #[error("cannot open the broker's database {file}: {reason}", file = file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// The server cannot be reached, or ends connections.
    #[error("the broker's database cannot be reached: {0}. What was asked for was not done; try again")]
    Unavailable(String),
    /// The connection broke while the transaction was being committed.
    #[error(
        "the connection to the broker's database broke while a change was being committed: {0}. Look whether it was made \
         before you ask for it again"
    )]
    Unknown(String),
    /// Another transaction was in the way, each time that this was tried.
    #[error(
        "others changed the same in the broker's database at the same time, again and again: {0}. Try again"
    )]
    Contended(String),
    /// A unique index does not allow it, each time that this was tried: an invariant that code above has missed.
    #[error("the broker's database refused a double: {0}")]
    Double(String),
    /// A row holds something that this version cannot read.
    #[error("the broker's database holds a {table}.{column} that cannot be read: {value}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// What it holds.
        value: String,
    },
    /// The schema is not what this version works with.
    #[error("the broker's database is not as this version needs it: {0}")]
    Schema(String),
    /// Anything else that the engine says.
    #[error("the broker's database failed: {0}")]
    Engine(String),
}

/// A transaction can be tried again after these.
pub(crate) fn is_passing(fault: &Fault) -> bool {
    matches!(fault, Fault::Contended(_) | Fault::Double(_))
}

pub(crate) fn corrupt(table: &'static str, (column, value): (&'static str, Value)) -> Fault {
    Fault::Corrupt { table, column, value: value.to_string() }
}
