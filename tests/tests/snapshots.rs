//! Snapshots of a real desktop: taken while it runs, is suspended and is off, gone back to with what was open, deleted in between, and
//! whatever is killed meanwhile.

use lucarne_control::agent::{DesktopDesired, SnapshotDesired, SnapshotState, SnapshotWish};
use lucarne_control::desktop::{DesiredState, Identity, Phase};
use lucarne_control::{DesktopId, SnapshotId};
use lucarne_tests::agent::Agent;
use lucarne_tests::guest::Guest;
use lucarne_tests::poll::until;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(180);

fn desired(agent: &Agent, desktop: DesktopId, wish: u64, state: DesiredState) -> DesktopDesired {
    let identity = Identity {
        hostname: "snap-1".into(),
        machine_id: "00112233445566778899aabbccddee01".into(),
        mac: "52:54:00:ab:cd:11".into(),
    };
    agent.desktop(desktop, identity, wish, state)
}

/// A desktop of the test, and how often something was wished of it.
struct Desktop<'a> {
    agent: &'a Agent,
    id: DesktopId,
    wish: u64,
}

impl<'a> Desktop<'a> {
    fn start(agent: &'a Agent) -> Self {
        let mut desktop = Self { agent, id: DesktopId::generate(), wish: 0 };
        desktop.be(DesiredState::Running, Phase::Ready);
        desktop
    }

    fn guest(&self) -> Guest {
        self.agent.guest(self.id)
    }

    fn be(&mut self, state: DesiredState, phase: Phase) {
        self.wish += 1;
        self.agent.desire(&[desired(self.agent, self.id, self.wish, state)]);
        self.agent.wait(self.id, phase, self.wish, LIMIT);
    }

    fn back(&mut self, snapshot: SnapshotId, state: DesiredState, phase: Phase) {
        self.wish += 1;
        let back =
            DesktopDesired { back_to: Some(snapshot), ..desired(self.agent, self.id, self.wish, state) };
        self.agent.desire(&[back]);
        self.agent.wait(self.id, phase, self.wish, LIMIT);
    }

    fn wants(&self, snapshot: SnapshotId, wish: SnapshotWish) {
        self.agent.desire_snapshots(&[SnapshotDesired { desktop: self.id, snapshot, wish }]);
    }

    fn ask(&self, memory: bool) -> SnapshotId {
        let snapshot = SnapshotId::generate();
        self.wants(snapshot, SnapshotWish::Take { memory, until: i64::MAX });
        snapshot
    }

    fn take(&self, memory: bool) -> SnapshotId {
        let snapshot = self.ask(memory);
        let seen = self.agent.wait_snapshot(snapshot, SnapshotState::Ready, LIMIT);
        eprintln!(
            "{snapshot}: the guest stood still for {} ms, {} MiB, memory {}",
            seen.pause_ms,
            seen.bytes >> 20,
            seen.memory
        );
        snapshot
    }

    fn delete(&self, snapshot: SnapshotId) {
        self.wants(snapshot, SnapshotWish::Delete);
        self.agent.wait_snapshot(snapshot, SnapshotState::Gone, LIMIT);
    }

    /// Its disk is as qcow2 asks. As long as QEMU has it open, clusters may be taken that are not in its tables yet.
    fn disk_is_whole(&self, runs: bool) {
        const LEAKS: i32 = 3;
        let checked = Command::new("qemu-img")
            .args(["check", "-q", "-U", "-f", "qcow2"])
            .arg(self.agent.dir(self.id).join("disk.qcow2"))
            .output()
            .expect("qemu-img");
        let whole = checked.status.success() || runs && checked.status.code() == Some(LEAKS);
        assert!(whole, "{}", String::from_utf8_lossy(&checked.stderr));
    }

    fn layers(&self) -> usize {
        folders(&self.agent.dir(self.id).join("snapshots"))
    }
}

fn folders(dir: &Path) -> usize {
    std::fs::read_dir(dir)
        .map_or(0, |entries| entries.flatten().filter(|entry| entry.path().is_dir()).count())
}

/// What is open in the guest: a program with its number, and what it holds in memory.
fn open(guest: &Guest) -> String {
    guest
        .wait("kill -0 $(cat /dev/shm/pid) && cat /proc/sys/kernel/random/boot_id /dev/shm/pid /dev/shm/held")
}

#[test]
fn a_desktop_goes_back_to_what_was_open_and_forgets_what_came_after() {
    use DesiredState::{Absent, Off, Running, Suspended};
    let mut agent = Agent::start();
    let mut desktop = Desktop::start(&agent);
    let guest = desktop.guest();
    guest
        .must("head -c 20000000 /dev/urandom > /dev/shm/random && sha256sum /dev/shm/random > /dev/shm/held");
    guest.tell("sleep 100000 & echo $! > /dev/shm/pid; while :; do echo >> /dev/shm/count; sleep 0.05; done");
    guest.must("echo monday > /home/user/day && sync");
    let monday_open = open(&guest);
    // It counts on, so it does not stand still for long, and it is the same guest afterwards.
    let counted = || guest.wait("wc -l < /dev/shm/count").parse::<u64>().unwrap();
    let before = counted();
    let monday = desktop.take(true);
    assert_eq!(open(&guest), monday_open);
    until("it counts on", LIMIT, || (counted() > before + 5).then_some(()));

    // Nothing asks for it to be on the disk but the snapshot.
    guest.must("echo tuesday > /home/user/day");
    let tuesday = desktop.take(false);
    assert_eq!(agent.snapshot(tuesday).unwrap().parent, Some(monday));
    guest.must("echo wednesday > /home/user/day && sync");
    desktop.be(Suspended, Phase::Suspended);
    let wednesday = desktop.take(true);
    assert!(agent.snapshot(wednesday).unwrap().memory, "what it is suspended to is with it");
    assert!(agent.dir(desktop.id).join("suspended").exists(), "and it is suspended as before");
    desktop.be(Running, Phase::Ready);
    assert_eq!(open(&guest), monday_open);
    guest.must("echo thursday > /home/user/day && sync");

    // Monday, with what was open then.
    desktop.back(monday, Running, Phase::Ready);
    assert_eq!(open(&guest), monday_open);
    assert_eq!(guest.wait("cat /home/user/day"), "monday");
    guest.wait("sha256sum --check --status /dev/shm/held");
    let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let clock = guest.wait("date +%s").parse::<i64>().unwrap();
    assert!((here as i64 - clock).abs() <= 2, "its clock says {clock}, and it is {here}");
    desktop.disk_is_whole(true);

    // Tuesday's disk alone: it boots.
    desktop.back(tuesday, Running, Phase::Ready);
    assert_eq!(guest.wait("cat /home/user/day"), "tuesday");
    assert_ne!(guest.wait("cat /proc/sys/kernel/random/boot_id"), monday_open.lines().next().unwrap());
    guest.must("echo friday > /home/user/day && sync");
    let friday = desktop.take(false);
    assert_eq!(agent.snapshot(friday).unwrap().parent, Some(tuesday));

    // Monday is beneath all, and goes while the guest writes; so does Tuesday, when Wednesday, which is over it, has gone.
    guest.tell("while :; do head -c 1000000 /dev/urandom > /home/user/noise; sync; done");
    desktop.delete(monday);
    desktop.delete(tuesday);
    assert_eq!(agent.snapshot(friday).unwrap().parent, None);
    assert_eq!(desktop.layers(), 3, "two are over Tuesday's layer still");
    desktop.delete(wednesday);
    assert_eq!(desktop.layers(), 1);
    assert_eq!(guest.wait("cat /home/user/day"), "friday");
    desktop.disk_is_whole(true);

    // Off, back and deleted at rest; off it stays.
    desktop.be(Off, Phase::Off);
    let saturday = desktop.take(true);
    assert!(!agent.snapshot(saturday).unwrap().memory, "there is none");
    desktop.back(friday, Off, Phase::Off);
    desktop.delete(saturday);
    desktop.delete(friday);
    assert_eq!(desktop.layers(), 0);
    desktop.disk_is_whole(false);
    desktop.be(Running, Phase::Ready);
    assert_eq!(guest.wait("cat /home/user/day"), "friday");

    // What is not there.
    let boot = guest.wait("cat /proc/sys/kernel/random/boot_id");
    desktop.back(SnapshotId::generate(), Running, Phase::Ready);
    let why = agent.seen(desktop.id).unwrap().detail;
    assert!(why.contains("could not be put back") && why.contains("its host does not have that"), "{why}");
    assert_eq!(guest.wait("cat /proc/sys/kernel/random/boot_id"), boot, "it runs on");

    // One that cannot be done now is not done later either, behind the back of whoever works on.
    guest.must("echo saturday > /home/user/day && sync");
    let saturday = desktop.take(false);
    guest.must("echo sunday > /home/user/day && sync");
    let (layer, hidden) = (agent.dir(desktop.id).join("snapshots").join(saturday.to_string()), "hidden");
    let (disk, hidden) = (layer.join("disk.qcow2"), layer.join(hidden));
    std::fs::rename(&disk, &hidden).expect("the layer is taken away");
    desktop.back(saturday, Running, Phase::Ready);
    let why = agent.seen(desktop.id).unwrap().detail;
    assert!(why.contains("could not be put back"), "{why}");
    std::fs::rename(&hidden, &disk).expect("and is there again");
    let (id, wish) = (desktop.id, desktop.wish);
    agent.restart();
    agent.wait(id, Phase::Ready, wish, LIMIT);
    let guest = agent.guest(id);
    assert_eq!(guest.wait("cat /proc/sys/kernel/random/boot_id"), boot, "it runs on");
    assert_eq!(guest.wait("cat /home/user/day"), "sunday");
    agent.desire(&[desired(&agent, id, wish + 1, Absent)]);
    agent.wait(id, Phase::Stopped, wish + 1, LIMIT);
    assert!(!agent.dir(id).exists());
}

#[test]
fn whatever_is_killed_or_cancelled_over_a_snapshot_the_desktop_goes_on() {
    let mut agent = Agent::start();
    let id = {
        let desktop = Desktop::start(&agent);
        let guest = desktop.guest();
        guest.must(
            "head -c 50000000 /dev/urandom > /dev/shm/random && sha256sum /dev/shm/random > /dev/shm/held",
        );
        guest.tell("sleep 100000 & echo $! > /dev/shm/pid");
        let held = open(&guest);
        let begun = |snapshot: SnapshotId| {
            let memory = agent.dir(desktop.id).join("snapshots").join(snapshot.to_string()).join("memory");
            until("it is being taken", LIMIT, || memory.exists().then_some(()));
        };

        // Cancelled.
        let cancelled = desktop.ask(true);
        begun(cancelled);
        desktop.delete(cancelled);
        assert_eq!((open(&guest), desktop.layers()), (held.clone(), 0));

        // The desktop process is killed: the next one takes the guest over, and takes the snapshot.
        let killed = desktop.ask(true);
        begun(killed);
        let process = agent.processes(desktop.id).into_iter().find(|p| !p.command.contains("qemu-system"));
        process.expect("its desktop process").kill();
        agent.wait_snapshot(killed, SnapshotState::Ready, LIMIT);
        assert_eq!(open(&guest), held);
        desktop.delete(killed);
        assert_eq!(desktop.layers(), 0);

        // Too late.
        let late = SnapshotId::generate();
        desktop.wants(late, SnapshotWish::Take { memory: true, until: 1 });
        let failed = agent.wait_snapshot(late, SnapshotState::Failed, LIMIT);
        assert!(failed.detail.contains("too late"), "{failed:?}");

        // The agent is killed: the desktop process goes on with it.
        let snapshot = desktop.ask(true);
        begun(snapshot);
        desktop.id
    };
    agent.restart();
    let guest = agent.guest(id);
    let memory = |agent: &Agent| {
        let folder = agent.dir(id).join("snapshots");
        let mut ready = std::fs::read_dir(folder).into_iter().flatten().flatten();
        ready.find(|entry| entry.path().join("snapshot.json").exists())
    };
    until("it is there", LIMIT, || memory(&agent).map(drop));
    guest.wait("sha256sum --check --status /dev/shm/held");

    // Killed while it is put back, the next agent does it, and only once for that wish.
    let name = memory(&agent).unwrap().file_name();
    let snapshot: SnapshotId = name.to_string_lossy().parse().unwrap();
    agent.desire_snapshots(&[]);
    agent.wait_snapshot(snapshot, SnapshotState::Ready, LIMIT);
    guest.must("echo lost > /dev/shm/later");
    let wish = DesktopDesired {
        back_to: Some(snapshot),
        fresh: false,
        ..desired(&agent, id, 2, DesiredState::Running)
    };
    agent.desire(std::slice::from_ref(&wish));
    until("it has heard of it", LIMIT, || {
        let config = std::fs::read_to_string(agent.dir(id).join("desktop.json")).unwrap_or_default();
        config.contains(&format!("\"back_to\": \"{snapshot}\"")).then_some(())
    });
    agent.restart();
    agent.wait(id, Phase::Ready, 2, LIMIT);
    assert_eq!(guest.wait("cat /dev/shm/later 2>/dev/null || echo none"), "none");
    guest.wait("sha256sum --check --status /dev/shm/held");
    guest.must("echo kept > /dev/shm/later");
    agent.restart();
    agent.wait(id, Phase::Ready, 2, LIMIT);
    assert_eq!(guest.wait("cat /dev/shm/later 2>/dev/null || echo none"), "kept");
}
