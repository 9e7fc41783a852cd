//! A recorded session of a real guest: what its viewer saw is found again at its time when the desktop is long gone.

#![allow(clippy::unwrap_used)]

use lucarne_recording::Recording;
use lucarne_rfb::client::Framebuffer;
use lucarne_tests::poll::{LIMIT, until};
use lucarne_tests::server::{POOL, Server, lucarne, names};
use lucarne_tests::viewer::{Vnc, keys};
use serde_json::{Value, json};
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

const RECORDED: &str = "recorded";

/// A pool like the first, whose sessions are recorded.
fn make_pool(server: &Server) {
    let first = server.admin().get(&format!("/api/v1/pools/{POOL}"));
    let pool = json!({ "name": RECORDED, "image": first["image"], "machine": first["machine"],
        "entitled_groups": ["everyone"], "recording": { "mode": "required", "days": 7, "mib": 1000 } });
    let made = server.admin().send("POST", "/api/v1/pools", Some(&pool)).json(201);
    assert_eq!(made["recording"]["mode"], "required");
}

fn the_file(server: &Server) -> PathBuf {
    let folder = server.data.join("host/recordings");
    let found = names(&folder);
    assert_eq!(found.len(), 1, "{found:?}");
    folder.join(&found[0])
}

fn last(file: &PathBuf) -> Option<(Duration, Framebuffer)> {
    let mut recording = Recording::open(File::open(file).unwrap()).ok()?;
    let frame = recording.frame(Duration::MAX).ok()?;
    Some((frame.at, frame.screen))
}

fn printed(words: &[&str]) -> String {
    let output = lucarne(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn checked(file: &str) -> Value {
    serde_json::from_str(&printed(&["recording", "check", file, "--output", "json"])).unwrap()
}

#[test]
fn what_a_viewer_saw_is_found_again_after_the_desktop_is_gone() {
    let server = Server::start();
    make_pool(&server);
    let anna = server.user("anna");
    let connection = server.connect_to(&anna, RECORDED);
    assert_eq!(connection["session"]["recorded"], true);
    let guest = server.guest(&connection);
    let mut viewer = Vnc::connect(&server, "anna").unwrap();
    let file = the_file(&server);
    viewer.press(&[keys::CONTROL, keys::ALT, u32::from('t')]).unwrap();
    guest.wait_terminal();
    viewer.type_text("echo seen > seen; clear; echo What was typed is seen\n").unwrap();
    guest.wait_file("/home/user/seen");
    // What blinks and ticks may come between the two looks; then there are others.
    let mut found = None;
    let same = |picture: &Framebuffer, _| {
        found = last(&file).filter(|(_, screen)| screen.pixels() == picture.pixels());
        found.is_some()
    };
    viewer.pump("viewer and recording show the same", same).unwrap();
    let (at, seen) = found.unwrap();
    viewer.type_text("clear; echo And then something else\n").unwrap();
    let other = |picture: &Framebuffer, _| {
        let goes_on = last(&file).filter(|(later, _)| *later > at);
        goes_on
            .is_some_and(|(_, screen)| screen.pixels() != seen.pixels() && picture.pixels() != seen.pixels())
    };
    viewer.pump("the recording goes on", other).unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(checked(path)["ended"], false);
    drop(viewer);
    let session = connection["session"]["id"].as_str().unwrap();
    let gone = anna.send("DELETE", &format!("/api/v1/sessions/{session}?wait=true"), None);
    assert_eq!(gone.status, 204);

    let found = checked(path);
    assert_eq!(
        (&found["ended"], &found["cut_off_bytes"], &found["session"]),
        (&json!(true), &json!(0), &json!(session))
    );
    let mut recording = Recording::open(File::open(&file).unwrap()).unwrap();
    assert!(recording.frame(at).unwrap().screen.pixels() == seen.pixels(), "the screen at {at:?} is another");
    let png = server.data.join("frame.png");
    let seconds = format!("{:.3}", at.as_secs_f64() + 0.001);
    printed(&["recording", "frame", path, png.to_str().unwrap(), "--at", &seconds]);
    assert!(std::fs::read(&png).unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
    let list = printed(&["recording", "list"]);
    assert!(list.contains(session) && list.contains("yes"), "{list}");
    eprintln!("{list}\n{found:#}");
    server.stop();
}

#[test]
fn a_killed_desktop_process_leaves_its_recording_readable_and_the_next_goes_on_in_a_file_of_its_own() {
    let server = Server::start();
    make_pool(&server);
    let anna = server.user("anna");
    let connection = server.connect_to(&anna, RECORDED);
    let guest = server.guest(&connection);
    let mut viewer = Vnc::connect(&server, "anna").unwrap();
    let file = the_file(&server);
    let desktop = connection["desktop"]["id"].as_str().unwrap();
    server.process(&["lucarne", "--display-fd", desktop]).kill();
    until("the viewer's stream ends", LIMIT, || viewer.follow().is_err().then_some(()));
    let left = checked(file.to_str().unwrap());
    assert_eq!(left["ended"], false);
    let mut viewer = until("the viewer is let in again", LIMIT, || Vnc::connect(&server, "anna").ok());
    guest.must("true");
    let next = until("there is a second file with a screen", LIMIT, || {
        viewer.follow().unwrap();
        let folder = server.data.join("host/recordings");
        names(&folder)
            .into_iter()
            .map(|name| folder.join(name))
            .find(|path| *path != file && last(path).is_some())
    });
    assert!(next.to_str().unwrap().ends_with(".1.lrec"), "{next:?}");
    drop(viewer);
    server.stop();
    assert_eq!(checked(next.to_str().unwrap())["ended"], true, "log-off and the server's end end it");
}
