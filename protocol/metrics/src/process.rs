//! The process itself, as Linux tells (proc(5)), under the names that Prometheus' client libraries share.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, IntGauge};
use std::fs;

/// The kernel's unit of `/proc/PID/stat`, which is 100 for every process of Linux, whatever its own timer does.
const TICKS: f64 = 100.0;

/// The collector.
#[derive(Debug)]
pub struct Process {
    cpu: Counter,
    resident: IntGauge,
    files: IntGauge,
    most_files: IntGauge,
    started: Gauge,
}

impl Process {
    /// Of this process.
    ///
    /// # Errors
    /// Never with these names.
    pub fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            cpu: Counter::new("process_cpu_seconds_total", "Processor time that was used, in seconds.")?,
            resident: IntGauge::new("process_resident_memory_bytes", "Memory that is resident, in bytes.")?,
            files: IntGauge::new("process_open_fds", "File descriptors that are open.")?,
            most_files: IntGauge::new("process_max_fds", "File descriptors that may be open.")?,
            started: Gauge::new(
                "process_start_time_seconds",
                "When the process was started, in seconds since the epoch.",
            )?,
        })
    }

    /// What cannot be read stays as it was.
    fn measure(&self) {
        if let Some((cpu, since_boot)) = times() {
            self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
            let boot = fs::read_to_string("/proc/stat").ok();
            let boot = boot.as_deref().and_then(|stat| stat.lines().find_map(|l| l.strip_prefix("btime ")));
            if let Some(boot) = boot.and_then(|boot| boot.trim().parse::<f64>().ok()) {
                self.started.set(boot + since_boot);
            }
        }
        let pages = fs::read_to_string("/proc/self/statm").ok();
        let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<i64>().ok());
        if let Some(pages) = pages {
            let size = i64::try_from(rustix::param::page_size()).unwrap_or(4096);
            self.resident.set(pages.saturating_mul(size));
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            self.files.set(i64::try_from(open.count()).unwrap_or(i64::MAX));
        }
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        self.most_files.set(most.and_then(|most| i64::try_from(most).ok()).unwrap_or(i64::MAX));
    }

    fn parts(&self) -> [&dyn Collector; 5] {
        [&self.cpu, &self.resident, &self.files, &self.most_files, &self.started]
    }
}

/// Seconds of processor time, and seconds after the machine's start at which the process began.
fn times() -> Option<(f64, f64)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may hold anything; behind it is the third field.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some(((ticks(14)? + ticks(15)?) / TICKS, ticks(22)? / TICKS))
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.measure();
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn this_process_has_memory_and_files_and_began_before_now() {
        let process = Process::new().unwrap();
        assert_eq!(process.collect().len(), 5);
        assert!(process.resident.get() > 100_000, "{}", process.resident.get());
        assert!(process.files.get() >= 3 && process.most_files.get() > process.files.get());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - process.started.get();
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }
}
