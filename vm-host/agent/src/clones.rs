//! Desktops that are made of another's snapshot.
//!
//! ```text
//!  the other desktop's user                    the agent                              the new desktop's user
//!  one layer of its disk, memory ─► export/ ─► copies of both ─► description, done.json ─► starts, and gets its own identity
//! ```
//!
//! Each user may have put anything into their own folder, and neither may reach the other's. So the other's process, or one that runs
//! as its user, makes what is copied; the agent copies plain files of that user and follows no link. It reads the description, and the name
//! of what the disk is over, and the new desktop's user the rest. Nothing of the new desktop runs before all of it is there.

use crate::config::disk_free;
use crate::desktop_task::{DISK_RESERVE, DesktopTask};
use crate::folder;
use crate::origins::Noted;
use lucarne_control::DesktopId;
use lucarne_control::agent::CloneOf;
use lucarne_control::desktop::{ForkTimings, Phase};
use lucarne_control::spec::TemplateSpec;
use lucarne_desktop::config::DesktopConfig;
use lucarne_qemu::command::files;
use lucarne_qemu::snapshot::SnapshotInfo;
use lucarne_qemu::snapshot::export;
use lucarne_qemu::template::template_files;
use lucarne_qemu::{Template, disk, sparse};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The longest description of a snapshot, bytes.
const MAX_INFO: u64 = 64 << 10;

/// What the names of copies begin with that are not whole yet.
const COPY: &str = "copy-";

/// Between two looks at how far the copy is.
const LOOK: Duration = Duration::from_millis(500);

/// A copy that is to be made.
struct Copy {
    /// The folder of the other desktop.
    from: PathBuf,
    /// Where it is put together, from there.
    folder: PathBuf,
    /// Whose files they are; none where all desktops are the agent's own.
    from_user: Option<u32>,
    /// The new desktop's folder.
    to: PathBuf,
    /// Whose files they are to be.
    to_user: Option<u32>,
    /// What the copies' names begin with, which no other attempt's do: one that was given up may be at it still.
    mark: String,
    /// Bytes that are copied.
    done: AtomicU64,
    /// Bytes that there are.
    all: AtomicU64,
}

impl DesktopTask {
    /// Copies what the desktop is cloned from into its folder, unless that is done.
    pub(crate) async fn copy_origin(&self) -> Result<(), String> {
        let desktop = self.now.desired.desktop;
        let noted = self.shared.origins.get(desktop);
        let noted = noted.map_err(|e| format!("what it is cloned from cannot be read: {e}"))?;
        let Some(Noted { origin, template }) = noted else { return Ok(()) };
        // Nothing has run there, so the folder is as the agent has left it.
        if !lucarne_desktop::is_made(&self.dir) {
            // What an attempt before has left takes the room of this one.
            clear(&self.dir);
            self.tell_copying("a snapshot of what it is cloned from is waited for".to_owned());
            let tell = |percent| {
                self.tell_copying(format!("what it is cloned from is being put together: {percent} %"));
            };
            let exported = self.shared.snapshots.export(origin, tell).await?;
            let snapshot = self.copy(origin, &template, exported.folder()).await?;
            let done = lucarne_desktop::of_clone(&snapshot)?;
            let owner = self.shared.slots.of_dir(&self.dir);
            folder::write(&self.dir, lucarne_desktop::config::files::DONE, &done, owner.as_ref())
                .map_err(|e| format!("its record in {}: {e}", self.dir.display()))?;
        }
        // From now on it is its user's, and never copied again.
        let ended = self.shared.origins.end(desktop);
        ended.map_err(|e| format!("that it is cloned cannot be noted: {e}"))?;
        tracing::info!(%desktop, of = %origin.desktop, snapshot = %origin.snapshot, "a desktop is cloned");
        Ok(())
    }

    fn tell_copying(&self, how: String) {
        self.observe(Phase::Preparing, how, false, ForkTimings::default());
    }

    /// Copies what was exported; what the snapshot says of itself.
    async fn copy(
        &self,
        origin: CloneOf,
        template: &TemplateSpec,
        folder: PathBuf,
    ) -> Result<SnapshotInfo, String> {
        let from = self.shared.desktops_dir.join(origin.desktop.to_string());
        let copy = Arc::new(Copy {
            from_user: self.shared.slots.of_dir(&from).map(|user| user.id),
            to_user: self.shared.slots.of_dir(&self.dir).map(|user| user.id),
            folder,
            from,
            to: self.dir.clone(),
            mark: format!("{COPY}{}-", DesktopId::generate()),
            done: AtomicU64::new(0),
            all: AtomicU64::new(0),
        });
        let room = disk_free(&self.shared.desktops_dir).saturating_sub(DISK_RESERVE);
        // Whoever does not wait for it any more has it given up.
        let given_up = CancellationToken::new();
        let _giving_up = given_up.clone().drop_guard();
        let copying = copy.clone();
        let mut copied = tokio::task::spawn_blocking(move || copying.run(room, &given_up));
        let result = loop {
            match tokio::time::timeout(LOOK, &mut copied).await {
                Ok(done) => break done.map_err(|e| e.to_string())?,
                Err(_) => {
                    let (done, all) = (copy.done.load(Ordering::Relaxed), copy.all.load(Ordering::Relaxed));
                    let percent = (done * 100).checked_div(all).unwrap_or(0);
                    self.tell_copying(format!("it is being copied: {percent} % of {} MiB", all >> 20));
                }
            }
        };
        let placed = self.place(&copy, template, result);
        clear(&self.dir);
        placed
    }

    fn place(
        &self,
        copy: &Copy,
        template: &TemplateSpec,
        result: io::Result<SnapshotInfo>,
    ) -> Result<SnapshotInfo, String> {
        let failed = |e| format!("what it is cloned from cannot be copied: {e}");
        let info = result.map_err(failed)?;
        let template = self.base(&copy.copied(files::DISK), template)?;
        let owner = self.shared.slots.of_dir(&self.dir);
        let config = DesktopConfig { template, ..folder::read_config(&self.dir)? };
        folder::write_config(&self.dir, &config, owner.as_ref())
            .map_err(|e| format!("its description in {}: {e}", self.dir.display()))?;
        copy.put_in_place(&info).map_err(failed)?;
        Ok(info)
    }

    /// The folder of the template that a disk is over: one of this host's, for what the desktop is wanted to be.
    fn base(&self, copied: &Path, wanted: &TemplateSpec) -> Result<PathBuf, String> {
        let over = disk::over(copied).map_err(|e| crate::error_chain(&e))?;
        let templates = self.shared.templates.folder(wanted);
        let folder = over.as_deref().and_then(Path::parent).filter(|dir| dir.parent() == templates.parent());
        let named =
            over.as_deref().and_then(Path::file_name).is_some_and(|name| name == template_files::DISK);
        let of_it = |dir: &&Path| Template::open(dir).is_some_and(|template| template.meta.spec == *wanted);
        match folder.filter(|_| named).filter(of_it) {
            Some(folder) => Ok(folder.to_path_buf()),
            None => Err(format!(
                "what it is cloned from is over {}, which is no template of its pool on this host",
                over.unwrap_or_default().display()
            )),
        }
    }
}

impl Copy {
    fn run(&self, room: u64, given_up: &CancellationToken) -> io::Result<SnapshotInfo> {
        let mut text = Vec::new();
        let [disk, memory, info] = export::FILES;
        self.open(info)?.take(MAX_INFO).read_to_end(&mut text)?;
        let info: SnapshotInfo = serde_json::from_slice(&text)?;
        let mut files = vec![(self.open(disk)?, files::DISK)];
        if info.memory {
            files.push((self.open(memory)?, files::SUSPENDED));
        }
        let mut takes = 0;
        for (from, _) in &files {
            let about = from.metadata()?;
            takes += about.blocks() * 512;
            self.all.fetch_add(about.len(), Ordering::Relaxed);
        }
        if takes > room {
            let why =
                format!("it takes {} MiB, and the disk of its host has room for {}", takes >> 20, room >> 20);
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        for (from, name) in files {
            self.copy(&from, name, given_up)?;
        }
        Ok(info)
    }

    fn copied(&self, name: &str) -> PathBuf {
        self.to.join(format!("{}{name}", self.mark))
    }

    /// Gives the copies their names, now that all are there.
    fn put_in_place(&self, info: &SnapshotInfo) -> io::Result<()> {
        std::fs::rename(self.copied(files::DISK), self.to.join(files::DISK))?;
        let suspended = self.to.join(files::SUSPENDED);
        match info.memory {
            true => std::fs::rename(self.copied(files::SUSPENDED), &suspended)?,
            false => match std::fs::remove_file(&suspended) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            },
        }
        File::open(&self.to)?.sync_all()
    }

    /// Opens one of the other desktop's files: a plain one of its user's own, which no link leads to.
    fn open(&self, name: &str) -> io::Result<File> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&self.from, folder, Mode::empty())?;
        let plain = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = self.folder.join(name);
        let file = File::from(rustix::fs::openat2(&folder, path, plain, Mode::empty(), beneath)?);
        let about = file.metadata()?;
        if !about.is_file() || self.from_user.is_some_and(|user| user != about.uid()) {
            let why = format!("{name} of the other desktop is not as this program leaves it");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(file)
    }

    fn copy(&self, from: &File, name: &str, given_up: &CancellationToken) -> io::Result<()> {
        let to = File::options().write(true).create_new(true).mode(0o600).open(self.copied(name))?;
        let before = self.done.load(Ordering::Relaxed);
        sparse::copy(from, &to, |done, _| {
            self.done.store(before + done, Ordering::Relaxed);
            !given_up.is_cancelled()
        })?;
        self.done.store(before + from.metadata()?.len(), Ordering::Relaxed);
        if let Some(user) = self.to_user {
            fchown(&to, Some(user), Some(user))?;
        }
        Ok(())
    }
}

/// Removes what any attempt has left in a folder.
fn clear(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(COPY)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn copy(root: &Path) -> Copy {
        let (from, to) = (root.join("from"), root.join("to"));
        let folder = PathBuf::from(export::FOLDER);
        std::fs::create_dir_all(from.join(&folder)).unwrap();
        std::fs::create_dir(&to).unwrap();
        let (from_user, to_user) = (Some(rustix::process::getuid().as_raw()), None);
        let mark = COPY.to_owned();
        Copy { from, folder, from_user, to, to_user, mark, done: AtomicU64::new(0), all: AtomicU64::new(0) }
    }

    fn info(memory: bool) -> SnapshotInfo {
        SnapshotInfo {
            snapshot: lucarne_control::SnapshotId::generate(),
            taken_at_ms: 1,
            pause_ms: 1,
            memory,
            booted: true,
            qemu_version: "10".into(),
            deleted: false,
        }
    }

    fn write(copy: &Copy, name: &str, what: &[u8]) {
        std::fs::write(copy.from.join(export::FOLDER).join(name), what).unwrap();
    }

    #[test]
    fn what_another_desktop_has_put_together_is_copied_and_nothing_that_it_links_to() {
        let root = tempfile::tempdir().unwrap();
        let copy = copy(root.path());
        let run = |room| copy.run(room, &CancellationToken::new());
        assert!(run(1 << 30).is_err(), "there is nothing");
        write(&copy, "disk.qcow2", b"disk");
        write(&copy, "memory", b"memory");
        write(&copy, "snapshot.json", &serde_json::to_vec(&info(true)).unwrap());
        assert!(run(0).unwrap_err().to_string().contains("has room for 0"));
        let info = run(1 << 30).unwrap();
        assert!(info.booted && !copy.to.join("disk.qcow2").exists(), "not before all is there");
        copy.put_in_place(&info).unwrap();
        let read = |name: &str| std::fs::read(copy.to.join(name)).unwrap();
        assert_eq!((read("disk.qcow2"), read("suspended")), (b"disk".to_vec(), b"memory".to_vec()));

        // A link in the place of a file, of the folder, and somebody else's file.
        let secret = root.path().join("secret");
        std::fs::write(&secret, "secret").unwrap();
        std::fs::remove_file(copy.from.join(export::FOLDER).join("memory")).unwrap();
        symlink(&secret, copy.from.join(export::FOLDER).join("memory")).unwrap();
        assert!(run(1 << 30).is_err());
        std::fs::remove_file(copy.from.join(export::FOLDER).join("memory")).unwrap();
        write(&copy, "memory", b"memory");
        std::fs::rename(copy.from.join(export::FOLDER), root.path().join("elsewhere")).unwrap();
        symlink(root.path().join("elsewhere"), copy.from.join(export::FOLDER)).unwrap();
        assert!(run(1 << 30).is_err());
        let other = Copy {
            from: root.path().to_path_buf(),
            folder: copy.folder.clone(),
            from_user: Some(4321),
            to: copy.to.clone(),
            to_user: None,
            mark: COPY.to_owned(),
            done: AtomicU64::new(0),
            all: AtomicU64::new(0),
        };
        std::fs::rename(root.path().join("elsewhere"), root.path().join(export::FOLDER)).unwrap();
        let why = other.run(1 << 30, &CancellationToken::new()).unwrap_err();
        assert!(why.to_string().contains("not as this program leaves it"), "{why}");
    }

    #[test]
    fn one_without_memory_is_off_and_one_that_is_not_wanted_any_more_ends() {
        let root = tempfile::tempdir().unwrap();
        let copy = copy(root.path());
        write(&copy, "disk.qcow2", b"disk");
        write(&copy, "memory", b"of another");
        write(&copy, "snapshot.json", &serde_json::to_vec(&info(false)).unwrap());
        let token = CancellationToken::new();
        copy.put_in_place(&copy.run(1 << 30, &token).unwrap()).unwrap();
        assert!(!copy.to.join("suspended").exists());
        token.cancel();
        assert_eq!(copy.run(1 << 30, &token).unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert_eq!(std::fs::read_dir(&copy.to).unwrap().count(), 2);
        clear(&copy.to);
        assert_eq!(std::fs::read_dir(&copy.to).unwrap().count(), 1, "the disk");
    }
}
