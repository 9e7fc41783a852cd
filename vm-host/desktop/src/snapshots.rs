//! What is done to a desktop's snapshots: by its process while its guest runs, and by [`at_rest`] while nothing does.
//!
//! One thing is done at a time, and tells how far it is.

use crate::config::files;
use crate::control::{Work, WorkEnd, WorkStatus};
use crate::desktop::Desktop;
use crate::error::{DesktopError, chain};
use crate::record;
use lucarne_control::SnapshotId;
use lucarne_control::desktop::Phase;
use lucarne_driver::{Overseer, SnapshotWanted, VmError};
use lucarne_qemu::process::Process;
use lucarne_qemu::snapshot::SnapshotError;
use lucarne_qemu::snapshot::at_rest::{self as layers, Back, Ran};
use lucarne_qemu::snapshot::export::export;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The work that a desktop process does.
#[derive(Default)]
pub(crate) struct Worker {
    /// Whether what is done now is not wanted any more; none when nothing is done.
    given_up: Mutex<Option<Arc<GivenUp>>>,
}

/// Whether work is not wanted any more.
#[derive(Default)]
struct GivenUp {
    /// At all.
    now: AtomicBool,
    /// By who asked for it. Otherwise it is in the way of something else, and can be done later.
    asked: AtomicBool,
}

struct Told {
    desktop: Arc<Desktop>,
    given_up: Arc<GivenUp>,
}

impl Overseer for Told {
    fn progress(&self, percent: u8) {
        self.desktop.change(|status| {
            if let Some(work) = &mut status.work {
                work.progress = percent;
            }
        });
    }

    fn is_cancelled(&self) -> bool {
        self.given_up.now.load(Ordering::Relaxed)
    }
}

impl Worker {
    fn now(&self) -> std::sync::MutexGuard<'_, Option<Arc<GivenUp>>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is done now is not wanted any more.
    pub(crate) fn give_up(&self) {
        if let Some(given_up) = &*self.now() {
            given_up.asked.store(true, Ordering::Relaxed);
            given_up.now.store(true, Ordering::Relaxed);
        }
    }

    /// What is done now is in the way of something else.
    pub(crate) fn make_way(&self) {
        if let Some(given_up) = &*self.now() {
            given_up.now.store(true, Ordering::Relaxed);
        }
    }

    /// Begins with it, and tells how it went.
    pub(crate) fn begin(desktop: &Arc<Desktop>, work: Work) {
        let given_up = Arc::new(GivenUp::default());
        let number = desktop.status().borrow().work.as_ref().map_or(0, |work| work.number) + 1;
        let status = |end| WorkStatus { number, todo: work, progress: 0, end };
        let ready = desktop.status().borrow().phase == Phase::Ready;
        let vm = desktop.vm().filter(|_| ready);
        let refused = {
            let mut now = desktop.worker.now();
            match (&vm, &work) {
                (None, _) => Some(WorkEnd::NotNow { why: "it is just starting or ending".into() }),
                _ if now.is_some() => {
                    Some(WorkEnd::NotNow { why: "another of its snapshots is being seen to".into() })
                }
                (_, Work::Back { .. } | Work::TryBack { .. }) => {
                    Some(WorkEnd::Failed { why: "it runs".into() })
                }
                _ => {
                    *now = Some(given_up.clone());
                    None
                }
            }
        };
        let (Some(vm), None) = (vm, &refused) else {
            return desktop.change(|now| now.work = Some(status(refused)));
        };
        desktop.change(|now| now.work = Some(status(None)));
        let desktop = desktop.clone();
        let done = status(Some(WorkEnd::Done));
        tokio::spawn(async move {
            let told = Told { desktop: desktop.clone(), given_up: given_up.clone() };
            let ended = match work {
                Work::Take { snapshot, memory } => {
                    vm.snapshot(SnapshotWanted { snapshot, memory }, &told).await
                }
                Work::Delete { snapshot } => vm.delete_snapshot(snapshot, &told).await,
                Work::Export { snapshot, attempt } => vm.export_snapshot(snapshot, attempt, &told).await,
                Work::Back { .. } | Work::TryBack { .. } => Ok(()),
            };
            let end = match ended {
                Ok(()) => WorkEnd::Done,
                Err(error) => end(&error, &given_up),
            };
            *desktop.worker.now() = None;
            desktop.change(|now| now.work = Some(WorkStatus { end: Some(end), ..done }));
        });
    }
}

fn end(error: &VmError, given_up: &GivenUp) -> WorkEnd {
    let why = chain(error);
    let made_way = given_up.now.load(Ordering::Relaxed) && !given_up.asked.load(Ordering::Relaxed);
    // Whatever ended it: what is left is seen to by whoever comes next.
    if matches!(error, VmError::Gone(_)) || made_way {
        WorkEnd::NotNow { why }
    } else {
        WorkEnd::Failed { why }
    }
}

fn failed(dir: &Path) -> impl FnOnce(SnapshotError) -> DesktopError {
    let dir = dir.to_path_buf();
    move |error| DesktopError::Snapshots { dir, source: Box::new(error) }
}

/// Brings the layers back in order that somebody was killed over, in a folder where nothing runs.
///
/// # Errors
/// They are not in order: nothing may be started.
pub(crate) fn settle_layers(dir: &Path) -> Result<(), DesktopError> {
    layers::settle(dir).map_err(failed(dir))
}

/// Finishes what somebody was killed over, in a folder where nothing runs.
///
/// # Errors
/// It is half done: nothing may be started.
pub(crate) fn settle(dir: &Path) -> Result<(), DesktopError> {
    if let Some(Back { snapshot, wish }) = layers::go_on_back(dir).map_err(failed(dir))? {
        let mut done = record::read_done(dir)?;
        done.booted = snapshot.booted;
        done.back = wish;
        if snapshot.memory {
            done.qemu_version = snapshot.qemu_version;
        }
        done.ended = Some("it was put back to a snapshot".into());
        record::write_done(dir, &done)?;
        layers::is_back(dir).map_err(failed(dir))?;
    }
    settle_layers(dir)
}

/// Whether it is decided that the desktop in this folder goes back to a snapshot, and not done yet: nothing may be started before.
#[must_use]
pub fn is_going_back(dir: &Path) -> bool {
    layers::is_decided(dir)
}

/// How long whoever changes the layers waits for whoever does.
const LOCK_LIMIT: Duration = Duration::from_secs(20);

/// Held by who changes layers where nothing runs, and by a desktop process: whoever is left over of an agent that was killed has come
/// to its end then.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "it is held as long as it is there")] File);

/// Takes the folder.
///
/// # Errors
/// Somebody else has it.
pub(crate) async fn hold(dir: &Path) -> Result<Held, DesktopError> {
    let path = dir.join("lock");
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = opened.map_err(|source| DesktopError::Folder { dir: dir.into(), source })?;
    let began = Instant::now();
    loop {
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Held(lock)),
            Err(_) if began.elapsed() < LOCK_LIMIT => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(source) => return Err(DesktopError::Folder { dir: dir.into(), source: source.into() }),
        }
    }
}

/// Does something to the snapshots of a desktop that does not run, with nothing else at its folder, and tells how far it is on
/// standard output: JSON lines of [`WorkStatus`]. It is given up when standard input ends.
///
/// # Errors
/// How far it is cannot be told.
pub async fn at_rest(dir: PathBuf, work: Work) -> Result<(), DesktopError> {
    let dir = dir.canonicalize().map_err(|source| DesktopError::Folder { dir: dir.clone(), source })?;
    let printed = Arc::new(Printed::new(work));
    let watched = printed.clone();
    std::thread::spawn(move || {
        let mut input = std::io::stdin();
        while !matches!(input.read(&mut [0; 64]), Ok(0) | Err(_)) {}
        watched.given_up.store(true, Ordering::Relaxed);
    });
    let end = match work {
        Work::Export { snapshot, attempt } => export_at_rest(&dir, snapshot, attempt, &*printed).await,
        work => match at_rest_in(&dir, work, &*printed).await {
            Ok(()) => WorkEnd::Done,
            Err(why) => WorkEnd::Failed { why },
        },
    };
    printed.print(100, Some(end)).map_err(DesktopError::system("cannot tell how far it is"))
}

/// Puts a snapshot together beside whatever is started meanwhile: nothing writes to what is beneath the disk, but for who was left over of
/// an agent that was killed, and has come to its end when the folder can be taken.
async fn export_at_rest(dir: &Path, snapshot: SnapshotId, attempt: u64, overseer: &dyn Overseer) -> WorkEnd {
    match hold(dir).await {
        Ok(held) => {
            if Process::adopt(dir).is_none()
                && let Err(error) = settle(dir)
            {
                return WorkEnd::Failed { why: chain(&error) };
            }
            drop(held);
        }
        // Its desktop process has been started, and is to do it.
        Err(error) => return WorkEnd::NotNow { why: chain(&error) },
    }
    match export(dir, snapshot, attempt, overseer).await {
        Ok(()) => WorkEnd::Done,
        Err(error) => WorkEnd::Failed { why: chain(&error) },
    }
}

async fn at_rest_in(dir: &Path, work: Work, overseer: &dyn Overseer) -> Result<(), String> {
    if let Work::TryBack { snapshot } = work {
        return layers::try_back(dir, snapshot).await.map_err(|error| chain(&error));
    }
    let _held = hold(dir).await.map_err(|error| chain(&error))?;
    if Process::adopt(dir).is_some() {
        return Err("its guest runs".into());
    }
    if !dir.join(files::CONFIG).exists() || !record::is_made(dir) {
        return Err("it has no disk yet".into());
    }
    settle(dir).map_err(|error| chain(&error))?;
    let done = match work {
        Work::Take { snapshot, memory } => {
            let done = record::read_done(dir).map_err(|error| chain(&error))?;
            if done.cloned {
                // Who goes back to it would be the twin of what it was cloned from.
                return Err("it is a clone that has no identity of its own yet; start it first".into());
            }
            let ran = Ran { booted: done.booted, qemu_version: done.qemu_version };
            layers::take(dir, SnapshotWanted { snapshot, memory }, ran).await.map(drop)
        }
        Work::Delete { snapshot } => layers::delete(dir, snapshot, overseer).await,
        // Asked for again, because whoever asked has not heard that it was done.
        Work::Back { wish, .. } if record::went_back(dir)? >= wish => Ok(()),
        Work::Back { snapshot, wish } => layers::back(dir, snapshot, wish).await,
        Work::TryBack { .. } | Work::Export { .. } => Ok(()),
    };
    done.map_err(|error| chain(&error))?;
    // Where it was decided to go back, that is done now.
    settle(dir).map_err(|error| chain(&error))
}

struct Printed {
    work: Work,
    last: AtomicU8,
    given_up: AtomicBool,
}

impl Printed {
    fn new(work: Work) -> Self {
        Self { work, last: AtomicU8::new(0), given_up: AtomicBool::new(false) }
    }

    fn print(&self, progress: u8, end: Option<WorkEnd>) -> std::io::Result<()> {
        let status = WorkStatus { number: 1, todo: self.work, progress, end };
        let mut line = serde_json::to_vec(&status)?;
        line.push(b'\n');
        std::io::stdout().write_all(&line)
    }
}

impl Overseer for Printed {
    fn progress(&self, percent: u8) {
        if self.last.swap(percent, Ordering::Relaxed) != percent {
            let _ = self.print(percent, None);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}
