//! How a pool's desktops live: what becomes of them at log-off, how many wait for users, when sessions end, where they go.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What becomes of a desktop when its user logs off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolKind {
    /// It is destroyed with all its data: each session has a fresh one.
    #[default]
    Floating,
    /// It stays, with its disk, and is its user's until somebody destroys it. It never leaves its host by itself.
    Personal,
}

impl PoolKind {
    /// The word used in the API, the CLI and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Floating => "floating",
            Self::Personal => "personal",
        }
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// Hours of some days at which another number of desktops waits for users.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct ReadyWindow {
    /// On which days it begins; all when there is none.
    #[serde(default)]
    pub days: Vec<Weekday>,
    /// From this time of day on, `HH:MM`, by the clocks of the time zone.
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    pub from: String,
    /// Until this time of day, `HH:MM`; on the next day when it is not after `from`. `24:00` is the end of the day.
    #[schema(pattern = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]
    pub to: String,
    /// So many.
    #[schema(maximum = 10_000)]
    pub min: u32,
}

/// How many desktops are made before somebody asks for them, so that nobody waits for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ReadyPolicy {
    /// So many wait for users, as far as the pool's limit and the hosts allow.
    #[schema(maximum = 10_000)]
    pub min: u32,
    /// At most so many are made at once; 4 when left out.
    #[schema(minimum = 1, maximum = 1000)]
    pub max_starting: Option<u32>,
    /// Hours at which it is another number. Where several hold at once, the largest counts.
    #[schema(max_items = 50)]
    pub windows: Vec<ReadyWindow>,
    /// Whose clocks the windows go by, such as `Europe/Berlin` (IANA time zone database); UTC when left out.
    #[schema(max_length = 64)]
    pub time_zone: Option<String>,
    /// Days on which no window begins, `YYYY-MM-DD`.
    #[schema(max_items = 400)]
    pub holidays: Vec<String>,
}

/// When sessions end by themselves. What is left out is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SessionLimits {
    /// Viewers are disconnected when nothing was typed, clicked or pasted for so long, seconds.
    #[schema(minimum = 10, maximum = 31_536_000)]
    pub idle_s: Option<u32>,
    /// The user is logged off when no viewer with control was there for so long, seconds.
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub disconnected_s: Option<u32>,
    /// The user is logged off so long after the session began, seconds.
    #[schema(minimum = 10, maximum = 31_536_000)]
    pub session_s: Option<u32>,
}

/// When personal desktops are powered off or suspended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct PowerPolicy {
    /// Powered off so long after the last viewer went, seconds; never when left out. The next connect powers it on.
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub off_after_s: Option<u32>,
    /// Suspended so long after the last viewer went, seconds; never when left out. It goes on where it was at the next connect.
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub suspend_after_s: Option<u32>,
}

/// A disk of each user's own for the home directory of their floating desktops: what is saved there outlives the desktop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct HomePolicy {
    /// Its size, GiB, for disks that are made from now on; there is no such disk when left out. It takes what is written to it.
    #[schema(minimum = 1, maximum = 65_536)]
    pub size_gib: Option<u32>,
}

/// Which of the hosts that could take a desktop is preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlacementStrategy {
    /// The one of which the least is promised: what a host's end takes with it is little.
    #[default]
    Spread,
    /// The one of which the most is promised: others stay empty, and can be switched off.
    Pack,
}

/// Where a pool's desktops go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct PlacementPolicy {
    /// Which host is preferred.
    pub strategy: PlacementStrategy,
    /// Only hosts that have all of these labels, with these values.
    pub labels: BTreeMap<String, String>,
    /// Memory that is promised to desktops on a host, at most this percentage of what it has; 200 when left out. Clones share
    /// with their template what they have not written.
    #[schema(minimum = 10, maximum = 1000)]
    pub memory_percent: Option<u32>,
    /// Virtual processors of the desktops on a host, at most this percentage of its logical processors; 1600 when left out.
    #[schema(minimum = 10, maximum = 10_000)]
    pub cpu_percent: Option<u32>,
}

impl PlacementPolicy {
    /// Of a host's memory, percent.
    #[must_use]
    pub fn memory_percent(&self) -> u64 {
        u64::from(self.memory_percent.unwrap_or(200))
    }

    /// Of a host's logical processors, percent.
    #[must_use]
    pub fn cpu_percent(&self) -> u64 {
        u64::from(self.cpu_percent.unwrap_or(1600))
    }

    /// Says what is wrong with it.
    ///
    /// # Errors
    /// A sentence for the person who asked for it.
    pub fn check(&self) -> Result<(), String> {
        within("placement.memory_percent", self.memory_percent, 10, 1000)?;
        within("placement.cpu_percent", self.cpu_percent, 10, 10_000)?;
        check_labels(&self.labels)
    }
}

/// The most labels of one host or pool.
pub const MOST_LABELS: usize = 32;

/// Says what is wrong with labels: at most [`MOST_LABELS`], names of letters, digits, `.`, `_`, `-` and `/`, up to 63
/// characters; values the same, or empty.
///
/// # Errors
/// A sentence for the person who wrote them.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    let fits = |text: &str| {
        text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b))
    };
    if labels.len() > MOST_LABELS {
        return Err(format!("there are at most {MOST_LABELS} labels, not {}", labels.len()));
    }
    match labels.iter().find(|(name, value)| name.is_empty() || !fits(name) || !fits(value)) {
        Some((name, value)) => Err(format!(
            "a label is of letters, digits, '.', '_', '-' and '/', up to 63 of them, and so is its value: not {name}={value}"
        )),
        None => Ok(()),
    }
}

/// A year, seconds.
pub(crate) const YEAR: u32 = 31_536_000;

pub(crate) fn within(name: &str, value: Option<u32>, least: u32, most: u32) -> Result<(), String> {
    match value {
        Some(n) if !(least..=most).contains(&n) => Err(format!("{name} is from {least} to {most}, not {n}")),
        _ => Ok(()),
    }
}

impl SessionLimits {
    /// Says what is wrong with them.
    ///
    /// # Errors
    /// A sentence for the person who asked for them.
    pub fn check(&self) -> Result<(), String> {
        within("limits.idle_s", self.idle_s, 10, YEAR)?;
        within("limits.disconnected_s", self.disconnected_s, 1, YEAR)?;
        within("limits.session_s", self.session_s, 10, YEAR)
    }
}

impl PowerPolicy {
    /// Says what is wrong with it for a pool of that kind.
    ///
    /// # Errors
    /// A sentence for the person who asked for it.
    pub fn check(&self, kind: PoolKind) -> Result<(), String> {
        if self.after_s().is_some() && kind != PoolKind::Personal {
            let name = if self.suspends() { "suspend_after_s" } else { "off_after_s" };
            return Err(format!(
                "power.{name} is for personal desktops: floating ones are destroyed at log-off; see limits.disconnected_s"
            ));
        }
        if self.off_after_s.is_some() && self.suspends() {
            return Err("power.off_after_s and power.suspend_after_s are one or the other".to_owned());
        }
        within("power.off_after_s", self.off_after_s, 1, YEAR)?;
        within("power.suspend_after_s", self.suspend_after_s, 1, YEAR)
    }

    /// After how many seconds without a viewer desktops do not run any more.
    #[must_use]
    pub fn after_s(&self) -> Option<u32> {
        self.suspend_after_s.or(self.off_after_s)
    }

    /// Whether they are suspended then, and not powered off.
    #[must_use]
    pub fn suspends(&self) -> bool {
        self.suspend_after_s.is_some()
    }
}

impl HomePolicy {
    /// Its size, MiB; none where there is no such disk.
    #[must_use]
    pub fn size_mib(&self) -> Option<u64> {
        self.size_gib.map(|gib| u64::from(gib) << 10)
    }

    /// Says what is wrong with it for a pool of that kind.
    ///
    /// # Errors
    /// A sentence for the person who asked for it.
    pub fn check(&self, kind: PoolKind, ready: &ReadyPolicy) -> Result<(), String> {
        within("home.size_gib", self.size_gib, 1, 65_536)?;
        let why = match self.size_gib {
            Some(_) if kind == PoolKind::Personal => {
                "home.size_gib is for floating desktops: personal ones keep all of their disk"
            }
            Some(_) if !ready.is_off() => {
                "home.size_gib and ready do not go together: a user's disk is put into a desktop when that is made, on the host \
                 where the disk is, and those that wait are made for nobody yet"
            }
            _ => return Ok(()),
        };
        Err(why.to_owned())
    }
}

impl ReadyPolicy {
    /// The most desktops that wait for users.
    pub const MOST: u32 = 10_000;

    /// How many may be made at once.
    #[must_use]
    pub fn max_starting(&self) -> u32 {
        self.max_starting.unwrap_or(4)
    }

    /// Whether any desktop ever waits.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.min == 0 && self.windows.iter().all(|window| window.min == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_said_with_what_can() {
        let limits = SessionLimits { idle_s: Some(5), ..Default::default() };
        assert_eq!(limits.check().unwrap_err(), "limits.idle_s is from 10 to 31536000, not 5");
        let power = PowerPolicy { off_after_s: Some(60), suspend_after_s: None };
        let both = PowerPolicy { suspend_after_s: Some(60), ..power };
        assert!(both.check(PoolKind::Personal).unwrap_err().contains("one or the other"));
        assert!(power.check(PoolKind::Floating).unwrap_err().contains("limits.disconnected_s"));
        assert_eq!(power.check(PoolKind::Personal), Ok(()));
        let (home, ready) = (HomePolicy { size_gib: Some(10) }, ReadyPolicy::default());
        assert_eq!(home.check(PoolKind::Floating, &ready), Ok(()));
        assert!(home.check(PoolKind::Personal, &ready).unwrap_err().contains("personal ones keep"));
        let waiting = ReadyPolicy { min: 1, ..ready.clone() };
        assert!(home.check(PoolKind::Floating, &waiting).unwrap_err().contains("do not go together"));
        assert!(HomePolicy { size_gib: Some(0) }.check(PoolKind::Floating, &ready).is_err());
        let labels = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(check_labels(&labels("site", "north-1")), Ok(()));
        assert!(check_labels(&labels("", "x")).is_err() && check_labels(&labels("a b", "x")).is_err());
    }
}
