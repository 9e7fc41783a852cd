//! `lucarne disk`.

use super::Remote;
use clap::{Args as ClapArgs, Subcommand};

/// `lucarne disk`.
#[derive(ClapArgs)]
pub struct Disk {
    #[command(flatten)]
    pub remote: Remote,
    #[command(subcommand)]
    pub command: DiskCommand,
}

/// `lucarne disk …`.
#[derive(Subcommand)]
pub enum DiskCommand {
    /// List users' home disks.
    List,
    /// Destroy a home disk with everything that its user saved.
    Delete {
        /// The disk's id.
        id: String,
    },
}
