//! Two clones of one template are two machines.

#![allow(clippy::unwrap_used)]

use lucarne_tests::guest::Guest;
use lucarne_tests::server::Server;
use std::time::{SystemTime, UNIX_EPOCH};

/// How far a guest's clock may be off, seconds.
const CLOCK: f64 = 2.0;

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// How far the guest's clock is outside of the time in which it was asked, seconds.
fn clock_error(guest: &Guest) -> f64 {
    let before = now();
    let guest = guest.time();
    (before - guest).max(guest - now()).max(0.0)
}

#[test]
fn two_clones_are_two_machines() {
    let server = Server::start();
    let (anna, bert) = (server.user("anna"), server.user("bert"));
    let (first, second) = (server.connect(&anna), server.connect(&bert));
    assert_ne!(first["desktop"]["id"], second["desktop"]["id"]);
    let guests = [server.guest(&first), server.guest(&second)];
    for (what, script) in [
        ("machine-id", "cat /etc/machine-id"),
        ("hostname", "hostname"),
        ("MAC", "cat /sys/class/net/e*/address"),
        ("SSH host key", "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"),
        ("random bytes", "head -c 32 /dev/urandom | od -An -tx1"),
    ] {
        let [a, b] = guests.each_ref().map(|guest| guest.wait(script));
        assert!(!a.is_empty() && !b.is_empty(), "{what}: {a:?} and {b:?}");
        assert_ne!(a, b, "{what} is the same in both");
    }
    for (guest, connection) in guests.iter().zip([&first, &second]) {
        assert_eq!(guest.must("hostname"), connection["desktop"]["name"].as_str().unwrap());
        assert_eq!(
            guest.wait("cat /sys/class/net/e*/address"),
            connection["desktop"]["mac"].as_str().unwrap()
        );
        let off = clock_error(guest);
        assert!(off <= CLOCK, "the guest's clock is {off} s off");
    }
    server.stop();
}
