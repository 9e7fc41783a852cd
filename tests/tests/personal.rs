//! A desktop of one's own: what is saved on it is there after a log-off, a power-off, and a restart of everything; and a desktop
//! that waits for whoever comes. Real guests, the real web client.

#![allow(clippy::unwrap_used)]

use lucarne_tests::browser::Browser;
use lucarne_tests::http::Client;
use lucarne_tests::poll::{LIMIT, until};
use lucarne_tests::server::{POOL, Server};
use serde_json::{Value, json};

/// A pool like the first, with the same template and these fields besides.
fn pool(admin: &Client, name: &str, fields: Value) {
    let like = admin.get(&format!("/api/v1/pools/{POOL}"));
    let mut body = json!({ "name": name, "image": like["image"], "machine": like["machine"],
        "entitled_groups": ["everyone"] });
    for (field, value) in fields.as_object().unwrap() {
        body[field] = value.clone();
    }
    let _ = admin.send("POST", "/api/v1/pools", Some(&body)).json(201);
}

fn in_phase(server: &Server, id: &str, phase: &str) -> Value {
    until(&format!("the desktop is {phase}"), LIMIT, || {
        let now = server.admin().get(&format!("/api/v1/desktops/{id}"));
        assert_ne!(now["phase"], "failed", "{now}\n{}", server.logs());
        (now["phase"] == phase).then_some(now)
    })
}

fn power(server: &Server, id: &str, state: &str) {
    let path = format!("/api/v1/desktops/{id}/power");
    let answer = server.admin().send("PUT", &path, Some(&json!({ "state": state })));
    assert_eq!(answer.status, 202, "{}", answer.body);
}

#[test]
fn what_is_saved_on_a_personal_desktop_is_there_after_a_log_off_and_a_power_off() {
    let server = Server::start();
    // The only card of the portal.
    let _ = server.admin().send("DELETE", &format!("/api/v1/pools/{POOL}/groups/everyone"), None);
    pool(&server.admin(), "own", json!({ "kind": "personal" }));
    let anna = server.user("anna");
    let connection = server.connect_to(&anna, "own");
    let id = connection["desktop"]["id"].as_str().unwrap().to_owned();
    let guest = server.guest(&connection);
    let before = guest.wait("echo kept > /home/user/kept; sync; cat /etc/machine-id /etc/hostname");
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Browser::start(profile.path());
    browser.sign_in(&server, "anna");
    browser.connect();
    browser.log_off();
    browser.screenshot("personal-logged-off");
    assert_eq!(in_phase(&server, &id, "ready")["user"], "anna", "it is still hers");
    // Suspended, it holds no memory, and goes on where it was.
    let open =
        |guest: &lucarne_tests::guest::Guest| guest.wait("cat /proc/sys/kernel/random/boot_id /dev/shm/open");
    guest.must("head -c 1000000 /dev/urandom | sha256sum > /dev/shm/open");
    let left = open(&guest);
    power(&server, &id, "suspended");
    let now = in_phase(&server, &id, "suspended");
    assert_eq!(now["detail"], "admin (local) suspended it", "why, and not how");
    let processes = || lucarne_tests::process::with(&server.data, &["qemu-system", &id]);
    assert!(processes().is_empty(), "nothing runs that is suspended");
    until("the portal says so", LIMIT, || (browser.words("card-state") == "Suspended").then_some(()));
    browser.screenshot("personal-suspended");
    browser.connect();
    in_phase(&server, &id, "ready");
    browser.screenshot("personal-resumed");
    assert_eq!(open(&server.guest(&server.connect_to(&anna, "own"))), left);
    browser.log_off();
    power(&server, &id, "off");
    in_phase(&server, &id, "off");
    assert!(processes().is_empty(), "nothing runs that is powered off");
    until("the portal says so", LIMIT, || (browser.words("card-state") == "Powered off").then_some(()));
    browser.screenshot("personal-off");
    // The button starts it, and shows how it boots.
    browser.connect();
    browser.screenshot("personal-booting");
    in_phase(&server, &id, "ready");
    let again = server.connect_to(&anna, "own");
    assert_eq!(again["desktop"]["id"], id.as_str());
    let guest = server.guest(&again);
    assert_eq!(guest.wait("cat /home/user/kept"), "kept");
    assert_eq!(guest.wait("cat /etc/machine-id /etc/hostname"), before, "it is the same machine");
    browser.screenshot("personal-again");
    // Somebody chooses to shut down in its menu.
    let _ = guest.shell("(sleep 1; systemctl poweroff) >/dev/null 2>&1 &");
    let off = in_phase(&server, &id, "off");
    assert_eq!(off["detail"], "it was powered off from within", "{off}");
    browser.wait_state("ended");
    browser.screenshot("personal-powered-off");
    browser.close();
    // Another of hers goes only when somebody says so, and this one stays when everything ends.
    pool(&server.admin(), "other", json!({ "kind": "personal" }));
    let other = server.connect_to(&anna, "other")["desktop"]["id"].as_str().unwrap().to_owned();
    in_phase(&server, &other, "ready");
    let answer = server.admin().send("DELETE", &format!("/api/v1/desktops/{other}?wait=true"), None);
    assert_eq!(answer.status, 204, "{}", answer.body);
    assert!(!server.desktop_dir(&other).exists(), "its disk is gone");
    server.stop_keeping(&[&id]);
}

#[test]
fn who_comes_gets_a_desktop_that_waits_ready() {
    let server = Server::start();
    pool(&server.admin(), "office", json!({ "ready": { "min": 1 } }));
    let anna = server.user("anna");
    let ready = until("one waits and is ready", LIMIT, || {
        let all = server.admin().get("/api/v1/desktops");
        let all = all["items"].as_array().unwrap().clone();
        all.into_iter().find(|d| d["pool"] == "office" && d["phase"] == "ready" && d["user"].is_null())
    });
    let connection = server.connect_to(&anna, "office");
    assert_eq!(connection["desktop"]["id"], ready["id"]);
    let guest = server.guest(&connection);
    assert_eq!(guest.wait("hostname"), connection["desktop"]["name"].as_str().unwrap());
    until("another takes its place", LIMIT, || {
        let pool = server.admin().get("/api/v1/pools/office");
        (pool["waiting"] == 1 && pool["desktops"] == 2).then_some(())
    });
    server.stop();
}
