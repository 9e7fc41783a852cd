//! `lucarne user`.

use super::Remote;
use clap::{Args as ClapArgs, Subcommand};

/// `lucarne user`.
#[derive(ClapArgs)]
pub struct User {
    #[command(flatten)]
    pub remote: Remote,
    #[command(subcommand)]
    pub command: UserCommand,
}

/// `lucarne user …`.
#[derive(Subcommand)]
pub enum UserCommand {
    /// List users.
    List,
    /// Show a user.
    Show {
        /// Name or id.
        name: String,
    },
    /// Create a user; the password is read from LUCARNE_NEW_PASSWORD or standard input.
    Create {
        /// Unique name.
        name: String,
        /// They may do everything.
        #[arg(long)]
        administrator: bool,
        /// Group to be in; may be repeated.
        #[arg(long = "group")]
        groups: Vec<String>,
    },
    /// Set a user's password; read from LUCARNE_NEW_PASSWORD or standard input.
    Password {
        /// Name or id.
        name: String,
    },
    /// Put a user into a group, which is made when there is none of that name.
    Join {
        /// Name or id.
        name: String,
        /// The group.
        group: String,
    },
    /// Take a user out of a group; streams that rested on it are cut within seconds.
    Leave {
        /// Name or id.
        name: String,
        /// The group.
        group: String,
    },
    /// Delete a user and destroy their desktops.
    Delete {
        /// Name or id.
        name: String,
    },
}
