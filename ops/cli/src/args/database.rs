//! `lucarne database`.

use super::DataDir;
use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

/// `lucarne database`: the broker's own, on this machine, or the one that brokers share.
#[derive(ClapArgs)]
pub struct Database {
    #[command(flatten)]
    pub data: DataDir,
    /// The PostgreSQL database, where brokers share one.
    #[arg(long, env = "LUCARNE_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
    #[command(subcommand)]
    pub command: DatabaseCommand,
}

/// `lucarne database …`.
#[derive(Subcommand)]
pub enum DatabaseCommand {
    /// Write a backup of the broker's own database to a new file, while the broker runs. A PostgreSQL database is backed up
    /// with pg_dump.
    Backup {
        /// The file, which must not be there.
        file: PathBuf,
    },
    /// Put a backup in the place of the broker's own database, and have hosts follow it. The broker has to be stopped; what was
    /// there is kept beside it.
    Restore {
        /// The file.
        file: PathBuf,
    },
    /// Say that a PostgreSQL database was put back with pg_restore, before any broker is started on it: hosts, which have
    /// followed what came after the backup, follow the database again, and nothing is made twice.
    Restored,
}
