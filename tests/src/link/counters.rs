//! What went over a link.

use std::sync::atomic::{AtomicU64, Ordering};

/// What went over a link, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// From inside the namespace to the server.
    pub to_server: Traffic,
    /// From the server into the namespace.
    pub to_client: Traffic,
}

/// What went one way: IP packets, and their bytes with all headers. What is still under way is in none of the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets that arrived.
    pub packets: u64,
    /// Bytes that arrived.
    pub bytes: u64,
    /// Packets that were lost on the line.
    pub lost_packets: u64,
    /// Bytes that were lost on the line.
    pub lost_bytes: u64,
    /// Packets that the queue had no room for.
    pub overflowed_packets: u64,
    /// Bytes that the queue had no room for.
    pub overflowed_bytes: u64,
}

/// One way's numbers, which another thread reads while they grow.
#[derive(Debug, Default)]
pub(super) struct Tally {
    delivered: Count,
    lost: Count,
    overflowed: Count,
}

#[derive(Debug, Default)]
struct Count {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Count {
    fn add(&self, bytes: u64) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        (self.packets.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

impl Tally {
    pub fn delivered(&self, bytes: u64) {
        self.delivered.add(bytes);
    }

    pub fn lost(&self, bytes: u64) {
        self.lost.add(bytes);
    }

    pub fn overflowed(&self, bytes: u64) {
        self.overflowed.add(bytes);
    }

    pub fn read(&self) -> Traffic {
        let (packets, bytes) = self.delivered.read();
        let (lost_packets, lost_bytes) = self.lost.read();
        let (overflowed_packets, overflowed_bytes) = self.overflowed.read();
        Traffic { packets, bytes, lost_packets, lost_bytes, overflowed_packets, overflowed_bytes }
    }
}
