//! What can be said on the command line, as said: nothing is resolved here.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

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
    /// Users.
    User(User),
    /// Desktops.
    Desktop(Desktop),
    /// Sessions.
    Session(Session),
    /// The audit log, newest last.
    Audit(Audit),
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

/// What secures a VNC viewer's connection, as TigerVNC names it, in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VncSecurity {
    /// VeNCrypt: TLS with the server's certificate, then name and password.
    X509plain,
    /// VeNCrypt: TLS without a certificate, then name and password.
    Tlsplain,
    /// The server's RSA key and AES with 256 bits, then name and password.
    #[value(name = "ra2_256")]
    Ra2w256,
    /// The server's RSA key and AES with 128 bits, then name and password.
    Ra2,
    /// As ra2_256, but only name and password are encrypted, and nothing after them.
    #[value(name = "ra2ne_256")]
    Ra2ne256,
    /// As ra2, but only name and password are encrypted, and nothing after them.
    Ra2ne,
    /// A one-time password of `lucarne session password`; nothing is encrypted.
    Vncauth,
}

impl VncSecurity {
    /// What is offered when nothing is said.
    pub const DEFAULT: [Self; 4] = [Self::X509plain, Self::Tlsplain, Self::Ra2w256, Self::Ra2];

    /// As it is written on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// `lucarne up`.
#[derive(ClapArgs)]
pub struct Up {
    #[command(flatten)]
    pub data: DataDir,
    /// Address of the web server.
    #[arg(long, default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// Address for VNC viewers; `none` for none.
    #[arg(long, default_value = "127.0.0.1:5900")]
    pub vnc_listen: String,
    /// What VNC viewers may choose, most preferred first. With tlsplain, for viewers that know no certificates, the stream
    /// is encrypted but a viewer cannot tell whether it talks to this server. With vncauth, ra2ne and ra2ne_256 what is
    /// seen and typed is not encrypted.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = VncSecurity::DEFAULT)]
    pub vnc_security: Vec<VncSecurity>,
    /// What executes guests.
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    pub accel: Accel,
    /// Recipe of the golden image that is built when there is no image yet.
    #[arg(long)]
    pub recipe: Option<PathBuf>,
    /// Name of the pool that is created when there is none yet; `none` for none.
    #[arg(long, default_value = "debian")]
    pub default_pool: String,
}

/// `lucarne broker`.
#[derive(ClapArgs)]
pub struct Broker {
    #[command(flatten)]
    pub data: DataDir,
    /// Address of the web server.
    #[arg(long, default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// Address for VNC viewers; `none` for none.
    #[arg(long, default_value = "127.0.0.1:5900")]
    pub vnc_listen: String,
    /// What VNC viewers may choose, most preferred first. With tlsplain, for viewers that know no certificates, the stream
    /// is encrypted but a viewer cannot tell whether it talks to this server. With vncauth, ra2ne and ra2ne_256 what is
    /// seen and typed is not encrypted.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = VncSecurity::DEFAULT)]
    pub vnc_security: Vec<VncSecurity>,
    /// Name of the pool that is created from the first image when no pool has ever existed.
    #[arg(long)]
    pub default_pool: Option<String>,
    /// Print one line of JSON on standard output once it serves, for the process that started it.
    #[arg(long, hide = true)]
    pub announce: bool,
}

/// `lucarne host`.
#[derive(ClapArgs)]
pub struct Host {
    #[command(flatten)]
    pub remote: Remote,
    #[command(subcommand)]
    pub command: HostCommand,
}

/// `lucarne host …`.
#[derive(Subcommand)]
pub enum HostCommand {
    /// Run the host agent. Ended by SIGTERM it leaves its desktops running; by Ctrl-C it destroys them.
    Run {
        /// The host's name; the machine's when left out.
        #[arg(long)]
        name: Option<String>,
        /// What executes guests.
        #[arg(long, value_enum, default_value_t = Accel::Auto)]
        accel: Accel,
    },
    /// List hosts.
    List,
    /// Show a host.
    Show {
        /// Name or id.
        host: String,
    },
    /// Forget a host that is offline and has no desktops.
    Delete {
        /// Name or id.
        host: String,
    },
}

/// `lucarne image`.
#[derive(ClapArgs)]
pub struct Image {
    #[command(flatten)]
    pub remote: Remote,
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// Formats that can be imported; never guessed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImageFormat {
    Qcow2,
    Raw,
    Vmdk,
    Vhdx,
}

/// `lucarne image …`.
#[derive(Subcommand)]
pub enum ImageCommand {
    /// Build an image from a recipe, on this machine.
    Build {
        /// The recipe, such as ops/images/debian-desktop.toml.
        recipe: PathBuf,
        /// Build it even if the recipe's image is there.
        #[arg(long)]
        force: bool,
    },
    /// Import a disk file into this machine's store; it is booted once to see that it works.
    // Its --version is the image's.
    #[command(disable_version_flag = true)]
    Import {
        /// The file.
        file: PathBuf,
        /// Its format. It is never guessed, because a guest could have written another format's header.
        #[arg(long, value_enum)]
        format: ImageFormat,
        /// The image's name.
        #[arg(long)]
        name: String,
        /// Its version; today's date when left out.
        #[arg(long)]
        version: Option<String>,
        /// What executes the boot.
        #[arg(long, value_enum, default_value_t = Accel::Auto)]
        accel: Accel,
    },
    /// List images.
    List,
    /// Show an image.
    Show {
        /// Digest.
        image: String,
    },
    /// Delete an image that no pool uses.
    Delete {
        /// Digest.
        image: String,
    },
}

/// Whether sessions are recorded.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Recorded {
    Off,
    On,
    Required,
}

/// `lucarne pool`.
#[derive(ClapArgs)]
pub struct Pool {
    #[command(flatten)]
    pub remote: Remote,
    #[command(subcommand)]
    pub command: PoolCommand,
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
        /// Record what is on the screens of sessions: `on` even lets those in that cannot be recorded, `required` does not.
        #[arg(long, value_enum, default_value_t = Recorded::Off)]
        recording: Recorded,
        /// Days that recordings are kept for; for ever when left out.
        #[arg(long)]
        recording_days: Option<u32>,
        /// MiB that the pool's recordings may take on a host, the oldest going first; no limit when left out.
        #[arg(long)]
        recording_mib: Option<u64>,
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
    /// Delete a user and destroy their desktops.
    Delete {
        /// Name or id.
        name: String,
    },
}

/// `lucarne desktop`.
#[derive(ClapArgs)]
pub struct Desktop {
    #[command(flatten)]
    pub remote: Remote,
    /// Run the process of one desktop; the host agent does.
    #[arg(long = "dir", hide = true, requires = "display_fd")]
    pub dir: Option<PathBuf>,
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
    /// Destroy a desktop with its data.
    Delete {
        /// Id.
        id: String,
        /// Wait until it is gone.
        #[arg(long)]
        wait: bool,
    },
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

/// `lucarne audit`.
#[derive(ClapArgs)]
pub struct Audit {
    #[command(flatten)]
    pub remote: Remote,
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
        let default: Vec<_> = broker.vnc_security.iter().map(|v| v.name()).collect();
        assert_eq!(default, ["x509plain", "tlsplain", "ra2_256", "ra2"]);
    }
}
