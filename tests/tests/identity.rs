//! Two clones of one template are two machines.

#![allow(clippy::unwrap_used)]

use lucarne_tests::guest::Guest;
use lucarne_tests::server::Server;
use serde_json::json;
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
        let served = guest.wait("ssh-keyscan -t ed25519 127.0.0.1 2>/dev/null | cut -d' ' -f2,3 | grep .");
        assert_eq!(served, guest.must("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub"));
        let off = clock_error(guest);
        assert!(off <= CLOCK, "the guest's clock is {off} s off");
    }
    server.stop();
}

#[test]
fn the_cable_is_in_where_a_pool_has_a_network_and_out_where_it_has_none() {
    let server = Server::start();
    let pool = json!({
        "name": "alone", "image": "debian-desktop", "network": "none", "entitled_groups": ["everyone"],
    });
    let _ = server.admin().send("POST", "/api/v1/pools", Some(&pool)).json(201);
    let user = server.user("anna");
    let (alone, joined) = (server.connect_to(&user, "alone"), server.connect(&user));
    for connection in [&alone, &joined] {
        let address = server.guest(connection).wait("cat /sys/class/net/e*/address");
        assert_eq!(address, connection["desktop"]["mac"].as_str().unwrap());
    }
    // QEMU's user-mode networking gives every guest the first address of its own small network.
    let lease = "ip -4 -o addr show scope global | grep -o 'inet [0-9.]*'";
    assert_eq!(server.guest(&joined).wait(lease), "inet 10.0.2.15");
    let guest = server.guest(&alone);
    assert_eq!(guest.must("cat /sys/class/net/e*/carrier"), "0");
    assert_eq!(guest.must(&format!("{lease} || echo none")), "none");
    server.stop();
}
