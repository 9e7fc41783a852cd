//! `lucarne group`.

use super::Remote;
use clap::{Args as ClapArgs, Subcommand};

/// `lucarne group`.
#[derive(ClapArgs)]
pub struct Group {
    #[command(flatten)]
    pub remote: Remote,
    #[command(subcommand)]
    pub command: GroupCommand,
}

/// How many desktops at once.
#[derive(ClapArgs)]
#[group(required = true, multiple = false)]
pub struct Quota {
    /// At most so many, of all pools together.
    #[arg(long)]
    pub max: Option<u32>,
    /// No limit.
    #[arg(long)]
    pub unlimited: bool,
}

/// `lucarne group …`.
#[derive(Subcommand)]
pub enum GroupCommand {
    /// List groups.
    List,
    /// Say how many desktops the members may have at once, together; those that they have stay, and count.
    Quota {
        /// The group's name; `everyone` is all users.
        name: String,
        #[command(flatten)]
        quota: Quota,
    },
}
