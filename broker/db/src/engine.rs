//! What an engine is: something that takes jobs, runs each as one transaction, and tells it what became of it.

use crate::audit::Strand;
use crate::fault::{Fault, is_passing};
use crate::tx::{Statements, Tx};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::oneshot;

/// How often a transaction is tried when others are in the way. Contended rows pass from one to the next in a few tries;
/// more would hide a fault.
pub(crate) const TRIES: u32 = 25;

/// Whether a job may change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Read,
    Write,
}

/// Work to be done in one transaction.
pub(crate) trait Job: Send {
    /// Does it; true when it is to be kept. May be called again after it was rolled back.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Somebody waits for it still.
    fn is_awaited(&self) -> bool;
    /// Tells whoever waits: it was kept or rolled back as `run` said, or it was not done.
    fn done(self: Box<Self>, outcome: Result<(), Fault>);
}

/// A database.
pub(crate) trait Engine: Send + Sync {
    /// Takes a job.
    fn submit(&self, mode: Mode, job: Box<dyn Job>);
    /// Takes no more jobs, and waits for those that were taken. Blocks.
    fn close(&self);
}

/// What a job made of a transaction.
pub(crate) enum Ran {
    /// To be committed; the strand goes on there.
    Keep(Strand),
    /// To be rolled back.
    Drop,
    /// To be rolled back and tried again.
    Again(Fault),
    /// To be rolled back, although the job took no notice of a fault.
    Failed(Fault),
}

/// Runs a job's work once. A job that panics is not to be kept; whoever waits for it is told by the drop of it.
pub(crate) fn run(job: &mut dyn Job, statements: &mut dyn Statements, strand: &Strand) -> Ran {
    let mut tx = Tx::new(statements, strand.clone());
    // What the job has half done is in the transaction alone, which is rolled back.
    let kept = catch_unwind(AssertUnwindSafe(|| job.run(&mut tx)));
    match (kept, tx.end()) {
        (Err(_), _) => Ran::Drop,
        (_, (_, Some(fault))) if is_passing(&fault) => Ran::Again(fault),
        (Ok(true), (_, Some(fault))) => Ran::Failed(fault),
        (Ok(true), (strand, None)) => Ran::Keep(strand),
        (Ok(false), _) => Ran::Drop,
    }
}

/// A closure as a job.
pub(crate) struct Work<F, T, E> {
    work: F,
    result: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Work<F, T, E> {
    pub fn new(work: F) -> (Self, oneshot::Receiver<Result<T, E>>) {
        let (answer, waiting) = oneshot::channel();
        (Self { work, result: None, answer }, waiting)
    }
}

impl<F, T, E> Job for Work<F, T, E>
where
    F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<Fault> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        self.result = None;
        let result = (self.work)(tx);
        self.result.insert(result).is_ok()
    }

    fn is_awaited(&self) -> bool {
        !self.answer.is_closed()
    }

    fn done(self: Box<Self>, outcome: Result<(), Fault>) {
        let result = match (outcome, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(panicked().into()),
            (Err(fault), _) => Err(fault.into()),
        };
        // Who does not wait any more does not need it.
        let _ = self.answer.send(result);
    }
}

pub(crate) fn panicked() -> Fault {
    Fault::Engine("the work of a transaction panicked; it was rolled back".to_owned())
}

pub(crate) fn closed() -> Fault {
    Fault::Unavailable("it is closed".to_owned())
}
