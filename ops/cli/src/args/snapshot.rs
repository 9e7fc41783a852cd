//! `lucarne snapshot`.

use super::Remote;
use clap::{Args as ClapArgs, Subcommand};

/// `lucarne snapshot`.
#[derive(ClapArgs)]
pub struct Snapshot {
    #[command(flatten)]
    pub remote: Remote,
    #[command(subcommand)]
    pub command: SnapshotCommand,
}

/// `lucarne snapshot …`.
#[derive(Subcommand)]
pub enum SnapshotCommand {
    /// List a personal desktop's snapshots.
    List {
        /// The desktop's id, or a live one's name.
        desktop: String,
    },
    /// Take a snapshot of a personal desktop, which runs on meanwhile.
    Take {
        /// The desktop's id, or a live one's name.
        desktop: String,
        /// A name for it; the time when left out.
        #[arg(long)]
        name: Option<String>,
        /// Only of its disk, and not of what is open in it.
        #[arg(long)]
        disk_only: bool,
        /// Wait until it is taken.
        #[arg(long)]
        wait: bool,
    },
    /// Show a snapshot.
    Show {
        /// The snapshot's id.
        id: String,
    },
    /// Put a desktop back to a snapshot. What is on its disk now, and was not then, is lost.
    Revert {
        /// The snapshot's id.
        id: String,
        /// Wait until the desktop is put back.
        #[arg(long)]
        wait: bool,
    },
    /// Make a desktop of a snapshot, with an identity of its own.
    Clone {
        /// The snapshot's id.
        id: String,
        /// The name of the user whose the clone is to be.
        #[arg(long)]
        user: String,
        /// The clone's pool, of the same image, machine and network; the snapshot's own when left out.
        #[arg(long)]
        pool: Option<String>,
        /// Wait until it is ready.
        #[arg(long)]
        wait: bool,
    },
    /// Delete a snapshot, or give one up that is being taken.
    Delete {
        /// The snapshot's id.
        id: String,
        /// Wait until it is gone.
        #[arg(long)]
        wait: bool,
    },
}
