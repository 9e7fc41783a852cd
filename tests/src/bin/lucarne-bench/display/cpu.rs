//! Processor time of a server, without the threads that run a guest.

use crate::processes;
use anyhow::Result;
use std::fs;

/// Processes whose time is taken.
#[derive(Clone, Debug)]
pub struct Server {
    pids: Vec<u32>,
}

impl Server {
    /// These.
    pub fn of(pids: Vec<u32>) -> Self {
        Self { pids }
    }

    /// Seconds of each process so far.
    pub fn parts(&self) -> Vec<(String, f64)> {
        let part = |pid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (name.trim().to_owned(), Self::of(vec![*pid]).seconds())
        };
        self.pids.iter().map(part).collect()
    }

    /// Memory that they hold, MiB, without QEMU's, which is the guest's.
    pub fn resident_mib(&self) -> Result<f64> {
        let is_qemu = |pid: &&u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.starts_with("qemu-system")
        };
        let bytes = self.pids.iter().filter(|pid| !is_qemu(pid)).map(|pid| processes::resident(*pid));
        Ok(bytes.sum::<Result<u64>>()? as f64 / f64::from(1 << 20))
    }

    /// Seconds so far. Threads that have ended count too.
    pub fn seconds(&self) -> f64 {
        let guests: f64 = self.pids.iter().flat_map(|pid| guest_threads(*pid)).sum();
        processes::cpu_seconds(&self.pids) - guests
    }
}

/// Seconds of each thread that runs a guest's processor.
fn guest_threads(pid: u32) -> Vec<f64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let seconds = tasks.filter_map(|task| {
        // QEMU names these threads "CPU 0/TCG" and "CPU 0/KVM".
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        name.starts_with("CPU ").then(|| processes::seconds_of(&stat))?
    });
    seconds.collect()
}
