//! `lucarne user`.

use super::Remote;
use super::group::Quota;
use clap::{Args as ClapArgs, Subcommand};
use lucarne_control::api::Role;

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
        /// They may do everything: the same as --role administrator.
        #[arg(long, conflicts_with = "role")]
        administrator: bool,
        /// What they may do: administrator, operator, help_desk, auditor or user.
        #[arg(long, default_value = "user")]
        role: Role,
        /// Group to be in; may be repeated.
        #[arg(long = "group")]
        groups: Vec<String>,
    },
    /// Set a user's password; read from LUCARNE_NEW_PASSWORD or standard input.
    Password {
        /// Name or id.
        name: String,
    },
    /// Give a user another role, from their next request on; with --pool or --group one more, which holds there only.
    Role {
        /// Name or id.
        name: String,
        /// administrator, operator, help_desk, auditor or user; for one pool or one group operator, help_desk or auditor.
        role: Role,
        /// For this pool and its desktops only.
        #[arg(long, group = "scope")]
        pool: Option<String>,
        /// For the members of this group and their desktops only; `everyone` is all users.
        #[arg(long, group = "scope")]
        group: Option<String>,
        /// Take the role for that pool or group away.
        #[arg(long, requires = "scope")]
        remove: bool,
    },
    /// Say how many desktops a user may have at once; those that they have stay.
    Quota {
        /// Name or id.
        name: String,
        #[command(flatten)]
        quota: Quota,
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
