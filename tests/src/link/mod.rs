//! A network link with a delay, a rate, a queue and losses, for tests and benchmarks.
//!
//! ```text
//!   present namespace               this process                the link's own namespace
//!
//!   server on 0.0.0.0                                            connect(), enter(), place()
//!         ▲                                                                ▲
//!         ▼               ┌─► queue ─► rate ─► loss ─► delay ─►┐           ▼
//!     TUN device ◄──► fd ─┤                                    ├─ fd ◄──► TUN device
//!  server_address()       └◄─ delay ◄─ loss ◄─ rate ◄─ queue ◄─┘        client_address()
//! ```
//!
//! Like Linux's netem, but in user space, as not every kernel has it: packets are read from one TUN device, held until they
//! are due, and written to the other. They are ordinary IPv4 packets of at most 1500 bytes with no offloads, and both sides
//! run the kernel's own TCP, with the congestion control that the machine is set to.
//!
//! It is anonymous: devices and namespace belong to descriptors, so nothing is left however the process ends. Packets go
//! between the two namespaces only; neither gets a route to anywhere else, and packet filters of the present namespace apply
//! as to any other device. It needs root (`CAP_NET_ADMIN`, `CAP_SYS_ADMIN`) and `/dev/net/tun`.
//!
//! What is not like a cable: packets have no link layer header, so a rate counts IP packets only; a full queue drops the
//! newest packet; the emulator adds about a tenth of a millisecond; and what the kernel does for arriving packets is done, and
//! accounted, on the emulator's thread.
//!
//! * [`spec`]: what a link is like, and the presets
//! * [`counters`]: what went over it
//! * `direction`: what becomes of a packet and when; `forward`: the thread that does it
//! * `device`, `namespace`, `addresses`: the kernel's side

mod addresses;
pub mod counters;
mod device;
mod direction;
mod forward;
mod namespace;
pub mod spec;

pub use counters::{Counters, Traffic};
pub use spec::{HOME, LOOPBACK, LinkSpec, MOBILE, PRESETS, Preset};

use addresses::Pair;
use counters::Tally;
use device::Device;
use direction::Direction;
use forward::{End, Forwarder};
use namespace::Namespace;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::sync::Arc;

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No link can be like this.
    #[error("there is no such link: {0}")]
    Spec(&'static str),
    /// Only root may make one.
    #[error("network namespaces and TUN devices need root (CAP_SYS_ADMIN and CAP_NET_ADMIN)")]
    Forbidden(#[source] io::Error),
    /// The kernel has no TUN devices, or this machine shows none.
    #[error("/dev/net/tun cannot be opened; load the kernel's module tun")]
    NoTun(#[source] io::Error),
    /// The network namespace could not be made.
    #[error("cannot make a network namespace")]
    Namespace(#[source] io::Error),
    /// A TUN device of this name could not be made.
    #[error("cannot set up the TUN device {0}")]
    Device(String, #[source] io::Error),
    /// The addresses and routes of this machine cannot be read.
    #[error("cannot see which addresses are free")]
    Addresses(#[source] io::Error),
    /// All of the block are used.
    #[error(
        "198.18.0.0/15 has no free addresses for another link: this machine has routes or links for all of them"
    )]
    NoneFree,
    /// The thread that carries the packets could not be started.
    #[error("cannot start the link's thread")]
    Thread(#[source] io::Error),
}

/// A link between the namespace that it was made in and one of its own. Dropping it removes it.
#[derive(Debug)]
pub struct Link {
    server: Ipv4Addr,
    client: Ipv4Addr,
    /// Nothing for the loopback.
    emulated: Option<Emulated>,
}

#[derive(Debug)]
struct Emulated {
    device: String,
    to_server: Arc<Tally>,
    to_client: Arc<Tally>,
    namespace: Namespace,
    _forwarder: Forwarder,
}

impl Link {
    /// Makes a link from the calling thread's network namespace to a new one. Several links do not disturb each other.
    ///
    /// # Errors
    /// [`LinkError::Forbidden`] without root, [`LinkError::NoTun`] where there is no TUN device, [`LinkError::Spec`] for what
    /// cannot be; the others where the kernel refuses.
    pub fn new(spec: &LinkSpec) -> Result<Self, LinkError> {
        spec.check()?;
        let free = addresses::free_pairs().map_err(LinkError::Addresses)?;
        let (pair, near) = first_unclaimed(free)?;
        let (namespace, far) = Namespace::new(|| {
            device::loopback_up().map_err(LinkError::Namespace)?;
            let far = Device::new(&near.name)?.ok_or(LinkError::NoneFree)?;
            far.configure(pair.client(), pair.server())?;
            Ok(far)
        })?;
        near.configure(pair.server(), pair.client())?;
        let to_server = Arc::new(Tally::default());
        let to_client = Arc::new(Tally::default());
        let forwarder = Forwarder::start([
            End { fd: near.fd, leaving: Direction::new(*spec, 0, Arc::clone(&to_client)) },
            End { fd: far.fd, leaving: Direction::new(*spec, 1, Arc::clone(&to_server)) },
        ])
        .map_err(LinkError::Thread)?;
        let emulated = Emulated { device: near.name, to_server, to_client, namespace, _forwarder: forwarder };
        Ok(Self { server: pair.server(), client: pair.client(), emulated: Some(emulated) })
    }

    /// No link: everything that is asked of it happens in the present namespace, over 127.0.0.1, and is not counted.
    #[must_use]
    pub fn loopback() -> Self {
        Self { server: Ipv4Addr::LOCALHOST, client: Ipv4Addr::LOCALHOST, emulated: None }
    }

    /// Where the inside finds servers of the present namespace that listen on this address or on 0.0.0.0.
    #[must_use]
    pub fn server_address(&self) -> Ipv4Addr {
        self.server
    }

    /// Where connections from inside come from.
    #[must_use]
    pub fn client_address(&self) -> Ipv4Addr {
        self.client
    }

    /// The name that its device has on both sides; `None` for the loopback.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        self.emulated.as_ref().map(|emulated| emulated.device.as_str())
    }

    /// Connects from inside to a server of the present namespace, and waits for it. Any thread may use the connection, and
    /// an asynchronous one after `set_nonblocking` (`tokio::net::TcpStream::from_std`).
    ///
    /// # Errors
    /// The connection fails.
    pub fn connect(&self, port: u16) -> io::Result<TcpStream> {
        self.enter(|| TcpStream::connect((self.server, port)))?
    }

    /// Does something inside, on a thread of its own, and waits for it. Sockets and processes that it makes stay inside.
    ///
    /// # Errors
    /// There is no such thread.
    ///
    /// # Panics
    /// `work` does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        match &self.emulated {
            Some(emulated) => emulated.namespace.enter(work),
            None => Ok(work()),
        }
    }

    /// Has the process that a command starts be inside.
    pub fn place(&self, command: &mut Command) {
        if let Some(emulated) = &self.emulated {
            emulated.namespace.place(command);
        }
    }

    /// What has gone over it until now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.emulated.as_ref().map_or_else(Counters::default, |emulated| Counters {
            to_server: emulated.to_server.read(),
            to_client: emulated.to_client.read(),
        })
    }
}

/// Claims a pair through its device, which only one link can have.
fn first_unclaimed(free: impl Iterator<Item = Pair>) -> Result<(Pair, Device), LinkError> {
    for pair in free {
        if let Some(device) = Device::new(&pair.device())? {
            return Ok((pair, device));
        }
    }
    Err(LinkError::NoneFree)
}
