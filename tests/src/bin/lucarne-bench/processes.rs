//! What desktops' processes take of the machine, read from /proc (proc(5)).

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// The processes that work in a folder: a desktop's QEMU and its desktop process.
pub fn in_dir(dir: &Path) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir)).collect()
}

/// The children of a process that have this word in their command line.
pub fn children(parent: u32, word: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let of = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        of == Some(parent) && words.split(|b| *b == 0).any(|w| w == word.as_bytes())
    };
    pids.filter(is_child).collect()
}

/// Memory of a process that is present, bytes.
pub fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse().ok()).context(path)?;
    Ok(kib * 1024)
}

/// Memory that only one process has: its private pages, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Private {
    /// Pages that are as in their file, which the kernel may drop and read again.
    pub clean: u64,
    /// Pages that were written.
    pub dirty: u64,
}

impl std::ops::AddAssign for Private {
    fn add_assign(&mut self, other: Self) {
        self.clean += other.clean;
        self.dirty += other.dirty;
    }
}

impl Private {
    /// That of these processes, each by itself.
    pub fn of(pids: &[u32]) -> Result<Self> {
        let mut sum = Self::default();
        for pid in pids {
            let path = format!("/proc/{pid}/smaps_rollup");
            let text = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
            sum += Self::parse(&text).with_context(|| format!("{path} has no private pages"))?;
        }
        Ok(sum)
    }

    fn parse(smaps: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = smaps.lines().find_map(|l| l.strip_prefix(name))?;
            Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
        };
        Some(Self { clean: field("Private_Clean:")?, dirty: field("Private_Dirty:")? })
    }
}

/// Processor time of these processes so far, seconds.
pub fn cpu_seconds(pids: &[u32]) -> f64 {
    let seconds = pids.iter().filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        seconds_of(&stat)
    });
    seconds.sum()
}

/// The processor time, seconds, that a process's or thread's `stat` tells.
pub fn seconds_of(stat: &str) -> Option<f64> {
    Some(cpu_ticks(stat)? as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    // The name may have spaces and parentheses; utime and stime are fields 14 and 15, the state after it is field 3.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Memory that the kernel could give to new processes, bytes.
pub fn memory_available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.context("/proc/meminfo has no MemAvailable")? * 1024)
}

/// Virtual machines that are not in `dir`: they disturb what is measured.
pub fn other_machines(dir: &Path) -> usize {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_other = |path: PathBuf| {
        let Ok(program) = fs::read_link(path.join("exe")) else { return false };
        let is_qemu = program.file_name().is_some_and(|n| n.to_string_lossy().starts_with("qemu-system"));
        is_qemu && fs::read_link(path.join("cwd")).is_ok_and(|cwd| !cwd.starts_with(dir))
    };
    pids.filter(|entry| is_other(entry.path())).count()
}

/// Both processes of a desktop, or what is missing.
pub fn of_desktop(dir: &Path) -> Result<Vec<u32>> {
    let pids = in_dir(dir);
    ensure!(pids.len() >= 2, "{} of the 2 processes of {} run", pids.len(), dir.display());
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_pages_are_both_clean_and_dirty_ones() {
        let text = "Rss:  900 kB\nShared_Clean:  500 kB\nPrivate_Clean:  64 kB\nPrivate_Dirty:  36 kB\n";
        assert_eq!(Private::parse(text), Some(Private { clean: 64 << 10, dirty: 36 << 10 }));
        assert_eq!(Private::parse("Rss: 900 kB\n"), None);
    }

    #[test]
    fn a_process_name_with_spaces_does_not_shift_the_fields() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 1 2 3 4 70 30 5 6 20 0 1";
        assert_eq!(cpu_ticks(stat), Some(100));
    }

    #[test]
    fn this_process_is_found_by_its_folder_and_has_memory_and_time() {
        let pid = std::process::id();
        assert!(in_dir(&std::env::current_dir().unwrap()).contains(&pid));
        assert!(Private::of(&[pid]).unwrap().dirty > 0);
        assert!(cpu_seconds(&[pid]) >= 0.0);
        assert!(memory_available().unwrap() > 0);
    }
}
