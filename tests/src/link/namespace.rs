//! A network namespace without a name (`network_namespaces(7)`): it is there while a descriptor, a process or a socket
//! refers to it, and nothing in the file system does.

use super::LinkError;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::thread;

/// A network namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    fd: Arc<OwnedFd>,
}

impl Namespace {
    /// A new one, with what `prepare` made in it.
    pub fn new<T: Send>(
        prepare: impl FnOnce() -> Result<T, LinkError> + Send,
    ) -> Result<(Self, T), LinkError> {
        on_a_thread(|| {
            // SAFETY: the thread gets a network namespace of its own and goes on sharing everything else, its table of
            // descriptors included.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(|e| match e {
                Errno::PERM => LinkError::Forbidden(e.into()),
                e => LinkError::Namespace(e.into()),
            })?;
            let fd = open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| LinkError::Namespace(e.into()))?;
            Ok((Self { fd: Arc::new(fd) }, prepare()?))
        })
        .map_err(LinkError::Namespace)?
    }

    /// Does something on a thread that is in this namespace. Sockets and processes made by it stay there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_a_thread(|| {
            self.move_thread()?;
            Ok(work())
        })?
    }

    /// Has the process that a command starts be in this namespace.
    pub fn place(&self, command: &mut Command) {
        let namespace = self.clone();
        // SAFETY: between fork and exec it is a single system call, on a descriptor that the command keeps open.
        unsafe { command.pre_exec(move || namespace.move_thread()) };
    }

    fn move_thread(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))?)
    }
}

/// Runs it on a thread of its own, which takes the namespace that it is in with it when it ends.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".into()).spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
