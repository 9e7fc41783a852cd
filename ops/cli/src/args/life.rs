//! How a pool's desktops live, as options of `lucarne pool create`.

use super::server::duration;
use clap::{Args as ClapArgs, ValueEnum};
use lucarne_control::pool::{
    HomePolicy, PlacementPolicy, PlacementStrategy, PoolKind, PowerPolicy, ReadyPolicy, SessionLimits,
};
use lucarne_control::snapshot::SnapshotPolicy;

/// What becomes of a desktop when its user logs off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// It is destroyed: each session has a fresh one.
    Floating,
    /// It stays, with its disk, and is its user's.
    Personal,
}

/// Which of the hosts that could take a desktop is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    /// The emptiest.
    Spread,
    /// The fullest, so that others stay empty.
    Pack,
}

/// How the desktops live. Schedules are for files: see `lucarne apply`.
#[derive(ClapArgs)]
pub struct Life {
    /// What becomes of a desktop when its user logs off.
    #[arg(long, value_enum, default_value_t = Kind::Floating)]
    pub kind: Kind,
    /// So many desktops wait for users.
    #[arg(long, default_value_t = 0)]
    pub ready: u32,
    /// At most so many of those that wait are made at once; 4 when left out.
    #[arg(long)]
    pub max_starting: Option<u32>,
    /// Disconnect viewers when nothing was typed for so long, such as 15m.
    #[arg(long, value_parser = duration)]
    pub idle: Option<u32>,
    /// Log users off when no viewer was there for so long, such as 1h.
    #[arg(long, value_parser = duration)]
    pub disconnected: Option<u32>,
    /// Log users off so long after their session began, such as 10h.
    #[arg(long, value_parser = duration)]
    pub session: Option<u32>,
    /// Power personal desktops off so long after the last viewer went, such as 30m.
    #[arg(long, value_parser = duration)]
    pub off_after: Option<u32>,
    /// Suspend personal desktops so long after the last viewer went, such as 30m, instead of powering them off.
    #[arg(long, value_parser = duration, conflicts_with = "off_after")]
    pub suspend_after: Option<u32>,
    /// Give each user a disk of this size, GiB, for the home directory of their floating desktops.
    #[arg(long, value_name = "GIB")]
    pub home_size: Option<u32>,
    /// Let users take and delete snapshots of their personal desktops, and put them back.
    #[arg(long)]
    pub user_snapshots: bool,
    /// At most so many snapshots of each desktop that somebody has asked for; 10 when left out.
    #[arg(long, value_name = "N")]
    pub max_snapshots: Option<u32>,
    /// Take a snapshot of each personal desktop so often, such as 1d.
    #[arg(long, value_parser = duration)]
    pub snapshot_every: Option<u32>,
    /// Keep so many of those; 7 when left out.
    #[arg(long, value_name = "N")]
    pub keep_snapshots: Option<u32>,
    /// Take those with the desktop's memory.
    #[arg(long)]
    pub snapshot_memory: bool,
    /// Which of the hosts that could take a desktop is preferred.
    #[arg(long, value_enum, default_value_t = Strategy::Spread)]
    pub strategy: Strategy,
    /// Only hosts with this label, NAME=VALUE; may be repeated.
    #[arg(long = "host-label", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Memory that is promised to desktops on a host, at most this percentage of what it has; 200 when left out.
    #[arg(long)]
    pub memory_percent: Option<u32>,
    /// Virtual processors of the desktops on a host, at most this percentage of its processors; 1600 when left out.
    #[arg(long)]
    pub cpu_percent: Option<u32>,
}

/// `NAME=VALUE`.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is no label; write it as NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Life {
    /// What becomes of a desktop when its user logs off.
    pub fn kind(&self) -> PoolKind {
        match self.kind {
            Kind::Floating => PoolKind::Floating,
            Kind::Personal => PoolKind::Personal,
        }
    }

    /// How many desktops wait for users.
    pub fn ready(&self) -> ReadyPolicy {
        ReadyPolicy { min: self.ready, max_starting: self.max_starting, ..ReadyPolicy::default() }
    }

    /// When sessions end by themselves.
    pub fn limits(&self) -> SessionLimits {
        SessionLimits { idle_s: self.idle, disconnected_s: self.disconnected, session_s: self.session }
    }

    /// When personal desktops are powered off or suspended.
    pub fn power(&self) -> PowerPolicy {
        PowerPolicy { off_after_s: self.off_after, suspend_after_s: self.suspend_after }
    }

    /// Which disk of their own users have.
    pub fn home(&self) -> HomePolicy {
        HomePolicy { size_gib: self.home_size }
    }

    /// Who may take snapshots of desktops, and when they are taken by themselves.
    pub fn snapshots(&self) -> SnapshotPolicy {
        SnapshotPolicy {
            users: self.user_snapshots,
            max: self.max_snapshots,
            every_s: self.snapshot_every,
            keep: self.keep_snapshots,
            memory: self.snapshot_memory,
        }
    }

    /// Where desktops go.
    pub fn placement(&self) -> PlacementPolicy {
        PlacementPolicy {
            strategy: match self.strategy {
                Strategy::Spread => PlacementStrategy::Spread,
                Strategy::Pack => PlacementStrategy::Pack,
            },
            labels: self.labels.iter().cloned().collect(),
            memory_percent: self.memory_percent,
            cpu_percent: self.cpu_percent,
        }
    }
}
