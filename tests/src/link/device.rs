//! TUN devices: network devices whose packets a program reads and writes (Linux, `Documentation/networking/tuntap.rst`),
//! and the requests that give them their addresses (`netdevice(7)`).
//!
//! A device lives as long as its descriptor is open, so the kernel removes it however its owner ends.

use super::LinkError;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

const TUN: &str = "/dev/net/tun";

/// Packets that wait for the emulator, which reads them at once. Fewer, and a burst is dropped by the kernel, uncounted,
/// while the emulator waits for a processor; this holds more than the 4 MiB of a TCP sender's largest window.
const RING_PACKETS: libc::c_int = 4096;

/// A TUN device in the network namespace of the thread that made it.
#[derive(Debug)]
pub struct Device {
    /// Gives and takes one IP packet at a time, without waiting.
    pub fd: OwnedFd,
    pub name: String,
}

impl Device {
    /// A new device of this name; `None` if there is one already. That is found out and claimed in one step.
    pub fn new(name: &str) -> Result<Option<Self>, LinkError> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open(TUN, flags, Mode::empty()).map_err(|e| match e {
            Errno::ACCESS | Errno::PERM => LinkError::Forbidden(e.into()),
            e => LinkError::NoTun(e.into()),
        })?;
        // Plain IP packets with no header in front, and no device that is there already.
        let mut new = request(name);
        new.ifr_ifru.ifru_flags = flag_bits(libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL);
        match control::<{ libc::TUNSETIFF as Opcode }>(&fd, &mut new) {
            Ok(()) => Ok(Some(Self { fd, name: name.to_owned() })),
            Err(Errno::BUSY) => Ok(None),
            Err(Errno::PERM) => Err(LinkError::Forbidden(Errno::PERM.into())),
            Err(e) => Err(LinkError::Device(name.to_owned(), e.into())),
        }
    }

    /// Gives it its address and that of its other end, and brings it up. Call it in the device's namespace.
    pub fn configure(&self, local: Ipv4Addr, peer: Ipv4Addr) -> Result<(), LinkError> {
        self.try_configure(local, peer).map_err(|e| LinkError::Device(self.name.clone(), e.into()))
    }

    fn try_configure(&self, local: Ipv4Addr, peer: Ipv4Addr) -> rustix::io::Result<()> {
        let socket = control_socket()?;
        let mut change = request(&self.name);
        change.ifr_ifru.ifru_metric = RING_PACKETS;
        control::<{ libc::SIOCSIFTXQLEN as Opcode }>(&socket, &mut change)?;
        change.ifr_ifru.ifru_addr = address(local);
        control::<{ libc::SIOCSIFADDR as Opcode }>(&socket, &mut change)?;
        change.ifr_ifru.ifru_dstaddr = address(peer);
        control::<{ libc::SIOCSIFDSTADDR as Opcode }>(&socket, &mut change)?;
        // Without IFF_MULTICAST, which a TUN device has at first: nobody is to announce anything over it.
        change.ifr_ifru.ifru_flags = flag_bits(libc::IFF_POINTOPOINT | libc::IFF_NOARP | libc::IFF_UP);
        control::<{ libc::SIOCSIFFLAGS as Opcode }>(&socket, &mut change)
    }
}

/// Brings up the loopback device of this thread's namespace.
pub fn loopback_up() -> io::Result<()> {
    let mut change = request("lo");
    change.ifr_ifru.ifru_flags = flag_bits(libc::IFF_UP);
    Ok(control::<{ libc::SIOCSIFFLAGS as Opcode }>(control_socket()?, &mut change)?)
}

/// Any IPv4 socket takes requests for the devices of its namespace.
fn control_socket() -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

/// A request for the device of this name, which is cut to the length that the kernel knows.
fn request(name: &str) -> libc::ifreq {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()).take(libc::IFNAMSIZ - 1) {
        *to = from.cast_signed();
    }
    libc::ifreq {
        ifr_name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_addr: address(Ipv4Addr::UNSPECIFIED) },
    }
}

/// The member of the request has 16 bits, the constants have 32; no flag used here is above them.
#[allow(clippy::cast_possible_truncation)]
fn flag_bits(flags: libc::c_int) -> libc::c_short {
    flags as libc::c_short
}

/// The address as `sockaddr_in` has it: port 0, then the address in network order.
fn address(address: Ipv4Addr) -> libc::sockaddr {
    let mut sa_data = [0; 14];
    for (to, from) in sa_data[2..].iter_mut().zip(address.octets()) {
        *to = from.cast_signed();
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data }
}

/// One of the requests that take an `ifreq`.
fn control<const OPCODE: Opcode>(fd: impl AsFd, request: &mut libc::ifreq) -> rustix::io::Result<()> {
    // SAFETY: all opcodes used in this file are given an `ifreq` by the kernel's definition, and write nothing beyond it.
    unsafe { ioctl(fd, Updater::<OPCODE, libc::ifreq>::new(request)) }
}
