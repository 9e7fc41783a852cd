//! What can be said on the command line, as said: nothing is resolved here.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

mod apply;
mod audit;
mod database;
mod desktop;
mod disk;
mod group;
mod image;
mod life;
mod pool;
mod recording;
mod server;
mod session;
mod snapshot;
mod user;
mod watch;
mod why;

pub use apply::{Apply, Export};
pub use audit::{Audit, AuditCommand};
pub use database::{Database, DatabaseCommand};
pub use desktop::{Desktop, DesktopCommand};
pub use disk::{Disk, DiskCommand};
pub use group::{Group, GroupCommand};
pub use image::{Image, ImageCommand, ImageFormat};
pub use pool::{Holders, Pool, PoolCommand};
pub use recording::{Recording, RecordingCommand};
pub use server::{Broker, Host, HostCommand, Up, VncSecurity};
pub use session::{Session, SessionCommand, Viewers};
pub use snapshot::{Snapshot, SnapshotCommand};
pub use user::{User, UserCommand};
pub use watch::Watch;
pub use why::Why;

/// Lucarne: desktops that are forked in a blink and watched through a small window.
#[derive(Parser)]
#[command(name = "lucarne", version, about, propagate_version = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Run everything on this machine: broker, gateway and host, until Ctrl-C.
    Up(Up),
    /// Run the broker and gateway.
    Broker(Broker),
    /// Run this machine's host agent, or look at hosts.
    Host(Host),
    /// Golden images: build, import, list, delete.
    Image(Image),
    /// Pools of like desktops.
    Pool(Pool),
    /// Have the pools be as a file says; shows what that takes, and asks.
    Apply(Apply),
    /// Write the file that says what the pools are.
    Export(Export),
    /// Users.
    User(User),
    /// Groups of users, and how many desktops they may have.
    Group(Group),
    /// Desktops.
    Desktop(Desktop),
    /// Users' home disks.
    Disk(Disk),
    /// Snapshots of personal desktops.
    Snapshot(Snapshot),
    /// Sessions.
    Session(Session),
    /// Say what a user would get of a pool, and why: each rule and each host that is asked.
    Why(Why),
    /// Watch what changes, a line for each thing that does, until Ctrl-C.
    Watch(Watch),
    /// The audit log, newest last.
    Audit(Audit),
    /// Back up the database, and put a backup back.
    Database(Database),
    /// What was recorded on this host: list, check, look.
    Recording(Recording),
    /// Say whether KVM on this machine runs ordinary guests, and why not.
    Probe,
}

/// Where the data is.
#[derive(ClapArgs, Clone)]
pub struct DataDir {
    /// Folder of images, templates, desktops and the database.
    #[arg(long, default_value = "/var/lib/lucarne", env = "LUCARNE_DATA_DIR")]
    pub data_dir: PathBuf,
}

/// Which server to talk to, and as whom.
#[derive(ClapArgs, Clone)]
pub struct Remote {
    /// Server, such as https://desktops.example:8443. Without it: this machine's own, through its local socket.
    #[arg(long, env = "LUCARNE_SERVER", global = true)]
    pub server: Option<String>,
    /// SHA-256 fingerprint of the server's certificate, as `lucarne up` prints it.
    #[arg(long, env = "LUCARNE_FINGERPRINT", global = true)]
    pub fingerprint: Option<String>,
    /// User to sign in as at --server; the password is read from LUCARNE_PASSWORD or standard input.
    #[arg(long, env = "LUCARNE_USER", global = true)]
    pub user: Option<String>,
    /// Folder whose local server to talk to.
    #[arg(long, default_value = "/var/lib/lucarne", env = "LUCARNE_DATA_DIR", global = true)]
    pub data_dir: PathBuf,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table, global = true)]
    pub output: Output,
}

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs: the API's own JSON.
    Json,
}

/// Which accelerator.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// KVM where it runs ordinary guests, else TCG.
    Auto,
    /// KVM or nothing.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn vnc_security_is_named_as_viewers_name_it_and_unencrypted_streams_are_off() {
        let names: Vec<_> = VncSecurity::value_variants().iter().map(|v| v.name()).collect();
        assert_eq!(names, ["x509plain", "tlsplain", "ra2_256", "ra2", "ra2ne_256", "ra2ne", "vncauth"]);
        let Command::Broker(broker) = Args::parse_from(["lucarne", "broker"]).command else {
            panic!("another command")
        };
        let default: Vec<_> = broker.doors.vnc_security.iter().map(|v| v.name()).collect();
        assert_eq!(default, ["x509plain", "tlsplain", "ra2_256", "ra2"]);
    }
}
