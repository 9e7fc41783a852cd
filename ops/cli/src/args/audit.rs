//! `lucarne audit`.

use super::Remote;
use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

/// `lucarne audit`: prints the log.
#[derive(ClapArgs)]
pub struct Audit {
    #[command(flatten)]
    pub remote: Remote,
    #[command(subcommand)]
    pub command: Option<AuditCommand>,
}

/// `lucarne audit …`.
#[derive(Subcommand)]
pub enum AuditCommand {
    /// Read the whole log and say whether anything in it was changed, moved or taken out.
    Verify {
        /// What an earlier check printed with `-o json`, kept where whoever can change the database cannot: shows that
        /// nothing was cut off the end since.
        #[arg(long, value_name = "FILE")]
        known: Option<PathBuf>,
    },
}
