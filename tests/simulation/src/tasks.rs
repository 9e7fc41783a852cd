//! Runs futures, one at a time, in the order in which they were woken. Each belongs to a process, which can be paused
//! or killed with all that it runs.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    owner: usize,
    future: Boxed,
    waker: Waker,
}

type Queue = Arc<Mutex<VecDeque<u64>>>;

struct Wakes {
    task: u64,
    queue: Queue,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !queue.contains(&self.task) {
            queue.push_back(self.task);
        }
    }
}

/// The tasks of all processes.
#[derive(Default)]
pub struct Tasks {
    tasks: BTreeMap<u64, Task>,
    queue: Queue,
    paused: BTreeMap<usize, Vec<u64>>,
    next: u64,
}

impl Tasks {
    /// Starts one.
    pub fn spawn(&mut self, owner: usize, future: impl Future<Output = ()> + 'static) {
        self.next += 1;
        let waker = Waker::from(Arc::new(Wakes { task: self.next, queue: Arc::clone(&self.queue) }));
        waker.wake_by_ref();
        self.tasks.insert(self.next, Task { owner, future: Box::pin(future), waker });
    }

    /// Lets a process run nothing from now on.
    pub fn pause(&mut self, owner: usize) {
        self.paused.entry(owner).or_default();
    }

    /// Lets it go on.
    pub fn resume(&mut self, owner: usize) {
        for task in self.paused.remove(&owner).unwrap_or_default() {
            if let Some(task) = self.tasks.get(&task) {
                task.waker.wake_by_ref();
            }
        }
    }

    /// Drops all that it runs.
    pub fn kill(&mut self, owner: usize) {
        self.paused.remove(&owner);
        self.tasks.retain(|_, task| task.owner != owner);
    }

    /// Runs what can run until nothing can.
    pub fn run(&mut self) {
        loop {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(id) = next else { return };
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            if let Some(waiting) = self.paused.get_mut(&task.owner) {
                waiting.push(id);
                continue;
            }
            let waker = task.waker.clone();
            if task.future.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Ready(()) {
                self.tasks.remove(&id);
            }
        }
    }
}
