//! `lucarne session`.

use super::Remote;
use clap::{Args as ClapArgs, Subcommand, ValueEnum};

/// What happens to the viewers with control that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Viewers {
    /// They end, and are told who came.
    TakeOver,
    /// They stay, and both may type.
    Share,
    /// They stay, and the newcomer only looks.
    ViewOnly,
}

/// `lucarne session`.
#[derive(ClapArgs)]
pub struct Session {
    #[command(flatten)]
    pub remote: Remote,
    #[command(subcommand)]
    pub command: SessionCommand,
}

/// `lucarne session …`.
#[derive(Subcommand)]
pub enum SessionCommand {
    /// List sessions.
    List {
        /// Ended ones too.
        #[arg(long)]
        all: bool,
    },
    /// Show a session and its viewers.
    Show {
        /// Id.
        id: String,
    },
    /// Connect to a desktop of a pool as the user of --user, without a viewer.
    Create {
        /// Pool's name or id.
        pool: String,
        /// Wait until there is a picture.
        #[arg(long)]
        wait: bool,
    },
    /// Connect to a desktop of a pool as the user of --user, and get a one-time password for a VNC viewer that knows no
    /// other way in. It needs a server with --vnc-security …,vncauth; nothing in such a viewer's stream is encrypted.
    Password {
        /// Pool's name or id.
        pool: String,
    },
    /// Get a ticket to a session of the user of --user, for a program that is a viewer (docs/api.md).
    Ticket {
        /// Id.
        id: String,
        /// What happens to the viewers that are there already.
        #[arg(long, value_enum, default_value_t = Viewers::TakeOver)]
        viewers: Viewers,
    },
    /// Ask to watch a session, as its pool allows, and get a ticket. In a browser: /desktop/ID/shadow.
    Shadow {
        /// Id.
        id: String,
        /// Keyboard and pointer too.
        #[arg(long)]
        control: bool,
        /// What for, shown to the user.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// End one viewer of a session; the desktop runs on.
    Disconnect {
        /// The session's id.
        id: String,
        /// The viewer's number, as `show` names it.
        viewer: u64,
    },
    /// Say what the last updates of a session's viewers cost, stage by stage from a key to its present.
    Trace {
        /// Id.
        id: String,
        /// Updates of each viewer to list, 0 to 256.
        #[arg(long, default_value_t = 10)]
        last: u32,
        /// List updates as they come, until Ctrl-C.
        #[arg(long)]
        follow: bool,
    },
    /// Log a session off; its desktop is destroyed.
    Delete {
        /// Id.
        id: String,
        /// Wait until the desktop is gone.
        #[arg(long)]
        wait: bool,
    },
}
