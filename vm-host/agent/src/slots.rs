//! User ids for desktops: one each, so that no desktop's QEMU can touch another's files or processes.
//!
//! The range needs no entries in /etc/passwd. It lies above every range that systemd reserves and below the ids
//! that do not fit a signed 32-bit number (systemd's `UIDS-GIDS.md`). A desktop's folder is owned by its id, which is
//! thereby remembered.

use lucarne_qemu::process::Credentials;
use std::collections::BTreeSet;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The first id, which builds templates.
const FIRST: u32 = 1_900_000_000;
/// How many ids there are.
const COUNT: u32 = 65_536;

/// The ids in use.
pub(crate) struct Slots {
    root: bool,
    used: Mutex<BTreeSet<u32>>,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self { root: rustix::process::geteuid().is_root(), used: Mutex::default() }
    }

    /// All ids that desktops may have.
    pub(crate) fn range(&self) -> Range<u32> {
        FIRST..FIRST + COUNT
    }

    /// For building templates; `None` when we are not root and cannot change who we are.
    pub(crate) fn template(&self) -> Option<Credentials> {
        self.root.then(template_credentials)
    }

    /// An id that no desktop has.
    pub(crate) fn take(&self) -> Option<Credentials> {
        if !self.root {
            return None;
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let id = (FIRST + 1..FIRST + COUNT).find(|id| !used.contains(id))?;
        used.insert(id);
        Some(credentials(id))
    }

    /// The id that owns a desktop's folder.
    pub(crate) fn of_dir(&self, dir: &Path) -> Option<Credentials> {
        let id = std::fs::metadata(dir).ok()?.uid();
        if !self.root || !self.range().contains(&id) {
            return None;
        }
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Some(credentials(id))
    }

    /// Gives an id back.
    pub(crate) fn give_back(&self, credentials: &Credentials) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).remove(&credentials.id);
    }
}

/// Whether any process of this machine runs as one of the desktops' ids: another server's desktops may.
pub(crate) fn any_process() -> bool {
    let ids = FIRST..FIRST + COUNT;
    let Ok(processes) = std::fs::read_dir("/proc") else { return true };
    // A process's folder in /proc belongs to whom it runs as (proc(5)); those of non-dumpable processes belong to root,
    // and each of them has a QEMU that does not.
    processes.flatten().filter_map(|p| p.metadata().ok()).any(|m| ids.contains(&m.uid()))
}

/// The identity that builds templates.
pub(crate) fn template_credentials() -> Credentials {
    credentials(FIRST)
}

fn credentials(id: u32) -> Credentials {
    // Whoever owns /dev/kvm's group may use it; without the device there is nothing to join.
    let kvm = std::fs::metadata("/dev/kvm").map(|m| m.gid()).into_iter().filter(|gid| *gid != 0);
    Credentials { id, groups: kvm.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_desktops_have_the_same_id_until_one_is_given_back() {
        let slots = Slots { root: true, used: Mutex::default() };
        let (a, b) = (slots.take().unwrap(), slots.take().unwrap());
        assert_ne!(a.id, b.id);
        assert_ne!(a.id, slots.template().unwrap().id);
        slots.give_back(&a);
        assert_eq!(slots.take().unwrap().id, a.id);
    }
}
