//! `lucarne desktop`.

use super::Remote;
use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

/// `lucarne desktop`.
#[derive(ClapArgs)]
pub struct Desktop {
    #[command(flatten)]
    pub remote: Remote,
    /// Run the process of one desktop; the host agent does.
    #[arg(long = "dir", hide = true)]
    pub dir: Option<PathBuf>,
    /// Do something to the snapshots of a desktop that does not run; the host agent does.
    #[arg(long, hide = true, requires = "dir", conflicts_with = "display_fd")]
    pub at_rest: Option<String>,
    #[arg(long, hide = true, requires = "control_fd")]
    pub display_fd: Option<i32>,
    #[arg(long, hide = true)]
    pub control_fd: Option<i32>,
    #[arg(long, hide = true)]
    pub recording_fd: Option<i32>,
    #[command(subcommand)]
    pub command: Option<DesktopCommand>,
}

/// `lucarne desktop …`.
#[derive(Subcommand)]
pub enum DesktopCommand {
    /// List desktops.
    List,
    /// Show a desktop.
    Show {
        /// Id.
        id: String,
    },
    /// Show how long each step took from the connect that made a desktop to the first picture that was sent.
    Launch {
        /// Id, or a live one's name.
        id: String,
    },
    /// Make a desktop for a user, before they connect.
    Create {
        /// Pool's name or id.
        #[arg(long)]
        pool: String,
        /// User's name.
        #[arg(long)]
        user: String,
        /// Wait until it is ready.
        #[arg(long)]
        wait: bool,
    },
    /// Power a personal desktop on, or have it go on where it was suspended.
    #[command(alias = "resume")]
    PowerOn {
        /// Id, or a live one's name.
        id: String,
    },
    /// Power a personal desktop off: its user's session ends, its disk stays.
    PowerOff {
        /// Id, or a live one's name.
        id: String,
    },
    /// Suspend a personal desktop: its user's session ends, its memory goes to its host's disk, and it goes on there later.
    Suspend {
        /// Id, or a live one's name.
        id: String,
    },
    /// Clone a personal desktop, with what is open in it, while it runs on: a snapshot is taken, and a desktop made of it. The snapshot goes
    /// afterwards with `--wait`, and stays without.
    Clone {
        /// Id, or a live one's name.
        id: String,
        /// The name of the user whose the clone is to be.
        #[arg(long)]
        user: String,
        /// The clone's pool, of the same image, machine and network; the desktop's own when left out.
        #[arg(long)]
        pool: Option<String>,
        /// Without what is open in it.
        #[arg(long)]
        disk_only: bool,
        /// Wait until it is ready.
        #[arg(long)]
        wait: bool,
    },
    /// Destroy a desktop with its data.
    Delete {
        /// Id.
        id: String,
        /// Wait until it is gone.
        #[arg(long)]
        wait: bool,
    },
}
