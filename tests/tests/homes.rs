//! Home disks: what a user of floating desktops saves in their home directory is there in their next desktop, and nowhere else.
//! Real guests, the real web client.

#![allow(clippy::unwrap_used)]

use lucarne_tests::browser::Browser;
use lucarne_tests::http::Client;
use lucarne_tests::poll::{LIMIT, until};
use lucarne_tests::process::signal;
use lucarne_tests::server::{POOL, Server};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A pool like the first whose users have home disks.
fn pool(server: &Server) {
    let admin = server.admin();
    let like = admin.get(&format!("/api/v1/pools/{POOL}"));
    let body = json!({ "name": "homes", "image": like["image"], "machine": like["machine"],
        "home": { "size_gib": 2 }, "entitled_groups": ["everyone"] });
    let _ = admin.send("POST", "/api/v1/pools", Some(&body)).json(201);
    // The only card of the portal.
    let _ = admin.send("DELETE", &format!("/api/v1/pools/{POOL}/groups/everyone"), None);
}

fn disks(server: &Server) -> Vec<Value> {
    server.admin().get("/api/v1/disks")["items"].as_array().unwrap().clone()
}

fn log_off(user: &Client, connection: &Value) {
    let path = format!("/api/v1/sessions/{}", connection["session"]["id"].as_str().unwrap());
    assert_eq!(user.send("DELETE", &path, None).status, 204);
}

#[test]
fn what_is_saved_at_home_is_there_in_the_next_desktop_and_in_no_one_elses() {
    let server = Server::start();
    pool(&server);
    let anna = server.user("anna");
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Browser::start(profile.path());
    browser.sign_in(&server, "anna");
    browser.connect();
    let first = server.connect_to(&anna, "homes");
    let guest = server.guest(&first);
    browser.screenshot("home-disk");
    assert_eq!(guest.must("findmnt -n -o TARGET,FSTYPE /home/user | tr -s ' '"), "/home/user ext4");
    let home = guest.must("stat -c %d /home/user");
    // What runs in the session has its files there, and not in the folder that the disk is mounted on.
    assert_eq!(guest.wait("stat -L -c %d /proc/$(pgrep -u user -x openbox)/cwd"), home);
    assert_eq!(guest.must("stat -c %U /home/user"), "user");
    assert!(!guest.must("ls -A /home/user/Desktop").is_empty(), "it begins as the image has it");
    let id = guest.must("cat /etc/machine-id");
    // Nothing says that it is to reach the disk.
    guest.must("echo precious > /home/user/kept; chown user: /home/user/kept");
    let listed = disks(&server);
    assert_eq!(listed.len(), 1, "{listed:?}");
    let disk = format!("/api/v1/disks/{}", listed[0]["id"].as_str().unwrap());
    assert_eq!(listed[0]["desktop"], first["desktop"]["name"], "{listed:?}");
    assert_eq!((&listed[0]["state"], &listed[0]["user"]), (&json!("present"), &json!("anna")));
    let refused = server.admin().send("DELETE", &disk, None);
    assert_eq!((refused.status, refused.code().as_str()), (409, "disk_in_use"), "{}", refused.body);
    browser.log_off();

    // At once: the first desktop has not ended yet.
    let second = server.connect_to(&anna, "homes");
    assert_ne!(second["desktop"]["id"], first["desktop"]["id"]);
    let guest = server.guest(&second);
    assert_eq!(guest.must("cat /home/user/kept"), "precious");
    assert_ne!(guest.must("cat /etc/machine-id"), id, "all else is fresh");
    guest.must("echo more >> /home/user/kept; sync");

    // Another has another.
    let bert = server.user("bert");
    let other = server.connect_to(&bert, "homes");
    assert_eq!(server.guest(&other).must("ls /home/user/kept 2>/dev/null || echo none"), "none");

    // Its virtual machine dies, and so does the host's agent.
    let name = second["desktop"]["id"].as_str().unwrap();
    assert!(signal(server.process(&["qemu-system", name]).pid, Signal::KILL));
    assert!(signal(server.process(&["host", "run"]).pid, Signal::KILL));
    let third = until("a third desktop", LIMIT, || {
        let answer = anna.send("POST", "/api/v1/sessions", Some(&json!({ "pool": "homes" })));
        let found = (answer.status == 201).then(|| answer.json(201))?;
        (found["desktop"]["id"] != second["desktop"]["id"]).then_some(found)
    });
    let guest = server.guest(&third);
    assert_eq!(guest.must("cat /home/user/kept"), "precious\nmore");

    // Only somebody's will destroys it.
    log_off(&anna, &third);
    until("the desktop has done with it", LIMIT, || (disks(&server)[0]["desktop"].is_null()).then_some(()));
    let answer = server.admin().send("DELETE", &disk, None);
    assert_eq!(answer.status, 204, "{}", answer.body);
    until("it is gone", LIMIT, || (disks(&server).len() == 1).then_some(()));
    assert_eq!(disks(&server)[0]["user"], "bert");
    let fourth = server.connect_to(&anna, "homes");
    assert_eq!(server.guest(&fourth).must("ls /home/user/kept 2>/dev/null || echo none"), "none");
    let homes = server.data.join("host/homes");
    browser.close();
    server.stop();
    assert_eq!(lucarne_tests::server::names(&homes).len(), 2, "the end of everything ends no disk");
}

#[test]
fn a_guest_that_starts_again_has_its_home_again() {
    let server = Server::start();
    pool(&server);
    let anna = server.user("anna");
    let connection = server.connect_to(&anna, "homes");
    let guest = server.guest(&connection);
    guest.must("echo precious > /home/user/kept; sync");
    let boot = guest.must("cat /proc/sys/kernel/random/boot_id");
    guest.tell("systemctl reboot");
    until("it has started again", LIMIT, || {
        guest.try_shell("cat /proc/sys/kernel/random/boot_id").filter(|now| *now != boot)
    });
    assert_eq!(guest.wait("findmnt -n -o TARGET /home/user && cat /home/user/kept"), "/home/user\nprecious");
    server.stop();
}
