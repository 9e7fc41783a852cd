//! `lucarne pool`.

use super::Remote;
use super::life::Life;
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use lucarne_control::spec::{ClipboardPolicy, RecordingMode};
use lucarne_control::viewer::ShadowPolicy;

/// Whether administrators may watch a pool's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shadow {
    /// They may not.
    Off,
    /// When the user allows it, each time.
    WithConsent,
    /// When the user's browser shows it, or the user is not there.
    WithNotice,
}

/// Whether sessions are recorded.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Recorded {
    Off,
    On,
    Required,
}

/// Which way copied text goes between desktops and their viewers.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Clipboard {
    /// Both ways.
    Both,
    /// Only into desktops.
    ToDesktop,
    /// Only out of them.
    FromDesktop,
    /// Neither way.
    Off,
}

impl From<Shadow> for ShadowPolicy {
    fn from(said: Shadow) -> Self {
        match said {
            Shadow::Off => Self::Off,
            Shadow::WithConsent => Self::WithConsent,
            Shadow::WithNotice => Self::WithNotice,
        }
    }
}

impl From<Recorded> for RecordingMode {
    fn from(said: Recorded) -> Self {
        match said {
            Recorded::Off => Self::Off,
            Recorded::On => Self::On,
            Recorded::Required => Self::Required,
        }
    }
}

impl From<Clipboard> for ClipboardPolicy {
    fn from(said: Clipboard) -> Self {
        match said {
            Clipboard::Both => Self::Both,
            Clipboard::ToDesktop => Self::ToDesktop,
            Clipboard::FromDesktop => Self::FromDesktop,
            Clipboard::Off => Self::Off,
        }
    }
}

/// `lucarne pool`.
#[derive(ClapArgs)]
pub struct Pool {
    #[command(flatten)]
    pub remote: Remote,
    #[command(subcommand)]
    pub command: PoolCommand,
}

/// Users and groups.
#[derive(ClapArgs)]
#[group(required = true, multiple = true)]
pub struct Holders {
    /// A user; may be repeated.
    #[arg(long = "user")]
    pub users: Vec<String>,
    /// A group; may be repeated. `everyone` is all users.
    #[arg(long = "group")]
    pub groups: Vec<String>,
}

/// `lucarne pool …`.
#[derive(Subcommand)]
pub enum PoolCommand {
    /// List pools.
    List,
    /// Show a pool.
    Show {
        /// Name or id.
        pool: String,
    },
    /// Let users or groups use a pool.
    Entitle {
        /// Name or id.
        pool: String,
        #[command(flatten)]
        holders: Holders,
    },
    /// Do not let them use it any more: their streams are cut within seconds, their desktops stay until they are logged off.
    Withdraw {
        /// Name or id.
        pool: String,
        #[command(flatten)]
        holders: Holders,
    },
    /// Create a pool.
    Create {
        /// Unique name.
        name: String,
        /// Image: name, digest, or the first digits of one.
        #[arg(long)]
        image: String,
        /// One line for users.
        #[arg(long, default_value = "")]
        description: String,
        /// Guest memory, MiB.
        #[arg(long, default_value_t = 1024)]
        memory: u32,
        /// Virtual processors.
        #[arg(long, default_value_t = 2)]
        vcpus: u32,
        /// Display at boot, pixels.
        #[arg(long, default_value = "1280x800")]
        display: String,
        /// Desktops have no network.
        #[arg(long)]
        no_network: bool,
        /// Whether administrators may watch sessions of it.
        #[arg(long, value_enum, default_value_t = Shadow::Off)]
        shadow: Shadow,
        /// Who watches may use keyboard and pointer too.
        #[arg(long)]
        shadow_control: bool,
        /// Nobody hears what desktops play.
        #[arg(long)]
        no_audio: bool,
        /// Which way copied text goes between desktops and their viewers.
        #[arg(long, value_enum, default_value_t = Clipboard::Both)]
        clipboard: Clipboard,
        /// Record what is on the screens of sessions: `on` even lets those in that cannot be recorded, `required` does not.
        #[arg(long, value_enum, default_value_t = Recorded::Off)]
        recording: Recorded,
        /// Days that recordings are kept for; for ever when left out.
        #[arg(long)]
        recording_days: Option<u32>,
        /// MiB that the pool's recordings may take on a host, the oldest going first; no limit when left out.
        #[arg(long)]
        recording_mib: Option<u64>,
        #[command(flatten)]
        life: Box<Life>,
        /// Most desktops at once.
        #[arg(long, default_value_t = 16)]
        max_desktops: u32,
        /// User who may use it; may be repeated.
        #[arg(long = "entitle-user")]
        users: Vec<String>,
        /// Group whose members may use it; may be repeated. `everyone` is all users.
        #[arg(long = "entitle-group")]
        groups: Vec<String>,
        /// Wait until its template is ready.
        #[arg(long)]
        wait: bool,
    },
    /// Delete a pool.
    Delete {
        /// Name or id.
        pool: String,
        /// Destroy its desktops first.
        #[arg(long)]
        force: bool,
    },
}
