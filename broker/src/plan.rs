//! Pure decisions: where a desktop goes, and what has to change in the database after what hosts were seen to do.
//!
//! Reads no clock, no database, no randomness: the same arguments give the same answer. Knows nothing of SQL, of
//! sockets or of how its actions are applied.
//!
//! ```text
//! desired   observed                       action
//! running   ready, not yet recorded        RecordReady
//! running   failed                         Fail        → desired becomes absent
//! running   stopped (by itself)            Fail        → desired becomes absent
//! running   (anything), nobody's           Destroy     → desired becomes absent
//! absent    stopped                        ConfirmStopped → the placement is freed
//! absent    (no placement)                 ConfirmStopped
//! any       lost, silent, lower generation nothing: only a confirmed stop frees a placement
//! ```

use lucarne_control::agent::{DesktopObserved, TemplateState};
use lucarne_control::desktop::{DesiredState, ForkTimings, Phase};
use lucarne_control::spec::TemplateSpec;
use lucarne_control::{DesktopId, HostId};

/// Guests may be promised this many times the host's memory. Clones share with their template what they have not
/// written (an idle one writes some 100 MiB of 1 GiB). Too high: guests in full use push the host into swap. Too low:
/// desktops are refused that would have fitted. What is really free is looked at besides.
pub const MEMORY_PROMISE: u64 = 2;

/// Memory that a fresh clone needs at once, as a part of its size: one in this many bytes has to be available.
const FIRST_WRITES: u64 = 8;

/// What is known of a host beside the database.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostSeen {
    /// Its agent is connected.
    pub online: bool,
    /// Bytes of memory available, once it said so.
    pub memory_available: Option<u64>,
    /// How far the template in question is there, with its detail for people.
    pub template: Option<(TemplateState, String)>,
}

/// What was observed, as decisions need it.
pub trait World: Send + Sync {
    /// The host, with the template of this specification.
    fn host(&self, host: HostId, template: &TemplateSpec) -> HostSeen;
    /// Why the desktop of this generation died, when it did.
    fn failure(&self, desktop: DesktopId, generation: u64) -> Option<String>;
}

/// A host that might take a desktop.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Which.
    pub host: HostId,
    /// Its name, for people.
    pub name: String,
    /// Its memory, MiB.
    pub memory_mib: u64,
    /// Memory that its desktops were promised, MiB.
    pub promised_mib: u64,
    /// The image is in its store.
    pub has_image: bool,
    /// What else is known.
    pub seen: HostSeen,
}

/// Why no host was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoChoice {
    /// None has room, or none is there; each host's reason.
    NoHost(String),
    /// All that could would have to make a template that they failed to make.
    TemplateFailed(String),
}

/// The order in which hosts are preferred: the least is chosen.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    template_missing: bool,
    /// Of the host's memory, in billionths: one desktop more on a large host counts.
    promised: u128,
    host: HostId,
}

/// Chooses the host for a desktop of `memory_mib`.
///
/// # Errors
/// [`NoChoice`] with why each host was passed over, for people.
pub fn choose_host(candidates: &[Candidate], memory_mib: u64) -> Result<HostId, NoChoice> {
    if candidates.is_empty() {
        return Err(NoChoice::NoHost("no host has ever connected; start a host agent".to_owned()));
    }
    let mut reasons = Vec::new();
    let mut failures = Vec::new();
    let mut best: Option<Score> = None;
    for c in candidates {
        if let Some(reason) = passed_over(c, memory_mib) {
            reasons.push(format!("{}: {reason}", c.name));
            continue;
        }
        if let Some((TemplateState::Failed, detail)) = &c.seen.template {
            failures.push(format!("{}: {detail}", c.name));
            continue;
        }
        let score = Score {
            template_missing: !matches!(c.seen.template, Some((TemplateState::Ready, _))),
            promised: u128::from(c.promised_mib) * 1_000_000_000 / u128::from(c.memory_mib.max(1)),
            host: c.host,
        };
        if best.as_ref().is_none_or(|b| score < *b) {
            best = Some(score);
        }
    }
    match best {
        Some(score) => Ok(score.host),
        None if !failures.is_empty() => Err(NoChoice::TemplateFailed(failures.join("; "))),
        None => Err(NoChoice::NoHost(reasons.join("; "))),
    }
}

fn passed_over(c: &Candidate, memory_mib: u64) -> Option<String> {
    let promise = c.memory_mib * MEMORY_PROMISE;
    let now = memory_mib * (1 << 20) / FIRST_WRITES;
    if !c.seen.online {
        Some("its agent is not connected".to_owned())
    } else if !c.has_image {
        Some("it does not have the image".to_owned())
    } else if c.promised_mib + memory_mib > promise {
        Some(format!(
            "{} of {promise} MiB are promised to desktops, and {memory_mib} MiB more do not fit",
            c.promised_mib
        ))
    } else {
        c.seen.memory_available.filter(|free| *free < now).map(|free| {
            format!("only {} MiB of memory are free, and {} are needed at once", free >> 20, now >> 20)
        })
    }
}

/// One live desktop as the database has it, with what its host was seen to do with it.
#[derive(Clone, Debug)]
pub struct DesktopSnapshot {
    /// Which.
    pub desktop: DesktopId,
    /// What is wanted.
    pub desired: DesiredState,
    /// The generation of the wish: actions apply only while it is this.
    pub desired_gen: i64,
    /// What the database last recorded.
    pub recorded: Phase,
    /// The live placement's generation.
    pub placement: Option<u64>,
    /// Somebody has it.
    pub assigned: bool,
    /// What its host last said, when its host is connected.
    pub observed: Option<DesktopObserved>,
}

/// Everything that [`plan`] looks at.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The live desktops.
    pub desktops: Vec<DesktopSnapshot>,
}

/// A change to the database. Each is a compare-and-set on `desired_gen`: when that has moved on, nothing happens, and
/// the next round decides afresh.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Note that the desktop is ready, and how long its fork took.
    RecordReady {
        /// Which.
        desktop: DesktopId,
        /// Compared.
        desired_gen: i64,
        /// To keep.
        timings: ForkTimings,
    },
    /// It could not be made, or died: end its session and assignment and have it destroyed.
    Fail {
        /// Which.
        desktop: DesktopId,
        /// Compared.
        desired_gen: i64,
        /// What the host says.
        reason: String,
    },
    /// Nobody has it: have it destroyed.
    Destroy {
        /// Which.
        desktop: DesktopId,
        /// Compared.
        desired_gen: i64,
    },
    /// Its host confirmed that it is gone with its data: free the placement and close the record.
    ConfirmStopped {
        /// Which.
        desktop: DesktopId,
        /// Compared.
        desired_gen: i64,
    },
}

/// What has to change.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> Vec<Action> {
    snapshot.desktops.iter().filter_map(step).collect()
}

fn step(d: &DesktopSnapshot) -> Option<Action> {
    let (desktop, desired_gen) = (d.desktop, d.desired_gen);
    let seen = d.observed.as_ref().filter(|o| d.placement.is_some_and(|g| o.generation >= g));
    match d.desired {
        DesiredState::Absent => {
            let gone = d.placement.is_none() || seen.is_some_and(|o| o.phase == Phase::Stopped);
            gone.then_some(Action::ConfirmStopped { desktop, desired_gen })
        }
        DesiredState::Running if !d.assigned => Some(Action::Destroy { desktop, desired_gen }),
        DesiredState::Running => {
            let o = seen?;
            match o.phase {
                Phase::Failed => Some(Action::Fail { desktop, desired_gen, reason: o.detail.clone() }),
                Phase::Stopped => {
                    Some(Action::Fail { desktop, desired_gen, reason: "it stopped by itself".to_owned() })
                }
                Phase::Ready if d.recorded != Phase::Ready => {
                    Some(Action::RecordReady { desktop, desired_gen, timings: o.timings })
                }
                _ => None,
            }
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
