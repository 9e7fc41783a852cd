//! Real desktops that are made of others: with what was open, with an identity of their own, and whatever ends meanwhile.

use lucarne_control::agent::{CloneOf, DesktopDesired, SnapshotDesired, SnapshotState, SnapshotWish};
use lucarne_control::desktop::{DesiredState, Identity, Phase};
use lucarne_control::{DesktopId, SnapshotId};
use lucarne_tests::agent::Agent;
use lucarne_tests::guest::Guest;
use lucarne_tests::poll::until;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(180);

/// Who a guest takes itself for: its name, machine id, card, SSH host key, and what it has made of `vmgenid`.
const WHO: &str = "cat /proc/sys/kernel/hostname /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub; cat /sys/class/net/e*/address";

/// What is open: a program by its number, and what it holds in memory, of a boot.
const OPEN: &str =
    "kill -0 $(cat /dev/shm/pid) && cat /proc/sys/kernel/random/boot_id /dev/shm/pid /dev/shm/held";

fn desired(agent: &Agent, n: u8, desktop: DesktopId, wish: u64, state: DesiredState) -> DesktopDesired {
    let identity = Identity {
        hostname: format!("clone-{n}"),
        machine_id: format!("00112233445566778899aabbccddee{n:02}"),
        mac: format!("52:54:00:ab:ce:{n:02}"),
    };
    agent.desktop(desktop, identity, wish, state)
}

fn take(agent: &Agent, desktop: DesktopId, memory: bool) -> SnapshotId {
    let snapshot = SnapshotId::generate();
    let wish = SnapshotWish::Take { memory, until: i64::MAX };
    agent.desire_snapshots(&[SnapshotDesired { desktop, snapshot, wish }]);
    snapshot
}

fn is_itself(guest: &Guest, desired: &DesktopDesired) -> String {
    let who = guest.wait(WHO);
    let Identity { hostname, machine_id, mac } = &desired.identity;
    for own in [hostname, machine_id, mac] {
        assert!(who.contains(own.as_str()), "{own} is not in {who}");
    }
    who
}

#[test]
fn a_clone_goes_on_with_what_was_open_and_is_a_machine_of_its_own() {
    use DesiredState::{Off, Running};
    let agent = Agent::start();
    let (first, second, third) = (DesktopId::generate(), DesktopId::generate(), DesktopId::generate());
    let source = desired(&agent, 1, first, 1, Running);
    agent.desire(std::slice::from_ref(&source));
    agent.wait(first, Phase::Ready, 1, LIMIT);
    let guest = agent.guest(first);
    guest
        .must("head -c 20000000 /dev/urandom > /dev/shm/random && sha256sum /dev/shm/random > /dev/shm/held");
    guest.tell("sleep 100000 & echo $! > /dev/shm/pid");
    let open = guest.wait(OPEN);
    let who = is_itself(&guest, &source);
    guest.must("echo shared > /home/user/note && sync");

    // Of one that is just being taken, and of what runs on meanwhile.
    let snapshot = take(&agent, first, true);
    let clone = DesktopDesired {
        origin: Some(CloneOf { desktop: first, snapshot }),
        ..desired(&agent, 2, second, 1, Running)
    };
    agent.desire(&[source.clone(), clone.clone()]);
    agent.wait(second, Phase::Ready, 1, LIMIT);
    let copy = agent.guest(second);
    assert_eq!(copy.wait(OPEN), open, "what was open is");
    copy.wait("sha256sum --check --status /dev/shm/held");
    let cloned = is_itself(&copy, &clone);
    assert!(cloned.lines().all(|line| !who.contains(line)), "nothing of the other's: {cloned}\n{who}");
    assert_eq!(guest.wait(WHO), who, "which is as it was");
    assert_eq!(guest.wait(OPEN), open);
    let left = std::fs::read_dir(agent.dir(first).join("export")).into_iter().flatten().count();
    assert_eq!(left, 0, "nothing of what it was copied from is left");

    // Neither sees what the other does.
    guest.must("echo first > /home/user/note && sync");
    copy.must("echo second > /home/user/note && sync");
    assert_eq!(
        (guest.wait("cat /home/user/note"), copy.wait("cat /home/user/note")),
        ("first".into(), "second".into())
    );

    // A clone of what is on the disk alone, of a desktop that is off; it boots.
    let snapshot = take(&agent, second, false);
    agent.wait_snapshot(snapshot, SnapshotState::Ready, LIMIT);
    let off = DesktopDesired { fresh: false, ..desired(&agent, 2, second, 2, Off) };
    agent.desire(&[source.clone(), off.clone()]);
    agent.wait(second, Phase::Off, 2, LIMIT);
    let booted = DesktopDesired {
        origin: Some(CloneOf { desktop: second, snapshot }),
        ..desired(&agent, 3, third, 1, Running)
    };
    agent.desire(&[source.clone(), off.clone(), booted.clone()]);
    agent.wait(third, Phase::Ready, 1, LIMIT);
    let copy = agent.guest(third);
    let own = is_itself(&copy, &booted);
    assert!(own.lines().all(|line| !cloned.contains(line)), "{own}\n{cloned}");
    assert_eq!(copy.wait("cat /home/user/note"), "second");
    // They are desktops as any: those that they are made of may go, they are powered off and on, and have snapshots.
    let gone =
        |n, id, wish| DesktopDesired { fresh: false, ..desired(&agent, n, id, wish, DesiredState::Absent) };
    agent.desire(&[gone(1, first, 2), gone(2, second, 3), booted.clone()]);
    agent.wait(second, Phase::Stopped, 3, LIMIT);
    let again = |wish, state| DesktopDesired { fresh: false, ..desired(&agent, 3, third, wish, state) };
    agent.desire(&[again(2, Off)]);
    agent.wait(third, Phase::Off, 2, LIMIT);
    agent.desire(&[again(3, Running)]);
    agent.wait(third, Phase::Ready, 3, LIMIT);
    assert_eq!(copy.wait(WHO), own, "and stay who they are");
    let snapshot = take(&agent, third, true);
    agent.wait_snapshot(snapshot, SnapshotState::Ready, LIMIT);
    copy.must("echo fourth > /home/user/note && sync");
    agent.desire(&[DesktopDesired { back_to: Some(snapshot), ..again(4, Running) }]);
    agent.wait(third, Phase::Ready, 4, LIMIT);
    assert_eq!(copy.wait("cat /home/user/note"), "second");
}

#[test]
fn whoever_is_killed_over_a_clone_it_is_whole_or_is_not_there() {
    use DesiredState::{Absent, Running};
    let mut agent = Agent::start();
    let (first, second) = (DesktopId::generate(), DesktopId::generate());
    let source = desired(&agent, 1, first, 1, Running);
    agent.desire(std::slice::from_ref(&source));
    agent.wait(first, Phase::Ready, 1, LIMIT);
    let guest = agent.guest(first);
    guest.must("head -c 150000000 /dev/urandom > /home/user/much && sync && sha256sum /home/user/much > /home/user/sum");
    let snapshot = take(&agent, first, false);
    agent.wait_snapshot(snapshot, SnapshotState::Ready, LIMIT);

    // The agent, while it copies: the next one begins anew, and nothing is started before it is done.
    let origin = Some(CloneOf { desktop: first, snapshot });
    let clone = DesktopDesired { origin, ..desired(&agent, 2, second, 1, Running) };
    agent.desire_snapshots(&[]);
    agent.desire(&[source.clone(), clone.clone()]);
    until("it is being copied", LIMIT, || {
        let names = std::fs::read_dir(agent.dir(second)).into_iter().flatten().flatten();
        names.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("copy-")).then_some(())
    });
    agent.restart();
    agent.wait(second, Phase::Ready, 1, LIMIT);
    agent.guest(second).wait("sha256sum --check --status /home/user/sum");

    // What it is made of goes while it is made: it says so, and leaves nothing.
    let third = DesktopId::generate();
    let clone = DesktopDesired { origin, ..desired(&agent, 3, third, 1, Running) };
    let kept = DesktopDesired { fresh: false, ..desired(&agent, 2, second, 1, Running) };
    agent.desire(&[source.clone(), kept.clone(), clone.clone()]);
    until("it is begun", LIMIT, || agent.dir(third).exists().then_some(()));
    let gone = DesktopDesired { fresh: false, ..desired(&agent, 1, first, 2, Absent) };
    agent.desire(&[gone, kept.clone(), clone.clone()]);
    let failed = agent.wait(third, Phase::Failed, 1, LIMIT);
    assert!(failed.detail.contains("cloned from"), "{}", failed.detail);
    agent.wait(first, Phase::Stopped, 2, LIMIT);
    let never = DesktopDesired { fresh: false, ..desired(&agent, 3, third, 2, Absent) };
    agent.desire(&[kept.clone(), never]);
    agent.wait(third, Phase::Stopped, 2, LIMIT);
    assert!(!agent.dir(third).exists());

    // One that is not there.
    let fourth = DesktopId::generate();
    let origin = Some(CloneOf { desktop: second, snapshot: SnapshotId::generate() });
    let clone = DesktopDesired { origin, ..desired(&agent, 4, fourth, 1, Running) };
    agent.desire(&[kept.clone(), clone]);
    let failed = agent.wait(fourth, Phase::Failed, 1, LIMIT);
    assert!(failed.detail.contains("does not have the snapshot"), "{}", failed.detail);

    // What a desktop's own folder says of it counts for nothing: it is its user's, and so is whatever breaks out of the guest.
    let off = DesktopDesired { wish: 2, state: DesiredState::Off, ..kept.clone() };
    agent.desire(std::slice::from_ref(&off));
    agent.wait(second, Phase::Off, 2, LIMIT);
    let mine = take(&agent, second, false);
    agent.wait_snapshot(mine, SnapshotState::Ready, LIMIT);
    let cloned = || agent.log().matches("a desktop is cloned").count();
    assert_eq!(cloned(), 1);
    let (path, done) = (agent.dir(second).join("desktop.json"), agent.dir(second).join("done.json"));
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["origin"] = serde_json::json!({ "desktop": second, "snapshot": mine });
    std::fs::write(&path, config.to_string()).unwrap();
    std::fs::remove_file(&done).unwrap();
    agent.restart();
    agent.desire(&[DesktopDesired { wish: 3, ..kept }]);
    let failed = agent.wait(second, Phase::Failed, 3, LIMIT);
    assert!(failed.detail.contains("not copied"), "{}", failed.detail);
    let cloned = agent.log().matches("a desktop is cloned").count();
    assert_eq!(cloned, 1, "nothing is copied into it again");
}
