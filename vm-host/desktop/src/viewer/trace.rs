//! When each of a viewer's last updates went through which stage ([`lucarne_control::trace`]).
//!
//! ```text
//! reader ── input ──► Tracer ◄── drawn and sent, fence answered ── writer
//!                       └─ Traces ──► the display socket, on request
//! ```
//!
//! Keeping it costs a few looks at the clock and a short lock for each update, and no memory beyond what it begins with;
//! everything else is reckoned when it is asked for. It knows nothing of RFB.

use crate::picture::Arrival;
use lucarne_control::ids::SessionId;
use lucarne_control::trace::{InputKind, LinkFigures, Stage, StageTimes, Trace, UpdateTrace, ViewerTrace};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Updates that are remembered of each viewer. Fewer make the 99th percentile the worst one; more are of times that nobody
/// asks about any more.
const UPDATES: usize = 256;

/// Inputs that wait for damage. People type up to three keys before the guest has drawn the first.
const INPUTS: usize = 16;

/// An input that was given to the guest longer ago than this is not what damage comes from.
const EFFECT: Duration = Duration::from_secs(1);

/// The viewers of one desktop.
#[derive(Default)]
pub(crate) struct Traces {
    present: Arc<Mutex<Vec<Arc<Traced>>>>,
    last: AtomicU64,
    /// When the first update of all was sent.
    first: Arc<watch::Sender<Option<Instant>>>,
}

impl Traces {
    /// Waits until a viewer was sent a picture; tells when.
    pub(crate) async fn first_sent(&self) -> Instant {
        let mut first = self.first.subscribe();
        loop {
            if let Some(at) = *first.borrow_and_update() {
                return at;
            }
            // The sender lives as long as `self`.
            let _ = first.changed().await;
        }
    }

    /// What is known, with up to `last` updates of each viewer.
    pub(crate) fn trace(&self, last: usize) -> Trace {
        let present = lock(&self.present).clone();
        Trace { viewers: present.iter().map(|traced| traced.trace(last)).collect(), connections: Vec::new() }
    }
}

/// One viewer's, as long as it is there.
pub(super) struct Tracer {
    traced: Arc<Traced>,
    present: Arc<Mutex<Vec<Arc<Traced>>>>,
    first: Arc<watch::Sender<Option<Instant>>>,
}

struct Traced {
    viewer: u64,
    session: Option<SessionId>,
    view_only: bool,
    log: Mutex<Log>,
}

struct Log {
    updates: u64,
    records: VecDeque<Record>,
    inputs: VecDeque<Input>,
    link: LinkFigures,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Input {
    kind: InputKind,
    read: Instant,
    given: Instant,
}

/// An update that is encoded and not sent yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawn {
    /// When the damage came that it is of.
    pub(super) arrival: Option<Arrival>,
    /// Encoding began.
    pub(super) taken: Instant,
    /// And ended.
    pub(super) encoded: Instant,
    /// That were to be encoded.
    pub(super) pixels: u64,
    /// That it has.
    pub(super) rects: usize,
    /// That it has.
    pub(super) bytes: usize,
}

struct Record {
    number: u64,
    input: Option<Input>,
    drawn: Drawn,
    sent: Instant,
    fence: Option<[u8; 4]>,
    presented: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is whole at every point where a panic is possible.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tracer {
    /// A viewer is here.
    pub(super) fn new(traces: &Traces, session: Option<SessionId>, view_only: bool) -> Self {
        let log = Log {
            updates: 0,
            records: VecDeque::with_capacity(UPDATES),
            inputs: VecDeque::with_capacity(INPUTS),
            link: LinkFigures::default(),
        };
        let viewer = traces.last.fetch_add(1, Ordering::Relaxed) + 1;
        let traced = Arc::new(Traced { viewer, session, view_only, log: Mutex::new(log) });
        lock(&traces.present).push(traced.clone());
        Self { traced, present: traces.present.clone(), first: traces.first.clone() }
    }

    /// An input was read and has been given to the guest.
    pub(super) fn input(&self, kind: InputKind, read: Instant, given: Instant) {
        let mut log = lock(&self.traced.log);
        if log.inputs.len() == INPUTS {
            log.inputs.pop_front();
        }
        log.inputs.push_back(Input { kind, read, given });
    }

    /// The kernel has it all: an update, if there was one, and the fence behind it, if there was one.
    pub(super) fn sent(&self, drawn: Option<Drawn>, fence: Option<[u8; 4]>, link: LinkFigures) {
        let sent = Instant::now();
        let mut log = lock(&self.traced.log);
        log.link = link;
        let Some(drawn) = drawn else { return };
        if log.updates == 0 {
            self.first.send_if_modified(|first| first.replace(first.unwrap_or(sent)).is_none());
        }
        log.updates += 1;
        if log.records.len() == UPDATES {
            log.records.pop_front();
        }
        let input = drawn.arrival.and_then(|arrival| log.cause(arrival.received));
        let number = log.updates;
        log.records.push_back(Record { number, input, drawn, sent, fence, presented: None });
    }

    /// The viewer has answered a fence.
    pub(super) fn answered(&self, fence: &[u8], at: Instant, link: LinkFigures) {
        let mut log = lock(&self.traced.log);
        log.link = link;
        let of =
            |record: &&mut Record| record.presented.is_none() && record.fence.is_some_and(|f| f == fence);
        if let Some(record) = log.records.iter_mut().rev().find(of) {
            // The answer may be read before the writer has come back from the kernel; stages do not overlap.
            record.presented = Some(at.max(record.sent));
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        lock(&self.present).retain(|traced| !Arc::ptr_eq(traced, &self.traced));
    }
}

impl Log {
    /// The last key that the guest had before damage came, or else the last of the pointer. No input is given twice.
    fn cause(&mut self, damaged: Instant) -> Option<Input> {
        let mut before: Option<Input> = None;
        while let Some(input) = self.inputs.front().copied().filter(|input| input.given <= damaged) {
            self.inputs.pop_front();
            let fresh = damaged - input.given <= EFFECT;
            let better = input.kind == InputKind::Key || before.is_none_or(|b| b.kind == InputKind::Pointer);
            if fresh && better {
                before = Some(input);
            }
        }
        before
    }
}

fn ms(from: Instant, to: Instant) -> f64 {
    // Microseconds are as fine as these clocks are looked at.
    (to.saturating_duration_since(from).as_secs_f64() * 1e6).round() / 1000.0
}

impl Record {
    fn time(&self, stage: Stage) -> Option<f64> {
        let (arrival, drawn) = (self.drawn.arrival, &self.drawn);
        match stage {
            Stage::Input => self.input.map(|i| ms(i.read, i.given)),
            Stage::Guest => Some(ms(self.input?.given, arrival?.received)),
            Stage::Compare => arrival.map(|a| ms(a.received, a.compared)),
            Stage::Wait => arrival.map(|a| ms(a.compared, drawn.taken)),
            Stage::Encode => Some(ms(drawn.taken, drawn.encoded)),
            Stage::Send => Some(ms(drawn.encoded, self.sent)),
            Stage::Present => self.presented.map(|at| ms(self.sent, at)),
            Stage::DamageToSent => arrival.map(|a| ms(a.received, self.sent)),
            Stage::DamageToPresent => Some(ms(arrival?.received, self.presented?)),
            Stage::InputToSent => self.input.map(|i| ms(i.read, self.sent)),
            Stage::InputToPresent => Some(ms(self.input?.read, self.presented?)),
        }
    }

    fn trace(&self, viewer: u64) -> UpdateTrace {
        let first = self.input.map(|i| i.read).or(self.drawn.arrival.map(|a| a.received));
        UpdateTrace {
            id: format!("{viewer}.{}", self.number),
            input: self.input.map(|i| i.kind),
            damages: self.drawn.arrival.map_or(0, |a| a.damages),
            pixels: self.drawn.pixels,
            rects: u32::try_from(self.drawn.rects).unwrap_or(u32::MAX),
            bytes: self.drawn.bytes as u64,
            input_ms: self.time(Stage::Input),
            guest_ms: self.time(Stage::Guest),
            compare_ms: self.time(Stage::Compare),
            wait_ms: self.time(Stage::Wait),
            encode_ms: self.time(Stage::Encode).unwrap_or_default(),
            send_ms: self.time(Stage::Send).unwrap_or_default(),
            present_ms: self.time(Stage::Present),
            total_ms: ms(first.unwrap_or(self.drawn.taken), self.presented.unwrap_or(self.sent)),
        }
    }
}

impl Traced {
    fn trace(&self, last: usize) -> ViewerTrace {
        let log = lock(&self.log);
        let stages = Stage::ALL.into_iter();
        let stages = stages.filter_map(|stage| {
            times(stage, log.records.iter().filter_map(|record| record.time(stage)).collect())
        });
        let skipped = log.records.len().saturating_sub(last);
        ViewerTrace {
            viewer: self.viewer,
            session: self.session,
            view_only: self.view_only,
            updates: log.updates,
            stages: stages.collect(),
            recent: log.records.iter().skip(skipped).map(|record| record.trace(self.viewer)).collect(),
            link: log.link,
        }
    }
}

/// Percentiles by nearest rank; none of nothing.
fn times(stage: Stage, mut all: Vec<f64>) -> Option<StageTimes> {
    all.sort_by(f64::total_cmp);
    let rank = |percent: usize| all.get((all.len() * percent).div_ceil(100).max(1) - 1).copied();
    Some(StageTimes {
        stage,
        count: u32::try_from(all.len()).unwrap_or(u32::MAX),
        p50_ms: rank(50)?,
        p95_ms: rank(95)?,
        p99_ms: rank(99)?,
        max_ms: rank(100)?,
    })
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
