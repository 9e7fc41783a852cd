//! The probe: open the device, run the guest, say what came of it.

use crate::outcome::{Probe, Reason};
use crate::{guest, machine};
use kvm_ioctls::Kvm;
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

const DEVICE: &str = "/dev/kvm";

/// The one version of the KVM interface that there has been since Linux 2.6.22.
const API_VERSION: i32 = 12;

/// How long the guest may run. It needs under a millisecond; shorter, and a machine with many busy processes would be
/// taken for one without KVM; longer, and a broken one delays the start.
const LIMIT: Duration = Duration::from_secs(3);

/// Tells whether stock guest kernels run under this machine's KVM, by running the instructions that they need.
///
/// It blocks, for a few milliseconds as a rule and for 4 s at most, and never panics; call it from a thread that may
/// block. The guest and its memory (36 KiB) are gone when it returns.
#[must_use]
pub fn probe() -> Probe {
    match open(Path::new(DEVICE)) {
        Ok(kvm) => machine::run(kvm, guest::memory(), LIMIT),
        Err(reason) => Probe::Unusable(reason),
    }
}

fn open(path: &Path) -> Result<Kvm, Reason> {
    let device =
        std::fs::File::options().read(true).write(true).open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Reason::Missing,
            io::ErrorKind::PermissionDenied => Reason::Permission { group: group_of(path) },
            // The node is there, and no module serves it (ENODEV, ENXIO).
            _ if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => Reason::Missing,
            _ => Reason::Open(error),
        })?;
    // SAFETY: the descriptor is owned by nothing else from here on; whether it is KVM's is what the version tells.
    let kvm = unsafe { std::os::fd::FromRawFd::from_raw_fd(device.into_raw_fd()) };
    match Kvm::get_api_version(&kvm) {
        API_VERSION => Ok(kvm),
        -1 => Err(Reason::Open(io::Error::last_os_error())),
        other => Err(Reason::Version(other)),
    }
}

/// The name of the file's group, its number if it has no name.
fn group_of(path: &Path) -> String {
    let Ok(metadata) = path.metadata() else { return "kvm".into() };
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    name_of(metadata.gid(), &groups)
}

/// The name of a group in the text of `/etc/group` (group(5)).
fn name_of(gid: u32, groups: &str) -> String {
    let number = gid.to_string();
    let name = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    };
    groups.lines().find_map(name).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_is_told_apart_from_one_that_may_not_be_opened() {
        let missing = open(Path::new("/nonexistent/kvm")).unwrap_err();
        assert!(matches!(missing, Reason::Missing), "{missing}");
        assert!(missing.to_string().starts_with("/dev/kvm is missing"), "{missing}");
        let group = name_of(104, "root:x:0:\nkvm:x:104:desktop,backup\n");
        let denied = Reason::Permission { group }.to_string();
        assert!(denied.contains("no permission for /dev/kvm") && denied.contains("group kvm"), "{denied}");
    }

    #[test]
    fn a_group_without_a_name_is_given_by_its_number() {
        assert_eq!(name_of(7, "root:x:0:\nbroken\n"), "7");
    }

    #[test]
    fn a_device_that_is_not_kvm_is_refused() {
        let reason = open(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(reason, Reason::Open(_) | Reason::Version(_)), "{reason}");
    }

    #[test]
    fn the_probe_of_this_machine_returns_and_explains_itself() {
        let found = probe();
        println!("{found}");
        assert!(found.to_string().contains("KVM") || found.to_string().contains("/dev/kvm"), "{found}");
    }

    #[test]
    fn a_guest_that_never_ends_is_given_up_and_its_thread_ends() {
        // Without a device there is no guest to give up, and nothing to show.
        let Ok(kvm) = open(Path::new(DEVICE)) else { return };
        let threads = || {
            let entries = std::fs::read_dir("/proc/self/task").unwrap();
            entries
                .filter_map(|e| std::fs::read_to_string(e.ok()?.path().join("comm")).ok())
                .filter(|name| name.trim() == "kvm-probe")
                .count()
        };
        // `jmp` to itself.
        let found = machine::run(kvm, guest::with_code(&[0xeb, 0xfe]), Duration::from_millis(200));
        println!("{found}");
        assert!(!found.is_usable());
        let until = std::time::Instant::now() + Duration::from_secs(30);
        // Another test's probe may be running beside this one.
        while threads() > 0 {
            assert!(std::time::Instant::now() < until, "the probe's thread is still there");
            std::thread::yield_now();
        }
    }
}
