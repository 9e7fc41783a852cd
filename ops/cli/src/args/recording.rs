//! `lucarne recording`.

use super::{DataDir, Output};
use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

/// `lucarne recording`.
#[derive(ClapArgs)]
pub struct Recording {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table, global = true)]
    pub output: Output,
    #[command(subcommand)]
    pub command: RecordingCommand,
}

/// `lucarne recording …`. Files are on the host that ran the desktop.
#[derive(Subcommand)]
pub enum RecordingCommand {
    /// List this host's recordings, oldest first.
    List {
        #[command(flatten)]
        data: DataDir,
    },
    /// Read all of a recording and say whether it is as it was written.
    Check {
        /// The file, such as /var/lib/lucarne/host/recordings/….lrec.
        file: PathBuf,
    },
    /// Write what was on the screen at a time, as PNG.
    Frame {
        /// The file.
        file: PathBuf,
        /// The PNG to write.
        out: PathBuf,
        /// When, since the begin: seconds, minutes:seconds or hours:minutes:seconds, such as 1:30.5.
        #[arg(long)]
        at: String,
    },
}
