//! `lucarne up`, `broker` and `host`.

use super::{Accel, DataDir, Remote};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

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

/// A name or an address, without a port.
fn address(text: &str) -> Result<String, String> {
    match text.contains(':') && text.parse::<std::net::Ipv6Addr>().is_err() {
        true => Err("a name or an IP address; the port is that of --listen".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// A number with `s`, `m`, `h` or `d` becomes seconds.
pub fn duration(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no time; write it as 30m, 2h or 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).ok_or_else(wrong)
}

/// Where viewers and hosts come in.
#[derive(ClapArgs)]
pub struct Doors {
    /// Address of the web server.
    #[arg(long, default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// Address for hosts that come by the network, such as 0.0.0.0:8444; none when left out.
    #[arg(long)]
    pub agent_listen: Option<SocketAddr>,
    /// Address for monitoring, such as 127.0.0.1:9443: /metrics for Prometheus, /healthz and /readyz. Plain HTTP without a
    /// sign-in, so keep it from strangers; none when left out.
    #[arg(long)]
    pub metrics_listen: Option<SocketAddr>,
    /// Address for VNC viewers; `none` for none.
    #[arg(long, default_value = "127.0.0.1:5900")]
    pub vnc_listen: String,
    /// What VNC viewers may choose, most preferred first. With tlsplain, for viewers that know no certificates, the stream
    /// is encrypted but a viewer cannot tell whether it talks to this server. With vncauth, ra2ne and ra2ne_256 what is
    /// seen and typed is not encrypted.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = VncSecurity::DEFAULT)]
    pub vnc_security: Vec<VncSecurity>,
}

/// `lucarne up`.
#[derive(ClapArgs)]
pub struct Up {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub doors: Doors,
    /// What executes guests.
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    pub accel: Accel,
    /// Recipe of the golden image that is built when there is no image yet.
    #[arg(long)]
    pub recipe: Option<PathBuf>,
    /// Address for monitoring of the host agent, as --metrics-listen is for the broker; none when left out.
    #[arg(long)]
    pub host_metrics_listen: Option<SocketAddr>,
    /// At most so many desktops are started at once on this machine; twice its processors when left out.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub host_max_starting: Option<u32>,
    /// Name of the pool that is created when there is none yet; `none` for none.
    #[arg(long, default_value = "debian")]
    pub default_pool: String,
}

/// `lucarne broker`.
#[derive(ClapArgs)]
pub struct Broker {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub doors: Doors,
    /// Name of the pool that is created from the first image when no pool has ever existed.
    #[arg(long)]
    pub default_pool: Option<String>,
    /// The PostgreSQL database that it shares with other brokers, such as postgresql://lucarne@db.example/lucarne; one of its
    /// own in the data directory when left out. Better given by the environment than by the command line, which others can read.
    #[arg(long, env = "LUCARNE_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
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
        /// Pretend to be this many hosts, which run nothing, to see what so many take of the broker on this machine.
        #[arg(long, value_name = "HOSTS", conflicts_with_all = ["accel", "address", "metrics_listen", "max_starting"])]
        sim: Option<u32>,
        /// Address for monitoring, such as 127.0.0.1:9445: /metrics for Prometheus, /healthz and /readyz. Plain HTTP without
        /// a sign-in, so keep it from strangers; none when left out.
        #[arg(long)]
        metrics_listen: Option<SocketAddr>,
        /// On an enrolled host, address for monitoring of its relay, which is a process of its own; none when left out.
        #[arg(long)]
        relay_metrics_listen: Option<SocketAddr>,
        /// At most so many desktops are started at once; twice the processors when left out. More make each slower.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
        max_starting: Option<u32>,
        /// On an enrolled host, where gateways connect for viewers' streams.
        #[arg(long, default_value = "0.0.0.0:8445")]
        listen: SocketAddr,
        /// On an enrolled host, the name or IP address by which gateways reach it; the one from which it comes to the broker when
        /// left out.
        #[arg(long, value_parser = address)]
        address: Option<String>,
    },
    /// Make this machine a host of a deployment, with a token of `lucarne host token`. Run it as root, once; then `lucarne host run`.
    Enroll {
        /// The token.
        token: String,
        /// The brokers' addresses for hosts, such as broker.example:8444; may be given several times.
        #[arg(long, required = true, value_delimiter = ',')]
        broker: Vec<String>,
        /// The host's name; the machine's when left out.
        #[arg(long)]
        name: Option<String>,
    },
    /// Take viewers' streams to the desktops of an enrolled host; the agent starts and ends it.
    #[command(hide = true)]
    Relay {
        /// The host's folder.
        #[arg(long)]
        dir: PathBuf,
        /// Where gateways connect.
        #[arg(long)]
        listen: SocketAddr,
        /// Where metrics are served.
        #[arg(long)]
        metrics_listen: Option<SocketAddr>,
    },
    /// Make a token with which one machine can become a host.
    Token {
        /// Only as the host of this name. One that is known already is then the same host with a new key.
        #[arg(long)]
        host: Option<String>,
        /// How long it is good, such as 30m, 2h or 7d.
        #[arg(long, default_value = "1h", value_parser = duration)]
        valid_for: u32,
    },
    /// List the tokens that were made, and who used them.
    Tokens,
    /// Take a token back, or forget one that was used.
    Withdraw {
        /// The token's id, as `lucarne host tokens` shows it.
        id: String,
    },
    /// Cut a host off within seconds, with the streams of its desktops, until it is allowed again.
    Deny {
        /// Name or id.
        host: String,
        /// Why; it is kept in the audit log.
        #[arg(long)]
        reason: String,
    },
    /// Give a host labels that pools can ask for, in the place of those that it has; none takes them away.
    Label {
        /// Name or id.
        host: String,
        /// NAME=VALUE.
        #[arg(value_parser = super::life::label)]
        labels: Vec<(String, String)>,
    },
    /// Let no new desktops go to a host, such as before maintenance; those that are there stay until their users log off.
    Drain {
        /// Name or id.
        host: String,
    },
    /// Have a host be empty at a time, so that somebody can work on it: until then no new desktops go there, then floating ones end and
    /// personal ones are powered off. Viewers are told before; `resume` ends it.
    Maintain {
        /// Name or id.
        host: String,
        /// In so long, such as 15m; at most 30d.
        #[arg(long = "in", value_parser = duration, default_value = "15m")]
        after: u32,
    },
    /// Let new desktops go to a host again.
    Resume {
        /// Name or id.
        host: String,
    },
    /// Let a host that was denied connect again.
    Allow {
        /// Name or id.
        host: String,
    },
    /// List hosts.
    List,
    /// Show a host.
    Show {
        /// Name or id.
        host: String,
    },
    /// Declare a host dead that will not come back: its desktops end, and their users get fresh ones. Only you can know that.
    Fence {
        /// Name or id.
        host: String,
        /// The epoch that `lucarne host show` showed when you looked: if the host was connected since, nothing is done.
        #[arg(long)]
        epoch: u64,
        /// What you saw or did, such as "the machine is off and its disk is out"; it is kept in the audit log.
        #[arg(long)]
        evidence: String,
    },
    /// Forget a host that is offline and has no desktops.
    Delete {
        /// Name or id.
        host: String,
    },
}
