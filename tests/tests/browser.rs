//! People with a browser: real Chromium, real guests.

#![allow(clippy::unwrap_used)]

use lucarne_tests::browser::Browser;
use lucarne_tests::poll::{LIMIT, until};
use lucarne_tests::server::{POOL, Server, password_of};
use lucarne_tests::viewer::Vnc;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The live desktop of a user.
fn desktop(server: &Server, user: &str) -> Value {
    until(&format!("{user} has a desktop"), LIMIT, || {
        let page = server.admin().get("/api/v1/desktops");
        let mut mine = page["items"].as_array().unwrap().iter().filter(|d| d["user"] == user).cloned();
        mine.next()
    })
}

#[test]
fn people_get_desktops_of_their_own_and_a_fresh_one_after_logging_off() {
    let server = Server::start();
    let (_anna, _bert) = (server.user("anna"), server.user("bert"));
    let profiles = tempfile::tempdir().unwrap();

    let mut anna = Browser::start(&profiles.path().join("anna"));
    anna.sign_in(&server, "anna");
    anna.connect();
    let first = desktop(&server, "anna");
    assert_eq!(first["pool"], POOL);
    let guest = lucarne_tests::guest::Guest::of(&server.desktop_dir(first["id"].as_str().unwrap()));
    let bare = anna.pixels();
    anna.press("Control+Alt+t");
    guest.wait_terminal();
    until("the terminal is in the picture", LIMIT, || (anna.pixels() != bare).then_some(()));
    let before = anna.pixels();
    anna.type_text("echo hello > /home/user/typed\n");
    assert_eq!(guest.wait_file("/home/user/typed"), "hello");
    until("what was typed is in the picture", LIMIT, || (anna.pixels() != before).then_some(()));
    let mut beside = Vnc::beside(&server, &json!({ "desktop": first }), true).unwrap();
    until("the picture is exactly the guest's", LIMIT, || anna.shows(beside.newest().unwrap()).then_some(()));
    drop(beside);

    let mut bert = Browser::start(&profiles.path().join("bert"));
    bert.sign_in(&server, "bert");
    bert.connect();
    let other = desktop(&server, "bert");
    assert_ne!(first["id"], other["id"], "two users share a desktop");
    bert.close();

    anna.log_off();
    let folder = server.desktop_dir(first["id"].as_str().unwrap());
    until("the desktop that was logged off is gone", LIMIT, || (!folder.exists()).then_some(()));
    anna.connect();
    let fresh = desktop(&server, "anna");
    assert_ne!(first["id"], fresh["id"], "the desktop was used again");
    let guest = lucarne_tests::guest::Guest::of(&server.desktop_dir(fresh["id"].as_str().unwrap()));
    assert_eq!(guest.must("ls -d /home/user /home/user/typed 2>/dev/null || true"), "/home/user");
    anna.close();
    server.stop();
}

/// Files below `folder` that hold `text`, as ASCII or as UTF-16.
fn holding(folder: &Path, text: &str) -> Vec<PathBuf> {
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let has = |bytes: &[u8], needle: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(holding(&path, text));
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            if has(&bytes, text.as_bytes()) || has(&bytes, &wide) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn what_is_typed_and_shown_leaves_nothing_in_the_browsers_profile() {
    let canary = "canary7f3ad5519bde";
    let server = Server::start();
    let user = server.user("anna");
    let profiles = tempfile::tempdir().unwrap();
    let profile = profiles.path().join("anna");
    let mut browser = Browser::start(&profile);
    browser.sign_in(&server, "anna");
    browser.connect();
    let desktop = desktop(&server, "anna");
    let guest = lucarne_tests::guest::Guest::of(&server.desktop_dir(desktop["id"].as_str().unwrap()));
    browser.press("Control+Alt+t");
    guest.wait_terminal();
    browser.type_text(&format!("echo {canary} | tee /home/user/canary\n"));
    assert_eq!(guest.wait_file("/home/user/canary"), canary);
    browser.close();

    // The search itself works, in both encodings.
    let planted = [profile.join("planted"), profile.join("planted-wide")];
    fs::write(&planted[0], format!("before {canary} after")).unwrap();
    fs::write(&planted[1], canary.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    let mut found = holding(&profile, canary);
    found.sort();
    assert_eq!(found, planted);
    planted.iter().for_each(|file| fs::remove_file(file).unwrap());
    assert_eq!(holding(&profile, canary), Vec::<PathBuf>::new());
    assert_eq!(holding(&profile, &password_of("anna")), Vec::<PathBuf>::new());
    drop(user);
    server.stop();
}
