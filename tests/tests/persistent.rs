//! A desktop that outlives its guest: powered off and on again, by others and from within.

#![allow(clippy::unwrap_used)]

use lucarne_control::DesktopId;
use lucarne_control::agent::DesktopDesired;
use lucarne_control::desktop::{DesiredState, Identity, Phase};
use lucarne_tests::agent::Agent;
use lucarne_tests::guest::Guest;
use lucarne_tests::poll::{LIMIT, until};
use std::time::Duration;

/// How long a boot may take: half a minute on an idle machine without an accelerator.
const BOOT: Duration = Duration::from_secs(600);

/// How long a guest may take to power off, with what follows.
const POWER_OFF: Duration = Duration::from_secs(180);

const NAME: &str = "kept-1";
const MACHINE_ID: &str = "00112233445566778899aabbccddeeff";
const MAC: &str = "52:54:00:ab:cd:01";

/// One that is wanted in this way, for the `wish`th time.
fn desired(agent: &Agent, desktop: DesktopId, wish: u64, state: DesiredState) -> DesktopDesired {
    let identity = Identity { hostname: NAME.into(), machine_id: MACHINE_ID.into(), mac: MAC.into() };
    agent.desktop(desktop, identity, wish, state)
}

/// What makes a guest the machine that it is.
fn machine(guest: &Guest) -> [String; 5] {
    [
        "hostname",
        "cat /etc/hostname",
        "cat /etc/machine-id",
        "cat /sys/class/net/e*/address",
        "cat /etc/ssh/ssh_host_ed25519_key.pub",
    ]
    .map(|script| guest.wait(script))
}

fn boot_id(guest: &Guest) -> String {
    guest.wait("cat /proc/sys/kernel/random/boot_id")
}

#[test]
fn a_file_and_the_identity_are_there_again_when_a_desktop_was_off() {
    use DesiredState::{Absent, Off, Running};
    let mut agent = Agent::start();
    let id = DesktopId::generate();
    agent.desire(&[desired(&agent, id, 1, Running)]);
    agent.wait(id, Phase::Ready, 1, LIMIT);
    let guest = agent.guest(id);
    let (before, first_boot) = (machine(&guest), boot_id(&guest));
    assert_eq!(before[..4], [NAME, NAME, MACHINE_ID, MAC]);
    guest.must("echo mine > /home/user/kept");

    agent.desire(&[desired(&agent, id, 2, Off)]);
    let off = agent.wait(id, Phase::Off, 2, POWER_OFF);
    assert_eq!((off.detail.as_str(), &off.endpoint), ("it was powered off", &None));
    assert_eq!(agent.processes(id), [], "what is off takes neither processes nor memory");
    assert!(agent.dir(id).join("disk.qcow2").exists());

    // What is off stays off when its agent is started again, and when an earlier wish comes.
    agent.restart();
    agent.desire(&[desired(&agent, id, 1, Running)]);
    agent.wait(id, Phase::Off, 2, LIMIT);
    assert_eq!(agent.processes(id), []);

    agent.desire(&[desired(&agent, id, 3, Running)]);
    let seen = agent.wait(id, Phase::Starting, 3, LIMIT);
    until("its boot can be watched", LIMIT, || agent.seen(id).filter(|seen| seen.endpoint.is_some()));
    let ready = agent.wait(id, Phase::Ready, 3, BOOT);
    eprintln!("booted from its disk: {:?} after {:?}", ready.timings, seen.timings);
    assert_eq!(guest.must("cat /home/user/kept"), "mine");
    assert_eq!(machine(&guest), before);
    assert_ne!(boot_id(&guest), first_boot);
    assert_eq!(guest.wait("cat /sys/class/net/e*/carrier"), "1");

    // Off by its user, it stays off until that is wanted otherwise.
    guest.tell("systemctl poweroff");
    let off = agent.wait(id, Phase::Off, 3, POWER_OFF);
    assert_eq!(off.detail, "it was powered off from within");
    agent.desire(&[desired(&agent, id, 3, Running)]);
    agent.restart();
    let off = agent.wait(id, Phase::Off, 3, LIMIT);
    assert_eq!(off.detail, "it was powered off from within");
    assert_eq!(agent.processes(id), []);

    // So it does when its hypervisor dies.
    agent.desire(&[desired(&agent, id, 4, Running)]);
    agent.wait(id, Phase::Starting, 4, LIMIT);
    let qemu = until("QEMU runs", LIMIT, || {
        agent.processes(id).into_iter().find(|p| p.command.contains("qemu-system"))
    });
    qemu.kill();
    let off = agent.wait(id, Phase::Off, 4, LIMIT);
    assert!(off.detail.starts_with("QEMU ended"), "{}", off.detail);

    agent.desire(&[desired(&agent, id, 5, Absent)]);
    agent.wait(id, Phase::Stopped, 5, LIMIT);
    assert!(!agent.dir(id).exists());
}

#[test]
fn a_desktop_that_restarts_from_within_is_the_same_machine_and_was_never_off() {
    let agent = Agent::start();
    let id = DesktopId::generate();
    agent.desire(&[desired(&agent, id, 1, DesiredState::Running)]);
    agent.wait(id, Phase::Ready, 1, LIMIT);
    let guest = agent.guest(id);
    let (before, first_boot, processes) = (machine(&guest), boot_id(&guest), agent.processes(id));
    assert_eq!(processes.len(), 2, "{processes:?}");
    guest.tell("systemctl reboot");
    until("the guest has started again", BOOT, || {
        guest.try_shell("cat /proc/sys/kernel/random/boot_id").filter(|now| *now != first_boot)
    });
    assert_eq!(agent.processes(id), processes);
    assert_eq!(agent.seen(id).unwrap().phase, Phase::Ready);
    assert_eq!(machine(&guest), before);
}

#[test]
fn a_guest_whose_agent_does_not_answer_powers_off_by_its_button() {
    let agent = Agent::start();
    let id = DesktopId::generate();
    agent.desire(&[desired(&agent, id, 1, DesiredState::Running)]);
    agent.wait(id, Phase::Ready, 1, LIMIT);
    agent.guest(id).tell("systemctl stop qemu-guest-agent");
    agent.desire(&[desired(&agent, id, 2, DesiredState::Off)]);
    assert_eq!(agent.wait(id, Phase::Off, 2, POWER_OFF).detail, "it was powered off");
}

/// What is in a guest's memory alone: a program that counts, and a file.
fn memory(guest: &Guest) -> (String, u64) {
    let kept = guest.wait(
        "kill -0 $(cat /dev/shm/pid) && cat /proc/sys/kernel/random/boot_id /dev/shm/pid /dev/shm/kept",
    );
    (kept, guest.wait("wc -l < /dev/shm/count").parse().unwrap())
}

#[test]
fn a_desktop_that_was_suspended_goes_on_where_it_was() {
    use DesiredState::{Absent, Off, Running, Suspended};
    let mut agent = Agent::start();
    let id = DesktopId::generate();
    agent.desire(&[desired(&agent, id, 1, Running)]);
    agent.wait(id, Phase::Ready, 1, LIMIT);
    let guest = agent.guest(id);
    guest
        .must("head -c 20000000 /dev/urandom > /dev/shm/random && sha256sum /dev/shm/random > /dev/shm/kept");
    guest.tell("sleep 100000 & echo $! > /dev/shm/pid; while :; do echo >> /dev/shm/count; sleep 0.2; done");
    let (before, _) = memory(&guest);

    // Forked and suspended, and once more after it was resumed; the agent is started again in between.
    let mut counted = 0;
    for wish in [2, 4] {
        let now = memory(&guest);
        assert_eq!(now.0, before);
        agent.desire(&[desired(&agent, id, wish, Suspended)]);
        let seen = agent.wait(id, Phase::Suspended, wish, LIMIT);
        assert_eq!(seen.endpoint, None);
        assert_eq!(agent.processes(id), [], "what is suspended takes neither processes nor memory");
        let kept = agent.dir(id).join("suspended").metadata().unwrap().len();
        eprintln!("suspended to {} MiB", kept >> 20);
        assert!(kept < 300 << 20, "only what has changed since its template: {kept}");
        agent.restart();
        agent.desire(&[desired(&agent, id, wish - 1, Running)]);
        agent.wait(id, Phase::Suspended, wish, LIMIT);
        assert_eq!(agent.processes(id), [], "an earlier wish does not resume it");
        agent.desire(&[desired(&agent, id, wish + 1, Running)]);
        agent.wait(id, Phase::Ready, wish + 1, LIMIT);
        let (kept, count) = memory(&guest);
        assert_eq!(kept, before);
        assert!(count >= now.1 && count > counted, "{count} after {now:?}");
        counted = count;
        assert!(!agent.dir(id).join("suspended").exists(), "it is resumed once");
        guest.wait("sha256sum --check --status /dev/shm/kept");
        let behind = guest.wait("date +%s").parse::<i64>().unwrap();
        let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!((here as i64 - behind).abs() <= 2, "its clock says {behind}, and it is {here}");
        assert_eq!(guest.wait("cat /sys/class/net/e*/carrier"), "1");
    }

    // Killed in the middle of it, the desktop process leaves a guest that goes on, and is suspended by the next.
    agent.desire(&[desired(&agent, id, 6, Suspended)]);
    until("its desktop process is at it", LIMIT, || {
        agent.dir(id).join("suspended.next").exists().then_some(())
    });
    let process = agent.processes(id).into_iter().find(|p| !p.command.contains("qemu-system"));
    if let Some(process) = process {
        process.kill();
    }
    agent.wait(id, Phase::Suspended, 6, LIMIT);
    agent.desire(&[desired(&agent, id, 7, Running)]);
    agent.wait(id, Phase::Ready, 7, LIMIT);
    assert_eq!(memory(&guest).0, before);

    // Powered off, it boots from its disk.
    guest.must("echo mine > /home/user/kept && sync");
    agent.desire(&[desired(&agent, id, 8, Off)]);
    agent.wait(id, Phase::Off, 8, POWER_OFF);
    agent.desire(&[desired(&agent, id, 9, Running)]);
    agent.wait(id, Phase::Ready, 9, BOOT);

    // One that booted is suspended as well, and one that is suspended powers off as its user would.
    guest.must("echo open > /dev/shm/kept");
    agent.desire(&[desired(&agent, id, 10, Suspended)]);
    agent.wait(id, Phase::Suspended, 10, LIMIT);
    agent.desire(&[desired(&agent, id, 11, Running)]);
    agent.wait(id, Phase::Ready, 11, LIMIT);
    assert_eq!(guest.wait("cat /dev/shm/kept /home/user/kept"), "open\nmine");
    agent.desire(&[desired(&agent, id, 12, Suspended)]);
    agent.wait(id, Phase::Suspended, 12, LIMIT);
    agent.desire(&[desired(&agent, id, 13, Off)]);
    assert_eq!(agent.wait(id, Phase::Off, 13, POWER_OFF).detail, "it was powered off");
    assert!(!agent.dir(id).join("suspended").exists());
    agent.desire(&[desired(&agent, id, 14, Absent)]);
    agent.wait(id, Phase::Stopped, 14, LIMIT);
}
