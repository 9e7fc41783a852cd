//! What keeps desktops away from the host's own network: packet-filter rules by user id.
//!
//! QEMU's user-mode networking opens the guest's connections as ordinary sockets of the QEMU process. A guest that
//! connects to 10.0.2.2 so reaches whatever listens on the host's loopback, databases and the broker among it. Each
//! QEMU runs under a user id of its own out of one range, and one nftables table refuses what that range sends to this
//! machine or to its link, the outside stays open:
//!
//! ```text
//! packet of a process ── uid outside of the range ──► as before
//!        └─ in it ── DNS to a server of resolv.conf ► as before (10.0.2.3 in the guest leads there)
//!                 ├─ out through lo, or to an address of this machine, broadcast, multicast ► rejected
//!                 ├─ to a link-local address or a cloud's metadata service ─────────────────► rejected
//!                 └─ anything else ─────────────────────────────────────────────────────────► as before
//! ```
//!
//! The rules fail closed: whoever cannot load them must not give a desktop a network. They stay when the agent ends,
//! because QEMU outlives it, and can be loaded again at any time. This module knows nothing of QEMU or of desktops.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use thiserror::Error;

/// The name of the table, of family `inet`. Nothing else uses it, so it is replaced as a whole.
const TABLE: &str = "lucarne";

/// Where the C library and QEMU find the DNS servers (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Where nft is on distributions that leave `sbin` out of an ordinary user's `PATH`.
const SBIN: &str = "/usr/sbin/nft";

/// At most this many DNS servers are let through, as many as the C library asks (`MAXNS` in `resolv.h`). More would
/// only widen the exception.
const MAX_SERVERS: usize = 3;

/// Neighbours on the link and the metadata services of clouds, which hand the host's credentials to whoever asks from
/// it. IPv4 and IPv6.
const REFUSED_V4: &str = "169.254.0.0/16";
const REFUSED_V6: &str = "fe80::/10, fd00:ec2::254/128, fd20:ce::254/128";

/// Why desktops cannot be kept from the host's network.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// The program is not there.
    #[error("nft is not installed (install the package nftables)")]
    Missing,
    /// The program could not be run.
    #[error("nft could not be run")]
    Run(#[source] io::Error),
    /// The kernel or nft refused.
    #[error("nft refused to {what}: {said} (root and a kernel with nf_tables are needed)")]
    Refused {
        /// What it was asked for.
        what: &'static str,
        /// What it printed.
        said: String,
    },
    /// The range is empty, or holds the ids of root or the last, which means "none".
    #[error("{0}..{1} is no range of user ids for desktops")]
    Range(u32, u32),
    /// The rules that were loaded are gone or have been changed by someone else.
    #[error(
        "the packet filter's table inet {TABLE} is gone or no longer holds user ids {0} to {1}: something else on \
         this machine has replaced the rules (a firewall's reload, perhaps)"
    )]
    Lost(u32, u32),
}

/// The rules for one range of user ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    first: u32,
    last: u32,
    servers: Vec<IpAddr>,
}

/// Confines all processes of these user ids, now and later, in one atomic step; replaces what an earlier call loaded.
///
/// Returns what was done, for the administrator. Needs root. Call it before the first desktop starts, and again when
/// `resolv.conf` changed.
///
/// # Errors
/// Nothing is changed, and desktops must have no network.
pub fn confine(uids: Range<u32>) -> Result<String, NetworkError> {
    let resolv_conf = std::fs::read_to_string(Path::new(RESOLV_CONF)).unwrap_or_default();
    let rules = Confinement::new(uids, &resolv_conf)?;
    nft(&["-f", "-"], &rules.script(), "load the rules that keep desktops from the host")?;
    check(rules.first..rules.last + 1)?;
    Ok(rules.to_string())
}

/// Tells whether the rules for these user ids are still loaded. It takes a few milliseconds; call it before a desktop
/// with a network is started.
///
/// # Errors
/// [`NetworkError::Lost`] when they are not, others when it can't be told. Either way desktops must have no network
/// until [`confine`] succeeds.
pub fn check(uids: Range<u32>) -> Result<(), NetworkError> {
    let Confinement { first, last, .. } = Confinement::new(uids, "")?;
    let lost = NetworkError::Lost(first, last);
    // Plain numbers, no counters.
    match nft(&["-nn", "-s", "list", "table", "inet", TABLE], "", "list its rules") {
        Ok(listed) if is_complete(&listed, first, last) => Ok(()),
        Ok(_) | Err(NetworkError::Refused { .. }) => Err(lost),
        Err(error) => Err(error),
    }
}

/// Takes the rules away, if it can: rules for users that nobody is harm nothing. Only when no process of the range is
/// left: what runs on would reach the host.
pub fn release() {
    let _ = nft(&["-f", "-"], &removal(), "remove its rules");
}

/// Adding first makes the deletion succeed whether or not the table is there.
fn removal() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

/// Whether a listing of the table has the parts without which desktops reach the host.
fn is_complete(listed: &str, first: u32, last: u32) -> bool {
    // With what follows it, or a single id would be found in every longer one.
    let entry = format!("meta skuid {} goto desktops", range(first, last));
    let parts =
        [entry.as_str(), "hook output", "oifname \"lo\" goto refused", "fib daddr type", "reject with icmpx"];
    parts.iter().all(|part| listed.contains(part))
}

fn range(first: u32, last: u32) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

impl Confinement {
    /// The rules for `uids`, with DNS let through to the servers of a `resolv.conf`.
    ///
    /// # Errors
    /// [`NetworkError::Range`] for a range that is empty or holds 0 or [`u32::MAX`].
    pub fn new(uids: Range<u32>, resolv_conf: &str) -> Result<Self, NetworkError> {
        if uids.is_empty() || uids.start == 0 {
            return Err(NetworkError::Range(uids.start, uids.end));
        }
        Ok(Self { first: uids.start, last: uids.end - 1, servers: servers(resolv_conf) })
    }

    /// The script for `nft -f`, which takes effect as a whole or not at all.
    #[must_use]
    pub fn script(&self) -> String {
        let mut dns = String::new();
        for server in &self.servers {
            let family = if server.is_ipv4() { "ip" } else { "ip6" };
            for protocol in ["udp", "tcp"] {
                // Writing to a String cannot fail.
                let _ = writeln!(dns, "        {family} daddr {server} {protocol} dport 53 accept");
            }
        }
        let (removal, uids) = (removal(), range(self.first, self.last));
        // The user id is matched, not its absence: a packet that no process sends (a reset, an ICMP error) has none,
        // matches neither way, and must pass. A reject instead of a drop lets a guest's program fail at once.
        format!(
            "{removal}\
             table inet {TABLE} {{\n\
             \x20   chain refused {{\n\
             \x20       counter\n\
             \x20       meta l4proto tcp reject with tcp reset\n\
             \x20       reject with icmpx admin-prohibited\n\
             \x20   }}\n\
             \x20   chain desktops {{\n\
             {dns}\
             \x20       oifname \"lo\" goto refused\n\
             \x20       fib daddr type {{ local, broadcast, anycast, multicast }} goto refused\n\
             \x20       ip daddr {{ {REFUSED_V4} }} goto refused\n\
             \x20       ip6 daddr {{ {REFUSED_V6} }} goto refused\n\
             \x20   }}\n\
             \x20   chain output {{\n\
             \x20       type filter hook output priority filter; policy accept;\n\
             \x20       meta skuid {uids} goto desktops\n\
             \x20   }}\n\
             }}\n"
        )
    }
}

impl std::fmt::Display for Confinement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "desktops (user ids {} to {}) reach other machines, and of this machine nothing",
            self.first, self.last
        )?;
        let here: Vec<String> =
            self.servers.iter().filter(|s| s.is_loopback()).map(ToString::to_string).collect();
        if !here.is_empty() {
            write!(f, " but DNS at {}", here.join(", "))?;
        }
        write!(f, " (nftables table inet {TABLE})")
    }
}

/// The DNS servers of a `resolv.conf`. Lines that are none, and addresses with a scope, are passed over: the exception
/// is then missing, which is the safe side.
fn servers(resolv_conf: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some("nameserver")
            && let Some(Ok(server)) = words.next().map(str::parse::<IpAddr>)
            && !server.is_unspecified()
            && !found.contains(&server)
        {
            found.push(server);
        }
    }
    found.truncate(MAX_SERVERS);
    found
}

fn nft(arguments: &[&str], script: &str, what: &'static str) -> Result<String, NetworkError> {
    let output = match run("nft", arguments, script) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => run(SBIN, arguments, script),
        other => other,
    };
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NetworkError::Missing,
        _ => NetworkError::Run(error),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let printed = String::from_utf8_lossy(&output.stderr);
    let said = printed.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(NetworkError::Refused { what, said: said.trim().to_owned() })
}

fn run(program: &str, arguments: &[&str], script: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A script is far smaller than a pipe's buffer, so this never waits; if nft ended early, its status tells.
        let _ = stdin.write_all(script.as_bytes());
    }
    child.wait_with_output()
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
