//! The thread that carries packets between the two ends of a link when they are due.
//!
//! It sleeps in `ppoll`, whose time-outs have the kernel's high resolution timers behind them, and asks for a real-time
//! priority, as packets in the kernel have it too: other work on the machine must not look like a slower link.

use super::direction::Direction;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, read, write};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// The most packets that are taken from one end before those that are due get their turn.
const BATCH: usize = 32;

/// The largest IP packet.
const PACKET_MAX: usize = 65_535;

/// How late the kernel may wake the thread to save a timer; its default is 50 µs.
const SLACK: NonZeroU64 = NonZeroU64::MIN;

/// One end of a link.
#[derive(Debug)]
pub struct End {
    /// Gives and takes one packet at a time without waiting.
    pub fd: OwnedFd,
    /// What leaves this end.
    pub leaving: Direction,
}

/// The running thread. It ends, and its ends are closed, when this is dropped.
#[derive(Debug)]
pub struct Forwarder {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Starts to carry packets from each end to the other.
    pub fn start(ends: [End; 2]) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let stopped = Arc::clone(&stop);
        let thread = Builder::new().name("link".into()).spawn(move || {
            prefer();
            // An end that is gone carries nothing more; whoever waits for its packets sees that.
            let _ = carry(ends, &stopped);
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = write(&self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Has this thread woken in time. Where it is not allowed, times are a little less exact.
fn prefer() {
    let _ = rustix::thread::set_current_timer_slack(Some(SLACK));
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the call reads the structure and changes nothing but how this thread (0) is scheduled.
    let _ = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const priority)
    };
}

/// Until `stop` can be read, or an end is gone.
fn carry(mut ends: [End; 2], stop: &OwnedFd) -> rustix::io::Result<()> {
    let mut space = vec![0; PACKET_MAX];
    let mut more = false;
    loop {
        let due = ends.iter().filter_map(|end| end.leaving.due()).min();
        let readable = {
            let [a, b] = &ends;
            let mut waits = [&a.fd, &b.fd, stop].map(|fd| PollFd::new(fd, PollFlags::IN));
            let wait = if more { Some(Duration::ZERO) } else { due.map(until) };
            match poll(&mut waits, wait.and_then(|wait| Timespec::try_from(wait).ok()).as_ref()) {
                Ok(_) => waits.map(|wait| !wait.revents().is_empty()),
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e),
            }
        };
        if readable[2] {
            return Ok(());
        }
        more = false;
        for (end, readable) in ends.iter_mut().zip(readable) {
            if readable {
                more |= take_in(end, &mut space)?;
            }
        }
        let [a, b] = &mut ends;
        hand_out(&mut a.leaving, &b.fd)?;
        hand_out(&mut b.leaving, &a.fd)?;
    }
}

fn until(due: Instant) -> Duration {
    due.saturating_duration_since(Instant::now())
}

/// Takes what waits at an end, up to a batch; says whether there may be more.
fn take_in(end: &mut End, space: &mut [u8]) -> rustix::io::Result<bool> {
    for _ in 0..BATCH {
        match read(&end.fd, &mut *space) {
            Ok(length) => {
                let packet = &space[..length];
                // The link has IPv4 addresses; what the kernel itself tries with IPv6 leads nowhere.
                if packet.first().is_some_and(|first| first >> 4 == 4) {
                    end.leaving.offer(Instant::now(), packet);
                }
            }
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

fn hand_out(direction: &mut Direction, to: &OwnedFd) -> rustix::io::Result<()> {
    if direction.due().is_none() {
        return Ok(());
    }
    let now = Instant::now();
    while let Some(packet) = direction.take(now) {
        match write(to, &packet) {
            // A device that somebody has taken down (EIO) or a kernel out of memory loses it, as networks do.
            Ok(_)
            | Err(Errno::IO | Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN | Errno::INVAL | Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
