//! Layers of a desktop at rest, made by qemu-img and written by qemu-io, against a model that remembers what was on the disk.

use super::at_rest::{Ran, back, delete, go_on_back, is_back, settle, take};
use super::*;
use lucarne_driver::{Overseer, SnapshotWanted};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;

/// Places on the disk that are written, each in a cluster of its own.
const PLACES: usize = 4;

struct Patient;

impl Overseer for Patient {
    fn progress(&self, _: u8) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// A desktop's folder with a disk over a template's, and what is on it.
struct Desktop {
    root: tempfile::TempDir,
    now: [u8; PLACES],
    then: BTreeMap<SnapshotId, [u8; PLACES]>,
    written: u8,
}

fn must(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn ran() -> Ran {
    Ran { booted: true, qemu_version: "10.0.2".into() }
}

impl Desktop {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (template, dir) = (root.path().join("template.qcow2"), root.path().join("desktop"));
        std::fs::create_dir(&dir).unwrap();
        must(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&template).arg("1M"));
        must(
            Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
                .arg(&template)
                .arg(dir.join(files::DISK)),
        );
        Self { root, now: [0; PLACES], then: BTreeMap::new(), written: 0 }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("desktop")
    }

    /// Writes what was never written before.
    fn write(&mut self, place: usize) {
        self.written += 1;
        self.now[place] = self.written;
        let write = format!("write -q -P {} {} 4k", self.written, place << 17);
        must(Command::new("qemu-io").args(["-f", "qcow2", "-c", &write]).arg(self.dir().join(files::DISK)));
    }

    async fn take(&mut self) -> SnapshotId {
        let wanted = SnapshotWanted { snapshot: SnapshotId::generate(), memory: true };
        let info = take(&self.dir(), wanted, ran()).await.unwrap();
        assert_eq!((info.snapshot, info.booted), (wanted.snapshot, true));
        self.then.insert(wanted.snapshot, self.now);
        wanted.snapshot
    }

    async fn delete(&mut self, id: SnapshotId) {
        delete(&self.dir(), id, &Patient).await.unwrap();
        self.then.remove(&id);
    }

    async fn back(&mut self, id: SnapshotId) {
        back(&self.dir(), id, 7).await.unwrap();
        self.finish_back();
        self.now = self.then[&id];
    }

    fn finish_back(&self) {
        assert_eq!(go_on_back(&self.dir()).unwrap().unwrap().wish, 7);
        is_back(&self.dir()).unwrap();
        assert_eq!(go_on_back(&self.dir()).unwrap(), None);
    }

    fn is_on(disk: &Path, expected: [u8; PLACES]) {
        must(Command::new("qemu-img").args(["check", "-q", "-f", "qcow2"]).arg(disk));
        for (place, byte) in expected.into_iter().enumerate() {
            let read = format!("read -q -P {byte} {} 4k", place << 17);
            let said = must(Command::new("qemu-io").args(["-r", "-f", "qcow2", "-c", &read]).arg(disk));
            assert!(!said.contains("failed"), "{} of {}: {said}", place, disk.display());
        }
    }

    /// Everything is as it was, and nothing is there that need not be.
    fn check(&self) {
        let dir = self.dir();
        let layers = list(&dir).unwrap();
        let seen: Vec<_> =
            layers.layers.iter().filter(|l| !l.info.deleted).map(|l| l.info.snapshot).collect();
        let mut expected: Vec<_> = self.then.keys().copied().collect();
        expected.sort();
        let mut sorted = seen.clone();
        sorted.sort();
        assert_eq!(sorted, expected);
        for (id, then) in &self.then {
            Self::is_on(&disk_of(&dir, Some(*id)), *then);
        }
        Self::is_on(&disk_of(&dir, None), self.now);
        for layer in layers.layers.iter().filter(|l| l.info.deleted) {
            assert!(layers.over(layer.info.snapshot) > 1, "it has to be there for two others");
        }
        assert!(!dir.join(NEXT).exists());
    }
}

#[tokio::test]
async fn thirty_snapshots_are_gone_back_to_and_deleted_in_any_order_and_each_is_as_it_was() {
    let mut desktop = Desktop::new();
    let mut days = Vec::new();
    for day in 0..30 {
        desktop.write(day % PLACES);
        days.push(desktop.take().await);
    }
    desktop.write(0);
    desktop.check();
    desktop.back(days[6]).await;
    desktop.check();
    desktop.delete(days[11]).await;
    desktop.check();
    desktop.write(1);
    // A branch: the seventh has two over it, and stays for them.
    let branch = desktop.take().await;
    desktop.delete(days[6]).await;
    desktop.check();
    assert_eq!(list(&desktop.dir()).unwrap().layers.len(), 30);
    for day in days.iter().skip(7).rev() {
        if desktop.then.contains_key(day) {
            desktop.delete(*day).await;
        }
    }
    desktop.check();
    assert_eq!(list(&desktop.dir()).unwrap().layers.len(), 7, "the seventh went with the last of its branch");
    desktop.delete(branch).await;
    for day in &days[..6] {
        desktop.delete(*day).await;
    }
    desktop.check();
    assert_eq!(list(&desktop.dir()).unwrap(), Layers::default());
    let over = disk::header(&desktop.dir().join(files::DISK)).unwrap().over;
    assert_eq!(over, Some(desktop.root.path().join("template.qcow2")));
}

#[tokio::test]
async fn any_sequence_leaves_what_was_there() {
    for seed in 1..=3_u64 {
        let mut desktop = Desktop::new();
        let mut state = seed;
        let mut pick = |of: usize| {
            // xorshift64, Marsaglia 2003.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % of.max(1) as u64) as usize
        };
        for _ in 0..25 {
            let ids: Vec<_> = desktop.then.keys().copied().collect();
            match pick(10) {
                0..=2 => desktop.write(pick(PLACES)),
                3..=5 => drop(desktop.take().await),
                6..=7 if !ids.is_empty() => desktop.delete(ids[pick(ids.len())]).await,
                8..=9 if !ids.is_empty() => desktop.back(ids[pick(ids.len())]).await,
                _ => {}
            }
        }
        desktop.check();
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_and_what_is_asked_for_twice_is_done_once() {
    let mut desktop = Desktop::new();
    desktop.write(0);
    let id = desktop.take().await;
    let again = SnapshotWanted { snapshot: id, memory: false };
    desktop.write(0);
    let info = take(&desktop.dir(), again, ran()).await.unwrap();
    assert_eq!(list(&desktop.dir()).unwrap().layers[0].info, info);
    desktop.check();
    assert!(matches!(back(&desktop.dir(), SnapshotId::generate(), 7).await, Err(SnapshotError::None(_))));
    delete(&desktop.dir(), SnapshotId::generate(), &Patient).await.unwrap();
    desktop.delete(id).await;
    delete(&desktop.dir(), id, &Patient).await.unwrap();
    assert!(matches!(back(&desktop.dir(), id, 7).await, Err(SnapshotError::None(_))));
    desktop.check();
}

#[tokio::test]
async fn the_memory_of_a_suspended_guest_goes_with_its_snapshot_and_comes_back() {
    let mut desktop = Desktop::new();
    let suspended = desktop.dir().join(files::SUSPENDED);
    std::fs::write(&suspended, "monday").unwrap();
    let id = desktop.take().await;
    assert!(list(&desktop.dir()).unwrap().layers[0].info.memory);
    // It was resumed, and suspended again later.
    crate::suspend::forget(&desktop.dir()).unwrap();
    std::fs::write(&suspended, "tuesday").unwrap();
    let generation = std::fs::read(desktop.dir().join(files::GENERATION)).ok();
    desktop.back(id).await;
    assert_eq!(std::fs::read_to_string(&suspended).unwrap(), "monday");
    assert_ne!(std::fs::read(desktop.dir().join(files::GENERATION)).ok(), generation);
    // What it is suspended to is its own: resuming it takes nothing from the snapshot.
    crate::suspend::forget(&desktop.dir()).unwrap();
    desktop.back(id).await;
    assert_eq!(std::fs::read_to_string(&suspended).unwrap(), "monday");
    desktop.delete(id).await;
    assert_eq!(std::fs::read_to_string(&suspended).unwrap(), "monday");
    desktop.check();
}

#[tokio::test]
async fn whoever_is_killed_over_a_snapshot_leaves_the_disk_as_it_was() {
    // How far it had come: folder, layer, its file moved there, the next one in its place.
    for steps in 1..=4 {
        for running in [false, true] {
            let mut desktop = Desktop::new();
            desktop.write(0);
            let (dir, id) = (desktop.dir(), SnapshotId::generate());
            let layer = disk_of(&dir, Some(id));
            make_folder(&dir, id).unwrap();
            if steps > 1 {
                disk::make(&dir.join(NEXT), &layer, 1 << 20).await.unwrap();
            }
            if steps > 2 {
                std::fs::write(folder(&dir, id).join(MEMORY), "half").unwrap();
                std::fs::rename(dir.join(files::DISK), &layer).unwrap();
            }
            if steps > 3 {
                std::fs::rename(dir.join(NEXT), dir.join(files::DISK)).unwrap();
            }
            // A QEMU that runs writes to what it has opened.
            if running {
                mend(&dir, Some(&[id])).unwrap();
            } else {
                settle(&dir).unwrap();
            }
            let left = list(&dir).unwrap().layers.len();
            assert_eq!(left, usize::from(steps > 2 && !running), "{steps} {running}");
            desktop.write(1);
            delete(&dir, id, &Patient).await.unwrap();
            desktop.check();
            assert_eq!(list(&dir).unwrap(), Layers::default());
        }
    }
}

#[tokio::test]
async fn a_layer_that_a_running_guest_already_writes_over_is_kept() {
    let mut desktop = Desktop::new();
    desktop.write(0);
    let (dir, id) = (desktop.dir(), SnapshotId::generate());
    let layer = disk_of(&dir, Some(id));
    make_folder(&dir, id).unwrap();
    disk::make(&dir.join(NEXT), &layer, 1 << 20).await.unwrap();
    std::fs::rename(dir.join(files::DISK), &layer).unwrap();
    std::fs::rename(dir.join(NEXT), dir.join(files::DISK)).unwrap();
    desktop.write(1);
    mend(&dir, Some(&[])).unwrap();
    assert!(list(&dir).unwrap().get(id).unwrap().info.deleted);
    Desktop::is_on(&dir.join(files::DISK), desktop.now);
}

#[tokio::test]
async fn whoever_is_killed_while_it_is_gone_back_has_the_next_one_do_it() {
    // How far it had come: decided, what was suspended forgotten, the layer in place, the memory as well.
    for steps in 0..=3 {
        let mut desktop = Desktop::new();
        desktop.write(0);
        std::fs::write(desktop.dir().join(files::SUSPENDED), "monday").unwrap();
        let (dir, id) = (desktop.dir(), desktop.take().await);
        desktop.write(0);
        back(&dir, id, 7).await.unwrap();
        if steps > 0 {
            crate::suspend::forget(&dir).unwrap();
        }
        if steps > 1 {
            std::fs::rename(dir.join(NEXT), dir.join(files::DISK)).unwrap();
        }
        if steps > 2 {
            std::fs::hard_link(folder(&dir, id).join(MEMORY), dir.join(files::SUSPENDED)).unwrap();
        }
        desktop.finish_back();
        desktop.now = desktop.then[&id];
        assert_eq!(std::fs::read_to_string(dir.join(files::SUSPENDED)).unwrap(), "monday", "{steps}");
        desktop.check();
    }
}

/// Notes how far it was, and wants no more at once.
#[derive(Default)]
struct Impatient(Mutex<Vec<u8>>);

impl Overseer for Impatient {
    fn progress(&self, percent: u8) {
        self.0.lock().unwrap().push(percent);
    }

    fn is_cancelled(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_deletion_that_is_cancelled_is_finished_by_the_next() {
    let mut desktop = Desktop::new();
    let mut ids = Vec::new();
    for place in 0..PLACES {
        desktop.write(place);
        ids.push(desktop.take().await);
    }
    // It may be over before it is looked at.
    let _ = delete(&desktop.dir(), ids[1], &Impatient::default()).await;
    desktop.then.remove(&ids[1]);
    desktop.delete(ids[2]).await;
    desktop.check();
    assert_eq!(list(&desktop.dir()).unwrap().layers.len(), 2);
}

#[tokio::test]
async fn one_whose_taking_was_interrupted_is_not_taken_for_one() {
    let mut desktop = Desktop::new();
    desktop.write(0);
    let (dir, id) = (desktop.dir(), SnapshotId::generate());
    make_folder(&dir, id).unwrap();
    disk::make(&dir.join(NEXT), &disk_of(&dir, Some(id)), 1 << 20).await.unwrap();
    std::fs::rename(dir.join(files::DISK), disk_of(&dir, Some(id))).unwrap();
    let again = SnapshotWanted { snapshot: id, memory: false };
    assert!(matches!(take(&dir, again, ran()).await, Err(SnapshotError::Interrupted)));
    delete(&dir, id, &Patient).await.unwrap();
    desktop.check();
    assert_eq!(list(&dir).unwrap(), Layers::default());
}

#[tokio::test]
async fn half_of_a_layer_that_was_being_removed_is_no_layer() {
    let mut desktop = Desktop::new();
    desktop.write(0);
    let id = desktop.take().await;
    desktop.delete(id).await;
    let half = desktop.dir().join(FOLDER).join(format!("{GONE}{id}"));
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(half.join(INFO), "{").unwrap();
    settle(&desktop.dir()).unwrap();
    assert!(!half.exists());
    desktop.check();
}

#[tokio::test]
async fn whether_it_can_be_gone_back_is_tried_without_changing_anything() {
    let mut desktop = Desktop::new();
    desktop.write(0);
    let id = desktop.take().await;
    desktop.write(1);
    at_rest::try_back(&desktop.dir(), id).await.unwrap();
    assert!(matches!(
        at_rest::try_back(&desktop.dir(), SnapshotId::generate()).await,
        Err(SnapshotError::None(_))
    ));
    desktop.check();
}

#[tokio::test]
async fn what_somebody_else_has_put_there_is_not_followed() {
    let mut desktop = Desktop::new();
    desktop.write(0);
    let folder = desktop.dir().join(FOLDER);
    std::os::unix::fs::symlink(desktop.root.path(), &folder).unwrap();
    assert!(matches!(list(&desktop.dir()), Err(SnapshotError::Strange(_))));
    std::fs::remove_file(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(desktop.root.path(), folder.join(SnapshotId::generate().to_string())).unwrap();
    assert!(matches!(list(&desktop.dir()), Err(SnapshotError::Strange(_))));
}

#[tokio::test]
async fn a_snapshot_is_put_together_for_another_desktop_as_one_layer_over_the_template() {
    let mut desktop = Desktop::new();
    let exported = desktop.dir().join(export::FOLDER).join("7");
    let mut taken = Vec::new();
    for place in 0..PLACES {
        desktop.write(place);
        taken.push(desktop.take().await);
    }
    desktop.write(0);
    // The lowest is over the template as it is, the third over two others, one of which is not to be seen any more.
    desktop.delete(taken[1]).await;
    for id in [taken[0], taken[2]] {
        export::export(&desktop.dir(), id, 7, &Patient).await.unwrap();
        let disk = exported.join(files::DISK);
        assert_eq!(disk::over(&disk).unwrap(), Some(desktop.root.path().join("template.qcow2")));
        Desktop::is_on(&disk, desktop.then[&id]);
        let info: SnapshotInfo =
            serde_json::from_slice(&std::fs::read(exported.join(INFO)).unwrap()).unwrap();
        assert_eq!((info.snapshot, info.memory), (id, false));
    }
    desktop.check();

    // What was suspended is with it.
    std::fs::write(desktop.dir().join(files::SUSPENDED), "a guest").unwrap();
    let suspended = desktop.take().await;
    export::export(&desktop.dir(), suspended, 7, &Patient).await.unwrap();
    assert_eq!(std::fs::read_to_string(exported.join(MEMORY)).unwrap(), "a guest");

    // What is not there, or not wanted any more, leaves nothing, and the desktop as it was.
    let gone = export::export(&desktop.dir(), SnapshotId::generate(), 7, &Patient).await;
    assert!(matches!(gone, Err(SnapshotError::None(_))) && !exported.exists());
    struct Impatient;
    impl Overseer for Impatient {
        fn progress(&self, _: u8) {}
        fn is_cancelled(&self) -> bool {
            true
        }
    }
    let cancelled = export::export(&desktop.dir(), taken[3], 7, &Impatient).await;
    assert!(matches!(cancelled, Err(SnapshotError::Disk(DiskError::Cancelled))) && !exported.exists());
    desktop.check();
}
