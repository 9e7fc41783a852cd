//! Pure decisions: where a desktop goes, and what has to change in the database after what hosts were seen to do.
//!
//! Reads no clock, no database, no randomness: the same arguments give the same answer. Knows nothing of SQL, of
//! sockets or of how its actions are applied.
//!
//! ```text
//! desired   observed                        action
//! running   anything else than on record    Note
//! running   failed, stopped                 Fail   → desired becomes absent
//! running   off, by this wish               Rest   → desired becomes off
//! off       failed, stopped                 Fail
//! absent    stopped                         Free   → the placement is freed
//! any       nothing, another generation     nothing: only a confirmed stop frees a placement
//! ```

use lucarne_control::agent::{DesktopObserved, HostFacts, TemplateState};
use lucarne_control::desktop::{DesiredState, Phase};
use lucarne_control::pool::PlacementStrategy;
use lucarne_control::spec::TemplateSpec;
use lucarne_control::{DesktopId, HostId};
use lucarne_db::tables::{Desktop, Host, Pool};
use lucarne_mutants::mutant;

/// Memory that a fresh clone needs at once, as a part of its size: one in this many bytes has to be available.
const FIRST_WRITES: u64 = 8;

/// What is known of a host besides its size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostSeen {
    /// Its agent is connected.
    pub online: bool,
    /// Bytes of memory available, once it said so.
    pub memory_available: Option<u64>,
    /// How far the template in question is there, with its detail for people.
    pub template: Option<(TemplateState, String)>,
}

/// What a broker sees of the hosts that it is linked to itself, which is newer than what is on record.
pub trait World: Send + Sync {
    /// The host, with the template of this specification; none when it is not linked to this broker.
    fn host(&self, host: HostId, template: &TemplateSpec) -> Option<HostSeen>;
    /// Why the desktop of this generation died on its host, when it did.
    fn failure(&self, host: HostId, desktop: DesktopId, generation: u64) -> Option<String>;
}

/// What a desktop needs of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Virtual processors.
    pub vcpus: u64,
    /// Of its memory a host may promise so much, percent. Clones share with their template what they have not written (an idle
    /// one writes some 100 MiB of 1 GiB). Too high: guests in full use push the host into swap. Too low: desktops are refused
    /// that would have fitted. What is really free is looked at besides.
    pub memory_percent: u64,
    /// Of its logical processors, percent.
    pub cpu_percent: u64,
    /// Which host is preferred.
    pub strategy: PlacementStrategy,
}

impl Demand {
    /// That of a pool's desktops.
    #[must_use]
    pub fn of(pool: &Pool) -> Self {
        let (machine, placement) = (pool.machine.0, &pool.rules.0.placement);
        Self {
            memory_mib: u64::from(machine.memory_mib),
            vcpus: u64::from(machine.vcpus),
            memory_percent: placement.memory_percent(),
            cpu_percent: placement.cpu_percent(),
            strategy: placement.strategy,
        }
    }

    /// Why it does not fit beside what a host has promised; of a host that does not tell of its processors only the memory
    /// counts.
    #[must_use]
    pub fn too_much(&self, facts: &HostFacts, promised_mib: u64, promised_vcpus: u64) -> Option<String> {
        let memory = facts.memory_mib * self.memory_percent / 100;
        let vcpus = u64::from(facts.cpus) * self.cpu_percent / 100;
        if promised_mib + self.memory_mib > memory {
            Some(format!(
                "{promised_mib} of {memory} MiB are promised to desktops, and {} MiB more do not fit",
                self.memory_mib
            ))
        } else if facts.cpus > 0 && promised_vcpus + self.vcpus > vcpus {
            Some(format!(
                "its desktops have {promised_vcpus} of {vcpus} virtual processors, and {} more do not fit",
                self.vcpus
            ))
        } else {
            None
        }
    }
}

/// A host that might take a desktop.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// Which.
    pub host: HostId,
    /// Its name, for people.
    pub name: &'a str,
    /// What it has.
    pub facts: &'a HostFacts,
    /// Memory that its desktops were promised, MiB.
    pub promised_mib: u64,
    /// Virtual processors that they have.
    pub promised_vcpus: u64,
    /// The image is in its store.
    pub has_image: bool,
    /// The label that the pool asks for and that it has not, `name=value`.
    pub lacks: Option<String>,
    /// No new desktops go there.
    pub drained: bool,
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score {
    template_missing: bool,
    /// Of the host's memory, in billionths: one desktop more on a large host counts. What is left of it where hosts are to be
    /// filled one after the other.
    promised: u128,
    host: HostId,
}

/// The host that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub host: HostId,
    /// Why, for people.
    pub why: String,
}

/// What is to be said of a host that might take a desktop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its name.
    pub name: String,
    /// It can take it.
    pub fits: bool,
    /// It could, if its template had not failed.
    pub template_failed: bool,
    /// Why, for people.
    pub says: String,
}

pub(crate) fn score(c: &Candidate<'_>, strategy: PlacementStrategy) -> Score {
    let promised = u128::from(c.promised_mib) * 1_000_000_000 / u128::from(c.facts.memory_mib.max(1));
    Score {
        template_missing: !matches!(c.seen.template, Some((TemplateState::Ready, _))),
        promised: match strategy {
            PlacementStrategy::Spread => promised,
            PlacementStrategy::Pack => u128::MAX - promised,
        },
        host: c.host,
    }
}

/// Why its template keeps it from taking a desktop.
fn template_failed<'a>(c: &'a Candidate<'_>) -> Option<&'a str> {
    match &c.seen.template {
        Some((TemplateState::Failed, detail)) => Some(detail),
        _ => None,
    }
}

/// What speaks for a host that fits.
fn merits(c: &Candidate<'_>) -> String {
    let share = c.promised_mib * 100 / c.facts.memory_mib.max(1);
    let template = match &c.seen.template {
        Some((TemplateState::Ready, _)) => "",
        Some(_) => "; its template is being made",
        None => "; its template has to be made first",
    };
    format!("{share} % of its memory is promised{template}")
}

/// Whether it can take a desktop.
pub(crate) fn fits(c: &Candidate<'_>, demand: &Demand) -> bool {
    passed_over(c, demand).is_none() && template_failed(c).is_none()
}

/// That host, which is preferred to all others of so many.
pub(crate) fn choice(c: &Candidate<'_>, fit: usize) -> Choice {
    let others = if fit == 1 { "no other host fits".to_owned() } else { format!("of {fit} hosts that fit") };
    Choice { host: c.host, why: format!("{}, {others}", merits(c)) }
}

/// The reasons of hosts that an error lists; with more it would be a book.
const REASONS: usize = 20;

fn listed(mut reasons: Vec<String>) -> String {
    let more = reasons.len().saturating_sub(REASONS);
    reasons.truncate(REASONS);
    let listed = reasons.join("; ");
    if more == 0 { listed } else { format!("{listed}; and {more} more hosts") }
}

/// Chooses the host for a desktop.
///
/// # Errors
/// [`NoChoice`] with why each host was passed over, for people.
pub fn choose_host(candidates: &[Candidate<'_>], demand: &Demand) -> Result<Choice, NoChoice> {
    if candidates.is_empty() {
        return Err(NoChoice::NoHost("no host has ever connected; start a host agent".to_owned()));
    }
    let mut reasons = Vec::new();
    let mut failures = Vec::new();
    let mut best: Option<(Score, &Candidate<'_>)> = None;
    let mut fit = 0;
    for c in candidates {
        if let Some(reason) = passed_over(c, demand) {
            reasons.push(format!("{}: {reason}", c.name));
        } else if let Some(detail) = template_failed(c) {
            failures.push(format!("{}: {detail}", c.name));
        } else {
            fit += 1;
            let score = score(c, demand.strategy);
            if best.as_ref().is_none_or(|(least, _)| score < *least) {
                best = Some((score, c));
            }
        }
    }
    match best {
        Some((_, c)) => Ok(choice(c, fit)),
        None if !failures.is_empty() => Err(NoChoice::TemplateFailed(listed(failures))),
        None => Err(NoChoice::NoHost(listed(reasons))),
    }
}

/// What is to be said of each host for a desktop: first those that fit, the preferred before the others.
#[must_use]
pub fn consider(candidates: &[Candidate<'_>], demand: &Demand) -> Vec<Verdict> {
    let verdict = |c: &Candidate<'_>| {
        let (passed_over, failed) = (passed_over(c, demand), template_failed(c));
        let template_failed = passed_over.is_none() && failed.is_some();
        let failed = failed.map(|detail| format!("its template could not be made: {detail}"));
        let against = passed_over.or(failed);
        let fits = against.is_none();
        let says = against.unwrap_or_else(|| merits(c));
        Verdict { name: c.name.to_owned(), fits, template_failed, says }
    };
    let mut considered: Vec<_> = candidates.iter().map(|c| (score(c, demand.strategy), verdict(c))).collect();
    considered.sort_by(|a, b| (!a.1.fits, &a.0).cmp(&(!b.1.fits, &b.0)));
    considered.into_iter().map(|(_, verdict)| verdict).collect()
}

fn passed_over(c: &Candidate<'_>, demand: &Demand) -> Option<String> {
    let now = demand.memory_mib * (1 << 20) / FIRST_WRITES;
    if !c.seen.online {
        Some("its agent is not connected".to_owned())
    } else if c.drained {
        Some("it is drained: an administrator lets no new desktops go there".to_owned())
    } else if let Some(label) = &c.lacks {
        Some(format!("it does not have the label {label}"))
    } else if !c.has_image {
        Some("it does not have the image".to_owned())
    } else if let Some(why) = demand.too_much(c.facts, c.promised_mib, c.promised_vcpus) {
        Some(why)
    } else {
        c.seen.memory_available.filter(|free| *free < now).map(|free| {
            format!("only {} MiB of memory are free, and {} are needed at once", free >> 20, now >> 20)
        })
    }
}

/// What follows from what a host says of a desktop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is to be put on record.
    Note,
    /// It could not be made, or died, or is lost: its session and its assignment end, and it is to be destroyed.
    Fail,
    /// It does not run any more, and stays so until somebody connects.
    Rest,
    /// It runs on, and was to be suspended.
    Refused,
    /// It is gone with its data, as it should be: its place is free.
    Free,
}

/// What follows from what this host says of a desktop that is on record so.
#[must_use]
pub fn step(desktop: &Desktop, host: HostId, seen: &DesktopObserved) -> Option<Action> {
    let there = desktop.placed && desktop.ended_at.is_none() && desktop.host_id == Some(host);
    if !there && !mutant("a host tells of desktops that are elsewhere") {
        return None;
    }
    // A lower one is of an earlier placement; a higher one this database has not given out.
    if seen.generation != desktop.generation && !mutant("what was seen of another generation counts") {
        return None;
    }
    match desktop.desired {
        DesiredState::Absent => {
            let gone = seen.phase == Phase::Stopped
                || seen.phase == Phase::Stopping && mutant("a place is free before its desktop is gone");
            gone.then_some(Action::Free)
        }
        DesiredState::Running | DesiredState::Off | DesiredState::Suspended => match seen.phase {
            // A disk that its host does not find may be found again: only people give it up.
            Phase::Failed | Phase::Stopped
                if has_data(desktop)
                    && !mutant("a personal desktop that its host does not find is given up") =>
            {
                let known = desktop.phase == seen.phase && desktop.detail == seen.detail;
                (!known).then_some(Action::Note)
            }
            Phase::Failed | Phase::Stopped => Some(Action::Fail),
            // What became of an earlier wish says nothing of this one.
            Phase::Off | Phase::Suspended
                if seen.wish < desktop.desired_gen.unsigned_abs()
                    && !mutant("what became of an earlier wish counts") =>
            {
                None
            }
            Phase::Off | Phase::Suspended if desktop.desired == DesiredState::Running => Some(Action::Rest),
            // It ended by itself before it was suspended.
            Phase::Off if desktop.desired == DesiredState::Suspended => Some(Action::Rest),
            Phase::Ready
                if desktop.desired == DesiredState::Suspended
                    && seen.wish >= desktop.desired_gen.unsigned_abs()
                    && !mutant("what cannot be suspended is to be suspended for ever") =>
            {
                Some(Action::Refused)
            }
            Phase::Off if mutant("a desktop that is off gives up its place") => Some(Action::Free),
            _ => {
                let known = desktop.phase == seen.phase
                    && (desktop.detail == seen.detail || keeps_detail(desktop.desired, seen))
                    && desktop.endpoint.as_ref().map(|e| &e.0) == seen.endpoint.as_ref()
                    && desktop.held >= is_held(seen.phase)
                    && !desktop.has_gone_back(seen.wish, seen.phase);
                (!known).then_some(Action::Note)
            }
        },
    }
}

/// Whether there is something on a desktop's disk that is nowhere else: it outlives its guest, was there, and has had a user.
#[must_use]
pub fn has_data(desktop: &Desktop) -> bool {
    desktop.persistent && desktop.held && desktop.taken_at.is_some()
}

/// Whether a host that says this has the desktop: from then on it is kept there, and never made anew.
#[must_use]
pub fn is_held(phase: Phase) -> bool {
    matches!(phase, Phase::Starting | Phase::Ready) || phase.is_at_rest()
}

/// Whether what is on record tells more than this: why a desktop does not run is known where that was decided.
#[must_use]
pub fn keeps_detail(desired: DesiredState, seen: &DesktopObserved) -> bool {
    // What a host does until it does not run says less than why.
    let on_the_way = seen.phase == Phase::Stopping && desired.is_at_rest();
    on_the_way || seen.phase.is_at_rest() && seen.detail.is_empty()
}

/// Why a desktop failed that its host says this of.
#[must_use]
pub fn failure(seen: &DesktopObserved) -> String {
    match (seen.phase, seen.detail.is_empty()) {
        (_, false) => seen.detail.clone(),
        (Phase::Stopped, true) => "it stopped by itself".to_owned(),
        (_, true) => "its host does not say why".to_owned(),
    }
}

/// Milliseconds after which a host that is linked to nobody is lost, and its floating desktops are replaced. Longer: their users
/// wait for longer. Shorter: an agent or a broker that is started again costs them.
pub const LOST_AFTER: i64 = 20_000;

/// Why a desktop on this host is out of reach for now, when it is; so long, in milliseconds, at `now`.
#[must_use]
pub fn out_of_reach(host: &Host, now: i64) -> Option<i64> {
    (!host.is_online()).then(|| now - host.cut_at.unwrap_or(host.last_seen))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
