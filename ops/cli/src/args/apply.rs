//! `lucarne apply` and `lucarne export`.

use super::Remote;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// `lucarne apply`.
#[derive(ClapArgs)]
#[command(after_help = "Exit status of --dry-run: 0 when there is nothing to do, 7 when there is something.")]
pub struct Apply {
    #[command(flatten)]
    pub remote: Remote,
    /// The file of pools, TOML; `-` is standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Delete the pools that are not in the file; without, they are left alone.
    #[arg(long)]
    pub prune: bool,
    /// Do it without asking.
    #[arg(short, long)]
    pub yes: bool,
}

/// `lucarne export`.
#[derive(ClapArgs)]
pub struct Export {
    #[command(flatten)]
    pub remote: Remote,
    /// Where to write it; `-` is standard output.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
}
